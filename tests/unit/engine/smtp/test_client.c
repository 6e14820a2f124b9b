/* Transactions of the outbound conversation, told by a scripted server. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/engine/smtp/client_script.h"

#define HELLO     "S 220 mx.example", "C EHLO me.example"
#define PIPELINES HELLO, "S 250-mx.example", "S 250 PIPELINING"
#define BODY      "C Subject: hi", "C ", "C Hi.", "C ."
#define MAIL_A    "C MAIL FROM:<a@s.example>"
#define RCPT_R    "C RCPT TO:<r@d.example>"
#define BYE       "C QUIT", "S 221 bye"
#define ORDERLY   "\nover: delivered queue 0"

static const struct script_message three_rcpts[] = {
    {.sender = "a@s.example", .rcpts = {"r1@d.example", "r2@d.example", "r3@d.example"}, .body = "Hi.\r\n"},
    {0},
};
#define RCPTS3 "C RCPT TO:<r1@d.example>", "C RCPT TO:<r2@d.example>", "C RCPT TO:<r3@d.example>"

static const struct script_message two[] = {
    {.sender = "a@s.example", .rcpts = {"r@d.example"}, .body = "Subject: hi\r\n\r\nHi.\r\n"},
    {.sender = "b@s.example", .rcpts = {"r@d.example"}, .body = "Second.\r\n"},
    {0},
};
static const struct script_message three[] = {
    {.sender = "a@s.example", .rcpts = {"r@d.example"}, .body = "Subject: hi\r\n\r\nHi.\r\n"},
    {.sender = "b@s.example", .rcpts = {"r@d.example"}, .body = "Second.\r\n"},
    {.sender = "c@s.example", .rcpts = {"r@d.example"}, .body = "Third.\r\n"},
    {0},
};
#define MAIL_B "C MAIL FROM:<b@s.example>"
#define MAIL_C "C MAIL FROM:<c@s.example>"

static void play(const struct script_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++)
        script_play_every_way(&cases[i]);
}

static void one_message_goes_as_the_peer_and_the_rule_allow(void **state)
{
    (void)state;
    const struct script_case cases[] = {
        {.name = "no pipelining offered",
         .pipelining = SMTP_PIPELINING_FULL,
         .lines = LINES(HELLO, "S 250 mx.example", MAIL_A, "S 250 ok", RCPT_R, "S 250 ok", "C DATA",
                        "S 354 go", BODY, "S 250 2.0.0 queued", BYE),
         .want = "A+: delivered dot 250 2.0.0" ORDERLY},
        {.name = "pipelining offered but off",
         .pipelining = SMTP_PIPELINING_OFF,
         .lines = LINES(PIPELINES, MAIL_A, "S 250 ok", RCPT_R, "S 250 ok", "C DATA", "S 354 go", BODY,
                        "S 250 ok", BYE),
         .want = "A+: delivered dot 250" ORDERLY},
        {.name = "commands in one write",
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(PIPELINES, MAIL_A, RCPT_R, "C DATA", "S 250 ok", "S 250 ok", "S 354 go", BODY,
                        "S 250 ok", BYE),
         .want = "A+: delivered dot 250" ORDERLY},
        {.name = "replies may be multi-line, without text, with 8-bit octets",
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(PIPELINES, MAIL_A, RCPT_R, "C DATA", "S 250-", "S 250", "S 251-r\xe9p", "S 251",
                        "S 354", BODY, "S 250-2.6.0 took", "S 250 2.6.0 it", BYE),
         .want = "A+: delivered dot 250 2.6.0" ORDERLY},
        {.name = "greeting of several lines",
         .lines = LINES("S 220-mx.example", "S 220-no spam", "S 220 ", "C EHLO me.example", "S 250 mx",
                        MAIL_A, "S 250 ok", RCPT_R, "S 250 ok", "C DATA", "S 354 go", BODY, "S 250 ok", BYE),
         .want = "A+: delivered dot 250" ORDERLY},
        {.name = "three recipients, no pipelining",
         .messages = three_rcpts,
         .lines = LINES(HELLO, "S 250 mx.example", MAIL_A, "S 250 ok", "C RCPT TO:<r1@d.example>", "S 250 ok",
                        "C RCPT TO:<r2@d.example>", "S 250 ok", "C RCPT TO:<r3@d.example>", "S 250 ok",
                        "C DATA", "S 354 go", "C Hi.", "C .", "S 250 ok", BYE),
         .want = "A+: delivered dot 250, delivered dot 250, delivered dot 250" ORDERLY},
    };
    play(cases, COUNT_OF(cases));
}

/* T44 */
static void each_recipient_has_its_own_outcome(void **state)
{
    (void)state;
    const struct script_case cases[] = {
        {.name = "some refused, in order of replies",
         .messages = three_rcpts,
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(PIPELINES, MAIL_A, RCPTS3, "C DATA", "S 250 ok", "S 550 5.1.1 unknown",
                        "S 251 will forward", "S 450 4.2.1 greylisted", "S 354 go", "C Hi.", "C .",
                        "S 250 ok", BYE),
         .want = "A+: bounced rcpt 550 5.1.1, delivered dot 250, deferred rcpt 450 4.2.1" ORDERLY},
        {.name = "some refused, without pipelining",
         .messages = three_rcpts,
         .lines = LINES(HELLO, "S 250 mx", MAIL_A, "S 250 ok", "C RCPT TO:<r1@d.example>", "S 550 5.1.1 no",
                        "C RCPT TO:<r2@d.example>", "S 450 later", "C RCPT TO:<r3@d.example>", "S 250 ok",
                        "C DATA", "S 354 go", "C Hi.", "C .", "S 250 ok", BYE),
         .want = "A+: bounced rcpt 550 5.1.1, deferred rcpt 450, delivered dot 250" ORDERLY},
        {.name = "the dot's refusal is for those who were accepted",
         .messages = three_rcpts,
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(PIPELINES, MAIL_A, RCPTS3, "C DATA", "S 250 ok", "S 550 5.1.1 unknown", "S 250 ok",
                        "S 250 ok", "S 354 go", "C Hi.", "C .", "S 554 5.7.1 spam", BYE),
         .want = "A+: bounced rcpt 550 5.1.1, bounced dot 554 5.7.1, bounced dot 554 5.7.1" ORDERLY},
        {.name = "452 and 552 after one was taken: the rest goes at once in the next transaction",
         .messages = three_rcpts,
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(PIPELINES, MAIL_A, RCPTS3, "C DATA", "S 250 ok", "S 250 ok", "S 452 too many",
                        "S 552 too many", "S 354 go", "C Hi.", "C .", "S 250 ok", BYE),
         .want = "A+: delivered dot 250, deferred rcpt 452 4.5.3!, deferred rcpt 452 4.5.3!" ORDERLY},
        {.name = "452 before any was taken is an ordinary deferral",
         .messages = three_rcpts,
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(PIPELINES, MAIL_A, RCPTS3, "C DATA", "S 250 ok", "S 452 4.5.3 too many",
                        "S 452 4.5.3 too many", "S 452 4.5.3 too many", "S 503 no recipients", BYE),
         .want = "A: deferred rcpt 452 4.5.3, deferred rcpt 452 4.5.3, deferred rcpt 452 4.5.3" ORDERLY},
        {.name = "552 before any was taken keeps its code",
         .messages = three_rcpts,
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(PIPELINES, MAIL_A, RCPTS3, "C DATA", "S 250 ok", "S 552 no room", "S 250 ok",
                        "S 552 no room", "S 354 go", "C Hi.", "C .", "S 250 ok", BYE),
         .want = "A+: deferred rcpt 552, delivered dot 250, deferred rcpt 452 4.5.3!" ORDERLY},
        {.name = "452 4.2.2 and 552 5.2.2 are a full mailbox, not too many",
         .messages = three_rcpts,
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(PIPELINES, MAIL_A, RCPTS3, "C DATA", "S 250 ok", "S 250 ok", "S 452 4.2.2 full",
                        "S 452 4.3.1 no room", "S 354 go", "C Hi.", "C .", "S 250 ok", BYE),
         .want = "A+: delivered dot 250, deferred rcpt 452 4.2.2, deferred rcpt 452 4.3.1" ORDERLY},
    };
    play(cases, COUNT_OF(cases));
}

/* T44 */
static void what_is_refused_for_all_is_the_outcome_of_each(void **state)
{
    (void)state;
    const struct script_case cases[] = {
        {.name = "all refused and DATA refused",
         .messages = three_rcpts,
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(PIPELINES, MAIL_A, RCPTS3, "C DATA", "S 250 ok", "S 550 no", "S 550 no", "S 450 no",
                        "S 554 no valid recipients", BYE),
         .want = "A: bounced rcpt 550, bounced rcpt 550, deferred rcpt 450" ORDERLY},
        {.name = "all refused but 354: a lone dot",
         .messages = three_rcpts,
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(PIPELINES, MAIL_A, RCPTS3, "C DATA", "S 250 ok", "S 550 no", "S 550 no", "S 450 no",
                        "S 354 go", "C .", "S 554 no valid recipients", BYE),
         .want = "A: bounced rcpt 550, bounced rcpt 550, deferred rcpt 450" ORDERLY},
        {.name = "all refused without pipelining: DATA is not said",
         .messages = three_rcpts,
         .lines = LINES(HELLO, "S 250 mx", MAIL_A, "S 250 ok", "C RCPT TO:<r1@d.example>", "S 550 no",
                        "C RCPT TO:<r2@d.example>", "S 550 no", "C RCPT TO:<r3@d.example>", "S 550 no", BYE),
         .want = "A: bounced rcpt 550, bounced rcpt 550, bounced rcpt 550" ORDERLY},
        {.name = "MAIL refused: for all",
         .messages = three_rcpts,
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(PIPELINES, MAIL_A, RCPTS3, "C DATA", "S 550 5.7.1 not you", "S 503 no", "S 503 no",
                        "S 503 no", "S 503 no", BYE),
         .want = "A: bounced mail 550 5.7.1, bounced mail 550 5.7.1, bounced mail 550 5.7.1" ORDERLY},
        {.name = "MAIL refused without pipelining",
         .lines = LINES(HELLO, "S 250 mx", MAIL_A, "S 451 later", BYE),
         .want = "A: deferred mail 451" ORDERLY},
        {.name = "DATA refused: for those who were accepted",
         .messages = three_rcpts,
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(PIPELINES, MAIL_A, RCPTS3, "C DATA", "S 250 ok", "S 250 ok", "S 550 no", "S 250 ok",
                        "S 451 4.3.0 no", BYE),
         .want = "A: deferred data 451 4.3.0, bounced rcpt 550, deferred data 451 4.3.0" ORDERLY},
    };
    play(cases, COUNT_OF(cases));
}

static void transactions_follow_each_other(void **state)
{
    (void)state;
    const struct script_case cases[] = {
        {.name = "full: the next commands ride behind the dot",
         .messages = three,
         .pipelining = SMTP_PIPELINING_FULL,
         .lines = LINES(PIPELINES, MAIL_A, RCPT_R, "C DATA", "S 250 ok", "S 250 ok", "S 354 go", BODY, MAIL_B,
                        RCPT_R, "C DATA", "S 250 took A", "S 250 ok", "S 250 ok", "S 354 go", "C Second.",
                        "C .", MAIL_C, RCPT_R, "C DATA", "S 250 took B", "S 250 ok", "S 250 ok", "S 354 go",
                        "C Third.", "C .", "S 250 took C", BYE),
         .want = "A+: delivered dot 250\nB+: delivered dot 250\nC+: delivered dot 250" ORDERLY},
        {.name = "full, but submitted only when the dot was said",
         .messages = two,
         .pipelining = SMTP_PIPELINING_FULL,
         .by_hand = true,
         .lines = LINES(PIPELINES, "submit", MAIL_A, RCPT_R, "C DATA", "S 250 ok", "S 250 ok", "S 354 go",
                        BODY, "submit", MAIL_B, RCPT_R, "C DATA", "S 250 took A", "S 250 ok", "S 250 ok",
                        "S 354 go", "C Second.", "C .", "S 250 took B", "quit", BYE),
         .want = "A+: delivered dot 250\nB+: delivered dot 250" ORDERLY},
        {.name = "commands: the next waits for the dot's reply",
         .messages = two,
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(PIPELINES, MAIL_A, RCPT_R, "C DATA", "S 250 ok", "S 250 ok", "S 354 go", BODY,
                        "S 250 took A", MAIL_B, RCPT_R, "C DATA", "S 250 ok", "S 250 ok", "S 354 go",
                        "C Second.", "C .", "S 250 took B", BYE),
         .want = "A+: delivered dot 250\nB+: delivered dot 250" ORDERLY},
        {.name = "after a refused DATA the peer still holds the MAIL: RSET in the same write",
         .messages = two,
         .pipelining = SMTP_PIPELINING_FULL,
         .lines = LINES(PIPELINES, MAIL_A, RCPT_R, "C DATA", "S 250 ok", "S 550 no", "S 503 no", "C RSET",
                        MAIL_B, RCPT_R, "C DATA", "S 250 ok", "S 250 ok", "S 250 ok", "S 354 go", "C Second.",
                        "C .", "S 250 took B", BYE),
         .want = "A: bounced rcpt 550\nB+: delivered dot 250" ORDERLY},
        {.name = "the same without pipelining",
         .messages = two,
         .lines = LINES(HELLO, "S 250 mx", MAIL_A, "S 250 ok", RCPT_R, "S 550 no", "C RSET", "S 250 ok",
                        MAIL_B, "S 250 ok", RCPT_R, "S 250 ok", "C DATA", "S 354 go", "C Second.", "C .",
                        "S 250 took B", BYE),
         .want = "A: bounced rcpt 550\nB+: delivered dot 250" ORDERLY},
        {.name = "after a refused MAIL there is nothing to reset",
         .messages = two,
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines =
             LINES(PIPELINES, MAIL_A, RCPT_R, "C DATA", "S 550 no", "S 503 no", "S 503 no", MAIL_B, RCPT_R,
                   "C DATA", "S 250 ok", "S 250 ok", "S 354 go", "C Second.", "C .", "S 250 took B", BYE),
         .want = "A: bounced mail 550\nB+: delivered dot 250" ORDERLY},
        {.name = "full: behind a lone dot too",
         .messages = two,
         .pipelining = SMTP_PIPELINING_FULL,
         .lines = LINES(PIPELINES, MAIL_A, RCPT_R, "C DATA", "S 250 ok", "S 550 no", "S 354 go", "C .",
                        MAIL_B, RCPT_R, "C DATA", "S 554 none", "S 250 ok", "S 250 ok", "S 354 go",
                        "C Second.", "C .", "S 250 took B", BYE),
         .want = "A: bounced rcpt 550\nB+: delivered dot 250" ORDERLY},
        {.name = "full: the first is refused at the dot, the second is not touched by it",
         .messages = two,
         .pipelining = SMTP_PIPELINING_FULL,
         .lines = LINES(PIPELINES, MAIL_A, RCPT_R, "C DATA", "S 250 ok", "S 250 ok", "S 354 go", BODY, MAIL_B,
                        RCPT_R, "C DATA", "S 550 5.7.1 spam", "S 250 ok", "S 250 ok", "S 354 go", "C Second.",
                        "C .", "S 250 took B", BYE),
         .want = "A+: bounced dot 550 5.7.1\nB+: delivered dot 250" ORDERLY},
        {.name = "quit waits for what is open",
         .messages = two,
         .pipelining = SMTP_PIPELINING_FULL,
         .by_hand = true,
         .lines = LINES(PIPELINES, "submit", "submit", "quit", MAIL_A, RCPT_R, "C DATA", "S 250 ok",
                        "S 250 ok", "S 354 go", BODY, MAIL_B, RCPT_R, "C DATA", "S 250 took A", "S 250 ok",
                        "S 250 ok", "S 354 go", "C Second.", "C .", "S 250 took B", BYE),
         .want = "A+: delivered dot 250\nB+: delivered dot 250" ORDERLY},
    };
    play(cases, COUNT_OF(cases));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_message_goes_as_the_peer_and_the_rule_allow),
        cmocka_unit_test(each_recipient_has_its_own_outcome),
        cmocka_unit_test(what_is_refused_for_all_is_the_outcome_of_each),
        cmocka_unit_test(transactions_follow_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
