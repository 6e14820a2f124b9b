#include "engine/dns/name.h"

#define LABEL_MAX    63
#define POINTER_BITS 0xc0

/* Slashes stand in RFC 2317 aliases, underscores in _dmarc and _25._tcp; blanks and controls stand in
 * attacks. */
static bool may_ask(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '/' || c == '+' ||
           c == '=' || c == '*';
}

static uint8_t lower(uint8_t c)
{
    return (uint8_t)ascii_lower((char)c);
}

bool dns_name_parse(struct bytes text, struct dns_name *out)
{
    struct dns_name n = {0};

    if (text.len && text.at[text.len - 1] == '.')
        text.len--;
    if (!text.len || text.len > DNS_NAME_TEXT_BYTES - 1)
        return false;
    while (true) {
        size_t len = bytes_find(text, '.');
        if (!len || len > LABEL_MAX)
            return false;
        n.octets[n.len++] = (uint8_t)len;
        for (size_t i = 0; i < len; i++) {
            uint8_t c = lower((uint8_t)text.at[i]);
            if (!may_ask(c))
                return false;
            n.octets[n.len++] = c;
        }
        if (len == text.len)
            break;
        text = bytes_skip(text, len + 1);
    }
    n.octets[n.len++] = 0;
    *out = n;
    return true;
}

bool dns_name_read(struct bytes packet, size_t *at, struct dns_name *out)
{
    const uint8_t *p = (const uint8_t *)packet.at;
    size_t pos = *at, run = pos, after = 0;
    unsigned len = 0;

    while (pos < packet.len) {
        uint8_t c = p[pos];
        if (c >= POINTER_BITS) {
            if (packet.len - pos < 2)
                return false;
            size_t target = (size_t)(c & ~POINTER_BITS) << 8 | p[pos + 1];
            if (target >= run)
                return false;
            if (!after)
                after = pos + 2;
            run = pos = target;
            continue;
        }
        if (c > LABEL_MAX || packet.len - pos < 1U + c || len + 1U + c > DNS_NAME_WIRE_BYTES)
            return false;
        out->octets[len++] = c;
        for (unsigned i = 1; i <= c; i++)
            out->octets[len++] = lower(p[pos + i]);
        pos += 1U + c;
        if (!c) {
            out->len = (uint8_t)len;
            *at = after ? after : pos;
            return true;
        }
    }
    return false;
}

bool dns_name_format(const struct dns_name *name, char out[DNS_NAME_TEXT_BYTES])
{
    size_t n = 0;

    if (name->len < 2)
        return false;
    for (unsigned at = 0; name->octets[at]; at += 1U + name->octets[at]) {
        if (n)
            out[n++] = '.';
        for (unsigned i = 1; i <= name->octets[at]; i++) {
            if (!may_ask(name->octets[at + i]))
                return false;
            out[n++] = (char)name->octets[at + i];
        }
    }
    out[n] = '\0';
    return true;
}

bool dns_name_eq(const struct dns_name *a, const struct dns_name *b)
{
    return a->len == b->len && memcmp(a->octets, b->octets, a->len) == 0;
}

bool dns_name_within(const struct dns_name *name, const struct dns_name *zone)
{
    unsigned at = 0;

    while (name->len - at > zone->len)
        at += 1U + name->octets[at];
    return name->len - at == zone->len && memcmp(name->octets + at, zone->octets, zone->len) == 0;
}
