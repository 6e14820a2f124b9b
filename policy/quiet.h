/*
 * Quiet hours: a span of each day, by the clock of a time zone, in which no mail is begun.  Pure.
 *
 *     quiet_hours: {from: "21:00", to: "08:00", time_zone: Asia/Tokyo, spread: 10m}
 */
#pragma once

#include "policy/timezone.h"

struct quiet_hours {
    int on;                /* 0: all that follows has no meaning */
    uint32_t from_s, to_s; /* seconds of the local day, up to 86400; QUIET_UNSET: not given */
    uint32_t spread_s;     /* in which connections come back after the end, one by one; 0: at once */
    char *time_zone;       /* name of tzdata, "UTC" or "+09:00" */
};
#define QUIET_UNSET UINT32_MAX

/* "21:00" or "21:00:30", up to "24:00" */
bool quiet_parse_time(struct bytes text, uint32_t *seconds);
void quiet_put_time(struct buf *out, uint32_t seconds);

struct quiet_now {
    bool quiet;
    int64_t changes_unix;    /* when it ends, or begins: true to the second unless the zone's clock is moved
                                meanwhile */
    int64_t last_ended_unix; /* not quiet: since when */
};
struct quiet_now quiet_look(const struct quiet_hours *q, const struct timezone *tz, int64_t now_unix);
/* How much of a span was quiet. */
int64_t quiet_seconds(const struct quiet_hours *q, const struct timezone *tz, int64_t from_unix,
                      int64_t to_unix);
