/* tests/bench/stats.c and refuse.c: what a measurement rests on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "tests/bench/refuse.h"
#include "tests/bench/stats.h"

static struct hist *hist_of(uint64_t from, uint64_t to)
{
    struct hist *h = MEM_NEW(struct hist);

    for (uint64_t v = from; v <= to; v++)
        hist_add(h, v);
    return h;
}

/* A value alone is its own maximum, so a second and larger one shows where the bucket of the first ends. */
static void every_value_is_known_to_a_thirty_second_of_itself(void **state)
{
    (void)state;
    for (uint64_t v = 0; v <= HIST_MAX; v = v < 5000 ? v + 1 : v * 17 / 16) {
        struct hist *h = MEM_NEW(struct hist);
        hist_add(h, v);
        hist_add(h, HIST_MAX);
        uint64_t said = hist_percentile(h, 500);
        assert_true(said >= v);
        assert_true(said - v <= v / 32);
        mem_free(h);
    }
}

static void percentiles_are_ranks(void **state)
{
    static const struct {
        unsigned per_mille;
        uint64_t least, most;
    } cases[] = {{0, 1, 1},        {1, 1, 1},        {10, 10, 10},      {500, 500, 516},
                 {990, 990, 1000}, {999, 999, 1000}, {1000, 1000, 1000}};
    struct hist *h = hist_of(1, 1000);

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_in_range(hist_percentile(h, cases[i].per_mille), cases[i].least, cases[i].most);
    mem_free(h);
}

static void an_empty_histogram_says_zero(void **state)
{
    struct hist *h = MEM_NEW(struct hist);

    (void)state;
    assert_int_equal(hist_percentile(h, 0), 0);
    assert_int_equal(hist_percentile(h, 1000), 0);
    mem_free(h);
}

static void what_is_too_large_counts_as_the_largest(void **state)
{
    struct hist *h = MEM_NEW(struct hist);

    (void)state;
    hist_add(h, UINT64_MAX);
    assert_int_equal(h->count, 1);
    assert_int_equal(hist_percentile(h, 500), HIST_MAX);
    mem_free(h);
}

static void merging_two_is_as_adding_to_one(void **state)
{
    struct hist *one = hist_of(0, 3000), *low = hist_of(0, 1234), *high = hist_of(1235, 3000);

    (void)state;
    hist_merge(low, high);
    assert_memory_equal(low, one, sizeof *one);
    mem_free(one);
    mem_free(low);
    mem_free(high);
}

static void a_number_is_first_once_and_again_ever_after(void **state)
{
    static const uint64_t numbers[] = {0, 1, 63, 64, 65, 4095, 65536, 65535, 1000000, SEEN_MAX - 1};
    struct seen s = {0};

    (void)state;
    for (unsigned round = 0; round < 3; round++)
        for (size_t i = 0; i < COUNT_OF(numbers); i++)
            assert_int_equal(seen_add(&s, numbers[i]), round ? SEEN_AGAIN : SEEN_FIRST);
    assert_int_equal(seen_add(&s, 2), SEEN_FIRST);
    assert_int_equal(seen_add(&s, SEEN_MAX), SEEN_TOO_LARGE);
    assert_int_equal(seen_add(&s, UINT64_MAX), SEEN_TOO_LARGE);
    seen_clear(&s);
    assert_int_equal(seen_add(&s, 1000000), SEEN_FIRST);
    seen_clear(&s);
}

static void rules_are_stage_code_and_percent(void **state)
{
    static const struct {
        struct bytes text;
        bool good;
        enum refuse_at at;
        unsigned code, percent;
    } cases[] = {
        {{"rcpt=450:5%", 11}, true, REFUSE_RCPT, 450, 5},
        {{"connect=421:100%", 16}, true, REFUSE_CONNECT, 421, 100},
        {{"mail=550:0%", 11}, true, REFUSE_MAIL, 550, 0},
        {{"data=451:1%", 11}, true, REFUSE_DATA, 451, 1},
        {{"dot=599:99%", 11}, true, REFUSE_DOT, 599, 99},
        {{"rcpt=450:5", 10}, false, 0, 0, 0},
        {{"rcpt=450:%", 10}, false, 0, 0, 0},
        {{"rcpt=450:101%", 13}, false, 0, 0, 0},
        {{"rcpt=250:5%", 11}, false, 0, 0, 0},
        {{"rcpt=600:5%", 11}, false, 0, 0, 0},
        {{"rcpt=:5%", 8}, false, 0, 0, 0},
        {{"rcpt450:5%", 10}, false, 0, 0, 0},
        {{"rcpt=4505%", 10}, false, 0, 0, 0},
        {{"vrfy=450:5%", 11}, false, 0, 0, 0},
        {{"rcpt=450:-5%", 12}, false, 0, 0, 0},
        {{"", 0}, false, 0, 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct refuse r = {0};
        assert_int_equal(refuse_parse(&r, cases[i].text), cases[i].good);
        for (unsigned at = 0; at < REFUSE_STAGES; at++) {
            bool here = cases[i].good && at == cases[i].at;
            assert_int_equal(r.at[at].code, here ? cases[i].code : 0);
            assert_int_equal(r.at[at].percent, here ? cases[i].percent : 0);
        }
        for (size_t cut = 0; cases[i].good && cut < cases[i].text.len; cut++)
            assert_false(refuse_parse(&r, bytes_first(cases[i].text, cut)));
    }
}

static void the_dice_refuse_the_share_that_was_asked_for(void **state)
{
    static const unsigned percents[] = {0, 1, 5, 50, 99, 100};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(percents); i++) {
        struct refuse r = {.at[REFUSE_RCPT] = {450, percents[i]}};
        unsigned hits = 0;
        for (unsigned n = 0; n < 100000; n++) {
            assert_int_equal(refuse_roll(&r, REFUSE_MAIL), 0);
            hits += refuse_roll(&r, REFUSE_RCPT) == 450;
        }
        assert_in_range(hits, percents[i] ? percents[i] * 1000 - 600 : 0,
                        percents[i] == 0 || percents[i] == 100 ? percents[i] * 1000
                                                               : percents[i] * 1000 + 600);
    }
}

static void marks_tell_lost_from_unanswered_and_from_taken_twice(void **state)
{
    (void)state;
    const struct mark marks[] = {
        {.accepted = 1},             /* before the range */
        {.accepted = 1, .taken = 1}, /* as it should be */
        {.accepted = 1},             /* lost */
        {.accepted = 1, .taken = 3}, /* twice too often */
        {.taken = 1},                /* no 250 was heard */
        {.taken = 2},                /* nor here, and it came again */
        {0},                         /* not accepted, not delivered: nobody's fault */
        {.accepted = 1},             /* behind the range */
    };
    struct mark_counts c = marks_count(marks, 1, 6);

    assert_int_equal(c.accepted, 3);
    assert_int_equal(c.lost, 1);
    assert_int_equal(c.duplicates, 3);
    assert_int_equal(c.unanswered_taken, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_value_is_known_to_a_thirty_second_of_itself),
        cmocka_unit_test(percentiles_are_ranks),
        cmocka_unit_test(an_empty_histogram_says_zero),
        cmocka_unit_test(what_is_too_large_counts_as_the_largest),
        cmocka_unit_test(merging_two_is_as_adding_to_one),
        cmocka_unit_test(a_number_is_first_once_and_again_ever_after),
        cmocka_unit_test(rules_are_stage_code_and_percent),
        cmocka_unit_test(the_dice_refuse_the_share_that_was_asked_for),
        cmocka_unit_test(marks_tell_lost_from_unanswered_and_from_taken_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
