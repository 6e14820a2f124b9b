#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "queue/flight.h"

static char dir[64], path[96], copy[96];

static int make_dir(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/hayauma-flight-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/flight", dir);
    snprintf(copy, sizeof(copy), "%s/copy", dir);
    return 0;
}

static int drop_dir(void **state)
{
    (void)state;
    (void)unlink(path);
    (void)rmdir(path);
    (void)unlink(copy);
    return rmdir(dir);
}

static void what_was_in_transactions_is_known_after_a_kill(void **state)
{
    int status;
    pid_t child = fork();

    (void)state;
    if (child == 0) {
        struct flight *f = flight_start(dir, 1000, 3);
        flight_begin(f, 0, 50);
        flight_begin(f, 1, 7);
        flight_begin(f, 2, 1);
        flight_end(f, 1, 3); /* not sent after all */
        flight_safe(f, 50);
        raise(SIGKILL);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(flight_left(dir, 1000), 5);
    assert_int_equal(flight_left(dir, 1000), 5);  /* looking changes nothing */
    assert_int_equal(flight_left(dir, 1001), -1); /* another run */
}

static void a_new_run_begins_from_nothing(void **state)
{
    struct flight *f = flight_start(dir, 1000, 4);

    (void)state;
    flight_begin(f, 3, 9);
    flight_close(f);
    f = flight_start(dir, 2000, 1);
    assert_int_equal(flight_left(dir, 1000), -1);
    assert_int_equal(flight_left(dir, 2000), 0);
    flight_begin(f, 0, 2);
    assert_int_equal(flight_left(dir, 2000), 2);
    flight_safe(f, 3); /* nonsense is not a number */
    assert_int_equal(flight_left(dir, 2000), -1);
    flight_close(f);
}

static void put(const char *to, const char *octets, size_t len, size_t broken)
{
    FILE *file = fopen(to, "w");

    for (size_t i = 0; i < len; i++)
        fputc(octets[i] ^ (i == broken), file);
    fclose(file);
}

static void a_file_that_is_not_this_hosts_this_runs_and_whole_says_nothing(void **state)
{
    static char octets[1024];
    struct flight *f = flight_start(dir, 1000, 2);

    (void)state;
    flight_begin(f, 1, 4);
    flight_close(f);
    FILE *file = fopen(path, "r");
    size_t len = fread(octets, 1, sizeof(octets), file);
    fclose(file);
    assert_int_equal(len, 5 * 64);
    for (size_t i = 0; i < 2 * 64;
         i++) { /* magic, boot, run, device, inode, workers, and what is to be zero */
        put(path, octets, len, i);
        assert_int_equal(flight_left(dir, 1000), -1);
    }
    for (size_t cut = 0; cut < len; cut++) {
        put(path, octets, cut, len);
        assert_int_equal(flight_left(dir, 1000), -1);
    }
    put(path, octets, len, len);
    assert_int_equal(flight_left(dir, 1000), 4);
    put(copy, octets, len, len);
    assert_int_equal(rename(copy, path), 0); /* a copy: another file */
    assert_int_equal(flight_left(dir, 1000), -1);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(flight_left(dir, 1000), -1);
}

static void where_there_can_be_no_file_it_counts_and_nothing_is_known(void **state)
{
    (void)state;
    assert_int_equal(mkdir(path, 0700), 0);
    struct flight *f = flight_start(dir, 1000, 2);
    flight_begin(f, 0, 1);
    flight_safe(f, 1);
    assert_int_equal(flight_left(dir, 1000), -1);
    flight_close(f);
    flight_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_in_transactions_is_known_after_a_kill, make_dir, drop_dir),
        cmocka_unit_test_setup_teardown(a_new_run_begins_from_nothing, make_dir, drop_dir),
        cmocka_unit_test_setup_teardown(a_file_that_is_not_this_hosts_this_runs_and_whole_says_nothing,
                                        make_dir, drop_dir),
        cmocka_unit_test_setup_teardown(where_there_can_be_no_file_it_counts_and_nothing_is_known, make_dir,
                                        drop_dir),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
