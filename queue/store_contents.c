/*
 * Contents that messages share.  What follows the header section is the same in each injection of a campaign:
 * it is stored once, in a file that holds nothing else worth mentioning, and a message that brings it again
 * stores its header section alone.
 *
 * In memory (up to SPOOL_MEMORY_LIMIT) nothing is done until it pays: a table of what came lately knows by
 * length and a few octets what repeats, so that personalised mail costs a look at the table.  When storing it
 * over and over has cost REPEATED_BYTES, the content gets a file (spool_put_content), and its octets are
 * remembered.  A longer body has a file of its own before anybody asks: the first that was accepted serves
 * those after it, whose own files go.
 *
 * Sums only say what is worth comparing.  A content is shared when all its octets were compared.
 *
 * Its file lives while a message refers to it: each counts for the content in `segment`.live_bytes, and as a
 * transaction settles all that was answered before, none is overlooked.  A small file that is known here is
 * kept without any, too, or a campaign that leaves as fast as it comes would make one after the other.
 * Whatever is not certain to be on the disk is forgotten: after a batch was taken back nothing is known.
 */
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "queue/crc32c.h"
#include "queue/store_priv.h"

#define CONTENT_LEAST 4096U /* less is not worth a second place to read from */
#define SUMMED_LEAST                                                                                         \
    65536U /* from here on the sum is taken at first sight: it costs nothing beside the rest */
#define REPEATED_BYTES (256U * 1024)
#define HEADER_MOST    (256U * 1024)
#define SAMPLE_END     64U /* octets at the end: a boundary, or what is a recipient's own */
#define SEEN           1024U
#define KNOWN_MAX      16                 /* of those in memory, and of those in files */
#define KNOWN_BYTES    (8U * 1024 * 1024) /* in memory */
#define KNOWN_MS       60000              /* without being used */
#define COMPARE_BYTES  (256U * 1024)

struct sighting {
    uint64_t sample;
    uint32_t len; /* 0: none */
    uint32_t sum;
    uint32_t times;
    bool is_summed;
};

struct known {
    uint64_t segment, offset; /* of the content */
    uint64_t len;
    uint32_t sum;
    struct body *body; /* counted; NULL: free.  To compare with: in memory, or in its own file */
    uint64_t used_ms;
};

struct contents {
    struct sighting seen[SEEN];
    struct known known[2][KNOWN_MAX]; /* in memory; in files */
    uint64_t known_bytes;             /* in memory */
};

void store_contents_create(struct store *s)
{
    s->contents = MEM_NEW(struct contents);
}

/* ---- what is known ---- */

static struct known *find(struct contents *c, bool in_file, uint64_t len, uint32_t sum)
{
    for (size_t i = 0; i < KNOWN_MAX; i++) {
        struct known *k = &c->known[in_file][i];
        if (k->body && k->len == len && k->sum == sum)
            return k;
    }
    return NULL;
}

/* The next commit looks whether its segment is wanted without us. */
static void forget(struct store *s, struct known *k)
{
    if (k->body->mem) {
        s->contents->known_bytes -= k->body->mem_bytes;
        store_segment_change(s, k->segment, 0, 0);
    }
    body_unref(TAKE(k->body));
}

static struct known *oldest(struct contents *c, bool in_file)
{
    struct known *best = NULL;

    for (size_t i = 0; i < KNOWN_MAX; i++) {
        struct known *k = &c->known[in_file][i];
        if (k->body && (!best || k->used_ms < best->used_ms))
            best = k;
    }
    return best;
}

static struct known *free_place(struct store *s, const struct body *b)
{
    struct contents *c = s->contents;
    bool in_file = !b->mem;

    while (!in_file && c->known_bytes && c->known_bytes + b->mem_bytes > KNOWN_BYTES)
        forget(s, oldest(c, false));
    for (size_t i = 0; i < KNOWN_MAX; i++)
        if (!c->known[in_file][i].body)
            return &c->known[in_file][i];
    struct known *k = oldest(c, in_file);
    forget(s, k);
    return k;
}

static struct known *add(struct store *s, struct body *b, const struct spool_place *place, uint32_t sum)
{
    struct known *k = free_place(s, b);

    *k = (struct known){.segment = place->segment,
                        .offset = place->offset,
                        .len = b->size_bytes - b->header_bytes,
                        .sum = sum,
                        .body = body_ref(b),
                        .used_ms = clock_now_ms()};
    if (b->mem)
        s->contents->known_bytes += b->mem_bytes;
    return k;
}

/* Those for which `which` is true. */
static void forget_some(struct store *s, bool (*which)(const struct known *k, uint64_t arg), uint64_t arg)
{
    for (int in_file = 0; in_file < 2; in_file++)
        for (size_t i = 0; i < KNOWN_MAX; i++) {
            struct known *k = &s->contents->known[in_file][i];
            if (k->body && which(k, arg))
                forget(s, k);
        }
}

static bool is_any(const struct known *k, uint64_t unused)
{
    (void)k;
    (void)unused;
    return true;
}

static bool is_idle(const struct known *k, uint64_t now_ms)
{
    return now_ms - k->used_ms > KNOWN_MS;
}

void store_forget_contents(struct store *s)
{
    forget_some(s, is_any, 0);
}

void store_contents_look(struct store *s)
{
    forget_some(s, spool_is_full(s->spool) ? is_any : is_idle, clock_now_ms());
}

void store_contents_destroy(struct store *s)
{
    if (s->contents)
        store_forget_contents(s);
    mem_free(TAKE(s->contents));
}

bool store_keeps_content(const struct store *s, uint64_t segment)
{
    for (size_t i = 0; i < KNOWN_MAX; i++) {
        const struct known *k = &s->contents->known[0][i];
        if (k->body && k->segment == segment)
            return true;
    }
    return false;
}

void store_content_gone(struct store *s, uint64_t segment)
{
    for (size_t i = 0; i < KNOWN_MAX; i++) {
        struct known *k = &s->contents->known[1][i];
        if (k->body && k->segment == segment)
            forget(s, k);
    }
}

/* ---- sharing ---- */

/* Its octets must live until the sync. */
static enum err put_header(struct store *s, struct accepted *x, struct known *k, struct bytes header)
{
    const struct body *b = x->message->body;
    struct spool_place place;
    enum err e = spool_put_header(s->spool, x->id, header, crc32c(0, header.at, header.len), &place);

    if (e)
        return e;
    x->body_is_new = true;
    x->body = (struct envelope_body){place.segment, place.offset, b->size_bytes, b->header_bytes,
                                     b->flags,      b->checksum,  k->segment,    k->offset};
    s->put_bytes += header.len;
    s->envelope_bytes += x->header.len; /* it stays as long */
    k->used_ms = clock_now_ms();
    return OK;
}

static uint64_t mixed(uint64_t sum, const char *octets)
{
    uint64_t word;

    memcpy(&word, octets, sizeof(word));
    return (sum ^ word) * 0x9e3779b97f4a7c15;
}

static uint64_t sample_of(const char *p, uint32_t len)
{
    uint64_t sum = mixed(mixed(len, p + len / 4), p + len / 2);

    for (uint32_t at = len - SAMPLE_END; at < len; at += 8)
        sum = mixed(sum ^ sum >> 32, p + at);
    return sum;
}

static uint32_t sum_of_content(const struct body *b, const char *header)
{
    return crc32c_last(b->checksum, crc32c(0, header, b->header_bytes), b->size_bytes - b->header_bytes);
}

/* Has it come so often that a file pays?  Its sum is known then. */
static bool repeats(struct contents *c, const struct body *b, uint32_t *sum)
{
    uint32_t len = (uint32_t)(b->size_bytes - b->header_bytes);
    uint64_t sample = sample_of(b->mem + b->header_bytes, len);
    struct sighting *g = &c->seen[(sample >> 40) % SEEN];
    bool again = g->len == len && g->sample == sample;

    if (!again)
        *g = (struct sighting){.sample = sample, .len = len, .times = 1};
    if (!again && len < SUMMED_LEAST)
        return false;
    *sum = sum_of_content(b, b->mem);
    if (g->is_summed && g->sum != *sum)
        g->times = 0;
    g->times += again && g->times < UINT32_MAX;
    g->sum = *sum;
    g->is_summed = true;
    return again && (uint64_t)g->times * len >= REPEATED_BYTES && g->times > 1;
}

static enum err share_in_memory(struct store *s, struct accepted *x)
{
    struct body *b = x->message->body;
    struct bytes content = bytes_make(b->mem + b->header_bytes, b->size_bytes - b->header_bytes);
    struct spool_place place;
    uint32_t sum;

    if (!repeats(s->contents, b, &sum))
        return OK;
    struct known *k = find(s->contents, false, content.len, sum);
    if (k && memcmp(k->body->mem + k->body->header_bytes, content.at, content.len) != 0)
        return OK;
    if (!k) {
        if (spool_put_content(s->spool, x->id, content, sum, &place))
            return OK; /* then as a whole: if that fails, too, it is said */
        x->content_is_new = true;
        s->put_bytes += content.len;
        k = add(s, b, &place, sum);
    }
    return put_header(s, x, k, bytes_make(b->mem, b->header_bytes));
}

static bool is_equal(struct store *s, const struct body *a, const struct body *b)
{
    uint64_t len = a->size_bytes - a->header_bytes;
    char *octets = mem_alloc((size_t)COMPARE_BYTES * 2);
    bool equal = true;

    for (uint64_t at = 0; equal && at < len; at += COMPARE_BYTES) {
        size_t n = (size_t)MIN_OF(len - at, (uint64_t)COMPARE_BYTES);
        equal = spool_read(s->spool, a, a->header_bytes + at, n, octets) == OK &&
                spool_read(s->spool, b, b->header_bytes + at, n, octets + COMPARE_BYTES) == OK &&
                memcmp(octets, octets + COMPARE_BYTES, n) == 0;
    }
    mem_free(octets);
    s->put_bytes += len; /* it took its time */
    return equal;
}

/* The file of one that was answered: it is the store's to delete. */
static enum err share_file(struct store *s, struct accepted *x)
{
    struct body *b = x->message->body;
    struct spool_place place = {b->segment, b->offset + b->header_bytes};

    if (b->header_bytes > HEADER_MOST ||
        spool_read(s->spool, b, 0, b->header_bytes, buf_reserve(&x->header, b->header_bytes)) != OK)
        return OK;
    x->header.len = b->header_bytes;
    uint32_t sum = sum_of_content(b, x->header.at);
    struct known *k = find(s->contents, true, b->size_bytes - b->header_bytes, sum);
    if (!k)
        (void)add(s, b, &place, sum);
    else if (!body_is_new_file(k->body) && is_equal(s, k->body, b))
        return put_header(s, x, k, buf_bytes(&x->header));
    buf_fini(&x->header);
    return OK;
}

enum err store_share_content(struct store *s, struct accepted *x)
{
    const struct body *b = x->message->body;

    if (s->config.keeps_copies || b->size_bytes - b->header_bytes < CONTENT_LEAST)
        return OK;
    if (b->mem)
        return share_in_memory(s, x);
    return body_is_new_file(b) ? share_file(s, x) : OK;
}

/* ---- what a body counts for ---- */

struct body_weight store_body_weight(const struct envelope_body *b)
{
    struct body_weight w = {.segment = b->segment,
                            .bytes = (int64_t)b->size_bytes + SPOOL_RECORD_BYTES,
                            .content_segment = b->content_segment};

    if (b->content_segment) {
        w.bytes = (int64_t)b->header_bytes + SPOOL_RECORD_BYTES;
        w.content_bytes = (int64_t)(b->size_bytes - b->header_bytes) + SPOOL_RECORD_BYTES;
    }
    return w;
}

void store_weigh(struct store *s, const struct body_weight *w, int sign)
{
    store_segment_change(s, w->segment, sign * w->bytes, 0);
    if (w->content_segment)
        store_segment_change(s, w->content_segment, sign * w->content_bytes, 0);
}

void store_weigh_new(struct store *s, const struct accepted *x)
{
    struct body_weight w = store_body_weight(&x->body);

    if (x->body_is_new)
        store_segment_change(s, w.segment, 0, w.bytes);
    if (x->content_is_new)
        store_segment_change(s, w.content_segment, 0, w.content_bytes);
}
