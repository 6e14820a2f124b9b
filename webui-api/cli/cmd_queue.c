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
    bool begun; /* the JSON list */
};

static int ask_page(struct list *l, struct answer *out)
{
    BUF_LOCAL(url);

    url_path(&url, "/api/v1/queue/recipients");
    put_filters(&url, l->cli);
    url_param(&url, "state", cli_text(l->cli, "state"));
    url_param(&url, "order", cli_text(l->cli, "order"));
    url_param_count(&url, "limit", MIN_OF(l->left, (uint64_t)PAGE_ROWS));
    url_param(&url, "after", *l->after ? l->after : NULL);
    return client_call(l->cli->client, "GET", &url, (struct bytes){0}, out);
}

/* Where `needle` last begins, or NULL. */
static const char *find_last(struct bytes text, struct bytes needle)
{
    for (size_t i = text.len; i >= needle.len && i; i--)
        if (memcmp(text.at + i - needle.len, needle.at, needle.len) == 0)
            return text.at + i - needle.len;
    return NULL;
}

/*
 * A page of ten thousand rows is passed on without being parsed.  Its rows stand between the first '[' and
 * the last
 * '],"more":', which no text can imitate, because quotes in texts are escaped.
 */
static bool split_page(struct bytes page, struct bytes *rows, json_t **rest)
{
    const char *end = find_last(page, BYTES("],\"more\":"));
    size_t start = bytes_find(page, '[') + 1;
    BUF_LOCAL(tail);

    if (!end || !bytes_starts(page, BYTES("{\"recipients\":")) || page.at + start > end)
        return false;
    *rows = bytes_make(page.at + start, (size_t)(end - page.at) - start);
    buf_putc(&tail, '{');
    buf_put(&tail, bytes_make(end + 2, (size_t)(page.at + page.len - end) - 2));
    *rest = json_loadb(tail.at, tail.len, 0, NULL);
    return *rest != NULL;
}

static uint64_t count_rows(struct bytes rows)
{
    static const struct bytes start = {"{\"message\":", 11};
    uint64_t count = 0;

    while (rows.len >= start.len) {
        const char *next = memmem(rows.at, rows.len, start.at, start.len);
        if (!next)
            break;
        count++;
        rows = bytes_skip(rows, (size_t)(next - rows.at) + start.len);
    }
    return count;
}

static const char strange[] =
    "the daemon's answer is of another form than expected: is it of another version?";

static int print_json_page(struct list *l, struct bytes page, uint64_t *count, json_t **rest)
{
    struct bytes rows;
    BUF_LOCAL(out);

    if (!split_page(page, &rows, rest))
        return cli_fail(CLI_REFUSED, "%s", strange);
    *count = count_rows(rows);
    buf_puts(&out, !l->begun ? "{\"recipients\":[" : *count ? "," : "");
    l->begun = true;
    if (l->cli->term.terminal)
        put_json_safe(&out, rows);
    else
        buf_put(&out, rows);
    return cli_write(buf_bytes(&out));
}

static int print_text_page(struct list *l, struct bytes page, uint64_t *count, json_t **rest)
{
    BUF_LOCAL(out);
    json_t *r;
    size_t i;

    *rest = json_loadb(page.at, page.len, 0, NULL);
    const json_t *rows = json_object_get(*rest, "recipients");
    if (!rows)
        return cli_fail(CLI_REFUSED, "%s", strange);
    *count = json_array_size(rows);
    json_array_foreach(rows, i, r)
    {
        put_list_row(&l->table, l->cli, r);
    }
    if (*count)
        table_print(&l->table, &l->cli->term, &out);
    return cli_write(buf_bytes(&out));
}

static int list_pages(struct list *l)
{
    uint64_t count;

    do {
        ANSWER_LOCAL(answer);
        JSON_LOCAL(rest);
        int code = ask_page(l, &answer);
        if (!code)
            code =
                (l->cli->json ? print_json_page : print_text_page)(l, buf_bytes(&answer.body), &count, &rest);
        if (code)
            return code;
        l->printed += count;
        l->left -= MIN_OF(l->left, count);
        l->more = field_bool(rest, "more");
        snprintf(l->after, sizeof(l->after), "%s", field_text(rest, "next"));
    } while (l->more && l->left && *l->after);
    return CLI_DONE;
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
    put_plural(out, field_count(totals, "waiting"), "recipient waiting", "recipients waiting");
    put_other_states(out, cli, totals, "that a DSN is owed for");
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
