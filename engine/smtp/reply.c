#include "engine/smtp/reply.h"

/*
 *   AT_CODE ──three digits──► AT_SEPARATOR ──' ' or '-'──► AT_TEXT ──LF──► AT_CODE, or done
 *                                  └───────CR or LF: no text──────┘
 */
enum { AT_CODE, AT_SEPARATOR, AT_TEXT };

void smtp_reply_reset(struct smtp_reply *r)
{
    struct buf text = r->text;

    buf_clear(&text);
    *r = (struct smtp_reply){.text = text};
}

void smtp_reply_fini(struct smtp_reply *r)
{
    buf_fini(&r->text);
    *r = (struct smtp_reply){0};
}

static enum smtp_parse bad(struct smtp_reply *r, const char *why)
{
    r->why = why;
    return SMTP_PARSE_BAD;
}

static enum smtp_parse take_code(struct smtp_reply *r, char c)
{
    bool first = r->line_bytes == 1;

    if (c < '0' || c > '9' || (first && (c < '2' || c > '5')))
        return bad(r, "a line does not begin with a reply code");
    r->line_code = (uint16_t)(r->line_code * 10 + (c - '0'));
    if (r->line_bytes == 3)
        r->at = AT_SEPARATOR;
    return SMTP_PARSE_MORE;
}

static enum smtp_parse end_line(struct smtp_reply *r)
{
    struct buf *text = &r->text;

    if (r->line_kept && text->at[text->len - 1] == '\r') {
        text->len--;
        r->line_kept--;
    }
    r->lines++;
    r->at = AT_CODE;
    r->line_code = 0;
    r->line_bytes = r->line_kept = 0;
    if (r->last_line)
        return SMTP_PARSE_DONE;
    if (r->lines == SMTP_REPLY_LINES_MAX)
        return bad(r, "a reply has too many lines");
    if (text->len < SMTP_REPLY_TEXT_MAX)
        buf_putc(text, '\n');
    return SMTP_PARSE_MORE;
}

static void keep(struct smtp_reply *r, struct bytes s)
{
    size_t room = MIN_OF((size_t)(SMTP_REPLY_LINE_KEPT - r->line_kept), SMTP_REPLY_TEXT_MAX - r->text.len);

    s = bytes_first(s, room);
    buf_put(&r->text, s);
    r->line_kept += (uint32_t)s.len;
}

static enum smtp_parse take_separator(struct smtp_reply *r, char c)
{
    if (r->code != 0 && r->line_code != r->code)
        return bad(r, "the code changes within a reply"); /* §4.2.1: all lines of one reply carry one code */
    r->code = r->line_code;
    r->last_line = c != '-';
    r->at = AT_TEXT;
    if (c == '\n')
        return end_line(r);
    if (c == '\r') { /* §4.2.1: be ready for a last line without the blank */
        keep(r, bytes_make(&c, 1));
        return SMTP_PARSE_MORE;
    }
    return c == ' ' || c == '-' ? SMTP_PARSE_MORE : bad(r, "no blank behind a reply code");
}

/* A run of text up to and with the line end, if it is there. */
static enum smtp_parse take_text(struct smtp_reply *r, struct bytes *in)
{
    size_t to_end = bytes_find(*in, '\n');
    bool ended = to_end < in->len;
    struct bytes text = bytes_first(*in, to_end);

    if (text.len > SMTP_REPLY_LINE_MAX || r->line_bytes + text.len + ended > SMTP_REPLY_LINE_MAX)
        return bad(r, "a reply line is too long");
    if (text.len && memchr(text.at, 0, text.len))
        return bad(r, "a reply holds a NUL");
    keep(r, text);
    r->line_bytes += (uint32_t)text.len;
    *in = bytes_skip(*in, text.len + ended);
    return ended ? end_line(r) : SMTP_PARSE_MORE;
}

enum smtp_parse smtp_reply_parse(struct smtp_reply *r, struct bytes *in)
{
    enum smtp_parse result = SMTP_PARSE_MORE;

    while (in->len && result == SMTP_PARSE_MORE) {
        if (r->at == AT_TEXT) {
            result = take_text(r, in);
            continue;
        }
        char c = *in->at;
        *in = bytes_skip(*in, 1);
        r->line_bytes++;
        result = r->at == AT_CODE ? take_code(r, c) : take_separator(r, c);
    }
    return result;
}

bool smtp_reply_line(const struct smtp_reply *r, size_t *at, struct bytes *line)
{
    if (*at > r->text.len)
        return false;
    struct bytes rest = bytes_skip(buf_bytes(&r->text), *at);
    size_t n = bytes_find(rest, '\n');
    *line = bytes_first(rest, n);
    *at += n + 1;
    return true;
}
