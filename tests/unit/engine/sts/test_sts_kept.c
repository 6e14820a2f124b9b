/* MTA-STS policies outlive the process: in a real store. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "engine/sts/sts_priv.h"
#include "queue/keep.h"
#include "tests/unit/queue/world.h"

#define TEXT "version: STSv1\nmode: enforce\nmx: mx.a.test\nmx: *.a.test\nmax_age: 604800"

static int64_t now = 1800000000;

static int64_t test_now(void)
{
    return now;
}

static struct sts_policy *make(const char *domain, int64_t fetched_unix)
{
    struct sts_policy *p = NULL;
    const char *why = NULL;

    assert_int_equal(sts_policy_parse(domain, "id1", BYTES(TEXT), &p, &why), OK);
    p->fetched_unix = fetched_unix;
    return p;
}

static void a_kept_policy_reads_as_it_was_written(void **state)
{
    struct sts_policy *p = make("a.test", 1799999999), *again = NULL;
    BUF_LOCAL(value);
    int64_t used = 0;

    (void)state;
    sts_kept_format(p, 1799999000, &value);
    assert_int_equal(sts_kept_parse("a.test", buf_bytes(&value), &again, &used), OK);
    assert_int_equal(used, 1799999000);
    assert_int_equal(again->fetched_unix, 1799999999);
    assert_string_equal(again->id, "id1");
    assert_string_equal(again->text, p->text);
    assert_int_equal(again->mx_count, 2);
    sts_policy_unref(p);
    sts_policy_unref(again);
}

static void damaged_values_are_refused(void **state)
{
    static const struct {
        const char *value;
        enum err want;
    } rows[] = {
        {"", ERR_VERSION},
        {"sts2 id1 1 1\n" TEXT, ERR_VERSION},
        {"sts1 id1 1 1", ERR_CORRUPT},
        {"sts1  1 1\n" TEXT, ERR_CORRUPT},
        {"sts1 id1 x 1\n" TEXT, ERR_CORRUPT},
        {"sts1 id1 1\n" TEXT, ERR_CORRUPT},
        {"sts1 id1 1 -1\n" TEXT, ERR_CORRUPT},
        {"sts1 id1 18446744073709551615 1\n" TEXT, ERR_CORRUPT},
        {"sts1 123456789012345678901234567890123 1 1\n" TEXT, ERR_CORRUPT},
        {"sts1 id1 1 1\nmode: enforce", ERR_CORRUPT},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct sts_policy *p = NULL;
        int64_t used;
        if (sts_kept_parse("a.test", bytes_of(rows[i].value), &p, &used) != rows[i].want)
            fail_msg("%s", rows[i].value);
        assert_null(p);
    }
}

static struct sts *open_sts(struct world *w, uv_loop_t *loop, unsigned worker)
{
    struct sts *s = NULL;
    char *why = NULL;
    const struct sts_setup setup = {
        .loop = loop,
        .store = w->store,
        .dir = w->dir,
        .worker = worker,
        .workers = 2,
        .tick_ms = 1000000,
        .entries_max = 100,
        .bytes_max = 1 << 20,
        .now_unix = test_now,
    };
    assert_int_equal(sts_open(&setup, &s, &why), OK);
    return s;
}

static void close_sts(struct sts *s, uv_loop_t *loop)
{
    sts_close(s, NULL, NULL);
    uv_run(loop, UV_RUN_DEFAULT);
}

static void put(struct sts *s, const char *domain, int64_t fetched_unix)
{
    struct sts_entry *e = sts_entry_ensure(s, domain);

    sts_entry_set(s, e, make(domain, fetched_unix));
    sts_kept_save(s, e);
}

static bool count_row(void *arg, const struct kept *k)
{
    (void)k;
    ++*(size_t *)arg;
    return true;
}

static size_t rows_kept(const char *dir)
{
    size_t count = 0;

    assert_int_equal(keep_read(dir, STS_KEEP_KIND, NULL, count_row, &count), OK);
    return count;
}

static void every_worker_finds_its_own_policies_after_a_restart(void **state)
{
    static const char *const domains[] = {"a.test", "b.test", "c.test", "d.test", "e.test", "f.test"};
    struct world w;
    uv_loop_t loop;
    size_t found = 0;

    (void)state;
    uv_loop_init(&loop);
    world_init(&w);
    world_must_open(&w);
    struct sts *s = open_sts(&w, &loop, 0);
    for (size_t i = 0; i < COUNT_OF(domains); i++)
        put(s, domains[i], now - 1000);
    put(s, "old.test", now - 604800);     /* expires now */
    put(s, "future.test", now + 1000000); /* the clock was wrong then */
    store_keep_set(w.store, STS_KEEP_KIND, "bad.test", BYTES("nonsense"));
    close_sts(s, &loop);
    world_close(&w);
    world_must_open(&w);
    for (unsigned worker = 0; worker < 2; worker++) {
        s = open_sts(&w, &loop, worker);
        struct sts_view view;
        for (size_t i = 0; i < COUNT_OF(domains); i++) {
            bool is_ours = store_owner(bytes_of(domains[i]), 2) == worker;
            assert_int_equal(sts_find(s, domains[i], &view), is_ours);
            if (!is_ours)
                continue;
            found++;
            assert_int_equal(view.policy->fetched_unix, now - 1000);
            assert_true(sts_policy_names(view.policy, BYTES("x.a.test")));
            assert_in_range(view.refresh_unix, now, now + 86400);
        }
        if (sts_find(s, "future.test", &view))
            assert_int_equal(view.policy->fetched_unix, now);
        assert_false(sts_find(s, "old.test", &view));
        assert_false(sts_find(s, "bad.test", &view));
        close_sts(s, &loop);
    }
    assert_int_equal(found, COUNT_OF(domains));
    world_close(&w);
    assert_int_equal(rows_kept(w.dir), COUNT_OF(domains) + 1); /* what was bad or over is gone */
    world_fini(&w);
    assert_int_equal(uv_loop_close(&loop), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_kept_policy_reads_as_it_was_written),
        cmocka_unit_test(damaged_values_are_refused),
        cmocka_unit_test(every_worker_finds_its_own_policies_after_a_restart),
    };

    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
