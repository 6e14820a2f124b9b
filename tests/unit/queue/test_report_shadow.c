#include "queue/report_shadow.h"
#include "tests/unit/queue/history_help.h"

/* What became of `times` recipients, and what the shadow said of it. */
struct story {
    const char *group, *domain, *mx, *campaign;
    enum outcome_kind kind;
    enum attempt_then then;
    enum tls_level wanted;
    const char *version;
    enum tls_verify verify;
    bool offered;
    const char *enhanced;
    uint8_t shadow;
    const char *shadow_group;
    unsigned times;
};

static const struct story stories[] = {
    {"g1", "a.example", "mx.a", "c1", OUTCOME_DELIVERED, THEN_REMOVE, TLS_ON, "TLS1.3", TLS_VERIFY_PKIX, true,
     "", JUDGE_SAME, "s1", 10},
    {"g1", "a.example", "mx.a", NULL, OUTCOME_DELIVERED, THEN_DSN, TLS_ON, NULL, TLS_VERIFY_NONE, false, "",
     JUDGE_NO_STARTTLS, "s1", 5},
    {"g1", "b.example", "mx.b", "c1", OUTCOME_DELIVERED, THEN_REMOVE, TLS_ON, "TLS1.2", TLS_VERIFY_EXPIRED,
     true, "", JUDGE_CERT + TLS_VERIFY_EXPIRED, "s2", 7},
    {"g1", "b.example", "mx.b", "c1", OUTCOME_DELIVERED, THEN_REMOVE, TLS_ON, "TLS1.3", TLS_VERIFY_PKIX, true,
     "", JUDGE_UNKNOWN_DANE, "s2", 3},
    {"g2", "c.example", "mx.c", "c2", OUTCOME_DELIVERED, THEN_REMOVE, TLS_REQUIRE, "TLS1.3", TLS_VERIFY_PKIX,
     true, "", JUDGE_CLEAR, "s3", 2},
    {"g2", "c.example", "mx.c", "c2", OUTCOME_DELIVERED, THEN_REMOVE, TLS_OFF, NULL, TLS_VERIFY_NONE, true,
     "", JUDGE_TLS, "s1", 1},
    {"g2", "d.example", "mx.d", "c2", OUTCOME_DEFERRED, THEN_DEFER, TLS_REQUIRE, NULL, TLS_VERIFY_NONE, false,
     "4.7.4", JUDGE_PASS_CLEAR, "s3", 4},
    {"g2", "d.example", "mx.d", "c2", OUTCOME_DEFERRED, THEN_DEFER, TLS_REQUIRE, "TLS1.3", TLS_VERIFY_EXPIRED,
     true, "4.7.5", JUDGE_PASS, "s3", 6},
    {"g2", "d.example", "mx.d", "c2", OUTCOME_EXPIRED, THEN_DSN, TLS_REQUIRE, NULL, TLS_VERIFY_NONE, false,
     "4.7.4", JUDGE_SAME, "s1", 1},
    {"g2", "d.example", "mx.d", "c2", OUTCOME_DEFERRED, THEN_DEFER, TLS_REQUIRE, NULL, TLS_VERIFY_NONE, false,
     "4.7.5", JUDGE_UNKNOWN_SESSION, "s1", 8},
    /* not about TLS, or hosts of a walk: not counted */
    {"g2", "d.example", "mx.d", "c2", OUTCOME_DEFERRED, THEN_NOTHING, TLS_REQUIRE, NULL, TLS_VERIFY_NONE,
     false, "4.7.4", JUDGE_PASS_CLEAR, "s3", 9},
    {"g2", "d.example", "mx.d", "c2", OUTCOME_DEFERRED, THEN_DEFER, TLS_REQUIRE, NULL, TLS_VERIFY_NONE, false,
     "4.4.1", JUDGE_SAME, "s3", 11},
    {"g2", "d.example", "mx.d", "c2", OUTCOME_BOUNCED, THEN_DSN, TLS_REQUIRE, "TLS1.3", TLS_VERIFY_PKIX, true,
     "5.1.1", JUDGE_SAME, "s3", 12},
    /* before there were shadow rules */
    {"g1", "e.example", NULL, "c1", OUTCOME_DELIVERED, THEN_REMOVE, TLS_ON, NULL, TLS_VERIFY_NONE, false, "",
     JUDGE_NONE, NULL, 13},
};

static void tell(struct world *w, uint64_t first_id)
{
    struct attempt_batch *b = attempt_batch_create();

    for (size_t i = 0; i < COUNT_OF(stories); i++)
        for (unsigned n = 0; n < stories[i].times; n++) {
            const struct story *s = &stories[i];
            struct attempt *a = add_attempt(b, first_id++);

            a->group = s->group;
            a->domain = s->domain;
            a->address = arena_printf(&b->arena, "user%u@%s", n, s->domain);
            a->mx = s->mx;
            a->campaign = s->campaign;
            a->then = s->then;
            a->tls_wanted = a->tls_effective = s->wanted;
            a->tls_version = s->version;
            a->tls_verify = s->verify;
            a->tls_offered = s->offered;
            a->shadow = s->shadow;
            a->shadow_group = s->shadow_group;
            a->outcome = (struct outcome){.kind = s->kind, .stage = STAGE_EHLO};
            snprintf(a->outcome.enhanced, sizeof(a->outcome.enhanced), "%s", s->enhanced);
        }
    post_and_wait(w, b);
}

static const struct report_shadow_row *row_of(const struct report_shadow *r, const char *key)
{
    for (size_t i = 0; i < r->count; i++)
        if (strcmp(r->rows[i].key, key) == 0)
            return &r->rows[i];
    fail_msg("no row %s", key);
    return NULL;
}

static void assert_row(const struct report_shadow_row *r, const uint64_t want[10])
{
    const uint64_t have[10] = {r->delivered, r->same,   r->held, r->clear,      r->tls,
                               r->unknown,   r->waited, r->pass, r->pass_clear, r->waited_unknown};

    for (size_t i = 0; i < COUNT_OF(have); i++)
        if (have[i] != want[i])
            fail_msg("%s: number %zu is %llu, not %llu", r->key, i, (unsigned long long)have[i],
                     (unsigned long long)want[i]);
}

static void recorded_verdicts_add_up_by_every_key(void **state)
{
    static const struct {
        enum report_shadow_by by;
        const char *key;
        uint64_t want[10]; /* delivered, same, held, clear, tls, unknown, waited, pass, pass_clear,
                              waited_unknown */
    } cases[] = {
        {SHADOW_BY_GROUP, "g1", {25, 10, 12, 0, 0, 3, 0, 0, 0, 0}},
        {SHADOW_BY_GROUP, "g2", {3, 0, 0, 2, 1, 0, 19, 6, 4, 8}},
        {SHADOW_BY_NEW_GROUP, "s1", {16, 10, 5, 0, 1, 0, 9, 0, 0, 8}},
        {SHADOW_BY_NEW_GROUP, "s3", {2, 0, 0, 2, 0, 0, 10, 6, 4, 0}},
        {SHADOW_BY_DOMAIN, "a.example", {15, 10, 5, 0, 0, 0, 0, 0, 0, 0}},
        {SHADOW_BY_MX, "mx.b", {10, 0, 7, 0, 0, 3, 0, 0, 0, 0}},
        {SHADOW_BY_CAMPAIGN, "", {5, 0, 5, 0, 0, 0, 0, 0, 0, 0}},
        {SHADOW_BY_CAMPAIGN, "c1", {20, 10, 7, 0, 0, 3, 0, 0, 0, 0}},
        {SHADOW_BY_REASON, "same", {10, 10, 0, 0, 0, 0, 1, 0, 0, 0}},
        {SHADOW_BY_REASON, "held-certificate-expired", {7, 0, 7, 0, 0, 0, 0, 0, 0, 0}},
        {SHADOW_BY_RECIPIENT, "user0@b.example", {2, 0, 1, 0, 0, 1, 0, 0, 0, 0}},
        {SHADOW_BY_RECIPIENT, "user6@b.example", {1, 0, 1, 0, 0, 0, 0, 0, 0, 0}},
        {SHADOW_BY_RECIPIENT, "user0@d.example", {0, 0, 0, 0, 0, 0, 3, 1, 1, 1}},
    };
    static const uint64_t total[10] = {28, 10, 12, 2, 1, 3, 19, 6, 4, 8};
    struct world *w = *state;
    struct report_shadow r;

    world_open(w, 0);
    tell(w, 1);
    for (int rolled_up = 0; rolled_up < 2; rolled_up++) {
        for (int exact = 0; exact < 2; exact++) {
            for (size_t i = 0; i < COUNT_OF(cases); i++) {
                const struct report_shadow_query q = {.by = cases[i].by,
                                                      .since_unix = exact ? NOON - 3600 : 0};

                assert_int_equal(report_shadow(w->dir, &q, &r), OK);
                assert_row(row_of(&r, cases[i].key), cases[i].want);
                assert_row(&r.total, total);
                assert_int_equal(r.unjudged, 13);
                assert_int_equal(r.span.files_skipped, 0);
                report_shadow_fini(&r);
            }
        }
        history_close(w->h, 5000); /* the same from rollups alone */
        world_open(w, 0);
        assert_int_equal(ask(w, DAY0, 0, "SELECT sum(attempts) FROM rollup"), 92);
    }
}

static void rows_come_by_cost_and_can_be_cut_and_filtered(void **state)
{
    struct world *w = *state;
    struct report_shadow r;

    world_open(w, 0);
    tell(w, 1);
    assert_int_equal(
        report_shadow(w->dir, &(struct report_shadow_query){.by = SHADOW_BY_DOMAIN, .limit = 2}, &r), OK);
    assert_int_equal(r.count, 2);
    assert_int_equal(r.span.rows_in_all, 4); /* of e.example nothing was judged */
    assert_string_equal(r.rows[0].key, "b.example");
    assert_string_equal(r.rows[1].key, "a.example");
    report_shadow_fini(&r);
    assert_int_equal(
        report_shadow(w->dir, &(struct report_shadow_query){.by = SHADOW_BY_REASON, .only_changed = true},
                      &r),
        OK);
    for (size_t i = 0; i < r.count; i++)
        assert_true(strcmp(r.rows[i].key, "same") != 0 && strncmp(r.rows[i].key, "unknown", 7) != 0);
    assert_int_equal(r.count, 6);
    report_shadow_fini(&r);
    assert_int_equal(
        report_shadow(w->dir, &(struct report_shadow_query){.domain = "b.example", .group = "g1"}, &r), OK);
    assert_int_equal(r.total.delivered, 10);
    assert_int_equal(r.total.reason_count, 2);
    assert_int_equal(r.total.reasons[0].verdict, JUDGE_CERT + TLS_VERIFY_EXPIRED);
    assert_int_equal(r.total.reasons[0].count, 7);
    assert_int_equal(r.total.reasons[1].verdict, JUDGE_UNKNOWN_DANE);
    assert_int_equal(r.total.old_levels, BIT(TLS_ON));
    assert_int_equal(r.total.new_levels, 0); /* nobody said */
    report_shadow_fini(&r);
    assert_int_equal(report_shadow(w->dir, &(struct report_shadow_query){.campaign = ""}, &r), OK);
    assert_int_equal(r.total.delivered, 5);
    report_shadow_fini(&r);
    assert_int_equal(report_shadow(w->dir, &(struct report_shadow_query){.mx = ""}, &r), OK);
    assert_int_equal(r.total.delivered + r.total.waited, 0);
    assert_int_equal(r.unjudged, 13);
    report_shadow_fini(&r);
    assert_int_equal(report_shadow(w->dir, &(struct report_shadow_query){.since_unix = NOON + 1}, &r), OK);
    assert_int_equal(r.total.delivered + r.unjudged, 0);
    report_shadow_fini(&r);
    assert_int_equal(report_shadow(w->dir, &(struct report_shadow_query){.until_unix = NOON - 3600}, &r), OK);
    assert_int_equal(r.total.delivered + r.unjudged, 0);
    report_shadow_fini(&r);
}

/* ---- judging now ---- */

static unsigned asked;

static uint8_t judge_it(void *arg, const struct report_judged *what, const char **new_group)
{
    asked++;
    assert_non_null(what->group);
    assert_non_null(what->domain);
    *new_group = what->mx ? "with mx" : "without";
    if (what->facts.tls_failed)
        return JUDGE_PASS;
    return what->facts.version ? JUDGE_SAME : *(const uint8_t *)arg;
}

static bool level_it(void *arg, const char *new_group, enum tls_level *level)
{
    (void)arg;
    *level = TLS_VERIFY;
    return strcmp(new_group, "with mx") == 0;
}

static void records_are_judged_once_for_each_kind(void **state)
{
    uint8_t verdict = JUDGE_NO_STARTTLS;
    const struct report_shadow_query q = {
        .by = SHADOW_BY_NEW_GROUP, .judge = judge_it, .level = level_it, .arg = &verdict};
    struct world *w = *state;
    struct report_shadow r;

    world_open(w, 0);
    for (int i = 0; i < 5; i++)
        tell(w, 1 + 1000 * (uint64_t)i);
    asked = 0;
    assert_int_equal(report_shadow(w->dir, &q, &r), OK);
    assert_true(asked <= COUNT_OF(stories)); /* not once for each of the 460 attempts */
    assert_int_equal(r.unjudged, 0);
    assert_row(row_of(&r, "with mx"), (const uint64_t[10]){140, 110, 30, 0, 0, 0, 95, 95, 0, 0});
    assert_row(row_of(&r, "without"), (const uint64_t[10]){65, 0, 65, 0, 0, 0, 0, 0, 0, 0});
    assert_int_equal(row_of(&r, "with mx")->old_levels, BIT(TLS_ON) | BIT(TLS_OFF) | BIT(TLS_REQUIRE));
    assert_int_equal(row_of(&r, "with mx")->new_levels, BIT(TLS_VERIFY));
    assert_int_equal(row_of(&r, "without")->new_levels, 0);
    report_shadow_fini(&r);
}

/* Of the first version less is known; it is judged like the rest. */
static void a_file_of_version_1_is_judged_and_had_no_shadow(void **state)
{
    uint8_t verdict = JUDGE_NO_STARTTLS;
    const struct report_shadow_query q = {.judge = judge_it, .arg = &verdict};
    struct world *w = *state;
    struct report_shadow r;
    char *path = history_file_path(w->dir, DAY0, 0);

    world_open(w, 0);
    tell(w, 1);
    history_close(w->h, 5000);
    w->h = NULL;
    sql_on(path, BACK_TO_VERSION_1);
    assert_int_equal(report_shadow(w->dir, &q, &r), OK);
    assert_row(&r.total, (const uint64_t[10]){41, 22, 19, 0, 0, 0, 19, 19, 0, 0});
    report_shadow_fini(&r);
    assert_int_equal(report_shadow(w->dir, &(struct report_shadow_query){0}, &r), OK);
    assert_int_equal(r.unjudged, 41);
    assert_int_equal(r.count, 0);
    report_shadow_fini(&r);
    mem_free(path);
}

static void a_day_that_cannot_be_read_is_counted_and_an_empty_history_is_no_error(void **state)
{
    struct world *w = *state;
    struct report_shadow r;
    char *path;

    assert_int_equal(report_shadow(w->dir, &(struct report_shadow_query){0}, &r), OK);
    assert_int_equal(r.count, 0);
    report_shadow_fini(&r);
    world_open(w, 0);
    tell(w, 1);
    path = history_file_path(w->dir, DAY0 - 1, 0);
    write_file(path, "this is no database, and long enough to be looked at", 52);
    mem_free(path);
    assert_int_equal(report_shadow(w->dir, &(struct report_shadow_query){0}, &r), OK);
    assert_int_equal(r.span.files_skipped, 1);
    assert_int_equal(r.total.delivered, 28);
    report_shadow_fini(&r);
}

static void keys_have_the_names_of_the_api(void **state)
{
    static const char *const names[] = {"group",    "new-group", "domain",   "mx",
                                        "campaign", "reason",    "recipient"};

    for (size_t i = 0; i < COUNT_OF(names); i++)
        assert_string_equal(report_shadow_by_name((enum report_shadow_by)i), names[i]);
    assert_string_equal(report_shadow_by_name((enum report_shadow_by)COUNT_OF(names)), "?");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_WORLD(recorded_verdicts_add_up_by_every_key),
        IN_WORLD(rows_come_by_cost_and_can_be_cut_and_filtered),
        IN_WORLD(records_are_judged_once_for_each_kind),
        IN_WORLD(a_file_of_version_1_is_judged_and_had_no_shadow),
        IN_WORLD(a_day_that_cannot_be_read_is_counted_and_an_empty_history_is_no_error),
        cmocka_unit_test(keys_have_the_names_of_the_api),
    };

    return cmocka_run_group_tests_name("queue/report_shadow", tests, NULL, NULL);
}
