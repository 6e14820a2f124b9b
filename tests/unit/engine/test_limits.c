#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>

#include "base/clock.h"
#include "base/macros.h"
#include "engine/limits.h"

static void who_stands_in_the_line_comes_before_who_comes_later(void **state)
{
    struct limits *l = limits_create();
    struct permit_pool *p = permit_pool(l, "source:x", 2);
    uint32_t again = 1;

    (void)state;
    assert_true(permit_take_in_line(p, "busy", NULL, 0, &again));
    assert_true(permit_take_in_line(p, "busy", NULL, 0, &again));
    assert_false(permit_yield_to_line(p, "busy", 0));
    assert_false(permit_take_in_line(p, "busy", NULL, 0, &again)); /* its own place costs it nothing */
    assert_false(permit_yield_to_line(p, "busy", 0));
    assert_int_equal(again, 0);
    assert_false(permit_take_in_line(p, "a", NULL, 10, &again));
    assert_false(permit_take_in_line(p, "b", NULL, 20, &again));
    assert_int_equal(again, 0); /* the first time: who has no work should hear of it */
    assert_false(permit_take_in_line(p, "a", NULL, 30, &again));
    assert_true(again > 0);
    assert_true(permit_yield_to_line(p, "busy", 40));
    assert_true(permit_yield_to_line(p, "busy", 40));
    assert_false(permit_yield_to_line(p, "busy", 40)); /* two wait, two yield */
    permit_give(p);
    assert_false(
        permit_take_in_line(p, "b", NULL, 50, &again)); /* behind a, and behind busy that asked before both */
    assert_false(permit_take_in_line(p, "a", NULL, 60, &again));
    assert_true(permit_take_in_line(p, "busy", NULL, 70, &again));
    permit_give(p);
    assert_false(permit_take_in_line(p, "busy", NULL, 80, &again));
    assert_true(permit_take_in_line(p, "a", NULL, 90, &again));
    permit_give(p);
    assert_false(permit_take_in_line(p, "busy", NULL, 100, &again));
    assert_true(permit_take_in_line(p, "busy", NULL, 1200, &again)); /* b has not asked for a second */
    limits_destroy(l);
}

static void of_a_line_as_many_are_told_as_there_are_permits_and_each_once_until_he_asks_again(void **state)
{
    struct limits *l = limits_create();
    struct permit_pool *p = permit_pool(l, "host:x", 2);
    int home_of_b;
    void *home = NULL;
    uint32_t again;

    (void)state;
    assert_null(permit_next_in_line(p, 0, &home)); /* nobody stands there */
    assert_true(permit_take_in_line(p, "busy", NULL, 0, &again));
    assert_true(permit_take_in_line(p, "busy", NULL, 0, &again));
    assert_false(permit_take_in_line(p, "a", NULL, 1, &again));
    assert_false(permit_take_in_line(p, "b", &home_of_b, 2, &again));
    assert_false(permit_take_in_line(p, "c", NULL, 3, &again));
    assert_null(permit_next_in_line(p, 4, &home)); /* nothing is free */
    permit_give(p);
    assert_string_equal(permit_next_in_line(p, 5, &home), "a");
    assert_null(home);
    assert_null(permit_next_in_line(p, 6, &home)); /* the one that is free is for the first alone */
    permit_give(p);
    assert_string_equal(permit_next_in_line(p, 7, &home), "b"); /* a was told, and has not come yet */
    assert_ptr_equal(home, &home_of_b);
    assert_null(permit_next_in_line(p, 8, &home));
    assert_true(permit_take_in_line(p, "b", &home_of_b, 9, &again));
    assert_false(permit_take_in_line(p, "c", NULL, 10, &again)); /* what is left is kept for a */
    assert_true(permit_take_in_line(p, "a", NULL, 11, &again));
    assert_false(permit_take_in_line(p, "a", NULL, 12, &again)); /* it wants another one, behind c */
    permit_give(p);
    assert_string_equal(permit_next_in_line(p, 13, &home), "c");
    permit_give(p);
    assert_string_equal(permit_next_in_line(p, 1011, &home), "a"); /* c has not asked for a second */
    assert_null(permit_next_in_line(p, 1011, &home));
    limits_destroy(l);
}

/* Who got one and soon has no work any more would keep it, idle, while those behind him in the line wait. */
static void as_long_as_more_stand_in_line_than_may_have_one_they_want_it(void **state)
{
    struct limits *l = limits_create();
    struct permit_pool *p = permit_pool(l, "host:x", 1);
    void *home;
    uint32_t again;

    (void)state;
    assert_true(permit_take_in_line(p, "a", NULL, 0, &again));
    assert_false(permit_take_in_line(p, "b", NULL, 1, &again));
    assert_false(permit_take_in_line(p, "c", NULL, 2, &again));
    assert_true(permit_is_wanted(p));
    permit_give(p);
    assert_string_equal(permit_next_in_line(p, 3, &home), "b");
    assert_true(permit_take_in_line(p, "b", NULL, 4, &again));
    assert_true(permit_is_wanted(p)); /* by c, which need not ask again for that */
    permit_give(p);
    assert_string_equal(permit_next_in_line(p, 5, &home), "c");
    assert_null(permit_next_in_line(p, 5, &home));
    assert_true(permit_take_in_line(p, "c", NULL, 6, &again));
    assert_false(permit_is_wanted(p)); /* nobody is left: it may idle */
    assert_false(permit_take_in_line(p, "d", NULL, 7, &again));
    permit_give(p);
    assert_null(permit_next_in_line(p, 1100, &home)); /* d has gone, and wants nothing */
    assert_false(permit_is_wanted(p));
    limits_destroy(l);
}

static void a_line_is_short_and_who_finds_it_full_comes_later(void **state)
{
    static const char names[40] = {0};
    struct limits *l = limits_create();
    struct permit_pool *p = permit_pool(l, "source:x", 1);
    uint32_t again;

    (void)state;
    assert_true(permit_take_in_line(p, "busy", NULL, 0, &again));
    for (int i = 0; i < 40; i++)
        assert_false(permit_take_in_line(p, &names[i], NULL, 1, &again));
    for (int turn = 0; turn < 24; turn++) {
        permit_give(p);
        int served = -1;
        for (int i = 39; i >= 0; i--) /* whoever asks first, the order of the line decides */
            if (i >= turn && permit_take_in_line(p, &names[i], NULL, 2 + (uint64_t)turn, &again)) {
                assert_int_equal(served, -1);
                served = i;
            }
        /* Behind those sixteen come others, as each found the place free that was left. */
        assert_int_equal(served, turn < 16 ? turn : 39 - (turn - 16));
    }
    limits_destroy(l);
}

static void a_new_limit_is_not_waited_for_behind_those_who_stood_in_line_by_the_old_one(void **state)
{
    struct limits *l = limits_create();
    struct permit_pool *p = permit_pool(l, "host:x", 1);
    uint32_t again;

    (void)state;
    assert_true(permit_take_in_line(p, "old", NULL, 0, &again));
    assert_false(permit_take_in_line(p, "old", NULL, 0, &again));
    permit_pool(l, "host:x", 1);
    assert_false(permit_take_in_line(p, "new", NULL, 1, &again)); /* the same limit: its place stays */
    permit_pool(l, "host:x", 2);
    assert_true(permit_take_in_line(p, "new", NULL, 2, &again));
    assert_false(permit_take_in_line(p, "new", NULL, 3, &again));
    limits_destroy(l);
}

static void hosts_that_nobody_uses_are_forgotten_and_those_in_use_keep_their_count(void **state)
{
    struct limits *l = limits_create();
    struct permit_pool *kept = permit_pool(l, "group:x", 1), *busy = permit_pool_open(l, "host:busy", 1);
    uint32_t again;
    char key[32];

    (void)state;
    assert_true(permit_take(kept, NULL, 0));
    assert_true(permit_take_in_line(busy, "a", NULL, 0, &again));
    for (int i = 0; i < 100000; i++) {
        snprintf(key, sizeof(key), "host:%d", i);
        struct permit_pool *p = permit_pool_open(l, key, 1);
        assert_true(permit_take_in_line(p, "a", NULL, 0, &again));
        permit_give(p);
        permit_pool_close(p);
    }
    assert_true(limits_pool_count(l) <= 4097);
    assert_ptr_equal(permit_pool(l, "group:x", 1), kept);
    assert_ptr_equal(permit_pool_open(l, "host:busy", 1), busy);
    assert_false(permit_take(kept, NULL, 0));
    assert_false(permit_take_in_line(busy, "b", NULL, 0, &again));
    limits_destroy(l);
}

/* ---- many threads ---- */

#define THREADS 8

struct taker {
    struct limits *limits;
    uint64_t until_us;
    unsigned taken, most;
    pthread_barrier_t *all_left;
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
        if (!permit_take(p, NULL, 0))
            continue;
        unsigned now = (unsigned)atomic_fetch_add(&holders, 1) + 1;
        t->most = MAX_OF(t->most, now);
        t->taken++;
        atomic_fetch_sub(&holders, 1);
        permit_give(p);
    }
    return NULL;
}

/* Each thread is a worker with sites of its own. */
struct worker_of_sites {
    struct pace_waiter waiters[3];
    struct pace *pace;
    struct taker *taker;
    bool over;
};

static const struct pace_rule two_thousand_a_second[] = {{2000, 1, 1}, {1000000, 60, 1}};

static void take_turns(struct worker_of_sites *w, struct pace_waiter *waiter)
{
    const double units[] = {1, 1};
    size_t which;

    while (!pace_turn(w->pace, waiter, 0, units, clock_now_us(), &which))
        w->taker->taken++;
}

static void on_turn_of_a_thread(struct note *note, void *owner)
{
    struct pace_waiter *waiter = CONTAINER_OF(note, struct pace_waiter, note);
    struct worker_of_sites *w = owner;

    pace_heard(w->pace, waiter);
    if (!w->over)
        take_turns(w, waiter);
}

static void *take_in_turn(void *arg)
{
    struct worker_of_sites w = {.taker = arg};
    struct doorbell bell;
    struct inbox inbox;

    w.pace = pace_find(w.taker->limits, "messages:x");
    doorbell_init(&bell);
    inbox_init(&inbox, &w, doorbell_ring, &bell);
    for (int i = 0; i < 3; i++)
        pace_waiter_init(&w.waiters[i], &inbox, on_turn_of_a_thread, two_thousand_a_second, 2);
    while (clock_now_us() < w.taker->until_us) {
        for (int i = 0; i < 3; i++)
            take_turns(&w, &w.waiters[i]);
        doorbell_wait(&bell, 1);
        inbox_drain(&inbox);
    }
    w.over = true;
    for (int i = 0; i < 3; i++)
        pace_leave(w.pace, &w.waiters[i], clock_now_us());
    pthread_barrier_wait(w.taker->all_left); /* from now on nobody is granted anything */
    inbox_drain(&inbox);
    doorbell_fini(&bell);
    return NULL;
}

static unsigned run_threads(void *(*run)(void *), uint64_t span_us, unsigned *most)
{
    struct limits *l = limits_create();
    struct taker takers[THREADS];
    pthread_t threads[THREADS];
    pthread_barrier_t all_left;
    unsigned sum = 0;

    *most = 0;
    pthread_barrier_init(&all_left, NULL, THREADS);
    for (int i = 0; i < THREADS; i++) {
        takers[i] = (struct taker){l, clock_now_us() + span_us, 0, 0, &all_left};
        assert_int_equal(pthread_create(&threads[i], NULL, run, &takers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        sum += takers[i].taken;
        *most = MAX_OF(*most, takers[i].most);
    }
    pthread_barrier_destroy(&all_left);
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

static void many_threads_in_a_queue_get_one_rate(void **state)
{
    uint64_t start = clock_now_us();
    unsigned most, sum = run_threads(take_in_turn, 500000, &most);
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
    assert_true(permit_take(p, NULL, 0));
    assert_false(permit_is_wanted(p));
    assert_false(permit_take(p, NULL, 0));
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
        assert_true(permit_take(p, NULL, 0));
    assert_false(permit_yield(p, &mine));
    assert_false(permit_take(p, &mine, 0));
    assert_false(permit_yield(p, &mine)); /* nobody gives way to himself */
    assert_false(permit_take(p, &other, 0));
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

static void ring_nothing(void *arg)
{
    (void)arg;
}

/* Ten sites of one campaign, one of another, one of high priority: who gets what is given back. */
static void permits_go_by_lanes_too(void **state)
{
    struct limits *l = limits_create();
    struct permit_pool *p = permit_pool(l, "x", 1);
    struct permit_waiter many[10], one, urgent;
    struct inbox inbox;

    (void)state;
    inbox_init(&inbox, NULL, ring_nothing, NULL);
    assert_true(permit_take(p, NULL, 0));
    for (int i = 0; i < 10; i++) {
        permit_waiter_init(&many[i], &inbox, ignore_note);
        assert_false(permit_take(p, &many[i], lane_of(PRIORITY_NORMAL, NULL, "large")));
    }
    permit_waiter_init(&one, &inbox, ignore_note);
    assert_false(permit_take(p, &one, lane_of(PRIORITY_NORMAL, NULL, "small")));
    permit_waiter_init(&urgent, &inbox, ignore_note);
    permit_give(p);
    assert_true(many[0].turn);
    assert_true(permit_take(p, &many[0], 0));
    assert_false(permit_take(p, &urgent, lane_of(PRIORITY_LOW, NULL, "bulk")));
    permit_urge(p, &urgent, lane_of(PRIORITY_HIGH, NULL, "code"));
    permit_give(p);
    assert_true(urgent.turn);
    assert_true(permit_take(p, &urgent, 0));
    permit_give(p);
    assert_true(one.turn);
    assert_true(permit_take(p, &one, 0));
    permit_give(p);
    assert_true(many[1].turn);
    for (int i = 0; i < 10; i++)
        permit_cancel(p, &many[i]);
    inbox_drain(&inbox);
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
        cmocka_unit_test(who_stands_in_the_line_comes_before_who_comes_later),
        cmocka_unit_test(of_a_line_as_many_are_told_as_there_are_permits_and_each_once_until_he_asks_again),
        cmocka_unit_test(as_long_as_more_stand_in_line_than_may_have_one_they_want_it),
        cmocka_unit_test(a_line_is_short_and_who_finds_it_full_comes_later),
        cmocka_unit_test(a_new_limit_is_not_waited_for_behind_those_who_stood_in_line_by_the_old_one),
        cmocka_unit_test(hosts_that_nobody_uses_are_forgotten_and_those_in_use_keep_their_count),
        cmocka_unit_test(many_threads_together_get_one_rate),
        cmocka_unit_test(many_threads_in_a_queue_get_one_rate),
        cmocka_unit_test(many_threads_never_hold_more_than_the_pool_has),
        cmocka_unit_test(a_permit_refused_without_a_place_in_the_queue_is_wanted),
        cmocka_unit_test(no_more_holders_yield_than_others_wait),
        cmocka_unit_test(permits_go_by_lanes_too),
        cmocka_unit_test(an_address_of_ipv6_is_known_by_its_network),
        cmocka_unit_test(who_guesses_is_stopped_and_nobody_else_is_locked_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
