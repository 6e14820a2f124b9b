/* What was accepted, by day and campaign: in the accept's own transaction, and never twice. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "queue/schema.h"
#include "queue/sql.h"
#include "tests/unit/queue/world.h"

static struct world w;

static int fresh_world(void **state)
{
    (void)state;
    world_init(&w);
    return 0;
}

static int end_world(void **state)
{
    (void)state;
    world_fini(&w);
    return 0;
}

static const struct world_rcpt three[] = {
    {"a@x.example", "x.example"}, {"b@x.example", "x.example"}, {"c@y.example", "y.example"}};

static struct browse_tally tally(struct arena *arena, int64_t since_day, const char *campaign,
                                 bool by_campaign)
{
    struct browse_tally t;
    struct browse *b = NULL;
    char *why = NULL;

    assert_int_equal(browse_open(w.dir, &b, &why), OK);
    assert_int_equal(browse_tally(b, since_day, campaign, by_campaign, arena, &t), OK);
    browse_close(b);
    return t;
}

static void expect(const char *campaign, uint64_t messages, uint64_t rcpts, uint64_t waiting)
{
    struct arena arena = {0};
    struct browse_tally t = tally(&arena, 0, campaign, false);

    assert_int_equal(t.total.messages, messages);
    assert_int_equal(t.total.rcpts, rcpts);
    assert_int_equal(t.total.waiting, waiting);
    assert_int_equal(t.count, 0);
    arena_fini(&arena);
}

static void result(uint64_t id, uint32_t no, const char *domain, enum attempt_then then,
                   enum outcome_kind kind, int64_t due_unix)
{
    world_result(&w, id, no, domain, then, kind, due_unix);
    world_sync(&w);
}

static void finals_leave_what_waits_and_not_what_was_accepted(void **state)
{
    uint64_t id = 0;

    (void)state;
    world_must_open(&w);
    expect(NULL, 0, 0, 0);
    assert_int_equal(world_accept_at(&w, three, 3, 0, world_body("x: y\r\n\r\n"), &id), OK);
    world_forget_jobs(&w);
    expect(NULL, 1, 3, 3);
    result(id, 0, "x.example", THEN_REMOVE, OUTCOME_DELIVERED, 0);
    expect(NULL, 1, 3, 2);
    result(id, 1, "x.example", THEN_DSN, OUTCOME_BOUNCED, 0);
    expect(NULL, 1, 3, 1); /* final in history, though its row stays until the DSN is accepted */
    expect("spring", 1, 3, 1);
    result(id, 2, "y.example", THEN_DEFER, OUTCOME_DEFERRED, clock_unix() + 60);
    expect(NULL, 1, 3, 1);
    world_op(&w, QUEUE_HOLD, (struct queue_selector){.all = true}, NULL);
    expect("spring", 1, 3, 1);
    world_op(&w, QUEUE_CANCEL, (struct queue_selector){.all = true}, NULL);
    expect(NULL, 1, 3, 1); /* not recorded yet */
    world_close(&w);
    world_must_open(&w);
    expect(NULL, 1, 3, 1);
}

/* Sends messages of these campaigns in one burst, so that commits hold several of them. */
static void accept_campaigns(const char *const *campaigns, size_t count, int64_t accepted_unix)
{
    for (size_t i = 0; i < count; i++) {
        struct rcpt rcpts[2] = {{.no = 0, .address = "a@x.example", .domain = "x.example"},
                                {.no = 1, .address = "b@y.example", .domain = "y.example"}};
        struct message m = {.id = message_id_make(1),
                            .accepted_unix = accepted_unix,
                            .sender = "s@o.example",
                            .campaign = campaigns[i],
                            .body = world_body("x: y\r\n\r\n"),
                            .rcpt_count = 2,
                            .rcpt_total = 2,
                            .rcpts = rcpts};
        struct store_accept *a = MEM_NEW(struct store_accept);
        a->message = message_create(&m);
        body_unref(m.body);
        store_post_accept(w.store, a); /* nobody waits: the store frees it */
    }
    world_sync(&w);
    world_forget_jobs(&w);
}

static void each_campaign_and_day_has_its_own_sum(void **state)
{
    static const char *const campaigns[] = {"b", NULL, "a", "b", "b", "", "a b", "b"};
    int64_t today = clock_unix() / 86400;
    struct arena arena = {0};

    (void)state;
    world_must_open(&w);
    accept_campaigns(campaigns, COUNT_OF(campaigns), clock_unix());
    accept_campaigns(campaigns, 1, (today - 3) * 86400);
    struct browse_tally t = tally(&arena, 0, NULL, true);
    static const struct {
        const char *campaign;
        uint64_t messages;
    } want[] = {{"", 2}, {"a", 1}, {"a b", 1}, {"b", 5}};
    assert_int_equal(t.count, COUNT_OF(want));
    for (size_t i = 0; i < COUNT_OF(want); i++) {
        assert_string_equal(t.rows[i].campaign, want[i].campaign);
        assert_int_equal(t.rows[i].messages, want[i].messages);
        assert_int_equal(t.rows[i].rcpts, 2 * want[i].messages);
        assert_int_equal(t.rows[i].waiting, 2 * want[i].messages);
    }
    assert_int_equal(t.total.messages, 9);
    assert_int_equal(t.total.waiting, 18);
    expect("b", 5, 10, 10);
    expect("nobody's", 0, 0, 0);
    t = tally(&arena, today - 2, NULL, false); /* the older message is on neither side */
    assert_int_equal(t.total.rcpts, 16);
    assert_int_equal(t.total.waiting, 16);
    arena_fini(&arena);
}

static void days_that_history_has_deleted_leave_the_tally_too(void **state)
{
    static const char *const campaigns[] = {"c"};
    int64_t now = clock_unix(), today = now / 86400;
    struct arena arena = {0};

    (void)state;
    world_must_open(&w); /* history_days 0: kept for ever */
    accept_campaigns(campaigns, 1, (today - 40) * 86400);
    accept_campaigns(campaigns, 1, now);
    expect("c", 2, 4, 4);
    world_close(&w);
    w.config.history_days = 30;
    world_must_open(&w);
    accept_campaigns(campaigns, 1, now);
    struct browse_tally t = tally(&arena, 0, NULL, false);
    assert_int_equal(t.since_day, today - 30 + 1);
    assert_int_equal(t.total.rcpts, 4);
    assert_int_equal(t.total.waiting, 4); /* the old message waits still, but on neither side of the sum */
    arena_fini(&arena);
}

static void a_queue_from_before_the_tally_says_from_when_it_is_whole(void **state)
{
    sqlite3 *db;
    sqlite3_stmt *st;
    bool row;

    (void)state;
    assert_int_equal(sqlite3_open(":memory:", &db), SQLITE_OK);
    assert_int_equal(schema_migrate(db, 0, 1), OK);
    assert_int_equal(sql_exec(db, "INSERT INTO policy VALUES(1, 0, '', '', '')"), OK);
    assert_int_equal(schema_migrate(db, 1, schema_version()), OK);
    assert_int_equal(sql_prepare(db, &st, "SELECT value FROM meta WHERE key = 'tally_since'"), OK);
    assert_int_equal(sql_step(st, &row), OK);
    assert_true(row);
    assert_in_range(sqlite3_column_int64(st, 0), clock_unix() / 86400, clock_unix() / 86400 + 1);
    sqlite3_finalize(st);
    sqlite3_close(db);
    assert_int_equal(sqlite3_open(":memory:", &db), SQLITE_OK);
    assert_int_equal(schema_migrate(db, 0, schema_version()), OK);
    assert_int_equal(sql_prepare(db, &st, "SELECT value FROM meta WHERE key = 'tally_since'"), OK);
    assert_int_equal(sql_step(st, &row), OK);
    assert_false(row); /* a new queue is whole from its beginning */
    sqlite3_finalize(st);
    sqlite3_close(db);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(finals_leave_what_waits_and_not_what_was_accepted, fresh_world,
                                        end_world),
        cmocka_unit_test_setup_teardown(each_campaign_and_day_has_its_own_sum, fresh_world, end_world),
        cmocka_unit_test_setup_teardown(days_that_history_has_deleted_leave_the_tally_too, fresh_world,
                                        end_world),
        cmocka_unit_test(a_queue_from_before_the_tally_says_from_when_it_is_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
