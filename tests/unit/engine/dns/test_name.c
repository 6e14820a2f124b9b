#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/mem.h"
#include "engine/dns/name.h"

#define L63 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static void names_that_can_be_asked_for_keep_their_text(void **state)
{
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"example.test", "example.test"},
        {"Example.TEST.", "example.test"},
        {"_dmarc.example.test", "_dmarc.example.test"},
        {"1/26.2.0.192.in-addr.arpa", "1/26.2.0.192.in-addr.arpa"},
        {"xn--caf-dma.test", "xn--caf-dma.test"},
        {"test", "test"},
        {L63 ".test", L63 ".test"},
        {L63 "." L63 "." L63 ".aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", L63
         "." L63 "." L63 ".aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}, /* 253 octets */
        {"", NULL},
        {".", NULL},
        {"..", NULL},
        {".test", NULL},
        {"a..b", NULL},
        {"test..", NULL},
        {"a b.test", NULL},
        {"a\tb", NULL},
        {"a\\.b", NULL},
        {"caf\xc3\xa9", NULL},
        {"[192.0.2.1]", NULL},
        {"a@b", NULL},
        {"a" L63 ".test", NULL},
        {L63 "." L63 "." L63 ".aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", NULL},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char text[DNS_NAME_TEXT_BYTES];
        struct dns_name name, again;
        size_t at = 0;
        if (!cases[i].out) {
            assert_false(dns_name_parse(bytes_of(cases[i].in), &name));
            continue;
        }
        assert_true(dns_name_parse(bytes_of(cases[i].in), &name));
        assert_true(dns_name_format(&name, text));
        assert_string_equal(text, cases[i].out);
        assert_true(dns_name_read(bytes_make(name.octets, name.len), &at, &again));
        assert_int_equal(at, name.len);
        assert_true(dns_name_eq(&name, &again));
    }
    struct dns_name name;
    assert_false(dns_name_parse(bytes_make("a\0b", 3), &name));
}

static void compressed_names_are_read_and_loops_are_not(void **state)
{
    static const struct {
        struct bytes packet;
        size_t at;
        const char *want;
        size_t after;
    } cases[] = {
        {BYTES("\1a\4TEST\0"), 0, "a.test", 8},
        {BYTES("\1a\4test\0\1b\xc0\0"), 8, "b.a.test", 12},
        {BYTES("\1a\4test\0\xc0\2"), 8, "test", 10},
        {BYTES("\1a\4test\0\xc0\2\1x\xc0\x08"), 10, "x.test", 14}, /* pointer to pointer */
        {BYTES("\xc0\0"), 0, NULL, 0},                             /* itself */
        {BYTES("\1a\xc0\0"), 0, NULL, 0},                          /* back to its own start */
        {BYTES("\xc0\2\xc0\0"), 2, NULL, 0},                       /* two that point at each other */
        {BYTES("\xc0\2\1a\0"), 0, NULL, 0},                        /* forward */
        {BYTES("\x40\1a\0"), 0, NULL, 0},                          /* label types nobody uses */
        {BYTES("\x80\1a\0"), 0, NULL, 0},
        {BYTES("\1a"), 0, NULL, 0},
        {BYTES("\5a"), 0, NULL, 0},
        {BYTES("\xc0"), 0, NULL, 0},
        {BYTES("\1a\0"), 3, NULL, 0},
        {BYTES("\1a\0"), 9, NULL, 0},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        /* On the heap and no longer than it is, so that a sanitizer sees a step too far. */
        char *copy = mem_alloc(cases[i].packet.len), text[DNS_NAME_TEXT_BYTES];
        struct dns_name name;
        size_t at = cases[i].at;
        memcpy(copy, cases[i].packet.at, cases[i].packet.len);
        bool good = dns_name_read(bytes_make(copy, cases[i].packet.len), &at, &name);
        assert_int_equal(good, cases[i].want != NULL);
        if (good) {
            assert_true(dns_name_format(&name, text));
            assert_string_equal(text, cases[i].want);
            assert_int_equal(at, cases[i].after);
        }
        mem_free(copy);
    }
}

static void a_name_longer_than_255_octets_is_refused_however_it_is_made(void **state)
{
    char packet[600];
    size_t len = 0;
    struct dns_name name;

    /* 127 labels of one octet and the root: 255.  One more is too long. */
    for (int i = 0; i < 128; i++) {
        packet[len++] = 1;
        packet[len++] = 'a';
    }
    packet[len++] = 0;
    size_t at = 2;
    assert_true(dns_name_read(bytes_make(packet, len), &at, &name));
    assert_int_equal(name.len, 255);
    at = 0;
    assert_false(dns_name_read(bytes_make(packet, len), &at, &name));
    /* The same by a pointer. */
    packet[len++] = 1;
    packet[len++] = 'b';
    packet[len++] = (char)0xc0;
    packet[len++] = 2;
    at = len - 4;
    assert_false(dns_name_read(bytes_make(packet, len), &at, &name));
}

static void a_name_lies_within_its_zones(void **state)
{
    static const struct {
        const char *name, *zone;
        bool want;
    } cases[] = {
        {"a.b.test", "b.test", true}, {"a.b.test", "a.b.test", true}, {"a.b.test", "test", true},
        {"ab.test", "b.test", false}, {"test", "b.test", false},      {"a.test", "b.test", false},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct dns_name name, zone;
        assert_true(dns_name_parse(bytes_of(cases[i].name), &name));
        assert_true(dns_name_parse(bytes_of(cases[i].zone), &zone));
        assert_int_equal(dns_name_within(&name, &zone), cases[i].want);
    }
    struct dns_name name, root = {.len = 1};
    assert_true(dns_name_parse(BYTES("a.test"), &name));
    assert_true(dns_name_within(&name, &root));
    assert_false(dns_name_within(&root, &name));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_that_can_be_asked_for_keep_their_text),
        cmocka_unit_test(compressed_names_are_read_and_loops_are_not),
        cmocka_unit_test(a_name_longer_than_255_octets_is_refused_however_it_is_made),
        cmocka_unit_test(a_name_lies_within_its_zones),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
