/* The public side: askers, their deadlines, and the one place that calls them back. */
#include "engine/dns/dns.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/mem.h"
#include "engine/dns/dns_priv.h"

#define TIMEOUT_MS    1500
#define TOTAL_MS      15000
#define CACHE_ENTRIES 20000
#define TTL_MAX_S     86400

const char *dns_status_name(enum dns_status s)
{
    switch (s) {
    case DNS_OK: return "ok";
    case DNS_NXDOMAIN: return "nxdomain";
    case DNS_NODATA: return "nodata";
    case DNS_SERVFAIL: return "servfail";
    case DNS_TIMEOUT: return "timeout";
    case DNS_LOOP: return "cname-loop";
    case DNS_BAD_NAME: return "bad-name";
    }
    return "unknown";
}

/* ---- chance ---- */

uint32_t dns_random(struct dns *d)
{
    uint32_t n;

    if (d->random_left < sizeof(n)) {
        if (getrandom(d->random, sizeof(d->random), 0) != (ssize_t)sizeof(d->random))
            abort(); /* cannot happen once the kernel is seeded; guessable ids are worse */
        d->random_left = sizeof(d->random);
    }
    d->random_left -= sizeof(n);
    memcpy(&n, d->random + d->random_left, sizeof(n));
    return n;
}

uint32_t dns_random_below(struct dns *d, uint32_t n)
{
    return (uint32_t)(((uint64_t)dns_random(d) * n) >> 32);
}

/* ---- open and close ---- */

static void set_presets(struct dns_config *c)
{
    c->timeout_ms = c->timeout_ms ? c->timeout_ms : TIMEOUT_MS;
    c->total_ms = c->total_ms ? c->total_ms : TOTAL_MS;
    c->cache_entries = c->cache_entries ? c->cache_entries : CACHE_ENTRIES;
    c->ttl_max_s = c->ttl_max_s ? c->ttl_max_s : TTL_MAX_S;
}

static void on_deadline(uv_timer_t *timer);
static void on_slow(uv_timer_t *timer);

enum err dns_create(uv_loop_t *loop, const struct dns_config *config, struct dns **out, char **why)
{
    if (config->server_count > DNS_SERVERS_MAX) {
        *why = mem_strdup("too many DNS servers: eight are the most");
        return ERR_INVALID;
    }
    for (size_t i = 0; i < config->server_count; i++) {
        if (!config->servers[i].ip.family) {
            *why = mem_strdup("a DNS server without an address");
            return ERR_INVALID;
        }
    }
    struct dns *d = MEM_NEW(struct dns);
    d->loop = loop;
    d->config = *config;
    set_presets(&d->config);
    dns_servers_load(&d->servers, &d->config);
    dns_cache_init(&d->cache, d->config.cache_entries);
    struct list *lists[] = {&d->active, &d->waiting,    &d->young, &d->queries,
                            &d->ready,  &d->delivering, &d->slow};
    for (size_t i = 0; i < COUNT_OF(lists); i++)
        list_init(lists[i]);
    uv_idle_init(loop, &d->idle);
    uv_timer_init(loop, &d->deadline_timer);
    uv_timer_init(loop, &d->slow_timer);
    uv_timer_init(loop, &d->turn_timer);
    /* Whoever waits has a lookup with a timer of its own: these need not keep the loop alive. */
    uv_unref((uv_handle_t *)&d->deadline_timer);
    uv_unref((uv_handle_t *)&d->slow_timer);
    uv_unref((uv_handle_t *)&d->turn_timer);
    d->handles = 4;
    *out = d;
    return OK;
}

static void query_free(struct dns_query *q)
{
    list_remove(&q->all);
    list_remove(&q->ready);
    list_remove(&q->slow);
    for (size_t i = 0; i < q->chain_count; i++)
        dns_chain_fini(&q->chains[i]);
    mem_free(q);
}

static void free_all(struct list *l, size_t offset)
{
    struct list *node;

    while ((node = list_first(l)))
        query_free((struct dns_query *)(void *)((char *)node - offset));
}

void dns_handle_closed(struct dns *d)
{
    if (--d->handles || !d->closing)
        return;
    void (*on_closed)(void *) = d->on_closed;
    void *arg = d->on_closed_arg;

    dns_cache_fini(&d->cache);
    map_fini(&d->lookups);
    mem_free(d);
    if (on_closed)
        on_closed(arg);
}

static void on_idle_closed(uv_handle_t *handle)
{
    dns_handle_closed(CONTAINER_OF((uv_idle_t *)handle, struct dns, idle));
}

static void on_deadline_timer_closed(uv_handle_t *handle)
{
    dns_handle_closed(CONTAINER_OF((uv_timer_t *)handle, struct dns, deadline_timer));
}

static void on_slow_timer_closed(uv_handle_t *handle)
{
    dns_handle_closed(CONTAINER_OF((uv_timer_t *)handle, struct dns, slow_timer));
}

static void on_turn_timer_closed(uv_handle_t *handle)
{
    dns_handle_closed(CONTAINER_OF((uv_timer_t *)handle, struct dns, turn_timer));
}

void dns_close(struct dns *d, void (*on_closed)(void *arg), void *arg)
{
    assert(!d->closing);
    d->closing = true;
    d->on_closed = on_closed;
    d->on_closed_arg = arg;
    free_all(&d->queries, offsetof(struct dns_query, all));
    free_all(&d->ready, offsetof(struct dns_query, ready));
    free_all(&d->delivering, offsetof(struct dns_query, ready));
    dns_lookup_abort_all(d);
    uv_close((uv_handle_t *)&d->idle, on_idle_closed);
    uv_close((uv_handle_t *)&d->deadline_timer, on_deadline_timer_closed);
    uv_close((uv_handle_t *)&d->slow_timer, on_slow_timer_closed);
    uv_close((uv_handle_t *)&d->turn_timer, on_turn_timer_closed);
}

void dns_flush(struct dns *d)
{
    dns_cache_clear(&d->cache);
}

void dns_stats(const struct dns *d, struct dns_stats *out)
{
    *out = d->stats;
    out->cache_entries = d->cache.entries.count;
}

int dns_dnssec(const struct dns *d)
{
    return d->config.dnssec ? atomic_load_explicit(d->config.dnssec, memory_order_relaxed) : 0;
}

size_t dns_server_list(struct dns *d, struct dns_server_view out[8])
{
    dns_servers_refresh(&d->servers, uv_now(d->loop));
    for (size_t i = 0; i < d->servers.count; i++) {
        const struct dns_server *s = &d->servers.list[i];
        out[i] = (struct dns_server_view){s->ip, s->port, s->trusted_ad};
    }
    return d->servers.count;
}

/* ---- delivering ---- */

static void rrset_deliver(struct dns_query *q)
{
    const struct dns_chain *c = &q->chains[0];
    struct dns_rrset set = {.status = c->status, .secure = c->secure, .ttl_s = dns_chain_ttl_s(c)};

    if (c->status == DNS_OK) {
        set.count = c->answer->count;
        set.rdata = mem_alloc((set.count + 1) * sizeof(*set.rdata));
        memcpy(set.rdata, c->answer->records, set.count * sizeof(*set.rdata));
    }
    q->fn.rrset(q->arg, &set);
    mem_free(set.rdata);
}

static void deliver(struct dns_query *q)
{
    q->is_delivered = true;
    switch (q->kind) {
    case DNS_QUERY_MX: dns_mx_deliver(q); break;
    case DNS_QUERY_HOST: dns_host_deliver(q); break;
    case DNS_QUERY_RRSET: rrset_deliver(q); break;
    case DNS_QUERY_NONE: q->fn.later(q->arg); break;
    }
    query_free(q);
}

/* A callback may cancel the others, ask again, or close us. */
static void on_idle(uv_idle_t *idle)
{
    struct dns *d = CONTAINER_OF(idle, struct dns, idle);
    struct list *node;

    list_move_all(&d->delivering, &d->ready);
    while (!d->closing && (node = list_pop(&d->delivering)))
        deliver(LIST_ENTRY(node, struct dns_query, ready));
    if (!d->closing && list_is_empty(&d->ready))
        uv_idle_stop(&d->idle);
}

void dns_query_ready(struct dns_query *q)
{
    struct dns *d = q->d;

    if (q->is_ready)
        return;
    q->is_ready = true;
    list_remove(&q->all);
    list_remove(&q->slow);
    list_push_back(&d->ready, &q->ready);
    uv_idle_start(&d->idle, on_idle);
}

void dns_query_on_chain(struct dns_query *q)
{
    if (q->kind == DNS_QUERY_HOST)
        dns_host_on_chain(q);
    else
        dns_query_ready(q);
}

/* ---- deadlines: askers stand in the order they came, and all have the same time ---- */

static void arm_at(uv_timer_t *timer, uint64_t at_ms, uv_timer_cb fn)
{
    uint64_t now = uv_now(timer->loop);

    uv_timer_start(timer, fn, at_ms > now ? at_ms - now : 0, 0);
}

void dns_query_restart_clock(struct dns_query *q)
{
    q->deadline_ms = uv_now(q->d->loop) + q->d->config.total_ms;
    list_remove(&q->all);
    list_push_back(&q->d->queries, &q->all);
}

static bool is_in_line(const struct dns_query *q)
{
    for (size_t i = 0; i < q->chain_count; i++)
        if (dns_chain_is_in_line(&q->chains[i]))
            return true;
    return false;
}

static void expire(struct dns_query *q)
{
    for (size_t i = 0; i < q->chain_count; i++)
        dns_chain_end(&q->chains[i], DNS_TIMEOUT);
}

static void on_deadline(uv_timer_t *timer)
{
    struct dns *d = CONTAINER_OF(timer, struct dns, deadline_timer);
    struct list *node;

    while ((node = list_first(&d->queries))) {
        struct dns_query *q = LIST_ENTRY(node, struct dns_query, all);
        if (q->deadline_ms > uv_now(d->loop)) {
            arm_at(timer, q->deadline_ms, on_deadline);
            return;
        }
        if (is_in_line(q))
            dns_query_restart_clock(q);
        else
            expire(q);
    }
}

static void on_slow(uv_timer_t *timer)
{
    struct dns *d = CONTAINER_OF(timer, struct dns, slow_timer);
    struct list *node;

    while ((node = list_first(&d->slow))) {
        struct dns_query *q = LIST_ENTRY(node, struct dns_query, slow);
        if (q->slow_until_ms > uv_now(d->loop)) {
            arm_at(timer, q->slow_until_ms, on_slow);
            return;
        }
        expire(q);
    }
}

void dns_slow_arm(struct dns *d)
{
    if (!uv_is_active((uv_handle_t *)&d->slow_timer))
        uv_timer_start(&d->slow_timer, on_slow, DNS_SECOND_FAMILY_MS, 0);
}

/* ---- asking ---- */

static struct dns_query *query_create(struct dns *d, enum dns_query_kind kind, void *arg)
{
    if (d->closing)
        return NULL;
    struct dns_query *q = mem_alloc(sizeof(*q));
    *q = (struct dns_query){.d = d, .kind = kind, .arg = arg};
    list_init(&q->ready);
    list_init(&q->slow);
    uv_update_time(d->loop); /* we may be far from the top of a long iteration */
    q->deadline_ms = uv_now(d->loop) + d->config.total_ms;
    list_push_back(&d->queries, &q->all);
    if (!uv_is_active((uv_handle_t *)&d->deadline_timer))
        arm_at(&d->deadline_timer, q->deadline_ms, on_deadline);
    return q;
}

/* "192.0.2.1" when `bare`, "[192.0.2.1]", "[IPv6:2001:db8::1]": RFC 5321 §4.1.3. */
static bool parse_literal(struct bytes text, bool bare, struct ip *out)
{
    if (text.len > 2 && text.at[0] == '[' && text.at[text.len - 1] == ']') {
        text = bytes_first(bytes_skip(text, 1), text.len - 2);
        if (bytes_istarts(text, BYTES("IPv6:")))
            text = bytes_skip(text, 5);
        return ip_parse(text, out);
    }
    return bare && ip_parse(text, out);
}

/* false: not a name; the query is ready with DNS_BAD_NAME. */
static bool set_name(struct dns_query *q, struct bytes text)
{
    struct dns_name name;

    if (dns_name_parse(text, &name) && dns_name_format(&name, q->name))
        return true;
    q->chain_count = 1;
    q->chains[0].query = q;
    q->chains[0].status = DNS_BAD_NAME;
    q->chains[0].done = true;
    dns_query_ready(q);
    return false;
}

struct dns_query *dns_resolve_mx(struct dns *d, const char *domain, dns_mx_fn fn, void *arg)
{
    struct dns_query *q = query_create(d, DNS_QUERY_MX, arg);
    struct ip no_name;

    if (!q)
        return NULL;
    q->fn.mx = fn;
    if (parse_literal(bytes_of(domain), false, &q->literal)) {
        dns_query_ready(q);
    } else if (set_name(q, ip_parse(bytes_of(domain), &no_name) ? BYTES("") : bytes_of(domain))) {
        q->chain_count = 1;
        dns_chain_start(&q->chains[0], q, DNS_TYPE_MX, q->name);
    }
    return q;
}

struct dns_query *dns_resolve_host(struct dns *d, const char *name, dns_host_fn fn, void *arg)
{
    struct dns_query *q = query_create(d, DNS_QUERY_HOST, arg);

    if (!q)
        return NULL;
    q->fn.host = fn;
    if (parse_literal(bytes_of(name), true, &q->literal)) {
        ip_format(&q->literal, q->name);
        dns_query_ready(q);
    } else if (set_name(q, bytes_of(name))) {
        /* Both are there before the first can be done. */
        q->chain_count = d->config.ipv6 ? 2 : 1;
        if (d->config.ipv6)
            dns_chain_start(&q->chains[0], q, DNS_TYPE_AAAA, q->name);
        dns_chain_start(&q->chains[q->chain_count - 1], q, DNS_TYPE_A, q->name);
    }
    return q;
}

/* Types that ask for data; those from 128 on ask for something else (ANY, AXFR), 41 is OPT. */
static bool is_data_type(uint16_t type)
{
    return type && type != 41 && (type < 128 || type > 255);
}

struct dns_query *dns_resolve_rrset(struct dns *d, const char *name, uint16_t type, dns_rrset_fn fn,
                                    void *arg)
{
    struct dns_query *q = query_create(d, DNS_QUERY_RRSET, arg);

    if (!q)
        return NULL;
    q->fn.rrset = fn;
    if (is_data_type(type) && strcmp(name, ".") == 0) {
        memcpy(q->name, ".", 2);
        q->chain_count = 1;
        dns_chain_start(&q->chains[0], q, type, q->name);
    } else if (set_name(q, is_data_type(type) ? bytes_of(name) : BYTES(""))) {
        q->chain_count = 1;
        dns_chain_start(&q->chains[0], q, type, q->name);
    }
    return q;
}

struct dns_query *dns_later(struct dns *d, dns_later_fn fn, void *arg)
{
    struct dns_query *q = query_create(d, DNS_QUERY_NONE, arg);

    if (!q)
        return NULL;
    q->fn.later = fn;
    dns_query_ready(q);
    return q;
}

void dns_cancel(struct dns_query *q)
{
    if (q && !q->is_delivered) /* it dies with its callback */
        query_free(q);
}
