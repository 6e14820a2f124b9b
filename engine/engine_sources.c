/* The addresses that mail leaves from: watched, shown, and warmed up by hand. */
#include "base/clock.h"
#include "engine/engine_priv.h"
#include "engine/sources.h"

static void tell_worker(struct worker *w, void *arg)
{
    (void)arg;
    deliver_sources_changed(w->deliver);
}

void engine_sources_changed(struct engine *e)
{
    for (unsigned i = 0; i < e->worker_count; i++)
        if (e->workers[i]->thread)
            worker_post(e->workers[i], tell_worker, NULL);
}

void engine_watch_sources(struct engine *e)
{
    if (sources_tick(e->shared.sources, clock_now_ms()))
        engine_sources_changed(e);
}

json_t *engine_sources_json(struct engine *e)
{
    struct policy *p = engine_policy(e);
    json_t *list = sources_json(e->shared.sources, p, NULL);

    policy_unref(p);
    return list;
}

uint64_t engine_sources_forecast_ms(struct engine *e, const char *group, uint64_t rcpts)
{
    struct policy *p = engine_policy(e);
    uint64_t wait_ms = sources_forecast_ms(e->shared.sources, p, group, rcpts);

    policy_unref(p);
    return wait_ms;
}

json_t *engine_sources_status(struct engine *e)
{
    struct policy *p = engine_policy(e);
    json_t *list = sources_json(e->shared.sources, p, NULL), *bad = json_array(), *one;
    size_t i;

    json_array_foreach(list, i, one)
    {
        if (!json_is_true(json_object_get(one, "usable")))
            json_array_append(bad, one);
    }
    json_t *status = json_pack("{s:I, s:o}", "addresses", (json_int_t)json_array_size(list), "unusable", bad);
    json_decref(list);
    policy_unref(p);
    return status;
}

void engine_sources_metrics(struct engine *e, struct buf *out)
{
    struct policy *p = engine_policy(e);

    sources_metrics(e->shared.sources, p, out);
    policy_unref(p);
}

enum err engine_source_warmup(struct engine *e, const char *address, const char *group, enum source_op op,
                              uint32_t step, size_t *changed)
{
    struct policy *p = engine_policy(e);
    enum err err = sources_by_hand(e->shared.sources, p, address, group, op, step, changed);

    policy_unref(p);
    if (!err)
        engine_sources_changed(e);
    return err;
}
