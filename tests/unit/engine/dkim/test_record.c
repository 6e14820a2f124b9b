#include "engine/dkim/record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/base64.h"
#include "base/mem.h"

static struct dkim_key *keys[DKIM_ALGORITHMS];

static int make_keys(void **state)
{
    (void)state;
    for (int a = 0; a < DKIM_ALGORITHMS; a++) {
        BUF_LOCAL(pem);
        const char *why;
        assert_int_equal(dkim_key_generate((enum dkim_algorithm)a, &pem), OK);
        assert_int_equal(dkim_key_parse(buf_bytes(&pem), &keys[a], &why), OK);
    }
    return 0;
}

static int drop_keys(void **state)
{
    (void)state;
    for (int a = 0; a < DKIM_ALGORITHMS; a++)
        dkim_key_destroy(keys[a]);
    return 0;
}

static enum dkim_verdict compare_one(const struct dkim_key *k, const char *text, struct buf *explain)
{
    struct bytes one = bytes_of(text);

    return dkim_record_compare(k, &one, 1, explain);
}

static void what_we_print_is_good_when_dns_says_it(void **state)
{
    (void)state;
    for (int a = 0; a < DKIM_ALGORITHMS; a++) {
        BUF_LOCAL(text);
        BUF_LOCAL(explain);
        dkim_record_format(keys[a], &text);
        assert_true(bytes_starts(buf_bytes(&text), BYTES("v=DKIM1; k=")));
        assert_int_equal(compare_one(keys[a], buf_str(&text), &explain), DKIM_RECORD_GOOD);
        assert_int_equal(explain.len, 0);
    }
}

static void the_zone_line_has_strings_of_at_most_255(void **state)
{
    BUF_LOCAL(name);
    BUF_LOCAL(text);
    BUF_LOCAL(zone);
    BUF_LOCAL(joined);
    (void)state;

    dkim_record_name("s1", "example.com", &name);
    assert_string_equal(buf_str(&name), "s1._domainkey.example.com");
    dkim_record_format(keys[DKIM_RSA], &text);
    dkim_record_zone(buf_str(&name), buf_bytes(&text), &zone);
    assert_true(bytes_starts(buf_bytes(&zone), BYTES("s1._domainkey.example.com. IN TXT ( \"v=DKIM1;")));
    struct bytes rest = buf_bytes(&zone);
    for (size_t at; (at = bytes_find(rest, '"')) < rest.len;) {
        rest = bytes_skip(rest, at + 1);
        struct bytes part = bytes_first(rest, bytes_find(rest, '"'));
        assert_in_range(part.len, 1, 255);
        buf_put(&joined, part);
        rest = bytes_skip(rest, part.len + 1);
    }
    assert_string_equal(buf_str(&joined), buf_str(&text));
}

static void every_difference_has_its_name(void **state)
{
    BUF_LOCAL(p);
    BUF_LOCAL(public);
    (void)state;

    dkim_key_public(keys[DKIM_RSA], &public);
    base64_encode(buf_bytes(&public), &p);
    const struct {
        const char *before, *behind;
        bool with_key;
        enum dkim_verdict want;
    } rows[] = {
        {"p=", "", true, DKIM_RECORD_GOOD},
        {"v=DKIM1;k=rsa;p=", "", true, DKIM_RECORD_GOOD},
        {"v=DKIM1 ; k = rsa ; p = ", " ; ", true, DKIM_RECORD_GOOD},
        {"v=DKIM1; h=sha256; s=email; n=note; x-other=1; p=", "", true, DKIM_RECORD_GOOD},
        {"v=DKIM1; h=sha1 : sha256; s=tlsrpt:email; p=", "", true, DKIM_RECORD_GOOD},
        {"v=DKIM1; s=*; t=s; p=", "", true, DKIM_RECORD_GOOD},
        {"v=DKIM1; t=y; p=", "", true, DKIM_RECORD_TESTING},
        {"v=DKIM1; t=s:y; p=", "", true, DKIM_RECORD_TESTING},
        {"v=DKIM1; p=", "", false, DKIM_RECORD_REVOKED},
        {"v=DKIM1; k=rsa", "", false, DKIM_RECORD_BROKEN},
        {"v=DKIM2; p=", "", true, DKIM_RECORD_BROKEN},
        {"k=rsa; v=DKIM1; p=", "", true, DKIM_RECORD_BROKEN},
        {"v=DKIM1; p=", "!", true, DKIM_RECORD_BROKEN},
        {"v=DKIM1; p=", "; p=AAAA", true, DKIM_RECORD_BROKEN},
        {"v=spf1 -all", "", false, DKIM_RECORD_BROKEN},
        {"", "", false, DKIM_RECORD_BROKEN},
        {"v=DKIM1; k=ed25519; p=", "", true, DKIM_RECORD_OTHER_TYPE},
        {"v=DKIM1; p=AAAA", "", false, DKIM_RECORD_OTHER_KEY},
        {"v=DKIM1; h=sha1; p=", "", true, DKIM_RECORD_RESTRICTED},
        {"v=DKIM1; s=tlsrpt; p=", "", true, DKIM_RECORD_RESTRICTED},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        BUF_LOCAL(text);
        BUF_LOCAL(explain);
        buf_puts(&text, rows[i].before);
        if (rows[i].with_key)
            buf_put(&text, buf_bytes(&p));
        buf_puts(&text, rows[i].behind);
        enum dkim_verdict got = compare_one(keys[DKIM_RSA], buf_str(&text), &explain);
        if (got != rows[i].want)
            fail_msg("%s…%s: %s", rows[i].before, rows[i].behind, dkim_verdict_name(got));
        assert_int_equal(explain.len == 0, got == DKIM_RECORD_GOOD);
    }
}

static void the_bare_rsa_key_of_rfc6376_is_the_same_key(void **state)
{
    BUF_LOCAL(public);
    BUF_LOCAL(text);
    BUF_LOCAL(explain);
    (void)state;

    dkim_key_public(keys[DKIM_RSA], &public);
    buf_puts(&text, "v=DKIM1; p=");
    base64_encode(bytes_skip(buf_bytes(&public), 24), &text); /* past SubjectPublicKeyInfo's head */
    assert_int_equal(compare_one(keys[DKIM_RSA], buf_str(&text), &explain), DKIM_RECORD_GOOD);
    buf_clear(&text);
    buf_puts(&text, "v=DKIM1; p=");
    base64_encode(bytes_skip(buf_bytes(&public), public.len - 5),
                  &text); /* the exponent alone is nobody's key */
    assert_int_equal(compare_one(keys[DKIM_RSA], buf_str(&text), &explain), DKIM_RECORD_OTHER_KEY);
}

static void none_and_several_are_told_apart(void **state)
{
    const struct bytes two[] = {BYTES("v=DKIM1; p=AAAA"), BYTES("v=DKIM1; p=AAAA")};
    BUF_LOCAL(explain);
    (void)state;

    assert_int_equal(dkim_record_compare(keys[0], NULL, 0, &explain), DKIM_RECORD_MISSING);
    assert_int_equal(dkim_record_compare(keys[0], two, 2, &explain), DKIM_RECORD_SEVERAL);
}

static void selectors_are_labels(void **state)
{
    static const struct {
        const char *text;
        bool valid;
    } rows[] = {{"s2026", true}, {"a.b", true},   {"a-b_c", true},   {"", false},
                {".", false},    {"a..b", false}, {"a.", false},     {".a", false},
                {"a b", false},  {"a;b", false},  {"a\r\nb", false}, {"\xc3\xbc", false}};
    (void)state;

    for (size_t i = 0; i < COUNT_OF(rows); i++)
        assert_int_equal(dkim_selector_is_valid(bytes_of(rows[i].text)), rows[i].valid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_we_print_is_good_when_dns_says_it),
        cmocka_unit_test(the_zone_line_has_strings_of_at_most_255),
        cmocka_unit_test(every_difference_has_its_name),
        cmocka_unit_test(the_bare_rsa_key_of_rfc6376_is_the_same_key),
        cmocka_unit_test(none_and_several_are_told_apart),
        cmocka_unit_test(selectors_are_labels),
    };
    return cmocka_run_group_tests(tests, make_keys, drop_keys);
}
