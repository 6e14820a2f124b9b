/* From a host to its TLSA records, RFC 7672 §2.2.2 and §2.2.3, against a resolver that answers by rows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "engine/dane/dane.h"
#include "tests/unit/engine/dns/resolver_world.h"

#define A32        "4141414141414141414141414141414141414141414141414141414141414141"
#define TLSA(name) "_25._tcp." name " 300 TLSA 030101" A32

static const struct scripted_row tlsa_zone[] = {
    {"_25._tcp.mx.test", "TLSA", "ad", TLSA("mx.test")},
    {"_465._tcp.mx.test", "TLSA", "ad", "_465._tcp.mx.test 300 TLSA 020001" A32},
    {"_25._tcp.pkix.test", "TLSA", "ad", "_25._tcp.pkix.test 300 TLSA 010101" A32},
    {"_25._tcp.insecure.test", "TLSA", "", TLSA("insecure.test")},
    {"_25._tcp.nodata.test", "TLSA", "ad", "!nodata.test 300 SOA ns.test root.test 60"},
    {"_25._tcp.gone.test", "TLSA", "ad nxdomain", "!test 300 SOA ns.test root.test 60"},
    {"_25._tcp.gone-insecure.test", "TLSA", "nxdomain", "!test 300 SOA ns.test root.test 60"},
    {"_25._tcp.servfail.test", "TLSA", "servfail", NULL},
    {"_25._tcp.refused.test", "TLSA", "refused", NULL},
    {"_25._tcp.silent.test", "TLSA", "silent", NULL},
    {"_25._tcp.cut.test", "TLSA", "udp tc", NULL},
    {"_25._tcp.cut.test", "TLSA", "tcp ad", "60* _25._tcp.cut.test 300 TLSA 030101%064x"},
    {"_25._tcp.many.test", "TLSA", "udp tc", NULL},
    {"_25._tcp.many.test", "TLSA", "tcp ad", "65* _25._tcp.many.test 300 TLSA 030101%064x"},
    {"_25._tcp.loop.test", "TLSA", "ad", "_25._tcp.loop.test 300 CNAME _25._tcp.loop.test"},

    /* the TLSA name itself may be an alias, all of it signed or not */
    {"_25._tcp.moved.test", "TLSA", "ad",
     "_25._tcp.moved.test 300 CNAME shared.test; shared.test 300 TLSA 030101" A32},
    {"_25._tcp.moved-far.test", "TLSA", "ad", "_25._tcp.moved-far.test 300 CNAME unsigned.test"},
    {"unsigned.test", "TLSA", "", "unsigned.test 300 TLSA 030101" A32},

    /* aliases: both have records; only the end; only the beginning; none */
    {"_25._tcp.both.test", "TLSA", "ad", TLSA("both.test")},
    {"_25._tcp.both-end.test", "TLSA", "ad", TLSA("both-end.test")},
    {"_25._tcp.end.test", "TLSA", "ad", TLSA("end.test")},
    {"_25._tcp.first.test", "TLSA", "ad", TLSA("first.test")},
    {"_25._tcp.first-end.test", "TLSA", "ad", "!first-end.test 300 SOA ns.test root.test 60"},
    {"_25._tcp.first-insecure-end.test", "TLSA", "", TLSA("first-insecure-end.test")},
    {"_25._tcp.first-bogus-end.test", "TLSA", "servfail", NULL},

    /* addresses not signed, and the alias record signed, not signed, not there, failing */
    {"alias.test", "CNAME", "ad", "alias.test 300 CNAME far.test"},
    {"_25._tcp.alias.test", "TLSA", "ad", TLSA("alias.test")},
    {"alias-plain.test", "CNAME", "", "alias-plain.test 300 CNAME far.test"},
    {"_25._tcp.alias-plain.test", "TLSA", "ad", TLSA("alias-plain.test")},
    {"alias-nodata.test", "CNAME", "ad", "!alias-nodata.test 300 SOA ns.test root.test 60"},
    {"alias-servfail.test", "CNAME", "servfail", NULL},
    {"alias-silent.test", "CNAME", "silent", NULL},
    {"alias-bogus.test", "CNAME", "ad", "alias-bogus.test 300 CNAME far.test"},
    {"_25._tcp.alias-bogus.test", "TLSA", "servfail", NULL},
    {"alias-none.test", "CNAME", "ad", "alias-none.test 300 CNAME far.test"},
    {"_25._tcp.alias-none.test", "TLSA", "ad nxdomain", "!test 300 SOA ns.test root.test 60"},
};

#define LABEL62 "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffgg"
#define LONG    LABEL62 "." LABEL62 "." LABEL62 "." LABEL62

static const struct {
    const char *host, *canonical;
    uint16_t port;
    bool secure;
    const char *want; /* state, base, records that count */
    unsigned questions;
    const char *why; /* a part of it */
} rows[] = {
    {"mx.test", "mx.test", 25, true, "usable mx.test 1", 1, NULL},
    {"MX.Test.", "mx.test", 25, true, "usable mx.test 1", 1, NULL},
    {"mx.test", "mx.test", 465, true, "usable mx.test 1", 1, NULL},
    {"mx.test", NULL, 25, true, "usable mx.test 1", 1, NULL},
    {"pkix.test", "pkix.test", 25, true, "unusable pkix.test 0", 1, "usable"},
    {"nodata.test", "nodata.test", 25, true, "absent  0", 1, "no TLSA records"},
    {"gone.test", "gone.test", 25, true, "absent  0", 1, "no TLSA records"},
    {"gone-insecure.test", "gone-insecure.test", 25, true, "absent  0", 1, "no TLSA records"},
    {"insecure.test", "insecure.test", 25, true, "absent  0", 1, "not signed"},
    {"servfail.test", "servfail.test", 25, true, "failed  0", 1,
     "TLSA lookup for servfail.test failed: servfail"},
    {"refused.test", "refused.test", 25, true, "failed  0", 1, "servfail"},
    {"silent.test", "silent.test", 25, true, "failed  0", 0, "timeout"},
    {"loop.test", "loop.test", 25, true, "failed  0", 0, "cname-loop"},
    {"cut.test", "cut.test", 25, true, "usable cut.test 60", 1, NULL},
    {"many.test", "many.test", 25, true, "failed  0", 1, "65 TLSA records"},
    {"moved.test", "moved.test", 25, true, "usable moved.test 1", 1, NULL},
    {"moved-far.test", "moved-far.test", 25, true, "absent  0", 2, "not signed"},

    {"mx.test", "mx.test", 25, false, "absent  0", 0, "addresses of the host are not signed"},
    {"servfail.test", "servfail.test", 25, false, "absent  0", 0,
     "not signed"}, /* never asked: outlook.com */
    {"192.0.2.1", "192.0.2.1", 25, true, "absent  0", 0, "not given by name"},
    {"[192.0.2.1]", "192.0.2.1", 25, true, "absent  0", 0, "not given by name"},
    {"2001:db8::1", "2001:db8::1", 25, true, "absent  0", 0, "not given by name"},
    {"", "", 25, true, "absent  0", 0, "not given by name"},
    {LONG, LONG, 25, true, "absent  0", 0, "too long"},

    {"both.test", "both-end.test", 25, true, "usable both-end.test 1", 1, NULL},
    {"to-end.test", "end.test", 25, true, "usable end.test 1", 1, NULL},
    {"first.test", "first-end.test", 25, true, "usable first.test 1", 2, NULL},
    {"first.test", "first-insecure-end.test", 25, true, "usable first.test 1", 2, NULL},
    {"first.test", "first-bogus-end.test", 25, true, "failed  0", 1, "first-bogus-end.test"},
    {"first.test", LONG, 25, true, "usable first.test 1", 1, NULL},
    {"nodata.test", "gone.test", 25, true, "absent  0", 2, "nodata.test has no TLSA records"},
    {"servfail.test", "gone.test", 25, true, "failed  0", 2, "servfail.test"},

    {"alias.test", "far.test", 25, false, "usable alias.test 1", 2, NULL},
    {"alias-plain.test", "far.test", 25, false, "absent  0", 1, "nor its alias record"},
    {"alias-nodata.test", "far.test", 25, false, "absent  0", 1, "nor its alias record"},
    {"alias-servfail.test", "far.test", 25, false, "failed  0", 1,
     "CNAME lookup for alias-servfail.test failed"},
    {"alias-silent.test", "far.test", 25, false, "failed  0", 0, "timeout"},
    {"alias-bogus.test", "far.test", 25, false, "failed  0", 2, "TLSA lookup for alias-bogus.test"},
    {"alias-none.test", "far.test", 25, false, "absent  0", 2, "no TLSA records"},
};

struct answer {
    unsigned callbacks;
    char text[300];
    char why[600];
    uint32_t ttl_s;
};

static void on_records(void *arg, struct dane_records *r)
{
    struct answer *a = arg;

    a->callbacks++;
    snprintf(a->text, sizeof(a->text), "%s %s %zu", dane_state_name(r->state), r->base, r->count);
    snprintf(a->why, sizeof(a->why), "%s", r->why ? r->why : "");
    a->ttl_s = r->ttl_s;
}

static void wait_for_answer(struct world *w, struct answer *a, struct dane_query *q)
{
    assert_non_null(q);
    assert_int_equal(a->callbacks, 0); /* never from inside */
    while (!a->callbacks && uv_run(&w->loop, UV_RUN_ONCE))
        ;
    assert_int_equal(a->callbacks, 1);
}

static unsigned questions_at(const struct world *w)
{
    return w->servers[0].udp_questions;
}

static void close_resolver(struct world *w)
{
    w->closed = false;
    dns_close(w->d, on_closed, w);
    while (!w->closed)
        uv_run(&w->loop, UV_RUN_ONCE);
    w->d = NULL;
}

static void every_host_has_its_records(void **state)
{
    struct world w;

    (void)state;
    world_start(&w, tlsa_zone, COUNT_OF(tlsa_zone));
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct dane_question q = {rows[i].host, rows[i].canonical, rows[i].port, rows[i].secure};
        struct answer a = {0};
        unsigned before = questions_at(&w);
        world_resolver(&w); /* a fresh one: rows do not meet in the cache */
        wait_for_answer(&w, &a, dane_lookup(w.d, &q, on_records, &a));
        if (strcmp(a.text, rows[i].want) != 0)
            fail_msg("%s %s: %s (%s), not %s", rows[i].host, rows[i].canonical, a.text, a.why, rows[i].want);
        if (rows[i].why && !strstr(a.why, rows[i].why))
            fail_msg("%s %s: why is \"%s\"", rows[i].host, rows[i].canonical, a.why);
        if ((rows[i].questions || strstr(rows[i].want, "absent")) &&
            questions_at(&w) - before != rows[i].questions)
            fail_msg("%s: %u questions, not %u", rows[i].host, questions_at(&w) - before, rows[i].questions);
        close_resolver(&w);
    }
    world_stop(&w);
}

static void answers_of_a_server_that_is_not_trusted_are_not_signed(void **state)
{
    struct world w;
    struct dane_question q = {"mx.test", "mx.test", 25, true};
    struct answer a = {0};

    (void)state;
    world_start(&w, tlsa_zone, COUNT_OF(tlsa_zone));
    struct dns_config c = config_of(&w);
    char *why = NULL;
    c.servers[0].trusted_ad = false;
    assert_int_equal(dns_create(&w.loop, &c, &w.d, &why), OK);
    wait_for_answer(&w, &a, dane_lookup(w.d, &q, on_records, &a));
    assert_string_equal(a.text, "absent  0");
    assert_string_equal(a.why, "the TLSA records of mx.test are not signed");
    world_stop(&w);
}

/* Without it a resolver that strips signatures would jam or, worse, be believed by halves. */
static void a_resolver_known_not_to_validate_is_not_asked(void **state)
{
    static const struct {
        int probe;
        const char *want, *why;
    } probes[] = {
        {DNSSEC_UNKNOWN, "usable mx.test 1", ""},
        {DNSSEC_WORKS, "usable mx.test 1", ""},
        {DNSSEC_UNREACHABLE, "usable mx.test 1", ""},
        {DNSSEC_NOT_VALIDATING, "absent  0", "the resolver does not validate"},
        {DNSSEC_NOT_TRUSTED, "absent  0", "the resolver is not trusted to validate"},
    };
    struct dane_question q = {"mx.test", "mx.test", 25, true};
    struct world w;

    (void)state;
    world_start(&w, tlsa_zone, COUNT_OF(tlsa_zone));
    for (size_t i = 0; i < COUNT_OF(probes); i++) {
        struct answer a = {0};
        struct dns_config c = config_of(&w);
        char *why = NULL;
        atomic_int dnssec;
        atomic_init(&dnssec, probes[i].probe);
        c.dnssec = &dnssec;
        assert_int_equal(dns_create(&w.loop, &c, &w.d, &why), OK);
        wait_for_answer(&w, &a, dane_lookup(w.d, &q, on_records, &a));
        assert_string_equal(a.text, probes[i].want);
        assert_string_equal(a.why, probes[i].why);
        close_resolver(&w);
    }
    world_stop(&w);
}

static void a_cancelled_lookup_makes_no_callback(void **state)
{
    struct world w;
    struct answer a = {0}, other = {0};
    struct dane_question asked = {"mx.test", "mx.test", 25, true},
                         unasked = {"mx.test", "mx.test", 25, false};
    struct dane_question alias = {"alias.test", "far.test", 25, false};

    (void)state;
    world_start(&w, tlsa_zone, COUNT_OF(tlsa_zone));
    world_resolver(&w);
    dane_cancel(dane_lookup(w.d, &asked, on_records, &a));
    dane_cancel(dane_lookup(w.d, &unasked, on_records, &a));
    struct dane_query *half = dane_lookup(w.d, &alias, on_records, &a);
    while (questions_at(&w) < 2 && uv_run(&w.loop, UV_RUN_ONCE)) /* its CNAME is known, its TLSA under way */
        ;
    dane_cancel(half);
    dane_cancel(NULL);
    wait_for_answer(&w, &other, dane_lookup(w.d, &asked, on_records, &other));
    assert_int_equal(a.callbacks, 0);
    world_stop(&w);
}

static void the_cache_answers_the_second_time(void **state)
{
    struct world w;
    struct dane_question q = {"first.test", "first-end.test", 25, true};

    (void)state;
    world_start(&w, tlsa_zone, COUNT_OF(tlsa_zone));
    world_resolver(&w);
    for (unsigned i = 0; i < 3; i++) {
        struct answer a = {0};
        wait_for_answer(&w, &a, dane_lookup(w.d, &q, on_records, &a));
        assert_string_equal(a.text, "usable first.test 1");
        assert_true(a.ttl_s > 290 && a.ttl_s <= 300);
    }
    assert_int_equal(questions_at(&w), 2);
    world_stop(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_host_has_its_records),
        cmocka_unit_test(answers_of_a_server_that_is_not_trusted_are_not_signed),
        cmocka_unit_test(a_resolver_known_not_to_validate_is_not_asked),
        cmocka_unit_test(a_cancelled_lookup_makes_no_callback),
        cmocka_unit_test(the_cache_answers_the_second_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
