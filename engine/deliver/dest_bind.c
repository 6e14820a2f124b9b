/* Where a destination's mail goes: its group, its MX hosts, and what TLS it had, before its jobs have a site.
 */
#include "base/mem.h"
#include "engine/deliver/deliver_priv.h"

#define BIND_MIN_S 30
#define BIND_MAX_S 3600

static void rest(struct dest *dest, const struct outcome *o)
{
    dest_settle_all(dest, o, NULL, worker_now_ms(dest->d->w), NULL, NULL);
    if (o->kind == OUTCOME_DEFERRED)
        dest_suspend(dest, o);
    else
        suspension_end(&dest->rest);
}

static void outcome_of_mx(const char *domain, const struct dns_mx *mx, struct outcome *o)
{
    if (mx->null_mx)
        outcome_local(o, OUTCOME_BOUNCED, STAGE_DNS, 556, "5.1.10", "%s does not accept mail (null MX)",
                      domain);
    else if (mx->status == DNS_NXDOMAIN)
        outcome_local(o, OUTCOME_BOUNCED, STAGE_DNS, 550, "5.1.2", "the domain %s does not exist", domain);
    else if (mx->status == DNS_LOOP)
        outcome_local(o, OUTCOME_BOUNCED, STAGE_DNS, 550, "5.4.4", "the DNS names of %s form a loop", domain);
    else if (mx->status == DNS_BAD_NAME || mx->status == DNS_NODATA || mx->status == DNS_OK)
        outcome_local(o, OUTCOME_BOUNCED, STAGE_DNS, 550, "5.4.4", "%s has no usable mail host in DNS",
                      domain);
    else
        outcome_local(o, OUTCOME_DEFERRED, STAGE_DNS, 451, "4.4.3", "MX lookup of %s: %s", domain,
                      dns_status_name(mx->status));
    o->needs_second = mx->status == DNS_LOOP; /* somebody is changing his zone, perhaps */
}

void dest_bind(struct dest *dest, const struct policy_match *match, const struct site_host *hosts,
               size_t count, bool implicit_mx, uint32_t ttl_s, struct security *security)
{
    struct site *site = site_find_or_create(dest->d, match->group, hosts, count, implicit_mx, security);

    dest->bound_until_ms = worker_now_ms(dest->d->w) +
                           (uint64_t)MIN_OF(MAX_OF(ttl_s, (uint32_t)BIND_MIN_S), (uint32_t)BIND_MAX_S) * 1000;
    suspension_end(&dest->rest);
    if (dest->site != site) {
        if (dest->site)
            site_unbind(dest->site, dest);
        site_bind(site, dest);
    }
    dest->match = *match;
}

/* How many hosts come before ourselves: those of our preference or worse would send it back, RFC 5321 §5.1.
 */
static size_t hosts_before_us(const struct worker *w, const struct dns_mx *mx)
{
    uint16_t ours = 0;
    bool found = false;
    size_t count = 0;

    for (size_t i = 0; i < mx->count && !found; i++) {
        found = bytes_ieq(bytes_of(mx->hosts[i].name), bytes_of(w->shared->host_name));
        ours = mx->hosts[i].preference;
    }
    while (count < mx->count && (!found || mx->hosts[count].preference < ours))
        count++;
    return count;
}

static void on_mx(void *arg, const struct dns_mx *answer)
{
    struct dest *dest = arg;
    struct worker *w = dest->d->w;
    struct dns_mx cut = *answer;
    const struct dns_mx *mx = &cut;
    struct outcome o;

    dest->query = NULL;
    cut.count = hosts_before_us(w, answer);
    if (answer->status == DNS_OK && answer->count && !cut.count) {
        outcome_local(&o, OUTCOME_BOUNCED, STAGE_DNS, 554, "5.4.6", "mail for %s loops back to this host, %s",
                      dest->domain, w->shared->host_name);
        if (dest->site)
            dest_unbind(dest);
        rest(dest, &o);
        dest_kick(dest);
        return;
    }
    if (mx->status != DNS_OK || mx->null_mx || mx->count == 0) {
        outcome_of_mx(dest->domain, mx, &o);
        if (dest->site)
            dest_unbind(dest);
        rest(dest, &o);
        dest_kick(dest);
        return;
    }
    struct policy_match m = policy_match_domain(w->policy, bytes_of(dest->domain));
    if (!m.group) {
        struct bytes names[DNS_MX_MAX];
        for (size_t i = 0; i < mx->count; i++)
            names[i] = bytes_of(mx->hosts[i].name);
        m = policy_match_mx(w->policy, names, mx->count);
    }
    dest_discover(dest, &m, mx);
    dest_kick(dest);
}

static void on_tls_known(void *arg, enum err e)
{
    struct dest *dest = arg;
    struct outcome o;

    dest->tls_known = e == OK;
    dest->tls_asked = true;
    if (e) { /* looked up anew when it is tried again */
        tls_watch_release(TAKE(dest->tls));
        outcome_local(&o, OUTCOME_DEFERRED, STAGE_QUEUE, 451, "4.3.0", "what TLS %s had cannot be read: %s",
                      dest->domain, err_text(e));
        if (dest->site && dest->site->group->on_downgrade == DOWNGRADE_HOLD)
            rest(dest, &o);
    }
    dest_kick_soon(dest);
}

bool dest_may_go(struct dest *dest)
{
    const struct group *group = dest->site->group;

    if (group->starttls == TLS_OFF)
        return true;
    if (!dest->tls)
        dest->tls = tls_watch_lookup(dest->d->w->tls_watch, dest->domain, on_tls_known, dest);
    return dest->tls_known || (dest->tls_asked && group->on_downgrade != DOWNGRADE_HOLD);
}

bool dest_is_bound(struct dest *dest)
{
    struct worker *w = dest->d->w;

    if (dest->site && dest->bound_until_ms > worker_now_ms(w))
        return true;
    if (dest->query || dest->sts_query)
        return dest->site != NULL; /* until the new answer comes the old one serves */
    struct policy_match m = policy_match_domain(w->policy, bytes_of(dest->domain));
    if (m.group && m.group->route == ROUTE_SMARTHOST)
        dest_discover(dest, &m, NULL);
    else
        dest->query = dns_resolve_mx(w->dns, dest->domain, on_mx, dest);
    return dest->site != NULL;
}
