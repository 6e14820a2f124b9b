#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "base/mem.h"

static void numbers_are_digits_only_and_never_overflow(void **state)
{
    static const struct {
        const char *text;
        bool ok;
        uint64_t value;
    } cases[] = {
        {"0", true, 0},
        {"18446744073709551615", true, UINT64_MAX},
        {"18446744073709551616", false, 0},
        {"99999999999999999999", false, 0},
        {"000000000000000000000000000007", true, 7},
        {"", false, 0},
        {"-1", false, 0},
        {"+1", false, 0},
        {" 1", false, 0},
        {"1 ", false, 0},
        {"0x10", false, 0},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        uint64_t value = 42;
        assert_int_equal(bytes_parse_u64(bytes_of(cases[i].text), &value), cases[i].ok);
        assert_true(value == (cases[i].ok ? cases[i].value : 42));
    }
}

static void runs_compare_and_cut_without_leaving_their_ends(void **state)
{
    struct bytes s = BYTES("Hello");

    assert_true(bytes_eq(bytes_skip(s, 2), BYTES("llo")));
    assert_int_equal(bytes_skip(s, 99).len, 0);
    assert_int_equal(bytes_first(s, 99).len, 5);
    assert_true(bytes_ieq(s, BYTES("hELLO")));
    assert_false(bytes_eq(s, BYTES("hELLO")));
    assert_true(bytes_istarts(s, BYTES("HE")));
    assert_false(bytes_starts(s, BYTES("HE")));
    assert_false(bytes_starts(s, BYTES("Hello!")));
    assert_true(bytes_iends(s, BYTES("LO")));
    assert_false(bytes_iends(s, BYTES("xHello")));
    assert_int_equal(bytes_find(s, 'l'), 2);
    assert_int_equal(bytes_find(s, 'z'), 5);
    assert_true(bytes_eq(bytes_trim(BYTES(" \t a b\t ")), BYTES("a b")));
    assert_int_equal(bytes_trim(BYTES(" \t ")).len, 0);
    assert_int_equal(bytes_of(NULL).len, 0);
    /* Only ASCII letters fold: '[' and '{' differ by 32 too. */
    assert_false(bytes_ieq(BYTES("["), BYTES("{")));
    assert_false(bytes_ieq(BYTES("\xc4"), BYTES("\xe4")));
}

static void empty_runs_are_fine_everywhere(void **state)
{
    struct bytes none = {0};
    struct buf b = {0};

    assert_true(bytes_eq(none, BYTES("")));
    assert_true(bytes_starts(none, none));
    assert_int_equal(bytes_find(none, 'x'), 0);
    assert_int_equal(bytes_skip(none, 3).len, 0);
    buf_put(&b, none);
    assert_int_equal(b.len, 0);
    buf_consume(&b, 0);
    assert_string_equal(buf_str(&b), "");
    buf_fini(&b);
    char *copy = bytes_dup(none);
    assert_string_equal(copy, "");
    mem_free(copy);
}

static void a_buffer_grows_and_keeps_what_it_has(void **state)
{
    BUF_LOCAL(b);

    for (int i = 0; i < 5000; i++)
        buf_putf(&b, "%04d", i);
    assert_int_equal(b.len, 20000);
    assert_memory_equal(b.at + 4 * 1234, "1234", 4);
    buf_consume(&b, 4 * 4999);
    assert_string_equal(buf_str(&b), "4999");
    buf_consume(&b, 4);
    assert_int_equal(b.len, 0);
}

static void formatting_is_exact_when_the_text_just_fits(void **state)
{
    for (size_t len = 60; len < 70; len++) {
        BUF_LOCAL(b);
        buf_putf(&b, "%*s", (int)len, "x");
        assert_int_equal(b.len, len);
        assert_int_equal(strlen(buf_str(&b)), len);
    }
}

static void a_taken_buffer_belongs_to_the_taker(void **state)
{
    struct buf b = {0};

    buf_puts(&b, "abc");
    buf_putc(&b, 'd');
    char *text = buf_take(&b);
    assert_string_equal(text, "abcd");
    assert_null(b.at);
    assert_int_equal(b.len, 0);
    buf_puts(&b, "again");
    assert_string_equal(buf_str(&b), "again");
    buf_fini(&b);
    mem_free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_digits_only_and_never_overflow),
        cmocka_unit_test(runs_compare_and_cut_without_leaving_their_ends),
        cmocka_unit_test(empty_runs_are_fine_everywhere),
        cmocka_unit_test(a_buffer_grows_and_keeps_what_it_has),
        cmocka_unit_test(formatting_is_exact_when_the_text_just_fits),
        cmocka_unit_test(a_taken_buffer_belongs_to_the_taker),
    };

    return cmocka_run_group_tests_name("base/bytes", tests, NULL, NULL);
}
