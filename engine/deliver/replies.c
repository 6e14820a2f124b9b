/*
 * What a receiver says changes what is sent to it: policy/reply_rule.h says which reply, engine/shaping.h
 * what holds for the site in all workers, and here both meet links and jobs.
 */
#include "engine/shaping.h"

#include "base/mem.h"
#include "engine/deliver/deliver_priv.h"
#include "policy/classify.h"

#define REFUSED_MS 1000 /* before another connection is tried */

void replies_init(struct site *s)
{
    BUF_LOCAL(hosts);

    /* One for all that goes to these hosts under these rules, however it is secured. */
    for (size_t i = 0; i < s->host_count; i++)
        buf_putf(&hosts, "%s%s:%u", i ? "," : "", s->hosts[i].name, s->hosts[i].port);
    s->shaped = shaped_get(s->d->w->shared->shaping, s->group->name, buf_str(&hosts));
    if (s->group->adaptive.mode == ADAPTIVE_OFF)
        shaped_clear(s->shaped, true, "adaptive is off");
}

void replies_fini(struct site *s)
{
    shaped_put(TAKE(s->shaped));
}

/* ---- what was said ---- */

/* A new window, when the old one is over. */
static void count_reply(struct site *s)
{
    uint64_t now_ms = worker_now_ms(s->d->w);

    if (s->window_since_ms + s->group->adaptive.storm_window_s * UINT64_C(1000) < now_ms) {
        s->window_since_ms = now_ms;
        s->window_replies = s->window_told = 0;
    }
    s->window_replies++;
}

static struct shaped_load load_of(const struct site *s)
{
    uint64_t ms = MAX_OF(worker_now_ms(s->d->w) - s->window_since_ms, UINT64_C(100));

    return (struct shaped_load){.allowed = shape_messages_per_second(s),
                                .measured = s->window_replies * 1000.0 / (double)ms,
                                .policy_version = policy_version(s->policy)};
}

static void apply(struct site *s, const struct reply_rule *rule, const struct outcome *o)
{
    const struct shaped_load load = load_of(s);
    uint64_t now_ms = worker_now_ms(s->d->w);

    if (shaped_apply(s->shaped, rule, &load, o, now_ms))
        site_set_alarm(s, now_ms); /* not here: the caller may be walking over the site's jobs */
}

void replies_on_failed_host(struct link *link, const struct outcome *o)
{
    struct site *s = link->site;
    const struct reply_rule *rule = policy_reply_rule(s->policy, s->group, o);

    if (rule && reply_rule_shapes(rule))
        apply(s, rule, o);
}

static bool asks_to_slow_down(const struct outcome *o)
{
    return o->kind == OUTCOME_DEFERRED && o->code / 100 == 4 && outcome_refuses_us(o);
}

/* Without a rule: when most of what a receiver says within a while is "later", we step back. */
static void watch_for_storm(struct site *s, const struct outcome *o)
{
    uint64_t now_ms = worker_now_ms(s->d->w);

    if (s->group->adaptive.mode == ADAPTIVE_OFF || !asks_to_slow_down(o))
        return;
    const struct shaped_load load = load_of(s);
    uint32_t seen = s->window_replies - s->window_told;
    s->window_told = s->window_replies;
    if (shaped_slow_reply(s->shaped, &s->group->adaptive, seen, &load, o, now_ms))
        site_set_alarm(s, now_ms);
}

void replies_on_refused(struct site *s, const struct outcome *o)
{
    uint64_t now_ms = worker_now_ms(s->d->w);
    const struct shaped_load load = load_of(s);

    if (s->group->adaptive.mode == ADAPTIVE_ON)
        (void)shaped_refused(s->shaped, &s->group->adaptive, &load, o, now_ms);
    s->open_after_ms = now_ms + REFUSED_MS;
    site_set_alarm(s, s->open_after_ms);
}

bool replies_have_sessions(const struct link *link, const struct outcome *o)
{
    const struct site *s = link->site;

    return s->group->adaptive.mode == ADAPTIVE_ON && o->kind == OUTCOME_DEFERRED &&
           o->stage >= STAGE_CONNECT && o->stage <= STAGE_EHLO && !(o->remote && o->code >= 500) &&
           !s->rests_for_source && shaped_has_sessions(s->shaped);
}

void replies_on_rest(struct site *s, const struct outcome *o)
{
    const struct shaped_load load = load_of(s);

    shaped_rest(s->shaped, s->rest.until_ms, s->rest.failures, &load, o, worker_now_ms(s->d->w));
}

/* What is said of a whole transaction is one reply; what ended a walk was said to us, not of the mail that
 * waited. */
static bool is_new_reply(const struct link *link, const struct outcome *o)
{
    bool is_new = o->stage == STAGE_RCPT || !link->site->reply_counted;

    if (!link->ready || !o->remote || o->stage < STAGE_MAIL)
        return false;
    if (o->stage != STAGE_RCPT)
        link->site->reply_counted = true;
    return is_new;
}

uint32_t replies_judge(const struct link *link, struct outcome *o)
{
    const struct reply_rule *rule;

    if (!link)
        return 0;
    bool is_new = is_new_reply(link, o);
    if (is_new)
        count_reply(link->site);
    if (o->kind != OUTCOME_DEFERRED && o->kind != OUTCOME_BOUNCED)
        return 0;
    rule = policy_reply_rule(link->site->policy, link->site->group, o);
    if (!rule) {
        if (is_new)
            watch_for_storm(link->site, o);
        return 0;
    }
    if (reply_rule_shapes(rule))
        apply(link->site, rule, o);
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

/* ---- what holds ---- */

bool replies_may_open(struct site *s)
{
    uint64_t now_ms = worker_now_ms(s->d->w);

    uint32_t wait_ms = s->link_count ? shaped_message_wait(s->shaped, now_ms) : 0;
    if (wait_ms) { /* the rate binds, not the links */
        site_set_alarm(s, now_ms + wait_ms);
        return false;
    }
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

void replies_look_again(struct site *s)
{
    uint64_t now_ms = worker_now_ms(s->d->w);

    replies_on_alarm(s);
    if (!shaped_is_capped(s->shaped, now_ms))
        return;
    LIST_FOREACH_SAFE (node, &s->idle)
        link_on_idle(LIST_ENTRY(node, struct link, idle_node));
}

void replies_rest(struct site *s)
{
    site_set_alarm(s, site_rest_until_ms(s));
}

/* ---- by hand ---- */

static void kick_sites(struct worker *w, void *arg)
{
    (void)arg;
    LIST_FOREACH_SAFE (node, &w->deliver->all_sites)
        LIST_FOREACH_SAFE (dest_node, &LIST_ENTRY(node, struct site, node)->dests)
            dest_kick_soon(LIST_ENTRY(dest_node, struct dest, site_node));
}

void deliver_kick_all(struct shared *shared)
{
    for (unsigned i = 0; i < shared->worker_count; i++)
        worker_post(shared->workers[i], kick_sites, NULL);
}

static void wake_sites(struct worker *w, void *arg)
{
    (void)arg;
    LIST_FOREACH_SAFE (node, &w->deliver->all_sites) {
        struct site *s = LIST_ENTRY(node, struct site, node);
        if (s->rest.failures && !shaped_is_resting(s->shaped))
            suspension_end(&s->rest);
        LIST_FOREACH_SAFE (dest_node, &s->dests)
            dest_kick_soon(LIST_ENTRY(dest_node, struct dest, site_node));
    }
}

void deliver_wake_all(struct shared *shared)
{
    for (unsigned i = 0; i < shared->worker_count; i++) /* they sleep until its end */
        worker_post(shared->workers[i], wake_sites, NULL);
}

void replies_clear(struct site *s)
{
    if (shaped_clear(s->shaped, false, "retried by hand"))
        deliver_wake_all(s->d->w->shared);
}
