/*
 * How many file descriptors the configuration can need, and whether the process may have them.
 * Thread    any.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "engine/conf.h"

/* With every connection of the configuration in use. */
uint64_t descriptors_wanted(const struct conf *conf);
/* False when it cannot be asked; UINT64_MAX: no limit. */
bool descriptors_allowed(uint64_t *out);
/* Outgoing connections at once: as the configuration says, or fewer, so that some descriptors are left for all else. */
uint32_t descriptors_connections(const struct conf *conf);
/* Logs once what follows from too few: at start, and whenever the configuration changed. */
void descriptors_check(const struct conf *conf);
