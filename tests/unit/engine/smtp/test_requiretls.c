/* REQUIRETLS and TLS-Required (RFC 8689): taken in, told to the next host, kept by the notification. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "engine/smtp/dsn.h"
#include "tests/unit/engine/smtp/client_script.h"
#include "tests/unit/engine/smtp/play.h"

#define REQUIRED "MAIL FROM:<a@b.example> REQUIRETLS\r\nRCPT TO:<c@d.example>\r\n"
#define BODY     "\r\nText\r\n.\r\n"

static void the_keyword_is_offered_inside_tls_only(void **state)
{
    struct play p;

    (void)state;
    play_prepare(&p);
    play_begin(&p);
    play_hear(&p);
    play_says(&p, "EHLO client.example\r\n");
    assert_null(strstr(play_hear(&p), "REQUIRETLS"));
    play_says(&p, "MAIL FROM:<a@b.example> REQUIRETLS\r\n");
    assert_string_equal(play_codes(play_hear(&p)), "530 5.7.10");
    play_says(&p, "STARTTLS\r\n");
    play_tls(&p);
    play_hear(&p);
    play_says(&p, "EHLO client.example\r\n");
    assert_non_null(strstr(play_hear(&p), "250-REQUIRETLS\r\n"));
    play_says(&p, "MAIL FROM:<a@b.example> REQUIRETLS=yes\r\n");
    assert_string_equal(play_codes(play_hear(&p)), "501 5.5.4");
    play_says(&p, "MAIL FROM:<a@b.example> REQUIRETLS REQUIRETLS\r\n");
    assert_string_equal(play_codes(play_hear(&p)), "501 5.5.4");
    play_says(&p, "MAIL FROM:<a@b.example> requiretls SIZE=10\r\n");
    assert_string_equal(play_codes(play_hear(&p)), "250 2.1.0");
    play_end(&p);
}

static void a_message_is_tagged_by_what_its_sender_said(void **state)
{
    static const struct {
        const char *what, *envelope, *content;
        uint32_t flags;
    } rows[] = {
        {"nothing", ENVELOPE, "From: a\r\n" BODY, 0},
        {"the parameter", REQUIRED, "From: a\r\n" BODY, MESSAGE_REQUIRETLS},
        {"the field", ENVELOPE, "TLS-Required: No\r\n" BODY, MESSAGE_TLS_REQUIRED_NO},
        {"the field in other letters", ENVELOPE, "tls-REQUIRED:nO\r\n" BODY, MESSAGE_TLS_REQUIRED_NO},
        {"the field folded", ENVELOPE, "TLS-Required:\r\n  No\r\nFrom: a\r\n" BODY, MESSAGE_TLS_REQUIRED_NO},
        {"blanks behind it", ENVELOPE, "From: a\r\nTLS-Required: No \t\r\n" BODY, MESSAGE_TLS_REQUIRED_NO},
        {"the parameter rules", REQUIRED, "TLS-Required: No\r\n" BODY, MESSAGE_REQUIRETLS},
        {"twice says nothing", ENVELOPE, "TLS-Required: No\r\nTLS-Required: No\r\n" BODY, 0},
        {"twice, once otherwise", ENVELOPE, "TLS-Required: Yes\r\nTLS-Required: No\r\n" BODY, 0},
        {"another word", ENVELOPE, "TLS-Required: Yes\r\n" BODY, 0},
        {"more than the word", ENVELOPE, "TLS-Required: No, really\r\n" BODY, 0},
        {"a word in two lines", ENVELOPE, "TLS-Required: N\r\n o\r\n" BODY, 0},
        {"nothing behind the colon", ENVELOPE, "TLS-Required:\r\n" BODY, 0},
        {"another field", ENVELOPE, "TLS-Required-Not: No\r\n" BODY, 0},
        {"in the body", ENVELOPE, "From: a\r\n\r\nTLS-Required: No\r\n.\r\n", 0},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct play p;
        play_prepare(&p);
        p.rules.implicit_tls = true;
        play_tls(&p);
        play_begin(&p);
        play_says(&p, "EHLO client.example\r\n");
        play_mail(&p, rows[i].envelope, rows[i].content);
        play_says(&p, rows[i].envelope);
        play_says(&p, "DATA\r\n");
        for (const char *c = rows[i].content; *c; c++)
            play_say(&p, bytes_make(c, 1)); /* the same however it is cut */
        if (p.message_count == 2 && p.messages[1]->flags != rows[i].flags)
            fail_msg("%s: cut at every octet, flags %u", rows[i].what, p.messages[1]->flags);
        if (p.message_count != 2 || p.messages[0]->flags != rows[i].flags)
            fail_msg("%s: %u messages, flags %u", rows[i].what, p.message_count,
                     p.message_count ? p.messages[0]->flags : 0);
        if (strstr(rows[i].content, "TLS-Required: No\r\nFrom")) /* it goes on as it came: RFC 8689 §4.1 */
            assert_non_null(strstr(play_body(&p, 0), "TLS-Required: No\r\n"));
        play_end(&p);
    }
}

static void the_tag_ends_with_its_message(void **state)
{
    struct play p;

    (void)state;
    play_prepare(&p);
    p.rules.implicit_tls = true;
    play_tls(&p);
    play_begin(&p);
    play_says(&p, "EHLO client.example\r\n");
    play_mail(&p, REQUIRED, "From: a\r\n" BODY);
    play_mail(&p, ENVELOPE, "TLS-Required: No\r\n" BODY);
    play_mail(&p, ENVELOPE, "From: a\r\n" BODY);
    play_says(&p, REQUIRED "RSET\r\n");
    play_mail(&p, ENVELOPE, "From: a\r\n" BODY);
    assert_int_equal(p.message_count, 4);
    assert_int_equal(p.messages[0]->flags, MESSAGE_REQUIRETLS);
    assert_int_equal(p.messages[1]->flags, MESSAGE_TLS_REQUIRED_NO);
    assert_int_equal(p.messages[2]->flags, 0);
    assert_int_equal(p.messages[3]->flags, 0);
    play_end(&p);
}

/* ---- to the next host ---- */

#define HELLO "S 220 mx.example", "C EHLO me.example"
#define BYE   "C QUIT", "S 221 bye"
#define REST                                                                                                 \
    "C RCPT TO:<r@d.example>", "C DATA", "S 250 ok", "S 250 ok", "S 354 go", "C Hi.", "C .", "S 250 ok", BYE
#define OFFERED     HELLO, "S 250-mx.example", "S 250-REQUIRETLS", "S 250 PIPELINING"
#define NOT_OFFERED HELLO, "S 250-mx.example", "S 250 PIPELINING"
#define SENT        "A+: delivered dot 250\nover: delivered queue 0"
#define MESSAGE(...)                                                                                         \
    ((const struct script_message[]){{.rcpts = {"r@d.example"}, .body = "Hi.\r\n", __VA_ARGS__}, {0}})

static void only_a_host_that_offers_it_gets_the_message(void **state)
{
    const struct script_case cases[] = {
        {.name = "asked for and offered",
         .messages = MESSAGE(.sender = "a@s.example", .flags = MESSAGE_REQUIRETLS),
         .lines = LINES(OFFERED, "C MAIL FROM:<a@s.example> REQUIRETLS", REST),
         .want = SENT},
        {.name = "offered, and not asked for",
         .messages = MESSAGE(.sender = "a@s.example", .flags = MESSAGE_TLS_REQUIRED_NO),
         .lines = LINES(OFFERED, "C MAIL FROM:<a@s.example>", REST),
         .want = SENT},
        {.name = "asked for and not offered",
         .messages = MESSAGE(.sender = "a@s.example", .flags = MESSAGE_REQUIRETLS),
         .lines = LINES(NOT_OFFERED, BYE),
         .want = "A: bounced mail 550 5.7.30\nover: delivered queue 0"},
        {.name = "a notification asks where it can",
         .messages = MESSAGE(.sender = "", .flags = MESSAGE_REQUIRETLS | MESSAGE_DSN),
         .lines = LINES(OFFERED, "C MAIL FROM:<> REQUIRETLS", REST),
         .want = SENT},
        {.name = "and goes where it cannot",
         .messages = MESSAGE(.sender = "", .flags = MESSAGE_REQUIRETLS | MESSAGE_DSN),
         .lines = LINES(NOT_OFFERED, "C MAIL FROM:<>", REST),
         .want = SENT},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct script_case one = cases[i];
        one.pipelining = SMTP_PIPELINING_COMMANDS;
        script_play_every_way(&one);
    }
}

/* ---- notifications ---- */

static void a_notification_tells_no_more_than_the_header(void **state)
{
    struct message m = {.flags = MESSAGE_REQUIRETLS | MESSAGE_8BITMIME, .ret = DSN_RET_FULL};

    (void)state;
    assert_int_equal(dsn_ret_of(&m), DSN_RET_HDRS);
    assert_int_equal(dsn_tls_flags(&m), MESSAGE_REQUIRETLS);
    m.flags = MESSAGE_TLS_REQUIRED_NO;
    assert_int_equal(dsn_ret_of(&m), DSN_RET_FULL);
    assert_int_equal(dsn_tls_flags(&m), MESSAGE_TLS_REQUIRED_NO);
    m.flags = 0;
    assert_int_equal(dsn_tls_flags(&m), 0);
}

static void a_notification_needs_tls_as_little_as_its_message(void **state)
{
    struct outcome o = {.kind = OUTCOME_BOUNCED, .code = 550, .enhanced = "5.1.1"};
    struct dsn_rcpt rcpt = {.action = DSN_FAILED, .address = "r@d.example", .outcome = &o};
    struct dsn d = {.reporting_mta = "mx.example", .sender = "a@s.example", .rcpts = &rcpt, .rcpt_count = 1};
    BUF_LOCAL(plain);
    BUF_LOCAL(tagged);

    (void)state;
    dsn_format(&d, &plain);
    assert_null(strstr(buf_str(&plain), "TLS-Required"));
    d.tls_required_no = true;
    dsn_format(&d, &tagged);
    const char *at = strstr(buf_str(&tagged), "\r\nTLS-Required: No\r\n");
    assert_non_null(at);
    assert_true(at < strstr(buf_str(&tagged), "\r\n\r\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_keyword_is_offered_inside_tls_only),
        cmocka_unit_test(a_message_is_tagged_by_what_its_sender_said),
        cmocka_unit_test(the_tag_ends_with_its_message),
        cmocka_unit_test(only_a_host_that_offers_it_gets_the_message),
        cmocka_unit_test(a_notification_tells_no_more_than_the_header),
        cmocka_unit_test(a_notification_needs_tls_as_little_as_its_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
