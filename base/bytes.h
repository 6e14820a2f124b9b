/*
 * `struct bytes` is a borrowed run of octets (it may hold NUL and need not end in one);
 * `struct buf` is an owned, growing one.  Thread: any, one at a time.
 */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/macros.h"

struct bytes {
    const char *at; /* borrowed */
    size_t len;
};

#define BYTES(literal) ((struct bytes){(literal), sizeof(literal) - 1})

/* NULL gives an empty run.  Here, so that the length of a literal costs nothing. */
static inline struct bytes bytes_of(const char *s)
{
    return (struct bytes){s, s ? strlen(s) : 0};
}
static inline struct bytes bytes_make(const void *at, size_t len)
{
    return (struct bytes){(const char *)at, len};
}
bool bytes_eq(struct bytes a, struct bytes b);
/* ASCII letters compare without case; the locale plays no part. */
bool bytes_ieq(struct bytes a, struct bytes b);
bool bytes_starts(struct bytes s, struct bytes prefix);
bool bytes_istarts(struct bytes s, struct bytes prefix);
bool bytes_iends(struct bytes s, struct bytes suffix);
/* Index of the first `c`, or s.len. */
size_t bytes_find(struct bytes s, char c);
/* Without the first n octets (all of them when n is larger). */
struct bytes bytes_skip(struct bytes s, size_t n);
struct bytes bytes_first(struct bytes s, size_t n);
/* Without blanks and tabs at both ends. */
struct bytes bytes_trim(struct bytes s);
/* Decimal digits only: no sign, no blank, no overflow. */
bool bytes_parse_u64(struct bytes s, uint64_t *out);
char *bytes_dup(struct bytes s); /* owned by the caller, NUL-terminated: mem_free */

static inline char ascii_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

struct buf {
    char *at; /* owned */
    size_t len, cap;
};

void buf_fini(struct buf *b);            /* also makes it empty and usable again */
void buf_clear(struct buf *b);           /* keeps the memory */
char *buf_grow(struct buf *b, size_t n); /* buf_reserve when there is no room */
/* Room for n more octets; returns where they go.  The caller adds to b->len what it wrote. */
static inline char *buf_reserve(struct buf *b, size_t n)
{
    return b->at && b->cap - b->len >= n ? b->at + b->len : buf_grow(b, n);
}
static inline void buf_put(struct buf *b, struct bytes s)
{
    if (s.len == 0)
        return;
    memcpy(buf_reserve(b, s.len), s.at, s.len);
    b->len += s.len;
}
static inline void buf_puts(struct buf *b, const char *s)
{
    buf_put(b, bytes_of(s));
}
static inline void buf_putc(struct buf *b, char c)
{
    *buf_reserve(b, 1) = c;
    b->len++;
}
void buf_put_int(struct buf *b, int64_t n); /* decimal */
/* As printf; quick when the format holds nothing but %s, %d, %u, %c and %%, without flags. */
void buf_putf(struct buf *b, const char *format, ...) PRINTF_LIKE(2, 3);
void buf_putv(struct buf *b, const char *format, va_list ap) PRINTF_LIKE(2, 0);
/* A formatted string of its own: mem_free. */
char *text_format(const char *format, ...) PRINTF_LIKE(1, 2);
/* Drops the first n octets. */
void buf_consume(struct buf *b, size_t n);
/* The octets as a C string: a NUL stands after them, not counted. */
const char *buf_str(struct buf *b);
char *buf_take(struct buf *b); /* the NUL-terminated memory is the caller's; b is empty */
static inline struct bytes buf_bytes(const struct buf *b)
{
    return (struct bytes){b->at, b->len};
}
/* A local buffer that frees itself: BUF_LOCAL(text); */
#define BUF_LOCAL(name) __attribute__((cleanup(buf_fini))) struct buf name = {0}
