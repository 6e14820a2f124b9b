/*
 * One outbound connection, and the walk (link_walk.c) that leads to it:
 *
 *     host ─► addresses ─► connect ─► greeting, EHLO ─► (STARTTLS, EHLO) ─► (AUTH) ─► ready ─► QUIT
 *      ▲          │            │              │                  │                     ▲ ▼
 *      └── next ◄─┴── next ◄───┴──────────────┴──────────────────┘                 transactions
 *                 all used up: site_on_walk_failed
 *
 * A session that ends before the reply to its first MAIL counts as a failure of the host; later it is an
 * ordinary lost connection, and what was not sent goes back to the site.
 */
#include "base/mem.h"
#include "engine/deliver/deliver_priv.h"
#include "engine/shaping.h"

/* ---- life ---- */

void link_enter(struct link *link)
{
    link->depth++;
}

void link_leave(struct link *link)
{
    if (--link->depth == 0 && link->dead)
        mem_free(link);
}

struct link *link_open(struct site *s, enum job_class class, uint16_t lane, const char *domain,
                       const struct job *first)
{
    struct link *link = MEM_NEW(struct link);

    link->site = s;
    link->d = s->d;
    link->class = class;
    link->lane = lane;
    link->wish = job_wish(first);
    link->domain = mem_strdup(domain);
    link->clear_ok = job_clear_ok(s->d, first);
    link->avoids = first->unfit_hosts;
    link->log = s->d->w->log;
    link->opened_ms = worker_now_ms(s->d->w);
    link->order = link_host_order(s);
    link->alarm.ring = link_on_alarm;
    link->calls_heard = s->calls;
    link->walking = s->group->limits.connection_rate.count > 0 || shape_is_crowded(s);
    s->walkers += link->walking;
    list_init(&link->txns);
    list_init(&link->idle_node);
    in_doubt_open(link);
    list_push_back(&s->links, &link->node);
    s->link_count++;
    s->opening[class]++;
    link_enter(link);
    link_next_host(link);
    link_leave(link);
    return link;
}

void link_drop_session(struct link *link)
{
    link_session_settled(link);
    if (link->client)
        smtp_client_destroy(TAKE(link->client));
    if (link->conn) {
        if (conn_tls(link->conn) && link->ready)
            tls_client_remember(conn_tls(link->conn));
        conn_close(TAKE(link->conn));
        UNCOUNT(link->d->w, connections_out_open);
    }
    shape_give_address(link);
    link->tls_up = false;
}

void link_txn_destroy(struct deliver_txn *t)
{
    list_remove(&t->node);
    mem_free(t->txn.outcomes);
    mem_free(t->txn.dsn_not_passed_on);
    mem_free(t);
    /* the job has gone on */
}

uint64_t link_host_bit(const struct link *link)
{
    size_t index = (size_t)(link->host - link->site->hosts);

    return index < 64 ? (uint64_t)1 << index : 0;
}

void link_requeue(struct link *link, struct dest *dest, struct job *job)
{
    if (dest->site != link->site) /* it was bound anew: to other hosts */
        job->unfit_hosts = 0;
    dest_requeue(dest, job);
}

static void give_back(struct link *link, struct deliver_txn *t)
{
    struct dest *dest = t->dest;

    dest->flying -= t->txn.rcpt_count;
    worker_flight_end(link->d->w, t->txn.rcpt_count);
    source_give_recipients(link, t->txn.rcpt_count);
    link_requeue(link, dest, TAKE(t->job));
    t->dest->d->open_txns--;
    link_txn_destroy(t);
    dest_kick_soon(dest);
}

void link_close(struct link *link)
{
    struct site *s = link->site;

    if (link->dead)
        return;
    link_enter(link);
    link->dead = true;
    dns_cancel(TAKE(link->query));
    dane_cancel(TAKE(link->dane_query));
    sts_cancel(TAKE(link->sts_query));
    LIST_FOREACH_SAFE (node, &link->txns)
        give_back(link, LIST_ENTRY(node, struct deliver_txn, node));
    link_drop_session(link);
    in_doubt_close(link);
    alarm_clear(&link->d->clock, &link->alarm);
    shape_give_connect(link);
    if (link->ready)
        shaped_session_ended(s->shaped);
    else
        s->opening[link->class]--;
    s->walkers -= link->walking;
    s->link_count--;
    list_remove(&link->idle_node);
    list_remove(&link->node);
    permit_give(s->pool);
    permit_give(s->global);
    shaped_give_connection(s->shaped);
    mem_free(link->addresses);
    mem_free(link->order);
    mem_free(link->domain);
    dane_records_unref(link->dane);
    site_kick(s);
    site_maybe_free(s);
    link_leave(link);
}

/* ---- socket events ---- */

void link_pass_on(struct link *link)
{
    if (link->dead || !link->conn || !link->client)
        return;
    conn_flush(link->conn);
    if (link->dead || !link->conn || !link->client)
        return;
    if (conn_tls(link->conn) && !link->tls_up)
        return; /* the handshake has its own deadline */
    uint64_t at = smtp_client_deadline_ms(link->client);
    if (!list_is_empty(&link->idle_node) && link->idle_deadline_ms && (!at || link->idle_deadline_ms < at))
        at = link->idle_deadline_ms;
    conn_set_deadline(link->conn, at);
}

static enum err read_body(void *arg, const struct body *b, uint64_t from, size_t len, char *out)
{
    struct link *link = arg;

    return spool_read(store_spool(link->d->w->shared->store), b, from, len, out);
}

static enum smtp_pipelining pipelining(const struct link *link)
{
    enum smtp_pipelining most = SMTP_PIPELINING_COMMANDS;

    switch (link->site->group->pipelining) {
    case PIPELINING_OFF: most = SMTP_PIPELINING_OFF; break;
    case PIPELINING_COMMANDS: break;
    case PIPELINING_FULL: most = SMTP_PIPELINING_FULL; break;
    case PIPELINING_AUTO:
        if (worker_conf(link->d->w)->delivery.pipelining_full)
            most = SMTP_PIPELINING_FULL;
        break;
    }
    if (most == SMTP_PIPELINING_FULL &&
        shaping_host_is(link->d->w->shared->shaping, link->remote, HOST_OUT_OF_STEP))
        return SMTP_PIPELINING_COMMANDS;
    return most;
}

const char *link_ehlo_name(const struct link *link)
{
    const struct group *group = link->site->group;

    const char *own = source_ehlo_name(link);

    return own ? own : group->ehlo_name ? group->ehlo_name : link->d->w->shared->host_name;
}

static void start_client(struct link *link)
{
    const struct group *group = link->site->group;
    struct smtp_client_config config = {
        .ehlo_name = link_ehlo_name(link),
        .timeouts = {.greeting_ms = group->timeouts.greeting_ms,
                     .ehlo_ms = group->timeouts.ehlo_ms,
                     .mail_ms = group->timeouts.mail_ms,
                     .rcpt_ms = group->timeouts.rcpt_ms,
                     .data_ms = group->timeouts.data_ms,
                     .block_ms = group->timeouts.block_ms,
                     .dot_ms = group->timeouts.dot_ms},
        .pipelining = pipelining(link),
        .use_chunking = !shaping_host_is(link->d->w->shared->shaping, link->remote, HOST_NO_CHUNKING),
        .body_read = read_body,
        .body_read_arg = link,
        .events = link_client_events,
        .arg = link,
    };

    link->client = smtp_client_create(&config);
    in_doubt_begin(link);
    conn_set_output(link->conn, smtp_client_output(link->client));
}

static void on_connected(void *arg, enum err e, const char *why)
{
    struct link *link = arg;
    struct outcome o;
    struct ip ip;
    uint16_t port;

    link_enter(link);
    if (e) {
        outcome_local(&o, OUTCOME_DEFERRED, STAGE_CONNECT, 451, "4.4.1", "connect to %s[%s]: %s",
                      link->host->name, link->remote, why);
        link_host_failed(link, &o);
    } else {
        COUNT(link->d->w, connections_out);
        link->reached = true;
        if (conn_local(link->conn, &ip, &port))
            ip_format(&ip, link->source);
        start_client(link);
        if (link->host->implicit_tls) {
            link->tls.offered = true;
            link_start_tls(link);
        } else {
            smtp_client_connected(link->client, worker_now_ms(link->d->w));
            link_pass_on(link);
        }
    }
    link_leave(link);
}

static void on_handshake(void *arg, enum err e, const char *why)
{
    struct link *link = arg;

    link_enter(link);
    link_on_handshake(link, e, why);
    link_pass_on(link);
    link_leave(link);
}

static void on_data(void *arg, struct bytes in)
{
    struct link *link = arg;

    link_enter(link);
    if (link->client)
        smtp_client_receive(link->client, in, worker_now_ms(link->d->w));
    link_pass_on(link);
    link_leave(link);
}

static void on_low(void *arg, size_t sent)
{
    struct link *link = arg;

    link_enter(link);
    if (link->client) {
        smtp_client_sent(link->client, sent, worker_now_ms(link->d->w));
        smtp_client_fill(link->client, worker_now_ms(link->d->w));
    }
    link_leave(link);
}

static void on_lost(void *arg, enum err e, const char *why)
{
    struct link *link = arg;

    link_enter(link);
    if (link->client)
        smtp_client_closed(link->client, e, why, worker_now_ms(link->d->w));
    link_leave(link);
}

static void on_deadline(void *arg)
{
    struct link *link = arg;
    uint64_t now = worker_now_ms(link->d->w);
    struct outcome o;

    link_enter(link);
    if (!link->client || (link->host->implicit_tls && !link->tls_up)) {
        outcome_local(&o, OUTCOME_DEFERRED, STAGE_CONNECT, 451, "4.4.1", "connect to %s[%s]: timed out",
                      link->host->name, link->remote);
        link_host_failed(link, &o);
    } else if (conn_tls(link->conn) && !link->tls_up) {
        link_on_handshake(link, ERR_TIMEOUT, "TLS handshake: timed out");
    } else {
        uint64_t at = smtp_client_deadline_ms(link->client);
        if (at && at <= now)
            smtp_client_on_deadline(link->client, now);
        else if (!list_is_empty(&link->idle_node) && link->idle_deadline_ms && link->idle_deadline_ms <= now)
            link_on_idle(link);
        link_pass_on(link);
    }
    link_leave(link);
}

const struct conn_events link_conn_events = {
    .on_connected = on_connected,
    .on_handshake = on_handshake,
    .on_data = on_data,
    .on_low = on_low,
    .on_lost = on_lost,
    .on_deadline = on_deadline,
};
