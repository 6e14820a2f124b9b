#include "base/clock_steps.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "base/clock.h"
#include "base/macros.h"

#define STEP_S 60 /* less is slewing, or a machine that was busy */

static void add(struct clock_steps *s, int64_t from_unix, int64_t to_unix)
{
    if (s->count == CLOCK_STEPS_MAX)
        memmove(&s->steps[0], &s->steps[1], --s->count * sizeof(s->steps[0]));
    s->steps[s->count++] = (struct clock_step){from_unix, to_unix};
}

void clock_steps_look(struct clock_steps *s, int64_t wall_unix, uint64_t now_ms)
{
    if (s->now_ms) {
        int64_t expected = s->wall_unix + (int64_t)((now_ms - s->now_ms) / 1000);
        if (wall_unix > expected + STEP_S || wall_unix < expected - STEP_S)
            add(s, expected, wall_unix);
        else if (now_ms - s->now_ms < 1000)
            return; /* parts of a second would add up */
    }
    s->wall_unix = wall_unix;
    s->now_ms = now_ms;
}

int64_t clock_steps_restate(const struct clock_steps *s, int64_t past_unix)
{
    bool before = false; /* one step, and so all that came after it */
    int64_t moved = 0;

    for (unsigned i = 0; i < s->count; i++) {
        const struct clock_step *step = &s->steps[i];
        /* Forward: no clock showed what lies between.  Back: both showed it, and the later one counts. */
        before = before ||
                 (step->to_unix > step->from_unix ? past_unix < step->to_unix : past_unix <= step->to_unix);
        if (before)
            moved += step->to_unix - step->from_unix;
    }
    return past_unix + moved;
}

int64_t clock_restate(int64_t past_unix)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static struct clock_steps own;
    int64_t now = clock_unix();

    pthread_mutex_lock(&lock);
    clock_steps_look(&own, now, clock_now_ms());
    int64_t restated = clock_steps_restate(&own, past_unix);
    pthread_mutex_unlock(&lock);
    return MIN_OF(restated, now);
}
