/*
 * The limits of a group as its sites meet them.  Each limit is one bucket or pool over all workers, under the
 * group's name, so that a new policy goes on where the old one was; its numbers hold from the next take.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "engine/deliver/deliver_priv.h"

#define BUSY_MAX_MS      60000
#define BUSY_MS          200    /* before full hosts are asked for again */
#define FAILED_HOST_MS   300000 /* how long a host that failed is tried last */
#define FAILED_HOSTS_MAX 4096

enum { BY_SECOND, BY_MINUTE, BY_HOUR, BY_BYTES };
static const char *const pace_names[PACE_RULES] = {
    [BY_SECOND] = "messages_per_second",
    [BY_MINUTE] = "messages_per_minute",
    [BY_HOUR] = "messages_per_hour",
    [BY_BYTES] = "bytes_per_second",
};

/* The slowest rate has the burst: what is quicker still spaces it. */
static void put_burst(struct pace_rule *rules, double burst)
{
    for (int i = BY_HOUR; i >= BY_SECOND; i--) {
        if (rules[i].units > 0) {
            rules[i].burst = burst;
            return;
        }
    }
}

void shape_init(struct site *s)
{
    const struct group_limits *l = &s->group->limits;
    struct limits *limits = s->d->w->shared->limits;
    BUF_LOCAL(key);

    s->rules[BY_SECOND] = (struct pace_rule){l->messages_per_second, 1, 1};
    s->rules[BY_MINUTE] = (struct pace_rule){l->messages_per_minute, 60, 1};
    s->rules[BY_HOUR] = (struct pace_rule){l->messages_per_hour, 3600, 1};
    s->rules[BY_BYTES] = (struct pace_rule){l->bytes_per_second, 1, 1};
    put_burst(s->rules, l->burst);
    for (int i = 0; i < PACE_RULES; i++)
        s->is_paced |= s->rules[i].units > 0;
    buf_putf(&key, "messages:%s", s->group->name);
    s->messages = pace_find(limits, buf_str(&key));
    buf_clear(&key);
    buf_putf(&key, "connects:%s", s->group->name);
    s->connects = pace_find(limits, buf_str(&key));
    source_init(s);
}

double shape_messages_per_second(const struct site *s)
{
    double least = 0;

    for (int i = BY_SECOND; i <= BY_HOUR; i++) {
        double rate = s->rules[i].units / s->rules[i].seconds;
        if (rate > 0 && (least <= 0 || rate < least))
            least = rate;
    }
    return least;
}

void shape_met(struct site *s, const char *limit, uint64_t until_ms)
{
    s->bound_by = limit;
    s->bound_until_ms = until_ms;
    s->bound_met_ms = worker_now_ms(s->d->w);
}

/* ---- messages ---- */

static bool wait_for_pace(struct site *s, uint32_t wait_ms, size_t which)
{
    if (!wait_ms)
        return true;
    s->paced_until_ms = worker_now_ms(s->d->w) + wait_ms;
    shape_met(s, pace_names[which], s->paced_until_ms);
    site_set_alarm(s, s->paced_until_ms);
    return false;
}

bool shape_take_message(struct site *s, uint64_t size_bytes)
{
    const double units[PACE_RULES] = {1, 1, 1, (double)size_bytes};
    size_t which = 0;

    if (!s->is_paced)
        return true;
    if (s->paced_until_ms > worker_now_ms(s->d->w))
        return false;
    uint32_t wait_ms = pace_take(s->messages, s->rules, units, PACE_RULES, clock_now_us(), &which);
    return wait_for_pace(s, wait_ms, which);
}

void shape_give_message(struct site *s, uint64_t size_bytes)
{
    const double units[PACE_RULES] = {1, 1, 1, (double)size_bytes};

    if (s->is_paced)
        pace_give(s->messages, s->rules, units, PACE_RULES, clock_now_us());
}

bool shape_may_send(struct site *s)
{
    size_t which = 0;

    if (!s->is_paced)
        return true;
    if (s->paced_until_ms > worker_now_ms(s->d->w))
        return false;
    uint32_t wait_ms = pace_wait(s->messages, s->rules, PACE_RULES, clock_now_us(), &which);
    return wait_for_pace(s, wait_ms, which);
}

/* ---- connections ---- */

uint32_t shape_take_connect(struct site *s)
{
    const struct frequency *f = &s->group->limits.connection_rate;
    const struct pace_rule rule = {f->count, f->seconds, 1};
    const double one = 1;
    size_t which = 0;

    if (!(f->count > 0))
        return 0;
    uint32_t wait_ms = pace_take(s->connects, &rule, &one, 1, clock_now_us(), &which);
    if (wait_ms)
        shape_met(s, "connection_rate", worker_now_ms(s->d->w) + wait_ms);
    return wait_ms;
}

static struct permit_pool *take_one(struct link *link, const char *kind, const struct ip *ip, uint32_t limit)
{
    char text[IP_TEXT_BYTES];
    BUF_LOCAL(key);

    buf_putf(&key, "%s:%s:%s", kind, link->site->group->name, ip_format(ip, text));
    struct permit_pool *pool = permit_pool(link->d->w->shared->limits, buf_str(&key), limit);
    return permit_take(pool, NULL) ? pool : NULL;
}

enum address_taken shape_take_address(struct link *link)
{
    const struct group_limits *l = &link->site->group->limits;
    enum address_taken taken;

    if (l->connections_per_host) {
        link->host_pool = take_one(link, "host", &link->ip, l->connections_per_host);
        link->busy_with = "connections_per_host";
        link->busy_until_ms = 0;
        if (!link->host_pool)
            return ADDRESS_BUSY;
    }
    taken = source_take_address(link);
    if (taken != ADDRESS_TAKEN)
        shape_give_address(link);
    return taken;
}

void shape_give_address(struct link *link)
{
    if (link->host_pool)
        permit_give(TAKE(link->host_pool));
    source_give_address(link);
}

static void reclaim(struct worker *w, void *arg)
{
    (void)arg;
    deliver_reclaim(w->deliver);
}

void shape_all_busy(struct site *s, uint64_t until_ms)
{
    struct shared *shared = s->d->w->shared;
    uint64_t now_ms = worker_now_ms(s->d->w);

    s->open_after_ms = until_ms ? MIN_OF(until_ms, now_ms + BUSY_MAX_MS) : now_ms + BUSY_MS;
    site_set_alarm(s, s->open_after_ms);
    if (until_ms) /* nobody's permit helps */
        return;
    for (unsigned i = 0; i < shared->worker_count; i++) /* whoever holds one without work gives it up */
        worker_post(shared->workers[i], reclaim, NULL);
}

bool shape_is_wanted(const struct link *link)
{
    return (link->host_pool && permit_is_wanted(link->host_pool)) ||
           (link->source_pool && permit_is_wanted(link->source_pool));
}

/* ---- seeing ---- */

json_t *shape_json(const struct site *s, uint64_t now_ms)
{
    if (!s->bound_by || (s->bound_until_ms ? s->bound_until_ms <= now_ms : !s->waits_for_permit))
        return NULL;
    json_t *json = json_pack("{s:s}", "limit", s->bound_by);
    if (s->bound_until_ms)
        json_object_set_new(json, "milliseconds_left",
                            json_integer((json_int_t)(s->bound_until_ms - now_ms)));
    return json;
}

/* ---- hosts that failed ---- */

static struct failed_host *find_failed(struct deliver *d, const char *name, uint16_t port)
{
    BUF_LOCAL(key);

    buf_putf(&key, "%s:%u", name, port);
    return map_find(&d->failed_hosts, buf_bytes(&key));
}

static void drop_failed(struct deliver *d, struct failed_host *h)
{
    map_remove(&d->failed_hosts, bytes_of(h->key));
    mem_free(h->key);
    mem_free(h);
}

void failed_host_remember(struct deliver *d, const char *name, uint16_t port)
{
    struct failed_host *h = find_failed(d, name, port);

    if (!h) {
        BUF_LOCAL(key);
        if (d->failed_hosts.count >= FAILED_HOSTS_MAX)
            failed_hosts_fini(d);
        buf_putf(&key, "%s:%u", name, port);
        h = MEM_NEW(struct failed_host);
        h->key = mem_strdup(buf_str(&key));
        map_put(&d->failed_hosts, bytes_of(h->key), h);
    }
    h->until_ms = worker_now_ms(d->w) + FAILED_HOST_MS;
}

void failed_host_forget(struct deliver *d, const char *name, uint16_t port)
{
    struct failed_host *h = d->failed_hosts.count ? find_failed(d, name, port) : NULL;

    if (h)
        drop_failed(d, h);
}

uint64_t failed_host_left_ms(struct deliver *d, const char *name, uint16_t port)
{
    uint64_t now = worker_now_ms(d->w);
    struct failed_host *h = d->failed_hosts.count ? find_failed(d, name, port) : NULL;

    if (!h)
        return 0;
    if (h->until_ms > now)
        return h->until_ms - now;
    drop_failed(d, h);
    return 0;
}

void failed_hosts_fini(struct deliver *d)
{
    struct failed_host *h;

    for (size_t at = 0; (h = map_next(&d->failed_hosts, &at));) {
        mem_free(h->key);
        mem_free(h);
    }
    map_fini(&d->failed_hosts);
}
