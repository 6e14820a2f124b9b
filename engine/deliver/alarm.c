#include "engine/deliver/alarm.h"

#include "base/mem.h"

static void put(struct alarm_clock *c, size_t place, struct alarm *a)
{
    c->heap[place] = a;
    a->place = place;
}

static void sift(struct alarm_clock *c, struct alarm *a)
{
    size_t i = a->place;

    while (i > 1 && c->heap[i / 2]->at_ms > a->at_ms) {
        put(c, i, c->heap[i / 2]);
        i /= 2;
    }
    for (size_t child; (child = i * 2) <= c->count; i = child) {
        if (child < c->count && c->heap[child + 1]->at_ms < c->heap[child]->at_ms)
            child++;
        if (c->heap[child]->at_ms >= a->at_ms)
            break;
        put(c, i, c->heap[child]);
    }
    put(c, i, a);
}

static void on_timer(uv_timer_t *timer);

static void arm(struct alarm_clock *c)
{
    if (!c->count) {
        uv_timer_stop(&c->timer);
        return;
    }
    uint64_t now = uv_now(c->timer.loop), at = c->heap[1]->at_ms;
    uv_timer_start(&c->timer, on_timer, at > now ? at - now : 0, 0);
}

static void on_timer(uv_timer_t *timer)
{
    struct alarm_clock *c = timer->data;
    uint64_t now = uv_now(timer->loop);

    /* An alarm set again for now while ringing waits for the next turn of the loop. */
    for (size_t budget = c->count; budget && c->count && c->heap[1]->at_ms <= now; budget--) {
        struct alarm *a = c->heap[1];
        alarm_clear(c, a);
        a->ring(a);
    }
    arm(c);
}

void alarm_clock_init(struct alarm_clock *c, uv_loop_t *loop)
{
    *c = (struct alarm_clock){0};
    uv_timer_init(loop, &c->timer);
    c->timer.data = c;
}

void alarm_clock_close(struct alarm_clock *c)
{
    uv_close((uv_handle_t *)&c->timer, NULL);
}

void alarm_clock_fini(struct alarm_clock *c)
{
    mem_free(c->heap);
    c->heap = NULL;
}

void alarm_set(struct alarm_clock *c, struct alarm *a, uint64_t at_ms)
{
    struct alarm *first = c->count ? c->heap[1] : NULL;

    a->at_ms = at_ms;
    if (!a->place) {
        if (c->count + 2 > c->cap) {
            c->cap = c->cap ? c->cap * 2 : 64;
            c->heap = mem_realloc(c->heap, c->cap * sizeof(*c->heap));
        }
        put(c, ++c->count, a);
    }
    sift(c, a);
    if (c->heap[1] != first || c->heap[1] == a)
        arm(c);
}

void alarm_clear(struct alarm_clock *c, struct alarm *a)
{
    size_t place = a->place;

    if (!place)
        return;
    a->place = 0;
    struct alarm *last = c->heap[c->count--];
    if (last != a) {
        put(c, place, last);
        sift(c, last);
    }
}
