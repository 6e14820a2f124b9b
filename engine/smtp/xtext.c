#include "engine/smtp/xtext.h"

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = ascii_lower(c); /* §4 wants upper case; lower case has only one meaning too */
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool may_stand_raw(unsigned char c, bool utf8)
{
    if (c > 126)
        return utf8 && c >= 0x80;
    return c > ' ' && c != '+' && c != '=';
}

bool xtext_decode(struct bytes in, bool utf8, char *out, size_t cap)
{
    size_t n = 0;

    for (size_t i = 0; i < in.len; i++, n++) {
        int c = (unsigned char)in.at[i];
        if (c == '+') {
            if (in.len - i < 3 || hex(in.at[i + 1]) < 0 || hex(in.at[i + 2]) < 0)
                return false;
            c = hex(in.at[i + 1]) * 16 + hex(in.at[i + 2]);
            if (c < ' ' || c > 126)
                return false;
            i += 2;
        } else if (!may_stand_raw((unsigned char)c, utf8)) {
            return false;
        }
        if (n + 1 >= cap)
            return false;
        out[n] = (char)c;
    }
    out[n] = '\0';
    return true;
}

void xtext_encode(struct bytes in, struct buf *out)
{
    for (size_t i = 0; i < in.len; i++) {
        unsigned char c = (unsigned char)in.at[i];
        if (may_stand_raw(c, false))
            buf_putc(out, (char)c);
        else
            buf_putf(out, "+%02X", c);
    }
}
