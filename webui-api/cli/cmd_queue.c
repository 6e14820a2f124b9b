/* The queue: lists, sums, one message. */
#include <stdio.h>
#include <stdlib.h>

#include "webui-api/cli/cli.h"

#define LIMIT_PRESET 100
#define PAGE_ROWS    10000

static enum style style_of_state(const char *state)
{
    return strcmp(state, "held") == 0 ? STYLE_WARN : strcmp(state, "waiting") == 0 ? STYLE_PLAIN : STYLE_BAD;
}

/* ---- list ---- */

static const struct column list_columns[] = {
    {"MESSAGE", COLUMN_LEFT},
    {"RECIPIENT", COLUMN_GIVES},
    {"STATE", COLUMN_LEFT},
    {"NEXT TRY", COLUMN_RIGHT},
    {"TRIES", COLUMN_RIGHT},
    {"AGE", COLUMN_RIGHT | COLUMN_SPARE},
    {"SIZE", COLUMN_RIGHT | COLUMN_SPARE},
    {"CAMPAIGN", COLUMN_OPTIONAL | COLUMN_SPARE},
    {"LAST REPLY", COLUMN_GIVES | COLUMN_OPTIONAL},
};

static void put_due(struct table *t, const struct cli *cli, const json_t *r)
{
    bool waits = strcmp(field_text(r, "state"), "waiting") == 0;
    struct buf *cell = table_cell(t, waits ? STYLE_PLAIN : STYLE_DIM);
    int64_t due = field_int(r, "due_unix");

    if (!waits)
        buf_puts(cell, "–");
    else if (due <= cli->now_unix)
        buf_puts(cell, "now");
    else
        format_relative(cell, due, cli->now_unix);
}

static void put_list_row(struct table *t, const struct cli *cli, const json_t *r)
{
    const char *state = field_text(r, "state");

    table_text(t, STYLE_STRONG, field_text(r, "message"));
    table_text(t, STYLE_PLAIN, field_text(r, "recipient"));
    table_text(t, style_of_state(state), state);
    put_due(t, cli, r);
    table_count(t, STYLE_PLAIN, field_count(r, "attempts"));
    format_span(table_cell(t, STYLE_PLAIN), cli->now_unix - field_int(r, "accepted_unix"));
    format_size(table_cell(t, STYLE_PLAIN), field_count(r, "size"));
    table_text(t, STYLE_PLAIN, field_text(r, "campaign"));
    table_text(t, STYLE_DIM, field_text(r, "last_outcome"));
}

static const char *const filters[] = {"message",  "recipient", "domain", "group",
                                      "campaign", "sender",    "account"};

static void put_filters(struct buf *url, const struct cli *cli)
{
    for (size_t i = 0; i < COUNT_OF(filters); i++)
        url_param(url, filters[i], cli_text(cli, filters[i]));
}

/* A list in the making, page by page. */
struct list {
    struct cli *cli;
    struct table table;
    uint64_t left; /* rows still wanted */
    uint64_t printed;
    char after[512];
    bool more;
};

static int ask_page(struct list *l, json_t **out)
{
    BUF_LOCAL(url);

    url_path(&url, "/api/v1/queue/recipients");
    put_filters(&url, l->cli);
    url_param(&url, "state", cli_text(l->cli, "state"));
    url_param(&url, "order", cli_text(l->cli, "order"));
    url_param_count(&url, "limit", MIN_OF(l->left, (uint64_t)PAGE_ROWS));
    url_param(&url, "after", *l->after ? l->after : NULL);
    return client_call_json(l->cli->client, "GET", &url, (struct bytes){0}, out);
}

static int print_page(struct list *l, const json_t *rows)
{
    BUF_LOCAL(out);
    json_t *r;
    size_t i;

    json_array_foreach(rows, i, r)
    {
        if (l->cli->json) {
            char *text = json_dumps(r, JSON_COMPACT);
            buf_putf(&out, "%s%s", l->printed || i ? "," : "", text);
            free(text);
        } else {
            put_list_row(&l->table, l->cli, r);
        }
    }
    if (!l->cli->json && json_array_size(rows))
        table_print(&l->table, &l->cli->term, &out);
    l->printed += json_array_size(rows);
    return cli_write(buf_bytes(&out));
}

static int list_pages(struct list *l)
{
    int code = CLI_DONE;

    do {
        JSON_LOCAL(page);
        code = ask_page(l, &page);
        if (code)
            return code;
        const json_t *rows = json_object_get(page, "recipients");
        if (l->cli->json && !l->printed)
            fputs("{\"recipients\":[", stdout);
        code = print_page(l, rows);
        l->left -= MIN_OF(l->left, (uint64_t)json_array_size(rows));
        l->more = field_bool(page, "more");
        snprintf(l->after, sizeof(l->after), "%s", field_text(page, "next"));
        if (!json_array_size(rows))
            break;
    } while (!code && l->more && l->left);
    return code;
}

static int end_list(const struct list *l)
{
    BUF_LOCAL(out);

    if (l->cli->json) {
        json_t *next = json_string(l->more ? l->after : "");
        char *text = json_dumps(next, JSON_ENCODE_ANY);
        buf_putf(&out, "],\"more\":%s,\"next\":%s}\n", l->more ? "true" : "false", text);
        free(text);
        json_decref(next);
        return cli_write(buf_bytes(&out));
    }
    if (!l->printed)
        fputs("no recipients\n", stderr);
    else if (l->more)
        fprintf(stderr, "There are more: --after %s, --limit or --all-pages\n", l->after);
    return CLI_DONE;
}

int cmd_queue_list(struct cli *cli)
{
    struct list l = {.cli = cli, .left = invocation_count(cli->in, "limit", LIMIT_PRESET)};

    if (cli_has(cli, "all-pages"))
        l.left = cli_has(cli, "limit") ? l.left : UINT64_MAX;
    if (!l.left)
        return cli_fail(CLI_USAGE, "--limit wants at least 1");
    snprintf(l.after, sizeof(l.after), "%s", cli_text(cli, "after") ? cli_text(cli, "after") : "");
    table_init(&l.table, list_columns, COUNT_OF(list_columns));
    int code = list_pages(&l);
    table_fini(&l.table);
    return code ? code : end_list(&l);
}

/* ---- summary ---- */

static void put_totals_line(const struct cli *cli, const json_t *totals, struct buf *out)
{
    static const struct {
        const char *field, *says;
        enum style style;
    } rows[] = {
        {"held", "held", STYLE_WARN},
        {"dsn_owed", "that a DSN is owed for", STYLE_PLAIN},
        {"bouncing", "bouncing", STYLE_BAD},
        {"cancelling", "being cancelled", STYLE_BAD},
    };

    put_plural(out, field_count(totals, "waiting"), "recipient waiting", "recipients waiting");
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        uint64_t n = field_count(totals, rows[i].field);
        if (!n)
            continue;
        buf_putf(out, ", %s", term_on(&cli->term, rows[i].style));
        format_count(out, n);
        buf_putf(out, " %s%s", rows[i].says, term_off(&cli->term));
    }
    buf_puts(out, ", in ");
    put_plural(out, field_count(totals, "messages"), "message", "messages");
    buf_putc(out, '\n');
}

int cmd_queue_summary(struct cli *cli)
{
    const char *by = cli_text(cli, "by") ? cli_text(cli, "by") : "domain";
    const char *name = strcmp(by, "domain") == 0 ? "DOMAIN" : strcmp(by, "group") == 0 ? "GROUP" : "CAMPAIGN";
    const struct column columns[] = {
        {name, COLUMN_LEFT}, {"WAITING", COLUMN_RIGHT}, {"HELD", COLUMN_RIGHT}, {"NEXT TRY", COLUMN_RIGHT}};
    JSON_LOCAL(root);
    BUF_LOCAL(url);
    BUF_LOCAL(out);
    struct table t;
    json_t *r;
    size_t i;

    url_path(&url, "/api/v1/queue/summary");
    url_param(&url, "by", by);
    url_param(&url, "limit", cli_text(cli, "limit"));
    int code = cli_ask(cli, "GET", &url, (struct bytes){0}, &root);
    if (code || cli->json)
        return code;
    table_init(&t, columns, COUNT_OF(columns));
    json_array_foreach(json_object_get(root, "rows"), i, r)
    {
        const char *key = field_text(r, "key");
        table_text(&t, *key ? STYLE_PLAIN : STYLE_DIM, *key ? key : "(none)");
        table_count(&t, STYLE_PLAIN, field_count(r, "waiting"));
        table_count(&t, STYLE_WARN, field_count(r, "held"));
        struct buf *due = table_cell(&t, STYLE_PLAIN);
        if (!field_known(r, "next_due_unix"))
            buf_puts(due, "–");
        else
            format_relative(due, MAX_OF(field_int(r, "next_due_unix"), cli->now_unix), cli->now_unix);
    }
    if (table_rows(&t)) {
        table_print(&t, &cli->term, &out);
        buf_putc(&out, '\n');
    }
    table_fini(&t);
    put_totals_line(cli, json_object_get(root, "totals"), &out);
    if (field_bool(root, "more"))
        buf_puts(&out, "The largest only: --limit shows more.\n");
    return cli_write(buf_bytes(&out));
}
