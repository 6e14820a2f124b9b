/*
 * The warm-up of one source address towards one group: how many recipients it may still try in this period,
 * and what the next step is.  Pure; times come in as wall time in milliseconds, because periods outlive the
 * process.
 *
 *     period: begins with the first recipient ─► step's number of recipients ─► ends, and is judged:
 *         too few were tried   the step stays
 *         too many refused     the step stays, or goes back by one (and then the period ends for sending at
 * once) else                 the next step; behind the last the address is warm, and nothing is counted any
 * more
 *
 * A period that nobody used is not judged.  One that begins late ends late: no step is shorter than it should
 * be.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/outcome.h"
#include "policy/sources.h"

struct warmup_state {        /* zeroed: nothing was sent yet */
    uint32_t step;           /* 0 is the first; above the ladder: its last */
    bool done;               /* warm */
    bool held;               /* by hand: no step changes */
    bool stopped;            /* went back in this period: nothing more goes in it */
    int64_t since_ms;        /* the period's beginning; 0: none is under way */
    uint32_t taken;          /* recipients of the period */
    uint32_t tried, refused; /* outcomes in it */
};

enum warmup_event {
    WARMUP_NOTHING,
    WARMUP_UP,
    WARMUP_DONE,
    WARMUP_BACK,
    WARMUP_STAYED,  /* too many were refused */
    WARMUP_TOO_FEW, /* were tried to tell */
    WARMUP_HELD,    /* a period ended, and its step is held by hand */
};
const char *warmup_event_name(enum warmup_event e);

/* Ends and judges the period when its time is over. */
enum warmup_event warmup_turn(struct warmup_state *s, const struct warmup_ladder *l, int64_t now_ms);
/* How many recipients may go now; UINT32_MAX: as many as there are.  After a turn. */
uint32_t warmup_left(const struct warmup_state *s, const struct warmup_ladder *l, int64_t now_ms);
/* Until any may go; 0: some may. */
uint64_t warmup_wait_ms(const struct warmup_state *s, const struct warmup_ladder *l, int64_t now_ms);
void warmup_take(struct warmup_state *s, uint32_t n, int64_t now_ms); /* n <= left */
void warmup_give(struct warmup_state *s, uint32_t n);                 /* they did not go after all */
/* What became of one that was taken, or of a host that refused the connection. */
enum warmup_event warmup_note(struct warmup_state *s, const struct warmup_ladder *l, bool refused);
/*
 * The way ahead: how long, in milliseconds, until the last of so many recipients may go from these addresses
 * together, if each period is used up as soon as it begins and nothing more is refused.  0: all may go now.
 * An address that is warm lets any number go.  UINT64_MAX: not within ten years.
 */
struct warmup_climb {
    struct warmup_state state; /* a copy: it is moved on */
    const struct warmup_ladder *ladder;
    int64_t at_ms; /* for warmup_forecast_ms alone */
};
uint64_t warmup_forecast_ms(struct warmup_climb *climbs, size_t count, uint64_t rcpts, int64_t now_ms);
/* The step's number of recipients. */
uint32_t warmup_step_size(const struct warmup_state *s, const struct warmup_ladder *l);
