/* Attempts, and what was changed automatically, as they happen. */
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "webui-api/cli/attempt.h"

#define WAIT_MS     25000
#define LIMIT       1000
#define LAST_PRESET 10
#define LAST_MAX    10000
#define PATIENCE_S  60 /* for a daemon that restarts */

/* Every line is written whole before the next request: nothing is lost by ending here. */
static void on_interrupt(int number)
{
    (void)number;
    _exit(CLI_DONE);
}

static const struct {
    const char *option, *field;
} filters[] = {{"group", "group"},
               {"domain", "domain"},
               {"campaign", "campaign"},
               {"recipient", "address"},
               {"result", "outcome"}};

static bool filters_any(const struct cli *cli)
{
    for (size_t i = 0; i < COUNT_OF(filters); i++)
        if (cli_text(cli, filters[i].option))
            return true;
    return false;
}

static bool wanted(const struct cli *cli, const json_t *a)
{
    for (size_t i = 0; i < COUNT_OF(filters); i++) {
        const char *want = cli_text(cli, filters[i].option);
        if (want && !bytes_ieq(bytes_of(want), bytes_of(field_text(a, filters[i].field))))
            return false;
    }
    return true;
}

static struct bytes take_line(struct bytes *lines)
{
    struct bytes line = bytes_first(*lines, bytes_find(*lines, '\n'));

    *lines = bytes_skip(*lines, line.len + 1);
    return line;
}

static json_t *wanted_in(const struct cli *cli, struct bytes line)
{
    json_t *a = line.len ? json_loadb(line.at, line.len, 0, NULL) : NULL;

    if (a && wanted(cli, a))
        return a;
    json_decref(a);
    return NULL;
}

/* What was changed automatically: the name, and each field as the log has it. */
static void put_event_line(struct buf *out, struct cli *cli, json_t *event)
{
    const char *key;
    json_t *value;
    int64_t at;

    if (format_parse_time(bytes_of(field_text(event, "at")), &at))
        format_local_clock(out, at);
    buf_putf(out, " %s%s%s", term_on(&cli->term, STYLE_WARN), field_text(event, "event"),
             term_off(&cli->term));
    json_object_foreach(event, key, value)
    {
        if (strcmp(key, "event") == 0 || strcmp(key, "event_id") == 0 || strcmp(key, "at") == 0)
            continue;
        buf_putf(out, " %s=", key);
        if (json_is_integer(value))
            buf_putf(out, "%lld", (long long)json_integer_value(value));
        else
            format_safe(out, bytes_of(json_string_value(value)));
    }
    buf_putc(out, '\n');
}

/* True: it is one.  With --group those of other groups are left out, and those of none. */
static bool take_event(struct cli *cli, json_t *line, struct bytes text, uint64_t *after, struct buf *out)
{
    const char *name = field_text(line, "event"), *group = cli_text(cli, "group");

    if (!*name)
        return false;
    *after = field_count(line, "event_id");
    if (strcmp(name, "follow") == 0 ||
        (group && !bytes_ieq(bytes_of(group), bytes_of(field_text(line, "group")))))
        return true;
    if (!cli->json) {
        put_event_line(out, cli, line);
    } else {
        put_json_safe(out, text);
        buf_putc(out, '\n');
    }
    return true;
}

/* Of what the filters let through, the first `skip` are not shown; `events`: the number of the last is put
 * there. */
static int print_lines(struct cli *cli, struct bytes lines, size_t skip, uint64_t *events)
{
    BUF_LOCAL(out);

    cli->now_unix = clock_unix();
    while (lines.len) {
        struct bytes line = take_line(&lines);
        JSON_LOCAL(a);
        a = line.len ? json_loadb(line.at, line.len, 0, NULL) : NULL;
        if (!a || take_event(cli, a, line, events, &out) || !wanted(cli, a))
            continue;
        if (skip) {
            skip--;
            continue;
        }
        if (!cli->json) {
            attempt_put_line(&out, cli, a);
            buf_putc(&out, '\n');
        } else {
            put_json_safe(&out, line);
            buf_putc(&out, '\n');
        }
    }
    return cli_write(buf_bytes(&out));
}

/* How many of them the filters let through beyond the newest `last`. */
static size_t beyond(const struct cli *cli, struct bytes lines, uint64_t last)
{
    size_t count = 0;

    while (lines.len) {
        JSON_LOCAL(a);
        a = wanted_in(cli, take_line(&lines));
        count += a != NULL;
    }
    return count > last ? count - last : 0;
}

/* `events`: the number of the last that was seen; NULL: from now on. */
static int ask(struct cli *cli, const char *after, const uint64_t *events, uint64_t limit, uint64_t wait_ms,
               struct answer *out)
{
    BUF_LOCAL(url);

    url_path(&url, "/api/v1/log/follow");
    url_param(&url, "after", after);
    url_param_count(&url, "limit", limit);
    url_param_count(&url, "wait_ms", wait_ms);
    if (cli_has(cli, "events") && events)
        url_param_count(&url, "events", *events);
    else if (cli_has(cli, "events"))
        url_param(&url, "events", "now");
    return client_call(cli->client, "GET", &url, (struct bytes){0}, out);
}

/* The daemon was there and is not: it may be restarting. */
static int ask_patiently(struct cli *cli, const char *after, uint64_t events, struct answer *out)
{
    uint64_t since = clock_now_ms();
    int code;
    bool said = false;

    for (;;) {
        bool last = clock_now_ms() - since > PATIENCE_S * 1000;
        client_quiet(cli->client, !last);
        code = ask(cli, after, &events, LIMIT, WAIT_MS, out);
        if (code != CLI_UNREACHABLE || last)
            return code;
        if (!said)
            fprintf(stderr, "hayauma: the daemon has gone; waiting up to %d s for it to come back\n",
                    PATIENCE_S);
        said = true;
        sleep(1);
    }
}

int cmd_log_follow(struct cli *cli)
{
    uint64_t last = invocation_count(cli->in, "last", LAST_PRESET);
    ANSWER_LOCAL(answer);
    char after[sizeof(answer.next)];

    if (last > LAST_MAX)
        return cli_fail(CLI_USAGE, "--last shows %d at most", LAST_MAX);
    signal(SIGINT, on_interrupt);
    signal(SIGTERM, on_interrupt);
    uint64_t events = 0;
    bool filtered = filters_any(cli); /* the newest that they let through are further back */
    int code = ask(cli, last ? "0" : "now", NULL, last && filtered ? LAST_MAX : MAX_OF(last, (uint64_t)1), 0,
                   &answer);
    size_t skip = code || !filtered ? 0 : beyond(cli, buf_bytes(&answer.body), last);
    for (;; skip = 0) {
        if (!code)
            code = print_lines(cli, buf_bytes(&answer.body), skip, &events);
        if (code)
            return code;
        if (!*answer.next)
            return cli_fail(CLI_REFUSED,
                            "the daemon does not say how the log goes on: is it of another version?");
        memcpy(after, answer.next, sizeof(after));
        code = ask_patiently(cli, after, events, &answer);
    }
}
