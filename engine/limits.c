#include "engine/limits.h"

#include <pthread.h>

#include "base/hash.h"
#include "base/mem.h"

#define WINDOW_MS        60000
#define CLIENTS_SWEEP_AT 4096
#define RATE_BURST_US    50000 /* a timer that rings late must not lower the rate */

struct permit_pool {
    pthread_mutex_t lock;
    char *key;                      /* owned */
    uint32_t limit, used, promised; /* promised: turns granted and not yet taken */
    struct list waiters;
};

struct rate {
    char *key;        /* owned */
    uint64_t next_us; /* theoretical time of the next grant */
};

struct client {
    char *key; /* owned */
    uint32_t connections;
    uint64_t window_start_ms;
    uint32_t counts[3]; /* by enum client_event, in this window of a minute */
    uint32_t before[3]; /* in the window before */
};

struct limits {
    pthread_mutex_t lock; /* of the maps, rates and clients */
    struct map pools, rates, clients;
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
    struct rate *r;
    struct client *c;

    if (!l)
        return;
    for (size_t at = 0; (p = map_next(&l->pools, &at));) {
        pthread_mutex_destroy(&p->lock);
        mem_free(p->key);
        mem_free(p);
    }
    for (size_t at = 0; (r = map_next(&l->rates, &at));) {
        mem_free(r->key);
        mem_free(r);
    }
    for (size_t at = 0; (c = map_next(&l->clients, &at));) {
        mem_free(c->key);
        mem_free(c);
    }
    map_fini(&l->pools);
    map_fini(&l->rates);
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
        list_init(&p->waiters);
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
    list_init(&w->node);
}

static bool has_room(const struct permit_pool *p)
{
    return p->limit == 0 || p->used + p->promised < p->limit;
}

/* Under the lock.  Grants turns to those who have waited longest. */
static void serve_waiters(struct permit_pool *p)
{
    while (has_room(p) && !list_is_empty(&p->waiters)) {
        struct permit_waiter *w = LIST_ENTRY(list_pop(&p->waiters), struct permit_waiter, node);
        w->queued = false;
        w->turn = true;
        p->promised++;
        if (!w->noted) {
            w->noted = true;
            inbox_post(w->inbox, &w->note);
        }
    }
}

bool permit_take(struct permit_pool *p, struct permit_waiter *w)
{
    bool taken = false;

    pthread_mutex_lock(&p->lock);
    if (w && w->turn) { /* the permit was kept for us */
        w->turn = false;
        p->promised--;
        taken = p->limit == 0 || p->used < p->limit; /* the limit may have been lowered since */
    } else if (has_room(p) && list_is_empty(&p->waiters)) {
        taken = true;
    }
    if (taken) {
        p->used++;
    } else if (w && !w->queued) {
        w->queued = true;
        list_push_back(&p->waiters, &w->node);
    }
    pthread_mutex_unlock(&p->lock);
    return taken;
}

void permit_give(struct permit_pool *p)
{
    pthread_mutex_lock(&p->lock);
    p->used--;
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
    if (w->queued) {
        list_remove(&w->node);
        w->queued = false;
    } else if (w->turn) {
        w->turn = false;
        p->promised--;
        serve_waiters(p);
    }
    bool noted = w->noted;
    pthread_mutex_unlock(&p->lock);
    return noted;
}

bool permit_has_waiters(struct permit_pool *p)
{
    pthread_mutex_lock(&p->lock);
    bool waiting = !list_is_empty(&p->waiters);
    pthread_mutex_unlock(&p->lock);
    return waiting;
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

uint32_t rate_take(struct limits *l, const char *key, double per_second, uint64_t now_us)
{
    uint64_t gap_us = (uint64_t)(1e6 / per_second);
    uint64_t burst_us = RATE_BURST_US;
    uint32_t wait_ms = 0;

    pthread_mutex_lock(&l->lock);
    struct rate *r = map_find(&l->rates, bytes_of(key));
    if (!r) {
        r = MEM_NEW(struct rate);
        r->key = mem_strdup(key);
        map_put(&l->rates, bytes_of(r->key), r);
    }
    if (r->next_us > now_us + burst_us)
        wait_ms = (uint32_t)((r->next_us - now_us - burst_us) / 1000 + 1);
    else
        r->next_us = MAX_OF(r->next_us, now_us) + gap_us;
    pthread_mutex_unlock(&l->lock);
    return wait_ms;
}

/* ---- clients ---- */

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
    case CLIENT_AUTH_FAILURE: return limits->auth_failures_per_minute;
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
    if (may || event == CLIENT_AUTH_FAILURE)
        c->counts[event]++;
    pthread_mutex_unlock(&l->lock);
    return may;
}

bool client_auth_blocked(struct limits *l, const char *key, const struct client_limits *limits,
                         uint64_t now_ms)
{
    if (!limits->auth_failures_per_minute)
        return false;
    pthread_mutex_lock(&l->lock);
    struct client *c = client_of(l, key, now_ms);
    bool blocked = recent(c, CLIENT_AUTH_FAILURE, now_ms) >= limits->auth_failures_per_minute;
    pthread_mutex_unlock(&l->lock);
    return blocked;
}

void client_gone(struct limits *l, const char *key, uint64_t now_ms)
{
    pthread_mutex_lock(&l->lock);
    struct client *c = client_of(l, key, now_ms);
    if (c->connections)
        c->connections--;
    pthread_mutex_unlock(&l->lock);
}
