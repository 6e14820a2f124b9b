/* hayauma: from words to a command, and which daemon it speaks to. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "webui-api/cli/cli.h"
#include "webui-api/cli/socket.h"

static int usage_error(const struct invocation *in, const char *complaint)
{
    BUF_LOCAL(hint);

    if (in->command)
        buf_putf(&hint, " %s", in->command->name);
    else if (in->family.len)
        buf_putf(&hint, " %.*s", (int)in->family.len, in->family.at);
    cli_fail(CLI_USAGE, "%s", complaint);
    fprintf(stderr, "See: hayauma help%s\n", buf_str(&hint));
    return CLI_USAGE;
}

/* Help that was asked for goes to stdout; that which replaces a command to stderr, with the status of wrong
 * usage. */
static int show_help(const struct invocation *in)
{
    BUF_LOCAL(text);

    if (in->command)
        command_help(in->command, &text);
    else if (in->family.len)
        command_help_family(commands, in->family, &text);
    else
        command_help_all(commands, &text);
    if (in->help)
        return cli_write(buf_bytes(&text));
    fputs(buf_str(&text), stderr);
    return CLI_USAGE;
}

static int run(const struct invocation *in)
{
    struct cli cli = {
        .in = in, .term = term_of_stdout(), .json = invocation_has(in, "json"), .now_unix = clock_unix()};
    char *socket = NULL;
    int code = socket_of(in, &socket);

    if (!code) {
        cli.client = client_create(socket);
        if (cli.json)
            client_errors_as_json(cli.client);
        code = in->command->run(&cli);
        client_destroy(cli.client);
    }
    mem_free(socket);
    return code;
}

int main(int argc, char **argv)
{
    struct invocation in;
    BUF_LOCAL(complaint);
    int code;

    char version[] = "version";

    tzset();
    if (argc == 2 && strcmp(argv[1], "--version") == 0) /* what every other program understands */
        argv[1] = version;
    signal(SIGPIPE, SIG_DFL); /* `hayauma queue list | head` ends quietly */
    if (!command_parse(commands, argc, argv, &in, &complaint))
        code = usage_error(&in, buf_str(&complaint));
    else if (in.help || !in.command)
        code = show_help(&in);
    else
        code = run(&in);
    invocation_fini(&in);
    return code;
}
