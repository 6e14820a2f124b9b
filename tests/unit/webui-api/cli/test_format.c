/* webui-api/cli/format.c: values as people read them, and text that cannot harm a terminal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "webui-api/cli/format.h"

static void numbers_have_separators(void **state)
{
    static const struct {
        uint64_t n;
        const char *want;
    } cases[] = {{0, "0"},
                 {7, "7"},
                 {999, "999"},
                 {1000, "1,000"},
                 {12345, "12,345"},
                 {999999, "999,999"},
                 {1000000, "1,000,000"},
                 {UINT64_MAX, "18,446,744,073,709,551,615"}};

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        BUF_LOCAL(out);
        format_count(&out, cases[i].n);
        assert_string_equal(buf_str(&out), cases[i].want);
    }
}

static void a_percentage_is_whole_or_nothing_only_when_it_is(void **state)
{
    static const struct {
        uint64_t part, whole;
        const char *want;
    } cases[] = {{0, 0, "–"},
                 {5, 0, "–"},
                 {0, 10, "0 %"},
                 {10, 10, "100 %"},
                 {1, 2, "50.0 %"},
                 {9999, 10000, "99.9 %"},
                 {999999, 1000000, "99.9 %"},
                 {1, 1000000, "0.1 %"},
                 {2, 3, "66.7 %"}};

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        BUF_LOCAL(out);
        format_percent(&out, cases[i].part, cases[i].whole);
        assert_string_equal(buf_str(&out), cases[i].want);
    }
}

static void sizes_have_the_unit_that_fits(void **state)
{
    static const struct {
        uint64_t n;
        const char *want;
    } cases[] = {{0, "0 B"},
                 {1023, "1023 B"},
                 {1024, "1.0 KiB"},
                 {1536, "1.5 KiB"},
                 {1024 * 1024 - 1, "1.0 MiB"},
                 {52 * 1024 * 1024, "52.0 MiB"},
                 {UINT64_MAX, "16.0 EiB"}};

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        BUF_LOCAL(out);
        format_size(&out, cases[i].n);
        assert_string_equal(buf_str(&out), cases[i].want);
    }
}

static void spans_have_two_units_at_most(void **state)
{
    static const struct {
        int64_t s;
        const char *want;
    } cases[] = {{-5, "0 s"},   {0, "0 s"},        {59, "59 s"},         {60, "1 m"},    {3599, "59 m"},
                 {3600, "1 h"}, {7500, "2 h 5 m"}, {86399, "23 h 59 m"}, {86400, "1 d"}, {273600, "3 d 4 h"}};
    static const struct {
        uint64_t ms;
        const char *want;
    } ms_cases[] = {{0, "0 ms"},       {999, "999 ms"},   {1250, "1.25 s"},
                    {10500, "10.5 s"}, {59999, "59.9 s"}, {240000, "4 m"}};

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        BUF_LOCAL(out);
        format_span(&out, cases[i].s);
        assert_string_equal(buf_str(&out), cases[i].want);
    }
    for (size_t i = 0; i < COUNT_OF(ms_cases); i++) {
        BUF_LOCAL(out);
        format_span_ms(&out, ms_cases[i].ms);
        assert_string_equal(buf_str(&out), ms_cases[i].want);
    }
}

static void times_are_told_from_now(void **state)
{
    static const struct {
        int64_t at;
        const char *want;
    } cases[] = {{1000000, "now"},
                 {1000240, "in 4 m"},
                 {999988, "12 s ago"},
                 {1007500, "in 2 h 5 m"},
                 {0, "11 d 13 h ago"}};

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        BUF_LOCAL(out);
        format_relative(&out, cases[i].at, 1000000);
        assert_string_equal(buf_str(&out), cases[i].want);
    }
}

static void times_of_the_api_are_read_and_nothing_else(void **state)
{
    static const struct {
        const char *text;
        int64_t want; /* -1: refused */
    } cases[] = {{"1970-01-01T00:00:00Z", 0},
                 {"2026-11-21T21:35:12Z", 1795296912},
                 {"2026-11-21T21:35:12.345Z", 1795296912},
                 {"2026-11-21T21:35:12", -1},
                 {"2026-11-21T21:35:12+09:00", -1},
                 {"2026-11-21T21:35:12.3", 1795296912}, /* the fraction is what is dropped */
                 {"2026-11-21 21:35:12Z", -1},
                 {"2026-1-21T21:35:12Z", -1},
                 {"26-11-21T21:35:12Z", -1},
                 {"2026-11-21T2x:35:12Z", -1},
                 {"2026-11-21T21:35:12Zx", -1},
                 {"", -1}};

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        int64_t at = -1;
        bool good = format_parse_time(bytes_of(cases[i].text), &at);
        assert_int_equal(good, cases[i].want >= 0);
        assert_int_equal(at, cases[i].want);
    }
}

static void what_a_terminal_would_obey_is_escaped(void **state)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"plain 250 OK", "plain 250 OK"},
        {"あとで", "あとで"},
        {"\033[31mred\033[0m", "\\x1b[31mred\\x1b[0m"},
        {"a\r\nb\tc", "a\\r\\nb\\tc"},
        {"bell\a del\177", "bell\\x07 del\\x7f"},
        {"\xc2\x9b"
         "31m",
         "\\x9b31m"}, /* C1 control CSI in UTF-8 */
        {"\x9b"
         "31m",
         "\\x9b31m"}, /* and alone, for 8-bit terminals */
        {"a\xe2\x80\xae"
         "fdp.exe",
         "a\\u{202e}fdp.exe"}, /* right-to-left override */
        {"a\xe2\x81\xa6"
         "b",
         "a\\u{2066}b"}, /* isolate */
        {"a\xe2\x80\x8b"
         "b\xef\xbb\xbf",
         "a\\u{200b}b\\u{feff}"},
        {"cut \xe3\x81", "cut \\xe3\\x81"},
        {"\xc0\xaf", "\\xc0\\xaf"},                   /* overlong */
        {"\xed\xa0\x80", "\\xed\\xa0\\x80"},          /* surrogate */
        {"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"}, /* above U+10FFFF */
        {"\xe3\x80\x80", "\xe3\x80\x80"},             /* ideographic space */
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        BUF_LOCAL(out);
        format_safe(&out, bytes_of(cases[i].text));
        assert_string_equal(buf_str(&out), cases[i].want);
    }
}

/* Whatever the octets: no control and no broken UTF-8 comes out, also when what went in is cut anywhere. */
static void no_two_octets_make_a_control(void **state)
{
    for (unsigned pair = 0; pair < 65536; pair++) {
        const char text[] = {(char)(pair >> 8), (char)pair};
        BUF_LOCAL(out);
        BUF_LOCAL(again);
        format_safe(&out, bytes_make(text, 2));
        for (size_t i = 0; i < out.len; i++)
            assert_true((unsigned char)out.at[i] >= 0x20 && out.at[i] != 0x7f);
        format_safe(&again, buf_bytes(&out));
        assert_string_equal(buf_str(&again), buf_str(&out)); /* it was harmless already */
    }
}

static void width_is_what_a_terminal_shows(void **state)
{
    static const struct {
        const char *text;
        size_t want;
    } cases[] = {{"", 0},         {"abc", 3}, {"日本語", 6},    {"ﾊﾝｶｸ", 4},
                 {"Ｆｕｌｌ", 8}, {"é", 1},   {"e\xcc\x81", 1}, {"か\xe3\x82\x99", 2},
                 {"한국", 4},     {"…", 1},   {"→", 1},         {"😀", 2}};

    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_int_equal(format_width(bytes_of(cases[i].text)), cases[i].want);
}

static void a_cut_fits_and_says_that_it_is_one(void **state)
{
    static const struct {
        const char *text;
        size_t width;
        const char *want;
    } cases[] = {{"hello", 5, "hello"}, {"hello", 4, "hel…"},    {"hello", 1, "…"},
                 {"hello", 0, ""},      {"日本語", 6, "日本語"}, {"日本語", 5, "日本…"},
                 {"日本語", 4, "日…"},  {"日本語", 2, "…"},      {"e\xcc\x81t\xc3\xa9s", 3, "e\xcc\x81t…"}};
    static const char mixed[] = "a日b本e\xcc\x81語😀cd";

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        BUF_LOCAL(out);
        format_cut(&out, bytes_of(cases[i].text), cases[i].width);
        assert_string_equal(buf_str(&out), cases[i].want);
    }
    for (size_t width = 0; width < 20; width++) {
        BUF_LOCAL(out);
        format_cut(&out, bytes_of(mixed), width);
        assert_true(format_width(buf_bytes(&out)) <= width);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_have_separators),
        cmocka_unit_test(a_percentage_is_whole_or_nothing_only_when_it_is),
        cmocka_unit_test(sizes_have_the_unit_that_fits),
        cmocka_unit_test(spans_have_two_units_at_most),
        cmocka_unit_test(times_are_told_from_now),
        cmocka_unit_test(times_of_the_api_are_read_and_nothing_else),
        cmocka_unit_test(what_a_terminal_would_obey_is_escaped),
        cmocka_unit_test(no_two_octets_make_a_control),
        cmocka_unit_test(width_is_what_a_terminal_shows),
        cmocka_unit_test(a_cut_fits_and_says_that_it_is_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
