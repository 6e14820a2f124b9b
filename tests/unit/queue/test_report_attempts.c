/* Single records: every field comes back, and they are found among many. */
#include "tests/unit/queue/history_help.h"

#include <jansson.h>

static void every_field_of_a_record_comes_back(void **state)
{
    struct world *w = *state;
    struct attempt_batch *b = attempt_batch_create();
    struct attempt *a = attempt_batch_add(b);
    struct report_attempts r;
    const struct attempt full = {
        .message_id = INT64_MAX,
        .rcpt_no = UINT32_MAX,
        .address = "J\xc3\xb6rg@x.example",
        .domain = "x.example",
        .campaign = "c",
        .account = "acc",
        .sender = "",
        .accepted_unix = NOON - 5,
        .size_bytes = UINT32_MAX + 1ULL,
        .policy_version = 12345678901ULL,
        .group = "grp",
        .match = MATCH_SUFFIX,
        .match_pattern = ".example",
        .mx = "mx.x.example",
        .remote = "[::1]:25",
        .source = "127.0.0.2",
        .ehlo_name = "out.x.example",
        .reused = true,
        .outcome = {.kind = OUTCOME_DEFERRED,
                    .stage = STAGE_DATA,
                    .code = 451,
                    .enhanced = "4.7.1",
                    .remote = true,
                    .in_doubt = true,
                    .text = "later"},
        .attempts = 65535,
        .at_unix_ms = (int64_t)NOON * 1000 + 7,
        .duration_ms = UINT32_MAX,
        .tls_wanted = TLS_ON,
        .tls_effective = TLS_STS_ENFORCE,
        .tls_why = TLS_WHY_STS,
        .tls_version = "TLS1.3",
        .tls_cipher = "C",
        .tls_verify = TLS_VERIFY_WRONG_NAME,
        .tls_resumed = true,
        .tls_offered = true,
        .fallback = true,
        .tls_kx = "ECDHE-X25519",
        .dane = DANE_RESULT_MISMATCH,
        .sts = STS_RESULT_MX_MISMATCH,
        .tls_failure = TLS_FAILURE_STS_WEBPKI_INVALID,
        .cert_expires_unix = (DAY0 + 30) * SECS_PER_DAY + 4711,
        .shadow = 200,
        .shadow_group = "stricter",
        .then = THEN_DEFER,
        .due_unix = NOON + 300,
    };

    *a = full;
    a = add_attempt(b, 5);
    a->campaign = a->account = a->mx = a->remote = a->source = a->ehlo_name = a->tls_version = a->tls_cipher =
        NULL;
    a->outcome.text[0] = a->outcome.enhanced[0] = '\0';
    world_open(w, 0);
    post_and_wait(w, b);
    assert_int_equal(report_attempts(w->dir, &(struct report_which){0}, &r), OK);
    assert_int_equal(r.count, 2);
    a = &r.rows[0].attempt;
    assert_true(a->message_id == full.message_id && a->rcpt_no == full.rcpt_no && a->reused && a->fallback);
    assert_string_equal(a->address, full.address);
    assert_string_equal(a->domain, full.domain);
    assert_string_equal(a->campaign, full.campaign);
    assert_string_equal(a->account, full.account);
    assert_string_equal(a->sender, full.sender);
    assert_true(a->accepted_unix == full.accepted_unix && a->size_bytes == full.size_bytes);
    assert_true(a->policy_version == full.policy_version && a->match == full.match);
    assert_string_equal(a->group, full.group);
    assert_string_equal(a->match_pattern, full.match_pattern);
    assert_string_equal(a->mx, full.mx);
    assert_string_equal(a->remote, full.remote);
    assert_string_equal(a->source, full.source);
    assert_string_equal(a->ehlo_name, full.ehlo_name);
    assert_memory_equal(&a->outcome, &full.outcome, sizeof(full.outcome));
    assert_true(a->attempts == full.attempts && a->at_unix_ms == full.at_unix_ms &&
                a->duration_ms == full.duration_ms);
    assert_true(a->tls_wanted == full.tls_wanted && a->tls_effective == full.tls_effective &&
                a->tls_why == full.tls_why);
    assert_string_equal(a->tls_version, full.tls_version);
    assert_string_equal(a->tls_cipher, full.tls_cipher);
    assert_true(a->tls_verify == full.tls_verify && a->tls_resumed && a->tls_offered);
    assert_true(a->then == full.then && a->due_unix == full.due_unix);
    assert_string_equal(a->tls_kx, full.tls_kx);
    assert_true(a->dane == full.dane && a->sts == full.sts && a->tls_failure == full.tls_failure);
    assert_int_equal(a->cert_expires_unix, (DAY0 + 30) * SECS_PER_DAY); /* a day is what a shape keeps */
    assert_int_equal(a->shadow, full.shadow);
    assert_string_equal(a->shadow_group, full.shadow_group);
    a = &r.rows[1].attempt;
    assert_true(!a->campaign && !a->account && !a->mx && !a->remote && !a->source && !a->ehlo_name &&
                !a->tls_version && !a->tls_cipher && !a->tls_kx && !a->shadow_group);
    assert_true(a->dane == DANE_RESULT_OFF && a->sts == STS_RESULT_OFF && !a->tls_failure &&
                !a->cert_expires_unix && !a->shadow);
    assert_string_equal(a->outcome.text, "");
    struct report_delivery by_source;
    assert_int_equal(report_delivery(w->dir,
                                     &(struct report_query){.by = REPORT_BY_SOURCE, .sort = REPORT_SORT_KEY},
                                     &by_source),
                     OK);
    assert_int_equal(by_source.count, 2);
    assert_string_equal(by_source.rows[0].key, "");
    assert_string_equal(by_source.rows[1].key, "127.0.0.2");
    assert_int_equal(by_source.rows[1].attempts, 1);
    report_delivery_fini(&by_source);
    BUF_LOCAL(json);
    report_attempt_json(&r.rows[0], &json);
    json_t *parsed = json_loads(buf_str(&json), JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(parsed);
    assert_string_equal(json_string_value(json_object_get(parsed, "at")), "2026-11-21T12:00:00.007Z");
    assert_string_equal(json_string_value(json_object_get(parsed, "due")), "2026-11-21T12:05:00.000Z");
    assert_string_equal(json_string_value(json_object_get(parsed, "tls_verify")),
                        tls_verify_name(TLS_VERIFY_WRONG_NAME));
    assert_string_equal(json_string_value(json_object_get(parsed, "dane")), "mismatch");
    assert_string_equal(json_string_value(json_object_get(parsed, "tls_failure")), "sts-webpki-invalid");
    assert_string_equal(json_string_value(json_object_get(parsed, "cert_expires")),
                        "2026-12-21T00:00:00.000Z");
    assert_int_equal(json_integer_value(json_object_get(parsed, "policy")), 12345678901);
    json_decref(parsed);
    report_attempts_fini(&r);
}

static size_t found(const struct world *w, const struct report_which *which, uint64_t *first_message)
{
    struct report_attempts r;

    assert_int_equal(report_attempts(w->dir, which, &r), OK);
    for (size_t i = 1; i < r.count; i++)
        assert_true(r.rows[i].id > r.rows[i - 1].id);
    *first_message = r.count ? r.rows[0].attempt.message_id : 0;
    size_t count = r.count;
    assert_false(r.cut_short);
    report_attempts_fini(&r);
    return count;
}

/* Three days of more than three blocks each; one recipient is tried once a day. */
static void a_recipient_is_found_among_blocks_and_days(void **state)
{
    struct world *w = *state;
    uint64_t first;

    world_open(w, 0);
    for (uint64_t day = 0; day < 3; day++) {
        post_and_wait(w, batch_of(day * 100000 + 1000, 7000));
        struct attempt_batch *b = batch_of(42, 1);
        b->first->address = day == 1 ? "R42@d0.EXAMPLE" : b->first->address;
        b->first->rcpt_no = (uint32_t)day;
        post_and_wait(w, b);
        if (day == 1) { /* a block that is begun, left and gone on with */
            history_close(w->h, 5000);
            world_open(w, 0);
        }
        post_and_wait(w, batch_of(day * 100000 + 50000, 6000));
        pass_time(MS_PER_DAY);
    }
    assert_int_equal(ask(w, DAY0 + 1, 0, "SELECT count(*) FROM block"), 3);
    assert_int_equal(found(w, &(struct report_which){.message_id = 42}, &first), 3);
    assert_int_equal(
        found(w, &(struct report_which){.message_id = 42, .one_rcpt = true, .rcpt_no = 1}, &first), 1);
    assert_int_equal(found(w, &(struct report_which){.address = "r42@D0.example"}, &first), 3);
    assert_int_equal(found(w, &(struct report_which){.address = "r42@d0.example", .newest = 2}, &first), 2);
    assert_int_equal(
        found(w, &(struct report_which){.message_id = 42, .since_unix = NOON + SECS_PER_DAY}, &first), 2);
    assert_int_equal(found(w, &(struct report_which){.message_id = 999999}, &first), 0);
    assert_int_equal(
        found(w, &(struct report_which){.address = "r42@d0.example", .domain = "d1.example"}, &first), 0);
    /* Every single one of a block, wherever it lies. */
    for (uint64_t id = 1000; id < 8000; id += 97)
        assert_int_equal(found(w, &(struct report_which){.message_id = id}, &first), 1);
    assert_int_equal(found(w, &(struct report_which){.domain = "d3.example", .newest = 5}, &first), 5);
    assert_true(first > 250000);
    size_t d3 = 0;
    for (uint64_t id = 0; id < 300000; id++)
        d3 += id % 7 == 3 &&
              ((id % 100000 >= 1000 && id % 100000 < 8000) || (id % 100000 >= 50000 && id % 100000 < 56000));
    assert_int_equal(found(w, &(struct report_which){.domain = "d3.example", .newest = 100000}, &first), d3);
    assert_int_equal(first, 1004);
    assert_int_equal(found(w, &(struct report_which){.newest = 10}, &first), 10);
    assert_int_equal(first, 255990);
}

static void a_report_ends_at_its_deadline(void **state)
{
    struct world *w = *state;
    struct report_delivery d;
    struct report_attempts a;

    world_open(w, 0);
    for (uint64_t i = 0; i < 30; i++)
        post_and_wait(w, batch_of(i * 10000, 10000));
    struct report_query q = {
        .by = REPORT_BY_DOMAIN, .since_unix = NOON - 60, .until_unix = NOON + 60, .timeout_ms = 1};
    assert_int_equal(report_delivery(w->dir, &q, &d), ERR_TIMEOUT);
    struct report_which none = {.address = "r7@d0.example", .domain = "d0.example", .timeout_ms = 1};
    sqlite3 *db; /* without filters each record is looked at */
    char *path = history_file_path(w->dir, DAY0, 0);
    history_close(w->h, 5000);
    w->h = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "DELETE FROM block", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    assert_int_equal(report_attempts(w->dir, &none, &a), OK);
    assert_true(a.cut_short);
    report_attempts_fini(&a);
    mem_free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_WORLD(every_field_of_a_record_comes_back),
        IN_WORLD(a_recipient_is_found_among_blocks_and_days),
        IN_WORLD(a_report_ends_at_its_deadline),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
