#include "queue/body_priv.h"

#include <string.h>

#include "base/block64.h"
#include "base/mem.h"
#include "queue/crc32c.h"

#define LINE_MAX_OCTETS 998 /* RFC 5321 §4.5.3.1.6, without CRLF */

struct body_full {
    struct body body; /* first: what the world sees */
    void (*drop)(void *arg, uint64_t segment);
    void *drop_arg;
    atomic_bool uncommitted;
};

static _Atomic int64_t memory_bytes;

static struct body_full *full(struct body *b)
{
    return CONTAINER_OF(b, struct body_full, body);
}

void body_memory_add(int64_t bytes)
{
    atomic_fetch_add_explicit(&memory_bytes, bytes, memory_order_relaxed);
}

uint64_t body_memory_bytes(void)
{
    int64_t n = atomic_load_explicit(&memory_bytes, memory_order_relaxed);
    return n > 0 ? (uint64_t)n : 0;
}

struct body *body_create(char *mem, uint64_t size_bytes)
{
    struct body_full *f = MEM_NEW(struct body_full);

    atomic_init(&f->body.refs, 1);
    f->body.size_bytes = size_bytes;
    f->body.mem = mem;
    f->body.mem_bytes = mem ? size_bytes : 0;
    body_memory_add((int64_t)f->body.mem_bytes);
    return &f->body;
}

struct body *body_create_on_disk(uint64_t segment, uint64_t offset, uint64_t size_bytes,
                                 void (*drop)(void *arg, uint64_t segment), void *arg)
{
    struct body *b = body_create(NULL, size_bytes);

    b->segment = segment;
    b->offset = offset;
    full(b)->drop = drop;
    full(b)->drop_arg = arg;
    atomic_store(&full(b)->uncommitted, drop != NULL);
    return b;
}

void body_keep_file(struct body *b)
{
    atomic_store(&full(b)->uncommitted, false);
}

void body_drop_file(struct body *b)
{
    if (atomic_exchange(&full(b)->uncommitted, false))
        full(b)->drop(full(b)->drop_arg, b->segment);
}

bool body_is_new_file(const struct body *b)
{
    const struct body_full *f = (const struct body_full *)(const void *)b; /* first member */
    return atomic_load(&f->uncommitted);
}

struct body *body_ref(struct body *b)
{
    atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
    return b;
}

void body_unref(struct body *b)
{
    if (!b || atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) != 1)
        return;
    body_drop_file(b);
    body_memory_add(-(int64_t)b->mem_bytes);
    mem_free(b->mem);
    mem_free(full(b));
}

void body_measure(struct body *b)
{
    struct body_scan scan = {0};

    body_scan_put(&scan, bytes_make(b->mem, b->size_bytes));
    body_scan_finish(&scan);
    b->flags = scan.flags;
    b->header_bytes = scan.header_bytes;
    b->checksum = scan.checksum;
}

static bool has_8bit(const char *p, size_t len)
{
    uint64_t all = 0;

    for (; len >= 8; p += 8, len -= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        all |= word;
    }
    while (len--)
        all |= (unsigned char)*p++;
    return (all & 0x8080808080808080U) != 0;
}

/* A line has ended; `from` is where its last run began. */
static void end_line(struct body_scan *scan, bool had_cr)
{
    uint32_t len = scan->line_len - (had_cr && scan->line_len ? 1 : 0);

    if (len > LINE_MAX_OCTETS)
        scan->flags |= BODY_BINARY;
    if (len == 0 && !scan->header_bytes)
        scan->header_bytes = (uint32_t)MIN_OF(scan->size_bytes, (uint64_t)UINT32_MAX);
    scan->line_len = 0;
    scan->cr = false;
}

static void add_to_line(struct body_scan *scan, const char *p, size_t len)
{
    if (!len)
        return;
    if (scan->line_len == 0 && *p == '.')
        scan->flags |= BODY_DOTS;
    scan->line_len = (uint32_t)MIN_OF((uint64_t)scan->line_len + len, (uint64_t)UINT32_MAX / 2);
    scan->cr = p[len - 1] == '\r';
}

/* Whole lines and the start of one, up to `end` or, when `to_body`, up to where the header ends. */
static const char *scan_lines(struct body_scan *scan, const char *p, const char *end, bool to_body)
{
    while (p < end) {
        const char *lf = memchr(p, '\n', (size_t)(end - p));
        const char *stop = lf ? lf : end;

        add_to_line(scan, p, (size_t)(stop - p));
        scan->size_bytes += (uint64_t)(stop - p) + (lf ? 1 : 0);
        if (lf)
            end_line(scan, scan->cr);
        p = lf ? lf + 1 : end;
        if (to_body && scan->header_bytes)
            break;
    }
    return p;
}

#ifdef BLOCK64
/* Whole blocks of a body (the header has ended), as long as no line in them is too long: scan_lines looks
 * closer. */
BLOCK64_CODE static const char *scan_blocks(struct body_scan *scan, const char *p, const char *end)
{
    uint64_t dots = 0, high = 0;

    for (; end - p >= BLOCK64; p += BLOCK64) {
        uint64_t lf = block64_of(p, '\n');
        uint32_t first = lf ? (uint32_t)__builtin_ctzll(lf) : BLOCK64;
        if (scan->line_len + first > LINE_MAX_OCTETS)
            break;
        dots |= block64_of(p, '.') & (lf << 1 | (scan->line_len == 0));
        high |= block64_of_8bit(p);
        scan->line_len = lf ? (uint32_t)__builtin_clzll(lf) : scan->line_len + BLOCK64;
        scan->size_bytes += BLOCK64;
        scan->cr = p[BLOCK64 - 1] == '\r';
    }
    scan->flags |= (dots ? BODY_DOTS : 0U) | (high ? BODY_8BIT : 0U);
    return p;
}
#endif

static void scan_body(struct body_scan *scan, const char *p, const char *end)
{
#ifdef BLOCK64
    if (block64_usable())
        p = scan_blocks(scan, p, end);
#endif
    if (has_8bit(p, (size_t)(end - p)))
        scan->flags |= BODY_8BIT;
    scan_lines(scan, p, end, false);
}

void body_scan_put(struct body_scan *scan, struct bytes octets)
{
    const char *p = octets.at;
    const char *end = p + octets.len;

    if (!octets.len)
        return;
    scan->checksum = crc32c(scan->checksum, octets.at, octets.len);
    if (!scan->header_bytes) {
        const char *body = scan_lines(scan, p, end, true);
        if (has_8bit(p, (size_t)(body - p)))
            scan->flags |= BODY_UTF8_HEADER;
        p = body;
    }
    scan_body(scan, p, end);
}

void body_scan_finish(struct body_scan *scan)
{
    if (scan->line_len > LINE_MAX_OCTETS)
        scan->flags |= BODY_BINARY;
    if (!scan->header_bytes)
        scan->header_bytes = (uint32_t)MIN_OF(scan->size_bytes, (uint64_t)UINT32_MAX);
}
