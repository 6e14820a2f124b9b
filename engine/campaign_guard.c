#include "engine/campaign_guard.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "policy/classify.h"

#define CAMPAIGNS_MAX 10000

struct watched {
    uint32_t attempts, unknown, blocked; /* of the N under way */
    bool tripped;
    char why[GUARD_WHY_BYTES];
    size_t len;
    char id[];
};

struct campaign_guard {
    pthread_mutex_t lock;
    struct map by_id;
    size_t tripped;
};

struct campaign_guard *campaign_guard_create(void)
{
    struct campaign_guard *g = MEM_NEW(struct campaign_guard);

    pthread_mutex_init(&g->lock, NULL);
    return g;
}

static void forget_all(struct campaign_guard *g)
{
    struct watched *w;

    for (size_t at = 0; (w = map_next(&g->by_id, &at));)
        mem_free(w);
    map_fini(&g->by_id);
    g->by_id = (struct map){0};
    g->tripped = 0;
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
    if (g->by_id.count >= CAMPAIGNS_MAX && !g->tripped)
        forget_all(g);
    size_t len = strlen(campaign);
    w = mem_zalloc(sizeof(*w) + len + 1);
    w->len = len;
    memcpy(w->id, campaign, len);
    map_put(&g->by_id, bytes_make(w->id, w->len), w);
    return w;
}

static bool passes(uint32_t part, int64_t percent, uint32_t whole)
{
    return percent && (uint64_t)part * 100 >= (uint64_t)percent * whole;
}

static void decide(struct campaign_guard *g, const struct conf *conf, struct watched *w)
{
    bool unknown = passes(w->unknown, conf->guard.unknown_percent, w->attempts);
    bool blocked = passes(w->blocked, conf->guard.blocked_percent, w->attempts);

    if (unknown || blocked) {
        snprintf(w->why, sizeof(w->why), "of its last %u attempts %u met %s; campaigns.%s is %lld %%",
                 w->attempts, unknown ? w->unknown : w->blocked, unknown ? "an unknown user" : "a block",
                 unknown ? "guard_unknown" : "guard_blocked",
                 (long long)(unknown ? conf->guard.unknown_percent : conf->guard.blocked_percent));
        w->tripped = true;
        g->tripped++;
    }
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
    w->attempts++;
    w->unknown += unknown;
    w->blocked += blocked;
    if (w->attempts >= (uint64_t)conf->guard.after && !w->tripped)
        decide(g, conf, w);
    pthread_mutex_unlock(&g->lock);
}

char *campaign_guard_take(struct campaign_guard *g, char why[GUARD_WHY_BYTES])
{
    struct watched *w;
    char *id = NULL;

    pthread_mutex_lock(&g->lock);
    for (size_t at = 0; g->tripped && !id && (w = map_next(&g->by_id, &at));) {
        if (!w->tripped)
            continue;
        id = mem_strdup(w->id);
        memcpy(why, w->why, GUARD_WHY_BYTES);
        map_remove(&g->by_id, bytes_make(w->id, w->len));
        mem_free(w);
        g->tripped--;
    }
    pthread_mutex_unlock(&g->lock);
    return id;
}
