/* What an operator does to the queue. */
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "webui-api/cli/cli.h"

static const char *const selectors[] = {"message", "recipient", "group", "campaign", "sender", "account"};

/* The words of each operation. */
static const struct op {
    const char *verb, *done;
    const char *consequence; /* NULL: can be taken back, so nothing is asked */
} ops[] = {
    {"retry", "tried now", NULL},
    {"hold", "held", NULL},
    {"release", "released", NULL},
    {"bounce", "bounced", "and tell the senders"},
    {"cancel", "cancelled", "and tell nobody"},
};

static const struct op *op_of(const struct cli *cli)
{
    for (size_t i = 0; i < COUNT_OF(ops); i++)
        if (bytes_eq(command_verb(cli->in->command), bytes_of(ops[i].verb)))
            return &ops[i];
    abort(); /* commands.c names one that is not here */
}

static int body_of(const struct cli *cli, const struct op *op, json_t **out)
{
    json_t *body = json_pack("{s:s}", "op", op->verb), *domains = json_array();
    const char *text;
    size_t at = 0;
    bool utf8 = true;

    *out = body;
    for (size_t i = 0; i < COUNT_OF(selectors); i++)
        if ((text = cli_text(cli, selectors[i])))
            utf8 &= json_object_set_new(body, selectors[i], json_string(text)) == 0;
    while ((text = invocation_next(cli->in, "domain", &at)))
        utf8 &= json_array_append_new(domains, json_string(text)) == 0;
    if (json_array_size(domains))
        json_object_set(body, "domain", domains);
    json_decref(domains);
    if (!utf8)
        return cli_fail(CLI_USAGE, "an option's value is not UTF-8 text");
    bool narrow = json_object_size(body) > 1, all = cli_has(cli, "all");
    if (!narrow && !all)
        return cli_fail(CLI_USAGE,
                        "say which recipients: --message, --recipient, --domain, --group, --campaign, "
                        "--sender, --account, or --all");
    if (narrow && all)
        return cli_fail(CLI_USAGE, "--all goes with no other selection");
    if (all)
        json_object_set_new(body, "all", json_true());
    return CLI_DONE;
}

/* How many it would be; each domain is counted by itself, because the API counts one at a time. */
static int count(const struct cli *cli, uint64_t *out)
{
    const char *domain;
    size_t at = 0;

    *out = 0;
    domain = invocation_next(cli->in, "domain", &at);
    do {
        JSON_LOCAL(answer);
        BUF_LOCAL(url);
        url_path(&url, "/api/v1/queue/count");
        for (size_t i = 0; i < COUNT_OF(selectors); i++)
            url_param(&url, selectors[i], cli_text(cli, selectors[i]));
        url_param(&url, "domain", domain);
        int code = client_call_json(cli->client, "GET", &url, (struct bytes){0}, &answer);
        if (code)
            return code;
        *out += field_count(answer, "recipients");
    } while (domain && (domain = invocation_next(cli->in, "domain", &at)));
    return CLI_DONE;
}

/* CLI_DONE: go on. */
static int confirm(const struct cli *cli, const struct op *op, bool *go_on)
{
    BUF_LOCAL(amount);
    uint64_t n;

    *go_on = true;
    if (!op->consequence || cli_has(cli, "yes") || !isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
        return CLI_DONE;
    int code = count(cli, &n);
    if (code || n == 0)
        return code;
    put_plural(&amount, n, "recipient", "recipients");
    char *question = text_format("Give up %s, %s?", buf_str(&amount), op->consequence);
    *go_on = cli_confirm(question);
    mem_free(question);
    return CLI_DONE;
}

int cmd_queue_op(struct cli *cli)
{
    const struct op *op = op_of(cli);
    JSON_LOCAL(body);
    JSON_LOCAL(done);
    BUF_LOCAL(url);
    bool go_on;

    int code = body_of(cli, op, &body);
    if (!code)
        code = confirm(cli, op, &go_on);
    if (code)
        return code;
    if (!go_on)
        return cli_fail(CLI_REFUSED, "nothing was changed");
    url_path(&url, "/api/v1/queue/ops");
    code = cli_ask_with(cli, "POST", &url, body, &done);
    if (code || cli->json)
        return code;
    return cli_say_changed(done, op->done, "no recipient was selected: nothing has changed");
}
