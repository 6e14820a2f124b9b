#include "engine/campaign_guard.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "policy/classify.h"

#define CAMPAIGNS_MAX 10000

struct watched {
    uint32_t attempts, unknown, blocked; /* of the N under way */
    uint32_t held;                       /* operations in work that stop it */
    bool judged;                         /* N were full once */
    bool tripped;
    char why[GUARD_WHY_BYTES];
    struct outcome *last; /* owned: that counted against it; NULL: none did */
    size_t len;
    char id[];
};

struct campaign_guard {
    pthread_mutex_t lock;
    struct map by_id;
    atomic_size_t stopped; /* in by_id: tripped or held */
    atomic_ulong trips;    /* ever */
};

struct campaign_guard *campaign_guard_create(void)
{
    struct campaign_guard *g = MEM_NEW(struct campaign_guard);

    pthread_mutex_init(&g->lock, NULL);
    return g;
}

static void destroy(struct watched *w)
{
    mem_free(w->last);
    mem_free(w);
}

static void forget_all(struct campaign_guard *g)
{
    struct watched *w;

    for (size_t at = 0; (w = map_next(&g->by_id, &at));)
        destroy(w);
    map_fini(&g->by_id);
    g->by_id = (struct map){0};
    atomic_store(&g->stopped, 0);
}

void campaign_guard_destroy(struct campaign_guard *g)
{
    if (!g)
        return;
    forget_all(g);
    pthread_mutex_destroy(&g->lock);
    mem_free(g);
}

static struct watched *find(struct campaign_guard *g, const char *campaign)
{
    struct watched *w = map_find(&g->by_id, bytes_of(campaign));

    if (w)
        return w;
    if (g->by_id.count >= CAMPAIGNS_MAX && !g->stopped)
        forget_all(g);
    size_t len = strlen(campaign);
    w = mem_zalloc(sizeof(*w) + len + 1);
    w->len = len;
    memcpy(w->id, campaign, len);
    map_put(&g->by_id, bytes_make(w->id, w->len), w);
    return w;
}

static void set_stop(struct campaign_guard *g, struct watched *w, bool tripped, uint32_t held)
{
    bool was = w->tripped || w->held;

    w->tripped = tripped;
    w->held = held;
    if (was && !tripped && !held)
        atomic_fetch_sub(&g->stopped, 1);
    else if (!was && (tripped || held))
        atomic_fetch_add(&g->stopped, 1);
}

static bool passes(uint32_t part, int64_t percent, uint32_t whole)
{
    return percent && (uint64_t)part * 100 >= (uint64_t)percent * whole;
}

/* At the end of N attempts; and once there were N before, as soon as the next N cannot become better any
 * more. */
static void decide(struct campaign_guard *g, const struct conf *conf, struct watched *w)
{
    uint32_t whole = (uint32_t)conf->guard.after;
    bool full = w->attempts >= whole;
    uint32_t of = full ? w->attempts : whole;
    bool unknown = passes(w->unknown, conf->guard.unknown_percent, of);
    bool blocked = passes(w->blocked, conf->guard.blocked_percent, of);

    if (unknown || blocked) {
        snprintf(w->why, sizeof(w->why), "of its last %u attempts %u met %s; campaigns.%s is %lld %%",
                 w->attempts, unknown ? w->unknown : w->blocked, unknown ? "an unknown user" : "a block",
                 unknown ? "guard_unknown" : "guard_blocked",
                 (long long)(unknown ? conf->guard.unknown_percent : conf->guard.blocked_percent));
        set_stop(g, w, true, w->held);
        atomic_fetch_add_explicit(&g->trips, 1, memory_order_relaxed);
    }
    w->judged = true;
    if (full || w->tripped)
        w->attempts = w->unknown = w->blocked = 0;
}

void campaign_guard_note(struct campaign_guard *g, const struct conf *conf, const char *campaign,
                         const struct outcome *o)
{
    enum outcome_class class = classify_outcome(o);
    bool unknown = class == CLASS_MAILBOX_UNKNOWN || class == CLASS_DOMAIN_UNKNOWN;
    bool blocked = class == CLASS_SPAM_BLOCK;

    if (!conf->guard.after || !campaign || !*campaign)
        return;
    if (!unknown && !blocked && o->kind != OUTCOME_DELIVERED && o->kind != OUTCOME_BOUNCED)
        return;
    pthread_mutex_lock(&g->lock);
    struct watched *w = find(g, campaign);
    if (!w->tripped) { /* what was on its way then says nothing about the time after it */
        w->attempts++;
        w->unknown += unknown;
        w->blocked += blocked;
        if (unknown || blocked) {
            if (!w->last)
                w->last = MEM_NEW(struct outcome);
            *w->last = *o;
        }
        if (w->judged ? unknown || blocked || w->attempts >= (uint64_t)conf->guard.after
                      : w->attempts >= (uint64_t)conf->guard.after)
            decide(g, conf, w);
    }
    pthread_mutex_unlock(&g->lock);
}

char *campaign_guard_take(struct campaign_guard *g, char why[GUARD_WHY_BYTES], struct outcome *last)
{
    struct watched *w;
    char *id = NULL;

    pthread_mutex_lock(&g->lock);
    for (size_t at = 0; g->stopped && !id && (w = map_next(&g->by_id, &at));) {
        if (!w->tripped)
            continue;
        id = mem_strdup(w->id);
        memcpy(why, w->why, GUARD_WHY_BYTES);
        *last = *w->last; /* a threshold is one percent at least */
    }
    pthread_mutex_unlock(&g->lock);
    return id;
}

/* What has nothing to remember takes no place. */
static void forget_idle(struct campaign_guard *g, struct watched *w)
{
    if (w->tripped || w->held || w->judged || w->attempts)
        return;
    map_remove(&g->by_id, bytes_make(w->id, w->len));
    destroy(w);
}

void campaign_guard_done(struct campaign_guard *g, const char *campaign)
{
    pthread_mutex_lock(&g->lock);
    struct watched *w = map_find(&g->by_id, bytes_of(campaign));
    if (w && w->tripped) {
        set_stop(g, w, false, w->held);
        w->judged = false; /* anew, as after a trip the numbers are */
        forget_idle(g, w);
    }
    pthread_mutex_unlock(&g->lock);
}

void campaign_guard_hold(struct campaign_guard *g, const char *campaign)
{
    if (!campaign || !*campaign)
        return;
    pthread_mutex_lock(&g->lock);
    struct watched *w = find(g, campaign);
    set_stop(g, w, w->tripped, w->held + 1);
    pthread_mutex_unlock(&g->lock);
}

void campaign_guard_release(struct campaign_guard *g, const char *campaign)
{
    if (!campaign || !*campaign)
        return;
    pthread_mutex_lock(&g->lock);
    struct watched *w = map_find(&g->by_id, bytes_of(campaign));
    if (w && w->held) {
        set_stop(g, w, w->tripped, w->held - 1);
        forget_idle(g, w);
    }
    pthread_mutex_unlock(&g->lock);
}

bool campaign_guard_stops(struct campaign_guard *g, const char *campaign)
{
    if (!campaign || !atomic_load_explicit(&g->stopped, memory_order_relaxed))
        return false;
    pthread_mutex_lock(&g->lock);
    const struct watched *w = map_find(&g->by_id, bytes_of(campaign));
    bool stops = w && (w->tripped || w->held);
    pthread_mutex_unlock(&g->lock);
    return stops;
}

unsigned long campaign_guard_trips(const struct campaign_guard *g)
{
    return atomic_load_explicit(&g->trips, memory_order_relaxed);
}
