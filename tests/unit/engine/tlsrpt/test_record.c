#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "engine/tlsrpt/record.h"

/* A copy of exactly that size: a reader past its end is caught by the sanitizer. */
static struct bytes exact(const void *at, size_t len)
{
    void *copy = malloc(len ? len : 1);

    memcpy(copy, at, len);
    return bytes_make(copy, len);
}

static void drop(struct bytes b)
{
    free((void *)(uintptr_t)b.at);
}

/* "https://a b@c": the URIs with blanks between; "-" when the record is broken. */
static void parsed(struct bytes text, struct buf *out)
{
    struct arena arena = {0};
    struct tlsrpt_record r;

    if (!tlsrpt_record_parse_text(text, &arena, &r))
        buf_puts(out, "-");
    else
        for (size_t i = 0; i < r.count; i++)
            buf_putf(out, "%s%s", i ? " " : "", r.rua[i].to);
    arena_fini(&arena);
}

static void a_record_is_read_by_its_grammar(void **state)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"v=TLSRPTv1;rua=mailto:reports@example.com", "reports@example.com"}, /* the examples of §3.1 */
        {"v=TLSRPTv1; rua=https://reporting.example.com/v1/tlsrpt",
         "https://reporting.example.com/v1/tlsrpt"},
        {"v=TLSRPTv1; rua=mailto:a@b.test,https://c.test/x", "a@b.test https://c.test/x"},
        {"v=TLSRPTv1; rua=mailto:a@b.test , https://c.test/x ;", "a@b.test https://c.test/x"},
        {"v=TLSRPTv1 ; x=y; rua=mailto:a@b.test;", "a@b.test"}, /* the fields may stand in any order */
        {"v=TLSRPTv1;\trua=mailto:a@b.test;;", "a@b.test"},
        {"v=TLSRPTv1; rua=mailto:a@b.test; rua=mailto:c@d.test", "a@b.test c@d.test"},
        {"v=TLSRPTv1; rua=mailto:a%2Cb%21%3B@b.test",
         "-"}, /* decoded: ',' '!' ';' are in no address of ours */
        {"v=TLSRPTv1; rua=mailto:a%2Bb@b.test", "a+b@b.test"},
        {"v=TLSRPTv1; rua=mailto:a!b@c.test,mailto:d@e.test!10m", "d@e.test"},
        {"v=TLSRPTv1; rua=MAILTO:a@b.test?subject=x", "a@b.test"},
        {"v=TLSRPTv1; rua=HTTPS://a.test/%2C?x=1%3B2", "HTTPS://a.test/%2C?x=1%3B2"},
        {"v=TLSRPTv1; rua=http://a.test/,ftp://b.test,mailto:a@b.test", "a@b.test"},
        {"v=TLSRPTv1; rua=http://a.test/", "-"},
        {"v=TLSRPTv1; rua=https://", "-"},
        {"v=TLSRPTv1; rua=https:///x", "-"},
        {"v=TLSRPTv1; rua=https://a.test/a b", "-"},
        {"v=TLSRPTv1; rua=mailto:", "-"},
        {"v=TLSRPTv1; rua=mailto:a", "-"},
        {"v=TLSRPTv1; rua=mailto:@b.test", "-"},
        {"v=TLSRPTv1; rua=mailto:a@b@c.test", "-"},
        {"v=TLSRPTv1; rua=mailto:a%00b@c.test", "-"},
        {"v=TLSRPTv1; rua=mailto:a%0d%0aBcc:%20x@c.test", "-"},
        {"v=TLSRPTv1; rua=mailto:a%4", "-"},
        {"v=TLSRPTv1; rua=mailto:a%zz@c.test", "-"},
        {"v=TLSRPTv1; rua=mailto:a@b..test", "-"},
        {"v=TLSRPTv1; rua=", "-"},
        {"v=TLSRPTv1;", "-"},
        {"v=TLSRPTv1", "-"},
        {"v=TLSRPTv1; =x; rua=mailto:a@b.test", "-"},
        {"v=TLSRPTv1; nothing; rua=mailto:a@b.test", "-"},
        {"v=TLSRPTv10; rua=mailto:a@b.test", "-"},
        {"v=tlsrptv1; rua=mailto:a@b.test", "-"},
        {" v=TLSRPTv1; rua=mailto:a@b.test", "-"},
        {"", "-"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct bytes text = exact(cases[i].text, strlen(cases[i].text));
        BUF_LOCAL(got);
        parsed(text, &got);
        assert_string_equal(buf_str(&got), cases[i].want);
        drop(text);
    }
}

static void a_record_has_at_most_so_many_uris_of_such_a_length(void **state)
{
    struct arena arena = {0};
    struct tlsrpt_record r;
    BUF_LOCAL(text);

    (void)state;
    buf_puts(&text, "v=TLSRPTv1; rua=https://a.test/");
    for (int i = 0; i < TLSRPT_URI_BYTES; i++)
        buf_putc(&text, 'x');
    for (int i = 0; i < TLSRPT_RUA_MAX + 5; i++)
        buf_putf(&text, ",mailto:a%d@b.test", i);
    assert_true(tlsrpt_record_parse_text(buf_bytes(&text), &arena, &r));
    assert_int_equal(r.count, TLSRPT_RUA_MAX);
    assert_string_equal(r.rua[0].to, "a0@b.test");
    arena_fini(&arena);
}

/* Rdata of one record: the text in strings of `piece` octets. */
static struct bytes rdata_of(const char *text, size_t piece)
{
    BUF_LOCAL(out);

    for (struct bytes rest = bytes_of(text); rest.len; rest = bytes_skip(rest, piece)) {
        struct bytes one = bytes_first(rest, piece);
        buf_putc(&out, (char)one.len);
        buf_put(&out, one);
    }
    return exact(out.at, out.len);
}

static void exactly_one_record_counts_however_it_is_cut_into_strings(void **state)
{
    static const char good[] = "v=TLSRPTv1; rua=mailto:a@b.test", other[] = "v=spf1 -all";
    struct arena arena = {0};
    struct tlsrpt_record r;

    (void)state;
    for (size_t piece = 1; piece <= sizeof(good); piece++) {
        struct bytes set[] = {rdata_of(other, 100), rdata_of(good, piece), rdata_of(good, 255)};
        assert_int_equal(tlsrpt_record_parse(set, 1, &arena, &r), TLSRPT_RECORD_NONE);
        assert_int_equal(tlsrpt_record_parse(set, 2, &arena, &r), TLSRPT_RECORD_FOUND);
        assert_string_equal(r.rua[0].to, "a@b.test");
        assert_int_equal(tlsrpt_record_parse(set, 3, &arena, &r), TLSRPT_RECORD_SEVERAL);
        for (size_t i = 0; i < COUNT_OF(set); i++)
            drop(set[i]);
    }
    assert_int_equal(tlsrpt_record_parse(NULL, 0, &arena, &r), TLSRPT_RECORD_NONE);
    arena_fini(&arena);
}

static void rdata_that_is_cut_off_or_broken_is_no_record(void **state)
{
    struct arena arena = {0};
    struct tlsrpt_record r;
    struct bytes whole = rdata_of("v=TLSRPTv1; rua=mailto:a@b.test", 10);
    struct bytes broken = rdata_of("v=TLSRPTv1; rua=x:y", 255);

    (void)state;
    for (size_t len = 0; len < whole.len; len++) {
        struct bytes cut = exact(whole.at, len);
        assert_int_not_equal(tlsrpt_record_parse(&cut, 1, &arena, &r), TLSRPT_RECORD_SEVERAL);
        drop(cut);
    }
    assert_int_equal(tlsrpt_record_parse(&broken, 1, &arena, &r), TLSRPT_RECORD_BROKEN);
    drop(whole);
    drop(broken);
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_is_read_by_its_grammar),
        cmocka_unit_test(a_record_has_at_most_so_many_uris_of_such_a_length),
        cmocka_unit_test(exactly_one_record_counts_however_it_is_cut_into_strings),
        cmocka_unit_test(rdata_that_is_cut_off_or_broken_is_no_record),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
