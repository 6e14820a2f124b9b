/* The register, and what holds now: connections, rate, suspension.  How it comes to that is shaping_act.c. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/macros.h"
#include "engine/shaping_priv.h"

#define WANTED_MS  1000
#define ACTIVE_MAX 10000

struct shaping *shaping_create(void)
{
    struct shaping *all = MEM_NEW(struct shaping);

    pthread_mutex_init(&all->lock, NULL);
    list_init(&all->active);
    return all;
}

struct shaping_event shaped_no_events[SHAPED_WHATS];

void shaped_own_events(struct shaped *s)
{
    if (s->events == shaped_no_events)
        s->events = mem_zalloc(SHAPED_WHATS * sizeof(*s->events));
}

static void destroy(struct shaped *s)
{
    pthread_mutex_destroy(&s->lock);
    if (s->events != shaped_no_events)
        mem_free(s->events);
    mem_free(s->group);
    mem_free(s);
}

void shaping_destroy(struct shaping *all)
{
    struct shaping_subject_entry *u;
    struct shaped_host *h;
    struct shaped *s;

    if (!all)
        return;
    for (size_t at = 0; (s = map_next(&all->map, &at));)
        destroy(s);
    for (size_t at = 0; (h = map_next(&all->hosts, &at));)
        shaped_host_destroy(h);
    for (size_t at = 0; (u = map_next(&all->subjects, &at));)
        shaping_subject_destroy(u);
    map_fini(&all->subjects);
    map_fini(&all->map);
    map_fini(&all->hosts);
    pthread_mutex_destroy(&all->lock);
    mem_free(all);
}

/* ---- found, counted, forgotten ---- */

static struct bytes key_of(const struct shaped *s)
{
    return (struct bytes){s->group, strlen(s->group) + 1 + strlen(s->hosts)};
}

void shaped_drop_if_unused(struct shaped *s)
{
    struct shaping *all = s->all;

    for (int what = 0; what < SHAPED_WHATS; what++)
        if (s->events[what].id)
            return;
    if (s->is_active) {
        list_remove(&s->node);
        s->is_active = false;
        all->active_count--;
    }
    if (s->refs) { /* most never have an event: it is not worth its memory then */
        pthread_mutex_lock(&s->lock);
        if (s->events != shaped_no_events)
            mem_free(s->events);
        s->events = shaped_no_events;
        pthread_mutex_unlock(&s->lock);
        return;
    }
    map_remove(&all->map, key_of(s));
    destroy(s);
}

/* There is no room for one more without mail: the oldest goes. */
static void make_room(struct shaping *all)
{
    if (all->active_count < ACTIVE_MAX)
        return;
    LIST_FOREACH_SAFE (node, &all->active) {
        struct shaped *s = LIST_ENTRY(node, struct shaped, node);
        if (s->refs)
            continue;
        for (int what = 0; what < SHAPED_WHATS; what++)
            if (s->events[what].id)
                shaped_note_end(s, (enum shaped_what)what, "too many at a time");
        shaped_drop_if_unused(s);
        return;
    }
}

struct shaped *shaped_find_or_make(struct shaping *all, const char *group, const char *hosts)
{
    BUF_LOCAL(key);

    buf_puts(&key, group);
    buf_putc(&key, '\0');
    buf_puts(&key, hosts);
    struct shaped *s = map_find(&all->map, buf_bytes(&key));
    if (s)
        return s;
    make_room(all);
    s = MEM_NEW(struct shaped);
    s->all = all;
    s->group = buf_take(&key);
    s->hosts = s->group + strlen(group) + 1;
    s->events = shaped_no_events;
    list_init(&s->node);
    pthread_mutex_init(&s->lock, NULL);
    map_put(&all->map, key_of(s), s);
    return s;
}

struct shaped *shaped_get(struct shaping *all, const char *group, const char *hosts)
{
    pthread_mutex_lock(&all->lock);
    struct shaped *s = shaped_find_or_make(all, group, hosts);
    s->refs++;
    pthread_mutex_unlock(&all->lock);
    return s;
}

void shaped_put(struct shaped *s)
{
    if (!s)
        return;
    struct shaping *all = s->all;
    pthread_mutex_lock(&all->lock);
    s->refs--;
    shaped_drop_if_unused(s);
    pthread_mutex_unlock(&all->lock);
}

/* ---- time ---- */

bool event_raise(struct shaping_event *e)
{
    double next = e->keep ? e->value * 100 / e->keep : e->full;

    if (next >= e->full || next <= e->value)
        return false;
    e->value = next;
    return true;
}

void shaped_recount(struct shaped *s)
{
    const struct shaping_event *suspended = &s->events[SHAPED_SUSPENDED];
    double before = s->rate;
    bool any = false;

    s->cap = 0;
    s->rate = 0;
    s->change_ms = UINT64_MAX;
    for (int what = 0; what < SHAPED_WHATS; what++) {
        const struct shaping_event *e = &s->events[what];
        any |= e->id != 0;
        if (!event_holds(e))
            continue;
        s->change_ms = MIN_OF(s->change_ms, e->until_ms);
        if (what == SHAPED_LIMITED || what == SHAPED_FEWER) {
            uint32_t most = (uint32_t)MAX_OF(e->value, 1.0);
            s->cap = s->cap ? MIN_OF(s->cap, most) : most;
        } else if (what == SHAPED_SLOWED || what == SHAPED_SLOWER) {
            s->rate = s->rate > 0 ? MIN_OF(s->rate, e->value) : e->value;
        }
    }
    if (before <= 0)
        s->next_ms = 0;
    atomic_store(&s->suspended_until_ms, event_holds(suspended) ? suspended->until_ms : 0);
    atomic_store(&s->in_force, any);
}

void shaped_settle(struct shaped *s, uint64_t now_ms)
{
    if (now_ms < s->change_ms)
        return;
    for (int what = 0; what < SHAPED_WHATS; what++) {
        struct shaping_event *e = &s->events[what];
        while (event_holds(e) && e->until_ms <= now_ms) {
            if (e->step_ms && event_raise(e)) {
                e->until_ms += e->step_ms;
                e->moved = true;
            } else {
                e->over = true;
            }
        }
    }
    shaped_recount(s);
}

/* With the lock of `s`, if anything is in force. */
static bool begin_look(struct shaped *s, uint64_t now_ms)
{
    if (!atomic_load_explicit(&s->in_force, memory_order_relaxed))
        return false;
    pthread_mutex_lock(&s->lock);
    shaped_settle(s, now_ms);
    return true;
}

/* ---- what holds ---- */

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
        shaped_settle(s, now_ms);
    bool taken = !s->cap || (s->links < s->cap && !is_kept_for_another(s, who, now_ms));
    if (taken) {
        s->links++;
        s->opened++;
        if (s->wanted_by == who)
            s->wanted_by = NULL;
    } else if (!is_kept_for_another(s, who, now_ms)) {
        s->yielded &= s->wanted_by == who;
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

bool shaped_is_capped(struct shaped *s, uint64_t now_ms)
{
    if (!begin_look(s, now_ms))
        return false;
    bool is = s->cap > 0;
    pthread_mutex_unlock(&s->lock);
    return is;
}

bool shaped_has_too_many(struct shaped *s, uint64_t now_ms)
{
    if (!begin_look(s, now_ms))
        return false;
    bool many = s->cap && s->links > s->cap;
    pthread_mutex_unlock(&s->lock);
    return many;
}

bool shaped_is_wanted(struct shaped *s, const void *but, uint64_t now_ms)
{
    if (!begin_look(s, now_ms))
        return false;
    bool wanted = s->cap && is_kept_for_another(s, but, now_ms);
    pthread_mutex_unlock(&s->lock);
    return wanted;
}

bool shaped_yield(struct shaped *s, const void *but, uint64_t now_ms)
{
    if (!begin_look(s, now_ms))
        return false;
    bool yield = s->cap && is_kept_for_another(s, but, now_ms) && !s->yielded;
    s->yielded |= yield;
    pthread_mutex_unlock(&s->lock);
    return yield;
}

void shaped_session_stands(struct shaped *s)
{
    atomic_fetch_add_explicit(&s->sessions, 1, memory_order_relaxed);
}

void shaped_session_ended(struct shaped *s)
{
    atomic_fetch_sub_explicit(&s->sessions, 1, memory_order_relaxed);
}

bool shaped_has_sessions(const struct shaped *s)
{
    return atomic_load_explicit(&s->sessions, memory_order_relaxed) > 0;
}

static uint32_t pace_left_ms(const struct shaped *s, uint64_t now_ms)
{
    double wait = s->rate > 0 && s->next_ms > (double)now_ms ? s->next_ms - (double)now_ms : 0;

    return (uint32_t)ceil(MIN_OF(wait, 3600000.0));
}

uint32_t shaped_take_message(struct shaped *s, uint64_t now_ms)
{
    if (!begin_look(s, now_ms))
        return 0;
    uint32_t wait = pace_left_ms(s, now_ms);
    if (!wait && s->rate > 0) /* evenly: what was not used is not saved up, but for one step */
        s->next_ms = MAX_OF(s->next_ms, (double)now_ms - 1000.0 / s->rate) + 1000.0 / s->rate;
    pthread_mutex_unlock(&s->lock);
    return wait;
}

uint32_t shaped_message_wait(struct shaped *s, uint64_t now_ms)
{
    if (!begin_look(s, now_ms))
        return 0;
    uint32_t wait = pace_left_ms(s, now_ms);
    pthread_mutex_unlock(&s->lock);
    return wait;
}

bool shaped_is_slow(struct shaped *s, uint64_t now_ms)
{
    if (!begin_look(s, now_ms))
        return false;
    bool is_slow = s->rate > 0;
    pthread_mutex_unlock(&s->lock);
    return is_slow;
}
