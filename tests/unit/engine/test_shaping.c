/* What is imposed on a site: it begins, it holds, it comes back in steps, it ends, it is kept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "engine/shaping_priv.h"

#define T0 UINT64_C(1000000)

static const struct shaped_load no_load;
static const struct shaping_filter everything;
static const struct group_adaptive adaptive = {ADAPTIVE_ON, 10, 50, 10, 50, 60, 1, 0.1};

struct bench {
    struct shaping *all;
    struct shaped *s;
    struct outcome why;
};

static struct bench begin(void)
{
    struct bench b = {.all = shaping_create()};

    b.s = shaped_get(b.all, "g", "mx.example:25");
    outcome_from_reply(&b.why, STAGE_MAIL, 421, bytes_of("4.7.0 too many"));
    return b;
}

static void end(struct bench *b, unsigned connections, uint64_t now)
{
    while (connections--)
        shaped_give_connection(b->s);
    shaped_put(b->s);
    shaping_tick(b->all, now);
    shaping_destroy(b->all);
}

/* The events in force, newest first. */
static json_t *events(struct bench *b, uint64_t now)
{
    return shaping_json(b->all, &everything, 100, now, NULL);
}

static size_t count_events(struct bench *b, uint64_t now)
{
    size_t total = 0;

    json_decref(shaping_json(b->all, &everything, 0, now, &total));
    return total;
}

static const char *text_of(const json_t *list, size_t i, const char *key)
{
    return json_string_value(json_object_get(json_array_get(list, i), key));
}

static json_int_t number_of(const json_t *list, size_t i, const char *key)
{
    return json_integer_value(json_object_get(json_array_get(list, i), key));
}

/* How many more connections are to be had. */
static unsigned take_all(struct shaped *s, unsigned most, uint64_t now)
{
    unsigned n = 0;

    while (n < most && shaped_take_connection(s, "me", now))
        n++;
    return n;
}

static void without_a_rule_nothing_is_limited(void **state)
{
    struct bench b = begin();

    assert_int_equal(take_all(b.s, 500, T0), 500);
    assert_int_equal(shaped_take_message(b.s, T0), 0);
    assert_int_equal(shaped_suspended_until_ms(b.s), 0);
    assert_false(shaped_has_too_many(b.s, T0));
    end(&b, 500, T0);
}

static void a_limit_of_connections_holds_to_its_end(void **state)
{
    struct bench b = begin();
    const struct reply_rule rule = {.line = 7, .limit_connections = 3, .for_s = 60};

    assert_int_equal(take_all(b.s, 10, T0), 10);
    assert_true(shaped_apply(b.s, &rule, &no_load, &b.why, T0));
    assert_false(shaped_apply(b.s, &rule, &no_load, &b.why, T0 + 10)); /* no news */
    assert_true(shaped_has_too_many(b.s, T0 + 10));
    assert_int_equal(take_all(b.s, 10, T0 + 10), 0);
    for (int i = 0; i < 8; i++)
        shaped_give_connection(b.s);
    assert_false(shaped_has_too_many(b.s, T0 + 10));
    assert_int_equal(take_all(b.s, 10, T0 + 2000), 1);
    json_t *list = events(&b, T0 + 2000);
    assert_int_equal(json_array_size(list), 1);
    assert_string_equal(text_of(list, 0, "what"), "connections");
    assert_string_equal(text_of(list, 0, "by"), "rule");
    assert_int_equal(number_of(list, 0, "line"), 7);
    assert_int_equal(number_of(list, 0, "value"), 3);
    assert_int_equal(number_of(list, 0, "code"), 421);
    assert_int_equal(number_of(list, 0, "seconds_left"), 58);
    assert_string_equal(text_of(list, 0, "text"), "too many");
    assert_string_equal(text_of(list, 0, "mx"), "mx.example");
    json_decref(list);
    assert_int_equal(take_all(b.s, 10, T0 + 59000), 0);
    assert_int_equal(take_all(b.s, 10, T0 + 61000), 10);
    assert_int_equal(count_events(&b, T0 + 61000), 0);
    end(&b, 13, T0 + 61000);
}

static void the_lower_limit_of_two_rules_stays(void **state)
{
    struct bench b = begin();
    const struct reply_rule two = {.limit_connections = 2, .for_s = 60},
                            five = {.limit_connections = 5, .for_s = 600};

    assert_true(shaped_apply(b.s, &five, &no_load, &b.why, T0));
    assert_true(shaped_apply(b.s, &two, &no_load, &b.why, T0));
    assert_false(shaped_apply(b.s, &five, &no_load, &b.why, T0));
    assert_int_equal(take_all(b.s, 10, T0), 2);
    end(&b, 2, T0);
}

static void a_storm_halves_once_and_what_was_halved_comes_back_in_steps(void **state)
{
    struct bench b = begin();
    const struct reply_rule rule = {.back_off_s = 60};
    unsigned held;

    assert_int_equal(take_all(b.s, 16, T0), 16);
    assert_true(shaped_apply(b.s, &rule, &no_load, &b.why, T0));
    for (int i = 0; i < 50; i++)
        assert_false(shaped_apply(b.s, &rule, &no_load, &b.why, T0 + i));
    for (held = 16; held > 0; held--)
        shaped_give_connection(b.s);
    held += take_all(b.s, 20, T0 + 100);
    assert_int_equal(held, 8);
    assert_true(shaped_apply(b.s, &rule, &no_load, &b.why, T0 + 10000)); /* still too many */
    for (; held > 0; held--)
        shaped_give_connection(b.s);
    held += take_all(b.s, 20, T0 + 10000);
    assert_int_equal(held, 4);
    held += take_all(b.s, 20, T0 + 69000);
    assert_int_equal(held, 4);
    held += take_all(b.s, 20, T0 + 71000);
    assert_int_equal(held, 8);
    held += take_all(b.s, 20, T0 + 131000); /* the third step would be what it had: no limit any more */
    assert_int_equal(held, 28);
    end(&b, held, T0 + 140000);
}

static void one_connection_is_always_left(void **state)
{
    struct bench b = begin();
    const struct reply_rule rule = {.back_off_s = 60};

    for (uint64_t i = 0; i < 10; i++)
        (void)shaped_apply(b.s, &rule, &no_load, &b.why, T0 + i * 6000);
    assert_int_equal(take_all(b.s, 10, T0 + 60000), 1);
    end(&b, 1, T0 + 60000);
}

static void a_connection_that_was_refused_is_kept_for_who_asked(void **state)
{
    struct bench b = begin();
    const struct reply_rule rule = {.limit_connections = 1, .for_s = 60};

    (void)shaped_apply(b.s, &rule, &no_load, &b.why, T0);
    assert_true(shaped_take_connection(b.s, "a", T0));
    assert_false(shaped_take_connection(b.s, "b", T0));
    assert_true(shaped_is_wanted(b.s, "a", T0));
    assert_false(shaped_is_wanted(b.s, "b", T0));
    shaped_give_connection(b.s);
    assert_false(shaped_take_connection(b.s, "a", T0 + 100));
    assert_true(shaped_take_connection(b.s, "b", T0 + 100));
    shaped_give_connection(b.s);
    assert_true(shaped_take_connection(b.s, "a", T0 + 200));
    assert_false(shaped_take_connection(b.s, "a", T0 + 200));
    end(&b, 1, T0 + 200);
}

static void a_slow_rate_is_even_and_exact(void **state)
{
    struct bench b = begin();
    const struct reply_rule rule = {.slow_to = 4, .for_s = 60};
    unsigned sent = 0;

    assert_true(shaped_apply(b.s, &rule, &no_load, &b.why, T0));
    assert_true(shaped_is_slow(b.s, T0));
    for (uint64_t now = T0; now <= T0 + 20000;) {
        uint32_t wait = shaped_message_wait(b.s, now);

        assert_true(wait <= 250);
        assert_int_equal(shaped_take_message(b.s, now), wait);
        if (wait)
            now += wait;
        else
            sent++;
    }
    assert_int_equal(sent, 80);
    assert_int_equal(shaped_take_message(b.s, T0 + 61000), 0);
    assert_false(shaped_is_slow(b.s, T0 + 61000));
    end(&b, 0, T0 + 61000);
}

static void what_is_in_force_outlives_its_users_until_its_time_is_up_or_it_is_cleared(void **state)
{
    struct bench b = begin();
    const struct reply_rule rule = {.suspend_s = 100};

    assert_true(shaped_apply(b.s, &rule, &no_load, &b.why, T0));
    shaped_put(b.s);
    shaping_tick(b.all, T0 + 50000);
    b.s = shaped_get(b.all, "g", "mx.example:25");
    assert_int_equal(shaped_suspended_until_ms(b.s), T0 + 100000);
    assert_int_equal(shaped_clear(b.s, false, "by hand"), 1);
    assert_int_equal(shaped_suspended_until_ms(b.s), 0);
    assert_true(shaped_apply(b.s, &rule, &no_load, &b.why, T0 + 50000));
    shaped_put(b.s);
    shaping_tick(b.all, T0 + 150001);
    b.s = shaped_get(b.all, "g", "mx.example:25");
    assert_int_equal(shaped_suspended_until_ms(b.s), 0);
    assert_int_equal(count_events(&b, T0 + 150001), 0);
    end(&b, 0, T0 + 300000);
}

static void a_rules_limit_outlasts_a_storm_that_was_below_it(void **state)
{
    struct bench b = begin();
    const struct reply_rule four = {.limit_connections = 4, .for_s = 600}, halve = {.back_off_s = 60};

    assert_true(shaped_apply(b.s, &four, &no_load, &b.why, T0));
    assert_int_equal(take_all(b.s, 10, T0), 4);
    assert_true(shaped_apply(b.s, &halve, &no_load, &b.why, T0));
    assert_int_equal(count_events(&b, T0), 2);
    for (int i = 0; i < 4; i++)
        shaped_give_connection(b.s);
    assert_int_equal(take_all(b.s, 10, T0 + 1000), 2);
    assert_int_equal(take_all(b.s, 10, T0 + 61000), 2); /* the storm is over, the rule is not */
    assert_int_equal(count_events(&b, T0 + 61000), 1);
    end(&b, 4, T0 + 700000);
}

static unsigned slow_replies(struct bench *b, unsigned count, uint32_t seen, const struct shaped_load *load,
                             uint64_t now)
{
    unsigned steps = 0;

    for (unsigned i = 0; i < count; i++)
        steps += shaped_slow_reply(b->s, &adaptive, seen, load, &b->why, now + i);
    return steps;
}

static void a_storm_is_so_many_slow_replies_and_such_a_share_in_a_window(void **state)
{
    struct bench b = begin();

    assert_int_equal(take_all(b.s, 8, T0), 8);
    assert_int_equal(slow_replies(&b, 9, 1, &no_load, T0), 0);
    assert_int_equal(slow_replies(&b, 9, 1, &no_load, T0 + 10100), 0);  /* another window */
    assert_int_equal(slow_replies(&b, 50, 3, &no_load, T0 + 20300), 0); /* a third of all */
    assert_int_equal(slow_replies(&b, 10, 2, &no_load, T0 + 40000), 1);
    json_t *list = events(&b, T0 + 40100);
    assert_int_equal(json_array_size(list), 1);
    assert_string_equal(text_of(list, 0, "by"), "adaptive");
    assert_int_equal(number_of(list, 0, "value"), 4);
    json_decref(list);
    end(&b, 8, T0 + 500000);
}

static void a_storm_that_goes_on_at_one_connection_slows_the_messages(void **state)
{
    struct bench b = begin();
    const struct shaped_load load = {.measured = 40};

    assert_int_equal(take_all(b.s, 2, T0), 2);
    assert_int_equal(slow_replies(&b, 10, 1, &load, T0), 1);
    assert_false(shaped_is_slow(b.s, T0 + 100));
    shaped_give_connection(b.s);
    assert_int_equal(slow_replies(&b, 10, 1, &load, T0 + 6000), 1);
    assert_true(shaped_is_slow(b.s, T0 + 6100));
    json_t *list = events(&b, T0 + 6100);
    assert_int_equal(json_array_size(list), 2);
    assert_string_equal(text_of(list, 0, "what"), "messages_per_second");
    assert_true(json_real_value(json_object_get(json_array_get(list, 0), "value")) == 20.0);
    assert_int_equal(number_of(list, 1, "value"), 1);
    json_decref(list);
    assert_int_equal(slow_replies(&b, 10, 1, &load, T0 + 12000), 1); /* 10 a second */
    assert_false(shaped_take_message(b.s, T0 + 13000));
    assert_in_range(shaped_take_message(b.s, T0 + 13000), 0, 100);
    assert_true(shaped_is_slow(b.s, T0 + 73000));
    shaping_tick(b.all, T0 + 73000);
    assert_false(shaped_is_slow(b.s, T0 + 133000)); /* 20, then 40: what it was */
    end(&b, 1, T0 + 140000);
}

static void where_a_rate_is_in_force_a_storm_slows_it_too(void **state)
{
    struct bench b = begin();
    const struct shaped_load load = {.allowed = 10, .measured = 30};

    assert_int_equal(take_all(b.s, 8, T0), 8);
    assert_int_equal(slow_replies(&b, 10, 1, &load, T0), 1);
    json_t *list = events(&b, T0);
    assert_int_equal(json_array_size(list), 2);
    assert_true(json_real_value(json_object_get(json_array_get(list, 0), "value")) == 5.0);
    json_decref(list);
    end(&b, 8, T0 + 500000);
}

static void refused_connections_leave_those_that_stand(void **state)
{
    struct bench b = begin();

    assert_int_equal(take_all(b.s, 12, T0), 12);
    for (int i = 0; i < 8; i++) {
        assert_true(shaped_refused(b.s, &adaptive, &no_load, &b.why, T0 + (uint64_t)i));
        shaped_give_connection(b.s);
    }
    assert_int_equal(take_all(b.s, 12, T0 + 100), 0);
    json_t *list = events(&b, T0 + 100);
    assert_int_equal(json_array_size(list), 1);
    assert_int_equal(number_of(list, 0, "value"), 4);
    json_decref(list);
    assert_int_equal(take_all(b.s, 12, T0 + 61000), 4);
    end(&b, 8, T0 + 200000);
}

/* Sixteen stand; of those that are opened then, all are refused. */
static void a_storm_of_refused_connections_halves_and_a_single_one_does_not(void **state)
{
    struct bench b = begin();

    assert_int_equal(take_all(b.s, 16, T0), 16);
    for (int i = 0; i < 16; i++)
        shaped_session_stands(b.s);
    assert_int_equal(take_all(b.s, 1, T0 + 20000), 1);
    assert_true(shaped_refused(b.s, &adaptive, &no_load, &b.why, T0 + 20000));
    shaped_give_connection(b.s);
    json_t *list = events(&b, T0 + 20000);
    assert_int_equal(number_of(list, 0, "value"), 16);
    json_decref(list);
    for (int i = 0; i < 2; i++) { /* two ended meanwhile */
        shaped_session_ended(b.s);
        shaped_give_connection(b.s);
    }
    assert_int_equal(take_all(b.s, 16, T0 + 21000), 2);
    assert_true(shaped_refused(b.s, &adaptive, &no_load, &b.why, T0 + 21000));
    shaped_give_connection(b.s);
    assert_false(shaped_refused(b.s, &adaptive, &no_load, &b.why, T0 + 21000)); /* of the same storm */
    shaped_give_connection(b.s);
    list = events(&b, T0 + 21000);
    assert_int_equal(json_array_size(list), 1);
    assert_int_equal(number_of(list, 0, "value"), 8);
    json_decref(list);
    assert_true(shaped_has_too_many(b.s, T0 + 21000));
    list = events(&b, T0 + 81000); /* a minute without another */
    assert_int_equal(json_array_size(list), 1);
    assert_int_equal(number_of(list, 0, "value"), 16);
    json_decref(list);
    assert_int_equal(count_events(&b, T0 + 141000), 0);
    end(&b, 14, T0 + 200000);
}

static void few_refusals_among_many_connections_are_no_storm(void **state)
{
    struct bench b = begin();

    assert_int_equal(take_all(b.s, 20, T0), 20);
    for (int i = 0; i < 15; i++)
        shaped_session_stands(b.s);
    for (int i = 0; i < 2; i++) {
        assert_true(shaped_refused(b.s, &adaptive, &no_load, &b.why, T0 + 10));
        shaped_give_connection(b.s);
    }
    json_t *list = events(&b, T0 + 10);
    assert_int_equal(number_of(list, 0, "value"), 18);
    json_decref(list);
    assert_true(shaped_refused(b.s, &adaptive, &no_load, &b.why, T0 + 11)); /* three of five */
    list = events(&b, T0 + 11);
    assert_int_equal(number_of(list, 0, "value"), 10);
    json_decref(list);
    end(&b, 18, T0 + 200000);
}

/* One asker makes one holder give way, once. */
static void who_is_limited_and_has_work_for_ever_gives_way_to_who_waits(void **state)
{
    struct bench b = begin();
    const struct reply_rule rule = {.limit_connections = 2, .for_s = 60};

    (void)shaped_apply(b.s, &rule, &no_load, &b.why, T0);
    assert_int_equal(take_all(b.s, 5, T0), 2);
    assert_false(shaped_yield(b.s, "me", T0 + 3000)); /* nobody waits but itself */
    assert_false(shaped_take_connection(b.s, "you", T0 + 3000));
    assert_true(shaped_yield(b.s, "me", T0 + 3010));
    assert_false(shaped_yield(b.s, "me", T0 + 3010));
    shaped_give_connection(b.s);
    assert_false(shaped_take_connection(b.s, "me", T0 + 3020));
    assert_true(shaped_take_connection(b.s, "you", T0 + 3030));
    assert_false(shaped_take_connection(b.s, "me", T0 + 3040));
    assert_true(shaped_yield(b.s, "you", T0 + 3050)); /* and back */
    end(&b, 2, T0 + 200000);
}

static void events_are_cleared_by_number_group_or_host(void **state)
{
    struct bench b = begin();
    const struct reply_rule rule = {.suspend_s = 100, .limit_connections = 2, .for_s = 100};
    struct shaped *other = shaped_get(b.all, "h", "mx2.example:25,mx3.example:25");

    (void)shaped_apply(b.s, &rule, &no_load, &b.why, T0);
    (void)shaped_apply(other, &rule, &no_load, &b.why, T0);
    assert_true(shaping_host_put(b.all, "192.0.2.1:25", "mx3.example", "h", HOST_OUT_OF_STEP, &b.why));
    assert_false(shaping_host_put(b.all, "192.0.2.1:25", "mx3.example", "h", HOST_OUT_OF_STEP, &b.why));
    assert_int_equal(count_events(&b, T0), 5);
    assert_int_equal(shaping_clear(b.all, &(struct shaping_filter){.id = 1}, "me", T0, NULL, NULL), 1);
    assert_int_equal(shaping_clear(b.all, &(struct shaping_filter){.id = 1}, "me", T0, NULL, NULL), 0);
    assert_int_equal(shaping_clear(b.all, &(struct shaping_filter){.group = "x"}, "me", T0, NULL, NULL), 0);
    assert_int_equal(shaping_clear(b.all, &(struct shaping_filter){.group = "g"}, "me", T0, NULL, NULL), 1);
    const struct shaping_filter one_of_two = {.group = "h", .hosts = "mx2.example:25", .same_set = true},
                                both = {
                                    .group = "h", .hosts = "mx3.example:25,mx2.example:25", .same_set = true};
    size_t total;
    json_decref(shaping_json(b.all, &one_of_two, 9, T0, &total));
    assert_int_equal(total, 0);
    json_decref(shaping_json(b.all, &both, 9, T0, &total));
    assert_int_equal(total, 3);
    assert_int_equal(shaping_clear(b.all, &(struct shaping_filter){.group = "h", .hosts = "mx.example:25"},
                                   "me", T0, NULL, NULL),
                     0);
    assert_int_equal(shaping_clear(b.all,
                                   &(struct shaping_filter){.group = "h", .hosts = "a:25,mx3.example:25"},
                                   "me", T0, NULL, NULL),
                     3);
    assert_false(shaping_host_is(b.all, "192.0.2.1:25", HOST_OUT_OF_STEP));
    assert_int_equal(count_events(&b, T0), 0);
    shaped_put(other);
    end(&b, 0, T0);
}

static void an_event_that_was_kept_goes_on_where_time_has_brought_it(void **state)
{
    const struct event_kept fewer = {
        .event = {.since_unix = 1000,
                  .value = 4,
                  .full = 32,
                  .step_ms = 60000,
                  .keep = 50,
                  .code = 421,
                  .line = 3,
                  .stage = STAGE_DOT,
                  .enhanced = "4.7.0",
                  .text = "zu viel \xc3\xbc"},
        .what = SHAPED_FEWER,
        .group = "g",
        .hosts = "mx.example:25",
        .until_unix_ms = 2000000,
    };
    static const struct {
        int64_t now_unix_ms;
        bool holds;
        double value;
        uint64_t left_ms;
    } rows[] = {{1990000, true, 4, 10000},
                {2000000, true, 8, 60000},
                {2090000, true, 16, 30000},
                {2120000, false, 0, 0}};
    struct buf text = {0};
    struct event_kept k;
    uint64_t left;

    event_kept_put(&text, &fewer);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        json_t *json = event_kept_parse(buf_bytes(&text), 9, &k);
        assert_non_null(json);
        assert_int_equal(k.event.id, 9);
        assert_string_equal(k.event.text, fewer.event.text);
        assert_string_equal(k.hosts, "mx.example:25");
        assert_int_equal(event_kept_resume(&k, rows[i].now_unix_ms, &left), rows[i].holds);
        if (rows[i].holds) {
            assert_true(k.event.value == rows[i].value);
            assert_int_equal(left, rows[i].left_ms);
        }
        json_decref(json);
    }
    buf_fini(&text);
}

struct undone {
    int count;
    enum shaping_subject kind;
    char name[64];
    double full;
};

static void on_undo(void *arg, enum shaping_subject kind, const char *group, const char *name, double full)
{
    struct undone *u = arg;

    assert_string_equal(group, kind == SUBJECT_WARMUP ? "g" : "");
    u->count++;
    u->kind = kind;
    snprintf(u->name, sizeof(u->name), "%s", name);
    u->full = full;
}

static void a_warm_up_and_a_campaign_are_events_that_their_owner_takes_back(void **state)
{
    struct bench b = begin();
    struct undone undone = {0};
    struct subject_change warm = {.group = "g",
                                  .name = "192.0.2.9",
                                  .value = 2,
                                  .full = 3,
                                  .left_ms = 60000,
                                  .why = &b.why,
                                  .detail = "9 of 10 refused",
                                  .policy_version = 7};
    const struct subject_change campaign = {.group = "", .name = "spring", .why = &b.why, .detail = "bad"};
    struct buf out = {0};
    double full;
    size_t at = 0, total;
    (void)state;

    shaping_subject_put(b.all, SUBJECT_WARMUP, &warm, T0);
    shaping_subject_put(b.all, SUBJECT_CAMPAIGN, &campaign, T0);
    warm.value = 1;
    warm.full = 2;
    warm.why = NULL;
    shaping_subject_put(b.all, SUBJECT_WARMUP, &warm, T0); /* the same event: where it came from stays */
    assert_true(shaping_subject_is(b.all, SUBJECT_WARMUP, "g", "192.0.2.9", &full) && full == 3);
    assert_false(shaping_subject_is(b.all, SUBJECT_WARMUP, "h", "192.0.2.9", &full));
    assert_false(shaping_subject_is(b.all, SUBJECT_CAMPAIGN, "g", "192.0.2.9", &full));

    json_t *list = events(&b, T0 + 1000);
    assert_int_equal(json_array_size(list), 2);
    assert_string_equal(text_of(list, 0, "what"), "campaign_paused");
    assert_string_equal(text_of(list, 0, "campaign"), "spring");
    assert_string_equal(text_of(list, 0, "by"), "guard");
    assert_null(json_object_get(json_array_get(list, 0), "until_unix"));
    assert_string_equal(text_of(list, 1, "what"), "warmup_step");
    assert_string_equal(text_of(list, 1, "source"), "192.0.2.9");
    assert_string_equal(text_of(list, 1, "detail"), "9 of 10 refused");
    assert_string_equal(text_of(list, 1, "text"), b.why.text);
    assert_int_equal(number_of(list, 1, "value"), 1);
    assert_int_equal(number_of(list, 1, "returns_to"), 3);
    assert_int_equal(number_of(list, 1, "seconds_left"), 59);
    json_decref(list);
    list = events(&b, T0 + 60001); /* something goes again; the step is still the lower one */
    assert_null(json_object_get(json_array_get(list, 1), "until_unix"));
    json_decref(list);

    const struct shaping_filter set = {.group = "g", .hosts = "a:25", .same_set = true},
                                hosts = {.group = "g", .hosts = "a:25"}, other = {.group = "h"};
    json_decref(shaping_json(b.all, &set, 9, T0, &total));
    assert_int_equal(total, 1);
    json_decref(shaping_json(b.all, &hosts, 9, T0, &total));
    assert_int_equal(total, 0);
    json_decref(shaping_json(b.all, &other, 9, T0, &total));
    assert_int_equal(total, 0);
    shaping_metrics(b.all, T0, &out);
    assert_non_null(strstr(buf_str(&out), "in_force{group=\"g\",what=\"warmup_step\"} 1\n"));
    assert_non_null(strstr(buf_str(&out), "begun_total{what=\"campaign_paused\",by=\"adaptive\"} 1\n"));
    buf_fini(&out);

    char *name = shaping_subject_next(b.all, SUBJECT_CAMPAIGN, &at);
    assert_string_equal(name, "spring");
    mem_free(name);
    assert_null(shaping_subject_next(b.all, SUBJECT_CAMPAIGN, &at));
    assert_int_equal(shaping_clear(b.all, &(struct shaping_filter){.id = 1}, "me", T0, on_undo, &undone), 1);
    assert_int_equal(undone.kind, SUBJECT_WARMUP);
    assert_string_equal(undone.name, "192.0.2.9");
    assert_true(undone.full == 3 && undone.count == 1);
    assert_int_equal(shaping_clear(b.all, &everything, "me", T0, on_undo, &undone), 1);
    assert_string_equal(undone.name, "spring");
    assert_int_equal(undone.count, 2);
    shaping_subject_put(b.all, SUBJECT_CAMPAIGN, &campaign, T0);
    shaping_subject_end(b.all, SUBJECT_CAMPAIGN, "", "spring", "resumed");
    shaping_subject_end(b.all, SUBJECT_CAMPAIGN, "", "spring", "there is none");
    assert_int_equal(count_events(&b, T0), 0);
    end(&b, 0, T0);
}

static void a_warm_up_that_was_kept_ends_by_its_owner_and_not_by_the_clock(void **state)
{
    const struct event_kept warm = {.event = {.since_unix = 1000, .value = 2, .full = 3, .code = 450},
                                    .what = SHAPED_WHATS + SHAPED_HOST_WHATS + SUBJECT_WARMUP,
                                    .group = "g",
                                    .name = "192.0.2.9",
                                    .detail = "9 of 10",
                                    .until_unix_ms = 2000000};
    static const struct {
        int64_t now_unix_ms;
        uint64_t left_ms;
    } rows[] = {{1990000, 10000}, {2000000, 0}, {9000000, 0}};
    struct buf text = {0};
    struct event_kept k;
    uint64_t left;
    (void)state;

    event_kept_put(&text, &warm);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        json_t *json = event_kept_parse(buf_bytes(&text), 9, &k);
        assert_non_null(json);
        assert_string_equal(k.name, "192.0.2.9");
        assert_string_equal(k.detail, "9 of 10");
        assert_true(event_kept_resume(&k, rows[i].now_unix_ms, &left));
        assert_int_equal(left, rows[i].left_ms);
        assert_true(k.event.value == 2 && k.event.full == 3);
        json_decref(json);
    }
    buf_fini(&text);
}

static void what_is_no_event_is_not_taken_for_one(void **state)
{
#define REST                                                                                                 \
    "\"group\":\"g\",\"since\":1,\"full\":0,\"keep\":50,\"step\":0,\"line\":0,\"file\":\"\",\"version\":1,"  \
    "\"stage\":8,"                                                                                           \
    "\"code\":421,\"enhanced\":\"\",\"text\":\"\""
    static const struct {
        const char *text;
        bool good;
    } rows[] = {
        {"{\"what\":\"limited\",\"hosts\":\"a:25\",\"until\":5,\"value\":2," REST "}", true},
        {"{\"what\":\"out-of-step\",\"remote\":\"192.0.2.1:25\",\"mx\":\"a\",\"value\":0," REST "}", true},
        {"{\"what\":\"limited\",\"hosts\":\"a:25\",\"value\":2," REST "}", false},             /* no end */
        {"{\"what\":\"limited\",\"hosts\":\"a:25\",\"until\":5,\"value\":0," REST "}", false}, /* no limit */
        {"{\"what\":\"limited\",\"hosts\":\"a:25\",\"until\":5,\"value\":-1," REST "}", false},
        {"{\"what\":\"limited\",\"hosts\":\"a:25\",\"until\":5,\"value\":1e300," REST "}", false},
        {"{\"what\":\"limited\",\"until\":5,\"value\":2," REST "}", false}, /* no hosts */
        {"{\"what\":\"other\",\"hosts\":\"a:25\",\"until\":5,\"value\":2," REST "}", false},
        {"{\"what\":\"limited\",\"hosts\":\"a:25\",\"until\":\"5\",\"value\":2," REST "}", false},
        {"{\"what\":\"campaign\",\"name\":\"c\",\"detail\":\"\",\"value\":0," REST "}", true},
        {"{\"what\":\"campaign\",\"name\":\"\",\"detail\":\"\",\"value\":0," REST "}", false},
        {"{\"what\":\"warmup\",\"name\":\"192.0.2.9\",\"value\":2," REST "}", false}, /* no detail */
        {"[]", false},
        {"{", false},
        {"", false},
    };
    struct event_kept k;

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        json_t *json = event_kept_parse(bytes_of(rows[i].text), 1, &k);
        if ((json != NULL) != rows[i].good)
            fail_msg("row %zu", i);
        json_decref(json);
    }
}

struct crowd {
    struct shaped *s;
    atomic_uint open, most;
    atomic_bool stop;
    unsigned taken[4];
};
struct crowd_member {
    struct crowd *crowd;
    unsigned *taken;
};

static void *take_and_give(void *arg)
{
    struct crowd_member *m = arg;
    struct crowd *c = m->crowd;

    while (!atomic_load(&c->stop)) {
        if (!shaped_take_connection(c->s, m, T0 + 1))
            continue;
        unsigned open = atomic_fetch_add(&c->open, 1) + 1, most = atomic_load(&c->most);
        while (open > most && !atomic_compare_exchange_weak(&c->most, &most, open))
            ;
        (*m->taken)++;
        (void)shaped_take_message(c->s, T0 + 1);
        atomic_fetch_sub(&c->open, 1);
        shaped_give_connection(c->s);
    }
    return NULL;
}

static void a_limit_holds_for_all_threads_while_others_look_and_change(void **state)
{
    struct bench b = begin();
    struct crowd c = {.s = b.s};
    struct crowd_member members[4];
    const struct reply_rule two = {.line = 1, .limit_connections = 2, .for_s = 600},
                            rest = {.line = 2, .suspend_s = 60};
    pthread_t threads[4];
    struct buf out = {0};

    assert_true(shaped_apply(b.s, &two, &no_load, &b.why, T0));
    for (unsigned i = 0; i < COUNT_OF(threads); i++) {
        members[i] = (struct crowd_member){&c, &c.taken[i]};
        assert_int_equal(pthread_create(&threads[i], NULL, take_and_give, &members[i]), 0);
    }
    for (int i = 0; i < 300; i++) {
        (void)shaped_apply(b.s, &rest, &no_load, &b.why, T0);
        assert_int_equal(count_events(&b, T0 + 1), 2);
        shaping_tick(b.all, T0 + 1);
        buf_clear(&out);
        shaping_metrics(b.all, T0 + 1, &out);
        assert_int_equal(slow_replies(&b, 3, 9, &no_load, T0), 0);
        assert_int_equal(
            shaping_clear(b.all, &(struct shaping_filter){.id = (uint64_t)i + 2}, "me", T0 + 1, NULL, NULL),
            1);
    }
    atomic_store(&c.stop, true);
    for (unsigned i = 0; i < COUNT_OF(threads); i++)
        pthread_join(threads[i], NULL);
    assert_true(c.taken[0] + c.taken[1] + c.taken[2] + c.taken[3] > 0);
    assert_in_range(atomic_load(&c.most), 1, 2);
    buf_fini(&out);
    end(&b, 0, T0 + 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_rule_nothing_is_limited),
        cmocka_unit_test(a_limit_of_connections_holds_to_its_end),
        cmocka_unit_test(the_lower_limit_of_two_rules_stays),
        cmocka_unit_test(a_storm_halves_once_and_what_was_halved_comes_back_in_steps),
        cmocka_unit_test(one_connection_is_always_left),
        cmocka_unit_test(a_connection_that_was_refused_is_kept_for_who_asked),
        cmocka_unit_test(a_slow_rate_is_even_and_exact),
        cmocka_unit_test(what_is_in_force_outlives_its_users_until_its_time_is_up_or_it_is_cleared),
        cmocka_unit_test(a_rules_limit_outlasts_a_storm_that_was_below_it),
        cmocka_unit_test(a_storm_is_so_many_slow_replies_and_such_a_share_in_a_window),
        cmocka_unit_test(a_storm_that_goes_on_at_one_connection_slows_the_messages),
        cmocka_unit_test(where_a_rate_is_in_force_a_storm_slows_it_too),
        cmocka_unit_test(refused_connections_leave_those_that_stand),
        cmocka_unit_test(a_storm_of_refused_connections_halves_and_a_single_one_does_not),
        cmocka_unit_test(few_refusals_among_many_connections_are_no_storm),
        cmocka_unit_test(who_is_limited_and_has_work_for_ever_gives_way_to_who_waits),
        cmocka_unit_test(events_are_cleared_by_number_group_or_host),
        cmocka_unit_test(an_event_that_was_kept_goes_on_where_time_has_brought_it),
        cmocka_unit_test(a_warm_up_and_a_campaign_are_events_that_their_owner_takes_back),
        cmocka_unit_test(a_warm_up_that_was_kept_ends_by_its_owner_and_not_by_the_clock),
        cmocka_unit_test(what_is_no_event_is_not_taken_for_one),
        cmocka_unit_test(a_limit_holds_for_all_threads_while_others_look_and_change),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
