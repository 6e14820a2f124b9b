/*
 * How a limit comes about: a rule's actions, and steps back without a rule.  A step leaves a share of the
 * connections; where only one is left, or a rate is in force, of the messages a second.  Each `recover_after`
 * without another step brings one back, until all is as it was.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/macros.h"
#include "engine/shaping_priv.h"

#define SAME_STORM_MS 5000 /* refusals of so long are one: they make one step */
#define RENEW_MS      1000
#define REFUSALS_MIN  2 /* a single connection that came to nothing is no storm */

/* One event as it is about to be, and who asks for it. */
struct imposition {
    struct shaped *s;
    const struct shaped_load *load;
    const struct outcome *why;
    uint32_t line;    /* of the rule; 0: none */
    const char *file; /* or NULL */
    uint64_t now_ms;
    bool one_of_many; /* more will follow at once: only the first is told at once */
};

struct steps {
    uint32_t recover_ms, keep, least;
    double least_rate;
};

/* Under both locks. */
static void impose(const struct imposition *i, enum shaped_what what, double value, uint64_t until_ms)
{
    shaped_own_events(i->s);
    struct shaping_event *e = &i->s->events[what];

    event_remember_why(e, i->why);
    e->line = i->line;
    snprintf(e->file, sizeof(e->file), "%s", i->file ? i->file : "");
    e->policy_version = i->load->policy_version;
    e->value = value;
    e->until_ms = until_ms;
    shaped_recount(i->s);
    if (what != SHAPED_RESTING)
        atomic_store(&i->s->all->news, true);
    if (i->one_of_many && e->id)
        e->moved = true;
    else
        shaped_note(i->s, what, i->now_ms);
}

static bool suspend(const struct imposition *i, const struct reply_rule *rule)
{
    const struct shaping_event *e = &i->s->events[SHAPED_SUSPENDED];
    uint64_t until = i->now_ms + rule->suspend_s * UINT64_C(1000);
    bool holds = event_holds(e);

    if (holds && until <= e->until_ms + RENEW_MS)
        return false;
    impose(i, SHAPED_SUSPENDED, 0, until);
    return !holds;
}

static bool limit(const struct imposition *i, const struct reply_rule *rule)
{
    const struct shaping_event *e = &i->s->events[SHAPED_LIMITED];
    uint64_t until = i->now_ms + rule->for_s * UINT64_C(1000);
    double most = rule->limit_connections;
    bool holds = event_holds(e);

    if (holds && (e->value < most || (e->value <= most && until <= e->until_ms + RENEW_MS)))
        return false; /* the lower one stays */
    bool news = !holds || e->value > most;
    impose(i, SHAPED_LIMITED, most, until);
    return news;
}

static bool slow(const struct imposition *i, const struct reply_rule *rule)
{
    const struct shaping_event *e = &i->s->events[SHAPED_SLOWED];
    uint64_t until = i->now_ms + rule->for_s * UINT64_C(1000);
    bool holds = event_holds(e);

    if (holds && (e->value < rule->slow_to || (e->value <= rule->slow_to && until <= e->until_ms + RENEW_MS)))
        return false; /* the slower one stays */
    bool news = !holds || e->value > rule->slow_to;
    impose(i, SHAPED_SLOWED, rule->slow_to, until);
    if (news) /* the message that was refused counts */
        i->s->next_ms = MAX_OF(i->s->next_ms, (double)i->now_ms + 1000.0 / rule->slow_to);
    return news;
}

/* ---- steps ---- */

static void renew(struct shaping_event *e, uint64_t until_ms)
{
    if (event_holds(e))
        e->until_ms = MAX_OF(e->until_ms, until_ms);
}

static void set_step(const struct imposition *i, enum shaped_what what, const struct steps *by, double value,
                     double full)
{
    shaped_own_events(i->s);
    struct shaping_event *e = &i->s->events[what];

    if (!event_holds(e))
        e->full = full;
    e->step_ms = by->recover_ms;
    e->keep = by->keep;
    impose(i, what, value, i->now_ms + by->recover_ms);
}

static bool fewer(const struct imposition *i, const struct steps *by)
{
    struct shaped *s = i->s;
    uint32_t base = s->cap ? MIN_OF(s->cap, s->links) : s->links,
             most = MAX_OF(base * by->keep / 100, by->least);

    if (s->cap && most >= s->cap)
        return false;
    set_step(i, SHAPED_FEWER, by, most, MAX_OF(s->links, 1U));
    return true;
}

static bool slower(const struct imposition *i, const struct steps *by)
{
    struct shaped *s = i->s;
    const struct shaped_load *load = i->load;
    double base = s->rate > 0 ? s->rate : load->allowed;

    if (load->measured > 0 && (base <= 0 || load->measured < base))
        base = load->measured;
    double rate = MAX_OF(base * by->keep / 100, by->least_rate);
    if (base <= 0 || rate >= base || (s->rate > 0 && rate >= s->rate))
        return false;
    set_step(i, SHAPED_SLOWER, by, rate, base);
    s->next_ms = MAX_OF(s->next_ms, (double)i->now_ms + 1000.0 / rate);
    return true;
}

static bool step_back(const struct imposition *i, const struct steps *by)
{
    struct shaped *s = i->s;
    uint64_t until = i->now_ms + by->recover_ms;
    bool holds = event_holds(&s->events[SHAPED_FEWER]) || event_holds(&s->events[SHAPED_SLOWER]);
    bool has_rate = s->rate > 0 || i->load->allowed > 0, news = false;

    if (!holds || i->now_ms >= s->stepped_ms + SAME_STORM_MS) {
        news = fewer(i, by);
        if (!news || has_rate)
            news |= slower(i, by);
        s->stepped_ms = i->now_ms;
    }
    renew(&s->events[SHAPED_FEWER], until);
    renew(&s->events[SHAPED_SLOWER], until);
    shaped_recount(s);
    return news;
}

/* ---- what the engine calls ---- */

static void lock(struct shaped *s, uint64_t now_ms)
{
    pthread_mutex_lock(&s->all->lock);
    pthread_mutex_lock(&s->lock);
    shaped_settle(s, now_ms);
    for (int what = 0; what < SHAPED_WHATS; what++)
        if (s->events[what].over) /* what comes now is another event */
            shaped_note_end(s, (enum shaped_what)what, "its time is up");
}

static void unlock(struct shaped *s)
{
    pthread_mutex_unlock(&s->lock);
    pthread_mutex_unlock(&s->all->lock);
}

bool shaped_apply(struct shaped *s, const struct reply_rule *rule, const struct shaped_load *load,
                  const struct outcome *why, uint64_t now_ms)
{
    const struct imposition i = {s, load, why, rule->line, rule->file, now_ms, false};
    const struct steps steps = {rule->back_off_s * 1000, 50, 1, 0.01};
    bool news = false;

    lock(s, now_ms);
    if (rule->suspend_s)
        news |= suspend(&i, rule);
    if (rule->back_off_s)
        news |= step_back(&i, &steps);
    if (rule->limit_connections)
        news |= limit(&i, rule);
    if (rule->slow_to > 0)
        news |= slow(&i, rule);
    unlock(s);
    return news;
}

static struct steps steps_of(const struct group_adaptive *a)
{
    return (struct steps){a->recover_after_s * 1000, a->step_percent, a->min_connections, a->min_rate};
}

/* At a slow rate it takes longer until as many have been refused. */
static uint64_t storm_window_ms(const struct shaped *s, const struct group_adaptive *a)
{
    uint64_t window = a->storm_window_s * UINT64_C(1000);

    return s->rate > 0 ? MAX_OF(window, (uint64_t)(2000.0 * a->storm_replies / s->rate)) : window;
}

bool shaped_slow_reply(struct shaped *s, const struct group_adaptive *a, uint32_t seen,
                       const struct shaped_load *load, const struct outcome *why, uint64_t now_ms)
{
    const struct imposition i = {s, load, why, 0, NULL, now_ms, false};
    const struct steps steps = steps_of(a);
    bool news = false;

    lock(s, now_ms);
    if (!s->storm_since_ms || s->storm_since_ms + storm_window_ms(s, a) < now_ms) {
        s->storm_since_ms = now_ms;
        s->storm_seen = s->storm_slow = 0;
    }
    s->storm_seen += seen;
    s->storm_slow++;
    if (s->storm_slow >= a->storm_replies &&
        s->storm_slow * UINT64_C(100) >= (uint64_t)s->storm_seen * a->storm_share) {
        s->storm_since_ms = 0;
        news = step_back(&i, &steps);
    }
    unlock(s);
    return news;
}

/* With what was being opened when the first of them came to nothing. */
static bool is_storm_of_refusals(struct shaped *s, const struct group_adaptive *a, uint64_t now_ms)
{
    if (!s->refusals_since_ms || s->refusals_since_ms + a->storm_window_s * UINT64_C(1000) < now_ms) {
        uint32_t stand = MIN_OF((uint32_t)atomic_load(&s->sessions), s->links);
        s->refusals_since_ms = now_ms;
        s->refusals = 0;
        s->refusals_base = s->cap ? MIN_OF(s->cap, s->links) : s->links;
        s->opened_before = s->opened - MAX_OF(s->links - stand, 1U);
    }
    s->refusals++;
    return s->refusals >= REFUSALS_MIN && now_ms >= s->stepped_ms + SAME_STORM_MS &&
           s->refusals * UINT64_C(100) >= (uint64_t)(s->opened - s->opened_before) * a->storm_share;
}

bool shaped_refused(struct shaped *s, const struct group_adaptive *a, const struct shaped_load *load,
                    const struct outcome *why, uint64_t now_ms)
{
    const struct imposition i = {s, load, why, 0, NULL, now_ms, true};
    const struct steps steps = steps_of(a);

    lock(s, now_ms);
    uint32_t most = s->links > 0 ? s->links - 1 : 0;
    if (is_storm_of_refusals(s, a, now_ms)) {
        most = MIN_OF(most, s->refusals_base * steps.keep / 100);
        s->stepped_ms = now_ms;
        s->refusals_since_ms = 0;
    }
    most = MAX_OF(most, a->min_connections);
    bool news = !s->cap || most < s->cap;
    if (news)
        set_step(&i, SHAPED_FEWER, &steps, most, s->links);
    else
        renew(&s->events[SHAPED_FEWER], now_ms + steps.recover_ms);
    shaped_recount(s);
    unlock(s);
    return news;
}

void shaped_rest(struct shaped *s, uint64_t until_ms, uint32_t failures, const struct shaped_load *load,
                 const struct outcome *why, uint64_t now_ms)
{
    const struct imposition i = {s, load, why, 0, NULL, now_ms, true};

    lock(s, now_ms);
    const struct shaping_event *e = &s->events[SHAPED_RESTING], *suspended = &s->events[SHAPED_SUSPENDED];
    if (!event_holds(suspended) || suspended->until_ms < until_ms) /* else it changes nothing */
        impose(&i, SHAPED_RESTING, MAX_OF(failures, event_holds(e) ? e->value : 0),
               MAX_OF(until_ms, event_holds(e) ? e->until_ms : 0));
    unlock(s);
}

void shaped_reached(struct shaped *s)
{
    pthread_mutex_lock(&s->all->lock);
    pthread_mutex_lock(&s->lock);
    if (s->events[SHAPED_RESTING].id)
        shaped_note_end(s, SHAPED_RESTING, "it answers");
    shaped_recount(s);
    pthread_mutex_unlock(&s->lock);
    shaped_drop_if_unused(s); /* it has a user: the caller */
    pthread_mutex_unlock(&s->all->lock);
}

bool shaped_is_resting(struct shaped *s)
{
    pthread_mutex_lock(&s->lock);
    bool is = event_holds(&s->events[SHAPED_RESTING]);
    pthread_mutex_unlock(&s->lock);
    return is;
}

size_t shaped_clear(struct shaped *s, bool adaptive_only, const char *why)
{
    size_t ended = 0;

    pthread_mutex_lock(&s->all->lock);
    pthread_mutex_lock(&s->lock);
    for (int what = 0; what < SHAPED_WHATS; what++)
        if (s->events[what].id && !(adaptive_only && (s->events[what].line || what == SHAPED_RESTING))) {
            shaped_note_end(s, (enum shaped_what)what, why);
            ended++;
        }
    s->storm_since_ms = s->refusals_since_ms = 0;
    shaped_recount(s);
    pthread_mutex_unlock(&s->lock);
    shaped_drop_if_unused(s); /* it has a user: the caller */
    pthread_mutex_unlock(&s->all->lock);
    return ended;
}
