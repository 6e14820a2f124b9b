/* Campaigns: the list, one of them, and what an operator does with it. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "webui-api/cli/cli.h"

static void put_eta(struct buf *cell, const json_t *c)
{
    if (field_known(c, "eta_s"))
        format_span(cell, field_int(c, "eta_s"));
    else
        buf_puts(cell, "–");
}

/* "paused", "over", "ends in 2 h" */
static void put_state(struct buf *cell, const json_t *c, int64_t now_unix)
{
    int64_t left = field_int(c, "expires_unix") - now_unix;

    if (field_bool(c, "is_paused"))
        buf_puts(cell, "paused");
    if (!field_known(c, "expires_unix"))
        return;
    if (cell->len)
        buf_puts(cell, ", ");
    buf_puts(cell, left > 0 ? "ends in " : "over");
    if (left > 0)
        format_span(cell, left);
}

static void put_row(struct table *t, const json_t *c, int64_t now_unix)
{
    const char *id = field_text(c, "campaign");

    table_text(t, *id ? STYLE_STRONG : STYLE_DIM, *id ? id : "(none)");
    put_state(table_cell(t, STYLE_WARN), c, now_unix);
    table_count(t, STYLE_PLAIN, field_count(c, "accepted"));
    table_count(t, STYLE_GOOD, field_count(c, "delivered"));
    table_count(t, STYLE_BAD, field_count(c, "bounced"));
    table_count(t, STYLE_BAD, field_count(c, "expired"));
    table_count(t, STYLE_WARN, field_count(c, "cancelled"));
    table_count(t, STYLE_PLAIN, field_count(c, "waiting"));
    table_count(t, STYLE_WARN, field_count(c, "held"));
    table_count(t, STYLE_WARN, field_count(c, "paused"));
    table_count(t, STYLE_PLAIN, field_count(c, "rate_per_minute"));
    put_eta(table_cell(t, STYLE_PLAIN), c);
}

int cmd_campaign_list(struct cli *cli)
{
    static const struct column columns[] = {
        {"CAMPAIGN", COLUMN_LEFT},
        {"", COLUMN_OPTIONAL},
        {"ACCEPTED", COLUMN_RIGHT},
        {"DELIVERED", COLUMN_RIGHT},
        {"BOUNCED", COLUMN_RIGHT},
        {"EXPIRED", COLUMN_RIGHT | COLUMN_OPTIONAL},
        {"CANCELLED", COLUMN_RIGHT | COLUMN_OPTIONAL},
        {"WAITING", COLUMN_RIGHT},
        {"HELD", COLUMN_RIGHT | COLUMN_OPTIONAL},
        {"PAUSED", COLUMN_RIGHT | COLUMN_OPTIONAL},
        {"PER MINUTE", COLUMN_RIGHT},
        {"DONE IN", COLUMN_RIGHT},
    };
    JSON_LOCAL(root);
    BUF_LOCAL(url);
    BUF_LOCAL(out);
    struct table t;
    json_t *c;
    size_t i;

    url_path(&url, "/api/v1/campaigns");
    url_param(&url, "limit", cli_text(cli, "limit"));
    url_param(&url, "active", cli_has(cli, "active") ? "yes" : NULL);
    int code = cli_ask(cli, "GET", &url, (struct bytes){0}, &root);
    if (code || cli->json)
        return code;
    if (!json_array_size(json_object_get(root, "campaigns")))
        return cli_write(BYTES("no campaigns; mail names one in X-Campaign, or its account has one\n"));
    table_init(&t, columns, COUNT_OF(columns));
    json_array_foreach(json_object_get(root, "campaigns"), i, c) put_row(&t, c, cli->now_unix);
    table_print(&t, &cli->term, &out);
    table_fini(&t);
    if (field_bool(root, "more"))
        buf_puts(&out, "There are more: --limit shows them.\n");
    return cli_write(buf_bytes(&out));
}

/* ---- one ---- */

static void put_groups(const struct cli *cli, const json_t *root, struct buf *out)
{
    static const struct column columns[] = {
        {"GROUP", COLUMN_LEFT},
        {"DELIVERED", COLUMN_RIGHT},
        {"BOUNCED", COLUMN_RIGHT},
        {"EXPIRED", COLUMN_RIGHT | COLUMN_OPTIONAL},
        {"CANCELLED", COLUMN_RIGHT | COLUMN_OPTIONAL},
        {"DEFERRALS", COLUMN_RIGHT},
        {"WAITING", COLUMN_RIGHT},
        {"HELD", COLUMN_RIGHT | COLUMN_OPTIONAL},
        {"PAUSED", COLUMN_RIGHT | COLUMN_OPTIONAL},
        {"DSN OWED", COLUMN_RIGHT | COLUMN_OPTIONAL},
        {"PER MINUTE", COLUMN_RIGHT},
        {"LIMITED BY", COLUMN_OPTIONAL},
        {"DONE IN", COLUMN_RIGHT},
    };
    static const struct {
        const char *field;
        enum style style;
    } counts[] = {{"delivered", STYLE_GOOD}, {"bounced", STYLE_BAD},
                  {"expired", STYLE_BAD},    {"cancelled", STYLE_WARN},
                  {"deferrals", STYLE_WARN}, {"waiting", STYLE_PLAIN},
                  {"held", STYLE_WARN},      {"paused", STYLE_WARN},
                  {"dsn_owed", STYLE_PLAIN}, {"rate_per_minute", STYLE_PLAIN}};
    struct table t;
    json_t *g;
    size_t i;

    table_init(&t, columns, COUNT_OF(columns));
    json_array_foreach(json_object_get(root, "groups"), i, g)
    {
        table_text(&t, STYLE_STRONG, field_text(g, "group"));
        for (size_t k = 0; k < COUNT_OF(counts); k++)
            table_count(&t, counts[k].style, field_count(g, counts[k].field));
        table_text(&t, STYLE_WARN, field_text(json_object_get(g, "limited_by"), "limit"));
        put_eta(table_cell(&t, STYLE_PLAIN), g);
    }
    if (table_rows(&t)) {
        buf_putc(out, '\n');
        table_print(&t, &cli->term, out);
    }
    table_fini(&t);
}

static void put_pause(const struct cli *cli, const json_t *c, struct buf *out)
{
    if (!field_bool(c, "is_paused"))
        return;
    put_styled(out, cli, STYLE_WARN, "paused");
    buf_puts(out, " since ");
    format_local(out, field_int(c, "paused_since_unix"));
    if (*field_text(c, "paused_by")) {
        buf_puts(out, " by ");
        format_safe(out, bytes_of(field_text(c, "paused_by")));
    }
    if (*field_text(c, "paused_why")) {
        buf_puts(out, ": ");
        format_safe(out, bytes_of(field_text(c, "paused_why")));
    }
    buf_putc(out, '\n');
}

static void put_end(const struct cli *cli, const json_t *c, struct buf *out)
{
    if (!field_known(c, "expires_unix"))
        return;
    int64_t end = field_int(c, "expires_unix");
    put_styled(out, cli, STYLE_WARN, end <= cli->now_unix ? "over" : "expires");
    buf_puts(out, end <= cli->now_unix ? " since " : " at ");
    format_local(out, end);
    buf_putc(out, '\n');
}

/* " (messages_per_second of X)" */
static void put_limit(struct buf *out, const json_t *by)
{
    if (!json_is_object(by))
        return;
    buf_puts(out, " (");
    buf_puts(out, field_text(by, "limit"));
    if (*field_text(by, "group")) {
        buf_puts(out, " of ");
        format_safe(out, bytes_of(field_text(by, "group")));
    }
    buf_putc(out, ')');
}

static void put_counts(const struct cli *cli, const json_t *c, struct buf *out)
{
    static const char *const ended[] = {"delivered", "bounced", "expired", "cancelled"};

    put_plural(out, field_count(c, "accepted"), "recipient accepted", "recipients accepted");
    buf_puts(out, " in ");
    put_plural(out, field_count(c, "accepted_messages"), "message", "messages");
    for (size_t i = 0; i < COUNT_OF(ended); i++)
        if (i < 2 || field_count(c, ended[i])) {
            buf_puts(out, ", ");
            format_count(out, field_count(c, ended[i]));
            buf_putf(out, " %s", ended[i]);
        }
    buf_putc(out, '\n');
    format_count(out, field_count(c, "waiting"));
    buf_puts(out, " waiting");
    put_other_states(out, cli, c, "that a DSN is owed for");
    buf_puts(out, "; ");
    format_count(out, field_count(c, "rate_per_minute"));
    buf_puts(out, " ended in the last minute");
    if (field_known(c, "eta_s")) {
        uint64_t stays = field_count(c, "not_moving");
        buf_puts(out, ", done in ");
        put_eta(out, c);
        put_limit(out, json_object_get(c, "limited_by"));
        if (stays) {
            buf_puts(out, ", but for ");
            format_count(out, stays);
        }
    }
    buf_putc(out, '\n');
}

static const struct {
    const char *limit, *words;
} waits[] = {
    {"tls", "wait for TLS"},
    {"retry", "wait for a retry"},
    {"schedule", "wait for their time"},
    {"paused", "are paused"},
    {"held", "are held"},
    {"warmup", "wait for the next period of a warm-up"},
    {"suspended", "wait while nothing is sent"},
    {"quiet_hours", "wait for the end of quiet hours"},
    {"draining", "wait: the daemon is ending"},
    {"disk", "wait for the disk"},
};

/* "not moving: 1,200 wait for TLS at X, until 14:05: 451 4.7.4 …" */
static void put_standing(const struct cli *cli, struct buf *out, uint64_t n, const char *limit,
                         const char *group, int64_t until, const char *why)
{
    size_t i = 0;

    put_styled(out, cli, STYLE_WARN, "not moving");
    buf_puts(out, ": ");
    format_count(out, n);
    buf_putc(out, ' ');
    while (i < COUNT_OF(waits) && strcmp(waits[i].limit, limit) != 0)
        i++;
    if (i < COUNT_OF(waits))
        buf_puts(out, waits[i].words);
    else if (*limit)
        buf_putf(out, "wait by %s", limit);
    else
        buf_puts(out, "wait, and nothing has ended for minutes");
    buf_puts(out, " at group ");
    format_safe(out, bytes_of(group));
    if (until) {
        buf_puts(out, ", until ");
        format_local(out, until);
    }
    if (*why) {
        buf_puts(out, ": ");
        format_safe(out, bytes_of(why));
    }
    buf_putc(out, '\n');
}

static void put_not_moving(const struct cli *cli, const json_t *root, struct buf *out)
{
    json_t *g;
    size_t i;

    json_array_foreach(json_object_get(root, "groups"), i, g)
    {
        const json_t *by = json_object_get(g, "limited_by");
        const char *group = field_text(g, "group");
        uint64_t later = field_count(g, "later"), due = field_count(g, "waiting") - later;
        if (due && !field_known(g, "eta_s") && !field_bool(root, "is_paused"))
            put_standing(cli, out, due, field_text(by, "limit"), group, field_int(by, "until_unix"),
                         field_text(by, "why"));
        if (later)
            put_standing(cli, out, later, field_text(g, "later_limit"), group, field_int(g, "later_unix"),
                         field_text(g, "later_why"));
        if (field_count(g, "held"))
            put_standing(cli, out, field_count(g, "held"), "held", group, 0, "");
    }
}

/* CLI_USAGE where no campaign is named: an empty segment would be another address. */
static int campaign_url(const struct cli *cli, struct buf *url)
{
    if (!*cli_arg(cli, 0))
        return cli_fail(CLI_USAGE,
                        "mail without a campaign has no ID: 'hayauma audit --campaign \"\"' counts it, "
                        "'hayauma queue' shows and steers it");
    url_path(url, "/api/v1/campaigns");
    url_segment(url, cli_arg(cli, 0));
    return CLI_DONE;
}

int cmd_campaign_show(struct cli *cli)
{
    JSON_LOCAL(root);
    BUF_LOCAL(url);
    BUF_LOCAL(out);

    int code = campaign_url(cli, &url);
    if (!code)
        code = cli_ask(cli, "GET", &url, (struct bytes){0}, &root);
    if (code || cli->json)
        return code;
    put_styled(&out, cli, STYLE_STRONG, field_text(root, "campaign"));
    buf_putc(&out, '\n');
    put_pause(cli, root, &out);
    put_end(cli, root, &out);
    put_counts(cli, root, &out);
    put_not_moving(cli, root, &out);
    put_groups(cli, root, &out);
    return cli_write(buf_bytes(&out));
}

/* ---- pause, resume, cancel, expire ---- */

static int confirm(const struct cli *cli, const char *before, const char *behind, bool *go_on)
{
    JSON_LOCAL(answer);
    BUF_LOCAL(url);
    BUF_LOCAL(amount);

    *go_on = true;
    if (cli_has(cli, "yes") || !isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
        return CLI_DONE;
    url_path(&url, "/api/v1/queue/count");
    url_param(&url, "campaign", cli_arg(cli, 0));
    int code = client_call_json(cli->client, "GET", &url, (struct bytes){0}, &answer);
    if (code || !field_count(answer, "recipients"))
        return code;
    put_plural(&amount, field_count(answer, "recipients"), "recipient", "recipients");
    char *question = text_format("%s %s%s?", before, buf_str(&amount), behind);
    *go_on = cli_confirm(question);
    mem_free(question);
    return CLI_DONE;
}

int cmd_campaign_op(struct cli *cli)
{
    static const struct {
        const char *op, *done, *nothing;
    } ops[] = {
        {"pause", "paused", "nothing waits of it; what comes will be held"},
        {"resume", "resumed", "nothing was paused"},
        {"cancel", "cancelled", "nothing waits of it: nothing has changed"},
    };
    size_t which = 0;
    JSON_LOCAL(body);
    JSON_LOCAL(done);
    BUF_LOCAL(url);
    bool go_on = true;
    int code = campaign_url(cli, &url);

    if (code)
        return code;
    while (!bytes_eq(command_verb(cli->in->command), bytes_of(ops[which].op)))
        if (++which == COUNT_OF(ops))
            abort(); /* commands.c names one that is not here */
    body = json_pack("{s:s}", "op", ops[which].op);
    if (which == 0 && cli_text(cli, "why") &&
        json_object_set_new(body, "why", json_string(cli_text(cli, "why"))))
        return cli_fail(CLI_USAGE, "--why is not UTF-8 text");
    if (which == 2)
        code = confirm(cli, "Give up", ", and tell nobody", &go_on);
    if (code)
        return code;
    if (!go_on)
        return cli_fail(CLI_REFUSED, "nothing was changed");
    code = cli_ask_with(cli, "POST", &url, body, &done);
    return code || cli->json ? code : cli_say_changed(done, ops[which].done, ops[which].nothing);
}

static int send_end(struct cli *cli, const json_t *body)
{
    JSON_LOCAL(done);
    BUF_LOCAL(url);
    BUF_LOCAL(out);

    int code = campaign_url(cli, &url);
    if (!code)
        code = cli_ask_with(cli, "POST", &url, body, &done);
    if (code || cli->json)
        return code;
    if (!field_known(done, "expires_unix")) {
        buf_puts(&out, "it has no end now\n");
    } else if (field_int(done, "expires_unix") <= cli->now_unix) {
        put_plural(&out, field_count(done, "changed"), "recipient", "recipients");
        buf_puts(&out, ": expired\n");
    } else {
        buf_puts(&out, "what waits of it expires at ");
        format_local(&out, field_int(done, "expires_unix"));
        buf_putc(&out, '\n');
    }
    return cli_write(buf_bytes(&out));
}

int cmd_campaign_expire(struct cli *cli)
{
    const char *at = cli_text(cli, "at"), *in = cli_text(cli, "in");
    bool never = cli_has(cli, "never"), go_on = true;
    JSON_LOCAL(body);

    if ((at != NULL) + (in != NULL) + never != 1)
        return cli_fail(CLI_USAGE, "one of --at TIME, --in SPAN and --never says when");
    int code = never ? CLI_DONE
                     : confirm(cli, "Give up", " that wait now, unless they are delivered by then", &go_on);
    if (code)
        return code;
    if (!go_on)
        return cli_fail(CLI_REFUSED, "nothing was changed");
    body = json_pack("{s:s, s:o?}", "op", "expire", in ? "in" : "at",
                     never ? json_null() : json_string(at ? at : in));
    return body && json_object_size(body) == 2 ? send_end(cli, body)
                                               : cli_fail(CLI_USAGE, "the time is not UTF-8 text");
}
