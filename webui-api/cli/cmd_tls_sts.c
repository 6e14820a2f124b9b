/* MTA-STS policies of destinations. */
#include "webui-api/cli/cli.h"

static void put_label(struct buf *out, const struct cli *cli, const char *label)
{
    buf_putf(out, "%s%-13s%s ", term_on(&cli->term, STYLE_DIM), label, term_off(&cli->term));
}

static enum style style_of_mode(const char *mode)
{
    return strcmp(mode, "enforce") == 0   ? STYLE_GOOD
           : strcmp(mode, "testing") == 0 ? STYLE_WARN
                                          : STYLE_PLAIN;
}

static void put_when(struct buf *out, const struct cli *cli, const char *label, const json_t *policy,
                     const char *field)
{
    if (!field_known(policy, field))
        return;
    put_label(out, cli, label);
    format_relative(out, field_int(policy, field), cli->now_unix);
    buf_puts(out, ", ");
    format_local(out, field_int(policy, field));
    buf_putc(out, '\n');
}

static void put_in_force(struct buf *out, const struct cli *cli, const json_t *policy)
{
    json_t *mx;
    size_t i;

    put_label(out, cli, "id");
    format_safe(out, bytes_of(field_text(policy, "id")));
    buf_putc(out, '\n');
    json_array_foreach(json_object_get(policy, "mx"), i, mx)
    {
        put_label(out, cli, i ? "" : "mx");
        format_safe(out, bytes_of(json_string_value(mx)));
        buf_putc(out, '\n');
    }
    put_label(out, cli, "max_age");
    format_span(out, field_int(policy, "max_age_s"));
    buf_putc(out, '\n');
    put_when(out, cli, "fetched", policy, "fetched_unix");
    put_when(out, cli, "expires", policy, "expires_unix");
    put_when(out, cli, "next refresh", policy, "refresh_unix");
}

static void put_failure(struct buf *out, const struct cli *cli, const json_t *policy)
{
    bool current = *field_text(policy, "failure");

    if (!*field_text(policy, "last_failure"))
        return;
    put_label(out, cli, current ? "failure" : "last failure");
    put_styled(out, cli, current ? STYLE_BAD : STYLE_PLAIN, field_text(policy, "last_failure"));
    if (current)
        buf_putf(out, " (%s)", field_text(policy, "failure"));
    if (field_known(policy, "last_failed_unix")) {
        buf_puts(out, ", ");
        format_relative(out, field_int(policy, "last_failed_unix"), cli->now_unix);
    }
    if (field_count(policy, "refresh_failures")) {
        buf_puts(out, ", ");
        put_plural(out, field_count(policy, "refresh_failures"), "refresh", "refreshes");
        buf_puts(out, " in a row");
    }
    buf_putc(out, '\n');
}

static int show(struct cli *cli, const char *domain)
{
    JSON_LOCAL(policy);
    BUF_LOCAL(url);
    BUF_LOCAL(out);

    url_path(&url, "/api/v1/tls/sts");
    url_segment(&url, domain);
    if (cli_has(cli, "refresh"))
        url_segment(&url, "refresh");
    int code = cli_ask(cli, cli_has(cli, "refresh") ? "POST" : "GET", &url, (struct bytes){0}, &policy);
    if (code || cli->json)
        return code;
    put_styled(&out, cli, STYLE_STRONG, field_text(policy, "domain"));
    buf_puts(&out, ": ");
    if (field_known(policy, "mode")) {
        buf_puts(&out, "MTA-STS mode ");
        put_styled(&out, cli, style_of_mode(field_text(policy, "mode")), field_text(policy, "mode"));
        buf_putc(&out, '\n');
        put_in_force(&out, cli, policy);
    } else {
        buf_puts(&out, "no MTA-STS policy in force\n");
    }
    put_failure(&out, cli, policy);
    return cli_write(buf_bytes(&out));
}

static void put_row(struct table *t, const struct cli *cli, const json_t *policy)
{
    json_t *mx = json_object_get(policy, "mx");
    const char *mode = field_known(policy, "mode") ? field_text(policy, "mode") : "-";

    table_text(t, STYLE_STRONG, field_text(policy, "domain"));
    table_text(t, style_of_mode(mode), mode);
    table_text(t, STYLE_PLAIN, field_text(policy, "id"));
    if (field_known(policy, "fetched_unix"))
        format_relative(table_cell(t, STYLE_PLAIN), field_int(policy, "fetched_unix"), cli->now_unix);
    else
        table_text(t, STYLE_PLAIN, "");
    if (field_known(policy, "expires_unix"))
        format_relative(table_cell(t, STYLE_PLAIN), field_int(policy, "expires_unix"), cli->now_unix);
    else
        table_text(t, STYLE_PLAIN, "");
    table_text(t, STYLE_PLAIN, json_string_value(json_array_get(mx, 0)));
    table_text(t, STYLE_BAD, *field_text(policy, "failure") ? field_text(policy, "last_failure") : "");
}

static int list(struct cli *cli)
{
    static const struct column columns[] = {
        {"DOMAIN", COLUMN_LEFT},
        {"MODE", COLUMN_LEFT},
        {"ID", COLUMN_GIVES},
        {"FETCHED", COLUMN_LEFT},
        {"EXPIRES", COLUMN_LEFT},
        {"FIRST MX", COLUMN_GIVES | COLUMN_SPARE},
        {"FAILURE", COLUMN_GIVES | COLUMN_OPTIONAL},
    };
    JSON_LOCAL(answer);
    BUF_LOCAL(url);
    BUF_LOCAL(out);
    struct table t;
    json_t *policy;
    size_t i;

    url_path(&url, "/api/v1/tls/sts");
    url_param(&url, "limit", cli_text(cli, "limit"));
    url_param(&url, "after", cli_text(cli, "after"));
    int code = cli_ask(cli, "GET", &url, (struct bytes){0}, &answer);
    if (code || cli->json)
        return code;
    table_init(&t, columns, COUNT_OF(columns));
    json_array_foreach(json_object_get(answer, "policies"), i, policy) put_row(&t, cli, policy);
    if (table_rows(&t))
        table_print(&t, &cli->term, &out);
    else
        buf_puts(&out, "no MTA-STS policy is known\n");
    table_fini(&t);
    if (field_known(answer, "after")) {
        buf_puts(&out, "There are more: --after ");
        format_safe(&out, bytes_of(field_text(answer, "after")));
        buf_putc(&out, '\n');
    }
    return cli_write(buf_bytes(&out));
}

int cmd_tls_sts(struct cli *cli)
{
    const char *domain = cli_arg(cli, 0);

    if (domain && (cli_has(cli, "list") || cli_text(cli, "limit") || cli_text(cli, "after")))
        return cli_fail(CLI_USAGE, "DOMAIN or --list, not both");
    if (!domain && cli_has(cli, "refresh"))
        return cli_fail(CLI_USAGE, "--refresh needs a DOMAIN");
    return domain ? show(cli, domain) : list(cli);
}
