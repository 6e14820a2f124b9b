/* Does a resolver validate?  Against scripted servers that do, do not, fail and stay silent. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/clock.h"
#include "engine/dane/probe.h"
#include "tests/unit/engine/dns/resolver_world.h"

static void a_question_is_a_name_and_perhaps_a_type(void **state)
{
    static const struct {
        const char *text, *name;
        uint16_t type; /* 0: refused */
    } rows[] = {
        {".", ".", 48},      {"example.test", "example.test", 6}, {"example.test MX", "example.test", 15},
        {". NS", ".", 2},    {" a.test  tlsa ", "a.test", 52},    {"", "", 0},
        {"a..test", "", 0},  {"a.test NONSENSE", "", 0},          {"a.test MX x", "", 0},
        {"a b.test", "", 0}, {"caf\xc3\xa9.test", "", 0},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct dnssec_question q = {.type = 9};
        bool good = dnssec_question_parse(rows[i].text, &q);
        if (good != (rows[i].type != 0))
            fail_msg("'%s'", rows[i].text);
        if (good)
            assert_string_equal(q.name, rows[i].name);
        assert_int_equal(q.type, good ? rows[i].type : 9);
    }
}

#define W DNSSEC_WORKS
#define V DNSSEC_NOT_VALIDATING
#define T DNSSEC_NOT_TRUSTED
#define U DNSSEC_UNREACHABLE

static void the_first_that_answers_decides(void **state)
{
    static const struct {
        size_t count;
        enum dnssec_probe servers[3];
        enum dnssec_probe want;
        bool mixed;
    } rows[] = {
        {0, {0}, DNSSEC_UNKNOWN, false},
        {1, {W}, W, false},
        {1, {V}, V, false},
        {1, {T}, T, false},
        {1, {U}, U, false},
        {2, {W, W}, W, false},
        {2, {W, V}, W, true},
        {2, {W, T}, W, true},
        {2, {W, U}, W, false},
        {2, {U, W}, W, false},
        {2, {U, V}, V, false},
        {2, {V, W}, V, false},
        {2, {T, W}, T, false},
        {3, {U, W, V}, W, true},
        {3, {U, U, U}, U, false},
        {3, {U, V, W}, V, false},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct dnssec_report r = {.count = rows[i].count};
        for (size_t k = 0; k < rows[i].count; k++)
            r.servers[k].result = rows[i].servers[k];
        dnssec_report_sum_up(&r);
        if (r.result != rows[i].want || r.mixed != rows[i].mixed)
            fail_msg("row %zu: %s", i, dnssec_probe_name(r.result));
    }
}

static const struct scripted_row validating[] = {
    {"probe.test", "SOA", "ad", "probe.test 60 SOA ns.test root.test 60"},
    {"nodata.test", "SOA", "ad", "!nodata.test 60 SOA ns.test root.test 60"},
    {"*", "TYPE48", "ad", ". 60 TYPE48 0101030801"}};
static const struct scripted_row plain[] = {
    {"probe.test", "SOA", "", "probe.test 60 SOA ns.test root.test 60"},
    {"*", "TYPE48", "", ". 60 TYPE48 0101030801"}};
static const struct scripted_row failing[] = {{"*", NULL, "servfail", NULL}};
static const struct scripted_row silent[] = {{"*", NULL, "silent", NULL}};

struct heard {
    unsigned callbacks;
    struct dnssec_report report;
};

static void on_report(void *arg, const struct dnssec_report *r)
{
    struct heard *h = arg;

    h->callbacks++;
    h->report = *r;
}

static void start_world(struct world *w, const struct scripted_row *const rows[], const size_t counts[],
                        size_t n)
{
    world_start(w, rows[0], counts[0]);
    for (size_t i = 1; i < n; i++)
        world_more(w, rows[i], counts[i]);
    world_resolver(w);
}

static void each_server_is_asked_by_itself(void **state)
{
    static const struct {
        const char *question;
        const struct scripted_row *rows[2];
        size_t counts[2];
        enum dnssec_probe first, second; /* config_of() trusts the first alone */
        bool mixed;
    } cases[] = {
        {"probe.test", {validating, validating}, {3, 3}, W, T, true},
        {".", {validating, plain}, {3, 2}, W, V, true},
        {"nodata.test", {validating, failing}, {3, 1}, W, U, false},
        {"probe.test", {plain, validating}, {2, 3}, V, T, false},
        {".", {failing, plain}, {1, 2}, U, V, false},
        {"probe.test", {failing, failing}, {1, 1}, U, U, false},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct dnssec_question q;
        struct heard h = {0};
        struct world w;
        start_world(&w, cases[i].rows, cases[i].counts, 2);
        assert_true(dnssec_question_parse(cases[i].question, &q));
        assert_non_null(dnssec_probe_start(&w.loop, w.d, &q, on_report, &h));
        assert_int_equal(h.callbacks, 0);
        while (!h.callbacks && uv_run(&w.loop, UV_RUN_ONCE))
            ;
        assert_int_equal(h.report.count, 2);
        if (h.report.servers[0].result != cases[i].first || h.report.servers[1].result != cases[i].second)
            fail_msg("%zu: %s, %s", i, dnssec_probe_name(h.report.servers[0].result),
                     dnssec_probe_name(h.report.servers[1].result));
        assert_int_equal(h.report.mixed, cases[i].mixed);
        assert_int_equal(h.report.servers[0].port, w.servers[0].port);
        assert_true(h.report.servers[0].trusted && !h.report.servers[1].trusted);
        assert_true(h.report.at_unix > 0);
        world_stop(&w);
        assert_int_equal(h.callbacks, 1);
    }
}

static void a_silent_server_holds_it_up_for_five_seconds_at_most(void **state)
{
    static const struct scripted_row *const rows[] = {silent};
    static const size_t counts[] = {1};
    struct dnssec_question q;
    struct heard h = {0};
    struct world w;

    (void)state;
    start_world(&w, rows, counts, 1);
    assert_true(dnssec_question_parse(".", &q));
    uint64_t before = clock_now_ms();
    assert_non_null(dnssec_probe_start(&w.loop, w.d, &q, on_report, &h));
    while (!h.callbacks && uv_run(&w.loop, UV_RUN_ONCE))
        ;
    assert_int_equal(h.report.result, DNSSEC_UNREACHABLE);
    assert_true(clock_now_ms() - before < 7000);
    world_stop(&w);
}

static void a_cancelled_probe_says_nothing_and_leaves_nothing(void **state)
{
    static const struct scripted_row *const rows[] = {silent, validating};
    static const size_t counts[] = {1, 3};
    struct dnssec_question q;
    struct heard h = {0};
    struct world w;

    (void)state;
    start_world(&w, rows, counts, 2);
    assert_true(dnssec_question_parse("probe.test", &q));
    dnssec_probe_cancel(dnssec_probe_start(&w.loop, w.d, &q, on_report, &h)); /* at once */
    struct dnssec_probing *p = dnssec_probe_start(&w.loop, w.d, &q, on_report, &h);
    while (w.servers[1].udp_questions < 1 && uv_run(&w.loop, UV_RUN_ONCE))
        ;
    for (unsigned i = 0; i < 20; i++) /* one has answered, the other will not */
        uv_run(&w.loop, UV_RUN_NOWAIT);
    dnssec_probe_cancel(p);
    dnssec_probe_cancel(NULL);
    world_stop(&w); /* the loop ends only when all handles are closed */
    assert_int_equal(h.callbacks, 0);
}

static void servers_beyond_loopback_are_trusted_by_name(void **state)
{
    static const struct {
        const char *server;
        bool trusted;
    } rows[] = {{"127.0.0.1", true}, {"::1", true},         {"192.0.2.53", true},  {"192.0.2.54", false},
                {"10.1.2.3", true},  {"2001:db8::1", true}, {"2001:db9::1", false}};
    struct dns_config c = {.trusted_count = 3};

    (void)state;
    assert_true(ip_net_parse(BYTES("192.0.2.53"), &c.trusted[0]));
    assert_true(ip_net_parse(BYTES("10.0.0.0/8"), &c.trusted[1]));
    assert_true(ip_net_parse(BYTES("2001:db8::/32"), &c.trusted[2]));
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct ip ip;
        assert_true(ip_parse(bytes_of(rows[i].server), &ip));
        assert_int_equal(dns_config_trusts(&c, &ip), rows[i].trusted);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_question_is_a_name_and_perhaps_a_type),
        cmocka_unit_test(the_first_that_answers_decides),
        cmocka_unit_test(each_server_is_asked_by_itself),
        cmocka_unit_test(a_silent_server_holds_it_up_for_five_seconds_at_most),
        cmocka_unit_test(a_cancelled_probe_says_nothing_and_leaves_nothing),
        cmocka_unit_test(servers_beyond_loopback_are_trusted_by_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
