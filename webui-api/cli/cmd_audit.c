/* Whether every recipient is accounted for, and which may have got a message twice. */
#include "webui-api/cli/cli.h"
#include "webui-api/cli/report.h"

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
        report_put_moment(out, since);
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

/* A sum that is wrong, and not only in motion, is a refusal: scripts ask for the status. */
static int status_of(const json_t *root, int written)
{
    if (written || field_bool(root, "exact") || field_bool(root, "in_motion"))
        return written;
    return CLI_REFUSED;
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
    if (cli->json)
        return status_of(root, cli_write_tree(cli, root));
    if (cli_has(cli, "by"))
        put_campaigns(cli, root, &out);
    report_put_sum(&out, json_object_get(root, "totals"));
    buf_puts(&out, "\n");
    put_verdict(cli, root, &out);
    return status_of(root, cli_write(buf_bytes(&out)));
}

/* ---- the audit ---- */

static void put_doubts(struct cli *cli, const json_t *root, struct buf *out)
{
    static const struct column columns[] = {
        {"WHEN", COLUMN_LEFT},       {"MESSAGE", COLUMN_LEFT},
        {"RECIPIENT", COLUMN_GIVES}, {"CAMPAIGN", COLUMN_OPTIONAL | COLUMN_SPARE},
        {"MX", COLUMN_GIVES},        {"THEN", COLUMN_LEFT},
    };
    const json_t *attempts = json_object_get(root, "attempts");
    struct table t;
    int64_t when;
    json_t *a;
    size_t i;

    if (!json_array_size(attempts)) {
        buf_puts(out, "no attempt on record was left in doubt\n");
        return;
    }
    put_plural(out, json_array_size(attempts), "attempt was", "attempts were");
    buf_puts(out, " left in doubt: the connection was lost after the final dot, and the receiver may have "
                  "the message\n");
    table_init(&t, columns, COUNT_OF(columns));
    json_array_foreach(attempts, i, a)
    {
        struct buf *cell = table_cell(&t, STYLE_PLAIN);
        if (format_parse_time(bytes_of(field_text(a, "at")), &when))
            format_local(cell, when);
        table_text(&t, STYLE_PLAIN, field_text(a, "message"));
        table_text(&t, STYLE_PLAIN, field_text(a, "address"));
        table_text(&t, STYLE_PLAIN, field_text(a, "campaign"));
        table_text(&t, STYLE_PLAIN, field_text(a, "mx"));
        table_text(&t, STYLE_WARN, field_text(a, "then"));
    }
    table_print(&t, &cli->term, out);
    table_fini(&t);
    if (field_bool(root, "attempts_cut"))
        buf_puts(out, "The newest only: --limit shows more.\n");
}

static void put_ends(const json_t *root, struct buf *out)
{
    json_t *end;
    size_t i;

    json_array_foreach(json_object_get(root, "unclean_ends"), i, end)
    {
        buf_puts(out, "a run that was cut short was found ");
        format_local(out, field_int(end, "found_unix"));
        buf_puts(out, ": ");
        put_plural(out, field_count(end, "first_attempts"), "recipient", "recipients");
        buf_puts(out, " with the workers, never tried to an end, and ");
        format_count(out, field_count(end, "waiting"));
        buf_puts(out, " more waiting; ");
        if (field_known(end, "possible_duplicates") && !field_count(end, "possible_duplicates")) {
            buf_puts(out, "none of them was in a transaction\n");
        } else if (field_known(end, "possible_duplicates")) {
            format_count(out, field_count(end, "possible_duplicates"));
            buf_puts(out, " of them at most may have got it twice: they were in a transaction\n");
        } else {
            buf_puts(out,
                     "those in a transaction at that moment may have got it twice, and how many were is not "
                     "known: the host went down, too\n");
        }
    }
}

/* A campaign that was mistyped is not accounted for. */
static bool is_of_nothing(const struct cli *cli, const json_t *root)
{
    const char *campaign = cli_text(cli, "campaign");

    return campaign && *campaign && !json_array_size(json_object_get(root, "rows"));
}

int cmd_audit(struct cli *cli)
{
    JSON_LOCAL(root);
    BUF_LOCAL(url);
    BUF_LOCAL(out);

    url_path(&url, "/api/v1/audit");
    url_param(&url, "campaign", cli_text(cli, "campaign"));
    url_param(&url, "limit", cli_text(cli, "limit"));
    int code = client_call_json(cli->client, "GET", &url, (struct bytes){0}, &root);
    if (code)
        return code;
    if (cli->json) {
        code = cli_write_tree(cli, root);
        return is_of_nothing(cli, root) ? CLI_REFUSED : status_of(root, code);
    }
    if (is_of_nothing(cli, root))
        return cli_fail(CLI_REFUSED, "no mail of a campaign '%s' is on record", cli_text(cli, "campaign"));
    put_campaigns(cli, root, &out);
    report_put_sum(&out, json_object_get(root, "totals"));
    buf_putc(&out, '\n');
    put_verdict(cli, root, &out);
    buf_putc(&out, '\n');
    put_doubts(cli, root, &out);
    put_ends(root, &out);
    return status_of(root, cli_write(buf_bytes(&out)));
}
