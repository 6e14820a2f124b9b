/* Each attempt beside the shadow rules.  With none in force this costs one comparison. */
#include "engine/shadow.h"

#include "base/mem.h"
#include "engine/deliver/deliver_priv.h"
#include "policy/judge.h"

#define MATCHES 1024 /* a power of two */

/* The group of a destination, as long as it is bound as it was. */
struct match {
    uint64_t serial, bound_until_ms; /* of the destination */
    const struct group *group;       /* borrowed from the snapshot; NULL: empty slot */
};

struct worker_shadow {
    struct shadow *rules; /* counted */
    struct match matches[MATCHES];
};

void worker_shadow_set(struct worker_shadow **ws, struct shadow *s)
{
    worker_shadow_destroy(TAKE(*ws));
    if (!s)
        return;
    *ws = MEM_NEW(struct worker_shadow);
    (*ws)->rules = shadow_ref(s);
}

void worker_shadow_destroy(struct worker_shadow *ws)
{
    if (!ws)
        return;
    shadow_unref(ws->rules);
    mem_free(ws);
}

static const struct group *find_group(const struct policy *p, const struct dest *dest,
                                      const struct link *link)
{
    const struct group *group = policy_match_domain(p, bytes_of(dest->domain)).group;
    const struct site *site = link ? link->site : dest->site;
    struct bytes hosts[DNS_MX_MAX];
    size_t count = 0;

    if (group || !site || site->group->route != ROUTE_MX)
        return group ? group : policy_match_mx(p, hosts, 0).group;
    for (; count < site->host_count && count < COUNT_OF(hosts); count++)
        hosts[count] = bytes_of(site->hosts[count].name);
    return policy_match_mx(p, hosts, count).group;
}

static const struct group *group_of(struct worker_shadow *ws, const struct dest *dest,
                                    const struct link *link)
{
    struct match *m = &ws->matches[dest->serial % MATCHES];

    if (m->group && m->serial == dest->serial && m->bound_until_ms == dest->bound_until_ms)
        return m->group;
    *m = (struct match){dest->serial, dest->bound_until_ms, find_group(ws->rules->policy, dest, link)};
    return m->group;
}

void shadow_judge(struct dest *dest, const struct link *link, struct attempt *a)
{
    struct worker_shadow *ws = dest->d->w->shadow;

    if (!ws)
        return;
    const struct group *group = group_of(ws, dest, link);
    const struct judge_facts facts = {
        .delivered = a->outcome.kind == OUTCOME_DELIVERED,
        .tls_failed = outcome_failed_for_tls(&a->outcome),
        .offered = a->tls_offered,
        .fallback = a->fallback,
        .later_is_due = link && link->clear_ok,
        .version = a->tls_version,
        .cipher = a->tls_cipher,
        .verify = a->tls_verify,
        .dane = a->dane,
        .sts = a->sts,
        .failure = a->tls_failure,
        .effective = a->tls_effective,
        .why = a->tls_why,
    };
    a->shadow_group = arena_strdup(worker_attempt_arena(dest->d->w), group->name);
    a->shadow = (uint8_t)judge_attempt(&facts, link ? link->site->group : dest_group(dest), group);
    COUNT(dest->d->w, shadow_judged);
    if (facts.delivered && judge_is_held(a->shadow))
        COUNT(dest->d->w, shadow_held);
    if (judge_is_unknown(a->shadow))
        COUNT(dest->d->w, shadow_unknown);
}
