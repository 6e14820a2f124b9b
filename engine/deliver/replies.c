/*
 * Rules about replies at work: policy/reply_rule.h says which reply, engine/shaping.h what holds for the site
 * in all workers, and here it meets links and jobs.
 */
#include "engine/shaping.h"

#include "engine/deliver/deliver_priv.h"
#include "policy/classify.h"

#define STATUS_MAX       20 /* of one group */
#define STORM_MS         10000
#define STORM_LEAST      10
#define STORM_BACK_OFF_S 60

static const char *const what_names[SHAPED_WHATS] = {"suspended", "connections", "messages_per_second"};

void replies_init(struct site *s)
{
    struct buf key = {0};

    /* One for all that goes to these hosts under these rules, however it is secured. */
    buf_putf(&key, "%s|", s->group->name);
    for (size_t i = 0; i < s->host_count; i++)
        buf_putf(&key, "%s:%u|", s->hosts[i].name, s->hosts[i].port);
    s->shaped = shaped_get(s->d->w->shared->shaping, buf_str(&key), worker_now_ms(s->d->w));
    buf_fini(&key);
}

void replies_fini(struct site *s)
{
    shaped_put(s->d->w->shared->shaping, TAKE(s->shaped), worker_now_ms(s->d->w));
}

static void tell(const struct site *s, const struct reply_rule *rule, const struct outcome *o)
{
    struct shaped_view now[SHAPED_WHATS];
    uint64_t now_ms = worker_now_ms(s->d->w);

    shaped_look(s->shaped, now_ms, now);
    for (int i = 0; i < SHAPED_WHATS; i++)
        if (now[i].until_ms && now[i].line == rule->line)
            log_warn(&s->d->w->log, "reply.rule", LOG_STR("group", s->group->name),
                     LOG_STR("mx", s->host_count ? s->hosts[0].name : "-"), LOG_INT("line", rule->line),
                     LOG_STR("what", what_names[i]), LOG_INT("value", now[i].value),
                     LOG_INT("seconds", (now[i].until_ms - now_ms + 999) / 1000), LOG_INT("code", o->code),
                     LOG_STR("stage", outcome_stage_name(o->stage)), LOG_STR("why", o->text));
}

static void shape(struct site *s, const struct reply_rule *rule, const struct outcome *o)
{
    uint64_t now_ms = worker_now_ms(s->d->w);

    if (!shaped_apply(s->shaped, rule, o, now_ms))
        return;
    tell(s, rule, o);
    site_set_alarm(s, now_ms); /* not here: the caller may be walking over the site's jobs */
}

void replies_on_failed_host(struct link *link, const struct outcome *o)
{
    struct site *s = link->site;
    const struct reply_rule *rule = policy_reply_rule(s->policy, s->group, o);

    if (rule && reply_rule_shapes(rule))
        shape(s, rule, o);
}

/*
 * Without a rule: when most of what a receiver says within a while is "421" or "slow down", half of the
 * connections are enough, and they come back in steps.  A share, because a large receiver says it now and
 * then of single mailboxes. Refused connections have the site's own cap.
 */
static void watch_for_storm(struct site *s, const struct outcome *o)
{
    static const struct reply_rule halve = {.back_off_s = STORM_BACK_OFF_S};
    uint64_t now_ms = worker_now_ms(s->d->w);

    if (o->stage < STAGE_MAIL || !o->remote)
        return;
    if (s->storm_since_ms + STORM_MS < now_ms) {
        s->storm_since_ms = now_ms;
        s->storm_seen = s->storm_slowed = 0;
    }
    s->storm_seen++;
    if (o->kind != OUTCOME_DEFERRED || (o->code != 421 && classify_outcome(o) != CLASS_RATE_LIMITED))
        return;
    s->storm_slowed++;
    if (s->storm_slowed < STORM_LEAST || s->storm_slowed * 2 < s->storm_seen)
        return;
    s->storm_since_ms = 0;
    shape(s, &halve, o);
}

uint32_t replies_judge(const struct link *link, struct outcome *o)
{
    const struct reply_rule *rule;

    if (!link)
        return 0;
    rule = policy_reply_rule(link->site->policy, link->site->group, o);
    if (!rule) {
        watch_for_storm(link->site, o);
        return 0;
    }
    if (reply_rule_shapes(rule))
        shape(link->site, rule, o);
    enum outcome_class class = classify_outcome(o);
    if (rule->treat == TREAT_AS_TEMPORARY && o->kind == OUTCOME_BOUNCED)
        o->kind = OUTCOME_DEFERRED;
    else if (rule->treat == TREAT_AS_PERMANENT && class != CLASS_TLS_REQUIRED && class != CLASS_TLS_FAILED)
        o->kind = OUTCOME_BOUNCED; /* but never for want of TLS */
    log_info(&link->log, "reply.judged", LOG_STR("group", link->site->group->name),
             LOG_INT("line", rule->line), LOG_INT("code", o->code),
             LOG_STR("stage", outcome_stage_name(o->stage)), LOG_STR("result", outcome_kind_name(o->kind)),
             LOG_INT("retry_after", rule->retry_after_s));
    return o->kind == OUTCOME_DEFERRED ? rule->retry_after_s : 0;
}

bool replies_may_open(struct site *s)
{
    uint64_t now_ms = worker_now_ms(s->d->w);

    if (s->link_count && shaped_is_slow(s->shaped, now_ms))
        return false; /* the rate binds, not the links */
    if (shaped_take_connection(s->shaped, s, now_ms))
        return true;
    site_set_alarm(s, now_ms + 250); /* another worker's link may have ended by then */
    return false;
}

bool replies_may_send(struct site *s)
{
    uint64_t now_ms = worker_now_ms(s->d->w);
    uint32_t wait_ms = shaped_take_message(s->shaped, now_ms);

    if (wait_ms)
        site_set_alarm(s, now_ms + wait_ms);
    return !wait_ms;
}

bool replies_are_too_many(const struct site *s)
{
    return shaped_has_too_many(s->shaped, worker_now_ms(s->d->w));
}

bool replies_want_it_closed(const struct site *s)
{
    uint64_t now_ms = worker_now_ms(s->d->w);

    return shaped_has_too_many(s->shaped, now_ms) || shaped_is_wanted(s->shaped, s, now_ms);
}

void replies_on_alarm(struct site *s)
{
    if (shaped_suspended_until_ms(s->shaped) <= worker_now_ms(s->d->w))
        return;
    LIST_FOREACH_SAFE (node, &s->dests) /* waiting mail waits on disk */
        dest_go_cold(LIST_ENTRY(node, struct dest, site_node));
}

void replies_rest(struct site *s)
{
    site_set_alarm(s, site_rest_until_ms(s));
}

static void wake_all(struct worker *w, void *arg)
{
    (void)arg;
    LIST_FOREACH_SAFE (node, &w->deliver->all_sites) {
        struct site *s = LIST_ENTRY(node, struct site, node);
        LIST_FOREACH_SAFE (dest_node, &s->dests)
            dest_kick_soon(LIST_ENTRY(dest_node, struct dest, site_node));
    }
}

void replies_clear(struct site *s)
{
    struct shared *shared = s->d->w->shared;
    struct shaped_view now[SHAPED_WHATS];
    bool any = false;

    shaped_look(s->shaped, worker_now_ms(s->d->w), now);
    for (int i = 0; i < SHAPED_WHATS; i++)
        any |= now[i].until_ms > 0;
    if (!any)
        return;
    shaped_clear(s->shaped);
    log_info(&s->d->w->log, "reply.rule_cleared", LOG_STR("group", s->group->name),
             LOG_STR("mx", s->host_count ? s->hosts[0].name : "-"));
    for (unsigned i = 0; i < shared->worker_count; i++) /* they sleep until its end */
        worker_post(shared->workers[i], wake_all, NULL);
}

json_t *replies_json(const struct site *s, uint64_t now_ms)
{
    struct shaped_view now[SHAPED_WHATS];
    json_t *list = NULL;

    shaped_look(s->shaped, now_ms, now);
    for (int i = 0; i < SHAPED_WHATS; i++) {
        if (!now[i].until_ms)
            continue;
        json_t *one =
            json_pack("{s:s, s:I, s:i, s:i, s:s, s:s}", "what", what_names[i], "seconds_left",
                      (json_int_t)(now[i].until_ms - now_ms + 999) / 1000, "line", (int)now[i].line, "code",
                      (int)now[i].code, "text", now[i].text, "mx", s->host_count ? s->hosts[0].name : "");
        if (i != SHAPED_SUSPENDED)
            json_object_set_new(one, "value", json_real(now[i].value));
        list = list ? list : json_array();
        json_array_append_new(list, one);
    }
    return list;
}

/* Sites of several workers may stand for the same hosts: each thing once. */
static bool is_listed(const json_t *list, const json_t *one)
{
    json_t *other;
    size_t i;

    json_array_foreach((json_t *)(uintptr_t)list, i, other)
    {
        if (json_equal(json_object_get(other, "what"), json_object_get(one, "what")) &&
            json_equal(json_object_get(other, "mx"), json_object_get(one, "mx")) &&
            json_equal(json_object_get(other, "line"), json_object_get(one, "line")))
            return true;
    }
    return false;
}

void replies_put_status(const struct site *s, uint64_t now_ms, json_t *group)
{
    json_t *mine = replies_json(s, now_ms), *list = json_object_get(group, "reply_rules"), *one;
    size_t i;

    if (!mine)
        return;
    if (!list)
        json_object_set_new(group, "reply_rules", list = json_array());
    json_array_foreach(mine, i, one)
    {
        if (json_array_size(list) < STATUS_MAX && !is_listed(list, one))
            json_array_append(list, one);
    }
    json_decref(mine);
}
