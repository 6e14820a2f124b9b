#include "engine/smtp/mime.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/smtp/mime_encode.h"

/* "Zwölf" in Latin 1 and UTF-8, and text that is mostly not ASCII. */
#define ZWOELF1 "Zw\xf6lf"
#define ZWOELF8 "Zw\xc3\xb6lf"
#define HAYAUMA "\xe6\x97\xa9\xe9\xa6\xac\xe3\x81\xaf\xe9\x80\x9f\xe3\x81\x84"

static const struct {
    const char *what, *fields, *body;
    const char *want_fields, *want_body; /* NULL: nothing is converted */
} rows[] = {
    {"7-bit", "Subject: x\r\n", "Hello\r\n", NULL, NULL},
    {"empty", "Subject: x\r\n", "", NULL, NULL},
    {"without MIME, UTF-8", "Subject: x\r\n", ZWOELF8 "\r\n",
     "Subject: x\r\nContent-Transfer-Encoding: quoted-printable\r\nMIME-Version: 1.0\r\n"
     "Content-Type: text/plain; charset=utf-8\r\n",
     "Zw=C3=B6lf\r\n"},
    {"without MIME, unknown", "Subject: x\r\n", ZWOELF1 "\r\n",
     "Subject: x\r\nContent-Transfer-Encoding: quoted-printable\r\nMIME-Version: 1.0\r\n"
     "Content-Type: text/plain; charset=unknown-8bit\r\n",
     "Zw=F6lf\r\n"},
    {"text that is declared",
     "MIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\nTo: "
     "a\r\n",
     "<p a=\"1\">" ZWOELF8 "</p> \r\n",
     "MIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: "
     "quoted-printable\r\n"
     "To: a\r\n",
     "<p a=3D\"1\">Zw=C3=B6lf</p>=20\r\n"},
    {"text that is shorter in base64",
     "MIME-Version: 1.0\r\ncontent-type:\r\n text/plain;\r\n charset=\"utf-8\"\r\ncontent-transfer-encoding: "
     "8BIT (x)\r\n",
     HAYAUMA "\r\n",
     "MIME-Version: 1.0\r\ncontent-type:\r\n text/plain;\r\n charset=\"utf-8\"\r\nContent-Transfer-Encoding: "
     "base64\r\n",
     "5pep6aas44Gv6YCf44GEDQo=\r\n"},
    {"what is no text", "MIME-Version: 1.0\r\nContent-Type: application/x; name=\"a;b\"\r\n", "abc\xff\r\n",
     "MIME-Version: 1.0\r\nContent-Type: application/x; name=\"a;b\"\r\nContent-Transfer-Encoding: "
     "base64\r\n",
     "YWJj/w0K\r\n"},
    {"text at the start of a line that mailboxes would change",
     "MIME-Version: 1.0\r\nContent-Type: text/plain\r\n", "From me\r\nx From me\r\n" ZWOELF8 "\r\n",
     "MIME-Version: 1.0\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n",
     "=46rom me\r\nx From me\r\nZw=C3=B6lf\r\n"},
    {"one part of two",
     "MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=b\r\nContent-Transfer-Encoding: "
     "8bit\r\n",
     "pre\xe9\r\n--b\r\nContent-Type: text/plain\r\n\r\n7bit = stays\r\n--b \t\r\nContent-Type: text/html\r\n"
     "Content-Transfer-Encoding: 8bit\r\n\r\n" ZWOELF8 "\r\n--b--\r\npost\xe9\r\n",
     "MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=b\r\nContent-Transfer-Encoding: "
     "7bit\r\n",
     "pre?\r\n--b\r\nContent-Type: text/plain\r\n\r\n7bit = stays\r\n--b \t\r\nContent-Type: text/html\r\n"
     "Content-Transfer-Encoding: quoted-printable\r\n\r\nZw=C3=B6lf\r\n--b--\r\npost?\r\n"},
    {"a part without header section",
     "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"b c\"\r\n",
     "--b c\r\n\r\n" ZWOELF8 "\r\n--b c--\r\n",
     "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"b c\"\r\n",
     "--b c\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nZw=C3=B6lf\r\n--b c--\r\n"},
    {"a part in base64 without line end of its own",
     "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n",
     "--b\r\nContent-Type: image/x\r\nContent-Transfer-Encoding: binary\r\n\r\n\xff\xfe\r\n--b--\r\n",
     "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n",
     "--b\r\nContent-Type: image/x\r\nContent-Transfer-Encoding: base64\r\n\r\n//4=\r\n--b--\r\n"},
    {"nested, with a boundary that begins alike",
     "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n",
     "--b\r\nContent-Type: multipart/related; boundary=bb\r\n\r\n--bb\r\n\r\n" ZWOELF8
     "\r\n--bb--\r\n\r\n--b\r\n\r\n7\r\n--b--\r\n",
     "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n",
     "--b\r\nContent-Type: multipart/related; boundary=bb\r\n\r\n--bb\r\nContent-Transfer-Encoding: "
     "quoted-printable\r\n\r\n"
     "Zw=C3=B6lf\r\n--bb--\r\n\r\n--b\r\n\r\n7\r\n--b--\r\n"},
    {"a message within",
     "MIME-Version: 1.0\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n",
     "Subject: inner\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" ZWOELF8 "\r\n",
     "MIME-Version: 1.0\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: 7bit\r\n",
     "Subject: inner\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nZw=C3=B6lf\r\n"},
    {"never closed", "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n",
     "--b\r\n\r\n" ZWOELF8 "\r\n", "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n",
     "--b\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nZw=C3=B6lf\r\n"},
    {"no part at all", "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n", ZWOELF8 "\r\n",
     NULL, NULL},
    {"a boundary that is missing", "MIME-Version: 1.0\r\nContent-Type: multipart/mixed\r\n",
     "--b\r\n\r\n" ZWOELF8 "\r\n", NULL, NULL},
    {"a signed multipart", "MIME-Version: 1.0\r\nContent-Type: multipart/signed; boundary=b\r\n",
     "--b\r\n\r\n" ZWOELF8 "\r\n--b\r\n\r\nsignature\r\n--b--\r\n", NULL, NULL},
    {"a multipart in base64",
     "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n"
     "Content-Transfer-Encoding: base64\r\n",
     "--b\r\n\r\n" ZWOELF8 "\r\n--b--\r\n", NULL, NULL},
    {"what says that it is encoded", "MIME-Version: 1.0\r\nContent-Transfer-Encoding: quoted-printable\r\n",
     ZWOELF8 "\r\n", NULL, NULL},
    {"an encoding nobody knows", "MIME-Version: 1.0\r\nContent-Transfer-Encoding: x-uue\r\n", ZWOELF8 "\r\n",
     NULL, NULL},
    {"two types", "MIME-Version: 1.0\r\nContent-Type: text/plain\r\nContent-Type: text/html\r\n",
     ZWOELF8 "\r\n", NULL, NULL},
    {"a delivery status", "MIME-Version: 1.0\r\nContent-Type: message/delivery-status\r\n", ZWOELF8 "\r\n",
     NULL, NULL},
};

static void eight_bit_leaves_become_seven_bit_and_nothing_else_changes(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        BUF_LOCAL(fields);
        BUF_LOCAL(body);
        bool done = mime_to_7bit(bytes_of(rows[i].fields), bytes_of(rows[i].body), &fields, &body);
        if (done != (rows[i].want_body != NULL))
            fail_msg("%s", rows[i].what);
        assert_string_equal(buf_str(&fields), done ? rows[i].want_fields : "");
        assert_string_equal(buf_str(&body), done ? rows[i].want_body : "");
    }
}

static void what_stays_8bit_within_a_tree_is_said_so(void **state)
{
    static const char fields[] = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=a\r\n"
                                 "Content-Transfer-Encoding: 8bit\r\n";
    static const char body[] = "--a\r\nContent-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\n" ZWOELF8
                               "\r\n--b--\r\n--a\r\n\r\n" ZWOELF8 "\r\n--a--\r\n";
    BUF_LOCAL(new_fields);
    BUF_LOCAL(new_body);
    (void)state;

    assert_true(mime_to_7bit(bytes_of(fields), bytes_of(body), &new_fields, &new_body));
    assert_non_null(strstr(buf_str(&new_fields), "Content-Transfer-Encoding: 8bit\r\n"));
    assert_non_null(strstr(buf_str(&new_body), "--b\r\n\r\n" ZWOELF8 "\r\n--b--\r\n--a\r\n"));
    assert_non_null(strstr(buf_str(&new_body), "quoted-printable\r\n\r\nZw=C3=B6lf\r\n--a--\r\n"));
}

static void a_tree_too_deep_is_left_alone(void **state)
{
    BUF_LOCAL(inner);
    BUF_LOCAL(fields);
    BUF_LOCAL(body);
    (void)state;

    for (int i = 0; i < MIME_DEPTH_MAX + 5; i++)
        buf_puts(&inner, "Content-Type: message/rfc822\r\n\r\n");
    buf_puts(&inner, "\r\n" ZWOELF8 "\r\n");
    assert_false(mime_to_7bit(BYTES("Content-Type: message/rfc822\r\n"), buf_bytes(&inner), &fields, &body));
}

/* ---- the encodings, read back ---- */

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* T24 */
static void a_hundred_thousand_parts_take_linear_time(void **state)
{
    BUF_LOCAL(body);
    BUF_LOCAL(fields_out);
    BUF_LOCAL(body_out);

    (void)state;
    for (unsigned i = 0; i < 100000; i++) /* quadratic code would take minutes here */
        buf_puts(&body, i % 2 ? "--b\r\n\r\n\xc3\xa4\r\n"
                              : "--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n");
    assert_true(mime_to_7bit(BYTES("MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n"),
                             buf_bytes(&body), &fields_out, &body_out));
    assert_true(body_out.len > body.len && body_out.len < 10 * body.len);
}

static void decode_quoted_printable(struct bytes in, struct buf *out)
{
    for (size_t i = 0; i < in.len; i++) {
        if (in.at[i] != '=') {
            buf_putc(out, in.at[i]);
        } else if (in.at[i + 1] == '\r') {
            i += 2;
        } else {
            assert_true(digit(in.at[i + 1]) >= 0 && digit(in.at[i + 2]) >= 0);
            buf_putc(out, (char)(digit(in.at[i + 1]) * 16 + digit(in.at[i + 2])));
            i += 2;
        }
    }
}

static void check_lines(struct bytes text)
{
    while (text.len) {
        size_t line = bytes_find(text, '\n');
        assert_in_range(line, 0, 77);
        assert_true(line == text.len || (line && text.at[line - 1] == '\r'));
        size_t end = line == text.len ? line : line - 1;
        assert_true(end == 0 || (text.at[end - 1] != ' ' && text.at[end - 1] != '\t'));
        for (size_t i = 0; i < end; i++)
            assert_in_range((unsigned char)text.at[i], 9, 126);
        text = bytes_skip(text, line + 1);
    }
}

static void random_text_comes_back_from_quoted_printable(void **state)
{
    static const char *const pieces[] = {
        "a",
        "=",
        " ",
        "\t",
        "\r\n",
        "\xc3\xb6",
        "From ",
        ".",
        "\x01",
        "word and ",
        "012345678901234567890123456789012345678901234567890123456789012345678901234567"};
    (void)state;

    srand(20261122);
    for (unsigned round = 0; round < 3000; round++) {
        BUF_LOCAL(text);
        BUF_LOCAL(encoded);
        BUF_LOCAL(back);
        for (int n = rand() % 60; n > 0; n--)
            buf_puts(&text, pieces[(size_t)rand() % COUNT_OF(pieces)]);
        mime_put_quoted_printable(buf_bytes(&text), &encoded);
        check_lines(buf_bytes(&encoded));
        decode_quoted_printable(buf_bytes(&encoded), &back);
        assert_string_equal(buf_str(&back), buf_str(&text));
    }
}

static void base64_has_lines_of_76(void **state)
{
    BUF_LOCAL(octets);
    BUF_LOCAL(encoded);
    (void)state;

    for (int i = 0; i < 58; i++)
        buf_putc(&octets, (char)i);
    mime_put_base64(buf_bytes(&octets), &encoded);
    assert_int_equal(encoded.len, 76 + 2 + 4);
    assert_int_equal(bytes_find(buf_bytes(&encoded), '\r'), 76);
    buf_clear(&encoded);
    mime_put_base64(bytes_first(buf_bytes(&octets), 57), &encoded);
    assert_int_equal(encoded.len, 76);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(eight_bit_leaves_become_seven_bit_and_nothing_else_changes),
        cmocka_unit_test(what_stays_8bit_within_a_tree_is_said_so),
        cmocka_unit_test(a_tree_too_deep_is_left_alone),
        cmocka_unit_test(a_hundred_thousand_parts_take_linear_time),
        cmocka_unit_test(random_text_comes_back_from_quoted_printable),
        cmocka_unit_test(base64_has_lines_of_76),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
