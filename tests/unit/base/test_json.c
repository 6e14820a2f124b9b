/* JSON as it is written, read back by another hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <jansson.h>
#include <string.h>

#include "base/json.h"

static void commas_stand_between_values_and_nowhere_else(void **state)
{
    BUF_LOCAL(out);

    (void)state;
    json_begin(&out, NULL, '{');
    json_begin(&out, "empty", '[');
    json_end(&out, ']');
    json_begin(&out, "list", '[');
    json_put_int(&out, NULL, -1);
    json_put_text(&out, NULL, "[");
    json_put_text(&out, NULL, "{");
    json_put_text(&out, NULL, ":");
    json_put_text(&out, NULL, NULL);
    json_begin(&out, NULL, '{');
    json_end(&out, '}');
    json_put_bool(&out, NULL, true);
    json_end(&out, ']');
    json_put_count(&out, "n", UINT64_MAX);
    json_put_raw(&out, "raw", BYTES("{\"a\":1}"));
    json_put_null(&out, "none");
    json_end(&out, '}');
    assert_string_equal(buf_str(&out), "{\"empty\":[],\"list\":[-1,\"[\",\"{\",\":\",null,{},true],"
                                       "\"n\":18446744073709551615,\"raw\":{\"a\":1},\"none\":null}");
}

static void any_octets_become_text_that_a_strict_reader_takes(void **state)
{
    static const struct {
        struct bytes in;
        const char *want;
    } cases[] = {
        {BYTES("plain"), "plain"},
        {BYTES("\"\\/\n\t\r\x01\x7f"), "\"\\/\n\t\r\x01\x7f"},
        {BYTES("\xe4\xbe\x8b"), "\xe4\xbe\x8b"},
        {BYTES("\xf0\x9f\x98\x80"), "\xf0\x9f\x98\x80"},
        {BYTES("a\xff"), "a\xef\xbf\xbd"},
        {BYTES("\xc0\x80"), "\xef\xbf\xbd\xef\xbf\xbd"},                 /* overlong */
        {BYTES("\xe4\xbe"), "\xef\xbf\xbd\xef\xbf\xbd"},                 /* cut */
        {BYTES("\xed\xa0\x80"), "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, /* surrogate */
        {BYTES("\xf4\x90\x80\x80"), "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        BUF_LOCAL(out);
        json_error_t error;
        json_put_bytes(&out, NULL, cases[i].in);
        json_t *back = json_loadb(out.at, out.len, JSON_DECODE_ANY, &error);
        assert_non_null(back);
        assert_string_equal(json_string_value(back), cases[i].want);
        json_decref(back);
    }
}

static void every_octet_and_pair_of_octets_is_valid_json(void **state)
{
    (void)state;
    for (unsigned pair = 0; pair < 65536; pair++) {
        const char in[2] = {(char)(pair >> 8), (char)pair};
        BUF_LOCAL(out);
        json_put_bytes(&out, NULL, bytes_make(in, 2));
        json_t *back = json_loadb(out.at, out.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        assert_non_null(back);
        json_decref(back);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commas_stand_between_values_and_nowhere_else),
        cmocka_unit_test(any_octets_become_text_that_a_strict_reader_takes),
        cmocka_unit_test(every_octet_and_pair_of_octets_is_valid_json),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
