#include "base/ip.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdio.h>

bool ip_parse(struct bytes text, struct ip *out)
{
    char copy[INET6_ADDRSTRLEN + 1];
    struct ip ip = {0};

    if (text.len == 0 || text.len >= sizeof(copy) || memchr(text.at, '\0', text.len))
        return false;
    memcpy(copy, text.at, text.len);
    copy[text.len] = '\0';
    if (inet_pton(AF_INET, copy, ip.octets) == 1)
        ip.family = 4;
    else if (inet_pton(AF_INET6, copy, ip.octets) == 1)
        ip.family = 6;
    else
        return false;
    *out = ip;
    return true;
}

/* By hand: inet_ntop goes through printf, and addresses stand in every log line and Received field. */
static char *put_octet(char *at, unsigned n)
{
    if (n >= 100)
        *at++ = (char)('0' + n / 100);
    if (n >= 10)
        *at++ = (char)('0' + n / 10 % 10);
    *at++ = (char)('0' + n % 10);
    return at;
}

static void format_v4(const struct ip *ip, char *at)
{
    for (int i = 0; i < 4; i++) {
        at = put_octet(at, ip->octets[i]);
        *at++ = i < 3 ? '.' : '\0';
    }
}

char *ip_format(const struct ip *ip, char out[IP_TEXT_BYTES])
{
    if (ip->family == 4) {
        format_v4(ip, out);
        return out;
    }
    if (!ip->family || !inet_ntop(AF_INET6, ip->octets, out, IP_TEXT_BYTES))
        snprintf(out, IP_TEXT_BYTES, "-");
    return out;
}

bool ip_eq(const struct ip *a, const struct ip *b)
{
    return a->family == b->family && memcmp(a->octets, b->octets, a->family == 4 ? 4 : 16) == 0;
}

static bool is_mapped(const struct ip *ip)
{
    static const uint8_t prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

    return ip->family == 6 && memcmp(ip->octets, prefix, sizeof(prefix)) == 0;
}

static struct ip unmapped(const struct ip *ip)
{
    struct ip v4 = {.family = 4};

    if (!is_mapped(ip))
        return *ip;
    memcpy(v4.octets, ip->octets + 12, 4);
    return v4;
}

bool ip_net_parse(struct bytes text, struct ip_net *out)
{
    size_t slash = bytes_find(text, '/');
    struct ip_net net = {0};
    uint64_t prefix;

    if (!ip_parse(bytes_first(text, slash), &net.base))
        return false;
    unsigned bits = net.base.family == 4 ? 32 : 128;
    prefix = bits;
    if (slash < text.len && (!bytes_parse_u64(bytes_skip(text, slash + 1), &prefix) || prefix > bits))
        return false;
    if (is_mapped(&net.base) && prefix >= 96) { /* addresses are compared as IPv4 */
        net.base = unmapped(&net.base);
        prefix -= 96;
        bits = 32;
    }
    net.prefix = (uint8_t)prefix;
    for (unsigned i = (unsigned)prefix; i < bits; i++) /* host bits do not count */
        net.base.octets[i / 8] &= (uint8_t) ~(0x80 >> (i % 8));
    *out = net;
    return true;
}

char *ip_net_format(const struct ip_net *net, char out[IP_TEXT_BYTES])
{
    ip_format(&net->base, out);
    size_t len = strlen(out);
    snprintf(out + len, IP_TEXT_BYTES - len, "/%u", net->prefix);
    return out;
}

bool ip_net_has(const struct ip_net *net, const struct ip *address)
{
    struct ip ip = unmapped(address);

    if (ip.family == 0 || ip.family != net->base.family)
        return false;
    unsigned whole = net->prefix / 8, rest = net->prefix % 8;
    if (memcmp(ip.octets, net->base.octets, whole) != 0)
        return false;
    return !rest || ((ip.octets[whole] ^ net->base.octets[whole]) & (0xff << (8 - rest)) & 0xff) == 0;
}

bool ip_is_loopback(const struct ip *address)
{
    static const uint8_t one[16] = {[15] = 1};
    struct ip ip = unmapped(address);

    return ip.family == 4 ? ip.octets[0] == 127 : ip.family == 6 && memcmp(ip.octets, one, 16) == 0;
}

bool ip_is_unusable(const struct ip *address)
{
    static const uint8_t none[16];
    struct ip ip = unmapped(address);

    if (ip.family == 4)
        return ip.octets[0] == 0 || ip.octets[0] >= 224;
    return ip.family != 6 || ip.octets[0] == 0xff || memcmp(ip.octets, none, 16) == 0;
}

socklen_t ip_to_sockaddr(const struct ip *ip, uint16_t port, struct sockaddr_storage *out)
{
    assert(ip->family == 4 || ip->family == 6);
    memset(out, 0, sizeof(*out));
    if (ip->family == 4) {
        struct sockaddr_in *in = (struct sockaddr_in *)out;
        in->sin_family = AF_INET;
        in->sin_port = htons(port);
        memcpy(&in->sin_addr, ip->octets, 4);
        return sizeof(*in);
    }
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(port);
    memcpy(&in6->sin6_addr, ip->octets, 16);
    return sizeof(*in6);
}

bool ip_from_sockaddr(const struct sockaddr *sa, struct ip *out, uint16_t *port)
{
    struct ip ip = {0};

    if (sa->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)sa;
        ip.family = 4;
        memcpy(ip.octets, &in->sin_addr, 4);
        *port = ntohs(in->sin_port);
    } else if (sa->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)sa;
        ip.family = 6;
        memcpy(ip.octets, &in6->sin6_addr, 16);
        *port = ntohs(in6->sin6_port);
    } else {
        return false;
    }
    *out = unmapped(&ip);
    return true;
}

char *ip_format_port(const struct ip *ip, uint16_t port, char out[IP_TEXT_BYTES])
{
    char text[IP_TEXT_BYTES];

    ip_format(ip, text);
    snprintf(out, IP_TEXT_BYTES, ip->family == 6 ? "[%.46s]:%u" : "%.46s:%u", text, port);
    return out;
}

bool ip_parse_port(struct bytes text, uint16_t default_port, struct ip *ip, uint16_t *port)
{
    struct bytes host = text, rest = {0};
    uint64_t number = default_port;
    bool bracketed = text.len && text.at[0] == '[';
    struct ip parsed;

    if (bracketed) {
        size_t end = bytes_find(text, ']');
        if (end == text.len)
            return false;
        host = bytes_make(text.at + 1, end - 1);
        rest = bytes_skip(text, end + 1);
        if (rest.len && rest.at[0] != ':')
            return false;
    } else {
        size_t colon = bytes_find(text, ':');
        struct bytes after = bytes_skip(text, colon + 1);
        if (bytes_find(after, ':') == after.len) { /* a second colon: an IPv6 address without a port */
            host = bytes_first(text, colon);
            rest = bytes_skip(text, colon);
        }
    }
    if (rest.len && (!bytes_parse_u64(bytes_skip(rest, 1), &number) || number > 65535))
        return false;
    if (number == 0 || !ip_parse(host, &parsed) || (bracketed && parsed.family != 6))
        return false;
    *ip = parsed;
    *port = (uint16_t)number;
    return true;
}
