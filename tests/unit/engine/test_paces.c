/* Rates: buckets by turned clocks, and the queue of those who wait for one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/macros.h"
#include "engine/limits.h"

#define SECOND UINT64_C(1000000000) /* ns */
#define START  (UINT64_C(1000000) * SECOND)

/* Takes whatever a caller gets who asks every `step_ns` from START on. */
static unsigned count_takes(struct bucket *b, const struct pace_rule *rule, uint64_t from_ns,
                            uint64_t span_ns, uint64_t step_ns, double units)
{
    unsigned taken = 0;

    for (uint64_t at = from_ns; at < from_ns + span_ns; at += step_ns) {
        while (bucket_wait_ns(b, rule, at) == 0) {
            bucket_take(b, rule, units, at);
            taken++;
        }
    }
    return taken;
}

static void a_rate_is_kept_however_often_one_asks(void **state)
{
    static const struct {
        struct pace_rule rule;
        uint64_t span_s, step_ns;
        double want; /* by the rate alone */
    } rows[] = {
        {{100, 1, 1}, 10, 1000000, 1000},      {{100, 1, 1}, 10, 37000000, 1000},
        {{0.5, 1, 1}, 100, 1000000, 50},       {{20000, 1, 1}, 10, 1000000, 200000},
        {{20000, 1, 1}, 10, 45000000, 200000}, {{60, 60, 1}, 600, 10000000, 600},
        {{7, 60, 1}, 6000, 100000000, 700},    {{100, 3600, 1}, 36000, SECOND, 1000},
        {{1000, 1, 500}, 10, 1000000, 10000},  {{3600, 3600, 600}, 7200, SECOND / 2, 7200},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct bucket b = {0};
        double extra = MAX_OF(rows[i].rule.burst, rows[i].rule.units / rows[i].rule.seconds / 20 + 1);
        unsigned n = count_takes(&b, &rows[i].rule, START, rows[i].span_s * SECOND, rows[i].step_ns, 1);
        assert_true(n <= rows[i].want + extra);
        assert_true(n >= rows[i].want * 0.95);
    }
}

static void a_burst_goes_at_once_and_only_after_a_pause(void **state)
{
    static const struct pace_rule rule = {3600, 3600, 50};
    struct bucket b = {0};

    (void)state;
    assert_int_equal(count_takes(&b, &rule, START, 1, 1, 1), 50);
    assert_int_equal(count_takes(&b, &rule, START + 1, 1, 1, 1), 0);
    assert_int_equal(count_takes(&b, &rule, START + 10 * SECOND, 1, 1, 1), 10);
    assert_int_equal(count_takes(&b, &rule, START + 1000 * SECOND, 1, 1, 1), 50);
}

static void a_take_larger_than_the_bucket_is_paid_for_by_the_next(void **state)
{
    static const struct pace_rule rule = {1000, 1, 1};
    struct bucket b = {0};

    (void)state;
    assert_int_equal(bucket_wait_ns(&b, &rule, START), 0);
    bucket_take(&b, &rule, 10000, START);
    assert_int_equal(bucket_wait_ns(&b, &rule, START), 10 * SECOND - SECOND / 20);
    assert_int_equal(bucket_wait_ns(&b, &rule, START + 10 * SECOND), 0);
}

static void a_new_rate_holds_at_once_both_ways(void **state)
{
    static const struct pace_rule hourly = {1, 3600, 1}, quick = {100, 1, 1}, none = {0, 1, 1};
    struct bucket b = {0};

    (void)state;
    bucket_take(&b, &hourly, 1, START);
    assert_true(bucket_wait_ns(&b, &hourly, START) > 3599 * SECOND);
    assert_true(bucket_wait_ns(&b, &quick, START) <= SECOND / 100);
    assert_int_equal(bucket_wait_ns(&b, &none, START), 0);
    b = (struct bucket){0};
    bucket_take(&b, &quick, 1, START);
    assert_true(bucket_wait_ns(&b, &hourly, START) > 3590 * SECOND);
}

static void the_smallest_rates_do_not_overflow(void **state)
{
    static const struct pace_rule rule = {1e-9, 3600, 1000000};
    struct bucket b = {0};

    (void)state;
    for (int i = 0; i < 100; i++)
        bucket_take(&b, &rule, 1e12, START);
    assert_true(b.next_ns > START);
}

static void what_is_given_back_may_be_taken_again(void **state)
{
    static const struct pace_rule rules[] = {{1, 1, 1}, {1, 3600, 1}};
    const double units[] = {1, 1};
    struct limits *l = limits_create();
    struct pace *p = pace_find(l, "messages:a");
    size_t which = 9;

    (void)state;
    assert_int_equal(pace_take(p, rules, units, 2, START / 1000, &which), 0);
    assert_true(pace_take(p, rules, units, 2, START / 1000, &which) > 3500000);
    assert_int_equal(which, 1);
    pace_give(p, rules, units, 2, START / 1000);
    assert_int_equal(pace_wait(p, rules, 2, START / 1000, &which), 0);
    assert_int_equal(pace_take(p, rules, units, 2, START / 1000, &which), 0);
    assert_ptr_equal(p, pace_find(l, "messages:a"));
    assert_ptr_not_equal(p, pace_find(l, "messages:b"));
    limits_destroy(l);
}

/* ---- who waits for a rate ---- */

#define SENDERS 60

/* Senders of one group, each with mail for ever from `from_ms` on, on one thread in turned time. */
static struct sender {
    struct pace_waiter waiter;
    struct inbox inbox;
    struct pace *pace;
    uint16_t lane;
    uint64_t from_ms, ask_at_ms;
    bool is_stuck; /* neither its notes nor its alarms are heard */
    unsigned sent, asked;
} senders[SENDERS];
static uint64_t now_ms; /* since START */

static void ring_nothing(void *arg)
{
    (void)arg;
}

static void send_on(struct sender *s)
{
    static const double units[] = {1, 1};
    uint32_t wait_ms;
    size_t which;

    while (s->asked++,
           !(wait_ms = pace_turn(s->pace, &s->waiter, s->lane, units, START / 1000 + now_ms * 1000, &which)))
        s->sent++;
    s->ask_at_ms = now_ms + wait_ms;
}

static void on_turn(struct note *note, void *owner)
{
    struct sender *s = CONTAINER_OF(note, struct sender, waiter.note);

    (void)owner;
    pace_heard(s->pace, &s->waiter);
    send_on(s);
}

static void senders_init(struct limits *l, const struct pace_rule *rules, uint16_t lane)
{
    now_ms = 0;
    for (int i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender){.pace = pace_find(l, "messages:a"), .lane = lane, .from_ms = UINT64_MAX};
        inbox_init(&senders[i].inbox, NULL, ring_nothing, NULL);
        pace_waiter_init(&senders[i].waiter, &senders[i].inbox, on_turn, rules, 2);
    }
}

static void senders_run(uint64_t until_ms)
{
    for (; now_ms < until_ms; now_ms++) {
        for (int i = 0; i < SENDERS; i++) {
            struct sender *s = &senders[i];
            if (s->is_stuck || s->from_ms > now_ms)
                continue;
            inbox_drain(&s->inbox);
            if (s->ask_at_ms <= now_ms)
                send_on(s);
        }
    }
}

static void senders_fini(void)
{
    for (int i = 0; i < SENDERS; i++) {
        pace_leave(senders[i].pace, &senders[i].waiter, START / 1000 + now_ms * 1000);
        senders[i].from_ms = UINT64_MAX;
        while ((inbox_take(&senders[i].inbox)))
            ;
    }
}

static const struct pace_rule hundred_a_second[] = {{100, 1, 1}, {6000, 60, 1}};

static void who_waits_has_his_turn_and_the_rate_stays_exact(void **state)
{
    struct limits *l = limits_create();

    (void)state;
    senders_init(l, hundred_a_second, 0);
    senders[0].from_ms = 0;
    senders[1].from_ms = senders[2].from_ms = 5000;
    senders_run(10000);
    assert_in_range(senders[0].sent + senders[1].sent + senders[2].sent, 1000, 1007);
    assert_in_range(senders[1].sent, 164, 168); /* a third each of the last five seconds */
    assert_in_range(senders[2].sent, 164, 168);
    assert_true(senders[0].asked < 2500); /* one keeps the clock, and asks once or twice a message */
    senders_fini();
    limits_destroy(l);
}

/* A campaign to many sites has no more of the rate than one to a single site, and what is urgent goes first.
 */
static void campaigns_share_a_rate_whatever_sites_they_have(void **state)
{
    struct limits *l = limits_create();
    unsigned large = 0;

    (void)state;
    senders_init(l, hundred_a_second, lane_of(PRIORITY_NORMAL, NULL, "large"));
    for (int i = 0; i < 50; i++)
        senders[i].from_ms = 0;
    senders[50].from_ms = 1000;
    senders[50].lane = lane_of(PRIORITY_NORMAL, NULL, "small");
    senders_run(5000);
    assert_in_range(senders[50].sent, 198, 202); /* half of four seconds */
    senders[51].from_ms = 5000;
    senders[51].lane = lane_of(PRIORITY_HIGH, NULL, "code");
    senders_run(7000);
    assert_in_range(senders[51].sent, 173, 177); /* seven of eight turns */
    for (int i = 0; i < 50; i++)
        large += senders[i].sent;
    assert_in_range(large, 100 + 200 + 10, 100 + 200 + 20);
    assert_in_range(large + senders[50].sent + senders[51].sent, 700, 707);
    senders_fini();
    limits_destroy(l);
}

/* Who waited with bulk and gets something urgent need not wait longer than if he came now. */
static void what_is_urgent_takes_a_better_place(void **state)
{
    struct limits *l = limits_create();

    (void)state;
    senders_init(l, hundred_a_second, lane_of(PRIORITY_LOW, NULL, "bulk"));
    for (int i = 0; i < SENDERS; i++)
        senders[i].from_ms = 0;
    senders_run(1000);
    unsigned before = senders[59].sent;
    senders[59].lane = lane_of(PRIORITY_HIGH, NULL, "code");
    senders[59].ask_at_ms = now_ms;
    senders_run(1100);
    assert_in_range(senders[59].sent - before, 8, 10);
    senders_fini();
    limits_destroy(l);
}

/* One who keeps the clock and stands still costs the others a second or two, once. */
static void who_stands_still_does_not_stop_the_others(void **state)
{
    struct limits *l = limits_create();
    unsigned sent = 0;

    (void)state;
    senders_init(l, hundred_a_second, 0);
    for (int i = 0; i < 4; i++)
        senders[i].from_ms = 0;
    senders_run(1000);
    for (int i = 0; i < 4; i++) { /* whoever keeps it asks next */
        senders[i].is_stuck = senders[i].ask_at_ms < 1500;
        senders[i].sent = 0;
    }
    assert_true(senders[0].is_stuck || senders[1].is_stuck || senders[2].is_stuck || senders[3].is_stuck);
    assert_false(senders[0].is_stuck && senders[1].is_stuck && senders[2].is_stuck && senders[3].is_stuck);
    senders_run(11000);
    for (int i = 0; i < 4; i++)
        sent += senders[i].sent;
    assert_in_range(sent, 700, 1010);
    senders_fini();
    limits_destroy(l);
}

/* After a large one the small do not go all at once: each rule counts them when they go. */
static void behind_a_large_one_all_rates_hold(void **state)
{
    static const struct pace_rule rules[] = {{10, 1, 1}, {1000, 1, 1}}; /* messages, octets */
    const double large[] = {1, 5000};
    struct limits *l = limits_create();
    unsigned went = 0;
    size_t which;

    (void)state;
    senders_init(l, rules, 0);
    assert_int_equal(pace_take(senders[0].pace, rules, large, 2, START / 1000, &which), 0);
    for (int i = 0; i < 20; i++)
        senders[i].from_ms = 0;
    senders_run(5500);
    for (int i = 0; i < 20; i++)
        went += senders[i].sent;
    assert_in_range(went, 5, 7); /* in the half second behind the large one */
    senders_fini();
    limits_destroy(l);
}

/* A turn of an hourly rate that is given up is the next one's at once. */
static void what_is_given_up_is_free_at_once(void **state)
{
    static const struct pace_rule rules[] = {{1000, 1, 1}, {1, 3600, 1}};
    const double units[] = {1, 1}, back[] = {-1, -1};
    struct limits *l = limits_create();

    (void)state;
    senders_init(l, rules, 0);
    senders[0].from_ms = senders[1].from_ms = 0;
    senders_run(1000);
    assert_int_equal(senders[0].sent, 1);
    assert_int_equal(senders[1].sent, 0);
    pace_leave(senders[0].pace, &senders[0].waiter, START / 1000 + now_ms * 1000);
    senders[0].from_ms = UINT64_MAX;
    assert_true(senders[1].ask_at_ms > 3000000);
    pace_add(senders[0].pace, rules, back, 2, START / 1000 + now_ms * 1000);
    senders_run(1002);
    assert_int_equal(senders[1].sent, 1);
    senders[2].from_ms = now_ms; /* granted, and not told before it leaves */
    senders_run(1003);
    pace_leave(senders[1].pace, &senders[1].waiter, START / 1000 + now_ms * 1000);
    senders[1].from_ms = UINT64_MAX;
    pace_give(senders[2].pace, rules, units, 2, START / 1000 + now_ms * 1000);
    assert_true(senders[2].waiter.taken);
    pace_leave(senders[2].pace, &senders[2].waiter, START / 1000 + now_ms * 1000);
    senders[2].from_ms = UINT64_MAX;
    senders[3].from_ms = now_ms;
    senders_run(1004);
    assert_int_equal(senders[3].sent, 1);
    senders_fini();
    limits_destroy(l);
}

/* A turn that is used a while after it was granted, for want of a connection, leaves no room for a quick
 * second. */
static void what_is_used_later_is_counted_from_then_on(void **state)
{
    static const struct pace_rule rules[] = {{1, 1, 1}, {1000, 1, 1}};
    const double taken[] = {1, 100}, used[] = {1, 3000};
    struct limits *l = limits_create();
    struct pace *p = pace_find(l, "messages:a");
    size_t which;

    (void)state;
    assert_int_equal(pace_take(p, rules, taken, 2, START / 1000, &which), 0);
    pace_use(p, rules, taken, taken, 2, START / 1000 + 800000);
    assert_in_range(pace_wait(p, rules, 2, START / 1000 + 800000, &which), 945, 955); /* of a second */
    pace_use(p, rules, taken, used, 2, START / 1000 + 900000);
    assert_in_range(pace_wait(p, rules, 2, START / 1000 + 900000, &which), 2945, 2955);
    assert_int_equal(which, 1);
    limits_destroy(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rate_is_kept_however_often_one_asks),
        cmocka_unit_test(a_burst_goes_at_once_and_only_after_a_pause),
        cmocka_unit_test(a_take_larger_than_the_bucket_is_paid_for_by_the_next),
        cmocka_unit_test(a_new_rate_holds_at_once_both_ways),
        cmocka_unit_test(the_smallest_rates_do_not_overflow),
        cmocka_unit_test(what_is_given_back_may_be_taken_again),
        cmocka_unit_test(who_waits_has_his_turn_and_the_rate_stays_exact),
        cmocka_unit_test(campaigns_share_a_rate_whatever_sites_they_have),
        cmocka_unit_test(what_is_urgent_takes_a_better_place),
        cmocka_unit_test(who_stands_still_does_not_stop_the_others),
        cmocka_unit_test(behind_a_large_one_all_rates_hold),
        cmocka_unit_test(what_is_given_up_is_free_at_once),
        cmocka_unit_test(what_is_used_later_is_counted_from_then_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
