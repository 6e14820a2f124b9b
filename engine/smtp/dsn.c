#include "engine/smtp/dsn_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "engine/smtp/address.h"

#define LINE_WIDTH     76
#define WORD_MAX       900 /* RFC 5322 §2.1.1: 998, less a field name */
#define ADDRESS_MAX    1000
#define DIAGNOSTIC_MAX OUTCOME_TEXT_BYTES

/* ---- foreign text ---- */

bool dsn_is_ascii(struct bytes s)
{
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.at[i] > 0x7f)
            return false;
    return true;
}

/* Length of the UTF-8 character at the start of s, 0 if there is none. */
static size_t utf8_len(struct bytes s)
{
    unsigned char first = (unsigned char)s.at[0];
    size_t n = first < 0x80 ? 1 : first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;

    return n <= s.len && address_is_utf8(bytes_first(s, n)) ? n : 0;
}

/* C1 controls, and what turns the direction of a line. */
static bool is_hidden(struct bytes c)
{
    unsigned char b0 = (unsigned char)c.at[0], b1 = c.len > 1 ? (unsigned char)c.at[1] : 0;
    unsigned char b2 = c.len > 2 ? (unsigned char)c.at[2] : 0;

    if (c.len == 1)
        return b0 < 0x20 || b0 == 0x7f;
    if (c.len == 2)
        return b0 == 0xc2 && b1 < 0xa0;
    return c.len == 3 && b0 == 0xe2 &&
           ((b1 == 0x80 && ((b2 >= 0x8e && b2 <= 0x8f) || (b2 >= 0xa8 && b2 <= 0xae))) ||
            (b1 == 0x81 && b2 >= 0xa6 && b2 <= 0xa9));
}

void dsn_put_clean(struct buf *out, struct bytes s, bool utf8, size_t most)
{
    size_t limit = out->len + most;

    while (s.len) {
        size_t n = utf8_len(s);
        struct bytes c = bytes_first(s, n ? n : 1);
        if (out->len + c.len > limit)
            return;
        if (c.at[0] == '\t' || c.at[0] == '\r' || c.at[0] == '\n')
            buf_putc(out, ' ');
        else if (!n || is_hidden(c) || (n > 1 && !utf8))
            buf_putc(out, '?');
        else
            buf_put(out, c);
        s = bytes_skip(s, c.len);
    }
}

/* Where the line that begins at `at` should end: the last blank within the width, else the next one, else
 * WORD_MAX. */
static size_t find_break(const struct buf *b, size_t at, size_t width)
{
    size_t best = 0;

    for (size_t i = at; i < b->len && i - at < WORD_MAX; i++) {
        if (b->at[i] != ' ')
            continue;
        if (i - at > width && best)
            return best;
        if (i > at)
            best = i;
        if (i - at > width)
            return best;
    }
    if (b->len - at <= width)
        return b->len;
    if (best)
        return best;
    return MIN_OF(b->len, at + WORD_MAX);
}

void dsn_fold(struct buf *out, size_t from, const char *indent)
{
    struct buf folded = {0};
    size_t line = from;

    /* The field name before `from` counts: find the start of the line. */
    while (line > 0 && out->at[line - 1] != '\n')
        line--;
    size_t used = from - line, at = from;
    while (at < out->len) {
        size_t width = LINE_WIDTH > used ? LINE_WIDTH - used : 1;
        size_t end = find_break(out, at, width);
        buf_put(&folded, bytes_make(out->at + at, end - at));
        at = end;
        while (at < out->len && out->at[at] == ' ')
            at++;
        if (at < out->len) {
            buf_puts(&folded, "\r\n");
            buf_puts(&folded, indent);
        }
        used = strlen(indent);
    }
    out->len = from;
    buf_put(out, buf_bytes(&folded));
    buf_fini(&folded);
}

/* "Name: value", folded. */
static void put_field(struct buf *out, const char *name, const char *value, bool utf8)
{
    buf_putf(out, "%s: ", name);
    size_t from = out->len;
    dsn_put_clean(out, bytes_of(value), utf8, ADDRESS_MAX);
    dsn_fold(out, from, " ");
    buf_puts(out, "\r\n");
}

static void put_date(struct buf *out, const char *name, int64_t at_unix)
{
    char text[CLOCK_TEXT_BYTES];

    if (at_unix > 0)
        buf_putf(out, "%s: %s\r\n", name, clock_format_mail(at_unix, text));
}

/* ---- message/delivery-status ---- */

static const char *action_name(enum dsn_action action)
{
    switch (action) {
    case DSN_FAILED: return "failed";
    case DSN_DELAYED: return "delayed";
    case DSN_RELAYED: return "relayed";
    case DSN_DELIVERED: return "delivered";
    case DSN_EXPANDED: return "expanded";
    }
    return "failed";
}

static bool is_status(const char *s)
{
    unsigned part[3];
    char more;

    return sscanf(s, "%1u.%3u.%3u%c", &part[0], &part[1], &part[2], &more) == 3 &&
           (part[0] == 2 || part[0] == 4 || part[0] == 5);
}

/* RFC 3463; a status is mandatory, so one is made when the peer gave none. */
static const char *status_of(const struct dsn_rcpt *r)
{
    const struct outcome *o = r->outcome;

    if (r->action == DSN_RELAYED || r->action == DSN_DELIVERED || r->action == DSN_EXPANDED)
        return o->enhanced[0] == '2' && is_status(o->enhanced) ? o->enhanced : "2.0.0";
    if (o->enhanced[0] != '2' && is_status(o->enhanced))
        return o->enhanced;
    if (o->kind == OUTCOME_EXPIRED)
        return "4.4.7"; /* delivery time expired */
    return r->action == DSN_DELAYED || o->code / 100 == 4 ? "4.0.0" : "5.0.0";
}

/* "rfc822;a@b" → "rfc822; a@b"; what has no type is left out. */
static void put_original(struct buf *out, const char *orcpt, bool utf8)
{
    struct bytes all = bytes_of(orcpt);
    size_t type = bytes_find(all, ';');

    if (type == 0 || type == all.len)
        return;
    buf_puts(out, "Original-Recipient: ");
    dsn_put_clean(out, bytes_first(all, type), false, 64);
    buf_puts(out, "; ");
    size_t from = out->len;
    dsn_put_clean(out, bytes_trim(bytes_skip(all, type + 1)), utf8, ADDRESS_MAX);
    dsn_fold(out, from, " ");
    buf_puts(out, "\r\n");
}

static void put_diagnostic(struct buf *out, const struct outcome *o, bool utf8)
{
    if (!o->remote && !o->text[0])
        return;
    buf_puts(out, o->remote ? "Diagnostic-Code: smtp; " : "Diagnostic-Code: X-Hayauma; ");
    size_t from = out->len;
    if (o->remote)
        buf_putf(out, "%u ", o->code);
    if (o->remote && o->enhanced[0]) {
        dsn_put_clean(out, bytes_of(o->enhanced), false, sizeof(o->enhanced));
        buf_putc(out, ' ');
    }
    dsn_put_clean(out, bytes_of(o->text), utf8, DIAGNOSTIC_MAX);
    dsn_fold(out, from, "    ");
    buf_puts(out, "\r\n");
}

static void put_rcpt(struct buf *out, const struct dsn_rcpt *r, bool utf8)
{
    bool is_utf8 = utf8 && !dsn_is_ascii(bytes_of(r->address));

    buf_puts(out, "\r\n");
    if (r->orcpt)
        put_original(out, r->orcpt, utf8);
    buf_puts(out, is_utf8 ? "Final-Recipient: utf-8; " : "Final-Recipient: rfc822; ");
    size_t from = out->len;
    dsn_put_clean(out, bytes_of(r->address), utf8, ADDRESS_MAX);
    dsn_fold(out, from, " ");
    buf_putf(out, "\r\nAction: %s\r\nStatus: %s\r\n", action_name(r->action), status_of(r));
    if (r->remote_mta && *r->remote_mta && r->outcome->remote) {
        buf_puts(out, "Remote-MTA: dns; ");
        dsn_put_clean(out, bytes_of(r->remote_mta), false, 255);
        buf_puts(out, "\r\n");
    }
    put_diagnostic(out, r->outcome, utf8);
    put_date(out, "Last-Attempt-Date", r->last_attempt_unix);
    if (r->action == DSN_DELAYED)
        put_date(out, "Will-Retry-Until", r->retry_until_unix);
}

static void put_status(const struct dsn *d, struct buf *out, bool utf8)
{
    if (d->envid && *d->envid)
        put_field(out, "Original-Envelope-Id", d->envid, false);
    buf_puts(out, "Reporting-MTA: dns; ");
    dsn_put_clean(out, bytes_of(d->reporting_mta), false, 255);
    buf_puts(out, "\r\n");
    put_date(out, "Arrival-Date", d->arrival_unix);
    for (size_t i = 0; i < MIN_OF(d->rcpt_count, (size_t)DSN_RCPTS_MAX); i++)
        put_rcpt(out, &d->rcpts[i], utf8);
}

/* ---- the original ---- */

bool dsn_wants_full(enum dsn_ret ret, enum dsn_action action, uint64_t size_bytes)
{
    return ret == DSN_RET_FULL && action == DSN_FAILED &&
           size_bytes <= DSN_FULL_BYTES_MAX; /* RFC 3461 §4.3 */
}

enum dsn_ret dsn_ret_of(const struct message *about)
{
    return about->flags & MESSAGE_REQUIRETLS ? DSN_RET_HDRS : about->ret;
}

uint32_t dsn_tls_flags(const struct message *about)
{
    return about->flags & (MESSAGE_REQUIRETLS | MESSAGE_TLS_REQUIRED_NO);
}

static bool returns_full(const struct dsn *d)
{
    bool failed = false;

    for (size_t i = 0; i < d->rcpt_count; i++)
        failed |= d->rcpts[i].action == DSN_FAILED;
    return d->full.len && failed && dsn_wants_full(d->ret, DSN_FAILED, d->full.len);
}

/* Whole lines up to the empty one, which is not part of it, or to the cap. */
static struct bytes header_lines(struct bytes header)
{
    const char *end = header.len ? memmem(header.at, header.len, "\r\n\r\n", 4) : NULL;

    if (bytes_starts(header, BYTES("\r\n")))
        return bytes_first(header, 0);
    if (end)
        header = bytes_first(header, (size_t)(end - header.at) + 2);
    if (header.len <= DSN_HEADER_BYTES_MAX)
        return header;
    header = bytes_first(header, DSN_HEADER_BYTES_MAX);
    const char *last = memrchr(header.at, '\n', header.len);
    return bytes_first(header, last ? (size_t)(last - header.at) + 1 : 0);
}

static bool is_clean(struct bytes s)
{
    return !s.len || !memchr(s.at, 0, s.len);
}

struct original {
    const char *type, *encoding;
    struct bytes octets;
};

static struct original choose_original(const struct dsn *d)
{
    bool full = returns_full(d) && is_clean(d->full);
    struct bytes header = header_lines(d->header.len ? d->header : d->full);
    bool ascii = dsn_is_ascii(header), global = !ascii && address_is_utf8(header);

    if (!is_clean(header))
        header = bytes_first(header, 0);
    if (full)
        return (struct original){global ? "message/global" : "message/rfc822",
                                 dsn_is_ascii(d->full) ? "7bit" : "8bit", d->full};
    return (struct original){global ? "message/global-headers" : "text/rfc822-headers",
                             ascii ? "7bit" : "8bit", header};
}

/* ---- putting together ---- */

bool dsn_needs_smtputf8(const struct dsn *d)
{
    return !dsn_is_ascii(bytes_of(d->sender));
}

static bool status_is_utf8(const struct dsn *d)
{
    for (size_t i = 0; i < d->rcpt_count; i++)
        if (!dsn_is_ascii(bytes_of(d->rcpts[i].address)) || !dsn_is_ascii(bytes_of(d->rcpts[i].orcpt)))
            return true;
    return false;
}

/* Ours is the only line that begins with it: RFC 2046 §5.1.1. */
static void choose_boundary(const struct dsn *d, const struct buf parts[3], char *out, size_t cap)
{
    for (unsigned n = 0;; n++) {
        bool taken = false;
        snprintf(out, cap, "=_%016" PRIx64 "_%u", d->id, n);
        for (size_t i = 0; i < 3; i++)
            taken |= parts[i].len && memmem(parts[i].at, parts[i].len, out, strlen(out));
        if (!taken)
            return;
    }
}

static void put_header(const struct dsn *d, struct buf *out, const char *boundary, bool eight)
{
    bool utf8 = dsn_needs_smtputf8(d);
    char date[CLOCK_TEXT_BYTES], id[MESSAGE_ID_TEXT];

    buf_putf(out, "Date: %s\r\nFrom: Mail Delivery System <", clock_format_mail(d->now_unix, date));
    if (!d->postmaster)
        buf_puts(out, "MAILER-DAEMON@");
    dsn_put_clean(out, bytes_of(d->postmaster ? d->postmaster : d->reporting_mta), false, 320);
    buf_puts(out, ">\r\nTo: <");
    dsn_put_clean(out, bytes_of(d->sender), utf8, ADDRESS_MAX - 10);
    buf_putf(out, ">\r\nSubject: %s\r\nMessage-ID: <dsn.%s@", dsn_subject(d), message_id_format(d->id, id));
    dsn_put_clean(out, bytes_of(d->reporting_mta), false, 255);
    buf_puts(out, ">\r\nAuto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n"
                  "Content-Type: multipart/report; report-type=delivery-status;\r\n");
    buf_putf(out, "    boundary=\"%s\"\r\n", boundary);
    if (d->tls_required_no)
        buf_puts(out, "TLS-Required: No\r\n");
    if (eight)
        buf_puts(out, "Content-Transfer-Encoding: 8bit\r\n");
    buf_puts(out, "\r\nThis is a delivery status notification in MIME format (RFC 3464).\r\n");
}

static void put_part(struct buf *out, const char *boundary, const char *type, const char *description,
                     const char *encoding, const struct buf *content)
{
    buf_putf(out, "\r\n--%s\r\nContent-Type: %s\r\nContent-Description: %s\r\n", boundary, type, description);
    buf_putf(out, "Content-Transfer-Encoding: %s\r\n\r\n", encoding);
    buf_put(out, buf_bytes(content));
}

static const char *encoding_of(const struct buf *part)
{
    return dsn_is_ascii(buf_bytes(part)) ? "7bit" : "8bit";
}

void dsn_format(const struct dsn *d, struct buf *out)
{
    struct buf parts[3] = {0};
    struct original original = choose_original(d);
    bool utf8 = status_is_utf8(d);
    char boundary[48];

    dsn_put_text(d, &parts[0]);
    put_status(d, &parts[1], utf8);
    buf_put(&parts[2], original.octets);
    choose_boundary(d, parts, boundary, sizeof(boundary));
    bool eight = false;
    for (size_t i = 0; i < 3; i++)
        eight |= !dsn_is_ascii(buf_bytes(&parts[i]));
    put_header(d, out, boundary, eight);
    put_part(out, boundary, "text/plain; charset=utf-8", "Notification", encoding_of(&parts[0]), &parts[0]);
    put_part(out, boundary, utf8 ? "message/global-delivery-status" : "message/delivery-status",
             "Delivery report", encoding_of(&parts[1]), &parts[1]);
    put_part(out, boundary, original.type, returns_full(d) ? "Undelivered message" : "Message header",
             original.encoding, &parts[2]);
    buf_putf(out, "\r\n--%s--\r\n", boundary);
    for (size_t i = 0; i < 3; i++)
        buf_fini(&parts[i]);
}
