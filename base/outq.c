#include "base/outq.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/mem.h"

#define CHUNK_BYTES 4000

struct outq_chunk {
    struct outq_chunk *next;
    const char *at;           /* next octet to send */
    size_t len;               /* from `at` */
    char *room;               /* where copied octets go on; NULL for a borrowed run */
    size_t room_bytes;
    void (*release)(void *);
    void *arg;
    char data[];
};

static void chunk_free(struct outq *q, struct outq_chunk *c)
{
    if (c->release)
        c->release(c->arg);
    if (c->room && !q->spare && c->room + c->room_bytes == c->data + CHUNK_BYTES)
        q->spare = c;
    else
        mem_free(c);
}

static void append(struct outq *q, struct outq_chunk *c)
{
    c->next = NULL;
    if (q->last)
        q->last->next = c;
    else
        q->first = c;
    q->last = c;
}

static struct outq_chunk *writable(struct outq *q, size_t want)
{
    if (q->last && q->last->room && q->last->room_bytes)
        return q->last;
    struct outq_chunk *c = q->spare;
    size_t bytes = MAX_OF(want, (size_t)CHUNK_BYTES);
    if (c && bytes == CHUNK_BYTES)
        q->spare = NULL;
    else
        c = mem_alloc(sizeof(*c) + bytes);
    *c = (struct outq_chunk){.at = c->data, .room = c->data, .room_bytes = bytes};
    append(q, c);
    return c;
}

void outq_fini(struct outq *q)
{
    for (struct outq_chunk *c = q->first, *next; c; c = next) {
        next = c->next;
        chunk_free(q, c);
    }
    mem_free(q->spare);
    *q = (struct outq){0};
}

void outq_put(struct outq *q, struct bytes s)
{
    while (s.len) {
        struct outq_chunk *c = writable(q, s.len);
        size_t n = MIN_OF(s.len, c->room_bytes);
        memcpy(c->room, s.at, n);
        c->room += n;
        c->room_bytes -= n;
        c->len += n;
        q->len += n;
        s = bytes_skip(s, n);
    }
}

void outq_puts(struct outq *q, const char *s)
{
    outq_put(q, bytes_of(s));
}

void outq_putf(struct outq *q, const char *format, ...)
{
    char small[512];
    va_list ap;

    va_start(ap, format);
    int n = vsnprintf(small, sizeof(small), format, ap);
    va_end(ap);
    assert(n >= 0);
    if ((size_t)n < sizeof(small)) {
        outq_put(q, bytes_make(small, (size_t)n));
        return;
    }
    struct buf big = {0};
    va_start(ap, format);
    buf_putv(&big, format, ap);
    va_end(ap);
    outq_put(q, buf_bytes(&big));
    buf_fini(&big);
}

void outq_ref(struct outq *q, struct bytes s, void (*release)(void *), void *arg)
{
    if (s.len == 0) {
        if (release)
            release(arg);
        return;
    }
    struct outq_chunk *c = mem_alloc(sizeof(*c));
    *c = (struct outq_chunk){.at = s.at, .len = s.len, .release = release, .arg = arg};
    append(q, c);
    q->len += s.len;
}

int outq_iov(const struct outq *q, struct iovec *iov, int max)
{
    int n = 0;

    for (const struct outq_chunk *c = q->first; c && n < max; c = c->next) {
        if (!c->len)
            continue;
        iov[n++] = (struct iovec){.iov_base = (void *)(uintptr_t)c->at, .iov_len = c->len};
    }
    return n;
}

struct bytes outq_front(const struct outq *q)
{
    for (const struct outq_chunk *c = q->first; c; c = c->next)
        if (c->len)
            return bytes_make(c->at, c->len);
    return (struct bytes){0};
}

void outq_consume(struct outq *q, size_t n)
{
    assert(n <= q->len);
    q->len -= n;
    while (q->first) {
        struct outq_chunk *c = q->first;
        size_t take = MIN_OF(n, c->len);
        c->at += take;
        c->len -= take;
        n -= take;
        if (c->len)
            break;
        q->first = c->next;
        if (!q->first)
            q->last = NULL;
        chunk_free(q, c);
    }
}
