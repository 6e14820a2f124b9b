/* Reports: delivery, TLS, reconciliation. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "webui-api/cli/cli.h"

/* ---- what both reports have ---- */

static void report_url(struct buf *url, const struct cli *cli, const char *path)
{
    static const char *const params[] = {"since", "until",    "by",   "group", "domain",
                                         "mx",    "campaign", "sort", "limit"};

    url_path(url, path);
    for (size_t i = 0; i < COUNT_OF(params); i++)
        url_param(url, params[i], cli_text(cli, params[i]));
    if (cli_has(cli, "csv"))
        url_param(url, "format", "csv");
}

/* *out stays NULL when everything is said already. */
static int ask_report(struct cli *cli, const char *path, json_t **out)
{
    ANSWER_LOCAL(answer);
    BUF_LOCAL(url);

    if (cli_has(cli, "csv") && cli->json)
        return cli_fail(CLI_USAGE, "--csv and --json: one of the two");
    report_url(&url, cli, path);
    if (!cli_has(cli, "csv"))
        return cli_ask(cli, "GET", &url, (struct bytes){0}, out);
    int code = client_call(cli->client, "GET", &url, (struct bytes){0}, &answer);
    return code ? code : cli_write(buf_bytes(&answer.body));
}

static void put_moment(struct buf *out, int64_t unix_seconds)
{
    format_local(out, unix_seconds);
    out->len -= 3; /* without seconds */
}

static void put_span(struct buf *out, const struct cli *cli, const json_t *report)
{
    int64_t since = field_int(report, "since_unix"), until = field_int(report, "until_unix");
    uint64_t skipped = field_count(report, "days_skipped");

    buf_puts(out, term_on(&cli->term, STYLE_DIM));
    if (!since && !until) {
        buf_puts(out, "everything on record");
    } else {
        if (since) {
            buf_puts(out, "from ");
            put_moment(out, since);
        }
        buf_puts(out, since ? " to " : "up to ");
        if (until)
            put_moment(out, until);
        else
            buf_puts(out, "now");
    }
    buf_putf(out, "%s\n", term_off(&cli->term));
    if (skipped) {
        BUF_LOCAL(text);
        put_plural(&text, skipped, "day's record could not be read and is missing here",
                   "days' records could not be read and are missing here");
        put_styled(out, cli, STYLE_BAD, buf_str(&text));
        buf_putc(out, '\n');
    }
}

/* The name of the first column. */
static const char *key_title(const json_t *report)
{
    static const struct {
        const char *by, *title;
    } rows[] = {{"group", "GROUP"}, {"domain", "DOMAIN"}, {"mx", "MX"}, {"campaign", "CAMPAIGN"}};
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
        put_moment(table_cell(t, STYLE_PLAIN), field_int(row, "hour_unix"));
    else
        table_text(t, *key ? STYLE_PLAIN : STYLE_DIM, *key ? key : "(none)");
}

static void put_rows_left_out(struct buf *out, const json_t *report, size_t shown)
{
    uint64_t all = field_count(report, "rows_in_all");

    if (all > shown) {
        buf_putf(out, "%zu of ", shown);
        put_plural(out, all, "line", "lines");
        buf_puts(out, " shown; the totals count all\n");
    }
}

/* Rows, then below a line the totals; nothing but the head when there is nothing. */
static void put_table(struct cli *cli, const json_t *report, const struct column *columns, size_t count,
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
    put_rows_left_out(out, report, json_array_size(rows));
}

/* ---- sums ---- */

static void put_term(struct buf *out, const char *sign, uint64_t n, const char *name)
{
    buf_puts(out, sign);
    format_count(out, n);
    buf_putf(out, " %s", name);
}

/* "20,000 accepted = 19,000 delivered + …", without what is zero. */
static void put_sum(struct buf *out, const json_t *sum)
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

    int code = ask_report(cli, "/api/v1/reports/delivery", &report);
    if (code || !report)
        return code;
    const struct column columns[] = {
        {key_title(report), COLUMN_GIVES},
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
    put_span(&out, cli, report);
    put_table(cli, report, columns, COUNT_OF(columns), put_delivery_row, &out);
    if (field_known(totals, "accepted") && field_known(totals, "waiting")) {
        buf_putc(&out, '\n');
        put_sum(&out, totals);
        buf_putc(&out, '\n');
    }
    return cli_write(buf_bytes(&out));
}

/* ---- TLS ---- */

static void put_tls_row(struct table *t, const json_t *row)
{
    uint64_t encrypted =
        field_count(row, "tls13") + field_count(row, "tls12") + field_count(row, "tls_older");

    table_count(t, STYLE_PLAIN, field_count(row, "delivered"));
    table_count(t, STYLE_GOOD, field_count(row, "tls13"));
    table_count(t, STYLE_GOOD, field_count(row, "tls12"));
    table_count(t, STYLE_BAD, field_count(row, "tls_older"));
    format_percent(table_cell(t, encrypted ? STYLE_PLAIN : STYLE_DIM), field_count(row, "verified"),
                   encrypted);
    table_count(t, STYLE_PLAIN, field_count(row, "clear_by_choice"));
    table_count(t, STYLE_WARN, field_count(row, "clear_by_lack"));
    table_count(t, STYLE_BAD, field_count(row, "clear_by_fallback"));
    table_count(t, STYLE_WARN, field_count(row, "held_for_tls"));
    table_count(t, STYLE_BAD, field_count(row, "failed_for_tls"));
}

static void put_ciphers(struct cli *cli, const json_t *totals, struct buf *out)
{
    static const struct column columns[] = {{"VERSION", COLUMN_LEFT},
                                            {"CIPHER", COLUMN_LEFT},
                                            {"DELIVERED", COLUMN_RIGHT},
                                            {"SHARE", COLUMN_RIGHT}};
    const json_t *ciphers = json_object_get(totals, "ciphers");
    uint64_t encrypted = field_count(totals, "delivered") -
                         MIN_OF(field_count(totals, "clear"), field_count(totals, "delivered"));
    struct table t;
    json_t *c;
    size_t i;

    if (!json_array_size(ciphers))
        return;
    table_init(&t, columns, COUNT_OF(columns));
    json_array_foreach(ciphers, i, c)
    {
        table_text(&t, STYLE_PLAIN, field_text(c, "version"));
        table_text(&t, STYLE_PLAIN, field_text(c, "cipher"));
        table_count(&t, STYLE_PLAIN, field_count(c, "delivered"));
        format_percent(table_cell(&t, STYLE_PLAIN), field_count(c, "delivered"), encrypted);
    }
    buf_putc(out, '\n');
    table_print(&t, &cli->term, out);
    table_fini(&t);
}

/* How the certificates were: "verified-pkix 120, self-signed 40". */
static void put_verdicts(struct cli *cli, const json_t *totals, struct buf *out)
{
    json_t *verify = json_object_get(totals, "verify"), *n;
    const char *name;
    bool first = true;

    json_object_foreach(verify, name, n)
    {
        if (strcmp(name, "none") == 0 || json_integer_value(n) <= 0)
            continue;
        buf_puts(out, first ? "\nCertificates: " : ", ");
        format_safe(out, bytes_of(name));
        buf_putc(out, ' ');
        format_count(out, (uint64_t)json_integer_value(n));
        first = false;
    }
    uint64_t resumed = field_count(totals, "resumed");
    if (!first && resumed) {
        buf_puts(out, "; ");
        put_plural(out, resumed, "of them by a resumed session", "of them by resumed sessions");
    }
    if (!first)
        buf_putc(out, '\n');
    (void)cli;
}

static void put_levels(struct cli *cli, const json_t *totals, struct buf *out)
{
    static const struct column columns[] = {{"STARTTLS ASKED FOR", COLUMN_LEFT},
                                            {"DELIVERED", COLUMN_RIGHT},
                                            {"ENCRYPTED", COLUMN_RIGHT},
                                            {"VERIFIED", COLUMN_RIGHT},
                                            {"HELD FOR TLS", COLUMN_RIGHT}};
    json_t *wanted = json_object_get(totals, "wanted"), *level;
    const char *name;
    struct table t;

    if (!json_object_size(wanted))
        return;
    table_init(&t, columns, COUNT_OF(columns));
    json_object_foreach(wanted, name, level)
    {
        uint64_t delivered = field_count(level, "delivered");
        table_text(&t, STYLE_PLAIN, name);
        table_count(&t, STYLE_PLAIN, delivered);
        format_percent(table_cell(&t, STYLE_PLAIN), field_count(level, "encrypted"), delivered);
        format_percent(table_cell(&t, STYLE_PLAIN), field_count(level, "verified"), delivered);
        table_count(&t, STYLE_WARN, field_count(level, "held"));
    }
    buf_putc(out, '\n');
    table_print(&t, &cli->term, out);
    table_fini(&t);
}

int cmd_report_tls(struct cli *cli)
{
    JSON_LOCAL(report);
    BUF_LOCAL(out);

    int code = ask_report(cli, "/api/v1/reports/tls", &report);
    if (code || !report)
        return code;
    const struct column columns[] = {
        {key_title(report), COLUMN_GIVES},
        {"DELIVERED", COLUMN_RIGHT},
        {"TLS 1.3", COLUMN_RIGHT},
        {"TLS 1.2", COLUMN_RIGHT},
        {"OLDER TLS", COLUMN_RIGHT | COLUMN_OPTIONAL},
        {"VERIFIED", COLUMN_RIGHT},
        {"CLEAR: CHOICE", COLUMN_RIGHT},
        {"LACK", COLUMN_RIGHT},
        {"FALLBACK", COLUMN_RIGHT},
        {"HELD FOR TLS", COLUMN_RIGHT},
        {"FAILED FOR TLS", COLUMN_RIGHT | COLUMN_OPTIONAL},
    };
    const json_t *totals = json_object_get(report, "totals");
    put_span(&out, cli, report);
    put_table(cli, report, columns, COUNT_OF(columns), put_tls_row, &out);
    put_levels(cli, totals, &out);
    put_ciphers(cli, totals, &out);
    put_verdicts(cli, totals, &out);
    buf_putf(&out,
             "\n%sClear text by choice: the rule is off; by lack: STARTTLS was not offered; by fallback: TLS "
             "failed, and "
             "the rule allows it.\nHeld for TLS counts attempts, all else recipients.%s\n",
             term_on(&cli->term, STYLE_DIM), term_off(&cli->term));
    return cli_write(buf_bytes(&out));
}

/* ---- reconciliation ---- */

static void put_verdict(struct cli *cli, const json_t *root, struct buf *out)
{
    const json_t *totals = json_object_get(root, "totals");
    int64_t difference = field_int(totals, "difference"), since = field_int(root, "since_unix");

    if (field_bool(root, "exact")) {
        put_styled(out, cli, STYLE_GOOD, "exact: every accepted recipient is accounted for");
    } else if (field_bool(root, "in_motion")) {
        put_styled(out, cli, STYLE_WARN, "not decided: mail flows, and no still moment was found; ask again");
    } else {
        BUF_LOCAL(text);
        put_plural(&text, (uint64_t)(difference < 0 ? -difference : difference), "recipient", "recipients");
        buf_puts(&text, difference < 0 ? " more on the right side than were accepted" : " not accounted for");
        buf_puts(&text, ": NOT EXACT");
        put_styled(out, cli, STYLE_BAD, buf_str(&text));
    }
    buf_putc(out, '\n');
    if (since) {
        buf_puts(out, "counted is mail accepted since ");
        put_moment(out, since);
        buf_puts(out, "; of older mail the records are no longer whole\n");
    }
}

static void put_sum_row(struct table *t, const json_t *row)
{
    int64_t difference = field_int(row, "difference");

    table_count(t, STYLE_PLAIN, field_count(row, "accepted_messages"));
    table_count(t, STYLE_PLAIN, field_count(row, "accepted"));
    table_count(t, STYLE_GOOD, field_count(row, "delivered"));
    table_count(t, STYLE_BAD, field_count(row, "bounced"));
    table_count(t, STYLE_BAD, field_count(row, "expired"));
    table_count(t, STYLE_WARN, field_count(row, "cancelled"));
    table_count(t, STYLE_PLAIN, field_count(row, "waiting"));
    buf_putf(table_cell(t, difference ? STYLE_BAD : STYLE_DIM), "%lld", (long long)difference);
}

static void put_campaigns(struct cli *cli, const json_t *root, struct buf *out)
{
    static const struct column columns[] = {
        {"CAMPAIGN", COLUMN_LEFT},
        {"MESSAGES", COLUMN_RIGHT},
        {"ACCEPTED", COLUMN_RIGHT},
        {"DELIVERED", COLUMN_RIGHT},
        {"BOUNCED", COLUMN_RIGHT},
        {"EXPIRED", COLUMN_RIGHT | COLUMN_OPTIONAL},
        {"CANCELLED", COLUMN_RIGHT | COLUMN_OPTIONAL},
        {"WAITING", COLUMN_RIGHT},
        {"DIFFERENCE", COLUMN_RIGHT},
    };
    struct table t;
    json_t *row;
    size_t i;

    table_init(&t, columns, COUNT_OF(columns));
    json_array_foreach(json_object_get(root, "rows"), i, row)
    {
        const char *campaign = field_text(row, "campaign");
        table_text(&t, *campaign ? STYLE_PLAIN : STYLE_DIM, *campaign ? campaign : "(none)");
        put_sum_row(&t, row);
    }
    table_rule(&t);
    table_text(&t, STYLE_STRONG, "total");
    put_sum_row(&t, json_object_get(root, "totals"));
    table_print(&t, &cli->term, out);
    table_fini(&t);
    buf_putc(out, '\n');
}

int cmd_report_reconcile(struct cli *cli)
{
    JSON_LOCAL(root);
    BUF_LOCAL(url);
    BUF_LOCAL(out);

    url_path(&url, "/api/v1/reports/reconcile");
    url_param(&url, "campaign", cli_text(cli, "campaign"));
    url_param(&url, "by", cli_text(cli, "by"));
    int code = client_call_json(cli->client, "GET", &url, (struct bytes){0}, &root);
    if (code)
        return code;
    bool wrong = !field_bool(root, "exact") && !field_bool(root, "in_motion");
    if (cli->json) {
        code = cli_write_tree(cli, root);
        return code ? code : wrong ? CLI_REFUSED : CLI_DONE;
    }
    if (cli_has(cli, "by"))
        put_campaigns(cli, root, &out);
    put_sum(&out, json_object_get(root, "totals"));
    buf_puts(&out, "\n");
    put_verdict(cli, root, &out);
    code = cli_write(buf_bytes(&out));
    return code ? code : wrong ? CLI_REFUSED : CLI_DONE;
}
