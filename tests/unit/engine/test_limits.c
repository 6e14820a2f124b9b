#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>

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

/* Three senders of one group: one has mail for ever, and asks whenever it may. */
static void who_books_has_his_turn_and_the_rate_stays_exact(void **state)
{
    static const struct pace_rule rules[] = {{100, 1, 1}, {6000, 60, 1}};
    const double units[] = {1, 1};
    struct limits *l = limits_create();
    struct pace *p = pace_find(l, "messages:a");
    uint64_t at[3] = {0};
    unsigned booked[3] = {0}, sent[3] = {0};
    size_t which;

    (void)state;
    for (uint64_t ms = 0; ms < 10000; ms++) {
        for (int who = 0; who < 3; who++) {
            if (who && ms < 5000) /* two come later */
                continue;
            while (at[who] <= ms) {
                uint32_t wait_ms = booked[who] == 3 ? 0
                                                    : pace_book(p, rules, units, 2, START / 1000 + ms * 1000,
                                                                &which, &booked[who]);
                at[who] = ms + wait_ms;
                if (wait_ms)
                    break;
                sent[who]++;
                booked[who] = 0;
            }
        }
    }
    assert_in_range(sent[0] + sent[1] + sent[2], 1000, 1007);
    assert_in_range(sent[1], 165, 168); /* a third each of the last five seconds */
    assert_in_range(sent[2], 165, 168);
    limits_destroy(l);
}

/* After a large one the small do not go all at once: each rule counts them when they go. */
static void what_is_booked_by_one_rule_waits_for_the_others_too(void **state)
{
    static const struct pace_rule rules[] = {{10, 1, 1}, {1000, 1, 1}}; /* messages, octets */
    const double large[] = {1, 5000}, small[] = {1, 1};
    struct limits *l = limits_create();
    struct pace *p = pace_find(l, "messages:a");
    unsigned booked[20] = {0}, one = 0, went = 0;
    uint64_t at[20] = {0};
    size_t which;

    (void)state;
    assert_int_equal(pace_book(p, rules, large, 2, START / 1000, &which, &one), 0);
    assert_int_equal(one, 3);
    for (uint64_t ms = 1; ms < 5500; ms++)
        for (int i = 0; i < 20; i++)
            if (booked[i] != 3 && at[i] <= ms)
                at[i] = ms + pace_book(p, rules, small, 2, START / 1000 + ms * 1000, &which, &booked[i]);
    for (int i = 0; i < 20; i++)
        went += booked[i] == 3 && at[i] < 5500;
    assert_in_range(went, 5, 7); /* in the half second behind the large one */
    limits_destroy(l);
}

/* A booking of an hourly rate that is given up leaves no other rate behind it. */
static void what_is_given_up_is_free_at_once(void **state)
{
    static const struct pace_rule rules[] = {{1000, 1, 1}, {1, 3600, 1}};
    const double units[] = {1, 1}, back[] = {0, -1};
    struct limits *l = limits_create();
    struct pace *p = pace_find(l, "messages:a");
    unsigned booked = 0;
    size_t which;

    (void)state;
    assert_int_equal(pace_book(p, rules, units, 2, START / 1000, &which, &booked), 0);
    booked = 0;
    assert_in_range(pace_book(p, rules, units, 2, START / 1000, &which, &booked), 3590000, 3600000);
    assert_int_equal(which, 1);
    assert_int_equal(booked, 2);
    pace_add(p, rules, back, 2, START / 1000);
    assert_in_range(pace_wait(p, rules, 2, START / 1000, &which), 3590000, 3600000);
    assert_int_equal(pace_wait(p, rules, 1, START / 1000, &which), 0);
    limits_destroy(l);
}

static void who_stands_in_the_line_comes_before_who_comes_later(void **state)
{
    struct limits *l = limits_create();
    struct permit_pool *p = permit_pool(l, "source:x", 2);
    uint32_t again = 1;

    (void)state;
    assert_true(permit_take_in_line(p, "busy", 0, &again));
    assert_true(permit_take_in_line(p, "busy", 0, &again));
    assert_false(permit_yield_to_line(p, "busy", 0));
    assert_false(permit_take_in_line(p, "busy", 0, &again)); /* its own place costs it nothing */
    assert_false(permit_yield_to_line(p, "busy", 0));
    assert_int_equal(again, 0);
    assert_false(permit_take_in_line(p, "a", 10, &again));
    assert_false(permit_take_in_line(p, "b", 20, &again));
    assert_int_equal(again, 0); /* the first time: who has no work should hear of it */
    assert_false(permit_take_in_line(p, "a", 30, &again));
    assert_true(again > 0);
    assert_true(permit_yield_to_line(p, "busy", 40));
    assert_true(permit_yield_to_line(p, "busy", 40));
    assert_false(permit_yield_to_line(p, "busy", 40)); /* two wait, two yield */
    permit_give(p);
    assert_false(
        permit_take_in_line(p, "b", 50, &again)); /* behind a, and behind busy that asked before both */
    assert_false(permit_take_in_line(p, "a", 60, &again));
    assert_true(permit_take_in_line(p, "busy", 70, &again));
    permit_give(p);
    assert_false(permit_take_in_line(p, "busy", 80, &again));
    assert_true(permit_take_in_line(p, "a", 90, &again));
    permit_give(p);
    assert_false(permit_take_in_line(p, "busy", 100, &again));
    assert_true(permit_take_in_line(p, "busy", 1200, &again)); /* b has not asked for a second */
    limits_destroy(l);
}

static void a_line_is_short_and_who_finds_it_full_comes_later(void **state)
{
    static const char names[40] = {0};
    struct limits *l = limits_create();
    struct permit_pool *p = permit_pool(l, "source:x", 1);
    uint32_t again;

    (void)state;
    assert_true(permit_take_in_line(p, "busy", 0, &again));
    for (int i = 0; i < 40; i++)
        assert_false(permit_take_in_line(p, &names[i], 1, &again));
    for (int turn = 0; turn < 24; turn++) {
        permit_give(p);
        int served = -1;
        for (int i = 39; i >= 0; i--) /* whoever asks first, the order of the line decides */
            if (i >= turn && permit_take_in_line(p, &names[i], 2 + (uint64_t)turn, &again)) {
                assert_int_equal(served, -1);
                served = i;
            }
        /* Behind those sixteen come others, as each found the place free that was left. */
        assert_int_equal(served, turn < 16 ? turn : 39 - (turn - 16));
    }
    limits_destroy(l);
}

/* ---- many threads ---- */

#define THREADS 8

struct taker {
    struct limits *limits;
    uint64_t until_us;
    unsigned taken, most;
};
static atomic_int holders;

static void *take_paced(void *arg)
{
    static const struct pace_rule rules[] = {{2000, 1, 1}, {1000000, 60, 1}};
    const double units[] = {1, 1};
    struct taker *t = arg;
    struct pace *p = pace_find(t->limits, "messages:x");
    size_t which;

    while (clock_now_us() < t->until_us)
        t->taken += pace_take(p, rules, units, 2, clock_now_us(), &which) == 0;
    return NULL;
}

static void *take_permits(void *arg)
{
    struct taker *t = arg;
    struct permit_pool *p = permit_pool(t->limits, "host:x", 5);

    while (clock_now_us() < t->until_us) {
        if (!permit_take(p, NULL))
            continue;
        unsigned now = (unsigned)atomic_fetch_add(&holders, 1) + 1;
        t->most = MAX_OF(t->most, now);
        t->taken++;
        atomic_fetch_sub(&holders, 1);
        permit_give(p);
    }
    return NULL;
}

static unsigned run_threads(void *(*run)(void *), uint64_t span_us, unsigned *most)
{
    struct limits *l = limits_create();
    struct taker takers[THREADS];
    pthread_t threads[THREADS];
    unsigned sum = 0;

    *most = 0;
    for (int i = 0; i < THREADS; i++) {
        takers[i] = (struct taker){l, clock_now_us() + span_us, 0, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, run, &takers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        sum += takers[i].taken;
        *most = MAX_OF(*most, takers[i].most);
    }
    limits_destroy(l);
    return sum;
}

static void many_threads_together_get_one_rate(void **state)
{
    uint64_t start = clock_now_us();
    unsigned most, sum = run_threads(take_paced, 500000, &most);
    double seconds = (double)(clock_now_us() - start) / 1e6;

    (void)state;
    assert_true(sum <= 2000 * seconds + 2000.0 / 20 + 1);
    assert_true(sum >= 2000 * 0.5 * 0.95);
}

static void many_threads_never_hold_more_than_the_pool_has(void **state)
{
    unsigned most, sum = run_threads(take_permits, 300000, &most);

    (void)state;
    assert_true(sum > 100);
    assert_true(most <= 5);
}

static void a_permit_refused_without_a_place_in_the_queue_is_wanted(void **state)
{
    struct limits *l = limits_create();
    struct permit_pool *p = permit_pool(l, "source:x", 1);

    (void)state;
    assert_true(permit_take(p, NULL));
    assert_false(permit_is_wanted(p));
    assert_false(permit_take(p, NULL));
    assert_true(permit_is_wanted(p));
    permit_give(p);
    assert_false(permit_is_wanted(p));
    limits_destroy(l);
}

static void ignore_note(struct note *note, void *owner)
{
    (void)note;
    (void)owner;
}

static void no_more_holders_yield_than_others_wait(void **state)
{
    struct limits *l = limits_create();
    struct permit_pool *p = permit_pool(l, "x", 3);
    struct permit_waiter mine, other;
    struct inbox inbox;
    struct doorbell bell;

    (void)state;
    doorbell_init(&bell);
    inbox_init(&inbox, NULL, doorbell_ring, &bell);
    permit_waiter_init(&mine, &inbox, ignore_note);
    permit_waiter_init(&other, &inbox, ignore_note);
    for (int i = 0; i < 3; i++)
        assert_true(permit_take(p, NULL));
    assert_false(permit_yield(p, &mine));
    assert_false(permit_take(p, &mine));
    assert_false(permit_yield(p, &mine)); /* nobody gives way to himself */
    assert_false(permit_take(p, &other));
    assert_true(permit_yield(p, &mine));
    assert_false(permit_yield(p, &mine)); /* one waits, one yields */
    permit_give(p);                       /* it went to who waited longer */
    assert_true(permit_yield(p, &mine));
    permit_give(p);
    assert_false(permit_yield(p, &mine));
    permit_cancel(p, &mine);
    permit_cancel(p, &other);
    inbox_drain(&inbox);
    doorbell_fini(&bell);
    limits_destroy(l);
}

/* ---- clients ---- */

static void an_address_of_ipv6_is_known_by_its_network(void **state)
{
    static const struct {
        const char *address, *key;
    } rows[] = {
        {"192.0.2.7", "ip:192.0.2.7"},
        {"2001:db8:1:2:3:4:5:6", "ip:2001:db8:1:2::/64"},
        {"2001:db8:1:2::1", "ip:2001:db8:1:2::/64"},
        {"::1", "ip:::/64"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char key[CLIENT_KEY_BYTES];
        struct ip ip;
        assert_true(ip_parse(bytes_of(rows[i].address), &ip));
        assert_string_equal(client_key_of(&ip, key), rows[i].key);
    }
}

/* T31 */
static void who_guesses_is_stopped_and_nobody_else_is_locked_out(void **state)
{
    const struct client_limits limits = {.auth_failures_per_minute = 3}, none = {0};
    struct limits *l = limits_create();
    uint64_t now = 1000000;

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        assert_true(client_may_authenticate(l, "ip:a", "shop", &limits, now));
        client_auth_failed(l, "ip:a", "shop", now);
    }
    assert_false(client_may_authenticate(l, "ip:a", NULL, &limits, now));
    assert_false(client_may_authenticate(l, "ip:a", "other", &limits, now));
    assert_true(client_may_authenticate(l, "ip:a", "shop", &none, now));
    /* Another address has one try at a name that is being guessed at, and as many as ever at others. */
    assert_true(client_may_authenticate(l, "ip:b", NULL, &limits, now));
    assert_true(client_may_authenticate(l, "ip:b", "shop", &limits, now));
    client_auth_failed(l, "ip:b", "shop", now);
    assert_true(client_may_authenticate(l, "ip:b", NULL, &limits, now));
    assert_false(client_may_authenticate(l, "ip:b", "shop", &limits, now));
    assert_true(client_may_authenticate(l, "ip:b", "other", &limits, now));
    assert_true(client_may_authenticate(l, "ip:c", "shop", &limits, now));
    /* Names are counted whether or not there is such an account, and a minute heals. */
    now += 120000;
    assert_true(client_may_authenticate(l, "ip:a", "shop", &limits, now));
    assert_true(client_may_authenticate(l, "ip:b", "shop", &limits, now));
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
        cmocka_unit_test(who_books_has_his_turn_and_the_rate_stays_exact),
        cmocka_unit_test(what_is_booked_by_one_rule_waits_for_the_others_too),
        cmocka_unit_test(what_is_given_up_is_free_at_once),
        cmocka_unit_test(who_stands_in_the_line_comes_before_who_comes_later),
        cmocka_unit_test(a_line_is_short_and_who_finds_it_full_comes_later),
        cmocka_unit_test(many_threads_together_get_one_rate),
        cmocka_unit_test(many_threads_never_hold_more_than_the_pool_has),
        cmocka_unit_test(a_permit_refused_without_a_place_in_the_queue_is_wanted),
        cmocka_unit_test(no_more_holders_yield_than_others_wait),
        cmocka_unit_test(an_address_of_ipv6_is_known_by_its_network),
        cmocka_unit_test(who_guesses_is_stopped_and_nobody_else_is_locked_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
