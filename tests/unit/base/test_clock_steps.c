/* T16: a wall clock that is set, as numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock_steps.h"

#define DAY 86400

/* The wall clock shows `wall` when `second` seconds have passed. */
static void look(struct clock_steps *s, int64_t wall, uint64_t second)
{
    clock_steps_look(s, wall, second * 1000 + 1);
}

static void a_clock_that_goes_evenly_restates_nothing(void **state)
{
    struct clock_steps s = {0};

    (void)state;
    for (uint64_t second = 0; second < 100000; second += 7)
        look(&s, 5000 + (int64_t)second + (int64_t)(second / 1000), second); /* a little fast: slewed */
    assert_int_equal(s.count, 0);
    assert_int_equal(clock_steps_restate(&s, 5000), 5000);
}

static void what_was_before_a_step_moves_with_it(void **state)
{
    struct clock_steps s = {0};

    (void)state;
    look(&s, 100000, 0);
    look(&s, 100010 + 10 * DAY, 10);
    assert_int_equal(s.count, 1);
    assert_int_equal(clock_steps_restate(&s, 99990), 99990 + 10 * DAY); /* twenty seconds ago, then and now */
    assert_int_equal(clock_steps_restate(&s, 100011), 100011 + 10 * DAY); /* looks are a second apart */
    assert_int_equal(clock_steps_restate(&s, 100010 + 10 * DAY), 100010 + 10 * DAY); /* at it */
    assert_int_equal(clock_steps_restate(&s, 100020 + 10 * DAY), 100020 + 10 * DAY); /* after it */
}

static void there_and_back_is_as_if_nothing_had_been(void **state)
{
    struct clock_steps s = {0};

    (void)state;
    look(&s, 100000, 0);
    look(&s, 100010 + 3650LL * DAY, 10);
    look(&s, 100030, 30);
    assert_int_equal(s.count, 2);
    assert_int_equal(clock_steps_restate(&s, 99990), 99990);
    assert_int_equal(clock_steps_restate(&s, 100040), 100040);
}

static void a_clock_set_back_makes_nothing_younger(void **state)
{
    struct clock_steps s = {0};

    (void)state;
    look(&s, 100000 + DAY, 0);
    look(&s, 100005, 5);
    assert_int_equal(clock_steps_restate(&s, 100000), 100000 - DAY); /* a day and five seconds old, still */
    assert_int_equal(clock_steps_restate(&s, 100000 + DAY),
                     100000 + DAY); /* unknown: which of the two it was */
}

static void looks_within_a_second_do_not_add_up_to_a_drift(void **state)
{
    struct clock_steps s = {0};

    (void)state;
    for (uint64_t ms = 1; ms < 4000 * 1000; ms += 50)
        clock_steps_look(&s, (int64_t)(ms / 1000), ms);
    assert_int_equal(s.count, 0);
}

static void many_steps_are_bounded(void **state)
{
    struct clock_steps s = {0};

    (void)state;
    look(&s, 0, 0);
    for (int i = 1; i <= 3 * CLOCK_STEPS_MAX; i++)
        look(&s, (int64_t)i * DAY, (uint64_t)i * 10);
    assert_int_equal(s.count, CLOCK_STEPS_MAX);
    assert_int_equal(s.steps[CLOCK_STEPS_MAX - 1].to_unix, 3LL * CLOCK_STEPS_MAX * DAY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_clock_that_goes_evenly_restates_nothing),
        cmocka_unit_test(what_was_before_a_step_moves_with_it),
        cmocka_unit_test(there_and_back_is_as_if_nothing_had_been),
        cmocka_unit_test(a_clock_set_back_makes_nothing_younger),
        cmocka_unit_test(looks_within_a_second_do_not_add_up_to_a_drift),
        cmocka_unit_test(many_steps_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
