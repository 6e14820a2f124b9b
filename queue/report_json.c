#include "queue/report.h"

#include <stdio.h>

#include "base/clock.h"
#include "queue/message.h"

/* Octets of the UTF-8 sequence at s, or 0: bad, cut, overlong, surrogate or above U+10FFFF (RFC 3629 §4). */
static size_t utf8_length(struct bytes s)
{
    const unsigned char *p = (const unsigned char *)s.at;
    size_t len = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;

    if (len == 0 || len > s.len)
        return 0;
    for (size_t i = 1; i < len; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
        (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return len;
}

/* RFC 8259 §7; what is not UTF-8 becomes U+FFFD, so that a line is JSON whatever a peer said. */
static void put_string(struct buf *out, const char *text)
{
    buf_putc(out, '"');
    for (struct bytes s = bytes_of(text); s.len;) {
        size_t len = utf8_length(s);
        unsigned char c = (unsigned char)*s.at;
        if (len == 0)
            buf_puts(out, "\\ufffd");
        else if (c == '"' || c == '\\')
            buf_putf(out, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            buf_putf(out, "\\u%04x", c);
        else
            buf_put(out, bytes_first(s, len));
        s = bytes_skip(s, MAX_OF(len, (size_t)1));
    }
    buf_putc(out, '"');
}

static void put_text(struct buf *out, const char *key, const char *value)
{
    buf_putf(out, ",\"%s\":", key);
    if (value)
        put_string(out, value);
    else
        buf_puts(out, "null");
}

static void put_number(struct buf *out, const char *key, uint64_t value)
{
    buf_putf(out, ",\"%s\":%llu", key, (unsigned long long)value);
}

static void put_bool(struct buf *out, const char *key, bool value)
{
    buf_putf(out, ",\"%s\":%s", key, value ? "true" : "false");
}

static void put_time(struct buf *out, const char *key, int64_t unix_ms)
{
    char text[CLOCK_TEXT_BYTES];
    int64_t seconds = unix_ms / 1000 - (unix_ms % 1000 < 0);

    clock_format_utc(seconds, text);
    size_t len = bytes_find(bytes_of(text), 'Z');
    buf_putf(out, ",\"%s\":\"%.*s.%03dZ\"", key, (int)len, text, (int)(unix_ms - seconds * 1000) % 1000);
}

static const char *then_name(enum attempt_then then)
{
    switch (then) {
    case THEN_REMOVE: return "done";
    case THEN_DEFER: return "retry";
    case THEN_DSN: return "dsn";
    case THEN_NOTHING: return "next-host";
    }
    return "?";
}

static void put_outcome(struct buf *out, const struct outcome *o)
{
    put_text(out, "outcome", outcome_kind_name(o->kind));
    put_text(out, "stage", outcome_stage_name(o->stage));
    put_number(out, "code", o->code);
    put_text(out, "enhanced", o->enhanced[0] ? o->enhanced : NULL);
    put_text(out, "said_by", o->remote ? "peer" : "us");
    put_bool(out, "in_doubt", o->in_doubt);
    put_text(out, "text", o->text);
}

static void put_tls(struct buf *out, const struct attempt *a)
{
    put_text(out, "tls_wanted", tls_level_name(a->tls_wanted));
    put_text(out, "tls_effective", tls_level_name(a->tls_effective));
    put_text(out, "tls_why", tls_why_name(a->tls_why));
    put_text(out, "tls_version", a->tls_version);
    put_text(out, "tls_cipher", a->tls_cipher);
    put_text(out, "tls_verify", tls_verify_name(a->tls_verify));
    put_bool(out, "tls_resumed", a->tls_resumed);
    put_bool(out, "tls_offered", a->tls_offered);
    put_bool(out, "fallback", a->fallback);
}

void report_attempt_json(const struct report_attempt *r, struct buf *out)
{
    const struct attempt *a = &r->attempt;
    char id[MESSAGE_ID_TEXT];

    buf_putf(out, "{\"id\":\"%llu\"", (unsigned long long)r->id); /* text: browsers lose integers past 2^53 */
    put_time(out, "at", a->at_unix_ms);
    put_text(out, "message", message_id_format(a->message_id, id));
    put_number(out, "rcpt", a->rcpt_no);
    put_text(out, "address", a->address);
    put_text(out, "domain", a->domain);
    put_text(out, "sender", a->sender);
    put_text(out, "campaign", a->campaign);
    put_text(out, "account", a->account);
    put_text(out, "group", a->group);
    put_text(out, "match", match_how_name(a->match));
    put_text(out, "pattern", a->match_pattern);
    put_number(out, "policy", a->policy_version);
    put_text(out, "mx", a->mx);
    put_text(out, "remote", a->remote);
    put_text(out, "source", a->source);
    put_bool(out, "reused", a->reused);
    put_outcome(out, &a->outcome);
    put_number(out, "attempts", a->attempts);
    put_number(out, "duration_ms", a->duration_ms);
    put_number(out, "size", a->size_bytes);
    put_time(out, "accepted", a->accepted_unix * 1000);
    put_text(out, "then", then_name(a->then));
    if (a->then == THEN_DEFER)
        put_time(out, "due", a->due_unix * 1000);
    put_tls(out, a);
    buf_putc(out, '}');
}
