#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "policy/warmup.h"

#define T0   INT64_C(1795305600000)
#define HOUR INT64_C(3600000)

static const struct warmup_ladder ladder = {
    .steps = {10, 20, 40}, .count = 3, .period_s = 3600, .max_refused_percent = 10};

/* `n` are tried in a period that begins at `at`, `refused` of them in vain. */
static void pass(struct warmup_state *s, const struct warmup_ladder *l, int64_t at, uint32_t n,
                 uint32_t refused)
{
    assert_true(warmup_left(s, l, at) >= n);
    warmup_take(s, n, at);
    for (uint32_t i = 0; i < n; i++)
        (void)warmup_note(s, l, i < refused);
}

static void each_period_that_went_well_leads_to_the_next_step_until_it_is_warm(void **state)
{
    struct warmup_state s = {0};
    (void)state;

    for (uint32_t i = 0; i < 3; i++) {
        int64_t at = T0 + i * 2 * HOUR;
        assert_int_equal(warmup_left(&s, &ladder, at), ladder.steps[i]);
        pass(&s, &ladder, at, ladder.steps[i], 0);
        assert_int_equal(warmup_left(&s, &ladder, at), 0);
        assert_int_equal(warmup_wait_ms(&s, &ladder, at + 1000), HOUR - 1000);
        assert_int_equal(warmup_turn(&s, &ladder, at + HOUR - 1), WARMUP_NOTHING);
        assert_int_equal(warmup_turn(&s, &ladder, at + HOUR), i < 2 ? WARMUP_UP : WARMUP_DONE);
    }
    assert_true(s.done);
    assert_int_equal(warmup_left(&s, &ladder, T0 + 9 * HOUR), UINT32_MAX);
    assert_int_equal(warmup_note(&s, &ladder, true), WARMUP_NOTHING);
}

static void a_period_with_too_few_or_none_is_not_judged(void **state)
{
    struct warmup_state s = {0};
    (void)state;

    assert_int_equal(warmup_turn(&s, &ladder, T0), WARMUP_NOTHING);
    pass(&s, &ladder, T0, 4, 4);
    assert_int_equal(warmup_turn(&s, &ladder, T0 + HOUR), WARMUP_TOO_FEW);
    assert_int_equal(s.step, 0);
    assert_int_equal(warmup_turn(&s, &ladder, T0 + 50 * HOUR), WARMUP_NOTHING);
    pass(&s, &ladder, T0 + 50 * HOUR, 5, 0);
    assert_int_equal(warmup_turn(&s, &ladder, T0 + 51 * HOUR), WARMUP_UP);
}

static void the_share_is_exact_at_its_border(void **state)
{
    struct warmup_state s = {.step = 1};
    (void)state;

    pass(&s, &ladder, T0, 20, 2);
    assert_int_equal(warmup_turn(&s, &ladder, T0 + HOUR), WARMUP_UP);
    s = (struct warmup_state){.step = 1};
    pass(&s, &ladder, T0, 20, 3);
    assert_int_equal(warmup_turn(&s, &ladder, T0 + HOUR), WARMUP_STAYED);
    assert_int_equal(s.step, 1);
}

static void with_back_the_step_falls_at_once_and_the_period_is_over_for_sending(void **state)
{
    struct warmup_ladder back = ladder;
    struct warmup_state s = {.step = 2};
    (void)state;

    back.back = true;
    back.min_attempts = 5;
    warmup_take(&s, 10, T0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(warmup_note(&s, &back, true), WARMUP_NOTHING);
    assert_int_equal(warmup_note(&s, &back, true), WARMUP_BACK);
    assert_int_equal(warmup_note(&s, &back, true), WARMUP_NOTHING);
    assert_int_equal(s.step, 1);
    assert_int_equal(warmup_left(&s, &back, T0 + 1), 0);
    assert_int_equal(warmup_wait_ms(&s, &back, T0), HOUR);
    assert_int_equal(warmup_turn(&s, &back, T0 + HOUR), WARMUP_NOTHING);
    assert_int_equal(warmup_left(&s, &back, T0 + HOUR), 20);
    s = (struct warmup_state){.held = true, .step = 2};
    warmup_take(&s, 10, T0);
    for (int i = 0; i < 10; i++)
        assert_int_equal(warmup_note(&s, &back, true), WARMUP_NOTHING);
    assert_int_equal(warmup_turn(&s, &back, T0 + HOUR), WARMUP_HELD);
    assert_int_equal(s.step, 2);
}

static void what_is_given_back_may_go_and_a_clock_that_was_set_back_ends_no_period_late(void **state)
{
    struct warmup_state s = {0};
    (void)state;

    pass(&s, &ladder, T0, 10, 0);
    warmup_give(&s, 3);
    assert_int_equal(warmup_left(&s, &ladder, T0), 3);
    warmup_give(&s, 100);
    assert_int_equal(warmup_left(&s, &ladder, T0), 10);
    assert_int_equal(warmup_turn(&s, &ladder, T0 - 100 * HOUR), WARMUP_NOTHING);
    assert_int_equal(warmup_turn(&s, &ladder, T0 - 99 * HOUR), WARMUP_UP);
}

static void nothing_goes_before_the_day_of_the_start_and_a_shorter_ladder_ends_at_its_last_step(void **state)
{
    struct warmup_ladder later = ladder;
    struct warmup_state s = {.step = 2};
    (void)state;

    later.start_unix = T0 / 1000 + 60;
    assert_int_equal(warmup_left(&s, &later, T0), 0);
    assert_int_equal(warmup_wait_ms(&s, &later, T0), 60000);
    assert_int_equal(warmup_left(&s, &later, T0 + 60000), 40);
    later.count = 1;
    assert_int_equal(warmup_left(&s, &later, T0 + 60000), 10);
}

/* Steps of 10, 20, 40 an hour; then it is warm. */
static void the_way_ahead_goes_over_the_steps_that_are_to_come(void **state)
{
    static const struct warmup_ladder back = {
        .steps = {10, 20, 40}, .count = 3, .period_s = 3600, .max_refused_percent = 10, .back = true};
    static const struct warmup_ladder later = {
        .steps = {10, 20, 40}, .count = 3, .period_s = 3600, .start_unix = (T0 + 5 * HOUR) / 1000};
    static const struct warmup_ladder *const l = &ladder;
    const int64_t half = T0 - HOUR / 2;
    const struct {
        struct warmup_climb climbs[2];
        size_t count;
        uint64_t rcpts, want_ms;
    } rows[] = {
        {{{{0}, l, 0}}, 1, 0, 0},
        {{{{0}, l, 0}}, 1, 10, 0},
        {{{{0}, l, 0}}, 1, 11, 1 * HOUR},
        {{{{0}, l, 0}}, 1, 30, 1 * HOUR},
        {{{{0}, l, 0}}, 1, 70, 2 * HOUR},
        {{{{0}, l, 0}}, 1, 71, 3 * HOUR}, /* warm */
        {{{{0}, l, 0}}, 1, 100000000, 3 * HOUR},
        {{{{.done = true}, l, 0}}, 1, 100000000, 0},
        /* Half of the first hour is over, and half of it used. */
        {{{{.since_ms = half, .taken = 5, .tried = 5}, l, 0}}, 1, 5, 0},
        {{{{.since_ms = half, .taken = 5, .tried = 5}, l, 0}}, 1, 6, HOUR / 2},
        {{{{.since_ms = half, .taken = 10, .tried = 0}, l, 0}},
         1,
         21,
         HOUR / 2 + HOUR}, /* they are under way */
        /* Its refusals keep it on its step, or lead it back; one that went back rests. */
        {{{{.step = 1, .since_ms = half, .taken = 20, .tried = 20, .refused = 9}, l, 0}},
         1,
         21,
         HOUR / 2 + HOUR},
        {{{{.step = 1, .since_ms = half, .taken = 20, .tried = 20, .refused = 9}, &back, 0}},
         1,
         21,
         HOUR / 2 + HOUR},
        {{{{.step = 0, .stopped = true, .since_ms = half, .taken = 15}, &back, 0}}, 1, 10, HOUR / 2},
        {{{{.step = 0, .stopped = true, .since_ms = half, .taken = 15}, &back, 0}}, 1, 11, HOUR / 2 + HOUR},
        /* Held by hand: the same number for ever. */
        {{{{.step = 1, .held = true}, l, 0}}, 1, 200, 9 * HOUR},
        {{{{.step = 1, .held = true}, l, 0}}, 1, 100000000, UINT64_MAX},
        /* A start that is ahead; a period that ended long ago. */
        {{{{0}, &later, 0}}, 1, 1, 5 * HOUR},
        {{{{0}, &later, 0}}, 1, 30, 6 * HOUR},
        {{{{.step = 1, .since_ms = T0 - 9 * HOUR, .taken = 20, .tried = 20}, l, 0}}, 1, 40, 0},
        /* Two together: 10 + 20 now, 20 + 40 in half an hour and one; one that is warm takes all. */
        {{{{0}, l, 0}, {{.step = 1, .since_ms = half}, l, 0}}, 2, 30, 0},
        {{{{0}, l, 0}, {{.step = 1, .since_ms = half}, l, 0}}, 2, 70, HOUR / 2},
        {{{{0}, l, 0}, {{.step = 1, .since_ms = half}, l, 0}}, 2, 71, HOUR},
        {{{{0}, l, 0}, {{.step = 1, .since_ms = half}, l, 0}}, 2, 91, HOUR / 2 + HOUR},
        {{{{0}, l, 0}, {{.done = true}, l, 0}}, 2, 100000000, 0},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct warmup_climb climbs[2] = {rows[i].climbs[0], rows[i].climbs[1]};
        uint64_t got = warmup_forecast_ms(climbs, rows[i].count, rows[i].rcpts, T0);
        if (got != rows[i].want_ms)
            fail_msg("row %zu: %llu ms, want %llu", i, (unsigned long long)got,
                     (unsigned long long)rows[i].want_ms);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_period_that_went_well_leads_to_the_next_step_until_it_is_warm),
        cmocka_unit_test(a_period_with_too_few_or_none_is_not_judged),
        cmocka_unit_test(the_share_is_exact_at_its_border),
        cmocka_unit_test(with_back_the_step_falls_at_once_and_the_period_is_over_for_sending),
        cmocka_unit_test(what_is_given_back_may_go_and_a_clock_that_was_set_back_ends_no_period_late),
        cmocka_unit_test(nothing_goes_before_the_day_of_the_start_and_a_shorter_ladder_ends_at_its_last_step),
        cmocka_unit_test(the_way_ahead_goes_over_the_steps_that_are_to_come),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
