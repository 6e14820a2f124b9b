/* libmicrohttpd on one side, requests as values on the other. */
#include "webui-api/api.h"

#include <jansson.h>
#include <malloc.h>
#include <microhttpd.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "webui-api/listen.h"
#include "webui-api/routes.h"

#define CONNECTIONS_MAX 128U
#define STOP_MS         5000U
#define IDLE_S          60U
#define HEADERS_BYTES   ((size_t)64 * 1024)
#define HEADERS_MAX     100
/* Of a body that is too large anyway, before the connection is cut. */
#define DISCARD_MAX (4 * HTTP_BODY_MAX)

struct door { /* one listening socket */
    struct api *api;
    struct MHD_Daemon *daemon;
    bool anybody; /* TCP: knows nobody */
};

struct api {
    struct engine *engine;
    struct door local, loopback;
    struct listen_socket socket;
    uid_t uid;
    _Atomic(bool) stopping;
    atomic_uint open; /* requests from their handler to the end of the reply */
};

struct exchange { /* one request under way */
    struct request r;
    struct http_field headers[HEADERS_MAX];
    size_t header_count;
    const char *bad; /* why the gate refuses, static */
    size_t target_len;
    bool begun, too_large, close, served;
    size_t discarded;
    uint64_t began_ms;
    char user[64];
};

/* ---- who asks ---- */

static void name_of(uid_t uid, char *out, size_t bytes)
{
    struct passwd entry, *found = NULL;
    char memory[4096];

    if (getpwuid_r(uid, &entry, memory, sizeof(memory), &found) == 0 && found)
        snprintf(out, bytes, "%s", found->pw_name);
    else
        snprintf(out, bytes, "uid %u", (unsigned)uid);
}

static bool may_ask(const struct door *door, struct MHD_Connection *c, struct exchange *x)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct ucred peer;
    socklen_t len = sizeof(peer);

    snprintf(x->user, sizeof(x->user), "anybody");
    x->r.user = x->user;
    if (door->anybody)
        return true;
    if (!info || getsockopt(info->connect_fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0)
        return false;
    name_of(peer.uid, x->user, sizeof(x->user));
    return peer.uid == door->api->uid || peer.uid == 0;
}

/* ---- the reply ---- */

static void put_header(struct MHD_Response *response, const char *name, const char *value)
{
    if (MHD_add_response_header(response, name, value) != MHD_YES)
        log_warn(NULL, "api.header", LOG_STR("name", name));
}

static void put_allow(struct MHD_Response *response, unsigned allow)
{
    BUF_LOCAL(text);

    for (int m = 0; m < HTTP_METHODS; m++)
        if (allow & BIT(m))
            buf_putf(&text, "%s%s%s", text.len ? ", " : "", http_method_name((enum http_method)m),
                     m == HTTP_GET ? ", HEAD" : "");
    put_header(response, "Allow", buf_str(&text));
}

static enum MHD_Result send_reply(struct MHD_Connection *c, struct exchange *x)
{
    struct request *r = &x->r;
    size_t len = r->reply.body.len;
    char *body = buf_take(&r->reply.body);
    struct MHD_Response *response = MHD_create_response_from_buffer_with_free_callback(len, body, mem_free);

    if (!response) {
        mem_free(body);
        return MHD_NO;
    }
    put_header(response, "Content-Type", r->reply.type);
    put_header(response, "Cache-Control", "no-store");
    put_header(response, "X-Content-Type-Options", "nosniff");
    if (r->reply.allow)
        put_allow(response, r->reply.allow);
    if (r->reply.has_next) {
        char text[24];
        snprintf(text, sizeof(text), "%llu", (unsigned long long)r->reply.next);
        put_header(response, "X-Next", text);
    }
    if (x->close)
        put_header(response, "Connection", "close");
    enum MHD_Result result = MHD_queue_response(c, r->reply.status, response);
    MHD_destroy_response(response);
    return result;
}

/* A line for what changes something; looking is for those who debug. */
static void log_request(const struct exchange *x)
{
    const struct request *r = &x->r;
    BUF_LOCAL(path);

    for (size_t i = 0; i < r->target.segment_count; i++)
        buf_putf(&path, "/%s", r->target.segments[i]);
    const struct log_field fields[] = {LOG_STR("method", http_method_name(r->method)),
                                       LOG_BYTES("path", buf_bytes(&path)), LOG_STR("user", r->user),
                                       LOG_INT("status", r->reply.status),
                                       LOG_INT("ms", clock_now_ms() - x->began_ms)};
    enum log_level level = r->method == HTTP_GET ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO;
    if (log_enabled(level))
        log_write(level, NULL, "api.request", fields, COUNT_OF(fields));
}

/* libmicrohttpd counts the time in a handler as idleness of the client: not while the time-out is off. */
static void serve(const struct door *door, struct MHD_Connection *c, struct exchange *x)
{
    x->served = true;
    atomic_fetch_add(&door->api->open, 1);
    (void)MHD_set_connection_option(c, MHD_CONNECTION_OPTION_TIMEOUT, 0U);
    route_serve(&x->r, door->anybody);
    (void)MHD_set_connection_option(c, MHD_CONNECTION_OPTION_TIMEOUT, IDLE_S);
    if (!x->r.reply.status)
        reply_error(&x->r, 500, "internal", "the request has no answer: this is a fault of ours");
    log_request(x);
}

/* ---- the request, as libmicrohttpd tells of it ---- */

/* Before the headers: the target as it came, since what libmicrohttpd decodes has lost its slashes. */
static void *on_target(void *cls, const char *target, struct MHD_Connection *c)
{
    struct door *door = cls;
    struct exchange *x = MEM_NEW(struct exchange);

    (void)c;
    x->r.engine = door->api->engine;
    x->r.stopping = &door->api->stopping;
    x->began_ms = clock_now_ms();
    x->target_len = strlen(target);
    x->bad = http_target_parse(bytes_of(target), &x->r.arena, &x->r.target);
    return x;
}

static enum MHD_Result on_header(void *cls, enum MHD_ValueKind kind, const char *name, size_t name_len,
                                 const char *value, size_t value_len)
{
    struct exchange *x = cls;

    (void)kind;
    if (x->header_count == HEADERS_MAX) {
        x->bad = "there are too many headers";
        return MHD_NO;
    }
    x->headers[x->header_count++] = (struct http_field){{name, name_len}, {value, value_len}};
    return MHD_YES;
}

static uint64_t announced(const struct exchange *x)
{
    uint64_t octets = 0;

    for (size_t i = 0; i < x->header_count; i++)
        if (bytes_ieq(x->headers[i].name, BYTES("Content-Length")) &&
            !bytes_parse_u64(x->headers[i].value, &octets))
            return 0;
    return octets;
}

static void too_large(struct exchange *x)
{
    x->close = true;
    reply_error(&x->r, 413, "too_large", "a body may have 16 MiB at most");
}

/* libmicrohttpd tells what it understood; this tells whether that is all that was said. */
static bool is_plain(struct MHD_Connection *c, const struct exchange *x, const char *method,
                     const char *version)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(c, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    size_t line = strlen(method) + 1 + x->target_len + 1 + strlen(version);

    return info && info->header_size == http_head_bytes(line, x->headers, x->header_count);
}

/* The headers are there.  True: the body may come; else there is a reply already, after which we close. */
static bool admit(const struct door *door, struct MHD_Connection *c, struct exchange *x, const char *method,
                  const char *version)
{
    x->begun = true;
    (void)MHD_get_connection_values_n(c, MHD_HEADER_KIND, on_header, x);
    if (!x->bad)
        x->bad = http_gate(bytes_of(version), x->headers, x->header_count);
    if (!x->bad && !is_plain(c, x, method, version))
        x->bad =
            "the head of the request is not in the plain form: one blank between words and after each colon, "
            "CRLF after each line, no folded lines, no NUL";
    bool known = http_method_parse(method, &x->r.method);
    bool allowed = may_ask(door, c, x);
    x->close = true;
    if (x->bad)
        reply_error(&x->r, 400, "invalid", "%s", x->bad);
    else if (!allowed)
        reply_error(&x->r, 403, "denied",
                    "this socket is for the user that the daemon runs as, and for root");
    else if (!known)
        reply_error(&x->r, 405, "method", "%.20s is not a method of this API", method);
    else if (announced(x) > HTTP_BODY_MAX)
        too_large(x);
    else
        x->close = false;
    x->r.reply.allow = !known ? BIT(HTTP_METHODS) - 1 : 0;
    if (x->close)
        log_request(x);
    return !x->close;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *c, const char *url, const char *method,
                                  const char *version, const char *upload, size_t *upload_len, void **con_cls)
{
    struct door *door = cls;
    struct exchange *x = *con_cls;

    (void)url;
    if (!x->begun)
        return admit(door, c, x, method, version) ? MHD_YES : send_reply(c, x);
    if (*upload_len) {
        x->too_large = x->too_large || !http_body_add(&x->r.body, bytes_make(upload, *upload_len));
        x->discarded += x->too_large ? *upload_len : 0;
        *upload_len = 0;
        return x->discarded > DISCARD_MAX ? MHD_NO : MHD_YES;
    }
    if (x->too_large)
        too_large(x);
    else
        serve(door, c, x);
    return send_reply(c, x);
}

static void on_completed(void *cls, struct MHD_Connection *c, void **con_cls,
                         enum MHD_RequestTerminationCode how)
{
    struct exchange *x = *con_cls;
    struct door *door = cls;

    (void)c;
    (void)how;
    if (!x)
        return;
    request_fini(&x->r);
    if (x->served)
        atomic_fetch_sub(&door->api->open, 1);
    mem_free(x);
    *con_cls = NULL;
}

/* It would decode "%00" and more before we look. */
static size_t leave_escaped(void *cls, struct MHD_Connection *c, char *text)
{
    (void)cls;
    (void)c;
    return strlen(text);
}

static void on_complaint(void *cls, const char *format, va_list ap)
{
    BUF_LOCAL(text);

    (void)cls;
    buf_putv(&text, format, ap);
    log_debug(
        NULL, "api.http",
        LOG_BYTES("said", bytes_trim(bytes_first(buf_bytes(&text), bytes_find(buf_bytes(&text), '\n')))));
}

/* ---- start and stop ---- */

static void wipe_and_free(void *p)
{
    if (p)
        explicit_bzero(p, malloc_usable_size(p));
    free(p);
}

static enum err open_door(struct door *door, int fd, char **why)
{
    door->daemon = MHD_start_daemon(
        MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_ITC | MHD_USE_POLL |
            MHD_USE_ERROR_LOG,
        0, NULL, NULL, on_request, door, MHD_OPTION_EXTERNAL_LOGGER, on_complaint, NULL,
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_URI_LOG_CALLBACK, on_target, door,
        MHD_OPTION_UNESCAPE_CALLBACK, leave_escaped, NULL, MHD_OPTION_NOTIFY_COMPLETED, on_completed, door,
        MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, IDLE_S,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, HEADERS_BYTES, MHD_OPTION_THREAD_STACK_SIZE, (size_t)512 * 1024,
        MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
    if (door->daemon)
        return OK;
    close(fd);
    *why = text_format("cannot start the HTTP server of the API: %m");
    return ERR_IO;
}

enum err api_start(struct engine *e, const struct conf *conf, struct api **out, char **why)
{
    struct api *api = MEM_NEW(struct api);
    int fd;

    /* A request's body may hold a password: what jansson makes of it is wiped too. */
    json_set_alloc_funcs(mem_alloc, wipe_and_free);
    api->engine = e;
    api->uid = geteuid();
    api->local = (struct door){.api = api};
    api->loopback = (struct door){.api = api, .anybody = true};
    enum err err = listen_unix(conf->api.socket, &api->socket, &fd, why);
    if (!err)
        err = open_door(&api->local, fd, why);
    if (!err && conf->api.listen)
        err = listen_loopback(conf->api.listen, &fd, why);
    if (!err && conf->api.listen)
        err = open_door(&api->loopback, fd, why);
    if (err) {
        api_stop(api);
        return err;
    }
    log_info(NULL, "api.listening", LOG_STR("socket", conf->api.socket),
             LOG_STR("address", conf->api.listen));
    *out = api;
    return OK;
}

void api_stop(struct api *api)
{
    if (!api)
        return;
    atomic_store(&api->stopping, true);
    for (uint64_t until = clock_now_ms() + STOP_MS; atomic_load(&api->open) && clock_now_ms() < until;)
        usleep(5000); /* followers have their answer; what is slower is cut */
    if (api->local.daemon)
        MHD_stop_daemon(api->local.daemon);
    if (api->loopback.daemon)
        MHD_stop_daemon(api->loopback.daemon);
    listen_unix_fini(&api->socket);
    mem_free(api);
}
