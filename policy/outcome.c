#include "policy/outcome.h"

#include <stdio.h>

#include "policy/classify.h"

const char *outcome_kind_name(enum outcome_kind kind)
{
    switch (kind) {
    case OUTCOME_DELIVERED: return "delivered";
    case OUTCOME_DEFERRED: return "deferred";
    case OUTCOME_BOUNCED: return "bounced";
    case OUTCOME_EXPIRED: return "expired";
    case OUTCOME_CANCELLED: return "cancelled";
    }
    return "unknown";
}

const char *outcome_stage_name(enum outcome_stage stage)
{
    switch (stage) {
    case STAGE_QUEUE: return "queue";
    case STAGE_DNS: return "dns";
    case STAGE_CONNECT: return "connect";
    case STAGE_GREETING: return "greeting";
    case STAGE_EHLO: return "ehlo";
    case STAGE_STARTTLS: return "starttls";
    case STAGE_TLS: return "tls";
    case STAGE_AUTH: return "auth";
    case STAGE_MAIL: return "mail";
    case STAGE_RCPT: return "rcpt";
    case STAGE_DATA: return "data";
    case STAGE_DOT: return "dot";
    }
    return "unknown";
}

/*
 * Length of the well-formed UTF-8 sequence at the start of s, with its scalar value; 0: none
 * (RFC 3629 §4: no overlong form, no surrogate, nothing past U+10FFFF).
 */
static size_t utf8_take(struct bytes s, uint32_t *scalar)
{
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned char first = (unsigned char)s.at[0];
    size_t len = first < 0x80 ? 1 : first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    uint32_t value = len == 1 ? first : first & (0x7fU >> len);

    if ((first >= 0x80 && first < 0xc2) || first > 0xf4 || len > s.len)
        return 0;
    for (size_t i = 1; i < len; i++) {
        if (((unsigned char)s.at[i] & 0xc0) != 0x80)
            return 0;
        value = value << 6 | ((unsigned char)s.at[i] & 0x3f);
    }
    if (value < smallest[len] || (value >= 0xd800 && value <= 0xdfff) || value > 0x10ffff)
        return 0;
    *scalar = value;
    return len;
}

/* C0, DEL, C1, and what turns or breaks a line on a screen: the text is the peer's, and hostile. */
static bool is_control(uint32_t scalar)
{
    return scalar < 0x20 || (scalar >= 0x7f && scalar <= 0x9f) || scalar == 0x200e || scalar == 0x200f ||
           (scalar >= 0x2028 && scalar <= 0x202e) || (scalar >= 0x2066 && scalar <= 0x2069) ||
           scalar == 0xfeff;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Always valid UTF-8 without controls, cut between characters, NUL-terminated. */
static void text_put(char out[OUTCOME_TEXT_BYTES], struct bytes text)
{
    size_t len = 0;

    while (text.len > 0) {
        uint32_t scalar = 0;
        size_t take = utf8_take(text, &scalar);

        if (len + (take ? take : 1) >= OUTCOME_TEXT_BYTES)
            break;
        if (is_space(text.at[0])) {
            out[len++] = ' ';
        } else if (take == 0 || is_control(scalar)) {
            out[len++] = '?';
        } else {
            memcpy(out + len, text.at, take);
            len += take;
        }
        text = bytes_skip(text, take ? take : 1);
    }
    out[len] = '\0';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* "." and one to three digits; how many octets, or 0. */
static size_t enhanced_part(struct bytes s)
{
    size_t len = 1;

    if (s.len == 0 || s.at[0] != '.')
        return 0;
    while (len < s.len && len <= 4 && is_digit(s.at[len]))
        len++;
    return len >= 2 && len <= 4 ? len : 0;
}

/* How many octets of an enhanced code (RFC 3463 §2) stand at the start of `text`; 0: none. */
static size_t enhanced_find(struct bytes text)
{
    size_t subject, detail, len;

    if (text.len < 5 || !is_digit(text.at[0]))
        return 0;
    subject = enhanced_part(bytes_skip(text, 1));
    detail = subject ? enhanced_part(bytes_skip(text, 1 + subject)) : 0;
    if (!detail)
        return 0;
    len = 1 + subject + detail;
    if (len < text.len && !is_space(text.at[len]) && text.at[len] != ':')
        return 0;
    return len;
}

void outcome_from_reply(struct outcome *o, enum outcome_stage stage, uint16_t code, struct bytes text)
{
    size_t len;

    *o = (struct outcome){.stage = stage, .code = code, .remote = true};
    text = bytes_trim(text);
    len = enhanced_find(text);
    /* RFC 2034 §4: the class of both must agree; when it does not, the basic code rules. */
    if (len > 0 && text.at[0] - '0' == code / 100) {
        memcpy(o->enhanced, text.at, len); /* 9 octets at most */
        text = bytes_skip(text, len);
        if (text.len > 0 && text.at[0] == ':')
            text = bytes_skip(text, 1);
        text = bytes_trim(text);
    }
    text_put(o->text, text);
    o->kind = classify_reply(stage, code, o->enhanced, bytes_of(o->text)).kind;
}

void outcome_local(struct outcome *o, enum outcome_kind kind, enum outcome_stage stage, uint16_t code,
                   const char *enhanced, const char *format, ...)
{
    char text[2 * OUTCOME_TEXT_BYTES];
    va_list ap;

    *o = (struct outcome){.kind = kind, .stage = stage, .code = code};
    snprintf(o->enhanced, sizeof(o->enhanced), "%s", enhanced ? enhanced : "");
    va_start(ap, format);
    if (vsnprintf(text, sizeof(text), format, ap) < 0)
        text[0] = '\0';
    va_end(ap);
    text_put(o->text, bytes_of(text)); /* it may quote the peer, a host name, a path */
}

void outcome_put_off(struct outcome *o)
{
    o->kind = OUTCOME_DEFERRED;
    o->code = 451;
    snprintf(o->enhanced, sizeof(o->enhanced), "4.4.3");
}

bool outcome_failed_for_tls(const struct outcome *o)
{
    static const char *const enhanced[] = {".7.4", ".7.5", ".7.30"};

    if (o->kind == OUTCOME_DELIVERED || o->kind == OUTCOME_CANCELLED)
        return false;
    if (o->stage == STAGE_STARTTLS || o->stage == STAGE_TLS)
        return true;
    if (o->remote || o->enhanced[0] == '\0') /* a peer's own x.7.4 is about something else */
        return false;
    for (size_t i = 0; i < COUNT_OF(enhanced); i++)
        if (strcmp(o->enhanced + 1, enhanced[i]) == 0)
            return true;
    return false;
}
