#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/mem.h"

#define KEYS 3000

/* What the map must do, said the slow way. */
struct entry {
    char key[12];
    bool there;
    uint32_t version; /* which of its two values */
    char values[2];
};

static struct bytes key_of(const struct entry *e)
{
    return bytes_of(e->key);
}

static void check_against(const struct map *m, struct entry *model, size_t count)
{
    size_t there = 0, walked = 0, at = 0;

    for (size_t i = 0; i < count; i++) {
        void *want = model[i].there ? &model[i].values[model[i].version] : NULL;
        assert_ptr_equal(map_find(m, key_of(&model[i])), want);
        there += model[i].there;
    }
    while (map_next(m, &at))
        walked++;
    assert_int_equal(walked, there);
    assert_int_equal(m->count, there);
    assert_true(m->used >= m->count && m->used < m->cap + !m->cap);
}

static void the_map_agrees_with_a_model_over_many_puts_and_removes(void **state)
{
    static struct entry model[KEYS];
    struct map m = {0};
    unsigned seed = 7;

    for (size_t i = 0; i < KEYS; i++)
        snprintf(model[i].key, sizeof(model[i].key), "k%zu", i);
    check_against(&m, model, KEYS);
    for (int round = 0; round < 12; round++) {
        int removes_in_ten =
            round % 4 == 3 ? 9 : round % 4 * 2; /* the map grows, churns and nearly empties */
        for (int step = 0; step < 4000; step++) {
            struct entry *e = &model[(unsigned)rand_r(&seed) % KEYS];
            void *before = e->there ? &e->values[e->version] : NULL;
            if (rand_r(&seed) % 10 < removes_in_ten) {
                assert_ptr_equal(map_remove(&m, key_of(e)), before);
                e->there = false;
            } else {
                e->version ^= e->there;
                assert_ptr_equal(map_put(&m, key_of(e), &e->values[e->version]), before);
                e->there = true;
            }
        }
        check_against(&m, model, KEYS);
    }
    map_fini(&m);
}

static void a_map_that_churns_stays_small(void **state)
{
    static char keys[200000][8];
    struct map m = {0};

    /* Ten live entries at a time, none of them for long: dead slots must not make the table grow or loop. */
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        snprintf(keys[i], sizeof(keys[i]), "%zu", i);
        assert_null(map_put(&m, bytes_of(keys[i]), keys[i]));
        if (i >= 10)
            assert_ptr_equal(map_remove(&m, bytes_of(keys[i - 10])), keys[i - 10]);
    }
    assert_int_equal(m.count, 10);
    assert_in_range(m.cap, 16, 64);
    map_fini(&m);
}

static void a_map_shrinks_after_a_flood(void **state)
{
    static char keys[50000][8];
    struct map m = {0};

    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        snprintf(keys[i], sizeof(keys[i]), "%zu", i);
        map_put(&m, bytes_of(keys[i]), keys[i]);
    }
    for (size_t i = 0; i < COUNT_OF(keys); i++)
        map_remove(&m, bytes_of(keys[i]));
    map_put(&m, bytes_of(keys[7]), keys[7]); /* a walk over it should not pass 100,000 dead slots */
    assert_int_equal(m.count, 1);
    assert_int_equal(m.cap, 16);
    assert_ptr_equal(map_find(&m, bytes_of(keys[7])), keys[7]);
    map_fini(&m);
}

static void every_entry_may_be_removed_while_walking(void **state)
{
    static char keys[1000][8];
    struct map m = {0};
    size_t at = 0, seen = 0;

    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        snprintf(keys[i], sizeof(keys[i]), "%zu", i);
        map_put(&m, bytes_of(keys[i]), keys[i]);
    }
    for (char *key; (key = map_next(&m, &at)); seen++)
        assert_ptr_equal(map_remove(&m, bytes_of(key)), key);
    assert_int_equal(seen, COUNT_OF(keys));
    assert_int_equal(m.count, 0);
    map_fini(&m);
}

static void keys_may_be_empty_or_hold_nul(void **state)
{
    struct map m = {0};
    int a, b, c;

    map_put(&m, (struct bytes){0}, &a);
    map_put(&m, bytes_make("x\0y", 3), &b);
    map_put(&m, bytes_make("x\0z", 3), &c);
    assert_ptr_equal(map_find(&m, BYTES("")), &a);
    assert_ptr_equal(map_find(&m, bytes_make("x\0y", 3)), &b);
    assert_ptr_equal(map_find(&m, bytes_make("x\0z", 3)), &c);
    assert_null(map_find(&m, BYTES("x")));
    assert_ptr_equal(map_remove(&m, (struct bytes){0}), &a);
    assert_null(map_find(&m, BYTES("")));
    map_fini(&m);
}

static void a_replaced_entry_lives_by_its_new_key(void **state)
{
    struct map m = {0};
    char *first = mem_strdup("same"), *second = mem_strdup("same");

    assert_null(map_put(&m, bytes_of(first), first));
    assert_ptr_equal(map_put(&m, bytes_of(second), second), first);
    mem_free(first); /* the map must not look at it again */
    assert_ptr_equal(map_find(&m, BYTES("same")), second);
    map_fini(&m);
    mem_free(second);
}

static void stable_hashes_never_change(void **state)
{
    /* FNV-1a 64, from its authors' test vectors. */
    assert_true(hash_stable(BYTES("")) == 0xcbf29ce484222325);
    assert_true(hash_stable(BYTES("a")) == 0xaf63dc4c8601ec8c);
    assert_true(hash_stable(BYTES("foobar")) == 0x85944171f73967e8);
}

static void seeded_hashes_depend_on_every_octet(void **state)
{
    char text[33] = {0};

    for (size_t len = 1; len <= 32; len++) {
        uint64_t before = hash_bytes(bytes_make(text, len));
        assert_true(hash_bytes(bytes_make(text, len)) == before);
        assert_true(hash_bytes(bytes_make(text, len - 1)) != before);
        for (size_t i = 0; i < len; i++) {
            text[i] ^= 1;
            assert_true(hash_bytes(bytes_make(text, len)) != before);
            text[i] ^= 1;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_map_agrees_with_a_model_over_many_puts_and_removes),
        cmocka_unit_test(a_map_that_churns_stays_small),
        cmocka_unit_test(a_map_shrinks_after_a_flood),
        cmocka_unit_test(every_entry_may_be_removed_while_walking),
        cmocka_unit_test(keys_may_be_empty_or_hold_nul),
        cmocka_unit_test(a_replaced_entry_lives_by_its_new_key),
        cmocka_unit_test(stable_hashes_never_change),
        cmocka_unit_test(seeded_hashes_depend_on_every_octet),
    };

    return cmocka_run_group_tests_name("base/hash", tests, NULL, NULL);
}
