/* A link's transport security: what happened, what policy/tls_decide.h makes of it, and doing that. */
#include <gnutls/x509.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/deliver/deliver_priv.h"

#define HANDSHAKE_LIMIT_MS 60000 /* and never longer than the EHLO around it may take */
#define NAMES_MAX          3

static void fail(struct link *link, enum tls_failure failure, const char *reason)
{
    if (!failure)
        return;
    link->tls.failure = failure;
    snprintf(link->tls.reason, sizeof(link->tls.reason), "%.127s", reason);
}

/* What the event means to TLSRPT, unless something that was found before it (MTA-STS) says more. */
static void note_event(struct link *link, enum tls_event event, const struct outcome *o)
{
    switch (event) {
    case TLS_EVENT_NOT_OFFERED:
    case TLS_EVENT_REFUSED: fail(link, TLS_FAILURE_STARTTLS_NOT_SUPPORTED, o->text); break;
    case TLS_EVENT_REFUSED_UNCLEAN:
    case TLS_EVENT_HANDSHAKE_FAILED: fail(link, TLS_FAILURE_VALIDATION, o->text); break;
    case TLS_EVENT_CERT_BAD:
        fail(link, tls_failure_of_verify(link->tls.verify), tls_verify_name(link->tls.verify));
        break;
    case TLS_EVENT_TLSA_MISMATCH:
        link->tls.dane = DANE_RESULT_MISMATCH;
        fail(link, TLS_FAILURE_TLSA_INVALID, o->text);
        break;
    case TLS_EVENT_CERT_GOOD:
    case TLS_EVENT_TLSA_MATCH:
    case TLS_EVENT_TLSA_BOGUS:
    case TLS_EVENT_TLSA_ABSENT:
    case TLS_EVENT_STS_MX_MISMATCH:
    case TLS_EVENT_CLOSING: break;
    }
    if (link->tls.sts == STS_RESULT_FOUND && event != TLS_EVENT_CERT_GOOD && event != TLS_EVENT_CLOSING &&
        event != TLS_EVENT_TLSA_MATCH)
        link->tls.sts = STS_RESULT_CERT_BAD;
}

static void give_up_host(struct link *link, const struct tls_decision *d, struct outcome *o)
{
    if (d->action == TLS_DO_BOUNCE) {
        o->kind = OUTCOME_BOUNCED;
        o->code = 550;
    }
    if (d->enhanced[0])
        snprintf(o->enhanced, sizeof(o->enhanced), "%s", d->enhanced);
    link_host_failed(link, o);
}

void link_decide(struct link *link, enum tls_event event, const struct outcome *failure)
{
    struct rule rule;
    struct outcome o = *failure;

    link_rule(link, &rule);
    struct tls_decision d = tls_decide(&rule.facts, event);
    note_event(link, event, failure);
    log_debug(&link->log, "tls.decide", LOG_STR("mx", link->host->name),
              LOG_STR("level", tls_level_name(rule.effective)), LOG_STR("why", tls_why_name(rule.why)),
              LOG_STR("event", tls_event_name(event)), LOG_STR("action", tls_action_name(d.action)));
    if (d.action == TLS_DO_NEXT || d.action == TLS_DO_BOUNCE)
        link_watch_refused(link, event, failure);
    if (d.action != TLS_DO_CLEAR && d.action != TLS_DO_TLS && event != TLS_EVENT_CLOSING)
        link_record_session(link, d.count_failure);
    switch (d.action) {
    case TLS_DO_CLEAR: link_stands(link, smtp_client_offer(link->client)); return;
    case TLS_DO_TLS:
        if (link->host->implicit_tls)
            smtp_client_connected(link->client, worker_now_ms(link->d->w));
        else
            smtp_client_tls_done(link->client, worker_now_ms(link->d->w));
        return;
    case TLS_DO_RECONNECT_CLEAR: link_again_in_clear(link, &o); return;
    case TLS_DO_NEXT:
    case TLS_DO_SKIP_HOST:
    case TLS_DO_BOUNCE: give_up_host(link, &d, &o); return;
    case TLS_DO_CONTINUE: return; /* only for events before the connection: link_rule.c */
    }
}

void link_stands(struct link *link, const struct smtp_offer *offer)
{
    struct dest *dest = link_opened_for(link);
    struct outcome o;

    if (link->wish == TLS_WISH_REQUIRED && !offer->requiretls) { /* RFC 8689 §4.2.1 */
        outcome_local(&o, OUTCOME_BOUNCED, STAGE_EHLO, 550, "5.7.30",
                      "REQUIRETLS is asked for, but not offered by host %s[%s]", link->host->name,
                      link->remote);
        link_record_session(link, true);
        link_host_failed(link, &o);
        return;
    }
    if (!link->tls.failure && link->site->security.sts_failure && link->wish != TLS_WISH_OPTIONAL &&
        link->site->group->mta_sts == STS_TRY)
        fail(link, link->site->security.sts_failure, "");
    if (dest && link_holds_back(link, dest, &o)) {
        link->holding = true;
        link_record_session(link, true);
        link_host_failed(link, &o);
        return;
    }
    link->session_pending = true;
    link_go_on(link);
}

static void failed(struct link *link, const char *why)
{
    struct outcome o;

    COUNT(link->d->w, tls_failures_out);
    outcome_local(&o, OUTCOME_DEFERRED, STAGE_TLS, 451, "4.7.5", "%s[%s]: %s", link->host->name, link->remote,
                  why);
    link_decide(link, TLS_EVENT_HANDSHAKE_FAILED, &o);
}

/* The names that the group lets a certificate have. */
static size_t wanted_names(const struct link *link, const char *names[NAMES_MAX], const char *const **out)
{
    const struct group *group = link->site->group;

    if (group->tls_match == NAME_LISTED) {
        *out = (const char *const *)group->tls_names;
        return group->tls_name_count;
    }
    names[0] = link->site->security.nexthop ? link->site->security.nexthop : link->host->name;
    *out = names;
    return 1;
}

/* MTA-STS wants the MX's own name (RFC 8461 §4.2), whatever else the group wants. */
static bool needs_mx_name_too(const struct link *link)
{
    const struct group *group = link->site->group;

    return link_sts(link) && (group->tls_match != NAME_MX || group->tls_pin_count);
}

/* RFC 7672 §3.2.3: base domain, next hop, and the MX as it stood in DNS. */
static size_t dane_names(const struct link *link, const char *names[NAMES_MAX])
{
    size_t n = 0;

    names[n++] = link->dane->base;
    if (strcmp(link->dane->base, link->host->name) != 0)
        names[n++] = link->host->name;
    names[n++] = link->domain;
    return n;
}

/* Everything that decides about a session: it is resumed only where all of it is equal. */
static void put_cache_key(const struct link *link, const struct rule *rule, struct buf *key)
{
    const struct group *group = link->site->group;
    const struct dane_records *dane = link_dane(link);

    buf_putf(key, "%llu|%s|%s|%s|%s|%d|%d|", (unsigned long long)policy_version(link->site->policy),
             group->name, link->remote, link->source, link->host->name, (int)rule->facts.level,
             (int)link->wish);
    if (dane)
        buf_putf(key, "%s|%016llx|%s|", dane->base, (unsigned long long)dane->hash, link->domain);
    security_put_key(&link->site->security, key);
}

void link_start_tls(struct link *link)
{
    const struct group *group = link->site->group;
    const struct dane_records *dane = link_dane(link);
    const char *names[NAMES_MAX];
    struct rule rule;
    struct buf key = {0};
    char why[160];

    link_rule(link, &rule);
    put_cache_key(link, &rule, &key);
    struct tls_client_options options = {
        .level = rule.facts.level,
        .priority = group->tls_priority,
        /* An older one is better than clear text, and no proof of anything: RFC 8461 §3, RFC 7672 §5. */
        .min_version = rule.facts.level > TLS_STS_TESTING ? MAX_OF(group->tls_min_version, TLS_VERSION_1_2)
                                                          : group->tls_min_version,
        .ca_file = group->ca_file,
        .certificate = group->tls_certificate,
        .key = group->tls_key,
        .pins = (const char *const *)group->tls_pins,
        .pin_count = group->tls_pin_count,
        .sni = dane && dane->state == DANE_USABLE ? dane->base : link->host->name,
        .cache_key = needs_mx_name_too(link) ? NULL : buf_str(&key),
    };
    options.name_count = wanted_names(link, names, &options.names);
    gnutls_session_t session = tls_client_session(link->d->w->shared->tls_client, &options, why, sizeof(why));
    buf_fini(&key);
    if (!session) {
        failed(link, why);
        return;
    }
    conn_set_deadline(link->conn, worker_now_ms(link->d->w) +
                                      MIN_OF(group->timeouts.ehlo_ms, (uint32_t)HANDSHAKE_LIMIT_MS));
    conn_start_tls(link->conn, session);
}

static bool leaf_has_name(gnutls_session_t session, const char *name)
{
    unsigned count = 0;
    const gnutls_datum_t *chain = gnutls_certificate_get_peers(session, &count);
    gnutls_x509_crt_t crt;

    if (!count || gnutls_x509_crt_init(&crt) < 0)
        return false;
    bool has = gnutls_x509_crt_import(crt, &chain[0], GNUTLS_X509_FMT_DER) >= 0 &&
               gnutls_x509_crt_check_hostname2(crt, name, 0);
    gnutls_x509_crt_deinit(crt);
    return has;
}

/* Usable TLSA records decide alone: RFC 7672 §2.2, RFC 8461 §2. */
static enum tls_event judge_by_dane(struct link *link, gnutls_session_t session, struct outcome *o)
{
    const char *names[NAMES_MAX];
    size_t count = dane_names(link, names);
    struct dane_verdict verdict;

    tls_client_dane(session, link->dane, names, count, &verdict);
    if (verdict.check == DANE_CHECK_MISMATCH) {
        for (size_t i = 0; i < link->dane->count;
             i++) /* usage 2 judges names, and one of them is this domain's */
            link->holding |= link->dane->records[i].usage == 2;
        outcome_local(o, OUTCOME_DEFERRED, STAGE_TLS, 451, "4.7.5",
                      "no TLSA record of %s matches host %s[%s]: %s", link->dane->base, link->host->name,
                      link->remote, verdict.why);
        return TLS_EVENT_TLSA_MISMATCH;
    }
    link->tls.dane = DANE_RESULT_MATCH;
    link->tls.verify = link->site->security.mx_secure ? TLS_VERIFY_DANE : TLS_VERIFY_DANE_HALF;
    /* Good only for the name of this one destination: nobody else may ride along. */
    link->only_domain = verdict.name && strcmp(verdict.name, link->domain) == 0;
    return TLS_EVENT_TLSA_MATCH;
}

static enum tls_event judge_certificate(struct link *link, gnutls_session_t session, struct outcome *o)
{
    bool good = tls_verify_is_good(link->tls.verify);

    if (good && needs_mx_name_too(link) && !leaf_has_name(session, link->host->name)) {
        link->tls.verify = TLS_VERIFY_WRONG_NAME;
        good = false;
    }
    if (good && link->tls.sts == STS_RESULT_FOUND)
        link->tls.sts = STS_RESULT_OK;
    outcome_local(o, OUTCOME_DEFERRED, STAGE_TLS, 451, "4.7.5", "certificate of %s[%s] is not trusted: %s",
                  link->host->name, link->remote, tls_verify_name(link->tls.verify));
    return good ? TLS_EVENT_CERT_GOOD : TLS_EVENT_CERT_BAD;
}

void link_on_handshake(struct link *link, enum err e, const char *why)
{
    const struct dane_records *dane = link_dane(link);
    struct travel *t = &link->tls;
    struct outcome o = {0};

    if (e) {
        failed(link, why);
        return;
    }
    gnutls_session_t session = conn_tls(link->conn);
    link->tls_up = true;
    t->version = tls_version_name(session);
    t->cipher = tls_cipher_name(session);
    t->kx = tls_kx_name(session);
    t->resumed = tls_client_resumed(session);
    t->verify = tls_client_verify(session);
    t->cert_expires_unix = tls_client_expires_unix(session);
    COUNT(link->d->w, tls_handshakes_out);
    if (t->resumed)
        COUNT(link->d->w, tls_resumed_out);
    enum tls_event event = dane && dane->state == DANE_USABLE ? judge_by_dane(link, session, &o)
                                                              : judge_certificate(link, session, &o);
    link_decide(link, event, &o);
}
