#include "tests/unit/queue/history_help.h"

/* One recipient's end, as a row of a table. */
struct story {
    const char *group, *domain, *mx, *campaign;
    enum outcome_kind kind;
    enum attempt_then then;
    enum tls_level level;
    const char *tls_version, *tls_cipher;
    enum tls_verify verify;
    bool offered, fallback, resumed;
    enum outcome_stage stage;
    const char *enhanced;
    bool remote;
    unsigned times;
};

static const struct story stories[] = {
    /* group, domain, mx, campaign, kind, then, level, version, cipher, verify, offered, fallback, resumed,
       stage, … */
    {"g1", "a.example", "mx.a", "c1", OUTCOME_DELIVERED, THEN_REMOVE, TLS_ON, "TLS1.3", "AES256",
     TLS_VERIFY_PKIX, true, false, true, STAGE_DOT, "2.0.0", true, 10},
    {"g1", "a.example", "mx.a", "c1", OUTCOME_DELIVERED, THEN_DSN, TLS_ON, "TLS1.3", "CHACHA",
     TLS_VERIFY_SELF_SIGNED, true, false, false, STAGE_DOT, "2.0.0", true, 5},
    {"g1", "b.example", "mx.b", "c1", OUTCOME_DELIVERED, THEN_REMOVE, TLS_ON, "TLS1.2", "AES256",
     TLS_VERIFY_EXPIRED, true, false, false, STAGE_DOT, "", true, 4},
    {"g1", "b.example", "mx.b", NULL, OUTCOME_DELIVERED, THEN_REMOVE, TLS_ON, "TLS1.0", "RC4",
     TLS_VERIFY_UNKNOWN_CA, true, false, false, STAGE_DOT, "", true, 3},
    {"g2", "c.example", "mx.c", "c2", OUTCOME_DELIVERED, THEN_REMOVE, TLS_OFF, NULL, NULL, TLS_VERIFY_NONE,
     true, false, false, STAGE_DOT, "", true, 7},
    {"g1", "d.example", "mx.d", "c2", OUTCOME_DELIVERED, THEN_REMOVE, TLS_ON, NULL, NULL, TLS_VERIFY_NONE,
     false, false, false, STAGE_DOT, "", true, 6},
    {"g1", "d.example", "mx.d", "c2", OUTCOME_DELIVERED, THEN_REMOVE, TLS_ON, NULL, NULL, TLS_VERIFY_NONE,
     true, false, false, STAGE_DOT, "", true, 2}, /* offered, then refused */
    {"g1", "e.example", "mx.e", "c2", OUTCOME_DELIVERED, THEN_REMOVE, TLS_ON, NULL, NULL, TLS_VERIFY_NONE,
     true, true, false, STAGE_DOT, "", true, 8},
    {"g3", "f.example", "mx.f", "c2", OUTCOME_DEFERRED, THEN_DEFER, TLS_REQUIRE, NULL, NULL, TLS_VERIFY_NONE,
     false, false, false, STAGE_EHLO, "4.7.4", false, 9},
    {"g3", "f.example", "mx.f", "c2", OUTCOME_DEFERRED, THEN_NOTHING, TLS_REQUIRE, NULL, NULL,
     TLS_VERIFY_NONE, true, false, false, STAGE_TLS, "4.7.5", false, 11},
    {"g3", "f.example", "mx.f", "c2", OUTCOME_DEFERRED, THEN_DEFER, TLS_REQUIRE, "TLS1.3", "AES256",
     TLS_VERIFY_PKIX, true, false, false, STAGE_RCPT, "4.7.4", true,
     12}, /* the peer's own 4.7.4 is not about our TLS */
    {"g3", "f.example", "mx.f", "c2", OUTCOME_EXPIRED, THEN_DSN, TLS_REQUIRE, NULL, NULL, TLS_VERIFY_NONE,
     true, false, false, STAGE_STARTTLS, "4.7.4", true, 1},
    {"g1", "g.example", NULL, "c1", OUTCOME_BOUNCED, THEN_DSN, TLS_ON, NULL, NULL, TLS_VERIFY_NONE, false,
     false, false, STAGE_DNS, "5.1.2", false, 13},
    {"g1", "g.example", NULL, "c1", OUTCOME_CANCELLED, THEN_REMOVE, TLS_ON, NULL, NULL, TLS_VERIFY_NONE,
     false, false, false, STAGE_QUEUE, "", false, 14},
};

static void tell(struct world *w, uint64_t first_id)
{
    struct attempt_batch *b = attempt_batch_create();
    uint64_t id = first_id;

    for (size_t i = 0; i < COUNT_OF(stories); i++)
        for (unsigned n = 0; n < stories[i].times; n++) {
            const struct story *s = &stories[i];
            struct attempt *a = add_attempt(b, id++);
            a->group = s->group;
            a->domain = s->domain;
            a->address = arena_printf(&b->arena, "User%u@%s", n, s->domain);
            a->mx = s->mx;
            a->campaign = s->campaign;
            a->then = s->then;
            a->tls_wanted = a->tls_effective = s->level;
            a->tls_version = s->tls_version;
            a->tls_cipher = s->tls_cipher;
            a->tls_verify = s->verify;
            a->tls_offered = s->offered;
            a->fallback = s->fallback;
            a->tls_resumed = s->resumed;
            a->size_bytes = 1000;
            a->duration_ms = 10 * (1 + n % 2);
            a->outcome = (struct outcome){.kind = s->kind, .stage = s->stage, .code = 1, .remote = s->remote};
            snprintf(a->outcome.enhanced, sizeof(a->outcome.enhanced), "%s", s->enhanced);
        }
    post_and_wait(w, b);
}

static const struct report_delivery_row *delivery_row(const struct report_delivery *r, const char *key)
{
    for (size_t i = 0; i < r->count; i++)
        if (strcmp(r->rows[i].key, key) == 0)
            return &r->rows[i];
    fail_msg("no row %s", key);
    return NULL;
}

static void delivery_counts_recipients_by_every_key(void **state)
{
    struct world *w = *state;
    struct report_delivery r;
    static const struct {
        enum report_key by;
        const char *key;
        uint64_t attempts, delivered, deferred, bounced, expired, cancelled;
    } cases[] = {
        {REPORT_BY_GROUP, "g1", 65, 38, 0, 13, 0, 14},
        {REPORT_BY_GROUP, "g2", 7, 7, 0, 0, 0, 0},
        {REPORT_BY_GROUP, "g3", 33, 0, 21, 0, 1, 0}, /* of 32 deferrals 11 were hosts of a walk */
        {REPORT_BY_DOMAIN, "a.example", 15, 15, 0, 0, 0, 0},
        {REPORT_BY_DOMAIN, "f.example", 33, 0, 21, 0, 1, 0},
        {REPORT_BY_MX, "mx.b", 7, 7, 0, 0, 0, 0},
        {REPORT_BY_MX, "", 27, 0, 0, 13, 0, 14},
        {REPORT_BY_CAMPAIGN, "c1", 46, 19, 0, 13, 0, 14},
        {REPORT_BY_CAMPAIGN, "", 3, 3, 0, 0, 0, 0},
        {REPORT_BY_HOUR, "2026-11-21T12:00:00Z", 105, 45, 21, 13, 1, 14},
    };

    world_open(w, 0);
    tell(w, 1);
    for (int rolled_up = 0; rolled_up < 2; rolled_up++) {
        for (size_t i = 0; i < COUNT_OF(cases); i++) {
            assert_int_equal(report_delivery(w->dir, &(struct report_query){.by = cases[i].by}, &r), OK);
            const struct report_delivery_row *row = delivery_row(&r, cases[i].key);
            assert_int_equal(row->attempts, cases[i].attempts);
            assert_int_equal(row->delivered, cases[i].delivered);
            assert_int_equal(row->deferred, cases[i].deferred);
            assert_int_equal(row->bounced, cases[i].bounced);
            assert_int_equal(row->expired, cases[i].expired);
            assert_int_equal(row->cancelled, cases[i].cancelled);
            assert_int_equal(row->bytes, cases[i].delivered * 1000);
            assert_int_equal(row->hour_unix, cases[i].by == REPORT_BY_HOUR ? NOON : 0);
            assert_int_equal(r.total.attempts, 105);
            assert_int_equal(r.total.delivered, 45);
            assert_int_equal(r.span.files_skipped, 0);
            report_delivery_fini(&r);
        }
        history_close(w->h, 5000); /* the same from rollups alone */
        world_open(w, 0);
        assert_int_equal(ask(w, DAY0, 0, "SELECT sum(attempts) FROM rollup"), 105);
    }
}

static void the_mean_duration_is_that_of_the_attempts(void **state)
{
    struct world *w = *state;
    struct report_delivery r;

    world_open(w, 0);
    tell(w, 1);
    assert_int_equal(report_delivery(w->dir, &(struct report_query){.by = REPORT_BY_MX}, &r), OK);
    assert_int_equal(delivery_row(&r, "mx.c")->duration_ms_mean, (4 * 10 + 3 * 20) / 7);
    report_delivery_fini(&r);
}

static void filters_hold_together_and_an_empty_one_means_without(void **state)
{
    struct world *w = *state;
    struct report_delivery r;
    static const struct {
        struct report_query q;
        uint64_t attempts;
    } cases[] = {
        {{.group = "g1"}, 65},
        {{.group = "g1", .campaign = "c1"}, 46},
        {{.campaign = ""}, 3},
        {{.mx = ""}, 27},
        {{.mx = "mx.a"}, 15},
        {{.domain = "f.example", .group = "g1"}, 0},
        {{.domain = "nowhere.example"}, 0},
        {{.domain = "' OR 1=1 --"}, 0},
        {{.domain = ""}, 0},
    };

    world_open(w, 0);
    tell(w, 1);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        assert_int_equal(report_delivery(w->dir, &cases[i].q, &r), OK);
        assert_int_equal(r.total.attempts, cases[i].attempts);
        assert_int_equal(r.count, cases[i].attempts ? r.count : 0);
        report_delivery_fini(&r);
    }
}

static void rows_are_sorted_as_asked_and_the_total_counts_what_the_limit_hides(void **state)
{
    struct world *w = *state;
    struct report_delivery r;
    static const struct {
        enum report_sort sort;
        const char *first, *second;
    } cases[] = {
        {REPORT_SORT_VOLUME, "f.example", "g.example"},
        {REPORT_SORT_KEY, "a.example", "b.example"},
        {REPORT_SORT_FAILED, "g.example", "f.example"},
        {REPORT_SORT_WAITING, "f.example", "g.example"},
    };

    world_open(w, 0);
    tell(w, 1);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct report_query q = {.by = REPORT_BY_DOMAIN, .sort = cases[i].sort, .limit = 2};
        assert_int_equal(report_delivery(w->dir, &q, &r), OK);
        assert_int_equal(r.count, 2);
        assert_int_equal(r.span.rows_in_all, 7);
        assert_string_equal(r.rows[0].key, cases[i].first);
        assert_string_equal(r.rows[1].key, cases[i].second);
        assert_int_equal(r.total.attempts, 105);
        report_delivery_fini(&r);
    }
    struct report_tls t;
    assert_int_equal(
        report_tls(w->dir,
                   &(struct report_query){.by = REPORT_BY_DOMAIN, .sort = REPORT_SORT_CLEAR, .limit = 1}, &t),
        OK);
    assert_string_equal(t.rows[0].key, "d.example");
    report_tls_fini(&t);
}

static void assert_tls_adds_up(const struct report_tls_row *r)
{
    uint64_t encrypted = r->tls13 + r->tls12 + r->tls_older, by_verify = 0, by_level = 0, by_cipher = 0;

    assert_int_equal(r->delivered, encrypted + r->clear_by_choice + r->clear_by_lack + r->clear_by_fallback);
    assert_int_equal(encrypted, r->verified + r->unverified);
    for (size_t i = 0; i < REPORT_TLS_VERIFIES; i++)
        by_verify += r->verify[i];
    for (size_t i = 0; i < REPORT_TLS_LEVELS; i++)
        by_level += r->wanted[i].delivered;
    for (size_t i = 0; i < r->cipher_count; i++)
        by_cipher += r->ciphers[i].delivered;
    assert_int_equal(by_verify, encrypted);
    assert_int_equal(by_cipher, encrypted);
    assert_int_equal(by_level, r->delivered);
}

static void tls_says_who_got_mail_encrypted_how_and_who_in_clear_and_why(void **state)
{
    struct world *w = *state;
    struct report_tls r;

    world_open(w, 0);
    tell(w, 1);
    assert_int_equal(
        report_tls(w->dir, &(struct report_query){.by = REPORT_BY_GROUP, .sort = REPORT_SORT_KEY}, &r), OK);
    assert_int_equal(r.count, 3);
    for (size_t i = 0; i < r.count; i++)
        assert_tls_adds_up(&r.rows[i]);
    assert_tls_adds_up(&r.total);
    const struct report_tls_row *g1 = &r.rows[0], *g2 = &r.rows[1], *g3 = &r.rows[2];
    assert_int_equal(g1->delivered, 38);
    assert_int_equal(g1->tls13, 15);
    assert_int_equal(g1->tls12, 4);
    assert_int_equal(g1->tls_older, 3);
    assert_int_equal(g1->verified, 10);
    assert_int_equal(g1->unverified, 12);
    assert_int_equal(g1->verify[TLS_VERIFY_SELF_SIGNED], 5);
    assert_int_equal(g1->verify[TLS_VERIFY_EXPIRED], 4);
    assert_int_equal(g1->resumed, 10);
    assert_int_equal(g1->clear_by_choice, 0);
    assert_int_equal(g1->clear_by_lack, 8);
    assert_int_equal(g1->clear_not_offered, 6);
    assert_int_equal(g1->clear_by_fallback, 8);
    assert_int_equal(g1->held_for_tls, 0);
    assert_int_equal(g1->failed_for_tls, 0);
    assert_int_equal(g1->wanted[TLS_ON].delivered, 38);
    assert_int_equal(g1->wanted[TLS_ON].encrypted, 22);
    assert_int_equal(g1->wanted[TLS_ON].verified, 10);
    assert_int_equal(g1->cipher_count, 4);
    assert_string_equal(g1->ciphers[0].version, "TLS1.3");
    assert_string_equal(g1->ciphers[0].cipher, "AES256");
    assert_int_equal(g1->ciphers[0].delivered, 10);
    assert_string_equal(g1->ciphers[3].cipher, "RC4");
    assert_int_equal(g2->clear_by_choice, 7);
    assert_int_equal(g3->held_for_tls, 9);
    assert_int_equal(g3->failed_for_tls, 1);
    assert_int_equal(g3->wanted[TLS_REQUIRE].held, 9);
    assert_int_equal(g3->delivered, 0);
    assert_int_equal(r.total.delivered, 45);
    report_tls_fini(&r);
}

/* How mail travelled, beyond what the stories tell. */
static const struct {
    const char *domain, *version, *cipher, *kx;
    enum tls_level wanted, effective;
    enum tls_why why;
    enum tls_verify verify;
    enum dane_result dane;
    enum sts_result sts;
    enum tls_failure failure;
    bool fallback;
    enum attempt_then then;
    unsigned times;
} travelled[] = {
    {"a", "TLS1.3", "TLS_AES_256_GCM_SHA384", "ECDHE-X25519", TLS_ON, TLS_DANE, TLS_WHY_DANE, TLS_VERIFY_DANE,
     DANE_RESULT_MATCH, STS_RESULT_OFF, TLS_FAILURE_NONE, false, THEN_REMOVE, 5},
    {"a", "TLS1.3", "TLS_AES_256_GCM_SHA384", "ECDHE-SECP256R1", TLS_ON, TLS_STS_ENFORCE, TLS_WHY_STS,
     TLS_VERIFY_PKIX, DANE_RESULT_NONE, STS_RESULT_OK, TLS_FAILURE_NONE, false, THEN_REMOVE, 4},
    {"b", "TLS1.2", "TLS_ECDHE_RSA_AES_256_GCM_SHA384", "ECDHE-X25519", TLS_ON, TLS_ON, TLS_WHY_RULE,
     TLS_VERIFY_WEAK, DANE_RESULT_NONE, STS_RESULT_NONE, TLS_FAILURE_CERTIFICATE_NOT_TRUSTED, false,
     THEN_REMOVE, 3},
    {"c", "TLS1.2", "TLS_RSA_AES_256_CBC_SHA1", NULL, TLS_ON, TLS_ON, TLS_WHY_RULE, TLS_VERIFY_PKIX,
     DANE_RESULT_NONE, STS_RESULT_NONE, TLS_FAILURE_NONE, false, THEN_REMOVE,
     2}, /* as version 1 recorded it */
    {"c", "TLS1.0", "TLS_RSA_3DES_EDE_CBC_SHA1", "RSA", TLS_ON, TLS_ON, TLS_WHY_RULE, TLS_VERIFY_WEAK,
     DANE_RESULT_NONE, STS_RESULT_NONE, TLS_FAILURE_NONE, false, THEN_REMOVE, 7},
    {"d", NULL, NULL, NULL, TLS_ON, TLS_ON, TLS_WHY_RULE, TLS_VERIFY_NONE, DANE_RESULT_NONE,
     STS_RESULT_FAILED, TLS_FAILURE_VALIDATION, true, THEN_REMOVE, 6},
    {"d", "TLS1.2", "TLS_DHE_RSA_AES_128_GCM_SHA256", "DHE-WEAK", TLS_REQUIRE, TLS_REQUIRE, TLS_WHY_RULE,
     TLS_VERIFY_PKIX, DANE_RESULT_NONE, STS_RESULT_NONE, TLS_FAILURE_NONE, false, THEN_REMOVE, 1},
    {"e", NULL, NULL, NULL, TLS_ON, TLS_DANE, TLS_WHY_DANE, TLS_VERIFY_NONE, DANE_RESULT_BOGUS,
     STS_RESULT_OFF, TLS_FAILURE_DNSSEC_INVALID, false, THEN_NOTHING, 8},
};

static void tell_travelled(struct world *w)
{
    static const int days_left[COUNT_OF(travelled)] = {200, 60, 29, 13, -1, 0, 0, 0};
    struct attempt_batch *b = attempt_batch_create();

    for (size_t i = 0; i < COUNT_OF(travelled); i++)
        for (unsigned n = 0; n < travelled[i].times; n++) {
            struct attempt *a = add_attempt(b, n + 1);
            a->domain = travelled[i].domain;
            a->tls_version = travelled[i].version;
            a->tls_cipher = travelled[i].cipher;
            a->tls_kx = travelled[i].kx;
            a->tls_wanted = travelled[i].wanted;
            a->tls_effective = travelled[i].effective;
            a->tls_why = travelled[i].why;
            a->tls_verify = travelled[i].verify;
            a->dane = travelled[i].dane;
            a->sts = travelled[i].sts;
            a->tls_failure = travelled[i].failure;
            a->fallback = travelled[i].fallback;
            a->tls_offered = true;
            a->tls_resumed = travelled[i].version && n > 0;
            a->cert_expires_unix = travelled[i].version ? NOON + days_left[i] * SECS_PER_DAY : 0;
            a->then = travelled[i].then;
            if (a->then == THEN_NOTHING)
                a->outcome.kind = OUTCOME_DEFERRED;
        }
    post_and_wait(w, b);
}

static void tls_is_told_by_everything_that_it_is_made_of(void **state)
{
    struct world *w = *state;
    static const struct {
        enum report_key by;
        const char *key;
        uint64_t attempts, delivered;
    } cases[] = {
        {REPORT_BY_LEVEL, "on", 18, 18},
        {REPORT_BY_LEVEL, "dane", 13, 5},
        {REPORT_BY_LEVEL, "sts-enforce", 4, 4},
        {REPORT_BY_LEVEL, "require", 1, 1},
        {REPORT_BY_WANTED, "on", 35, 27},
        {REPORT_BY_WANTED, "require", 1, 1},
        {REPORT_BY_WHY, "rule", 19, 19},
        {REPORT_BY_WHY, "dane", 13, 5},
        {REPORT_BY_WHY, "sts", 4, 4},
        {REPORT_BY_VERSION, "TLS1.3", 9, 9},
        {REPORT_BY_VERSION, "TLS1.0", 7, 7},
        {REPORT_BY_VERSION, "", 14, 6},
        {REPORT_BY_CIPHER, "TLS_AES_256_GCM_SHA384", 9, 9},
        {REPORT_BY_KX, "ECDHE-X25519", 8, 8},
        {REPORT_BY_KX, "", 16, 8},
        {REPORT_BY_VERIFY, "weak", 10, 10},
        {REPORT_BY_VERIFY, "none", 14, 6},
        {REPORT_BY_DANE, "bogus", 8, 0},
        {REPORT_BY_DANE, "match", 5, 5},
        {REPORT_BY_STS, "ok", 4, 4},
        {REPORT_BY_FAILURE, "dnssec-invalid", 8, 0},
        {REPORT_BY_FAILURE, "certificate-not-trusted", 3, 3},
        {REPORT_BY_FAILURE, "", 19, 19},
        {REPORT_BY_SESSION, "resumed", 16, 16},
        {REPORT_BY_SESSION, "new", 6, 6},
        {REPORT_BY_SESSION, "", 14, 6},
        {REPORT_BY_FALLBACK, "fallback", 6, 6},
        {REPORT_BY_FALLBACK, "none", 30, 22},
        {REPORT_BY_EXPIRY, "expired", 7, 7},
        {REPORT_BY_EXPIRY, "<14d", 3, 3},
        {REPORT_BY_EXPIRY, "<30d", 3, 3},
        {REPORT_BY_EXPIRY, "<90d", 4, 4},
        {REPORT_BY_EXPIRY, "later", 5, 5},
        {REPORT_BY_EXPIRY, "", 14, 6},
        {REPORT_BY_EXPIRES, "2026-12-04", 2, 2},
        {REPORT_BY_EXPIRES, "2026-11-20", 7, 7},
        {REPORT_BY_EXPIRES, "", 14, 6},
    };

    world_open(w, 0);
    tell_travelled(w);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct report_tls r;
        const struct report_tls_row *row = NULL;
        assert_int_equal(report_tls(w->dir, &(struct report_query){.by = cases[i].by}, &r), OK);
        assert_int_equal(r.total.attempts, 36);
        for (size_t k = 0; k < r.count; k++)
            if (strcmp(r.rows[k].key, cases[i].key) == 0)
                row = &r.rows[k];
        if (!row || row->attempts != cases[i].attempts || row->delivered != cases[i].delivered)
            fail_msg("%s=%s: %d attempts, %d delivered", report_key_name(cases[i].by), cases[i].key,
                     row ? (int)row->attempts : -1, row ? (int)row->delivered : -1);
        report_tls_fini(&r);
    }
}

static void weak_tls_is_counted_by_what_is_weak_in_it(void **state)
{
    struct world *w = *state;
    struct report_tls r;

    world_open(w, 0);
    tell_travelled(w);
    const struct report_query weak = {
        .by = REPORT_BY_DOMAIN, .sort = REPORT_SORT_WEAK, .only = REPORT_ONLY_WEAK};
    assert_int_equal(report_tls(w->dir, &weak, &r), OK);
    assert_int_equal(r.count, 3);
    assert_int_equal(r.span.rows_in_all, 3);
    const struct report_tls_row *c = &r.rows[0], *b = &r.rows[1], *d = &r.rows[2];
    assert_string_equal(c->key, "c");
    assert_true(c->weak == 9 && c->weak_version == 7 && c->weak_cipher == 7 && c->weak_kx == 9 &&
                c->weak_certificate == 7);
    assert_string_equal(b->key, "b");
    assert_true(b->weak == 3 && b->weak_version == 0 && b->weak_cipher == 0 && b->weak_kx == 0 &&
                b->weak_certificate == 3);
    assert_string_equal(d->key, "d");
    assert_true(d->weak == 1 && d->weak_kx == 1 && d->weak_certificate == 0);
    assert_true(r.total.weak == 13 && r.total.delivered == 28 &&
                r.total.failure[TLS_FAILURE_DNSSEC_INVALID] == 8);
    assert_true(r.total.dane[DANE_RESULT_MATCH] == 5 && r.total.dane[DANE_RESULT_BOGUS] == 0 &&
                r.total.sts[STS_RESULT_OK] == 4);
    report_tls_fini(&r);

    const struct report_query clear = {
        .by = REPORT_BY_DOMAIN, .sort = REPORT_SORT_CLEAR, .only = REPORT_ONLY_CLEAR};
    assert_int_equal(report_tls(w->dir, &clear, &r), OK);
    assert_int_equal(r.count, 1);
    assert_string_equal(r.rows[0].key, "d");
    assert_int_equal(r.rows[0].clear_by_fallback, 6);
    assert_int_equal(r.total.delivered, 28); /* everything, whatever the rows are */
    report_tls_fini(&r);
}

static void a_short_span_is_exact_and_a_long_one_is_of_whole_hours(void **state)
{
    struct world *w = *state;
    struct report_delivery r;
    static const struct {
        int64_t since, until; /* minutes after noon; until 0: none */
        uint64_t attempts;
        int64_t counted_since, counted_until;
    } cases[] = {
        /* ten records each at 0, 20, 40, … 580 minutes after noon; "now" is 590 */
        {20, 60, 20, 20, 60},    {21, 60, 10, 21, 60},       {30, 31, 0, 30, 31},   {480, 0, 60, 480, 0},
        {581, 0, 0, 581, 0},     {20, 141, 90, 0, 180},      {0, 600, 300, 0, 600}, {100, 0, 270, 60, 0},
        {600, 610, 0, 600, 610}, {-3000, 30, 30, -3000, 60},
    };

    world_open(w, 0);
    for (int i = 0; i < 30; i++) {
        post_and_wait(w, batch_of((uint64_t)i * 10, 10));
        pass_time(i == 29 ? 10 * 60000 : 20 * 60000);
    }
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct report_query q = {.since_unix = NOON + cases[i].since * 60,
                                 .until_unix = cases[i].until ? NOON + cases[i].until * 60 : 0};
        assert_int_equal(report_delivery(w->dir, &q, &r), OK);
        if (r.total.attempts != cases[i].attempts)
            fail_msg("case %zu: %llu", i, (unsigned long long)r.total.attempts);
        assert_int_equal(r.span.since_unix, NOON + cases[i].counted_since * 60);
        assert_int_equal(r.span.until_unix, cases[i].counted_until ? NOON + cases[i].counted_until * 60 : 0);
        report_delivery_fini(&r);
    }
    assert_int_equal(report_delivery(w->dir, &(struct report_query){.by = REPORT_BY_HOUR}, &r), OK);
    assert_int_equal(r.count, 10);
    for (size_t i = 0; i < r.count; i++) {
        assert_int_equal(r.rows[i].hour_unix, NOON + (int64_t)i * 3600); /* oldest first */
        assert_int_equal(r.rows[i].attempts, 30);
    }
    report_delivery_fini(&r);
}

static void a_short_span_is_exact_however_often_the_program_was_started_in_it(void **state)
{
    struct world *w = *state;
    struct report_delivery r;

    world_open(w, 0);
    for (int i = 0; i < 6; i++) { /* ids go on from the clock: six minutes are 370 million */
        post_and_wait(w, batch_of((uint64_t)i * 10, 10));
        pass_time(6 * 60000);
        if (i == 2)
            continue;
        history_close(w->h, 5000);
        world_open(w, 0);
    }
    for (int64_t minutes = 1; minutes <= 36; minutes++) { /* ten records each at 36, 30, … 6 minutes ago */
        const struct report_query q = {.since_unix = NOON + (36 - minutes) * 60};
        assert_int_equal(report_delivery(w->dir, &q, &r), OK);
        assert_int_equal(r.span.since_unix, q.since_unix);
        assert_int_equal(r.total.attempts, minutes / 6 * 10);
        report_delivery_fini(&r);
    }
}

static void days_are_added_up(void **state)
{
    struct world *w = *state;
    struct report_delivery r;
    char *path = history_file_path(w->dir, DAY0 + 1, 0);

    world_open(w, 0);
    for (uint64_t day = 0; day < 4; day++) {
        tell(w, day * 1000 + 1);
        pass_time(MS_PER_DAY);
    }
    assert_int_equal(report_delivery(w->dir, &(struct report_query){.by = REPORT_BY_GROUP}, &r), OK);
    assert_int_equal(r.total.delivered, 4 * 45);
    assert_int_equal(delivery_row(&r, "g3")->deferred, 4 * 21);
    report_delivery_fini(&r);
    struct report_query two_days = {.since_unix = NOON + SECS_PER_DAY, .until_unix = NOON + 3 * SECS_PER_DAY};
    assert_int_equal(report_delivery(w->dir, &two_days, &r), OK);
    assert_int_equal(r.total.delivered, 2 * 45);
    report_delivery_fini(&r);
    /* A day that cannot be read is said to be missing. */
    assert_int_equal(truncate(path, 5000), 0);
    assert_int_equal(report_delivery(w->dir, &(struct report_query){.by = REPORT_BY_GROUP}, &r), OK);
    assert_int_equal(r.total.delivered, 3 * 45);
    assert_int_equal(r.span.files_skipped, 1);
    report_delivery_fini(&r);
    mem_free(path);
}

static void an_empty_history_gives_empty_reports(void **state)
{
    struct world *w = *state;
    struct report_delivery d;
    struct report_tls t;
    struct report_finals f;
    struct report_attempts a;

    for (int opened = 0; opened < 2; opened++) {
        assert_int_equal(report_delivery(w->dir, &(struct report_query){0}, &d), OK);
        assert_int_equal(d.count + d.total.attempts, 0);
        report_delivery_fini(&d);
        assert_int_equal(report_tls(w->dir, &(struct report_query){0}, &t), OK);
        report_tls_fini(&t);
        assert_int_equal(report_finals(w->dir, &(struct report_finals_query){0}, &f), OK);
        assert_int_equal(f.oldest_day, 0);
        report_finals_fini(&f);
        assert_int_equal(report_attempts(w->dir, &(struct report_which){0}, &a), OK);
        assert_int_equal(a.count, 0);
        report_attempts_fini(&a);
        if (!opened)
            world_open(w, 0);
    }
}

static void finals_are_counted_by_the_day_of_acceptance(void **state)
{
    struct world *w = *state;
    struct report_finals r;

    world_open(w, 0);
    tell(w, 1); /* accepted at noon less a minute */
    pass_time(MS_PER_DAY);
    struct attempt_batch *b = batch_of(5000, 4);
    b->first->accepted_unix = NOON; /* yesterday's mail, delivered today */
    b->first->campaign = "c2";
    post_and_wait(w, b);
    assert_int_equal(report_finals(w->dir, &(struct report_finals_query){.by_campaign = true}, &r), OK);
    assert_int_equal(r.total.delivered, 45 + 4);
    assert_int_equal(r.total.bounced, 13);
    assert_int_equal(r.total.expired, 1);
    assert_int_equal(r.total.cancelled, 14);
    assert_int_equal(r.oldest_day, DAY0);
    assert_int_equal(r.count, 4); /* "", c1, c2, spring */
    assert_string_equal(r.rows[0].campaign, "");
    assert_string_equal(r.rows[2].campaign, "c2");
    assert_int_equal(r.rows[2].delivered, 7 + 6 + 2 + 8 + 1);
    report_finals_fini(&r);
    struct report_finals_query of_yesterday = {.accepted_since_day = DAY0, .accepted_until_day = DAY0 + 1};
    assert_int_equal(report_finals(w->dir, &of_yesterday, &r), OK);
    assert_int_equal(r.total.delivered, 45 + 1);
    assert_int_equal(r.count, 0);
    report_finals_fini(&r);
    struct report_finals_query of_today = {.accepted_since_day = DAY0 + 1, .campaign = "spring"};
    assert_int_equal(report_finals(w->dir, &of_today, &r), OK);
    assert_true(r.total.delivered == 2 || r.total.delivered == 3);
    report_finals_fini(&r);
    assert_int_equal(report_finals(w->dir, &(struct report_finals_query){.campaign = ""}, &r), OK);
    assert_int_equal(r.total.delivered, 3 + (5001 % 3 == 0) + (5002 % 3 == 0) + (5003 % 3 == 0));
    report_finals_fini(&r);
}

static void keys_have_names(void **state)
{
    enum report_key key;

    (void)state;
    for (int i = REPORT_BY_GROUP; i <= REPORT_BY_HOUR; i++) {
        assert_true(report_key_parse(bytes_of(report_key_name((enum report_key)i)), &key));
        assert_int_equal(key, i);
    }
    assert_false(report_key_parse(BYTES("groups"), &key));
    assert_false(report_key_parse(BYTES(""), &key));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_WORLD(delivery_counts_recipients_by_every_key),
        IN_WORLD(the_mean_duration_is_that_of_the_attempts),
        IN_WORLD(filters_hold_together_and_an_empty_one_means_without),
        IN_WORLD(rows_are_sorted_as_asked_and_the_total_counts_what_the_limit_hides),
        IN_WORLD(tls_says_who_got_mail_encrypted_how_and_who_in_clear_and_why),
        IN_WORLD(tls_is_told_by_everything_that_it_is_made_of),
        IN_WORLD(weak_tls_is_counted_by_what_is_weak_in_it),
        IN_WORLD(a_short_span_is_exact_and_a_long_one_is_of_whole_hours),
        IN_WORLD(a_short_span_is_exact_however_often_the_program_was_started_in_it),
        IN_WORLD(days_are_added_up),
        IN_WORLD(an_empty_history_gives_empty_reports),
        IN_WORLD(finals_are_counted_by_the_day_of_acceptance),
        cmocka_unit_test(keys_have_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
