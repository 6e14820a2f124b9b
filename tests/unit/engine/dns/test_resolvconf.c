#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/dns/dns_priv.h"

static void servers_are_taken_from_their_lines(void **state)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"nameserver 192.0.2.1\n", " 192.0.2.1"},
        {"nameserver 192.0.2.1", " 192.0.2.1"},
        {"nameserver\t 192.0.2.1  # mine\r\nnameserver 2001:db8::1\n", " 192.0.2.1 2001:db8::1"},
        {"# nameserver 192.0.2.9\n; nameserver 192.0.2.8\nsearch a b\noptions timeout:3\nnameserver "
         "192.0.2.1\n",
         " 192.0.2.1"},
        {"nameserver 192.0.2.1\nnameserver 192.0.2.1\n", " 192.0.2.1"},
        {"nameserver fe80::1%eth0\nnameserver nonsense\nnameserver\nnameserver 192.0.2.1\n", " 192.0.2.1"},
        {"nameservers 192.0.2.2\n", " 127.0.0.1"},
        {"", " 127.0.0.1"},
        {"\n\n\n", " 127.0.0.1"},
        {"nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\nnameserver 192.0.2.4\nnameserver "
         "192.0.2.5\n"
         "nameserver 192.0.2.6\nnameserver 192.0.2.7\nnameserver 192.0.2.8\nnameserver 192.0.2.9\n",
         " 192.0.2.1 192.0.2.2 192.0.2.3 192.0.2.4 192.0.2.5 192.0.2.6 192.0.2.7 192.0.2.8"},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct ip list[DNS_SERVERS_MAX];
        size_t n = dns_resolvconf_parse(bytes_of(cases[i].text), list);
        BUF_LOCAL(got);
        for (size_t k = 0; k < n; k++) {
            char text[IP_TEXT_BYTES];
            buf_putf(&got, " %s", ip_format(&list[k], text));
        }
        assert_string_equal(buf_str(&got), cases[i].want);
    }
}

static void write_file(const char *path, const char *text)
{
    char other[64];

    snprintf(other, sizeof(other), "%s.new", path);
    FILE *f = fopen(other, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    assert_int_equal(rename(other, path), 0);
}

static void a_changed_file_is_read_again_and_health_is_kept(void **state)
{
    char path[] = "/tmp/hayauma-resolv-XXXXXX";
    struct dns_servers s = {.file = path};
    struct dns_config c = {0};
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    close(fd);
    write_file(path, "nameserver 192.0.2.1\nnameserver 127.0.0.1\n");
    dns_servers_load(&s, &c);
    assert_int_equal(s.count, 2);
    assert_int_equal(s.list[0].port, 53);
    assert_false(s.list[0].trusted_ad);
    assert_true(s.list[1].trusted_ad);
    dns_server_failed(&s.list[1], "test", false, 1000);

    write_file(path, "nameserver 127.0.0.1\nnameserver 192.0.2.3\nnameserver 192.0.2.4\n");
    dns_servers_refresh(&s, 9999);
    assert_int_equal(s.count, 2); /* not looked yet */
    dns_servers_refresh(&s, 10000);
    assert_int_equal(s.count, 3);
    uint8_t order[DNS_SERVERS_MAX];
    assert_int_equal(dns_servers_order(&s, 10000, order), 3);
    assert_int_equal(order[0], 1);
    assert_int_equal(order[1], 2);
    assert_int_equal(order[2], 0); /* it was silent under its former number as well */
    assert_true(s.list[0].trusted_ad);
    assert_false(s.list[1].trusted_ad);
    unlink(path);
    dns_servers_refresh(&s, 30000);
    assert_int_equal(s.count, 1); /* as the C library does without a file */
}

static void a_silent_server_goes_last_for_longer_and_longer(void **state)
{
    struct dns_config c = {.server_count = 2};
    struct dns_servers s = {0};
    uint8_t order[DNS_SERVERS_MAX];
    uint64_t now = 1000, until = 0;

    for (int i = 0; i < 2; i++)
        assert_true(ip_parse(BYTES("127.0.0.1"), &c.servers[i].ip));
    dns_servers_load(&s, &c);
    for (uint64_t penalty = 10000; penalty <= 160000; penalty *= 2) {
        dns_server_failed(&s.list[0], "test", false, now);
        until = s.list[0].last_until_ms;
        assert_int_equal(until, now + penalty);
        dns_server_failed(&s.list[0], "test", true, now + 1); /* was under way already */
        assert_int_equal(s.list[0].last_until_ms, until);
        dns_servers_order(&s, now, order);
        assert_int_equal(order[0], 1);
        now = until;
        dns_servers_order(&s, now, order);
        assert_int_equal(order[0], 0);
    }
    dns_server_failed(&s.list[0], "test", false, now);
    assert_int_equal(s.list[0].last_until_ms, now + 160000);
    dns_server_answered(&s.list[0], now);
    dns_servers_order(&s, now, order);
    assert_int_equal(order[0], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(servers_are_taken_from_their_lines),
        cmocka_unit_test(a_changed_file_is_read_again_and_health_is_kept),
        cmocka_unit_test(a_silent_server_goes_last_for_longer_and_longer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
