/* TLSA records as values: parsing, usability, digest agility, what they hash and print to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "engine/dane/dane.h"
#include "tests/unit/engine/dane/ca.h"

static void rdata_of_four_octets_is_the_least(void **state)
{
    struct tlsa t = {9, 9, 9, {0}};

    (void)state;
    for (size_t n = 0; n <= 3; n++)
        assert_false(tlsa_parse(bytes_make("\3\1\1\xab", n), &t));
    assert_int_equal(t.usage, 9); /* written on success only */
    assert_true(tlsa_parse(bytes_make("\3\1\2\xab", 4), &t));
    assert_int_equal(t.usage, 3);
    assert_int_equal(t.selector, 1);
    assert_int_equal(t.matching, 2);
    assert_true(bytes_eq(t.data, BYTES("\xab")));
}

static void usable_are_two_usages_two_selectors_and_right_lengths(void **state)
{
    static const char digest[80] = "";

    (void)state;
    for (unsigned usage = 0; usage < 256; usage++)
        for (unsigned selector = 0; selector < 4; selector++)
            for (unsigned matching = 1; matching < 5; matching++)
                for (size_t len = 1; len < sizeof(digest); len++) {
                    struct tlsa t = {(uint8_t)usage, (uint8_t)selector, (uint8_t)matching, {digest, len}};
                    bool want = (usage == 2 || usage == 3) && selector < 2 &&
                                ((matching == 1 && len == 32) || (matching == 2 && len == 64));
                    if (tlsa_is_usable(&t) != want)
                        fail_msg("%u %u %u of %zu octets", usage, selector, matching, len);
                }
}

static void full_data_must_be_a_certificate_or_a_key(void **state)
{
    const struct ca *ca = *state;
    const struct ca_made *m = ca_find(ca, "leaf");
    struct bytes crt = bytes_make(m->der.data, m->der.size), key = bytes_make(m->spki.data, m->spki.size);
    const struct {
        uint8_t selector;
        struct bytes data;
        bool usable;
    } rows[] = {{0, crt, true}, {1, key, true}, {0, key, false}, {1, crt, false}};

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct tlsa t = {3, rows[i].selector, 0, rows[i].data};
        assert_int_equal(tlsa_is_usable(&t), rows[i].usable);
        if (!rows[i].usable)
            continue;
        for (size_t cut = 0; cut < rows[i].data.len; cut++) {
            t.data = bytes_first(rows[i].data, cut);
            assert_false(tlsa_is_usable(&t));
        }
        char *longer = mem_dup(rows[i].data.at, rows[i].data.len); /* and one octet, a NUL, too many */
        t.data = bytes_make(longer, rows[i].data.len + 1);
        assert_false(tlsa_is_usable(&t));
        mem_free(longer);
    }
}

#define A32 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B32 "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define A64 A32 A32

static const struct {
    const char *title;
    struct bytes rdata[4];
    size_t count;
    enum dane_state state;
    const char *kept; /* usage, selector, matching of each that may match */
    const char *text;
} sets[] = {
    {"none", {{0}}, 0, DANE_ABSENT, "", ""},
    {"one", {BYTES("\3\1\1" A32)}, 1, DANE_USABLE, "311", NULL},
    {"the same twice", {BYTES("\3\1\1" A32), BYTES("\3\1\1" A32)}, 2, DANE_USABLE, "311", NULL},
    {"order", {BYTES("\3\1\1" B32), BYTES("\2\0\1" A32)}, 2, DANE_USABLE, "201 311", NULL},
    {"agility", {BYTES("\3\1\1" A32), BYTES("\3\1\2" A64)}, 2, DANE_USABLE, "312", NULL},
    {"agility by selector", {BYTES("\3\1\1" A32), BYTES("\3\0\2" A64)}, 2, DANE_USABLE, "302 311", NULL},
    {"agility by usage", {BYTES("\2\1\1" A32), BYTES("\3\1\2" A64)}, 2, DANE_USABLE, "211 312", NULL},
    {"agility among usable ones", {BYTES("\3\1\1" A32), BYTES("\3\1\2" A32)}, 2, DANE_USABLE, "311", NULL},
    {"mixed", {BYTES("\0\0\1" A32), BYTES("\3\1\1" A32), BYTES("\1\1\1" A32)}, 3, DANE_USABLE, "311", NULL},
    {"unusable", {BYTES("\0\0\1" A32), BYTES("\3\1\1" A64)}, 2, DANE_UNUSABLE, "", NULL},
    {"text", {BYTES("\3\1\7\xab\x01"), BYTES("\1\0\1\xff")}, 2, DANE_UNUSABLE, "", "1 0 1 ff\n3 1 7 ab01"},
    {"malformed", {BYTES("\3\1"), BYTES("")}, 2, DANE_UNUSABLE, "", "\\# 0 \n\\# 2 0301"},
};

static void a_set_has_its_state_and_those_that_count(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(sets); i++) {
        struct dane_records *r = dane_records_make("mx.test", sets[i].rdata, sets[i].count, 77);
        BUF_LOCAL(kept);
        for (size_t k = 0; k < r->count; k++)
            buf_putf(&kept, "%s%u%u%u", k ? " " : "", r->records[k].usage, r->records[k].selector,
                     r->records[k].matching);
        if (r->state != sets[i].state || strcmp(buf_str(&kept), sets[i].kept) != 0)
            fail_msg("%s: %s %s", sets[i].title, dane_state_name(r->state), buf_str(&kept));
        if (sets[i].text)
            assert_string_equal(r->text, sets[i].text);
        assert_int_equal(r->ttl_s, 77);
        assert_string_equal(r->base, sets[i].count ? "mx.test" : "");
        assert_int_equal(r->state == DANE_USABLE, r->why == NULL);
        dane_records_unref(r);
    }
}

static uint64_t hash_of(const char *base, const struct bytes *rdata, size_t count)
{
    struct dane_records *r = dane_records_make(base, rdata, count, 300);
    uint64_t hash = r->hash;

    dane_records_unref(r);
    return hash;
}

static void the_hash_knows_content_and_not_order(void **state)
{
    const struct bytes one[] = {BYTES("\3\1\1" A32), BYTES("\2\0\1" B32)};
    const struct bytes turned[] = {BYTES("\2\0\1" B32), BYTES("\3\1\1" A32), BYTES("\2\0\1" B32)};
    const struct bytes other[] = {BYTES("\3\1\1" A32), BYTES("\2\0\1" A32)};
    uint64_t h = hash_of("mx.test", one, 2);
    struct dane_records *absent = dane_records_without(DANE_ABSENT, 0, "a"),
                        *failed = dane_records_without(DANE_FAILED, 0, "a");

    (void)state;
    assert_true(h == hash_of("mx.test", turned, 3));
    assert_true(h != hash_of("mx.test", other, 2));
    assert_true(h != hash_of("mx.test", one, 1));
    assert_true(h != hash_of("mx2.test", one, 2));
    assert_true(absent->hash != failed->hash);
    dane_records_unref(absent);
    dane_records_unref(failed);
}

static void more_records_than_the_limit_fail_closed(void **state)
{
    struct bytes rdata[DANE_RECORDS_MAX + 1];
    char octets[DANE_RECORDS_MAX + 1][36];

    (void)state;
    for (size_t i = 0; i < COUNT_OF(rdata); i++) {
        snprintf(octets[i], sizeof(octets[i]), "\3\1\1%032zu", i);
        rdata[i] = bytes_make(octets[i], 35);
    }
    struct dane_records *r = dane_records_make("mx.test", rdata, DANE_RECORDS_MAX, 300);
    assert_int_equal(r->state, DANE_USABLE);
    assert_int_equal(r->count, DANE_RECORDS_MAX);
    dane_records_unref(r);
    r = dane_records_make("mx.test", rdata, DANE_RECORDS_MAX + 1, 300);
    assert_int_equal(r->state, DANE_FAILED);
    assert_string_equal(r->base, "");
    dane_records_unref(dane_records_ref(r));
    dane_records_unref(r);
}

static int setup(void **state)
{
    static const struct ca_wish leaf = {"leaf", "leaf", "mx.test", NULL, "", NULL};
    struct ca *ca = mem_alloc(sizeof(*ca));

    ca_start(ca, CA_NOW);
    ca_make(ca, &leaf);
    *state = ca;
    return 0;
}

static int teardown(void **state)
{
    ca_end(*state);
    mem_free(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rdata_of_four_octets_is_the_least),
        cmocka_unit_test(usable_are_two_usages_two_selectors_and_right_lengths),
        cmocka_unit_test(full_data_must_be_a_certificate_or_a_key),
        cmocka_unit_test(a_set_has_its_state_and_those_that_count),
        cmocka_unit_test(the_hash_knows_content_and_not_order),
        cmocka_unit_test(more_records_than_the_limit_fail_closed),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
