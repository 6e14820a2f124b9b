#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "policy/outcome.h"

static void codes_and_stages_give_the_kind(void **state)
{
    static const struct {
        enum outcome_stage stage;
        uint16_t code;
        const char *text;
        enum outcome_kind kind;
    } cases[] = {
        {STAGE_DOT, 250, "2.0.0 Ok: queued", OUTCOME_DELIVERED},
        {STAGE_DOT, 251, "will forward", OUTCOME_DELIVERED},
        {STAGE_DOT, 451, "4.3.0 try later", OUTCOME_DEFERRED},
        {STAGE_DOT, 554, "5.7.1 spam", OUTCOME_BOUNCED},
        /* a 2yz before the whole message hands nothing over */
        {STAGE_MAIL, 250, "2.1.0 Ok", OUTCOME_DEFERRED},
        {STAGE_RCPT, 250, "2.1.5 Ok", OUTCOME_DEFERRED},
        {STAGE_DATA, 250, "Ok", OUTCOME_DEFERRED},
        {STAGE_DOT, 354, "go on", OUTCOME_DEFERRED},
        {STAGE_DOT, 150, "", OUTCOME_DEFERRED},
        {STAGE_DOT, 0, "", OUTCOME_DEFERRED},
        {STAGE_DOT, 600, "", OUTCOME_DEFERRED},
        {STAGE_DOT, 999, "", OUTCOME_DEFERRED},
        /* 421 anywhere */
        {STAGE_GREETING, 421, "closing", OUTCOME_DEFERRED},
        {STAGE_EHLO, 421, "closing", OUTCOME_DEFERRED},
        {STAGE_MAIL, 421, "4.3.2 closing", OUTCOME_DEFERRED},
        {STAGE_RCPT, 421, "4.7.0 closing", OUTCOME_DEFERRED},
        {STAGE_DOT, 421, "closing", OUTCOME_DEFERRED},
        {STAGE_RCPT, 421, "5.1.1 user unknown", OUTCOME_DEFERRED},
        /* 5yz that speaks of the host */
        {STAGE_GREETING, 554, "5.7.1 no", OUTCOME_DEFERRED},
        {STAGE_GREETING, 521, "takes no mail", OUTCOME_DEFERRED},
        {STAGE_EHLO, 550, "bad name", OUTCOME_DEFERRED},
        {STAGE_EHLO, 502, "unknown command", OUTCOME_DEFERRED},
        {STAGE_STARTTLS, 554, "5.7.3 no TLS", OUTCOME_DEFERRED},
        {STAGE_STARTTLS, 454, "4.7.0 no TLS now", OUTCOME_DEFERRED},
        {STAGE_AUTH, 535, "5.7.8 wrong", OUTCOME_DEFERRED},
        {STAGE_AUTH, 550, "5.1.1 what", OUTCOME_DEFERRED},
        /* 5yz that speaks of the recipient or the message */
        {STAGE_MAIL, 550, "5.7.1 sender refused", OUTCOME_BOUNCED},
        {STAGE_MAIL, 552, "5.3.4 too big", OUTCOME_BOUNCED},
        {STAGE_RCPT, 550, "5.1.1 no such user", OUTCOME_BOUNCED},
        {STAGE_RCPT, 556, "5.1.10 null MX", OUTCOME_BOUNCED},
        {STAGE_RCPT, 553, "bad mailbox", OUTCOME_BOUNCED},
        {STAGE_DATA, 554, "no valid recipients", OUTCOME_BOUNCED},
        {STAGE_DOT, 552, "5.2.2 full", OUTCOME_BOUNCED},
        /* RFC 5321 §4.5.3.1.10 */
        {STAGE_RCPT, 552, "too many recipients", OUTCOME_DEFERRED},
        {STAGE_RCPT, 452, "4.5.3 too many recipients", OUTCOME_DEFERRED},
        /* mail never bounces for lack of TLS but by its age */
        {STAGE_MAIL, 530, "5.7.0 Must issue a STARTTLS command first", OUTCOME_DEFERRED},
        {STAGE_RCPT, 550, "5.7.10 encryption needed", OUTCOME_DEFERRED},
        {STAGE_MAIL, 530, "5.7.0 Authentication required", OUTCOME_BOUNCED},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct outcome o;

        outcome_from_reply(&o, cases[i].stage, cases[i].code, bytes_of(cases[i].text));
        if (o.kind != cases[i].kind)
            fail_msg("%u %s at %s: %s", cases[i].code, cases[i].text, outcome_stage_name(cases[i].stage),
                     outcome_kind_name(o.kind));
        assert_int_equal(o.stage, cases[i].stage);
        assert_int_equal(o.code, cases[i].code);
        assert_true(o.remote);
        assert_false(o.in_doubt);
    }
}

static void an_enhanced_code_is_split_off_when_its_class_agrees(void **state)
{
    static const struct {
        uint16_t code;
        const char *in, *enhanced, *text;
    } cases[] = {
        {550, "5.1.1 no such user", "5.1.1", "no such user"},
        {250, "2.0.0 Ok", "2.0.0", "Ok"},
        {450, "4.2.0", "4.2.0", ""},
        {550, "5.7.515 access denied", "5.7.515", "access denied"},
        {550, "5.100.200 x", "5.100.200", "x"},
        {550, "5.1.1: no such user", "5.1.1", "no such user"},
        {550, "5.1.1\tx", "5.1.1", "x"},
        {550, "  5.1.1   x  ", "5.1.1", "x"},
        /* the class disagrees: the basic code rules, the text stays whole */
        {550, "4.2.1 mailbox busy", "", "4.2.1 mailbox busy"},
        {450, "5.1.1 no such user", "", "5.1.1 no such user"},
        {250, "5.0.0 Ok", "", "5.0.0 Ok"},
        /* not a code at all */
        {550, "5.1 x", "", "5.1 x"},
        {550, "5.1.1x", "", "5.1.1x"},
        {550, "5.1.1.1 x", "", "5.1.1.1 x"},
        {550, "5.1000.1 x", "", "5.1000.1 x"},
        {550, "5.1.1000 x", "", "5.1.1000 x"},
        {550, "5..1 x", "", "5..1 x"},
        {550, "55.1.1 x", "", "55.1.1 x"},
        {550, "user unknown 5.1.1", "", "user unknown 5.1.1"},
        {550, "", "", ""},
        {550, "5", "", "5"},
        {550, "5.", "", "5."},
        {550, "5.1.", "", "5.1."},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct outcome o;

        outcome_from_reply(&o, STAGE_RCPT, cases[i].code, bytes_of(cases[i].in));
        assert_string_equal(o.enhanced, cases[i].enhanced);
        assert_string_equal(o.text, cases[i].text);
    }
}

static void hostile_text_is_made_safe(void **state)
{
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"a\r\nb", "a  b"},
        {"a\tb", "a b"},
        {"\x1b[31mred\x07", "?[31mred?"},
        {"del\x7f", "del?"},
        {"c1 \xc2\x85 x", "c1 ? x"}, /* NEL */
        {"例え", "例え"},            /* RFC 6531 replies */
        {"emoji \xf0\x9f\x93\xa7", "emoji \xf0\x9f\x93\xa7"},
        {"latin \xe9t\xe9", "latin ?t?"},
        {"cut \xe4\xbe", "cut ??"},
        {"overlong \xc0\xaf", "overlong ??"},
        {"overlong \xe0\x80\xaf", "overlong ???"},
        {"overlong \xf0\x80\x80\xaf", "overlong ????"},
        {"surrogate \xed\xa0\x80", "surrogate ???"},
        {"past \xf4\x90\x80\x80", "past ????"},
        {"no lead \x80\xbf", "no lead ??"},
        {"never \xff\xfe\xf8", "never ???"},
        {"bidi \xe2\x80\xae"
         "abc",
         "bidi ?abc"},
        {"line \xe2\x80\xa8 end", "line ? end"},
        {"bom \xef\xbb\xbf", "bom ?"},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct outcome o;

        outcome_from_reply(&o, STAGE_RCPT, 550, bytes_make(cases[i].in, strlen(cases[i].in)));
        assert_string_equal(o.text, cases[i].out);
        outcome_local(&o, OUTCOME_DEFERRED, STAGE_TLS, 451, "4.7.5", "%s", cases[i].in);
        assert_string_equal(o.text, cases[i].out);
    }
}

static void a_nul_in_the_text_ends_nothing(void **state)
{
    struct outcome o;

    outcome_from_reply(&o, STAGE_RCPT, 550, bytes_make("a\0b", 3));
    assert_string_equal(o.text, "a?b");
}

static void long_text_is_cut_between_characters(void **state)
{
    char text[OUTCOME_TEXT_BYTES * 2];
    struct outcome o;

    memset(text, 'x', sizeof(text));
    outcome_from_reply(&o, STAGE_DOT, 550, bytes_make(text, sizeof(text)));
    assert_int_equal(strlen(o.text), OUTCOME_TEXT_BYTES - 1);
    for (size_t lead = 0; lead < 4; lead++) { /* four octets a character, at each offset to the end */
        size_t len = lead;

        memset(text, 'x', lead);
        for (; len + 4 <= sizeof(text); len += 4)
            memcpy(text + len, "\xf0\x9f\x93\xa7", 4);
        outcome_from_reply(&o, STAGE_DOT, 550, bytes_make(text, len));
        assert_int_equal(strlen(o.text), lead + (OUTCOME_TEXT_BYTES - 1 - lead) / 4 * 4);
        assert_null(strchr(o.text, '?'));
    }
    outcome_from_reply(&o, STAGE_DOT, 550, bytes_make(text, OUTCOME_TEXT_BYTES - 1));
    assert_int_equal(strlen(o.text), OUTCOME_TEXT_BYTES - 1 - (OUTCOME_TEXT_BYTES - 1 - 3) % 4);
}

static void our_own_outcomes_carry_what_they_are_given(void **state)
{
    struct outcome o;

    memset(&o, 0xff, sizeof(o));
    outcome_local(&o, OUTCOME_DEFERRED, STAGE_CONNECT, 451, "4.4.1", "%s:%d: %s", "mx.example", 25,
                  "refused");
    assert_int_equal(o.kind, OUTCOME_DEFERRED);
    assert_int_equal(o.stage, STAGE_CONNECT);
    assert_int_equal(o.code, 451);
    assert_string_equal(o.enhanced, "4.4.1");
    assert_false(o.remote);
    assert_false(o.in_doubt);
    assert_string_equal(o.text, "mx.example:25: refused");
    outcome_local(&o, OUTCOME_CANCELLED, STAGE_QUEUE, 0, NULL, "by operator");
    assert_string_equal(o.enhanced, "");
    outcome_local(&o, OUTCOME_EXPIRED, STAGE_QUEUE, 0, "much too long for a code", "x");
    assert_int_equal(strlen(o.enhanced), sizeof(o.enhanced) - 1);
}

static void want_of_tls_is_told_from_what_the_peer_says_about_other_things(void **state)
{
    static const struct {
        struct outcome o;
        bool for_tls;
    } cases[] = {
        {{.kind = OUTCOME_DEFERRED, .stage = STAGE_STARTTLS, .remote = true, .enhanced = "4.3.0"}, true},
        {{.kind = OUTCOME_DEFERRED, .stage = STAGE_TLS, .enhanced = "4.7.5"}, true},
        {{.kind = OUTCOME_EXPIRED, .stage = STAGE_TLS}, true},
        {{.kind = OUTCOME_DEFERRED, .stage = STAGE_EHLO, .enhanced = "4.7.4"}, true},
        {{.kind = OUTCOME_DEFERRED, .stage = STAGE_DNS, .enhanced = "4.7.5"}, true}, /* a host left out */
        {{.kind = OUTCOME_BOUNCED, .stage = STAGE_EHLO, .enhanced = "5.7.30"}, true},
        {{.kind = OUTCOME_BOUNCED, .stage = STAGE_RCPT, .enhanced = "5.7.30", .remote = true}, false},
        {{.kind = OUTCOME_DEFERRED, .stage = STAGE_RCPT, .enhanced = "4.7.5", .remote = true}, false},
        {{.kind = OUTCOME_DEFERRED, .stage = STAGE_CONNECT, .enhanced = "4.4.1"}, false},
        {{.kind = OUTCOME_DEFERRED, .stage = STAGE_EHLO}, false},
        {{.kind = OUTCOME_DEFERRED, .stage = STAGE_EHLO, .enhanced = "4.7.50"}, false},
        {{.kind = OUTCOME_DELIVERED, .stage = STAGE_TLS, .enhanced = "4.7.5"}, false},
        {{.kind = OUTCOME_CANCELLED, .stage = STAGE_TLS, .enhanced = "4.7.5"}, false},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++)
        if (outcome_failed_for_tls(&cases[i].o) != cases[i].for_tls)
            fail_msg("row %zu", i);
}

static void every_kind_and_stage_has_a_name_of_its_own(void **state)
{
    for (int i = OUTCOME_DELIVERED; i <= OUTCOME_CANCELLED; i++)
        for (int j = OUTCOME_DELIVERED; j < i; j++)
            assert_string_not_equal(outcome_kind_name((enum outcome_kind)i),
                                    outcome_kind_name((enum outcome_kind)j));
    for (int i = STAGE_QUEUE; i <= STAGE_DOT; i++)
        for (int j = STAGE_QUEUE; j < i; j++)
            assert_string_not_equal(outcome_stage_name((enum outcome_stage)i),
                                    outcome_stage_name((enum outcome_stage)j));
    assert_string_equal(outcome_stage_name(STAGE_DOT), "dot");
    assert_string_equal(outcome_kind_name(OUTCOME_EXPIRED), "expired");
    assert_string_equal(outcome_kind_name((enum outcome_kind)99), "unknown");
    assert_string_equal(outcome_stage_name((enum outcome_stage)99), "unknown");
}

static void what_needs_a_second_attempt_is_put_off_at_the_first(void **state)
{
    struct outcome o;

    (void)state;
    outcome_local(&o, OUTCOME_BOUNCED, STAGE_DNS, 550, "5.4.4", "the DNS names of %s form a loop",
                  "a.example");
    assert_false(o.needs_second);
    outcome_put_off(&o);
    assert_int_equal(o.kind, OUTCOME_DEFERRED);
    assert_int_equal(o.code, 451);
    assert_string_equal(o.enhanced, "4.4.3");
    assert_string_equal(o.text, "the DNS names of a.example form a loop");
    assert_false(outcome_failed_for_tls(&o));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(codes_and_stages_give_the_kind),
        cmocka_unit_test(an_enhanced_code_is_split_off_when_its_class_agrees),
        cmocka_unit_test(hostile_text_is_made_safe),
        cmocka_unit_test(a_nul_in_the_text_ends_nothing),
        cmocka_unit_test(long_text_is_cut_between_characters),
        cmocka_unit_test(our_own_outcomes_carry_what_they_are_given),
        cmocka_unit_test(want_of_tls_is_told_from_what_the_peer_says_about_other_things),
        cmocka_unit_test(every_kind_and_stage_has_a_name_of_its_own),
        cmocka_unit_test(what_needs_a_second_attempt_is_put_off_at_the_first),
    };

    return cmocka_run_group_tests_name("policy/outcome", tests, NULL, NULL);
}
