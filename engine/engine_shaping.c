/* What was imposed automatically, for people: lists, undoing by hand, its part of the status. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/engine_priv.h"
#include "engine/shaping.h"
#include "engine/sources.h"

#define STATUS_MAX       1000
#define STATUS_GROUP_MAX 20

static void look_again(struct worker *w, void *arg)
{
    (void)arg;
    deliver_look_again(w->deliver);
}

void engine_watch_shaping(struct engine *e)
{
    shaping_tick(e->shared.shaping, clock_now_ms());
    if (!shaping_has_news(e->shared.shaping))
        return;
    for (unsigned i = 0; i < e->worker_count; i++)
        worker_post(e->workers[i], look_again, NULL);
}

/* The group and the hosts of a domain, as `explain` finds them. */
static void find_hosts(struct engine *e, const char *domain, struct buf *group, struct buf *hosts)
{
    json_t *facts = engine_explain(e, domain), *host;
    const char *name = json_string_value(json_object_get(facts, "group"));
    size_t i;

    buf_puts(group, name ? name : "");
    json_array_foreach(json_object_get(facts, "hosts"), i, host)
        buf_putf(hosts, "%s%s:%d", i ? "," : "", json_string_value(json_object_get(host, "host")),
                 (int)json_integer_value(json_object_get(host, "port")));
    json_decref(facts);
}

/* Fills `out`, whose texts lie in the two buffers.  False: the domain is of another group than is asked for.
 */
static bool resolve(struct engine *e, const struct engine_shaping_filter *filter, struct buf *group,
                    struct buf *hosts, struct shaping_filter *out)
{
    *out = (struct shaping_filter){.id = filter->id, .group = filter->group};
    if (!filter->domain)
        return true;
    find_hosts(e, filter->domain, group, hosts);
    if (filter->group && strcmp(filter->group, buf_str(group)) != 0)
        return false;
    out->group = buf_str(group);
    out->hosts = buf_str(hosts);
    return true;
}

json_t *engine_shaping_list(struct engine *e, const struct engine_shaping_filter *filter, size_t max)
{
    struct shaping_filter which;
    size_t total = 0;
    BUF_LOCAL(group);
    BUF_LOCAL(hosts);

    json_t *events = resolve(e, filter, &group, &hosts, &which)
                         ? shaping_json(e->shared.shaping, &which, max, clock_now_ms(), &total)
                         : json_array();
    bool more = total > json_array_size(events);
    return json_pack("{s:o, s:I, s:b}", "events", events, "in_force", (json_int_t)total, "more", (int)more);
}

/* An event of a warm-up or a campaign was ended by hand. */
static void undo_subject(void *arg, enum shaping_subject kind, const char *group, const char *name,
                         double full)
{
    struct engine *e = arg;
    uint64_t changed;

    if (kind == SUBJECT_CAMPAIGN) {
        enum err err = engine_campaign_resume(e, name, &changed);
        if (err)
            log_error(NULL, "campaign.resume", LOG_STR("campaign", name), LOG_ERR(err));
        return;
    }
    struct policy *p = engine_policy(e);
    sources_undo(e->shared.sources, p, group, name, (uint32_t)full);
    policy_unref(p);
    engine_sources_changed(e);
}

size_t engine_shaping_clear(struct engine *e, const struct engine_shaping_filter *filter, const char *by)
{
    struct shaping_filter which;
    size_t cleared = 0;
    BUF_LOCAL(group);
    BUF_LOCAL(hosts);

    if (resolve(e, filter, &group, &hosts, &which))
        cleared = shaping_clear(e->shared.shaping, &which, by, clock_now_ms(), undo_subject, e);
    if (cleared)
        deliver_wake_all(&e->shared);
    return cleared;
}

json_t *engine_shaping_json(struct engine *e, json_t *groups)
{
    const struct shaping_filter everything = {0};
    size_t total = 0, i;
    json_t *events = shaping_json(e->shared.shaping, &everything, STATUS_MAX, clock_now_ms(), &total), *one;

    json_array_foreach(events, i, one)
    {
        json_t *g = json_object_get(groups, json_string_value(json_object_get(one, "group")));
        json_t *list = json_object_get(g, "shaping");
        if (g && !list)
            json_object_set_new(g, "shaping", list = json_array());
        if (list && json_array_size(list) < STATUS_GROUP_MAX)
            json_array_append(list, one);
    }
    json_t *sums =
        json_pack("{s:I, s:O?}", "in_force", (json_int_t)total, "newest", json_array_get(events, 0));
    json_decref(events);
    return sums;
}
