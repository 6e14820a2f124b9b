/* The resolver against servers that answer by rows, lie, stall and hang up: T55 and T56. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/clock.h"
#include "tests/unit/engine/dns/resolver_world.h"

/* ---- one server: rows of question and result ---- */

static const struct {
    const char *what, *name, *want;
} questions[] = {
    {"MX", "plain.test", "ok secure 10:a.plain.test 20:b.plain.test"},
    {"MX", "PLAIN.Test.", "ok secure 10:a.plain.test 20:b.plain.test"},
    {"HOST", "a.plain.test", "ok a.plain.test 192.0.2.1! 192.0.2.2! 2001:db8::1"},
    {"MX", "null.test", "ok null"},
    {"MX", "half-null.test", "ok skipped=1 5:mx.half-null.test"},
    {"MX", "two-null.test", "nodata skipped=2"},
    {"MX", "literal.test", "ok skipped=1 20:mx.literal.test"},
    {"MX", "only-literal.test", "nodata skipped=1"},
    {"MX", "odd-name.test", "nodata skipped=2"},
    {"MX", "twice.test", "ok 10:a.test"},
    {"MX", "nomx.test", "ok implicit 0:nomx.test"},
    {"MX", "nomx-secure.test", "ok implicit secure 0:nomx-secure.test"},
    {"MX", "nomx-bare.test", "ok implicit 0:nomx-bare.test"},
    {"MX", "gone.test", "nxdomain"},
    {"HOST", "gone.test", "nxdomain gone.test"},
    {"MX", "servfail.test", "servfail"},
    {"HOST", "servfail.test", "servfail servfail.test"},
    {"MX", "refused.test", "servfail"},
    {"MX", "silent.test", "timeout"},
    {"MX", "alias.test", "ok 10:a.plain.test 20:b.plain.test"},
    {"MX", "alias-in.test", "ok 5:mx.t.test"},
    {"MX", "alias-gone.test", "nxdomain"},
    {"MX", "alias-nomx.test", "ok implicit 0:alias-nomx.test"},
    {"MX", "alias-odd.test", "bad-name"},
    {"MX", "self.test", "cname-loop"},
    {"HOST", "self.test", "cname-loop self.test"},
    {"MX", "ring-a.test", "cname-loop"},
    {"MX", "ring0-a.test", "cname-loop"},
    {"MX", "to-alias.test", "ok 10:mxalias.test"},
    {"HOST", "mxalias.test", "ok elsewhere.test 192.0.2.9"},
    {"HOST", "stranger.test", "servfail stranger.test"}, /* AAAA: refused, so we do not know */
    {"A", "stranger.test", "nodata count=0"},
    {"HOST", "unusable.test", "nodata unusable.test skipped=5"},
    {"HOST", "loopback.test", "ok loopback.test skipped=1 127.0.0.1"},
    {"HOST", "one-family.test", "ok one-family.test 192.0.2.3"},
    {"HOST", "doubt.test", "servfail doubt.test"},
    {"MX", "cut.test", "ok 1:mx.cut.test"},
    {"MX", "cut-closes.test", "timeout"},
    {"MX", "cut-silent.test", "timeout"},
    {"MX", "cut-twice.test", "servfail"},
    {"MX", "dribble.test", "ok 1:mx.test"},
    {"MX", "big.test", "ok 1:mx.big.test"},
    {"MX", "wrong-id.test", "ok 1:mx.test"},
    {"MX", "wrong-name.test", "ok 1:mx.test"},
    {"MX", "wrong-type.test", "ok 1:mx.test"},
    {"MX", "wrong-class.test", "ok 1:mx.test"},
    {"MX", "wrong-opcode.test", "ok 1:mx.test"},
    {"MX", "a-query.test", "ok 1:mx.test"},
    {"MX", "wrong-port.test", "ok 1:mx.test"},
    {"MX", "only-wrong.test", "timeout"},
    {"MX", "flood.test", "ok 1:mx.test"},
    {"MX", "pointer-loop.test", "servfail"},
    {"MX", "old-server.test", "ok 1:mx.test"},
    {"MX", "bare-formerr.test", "servfail"},
    {"MX", "lame.test", "servfail"},
    {"MX", "lost-once.test", "ok 1:mx.test"},
    {"TLSA", "_25._tcp.mx.test", "ok secure count=2 030101aabb 0301"},
    {"TXT", "txt.test", "ok count=1 0568656c6c6f"},
    {"CNAME", "alias-c.test", "ok secure count=1 05706c61696e047465737400"},
    {"A", "mixed-case.test", "ok count=1 c0000208"},
    {"HOST", "192.0.2.1", "ok 192.0.2.1 192.0.2.1"},
    {"HOST", "[192.0.2.1]", "ok 192.0.2.1 192.0.2.1"},
    {"HOST", "[IPv6:2001:db8::5]", "ok 2001:db8::5 2001:db8::5"},
    {"HOST", "2001:db8::5", "ok 2001:db8::5 2001:db8::5"},
    {"HOST", "0.0.0.0", "nodata 0.0.0.0 skipped=1"},
    {"MX", "[192.0.2.1]", "ok implicit 0:192.0.2.1"},
    {"MX", "[ipv6:2001:db8::5]", "ok implicit 0:2001:db8::5"},
    {"MX", "192.0.2.1", "bad-name"},
    {"MX", "", "bad-name"},
    {"MX", ".", "bad-name"},
    {"MX", "a..b", "bad-name"},
    {"MX", "a b.test", "bad-name"},
    {"MX", "caf\xc3\xa9.test", "bad-name"},
    {"MX", "a\\.test", "bad-name"},
    {"HOST", "[nonsense]", "bad-name "},
    {"TYPE255", "plain.test", "bad-name count=0"},
    {"TYPE252", "plain.test", "bad-name count=0"},
};

static void every_row_has_its_result(void **state)
{
    struct world w;

    world_start(&w, zone, zone_count);
    for (size_t i = 0; i < COUNT_OF(questions); i++) {
        uint64_t before = clock_now_ms();
        world_resolver(&w); /* a fresh one: rows do not meet in the cache */
        const char *got = ask(&w, questions[i].what, questions[i].name);
        if (strcmp(got, questions[i].want) != 0)
            fail_msg("%s %s: %s, not %s", questions[i].what, questions[i].name, got, questions[i].want);
        if (clock_now_ms() - before > 2000)
            fail_msg("%s %s took too long", questions[i].what, questions[i].name);
        if (i + 1 < COUNT_OF(questions)) {
            w.closed = false;
            dns_close(w.d, on_closed, &w);
            while (!w.closed)
                uv_run(&w.loop, UV_RUN_ONCE);
        }
    }
    world_stop(&w);
}

static void of_500_mail_hosts_the_best_are_kept(void **state)
{
    struct world w;

    world_start(&w, zone, zone_count);
    world_resolver(&w);
    const char *got = ask(&w, "MX", "many.test");
    assert_true(strncmp(got, "ok count=100 1:best.many.test 7:mx", 34) == 0);
    world_stop(&w);
}

/* ---- CNAME chains ---- */

static void chains_of_16_are_followed_and_longer_ones_are_not(void **state)
{
    static const struct {
        int hops;
        const char *want;
    } cases[] = {
        {1, "ok h1.test 192.0.2.1"}, {15, "ok h15.test 192.0.2.1"}, {16, "ok h16.test 192.0.2.1"},
        {17, "cname-loop h0.test"},  {20, "cname-loop h0.test"},
    };

    for (int in_one = 0; in_one < 2; in_one++) {
        for (size_t i = 0; i < COUNT_OF(cases); i++) {
            struct scripted_row rows[24];
            char names[24][16], records[24][64];
            BUF_LOCAL(whole);
            size_t n = 0;
            for (int hop = 0; hop <= cases[i].hops; hop++, n++) {
                snprintf(names[n], sizeof(names[n]), "h%d.test", hop);
                if (hop < cases[i].hops)
                    snprintf(records[n], sizeof(records[n]), "h%d.test 300 CNAME h%d.test", hop, hop + 1);
                else
                    snprintf(records[n], sizeof(records[n]), "h%d.test 300 A 192.0.2.1", hop);
                buf_putf(&whole, "%s%s", hop ? ";" : "", records[n]);
                rows[n] = (struct scripted_row){names[n], "A", NULL, records[n]};
            }
            if (in_one)
                rows[0].records = buf_str(&whole);
            struct world w;
            world_start(&w, rows, n);
            struct dns_config c = config_of(&w);
            char *why = NULL;
            c.ipv6 = false;
            assert_int_equal(dns_create(&w.loop, &c, &w.d, &why), OK);
            const char *got = ask(&w, "HOST", "h0.test");
            /* Of a loop only the status matters: which name it stopped at depends on who found out. */
            if (strncmp(cases[i].want, "cname-loop", 10) == 0)
                assert_int_equal(strncmp(got, "cname-loop", 10), 0);
            else
                assert_string_equal(got, cases[i].want);
            world_stop(&w);
        }
    }
}

static void a_slow_chain_ends_with_the_time_of_the_question(void **state)
{
    static const struct scripted_row rows[] = {{"h0.test", NULL, "slow", "h0.test 300 CNAME h1.test"},
                                               {"h1.test", NULL, "slow", "h1.test 300 CNAME h2.test"},
                                               {"h2.test", NULL, "slow", "h2.test 300 CNAME h3.test"},
                                               {"h3.test", NULL, "slow", "h3.test 300 CNAME h4.test"},
                                               {"h4.test", NULL, "slow", "h4.test 300 CNAME h5.test"},
                                               {"h5.test", NULL, "slow", "h5.test 300 CNAME h6.test"}};
    struct world w;
    char *why = NULL;

    world_start(&w, rows, COUNT_OF(rows));
    struct dns_config c = config_of(&w);
    c.timeout_ms = 1000;
    assert_int_equal(dns_create(&w.loop, &c, &w.d, &why), OK);
    uint64_t before = clock_now_ms();
    assert_string_equal(ask(&w, "HOST", "h0.test"), "timeout h0.test");
    assert_in_range(clock_now_ms() - before, 1100, 1800);
    world_stop(&w);
}

/* ---- several servers ---- */

static void a_server_without_use_gives_way_to_the_next(void **state)
{
    static const char *const words[] = {
        "servfail", "refused", "formerr", "notimp", "silent", "nora", "loop", "tc", "wrong-id wrong-only"};
    static const struct scripted_row good[] = {{"x.test", "MX", "ad", "x.test 300 MX 1 mx.x.test"}};

    for (size_t i = 0; i < COUNT_OF(words); i++) {
        bool lame = strcmp(words[i], "nora") == 0;
        struct scripted_row bad[] = {
            {"x.test", "MX", words[i], lame ? "!test 300 NS a.test" : "x.test 300 MX 9 bad.test"}};
        struct world w;
        world_start(&w, bad, 1);
        world_more(&w, good, 1);
        world_resolver(&w);
        /* The second server's AD bit does not count. */
        assert_string_equal(ask(&w, "MX", "x.test"), "ok 1:mx.x.test");
        world_stop(&w);
    }
}

static void a_silent_server_is_asked_last_for_a_while(void **state)
{
    static const struct scripted_row dead[] = {{"*", NULL, "silent", NULL}};
    static const struct scripted_row good[] = {{"*", "MX", NULL, "x.test 300 MX 1 mx.x.test"}};
    struct world w;

    world_start(&w, dead, 1);
    world_more(&w, good, 1);
    world_resolver(&w);
    ask(&w, "MX", "a.test");
    assert_int_equal(w.servers[0].udp_questions, 1);
    for (int i = 0; i < 5; i++) {
        char name[32];
        snprintf(name, sizeof(name), "b%d.test", i);
        ask(&w, "MX", name);
    }
    assert_int_equal(w.servers[0].udp_questions, 1);
    assert_int_equal(w.servers[1].udp_questions, 6);
    world_stop(&w);
}

static void a_closed_port_is_noticed_at_once(void **state)
{
    static const struct scripted_row good[] = {{"x.test", "MX", NULL, "x.test 300 MX 1 mx.x.test"}};
    struct world w;
    char *why = NULL;

    world_start(&w, good, 1);
    struct dns_config c = config_of(&w);
    c.server_count = 2;
    c.servers[1] = c.servers[0];
    c.servers[0].port = 1;
    c.timeout_ms = 3000;
    c.total_ms = 9000;
    assert_int_equal(dns_create(&w.loop, &c, &w.d, &why), OK);
    uint64_t before = clock_now_ms();
    assert_string_equal(ask(&w, "MX", "x.test"), "ok 1:mx.x.test");
    assert_true(clock_now_ms() - before < 1000);
    world_stop(&w);
}

static void refusing_servers_are_not_hammered(void **state)
{
    struct world w;
    char *why = NULL;

    world_start(&w, NULL, 0);
    struct dns_config c = config_of(&w);
    c.servers[0].port = 1;
    assert_int_equal(dns_create(&w.loop, &c, &w.d, &why), OK);
    assert_string_equal(ask(&w, "MX", "x.test"), "timeout");
    struct dns_stats stats;
    dns_stats(w.d, &stats);
    assert_in_range(stats.queries, 2, 6);
    world_stop(&w);
}

static void a_server_without_edns_is_remembered(void **state)
{
    static const struct scripted_row rows[] = {{"*", "MX", "edns-formerr", "x.test 300 MX 1 mx.test"}};
    struct world w;

    world_start(&w, rows, 1);
    world_resolver(&w);
    ask(&w, "MX", "a.test");
    ask(&w, "MX", "b.test");
    ask(&w, "MX", "c.test");
    assert_int_equal(w.servers[0].edns_questions, 1);
    assert_int_equal(w.servers[0].udp_questions, 4);
    world_stop(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_has_its_result),
        cmocka_unit_test(of_500_mail_hosts_the_best_are_kept),
        cmocka_unit_test(chains_of_16_are_followed_and_longer_ones_are_not),
        cmocka_unit_test(a_slow_chain_ends_with_the_time_of_the_question),
        cmocka_unit_test(a_server_without_use_gives_way_to_the_next),
        cmocka_unit_test(a_silent_server_is_asked_last_for_a_while),
        cmocka_unit_test(a_closed_port_is_noticed_at_once),
        cmocka_unit_test(refusing_servers_are_not_hammered),
        cmocka_unit_test(a_server_without_edns_is_remembered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
