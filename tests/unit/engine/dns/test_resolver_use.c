/* Who asks the resolver: joining, the cache, limits, addresses, cancelling and closing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "tests/unit/engine/dns/resolver_world.h"

/* ---- cache and joining ---- */

static void an_answer_is_asked_for_once(void **state)
{
    static const struct {
        const char *name;
        unsigned asked;
    } cases[] = {
        {"plain.test", 1}, {"gone.test", 1}, {"nomx.test", 1}, {"servfail.test", 1}, {"self.test", 1}};

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct world w;
        world_start(&w, zone, zone_count);
        world_resolver(&w);
        for (int n = 0; n < 50; n++)
            assert_non_null(dns_resolve_mx(w.d, cases[i].name, on_mx, &w));
        wait_for(&w, 50);
        ask(&w, "MX", cases[i].name);
        assert_int_equal(w.servers[0].udp_questions, cases[i].asked);
        dns_flush(w.d);
        ask(&w, "MX", cases[i].name);
        assert_int_equal(w.servers[0].udp_questions, 2 * cases[i].asked);
        world_stop(&w);
    }
}

static void ttl_0_and_beyond_2_31_serve_those_who_wait_and_nobody_after(void **state)
{
    static const struct scripted_row rows[] = {
        {"zero.test", "MX", NULL, "zero.test 0 MX 1 mx.test"},
        {"huge.test", "MX", NULL, "huge.test 2147483648 MX 1 mx.test"}};
    static const char *const names[] = {"zero.test", "huge.test"};

    for (size_t i = 0; i < COUNT_OF(names); i++) {
        struct world w;
        world_start(&w, rows, COUNT_OF(rows));
        world_resolver(&w);
        for (int n = 0; n < 10; n++)
            dns_resolve_mx(w.d, names[i], on_mx, &w);
        assert_string_equal(wait_for(&w, 10), "ok 1:mx.test");
        assert_int_equal(w.servers[0].udp_questions, 1);
        ask(&w, "MX", names[i]);
        assert_int_equal(w.servers[0].udp_questions, 2);
        world_stop(&w);
    }
}

static void only_so_many_questions_are_under_way_and_all_are_answered(void **state)
{
    static const struct scripted_row rows[] = {{"*", "MX", "slow", "x.test 300 MX 1 mx.test"}};
    struct world w;

    world_start(&w, rows, 1);
    struct dns_config c = config_of(&w);
    char *why = NULL;
    c.timeout_ms = 2000;
    c.total_ms = 20000;
    assert_int_equal(dns_create(&w.loop, &c, &w.d, &why), OK);
    for (int i = 0; i < 1200; i++) {
        char name[32];
        snprintf(name, sizeof(name), "q%d.test", i);
        dns_resolve_mx(w.d, name, on_mx, &w);
    }
    assert_int_equal(w.d->active_count, DNS_BURST_MAX);
    size_t most = 0;
    while (w.callbacks < 1200) {
        uv_run(&w.loop, UV_RUN_ONCE);
        most = MAX_OF(most, w.d->active_count);
        assert_true(w.d->active_count <= DNS_LOOKUPS_MAX);
    }
    assert_true(most > 2 * DNS_BURST_MAX); /* slow ones do not hold up the others */
    assert_int_equal(w.d->young_count, 0);
    assert_int_equal(w.failures, 0);
    assert_int_equal(w.d->active_count, 0);
    world_stop(&w);
}

static void the_time_in_line_is_not_counted(void **state)
{
    static const struct scripted_row rows[] = {{"good.test", "MX", NULL, "good.test 300 MX 1 mx.test"},
                                               {"*", "MX", "silent", NULL}};
    struct world w;
    char *why = NULL;

    world_start(&w, rows, COUNT_OF(rows));
    struct dns_config c = config_of(&w);
    c.timeout_ms = c.total_ms = 1000;
    assert_int_equal(dns_create(&w.loop, &c, &w.d, &why), OK);
    for (int i = 0; i < DNS_LOOKUPS_MAX; i++) {
        char name[32];
        snprintf(name, sizeof(name), "q%d.test", i);
        dns_resolve_mx(w.d, name, on_mx, &w);
    }
    dns_resolve_mx(w.d, "good.test", on_mx,
                   &w); /* its turn comes when the first of those before it have died */
    wait_for(&w, DNS_LOOKUPS_MAX + 1);
    assert_int_equal(w.failures, DNS_LOOKUPS_MAX);
    world_stop(&w);
}

static void ids_and_source_ports_are_not_guessable(void **state)
{
    static const struct scripted_row rows[] = {{"*", "MX", NULL, "x.test 300 MX 1 mx.test"}};
    unsigned same_port = 0, steps = 0;
    struct world w;

    world_start(&w, rows, 1);
    world_resolver(&w);
    for (int i = 0; i < 200; i++) {
        char name[32];
        snprintf(name, sizeof(name), "q%d.test", i);
        ask(&w, "MX", name);
    }
    for (int i = 1; i < 200; i++) {
        same_port += w.servers[0].ports[i] == w.servers[0].ports[i - 1];
        steps += (uint16_t)(w.servers[0].ids[i] - w.servers[0].ids[i - 1]) < 16;
    }
    assert_true(same_port < 5);
    assert_true(steps < 5);
    world_stop(&w);
}

/* ---- addresses ---- */

static void a_dead_family_does_not_hold_up_the_other(void **state)
{
    static const struct scripted_row rows[] = {{"x.test", "A", NULL, "x.test 300 A 192.0.2.1"},
                                               {"x.test", "AAAA", "silent", NULL}};
    struct world w;
    char *why = NULL;

    world_start(&w, rows, COUNT_OF(rows));
    struct dns_config c = config_of(&w);
    c.timeout_ms = 1500;
    c.total_ms = 3500;
    assert_int_equal(dns_create(&w.loop, &c, &w.d, &why), OK);
    uint64_t before = clock_now_ms();
    assert_string_equal(ask(&w, "HOST", "x.test"), "ok x.test 192.0.2.1");
    assert_in_range(clock_now_ms() - before, DNS_SECOND_FAMILY_MS - 100, DNS_SECOND_FAMILY_MS + 900);
    while (w.d->active_count)
        uv_run(&w.loop, UV_RUN_ONCE);
    before = clock_now_ms(); /* by now it is known that nobody answers for AAAA */
    assert_string_equal(ask(&w, "HOST", "x.test"), "ok x.test 192.0.2.1");
    assert_true(clock_now_ms() - before < 200);
    world_stop(&w);
}

static void without_ipv6_nobody_asks_for_aaaa(void **state)
{
    struct world w;
    char *why = NULL;

    world_start(&w, zone, zone_count);
    struct dns_config c = config_of(&w);
    c.ipv6 = false;
    assert_int_equal(dns_create(&w.loop, &c, &w.d, &why), OK);
    assert_string_equal(ask(&w, "HOST", "a.plain.test"), "ok a.plain.test 192.0.2.1! 192.0.2.2!");
    assert_int_equal(w.servers[0].udp_questions, 1);
    world_stop(&w);
}

struct order {
    unsigned callbacks, first[256];
};

static void on_order(void *arg, const struct dns_host *h)
{
    struct order *o = arg;

    assert_int_equal(h->count, 7);
    for (size_t i = 0; i < 6; i++) /* four and three: six, four, six, four … and the rest */
        assert_int_equal(h->addresses[i].ip.family, i % 2 ? 4 : 6);
    o->first[h->addresses[1].ip.octets[3]]++;
    o->callbacks++;
}

static void families_alternate_and_each_is_shuffled(void **state)
{
    static const struct scripted_row rows[] = {
        {"x.test", "A", NULL,
         "x.test 300 A 192.0.2.1; x.test 300 A 192.0.2.2; x.test 300 A 192.0.2.3; x.test 300 A 192.0.2.4"},
        {"x.test", "AAAA", NULL,
         "x.test 300 AAAA 2001:db8::1; x.test 300 AAAA 2001:db8::2; x.test 300 AAAA 2001:db8::3"}};
    struct order o = {0};
    double chi = 0;
    struct world w;

    world_start(&w, rows, COUNT_OF(rows));
    world_resolver(&w);
    for (unsigned n = 1; n <= 1000; n++) {
        dns_resolve_host(w.d, "x.test", on_order, &o);
        while (o.callbacks < n)
            uv_run(&w.loop, UV_RUN_ONCE);
    }
    for (int i = 1; i <= 4; i++)
        chi += (o.first[i] - 250.0) * (o.first[i] - 250.0) / 250.0;
    assert_true(chi < 21.1); /* three degrees of freedom, one false alarm in ten thousand */
    world_stop(&w);
}

/* ---- cancelling and closing ---- */

static void a_cancelled_question_makes_no_callback(void **state)
{
    static const char *const names[] = {"plain.test", "silent.test", "alias.test", "[192.0.2.1]", "a..b"};
    struct world w;

    world_start(&w, zone, zone_count);
    world_resolver(&w);
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        dns_cancel(dns_resolve_mx(w.d, names[i], on_mx, &w));
        dns_cancel(dns_resolve_host(w.d, names[i], on_host, &w));
        dns_cancel(dns_resolve_rrset(w.d, names[i], 16, on_rrset, &w));
        struct dns_query *late = dns_resolve_mx(w.d, names[i], on_mx, &w);
        uv_run(&w.loop, UV_RUN_NOWAIT);
        if (!w.callbacks)
            dns_cancel(late);
        w.callbacks = 0;
    }
    dns_cancel(NULL);
    /* One of two who wait for the same goes away; the other still hears. */
    struct dns_query *first = dns_resolve_mx(w.d, "half-null.test", on_mx, &w);
    dns_resolve_mx(w.d, "half-null.test", on_mx, &w);
    dns_cancel(first);
    assert_string_equal(wait_for(&w, 1), "ok skipped=1 5:mx.half-null.test");
    assert_int_equal(w.d->active_count, 0);
    world_stop(&w);
}

struct trouble {
    struct world *w;
    struct dns_query *own, *others[8];
    unsigned callbacks;
    bool close;
};

static void on_trouble(void *arg, const struct dns_mx *mx)
{
    struct trouble *t = arg;

    t->callbacks++;
    dns_cancel(t->own); /* harmless: it ends with this call */
    for (size_t i = 0; i < COUNT_OF(t->others); i++)
        dns_cancel(TAKE(t->others[i]));
    if (t->close) {
        dns_close(TAKE(t->w->d), on_closed, t->w);
        return;
    }
    dns_resolve_mx(t->w->d, "plain.test", on_mx, t->w);
}

static void a_callback_may_cancel_the_others_ask_again_or_close_all(void **state)
{
    for (int close = 0; close < 2; close++) {
        for (int cached = 0; cached < 2; cached++) {
            struct world w;
            struct trouble t = {.w = &w, .close = close};
            world_start(&w, zone, zone_count);
            world_resolver(&w);
            if (cached)
                ask(&w, "MX", "plain.test");
            w.callbacks = 0;
            t.own = dns_resolve_mx(w.d, "plain.test", on_trouble, &t);
            for (size_t i = 0; i < COUNT_OF(t.others); i++)
                t.others[i] = dns_resolve_mx(w.d, i % 2 ? "plain.test" : "silent.test", on_trouble, &t);
            struct dns_query *left = dns_resolve_mx(w.d, "nomx.test", on_mx, &w);
            assert_non_null(left);
            while (!t.callbacks || (!close && w.callbacks < 2))
                uv_run(&w.loop, UV_RUN_ONCE);
            assert_int_equal(t.callbacks, 1);
            if (!close)
                world_stop(&w);
            else {
                while (!w.closed)
                    uv_run(&w.loop, UV_RUN_ONCE);
                assert_int_equal(w.callbacks, 0);
                world_stop(&w);
            }
        }
    }
}

static void closing_while_questions_are_under_way_is_quiet(void **state)
{
    struct world w;

    world_start(&w, zone, zone_count);
    world_resolver(&w);
    for (int i = 0; i < 900; i++) {
        char name[32];
        snprintf(name, sizeof(name), "q%d.test", i);
        dns_resolve_mx(w.d, name, on_mx, &w);
    }
    dns_resolve_mx(w.d, "silent.test", on_mx, &w);
    dns_resolve_mx(w.d, "cut-silent.test", on_mx, &w);
    dns_resolve_host(w.d, "192.0.2.1", on_host, &w);
    world_stop(&w);
    assert_int_equal(w.callbacks, 0);
}

/* ---- scarcity ---- */

static void a_lack_of_descriptors_is_waited_out(void **state)
{
    struct rlimit limit, few;
    struct world w;
    int fds[64];

    world_start(&w, zone, zone_count);
    world_resolver(&w);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    int top = dup(0);
    few = limit;
    few.rlim_cur = (rlim_t)top + 3;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    size_t n = 0;
    while (n < COUNT_OF(fds) && (fds[n] = dup(0)) >= 0)
        n++;
    dns_resolve_mx(w.d, "plain.test", on_mx, &w);
    dns_resolve_mx(w.d, "nomx.test", on_mx, &w);
    for (int i = 0; i < 3; i++)
        uv_run(&w.loop, UV_RUN_ONCE);
    assert_int_equal(w.callbacks, 0);
    assert_int_equal(w.servers[0].udp_questions, 0);
    while (n)
        close(fds[--n]);
    close(top);
    wait_for(&w, 2);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    world_stop(&w);
}

static void a_known_answer_costs_microseconds(void **state)
{
    struct world w;
    const unsigned rounds = 200, each = 500;

    world_start(&w, zone, zone_count);
    world_resolver(&w);
    ask(&w, "MX", "plain.test");
    uint64_t before = clock_now_us();
    for (unsigned r = 0; r < rounds; r++) {
        for (unsigned i = 0; i < each; i++)
            dns_resolve_mx(w.d, "plain.test", on_mx, &w);
        wait_for(&w, 1 + (r + 1) * each);
    }
    double us = (double)(clock_now_us() - before) / (rounds * each);
    printf("us_per_cached_mx=%.2f\n", us);
    assert_true(us < 2000); /* it fails when something is amiss, under valgrind and sanitizers as well */
    world_stop(&w);
}

static void wrong_configurations_are_refused_with_a_reason(void **state)
{
    struct dns_config none = {.server_count = 1}, many = {.server_count = 9};
    struct dns *d = NULL;
    char *why = NULL;

    assert_int_equal(dns_create(uv_default_loop(), &none, &d, &why), ERR_INVALID);
    assert_non_null(why);
    mem_free(why);
    why = NULL;
    assert_int_equal(dns_create(uv_default_loop(), &many, &d, &why), ERR_INVALID);
    assert_non_null(why);
    mem_free(why);
    assert_null(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_is_asked_for_once),
        cmocka_unit_test(ttl_0_and_beyond_2_31_serve_those_who_wait_and_nobody_after),
        cmocka_unit_test(only_so_many_questions_are_under_way_and_all_are_answered),
        cmocka_unit_test(the_time_in_line_is_not_counted),
        cmocka_unit_test(ids_and_source_ports_are_not_guessable),
        cmocka_unit_test(a_dead_family_does_not_hold_up_the_other),
        cmocka_unit_test(without_ipv6_nobody_asks_for_aaaa),
        cmocka_unit_test(families_alternate_and_each_is_shuffled),
        cmocka_unit_test(a_cancelled_question_makes_no_callback),
        cmocka_unit_test(a_callback_may_cancel_the_others_ask_again_or_close_all),
        cmocka_unit_test(closing_while_questions_are_under_way_is_quiet),
        cmocka_unit_test(a_lack_of_descriptors_is_waited_out),
        cmocka_unit_test(a_known_answer_costs_microseconds),
        cmocka_unit_test(wrong_configurations_are_refused_with_a_reason),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
