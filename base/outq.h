/*
 * What waits to be sent on one connection: copied octets and borrowed runs (message bodies), in
 * order.  A session appends, the connection takes.  Thread: one at a time.
 */
#pragma once

#include <stdbool.h>
#include <sys/uio.h>

#include "base/bytes.h"

struct outq_chunk;

/* A zeroed struct is an empty queue. */
struct outq {
    struct outq_chunk *first, *last; /* owned */
    struct outq_chunk *spare;        /* owned: one kept for reuse */
    size_t len;                      /* octets waiting */
};

void outq_fini(struct outq *q); /* releases what was borrowed */
void outq_put(struct outq *q, struct bytes s); /* copies */
void outq_puts(struct outq *q, const char *s);
void outq_putf(struct outq *q, const char *format, ...) PRINTF_LIKE(2, 3);
/* Borrows `s` until release(arg) is called: once it was consumed, or by outq_fini. */
void outq_ref(struct outq *q, struct bytes s, void (*release)(void *), void *arg);
/* Up to `max` runs from the front, for writev; returns how many. */
int outq_iov(const struct outq *q, struct iovec *iov, int max);
struct bytes outq_front(const struct outq *q); /* the first run; empty when nothing waits */
void outq_consume(struct outq *q, size_t n);
static inline bool outq_is_empty(const struct outq *q)
{
    return q->len == 0;
}
