#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/base64.h"

static void every_value_has_one_text_and_comes_back_from_it(void **state)
{
    static const struct {
        struct bytes value;
        const char *text;
    } cases[] = {
        /* RFC 4648 §10 */
        {{"", 0}, ""},
        {{"f", 1}, "Zg=="},
        {{"fo", 2}, "Zm8="},
        {{"foo", 3}, "Zm9v"},
        {{"foob", 4}, "Zm9vYg=="},
        {{"fooba", 5}, "Zm9vYmE="},
        {{"foobar", 6}, "Zm9vYmFy"},
        {{"\0\xff\xfe\0", 4}, "AP/+AA=="},
        {{"\xfb\xf0", 2}, "+/A="},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        BUF_LOCAL(text);
        BUF_LOCAL(value);
        base64_encode(cases[i].value, &text);
        assert_string_equal(buf_str(&text), cases[i].text);
        assert_true(base64_decode(bytes_of(cases[i].text), &value));
        assert_true(bytes_eq(buf_bytes(&value), cases[i].value));
    }
}

static void what_is_not_strict_base64_is_refused_and_leaves_nothing(void **state)
{
    static const struct bytes cases[] = {
        {"Zg=", 3},  {"Zg", 2},    {"Z", 1},        {"=", 1},    {"====", 4},       {"Z===", 4},
        {"Zh==", 4}, /* bits left over */
        {"Zm9=", 4}, {"Zm 9", 4},  {"Zm9v\r\n", 6}, {" Zm9", 4}, {"Zm9v====", 8},   {"Zg==Zg==", 8},
        {"Zm-_", 4}, {"Zm9\0", 4}, {"*", 1},        {"Zm=v", 4}, {"\xc3\xa4zz", 4},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        BUF_LOCAL(value);
        buf_puts(&value, "before");
        assert_false(base64_decode(cases[i], &value));
        assert_string_equal(buf_str(&value), "before");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_value_has_one_text_and_comes_back_from_it),
        cmocka_unit_test(what_is_not_strict_base64_is_refused_and_leaves_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
