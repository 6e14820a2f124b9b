#include "webui-api/cli/client.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/mem.h"
#include "webui-api/cli/format.h"

#define CONNECT_S  10L
#define TOTAL_S    900L /* an operation on millions of recipients takes its time */
#define ANSWER_MAX ((size_t)1 << 30)

struct client {
    CURL *curl;               /* owned */
    const char *socket;       /* borrowed */
    struct document document; /* borrowed texts */
    bool errors_as_json, quiet;
};

void answer_fini(struct answer *a)
{
    buf_fini(&a->body);
    *a = (struct answer){0};
}

struct client *client_create(const char *socket)
{
    struct client *c = MEM_NEW(struct client);

    curl_global_init(CURL_GLOBAL_NOTHING);
    c->curl = curl_easy_init();
    c->socket = socket;
    return c;
}

void client_destroy(struct client *c)
{
    if (!c)
        return;
    curl_easy_cleanup(c->curl);
    curl_global_cleanup();
    mem_free(c);
}

const char *client_socket(const struct client *c)
{
    return c->socket;
}

void client_errors_as_json(struct client *c)
{
    c->errors_as_json = true;
}

void client_document(struct client *c, const struct document *document)
{
    c->document = *document;
}

void client_quiet(struct client *c, bool quiet)
{
    c->quiet = quiet;
}

/* ---- addresses ---- */

void url_path(struct buf *url, const char *path)
{
    buf_clear(url);
    buf_putf(url, "http://hayauma%s", path);
}

/* RFC 3986 §2.3: what is not unreserved is encoded. */
static void put_encoded(struct buf *out, struct bytes text)
{
    for (size_t i = 0; i < text.len; i++) {
        char c = text.at[i];
        if ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
            (c && strchr("-._~", c)))
            buf_putc(out, c);
        else
            buf_putf(out, "%%%02X", (unsigned char)c);
    }
}

void url_segment(struct buf *url, const char *text)
{
    buf_putc(url, '/');
    put_encoded(url, bytes_of(text));
}

void url_param(struct buf *url, const char *name, const char *value)
{
    if (!value)
        return;
    buf_putc(url, memchr(url->at, '?', url->len) ? '&' : '?');
    buf_putf(url, "%s=", name);
    put_encoded(url, bytes_of(value));
}

void url_param_count(struct buf *url, const char *name, uint64_t value)
{
    char text[24];

    snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
    url_param(url, name, text);
}

/* ---- what went wrong ---- */

/* errno of a connection to the socket, 0 when it works: curl says only that it did not. */
static int probe(const char *socket_path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t len = strlen(socket_path);

    if (len >= sizeof(address.sun_path))
        return ENAMETOOLONG;
    memcpy(address.sun_path, socket_path, len + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int code = fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) ? errno : 0;
    if (fd >= 0)
        close(fd);
    return code;
}

/* The same object as the API's own errors: a program reads one form. */
static void put_unreachable_json(const char *message)
{
    JSON_LOCAL(root);

    root = json_pack("{s:{s:s, s:s, s:[]}}", "error", "code", "unreachable", "message", message, "details");
    char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
    if (text)
        puts(text);
    free(text);
}

static int unreachable(const struct client *c, CURLcode code)
{
    static const char hint[] = "Another socket is named by --socket PATH, -c FILE or HAYAUMA_SOCKET.";
    BUF_LOCAL(path);
    BUF_LOCAL(message);
    int reason = probe(c->socket);

    if (c->quiet)
        return CLI_UNREACHABLE;
    format_safe(&path, bytes_of(c->socket));
    const char *name = buf_str(&path);
    switch (reason) {
    case ENOENT: buf_putf(&message, "there is no socket %s: is hayaumad running?  %s", name, hint); break;
    case ECONNREFUSED:
        buf_putf(&message,
                 "nobody answers at %s: hayaumad is not running.  Start it, or name its socket.  %s", name,
                 hint);
        break;
    case EACCES:
    case EPERM:
        buf_putf(&message, "no permission for the socket %s: run this as the user of hayaumad, or as root",
                 name);
        break;
    case 0:
        buf_putf(&message, "the daemon at %s did not finish its answer: %s", name, curl_easy_strerror(code));
        break;
    default: buf_putf(&message, "the daemon cannot be reached at %s: %s.  %s", name, strerror(reason), hint);
    }
    fprintf(stderr, "hayauma: %s\n", buf_str(&message));
    if (c->errors_as_json)
        put_unreachable_json(buf_str(&message));
    return CLI_UNREACHABLE;
}

static int refused(const struct client *c, const struct answer *a)
{
    JSON_LOCAL(root);
    BUF_LOCAL(message);
    BUF_LOCAL(details);
    size_t i;
    json_t *detail;

    root = json_loadb(a->body.at ? a->body.at : "", a->body.len, 0, NULL);
    const json_t *error = json_object_get(root, "error");
    if (c->errors_as_json && error) {
        fwrite(a->body.at, 1, a->body.len, stdout);
        if (a->body.at[a->body.len - 1] != '\n')
            putchar('\n');
    }
    json_array_foreach(json_object_get(error, "details"), i, detail)
    {
        bool is_of_field = *field_text(detail, "field") && !field_count(detail, "line");
        if (!is_of_field) /* of fields the message tells */
            complaint_put(&details, &c->document, detail, "");
    }
    fputs(buf_str(&details), stderr);
    if (error)
        format_safe(&message, bytes_of(field_text(error, "message")));
    else
        buf_putf(&message, "the daemon answered with HTTP status %ld", a->status);
    fprintf(stderr, "hayauma: %s\n", buf_str(&message));
    return CLI_REFUSED;
}

/* ---- requests ---- */

static size_t on_body(char *at, size_t size, size_t count, void *arg)
{
    struct answer *a = arg;

    if (a->body.len + size * count > ANSWER_MAX)
        return 0;
    buf_put(&a->body, bytes_make(at, size * count));
    return size * count;
}

static size_t on_header(char *at, size_t size, size_t count, void *arg)
{
    static const struct bytes name = {"X-Next:", 7};
    struct bytes line = bytes_make(at, size * count);
    struct answer *a = arg;

    if (!bytes_istarts(line, name))
        return line.len;
    line = bytes_trim(bytes_first(bytes_skip(line, name.len), bytes_find(bytes_skip(line, name.len), '\r')));
    if (line.len < sizeof(a->next)) {
        memcpy(a->next, line.at, line.len);
        a->next[line.len] = '\0';
    }
    return size * count;
}

static void set_request(struct client *c, const char *method, const char *url, struct bytes body,
                        struct answer *out)
{
    CURL *h = c->curl;

    curl_easy_reset(h);
    curl_easy_setopt(h, CURLOPT_UNIX_SOCKET_PATH, c->socket);
    curl_easy_setopt(h, CURLOPT_URL, url);
    curl_easy_setopt(h, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http");
    curl_easy_setopt(h, CURLOPT_PROXY, "");
    curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT, CONNECT_S);
    curl_easy_setopt(h, CURLOPT_TIMEOUT, TOTAL_S);
    curl_easy_setopt(h, CURLOPT_USERAGENT, "hayauma/" HAYAUMA_VERSION);
    if (strcmp(method, "GET") != 0) {
        curl_easy_setopt(h, CURLOPT_POSTFIELDS, body.at ? body.at : "");
        curl_easy_setopt(h, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body.len);
        curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, method);
    }
    curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(h, CURLOPT_WRITEDATA, out);
    curl_easy_setopt(h, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(h, CURLOPT_HEADERDATA, out);
}

int client_call(struct client *c, const char *method, struct buf *url, struct bytes body, struct answer *out)
{
    /* No "Expect: 100-continue", and no claim that documents are form fields. */
    static char no_type[] = "Content-Type:", no_expect[] = "Expect:";
    static struct curl_slist type = {no_type, NULL}, expect = {no_expect, &type};

    answer_fini(out);
    set_request(c, method, buf_str(url), body, out);
    curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, &expect);
    CURLcode code = curl_easy_perform(c->curl);
    if (code)
        return unreachable(c, code);
    curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &out->status);
    return out->status / 100 == 2 ? CLI_DONE : refused(c, out);
}

int client_call_json(struct client *c, const char *method, struct buf *url, struct bytes body, json_t **out)
{
    ANSWER_LOCAL(answer);
    json_error_t error;
    int code = client_call(c, method, url, body, &answer);

    if (code)
        return code;
    *out = json_loadb(answer.body.at ? answer.body.at : "", answer.body.len, 0, &error);
    if (*out)
        return CLI_DONE;
    fprintf(stderr, "hayauma: the daemon's answer is not JSON: line %d, column %d: %s\n", error.line,
            error.column, error.text);
    return CLI_REFUSED;
}

/* ---- fields ---- */

const char *field_text(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text ? text : "";
}

int64_t field_int(const json_t *object, const char *key)
{
    return (int64_t)json_integer_value(json_object_get(object, key));
}

uint64_t field_count(const json_t *object, const char *key)
{
    int64_t value = field_int(object, key);

    return value > 0 ? (uint64_t)value : 0;
}

bool field_bool(const json_t *object, const char *key)
{
    return json_is_true(json_object_get(object, key));
}

bool field_known(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);

    return value && !json_is_null(value);
}
