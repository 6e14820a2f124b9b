/* What the store asks for at its start: the finals after a position, whatever happened before. */
#include "tests/unit/queue/history_help.h"

#include <signal.h>
#include <sys/wait.h>

struct replayed {
    uint64_t *messages;
    size_t count;
    size_t stop_after;
};

static enum err on_final(void *arg, uint64_t message_id, uint32_t rcpt_no, enum attempt_then then,
                         const struct outcome *o)
{
    struct replayed *r = arg;

    (void)rcpt_no;
    assert_true(then == THEN_REMOVE || then == THEN_DSN);
    assert_true(o->kind != OUTCOME_DEFERRED);
    r->messages = mem_realloc(r->messages, (r->count + 1) * sizeof(*r->messages));
    r->messages[r->count++] = message_id;
    return r->stop_after && r->count == r->stop_after ? ERR_FULL : OK;
}

static size_t replay_count(const struct world *w, int64_t day, int64_t row, int64_t *last_row)
{
    struct replayed r = {0};
    int64_t last_day;

    assert_int_equal(history_replay(w->dir, day, row, on_final, &r, &last_day, last_row), OK);
    mem_free(r.messages);
    return r.count;
}

static void replay_gives_finals_after_the_position_in_order(void **state)
{
    struct world *w = *state;
    struct replayed r = {0};
    int64_t day = -1, row = -1;

    /* Nothing there yet. */
    assert_int_equal(history_replay(w->dir, 5, 6, on_final, &r, &day, &row), OK);
    assert_int_equal(r.count, 0);
    assert_int_equal(day, 5);
    assert_int_equal(row, 6);
    world_open(w, 0);
    for (int d = 0; d < 3; d++) {
        struct attempt_batch *b = attempt_batch_create();
        for (unsigned i = 0; i < 8; i++) {
            struct attempt *a = add_attempt(b, (unsigned)d * 100 + i);
            a->then = (enum attempt_then)(i % 4);
            if (a->then == THEN_DEFER || a->then == THEN_NOTHING)
                a->outcome.kind = OUTCOME_DEFERRED;
        }
        post_and_wait(w, b);
        pass_time(MS_PER_DAY);
    }
    assert_int_equal(history_replay(w->dir, 0, 0, on_final, &r, &day, &row), OK);
    static const uint64_t want[] = {0, 2, 4, 6, 100, 102, 104, 106, 200, 202, 204, 206};
    assert_int_equal(r.count, COUNT_OF(want));
    assert_memory_equal(r.messages, want, sizeof(want));
    assert_int_equal(day, store_heard.items[2].day);
    assert_int_equal(row, store_heard.items[2].row);
    /* After the second day's batch. */
    assert_int_equal(replay_count(w, store_heard.items[1].day, store_heard.items[1].row, &row), 4);
    assert_int_equal(replay_count(w, store_heard.items[1].day, store_heard.items[1].row - 5, &row), 4 + 2);
    assert_int_equal(replay_count(w, day, store_heard.items[2].row, &row), 0);
    /* A file that is missing or spoiled costs its own records only. */
    char *path = history_file_path(w->dir, DAY0 + 1, 0);
    write_file(path, "nonsense", 8);
    assert_int_equal(replay_count(w, 0, 0, &row), 8);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(replay_count(w, 0, 0, &row), 8);
    mem_free(path);
    /* The store may refuse. */
    r.count = 0;
    r.stop_after = 3;
    assert_int_equal(history_replay(w->dir, 0, 0, on_final, &r, &day, &row), ERR_FULL);
    assert_int_equal(r.count, 3);
    mem_free(r.messages);
}

static void replay_keeps_what_was_said(void **state)
{
    struct world *w = *state;
    struct attempt_batch *b = attempt_batch_create();
    struct attempt *a = add_attempt(b, 77);

    a->then = THEN_DSN;
    a->rcpt_no = 9;
    a->outcome = (struct outcome){
        .kind = OUTCOME_BOUNCED, .stage = STAGE_RCPT, .code = 550, .remote = true, .in_doubt = true};
    snprintf(a->outcome.enhanced, sizeof(a->outcome.enhanced), "5.1.1");
    memset(a->outcome.text, 'x', sizeof(a->outcome.text) - 1);
    world_open(w, 0);
    post_and_wait(w, b);
    struct report_attempts found;
    assert_int_equal(report_attempts(w->dir, &(struct report_which){.message_id = 77}, &found), OK);
    assert_int_equal(found.count, 1);
    const struct attempt *f = &found.rows[0].attempt;
    assert_int_equal(f->outcome.kind, OUTCOME_BOUNCED);
    assert_int_equal(f->outcome.code, 550);
    assert_int_equal(strlen(f->outcome.text), sizeof(f->outcome.text) - 1);
    report_attempts_fini(&found);
}

/* A crash while a day file is young leaves a rollback journal: who only reads must be able to play it back.
 */
static void a_hot_journal_does_not_stop_replay(void **state)
{
    struct world *w = *state;
    struct replayed r = {0};
    int64_t day = -1, row = -1;

    world_open(w, 0);
    post_and_wait(w, batch_of(1, 3));
    history_close(TAKE(w->h), 5000);
    char *path = history_file_path(w->dir, NOON / 86400, 0);
    pid_t child = fork();
    if (child == 0) {
        sqlite3 *db = NULL;
        if (sqlite3_open(path, &db) != SQLITE_OK ||
            sqlite3_exec(db,
                         "PRAGMA journal_mode = DELETE; PRAGMA cache_size = 1; BEGIN; CREATE TABLE t(x);"
                         "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)"
                         "INSERT INTO t SELECT zeroblob(4000) FROM n",
                         NULL, NULL, NULL) != SQLITE_OK)
            _exit(1);
        _exit(0); /* in the middle of the transaction */
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_true(file_exists(w, NOON / 86400, 0, "-journal"));
    assert_int_equal(history_replay(w->dir, 0, 0, on_final, &r, &day, &row), OK);
    assert_int_equal(r.count, 3);
    mem_free(r.messages);
    mem_free(path);
}

/* Posts for ever; tells what was handed on through the pipe; is killed. */
static void child_posts(const struct world *w, int fd, uint64_t first_id)
{
    struct history *h;
    char *why;

    history_clock = (struct history_clock){test_wall, test_steady};
    store_heard.count = 0;
    store_heard.fd = fd;
    if (history_open(w->dir, 0, &h, &why))
        _exit(1);
    history_attach(h, (struct store *)&store_heard);
    for (uint64_t id = first_id;; id += 20) {
        history_post(h, batch_of(id, 20));
        if (id / 20 % 4 == 0)
            pass_time(300);
        while (history_backlog(h) > 500)
            usleep(100);
    }
}

static void after_a_kill_replay_gives_all_that_was_handed_on_and_nothing_twice(void **state)
{
    struct world *w = *state;
    uint64_t next_id = 1;
    struct given *heard = NULL;
    size_t heard_count = 0, handed_on = 0;
    int64_t row;

    for (int round = 0; round < 12; round++) {
        int pipes[2];
        assert_int_equal(pipe(pipes), 0);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            close(pipes[0]);
            child_posts(w, pipes[1], next_id);
        }
        close(pipes[1]);
        size_t stop_at = heard_count + 3 + (size_t)(rand() % 60);
        struct given g;
        while (read(pipes[0], &g, sizeof(g)) == (ssize_t)sizeof(g)) {
            heard = mem_realloc(heard, (heard_count + 1) * sizeof(*heard));
            heard[heard_count++] = g;
            handed_on += g.count;
            if (heard_count == stop_at)
                kill(pid, SIGKILL); /* and read on: what was told before it died counts */
        }
        close(pipes[0]);
        int status;
        waitpid(pid, &status, 0);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        next_id += 10000000;

        struct replayed r = {0};
        int64_t day;
        assert_int_equal(history_replay(w->dir, 0, 0, on_final, &r, &day, &row), OK);
        assert_true(r.count >= handed_on);
        /* What was handed on lies at or before its position, to the last record. */
        size_t newer = replay_count(w, heard[heard_count - 1].day, heard[heard_count - 1].row, &row);
        size_t in_lost_batches = r.count - newer - handed_on; /* of earlier rounds: safe, not handed on */
        assert_int_equal(in_lost_batches % 20, 0);
        assert_int_equal(newer % 20, 0); /* a batch is there whole or not at all */
        for (size_t i = 1; i < r.count; i++)
            assert_true(r.messages[i] > r.messages[i - 1]); /* in order, so none twice */
        mem_free(r.messages);
        assert_rollups_are_exact(w, DAY0);
    }
    mem_free(heard);
    assert_int_equal(
        ask(w, DAY0, 0, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_WORLD(replay_gives_finals_after_the_position_in_order),
        IN_WORLD(replay_keeps_what_was_said),
        IN_WORLD(a_hot_journal_does_not_stop_replay),
        IN_WORLD(after_a_kill_replay_gives_all_that_was_handed_on_and_nothing_twice),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
