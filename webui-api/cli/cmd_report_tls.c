/* The TLS report: how mail travelled, where it went in clear, what is weak, which certificates end soon. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "webui-api/cli/report.h"

#define PATH "/api/v1/reports/tls"

/* ---- all of it ---- */

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
                                            {"CIPHER", COLUMN_GIVES},
                                            {"KEY EXCHANGE", COLUMN_OPTIONAL},
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
        table_text(&t, STYLE_PLAIN, field_text(c, "kx"));
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

/* "Encrypted 97.4 %, of these …" */
static void put_shares(struct cli *cli, const json_t *totals, struct buf *out)
{
    static const struct {
        const char *before, *field;
    } parts[] = {{": by choice ", "clear_by_choice"},
                 {", by lack ", "clear_by_lack"},
                 {", by fallback ", "clear_by_fallback"}};
    uint64_t delivered = field_count(totals, "delivered"), clear = field_count(totals, "clear");

    if (!delivered)
        return;
    buf_puts(out, "\n");
    put_styled(out, cli, STYLE_STRONG, "Encrypted ");
    format_percent(out, delivered - MIN_OF(clear, delivered), delivered);
    buf_puts(out, " of what was delivered, authenticated ");
    format_percent(out, field_count(totals, "verified"), delivered);
    buf_puts(out, ", in clear text ");
    format_percent(out, clear, delivered);
    for (size_t i = 0; clear && i < COUNT_OF(parts); i++) {
        buf_puts(out, parts[i].before);
        format_percent(out, field_count(totals, parts[i].field), delivered);
    }
    buf_putc(out, '\n');
    if (field_count(totals, "weak")) {
        buf_puts(out, "Weak TLS carried ");
        format_percent(out, field_count(totals, "weak"), delivered);
        buf_puts(out, ": hayauma report tls weak\n");
    }
}

/* "DANE: match 120, none 40" */
static void put_counts(const json_t *totals, const char *field, const char *title, struct buf *out)
{
    json_t *counts = json_object_get(totals, field), *n;
    const char *name;
    bool first = true;

    json_object_foreach(counts, name, n)
    {
        if (strcmp(name, "off") == 0)
            continue;
        buf_puts(out, first ? title : ", ");
        format_safe(out, bytes_of(name));
        buf_putc(out, ' ');
        format_count(out, (uint64_t)json_integer_value(n));
        first = false;
    }
    if (!first)
        buf_putc(out, '\n');
}

static int report_all(struct cli *cli)
{
    JSON_LOCAL(report);
    BUF_LOCAL(out);

    int code = report_ask(cli, PATH, &(struct report_preset){0}, &report);
    if (code || !report)
        return code;
    const struct column columns[] = {
        {report_key_title(report), COLUMN_GIVES},
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
    report_put_span(&out, cli, report);
    report_put_table(cli, report, columns, COUNT_OF(columns), put_tls_row, &out);
    put_shares(cli, totals, &out);
    put_levels(cli, totals, &out);
    put_ciphers(cli, totals, &out);
    put_verdicts(cli, totals, &out);
    put_counts(totals, "dane", "DANE: ", &out);
    put_counts(totals, "sts", "MTA-STS: ", &out);
    put_counts(totals, "failures", "Failures (attempts): ", &out);
    buf_putf(&out,
             "\n%sClear text by choice: the rule is off; by lack: STARTTLS was not offered; by fallback: TLS "
             "failed, and "
             "the rule allows it.\nHeld for TLS counts attempts, all else recipients.%s\n",
             term_on(&cli->term, STYLE_DIM), term_off(&cli->term));
    return cli_write(buf_bytes(&out));
}

/* ---- clear text ---- */

static void put_clear_row(struct table *t, const json_t *row)
{
    table_count(t, STYLE_BAD, field_count(row, "clear"));
    format_percent(table_cell(t, STYLE_PLAIN), field_count(row, "clear"), field_count(row, "delivered"));
    table_count(t, STYLE_PLAIN, field_count(row, "clear_by_choice"));
    table_count(t, STYLE_WARN, field_count(row, "clear_by_lack"));
    table_count(t, STYLE_BAD, field_count(row, "clear_by_fallback"));
    table_count(t, STYLE_PLAIN, field_count(row, "delivered"));
}

static const struct report_preset preset_clear = {"domain", "clear", "clear"};
static const struct report_preset preset_weak = {"mx", "weak", "weak"};

static int report_clear(struct cli *cli)
{
    JSON_LOCAL(report);
    BUF_LOCAL(out);

    int code = report_ask(cli, PATH, &preset_clear, &report);
    if (code || !report)
        return code;
    const struct column columns[] = {
        {report_key_title(report), COLUMN_GIVES},
        {"IN CLEAR", COLUMN_RIGHT},
        {"SHARE", COLUMN_RIGHT},
        {"BY CHOICE", COLUMN_RIGHT},
        {"LACK", COLUMN_RIGHT},
        {"FALLBACK", COLUMN_RIGHT},
        {"DELIVERED", COLUMN_RIGHT},
    };
    report_put_span(&out, cli, report);
    if (!field_count(report, "rows_in_all"))
        buf_puts(&out, "nothing was delivered in clear text\n");
    else
        report_put_table(cli, report, columns, COUNT_OF(columns), put_clear_row, &out);
    return cli_write(buf_bytes(&out));
}

/* ---- weak ---- */

static void put_weak_row(struct table *t, const json_t *row)
{
    table_count(t, STYLE_BAD, field_count(row, "weak"));
    table_count(t, STYLE_WARN, field_count(row, "weak_version"));
    table_count(t, STYLE_WARN, field_count(row, "weak_cipher"));
    table_count(t, STYLE_WARN, field_count(row, "weak_kx"));
    table_count(t, STYLE_WARN, field_count(row, "weak_certificate"));
    table_count(t, STYLE_PLAIN, field_count(row, "delivered"));
}

static int report_weak(struct cli *cli)
{
    JSON_LOCAL(report);
    BUF_LOCAL(out);

    int code = report_ask(cli, PATH, &preset_weak, &report);
    if (code || !report)
        return code;
    const struct column columns[] = {
        {report_key_title(report), COLUMN_GIVES},
        {"WEAK", COLUMN_RIGHT},
        {"BELOW TLS 1.2", COLUMN_RIGHT},
        {"CIPHER", COLUMN_RIGHT},
        {"KEY EXCHANGE", COLUMN_RIGHT},
        {"CERTIFICATE", COLUMN_RIGHT},
        {"DELIVERED", COLUMN_RIGHT},
    };
    report_put_span(&out, cli, report);
    if (!field_count(report, "rows_in_all"))
        buf_puts(&out, "nothing was delivered with weak TLS\n");
    else
        report_put_table(cli, report, columns, COUNT_OF(columns), put_weak_row, &out);
    return cli_write(buf_bytes(&out));
}

/* ---- certificates that end soon ---- */

static void certificates_url(struct buf *url, const struct cli *cli)
{
    url_path(url, "/api/v1/reports/certificates");
    url_param(url, "within", cli_text(cli, "within"));
    url_param(url, "since", cli_text(cli, "since"));
    url_param(url, "limit", cli_text(cli, "limit"));
}

static void put_certificate(struct table *t, const json_t *row)
{
    int64_t left = field_int(row, "seconds_left");

    table_text(t, STYLE_STRONG, field_text(row, "mx"));
    struct buf *cell = table_cell(t, left < 0 ? STYLE_BAD : left < 7 * 86400 ? STYLE_WARN : STYLE_PLAIN);
    report_put_moment(cell, field_int(row, "expires_unix"));
    cell = table_cell(t, left < 0 ? STYLE_BAD : STYLE_DIM);
    format_relative(cell, field_int(row, "expires_unix"), field_int(row, "expires_unix") - left);
    table_text(t, STYLE_PLAIN, field_text(row, "verify"));
    report_put_moment(table_cell(t, STYLE_DIM), field_int(row, "seen_unix"));
    table_count(t, STYLE_PLAIN, field_count(row, "sessions"));
    table_count(t, STYLE_PLAIN, field_count(row, "domains"));
    table_text(t, STYLE_DIM, field_text(row, "domain"));
}

static int report_expiring(struct cli *cli)
{
    static const char *const foreign[] = {"until", "by", "group", "domain", "mx", "campaign", "sort"};
    static const struct column columns[] = {
        {"MX", COLUMN_GIVES},       {"ENDS", COLUMN_LEFT},
        {"", COLUMN_LEFT},          {"VERDICT", COLUMN_LEFT},
        {"LAST SEEN", COLUMN_LEFT}, {"SESSIONS", COLUMN_RIGHT},
        {"DOMAINS", COLUMN_RIGHT},  {"FOR EXAMPLE", COLUMN_GIVES | COLUMN_SPARE},
    };
    JSON_LOCAL(report);
    BUF_LOCAL(url);
    BUF_LOCAL(out);
    struct table t;
    json_t *row;
    size_t i;

    for (i = 0; i < COUNT_OF(foreign); i++)
        if (cli_has(cli, foreign[i]))
            return cli_fail(CLI_USAGE, "'report tls expiring' has no use for --%s", foreign[i]);
    certificates_url(&url, cli);
    int code = cli_ask_rows(cli, "GET", &url, (struct bytes){0}, &report);
    if (code || !report)
        return code;
    report_put_skipped(&out, cli, report);
    if (!field_count(report, "rows_in_all")) {
        buf_puts(&out, "no certificate that was seen ends before ");
        report_put_moment(&out, field_int(report, "before_unix"));
        buf_putc(&out, '\n');
        return cli_write(buf_bytes(&out));
    }
    table_init(&t, columns, COUNT_OF(columns));
    json_array_foreach(json_object_get(report, "rows"), i, row) put_certificate(&t, row);
    table_print(&t, &cli->term, &out);
    table_fini(&t);
    report_put_left_out(&out, report, json_array_size(json_object_get(report, "rows")));
    return cli_write(buf_bytes(&out));
}

/* ---- a file for an auditor ---- */

struct html_ask {
    const char *path;
    struct report_preset preset;
    bool span; /* since, until and filters apply */
    const char *limit;
    json_t *answer; /* owned */
};

static int ask_page(struct cli *cli, struct html_ask *a)
{
    BUF_LOCAL(url);

    if (a->span) {
        report_url(&url, cli, a->path, &a->preset);
    } else {
        url_path(&url, a->path);
        if (strstr(a->path, "certificates"))
            url_param(&url, "within", cli_text(cli, "within"));
    }
    if (a->limit)
        url_param(&url, "limit", a->limit);
    return client_call_json(cli->client, "GET", &url, (struct bytes){0}, &a->answer);
}

static int write_html(const char *name, struct bytes text)
{
    if (strcmp(name, "-") == 0)
        return cli_write(text);
    FILE *f = fopen(name, "we");
    bool good = f && fwrite(text.at, 1, text.len, f) == text.len && fflush(f) == 0;
    if (f && fclose(f) != 0)
        good = false;
    return good ? CLI_DONE : cli_fail(CLI_REFUSED, "%s cannot be written: %m", name);
}

static int report_to_html(struct cli *cli, const char *file)
{
    enum { HOURS, GROUPS, CLEAR, WEAK, CERTIFICATES, DOWNGRADES, STATUS, ASKS };
    struct html_ask asks[ASKS] = {
        [HOURS] = {PATH, {"hour", NULL, NULL}, true, "0", NULL},
        [GROUPS] = {PATH, {"group", NULL, NULL}, true, "200", NULL},
        [CLEAR] = {PATH, preset_clear, true, "200", NULL},
        [WEAK] = {PATH, preset_weak, true, "200", NULL},
        [CERTIFICATES] = {"/api/v1/reports/certificates", {NULL, NULL, NULL}, false, "200", NULL},
        [DOWNGRADES] = {"/api/v1/tls/downgrades", {NULL, NULL, NULL}, false, NULL, NULL},
        [STATUS] = {"/api/v1/status", {NULL, NULL, NULL}, false, NULL, NULL},
    };
    char made[32] = "";
    time_t now = (time_t)cli->now_unix;
    struct tm tm;
    int code = CLI_DONE;
    BUF_LOCAL(out);

    if (cli_has(cli, "csv") || cli->json || cli_has(cli, "by") || cli_has(cli, "sort") ||
        cli_has(cli, "limit"))
        return cli_fail(
            CLI_USAGE,
            "--html makes a file of its own form: not with --csv, --json, --by, --sort or --limit");
    for (size_t i = 0; i < ASKS && !code; i++)
        code = ask_page(cli, &asks[i]);
    if (!code) {
        if (gmtime_r(&now, &tm))
            strftime(made, sizeof(made), "%Y-%m-%d %H:%M", &tm);
        const struct report_pages pages = {asks[HOURS].answer,
                                           asks[GROUPS].answer,
                                           asks[CLEAR].answer,
                                           asks[WEAK].answer,
                                           asks[CERTIFICATES].answer,
                                           asks[DOWNGRADES].answer,
                                           field_text(asks[STATUS].answer, "host_name"),
                                           made};
        report_html(&pages, &out);
        code = write_html(file, buf_bytes(&out));
    }
    for (size_t i = 0; i < ASKS; i++)
        json_decref(asks[i].answer);
    return code;
}

int cmd_report_tls(struct cli *cli)
{
    static const struct {
        const char *name;
        int (*run)(struct cli *cli);
    } parts[] = {{"clear", report_clear}, {"weak", report_weak}, {"expiring", report_expiring}};
    const char *part = cli_arg(cli, 0), *file = cli_text(cli, "html");

    if (part && file)
        return cli_fail(CLI_USAGE, "--html holds everything: 'report tls --html %s'", file);
    if (cli_has(cli, "within") && !file && !(part && strcmp(part, "expiring") == 0))
        return cli_fail(CLI_USAGE, "--within is for 'report tls expiring' and --html");
    if (file)
        return report_to_html(cli, file);
    if (!part)
        return report_all(cli);
    for (size_t i = 0; i < COUNT_OF(parts); i++)
        if (strcmp(part, parts[i].name) == 0)
            return parts[i].run(cli);
    return cli_fail(CLI_USAGE, "'report tls' takes clear, weak or expiring, not '%s'", part);
}
