/* T02 without a clock: each watchdog_look() is one second. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/mem.h"
#include "engine/watchdog.h"

static _Atomic(const struct conf *) no_conf;
static struct pulse pulses[2];
static struct {
    size_t nth;
    bool stuck;
    int count;
} told;

static void on_change(void *arg, size_t nth, bool stuck)
{
    assert_ptr_equal(arg, pulses);
    told.nth = nth;
    told.stuck = stuck;
    told.count++;
}

static struct watchdog *two(void)
{
    memset(pulses, 0, sizeof(pulses));
    memset(&told, 0, sizeof(told));
    struct watchdog *d = watchdog_create(&no_conf);
    watchdog_add(d, "worker-0", &pulses[0], on_change, pulses);
    watchdog_add(d, "store", &pulses[1], on_change, pulses);
    return d;
}

static void a_thread_without_a_beat_is_told_once_and_its_return_too(void **state)
{
    struct watchdog *d = two();

    (void)state;
    pulse_beat(&pulses[0]);
    pulse_beat(&pulses[1]);
    for (int second = 0; second <= 10; second++) {
        pulse_beat(&pulses[0]);
        watchdog_look(d, 10, 0);
        assert_int_equal(pulse_seconds(&pulses[0]), 0);
        assert_int_equal(pulse_seconds(&pulses[1]), second);
        assert_int_equal(watchdog_any_stuck(d), second == 10);
    }
    assert_true(told.count == 1 && told.nth == 1 && told.stuck);
    assert_true(pulse_is_stuck(&pulses[1]) && !pulse_is_stuck(&pulses[0]));
    watchdog_look(d, 10, 0);
    assert_int_equal(told.count, 1);
    watchdog_destroy(d);
}

static void it_is_back_with_its_next_beat(void **state)
{
    struct watchdog *d = two();

    (void)state;
    pulse_beat(&pulses[0]);
    for (int second = 0; second <= 3; second++)
        watchdog_look(d, 3, 0);
    assert_true(told.count == 1 && told.stuck);
    watchdog_look(d, 3, 0);
    assert_int_equal(told.count, 1);
    pulse_beat(&pulses[0]);
    watchdog_look(d, 3, 0);
    assert_true(told.count == 2 && !told.stuck && !watchdog_any_stuck(d));
    assert_int_equal(pulse_seconds(&pulses[0]), 0);
    watchdog_destroy(d);
}

static void a_thread_that_has_not_begun_is_not_stuck(void **state)
{
    struct watchdog *d = two();

    (void)state;
    for (int second = 0; second < 100; second++)
        watchdog_look(d, 3, 5);
    assert_int_equal(told.count, 0);
    watchdog_destroy(d);
}

static void what_is_found_stands_in_status_and_metrics(void **state)
{
    struct watchdog *d = two();
    BUF_LOCAL(metrics);

    (void)state;
    pulse_beat(&pulses[0]);
    pulse_beat(&pulses[1]);
    watchdog_look(d, 2, 0);
    for (int second = 0; second < 2; second++) {
        pulse_beat(&pulses[1]);
        watchdog_look(d, 2, 0);
    }
    json_t *list = watchdog_json(d);
    char *text = json_dumps(list, JSON_COMPACT | JSON_SORT_KEYS);
    assert_string_equal(text, "[{\"seconds_without_turn\":2,\"stuck\":true,\"thread\":\"worker-0\"},"
                              "{\"seconds_without_turn\":0,\"stuck\":false,\"thread\":\"store\"}]");
    free(text);
    json_decref(list);
    watchdog_metrics(d, &metrics);
    assert_non_null(strstr(buf_str(&metrics), "\nhayauma_thread_stuck{thread=\"worker-0\"} 1\n"));
    assert_non_null(strstr(buf_str(&metrics), "\nhayauma_thread_stuck{thread=\"store\"} 0\n"));
    assert_non_null(strstr(buf_str(&metrics), "_seconds_without_turn{thread=\"worker-0\"} 2\n"));
    watchdog_destroy(d);
}

static void the_process_ends_when_it_was_told_to(void **state)
{
    int status;

    (void)state;
    pid_t child = fork();
    if (child == 0) {
        signal(SIGABRT, SIG_DFL);
        struct watchdog *d = two();
        pulse_beat(&pulses[0]);
        for (int second = 0; second < 5; second++) /* the first look sees the beat */
            watchdog_look(d, 2, 5);
        if (!watchdog_any_stuck(d))
            _exit(1);
        watchdog_look(d, 2, 5);
        _exit(2);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

int main(void)
{
    log_setup(open("/dev/null", O_WRONLY), LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thread_without_a_beat_is_told_once_and_its_return_too),
        cmocka_unit_test(it_is_back_with_its_next_beat),
        cmocka_unit_test(a_thread_that_has_not_begun_is_not_stuck),
        cmocka_unit_test(what_is_found_stands_in_status_and_metrics),
        cmocka_unit_test(the_process_ends_when_it_was_told_to),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
