#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/mem.h"
#include "engine/dns/packet.h"
#include "scripted.h"

#define ID 0x1234

static struct dns_question question_of(const char *name, const char *type)
{
    struct dns_question q = {.id = ID, .type = scripted_type(type)};

    assert_true(dns_name_parse(bytes_of(name), &q.name));
    return q;
}

static void a_query_has_its_flags_and_says_how_much_it_can_take(void **state)
{
    static const char plain[] = "\x12\x34\x01\x20\0\1\0\0\0\0\0\0\1x\4test\0\0\x0f\0\1";
    static const char edns[] =
        "\x12\x34\x01\x20\0\1\0\0\0\0\0\1\1x\4test\0\0\x0f\0\1\0\0\x29\x04\xd0\0\0\0\0\0\0";
    struct dns_question q = question_of("X.test", "MX");
    BUF_LOCAL(out);

    assert_int_equal(dns_packet_build(&q, false, &out), OK);
    assert_true(bytes_eq(buf_bytes(&out), BYTES(plain)));
    buf_clear(&out);
    assert_int_equal(dns_packet_build(&q, true, &out), OK);
    assert_true(bytes_eq(buf_bytes(&out), BYTES(edns)));
}

/* "answer ok hops=1 end.test ttl=60 #2 0102 0304", "rcode 2", "bad" … */
static const char *reading_text(struct bytes packet, const struct dns_question *q, struct buf *out)
{
    struct dns_answer *a = NULL;
    unsigned rcode = 0;

    buf_clear(out);
    switch (dns_packet_read(packet, q, &a, &rcode)) {
    case DNS_READING_OTHER: buf_puts(out, "other"); break;
    case DNS_READING_BAD: buf_puts(out, "bad"); break;
    case DNS_READING_TRUNCATED: buf_puts(out, "truncated"); break;
    case DNS_READING_RCODE: buf_putf(out, "rcode %u", rcode); break;
    case DNS_READING_LAME: buf_puts(out, "lame"); break;
    case DNS_READING_ANSWER:
        buf_putf(out, "%s%s%s hops=%u %s ttl=%u #%zu", dns_status_name(a->status), a->secure ? " secure" : "",
                 a->unfinished ? " unfinished" : "", a->hops, a->name, a->ttl_s, a->count);
        for (size_t i = 0; i < a->count && i < 4; i++) {
            buf_putc(out, ' ');
            for (size_t k = 0; k < a->records[i].len; k++)
                buf_putf(out, "%02x", (uint8_t)a->records[i].at[k]);
        }
        dns_answer_unref(a);
        break;
    }
    return buf_str(out);
}

static const struct {
    const char *name, *type, *does, *records, *want;
} answers[] = {
    {"x.test", "A", "", "x.test 300 A 192.0.2.1; x.test 60 A 192.0.2.2",
     "ok hops=0 x.test ttl=60 #2 c0000201 c0000202"},
    {"x.test", "A", "ad", "X.TEST 300 A 192.0.2.1", "ok secure hops=0 x.test ttl=300 #1 c0000201"},
    {"x.test", "MX", "", "x.test 300 MX 10 a.x.test",
     "ok hops=0 x.test ttl=300 #1 000a0161017804746573740"
     "0"},
    {"x.test", "MX", "", "x.test 300 MX 10 x.test", "ok hops=0 x.test ttl=300 #1 000a0178047465737400"},
    {"x.test", "A", "", "x.test 300 CNAME y.test; y.test 20 A 192.0.2.1",
     "ok hops=1 y.test ttl=20 #1 c0000201"},
    {"x.test", "A", "", "y.test 20 A 192.0.2.1; x.test 5 CNAME y.test", "ok hops=1 y.test ttl=5 #1 c0000201"},
    {"x.test", "A", "", "x.test 300 CNAME y.test", "ok unfinished hops=1 y.test ttl=300 #0"},
    {"x.test", "A", "", "x.test 300 CNAME y.test; !test 9 SOA a.test b.test 60",
     "nodata hops=1 y.test ttl=9 #0"},
    {"x.test", "A", "", "x.test 300 CNAME y.test; !other 9 SOA a.test b.test 60",
     "ok unfinished hops=1 y.test ttl=300 #0"},
    {"x.test", "CNAME", "", "x.test 300 CNAME y.test", "ok hops=0 x.test ttl=300 #1 0179047465737400"},
    {"x.test", "A", "", "x.test 300 CNAME x.test", "cname-loop hops=17 x.test ttl=300 #0"},
    {"x.test", "A", "", "x.test 300 CNAME a\\032b.test", "bad-name hops=0  ttl=300 #0"},
    {"x.test", "A", "", "evil.test 300 A 192.0.2.66", "nodata hops=0 x.test ttl=5 #0"},
    {"x.test", "A", "", NULL, "nodata hops=0 x.test ttl=5 #0"},
    {"x.test", "A", "nora", "!test 300 NS a.test", "lame"},
    {"x.test", "A", "nora aa", "!test 300 NS a.test", "nodata hops=0 x.test ttl=5 #0"},
    {"x.test", "A", "", "!test 300 NS a.test", "nodata hops=0 x.test ttl=5 #0"},
    {"x.test", "A", "", "!test 300 SOA a.test b.test 60", "nodata hops=0 x.test ttl=60 #0"},
    {"x.test", "A", "", "!test 30 SOA a.test b.test 60", "nodata hops=0 x.test ttl=30 #0"},
    {"x.test", "A", "", "!test 30 SOA a.test b.test 4294967295", "nodata hops=0 x.test ttl=0 #0"},
    {"x.test", "A", "nxdomain", "!test 30 SOA a.test b.test 60", "nxdomain hops=0 x.test ttl=30 #0"},
    {"x.test", "A", "nxdomain ad", "!test 30 SOA a.test b.test 60",
     "nxdomain secure hops=0 x.test ttl=30 #0"},
    {"x.test", "A", "nxdomain", NULL, "nxdomain hops=0 x.test ttl=5 #0"},
    {"x.test", "A", "nxdomain", "x.test 300 CNAME y.test; !test 30 SOA a.test b.test 60",
     "nxdomain hops=1 y.test ttl=30 #0"},
    {"x.test", "A", "", "x.test 2147483648 A 192.0.2.1", "ok hops=0 x.test ttl=0 #1 c0000201"},
    {"x.test", "A", "", "x.test 2147483647 A 192.0.2.1", "ok hops=0 x.test ttl=2147483647 #1 c0000201"},
    {"x.test", "A", "", "x.test 300 TYPE1 c00002", "bad"},
    {"x.test", "AAAA", "", "x.test 300 TYPE28 c0000201", "bad"},
    {"x.test", "MX", "", "x.test 300 TYPE15 00", "bad"},
    {"x.test", "MX", "", "x.test 300 TYPE15 000a0161", "bad"},
    {"x.test", "MX", "", "x.test 300 TYPE15 000a0000", "bad"},
    {"x.test", "MX", "", "x.test 300 TYPE15 000ac026", "bad"},
    {"x.test", "MX", "", "x.test 300 A 192.0.2.1; x.test 300 TYPE15 000ac0ff", "bad"},
    {"x.test", "A", "loop", "y.test 300 A 192.0.2.1", "bad"},
    {"x.test", "A", "", "!test 30 TYPE6 00", "bad"},
    {"x.test", "TLSA", "", "x.test 300 TLSA 03", "ok hops=0 x.test ttl=300 #1 03"},
    {"x.test", "A", "servfail", NULL, "rcode 2"},
    {"x.test", "A", "formerr bare", NULL, "rcode 1"},
    {"x.test", "A", "refused", "x.test 300 A 192.0.2.1", "rcode 5"},
    {"x.test", "A", "bare", NULL, "other"},
    {"x.test", "A", "nxdomain bare", NULL, "other"},
    {"x.test", "A", "tc", NULL, "truncated"},
};

static void every_answer_is_read_as_its_row_says(void **state)
{
    for (size_t i = 0; i < COUNT_OF(answers); i++) {
        struct dns_question q = question_of(answers[i].name, answers[i].type);
        BUF_LOCAL(packet);
        BUF_LOCAL(text);
        scripted_packet(&packet, ID, answers[i].name, answers[i].type, answers[i].does, answers[i].records);
        const char *got = reading_text(buf_bytes(&packet), &q, &text);
        if (strcmp(got, answers[i].want) != 0)
            fail_msg("row %zu: %s, not %s", i, got, answers[i].want);
    }
}

static void what_is_not_for_us_is_not_read(void **state)
{
    struct dns_question asked = question_of("x.test", "A"),
                        others[] = {question_of("y.test", "A"), question_of("x.test", "AAAA"),
                                    question_of("x.test", "A"), question_of("x.test.x", "A")};
    BUF_LOCAL(packet);
    BUF_LOCAL(text);

    others[2].id++;
    scripted_packet(&packet, ID, "x.test", "A", "", "x.test 300 A 192.0.2.1");
    for (size_t i = 0; i < COUNT_OF(others); i++)
        assert_string_equal(reading_text(buf_bytes(&packet), &others[i], &text), "other");
    static const struct {
        size_t at;
        char flip;
    } flips[] = {{2, (char)0x80} /* QR */,
                 {2, 0x08} /* opcode */,
                 {2, 0x40},
                 {5, 3} /* two questions */,
                 {23, 2} /* class */};
    for (size_t i = 0; i < COUNT_OF(flips); i++) {
        packet.at[flips[i].at] ^= flips[i].flip;
        assert_string_equal(reading_text(buf_bytes(&packet), &asked, &text), "other");
        packet.at[flips[i].at] ^= flips[i].flip;
    }
    assert_int_equal(strncmp(reading_text(buf_bytes(&packet), &asked, &text), "ok", 2), 0);
}

/* A copy on the heap that ends where the packet ends: a sanitizer sees every step too far. */
static const char *read_exact(struct bytes packet, const struct dns_question *q, struct buf *text)
{
    char *copy = mem_alloc(packet.len ? packet.len : 1);

    memcpy(copy, packet.at, packet.len);
    reading_text(bytes_make(copy, packet.len), q, text);
    mem_free(copy);
    return buf_str(text);
}

static void a_packet_cut_anywhere_is_never_an_answer(void **state)
{
    for (size_t i = 0; i < COUNT_OF(answers); i++) {
        struct dns_question q = question_of(answers[i].name, answers[i].type);
        BUF_LOCAL(packet);
        BUF_LOCAL(text);
        scripted_packet(&packet, ID, answers[i].name, answers[i].type, answers[i].does, answers[i].records);
        if (!answers[i].records)
            continue;
        for (size_t cut = 0; cut < packet.len; cut++) {
            const char *got = read_exact(bytes_first(buf_bytes(&packet), cut), &q, &text);
            if (strcmp(got, "other") != 0 && strcmp(got, "bad") != 0 && strncmp(got, "rcode", 5) != 0)
                fail_msg("row %zu cut at %zu: %s", i, cut, got);
        }
    }
}

static void a_packet_with_any_octet_changed_does_no_harm(void **state)
{
    static const char values[] = {0, 1, 3, 12, 63, 64, 127, (char)128, (char)192, (char)193, (char)255};

    for (size_t i = 0; i < COUNT_OF(answers); i++) {
        struct dns_question q = question_of(answers[i].name, answers[i].type);
        BUF_LOCAL(packet);
        BUF_LOCAL(text);
        scripted_packet(&packet, ID, answers[i].name, answers[i].type, answers[i].does, answers[i].records);
        for (size_t at = 0; at < packet.len; at++) {
            char before = packet.at[at];
            for (size_t v = 0; v < COUNT_OF(values); v++) {
                packet.at[at] = values[v];
                read_exact(buf_bytes(&packet), &q, &text);
            }
            packet.at[at] = before;
        }
    }
}

static void an_extended_rcode_counts(void **state)
{
    struct dns_question q = question_of("x.test", "A");
    BUF_LOCAL(packet);
    BUF_LOCAL(text);

    scripted_packet(&packet, ID, "x.test", "A", "", NULL);
    buf_put(&packet, BYTES("\0\0\x29\x04\xd0\1\0\0\0\0\0")); /* BADVERS: 16 */
    packet.at[11] = 1;
    assert_string_equal(reading_text(buf_bytes(&packet), &q, &text), "rcode 16");
}

/* The most names of the longest chains of pointers that fit: work must stay small. */
static void a_packet_full_of_pointers_is_read_in_time(void **state)
{
    struct dns_question q = question_of("x.test", "MX");
    BUF_LOCAL(packet);
    unsigned n = 0;

    scripted_packet(&packet, ID, "x.test", "MX", "", NULL);
    for (unsigned at = 12; packet.len < 65535 - 16; n++) {
        unsigned here = (unsigned)packet.len;
        buf_putc(&packet, (char)(0xc0 | at >> 8));
        buf_putc(&packet, (char)(at & 0xff));
        buf_put(&packet, BYTES("\0\x0f\0\1\0\0\1\0\0\4\0\1"));
        buf_putc(&packet, (char)(0xc0 | at >> 8));
        buf_putc(&packet, (char)(at & 0xff));
        if (here < 0x4000)
            at = here; /* each name is a pointer to the pointer before */
    }
    packet.at[6] = (char)(n >> 8);
    packet.at[7] = (char)(n & 0xff);
    struct dns_answer *a = NULL;
    unsigned rcode;
    assert_int_equal(dns_packet_read(buf_bytes(&packet), &q, &a, &rcode), DNS_READING_ANSWER);
    assert_int_equal(a->count, n);
    assert_true(a->bytes < 1000000);
    dns_answer_unref(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_query_has_its_flags_and_says_how_much_it_can_take),
        cmocka_unit_test(every_answer_is_read_as_its_row_says),
        cmocka_unit_test(what_is_not_for_us_is_not_read),
        cmocka_unit_test(a_packet_cut_anywhere_is_never_an_answer),
        cmocka_unit_test(a_packet_with_any_octet_changed_does_no_harm),
        cmocka_unit_test(an_extended_rcode_counts),
        cmocka_unit_test(a_packet_full_of_pointers_is_read_in_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
