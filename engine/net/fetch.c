/*
 * The life of a request: in line → at DNS → at libcurl → ready.  User callbacks are made from one place
 * (on_idle); nothing else in here calls out.
 */
#include "engine/net/fetch.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/mem.h"
#include "engine/net/fetch_priv.h"

#define AT_ONCE    64
#define MAX_BYTES  65536
#define TIMEOUT_MS 60000

const char *fetch_end_name(enum fetch_end e)
{
    switch (e) {
    case FETCH_OK: return "ok";
    case FETCH_BAD_URL: return "bad-url";
    case FETCH_NO_ADDRESS: return "no-address";
    case FETCH_FORBIDDEN: return "forbidden-address";
    case FETCH_UNREACHABLE: return "unreachable";
    case FETCH_TLS: return "tls-failed";
    case FETCH_CERTIFICATE: return "bad-certificate";
    case FETCH_STATUS: return "bad-status";
    case FETCH_TYPE: return "bad-type";
    case FETCH_TOO_LARGE: return "too-large";
    case FETCH_TIMEOUT: return "timeout";
    }
    return "unknown";
}

/* ---- open and close ---- */

enum err fetcher_create(uv_loop_t *loop, struct dns *dns, const struct fetch_config *config,
                        struct fetcher **out, char **why)
{
    struct fetcher *f = MEM_NEW(struct fetcher);

    f->loop = loop;
    f->dns = dns;
    f->at_once = config->at_once ? config->at_once : AT_ONCE;
    struct list *lists[] = {&f->line, &f->working, &f->ready};
    for (size_t i = 0; i < COUNT_OF(lists); i++)
        list_init(lists[i]);
    enum err e = fetch_trust_init(&f->trust, config->ca_file, why);
    if (!e)
        e = fetch_curl_open(f, why);
    if (e) {
        fetch_trust_fini(&f->trust);
        mem_free(f);
        return e;
    }
    uv_timer_init(loop, &f->timer);
    uv_idle_init(loop, &f->idle);
    f->timer.data = f->idle.data = f;
    f->handles = 2;
    *out = f;
    return OK;
}

static void request_free(struct fetch *r)
{
    list_remove(&r->node);
    dns_cancel(r->query);
    fetch_curl_end(r);
    mem_free(r->url);
    mem_free(r->host);
    mem_free(r->body_type);
    mem_free(r->want_type);
    buf_fini(&r->body);
    buf_fini(&r->reply);
    mem_free(r);
}

void fetch_handle_closed(struct fetcher *f)
{
    if (--f->handles || !f->closing)
        return;
    void (*on_closed)(void *) = f->on_closed;
    void *arg = f->on_closed_arg;

    fetch_trust_fini(&f->trust);
    mem_free(f);
    if (on_closed)
        on_closed(arg);
}

static void on_own_closed(uv_handle_t *handle)
{
    fetch_handle_closed(handle->data);
}

void fetcher_close(struct fetcher *f, void (*on_closed)(void *arg), void *arg)
{
    struct list *node;

    if (!f)
        return;
    assert(!f->closing);
    f->closing = true;
    f->on_closed = on_closed;
    f->on_closed_arg = arg;
    struct list *lists[] = {&f->line, &f->working, &f->ready};
    for (size_t i = 0; i < COUNT_OF(lists); i++)
        while ((node = list_first(lists[i])))
            request_free(LIST_ENTRY(node, struct fetch, node));
    fetch_curl_close(f);
    uv_close((uv_handle_t *)&f->timer, on_own_closed);
    uv_close((uv_handle_t *)&f->idle, on_own_closed);
}

/* ---- ending ---- */

void fetch_judge(struct fetch *r, enum fetch_end end, const char *format, ...)
{
    va_list ap;

    if (r->judged)
        return;
    r->judged = true;
    r->end = end;
    va_start(ap, format);
    vsnprintf(r->why, sizeof(r->why), format, ap);
    va_end(ap);
    for (char *c = r->why; *c; c++) /* parts of it may be the server's words */
        if (*c < ' ' || *c > '~')
            *c = '?';
}

static void start_next(struct fetcher *f);

static void deliver(struct fetch *r)
{
    struct fetch_result result = {.end = r->end, .status = r->status, .why = r->why};
    fetch_fn fn = r->fn;
    void *arg = r->arg;

    if (r->end == FETCH_OK)
        result.body = buf_bytes(&r->reply);
    r->fn = NULL; /* a cancel from within is too late, and harmless */
    fn(arg, &result);
    request_free(r);
}

/* A callback may cancel others, start new ones, or close us. */
static void on_idle(uv_idle_t *idle)
{
    struct fetcher *f = idle->data;
    struct list now, *node;

    list_init(&now);
    list_move_all(&now, &f->ready);
    while ((node = list_pop(&now))) {
        struct fetch *r = LIST_ENTRY(node, struct fetch, node);
        if (f->closing)
            request_free(r);
        else
            deliver(r);
    }
    if (!f->closing && list_is_empty(&f->ready))
        uv_idle_stop(&f->idle);
}

void fetch_ready(struct fetch *r)
{
    struct fetcher *f = r->f;

    assert(r->judged && r->state != FETCH_READY);
    if (r->state != FETCH_IN_LINE)
        f->under_way--;
    r->state = FETCH_READY;
    list_remove(&r->node);
    list_push_back(&f->ready, &r->node);
    uv_idle_start(&f->idle, on_idle);
    start_next(f);
}

/* ---- beginning ---- */

static void on_host(void *arg, const struct dns_host *host)
{
    struct fetch *r = arg;

    r->query = NULL;
    for (size_t i = 0; i < host->count && r->address_count < FETCH_ADDRESSES_MAX; i++)
        if (!r->public_only || fetch_address_is_public(&host->addresses[i].ip))
            r->addresses[r->address_count++] = host->addresses[i].ip;
    if (host->status != DNS_OK)
        fetch_judge(r, FETCH_NO_ADDRESS, "no address of %s: %s", r->host, dns_status_name(host->status));
    else if (!r->address_count)
        fetch_judge(r, FETCH_FORBIDDEN, "%s has no public address", r->host);
    if (r->judged) {
        fetch_ready(r);
        return;
    }
    r->state = FETCH_AT_CURL;
    fetch_curl_start(r);
}

static void start(struct fetch *r)
{
    struct fetcher *f = r->f;

    list_remove(&r->node);
    list_push_back(&f->working, &r->node);
    f->under_way++;
    r->state = FETCH_AT_DNS;
    r->deadline_ms = uv_now(f->loop) + r->timeout_ms;
    r->query = dns_resolve_host(f->dns, r->host, on_host, r);
}

static void start_next(struct fetcher *f)
{
    struct list *node;

    while (!f->closing && f->under_way < f->at_once && (node = list_first(&f->line)))
        start(LIST_ENTRY(node, struct fetch, node));
}

struct fetch *fetch_start(struct fetcher *f, const struct fetch_request *request, fetch_fn fn, void *arg)
{
    struct fetch *r = MEM_NEW(struct fetch);

    assert(!f->closing);
    r->f = f;
    r->fn = fn;
    r->arg = arg;
    r->url = mem_strdup(request->url);
    r->post = request->post;
    r->body_type = mem_strdup(request->body_type);
    r->want_type = mem_strdup(request->want_type);
    r->any_certificate = request->any_certificate;
    r->public_only = request->public_only;
    r->max_bytes = request->max_bytes ? request->max_bytes : MAX_BYTES;
    r->timeout_ms = request->timeout_ms ? request->timeout_ms : TIMEOUT_MS;
    if (r->post)
        buf_put(&r->body, request->body);
    list_push_back(&f->line, &r->node);
    if (!fetch_url_parse(r))
        fetch_ready(r);
    else
        start_next(f);
    return r;
}

void fetch_cancel(struct fetch *r)
{
    if (!r || !r->fn) /* NULL: it dies with its callback */
        return;
    struct fetcher *f = r->f;
    bool had_place = r->state == FETCH_AT_DNS || r->state == FETCH_AT_CURL;

    request_free(r);
    f->under_way -= had_place;
    start_next(f);
}
