/* At start domains with mail on disk come by and by, as the workers have room for them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "tests/unit/queue/world.h"

#define DOMAINS 3000
#define EACH    1000 /* recipients of a message */
#define FIRST   2000 /* woken before anybody asks */
#define STEP    500  /* for one question */

static struct world w;
static char domains[DOMAINS][32], addresses[DOMAINS][36];

static int setup(void **state)
{
    (void)state;
    world_init(&w);
    world_must_open(&w);
    for (int i = 0; i < DOMAINS; i++) {
        snprintf(domains[i], sizeof(domains[i]), "d%d.example", i);
        snprintf(addresses[i], sizeof(addresses[i]), "a@d%d.example", i);
        store_post_cold(w.store, domains[i]);
    }
    for (int i = 0; i < DOMAINS; i += EACH) {
        struct world_rcpt rcpts[EACH];
        for (int k = 0; k < EACH; k++)
            rcpts[k] = (struct world_rcpt){addresses[i + k], domains[i + k]};
        assert_int_equal(world_accept_at(&w, rcpts, EACH, 0, world_body("a\r\n"), NULL), OK);
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    world_fini(&w);
    memset(&w, 0, sizeof(w));
    return 0;
}

static void reopen(void)
{
    world_close(&w);
    world_must_open(&w);
}

/* However long it took, with the seconds by themselves. */
static size_t at_most(size_t asked, uint64_t since_ms)
{
    size_t seconds = (size_t)(clock_now_ms() - since_ms) / 1000 + 1;

    return FIRST + asked * STEP + seconds * (250 + 10 * seconds);
}

static void sync_often(void)
{
    for (int i = 0; i < 40; i++)
        world_sync(&w);
}

static bool is_any_twice(void)
{
    static bool seen[DOMAINS];
    int number;

    memset(seen, 0, sizeof(seen));
    for (size_t i = 0; i < w.wake_count; i++) {
        if (sscanf(w.wakes[i].domain, "d%d.example", &number) != 1)
            continue;
        if (seen[number])
            return true;
        seen[number] = true;
    }
    return false;
}

static void some_come_at_once_and_more_when_they_are_asked_for(void **state)
{
    uint64_t since_ms = clock_now_ms();

    (void)state;
    reopen();
    while (w.wake_count < FIRST)
        world_sync(&w);
    sync_often();
    assert_in_range(w.wake_count, FIRST, at_most(0, since_ms));
    assert_true(store_has_more_domains(w.store));
    size_t before = w.wake_count;
    store_want_domains(w.store);
    while (w.wake_count < before + STEP)
        world_sync(&w);
    sync_often();
    assert_in_range(w.wake_count, before + STEP, at_most(1, since_ms));
    while (store_has_more_domains(w.store)) {
        store_want_domains(w.store);
        world_sync(&w);
    }
    world_sync(&w);
    assert_int_equal(w.wake_count, DOMAINS);
    assert_false(is_any_twice());
}

static void they_all_come_when_nobody_asks(void **state)
{
    uint64_t since_ms = clock_now_ms();

    (void)state;
    reopen();
    while (store_has_more_domains(w.store))
        world_sync(&w);
    world_sync(&w);
    assert_int_equal(w.wake_count, DOMAINS);
    assert_false(is_any_twice());
    assert_true(clock_now_ms() - since_ms >= 2500); /* the seconds brought the others */
}

static void mail_of_high_priority_does_not_wait(void **state)
{
    uint64_t since_ms = clock_now_ms();

    (void)state;
    store_post_cold(w.store, "urgent.example");
    store_post_cold(w.store, "later.example");
    w.flags = MESSAGE_HIGH;
    assert_int_equal(world_accept(&w, "a@urgent.example", "urgent.example", NULL), OK);
    const struct world_rcpt later = {"a@later.example", "later.example"};
    int64_t due_unix = clock_unix() + 3600;
    assert_int_equal(world_accept_at(&w, &later, 1, due_unix, world_body("a\r\n"), NULL), OK);
    reopen();
    while (!world_woken(&w, "urgent.example", NULL))
        world_sync(&w);
    assert_true(w.wake_count <= 1 + at_most(0, since_ms));
    assert_true(store_has_more_domains(w.store));
    assert_false(world_woken(&w, "later.example", NULL));
    while (store_has_more_domains(w.store)) {
        store_want_domains(w.store);
        world_sync(&w);
    }
    world_sync(&w);
    int64_t found_unix = 0;
    assert_true(world_woken(&w, "later.example", &found_unix));
    assert_int_equal(found_unix, due_unix);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(some_come_at_once_and_more_when_they_are_asked_for, setup, teardown),
        cmocka_unit_test_setup_teardown(they_all_come_when_nobody_asks, setup, teardown),
        cmocka_unit_test_setup_teardown(mail_of_high_priority_does_not_wait, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
