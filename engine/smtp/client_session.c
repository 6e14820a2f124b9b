/* Greeting, EHLO, HELO, STARTTLS: what comes before the first transaction. */
#include "engine/smtp/client_priv.h"

/* A host name or an address literal: whatever it was made from, nothing but these octets goes into a command.
 */
static bool is_sendable_name(const char *name)
{
    if (!name || !*name)
        return false;
    for (; *name; name++)
        if (*name <= ' ' || *name > '~')
            return false;
    return true;
}

enum client_state client_on_greeting(struct smtp_client *c, const struct smtp_reply *r)
{
    if (!is_sendable_name(c->config.ehlo_name))
        return client_fail(c, 451, "4.3.5", "the EHLO name is empty or holds octets that cannot be sent");
    if (r->code == 220)
        return CLIENT_EHLO;
    if (r->code >= 400)
        return client_fail_reply(c); /* RFC 7504 and Postfix's long practice: next host, no bounce */
    return client_fail_protocol(c, "the greeting is neither 220 nor a refusal");
}

static enum client_state greet(struct smtp_client *c, const char *verb)
{
    buf_puts(&c->cmd, verb);
    buf_puts(&c->cmd, c->config.ehlo_name);
    buf_puts(&c->cmd, "\r\n");
    c->unanswered++;
    client_flush(c);
    return c->state;
}

enum client_state client_enter_ehlo(struct smtp_client *c)
{
    return greet(c, "EHLO ");
}

enum client_state client_enter_helo(struct smtp_client *c)
{
    return greet(c, "HELO ");
}

/* ---- what EHLO offers ---- */

static bool take_word(struct bytes *rest, struct bytes *word)
{
    *rest = bytes_trim(*rest);
    size_t n = 0;
    while (n < rest->len && rest->at[n] != ' ' && rest->at[n] != '\t')
        n++;
    *word = bytes_first(*rest, n);
    *rest = bytes_skip(*rest, n);
    return n > 0;
}

static void take_auth(struct bytes mechanisms, struct smtp_offer *out)
{
    struct bytes word;

    while (take_word(&mechanisms, &word)) {
        out->auth_plain |= bytes_ieq(word, BYTES("PLAIN"));
        out->auth_login |= bytes_ieq(word, BYTES("LOGIN"));
        out->auth_scram_sha256 |= bytes_ieq(word, BYTES("SCRAM-SHA-256"));
    }
}

/* RFC 1870 §4: a missing number and 0 both say "no fixed limit"; so does one that no limit can be. */
static void take_size(struct bytes rest, struct smtp_offer *out)
{
    struct bytes word;
    uint64_t limit;

    out->size = true;
    if (take_word(&rest, &word) && bytes_parse_u64(word, &limit))
        out->size_limit = limit;
}

static void take_keyword(struct bytes line, struct smtp_offer *out)
{
    static const struct {
        struct bytes name;
        size_t flag;
    } plain[] = {
        {{"STARTTLS", 8}, offsetof(struct smtp_offer, starttls)},
        {{"PIPELINING", 10}, offsetof(struct smtp_offer, pipelining)},
        {{"CHUNKING", 8}, offsetof(struct smtp_offer, chunking)},
        {{"BINARYMIME", 10}, offsetof(struct smtp_offer, binarymime)},
        {{"8BITMIME", 8}, offsetof(struct smtp_offer, eightbitmime)},
        {{"SMTPUTF8", 8}, offsetof(struct smtp_offer, smtputf8)},
        {{"DSN", 3}, offsetof(struct smtp_offer, dsn)},
        {{"ENHANCEDSTATUSCODES", 19}, offsetof(struct smtp_offer, enhanced_codes)},
        {{"REQUIRETLS", 10}, offsetof(struct smtp_offer, requiretls)},
    };
    struct bytes word;

    if (!take_word(&line, &word))
        return;
    for (size_t i = 0; i < COUNT_OF(plain); i++)
        if (bytes_ieq(word, plain[i].name))
            *(bool *)((char *)out + plain[i].flag) = true;
    if (bytes_ieq(word, BYTES("SIZE")))
        take_size(line, out);
    else if (bytes_ieq(word, BYTES("AUTH")))
        take_auth(line, out);
    else if (bytes_istarts(word,
                           BYTES("AUTH="))) { /* the form of before RFC 2554, still sent beside the new one */
        take_auth(bytes_skip(word, 5), out);
        take_auth(line, out);
    }
}

void client_offer_parse(const struct smtp_reply *r, struct smtp_offer *out)
{
    struct bytes line;
    size_t at = 0;

    *out = (struct smtp_offer){.ehlo = true};
    bool more = smtp_reply_line(r, &at, &line); /* the first line is name and greeting */
    while (more && (more = smtp_reply_line(r, &at, &line)))
        take_keyword(line, out);
    out->smtputf8 &= out->eightbitmime; /* RFC 6531 §3.1: one cannot be had without the other */
    out->binarymime &= out->chunking;   /* RFC 3030 §3 */
}

static enum client_state ask_owner(struct smtp_client *c)
{
    c->ask = c->quitting ? ASK_NOTHING : ASK_EHLO;
    return CLIENT_CHOOSE;
}

enum client_state client_on_ehlo(struct smtp_client *c, const struct smtp_reply *r)
{
    if (r->code / 100 == 2) {
        client_offer_parse(r, &c->offer);
        return ask_owner(c);
    }
    if (r->code / 100 == 5)
        return CLIENT_HELO; /* RFC 5321 §3.2 */
    return r->code / 100 == 4 ? client_fail_reply(c) : client_fail_protocol(c, "EHLO was answered by 3yz");
}

enum client_state client_on_helo(struct smtp_client *c, const struct smtp_reply *r)
{
    if (r->code / 100 == 2) {
        c->offer = (struct smtp_offer){0};
        return ask_owner(c);
    }
    return r->code / 100 == 3 ? client_fail_protocol(c, "HELO was answered by 3yz") : client_fail_reply(c);
}

/* ---- STARTTLS ---- */

enum client_state client_enter_starttls(struct smtp_client *c)
{
    buf_puts(&c->cmd, "STARTTLS\r\n");
    c->unanswered++;
    client_flush(c);
    return CLIENT_STARTTLS;
}

/*
 * Octets behind the 220 came before any handshake, from whoever can write into the connection: to read them
 * as replies inside TLS would be the injection of CVE-2011-0411, seen from the client.  They, 421 and any
 * other 2yz or 3yz end the conversation; the owner counts it as a failed handshake (policy/tls_decide.h).
 */
enum client_state client_on_starttls(struct smtp_client *c, const struct smtp_reply *r)
{
    bool refused = r->code / 100 == 4 || r->code / 100 == 5;

    outcome_from_reply(&c->asked, STAGE_STARTTLS, r->code, client_reply_text(c));
    c->ask = ASK_STARTTLS;
    c->ask_ok = r->code == 220 && !c->more_input;
    c->ask_clean = refused && r->code != 421 && !c->more_input;
    if (c->ask_ok)
        return CLIENT_HANDSHAKE;
    if (c->ask_clean)
        return CLIENT_CHOOSE;
    if (c->more_input)
        return client_fail_protocol(c, "octets stand behind the reply to STARTTLS");
    return r->code == 421 ? client_fail_reply(c)
                          : client_fail_protocol(c, "STARTTLS was answered by neither 220 nor a refusal");
}
