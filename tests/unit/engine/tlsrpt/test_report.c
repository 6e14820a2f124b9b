#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/mem.h"
#include "engine/tlsrpt/extract.h"
#include "engine/tlsrpt/gzip.h"
#include "engine/tlsrpt/incoming.h"
#include "engine/tlsrpt/mail.h"
#include "engine/tlsrpt/report.h"

#define NOBODY .mx = "", .receiving_ip = "", .sending_ip = "", .helo = "", .reason = ""
#define HOST   .mx = "mx.a.test", .receiving_ip = "192.0.2.1", .sending_ip = "198.51.100.1", .helo = "mx"

static const struct tlsrpt_about about = {
    .organization = "Überbringer \"GmbH\"",
    .contact = "tls@Sender.test",
    .domain = "a.test",
    .report_id = "id@sender.test",
    .begin_unix = 1795219200, /* 2026-11-21 */
    .end_unix = 1795219200 + 86399,
};

static void the_json_is_that_of_the_standard(void **state)
{
    static const struct report_session_sum rows[] = {
        {.domain = "a.test", .policy_text = "", .policy_mx = "", .count = 7, NOBODY},
        {.domain = "a.test",
         .policy_text = "",
         .policy_mx = "",
         .failure = TLS_FAILURE_VALIDATION,
         .count = 2,
         HOST,
         .reason = "handshake \xff failed"},
        {.domain = "a.test",
         .policy_type = TLSRPT_TLSA,
         .policy_text = "3 1 1 ab\n2 0 1 cd",
         .policy_mx = "",
         .failure = TLS_FAILURE_TLSA_INVALID,
         .count = 1,
         HOST,
         .reason = ""},
        {.domain = "a.test",
         .policy_type = TLSRPT_STS,
         .policy_text = "version: STSv1\r\nmode: enforce\r\n",
         .policy_mx = "mx.a.test\n*.b.test",
         .count = 1099511627776,
         NOBODY},
    };
    static const char want[] =
        "{\"organization-name\":\"Überbringer \\\"GmbH\\\"\","
        "\"date-range\":{\"start-datetime\":\"2026-11-21T00:00:00Z\",\"end-datetime\":\"2026-11-21T23:59:"
        "59Z\"},"
        "\"contact-info\":\"tls@Sender.test\",\"report-id\":\"id@sender.test\",\"policies\":["
        "{\"policy\":{\"policy-type\":\"no-policy-found\",\"policy-domain\":\"a.test\"},"
        "\"summary\":{\"total-successful-session-count\":7,\"total-failure-session-count\":2},"
        "\"failure-details\":[{\"result-type\":\"validation-failure\",\"sending-mta-ip\":\"198.51.100.1\","
        "\"receiving-mx-hostname\":\"mx.a.test\",\"receiving-mx-helo\":\"mx\",\"receiving-ip\":\"192.0.2.1\","
        "\"failed-session-count\":2,\"failure-reason-code\":\"handshake \xef\xbf\xbd failed\"}]},"
        "{\"policy\":{\"policy-type\":\"tlsa\",\"policy-string\":[\"3 1 1 ab\",\"2 0 1 "
        "cd\"],\"policy-domain\":\"a.test\"},"
        "\"summary\":{\"total-successful-session-count\":0,\"total-failure-session-count\":1},"
        "\"failure-details\":[{\"result-type\":\"tlsa-invalid\",\"sending-mta-ip\":\"198.51.100.1\","
        "\"receiving-mx-hostname\":\"mx.a.test\",\"receiving-mx-helo\":\"mx\",\"receiving-ip\":\"192.0.2.1\","
        "\"failed-session-count\":1}]},"
        "{\"policy\":{\"policy-type\":\"sts\",\"policy-string\":[\"version: STSv1\",\"mode: enforce\"],"
        "\"policy-domain\":\"a.test\",\"mx-host\":[\"mx.a.test\",\"*.b.test\"]},"
        "\"summary\":{\"total-successful-session-count\":1099511627776,\"total-failure-session-count\":0}}]}";
    struct tlsrpt_totals totals;
    BUF_LOCAL(out);

    (void)state;
    tlsrpt_report_format(&about, rows, COUNT_OF(rows), TLSRPT_DETAILS_MAX, &out, &totals);
    assert_string_equal(buf_str(&out), want);
    assert_int_equal(totals.successful, 1099511627783);
    assert_int_equal(totals.failed, 3);
}

/* Read back by the parser of incoming reports: nothing is lost, nothing is odd. */
static void our_own_report_is_read_without_any_deviation(void **state)
{
    struct report_session_sum rows[40] = {0};
    struct arena arena = {0};
    struct tlsrpt_totals totals;
    struct tlsrpt_in in;
    const char *why;
    BUF_LOCAL(out);
    BUF_LOCAL(again);

    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        rows[i] = (struct report_session_sum){.domain = "a.test",
                                              .policy_type = TLSRPT_STS,
                                              .policy_text = "x",
                                              .policy_mx = "y",
                                              .failure = (enum tls_failure)(i % 12),
                                              .count = i + 1,
                                              HOST,
                                              .reason = "r"};
    for (size_t max = 0; max <= COUNT_OF(rows); max++) { /* joined or not, the sums are the same */
        buf_clear(&out);
        buf_clear(&again);
        tlsrpt_report_format(&about, rows, COUNT_OF(rows), max, &out, &totals);
        assert_int_equal(tlsrpt_in_parse(buf_bytes(&out), &arena, &in, &why), OK);
        assert_int_equal(in.deviations, 0);
        assert_int_equal(in.successful + in.failed, 40 * 41 / 2);
        assert_int_equal(in.failed, totals.failed);
        uint64_t detailed = 0;
        for (size_t i = 0; i < in.policies[0].failure_count; i++)
            detailed += in.policies[0].failures[i].count;
        assert_int_equal(detailed, totals.failed);
        assert_true(in.policies[0].failure_count <= max + 11);
        tlsrpt_in_format(&in, &again);
        assert_string_equal(buf_str(&again), buf_str(&out));
        arena_fini(&arena);
    }
}

static void names_follow_the_standard(void **state)
{
    static const struct {
        const char *text;
        int64_t want; /* 0: no day */
    } days[] = {{"2026-11-21", 1795219200},
                {"2024-02-29", 1709164800},
                {"2026-02-29", 0},
                {"2026-11-31", 0},
                {"2026-1-1", 0},
                {"2026-11-21x", 0},
                {"", 0},
                {"20261121", 0}};
    char unique[TLSRPT_UNIQUE_BYTES], other[TLSRPT_UNIQUE_BYTES], day[TLSRPT_DAY_BYTES], submitter[256];
    int64_t begin;
    BUF_LOCAL(name);

    (void)state;
    for (size_t i = 0; i < COUNT_OF(days); i++) {
        begin = 0;
        assert_int_equal(tlsrpt_day_parse(bytes_of(days[i].text), &begin), days[i].want != 0);
        assert_int_equal(begin, days[i].want);
        if (begin)
            assert_string_equal(tlsrpt_day_format(begin + 86399, day), days[i].text);
    }
    tlsrpt_unique_id("mta1", "a.test", 1795219200, unique);
    assert_string_equal(tlsrpt_unique_id("mta1", "a.test", 1795219200, other), unique);
    assert_string_not_equal(tlsrpt_unique_id("mta2", "a.test", 1795219200, other), unique);
    assert_string_not_equal(tlsrpt_unique_id("mta1", "b.test", 1795219200, other), unique);
    assert_string_not_equal(tlsrpt_unique_id("mta1", "a.test", 1795305600, other), unique);
    tlsrpt_file_name(&about, "abc", &name);
    assert_string_equal(buf_str(&name), "sender.test!a.test!1795219200!1795305599!abc.json.gz");
    assert_true(tlsrpt_submitter("x@B\xc3\xbc"
                                 "cher.test",
                                 submitter));
    assert_string_equal(submitter, "xn--bcher-kva.test");
    assert_false(tlsrpt_submitter("nobody", submitter));
}

static void count_found(void *arg, struct bytes json)
{
    struct buf *out = arg;

    buf_put(out, json);
    buf_putc(out, '|');
}

static void the_mail_is_clean_and_gives_the_report_back(void **state)
{
    static const char json[] = "{\"a\":\"b\"}";
    const char *why = NULL;
    BUF_LOCAL(gz);
    BUF_LOCAL(mail);
    BUF_LOCAL(found);

    (void)state;
    gzip_pack(BYTES(json), &gz);
    tlsrpt_mail_format(&(struct tlsrpt_mail){.about = &about,
                                             .from = "tls@sender.test",
                                             .to = "r@a.test",
                                             .host_name = "mta.sender.test",
                                             .file_name = "f.json.gz",
                                             .message_id = "0abc",
                                             .now_unix = 1795219200,
                                             .gz = buf_bytes(&gz)},
                       &mail);
    const char *text = buf_str(&mail);
    static const char *const lines[] = {
        "From: <tls@sender.test>\r\n",
        "To: <r@a.test>\r\n",
        "TLS-Report-Domain: a.test\r\n",
        "TLS-Report-Submitter: sender.test\r\n",
        "TLS-Required: No\r\n",
        "MIME-Version: 1.0\r\n",
        "Subject: Report Domain: a.test\r\n Submitter: sender.test\r\n Report-ID: <id@sender.test>\r\n",
        "Content-Type: multipart/report; report-type=\"tlsrpt\";\r\n",
        "Content-Type: application/tlsrpt+gzip\r\n",
        "Auto-Submitted: auto-generated\r\n"};
    for (size_t i = 0; i < COUNT_OF(lines); i++)
        assert_non_null(strstr(text, lines[i]));
    for (size_t i = 0, line = 0; i < mail.len; i++) { /* 7-bit, CRLF, no long line */
        assert_true((unsigned char)text[i] < 0x80 && text[i]);
        assert_true((text[i] == '\n') == (i > 0 && text[i - 1] == '\r'));
        line = text[i] == '\n' ? 0 : line + 1;
        assert_true(line < 200);
    }
    assert_int_equal(tlsrpt_extract(buf_bytes(&mail), count_found, &found, &why), OK);
    assert_string_equal(buf_str(&found), "{\"a\":\"b\"}|");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_json_is_that_of_the_standard),
        cmocka_unit_test(our_own_report_is_read_without_any_deviation),
        cmocka_unit_test(names_follow_the_standard),
        cmocka_unit_test(the_mail_is_clean_and_gives_the_report_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
