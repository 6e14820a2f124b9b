#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "webui-api/params.h"

#define NOW 1795302000LL /* 2026-11-21T23:00:00Z */
#define BAD INT64_MIN

static void times_are_seconds_spans_dates_or_rfc_3339(void **state)
{
    static const struct {
        const char *text;
        int64_t want;
    } cases[] = {
        {"0", 0},
        {"1795302000", NOW},
        {"7d", NOW - 7 * 86400},
        {"2h", NOW - 7200},
        {"30m", NOW - 1800},
        {"90s", NOW - 90},
        {"99999d", 0},
        {"2026-11-21T23:00:00Z", NOW},
        {"2026-11-21t23:00:00z", NOW},
        {"2026-11-21 23:00:00Z", NOW},
        {"2026-11-21T23:00Z", NOW},
        {"2026-11-21T23:00:00.999Z", NOW},
        {"2026-11-22T08:00:00+09:00", NOW},
        {"2026-11-21T18:30:00-04:30", NOW},
        {"2026-11-21", NOW - 23 * 3600},
        {"2028-02-29", 1835395200},
        {"2027-02-29", BAD},
        {"2026-02-30", BAD},
        {"2026-13-01", BAD},
        {"2026-00-10", BAD},
        {"2026-11-00", BAD},
        {"1969-12-31", BAD},
        {"1970-01-01T00:00:00+09:00", 0},
        {"253402300799", 253402300799},
        {"253402300800", BAD},
        {"4611686018427387903", BAD},
        {"2026-11-21T24:00:00Z", BAD},
        {"2026-11-21T23:60:00Z", BAD},
        {"2026-11-21T23:00:61Z", BAD},
        {"2026-11-21T23:00:00", BAD},
        {"2026-11-21T23:00:00.Z", BAD},
        {"2026-11-21T23:00:00Zx", BAD},
        {"2026-11-21T23:00:00+9:00", BAD},
        {"2026-11-21T23:00:00+09:60", BAD},
        {"2026-11-21T", BAD},
        {"2026-1-1", BAD},
        {"-7d", BAD},
        {"7 d", BAD},
        {"7y", BAD},
        {"yesterday", BAD},
        {"", BAD},
        {"99999999999999999999", BAD},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        int64_t got = BAD;
        bool good = time_parse(bytes_of(cases[i].text), NOW, &got);
        if (good != (cases[i].want != BAD) || got != cases[i].want)
            fail_msg("'%s' became %lld", cases[i].text, (long long)got);
    }
}

static void no_time_that_is_cut_short_is_taken_for_another_one_with_a_zone(void **state)
{
    static const char text[] = "2026-11-21T23:00:00.5+00:00";

    (void)state;
    for (size_t len = 11; len < strlen(text); len++) {
        int64_t got;
        assert_false(time_parse(bytes_make(text, len), NOW, &got));
    }
}

static void request_with(struct request *r, const char *target)
{
    *r = (struct request){0};
    assert_null(http_target_parse(bytes_of(target), &r->arena, &r->target));
}

static void expect_complaint(struct request *r, const char *word)
{
    assert_int_equal(r->reply.status, 400);
    if (!strstr(buf_str(&r->reply.body), word))
        fail_msg("'%s' is not in %s", word, buf_str(&r->reply.body));
    request_fini(r);
}

static void unknown_parameters_are_named_with_what_was_meant(void **state)
{
    struct request r;

    (void)state;
    request_with(&r, "/x?recipent=a");
    assert_false(params_known(&r, "message recipient limit"));
    expect_complaint(&r, "did you mean 'recipient'");
    request_with(&r, "/x?zzzzzz=a");
    assert_false(params_known(&r, "message recipient limit"));
    expect_complaint(&r, "'zzzzzz'");
    request_with(&r, "/x?a=b");
    assert_false(params_known(&r, ""));
    expect_complaint(&r, "'a'");
    request_with(&r, "/x?limit=3&message=b");
    assert_true(params_known(&r, "message recipient limit"));
    assert_int_equal(r.reply.status, 0);
    request_fini(&r);
}

static void counts_keep_their_bounds(void **state)
{
    static const struct {
        const char *target;
        bool good;
        uint64_t want;
    } cases[] = {
        {"/x", true, 77},       {"/x?n=1", true, 1},     {"/x?n=100", true, 100}, {"/x?n=0", false, 0},
        {"/x?n=101", false, 0}, {"/x?n=", false, 0},     {"/x?n=+1", false, 0},   {"/x?n=1x", false, 0},
        {"/x?n=-1", false, 0},  {"/x?n=1%20", false, 0},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct request r;
        uint64_t n = 77;
        request_with(&r, cases[i].target);
        assert_int_equal(param_count(&r, "n", 1, 100, &n), cases[i].good);
        assert_int_equal(n, cases[i].good ? cases[i].want : 77);
        if (cases[i].good)
            request_fini(&r);
        else
            expect_complaint(&r, "'n'");
    }
}

static void words_domains_ids_and_times_say_what_would_be_right(void **state)
{
    static const char *const words[] = {"group", "domain", "campaign"};
    struct request r;
    int word = -1;
    const char *domain = NULL;
    uint64_t id = 0;
    int64_t when = 0;

    (void)state;
    request_with(&r, "/x?by=domain&domain=B%C3%BCcher.example&message=0akw21evc0000&since=2h");
    assert_true(param_word(&r, "by", words, COUNT_OF(words), &word));
    assert_int_equal(word, 1);
    assert_true(param_domain(&r, "domain", &domain));
    assert_string_equal(domain, "xn--bcher-kva.example");
    assert_true(param_message(&r, "message", &id));
    assert_true(id != 0);
    assert_true(param_time(&r, "since", &when));
    assert_true(when >= clock_unix() - 7205 && when <= clock_unix() - 7195);
    request_fini(&r);

    request_with(&r, "/x?by=domian");
    assert_false(param_word(&r, "by", words, COUNT_OF(words), &word));
    expect_complaint(&r, "did you mean 'domain'");
    request_with(&r, "/x?domain=a..b");
    assert_false(param_domain(&r, "domain", &domain));
    expect_complaint(&r, "a..b");
    request_with(&r, "/x?message=1");
    assert_false(param_message(&r, "message", &id));
    expect_complaint(&r, "13 characters");
    request_with(&r, "/x?since=soon");
    assert_false(param_time(&r, "since", &when));
    expect_complaint(&r, "7d");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times_are_seconds_spans_dates_or_rfc_3339),
        cmocka_unit_test(no_time_that_is_cut_short_is_taken_for_another_one_with_a_zone),
        cmocka_unit_test(unknown_parameters_are_named_with_what_was_meant),
        cmocka_unit_test(counts_keep_their_bounds),
        cmocka_unit_test(words_domains_ids_and_times_say_what_would_be_right),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
