/* Reports: what all have, delivery, reconciliation.  TLS is cmd_report_tls.c. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "webui-api/cli/report.h"

/* ---- what both reports have ---- */

void report_url(struct buf *url, const struct cli *cli, const char *path, const struct report_preset *preset)
{
    static const char *const params[] = {"since", "until", "group", "domain", "mx", "campaign", "limit"};
    const char *by = cli_text(cli, "by"), *sort = cli_text(cli, "sort");

    url_path(url, path);
    for (size_t i = 0; i < COUNT_OF(params); i++)
        url_param(url, params[i], cli_text(cli, params[i]));
    url_param(url, "by", by ? by : preset->by);
    url_param(url, "sort", sort ? sort : preset->sort);
    url_param(url, "only", preset->only);
}

int report_ask(struct cli *cli, const char *path, const struct report_preset *preset, json_t **out)
{
    BUF_LOCAL(url);

    report_url(&url, cli, path, preset);
    return cli_ask_rows(cli, "GET", &url, (struct bytes){0}, out);
}

void report_put_moment(struct buf *out, int64_t unix_seconds)
{
    format_local(out, unix_seconds);
    out->len -= 3; /* without seconds */
}

void report_put_span(struct buf *out, const struct cli *cli, const json_t *report)
{
    int64_t since = field_int(report, "since_unix"), until = field_int(report, "until_unix");

    buf_puts(out, term_on(&cli->term, STYLE_DIM));
    if (!since && !until) {
        buf_puts(out, "everything on record");
    } else {
        if (since) {
            buf_puts(out, "from ");
            report_put_moment(out, since);
        }
        buf_puts(out, since ? " to " : "up to ");
        if (until)
            report_put_moment(out, until);
        else
            buf_puts(out, "now");
    }
    buf_putf(out, "%s\n", term_off(&cli->term));
    report_put_skipped(out, cli, report);
}

void report_put_skipped(struct buf *out, const struct cli *cli, const json_t *report)
{
    uint64_t skipped = field_count(report, "days_skipped");

    if (skipped) {
        BUF_LOCAL(text);
        put_plural(&text, skipped, "day's record could not be read and is missing here",
                   "days' records could not be read and are missing here");
        put_styled(out, cli, STYLE_BAD, buf_str(&text));
        buf_putc(out, '\n');
    }
}

const char *report_key_title(const json_t *report)
{
    static const struct {
        const char *by, *title;
    } rows[] = {
        {"group", "GROUP"},
        {"domain", "DOMAIN"},
        {"mx", "MX"},
        {"campaign", "CAMPAIGN"},
        {"level", "LEVEL"},
        {"wanted", "ASKED FOR"},
        {"why", "WHY"},
        {"version", "VERSION"},
        {"cipher", "CIPHER"},
        {"kx", "KEY EXCHANGE"},
        {"verify", "VERDICT"},
        {"dane", "DANE"},
        {"sts", "MTA-STS"},
        {"failure", "FAILURE"},
        {"source", "SOURCE"},
        {"session", "SESSION"},
        {"fallback", "FALLBACK"},
        {"expiry", "CERTIFICATE ENDS"},
        {"expires", "CERTIFICATE ENDS"},
    };
    static char hour[32] = "HOUR";
    time_t now = time(NULL);
    struct tm tm;

    for (size_t i = 0; i < COUNT_OF(rows); i++)
        if (strcmp(field_text(report, "by"), rows[i].by) == 0)
            return rows[i].title;
    if (localtime_r(&now, &tm))
        strftime(hour, sizeof(hour), "HOUR (%Z)", &tm);
    return hour;
}

static void put_key(struct table *t, const json_t *report, const json_t *row)
{
    const char *key = field_text(row, field_text(report, "by"));

    if (field_known(row, "hour_unix"))
        report_put_moment(table_cell(t, STYLE_PLAIN), field_int(row, "hour_unix"));
    else
        table_text(t, *key ? STYLE_PLAIN : STYLE_DIM, *key ? key : "(none)");
}

void report_put_left_out(struct buf *out, const json_t *report, size_t shown)
{
    uint64_t all = field_count(report, "rows_in_all");

    if (all > shown) {
        buf_putf(out, "%zu of ", shown);
        put_plural(out, all, "line", "lines");
        buf_puts(out, " shown; the totals count all\n");
    }
}

void report_put_table(struct cli *cli, const json_t *report, const struct column *columns, size_t count,
                      void (*put_row)(struct table *, const json_t *), struct buf *out)
{
    const json_t *rows = json_object_get(report, "rows"), *totals = json_object_get(report, "totals");
    struct table t;
    json_t *row;
    size_t i;

    table_init(&t, columns, count);
    json_array_foreach(rows, i, row)
    {
        put_key(&t, report, row);
        put_row(&t, row);
    }
    if (field_count(report, "rows_in_all") != 1) { /* of one line the total is the same line */
        table_rule(&t);
        table_text(&t, STYLE_STRONG, "total");
        put_row(&t, totals);
    }
    table_print(&t, &cli->term, out);
    table_fini(&t);
    report_put_left_out(out, report, json_array_size(rows));
}

/* ---- sums ---- */

static void put_term(struct buf *out, const char *sign, uint64_t n, const char *name)
{
    buf_puts(out, sign);
    format_count(out, n);
    buf_putf(out, " %s", name);
}

void report_put_sum(struct buf *out, const json_t *sum)
{
    static const char *const parts[] = {"bounced", "expired", "cancelled", "waiting"};

    put_term(out, "", field_count(sum, "accepted"), "accepted");
    put_term(out, " = ", field_count(sum, "delivered"), "delivered");
    for (size_t i = 0; i < COUNT_OF(parts); i++)
        if (field_count(sum, parts[i]))
            put_term(out, " + ", field_count(sum, parts[i]), parts[i]);
}

/* ---- delivery ---- */

static void put_delivery_row(struct table *t, const json_t *row)
{
    table_count(t, STYLE_PLAIN, field_count(row, "attempts"));
    table_count(t, STYLE_GOOD, field_count(row, "delivered"));
    table_count(t, STYLE_WARN, field_count(row, "deferred"));
    table_count(t, STYLE_BAD, field_count(row, "bounced"));
    table_count(t, STYLE_BAD, field_count(row, "expired"));
    table_count(t, STYLE_WARN, field_count(row, "cancelled"));
    format_size(table_cell(t, STYLE_PLAIN), field_count(row, "bytes"));
    if (field_count(row, "attempts"))
        format_span_ms(table_cell(t, STYLE_PLAIN), field_count(row, "duration_ms_mean"));
    else
        buf_puts(table_cell(t, STYLE_DIM), "–");
}

int cmd_report_delivery(struct cli *cli)
{
    JSON_LOCAL(report);
    BUF_LOCAL(out);

    int code = report_ask(cli, "/api/v1/reports/delivery", &(struct report_preset){0}, &report);
    if (code || !report)
        return code;
    const struct column columns[] = {
        {report_key_title(report), COLUMN_GIVES},
        {"ATTEMPTS", COLUMN_RIGHT},
        {"DELIVERED", COLUMN_RIGHT},
        {"DEFERRED", COLUMN_RIGHT},
        {"BOUNCED", COLUMN_RIGHT},
        {"EXPIRED", COLUMN_RIGHT | COLUMN_OPTIONAL},
        {"CANCELLED", COLUMN_RIGHT | COLUMN_OPTIONAL},
        {"VOLUME", COLUMN_RIGHT},
        {"MEAN TIME", COLUMN_RIGHT},
    };
    const json_t *totals = json_object_get(report, "totals");
    report_put_span(&out, cli, report);
    report_put_table(cli, report, columns, COUNT_OF(columns), put_delivery_row, &out);
    if (field_known(totals, "accepted") && field_known(totals, "waiting")) {
        buf_putc(&out, '\n');
        report_put_sum(&out, totals);
        buf_putc(&out, '\n');
    }
    return cli_write(buf_bytes(&out));
}
