#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include <sqlite3.h>

#include "tests/unit/queue/world.h"

static struct world w;

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
    assert_int_equal(w.wrong_owner, 0);
    world_fini(&w);
    return 0;
}

static void expect_page(const char *domain, uint32_t limit, size_t count, bool more)
{
    struct store_page *p = world_page(&w, domain, limit);

    assert_int_equal(p->req.result, OK);
    assert_int_equal(world_job_count(&p->jobs), count);
    assert_int_equal(p->more, more);
    store_page_destroy(p);
}

static void an_accepted_message_goes_to_the_owners_of_its_domains(void **state)
{
    static const struct world_rcpt rcpts[] = {
        {"a@one.example", "one.example"}, {"b@two.example", "two.example"}, {"c@one.example", "one.example"}};
    uint64_t id = 0;

    (void)state;
    assert_int_equal(world_accept_at(&w, rcpts, 3, 0, world_body("A: b\r\n\r\nc\r\n"), &id), OK);
    assert_int_equal(world_job_count(&w.jobs), 3);
    struct job *one = world_take_job(&w, id, 0), *two = world_take_job(&w, id, 1);
    assert_int_equal(one->rcpt_count, 2);
    assert_int_equal(two->rcpt_count, 1);
    assert_ptr_equal(one->message, two->message);
    assert_true(one->message->body->segment > 0); /* stored, and still in memory */
    assert_non_null(one->message->body->mem);
    job_destroy(one);
    job_destroy(two);
    expect_page("one.example", 10, 0, false); /* leased: in no page */
    struct store_stats s = world_stats(&w);
    assert_int_equal(s.leased, 3);
    assert_int_equal(s.waiting, 3);
    assert_int_equal(s.messages, 1);
}

static void the_same_id_twice_is_refused_and_harms_nobody(void **state)
{
    uint64_t id = 0, other = 0;

    (void)state;
    assert_int_equal(world_accept(&w, "a@one.example", "one.example", &id), OK);
    assert_int_equal(world_accept(&w, "b@one.example", "one.example", &id), ERR_EXISTS);
    assert_int_equal(world_accept(&w, "c@one.example", "one.example", &other), OK);
    assert_int_equal(world_stats(&w).messages, 2);
}

static void mail_of_a_cold_domain_waits_for_pages(void **state)
{
    uint64_t id[5] = {0};

    (void)state;
    store_post_cold(w.store, "cold.example");
    for (int i = 0; i < 5; i++)
        assert_int_equal(world_accept(&w, "a@cold.example", "cold.example", &id[i]), OK);
    assert_int_equal(world_job_count(&w.jobs), 0);
    assert_int_equal(world_stats(&w).domains_cold, 1);
    struct store_page *p = world_page(&w, "cold.example", 2);
    assert_int_equal(world_job_count(&p->jobs), 2);
    assert_true(p->more);
    const struct job *first = LIST_ENTRY(list_first(&p->jobs), struct job, node);
    assert_true(first->message->id == id[0]); /* oldest first */
    assert_null(first->message->body->mem);
    assert_int_equal(spool_load(store_spool(w.store), first->message->body), OK);
    assert_memory_equal(first->message->body->mem, "Subject: x\r\n\r\nhello\r\n", 21);
    assert_string_equal(first->message->campaign, "spring");
    assert_string_equal(first->rcpts[0].address, "a@cold.example");
    store_page_destroy(p);
    assert_int_equal(world_accept(&w, "b@cold.example", "cold.example", NULL), OK);
    assert_int_equal(world_job_count(&w.jobs), 0); /* still cold */
    expect_page("cold.example", 10, 4, false);
    assert_int_equal(world_accept(&w, "c@cold.example", "cold.example", NULL), OK);
    assert_int_equal(world_job_count(&w.jobs), 1); /* the page emptied it: hot */
    assert_int_equal(world_stats(&w).domains_cold, 0);
}

static void a_call_to_be_cold_after_a_page_has_the_last_word(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++) {
        char domain[32];
        struct store_page *p = MEM_NEW(struct store_page);
        snprintf(domain, sizeof(domain), "o%d.example", i);
        p->domain = mem_strdup(domain);
        p->limit = 10;
        store_post_page(w.store, p); /* nobody waits for it */
        store_post_cold(w.store, domain);
        assert_int_equal(world_accept(&w, "a@o.example", domain, NULL), OK);
        assert_int_equal(world_job_count(&w.jobs), 0);
    }
}

static void scheduled_mail_is_not_handed_out_but_announced(void **state)
{
    int64_t due, when = clock_unix() + 3600;

    (void)state;
    assert_int_equal(world_accept_at(&w, &(struct world_rcpt){"a@l.example", "l.example"}, 1, when,
                                     world_body("x: y\r\n\r\n"), NULL),
                     OK);
    assert_int_equal(world_job_count(&w.jobs), 0);
    assert_true(world_woken(&w, "l.example", &due));
    assert_true(due == when);
    struct store_page *p = world_page(&w, "l.example", 10);
    assert_int_equal(world_job_count(&p->jobs), 0);
    assert_true(p->next_due_unix == when && !p->more);
    store_page_destroy(p);
    uint64_t changed;
    assert_int_equal(world_op(&w, QUEUE_RETRY, (struct queue_selector){.all = true}, &changed), OK);
    assert_int_equal(changed, 1);
    expect_page("l.example", 10, 1, false);
}

static void results_remove_defer_or_owe_a_dsn(void **state)
{
    static const struct world_rcpt rcpts[] = {
        {"a@r.example", "r.example"}, {"b@r.example", "r.example"}, {"c@r.example", "r.example"}};
    uint64_t id = 0;
    int64_t due = clock_unix() + 600;

    (void)state;
    assert_int_equal(world_accept_at(&w, rcpts, 3, 0, world_body("x: y\r\n\r\n"), &id), OK);
    world_forget_jobs(&w);
    world_result(&w, id, 0, "r.example", THEN_NOTHING, OUTCOME_DEFERRED, 0);
    world_result(&w, id, 0, "r.example", THEN_REMOVE, OUTCOME_DELIVERED, 0);
    world_result(&w, id, 1, "r.example", THEN_DEFER, OUTCOME_DEFERRED, due);
    world_result(&w, id, 2, "r.example", THEN_DSN, OUTCOME_BOUNCED, 0);
    struct store_stats s = world_stats(&w);
    assert_int_equal(s.leased, 0);
    assert_int_equal(s.waiting, 1);
    assert_int_equal(s.delivered, 1);
    assert_int_equal(s.deferred, 1);
    assert_int_equal(s.bounced, 1);
    assert_int_equal(s.messages, 1);
    assert_int_equal(w.final_notes, 1);

    int64_t woken;
    assert_true(world_woken(&w, "r.example", &woken) && woken == due);
    struct store_final_page *f = world_final_page(&w, 10);
    struct final_message *m = LIST_ENTRY(list_first(&f->messages), struct final_message, node);
    assert_int_equal(m->count, 1);
    assert_true(m->message->id == id);
    assert_int_equal(m->rows[0].kind, FINAL_DSN_OWED);
    assert_int_equal(m->rows[0].outcome.kind, OUTCOME_BOUNCED);
    assert_string_equal(m->rows[0].outcome.text, "said the test");
    assert_string_equal(m->rows[0].remote_mx, "mx.example");
    assert_string_equal(m->rows[0].rcpt.address, "c@r.example");
    store_final_page_destroy(f);
    f = world_final_page(&w, 10);
    assert_true(list_is_empty(&f->messages)); /* leased to the asker */
    store_final_page_destroy(f);

    world_op(&w, QUEUE_RETRY, (struct queue_selector){.message_id = id}, NULL);
    struct store_page *p = world_page(&w, "r.example", 10);
    assert_int_equal(world_job_count(&p->jobs), 1);
    const struct job *j = LIST_ENTRY(list_first(&p->jobs), struct job, node);
    assert_int_equal(j->rcpts[0].attempts, 1);
    assert_string_equal(j->rcpts[0].last_text, "450 said the test");
    assert_int_equal(j->message->rcpt_total, 3);
    store_page_destroy(p);
    world_result(&w, id, 1, "r.example", THEN_REMOVE, OUTCOME_DELIVERED, 0);
    world_result(&w, id, 2, "r.example", THEN_REMOVE, OUTCOME_BOUNCED, 0);
    world_result(&w, id, 2, "r.example", THEN_REMOVE, OUTCOME_BOUNCED, 0); /* twice does nothing */
    s = world_stats(&w);
    assert_int_equal(s.messages, 0);
    assert_int_equal(s.waiting + s.held + s.leased, 0);
}

/* One transaction to many recipients, settled together, while an operator cancelled one of them and another
 * went before. */
static void neighbours_delivered_together_all_go(void **state)
{
    enum { COUNT = 100 };
    struct world_rcpt rcpts[COUNT];
    char addresses[COUNT][32];
    uint64_t id = 0, changed;

    (void)state;
    for (int i = 0; i < COUNT; i++) {
        snprintf(addresses[i], sizeof(addresses[i]), "u%d@n.example", i);
        rcpts[i] = (struct world_rcpt){addresses[i], "n.example"};
    }
    assert_int_equal(world_accept_at(&w, rcpts, COUNT, 0, world_body("x: y\r\n\r\n"), &id), OK);
    world_forget_jobs(&w);
    world_result(&w, id, 7, "n.example", THEN_REMOVE, OUTCOME_DELIVERED, 0);
    world_op(&w, QUEUE_CANCEL, (struct queue_selector){.recipient = mem_strdup("u20@n.example")}, &changed);
    assert_int_equal(changed, 1);
    world_results(&w, id, 0, 50, "n.example");
    struct store_stats s = world_stats(&w);
    assert_int_equal(s.waiting, 50);
    assert_int_equal(s.leased, 50);
    assert_int_equal(s.messages, 1);
    world_results(&w, id, 50, 50, "n.example");
    s = world_stats(&w);
    assert_int_equal(s.waiting + s.leased + s.messages, 0);
    world_close(&w);
    world_must_open(&w);
    assert_int_equal(world_stats(&w).waiting, 0);
}

static void a_dsn_settles_what_it_reports_in_its_own_transaction(void **state)
{
    uint64_t id = 0, delayed = 0;

    (void)state;
    assert_int_equal(world_accept(&w, "a@r.example", "r.example", &id), OK);
    assert_int_equal(world_accept(&w, "b@r.example", "r.example", &delayed), OK);
    world_result(&w, id, 0, "r.example", THEN_DSN, OUTCOME_BOUNCED, 0);
    world_result(&w, delayed, 0, "r.example", THEN_DEFER, OUTCOME_DEFERRED, 0);
    store_final_page_destroy(world_final_page(&w, 10));
    struct store_accept *a = MEM_NEW(struct store_accept);
    struct body *body = world_body("Subject: failed\r\n\r\n");
    struct rcpt r = {.address = "news@sender.example", .domain = "sender.example"};
    struct message m = {.id = message_id_make(1),
                        .sender = "",
                        .flags = MESSAGE_DSN,
                        .body = body,
                        .rcpt_count = 1,
                        .rcpt_total = 1,
                        .rcpts = &r};
    a->message = message_create(&m);
    body_unref(body);
    a->settles = mem_zalloc(2 * sizeof(*a->settles));
    a->settle_count = 2;
    a->settles[0].message_id = id;
    a->settles[1].message_id = delayed;
    a->settles[1].mark_delay_only = true;
    store_post_accept(w.store, a); /* reply_to NULL: the store frees it */
    struct store_stats s = world_stats(&w);
    assert_int_equal(s.messages, 2); /* the delayed one and the DSN */
    struct store_page *p = world_page(&w, "r.example", 10);
    assert_int_equal(world_job_count(&p->jobs), 1);
    assert_true(LIST_ENTRY(list_first(&p->jobs), struct job, node)->rcpts[0].delay_notified);
    store_page_destroy(p);
    store_final_page_destroy(world_final_page(&w, 10));
    assert_int_equal(world_stats(&w).bounced, 1);
}

static void jobs_given_back_are_paged_again(void **state)
{
    uint64_t id = 0;

    (void)state;
    assert_int_equal(world_accept(&w, "a@g.example", "g.example", &id), OK);
    store_post_cold(w.store, "g.example");
    world_give_back(&w, &w.jobs);
    assert_true(list_is_empty(&w.jobs));
    expect_page("g.example", 10, 1, false);
    expect_page("g.example", 10, 0, false);
}

static void before_an_end_jobs_are_let_go_pages_are_empty_and_the_next_start_has_all(void **state)
{
    uint64_t changed = 0;
    int64_t due;

    (void)state;
    store_post_cold(w.store, "e.example");
    for (int i = 0; i < 3; i++)
        assert_int_equal(world_accept(&w, "a@e.example", "e.example", NULL), OK);
    world_sync(&w);
    world_forget_jobs(&w);
    struct store_page *p = world_page(&w, "e.example", 2);
    assert_int_equal(world_job_count(&p->jobs), 2);
    assert_int_equal(world_accept(&w, "b@f.example", "f.example", NULL), OK); /* to a worker at once */
    assert_int_equal(world_job_count(&w.jobs), 1);
    uint64_t held = LIST_ENTRY(list_first(&p->jobs), struct job, node)->message->id;
    assert_int_equal(world_op(&w, QUEUE_HOLD, (struct queue_selector){.message_id = held}, &changed), OK);
    assert_int_equal(changed, 1); /* it counts when the job comes back */

    store_expect_end(w.store);
    world_give_back(&w, &p->jobs);
    world_give_back(&w, &w.jobs);
    store_page_destroy(p);
    p = world_page(&w, "e.example", 10);
    assert_true(list_is_empty(&p->jobs) && p->more);
    store_page_destroy(p);
    world_close(&w);
    world_must_open(&w);
    world_sync(&w);
    assert_int_equal(world_stats(&w).waiting, 3);
    assert_int_equal(world_stats(&w).held, 1);
    expect_page("e.example", 10, 2, false);
    assert_true(world_woken(&w, "f.example", &due));
    expect_page("f.example", 10, 1, false);
}

static void an_operator_holds_and_releases(void **state)
{
    uint64_t id = 0, changed = 0;
    struct queue_selector none = {0};
    char domain[] = "h.example", *domains[] = {domain};

    (void)state;
    assert_int_equal(world_op(&w, QUEUE_HOLD, none, &changed), ERR_INVALID); /* "all" must be said */
    store_post_cold(w.store, "h.example");
    for (int i = 0; i < 2500; i++) /* more than a chunk */
        assert_int_equal(world_accept(&w, "a@h.example", "h.example", i == 7 ? &id : NULL), OK);
    struct queue_selector by_domain = {.domains = mem_alloc(sizeof(char *)), .domain_count = 1};
    by_domain.domains[0] = mem_strdup(domains[0]);
    assert_int_equal(world_op(&w, QUEUE_HOLD, by_domain, &changed), OK);
    assert_int_equal(changed, 2500);
    assert_int_equal(world_stats(&w).held, 2500);
    expect_page("h.example", 10, 0, false);
    assert_int_equal(world_op(&w, QUEUE_RELEASE, (struct queue_selector){.message_id = id}, &changed), OK);
    assert_int_equal(changed, 1);
    assert_true(world_woken(&w, "h.example", NULL));
    expect_page("h.example", 10, 1, false);
    assert_int_equal(
        world_op(&w, QUEUE_RELEASE, (struct queue_selector){.campaign = mem_strdup("autumn")}, &changed), OK);
    assert_int_equal(changed, 0);
    assert_int_equal(
        world_op(&w, QUEUE_RELEASE, (struct queue_selector){.campaign = mem_strdup("spring")}, &changed), OK);
    assert_int_equal(changed, 2499);
    expect_page("h.example", 3000, 2499, false);
}

static void a_cancel_meets_a_row_in_flight(void **state)
{
    uint64_t gone = 0, stays = 0, changed;

    (void)state;
    assert_int_equal(world_accept(&w, "a@c.example", "c.example", &gone), OK);
    assert_int_equal(world_accept(&w, "b@c.example", "c.example", &stays), OK);
    assert_int_equal(
        world_op(&w, QUEUE_CANCEL, (struct queue_selector){.recipient = mem_strdup("A@c.example")}, &changed),
        OK);
    assert_int_equal(changed, 1);
    assert_int_equal(world_op(&w, QUEUE_BOUNCE, (struct queue_selector){.message_id = stays}, &changed), OK);
    assert_int_equal(w.final_notes, 0); /* both are in flight */
    struct store_final_page *f = world_final_page(&w, 10);
    assert_true(list_is_empty(&f->messages));
    store_final_page_destroy(f);
    world_result(&w, gone, 0, "c.example", THEN_REMOVE, OUTCOME_DELIVERED, 0); /* the result counts */
    world_result(&w, stays, 0, "c.example", THEN_DEFER, OUTCOME_DEFERRED, 0);  /* the operation holds */
    world_sync(&w);
    assert_int_equal(w.final_notes, 1);
    f = world_final_page(&w, 10);
    const struct final_message *m = LIST_ENTRY(list_first(&f->messages), struct final_message, node);
    assert_true(m->message->id == stays);
    assert_int_equal(m->rows[0].kind, FINAL_OPERATOR_BOUNCE);
    store_post_final_give_back(w.store, &f->messages);
    store_final_page_destroy(f);
    f = world_final_page(&w, 10);
    assert_false(list_is_empty(&f->messages));
    store_final_page_destroy(f);
    assert_int_equal(world_stats(&w).messages, 1);
}

static void a_restart_keeps_everything_and_leases_nothing(void **state)
{
    uint64_t fresh = 0, deferred = 0, held = 0, owed = 0;
    int64_t due;

    (void)state;
    assert_int_equal(world_accept(&w, "a@f.example", "f.example", &fresh), OK);
    assert_int_equal(world_accept(&w, "a@d.example", "d.example", &deferred), OK);
    assert_int_equal(world_accept(&w, "a@h.example", "h.example", &held), OK);
    assert_int_equal(world_accept(&w, "a@o.example", "o.example", &owed), OK);
    world_result(&w, deferred, 0, "d.example", THEN_DEFER, OUTCOME_DEFERRED, clock_unix() + 900);
    world_result(&w, owed, 0, "o.example", THEN_DSN, OUTCOME_BOUNCED, 0);
    world_op(&w, QUEUE_HOLD, (struct queue_selector){.message_id = held}, NULL);
    world_close(&w);
    world_must_open(&w);
    world_sync(&w);
    struct store_stats s = world_stats(&w);
    assert_int_equal(s.messages, 4);
    assert_int_equal(s.waiting, 2);
    assert_int_equal(s.held, 1);
    assert_int_equal(s.leased, 0);
    assert_int_equal(w.final_notes, 1);
    assert_true(world_woken(&w, "f.example", &due) && due <= clock_unix());
    assert_true(world_woken(&w, "d.example", &due) && due > clock_unix() + 800);
    assert_false(world_woken(&w, "h.example", NULL));
    struct store_page *p = world_page(&w, "f.example", 10);
    assert_int_equal(world_job_count(&p->jobs), 1);
    const struct job *j = LIST_ENTRY(list_first(&p->jobs), struct job, node);
    assert_int_equal(spool_load(store_spool(w.store), j->message->body), OK);
    store_page_destroy(p);
}

static void more_fresh_rows_than_a_step_come_back_after_a_restart(void **state)
{
    (void)state;
    for (int i = 0; i < 1300; i++) {
        char domain[32], address[64];
        snprintf(domain, sizeof(domain), "d%d.example", i % 700);
        snprintf(address, sizeof(address), "u%d@%s", i, domain);
        assert_int_equal(world_accept(&w, address, domain, NULL), OK);
    }
    world_close(&w);
    world_must_open(&w);
    size_t found = 0;
    for (int i = 0; i < 20; i++)
        world_sync(&w);
    for (int i = 0; i < 700; i++) {
        char domain[32];
        snprintf(domain, sizeof(domain), "d%d.example", i);
        assert_true(world_woken(&w, domain, NULL));
        struct store_page *p = world_page(&w, domain, 10);
        found += world_job_count(&p->jobs);
        store_page_destroy(p);
    }
    assert_int_equal(found, 1300);
}

static void a_large_body_lies_alone_and_goes_with_its_message(void **state)
{
    struct body_writer *bw = body_writer_create(store_spool(w.store));
    struct body *b = NULL;
    char block[65536];
    uint64_t id = 0;

    (void)state;
    memset(block, 'x', sizeof(block));
    for (int i = 0; i < 40; i++)
        assert_int_equal(body_writer_put(bw, bytes_make(block, sizeof(block))), OK);
    assert_int_equal(body_writer_finish(bw, &b), OK);
    assert_null(b->mem);
    struct body probe = {.size_bytes = b->size_bytes, .segment = b->segment, .offset = b->offset};
    assert_int_equal(world_accept_at(&w, &(struct world_rcpt){"a@b.example", "b.example"}, 1, 0, b, &id), OK);
    world_forget_jobs(&w);
    char c;
    assert_int_equal(spool_read(store_spool(w.store), &probe, 40 * 65536 - 1, 1, &c), OK);
    assert_int_equal(c, 'x');
    world_result(&w, id, 0, "b.example", THEN_REMOVE, OUTCOME_DELIVERED, 0);
    world_sync(&w);
    assert_int_equal(spool_read(store_spool(w.store), &probe, 0, 1, &c), ERR_NOT_FOUND);
}

static char *large_text(int n)
{
    char *text = mem_alloc(60001);

    memset(text, 'a' + n % 26, 60000);
    memcpy(text, "x: y\r\n\r\n", 8);
    text[60000] = '\0';
    return text;
}

static uint64_t segments_after(int ms)
{
    struct store_stats s;

    for (int i = 0; i < ms / 50; i++) {
        usleep(50000);
        store_stats(w.store, &s);
        if (s.segments == 1)
            break;
    }
    return s.segments;
}

static void what_is_left_in_a_dead_segment_moves_unless_somebody_holds_it(void **state)
{
    uint64_t ids[50] = {0};

    (void)state;
    for (int i = 0; i < 50; i++) { /* three segments of a mebibyte */
        char *text = large_text(i);
        assert_int_equal(world_accept_at(&w, &(struct world_rcpt){"a@m.example", "m.example"}, 1, 0,
                                         world_body(text), &ids[i]),
                         OK);
        mem_free(text);
    }
    assert_int_equal(world_stats(&w).segments, 3);
    for (int i = 0; i < 50; i++) {
        if (i == 3)
            world_result(&w, ids[i], 0, "m.example", THEN_DEFER, OUTCOME_DEFERRED, 0);
        else if (i != 20) /* this one stays with its worker */
            world_result(&w, ids[i], 0, "m.example", THEN_REMOVE, OUTCOME_DELIVERED, 0);
    }
    struct job *held = world_take_job(&w, ids[20], 0);
    struct body probe = {
        .size_bytes = 60000, .segment = held->message->body->segment, .offset = held->message->body->offset};
    assert_true(probe.segment > 1);
    assert_int_equal(segments_after(2500), 2); /* the first one is gone */
    char c;
    assert_int_equal(spool_read(store_spool(w.store), &probe, 59999, 1, &c), OK);
    assert_int_equal(c, 'a' + 20);
    struct store_page *p = world_page(&w, "m.example", 10);
    struct job *j = LIST_ENTRY(list_first(&p->jobs), struct job, node);
    assert_true(j->message->id == ids[3] && j->message->body->segment == 3);
    assert_int_equal(spool_load(store_spool(w.store), j->message->body), OK);
    assert_int_equal(j->message->body->mem[59999], 'a' + 3);
    store_page_destroy(p);
    world_result(&w, ids[20], 0, "m.example", THEN_REMOVE, OUTCOME_DELIVERED, 0);
    world_result(&w, ids[3], 0, "m.example", THEN_REMOVE, OUTCOME_DELIVERED, 0);
    job_destroy(held);
    assert_int_equal(world_stats(&w).messages, 0);
    assert_int_equal(segments_after(100), 1);
    assert_int_equal(spool_read(store_spool(w.store), &probe, 0, 1, &c), ERR_NOT_FOUND);
}

static int known_domains(void)
{
    sqlite3 *db;
    sqlite3_stmt *st;
    char path[100];

    snprintf(path, sizeof(path), "%s/queue.db", w.dir);
    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    sqlite3_busy_timeout(db, 2000);
    assert_int_equal(sqlite3_prepare_v2(db, "SELECT count(*) FROM domain", -1, &st, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(st), SQLITE_ROW);
    int n = sqlite3_column_int(st, 0);
    sqlite3_finalize(st);
    sqlite3_close(db);
    return n;
}

static void domains_that_nobody_writes_to_any_more_are_forgotten(void **state)
{
    uint64_t id = 0;
    char domain[32];

    (void)state;
    for (int i = 0; i < 30; i++) {
        id = 0;
        snprintf(domain, sizeof(domain), "f%d.example", i);
        assert_int_equal(world_accept(&w, "a@f.example", domain, &id), OK);
        if (i == 3)
            world_result(&w, id, 0, domain, THEN_DEFER, OUTCOME_DEFERRED, clock_unix() + 1000);
        else if (i == 4)
            world_op(&w, QUEUE_HOLD, (struct queue_selector){.message_id = id}, NULL);
        else if (i != 5)
            world_result(&w, id, 0, domain, THEN_REMOVE, OUTCOME_DELIVERED, 0);
    }
    world_forget_jobs(&w);
    world_sync(&w);
    for (int i = 0; i < 100 && known_domains() != 3; i++)
        usleep(50000);
    assert_int_equal(known_domains(), 3); /* deferred, held, in flight */
    assert_int_equal(world_accept(&w, "a@f.example", "f0.example", NULL), OK);
    assert_int_equal(world_accept(&w, "a@f.example", "f5.example", NULL), OK);
    assert_int_equal(known_domains(), 4);
    world_close(&w);
    world_must_open(&w);
    world_sync(&w);
    struct store_page *p = world_page(&w, "f5.example", 10);
    assert_int_equal(world_job_count(&p->jobs), 2);
    store_page_destroy(p);
}

static void policies_and_accounts_are_remembered(void **state)
{
    struct store_policy_save *p;
    char *why;

    (void)state;
    for (int i = 0; i < 3; i++) {
        p = MEM_NEW(struct store_policy_save);
        p->text = mem_strdup(i ? "two" : "one");
        p->author = mem_strdup("op");
        p->comment = mem_strdup("because");
        p->expected_version = i == 2 ? 1 : 0; /* stale: refused */
        store_post_policy_save(w.store, p);
    }
    struct store_account *a = MEM_NEW(struct store_account);
    a->account = (struct account){.name = mem_strdup("shop"), .iterations = 4096, .max_connections = 7};
    memset(a->account.stored_key, 0xab, SCRAM_KEY_BYTES);
    a->account.sender_domains = mem_alloc(2 * sizeof(char *));
    a->account.sender_domains[0] = mem_strdup("shop.example");
    a->account.sender_domains[1] = mem_strdup(".shop.example");
    a->account.sender_domain_count = 2;
    a->account.networks = mem_zalloc(sizeof(struct ip_net));
    a->account.network_count = ip_net_parse(BYTES("10.0.0.0/8"), a->account.networks);
    struct accounts *before = store_accounts(w.store);
    store_post_account(w.store, a);
    world_sync(&w);
    world_close(&w);
    world_must_open(&w);
    struct accounts *now = store_accounts(w.store);
    const struct account *shop = accounts_find(now, BYTES("shop"));
    assert_int_equal(accounts_count(before), 0);
    assert_non_null(shop);
    assert_int_equal(shop->iterations, 4096);
    assert_int_equal(shop->max_connections, 7);
    assert_int_equal(shop->stored_key[31], 0xab);
    assert_int_equal(shop->sender_domain_count, 2);
    assert_string_equal(shop->sender_domains[1], ".shop.example");
    assert_int_equal(shop->network_count, 1);
    assert_int_equal(shop->networks[0].prefix, 8);
    assert_false(shop->disabled);
    accounts_unref(now);
    accounts_unref(before);

    struct browse *b;
    struct arena arena = {0};
    struct browse_policy *list, info;
    size_t count;
    char *text;
    assert_int_equal(browse_open(w.dir, &b, &why), OK);
    assert_int_equal(browse_policies(b, 0, 10, &arena, &list, &count), OK);
    assert_int_equal(count, 2);
    assert_int_equal(list[0].version, 2);
    assert_string_equal(list[0].author, "op");
    assert_int_equal(browse_policy_text(b, 0, &arena, &info, &text), OK);
    assert_string_equal(text, "two");
    mem_free(text);
    assert_int_equal(browse_policy_text(b, 1, &arena, NULL, &text), OK);
    assert_string_equal(text, "one");
    mem_free(text);
    assert_int_equal(browse_policy_text(b, 9, &arena, NULL, &text), ERR_NOT_FOUND);
    browse_close(b);
    arena_fini(&arena);

    a = MEM_NEW(struct store_account);
    a->remove = true;
    a->account.name = mem_strdup("shop");
    store_post_account(w.store, a);
    world_sync(&w);
    now = store_accounts(w.store);
    assert_int_equal(accounts_count(now), 0);
    accounts_unref(now);
}

static enum err no_outcome(void *arg, uint64_t id, uint32_t no, enum attempt_then then,
                           const struct outcome *o)
{
    (void)id;
    (void)no;
    (void)then;
    (void)o;
    ++*(int *)arg;
    return OK;
}

static void what_history_holds_as_final_is_not_sent_again(void **state)
{
    struct history *h;
    char *why = NULL;
    uint64_t done = 0, open = 0;
    int64_t day = 0, row = 0;
    int seen = 0;

    (void)state;
    assert_int_equal(world_accept(&w, "a@x.example", "x.example", &done), OK);
    assert_int_equal(world_accept(&w, "b@x.example", "x.example", &open), OK);
    assert_int_equal(history_open(w.dir, 0, &h, &why), OK);
    struct attempt_batch *b = attempt_batch_create();
    struct attempt *a = attempt_batch_add(b);
    a->message_id = done;
    a->address = "a@x.example";
    a->domain = "x.example";
    a->sender = "news@sender.example";
    a->group = "default";
    a->match_pattern = "";
    a->then = THEN_REMOVE;
    a->at_unix_ms = clock_unix_ms();
    world_close(&w); /* the record is safe, the store never hears of it */
    history_post(h, b);
    history_close(h, 5000);
    assert_int_equal(history_replay(w.dir, 0, 0, no_outcome, &seen, &day, &row), OK);
    assert_int_equal(seen, 1);
    world_must_open(&w);
    world_sync(&w);
    assert_int_equal(world_stats(&w).messages, 1);
    struct store_page *p = world_page(&w, "x.example", 10);
    assert_int_equal(world_job_count(&p->jobs), 1);
    assert_true(LIST_ENTRY(list_first(&p->jobs), struct job, node)->message->id == open);
    store_page_destroy(p);
}

int main(void)
{
#define ROW(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        ROW(an_accepted_message_goes_to_the_owners_of_its_domains),
        ROW(the_same_id_twice_is_refused_and_harms_nobody),
        ROW(mail_of_a_cold_domain_waits_for_pages),
        ROW(a_call_to_be_cold_after_a_page_has_the_last_word),
        ROW(scheduled_mail_is_not_handed_out_but_announced),
        ROW(results_remove_defer_or_owe_a_dsn),
        ROW(neighbours_delivered_together_all_go),
        ROW(a_dsn_settles_what_it_reports_in_its_own_transaction),
        ROW(jobs_given_back_are_paged_again),
        ROW(before_an_end_jobs_are_let_go_pages_are_empty_and_the_next_start_has_all),
        ROW(an_operator_holds_and_releases),
        ROW(a_cancel_meets_a_row_in_flight),
        ROW(a_restart_keeps_everything_and_leases_nothing),
        ROW(more_fresh_rows_than_a_step_come_back_after_a_restart),
        ROW(a_large_body_lies_alone_and_goes_with_its_message),
        ROW(what_is_left_in_a_dead_segment_moves_unless_somebody_holds_it),
        ROW(domains_that_nobody_writes_to_any_more_are_forgotten),
        ROW(policies_and_accounts_are_remembered),
        ROW(what_history_holds_as_final_is_not_sent_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
