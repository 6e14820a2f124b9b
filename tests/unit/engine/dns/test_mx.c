#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/dns/dns_priv.h"

/* The same numbers at every run, so that a test that passes goes on to pass. */
static uint32_t lot(void *arg, uint32_t below)
{
    uint64_t *state = arg;

    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(((*state >> 32) * below) >> 32);
}

struct record {
    char rdata[300];
};

/* "10 a.test" */
static struct bytes make(struct record *r, const char *text)
{
    struct dns_name name = {.len = 1};
    unsigned preference;
    char host[260];

    assert_int_equal(sscanf(text, "%u %259s", &preference, host), 2);
    if (strcmp(host, ".") != 0)
        assert_true(dns_name_parse(bytes_of(host), &name));
    r->rdata[0] = (char)(preference >> 8);
    r->rdata[1] = (char)(preference & 0xff);
    memcpy(r->rdata + 2, name.octets, name.len);
    return bytes_make(r->rdata, 2U + name.len);
}

static void the_choice_follows_its_row(void **state)
{
    static const struct {
        const char *in[5], *want;
    } cases[] = {
        {{"10 a.test"}, " 10:a.test"},
        {{"20 b.test", "10 a.test", "65535 c.test", "0 d.test"},
         " 0:d.test 10:a.test 20:b.test 65535:c.test"},
        {{"0 ."}, " null"},
        {{"10 ."}, " null"},
        {{"0 .", "10 a.test"}, " skipped=1 10:a.test"},
        {{"0 .", "10 ."}, " skipped=2"},
        {{"10 192.0.2.1"}, " skipped=1"},
        {{"10 192.0.2.1", "20 a.test"}, " skipped=1 20:a.test"},
        {{"10 a.test", "20 a.test"}, " 10:a.test"},
        {{"10 192.0.2"}, " 10:192.0.2"}, /* odd, but no address */
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct record made[5];
        struct bytes records[5];
        struct dns_mx_choice choice;
        uint64_t seed = 1;
        size_t n = 0;
        BUF_LOCAL(got);
        for (; n < 5 && cases[i].in[n]; n++)
            records[n] = make(&made[n], cases[i].in[n]);
        dns_mx_choose(records, n, lot, &seed, &choice);
        if (choice.null_mx)
            buf_puts(&got, " null");
        if (choice.skipped)
            buf_putf(&got, " skipped=%zu", choice.skipped);
        for (size_t k = 0; k < choice.count; k++)
            buf_putf(&got, " %u:%s", choice.hosts[k].preference, choice.hosts[k].name);
        assert_string_equal(buf_str(&got), cases[i].want);
    }
}

static void malformed_rdata_is_skipped(void **state)
{
    const struct bytes records[] = {BYTES(""),         BYTES("\0"),         BYTES("\0\1"),
                                    BYTES("\0\1\1a"),  BYTES("\0\1\xc0\0"), BYTES("\0\1\1a\0junk"),
                                    BYTES("\0\1\1a\0")};
    struct dns_mx_choice choice;
    uint64_t seed = 1;

    dns_mx_choose(records, COUNT_OF(records), lot, &seed, &choice);
    assert_false(choice.null_mx);
    assert_int_equal(choice.count, 1);
    assert_string_equal(choice.hosts[0].name, "a");
}

static void of_many_the_best_are_kept(void **state)
{
    static struct record made[500];
    static struct bytes records[500];
    struct dns_mx_choice choice;
    uint64_t seed = 1;

    for (unsigned i = 0; i < 500; i++) {
        char text[40];
        snprintf(text, sizeof(text), "%u m%u.test", 500 - i, i);
        records[i] = make(&made[i], text);
    }
    dns_mx_choose(records, 500, lot, &seed, &choice);
    assert_int_equal(choice.count, DNS_MX_MAX);
    for (unsigned i = 0; i < DNS_MX_MAX; i++)
        assert_int_equal(choice.hosts[i].preference, i + 1);
}

/* T56: Every order of four equal hosts must be as likely as any other, and the better and the worse one stay
 * in place. */
static void equal_preferences_are_shuffled_fairly(void **state)
{
    static const char *const text[] = {"5 w.test",  "10 a.test", "10 b.test",
                                       "10 c.test", "10 d.test", "20 z.test"};
    enum { DRAWS = 4800 };
    struct record made[COUNT_OF(text)];
    struct bytes records[COUNT_OF(text)];
    unsigned seen[256] = {0}, orders = 0, first[4] = {0};
    uint64_t seed = 20261121;
    double chi = 0, chi_first = 0;

    for (size_t i = 0; i < COUNT_OF(text); i++)
        records[i] = make(&made[i], text[i]);
    for (int draw = 0; draw < DRAWS; draw++) {
        struct dns_mx_choice choice;
        unsigned order = 0;
        dns_mx_choose(records, COUNT_OF(text), lot, &seed, &choice);
        assert_int_equal(choice.count, 6);
        assert_string_equal(choice.hosts[0].name, "w.test");
        assert_string_equal(choice.hosts[5].name, "z.test");
        for (int i = 1; i < 5; i++)
            order = order << 2 | (unsigned)(choice.hosts[i].name[0] - 'a');
        seen[order]++;
        first[order >> 6]++;
    }
    for (size_t i = 0; i < COUNT_OF(seen); i++) {
        if (!seen[i])
            continue;
        orders++;
        chi += (seen[i] - DRAWS / 24.0) * (seen[i] - DRAWS / 24.0) / (DRAWS / 24.0);
    }
    for (int i = 0; i < 4; i++)
        chi_first += (first[i] - DRAWS / 4.0) * (first[i] - DRAWS / 4.0) / (DRAWS / 4.0);
    assert_int_equal(orders, 24);
    assert_true(chi < 49.7);       /* 23 degrees of freedom, p = 0.001 */
    assert_true(chi_first < 16.3); /* 3 degrees of freedom */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_choice_follows_its_row),
        cmocka_unit_test(malformed_rdata_is_skipped),
        cmocka_unit_test(of_many_the_best_are_kept),
        cmocka_unit_test(equal_preferences_are_shuffled_fairly),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
