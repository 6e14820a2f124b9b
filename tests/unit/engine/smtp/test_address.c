#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>

#include "engine/smtp/address.h"

#define X16 "xxxxxxxxxxxxxxxx"
#define X64 X16 X16 X16 X16

static void paths_are_taken_as_rfc_5321_writes_them(void **state)
{
    static const struct {
        const char *in;
        enum address_fault fault;
        const char *text, *domain;
    } cases[] = {
        {"<a@b.example>", ADDRESS_OK, "a@b.example", "b.example"},
        {"<a@b.example> SIZE=1", ADDRESS_OK, "a@b.example", "b.example"},
        {"<>", ADDRESS_OK, "", ""},
        {"<@x.example,@y.example:a@b.example>", ADDRESS_OK, "a@b.example", "b.example"},
        {"<@x.example:a@b.example>", ADDRESS_OK, "a@b.example", "b.example"},
        {"<\"a b\"@c.example>", ADDRESS_OK, "\"a b\"@c.example", "c.example"},
        {"<\"a>@<\\\"b\"@c.example>", ADDRESS_OK, "\"a>@<\\\"b\"@c.example", "c.example"},
        {"<\"\"@c.example>", ADDRESS_OK, "\"\"@c.example", "c.example"},
        {"<a+b=c!#$%&'*/?^_`{|}~-@c.example>", ADDRESS_OK, "a+b=c!#$%&'*/?^_`{|}~-@c.example", "c.example"},
        {"<a..b.@docomo.example>", ADDRESS_OK, "a..b.@docomo.example", "docomo.example"},
        {"<a@[192.0.2.1]>", ADDRESS_OK, "a@[192.0.2.1]", "[192.0.2.1]"},
        {"<a@[IPv6:2001:db8::1]>", ADDRESS_OK, "a@[IPv6:2001:db8::1]", "[IPv6:2001:db8::1]"},
        {"<a@b_c.example>", ADDRESS_OK, "a@b_c.example", "b_c.example"},
        {"<\xe6\x97\xa9@\xe9\xa6\xac.example>", ADDRESS_OK, "\xe6\x97\xa9@\xe9\xa6\xac.example",
         "\xe9\xa6\xac.example"},
        {"<" X64 "@b.example>", ADDRESS_OK, X64 "@b.example", "b.example"},
        {"<" X64 "x@b.example>", ADDRESS_LONG_LOCAL, X64 "x@b.example", "b.example"},
        {"a@b.example", ADDRESS_NO_BRACKETS, NULL, NULL},
        {"", ADDRESS_NO_BRACKETS, NULL, NULL},
        {"<", ADDRESS_NO_BRACKETS, NULL, NULL},
        {"<a@b.example", ADDRESS_NO_BRACKETS, NULL, NULL},
        {"<a>", ADDRESS_NO_DOMAIN, NULL, NULL},
        {"<postmaster>", ADDRESS_NO_DOMAIN, NULL, NULL},
        {"<a", ADDRESS_NO_DOMAIN, NULL, NULL},
        {"<@b.example>", ADDRESS_BAD_LOCAL, NULL, NULL},
        {"<@x.example,a@b.example>", ADDRESS_BAD_LOCAL, NULL, NULL},
        {"<@-x.example:a@b.example>", ADDRESS_BAD_LOCAL, NULL, NULL},
        {"<a b@c.example>", ADDRESS_BAD_LOCAL, NULL, NULL},
        {"<a\tb@c.example>", ADDRESS_BAD_LOCAL, NULL, NULL},
        {"<\"a@b.example>", ADDRESS_BAD_LOCAL, NULL, NULL},
        {"<\"a\"b@c.example>", ADDRESS_BAD_LOCAL, NULL, NULL},
        {"<\"a\\", ADDRESS_BAD_LOCAL, NULL, NULL},
        {"<a@b@c.example>", ADDRESS_BAD_DOMAIN, NULL, NULL},
        {"<a@>", ADDRESS_BAD_DOMAIN, NULL, NULL},
        {"<a@b.example.>", ADDRESS_BAD_DOMAIN, NULL, NULL},
        {"<a@.example>", ADDRESS_BAD_DOMAIN, NULL, NULL},
        {"<a@b..example>", ADDRESS_BAD_DOMAIN, NULL, NULL},
        {"<a@-b.example>", ADDRESS_BAD_DOMAIN, NULL, NULL},
        {"<a@b-.example>", ADDRESS_BAD_DOMAIN, NULL, NULL},
        {"<a@b .example>", ADDRESS_BAD_DOMAIN, NULL, NULL},
        {"<a@" X64 ".example>", ADDRESS_BAD_DOMAIN, NULL, NULL},
        {"<a@[192.0.2.256]>", ADDRESS_BAD_DOMAIN, NULL, NULL},
        {"<a@[2001:db8::1]>", ADDRESS_BAD_DOMAIN, NULL, NULL},
        {"<a@[IPv6:192.0.2.1]>", ADDRESS_BAD_DOMAIN, NULL, NULL},
        {"<a@[]>", ADDRESS_BAD_DOMAIN, NULL, NULL},
        {"<a@[x-tag:what]>", ADDRESS_BAD_DOMAIN, NULL, NULL},
        {"<a@b.example\r\nRCPT TO:<x@y>>", ADDRESS_BAD_DOMAIN, NULL, NULL},
        {"<\xff@b.example>", ADDRESS_BAD_UTF8, NULL, NULL},
        {"<\xc0\xaf@b.example>", ADDRESS_BAD_UTF8, NULL, NULL},
        {"<\xed\xa0\x80@b.example>", ADDRESS_BAD_UTF8, NULL, NULL},
        {"<\xe6\x97@b.example>", ADDRESS_BAD_UTF8, NULL, NULL},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct address a;
        size_t used;
        enum address_fault fault = address_parse_path(bytes_of(cases[i].in), &a, &used);
        assert_int_equal(fault, cases[i].fault);
        if (!cases[i].text)
            continue;
        assert_true(bytes_eq(a.text, bytes_of(cases[i].text)));
        assert_true(bytes_eq(a.domain, bytes_of(cases[i].domain)));
        assert_int_equal(cases[i].in[used - 1], '>');
        assert_int_equal(a.text.len, a.text.len ? a.local.len + 1 + a.domain.len : 0);
    }
}

static void a_path_is_at_most_256_octets_long(void **state)
{
    char path[300];
    struct address a;
    size_t used;

    (void)state;
    for (size_t local = 1; local < 260; local++) {
        int n = snprintf(path, sizeof(path), "<%.*s@d.example>", (int)local, X64 X64 X64 X64 X64);
        enum address_fault fault = address_parse_path(bytes_make(path, (size_t)n), &a, &used);
        assert_int_equal(fault, n > 256 ? ADDRESS_TOO_LONG : local > 64 ? ADDRESS_LONG_LOCAL : ADDRESS_OK);
    }
}

static void a_helo_name_is_a_host_or_a_literal(void **state)
{
    static const struct {
        const char *in;
        bool ok;
    } cases[] = {
        {"client.example", true},
        {"localhost", true},
        {"my_pc.local", true},
        {"a.example.", true},
        {"[192.0.2.1]", true},
        {"[IPv6:::1]", true},
        {"", false},
        {".", false},
        {"a b", false},
        {"a..b", false},
        {"<a>", false},
        {"[192.0.2.1", false},
        {"a\x01", false},
        {"\xc3\xa4.example", false},
        {"192.0.2.1", true},
        {"[::1]", false},
        {"(x)", false},
        {"a;b", false},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_int_equal(address_is_helo(bytes_of(cases[i].in)), cases[i].ok);
}

static void a_mailbox_is_taken_whole(void **state)
{
    struct address a;

    (void)state;
    assert_int_equal(address_parse_mailbox(BYTES("a@b.example"), &a), ADDRESS_OK);
    assert_true(bytes_eq(a.domain, BYTES("b.example")));
    assert_int_equal(address_parse_mailbox(BYTES("a@b.example>"), &a), ADDRESS_BAD_DOMAIN);
    assert_int_equal(address_parse_mailbox(BYTES("a"), &a), ADDRESS_NO_DOMAIN);
    assert_int_equal(address_parse_mailbox(BYTES(""), &a), ADDRESS_BAD_LOCAL);
    assert_int_equal(address_parse_mailbox(BYTES("a@b.example\0x"), &a), ADDRESS_BAD_DOMAIN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_are_taken_as_rfc_5321_writes_them),
        cmocka_unit_test(a_path_is_at_most_256_octets_long),
        cmocka_unit_test(a_helo_name_is_a_host_or_a_literal),
        cmocka_unit_test(a_mailbox_is_taken_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
