#include "webui-api/cli/attempt.h"

/* Who raised what the group asks for, or lowered it. */
static void put_why(struct buf *out, const json_t *a, bool has_text)
{
    const char *why = field_text(a, "tls_why");

    if (!*why || strcmp(why, "rule") == 0)
        return;
    buf_puts(out, has_text ? " (" : "(");
    format_safe(out, bytes_of(why));
    buf_putc(out, ')');
}

/* The certificate may be good for its name, and yet not the one that DNS or the policy names. */
static void put_discovered(struct buf *out, const json_t *a)
{
    const char *sts = field_text(a, "sts");

    if (strcmp(field_text(a, "dane"), "mismatch") == 0)
        buf_puts(out, ", no TLSA match");
    if (strcmp(sts, "cert-bad") == 0 || strcmp(sts, "mx-mismatch") == 0)
        buf_putf(out, ", MTA-STS %s", sts);
}

void attempt_put_tls(struct buf *out, const json_t *a)
{
    const char *version = field_text(a, "tls_version");
    bool delivered = strcmp(field_text(a, "outcome"), "delivered") == 0;

    if (*version) {
        format_safe(out, bytes_of(version));
        buf_putc(out, ' ');
        format_safe(out, bytes_of(field_text(a, "tls_verify")));
        put_discovered(out, a);
    } else if (delivered) {
        buf_puts(out, field_bool(a, "fallback")                            ? "clear: TLS failed"
                      : strcmp(field_text(a, "tls_effective"), "off") == 0 ? "clear: by rule"
                      : field_bool(a, "tls_offered")                       ? "clear: refused"
                                                                           : "clear: not offered");
    }
    put_why(out, a, *version || delivered);
}

const char *attempt_shadow(const json_t *a)
{
    const char *verdict = field_text(a, "shadow");

    return strcmp(verdict, "same") == 0 ? "" : verdict;
}

void attempt_put_reply(struct buf *out, const json_t *a)
{
    uint64_t code = field_count(a, "code");
    const char *enhanced = field_text(a, "enhanced");

    format_safe(out, bytes_of(field_text(a, "stage")));
    if (code)
        buf_putf(out, " %llu", (unsigned long long)code);
    if (*enhanced) {
        buf_putc(out, ' ');
        format_safe(out, bytes_of(enhanced));
    }
    buf_putc(out, ' ');
    format_safe(out, bytes_of(field_text(a, "text")));
    if (strcmp(field_text(a, "said_by"), "us") == 0 && code)
        buf_puts(out, " (we say)");
    if (field_bool(a, "in_doubt"))
        buf_puts(out, " (they may have it all the same)");
}

static void put_when_again(struct buf *out, const struct cli *cli, const json_t *a)
{
    int64_t due;

    if (!format_parse_time(bytes_of(field_text(a, "due")), &due))
        return;
    buf_puts(out, "again ");
    format_relative(out, due, cli->now_unix);
}

static void put_where(struct buf *out, const json_t *a)
{
    const char *mx = field_text(a, "mx"), *remote = field_text(a, "remote");

    format_safe(out, bytes_of(mx));
    if (*remote) {
        buf_puts(out, *mx ? " [" : "[");
        format_safe(out, bytes_of(remote));
        buf_putc(out, ']');
    }
}

static void put_clock(struct buf *out, const json_t *a)
{
    int64_t at;

    if (format_parse_time(bytes_of(field_text(a, "at")), &at))
        format_local_clock(out, at);
    else
        buf_puts(out, "--:--:--");
}

void attempt_put_line(struct buf *out, const struct cli *cli, const json_t *a)
{
    const char *outcome = field_text(a, "outcome");
    BUF_LOCAL(tls);

    buf_puts(out, term_on(&cli->term, STYLE_DIM));
    put_clock(out, a);
    buf_putf(out, "%s  ", term_off(&cli->term));
    BUF_LOCAL(padded);
    format_safe(&padded, bytes_of(outcome));
    while (padded.len < sizeof("delivered") - 1)
        buf_putc(&padded, ' ');
    put_styled(out, cli, style_of_outcome(outcome), buf_str(&padded));
    buf_puts(out, "  ");
    format_safe(out, bytes_of(field_text(a, "address")));
    if (*field_text(a, "mx") || *field_text(a, "remote")) {
        buf_puts(out, " → ");
        put_where(out, a);
    }
    attempt_put_tls(&tls, a);
    if (tls.len)
        buf_putf(out, ", %s", buf_str(&tls));
    buf_puts(out, ", ");
    format_span_ms(out, field_count(a, "duration_ms"));
    buf_puts(out, ", group ");
    format_safe(out, bytes_of(field_text(a, "group")));
    if (*attempt_shadow(a)) {
        buf_puts(out, ", shadow ");
        format_safe(out, bytes_of(attempt_shadow(a)));
    }
    buf_puts(out, term_on(&cli->term, STYLE_DIM));
    buf_puts(out, " | ");
    attempt_put_reply(out, a);
    buf_puts(out, term_off(&cli->term));
    if (*field_text(a, "due")) {
        buf_puts(out, " | ");
        put_when_again(out, cli, a);
    }
}

void attempt_table(struct buf *out, const struct cli *cli, const json_t *attempts)
{
    static const struct column columns[] = {
        {"WHEN", COLUMN_LEFT},
        {"RECIPIENT", COLUMN_GIVES},
        {"OUTCOME", COLUMN_LEFT},
        {"HOST", COLUMN_GIVES | COLUMN_OPTIONAL},
        {"TLS", COLUMN_OPTIONAL},
        {"TIME", COLUMN_RIGHT | COLUMN_SPARE},
        {"GROUP", COLUMN_SPARE},
        {"POLICY", COLUMN_RIGHT | COLUMN_SPARE},
        {"SHADOW", COLUMN_OPTIONAL | COLUMN_SPARE},
        {"REPLY", COLUMN_GIVES},
    };
    struct table t;
    json_t *a;
    size_t i;

    table_init(&t, columns, COUNT_OF(columns));
    json_array_foreach((json_t *)(uintptr_t)attempts, i, a)
    {
        struct buf *when = table_cell(&t, STYLE_DIM);
        int64_t at;
        if (format_parse_time(bytes_of(field_text(a, "at")), &at))
            format_local(when, at);
        table_text(&t, STYLE_PLAIN, field_text(a, "address"));
        table_text(&t, style_of_outcome(field_text(a, "outcome")), field_text(a, "outcome"));
        put_where(table_cell(&t, STYLE_PLAIN), a);
        attempt_put_tls(table_cell(&t, STYLE_PLAIN), a);
        format_span_ms(table_cell(&t, STYLE_PLAIN), field_count(a, "duration_ms"));
        table_text(&t, STYLE_PLAIN, field_text(a, "group"));
        table_count(&t, STYLE_PLAIN, field_count(a, "policy"));
        table_text(&t, STYLE_WARN, attempt_shadow(a));
        attempt_put_reply(table_cell(&t, STYLE_DIM), a);
    }
    table_print(&t, &cli->term, out);
    table_fini(&t);
}

void shaping_put_what(struct buf *out, const json_t *event)
{
    const char *what = field_text(event, "what");
    double value = json_number_value(json_object_get(event, "value"));

    if (strcmp(what, "connections") == 0)
        buf_putf(out, "at most %.0f connection%s", value, value > 1 ? "s" : "");
    else if (strcmp(what, "messages_per_second") == 0)
        buf_putf(out, "at most %g messages a second", value);
    else if (strcmp(what, "pipelining") == 0)
        buf_puts(out, "pipelining of commands only");
    else if (strcmp(what, "chunking") == 0)
        buf_puts(out, "DATA in place of BDAT");
    else if (strcmp(what, "resting") == 0)
        buf_puts(out, "left alone, no host takes mail");
    else if (strcmp(what, "warmup_step") == 0)
        buf_putf(out, "warm-up held at step %.0f", value);
    else if (strcmp(what, "campaign_paused") == 0)
        buf_puts(out, "paused by the guard");
    else
        format_safe(out, bytes_of(what));
}

void shaping_put_why(struct buf *out, const json_t *event)
{
    if (*field_text(event, "detail")) {
        format_safe(out, bytes_of(field_text(event, "detail")));
        if (!field_count(event, "code"))
            return; /* the reply was not kept */
        buf_puts(out, "; ");
    }
    format_safe(out, bytes_of(field_text(event, "stage")));
    if (field_count(event, "code"))
        buf_putf(out, " %llu", (unsigned long long)field_count(event, "code"));
    buf_putc(out, ' ');
    if (*field_text(event, "enhanced")) {
        format_safe(out, bytes_of(field_text(event, "enhanced")));
        buf_putc(out, ' ');
    }
    format_safe(out, bytes_of(field_text(event, "text")));
}

void shaping_put_line(struct buf *out, const json_t *event)
{
    if (!field_count(event, "line"))
        return;
    buf_putf(out, "line %llu", (unsigned long long)field_count(event, "line"));
    if (!*field_text(event, "file"))
        return;
    buf_puts(out, " of ");
    format_safe(out, bytes_of(field_text(event, "file")));
}

void shaping_put_until(struct buf *out, const json_t *event)
{
    const char *what = field_text(event, "what");
    bool ends = field_known(event, "seconds_left");

    if (ends) {
        buf_puts(out, "for ");
        format_span(out, field_int(event, "seconds_left"));
    }
    if (strcmp(what, "warmup_step") == 0)
        buf_putf(out, "%suntil periods go well up to step %lld", ends ? " nothing goes, then " : "",
                 (long long)field_int(event, "returns_to"));
    else if (strcmp(what, "campaign_paused") == 0)
        buf_puts(out, "until it is resumed");
    else if (!ends)
        buf_puts(out, "until it is cleared");
    else if (field_known(event, "returns_to"))
        buf_puts(out, ", then a step back up");
}

void shaping_put_where(struct buf *out, const json_t *event)
{
    static const char *const keys[] = {"remote", "mx", "source", "campaign"};
    size_t i = 0;

    while (i < COUNT_OF(keys) - 1 && !*field_text(event, keys[i]))
        i++;
    if (*field_text(event, "campaign"))
        buf_puts(out, "campaign ");
    format_safe(out, bytes_of(field_text(event, keys[i])));
}

void shaping_put_event(struct buf *out, const json_t *event)
{
    shaping_put_what(out, event);
    buf_puts(out, ", ");
    shaping_put_until(out, event);
    if (field_count(event, "line"))
        buf_puts(out, ", by the rule in ");
    shaping_put_line(out, event);
    buf_puts(out, *field_text(event, "detail") ? ": " : ", after ");
    shaping_put_why(out, event);
    buf_putf(out, " (event %llu)", (unsigned long long)field_count(event, "id"));
}

void attempt_put_quiet_hours(struct buf *out, const json_t *hours, int64_t now_unix)
{
    format_safe(out, bytes_of(field_text(hours, "from")));
    buf_puts(out, " to ");
    format_safe(out, bytes_of(field_text(hours, "to")));
    buf_putc(out, ' ');
    format_safe(out, bytes_of(field_text(hours, "time_zone")));
    if (!field_known(hours, "changes_unix")) {
        buf_puts(out, ": this host does not know the zone, and nothing is sent");
        return;
    }
    buf_puts(out,
             json_is_true(json_object_get(hours, "quiet")) ? ": nothing is begun; they end " : ", next ");
    format_relative(out, field_int(hours, "changes_unix"), now_unix);
}
