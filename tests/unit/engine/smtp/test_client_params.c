/* What MAIL and RCPT carry, and what is refused here because this peer could not take it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "tests/unit/engine/smtp/client_script.h"

#define HELLO   "S 220 mx.example", "C EHLO me.example"
#define BYE     "C QUIT", "S 221 bye"
#define ORDERLY "\nover: delivered queue 0"
#define REST    "S 250 ok", "S 250 ok", "S 354 go", "C Hi.", "C .", "S 250 ok", BYE
#define SENT_A  "A+: delivered dot 250" ORDERLY

#define TEN     "0123456789"
#define HUNDRED TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN
#define YAMA    "\xe5\xb1\xb1" /* U+5C71 */

static void play(const struct script_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++)
        script_play_every_way(&cases[i]);
}

/* One plain message with what the row changes. */
#define MESSAGE(...) ((const struct script_message[]){{.body = "Hi.\r\n", __VA_ARGS__}, {0}})
#define PLAIN        .sender = "a@s.example", .rcpts = {"r@d.example"}
#define OFFER(...)   HELLO, "S 250-mx.example", __VA_ARGS__, "S 250 PIPELINING"

static void size_and_body_are_said_to_who_offered_them(void **state)
{
    (void)state;
    const struct script_case cases[] = {
        {.name = "SIZE with a limit",
         .messages = MESSAGE(PLAIN),
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(OFFER("S 250-SIZE 100"), "C MAIL FROM:<a@s.example> SIZE=5",
                        "C RCPT TO:<r@d.example>", "C DATA", REST),
         .want = SENT_A},
        {.name = "SIZE without one",
         .messages = MESSAGE(PLAIN),
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(OFFER("S 250-SIZE"), "C MAIL FROM:<a@s.example> SIZE=5", "C RCPT TO:<r@d.example>",
                        "C DATA", REST),
         .want = SENT_A},
        {.name = "the null sender",
         .messages = MESSAGE(.sender = "", .rcpts = {"r@d.example"}),
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines =
             LINES(OFFER("S 250-SIZE 0"), "C MAIL FROM:<> SIZE=5", "C RCPT TO:<r@d.example>", "C DATA", REST),
         .want = SENT_A},
        {.name = "8BITMIME, only when the body needs it",
         .messages = MESSAGE(PLAIN, .body_flags = BODY_8BIT),
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(OFFER("S 250-8BITMIME"), "C MAIL FROM:<a@s.example> BODY=8BITMIME",
                        "C RCPT TO:<r@d.example>", "C DATA", REST),
         .want = SENT_A},
        {.name = "8BITMIME, not needed",
         .messages = MESSAGE(PLAIN),
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(OFFER("S 250-8BITMIME"), "C MAIL FROM:<a@s.example>", "C RCPT TO:<r@d.example>",
                        "C DATA", REST),
         .want = SENT_A},
        {.name = "BINARYMIME by BDAT",
         .messages = MESSAGE(PLAIN, .body_flags = BODY_BINARY),
         .use_chunking = true,
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(OFFER("S 250-CHUNKING", "S 250-BINARYMIME"),
                        "C MAIL FROM:<a@s.example> BODY=BINARYMIME", "C RCPT TO:<r@d.example>",
                        "C BDAT 5 LAST", "C Hi.", "S 250 ok", "S 250 ok", "S 250 ok", BYE),
         .want = SENT_A},
        {.name = "quoted local parts may hold what others may not",
         .messages = MESSAGE(.sender = "\"a b\"@s.example", .rcpts = {"\"<r> \\\" NOTIFY=NEVER\"@d.example"}),
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(OFFER("S 250-DSN"), "C MAIL FROM:<\"a b\"@s.example>",
                        "C RCPT TO:<\"<r> \\\" NOTIFY=NEVER\"@d.example>", "C DATA", REST),
         .want = SENT_A},
    };
    play(cases, COUNT_OF(cases));
}

static void utf8_is_said_where_it_is_needed_and_can_be_taken(void **state)
{
    (void)state;
    const struct script_case cases[] = {
        {.name = "SMTPUTF8 for an address",
         .messages = MESSAGE(.sender = "a@s.example", .rcpts = {YAMA "@d.example"}),
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(OFFER("S 250-8BITMIME", "S 250-SMTPUTF8"), "C MAIL FROM:<a@s.example> SMTPUTF8",
                        "C RCPT TO:<" YAMA "@d.example>", "C DATA", REST),
         .want = SENT_A},
        {.name = "SMTPUTF8 for a header",
         .messages = MESSAGE(PLAIN, .body_flags = BODY_UTF8_HEADER),
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(OFFER("S 250-8BITMIME", "S 250-SMTPUTF8"),
                        "C MAIL FROM:<a@s.example> BODY=8BITMIME SMTPUTF8", "C RCPT TO:<r@d.example>",
                        "C DATA", REST),
         .want = SENT_A},
        {.name = "SMTPUTF8 not needed",
         .messages = MESSAGE(PLAIN),
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(OFFER("S 250-8BITMIME", "S 250-SMTPUTF8"), "C MAIL FROM:<a@s.example>",
                        "C RCPT TO:<r@d.example>", "C DATA", REST),
         .want = SENT_A},
        {.name = "U-labels become A-labels for who lacks SMTPUTF8",
         .messages = MESSAGE(.sender = "a@" YAMA ".example", .rcpts = {"r@" YAMA ".example"}),
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(OFFER("S 250-8BITMIME"), "C MAIL FROM:<a@xn--rht.example>",
                        "C RCPT TO:<r@xn--rht.example>", "C DATA", REST),
         .want = SENT_A},
        {.name = "a UTF-8 ORCPT to who takes UTF-8",
         .messages = MESSAGE(.sender = "a@s.example", .rcpts = {YAMA "@d.example"},
                             .orcpt = "utf-8;" YAMA "+1@d.example"),
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(
             OFFER("S 250-8BITMIME", "S 250-SMTPUTF8", "S 250-DSN"), "C MAIL FROM:<a@s.example> SMTPUTF8",
             "C RCPT TO:<" YAMA "@d.example> ORCPT=utf-8;" YAMA "\\x{2B}1@d.example", "C DATA", REST),
         .want = SENT_A},
        {.name = "a UTF-8 ORCPT to who does not",
         .messages = MESSAGE(PLAIN, .orcpt = "utf-8;" YAMA "@d.example"),
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(OFFER("S 250-DSN"), "C MAIL FROM:<a@s.example>",
                        "C RCPT TO:<r@d.example> ORCPT=utf-8;\\x{5C71}@d.example", "C DATA", REST),
         .want = SENT_A},
    };
    play(cases, COUNT_OF(cases));
}

static void dsn_parameters_are_sent_to_who_offered_them(void **state)
{
    (void)state;
    const struct script_case cases[] = {
        {.name = "DSN",
         .messages = MESSAGE(PLAIN, .envid = "Q+1=x", .ret = DSN_RET_HDRS, .orcpt = "rfc822;o+r@d.example",
                             .notify = NOTIFY_SUCCESS | NOTIFY_FAILURE | NOTIFY_DELAY),
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(OFFER("S 250-DSN"), "C MAIL FROM:<a@s.example> RET=HDRS ENVID=Q+2B1+3Dx",
                        "C RCPT TO:<r@d.example> NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;o+2Br@d.example",
                        "C DATA", REST),
         .want = SENT_A},
        {.name = "NOTIFY=NEVER stands alone",
         .messages = MESSAGE(PLAIN, .ret = DSN_RET_FULL, .notify = NOTIFY_NEVER | NOTIFY_DELAY),
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(OFFER("S 250-DSN"), "C MAIL FROM:<a@s.example> RET=FULL",
                        "C RCPT TO:<r@d.example> NOTIFY=NEVER", "C DATA", REST),
         .want = SENT_A},
        {.name = "DSN not offered: SUCCESS is told to have stopped here",
         .messages = MESSAGE(PLAIN, .envid = "Q1", .ret = DSN_RET_FULL, .notify = NOTIFY_SUCCESS),
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines =
             LINES(OFFER("S 250-X"), "C MAIL FROM:<a@s.example>", "C RCPT TO:<r@d.example>", "C DATA", REST),
         .want = "A+: delivered dot 250~" ORDERLY},
        {.name = "DSN not offered and FAILURE asked: nothing to tell",
         .messages = MESSAGE(PLAIN, .notify = NOTIFY_FAILURE),
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines =
             LINES(OFFER("S 250-X"), "C MAIL FROM:<a@s.example>", "C RCPT TO:<r@d.example>", "C DATA", REST),
         .want = SENT_A},
        {.name = "an ORCPT without a type is left out",
         .messages = MESSAGE(PLAIN, .orcpt = "r@d.example"),
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(OFFER("S 250-DSN"), "C MAIL FROM:<a@s.example>", "C RCPT TO:<r@d.example>", "C DATA",
                        REST),
         .want = SENT_A},
        {.name = "an ENVID and an ORCPT that are too long are left out",
         .messages = MESSAGE(PLAIN, .envid = HUNDRED "x",
                             .orcpt = "rfc822;" HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED "@d.example"),
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(OFFER("S 250-DSN"), "C MAIL FROM:<a@s.example>", "C RCPT TO:<r@d.example>", "C DATA",
                        REST),
         .want = SENT_A},
        {.name = "an ENVID of 100 octets is sent",
         .messages = MESSAGE(PLAIN, .envid = HUNDRED),
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(OFFER("S 250-DSN"), "C MAIL FROM:<a@s.example> ENVID=" HUNDRED,
                        "C RCPT TO:<r@d.example>", "C DATA", REST),
         .want = SENT_A},
        {.name = "controls in ENVID and ORCPT stay in their parameter",
         .messages = MESSAGE(PLAIN, .envid = "x\r\nRSET", .orcpt = "rfc822;a\r\nRSET@d.example"),
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(OFFER("S 250-DSN"), "C MAIL FROM:<a@s.example> ENVID=x+0D+0ARSET",
                        "C RCPT TO:<r@d.example> ORCPT=rfc822;a+0D+0ARSET@d.example", "C DATA", REST),
         .want = SENT_A},
    };
    play(cases, COUNT_OF(cases));
}

static void what_the_peer_cannot_take_is_settled_without_a_word(void **state)
{
    (void)state;
    const struct script_case cases[] = {
        {.name = "too big",
         .messages = MESSAGE(PLAIN),
         .lines = LINES(OFFER("S 250-SIZE 4"), BYE),
         .want = "A: bounced mail 552 5.3.4?" ORDERLY},
        {.name = "8-bit octets",
         .messages = MESSAGE(PLAIN, .body_flags = BODY_8BIT),
         .lines = LINES(OFFER("S 250-X"), BYE),
         .want = "A: bounced mail 554 5.6.3?" ORDERLY},
        {.name = "8-bit octets, after HELO",
         .messages = MESSAGE(PLAIN, .body_flags = BODY_8BIT),
         .lines = LINES(HELLO, "S 500 no", "C HELO me.example", "S 250 mx", BYE),
         .want = "A: bounced mail 554 5.6.3?" ORDERLY},
        {.name = "a UTF-8 header",
         .messages = MESSAGE(PLAIN, .body_flags = BODY_UTF8_HEADER),
         .lines = LINES(OFFER("S 250-8BITMIME"), BYE),
         .want = "A: bounced mail 550 5.6.7?" ORDERLY},
        {.name = "a UTF-8 sender",
         .messages = MESSAGE(.sender = YAMA "@s.example", .rcpts = {"r@d.example"}),
         .lines = LINES(OFFER("S 250-8BITMIME"), BYE),
         .want = "A: bounced mail 550 5.6.7?" ORDERLY},
        {.name = "SMTPUTF8 without 8BITMIME is none",
         .messages = MESSAGE(.sender = YAMA "@s.example", .rcpts = {"r@d.example"}),
         .lines = LINES(OFFER("S 250-SMTPUTF8"), BYE),
         .want = "A: bounced mail 550 5.6.7?" ORDERLY},
        {.name = "one UTF-8 recipient: the others go",
         .messages =
             MESSAGE(.sender = "a@s.example", .rcpts = {"r1@d.example", YAMA "@d.example", "r3@d.example"}),
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(OFFER("S 250-8BITMIME"), "C MAIL FROM:<a@s.example>", "C RCPT TO:<r1@d.example>",
                        "C RCPT TO:<r3@d.example>", "C DATA", "S 250 ok", "S 550 no", "S 250 ok", "S 354 go",
                        "C Hi.", "C .", "S 250 ok", BYE),
         .want = "A+: bounced rcpt 550, bounced rcpt 553 5.6.7?, delivered dot 250" ORDERLY},
        {.name = "the same without pipelining, the last one",
         .messages = MESSAGE(.sender = "a@s.example", .rcpts = {"r1@d.example", YAMA "@d.example"}),
         .lines =
             LINES(HELLO, "S 250 mx", "C MAIL FROM:<a@s.example>", "S 250 ok", "C RCPT TO:<r1@d.example>",
                   "S 250 ok", "C DATA", "S 354 go", "C Hi.", "C .", "S 250 ok", BYE),
         .want = "A+: delivered dot 250, bounced rcpt 553 5.6.7?" ORDERLY},
        {.name = "all settled, and the next one goes",
         .messages = (const struct script_message[]){{PLAIN, .body = "Much too big.\r\n"},
                                                     {PLAIN, .body = "Much too big.\r\n"},
                                                     {PLAIN, .body = "Hi.\r\n"},
                                                     {0}},
         .pipelining = SMTP_PIPELINING_FULL,
         .lines = LINES(OFFER("S 250-SIZE 5"), "C MAIL FROM:<a@s.example> SIZE=5", "C RCPT TO:<r@d.example>",
                        "C DATA", REST),
         .want = "A: bounced mail 552 5.3.4?\nB: bounced mail 552 5.3.4?\nC+: delivered dot 250" ORDERLY},
        {.name = "the peer's own word of its size is for good",
         .messages = MESSAGE(PLAIN),
         .lines = LINES(OFFER("S 250-SIZE"), "C MAIL FROM:<a@s.example> SIZE=5", "S 552 5.3.4 too big", BYE),
         .want = "A: bounced mail 552 5.3.4" ORDERLY},
        {.name = "what cannot be sent to anybody is for good",
         .messages = MESSAGE(.sender = "a@s.example", .rcpts = {"r\t@d.example"}),
         .lines = LINES(OFFER("S 250-SIZE"), BYE),
         .want = "A: bounced rcpt 553 5.1.3" ORDERLY},
    };
    play(cases, COUNT_OF(cases));
}

/* T26's like: whatever stands in an envelope, no command can be made of it. */
static void no_address_can_break_out_of_its_command(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "r\r\nRSET@d.example", "r\n@d.example",       "r\r@d.example",       "r@d.example\r\nDATA",
        "r\x01@d.example",     "r\x7f@d.example",     "r@d.example> SIZE=1", "r x@d.example",
        "<r@d.example>",       "r>@d.example",        "\"r@d.example",       "\"r\\\"@d.example",
        "\"r\r\n\"@d.example", "\"r\\\r\"@d.example", "r\\@d.example",       "\"r\" x@d.example",
        "r@d.example\t",
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        const struct script_message rcpt[] = {
            {.sender = "a@s.example", .rcpts = {bad[i], "ok@d.example"}, .body = "Hi.\r\n"}, {0}};
        const struct script_message sender[] = {
            {.sender = bad[i], .rcpts = {"r@d.example"}, .body = "Hi.\r\n"}, {0}};
        const struct script_case as_rcpt = {.name = bad[i],
                                            .messages = rcpt,
                                            .pipelining = SMTP_PIPELINING_COMMANDS,
                                            .lines = LINES(OFFER("S 250-DSN"), "C MAIL FROM:<a@s.example>",
                                                           "C RCPT TO:<ok@d.example>", "C DATA", REST),
                                            .want = "A+: bounced rcpt 553 5.1.3, delivered dot 250" ORDERLY};
        const struct script_case as_sender = {.name = bad[i],
                                              .messages = sender,
                                              .lines = LINES(OFFER("S 250-DSN"), BYE),
                                              .want = "A: bounced mail 553 5.1.7" ORDERLY};
        script_play_every_way(&as_rcpt);
        script_play_every_way(&as_sender);
    }
    const struct script_case empty = {.name = "an empty recipient",
                                      .messages = MESSAGE(.sender = "a@s.example", .rcpts = {""}),
                                      .lines = LINES(OFFER("S 250-DSN"), BYE),
                                      .want = "A: bounced rcpt 553 5.1.3" ORDERLY};
    script_play_every_way(&empty);
}

/* ---- the owner's side of the bargain ---- */

struct owner {
    struct smtp_client *c;
    struct body *body;
    struct rcpt rcpt;
    struct message m;
    struct smtp_txn txns[5000];
    struct outcome outcomes[5000];
    unsigned submitted, done, depth, deepest;
    const char *destroy_in; /* the event in which the owner destroys the client */
};

static bool dies_here(struct owner *o, const char *event)
{
    if (!o->destroy_in || strcmp(o->destroy_in, event) != 0)
        return false;
    o->destroy_in = NULL;
    smtp_client_destroy(o->c);
    o->c = NULL;
    return true;
}

static void own_submit(struct owner *o)
{
    struct smtp_txn *t = &o->txns[o->submitted];

    *t = (struct smtp_txn){
        .message = &o->m, .rcpts = &o->rcpt, .rcpt_count = 1, .outcomes = &o->outcomes[o->submitted]};
    o->submitted++;
    smtp_client_submit(o->c, t, 1);
}

static void own_ehlo(void *arg, const struct smtp_offer *offer)
{
    struct owner *o = arg;

    (void)offer;
    if (!dies_here(o, "ehlo"))
        smtp_client_go_on(o->c, 1);
}

static void own_ready(void *arg)
{
    struct owner *o = arg;

    if (!dies_here(o, "ready") && o->submitted < COUNT_OF(o->txns))
        own_submit(o);
}

static void own_done(void *arg, struct smtp_txn *t)
{
    struct owner *o = arg;

    assert_ptr_equal(t, &o->txns[o->done]);
    o->done++;
    if (dies_here(o, "done"))
        return;
    o->depth++;
    o->deepest = o->depth > o->deepest ? o->depth : o->deepest;
    if (o->submitted < COUNT_OF(o->txns))
        own_submit(o);
    o->depth--;
}

static void own_over(void *arg, const struct outcome *why)
{
    struct owner *o = arg;

    (void)why;
    dies_here(o, "over");
}

static struct owner *own(const char *destroy_in)
{
    struct owner *o = MEM_NEW(struct owner);
    struct smtp_client_config config = {
        .ehlo_name = "me.example",
        .pipelining = SMTP_PIPELINING_FULL,
        .events = {.on_ehlo = own_ehlo, .on_ready = own_ready, .on_txn_done = own_done, .on_over = own_over},
        .arg = o};

    o->destroy_in = destroy_in;
    o->body = body_create(mem_strdup("Hi.\r\n"), 5);
    o->rcpt.address = "r@d.example";
    o->m = (struct message){.sender = "a@s.example", .body = o->body, .rcpts = &o->rcpt, .rcpt_count = 1};
    o->c = smtp_client_create(&config);
    smtp_client_connected(o->c, 1);
    return o;
}

static void disown(struct owner *o)
{
    smtp_client_destroy(o->c);
    body_unref(o->body);
    mem_free(o);
}

static void thousands_settled_at_once_do_not_pile_up(void **state)
{
    (void)state;
    struct owner *o = own(NULL);

    smtp_client_receive(o->c, BYTES("220 mx\r\n"), 1);
    smtp_client_receive(o->c, BYTES("250-mx\r\n250-PIPELINING\r\n250 SIZE 1\r\n"), 1);
    assert_int_equal(o->done, COUNT_OF(o->txns));
    assert_int_equal(o->deepest, 1);
    assert_true(smtp_client_is_idle(o->c));
    disown(o);
}

static void the_owner_may_destroy_it_in_any_event(void **state)
{
    (void)state;
    static const char *const events[] = {"ehlo", "ready", "done", "over"};
    static const char *const wire[] = {"220 mx\r\n", "250-mx\r\n250 PIPELINING\r\n",
                                       "250 ok\r\n250 ok\r\n354 go\r\n",
                                       "250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n", "421 bye\r\n250 more\r\n"};
    for (size_t i = 0; i < COUNT_OF(events); i++) {
        struct owner *o = own(events[i]);
        for (size_t k = 0; k < COUNT_OF(wire) && o->c; k++) {
            char *copy = mem_strdup(wire[k]);
            smtp_client_receive(o->c, bytes_of(copy), 1);
            mem_free(copy);
            if (o->c) {
                size_t n = smtp_client_output(o->c)->len;
                outq_consume(smtp_client_output(o->c), n);
            }
        }
        assert_null(o->c);
        disown(o);
    }
    struct owner *o = own("over");
    smtp_client_closed(o->c, ERR_CLOSED, NULL, 2);
    assert_null(o->c);
    disown(o);
    o = own("over");
    smtp_client_on_deadline(o->c, smtp_client_deadline_ms(o->c));
    assert_null(o->c);
    disown(o);
}

static void room_tells_how_many_may_be_submitted(void **state)
{
    (void)state;
    static const struct {
        enum smtp_pipelining rule;
        const char *offer;
        unsigned idle, with_one;
    } rows[] = {
        {SMTP_PIPELINING_OFF, "250-mx\r\n250 PIPELINING\r\n", 1, 0},
        {SMTP_PIPELINING_COMMANDS, "250-mx\r\n250 PIPELINING\r\n", 1, 0},
        {SMTP_PIPELINING_FULL, "250-mx\r\n250 PIPELINING\r\n", 1, 1},
        {SMTP_PIPELINING_FULL, "250 mx\r\n", 1, 0},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct owner *o = MEM_NEW(struct owner);
        struct smtp_client_config config = {
            .ehlo_name = "me.example", .pipelining = rows[i].rule, .events = {.on_ehlo = own_ehlo}, .arg = o};
        o->body = body_create(mem_strdup("Hi.\r\n"), 5);
        o->rcpt.address = "r@d.example";
        o->m = (struct message){.sender = "a@s.example", .body = o->body, .rcpts = &o->rcpt, .rcpt_count = 1};
        o->c = smtp_client_create(&config);
        assert_int_equal(smtp_client_room(o->c), 0);
        smtp_client_connected(o->c, 1);
        smtp_client_receive(o->c, BYTES("220 mx\r\n"), 1);
        assert_int_equal(smtp_client_room(o->c), 0);
        smtp_client_receive(o->c, bytes_of(rows[i].offer), 1);
        assert_true(smtp_client_is_idle(o->c));
        assert_true((smtp_client_room(o->c) > 0) == (rows[i].idle > 0));
        own_submit(o);
        assert_false(smtp_client_is_idle(o->c));
        assert_int_equal(smtp_client_room(o->c), rows[i].with_one);
        if (rows[i].with_one)
            own_submit(o);
        assert_int_equal(smtp_client_room(o->c), 0);
        assert_false(smtp_client_in_session(o->c));
        smtp_client_receive(o->c, BYTES("250 ok\r\n"), 1);
        assert_true(smtp_client_in_session(o->c));
        smtp_client_quit(o->c, 1);
        assert_int_equal(smtp_client_room(o->c), 0);
        disown(o);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(size_and_body_are_said_to_who_offered_them),
        cmocka_unit_test(utf8_is_said_where_it_is_needed_and_can_be_taken),
        cmocka_unit_test(dsn_parameters_are_sent_to_who_offered_them),
        cmocka_unit_test(what_the_peer_cannot_take_is_settled_without_a_word),
        cmocka_unit_test(no_address_can_break_out_of_its_command),
        cmocka_unit_test(thousands_settled_at_once_do_not_pile_up),
        cmocka_unit_test(the_owner_may_destroy_it_in_any_event),
        cmocka_unit_test(room_tells_how_many_may_be_submitted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
