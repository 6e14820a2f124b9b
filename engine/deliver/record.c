/* From an outcome to its record: what follows for the recipient, and one line and one history row about it.
 */
#include "base/clock.h"
#include "base/clock_steps.h"
#include "base/mem.h"
#include "engine/campaign_guard.h"
#include "engine/deliver/deliver_priv.h"
#include "engine/shadow.h"

static bool wants_failure_dsn(struct worker *w, const struct message *m, const struct rcpt *rcpt)
{
    if (m->sender[0] == '\0' || m->flags & MESSAGE_DSN) { /* no bounce of a bounce: RFC 5321 §4.5.5 */
        COUNT(w, bounces_dropped);
        return false;
    }
    return rcpt->notify == NOTIFY_DEFAULT || rcpt->notify & NOTIFY_FAILURE;
}

/* No later than that; the age counts from `began`. */
static int64_t given_up_unix(const struct message *m, int64_t began, const struct retry_schedule *retry)
{
    int64_t lifetime = began + retry->lifetime_s;

    return m->expires_unix ? MIN_OF(lifetime, m->expires_unix) : lifetime;
}

static void decide_then(struct dest *dest, const struct job *job, struct rcpt *rcpt, const struct link *link,
                        struct attempt *a, uint32_t retry_after_s, bool dsn_not_passed_on)
{
    const struct message *m = job->message;
    struct deliver *d = dest->d;
    const struct group *group = dest_group(dest);
    const struct retry_schedule *retry = &group->retry;
    int64_t now = clock_unix(), began = clock_restate(m->accepted_unix); /* the age counts from there */

    if (group->quiet.on && a->outcome.kind == OUTCOME_DEFERRED)
        began += quiet_age_off_s(dest, group, began);
    if (a->outcome.kind == OUTCOME_DEFERRED &&
        (retry_is_expired(retry, began, now) || message_is_over(m, now)))
        a->outcome.kind = OUTCOME_EXPIRED;
    switch (a->outcome.kind) {
    case OUTCOME_DELIVERED:
        a->then =
            dsn_not_passed_on && rcpt->notify & NOTIFY_SUCCESS && m->sender[0] && !(m->flags & MESSAGE_DSN)
                ? THEN_DSN
                : THEN_REMOVE;
        break;
    case OUTCOME_BOUNCED:
    case OUTCOME_EXPIRED: a->then = wants_failure_dsn(d->w, m, rcpt) ? THEN_DSN : THEN_REMOVE; break;
    case OUTCOME_CANCELLED: a->then = THEN_REMOVE; break;
    case OUTCOME_DEFERRED:
        a->then = THEN_DEFER;
        /* Rounded up: to wait a little less than the schedule says would be a lie. */
        a->due_unix = (clock_unix_ms() + 999) / 1000 +
                      (retry_after_s ? retry_after_s : retry_wait_s(retry, rcpt->attempts, worker_random()));
        int64_t last = began + retry->lifetime_s + 1; /* one last try, or the bounce, in time */
        if (a->due_unix > last && last > now)
            a->due_unix = last;
        if (group->quiet.on)
            a->due_unix = quiet_due(dest, group, a->due_unix);
        if (m->expires_unix) /* it is given up on the second */
            a->due_unix = MIN_OF(a->due_unix, m->expires_unix);
        dest_wait_until(dest, a->due_unix);
        if (rcpt->notify & NOTIFY_DELAY && !rcpt->delay_notified && retry->delay_notice_s && m->sender[0] &&
            !(m->flags & MESSAGE_DSN) && now - began >= (int64_t)retry->delay_notice_s) {
            rcpt->delay_notified = true;
            deliver_delay_notice(d, m, rcpt, &a->outcome, link && link->host ? link->host->name : NULL,
                                 given_up_unix(m, began, retry));
        }
        break;
    }
}

static void count(struct worker *w, enum outcome_kind kind)
{
    COUNT(w, attempts);
    switch (kind) {
    case OUTCOME_DELIVERED: COUNT(w, delivered); break;
    case OUTCOME_DEFERRED: COUNT(w, deferred); break;
    case OUTCOME_BOUNCED:
    case OUTCOME_EXPIRED: COUNT(w, bounced); break;
    case OUTCOME_CANCELLED: break;
    }
}

static void put_transport(struct attempt *a, const struct link *link, struct arena *arena)
{
    const struct travel *t = &link->tls;

    a->mx = link->host ? arena_strdup(arena, link->host->name) : NULL;
    a->remote = link->remote[0] ? arena_strdup(arena, link->remote) : NULL;
    a->source = link->source[0] ? arena_strdup(arena, link->source) : NULL;
    a->ehlo_name = link->source[0] ? arena_strdup(arena, link_ehlo_name(link)) : NULL;
    a->reused = link->messages > 1;
    a->tls_effective = t->effective;
    a->tls_why = t->why;
    a->tls_version = t->version; /* static, as the next two */
    a->tls_cipher = t->cipher;
    a->tls_kx = t->kx;
    a->tls_verify = t->verify;
    a->tls_resumed = t->resumed;
    a->tls_offered = t->offered;
    a->dane = t->dane;
    a->sts = t->sts;
    a->tls_failure = t->failure;
    a->cert_expires_unix = t->cert_expires_unix;
    a->fallback = link->in_clear;
}

static void log_attempt(const struct worker *w, const struct attempt *a)
{
    char id[MESSAGE_ID_TEXT];

    log_info(&w->log, "attempt", LOG_STR("message", message_id_format(a->message_id, id)),
             LOG_STR("to", a->address), LOG_STR("result", outcome_kind_name(a->outcome.kind)),
             LOG_INT("code", a->outcome.code), LOG_STR("enhanced", a->outcome.enhanced),
             LOG_STR("group", a->group), LOG_STR("mx", a->mx ? a->mx : "-"),
             LOG_STR("remote", a->remote ? a->remote : "-"), LOG_STR("source", a->source ? a->source : "-"),
             LOG_STR("tls", a->tls_version ? a->tls_version : "clear"),
             LOG_STR("verify", tls_verify_name(a->tls_verify)), LOG_INT("ms", a->duration_ms),
             LOG_INT("attempts", a->attempts), LOG_STR("text", a->outcome.text));
}

void record_attempt(struct dest *dest, const struct link *link, const struct job *job, struct rcpt *rcpt,
                    struct outcome *o, uint64_t started_ms, bool dsn_not_passed_on)
{
    struct worker *w = dest->d->w;
    const struct message *m = job->message;
    const struct policy_match match = dest_match(dest);
    const struct group *group = link ? link->site->group : match.group;
    struct attempt *a = worker_attempt(w);
    struct arena *arena = worker_attempt_arena(w);

    rcpt->attempts++;
    if (o->needs_second && o->kind == OUTCOME_BOUNCED && rcpt->attempts == 1)
        outcome_put_off(o);
    a->message_id = m->id;
    a->rcpt_no = rcpt->no;
    a->address = arena_strdup(arena, rcpt->address);
    a->domain = arena_strdup(arena, rcpt->domain);
    a->campaign = arena_strdup(arena, m->campaign);
    a->account = arena_strdup(arena, m->account);
    a->sender = arena_strdup(arena, m->sender);
    a->accepted_unix = m->accepted_unix;
    a->size_bytes = m->body->size_bytes;
    a->policy_version = policy_version(link ? link->site->policy : w->policy);
    a->group = arena_strdup(arena, group->name);
    a->match = match.how;
    a->match_pattern = arena_strdup(arena, match.pattern);
    uint32_t retry_after_s = replies_judge(link, o);
    a->outcome = *o;
    a->attempts = rcpt->attempts;
    a->at_unix_ms = clock_unix_ms();
    a->duration_ms = (uint32_t)(worker_now_ms(w) - started_ms);
    a->tls_wanted = a->tls_effective = group->starttls;
    a->tls_why = TLS_WHY_RULE;
    if (link)
        put_transport(a, link, arena);
    decide_then(dest, job, rcpt, link, a, retry_after_s, dsn_not_passed_on);
    count(w, a->outcome.kind);
    campaign_guard_note(w->shared->guard, worker_conf(w), a->campaign, &a->outcome);
    shadow_judge(dest, link, a);
    log_attempt(w, a);
}
