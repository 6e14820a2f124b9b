#include "engine/deliver/rule.h"

#include "base/ip.h"
#include "base/mem.h"

void security_fini(struct security *s)
{
    sts_policy_unref(s->sts);
    mem_free(s->nexthop);
    *s = (struct security){0};
}

void security_put_key(const struct security *s, struct buf *key)
{
    buf_putf(key, "%d%d%d.%d|", s->mx_secure, s->sts_asked, (int)s->sts_result, (int)s->sts_failure);
    if (s->nexthop)
        buf_putf(key, "for %s|", s->nexthop);
    if (s->sts)
        sts_policy_put_key(s->sts, key);
}

bool rule_wants_dane(const struct group *group, enum tls_wish wish, const char *host)
{
    struct ip literal;

    if (wish == TLS_WISH_OPTIONAL || ip_parse(bytes_of(host), &literal))
        return false;
    return wish == TLS_WISH_REQUIRED || (group->dane != DANE_OFF && group->starttls != TLS_OFF);
}

struct sts_policy *rule_sts(const struct group *group, enum tls_wish wish, const struct security *security)
{
    if (wish == TLS_WISH_OPTIONAL)
        return NULL;
    if (wish != TLS_WISH_REQUIRED && (group->mta_sts == STS_OFF || group->starttls == TLS_OFF))
        return NULL; /* it was looked for on behalf of others */
    return security->sts;
}

static void raise_to(struct rule *r, enum tls_level level, enum tls_why why)
{
    if (tls_level_stricter(r->facts.level, level) == r->facts.level)
        return;
    r->facts.level = level;
    r->why = why;
}

/* What no discovery may touch: RFC 8689 §3. */
static void tls_optional(struct rule *r)
{
    r->why = TLS_WHY_TLS_REQUIRED_NO;
    r->facts.level = MIN_OF(r->facts.level, TLS_ON);
    r->facts.group_level = r->facts.level;
    r->facts.fallback = CLEAR_NOW;
}

static void discovered(const struct rule_input *in, struct rule *r)
{
    const struct sts_policy *sts = rule_sts(in->group, in->wish, in->security);

    if (sts) {
        raise_to(r, sts->mode == STS_MODE_ENFORCE ? TLS_STS_ENFORCE : TLS_STS_TESTING, TLS_WHY_STS);
        r->facts.sts_testing = sts->mode == STS_MODE_TESTING;
        r->policy = TLSRPT_STS;
    } else if (in->security->sts_failure && in->group->mta_sts == STS_TRY) {
        r->policy = TLSRPT_STS;
    }
    if (in->group->dane == DANE_ONLY && in->group->starttls != TLS_OFF) {
        r->facts.level = TLS_DANE_ONLY;
        r->why = TLS_WHY_RULE;
        r->policy = TLSRPT_TLSA;
    }
    if (!in->dane)
        return;
    r->policy = TLSRPT_TLSA;
    if (in->dane->state == DANE_USABLE)
        raise_to(r, TLS_DANE, TLS_WHY_DANE);
    r->facts.tlsa_all_unusable = in->dane->state == DANE_UNUSABLE;
}

void rule_find(const struct rule_input *in, struct rule *r)
{
    const struct group *group = in->group;

    *r = (struct rule){
        .facts =
            {
                .level = group->starttls,
                .group_level = group->starttls,
                .fallback = group->clear_after_tls_failure,
                .later_is_due = in->later_is_due,
                .has_credentials = group->auth_user != NULL,
                .mx_secure = in->security->mx_secure,
                .implicit_tls = in->implicit_tls,
                .requiretls = in->wish == TLS_WISH_REQUIRED,
            },
        .why = TLS_WHY_RULE,
    };
    if (in->wish == TLS_WISH_OPTIONAL)
        tls_optional(r);
    else
        discovered(in, r);
    r->effective = r->facts.level;
    if (r->facts.tlsa_all_unusable && r->effective < TLS_REQUIRE) {
        r->effective = TLS_REQUIRE;
        r->why = TLS_WHY_DANE;
    }
    if (r->facts.requiretls) {
        /* Which proof counts is in the facts: DANE, MTA-STS enforced, or the certificate of an MX found by
         * DNSSEC. */
        if (r->facts.level < TLS_STS_ENFORCE)
            r->facts.level = TLS_REQUIRETLS;
        r->effective = TLS_REQUIRETLS;
        r->why = TLS_WHY_REQUIRETLS;
    }
}

/* What is missing for DANE, in words; NULL when nothing is. */
static const char *dane_lack(const struct rule_input *in, const struct dane_records *looked_up,
                             bool ip_secure)
{
    if (in->dane && in->dane->state == DANE_USABLE)
        return in->security->mx_secure ? NULL : "its MX record is not signed with DNSSEC";
    if (in->dane)
        return "none of its TLSA records is usable";
    if (looked_up && looked_up->why && looked_up->why[0])
        return looked_up->why;
    return ip_secure ? "it has no TLSA records" : "its addresses are not signed with DNSSEC";
}

enum { ASK_BOGUS, ASK_ONLY, ASK_STS, ASKED_ALL };

bool rule_before_connect(const struct rule_input *in, const struct rule *rule, const char *host,
                         const struct dane_records *looked_up, bool ip_secure, unsigned *step,
                         enum tls_event *event, struct outcome *o)
{
    const struct sts_policy *sts = rule_sts(in->group, in->wish, in->security);
    enum tls_level level = rule->facts.level;
    const char *lack;

    while (*step < ASKED_ALL) {
        switch ((*step)++) {
        case ASK_BOGUS:
            if (!in->dane || in->dane->state != DANE_FAILED)
                break;
            outcome_local(o, OUTCOME_DEFERRED, STAGE_DNS, 451, "4.7.5", "TLSA lookup of host %s failed: %s",
                          host, in->dane->why ? in->dane->why : "no answer");
            *event = TLS_EVENT_TLSA_BOGUS;
            return true;
        case ASK_ONLY:
            lack = level == TLS_DANE_ONLY ? dane_lack(in, looked_up, ip_secure) : NULL;
            if (!lack)
                break;
            outcome_local(o, OUTCOME_DEFERRED, STAGE_DNS, 451, "4.7.5",
                          "DANE is required, but not to be had of host %s: %s", host, lack);
            *event = TLS_EVENT_TLSA_ABSENT;
            return true;
        case ASK_STS:
            if (!sts || sts_policy_names(sts, bytes_of(host)) || level == TLS_DANE || level == TLS_DANE_ONLY)
                break;
            outcome_local(o, OUTCOME_DEFERRED, STAGE_DNS, 451, "4.7.5",
                          "host %s is not named by the MTA-STS policy of %s", host, sts->domain);
            *event = TLS_EVENT_STS_MX_MISMATCH;
            return true;
        default: break;
        }
    }
    return false;
}
