#include "base/bytes.h"

#include <assert.h>
#include <stdio.h>

#include "base/mem.h"

bool bytes_eq(struct bytes a, struct bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}

bool bytes_ieq(struct bytes a, struct bytes b)
{
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++)
        if (ascii_lower(a.at[i]) != ascii_lower(b.at[i]))
            return false;
    return true;
}

bool bytes_starts(struct bytes s, struct bytes prefix)
{
    return s.len >= prefix.len && bytes_eq(bytes_first(s, prefix.len), prefix);
}

bool bytes_istarts(struct bytes s, struct bytes prefix)
{
    return s.len >= prefix.len && bytes_ieq(bytes_first(s, prefix.len), prefix);
}

bool bytes_iends(struct bytes s, struct bytes suffix)
{
    return s.len >= suffix.len && bytes_ieq(bytes_skip(s, s.len - suffix.len), suffix);
}

size_t bytes_find(struct bytes s, char c)
{
    const char *hit = s.len ? memchr(s.at, c, s.len) : NULL;

    return hit ? (size_t)(hit - s.at) : s.len;
}

struct bytes bytes_skip(struct bytes s, size_t n)
{
    n = MIN_OF(n, s.len);
    return (struct bytes){n ? s.at + n : s.at, s.len - n};
}

struct bytes bytes_first(struct bytes s, size_t n)
{
    return (struct bytes){s.at, MIN_OF(n, s.len)};
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

struct bytes bytes_trim(struct bytes s)
{
    while (s.len && is_blank(s.at[0]))
        s = bytes_skip(s, 1);
    while (s.len && is_blank(s.at[s.len - 1]))
        s.len--;
    return s;
}

bool bytes_parse_u64(struct bytes s, uint64_t *out)
{
    uint64_t value = 0;

    if (s.len == 0)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        if (s.at[i] < '0' || s.at[i] > '9')
            return false;
        uint64_t digit = (uint64_t)(s.at[i] - '0');
        if (value > (UINT64_MAX - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    *out = value;
    return true;
}

char *bytes_dup(struct bytes s)
{
    return mem_dup(s.at, s.len);
}

void buf_fini(struct buf *b)
{
    if (!b)
        return;
    mem_free(b->at);
    *b = (struct buf){0};
}

void buf_clear(struct buf *b)
{
    b->len = 0;
}

char *buf_grow(struct buf *b, size_t n)
{
    size_t cap = b->cap ? b->cap : 64;

    assert(n <= SIZE_MAX / 4);
    while (cap - b->len < n)
        cap *= 2;
    b->at = mem_realloc(b->at, cap);
    b->cap = cap;
    return b->at + b->len;
}

/* ---- formatted text ---- */

static bool is_simple(const char *format)
{
    const char *at = strchr(format, '%');

    for (; at; at = strchr(at + 2, '%'))
        if (at[1] == '\0' || !strchr("sduc%", at[1]))
            return false;
    return true;
}

#define DIGITS 24

/* The digits, from the returned place to the end of `digits`. */
static struct bytes decimal(char digits[DIGITS], uint64_t n, bool negative)
{
    size_t at = DIGITS;

    do {
        digits[--at] = (char)('0' + n % 10);
        n /= 10;
    } while (n);
    if (negative)
        digits[--at] = '-';
    return bytes_make(digits + at, DIGITS - at);
}

static struct bytes of_int(char digits[DIGITS], int64_t n)
{
    return decimal(digits, n < 0 ? 0 - (uint64_t)n : (uint64_t)n, n < 0);
}

static void print_simple(struct buf *out, const char *format, va_list ap)
{
    char digits[DIGITS], one;

    for (const char *at; (at = strchr(format, '%')); format = at + 2) {
        struct bytes value = BYTES("%");
        buf_put(out, bytes_make(format, (size_t)(at - format)));
        switch (at[1]) {
        case 's': value = bytes_of(va_arg(ap, const char *)); break;
        case 'd': value = of_int(digits, va_arg(ap, int)); break;
        case 'u': value = decimal(digits, va_arg(ap, unsigned), false); break;
        case 'c':
            one = (char)va_arg(ap, int);
            value = bytes_make(&one, 1);
            break;
        default: break;
        }
        buf_put(out, value);
    }
    buf_puts(out, format);
}

void buf_putv(struct buf *b, const char *format, va_list ap)
{
    va_list again;

    if (is_simple(format)) {
        print_simple(b, format, ap);
        return;
    }
    va_copy(again, ap);
    size_t room = b->cap - b->len;
    int n = vsnprintf(room ? b->at + b->len : NULL, room, format, ap);
    assert(n >= 0);
    if ((size_t)n >= room) {
        buf_reserve(b, (size_t)n + 1);
        vsnprintf(b->at + b->len, (size_t)n + 1, format, again);
    }
    va_end(again);
    b->len += (size_t)n;
}

void buf_put_int(struct buf *b, int64_t n)
{
    char digits[DIGITS];

    buf_put(b, of_int(digits, n));
}

void buf_putf(struct buf *b, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    buf_putv(b, format, ap);
    va_end(ap);
}

char *text_format(const char *format, ...)
{
    struct buf text = {0};
    va_list ap;

    va_start(ap, format);
    buf_putv(&text, format, ap);
    va_end(ap);
    return buf_take(&text);
}

void buf_consume(struct buf *b, size_t n)
{
    assert(n <= b->len);
    b->len -= n;
    if (b->len && n)
        memmove(b->at, b->at + n, b->len);
}

const char *buf_str(struct buf *b)
{
    *buf_reserve(b, 1) = '\0';
    return b->at;
}

char *buf_take(struct buf *b)
{
    buf_str(b);
    char *at = b->at;
    *b = (struct buf){0};
    return at;
}
