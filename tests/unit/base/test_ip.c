#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/ip.h"

static struct ip ip(const char *text)
{
    struct ip out;

    if (!ip_parse(bytes_of(text), &out))
        fail_msg("'%s' is an address", text);
    return out;
}

static void addresses_are_read_strictly_and_written_shortest(void **state)
{
    static const struct {
        const char *text, *want; /* NULL: refused */
    } cases[] = {
        {"127.0.0.1", "127.0.0.1"},
        {"255.255.255.255", "255.255.255.255"},
        {"2001:DB8:0:0::1", "2001:db8::1"},
        {"::", "::"},
        {"::ffff:192.0.2.1", "::ffff:192.0.2.1"},
        {"ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
        {"127.1", NULL},
        {"127.0.0.1 ", NULL},
        {"0127.0.0.1", NULL},
        {"256.0.0.1", NULL},
        {"1.2.3", NULL},
        {"2130706433", NULL},
        {"0x7f.0.0.1", NULL},
        {"[::1]", NULL},
        {"fe80::1%eth0", NULL},
        {":::", NULL},
        {"", NULL},
        {"localhost", NULL},
        {"0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000", NULL},
    };
    char text[IP_TEXT_BYTES];

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct ip out = {0};
        assert_int_equal(ip_parse(bytes_of(cases[i].text), &out), cases[i].want != NULL);
        assert_string_equal(ip_format(&out, text), cases[i].want ? cases[i].want : "-");
    }
    struct ip out;
    assert_false(ip_parse(bytes_make("127.0.0.1\0", 10), &out));
}

static void networks_hold_what_their_prefix_says(void **state)
{
    static const struct {
        const char *net, *address;
        bool has;
    } cases[] = {
        {"10.0.0.0/8", "10.255.255.255", true},
        {"10.0.0.0/8", "11.0.0.0", false},
        {"192.0.2.1", "192.0.2.1", true},
        {"192.0.2.1", "192.0.2.2", false},
        {"192.0.2.129/25", "192.0.2.200", true}, /* host bits do not count */
        {"192.0.2.129/25", "192.0.2.100", false},
        {"10.0.0.0/9", "10.128.0.0", false},
        {"0.0.0.0/0", "203.0.113.9", true},
        {"0.0.0.0/0", "2001:db8::1", false},
        {"2001:db8::/32", "2001:db8:ffff::1", true},
        {"2001:db8::/33", "2001:db8:8000::1", false},
        {"::/0", "2001:db8::1", true},
        {"::1", "::1", true},
        {"10.0.0.0/8", "::ffff:10.1.2.3", true}, /* a v6 socket shows v4 peers like this */
        {"::/0", "::ffff:10.1.2.3", false},
        {"::ffff:10.0.0.0/104", "10.1.2.3", true},
        {"::ffff:10.0.0.1", "10.0.0.1", true},
        {"::ffff:10.0.0.1", "10.0.0.2", false},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct ip_net net;
        struct ip address = ip(cases[i].address);
        assert_true(ip_net_parse(bytes_of(cases[i].net), &net));
        if (ip_net_has(&net, &address) != cases[i].has)
            fail_msg("%s in %s", cases[i].address, cases[i].net);
    }
    struct ip none = {0};
    struct ip_net nothing = {0};
    assert_false(ip_net_has(&nothing, &none));
}

static void wrong_networks_are_refused(void **state)
{
    static const char *const texts[] = {
        "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/8/8", "::/129",
        "/8",          "",          "10.0.0.0/ 8", "10/8",         "example.com"};
    struct ip_net net;
    char text[IP_TEXT_BYTES];

    for (size_t i = 0; i < COUNT_OF(texts); i++)
        assert_false(ip_net_parse(bytes_of(texts[i]), &net));
    assert_true(ip_net_parse(BYTES("192.0.2.129/25"), &net));
    assert_string_equal(ip_net_format(&net, text), "192.0.2.128/25");
}

static void ports_are_read_with_their_address(void **state)
{
    static const struct {
        const char *text;
        uint16_t preset;
        const char *want; /* NULL: refused */
    } cases[] = {
        {"192.0.2.1:25", 0, "192.0.2.1:25"},
        {"192.0.2.1", 53, "192.0.2.1:53"},
        {"192.0.2.1", 0, NULL},
        {"192.0.2.1:", 53, NULL},
        {"192.0.2.1:0", 53, NULL},
        {"192.0.2.1:65536", 53, NULL},
        {"192.0.2.1:65535", 53, "192.0.2.1:65535"},
        {"192.0.2.1:+5", 53, NULL},
        {"192.0.2.1:25:25", 53, NULL},
        {"[2001:db8::1]:25", 0, "[2001:db8::1]:25"},
        {"[2001:db8::1]", 53, "[2001:db8::1]:53"},
        {"2001:db8::1", 53, "[2001:db8::1]:53"},
        {"2001:db8::1", 0, NULL},
        {"[2001:db8::1]25", 53, NULL},
        {"[2001:db8::1", 53, NULL},
        {"[192.0.2.1]:25", 53, NULL},
        {"[]:25", 53, NULL},
        {"[", 53, NULL},
        {"]", 53, NULL},
        {":25", 53, NULL},
        {"", 53, NULL},
        {"host:25", 53, NULL},
    };
    char text[IP_TEXT_BYTES];

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct ip address = {0};
        uint16_t port = 7;
        bool ok = ip_parse_port(bytes_of(cases[i].text), cases[i].preset, &address, &port);
        if (ok != (cases[i].want != NULL))
            fail_msg("'%s'", cases[i].text);
        if (ok)
            assert_string_equal(ip_format_port(&address, port, text), cases[i].want);
        else
            assert_true(port == 7 && address.family == 0); /* nothing is written */
    }
}

static void special_addresses_are_known(void **state)
{
    static const struct {
        const char *text;
        bool loopback, unusable;
    } cases[] = {
        {"127.0.0.1", true, false},        {"127.255.0.9", true, false},    {"::1", true, false},
        {"::ffff:127.0.0.1", true, false}, {"192.0.2.1", false, false},     {"2001:db8::1", false, false},
        {"0.0.0.0", false, true},          {"0.1.2.3", false, true},        {"224.0.0.1", false, true},
        {"255.255.255.255", false, true},  {"240.0.0.1", false, true},      {"::", false, true},
        {"ff02::1", false, true},          {"::ffff:0.0.0.0", false, true}, {"::2", false, false},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct ip address = ip(cases[i].text);
        if (ip_is_loopback(&address) != cases[i].loopback || ip_is_unusable(&address) != cases[i].unusable)
            fail_msg("%s", cases[i].text);
    }
    struct ip none = {0};
    assert_true(ip_is_unusable(&none));
    assert_false(ip_is_loopback(&none));
}

static void socket_addresses_go_both_ways_and_mapped_ones_become_v4(void **state)
{
    static const struct {
        const char *text, *back;
    } cases[] = {
        {"192.0.2.1", "192.0.2.1"}, {"2001:db8::1", "2001:db8::1"}, {"::ffff:192.0.2.1", "192.0.2.1"}};
    struct sockaddr_storage sa;
    char text[IP_TEXT_BYTES];

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct ip address = ip(cases[i].text), back;
        uint16_t port;
        socklen_t len = ip_to_sockaddr(&address, 587, &sa);
        assert_int_equal(len, address.family == 4 ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
        assert_true(ip_from_sockaddr((struct sockaddr *)&sa, &back, &port));
        assert_int_equal(port, 587);
        assert_string_equal(ip_format(&back, text), cases[i].back);
    }
    struct ip out;
    uint16_t port;
    sa = (struct sockaddr_storage){.ss_family = AF_UNIX};
    assert_false(ip_from_sockaddr((struct sockaddr *)&sa, &out, &port));
    struct ip a = ip("192.0.2.1"), b = ip("192.0.2.1"), c = ip("2001:db8::1");
    assert_true(ip_eq(&a, &b));
    assert_false(ip_eq(&a, &c));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_read_strictly_and_written_shortest),
        cmocka_unit_test(networks_hold_what_their_prefix_says),
        cmocka_unit_test(wrong_networks_are_refused),
        cmocka_unit_test(ports_are_read_with_their_address),
        cmocka_unit_test(special_addresses_are_known),
        cmocka_unit_test(socket_addresses_go_both_ways_and_mapped_ones_become_v4),
    };

    return cmocka_run_group_tests_name("base/ip", tests, NULL, NULL);
}
