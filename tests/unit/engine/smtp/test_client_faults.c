/* What breaks: lost connections, silence, 421, replies too many or too early. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "tests/unit/engine/smtp/client_script.h"

#define HELLO     "S 220 mx.example", "C EHLO me.example"
#define PIPELINES HELLO, "S 250-mx.example", "S 250 PIPELINING"
#define CHUNKS    HELLO, "S 250-mx.example", "S 250-PIPELINING", "S 250 CHUNKING"
#define BODY      "C Subject: hi", "C ", "C Hi.", "C ."
#define MAIL_A    "C MAIL FROM:<a@s.example>"
#define MAIL_B    "C MAIL FROM:<b@s.example>"
#define RCPT_R    "C RCPT TO:<r@d.example>"
#define GROUP_A   MAIL_A, RCPT_R, "C DATA"
#define GROUP_B   MAIL_B, RCPT_R, "C DATA"
#define YES3      "S 250 ok", "S 250 ok", "S 354 go"
#define BYE       "C QUIT", "S 221 bye"
#define ORDERLY   "\nover: delivered queue 0"

static const struct script_message two[] = {
    {.sender = "a@s.example", .rcpts = {"r@d.example"}, .body = "Subject: hi\r\n\r\nHi.\r\n"},
    {.sender = "b@s.example", .rcpts = {"r@d.example"}, .body = "Second.\r\n"},
    {0},
};
static const struct script_message small_and_big[] = {
    {.sender = "a@s.example", .rcpts = {"r@d.example"}, .body = "Subject: hi\r\n\r\nHi.\r\n"},
    {.sender = "b@s.example", .rcpts = {"r@d.example"}, .body = "Second.\r\n", .on_disk = true},
    {0},
};
static const struct script_message three_rcpts[] = {
    {.sender = "a@s.example", .rcpts = {"r1@d.example", "r2@d.example", "r3@d.example"}, .body = "Hi.\r\n"},
    {0},
};
#define RCPTS3 "C RCPT TO:<r1@d.example>", "C RCPT TO:<r2@d.example>", "C RCPT TO:<r3@d.example>"

static void play(const struct script_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++)
        script_play_every_way(&cases[i]);
}

/* The owner is told, and what came behind the end of a message was not attempted. */
static void a_peer_that_does_not_take_commands_behind_the_end_costs_no_attempt(void **state)
{
#define AHEAD PIPELINES, GROUP_A, YES3, BODY, GROUP_B, "S 250 took A"
    (void)state;
    const struct script_case cases[] = {
        {.name = "bad sequence",
         .messages = two,
         .pipelining = SMTP_PIPELINING_FULL,
         .one_way = true,
         .lines = LINES(AHEAD, "S 503 5.5.1 one at a time"),
         .want = "A+: delivered dot 250\nB: deferred queue 0!\nover: deferred mail 451 4.5.0"},
        {.name = "synchronization error",
         .messages = two,
         .pipelining = SMTP_PIPELINING_FULL,
         .one_way = true,
         .lines = LINES(AHEAD, "S 554 synchronization error"),
         .want = "A+: delivered dot 250\nB: deferred queue 0!\nover: deferred mail 451 4.5.0"},
        {.name = "another refusal is one of the message",
         .messages = two,
         .pipelining = SMTP_PIPELINING_FULL,
         .lines = LINES(AHEAD, "S 550 5.7.1 not you", "S 503 no", "S 503 no", BYE),
         .want = "A+: delivered dot 250\nB: bounced mail 550 5.7.1" ORDERLY},
    };
    play(cases, COUNT_OF(cases));
}

/* T40 */
static void a_lost_connection_defers_and_tells_what_is_in_doubt(void **state)
{
    (void)state;
    const struct script_case cases[] = {
        {.name = "at MAIL",
         .lines = LINES(HELLO, "S 250 mx", MAIL_A, "close"),
         .want = "A: deferred mail 421 4.4.2\nover: deferred mail 421 4.4.2"},
        {.name = "at RCPT",
         .lines = LINES(HELLO, "S 250 mx", MAIL_A, "S 250 ok", RCPT_R, "close"),
         .want = "A: deferred rcpt 421 4.4.2\nover: deferred rcpt 421 4.4.2"},
        {.name = "at the second RCPT: the refused one keeps its outcome",
         .messages = three_rcpts,
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines =
             LINES(PIPELINES, MAIL_A, RCPTS3, "C DATA", "S 250 ok", "S 550 5.1.1 no", "S 250 ok", "close"),
         .want = "A: bounced rcpt 550 5.1.1, deferred rcpt 421 4.4.2, deferred rcpt 421 4.4.2\n"
                 "over: deferred rcpt 421 4.4.2"},
        {.name = "at DATA",
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(PIPELINES, GROUP_A, "S 250 ok", "S 250 ok", "close"),
         .want = "A: deferred data 421 4.4.2\nover: deferred data 421 4.4.2"},
        {.name = "the dot did not leave",
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(PIPELINES, GROUP_A, "hold", YES3, "hold", "close"),
         .want = "A: deferred dot 421 4.4.2\nover: deferred dot 421 4.4.2",
         .one_way = true},
        {.name = "after the dot: in doubt",
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(PIPELINES, GROUP_A, YES3, BODY, "close"),
         .want = "A+: deferred dot 421 4.4.2?\nover: deferred dot 421 4.4.2"},
        {.name = "after the dot, half a reply: in doubt",
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(PIPELINES, GROUP_A, YES3, BODY, "R 250 2.0.0 qu", "close"),
         .want = "A+: deferred dot 421 4.4.2?\nover: deferred dot 421 4.4.2"},
        {.name = "after the dot: only who was accepted is in doubt",
         .messages = three_rcpts,
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(PIPELINES, MAIL_A, RCPTS3, "C DATA", "S 250 ok", "S 550 no", "S 250 ok",
                        "S 451 later", "S 354 go", "C Hi.", "C .", "close"),
         .want = "A+: bounced rcpt 550, deferred dot 421 4.4.2?, deferred rcpt 451\nover: deferred dot 421 "
                 "4.4.2"},
        {.name = "after the last reply",
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .stay = true,
         .lines = LINES(PIPELINES, GROUP_A, YES3, BODY, "S 250 ok", "close"),
         .want = "A+: delivered dot 250\nover: deferred mail 421 4.4.2"},
        {.name = "full: the one behind was not attempted",
         .messages = two,
         .pipelining = SMTP_PIPELINING_FULL,
         .lines = LINES(PIPELINES, GROUP_A, YES3, BODY, GROUP_B, "close"),
         .want = "A+: deferred dot 421 4.4.2?\nB: deferred queue 0!\nover: deferred dot 421 4.4.2"},
        {.name = "full: the one that waits was not attempted",
         .messages = two,
         .pipelining = SMTP_PIPELINING_FULL,
         .lines = LINES(PIPELINES, GROUP_A, "S 250 ok", "close"),
         .want = "A: deferred rcpt 421 4.4.2\nB: deferred queue 0!\nover: deferred rcpt 421 4.4.2"},
        {.name = "BDAT: all has left, so all is in doubt",
         .use_chunking = true,
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(CHUNKS, MAIL_A, RCPT_R, "C BDAT 20 LAST", "= 20", "close"),
         .want = "A+: deferred mail 421 4.4.2?\nover: deferred mail 421 4.4.2"},
        {.name = "BDAT: after the RCPT",
         .use_chunking = true,
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(CHUNKS, MAIL_A, RCPT_R, "C BDAT 20 LAST", "= 20", "S 250 ok", "S 250 ok", "close"),
         .want = "A+: deferred dot 421 4.4.2?\nover: deferred dot 421 4.4.2"},
    };
    play(cases, COUNT_OF(cases));
}

/* T59 */
static void a_reused_connection_that_dies_at_mail_costs_no_attempt(void **state)
{
    (void)state;
#define FIRST_DONE GROUP_A, YES3, BODY, "S 250 ok"
    const struct script_case cases[] = {
        {.name = "closed before the reply to MAIL",
         .messages = two,
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(PIPELINES, FIRST_DONE, GROUP_B, "close"),
         .want = "A+: delivered dot 250\nB: deferred queue 0!\nover: deferred mail 421 4.4.2"},
        {.name = "421 in reply to MAIL",
         .messages = two,
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(PIPELINES, FIRST_DONE, GROUP_B, "S 421 4.4.2 idle too long"),
         .want = "A+: delivered dot 250\nB: deferred queue 0!\nturned away: deferred mail 421 4.4.2"},
        {.name = "silence",
         .messages = two,
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(PIPELINES, FIRST_DONE, GROUP_B, "late"),
         .want = "A+: delivered dot 250\nB: deferred queue 0!\nover: deferred mail 421 4.4.2"},
        {.name = "without pipelining",
         .messages = two,
         .lines = LINES(HELLO, "S 250 mx", MAIL_A, "S 250 ok", RCPT_R, "S 250 ok", "C DATA", "S 354 go", BODY,
                        "S 250 ok", MAIL_B, "close"),
         .want = "A+: delivered dot 250\nB: deferred queue 0!\nover: deferred mail 421 4.4.2"},
        {.name = "at RSET",
         .messages = two,
         .lines = LINES(HELLO, "S 250 mx", MAIL_A, "S 250 ok", RCPT_R, "S 550 no", "C RSET", "close"),
         .want = "A: bounced rcpt 550\nB: deferred queue 0!\nover: deferred mail 421 4.4.2"},
        {.name = "a MAIL that was answered is an attempt",
         .messages = two,
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(PIPELINES, FIRST_DONE, GROUP_B, "S 250 ok", "close"),
         .want = "A+: delivered dot 250\nB: deferred rcpt 421 4.4.2\nover: deferred rcpt 421 4.4.2"},
        {.name = "on a fresh connection it is an attempt",
         .lines = LINES(HELLO, "S 250 mx", MAIL_A, "S 421 4.3.2 busy"),
         .want = "A: deferred mail 421 4.3.2\nover: deferred mail 421 4.3.2"},
        {.name = "421 while idle",
         .one_way = true,
         .messages = two,
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .by_hand = true,
         .lines = LINES(PIPELINES, "submit", FIRST_DONE, "S 421 4.4.2 idle too long", "submit"),
         .want = "A+: delivered dot 250\nover: deferred mail 421 4.4.2\nB: deferred queue 0!"},
        {.name = "with BDAT too: only the first message of a connection goes by it",
         .messages = two,
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .use_chunking = true,
         .lines = LINES(CHUNKS, MAIL_A, RCPT_R, "C BDAT 20 LAST", "= 20", "S 250 ok", "S 250 ok", "S 250 ok",
                        GROUP_B, "close"),
         .want = "A+: delivered dot 250\nB: deferred queue 0!\nover: deferred mail 421 4.4.2"},
        {.name = "and a body that must be read waits for the word of the peer",
         .messages = small_and_big,
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .use_chunking = true,
         .lines = LINES(CHUNKS, MAIL_A, RCPT_R, "C BDAT 20 LAST", "= 20", "S 250 ok", "S 250 ok", "S 250 ok",
                        MAIL_B, RCPT_R, "S 421 4.4.2 bye"),
         .want = "A+: delivered dot 250\nB: deferred queue 0!\nturned away: deferred mail 421 4.4.2"},
    };
    play(cases, COUNT_OF(cases));
}

/* T42 */
static void a_421_ends_it_wherever_it_stands(void **state)
{
    (void)state;
    const struct script_case cases[] = {
        {.name = "at RCPT",
         .messages = three_rcpts,
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(PIPELINES, MAIL_A, RCPTS3, "C DATA", "S 250 ok", "S 250 ok", "S 550 no",
                        "S 421 4.7.0 slow down"),
         .want = "A: deferred rcpt 421 4.7.0, bounced rcpt 550, deferred rcpt 421 4.7.0\nover: deferred rcpt "
                 "421 4.7.0"},
        {.name = "at DATA",
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(PIPELINES, GROUP_A, "S 250 ok", "S 250 ok", "S 421 bye"),
         .want = "A: deferred data 421\nover: deferred data 421"},
        {.name = "to the dot: a clear answer, no doubt",
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(PIPELINES, GROUP_A, YES3, BODY, "S 421 4.3.2 bye"),
         .want = "A+: deferred dot 421 4.3.2\nover: deferred dot 421 4.3.2"},
        {.name = "to the dot, with one behind",
         .messages = two,
         .pipelining = SMTP_PIPELINING_FULL,
         .lines = LINES(PIPELINES, GROUP_A, YES3, BODY, GROUP_B, "S 421 4.3.2 bye"),
         .want = "A+: deferred dot 421 4.3.2\nB: deferred queue 0!\nover: deferred dot 421 4.3.2"},
        {.name = "behind the dot's 250 in one segment",
         .messages = two,
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .one_way = true,
         .lines = LINES(PIPELINES, GROUP_A, YES3, BODY, "S 250 ok", "S 421 4.3.2 bye", "submit"),
         .want = "A+: delivered dot 250\nover: deferred mail 421 4.3.2\nB: deferred queue 0!"},
        {.name = "to the MAIL behind the dot",
         .messages = two,
         .pipelining = SMTP_PIPELINING_FULL,
         .lines =
             LINES(PIPELINES, GROUP_A, YES3, BODY, GROUP_B, "S 250 ok", "S 421 enough for one connection"),
         .want = "A+: delivered dot 250\nB: deferred queue 0!\nturned away: deferred mail 421"},
        {.name = "to QUIT",
         .lines = LINES(HELLO, "S 250 mx", MAIL_A, "S 550 no", "C QUIT", "S 421 bye"),
         .want = "A: bounced mail 550" ORDERLY},
    };
    play(cases, COUNT_OF(cases));
}

/* T60 */
static void a_reply_too_many_ends_it(void **state)
{
    (void)state;
    const struct script_case cases[] = {
        {.name = "250 twice after the dot: the first counts",
         .messages = two,
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .one_way = true,
         .lines = LINES(PIPELINES, GROUP_A, YES3, BODY, "S 250 ok", "S 250 ok", "submit"),
         .want = "A+: delivered dot 250\nover: deferred mail 451 4.5.0\nB: deferred queue 0!"},
        {.name = "250 twice, the second when idle",
         .stay = true,
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(PIPELINES, GROUP_A, YES3, BODY, "S 250 ok", "S 250 ok"),
         .want = "A+: delivered dot 250\nover: deferred mail 451 4.5.0",
         .one_way = true},
        {.name = "250 twice, with commands behind the dot: the 354 shows it",
         .messages = two,
         .pipelining = SMTP_PIPELINING_FULL,
         .lines = LINES(PIPELINES, GROUP_A, YES3, BODY, GROUP_B, "S 250 ok", "S 250 ok", "S 250 ok",
                        "S 250 ok", "S 354 go"),
         .want = "A+: delivered dot 250\nB: deferred data 451 4.5.0\nover: deferred data 451 4.5.0"},
        {.name = "250 twice after BDAT",
         .messages = two,
         .pipelining = SMTP_PIPELINING_FULL,
         .use_chunking = true,
         .one_way = true,
         .lines = LINES(CHUNKS, MAIL_A, RCPT_R, "C BDAT 20 LAST", "= 20", "S 250 ok", "S 250 ok", "S 250 ok",
                        "S 250 ok"),
         .want = "A+: delivered dot 250\nB: deferred queue 0!\nover: deferred mail 451 4.5.0"},
        {.name = "250 twice after BDAT, the second late: the 354 shows it",
         .messages = two,
         .pipelining = SMTP_PIPELINING_FULL,
         .use_chunking = true,
         .one_way = true,
         .lines = LINES(CHUNKS, MAIL_A, RCPT_R, "C BDAT 20 LAST", "= 20", "S 250 ok", "S 250 ok", "S 250 ok",
                        GROUP_B, "S 250 ok", "S 250 ok", "S 250 ok"),
         .want = "A+: delivered dot 250\nB: deferred data 451 4.5.0\nover: deferred data 451 4.5.0"},
        {.name = "half a reply too many",
         .messages = two,
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .one_way = true,
         .lines = LINES(PIPELINES, GROUP_A, YES3, BODY, "S 250 ok", "R 25", "submit"),
         .want = "A+: delivered dot 250\nover: deferred mail 451 4.5.0\nB: deferred queue 0!"},
        {.name = "without pipelining, two replies to one RCPT",
         .messages = three_rcpts,
         .one_way = true,
         .lines =
             LINES(HELLO, "S 250 mx", MAIL_A, "S 250 ok", "C RCPT TO:<r1@d.example>", "S 250 ok", "S 250 ok"),
         .want = "A: deferred rcpt 451 4.5.0, deferred rcpt 451 4.5.0, deferred rcpt 451 4.5.0\n"
                 "over: deferred rcpt 451 4.5.0"},
    };
    play(cases, COUNT_OF(cases));
}

static void a_reply_too_early_ends_it(void **state)
{
    (void)state;
    const struct script_case cases[] = {
        {.name = "a chunk answered before it has left",
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .use_chunking = true,
         .one_way = true,
         .lines = LINES(HELLO, "hold", "S 250-mx", "S 250-PIPELINING", "S 250 CHUNKING", "hold", "S 250 ok",
                        "S 250 ok", "S 250 ok", MAIL_A, RCPT_R, "C BDAT 20 LAST", "= 20"),
         .want = "A: deferred dot 451 4.5.0\nover: deferred dot 451 4.5.0"},
        {.name = "the dot's 250 before the dot has left",
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .one_way = true,
         .lines = LINES(PIPELINES, GROUP_A, "hold", YES3, "hold", "S 250 ok", BODY),
         .want = "A: deferred dot 451 4.5.0\nover: deferred dot 451 4.5.0"},
        {.name = "behind the 354",
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .one_way = true,
         .lines = LINES(PIPELINES, GROUP_A, YES3, "S 250 ok", BODY),
         .want = "A: deferred dot 451 4.5.0\nover: deferred dot 451 4.5.0"},
        {.name = "a refusal before the dot has left counts, and the connection ends",
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .one_way = true,
         .lines = LINES(PIPELINES, GROUP_A, YES3, "S 552 5.3.4 too big", BODY),
         .want = "A: bounced data 552 5.3.4\nover: deferred dot 451 4.5.0"},
    };
    play(cases, COUNT_OF(cases));
}

static void a_reply_of_the_wrong_kind_ends_it(void **state)
{
    (void)state;
    const struct script_case cases[] = {
        {.name = "354 to MAIL",
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(PIPELINES, GROUP_A, "S 354 go"),
         .want = "A: deferred mail 451 4.5.0\nover: deferred mail 451 4.5.0"},
        {.name = "354 to RCPT",
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(PIPELINES, GROUP_A, "S 250 ok", "S 354 go"),
         .want = "A: deferred rcpt 451 4.5.0\nover: deferred rcpt 451 4.5.0"},
        {.name = "250 to DATA",
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(PIPELINES, GROUP_A, "S 250 ok", "S 250 ok", "S 250 ok"),
         .want = "A: deferred data 451 4.5.0\nover: deferred data 451 4.5.0"},
        {.name = "354 to the dot: in doubt",
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(PIPELINES, GROUP_A, YES3, BODY, "S 354 more"),
         .want = "A+: deferred dot 451 4.5.0?\nover: deferred dot 451 4.5.0"},
        {.name = "RCPT accepted after MAIL was refused",
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(PIPELINES, GROUP_A, "S 550 5.7.1 no", "S 250 ok"),
         .want = "A: bounced mail 550 5.7.1\nover: deferred rcpt 451 4.5.0"},
        {.name = "RSET refused",
         .messages = two,
         .lines = LINES(HELLO, "S 250 mx", MAIL_A, "S 250 ok", RCPT_R, "S 550 no", "C RSET", "S 502 what?"),
         .want = "A: bounced rcpt 550\nB: deferred queue 0!\nover: deferred mail 451 4.5.0"},
    };
    play(cases, COUNT_OF(cases));
}

/* T45 */
static void replies_that_are_none_defer(void **state)
{
    (void)state;
    static const char *const wires[] = {
        "R 99\r\n",  "R 2500 ok\r\n", "R 250ok\r\n",          "R 199 x\r\n",        "R 600 x\r\n",
        "R abc\r\n", "R \r\n",        "R 250-a\r\n251 b\r\n", "R 550-\r\n250 \r\n", "R 25\x01 a\r\n",
    };
    for (size_t i = 0; i < COUNT_OF(wires); i++) {
        const struct script_case in_doubt = {.name = wires[i],
                                             .pipelining = SMTP_PIPELINING_COMMANDS,
                                             .lines = LINES(PIPELINES, GROUP_A, YES3, BODY, wires[i]),
                                             .want =
                                                 "A+: deferred dot 451 4.5.0?\nover: deferred dot 451 4.5.0"};
        const struct script_case plain = {.name = wires[i],
                                          .pipelining = SMTP_PIPELINING_COMMANDS,
                                          .lines = LINES(PIPELINES, GROUP_A, "S 250 ok", wires[i]),
                                          .want =
                                              "A: deferred rcpt 451 4.5.0\nover: deferred rcpt 451 4.5.0"};
        script_play_every_way(&in_doubt);
        script_play_every_way(&plain);
    }
}

static void endless_replies_are_cut_off(void **state)
{
    (void)state;
    BUF_LOCAL(wire);

    buf_puts(&wire, "R ");
    for (int i = 0; i < 1000; i++)
        buf_puts(&wire, "250-and so on\r\n");
    const struct script_case lines = {.name = "1000 lines without end",
                                      .pipelining = SMTP_PIPELINING_COMMANDS,
                                      .lines = LINES(PIPELINES, GROUP_A, "S 250 ok", buf_str(&wire)),
                                      .want = "A: deferred rcpt 451 4.5.0\nover: deferred rcpt 451 4.5.0"};
    script_play_every_way(&lines);
    buf_clear(&wire);
    buf_puts(&wire, "R 550 ");
    for (int i = 0; i < 3000; i++)
        buf_putc(&wire, 'x');
    const struct script_case octets = {.name = "a line without end",
                                       .pipelining = SMTP_PIPELINING_COMMANDS,
                                       .lines = LINES(PIPELINES, GROUP_A, "S 250 ok", buf_str(&wire)),
                                       .want = "A: deferred rcpt 451 4.5.0\nover: deferred rcpt 451 4.5.0"};
    script_play_every_way(&octets);
    buf_clear(&wire);
    buf_puts(&wire, "S 550 5.7.1 ");
    for (int i = 0; i < 590; i++)
        buf_putc(&wire, 'x');
    const struct script_case longish = {
        .name = "a line of 600 octets is fine",
        .pipelining = SMTP_PIPELINING_COMMANDS,
        .lines = LINES(PIPELINES, GROUP_A, "S 250 ok", buf_str(&wire), "S 503 no", BYE),
        .want = "A: bounced rcpt 550 5.7.1" ORDERLY};
    script_play_every_way(&longish);
}

static void silence_ends_at_the_deadline_of_its_phase(void **state)
{
    (void)state;
    const struct script_case cases[] = {
        {.name = "MAIL",
         .lines = LINES(HELLO, "S 250 mx", MAIL_A, "late"),
         .want = "A: deferred mail 421 4.4.2\nover: deferred mail 421 4.4.2"},
        {.name = "RCPT",
         .lines = LINES(HELLO, "S 250 mx", MAIL_A, "S 250 ok", RCPT_R, "late"),
         .want = "A: deferred rcpt 421 4.4.2\nover: deferred rcpt 421 4.4.2"},
        {.name = "DATA",
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(PIPELINES, GROUP_A, "S 250 ok", "S 250 ok", "late"),
         .want = "A: deferred data 421 4.4.2\nover: deferred data 421 4.4.2"},
        {.name = "dot",
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(PIPELINES, GROUP_A, YES3, BODY, "late"),
         .want = "A+: deferred dot 421 4.4.2?\nover: deferred dot 421 4.4.2"},
    };
    play(cases, COUNT_OF(cases));
}

/* ---- clocks, told step by step ---- */

static void go_on(void *arg, const struct smtp_offer *offer)
{
    struct smtp_client **c = arg;

    (void)offer;
    smtp_client_go_on(*c, 5000);
}

static void say(struct smtp_client *c, const char *text, uint64_t now_ms)
{
    smtp_client_receive(c, bytes_of(text), now_ms);
}

static void send_all(struct smtp_client *c, uint64_t now_ms)
{
    size_t n = smtp_client_output(c)->len;

    outq_consume(smtp_client_output(c), n);
    smtp_client_sent(c, n, now_ms);
}

static void each_phase_has_its_own_clock(void **state)
{
    (void)state;
    struct smtp_client *c = NULL;
    struct smtp_client_config config = {.ehlo_name = "me.example",
                                        .timeouts = {.greeting_ms = 1,
                                                     .ehlo_ms = 2,
                                                     .mail_ms = 3,
                                                     .rcpt_ms = 4,
                                                     .data_ms = 5,
                                                     .block_ms = 6,
                                                     .dot_ms = 70,
                                                     .quit_ms = 8},
                                        .pipelining = SMTP_PIPELINING_COMMANDS,
                                        .events = {.on_ehlo = go_on},
                                        .arg = &c};
    char *mem = mem_alloc(200000);
    memset(mem, 'x', 200000);
    struct body *body = body_create(mem, 200000);
    struct rcpt rcpt = {.address = "r@d.example"};
    struct message m = {.sender = "a@s.example", .body = body, .rcpts = &rcpt, .rcpt_count = 1};
    struct outcome outcome;
    struct smtp_txn txn = {.message = &m, .rcpts = &rcpt, .rcpt_count = 1, .outcomes = &outcome};

    c = smtp_client_create(&config);
    assert_int_equal(smtp_client_deadline_ms(c), 0);
    smtp_client_connected(c, 1000);
    assert_int_equal(smtp_client_deadline_ms(c), 1001);
    say(c, "220 mx\r\n", 2000);
    assert_int_equal(smtp_client_deadline_ms(c), 2002);
    say(c, "250-mx\r\n250 PIPELINING\r\n", 5000);
    assert_int_equal(smtp_client_deadline_ms(c), 0); /* idle */
    smtp_client_submit(c, &txn, 6000);
    assert_int_equal(smtp_client_deadline_ms(c), 6003);
    send_all(c, 6001);
    say(c, "250 ok\r\n", 7000);
    assert_int_equal(smtp_client_deadline_ms(c), 7004);
    say(c, "250 ok\r\n", 8000);
    assert_int_equal(smtp_client_deadline_ms(c), 8005);
    say(c, "354 go\r\n", 9000);
    assert_int_equal(smtp_client_deadline_ms(c), 9006); /* a block, though the dot is said: it has not left */
    outq_consume(smtp_client_output(c), 1000);
    smtp_client_sent(c, 1000, 9004);
    assert_int_equal(smtp_client_deadline_ms(c), 9010);
    outq_consume(smtp_client_output(c), 1000); /* not told: seen when the time is up */
    smtp_client_on_deadline(c, 9010);
    assert_int_equal(smtp_client_deadline_ms(c), 9016);
    assert_string_equal(smtp_client_state_name(c), "dot");
    send_all(c, 9010);
    assert_int_equal(smtp_client_deadline_ms(c), 9080); /* now it has: the long wait of RFC 1047 */
    say(c, "250 ok\r\n", 9070);
    assert_int_equal(smtp_client_deadline_ms(c), 0);
    smtp_client_quit(c, 10000);
    assert_int_equal(smtp_client_deadline_ms(c), 10008);
    smtp_client_destroy(c);
    body_unref(body);
}

static void the_rfc_gives_the_times_that_are_not_set(void **state)
{
    (void)state;
    struct smtp_client_config config = {.ehlo_name = "me.example"};
    struct smtp_client *c = smtp_client_create(&config);

    smtp_client_connected(c, 1000);
    assert_int_equal(smtp_client_deadline_ms(c), 1000 + 5 * 60 * 1000);
    smtp_client_destroy(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_peer_that_does_not_take_commands_behind_the_end_costs_no_attempt),
        cmocka_unit_test(a_lost_connection_defers_and_tells_what_is_in_doubt),
        cmocka_unit_test(a_reused_connection_that_dies_at_mail_costs_no_attempt),
        cmocka_unit_test(a_421_ends_it_wherever_it_stands),
        cmocka_unit_test(a_reply_too_many_ends_it),
        cmocka_unit_test(a_reply_too_early_ends_it),
        cmocka_unit_test(a_reply_of_the_wrong_kind_ends_it),
        cmocka_unit_test(replies_that_are_none_defer),
        cmocka_unit_test(endless_replies_are_cut_off),
        cmocka_unit_test(silence_ends_at_the_deadline_of_its_phase),
        cmocka_unit_test(each_phase_has_its_own_clock),
        cmocka_unit_test(the_rfc_gives_the_times_that_are_not_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
