/* Accounts: who may submit. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#include "base/mem.h"
#include "webui-api/cli/cli.h"

#define PASSWORD_MAX 1024

static void account_url(struct buf *url, const char *name, const char *expect)
{
    url_path(url, "/api/v1/accounts");
    url_segment(url, name);
    url_param(url, "expect", expect);
}

/* ---- passwords ---- */

/* Overwrites what a password stood in. */
static void wipe(void *at, size_t len)
{
    explicit_bzero(at, len);
}

static struct termios echo_was;

static void on_signal(int number)
{
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &echo_was);
    signal(number, SIG_DFL);
    raise(number);
}

static bool read_line(char *line)
{
    size_t len = 0;
    ssize_t n;
    char c;

    /* Octet by octet without stdio: what follows the line, and any buffer of it, is not ours. */
    while ((n = read(STDIN_FILENO, &c, 1)) == 1 && c != '\n') {
        if (len + 1 == PASSWORD_MAX) {
            wipe(line, PASSWORD_MAX);
            return false;
        }
        line[len++] = c;
    }
    if (len && line[len - 1] == '\r')
        len--;
    line[len] = '\0';
    return n >= 0 && strlen(line) == len;
}

static bool ask(const char *prompt, char *line)
{
    struct termios quiet;
    bool good;

    tcgetattr(STDIN_FILENO, &echo_was);
    quiet = echo_was;
    quiet.c_lflag &= ~(tcflag_t)ECHO;
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
    fputs(prompt, stderr); /* only now: who answers at once is not seen either */
    fflush(stderr);
    good = read_line(line);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &echo_was);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    fputc('\n', stderr);
    return good;
}

/* `password` holds PASSWORD_MAX, and is to be wiped whatever comes. */
static int read_password(const struct cli *cli, char *password)
{
    bool from_terminal = isatty(STDIN_FILENO) && !cli_has(cli, "password-stdin");
    char again[PASSWORD_MAX] = "";

    if (!(from_terminal ? ask("Password: ", password) : read_line(password)))
        return cli_fail(CLI_REFUSED, "the password must be one line of less than %d octets", PASSWORD_MAX);
    if (!*password)
        return cli_fail(CLI_REFUSED, from_terminal
                                         ? "an empty password is no password"
                                         : "the password is wanted as one line on stdin, and there was none");
    if (!from_terminal)
        return CLI_DONE;
    bool same = ask("Once more: ", again) && strcmp(password, again) == 0;
    wipe(again, sizeof(again));
    return same ? CLI_DONE : cli_fail(CLI_REFUSED, "the two differ; nothing was changed");
}

/* Sends fields, with a password or without, and wipes it from every buffer of ours. */
static int put_account(struct cli *cli, const char *expect, json_t *fields, const char *password,
                       json_t **out)
{
    BUF_LOCAL(url);
    int code;

    if (password && json_object_set_new(fields, "password", json_string(password)))
        return cli_fail(CLI_REFUSED, "the password is not UTF-8 text");
    account_url(&url, cli_arg(cli, 0), expect);
    char *body = json_dumps(fields, JSON_COMPACT);
    code = cli_ask(cli, "PUT", &url, bytes_of(body), out);
    wipe(body, strlen(body));
    free(body);
    if (password) {
        char *held = (char *)(uintptr_t)field_text(fields, "password");
        wipe(held, strlen(held));
    }
    return code;
}

/* ---- fields ---- */

/* A value list as the options give it, "any" as an empty one; not in `fields` when nothing was said. */
static bool set_texts(const struct cli *cli, json_t *fields, const char *field, const char *option, bool any)
{
    json_t *list = json_array();
    const char *text;
    size_t at = 0;

    while ((text = invocation_next(cli->in, option, &at)))
        if (json_array_append_new(list, json_string(text))) {
            cli_fail(CLI_USAGE, "--%s is not UTF-8 text", option);
            json_decref(list);
            return false;
        }
    if (any && json_array_size(list)) {
        cli_fail(CLI_USAGE, "--%s and --any-%s: one of the two", option, option);
        json_decref(list);
        return false;
    }
    if (any || json_array_size(list))
        json_object_set_new(fields, field, list);
    else
        json_decref(list);
    return true;
}

/* A file is sent as it is: who asks for it to be trusted need not know how to take its fingerprint. */
static json_t *certificate_of(const char *text)
{
    char pem[65536];
    FILE *f = strchr(text, '/') || strstr(text, ".pem") || strstr(text, ".crt") ? fopen(text, "re") : NULL;

    if (!f)
        return json_string(text);
    size_t n = fread(pem, 1, sizeof(pem), f);
    fclose(f);
    return json_stringn(pem, n);
}

static bool set_certificates(const struct cli *cli, json_t *fields, bool none)
{
    json_t *list = json_array();
    const char *text;
    size_t at = 0;

    while ((text = invocation_next(cli->in, "certificate", &at)))
        if (json_array_append_new(list, certificate_of(text))) {
            cli_fail(CLI_USAGE, "--certificate %s is neither UTF-8 text nor a PEM file", text);
            json_decref(list);
            return false;
        }
    if (none && json_array_size(list)) {
        cli_fail(CLI_USAGE, "--certificate and --no-certificate: one of the two");
        json_decref(list);
        return false;
    }
    if (none || json_array_size(list))
        json_object_set_new(fields, "certificates", list);
    else
        json_decref(list);
    return true;
}

static void set_count(const struct cli *cli, json_t *fields, const char *field, const char *option)
{
    if (cli_has(cli, option))
        json_object_set_new(fields, field, json_integer((json_int_t)invocation_count(cli->in, option, 0)));
}

static bool set_fields(const struct cli *cli, json_t *fields, bool any_domain, bool any_network,
                       bool no_certificate)
{
    if (cli_has(cli, "campaign") &&
        json_object_set_new(fields, "campaign", json_string(cli_text(cli, "campaign")))) {
        cli_fail(CLI_USAGE, "--campaign is not UTF-8 text");
        return false;
    }
    if (cli_has(cli, "priority"))
        json_object_set_new(fields, "priority", json_string(cli_text(cli, "priority")));
    set_count(cli, fields, "max_connections", "max-connections");
    set_count(cli, fields, "messages_per_minute", "messages-per-minute");
    return set_texts(cli, fields, "sender_domains", "sender-domain", any_domain) &&
           set_texts(cli, fields, "networks", "network", any_network) &&
           set_certificates(cli, fields, no_certificate);
}

int cmd_account_add(struct cli *cli)
{
    char password[PASSWORD_MAX] = "";
    JSON_LOCAL(fields);
    JSON_LOCAL(done);

    fields = json_object();
    if (!set_fields(cli, fields, false, false, false))
        return CLI_USAGE;
    bool no_password = cli_has(cli, "no-password");
    if (no_password && !json_object_get(fields, "certificates"))
        return cli_fail(CLI_USAGE, "--no-password needs a --certificate");
    int code = no_password ? CLI_DONE : read_password(cli, password);
    if (!code)
        code = put_account(cli, "new", fields, no_password ? NULL : password, &done);
    wipe(password, sizeof(password));
    if (!code && !cli->json)
        printf("account %s added\n", cli_arg(cli, 0));
    return code;
}

int cmd_account_passwd(struct cli *cli)
{
    char password[PASSWORD_MAX] = "";
    JSON_LOCAL(fields);
    JSON_LOCAL(done);

    fields = json_object();
    int code = read_password(cli, password);
    if (!code)
        code = put_account(cli, "existing", fields, password, &done);
    wipe(password, sizeof(password));
    if (!code && !cli->json)
        printf("account %s has a new password\n", cli_arg(cli, 0));
    return code;
}

int cmd_account_set(struct cli *cli)
{
    bool disable = cli_has(cli, "disable"), enable = cli_has(cli, "enable");
    JSON_LOCAL(fields);
    JSON_LOCAL(done);

    fields = json_object();
    if (!set_fields(cli, fields, cli_has(cli, "any-sender-domain"), cli_has(cli, "any-network"),
                    cli_has(cli, "no-certificate")))
        return CLI_USAGE;
    if (disable && enable)
        return cli_fail(CLI_USAGE, "--disable and --enable: one of the two");
    if (cli_has(cli, "campaign") && cli_has(cli, "no-campaign"))
        return cli_fail(CLI_USAGE, "--campaign and --no-campaign: one of the two");
    if (cli_has(cli, "no-campaign"))
        json_object_set_new(fields, "campaign", json_null());
    if (cli_has(cli, "no-password"))
        json_object_set_new(fields, "password", json_null());
    if (disable || enable)
        json_object_set_new(fields, "disabled", json_boolean(disable));
    if (json_object_size(fields) == 0)
        return cli_fail(CLI_USAGE, "nothing to change was given: see hayauma help account set");
    int code = put_account(cli, "existing", fields, NULL, &done);
    if (!code && !cli->json)
        printf("account %s changed\n", cli_arg(cli, 0));
    return code;
}

int cmd_account_remove(struct cli *cli)
{
    JSON_LOCAL(done);
    BUF_LOCAL(url);

    account_url(&url, cli_arg(cli, 0), NULL);
    int code = cli_ask(cli, "DELETE", &url, (struct bytes){0}, &done);
    if (!code && !cli->json)
        printf("account %s removed\n", cli_arg(cli, 0));
    return code;
}

/* ---- list ---- */

static void put_joined(struct table *t, const json_t *list)
{
    struct buf *cell = table_cell(t, json_array_size(list) ? STYLE_PLAIN : STYLE_DIM);
    json_t *item;
    size_t i;

    if (!json_array_size(list))
        buf_puts(cell, "any");
    json_array_foreach(list, i, item)
    {
        if (i)
            buf_puts(cell, ", ");
        format_safe(cell, bytes_of(json_string_value(item)));
    }
}

static void put_limit(struct table *t, uint64_t n)
{
    if (n)
        table_count(t, STYLE_PLAIN, n);
    else
        table_text(t, STYLE_DIM, "–");
}

/* "password, 2 certificates": which ones stands in --json. */
static void put_proof(struct table *t, const json_t *a)
{
    struct buf *cell = table_cell(t, STYLE_PLAIN);
    size_t certificates = json_array_size(json_object_get(a, "certificates"));

    if (field_bool(a, "has_password"))
        buf_puts(cell, certificates ? "password, " : "password");
    if (certificates)
        put_plural(cell, certificates, "certificate", "certificates");
}

int cmd_account_list(struct cli *cli)
{
    static const struct column columns[] = {
        {"ACCOUNT", COLUMN_LEFT},      {"SENDER DOMAINS", COLUMN_LEFT}, {"NETWORKS", COLUMN_LEFT},
        {"CONNECTIONS", COLUMN_RIGHT}, {"MESSAGES/MIN", COLUMN_RIGHT},  {"PROVES BY", COLUMN_LEFT},
        {"CAMPAIGN", COLUMN_OPTIONAL}, {"PRIORITY", COLUMN_OPTIONAL},   {"CREATED", COLUMN_LEFT},
        {"", COLUMN_OPTIONAL},
    };
    JSON_LOCAL(root);
    BUF_LOCAL(url);
    BUF_LOCAL(out);
    struct table t;
    json_t *a;
    size_t i;

    url_path(&url, "/api/v1/accounts");
    int code = cli_ask(cli, "GET", &url, (struct bytes){0}, &root);
    if (code || cli->json)
        return code;
    if (!json_array_size(json_object_get(root, "accounts"))) {
        puts("no accounts; hayauma account add NAME makes one");
        return CLI_DONE;
    }
    table_init(&t, columns, COUNT_OF(columns));
    json_array_foreach(json_object_get(root, "accounts"), i, a)
    {
        table_text(&t, STYLE_STRONG, field_text(a, "name"));
        put_joined(&t, json_object_get(a, "sender_domains"));
        put_joined(&t, json_object_get(a, "networks"));
        put_limit(&t, field_count(a, "max_connections"));
        put_limit(&t, field_count(a, "messages_per_minute"));
        put_proof(&t, a);
        table_text(&t, STYLE_PLAIN, field_text(a, "campaign"));
        const char *priority = field_text(a, "priority");
        table_text(&t, STYLE_PLAIN, strcmp(priority, "normal") == 0 ? "" : priority);
        format_relative(table_cell(&t, STYLE_PLAIN), field_int(a, "created_unix"), cli->now_unix);
        table_text(&t, STYLE_WARN, field_bool(a, "disabled") ? "disabled" : "");
    }
    table_print(&t, &cli->term, &out);
    table_fini(&t);
    return cli_write(buf_bytes(&out));
}
