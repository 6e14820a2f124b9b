#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/mem.h"
#include "engine/tlsrpt/extract.h"
#include "engine/tlsrpt/gzip.h"
#include "engine/tlsrpt/incoming.h"

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

#define DATES                                                                                                \
    "\"date-range\":{\"start-datetime\":\"2026-11-21T00:00:00Z\",\"end-datetime\":\"2026-11-21T23:59:59Z\"}"
#define HEAD "{\"organization-name\":\"O\",\"contact-info\":\"c@o.test\",\"report-id\":\"i\"," DATES ","
#define STS  "\"policy\":{\"policy-type\":\"sts\",\"policy-domain\":\"a.test\"}"
#define SUMS "\"summary\":{\"total-successful-session-count\":5,\"total-failure-session-count\":2}"
#define FAIL "{\"result-type\":\"certificate-expired\",\"failed-session-count\":2}"
#define GOOD HEAD "\"policies\":[{" STS "," SUMS ",\"failure-details\":[" FAIL "]}]}"

/* "successful failed deviation deviation", or "- why". */
static void parsed(struct bytes json, struct buf *out)
{
    struct arena arena = {0};
    struct tlsrpt_in in;
    const char *why = NULL;

    if (tlsrpt_in_parse(json, &arena, &in, &why) != OK) {
        buf_putf(out, "- %s", why);
    } else {
        buf_putf(out, "%llu %llu", (unsigned long long)in.successful, (unsigned long long)in.failed);
        for (unsigned i = 0; tlsrpt_deviation_name(i); i++)
            if (in.deviations & BIT(i))
                buf_putf(out, " %s", tlsrpt_deviation_name(i));
    }
    arena_fini(&arena);
}

static void known_deviations_are_read_and_named(void **state)
{
    static const struct {
        const char *json, *want;
    } cases[] = {
        {GOOD, "5 2"},
        {"\xef\xbb\xbf" GOOD, "5 2 byte-order-mark"},
        {HEAD "\"policies\":[]}", "0 0"},
        {HEAD "\"policies\":{" STS "," SUMS "}}", "5 2 policies-object"},
        {HEAD "\"policies\":[{\"policy-type\":\"tlsa\",\"policy-domain\":\"a.test\"," SUMS "}]}",
         "5 2 policy-flat"},
        {HEAD "\"policies\":[{\"policy\":{\"policy-type\":\"sts\",\"policy-domain\":\"A.Test\",\"policy-"
              "string\":\"x\","
              "\"mx-host\":\"*.a.test\"}," SUMS "}]}",
         "5 2 string-for-list"},
        {HEAD "\"policies\":[{\"policy\":{\"policy-type\":\"sts\",\"mx-host-pattern\":[\"*.a.test\"]}," SUMS
              "}]}",
         "5 2 mx-host-pattern"},
        {HEAD "\"policies\":[{" STS ",\"summary\":{\"total-successful-session-count\":\"5\","
              "\"total-failure-session-count\":2.0}}]}",
         "5 2 count-as-text"},
        {HEAD "\"policies\":[{" STS ",\"summary\":{\"total-successful-session-count\":-5,"
              "\"total-failure-session-count\":\"many\"}}]}",
         "0 0"},
        {HEAD "\"policies\":[{" STS ",\"failure-details\":[" FAIL "," FAIL "]}]}", "0 4 no-summary"},
        {HEAD "\"policies\":[{" STS "," SUMS ",\"failure-details\":" FAIL "}]}",
         "5 2 failure-details-object"},
        {HEAD "\"policies\":[{" STS "," SUMS ",\"failure-details\":null}]}", "5 2"},
        {HEAD "\"policies\":[{" STS "," SUMS ",\"failure-details\":[{}]}]}", "5 2"},
        {HEAD "\"policies\":[{" STS "," SUMS ",\"failure-details\":[{\"result-type\":\"certificate-expired\","
              "\"failed-session-count\":2,\"failure-error-code\":\"x\"}]}]}",
         "5 2 old-field-name"},
        {HEAD "\"policies\":[{" STS "," SUMS ",\"failure-details\":[" FAIL "," FAIL "]}]}",
         "5 2 sums-differ"},
        {HEAD "\"policies\":[{" STS "," SUMS ",\"failure-details\":[{\"result-type\":\"bad-luck\","
              "\"failed-session-count\":2}]}]}",
         "5 2 unknown-result-type"},
        {HEAD "\"policies\":[{\"policy\":{\"policy-type\":\"magic\"}," SUMS "}]}", "5 2 unknown-policy-type"},
        {HEAD "\"policies\":[{\"policy\":{\"policy-type\":\"no-policy\"}," SUMS "}]}", "5 2"},
        {"{" DATES ",\"policies\":[]}", "0 0 no-organization no-report-id no-contact"},
        {"{\"contact-info\":null," DATES ",\"policies\":[]}", "0 0 no-organization no-report-id no-contact"},
        {HEAD "\"policies\":[{" STS ",\"summary\":{\"total-successful-session-count\":9223372036854775807}},"
              "{" STS ",\"summary\":{\"total-successful-session-count\":9223372036854775807}}]}",
         "9007199254740992 0"}, /* sums stop where JSON's numbers do */
        {"", "- it is no JSON"},
        {"{", "- it is no JSON"},
        {"[]", "- it is no JSON object"},
        {"{}", "- \"date-range\" has no start-datetime and end-datetime"},
        {HEAD "\"policies\":7}", "- it has no list \"policies\""},
        {HEAD "\"policies\":[7]}", "- a policy is no object"},
        {"{\"date-range\":{\"start-datetime\":\"2026-11-22T00:00:00Z\",\"end-datetime\":\"2026-11-21T00:00:"
         "00Z\"},"
         "\"policies\":[]}",
         "- its date-range ends before it begins"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct bytes json = exact(cases[i].json, strlen(cases[i].json));
        BUF_LOCAL(got);
        parsed(json, &got);
        assert_string_equal(buf_str(&got), cases[i].want);
        drop(json);
    }
}

static void every_beginning_of_a_report_is_refused_and_nothing_else_happens(void **state)
{
    (void)state;
    for (size_t len = 0; len < strlen(GOOD); len++) {
        struct bytes json = exact(GOOD, len);
        BUF_LOCAL(got);
        parsed(json, &got);
        assert_int_equal(buf_str(&got)[0], '-');
        drop(json);
    }
}

static void dates_are_read_as_senders_write_them(void **state)
{
    static const struct {
        const char *text;
        int64_t want; /* 0: no date */
        bool odd;
    } cases[] = {
        {"2026-11-21T00:00:00Z", 1795219200, false},
        {"2026-11-21T09:00:00+09:00", 1795219200, false},
        {"2026-11-20T22:00:00-02:00", 1795219200, false},
        {"2026-11-21 00:00:00", 1795219200, true},
        {"2026-11-21T00:00:00", 1795219200, true},
        {"2026-11-21T00:00:00.123Z", 1795219200, true},
        {"2026-11-21T00:00Z", 1795219200, false},
        {"2026-11-21T09:00:00+0900", 1795219200, true},
        {"2026-11-21t00:00:00z", 1795219200, true},
        {"2026-11-21", 1795219200, true},
        {"1795219200", 1795219200, true},
        {"2026-11-21 00:00:00 +00:00", 1795219200, true},
        {"2026-13-21T00:00:00Z", 0, false},
        {"2026-11-21T25:00:00Z", 0, false},
        {"2026-11-21T00:00:00X", 0, false},
        {"21.11.2026", 0, false},
        {"", 0, false},
        {"7", 0, false},
        {"2026-11-21T", 0, false},
        {"2026-11-21T00:00:00+99:00", 0, false},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct bytes text = exact(cases[i].text, strlen(cases[i].text));
        int64_t at = 0;
        bool odd = false;
        assert_int_equal(tlsrpt_time_parse(text, false, &at, &odd), cases[i].want != 0);
        assert_int_equal(cases[i].want ? at : 0, cases[i].want);
        if (cases[i].want)
            assert_int_equal(odd, cases[i].odd);
        drop(text);
    }
    int64_t end;
    bool odd = false;
    assert_true(tlsrpt_time_parse(BYTES("2026-11-21"), true, &end, &odd));
    assert_int_equal(end, 1795219200 + 86399);
}

/* ---- gzip ---- */

static void what_is_packed_is_unpacked_but_never_more_than_asked_for(void **state)
{
    BUF_LOCAL(plain);
    BUF_LOCAL(gz);
    BUF_LOCAL(out);

    (void)state;
    for (int i = 0; i < 100000; i++)
        buf_putf(&plain, "%d ", i * 7 % 9973);
    gzip_pack(buf_bytes(&plain), &gz);
    assert_true(gzip_is(buf_bytes(&gz)));
    assert_int_equal(gzip_unpack(buf_bytes(&gz), plain.len, &out), OK);
    assert_true(bytes_eq(buf_bytes(&out), buf_bytes(&plain)));
    assert_int_equal(gzip_unpack(buf_bytes(&gz), plain.len - 1, &out), ERR_FULL);
    assert_int_equal(out.len, plain.len); /* as it was */
    buf_clear(&out);
    size_t one = gz.len;
    gzip_pack(BYTES("and more"), &gz); /* two members, and then garbage */
    buf_puts(&gz, "garbage");
    assert_int_equal(gzip_unpack(buf_bytes(&gz), plain.len + 8, &out), OK);
    assert_int_equal(out.len, plain.len + 8);
    assert_int_equal(gzip_unpack(buf_bytes(&gz), plain.len + 7, &out), ERR_FULL);
    for (size_t len = 0; len < one; len += len < 100 || len > one - 100 ? 1 : 97) {
        struct bytes cut = exact(gz.at, len);
        assert_int_equal(gzip_unpack(cut, plain.len, &out), ERR_INVALID);
        drop(cut);
    }
    gz.at[one / 2] ^= 1;
    assert_int_not_equal(gzip_unpack(bytes_make(gz.at, one), 4 * plain.len, &out), OK); /* its checksum */
    buf_clear(&gz);
    gzip_pack((struct bytes){0}, &gz);
    buf_clear(&out);
    assert_int_equal(gzip_unpack(buf_bytes(&gz), 0, &out), OK);
    assert_int_equal(out.len, 0);
}

/* ---- mails ---- */

static void count_found(void *arg, struct bytes json)
{
    struct buf *out = arg;

    buf_puts(out, "[");
    buf_put(out, json);
    buf_puts(out, "]");
}

static void extracted(struct bytes octets, struct buf *out)
{
    const char *why = NULL;
    enum err e = tlsrpt_extract(octets, count_found, out, &why);

    if (e)
        buf_putf(out, "%s %s", e == ERR_FULL ? "full:" : "-", why);
}

static void reports_are_found_whatever_the_mail_looks_like(void **state)
{
#define HEADERS "From: <a@b.test>\r\nSubject: x\r\n"
    static const char none[] =
        "- there is no TLS report in it: neither JSON, nor gzip, nor a mail with such a part";
    static const struct {
        const char *mail, *want;
    } cases[] = {
        {"{\"x\":1}", "[{\"x\":1}]"},
        {" \r\n{}", "[ \r\n{}]"},
        {"", none},
        {"hello", none},
        {HEADERS "\r\n{\"x\":1}\r\n", none}, /* text of a mail is no report */
        {HEADERS "Content-Type: application/tlsrpt+json\r\n\r\n{}", "[{}]"},
        {HEADERS "content-type: APPLICATION/TLSRPT+JSON; charset=utf-8\nContent-Transfer-Encoding: "
                 "Base64\n\ne3\n0=\n",
         "[{}]"},
        {HEADERS "Content-Type: text/plain; name=\"r.json\"\r\nContent-Transfer-Encoding: "
                 "quoted-printable\r\n\r\n=\r\n{=\r\n=7D",
         "[{}]"},
        {HEADERS
         "Content-Type: x/y\r\nContent-Disposition: attachment;\r\n filename=\"a\\\"b.json\"\r\n\r\n{}",
         "[{}]"},
        {HEADERS
         "Content-Type: multipart/report; report-type=\"tlsrpt\";\r\n\tboundary=\"=_x y\"\r\n\r\npreamble\r\n"
         "--=_x y\r\nContent-Type: text/plain\r\n\r\n{}\r\n--=_x y\r\nContent-Type: "
         "application/tlsrpt+gzip\r\n"
         "\r\n{\"x\":2}\r\n--=_x y--\r\n--=_x y\r\nContent-Type: application/json\r\n\r\n{}\r\n",
         "[{\"x\":2}\r\n]"},
        {HEADERS
         "Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/report; boundary=ab\n\n"
         "--ab\nContent-Type: application/json\n\n{1}\n--ab--\n--a\nContent-Type: message/rfc822\n\n"
         "Subject: y\nContent-Type: application/octet-stream\n\n{2}\n--a--\n",
         "[{1}\n][{2}\n]"},
        {HEADERS
         "Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\nContent-Type: application/json\r\n\r\n{1}",
         "[{1}]"}, /* cut off */
        {HEADERS "Content-Type: multipart/mixed\r\n\r\n--a\r\nContent-Type: application/json\r\n\r\n{1}",
         none},
        {HEADERS "Content-Type: application/gzip\r\n\r\nzip", "- an attached file is neither JSON nor gzip"},
        {HEADERS "Content-Type: application/gzip\r\nContent-Transfer-Encoding: base64\r\n\r\nH4sI",
         "- its gzip is damaged"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct bytes mail = exact(cases[i].mail, strlen(cases[i].mail));
        BUF_LOCAL(got);
        extracted(mail, &got);
        assert_string_equal(buf_str(&got), cases[i].want);
        drop(mail);
    }
}

static void a_mail_cut_at_any_octet_gives_no_more_than_the_whole(void **state)
{
    BUF_LOCAL(gz);
    BUF_LOCAL(mail);

    (void)state;
    gzip_pack(BYTES("{\"a\":[1,2,3]}"), &gz);
    buf_puts(&mail, "Content-Type: multipart/report; boundary=\"b\"\r\n\r\n--b\r\nContent-Type: "
                    "application/tlsrpt+gzip\r\n"
                    "Content-Transfer-Encoding: base64\r\n\r\n");
    base64_encode(buf_bytes(&gz), &mail);
    buf_puts(&mail, "\r\n--b--\r\n");
    for (size_t len = 0; len <= mail.len; len++) {
        struct bytes cut = exact(mail.at, len);
        BUF_LOCAL(got);
        extracted(cut, &got);
        assert_true(buf_str(&got)[0] == '-' || strcmp(buf_str(&got), "[{\"a\":[1,2,3]}]") == 0);
        if (len == mail.len)
            assert_string_equal(buf_str(&got), "[{\"a\":[1,2,3]}]");
        drop(cut);
    }
}

static void bombs_do_not_go_off(void **state)
{
    BUF_LOCAL(zeros);
    BUF_LOCAL(gz);
    BUF_LOCAL(twice);
    BUF_LOCAL(got);
    BUF_LOCAL(nested);

    (void)state;
    buf_putc(&zeros, '{');
    memset(buf_reserve(&zeros, TLSRPT_JSON_MAX), ' ', TLSRPT_JSON_MAX);
    zeros.len += TLSRPT_JSON_MAX;
    gzip_pack(buf_bytes(&zeros), &gz);
    extracted(buf_bytes(&gz), &got);
    assert_string_equal(buf_str(&got), "full: it unpacks to more than 10 MiB");
    gzip_pack(buf_bytes(&gz), &twice);
    buf_clear(&got);
    extracted(buf_bytes(&twice), &got);
    assert_string_equal(buf_str(&got), "full: it unpacks to more than 10 MiB");
    /* Multiparts in multiparts, and very many parts. */
    for (int i = 0; i < 1000; i++)
        buf_putf(&nested, "Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n", i, i);
    buf_puts(&nested, "Content-Type: application/json\n\n{}");
    buf_clear(&got);
    extracted(buf_bytes(&nested), &got);
    assert_int_equal(buf_str(&got)[0], '-');
    buf_clear(&nested);
    buf_puts(&nested, "Content-Type: multipart/mixed; boundary=b\n\n");
    for (int i = 0; i < 10000; i++)
        buf_puts(&nested, "--b\nContent-Type: application/json\n\n{}\n");
    buf_clear(&got);
    extracted(buf_bytes(&nested), &got);
    assert_int_equal(got.len, TLSRPT_REPORTS_MAX * strlen("[{}\n]"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_deviations_are_read_and_named),
        cmocka_unit_test(every_beginning_of_a_report_is_refused_and_nothing_else_happens),
        cmocka_unit_test(dates_are_read_as_senders_write_them),
        cmocka_unit_test(what_is_packed_is_unpacked_but_never_more_than_asked_for),
        cmocka_unit_test(reports_are_found_whatever_the_mail_looks_like),
        cmocka_unit_test(a_mail_cut_at_any_octet_gives_no_more_than_the_whole),
        cmocka_unit_test(bombs_do_not_go_off),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
