#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "engine/tls_state.h"

#define CLEAR TLS_REACHED_CLEAR
#define ENCR  TLS_REACHED_ENCRYPTED
#define AUTH  TLS_REACHED_AUTHENTICATED
#define DAY   86400
#define T0    1795262400

/* What happens to one destination, one step after the other. */
struct step {
    enum { SESSION, APPROVE, FORGET, RESTART } what;
    const char *mx; /* NULL: all */
    enum tls_reached reached;
    int64_t at_s; /* from the beginning */
    /* and what then holds: */
    enum tls_watch_says says;
    size_t open, entries;
    unsigned changed; /* of the operator's steps */
};
#define SAYS(mx, reached, at, says, open, entries)                                                           \
    {                                                                                                        \
        SESSION, mx, reached, at, TLS_WATCH_##says, open, entries, 0                                         \
    }

static void restart(struct tls_state *s)
{
    struct tls_state again = {0};
    char *seen = tls_state_format_seen(s), *entries = tls_state_format_entries(s);
    bool has_entries;

    assert_int_equal(tls_state_parse_seen(&again, bytes_of(seen), &has_entries), OK);
    assert_int_equal(has_entries, s->entry_count > 0);
    assert_int_equal(tls_state_parse_entries(&again, bytes_of(entries), T0), OK);
    mem_free(seen);
    mem_free(entries);
    tls_state_fini(s);
    *s = again;
}

static void play(const char *name, const struct step *steps, size_t count)
{
    struct tls_state s = {0};
    long open = 0;

    for (size_t i = 0; i < count; i++) {
        const struct step *step = &steps[i];
        const struct tls_watched what = {.mx = step->mx,
                                         .remote = "192.0.2.1:25",
                                         .reached = step->reached,
                                         .smarthost = step->mx && strcmp(step->mx, "relay") == 0};
        unsigned changed = 0;
        if (step->what == SESSION) {
            struct tls_verdict v = tls_state_judge(&s, &what, T0 + step->at_s);
            open += v.open_change;
            if (v.says != step->says)
                fail_msg("%s, step %zu: says %d", name, i, v.says);
        } else if (step->what == APPROVE) {
            changed = tls_state_approve(&s, step->mx, "operator", T0 + step->at_s);
            open -= changed;
        } else if (step->what == FORGET) {
            open = -1;
            changed = tls_state_forget(&s, step->mx);
            open = (long)tls_state_open(&s);
        }
        restart(&s); /* what is not kept is not known */
        if (changed != step->changed || tls_state_open(&s) != step->open || s.entry_count != step->entries ||
            open != (long)step->open)
            fail_msg("%s, step %zu: changed %u, open %zu (counted %ld), entries %zu", name, i, changed,
                     tls_state_open(&s), open, s.entry_count);
    }
    tls_state_fini(&s);
}

#define PLAY(name, ...)                                                                                      \
    do {                                                                                                     \
        static const struct step steps_[] = {__VA_ARGS__};                                                   \
        play(name, steps_, COUNT_OF(steps_));                                                                \
    } while (0)

static void what_was_never_better_is_no_downgrade(void **state)
{
    (void)state;
    PLAY("first clear", SAYS("mx", CLEAR, 0, OK, 0, 0), SAYS("mx", CLEAR, 1, OK, 0, 0));
    PLAY("it only gets better", SAYS("mx", CLEAR, 0, OK, 0, 0), SAYS("mx", ENCR, 1, OK, 0, 0),
         SAYS("mx", AUTH, 2, OK, 0, 0), SAYS("mx", AUTH, 3, OK, 0, 0));
    PLAY("hosts of their own kind", SAYS("mx2", CLEAR, 0, OK, 0, 0), SAYS("mx1", AUTH, 1, OK, 0, 0),
         SAYS("mx2", CLEAR, 2, OK, 0, 0), SAYS("mx1", AUTH, 3, OK, 0, 0));
}

static void less_than_before_is_an_entry_until_it_is_better_again(void **state)
{
    (void)state;
    PLAY("to clear", SAYS("mx", ENCR, 0, OK, 0, 0), SAYS("mx", CLEAR, 1, DOWNGRADED, 1, 1),
         SAYS("mx", CLEAR, 2, DOWNGRADED, 1, 1), SAYS("mx", ENCR, 3, OK, 0, 1),
         SAYS("mx", CLEAR, 4, DOWNGRADED, 1, 1));
    PLAY("half way back is not back", SAYS("mx", AUTH, 0, OK, 0, 0), SAYS("mx", CLEAR, 1, DOWNGRADED, 1, 1),
         SAYS("mx", ENCR, 2, DOWNGRADED, 1, 1), SAYS("mx", AUTH, 3, OK, 0, 1));
    PLAY("a host that is new must be as good as the destination was", SAYS("mx1", AUTH, 0, OK, 0, 0),
         SAYS("mx2", ENCR, 1, DOWNGRADED, 1, 1), SAYS("mx2", ENCR, 2, DOWNGRADED, 1, 1),
         SAYS("mx3", CLEAR, 3, DOWNGRADED, 2, 2), SAYS("mx1", AUTH, 4, OK, 2, 2));
}

static void what_is_approved_is_expected_from_then_on(void **state)
{
    (void)state;
    PLAY("approved", SAYS("mx", AUTH, 0, OK, 0, 0), SAYS("mx", ENCR, 1, DOWNGRADED, 1, 1),
         {APPROVE, NULL, 0, 2, 0, 0, 1, 1}, SAYS("mx", ENCR, 3, OK, 0, 1),
         SAYS("mx", CLEAR, 4, DOWNGRADED, 1, 1));
    PLAY("only one host", SAYS("a", AUTH, 0, OK, 0, 0), SAYS("b", ENCR, 1, DOWNGRADED, 1, 1),
         SAYS("c", ENCR, 1, DOWNGRADED, 2, 2), {APPROVE, "b", 0, 2, 0, 1, 2, 1}, SAYS("b", ENCR, 3, OK, 1, 2),
         SAYS("c", ENCR, 3, DOWNGRADED, 1, 2));
    PLAY("nothing to approve", SAYS("mx", AUTH, 0, OK, 0, 0), {APPROVE, NULL, 0, 1, 0, 0, 0, 0},
         SAYS("mx", ENCR, 2, DOWNGRADED, 1, 1), {APPROVE, "other", 0, 3, 0, 1, 1, 0});
    PLAY("a new host must be as good as what was approved", SAYS("old", AUTH, 0, OK, 0, 0),
         SAYS("new1", ENCR, 1, DOWNGRADED, 1, 1), {APPROVE, NULL, 0, 2, 0, 0, 1, 1},
         SAYS("new2", ENCR, 3, OK, 0, 1), SAYS("new3", CLEAR, 4, DOWNGRADED, 1, 2));
}

static void an_approval_outlives_a_good_day_and_ends_after_a_good_week(void **state)
{
    (void)state;
    PLAY("now this, now that", SAYS("mx", AUTH, 0, OK, 0, 0), SAYS("mx", ENCR, 1, DOWNGRADED, 1, 1),
         {APPROVE, NULL, 0, 2, 0, 0, 1, 1}, SAYS("mx", AUTH, DAY, OK, 0, 1),
         SAYS("mx", ENCR, DAY + 1, OK, 0, 1), SAYS("mx", AUTH, 7 * DAY, OK, 0, 1),
         SAYS("mx", ENCR, 7 * DAY + 1, OK, 0, 1));
    PLAY("a good week", SAYS("mx", AUTH, 0, OK, 0, 0), SAYS("mx", ENCR, 1, DOWNGRADED, 1, 1),
         {APPROVE, NULL, 0, 2, 0, 0, 1, 1}, SAYS("mx", AUTH, DAY, OK, 0, 1),
         SAYS("mx", AUTH, 8 * DAY, OK, 0, 1), SAYS("mx", ENCR, 8 * DAY + 1, DOWNGRADED, 1, 1));
}

static void what_is_forgotten_begins_anew(void **state)
{
    (void)state;
    PLAY("all", SAYS("mx", AUTH, 0, OK, 0, 0), SAYS("mx", ENCR, 1, DOWNGRADED, 1, 1),
         {FORGET, NULL, 0, 2, 0, 0, 0, 2}, SAYS("mx", ENCR, 3, OK, 0, 0),
         SAYS("mx", CLEAR, 4, DOWNGRADED, 1, 1));
    PLAY("a host", SAYS("a", AUTH, 0, OK, 0, 0), SAYS("b", ENCR, 1, DOWNGRADED, 1, 1),
         {FORGET, "a", 0, 2, 0, 1, 1, 1}, {FORGET, "b", 0, 2, 0, 0, 0, 1}, SAYS("b", ENCR, 3, OK, 0, 0));
    PLAY("nothing", {FORGET, NULL, 0, 0, 0, 0, 0, 0}, {FORGET, "mx", 0, 0, 0, 0, 0, 0});
}

static void an_entry_says_what_happened(void **state)
{
    struct tls_state s = {0};
    struct tls_watched what = {.mx = "mx", .reached = AUTH};
    char long_text[2000];

    (void)state;
    memset(long_text, 'x', sizeof(long_text) - 1);
    long_text[sizeof(long_text) - 1] = '\0';
    (void)tls_state_judge(&s, &what, T0);
    what =
        (struct tls_watched){"mx", "192.0.2.1:25", false, TLS_REACHED_NOTHING, ENCR, "certificate expired"};
    struct tls_verdict v = tls_state_judge(&s, &what, T0 + 10);
    assert_true(v.event == TLS_STATE_WORSE && v.entries_changed);
    what = (struct tls_watched){
        "mx", "192.0.2.2:25", false, TLS_REACHED_NOTHING, CLEAR, "502 5.5.1 \xff unknown command"};
    v = tls_state_judge(&s, &what, T0 + 20);
    assert_true(v.event == TLS_STATE_SAME && v.entries_changed); /* it got worse yet */
    v = tls_state_judge(&s, &what, T0 + 30);
    assert_true(v.event == TLS_STATE_SAME && !v.entries_changed && v.entries_counted);
    json_t *o = tls_downgrade_json("x.example", v.entry);
    char *text = json_dumps(o, JSON_COMPACT);
    assert_string_equal(
        text,
        "{\"domain\":\"x.example\",\"mx\":\"mx\",\"remote\":\"192.0.2.2:25\",\"from\":\"authenticated\","
        "\"to\":\"clear\",\"state\":\"open\",\"first_unix\":1795262410,\"last_unix\":1795262430,\"count\":3,"
        "\"evidence\":\"502 5.5.1 ? unknown "
        "command\",\"approved_by\":null,\"approved_unix\":0,\"over_unix\":0}");
    free(text);
    json_decref(o);
    what.evidence = long_text;
    v = tls_state_judge(&s, &what, T0 + 40);
    assert_int_equal(strlen(v.entry->evidence), TLS_EVIDENCE_BYTES);
    restart(&s);
    assert_int_equal(s.entries[0].count, 4);
    tls_state_fini(&s);
}

static void memory_is_bounded_and_open_entries_go_last(void **state)
{
    struct tls_state s = {0};
    char mx[64];
    long open = 0;

    (void)state;
    for (int i = 0; i < 100; i++) {
        snprintf(mx, sizeof(mx), "good%d", i);
        (void)tls_state_judge(&s, &(struct tls_watched){.mx = mx, .reached = AUTH}, T0);
    }
    assert_int_equal(s.host_count, TLS_STATE_HOSTS);
    assert_int_equal(s.best, AUTH);
    for (int i = 0; i < 100; i++) {
        snprintf(mx, sizeof(mx), "bad%d", i);
        open += tls_state_judge(&s, &(struct tls_watched){.mx = mx, .reached = CLEAR}, T0 + i).open_change;
        if (i == 3) /* over before the others */
            open += tls_state_judge(&s, &(struct tls_watched){.mx = mx, .reached = AUTH}, T0 + i).open_change;
        assert_int_equal(tls_state_open(&s), open);
    }
    assert_int_equal(s.entry_count, TLS_STATE_ENTRIES);
    assert_int_equal(open, TLS_STATE_ENTRIES);
    char *entries = tls_state_format_entries(&s);
    assert_true(strlen(entries) < 64 * 1024);
    mem_free(entries);
    tls_state_fini(&s);
}

static void entries_that_are_long_over_are_dropped(void **state)
{
    struct tls_state s = {0};

    (void)state;
    (void)tls_state_judge(&s, &(struct tls_watched){.mx = "mx", .reached = ENCR}, T0);
    (void)tls_state_judge(&s, &(struct tls_watched){.mx = "mx", .reached = CLEAR}, T0);
    (void)tls_state_judge(&s, &(struct tls_watched){.mx = "mx", .reached = ENCR}, T0 + 5);
    char *entries = tls_state_format_entries(&s);
    assert_int_equal(tls_state_parse_entries(&s, bytes_of(entries), T0 + 5 + TLS_OVER_KEPT_S), OK);
    assert_int_equal(s.entry_count, 1);
    assert_int_equal(tls_state_parse_entries(&s, bytes_of(entries), T0 + 6 + TLS_OVER_KEPT_S), OK);
    assert_int_equal(s.entry_count, 0);
    mem_free(entries);
    tls_state_fini(&s);
}

static void a_value_that_is_not_ours_changes_nothing(void **state)
{
    static const char *const bad_seen[] = {
        "",
        "x",
        "{}",
        "[]",
        "{\"best\":\"good\"}",
        "{\"best\":3}",
        "{\"best\":\"clear\",\"hosts\":[{}]}",
        "{\"best\":\"clear\",\"hosts\":[{\"mx\":\"a\",\"best\":\"?\"}]}",
        "{\"best\":\"clear\",\"hosts\":[{\"mx\":\"a\",\"best\":\"clear\"},7]}"};
    static const char *const bad_entries[] = {
        "",
        "{}",
        "[1]",
        "[{}]",
        "[{\"mx\":\"a\",\"from\":\"clear\",\"to\":\"clear\"}]",
        "[{\"mx\":\"a\",\"from\":\"clear\",\"to\":\"clear\",\"state\":\"open\"},{}]"};
    struct tls_state s = {0};
    bool has_entries;

    (void)state;
    (void)tls_state_judge(&s, &(struct tls_watched){.mx = "mx", .reached = ENCR}, T0);
    (void)tls_state_judge(&s, &(struct tls_watched){.mx = "mx", .reached = CLEAR}, T0);
    for (size_t i = 0; i < COUNT_OF(bad_seen); i++)
        assert_int_equal(tls_state_parse_seen(&s, bytes_of(bad_seen[i]), &has_entries), ERR_CORRUPT);
    for (size_t i = 0; i < COUNT_OF(bad_entries); i++)
        assert_int_equal(tls_state_parse_entries(&s, bytes_of(bad_entries[i]), T0), ERR_CORRUPT);
    assert_true(s.best == ENCR && s.host_count == 1 && s.entry_count == 1);
    tls_state_fini(&s);
}

static void a_session_reaches_what_its_certificate_is_worth(void **state)
{
    static const struct {
        const char *version;
        enum tls_verify verify;
        enum tls_reached want;
    } cases[] = {{NULL, TLS_VERIFY_NONE, CLEAR},           {"TLS1.3", TLS_VERIFY_PKIX, AUTH},
                 {"TLS1.2", TLS_VERIFY_DANE, AUTH},        {"TLS1.2", TLS_VERIFY_DANE_HALF, AUTH},
                 {"TLS1.3", TLS_VERIFY_PIN, AUTH},         {"TLS1.3", TLS_VERIFY_SELF_SIGNED, ENCR},
                 {"TLS1.3", TLS_VERIFY_EXPIRED, ENCR},     {"TLS1.3", TLS_VERIFY_WRONG_NAME, ENCR},
                 {"TLS1.2", TLS_VERIFY_NO_CERT, ENCR},     {"TLS1.2", TLS_VERIFY_WEAK, ENCR},
                 {"TLS1.3", TLS_VERIFY_PIN_MISMATCH, ENCR}};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_int_equal(tls_reached_of(cases[i].version, cases[i].verify), cases[i].want);
}

static void a_smart_host_is_held_to_itself_and_holds_nobody(void **state)
{
    static const struct step beside[] = {
        SAYS("mx", AUTH, 0, OK, 0, 0),           SAYS("relay", CLEAR, 10, OK, 0, 0),
        SAYS("relay", ENCR, 20, OK, 0, 0),       SAYS("relay", CLEAR, 30, DOWNGRADED, 1, 1),
        SAYS("mx2", ENCR, 40, DOWNGRADED, 2, 2), SAYS("relay", ENCR, 50, OK, 1, 2),
    };
    static const struct step alone[] = {
        SAYS("relay", AUTH, 0, OK, 0, 0),
        SAYS("mx", CLEAR, 10, OK, 0, 0),
        SAYS("relay", ENCR, 20, DOWNGRADED, 1, 1),
    };

    (void)state;
    play("beside", beside, COUNT_OF(beside));
    play("alone", alone, COUNT_OF(alone));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_smart_host_is_held_to_itself_and_holds_nobody),
        cmocka_unit_test(what_was_never_better_is_no_downgrade),
        cmocka_unit_test(less_than_before_is_an_entry_until_it_is_better_again),
        cmocka_unit_test(what_is_approved_is_expected_from_then_on),
        cmocka_unit_test(an_approval_outlives_a_good_day_and_ends_after_a_good_week),
        cmocka_unit_test(what_is_forgotten_begins_anew),
        cmocka_unit_test(an_entry_says_what_happened),
        cmocka_unit_test(memory_is_bounded_and_open_entries_go_last),
        cmocka_unit_test(entries_that_are_long_over_are_dropped),
        cmocka_unit_test(a_value_that_is_not_ours_changes_nothing),
        cmocka_unit_test(a_session_reaches_what_its_certificate_is_worth),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
