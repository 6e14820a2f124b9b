/* What the commands of `tls probe` share. */
#pragma once

#include "webui-api/cli/cli.h"

/* One request; CLI_DONE and *results, an array. */
MUST_CHECK int probe_ask(struct cli *cli, const char *const *domains, size_t count, bool quick,
                         json_t **results);
enum style style_of_verdict(const char *verdict);
/* --file and --from-queue. */
int probe_list(struct cli *cli);
