/* Whose turn an address of a pool is, over several threads; what is left out, and comes back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/shaping.h"
#include "engine/sources_priv.h"

#define THREADS 4
#define EACH    500

struct bench {
    struct sources *all;
    struct limits *limits;
    struct policy *policy;
    const struct group *group;
    struct source_use *uses[8];
    atomic_uint count[8];
    uint32_t messages; /* of a connection */
};

static struct bench *begin(const char *addresses, const char *limits)
{
    struct bench *b = MEM_NEW(struct bench);
    struct yaml_errors errors = {.name = "doc"};
    BUF_LOCAL(text);

    buf_putf(&text,
             "sources:\n- name: p\n  addresses: [%s]\ngroups:\n- name: default\n  source: {pool: p}\n  "
             "limits: {%s}\n",
             addresses, limits);
    assert_int_equal(policy_parse("doc", buf_bytes(&text), 1, &b->policy, &errors), OK);
    yaml_errors_fini(&errors);
    b->all = sources_create(NULL);
    b->limits = limits_create();
    b->group = policy_group_by_name(b->policy, "default");
    b->messages = SOURCE_QUANTUM;
    sources_check(b->all, b->policy);
    for (size_t i = 0; i < b->group->pool->count; i++)
        b->uses[i] = source_use_get(b->all, "default", &b->group->pool->addresses[i]);
    return b;
}

static void end(struct bench *b)
{
    policy_unref(b->policy);
    sources_destroy(b->all);
    limits_destroy(b->limits);
    mem_free(b);
}

static struct source_question question(struct bench *b, int family)
{
    return (struct source_question){
        .limits = b->limits, .group = b->group, .uses = b->uses, .family = family};
}

static void *use_all(void *arg)
{
    struct bench *b = arg;

    for (int i = 0; i < EACH; i++) {
        struct source_question q = question(b, 4);
        if (source_choose(&q) != SOURCE_TAKEN)
            return b; /* not NULL: wrong */
        b->count[q.index]++;
        if (q.permit)
            permit_give(q.permit);
        source_release(b->uses[q.index], b->group->pool->addresses[q.index].weight, b->messages, false);
    }
    return NULL;
}

static void turns_follow_the_weights_exactly_over_all_threads(void **state)
{
    struct bench *b =
        begin("{address: 127.0.0.2, weight: 3}, {address: 127.0.0.3}, {address: '::1', weight: 9}",
              "connections: 50");
    pthread_t threads[THREADS];
    void *wrong;
    (void)state;

    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, use_all, b), 0);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], &wrong);
        assert_null(wrong);
    }
    assert_in_range(b->count[0], THREADS * EACH * 3 / 4 - 1, THREADS * EACH * 3 / 4 + 1);
    assert_int_equal(b->count[0] + b->count[1], THREADS * EACH);
    assert_int_equal(b->count[2], 0);
    assert_int_equal(atomic_load(&b->uses[0]->state->connections), 0);
    end(b);
}

static void what_a_connection_did_not_carry_is_made_up_for_by_others_of_its_address(void **state)
{
    struct bench *b = begin("127.0.0.2, 127.0.0.3", "connections: 50");
    uint32_t carried[2] = {0};
    (void)state;

    for (int i = 0; i < 1000; i++) { /* connections from the first carry one message, from the other forty */
        struct source_question q = question(b, 4);
        assert_int_equal(source_choose(&q), SOURCE_TAKEN);
        uint32_t n = q.index ? 40 : 1;
        for (uint32_t m = 2 * SOURCE_QUANTUM; m <= n; m += SOURCE_QUANTUM)
            (void)source_moves_on(&q, q.index);
        source_release(b->uses[q.index], 1, n, false);
        carried[q.index] += n;
    }
    assert_in_range(carried[0], carried[1] - 80, carried[1] + 80);
    end(b);
}

static void an_address_that_is_gone_is_left_out_and_has_its_turn_again_when_it_is_back(void **state)
{
    struct bench *b = begin("127.0.0.2, 127.0.0.3, 192.0.2.77", "connections: 50");
    struct source_question q = question(b, 4);
    (void)state;

    assert_int_equal(sources_unusable(b->all), 1);
    assert_string_equal(source_use_problem(b->uses[2]), strerror(EADDRNOTAVAIL));
    atomic_store(&b->uses[0]->state->error, EADDRNOTAVAIL);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(source_choose(&q), SOURCE_TAKEN);
        assert_int_equal(q.index, 1);
    }
    atomic_store(&b->uses[1]->state->error, EADDRNOTAVAIL);
    assert_int_equal(source_choose(&q), SOURCE_UNUSABLE);
    q.family = 6;
    assert_int_equal(source_choose(&q), SOURCE_NO_FAMILY);
    q.family = 4;
    assert_false(sources_tick(b->all, 59999));
    assert_true(sources_tick(b->all, 60000)); /* both are there after all */
    assert_false(sources_tick(b->all, 119999));
    unsigned first = 0;
    for (int i = 0; i < 20; i++) {
        assert_int_equal(source_choose(&q), SOURCE_TAKEN);
        first += q.index == 0;
    }
    assert_in_range(first, 10, 12); /* it does not make up for the time that it was away */
    end(b);
}

static void connections_by_source_are_never_more_and_the_limit_is_told(void **state)
{
    struct bench *b = begin("127.0.0.2, 127.0.0.3", "connections_per_source: 2");
    struct permit_pool *permits[4];
    struct source_question q = question(b, 4);
    (void)state;

    for (int i = 0; i < 4; i++) {
        assert_int_equal(source_choose(&q), SOURCE_TAKEN);
        permits[i] = q.permit;
        assert_non_null(q.permit);
    }
    assert_int_equal(source_choose(&q), SOURCE_BUSY);
    assert_string_equal(q.limit, "connections_per_source");
    for (int i = 0; i < 4; i++)
        permit_give(permits[i]);
    assert_int_equal(source_choose(&q), SOURCE_TAKEN);
    end(b);
}

static void an_address_ends_its_connection_when_the_others_are_far_behind(void **state)
{
    struct bench *b = begin("127.0.0.2, 127.0.0.3", "connections: 50");
    struct source_question q = question(b, 4);
    int quanta = 0;
    (void)state;

    assert_int_equal(source_choose(&q), SOURCE_TAKEN);
    while (!source_moves_on(&q, q.index) && quanta < 100)
        quanta++;
    assert_in_range(quanta, 1, 4);
    atomic_store(&b->uses[!q.index]->state->error, EADDRNOTAVAIL);
    for (int i = 0; i < 100; i++) /* nobody else could */
        assert_false(source_moves_on(&q, q.index));
    end(b);
}

static struct outcome reply_of(enum outcome_stage stage, uint16_t code, const char *text)
{
    struct outcome o;

    outcome_from_reply(&o, stage, code, bytes_of(text));
    return o;
}

/* The one event of the register, or NULL. */
static json_t *event_of(struct shaping *shaping)
{
    json_t *list = shaping_json(shaping, &(struct shaping_filter){0}, 9, clock_now_ms(), NULL);
    json_t *one = json_incref(json_array_get(list, 0));

    assert_in_range(json_array_size(list), 0, 1);
    json_decref(list);
    return one;
}

static void undo(void *arg, enum shaping_subject kind, const char *group, const char *name, double full)
{
    struct bench *b = arg;

    assert_int_equal(kind, SUBJECT_WARMUP);
    sources_undo(b->all, b->policy, group, name, (uint32_t)full);
}

static void a_ladder_that_goes_back_is_an_event_until_it_is_there_again(void **state)
{
    struct bench *b = begin("{address: 127.0.0.2, warmup: {steps: [10, 20, 30], per: 1h, on_refused: back, "
                            "min_attempts: 4}}",
                            "connections: 5");
    const struct source_address *a = &b->group->pool->addresses[0];
    struct shaping *shaping = b->all->shaping = shaping_create();
    const struct outcome good = reply_of(STAGE_DOT, 250, "2.0.0 ok"),
                         bad = reply_of(STAGE_RCPT, 450, "4.7.1 too much");
    struct source_use *use = b->uses[0];
    (void)state;

    use->warm.step = 1;
    warmup_take(&use->warm, 10, clock_unix_ms());
    for (int i = 0; i < 4; i++) {
        assert_null(event_of(shaping));
        source_note(use, a->warmup, &bad, 7);
    }
    json_t *e = event_of(shaping);
    assert_int_equal(json_integer_value(json_object_get(e, "value")), 1);
    assert_int_equal(json_integer_value(json_object_get(e, "returns_to")), 2);
    assert_int_equal(json_integer_value(json_object_get(e, "policy_version")), 7);
    assert_in_range(json_integer_value(json_object_get(e, "seconds_left")), 3590, 3600);
    assert_string_equal(json_string_value(json_object_get(e, "text")), "too much");
    assert_non_null(strstr(json_string_value(json_object_get(e, "detail")), "4 of 4 refused"));
    json_decref(e);
    assert_true(use->warm.stopped && use->warm.step == 0);

    assert_int_equal(
        shaping_clear(shaping, &(struct shaping_filter){.group = "default"}, "me", clock_now_ms(), undo, b),
        1);
    assert_true(!use->warm.stopped && use->warm.step == 1 && use->warm.taken == 10); /* taken is taken */
    for (int i = 0; i < 4; i++)
        source_note(use, a->warmup, &bad, 7); /* what brought it about may bring it about again */
    assert_true(use->warm.stopped && use->warm.step == 0);
    json_decref(e = event_of(shaping));
    assert_non_null(e);
    use->warm.since_ms -= 3600 * 1000; /* an hour later, and a good one */
    assert_int_equal(source_warmup_wait_ms(use, a->warmup, clock_unix_ms()), 0);
    json_decref(e = event_of(shaping));
    assert_non_null(e);
    warmup_take(&use->warm, 10, clock_unix_ms());
    for (int i = 0; i < 10; i++)
        source_note(use, a->warmup, &good, 7);
    use->warm.since_ms -= 3600 * 1000;
    (void)source_warmup_wait_ms(use, a->warmup, clock_unix_ms());
    assert_int_equal(use->warm.step, 1);
    assert_null(event_of(shaping));

    /* A document without the ladder has no event of it. */
    warmup_take(&use->warm, 10, clock_unix_ms());
    for (int i = 0; i < 4; i++)
        source_note(use, a->warmup, &bad, 7);
    json_decref(e = event_of(shaping));
    assert_non_null(e);
    sources_check(b->all, b->policy);
    json_decref(e = event_of(shaping));
    assert_non_null(e);
    struct bench *other = begin("127.0.0.2", "connections: 5");
    sources_check(b->all, other->policy);
    assert_null(event_of(shaping));
    end(other);
    end(b);
    shaping_destroy(shaping);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(turns_follow_the_weights_exactly_over_all_threads),
        cmocka_unit_test(what_a_connection_did_not_carry_is_made_up_for_by_others_of_its_address),
        cmocka_unit_test(an_address_that_is_gone_is_left_out_and_has_its_turn_again_when_it_is_back),
        cmocka_unit_test(connections_by_source_are_never_more_and_the_limit_is_told),
        cmocka_unit_test(a_ladder_that_goes_back_is_an_event_until_it_is_there_again),
        cmocka_unit_test(an_address_ends_its_connection_when_the_others_are_far_behind),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
