/* One request at libcurl: what it may do, what it asks us, and how it went. */
#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

#include "base/mem.h"
#include "engine/dns/name.h"
#include "engine/net/fetch_priv.h"

#define CONNECT_MS 20000

/* ---- libcurl's sockets and its timer ---- */

struct watched {
    uv_poll_t poll;
    struct fetcher *f;
    curl_socket_t fd;
};

/* The only place where requests end at libcurl: never from within one of its callbacks. */
static void collect(struct fetcher *f);

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct watched *w = poll->data;
    struct fetcher *f = w->f;
    int bits = status < 0 ? CURL_CSELECT_ERR
                          : (events & UV_READABLE ? CURL_CSELECT_IN : 0) |
                                (events & UV_WRITABLE ? CURL_CSELECT_OUT : 0);
    int running;

    curl_multi_socket_action(f->multi, w->fd, bits, &running);
    collect(f);
}

static void on_timer(uv_timer_t *timer)
{
    struct fetcher *f = timer->data;
    int running;

    curl_multi_socket_action(f->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    collect(f);
}

static void on_watched_closed(uv_handle_t *handle)
{
    struct watched *w = handle->data;
    struct fetcher *f = w->f;

    mem_free(w);
    fetch_handle_closed(f);
}

static struct watched *watch(struct fetcher *f, curl_socket_t fd)
{
    struct watched *w = MEM_NEW(struct watched);

    w->f = f;
    w->fd = fd;
    if (uv_poll_init(f->loop, &w->poll, fd) != 0) {
        mem_free(w);
        return NULL;
    }
    w->poll.data = w;
    f->handles++;
    return w;
}

static int on_socket(CURL *curl, curl_socket_t fd, int what, void *arg, void *known)
{
    struct fetcher *f = arg;
    struct watched *w = known;

    (void)curl;
    if (what == CURL_POLL_REMOVE) {
        if (w) {
            curl_multi_assign(f->multi, fd, NULL);
            uv_poll_stop(&w->poll); /* libcurl closes the descriptor as soon as we return */
            uv_close((uv_handle_t *)&w->poll, on_watched_closed);
        }
        return 0;
    }
    if (!w && !(w = watch(f, fd)))
        return -1;
    curl_multi_assign(f->multi, fd, w);
    uv_poll_start(&w->poll,
                  (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0),
                  on_poll);
    return 0;
}

static int on_timer_wanted(CURLM *multi, long timeout_ms, void *arg)
{
    struct fetcher *f = arg;

    (void)multi;
    if (timeout_ms < 0)
        uv_timer_stop(&f->timer);
    else
        uv_timer_start(&f->timer, on_timer, (uint64_t)timeout_ms, 0);
    return 0;
}

static void setup_once(void)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        abort(); /* no memory */
}

enum err fetch_curl_open(struct fetcher *f, char **why)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, setup_once);
    const char *tls = curl_version_info(CURLVERSION_NOW)->ssl_version;
    if (!tls || strncasecmp(tls, "GnuTLS", 6) != 0) {
        *why = text_format("libcurl speaks TLS with %s here, and its GnuTLS build is needed: install it",
                           tls ? tls : "nothing");
        return ERR_VERSION;
    }
    f->multi = curl_multi_init();
    if (!f->multi)
        return ERR_NOMEM;
    curl_multi_setopt(f->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(f->multi, CURLMOPT_SOCKETDATA, f);
    curl_multi_setopt(f->multi, CURLMOPT_TIMERFUNCTION, on_timer_wanted);
    curl_multi_setopt(f->multi, CURLMOPT_TIMERDATA, f);
    curl_multi_setopt(f->multi, CURLMOPT_MAXCONNECTS, 1L); /* none is kept anyway */
    return OK;
}

void fetch_curl_close(struct fetcher *f)
{
    curl_multi_cleanup(f->multi);
    f->multi = NULL;
}

/* ---- what libcurl asks of a request ---- */

/* Whatever came of names on the way: only to the addresses that our DNS gave. */
static curl_socket_t on_open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *to)
{
    struct fetch *r = arg;
    struct ip ip;
    uint16_t port;

    if (purpose != CURLSOCKTYPE_IPCXN || !ip_from_sockaddr(&to->addr, &ip, &port) || port != r->port)
        return CURL_SOCKET_BAD;
    for (size_t i = 0; i < r->address_count; i++)
        if (ip_eq(&ip, &r->addresses[i]))
            return socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
    return CURL_SOCKET_BAD;
}

/* The handshake is done and nothing was asked for yet: here the certificate is judged. */
static int on_connected(void *arg, char *peer, char *local, int peer_port, int local_port)
{
    struct fetch *r = arg;
    const struct curl_tlssessioninfo *info = NULL;
    char text[sizeof(r->why)];

    (void)peer, (void)local, (void)peer_port, (void)local_port;
    if (curl_easy_getinfo(r->curl, CURLINFO_TLS_SSL_PTR, &info) != CURLE_OK || !info || !info->internals ||
        info->backend != CURLSSLBACKEND_GNUTLS) {
        fetch_judge(r, FETCH_TLS, "the connection has no TLS");
        return CURL_PREREQFUNC_ABORT;
    }
    if (r->any_certificate)
        return CURL_PREREQFUNC_OK;
    const char *wrong = fetch_trust_check(&r->f->trust, info->internals, r->host, text, sizeof(text));
    if (!*wrong)
        return CURL_PREREQFUNC_OK;
    fetch_judge(r, FETCH_CERTIFICATE, "%s", wrong);
    return CURL_PREREQFUNC_ABORT;
}

static bool status_is_good(const struct fetch *r, long status)
{
    return status == 200 || (r->post && status == 201);
}

static bool type_is_good(const struct fetch *r, const char *type)
{
    struct bytes media = bytes_of(type);

    media = bytes_trim(bytes_first(media, bytes_find(media, ';')));
    return !r->want_type || bytes_ieq(media, bytes_of(r->want_type));
}

/* false: judged. */
static bool head_is_good(struct fetch *r)
{
    long status = 0;
    char *type = NULL;

    curl_easy_getinfo(r->curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(r->curl, CURLINFO_CONTENT_TYPE, &type);
    r->status = (int)status;
    if (!status_is_good(r, status))
        fetch_judge(r, FETCH_STATUS, "the server answered %ld%s", status,
                    status >= 300 && status < 400 ? ", and redirects are not followed" : "");
    else if (!type_is_good(r, type))
        fetch_judge(r, FETCH_TYPE, "the media type is %s, not %s", type ? type : "missing", r->want_type);
    return !r->judged;
}

static size_t on_head(char *line, size_t size, size_t count, void *arg)
{
    struct fetch *r = arg;
    size_t len = size * count;

    (void)line;
    r->head_bytes += len;
    if (r->head_bytes <= FETCH_HEAD_MAX)
        return len;
    fetch_judge(r, FETCH_TOO_LARGE, "the head of the reply is larger than %d octets", FETCH_HEAD_MAX);
    return 0;
}

static size_t on_body(char *at, size_t size, size_t count, void *arg)
{
    struct fetch *r = arg;
    size_t len = size * count;

    if (!r->reply.len && !head_is_good(r))
        return 0;
    if (len > r->max_bytes - r->reply.len) {
        fetch_judge(r, FETCH_TOO_LARGE, "the reply is larger than %zu octets", r->max_bytes);
        return 0;
    }
    buf_put(&r->reply, bytes_make(at, len));
    return len;
}

/* ---- start and end ---- */

/* The host as libcurl reads it: two readings of one URL would be two hosts. */
bool fetch_url_parse(struct fetch *r)
{
    CURLU *url = curl_url();
    char *scheme = NULL, *host = NULL, *port = NULL, *user = NULL, *password = NULL;
    struct dns_name name;
    char text[DNS_NAME_TEXT_BYTES];
    struct ip ip;
    uint64_t number = 0;
    bool good = false;

    if (curl_url_set(url, CURLUPART_URL, r->url, 0) == CURLUE_OK &&
        curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
        curl_url_get(url, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
        curl_url_get(url, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK) {
        struct bytes h = bytes_of(host);
        bool user_given = curl_url_get(url, CURLUPART_USER, &user, 0) == CURLUE_OK ||
                          curl_url_get(url, CURLUPART_PASSWORD, &password, 0) == CURLUE_OK;
        if (h.len > 2 && h.at[0] == '[')
            h = bytes_make(h.at + 1, h.len - 2);
        r->host_is_address = ip_parse(h, &ip);
        good = strcasecmp(scheme, "https") == 0 && !user_given && bytes_parse_u64(bytes_of(port), &number) &&
               number && number <= 65535 &&
               (r->host_is_address ||
                (h.at[h.len - 1] != '.' && dns_name_parse(h, &name) && dns_name_format(&name, text)));
        if (good) {
            r->host = r->host_is_address ? bytes_dup(h) : mem_strdup(text);
            r->port = (uint16_t)number;
        }
    }
    curl_free(scheme);
    curl_free(host);
    curl_free(port);
    curl_free(user);
    curl_free(password);
    curl_url_cleanup(url);
    if (!good)
        fetch_judge(r, FETCH_BAD_URL, "not an https URL of a host name or address, without a user");
    return good;
}

/* "+": forgotten after a minute; without it the entry would stay for ever. */
static void set_addresses(struct fetch *r)
{
    BUF_LOCAL(text);
    char ip[IP_TEXT_BYTES];

    if (r->host_is_address)
        return;
    buf_putf(&text, "+%s:%u:", r->host, r->port);
    for (size_t i = 0; i < r->address_count; i++)
        buf_putf(&text, r->addresses[i].family == 6 ? "%s[%s]" : "%s%s", i ? "," : "",
                 ip_format(&r->addresses[i], ip));
    r->resolve = curl_slist_append(NULL, buf_str(&text));
    curl_easy_setopt(r->curl, CURLOPT_RESOLVE, r->resolve);
}

static void set_limits(struct fetch *r)
{
    CURL *c = r->curl;
    uint64_t now = uv_now(r->f->loop);
    long left = r->deadline_ms > now ? (long)(r->deadline_ms - now) : 1;

    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "https");
    curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(c, CURLOPT_PROXY, ""); /* also stops the look at the environment */
    curl_easy_setopt(c, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_FRESH_CONNECT, 1L);
    curl_easy_setopt(c, CURLOPT_FORBID_REUSE, 1L);
    curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, left);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, MIN_OF(left, CONNECT_MS));
    curl_easy_setopt(c, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)r->max_bytes);
    curl_easy_setopt(c, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(c, CURLOPT_SSL_SESSIONID_CACHE, 0L); /* every handshake shows its certificate */
    /* libcurl would read the trust file for every connection, and take a CN for a name: on_connected decides.
     */
    curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, 0L);
    curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, 0L);
    curl_easy_setopt(c, CURLOPT_CAINFO, NULL);
    curl_easy_setopt(c, CURLOPT_CAPATH, NULL);
}

static void set_request(struct fetch *r)
{
    CURL *c = r->curl;

    curl_easy_setopt(c, CURLOPT_URL, r->url);
    curl_easy_setopt(c, CURLOPT_USERAGENT, "Hayauma/" HAYAUMA_VERSION);
    if (!r->post)
        return;
    curl_easy_setopt(c, CURLOPT_POST, 1L);
    curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body.len);
    curl_easy_setopt(c, CURLOPT_POSTFIELDS, r->body.len ? r->body.at : "");
    BUF_LOCAL(type);
    buf_putf(&type, "Content-Type: %s", r->body_type ? r->body_type : "application/octet-stream");
    r->fields = curl_slist_append(NULL, buf_str(&type));
    r->fields = curl_slist_append(r->fields, "Expect:"); /* no round trip just to ask */
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, r->fields);
}

void fetch_curl_start(struct fetch *r)
{
    CURL *c = r->curl = curl_easy_init();

    if (!c)
        abort(); /* no memory: as base/mem.h */
    curl_easy_setopt(c, CURLOPT_PRIVATE, r);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, r->curl_why);
    set_limits(r);
    set_request(r);
    set_addresses(r);
    curl_easy_setopt(c, CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
    curl_easy_setopt(c, CURLOPT_OPENSOCKETDATA, r);
    curl_easy_setopt(c, CURLOPT_PREREQFUNCTION, on_connected);
    curl_easy_setopt(c, CURLOPT_PREREQDATA, r);
    curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_head);
    curl_easy_setopt(c, CURLOPT_HEADERDATA, r);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, r);
    curl_multi_add_handle(r->f->multi, c);
}

void fetch_curl_end(struct fetch *r)
{
    if (r->curl) {
        curl_multi_remove_handle(r->f->multi, r->curl);
        curl_easy_cleanup(r->curl);
        r->curl = NULL;
    }
    curl_slist_free_all(r->resolve);
    curl_slist_free_all(r->fields);
    r->resolve = r->fields = NULL;
}

/* ---- how it went ---- */

static enum fetch_end end_of(CURLcode code)
{
    switch (code) {
    case CURLE_OPERATION_TIMEDOUT: return FETCH_TIMEOUT;
    case CURLE_FILESIZE_EXCEEDED: return FETCH_TOO_LARGE;
    case CURLE_COULDNT_RESOLVE_HOST: return FETCH_NO_ADDRESS;
    case CURLE_PEER_FAILED_VERIFICATION: return FETCH_CERTIFICATE;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_CERTPROBLEM: return FETCH_TLS;
    default: return FETCH_UNREACHABLE;
    }
}

static void judge(struct fetch *r, CURLcode code)
{
    if (r->judged)
        return;
    if (code != CURLE_OK)
        fetch_judge(r, end_of(code), "%s", r->curl_why[0] ? r->curl_why : curl_easy_strerror(code));
    else if (head_is_good(r))
        fetch_judge(r, FETCH_OK, "%s", "");
}

static void collect(struct fetcher *f)
{
    CURLMsg *msg;
    int left;

    while ((msg = curl_multi_info_read(f->multi, &left))) {
        struct fetch *r = NULL;
        CURLcode code = msg->data.result;
        if (msg->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &r);
        assert(r && r->state == FETCH_AT_CURL);
        judge(r, code);
        fetch_curl_end(r);
        fetch_ready(r);
    }
}
