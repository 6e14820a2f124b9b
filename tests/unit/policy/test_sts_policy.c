#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "policy/sts_policy.h"

/* A copy of exactly that size: a reader past its end is caught by the sanitizer. */
static struct bytes exact(const void *at, size_t len)
{
    void *copy = malloc(len ? len : 1);

    memcpy(copy, at, len);
    return bytes_make(copy, len);
}

static bool parse_txt(const char *text, size_t len, char id[STS_ID_MAX + 1], bool *ours)
{
    struct bytes copy = exact(text, len);
    bool good = sts_txt_parse(copy, id, ours);

    free((void *)(uintptr_t)copy.at);
    return good;
}

static struct sts_policy *parse_n(const char *text, size_t len, const char **why)
{
    struct bytes copy = exact(text, len);
    struct sts_policy *p = NULL;

    *why = NULL;
    if (sts_policy_parse("a.example", "id1", copy, &p, why) != OK) {
        assert_null(p);
        assert_non_null(*why);
    }
    free((void *)(uintptr_t)copy.at);
    return p;
}

static struct sts_policy *parse(const char *text, const char **why)
{
    return parse_n(text, strlen(text), why);
}

#define ID32  "0123456789abcdefABCDEF0123456789"
#define EXT32 "a1234567890_-.234567890123456789"

static void a_txt_record_is_read_by_its_grammar(void **state)
{
    static const struct {
        const char *text, *id; /* id NULL: not usable */
        bool ours;
    } cases[] = {
        {"v=STSv1; id=20160831085700Z;", "20160831085700Z", true}, /* the example of §3.1 */
        {"v=STSv1; id=20160831085700Z", "20160831085700Z", true},
        {"v=STSv1;id=1", "1", true},
        {"v=STSv1;id=1;", "1", true},
        {"v=STSv1 ;\tid=1 ; ", "1", true},
        {"v=STSv1; id=1 ;\t", "1", true},
        {"v=STSv1; id=" ID32, ID32, true},
        {"v=STSv1; a=b; id=1", "1", true},
        {"v=STSv1; id=1; a=b", "1", true},
        {"v=STSv1; " EXT32 "=!:<~; id=1", "1", true},
        {"v=STSv1; v=STSv2; id=1", "1", true},
        {"v=STSv1; id=1; id=2", "1", true}, /* the first of duplicate keys */
        {"v=STSv1; ID=2; id=1", "1", true},
        /* ours, and wrong: the domain has no policy, whatever other records say */
        {"v=STSv1;", NULL, true},
        {"v=STSv1; ", NULL, true},
        {"v=STSv1;;", NULL, true},
        {"v=STSv1; ID=1", NULL, true},
        {"v=STSv1; a=b", NULL, true},
        {"v=STSv1; id=", NULL, true},
        {"v=STSv1; id", NULL, true},
        {"v=STSv1; id=1;;", NULL, true},
        {"v=STSv1; id=1; ;", NULL, true},
        {"v=STSv1; id=1 ", NULL, true},
        {"v=STSv1; id =1", NULL, true},
        {"v=STSv1; id= 1", NULL, true},
        {"v=STSv1; id=1 2", NULL, true},
        {"v=STSv1; id=1-2", NULL, true},
        {"v=STSv1; id=1_2", NULL, true},
        {"v=STSv1; id=\xc3\xa9", NULL, true},
        {"v=STSv1; id=" ID32 "0", NULL, true},
        {"v=STSv1; id=1; id=" ID32 "0", NULL, true},
        {"v=STSv1; id=1; a", NULL, true},
        {"v=STSv1; id=1; =b", NULL, true},
        {"v=STSv1; id=1; a=", NULL, true},
        {"v=STSv1; id=1; a=b=c", NULL, true},
        {"v=STSv1; id=1; a=\x01", NULL, true},
        {"v=STSv1; id=1; a=\x7f", NULL, true},
        {"v=STSv1; id=1; a=\xc3\xa9", NULL, true},
        {"v=STSv1; id=1; _a=b", NULL, true},
        {"v=STSv1; id=1; " EXT32 "x=b", NULL, true},
        {"v=STSv1; id=1\r\n", NULL, true},
        {"v=STSv1; id=1, a=b", NULL, true},
        /* none of ours: discarded before they are counted */
        {"", NULL, false},
        {"v=STSv1", NULL, false},
        {"v=STSv1 ", NULL, false},
        {"v=STSv1 id=1;", NULL, false},
        {"v=STSv10; id=1;", NULL, false},
        {"v=STSv2; id=1;", NULL, false},
        {"v=stsv1; id=1;", NULL, false},
        {"V=STSv1; id=1;", NULL, false},
        {" v=STSv1; id=1;", NULL, false},
        {"id=1; v=STSv1;", NULL, false},
        {"v =STSv1; id=1;", NULL, false},
        {"\"v=STSv1; id=1;\"", NULL, false},
        {"v=spf1 -all", NULL, false},
        {"v=TLSRPTv1; rua=mailto:a@a.example", NULL, false},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char id[STS_ID_MAX + 1] = "untouched";
        bool ours = !cases[i].ours;
        bool good = parse_txt(cases[i].text, strlen(cases[i].text), id, &ours);

        if (good != (cases[i].id != NULL) || ours != cases[i].ours)
            fail_msg("'%s': %s, %s", cases[i].text, good ? "good" : "bad", ours ? "ours" : "not ours");
        assert_string_equal(id, good ? cases[i].id : "untouched");
    }
}

static void a_txt_record_with_a_nul_is_not_usable(void **state)
{
    static const char text[] = "v=STSv1; id=1\0002";
    char id[STS_ID_MAX + 1];
    bool ours;

    assert_false(parse_txt(text, sizeof(text) - 1, id, &ours));
    assert_true(ours);
}

/* Every cut of a record: it is ours from its first delimiter on, and good exactly where a whole field ends.
 */
static void a_cut_txt_record_never_gives_an_id_that_is_not_in_it(void **state)
{
    static const char text[] = "v=STSv1; id=20160831085700Z; a=b;";

    for (size_t len = 0; len <= strlen(text); len++) {
        char id[STS_ID_MAX + 1];
        bool ours, good = parse_txt(text, len, id, &ours);

        assert_int_equal(ours, len >= 8);
        if (good)
            assert_memory_equal(id, "20160831085700Z", strlen(id));
        assert_int_equal(good, (len >= 13 && len <= 28) || len == 29 || len >= 32);
    }
}

#define REST    "version: STSv1\nmax_age: 86400\n"
#define ENFORCE "version: STSv1\nmode: enforce\nmax_age: 86400\n"

static void a_policy_is_read_by_its_grammar(void **state)
{
    static const struct {
        const char *text;
        enum sts_policy_mode mode;
        uint32_t max_age_s;
        const char *mx; /* the patterns, with blanks between */
    } cases[] = {
        /* the example of §3.2 */
        {"version: STSv1\nmode: enforce\nmx: mail.example.com\nmx: *.example.net\nmx: backupmx.example.com\n"
         "max_age: 604800\n",
         STS_MODE_ENFORCE, 604800, "mail.example.com *.example.net backupmx.example.com"},
        /* ends of lines */
        {"version: STSv1\r\nmode: testing\r\nmx: m.example\r\nmax_age: 1\r\n", STS_MODE_TESTING, 1,
         "m.example"},
        {"version: STSv1\r\nmode: testing\nmx: m.example\r\nmax_age: 1", STS_MODE_TESTING, 1, "m.example"},
        {"version:STSv1\nmode:testing\nmx:m.example\nmax_age:1\n", STS_MODE_TESTING, 1, "m.example"},
        {"version: STSv1 \nmode: \t testing\t\nmx: m.example \r\nmax_age: 1 \n", STS_MODE_TESTING, 1,
         "m.example"},
        {"\nversion: STSv1\n\r\nmode: testing\n \nmx: m.example\nmax_age: 1\n\n\n", STS_MODE_TESTING, 1,
         "m.example"},
        /* keys: order, case, duplicates, unknown ones */
        {"max_age: 5\nmx: m.example\nmode: none\nversion: STSv1\n", STS_MODE_NONE, 5, "m.example"},
        {"version: STSv1\nversion: STSv2\nmode: none\nmode: enforce\nmax_age: 7\nmax_age: many\n",
         STS_MODE_NONE, 7, ""},
        {ENFORCE "mx: m.example\nnew_key: any thing: at all; = \xc3\xa9\n", STS_MODE_ENFORCE, 86400,
         "m.example"},
        {ENFORCE "mx: m.example\nnew.key-2:\n", STS_MODE_ENFORCE, 86400, "m.example"},
        {ENFORCE "mx: m.example\n" EXT32 ": x\n", STS_MODE_ENFORCE, 86400, "m.example"},
        /* mode */
        {REST "mode: none", STS_MODE_NONE, 86400, ""},
        /* max_age */
        {"version: STSv1\nmode: none\nmax_age: 0\n", STS_MODE_NONE, 0, ""},
        {"version: STSv1\nmode: none\nmax_age: 0000000060\n", STS_MODE_NONE, 60, ""},
        {"version: STSv1\nmode: none\nmax_age: 31557600\n", STS_MODE_NONE, 31557600, ""},
        /* mx */
        {ENFORCE "mx: MX.Example.\n", STS_MODE_ENFORCE, 86400, "mx.example"},
        {ENFORCE "mx: *.Example\n", STS_MODE_ENFORCE, 86400, "*.example"},
        {ENFORCE "mx: xn--r8jz45g.jp\n", STS_MODE_ENFORCE, 86400, "xn--r8jz45g.jp"},
        {ENFORCE "mx: m.example\nmx: m.example\n", STS_MODE_ENFORCE, 86400, "m.example m.example"},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const char *why;
        struct sts_policy *p = parse(cases[i].text, &why);
        struct buf mx = {0};

        if (!p)
            fail_msg("row %zu: %s", i, why);
        assert_string_equal(p->domain, "a.example");
        assert_string_equal(p->id, "id1");
        assert_int_equal(p->mode, cases[i].mode);
        assert_int_equal(p->max_age_s, cases[i].max_age_s);
        for (size_t j = 0; j < p->mx_count; j++)
            buf_putf(&mx, "%s%s", j ? " " : "", p->mx[j]);
        if (strcmp(buf_str(&mx), cases[i].mx) != 0)
            fail_msg("row %zu: mx %s", i, buf_str(&mx));
        buf_fini(&mx);
        sts_policy_unref(p);
    }
}

static void a_wrong_policy_is_refused_with_its_reason(void **state)
{
    static const struct {
        const char *text, *why;
    } cases[] = {
        /* ends of lines */
        {"version: STSv1\rmode: testing\rmx: m.example\rmax_age: 1\r", "control"},
        {ENFORCE "mx: m.example\r", "control"},
        {ENFORCE "mx: m.example\r\r\n", "control"},
        {ENFORCE "mx: m.exa\rmple\n", "control"},
        {"\xef\xbb\xbf" ENFORCE "mx: m.example\n", "not key: value"},
        /* keys: order, case, duplicates, unknown ones */
        {"VERSION: STSv1\nmode: none\nmax_age: 1\n", "no version"},
        {"version: STSv1\nMode: none\nmax_age: 1\n", "no mode"},
        {"version: STSv1\nmode: none\nMax_Age: 1\n", "no max_age"},
        {ENFORCE "MX: m.example\n", "no mx"},
        {"version: STSv2\nversion: STSv1\nmode: none\nmax_age: 7\n", "version"},
        {ENFORCE "mx: m.example\n" EXT32 "x: x\n", "not key: value"},
        {ENFORCE "mx: m.example\n_key: x\n", "not key: value"},
        {ENFORCE "mx: m.example\nnew key: x\n", "not key: value"},
        {ENFORCE "mx: m.example\n: x\n", "not key: value"},
        {ENFORCE "mx: m.example\nkey\n", "not key: value"},
        {ENFORCE "mx: m.example\nkey: a\x01\n", "control"},
        {ENFORCE "mx: m.example\nkey: \x7f\n", "control"},
        {ENFORCE "mx : m.example\n", "not key: value"},
        {" " ENFORCE "mx: m.example\n", "not key: value"},
        {"<html><body>Not found</body></html>", "not key: value"},
        /* version */
        {"", "no version"},
        {"mode: none\nmax_age: 1\n", "no version"},
        {"version: stsv1\nmode: none\nmax_age: 1\n", "version is not STSv1"},
        {"version: STSv11\nmode: none\nmax_age: 1\n", "version is not STSv1"},
        {"version:\nmode: none\nmax_age: 1\n", "version is not STSv1"},
        /* mode */
        {REST "mode: None", "mode is not"},
        {REST "mode: report", "mode is not"},
        {REST "mode:", "mode is not"},
        {REST "mode: enforce # yes", "mode is not"},
        {REST, "no mode"},
        /* max_age */
        {"version: STSv1\nmode: none\n", "no max_age"},
        {"version: STSv1\nmode: none\nmax_age: 31557601\n", "longer than a year"},
        {"version: STSv1\nmode: none\nmax_age: 4294967296\n", "longer than a year"},
        {"version: STSv1\nmode: none\nmax_age: 9999999999\n", "longer than a year"},
        {"version: STSv1\nmode: none\nmax_age: 00000000060\n", "not a number"},
        {"version: STSv1\nmode: none\nmax_age: 18446744073709551617\n", "not a number"},
        {"version: STSv1\nmode: none\nmax_age: -1\n", "not a number"},
        {"version: STSv1\nmode: none\nmax_age: +1\n", "not a number"},
        {"version: STSv1\nmode: none\nmax_age: 1d\n", "not a number"},
        {"version: STSv1\nmode: none\nmax_age: 1.5\n", "not a number"},
        {"version: STSv1\nmode: none\nmax_age:\n", "not a number"},
        /* mx */
        {ENFORCE, "no mx"},
        {"version: STSv1\nmode: testing\nmax_age: 1\n", "no mx"},
        {ENFORCE "mx: 例え.jp\n", "A-labels"},
        {ENFORCE "mx: *.例え.jp\n", "A-labels"},
        {ENFORCE "mx:\n", "not a host name"},
        {ENFORCE "mx: *\n", "not a host name"},
        {ENFORCE "mx: *.\n", "not a host name"},
        {ENFORCE "mx: .\n", "not a host name"},
        {ENFORCE "mx: .example\n", "not a host name"},
        {ENFORCE "mx: *.*.example\n", "not a host name"},
        {ENFORCE "mx: m*.example\n", "not a host name"},
        {ENFORCE "mx: m.*.example\n", "not a host name"},
        {ENFORCE "mx: m.example, n.example\n", "not a host name"},
        {ENFORCE "mx: m.example n.example\n", "not a host name"},
        {ENFORCE "mx: [192.0.2.1]\n", "not a host name"},
        {ENFORCE "mx: *.[192.0.2.1]\n", "not a host name"},
        {ENFORCE "mx: m.example:25\n", "not a host name"},
        {ENFORCE "mx: m.example\nmx: ?\n", "not a host name"},
        {REST "mode: none\nmx: ?\n", "not a host name"},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const char *why;
        struct sts_policy *p = parse(cases[i].text, &why);

        if (p || !strstr(why, cases[i].why))
            fail_msg("row %zu: %s instead of %s", i, why ? why : "good", cases[i].why);
    }
}

static void a_policy_has_at_most_64_kib_and_256_patterns(void **state)
{
    struct buf text = {0};
    struct sts_policy *p;
    const char *why;

    buf_puts(&text, ENFORCE "mx: m.example\nx: ");
    while (text.len < STS_POLICY_BYTES)
        buf_putc(&text, 'x');
    p = parse_n(text.at, text.len, &why);
    assert_non_null(p);
    sts_policy_unref(p);
    buf_putc(&text, 'x');
    assert_null(parse_n(text.at, text.len, &why));
    assert_string_equal(why, "the policy is larger than 64 KiB");
    buf_clear(&text);
    buf_puts(&text, ENFORCE);
    for (size_t i = 0; i < STS_PATTERNS_MAX; i++)
        buf_putf(&text, "mx: m%zu.example\n", i);
    p = parse_n(text.at, text.len, &why);
    assert_non_null(p);
    assert_int_equal(p->mx_count, STS_PATTERNS_MAX);
    assert_true(sts_policy_names(p, bytes_of("m255.example")));
    sts_policy_unref(p);
    buf_puts(&text, "mx: one.example\n");
    assert_null(parse_n(text.at, text.len, &why));
    assert_string_equal(why, "more than 256 mx patterns");
    buf_fini(&text);
}

static void a_policy_with_a_nul_is_refused_wherever_it_stands(void **state)
{
    static const char text[] = ENFORCE "mx: m.example\nkey: value\n";
    const char *why;

    for (size_t i = 0; i < strlen(text); i++) {
        char copy[sizeof(text)];

        memcpy(copy, text, sizeof(text));
        copy[i] = '\0';
        assert_null(parse_n(copy, strlen(text), &why));
    }
}

/* A connection that ends early must not turn into a policy with another name in it. */
static void a_cut_policy_is_refused_or_says_no_more_than_the_whole(void **state)
{
    static const char text[] =
        "version: STSv1\nmax_age: 86400\nmx: a.example\nmx: *.b.example\nmode: enforce\n";

    for (size_t len = 0; len <= strlen(text); len++) {
        const char *why;
        struct sts_policy *p = parse_n(text, len, &why);

        assert_int_equal(p != NULL, len + 1 >= strlen(text)); /* whole, or without its last LF */
        sts_policy_unref(p);
    }
}

static void the_lines_of_a_policy_are_kept_for_reports(void **state)
{
    const char *why;
    struct sts_policy *p = parse("version:STSv1\r\nmode: \tenforce \r\n\r\nmx: M.Example\r\nnew: 1: 2\r\nmx: "
                                 "*.b.example\r\nmax_age: 1",
                                 &why);

    assert_non_null(p);
    assert_string_equal(
        p->text, "version: STSv1\nmode: enforce\nmx: M.Example\nnew: 1: 2\nmx: *.b.example\nmax_age: 1");
    sts_policy_unref(p);
}

static void a_wildcard_stands_for_exactly_one_label(void **state)
{
    static const struct {
        const char *mx, *host;
        bool named;
    } cases[] = {
        {"mail.a.example", "mail.a.example", true},
        {"mail.a.example", "MAIL.A.example", true},
        {"Mail.A.Example.", "mail.a.example", true},
        {"mail.a.example", "xmail.a.example", false},
        {"mail.a.example", "x.mail.a.example", false},
        {"mail.a.example", "a.example", false},
        {"mail.a.example", "mail.a.example.evil.example", false},
        {"mail.a.example", "", false},
        {"*.a.example", "mail.a.example", true},
        {"*.a.example", "MAIL.A.EXAMPLE", true},
        {"*.a.example", "_x.a.example", true},
        {"*.a.example", "a.example", false},
        {"*.a.example", ".a.example", false},
        {"*.a.example", "x.mail.a.example", false},
        {"*.a.example", "mail.xa.example", false},
        {"*.a.example", "maila.example", false},
        {"*.a.example", "mail.a.example.b.example", false},
        {"*.a.example", "*.a.example", true}, /* no host has that name; a literal comparison either way */
        {"*.a.example", "", false},
        {"*.example", "a.example", true},
        {"*.example", "b.a.example", false},
        {"*.example", "example", false},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct buf text = {0};
        const char *why;
        struct sts_policy *p;
        struct bytes host = exact(cases[i].host, strlen(cases[i].host));

        buf_putf(&text, ENFORCE "mx: other.example.net\nmx: %s\n", cases[i].mx);
        p = parse(buf_str(&text), &why);
        assert_non_null(p);
        if (sts_policy_names(p, host) != cases[i].named)
            fail_msg("%s and %s", cases[i].mx, cases[i].host);
        free((void *)(uintptr_t)host.at);
        sts_policy_unref(p);
        buf_fini(&text);
    }
}

static void a_policy_without_patterns_names_no_host(void **state)
{
    const char *why;
    struct sts_policy *p = parse(REST "mode: none\n", &why);

    assert_non_null(p);
    assert_false(sts_policy_names(p, bytes_of("mail.a.example")));
    assert_false(sts_policy_names(p, bytes_of("")));
    sts_policy_unref(p);
}

static void a_policy_is_fresh_until_its_age_is_over(void **state)
{
    const char *why;
    struct sts_policy *p = parse(ENFORCE "mx: m.example\n", &why);

    assert_non_null(p);
    p->fetched_unix = 1000;
    assert_true(sts_policy_is_fresh(p, 1000));
    assert_true(sts_policy_is_fresh(p, 1000 + 86399));
    assert_false(sts_policy_is_fresh(p, 1000 + 86400));
    p->max_age_s = 0;
    assert_false(sts_policy_is_fresh(p, 1000));
    sts_policy_unref(p);
}

static void keys_differ_where_what_decides_differs(void **state)
{
    static const char *const texts[] = {
        ENFORCE "mx: a.example\n",   "version: STSv1\nmode: testing\nmax_age: 86400\nmx: a.example\n",
        ENFORCE "mx: *.a.example\n", ENFORCE "mx: a.example\nmx: b.example\n",
        ENFORCE "mx: b.example\n",
    };
    struct buf keys[COUNT_OF(texts)] = {0}, same = {0};
    struct sts_policy *p;
    const char *why;

    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        p = parse(texts[i], &why);
        assert_non_null(p);
        sts_policy_put_key(p, &keys[i]);
        for (size_t j = 0; j < i; j++)
            assert_false(bytes_eq(buf_bytes(&keys[i]), buf_bytes(&keys[j])));
        sts_policy_unref(p);
    }
    p = parse("version: STSv1\nmax_age: 5\nmx: A.example\nmode: enforce\nx: y\n", &why);
    sts_policy_put_key(sts_policy_ref(p), &same);
    sts_policy_unref(p);
    assert_string_equal(buf_str(&same), buf_str(&keys[0]));
    sts_policy_unref(p);
    buf_fini(&same);
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        buf_fini(&keys[i]);
}

static void an_id_that_is_too_long_is_cut_not_overrun(void **state)
{
    struct sts_policy *p = NULL;
    const char *why;

    assert_int_equal(sts_policy_parse("a.example", ID32 "XYZ", bytes_of(ENFORCE "mx: m.example\n"), &p, &why),
                     OK);
    assert_string_equal(p->id, ID32);
    sts_policy_unref(p);
    sts_policy_unref(NULL);
    assert_string_equal(sts_policy_mode_name(STS_MODE_NONE), "none");
    assert_string_equal(sts_policy_mode_name(STS_MODE_TESTING), "testing");
    assert_string_equal(sts_policy_mode_name(STS_MODE_ENFORCE), "enforce");
    assert_string_equal(sts_policy_mode_name((enum sts_policy_mode)9), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_txt_record_is_read_by_its_grammar),
        cmocka_unit_test(a_txt_record_with_a_nul_is_not_usable),
        cmocka_unit_test(a_cut_txt_record_never_gives_an_id_that_is_not_in_it),
        cmocka_unit_test(a_policy_is_read_by_its_grammar),
        cmocka_unit_test(a_wrong_policy_is_refused_with_its_reason),
        cmocka_unit_test(a_policy_has_at_most_64_kib_and_256_patterns),
        cmocka_unit_test(a_policy_with_a_nul_is_refused_wherever_it_stands),
        cmocka_unit_test(a_cut_policy_is_refused_or_says_no_more_than_the_whole),
        cmocka_unit_test(the_lines_of_a_policy_are_kept_for_reports),
        cmocka_unit_test(a_wildcard_stands_for_exactly_one_label),
        cmocka_unit_test(a_policy_without_patterns_names_no_host),
        cmocka_unit_test(a_policy_is_fresh_until_its_age_is_over),
        cmocka_unit_test(keys_differ_where_what_decides_differs),
        cmocka_unit_test(an_id_that_is_too_long_is_cut_not_overrun),
    };

    return cmocka_run_group_tests_name("policy/sts_policy", tests, NULL, NULL);
}
