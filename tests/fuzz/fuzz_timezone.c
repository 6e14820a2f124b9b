/* Octets as a TZif file and as a POSIX rule: offsets stay sane, and quiet hours by them end. */
#include <stdint.h>
#include <stdlib.h>

#include "policy/quiet.h"

static void use(struct timezone *tz)
{
    const struct quiet_hours q = {.on = 1, .from_s = 75600, .to_s = 28800};

    for (int64_t at = -INT64_C(9000000000); tz && at < INT64_C(9000000000); at += 1500000001) {
        struct quiet_now now = quiet_look(&q, tz, at);
        int32_t offset = timezone_offset_s(tz, at);

        if (offset > 200000 || offset < -200000 || now.changes_unix <= at || now.last_ended_unix > at)
            abort();
        if (quiet_seconds(&q, tz, at, at + 864000) > 864000)
            abort();
    }
    timezone_destroy(tz);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes text = bytes_make(data, size);
    uint32_t seconds;
    int32_t offset;

    use(timezone_parse(text));
    use(timezone_parse_rule(text));
    if (quiet_parse_time(text, &seconds) && seconds > 86400)
        abort();
    if (timezone_parse_offset(text, &offset) && (offset > 86400 || offset < -86400))
        abort();
    (void)timezone_is_name(text);
    return 0;
}
