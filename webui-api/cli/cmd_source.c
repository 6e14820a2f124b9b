/* The addresses that mail leaves from. */
#include <string.h>

#include "webui-api/cli/cli.h"

static void put_warmup(struct buf *cell, const json_t *w)
{
    const char *state = field_text(w, "state");

    if (!w || strcmp(state, "warm") == 0) {
        buf_puts(cell, "warm");
        return;
    }
    buf_putf(cell, "step %llu of %llu", (unsigned long long)field_count(w, "step"),
             (unsigned long long)field_count(w, "steps"));
    if (strcmp(state, "warming") != 0) {
        buf_puts(cell, ", ");
        format_safe(cell, bytes_of(state));
    }
}

static void put_left(struct buf *cell, const json_t *w)
{
    if (!field_known(w, "left"))
        return;
    buf_putf(cell, "%llu of %llu", (unsigned long long)field_count(w, "left"),
             (unsigned long long)field_count(w, "size"));
    if (field_known(w, "seconds_to_wait")) {
        buf_puts(cell, ", more in ");
        format_span(cell, field_int(w, "seconds_to_wait"));
    }
}

static void put_refused(struct buf *cell, const json_t *w)
{
    if (field_count(w, "tried"))
        buf_putf(cell, "%.1f %%",
                 100.0 * (double)field_count(w, "refused") / (double)field_count(w, "tried"));
}

/* One line for each group that sends from it. */
static void put_rows(struct table *t, const json_t *source)
{
    const json_t *groups = json_object_get(source, "groups");
    bool usable = field_bool(source, "usable");
    size_t count = json_array_size(groups);

    for (size_t i = 0; i < (count ? count : 1); i++) {
        const json_t *group = json_array_get(groups, i), *w = json_object_get(group, "warmup");
        table_text(t, STYLE_PLAIN, field_text(source, "pool"));
        table_text(t, STYLE_STRONG, field_text(source, "address"));
        table_text(t, STYLE_PLAIN, field_text(count ? group : source, "ehlo_name"));
        table_count(t, STYLE_PLAIN, field_count(source, "weight"));
        table_text(t, usable ? STYLE_GOOD : STYLE_BAD, usable ? "yes" : field_text(source, "why"));
        table_count(t, STYLE_PLAIN, field_count(source, "connections"));
        table_count(t, STYLE_PLAIN, field_count(source, "delivered_hour"));
        table_count(t, STYLE_PLAIN, field_count(source, "delivered_day"));
        table_text(t, STYLE_PLAIN, field_text(group, "group"));
        put_warmup(table_cell(t, STYLE_PLAIN), w);
        put_left(table_cell(t, STYLE_PLAIN), w);
        put_refused(table_cell(t, STYLE_PLAIN), w);
    }
}

int cmd_source_list(struct cli *cli)
{
    static const struct column columns[] = {
        {"POOL", COLUMN_LEFT},
        {"ADDRESS", COLUMN_LEFT},
        {"EHLO NAME", COLUMN_GIVES | COLUMN_OPTIONAL},
        {"WEIGHT", COLUMN_RIGHT | COLUMN_SPARE},
        {"USABLE", COLUMN_LEFT},
        {"OPEN", COLUMN_RIGHT},
        {"THIS HOUR", COLUMN_RIGHT},
        {"TODAY (UTC)", COLUMN_RIGHT},
        {"GROUP", COLUMN_LEFT},
        {"WARM-UP", COLUMN_LEFT},
        {"LEFT", COLUMN_OPTIONAL},
        {"REFUSED", COLUMN_OPTIONAL},
    };
    JSON_LOCAL(root);
    BUF_LOCAL(url);
    BUF_LOCAL(out);
    struct table t;
    json_t *source;
    size_t i;

    url_path(&url, "/api/v1/sources");
    int code = cli_ask(cli, "GET", &url, (struct bytes){0}, &root);
    if (code || cli->json)
        return code;
    if (!json_array_size(json_object_get(root, "sources")))
        return cli_write(BYTES("the policy has no pools of source addresses\n"));
    table_init(&t, columns, COUNT_OF(columns));
    json_array_foreach(json_object_get(root, "sources"), i, source)
    {
        put_rows(&t, source);
    }
    table_print(&t, &cli->term, &out);
    table_fini(&t);
    return cli_write(buf_bytes(&out));
}

int cmd_source_warmup(struct cli *cli)
{
    const char *op = cli_arg(cli, 0), *step = cli_arg(cli, 2);
    bool known = strcmp(op, "hold") == 0 || strcmp(op, "resume") == 0;
    JSON_LOCAL(done);
    BUF_LOCAL(url);
    BUF_LOCAL(out);

    if (strcmp(op, "step") == 0 ? !step : !known || step)
        return cli_fail(CLI_USAGE, "say hold ADDRESS, resume ADDRESS, or step ADDRESS N");
    url_path(&url, "/api/v1/sources/warmup");
    url_param(&url, "op", op);
    url_param(&url, "address", cli_arg(cli, 1));
    url_param(&url, "step", step);
    url_param(&url, "group", cli_text(cli, "group"));
    int code = cli_ask(cli, "POST", &url, (struct bytes){0}, &done);
    if (code || cli->json)
        return code;
    buf_puts(&out, "changed for ");
    put_plural(&out, field_count(done, "changed"), "group", "groups");
    buf_putc(&out, '\n');
    return cli_write(buf_bytes(&out));
}
