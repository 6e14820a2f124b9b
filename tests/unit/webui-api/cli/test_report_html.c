#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "webui-api/cli/report.h"

#define NOON 1795262400 /* 2026-11-21T12:00:00Z */

/* Answers as the API gives them, with what a test does not care for left out. */
struct answers {
    json_t *by_hour, *by_group, *clear, *weak, *certificates, *downgrades;
};

static json_t *parse(const char *text)
{
    json_error_t error;
    json_t *value = json_loads(text, 0, &error);

    if (!value)
        fail_msg("%s: %s", text, error.text);
    return value;
}

static void answers_init(struct answers *a)
{
    a->by_hour = parse("{\"by\":\"hour\",\"rows\":[],\"totals\":{}}");
    a->by_group = parse("{\"by\":\"group\",\"rows\":[],\"totals\":{}}");
    a->clear = parse("{\"rows\":[]}");
    a->weak = parse("{\"rows\":[]}");
    a->certificates = parse("{\"rows\":[],\"before_unix\":1795262400}");
    a->downgrades = parse("{\"rows\":[],\"open\":0}");
}

static void answers_fini(struct answers *a)
{
    json_decref(a->by_hour);
    json_decref(a->by_group);
    json_decref(a->clear);
    json_decref(a->weak);
    json_decref(a->certificates);
    json_decref(a->downgrades);
}

static void make(const struct answers *a, const char *host, struct buf *out)
{
    const struct report_pages pages = {a->by_hour,      a->by_group,   a->clear, a->weak,
                                       a->certificates, a->downgrades, host,     "2026-11-22 01:00"};

    report_html(&pages, out);
}

static size_t count_of(const char *text, const char *word)
{
    size_t n = 0;

    for (const char *at = text; (at = strstr(at, word)); at += strlen(word))
        n++;
    return n;
}

static void a_report_of_nothing_is_a_whole_page(void **state)
{
    struct answers a;
    BUF_LOCAL(out);

    (void)state;
    answers_init(&a);
    make(&a, "mail.example", &out);
    const char *text = buf_str(&out);
    assert_int_equal(strncmp(text, "<!DOCTYPE html>", 15), 0);
    assert_non_null(strstr(text, "Nothing was delivered in this span"));
    assert_non_null(strstr(text, "nothing was delivered in clear text"));
    assert_non_null(strstr(text, "None on record"));
    assert_string_equal(text + strlen(text) - strlen("</body></html>\n"), "</body></html>\n");
    assert_null(strstr(text, "nan"));
    assert_null(strstr(text, "inf'"));
    answers_fini(&a);
}

static void names_of_strangers_are_text_and_nothing_else(void **state)
{
    static const char evil[] = "</td><script>alert(1)</script>\\u202e\\u0007\\\"'&amp;";
    struct answers a;
    BUF_LOCAL(row);
    BUF_LOCAL(out);

    (void)state;
    answers_init(&a);
    buf_putf(&row,
             "{\"rows\":[{\"group\":\"%s\",\"domain\":\"%s\",\"mx\":\"%s\",\"verify\":\"%s\",\"from\":\"%s\","
             "\"to\":\"%s\","
             "\"state\":\"%s\",\"evidence\":\"%s\",\"approved_by\":\"%s\",\"clear\":1,\"weak\":1,"
             "\"delivered\":1}],"
             "\"totals\":{\"delivered\":3,\"tls13\":3,\"ciphers\":[{\"version\":\"%s\",\"cipher\":\"%s\","
             "\"kx\":\"%s\","
             "\"delivered\":3}],\"verify\":{\"%s\":3},\"dane\":{\"%s\":1},\"failures\":{\"%s\":1}}}",
             evil, evil, evil, evil, evil, evil, evil, evil, evil, evil, evil, evil, evil, evil, evil);
    json_t **const all[] = {&a.by_group, &a.clear, &a.weak, &a.certificates, &a.downgrades};
    for (size_t i = 0; i < COUNT_OF(all); i++) {
        json_decref(*all[i]);
        *all[i] = parse(buf_str(&row));
    }
    make(&a, "</title><script>x</script>", &out);
    const char *text = buf_str(&out);
    assert_null(strstr(text, "<script"));
    assert_null(strstr(text, "\xe2\x80\xae")); /* what turns writing around */
    assert_null(strchr(text, '\a'));
    assert_int_equal(count_of(text, "</title><style>"), 1);
    assert_true(count_of(text, "&lt;script&gt;alert(1)") >= 14);
    assert_int_equal(count_of(text, "<td"), count_of(text, "</td>"));
    assert_int_equal(count_of(text, "<tr"), count_of(text, "</tr>"));
    answers_fini(&a);
}

/* What the titles of the bars say, added up: "2026-11-21 12:00, clear text by choice: 1,234". */
static uint64_t sum_of_bars(const char *text)
{
    uint64_t sum = 0;

    for (const char *at = text; (at = strstr(at, "<title>2"));) {
        const char *end = strstr(at, "</title>");
        uint64_t n = 0;
        assert_non_null(end);
        const char *from = end;
        while (from[-1] != ' ')
            from--;
        for (; from < end; from++)
            if (*from != ',')
                n = n * 10 + (uint64_t)(*from - '0');
        sum += n;
        at = end;
    }
    return sum;
}

static void the_bars_of_any_span_hold_everything_that_was_delivered(void **state)
{
    static const struct {
        int64_t hours, step; /* how many rows, and how many hours apart */
        size_t bars_most;
    } cases[] = {{1, 1, 1},    {2, 1, 2},     {24, 1, 24},   {96, 1, 97},   {97, 1, 97},
                 {500, 1, 97}, {9000, 1, 97}, {30, 700, 97}, {90000, 7, 98}};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct answers a;
        uint64_t sum = 0;
        BUF_LOCAL(out);
        answers_init(&a);
        for (int64_t h = 0; h < cases[i].hours; h++) {
            uint64_t n = (uint64_t)(h * 7919 % 1000);
            sum += n + 3;
            json_array_append_new(json_object_get(a.by_hour, "rows"),
                                  json_pack("{s:I, s:I, s:I, s:i, s:i}", "hour_unix",
                                            (json_int_t)(NOON + h * cases[i].step * 3600), "delivered",
                                            (json_int_t)(n + 3), "tls13", (json_int_t)n, "clear_by_choice", 1,
                                            "clear_by_fallback", 2));
        }
        make(&a, "mail.example", &out);
        if (sum_of_bars(buf_str(&out)) != sum)
            fail_msg("%d hours: %llu, not %llu", (int)cases[i].hours,
                     (unsigned long long)sum_of_bars(buf_str(&out)), (unsigned long long)sum);
        assert_true(count_of(buf_str(&out), "clear text after failed TLS: ") <= cases[i].bars_most);
        answers_fini(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_report_of_nothing_is_a_whole_page),
        cmocka_unit_test(names_of_strangers_are_text_and_nothing_else),
        cmocka_unit_test(the_bars_of_any_span_hold_everything_that_was_delivered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
