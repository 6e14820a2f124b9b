/*
 * The limits of a group as its sites meet them.  Each limit is one bucket or pool over all workers, under the
 * group's name, so that a new policy goes on where the old one was; its numbers hold from the next take.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "engine/deliver/deliver_priv.h"

#define BUSY_MAX_MS   60000
#define OPENING_S     0.1  /* links are opened for what a rate lets go in so long, not for all that waits */
#define BUSY_MS       200  /* before full hosts are asked for again, if nobody calls before */
#define RECLAIM_MS    50   /* between two calls on holders without work */
#define CROWDED_MS    1000 /* so long after all hosts were full few links look for room at a time */
#define TURN_WAITS_MS 5000 /* … or for another limit, when that lets it go so soon */

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

void shape_init(struct site *s, note_fn on_turn)
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
    pace_waiter_init(&s->turn.waiter, &s->d->w->inbox, on_turn, s->rules, PACE_RULES);
    buf_putf(&key, "connects:%s", s->group->name);
    s->connects = pace_find(limits, buf_str(&key));
    source_init(s);
}

/* 0: none of them is a limit. */
static double slowest(const struct pace_rule *rules, size_t count)
{
    double least = 0;

    for (size_t i = 0; i < count; i++) {
        double rate = rules[i].units / rules[i].seconds;
        if (rate > 0 && (least <= 0 || rate < least))
            least = rate;
    }
    return least;
}

double shape_messages_per_second(const struct site *s)
{
    return slowest(s->rules, BY_HOUR + 1);
}

double shape_openings(const struct site *s, uint64_t size_bytes)
{
    double rate = shape_messages_per_second(s), bytes = s->rules[BY_BYTES].units;
    double of_source = slowest(s->source_rules, PACE_SOURCE_RULES);

    if (permit_has_waiters(s->pool) || permit_has_waiters(s->global) ||
        permit_in_use(s->pool) > permit_limit(s->pool) / 2)
        return 1; /* others need what would idle here */
    if (bytes > 0 && (rate <= 0 || bytes / (double)(size_bytes + 1) < rate))
        rate = bytes / (double)(size_bytes + 1);
    if (of_source > 0 && (rate <= 0 || of_source < rate))
        rate = of_source;
    return MAX_OF(MAX_OF(rate * OPENING_S, s->group->limits.burst), 1.0);
}

void shape_met(struct site *s, const char *limit, uint64_t until_ms)
{
    s->bound_by = limit;
    s->bound_until_ms = until_ms;
    s->bound_met_ms = worker_now_ms(s->d->w);
}

/* ---- messages ---- */

static void take_turn(struct site *s, uint64_t size_bytes, uint64_t ends_ms)
{
    s->turn.taken = true;
    s->turn.since_ms = worker_now_ms(s->d->w);
    s->turn.ends_ms = ends_ms;
    s->turn.size_bytes = size_bytes;
    s->turn.ask_at_ms = 0;
}

static void ask(struct site *s, uint16_t lane, uint64_t size_bytes)
{
    const double units[PACE_RULES] = {1, 1, 1, (double)size_bytes};
    size_t which = 0;
    uint64_t now_ms = worker_now_ms(s->d->w);
    uint32_t wait_ms = pace_turn(s->messages, &s->turn.waiter, lane, units, clock_now_us(), &which);

    if (!wait_ms) {
        take_turn(s, (uint64_t)s->turn.waiter.units[BY_BYTES], now_ms + TURN_KEPT_MS);
        return;
    }
    s->turn.ask_at_ms = now_ms + wait_ms;
    shape_met(s, pace_names[which], s->turn.ask_at_ms);
    site_set_alarm(s, s->turn.ask_at_ms);
}

bool shape_may_send(struct site *s, uint16_t lane, uint64_t size_bytes)
{
    uint64_t now_ms = worker_now_ms(s->d->w);

    if (!s->is_paced)
        return true;
    if (s->turn.taken && s->turn.ends_ms < now_ms && !s->waits_for_permit)
        shape_release(s); /* its time was used by nobody: it would come on top of the others */
    if (s->turn.taken)
        return true;
    /* In the queue already: it is told when its turn is there. */
    if (s->turn.ask_at_ms <= now_ms || lane_goes_before(lane, s->turn.waiter.lane))
        ask(s, lane, size_bytes);
    return s->turn.taken;
}

void shape_on_turn(struct site *s)
{
    if (s->turn.ask_at_ms)
        ask(s, s->turn.waiter.lane, 0);
}

bool shape_take_message(struct site *s, uint16_t lane, uint64_t size_bytes)
{
    if (!s->is_paced)
        return true;
    if (!shape_may_send(s, lane, size_bytes))
        return false;
    /*
     * A connection had to be opened first, or another message has its turn now than was first then.  Octets
     * count from when they go; messages from when they might have gone, else a slow rate would lose the time
     * of each opening.
     */
    const double taken[PACE_RULES] = {[BY_BYTES] = (double)s->turn.size_bytes};
    const double used[PACE_RULES] = {[BY_BYTES] = (double)size_bytes};
    if (size_bytes != s->turn.size_bytes || s->turn.since_ms < worker_now_ms(s->d->w))
        pace_use(s->messages, s->rules, taken, used, PACE_RULES, clock_now_us());
    s->turn.taken = false;
    return true;
}

void shape_give_message(struct site *s, uint64_t size_bytes, uint64_t until_ms)
{
    uint64_t now_ms = worker_now_ms(s->d->w);

    if (!s->is_paced)
        return;
    shape_release(s);
    take_turn(s, size_bytes, until_ms + TURN_KEPT_MS);
    if (until_ms > now_ms + TURN_WAITS_MS)
        shape_release(s);
}

void shape_keep_turn(struct site *s, uint64_t until_ms)
{
    s->turn.ends_ms = MAX_OF(s->turn.ends_ms, until_ms + TURN_KEPT_MS);
}

bool shape_release(struct site *s)
{
    const double units[PACE_RULES] = {-1, -1, -1, -(double)s->turn.size_bytes};

    source_give_turn(s);
    if (!s->is_paced)
        return false;
    if (TAKE(s->turn.taken))
        pace_add(s->messages, s->rules, units, PACE_RULES, clock_now_us());
    s->turn.ask_at_ms = 0;
    return pace_leave(s->messages, &s->turn.waiter, clock_now_us());
}

/* ---- connections ---- */

static struct bytes line_key(const void *const *who)
{
    return (struct bytes){(const char *)who, sizeof(*who)};
}

/* What it waits for in a line is there.  The site may have gone: `who` is compared, and not followed. */
static void on_called(struct worker *w, void *arg)
{
    const void *who = arg;
    struct site *s = map_remove(&w->deliver->in_line, line_key(&who));

    if (!s)
        return;
    s->in_line = NULL;
    s->calls++;
    s->open_after_ms = 0; /* other limits that it stands for are met again if they hold */
    site_kick(s);
    site_maybe_free(s);
}

void shape_wait_in_line(struct link *link)
{
    struct site *s = link->site;

    if (!link->hosts_were_busy)
        link->calls_heard = s->calls;
    if (s->in_line)
        return;
    s->in_line = s;
    map_put(&s->d->in_line, line_key(&s->in_line), s);
}

void shape_leave_line(struct site *s)
{
    if (s->in_line)
        map_remove(&s->d->in_line, line_key(&s->in_line));
    s->in_line = NULL;
}

void shape_give_permit(struct link *link, struct permit_pool *pool)
{
    const void *who;
    void *home;

    permit_give(pool);
    if (link->d->draining || link->d->closed) /* nothing is begun any more, and workers may have gone */
        return;
    while ((who = permit_next_in_line(pool, worker_now_ms(link->d->w), &home)))
        worker_post(home, on_called, (void *)(uintptr_t)who);
}

bool shape_take_permit(struct link *link, struct permit_pool *pool, const char *limit)
{
    uint64_t now_ms = worker_now_ms(link->d->w);
    uint32_t ask_again_ms;

    if (permit_take_in_line(pool, link->site, link->d->w, now_ms, &ask_again_ms))
        return true;
    shape_wait_in_line(link);
    link->busy_with = limit;
    link->busy_until_ms = ask_again_ms ? now_ms + ask_again_ms : 0;
    return false;
}

static struct permit_pool *take_host(struct link *link, uint32_t limit)
{
    char text[IP_TEXT_BYTES];
    BUF_LOCAL(key);

    buf_putf(&key, "host:%s:%s", link->site->group->name, ip_format(&link->ip, text));
    struct permit_pool *pool = permit_pool_open(link->d->w->shared->limits, buf_str(&key), limit);
    if (shape_take_permit(link, pool, "connections_per_host"))
        return pool;
    permit_pool_close(pool);
    return NULL;
}

enum address_taken shape_take_address(struct link *link)
{
    const struct group_limits *l = &link->site->group->limits;
    enum address_taken taken;

    if (l->connections_per_host) {
        link->host_pool = take_host(link, l->connections_per_host);
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
    struct permit_pool *host = TAKE(link->host_pool);

    if (host) {
        shape_give_permit(link, host);
        permit_pool_close(host);
    }
    source_give_address(link);
}

/* Whoever holds a permit without work gives it up.  Each worker looks through all its sites for that. */
static void call_on_holders(struct site *s)
{
    uint64_t now_ms = worker_now_ms(s->d->w);

    s->reclaim_due = now_ms < s->d->reclaimed_ms + RECLAIM_MS;
    if (s->reclaim_due) {
        s->open_after_ms = MIN_OF(s->open_after_ms, s->d->reclaimed_ms + RECLAIM_MS);
        return;
    }
    s->d->reclaimed_ms = now_ms;
    deliver_reclaim_all(s->d->w->shared);
}

void shape_all_busy(struct link *link)
{
    struct site *s = link->site;
    uint64_t now_ms = worker_now_ms(s->d->w), until_ms = link->busy_until_ms;

    s->crowded_until_ms = now_ms + CROWDED_MS;
    if (link->calls_heard != s->calls) /* there was room meanwhile where it had looked already */
        return;
    s->open_after_ms = until_ms ? MIN_OF(until_ms, now_ms + BUSY_MAX_MS) : now_ms + BUSY_MS;
    if (!until_ms || s->reclaim_due) /* else nobody's permit helps, or all were told */
        call_on_holders(s);
    shape_keep_turn(s, s->open_after_ms);
    site_set_alarm(s, s->open_after_ms);
}

bool shape_is_crowded(const struct site *s)
{
    return s->crowded_until_ms > worker_now_ms(s->d->w);
}

bool shape_is_wanted(const struct link *link)
{
    return (link->host_pool && permit_is_wanted(link->host_pool)) ||
           (link->source_pool && permit_is_wanted(link->source_pool));
}

bool shape_yields(const struct link *link)
{
    uint64_t now_ms = worker_now_ms(link->d->w);

    return (link->host_pool && permit_yield_to_line(link->host_pool, link->site, now_ms)) ||
           (link->source_pool && permit_yield_to_line(link->source_pool, link->site, now_ms));
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
