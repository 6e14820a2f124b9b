/* Pages in which every campaign has its share, and what the worker of a cold domain hears of new ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "tests/unit/queue/world.h"

static const char domain[] = "slow.example";
static struct world w;

static int setup(void **state)
{
    (void)state;
    world_init(&w);
    world_must_open(&w);
    store_post_cold(w.store, domain);
    world_sync(&w);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    world_fini(&w);
    memset(&w, 0, sizeof(w));
    return 0;
}

static void queue_up(const char *campaign, uint32_t flags, int count)
{
    w.campaign = campaign;
    w.flags = flags;
    for (int i = 0; i < count; i++)
        assert_int_equal(world_accept(&w, "a@slow.example", domain, NULL), OK);
}

static uint16_t lane(const char *campaign, enum priority p)
{
    return lane_of(p, "shop", campaign); /* the account of this world's mail */
}

static unsigned count_of(const struct store_page *p, const char *campaign, uint32_t flags)
{
    unsigned n = 0;

    LIST_FOREACH (node, &p->jobs) {
        const struct job *j = LIST_ENTRY(node, struct job, node);
        n += strcmp(j->message->campaign, campaign) == 0 && j->message->flags == flags;
    }
    return n;
}

static bool has_left(const struct store_page *p, uint16_t of)
{
    for (uint32_t i = 0; i < p->left_count; i++)
        if (p->left[i] == of)
            return true;
    return false;
}

static void each_campaign_has_as_many_rows_in_a_page_as_any_other(void **state)
{
    (void)state;
    queue_up("large", 0, 300);
    queue_up("small", 0, 10);
    queue_up("middle", 0, 40);
    struct store_page *p = world_page(&w, domain, 60);
    assert_int_equal(world_job_count(&p->jobs), 60);
    assert_int_equal(count_of(p, "small", 0), 10);
    assert_int_equal(count_of(p, "large", 0), 25);
    assert_int_equal(count_of(p, "middle", 0), 25);
    assert_true(p->more && p->left_count == 2);
    assert_true(has_left(p, lane("large", PRIORITY_NORMAL)) && has_left(p, lane("middle", PRIORITY_NORMAL)));
    store_page_destroy(p);
    p = world_page(&w, domain, 60);
    assert_int_equal(count_of(p, "middle", 0), 15);
    assert_int_equal(count_of(p, "large", 0), 45);
    store_page_destroy(p);
}

static void rows_of_a_lane_come_oldest_first_and_together(void **state)
{
    const char *before = NULL;
    uint64_t last = 0;
    unsigned changes = 0;

    (void)state;
    for (int i = 0; i < 20; i++) {
        queue_up("one", 0, 3);
        queue_up("two", 0, 1);
    }
    struct store_page *p = world_page(&w, domain, 50);
    LIST_FOREACH (node, &p->jobs) {
        const struct job *j = LIST_ENTRY(node, struct job, node);
        bool other = !before || strcmp(before, j->message->campaign) != 0;
        changes += other;
        assert_true(other || j->message->id > last);
        last = j->message->id;
        before = j->message->campaign;
    }
    assert_int_equal(changes, 2);
    assert_int_equal(count_of(p, "two", 0), 20);
    assert_int_equal(count_of(p, "one", 0), 30);
    store_page_destroy(p);
}

static void priorities_share_a_page_and_nobody_starves(void **state)
{
    (void)state;
    queue_up("bulk", MESSAGE_LOW, 100);
    queue_up("bulk", 0, 100);
    queue_up("pass", MESSAGE_HIGH, 100);
    struct store_page *p = world_page(&w, domain, 64);
    assert_int_equal(count_of(p, "pass", MESSAGE_HIGH), 56);
    assert_int_equal(count_of(p, "bulk", 0), 7);
    assert_int_equal(count_of(p, "bulk", MESSAGE_LOW), 1);
    store_page_destroy(p);
    p = world_page(&w, domain, 200);
    assert_int_equal(count_of(p, "pass", MESSAGE_HIGH), 44);
    assert_int_equal(count_of(p, "bulk", 0), 93);
    assert_int_equal(count_of(p, "bulk", MESSAGE_LOW), 63);
    assert_true(p->more);
    store_page_destroy(p);
}

static void a_page_of_one_lane_leaves_the_domain_as_cold_as_it_was(void **state)
{
    (void)state;
    queue_up("large", 0, 30);
    queue_up("small", 0, 3);
    struct store_page *p = world_lane_page(&w, domain, 10, lane("small", PRIORITY_NORMAL));
    assert_int_equal(count_of(p, "small", 0), 3);
    assert_int_equal(world_job_count(&p->jobs), 3);
    assert_true(!p->more && !p->left_count);
    store_page_destroy(p);
    p = world_lane_page(&w, domain, 10, lane("large", PRIORITY_NORMAL));
    assert_int_equal(count_of(p, "large", 0), 10);
    assert_true(p->more && p->left_count == 1);
    store_page_destroy(p);
    p = world_lane_page(&w, domain, 10, lane("nobody", PRIORITY_NORMAL));
    assert_int_equal(world_job_count(&p->jobs), 0);
    store_page_destroy(p);
    assert_int_equal(world_stats(&w).domains_cold, 1);
    queue_up("small", 0, 1);
    assert_true(list_is_empty(&w.jobs)); /* still on disk */
}

static void deferred_rows_of_every_lane_tell_when_they_are_due(void **state)
{
    int64_t soon = clock_unix() + 1000;

    (void)state;
    queue_up("one", 0, 1);
    queue_up("two", 0, 1);
    struct store_page *p = world_page(&w, domain, 10);
    LIST_FOREACH (node, &p->jobs) {
        const struct job *j = LIST_ENTRY(node, struct job, node);
        bool one = strcmp(j->message->campaign, "one") == 0;
        world_result(&w, j->message->id, 0, domain, THEN_DEFER, OUTCOME_DEFERRED, one ? soon + 50 : soon);
    }
    store_page_destroy(p);
    world_sync(&w);
    p = world_page(&w, domain, 10);
    assert_int_equal(world_job_count(&p->jobs), 0);
    assert_int_equal(p->next_due_unix, soon);
    assert_false(p->more);
    store_page_destroy(p);
}

static unsigned told(uint16_t of)
{
    unsigned n = 0;

    for (size_t i = 0; i < w.wake_count; i++)
        n += strcmp(w.wakes[i].domain, domain) == 0 && w.wakes[i].lane == of;
    return n;
}

static void the_worker_of_a_cold_domain_hears_of_a_lane_once(void **state)
{
    uint16_t large = lane("large", PRIORITY_NORMAL), small = lane("small", PRIORITY_NORMAL);

    (void)state;
    queue_up("large", 0, 20);
    queue_up("small", 0, 3);
    queue_up("large", 0, 5);
    assert_int_equal(told(large), 1);
    assert_int_equal(told(small), 1);
    store_page_destroy(world_lane_page(&w, domain, 10, small)); /* it has all: the next one is news again */
    store_page_destroy(world_lane_page(&w, domain, 10, large)); /* it knows that there is more */
    queue_up("small", 0, 2);
    queue_up("large", 0, 2);
    assert_int_equal(told(small), 2);
    assert_int_equal(told(large), 1);
}

static void a_flood_of_campaigns_is_told_in_part_and_high_priority_always(void **state)
{
    char campaign[20];

    (void)state;
    for (int i = 0; i < 50; i++) {
        snprintf(campaign, sizeof(campaign), "c%d", i);
        queue_up(campaign, 0, 1);
    }
    assert_int_equal(w.wake_count, 8);
    for (int i = 0; i < 50; i++) {
        snprintf(campaign, sizeof(campaign), "c%d", i);
        queue_up(campaign, MESSAGE_HIGH, 1);
    }
    assert_int_equal(w.wake_count, 58);
    queue_up("c49", MESSAGE_HIGH, 1);
    assert_int_equal(w.wake_count, 58);
    struct store_page *p = world_page(&w, domain, 100);
    assert_int_equal(world_job_count(&p->jobs), 100);
    assert_true(p->more && p->left_count == 0); /* it is of a lane that this page has nothing of */
    store_page_destroy(p);
}

static void lanes_outlive_a_restart(void **state)
{
    (void)state;
    queue_up("large", 0, 200);
    queue_up("small", 0, 5);
    queue_up("pass", MESSAGE_HIGH, 1);
    world_close(&w);
    world_must_open(&w);
    world_sync(&w);
    assert_true(world_woken(&w, domain, NULL));
    struct store_page *p = world_page(&w, domain, 20);
    assert_int_equal(count_of(p, "small", 0), 5);
    assert_int_equal(count_of(p, "pass", MESSAGE_HIGH), 1);
    assert_int_equal(count_of(p, "large", 0), 14);
    store_page_destroy(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(each_campaign_has_as_many_rows_in_a_page_as_any_other),
        TEST(rows_of_a_lane_come_oldest_first_and_together),
        TEST(priorities_share_a_page_and_nobody_starves),
        TEST(a_page_of_one_lane_leaves_the_domain_as_cold_as_it_was),
        TEST(deferred_rows_of_every_lane_tell_when_they_are_due),
        TEST(the_worker_of_a_cold_domain_hears_of_a_lane_once),
        TEST(a_flood_of_campaigns_is_told_in_part_and_high_priority_always),
        TEST(lanes_outlive_a_restart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
