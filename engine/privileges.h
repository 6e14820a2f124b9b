/* Before threads: to the configured user, without the rights that were only needed to bind ports. */
#pragma once

#include "engine/conf.h"

/* *why: a sentence that says what to do (mem_free). */
MUST_CHECK enum err privileges_drop(const struct conf *conf, char **why);
