/* Connections are counted always, because a limit may come at any time; all else is looked at only in force.
 */
#include "engine/shaping.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "base/hash.h"
#include "base/macros.h"
#include "base/mem.h"

#define SAME_STORM_MS 5000 /* refusals of so long are one: they halve once */
#define RENEW_MS      1000
#define WANTED_MS     1000
#define SWEEP_MS      60000

struct shaping {
    pthread_mutex_t lock;
    struct map map;   /* struct shaped by key */
    size_t left_over; /* in force without a user */
    uint64_t swept_ms;
};

struct shaped {
    char *key;     /* owned */
    unsigned refs; /* under the lock of shaping */
    atomic_bool in_force;
    _Atomic uint64_t suspended_until_ms;
    pthread_mutex_t lock; /* of all below */
    uint32_t links, cap;  /* cap 0: none */
    uint32_t cap_full;    /* connections before the first halving; 0: the cap does not grow */
    uint64_t cap_step_ms, halved_ms;
    double rate; /* messages a second; 0: not slowed */
    double next_ms;
    const void *wanted_by;
    uint64_t wanted_until_ms;
    struct shaped_view why[SHAPED_WHATS];
};

struct shaping *shaping_create(void)
{
    struct shaping *all = MEM_NEW(struct shaping);

    pthread_mutex_init(&all->lock, NULL);
    return all;
}

static void destroy(struct shaped *s)
{
    pthread_mutex_destroy(&s->lock);
    mem_free(s->key);
    mem_free(s);
}

void shaping_destroy(struct shaping *all)
{
    struct shaped *s;

    if (!all)
        return;
    for (size_t at = 0; (s = map_next(&all->map, &at));)
        destroy(s);
    map_fini(&all->map);
    pthread_mutex_destroy(&all->lock);
    mem_free(all);
}

/* Under the lock.  A halved number of connections comes back in steps. */
static void expire(struct shaped *s, uint64_t now_ms)
{
    struct shaped_view *cap = &s->why[SHAPED_CONNECTIONS];
    bool any = false;

    while (s->cap && cap->until_ms <= now_ms) {
        if (s->cap_full && s->cap < s->cap_full / 2) {
            s->cap *= 2;
            cap->until_ms += s->cap_step_ms;
        } else {
            s->cap = s->cap_full = 0;
        }
        cap->value = s->cap;
    }
    if (s->rate > 0 && s->why[SHAPED_RATE].until_ms <= now_ms)
        s->rate = 0;
    for (int i = 0; i < SHAPED_WHATS; i++) {
        if (s->why[i].until_ms <= now_ms)
            s->why[i].until_ms = 0;
        any |= s->why[i].until_ms > 0;
    }
    atomic_store(&s->in_force, any);
}

static bool is_in_force(struct shaped *s, uint64_t now_ms)
{
    if (!atomic_load(&s->in_force))
        return false;
    pthread_mutex_lock(&s->lock);
    expire(s, now_ms);
    pthread_mutex_unlock(&s->lock);
    return atomic_load(&s->in_force);
}

/* Those whose last user had gone before their time was up.  Collected first: removing moves the table. */
static void sweep(struct shaping *all, uint64_t now_ms)
{
    struct shaped **gone = mem_alloc(all->left_over * sizeof(struct shaped *)), *s;
    size_t count = 0;

    for (size_t at = 0; (s = map_next(&all->map, &at));)
        if (!s->refs && !is_in_force(s, now_ms))
            gone[count++] = s;
    for (size_t i = 0; i < count; i++) {
        map_remove(&all->map, bytes_of(gone[i]->key));
        destroy(gone[i]);
    }
    mem_free(gone);
    all->left_over -= count;
    all->swept_ms = now_ms;
}

struct shaped *shaped_get(struct shaping *all, const char *key, uint64_t now_ms)
{
    pthread_mutex_lock(&all->lock);
    struct shaped *s = map_find(&all->map, bytes_of(key));
    bool made = !s;
    if (!s) {
        if (all->left_over && now_ms > all->swept_ms + SWEEP_MS)
            sweep(all, now_ms);
        s = MEM_NEW(struct shaped);
        s->key = mem_strdup(key);
        pthread_mutex_init(&s->lock, NULL);
        map_put(&all->map, bytes_of(s->key), s);
    }
    if (!s->refs++ && !made)
        all->left_over--;
    pthread_mutex_unlock(&all->lock);
    return s;
}

void shaped_put(struct shaping *all, struct shaped *s, uint64_t now_ms)
{
    if (!s)
        return;
    pthread_mutex_lock(&all->lock);
    if (--s->refs == 0) {
        if (is_in_force(s, now_ms)) {
            all->left_over++;
        } else {
            map_remove(&all->map, bytes_of(s->key));
            destroy(s);
        }
    }
    pthread_mutex_unlock(&all->lock);
}

static void remember(struct shaped_view *v, const struct reply_rule *rule, const struct outcome *why,
                     uint64_t until_ms, double value)
{
    v->until_ms = until_ms;
    v->value = value;
    v->line = rule->line;
    v->code = why->code;
    size_t len = MIN_OF(strlen(why->text), sizeof(v->text) - 1);
    while (len > 0 && ((unsigned char)why->text[len] & 0xc0) == 0x80) /* whole characters */
        len--;
    memcpy(v->text, why->text, len);
    v->text[len] = '\0';
}

static bool suspend(struct shaped *s, const struct reply_rule *rule, const struct outcome *why,
                    uint64_t now_ms)
{
    struct shaped_view *v = &s->why[SHAPED_SUSPENDED];
    uint64_t until = now_ms + rule->suspend_s * UINT64_C(1000), before = v->until_ms;

    if (until <= before + RENEW_MS)
        return false;
    remember(v, rule, why, until, 0);
    atomic_store(&s->suspended_until_ms, until);
    return before == 0;
}

static bool cap(struct shaped *s, const struct reply_rule *rule, const struct outcome *why, uint64_t now_ms)
{
    struct shaped_view *v = &s->why[SHAPED_CONNECTIONS];
    uint64_t until = now_ms + rule->for_s * UINT64_C(1000);
    bool news = s->cap != rule->limit_connections;

    if (s->cap && s->cap < rule->limit_connections)
        return false; /* the lower one stays */
    if (news || until > v->until_ms)
        remember(v, rule, why, until, rule->limit_connections);
    s->cap = rule->limit_connections;
    s->cap_full = 0;
    return news;
}

static bool halve(struct shaped *s, const struct reply_rule *rule, const struct outcome *why, uint64_t now_ms)
{
    struct shaped_view *v = &s->why[SHAPED_CONNECTIONS];
    uint64_t until = now_ms + rule->back_off_s * UINT64_C(1000);
    uint32_t base = s->cap ? MIN_OF(s->cap, s->links) : s->links;

    if (s->cap && now_ms < s->halved_ms + SAME_STORM_MS) {
        v->until_ms = MAX_OF(v->until_ms, until);
        return false;
    }
    if (!s->cap_full)
        s->cap_full = MAX_OF(s->links, 1U);
    s->cap = MAX_OF(base / 2, 1U);
    s->cap_step_ms = rule->back_off_s * UINT64_C(1000);
    s->halved_ms = now_ms;
    remember(v, rule, why, until, s->cap);
    return true;
}

static bool slow(struct shaped *s, const struct reply_rule *rule, const struct outcome *why, uint64_t now_ms)
{
    struct shaped_view *v = &s->why[SHAPED_RATE];
    uint64_t until = now_ms + rule->for_s * UINT64_C(1000);
    bool news = s->rate <= 0 || rule->slow_to < s->rate;

    if (s->rate > 0 && s->rate < rule->slow_to)
        return false; /* the slower one stays */
    if (news || until > v->until_ms + RENEW_MS)
        remember(v, rule, why, until, rule->slow_to);
    if (news)
        s->next_ms = (double)now_ms + 1000.0 / rule->slow_to; /* the message that was refused counts */
    s->rate = rule->slow_to;
    return news;
}

bool shaped_apply(struct shaped *s, const struct reply_rule *rule, const struct outcome *why, uint64_t now_ms)
{
    bool news = false;

    pthread_mutex_lock(&s->lock);
    expire(s, now_ms);
    if (rule->suspend_s)
        news |= suspend(s, rule, why, now_ms);
    if (rule->back_off_s)
        news |= halve(s, rule, why, now_ms);
    if (rule->limit_connections)
        news |= cap(s, rule, why, now_ms);
    if (rule->slow_to > 0)
        news |= slow(s, rule, why, now_ms);
    atomic_store(&s->in_force, true);
    pthread_mutex_unlock(&s->lock);
    return news;
}

void shaped_clear(struct shaped *s)
{
    pthread_mutex_lock(&s->lock);
    s->cap = s->cap_full = 0;
    s->rate = 0;
    s->wanted_by = NULL;
    memset(s->why, 0, sizeof(s->why));
    atomic_store(&s->suspended_until_ms, 0);
    atomic_store(&s->in_force, false);
    pthread_mutex_unlock(&s->lock);
}

uint64_t shaped_suspended_until_ms(struct shaped *s)
{
    return atomic_load_explicit(&s->suspended_until_ms, memory_order_relaxed);
}

static bool is_kept_for_another(const struct shaped *s, const void *who, uint64_t now_ms)
{
    return s->wanted_by && s->wanted_by != who && s->wanted_until_ms > now_ms;
}

bool shaped_take_connection(struct shaped *s, const void *who, uint64_t now_ms)
{
    pthread_mutex_lock(&s->lock);
    if (s->cap)
        expire(s, now_ms);
    bool taken = !s->cap || (s->links < s->cap && !is_kept_for_another(s, who, now_ms));
    if (taken) {
        s->links++;
        if (s->wanted_by == who)
            s->wanted_by = NULL;
    } else if (!is_kept_for_another(s, who, now_ms)) {
        s->wanted_by = who;
        s->wanted_until_ms = now_ms + WANTED_MS;
    }
    pthread_mutex_unlock(&s->lock);
    return taken;
}

void shaped_give_connection(struct shaped *s)
{
    pthread_mutex_lock(&s->lock);
    s->links--;
    pthread_mutex_unlock(&s->lock);
}

bool shaped_has_too_many(struct shaped *s, uint64_t now_ms)
{
    if (!is_in_force(s, now_ms))
        return false;
    pthread_mutex_lock(&s->lock);
    bool many = s->cap && s->links > s->cap;
    pthread_mutex_unlock(&s->lock);
    return many;
}

bool shaped_is_wanted(struct shaped *s, const void *but, uint64_t now_ms)
{
    if (!is_in_force(s, now_ms))
        return false;
    pthread_mutex_lock(&s->lock);
    bool wanted = s->cap && is_kept_for_another(s, but, now_ms);
    pthread_mutex_unlock(&s->lock);
    return wanted;
}

uint32_t shaped_take_message(struct shaped *s, uint64_t now_ms)
{
    double wait = 0;

    if (!is_in_force(s, now_ms))
        return 0;
    pthread_mutex_lock(&s->lock);
    if (s->rate > 0 && s->next_ms > (double)now_ms)
        wait = s->next_ms - (double)now_ms;
    else if (s->rate > 0) /* evenly: what was not used is not saved up, but for one step */
        s->next_ms = MAX_OF(s->next_ms, (double)now_ms - 1000.0 / s->rate) + 1000.0 / s->rate;
    pthread_mutex_unlock(&s->lock);
    return (uint32_t)ceil(MIN_OF(wait, 3600000.0));
}

bool shaped_is_slow(struct shaped *s, uint64_t now_ms)
{
    if (!is_in_force(s, now_ms))
        return false;
    pthread_mutex_lock(&s->lock);
    bool is_slow = s->rate > 0;
    pthread_mutex_unlock(&s->lock);
    return is_slow;
}

void shaped_look(struct shaped *s, uint64_t now_ms, struct shaped_view out[SHAPED_WHATS])
{
    memset(out, 0, SHAPED_WHATS * sizeof(*out));
    if (!is_in_force(s, now_ms))
        return;
    pthread_mutex_lock(&s->lock);
    memcpy(out, s->why, sizeof(s->why));
    pthread_mutex_unlock(&s->lock);
}
