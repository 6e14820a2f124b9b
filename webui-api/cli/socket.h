/* Which socket the daemon listens on. */
#pragma once

#include "webui-api/cli/command.h"

/*
 * --socket; else -c FILE; else HAYAUMA_SOCKET; else the configuration at its usual place, if it can be read;
 * else the preset.  *out: mem_free.  CLI_REFUSED after a sentence when a configuration that was named says
 * nothing.
 */
int socket_of(const struct invocation *in, char **out);
/* Of a configuration's text; false when it is no YAML.  What else may be wrong in it is the daemon's to say.
 */
bool socket_of_conf(const char *file, struct bytes text, char **out);
