/* The policy: versions, checks, differences. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "webui-api/cli/cli.h"

static void version_url(struct buf *url, const char *version)
{
    if (!version) {
        url_path(url, "/api/v1/policy");
        return;
    }
    url_path(url, "/api/v1/policy/versions");
    url_segment(url, version);
}

/* A document as people may see it: lines stay lines, other controls do not reach the terminal. */
static void put_document(struct buf *out, const struct cli *cli, struct bytes text)
{
    if (!cli->term.terminal) {
        buf_put(out, text);
        return;
    }
    while (text.len) {
        size_t end = bytes_find(text, '\n');
        format_safe(out, bytes_first(text, end));
        if (end < text.len)
            buf_putc(out, '\n');
        text = bytes_skip(text, end + 1);
    }
}

/* What the document includes, where not the whole text is shown. */
static void put_includes(struct buf *out, const json_t *policy)
{
    json_t *in;
    size_t i;

    json_array_foreach(json_object_get(policy, "includes"), i, in)
    {
        buf_puts(out, "# included: ");
        format_safe(out, bytes_of(field_text(in, "name")));
        if (*field_text(in, "date")) {
            buf_puts(out, ", of ");
            format_safe(out, bytes_of(field_text(in, "date")));
        }
        buf_puts(out, ", ");
        put_plural(out, field_count(in, "groups"), "group", "groups");
        buf_puts(out, ", from ");
        format_safe(out, bytes_of(field_text(in, "file")));
        buf_puts(out, " (--all shows it)\n");
    }
}

int cmd_policy_show(struct cli *cli)
{
    JSON_LOCAL(policy);
    BUF_LOCAL(url);
    BUF_LOCAL(out);

    version_url(&url, cli_text(cli, "version"));
    int code = cli_ask(cli, "GET", &url, (struct bytes){0}, &policy);
    if (code || cli->json)
        return code;
    buf_puts(&out, term_on(&cli->term, STYLE_DIM));
    buf_puts(&out, "# ");
    put_version(&out, cli, "version", policy);
    buf_putf(&out, "%s\n", term_off(&cli->term));
    struct bytes text = bytes_of(field_text(policy, "text"));
    if (!cli_has(cli, "all"))
        text = bytes_first(text, field_count(policy, "own_bytes"));
    put_document(&out, cli, text);
    if (text.len && text.at[text.len - 1] != '\n')
        buf_putc(&out, '\n');
    if (!cli_has(cli, "all"))
        put_includes(&out, policy);
    return cli_write(buf_bytes(&out));
}

static int write_file(const char *name, struct bytes text)
{
    FILE *f = fopen(name, "we");
    bool good = f && (fwrite(text.at, 1, text.len, f) == text.len);

    if (f && fclose(f))
        good = false;
    return good ? CLI_DONE : cli_fail(CLI_REFUSED, "%s cannot be written: %s", name, strerror(errno));
}

int cmd_policy_export(struct cli *cli)
{
    const char *file = cli_text(cli, "output");
    JSON_LOCAL(policy);
    BUF_LOCAL(url);

    version_url(&url, cli_text(cli, "version"));
    int code = cli_ask(cli, "GET", &url, (struct bytes){0}, &policy);
    if (code || cli->json)
        return code;
    struct bytes text = bytes_of(field_text(policy, "text"));
    return file && strcmp(file, "-") != 0 ? write_file(file, text) : cli_write(text);
}

int cmd_policy_history(struct cli *cli)
{
    static const struct column columns[] = {{"VERSION", COLUMN_RIGHT},
                                            {"WHEN", COLUMN_LEFT},
                                            {"", COLUMN_LEFT},
                                            {"BY", COLUMN_OPTIONAL},
                                            {"COMMENT", COLUMN_GIVES | COLUMN_OPTIONAL}};
    JSON_LOCAL(root);
    BUF_LOCAL(url);
    BUF_LOCAL(out);
    struct table t;
    json_t *v;
    size_t i;

    url_path(&url, "/api/v1/policy/versions");
    url_param(&url, "limit", cli_text(cli, "limit"));
    url_param(&url, "before", cli_text(cli, "before"));
    int code = cli_ask(cli, "GET", &url, (struct bytes){0}, &root);
    if (code || cli->json)
        return code;
    table_init(&t, columns, COUNT_OF(columns));
    json_array_foreach(json_object_get(root, "versions"), i, v)
    {
        table_count(&t, STYLE_STRONG, field_count(v, "version"));
        format_local(table_cell(&t, STYLE_PLAIN), field_int(v, "at_unix"));
        format_relative(table_cell(&t, STYLE_DIM), field_int(v, "at_unix"), cli->now_unix);
        table_text(&t, STYLE_PLAIN, field_text(v, "author"));
        table_text(&t, STYLE_PLAIN, field_text(v, "comment"));
    }
    table_print(&t, &cli->term, &out);
    table_fini(&t);
    if (field_bool(root, "more"))
        buf_puts(&out, "There are older ones: --limit, --before\n");
    return cli_write(buf_bytes(&out));
}

/* ---- documents from files ---- */

/* `text` holds it, as long as `doc` is used. */
static int read_document(const char *file, struct buf *text, struct document *doc)
{
    int code = cli_read_file(file, text);

    *doc = (struct document){strcmp(file, "-") == 0 ? "stdin" : file, buf_bytes(text)};
    return code;
}

static void put_complaints(struct buf *out, const struct document *doc, const json_t *list, const char *kind)
{
    json_t *c;
    size_t i;

    json_array_foreach(list, i, c)
    {
        complaint_put(out, doc, c, kind);
    }
}

static void put_verdict(struct buf *out, const struct document *doc, const json_t *found)
{
    const json_t *errors = json_object_get(found, "errors");

    put_complaints(out, doc, errors, "");
    put_complaints(out, doc, json_object_get(found, "notices"), "notice: ");
    format_safe(out, bytes_of(doc->name));
    buf_puts(out, ": ");
    if (field_bool(found, "ok"))
        buf_puts(out, "the policy is good");
    else
        put_plural(out, json_array_size(errors), "error", "errors");
    buf_putc(out, '\n');
}

int cmd_policy_check(struct cli *cli)
{
    struct document doc;
    JSON_LOCAL(found);
    BUF_LOCAL(text);
    BUF_LOCAL(url);
    BUF_LOCAL(out);

    int code = read_document(cli_arg(cli, 0), &text, &doc);
    if (code)
        return code;
    url_path(&url, "/api/v1/policy/check");
    client_document(cli->client, &doc);
    code = client_call_json(cli->client, "POST", &url, doc.text, &found);
    if (code)
        return code;
    if (cli->json) {
        code = cli_write_tree(cli, found);
    } else {
        put_verdict(&out, &doc, found);
        code = cli_write(buf_bytes(&out));
    }
    return code || field_bool(found, "ok") ? code : CLI_REFUSED;
}

/* Applies, and says what there is to say afterwards. */
static int apply(struct cli *cli, struct buf *url, const struct document *doc, struct bytes body)
{
    JSON_LOCAL(done);
    BUF_LOCAL(out);

    url_param(url, "comment", cli_text(cli, "comment"));
    url_param(url, "expected", cli_text(cli, "expected"));
    client_document(cli->client, doc);
    int code = cli_ask(cli, "POST", url, body, &done);
    if (code || cli->json)
        return code;
    put_complaints(&out, doc, json_object_get(done, "notices"), "notice: ");
    buf_putf(&out, "policy version %llu is in force\n", (unsigned long long)field_count(done, "version"));
    return cli_write(buf_bytes(&out));
}

int cmd_policy_apply(struct cli *cli)
{
    struct document doc;
    BUF_LOCAL(text);
    BUF_LOCAL(url);

    int code = read_document(cli_arg(cli, 0), &text, &doc);
    if (code)
        return code;
    url_path(&url, "/api/v1/policy");
    return apply(cli, &url, &doc, doc.text);
}

int cmd_policy_refresh(struct cli *cli)
{
    struct document doc = {.name = "the policy in force"};
    BUF_LOCAL(url);

    url_path(&url, "/api/v1/policy/refresh");
    return apply(cli, &url, &doc, (struct bytes){0});
}

int cmd_policy_receivers(struct cli *cli)
{
    JSON_LOCAL(found);
    BUF_LOCAL(url);
    BUF_LOCAL(out);

    url_path(&url, "/api/v1/policy/receivers");
    int code = cli_ask(cli, "GET", &url, (struct bytes){0}, &found);
    if (code || cli->json)
        return code;
    if (!cli_has(cli, "date")) {
        put_document(&out, cli, bytes_of(field_text(found, "text")));
        return cli_write(buf_bytes(&out));
    }
    format_safe(&out, bytes_of(field_text(found, "date")));
    buf_puts(&out, ", ");
    format_safe(&out, bytes_of(field_text(found, "file")));
    if (!field_known(found, "date_in_force"))
        buf_puts(&out, "; the policy in force does not include it");
    else if (strcmp(field_text(found, "date_in_force"), field_text(found, "date")) == 0)
        buf_puts(&out, "; in force with this date");
    else {
        buf_puts(&out, "; in force is that of ");
        format_safe(&out, bytes_of(field_text(found, "date_in_force")));
        buf_puts(&out, ": hayauma policy refresh");
    }
    buf_putc(&out, '\n');
    return cli_write(buf_bytes(&out));
}

int cmd_policy_rollback(struct cli *cli)
{
    const char *version = cli_arg(cli, 0);
    struct document doc = {.name = "that version"};
    BUF_LOCAL(url);
    uint64_t number;

    if (!bytes_parse_u64(bytes_of(version), &number) || !number)
        return cli_fail(CLI_USAGE, "a policy version is a number from 1, not '%s'", version);
    url_path(&url, "/api/v1/policy/rollback");
    url_param(&url, "to", version);
    return apply(cli, &url, &doc, (struct bytes){0});
}

/* ---- differences ---- */

static int current_version(struct cli *cli, uint64_t *out)
{
    JSON_LOCAL(policy);
    BUF_LOCAL(url);

    version_url(&url, NULL);
    int code = client_call_json(cli->client, "GET", &url, (struct bytes){0}, &policy);
    if (!code)
        *out = field_count(policy, "version");
    return code;
}

/* In the form of the daemon's own refusals. */
static int refuse_first(const struct cli *cli, uint64_t version)
{
    char why[80];

    snprintf(why, sizeof(why), "before version %llu there was none", (unsigned long long)version);
    if (cli->json) {
        JSON_LOCAL(tree);
        tree = json_pack("{s:{s:s, s:s, s:[]}}", "error", "code", "not_found", "message", why, "details");
        if (cli_write_tree(cli, tree))
            return CLI_REFUSED;
    }
    return cli_fail(CLI_REFUSED, "%s", why);
}

/* Both sides when no document was given. */
static int versions_to_compare(struct cli *cli, uint64_t *from, uint64_t *to)
{
    *from = invocation_count(cli->in, "from", 0);
    *to = invocation_count(cli->in, "to", 0);
    if (*from && *to)
        return CLI_DONE;
    if (*to) { /* what that version changed */
        *from = *to - 1;
    } else {
        int code = current_version(cli, to);
        if (code)
            return code;
        if (!*from)
            *from = *to ? *to - 1 : 0;
    }
    return *from ? CLI_DONE : refuse_first(cli, *to);
}

static void put_diff(struct buf *out, const struct cli *cli, struct bytes diff)
{
    while (diff.len) {
        struct bytes line = bytes_first(diff, bytes_find(diff, '\n'));
        BUF_LOCAL(safe);
        enum style style = bytes_starts(line, BYTES("+++")) || bytes_starts(line, BYTES("---")) ? STYLE_STRONG
                           : bytes_starts(line, BYTES("+"))                                     ? STYLE_GOOD
                           : bytes_starts(line, BYTES("-"))                                     ? STYLE_BAD
                           : bytes_starts(line, BYTES("@@"))                                    ? STYLE_DIM
                                                                                                : STYLE_PLAIN;
        format_safe(&safe, line);
        put_styled(out, cli, style, buf_str(&safe));
        buf_putc(out, '\n');
        diff = bytes_skip(diff, line.len + 1);
    }
}

static int show_diff(struct cli *cli, struct bytes diff)
{
    BUF_LOCAL(out);

    if (cli->json) {
        JSON_LOCAL(tree);
        tree = json_pack("{s:b, s:o}", "equal", diff.len == 0, "diff",
                         json_stringn(diff.at ? diff.at : "", diff.len));
        return tree ? cli_write_tree(cli, tree) : cli_fail(CLI_REFUSED, "the difference is not UTF-8 text");
    }
    if (!diff.len) {
        fputs("no difference\n", stderr);
        return CLI_DONE;
    }
    if (!cli->term.terminal)
        return cli_write(diff);
    put_diff(&out, cli, diff);
    return cli_write(buf_bytes(&out));
}

int cmd_policy_diff(struct cli *cli)
{
    const char *file = cli_arg(cli, 0);
    ANSWER_LOCAL(answer);
    BUF_LOCAL(text);
    BUF_LOCAL(url);
    uint64_t from, to;
    int code;

    if (file && cli_has(cli, "to"))
        return cli_fail(CLI_USAGE, "the new side is FILE or --to, not both");
    url_path(&url, "/api/v1/policy/diff");
    if (file) {
        code = cli_read_file(file, &text);
        url_param(&url, "from", cli_text(cli, "from"));
    } else {
        code = versions_to_compare(cli, &from, &to);
        if (!code) {
            url_param_count(&url, "from", from);
            url_param_count(&url, "to", to);
        }
    }
    if (!code)
        code = client_call(cli->client, "POST", &url, buf_bytes(&text), &answer);
    return code ? code : show_diff(cli, buf_bytes(&answer.body));
}
