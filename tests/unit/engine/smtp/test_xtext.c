#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/smtp/xtext.h"

static void xtext_decodes_or_is_refused(void **state)
{
    static const struct {
        const char *in;
        bool utf8;
        const char *want; /* NULL: refused */
    } cases[] = {
        {"", false, ""},
        {"abc@d.example", false, "abc@d.example"},
        {"a+2Bb@d.example", false, "a+b@d.example"},
        {"a+3Db", false, "a=b"},
        {"a+3db", false, "a=b"},
        {"a+20b", false, "a b"},
        {"a+2", false, NULL},
        {"a+", false, NULL},
        {"a+GG", false, NULL},
        {"a=b", false, NULL},
        {"a b", false, NULL},
        {"a+0D+0AX-Evil:+20yes", false, NULL}, /* nobody injects a line */
        {"a+00b", false, NULL},
        {"a+7F", false, NULL},
        {"a+FFb", false, NULL},
        {"a\x7f", false, NULL},
        {"\xc3\xa4", false, NULL},
        {"\xc3\xa4", true, "\xc3\xa4"},
        {"123456789", false, NULL}, /* one more than fits */
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char out[64];
        size_t cap = cases[i].in[0] == '1' ? 9 : sizeof(out);
        bool ok = xtext_decode(bytes_of(cases[i].in), cases[i].utf8, out, cap);
        assert_int_equal(ok, cases[i].want != NULL);
        if (ok)
            assert_string_equal(out, cases[i].want);
    }
}

static void what_is_encoded_decodes_to_itself(void **state)
{
    char text[96], back[96];
    BUF_LOCAL(coded);

    (void)state;
    for (size_t c = 0; c < 95; c++)
        text[c] = (char)(' ' + c);
    text[95] = '\0';
    xtext_encode(bytes_of(text), &coded);
    assert_true(xtext_decode(buf_bytes(&coded), false, back, sizeof(back)));
    assert_string_equal(back, text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(xtext_decodes_or_is_refused),
        cmocka_unit_test(what_is_encoded_decodes_to_itself),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
