#include "base/base64.h"

#include <stdint.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static uint32_t octet(struct bytes s, size_t i)
{
    return i < s.len ? (uint8_t)s.at[i] : 0;
}

void base64_encode(struct bytes in, struct buf *out)
{
    char *to = buf_reserve(out, (in.len + 2) / 3 * 4);

    for (size_t i = 0; i < in.len; i += 3) {
        uint32_t v = octet(in, i) << 16 | octet(in, i + 1) << 8 | octet(in, i + 2);
        *to++ = alphabet[v >> 18];
        *to++ = alphabet[v >> 12 & 63];
        *to++ = i + 1 < in.len ? alphabet[v >> 6 & 63] : '=';
        *to++ = i + 2 < in.len ? alphabet[v & 63] : '=';
    }
    out->len += (in.len + 2) / 3 * 4;
}

static int digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '+')
        return 62;
    return c == '/' ? 63 : -1;
}

/* The four digits at `at`, of which the last `pad` are '='; negative when one is none. */
static int32_t quantum(const char *at, size_t pad)
{
    int32_t v = 0;

    for (size_t i = 0; i < 4; i++) {
        int d = i < 4 - pad ? digit(at[i]) : 0;
        if (d < 0)
            return -1;
        v = v << 6 | d;
    }
    return v;
}

bool base64_decode(struct bytes in, struct buf *out)
{
    if (in.len % 4)
        return false;
    if (in.len == 0)
        return true;
    size_t pad = in.at[in.len - 1] != '=' ? 0 : in.at[in.len - 2] != '=' ? 1 : 2;
    char *to = buf_reserve(out, in.len / 4 * 3);
    for (size_t i = 0; i < in.len; i += 4) {
        bool last = i + 4 == in.len;
        int32_t v = quantum(in.at + i, last ? pad : 0);
        if (v < 0 || (last && pad && (v & ((1 << 8 * pad) - 1))))
            return false;
        *to++ = (char)(v >> 16);
        *to++ = (char)(v >> 8);
        *to++ = (char)v;
    }
    out->len += in.len / 4 * 3 - pad;
    return true;
}
