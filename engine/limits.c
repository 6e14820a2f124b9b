#include "engine/limits.h"

#include <pthread.h>
#include <stdio.h>

#include "base/hash.h"
#include "base/mem.h"

#define WINDOW_MS        60000
#define CLIENTS_SWEEP_AT 4096
#define FOREVER_NS       1e18 /* thirty years: sums of two stay far below 2^64 */
#define CLAIMS_MAX       16   /* places in a line */
#define CLAIM_MS         1000 /* who has not asked again by then wants none any more */
#define ASK_AGAIN_MS     50
#define LATE_NS          50000000.0 /* a timer that rings late must not lower the rate */
#define KEEPER_LATE_NS   1000000000 /* who has not asked by then is at a worker that stands still */
#define NOT_KEEPER_NS    2000000000 /* how much later than the keeper the others ask: then he is late */

struct claim { /* a place in a line */
    const void *who;
    uint64_t until_ms;
};

struct permit_pool {
    pthread_mutex_t lock;
    char *key;                      /* owned */
    uint32_t limit, used, promised; /* promised: turns granted and not yet taken */
    struct fair_queue waiters;
    uint32_t waiting;                /* in it */
    uint32_t yielding;               /* holders that were asked to give theirs up and have not yet */
    struct claim claims[CLAIMS_MAX]; /* first come, first served */
    uint32_t claim_count;
    bool wanted; /* one without a place in the queue went away empty-handed */
};

struct pace {
    pthread_mutex_t lock;
    char *key; /* owned */
    struct bucket buckets[PACE_RULES];
    struct fair_queue waiters;
    const struct pace_waiter *keeper; /* of those that wait: it asks again at `due_ns`; NULL: nobody waits */
    uint64_t due_ns;
};

struct client {
    char *key; /* owned */
    uint32_t connections;
    uint64_t window_start_ms;
    uint32_t counts[3]; /* by enum client_event, in this window of a minute */
    uint32_t before[3]; /* in the window before */
};

struct limits {
    pthread_mutex_t lock; /* of the maps and clients */
    struct map pools, paces, clients;
};

struct limits *limits_create(void)
{
    struct limits *l = MEM_NEW(struct limits);

    pthread_mutex_init(&l->lock, NULL);
    return l;
}

void limits_destroy(struct limits *l)
{
    struct permit_pool *p;
    struct pace *pace;
    struct client *c;

    if (!l)
        return;
    for (size_t at = 0; (p = map_next(&l->pools, &at));) {
        pthread_mutex_destroy(&p->lock);
        fair_fini(&p->waiters);
        mem_free(p->key);
        mem_free(p);
    }
    for (size_t at = 0; (pace = map_next(&l->paces, &at));) {
        pthread_mutex_destroy(&pace->lock);
        fair_fini(&pace->waiters);
        mem_free(pace->key);
        mem_free(pace);
    }
    for (size_t at = 0; (c = map_next(&l->clients, &at));) {
        mem_free(c->key);
        mem_free(c);
    }
    map_fini(&l->pools);
    map_fini(&l->paces);
    map_fini(&l->clients);
    pthread_mutex_destroy(&l->lock);
    mem_free(l);
}

struct permit_pool *permit_pool(struct limits *l, const char *key, uint32_t limit)
{
    pthread_mutex_lock(&l->lock);
    struct permit_pool *p = map_find(&l->pools, bytes_of(key));
    if (!p) {
        p = MEM_NEW(struct permit_pool);
        pthread_mutex_init(&p->lock, NULL);
        fair_init(&p->waiters);
        p->key = mem_strdup(key);
        map_put(&l->pools, bytes_of(p->key), p);
    }
    pthread_mutex_unlock(&l->lock);
    pthread_mutex_lock(&p->lock);
    p->limit = limit;
    pthread_mutex_unlock(&p->lock);
    return p;
}

void permit_waiter_init(struct permit_waiter *w, struct inbox *inbox, note_fn run)
{
    *w = (struct permit_waiter){.note.run = run, .inbox = inbox};
    list_init(&w->place.node);
}

static bool has_room(const struct permit_pool *p)
{
    return p->limit == 0 || p->used + p->promised < p->limit;
}

/* Under the lock. */
static void enqueue(struct permit_pool *p, struct permit_waiter *w, uint16_t lane)
{
    w->lane = lane;
    fair_put(&p->waiters, &w->place, lane);
    p->waiting++;
}

static void dequeue(struct permit_pool *p, struct permit_waiter *w)
{
    fair_remove(&p->waiters, &w->place);
    p->waiting--;
}

/* Under the lock.  Grants turns to those whose they are. */
static void serve_waiters(struct permit_pool *p)
{
    while (p->waiting && has_room(p)) {
        struct permit_waiter *w =
            CONTAINER_OF(fair_next(&p->waiters, NULL, NULL), struct permit_waiter, place);
        fair_took(&p->waiters, &w->place);
        dequeue(p, w);
        w->turn = true;
        p->promised++;
        if (!w->noted) {
            w->noted = true;
            inbox_post(w->inbox, &w->note);
        }
    }
}

bool permit_take(struct permit_pool *p, struct permit_waiter *w, uint16_t lane)
{
    bool taken = false;

    pthread_mutex_lock(&p->lock);
    if (w && w->turn) { /* the permit was kept for us */
        w->turn = false;
        p->promised--;
        taken = p->limit == 0 || p->used < p->limit; /* the limit may have been lowered since */
    } else if (has_room(p) && !p->waiting) {
        taken = true;
    }
    if (taken) {
        p->used++;
    } else if (w && !w->place.flow) {
        enqueue(p, w, lane);
    } else if (!w) {
        p->wanted = true;
    }
    pthread_mutex_unlock(&p->lock);
    return taken;
}

void permit_urge(struct permit_pool *p, struct permit_waiter *w, uint16_t lane)
{
    pthread_mutex_lock(&p->lock);
    if (w->place.flow && lane_goes_before(lane, w->lane)) {
        dequeue(p, w);
        enqueue(p, w, lane);
    }
    pthread_mutex_unlock(&p->lock);
}

void permit_give(struct permit_pool *p)
{
    pthread_mutex_lock(&p->lock);
    p->used--;
    p->yielding -= p->yielding > 0;
    p->wanted = false;
    serve_waiters(p);
    pthread_mutex_unlock(&p->lock);
}

void permit_heard(struct permit_pool *p, struct permit_waiter *w)
{
    pthread_mutex_lock(&p->lock);
    w->noted = false;
    pthread_mutex_unlock(&p->lock);
}

bool permit_cancel(struct permit_pool *p, struct permit_waiter *w)
{
    pthread_mutex_lock(&p->lock);
    if (w->place.flow) {
        dequeue(p, w);
    } else if (w->turn) {
        w->turn = false;
        p->promised--;
        serve_waiters(p);
    }
    bool noted = w->noted;
    pthread_mutex_unlock(&p->lock);
    return noted;
}

/* Under the lock.  Those who ask no more leave; the place of `who`, or claim_count. */
static uint32_t place_in_line(struct permit_pool *p, const void *who, uint64_t now_ms)
{
    uint32_t kept = 0, place = UINT32_MAX;

    for (uint32_t i = 0; i < p->claim_count; i++) {
        if (p->claims[i].until_ms < now_ms)
            continue;
        if (p->claims[i].who == who)
            place = kept;
        p->claims[kept++] = p->claims[i];
    }
    p->claim_count = kept;
    return MIN_OF(place, kept);
}

static void leave_line(struct permit_pool *p, uint32_t place)
{
    if (place == p->claim_count)
        return;
    p->claim_count--;
    for (uint32_t i = place; i < p->claim_count; i++)
        p->claims[i] = p->claims[i + 1];
}

bool permit_take_in_line(struct permit_pool *p, const void *who, uint64_t now_ms, uint32_t *ask_again_ms)
{
    pthread_mutex_lock(&p->lock);
    uint32_t place = place_in_line(p, who, now_ms);
    bool taken = p->limit == 0 || p->used + p->promised + place < p->limit;
    *ask_again_ms = 0;
    if (taken) {
        leave_line(p, place);
        p->used++;
    } else {
        p->wanted = true;
        if (place < p->claim_count)
            *ask_again_ms = ASK_AGAIN_MS;
        if (place < CLAIMS_MAX)
            p->claims[place] = (struct claim){who, now_ms + CLAIM_MS};
        p->claim_count += place == p->claim_count && place < CLAIMS_MAX;
    }
    pthread_mutex_unlock(&p->lock);
    return taken;
}

bool permit_yield_to_line(struct permit_pool *p, const void *who, uint64_t now_ms)
{
    pthread_mutex_lock(&p->lock);
    uint32_t place = place_in_line(p, who, now_ms);
    uint32_t others = p->claim_count - (place < p->claim_count);
    bool yield = others > p->yielding && p->used >= p->limit && p->limit;
    p->yielding += yield;
    pthread_mutex_unlock(&p->lock);
    return yield;
}

bool permit_has_waiters(struct permit_pool *p)
{
    pthread_mutex_lock(&p->lock);
    bool waiting = p->waiting > 0;
    pthread_mutex_unlock(&p->lock);
    return waiting;
}

bool permit_yield(struct permit_pool *p, const struct permit_waiter *but)
{
    pthread_mutex_lock(&p->lock);
    bool yield = p->waiting - (but->place.flow != NULL) > p->yielding;
    p->yielding += yield;
    pthread_mutex_unlock(&p->lock);
    return yield;
}

bool permit_is_wanted(struct permit_pool *p)
{
    pthread_mutex_lock(&p->lock);
    bool wanted = p->wanted;
    pthread_mutex_unlock(&p->lock);
    return wanted;
}

uint32_t permit_in_use(struct permit_pool *p)
{
    pthread_mutex_lock(&p->lock);
    uint32_t used = p->used;
    pthread_mutex_unlock(&p->lock);
    return used;
}

uint32_t permit_limit(struct permit_pool *p)
{
    pthread_mutex_lock(&p->lock);
    uint32_t limit = p->limit;
    pthread_mutex_unlock(&p->lock);
    return limit;
}

/* ---- paces ---- */

static uint64_t span_ns(double units, double gap_ns)
{
    return (uint64_t)MIN_OF(units * gap_ns, FOREVER_NS);
}

/* What is owed stays owed in units: with another rate it takes another time. */
static void heed_rule(struct bucket *b, const struct pace_rule *rule, uint64_t now_ns)
{
    double gap_ns = MIN_OF(rule->seconds * 1e9 / rule->units, FOREVER_NS);

    if (b->gap_ns != gap_ns && b->gap_ns > 0 && b->next_ns > now_ns)
        b->next_ns = now_ns + span_ns((double)(b->next_ns - now_ns) / b->gap_ns, gap_ns);
    b->gap_ns = gap_ns;
}

uint64_t bucket_wait_ns(struct bucket *b, const struct pace_rule *rule, uint64_t now_ns)
{
    if (!(rule->units > 0))
        return 0;
    heed_rule(b, rule, now_ns);
    uint64_t go_ns = now_ns + MAX_OF(span_ns(rule->burst - 1, b->gap_ns), (uint64_t)LATE_NS);

    return b->next_ns > go_ns ? b->next_ns - go_ns : 0;
}

void bucket_take(struct bucket *b, const struct pace_rule *rule, double units, uint64_t now_ns)
{
    if (!(rule->units > 0))
        return;
    heed_rule(b, rule, now_ns);
    if (units < 0)
        b->next_ns -= MIN_OF(b->next_ns, span_ns(-units, b->gap_ns));
    else
        b->next_ns = MAX_OF(b->next_ns, now_ns) + span_ns(units, b->gap_ns);
}

struct pace *pace_find(struct limits *l, const char *key)
{
    pthread_mutex_lock(&l->lock);
    struct pace *p = map_find(&l->paces, bytes_of(key));
    if (!p) {
        p = MEM_NEW(struct pace);
        pthread_mutex_init(&p->lock, NULL);
        fair_init(&p->waiters);
        p->key = mem_strdup(key);
        map_put(&l->paces, bytes_of(p->key), p);
    }
    pthread_mutex_unlock(&l->lock);
    return p;
}

/* Under the lock. */
static uint64_t longest_wait_ns(struct pace *p, const struct pace_rule *rules, size_t count, uint64_t now_ns,
                                size_t *which)
{
    uint64_t longest = 0;

    for (size_t i = 0; i < count; i++) {
        uint64_t wait_ns = bucket_wait_ns(&p->buckets[i], &rules[i], now_ns);
        if (wait_ns > longest) {
            longest = wait_ns;
            *which = i;
        }
    }
    return longest;
}

static void take_all(struct pace *p, const struct pace_rule *rules, const double *units, double sign,
                     size_t count, uint64_t now_ns)
{
    for (size_t i = 0; i < count; i++)
        bucket_take(&p->buckets[i], &rules[i], sign * units[i], now_ns);
}

static uint32_t to_ms(uint64_t wait_ns)
{
    return wait_ns ? (uint32_t)MIN_OF(wait_ns / 1000000 + 1, (uint64_t)UINT32_MAX) : 0;
}

uint32_t pace_take(struct pace *p, const struct pace_rule *rules, const double *units, size_t count,
                   uint64_t now_us, size_t *which)
{
    uint64_t now_ns = now_us * 1000;

    pthread_mutex_lock(&p->lock);
    uint64_t wait_ns = longest_wait_ns(p, rules, count, now_ns, which);
    if (!wait_ns)
        take_all(p, rules, units, 1, count, now_ns);
    pthread_mutex_unlock(&p->lock);
    return to_ms(wait_ns);
}

uint32_t pace_book(struct pace *p, const struct pace_rule *rule, double units, uint64_t now_us)
{
    uint64_t now_ns = now_us * 1000;
    size_t which;

    pthread_mutex_lock(&p->lock);
    uint64_t wait_ns = longest_wait_ns(p, rule, 1, now_ns, &which);
    bucket_take(&p->buckets[0], rule, units, now_ns);
    pthread_mutex_unlock(&p->lock);
    return to_ms(wait_ns);
}

uint32_t pace_wait(struct pace *p, const struct pace_rule *rules, size_t count, uint64_t now_us,
                   size_t *which)
{
    pthread_mutex_lock(&p->lock);
    uint64_t wait_ns = longest_wait_ns(p, rules, count, now_us * 1000, which);
    pthread_mutex_unlock(&p->lock);
    return to_ms(wait_ns);
}

/* ---- their queue ---- */

void pace_waiter_init(struct pace_waiter *w, struct inbox *inbox, note_fn run, const struct pace_rule *rules,
                      size_t count)
{
    *w = (struct pace_waiter){.note.run = run, .inbox = inbox, .rules = rules, .count = count};
    list_init(&w->place.node);
}

static void tell(struct pace_waiter *w, const struct pace_waiter *caller)
{
    if (w == caller || w->noted)
        return;
    w->noted = true;
    inbox_post(w->inbox, &w->note);
}

static void leave_queue(struct pace *p, struct pace_waiter *w)
{
    fair_remove(&p->waiters, &w->place);
    if (p->keeper == w)
        p->keeper = NULL;
}

/* Under the lock.  Grants what is due, and sees that somebody keeps the clock; `caller` knows without a note.
 */
static void serve_paced(struct pace *p, uint64_t now_ns, const struct pace_waiter *caller)
{
    struct fair_entry *e;

    while ((e = fair_next(&p->waiters, NULL, NULL))) {
        struct pace_waiter *w = CONTAINER_OF(e, struct pace_waiter, place);
        size_t which;
        uint64_t wait_ns = longest_wait_ns(p, w->rules, w->count, now_ns, &which);
        if (wait_ns) {
            if (!p->keeper || now_ns > p->due_ns + KEEPER_LATE_NS) {
                p->keeper = caller && caller->place.flow ? caller : w;
                if (p->keeper == w)
                    tell(w, caller);
            }
            p->due_ns = now_ns + wait_ns;
            return;
        }
        take_all(p, w->rules, w->units, 1, w->count, now_ns);
        fair_took(&p->waiters, &w->place);
        leave_queue(p, w);
        w->taken = true;
        tell(w, caller);
    }
}

uint32_t pace_turn(struct pace *p, struct pace_waiter *w, uint16_t lane, const double *units, uint64_t now_us,
                   size_t *which)
{
    uint64_t now_ns = now_us * 1000, wait_ns = 0;

    pthread_mutex_lock(&p->lock);
    if (!w->taken) {
        if (!w->place.flow) {
            for (size_t i = 0; i < w->count; i++)
                w->units[i] = units[i];
            fair_put(&p->waiters, &w->place, w->lane = lane);
        } else if (lane_goes_before(lane, w->lane)) {
            fair_remove(&p->waiters, &w->place);
            fair_put(&p->waiters, &w->place, w->lane = lane);
        }
        serve_paced(p, now_ns, w);
        if (!w->taken)
            wait_ns =
                longest_wait_ns(p, w->rules, w->count, now_ns, which) + (p->keeper == w ? 0 : NOT_KEEPER_NS);
    }
    w->taken = false;
    pthread_mutex_unlock(&p->lock);
    return to_ms(wait_ns);
}

void pace_heard(struct pace *p, struct pace_waiter *w)
{
    pthread_mutex_lock(&p->lock);
    w->noted = false;
    pthread_mutex_unlock(&p->lock);
}

bool pace_leave(struct pace *p, struct pace_waiter *w, uint64_t now_us)
{
    uint64_t now_ns = now_us * 1000;

    pthread_mutex_lock(&p->lock);
    if (w->place.flow)
        leave_queue(p, w);
    else if (w->taken)
        take_all(p, w->rules, w->units, -1, w->count, now_ns);
    w->taken = false;
    serve_paced(p, now_ns, NULL);
    bool noted = w->noted;
    pthread_mutex_unlock(&p->lock);
    return noted;
}

void pace_add(struct pace *p, const struct pace_rule *rules, const double *units, size_t count,
              uint64_t now_us)
{
    pthread_mutex_lock(&p->lock);
    take_all(p, rules, units, 1, count, now_us * 1000);
    serve_paced(p, now_us * 1000, NULL); /* what was given back is due for others */
    pthread_mutex_unlock(&p->lock);
}

void pace_use(struct pace *p, const struct pace_rule *rules, const double *taken, const double *used,
              size_t count, uint64_t now_us)
{
    pthread_mutex_lock(&p->lock);
    take_all(p, rules, taken, -1, count, now_us * 1000);
    take_all(p, rules, used, 1, count, now_us * 1000);
    pthread_mutex_unlock(&p->lock);
}

void pace_give(struct pace *p, const struct pace_rule *rules, const double *units, size_t count,
               uint64_t now_us)
{
    double back[PACE_RULES] = {0};

    for (size_t i = 0; i < count; i++)
        back[i] = -units[i];
    pace_add(p, rules, back, count, now_us);
}

/* ---- clients ---- */

char *client_key_of(const struct ip *ip, char out[CLIENT_KEY_BYTES])
{
    struct ip_net net = {.base = *ip, .prefix = 64};
    char text[IP_TEXT_BYTES];

    if (ip->family == 6)
        memset(net.base.octets + 8, 0, 8);
    snprintf(out, CLIENT_KEY_BYTES, "ip:%s",
             ip->family == 6 ? ip_net_format(&net, text) : ip_format(ip, text));
    return out;
}

static void turn_window(struct client *c, uint64_t now_ms)
{
    uint64_t age = now_ms - c->window_start_ms;

    if (age < WINDOW_MS)
        return;
    for (size_t i = 0; i < COUNT_OF(c->counts); i++) {
        c->before[i] = age < 2 * WINDOW_MS ? c->counts[i] : 0;
        c->counts[i] = 0;
    }
    c->window_start_ms = age < 2 * WINDOW_MS ? c->window_start_ms + WINDOW_MS : now_ms;
}

/* Sliding estimate over the last minute: what is left of the window before counts in proportion. */
static uint32_t recent(const struct client *c, enum client_event event, uint64_t now_ms)
{
    uint64_t left = WINDOW_MS - MIN_OF(now_ms - c->window_start_ms, (uint64_t)WINDOW_MS);

    return c->counts[event] + (uint32_t)(c->before[event] * left / WINDOW_MS);
}

/* Addresses come from outside: those that did nothing for two minutes are forgotten. */
static void sweep(struct limits *l, uint64_t now_ms)
{
    struct client *c;

    for (size_t at = 0; (c = map_next(&l->clients, &at));) {
        if (c->connections || now_ms - c->window_start_ms < 2 * WINDOW_MS)
            continue;
        map_remove(&l->clients, bytes_of(c->key));
        mem_free(c->key);
        mem_free(c);
    }
}

static struct client *client_of(struct limits *l, const char *key, uint64_t now_ms)
{
    struct client *c = map_find(&l->clients, bytes_of(key));

    if (!c) {
        if (l->clients.count && l->clients.count % CLIENTS_SWEEP_AT == 0)
            sweep(l, now_ms);
        c = MEM_NEW(struct client);
        c->key = mem_strdup(key);
        c->window_start_ms = now_ms;
        map_put(&l->clients, bytes_of(c->key), c);
    }
    turn_window(c, now_ms);
    return c;
}

static uint32_t limit_of(const struct client_limits *limits, enum client_event event)
{
    switch (event) {
    case CLIENT_CONNECT: return limits->connections_per_minute;
    case CLIENT_MESSAGE: return limits->messages_per_minute;
    case CLIENT_AUTH_FAILURE: break; /* client_may_authenticate */
    }
    return 0;
}

bool client_may(struct limits *l, const char *key, const struct client_limits *limits,
                enum client_event event, uint64_t now_ms)
{
    pthread_mutex_lock(&l->lock);
    struct client *c = client_of(l, key, now_ms);
    uint32_t limit = limit_of(limits, event);
    bool may = !limit || recent(c, event, now_ms) < limit;
    if (event == CLIENT_CONNECT && limits->connections && c->connections >= limits->connections)
        may = false;
    if (may && event == CLIENT_CONNECT)
        c->connections++;
    if (may)
        c->counts[event]++;
    pthread_mutex_unlock(&l->lock);
    return may;
}

/* Users are counted in so many classes: names come from outside, and most are guessed. */
#define USER_CLASSES 4096

static char *user_key(const char *user, char out[CLIENT_KEY_BYTES])
{
    snprintf(out, CLIENT_KEY_BYTES, "user:%u", (unsigned)(hash_bytes(bytes_of(user)) % USER_CLASSES));
    return out;
}

static uint32_t auth_failures(struct limits *l, const char *key, uint64_t now_ms)
{
    return recent(client_of(l, key, now_ms), CLIENT_AUTH_FAILURE, now_ms);
}

bool client_may_authenticate(struct limits *l, const char *key, const char *user,
                             const struct client_limits *limits, uint64_t now_ms)
{
    uint32_t most = limits->auth_failures_per_minute;
    char text[CLIENT_KEY_BYTES];

    if (!most)
        return true;
    pthread_mutex_lock(&l->lock);
    uint32_t failed = auth_failures(l, key, now_ms);
    bool may = failed < most && (!user || !failed || auth_failures(l, user_key(user, text), now_ms) < most);
    pthread_mutex_unlock(&l->lock);
    return may;
}

void client_auth_failed(struct limits *l, const char *key, const char *user, uint64_t now_ms)
{
    char text[CLIENT_KEY_BYTES];

    pthread_mutex_lock(&l->lock);
    client_of(l, key, now_ms)->counts[CLIENT_AUTH_FAILURE]++;
    client_of(l, user_key(user, text), now_ms)->counts[CLIENT_AUTH_FAILURE]++;
    pthread_mutex_unlock(&l->lock);
}

void client_gone(struct limits *l, const char *key, uint64_t now_ms)
{
    pthread_mutex_lock(&l->lock);
    struct client *c = client_of(l, key, now_ms);
    if (c->connections)
        c->connections--;
    pthread_mutex_unlock(&l->lock);
}
