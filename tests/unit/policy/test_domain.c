#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "policy/domain.h"

#define L63 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static void domains_become_lower_case_a_labels_without_the_last_dot(void **state)
{
    static const struct {
        const char *in, *out; /* NULL: not a domain */
    } cases[] = {
        {"example.com", "example.com"},
        {"EXAMPLE.Com", "example.com"},
        {"example.com.", "example.com"},
        {"example.com..", NULL},
        {".example.com", NULL},
        {"a..b", NULL},
        {".", NULL},
        {"", NULL},
        {"localhost", "localhost"},
        {"_dmarc.example.com", "_dmarc.example.com"},
        {"3com.example", "3com.example"},
        {"r3---sn.example", "r3---sn.example"},
        {"-a.example", NULL},
        {"a-.example", NULL},
        {"a b.example", NULL},
        {"a@b.example", NULL},
        {"a\tb", NULL},
        {"a/b", NULL},
        {"a,b", NULL},
        {L63 ".example", L63 ".example"},
        {L63 "a.example", NULL},
        /* 253 characters are a name of 255 octets on the wire; one more is none */
        {L63 "." L63 "." L63 ".aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
         L63 "." L63 "." L63 ".aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},
        {L63 "." L63 "." L63 ".aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", NULL},
        /* IDNA */
        {"例え.jp", "xn--r8jz45g.jp"},
        {"例え。jp", "xn--r8jz45g.jp"},
        {"Bücher.example", "xn--bcher-kva.example"},
        {"BU\xcc\x88"
         "CHER.example",
         "xn--bcher-kva.example"}, /* u and a combining diaeresis */
        {"faß.example", "xn--fa-hia.example"},
        {"xn--bcher-kva.example", "xn--bcher-kva.example"},
        {"XN--BCHER-KVA.Example", "xn--bcher-kva.example"},
        {"ｅｘａｍｐｌｅ.com", "example.com"},
        {"xn--.example", NULL},
        {"xn--a\x80.example", NULL},
        {"xn--zzzzzzzzzzzzzzzz99999.example", NULL},
        {"☃.example", NULL},
        {"\xff\xfe.example", NULL},
        {"b\xc3.example", NULL},
        /* literals */
        {"[192.0.2.1]", "[192.0.2.1]"},
        {"[IPv6:2001:DB8::1]", "[ipv6:2001:db8::1]"},
        {"[2001:db8::1]", NULL},
        {"[IPv6:192.0.2.1]", NULL},
        {"[192.0.2.256]", NULL},
        {"[example.com]", NULL},
        {"[]", NULL},
        {"[", NULL},
        {"[192.0.2.1].", NULL},
    };
    char out[DOMAIN_MAX_BYTES + 1];

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        enum err e = domain_normalise(bytes_of(cases[i].in), out);

        if ((e == OK) != (cases[i].out != NULL))
            fail_msg("'%s' is %s", cases[i].in, e == OK ? out : "refused");
        if (e == OK)
            assert_string_equal(out, cases[i].out);
    }
}

static void a_nul_inside_is_no_end(void **state)
{
    char out[DOMAIN_MAX_BYTES + 1];

    assert_int_equal(domain_normalise(bytes_make("a.example\0.evil", 15), out), ERR_INVALID);
    assert_int_equal(domain_normalise(bytes_make("\xc3\xbc.example\0.evil", 16), out), ERR_INVALID);
    assert_int_equal(domain_normalise(bytes_make("[192.0.2.1\0]", 12), out), ERR_INVALID);
}

static void very_long_input_is_refused(void **state)
{
    static char text[5000];
    char out[DOMAIN_MAX_BYTES + 1];

    memset(text, 'a', sizeof(text));
    for (size_t i = 50; i < sizeof(text); i += 51)
        text[i] = '.';
    assert_int_equal(domain_normalise(bytes_make(text, sizeof(text)), out), ERR_INVALID);
    memcpy(text, "\xc3\xbc", 2);
    assert_int_equal(domain_normalise(bytes_make(text, sizeof(text)), out), ERR_INVALID);
}

static void normalising_twice_changes_nothing(void **state)
{
    static const char *const names[] = {"Example.COM.", "例え.jp", "[IPv6:2001:DB8::1]", "faß.example"};

    for (size_t i = 0; i < COUNT_OF(names); i++) {
        char once[DOMAIN_MAX_BYTES + 1], twice[DOMAIN_MAX_BYTES + 1];

        assert_int_equal(domain_normalise(bytes_of(names[i]), once), OK);
        /* A literal's tag is kept in lower case and still understood. */
        assert_int_equal(domain_normalise(bytes_of(once), twice), OK);
        assert_string_equal(once, twice);
    }
}

static void a_suffix_matches_sub_domains_only(void **state)
{
    static const struct {
        const char *domain, *suffix;
        bool matches;
    } cases[] = {
        {"a.example.com", ".example.com", true},
        {"b.a.example.com", ".example.com", true},
        {"A.EXAMPLE.COM", ".example.com", true},
        {"example.com", ".example.com", false},
        {".example.com", ".example.com", false},
        {"badexample.com", ".example.com", false},
        {"a.example.com", "example.com", false},
        {"a.example.com", ".", false},
        {"a.example.com", "", false},
        {"", ".example.com", false},
        {"example.com.evil", ".example.com", false},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_int_equal(domain_has_suffix(bytes_of(cases[i].domain), bytes_of(cases[i].suffix)),
                         cases[i].matches);
}

static void the_domain_of_an_address_follows_its_last_at(void **state)
{
    static const struct {
        const char *address, *domain;
    } cases[] = {
        {"a@example.com", "example.com"},
        {"\"a@b\"@example.com", "example.com"},
        {"a@", ""},
        {"a", ""},
        {"", ""},
        {"@example.com", "example.com"},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_true(bytes_eq(domain_of_address(bytes_of(cases[i].address)), bytes_of(cases[i].domain)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(domains_become_lower_case_a_labels_without_the_last_dot),
        cmocka_unit_test(a_nul_inside_is_no_end),
        cmocka_unit_test(very_long_input_is_refused),
        cmocka_unit_test(normalising_twice_changes_nothing),
        cmocka_unit_test(a_suffix_matches_sub_domains_only),
        cmocka_unit_test(the_domain_of_an_address_follows_its_last_at),
    };

    return cmocka_run_group_tests_name("policy/domain", tests, NULL, NULL);
}
