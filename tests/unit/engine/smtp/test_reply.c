#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/smtp/reply.h"

static const struct {
    const char *wire;
    size_t len; /* 0: strlen(wire) */
    enum smtp_parse want;
    uint16_t code;
    const char *text;   /* lines separated by '\n' */
    const char *behind; /* what is left */
} cases[] = {
    {"250 ok\r\n", 0, SMTP_PARSE_DONE, 250, "ok", ""},
    {"250 ok\n", 0, SMTP_PARSE_DONE, 250, "ok", ""}, /* LF alone is borne */
    {"250 \r\n", 0, SMTP_PARSE_DONE, 250, "", ""},
    {"250\r\n", 0, SMTP_PARSE_DONE, 250, "", ""},
    {"250\n", 0, SMTP_PARSE_DONE, 250, "", ""},
    {"250-\r\n250\r\n", 0, SMTP_PARSE_DONE, 250, "\n", ""},
    {"250-a\r\n250-b\r\n250 c\r\n", 0, SMTP_PARSE_DONE, 250, "a\nb\nc", ""},
    {"250-a\n250 b\r\n", 0, SMTP_PARSE_DONE, 250, "a\nb", ""},
    {"220 go\r\n250-AUTH", 0, SMTP_PARSE_DONE, 220, "go", "250-AUTH"},
    {"571 not standard, but out there\r\n", 0, SMTP_PARSE_DONE, 571, "not standard, but out there", ""},
    {"599 x\r\n", 0, SMTP_PARSE_DONE, 599, "x", ""},
    {"250 a\rb\r\n", 0, SMTP_PARSE_DONE, 250, "a\rb", ""},
    {"250 a\r\r\n", 0, SMTP_PARSE_DONE, 250, "a\r", ""},
    {"250 caf\xc3\xa9 \xff\r\n", 0, SMTP_PARSE_DONE, 250, "caf\xc3\xa9 \xff", ""},
    {"250  two blanks\r\n", 0, SMTP_PARSE_DONE, 250, " two blanks", ""},
    {"421-bye\r\n421 now\r\n", 0, SMTP_PARSE_DONE, 421, "bye\nnow", ""},
    {"250-no end\r\n", 0, SMTP_PARSE_MORE, 250, NULL, ""},
    {"250 no end", 0, SMTP_PARSE_MORE, 250, NULL, ""},
    {"250 no end\r", 0, SMTP_PARSE_MORE, 250, NULL, ""},
    {"25", 0, SMTP_PARSE_MORE, 0, NULL, ""},
    {"", 0, SMTP_PARSE_MORE, 0, NULL, ""},
    {"99\r\n", 0, SMTP_PARSE_BAD, 0, NULL, NULL},
    {"25\r\n", 0, SMTP_PARSE_BAD, 0, NULL, NULL},
    {"2500 x\r\n", 0, SMTP_PARSE_BAD, 250, NULL, NULL},
    {"250x\r\n", 0, SMTP_PARSE_BAD, 250, NULL, NULL},
    {"250\tx\r\n", 0, SMTP_PARSE_BAD, 250, NULL, NULL},
    {"150 x\r\n", 0, SMTP_PARSE_BAD, 0, NULL, NULL},
    {"650 x\r\n", 0, SMTP_PARSE_BAD, 0, NULL, NULL},
    {"-50 x\r\n", 0, SMTP_PARSE_BAD, 0, NULL, NULL},
    {" 250 x\r\n", 0, SMTP_PARSE_BAD, 0, NULL, NULL},
    {"\r\n", 0, SMTP_PARSE_BAD, 0, NULL, NULL},
    {"hello\r\n", 0, SMTP_PARSE_BAD, 0, NULL, NULL},
    {"250-a\r\n251 b\r\n", 0, SMTP_PARSE_BAD, 250, NULL, NULL},
    {"250-a\r\n\r\n", 0, SMTP_PARSE_BAD, 250, NULL, NULL},
    {"250-a\r\nb\r\n", 0, SMTP_PARSE_BAD, 250, NULL, NULL},
    {"250 a\0b\r\n", 9, SMTP_PARSE_BAD, 250, NULL, NULL},
    {"25\0 a\r\n", 7, SMTP_PARSE_BAD, 0, NULL, NULL},
};

static void check(struct smtp_reply *r, size_t i, enum smtp_parse got, struct bytes rest)
{
    assert_int_equal(got, cases[i].want);
    if (got == SMTP_PARSE_BAD) {
        assert_non_null(r->why);
        return;
    }
    assert_int_equal(r->code, cases[i].code);
    assert_true(bytes_eq(rest, bytes_of(cases[i].behind)));
    if (got == SMTP_PARSE_DONE)
        assert_string_equal(buf_str(&r->text), cases[i].text);
}

static void every_reply_parses_the_same_however_it_is_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        size_t len = cases[i].len ? cases[i].len : strlen(cases[i].wire);
        for (size_t cut = 0; cut <= len; cut++) {
            struct smtp_reply r = {0};
            struct bytes in = bytes_make(cases[i].wire, cut);
            enum smtp_parse got = smtp_reply_parse(&r, &in);
            struct bytes rest = bytes_make(cases[i].wire + (cut - in.len), len - (cut - in.len));
            if (got == SMTP_PARSE_MORE) {
                assert_int_equal(in.len, 0);
                got = smtp_reply_parse(&r, &rest);
            }
            check(&r, i, got, rest);
            smtp_reply_fini(&r);
        }
    }
}

static void every_reply_parses_octet_by_octet(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct smtp_reply r = {0};
        struct bytes rest = bytes_make(cases[i].wire, cases[i].len ? cases[i].len : strlen(cases[i].wire));
        enum smtp_parse got = SMTP_PARSE_MORE;
        while (got == SMTP_PARSE_MORE && rest.len) {
            struct bytes one = bytes_first(rest, 1);
            rest = bytes_skip(rest, 1);
            got = smtp_reply_parse(&r, &one);
        }
        check(&r, i, got, rest);
        smtp_reply_fini(&r);
    }
}

static void a_parser_can_be_used_again(void **state)
{
    (void)state;
    struct smtp_reply r = {0};
    struct bytes in = BYTES("250-a\r\n250 b\r\n550 no\r\n354\r\n");
    static const uint16_t codes[] = {250, 550, 354};
    static const char *const texts[] = {"a\nb", "no", ""};

    for (size_t i = 0; i < COUNT_OF(codes); i++) {
        assert_int_equal(smtp_reply_parse(&r, &in), SMTP_PARSE_DONE);
        assert_int_equal(r.code, codes[i]);
        assert_string_equal(buf_str(&r.text), texts[i]);
        smtp_reply_reset(&r);
    }
    assert_int_equal(in.len, 0);
    smtp_reply_fini(&r);
}

static enum smtp_parse parse(struct smtp_reply *r, const struct buf *wire)
{
    struct bytes in = buf_bytes(wire);

    return smtp_reply_parse(r, &in);
}

static void a_reply_is_bounded(void **state)
{
    (void)state;
    struct smtp_reply r = {0};
    BUF_LOCAL(wire);

    for (int i = 1; i < SMTP_REPLY_LINES_MAX; i++)
        buf_puts(&wire, "250-x\r\n");
    assert_int_equal(parse(&r, &wire), SMTP_PARSE_MORE);
    struct bytes last = BYTES("250 x\r\n");
    assert_int_equal(smtp_reply_parse(&r, &last), SMTP_PARSE_DONE); /* 1000 lines are fine */
    assert_int_equal(r.lines, SMTP_REPLY_LINES_MAX);
    smtp_reply_reset(&r);
    buf_puts(&wire, "250-x\r\n");
    assert_int_equal(parse(&r, &wire), SMTP_PARSE_BAD);
    smtp_reply_reset(&r);

    buf_clear(&wire);
    buf_puts(&wire, "250 ");
    while (wire.len < SMTP_REPLY_LINE_MAX - 2)
        buf_putc(&wire, 'x');
    buf_puts(&wire, "\r\n");
    assert_int_equal(parse(&r, &wire), SMTP_PARSE_DONE);
    assert_int_equal(r.text.len, SMTP_REPLY_LINE_KEPT);
    smtp_reply_reset(&r);
    wire.len -= 2;
    buf_puts(&wire, "x\r\n");
    assert_int_equal(parse(&r, &wire), SMTP_PARSE_BAD);
    smtp_reply_reset(&r);
    wire.len -= 2;
    buf_puts(&wire, "xxx");
    assert_int_equal(parse(&r, &wire), SMTP_PARSE_BAD); /* without waiting for its end */
    smtp_reply_reset(&r);

    buf_clear(&wire);
    for (int i = 0; i < 999; i++) {
        buf_puts(&wire, "250-");
        for (int k = 0; k < 500; k++)
            buf_putc(&wire, 'x');
        buf_puts(&wire, "\r\n");
    }
    buf_puts(&wire, "250 x\r\n");
    assert_int_equal(parse(&r, &wire), SMTP_PARSE_DONE);
    assert_true(r.text.len <= SMTP_REPLY_TEXT_MAX + 1);
    assert_true(r.text.cap <= 4 * SMTP_REPLY_TEXT_MAX);
    smtp_reply_fini(&r);
}

static void lines_are_found_again(void **state)
{
    (void)state;
    static const struct {
        const char *wire;
        unsigned lines;
    } rows[] = {{"250\r\n", 1}, {"250 a\r\n", 1}, {"250-a\r\n250 b\r\n", 2}, {"250-\r\n250-\r\n250 \r\n", 3}};

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct smtp_reply r = {0};
        struct bytes in = bytes_of(rows[i].wire), line;
        size_t at = 0;
        unsigned n = 0;
        assert_int_equal(smtp_reply_parse(&r, &in), SMTP_PARSE_DONE);
        while (smtp_reply_line(&r, &at, &line)) {
            assert_true(line.len == 0 || line.at[0] == (char)('a' + n));
            n++;
        }
        assert_int_equal(n, rows[i].lines);
        smtp_reply_fini(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_reply_parses_the_same_however_it_is_split),
        cmocka_unit_test(every_reply_parses_octet_by_octet),
        cmocka_unit_test(a_parser_can_be_used_again),
        cmocka_unit_test(a_reply_is_bounded),
        cmocka_unit_test(lines_are_found_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
