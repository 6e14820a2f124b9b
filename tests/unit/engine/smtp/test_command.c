#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/smtp/command.h"

static void verbs_are_known_in_any_case(void **state)
{
    static const struct {
        const char *line;
        enum verb verb;
        const char *arg;
    } cases[] = {
        {"EHLO a.example", VERB_EHLO, "a.example"},
        {"ehlo   a.example  ", VERB_EHLO, "a.example"},
        {"HeLo x", VERB_HELO, "x"},
        {"STARTTLS", VERB_STARTTLS, ""},
        {"AUTH PLAIN AAA=", VERB_AUTH, "PLAIN AAA="},
        {"MAIL FROM:<>", VERB_MAIL, "FROM:<>"},
        {"RCPT TO:<a@b>", VERB_RCPT, "TO:<a@b>"},
        {"DATA", VERB_DATA, ""},
        {"BDAT 1 LAST", VERB_BDAT, "1 LAST"},
        {"RSET ", VERB_RSET, ""},
        {"NOOP x y", VERB_NOOP, "x y"},
        {"HELP", VERB_HELP, ""},
        {"VRFY a", VERB_VRFY, "a"},
        {"EXPN l", VERB_EXPN, "l"},
        {"QUIT", VERB_QUIT, ""},
        {"", VERB_UNKNOWN, ""},
        {" QUIT", VERB_UNKNOWN, "QUIT"},
        {"QUIT\tx", VERB_UNKNOWN, ""},
        {"QUITX", VERB_UNKNOWN, ""},
        {"QUI", VERB_UNKNOWN, ""},
        {"GET / HTTP/1.1", VERB_UNKNOWN, "/ HTTP/1.1"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct smtp_command c;
        smtp_command_parse(bytes_of(cases[i].line), &c);
        assert_int_equal(c.verb, cases[i].verb);
        assert_true(bytes_eq(c.arg, bytes_of(cases[i].arg)));
    }
}

#define N100                                                                                                 \
    "1234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890"

static void mail_takes_what_ehlo_offers_and_nothing_else(void **state)
{
    static const struct {
        const char *arg;
        unsigned code; /* 0: fine */
        const char *from;
        uint64_t size;
        bool body_8bit, smtputf8;
        enum dsn_ret ret;
        const char *envid;
    } cases[] = {
        {"FROM:<a@b.example>", 0, "a@b.example", 0, false, false, DSN_RET_DEFAULT, ""},
        {"from: <a@b.example>", 0, "a@b.example", 0, false, false, DSN_RET_DEFAULT, ""},
        {"FROM:<>", 0, "", 0, false, false, DSN_RET_DEFAULT, ""},
        {"FROM:<> SIZE=12345 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=a+2Bb AUTH=<>", 0, "", 12345, true, true,
         DSN_RET_HDRS, "a+b"},
        {"FROM:<> body=7bit ret=full", 0, "", 0, false, false, DSN_RET_FULL, ""},
        {"FROM:<>   SIZE=1  ", 0, "", 1, false, false, DSN_RET_DEFAULT, ""},
        {"FROM:<> SIZE=99999999999999999999", 0, "", UINT64_MAX, false, false, DSN_RET_DEFAULT, ""},
        {"FROM:<> ENVID=" N100, 0, "", 0, false, false, DSN_RET_DEFAULT, N100},
        {"FROM:<> AUTH=a+3Db@c.example", 0, "", 0, false, false, DSN_RET_DEFAULT, ""},
        {"FROM:<\xc3\xa4@b.example> SMTPUTF8", 0, "\xc3\xa4@b.example", 0, false, true, DSN_RET_DEFAULT, ""},
        {.arg = "", .code = 501},
        {.arg = "<a@b.example>", .code = 501},
        {.arg = "FROM", .code = 501},
        {.arg = "FROM:", .code = 501},
        {.arg = "FROM:a@b.example", .code = 501},
        {.arg = "FROM:<a@b.example>SIZE=1", .code = 501},
        {.arg = "FROM:<a>", .code = 550},
        {.arg = "TO:<a@b.example>", .code = 501},
        {.arg = "FROM:<\xc3\xa4@b.example>", .code = 553},
        {.arg = "FROM:<> SIZE", .code = 501},
        {.arg = "FROM:<> SIZE=", .code = 501},
        {.arg = "FROM:<> SIZE=-1", .code = 501},
        {.arg = "FROM:<> SIZE=1x", .code = 501},
        {.arg = "FROM:<> SIZE=100000000000000000000", .code = 501},
        {.arg = "FROM:<> SIZE=1 SIZE=1", .code = 501},
        {.arg = "FROM:<> BODY=BINARYMIME", .code = 555},
        {.arg = "FROM:<> BODY=9BIT", .code = 501},
        {.arg = "FROM:<> BODY", .code = 501},
        {.arg = "FROM:<> SMTPUTF8=1", .code = 501},
        {.arg = "FROM:<> SMTPUTF8 smtputf8", .code = 501},
        {.arg = "FROM:<> RET=ALL", .code = 501},
        {.arg = "FROM:<> ENVID=" N100 "1", .code = 501},
        {.arg = "FROM:<> ENVID=a+0Ab", .code = 501},
        {.arg = "FROM:<> ENVID=a=b", .code = 501},
        {.arg = "FROM:<> AUTH=a+0Db", .code = 501},
        {.arg = "FROM:<> NOTIFY=NEVER", .code = 555},
        {.arg = "FROM:<> REQUIRETLS=1", .code = 501},
        {.arg = "FROM:<> =1", .code = 501},
        {.arg = "FROM:<> -a=1", .code = 501},
        {.arg = "FROM:<> a_b=1", .code = 501},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct mail_args m;
        struct smtp_refusal why = {0};
        bool ok = smtp_mail_parse(bytes_of(cases[i].arg), &m, &why);
        assert_int_equal(ok ? 0 : why.code, cases[i].code);
        assert_int_equal(ok, cases[i].code == 0);
        if (!ok)
            continue;
        assert_true(bytes_eq(m.from.text, bytes_of(cases[i].from)));
        assert_true(m.size_bytes == cases[i].size);
        assert_int_equal(m.body_8bit, cases[i].body_8bit);
        assert_int_equal(m.smtputf8, cases[i].smtputf8);
        assert_int_equal(m.ret, cases[i].ret);
        assert_string_equal(m.envid, cases[i].envid);
    }
}

static void rcpt_takes_a_recipient_and_dsn(void **state)
{
    static const struct {
        const char *arg;
        unsigned code;
        const char *to;
        uint8_t notify;
        const char *orcpt;
    } cases[] = {
        {"TO:<a@b.example>", 0, "a@b.example", NOTIFY_DEFAULT, ""},
        {"to: <a@b.example>", 0, "a@b.example", NOTIFY_DEFAULT, ""},
        {"TO:<a@b.example> NOTIFY=NEVER", 0, "a@b.example", NOTIFY_NEVER, ""},
        {"TO:<a@b.example> NOTIFY=success,FAILURE,Delay ORCPT=rfc822;x+2By@z.example", 0, "a@b.example",
         NOTIFY_SUCCESS | NOTIFY_FAILURE | NOTIFY_DELAY, "rfc822;x+y@z.example"},
        {"TO:<a@b.example> ORCPT=utf-8;\xc3\xa4@z.example", 0, "a@b.example", NOTIFY_DEFAULT,
         "utf-8;\xc3\xa4@z.example"},
        {.arg = "TO:<>", .code = 501},
        {.arg = "TO:<postmaster>", .code = 550},
        {.arg = "TO:a@b.example", .code = 501},
        {.arg = "TO:<a@b.example> NOTIFY=NEVER,FAILURE", .code = 501},
        {.arg = "TO:<a@b.example> NOTIFY=,", .code = 501},
        {.arg = "TO:<a@b.example> NOTIFY=FAILURE,", .code = 501},
        {.arg = "TO:<a@b.example> NOTIFY=", .code = 501},
        {.arg = "TO:<a@b.example> NOTIFY=NEVER NOTIFY=NEVER", .code = 501},
        {.arg = "TO:<a@b.example> ORCPT=x@y.example", .code = 501},
        {.arg = "TO:<a@b.example> ORCPT=;x", .code = 501},
        {.arg = "TO:<a@b.example> ORCPT=rfc822;", .code = 501},
        {.arg = "TO:<a@b.example> ORCPT=rf c;x", .code = 501},
        {.arg = "TO:<a@b.example> ORCPT=rfc822;a+0D+0Ab", .code = 501},
        {.arg = "TO:<a@b.example> ORCPT=rfc822;\xc3\xa4", .code = 501},
        {.arg = "TO:<a@b.example> ORCPT=utf-8;\xff", .code = 501},
        {.arg = "TO:<a@b.example> SIZE=1", .code = 555},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct rcpt_args r;
        struct smtp_refusal why = {0};
        bool ok = smtp_rcpt_parse(bytes_of(cases[i].arg), &r, &why);
        assert_int_equal(ok ? 0 : why.code, cases[i].code);
        if (!ok)
            continue;
        assert_true(bytes_eq(r.to.text, bytes_of(cases[i].to)));
        assert_int_equal(r.notify, cases[i].notify);
        assert_string_equal(r.orcpt, cases[i].orcpt);
    }
}

static void a_chunk_size_is_plain_decimal(void **state)
{
    static const struct {
        const char *arg;
        bool ok, sized, last;
        uint64_t size;
    } cases[] = {
        {"0", true, true, false, 0},
        {"0 LAST", true, true, true, 0},
        {"86 last", true, true, true, 86},
        {"007", true, true, false, 7}, /* not octal */
        {"010", true, true, false, 10},
        {"2147483648", true, true, false, 2147483648U},
        {"18446744073709551615", true, true, false, UINT64_MAX},
        {"18446744073709551616", false, false, false, 0},
        {"-1", false, false, false, 0},
        {"+1", false, false, false, 0},
        {"0x10", false, false, false, 0},
        {"1e3", false, false, false, 0},
        {"", false, false, false, 0},
        {"LAST", false, false, false, 0},
        {"5 FIRST", false, true, false, 5},
        {"5 LAST LAST", false, true, false, 5},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct bdat_args b;
        struct smtp_refusal why;
        bool sized;
        assert_int_equal(smtp_bdat_parse(bytes_of(cases[i].arg), &b, &sized, &why), cases[i].ok);
        assert_int_equal(sized, cases[i].sized);
        assert_int_equal(b.last, cases[i].last);
        if (sized)
            assert_true(b.size_bytes == cases[i].size);
        if (!cases[i].ok)
            assert_int_equal(why.code, 501);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(verbs_are_known_in_any_case),
        cmocka_unit_test(mail_takes_what_ehlo_offers_and_nothing_else),
        cmocka_unit_test(rcpt_takes_a_recipient_and_dsn),
        cmocka_unit_test(a_chunk_size_is_plain_decimal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
