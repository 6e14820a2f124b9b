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

static void a_booking_is_taken_in_advance(void **state)
{
    static const struct pace_rule rule = {1, 10, 1};
    struct limits *l = limits_create();
    struct pace *p = pace_find(l, "connects:a");

    (void)state;
    assert_int_equal(pace_book(p, &rule, 1, START / 1000), 0);
    assert_in_range(pace_book(p, &rule, 1, START / 1000), 9900, 10000);
    assert_in_range(pace_book(p, &rule, 1, START / 1000), 19900, 20000);
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

static void a_new_limit_is_not_waited_for_behind_those_who_stood_in_line_by_the_old_one(void **state)
{
    struct limits *l = limits_create();
    struct permit_pool *p = permit_pool(l, "host:x", 1);
    uint32_t again;

    (void)state;
    assert_true(permit_take_in_line(p, "old", 0, &again));
    assert_false(permit_take_in_line(p, "old", 0, &again));
    permit_pool(l, "host:x", 1);
    assert_false(permit_take_in_line(p, "new", 1, &again)); /* the same limit: its place stays */
    permit_pool(l, "host:x", 2);
    assert_true(permit_take_in_line(p, "new", 2, &again));
    assert_false(permit_take_in_line(p, "new", 3, &again));
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
    assert_true(permit_take_in_line(busy, "a", 0, &again));
    for (int i = 0; i < 100000; i++) {
        snprintf(key, sizeof(key), "host:%d", i);
        struct permit_pool *p = permit_pool_open(l, key, 1);
        assert_true(permit_take_in_line(p, "a", 0, &again));
        permit_give(p);
        permit_pool_close(p);
    }
    assert_true(limits_pool_count(l) <= 4097);
    assert_ptr_equal(permit_pool(l, "group:x", 1), kept);
    assert_ptr_equal(permit_pool_open(l, "host:busy", 1), busy);
    assert_false(permit_take(kept, NULL, 0));
    assert_false(permit_take_in_line(busy, "b", 0, &again));
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
        cmocka_unit_test(a_booking_is_taken_in_advance),
        cmocka_unit_test(who_stands_in_the_line_comes_before_who_comes_later),
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
