#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "webui-api/campaign_progress.h"

static struct browse_share share(uint64_t waiting, uint64_t later, const char *why)
{
    struct browse_share s = {
        .later = later, .later_unix = later ? 5000 : 0, .why = why, .why_count = why ? later : 0};

    s.by_state[QUEUE_WAITING] = waiting;
    return s;
}

static const struct binding free_binding = {.moves = true};

static void what_is_due_goes_at_the_rate_and_the_rest_has_no_time(void **state)
{
    struct progress p = {0};
    struct browse_share s = share(110, 10, "450 4.2.0 later");

    (void)state;
    progress_add(&p, &s, &free_binding);
    progress_note_rate(&p, 20, 5);
    progress_note_rate(&p, 600, 60); /* the shorter one told enough */
    progress_judge(&p, 3, 0);
    assert_true(p.moves && p.due == 100 && p.later == 10);
    assert_int_equal(p.eta_s, 25);
    assert_int_equal(p.not_moving, 13);
    assert_null(p.limit);
}

static void a_rate_from_too_few_is_replaced_by_that_of_a_longer_time(void **state)
{
    struct progress p = {0};
    struct browse_share s = share(60, 0, NULL);

    (void)state;
    progress_add(&p, &s, &free_binding);
    progress_note_rate(&p, 5, 5);
    progress_note_rate(&p, 0, 60);
    assert_true(p.rate == 1.0);
    progress_note_rate(&p, 30, 60);
    progress_judge(&p, 0, 0);
    assert_int_equal(p.eta_s, 120);
}

static void the_limit_of_the_most_recipients_is_named(void **state)
{
    const struct binding rate = {"messages_per_second", 0, NULL, true};
    const struct binding late = {"suspended", 900, "no route", false},
                         soon = {"suspended", 700, "refused", false};
    struct browse_share small = share(10, 0, NULL), large = share(25, 0, NULL);
    struct progress p = {0};

    (void)state;
    progress_add(&p, &small, &rate);
    progress_add(&p, &small, &late);
    progress_add(&p, &large, &soon);
    progress_note_rate(&p, 100, 5);
    progress_judge(&p, 0, 0);
    assert_string_equal(p.limit, "suspended");
    assert_int_equal(p.until_unix, 700); /* the first to go on */
    assert_string_equal(p.text, "refused");
    assert_true(!p.moves && p.eta_s == -1);
    assert_int_equal(p.not_moving, 45);
}

static void what_waits_for_a_retry_says_for_what(void **state)
{
    static const struct {
        const char *why, *limit;
    } rows[] = {
        {"451 4.7.4 TLS is required, but was not offered by host mx[192.0.2.1]", "tls"},
        {"451 4.7.5 held: it had TLS", "tls"},
        {"450 4.2.0 greylisted", "retry"},
        {"421 busy", "retry"},
        {"no reply at all", "retry"},
        {"", "retry"},
        {"99999999999999999999 4.7.4.4.4.4.4.4.4.4.4.4 x", "retry"},
        {NULL, "schedule"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct browse_share s = share(7, 7, rows[i].why);
        struct progress p = {0};
        progress_add(&p, &s, NULL);
        progress_note_rate(&p, 1000, 5); /* others of the group went */
        progress_judge(&p, 0, 0);
        assert_string_equal(p.limit, rows[i].limit);
        assert_int_equal(p.until_unix, 5000);
        assert_true(!p.moves && p.not_moving == 7);
    }
}

static void a_ladder_says_when_it_lets_the_last_go(void **state)
{
    static const struct binding warmup = {"warmup", 9000, NULL, false},
                                often = {"warmup", 0, NULL, true}, /* of a short period */
        rate = {"messages_per_second", 0, NULL, true}, quiet = {"quiet_hours", 800, NULL, false};
    static const struct {
        const struct binding *binding;
        uint64_t ended, ladder_ms; /* in five seconds; of a hundred that are due */
        bool moves;
        int64_t eta_s, until_unix;
        const char *limit;
    } rows[] = {
        {&warmup, 50, 7200001, true, 7201, 9000, "warmup"}, /* what went before says nothing */
        {&warmup, 0, 7200000, true, 7200, 9000, "warmup"},
        {&warmup, 50, UINT64_MAX, false, -1, 9000, "warmup"},
        {&warmup, 0, 0, false, -1, 9000, "warmup"}, /* its period is just over */
        {&often, 50, 3000, true, 3, 0, "warmup"},
        {&rate, 50, 3600000, true, 3600, 0, "warmup"}, /* it will bind */
        {&rate, 50, 9000, true, 10, 0, "messages_per_second"},
        {&rate, 50, 0, true, 10, 0, "messages_per_second"},
        {&rate, 50, UINT64_MAX, false, -1, 0, "warmup"},
        {&free_binding, 0, 3600000, true, 3600, 0, "warmup"},
        {&free_binding, 50, 0, true, 10, 0, NULL},
        {&quiet, 50, 3600000, false, -1, 800, "quiet_hours"}, /* that end is not the ladder's to tell */
        {NULL, 50, 3600000, true, 3600, 0, "warmup"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct browse_share s = share(100, 0, NULL);
        struct progress p = {.ladder_ms = rows[i].ladder_ms};
        progress_add(&p, &s, rows[i].binding);
        progress_note_rate(&p, rows[i].ended, 5);
        progress_judge(&p, 0, 0);
        assert_int_equal(p.moves, rows[i].moves);
        assert_int_equal(p.eta_s, rows[i].eta_s);
        assert_int_equal(p.until_unix, rows[i].until_unix);
        assert_int_equal(p.not_moving, rows[i].moves ? 0 : 100);
        if (rows[i].limit)
            assert_string_equal(p.limit, rows[i].limit);
        else
            assert_null(p.limit);
    }
}

static void a_campaign_takes_as_long_as_its_slowest_group(void **state)
{
    struct browse_share s = share(100, 0, NULL), t = share(5, 5, "450 4.2.0 later");
    struct progress quick = {0}, slow = {0}, still = {0}, nothing = {0};
    struct progress_sum sum = {0};

    (void)state;
    progress_add(&quick, &s, &free_binding);
    progress_note_rate(&quick, 500, 5);
    progress_add(&slow, &s, &free_binding);
    progress_note_rate(&slow, 50, 5);
    progress_add(&still, &t, NULL);
    progress_judge(&quick, 0, 0);
    progress_judge(&slow, 0, 0);
    progress_judge(&still, 0, 0);
    progress_judge(&nothing, 0, 0);
    progress_sum(&sum, "still", &still);
    progress_sum(&sum, "slow", &slow);
    progress_sum(&sum, "quick", &quick);
    progress_sum(&sum, "nothing", &nothing);
    assert_string_equal(sum.group, "slow");
    assert_int_equal(sum.eta_s, 10);
    assert_int_equal(sum.not_moving, 5);
    sum = (struct progress_sum){0};
    progress_sum(&sum, "still", &still);
    progress_sum(&sum, "nothing", &nothing);
    assert_string_equal(sum.group, "still");
    assert_false(sum.of->moves);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_due_goes_at_the_rate_and_the_rest_has_no_time),
        cmocka_unit_test(a_rate_from_too_few_is_replaced_by_that_of_a_longer_time),
        cmocka_unit_test(the_limit_of_the_most_recipients_is_named),
        cmocka_unit_test(what_waits_for_a_retry_says_for_what),
        cmocka_unit_test(a_ladder_says_when_it_lets_the_last_go),
        cmocka_unit_test(a_campaign_takes_as_long_as_its_slowest_group),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
