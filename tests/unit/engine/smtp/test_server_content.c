/* What a message becomes, and that one never becomes two. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>

#include "base/clock.h"
#include "tests/unit/engine/smtp/play.h"

/* ---- what a message becomes ---- */

static void what_was_sent_is_what_is_stored(void **state)
{
    struct play p;

    (void)state;
    play_prepare(&p);
    p.rules.add_date = p.rules.add_message_id = true;
    play_begin(&p);
    play_says(&p, "EHLO c.example\r\n");
    play_mail(&p,
              "MAIL FROM:<a+1@B.Example> BODY=8BITMIME RET=HDRS ENVID=e+2B1\r\n"
              "RCPT TO:<z@Z.Example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;o+2B@o.example\r\n"
              "RCPT TO:<@route.example:c@a.example>\r\nRCPT TO:<y@z.example>\r\nRCPT TO:<z@z.EXAMPLE>\r\n"
              "RCPT TO:<Z@z.example>\r\n",
              "Subject: \xc3\xa4\r\nX-Campaign: c\r\n\r\n..x\r\n.\r\n");
    assert_int_equal(p.message_count, 1);
    const struct message *m = p.messages[0];
    assert_string_equal(m->sender, "a+1@B.Example");
    assert_string_equal(m->envid, "e+1");
    assert_int_equal(m->ret, DSN_RET_HDRS);
    assert_int_equal(m->flags, MESSAGE_8BITMIME);
    assert_null(m->account);
    assert_string_equal(m->campaign, "c");
    assert_true(m->accepted_unix > 1700000000);
    assert_int_equal(m->rcpt_count, 4); /* the same address twice is one recipient */
    assert_int_equal(m->rcpt_total, 4);
    assert_string_equal(m->rcpts[0].address, "c@a.example");
    assert_string_equal(m->rcpts[1].address, "z@Z.Example");
    assert_string_equal(m->rcpts[1].domain, "z.example");
    assert_string_equal(m->rcpts[1].orcpt, "rfc822;o+@o.example");
    assert_int_equal(m->rcpts[1].notify, NOTIFY_SUCCESS | NOTIFY_DELAY);
    assert_int_equal(m->rcpts[0].notify, NOTIFY_DEFAULT);
    assert_null(m->rcpts[0].orcpt);
    const char *body = play_body(&p, 0);
    assert_ptr_equal(
        strstr(body, "Received: from c.example ([192.0.2.7])\r\n\tby mx.example (Hayauma) with ESMTP id "),
        body);
    assert_non_null(strstr(body, "\r\nSubject: \xc3\xa4\r\nDate: "));
    assert_non_null(strstr(body, "@mx.example>\r\n\r\n.x\r\n"));
    assert_null(strstr(body, "for <"));
    assert_int_equal(m->body->flags & (BODY_8BIT | BODY_UTF8_HEADER | BODY_DOTS),
                     BODY_UTF8_HEADER | BODY_DOTS);
    assert_int_equal(m->body->header_bytes, strstr(body, "\r\n\r\n") + 4 - body);

    play_mail(&p, "MAIL FROM:<>\r\nRCPT TO:<only@a.example>\r\n",
              "Date: x\r\nMessage-ID: <y>\r\nno header\r\n.\r\n");
    body = play_body(&p, 1);
    assert_non_null(strstr(body, "\r\n\tfor <only@a.example>;\r\n"));
    assert_non_null(strstr(body, "\r\nDate: x\r\nMessage-ID: <y>\r\n\r\nno header\r\n"));
    assert_string_equal(p.messages[1]->sender, "");
    assert_true(p.messages[1]->id > p.messages[0]->id);

    play_mail(&p, "MAIL FROM:<a@b.example> SMTPUTF8\r\nRCPT TO:<only@a.example>\r\n", "To: x\r\n.\r\n");
    assert_int_equal(p.messages[2]->flags, 0); /* said, and not needed */
    play_mail(&p, "MAIL FROM:<a@b.example> SMTPUTF8\r\nRCPT TO:<\xc3\xa4@a.example>\r\n", ".\r\n");
    assert_int_equal(p.messages[3]->flags, MESSAGE_SMTPUTF8);
    assert_non_null(strstr(play_body(&p, 3), " with UTF8SMTP id "));
    /* What can be said in ASCII is: else nobody without SMTPUTF8 could have it. */
    play_mail(&p,
              "MAIL FROM:<a@b.example> SMTPUTF8\r\nRCPT TO:<z@b\xc3\xbc"
              "cher.example>\r\n",
              ".\r\n");
    assert_string_equal(p.messages[4]->rcpts[0].address, "z@b\xc3\xbc"
                                                         "cher.example");
    assert_non_null(strstr(play_body(&p, 4), "for <z@xn--bcher-kva.example>"));
    assert_int_equal(p.messages[4]->body->flags & BODY_UTF8_HEADER, 0);
    message_unref(p.messages[--p.message_count]);
    play_mail(&p, "MAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nRCPT TO:<a@B.example>\r\n", ".\r\n");
    assert_int_equal(p.messages[4]->rcpt_count, 1);
    assert_non_null(strstr(play_body(&p, 4), "for <a@b.example>"));
    play_end(&p);
}

static void a_schedule_holds_a_message_back(void **state)
{
    char content[200];
    struct play p;
    int64_t now = clock_unix();

    (void)state;
    play_prepare(&p);
    play_begin(&p);
    play_says(&p, "EHLO c.example\r\n");
    const int64_t ahead[] = {3600, 30 * 86400 - 60, -3600};
    for (size_t i = 0; i < COUNT_OF(ahead); i++) {
        snprintf(content, sizeof(content), "X-Hayauma-Schedule: %lld\r\n\r\n.\r\n",
                 (long long)(now + ahead[i]));
        play_mail(&p, ENVELOPE, content);
        assert_int_equal(p.message_count, i + 1);
        assert_int_equal(p.not_before[i], ahead[i] > 0 ? now + ahead[i] : 0);
        assert_null(strstr(play_body(&p, (unsigned)i), "Schedule"));
    }
    play_mail(&p, ENVELOPE, "To: x\r\n.\r\n");
    assert_int_equal(p.not_before[3], 0);
    play_end(&p);
}

static void priority_and_expiry_are_the_messages_own(void **state)
{
    int64_t end = clock_unix() + 3600;
    char content[200];
    struct play p;

    (void)state;
    play_prepare(&p);
    play_begin(&p);
    play_says(&p, "EHLO c.example\r\n");
    snprintf(content, sizeof(content), "X-Hayauma-Priority: High\r\nX-Hayauma-Expires: %lld\r\n\r\n.\r\n",
             (long long)end);
    play_mail(&p, ENVELOPE, content);
    assert_int_equal(p.messages[0]->flags, MESSAGE_HIGH);
    assert_int_equal(p.messages[0]->expires_unix, end);
    assert_int_equal(lane_priority(p.messages[0]->lane), PRIORITY_HIGH);
    assert_null(strstr(play_body(&p, 0), "X-Hayauma"));
    play_mail(&p, ENVELOPE, "X-Hayauma-Priority: low\r\n\r\n.\r\n");
    assert_int_equal(p.messages[1]->flags, MESSAGE_LOW);
    assert_int_equal(p.messages[1]->expires_unix, 0);
    play_mail(&p, ENVELOPE, "X-Hayauma-Priority: normal\r\n\r\n.\r\n");
    play_mail(&p, ENVELOPE, "To: x\r\n.\r\n");
    assert_int_equal(p.messages[2]->flags, 0);
    assert_int_equal(p.messages[3]->flags, 0);
    play_end(&p);
}

/* ---- T25: smuggling ---- */

/*
 * Line ends that one program or another takes for the end of a message: all but one of these begin a "second
 * message" in somebody's eyes, and none may in ours.
 */
#define ROW(text)                                                                                            \
    {                                                                                                        \
        text, sizeof(text) - 1                                                                               \
    }
static const struct bytes smuggling[] = {
    ROW("\n.\n"),
    ROW("\n.\r\n"),
    ROW("\r\n.\n"),
    ROW("\r.\r"),
    ROW("\r.\r\n"),
    ROW("\r\n.\r"),
    ROW("\n.\r"),
    ROW("\r.\n"),
    ROW("\r\n\n.\r\n"),
    ROW("\n\n.\r\n"),
    ROW("\r\r\n.\n"),
    ROW("\r\n.\r\r\n"),
    ROW("\r\n.\n\r\n"),
    ROW("\r\n\r.\r\n"),
    ROW("\n\r.\r\n"),
    ROW("\n\r\n.\n"),
    ROW("\r\n..\r\n"),
    ROW("\r\n. \r\n"),
    ROW("\r\n .\r\n"),
    ROW("\r\n.\t\r\n"),
    ROW("\r\r\n.\r\r\n"),
    ROW("\r\n.\x0b\r\n"),
    ROW("\r\n.\x0c\r\n"),
    ROW("\xc2\x85.\xc2\x85"),
    ROW("\xe2\x80\xa8.\xe2\x80\xa8"),
    ROW("\r\n\0.\r\n"),
    ROW("\r\n.\0\r\n"),
    ROW("\r\n.\r\0\n"),
    ROW("\r\n.\0"),
    ROW("\0\n.\n"),
};
#define SMUGGLED "MAIL FROM:<evil@b.example>\r\nRCPT TO:<victim@d.example>\r\nDATA\r\nsmuggled\r\n"

static void smuggle(struct play *p, struct bytes payload, bool chunked, size_t cut)
{
    char content[500], chunk[40];
    int n = snprintf(content, sizeof(content), "Subject: x\r\n\r\nfirst");

    memcpy(content + n, payload.at, payload.len);
    n += (int)payload.len;
    n += snprintf(content + n, sizeof(content) - (size_t)n, SMUGGLED "%s", chunked ? "" : "\r\n.\r\n");
    struct bytes all = bytes_make(content, (size_t)n);
    cut = MIN_OF(cut, all.len);
    play_says(p, ENVELOPE);
    snprintf(chunk, sizeof(chunk), "BDAT %d LAST\r\n", n);
    play_says(p, chunked ? chunk : "DATA\r\n");
    play_hear(p);
    play_say(p, bytes_first(all, cut));
    play_say(p, bytes_skip(all, cut));
}

static void no_smuggled_line_end_makes_two_messages(void **state)
{
    (void)state;
    for (int mode = 0; mode < 4; mode++) {
        struct play p;
        play_prepare(&p);
        p.rules.bare_newline = mode & 1 ? BARE_NEWLINE_NORMALIZE : BARE_NEWLINE_REJECT;
        play_begin(&p);
        play_says(&p, "EHLO c.example\r\n");
        for (size_t i = 0; i < COUNT_OF(smuggling); i++) {
            for (size_t cut = 0; cut < 120; cut++) {
                unsigned before = p.message_count;
                smuggle(&p, smuggling[i], mode & 2, cut);
                const char *codes = play_codes(play_hear(&p));
                bool taken = strcmp(codes, "250 2.0.0") == 0;
                bool nul = bytes_find(smuggling[i], '\0') < smuggling[i].len;
                const char *refusal =
                    nul && (mode & 1 || strcmp(codes, "550 5.6.0") == 0) ? "550 5.6.0" : "550 5.5.2";
                if (taken ? nul : ((mode & 1 && !nul) || strcmp(codes, refusal) != 0))
                    fail_msg("payload %zu, mode %d, cut at %zu: %s", i, mode, cut, codes);
                assert_int_equal(p.message_count, before + taken);
                if (!taken)
                    continue;
                const struct message *m = p.messages[before];
                assert_string_equal(m->sender, "a@b.example");
                assert_non_null(strstr(play_body(&p, before), "smuggled\r\n"));
                message_unref(p.messages[--p.message_count]);
            }
        }
        play_end(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_sent_is_what_is_stored),
        cmocka_unit_test(a_schedule_holds_a_message_back),
        cmocka_unit_test(priority_and_expiry_are_the_messages_own),
        cmocka_unit_test(no_smuggled_line_end_makes_two_messages),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
