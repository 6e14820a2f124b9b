/* The guard counts by campaign, decides at every N attempts, and trips once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "engine/campaign_guard.h"

enum what { GOOD, UNKNOWN, BLOCKED, BUSY };

static void note(struct campaign_guard *g, const struct conf *conf, const char *campaign, enum what what,
                 int times)
{
    struct outcome o;

    switch (what) {
    case GOOD: outcome_local(&o, OUTCOME_DELIVERED, STAGE_DOT, 250, "2.0.0", "ok"); break;
    case UNKNOWN: outcome_local(&o, OUTCOME_BOUNCED, STAGE_RCPT, 550, "5.1.1", "no such user"); break;
    case BLOCKED:
        outcome_local(&o, OUTCOME_BOUNCED, STAGE_RCPT, 554, "5.7.1", "blocked by a block list");
        break;
    case BUSY: outcome_local(&o, OUTCOME_DEFERRED, STAGE_CONNECT, 0, "4.4.1", "connection refused"); break;
    }
    o.remote = what != BUSY;
    while (times--)
        campaign_guard_note(g, conf, campaign, &o);
}

static void a_campaign_trips_at_its_threshold_and_not_below(void **state)
{
    static const struct {
        int64_t unknown_percent, blocked_percent;
        int good, unknown, blocked, busy;
        bool trips;
    } rows[] = {
        {10, 20, 91, 9, 0, 0, false},   {10, 20, 90, 10, 0, 0, true},   {10, 20, 81, 0, 19, 0, false},
        {10, 20, 80, 0, 20, 0, true},   {0, 20, 0, 100, 0, 0, false},   {10, 0, 0, 0, 100, 0, false},
        {10, 20, 80, 10, 9, 50, false}, /* 99 that count */
        {10, 20, 80, 10, 10, 50, true}, {100, 100, 0, 100, 0, 0, true},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct conf conf = {.guard = {100, rows[i].unknown_percent, rows[i].blocked_percent}};
        struct campaign_guard *g = campaign_guard_create();
        char why[GUARD_WHY_BYTES];
        struct outcome last;
        note(g, &conf, "other", GOOD, 500);
        note(g, &conf, "spring", BUSY, rows[i].busy);
        note(g, &conf, "spring", UNKNOWN, rows[i].unknown);
        note(g, &conf, "spring", BLOCKED, rows[i].blocked);
        note(g, &conf, "spring", GOOD, rows[i].good);
        char *id = campaign_guard_take(g, why, &last);
        assert_int_equal(campaign_guard_stops(g, "spring"), rows[i].trips);
        assert_int_equal(campaign_guard_trips(g), rows[i].trips);
        assert_false(campaign_guard_stops(g, "other") || campaign_guard_stops(g, NULL));
        if (rows[i].trips) {
            assert_string_equal(id, "spring");
            assert_int_equal(last.code, rows[i].blocked ? 554 : 550);
            mem_free(id);
            id = campaign_guard_take(g, why, &last); /* until it is done */
            assert_string_equal(id, "spring");
            campaign_guard_done(g, "spring");
            assert_false(campaign_guard_stops(g, "spring"));
        } else {
            assert_null(id);
        }
        mem_free(id);
        assert_null(campaign_guard_take(g, why, &last));
        campaign_guard_destroy(g);
    }
}

static void after_the_first_n_it_is_not_waited_for_the_end_of_the_next(void **state)
{
    struct conf conf = {.guard = {100, 10, 0}};
    struct campaign_guard *g = campaign_guard_create();
    char why[GUARD_WHY_BYTES];
    struct outcome last;

    (void)state;
    note(g, &conf, "spring", GOOD, 100);
    note(g, &conf, "spring", UNKNOWN, 9);
    note(g, &conf, "spring", GOOD, 50);
    assert_null(campaign_guard_take(g, why, &last)); /* the rest could be good */
    note(g, &conf, "spring", UNKNOWN, 1);
    char *id = campaign_guard_take(g, why, &last);
    assert_string_equal(id, "spring");
    assert_non_null(strstr(why, "of its last 60 attempts 10 met an unknown user"));
    mem_free(id);
    note(g, &conf, "spring", UNKNOWN, 500); /* what was on its way */
    campaign_guard_done(g, "spring");
    note(g, &conf, "spring", UNKNOWN, 99);
    assert_null(campaign_guard_take(g, why, &last)); /* resumed, it has N attempts again */
    assert_int_equal(campaign_guard_trips(g), 1);
    campaign_guard_destroy(g);
}

static void every_n_attempts_are_looked_at_by_themselves(void **state)
{
    struct conf conf = {.guard = {10, 50, 0}};
    struct campaign_guard *g = campaign_guard_create();
    char why[GUARD_WHY_BYTES];
    struct outcome last;

    (void)state;
    note(g, &conf, "spring", GOOD, 1000);
    note(g, &conf, "spring", UNKNOWN, 4);
    assert_null(campaign_guard_take(g, why, &last));
    note(g, &conf, "spring", UNKNOWN, 1); /* a long good past helps no more */
    char *id = campaign_guard_take(g, why, &last);
    assert_string_equal(id, "spring");
    assert_non_null(strstr(why, "of its last 5 attempts 5 met an unknown user"));
    mem_free(id);
    campaign_guard_done(g, "spring");
    note(g, &conf, "spring", UNKNOWN, 9); /* afresh */
    assert_null(campaign_guard_take(g, why, &last));
    campaign_guard_destroy(g);
}

static void mail_without_a_campaign_and_a_guard_that_is_off_count_nothing(void **state)
{
    struct conf on = {.guard = {1, 1, 1}}, off = {.guard = {0, 1, 1}};
    struct campaign_guard *g = campaign_guard_create();
    char why[GUARD_WHY_BYTES], id[32];
    struct outcome last;

    (void)state;
    note(g, &on, NULL, UNKNOWN, 5);
    note(g, &on, "", UNKNOWN, 5);
    note(g, &off, "spring", UNKNOWN, 5);
    assert_null(campaign_guard_take(g, why, &last));
    for (int i = 0; i < 25000; i++) { /* more campaigns than are kept at a time */
        snprintf(id, sizeof(id), "c%d", i);
        note(g, &on, id, GOOD, 1);
    }
    assert_null(campaign_guard_take(g, why, &last));
    campaign_guard_destroy(g);
}

static void what_is_held_is_not_begun_until_the_last_release(void **state)
{
    struct conf conf = {.guard = {2, 50, 50}}, off = {0};
    struct campaign_guard *g = campaign_guard_create();
    char why[GUARD_WHY_BYTES];
    struct outcome last;

    (void)state;
    campaign_guard_hold(g, NULL); /* a selector without a campaign, or of mail without one */
    campaign_guard_hold(g, "");
    assert_false(campaign_guard_stops(g, ""));
    campaign_guard_hold(g, "spring");
    campaign_guard_hold(g, "spring");
    assert_true(campaign_guard_stops(g, "spring"));
    assert_false(campaign_guard_stops(g, "autumn"));
    assert_null(campaign_guard_take(g, why, &last)); /* nothing tripped */
    campaign_guard_release(g, "spring");
    assert_true(campaign_guard_stops(g, "spring"));
    campaign_guard_release(g, "spring");
    assert_false(campaign_guard_stops(g, "spring"));
    campaign_guard_release(g, "spring");  /* nobody holds it */
    note(g, &conf, "spring", UNKNOWN, 2); /* the guard's own pause holds it too */
    char *id = campaign_guard_take(g, why, &last);
    assert_string_equal(id, "spring");
    campaign_guard_hold(g, "spring");
    campaign_guard_release(g, "spring");
    assert_true(campaign_guard_stops(g, "spring"));
    campaign_guard_hold(g, "spring");
    campaign_guard_done(g, "spring");
    assert_true(campaign_guard_stops(g, "spring"));
    assert_null(campaign_guard_take(g, why, &last));
    campaign_guard_release(g, "spring");
    assert_false(campaign_guard_stops(g, "spring"));
    note(g, &conf, "spring", UNKNOWN, 1); /* its counts have begun anew */
    assert_false(campaign_guard_stops(g, "spring"));
    note(g, &off, "spring", UNKNOWN, 5);
    mem_free(id);
    campaign_guard_destroy(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_campaign_trips_at_its_threshold_and_not_below),
        cmocka_unit_test(every_n_attempts_are_looked_at_by_themselves),
        cmocka_unit_test(after_the_first_n_it_is_not_waited_for_the_end_of_the_next),
        cmocka_unit_test(what_is_held_is_not_begun_until_the_last_release),
        cmocka_unit_test(mail_without_a_campaign_and_a_guard_that_is_off_count_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
