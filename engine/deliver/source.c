/*
 * Where a link leaves from: an address of the group's pool, the group's own, or the kernel's choice; and what
 * that address may send.  engine/sources.h knows whose turn it is.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "engine/deliver/deliver_priv.h"
#include "engine/sources.h"

#define BRIEF_MS     1000 /* a wait that is not worth another connection */
#define REST_FROM_MS 5000 /* from here on mail waits on disk */

static const struct source_address *address_of(const struct link *link)
{
    return &link->site->group->pool->addresses[link->source_index];
}

static struct source_question question(const struct site *s, int family)
{
    return (struct source_question){
        .limits = s->d->w->shared->limits,
        .group = s->group,
        .uses = s->uses,
        .rules = s->is_source_paced ? s->source_rules : NULL,
        .family = family,
        .who = s,
        .home = s->d->w,
        .now_ms = worker_now_ms(s->d->w),
    };
}

void source_init(struct site *s)
{
    const struct source_pool *pool = s->group->pool;
    const struct group_limits *l = &s->group->limits;
    const double rates[PACE_SOURCE_RULES] = {l->source_per_second, l->source_per_minute, l->source_per_hour};
    static const double seconds[PACE_SOURCE_RULES] = {1, 60, 3600};

    for (int i = PACE_SOURCE_RULES - 1; i >= 0; i--) { /* the slowest has the burst */
        double burst = !s->is_source_paced && rates[i] > 0 ? l->burst : 1;
        s->source_rules[i] = (struct pace_rule){rates[i], seconds[i], burst};
        s->is_source_paced |= rates[i] > 0;
    }
    if (!pool)
        return;
    s->uses = mem_zalloc(pool->count * sizeof(struct source_use *));
    for (size_t i = 0; i < pool->count; i++)
        s->uses[i] = source_use_get(s->d->w->shared->sources, s->group->name, &pool->addresses[i]);
}

/* ---- a connection's ---- */

/* The group's own, else, where anything is counted by it, the one that the kernel would choose. */
static void choose_single(struct link *link)
{
    const struct group *g = link->site->group;
    const char *text = link->ip.family == 4 ? g->source_v4 : g->source_v6;

    link->source_ip = (struct ip){0};
    if (text && ip_parse(bytes_of(text), &link->source_ip))
        return;
    if (!(g->limits.connections_per_source || link->site->is_source_paced) ||
        !conn_source_for(&link->ip, link->host->port, &link->source_ip))
        link->source_ip = (struct ip){0};
}

static bool take_permit(struct link *link)
{
    uint32_t limit = link->site->group->limits.connections_per_source;
    char text[IP_TEXT_BYTES];
    BUF_LOCAL(key);

    if (!limit || !link->source_ip.family)
        return true;
    buf_putf(&key, "source:%s:%s", link->site->group->name, ip_format(&link->source_ip, text));
    link->source_pool = permit_pool(link->d->w->shared->limits, buf_str(&key), limit);
    if (shape_take_permit(link, link->source_pool, "connections_per_source"))
        return true;
    link->source_pool = NULL;
    return false;
}

static void use_pace(struct link *link)
{
    char text[IP_TEXT_BYTES];

    link->source_pace = link->site->is_source_paced && link->source_ip.family
                            ? source_pace(link->d->w->shared->limits, link->site->group->name,
                                          ip_format(&link->source_ip, text))
                            : NULL;
    if (!link->site->uses && link->source_pace != link->site->source_pace) {
        source_give_turn(link->site);
        link->site->source_pace = link->source_pace;
    }
}

enum address_taken source_take_address(struct link *link)
{
    struct site *s = link->site;
    enum address_taken taken = ADDRESS_TAKEN;

    if (!s->uses) {
        choose_single(link);
        use_pace(link);
        return take_permit(link) ? ADDRESS_TAKEN : ADDRESS_BUSY;
    }
    struct source_question q = question(s, link->ip.family);
    switch (source_choose(&q)) {
    case SOURCE_TAKEN:
        link->source_index = q.index;
        link->use = s->uses[q.index];
        link->source_pool = q.permit;
        link->source_ip = address_of(link)->ip;
        link->source_messages = 0;
        link->source_tried = false;
        link->source_spent = false;
        use_pace(link);
        break;
    case SOURCE_BUSY:
        shape_wait_in_line(link);
        link->busy_with = q.limit;
        link->busy_until_ms = q.wait_ms ? worker_now_ms(link->d->w) + q.wait_ms : 0;
        taken = ADDRESS_BUSY;
        break;
    case SOURCE_NO_FAMILY:
    case SOURCE_UNUSABLE:
        link->without_source = true;
        taken = ADDRESS_WITHOUT_SOURCE;
        break;
    }
    return taken;
}

void source_give_address(struct link *link)
{
    if (link->use)
        source_release(TAKE(link->use), address_of(link)->weight, link->source_messages, !link->source_tried);
    if (link->source_pool)
        shape_give_permit(link, TAKE(link->source_pool));
    link->source_pace = NULL;
}

const char *source_ehlo_name(const struct link *link)
{
    return link->use ? address_of(link)->ehlo_name : NULL;
}

void source_missing(const struct link *link, struct outcome *o)
{
    const struct source_pool *pool = link->site->group->pool;

    for (size_t i = 0; i < pool->count; i++) {
        const char *why = source_use_problem(link->site->uses[i]);
        if (why) {
            outcome_local(o, OUTCOME_DEFERRED, STAGE_CONNECT, 451, "4.3.5",
                          "no address of the source pool %s can be used for this host: %s: %s", pool->name,
                          pool->addresses[i].text, why);
            return;
        }
    }
    outcome_local(o, OUTCOME_DEFERRED, STAGE_CONNECT, 451, "4.3.5",
                  "the source pool %s has no address of the family (IPv4 or IPv6) that this host has",
                  pool->name);
}

bool source_cannot_bind(struct link *link)
{
    if (!link->use)
        return false;
    sources_doubt(link->d->w->shared->sources, link->use);
    return source_use_problem(link->use) != NULL;
}

/* ---- messages ---- */

static void wait_for(struct site *s, const char *limit, uint64_t wait_ms)
{
    uint64_t until_ms = worker_now_ms(s->d->w) + wait_ms;

    shape_met(s, limit, until_ms);
    if (wait_ms >= REST_FROM_MS)
        s->spent_until_ms = until_ms;
    else
        s->open_after_ms = MAX_OF(s->open_after_ms, until_ms);
    site_set_alarm(s, until_ms);
}

static const double one_message[PACE_SOURCE_RULES] = {1, 1, 1};

void source_give_turn(struct site *s)
{
    if (!s->source_turn_ends_ms)
        return;
    s->source_turn_ends_ms = 0;
    pace_give(s->source_pace, s->source_rules, one_message, PACE_SOURCE_RULES, clock_now_us());
}

/*
 * Is there a message for the link that is to be opened?  Its turn is taken now: with many sites each would
 * find the next one there, open a link for it, and all but one be too late.
 */
static bool take_turn(struct site *s)
{
    uint64_t now_ms = worker_now_ms(s->d->w);
    size_t which = 0;

    if (!s->source_pace || s->source_turn_ends_ms > now_ms)
        return true;
    source_give_turn(s);
    uint32_t wait_ms =
        pace_take(s->source_pace, s->source_rules, one_message, PACE_SOURCE_RULES, clock_now_us(), &which);
    if (wait_ms) {
        s->open_after_ms = MAX_OF(s->open_after_ms, now_ms + wait_ms);
        shape_met(s, source_pace_names[which], s->open_after_ms);
        site_set_alarm(s, s->open_after_ms);
        return false;
    }
    s->source_turn_ends_ms = now_ms + TURN_KEPT_MS;
    return true;
}

bool source_may_open(struct site *s)
{
    struct source_question q;

    if (!s->uses)
        return take_turn(s);
    q = question(s, 0);
    if (source_ask(&q) == SOURCE_TAKEN)
        return true;
    wait_for(s, q.limit, MAX_OF(q.wait_ms, (uint64_t)1));
    return false;
}

/* A site is bound by what its pool waits for, not by what one address of it does. */
static void tell_limit(struct site *s, const char *limit, uint64_t wait_ms)
{
    struct source_question q = question(s, 0);

    if (wait_ms >= REST_FROM_MS && s->uses) {
        if (source_ask(&q) == SOURCE_TAKEN)
            return;
        limit = q.limit;
        wait_ms = q.wait_ms;
    }
    shape_met(s, limit, worker_now_ms(s->d->w) + wait_ms);
}

/*
 * This one's share is used up: others of the pool go on.  It ends when it would idle too long, or when
 * somebody waits for its place.
 */
static void spend(struct link *link, const char *limit, uint64_t wait_ms, bool keep)
{
    struct site *s = link->site;
    uint64_t until_ms = worker_now_ms(link->d->w) + wait_ms;

    link->source_until_ms = until_ms;
    if (wait_ms > (keep && !s->waits_for_permit ? s->group->timeouts.idle_ms : BRIEF_MS))
        link->source_spent = true;
    if (wait_ms > 10)
        tell_limit(s, limit, wait_ms);
    site_set_alarm(s, until_ms);
}

/* 0: it is taken; else how long to wait. */
static uint32_t take_from_pace(struct link *link, size_t *which)
{
    struct site *s = link->site;

    if (s->source_turn_ends_ms && link->source_pace == s->source_pace) {
        s->source_turn_ends_ms = 0;
        return 0;
    }
    return pace_take(link->source_pace, s->source_rules, one_message, PACE_SOURCE_RULES, clock_now_us(),
                     which);
}

uint32_t source_take_message(struct link *link, uint32_t recipients)
{
    struct site *s = link->site;
    size_t which = 0;
    uint64_t wait_ms = 0;

    link->source_until_ms = UINT64_MAX / 2;
    if (link->source_spent)
        return 0;
    if (link->source_pace) {
        uint32_t pace_ms = take_from_pace(link, &which);
        if (pace_ms) {
            spend(link, source_pace_names[which], pace_ms, true);
            return 0;
        }
    }
    if (!link->use)
        return recipients;
    uint32_t taken =
        source_take(link->use, address_of(link)->warmup, recipients, &link->d->w->inbox, &wait_ms);
    if (!taken) {
        if (link->source_pace)
            pace_give(link->source_pace, s->source_rules, one_message, PACE_SOURCE_RULES, clock_now_us());
        spend(link, "warmup", wait_ms, false);
    }
    return taken;
}

void source_give_message(struct link *link, uint32_t recipients)
{
    if (link->source_pace)
        pace_give(link->source_pace, link->site->source_rules, one_message, PACE_SOURCE_RULES,
                  clock_now_us());
    source_give_recipients(link, recipients);
}

void source_give_recipients(struct link *link, uint32_t recipients)
{
    if (link->use && recipients && address_of(link)->warmup)
        source_give(link->use, recipients);
}

void source_on_message(struct link *link)
{
    struct source_question q;

    if (!link->use || ++link->source_messages % SOURCE_QUANTUM || link->source_messages == SOURCE_QUANTUM)
        return;
    q = question(link->site, link->ip.family);
    if (source_moves_on(&q, link->source_index))
        link->source_spent = true;
}

void source_on_outcome(struct link *link, const struct outcome *o)
{
    if (link->use && address_of(link)->warmup)
        source_note(link->use, address_of(link)->warmup, o, policy_version(link->site->policy));
}

void source_on_refused(struct link *link, const struct outcome *o)
{
    if (o->remote && o->stage != STAGE_TLS && o->stage != STAGE_STARTTLS && o->stage != STAGE_AUTH)
        source_on_outcome(link, o);
}

/* Something has changed about addresses, for the better: what waited for that may go. */
void deliver_sources_changed(struct deliver *d)
{
    LIST_FOREACH_SAFE (node, &d->all_sites) {
        struct site *s = LIST_ENTRY(node, struct site, node);
        if (!s->uses || s->stale)
            continue;
        s->spent_until_ms = 0;
        if (s->bound_until_ms > worker_now_ms(d->w) + REST_FROM_MS)
            s->bound_by = NULL; /* it is met again if it still holds */
        if (s->rests_for_source)
            suspension_end(&s->rest);
        s->rests_for_source = false;
        LIST_FOREACH_SAFE (dest_node, &s->dests)
            dest_kick_soon(LIST_ENTRY(dest_node, struct dest, site_node));
        site_set_alarm(s, worker_now_ms(d->w));
    }
}
