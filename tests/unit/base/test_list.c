#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/list.h"

struct item {
    int number;
    struct list node;
};

static int number_of(struct list *node)
{
    return LIST_ENTRY(node, struct item, node)->number;
}

static void elements_keep_their_order(void **state)
{
    struct item items[4] = {{1, {0}}, {2, {0}}, {3, {0}}, {4, {0}}};
    struct list l;
    int expected = 1;

    list_init(&l);
    assert_true(list_is_empty(&l));
    assert_null(list_first(&l));
    assert_null(list_pop(&l));
    list_push_back(&l, &items[1].node);
    list_push_back(&l, &items[2].node);
    list_push_front(&l, &items[0].node);
    list_push_back(&l, &items[3].node);
    LIST_FOREACH (node, &l)
        assert_int_equal(number_of(node), expected++);
    assert_int_equal(expected, 5);
    assert_int_equal(number_of(list_pop(&l)), 1);
    list_remove(&items[2].node);
    list_remove(&items[2].node); /* in no list: harmless */
    assert_int_equal(number_of(list_pop(&l)), 2);
    assert_int_equal(number_of(list_pop(&l)), 4);
    assert_true(list_is_empty(&l));
}

static void an_element_may_leave_while_it_is_visited(void **state)
{
    struct item items[3] = {{1, {0}}, {2, {0}}, {3, {0}}};
    struct list l;
    int seen = 0;

    list_init(&l);
    for (int i = 0; i < 3; i++)
        list_push_back(&l, &items[i].node);
    LIST_FOREACH_SAFE (node, &l) {
        assert_int_equal(number_of(node), ++seen);
        list_remove(node);
    }
    assert_int_equal(seen, 3);
    assert_true(list_is_empty(&l));
}

static void all_elements_move_to_the_end_of_another_list(void **state)
{
    struct item items[4] = {{1, {0}}, {2, {0}}, {3, {0}}, {4, {0}}};
    struct list a, b;

    list_init(&a);
    list_init(&b);
    list_move_all(&a, &b);
    assert_true(list_is_empty(&a));
    for (int i = 0; i < 4; i++)
        list_push_back(i < 2 ? &a : &b, &items[i].node);
    list_move_all(&a, &b);
    assert_true(list_is_empty(&b));
    for (int i = 1; i <= 4; i++)
        assert_int_equal(number_of(list_pop(&a)), i);
    assert_true(list_is_empty(&a));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(elements_keep_their_order),
        cmocka_unit_test(an_element_may_leave_while_it_is_visited),
        cmocka_unit_test(all_elements_move_to_the_end_of_another_list),
    };

    return cmocka_run_group_tests_name("base/list", tests, NULL, NULL);
}
