/* What reply rules impose on a site: it begins, it holds, it ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/shaping.h"

#define T0 UINT64_C(1000000)

struct bench {
    struct shaping *all;
    struct shaped *s;
    struct outcome why;
};

static struct bench begin(void)
{
    struct bench b = {.all = shaping_create()};

    b.s = shaped_get(b.all, "g|mx.example:25|", T0);
    outcome_from_reply(&b.why, STAGE_MAIL, 421, bytes_of("4.7.0 too many"));
    return b;
}

static void end(struct bench *b, unsigned connections, uint64_t now)
{
    while (connections--)
        shaped_give_connection(b->s);
    shaped_put(b->all, b->s, now);
    shaping_destroy(b->all);
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
    struct shaped_view now[SHAPED_WHATS];

    assert_int_equal(take_all(b.s, 10, T0), 10);
    assert_true(shaped_apply(b.s, &rule, &b.why, T0));
    assert_false(shaped_apply(b.s, &rule, &b.why, T0 + 10)); /* no news */
    assert_true(shaped_has_too_many(b.s, T0 + 10));
    assert_int_equal(take_all(b.s, 10, T0 + 10), 0);
    for (int i = 0; i < 8; i++)
        shaped_give_connection(b.s);
    assert_false(shaped_has_too_many(b.s, T0 + 10));
    assert_int_equal(take_all(b.s, 10, T0 + 2000), 1);
    shaped_look(b.s, T0 + 2000, now);
    assert_int_equal(now[SHAPED_CONNECTIONS].line, 7);
    assert_int_equal(now[SHAPED_CONNECTIONS].code, 421);
    assert_string_equal(now[SHAPED_CONNECTIONS].text, "too many");
    assert_int_equal(take_all(b.s, 10, T0 + 59000), 0);
    assert_int_equal(take_all(b.s, 10, T0 + 61000), 10);
    shaped_look(b.s, T0 + 61000, now);
    assert_int_equal(now[SHAPED_CONNECTIONS].until_ms, 0);
    end(&b, 13, T0 + 61000);
}

static void the_lower_limit_of_two_rules_stays(void **state)
{
    struct bench b = begin();
    const struct reply_rule two = {.limit_connections = 2, .for_s = 60},
                            five = {.limit_connections = 5, .for_s = 600};

    assert_true(shaped_apply(b.s, &five, &b.why, T0));
    assert_true(shaped_apply(b.s, &two, &b.why, T0));
    assert_false(shaped_apply(b.s, &five, &b.why, T0));
    assert_int_equal(take_all(b.s, 10, T0), 2);
    end(&b, 2, T0);
}

static void a_storm_halves_once_and_what_was_halved_comes_back_in_steps(void **state)
{
    struct bench b = begin();
    const struct reply_rule rule = {.back_off_s = 60};
    unsigned held;

    assert_int_equal(take_all(b.s, 16, T0), 16);
    assert_true(shaped_apply(b.s, &rule, &b.why, T0));
    for (int i = 0; i < 50; i++)
        assert_false(shaped_apply(b.s, &rule, &b.why, T0 + i));
    for (held = 16; held > 0; held--)
        shaped_give_connection(b.s);
    held += take_all(b.s, 20, T0 + 100);
    assert_int_equal(held, 8);
    assert_true(shaped_apply(b.s, &rule, &b.why, T0 + 10000)); /* still too many */
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
        (void)shaped_apply(b.s, &rule, &b.why, T0 + i * 6000);
    assert_int_equal(take_all(b.s, 10, T0 + 60000), 1);
    end(&b, 1, T0 + 60000);
}

static void a_connection_that_was_refused_is_kept_for_who_asked(void **state)
{
    struct bench b = begin();
    const struct reply_rule rule = {.limit_connections = 1, .for_s = 60};

    (void)shaped_apply(b.s, &rule, &b.why, T0);
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

    assert_true(shaped_apply(b.s, &rule, &b.why, T0));
    assert_true(shaped_is_slow(b.s, T0));
    for (uint64_t now = T0; now <= T0 + 20000;) {
        uint32_t wait = shaped_take_message(b.s, now);

        assert_true(wait <= 250);
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

    assert_true(shaped_apply(b.s, &rule, &b.why, T0));
    shaped_put(b.all, b.s, T0);
    b.s = shaped_get(b.all, "g|mx.example:25|", T0 + 50000);
    assert_int_equal(shaped_suspended_until_ms(b.s), T0 + 100000);
    shaped_clear(b.s);
    assert_int_equal(shaped_suspended_until_ms(b.s), 0);
    assert_true(shaped_apply(b.s, &rule, &b.why, T0 + 50000));
    shaped_put(b.all, b.s, T0 + 50000);
    struct shaped *other = shaped_get(b.all, "g|other.example:25|", T0 + 300000); /* sweeps */
    b.s = shaped_get(b.all, "g|mx.example:25|", T0 + 300000);
    assert_int_equal(shaped_suspended_until_ms(b.s), 0);
    shaped_put(b.all, other, T0 + 300000);
    end(&b, 0, T0 + 300000);
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
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
