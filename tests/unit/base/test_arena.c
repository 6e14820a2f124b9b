#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "base/arena.h"

static void blocks_are_aligned_apart_and_all_usable(void **state)
{
    struct arena a = {0};
    unsigned seed = 3;
    struct {
        unsigned char *at;
        size_t len;
    } seen[500];

    for (size_t i = 0; i < COUNT_OF(seen); i++) {
        seen[i].len = (size_t)rand_r(&seed) % (i % 10 ? 100 : 10000);
        seen[i].at = arena_alloc(&a, seen[i].len);
        assert_non_null(seen[i].at);
        assert_int_equal((uintptr_t)seen[i].at % 16, 0);
        memset(seen[i].at, (int)i, seen[i].len);
    }
    for (size_t i = 0; i < COUNT_OF(seen); i++)
        for (size_t j = 0; j < seen[i].len; j++)
            assert_int_equal(seen[i].at[j], i & 0xff);
    arena_fini(&a);
}

static void even_nothing_has_an_address(void **state)
{
    struct arena a = {0};
    void *first = arena_zalloc(&a, 0), *second = arena_zalloc(&a, 0);

    assert_non_null(first);
    assert_ptr_not_equal(first, second);
    arena_fini(&a);
}

static void a_large_piece_leaves_the_current_block_in_use(void **state)
{
    struct arena a = {0};
    char *before = arena_alloc(&a, 16);

    arena_alloc(&a, 100000);
    assert_ptr_equal(arena_alloc(&a, 16), before + 16);
    arena_fini(&a);
}

static void texts_are_copied_with_a_nul_behind(void **state)
{
    struct arena a = {0};

    assert_string_equal(arena_dup(&a, bytes_make("abcdef", 3)), "abc");
    assert_string_equal(arena_dup(&a, (struct bytes){0}), "");
    assert_null(arena_strdup(&a, NULL));
    assert_string_equal(arena_printf(&a, "%s-%d", "x", 12), "x-12");
    assert_int_equal(strlen(arena_printf(&a, "%*d", 5000, 1)), 5000);
    arena_fini(&a);
}

static void it_is_usable_again_after_fini(void **state)
{
    struct arena a = {0};

    arena_alloc(&a, 10);
    arena_fini(&a);
    assert_int_equal(a.total_bytes, 0);
    int *n = ARENA_NEW(&a, int);
    assert_int_equal(*n, 0);
    arena_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_aligned_apart_and_all_usable),
        cmocka_unit_test(even_nothing_has_an_address),
        cmocka_unit_test(a_large_piece_leaves_the_current_block_in_use),
        cmocka_unit_test(texts_are_copied_with_a_nul_behind),
        cmocka_unit_test(it_is_usable_again_after_fini),
    };

    return cmocka_run_group_tests_name("base/arena", tests, NULL, NULL);
}
