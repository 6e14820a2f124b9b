#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "policy/domain.h"
#include "policy/policy.h"

static struct policy *parse(const char *text)
{
    struct yaml_errors errors = {0};
    struct policy *p = NULL;

    if (policy_parse("doc", bytes_of(text), 1, &p, &errors) != OK)
        fail_msg("%s", errors.items[0].text);
    yaml_errors_fini(&errors);
    return p;
}

static const char by_domain[] = "groups:\n"
                                "- {name: exact, match: [example.com, example.net, '[192.0.2.1]']}\n"
                                "- {name: sub, match: [.example.com]}\n"
                                "- {name: deep, match: [.deep.example.com, Other.Example.]}\n"
                                "- {name: idn, match: [例え.jp, .例え.jp]}\n"
                                "- {name: tld, match: [.test]}\n"
                                "- {name: default}\n";

static void check(struct policy_match m, const char *what, const char *group, enum match_how how,
                  const char *pattern)
{
    const char *found = m.group ? m.group->name : "(needs the MX)";

    if (strcmp(found, group) != 0 || m.how != how || strcmp(m.pattern, pattern) != 0)
        fail_msg("%s: %s by %s '%s', not %s by %s '%s'", what, found, match_how_name(m.how), m.pattern, group,
                 match_how_name(how), pattern);
}

static void the_exact_domain_goes_before_the_longest_suffix(void **state)
{
    static const struct {
        const char *domain, *group;
        enum match_how how;
        const char *pattern;
    } cases[] = {
        {"example.com", "exact", MATCH_EXACT, "example.com"},
        {"example.net", "exact", MATCH_EXACT, "example.net"},
        {"a.example.net", "default", MATCH_DEFAULT, ""},
        {"[192.0.2.1]", "exact", MATCH_EXACT, "[192.0.2.1]"},
        {"[192.0.2.2]", "default", MATCH_DEFAULT, ""},
        {"a.example.com", "sub", MATCH_SUFFIX, ".example.com"},
        {"b.a.example.com", "sub", MATCH_SUFFIX, ".example.com"},
        {"deep.example.com", "sub", MATCH_SUFFIX, ".example.com"},
        {"a.deep.example.com", "deep", MATCH_SUFFIX, ".deep.example.com"},
        {"b.a.deep.example.com", "deep", MATCH_SUFFIX, ".deep.example.com"},
        {"badexample.com", "default", MATCH_DEFAULT, ""},
        {"example.com.evil", "default", MATCH_DEFAULT, ""},
        {"other.example", "deep", MATCH_EXACT, "Other.Example."},
        {"xn--r8jz45g.jp", "idn", MATCH_EXACT, "例え.jp"},
        {"a.xn--r8jz45g.jp", "idn", MATCH_SUFFIX, ".例え.jp"},
        {"anything.test", "tld", MATCH_SUFFIX, ".test"},
        {"test", "default", MATCH_DEFAULT, ""},
        {"com", "default", MATCH_DEFAULT, ""},
        {"", "default", MATCH_DEFAULT, ""},
        {".", "default", MATCH_DEFAULT, ""},
        {".test", "tld", MATCH_SUFFIX, ".test"}, /* no domain: whoever asks so has not normalised it */
    };
    struct policy *p = parse(by_domain);

    for (size_t i = 0; i < COUNT_OF(cases); i++)
        check(policy_match_domain(p, bytes_of(cases[i].domain)), cases[i].domain, cases[i].group,
              cases[i].how, cases[i].pattern);
    policy_unref(p);
}

static void mx_hosts_are_asked_for_only_when_no_domain_matches(void **state)
{
    struct policy *p = parse("groups:\n"
                             "- {name: domain, match: [a.example]}\n"
                             "- {name: hosted, mx: [.mail.example, mx.single.example, .b.mail.example]}\n"
                             "- {name: both, match: [.c.example], mx: [mx.b.mail.example]}\n"
                             "- {name: default}\n");
    static const struct {
        const char *hosts[3];
        const char *group;
        enum match_how how;
        const char *pattern;
    } cases[] = {
        {{"mx1.mail.example"}, "hosted", MATCH_MX, ".mail.example"},
        {{"MX1.Mail.Example."}, "hosted", MATCH_MX, ".mail.example"},
        {{"mail.example"}, "default", MATCH_DEFAULT, ""},
        {{"mx.single.example"}, "hosted", MATCH_MX, "mx.single.example"},
        {{"x.mx.single.example"}, "default", MATCH_DEFAULT, ""},
        {{"mx.b.mail.example"}, "both", MATCH_MX, "mx.b.mail.example"}, /* exact before suffix */
        {{"y.b.mail.example"}, "hosted", MATCH_MX, ".b.mail.example"},  /* the longest suffix */
        {{"other.example", "mx1.mail.example"}, "hosted", MATCH_MX, ".mail.example"},
        {{"mx.b.mail.example", "mx1.mail.example"}, "both", MATCH_MX, "mx.b.mail.example"}, /* best first */
        {{"mx1.mail.example", "mx.b.mail.example"}, "hosted", MATCH_MX, ".mail.example"},
        {{"other.example", "else.example"}, "default", MATCH_DEFAULT, ""},
        {{NULL}, "default", MATCH_DEFAULT, ""},
        {{""}, "default", MATCH_DEFAULT, ""},
    };

    check(policy_match_domain(p, BYTES("a.example")), "a.example", "domain", MATCH_EXACT, "a.example");
    check(policy_match_domain(p, BYTES("x.c.example")), "x.c.example", "both", MATCH_SUFFIX, ".c.example");
    check(policy_match_domain(p, BYTES("b.example")), "b.example", "(needs the MX)", MATCH_MX, "");
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct bytes hosts[3];
        size_t count = 0;

        for (; count < 3 && cases[i].hosts[count]; count++)
            hosts[count] = bytes_of(cases[i].hosts[count]);
        check(policy_match_mx(p, hosts, count), cases[i].hosts[0] ? cases[i].hosts[0] : "(no hosts)",
              cases[i].group, cases[i].how, cases[i].pattern);
    }
    policy_unref(p);
}

static void a_host_name_of_any_length_is_no_trouble(void **state)
{
    struct policy *p = parse("groups:\n- {name: hosted, mx: [.example]}\n- {name: default}\n");
    char name[2000];
    struct bytes host = bytes_make(name, sizeof(name));

    memset(name, '.', sizeof(name));
    assert_string_equal(policy_match_mx(p, &host, 1).group->name, "default");
    memset(name, 'a', sizeof(name));
    assert_string_equal(policy_match_mx(p, &host, 1).group->name, "default");
    assert_null(policy_match_domain(p, host).group);
    policy_unref(p);
}

static void a_hundred_thousand_patterns_cost_no_more_than_ten(void **state)
{
    struct buf text = {0};
    struct yaml_errors errors = {0};
    struct policy *p = NULL;
    uint64_t start;

    buf_puts(&text, "groups:\n- name: big\n  match:\n");
    for (int i = 0; i < 50000; i++)
        buf_putf(&text, "  - d%d.example\n  - .d%d.example\n", i, i);
    buf_puts(&text, "- name: default\n");
    assert_int_equal(policy_parse("doc", buf_bytes(&text), 1, &p, &errors), OK);
    start = clock_now_ms();
    for (int round = 0; round < 100000; round++) {
        char domain[64];

        snprintf(domain, sizeof(domain), "a.b.c.d%d.example", round % 60000);
        assert_string_equal(policy_match_domain(p, bytes_of(domain)).group->name,
                            round % 60000 < 50000 ? "big" : "default");
    }
    /* A walk over all patterns would take minutes; the bound is for a sanitized build on a busy machine. */
    assert_true(clock_now_ms() - start < 10000);
    yaml_errors_fini(&errors);
    buf_fini(&text);
    policy_unref(p);
}

static void *hold_and_drop(void *arg)
{
    for (int i = 0; i < 20000; i++) {
        struct policy *p = policy_ref(arg);

        if (policy_match_domain(p, BYTES("a.deep.example.com")).how != MATCH_SUFFIX)
            return p;
        policy_unref(p);
    }
    return NULL;
}

static void a_snapshot_lives_until_its_last_holder_lets_go(void **state)
{
    struct policy *p = parse(by_domain);
    pthread_t threads[4];

    for (size_t i = 0; i < COUNT_OF(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, hold_and_drop, p), 0);
    for (size_t i = 0; i < COUNT_OF(threads); i++) {
        void *wrong;

        assert_int_equal(pthread_join(threads[i], &wrong), 0);
        assert_null(wrong);
    }
    assert_ptr_equal(policy_ref(p), p);
    policy_unref(p);
    check(policy_match_domain(p, BYTES("example.com")), "example.com", "exact", MATCH_EXACT, "example.com");
    policy_unref(p);
    policy_unref(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_exact_domain_goes_before_the_longest_suffix),
        cmocka_unit_test(mx_hosts_are_asked_for_only_when_no_domain_matches),
        cmocka_unit_test(a_host_name_of_any_length_is_no_trouble),
        cmocka_unit_test(a_hundred_thousand_patterns_cost_no_more_than_ten),
        cmocka_unit_test(a_snapshot_lives_until_its_last_holder_lets_go),
    };

    return cmocka_run_group_tests_name("policy/policy_match", tests, NULL, NULL);
}
