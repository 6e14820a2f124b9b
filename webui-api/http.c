#include "webui-api/http.h"

#include <stdio.h>
#include <strings.h>

#include "base/log.h"
#include "base/mem.h"
#include "webui-api/json_write.h"

static const char *const methods[HTTP_METHODS] = {"GET", "PUT", "POST", "DELETE"};

const char *http_method_name(enum http_method method)
{
    return methods[method];
}

bool http_method_parse(const char *name, enum http_method *out)
{
    for (size_t i = 0; i < COUNT_OF(methods); i++) {
        if (strcmp(methods[i], name) == 0) {
            *out = (enum http_method)i;
            return true;
        }
    }
    *out = HTTP_GET;
    return strcmp(name, "HEAD") == 0;
}

/* ---- the gate ---- */

static bool is_token(struct bytes s)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.at[i];
        bool alnum = (c >= '0' && c <= '9') || (ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z');
        if (!alnum && (c == '\0' || !strchr("!#$%&'*+-.^_`|~", c)))
            return false;
    }
    return s.len > 0;
}

static bool has_control(struct bytes s)
{
    for (size_t i = 0; i < s.len; i++)
        if (((unsigned char)s.at[i] < ' ' && s.at[i] != '\t') || s.at[i] == 0x7f)
            return true;
    return false;
}

const char *http_gate(struct bytes version, const struct http_field *headers, size_t count)
{
    const struct http_field *length = NULL, *coding = NULL, *host = NULL;
    uint64_t octets;

    if (!bytes_eq(version, BYTES("HTTP/1.1")) && !bytes_eq(version, BYTES("HTTP/1.0")))
        return "only HTTP/1.1 and HTTP/1.0 are spoken here";
    for (size_t i = 0; i < count; i++) {
        const struct http_field *h = &headers[i];
        const struct http_field **once = bytes_ieq(h->name, BYTES("Content-Length"))      ? &length
                                         : bytes_ieq(h->name, BYTES("Transfer-Encoding")) ? &coding
                                         : bytes_ieq(h->name, BYTES("Host"))              ? &host
                                                                                          : NULL;
        if (!is_token(h->name))
            return "a header's name is not a token (RFC 9110 section 5.6.2)";
        if (has_control(h->value))
            return "a header's value holds a control character";
        if (once && *once)
            return "Host, Content-Length and Transfer-Encoding may stand once only";
        if (once)
            *once = h;
    }
    if (!host && bytes_eq(version, BYTES("HTTP/1.1")))
        return "the Host header is missing";
    if (length && coding)
        return "Content-Length and Transfer-Encoding together can be read in two ways";
    if (length && !bytes_parse_u64(length->value, &octets))
        return "Content-Length is not a number";
    if (coding && !bytes_ieq(coding->value, BYTES("chunked")))
        return "the only Transfer-Encoding is chunked";
    if (coding && bytes_eq(version, BYTES("HTTP/1.0")))
        return "HTTP/1.0 has no Transfer-Encoding";
    return NULL;
}

size_t http_head_bytes(size_t request_line_bytes, const struct http_field *headers, size_t count)
{
    size_t sum = request_line_bytes + 2;

    for (size_t i = 0; i < count; i++)
        sum += headers[i].name.len + 2 + headers[i].value.len + 2;
    return sum + 2;
}

/* ---- the target ---- */

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = ascii_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static const char *decode(struct bytes s, bool plus, struct arena *arena, const char **out)
{
    char *to = arena_alloc(arena, s.len + 1);
    size_t len = 0;

    for (size_t i = 0; i < s.len; i++) {
        char c = s.at[i];
        if (c == '%') {
            int high = i + 2 < s.len ? hex(s.at[i + 1]) : -1;
            int low = i + 2 < s.len ? hex(s.at[i + 2]) : -1;
            if (high < 0 || low < 0)
                return "the address holds a percent sign without two hexadecimal digits";
            c = (char)(high * 16 + low);
            i += 2;
        } else if (c == '+' && plus) {
            c = ' ';
        }
        if ((unsigned char)c < ' ' || c == 0x7f)
            return "the address holds a control character";
        to[len++] = c;
    }
    to[len] = '\0';
    *out = to;
    return NULL;
}

static const char *read_path(struct bytes path, struct arena *arena, struct http_target *out)
{
    const char *why = NULL;

    if (!path.len || *path.at != '/')
        return "the address does not begin with a slash";
    for (bool more = path.len > 1; more && !why;) {
        path = bytes_skip(path, 1);
        struct bytes one = bytes_first(path, bytes_find(path, '/'));
        if (out->segment_count == HTTP_SEGMENTS_MAX)
            return "the address has too many parts";
        why = decode(one, false, arena, &out->segments[out->segment_count++]);
        path = bytes_skip(path, one.len);
        more = path.len > 0; /* "/a/" has an empty second segment: it is not "/a" */
    }
    return why;
}

static const char *read_params(struct bytes query, struct arena *arena, struct http_target *out)
{
    while (query.len) {
        struct bytes one = bytes_first(query, bytes_find(query, '&'));
        size_t equals = bytes_find(one, '=');
        query = bytes_skip(query, one.len + 1);
        if (!one.len)
            continue;
        if (out->param_count == HTTP_PARAMS_MAX)
            return "there are too many parameters";
        struct http_param *p = &out->params[out->param_count++];
        const char *why = decode(bytes_first(one, equals), true, arena, &p->name);
        if (!why)
            why = decode(bytes_skip(one, equals + 1), true, arena, &p->value);
        if (why)
            return why;
        for (size_t i = 0; i + 1 < out->param_count; i++)
            if (strcmp(out->params[i].name, p->name) == 0)
                return "a parameter is given twice";
    }
    return NULL;
}

const char *http_target_parse(struct bytes target, struct arena *arena, struct http_target *out)
{
    struct http_target t = {0};
    size_t path_len = bytes_find(target, '?');
    const char *why = read_path(bytes_first(target, path_len), arena, &t);

    if (!why)
        why = read_params(bytes_skip(target, path_len + 1), arena, &t);
    if (!why)
        *out = t;
    return why;
}

/* ---- the body ---- */

bool http_body_add(struct http_body *b, struct bytes more)
{
    if (more.len > HTTP_BODY_MAX - b->len)
        return false;
    if (b->len + more.len + 1 > b->cap) {
        size_t cap = MAX_OF(b->cap * 2, b->len + more.len + 1);
        char *grown = mem_alloc(cap);
        if (b->len)
            memcpy(grown, b->at, b->len);
        mem_wipe_free(b->at, b->cap);
        b->at = grown;
        b->cap = cap;
    }
    if (more.len)
        memcpy(b->at + b->len, more.at, more.len);
    b->len += more.len;
    b->at[b->len] = '\0';
    return true;
}

void http_body_fini(struct http_body *b)
{
    mem_wipe_free(b->at, b->cap);
    *b = (struct http_body){0};
}

void request_fini(struct request *r)
{
    http_body_fini(&r->body);
    buf_fini(&r->reply.body);
    arena_fini(&r->arena);
}

/* ---- the reply ---- */

void reply_ok(struct request *r, const char *type)
{
    r->reply.status = 200;
    r->reply.type = type;
}

static void put_error(struct request *r, unsigned status, const char *code, struct bytes details,
                      const char *text)
{
    struct buf *out = &r->reply.body;

    buf_clear(out);
    r->reply.status = status;
    r->reply.type = TYPE_JSON;
    json_begin(out, NULL, '{');
    json_begin(out, "error", '{');
    json_put_text(out, "code", code);
    json_put_text(out, "message", text);
    json_put_raw(out, "details", details.len ? details : BYTES("[]"));
    json_end(out, '}');
    json_end(out, '}');
    buf_putc(out, '\n');
}

void reply_error_details(struct request *r, unsigned status, const char *code, struct bytes details,
                         const char *format, ...)
{
    BUF_LOCAL(text);
    va_list ap;

    va_start(ap, format);
    buf_putv(&text, format, ap);
    va_end(ap);
    put_error(r, status, code, details, buf_str(&text));
}

void reply_error(struct request *r, unsigned status, const char *code, const char *format, ...)
{
    BUF_LOCAL(text);
    va_list ap;

    va_start(ap, format);
    buf_putv(&text, format, ap);
    va_end(ap);
    put_error(r, status, code, (struct bytes){0}, buf_str(&text));
}

void reply_err(struct request *r, enum err e, const char *what)
{
    switch (e) {
    case ERR_NOT_FOUND: reply_error(r, 404, "not_found", "%s: there is no such thing", what); return;
    case ERR_EXISTS:
    case ERR_BUSY: reply_error(r, 409, "conflict", "%s has changed meanwhile: look again", what); return;
    case ERR_INVALID: reply_error(r, 400, "invalid", "%s: that is not understood", what); return;
    case ERR_TIMEOUT:
        reply_error(r, 503, "unavailable", "%s took longer than its limit: ask for less, or later", what);
        return;
    case ERR_FULL:
        reply_error(r, 503, "unavailable", "%s is more than can be held at once: ask for less", what);
        return;
    case ERR_NOSPACE: reply_error(r, 503, "unavailable", "%s: the disk is full", what); return;
    default:
        log_error(NULL, "api.failed", LOG_STR("what", what), LOG_ERR(e));
        reply_error(r, 503, "unavailable", "%s cannot be had just now: %s", what, err_text(e));
    }
}
