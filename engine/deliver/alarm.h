/* Many deadlines behind one uv timer: a binary heap.  Thread: the worker's. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct alarm {      /* embedded; zeroed: not set */
    uint64_t at_ms; /* uv_now() time */
    size_t place;   /* 1-based in the heap; 0: not set */
    void (*ring)(struct alarm *a);
};

struct alarm_clock {
    uv_timer_t timer;
    struct alarm **heap; /* owned; [1..count] */
    size_t count, cap;
};

void alarm_clock_init(struct alarm_clock *c, uv_loop_t *loop);
void alarm_clock_close(struct alarm_clock *c); /* closes the timer; alarms must be cleared before */
void alarm_clock_fini(struct alarm_clock *c);  /* after the loop has run its closing */
void alarm_set(struct alarm_clock *c, struct alarm *a, uint64_t at_ms); /* moves it when it is set */
void alarm_clear(struct alarm_clock *c, struct alarm *a);
static inline int alarm_is_set(const struct alarm *a)
{
    return a->place != 0;
}
