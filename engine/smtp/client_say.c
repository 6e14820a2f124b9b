/* What is said in a transaction: checks before, commands, and how far the saying may run ahead of the
 * hearing. */
#include <assert.h>

#include "engine/smtp/client_priv.h"
#include "engine/smtp/xtext.h"
#include "policy/domain.h"

#define PATH_OCTETS_MAX  1000 /* RFC 5321 §4.5.3.1.3 says 256; U-labels and long VERP senders are longer */
#define ENVID_OCTETS_MAX 100  /* RFC 3461 §4.4 */
#define ORCPT_OCTETS_MAX 500  /* RFC 3461 §4.2 */

/* ---- can it be sent at all? ---- */

enum path_fault { PATH_BAD = 1, PATH_UTF8_LOCAL = 2, PATH_UTF8_DOMAIN = 4 };

/*
 * Nothing that stands in an address may end the path or the command: no control octet anywhere, no blank or
 * angle bracket outside a quoted string.  The door has checked all this; a queue may be older than its door.
 */
static unsigned path_look_closely(const char *address)
{
    unsigned found = 0;
    bool quoted = false;
    const char *s = address;

    for (; *s; s++) {
        unsigned char ch = (unsigned char)*s;
        if (ch < 0x20 || ch == 0x7f)
            return PATH_BAD;
        if (ch >= 0x80)
            found |= PATH_UTF8_DOMAIN;
        else if (ch == '@' && !quoted)
            found = found ? PATH_UTF8_LOCAL : 0;
        else if (ch == '"')
            quoted = !quoted;
        else if (ch == '\\' && quoted && s[1] >= 0x20 && s[1] != 0x7f)
            s++;
        else if (!quoted && (ch == ' ' || ch == '<' || ch == '>' || ch == '\\'))
            return PATH_BAD;
    }
    return quoted || s - address > PATH_OCTETS_MAX ? PATH_BAD : found;
}

/* Most addresses are of letters, digits and harmless signs only; this is the hot path. */
static unsigned path_look(const char *address)
{
    static const bool harmless[256] = {
        ['!'] = true, ['#' ... ';'] = true, ['='] = true, ['?' ... '['] = true, [']' ... '~'] = true,
    };
    const char *s = address;

    while (harmless[(unsigned char)*s])
        s++;
    return *s || s - address > PATH_OCTETS_MAX ? path_look_closely(address) : 0;
}

/* A domain in U-labels that the peer must get in A-labels. */
static bool domain_converts(const char *address)
{
    char ascii[DOMAIN_MAX_BYTES + 1];

    return domain_normalise(domain_of_address(bytes_of(address)), ascii) == OK;
}

static void refuse(struct outcome *o, enum outcome_stage stage, uint16_t code, const char *enhanced,
                   const char *text)
{
    outcome_local(o, OUTCOME_BOUNCED, stage, code, enhanced, "%s", text);
}

bool smtp_client_wants_requiretls(const struct message *m)
{
    return m->flags & MESSAGE_REQUIRETLS && *m->sender;
}

static bool refuse_all(struct smtp_txn *t, uint16_t code, const char *enhanced, const char *text)
{
    for (uint32_t i = 0; i < t->rcpt_count; i++)
        refuse(&t->outcomes[i], STAGE_MAIL, code, enhanced, text);
    return false;
}

static const char no_smtputf8[] = "the next host does not take internationalised mail (SMTPUTF8)";

/* What the message as a whole needs. */
static bool check_message(struct smtp_client *c, struct smtp_txn *t, unsigned sender)
{
    const struct body *body = t->message->body;
    const struct smtp_offer *offer = &c->offer;

    if (sender & PATH_BAD ||
        (sender & PATH_UTF8_DOMAIN && !offer->smtputf8 && !domain_converts(t->message->sender)))
        return refuse_all(t, 553, "5.1.7", "the sender address cannot be sent by SMTP");
    if (smtp_client_wants_requiretls(t->message) && !offer->requiretls)
        return refuse_all(t, 550, "5.7.30",
                          "the message asks for REQUIRETLS and the next host does not offer it");
    if (offer->size_limit && body->size_bytes > offer->size_limit)
        return refuse_all(t, 552, "5.3.4", "the message is larger than the next host takes (SIZE)");
    if (!offer->smtputf8 && (body->flags & BODY_UTF8_HEADER || sender & PATH_UTF8_LOCAL))
        return refuse_all(t, 550, "5.6.7", no_smtputf8);
    if (!offer->eightbitmime && body->flags & BODY_8BIT)
        return refuse_all(t, 554, "5.6.3",
                          "the message holds 8-bit octets and the next host does not offer 8BITMIME");
    return true;
}

static bool check_rcpt(struct smtp_client *c, struct smtp_txn *t, uint32_t i, unsigned *found)
{
    const char *address = t->rcpts[i].address;
    unsigned look = address ? path_look(address) : PATH_BAD;

    if (look & PATH_BAD || !*address ||
        (look & PATH_UTF8_DOMAIN && !c->offer.smtputf8 && !domain_converts(address))) {
        refuse(&t->outcomes[i], STAGE_RCPT, 553, "5.1.3", "the recipient address cannot be sent by SMTP");
        return false;
    }
    if (look & PATH_UTF8_LOCAL && !c->offer.smtputf8) {
        refuse(&t->outcomes[i], STAGE_RCPT, 553, "5.6.7", no_smtputf8);
        return false;
    }
    *found |= look;
    return true;
}

/*
 * BDAT saves the wait for the 354, so the first message of a connection goes with its commands in one write.
 * Behind it DATA is as fast, since its group rides behind the dot before, and safer: when the peer ends a
 * connection that it used long enough, nothing of the next message has left, and there is no doubt about it
 * (T59).  Bodies that must be read, and binary ones, go by BDAT too, once MAIL and RCPT are answered.
 */
static void choose_bdat(const struct smtp_client *c, struct smtp_txn *t)
{
    const struct body *body = t->message->body;
    bool first = c->txns_done == 0 && c->txn_count == 0, pipelining = client_is_pipelining(c);
    bool binary = body->flags & BODY_BINARY && c->offer.binarymime;

    t->bdat = c->offer.chunking && c->config.use_chunking && !c->no_chunking &&
              (first || !pipelining || !body->mem || binary);
    t->hold_body = !first || !pipelining || !body->mem;
}

bool smtp_txn_host_lacks(const struct smtp_txn *t, uint32_t i)
{
    static const char *const lacks[] = {"5.6.7", "5.3.4", "5.6.3"}; /* as above */
    const struct outcome *o = &t->outcomes[i];

    if (o->kind != OUTCOME_BOUNCED || o->remote)
        return false;
    for (size_t k = 0; k < COUNT_OF(lacks); k++)
        if (strcmp(o->enhanced, lacks[k]) == 0)
            return true;
    return false;
}

bool client_txn_check(struct smtp_client *c, struct smtp_txn *t)
{
    const struct message *m = t->message;
    const struct body *body = m->body;
    unsigned found = path_look(m->sender);
    bool any = false;

    if (!check_message(c, t, found))
        return false;
    for (uint32_t i = 0; i < t->rcpt_count; i++)
        any |= check_rcpt(c, t, i, &found);
    t->utf8 = c->offer.smtputf8 && (found || m->flags & MESSAGE_SMTPUTF8 || body->flags & BODY_UTF8_HEADER);
    choose_bdat(c, t);
    return any;
}

/* ---- commands ---- */

void client_put_u64(struct buf *out, uint64_t n)
{
    char digits[20];
    size_t at = sizeof(digits);

    do
        digits[--at] = (char)('0' + n % 10);
    while (n /= 10);
    buf_put(out, bytes_make(digits + at, sizeof(digits) - at));
}

static void put_path(struct buf *out, const char *address, bool utf8)
{
    struct bytes domain = domain_of_address(bytes_of(address));
    char ascii[DOMAIN_MAX_BYTES + 1];
    unsigned look = utf8 ? 0 : path_look(address);

    assert(!(look & (PATH_BAD | PATH_UTF8_LOCAL)));
    buf_putc(out, '<');
    if (look & PATH_UTF8_DOMAIN && domain_normalise(domain, ascii) == OK) {
        buf_put(out, bytes_make(address, (size_t)(domain.at - address)));
        buf_puts(out, ascii);
    } else {
        buf_puts(out, address);
    }
    buf_putc(out, '>');
}

static void put_dsn_of_message(struct buf *out, const struct message *m)
{
    if (m->ret != DSN_RET_DEFAULT)
        buf_puts(out, m->ret == DSN_RET_FULL ? " RET=FULL" : " RET=HDRS");
    if (!m->envid || !*m->envid)
        return;
    size_t before = out->len;
    buf_puts(out, " ENVID=");
    size_t value = out->len;
    xtext_encode(bytes_of(m->envid), out);
    if (out->len - value > ENVID_OCTETS_MAX)
        out->len = before;
}

static void say_mail(struct smtp_client *c, struct smtp_txn *t)
{
    const struct message *m = t->message;
    const struct smtp_offer *offer = &c->offer;
    struct buf *out = &c->cmd;

    buf_puts(out, "MAIL FROM:");
    put_path(out, m->sender, t->utf8);
    if (offer->size) {
        buf_puts(out, " SIZE=");
        client_put_u64(out, m->body->size_bytes);
    }
    if (m->body->flags & BODY_BINARY && t->bdat && offer->binarymime)
        buf_puts(out, " BODY=BINARYMIME");
    else if (m->body->flags & (BODY_8BIT | BODY_UTF8_HEADER) && offer->eightbitmime)
        buf_puts(out, " BODY=8BITMIME");
    if (t->utf8)
        buf_puts(out, " SMTPUTF8");
    if (m->flags & MESSAGE_REQUIRETLS && offer->requiretls)
        buf_puts(out, " REQUIRETLS");
    if (offer->dsn)
        put_dsn_of_message(out, m);
    buf_puts(out, "\r\n");
}

static void put_notify(struct buf *out, uint8_t notify)
{
    static const struct {
        uint8_t bit;
        const char *word;
    } words[] = {{NOTIFY_SUCCESS, "SUCCESS"}, {NOTIFY_FAILURE, "FAILURE"}, {NOTIFY_DELAY, "DELAY"}};
    const char *before = " NOTIFY=";

    if (notify & NOTIFY_NEVER) { /* RFC 3461 §4.1: it stands alone */
        buf_puts(out, " NOTIFY=NEVER");
        return;
    }
    for (size_t i = 0; i < COUNT_OF(words); i++) {
        if (!(notify & words[i].bit))
            continue;
        buf_puts(out, before);
        buf_puts(out, words[i].word);
        before = ",";
    }
}

/* The scalar at the start of s as \x{HEX}; its length in octets. */
static size_t put_embedded(struct buf *out, struct bytes s)
{
    unsigned char first = (unsigned char)s.at[0];
    size_t len = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : first >= 0x80 ? 2 : 1;
    uint32_t scalar = len == 1 ? first : first & (0x7fU >> len);

    len = MIN_OF(len, s.len);
    for (size_t i = 1; i < len; i++)
        scalar = scalar << 6 | ((unsigned char)s.at[i] & 0x3f);
    buf_putf(out, "\\x{%X}", (unsigned)scalar);
    return len;
}

/* utf-8-addr-unitext to who takes UTF-8, else utf-8-addr-xtext: RFC 6533 §3.  What is embedded already stays
 * so. */
static void put_utf8_address(struct buf *out, struct bytes s, bool utf8)
{
    while (s.len) {
        unsigned char ch = (unsigned char)s.at[0];
        bool as_it_is = ch >= 0x80 ? utf8 : ch > ' ' && ch < 0x7f && ch != '+' && ch != '=';
        size_t n = 1;
        if (as_it_is)
            buf_putc(out, s.at[0]);
        else
            n = put_embedded(out, s);
        s = bytes_skip(s, n);
    }
}

static void put_orcpt(struct buf *out, const char *orcpt, bool utf8)
{
    struct bytes rest = bytes_of(orcpt);
    bool is_utf8 = bytes_istarts(rest, BYTES("utf-8;"));
    size_t before = out->len, type = bytes_find(rest, ';');

    if (type == 0 || type == rest.len)
        return;
    buf_puts(out, " ORCPT=");
    size_t value = out->len;
    xtext_encode(bytes_first(rest, type), out);
    buf_putc(out, ';');
    rest = bytes_skip(rest, type + 1);
    if (is_utf8)
        put_utf8_address(out, rest, utf8);
    else
        xtext_encode(rest, out);
    if (out->len - value > ORCPT_OCTETS_MAX)
        out->len = before;
}

static void say_rcpt(struct smtp_client *c, struct smtp_txn *t, const struct rcpt *rcpt)
{
    struct buf *out = &c->cmd;

    buf_puts(out, "RCPT TO:");
    put_path(out, rcpt->address, t->utf8);
    if (c->offer.dsn) {
        put_notify(out, rcpt->notify);
        if (rcpt->orcpt)
            put_orcpt(out, rcpt->orcpt, t->utf8);
    }
    buf_puts(out, "\r\n");
}

/* ---- how far ---- */

bool client_is_pipelining(const struct smtp_client *c)
{
    return c->offer.pipelining && c->config.pipelining != SMTP_PIPELINING_OFF;
}

/*
 * Only the first may begin, or with FULL the second once the first's dot is said.  Not behind BDAT
 * (CLIENT_CHUNK): there a reply too many would be hard to see; behind the dot the 354 keeps count (T60).
 */
static bool may_begin(const struct smtp_client *c, const struct smtp_txn *t)
{
    if (t == client_head(c))
        return c->state == CLIENT_RSET || c->state == CLIENT_MAIL;
    return c->config.pipelining == SMTP_PIPELINING_FULL && client_is_pipelining(c) && c->state == CLIENT_DOT;
}

static bool say_data(struct smtp_client *c, struct smtp_txn *t)
{
    if (t->bdat) {
        if ((t->hold_body && c->state != CLIENT_CHUNK) || (c->held && client_is_last_chunk(t)))
            return false;
        client_say_chunk(c, t);
        return true;
    }
    buf_puts(&c->cmd, "DATA\r\n");
    c->unanswered++;
    t->phase = SAY_BODY;
    return true;
}

static bool say_begin(struct smtp_client *c, struct smtp_txn *t)
{
    if (!may_begin(c, t))
        return false;
    t->phase = SAY_MAIL;
    t->ahead = t != client_head(c);
    if (c->state == CLIENT_RSET) {
        buf_puts(&c->cmd, "RSET\r\n");
        c->unanswered++;
    }
    return true;
}

static bool say_next_rcpt(struct smtp_client *c, struct smtp_txn *t)
{
    uint32_t i = client_open_rcpt(t, t->said);

    if (i == t->rcpt_count) {
        t->phase = SAY_DATA;
        return true;
    }
    say_rcpt(c, t, &t->rcpts[i]);
    c->unanswered++;
    t->said = i + 1;
    return true;
}

static bool say_next(struct smtp_client *c, struct smtp_txn *t)
{
    if (c->unanswered && !client_is_pipelining(c))
        return false;
    switch ((enum say)t->phase) {
    case SAY_START: return say_begin(c, t);
    case SAY_MAIL:
        say_mail(c, t);
        c->unanswered++;
        t->phase = SAY_RCPT;
        return true;
    case SAY_RCPT: return say_next_rcpt(c, t);
    case SAY_DATA: return say_data(c, t);
    case SAY_BODY:
    case SAY_CHUNK: return false; /* client_body.c */
    case SAY_DONE: break;
    }
    c->saying = t->node.next == &c->txns ? NULL : LIST_ENTRY(t->node.next, struct smtp_txn, node);
    return c->saying != NULL;
}

void client_say(struct smtp_client *c)
{
    while (c->saying && say_next(c, c->saying))
        ;
    client_flush(c);
}

uint64_t client_position(const struct smtp_client *c)
{
    return c->put_total + c->cmd.len;
}

void client_flush(struct smtp_client *c)
{
    if (!c->cmd.len)
        return;
    outq_put(&c->out, buf_bytes(&c->cmd));
    c->put_total += c->cmd.len;
    if (c->cmd.cap > 4 * CLIENT_COPY_BYTES) /* a thousand recipients or a stuffed body: not kept while idle */
        buf_fini(&c->cmd);
    else
        buf_clear(&c->cmd);
}
