/* History on a disk whose writes and syncs fail. */
#include "tests/unit/queue/history_help.h"

#include <errno.h>
#include <fcntl.h>

#include "tests/unit/queue/faults.h"

static void let_it_recover(struct world *w)
{
    for (int i = 0; i < 400 && history_backlog(w->h); i++) {
        usleep(5000);
        if (faults_met())
            pass_time(300);
    }
    if (history_backlog(w->h))
        fail_msg("%zu attempts are still waiting", history_backlog(w->h));
}

/* The record at the place that the store was told is the last of its batch. */
static void assert_places_are_right(const struct world *w)
{
    BUF_LOCAL(sql);

    for (size_t i = 0; i < store_heard.count; i++) {
        const struct given *g = &store_heard.items[i];
        buf_clear(&sql);
        buf_putf(&sql, "SELECT message FROM attempt WHERE id = %lld", (long long)g->row);
        assert_int_equal(ask(w, g->day, 0, buf_str(&sql)), g->message_id + g->count - 1);
    }
}

static void one_failure(enum fault_call call, int nth, int error, bool stays)
{
    struct world *w = NULL;
    const uint64_t posted = 20 + 3 * 30;

    assert_int_equal(world_set_up((void **)&w), 0);
    world_open(w, 0);
    post_and_wait(w, batch_of(1, 20));
    faults_set(call, nth, error, stays);
    pass_time(1100); /* a rollup is due with the next batch */
    for (uint64_t i = 0; i < 3; i++) {
        history_post(w->h, batch_of(1000 + i * 100, 30));
        usleep(2000);
    }
    for (int i = 0; i < 100 && history_backlog(w->h) && !faults_met(); i++)
        usleep(1000);
    if (stays) /* what was handed on while the disk failed was not touched by it */
        usleep(20000);
    faults_heal();
    let_it_recover(w);
    history_close(w->h, 5000);
    w->h = NULL;
    assert_int_equal(heard_attempts(), posted);
    assert_int_equal(ask(w, DAY0, 0, "SELECT count(*) FROM attempt"), posted);
    assert_int_equal(ask(w, DAY0, 0, "SELECT count(DISTINCT message) FROM attempt"), posted);
    assert_int_equal(ask(w, DAY0, 0, "SELECT sum(attempts) FROM rollup"), posted);
    assert_int_equal(
        ask(w, DAY0, 0, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'"), 0);
    assert_false(file_exists(w, DAY0, 1, ""));
    assert_places_are_right(w);
    assert_int_equal(world_tear_down((void **)&w), 0);
}

static void a_call_that_fails_costs_no_record_and_doubles_none(void **state)
{
    static const int errors[] = {EIO, ENOSPC};
    int hit = 0;

    (void)state;
    for (int call = 0; call <= FAULT_WRITE; call++)
        for (int nth = 1; nth <= (call == FAULT_SYNC ? 4 : 16); nth++)
            for (int stays = 0; stays < 2; stays++) {
                one_failure((enum fault_call)call, nth, errors[nth % 2], stays);
                hit += faults_met() > 0;
            }
    assert_true(hit > 20); /* else nothing was tested */
}

static void a_commit_that_lost_its_sync_is_not_written_twice_when_it_is_there_after_all(void **state)
{
    struct world *w = *state;

    world_open(w, 0);
    post_and_wait(w, batch_of(1, 20));
    faults_set(FAULT_SYNC, 1, EIO, true); /* and the checkpoint at close fails too: the WAL stays */
    history_post(w->h, batch_of(100, 30));
    for (int i = 0; i < 1000 && faults_met() < 2; i++)
        usleep(1000);
    usleep(20000);
    assert_int_equal(heard_attempts(), 20);
    history_post(w->h, batch_of(200, 5));
    assert_int_equal(ask(w, DAY0, 0, "SELECT count(*) FROM attempt"), 50); /* there it is */
    faults_heal();
    let_it_recover(w);
    assert_int_equal(heard_attempts(), 55);
    assert_int_equal(ask(w, DAY0, 0, "SELECT count(*) FROM attempt"), 55);
    assert_int_equal(ask(w, DAY0, 0, "SELECT count(DISTINCT message) FROM attempt"), 55);
    assert_places_are_right(w);
}

static void closing_on_a_dead_disk_ends_in_time(void **state)
{
    struct world *w = *state;

    world_open(w, 0);
    post_and_wait(w, batch_of(1, 20));
    faults_set(FAULT_WRITE, 1, EIO, true);
    history_post(w->h, batch_of(100, 30));
    usleep(20000);
    uint64_t start = clock_now_ms();
    history_close(w->h, 300);
    w->h = NULL;
    assert_true(clock_now_ms() - start < 5000);
    faults_heal();
    assert_int_equal(heard_attempts(), 20); /* what is not safe is not handed on */
    assert_int_equal(ask(w, DAY0, 0, "SELECT count(*) FROM attempt"), 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_that_fails_costs_no_record_and_doubles_none),
        IN_WORLD(a_commit_that_lost_its_sync_is_not_written_twice_when_it_is_there_after_all),
        IN_WORLD(closing_on_a_dead_disk_ends_in_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
