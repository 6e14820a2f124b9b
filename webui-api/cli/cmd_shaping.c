/* What the daemon imposed on receivers by itself: seen, and taken back. */
#include <stdio.h>

#include "base/mem.h"
#include "webui-api/cli/attempt.h"

/* What brought it about: "line 12 of receivers", else one word. */
static void put_author(struct buf *cell, const json_t *e)
{
    if (field_count(e, "line"))
        shaping_put_line(cell, e);
    else
        format_safe(cell, bytes_of(field_text(e, "by")));
}

static void put_row(struct table *t, const struct cli *cli, const json_t *e)
{
    table_count(t, STYLE_STRONG, field_count(e, "id"));
    shaping_put_what(table_cell(t, STYLE_WARN), e);
    table_text(t, STYLE_PLAIN, field_text(e, "group"));
    shaping_put_where(table_cell(t, STYLE_PLAIN), e);
    format_relative(table_cell(t, STYLE_PLAIN), field_int(e, "since_unix"), cli->now_unix);
    shaping_put_until(table_cell(t, STYLE_PLAIN), e);
    put_author(table_cell(t, STYLE_PLAIN), e);
    shaping_put_why(table_cell(t, STYLE_PLAIN), e);
}

static void put_filter(struct cli *cli, struct buf *url)
{
    url_param(url, "group", cli_text(cli, "group"));
    url_param(url, "domain", cli_text(cli, "domain"));
}

int cmd_shaping_list(struct cli *cli)
{
    static const struct column columns[] = {
        {"ID", COLUMN_RIGHT},   {"WHAT", COLUMN_LEFT},  {"GROUP", COLUMN_LEFT}, {"WHERE", COLUMN_LEFT},
        {"SINCE", COLUMN_LEFT}, {"UNTIL", COLUMN_LEFT}, {"BY", COLUMN_LEFT},    {"WHY", COLUMN_GIVES},
    };
    JSON_LOCAL(root);
    BUF_LOCAL(url);
    BUF_LOCAL(out);
    struct table t;
    json_t *e;
    size_t i;

    url_path(&url, "/api/v1/shaping");
    put_filter(cli, &url);
    url_param(&url, "limit", cli_text(cli, "limit"));
    int code = cli_ask(cli, "GET", &url, (struct bytes){0}, &root);
    if (code || cli->json)
        return code;
    if (!json_array_size(json_object_get(root, "events")))
        return cli_write(BYTES("nothing is slowed down or suspended automatically\n"));
    table_init(&t, columns, COUNT_OF(columns));
    json_array_foreach(json_object_get(root, "events"), i, e) put_row(&t, cli, e);
    table_print(&t, &cli->term, &out);
    table_fini(&t);
    if (field_bool(root, "more"))
        buf_putf(&out, "%llu in all: --limit shows more.\n",
                 (unsigned long long)field_count(root, "in_force"));
    return cli_write(buf_bytes(&out));
}

int cmd_shaping_clear(struct cli *cli)
{
    bool all = cli_has(cli, "all"), some = cli_arg(cli, 0) || cli_has(cli, "group") || cli_has(cli, "domain");
    JSON_LOCAL(done);
    BUF_LOCAL(url);
    BUF_LOCAL(out);

    if (all == some)
        return cli_fail(CLI_USAGE,
                        "say which: an ID of 'hayauma shaping list', --group, --domain, or --all alone");
    url_path(&url, "/api/v1/shaping/clear");
    url_param(&url, "id", cli_arg(cli, 0));
    put_filter(cli, &url);
    url_param(&url, "all", all ? "yes" : NULL);
    int code = cli_ask(cli, "POST", &url, (struct bytes){0}, &done);
    if (code || cli->json)
        return code;
    if (field_count(done, "cleared")) {
        put_plural(&out, field_count(done, "cleared"), "event", "events");
        buf_puts(&out, " cleared; mail goes on at once\n");
    } else {
        buf_puts(&out, "nothing of it was in force\n");
    }
    return cli_write(buf_bytes(&out));
}
