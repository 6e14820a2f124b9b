#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>

#include "base/macros.h"
#include "engine/failed_hosts.h"

#define NOW_MS  UINT64_C(1000000)
#define SPAN_MS 300000
#define MOST    4096

static void a_host_that_failed_is_remembered_by_name_and_port_for_five_minutes(void **state)
{
    struct failed_hosts *f = failed_hosts_create();

    (void)state;
    assert_false(failed_hosts_any(f));
    assert_int_equal(failed_hosts_left_ms(f, "mx.example", 25, NOW_MS), 0);
    failed_hosts_remember(f, "mx.example", 25, NOW_MS);
    assert_true(failed_hosts_any(f));
    assert_int_equal(failed_hosts_left_ms(f, "mx.example", 25, NOW_MS + 1000), SPAN_MS - 1000);
    assert_int_equal(failed_hosts_left_ms(f, "mx.example", 465, NOW_MS), 0);
    assert_int_equal(failed_hosts_left_ms(f, "mx2.example", 25, NOW_MS), 0);
    failed_hosts_remember(f, "mx.example", 25, NOW_MS + 1000); /* once more: from then on */
    assert_int_equal(failed_hosts_left_ms(f, "mx.example", 25, NOW_MS + SPAN_MS), 1000);
    assert_int_equal(failed_hosts_left_ms(f, "mx.example", 25, NOW_MS + SPAN_MS + 1000), 0);
    assert_false(failed_hosts_any(f)); /* and it is gone: asking costs nothing again */
    failed_hosts_destroy(f);
}

static void a_session_ends_it_and_so_does_a_retry_by_hand(void **state)
{
    struct failed_hosts *f = failed_hosts_create();

    (void)state;
    failed_hosts_forget(f, "mx.example", 25);
    failed_hosts_remember(f, "a.example", 25, NOW_MS);
    failed_hosts_remember(f, "b.example", 25, NOW_MS);
    failed_hosts_forget(f, "a.example", 465);
    assert_int_equal(failed_hosts_left_ms(f, "a.example", 25, NOW_MS), SPAN_MS);
    failed_hosts_forget(f, "a.example", 25);
    assert_int_equal(failed_hosts_left_ms(f, "a.example", 25, NOW_MS), 0);
    assert_int_equal(failed_hosts_left_ms(f, "b.example", 25, NOW_MS), SPAN_MS);
    failed_hosts_clear(f);
    assert_false(failed_hosts_any(f));
    assert_int_equal(failed_hosts_left_ms(f, "b.example", 25, NOW_MS), 0);
    failed_hosts_destroy(f);
}

static const char *name_of(int i)
{
    static char name[32];

    snprintf(name, sizeof(name), "mx%d.example", i);
    return name;
}

static void of_too_many_the_oldest_failures_are_forgotten(void **state)
{
    struct failed_hosts *f = failed_hosts_create();

    (void)state;
    for (int i = 0; i < MOST; i++)
        failed_hosts_remember(f, name_of(i), 25, NOW_MS + (uint64_t)i);
    failed_hosts_remember(f, name_of(0), 25, NOW_MS + MOST); /* the youngest now */
    for (int i = MOST; i < MOST + 10; i++)
        failed_hosts_remember(f, name_of(i), 25, NOW_MS + 1 + (uint64_t)i);
    int left = 0;
    for (int i = 0; i < MOST + 10; i++) {
        bool there = failed_hosts_left_ms(f, name_of(i), 25, NOW_MS) > 0;
        assert_int_equal(there, i == 0 || i > 10);
        left += there;
    }
    assert_int_equal(left, MOST);
    failed_hosts_destroy(f);
}

static void *fail_and_recover(void *arg)
{
    struct failed_hosts *f = arg;

    for (int i = 0; i < 20000; i++) {
        char name[32];
        snprintf(name, sizeof(name), "mx%d.example", i % 7);
        failed_hosts_remember(f, name, 25, NOW_MS);
        (void)failed_hosts_left_ms(f, name, 25, NOW_MS + (i % 2 ? 0 : SPAN_MS));
        failed_hosts_forget(f, name, 25);
    }
    return NULL;
}

static void workers_share_it(void **state)
{
    struct failed_hosts *f = failed_hosts_create();
    pthread_t threads[4];

    (void)state;
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, fail_and_recover, f), 0);
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        pthread_join(threads[i], NULL);
    assert_false(failed_hosts_any(f)); /* who remembered last also forgot last */
    failed_hosts_destroy(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_host_that_failed_is_remembered_by_name_and_port_for_five_minutes),
        cmocka_unit_test(a_session_ends_it_and_so_does_a_retry_by_hand),
        cmocka_unit_test(of_too_many_the_oldest_failures_are_forgotten),
        cmocka_unit_test(workers_share_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
