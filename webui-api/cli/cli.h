/* What every command gets, and what several of them need. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "webui-api/cli/client.h"
#include "webui-api/cli/command.h"
#include "webui-api/cli/format.h"
#include "webui-api/cli/table.h"

struct cli {
    const struct invocation *in;
    struct client *client;
    struct term term; /* where stdout goes */
    bool json;
    int64_t now_unix;
};

/* The options' shorthands. */
static inline const char *cli_text(const struct cli *cli, const char *option)
{
    return invocation_text(cli->in, option);
}
static inline bool cli_has(const struct cli *cli, const char *option)
{
    return invocation_has(cli->in, option);
}
static inline const char *cli_arg(const struct cli *cli, size_t i) /* NULL: not given */
{
    return i < cli->in->arg_count ? cli->in->args[i] : NULL;
}

/* "hayauma: …" on stderr; returns the status given. */
int cli_fail(int status, const char *format, ...) PRINTF_LIKE(2, 3);
/* Prints the text; its writing fails (a full disk) with CLI_REFUSED and a sentence. */
int cli_write(struct bytes text);
/* A JSON answer as it came; on a terminal indented, and without characters that could harm it. */
int cli_write_json(const struct cli *cli, struct bytes json);
/* The same text, appended: JSON in which what a terminal would obey stands as an escape (RFC 8259 §7). */
void put_json_safe(struct buf *out, struct bytes json);
int cli_write_tree(const struct cli *cli, const json_t *tree);
/*
 * GET and the like whose answer is shown as JSON with --json (then *out stays NULL and the call is done),
 * else read into *out.
 */
MUST_CHECK int cli_ask(struct cli *cli, const char *method, struct buf *url, struct bytes body, json_t **out);
/* The same with a JSON body. */
MUST_CHECK int cli_ask_with(struct cli *cli, const char *method, struct buf *url, const json_t *body,
                            json_t **out);
/* The same for what --csv shows, too: then *out stays NULL as well. */
MUST_CHECK int cli_ask_rows(struct cli *cli, const char *method, struct buf *url, struct bytes body,
                            json_t **out);
/* A file's contents, "-" is stdin; CLI_REFUSED and a sentence when it cannot be read. */
MUST_CHECK int cli_read_file(const char *name, struct buf *out);
/* A question on the terminal; false unless the answer is yes. */
bool cli_confirm(const char *question);

/* "1 recipient", "12,345 recipients"; appended. */
void put_plural(struct buf *out, uint64_t n, const char *one, const char *many);
/* "3 recipients: held", or `nothing` where the answer to an operation says that none has changed; printed. */
int cli_say_changed(const json_t *answer, const char *done, const char *nothing);
/* "KIND 7, 21 Nov 14:03:12 (2 hours ago), by NAME: COMMENT"; appended. */
void put_version(struct buf *out, const struct cli *cli, const char *kind, const json_t *version);
/* With a style, where there are colours. */
void put_styled(struct buf *out, const struct cli *cli, enum style style, const char *text);
/* ", 3 held, 1 bouncing": what the queue holds besides those that wait, where there is any. */
void put_other_states(struct buf *out, const struct cli *cli, const json_t *totals,
                      const char *says_dsn_owed);
enum style style_of_outcome(const char *outcome);

/* The rows of commands.c. */
int cmd_status(struct cli *cli);
int cmd_account_add(struct cli *cli);
int cmd_account_list(struct cli *cli);
int cmd_account_set(struct cli *cli);
int cmd_account_passwd(struct cli *cli);
int cmd_account_remove(struct cli *cli);
int cmd_queue_list(struct cli *cli);
int cmd_queue_summary(struct cli *cli);
int cmd_queue_show(struct cli *cli);
int cmd_queue_op(struct cli *cli);
int cmd_audit(struct cli *cli);
int cmd_campaign_list(struct cli *cli);
int cmd_campaign_show(struct cli *cli);
int cmd_campaign_op(struct cli *cli);
int cmd_campaign_expire(struct cli *cli);
int cmd_source_list(struct cli *cli);
int cmd_source_warmup(struct cli *cli);
int cmd_shaping_list(struct cli *cli);
int cmd_shaping_clear(struct cli *cli);
int cmd_policy_show(struct cli *cli);
int cmd_policy_check(struct cli *cli);
int cmd_policy_diff(struct cli *cli);
int cmd_policy_apply(struct cli *cli);
int cmd_policy_history(struct cli *cli);
int cmd_policy_rollback(struct cli *cli);
int cmd_policy_refresh(struct cli *cli);
int cmd_policy_receivers(struct cli *cli);
int cmd_policy_export(struct cli *cli);
int cmd_policy_shadow(struct cli *cli);
int cmd_policy_whatif(struct cli *cli);
int cmd_report_shadow(struct cli *cli);
int cmd_report_delivery(struct cli *cli);
int cmd_report_tls(struct cli *cli);
int cmd_report_reconcile(struct cli *cli);
int cmd_tls_downgrades(struct cli *cli);
int cmd_report_submission_tls(struct cli *cli);
int cmd_dkim_generate(struct cli *cli);
int cmd_dkim_check(struct cli *cli);
int cmd_tls_probe(struct cli *cli);
int cmd_tls_sts(struct cli *cli);
int cmd_tls_reports(struct cli *cli);
int cmd_tls_report_out(struct cli *cli);
int cmd_log_follow(struct cli *cli);
int cmd_explain(struct cli *cli);
int cmd_doctor(struct cli *cli);
int cmd_version(struct cli *cli);
int cmd_help(struct cli *cli);
int cmd_completion(struct cli *cli);
