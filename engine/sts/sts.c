/* The public side: askers and the one place that calls them back. */
#include "engine/sts/sts.h"

#include <assert.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/sts/sts_priv.h"

#define FETCH_MS    60000 /* §3.3 */
#define TICK_MS     20000
#define ENTRIES_MAX 20000
#define BYTES_MAX   (64U << 20)

/* ---- open and close ---- */

static void on_tick(uv_timer_t *timer)
{
    sts_cache_tick(timer->data);
}

enum err sts_open(const struct sts_setup *setup, struct sts **out, char **why)
{
    struct sts *s = MEM_NEW(struct sts);

    s->setup = *setup;
    list_init(&s->order);
    list_init(&s->ready);
    enum err e = setup->dir ? sts_kept_load(s) : OK;
    if (e) {
        *why =
            text_format("cannot read the MTA-STS policies that are kept in %s: %s", setup->dir, err_text(e));
        sts_cache_fini(s);
        mem_free(s);
        return e;
    }
    uv_timer_init(setup->loop, &s->tick);
    uv_idle_init(setup->loop, &s->idle);
    s->tick.data = s->idle.data = s;
    s->handles = 2;
    uv_timer_start(&s->tick, on_tick, setup->tick_ms, setup->tick_ms);
    uv_unref((uv_handle_t *)&s->tick); /* alone, it need not keep a loop alive */
    *out = s;
    return OK;
}

enum err sts_create(struct worker *w, struct sts **out, char **why)
{
    const struct conf *conf = worker_conf(w);
    struct sts_setup setup = {
        .loop = &w->loop,
        .dns = w->dns,
        .fetcher = w->fetcher,
        .store = w->shared->store,
        .dir = conf->data_dir,
        .worker = w->index,
        .workers = w->shared->worker_count,
        .port = (uint16_t)conf->mta_sts.port,
        .fetch_ms = FETCH_MS,
        .tick_ms = TICK_MS,
        .entries_max = ENTRIES_MAX,
        .bytes_max = BYTES_MAX,
        .now_unix = clock_unix,
        .log = &w->log,
    };

    return sts_open(&setup, out, why);
}

static void query_free(struct sts_query *q)
{
    list_remove(&q->node);
    sts_policy_unref(q->policy);
    mem_free(q->why);
    mem_free(q);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct sts *s = handle->data;

    if (--s->handles)
        return;
    void (*on_closed)(void *) = s->on_closed;
    void *arg = s->on_closed_arg;

    map_fini(&s->entries);
    mem_free(s);
    if (on_closed)
        on_closed(arg);
}

void sts_close(struct sts *s, void (*on_closed)(void *arg), void *arg)
{
    struct list *node;

    if (!s)
        return;
    assert(!s->closing);
    s->closing = true;
    s->on_closed = on_closed;
    s->on_closed_arg = arg;
    while ((node = list_first(&s->ready)))
        query_free(LIST_ENTRY(node, struct sts_query, node));
    sts_cache_fini(s);
    uv_close((uv_handle_t *)&s->tick, on_handle_closed);
    uv_close((uv_handle_t *)&s->idle, on_handle_closed);
}

void sts_stats(const struct sts *s, struct sts_stats *out)
{
    *out = (struct sts_stats){
        .policies = atomic_load_explicit(&s->counters.policies, memory_order_relaxed),
        .enforced = atomic_load_explicit(&s->counters.enforced, memory_order_relaxed),
        .fetches = atomic_load_explicit(&s->counters.fetches, memory_order_relaxed),
        .fetch_failures = atomic_load_explicit(&s->counters.fetch_failures, memory_order_relaxed),
        .refreshes = atomic_load_explicit(&s->counters.refreshes, memory_order_relaxed),
        .refresh_failures = atomic_load_explicit(&s->counters.refresh_failures, memory_order_relaxed),
        .failing = atomic_load_explicit(&s->counters.failing, memory_order_relaxed),
    };
}

/* ---- answering ---- */

static void deliver(struct sts_query *q)
{
    const struct sts_answer answer = {
        .policy = q->policy, .failure = q->failure, .why = q->why ? q->why : ""};
    sts_fn fn = q->fn;

    q->fn = NULL;
    fn(q->arg, &answer);
    query_free(q);
}

/* A callback may cancel others, ask again, or close us. */
static void on_idle(uv_idle_t *idle)
{
    struct sts *s = idle->data;
    struct list now, *node;

    list_init(&now);
    list_move_all(&now, &s->ready);
    while ((node = list_pop(&now))) {
        struct sts_query *q = LIST_ENTRY(node, struct sts_query, node);
        if (s->closing)
            query_free(q);
        else
            deliver(q);
    }
    if (!s->closing && list_is_empty(&s->ready))
        uv_idle_stop(&s->idle);
}

void sts_query_answer(struct sts_query *q, const struct sts_entry *entry)
{
    struct sts *s = q->s;

    if (sts_entry_in_force(s, entry))
        q->policy = sts_policy_ref(entry->policy);
    q->failure = entry->failure;
    q->why = entry->failure || entry->txt_refused ? mem_strdup(entry->why) : NULL;
    list_remove(&q->node);
    list_push_back(&s->ready, &q->node);
    uv_idle_start(&s->idle, on_idle);
}

/* ---- asking ---- */

static struct sts_query *query_create(struct sts *s, sts_fn fn, void *arg)
{
    struct sts_query *q = MEM_NEW(struct sts_query);

    q->s = s;
    q->fn = fn;
    q->arg = arg;
    list_init(&q->node);
    return q;
}

/* What the last live lookup found still stands. */
static bool is_settled(const struct sts *s, const struct sts_entry *e)
{
    return uv_now(s->setup.loop) < e->txt_until_ms && (!e->policy || sts_entry_in_force(s, e));
}

static struct sts_query *ask(struct sts *s, const char *domain, bool anew, sts_fn fn, void *arg)
{
    if (s->closing)
        return NULL;
    struct sts_query *q = query_create(s, fn, arg);
    struct sts_entry *e = sts_entry_ensure(s, domain);

    if (!e->job && (anew || !is_settled(s, e)))
        sts_job_start(s, e, STS_WANT_LOOKUP);
    if (e->job && !sts_job_is_settled(e->job))
        sts_job_join(e->job, q);
    else
        sts_query_answer(q, e);
    return q;
}

struct sts_query *sts_lookup(struct sts *s, const char *domain, sts_fn fn, void *arg)
{
    return ask(s, domain, false, fn, arg);
}

struct sts_query *sts_recheck(struct sts *s, const char *domain, sts_fn fn, void *arg)
{
    return ask(s, domain, true, fn, arg);
}

struct sts_query *sts_refresh(struct sts *s, const char *domain, sts_fn fn, void *arg)
{
    if (s->closing)
        return NULL;
    struct sts_query *q = query_create(s, fn, arg);
    struct sts_entry *e = sts_entry_ensure(s, domain);

    if (!e->job)
        sts_job_start(s, e, STS_WANT_FORCED);
    sts_job_join(e->job, q);
    return q;
}

void sts_cancel(struct sts_query *q)
{
    if (q && q->fn) /* else it dies with its callback */
        query_free(q);
}
