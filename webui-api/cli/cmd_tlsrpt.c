/* TLS reports: those of others about us, and ours about others. */
#include <string.h>

#include "base/mem.h"
#include "webui-api/cli/cli.h"

#define PATH_IN  "/api/v1/tls/reports"
#define PATH_OUT "/api/v1/tls/reports-out"

/* ---- tls reports ---- */

static const char *key_title(const json_t *root)
{
    static const struct {
        const char *by, *title;
    } titles[] = {{"domain", "DOMAIN"}, {"sender", "FROM"}, {"result", "RESULT"},
                  {"mx", "MX"},         {"day", "DAY"},     {"report", "REPORT"}};

    for (size_t i = 0; i < COUNT_OF(titles); i++)
        if (strcmp(field_text(root, "by"), titles[i].by) == 0)
            return titles[i].title;
    return "";
}

static void put_day(struct buf *out, int64_t unix_seconds)
{
    BUF_LOCAL(text);

    format_local(&text, unix_seconds);
    buf_put(out, bytes_first(buf_bytes(&text), strlen("2026-11-21")));
}

static void put_sums(struct table *t, const json_t *row)
{
    uint64_t good = field_count(row, "successful"), bad = field_count(row, "failed");

    table_count(t, STYLE_PLAIN, field_count(row, "reports"));
    table_count(t, STYLE_GOOD, good);
    table_count(t, STYLE_BAD, bad);
    format_percent(table_cell(t, bad ? STYLE_WARN : STYLE_PLAIN), bad, good + bad);
}

static void put_rows(struct cli *cli, const json_t *root, struct buf *out)
{
    const bool by_report = strcmp(field_text(root, "by"), "report") == 0;
    const struct column columns[] = {
        {key_title(root), COLUMN_LEFT},
        {"FROM", COLUMN_GIVES | COLUMN_OPTIONAL},
        {"DOMAIN", COLUMN_GIVES | COLUMN_OPTIONAL},
        {"SIGNATURE", COLUMN_LEFT | COLUMN_OPTIONAL},
        {"REPORTS", COLUMN_RIGHT},
        {"SUCCESSFUL", COLUMN_RIGHT},
        {"FAILED", COLUMN_RIGHT},
        {"SHARE FAILED", COLUMN_RIGHT},
        {"FIRST", COLUMN_LEFT},
        {"LAST", COLUMN_LEFT},
    };
    const json_t *rows = json_object_get(root, "rows"), *totals = json_object_get(root, "totals");
    struct table t;
    json_t *row;
    size_t i;

    table_init(&t, columns, COUNT_OF(columns));
    json_array_foreach(rows, i, row)
    {
        const char *key = field_text(row, field_text(root, "by"));
        table_text(&t, *key ? STYLE_PLAIN : STYLE_GOOD, *key ? key : "(successful)");
        table_text(&t, STYLE_PLAIN, by_report ? field_text(row, "sender") : "");
        table_text(&t, STYLE_PLAIN, by_report ? field_text(row, "domain") : "");
        table_text(&t, strcmp(field_text(row, "dkim"), "good") == 0 ? STYLE_GOOD : STYLE_WARN,
                   by_report ? field_text(row, "dkim") : "");
        put_sums(&t, row);
        put_day(table_cell(&t, STYLE_DIM), field_int(row, "first_unix"));
        put_day(table_cell(&t, STYLE_DIM), field_int(row, "last_unix"));
    }
    table_rule(&t);
    table_text(&t, STYLE_STRONG, "total");
    table_text(&t, STYLE_PLAIN, "");
    table_text(&t, STYLE_PLAIN, "");
    table_text(&t, STYLE_PLAIN, "");
    put_sums(&t, totals);
    table_text(&t, STYLE_PLAIN, "");
    table_text(&t, STYLE_PLAIN, "");
    table_print(&t, &cli->term, out);
    table_fini(&t);
    if (field_count(root, "rows_in_all") > json_array_size(rows)) {
        buf_putf(out, "%zu of ", json_array_size(rows));
        put_plural(out, field_count(root, "rows_in_all"), "line", "lines");
        buf_puts(out, " shown; the total counts all\n");
    }
    if (field_count(totals, "unreadable")) {
        put_plural(out, field_count(totals, "unreadable"), "report", "reports");
        buf_puts(out, " cannot be read and is not counted\n");
    }
}

static int show_sums(struct cli *cli)
{
    static const char *const params[] = {"since", "until", "by", "domain", "sender", "limit"};
    JSON_LOCAL(root);
    BUF_LOCAL(url);
    BUF_LOCAL(out);

    url_path(&url, PATH_IN);
    for (size_t i = 0; i < COUNT_OF(params); i++)
        url_param(&url, params[i], cli_text(cli, params[i]));
    int code = cli_ask_rows(cli, "GET", &url, (struct bytes){0}, &root);
    if (code || !root)
        return code;
    if (!field_count(json_object_get(root, "totals"), "reports"))
        buf_puts(&out, "no reports; 'hayauma tls reports import FILE' takes some in, and tlsrpt.receive "
                       "names an address\n");
    else
        put_rows(cli, root, &out);
    return cli_write(buf_bytes(&out));
}

static void put_taken(struct buf *out, const struct cli *cli, const char *name, const json_t *one)
{
    const json_t *deviations = json_object_get(one, "deviations");
    json_t *word;
    size_t i;

    format_safe(out, bytes_of(name));
    buf_puts(out, ": ");
    put_styled(out, cli, field_bool(one, "new") ? STYLE_GOOD : STYLE_DIM,
               field_bool(one, "new") ? "taken in" : "was known");
    buf_puts(out, ": ");
    format_safe(out, bytes_of(field_text(one, "organization")));
    buf_puts(out, " about ");
    format_safe(out, bytes_of(json_string_value(json_array_get(json_object_get(one, "domains"), 0))));
    buf_puts(out, ", ");
    put_day(out, field_int(one, "begin_unix"));
    buf_puts(out, ", ");
    format_count(out, field_count(one, "successful"));
    buf_puts(out, " successful, ");
    format_count(out, field_count(one, "failed"));
    buf_puts(out, " failed");
    json_array_foreach(deviations, i, word)
    {
        buf_puts(out, i ? ", " : " (not by the standard: ");
        format_safe(out, bytes_of(json_string_value(word)));
    }
    buf_puts(out, json_array_size(deviations) ? ")\n" : "\n");
}

/* Every file is tried; the first failure is the exit status. */
static int import_files(struct cli *cli)
{
    int result = CLI_DONE;

    if (cli->in->arg_count < 2)
        return cli_fail(CLI_USAGE, "import needs a FILE (- is stdin)");
    for (size_t n = 1; n < cli->in->arg_count; n++) {
        const char *name = cli_arg(cli, n);
        JSON_LOCAL(root);
        BUF_LOCAL(file);
        BUF_LOCAL(url);
        BUF_LOCAL(out);
        json_t *one;
        size_t i;
        url_path(&url, PATH_IN);
        int code = cli_read_file(name, &file);
        if (!code)
            code = cli_ask(cli, "POST", &url, buf_bytes(&file), &root);
        if (code)
            cli_fail(code, "%s was not taken in", name);
        json_array_foreach(json_object_get(root, "reports"), i, one) put_taken(&out, cli, name, one);
        if (!code && !cli->json)
            code = cli_write(buf_bytes(&out));
        result = result ? result : code;
    }
    return result;
}

/* "2026-11-21/0123456789abcdef", as the list by report says it. */
static int show_one(struct cli *cli)
{
    const char *key = cli_arg(cli, 1);
    const char *slash = key ? strchr(key, '/') : NULL;
    ANSWER_LOCAL(answer);
    BUF_LOCAL(url);

    if (!slash || cli_arg(cli, 2))
        return cli_fail(CLI_USAGE,
                        "show needs one REPORT, like 2026-11-21/0123456789abcdef: see --by report");
    char *day = bytes_dup(bytes_make(key, (size_t)(slash - key)));
    url_path(&url, PATH_IN);
    url_segment(&url, day);
    url_segment(&url, slash + 1);
    mem_free(day);
    int code = client_call(cli->client, "GET", &url, (struct bytes){0}, &answer);
    return code ? code : cli_write_json(cli, buf_bytes(&answer.body));
}

int cmd_tls_reports(struct cli *cli)
{
    const char *verb = cli_arg(cli, 0);

    if (!verb)
        return show_sums(cli);
    if (strcmp(verb, "import") == 0)
        return import_files(cli);
    if (strcmp(verb, "show") == 0)
        return show_one(cli);
    return cli_fail(CLI_USAGE, "'%s' is not understood: import FILE… or show REPORT, or nothing for the sums",
                    verb);
}

/* ---- tls report-out ---- */

static enum style style_of_state(const char *state)
{
    return strcmp(state, "sent") == 0     ? STYLE_GOOD
           : strcmp(state, "failed") == 0 ? STYLE_BAD
           : strcmp(state, "none") == 0   ? STYLE_DIM
                                          : STYLE_WARN;
}

/* Where it went, or why not. */
static void put_how(struct buf *out, const struct cli *cli, const json_t *kept)
{
    const json_t *sent = json_object_get(kept, "sent_to"), *failures = json_object_get(kept, "failures");
    const json_t *last = json_array_get(failures, json_array_size(failures) - 1);
    json_t *rua;
    size_t i;

    json_array_foreach(sent, i, rua)
    {
        buf_puts(out, i ? ", " : "to ");
        format_safe(out, bytes_of(json_string_value(rua)));
    }
    if (json_array_size(sent))
        return;
    if (last) {
        format_safe(out, bytes_of(field_text(last, "rua")));
        buf_puts(out, ": ");
        format_safe(out, bytes_of(field_text(last, "why")));
    } else if (*field_text(kept, "record")) {
        buf_puts(out, "record: ");
        format_safe(out, bytes_of(field_text(kept, "record")));
    }
    if (field_int(kept, "next_unix")) {
        buf_puts(out, "; again ");
        format_relative(out, field_int(kept, "next_unix"), cli->now_unix);
    }
}

static void put_reports(struct cli *cli, const json_t *reports, struct buf *out)
{
    static const struct column columns[] = {
        {"DAY", COLUMN_LEFT},         {"DOMAIN", COLUMN_LEFT},  {"STATE", COLUMN_LEFT},
        {"SUCCESSFUL", COLUMN_RIGHT}, {"FAILED", COLUMN_RIGHT}, {"TRIES", COLUMN_RIGHT},
        {"HOW", COLUMN_GIVES},
    };
    struct table t;
    json_t *row;
    size_t i;

    table_init(&t, columns, COUNT_OF(columns));
    json_array_foreach(reports, i, row)
    {
        const json_t *kept = json_object_get(row, "kept");
        const char *state = field_text(kept, "state");
        table_text(&t, STYLE_PLAIN, field_text(row, "day"));
        table_text(&t, STYLE_STRONG, field_text(row, "domain"));
        struct buf *cell = table_cell(&t, style_of_state(state));
        format_safe(cell, bytes_of(state));
        if (field_bool(kept, "part"))
            buf_puts(cell, " (part)"); /* of a day that was not over */
        table_count(&t, STYLE_GOOD, field_count(kept, "successful"));
        table_count(&t, STYLE_BAD, field_count(kept, "failed"));
        table_count(&t, STYLE_PLAIN, field_count(kept, "tries"));
        put_how(table_cell(&t, STYLE_PLAIN), cli, kept);
    }
    table_print(&t, &cli->term, out);
    table_fini(&t);
}

static void put_days(struct cli *cli, const json_t *days, struct buf *out)
{
    json_t *row;
    size_t i;

    json_array_foreach(days, i, row)
    {
        const json_t *kept = json_object_get(row, "kept");
        format_safe(out, bytes_of(field_text(row, "day")));
        if (strcmp(field_text(kept, "state"), "off") == 0) {
            buf_puts(out, ": reports were off");
        } else if (strcmp(field_text(kept, "state"), "done") != 0) {
            buf_puts(out, ": due ");
            format_relative(out, field_int(kept, "due_unix"), cli->now_unix);
        } else {
            buf_puts(out, ": ");
            put_plural(out, field_count(kept, "wanted"), "report", "reports");
            buf_puts(out, " wanted, of ");
            put_plural(out, field_count(kept, "domains"), "domain", "domains");
        }
        buf_putc(out, '\n');
    }
}

static int list_out(struct cli *cli)
{
    static const char *const params[] = {"since", "state", "limit"};
    JSON_LOCAL(root);
    BUF_LOCAL(url);
    BUF_LOCAL(out);

    url_path(&url, PATH_OUT);
    for (size_t i = 0; i < COUNT_OF(params); i++)
        url_param(&url, params[i], cli_text(cli, params[i]));
    url_param(&url, "domain", cli_arg(cli, 1));
    int code = cli_ask(cli, "GET", &url, (struct bytes){0}, &root);
    if (code || cli->json)
        return code;
    put_days(cli, json_object_get(root, "days"), &out);
    put_reports(cli, json_object_get(root, "reports"), &out);
    if (field_count(root, "left_out")) {
        put_plural(&out, field_count(root, "left_out"), "more report is", "more reports are");
        buf_puts(&out, " not shown: --limit\n");
    }
    if (!field_bool(root, "enabled"))
        buf_puts(&out, "tlsrpt.enabled is false: no daily reports are sent\n");
    return cli_write(buf_bytes(&out));
}

static int send_out(struct cli *cli)
{
    const char *domain = cli_arg(cli, 1);
    ANSWER_LOCAL(answer);
    JSON_LOCAL(kept);
    BUF_LOCAL(url);
    BUF_LOCAL(out);

    if (!domain)
        return cli_fail(CLI_USAGE, "send needs a DOMAIN");
    url_path(&url, PATH_OUT);
    url_segment(&url, domain);
    url_param(&url, "day", cli_text(cli, "day"));
    if (cli_has(cli, "print")) {
        int code = client_call(cli->client, "GET", &url, (struct bytes){0}, &answer);
        return code ? code : cli_write_json(cli, buf_bytes(&answer.body));
    }
    if (cli_has(cli, "again"))
        url_param(&url, "again", "true");
    int code = cli_ask(cli, "POST", &url, (struct bytes){0}, &kept);
    if (code || cli->json)
        return code;
    format_safe(&out, bytes_of(field_text(kept, "domain")));
    buf_puts(&out, ": ");
    put_styled(&out, cli, style_of_state(field_text(kept, "state")), field_text(kept, "state"));
    buf_puts(&out, ", ");
    put_how(&out, cli, kept);
    buf_putc(&out, '\n');
    code = cli_write(buf_bytes(&out));
    return code ? code : strcmp(field_text(kept, "state"), "sent") == 0 ? CLI_DONE : CLI_REFUSED;
}

int cmd_tls_report_out(struct cli *cli)
{
    const char *verb = cli_arg(cli, 0);

    if (!verb || strcmp(verb, "list") == 0)
        return list_out(cli);
    if (strcmp(verb, "send") == 0)
        return send_out(cli);
    return cli_fail(CLI_USAGE, "'%s' is not understood: list [DOMAIN] or send DOMAIN", verb);
}
