/*
 * What is learned of a destination beside its hosts, before it is bound to a site: its MTA-STS policy,
 * whether its MX came with DNSSEC, the name its certificate must have.  DANE is a matter of each host:
 * link.c.
 */
#include "base/mem.h"
#include "engine/deliver/deliver_priv.h"

struct found {
    struct policy *policy; /* counted: `match` lies in it */
    struct policy_match match;
    struct site_host *hosts; /* owned, with their names */
    size_t count;
    bool implicit_mx;
    uint32_t ttl_s;
    struct security security;
};

void found_destroy(struct found *f)
{
    if (!f)
        return;
    for (size_t i = 0; i < f->count; i++)
        mem_free(f->hosts[i].name);
    mem_free(f->hosts);
    security_fini(&f->security);
    policy_unref(f->policy);
    mem_free(f);
}

static void take_smarthosts(struct found *f)
{
    const struct group *group = f->match.group;

    f->count = group->host_count;
    f->ttl_s = UINT32_MAX;
    f->security.mx_secure = true;
    f->hosts = mem_zalloc(MAX_OF(f->count, (size_t)1) * sizeof(*f->hosts));
    for (size_t i = 0; i < f->count; i++)
        f->hosts[i] = (struct site_host){.preference = (uint16_t)i,
                                         .port = group->hosts[i].port,
                                         .implicit_tls = group->hosts[i].implicit_tls,
                                         .name = mem_strdup(group->hosts[i].host)};
}

static void take_mx(struct found *f, const struct dns_mx *mx)
{
    f->count = mx->count;
    f->ttl_s = mx->ttl_s;
    f->implicit_mx = mx->implicit;
    f->security.mx_secure = mx->secure;
    f->hosts = mem_zalloc(MAX_OF(f->count, (size_t)1) * sizeof(*f->hosts));
    for (size_t i = 0; i < f->count; i++)
        f->hosts[i] = (struct site_host){.preference = mx->hosts[i].preference,
                                         .port = f->match.group->port,
                                         .name = mem_strdup(mx->hosts[i].name)};
}

/* The domain whose policy rules: the recipient's, or the smart host's own (RFC 8461 §3.4); never an address.
 */
static const char *policy_domain(const struct dest *dest, const struct found *f)
{
    const char *domain =
        f->match.group->route == ROUTE_SMARTHOST && f->count ? f->hosts[0].name : dest->domain;
    struct ip literal;

    return ip_parse(bytes_of(domain), &literal) || domain[0] == '[' ? NULL : domain;
}

static void finish(struct dest *dest, struct found *f)
{
    dest_bind(dest, &f->match, f->hosts, f->count, f->implicit_mx, f->ttl_s, &f->security);
    found_destroy(f);
}

static void on_sts(void *arg, const struct sts_answer *answer)
{
    struct dest *dest = arg;
    struct found *f = TAKE(dest->found);
    struct security *s = &f->security;

    dest->sts_query = NULL;
    s->sts_failure = answer->failure;
    if (answer->policy && answer->policy->mode == STS_MODE_NONE) {
        s->sts_result = STS_RESULT_MODE_NONE;
    } else if (answer->policy) {
        s->sts_result = STS_RESULT_FOUND;
        s->sts = sts_policy_ref(answer->policy);
    } else {
        s->sts_result = answer->failure ? STS_RESULT_FAILED : STS_RESULT_NONE;
    }
    finish(dest, f);
    dest_kick(dest);
}

/* Mail that waits for another host of its site came there by an answer: it goes on under the same. */
static bool may_hold_requiretls(const struct dest *dest)
{
    return dest->queued_jobs[CLASS_REQUIRETLS] ||
           (dest->queued_jobs[CLASS_OTHER_HOST] && dest->site && dest->site->security.sts_asked);
}

void dest_discover(struct dest *dest, const struct policy_match *match, const struct dns_mx *mx)
{
    struct worker *w = dest->d->w;
    const struct group *group = match->group;
    struct found *f = MEM_NEW(struct found);

    f->policy = policy_ref(w->policy);
    f->match = *match;
    if (group->route == ROUTE_SMARTHOST)
        take_smarthosts(f);
    else
        take_mx(f, mx);
    if (group->tls_match == NAME_NEXTHOP && group->route == ROUTE_MX)
        f->security.nexthop = mem_strdup(dest->domain);
    f->security.sts_asked =
        (group->mta_sts == STS_TRY && group->starttls != TLS_OFF) || may_hold_requiretls(dest);
    const char *domain = policy_domain(dest, f);
    if (!f->security.sts_asked || !domain) {
        finish(dest, f);
        return;
    }
    dest->found = f;
    dest->sts_query = sts_lookup(w->sts, domain, on_sts, dest);
}
