/* A campaign that is paused: what waits, what comes, what comes back; and what goes on when it is resumed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "queue/campaigns.h"
#include "queue/keep.h"
#include "world.h"

static struct world w; /* its mail is of the campaign "spring" */

static int setup(void **state)
{
    (void)state;
    world_init(&w);
    world_must_open(&w);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    world_fini(&w);
    memset(&w, 0, sizeof(w));
    return 0;
}

static void keep(const char *id, bool paused)
{
    struct campaign_kept k = {.paused_unix = paused ? clock_unix() : 0, .by = "a test"};
    BUF_LOCAL(value);

    campaign_kept_put(&value, &k);
    if (paused)
        store_keep_set(w.store, CAMPAIGN_KIND, id, buf_bytes(&value));
    else
        store_keep_drop(w.store, CAMPAIGN_KIND, id);
    world_sync(&w);
}

static uint64_t op(enum queue_op op, const char *id)
{
    uint64_t changed = 0;

    assert_int_equal(world_op(&w, op, (struct queue_selector){.campaign = mem_strdup(id)}, &changed), OK);
    return changed;
}

static uint64_t pause(const char *id)
{
    keep(id, true);
    return op(QUEUE_PAUSE, id);
}

static uint64_t resume(const char *id)
{
    keep(id, false);
    return op(QUEUE_RESUME, id);
}

static size_t page(const char *domain)
{
    struct store_page *p = world_page(&w, domain, 100);
    size_t n = world_job_count(&p->jobs);

    world_give_back(&w, &p->jobs);
    store_page_destroy(p);
    world_sync(&w);
    return n;
}

static void expect(uint64_t waiting, uint64_t held, uint64_t paused)
{
    struct store_stats s = world_stats(&w);

    assert_int_equal(s.waiting, waiting);
    assert_int_equal(s.held, held);
    assert_int_equal(s.paused, paused);
}

static void take_in(const char *address, const char *domain, uint64_t *id)
{
    if (id)
        *id = 0;
    assert_int_equal(world_accept(&w, address, domain, id), OK);
}

static void what_waits_and_what_comes_is_paused_and_goes_on_afterwards(void **state)
{
    (void)state;
    store_post_cold(w.store, "p.example");
    for (int i = 0; i < 3; i++)
        take_in("a@p.example", "p.example", NULL);
    assert_int_equal(pause("spring"), 3);
    assert_int_equal(pause("spring"), 0); /* said twice */
    for (int i = 0; i < 2; i++)
        take_in("b@q.example", "q.example", NULL);
    assert_true(list_is_empty(&w.jobs)); /* nobody got them */
    expect(0, 0, 5);
    assert_int_equal(page("p.example") + page("q.example"), 0);
    assert_int_equal(resume("spring"), 5);
    assert_true(world_woken(&w, "p.example", NULL) && world_woken(&w, "q.example", NULL));
    expect(5, 0, 0);
    assert_int_equal(page("p.example"), 3);
    assert_int_equal(page("q.example"), 2);
    take_in("c@r.example", "r.example", NULL);
    assert_int_equal(world_job_count(&w.jobs), 1);
}

static void other_campaigns_go_on(void **state)
{
    (void)state;
    assert_int_equal(pause("autumn"), 0);
    take_in("a@p.example", "p.example", NULL);
    assert_int_equal(world_job_count(&w.jobs), 1);
    assert_int_equal(op(QUEUE_PAUSE, "spring"), 0); /* the operation follows what is kept */
    expect(1, 0, 0);
}

static void mail_in_workers_hands_is_paused_when_it_comes_back(void **state)
{
    uint64_t back = 0, deferred = 0, late = 0;
    struct list jobs;

    (void)state;
    take_in("a@p.example", "p.example", &back);
    take_in("b@p.example", "p.example", &deferred);
    take_in("c@p.example", "p.example", &late);
    list_init(&jobs);
    list_push_back(&jobs, &world_take_job(&w, late, 0)->node);
    keep("spring", true); /* the operation has not come yet */
    world_give_back(&w, &jobs);
    expect(2, 0, 1);
    assert_int_equal(op(QUEUE_PAUSE, "spring"), 2);
    list_push_back(&jobs, &world_take_job(&w, back, 0)->node);
    world_give_back(&w, &jobs);
    world_result(&w, deferred, 0, "p.example", THEN_DEFER, OUTCOME_DEFERRED, clock_unix());
    expect(0, 0, 3);
    assert_int_equal(page("p.example"), 0);
    assert_int_equal(resume("spring"), 3);
    assert_int_equal(page("p.example"), 3);
}

static void a_deferral_between_the_two_is_paused_too(void **state)
{
    uint64_t id = 0;

    (void)state;
    take_in("a@p.example", "p.example", &id);
    keep("spring", true);
    world_result(&w, id, 0, "p.example", THEN_DEFER, OUTCOME_DEFERRED, clock_unix());
    expect(0, 0, 1);
}

static void a_result_counts_though_its_campaign_is_paused(void **state)
{
    uint64_t id = 0;

    (void)state;
    take_in("a@p.example", "p.example", &id);
    assert_int_equal(pause("spring"), 1);
    world_result(&w, id, 0, "p.example", THEN_REMOVE, OUTCOME_DELIVERED, 0);
    expect(0, 0, 0);
    assert_int_equal(world_stats(&w).messages, 0);
}

static void holds_of_operators_are_apart(void **state)
{
    uint64_t held = 0, both = 0;
    uint64_t changed;

    (void)state;
    take_in("a@p.example", "p.example", &held);
    take_in("b@p.example", "p.example", &both);
    take_in("c@p.example", "p.example", NULL);
    world_op(&w, QUEUE_HOLD, (struct queue_selector){.message_id = held}, NULL);
    assert_int_equal(pause("spring"), 2);
    world_op(&w, QUEUE_HOLD, (struct queue_selector){.message_id = both}, &changed);
    assert_int_equal(changed, 1);
    expect(0, 2, 1);
    assert_int_equal(resume("spring"), 1); /* exactly what the pause holds */
    expect(1, 2, 0);
    assert_int_equal(pause("spring"), 1);
    world_op(&w, QUEUE_RELEASE, (struct queue_selector){.message_id = held}, &changed);
    assert_int_equal(changed, 1);
    expect(0, 1, 2); /* released, it waits for its campaign */
    assert_int_equal(op(QUEUE_RETRY, "spring"), 0);
    assert_int_equal(op(QUEUE_CANCEL, "spring"), 3);
    expect(3, 0, 0); /* to be recorded */
}

static void times_stand(void **state)
{
    int64_t later = clock_unix() + 3600, due = 0;
    uint64_t id = 0;

    (void)state;
    assert_int_equal(world_accept_at(&w, &(struct world_rcpt){"a@p.example", "p.example"}, 1, later,
                                     world_body("Subject: x\r\n\r\nhello\r\n"), &id),
                     OK);
    assert_int_equal(pause("spring"), 1);
    w.wake_count = 0;
    assert_int_equal(resume("spring"), 1);
    assert_true(world_woken(&w, "p.example", &due));
    assert_true(due == later);
    assert_int_equal(page("p.example"), 0);
}

static void a_pause_outlives_a_restart(void **state)
{
    (void)state;
    take_in("a@p.example", "p.example", NULL);
    assert_int_equal(pause("spring"), 1);
    world_close(&w);
    world_must_open(&w);
    take_in("b@p.example", "p.example", NULL);
    expect(0, 0, 2);
    assert_int_equal(resume("spring"), 2);
    assert_int_equal(page("p.example"), 2);
}

static void what_a_crash_cut_short_is_carried_on_at_the_start(void **state)
{
    (void)state;
    take_in("a@p.example", "p.example", NULL);
    keep("spring", true); /* and no operation */
    expect(1, 0, 0);
    world_close(&w);
    world_must_open(&w);
    world_sync(&w);
    for (int i = 0; i < 200 && world_stats(&w).paused != 1; i++)
        world_sync(&w);
    expect(0, 0, 1);
    keep("spring", false);
    expect(0, 0, 1);
    world_close(&w);
    world_must_open(&w);
    for (int i = 0; i < 200 && world_stats(&w).paused; i++)
        world_sync(&w);
    expect(1, 0, 0);
    assert_int_equal(page("p.example"), 1);
}

static void the_queue_is_counted_by_domain_and_state(void **state)
{
    struct browse *b = NULL;
    struct browse_share *rows = NULL;
    struct browse_group *groups = NULL;
    struct arena arena = {0};
    uint64_t id = 0;
    size_t count = 0;
    char *why = NULL;

    (void)state;
    take_in("a@p.example", "p.example", NULL);
    take_in("b@p.example", "p.example", &id);
    take_in("c@q.example", "q.example", NULL);
    world_op(&w, QUEUE_HOLD, (struct queue_selector){.message_id = id}, NULL);
    assert_int_equal(pause("spring"), 2);
    assert_int_equal(browse_open(w.dir, &b, &why), OK);
    assert_int_equal(browse_campaign(b, "spring", &arena, &rows, &count), OK);
    assert_int_equal(count, 2);
    assert_string_equal(rows[0].domain, "p.example"); /* the larger first */
    assert_int_equal(rows[0].by_state[QUEUE_PAUSED], 1);
    assert_int_equal(rows[0].by_state[QUEUE_HELD], 1);
    assert_int_equal(rows[1].by_state[QUEUE_PAUSED], 1);
    assert_int_equal(browse_campaign(b, "autumn", &arena, &rows, &count), OK);
    assert_int_equal(count, 0);
    assert_int_equal(browse_groups(b, BROWSE_GROUP_CAMPAIGN, 10, &arena, &groups, &count), OK);
    assert_int_equal(count, 1);
    assert_int_equal(groups[0].waiting, 0);
    assert_int_equal(groups[0].held, 3);
    assert_int_equal(groups[0].paused, 2);
    browse_close(b);
    arena_fini(&arena);
}

static void what_is_kept_is_read_as_it_was_written(void **state)
{
    struct campaign_kept k = {.paused_unix = 1763778000, .by = "uid 0", .why = "too many\nbounces"}, back;
    BUF_LOCAL(value);

    (void)state;
    campaign_kept_put(&value, &k);
    campaign_kept_parse(buf_bytes(&value), &back);
    assert_true(back.paused_unix == k.paused_unix);
    assert_string_equal(back.by, "uid 0");
    assert_string_equal(back.why, "too many bounces");
    for (size_t len = 0; len < value.len; len++) /* cut anywhere */
        campaign_kept_parse(bytes_first(buf_bytes(&value), len), &back);
    campaign_kept_parse(BYTES("later words\npaused 7\n\npaused x\n"), &back);
    assert_true(back.paused_unix == 7);
    campaign_kept_parse((struct bytes){0}, &back);
    assert_true(back.paused_unix == 0);
    buf_clear(&value);
    campaign_kept_put(&value, &back);
    assert_int_equal(value.len, 0);
}

#define ROW(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

/* ---- the end of a campaign ---- */

static void set_end(const char *id, int64_t at)
{
    struct campaign_kept k = {.expires_unix = at};
    BUF_LOCAL(value);

    campaign_kept_put(&value, &k);
    store_keep_set(w.store, CAMPAIGN_KIND, id, buf_bytes(&value));
    world_sync(&w);
}

/* Rows of the kind that the finaliser gets; they go back. */
static size_t finals(enum final_kind kind)
{
    struct store_final_page *p = world_final_page(&w, 100);
    size_t n = 0;

    LIST_FOREACH (node, &p->messages) {
        const struct final_message *m = LIST_ENTRY(node, struct final_message, node);
        for (uint32_t i = 0; i < m->count; i++)
            n += m->rows[i].kind == kind;
    }
    store_post_final_give_back(w.store, &p->messages);
    store_final_page_destroy(p);
    world_sync(&w);
    return n;
}

static void what_waits_of_a_campaign_that_is_over_expires_and_what_comes_does_too(void **state)
{
    uint64_t held = 0;

    (void)state;
    store_post_cold(w.store, "p.example");
    for (int i = 0; i < 3; i++)
        take_in("a@p.example", "p.example", NULL);
    take_in("h@p.example", "p.example", &held);
    assert_int_equal(world_op(&w, QUEUE_HOLD, (struct queue_selector){.message_id = held}, &(uint64_t){0}),
                     OK);
    set_end("spring", clock_unix() + 1000);
    assert_null(store_campaign_over(w.store)); /* not yet */
    assert_int_equal(op(QUEUE_EXPIRE, "spring"), 0);
    assert_int_equal(page("p.example"), 3);
    set_end("spring", clock_unix());
    char *id = store_campaign_over(w.store);
    assert_string_equal(id, "spring");
    mem_free(id);
    assert_int_equal(page("p.example"), 0); /* nothing is handed out from that second on */
    assert_int_equal(op(QUEUE_EXPIRE, "spring"), 4);
    store_campaign_settled(w.store, "spring");
    assert_null(store_campaign_over(w.store));
    assert_int_equal(finals(FINAL_CAMPAIGN_OVER), 4);
    take_in("b@q.example", "q.example", NULL);
    assert_true(list_is_empty(&w.jobs));
    assert_int_equal(finals(FINAL_CAMPAIGN_OVER), 5);
    expect(5, 0, 0);
    w.campaign = "autumn";
    take_in("c@q.example", "q.example", NULL);
    assert_int_equal(world_job_count(&w.jobs), 1);
}

static void what_comes_back_after_the_end_expires(void **state)
{
    uint64_t a = 0, b = 0;

    (void)state;
    take_in("a@p.example", "p.example", &a);
    take_in("b@p.example", "p.example", &b);
    set_end("spring", clock_unix());
    world_result(&w, a, 0, "p.example", THEN_DEFER, OUTCOME_DEFERRED, clock_unix() + 60);
    struct job *job = world_take_job(&w, b, 0);
    struct list one;
    list_init(&one);
    list_push_back(&one, &job->node);
    world_give_back(&w, &one);
    world_sync(&w);
    assert_int_equal(op(QUEUE_EXPIRE, "spring"), 0); /* they are there already */
    assert_int_equal(finals(FINAL_CAMPAIGN_OVER), 2);
}

static void an_end_that_came_while_nobody_ran_holds(void **state)
{
    (void)state;
    store_post_cold(w.store, "p.example");
    take_in("a@p.example", "p.example", NULL);
    take_in("b@q.example", "q.example", NULL);
    int64_t end = clock_unix() + 1;
    set_end("spring", end);
    world_close(&w);
    while (clock_unix() < end)
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    world_must_open(&w);
    assert_int_equal(page("p.example") + page("q.example"), 0);
    char *id = store_campaign_over(w.store);
    assert_string_equal(id, "spring");
    mem_free(id);
    assert_int_equal(op(QUEUE_EXPIRE, "spring"), 2);
    assert_int_equal(finals(FINAL_CAMPAIGN_OVER), 2);
}

static void an_end_and_a_pause_are_kept_together(void **state)
{
    struct campaign_kept k = {.paused_unix = 5, .by = "me", .why = "why", .expires_unix = 77}, back;
    BUF_LOCAL(value);

    (void)state;
    campaign_kept_put(&value, &k);
    campaign_kept_parse(buf_bytes(&value), &back);
    assert_int_equal(back.paused_unix, 5);
    assert_int_equal(back.expires_unix, 77);
    assert_string_equal(back.why, "why");
    campaign_kept_parse(BYTES("expires x\nexpires 99999999999999999999\n"), &back);
    assert_int_equal(back.expires_unix, 0);
    buf_clear(&value);
    campaign_kept_put(&value, &(struct campaign_kept){0});
    assert_int_equal(value.len, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROW(what_waits_and_what_comes_is_paused_and_goes_on_afterwards),
        ROW(other_campaigns_go_on),
        ROW(mail_in_workers_hands_is_paused_when_it_comes_back),
        ROW(a_deferral_between_the_two_is_paused_too),
        ROW(a_result_counts_though_its_campaign_is_paused),
        ROW(holds_of_operators_are_apart),
        ROW(times_stand),
        ROW(a_pause_outlives_a_restart),
        ROW(what_a_crash_cut_short_is_carried_on_at_the_start),
        ROW(the_queue_is_counted_by_domain_and_state),
        ROW(what_waits_of_a_campaign_that_is_over_expires_and_what_comes_does_too),
        ROW(what_comes_back_after_the_end_expires),
        ROW(an_end_that_came_while_nobody_ran_holds),
        cmocka_unit_test(an_end_and_a_pause_are_kept_together),
        cmocka_unit_test(what_is_kept_is_read_as_it_was_written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
