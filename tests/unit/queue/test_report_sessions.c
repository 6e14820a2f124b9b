#include "tests/unit/queue/history_help.h"

#include "queue/report_sessions.h"

/* One session, so many times; NULL is none. */
struct told {
    const char *domain, *mx, *remote, *source, *helo;
    enum tlsrpt_policy type;
    const char *policy_text, *policy_mx;
    enum tls_failure failure;
    const char *reason;
    bool counted;
    int64_t at_s; /* from noon */
    unsigned times;
};

#define STS_TEXT "version: STSv1\nmode: enforce\nmx: *.a.example\nmax_age: 86400"
static const struct told told[] = {
    {"a.example", "mx1.a.example", "192.0.2.1:25", "127.0.0.1", "mx1", TLSRPT_STS, STS_TEXT, "*.a.example",
     TLS_FAILURE_NONE, NULL, true, 0, 5},
    {"a.example", "mx2.a.example", "192.0.2.2:25", "127.0.0.1", "mx2", TLSRPT_STS, STS_TEXT, "*.a.example",
     TLS_FAILURE_NONE, NULL, true, 60, 3},
    {"a.example", "mx2.a.example", "[2001:db8::2]:25", "::1", "mx2", TLSRPT_STS, STS_TEXT, "*.a.example",
     TLS_FAILURE_CERTIFICATE_EXPIRED, "ended 2026-11-01", true, 61, 2},
    {"a.example", "mx2.a.example", "192.0.2.2:25", "127.0.0.1", "mx2", TLSRPT_STS, STS_TEXT, "*.a.example",
     TLS_FAILURE_CERTIFICATE_EXPIRED, "ended 2026-11-01", true, 62, 1},
    {"a.example", "mx1.a.example", "192.0.2.1:25", "127.0.0.1", NULL, TLSRPT_NO_POLICY, NULL, NULL,
     TLS_FAILURE_STARTTLS_NOT_SUPPORTED, NULL, true, 63, 4},
    {"a.example", "mx1.a.example", "192.0.2.1:25", NULL, NULL, TLSRPT_NO_POLICY, NULL, NULL, TLS_FAILURE_NONE,
     NULL, false, 64, 7}, /* not counted */
    {"b.example", "mx.b.example", NULL, NULL, NULL, TLSRPT_TLSA, "3 1 1 AB\n2 0 1 CD", NULL,
     TLS_FAILURE_DNSSEC_INVALID, "SERVFAIL", true, 65, 6},
    {"b.example", "mx.b.example", "192.0.2.9:2525", "127.0.0.1", "b", TLSRPT_TLSA, "3 1 1 AB\n2 0 1 CD", NULL,
     TLS_FAILURE_NONE, NULL, true, 3 * SECS_PER_DAY, 9}, /* another day */
};

static void add_session(struct attempt_batch *b, const struct told *t, int64_t at_s)
{
    struct session_record *r = attempt_batch_add_session(b);

    r->at_unix_ms = (NOON + at_s) * 1000;
    r->policy_version = 3;
    r->group = "default";
    r->domain = t->domain;
    r->mx = t->mx;
    r->remote = t->remote;
    r->source = t->source;
    r->helo = t->helo;
    r->policy_type = t->type;
    r->policy_text = t->policy_text;
    r->policy_mx = t->policy_mx;
    r->tls_failure = t->failure;
    r->reason = t->reason;
    r->counted = t->counted;
}

static void post_sessions(struct world *w, struct attempt_batch *b)
{
    history_post(w->h, b);
    for (int i = 0; i < 10000 && history_backlog(w->h); i++)
        usleep(1000);
    assert_int_equal(history_backlog(w->h), 0);
}

static void tell(struct world *w)
{
    for (size_t i = 0; i < COUNT_OF(told); i++) {
        struct attempt_batch *b = attempt_batch_create();
        for (unsigned n = 0; n < told[i].times; n++)
            add_session(b, &told[i], told[i].at_s);
        test_wall_ms = (NOON + told[i].at_s) * 1000;
        post_sessions(w, b);
    }
}

struct want {
    const char *domain;
    enum tlsrpt_policy type;
    const char *policy_mx;
    enum tls_failure failure;
    const char *mx, *receiving_ip, *sending_ip, *helo, *reason;
    uint64_t count;
};

static void assert_sums(const struct report_sessions *r, const struct want *want, size_t count)
{
    assert_int_equal(r->count, count);
    assert_int_equal(r->files_skipped, 0);
    for (size_t i = 0; i < count; i++) {
        const struct report_session_sum *s = &r->rows[i];
        assert_string_equal(s->domain, want[i].domain);
        assert_int_equal(s->policy_type, want[i].type);
        assert_string_equal(s->policy_text, want[i].type == TLSRPT_STS    ? STS_TEXT
                                            : want[i].type == TLSRPT_TLSA ? "3 1 1 AB\n2 0 1 CD"
                                                                          : "");
        assert_string_equal(s->policy_mx, want[i].policy_mx);
        assert_int_equal(s->failure, want[i].failure);
        assert_string_equal(s->mx, want[i].mx);
        assert_string_equal(s->receiving_ip, want[i].receiving_ip);
        assert_string_equal(s->sending_ip, want[i].sending_ip);
        assert_string_equal(s->helo, want[i].helo);
        assert_string_equal(s->reason, want[i].reason);
        assert_int_equal(s->count, want[i].count);
    }
}

static const struct want of_the_day[] = {
    {"a.example", TLSRPT_NO_POLICY, "", TLS_FAILURE_STARTTLS_NOT_SUPPORTED, "mx1.a.example", "192.0.2.1",
     "127.0.0.1", "", "", 4},
    {"a.example", TLSRPT_STS, "*.a.example", TLS_FAILURE_NONE, "", "", "", "", "", 8},
    {"a.example", TLSRPT_STS, "*.a.example", TLS_FAILURE_CERTIFICATE_EXPIRED, "mx2.a.example", "192.0.2.2",
     "127.0.0.1", "mx2", "ended 2026-11-01", 1},
    {"a.example", TLSRPT_STS, "*.a.example", TLS_FAILURE_CERTIFICATE_EXPIRED, "mx2.a.example", "2001:db8::2",
     "::1", "mx2", "ended 2026-11-01", 2},
    {"b.example", TLSRPT_TLSA, "", TLS_FAILURE_DNSSEC_INVALID, "mx.b.example", "", "", "", "SERVFAIL", 6},
};

static void a_day_is_summed_by_policy_and_failure_and_nothing_else_is_in_it(void **state)
{
    struct world *w = *state;
    struct report_sessions r;
    const struct report_sessions_query day = {.since_unix = DAY0 * SECS_PER_DAY,
                                              .until_unix = (DAY0 + 1) * SECS_PER_DAY};

    world_open(w, 0);
    tell(w);
    assert_int_equal(report_sessions(w->dir, &day, &r), OK);
    assert_sums(&r, of_the_day, COUNT_OF(of_the_day));
    report_sessions_fini(&r);

    struct report_sessions_query q = day;
    q.domain = "b.example";
    assert_int_equal(report_sessions(w->dir, &q, &r), OK);
    assert_sums(&r, &of_the_day[4], 1);
    report_sessions_fini(&r);

    q = (struct report_sessions_query){.since_unix = (DAY0 + 3) * SECS_PER_DAY};
    assert_int_equal(report_sessions(w->dir, &q, &r), OK);
    assert_int_equal(r.count, 1);
    assert_int_equal(r.rows[0].count, 9);
    report_sessions_fini(&r);

    q = day;
    q.all = true; /* what TLSRPT does not count is a row more */
    assert_int_equal(report_sessions(w->dir, &q, &r), OK);
    assert_int_equal(r.count, COUNT_OF(of_the_day) + 1);
    assert_int_equal(r.rows[0].count, 7);
    report_sessions_fini(&r);
}

static void the_bounds_of_a_span_are_exact(void **state)
{
    struct world *w = *state;
    struct report_sessions r;
    static const struct {
        int64_t since_s, until_s; /* from noon */
        uint64_t sum;
    } cases[] = {{60, 61, 3}, {61, 62, 2}, {62, 63, 1}, {61, 64, 7}, {0, 60, 5}, {1, 60, 0}};

    world_open(w, 0);
    tell(w);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const struct report_sessions_query q = {.since_unix = NOON + cases[i].since_s,
                                                .until_unix = NOON + cases[i].until_s};
        uint64_t sum = 0;
        assert_int_equal(report_sessions(w->dir, &q, &r), OK);
        for (size_t k = 0; k < r.count; k++)
            sum += r.rows[k].count;
        report_sessions_fini(&r);
        assert_int_equal(sum, cases[i].sum);
    }
}

static void words_that_stand_twice_after_a_restart_make_one_sum(void **state)
{
    struct world *w = *state;
    struct report_sessions r;

    for (int run = 0; run < 3; run++) {
        struct attempt_batch *b = attempt_batch_create();
        world_open(w, 0);
        add_session(b, &told[2], 61);
        post_sessions(w, b);
        history_close(w->h, 5000);
        w->h = NULL;
    }
    assert_true(ask(w, DAY0, 0, "SELECT count(*) - count(DISTINCT text) FROM word") > 0);
    assert_int_equal(report_sessions(w->dir, &(struct report_sessions_query){0}, &r), OK);
    assert_int_equal(r.count, 1);
    assert_int_equal(r.rows[0].count, 3);
    report_sessions_fini(&r);
}

static void slices_hold_every_domain_once(void **state)
{
    struct world *w = *state;
    struct attempt_batch *b = attempt_batch_create();
    struct report_sessions r;
    size_t domains = 0, fullest = 0;

    world_open(w, 0);
    for (unsigned i = 0; i < 100; i++)
        for (unsigned n = 0; n < 2; n++) {
            struct told t = told[n * 4];
            t.domain = arena_printf(&b->arena, "d%u.example", i);
            add_session(b, &t, 0);
        }
    post_sessions(w, b);
    for (unsigned slice = 0; slice < 7; slice++) {
        const struct report_sessions_query q = {.slices = 7, .slice = slice};
        assert_int_equal(report_sessions(w->dir, &q, &r), OK);
        assert_int_equal(r.count % 2, 0);
        for (size_t i = 0; i < r.count; i += 2)
            assert_string_equal(r.rows[i].domain, r.rows[i + 1].domain);
        domains += r.count / 2;
        fullest = MAX_OF(fullest, r.count / 2);
        report_sessions_fini(&r);
    }
    assert_int_equal(domains, 100);
    assert_true(fullest < 50);
}

static void every_field_of_a_session_is_kept(void **state)
{
    struct world *w = *state;
    struct attempt_batch *b = attempt_batch_create();
    struct session_record *r = attempt_batch_add_session(b);
    const struct session_record full = {
        .at_unix_ms = (int64_t)NOON * 1000 + 9,
        .policy_version = 12345678901ULL,
        .group = "g",
        .domain = "x.example",
        .mx = "mx.x.example",
        .remote = "192.0.2.7:25",
        .source = "127.0.0.2",
        .helo = "hello",
        .tls_wanted = TLS_ON,
        .tls_effective = TLS_DANE,
        .tls_why = TLS_WHY_DANE,
        .tls_version = "TLS1.2",
        .tls_cipher = "cipher",
        .tls_kx = "kx",
        .tls_verify = TLS_VERIFY_DANE_HALF,
        .dane = DANE_RESULT_MATCH,
        .sts = STS_RESULT_FAILED,
        .tls_failure = TLS_FAILURE_VALIDATION,
        .tls_resumed = true,
        .tls_offered = true,
        .fallback = true,
        .cert_expires_unix = NOON + 123456,
        .counted = true,
        .policy_type = TLSRPT_TLSA,
        .policy_text = "3 1 1 AB",
        .policy_mx = "m",
        .reason = "why",
    };
    static const char everything[] =
        "SELECT count(*) FROM session WHERE at_ms = 1795262400009 AND policy = 12345678901"
        " AND wanted = 1 AND effective = 6 AND why = 1 AND verify = 12 AND dane = 4 AND sts = 2 AND failure "
        "= 5"
        " AND resumed AND offered AND fallback AND expires = 1795385856 AND counted AND policy_type = 1"
        " AND (SELECT text FROM word WHERE id = grp) = 'g' AND (SELECT text FROM word WHERE id = domain) ="
        " 'x.example' AND (SELECT text FROM word WHERE id = mx) = 'mx.x.example'"
        " AND (SELECT text FROM word WHERE id = remote) = '192.0.2.7:25'"
        " AND (SELECT text FROM word WHERE id = source) = '127.0.0.2'"
        " AND (SELECT text FROM word WHERE id = helo) = 'hello'"
        " AND (SELECT text FROM word WHERE id = tls_version) = 'TLS1.2'"
        " AND (SELECT text FROM word WHERE id = tls_cipher) = 'cipher'"
        " AND (SELECT text FROM word WHERE id = tls_kx) = 'kx'"
        " AND (SELECT text FROM word WHERE id = policy_text) = '3 1 1 AB'"
        " AND (SELECT text FROM word WHERE id = policy_mx) = 'm'"
        " AND (SELECT text FROM word WHERE id = reason) = 'why'";

    *r = full;
    world_open(w, 0);
    post_sessions(w, b);
    assert_int_equal(store_heard.attempts, 0);
    assert_int_equal(ask(w, DAY0, 0, everything), 1);
}

static void a_batch_may_hold_sessions_only_and_records_go_on_behind_it(void **state)
{
    struct world *w = *state;
    struct report_delivery d;

    world_open(w, 0);
    tell(w);
    struct attempt_batch *b = batch_of(1, 10);
    add_session(b, &told[0], 3 * SECS_PER_DAY);
    post_and_wait(w, b);
    assert_int_equal(history_backlog(w->h), 0);
    assert_int_equal(report_delivery(w->dir, &(struct report_query){0}, &d), OK);
    assert_int_equal(d.total.delivered, 10);
    report_delivery_fini(&d);
    assert_int_equal(ask(w, DAY0, 0, "SELECT count(*) FROM session"), 28);
    assert_int_equal(ask(w, DAY0 + 3, 0, "SELECT count(*) FROM session"), 10);
    assert_rollups_are_exact(w, DAY0 + 3);
}

/* ---- certificates ---- */

struct shown {
    const char *domain, *mx;
    int64_t at_s, expires_day; /* from noon; from today, 0: no certificate */
    enum tls_verify verify;
};

static void show(struct world *w, const struct shown *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct attempt_batch *b = attempt_batch_create();
        struct session_record *r = attempt_batch_add_session(b);
        r->domain = rows[i].domain;
        r->mx = rows[i].mx;
        r->remote = "192.0.2.1:25";
        r->at_unix_ms = (NOON + rows[i].at_s) * 1000;
        r->cert_expires_unix = rows[i].expires_day ? NOON + rows[i].expires_day * SECS_PER_DAY : 0;
        r->tls_verify = rows[i].verify;
        test_wall_ms = r->at_unix_ms;
        post_sessions(w, b);
    }
}

static void certificates_are_the_newest_of_each_host_and_the_soonest_end_first(void **state)
{
    struct world *w = *state;
    struct report_certificates r;
    static const struct shown shown[] = {
        {"a.example", "mx.a", 0, 3, TLS_VERIFY_PKIX},
        {"b.example", "mx.b", 1, 20, TLS_VERIFY_PKIX},
        {"c.example", "mx.b", 2, 20, TLS_VERIFY_PKIX},
        {"b.example", "mx.b", 3, 20, TLS_VERIFY_SELF_SIGNED},
        {"d.example", "mx.d", 4, 10, TLS_VERIFY_PKIX},
        {"d.example", "mx.clear", 5, 0, TLS_VERIFY_NONE},
        {"e.example", "mx.e", 6, -2, TLS_VERIFY_EXPIRED},
        {"f.example", "mx.f", 7, 80, TLS_VERIFY_PKIX},
        {"d.example", "mx.d", SECS_PER_DAY, 90, TLS_VERIFY_PKIX}, /* renewed */
        {"a.example", "mx.a", SECS_PER_DAY + 1, 0,
         TLS_VERIFY_NONE}, /* a session without TLS changes nothing */
    };
    static const struct {
        const char *mx;
        int64_t expires_day;
        uint64_t domains, sessions;
        enum tls_verify verify;
    } want[] = {{"mx.e", -2, 1, 1, TLS_VERIFY_EXPIRED},
                {"mx.a", 3, 1, 2, TLS_VERIFY_PKIX},
                {"mx.b", 20, 2, 3, TLS_VERIFY_SELF_SIGNED}};

    world_open(w, 0);
    show(w, shown, COUNT_OF(shown));
    const struct report_certificates_query q = {.before_unix = NOON + 30 * SECS_PER_DAY};
    assert_int_equal(report_certificates(w->dir, &q, &r), OK);
    assert_int_equal(r.count, COUNT_OF(want));
    for (size_t i = 0; i < r.count; i++) {
        assert_string_equal(r.rows[i].mx, want[i].mx);
        assert_int_equal(r.rows[i].expires_unix, NOON + want[i].expires_day * SECS_PER_DAY);
        assert_int_equal(r.rows[i].domains, want[i].domains);
        assert_int_equal(r.rows[i].sessions, want[i].sessions);
        assert_int_equal(r.rows[i].verify, want[i].verify);
    }
    assert_string_equal(r.rows[2].remote, "192.0.2.1:25");
    assert_int_equal(r.rows[2].seen_unix, NOON + 3);
    report_certificates_fini(&r);
    assert_int_equal(report_certificates(w->dir, &(struct report_certificates_query){.limit = 2}, &r), OK);
    assert_int_equal(r.count, 2);
    assert_int_equal(r.in_all, 5);
    report_certificates_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_WORLD(a_day_is_summed_by_policy_and_failure_and_nothing_else_is_in_it),
        IN_WORLD(the_bounds_of_a_span_are_exact),
        IN_WORLD(words_that_stand_twice_after_a_restart_make_one_sum),
        IN_WORLD(slices_hold_every_domain_once),
        IN_WORLD(every_field_of_a_session_is_kept),
        IN_WORLD(a_batch_may_hold_sessions_only_and_records_go_on_behind_it),
        IN_WORLD(certificates_are_the_newest_of_each_host_and_the_soonest_end_first),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
