#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "policy/classify.h"

/* Replies as large receivers and common servers word them. */
static const struct {
    enum outcome_stage stage;
    uint16_t code;
    const char *text;
    const char *class;
} replies[] = {
    {STAGE_DOT, 250, "2.0.0 Ok: queued as 4F1", "delivered"},
    {STAGE_RCPT, 550, "5.1.1 The email account that you tried to reach does not exist.", "mailbox-unknown"},
    {STAGE_RCPT, 550, "5.1.1 <x@y>: Recipient address rejected: User unknown in virtual mailbox table",
     "mailbox-unknown"},
    {STAGE_RCPT, 550, "Unrouteable address", "mailbox-unknown"},
    {STAGE_RCPT, 550, "Unknown user x@docomo.example", "mailbox-unknown"},
    {STAGE_RCPT, 550, "5.5.0 Requested action not taken: mailbox unavailable", "mailbox-unknown"},
    {STAGE_RCPT, 550, "", "mailbox-unknown"},
    {STAGE_DOT, 554, "delivery error: dd This user doesn't have an account (x) [0]", "policy"},
    {STAGE_RCPT, 450, "4.1.1 user unknown for now", "mailbox-unknown"},
    {STAGE_RCPT, 452, "4.2.2 The recipient's inbox is out of storage space.", "mailbox-full"},
    {STAGE_RCPT, 552, "5.2.2 over quota", "mailbox-full"},
    {STAGE_DOT, 554, "5.0.0 mailbox is full", "mailbox-full"},
    {STAGE_RCPT, 550, "5.2.1 The email account that you tried to reach is inactive.", "mailbox-disabled"},
    {STAGE_RCPT, 450, "4.2.1 The user you are trying to contact is receiving mail at a rate that prevents",
     "rate-limited"},
    {STAGE_RCPT, 556, "5.1.10 does not accept mail", "domain-unknown"},
    {STAGE_RCPT, 556, "no", "domain-unknown"},
    {STAGE_RCPT, 550, "5.1.2 bad destination system", "domain-unknown"},
    {STAGE_RCPT, 450, "4.2.0 <x@y>: Recipient address rejected: Greylisted, see http://…", "greylisted"},
    {STAGE_RCPT, 451, "4.7.1 Greylisting in action, please come back later", "greylisted"},
    {STAGE_DOT, 550, "5.7.1 Our system has detected that this message is likely unsolicited mail", "policy"},
    {STAGE_DOT, 554, "5.7.1 Message rejected as spam", "spam-block"},
    {STAGE_GREETING, 554, "Blocked - see https://ipcheck.example/", "spam-block"},
    {STAGE_RCPT, 550, "5.7.1 Service unavailable; client host [192.0.2.1] blocked using zen.dnsbl.example",
     "spam-block"},
    {STAGE_DOT, 550, "5.7.26 This mail has been blocked because the sender is unauthenticated.",
     "authentication"},
    {STAGE_DOT, 550, "5.7.515 Access denied, sending domain doesn't meet the required authentication level",
     "authentication"},
    {STAGE_DOT, 554, "5.7.9 Message not accepted: unauthenticated mail is not authentic", "authentication"},
    {STAGE_DOT, 550, "5.7.1 rejected by the DMARC policy of example.com", "authentication"},
    {STAGE_MAIL, 421, "4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to user complaints",
     "rate-limited"},
    {STAGE_DOT, 421, "4.7.28 Our system has detected an unusual rate of unsolicited mail", "rate-limited"},
    {STAGE_GREETING, 421, "Too many concurrent connections from your address", "rate-limited"},
    {STAGE_MAIL, 450, "Too many messages, slow down", "rate-limited"},
    {STAGE_RCPT, 452, "4.5.3 Too many recipients", "too-many-recipients"},
    {STAGE_RCPT, 452, "too many recipients", "too-many-recipients"},
    {STAGE_RCPT, 552, "", "too-many-recipients"},
    {STAGE_MAIL, 530, "5.7.0 Must issue a STARTTLS command first", "tls-required"},
    {STAGE_MAIL, 530, "5.7.0 Authentication required", "auth-required"},
    {STAGE_MAIL, 530, "", "auth-required"},
    {STAGE_AUTH, 535, "5.7.8 Error: authentication failed", "auth-required"},
    {STAGE_AUTH, 454, "4.7.0 Temporary authentication failure", "auth-required"},
    {STAGE_STARTTLS, 454, "4.7.0 TLS not available", "tls-failed"},
    {STAGE_STARTTLS, 454, "4.7.4 not for you", "tls-required"},
    {STAGE_MAIL, 552, "5.3.4 Message size exceeds fixed limit", "message-too-big"},
    {STAGE_DOT, 552, "too long", "message-too-big"},
    {STAGE_DOT, 554, "5.6.0 message content not understood", "content"},
    {STAGE_DOT, 554, "5.4.6 Too many hops", "loop"},
    {STAGE_RCPT, 554, "5.7.1 <x@y>: Relay access denied", "policy"},
    {STAGE_GREETING, 521, "host takes no mail", "policy"},
    {STAGE_MAIL, 451, "4.3.0 Error: queue file write error", "system"},
    {STAGE_DOT, 452, "4.3.1 Insufficient system storage", "system"},
    {STAGE_MAIL, 421, "closing", "system"},
    {STAGE_RCPT, 451, "try again", "system"},
    {STAGE_MAIL, 501, "5.5.4 syntax", "protocol"},
    {STAGE_EHLO, 502, "command not implemented", "protocol"},
    {STAGE_DOT, 354, "go ahead", "protocol"},
    {STAGE_DOT, 599, "what", "other"},
    {STAGE_RCPT, 450, "4.4.2 timeout", "network"},
    {STAGE_RCPT, 451, "4.4.3 host not found", "dns"},
};

static void replies_fall_into_the_class_that_an_operator_would_name(void **state)
{
    for (size_t i = 0; i < COUNT_OF(replies); i++) {
        struct outcome o;
        const char *class;

        outcome_from_reply(&o, replies[i].stage, replies[i].code, bytes_of(replies[i].text));
        class = outcome_class_name(classify_outcome(&o));
        if (strcmp(class, replies[i].class) != 0)
            fail_msg("%u %s: %s, not %s", replies[i].code, replies[i].text, class, replies[i].class);
    }
}

static void our_own_outcomes_are_classed_by_where_they_failed(void **state)
{
    static const struct {
        enum outcome_kind kind;
        enum outcome_stage stage;
        uint16_t code;
        const char *enhanced, *class;
    } cases[] = {
        {OUTCOME_DEFERRED, STAGE_DNS, 451, "4.4.3", "dns"},
        {OUTCOME_BOUNCED, STAGE_DNS, 550, "5.4.4", "dns"},
        {OUTCOME_BOUNCED, STAGE_DNS, 550, "5.1.2", "domain-unknown"},
        {OUTCOME_BOUNCED, STAGE_DNS, 556, "5.1.10", "domain-unknown"},
        {OUTCOME_DEFERRED, STAGE_DNS, 451, "4.4.6", "loop"},
        {OUTCOME_DEFERRED, STAGE_CONNECT, 451, "4.4.1", "network"},
        {OUTCOME_DEFERRED, STAGE_CONNECT, 451, "", "network"},
        {OUTCOME_DEFERRED, STAGE_DOT, 451, "4.4.2", "network"},
        {OUTCOME_DEFERRED, STAGE_EHLO, 451, "4.7.4", "tls-required"},
        {OUTCOME_DEFERRED, STAGE_STARTTLS, 451, "4.7.4", "tls-required"},
        {OUTCOME_DEFERRED, STAGE_TLS, 451, "4.7.5", "tls-failed"},
        {OUTCOME_BOUNCED, STAGE_TLS, 550, "5.7.30", "tls-required"},
        {OUTCOME_BOUNCED, STAGE_MAIL, 550, "5.6.3", "content"},
        {OUTCOME_EXPIRED, STAGE_QUEUE, 0, "4.4.7", "expired"},
        {OUTCOME_EXPIRED, STAGE_TLS, 451, "4.7.5", "expired"},
        {OUTCOME_CANCELLED, STAGE_QUEUE, 0, "", "cancelled"},
        {OUTCOME_DELIVERED, STAGE_DOT, 250, "2.0.0", "delivered"},
        {OUTCOME_DEFERRED, STAGE_QUEUE, 0, "", "other"},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct outcome o;

        outcome_local(&o, cases[i].kind, cases[i].stage, cases[i].code, cases[i].enhanced, "user unknown");
        if (strcmp(outcome_class_name(classify_outcome(&o)), cases[i].class) != 0)
            fail_msg("%s %s: %s, not %s", outcome_stage_name(cases[i].stage), cases[i].enhanced,
                     outcome_class_name(classify_outcome(&o)), cases[i].class);
    }
}

/* What must hold whatever the words are. */
static void no_word_of_a_peer_overrules_its_code(void **state)
{
    static const char *const texts[] = {"", "user unknown", "greylisted", "5.1.1 spam", "tls", "too many"};

    for (size_t t = 0; t < COUNT_OF(texts); t++)
        for (int stage = STAGE_CONNECT; stage <= STAGE_DOT; stage++)
            for (uint16_t code = 0; code < 1000; code++) {
                enum outcome_kind kind =
                    classify_reply((enum outcome_stage)stage, code, "", bytes_of(texts[t])).kind;

                if (kind == OUTCOME_DELIVERED)
                    assert_true(stage == STAGE_DOT && code >= 200 && code < 300);
                else if (kind == OUTCOME_BOUNCED)
                    assert_true(stage >= STAGE_MAIL && code >= 500 && code < 600);
                else
                    assert_int_equal(kind, OUTCOME_DEFERRED);
                if (stage == STAGE_DOT && code >= 200 && code < 300)
                    assert_int_equal(kind, OUTCOME_DELIVERED);
            }
}

static void a_refusal_is_what_is_said_against_us(void **state)
{
    static const struct {
        const char *text;
        uint16_t code;
        bool refusal;
    } rows[] = {{"4.7.28 rate limited", 421, true},          {"5.7.1 blocked, see spamhaus", 550, true},
                {"5.1.1 no such user", 550, false},          {"4.2.2 mailbox full", 452, false},
                {"4.7.1 greylisted, try later", 450, false}, {"2.0.0 ok", 250, false},
                {"4.2.2 mailbox busy", 421, true},           {"4.3.2 not now", 451, true},
                {"4.4.6 too many hops", 451, false},         {"4.4.3 no name server answers", 451, false}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct outcome o;
        outcome_from_reply(&o, rows[i].code == 250 ? STAGE_DOT : STAGE_RCPT, rows[i].code,
                           bytes_of(rows[i].text));
        if (outcome_refuses_us(&o) != rows[i].refusal)
            fail_msg("row %zu", i);
    }
}

static void every_class_has_a_name_of_its_own(void **state)
{
    for (int i = 0; i < CLASS_COUNT_; i++) {
        assert_non_null(outcome_class_name((enum outcome_class)i));
        for (int j = 0; j < i; j++)
            assert_string_not_equal(outcome_class_name((enum outcome_class)i),
                                    outcome_class_name((enum outcome_class)j));
    }
    assert_string_equal(outcome_class_name(CLASS_COUNT_), "other");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replies_fall_into_the_class_that_an_operator_would_name),
        cmocka_unit_test(our_own_outcomes_are_classed_by_where_they_failed),
        cmocka_unit_test(no_word_of_a_peer_overrules_its_code),
        cmocka_unit_test(a_refusal_is_what_is_said_against_us),
        cmocka_unit_test(every_class_has_a_name_of_its_own),
    };

    return cmocka_run_group_tests_name("policy/classify", tests, NULL, NULL);
}
