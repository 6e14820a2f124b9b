/*
 * A hostile server against the client.  The first octet chooses how the owner behaves, the rest is what the
 * server says, with 0xfe as an escape: the octet behind it closes, waits, takes some output, or only ends a
 * segment.
 *
 * What must hold: each transaction is reported once; the end is told once, after them; "delivered"
 * needs a 2yz after the body has left; doubt needs that too; nothing that is said holds a NUL, a lone CR or a
 * lone LF.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "engine/smtp/client.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TXNS  3
#define RCPTS 3

struct owner {
    struct smtp_client *c;
    unsigned mode;
    struct body *bodies[TXNS];
    struct message messages[TXNS];
    struct rcpt rcpts[TXNS][RCPTS];
    struct outcome outcomes[TXNS][RCPTS];
    bool not_passed_on[TXNS][RCPTS];
    struct smtp_txn txns[TXNS];
    unsigned submitted, reported, overs;
    bool told[TXNS];
    bool tls, holds;
    char last;
    uint64_t now_ms;
};

static void must(bool claim)
{
    if (!claim)
        abort();
}

static const char text[] = "Subject: x\r\n\r\n.dot\r\n..\r\nEHLO x\r\n.\r\n";

static enum err body_read(void *arg, const struct body *b, uint64_t from, size_t len, char *out)
{
    struct owner *o = arg;

    must(from + len <= b->size_bytes);
    if (o->mode & 0x80 && from > 70000)
        return ERR_CORRUPT;
    for (size_t i = 0; i < len; i++)
        out[i] = text[(from + i) % (sizeof(text) - 1)];
    return OK;
}

static void submit(struct owner *o)
{
    smtp_client_submit(o->c, &o->txns[o->submitted++], o->now_ms);
}

static void on_ehlo(void *arg, const struct smtp_offer *offer)
{
    struct owner *o = arg;

    if (o->mode & 8 && offer->starttls && !o->tls)
        smtp_client_go_starttls(o->c, o->now_ms);
    else if (o->mode & 16)
        smtp_client_go_auth(o->c, "user", "secret", o->now_ms);
    else
        smtp_client_go_on(o->c, o->now_ms);
}

static void on_starttls(void *arg, bool accepted, bool clean, const struct outcome *reply)
{
    struct owner *o = arg;

    must(!(accepted && clean));
    must(!accepted || reply->code == 220);
    o->tls = accepted;
    if (accepted)
        smtp_client_tls_done(o->c, o->now_ms);
    else if (clean)
        smtp_client_go_on(o->c, o->now_ms);
}

static void on_auth(void *arg, bool ok, const struct outcome *reply)
{
    struct owner *o = arg;

    must(!ok || reply->code == 235);
    if (!ok)
        smtp_client_quit(o->c, o->now_ms);
}

static void on_ready(void *arg)
{
    struct owner *o = arg;

    must(o->overs == 0);
    must(smtp_client_room(o->c) > 0);
    if (o->submitted < TXNS)
        submit(o);
    else if (o->reported == TXNS)
        smtp_client_quit(o->c, o->now_ms);
}

static void on_txn_done(void *arg, struct smtp_txn *t)
{
    struct owner *o = arg;

    must(o->overs == 0 || t->outcomes[0].stage == STAGE_QUEUE);
    must(t - o->txns >= 0 && t - o->txns < o->submitted);
    must(!o->told[t - o->txns]);
    o->told[t - o->txns] = true;
    o->reported++;
    for (unsigned i = 0; i < t->rcpt_count; i++) {
        const struct outcome *out = &t->outcomes[i];
        must(out->kind == OUTCOME_DELIVERED || out->kind == OUTCOME_DEFERRED || out->kind == OUTCOME_BOUNCED);
        if (out->kind == OUTCOME_DELIVERED)
            must(out->stage == STAGE_DOT && out->code / 100 == 2 && t->body_sent && !out->in_doubt);
        must(!out->in_doubt || (out->kind == OUTCOME_DEFERRED && t->body_sent));
        must(strlen(out->text) < OUTCOME_TEXT_BYTES);
        (void)smtp_txn_retry_at_once(t, i);
    }
}

static void on_over(void *arg, const struct outcome *why)
{
    struct owner *o = arg;

    must(o->overs++ == 0);
    must(o->reported == o->submitted);
    must(why->kind == OUTCOME_DEFERRED || why->kind == OUTCOME_DELIVERED);
}

/* Takes up to n octets from the output and looks at them. */
static void take(struct owner *o, size_t n)
{
    struct outq *out = smtp_client_output(o->c);

    while (n) {
        if (out->len < 64 * 1024)
            smtp_client_fill(o->c, o->now_ms);
        struct bytes s = bytes_first(outq_front(out), n);
        if (!s.len)
            return;
        for (size_t i = 0; i < s.len; i++) {
            must(s.at[i] != 0);
            must((s.at[i] == '\n') == (o->last == '\r'));
            o->last = s.at[i];
        }
        n -= s.len;
        size_t done = s.len;
        outq_consume(out, done);
        smtp_client_sent(o->c, done, o->now_ms);
    }
}

static void prepare(struct owner *o)
{
    static const char *const addresses[] = {"r@d.example", "r\r\nQUIT@d.example",
                                            "\xe5\xb1\xb1@\xe5\xb1\xb1.example"};

    for (unsigned i = 0; i < TXNS; i++) {
        bool disk = o->mode & 32 && i == 1;
        uint64_t bytes = disk ? (sizeof(text) - 1) * 4000 : sizeof(text) - 1;
        o->bodies[i] = body_create(disk ? NULL : mem_dup(text, sizeof(text) - 1), bytes);
        o->bodies[i]->flags = BODY_DOTS | (i == 2 ? BODY_8BIT : 0);
        o->messages[i] = (struct message){.sender = i ? "a@s.example" : "",
                                          .body = o->bodies[i],
                                          .envid = "e\r\n",
                                          .ret = DSN_RET_FULL,
                                          .rcpts = o->rcpts[i],
                                          .rcpt_count = RCPTS};
        for (unsigned k = 0; k < RCPTS; k++)
            o->rcpts[i][k] = (struct rcpt){.address = addresses[(i + k) % 3 == 1 ? k : 0],
                                           .notify = NOTIFY_SUCCESS,
                                           .orcpt = "utf-8;\xe5\xb1\r\n"};
        o->txns[i] = (struct smtp_txn){.message = &o->messages[i],
                                       .rcpts = o->rcpts[i],
                                       .rcpt_count = RCPTS,
                                       .outcomes = o->outcomes[i],
                                       .dsn_not_passed_on = o->not_passed_on[i]};
    }
}

static void escape(struct owner *o, uint8_t what)
{
    switch (what % 8) {
    case 0: smtp_client_closed(o->c, ERR_CLOSED, "gone", o->now_ms); break;
    case 1:
        o->now_ms += 700000;
        smtp_client_on_deadline(o->c, o->now_ms);
        break;
    case 2: take(o, what); break;
    case 3: take(o, (size_t)what * 300); break;
    case 4: smtp_client_quit(o->c, o->now_ms); break;
    case 5: o->now_ms += 2000; break;
    case 6:
        if (o->holds)
            smtp_client_release(o->c, o->now_ms);
        else
            smtp_client_hold(o->c);
        o->holds = !o->holds;
        break;
    default: take(o, SIZE_MAX); break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    struct owner *o = MEM_NEW(struct owner);
    o->mode = data[0];
    o->now_ms = 1;
    struct smtp_client_config config = {
        .ehlo_name = "me.example",
        .pipelining = (enum smtp_pipelining)(o->mode % 3),
        .use_chunking = o->mode & 4,
        .body_read = body_read,
        .body_read_arg = o,
        .events = {on_ehlo, on_starttls, on_auth, on_ready, on_txn_done, on_over},
        .arg = o};
    prepare(o);
    o->c = smtp_client_create(&config);
    smtp_client_connected(o->c, 1);
    for (size_t at = 1; at < size;) {
        size_t end = at;
        while (end < size && data[end] != 0xfe)
            end++;
        if (end > at) {
            char *copy = mem_dup(data + at, end - at);
            smtp_client_receive(o->c, bytes_make(copy, end - at), o->now_ms);
            mem_free(copy);
        }
        if (!(o->mode & 64))
            take(o, SIZE_MAX);
        if (end + 1 < size)
            escape(o, data[end + 1]);
        at = end + 2;
    }
    take(o, SIZE_MAX);
    smtp_client_closed(o->c, ERR_CLOSED, NULL, o->now_ms);
    must(o->overs == 1);
    must(o->reported == o->submitted);
    smtp_client_destroy(o->c);
    for (unsigned i = 0; i < TXNS; i++) {
        must(atomic_load(&o->bodies[i]->refs) == 1);
        body_unref(o->bodies[i]);
    }
    mem_free(o);
    return 0;
}
