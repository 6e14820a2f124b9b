/*
 * A thread's pulse: it beats once in each turn of its loop, at least once a second, and engine/watchdog.h
 * counts the seconds in which it did not.
 *
 * Thread    pulse_beat: the one that is watched.  pulse_is_stuck, pulse_seconds: any.  The rest is the
 * watchdog's.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

struct pulse {
    atomic_ulong beats;
    atomic_uint seconds; /* since the last beat that was seen */
    atomic_bool stuck;
    unsigned long seen;
};

static inline void pulse_beat(struct pulse *p)
{
    atomic_fetch_add_explicit(&p->beats, 1, memory_order_relaxed);
}

static inline bool pulse_is_stuck(const struct pulse *p)
{
    return atomic_load_explicit(&p->stuck, memory_order_relaxed);
}

static inline unsigned pulse_seconds(const struct pulse *p)
{
    return atomic_load_explicit(&p->seconds, memory_order_relaxed);
}
