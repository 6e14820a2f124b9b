/* What several commands need. */
#include "webui-api/cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"

#define FILE_MAX ((size_t)16 << 20) /* what the API takes */

int cli_fail(int status, const char *format, ...)
{
    BUF_LOCAL(text);
    BUF_LOCAL(safe);
    va_list ap;

    va_start(ap, format);
    buf_putv(&text, format, ap);
    va_end(ap);
    format_safe(&safe, buf_bytes(&text));
    fprintf(stderr, "hayauma: %s\n", buf_str(&safe));
    return status;
}

int cli_write(struct bytes text)
{
    if (text.len)
        fwrite(text.at, 1, text.len, stdout);
    if (fflush(stdout) == 0 && !ferror(stdout))
        return CLI_DONE;
    return cli_fail(CLI_REFUSED, "the output cannot be written: %s", strerror(errno));
}

void put_json_safe(struct buf *out, struct bytes json)
{
    while (json.len) {
        uint32_t c = 0;
        size_t len = format_take_point(json, &c);
        if (len == 0 || c < 0x20 || !format_is_obeyed(c)) /* line ends and indentation are below 0x20 */
            buf_put(out, bytes_first(json, MAX_OF(len, (size_t)1)));
        else if (c < 0x10000)
            buf_putf(out, "\\u%04x", c);
        else
            buf_putf(out, "\\u%04x\\u%04x", 0xd7c0 + (c >> 10), 0xdc00 + (c & 0x3ff));
        json = bytes_skip(json, MAX_OF(len, (size_t)1));
    }
}

int cli_write_tree(const struct cli *cli, const json_t *tree)
{
    BUF_LOCAL(out);
    char *text = json_dumps(tree, JSON_ENCODE_ANY | (cli->term.terminal ? JSON_INDENT(2) : JSON_COMPACT));

    if (cli->term.terminal)
        put_json_safe(&out, bytes_of(text));
    else
        buf_puts(&out, text);
    free(text);
    buf_putc(&out, '\n');
    return cli_write(buf_bytes(&out));
}

int cli_write_json(const struct cli *cli, struct bytes json)
{
    if (cli->term.terminal) {
        JSON_LOCAL(tree);
        tree = json_loadb(json.at ? json.at : "", json.len, JSON_DECODE_ANY, NULL);
        if (tree)
            return cli_write_tree(cli, tree);
    }
    BUF_LOCAL(out);
    buf_put(&out, json);
    if (!out.len || out.at[out.len - 1] != '\n')
        buf_putc(&out, '\n');
    return cli_write(buf_bytes(&out));
}

int cli_ask(struct cli *cli, const char *method, struct buf *url, struct bytes body, json_t **out)
{
    ANSWER_LOCAL(answer);

    if (!cli->json)
        return client_call_json(cli->client, method, url, body, out);
    int code = client_call(cli->client, method, url, body, &answer);
    return code ? code : cli_write_json(cli, buf_bytes(&answer.body));
}

int cli_ask_with(struct cli *cli, const char *method, struct buf *url, const json_t *body, json_t **out)
{
    char *text = json_dumps(body, JSON_COMPACT);
    int code = cli_ask(cli, method, url, bytes_of(text), out);

    free(text);
    return code;
}

int cli_ask_rows(struct cli *cli, const char *method, struct buf *url, struct bytes body, json_t **out)
{
    ANSWER_LOCAL(answer);

    if (!cli_has(cli, "csv"))
        return cli_ask(cli, method, url, body, out);
    if (cli->json)
        return cli_fail(CLI_USAGE, "--csv and --json: one of the two");
    url_param(url, "format", "csv");
    int code = client_call(cli->client, method, url, body, &answer);
    return code ? code : cli_write(buf_bytes(&answer.body));
}

int cli_say_changed(const json_t *answer, const char *done, const char *nothing)
{
    BUF_LOCAL(out);
    uint64_t n = field_count(answer, "changed");

    if (n) {
        put_plural(&out, n, "recipient", "recipients");
        buf_putf(&out, ": %s\n", done);
    } else {
        buf_putf(&out, "%s\n", nothing);
    }
    return cli_write(buf_bytes(&out));
}

void put_version(struct buf *out, const struct cli *cli, const char *kind, const json_t *version)
{
    buf_putf(out, "%s %llu, ", kind, (unsigned long long)field_count(version, "version"));
    format_local(out, field_int(version, "at_unix"));
    buf_puts(out, " (");
    format_relative(out, field_int(version, "at_unix"), cli->now_unix);
    buf_putc(out, ')');
    if (*field_text(version, "author")) {
        buf_puts(out, ", by ");
        format_safe(out, bytes_of(field_text(version, "author")));
    }
    if (*field_text(version, "comment")) {
        buf_puts(out, ": ");
        format_safe(out, bytes_of(field_text(version, "comment")));
    }
}

int cli_read_file(const char *name, struct buf *out)
{
    bool is_stdin = strcmp(name, "-") == 0;
    int fd = is_stdin ? STDIN_FILENO : open(name, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : 1;

    while (n > 0 && out->len <= FILE_MAX) {
        n = read(fd, buf_reserve(out, 65536), 65536);
        if (n > 0)
            out->len += (size_t)n;
        else if (n < 0 && errno == EINTR)
            n = 1;
    }
    int reason = errno;
    if (fd >= 0 && !is_stdin)
        close(fd);
    if (n < 0)
        return cli_fail(CLI_REFUSED, "%s cannot be read: %s", is_stdin ? "standard input" : name,
                        strerror(reason));
    if (out->len > FILE_MAX)
        return cli_fail(CLI_REFUSED, "%s is longer than 16 MiB", is_stdin ? "standard input" : name);
    return CLI_DONE;
}

bool cli_confirm(const char *question)
{
    char line[32] = "";

    fprintf(stderr, "%s [y/N] ", question);
    fflush(stderr);
    if (!fgets(line, sizeof(line), stdin)) {
        fputc('\n', stderr);
        return false;
    }
    line[strcspn(line, "\n")] = '\0';
    return strcmp(line, "y") == 0 || strcmp(line, "Y") == 0 || strcmp(line, "yes") == 0;
}

void put_plural(struct buf *out, uint64_t n, const char *one, const char *many)
{
    format_count(out, n);
    buf_putf(out, " %s", n == 1 ? one : many);
}

void put_styled(struct buf *out, const struct cli *cli, enum style style, const char *text)
{
    if (style == STYLE_PLAIN)
        buf_puts(out, text);
    else
        buf_putf(out, "%s%s%s", term_on(&cli->term, style), text, term_off(&cli->term));
}

void put_other_states(struct buf *out, const struct cli *cli, const json_t *totals, const char *says_dsn_owed)
{
    const struct {
        const char *field, *says;
        enum style style;
    } rows[] = {
        {"held", "held", STYLE_WARN},
        {"paused", "paused", STYLE_WARN},
        {"dsn_owed", says_dsn_owed, STYLE_PLAIN},
        {"bouncing", "bouncing", STYLE_BAD},
        {"cancelling", "being cancelled", STYLE_BAD},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        uint64_t n = field_count(totals, rows[i].field);
        if (!n)
            continue;
        buf_putf(out, ", %s", term_on(&cli->term, rows[i].style));
        format_count(out, n);
        buf_putf(out, " %s%s", rows[i].says, term_off(&cli->term));
    }
}

enum style style_of_outcome(const char *outcome)
{
    static const struct {
        const char *outcome;
        enum style style;
    } rows[] = {
        {"delivered", STYLE_GOOD}, {"deferred", STYLE_WARN},  {"bounced", STYLE_BAD},
        {"expired", STYLE_BAD},    {"cancelled", STYLE_WARN},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++)
        if (strcmp(rows[i].outcome, outcome) == 0)
            return rows[i].style;
    return STYLE_PLAIN;
}
