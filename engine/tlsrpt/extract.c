#include "engine/tlsrpt/extract.h"

#include "engine/tlsrpt/gzip.h"
#include "engine/tlsrpt/incoming.h"

#define DEPTH_MAX    8
#define BOUNDARY_MAX 200

struct extraction {
    tlsrpt_json_fn fn;
    void *arg;
    const char *why;
    size_t parts, reports;
    bool too_large;
};

/* ---- contents ---- */

static bool is_json(struct bytes s)
{
    if (bytes_starts(s, BYTES("\xef\xbb\xbf")))
        s = bytes_skip(s, 3);
    while (s.len && strchr(" \t\r\n", s.at[0]) && s.at[0])
        s = bytes_skip(s, 1);
    return s.len && s.at[0] == '{';
}

/* True: it was a report, or was meant as one. */
static bool take_content(struct extraction *x, struct bytes content, bool packed_before)
{
    BUF_LOCAL(plain);

    if (is_json(content)) {
        if (x->reports++ < TLSRPT_REPORTS_MAX)
            x->fn(x->arg, content);
        return true;
    }
    if (!gzip_is(content))
        return false;
    enum err e = gzip_unpack(content, TLSRPT_JSON_MAX, &plain);
    if (e) {
        x->why = e == ERR_FULL ? "it unpacks to more than 10 MiB" : "its gzip is damaged";
        x->too_large |= e == ERR_FULL;
        return true;
    }
    if (!packed_before && gzip_is(buf_bytes(&plain))) /* packed by the sender, and again by his web server */
        return take_content(x, buf_bytes(&plain), true);
    if (!is_json(buf_bytes(&plain)))
        x->why = "what is packed in it is no JSON";
    else
        take_content(x, buf_bytes(&plain), true);
    return true;
}

/* ---- transfer encodings ---- */

static int base64_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* RFC 2045 §6.8: octets that are not of the alphabet are passed over, and '=' ends it. */
static void decode_base64(struct bytes in, struct buf *out)
{
    unsigned bits = 0, have = 0;

    for (size_t i = 0; i < in.len && in.at[i] != '='; i++) {
        int v = base64_value(in.at[i]);
        if (v < 0)
            continue;
        bits = (bits << 6 | (unsigned)v) & 0xffffff;
        have += 6;
        if (have >= 8) {
            have -= 8;
            buf_putc(out, (char)(bits >> have & 0xff));
        }
    }
}

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = ascii_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* RFC 2045 §6.7; what is no escape stays as it is. */
static void decode_quoted(struct bytes in, struct buf *out)
{
    for (size_t i = 0; i < in.len; i++) {
        struct bytes rest = bytes_skip(in, i + 1);
        if (in.at[i] != '=') {
            buf_putc(out, in.at[i]);
        } else if (bytes_starts(rest, BYTES("\r\n"))) {
            i += 2;
        } else if (bytes_starts(rest, BYTES("\n"))) {
            i += 1;
        } else if (rest.len >= 2 && hex(rest.at[0]) >= 0 && hex(rest.at[1]) >= 0) {
            buf_putc(out, (char)(hex(rest.at[0]) * 16 + hex(rest.at[1])));
            i += 2;
        } else {
            buf_putc(out, '=');
        }
    }
}

/* ---- header fields ---- */

struct part {
    struct buf type, encoding, disposition; /* unfolded values */
    struct bytes body;
};

static void part_fini(struct part *p)
{
    buf_fini(&p->type);
    buf_fini(&p->encoding);
    buf_fini(&p->disposition);
}

/* A line without its end; *s goes on behind it. */
static struct bytes take_line(struct bytes *s)
{
    struct bytes line = bytes_first(*s, bytes_find(*s, '\n'));

    *s = bytes_skip(*s, line.len + 1);
    if (line.len && line.at[line.len - 1] == '\r')
        line.len--;
    return line;
}

static struct buf *field_of(struct part *p, struct bytes line)
{
    const struct {
        const char *name;
        struct buf *value;
    } fields[] = {{"content-type:", &p->type},
                  {"content-transfer-encoding:", &p->encoding},
                  {"content-disposition:", &p->disposition}};

    for (size_t i = 0; i < COUNT_OF(fields); i++)
        if (bytes_istarts(line, bytes_of(fields[i].name)) && !fields[i].value->len) {
            buf_put(fields[i].value, bytes_trim(bytes_skip(line, strlen(fields[i].name))));
            return fields[i].value;
        }
    return NULL;
}

static void read_part(struct bytes octets, struct part *p)
{
    struct buf *field = NULL;

    while (octets.len) {
        struct bytes line = take_line(&octets);
        if (!line.len)
            break;
        if (line.at[0] != ' ' && line.at[0] != '\t')
            field = field_of(p, line);
        else if (field)
            buf_put(field, line);
    }
    p->body = octets;
}

/* "application/gzip" of a Content-Type value. */
static struct bytes word_of(const struct buf *value)
{
    return bytes_trim(bytes_first(buf_bytes(value), bytes_find(buf_bytes(value), ';')));
}

/* A parameter's value, quoted or not (RFC 2045 §5.1); appended. */
static bool parameter(const struct buf *value, struct bytes name, struct buf *out)
{
    struct bytes rest = bytes_skip(buf_bytes(value), bytes_find(buf_bytes(value), ';'));

    while (rest.len) {
        rest = bytes_trim(bytes_skip(rest, 1));
        size_t equals = bytes_find(rest, '=');
        bool wanted = bytes_ieq(bytes_trim(bytes_first(rest, equals)), name);
        rest = bytes_trim(bytes_skip(rest, equals + 1));
        if (!rest.len || rest.at[0] != '"') {
            if (wanted)
                buf_put(out, bytes_trim(bytes_first(rest, bytes_find(rest, ';'))));
        } else {
            size_t i = 1;
            for (; i < rest.len && rest.at[i] != '"'; i++) {
                i += rest.at[i] == '\\' && i + 1 < rest.len;
                if (wanted)
                    buf_putc(out, rest.at[i]);
            }
            rest = bytes_skip(rest, i + 1);
        }
        if (wanted)
            return true;
        rest = bytes_skip(rest, bytes_find(rest, ';'));
    }
    return false;
}

/* ---- structure ---- */

static void take_part(struct extraction *x, struct bytes octets, unsigned depth);

/* The parts between lines "--BOUNDARY"; what stands before the first and after the last is for people. */
static void take_parts(struct extraction *x, struct bytes body, struct bytes boundary, unsigned depth)
{
    const char *start = NULL;

    while (body.len) {
        const char *here = body.at;
        struct bytes line = take_line(&body);
        if (!bytes_starts(line, BYTES("--")) || !bytes_starts(bytes_skip(line, 2), boundary))
            continue;
        struct bytes tail = bytes_trim(bytes_skip(line, 2 + boundary.len));
        bool last = bytes_eq(tail, BYTES("--"));
        if (tail.len && !last)
            continue; /* another, longer boundary */
        if (start)
            take_part(x, bytes_make(start, (size_t)(here - start)), depth);
        start = body.at;
        if (last)
            return;
    }
    if (start && body.at > start) /* cut off: the last part is perhaps whole */
        take_part(x, bytes_make(start, (size_t)(body.at - start)), depth);
}

static bool may_be_report(const struct part *p)
{
    static const char *const types[] = {"application/tlsrpt+gzip", "application/tlsrpt+json",
                                        "application/gzip",        "application/x-gzip",
                                        "application/json",        "application/octet-stream"};
    struct bytes type = word_of(&p->type);
    BUF_LOCAL(name);

    for (size_t i = 0; i < COUNT_OF(types); i++)
        if (bytes_ieq(type, bytes_of(types[i])))
            return true;
    if (!parameter(&p->disposition, BYTES("filename"), &name))
        parameter(&p->type, BYTES("name"), &name);
    return bytes_iends(buf_bytes(&name), BYTES(".json")) || bytes_iends(buf_bytes(&name), BYTES(".gz"));
}

static void take_leaf(struct extraction *x, const struct part *p)
{
    struct bytes encoding = word_of(&p->encoding);
    BUF_LOCAL(content);

    if (!may_be_report(p))
        return;
    if (bytes_ieq(encoding, BYTES("base64")))
        decode_base64(p->body, &content);
    else if (bytes_ieq(encoding, BYTES("quoted-printable")))
        decode_quoted(p->body, &content);
    else
        buf_put(&content, p->body);
    if (!take_content(x, buf_bytes(&content), false) && !x->why)
        x->why = "an attached file is neither JSON nor gzip";
}

static void take_part(struct extraction *x, struct bytes octets, unsigned depth)
{
    struct part p = {0};
    BUF_LOCAL(boundary);

    if (x->parts++ >= TLSRPT_PARTS_MAX || depth > DEPTH_MAX)
        return;
    read_part(octets, &p);
    if (bytes_istarts(buf_bytes(&p.type), BYTES("multipart/"))) {
        if (parameter(&p.type, BYTES("boundary"), &boundary) && boundary.len && boundary.len <= BOUNDARY_MAX)
            take_parts(x, p.body, buf_bytes(&boundary), depth + 1);
    } else if (bytes_ieq(word_of(&p.type), BYTES("message/rfc822"))) {
        take_part(x, p.body, depth + 1);
    } else {
        take_leaf(x, &p);
    }
    part_fini(&p);
}

enum err tlsrpt_extract(struct bytes octets, tlsrpt_json_fn fn, void *arg, const char **why)
{
    struct extraction x = {.fn = fn, .arg = arg};

    if (!take_content(&x, octets, false))
        take_part(&x, octets, 0);
    if (x.too_large) {
        *why = x.why;
        return ERR_FULL;
    }
    if (x.reports)
        return OK;
    *why =
        x.why ? x.why : "there is no TLS report in it: neither JSON, nor gzip, nor a mail with such a part";
    return ERR_INVALID;
}
