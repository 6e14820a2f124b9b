/* The register of downgrades. */
#include <string.h>

#include "webui-api/cli/cli.h"

#define PATH "/api/v1/tls/downgrades"

static enum style style_of_state(const char *state)
{
    return strcmp(state, "open") == 0 ? STYLE_BAD : strcmp(state, "approved") == 0 ? STYLE_WARN : STYLE_DIM;
}

static void put_downgrade(struct table *t, const struct cli *cli, const json_t *row)
{
    const char *state = field_text(row, "state"), *by = field_text(row, "approved_by");

    table_text(t, STYLE_STRONG, field_text(row, "domain"));
    table_text(t, STYLE_PLAIN, field_text(row, "mx"));
    struct buf *cell = table_cell(t, STYLE_PLAIN);
    format_safe(cell, bytes_of(field_text(row, "from")));
    buf_puts(cell, " → ");
    format_safe(cell, bytes_of(field_text(row, "to")));
    cell = table_cell(t, style_of_state(state));
    format_safe(cell, bytes_of(state));
    if (*by) {
        buf_puts(cell, " by ");
        format_safe(cell, bytes_of(by));
    }
    format_relative(table_cell(t, STYLE_DIM), field_int(row, "first_unix"), cli->now_unix);
    format_relative(table_cell(t, STYLE_PLAIN), field_int(row, "last_unix"), cli->now_unix);
    table_count(t, STYLE_PLAIN, field_count(row, "count"));
    table_text(t, STYLE_PLAIN, field_text(row, "evidence"));
}

static void put_open(struct buf *out, const json_t *root)
{
    uint64_t open = field_count(root, "open");

    put_plural(out, open, "downgrade is open", "downgrades are open");
    buf_putc(out, '\n');
}

static int list_downgrades(struct cli *cli)
{
    static const struct column columns[] = {
        {"DOMAIN", COLUMN_LEFT},    {"MX", COLUMN_GIVES},       {"WENT", COLUMN_LEFT},
        {"STATE", COLUMN_LEFT},     {"FIRST", COLUMN_LEFT},     {"LAST", COLUMN_LEFT},
        {"SESSIONS", COLUMN_RIGHT}, {"EVIDENCE", COLUMN_GIVES},
    };
    JSON_LOCAL(root);
    BUF_LOCAL(url);
    BUF_LOCAL(out);
    struct table t;
    json_t *row;
    size_t i;

    if (cli_has(cli, "mx") || cli_has(cli, "all"))
        return cli_fail(CLI_USAGE, "--mx and --all are for approve and forget");
    url_path(&url, PATH);
    url_param(&url, "domain", cli_arg(cli, 1));
    url_param(&url, "state", cli_text(cli, "state"));
    int code = cli_ask_rows(cli, "GET", &url, (struct bytes){0}, &root);
    if (code || !root)
        return code;
    table_init(&t, columns, COUNT_OF(columns));
    json_array_foreach(json_object_get(root, "rows"), i, row) put_downgrade(&t, cli, row);
    if (i)
        table_print(&t, &cli->term, &out);
    table_fini(&t);
    put_open(&out, root);
    return cli_write(buf_bytes(&out));
}

static int change_downgrades(struct cli *cli, const char *op, const char *done)
{
    JSON_LOCAL(root);
    BUF_LOCAL(url);
    BUF_LOCAL(out);

    bool some = cli_arg(cli, 1) || cli_has(cli, "mx");

    if (some == cli_has(cli, "all"))
        return cli_fail(CLI_USAGE,
                        some ? "--all goes without a domain and --mx"
                             : "'tls downgrades %s' wants a domain, --mx HOST or --all",
                        op);
    if (cli_has(cli, "state") || cli_has(cli, "csv"))
        return cli_fail(CLI_USAGE, "--state and --csv are for list");
    url_path(&url, PATH);
    url_param(&url, "op", op);
    url_param(&url, "domain", cli_arg(cli, 1));
    url_param(&url, "mx", cli_text(cli, "mx"));
    url_param(&url, "all", cli_has(cli, "all") ? "yes" : NULL);
    int code = cli_ask(cli, "POST", &url, (struct bytes){0}, &root);
    if (code || cli->json)
        return code;
    put_plural(&out, field_count(root, "changed"), "entry", "entries");
    buf_puts(&out, " of ");
    if (*field_text(root, "domain"))
        format_safe(&out, bytes_of(field_text(root, "domain")));
    else
        put_plural(&out, field_count(root, "domains"), "domain", "domains");
    buf_putf(&out, " %s\n", done);
    return cli_write(buf_bytes(&out));
}

int cmd_tls_downgrades(struct cli *cli)
{
    const char *what = cli_arg(cli, 0);

    if (!what || strcmp(what, "list") == 0)
        return list_downgrades(cli);
    if (strcmp(what, "approve") == 0)
        return change_downgrades(cli, what, "approved; mail that was held goes on");
    if (strcmp(what, "forget") == 0)
        return change_downgrades(cli, what, "forgotten: what TLS it has is learnt anew");
    return cli_fail(CLI_USAGE, "'tls downgrades' takes list, approve or forget, not '%s'", what);
}
