/* A link's transport security: what happened, what policy/tls_decide.h makes of it, and doing that. */
#include <stdio.h>

#include "base/mem.h"
#include "engine/deliver/deliver_priv.h"

#define HANDSHAKE_LIMIT_MS 60000 /* and never longer than the EHLO around it may take */

struct tls_facts link_tls_facts(const struct link *link)
{
    const struct group *group = link->site->group;

    return (struct tls_facts){
        .level = group->starttls,
        .group_level = group->starttls,
        .fallback = group->clear_after_tls_failure,
        .later_is_due = link->clear_ok,
        .has_credentials = group->auth_user != NULL,
        .mx_secure = group->route == ROUTE_SMARTHOST,
        .implicit_tls = link->host && link->host->implicit_tls,
    };
}

void link_decide(struct link *link, enum tls_event event, const struct outcome *failure)
{
    struct tls_facts facts = link_tls_facts(link);
    struct tls_decision decision = tls_decide(&facts, event);
    struct outcome o = *failure;

    log_debug(&link->log, "tls.decide", LOG_STR("mx", link->host->name),
              LOG_STR("level", tls_level_name(facts.level)), LOG_STR("event", tls_event_name(event)),
              LOG_STR("action", tls_action_name(decision.action)));
    switch (decision.action) {
    case TLS_DO_CLEAR: link_go_on(link); return;
    case TLS_DO_TLS:
        if (link->host->implicit_tls)
            smtp_client_connected(link->client, worker_now_ms(link->d->w));
        else
            smtp_client_tls_done(link->client, worker_now_ms(link->d->w));
        return;
    case TLS_DO_RECONNECT_CLEAR: link_again_in_clear(link, &o); return;
    case TLS_DO_NEXT:
    case TLS_DO_SKIP_HOST:
    case TLS_DO_BOUNCE: break;
    case TLS_DO_CONTINUE: return; /* only for events before the connection, which are not asked here */
    }
    if (decision.enhanced[0])
        snprintf(o.enhanced, sizeof(o.enhanced), "%s", decision.enhanced);
    link_host_failed(link, &o);
}

static void failed(struct link *link, const char *why)
{
    struct outcome o;

    COUNT(link->d->w, tls_failures_out);
    outcome_local(&o, OUTCOME_DEFERRED, STAGE_TLS, 451, "4.7.5", "%s[%s]: %s", link->host->name, link->remote,
                  why);
    link_decide(link, TLS_EVENT_HANDSHAKE_FAILED, &o);
}

void link_start_tls(struct link *link)
{
    const struct group *group = link->site->group;
    struct buf key = {0};
    char why[160];

    /* Everything that decides about a session here: it is resumed only where all of it is
     * equal. */
    buf_putf(&key, "%s|%s|%s|%s|%d|%s|%s", group->name, link->remote, link->source, link->host->name,
             group->starttls, group->tls_priority ? group->tls_priority : "",
             group->ca_file ? group->ca_file : "");
    struct tls_client_options options = {
        .level = group->starttls,
        .priority = group->tls_priority,
        .ca_file = group->ca_file,
        .sni = link->host->name,
        .cache_key = buf_str(&key),
    };
    gnutls_session_t session = tls_client_session(link->d->w->shared->tls_client, &options, why, sizeof(why));
    buf_fini(&key);
    if (!session) {
        failed(link, why);
        return;
    }
    conn_set_deadline(link->conn, worker_now_ms(link->d->w) + MIN_OF(group->timeouts.ehlo_ms, (uint32_t)HANDSHAKE_LIMIT_MS));
    conn_start_tls(link->conn, session);
}

void link_on_handshake(struct link *link, enum err e, const char *why)
{
    struct outcome o;

    if (e) {
        failed(link, why);
        return;
    }
    gnutls_session_t session = conn_tls(link->conn);
    link->tls_up = true;
    link->tls_version = tls_version_name(session);
    link->tls_cipher = tls_cipher_name(session);
    link->tls_resumed = tls_client_resumed(session);
    link->verify = tls_client_verify(session);
    COUNT(link->d->w, tls_handshakes_out);
    if (link->tls_resumed)
        COUNT(link->d->w, tls_resumed_out);
    outcome_local(&o, OUTCOME_DEFERRED, STAGE_TLS, 451, "4.7.5", "certificate of %s[%s] is not trusted: %s",
                  link->host->name, link->remote, tls_verify_name(link->verify));
    link_decide(link, link->verify == TLS_VERIFY_PKIX ? TLS_EVENT_CERT_GOOD : TLS_EVENT_CERT_BAD, &o);
}
