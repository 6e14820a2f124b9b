/*
 * How the wall clock was set while this process ran: steps of more than a minute, by the monotonic clock
 * beside it.  With them the age of something is what really passed, and mail does not expire because somebody
 * set a clock.
 *
 * Thread    clock_steps_look and clock_steps_restate: the owner's.  clock_restate: any; it looks by itself.
 */
#pragma once

#include <stdint.h>

#define CLOCK_STEPS_MAX 32 /* older ones are forgotten */

struct clock_step {
    int64_t from_unix, to_unix;
};
struct clock_steps {
    unsigned count;
    struct clock_step steps[CLOCK_STEPS_MAX]; /* oldest first */
    int64_t wall_unix;                        /* at the last look */
    uint64_t now_ms;                          /* 0: there was none */
};

void clock_steps_look(struct clock_steps *s, int64_t wall_unix, uint64_t now_ms);
/*
 * What a clock that always went like today's would have shown at that moment.  A moment that was shown twice,
 * before and after a clock was set back, counts as the later one.
 */
int64_t clock_steps_restate(const struct clock_steps *s, int64_t past_unix);

/* The same with this process's own clocks, never later than now; what happened before it was started is not
 * known to it. */
int64_t clock_restate(int64_t past_unix);
