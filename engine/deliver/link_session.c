/*
 * What a link does with its conversation: TLS, AUTH, feeding it transactions, and what becomes of their
 * recipients. Events come from engine/smtp/client.h.
 */
#include <stdio.h>

#include "base/mem.h"
#include "engine/deliver/deliver_priv.h"
#include "engine/shaping.h"

#define WANTED_LOOK_MS 250
#define TURN_MS        1000 /* of a connection that other sites wait for */

/* Peers that offer CHUNKING but do not know BDAT, or PIPELINING and lose count. */
static void remember_what_failed(struct link *link, const struct outcome *why)
{
    struct shaping *all = link->d->w->shared->shaping;
    const char *group = link->site->group->name;

    if (smtp_client_chunking_failed(link->client))
        shaping_host_put(all, link->remote, link->host->name, group, HOST_NO_CHUNKING, why);
    if (smtp_client_lost_step(link->client))
        shaping_host_put(all, link->remote, link->host->name, group, HOST_OUT_OF_STEP, why);
}

static char *read_secret(const char *path)
{
    char line[512];
    FILE *f = fopen(path, "re");

    if (!f)
        return NULL;
    char *got = fgets(line, sizeof(line), f);
    fclose(f);
    if (!got)
        return NULL;
    line[strcspn(line, "\r\n")] = '\0';
    char *secret = mem_strdup(line);
    explicit_bzero(line, sizeof(line));
    return secret;
}

void link_go_on(struct link *link)
{
    const struct group *group = link->site->group;
    uint64_t now = worker_now_ms(link->d->w);
    struct outcome o;

    if (!group->auth_user) {
        smtp_client_go_on(link->client, now);
        return;
    }
    if (!link->site->auth_password)
        link->site->auth_password = read_secret(group->auth_password_file);
    if (!link->site->auth_password) {
        outcome_local(&o, OUTCOME_DEFERRED, STAGE_AUTH, 451, "4.7.0",
                      "the password file of group %s cannot be read", group->name);
        log_error(&link->log, "auth.password_file", LOG_STR("file", group->auth_password_file));
        link_host_failed(link, &o);
        return;
    }
    smtp_client_go_auth(link->client, group->auth_user, link->site->auth_password, now);
}

static void on_ehlo(void *arg, const struct smtp_offer *offer)
{
    struct link *link = arg;
    struct rule rule;
    struct outcome o;

    link_enter(link);
    link_rule(link, &rule);
    bool off = rule.effective == TLS_OFF;
    if (!link->tls_up)
        link->tls.offered = offer->starttls;
    if (link->tls_up || link->in_clear || (off && !link->site->group->auth_user)) {
        link_stands(link, offer);
    } else if (offer->starttls && !off) {
        smtp_client_go_starttls(link->client, worker_now_ms(link->d->w));
    } else {
        outcome_local(&o, OUTCOME_DEFERRED, STAGE_STARTTLS, 451, "4.7.4",
                      "TLS is required, but was not offered by host %s[%s]", link->host->name, link->remote);
        link_decide(link, TLS_EVENT_NOT_OFFERED, &o);
    }
    link_leave(link);
}

static void on_starttls(void *arg, bool accepted, bool clean, const struct outcome *reply)
{
    struct link *link = arg;
    struct outcome o = *reply;

    link_enter(link);
    if (accepted) {
        link_start_tls(link);
    } else {
        if (o.remote && o.code / 100 != 2)
            replies_on_failed_host(link, &o); /* also where the mail then goes in clear */
        if (o.code / 100 == 2)                /* the reply is no refusal: say what was wrong with it */
            outcome_local(&o, OUTCOME_DEFERRED, STAGE_TLS, 451, "4.7.5", "%s[%s]: %s", link->host->name,
                          link->remote,
                          o.code == 220 ? "octets behind the 220 to STARTTLS, before the handshake"
                                        : "STARTTLS was answered with another code than 220");
        o.kind = OUTCOME_DEFERRED;
        o.stage = STAGE_STARTTLS;
        link_decide(link,
                    clean           ? TLS_EVENT_REFUSED
                    : o.code == 421 ? TLS_EVENT_CLOSING
                                    : TLS_EVENT_REFUSED_UNCLEAN,
                    &o);
    }
    link_leave(link);
}

static void on_auth(void *arg, bool ok, const struct outcome *reply)
{
    struct link *link = arg;
    struct outcome o = *reply;

    link_enter(link);
    if (ok) {
        smtp_client_go_on(link->client, worker_now_ms(link->d->w));
    } else {
        o.kind = OUTCOME_DEFERRED; /* our credentials are wrong: not the recipient's fault */
        o.stage = STAGE_AUTH;
        log_error(&link->log, "auth.refused", LOG_STR("group", link->site->group->name),
                  LOG_STR("text", o.text));
        link_host_failed(link, &o);
    }
    link_leave(link);
}

/* Whoever has work for ever does not keep its permit for ever, while other sites wait for one. */
static bool turn_is_over(struct link *link)
{
    uint64_t now_ms = worker_now_ms(link->d->w);
    struct site *s = link->site;

    if (link->turn_over || now_ms - link->turn_since_ms < TURN_MS)
        return link->turn_over;
    link->turn_since_ms = now_ms;
    link->turn_over = permit_yield(s->pool, &s->waiter) || permit_yield(s->global, &s->global_waiter) ||
                      shape_yields(link) || shaped_yield(s->shaped, s, now_ms);
    return link->turn_over;
}

bool link_has_room(struct link *link)
{
    uint32_t most = link->site->group->limits.messages_per_connection;

    return !link->dead && link->ready && !link->quitting && !link->source_spent && !link->site->stale &&
           !turn_is_over(link) && !replies_are_too_many(link->site) && (!most || link->messages < most) &&
           smtp_client_room(link->client) > 0;
}

void link_quit(struct link *link)
{
    if (link->dead || link->quitting)
        return;
    link->quitting = true;
    list_remove(&link->idle_node);
    if (!link->client || !link->ready) {
        link_close(link);
        return;
    }
    if (smtp_client_is_idle(link->client)) {
        link_enter(link);
        smtp_client_quit(link->client, worker_now_ms(link->d->w));
        link_pass_on(link);
        link_leave(link);
    }
}

/* Where connections are limited, another worker may come to want this one before its time is up. */
static void look_later(struct link *link)
{
    uint64_t now = worker_now_ms(link->d->w);

    link->idle_deadline_ms = link->idle_end_ms;
    if (shaped_is_capped(link->site->shaped, now))
        link->idle_deadline_ms = MIN_OF(link->idle_end_ms, now + WANTED_LOOK_MS);
}

void link_on_idle(struct link *link)
{
    if (!smtp_client_is_idle(link->client)) { /* it has room, and carries something: it comes to rest anew */
        link->idle_deadline_ms = 0;
        return;
    }
    if (worker_now_ms(link->d->w) >= link->idle_end_ms || replies_want_it_closed(link->site)) {
        link_quit(link);
        return;
    }
    look_later(link);
    link_pass_on(link);
}

static void rest_idle(struct link *link)
{
    struct site *s = link->site;
    uint32_t most = s->group->limits.messages_per_connection;

    if (s->waits_for_permit && !s->turns.ready) { /* we want no more ourselves */
        permit_cancel(s->pool, &s->waiter);
        permit_cancel(s->global, &s->global_waiter);
        s->waits_for_permit = false;
    }
    if (s->stale || link->turn_over || link->d->draining || (most && link->messages >= most) ||
        permit_has_waiters(s->pool) || permit_has_waiters(s->global) || link->source_spent ||
        shape_is_wanted(link) || replies_want_it_closed(s)) {
        link_quit(link);
        return;
    }
    link->idle_end_ms = worker_now_ms(link->d->w) + s->group->timeouts.idle_ms;
    look_later(link);
}

void link_feed(struct link *link)
{
    struct deliver *d = link->d;

    link_enter(link);
    while (link_has_room(link)) {
        struct deliver_txn *t = site_take(link->site, link);
        if (!t)
            break;
        list_remove(&link->idle_node);
        link->messages++;
        source_on_message(link);
        d->open_txns++;
        smtp_client_submit(link->client, &t->txn, worker_now_ms(d->w));
    }
    if (!link->dead && link->ready && !link->quitting) {
        if (link_has_room(link) && list_is_empty(&link->idle_node))
            list_push_front(&link->site->idle, &link->idle_node); /* the warmest first */
        if (smtp_client_is_idle(link->client))
            rest_idle(link);
    }
    link_pass_on(link);
    link_leave(link);
}

static void on_ready(void *arg)
{
    struct link *link = arg;

    link_enter(link);
    if (!link->ready) {
        link->ready = true;
        shaped_session_stands(link->site->shaped);
        link->turn_since_ms = worker_now_ms(link->d->w);
        link->host_down = false;
        failed_hosts_forget(link->d->w->shared->failed_hosts, link->host->name, link->host->port);
        link->site->opening[link->class]--;
        site_on_session(link->site);
    }
    if (link->quitting)
        link->quitting = false, link_quit(link);
    else
        link_feed(link);
    if (link->class == CLASS_OTHER_HOST && !link->dead)
        site_on_other_link(link->site, link);
    link_leave(link);
}

/*
 * May recipient i's mail have what it needs at another host of the site?  RFC 5321 §5.1: the next is tried
 * before it is returned, whatever it asks of TLS there.
 */
static bool is_for_other_host(const struct link *link, const struct job *job, const struct smtp_txn *txn,
                              uint32_t i)
{
    uint64_t here = link_host_bit(link);

    if (!smtp_txn_host_lacks(txn, i))
        return false;
    return here && (job->unfit_hosts | here) != site_host_bits(link->site);
}

static void log_unfit(const struct link *link, const struct job *job, const struct rcpt *rcpt,
                      const struct outcome *o)
{
    char id[MESSAGE_ID_TEXT];

    log_info(&link->log, "host.unfit", LOG_STR("message", message_id_format(job->message->id, id)),
             LOG_STR("to", rcpt->address), LOG_STR("group", link->site->group->name),
             LOG_STR("mx", link->host->name), LOG_STR("remote", link->remote),
             LOG_STR("enhanced", o->enhanced), LOG_STR("text", o->text));
}

/* Tried again at once, without counting an attempt: what the client says was not attempted, and what was lost
 * before this connection ever answered a MAIL: then it is the host that failed. */
static bool is_for_again(const struct link *link, const struct smtp_txn *txn, uint32_t i)
{
    const struct outcome *o = &txn->outcomes[i];

    return smtp_txn_retry_at_once(txn, i) || (!link->mail_answered && o->kind == OUTCOME_DEFERRED &&
                                              !o->remote && !o->in_doubt && o->stage == STAGE_MAIL);
}

static bool was_not_sent(const struct outcome *o)
{
    return o->stage == STAGE_QUEUE && o->code == 0;
}

static void on_txn_done(void *arg, struct smtp_txn *txn)
{
    struct link *link = arg;
    struct deliver_txn *t = txn->arg;
    struct dest *dest = t->dest;
    struct job *job = t->job;
    uint32_t again = 0;
    bool any_sent = false, any_delivered = false, unfit_here = false;

    link_enter(link);
    link->mail_answered = smtp_client_in_session(link->client);
    if (link->mail_answered) {
        link_session_settled(link);
        site_on_alive(link->site);
    }
    if (!was_not_sent(&txn->outcomes[0])) /* else on_over says why */
        remember_what_failed(link, &txn->outcomes[0]);
    link->site->reply_counted = false;
    for (uint32_t i = 0; i < txn->rcpt_count; i++) {
        struct outcome *o = &txn->outcomes[i];
        bool unfit = is_for_other_host(link, job, txn, i);
        if (unfit)
            log_unfit(link, job, &job->rcpts[i], o);
        unfit_here |= unfit;
        if (unfit || is_for_again(link, txn, i)) {
            struct rcpt keep = job->rcpts[i];
            job->rcpts[i] = job->rcpts[again];
            job->rcpts[again++] = keep;
            continue;
        }
        any_sent = true;
        any_delivered |= o->kind == OUTCOME_DELIVERED;
        source_on_outcome(link, o);
        record_attempt(dest, link, job, &job->rcpts[i], o, t->started_ms, txn->dsn_not_passed_on[i]);
    }
    if (any_delivered)
        in_doubt_delivered(link);
    if (any_sent && conn_tls(link->conn))
        tls_client_remember(conn_tls(link->conn));
    dest->flying -= txn->rcpt_count;
    worker_flight_end(link->d->w, again);
    worker_flight_result(link->d->w, txn->rcpt_count - again);
    source_give_recipients(link, again);
    link->d->open_txns--;
    link_txn_destroy(t);
    job->rcpt_count = again;
    if (again) {
        if (unfit_here)
            job->unfit_hosts |= link_host_bit(link);
        link_requeue(link, dest, job);
        dest_kick_soon(
            dest); /* when this link has said what becomes of it: it may go on to another host with it */
    } else {
        job_destroy(job);
        dest_kick(dest);
    }
    link_leave(link);
}

/* It is the reply to nobody's attempt, but a rule may say what follows for the site.  4.4.2 speaks of the
 * connection alone: it was idle for too long. */
static bool is_asked_about(const struct link *link, const struct outcome *why)
{
    return smtp_client_turned_away(link->client) && strcmp(why->enhanced, "4.4.2") != 0;
}

static void on_over(void *arg, const struct outcome *why)
{
    struct link *link = arg;
    struct outcome o = *why;

    link_enter(link);
    link->mail_answered = smtp_client_in_session(link->client);
    remember_what_failed(link, why);
    if (is_asked_about(link, why))
        replies_on_failed_host(link, why);
    if (link->quitting || (link->mail_answered && link->ready)) {
        link_close(link);
    } else if (link->ready && link->messages == 0) {
        link_close(link); /* nothing was asked of it: an idle connection that ended */
    } else {
        o.kind = OUTCOME_DEFERRED; /* the host failed, no recipient was judged */
        if (link->ready) {
            link->ready = false;
            shaped_session_ended(link->site->shaped);
            link->site->opening[link->class]++;
            list_remove(&link->idle_node);
        }
        link->session_pending = false; /* what stood has failed after all */
        if (link->tls_up)
            link_decide(link, TLS_EVENT_HANDSHAKE_FAILED, &o);
        else
            link_host_failed(link, &o);
    }
    link_leave(link);
}

const struct smtp_client_events link_client_events = {
    .on_ehlo = on_ehlo,
    .on_starttls = on_starttls,
    .on_auth = on_auth,
    .on_ready = on_ready,
    .on_txn_done = on_txn_done,
    .on_over = on_over,
};
