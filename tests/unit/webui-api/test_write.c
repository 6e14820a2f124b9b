/* JSON and CSV as they leave. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <jansson.h>
#include <string.h>

#include "webui-api/csv.h"
#include "webui-api/json_write.h"

static void a_tree_stands_among_values_as_they_do(void **state)
{
    BUF_LOCAL(out);
    json_t *tree = json_pack("{s:[i,n]}", "a", 1);

    (void)state;
    json_begin(&out, NULL, '{');
    json_put_tree(&out, "none", NULL);
    json_put_tree(&out, "tree", tree);
    json_begin(&out, "list", '[');
    json_put_tree(&out, NULL, tree);
    json_put_tree(&out, NULL, tree);
    json_end(&out, ']');
    json_end(&out, '}');
    assert_string_equal(buf_str(&out), "{\"none\":null,\"tree\":{\"a\":[1,null]},"
                                       "\"list\":[{\"a\":[1,null]},{\"a\":[1,null]}]}");
    json_decref(tree);
}

static void csv_fields_are_quoted_where_rfc_4180_asks_and_never_formulas(void **state)
{
    static const struct {
        const char *in, *want;
    } cases[] = {
        {"plain", "plain"},
        {"two words", "two words"},
        {NULL, "\"\""},
        {"", "\"\""},
        {"a,b", "\"a,b\""},
        {"a\"b", "\"a\"\"b\""},
        {"a\r\nb", "\"a\r\nb\""},
        {"=1+1", "'=1+1"},
        {"+1", "'+1"},
        {"-1", "'-1"},
        {"@SUM(A1)", "'@SUM(A1)"},
        {"\tx", "'\tx"},
        {"\rx", "\"'\rx\""},
        {"=a,\"b\"", "\"'=a,\"\"b\"\"\""},
        {"a=b", "a=b"},
        {"a-b@c", "a-b@c"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        BUF_LOCAL(out);
        csv_text(&out, cases[i].in);
        assert_string_equal(buf_str(&out), cases[i].want);
    }
}

static void csv_records_end_in_crlf(void **state)
{
    BUF_LOCAL(out);

    (void)state;
    csv_text(&out, "domain");
    csv_text(&out, "n");
    csv_end(&out);
    csv_text(&out, "");
    csv_count(&out, 7);
    csv_end(&out);
    assert_string_equal(buf_str(&out), "domain,n\r\n\"\",7\r\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tree_stands_among_values_as_they_do),
        cmocka_unit_test(csv_fields_are_quoted_where_rfc_4180_asks_and_never_formulas),
        cmocka_unit_test(csv_records_end_in_crlf),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
