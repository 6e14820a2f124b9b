#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/smtp/schedule.h"

static void dates_are_read_in_three_forms(void **state)
{
    static const struct {
        const char *text;
        int64_t want; /* -1: refused */
    } cases[] = {
        {"0", 0},
        {"1795298400", 1795298400},
        {"2026-11-21T22:00:00Z", 1795298400},
        {"2026-11-21t22:00:00.123z", 1795298400},
        {"2026-11-22T07:00:00+09:00", 1795298400},
        {"2026-11-21T14:30:00-07:30", 1795298400},
        {"2024-02-29T00:00:00Z", 1709164800},
        {"2000-02-29T00:00:00Z", 951782400},
        {"1970-01-01T00:00:00Z", 0},
        {"Sat, 21 Nov 2026 22:00:00 +0000", 1795298400},
        {"21 Nov 2026 22:00 GMT", 1795298400},
        {"Sun, 22 nov 2026 07:00:00 +0900 (JST)", 1795298400},
        {"Sat, 21 Nov 2026 17:00:00 EST", 1795298400},
        {"", -1},
        {"-1", -1},
        {"18446744073709551615", -1},
        {"tomorrow", -1},
        {"2026-11-21", -1},
        {"2026-11-21T22:00:00", -1},
        {"2026-11-21T22:00:00Zx", -1},
        {"2026-11-21T22:00:00.Z", -1},
        {"2026-11-21T24:00:00Z", -1},
        {"2026-11-31T22:00:00Z", -1},
        {"2025-02-29T00:00:00Z", -1},
        {"2100-02-29T00:00:00Z", -1},
        {"2026-13-01T00:00:00Z", -1},
        {"2026-00-01T00:00:00Z", -1},
        {"2026-01-00T00:00:00Z", -1},
        {"2026-11-21T22:00:00+0900", -1},
        {"2026-11-21T22:00:00+25:00", -1},
        {"Sat, 21 Nov 2026 22:00:00", -1},
        {"Sat, 21 Nov 26 22:00:00 +0000", -1},
        {"Saturday, 21 Nov 2026 22:00:00 +0000", -1},
        {"21 Foo 2026 22:00:00 +0000", -1},
        {"21 Nov 2026 22:00:00 +0000 tail", -1},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        int64_t when = -1;
        bool ok = schedule_parse(bytes_of(cases[i].text), &when);
        assert_int_equal(ok, cases[i].want >= 0);
        assert_int_equal(when, cases[i].want);
    }
}

static void a_campaign_is_a_short_plain_word(void **state)
{
    static const char *const good[] = {"a", "Spring_2026:de-DE.v1",
                                       "1234567890123456789012345678901234567890123456789012345678901234"};
    static const char *const bad[] = {
        "",         "a b", "a/b", "a\tb",
        "\xc3\xa4", "a;b", "<a>", "12345678901234567890123456789012345678901234567890123456789012345"};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(good); i++)
        assert_true(campaign_is_valid(bytes_of(good[i])));
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_false(campaign_is_valid(bytes_of(bad[i])));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dates_are_read_in_three_forms),
        cmocka_unit_test(a_campaign_is_a_short_plain_word),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
