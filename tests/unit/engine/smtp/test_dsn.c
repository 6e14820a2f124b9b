/*
 * Delivery status notifications, read back line by line.
 * "test-engine-smtp-dsn DIR" also writes each one to DIR/N.eml: check_dsn.py lets Python's mail parser judge
 * them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "engine/smtp/dsn.h"

static const char *dump_dir;
static const char header[] = "From: a@s.example\r\nSubject: hi\r\nMessage-ID: <1@s.example>\r\n\r\n";
static const char whole[] =
    "From: a@s.example\r\nSubject: hi\r\nMessage-ID: <1@s.example>\r\n\r\nSecret text.\r\n";

static struct outcome remote(uint16_t code, const char *text)
{
    struct outcome o;

    outcome_from_reply(&o, STAGE_RCPT, code, bytes_of(text));
    return o;
}

static struct dsn base_dsn(const struct dsn_rcpt *rcpts, size_t count)
{
    return (struct dsn){.reporting_mta = "mx.hayauma.example",
                        .sender = "a@s.example",
                        .id = 0x123456789abcdef,
                        .arrival_unix = 1790000000,
                        .now_unix = 1790000600,
                        .rcpts = rcpts,
                        .rcpt_count = count,
                        .header = bytes_of(header)};
}

static char *format(const struct dsn *d)
{
    static unsigned dumped;
    struct buf out = {0};

    dsn_format(d, &out);
    if (dump_dir) {
        char name[300];
        snprintf(name, sizeof(name), "%s/%u.eml", dump_dir, dumped++);
        FILE *f = fopen(name, "w");
        assert_non_null(f);
        fwrite(out.at, 1, out.len, f);
        fclose(f);
    }
    assert_int_equal(strlen(buf_str(&out)), out.len); /* no NUL */
    return buf_take(&out);
}

static void assert_has(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("\"%s\" is not in\n%s", part, text);
}

static void assert_has_not(const char *text, const char *part)
{
    if (strstr(text, part))
        fail_msg("\"%s\" is in\n%s", part, text);
}

static unsigned count_of(const char *text, const char *part)
{
    unsigned n = 0;

    while ((text = strstr(text, part))) {
        n++;
        text += strlen(part);
    }
    return n;
}

/* CRLF only, no line over 998 octets, no control but those; at most `wide` where it is we who break lines. */
static void assert_lines(const char *text)
{
    size_t len = 0;

    assert_true(strlen(text) > 2 && strcmp(text + strlen(text) - 2, "\r\n") == 0);
    for (const char *s = text; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '\r') {
            assert_int_equal(s[1], '\n');
            s++;
            assert_true(len <= 998);
            len = 0;
            continue;
        }
        assert_true(c >= 0x20 && c != 0x7f);
        len++;
    }
}

/* Our header: up to the first empty line. */
static char *top_of(const char *text)
{
    const char *end = strstr(text, "\r\n\r\n");

    assert_non_null(end);
    return mem_dup(text, (size_t)(end - text) + 2);
}

static void a_failure_says_who_why_and_what_to_do(void **state)
{
    (void)state;
    struct outcome unknown = remote(550, "5.1.1 <r@d.example>: unknown user");
    struct dsn_rcpt r = {.action = DSN_FAILED,
                         .address = "r@d.example",
                         .orcpt = "rfc822;old@d.example",
                         .outcome = &unknown,
                         .remote_mta = "mx.d.example",
                         .last_attempt_unix = 1790000500};
    struct dsn d = base_dsn(&r, 1);
    d.envid = "QQ314159";
    char *text = format(&d), *top = top_of(text);

    assert_lines(text);
    assert_has(top, "\r\nFrom: Mail Delivery System <MAILER-DAEMON@mx.hayauma.example>\r\n");
    assert_has(top, "\r\nTo: <a@s.example>\r\n");
    assert_has(top, "\r\nSubject: Your message could not be delivered\r\n");
    assert_has(top, "\r\nAuto-Submitted: auto-replied\r\n");
    assert_has(top, "\r\nMIME-Version: 1.0\r\n");
    assert_has(top, "\r\nContent-Type: multipart/report; report-type=delivery-status;\r\n    boundary=\"=_");
    assert_has(top, "\r\nMessage-ID: <dsn.");
    assert_has(top, "Date: ");
    assert_has_not(top, "8bit");
    assert_has(text, "\r\n<r@d.example>\r\n    The receiving host does not know this address.\r\n"
                     "    Check it for typing errors. If it comes from a list, remove it there.\r\n"
                     "    The host mx.d.example said: 550 5.1.1 <r@d.example>: unknown user\r\n");
    assert_has(
        text,
        "\r\n\r\nOriginal-Envelope-Id: QQ314159\r\nReporting-MTA: dns; mx.hayauma.example\r\nArrival-Date: ");
    assert_has(text,
               "\r\n\r\nOriginal-Recipient: rfc822; old@d.example\r\nFinal-Recipient: rfc822; r@d.example\r\n"
               "Action: failed\r\nStatus: 5.1.1\r\nRemote-MTA: dns; mx.d.example\r\n"
               "Diagnostic-Code: smtp; 550 5.1.1 <r@d.example>: unknown user\r\nLast-Attempt-Date: ");
    assert_has_not(text, "Will-Retry-Until");
    assert_has(text, "Content-Type: text/rfc822-headers\r\n");
    assert_has(text, "\r\n\r\nFrom: a@s.example\r\nSubject: hi\r\nMessage-ID: <1@s.example>\r\n\r\n--=_");
    assert_int_equal(count_of(text, "\r\n--=_"), 4);
    mem_free(top);
    mem_free(text);
}

static void each_recipient_has_a_group_of_its_own(void **state)
{
    (void)state;
    struct outcome unknown = remote(550, "no"), full, expired, ours;
    outcome_from_reply(&full, STAGE_RCPT, 552, BYTES("5.2.2 mailbox full"));
    outcome_local(&expired, OUTCOME_EXPIRED, STAGE_QUEUE, 0, "", "gave up after 5 days");
    outcome_local(&ours, OUTCOME_BOUNCED, STAGE_MAIL, 552, "5.3.4",
                  "the message is larger than the next host takes");
    struct dsn_rcpt r[] = {
        {.action = DSN_FAILED, .address = "r1@d.example", .outcome = &unknown, .remote_mta = "mx.d.example"},
        {.action = DSN_FAILED, .address = "r2@d.example", .outcome = &full},
        {.action = DSN_FAILED, .address = "r3@d.example", .outcome = &expired, .remote_mta = "mx.d.example"},
        {.action = DSN_FAILED, .address = "r4@d.example", .outcome = &ours},
    };
    struct dsn d = base_dsn(r, COUNT_OF(r));
    char *text = format(&d);

    assert_lines(text);
    assert_has(text, "\r\n\r\nFinal-Recipient: rfc822; r1@d.example\r\nAction: failed\r\nStatus: 5.0.0\r\n"
                     "Remote-MTA: dns; mx.d.example\r\nDiagnostic-Code: smtp; 550 no\r\n\r\n");
    assert_has(text, "Final-Recipient: rfc822; r2@d.example\r\nAction: failed\r\nStatus: 5.2.2\r\n"
                     "Diagnostic-Code: smtp; 552 5.2.2 mailbox full\r\n");
    assert_has(text, "Final-Recipient: rfc822; r3@d.example\r\nAction: failed\r\nStatus: 4.4.7\r\n"
                     "Diagnostic-Code: X-Hayauma; gave up after 5 days\r\n");
    assert_has(text, "Final-Recipient: rfc822; r4@d.example\r\nAction: failed\r\nStatus: 5.3.4\r\n");
    assert_has(text, "    Make it smaller, or send a link in place of the attachment.\r\n");
    mem_free(text);
}

static void what_an_operator_returned_is_not_blamed_on_the_receiver(void **state)
{
    (void)state;
    struct outcome o;
    outcome_local(&o, OUTCOME_BOUNCED, STAGE_QUEUE, 554, "5.7.0", "returned to the sender by an operator");
    struct dsn_rcpt r = {.action = DSN_FAILED, .address = "r@d.example", .outcome = &o};
    struct dsn d = base_dsn(&r, 1);
    char *text = format(&d);

    assert_has(text, "    An operator of this mail system returned the message.\r\n"
                     "    Ask your mail administrator.\r\n"
                     "    In short: returned to the sender by an operator\r\n");
    assert_has_not(text, "receiving host");
    assert_has(text, "Action: failed\r\nStatus: 5.7.0\r\n");
    mem_free(text);
}

static void what_expired_tells_also_what_kept_it(void **state)
{
    (void)state;
    struct outcome o = remote(452, "4.2.2 mailbox full");
    o.kind = OUTCOME_EXPIRED;
    struct dsn_rcpt r = {.action = DSN_FAILED, .address = "r@d.example", .outcome = &o};
    struct dsn d = base_dsn(&r, 1);
    char *text = format(&d);

    assert_has(
        text,
        "    All tries during the message's lifetime failed.\r\n    The recipient's mailbox is full.\r\n");
    assert_has(text, "Action: failed\r\nStatus: 4.2.2\r\n");
    mem_free(text);
}

static void a_mixed_notification_begins_with_the_failures(void **state)
{
    (void)state;
    struct outcome unknown = remote(550, "5.1.1 no"), done;
    outcome_from_reply(&done, STAGE_DOT, 250, BYTES("2.0.0 ok"));
    struct dsn_rcpt r[] = {
        {.action = DSN_RELAYED, .address = "r1@d.example", .outcome = &done},
        {.action = DSN_FAILED, .address = "r2@d.example", .outcome = &unknown},
    };
    struct dsn d = base_dsn(r, COUNT_OF(r));
    d.ret = DSN_RET_FULL;
    d.full = bytes_of(whole);
    char *text = format(&d);

    assert_has(text, "Subject: Your message could not be delivered\r\n");
    const char *failed = strstr(text, "<r2@d.example>"), *relayed = strstr(text, "<r1@d.example>");
    assert_true(failed && relayed && failed < relayed);
    assert_has(text, "Final-Recipient: rfc822; r1@d.example\r\nAction: relayed\r\n");
    assert_has(text, "Final-Recipient: rfc822; r2@d.example\r\nAction: failed\r\n");
    assert_has(text, "Secret text");
    mem_free(text);
}

static void more_recipients_than_can_be_told_are_counted(void **state)
{
    (void)state;
    struct outcome unknown = remote(550, "5.1.1 no");
    struct dsn_rcpt *r = mem_zalloc((DSN_RCPTS_MAX + 7) * sizeof(*r));
    for (size_t i = 0; i < DSN_RCPTS_MAX + 7; i++)
        r[i] = (struct dsn_rcpt){.action = DSN_FAILED, .address = "r@d.example", .outcome = &unknown};
    struct dsn d = base_dsn(r, DSN_RCPTS_MAX + 7);
    char *text = format(&d);

    assert_int_equal(count_of(text, "Final-Recipient: "), DSN_RCPTS_MAX);
    assert_has(text, "and 7 more.\r\n");
    mem_free(text);
    mem_free(r);
}

static void the_kinds_differ_in_subject_action_and_words(void **state)
{
    (void)state;
    struct outcome later = remote(451, "4.7.1 greylisted"), done;
    outcome_from_reply(&done, STAGE_DOT, 250, BYTES("2.0.0 ok"));
    const struct {
        enum dsn_action action;
        const struct outcome *outcome;
        const char *subject, *fields, *words;
    } rows[] = {
        {DSN_DELAYED, &later, "Subject: Your message is delayed (no action needed)\r\n",
         "Action: delayed\r\nStatus: 4.7.1\r\n", "you need not send it again"},
        {DSN_RELAYED, &done, "Subject: Your message was passed on\r\n",
         "Action: relayed\r\nStatus: 2.0.0\r\n", "does not report delivery"},
        {DSN_DELIVERED, &done, "Subject: Your message was delivered\r\n",
         "Action: delivered\r\nStatus: 2.0.0\r\n", "The message was delivered."},
        {DSN_EXPANDED, &done, "Subject: Your message was passed on to the members of a list\r\n",
         "Action: expanded\r\nStatus: 2.0.0\r\n", "members of this list"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct dsn_rcpt r = {.action = rows[i].action,
                             .address = "r@d.example",
                             .outcome = rows[i].outcome,
                             .retry_until_unix = 1790432000};
        struct dsn d = base_dsn(&r, 1);
        d.ret = DSN_RET_FULL;
        d.full = bytes_of(whole);
        char *text = format(&d);
        assert_lines(text);
        assert_has(text, rows[i].subject);
        assert_has(text, rows[i].fields);
        assert_has(text, rows[i].words);
        assert_int_equal(count_of(text, "Will-Retry-Until: "), rows[i].action == DSN_DELAYED);
        assert_has_not(text, "Secret"); /* the message comes back only when it failed: RFC 3461 §4.3 */
        mem_free(text);
    }
}

static void the_message_comes_back_whole_only_when_asked_for_and_small(void **state)
{
    (void)state;
    struct outcome unknown = remote(550, "no");
    struct dsn_rcpt r = {.action = DSN_FAILED, .address = "r@d.example", .outcome = &unknown};
    struct buf big = {0};

    buf_puts(&big, whole);
    while (big.len <= DSN_FULL_BYTES_MAX)
        buf_puts(&big, "Secret text, a long line of it that fills the message up to its limit.\r\n");
    const struct {
        enum dsn_ret ret;
        struct bytes full;
        bool want;
    } rows[] = {
        {DSN_RET_FULL, bytes_of(whole), true},
        {DSN_RET_HDRS, bytes_of(whole), false},
        {DSN_RET_DEFAULT, bytes_of(whole), false},
        {DSN_RET_FULL, buf_bytes(&big), false},
        {DSN_RET_FULL, {0}, false},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct dsn d = base_dsn(&r, 1);
        d.ret = rows[i].ret;
        d.full = rows[i].full;
        char *text = format(&d);
        assert_lines(text);
        assert_int_equal(strstr(text, "Secret text") != NULL, rows[i].want);
        assert_int_equal(strstr(text, "Content-Type: message/rfc822\r\n") != NULL, rows[i].want);
        assert_int_equal(strstr(text, "Content-Type: text/rfc822-headers\r\n") != NULL, !rows[i].want);
        mem_free(text);
    }
    buf_fini(&big);
    assert_true(dsn_wants_full(DSN_RET_FULL, DSN_FAILED, DSN_FULL_BYTES_MAX));
    assert_false(dsn_wants_full(DSN_RET_FULL, DSN_FAILED, DSN_FULL_BYTES_MAX + 1));
    assert_false(dsn_wants_full(DSN_RET_FULL, DSN_DELAYED, 1));
    assert_false(dsn_wants_full(DSN_RET_HDRS, DSN_FAILED, 1));
    assert_false(dsn_wants_full(DSN_RET_DEFAULT, DSN_FAILED, 1));
}

static void hostile_words_stay_inside_their_field(void **state)
{
    (void)state;
    static const char *const words[] = {
        "no\r\nBcc: victim@v.example\r\n\r\nforged",
        "\xc2\x85 next line \xe2\x81\xa6 isolate",
        "no\nStatus: 2.0.0\nAction: delivered",
        "no\r\n\r\n--=_0123456789abcdef_0--\r\nforged",
        "\r\n.\r\nMAIL FROM:<evil@v.example>",
        "\x1b[31mred\x07\x7f\x01 \xe2\x80\xae mirrored",
        "bad utf-8 \xff\xfe\xc3( end",
    };
    for (size_t i = 0; i < COUNT_OF(words); i++) {
        /* As if nobody had cleaned it before. */
        struct outcome o = {.kind = OUTCOME_BOUNCED, .stage = STAGE_RCPT, .code = 550, .remote = true};
        snprintf(o.text, sizeof(o.text), "%s", words[i]);
        struct dsn_rcpt r = {.action = DSN_FAILED,
                             .address = "r@d.example",
                             .outcome = &o,
                             .remote_mta = words[i],
                             .orcpt = "rfc822;x\r\nBcc: victim@v.example"};
        struct dsn d = base_dsn(&r, 1);
        d.envid = words[i];
        d.reporting_mta = "mx\r\nBcc: v@v.example";
        char *text = format(&d), *top = top_of(text);
        assert_lines(text);
        assert_has_not(text, "\r\nBcc:");
        assert_has_not(text, "\r\nMAIL FROM");
        assert_has_not(text, "\x1b");
        assert_has_not(text, "\xe2\x80\xae");
        assert_has_not(text, "\xc2\x85");
        assert_has_not(text, "\xe2\x81\xa6");
        assert_int_equal(count_of(text, "\r\nStatus: "), 1);
        assert_int_equal(count_of(text, "\r\nAction: "), 1);
        const char *boundary = strstr(top, "boundary=\"") + strlen("boundary=\"");
        char line[64];
        snprintf(line, sizeof(line), "--%.*s", (int)strcspn(boundary, "\""), boundary);
        assert_int_equal(count_of(text, line), 4);
        mem_free(top);
        mem_free(text);
    }
}

static void line_ends_in_a_reply_become_blanks(void **state)
{
    (void)state;
    struct outcome o = {
        .kind = OUTCOME_BOUNCED, .stage = STAGE_RCPT, .code = 550, .remote = true, .text = "a\r\nb\tc"};
    struct dsn_rcpt r = {.action = DSN_FAILED, .address = "r@d.example", .outcome = &o};
    struct dsn d = base_dsn(&r, 1);
    char *text = format(&d);

    assert_has(text, "Diagnostic-Code: smtp; 550 a  b c\r\n");
    mem_free(text);
}

static void the_boundary_is_not_in_the_message(void **state)
{
    (void)state;
    struct outcome unknown = remote(550, "no --=_0123456789abcdef_1");
    struct dsn_rcpt r = {.action = DSN_FAILED, .address = "r@d.example", .outcome = &unknown};
    struct dsn d = base_dsn(&r, 1);
    d.ret = DSN_RET_FULL;
    d.full = BYTES("Subject: x\r\n\r\n--=_0123456789abcdef_0\r\n--=_0123456789abcdef_0--\r\n");
    char *text = format(&d);

    assert_has(text, "boundary=\"=_0123456789abcdef_2\"");
    assert_int_equal(count_of(text, "--=_0123456789abcdef_2"), 4);
    mem_free(text);
}

static void long_words_are_folded(void **state)
{
    (void)state;
    struct outcome o = {.kind = OUTCOME_BOUNCED, .stage = STAGE_RCPT, .code = 550, .remote = true};
    char address[900];
    memset(o.text, 'x', sizeof(o.text) - 1);
    memset(address, 'y', sizeof(address) - 1);
    address[sizeof(address) - 1] = '\0';
    memcpy(address + 64, "@", 1);
    for (size_t gap = 3; gap < 400; gap += 97) {
        for (size_t i = gap; i < sizeof(o.text) - 1; i += gap)
            o.text[i] = ' ';
        struct dsn_rcpt r = {.action = DSN_FAILED, .address = address, .outcome = &o, .remote_mta = address};
        struct dsn d = base_dsn(&r, 1);
        char *text = format(&d);
        assert_lines(text);
        assert_int_equal(count_of(text, "\r\nDiagnostic-Code: smtp; 550 "), 1);
        mem_free(text);
    }
}

static void addresses_beyond_ascii_make_it_global(void **state)
{
    (void)state;
    struct outcome unknown = remote(550, "5.1.1 \xe7\x84\xa1\xe3\x81\x84");
    struct dsn_rcpt r = {.action = DSN_FAILED,
                         .address = "\xe5\xb1\xb1@d.example",
                         .orcpt = "utf-8;\xe5\xb1\xb1@d.example",
                         .outcome = &unknown};
    struct dsn d = base_dsn(&r, 1);
    d.header = BYTES("Subject: \xe6\x9c\xa8\r\n\r\n");
    assert_false(dsn_needs_smtputf8(&d));
    d.sender = "\xe6\xb5\xb7@s.example";
    assert_true(dsn_needs_smtputf8(&d));
    char *text = format(&d), *top = top_of(text);

    assert_lines(text);
    assert_has(top, "\r\nContent-Transfer-Encoding: 8bit\r\n");
    assert_has(top, "\r\nTo: <\xe6\xb5\xb7@s.example>\r\n");
    assert_has(text, "Content-Type: message/global-delivery-status\r\n");
    assert_has(text, "Original-Recipient: utf-8; \xe5\xb1\xb1@d.example\r\n");
    assert_has(text, "Final-Recipient: utf-8; \xe5\xb1\xb1@d.example\r\n");
    assert_has(text, "Content-Type: message/global-headers\r\n");
    mem_free(top);
    mem_free(text);

    /* The peer's words alone do not: the field is ASCII, the words for people keep them. */
    r.address = "r@d.example";
    r.orcpt = NULL;
    d.sender = "a@s.example";
    d.header = bytes_of(header);
    text = format(&d);
    assert_has(text, "Content-Type: message/delivery-status\r\n");
    assert_has(text, "Diagnostic-Code: smtp; 550 5.1.1 ??\r\n");
    assert_has(text, "said: 550 5.1.1 \xe7\x84\xa1\xe3\x81\x84\r\n");
    mem_free(text);
}

static void a_long_header_is_cut_at_a_line(void **state)
{
    (void)state;
    struct outcome unknown = remote(550, "no");
    struct dsn_rcpt r = {.action = DSN_FAILED, .address = "r@d.example", .outcome = &unknown};
    struct buf big = {0};

    while (big.len <= DSN_HEADER_BYTES_MAX + 1000)
        buf_puts(&big, "X-Filler: some words that repeat themselves\r\n");
    buf_puts(&big, "\r\nbody that was given by mistake\r\n");
    struct dsn d = base_dsn(&r, 1);
    d.header = buf_bytes(&big);
    char *text = format(&d);
    assert_lines(text);
    assert_has_not(text, "by mistake");
    assert_has(text, "repeat themselves\r\n\r\n--=_");
    assert_true(strlen(text) < DSN_HEADER_BYTES_MAX + 4000);
    mem_free(text);
    d.header = (struct bytes){0};
    text = format(&d);
    assert_lines(text);
    mem_free(text);
    buf_fini(&big);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failure_says_who_why_and_what_to_do),
        cmocka_unit_test(each_recipient_has_a_group_of_its_own),
        cmocka_unit_test(what_an_operator_returned_is_not_blamed_on_the_receiver),
        cmocka_unit_test(what_expired_tells_also_what_kept_it),
        cmocka_unit_test(a_mixed_notification_begins_with_the_failures),
        cmocka_unit_test(more_recipients_than_can_be_told_are_counted),
        cmocka_unit_test(the_kinds_differ_in_subject_action_and_words),
        cmocka_unit_test(the_message_comes_back_whole_only_when_asked_for_and_small),
        cmocka_unit_test(hostile_words_stay_inside_their_field),
        cmocka_unit_test(line_ends_in_a_reply_become_blanks),
        cmocka_unit_test(the_boundary_is_not_in_the_message),
        cmocka_unit_test(long_words_are_folded),
        cmocka_unit_test(addresses_beyond_ascii_make_it_global),
        cmocka_unit_test(a_long_header_is_cut_at_a_line),
    };
    dump_dir = argc > 1 ? argv[1] : NULL;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
