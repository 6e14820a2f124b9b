/* How messages came in: nothing is counted twice or lost, whatever happens to the file; old hours go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/mem.h"
#include "queue/intake.h"
#include "queue/sql.h"

static char dir[64];

static int begin(void **state)
{
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/hayauma-test-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int end(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof(command), "rm -rf '%s'", dir);
    return system(command);
}

static struct intake *must_open(unsigned days)
{
    struct intake *t = NULL;
    char *why = NULL;

    if (intake_open(dir, days, &t, &why))
        fail_msg("%s", why);
    return t;
}

static void count(struct intake *t, const char *account, const char *source, const char *version)
{
    struct intake_facts f = {
        .account = account, .listener = "127.0.0.1:587", .version = version, .cipher = "C", .auth = "plain"};

    assert_true(ip_parse(bytes_of(source), &f.source));
    intake_count(t, &f, 2, 1000);
}

static uint64_t messages(struct intake_query q)
{
    struct intake_report r;

    assert_int_equal(intake_report(dir, &q, &r), OK);
    uint64_t n = r.total.messages;
    assert_int_equal(r.total.recipients, 2 * n);
    intake_report_fini(&r);
    return n;
}

static void run_sql(const char *sql)
{
    char path[100];
    sqlite3 *db;

    snprintf(path, sizeof(path), "%s/intake.db", dir);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

/* ---- counting ---- */

#define THREADS 4
#define EACH    20000

static void *count_many(void *arg)
{
    struct intake *t = arg;
    char source[32];

    for (int i = 0; i < EACH; i++) {
        snprintf(source, sizeof(source), "192.0.2.%d", i % 50);
        count(t, i % 3 ? "shop" : NULL, source, i % 2 ? "TLS1.3" : NULL);
    }
    return NULL;
}

static void all_that_was_counted_is_there_after_an_orderly_end(void **state)
{
    struct intake *t = must_open(90);
    pthread_t threads[THREADS];
    struct intake_report r;

    (void)state;
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, count_many, t), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    intake_close(t);
    assert_int_equal(
        intake_report(dir, &(struct intake_query){.by = INTAKE_BY_SOURCE, .sort = INTAKE_SORT_KEY}, &r), OK);
    assert_int_equal(r.count, 50);
    assert_int_equal(r.total.messages, THREADS * EACH);
    assert_int_equal(r.total.clear, THREADS * EACH / 2);
    assert_int_equal(r.total.tls13, THREADS * EACH / 2);
    assert_int_equal(r.total.bytes, (uint64_t)THREADS * EACH * 1000);
    assert_int_equal(r.total.cipher_count, 1);
    intake_report_fini(&r);
}

/* ---- asking ---- */

static void the_report_narrows_groups_and_sorts(void **state)
{
    struct intake *t = must_open(0);
    struct ip_net net;
    struct intake_report r;

    (void)state;
    count(t, "a", "192.0.2.1", "TLS1.3");
    count(t, "a", "192.0.2.2", "TLS1.2");
    count(t, "b", "198.51.100.7", NULL);
    count(t, "b", "198.51.100.7", NULL);
    count(t, NULL, "2001:db8::1", "TLS1.0");
    intake_close(t);
    assert_int_equal(messages((struct intake_query){0}), 5);
    assert_int_equal(messages((struct intake_query){.account = "a"}), 2);
    assert_int_equal(messages((struct intake_query){.account = ""}), 1);
    assert_int_equal(messages((struct intake_query){.account = "a' OR '1'='1"}), 0);
    assert_int_equal(messages((struct intake_query){.listener = "127.0.0.1:587"}), 5);
    assert_int_equal(messages((struct intake_query){.auth = "login"}), 0);
    assert_true(ip_net_parse(BYTES("192.0.2.0/24"), &net));
    assert_int_equal(messages((struct intake_query){.source = &net}), 2);
    assert_int_equal(
        intake_report(dir, &(struct intake_query){.by = INTAKE_BY_NETWORK, .sort = INTAKE_SORT_CLEAR}, &r),
        OK);
    assert_int_equal(r.count, 3);
    assert_string_equal(r.rows[0].key, "198.51.100.0/24");
    assert_int_equal(r.rows[0].clear, 2);
    assert_int_equal(r.total.older, 1);
    intake_report_fini(&r);
    assert_int_equal(
        intake_report(
            dir, &(struct intake_query){.by = INTAKE_BY_ACCOUNT, .sort = INTAKE_SORT_OLD, .limit = 2}, &r),
        OK);
    assert_int_equal(r.count, 2);
    assert_int_equal(r.rows_in_all, 3);
    assert_string_equal(r.rows[0].key, "b");
    intake_report_fini(&r);
}

static void hours_overlap_the_span_that_is_asked_for(void **state)
{
    int64_t now = time(NULL), hour = now - now % 3600;

    (void)state;
    intake_close(must_open(0));
    char sql[400];
    snprintf(sql, sizeof(sql),
             "INSERT INTO intake VALUES(%lld, 'l', 's', 'a', '', '', 'none', 1, 2, 0, 0),"
             " (%lld, 'l', 's', 'a', '', '', 'none', 10, 20, 0, 0)",
             (long long)hour - 7200, (long long)hour - 3600);
    run_sql(sql);
    assert_int_equal(messages((struct intake_query){.since_unix = hour - 7200}), 11);
    assert_int_equal(messages((struct intake_query){.since_unix = hour - 3601}), 11);
    assert_int_equal(messages((struct intake_query){.since_unix = hour - 3600}), 10);
    assert_int_equal(messages((struct intake_query){.until_unix = hour - 3600}), 1);
    assert_int_equal(messages((struct intake_query){.until_unix = hour - 3599}), 11);
    assert_int_equal(messages((struct intake_query){.since_unix = hour + 3600}), 0);
}

/* ---- the file ---- */

static void old_hours_are_deleted(void **state)
{
    (void)state;
    intake_close(must_open(2));
    run_sql("INSERT INTO intake VALUES(3600, 'l', 's', 'a', '', '', 'none', 7, 14, 0, 0)");
    assert_int_equal(messages((struct intake_query){0}), 7);
    struct intake *t = must_open(2);
    count(t, "a", "192.0.2.1", NULL);
    intake_close(t);
    assert_int_equal(messages((struct intake_query){0}), 1);
}

static void what_could_not_be_written_is_written_later(void **state)
{
    struct intake *t = must_open(0);
    char path[100];
    sqlite3 *other;

    (void)state;
    log_set_level(LOG_LEVEL_ERROR);
    snprintf(path, sizeof(path), "%s/intake.db", dir);
    assert_int_equal(sqlite3_open(path, &other), SQLITE_OK);
    assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    count(t, "a", "192.0.2.1", NULL);
    usleep(1300000); /* one turn of the writer, in vain */
    count(t, "a", "192.0.2.1", NULL);
    assert_int_equal(messages((struct intake_query){0}), 0);
    assert_int_equal(sqlite3_exec(other, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(other);
    intake_close(t);
    assert_int_equal(messages((struct intake_query){0}), 2);
}

static void a_folder_that_is_not_there_is_said(void **state)
{
    struct intake *t = NULL;
    char *why = NULL;

    (void)state;
    assert_int_not_equal(intake_open("/nonexistent/folder", 1, &t, &why), OK);
    assert_non_null(strstr(why, "/nonexistent/folder/intake.db"));
    mem_free(why);
    struct intake_report r;
    assert_int_not_equal(intake_report("/nonexistent/folder", &(struct intake_query){0}, &r), OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_that_was_counted_is_there_after_an_orderly_end, begin, end),
        cmocka_unit_test_setup_teardown(the_report_narrows_groups_and_sorts, begin, end),
        cmocka_unit_test_setup_teardown(hours_overlap_the_span_that_is_asked_for, begin, end),
        cmocka_unit_test_setup_teardown(old_hours_are_deleted, begin, end),
        cmocka_unit_test_setup_teardown(what_could_not_be_written_is_written_later, begin, end),
        cmocka_unit_test_setup_teardown(a_folder_that_is_not_there_is_said, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
