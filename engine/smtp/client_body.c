/* The message itself: by DATA with dot-stuffing, or by BDAT (RFC 3030) as it is. */
#include "base/mem.h"
#include "engine/smtp/client_priv.h"

void client_stuff(struct buf *out, struct bytes s, bool *line_start)
{
    if (!s.len)
        return;
    const char *run = s.at, *end = s.at + s.len, *at = s.at;

    if (*line_start && *at == '.')
        buf_putc(out, '.');
    while ((at = memchr(at, '\n', (size_t)(end - at))) && ++at < end) {
        if (*at != '.')
            continue;
        buf_put(out, bytes_make(run, (size_t)(at - run)));
        buf_putc(out, '.');
        run = at;
    }
    buf_put(out, bytes_make(run, (size_t)(end - run)));
    *line_start = end[-1] == '\n';
}

static void unref_body(void *arg)
{
    body_unref(arg);
}

/* Borrows a run; what was said before it goes first. */
static void put_ref(struct smtp_client *c, struct bytes s, void (*release)(void *), void *arg)
{
    client_flush(c);
    outq_ref(&c->out, s, release, arg);
    c->put_total += s.len;
}

/* The next octets of the body: all of them if they lie in memory, else a block that was read (*owned). */
static enum err take_block(struct smtp_client *c, struct smtp_txn *t, uint64_t end, struct bytes *out,
                           bool *owned)
{
    struct body *body = t->message->body;
    uint64_t left = end - t->body_at;

    *owned = false;
    if (body->mem) {
        *out = bytes_make(body->mem + t->body_at, (size_t)left);
        return OK;
    }
    if (!c->config.body_read)
        return ERR_IO;
    size_t n = (size_t)MIN_OF(left, (uint64_t)CLIENT_FILL_BYTES);
    char *block = mem_alloc(n);
    enum err e = c->config.body_read(c->config.body_read_arg, body, t->body_at, n, block);
    if (e) {
        mem_free(block);
        return e;
    }
    *owned = true;
    *out = bytes_make(block, n);
    return OK;
}

/* Without the end of the message the peer keeps nothing: an ordinary deferral, and the connection is lost. */
static enum client_state fail_read(struct smtp_client *c, enum err e)
{
    return client_fail(c, 451, "4.3.0", "the message could not be read from the spool: %s", err_text(e));
}

/* As it is: small ones copied behind the commands, others lent. */
static void put_plain(struct smtp_client *c, struct smtp_txn *t, struct bytes s, bool owned)
{
    if (owned)
        put_ref(c, s, mem_free, (void *)(uintptr_t)s.at);
    else if (s.len <= CLIENT_COPY_BYTES)
        buf_put(&c->cmd, s);
    else
        put_ref(c, s, unref_body, body_ref(t->message->body));
}

static void note_said(struct smtp_txn *t, struct bytes s)
{
    t->body_at += s.len;
    t->last_octet = s.at[s.len - 1];
}

/* One step of a body under DATA: at most CLIENT_FILL_BYTES when octets are copied. */
static enum err say_lines(struct smtp_client *c, struct smtp_txn *t)
{
    struct body *body = t->message->body;
    struct bytes s;
    bool owned;
    enum err e = take_block(c, t, body->size_bytes, &s, &owned);

    if (e)
        return e;
    if (!(body->flags & BODY_DOTS)) {
        note_said(t, s);
        put_plain(c, t, s, owned);
        return OK;
    }
    s = bytes_first(s, CLIENT_FILL_BYTES);
    note_said(t, s);
    client_stuff(&c->cmd, s, &t->line_start);
    if (owned)
        mem_free((void *)(uintptr_t)s.at);
    client_flush(c);
    return OK;
}

/* A body ends in CRLF (queue/message.h); if one ever did not, its dot would be text and the peer would wait
 * for ever. */
static void say_dot(struct smtp_client *c, struct smtp_txn *t)
{
    buf_puts(&c->cmd, t->last_octet == '\n' || t->body_at == 0 ? ".\r\n" : "\r\n.\r\n");
    c->unanswered++;
    t->end_at = client_position(c);
    t->phase = SAY_DONE;
}

static enum client_state fill_data(struct smtp_client *c, struct smtp_txn *t)
{
    uint64_t size = t->message->body->size_bytes;

    while (t->body_at < size) {
        /* The rest goes with the dot, in one write. */
        if (c->out.len >= CLIENT_FILL_BYTES || (c->held && size - t->body_at <= CLIENT_FILL_BYTES))
            return c->state;
        enum err e = say_lines(c, t);
        if (e)
            return fail_read(c, e);
    }
    if (c->held)
        return c->state;
    say_dot(c, t);
    return CLIENT_DOT; /* it flushes, together with what comes behind */
}

enum client_state client_enter_body(struct smtp_client *c)
{
    enum client_state next = client_body_fill(c);

    if (next != CLIENT_DOT)
        client_flush(c);
    return next;
}

/* ---- BDAT ---- */

enum client_state client_enter_chunk(struct smtp_client *c)
{
    client_say(c);
    return client_body_fill(c);
}

/* Octets of the chunk that was announced. */
static enum err say_chunk_octets(struct smtp_client *c, struct smtp_txn *t)
{
    struct bytes s;
    bool owned;

    if (t->body_at < t->chunk_end) {
        enum err e = take_block(c, t, t->chunk_end, &s, &owned);
        if (e)
            return e;
        note_said(t, s);
        put_plain(c, t, s, owned);
    }
    if (t->body_at < t->chunk_end)
        return OK;
    t->phase = t->bdat_last ? SAY_DONE : SAY_DATA;
    if (t->bdat_last)
        t->end_at = client_position(c);
    return OK;
}

static uint64_t next_chunk(const struct smtp_txn *t)
{
    const struct body *body = t->message->body;
    uint64_t left = body->size_bytes - t->body_at;

    return body->mem ? left : MIN_OF(left, (uint64_t)CLIENT_CHUNK_BYTES);
}

bool client_is_last_chunk(const struct smtp_txn *t)
{
    return next_chunk(t) == t->message->body->size_bytes - t->body_at;
}

void client_say_chunk(struct smtp_client *c, struct smtp_txn *t)
{
    const struct body *body = t->message->body;
    uint64_t n = next_chunk(t);

    t->bdat_last = client_is_last_chunk(t);
    t->chunk_end = t->body_at + n;
    buf_puts(&c->cmd, "BDAT ");
    client_put_u64(&c->cmd, n);
    buf_puts(&c->cmd, t->bdat_last ? " LAST\r\n" : "\r\n");
    c->unanswered++;
    t->chunks_said++;
    t->phase = SAY_CHUNK;
    if (body->mem || n == 0)
        (void)say_chunk_octets(c, t); /* from memory nothing can fail */
}

static enum client_state fill_chunks(struct smtp_client *c, struct smtp_txn *t)
{
    while (c->saying == t && c->out.len < CLIENT_FILL_BYTES) {
        if (t->phase != SAY_CHUNK) {
            uint32_t before = t->chunks_said;
            client_say(c);
            if (t->chunks_said == before)
                break; /* the peer's word first */
            continue;
        }
        enum err e = say_chunk_octets(c, t);
        if (e)
            return fail_read(c, e);
    }
    client_flush(c);
    return c->state;
}

enum client_state client_body_fill(struct smtp_client *c)
{
    struct smtp_txn *t = c->saying;

    if (!t)
        return c->state;
    if (t->phase == SAY_BODY && c->state == CLIENT_BODY)
        return fill_data(c, t);
    if (t->bdat && (t->phase == SAY_CHUNK || (t->phase == SAY_DATA && c->state == CLIENT_CHUNK)))
        return fill_chunks(c, t);
    return c->state;
}
