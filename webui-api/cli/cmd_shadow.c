/* Rules beside the live ones: the shadow, its report, and what a document would have done. */
#include <stdio.h>

#include "webui-api/cli/report.h"

#define SHADOW_URL "/api/v1/policy/shadow"

static int read_document(const char *file, struct buf *text, struct document *doc)
{
    int code = cli_read_file(file, text);

    *doc = (struct document){strcmp(file, "-") == 0 ? "stdin" : file, buf_bytes(text)};
    return code;
}

static void put_notices(const struct document *doc, const json_t *answer, struct buf *out)
{
    json_t *c;
    size_t i;

    json_array_foreach(json_object_get(answer, "notices"), i, c)
    {
        complaint_put(out, doc, c, "notice: ");
    }
}

/* ---- the rules ---- */

static int shadow_apply(struct cli *cli, const char *file)
{
    struct document doc;
    JSON_LOCAL(done);
    BUF_LOCAL(text);
    BUF_LOCAL(url);
    BUF_LOCAL(out);

    int code = read_document(file, &text, &doc);
    if (code)
        return code;
    url_path(&url, SHADOW_URL);
    url_param(&url, "comment", cli_text(cli, "comment"));
    client_document(cli->client, &doc);
    code = cli_ask(cli, "POST", &url, doc.text, &done);
    if (code || cli->json)
        return code;
    put_notices(&doc, done, &out);
    buf_putf(&out,
             "shadow rules %llu are judged from now on, and change nothing; 'hayauma report shadow' tells\n",
             (unsigned long long)field_count(done, "version"));
    return cli_write(buf_bytes(&out));
}

static int shadow_show(struct cli *cli)
{
    JSON_LOCAL(shadow);
    BUF_LOCAL(url);
    BUF_LOCAL(out);

    url_path(&url, SHADOW_URL);
    int code = cli_ask(cli, "GET", &url, (struct bytes){0}, &shadow);
    if (code || cli->json)
        return code;
    buf_putf(&out, "%s# ", term_on(&cli->term, STYLE_DIM));
    put_version(&out, cli, "shadow rules", shadow);
    buf_putf(&out, "%s\n", term_off(&cli->term));
    for (struct bytes text = bytes_of(field_text(shadow, "text")); text.len;) {
        struct bytes line = bytes_first(text, bytes_find(text, '\n'));

        if (cli->term.terminal)
            format_safe(&out, line);
        else
            buf_put(&out, line);
        buf_putc(&out, '\n');
        text = bytes_skip(text, line.len + 1);
    }
    return cli_write(buf_bytes(&out));
}

static int shadow_clear(struct cli *cli)
{
    JSON_LOCAL(done);
    BUF_LOCAL(url);

    url_path(&url, SHADOW_URL);
    int code = cli_ask(cli, "DELETE", &url, (struct bytes){0}, &done);
    return code || cli->json ? code
                             : cli_write(BYTES("there are no shadow rules any more; their record stays\n"));
}

int cmd_policy_shadow(struct cli *cli)
{
    const char *verb = cli_arg(cli, 0), *file = cli_arg(cli, 1);
    bool applies = strcmp(verb, "apply") == 0;

    if (applies && !file)
        return cli_fail(CLI_USAGE, "'policy shadow apply' wants the FILE with the rules; - is stdin");
    if (applies)
        return shadow_apply(cli, file);
    if (file || cli_has(cli, "comment"))
        return cli_fail(CLI_USAGE, "only 'policy shadow apply' takes a FILE and --comment");
    if (strcmp(verb, "show") == 0)
        return shadow_show(cli);
    if (strcmp(verb, "clear") == 0)
        return shadow_clear(cli);
    return cli_fail(CLI_USAGE, "'policy shadow' takes apply FILE, show or clear, not '%s'", verb);
}

/* ---- what they would have done ---- */

static void put_level_set(struct buf *out, const json_t *levels)
{
    json_t *level;
    size_t i;

    json_array_foreach(levels, i, level)
    {
        buf_puts(out, i ? ", " : "");
        format_safe(out, bytes_of(json_string_value(level)));
    }
}

/* "on → require" */
static void put_levels(struct buf *out, const json_t *row)
{
    const json_t *new_levels = json_object_get(row, "new_levels");

    put_level_set(out, json_object_get(row, "old_levels"));
    if (!json_array_size(new_levels))
        return;
    buf_puts(out, " → ");
    put_level_set(out, new_levels);
}

static bool is_held(const char *verdict)
{
    return strncmp(verdict, "held-", 5) == 0;
}

/* The reasons for waiting, the most frequent first: "the server does not offer STARTTLS 12, …". */
static void put_why(struct buf *out, const json_t *row)
{
    json_t *reason;
    size_t i, put = 0;

    json_array_foreach(json_object_get(row, "reasons"), i, reason)
    {
        if (!is_held(field_text(reason, "verdict")))
            continue;
        buf_puts(out, put++ ? ", " : "");
        if (put > 3) {
            buf_puts(out, "…");
            break;
        }
        format_safe(out, bytes_of(field_text(reason, "verdict") + 5));
        buf_putc(out, ' ');
        format_count(out, field_count(reason, "count"));
    }
}

static void put_row(struct table *t, const json_t *row)
{
    put_levels(table_cell(t, STYLE_PLAIN), row);
    table_count(t, STYLE_PLAIN, field_count(row, "delivered"));
    table_count(t, STYLE_BAD, field_count(row, "held"));
    format_percent(table_cell(t, field_count(row, "held") ? STYLE_BAD : STYLE_DIM), field_count(row, "held"),
                   field_count(row, "delivered"));
    table_count(t, STYLE_WARN, field_count(row, "clear"));
    table_count(t, STYLE_GOOD, field_count(row, "tls"));
    table_count(t, STYLE_WARN, field_count(row, "unknown"));
    table_count(t, STYLE_PLAIN, field_count(row, "waited"));
    table_count(t, STYLE_GOOD, field_count(row, "pass") + field_count(row, "pass_clear"));
    put_why(table_cell(t, STYLE_PLAIN), row);
}

static void put_rows(struct cli *cli, const json_t *report, struct buf *out)
{
    const char *by = field_text(report, "by");
    const json_t *rows = json_object_get(report, "rows");
    const struct column columns[] = {
        {strcmp(by, "new-group") == 0   ? "NEW GROUP"
         : strcmp(by, "domain") == 0    ? "DOMAIN"
         : strcmp(by, "mx") == 0        ? "MX"
         : strcmp(by, "campaign") == 0  ? "CAMPAIGN"
         : strcmp(by, "reason") == 0    ? "VERDICT"
         : strcmp(by, "recipient") == 0 ? "RECIPIENT"
                                        : "GROUP",
         COLUMN_GIVES},
        {"LEVEL", COLUMN_LEFT},
        {"DELIVERED", COLUMN_RIGHT},
        {"WOULD WAIT", COLUMN_RIGHT},
        {"", COLUMN_RIGHT},
        {"IN CLEAR", COLUMN_RIGHT | COLUMN_OPTIONAL},
        {"ENCRYPTED", COLUMN_RIGHT | COLUMN_OPTIONAL},
        {"NOT KNOWN", COLUMN_RIGHT},
        {"WAITED", COLUMN_RIGHT | COLUMN_OPTIONAL},
        {"WOULD PASS", COLUMN_RIGHT | COLUMN_OPTIONAL},
        {"WHY", COLUMN_GIVES | COLUMN_OPTIONAL},
    };
    struct table t;
    json_t *row;
    size_t i;

    table_init(&t, columns, COUNT_OF(columns));
    json_array_foreach(rows, i, row)
    {
        const char *key = field_text(row, by);

        table_text(&t, *key ? STYLE_PLAIN : STYLE_DIM, *key ? key : "(none)");
        put_row(&t, row);
    }
    if (field_count(report, "rows_in_all") != 1) {
        table_rule(&t);
        table_text(&t, STYLE_STRONG, "total");
        put_row(&t, json_object_get(report, "totals"));
    }
    table_print(&t, &cli->term, out);
    table_fini(&t);
    report_put_left_out(out, report, json_array_size(rows));
}

static void put_reasons(struct cli *cli, const json_t *totals, struct buf *out)
{
    static const struct column columns[] = {
        {"WHAT WOULD HAVE BEEN DIFFERENT", COLUMN_GIVES}, {"COUNT", COLUMN_RIGHT}, {"VERDICT", COLUMN_SPARE}};
    const json_t *reasons = json_object_get(totals, "reasons");
    struct table t;
    json_t *reason;
    size_t i;

    if (!json_array_size(reasons))
        return;
    table_init(&t, columns, COUNT_OF(columns));
    json_array_foreach(reasons, i, reason)
    {
        const char *verdict = field_text(reason, "verdict");

        table_text(&t, is_held(verdict) ? STYLE_BAD : STYLE_PLAIN, field_text(reason, "reason"));
        table_count(&t, STYLE_PLAIN, field_count(reason, "count"));
        table_text(&t, STYLE_DIM, verdict);
    }
    buf_putc(out, '\n');
    table_print(&t, &cli->term, out);
    table_fini(&t);
}

static void put_sentence(const json_t *report, struct buf *out)
{
    const json_t *totals = json_object_get(report, "totals");
    uint64_t delivered = field_count(totals, "delivered"), held = field_count(totals, "held");
    uint64_t unknown = field_count(totals, "unknown"), unjudged = field_count(report, "unjudged");

    buf_putc(out, '\n');
    if (!delivered) {
        buf_puts(out, "no delivery to judge");
    } else {
        buf_puts(out, "of ");
        put_plural(out, delivered, "delivered recipient", "delivered recipients");
        buf_putc(out, ' ');
        format_count(out, held);
        buf_puts(out, " would have waited (");
        format_percent(out, held, delivered);
        buf_putc(out, ')');
        if (unknown) {
            buf_puts(out, "; of ");
            format_count(out, unknown);
            buf_puts(out, " it cannot be told from what was recorded");
        }
    }
    if (unjudged) {
        buf_puts(out, "; ");
        put_plural(out, unjudged, "more was", "more were");
        buf_puts(out, " delivered while there were no shadow rules");
    }
    buf_putc(out, '\n');
}

static int show_report(struct cli *cli, const json_t *report, struct buf *out)
{
    report_put_span(out, cli, report);
    report_put_skipped(out, cli, report);
    put_rows(cli, report, out);
    put_reasons(cli, json_object_get(report, "totals"), out);
    put_sentence(report, out);
    return cli_write(buf_bytes(out));
}

static void put_params(struct buf *url, const struct cli *cli)
{
    static const char *const params[] = {"since",  "until", "by",       "group",
                                         "domain", "mx",    "campaign", "limit"};

    for (size_t i = 0; i < COUNT_OF(params); i++)
        url_param(url, params[i], cli_text(cli, params[i]));
    url_param(url, "changed", cli_has(cli, "changed") ? "yes" : NULL);
}

/* *report stays NULL when everything is said already. */
static int ask(struct cli *cli, const char *method, struct buf *url, struct bytes body, json_t **report)
{
    put_params(url, cli);
    return cli_ask_rows(cli, method, url, body, report);
}

int cmd_report_shadow(struct cli *cli)
{
    JSON_LOCAL(report);
    BUF_LOCAL(url);
    BUF_LOCAL(out);

    url_path(&url, "/api/v1/reports/shadow");
    int code = ask(cli, "GET", &url, (struct bytes){0}, &report);
    if (code || !report)
        return code;
    if (field_known(report, "shadow"))
        put_version(&out, cli, "shadow rules", json_object_get(report, "shadow"));
    else
        buf_puts(&out, "there are no shadow rules now; this is the record of earlier ones");
    buf_putc(&out, '\n');
    return show_report(cli, report, &out);
}

int cmd_policy_whatif(struct cli *cli)
{
    struct document doc;
    JSON_LOCAL(report);
    BUF_LOCAL(text);
    BUF_LOCAL(url);
    BUF_LOCAL(out);

    int code = read_document(cli_arg(cli, 0), &text, &doc);
    if (code)
        return code;
    url_path(&url, "/api/v1/policy/whatif");
    client_document(cli->client, &doc);
    code = ask(cli, "POST", &url, doc.text, &report);
    if (code || !report)
        return code;
    put_notices(&doc, report, &out);
    return show_report(cli, report, &out);
}
