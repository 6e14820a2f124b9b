/* Whose turn it is: one site, two destinations, lanes that come and go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "engine/deliver/turns.h"

#define DESTS 2

static struct fair_queue site;
static struct strands dests[DESTS];

static int setup(void **state)
{
    (void)state;
    memset(&site, 0, sizeof(site));
    memset(dests, 0, sizeof(dests));
    fair_init(&site);
    for (int i = 0; i < DESTS; i++) {
        strands_init(&dests[i], NULL);
        dests[i].turns = &site;
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (int i = 0; i < DESTS; i++) {
        assert_true(list_is_empty(&dests[i].unready));
        strands_fini(&dests[i]);
    }
    assert_int_equal(site.ready, 0);
    assert_int_equal(site.others.count, 0);
    fair_fini(&site);
    return 0;
}

static void put(int dest, const char *campaign, uint32_t flags, bool first)
{
    struct rcpt rcpt = {.address = "a@b.example", .domain = "b.example"};
    struct message *m = message_create(
        &(struct message){.campaign = campaign, .flags = flags, .rcpt_count = 1, .rcpts = &rcpt});
    struct job *job = job_create(m, m->rcpts, 1);

    strand_put(strand_need(&dests[dest], m->lane), job, CLASS_NORMAL, first);
    message_unref(m);
}

static void put_many(int dest, const char *campaign, uint32_t flags, int count)
{
    while (count--)
        put(dest, campaign, flags, false);
    turns_join(&dests[dest]);
}

static bool any(const struct strand *strand, const void *arg)
{
    (void)arg;
    return !list_is_empty(&strand->jobs[CLASS_NORMAL]);
}

static bool at(const struct strand *strand, const void *arg)
{
    return strand->all == arg;
}

/* The next turn's, as "a0": the campaign's first letter (H and L for priorities) and the destination. */
static void serve(char out[3], strand_fn fits, const void *arg)
{
    struct strand *strand = turns_next(&site, fits, arg);

    strcpy(out, "--");
    if (!strand)
        return;
    fair_took(&site, &strand->place);
    struct job *job = LIST_ENTRY(list_first(&strand->jobs[CLASS_NORMAL]), struct job, node);
    uint32_t flags = job->message->flags;
    out[0] = flags & MESSAGE_HIGH ? 'H' : flags & MESSAGE_LOW ? 'L' : job->message->campaign[0];
    out[1] = (char)('0' + (strand->all - dests));
    strand_remove(strand, job);
    job_destroy(job);
}

static void expect(const char *want)
{
    char got[200] = "", one[3];

    for (size_t i = 0; i < strlen(want); i += 3) {
        serve(one, any, NULL);
        strcat(got, one);
        if (i + 3 < strlen(want))
            strcat(got, " ");
    }
    assert_string_equal(got, want);
}

static void campaigns_take_turns_and_of_each_the_destinations(void **state)
{
    (void)state;
    site.count = 1; /* high first for the next seven */
    put_many(0, "a", 0, 4);
    put_many(1, "a", 0, 1);
    put_many(1, "b", 0, 2);
    expect("a0 b1 a1 b1 a0 a0 a0");
    expect("--");
}

static void high_goes_first_and_one_of_eight_turns_is_for_those_below(void **state)
{
    (void)state;
    put_many(0, "a", 0, 20);
    put_many(0, "a", MESSAGE_HIGH, 20);
    put_many(0, "a", MESSAGE_LOW, 20);
    expect("a0 H0 H0 H0 H0 H0 H0 H0 L0 H0 H0 H0 H0 H0 H0 H0 a0 H0 H0 H0 H0 H0 H0");
    expect("a0 L0 a0 a0 a0 a0 a0 a0 a0 a0 a0 a0 a0 a0 a0 a0 a0 L0 a0 a0");
    for (int i = 0; i < 17; i++)
        expect("L0");
    expect("--");
}

static void what_goes_back_to_the_front_is_next_of_its_lane(void **state)
{
    (void)state;
    site.count = 1;
    put_many(0, "a", 0, 1);
    put(0, "a", 0, true);
    turns_join(&dests[0]);
    put_many(0, "b", 0, 1);
    expect("a0 b0 a0");
}

static void only_what_fits_is_taken(void **state)
{
    char one[3];

    (void)state;
    site.count = 1;
    put_many(0, "a", 0, 1);
    put_many(1, "a", 0, 1);
    serve(one, at, &dests[1]);
    assert_string_equal(one, "a1");
    serve(one, at, &dests[1]);
    assert_string_equal(one, "--");
    expect("a0");
}

static void what_leaves_a_site_is_unready_and_joins_another(void **state)
{
    struct fair_queue other = {0};

    (void)state;
    fair_init(&other);
    put_many(0, "a", 0, 1);
    put_many(0, "b", 0, 1);
    put_many(1, "b", 0, 1);
    turns_leave(&dests[0]);
    assert_int_equal(site.ready, 1);
    expect("b1 --");
    dests[0].turns = &other;
    turns_join(&dests[0]);
    assert_int_equal(other.ready, 2);
    turns_leave(&dests[0]);
    fair_fini(&other);
    dests[0].turns = &site;
    turns_join(&dests[0]);
    site.count = 1;
    expect("a0 b0");
}

static void an_empty_strand_waits_for_its_destination_to_decide(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        char campaign[2] = {(char)('a' + i), '\0'};
        put_many(0, campaign, 0, 1);
    }
    site.count = 1;
    expect("a0 b0 c0");
    unsigned emptied = 0;
    for (struct list *node; (node = list_pop(&dests[0].emptied)); emptied++) {
        struct strand *strand = LIST_ENTRY(node, struct strand, place.node);
        if (emptied == 1)
            strand_want(strand);
        else
            strand_free(strand);
    }
    assert_int_equal(emptied, 3);
    assert_false(list_is_empty(&dests[0].wanted));
    put_many(0, "b", 0, 1); /* wanted no more: it came */
    assert_true(list_is_empty(&dests[0].wanted));
    expect("b0");
}

static void thousands_of_lanes_come_and_go(void **state)
{
    unsigned served = 0;
    char campaign[20];

    (void)state;
    for (int i = 0; i < 3000; i++) {
        snprintf(campaign, sizeof(campaign), "c%d", i);
        put_many(i % DESTS, campaign, i % 3 ? 0 : MESSAGE_HIGH, 2);
    }
    for (struct strand *strand; (strand = turns_next(&site, any, NULL)); served++) {
        fair_took(&site, &strand->place);
        struct job *job = LIST_ENTRY(list_first(&strand->jobs[CLASS_NORMAL]), struct job, node);
        strand_remove(strand, job);
        job_destroy(job);
        if (!strand->queued)
            strand_free(strand);
    }
    assert_int_equal(served, 6000);
    assert_int_equal(dests[0].others.count + dests[1].others.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(campaigns_take_turns_and_of_each_the_destinations),
        TEST(high_goes_first_and_one_of_eight_turns_is_for_those_below),
        TEST(what_goes_back_to_the_front_is_next_of_its_lane),
        TEST(only_what_fits_is_taken),
        TEST(what_leaves_a_site_is_unready_and_joins_another),
        TEST(an_empty_strand_waits_for_its_destination_to_decide),
        TEST(thousands_of_lanes_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
