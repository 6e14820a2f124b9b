#include "engine/dkim/from.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const struct {
    const char *value, *want; /* NULL: no domain */
} cases[] = {
    {" a@example.com\r\n", "example.com"},
    {" A Person <a@EXAMPLE.com>\r\n", "example.com"},
    {"\r\n A Person\r\n <a@example.com>\r\n", "example.com"},
    {" \"b@evil.example\" <a@example.com>", "example.com"},
    {" \"b \\\" <c@evil.example>\" <a@example.com>", "example.com"},
    {" \"odd@local\"@example.com", "example.com"},
    {" (c@evil.example (nested \\) )) a@example.com (d@evil.example)", "example.com"},
    {" a(x)@(y)example(z).com", "example.com"},
    {" a@example.com, b@other.example", "example.com"},
    {" First <a@example.com>, <b@other.example>", "example.com"},
    {" Friends: a@example.com, b@other.example;", "example.com"},
    {" Friends:;, a@example.com", "example.com"},
    {" , a@example.com", "example.com"},
    {" <@relay.example,@two.example:a@example.com>", "example.com"},
    {" a @ example . com", "example.com"},
    {" <a@b@example.com>", "example.com"},
    {" a@b\xc3\xbc"
     "cher.example",
     "xn--bcher-kva.example"},
    {" a@xn--bcher-kva.example", "xn--bcher-kva.example"},
    {" a@example.com.", "example.com"},
    {" =?utf-8?q?x=40evil.example?= <a@example.com>", "example.com"},
    {"", NULL},
    {" nobody", NULL},
    {" <>", NULL},
    {" a@", NULL},
    {" <a@example.com", NULL},
    {" \"a@example.com", NULL},
    {" (a@example.com", NULL},
    {" a@[192.0.2.1]", NULL},
    {" a@..", NULL},
    {" Undisclosed:;", NULL},
};

static void the_first_mailbox_says_whose_message_it_is(void **state)
{
    char got[DOMAIN_MAX_BYTES + 1];
    (void)state;

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        bool found = dkim_from_domain(bytes_of(cases[i].value), got);
        if (found != (cases[i].want != NULL))
            fail_msg("%s", cases[i].value);
        if (found)
            assert_string_equal(got, cases[i].want);
    }
}

static void an_address_without_end_is_none(void **state)
{
    char got[DOMAIN_MAX_BYTES + 1];
    BUF_LOCAL(value);
    (void)state;

    buf_puts(&value, "a@");
    for (int i = 0; i < 5000; i++)
        buf_puts(&value, "x");
    assert_false(dkim_from_domain(buf_bytes(&value), got));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_mailbox_says_whose_message_it_is),
        cmocka_unit_test(an_address_without_end_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
