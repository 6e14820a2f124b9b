#include "policy/domain.h"

#include <idn2.h>

#include "base/ip.h"

/* A name of 255 octets on the wire (RFC 1035 §2.3.4) is 253 characters of text. */
#define NAME_MAX_BYTES  253
#define LABEL_MAX_BYTES 63
/* Longer than any U-label form of a legal name. */
#define INPUT_MAX_BYTES 1024

/* Only what a host name may hold, and '_', which is no host name but stands in real zones. */
static bool is_label_octet(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

static bool is_label(struct bytes label)
{
    if (label.len == 0 || label.len > LABEL_MAX_BYTES)
        return false;
    if (label.at[0] == '-' || label.at[label.len - 1] == '-') /* RFC 5321 §4.1.2: sub-domain */
        return false;
    for (size_t i = 0; i < label.len; i++)
        if (!is_label_octet(label.at[i]))
            return false;
    return true;
}

/* `name` is lower case already. */
static bool is_name(struct bytes name)
{
    if (name.len == 0 || name.len > NAME_MAX_BYTES)
        return false;
    for (;;) {
        size_t dot = bytes_find(name, '.');

        if (!is_label(bytes_first(name, dot)))
            return false;
        if (dot == name.len)
            return true;
        name = bytes_skip(name, dot + 1);
    }
}

static bool starts_ace(struct bytes s, size_t at)
{
    return bytes_istarts(bytes_skip(s, at), BYTES("xn--"));
}

/* Plain ASCII labels need no IDNA, and most domains are that. */
static bool needs_idna(struct bytes s)
{
    for (size_t i = 0; i < s.len; i++) {
        if ((unsigned char)s.at[i] >= 0x80)
            return true;
        if ((i == 0 || s.at[i - 1] == '.') && starts_ace(s, i))
            return true;
    }
    return false;
}

static struct bytes without_trailing_dot(struct bytes s)
{
    return s.len > 0 && s.at[s.len - 1] == '.' ? bytes_first(s, s.len - 1) : s;
}

static enum err take_name(struct bytes name, char *out)
{
    char lower[NAME_MAX_BYTES + 1];

    name = without_trailing_dot(name);
    if (name.len > NAME_MAX_BYTES)
        return ERR_INVALID;
    for (size_t i = 0; i < name.len; i++)
        lower[i] = ascii_lower(name.at[i]);
    if (!is_name(bytes_make(lower, name.len)))
        return ERR_INVALID;
    memcpy(out, lower, name.len);
    out[name.len] = '\0';
    return OK;
}

static enum err take_idn(struct bytes name, char *out)
{
    char text[INPUT_MAX_BYTES + 1];
    uint8_t *ascii = NULL;
    enum err e;

    if (name.len > INPUT_MAX_BYTES || bytes_find(name, '\0') != name.len)
        return ERR_INVALID;
    memcpy(text, name.at, name.len);
    text[name.len] = '\0';
    if (idn2_lookup_u8((const uint8_t *)text, &ascii, IDN2_NONTRANSITIONAL | IDN2_NFC_INPUT) != IDN2_OK)
        return ERR_INVALID;
    e = take_name(bytes_of((const char *)ascii), out);
    idn2_free(ascii);
    return e;
}

static enum err take_literal(struct bytes literal, char *out)
{
    struct bytes inner = bytes_make(literal.at + 1, literal.len - 2);
    bool tagged = bytes_istarts(inner, BYTES("IPv6:"));
    struct ip ip;

    if (tagged)
        inner = bytes_skip(inner, 5);
    /* RFC 5321 §4.1.3: IPv6 carries its tag, IPv4 has none. */
    if (inner.len >= IP_TEXT_BYTES || !ip_parse(inner, &ip) || (ip.family == 6) != tagged)
        return ERR_INVALID;
    for (size_t i = 0; i < literal.len; i++)
        out[i] = ascii_lower(literal.at[i]);
    out[literal.len] = '\0';
    return OK;
}

enum err domain_normalise(struct bytes domain, char out[DOMAIN_MAX_BYTES + 1])
{
    if (domain_is_literal(domain))
        return take_literal(domain, out);
    return needs_idna(domain) ? take_idn(domain, out) : take_name(domain, out);
}

bool domain_is_literal(struct bytes domain)
{
    return domain.len >= 2 && domain.at[0] == '[' && domain.at[domain.len - 1] == ']';
}

bool domain_has_suffix(struct bytes domain, struct bytes suffix)
{
    return suffix.len > 1 && suffix.at[0] == '.' && domain.len > suffix.len && bytes_iends(domain, suffix);
}

struct bytes domain_of_address(struct bytes address)
{
    for (size_t i = address.len; i > 0; i--)
        if (address.at[i - 1] == '@')
            return bytes_skip(address, i);
    return bytes_make(address.at, 0);
}
