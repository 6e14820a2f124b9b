#include "policy/quiet.h"

#include "base/macros.h"

#define DAY_S     86400
#define SPANS_MAX 1000 /* of quiet and not: more than a year of days */

bool quiet_parse_time(struct bytes text, uint32_t *seconds)
{
    uint64_t part[3] = {0};
    size_t parts = 0;

    for (struct bytes rest = text; parts < 3; rest = bytes_skip(rest, 3)) {
        if (rest.len < 2 || (rest.len > 2 && rest.at[2] != ':') || rest.len == 3 ||
            !bytes_parse_u64(bytes_first(rest, 2), &part[parts]))
            return false;
        parts++;
        if (rest.len == 2)
            break;
        if (parts == 3)
            return false;
    }
    if (parts < 2 || part[1] > 59 || part[2] > 59)
        return false;
    uint64_t all = part[0] * 3600 + part[1] * 60 + part[2];
    if (all > DAY_S)
        return false;
    *seconds = (uint32_t)all;
    return true;
}

void quiet_put_time(struct buf *out, uint32_t seconds)
{
    buf_putf(out, "%02u:%02u", seconds / 3600, seconds / 60 % 60);
    if (seconds % 60)
        buf_putf(out, ":%02u", seconds % 60);
}

/* From `now`, the next time at which the local clock says `second` (of the day). */
static int64_t next_time(const struct timezone *tz, int64_t now, uint32_t second)
{
    int32_t offset = timezone_offset_s(tz, now);
    int64_t local = now + offset, of_day = local % DAY_S + (local % DAY_S < 0 ? DAY_S : 0);
    int64_t at = now + ((int64_t)second - of_day + DAY_S - 1) % DAY_S + 1; /* never now itself */

    at += offset - timezone_offset_s(tz, at); /* the clock was moved on the way */
    return MAX_OF(at, now + 1);
}

struct quiet_now quiet_look(const struct quiet_hours *q, const struct timezone *tz, int64_t now_unix)
{
    int64_t local = now_unix + timezone_offset_s(tz, now_unix);
    int64_t of_day = local % DAY_S + (local % DAY_S < 0 ? DAY_S : 0);
    uint32_t from = q->from_s % DAY_S, to = q->to_s % DAY_S;
    struct quiet_now now = {0};

    now.quiet = from < to ? of_day >= from && of_day < to : of_day >= from || of_day < to;
    now.changes_unix = next_time(tz, now_unix, now.quiet ? to : from);
    now.last_ended_unix = now_unix - (of_day - to + DAY_S) % DAY_S;
    return now;
}

int64_t quiet_seconds(const struct quiet_hours *q, const struct timezone *tz, int64_t from_unix,
                      int64_t to_unix)
{
    int64_t sum = 0;

    for (int i = 0; from_unix < to_unix && i < SPANS_MAX; i++) {
        struct quiet_now now = quiet_look(q, tz, from_unix);
        int64_t end = MIN_OF(now.changes_unix, to_unix);

        sum += now.quiet ? end - from_unix : 0;
        from_unix = end;
    }
    return sum;
}
