/* DATA and BDAT: framing of the content, and the reply to it. */
#include <inttypes.h>

#include "engine/smtp/server_priv.h"

#define CHUNKS_MAX    65536 /* of one message: more is a game with the cost of a chunk */
#define SLOW_GRACE_MS 60000
#define NO_RECIPIENT  "No valid recipients"

uint64_t server_slow_at_ms(const struct smtp_server *s)
{
    uint32_t rate = s->rules->data_rate_min;

    if (!rate)
        return UINT64_MAX;
    return s->txn.started_ms + SLOW_GRACE_MS + s->txn.wire_bytes * 1000 / rate;
}

/* The clock of a message in chunks rests between them, and goes on with the next: many are no way to be slow.
 */
static void start_clock(struct smtp_server *s)
{
    struct server_txn *t = &s->txn;

    if (t->chunks > 1) {
        t->started_ms += s->now_ms - t->rested_ms;
        return;
    }
    t->started_ms = s->now_ms;
    t->wire_bytes = 0;
}

/* All octets of the content are in. */
static enum server_state content_is_in(struct smtp_server *s)
{
    const struct smtp_refusal *why = &s->txn.refused;

    if (server_content_end(s)) {
        s->event = SERVER_EVENT_MESSAGE;
        return SERVER_COMMIT;
    }
    log_info(s->config.log, "smtp.content_refused", LOG_INT("code", why->code), LOG_STR("why", why->text));
    bool over = false;
    if (why->code == 501 || why->code == 503) /* a wrong command, not a wrong message */
        over = server_mistake(s, why->code, why->enhanced, "%s", why->text) == SERVER_OVER;
    else
        server_reply(s, why->code, why->enhanced, "%s", why->text);
    server_txn_reset(s);
    return over ? SERVER_OVER : server_rest_state(s);
}

enum server_state server_on_data(struct smtp_server *s, struct bytes arg)
{
    if (arg.len)
        return server_mistake(s, 501, "5.5.4", "DATA takes no argument");
    if (s->txn.rcpt_count == 0)
        return server_mistake(s, 554, "5.5.1", NO_RECIPIENT);
    server_reply(s, 354, "", "Send the message; end it with <CRLF>.<CRLF>");
    server_content_begin(s, true);
    start_clock(s);
    return SERVER_DATA;
}

size_t server_take_data(struct smtp_server *s, struct bytes in, enum server_state *next)
{
    struct server_txn *t = &s->txn;
    size_t used = data_decode(&t->decoder, in, server_content_put, s);

    t->wire_bytes += used;
    *next = t->decoder.at == DATA_AT_END ? content_is_in(s) : SERVER_DATA;
    return used;
}

/* A chunk is in, wanted or not. */
static enum server_state chunk_is_in(struct smtp_server *s)
{
    struct server_txn *t = &s->txn;

    if (t->refused.code == 0 && t->chunk_last)
        data_decode_last(&t->decoder, server_content_put, s);
    if (t->refused.code || t->chunk_last)
        return content_is_in(s);
    t->rested_ms = s->now_ms;
    server_reply(s, 250, "2.0.0", "Chunk OK");
    return SERVER_BDAT;
}

/* Whether these octets are wanted: else they are passed over, then refused (RFC 3030 §2), and the transaction
 * is gone. */
static void admit_chunk(struct smtp_server *s, uint64_t size_bytes)
{
    struct server_txn *t = &s->txn;
    uint64_t max = s->rules->message_bytes_max;

    if (s->state == SERVER_MAIL)
        server_refuse_content(s, 554, "5.5.1", NO_RECIPIENT);
    else if (s->state != SERVER_RCPT && s->state != SERVER_BDAT)
        server_refuse_content(s, 503, "5.5.1", "Send MAIL and RCPT first");
    else if (++t->chunks > CHUNKS_MAX)
        server_refuse_content(s, 552, "5.3.4", "Too many chunks for one message");
    else if (max && t->content_bytes + size_bytes > max)
        server_refuse_content(s, 552, "5.3.4", "The message is larger than the limit that SIZE announced");
    else if (s->state == SERVER_RCPT)
        server_content_begin(s, false);
}

enum server_state server_on_bdat(struct smtp_server *s, struct bytes arg)
{
    struct server_txn *t = &s->txn;
    struct smtp_refusal why;
    struct bdat_args b;
    bool sized;
    bool right = smtp_bdat_parse(arg, &b, &sized, &why);

    if (!sized) { /* nobody knows where the chunk ends and commands begin again */
        server_reply(s, why.code, why.enhanced, "%s", why.text);
        return SERVER_OVER;
    }
    if (s->rules->message_bytes_max && b.size_bytes > s->rules->message_bytes_max)
        return server_bye(s, 552, "5.3.4", "A chunk of %" PRIu64 " octets is larger than any message may be",
                          b.size_bytes);
    if (!right)
        server_refuse_content(s, why.code, why.enhanced, why.text);
    else
        admit_chunk(s, b.size_bytes);
    t->chunk_left = b.size_bytes;
    t->chunk_last = b.last;
    start_clock(s);
    return b.size_bytes ? SERVER_CHUNK : chunk_is_in(s);
}

size_t server_take_chunk(struct smtp_server *s, struct bytes in, enum server_state *next)
{
    struct server_txn *t = &s->txn;

    in = bytes_first(in, (size_t)MIN_OF((uint64_t)in.len, t->chunk_left));
    if (t->refused.code == 0)
        data_decode(&t->decoder, in, server_content_put, s);
    t->wire_bytes += in.len;
    t->chunk_left -= in.len;
    *next = t->chunk_left ? SERVER_CHUNK : chunk_is_in(s);
    return in.len;
}

enum server_state server_committed(struct smtp_server *s, enum err e)
{
    char id[MESSAGE_ID_TEXT];

    switch (e) {
    case OK:
        s->messages++;
        s->errors = 0;
        server_reply(s, 250, "2.0.0", "OK: queued as %s", message_id_format(s->txn.id, id));
        break;
    case ERR_PROTOCOL:
        server_reply(s, 554, "5.6.0", "This address takes TLS reports only, and there is none");
        break;
    case ERR_DENIED:
        server_reply(s, 550, "5.7.20", "TLS reports are taken with a DKIM signature of their sender only");
        break;
    case ERR_FULL:
        server_reply(s, 451, "4.3.2", "Too many messages are in work here; try again later");
        break;
    case ERR_NOSPACE: server_reply(s, 452, "4.3.1", "Insufficient storage; try again later"); break;
    default: server_reply(s, 451, "4.3.0", "The message could not be stored; try again later"); break;
    }
    server_txn_reset(s);
    return server_rest_state(s);
}
