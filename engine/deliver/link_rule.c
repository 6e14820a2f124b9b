/* Under which rule a link is at its current host, and what is recorded of its sessions for history and
 * TLSRPT. */
#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/deliver/deliver_priv.h"

bool link_wants_dane(const struct link *link)
{
    return link->host && rule_wants_dane(link->site->group, link->wish, link->host->name);
}

const struct dane_records *link_dane(const struct link *link)
{
    if (!link->dane || link->dane->state == DANE_ABSENT)
        return NULL;
    return link->ip_secure || link->dane_by_alias ? link->dane : NULL;
}

struct sts_policy *link_sts(const struct link *link)
{
    return rule_sts(link->site->group, link->wish, &link->site->security);
}

static struct rule_input input_of(const struct link *link)
{
    return (struct rule_input){
        .group = link->site->group,
        .wish = link->wish,
        .security = &link->site->security,
        .dane = link_dane(link),
        .implicit_tls = link->host && link->host->implicit_tls,
        .later_is_due = link->clear_ok,
    };
}

void link_rule(const struct link *link, struct rule *out)
{
    struct rule_input in = input_of(link);

    rule_find(&in, out);
}

static void note_failure(struct link *link, enum tls_event event, const struct outcome *o)
{
    struct travel *t = &link->tls;
    const char *reason = o->text;

    switch (event) {
    case TLS_EVENT_TLSA_BOGUS:
        t->dane = DANE_RESULT_BOGUS;
        t->failure = TLS_FAILURE_DNSSEC_INVALID;
        break;
    case TLS_EVENT_TLSA_ABSENT: t->failure = TLS_FAILURE_DANE_REQUIRED; break;
    case TLS_EVENT_STS_MX_MISMATCH:
        t->sts = STS_RESULT_MX_MISMATCH;
        t->failure = TLS_FAILURE_VALIDATION;
        reason = "mta-sts-mx-mismatch"; /* RFC 8460 has no type of its own for it */
        break;
    default: return;
    }
    snprintf(t->reason, sizeof(t->reason), "%.127s", reason);
}

bool link_may_connect(struct link *link, struct outcome *o)
{
    struct rule_input in = input_of(link);
    struct rule rule;
    enum tls_event event;
    unsigned step = 0;

    rule_find(&in, &rule);
    while (rule_before_connect(&in, &rule, link->host->name, link->dane, link->ip_secure, &step, &event, o)) {
        struct tls_decision d = tls_decide(&rule.facts, event);
        note_failure(link, event, o);
        if (d.action == TLS_DO_CONTINUE)
            continue;
        if (d.action == TLS_DO_BOUNCE) {
            o->kind = OUTCOME_BOUNCED;
            o->code = 550;
        }
        snprintf(o->enhanced, sizeof(o->enhanced), "%s", d.enhanced);
        log_info(&link->log, "host.skipped", LOG_STR("group", link->site->group->name),
                 LOG_STR("mx", link->host->name), LOG_STR("level", tls_level_name(rule.effective)),
                 LOG_STR("event", tls_event_name(event)), LOG_STR("text", o->text));
        link_record_session(link, d.count_failure);
        return false;
    }
    return true;
}

/* ---- records ---- */

static const char *join_patterns(struct arena *arena, const struct sts_policy *sts)
{
    BUF_LOCAL(text);

    for (size_t i = 0; i < sts->mx_count; i++)
        buf_putf(&text, "%s%s", i ? "\n" : "", sts->mx[i]);
    return arena_strdup(arena, buf_str(&text));
}

static void put_policy(struct session_record *s, const struct link *link, enum tlsrpt_policy policy,
                       struct arena *arena)
{
    const struct sts_policy *sts = link_sts(link);

    s->policy_type = policy;
    if (policy == TLSRPT_TLSA && link->dane && link->dane->text) {
        s->policy_text = arena_strdup(arena, link->dane->text);
    } else if (policy == TLSRPT_STS && sts) {
        s->policy_text = arena_strdup(arena, sts->text ? sts->text : "");
        s->policy_mx = join_patterns(arena, sts);
    }
}

void link_record_session(struct link *link, bool counted)
{
    struct worker *w = link->d->w;
    struct session_record *s = worker_session_record(w);
    struct arena *arena = worker_attempt_arena(w);
    const struct group *group = link->site->group;
    const struct travel *t = &link->tls;
    struct rule r;

    link_rule(link, &r);
    link->session_pending = false;
    s->at_unix_ms = clock_unix_ms();
    s->policy_version = policy_version(link->site->policy);
    s->group = arena_strdup(arena, group->name);
    s->domain = arena_strdup(arena, link->domain);
    s->mx = arena_strdup(arena, link->host->name);
    s->remote = link->remote[0] ? arena_strdup(arena, link->remote) : NULL;
    s->source = link->source[0] ? arena_strdup(arena, link->source) : NULL;
    s->tls_wanted = group->starttls;
    s->tls_effective = r.effective;
    s->tls_why = r.why;
    s->tls_version = t->version;
    s->tls_cipher = t->cipher;
    s->tls_kx = t->kx;
    s->tls_verify = t->verify;
    s->dane = t->dane;
    s->sts = t->sts;
    s->tls_failure = t->failure;
    s->tls_resumed = t->resumed;
    s->tls_offered = t->offered;
    s->fallback = link->in_clear;
    s->cert_expires_unix = t->cert_expires_unix;
    /* After a failed TLS the same host again in clear is one session, and was counted: RFC 8460 §4. */
    s->counted = counted && !link->in_clear && r.effective != TLS_OFF && link->wish != TLS_WISH_OPTIONAL;
    put_policy(s, link, r.policy, arena);
    s->reason = t->reason[0] ? arena_strdup(arena, t->reason) : NULL;
}

void link_session_settled(struct link *link)
{
    if (link->session_pending)
        link_record_session(link, true);
}
