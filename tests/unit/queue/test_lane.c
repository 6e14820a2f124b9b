#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/macros.h"
#include "queue/lane.h"

static void what_has_neither_account_nor_campaign_shares_one_lane(void **state)
{
    (void)state;
    assert_int_equal(lane_of(PRIORITY_NORMAL, NULL, NULL), 0);
    assert_int_equal(lane_of(PRIORITY_NORMAL, "", ""), 0);
    assert_int_equal(lane_of(PRIORITY_HIGH, NULL, NULL), 4096);
}

/* Stored in queue.db: these numbers stay what they are. */
static void lanes_are_the_same_in_every_run(void **state)
{
    static const struct {
        enum priority p;
        const char *account, *campaign;
        uint16_t want;
    } rows[] = {{PRIORITY_NORMAL, "shop", "spring", 2742},
                {PRIORITY_HIGH, "shop", NULL, 5144},
                {PRIORITY_LOW, NULL, "spring", 10142},
                {PRIORITY_NORMAL, "a", "b", 3340}};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        assert_int_equal(lane_of(rows[i].p, rows[i].account, rows[i].campaign), rows[i].want);
        assert_int_equal(lane_priority(rows[i].want), rows[i].p);
        assert_true(rows[i].want < LANES);
    }
}

static void accounts_and_campaigns_spread_over_all_lanes(void **state)
{
    static uint16_t seen[LANES];
    unsigned most = 0, used = 0;

    (void)state;
    for (int i = 0; i < 40000; i++) {
        char campaign[20];
        snprintf(campaign, sizeof(campaign), "news-%d", i / 2);
        uint16_t lane = lane_of(PRIORITY_LOW, i % 2 ? "shop" : "bank", campaign);
        used += !seen[lane];
        most = MAX_OF(most, ++seen[lane]);
    }
    assert_true(used > 4050); /* 40,000 over 4,095: some 9.8 each */
    assert_true(most < 35);
    assert_true(lane_of(PRIORITY_NORMAL, "a", "b") != lane_of(PRIORITY_NORMAL, "b", "a"));
}

static void of_eight_turns_one_is_for_those_below_and_nobody_starves(void **state)
{
    unsigned first[PRIORITIES] = {0}, without_high[PRIORITIES] = {0};
    enum priority order[PRIORITIES];

    (void)state;
    for (uint32_t turn = 0; turn < 1600; turn++) {
        priority_order(turn, order);
        assert_true(order[0] != order[1] && order[1] != order[2] && order[0] != order[2]);
        first[order[0]]++;
        without_high[order[order[0] == PRIORITY_HIGH]]++;
    }
    assert_int_equal(first[PRIORITY_HIGH], 1400);
    assert_int_equal(first[PRIORITY_NORMAL], 100);
    assert_int_equal(first[PRIORITY_LOW], 100);
    assert_int_equal(without_high[PRIORITY_NORMAL], 1500);
    assert_int_equal(without_high[PRIORITY_LOW], 100);
}

static void a_lane_goes_before_those_of_lower_priority(void **state)
{
    static const enum priority best_first[] = {PRIORITY_HIGH, PRIORITY_NORMAL, PRIORITY_LOW};

    (void)state;
    for (int i = 0; i < PRIORITIES; i++)
        for (int k = 0; k < PRIORITIES; k++)
            assert_int_equal(
                lane_goes_before(lane_of(best_first[i], NULL, "a"), lane_of(best_first[k], "b", NULL)),
                i < k);
}

static void priorities_have_names(void **state)
{
    enum priority p = PRIORITY_LOW;

    (void)state;
    for (unsigned i = 0; i < PRIORITIES; i++) {
        assert_true(priority_parse(bytes_of(priority_name((enum priority)i)), &p));
        assert_int_equal(p, i);
    }
    assert_true(priority_parse(BYTES("HIGH"), &p));
    assert_int_equal(p, PRIORITY_HIGH);
    assert_false(priority_parse(BYTES("highest"), &p) || priority_parse(BYTES(""), &p));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_has_neither_account_nor_campaign_shares_one_lane),
        cmocka_unit_test(lanes_are_the_same_in_every_run),
        cmocka_unit_test(accounts_and_campaigns_spread_over_all_lanes),
        cmocka_unit_test(of_eight_turns_one_is_for_those_below_and_nobody_starves),
        cmocka_unit_test(a_lane_goes_before_those_of_lower_priority),
        cmocka_unit_test(priorities_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
