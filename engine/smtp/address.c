#include "engine/smtp/address.h"

#include "base/ip.h"

#define LABEL_MAX  63
#define DOMAIN_MAX 255

static const char *const fault_texts[] = {
    [ADDRESS_OK] = "fine",
    [ADDRESS_NO_BRACKETS] = "the address must stand in angle brackets: <name@example.com>",
    [ADDRESS_BAD_LOCAL] = "the part before the @ is not well-formed",
    [ADDRESS_LONG_LOCAL] = "the part before the @ is longer than 64 octets",
    [ADDRESS_NO_DOMAIN] = "the address needs a domain: <name@example.com>",
    [ADDRESS_BAD_DOMAIN] = "the domain is not well-formed",
    [ADDRESS_TOO_LONG] = "the address is longer than 254 octets",
    [ADDRESS_BAD_UTF8] = "the address is not well-formed UTF-8",
};

const char *address_fault_text(enum address_fault fault)
{
    return fault_texts[fault];
}

static bool is_alnum(unsigned char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static bool is_atext(unsigned char c)
{
    return is_alnum(c) || c >= 0x80 || (c && strchr("!#$%&'*+-/=?^_`{|}~", c));
}

/* Length of the well-formed sequence at `at`, or 0. */
static size_t utf8_sequence(const unsigned char *at, size_t len)
{
    static const struct {
        unsigned char first, last, second_min, second_max;
        size_t octets;
    } rows[] = {
        {0x00, 0x7f, 0, 0, 1},       {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
        {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
        {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };

    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        if (at[0] < rows[r].first || at[0] > rows[r].last)
            continue;
        if (rows[r].octets > len)
            return 0;
        if (rows[r].octets > 1 && (at[1] < rows[r].second_min || at[1] > rows[r].second_max))
            return 0;
        for (size_t i = 2; i < rows[r].octets; i++)
            if ((at[i] & 0xc0) != 0x80)
                return 0;
        return rows[r].octets;
    }
    return 0;
}

bool address_is_utf8(struct bytes in)
{
    for (size_t i = 0, n; i < in.len; i += n)
        if ((n = utf8_sequence((const unsigned char *)in.at + i, in.len - i)) == 0)
            return false;
    return true;
}

/* Length of the local part at the start of `in`; 0 when there is none that is well-formed. */
static size_t local_length(struct bytes in)
{
    if (in.len == 0)
        return 0;
    if (in.at[0] != '"') {
        size_t n = 0;
        while (n < in.len && (is_atext((unsigned char)in.at[n]) || in.at[n] == '.'))
            n++;
        return n;
    }
    for (size_t i = 1; i < in.len; i++) { /* §4.1.2 Quoted-string */
        unsigned char c = (unsigned char)in.at[i];
        if (c == '"')
            return i + 1;
        if (c == '\\' && ++i < in.len)
            c = (unsigned char)in.at[i];
        if (c < ' ' || c == 0x7f)
            return 0;
    }
    return 0;
}

static bool is_literal(struct bytes domain)
{
    static const struct bytes v6 = {"IPv6:", 5};
    struct bytes inner = {domain.at + 1, domain.len - 2};
    struct ip ip;

    if (domain.len < 3 || domain.at[0] != '[' || domain.at[domain.len - 1] != ']')
        return false;
    if (bytes_istarts(inner, v6))
        return ip_parse(bytes_skip(inner, v6.len), &ip) && ip.family == 6;
    return ip_parse(inner, &ip) && ip.family == 4;
}

static bool is_domain(struct bytes domain, bool utf8)
{
    if (domain.len == 0 || domain.len > DOMAIN_MAX)
        return false;
    while (domain.len) {
        struct bytes label = bytes_first(domain, bytes_find(domain, '.'));
        if (label.len == 0 || label.at[0] == '-' || label.at[label.len - 1] == '-')
            return false;
        bool plain = true;
        for (size_t i = 0; i < label.len; i++) {
            unsigned char c = (unsigned char)label.at[i];
            plain &= c < 0x80;
            if (!is_alnum(c) && c != '-' && c != '_' && !(utf8 && c >= 0x80))
                return false;
        }
        if (plain && label.len > LABEL_MAX)
            return false;
        domain = bytes_skip(domain, label.len);
        if (domain.len == 1)
            return false; /* a final dot */
        domain = bytes_skip(domain, 1);
    }
    return true;
}

bool address_is_helo(struct bytes in)
{
    if (is_literal(in))
        return true;
    if (in.len > 1 && in.at[in.len - 1] == '.')
        in.len--;
    return is_domain(in, false);
}

/* local@domain at the start of `in`, up to `end` or the end of input. */
static enum address_fault take_mailbox(struct bytes in, char end, struct address *out, size_t *used)
{
    size_t local = local_length(in);

    if (local == 0)
        return ADDRESS_BAD_LOCAL;
    struct bytes rest = bytes_skip(in, local);
    if (rest.len == 0 || rest.at[0] == end)
        return ADDRESS_NO_DOMAIN;
    if (rest.at[0] != '@')
        return ADDRESS_BAD_LOCAL;
    rest = bytes_skip(rest, 1);
    struct bytes domain = end ? bytes_first(rest, bytes_find(rest, end)) : rest;
    if (end && domain.len == rest.len)
        return ADDRESS_NO_BRACKETS;
    if (!is_literal(domain) && !is_domain(domain, true))
        return ADDRESS_BAD_DOMAIN;
    struct address a = {bytes_first(in, local + 1 + domain.len), bytes_first(in, local), domain, false};
    if (a.text.len > ADDRESS_PATH_MAX - 2)
        return ADDRESS_TOO_LONG;
    for (size_t i = 0; i < a.text.len; i++)
        a.utf8 |= (unsigned char)a.text.at[i] >= 0x80;
    if (a.utf8 && !address_is_utf8(a.text))
        return ADDRESS_BAD_UTF8;
    *out = a;
    *used = a.text.len;
    return local > ADDRESS_LOCAL_MAX ? ADDRESS_LONG_LOCAL : ADDRESS_OK;
}

enum address_fault address_parse_mailbox(struct bytes in, struct address *out)
{
    size_t used;

    return take_mailbox(in, '\0', out, &used);
}

/* "@one.example,@two.example:" */
static bool route_length(struct bytes in, size_t *out)
{
    size_t at = 0;

    if (in.len == 0 || in.at[0] != '@') {
        *out = 0;
        return true;
    }
    while (at < in.len && in.at[at] == '@') {
        struct bytes hop = bytes_skip(in, at + 1);
        size_t n = MIN_OF(bytes_find(hop, ','), bytes_find(hop, ':'));
        if (n == hop.len || !is_domain(bytes_first(hop, n), true))
            return false;
        at += n + 2;
        if (hop.at[n] == ':') {
            *out = at;
            return true;
        }
    }
    return false;
}

enum address_fault address_parse_path(struct bytes in, struct address *out, size_t *used)
{
    size_t route, mailbox;

    if (in.len < 2 || in.at[0] != '<')
        return ADDRESS_NO_BRACKETS;
    if (in.at[1] == '>') {
        *out = (struct address){.text = {"", 0}, .local = {"", 0}, .domain = {"", 0}};
        *used = 2;
        return ADDRESS_OK;
    }
    if (!route_length(bytes_skip(in, 1), &route))
        return ADDRESS_BAD_LOCAL;
    enum address_fault fault = take_mailbox(bytes_skip(in, 1 + route), '>', out, &mailbox);
    if (fault == ADDRESS_OK || fault == ADDRESS_LONG_LOCAL)
        *used = 1 + route + mailbox + 1;
    return fault;
}
