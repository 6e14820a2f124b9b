#include "engine/watchdog.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/inbox.h"
#include "base/log.h"
#include "base/mem.h"

#define SECOND_MS    1000
#define WATCHED_MAX  264 /* 256 workers and the few others */
#define THREAD_BYTES 24

struct watched {
    char thread[THREAD_BYTES];
    struct pulse *pulse; /* borrowed */
    watchdog_fn on_change;
    void *arg;
};

struct watchdog {
    const _Atomic(const struct conf *) *conf; /* borrowed */
    struct doorbell bell;
    pthread_t thread;
    bool runs;
    size_t count;
    struct watched watched[WATCHED_MAX];
};

struct watchdog *watchdog_create(const _Atomic(const struct conf *) *conf)
{
    struct watchdog *d = MEM_NEW(struct watchdog);

    d->conf = conf;
    doorbell_init(&d->bell);
    return d;
}

void watchdog_add(struct watchdog *d, const char *thread, struct pulse *pulse, watchdog_fn on_change,
                  void *arg)
{
    struct watched *w = &d->watched[d->count];

    if (d->count == WATCHED_MAX)
        return;
    snprintf(w->thread, sizeof(w->thread), "%s", thread);
    w->pulse = pulse;
    w->on_change = on_change;
    w->arg = arg;
    d->count++;
}

static void change(const struct watchdog *d, size_t nth, bool stuck, unsigned seconds)
{
    const struct watched *w = &d->watched[nth];

    atomic_store_explicit(&w->pulse->stuck, stuck, memory_order_relaxed);
    if (stuck)
        log_error(NULL, "watchdog.stuck", LOG_STR("thread", w->thread), LOG_INT("seconds", seconds),
                  LOG_STR("hint", "what it holds waits; the others go on"));
    else
        log_warn(NULL, "watchdog.back", LOG_STR("thread", w->thread), LOG_INT("seconds", seconds));
    if (w->on_change)
        w->on_change(w->arg, nth, stuck);
}

static void look_at(const struct watchdog *d, size_t nth, unsigned stuck_after_s, unsigned abort_after_s)
{
    const struct watched *w = &d->watched[nth];
    struct pulse *p = w->pulse;
    unsigned long beats = atomic_load_explicit(&p->beats, memory_order_relaxed);
    unsigned seconds = pulse_seconds(p);

    if (beats != p->seen) {
        p->seen = beats;
        atomic_store_explicit(&p->seconds, 0, memory_order_relaxed);
        if (pulse_is_stuck(p))
            change(d, nth, false, seconds);
        return;
    }
    if (beats == 0)
        return;
    atomic_store_explicit(&p->seconds, ++seconds, memory_order_relaxed);
    if (!pulse_is_stuck(p) && seconds >= stuck_after_s)
        change(d, nth, true, seconds);
    if (abort_after_s && seconds >= abort_after_s) {
        log_error(NULL, "watchdog.abort", LOG_STR("thread", w->thread), LOG_INT("seconds", seconds));
        abort();
    }
}

void watchdog_look(struct watchdog *d, unsigned stuck_after_s, unsigned abort_after_s)
{
    for (size_t i = 0; i < d->count; i++)
        look_at(d, i, stuck_after_s, abort_after_s);
}

static void *run(void *arg)
{
    struct watchdog *d = arg;

    while (!doorbell_wait(&d->bell, SECOND_MS)) {
        const struct conf *conf = atomic_load_explicit(d->conf, memory_order_acquire);
        watchdog_look(d, (unsigned)(conf->watchdog.stuck_after_ms / SECOND_MS),
                      (unsigned)(conf->watchdog.abort_after_ms / SECOND_MS));
    }
    return NULL;
}

enum err watchdog_start(struct watchdog *d)
{
    if (pthread_create(&d->thread, NULL, run, d) != 0)
        return ERR_FULL;
    d->runs = true;
    pthread_setname_np(d->thread, "watchdog");
    return OK;
}

void watchdog_stop(struct watchdog *d)
{
    if (!d->runs)
        return;
    doorbell_ring(&d->bell);
    pthread_join(d->thread, NULL);
    d->runs = false;
}

void watchdog_destroy(struct watchdog *d)
{
    if (!d)
        return;
    watchdog_stop(d);
    doorbell_fini(&d->bell);
    mem_free(d);
}

/* ---- what was found ---- */

bool watchdog_any_stuck(const struct watchdog *d)
{
    for (size_t i = 0; i < d->count; i++)
        if (pulse_is_stuck(d->watched[i].pulse))
            return true;
    return false;
}

json_t *watchdog_json(const struct watchdog *d)
{
    json_t *list = json_array();

    for (size_t i = 0; i < d->count; i++) {
        const struct pulse *p = d->watched[i].pulse;
        json_array_append_new(list, json_pack("{s:s, s:i, s:b}", "thread", d->watched[i].thread,
                                              "seconds_without_turn", (int)pulse_seconds(p), "stuck",
                                              (int)pulse_is_stuck(p)));
    }
    return list;
}

void watchdog_metrics(const struct watchdog *d, struct buf *out)
{
    buf_puts(out, "# HELP hayauma_thread_seconds_without_turn seconds since the thread's loop turned\n"
                  "# TYPE hayauma_thread_seconds_without_turn gauge\n");
    for (size_t i = 0; i < d->count; i++)
        buf_putf(out, "hayauma_thread_seconds_without_turn{thread=\"%s\"} %u\n", d->watched[i].thread,
                 pulse_seconds(d->watched[i].pulse));
    buf_puts(out, "# HELP hayauma_thread_stuck 1 while the watchdog holds the thread for stuck\n"
                  "# TYPE hayauma_thread_stuck gauge\n");
    for (size_t i = 0; i < d->count; i++)
        buf_putf(out, "hayauma_thread_stuck{thread=\"%s\"} %d\n", d->watched[i].thread,
                 pulse_is_stuck(d->watched[i].pulse));
}
