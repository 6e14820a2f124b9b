/* What is shown of source addresses. */
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/sources_priv.h"

static json_t *warmup_json(struct source_use *use, const struct warmup_ladder *l)
{
    int64_t now_ms = clock_unix_ms();

    pthread_mutex_lock(&use->group->lock);
    uint64_t wait_ms = source_warmup_wait_ms(use, l, now_ms); /* ends a period that is over */
    struct warmup_state s = use->warm;
    pthread_mutex_unlock(&use->group->lock);
    uint32_t left = warmup_left(&s, l, now_ms);
    json_t *json = json_pack("{s:s, s:i, s:i, s:b, s:I, s:I, s:I}", "state",
                             s.done                          ? "warm"
                             : s.held                        ? "held"
                             : now_ms < l->start_unix * 1000 ? "before-start"
                             : s.stopped                     ? "stopped"
                                                             : "warming",
                             "step", (int)MIN_OF(s.step + 1, l->count), "steps", (int)l->count, "held",
                             (int)s.held, "taken", (json_int_t)s.taken, "tried", (json_int_t)s.tried,
                             "refused", (json_int_t)s.refused);

    if (s.done)
        return json;
    json_object_set_new(json, "size", json_integer(warmup_step_size(&s, l)));
    json_object_set_new(json, "left", json_integer(left));
    if (s.since_ms)
        json_object_set_new(json, "period_ends_unix", json_integer(s.since_ms / 1000 + l->period_s));
    if (wait_ms)
        json_object_set_new(json, "seconds_to_wait", json_integer((json_int_t)(wait_ms + 999) / 1000));
    return json;
}

static json_t *groups_json(struct sources *all, const struct policy *p, const struct source_pool *pool,
                           const struct source_address *a, const char *only)
{
    json_t *list = json_array();

    for (size_t i = 0; i < policy_group_count(p); i++) {
        const struct group *g = policy_group(p, i);
        if (g->pool != pool || (only && strcmp(only, g->name) != 0))
            continue;
        json_t *one = json_pack("{s:s, s:s?}", "group", g->name, "ehlo_name",
                                a->ehlo_name ? a->ehlo_name : g->ehlo_name);
        if (a->warmup)
            json_object_set_new(one, "warmup", warmup_json(source_use_get(all, g->name, a), a->warmup));
        json_array_append_new(list, one);
    }
    return list;
}

json_t *sources_json(struct sources *all, const struct policy *p, const char *group)
{
    const struct group *g = group ? policy_group_by_name(p, group) : NULL;
    json_t *list = json_array();

    for (size_t i = 0; i < policy_pool_count(p); i++) {
        const struct source_pool *pool = policy_pool(p, i);
        for (size_t k = 0; k < pool->count && (!g || g->pool == pool); k++) {
            const struct source_address *a = &pool->addresses[k];
            pthread_mutex_lock(&all->lock);
            const struct source_state *state = map_find(&all->states, bytes_of(a->text));
            pthread_mutex_unlock(&all->lock);
            int error = state ? atomic_load(&state->error) : 0;
            json_t *one = json_pack("{s:s, s:s, s:i, s:s?, s:i, s:b, s:i}", "pool", pool->name, "address",
                                    a->text, "family", (int)a->ip.family, "ehlo_name", a->ehlo_name, "weight",
                                    (int)a->weight, "usable", error == 0, "connections",
                                    state ? (int)atomic_load(&state->connections) : 0);
            if (error) {
                json_object_set_new(one, "why", json_string(strerror(error)));
                json_object_set_new(one, "since_unix", json_integer(atomic_load(&state->since_unix)));
            }
            json_object_set_new(one, "groups", groups_json(all, p, pool, a, group));
            json_array_append_new(list, one);
        }
    }
    return list;
}

void sources_metrics(struct sources *all, const struct policy *p, struct buf *out)
{
    json_t *list = sources_json(all, p, NULL), *one;
    static const char *const names[] = {"usable", "connections"};
    static const char *const helps[] = {"1 while this host has the source address",
                                        "open from the source address"};
    size_t i;

    for (size_t n = 0; n < COUNT_OF(names) && json_array_size(list); n++) {
        buf_putf(out, "# HELP hayauma_source_%s %s\n# TYPE hayauma_source_%s gauge\n", names[n], helps[n],
                 names[n]);
        json_array_foreach(list, i, one)
        {
            const json_t *value = json_object_get(one, names[n]);
            buf_putf(out, "hayauma_source_%s{pool=\"%s\",address=\"%s\"} %lld\n", names[n],
                     json_string_value(json_object_get(one, "pool")),
                     json_string_value(json_object_get(one, "address")),
                     json_is_boolean(value) ? (long long)json_is_true(value)
                                            : (long long)json_integer_value(value));
        }
    }
    json_decref(list);
}
