#include "policy/warmup.h"

#include "base/macros.h"

#define CLOCK_SLACK_MS 1000
#define AHEAD_MS       (10LL * 366 * 86400 * 1000) /* what lies behind that is no forecast */
#define GRANTS_MAX     100000

const char *warmup_event_name(enum warmup_event e)
{
    switch (e) {
    case WARMUP_NOTHING: return "nothing";
    case WARMUP_UP: return "up";
    case WARMUP_DONE: return "warm";
    case WARMUP_BACK: return "back";
    case WARMUP_STAYED: return "stayed";
    case WARMUP_TOO_FEW: return "too-few";
    case WARMUP_HELD: return "held";
    }
    return "?";
}

static uint32_t step_of(const struct warmup_state *s, const struct warmup_ladder *l)
{
    return MIN_OF(s->step, l->count - 1); /* the ladder may have been shortened */
}

uint32_t warmup_step_size(const struct warmup_state *s, const struct warmup_ladder *l)
{
    return l->steps[step_of(s, l)];
}

/* Enough to judge by. */
static uint32_t needed(const struct warmup_state *s, const struct warmup_ladder *l)
{
    uint32_t size = warmup_step_size(s, l);

    return MIN_OF(l->min_attempts ? l->min_attempts : (size + 1) / 2, size);
}

static bool too_many_refused(const struct warmup_state *s, const struct warmup_ladder *l)
{
    return (uint64_t)s->refused * 100 > (uint64_t)l->max_refused_percent * s->tried;
}

static void step_back(struct warmup_state *s, const struct warmup_ladder *l)
{
    uint32_t step = step_of(s, l);

    s->step = step ? step - 1 : 0;
}

static enum warmup_event judge(struct warmup_state *s, const struct warmup_ladder *l)
{
    if (s->held)
        return WARMUP_HELD;
    if (s->stopped)
        return WARMUP_NOTHING; /* was told when it happened */
    if (s->tried < needed(s, l))
        return WARMUP_TOO_FEW;
    if (too_many_refused(s, l)) {
        if (!l->back)
            return WARMUP_STAYED;
        step_back(s, l);
        return WARMUP_BACK;
    }
    s->step = step_of(s, l) + 1;
    if (s->step < l->count)
        return WARMUP_UP;
    s->done = true;
    return WARMUP_DONE;
}

enum warmup_event warmup_turn(struct warmup_state *s, const struct warmup_ladder *l, int64_t now_ms)
{
    if (s->done || !s->since_ms)
        return WARMUP_NOTHING;
    if (s->since_ms > now_ms + CLOCK_SLACK_MS) /* the clock was set back */
        s->since_ms = now_ms;
    if (now_ms < s->since_ms + (int64_t)l->period_s * 1000)
        return WARMUP_NOTHING;
    enum warmup_event e = judge(s, l);
    s->since_ms = 0;
    s->taken = s->tried = s->refused = 0;
    s->stopped = false;
    return e;
}

uint32_t warmup_left(const struct warmup_state *s, const struct warmup_ladder *l, int64_t now_ms)
{
    uint32_t size = warmup_step_size(s, l);

    if (s->done)
        return UINT32_MAX;
    if (s->stopped || now_ms < l->start_unix * 1000)
        return 0;
    return size - MIN_OF(s->taken, size);
}

uint64_t warmup_wait_ms(const struct warmup_state *s, const struct warmup_ladder *l, int64_t now_ms)
{
    int64_t start_ms = l->start_unix * 1000;

    if (warmup_left(s, l, now_ms))
        return 0;
    if (now_ms < start_ms)
        return (uint64_t)(start_ms - now_ms);
    return (uint64_t)MAX_OF(s->since_ms + (int64_t)l->period_s * 1000 - now_ms, (int64_t)1);
}

void warmup_take(struct warmup_state *s, uint32_t n, int64_t now_ms)
{
    if (s->done)
        return;
    if (!s->since_ms)
        s->since_ms = now_ms;
    s->taken += n;
}

void warmup_give(struct warmup_state *s, uint32_t n)
{
    s->taken -= MIN_OF(n, s->taken);
}

enum warmup_event warmup_note(struct warmup_state *s, const struct warmup_ladder *l, bool refused)
{
    if (s->done)
        return WARMUP_NOTHING;
    s->tried++;
    s->refused += refused;
    if (!l->back || s->held || s->stopped || !s->since_ms || s->tried < needed(s, l) ||
        !too_many_refused(s, l))
        return WARMUP_NOTHING;
    s->stopped = true;
    step_back(s, l);
    return WARMUP_BACK;
}

/* ---- the way ahead ---- */

/* What may go at its time; then its time is that of the next. */
static uint32_t grant(struct warmup_climb *c)
{
    struct warmup_state *s = &c->state;

    (void)warmup_turn(s, c->ladder, c->at_ms);
    uint32_t left = warmup_left(s, c->ladder, c->at_ms);
    if (left == UINT32_MAX)
        return left;
    if (left)
        warmup_take(s, left, c->at_ms);
    s->tried = MAX_OF(s->tried, s->taken);
    c->at_ms += (int64_t)MAX_OF(warmup_wait_ms(s, c->ladder, c->at_ms), (uint64_t)1);
    return left;
}

uint64_t warmup_forecast_ms(struct warmup_climb *climbs, size_t count, uint64_t rcpts, int64_t now_ms)
{
    for (size_t i = 0; i < count; i++)
        climbs[i].at_ms = now_ms;
    for (uint32_t n = 0; count && n < GRANTS_MAX; n++) {
        size_t next = 0;
        for (size_t i = 1; i < count; i++)
            if (climbs[i].at_ms < climbs[next].at_ms)
                next = i;
        int64_t at_ms = climbs[next].at_ms;
        if (at_ms - now_ms > AHEAD_MS)
            break;
        uint32_t goes = grant(&climbs[next]);
        if (goes == UINT32_MAX || goes >= rcpts)
            return (uint64_t)(at_ms - now_ms);
        rcpts -= goes;
    }
    return UINT64_MAX;
}
