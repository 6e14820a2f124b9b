/* help, version, completion: what needs no daemon. */
#include <curl/curl.h>
#include <stdio.h>

#include "webui-api/cli/cli.h"

int cmd_help(struct cli *cli)
{
    const char *first = cli_arg(cli, 0), *second = cli_arg(cli, 1);
    BUF_LOCAL(name);
    BUF_LOCAL(out);

    if (cli_has(cli, "man")) {
        command_manual(commands, &out);
        return cli_write(buf_bytes(&out));
    }
    if (!first) {
        command_help_all(commands, &out);
        return cli_write(buf_bytes(&out));
    }
    buf_putf(&name, "%s%s%s", first, second ? " " : "", second ? second : "");
    const struct command *c = command_find(commands, buf_bytes(&name));
    if (c) {
        command_help(c, &out);
    } else if (command_is_family(commands, buf_bytes(&name))) {
        command_help_family(commands, buf_bytes(&name), &out);
    } else {
        bool in_family = second && command_is_family(commands, bytes_of(first));
        command_suggest(commands, bytes_of(in_family ? first : NULL), bytes_of(in_family ? second : first),
                        &out);
        return cli_fail(CLI_USAGE, "there is no command '%s'%s", buf_str(&name), buf_str(&out));
    }
    return cli_write(buf_bytes(&out));
}

int cmd_version(struct cli *cli)
{
    JSON_LOCAL(status);
    JSON_LOCAL(tree);
    BUF_LOCAL(url);

    url_path(&url, "/api/v1/status");
    client_quiet(cli->client, true);
    bool up = client_call_json(cli->client, "GET", &url, (struct bytes){0}, &status) == CLI_DONE;
    if (cli->json) {
        tree = json_pack("{s:s, s:s, s:s, s:o}", "hayauma", HAYAUMA_VERSION, "libcurl", curl_version(),
                         "jansson", JANSSON_VERSION, "hayaumad",
                         up ? json_string(field_text(status, "version")) : json_null());
        return cli_write_tree(cli, tree);
    }
    printf("hayauma %s\n%s\njansson %s\n", HAYAUMA_VERSION, curl_version(), JANSSON_VERSION);
    if (up)
        printf("hayaumad %s, running at %s\n", field_text(status, "version"), client_socket(cli->client));
    else
        printf("hayaumad does not answer at %s\n", client_socket(cli->client));
    return cli_write((struct bytes){0});
}

int cmd_completion(struct cli *cli)
{
    const char *shell = cli_arg(cli, 0);
    BUF_LOCAL(out);

    if (strcmp(shell, "bash") == 0)
        command_completion_bash(commands, &out);
    else if (strcmp(shell, "zsh") == 0)
        command_completion_zsh(commands, &out);
    else
        return cli_fail(CLI_USAGE, "there are completions for bash and zsh, not for '%s'", shell);
    return cli_write(buf_bytes(&out));
}
