/*
 * The state table of the outbound conversation.  The state is the reply we wait for; `phase` of each
 * transaction is the second cursor: what is said next (client_say.c).
 *
 *   NEW ─► GREETING ─220─► EHLO ─2yz─► CHOOSE ──go_on──────────────────────────► READY
 *                           │5yz        ▲│ │└──go_starttls─► STARTTLS ─220─► HANDSHAKE ─tls_done─► EHLO
 *                           ▼           ││ │                    └─4yz 5yz─► CHOOSE
 *                          HELO ──2yz───┘│ └──go_auth─► AUTH ⟲334 ─235─► READY, else CHOOSE
 *                                        └──quit─► QUIT
 *
 *   READY ─► [RSET ─►] MAIL ─► RCPT ⟲ ─► DATA ─354─► BODY ─all said─► DOT ─► READY       one transaction;
 *                       │       │         └─354, none accepted: lone dot─▲     a refusal leads back to READY
 * as soon as │       └──BDAT──► CHUNK ⟲ ─► READY, or RSET once      all that was said is answered └─ refused:
 * RCPT while replies are due, else READY
 *
 *   any state ─421, lost, time-out, protocol error─► OVER        READY ─quit─► QUIT ─► OVER
 */
#include <assert.h>
#include <stdio.h>

#include "base/mem.h"
#include "engine/smtp/client_priv.h"

typedef enum client_state (*enter_fn)(struct smtp_client *c);
typedef enum client_state (*reply_fn)(struct smtp_client *c, const struct smtp_reply *r);

enum timeout { NO_TIMEOUT, AT_GREETING, AT_EHLO, AT_MAIL, AT_RCPT, AT_DATA, AT_BLOCK, AT_DOT, AT_QUIT };

struct step {
    const char *name;
    const char *waits_for; /* in sentences that operators and senders read */
    enum outcome_stage stage;
    enter_fn enter;
    reply_fn on_reply;
    enum timeout timeout;
    uint32_t may_go_to;
};

static enum client_state enter_ready(struct smtp_client *c);
static enum client_state enter_say(struct smtp_client *c);
static enum client_state enter_quit(struct smtp_client *c);
static enum client_state enter_over(struct smtp_client *c);
static enum client_state on_unasked(struct smtp_client *c, const struct smtp_reply *r);
static enum client_state on_quit(struct smtp_client *c, const struct smtp_reply *r);

#define OVER    BIT(CLIENT_OVER)
#define ASKED   BIT(CLIENT_CHOOSE)
#define RESTING BIT(CLIENT_READY)
#define QUITS   BIT(CLIENT_QUIT)

/* clang-format off */
static const struct step steps[] = {
    /*                     name         waits for                    stage           enter                  on_reply            timeout      may go to */
    [CLIENT_NEW]       = { "new",       "nothing",                   STAGE_CONNECT,  NULL,                  on_unasked,         NO_TIMEOUT,  BIT(CLIENT_GREETING) | OVER },
    [CLIENT_GREETING]  = { "greeting",  "the greeting",              STAGE_GREETING, NULL,                  client_on_greeting, AT_GREETING, BIT(CLIENT_EHLO) | QUITS | OVER },
    [CLIENT_EHLO]      = { "ehlo",      "the reply to EHLO",         STAGE_EHLO,     client_enter_ehlo,     client_on_ehlo,     AT_EHLO,     BIT(CLIENT_HELO) | ASKED | QUITS | OVER },
    [CLIENT_HELO]      = { "helo",      "the reply to HELO",         STAGE_EHLO,     client_enter_helo,     client_on_helo,     AT_EHLO,     ASKED | QUITS | OVER },
    [CLIENT_CHOOSE]    = { "choose",    "our own decision",          STAGE_EHLO,     NULL,                  on_unasked,         NO_TIMEOUT,  BIT(CLIENT_STARTTLS) | BIT(CLIENT_AUTH) | RESTING | QUITS | OVER },
    [CLIENT_STARTTLS]  = { "starttls",  "the reply to STARTTLS",     STAGE_STARTTLS, client_enter_starttls, client_on_starttls, AT_EHLO,     BIT(CLIENT_HANDSHAKE) | ASKED | QUITS | OVER },
    [CLIENT_HANDSHAKE] = { "handshake", "the TLS handshake",         STAGE_TLS,      NULL,                  on_unasked,         NO_TIMEOUT,  BIT(CLIENT_EHLO) | OVER },
    [CLIENT_AUTH]      = { "auth",      "the reply to AUTH",         STAGE_AUTH,     client_enter_auth,     client_on_auth,     AT_EHLO,     RESTING | ASKED | QUITS | OVER },
    [CLIENT_READY]     = { "ready",     "the next message",          STAGE_MAIL,     enter_ready,           on_unasked,         NO_TIMEOUT,  BIT(CLIENT_RSET) | BIT(CLIENT_MAIL) | QUITS | OVER },
    [CLIENT_RSET]      = { "rset",      "the reply to RSET",         STAGE_MAIL,     enter_say,             client_on_rset,     AT_MAIL,     BIT(CLIENT_MAIL) | OVER },
    [CLIENT_MAIL]      = { "mail",      "the reply to MAIL",         STAGE_MAIL,     enter_say,             client_on_mail,     AT_MAIL,     BIT(CLIENT_RCPT) | RESTING | OVER },
    [CLIENT_RCPT]      = { "rcpt",      "the reply to RCPT",         STAGE_RCPT,     enter_say,             client_on_rcpt,     AT_RCPT,     BIT(CLIENT_DATA) | BIT(CLIENT_CHUNK) | RESTING | OVER },
    [CLIENT_DATA]      = { "data",      "the reply to DATA",         STAGE_DATA,     enter_say,             client_on_data,     AT_DATA,     BIT(CLIENT_BODY) | BIT(CLIENT_DOT) | RESTING | OVER },
    [CLIENT_BODY]      = { "body",      "room to send the message",  STAGE_DATA,     client_enter_body,     client_on_body,     AT_BLOCK,    BIT(CLIENT_DOT) | OVER },
    [CLIENT_DOT]       = { "dot",       "the reply to the message",  STAGE_DOT,      enter_say,             client_on_dot,      AT_DOT,      RESTING | OVER },
    [CLIENT_CHUNK]     = { "chunk",     "the reply to the message",  STAGE_DOT,      client_enter_chunk,    client_on_chunk,    AT_DOT,      BIT(CLIENT_RSET) | RESTING | OVER },
    [CLIENT_QUIT]      = { "quit",      "the reply to QUIT",         STAGE_MAIL,     enter_quit,            on_quit,            AT_QUIT,     OVER },
    [CLIENT_OVER]      = { "over",      "nothing",                   STAGE_MAIL,     enter_over,            on_unasked,         NO_TIMEOUT,  0 },
};
/* clang-format on */

/* RFC 5321 §4.5.3.2; it names no time for EHLO and QUIT. */
static const struct smtp_timeouts rfc_timeouts = {
    .greeting_ms = 5 * 60 * 1000,
    .ehlo_ms = 5 * 60 * 1000,
    .mail_ms = 5 * 60 * 1000,
    .rcpt_ms = 5 * 60 * 1000,
    .data_ms = 2 * 60 * 1000,
    .block_ms = 3 * 60 * 1000,
    .dot_ms = 10 * 60 * 1000,
    .quit_ms = 60 * 1000,
};

static uint32_t timeout_ms(const struct smtp_client *c, enum timeout which)
{
    const struct smtp_timeouts *t = &c->config.timeouts;

    switch (which) {
    case NO_TIMEOUT: break;
    case AT_GREETING: return t->greeting_ms;
    case AT_EHLO: return t->ehlo_ms;
    case AT_MAIL: return t->mail_ms;
    case AT_RCPT: return t->rcpt_ms;
    case AT_DATA: return t->data_ms;
    case AT_BLOCK: return t->block_ms;
    case AT_DOT: return t->dot_ms;
    case AT_QUIT: return t->quit_ms;
    }
    return 0;
}

/* All is said but the end of the message, and the owner keeps that back. */
static bool is_kept_back(const struct smtp_client *c)
{
    return c->held && c->unanswered == 0 && outq_is_empty(&c->out) &&
           (c->state == CLIENT_BODY || c->state == CLIENT_CHUNK);
}

static const char *waits_for(const struct smtp_client *c)
{
    return is_kept_back(c) ? "the record of the message before" : steps[c->state].waits_for;
}

/* The wait for the reply to a message begins when the message has left; until then each block has its time.
 */
static void restart_clock(struct smtp_client *c)
{
    enum timeout which = steps[c->state].timeout;

    if (which == AT_DOT && !outq_is_empty(&c->out))
        which = AT_BLOCK;
    if (is_kept_back(c))
        which = NO_TIMEOUT; /* the peer is not late */
    uint32_t ms = timeout_ms(c, which);
    c->deadline_ms = ms ? c->now_ms + ms : 0;
    c->left_at_restart = c->put_total - c->out.len;
}

/* A message is on its way out, and some of it left since the clock was set: an owner need not tell each
 * octet. */
static bool is_moving(const struct smtp_client *c)
{
    enum timeout which = steps[c->state].timeout;

    return (which == AT_BLOCK || which == AT_DOT) && c->put_total - c->out.len != c->left_at_restart;
}

/* The one place where the state changes. */
void client_go(struct smtp_client *c, enum client_state to)
{
    for (;;) {
        assert(to == c->state || steps[c->state].may_go_to & BIT(to));
        c->state = to;
        enum client_state next = steps[to].enter ? steps[to].enter(c) : to;
        restart_clock(c);
        if (next == to)
            return;
        to = next;
    }
}

enum outcome_stage client_stage(const struct smtp_client *c)
{
    return steps[c->state].stage;
}

/* ---- entering states that belong to no subject of their own ---- */

static enum client_state enter_say(struct smtp_client *c)
{
    client_say(c);
    return c->state;
}

/*
 * Octets behind the last reply that was due are a reply too many: nothing may be said before they were looked
 * at, or they would be taken for the answer (T60).
 */
static enum client_state enter_ready(struct smtp_client *c)
{
    struct smtp_txn *t = client_head(c);

    if (c->unanswered == 0 && c->more_input)
        return CLIENT_READY;
    if (!t)
        return c->quitting ? CLIENT_QUIT : CLIENT_READY;
    c->ruled = false;
    return c->peer_in_txn && t->phase == SAY_START ? CLIENT_RSET : CLIENT_MAIL;
}

static enum client_state enter_quit(struct smtp_client *c)
{
    buf_puts(&c->cmd, "QUIT\r\n");
    c->unanswered++;
    client_flush(c);
    return CLIENT_QUIT;
}

static enum client_state enter_over(struct smtp_client *c)
{
    client_settle_all(c);
    client_auth_end(c);
    c->over_due = true; /* once: no state follows, and nobody enters this one again */
    c->ready_due = false;
    return CLIENT_OVER;
}

static enum client_state end_orderly(struct smtp_client *c)
{
    outcome_local(&c->over, OUTCOME_DELIVERED, STAGE_QUEUE, 0, "", "closed after QUIT");
    return CLIENT_OVER;
}

static enum client_state on_quit(struct smtp_client *c, const struct smtp_reply *r)
{
    (void)r; /* whatever it says, we are leaving */
    return end_orderly(c);
}

static enum client_state on_unasked(struct smtp_client *c, const struct smtp_reply *r)
{
    (void)r;
    return client_fail_protocol(c, "a reply came to no command");
}

/* ---- endings ---- */

enum client_state client_fail(struct smtp_client *c, uint16_t code, const char *enhanced, const char *format,
                              ...)
{
    char text[OUTCOME_TEXT_BYTES];
    va_list ap;

    va_start(ap, format);
    if (vsnprintf(text, sizeof(text), format, ap) < 0)
        text[0] = '\0';
    va_end(ap);
    outcome_local(&c->over, OUTCOME_DEFERRED, client_stage(c), code, enhanced, "%s", text);
    return CLIENT_OVER;
}

/* Is a MAIL unanswered that was said behind the end of the message before it? */
static bool said_ahead(const struct smtp_client *c)
{
    LIST_FOREACH (node, &c->txns) {
        const struct smtp_txn *t = LIST_ENTRY(node, struct smtp_txn, node);
        if (t->ahead && !t->mail_heard)
            return true;
    }
    return false;
}

/* It waits for the answer to such a MAIL, and for nothing before it. */
static bool waits_for_ahead(const struct smtp_client *c)
{
    const struct smtp_txn *t = client_head(c);

    return c->state == CLIENT_MAIL && t && t->ahead && !t->mail_heard;
}

enum client_state client_fail_protocol(struct smtp_client *c, const char *what)
{
    c->lost_step |= said_ahead(c);
    return client_fail(c, 451, "4.5.0", "the peer broke the protocol while we waited for %s: %s",
                       waits_for(c), what);
}

/* The enhanced code at the start of a line, with its blank; empty if there is none. */
static struct bytes enhanced_of(struct bytes line)
{
    size_t n = 0, dots = 0;

    while (n < line.len && (line.at[n] == '.' || (line.at[n] >= '0' && line.at[n] <= '9')))
        dots += line.at[n++] == '.';
    return dots == 2 && n < line.len && line.at[n] == ' ' ? bytes_first(line, n + 1) : (struct bytes){0};
}

/* RFC 2034 §4 has the enhanced code in each line of a reply: people need it once. */
struct bytes client_reply_text(struct smtp_client *c)
{
    struct buf *text = &c->reply.text;
    struct bytes all = buf_bytes(text), code = enhanced_of(all);
    size_t to = MIN_OF(bytes_find(all, '\n'), all.len), from = to;

    while (from < text->len) {
        struct bytes rest = bytes_skip(all, from + 1);
        size_t skip = code.len && bytes_starts(rest, code) ? code.len : 0;
        size_t line = bytes_find(rest, '\n');
        text->at[to++] = ' ';
        memmove(text->at + to, rest.at + skip, line - skip);
        to += line - skip;
        from += 1 + line;
    }
    text->len = to;
    return buf_bytes(text);
}

enum client_state client_fail_reply(struct smtp_client *c)
{
    outcome_from_reply(&c->over, client_stage(c), c->reply.code, client_reply_text(c));
    c->over.kind = OUTCOME_DEFERRED;
    return CLIENT_OVER;
}

/* ---- events ---- */

static void tell_ask(struct smtp_client *c)
{
    const struct smtp_client_events *e = &c->config.events;
    enum client_ask ask = c->ask;

    c->ask = ASK_NOTHING;
    if (ask == ASK_EHLO && e->on_ehlo)
        e->on_ehlo(c->config.arg, &c->offer);
    if (ask == ASK_STARTTLS && e->on_starttls)
        e->on_starttls(c->config.arg, c->ask_ok, c->ask_clean, &c->asked);
    if (ask == ASK_AUTH && e->on_auth)
        e->on_auth(c->config.arg, c->ask_ok, &c->asked);
}

static bool tell_one(struct smtp_client *c)
{
    const struct smtp_client_events *e = &c->config.events;
    struct list *node;

    if (c->ask != ASK_NOTHING) {
        tell_ask(c);
    } else if ((node = list_pop(&c->done))) {
        if (e->on_txn_done)
            e->on_txn_done(c->config.arg, LIST_ENTRY(node, struct smtp_txn, node));
    } else if (c->over_due) {
        c->over_due = false;
        if (e->on_over)
            e->on_over(c->config.arg, &c->over);
        return false;
    } else if (c->ready_due) {
        c->ready_due = false;
        if (smtp_client_room(c) && e->on_ready)
            e->on_ready(c->config.arg);
    } else {
        return false;
    }
    return true;
}

/*
 * Tells what is due.  What the owner does from within an event only adds to it: its calls are deeper than the
 * first, so the stack stays flat however many transactions are settled at once.
 */
static void pump(struct smtp_client *c)
{
    while (c->depth == 1 && !c->destroyed && tell_one(c))
        ;
}

void client_enter(struct smtp_client *c, uint64_t now_ms)
{
    c->depth++;
    c->now_ms = MAX_OF(c->now_ms, now_ms);
}

static void free_client(struct smtp_client *c)
{
    client_auth_end(c);
    smtp_reply_fini(&c->reply);
    outq_fini(&c->out);
    buf_fini(&c->cmd);
    mem_free(c);
}

void client_leave(struct smtp_client *c)
{
    pump(c);
    if (--c->depth == 0 && c->destroyed)
        free_client(c);
}

/* ---- life ---- */

static void default_timeout(uint32_t *ms, uint32_t rfc_ms)
{
    if (*ms == 0)
        *ms = rfc_ms;
}

struct smtp_client *smtp_client_create(const struct smtp_client_config *config)
{
    struct smtp_client *c = MEM_NEW(struct smtp_client);
    struct smtp_timeouts *t = &c->config.timeouts;

    c->config = *config;
    default_timeout(&t->greeting_ms, rfc_timeouts.greeting_ms);
    default_timeout(&t->ehlo_ms, rfc_timeouts.ehlo_ms);
    default_timeout(&t->mail_ms, rfc_timeouts.mail_ms);
    default_timeout(&t->rcpt_ms, rfc_timeouts.rcpt_ms);
    default_timeout(&t->data_ms, rfc_timeouts.data_ms);
    default_timeout(&t->block_ms, rfc_timeouts.block_ms);
    default_timeout(&t->dot_ms, rfc_timeouts.dot_ms);
    default_timeout(&t->quit_ms, rfc_timeouts.quit_ms);
    list_init(&c->txns);
    list_init(&c->done);
    return c;
}

void smtp_client_destroy(struct smtp_client *c)
{
    if (!c)
        return;
    c->destroyed = true;
    if (c->depth == 0)
        free_client(c);
}

void smtp_client_connected(struct smtp_client *c, uint64_t now_ms)
{
    client_enter(c, now_ms);
    if (c->state == CLIENT_NEW) {
        c->unanswered = 1; /* the greeting */
        client_go(c, CLIENT_GREETING);
    }
    client_leave(c);
}

/* ---- octets in ---- */

/* States that say something on entering and then wait for the answer. */
#define SPEAKING                                                                                             \
    (BIT(CLIENT_EHLO) | BIT(CLIENT_HELO) | BIT(CLIENT_AUTH) | BIT(CLIENT_RSET) | BIT(CLIENT_MAIL) |          \
     BIT(CLIENT_RCPT) | BIT(CLIENT_DATA) | BIT(CLIENT_CHUNK) | QUITS)

static enum client_state leave_instead(struct smtp_client *c, enum client_state next)
{
    if (next == CLIENT_EHLO || next == CLIENT_HELO || next == CLIENT_CHOOSE)
        return CLIENT_QUIT;
    return next == CLIENT_HANDSHAKE ? end_orderly(c) : next;
}

static void hear(struct smtp_client *c)
{
    enum client_state next;

    if (c->unanswered)
        c->unanswered--;
    if (c->reply.code == 421 && c->state != CLIENT_QUIT && c->state != CLIENT_STARTTLS)
        next = client_fail_reply(c); /* §3.8: may answer any command */
    else
        next = steps[c->state].on_reply(c, &c->reply);
    if (c->quitting)
        next = leave_instead(c, next);
    if (c->more_input && c->unanswered == 0 && SPEAKING & BIT(next))
        next =
            client_fail_protocol(c, "a reply too many"); /* it would pass for the answer to what comes next */
    client_go(c, next);
    smtp_reply_reset(&c->reply);
}

/* With nothing said that wants an answer, what arrives is out of turn. */
static bool is_owed_no_reply(const struct smtp_client *c)
{
    return c->unanswered == 0 && c->state != CLIENT_BODY;
}

void smtp_client_receive(struct smtp_client *c, struct bytes in, uint64_t now_ms)
{
    client_enter(c, now_ms);
    while (in.len && !c->destroyed && c->state != CLIENT_OVER) {
        enum smtp_parse p = smtp_reply_parse(&c->reply, &in);

        c->more_input = in.len > 0;
        if (p == SMTP_PARSE_BAD)
            client_go(c, client_fail_protocol(c, c->reply.why));
        else if (p == SMTP_PARSE_DONE)
            hear(c);
        else if (is_owed_no_reply(c)) /* and a part of one is enough to see it */
            client_go(c, client_fail_protocol(c, "a reply came to no command"));
        if (!(c->more_input && is_owed_no_reply(c)))
            pump(c);
    }
    c->more_input = false;
    client_leave(c);
}

void smtp_client_closed(struct smtp_client *c, enum err e, const char *why, uint64_t now_ms)
{
    client_enter(c, now_ms);
    c->lost_step |= !c->ahead_worked && waits_for_ahead(c); /* later it is but an end */
    if (c->state == CLIENT_QUIT)
        client_go(c, end_orderly(c));
    else if (c->state != CLIENT_OVER)
        client_go(c, client_fail(c, 421, "4.4.2", "connection lost while waiting for %s: %s", waits_for(c),
                                 why ? why : err_text(e)));
    client_leave(c);
}

void smtp_client_on_deadline(struct smtp_client *c, uint64_t now_ms)
{
    client_enter(c, now_ms);
    bool due = c->state != CLIENT_OVER && c->deadline_ms && now_ms >= c->deadline_ms;
    c->lost_step |= due && !is_moving(c) && waits_for_ahead(c);
    if (due && is_moving(c))
        restart_clock(c);
    else if (due && c->state == CLIENT_QUIT)
        client_go(c, end_orderly(c));
    else if (due)
        client_go(c, client_fail(c, 421, "4.4.2", "timed out while waiting for %s", waits_for(c)));
    client_leave(c);
}

uint64_t smtp_client_deadline_ms(const struct smtp_client *c)
{
    return c->deadline_ms;
}

/* ---- octets out ---- */

struct outq *smtp_client_output(struct smtp_client *c)
{
    return &c->out;
}

void smtp_client_fill(struct smtp_client *c, uint64_t now_ms)
{
    client_enter(c, now_ms);
    if (c->state != CLIENT_OVER && c->saying) {
        enum client_state next = client_body_fill(c);
        if (next != c->state)
            client_go(c, next);
    }
    client_leave(c);
}

void smtp_client_sent(struct smtp_client *c, size_t n, uint64_t now_ms)
{
    enum timeout which = steps[c->state].timeout;

    c->now_ms = MAX_OF(c->now_ms, now_ms);
    if (n && (which == AT_BLOCK || which == AT_DOT))
        restart_clock(c);
}

/* ---- the owner's words ---- */

void smtp_client_go_on(struct smtp_client *c, uint64_t now_ms)
{
    client_enter(c, now_ms);
    if (c->state == CLIENT_CHOOSE) {
        c->ready_due = true;
        client_go(c, CLIENT_READY);
    }
    client_leave(c);
}

void smtp_client_go_starttls(struct smtp_client *c, uint64_t now_ms)
{
    client_enter(c, now_ms);
    if (c->state == CLIENT_CHOOSE)
        client_go(c, CLIENT_STARTTLS);
    client_leave(c);
}

void smtp_client_go_auth(struct smtp_client *c, const char *user, const char *password, uint64_t now_ms)
{
    client_enter(c, now_ms);
    if (c->state == CLIENT_CHOOSE) {
        if (client_auth_begin(c, user, password)) {
            client_go(c, CLIENT_AUTH);
        } else {
            c->ask = ASK_AUTH;
            c->ask_ok = false;
        }
    }
    client_leave(c);
}

void smtp_client_tls_done(struct smtp_client *c, uint64_t now_ms)
{
    client_enter(c, now_ms);
    if (c->state == CLIENT_HANDSHAKE) {
        c->offer = (struct smtp_offer){0}; /* RFC 3207 §4.2: only what is said inside TLS counts */
        smtp_reply_reset(&c->reply);
        client_go(c, CLIENT_EHLO);
    }
    client_leave(c);
}

uint32_t smtp_client_room(const struct smtp_client *c)
{
    uint32_t most = c->config.pipelining == SMTP_PIPELINING_FULL && client_is_pipelining(c) ? 2 : 1;

    if (c->quitting || c->state < CLIENT_READY || c->state >= CLIENT_QUIT)
        return 0;
    return c->txn_count < most ? most - c->txn_count : 0;
}

void smtp_client_submit(struct smtp_client *c, struct smtp_txn *t, uint64_t now_ms)
{
    client_enter(c, now_ms);
    bool room = smtp_client_room(c) > 0;

    client_txn_init(c, t);
    if (!room || !client_txn_check(c, t)) {
        list_push_back(&c->done, &t->node); /* not sent, or settled without a word to the peer */
        c->ready_due = room;
        client_leave(c);
        return;
    }
    list_push_back(&c->txns, &t->node);
    c->txn_count++;
    if (!c->saying)
        c->saying = t;
    c->ready_due = smtp_client_room(c) > 0;
    if (c->state == CLIENT_READY)
        client_go(c, CLIENT_READY);
    else
        client_say(c);
    client_leave(c);
}

void smtp_client_quit(struct smtp_client *c, uint64_t now_ms)
{
    client_enter(c, now_ms);
    c->quitting = true;
    if (c->state == CLIENT_CHOOSE || (c->state == CLIENT_READY && !client_head(c)))
        client_go(c, CLIENT_QUIT);
    else if (c->state == CLIENT_NEW || c->state == CLIENT_HANDSHAKE)
        client_go(c, end_orderly(c)); /* nothing can be said here */
    client_leave(c);
}

void smtp_client_hold(struct smtp_client *c)
{
    c->held = true;
}

void smtp_client_release(struct smtp_client *c, uint64_t now_ms)
{
    client_enter(c, now_ms);
    c->held = false;
    if (c->saying && (c->state == CLIENT_BODY || c->state == CLIENT_CHUNK))
        client_go(c, c->state);
    client_leave(c);
}

bool smtp_client_is_idle(const struct smtp_client *c)
{
    return c->state == CLIENT_READY && c->txn_count == 0;
}

bool smtp_client_in_session(const struct smtp_client *c)
{
    return c->in_session;
}

bool smtp_client_chunking_failed(const struct smtp_client *c)
{
    return c->chunking_failed;
}

bool smtp_client_lost_step(const struct smtp_client *c)
{
    return c->lost_step;
}

bool smtp_client_turned_away(const struct smtp_client *c)
{
    return c->turned_away;
}

uint32_t smtp_client_transactions(const struct smtp_client *c)
{
    return c->txns_done;
}

const struct smtp_offer *smtp_client_offer(const struct smtp_client *c)
{
    return &c->offer;
}

const char *smtp_client_state_name(const struct smtp_client *c)
{
    return steps[c->state].name;
}
