/* A wall clock that somebody sets: the program's own clock_gettime comes before the library's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "tests/unit/queue/world.h"

static _Atomic int64_t offset_s;

int clock_gettime(clockid_t id, struct timespec *t)
{
    int rc = (int)syscall(SYS_clock_gettime, id, t);

    if (id == CLOCK_REALTIME)
        t->tv_sec += atomic_load(&offset_s);
    return rc;
}

#define DAY 86400

static struct world w;

static uint64_t deferred_by(const char *domain, int64_t seconds)
{
    uint64_t id = 0;

    assert_int_equal(world_accept(&w, "a@x.example", domain, &id), OK);
    world_forget_jobs(&w);
    world_result(&w, id, 0, domain, THEN_DEFER, OUTCOME_DEFERRED, clock_unix() + seconds);
    return id;
}

/* More than a chunk: one message, each of its recipients deferred. */
static void defer_many(const char *domain, int64_t seconds)
{
    enum { MANY = 1200 };
    static struct world_rcpt list[MANY];
    uint64_t id = 0;

    for (int i = 0; i < MANY; i++)
        list[i] = (struct world_rcpt){"a@x.example", domain};
    assert_int_equal(world_accept_at(&w, list, MANY, 0, world_body("a: b\r\n\r\n"), &id), OK);
    world_forget_jobs(&w);
    for (uint32_t i = 0; i < MANY; i++)
        world_result(&w, id, i, domain, THEN_DEFER, OUTCOME_DEFERRED, clock_unix() + seconds + i / 10);
}

/* Seconds until the domain's first mail is due; 0: now; -1: there is none. */
static int64_t waits(const char *domain)
{
    struct store_page *p = world_page(&w, domain, 10);
    int64_t due = world_job_count(&p->jobs) ? 0 : p->next_due_unix ? p->next_due_unix - clock_unix() : -1;

    store_post_give_back(w.store, &p->jobs);
    store_page_destroy(p);
    return due;
}

static bool about(int64_t value, int64_t want)
{
    if (value >= want - 15 && value <= want + 5)
        return true;
    print_message("%lld is not about %lld\n", (long long)value, (long long)want);
    return false;
}

static const struct {
    const char *name;
    int64_t step;
} steps[] = {
    {"a day forward", DAY},          {"a day back", -DAY},         {"ten years forward", 3652 * DAY},
    {"ten years back", -3652 * DAY}, {"ten minutes forward", 600},
};

static void a_clock_that_is_set_moves_no_retry(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(steps); i++) {
        atomic_store(&offset_s, 0);
        world_init(&w);
        world_must_open(&w);
        deferred_by("soon.example", 300);
        defer_many("many.example", 200);
        assert_int_equal(world_accept_at(&w, &(struct world_rcpt){"a@t.example", "t.example"}, 1,
                                         clock_unix() + 5000 * (int64_t)DAY, world_body("a: b\r\n\r\n"),
                                         NULL),
                         OK);
        int64_t scheduled = clock_unix() + 5000 * (int64_t)DAY;
        assert_true(about(waits("soon.example"), 300));
        atomic_store(&offset_s, steps[i].step);
        for (int k = 0; k < 20; k++)
            world_sync(&w);
        print_message("%s\n", steps[i].name);
        assert_true(about(waits("soon.example"), 300));
        assert_true(about(waits("many.example"), 200));
        struct store_page *p = world_page(&w, "t.example", 10); /* a named time stays */
        assert_true(about(p->next_due_unix, scheduled));
        store_page_destroy(p);
        uint64_t id = deferred_by("new.example", 100);
        assert_true(id > 0 && about(waits("new.example"), 100));
        world_fini(&w);
    }
    atomic_store(&offset_s, 0);
}

static void mail_that_was_due_stays_due_when_the_clock_goes_back(void **state)
{
    (void)state;
    world_init(&w);
    atomic_store(&offset_s, 10 * DAY);
    world_must_open(&w);
    store_post_cold(w.store, "cold.example");
    assert_int_equal(world_accept(&w, "a@cold.example", "cold.example", NULL), OK);
    atomic_store(&offset_s, 0);
    for (int k = 0; k < 20; k++)
        world_sync(&w);
    assert_int_equal(waits("cold.example"), 0);
    assert_true(world_woken(&w, "cold.example", NULL));
    world_fini(&w);
}

static void seconds_of_slewing_are_no_step(void **state)
{
    int64_t before;

    (void)state;
    world_init(&w);
    world_must_open(&w);
    deferred_by("soon.example", 300);
    before = waits("soon.example");
    atomic_store(&offset_s, -20);
    for (int k = 0; k < 5; k++)
        world_sync(&w);
    assert_true(about(waits("soon.example"), before + 20));
    assert_int_equal(world_accept(&w, "a@n.example", "n.example", NULL), OK);
    world_give_back(&w, &w.jobs);
    assert_int_equal(waits("n.example"), 0); /* accepted in the past of the store's clock, and due */
    atomic_store(&offset_s, 0);
    world_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_clock_that_is_set_moves_no_retry),
        cmocka_unit_test(mail_that_was_due_stays_due_when_the_clock_goes_back),
        cmocka_unit_test(seconds_of_slewing_are_no_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
