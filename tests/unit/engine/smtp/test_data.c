#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/smtp/data.h"

struct result {
    struct buf content;
    size_t used;
    struct data_decoder decoder;
};

static void collect(void *arg, struct bytes run)
{
    buf_put(arg, run);
}

/* Decodes `wire` in three pieces, and stops at the end as a session does. */
static void decode(struct result *r, bool dots, struct bytes wire, size_t cut, size_t second_cut)
{
    size_t ends[] = {cut, second_cut, wire.len};
    size_t from = 0;

    buf_clear(&r->content);
    r->used = 0;
    data_decoder_init(&r->decoder, dots);
    for (size_t i = 0; i < COUNT_OF(ends) && r->decoder.at != DATA_AT_END; from = ends[i++])
        r->used += data_decode(&r->decoder, bytes_make(wire.at + from, ends[i] - from), collect, &r->content);
    if (!dots)
        data_decode_last(&r->decoder, collect, &r->content);
}

static const struct {
    const char *wire, *content;
    size_t used; /* 0: all; the end did not come */
    bool bare;
} dotted[] = {
    {".\r\n", "", 3, false},
    {"a\r\n.\r\nMAIL", "a\r\n", 6, false},
    {"\r\n.\r\n", "\r\n", 5, false},
    {"..\r\n.\r\n", ".\r\n", 7, false},
    {"...a\r\n..b\r\n.\r\n", "..a\r\n.b\r\n", 14, false},
    {".a\r\n.\r\n", "a\r\n", 7, false}, /* §4.5.2: the first dot of a longer line goes */
    {"a.\r\n.b.\r\n.\r\n", "a.\r\nb.\r\n", 12, false},
    {"a\r\n\r\n\r\n.\r\n", "a\r\n\r\n\r\n", 10, false},
    {"a\r\n.", "a\r\n", 0, false},
    {"a\r\n.\r", "a\r\n", 0, false},
    {"a\r", "a", 0, false},
    {"a", "a", 0, false},
    /* Whatever a bare newline stands in is content, and the end is still to come. */
    {"a\n.\nb\r\n.\r\n", "a\r\n.\r\nb\r\n", 10, true},
    {"a\n.\r\nb\r\n.\r\n", "a\r\n.\r\nb\r\n", 11, true},
    {"a\r\n.\nb\r\n.\r\n", "a\r\n\r\nb\r\n", 11, true},
    {"a\r.\rb\r\n.\r\n", "a\r\n.\r\nb\r\n", 10, true},
    {"a\r\n.\rb\r\n.\r\n", "a\r\n\r\nb\r\n", 11, true},
    {"a\r.\r\nb\r\n.\r\n", "a\r\n.\r\nb\r\n", 11, true},
    {"a\r\r\n.\r\n", "a\r\n\r\n", 7, true},
    {"a\r\n.\r\r\n.\r\n", "a\r\n\r\n\r\n", 10, true},
    {"a\n..\n.\r\n.\r\n", "a\r\n..\r\n.\r\n", 11, true},
    {"a\r\n..\nb\r\n.\r\n", "a\r\n.\r\nb\r\n", 12, true},
    {"\n.\r\n\r\n.\r\n", "\r\n.\r\n\r\n", 9, true},
    {"\r\n\n.\r\nb\r\n.\r\n", "\r\n\r\n.\r\nb\r\n", 12, true},
};

static void dotted_content_decodes_the_same_however_it_is_split(void **state)
{
    struct result r = {0};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(dotted); i++) {
        struct bytes wire = bytes_of(dotted[i].wire);
        for (size_t cut = 0; cut <= wire.len; cut++) {
            for (size_t second = cut; second <= wire.len; second++) {
                decode(&r, true, wire, cut, second);
                assert_string_equal(buf_str(&r.content), dotted[i].content);
                assert_int_equal(r.decoder.bare_newline, dotted[i].bare);
                assert_int_equal(r.decoder.at == DATA_AT_END, dotted[i].used != 0);
                assert_int_equal(r.used, dotted[i].used ? dotted[i].used : wire.len);
            }
        }
    }
    buf_fini(&r.content);
}

static const struct {
    const char *wire, *content;
    bool bare;
} chunked[] = {
    {"", "", false},
    {"a\r\n", "a\r\n", false},
    {"a", "a\r\n", false}, /* the last line gets its end */
    {"a\r\n.\r\nb\r\n", "a\r\n.\r\nb\r\n", false},
    {"..a\r\n", "..a\r\n", false},
    {"a\nb\r\n", "a\r\nb\r\n", true},
    {"a\rb\r\n", "a\r\nb\r\n", true},
    {"a\r", "a\r\n", true},
    {"a\n", "a\r\n", true},
    {"\n", "\r\n", true},
    {"a\r\r\n", "a\r\n\r\n", true},
};

static void chunks_decode_the_same_however_they_are_split(void **state)
{
    struct result r = {0};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(chunked); i++) {
        struct bytes wire = bytes_of(chunked[i].wire);
        for (size_t cut = 0; cut <= wire.len; cut++) {
            decode(&r, false, wire, cut, wire.len);
            assert_int_equal(r.decoder.bare_newline, chunked[i].bare);
            assert_string_equal(buf_str(&r.content), chunked[i].content);
        }
    }
    buf_fini(&r.content);
}

static void an_octet_0_is_seen_in_content_and_not_behind_it(void **state)
{
    struct result r = {0};

    (void)state;
    decode(&r, true, BYTES("a\0b\r\n.\r\n"), 1, 2);
    assert_true(r.decoder.nul);
    decode(&r, true, BYTES("ab\r\n.\r\n\0"), 0, 0);
    assert_false(r.decoder.nul);
    decode(&r, false, BYTES("ab\r\n\0"), 0, 0);
    assert_true(r.decoder.nul);
    buf_fini(&r.content);
}

/* Octet by octet never meets the blocks that long runs are looked at in. */
static void decode_by_octets(struct result *r, bool dots, struct bytes wire)
{
    buf_clear(&r->content);
    r->used = 0;
    data_decoder_init(&r->decoder, dots);
    while (r->used < wire.len && r->decoder.at != DATA_AT_END)
        r->used += data_decode(&r->decoder, bytes_make(wire.at + r->used, 1), collect, &r->content);
    if (!dots)
        data_decode_last(&r->decoder, collect, &r->content);
}

/* Mostly lines with good ends, of all lengths around a block; one octet in `odd` is something else. */
static void make_wire(struct buf *wire, uint32_t *seed, unsigned odd)
{
    static const char others[] = {'\r', '\n', '.', '\0', '\r', '\n', '.'};

    buf_clear(wire);
    while (wire->len < 700) {
        *seed = *seed * 1664525U + 1013904223U;
        for (unsigned n = *seed >> 25; n; n--)
            buf_putc(wire, 'x');
        *seed = *seed * 1664525U + 1013904223U;
        if ((*seed >> 16) % odd == 0)
            buf_putc(wire, others[(*seed >> 8) % COUNT_OF(others)]);
        else
            buf_puts(wire, "\r\n");
    }
    buf_puts(wire, "\r\n.\r\nMAIL");
}

static void long_runs_decode_as_octet_by_octet(void **state)
{
    struct result whole = {0}, single = {0};
    struct buf wire = {0};
    uint32_t seed = 7;

    (void)state;
    for (unsigned round = 0; round < 4000; round++) {
        bool dots = round % 4 != 0;
        make_wire(&wire, &seed, 2 + round % 60);
        size_t cut = round % wire.len;
        decode(&whole, dots, buf_bytes(&wire), cut, cut + (wire.len - cut) / 3);
        decode_by_octets(&single, dots, buf_bytes(&wire));
        assert_int_equal(whole.used, single.used);
        assert_int_equal(whole.decoder.at, single.decoder.at);
        assert_int_equal(whole.decoder.bare_newline, single.decoder.bare_newline);
        assert_int_equal(whole.decoder.nul, single.decoder.nul);
        assert_true(bytes_eq(buf_bytes(&whole.content), buf_bytes(&single.content)));
    }
    buf_fini(&wire);
    buf_fini(&whole.content);
    buf_fini(&single.content);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dotted_content_decodes_the_same_however_it_is_split),
        cmocka_unit_test(long_runs_decode_as_octet_by_octet),
        cmocka_unit_test(chunks_decode_the_same_however_they_are_split),
        cmocka_unit_test(an_octet_0_is_seen_in_content_and_not_behind_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
