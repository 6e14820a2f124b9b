/* Disks that fail, fill up or hold something else. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "queue/schema.h"
#include "tests/unit/queue/faults.h"
#include "tests/unit/queue/world.h"

static struct world w;

static int setup(void **state)
{
    (void)state;
    faults_heal();
    world_init(&w);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    faults_heal();
    world_fini(&w);
    return 0;
}

static char *path_of(const char *name)
{
    static char path[120];
    snprintf(path, sizeof(path), "%s/%s", w.dir, name);
    return path;
}

static void expect_refusal(enum err want, const char *words)
{
    char *why = NULL;

    assert_int_equal(world_open(&w, &why), want);
    assert_non_null(why);
    if (!strstr(why, words))
        fail_msg("\"%s\" does not say \"%s\"", why, words);
    mem_free(why);
}

/* ---- refusing to start ---- */

static void a_second_daemon_is_refused_by_name(void **state)
{
    struct world_rcpt r = {"a@b.example", "b.example"};
    struct store *first;
    char pid[40];

    (void)state;
    world_must_open(&w);
    first = w.store;
    snprintf(pid, sizeof(pid), "another hayaumad (pid %ld)", (long)getpid());
    expect_refusal(ERR_BUSY, pid);
    w.store = first;
    assert_int_equal(world_accept_at(&w, &r, 1, 0, world_body("x: y\r\n\r\n"), NULL), OK);
    world_close(&w);
    world_must_open(&w); /* the lock ends with its holder */
}

static void write_file(const char *name, const void *octets, size_t len)
{
    int fd = open(path_of(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, octets, len), len);
    close(fd);
}

/* Undoes every step of schema.c but the first. */
static const char first_version[] =
    "ALTER TABLE message DROP COLUMN content_offset; ALTER TABLE message DROP COLUMN content_segment;"
    "ALTER TABLE counter DROP COLUMN expire; DROP INDEX rcpt_ready; ALTER TABLE rcpt DROP COLUMN lane;"
    "CREATE INDEX rcpt_ready ON rcpt(domain_id, due, message_id, no, state) WHERE state = 1;"
    "ALTER TABLE account DROP COLUMN priority; ALTER TABLE message DROP COLUMN expires;"
    "ALTER TABLE account DROP COLUMN campaign; ALTER TABLE counter DROP COLUMN paused;"
    "ALTER TABLE account DROP COLUMN certificates; DROP TABLE keep; DROP TABLE tally;"
    "DELETE FROM meta WHERE key IN ('tally_since', 'spool_key'); PRAGMA user_version = 1";

static void set_pragma(const char *sql)
{
    sqlite3 *db;

    assert_int_equal(sqlite3_open(path_of("queue.db"), &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

/* As a crash right after the commit leaves it: the change stands in the WAL, the file's head knows nothing.
 */
static void set_in_wal(const char *sql, unsigned migrate_from)
{
    sqlite3 *db;

    assert_int_equal(sqlite3_open(path_of("queue.db"), &db), SQLITE_OK);
    assert_int_equal(sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    if (migrate_from)
        assert_int_equal(schema_migrate(db, migrate_from, schema_version()), OK);
    sqlite3_close(db);
}

static off_t size_of(const char *name)
{
    struct stat st;

    return stat(path_of(name), &st) ? 0 : st.st_size;
}

static void a_newer_version_that_only_the_wal_knows_is_refused_and_left_there(void **state)
{
    char newer[60];

    (void)state;
    world_must_open(&w);
    assert_int_equal(world_accept(&w, "a@b.example", "b.example", NULL), OK);
    world_close(&w);
    snprintf(newer, sizeof(newer), "PRAGMA user_version = %u", schema_version() + 1);
    set_in_wal(newer, 0);
    off_t wal = size_of("queue.db-wal");
    assert_true(wal > 0);
    expect_refusal(ERR_VERSION, "newer Hayauma");
    assert_int_equal(size_of("queue.db-wal"), wal);
}

static void a_migration_that_only_the_wal_knows_is_not_made_again(void **state)
{
    struct browse *b;
    char *why = NULL;

    (void)state;
    world_must_open(&w);
    assert_int_equal(world_accept(&w, "a@b.example", "b.example", NULL), OK);
    world_close(&w);
    set_pragma(first_version);
    set_in_wal("PRAGMA wal_autocheckpoint = 0", 1);
    world_must_open(&w);
    assert_int_equal(world_stats(&w).messages, 1);
    assert_int_equal(browse_open(w.dir, &b, &why), OK); /* nor is a reader misled */
    browse_close(b);
}

static void what_is_not_our_database_is_never_replaced(void **state)
{
    char zeros[8192] = {0}, newer[60];

    (void)state;
    world_must_open(&w);
    assert_int_equal(world_accept(&w, "a@b.example", "b.example", NULL), OK);
    world_close(&w);
    snprintf(newer, sizeof(newer), "PRAGMA user_version = %u", schema_version() + 1);
    set_pragma(newer);
    expect_refusal(ERR_VERSION, "newer Hayauma");
    snprintf(newer, sizeof(newer), "PRAGMA user_version = %u", schema_version());
    set_pragma(newer);
    set_pragma("PRAGMA application_id = 77");
    expect_refusal(ERR_VERSION, "not a Hayauma queue");
    set_pragma("PRAGMA application_id = 1212242257"); /* "HAYQ" */
    world_must_open(&w);
    assert_int_equal(world_stats(&w).messages, 1);
    world_close(&w);
    assert_int_equal(truncate(path_of("queue.db"), 20000), 0);
    expect_refusal(ERR_CORRUPT, "shorter than it says");
    write_file("queue.db", zeros, sizeof(zeros));
    expect_refusal(ERR_CORRUPT, "does not begin like a database");
    write_file("queue.db", "", 0);
    expect_refusal(ERR_CORRUPT, "empty");
    struct stat st;
    assert_int_equal(stat(path_of("queue.db"), &st), 0);
    assert_int_equal(st.st_size, 0); /* untouched */
    unlink(path_of("queue.db"));
    expect_refusal(ERR_NOT_FOUND, "is missing");
    assert_int_not_equal(access(path_of("queue.db"), F_OK), 0);
}

static void a_page_that_was_overwritten_is_found_at_start(void **state)
{
    char zeros[4096] = {0};

    (void)state;
    world_must_open(&w);
    assert_int_equal(world_accept(&w, "a@b.example", "b.example", NULL), OK);
    world_close(&w);
    int fd = open(path_of("queue.db"), O_WRONLY);
    assert_int_equal(pwrite(fd, zeros, sizeof(zeros), 4096L * 3), 4096);
    close(fd);
    expect_refusal(ERR_CORRUPT, "restore it from a backup");
}

static void bodies_without_a_database_are_not_thrown_away(void **state)
{
    (void)state;
    assert_int_equal(mkdir(path_of("spool"), 0700), 0);
    write_file("spool/0000000000000007.seg", "mail", 4);
    expect_refusal(ERR_NOT_FOUND, "is missing");
    assert_int_equal(access(path_of("spool/0000000000000007.seg"), F_OK), 0);
}

static void an_unwritable_directory_is_refused_with_advice(void **state)
{
    (void)state;
    if (geteuid() == 0) { /* as root, a file in the way does what permissions cannot */
        write_file("spool", "", 0);
        expect_refusal(ERR_IO, "spool");
        unlink(path_of("spool"));
        return;
    }
    assert_int_equal(chmod(w.dir, 0500), 0);
    expect_refusal(ERR_DENIED, "give it to the user");
    assert_int_equal(chmod(w.dir, 0700), 0);
}

static void everything_is_private(void **state)
{
    static const char *const names[] = {"queue.db", "queue.db-wal", "lock", "spool", "."};
    struct stat st;

    (void)state;
    world_must_open(&w);
    assert_int_equal(world_accept(&w, "a@b.example", "b.example", NULL), OK);
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        assert_int_equal(stat(path_of(names[i]), &st), 0);
        assert_int_equal(st.st_mode & 077, 0);
    }
}

static void an_older_schema_is_brought_up_step_by_step(void **state)
{
    sqlite3 *db;

    (void)state;
    assert_int_equal(sqlite3_open(":memory:", &db), SQLITE_OK);
    assert_int_equal(schema_migrate(db, 0, schema_version()), OK);
    assert_int_equal(sqlite3_exec(db, "SELECT messages FROM counter", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(schema_migrate(db, 0, 1), ERR_IO); /* the tables are there: nothing is half done */
    assert_int_equal(sqlite3_get_autocommit(db), 1);
    sqlite3_close(db);
}

static void a_queue_of_the_first_version_is_taken_over_with_its_mail(void **state)
{
    (void)state;
    world_must_open(&w);
    assert_int_equal(world_accept(&w, "a@b.example", "b.example", NULL), OK);
    world_close(&w);
    set_pragma(first_version);
    world_must_open(&w);
    assert_int_equal(world_stats(&w).messages, 1);
    assert_int_equal(world_accept(&w, "a@b.example", "b.example", NULL), OK);
    world_close(&w);
    world_must_open(&w);
    assert_int_equal(world_stats(&w).messages, 2);
}

/* ---- failing while it runs ---- */

struct survivor {
    uint64_t id;
    bool accepted;
};

static void check_survivors(const struct survivor *s, size_t count)
{
    struct browse *b;
    struct arena arena = {0};
    struct browse_message m;
    char *why;

    assert_int_equal(browse_open(w.dir, &b, &why), OK);
    for (size_t i = 0; i < count; i++) {
        enum err e = browse_message(b, s[i].id, &arena, &m);
        if (s[i].accepted)
            assert_int_equal(e, OK);
        struct buf head = {0};
        if (!e) { /* whatever is there has its octets */
            assert_int_equal(browse_header(b, store_spool(w.store), s[i].id, 100, &head), OK);
            assert_string_equal(buf_str(&head), "Subject: x\r\n\r\n");
        }
        buf_fini(&head);
    }
    browse_close(b);
    arena_fini(&arena);
}

/* For every n: the n-th sync, write or body write fails once; what was answered OK survives a restart. */
static void every_failing_call_gives_an_error_and_loses_nothing(void **state)
{
    (void)state;
    for (int c = 0; c < FAULT_CALLS; c++) {
        int met = 0;
        for (int n = 1; n <= 9; n++) {
            struct survivor s[6] = {{0}};
            int failed = 0;
            world_must_open(&w);
            assert_int_equal(world_accept(&w, "a@b.example", "b.example", &s[0].id), OK);
            s[0].accepted = true;
            faults_set((enum fault_call)c, n, n % 2 ? EIO : ENOSPC, false);
            for (int i = 1; i < 6; i++) {
                enum err e = world_accept(&w, "a@b.example", "b.example", &s[i].id);
                s[i].accepted = !e;
                failed += e != OK;
                if (e == ERR_NOSPACE)
                    break; /* refused until the disk was looked at again */
            }
            faults_heal();
            assert_true(failed > 0 || faults_met() == 0 ||
                        w.config.settle_ms); /* later rows fail for nobody */
            met += faults_met();
            world_close(&w);
            world_must_open(&w);
            check_survivors(s, 6);
            assert_int_equal(world_stats(&w).messages >= 1, 1);
            world_close(&w);
        }
        assert_true(met >= 5); /* the faults did happen */
    }
    world_must_open(&w);
}

struct burst {
    struct survivor s[200];
    size_t answered;
};
static struct burst burst;

static void on_burst(struct note *note, void *owner)
{
    struct store_accept *a = CONTAINER_OF(note, struct store_accept, req.note);

    (void)owner;
    for (size_t i = 0; i < COUNT_OF(burst.s); i++)
        if (burst.s[i].id == a->message->id)
            burst.s[i].accepted = a->req.result == OK;
    burst.answered++;
    store_accept_destroy(a);
}

static void send_burst(void)
{
    memset(&burst, 0, sizeof(burst));
    for (size_t i = 0; i < COUNT_OF(burst.s); i++) {
        struct rcpt r = {.address = "a@b.example", .domain = "b.example"};
        struct body *body = world_body("Subject: x\r\n\r\nhello\r\n");
        struct message m = {.id = message_id_make(0),
                            .sender = "",
                            .body = body,
                            .rcpt_count = 1,
                            .rcpt_total = 1,
                            .rcpts = &r};
        struct store_accept *a = MEM_NEW(struct store_accept);
        a->message = message_create(&m);
        a->req.reply_to = &w.inboxes[0];
        a->req.on_reply = on_burst;
        burst.s[i].id = m.id;
        body_unref(body);
        store_post_accept(w.store, a);
    }
    for (int i = 0; i < 600 && burst.answered < COUNT_OF(burst.s); i++)
        world_sync(&w);
    assert_int_equal(burst.answered, COUNT_OF(burst.s));
}

/* Batches large enough that another thread syncs their bodies. */
static void a_batch_whose_sync_fails_is_refused_as_a_whole(void **state)
{
    int failed = 0;

    (void)state;
    for (int n = 1; n <= 8; n++) {
        world_must_open(&w);
        faults_set(n % 2 ? FAULT_SYNC : FAULT_BODY_WRITE, n / 2 + 1, EIO, false);
        send_burst();
        faults_heal();
        for (size_t i = 0; i < COUNT_OF(burst.s); i++)
            failed += !burst.s[i].accepted;
        world_close(&w);
        world_must_open(&w);
        check_survivors(burst.s, COUNT_OF(burst.s));
        world_close(&w);
    }
    assert_true(failed > 8);
}

static void an_error_is_told_in_the_words_of_whoever_had_it(void **state)
{
    static const struct {
        enum fault_call fault;
        const char *says;
    } rows[] = {{FAULT_BODY_WRITE, "write: "}, {FAULT_WRITE, "disk I/O error"}};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        world_must_open(&w);
        faults_set(rows[i].fault, 1, EIO, true);
        bool later = w.config.settle_ms && rows[i].fault == FAULT_WRITE;
        assert_int_equal(world_accept(&w, "a@b.example", "b.example", NULL), later ? OK : ERR_IO);
        if (later)
            store_settle(w.store); /* returns, although the rows are refused */
        faults_heal();
        struct store_stats s = world_stats(&w);
        if (!strstr(s.last_error, rows[i].says) || strstr(s.last_error, "not an error"))
            fail_msg("\"%s\" for %zu", s.last_error, i);
        world_close(&w);
    }
}

static void results_outlive_a_disk_that_does_not_take_them(void **state)
{
    uint64_t id = 0;
    struct store_stats s;

    (void)state;
    world_must_open(&w);
    assert_int_equal(world_accept(&w, "a@b.example", "b.example", &id), OK);
    faults_set(FAULT_SYNC, 1, EIO, true);
    world_result(&w, id, 0, "b.example", THEN_REMOVE, OUTCOME_DELIVERED, 0);
    s = world_stats(&w);
    assert_int_equal(s.delivered, 0);
    assert_int_equal(s.leased, 1); /* still nobody else's */
    assert_true(s.last_error[0] != '\0');
    assert_int_equal(world_accept(&w, "c@b.example", "b.example", NULL), ERR_IO);
    faults_heal();
    for (int i = 0; i < 200 && s.delivered == 0; i++) {
        usleep(20000);
        store_stats(w.store, &s);
    }
    assert_int_equal(s.delivered, 1);
    assert_int_equal(world_stats(&w).messages, 0);
    assert_int_equal(world_stats(&w).leased, 0);
}

static void a_row_deleted_twice_over_a_failed_commit_keeps_its_message_count(void **state)
{
    static const struct world_rcpt rcpts[] = {{"a@b.example", "b.example"}, {"c@b.example", "b.example"}};
    uint64_t id = 0;

    (void)state;
    world_must_open(&w);
    assert_int_equal(world_accept_at(&w, rcpts, 2, 0, world_body("x: y\r\n\r\n"), &id), OK);
    faults_set(FAULT_SYNC, 1, EIO, false);
    world_result(&w, id, 0, "b.example", THEN_REMOVE, OUTCOME_DELIVERED, 0);
    struct store_stats s;
    for (int i = 0; i < 200 && (store_stats(w.store, &s), s.delivered == 0); i++)
        usleep(20000);
    s = world_stats(&w);
    assert_int_equal(s.messages, 1); /* one recipient is left, so the message is */
    world_result(&w, id, 1, "b.example", THEN_REMOVE, OUTCOME_DELIVERED, 0);
    assert_int_equal(world_stats(&w).messages, 0);
}

static void a_full_disk_refuses_new_mail_takes_results_and_recovers(void **state)
{
    uint64_t ids[400] = {0};
    size_t count = 0;
    enum err e = OK;
    char *big;

    (void)state;
    if (geteuid() != 0 || mount("none", w.dir, "tmpfs", 0, "size=6m")) {
        print_message("needs root for a small tmpfs: ");
        skip();
    }
    w.config.reserve_bytes = 512 * 1024;
    world_must_open(&w);
    big = mem_alloc(60001);
    memset(big, 'x', 60000);
    memcpy(big, "a: b\r\n\r\n", 8);
    big[60000] = '\0';
    while (!e && count < COUNT_OF(ids)) {
        char own[8]; /* no two are equal */
        memcpy(big + 59000, own, (size_t)snprintf(own, sizeof(own), "%zu.", count));
        e = world_accept_at(&w, &(struct world_rcpt){"a@b.example", "b.example"}, 1, 0, world_body(big),
                            &ids[count]);
        count += !e;
    }
    mem_free(big);
    assert_int_equal(e, ERR_NOSPACE);
    assert_true(count > 10);
    assert_true(spool_is_full(store_spool(w.store)));
    assert_int_equal(world_accept(&w, "a@b.example", "b.example", NULL), ERR_NOSPACE);
    world_forget_jobs(&w);
    for (size_t i = 0; i < count; i++)
        world_result(&w, ids[i], 0, "b.example", THEN_REMOVE, OUTCOME_DELIVERED, 0);
    struct store_stats s = world_stats(&w);
    for (int i = 0; i < 100 && s.messages; i++) {
        usleep(50000);
        s = world_stats(&w);
    }
    assert_int_equal(s.messages, 0); /* delivery goes on, and frees the segments */
    for (int i = 0; i < 100 && spool_is_full(store_spool(w.store)); i++)
        usleep(50000);
    assert_int_equal(world_accept(&w, "a@b.example", "b.example", NULL), OK);
    world_close(&w);
    world_must_open(&w);
    assert_int_equal(world_stats(&w).messages, 1);
    world_close(&w);
    assert_int_equal(umount(w.dir), 0);
}

static void a_reader_that_stays_cannot_make_the_wal_grow_for_ever(void **state)
{
    sqlite3 *reader;
    struct store_stats s = {0};
    enum err e = OK;

    (void)state;
    w.config.wal_limit_bytes = 64 * 1024;
    world_must_open(&w);
    assert_int_equal(world_accept(&w, "a@b.example", "b.example", NULL), OK);
    assert_int_equal(sqlite3_open(path_of("queue.db"), &reader), SQLITE_OK);
    assert_int_equal(sqlite3_exec(reader, "BEGIN; SELECT count(*) FROM message", NULL, NULL, NULL),
                     SQLITE_OK);
    for (int i = 0; i < 2000 && !e; i++)
        e = world_accept(&w, "a@b.example", "b.example", NULL);
    assert_int_equal(e, ERR_NOSPACE);
    s = world_stats(&w);
    assert_true(s.wal_bytes < 2 * 1024 * 1024);
    assert_non_null(strstr(s.last_error, "reader"));
    sqlite3_exec(reader, "COMMIT", NULL, NULL, NULL);
    sqlite3_close(reader);
    for (int i = 0; i < 100 && e; i++) {
        usleep(50000);
        e = world_accept(&w, "a@b.example", "b.example", NULL);
    }
    assert_int_equal(e, OK);
}

/* A process that dies without a word: what it was told is there. */
static void a_killed_process_leaves_all_that_it_was_answered(void **state)
{
    int pipe_fds[2];
    struct survivor s[64] = {{0}};
    size_t count = 0;

    (void)state;
    world_must_open(&w); /* makes the database: the child's death must not find it half made */
    world_close(&w);
    assert_int_equal(pipe(pipe_fds), 0);
    pid_t child = fork();
    if (child == 0) {
        world_must_open(&w);
        for (int i = 0; i < 60; i++) {
            uint64_t id = 0;
            if (!world_accept(&w, "a@b.example", "b.example", &id) &&
                write(pipe_fds[1], &id, sizeof(id)) != (ssize_t)sizeof(id))
                break;
        }
        for (;;)
            pause();
    }
    close(pipe_fds[1]);
    while (count < 40 && read(pipe_fds[0], &s[count].id, sizeof(uint64_t)) == (ssize_t)sizeof(uint64_t))
        s[count++].accepted = true;
    kill(child, SIGKILL);
    while (count < 64 && read(pipe_fds[0], &s[count].id, sizeof(uint64_t)) == (ssize_t)sizeof(uint64_t))
        s[count++].accepted = true;
    waitpid(child, NULL, 0);
    close(pipe_fds[0]);
    world_must_open(&w);
    check_survivors(s, count);
    assert_true(count >= 40 && world_stats(&w).messages >= count);
}

int main(void)
{
    log_setup(open("/dev/null", O_WRONLY), LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
#define ROW(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        ROW(a_second_daemon_is_refused_by_name),
        ROW(what_is_not_our_database_is_never_replaced),
        ROW(a_page_that_was_overwritten_is_found_at_start),
        ROW(bodies_without_a_database_are_not_thrown_away),
        ROW(an_unwritable_directory_is_refused_with_advice),
        ROW(everything_is_private),
        ROW(an_older_schema_is_brought_up_step_by_step),
        ROW(a_newer_version_that_only_the_wal_knows_is_refused_and_left_there),
        ROW(a_migration_that_only_the_wal_knows_is_not_made_again),
        ROW(a_queue_of_the_first_version_is_taken_over_with_its_mail),
        ROW(every_failing_call_gives_an_error_and_loses_nothing),
        ROW(a_batch_whose_sync_fails_is_refused_as_a_whole),
        ROW(an_error_is_told_in_the_words_of_whoever_had_it),
        ROW(results_outlive_a_disk_that_does_not_take_them),
        ROW(a_row_deleted_twice_over_a_failed_commit_keeps_its_message_count),
        ROW(a_full_disk_refuses_new_mail_takes_results_and_recovers),
        ROW(a_reader_that_stays_cannot_make_the_wal_grow_for_ever),
        ROW(a_killed_process_leaves_all_that_it_was_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
