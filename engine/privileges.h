/*
 * Before threads: to the configured user, without the rights that were only needed to bind ports; and without
 * core dumps, which would write passwords, private keys and messages to disk, unless the configuration wants
 * them.
 */
#pragma once

#include "engine/conf.h"

/* *why: a sentence that says what to do (mem_free). */
MUST_CHECK enum err privileges_drop(const struct conf *conf, char **why);

/* May the daemon read the file once it is conf->user?  0, or what open() would say.  Any thread; root asks by
 * a process of its own, which becomes that user. */
int privileges_readable(const struct conf *conf, const char *path);
