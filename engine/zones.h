/*
 * Time zones of the host's tzdata, read once and kept (policy/timezone.h).
 * Thread    any: a look-up takes a lock, and reads a file the first time.
 * Owner     the engine; what is found lives as long as the zones.
 */
#pragma once

#include <jansson.h>

#include "policy/quiet.h"

struct zones;

struct zones *zones_create(void);
void zones_destroy(struct zones *z);
/* By the name that quiet_hours.time_zone may have.  NULL: not on this host; asked again, it is looked for
 * again. */
const struct timezone *zones_find(struct zones *z, const char *name);

/* {from, to, time_zone, quiet: bool or null, changes_unix?}; null, and no time, when the zone cannot be read.
 */
json_t *zones_quiet_json(struct zones *z, const struct quiet_hours *q, int64_t now_unix);
