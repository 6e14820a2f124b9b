/* How messages came in: report submission-tls. */
#include <stdio.h>

#include "webui-api/cli/cli.h"

static void submission_url(struct buf *url, const struct cli *cli)
{
    static const char *const params[] = {"since",    "until", "by",   "account", "source",
                                         "listener", "auth",  "sort", "limit"};

    url_path(url, "/api/v1/reports/submission-tls");
    for (size_t i = 0; i < COUNT_OF(params); i++)
        url_param(url, params[i], cli_text(cli, params[i]));
}

static void put_key(struct table *t, const json_t *row, const char *by)
{
    const char *key = field_text(row, by);
    struct buf *cell;

    if (field_known(row, "hour_unix")) {
        cell = table_cell(t, STYLE_PLAIN);
        format_local(cell, field_int(row, "hour_unix"));
        cell->len -= 3; /* without seconds */
    } else if (strcmp(by, "version") == 0 || strcmp(by, "cipher") == 0) {
        table_text(t, *key ? STYLE_PLAIN : STYLE_BAD, *key ? key : "(in clear)");
    } else {
        table_text(t, *key ? STYLE_PLAIN : STYLE_DIM, *key ? key : "(none)");
    }
}

/* "scram-sha-256 120, none 3" */
static void put_proofs(struct table *t, const json_t *row)
{
    struct buf *cell = table_cell(t, STYLE_PLAIN);
    const char *name;
    json_t *n;
    bool first = true;

    json_object_foreach(json_object_get(row, "proofs"), name, n)
    {
        buf_puts(cell, first ? "" : ", ");
        format_safe(cell, bytes_of(name));
        if (json_object_size(json_object_get(row, "proofs")) > 1) {
            buf_putc(cell, ' ');
            format_count(cell, (uint64_t)json_integer_value(n));
        }
        first = false;
    }
}

static void put_row(struct table *t, const struct cli *cli, const json_t *row)
{
    table_count(t, STYLE_PLAIN, field_count(row, "messages"));
    table_count(t, STYLE_BAD, field_count(row, "clear"));
    table_count(t, STYLE_BAD, field_count(row, "older"));
    table_count(t, STYLE_WARN, field_count(row, "tls12"));
    table_count(t, STYLE_GOOD, field_count(row, "tls13"));
    table_count(t, STYLE_PLAIN, field_count(row, "recipients"));
    put_proofs(t, row);
    if (field_int(row, "last_unix"))
        format_relative(table_cell(t, STYLE_PLAIN), field_int(row, "last_unix"), cli->now_unix);
    else
        table_text(t, STYLE_DIM, "–");
}

static void put_ciphers(struct cli *cli, const json_t *totals, struct buf *out)
{
    static const struct column columns[] = {{"VERSION", COLUMN_LEFT},
                                            {"CIPHER", COLUMN_LEFT},
                                            {"MESSAGES", COLUMN_RIGHT},
                                            {"SHARE", COLUMN_RIGHT}};
    struct table t;
    json_t *c;
    size_t i;

    if (!json_array_size(json_object_get(totals, "ciphers")))
        return;
    table_init(&t, columns, COUNT_OF(columns));
    json_array_foreach(json_object_get(totals, "ciphers"), i, c)
    {
        table_text(&t, STYLE_PLAIN, field_text(c, "version"));
        table_text(&t, STYLE_PLAIN, field_text(c, "cipher"));
        table_count(&t, STYLE_PLAIN, field_count(c, "messages"));
        format_percent(table_cell(&t, STYLE_PLAIN), field_count(c, "messages"),
                       field_count(totals, "messages"));
    }
    buf_putc(out, '\n');
    table_print(&t, &cli->term, out);
    table_fini(&t);
}

static const char *title_of(const char *by)
{
    static const struct {
        const char *by, *title;
    } rows[] = {{"source", "SOURCE"},   {"network", "NETWORK"}, {"listener", "LISTENER"},
                {"version", "VERSION"}, {"cipher", "CIPHER"},   {"auth", "PROOF"},
                {"hour", "HOUR"}};

    for (size_t i = 0; i < COUNT_OF(rows); i++)
        if (strcmp(by, rows[i].by) == 0)
            return rows[i].title;
    return "ACCOUNT";
}

static void put_report(struct cli *cli, const json_t *report, struct buf *out)
{
    const char *by = field_text(report, "by");
    const json_t *rows = json_object_get(report, "rows"), *totals = json_object_get(report, "totals");
    const struct column columns[] = {
        {title_of(by), COLUMN_GIVES}, {"MESSAGES", COLUMN_RIGHT},
        {"CLEAR", COLUMN_RIGHT},      {"OLDER TLS", COLUMN_RIGHT | COLUMN_OPTIONAL},
        {"TLS 1.2", COLUMN_RIGHT},    {"TLS 1.3", COLUMN_RIGHT},
        {"RECIPIENTS", COLUMN_RIGHT}, {"PROVED BY", COLUMN_LEFT},
        {"LAST", COLUMN_LEFT},
    };
    struct table t;
    json_t *row;
    size_t i;

    table_init(&t, columns, COUNT_OF(columns));
    json_array_foreach(rows, i, row)
    {
        put_key(&t, row, by);
        put_row(&t, cli, row);
    }
    if (field_count(report, "rows_in_all") != 1) {
        table_rule(&t);
        table_text(&t, STYLE_STRONG, "total");
        put_row(&t, cli, totals);
    }
    table_print(&t, &cli->term, out);
    table_fini(&t);
    if (field_count(report, "rows_in_all") > json_array_size(rows)) {
        buf_putf(out, "%zu of ", json_array_size(rows));
        put_plural(out, field_count(report, "rows_in_all"), "line", "lines");
        buf_puts(out, " shown; the totals count all\n");
    }
    put_ciphers(cli, totals, out);
}

int cmd_report_submission_tls(struct cli *cli)
{
    JSON_LOCAL(report);
    BUF_LOCAL(url);
    BUF_LOCAL(out);

    submission_url(&url, cli);
    int code = cli_ask_rows(cli, "GET", &url, (struct bytes){0}, &report);
    if (code || !report)
        return code;
    put_report(cli, report, &out);
    return cli_write(buf_bytes(&out));
}
