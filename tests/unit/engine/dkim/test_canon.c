#include "engine/dkim/canon.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static void gather(void *arg, struct bytes run)
{
    buf_put(arg, run);
}

static void canon_in_two(struct bytes body, size_t cut, struct buf *out)
{
    struct dkim_canon_body c = {0};

    dkim_canon_body_put(&c, bytes_first(body, cut), gather, out);
    dkim_canon_body_put(&c, bytes_skip(body, cut), gather, out);
    dkim_canon_body_end(&c, gather, out);
}

/* ---- bodies ---- */

static const struct {
    const char *body, *want;
} bodies[] = {
    {" C \r\nD \t E\r\n\r\n\r\n", " C\r\nD E\r\n"}, /* RFC 6376 §3.4.5 */
    {"", ""},
    {"\r\n", ""},
    {"\r\n\r\n\r\n", ""},
    {" \t\r\n\t\r\n \r\n", ""},
    {"   ", ""},
    {"x", "x\r\n"},
    {"x\r\n", "x\r\n"},
    {"x \t", "x\r\n"},
    {"x\r\n\r\n", "x\r\n"},
    {"x\r\n \r\n\t \r\n", "x\r\n"},
    {"\r\n\r\nx\r\n", "\r\n\r\nx\r\n"},
    {" \r\n x\r\n", "\r\n x\r\n"},
    {"\t\tx  y\tz\r\n", " x y z\r\n"},
    {"a\r\n\r\n\r\nb\r\n", "a\r\n\r\n\r\nb\r\n"},
    {"a \r\n b \r\n", "a\r\n b\r\n"},
    {"\xe6\x97\xa9\xe9\xa6\xac  \xe9\r\n", "\xe6\x97\xa9\xe9\xa6\xac \xe9\r\n"},
    {"a\rb\r\n", "a\rb\r\n"}, /* a CR that stands alone is an octet like others */
    {"a\r", "a\r\r\n"},
    {"a\nb", "a\nb\r\n"},
    {"a \r\rb", "a \r\rb\r\n"},
    {"\x01\x02 \x7f\r\n", "\x01\x02 \x7f\r\n"},
    {".\r\n..\r\n", ".\r\n..\r\n"},
};

static void every_body_has_one_form_however_it_is_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(bodies); i++) {
        for (size_t cut = 0; cut <= strlen(bodies[i].body); cut++) {
            BUF_LOCAL(out);
            canon_in_two(bytes_of(bodies[i].body), cut, &out);
            assert_string_equal(buf_str(&out), bodies[i].want);
        }
    }
}

/* §3.4.4 word by word, on the whole text. */
static void plain_model(struct bytes body, struct buf *out)
{
    BUF_LOCAL(text);

    for (size_t i = 0; i < body.len; i++) {
        bool blank = body.at[i] == ' ' || body.at[i] == '\t';
        bool crlf = body.at[i] == '\r' && i + 1 < body.len && body.at[i + 1] == '\n';
        if (crlf && text.len && text.at[text.len - 1] == ' ')
            text.len--;
        if (!blank)
            buf_putc(&text, body.at[i]);
        else if (!text.len || text.at[text.len - 1] != ' ')
            buf_putc(&text, ' ');
    }
    if (text.len && text.at[text.len - 1] == ' ')
        text.len--;
    while (text.len >= 2 && memcmp(text.at + text.len - 2, "\r\n", 2) == 0)
        text.len -= 2;
    if (text.len)
        buf_puts(&text, "\r\n");
    buf_put(out, buf_bytes(&text));
}

static void random_bodies_agree_with_the_words_of_the_standard(void **state)
{
    static const char *const pieces[] = {" ",    "\t", "\r\n", "\r\n\r\n", "x",  "word",
                                         "\xe9", ".",  "  ",   "\r\n ",    "a b"};
    (void)state;

    srand(20261122);
    for (unsigned round = 0; round < 3000; round++) {
        BUF_LOCAL(body);
        BUF_LOCAL(want);
        BUF_LOCAL(got);
        struct dkim_canon_body c = {0};
        for (int n = rand() % 30; n > 0; n--)
            buf_puts(&body, pieces[(size_t)rand() % COUNT_OF(pieces)]);
        plain_model(buf_bytes(&body), &want);
        for (struct bytes rest = buf_bytes(&body); rest.len;) {
            size_t n = (size_t)rand() % 7 + 1; /* the last one may be longer than what is left */
            dkim_canon_body_put(&c, bytes_first(rest, n), gather, &got);
            rest = bytes_skip(rest, n);
        }
        dkim_canon_body_end(&c, gather, &got);
        assert_string_equal(buf_str(&got), buf_str(&want));
    }
}

static void a_long_run_of_blank_lines_counts_only_before_text(void **state)
{
    BUF_LOCAL(body);
    BUF_LOCAL(got);
    (void)state;

    for (int i = 0; i < 1000; i++)
        buf_puts(&body, " \r\n");
    canon_in_two(buf_bytes(&body), 500, &got);
    assert_int_equal(got.len, 0);
    buf_puts(&body, "x");
    canon_in_two(buf_bytes(&body), 500, &got);
    assert_int_equal(got.len, 2003);
}

/* ---- fields ---- */

static const struct {
    const char *field, *want;
} fields[] = {
    {"A: X\r\n", "a:X"}, /* RFC 6376 §3.4.5 */
    {"B : Y\t\r\n\tZ  \r\n", "b:Y Z"},
    {"Subject:\r\n test\r\n", "subject:test"},
    {"Subject:\r\n\ttest\r\n  more\r\n", "subject:test more"},
    {"Subject:test", "subject:test"},
    {"Cc:\r\n", "cc:"},
    {"Cc: \t \r\n", "cc:"},
    {"Cc:\r\n \r\n\t\r\n", "cc:"},
    {"X-A\t :  a  b\t\tc \r\n", "x-a:a b c"},
    {"X: a\r\n\r\n", "x:a"},
    {"X: a:b : c\r\n", "x:a:b : c"},
    {"X: \xe9\xa6\xac  \xe9\r\n", "x:\xe9\xa6\xac \xe9"},
};

static void fields_take_the_relaxed_form(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(fields); i++) {
        BUF_LOCAL(out);
        dkim_canon_field(bytes_of(fields[i].field), false, &out);
        assert_string_equal(buf_str(&out), fields[i].want);
        buf_clear(&out);
        dkim_canon_field(bytes_of(fields[i].field), true, &out);
        assert_int_equal(out.len, strlen(fields[i].want) + 2);
    }
}

static void fields_are_cut_with_their_continuation_lines(void **state)
{
    static const char text[] = "A: 1\r\n 2\r\n\t3\r\nB:\r\n 4\r\nC: 5\r\n\r\nD: not a field\r\n";
    static const size_t lengths[] = {14, 8, 6};
    struct bytes rest = bytes_of(text), field;
    size_t count = 0;
    (void)state;

    while (dkim_field_next(&rest, &field)) {
        assert_true(count < COUNT_OF(lengths));
        assert_int_equal(field.len, lengths[count++]);
    }
    assert_int_equal(count, 3);
    assert_int_equal(rest.len, strlen("\r\nD: not a field\r\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_body_has_one_form_however_it_is_split),
        cmocka_unit_test(random_bodies_agree_with_the_words_of_the_standard),
        cmocka_unit_test(a_long_run_of_blank_lines_counts_only_before_text),
        cmocka_unit_test(fields_take_the_relaxed_form),
        cmocka_unit_test(fields_are_cut_with_their_continuation_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
