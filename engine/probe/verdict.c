#include "engine/probe/verdict.h"

#include <gnutls/x509.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

const char *verdict_kind_name(enum verdict_kind k)
{
    static const char *const names[] = {"authenticated", "encrypted", "clear", "blocked", "unreachable"};

    return (size_t)k < COUNT_OF(names) ? names[k] : "unknown";
}

static void say(struct verdict *v, const char *text)
{
    snprintf(v->text, sizeof(v->text), "%.*s", (int)sizeof(v->text) - 1, text);
}

/* The rule keeps mail from being sent to this host at all. */
static bool is_skipped(const struct verdict_input *in, const struct rule *rule, struct verdict *v)
{
    enum tls_event event;
    struct outcome o;
    unsigned step = 0;

    while (rule_before_connect(&in->rule, rule, in->host, in->looked_up, in->ip_secure, &step, &event, &o)) {
        if (tls_decide(&rule->facts, event).action == TLS_DO_CONTINUE)
            continue;
        v->kind = VERDICT_BLOCKED;
        say(v, o.text);
        return true;
    }
    return false;
}

static bool leaf_has_name(const struct probe_facts *f, const char *name)
{
    gnutls_x509_crt_t crt;

    if (!f->chain_count || gnutls_x509_crt_init(&crt) < 0)
        return false;
    bool has = gnutls_x509_crt_import(crt, &f->chain[0], GNUTLS_X509_FMT_DER) >= 0 &&
               gnutls_x509_crt_check_hostname2(crt, name, 0);
    gnutls_x509_crt_deinit(crt);
    return has;
}

/* The probe checked the host's own name; the group may want others. */
static enum tls_verify verify_for(const struct verdict_input *in)
{
    const struct group *g = in->rule.group;
    const struct probe_facts *f = in->facts;
    bool chain_holds = f->verify == TLS_VERIFY_PKIX || f->verify == TLS_VERIFY_WRONG_NAME;

    if (g->tls_match == NAME_MX || g->route == ROUTE_SMARTHOST || !chain_holds)
        return f->verify;
    if (g->tls_match == NAME_NEXTHOP)
        return leaf_has_name(f, in->domain) ? TLS_VERIFY_PKIX : TLS_VERIFY_WRONG_NAME;
    for (size_t i = 0; i < g->tls_name_count; i++)
        if (leaf_has_name(f, g->tls_names[i]))
            return TLS_VERIFY_PKIX;
    return TLS_VERIFY_WRONG_NAME;
}

static enum tls_event event_by_dane(const struct verdict_input *in, struct verdict *v)
{
    const struct dane_records *dane = in->rule.dane;
    const char *names[] = {dane->base, in->host, in->domain};
    struct dane_verdict d;

    dane_check(dane, in->facts->chain, in->facts->chain_count, names, COUNT_OF(names), in->now_unix, &d);
    if (d.check == DANE_CHECK_MISMATCH) {
        snprintf(v->text, sizeof(v->text), "no TLSA record matches: %.*s", (int)sizeof(v->text) - 32, d.why);
        return TLS_EVENT_TLSA_MISMATCH;
    }
    const struct tlsa *t = &dane->records[d.record];
    snprintf(v->text, sizeof(v->text), "TLSA %u %u %u matches", t->usage, t->selector, t->matching);
    v->verify = in->rule.security->mx_secure ? TLS_VERIFY_DANE : TLS_VERIFY_DANE_HALF;
    return TLS_EVENT_TLSA_MATCH;
}

static enum tls_event event_of(const struct verdict_input *in, struct verdict *v)
{
    const struct probe_facts *f = in->facts;

    if (!f->version) {
        say(v, f->event == TLS_EVENT_NOT_OFFERED ? "STARTTLS is not offered"
               : f->tls_error[0]                 ? f->tls_error
               : f->reply[0]                     ? f->reply
                                                 : f->error);
        return f->event;
    }
    v->verify = verify_for(in);
    if (in->rule.dane && in->rule.dane->state == DANE_USABLE)
        return event_by_dane(in, v);
    if (tls_verify_is_good(v->verify))
        return TLS_EVENT_CERT_GOOD;
    snprintf(v->text, sizeof(v->text), "certificate: %s", tls_verify_name(v->verify));
    return TLS_EVENT_CERT_BAD;
}

void verdict_find(const struct verdict_input *in, struct verdict *v)
{
    struct rule rule;

    *v = (struct verdict){.kind = VERDICT_BLOCKED};
    rule_find(&in->rule, &rule);
    v->level = rule.effective;
    v->why = rule.why;
    if (is_skipped(in, &rule, v))
        return;
    if (!in->facts || !in->facts->connected) {
        v->kind = VERDICT_UNREACHABLE;
        say(v, in->facts ? in->facts->error : "no address");
        return;
    }
    if (rule.effective == TLS_OFF && !in->rule.implicit_tls) {
        v->kind = VERDICT_CLEAR;
        say(v, "the rule says off");
        return;
    }
    switch (tls_decide(&rule.facts, event_of(in, v)).action) {
    case TLS_DO_TLS:
        v->kind = tls_verify_is_good(v->verify) ? VERDICT_AUTHENTICATED : VERDICT_ENCRYPTED;
        break;
    case TLS_DO_CLEAR:
    case TLS_DO_RECONNECT_CLEAR:
        v->kind = VERDICT_CLEAR;
        v->verify = TLS_VERIFY_NONE;
        break;
    case TLS_DO_NEXT:
    case TLS_DO_SKIP_HOST:
    case TLS_DO_BOUNCE:
    case TLS_DO_CONTINUE: v->kind = VERDICT_BLOCKED; break;
    }
}
