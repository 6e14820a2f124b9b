#include "engine/limits.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/hash.h"
#include "base/mem.h"
#include "engine/limits_priv.h"

#define POOLS_SWEEP_AT 4096
#define FOREVER_NS     1e18       /* thirty years: sums of two stay far below 2^64 */
#define CLAIMS_MAX     16         /* places in a line */
#define CLAIM_MS       1000       /* who has not asked again by then wants none any more */
#define ASK_AGAIN_MS   50         /* he is told before, unless nobody who holds one can be reached */
#define LATE_NS        50000000.0 /* a timer that rings late must not lower the rate */
#define KEEPER_LATE_NS 1000000000 /* who has not asked by then is at a worker that stands still */
#define NOT_KEEPER_NS  2000000000 /* how much later than the keeper the others ask: then he is late */

struct claim { /* a place in a line */
    const void *who;
    void *home;
    uint64_t until_ms;
    bool told; /* that there is one for him, since he asked last */
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
    bool wanted;       /* one without a place in the queue went away empty-handed */
    bool is_kept;      /* borrowed for ever; under the lock of all */
    atomic_uint users; /* who opened and did not close it; grows under the lock of all */
};

struct pace {
    pthread_mutex_t lock;
    char *key; /* owned */
    struct bucket buckets[PACE_RULES];
    struct fair_queue waiters;
    const struct pace_waiter *keeper; /* of those that wait: it asks again at `due_ns`; NULL: nobody waits */
    uint64_t due_ns;
};

struct limits *limits_create(void)
{
    struct limits *l = MEM_NEW(struct limits);

    pthread_mutex_init(&l->lock, NULL);
    return l;
}

static void destroy_pool(struct permit_pool *p)
{
    pthread_mutex_destroy(&p->lock);
    fair_fini(&p->waiters);
    mem_free(p->key);
    mem_free(p);
}

void limits_destroy(struct limits *l)
{
    struct permit_pool *p;
    struct pace *pace;

    if (!l)
        return;
    for (size_t at = 0; (p = map_next(&l->pools, &at));)
        destroy_pool(p);
    for (size_t at = 0; (pace = map_next(&l->paces, &at));) {
        pthread_mutex_destroy(&pace->lock);
        fair_fini(&pace->waiters);
        mem_free(pace->key);
        mem_free(pace);
    }
    limits_forget_clients(l);
    map_fini(&l->pools);
    map_fini(&l->paces);
    pthread_mutex_destroy(&l->lock);
    mem_free(l);
}

/* Hosts come from outside: those that nobody connects to just now are forgotten. */
static void sweep_pools(struct limits *l)
{
    struct permit_pool *p;

    for (size_t at = 0; (p = map_next(&l->pools, &at));) {
        if (p->is_kept || atomic_load(&p->users))
            continue;
        map_remove(&l->pools, bytes_of(p->key));
        destroy_pool(p);
    }
}

/* Under the lock. */
static struct permit_pool *pool_of(struct limits *l, const char *key)
{
    struct permit_pool *p = map_find(&l->pools, bytes_of(key));

    if (p)
        return p;
    if (l->pools.count && l->pools.count % POOLS_SWEEP_AT == 0)
        sweep_pools(l);
    p = MEM_NEW(struct permit_pool);
    pthread_mutex_init(&p->lock, NULL);
    fair_init(&p->waiters);
    p->key = mem_strdup(key);
    map_put(&l->pools, bytes_of(p->key), p);
    return p;
}

/* With another limit nobody stands in line by the old one: who did, may be gone with the policy that had it.
 */
static void set_limit(struct permit_pool *p, uint32_t limit)
{
    pthread_mutex_lock(&p->lock);
    if (p->limit != limit)
        p->claim_count = 0;
    p->limit = limit;
    pthread_mutex_unlock(&p->lock);
}

struct permit_pool *permit_pool(struct limits *l, const char *key, uint32_t limit)
{
    pthread_mutex_lock(&l->lock);
    struct permit_pool *p = pool_of(l, key);
    p->is_kept = true;
    pthread_mutex_unlock(&l->lock);
    set_limit(p, limit);
    return p;
}

struct permit_pool *permit_pool_open(struct limits *l, const char *key, uint32_t limit)
{
    pthread_mutex_lock(&l->lock);
    struct permit_pool *p = pool_of(l, key);
    atomic_fetch_add(&p->users, 1);
    pthread_mutex_unlock(&l->lock);
    set_limit(p, limit);
    return p;
}

void permit_pool_close(struct permit_pool *p)
{
    atomic_fetch_sub(&p->users, 1);
}

size_t limits_pool_count(struct limits *l)
{
    pthread_mutex_lock(&l->lock);
    size_t n = l->pools.count;
    pthread_mutex_unlock(&l->lock);
    return n;
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

bool permit_take_in_line(struct permit_pool *p, const void *who, void *home, uint64_t now_ms,
                         uint32_t *ask_again_ms)
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
            p->claims[place] = (struct claim){who, home, now_ms + CLAIM_MS, false};
        p->claim_count += place == p->claim_count && place < CLAIMS_MAX;
    }
    pthread_mutex_unlock(&p->lock);
    return taken;
}

const void *permit_next_in_line(struct permit_pool *p, uint64_t now_ms, void **home)
{
    const void *who = NULL;

    pthread_mutex_lock(&p->lock);
    place_in_line(p, NULL, now_ms);
    for (uint32_t i = 0; i < p->claim_count && p->used + p->promised + i < p->limit; i++) {
        if (p->claims[i].told)
            continue;
        p->claims[i].told = true;
        who = p->claims[i].who;
        *home = p->claims[i].home;
        break;
    }
    /* Who stands behind those that may come now waits for another one yet, of a holder that runs out of work.
     */
    p->wanted |= p->limit && p->used + p->promised + p->claim_count > p->limit;
    pthread_mutex_unlock(&p->lock);
    return who;
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
