#include "engine/smtp/mime.h"

#include "engine/dkim/canon.h"
#include "engine/smtp/mime_encode.h"

/* What the header section of a part says about its body. */
struct part {
    struct bytes fields, body; /* borrowed */
    char type[64];             /* "text/plain", lower case; "" without Content-Type */
    char boundary[72];         /* RFC 2046 §5.1.1: 70 at most; "" without */
    char encoding[32];         /* lower case; "" without */
    bool has_version;
    bool unclear; /* fields that stand twice, or a value that cannot be read */
};

static bool has_8bit(struct bytes s)
{
    for (size_t i = 0; i < s.len; i++)
        if ((signed char)s.at[i] < 0)
            return true;
    return false;
}

/* ---- reading a header section ---- */

/* Past blanks, line ends and comments (RFC 5322 §3.2.2). */
static struct bytes skip_cfws(struct bytes s)
{
    size_t depth = 0, i = 0;

    for (; i < s.len; i++) {
        char c = s.at[i];
        if (c == '(')
            depth++;
        else if (c == ')' && depth)
            depth--;
        else if (c == '\\' && depth)
            i++;
        else if (!depth && c != ' ' && c != '\t' && c != '\r' && c != '\n')
            break;
    }
    return bytes_skip(s, MIN_OF(i, s.len));
}

static bool is_token(char c)
{
    return c > ' ' && c < 0x7f && !strchr("()<>@,;:\\\"/[]?=", c);
}

/* A token, or a quoted string without its quotes.  false: neither, or longer than `size` - 1. */
static bool take_word(struct bytes *rest, char *out, size_t size)
{
    struct bytes s = skip_cfws(*rest);
    bool quoted = s.len && s.at[0] == '"';
    size_t n = 0, i = quoted;

    for (; i < s.len && (quoted ? s.at[i] != '"' : is_token(s.at[i])); i++) {
        if (quoted && s.at[i] == '\\' && i + 1 < s.len)
            i++;
        if (quoted && (s.at[i] == '\r' || s.at[i] == '\n'))
            continue; /* folded */
        if (n + 1 >= size)
            return false;
        out[n++] = s.at[i];
    }
    out[n] = '\0';
    if (quoted && i == s.len)
        return false;
    *rest = skip_cfws(bytes_skip(s, i + quoted));
    return quoted || n > 0;
}

static void lower(char *s)
{
    for (; *s; s++)
        *s = ascii_lower(*s);
}

static bool take_char(struct bytes *rest, char c)
{
    if (!rest->len || rest->at[0] != c)
        return false;
    *rest = bytes_skip(*rest, 1);
    return true;
}

static bool read_type(struct part *p, struct bytes value)
{
    char type[32], subtype[32], name[32], parameter[1024];

    if (!take_word(&value, type, sizeof(type)) || !take_char(&value, '/') ||
        !take_word(&value, subtype, sizeof(subtype)))
        return false;
    strcpy(p->type, type);
    strcat(p->type, "/");
    strcat(p->type, subtype);
    lower(p->type);
    while (take_char(&value, ';')) {
        if (skip_cfws(value).len == 0)
            break; /* a semicolon at the end: often seen */
        if (!take_word(&value, name, sizeof(name)) || !take_char(&value, '=') ||
            !take_word(&value, parameter, sizeof(parameter)))
            return false;
        lower(name);
        if (strcmp(name, "boundary") != 0)
            continue;
        if (!*parameter || strlen(parameter) >= sizeof(p->boundary))
            return false;
        strcpy(p->boundary, parameter);
    }
    return true;
}

static void read_fields(struct part *p)
{
    struct bytes rest = p->fields, field;
    bool typed = false, encoded = false;

    while (dkim_field_next(&rest, &field)) {
        struct bytes name = dkim_field_name(field);
        struct bytes value = bytes_skip(field, bytes_find(field, ':') + 1);
        if (bytes_ieq(name, BYTES("MIME-Version"))) {
            p->has_version = true;
        } else if (bytes_ieq(name, BYTES("Content-Type"))) {
            p->unclear |= typed || !read_type(p, value);
            typed = true;
        } else if (bytes_ieq(name, BYTES("Content-Transfer-Encoding"))) {
            p->unclear |= encoded || !take_word(&value, p->encoding, sizeof(p->encoding));
            encoded = true;
            lower(p->encoding);
        }
    }
    p->unclear |= rest.len > 0;
}

/* Header section and body of a part: it may begin with the empty line. */
static struct part split(struct bytes content)
{
    struct part p = {.fields = content};

    for (size_t at = 0; at < content.len;) {
        size_t line = bytes_find(bytes_skip(content, at), '\n') + 1;
        if (line <= 2) {
            p.fields = bytes_first(content, at);
            p.body = bytes_skip(content, at + line);
            break;
        }
        at += line;
    }
    read_fields(&p);
    return p;
}

/* ---- writing one ---- */

/* The fields with another Content-Transfer-Encoding; it is added when there was none and `add` says so. */
static void put_fields(struct bytes fields, const char *encoding, bool add, struct buf *out)
{
    struct bytes field;

    while (dkim_field_next(&fields, &field)) {
        if (!bytes_ieq(dkim_field_name(field), BYTES("Content-Transfer-Encoding"))) {
            buf_put(out, field);
            continue;
        }
        buf_putf(out, "Content-Transfer-Encoding: %s\r\n", encoding);
        add = false;
    }
    if (add)
        buf_putf(out, "Content-Transfer-Encoding: %s\r\n", encoding);
}

static bool is_identity(const char *encoding)
{
    return !*encoding || strcmp(encoding, "7bit") == 0 || strcmp(encoding, "8bit") == 0 ||
           strcmp(encoding, "binary") == 0;
}

/* ---- the tree ---- */

static bool convert(const struct part *p, bool top, unsigned depth, struct buf *fields, struct buf *body);

static void put_part(const struct part *p, struct buf *fields, struct buf *body, struct buf *out)
{
    buf_put(out, buf_bytes(fields));
    if (p->body.at) { /* there was an empty line */
        buf_puts(out, "\r\n");
        buf_put(out, buf_bytes(body));
    }
}

/* What stands between two delimiters.  True when it was changed. */
static bool convert_content(struct bytes content, bool top, unsigned depth, struct buf *out)
{
    struct part p = split(content);
    BUF_LOCAL(fields);
    BUF_LOCAL(body);

    if (!has_8bit(p.body) || !convert(&p, top, depth, &fields, &body)) {
        buf_put(out, content);
        return false;
    }
    put_part(&p, &fields, &body, out);
    return true;
}

static bool convert_leaf(const struct part *p, bool top, struct buf *fields, struct buf *body)
{
    bool text = !*p->type || strncmp(p->type, "text/", 5) == 0;
    bool quoted =
        text && mime_quoted_count(p->body) <= p->body.len / 3; /* else nobody could read it either */

    if (!is_identity(p->encoding))
        return false; /* it says that it is encoded, and is not */
    put_fields(p->fields, quoted ? "quoted-printable" : "base64", true, fields);
    if (quoted)
        mime_put_quoted_printable(p->body, body);
    else
        mime_put_base64(p->body, body);
    if (!quoted && top)
        buf_puts(body, "\r\n");
    return true;
}

/* Ignored by readers (RFC 2046 §5.1.1), so it need not survive. */
static void put_ignored(struct bytes text, struct buf *out)
{
    for (size_t i = 0; i < text.len; i++)
        buf_putc(out, (signed char)text.at[i] < 0 ? '?' : text.at[i]);
}

/* Is this line, without its end, a delimiter?  *last: of the closing kind. */
static bool is_delimiter(struct bytes line, const char *boundary, bool *last)
{
    size_t len = strlen(boundary);

    if (line.len < len + 2 || memcmp(line.at, "--", 2) != 0 || memcmp(line.at + 2, boundary, len) != 0)
        return false;
    line = bytes_trim(bytes_skip(line, len + 2));
    while (line.len && (line.at[line.len - 1] == '\r' || line.at[line.len - 1] == '\n'))
        line = bytes_trim(bytes_first(line, line.len - 1));
    *last = bytes_eq(line, BYTES("--"));
    return *last || line.len == 0;
}

/* Finds the next delimiter line at or behind `from`: [*begin, *end), its line end included. */
static bool find_delimiter(struct bytes body, size_t from, const char *boundary, size_t *begin, size_t *end,
                           bool *last)
{
    for (size_t at = from; at < body.len; at = *end) {
        struct bytes line = bytes_skip(body, at);
        line = bytes_first(line, bytes_find(line, '\n') + 1);
        *begin = at;
        *end = at + line.len;
        if (is_delimiter(line, boundary, last))
            return true;
    }
    return false;
}

static bool convert_multipart(const struct part *p, unsigned depth, struct buf *fields, struct buf *body)
{
    size_t begin, end, next_begin, next_end;
    bool last = false, changed = false;

    if (!find_delimiter(p->body, 0, p->boundary, &begin, &end, &last))
        return false;
    put_ignored(bytes_first(p->body, begin), body);
    while (!last) {
        bool found = find_delimiter(p->body, end, p->boundary, &next_begin, &next_end, &last);
        size_t stop = found ? next_begin : p->body.len;
        size_t newline = found && stop >= end + 2 ? 2 : 0; /* the delimiter's own */
        struct bytes content = bytes_first(bytes_skip(p->body, end), stop - newline - end);
        buf_put(body, bytes_first(bytes_skip(p->body, begin), end - begin));
        changed |= convert_content(content, !found, depth + 1, body);
        if (newline)
            buf_puts(body, "\r\n");
        if (!found) /* never closed: seen, and harmless */
            begin = end = p->body.len;
        else
            begin = next_begin, end = next_end;
        if (!found)
            break;
    }
    buf_put(body, bytes_first(bytes_skip(p->body, begin), end - begin));
    put_ignored(bytes_skip(p->body, end), body);
    put_fields(p->fields, has_8bit(buf_bytes(body)) ? "8bit" : "7bit", false, fields);
    return changed || !has_8bit(buf_bytes(body));
}

static bool convert_message(const struct part *p, bool top, unsigned depth, struct buf *fields,
                            struct buf *body)
{
    if (!convert_content(p->body, top, depth + 1, body))
        return false;
    put_fields(p->fields, has_8bit(buf_bytes(body)) ? "8bit" : "7bit", false, fields);
    return true;
}

/* false: the part stays as it is; what was written to the outputs is worth nothing then. */
static bool convert(const struct part *p, bool top, unsigned depth, struct buf *fields, struct buf *body)
{
    bool composite = strncmp(p->type, "multipart/", 10) == 0;

    if (p->unclear || depth > MIME_DEPTH_MAX)
        return false;
    if (composite)
        return strcmp(p->type, "multipart/signed") != 0 && *p->boundary && is_identity(p->encoding) &&
               convert_multipart(p, depth, fields, body);
    if (strcmp(p->type, "message/rfc822") == 0)
        return is_identity(p->encoding) && convert_message(p, top, depth, fields, body);
    if (strncmp(p->type, "message/", 8) == 0 && strcmp(p->type, "message/global") != 0)
        return false; /* RFC 2046 §5.2: 7-bit only, by their definition */
    return convert_leaf(p, top, fields, body);
}

static bool is_utf8(struct bytes s)
{
    for (size_t i = 0; i < s.len;) {
        unsigned char c = (unsigned char)s.at[i++];
        unsigned more = c < 0x80                ? 0
                        : c >= 0xc2 && c < 0xe0 ? 1
                        : c >= 0xe0 && c < 0xf0 ? 2
                        : c >= 0xf0 && c < 0xf5 ? 3
                                                : 9;
        if (more == 9)
            return false;
        for (; more; more--, i++)
            if (i == s.len || ((unsigned char)s.at[i] & 0xc0) != 0x80)
                return false;
    }
    return true;
}

bool mime_to_7bit(struct bytes fields, struct bytes body, struct buf *fields_out, struct buf *body_out)
{
    struct part p = {.fields = fields, .body = body};
    BUF_LOCAL(new_fields);
    BUF_LOCAL(new_body);

    if (!has_8bit(body))
        return false;
    read_fields(&p);
    if (!convert(&p, true, 0, &new_fields, &new_body))
        return false;
    buf_put(fields_out, buf_bytes(&new_fields));
    if (!p.has_version) /* without it readers need not look at the others: RFC 2045 §4 */
        buf_puts(fields_out, "MIME-Version: 1.0\r\n");
    if (!*p.type)
        buf_putf(fields_out, "Content-Type: text/plain; charset=%s\r\n",
                 is_utf8(body) ? "utf-8" : "unknown-8bit");
    buf_put(body_out, buf_bytes(&new_body));
    return true;
}
