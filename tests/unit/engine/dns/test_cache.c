#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "engine/dns/cache.h"

static void put(struct dns_cache *c, const char *name, uint16_t type, uint64_t expires_ms)
{
    struct dns_answer *a = dns_answer_create(DNS_OK, name, 1);
    struct dns_key key;

    a->expires_ms = expires_ms;
    dns_key_make(name, type, &key);
    dns_cache_put(c, &key, a);
    dns_answer_unref(a);
}

static struct dns_answer *find(struct dns_cache *c, const char *name, uint16_t type, uint64_t now_ms)
{
    struct dns_key key;

    dns_key_make(name, type, &key);
    return dns_cache_find(c, &key, now_ms);
}

static void an_entry_is_found_until_it_expires(void **state)
{
    struct dns_cache c;

    dns_cache_init(&c, 10);
    put(&c, "a.test", 1, 1000);
    assert_non_null(find(&c, "a.test", 1, 0));
    assert_non_null(find(&c, "a.test", 1, 999));
    assert_null(find(&c, "a.test", 28, 0));
    assert_null(find(&c, "b.test", 1, 0));
    assert_null(find(&c, "a.test", 1, 1000));
    assert_int_equal(c.entries.count, 0);
    assert_int_equal(c.bytes, 0);
    dns_cache_fini(&c);
}

static void a_newer_answer_takes_the_place_of_the_older(void **state)
{
    struct dns_cache c;

    dns_cache_init(&c, 10);
    put(&c, "a.test", 1, 1000);
    put(&c, "a.test", 1, 5000);
    assert_int_equal(c.entries.count, 1);
    assert_int_equal(find(&c, "a.test", 1, 2000)->expires_ms, 5000);
    dns_cache_fini(&c);
}

static void the_least_recently_used_goes_first(void **state)
{
    struct dns_cache c;

    dns_cache_init(&c, 3);
    put(&c, "a.test", 1, 1000);
    put(&c, "b.test", 1, 1000);
    put(&c, "c.test", 1, 1000);
    assert_non_null(find(&c, "a.test", 1, 0));
    put(&c, "d.test", 1, 1000);
    assert_null(find(&c, "b.test", 1, 0));
    assert_non_null(find(&c, "a.test", 1, 0));
    assert_non_null(find(&c, "c.test", 1, 0));
    assert_non_null(find(&c, "d.test", 1, 0));
    dns_cache_fini(&c);
}

static void big_answers_do_not_fill_the_memory(void **state)
{
    struct dns_cache c;

    dns_cache_init(&c, 100);
    for (int i = 0; i < 100; i++) {
        struct dns_answer *a = dns_answer_create(DNS_OK, "x.test", 1);
        struct dns_key key;
        char name[32];
        snprintf(name, sizeof(name), "n%d.test", i);
        dns_key_make(name, 1, &key);
        a->expires_ms = 1000;
        a->bytes = 65536; /* as if it were */
        dns_cache_put(&c, &key, a);
        dns_answer_unref(a);
        assert_true(c.bytes <= c.bytes_max);
    }
    assert_in_range(c.entries.count, 1, 5);
    dns_cache_fini(&c);
}

static void an_answer_in_use_outlives_its_entry(void **state)
{
    struct dns_cache c;

    dns_cache_init(&c, 10);
    put(&c, "a.test", 1, 1000);
    struct dns_answer *held = dns_answer_ref(find(&c, "a.test", 1, 0));
    dns_cache_clear(&c);
    assert_null(find(&c, "a.test", 1, 0));
    assert_string_equal(held->name, "a.test");
    dns_answer_unref(held);
    dns_cache_fini(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_entry_is_found_until_it_expires),
        cmocka_unit_test(a_newer_answer_takes_the_place_of_the_older),
        cmocka_unit_test(the_least_recently_used_goes_first),
        cmocka_unit_test(big_answers_do_not_fill_the_memory),
        cmocka_unit_test(an_answer_in_use_outlives_its_entry),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
