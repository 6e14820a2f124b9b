#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/macros.h"

static void dates_are_written_in_utc_and_as_mail_wants_them(void **state)
{
    static const struct {
        const char *zone;
        int64_t unix_s;
        const char *utc, *mail;
    } cases[] = {
        {"UTC0", 0, "1970-01-01T00:00:00Z", "Thu, 1 Jan 1970 00:00:00 +0000"},
        {"UTC0", 1795297512, "2026-11-21T21:45:12Z", "Sat, 21 Nov 2026 21:45:12 +0000"},
        {"JST-9", 1795297512, "2026-11-21T21:45:12Z", "Sun, 22 Nov 2026 06:45:12 +0900"},
        {"NST3:30", 1795297512, "2026-11-21T21:45:12Z", "Sat, 21 Nov 2026 18:15:12 -0330"},
        {"UTC0", 951782400, "2000-02-29T00:00:00Z", "Tue, 29 Feb 2000 00:00:00 +0000"},
        {"UTC0", 4102444799, "2099-12-31T23:59:59Z", "Thu, 31 Dec 2099 23:59:59 +0000"},
        {"UTC0", -1, "1969-12-31T23:59:59Z", "Wed, 31 Dec 1969 23:59:59 +0000"},
    };
    char text[CLOCK_TEXT_BYTES];

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        setenv("TZ", cases[i].zone, 1);
        tzset();
        assert_string_equal(clock_format_utc(cases[i].unix_s, text), cases[i].utc);
        assert_string_equal(clock_format_mail(cases[i].unix_s, text), cases[i].mail);
    }
}

static void absurd_times_stay_within_their_buffer(void **state)
{
    static const int64_t times[] = {INT64_MAX, INT64_MIN, INT64_MAX / 2, (int64_t)1 << 55};
    char text[CLOCK_TEXT_BYTES + 1];

    for (size_t i = 0; i < COUNT_OF(times); i++) {
        text[CLOCK_TEXT_BYTES] = '~';
        assert_in_range(strlen(clock_format_utc(times[i], text)), 1, CLOCK_TEXT_BYTES - 1);
        assert_in_range(strlen(clock_format_mail(times[i], text)), 1, CLOCK_TEXT_BYTES - 1);
        assert_int_equal(text[CLOCK_TEXT_BYTES], '~');
    }
}

static void clocks_agree_with_each_other(void **state)
{
    uint64_t us = clock_now_us(), ms = clock_now_ms();
    int64_t unix_s = clock_unix(), unix_ms = clock_unix_ms();

    assert_in_range(ms - us / 1000, 0, 1000);
    assert_in_range(unix_ms / 1000 - unix_s, 0, 1);
    assert_true(clock_now_us() >= us);
}

static void every_error_has_a_text_and_errnos_are_translated(void **state)
{
    for (int e = OK; e >= ERR_TLS; e--)
        for (int other = e - 1; other >= ERR_TLS; other--)
            assert_string_not_equal(err_text((enum err)e), err_text((enum err)other));
    assert_string_not_equal(err_text(ERR_TLS), "unknown error");
    assert_int_equal(err_from_errno(0), OK);
    assert_int_equal(err_from_errno(ENOSPC), ERR_NOSPACE);
    assert_int_equal(err_from_errno(EDQUOT), ERR_NOSPACE);
    assert_int_equal(err_from_errno(EACCES), ERR_DENIED);
    assert_int_equal(err_from_errno(ENOENT), ERR_NOT_FOUND);
    assert_int_equal(err_from_errno(EADDRINUSE), ERR_BUSY);
    assert_int_equal(err_from_errno(EIO), ERR_IO);
    assert_int_equal(err_from_errno(12345), ERR_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dates_are_written_in_utc_and_as_mail_wants_them),
        cmocka_unit_test(absurd_times_stay_within_their_buffer),
        cmocka_unit_test(clocks_agree_with_each_other),
        cmocka_unit_test(every_error_has_a_text_and_errnos_are_translated),
    };

    return cmocka_run_group_tests_name("base/clock", tests, NULL, NULL);
}
