#include "engine/submit/submission.h"

#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/dkim/dkim.h"
#include "engine/submit/reports.h"

#define HANDSHAKE_LIMIT_MS 60000 /* or submission.command_timeout, where that is less */
#define OUTPUT_MAX         (64 * 1024)
/* Lines a minute and worker; each failure is wanted by who bans addresses, up to what a log can bear. */
#define AUTH_FAILED_LOGGED  300
#define AUTH_LIMITED_LOGGED 10

static const struct conn_events conn_events;
static const struct smtp_server_events server_events;

struct pending_accept {
    struct store_accept accept;
    struct dkim_request signing; /* before it, where there is a key */
    struct submission *client;   /* NULL: it has gone */
    uint64_t started_ms;
    /* How it came: it is counted once it is stored, and the client may be gone by then. */
    struct ip source;
    char listener[IP_TEXT_BYTES];
    bool tls;
    struct smtp_tls_facts tls_facts;
    const char *auth;
};

/* ---- life ---- */

void submission_enter(struct submission *c)
{
    c->depth++;
}

static void pass_on(struct submission *c)
{
    if (c->dead || !c->server)
        return;
    if (smtp_server_wants_pause(c->server))
        conn_pause(c->conn);
    else
        conn_resume(c->conn);
    if (c->dead || !c->server)
        return;
    conn_flush(c->conn);
    if (!c->dead)
        conn_set_deadline(c->conn, c->handshake_until_ms ?: smtp_server_deadline_ms(c->server));
}

void submission_leave(struct submission *c)
{
    if (c->depth == 1 && !c->dead) {
        if (c->finishing) {
            conn_finish(TAKE(c->conn)); /* the last reply goes out, then it closes by itself */
            submission_close(c);
        } else {
            pass_on(c);
        }
    }
    if (--c->depth == 0 && c->dead)
        mem_free(c);
}

void submission_close(struct submission *c)
{
    struct worker *w = c->submit->w;

    if (c->dead)
        return;
    c->depth++;
    c->dead = true;
    password_abandon(c);
    if (c->pending)
        c->pending->client = NULL; /* the message is committed or not; the client will not hear of it */
    conn_close(c->conn);
    smtp_server_destroy(c->server);
    admission_known(c);
    if (c->counted)
        admission_give(c->submit, c->address_key);
    if (c->account_key)
        client_gone(w->shared->limits, c->account_key, clock_now_ms());
    mem_free(c->account_key);
    accounts_unref(c->accounts);
    tls_peer_fini(&c->tls_peer);
    list_remove(&c->node);
    c->submit->client_count--;
    UNCOUNT(w, connections_in_open);
    if (--c->depth == 0)
        mem_free(c);
}

static bool is_trusted(const struct listener *l, const struct ip *ip)
{
    for (size_t i = 0; i < l->trusted_count; i++)
        if (ip_net_has(&l->trusted[i], ip))
            return true;
    return false;
}

/* One line and goodbye, without a session. */
static void turn_away(struct submit *s, int fd, const char *line)
{
    COUNT(s->w, connections_refused);
    if (write(fd, line, strlen(line)) < 0)
        log_debug(&s->w->log, "refuse.write");
    close(fd);
}

static void start_tls(struct submission *c)
{
    struct tls_server *tls = listener_tls(c->listener);

    uint32_t limit_ms = MIN_OF(listener_rules(c->listener)->command_timeout_ms, (uint32_t)HANDSHAKE_LIMIT_MS);

    c->handshake_until_ms =
        worker_now_ms(c->submit->w) + limit_ms; /* for the whole, whatever comes meanwhile */
    conn_start_tls(c->conn, tls_server_session(tls));
    tls_server_unref(tls);
}

void submission_open(struct submit *s, struct listener *l, int fd, const struct ip *ip, uint16_t port)
{
    struct worker *w = s->w;
    char text[IP_TEXT_BYTES], key[CLIENT_KEY_BYTES];
    const char *why;

    COUNT(w, connections_in);
    client_key_of(ip, key);
    bool trusted = is_trusted(l, ip);
    if (!admission_take(s, key, trusted, fd, &why)) {
        turn_away(s, fd, why);
        return;
    }
    struct submission *c = MEM_NEW(struct submission);
    c->submit = s;
    c->listener = l;
    c->counted = true;
    c->peer = (struct smtp_peer){.ip = *ip, .port = port, .trusted = trusted};
    memcpy(c->address_key, key, sizeof(key));
    log_context(&c->log, "worker=%u client=%.40s", w->index, ip_format(ip, text));
    list_push_back(&s->clients, &c->node);
    admission_begin(c);
    s->client_count++;
    COUNT(w, connections_in_open);
    c->conn = conn_create(w->pool, &conn_events, c);
    if (conn_adopt(c->conn, fd) != OK) {
        close(fd);
        submission_close(c);
        return;
    }
    struct smtp_server_config config = {
        .rules = listener_rules(l),
        .spool = store_spool(w->shared->store),
        .dkim = w->shared->dkim,
        .worker = w->index,
        .peer = c->peer,
        .log = &c->log,
        .events = server_events,
        .arg = c,
    };
    submission_enter(c);
    c->server = smtp_server_create(&config, worker_now_ms(w));
    conn_set_output(c->conn, smtp_server_output(c->server));
    conn_set_output_max(c->conn, OUTPUT_MAX);
    if (listener_rules(l)->implicit_tls) {
        start_tls(c);
    } else {
        ssize_t early = recv(fd, w->pool->in, 64, MSG_PEEK | MSG_DONTWAIT);
        if (early > 0) /* it talks before the greeting: the conversation answers 554 */
            smtp_server_receive(c->server, bytes_make(w->pool->in, (size_t)early), worker_now_ms(w));
        smtp_server_start(c->server, worker_now_ms(w));
    }
    submission_leave(c);
}

void submission_drain(struct submission *c)
{
    submission_enter(c);
    if (c->server && !c->finishing)
        smtp_server_drain(c->server, worker_now_ms(c->submit->w));
    submission_leave(c);
}

/* ---- socket events ---- */

static void tls_is_up(struct submission *c)
{
    gnutls_session_t session = conn_tls(c->conn);
    struct smtp_tls_facts facts = {0};

    snprintf(facts.version, sizeof(facts.version), "%s", tls_version_name(session));
    snprintf(facts.cipher, sizeof(facts.cipher), "%s", tls_cipher_name(session));
    smtp_server_tls_done(c->server, &facts, worker_now_ms(c->submit->w));
    if (listener_rules(c->listener)->implicit_tls && !c->dead)
        smtp_server_start(c->server, worker_now_ms(c->submit->w));
}

static void on_handshake(void *arg, enum err e, const char *why)
{
    struct submission *c = arg;

    submission_enter(c);
    c->handshake_until_ms = 0;
    if (e == OK && !client_certificate_admits(c, &why)) {
        gnutls_alert_send(conn_tls(c->conn), GNUTLS_AL_FATAL, GNUTLS_A_BAD_CERTIFICATE);
        e = ERR_DENIED;
    }
    if (e) {
        COUNT(c->submit->w, tls_in_failures);
        if (e == ERR_DENIED)
            attack_report(c, "client-certificate-refused", why);
        else
            attack_report_handshake(c, why);
        submission_close(c);
    } else {
        tls_is_up(c);
    }
    submission_leave(c);
}

static void on_data(void *arg, struct bytes in)
{
    struct submission *c = arg;

    submission_enter(c);
    if (!c->finishing && c->server)
        smtp_server_receive(c->server, in, worker_now_ms(c->submit->w));
    submission_leave(c);
}

static void on_lost(void *arg, enum err e, const char *why)
{
    struct submission *c = arg;

    submission_enter(c);
    if (e == ERR_TLS) /* a record that cannot be, renegotiation, more key updates than anybody needs */
        attack_report(c, "tls-broken", why);
    else if (e != ERR_CLOSED)
        log_info(&c->log, "client.lost", LOG_STR("why", why));
    submission_close(c);
    submission_leave(c);
}

static void on_deadline(void *arg)
{
    struct submission *c = arg;

    submission_enter(c);
    if (c->handshake_until_ms) { /* nothing can be said in the middle of it */
        COUNT(c->submit->w, tls_in_failures);
        attack_report_handshake(c, HANDSHAKE_TOO_SLOW);
        submission_close(c);
    } else {
        smtp_server_on_deadline(c->server, worker_now_ms(c->submit->w));
    }
    submission_leave(c);
}

static const struct conn_events conn_events = {
    .on_handshake = on_handshake,
    .on_data = on_data,
    .on_lost = on_lost,
    .on_deadline = on_deadline,
};

/* ---- what the conversation asks for ---- */

static void on_starttls(void *arg)
{
    struct submission *c = arg;

    submission_enter(c);
    start_tls(c);
    submission_leave(c);
}

static void on_check_password(void *arg, const char *user, const char *password)
{
    password_check(arg, user, password);
}

const struct account *submission_find_account(struct submission *c, const char *user)
{
    struct worker *w = c->submit->w;

    accounts_unref(c->accounts);
    c->accounts = accounts_ref(w->accounts);
    const struct account *a = accounts_find(c->accounts, bytes_of(user));
    if (!a || a->disabled || !a->iterations) /* without a password: certificates only */
        return NULL;
    for (size_t i = 0; i < a->network_count; i++)
        if (ip_net_has(&a->networks[i], &c->peer.ip))
            return a;
    return a->network_count ? NULL : a;
}

static const struct account *find_account(void *arg, const char *user)
{
    return submission_find_account(arg, user);
}

static bool may_authenticate(void *arg, const char *user)
{
    struct submission *c = arg;
    struct worker *w = c->submit->w;
    struct client_limits limits = client_limits_of(w);

    if (client_may_authenticate(w->shared->limits, c->address_key, user, &limits, clock_now_ms()))
        return true;
    if (attack_is_worth_a_line(c->submit, "auth.limited", AUTH_LIMITED_LOGGED))
        log_warn(&c->log, "auth.limited", LOG_STR("account", user ? user : ""));
    return false;
}

static void on_auth_result(void *arg, const char *user, bool ok)
{
    struct submission *c = arg;
    struct worker *w = c->submit->w;

    if (!ok) {
        COUNT(w, auth_failures);
        client_auth_failed(w->shared->limits, c->address_key, user, clock_now_ms());
        if (attack_is_worth_a_line(c->submit, "auth.failed", AUTH_FAILED_LOGGED))
            log_warn(&c->log, "auth.failed", LOG_STR("account", user));
        return;
    }
    admission_known(c);
    log_info(&c->log, "auth.ok", LOG_STR("account", user),
             LOG_STR("by", smtp_server_auth_mechanism(c->server)));
}

/* The account's own limits, beside those of the address. */
static bool account_may(struct submission *c, enum client_event event)
{
    struct worker *w = c->submit->w;
    const char *name = smtp_server_account(c->server);
    const struct account *a = name ? accounts_find(w->accounts, bytes_of(name)) : NULL;
    char key[160];

    if (!a)
        return name == NULL;
    struct client_limits limits = {.connections = a->max_connections,
                                   .messages_per_minute = a->messages_per_minute};
    snprintf(key, sizeof(key), "account:%.140s", name);
    if (event == CLIENT_CONNECT) {
        if (c->account_key)
            return true;
        if (!client_may(w->shared->limits, key, &limits, CLIENT_CONNECT, clock_now_ms()))
            return false;
        c->account_key = mem_strdup(key);
        return true;
    }
    return !a->disabled && client_may(w->shared->limits, key, &limits, event, clock_now_ms());
}

static bool may_send(void *arg, struct buf *reply)
{
    struct submission *c = arg;
    struct worker *w = c->submit->w;
    struct client_limits limits = client_limits_of(w);

    if (spool_is_full(store_spool(w->shared->store)))
        buf_puts(reply, "452 4.3.1 no space to store mail, try again later");
    else if (!account_may(c, CLIENT_CONNECT))
        buf_puts(reply, "450 4.7.0 too many connections of your account, try again later");
    else if (!account_may(c, CLIENT_MESSAGE))
        buf_puts(reply, "450 4.7.1 too many messages of your account in the last minute, try again later");
    else if (!c->peer.trusted &&
             !client_may(w->shared->limits, c->address_key, &limits, CLIENT_MESSAGE, clock_now_ms()))
        buf_puts(reply, "450 4.7.1 too many messages from your address in the last minute, try again later");
    return reply->len == 0;
}

static void remember_how_it_came(struct pending_accept *p, const struct submission *c)
{
    const struct smtp_tls_facts *tls = smtp_server_tls(c->server);

    p->source = c->peer.ip;
    ip_format_port(&c->listener->ip, c->listener->port, p->listener);
    p->tls = tls != NULL;
    if (tls)
        p->tls_facts = *tls;
    p->auth = smtp_server_auth_mechanism(c->server);
}

static void count_intake(struct intake *intake, const struct pending_accept *p)
{
    const struct message *m = p->accept.message;

    intake_count(intake,
                 &(struct intake_facts){.account = m->account,
                                        .source = p->source,
                                        .listener = p->listener,
                                        .version = p->tls ? p->tls_facts.version : NULL,
                                        .cipher = p->tls_facts.cipher,
                                        .auth = p->auth},
                 m->rcpt_total, m->body->size_bytes);
}

/* What became of the message, if there is still somebody to tell; the pending is gone afterwards. */
static void answer(struct pending_accept *p, enum err e, struct worker *w)
{
    struct submission *c = p->client;

    store_accept_destroy(&p->accept); /* frees the whole: the accept is its first member */
    if (!c)
        return;
    submission_enter(c);
    c->pending = NULL;
    smtp_server_accept_done(c->server, e, worker_now_ms(w));
    submission_leave(c);
}

static void on_accepted(struct note *note, void *owner)
{
    struct pending_accept *p = CONTAINER_OF(note, struct pending_accept, accept.req.note);
    struct submission *c = p->client;
    enum err e = p->accept.req.result;
    struct worker *w = owner;
    char id[MESSAGE_ID_TEXT];

    if (!e) {
        COUNT(w, messages_in);
        if (c)
            admission_known(c);
        count_intake(w->shared->intake, p);
        atomic_fetch_add_explicit(&w->counters.bytes_in, p->accept.message->body->size_bytes,
                                  memory_order_relaxed);
        log_info(c ? &c->log : &w->log, "accept",
                 LOG_STR("message", message_id_format(p->accept.message->id, id)),
                 LOG_STR("from", p->accept.message->sender), LOG_INT("rcpts", p->accept.message->rcpt_count),
                 LOG_INT("bytes", p->accept.message->body->size_bytes),
                 LOG_STR("campaign", p->accept.message->campaign ? p->accept.message->campaign : "-"),
                 LOG_INT("ms", worker_now_ms(w) - p->started_ms));
    } else {
        log_error(c ? &c->log : &w->log, "accept.failed", LOG_ERR(e));
    }
    answer(p, e, w);
}

static void give_up(struct pending_accept *p, enum err e, struct worker *w)
{
    if (p->client)
        log_error(&p->client->log, "accept.not_signed", LOG_ERR(e));
    answer(p, e, w);
}

static void on_signed(struct note *note, void *owner)
{
    struct pending_accept *p = CONTAINER_OF(note, struct pending_accept, signing.note);
    struct worker *w = owner;

    if (!p->signing.result && p->client)
        store_post_accept(w->shared->store, &p->accept);
    else /* a client that has gone was told nothing, and will send it again */
        give_up(p, p->signing.result, w);
}

static void sign_and_accept(struct pending_accept *p, struct worker *w)
{
    if (!p->signing.signing) {
        store_post_accept(w->shared->store, &p->accept);
        return;
    }
    enum err e = dkim_post(w->shared->dkim, &p->signing);
    if (e) {
        dkim_signing_destroy(p->signing.signing);
        give_up(p, e, w);
    }
}

/* Mail for tlsrpt.receive ends here; its other recipients get it as ever. */
static void on_reports_taken(void *arg, enum err e)
{
    struct pending_accept *p = arg;
    struct submission *c = p->client;
    struct worker *w = c ? c->submit->w : NULL;
    struct message *rest = c && !e ? reports_rest(worker_conf(w), p->accept.message) : NULL;

    if (!rest) {
        dkim_signing_destroy(p->signing.signing);
        answer(p, e, w);
        return;
    }
    message_unref(p->accept.message);
    p->accept.message = rest;
    sign_and_accept(p, w);
}

static void on_message(void *arg, struct message *m, int64_t not_before_unix)
{
    struct submission *c = arg;
    struct worker *w = c->submit->w;
    struct pending_accept *p = MEM_NEW(struct pending_accept);

    p->client = c;
    p->started_ms = worker_now_ms(w);
    remember_how_it_came(p, c);
    p->accept.req.reply_to = &w->inbox;
    p->accept.req.on_reply = on_accepted;
    p->accept.message = m;
    p->accept.not_before_unix = not_before_unix;
    p->signing = (struct dkim_request){
        .reply_to = &w->inbox,
        .on_reply = on_signed,
        .signing = smtp_server_take_signing(c->server),
        .body = m->body,
        .spool = store_spool(w->shared->store),
    };
    c->pending = p;
    if (reports_are_for_us(worker_conf(w), m))
        reports_take(w, m, on_reports_taken, p);
    else
        sign_and_accept(p, w);
}

static bool has_certificate(void *arg)
{
    return client_certificate_is_known(arg);
}

static const struct account *find_by_certificate(void *arg, const char *user)
{
    struct submission *c = arg;

    return client_certificate_account(c, user);
}

static void on_attack(void *arg, const char *what)
{
    attack_report(arg, what, "");
}

static void on_close(void *arg)
{
    struct submission *c = arg;

    c->finishing = true; /* submission_leave() does it: we are inside the server */
}

static const struct smtp_server_events server_events = {
    .on_starttls = on_starttls,
    .on_check_password = on_check_password,
    .find_account = find_account,
    .on_auth_result = on_auth_result,
    .may_send = may_send,
    .on_message = on_message,
    .on_close = on_close,
    .has_certificate = has_certificate,
    .find_by_certificate = find_by_certificate,
    .on_attack = on_attack,
    .may_authenticate = may_authenticate,
};
