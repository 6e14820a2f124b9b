/* X-Hayauma-Schedule: when a message may go at the earliest.  Pure. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"

#define SCHEDULE_AHEAD_MAX (30 * 24 * 3600) /* seconds */

/*
 * RFC 3339 ("2026-11-21T22:00:00+09:00"), RFC 5322 ("Sat, 21 Nov 2026 22:00:00 +0900") or seconds since 1970.
 * False: none of them.
 */
bool schedule_parse(struct bytes text, int64_t *out_unix);

/* X-Campaign: 1 to 64 of A-Z a-z 0-9 . _ : - */
bool campaign_is_valid(struct bytes text);
