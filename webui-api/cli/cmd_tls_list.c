/*
 * A list before it is sent: how many of its recipients would go authenticated, encrypted, in clear, or not.
 * Domains are asked a batch at a time; what a host shows serves all domains that it receives for.
 */
#include <stdlib.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/mem.h"
#include "webui-api/cli/probe.h"

#define AT_ONCE_MAX    64
#define AT_ONCE_PRESET 32
#define PAGE_ROWS      20000
#define PROBLEMS_SHOWN 50

struct target {
    char *domain; /* owned */
    uint64_t recipients;
    json_t *result; /* owned; NULL: not asked yet */
};
struct targets {
    struct map by_domain;
    struct target **items; /* owned, in the order of the list */
    size_t count, cap;
    uint64_t recipients;
};

static void targets_fini(struct targets *t)
{
    for (size_t i = 0; i < t->count; i++) {
        json_decref(t->items[i]->result);
        mem_free(t->items[i]->domain);
        mem_free(t->items[i]);
    }
    mem_free(t->items);
    map_fini(&t->by_domain);
}

static struct bytes trimmed(struct bytes s)
{
    while (s.len && (unsigned char)s.at[0] <= ' ')
        s = bytes_skip(s, 1);
    while (s.len &&
           ((unsigned char)s.at[s.len - 1] <= ' ' || s.at[s.len - 1] == '.' || s.at[s.len - 1] == '>'))
        s.len--;
    return s;
}

static void add(struct targets *t, struct bytes domain, uint64_t recipients)
{
    BUF_LOCAL(low);

    for (size_t i = 0; i < domain.len; i++)
        buf_putc(&low, (char)(domain.at[i] >= 'A' && domain.at[i] <= 'Z' ? domain.at[i] + 32 : domain.at[i]));
    struct target *target = map_find(&t->by_domain, buf_bytes(&low));
    if (!target) {
        target = MEM_NEW(struct target);
        target->domain = buf_take(&low);
        if (t->count == t->cap) {
            t->cap = t->cap ? t->cap * 2 : 256;
            t->items = mem_realloc(t->items, t->cap * sizeof(struct target *));
        }
        t->items[t->count++] = target;
        map_put(&t->by_domain, bytes_of(target->domain), target);
    }
    target->recipients += recipients;
    t->recipients += recipients;
}

/* "a@b", "Name <a@b>", or a domain; '#' begins a remark. */
static void read_lines(struct targets *t, struct bytes text)
{
    while (text.len) {
        size_t end = bytes_find(text, '\n');
        struct bytes line = trimmed(bytes_first(text, end));
        text = bytes_skip(text, end + 1);
        if (!line.len || line.at[0] == '#')
            continue;
        for (size_t i = line.len; i > 0; i--)
            if (line.at[i - 1] == '@') {
                line = bytes_skip(line, i);
                break;
            }
        add(t, line, 1);
    }
}

static int read_queue(struct cli *cli, struct targets *t, const char *campaign)
{
    char after[128] = "";
    bool more = true;

    while (more) {
        BUF_LOCAL(url);
        JSON_LOCAL(page);
        json_t *row;
        size_t i;
        url_path(&url, "/api/v1/queue/recipients");
        url_param(&url, "campaign", campaign);
        url_param(&url, "state", "waiting");
        url_param_count(&url, "limit", PAGE_ROWS);
        if (*after)
            url_param(&url, "after", after);
        int code = client_call_json(cli->client, "GET", &url, (struct bytes){0}, &page);
        if (code)
            return code;
        json_array_foreach(json_object_get(page, "recipients"), i, row)
            add(t, bytes_of(field_text(row, "domain")), 1);
        snprintf(after, sizeof(after), "%s", field_text(page, "next"));
        more = field_bool(page, "more") && *after;
    }
    return CLI_DONE;
}

static void show_progress(const struct targets *t, size_t done)
{
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r%zu of %zu domains%s", done, t->count, done == t->count ? "\n" : "");
}

static int ask_all(struct cli *cli, struct targets *t, size_t at_once)
{
    const char *names[AT_ONCE_MAX];

    for (size_t at = 0; at < t->count;) {
        JSON_LOCAL(results);
        json_t *one;
        size_t n = 0, i;
        show_progress(t, at);
        while (n < at_once && at + n < t->count) {
            names[n] = t->items[at + n]->domain;
            n++;
        }
        int code = probe_ask(cli, names, n, true, &results);
        if (code)
            return code;
        /* Names come back normalised: those that differ from ours are found by what is left. */
        json_array_foreach(results, i, one)
        {
            struct target *target = map_find(&t->by_domain, bytes_of(field_text(one, "domain")));
            for (size_t k = 0; !target && k < n; k++)
                if (!t->items[at + k]->result && strncmp(field_text(one, "domain"), "xn--", 4) == 0 &&
                    (t->items[at + k]->domain[0] & 0x80))
                    target = t->items[at + k];
            if (target && !target->result)
                target->result = json_incref(one);
        }
        at += n;
    }
    show_progress(t, t->count);
    return CLI_DONE;
}

/* ---- what came of it ---- */

static const char *const kinds[] = {"authenticated", "encrypted",   "clear",
                                    "blocked",       "unreachable", "no domain"};
#define KINDS COUNT_OF(kinds)

static size_t kind_of(const struct target *t)
{
    const char *verdict = field_text(json_object_get(t->result, "live"), "verdict");

    for (size_t i = 0; i < KINDS; i++)
        if (strcmp(verdict, kinds[i]) == 0)
            return i;
    return KINDS - 1;
}

static int by_recipients(const void *a, const void *b)
{
    const struct target *x = *(struct target *const *)a, *y = *(struct target *const *)b;

    if (x->recipients != y->recipients)
        return x->recipients < y->recipients ? 1 : -1;
    return strcmp(x->domain, y->domain);
}

static void put_sums(struct buf *out, const struct cli *cli, const struct targets *t)
{
    static const struct column columns[] = {{"WOULD GO", COLUMN_LEFT},
                                            {"RECIPIENTS", COLUMN_RIGHT},
                                            {"SHARE", COLUMN_RIGHT},
                                            {"DOMAINS", COLUMN_RIGHT}};
    uint64_t recipients[KINDS] = {0}, domains[KINDS] = {0};
    struct table table;

    for (size_t i = 0; i < t->count; i++) {
        recipients[kind_of(t->items[i])] += t->items[i]->recipients;
        domains[kind_of(t->items[i])]++;
    }
    table_init(&table, columns, COUNT_OF(columns));
    for (size_t i = 0; i < KINDS; i++) {
        if (!domains[i] && i == KINDS - 1)
            continue;
        table_text(&table, style_of_verdict(kinds[i]), kinds[i]);
        table_count(&table, STYLE_PLAIN, recipients[i]);
        format_percent(table_cell(&table, STYLE_PLAIN), recipients[i], t->recipients);
        table_count(&table, STYLE_PLAIN, domains[i]);
    }
    table_print(&table, &cli->term, out);
    table_fini(&table);
}

/* Those that do not go encrypted, largest first, and why. */
static void put_problems(struct buf *out, const struct cli *cli, const struct targets *t)
{
    static const struct column columns[] = {{"DOMAIN", COLUMN_LEFT},
                                            {"RECIPIENTS", COLUMN_RIGHT},
                                            {"WOULD GO", COLUMN_LEFT},
                                            {"GROUP", COLUMN_LEFT},
                                            {"WHY", COLUMN_GIVES}};
    struct table table;
    size_t shown = 0, left = 0;

    table_init(&table, columns, COUNT_OF(columns));
    for (size_t i = 0; i < t->count; i++) {
        const struct target *target = t->items[i];
        const json_t *live = json_object_get(target->result, "live");
        size_t kind = kind_of(target);
        if (kind < 2)
            continue;
        if (shown == PROBLEMS_SHOWN) {
            left++;
            continue;
        }
        shown++;
        table_text(&table, STYLE_PLAIN, target->domain);
        table_count(&table, STYLE_PLAIN, target->recipients);
        table_text(&table, style_of_verdict(kinds[kind]), kinds[kind]);
        table_text(&table, STYLE_PLAIN, field_text(target->result, "group"));
        table_text(&table, STYLE_PLAIN,
                   *field_text(live, "text") ? field_text(live, "text")
                                             : field_text(target->result, "error"));
    }
    if (shown) {
        buf_putc(out, '\n');
        table_print(&table, &cli->term, out);
    }
    if (left) {
        put_plural(out, left, "more domain", "more domains");
        buf_puts(out, "; --json shows all\n");
    }
    table_fini(&table);
}

static json_t *list_json(const struct targets *t)
{
    json_t *domains = json_array();

    for (size_t i = 0; i < t->count; i++)
        json_array_append_new(domains,
                              json_pack("{s:s, s:I, s:s, s:O?}", "domain", t->items[i]->domain, "recipients",
                                        (json_int_t)t->items[i]->recipients, "would_go",
                                        kinds[kind_of(t->items[i])], "probe", t->items[i]->result));
    return json_pack("{s:I, s:o}", "recipients", (json_int_t)t->recipients, "domains", domains);
}

static int show(struct cli *cli, struct targets *t)
{
    BUF_LOCAL(out);

    qsort(t->items, t->count, sizeof(struct target *), by_recipients);
    if (cli->json) {
        JSON_LOCAL(tree);
        tree = list_json(t);
        return cli_write_tree(cli, tree);
    }
    put_sums(&out, cli, t);
    put_problems(&out, cli, t);
    return cli_write(buf_bytes(&out));
}

int probe_list(struct cli *cli)
{
    struct targets t = {0};
    BUF_LOCAL(text);
    size_t at_once = (size_t)invocation_count(cli->in, "at-once", AT_ONCE_PRESET);
    int code = CLI_DONE;

    if (at_once < 1 || at_once > AT_ONCE_MAX)
        return cli_fail(CLI_USAGE, "--at-once must be 1 to %d", AT_ONCE_MAX);
    if (cli_has(cli, "file")) {
        code = cli_read_file(cli_text(cli, "file"), &text);
        if (!code)
            read_lines(&t, buf_bytes(&text));
    } else {
        code = read_queue(cli, &t, cli_text(cli, "from-queue"));
    }
    if (!code && !t.count)
        code = cli_fail(CLI_REFUSED, "there is no address or domain in it");
    if (!code)
        code = ask_all(cli, &t, at_once);
    if (!code)
        code = show(cli, &t);
    targets_fini(&t);
    return code;
}
