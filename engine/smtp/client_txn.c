/* What is heard of transactions, and what it means for each recipient. */
#include "engine/smtp/client_priv.h"

uint32_t client_open_rcpt(const struct smtp_txn *t, uint32_t i)
{
    while (i < t->rcpt_count && !outcome_is_open(&t->outcomes[i]))
        i++;
    return i;
}

static void set_unsent(struct outcome *o)
{
    o->kind = OUTCOME_DEFERRED;
    o->stage = STAGE_QUEUE;
    o->code = 0;
    o->remote = o->in_doubt = false;
    o->enhanced[0] = '\0';
    memcpy(o->text, "not sent", sizeof("not sent"));
}

static void start_over(struct smtp_txn *t)
{
    t->said = t->heard = t->accepted = 0;
    t->chunks_said = t->chunks_heard = 0;
    t->body_at = t->chunk_end = t->end_at = 0;
    t->phase = SAY_START;
    t->ahead = t->bdat = t->bdat_last = t->hold_body = t->mail_heard = t->mail_refused = t->lone_dot = false;
    t->body_sent = false;
    t->line_start = true;
    t->last_octet = 0;
}

void client_txn_init(struct smtp_client *c, struct smtp_txn *t)
{
    start_over(t);
    t->utf8 = t->bdat_refused = false;
    for (uint32_t i = 0; i < t->rcpt_count; i++) {
        set_unsent(&t->outcomes[i]);
        if (t->dsn_not_passed_on)
            t->dsn_not_passed_on[i] = !c->offer.dsn && (t->rcpts[i].notify & NOTIFY_SUCCESS) != 0;
    }
}

bool client_has_left(const struct smtp_client *c, uint64_t position)
{
    return position != 0 && position <= c->put_total - c->out.len;
}

/* ---- settling ---- */

static bool is_unsettled(const struct outcome *o)
{
    return outcome_is_open(o) || outcome_is_accepted(o);
}

static void settle_rest(struct smtp_txn *t, const struct outcome *by, bool in_doubt)
{
    for (uint32_t i = 0; i < t->rcpt_count; i++) {
        if (!is_unsettled(&t->outcomes[i]))
            continue;
        t->outcomes[i] = *by;
        t->outcomes[i].in_doubt = in_doubt;
    }
}

/* The reply being heard decides about all recipients that have no outcome yet, once the transaction ends. */
static void rule_by_reply(struct smtp_client *c, enum outcome_stage stage)
{
    outcome_from_reply(&c->ruling, stage, c->reply.code, client_reply_text(c));
    c->ruled = true;
}

static void remove_txn(struct smtp_client *c, struct smtp_txn *t)
{
    if (c->saying == t)
        c->saying = t->node.next == &c->txns ? NULL : LIST_ENTRY(t->node.next, struct smtp_txn, node);
    t->body_sent = client_has_left(c, t->end_at);
    list_remove(&t->node);
    list_push_back(&c->done, &t->node);
    c->txn_count--;
}

static enum client_state finish(struct smtp_client *c, struct smtp_txn *t)
{
    if (c->ruled)
        settle_rest(t, &c->ruling, false);
    remove_txn(c, t);
    c->ruled = false;
    c->txns_done++;
    c->ready_due = true;
    return CLIENT_READY;
}

/*
 * The transaction broke off.  If the peer had not answered its MAIL, nothing happened to it, and on a
 * connection that had worked before the reason is that connection's age (T59).  If the end of the message had
 * left, the peer may have it.
 */
static void settle_broken(struct smtp_client *c, struct smtp_txn *t)
{
    bool is_attempt = t->mail_heard || (c->txns_done == 0 && t->phase != SAY_START);

    if (c->ruled)
        settle_rest(t, &c->ruling, false);
    else if (is_attempt)
        settle_rest(t, &c->over, client_has_left(c, t->end_at) && !c->over.remote);
    else
        c->turned_away = c->over.remote && t->phase != SAY_START;
}

void client_settle_all(struct smtp_client *c)
{
    struct smtp_txn *t = client_head(c);

    if (t)
        settle_broken(c, t);
    while ((t = client_head(c))) /* those behind it keep "not sent": their MAIL was not answered */
        remove_txn(c, t);
}

/* ---- MAIL, RCPT ---- */

enum client_state client_on_rset(struct smtp_client *c, const struct smtp_reply *r)
{
    if (r->code / 100 != 2)
        return client_fail_protocol(c, "RSET was refused"); /* RFC 5321 §4.1.1.5: 250 is its only answer */
    c->peer_in_txn = false;
    return CLIENT_MAIL;
}

/* RFC 5321 §4.2.2: bad sequence, or what servers say that heed RFC 2920 §3.2 more strictly than they offer.
 */
static bool is_out_of_order(const struct smtp_reply *r)
{
    return r->code == 500 || r->code == 503 || r->code == 554;
}

enum client_state client_on_mail(struct smtp_client *c, const struct smtp_reply *r)
{
    struct smtp_txn *t = client_head(c);

    if (r->code / 100 == 3)
        return client_fail_protocol(c, "MAIL was answered by 3yz");
    if (t->ahead &&
        is_out_of_order(r)) { /* of what came too early, not of the message: it is not attempted */
        c->lost_step = true;
        return client_fail(c, 451, "4.5.0", "the peer does not take commands behind the end of a message");
    }
    t->mail_heard = c->in_session = true;
    if (r->code / 100 == 2) {
        c->ahead_worked |= t->ahead;
        c->peer_in_txn = true;
        return CLIENT_RCPT;
    }
    rule_by_reply(c, STAGE_MAIL);
    t->mail_refused = true;
    return t->said ? CLIENT_RCPT : finish(c, t);
}

/*
 * RFC 5321 §4.5.3.1.10: 452, and 552 taken for it, say "too many" once some were taken.  Other reasons for
 * these codes have an enhanced code that says so: 4.2.2, 5.2.2, 4.3.1 …
 */
static bool is_too_many(const struct outcome *o)
{
    if (o->code != 452 && o->code != 552)
        return false;
    return !o->enhanced[0] || bytes_eq(bytes_skip(bytes_of(o->enhanced), 1), BYTES(".5.3"));
}

static void hear_rcpt(struct smtp_client *c, struct smtp_txn *t, struct outcome *o)
{
    if (c->reply.code / 100 == 2) {
        o->kind = OUTCOME_DELIVERED; /* for now: outcome_is_accepted() */
        o->stage = STAGE_RCPT;
        t->accepted++;
        return;
    }
    outcome_from_reply(o, STAGE_RCPT, c->reply.code, client_reply_text(c));
    if (t->accepted && is_too_many(o)) {
        o->kind = OUTCOME_DEFERRED;
        o->code = 452;
        memcpy(o->enhanced, "4.5.3", sizeof("4.5.3"));
    }
}

bool smtp_txn_retry_at_once(const struct smtp_txn *t, uint32_t i)
{
    const struct outcome *o = &t->outcomes[i];

    if (o->kind != OUTCOME_DEFERRED)
        return false;
    if (o->stage == STAGE_QUEUE && o->code == 0)
        return true;
    if (t->bdat_refused)
        return o->stage == STAGE_DATA;
    return t->accepted > 0 && o->stage == STAGE_RCPT && o->code == 452 && strcmp(o->enhanced, "4.5.3") == 0;
}

/* One recipient's refusal says nothing about the others: §3.3. */
enum client_state client_on_rcpt(struct smtp_client *c, const struct smtp_reply *r)
{
    struct smtp_txn *t = client_head(c);
    uint32_t i = client_open_rcpt(t, t->heard);

    if (r->code / 100 == 3)
        return client_fail_protocol(c, "RCPT was answered by 3yz");
    if (t->mail_refused && r->code / 100 == 2)
        return client_fail_protocol(c, "RCPT was accepted after MAIL was refused");
    t->heard = i + 1;
    if (!t->mail_refused)
        hear_rcpt(c, t, &t->outcomes[i]);
    if (t->heard < t->said)
        return CLIENT_RCPT;
    if (!t->mail_refused && client_open_rcpt(t, t->said) < t->rcpt_count)
        return CLIENT_RCPT; /* without PIPELINING: the next is said now */
    if (t->bdat)
        return t->accepted || t->chunks_said ? CLIENT_CHUNK : finish(c, t);
    return t->accepted || t->phase > SAY_DATA ? CLIENT_DATA : finish(c, t);
}

/* ---- DATA ---- */

enum client_state client_on_data(struct smtp_client *c, const struct smtp_reply *r)
{
    struct smtp_txn *t = client_head(c);

    if (r->code == 354 && t->accepted)
        return CLIENT_BODY;
    if (r->code == 354) { /* RFC 2920 §3.1: it wants an end of data, however pointless */
        buf_puts(&c->cmd, ".\r\n");
        c->unanswered++;
        client_flush(c);
        t->lone_dot = true;
        t->phase = SAY_DONE;
        return CLIENT_DOT;
    }
    if (r->code < 400)
        return client_fail_protocol(c, "DATA was answered by neither 354 nor a refusal");
    if (t->accepted)
        rule_by_reply(c, STAGE_DATA);
    return finish(c, t);
}

/*
 * A reply before the end of the message.  A refusal is worth having: the peer never gets the end, so it
 * counts for good; but the rest can no longer be unsaid, and the connection ends.
 */
enum client_state client_on_body(struct smtp_client *c, const struct smtp_reply *r)
{
    if (r->code < 400)
        return client_fail_protocol(c, "the message was answered before its end");
    rule_by_reply(c, STAGE_DATA);
    return client_fail(c, 451, "4.5.0", "the peer refused the message before its end");
}

static void deliver_or_refuse(struct smtp_client *c, struct smtp_txn *t)
{
    struct outcome o;

    if (!t->accepted)
        return;
    outcome_from_reply(&o, STAGE_DOT, c->reply.code, client_reply_text(c));
    settle_rest(t, &o, false);
}

enum client_state client_on_dot(struct smtp_client *c, const struct smtp_reply *r)
{
    struct smtp_txn *t = client_head(c);

    if (!t->lone_dot && !client_has_left(c, t->end_at))
        return client_on_body(c, r);
    if (r->code / 100 == 3)
        return client_fail_protocol(c, "the message was answered by 3yz");
    c->peer_in_txn = false; /* §4.1.1.4: whatever the reply, the buffers are cleared */
    deliver_or_refuse(c, t);
    return finish(c, t);
}

/* ---- BDAT ---- */

/* It knows BDAT and has read the chunk (RFC 3030 §4.1), but does not want it: the same again by DATA. */
static enum client_state repeat_by_data(struct smtp_client *c, struct smtp_txn *t)
{
    for (uint32_t i = 0; i < t->rcpt_count; i++)
        if (outcome_is_accepted(&t->outcomes[i]))
            set_unsent(&t->outcomes[i]);
    start_over(t);
    c->saying = t;
    c->no_chunking = true;
    return CLIENT_RSET;
}

/*
 * It does not know BDAT, so it reads the body as commands: whatever it answers from here on means nothing,
 * and the sooner it stops reading the better.
 */
static enum client_state stop_misread(struct smtp_client *c, struct smtp_txn *t)
{
    c->no_chunking = c->chunking_failed = true;
    t->bdat_refused = true;
    rule_by_reply(c, STAGE_DATA);
    c->ruling.kind = OUTCOME_DEFERRED;
    return client_fail(c, 451, "4.5.0", "the peer offers CHUNKING but does not know BDAT");
}

static enum client_state refuse_chunk(struct smtp_client *c, struct smtp_txn *t, bool all_said, bool last)
{
    uint16_t code = c->reply.code;

    if (t->accepted && t->chunks_heard == 1 && (code == 500 || code == 502))
        return stop_misread(c, t);
    if (t->accepted && t->chunks_heard == 1 && (code == 503 || code == 504) && last && all_said)
        return repeat_by_data(c, t);
    rule_by_reply(c, last ? STAGE_DOT : STAGE_DATA);
    if (!all_said)
        return client_fail(c, 451, "4.5.0", "the peer refused the message before its end");
    t->phase = SAY_DONE; /* no further chunk */
    return t->chunks_heard < t->chunks_said ? CLIENT_CHUNK : finish(c, t);
}

enum client_state client_on_chunk(struct smtp_client *c, const struct smtp_reply *r)
{
    struct smtp_txn *t = client_head(c);
    bool all_heard = ++t->chunks_heard == t->chunks_said;
    bool last = all_heard && t->bdat_last;
    bool all_said = t->body_at == t->chunk_end && (!last || client_has_left(c, t->end_at));

    if (r->code / 100 == 3)
        return client_fail_protocol(c, "BDAT was answered by 3yz");
    if (c->ruled) /* an earlier chunk was refused */
        return all_heard ? finish(c, t) : CLIENT_CHUNK;
    if (r->code >= 400)
        return refuse_chunk(c, t, all_said, last);
    if (all_heard && !all_said)
        return client_fail_protocol(c, "a chunk was answered before its end");
    if (!last)
        return CLIENT_CHUNK;
    c->peer_in_txn = false;
    deliver_or_refuse(c, t);
    return finish(c, t);
}
