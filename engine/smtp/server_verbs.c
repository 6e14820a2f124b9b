/* The commands as a table: where each is allowed, what it answers elsewhere; and those that are answered at
 * once. */
#include <stdio.h>

#include "engine/smtp/server_priv.h"

static enum server_state say_hello(struct smtp_server *s, struct bytes arg, bool esmtp)
{
    const struct smtp_listener_rules *r = s->rules;

    if (!address_is_helo(arg))
        return server_mistake(s, 501, "5.5.4", "%s needs your host name or [address]",
                              esmtp ? "EHLO" : "HELO");
    /* Who has not seen this reply cannot know that he may send ahead (RFC 2920 §3.1). */
    if (!s->helo[0] && s->more_input) {
        server_attack(s, "sent-ahead-of-ehlo");
        return server_bye(s, 554, "5.5.0", "Commands sent ahead of the reply to %s", esmtp ? "EHLO" : "HELO");
    }
    server_txn_reset(s);
    snprintf(s->helo, sizeof(s->helo), "%.*s", (int)arg.len, arg.at);
    s->esmtp = esmtp;
    server_adopt_certificate(s);
    if (!esmtp) {
        server_reply(s, 250, "", "%s", r->host_name);
        return SERVER_READY;
    }
    outq_putf(&s->out, "250-%s\r\n250-PIPELINING\r\n250-CHUNKING\r\n250-8BITMIME\r\n", r->host_name);
    if (r->smtputf8)
        outq_puts(&s->out, "250-SMTPUTF8\r\n");
    if (r->offer_starttls && !s->tls)
        outq_puts(&s->out, "250-STARTTLS\r\n");
    if (s->tls) /* RFC 8689 §2: it means nothing in clear */
        outq_puts(&s->out, "250-REQUIRETLS\r\n");
    if (server_may_auth(s) && (!s->account.name || s->proved_by == AUTH_NONE))
        outq_putf(&s->out, "250-AUTH PLAIN LOGIN SCRAM-SHA-256%s\r\n",
                  server_may_auth_external(s) ? " EXTERNAL" : "");
    outq_putf(&s->out, "250-SIZE %llu\r\n250-DSN\r\n250 ENHANCEDSTATUSCODES\r\n",
              (unsigned long long)r->message_bytes_max);
    return SERVER_READY;
}

static enum server_state on_ehlo(struct smtp_server *s, struct bytes arg)
{
    return say_hello(s, arg, true);
}

static enum server_state on_helo(struct smtp_server *s, struct bytes arg)
{
    return say_hello(s, arg, false);
}

/* RFC 3207 §4 */
static enum server_state on_starttls(struct smtp_server *s, struct bytes arg)
{
    if (s->tls) {
        server_attack(s, "starttls-twice");
        return server_mistake(s, 503, "5.5.1", "TLS is already active");
    }
    if (!s->rules->offer_starttls)
        return server_mistake(s, 502, "5.5.1", "STARTTLS is not offered here");
    if (arg.len) {
        server_attack(s, "starttls-with-argument");
        return server_mistake(s, 501, "5.5.4", "STARTTLS takes no argument");
    }
    if (s->account.name) {
        server_attack(s, "starttls-after-auth");
        return server_mistake(s, 503, "5.5.1", "STARTTLS comes before AUTH");
    }
    server_reply(s, 220, "2.0.0", "Ready to start TLS");
    s->event = SERVER_EVENT_STARTTLS;
    return SERVER_TLS;
}

static enum server_state on_rset(struct smtp_server *s, struct bytes arg)
{
    if (arg.len)
        return server_mistake(s, 501, "5.5.4", "RSET takes no argument");
    server_txn_reset(s);
    server_reply(s, 250, "2.0.0", "OK");
    return server_rest_state(s);
}

static enum server_state on_noop(struct smtp_server *s, struct bytes arg)
{
    (void)arg;
    server_reply(s, 250, "2.0.0", "OK");
    return s->state;
}

static enum server_state on_help(struct smtp_server *s, struct bytes arg)
{
    (void)arg;
    server_reply(
        s, 214, "2.0.0",
        "EHLO HELO STARTTLS AUTH MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT; see RFC 5321, RFC 6409");
    return s->state;
}

static enum server_state on_vrfy(struct smtp_server *s, struct bytes arg)
{
    if (arg.len == 0)
        return server_mistake(s, 501, "5.5.4", "VRFY needs an address");
    server_reply(s, 252, "2.0.0", "Cannot verify; send the message and see");
    return s->state;
}

static enum server_state on_expn(struct smtp_server *s, struct bytes arg)
{
    (void)arg;
    return server_mistake(s, 502, "5.5.1", "EXPN is not offered here");
}

static enum server_state on_quit(struct smtp_server *s, struct bytes arg)
{
    if (arg.len)
        return server_mistake(s, 501, "5.5.4", "QUIT takes no argument");
    return server_bye(s, 221, "2.0.0", "%s says goodbye", s->rules->host_name);
}

#define BEFORE (BIT(SERVER_HELLO) | BIT(SERVER_READY))
#define WITHIN (BIT(SERVER_MAIL) | BIT(SERVER_RCPT) | BIT(SERVER_BDAT))
#define ALWAYS (BEFORE | WITHIN)

/* BDAT is let through everywhere: its octets come, wanted or not. */
static const struct verb_row {
    enum server_state (*obey)(struct smtp_server *s, struct bytes arg);
    uint32_t allowed;
    const char *before; /* said in a state before the allowed ones */
    const char *within; /* said in one behind them */
} verbs[VERB_COUNT] = {
    [VERB_EHLO] = {on_ehlo, ALWAYS, NULL, NULL},
    [VERB_HELO] = {on_helo, ALWAYS, NULL, NULL},
    [VERB_STARTTLS] = {on_starttls, BIT(SERVER_READY), "Send EHLO first",
                       "STARTTLS is not allowed within a transaction"},
    [VERB_AUTH] = {server_on_auth, BIT(SERVER_READY), "Send EHLO first",
                   "AUTH is not allowed within a transaction"},
    [VERB_MAIL] = {server_on_mail, BIT(SERVER_READY), "Send EHLO first",
                   "A transaction is open already; RSET ends it"},
    [VERB_RCPT] = {server_on_rcpt, BIT(SERVER_MAIL) | BIT(SERVER_RCPT), "Send MAIL first",
                   "RCPT comes before BDAT"},
    [VERB_DATA] = {server_on_data, BIT(SERVER_MAIL) | BIT(SERVER_RCPT), "Send MAIL and RCPT first",
                   "DATA and BDAT do not mix; BDAT … LAST or RSET comes next"},
    [VERB_BDAT] = {server_on_bdat, ALWAYS, NULL, NULL},
    [VERB_RSET] = {on_rset, ALWAYS, NULL, NULL},
    [VERB_NOOP] = {on_noop, ALWAYS, NULL, NULL},
    [VERB_HELP] = {on_help, ALWAYS, NULL, NULL},
    [VERB_VRFY] = {on_vrfy, ALWAYS, NULL, NULL},
    [VERB_EXPN] = {on_expn, ALWAYS, NULL, NULL},
    [VERB_QUIT] = {on_quit, ALWAYS, NULL, NULL},
};

static enum server_state obey(struct smtp_server *s, const struct smtp_command *c)
{
    const struct verb_row *row = &verbs[c->verb];

    if (!row->obey)
        return server_mistake(s, 500, "5.5.1", "Command not recognised");
    if (row->allowed & BIT(s->state))
        return row->obey(s, c->arg);
    if (c->verb == VERB_STARTTLS && s->state > SERVER_READY)
        server_attack(s, "starttls-in-transaction");
    bool is_before =
        s->state == SERVER_HELLO || (s->state == SERVER_READY && !(row->allowed & BIT(SERVER_READY)));
    return server_mistake(s, 503, "5.5.1", "%s", is_before ? row->before : row->within);
}

/*
 * A browser that was sent here: what stands behind its request may be commands in the body of a form, and
 * some of it inside TLS that its user trusts (ALPACA).  Nothing of it is read.
 */
static bool is_http(struct bytes line)
{
    static const char *const words[] = {"GET",     "POST",  "PUT",    "HEAD",  "OPTIONS",
                                        "CONNECT", "PATCH", "DELETE", "TRACE", "PRI"};
    struct bytes word = bytes_first(line, bytes_find(line, ' '));

    for (size_t i = 0; i < COUNT_OF(words); i++)
        if (bytes_eq(word, bytes_of(words[i])) && word.len < line.len)
            return true;
    return false;
}

enum server_state server_obey(struct smtp_server *s, struct bytes line)
{
    struct smtp_command c;

    smtp_command_parse(line, &c);
    if (c.verb == VERB_UNKNOWN && is_http(line)) {
        server_attack(s, "http-request");
        return server_bye(s, 554, "5.5.0", "This is SMTP, not HTTP");
    }
    bool may_be_secret =
        c.verb == VERB_AUTH || c.verb == VERB_UNKNOWN; /* a response that came too late, say */
    log_debug(s->config.log, "smtp.command", LOG_BYTES("line", may_be_secret ? BYTES("(not shown)") : line));
    enum server_state next = obey(s, &c);
    if (c.verb != VERB_DATA || next == SERVER_DATA || !s->more_input)
        return next;
    /* DATA ends a group (RFC 2920 §3.1).  What was sent behind a refused one is content, and must not be
     * obeyed. */
    server_attack(s, "content-sent-ahead");
    return SERVER_OVER;
}
