/*
 *     u32 version  u64 id  u32 flags  i64 accepted  i64 due  i64 expires  u32 lane  u32 ret  u32 total
 *     u32 recipients
 *     body: u64 segment  u64 offset  u64 size  u32 header  u32 flags  u32 checksum
 *         version 2, when the content lies elsewhere: u64 content segment  u64 content offset
 *     text sender, campaign, envid, account
 *     recipient: u32 no  u16 attempts  u8 notify  u8 delay notified  u8 state  text domain (none: as the one
 * before), address, orcpt, last reply
 *
 * Little-endian.  A text is u32 length with its NUL, then octets and NUL; length 0 is none.
 */
#include "queue/envelope.h"

#include <string.h>

#define VERSION        1
#define VERSION_SHARED 2
#define ACCEPTED_AT    (4 + 8 + 4)
#define SENDER_AT      (ACCEPTED_AT + 3 * 8 + 4 * 4 + 3 * 8 + 3 * 4)
#define SHARED_BYTES   (2 * 8)
#define RCPT_LEAST     (4 + 2 + 1 + 1 + 1 + 4 * 4)

/* ---- encoding ---- */

static void put_number(struct buf *out, uint64_t n, size_t octets)
{
    char *at = buf_reserve(out, octets);

    for (size_t i = 0; i < octets; i++)
        at[i] = (char)(n >> 8 * i & 0xff);
    out->len += octets;
}

static void put_text(struct buf *out, const char *text)
{
    size_t len = text ? strlen(text) + 1 : 0;

    put_number(out, len, 4);
    buf_put(out, bytes_make(text, len));
}

static void put_body(struct buf *out, const struct envelope_body *b)
{
    put_number(out, b->segment, 8);
    put_number(out, b->offset, 8);
    put_number(out, b->size_bytes, 8);
    put_number(out, b->header_bytes, 4);
    put_number(out, b->flags, 4);
    put_number(out, b->checksum, 4);
    if (!b->content_segment)
        return;
    put_number(out, b->content_segment, 8);
    put_number(out, b->content_offset, 8);
}

void envelope_put(struct buf *out, const struct message *m, const struct envelope_body *body,
                  const uint8_t *states, int64_t due_unix)
{
    put_number(out, body->content_segment ? VERSION_SHARED : VERSION, 4);
    put_number(out, m->id, 8);
    put_number(out, m->flags, 4);
    put_number(out, (uint64_t)m->accepted_unix, 8);
    put_number(out, (uint64_t)due_unix, 8);
    put_number(out, (uint64_t)m->expires_unix, 8);
    put_number(out, m->lane, 4);
    put_number(out, m->ret, 4);
    put_number(out, m->rcpt_total, 4);
    put_number(out, m->rcpt_count, 4);
    put_body(out, body);
    put_text(out, m->sender);
    put_text(out, m->campaign);
    put_text(out, m->envid);
    put_text(out, m->account);
    for (uint32_t i = 0; i < m->rcpt_count; i++) {
        const struct rcpt *r = &m->rcpts[i];
        bool same =
            i && (r->domain == m->rcpts[i - 1].domain || strcmp(r->domain, m->rcpts[i - 1].domain) == 0);
        put_number(out, r->no, 4);
        put_number(out, r->attempts, 2);
        put_number(out, r->notify, 1);
        put_number(out, r->delay_notified, 1);
        put_number(out, states[i], 1);
        put_text(out, same ? NULL : r->domain);
        put_text(out, r->address);
        put_text(out, r->orcpt);
        put_text(out, r->last_text);
    }
}

/* ---- decoding ---- */

struct reading {
    struct bytes rest;
    bool bad;
};

static uint64_t take_number(struct reading *in, size_t octets)
{
    uint64_t n = 0;

    if (in->rest.len < octets) {
        in->bad = true;
        return 0;
    }
    for (size_t i = 0; i < octets; i++)
        n |= (uint64_t)(unsigned char)in->rest.at[i] << 8 * i;
    in->rest = bytes_skip(in->rest, octets);
    return n;
}

static const char *take_text(struct reading *in)
{
    size_t len = (size_t)take_number(in, 4);

    if (in->bad || len == 0)
        return NULL;
    if (len > in->rest.len || memchr(in->rest.at, '\0', len) != in->rest.at + len - 1) {
        in->bad = true;
        return NULL;
    }
    const char *text = in->rest.at;
    in->rest = bytes_skip(in->rest, len);
    return text;
}

static void take_body(struct reading *in, struct envelope_body *b, bool shared)
{
    b->segment = take_number(in, 8);
    b->offset = take_number(in, 8);
    b->size_bytes = take_number(in, 8);
    b->header_bytes = (uint32_t)take_number(in, 4);
    b->flags = (uint32_t)take_number(in, 4);
    b->checksum = (uint32_t)take_number(in, 4);
    if (!shared)
        return;
    b->content_segment = take_number(in, 8);
    b->content_offset = take_number(in, 8);
    in->bad |= !b->content_segment || b->header_bytes >= b->size_bytes;
}

static void take_rcpt(struct reading *in, struct rcpt *r, const char *domain_before, uint8_t *state,
                      int64_t due_unix)
{
    r->no = (uint32_t)take_number(in, 4);
    r->attempts = (uint16_t)take_number(in, 2);
    r->notify = (uint8_t)take_number(in, 1);
    r->delay_notified = take_number(in, 1) != 0;
    *state = (uint8_t)take_number(in, 1);
    r->domain = take_text(in);
    if (!r->domain)
        r->domain = domain_before;
    r->address = take_text(in);
    r->orcpt = take_text(in);
    r->last_text = take_text(in);
    r->due_unix = due_unix;
    in->bad |= !r->domain || !r->address;
}

bool envelope_parse(struct bytes octets, struct arena *arena, struct envelope *out)
{
    struct reading in = {octets, false};
    struct message *m = &out->message;

    memset((void *)out, 0, sizeof(*out));
    uint64_t version = take_number(&in, 4);
    in.bad = version != VERSION && version != VERSION_SHARED;
    m->id = take_number(&in, 8);
    m->flags = (uint32_t)take_number(&in, 4);
    m->accepted_unix = (int64_t)take_number(&in, 8);
    out->due_unix = (int64_t)take_number(&in, 8);
    m->expires_unix = (int64_t)take_number(&in, 8);
    uint64_t lane = take_number(&in, 4), ret = take_number(&in, 4);
    m->rcpt_total = (uint32_t)take_number(&in, 4);
    m->rcpt_count = (uint32_t)take_number(&in, 4);
    take_body(&in, &out->body, version == VERSION_SHARED);
    m->sender = take_text(&in);
    m->campaign = take_text(&in);
    m->envid = take_text(&in);
    m->account = take_text(&in);
    if (in.bad || !m->id || m->id > INT64_MAX || ret > DSN_RET_HDRS || lane >= LANES || !m->sender ||
        !m->rcpt_count || m->rcpt_count > in.rest.len / RCPT_LEAST)
        return false;
    m->ret = (enum dsn_ret)ret;
    m->lane = (uint16_t)lane;
    m->rcpts = arena_alloc(arena, m->rcpt_count * sizeof(*m->rcpts));
    out->states = arena_alloc(arena, m->rcpt_count);
    for (uint32_t i = 0; i < m->rcpt_count && !in.bad; i++) {
        memset(&m->rcpts[i], 0, sizeof(m->rcpts[i]));
        take_rcpt(&in, &m->rcpts[i], i ? m->rcpts[i - 1].domain : NULL, &out->states[i], out->due_unix);
    }
    return !in.bad && in.rest.len == 0;
}

const char *envelope_campaign(struct bytes octets)
{
    struct reading in = {octets, false};
    uint64_t version = take_number(&in, 4);

    in.rest = bytes_skip(octets, SENDER_AT + (version == VERSION_SHARED ? SHARED_BYTES : 0));
    (void)take_text(&in);
    return take_text(&in);
}

int64_t envelope_accepted_unix(struct bytes octets)
{
    struct reading in = {bytes_skip(octets, ACCEPTED_AT), false};

    return (int64_t)take_number(&in, 8);
}
