#include "webui-api/cli/socket.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "engine/conf.h"
#include "webui-api/cli/cli.h"

#define USUAL_FILE  "/etc/hayauma/hayauma.yaml"
#define SOCKET_NAME "hayauma.sock" /* in data_dir, as engine/conf_check.c has it */

/* Reads with the daemon's own table, so that presets and relative paths mean the same. */
bool socket_of_conf(const char *file, struct bytes text, char **out)
{
    struct yaml_errors errors = {.name = file};
    struct yaml_doc *doc;
    struct conf conf;

    if (yaml_parse(text, &doc, &errors)) {
        yaml_errors_fini(&errors);
        return false;
    }
    conf_defaults(conf_keys, &conf);
    conf_read(conf_keys, file, yaml_root(doc), &conf, &errors);
    *out = conf.api.socket ? mem_strdup(conf.api.socket)
                           : text_format("%s/" SOCKET_NAME, conf.data_dir ? conf.data_dir : ".");
    conf_fini(conf_keys, &conf);
    yaml_doc_destroy(doc);
    yaml_errors_fini(&errors);
    return true;
}

static int of_named_file(const char *file, char **out)
{
    BUF_LOCAL(text);
    int code = cli_read_file(file, &text);

    if (code || socket_of_conf(file, buf_bytes(&text), out))
        return code;
    return cli_fail(CLI_REFUSED, "%s is no YAML document: hayaumad --check -c %s says why", file, file);
}

int socket_of(const struct invocation *in, char **out)
{
    const char *named = invocation_text(in, "socket"), *file = invocation_text(in, "config");
    const char *environment = getenv("HAYAUMA_SOCKET");
    BUF_LOCAL(text);

    if (!named && !file && environment && *environment)
        named = environment;
    if (named) {
        *out = mem_strdup(named);
        return CLI_DONE;
    }
    if (file)
        return of_named_file(file, out);
    if (access(USUAL_FILE, R_OK) == 0 && cli_read_file(USUAL_FILE, &text) == CLI_DONE &&
        socket_of_conf(USUAL_FILE, buf_bytes(&text), out))
        return CLI_DONE;
    socket_of_conf(USUAL_FILE, BYTES(""), out);
    return CLI_DONE;
}
