/* What a message holds: its header section is read and completed, the rest goes straight to the spool. */
#include "base/clock.h"
#include "base/mem.h"
#include "engine/dkim/dkim.h"
#include "engine/smtp/mime.h"
#include "engine/smtp/received.h"
#include "engine/smtp/schedule.h"
#include "engine/smtp/server_priv.h"
#include "policy/domain.h"

#define HELD_KEPT 65536 /* of a connection's memory for what it holds back */

void server_refuse_content(struct smtp_server *s, uint16_t code, const char *enhanced, const char *text)
{
    struct server_txn *t = &s->txn;

    if (t->refused.code)
        return;
    t->refused = (struct smtp_refusal){code, enhanced, text};
    body_writer_destroy(TAKE(t->writer));
    dkim_signing_destroy(TAKE(t->signing));
}

static void refuse_storing(struct smtp_server *s, enum err e)
{
    log_warn(s->config.log, "smtp.body_not_stored", LOG_ERR(e));
    if (e == ERR_NOSPACE)
        server_refuse_content(s, 452, "4.3.1", "Insufficient storage; try again later");
    else
        server_refuse_content(s, 451, "4.3.0", "The message could not be stored; try again later");
}

void server_content_begin(struct smtp_server *s, bool dots)
{
    struct server_txn *t = &s->txn;

    t->id = message_id_make(s->config.worker);
    data_decoder_init(&t->decoder, dots);
    header_init(&t->header, s->rules->header_bytes_max ? s->rules->header_bytes_max : SIZE_MAX);
    t->writer = body_writer_create(s->config.spool);
}

static void store(struct smtp_server *s, struct bytes octets)
{
    if (octets.len == 0 || s->txn.refused.code)
        return;
    enum err e = body_writer_put(s->txn.writer, octets);
    if (e)
        refuse_storing(s, e);
}

static bool is_ascii(struct bytes s)
{
    for (size_t i = 0; i < s.len; i++)
        if ((signed char)s.at[i] < 0)
            return false;
    return true;
}

static const char *date_now(struct smtp_server *s)
{
    int64_t now = clock_unix();

    if (now != s->date_unix) {
        clock_format_mail(now, s->date);
        s->date_unix = now;
    }
    return s->date;
}

/* The only recipient, as ASCII where it can be: a domain in U-labels must not make a header of UTF-8 out of
 * ours. */
static const char *only_recipient(struct server_txn *t)
{
    const struct rcpt *to = t->rcpts;
    struct bytes domain = domain_of_address(bytes_of(to->address));
    size_t local = strlen(to->address) - domain.len;

    if (t->rcpt_count != 1)
        return NULL;
    if (!t->needs_utf8 || !is_ascii(bytes_make(to->address, local)))
        return to->address;
    return arena_printf(&t->arena, "%.*s%s", (int)local, to->address, to->domain);
}

static void put_received(struct smtp_server *s, struct buf *out)
{
    const struct server_txn *t = &s->txn;
    char id[MESSAGE_ID_TEXT];

    received_format(
        &(struct received){
            .helo = s->helo,
            .ip = s->config.peer.ip,
            .account = s->account.name,
            .host_name = s->rules->host_name,
            .esmtp = s->esmtp,
            .smtputf8 = t->smtputf8,
            .tls_version = s->tls ? s->tls_facts.version : NULL,
            .tls_cipher = s->tls ? s->tls_facts.cipher : NULL,
            .id = message_id_format(t->id, id),
            .only_recipient = only_recipient(&s->txn),
            .date = date_now(s),
        },
        out);
}

/* RFC 6409 §8: what the author left out. */
static void put_missing(struct smtp_server *s, struct buf *out)
{
    const struct server_txn *t = &s->txn;
    char id[MESSAGE_ID_TEXT];

    if (s->rules->add_date && !t->header.date)
        buf_putf(out, "Date: %s\r\n", date_now(s));
    if (s->rules->add_message_id && !t->header.message_id)
        buf_putf(out, "Message-ID: <%s@%s>\r\n", message_id_format(t->id, id), s->rules->host_name);
}

static void take_campaign(struct smtp_server *s)
{
    struct server_txn *t = &s->txn;

    if (t->header.campaigns == 0) {
        t->campaign = s->account.campaign;
        return;
    }
    if (t->header.campaigns > 1)
        server_refuse_content(s, 550, "5.6.0", "X-Campaign stands more than once");
    else if (!campaign_is_valid(buf_bytes(&t->header.campaign)))
        server_refuse_content(s, 550, "5.6.0", "X-Campaign is 1 to 64 characters of A-Z a-z 0-9 . _ : -");
    else
        t->campaign = arena_dup(&t->arena, buf_bytes(&t->header.campaign));
}

static void take_schedule(struct smtp_server *s)
{
    struct server_txn *t = &s->txn;
    int64_t when, now = clock_unix();

    if (t->header.schedules == 0)
        return;
    if (t->header.schedules > 1)
        server_refuse_content(s, 550, "5.6.0", "X-Hayauma-Schedule stands more than once");
    else if (!schedule_parse(buf_bytes(&t->header.schedule), &when))
        server_refuse_content(
            s, 550, "5.6.0",
            "X-Hayauma-Schedule is a date as in RFC 3339 or RFC 5322, or seconds since 1970");
    else if (when > now + SCHEDULE_AHEAD_MAX)
        server_refuse_content(s, 550, "5.6.0", "X-Hayauma-Schedule is at most 30 days ahead");
    else
        t->not_before_unix = when > now ? when : 0;
}

static void take_priority(struct smtp_server *s)
{
    struct server_txn *t = &s->txn;

    t->priority = s->account.priority;
    if (t->header.priorities == 0)
        return;
    if (t->header.priorities > 1)
        server_refuse_content(s, 550, "5.6.0", "X-Hayauma-Priority stands more than once");
    else if (!priority_parse(buf_bytes(&t->header.priority), &t->priority))
        server_refuse_content(s, 550, "5.6.0", "X-Hayauma-Priority is high, normal or low");
}

static void take_expiry(struct smtp_server *s)
{
    struct server_txn *t = &s->txn;
    int64_t when, now = clock_unix();

    if (t->header.expiries == 0)
        return;
    if (t->header.expiries > 1)
        server_refuse_content(s, 550, "5.6.0", "X-Hayauma-Expires stands more than once");
    else if (!schedule_parse(buf_bytes(&t->header.expires), &when))
        server_refuse_content(
            s, 550, "5.6.0", "X-Hayauma-Expires is a date as in RFC 3339 or RFC 5322, or seconds since 1970");
    else if (when <= MAX_OF(now, t->not_before_unix))
        server_refuse_content(s, 550, "5.4.7", "X-Hayauma-Expires is over before the message may go");
    else
        t->expires_unix = when;
}

static void refuse_unknown(struct smtp_server *s)
{
    struct server_txn *t = &s->txn;

    if (t->header.unknown)
        server_refuse_content(
            s, 550, "5.6.0",
            arena_printf(&t->arena,
                         "%.*s is unknown; there are X-Hayauma-Schedule, X-Hayauma-Priority and "
                         "X-Hayauma-Expires",
                         (int)t->header.unknown_name.len, t->header.unknown_name.at));
}

/*
 * What stands before the body: room for the signatures, ours, the author's fields, what was missing, and
 * always an empty line.
 */
static void begin_message(struct smtp_server *s, struct bytes fields)
{
    struct server_txn *t = &s->txn;
    BUF_LOCAL(ours);
    BUF_LOCAL(missing);

    put_received(s, &ours);
    put_missing(s, &missing);
    if (s->config.dkim) {
        const struct bytes sections[] = {fields, buf_bytes(&missing)};
        t->signing = dkim_signing_begin(s->config.dkim, sections, COUNT_OF(sections), &s->account);
        if (t->signing)
            store(s, dkim_signing_fields(t->signing));
    }
    store(s, buf_bytes(&ours));
    store(s, fields);
    buf_puts(&missing, "\r\n");
    store(s, buf_bytes(&missing));
}

static void put_body(struct smtp_server *s, struct bytes octets)
{
    if (s->txn.refused.code)
        return;
    if (s->txn.signing)
        dkim_signing_body(s->txn.signing, octets);
    store(s, octets);
}

/* Too large to be converted: it goes as it is from here on. */
static void let_go(struct smtp_server *s)
{
    struct server_txn *t = &s->txn;

    t->holding = false;
    begin_message(s, header_fields(&t->header));
    put_body(s, buf_bytes(&t->held));
    buf_clear(&t->held);
}

static void take_body(struct smtp_server *s, struct bytes octets)
{
    struct server_txn *t = &s->txn;

    if (t->holding && t->header.kept + t->held.len + octets.len > SPOOL_MEMORY_LIMIT)
        let_go(s);
    if (t->holding)
        buf_put(&t->held, octets);
    else
        put_body(s, octets);
}

/* The whole is there: what must become 7-bit does, before it is signed (RFC 6376 §5.3). */
static void convert_held(struct smtp_server *s)
{
    struct server_txn *t = &s->txn;
    BUF_LOCAL(fields);
    BUF_LOCAL(body);

    t->holding = false;
    if (!mime_to_7bit(header_fields(&t->header), buf_bytes(&t->held), &fields, &body)) {
        let_go(s);
        return;
    }
    log_info(s->config.log, "smtp.converted", LOG_INT("bytes", t->held.len), LOG_INT("to", body.len));
    begin_message(s, buf_bytes(&fields));
    put_body(s, buf_bytes(&body));
}

/* The header section is complete. */
static void header_is_in(struct smtp_server *s)
{
    struct server_txn *t = &s->txn;

    t->header_done = true;
    if (s->rules->received_max && t->header.received >= s->rules->received_max)
        server_refuse_content(s, 554, "5.4.6", "Too many Received fields: the message goes round in a loop");
    take_campaign(s);
    take_schedule(s);
    take_priority(s);
    take_expiry(s);
    refuse_unknown(s);
    if (t->refused.code)
        return;
    t->holding = s->rules->convert_8bit;
    if (!t->holding)
        begin_message(s, header_fields(&t->header));
    take_body(s, header_overrun(&t->header));
}

void server_content_put(void *server, struct bytes run)
{
    struct smtp_server *s = server;
    struct server_txn *t = &s->txn;
    size_t used = 0;

    if (t->refused.code)
        return;
    t->content_bytes += run.len;
    if (s->rules->message_bytes_max && t->content_bytes > s->rules->message_bytes_max) {
        server_refuse_content(s, 552, "5.3.4", "The message is larger than the limit that SIZE announced");
    } else if (t->decoder.nul) {
        server_refuse_content(s, 550, "5.6.0", "The message holds an octet 0; it must be encoded");
    } else if (t->decoder.bare_newline && s->rules->bare_newline == BARE_NEWLINE_REJECT) {
        server_refuse_content(s, 550, "5.5.2", "The message holds a bare CR or LF; lines must end in CRLF");
    } else if (!t->header_done) {
        switch (header_take(&t->header, run, &used)) {
        case HEADER_MORE: return;
        case HEADER_TOO_LARGE:
            server_refuse_content(s, 552, "5.3.4", "The header section is larger than its limit");
            return;
        case HEADER_DONE: header_is_in(s); break;
        }
    }
    take_body(s, bytes_skip(run, used));
}

/*
 * RFC 8689 §4.1: the parameter rules over the field.  A field that is none by §3, or that stands twice, says
 * nothing: who cannot say clearly that TLS may be left out keeps the protection.
 */
static uint32_t tls_wishes(struct smtp_server *s)
{
    const struct server_txn *t = &s->txn;

    if (t->requiretls)
        return MESSAGE_REQUIRETLS;
    if (t->header.tls_required == 0)
        return 0;
    if (t->header.tls_required == 1 && t->header.tls_required_no)
        return MESSAGE_TLS_REQUIRED_NO;
    log_info(s->config.log, "smtp.tls_required_ignored", LOG_INT("fields", t->header.tls_required));
    return 0;
}

void server_content_reset(struct smtp_server *s)
{
    struct server_txn *t = &s->txn;

    body_writer_destroy(t->writer);
    dkim_signing_destroy(t->signing);
    message_unref(t->message);
    buf_clear(&t->held);
    if (t->held.cap > HELD_KEPT)
        buf_fini(&t->held);
}

struct dkim_signing *smtp_server_take_signing(struct smtp_server *s)
{
    return TAKE(s->txn.signing);
}

static uint32_t priority_flag(enum priority p)
{
    return p == PRIORITY_HIGH ? MESSAGE_HIGH : p == PRIORITY_LOW ? MESSAGE_LOW : 0;
}

static struct message *make_message(struct smtp_server *s, struct body *body)
{
    struct server_txn *t = &s->txn;
    bool utf8 = t->smtputf8 && (t->needs_utf8 || (body->flags & BODY_UTF8_HEADER));

    return message_create(&(struct message){
        .flags = (utf8 ? MESSAGE_SMTPUTF8 : 0U) | (t->body_8bit ? MESSAGE_8BITMIME : 0U) | tls_wishes(s) |
                 priority_flag(t->priority),
        .id = t->id,
        .accepted_unix = clock_unix(),
        .expires_unix = t->expires_unix,
        .sender = t->sender,
        .campaign = t->campaign,
        .envid = t->envid,
        .account = s->account.name,
        .ret = t->ret,
        .body = body,
        .rcpt_count = t->rcpt_count,
        .rcpt_total = t->rcpt_count,
        .rcpts = t->rcpts,
    });
}

bool server_content_end(struct smtp_server *s)
{
    struct server_txn *t = &s->txn;
    struct body *body;

    if (!t->refused.code && !t->header_done) {
        header_end(&t->header);
        header_is_in(s);
    }
    if (t->holding)
        convert_held(s);
    if (t->refused.code)
        return false;
    enum err e = body_writer_finish(TAKE(t->writer), &body);
    if (e) {
        refuse_storing(s, e);
        return false;
    }
    t->message = make_message(s, body);
    body_unref(body);
    return true;
}
