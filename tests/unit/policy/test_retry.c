#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/macros.h"
#include "policy/retry.h"

#define MIDDLE 0x80000000U /* the random number that moves nothing */

static void the_preset_is_the_one_that_is_documented(void **state)
{
    static const uint32_t minutes[] = {5, 10, 20, 30, 60, 120, 240};

    assert_int_equal(retry_default.steps, COUNT_OF(minutes));
    for (size_t i = 0; i < COUNT_OF(minutes); i++)
        assert_int_equal(retry_default.step_s[i], minutes[i] * 60);
    assert_int_equal(retry_default.jitter_percent, 10);
    assert_int_equal(retry_default.lifetime_s, 5 * 86400);
    assert_int_equal(retry_default.delay_notice_s, 4 * 3600);
}

static void each_attempt_has_its_step_and_the_last_repeats(void **state)
{
    struct retry_schedule r = {.step_s = {60, 120, 600}, .steps = 3};

    assert_int_equal(retry_wait_s(&r, 1, MIDDLE), 60);
    assert_int_equal(retry_wait_s(&r, 2, MIDDLE), 120);
    assert_int_equal(retry_wait_s(&r, 3, MIDDLE), 600);
    assert_int_equal(retry_wait_s(&r, 4, MIDDLE), 600);
    assert_int_equal(retry_wait_s(&r, UINT32_MAX, MIDDLE), 600);
    assert_int_equal(retry_wait_s(&r, 0, MIDDLE), 60); /* a caller's slip is not a crash */
}

static void jitter_stays_within_its_share_and_uses_both_ends(void **state)
{
    static const struct {
        uint32_t step, percent, low, high;
    } cases[] = {
        {1000, 10, 900, 1100}, {1000, 0, 1000, 1000}, {300, 10, 270, 330},
        {1, 10, 1, 1},         {1000, 100, 1, 2000},  {604800, 100, 1, 1209600},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct retry_schedule r = {.step_s = {cases[i].step}, .steps = 1, .jitter_percent = cases[i].percent};

        assert_int_equal(retry_wait_s(&r, 1, 0), cases[i].low);
        assert_int_equal(retry_wait_s(&r, 1, UINT32_MAX), cases[i].high);
        for (uint64_t random = 0; random <= UINT32_MAX; random += 104729U * 41) {
            uint32_t wait = retry_wait_s(&r, 1, (uint32_t)random);

            assert_in_range(wait, cases[i].low, cases[i].high);
        }
    }
}

static void jitter_spreads_evenly(void **state)
{
    struct retry_schedule r = {.step_s = {100}, .steps = 1, .jitter_percent = 10};
    unsigned seen[21] = {0};

    for (uint32_t i = 0; i < 21000; i++)
        seen[retry_wait_s(&r, 1, i * (UINT32_MAX / 21000)) - 90]++;
    for (size_t i = 0; i < COUNT_OF(seen); i++)
        assert_in_range(seen[i], 900, 1100);
}

/* T43: the usual quarter of an hour of greylisting costs two refusals, three at worst, and ends within 40
 * minutes. */
static void the_preset_waits_greylisting_out(void **state)
{
    static const uint32_t randoms[] = {0, MIDDLE, UINT32_MAX};

    for (size_t i = 0; i < COUNT_OF(randoms); i++) {
        uint32_t age_s = 0, attempt = 0;

        while (age_s < 15 * 60)
            age_s += retry_wait_s(&retry_default, ++attempt, randoms[i]);
        assert_in_range(attempt, 2, 3);
        assert_true(age_s < 40 * 60);
    }
}

static void a_schedule_without_steps_is_the_preset(void **state)
{
    struct retry_schedule none = {.lifetime_s = 1};

    assert_int_equal(retry_wait_s(&none, 1, MIDDLE), 300);
}

static void a_lifetime_ends_on_its_second_and_no_clock_can_trick_it(void **state)
{
    struct retry_schedule r = {.lifetime_s = 100};
    static const struct {
        int64_t accepted, now;
        bool expired;
    } cases[] = {
        {1000, 1000, false},
        {1000, 1099, false},
        {1000, 1100, true},
        {1000, 999, false}, /* set back */
        {1000, -5, false},
        {1000, INT64_MIN, false},
        {INT64_MIN, INT64_MAX, true}, /* the difference does not fit into an int64_t */
        {INT64_MAX, INT64_MIN, false},
        {0, INT64_MAX, true},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_int_equal(retry_is_expired(&r, cases[i].accepted, cases[i].now), cases[i].expired);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_preset_is_the_one_that_is_documented),
        cmocka_unit_test(each_attempt_has_its_step_and_the_last_repeats),
        cmocka_unit_test(jitter_stays_within_its_share_and_uses_both_ends),
        cmocka_unit_test(jitter_spreads_evenly),
        cmocka_unit_test(the_preset_waits_greylisting_out),
        cmocka_unit_test(a_schedule_without_steps_is_the_preset),
        cmocka_unit_test(a_lifetime_ends_on_its_second_and_no_clock_can_trick_it),
    };

    return cmocka_run_group_tests_name("policy/retry", tests, NULL, NULL);
}
