#include "engine/dkim/from.h"

#define ADDRESS_MAX 1024

struct scan {
    char text[ADDRESS_MAX]; /* what may be an address, without comments and blanks */
    size_t len;
    size_t domain; /* behind its last '@' outside of quotes; 0: none */
    int comments;  /* how deep */
    bool quoted, angle, escaped, over, too_long;
};

static void forget(struct scan *s)
{
    s->len = s->domain = 0;
    s->too_long = false;
}

static void keep(struct scan *s, char c)
{
    if (s->len == sizeof(s->text)) {
        s->too_long = true;
        return;
    }
    s->text[s->len++] = c;
    if (c == '@')
        s->domain = s->len;
}

/* True while the octet is part of a comment or of a quoted string. */
static bool take_protected(struct scan *s, char c)
{
    if (!s->comments && !s->quoted)
        return false;
    if (s->escaped)
        s->escaped = false;
    else if (c == '\\')
        s->escaped = true;
    else if (s->comments)
        s->comments += c == '(' ? 1 : c == ')' ? -1 : 0;
    else if (c == '"')
        s->quoted = false;
    return true;
}

static void take(struct scan *s, char c)
{
    if (take_protected(s, c))
        return;
    switch (c) {
    case ' ':
    case '\t':
    case '\r':
    case '\n': break;
    case '(': s->comments = 1; break;
    case '"':
        s->quoted = true;
        keep(s, '_'); /* a quoted string holds no domain: its '@' does not count */
        break;
    case '<':
        forget(s);
        s->angle = true;
        break;
    case '>': s->over = s->angle; break;
    case ':': /* what stood before was a group's name, or a route */ forget(s); break;
    case ',':
    case ';':
        s->over = !s->angle && s->domain;
        if (!s->over && !s->angle)
            forget(s);
        break;
    default: keep(s, c);
    }
}

bool dkim_from_domain(struct bytes value, char out[DOMAIN_MAX_BYTES + 1])
{
    struct scan s;

    s.comments = 0;
    s.quoted = s.angle = s.escaped = s.over = false;
    forget(&s);
    for (size_t i = 0; i < value.len && !s.over; i++)
        take(&s, value.at[i]);
    if (!s.domain || s.too_long || s.quoted || s.comments || (s.angle && !s.over))
        return false;
    struct bytes domain = bytes_make(s.text + s.domain, s.len - s.domain);
    return domain.len && !domain_is_literal(domain) && domain_normalise(domain, out) == OK;
}
