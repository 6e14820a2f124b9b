#include "engine/smtp/header.h"

void header_init(struct header *h, size_t max_bytes)
{
    struct header kept = {.text = h->text,
                          .campaign = h->campaign,
                          .schedule = h->schedule,
                          .priority = h->priority,
                          .expires = h->expires,
                          .unknown_name = h->unknown_name,
                          .max_bytes = max_bytes};

    buf_clear(&kept.text);
    buf_clear(&kept.campaign);
    buf_clear(&kept.schedule);
    buf_clear(&kept.priority);
    buf_clear(&kept.expires);
    buf_clear(&kept.unknown_name);
    *h = kept;
}

void header_fini(struct header *h)
{
    buf_fini(&h->text);
    buf_fini(&h->campaign);
    buf_fini(&h->schedule);
    buf_fini(&h->priority);
    buf_fini(&h->expires);
    buf_fini(&h->unknown_name);
}

/* Length of the field name at the start of `line`; 0 when the line is no field.  §4.5: blanks may precede the
 * colon. */
static size_t name_length(struct bytes line)
{
    size_t colon = bytes_find(line, ':');
    size_t n = 0;

    if (colon == line.len)
        return 0;
    while (n < colon && line.at[n] > ' ' && line.at[n] < 0x7f)
        n++;
    for (size_t i = n; i < colon; i++)
        if (line.at[i] != ' ' && line.at[i] != '\t')
            return 0;
    return n;
}

/* §2.2.3: the CRLFs of a folded value go, its blanks stay. */
static void take_value(struct buf *out, struct bytes field)
{
    struct bytes value = bytes_skip(field, bytes_find(field, ':') + 1);

    for (size_t i = 0; i < value.len; i++)
        if (value.at[i] != '\r' && value.at[i] != '\n')
            buf_putc(out, value.at[i]);
    struct bytes trimmed = bytes_trim(buf_bytes(out));
    if (trimmed.len)
        memmove(out->at, trimmed.at, trimmed.len);
    out->len = trimmed.len;
}

static void count(uint32_t *n, struct bytes name, struct bytes want)
{
    if (bytes_ieq(name, want))
        ++*n;
}

static bool is_steering(uint32_t *n, struct buf *value, struct bytes field, struct bytes name,
                        struct bytes want)
{
    if (!bytes_ieq(name, want))
        return false;
    if (++*n == 1)
        take_value(value, field);
    return true;
}

/* A misspelt X-Hayauma-Schedule would send a campaign at once. */
static bool is_unknown(struct header *h, struct bytes name)
{
    if (!bytes_istarts(name, BYTES("X-Hayauma-")))
        return false;
    if (++h->unknown == 1)
        buf_put(&h->unknown_name, bytes_first(name, MIN_OF(name.len, (size_t)60)));
    return true;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* The whole value, folded or not, is `want`. */
static bool value_is(struct bytes field, struct bytes want)
{
    struct bytes value = bytes_skip(field, bytes_find(field, ':') + 1);

    while (value.len && is_blank(value.at[0]))
        value = bytes_skip(value, 1);
    while (value.len && is_blank(value.at[value.len - 1]))
        value.len--;
    return bytes_ieq(value, want);
}

static void take_tls_required(struct header *h, struct bytes field, struct bytes name)
{
    if (!bytes_ieq(name, BYTES("TLS-Required")))
        return;
    h->tls_required++;
    h->tls_required_no = value_is(field, BYTES("No"));
}

/* The field in work is complete: it ends where the line in work begins. */
static void end_field(struct header *h)
{
    if (!h->in_field)
        return;
    h->in_field = false;
    struct bytes field = {h->text.at + h->field_at, h->line_at - h->field_at};
    struct bytes name = bytes_first(field, name_length(field));
    bool steering = false;

    switch (ascii_lower(name.at[0])) {
    case 'r': count(&h->received, name, BYTES("Received")); break;
    case 'd': count(&h->date, name, BYTES("Date")); break;
    case 'f': count(&h->from, name, BYTES("From")); break;
    case 'm': count(&h->message_id, name, BYTES("Message-ID")); break;
    case 't': take_tls_required(h, field, name); break;
    case 'x':
        steering = is_steering(&h->campaigns, &h->campaign, field, name, BYTES("X-Campaign")) ||
                   is_steering(&h->schedules, &h->schedule, field, name, BYTES("X-Hayauma-Schedule")) ||
                   is_steering(&h->priorities, &h->priority, field, name, BYTES("X-Hayauma-Priority")) ||
                   is_steering(&h->expiries, &h->expires, field, name, BYTES("X-Hayauma-Expires")) ||
                   is_unknown(h, name);
        break;
    default: break;
    }
    if (!steering)
        return;
    memmove(h->text.at + h->field_at, h->text.at + h->line_at, h->text.len - h->line_at);
    h->text.len -= field.len;
    h->line_at = h->field_at;
}

/* A whole line stands at line_at.  True when it ends the section. */
static bool take_line(struct header *h)
{
    struct bytes line = {h->text.at + h->line_at, h->text.len - h->line_at};

    if (h->in_field && (line.at[0] == ' ' || line.at[0] == '\t')) {
        h->line_at = h->text.len;
        return false;
    }
    bool empty = bytes_eq(line, BYTES("\r\n"));
    bool field = !empty && name_length(line);
    end_field(h);
    h->kept = h->line_at;
    if (empty)
        h->text.len = h->kept;
    if (!field)
        return true;
    h->in_field = true;
    h->field_at = h->line_at;
    h->line_at = h->text.len;
    return false;
}

enum header_step header_take(struct header *h, struct bytes in, size_t *used)
{
    *used = 0;
    while (*used < in.len) {
        struct bytes rest = bytes_skip(in, *used);
        size_t lf = bytes_find(rest, '\n');
        struct bytes piece = bytes_first(rest, lf + 1);

        h->seen_bytes += piece.len;
        if (h->seen_bytes > h->max_bytes)
            return HEADER_TOO_LARGE;
        buf_put(&h->text, piece);
        *used += piece.len;
        if (lf < rest.len && take_line(h))
            return HEADER_DONE;
    }
    return HEADER_MORE;
}

void header_end(struct header *h)
{
    end_field(h); /* a line in work is empty: content ends in CRLF */
    h->kept = h->line_at;
}

struct bytes header_fields(const struct header *h)
{
    return bytes_make(h->text.at, h->kept);
}

struct bytes header_overrun(const struct header *h)
{
    return bytes_skip(buf_bytes(&h->text), h->kept);
}
