/* Quiet hours over days, zones and clocks that are moved. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "policy/quiet.h"

#define H  3600
#define D  86400
#define T0 INT64_C(1763769600) /* 2025-11-22 00:00 UTC, 09:00 in Tokyo */

static void times_of_day_are_read_and_written(void **state)
{
    static const struct {
        const char *text;
        uint32_t seconds;
        bool good;
    } rows[] = {
        {"00:00", 0, true},     {"21:00", 75600, true}, {"08:05:09", 29109, true}, {"24:00", 86400, true},
        {"24:01", 0, false},    {"8:00", 0, false},     {"08:60", 0, false},       {"08:00:60", 0, false},
        {"08", 0, false},       {"08:0", 0, false},     {"08:00:", 0, false},      {"08:00:00:00", 0, false},
        {"+8:00", 0, false},    {"", 0, false},         {"08.00", 0, false},       {"08:00 ", 0, false},
        {"99:99:99", 0, false},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct buf out = {0};
        uint32_t seconds = 0;

        if (quiet_parse_time(bytes_of(rows[i].text), &seconds) != rows[i].good || seconds != rows[i].seconds)
            fail_msg("%s: %u", rows[i].text, seconds);
        if (rows[i].good) {
            quiet_put_time(&out, seconds);
            assert_string_equal(buf_str(&out), rows[i].text);
        }
        buf_fini(&out);
    }
}

static void the_hours_of_tokyo_begin_and_end_by_its_clock(void **state)
{
    static const struct {
        int64_t at, changes;
        bool quiet;
    } rows[] = {
        {0, 12 * H, false},                                   /* 09:00: until 21:00 */
        {12 * H - 1, 12 * H, false}, {12 * H, 23 * H, true},  /* 21:00 */
        {15 * H, 23 * H, true},                               /* midnight */
        {23 * H - 1, 23 * H, true},  {23 * H, 36 * H, false}, /* 08:00 */
        {-D, -D + 12 * H, false},
    };
    struct quiet_hours q = {.on = 1, .from_s = 21 * H, .to_s = 8 * H};
    struct timezone *tz = timezone_parse_rule(BYTES("JST-9"));

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct quiet_now now = quiet_look(&q, tz, T0 + rows[i].at);

        if (now.quiet != rows[i].quiet || now.changes_unix != T0 + rows[i].changes)
            fail_msg("row %zu: %d until %+lld", i, now.quiet, (long long)(now.changes_unix - T0));
    }
    assert_int_equal(quiet_look(&q, tz, T0 + 24 * H).last_ended_unix, T0 + 23 * H);
    timezone_destroy(tz);
}

static void hours_inside_of_one_day_and_those_until_midnight_work_too(void **state)
{
    struct timezone *tz = timezone_fixed(0);
    struct quiet_hours lunch = {.on = 1, .from_s = 12 * H, .to_s = 13 * H};
    struct quiet_hours late = {.on = 1, .from_s = 22 * H, .to_s = 24 * H};

    assert_false(quiet_look(&lunch, tz, T0 + 12 * H - 1).quiet);
    assert_true(quiet_look(&lunch, tz, T0 + 12 * H).quiet);
    assert_false(quiet_look(&lunch, tz, T0 + 13 * H).quiet);
    assert_true(quiet_look(&late, tz, T0 + 23 * H).quiet);
    assert_int_equal(quiet_look(&late, tz, T0 + 23 * H).changes_unix, T0 + 24 * H);
    assert_false(quiet_look(&late, tz, T0 + 24 * H).quiet);
    timezone_destroy(tz);
}

static void quiet_seconds_are_added_up_over_days(void **state)
{
    struct quiet_hours q = {.on = 1, .from_s = 21 * H, .to_s = 8 * H};
    struct timezone *tz = timezone_fixed(9 * H);

    assert_int_equal(quiet_seconds(&q, tz, T0, T0 + 12 * H), 0);
    assert_int_equal(quiet_seconds(&q, tz, T0, T0 + 13 * H), H);
    assert_int_equal(quiet_seconds(&q, tz, T0 + 15 * H, T0 + 16 * H), H);
    assert_int_equal(quiet_seconds(&q, tz, T0, T0 + D), 11 * H);
    assert_int_equal(quiet_seconds(&q, tz, T0 + 7, T0 + 60 * D + 7), 60 * 11 * H);
    assert_int_equal(quiet_seconds(&q, tz, T0 + D, T0), 0);
    timezone_destroy(tz);
}

/* In Berlin the clock goes back on 2026-10-25 at 03:00, and forward on 2026-03-29 at 02:00. */
static void a_night_in_which_the_clock_is_moved_is_longer_or_shorter(void **state)
{
    struct quiet_hours q = {.on = 1, .from_s = 22 * H, .to_s = 7 * H};
    struct timezone *tz = timezone_parse_rule(BYTES("CET-1CEST,M3.5.0,M10.5.0/3"));
    int64_t autumn = 1792872000 + 0, spring = 1774728000; /* 2026-10-24 20:00 and 2026-03-28 20:00 UTC */

    assert_true(quiet_look(&q, tz, autumn).quiet); /* 22:00 CEST */
    assert_int_equal(quiet_look(&q, tz, autumn).changes_unix, autumn + 10 * H);
    assert_false(quiet_look(&q, tz, spring).quiet); /* 21:00 CET */
    assert_int_equal(quiet_look(&q, tz, spring).changes_unix, spring + H);
    assert_int_equal(quiet_look(&q, tz, spring + H).changes_unix, spring + 9 * H);
    assert_int_equal(quiet_seconds(&q, tz, autumn - H, autumn + 12 * H), 10 * H);
    assert_int_equal(quiet_seconds(&q, tz, spring, spring + 12 * H), 8 * H);
    timezone_destroy(tz);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times_of_day_are_read_and_written),
        cmocka_unit_test(the_hours_of_tokyo_begin_and_end_by_its_clock),
        cmocka_unit_test(hours_inside_of_one_day_and_those_until_midnight_work_too),
        cmocka_unit_test(quiet_seconds_are_added_up_over_days),
        cmocka_unit_test(a_night_in_which_the_clock_is_moved_is_longer_or_shorter),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
