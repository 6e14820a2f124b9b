#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>

#include "engine/smtp/header.h"

struct row {
    const char *content;       /* header section and body */
    const char *fields, *body; /* as they go on */
    uint32_t received, from, date, message_id, campaigns;
    const char *campaign, *schedule;
};

static const struct row rows[] = {
    {"From: a\r\nTo: b\r\n\r\nbody\r\n", "From: a\r\nTo: b\r\n", "body\r\n", 0, 1, 0, 0, 0, "", ""},
    {"\r\nbody\r\n", "", "body\r\n", 0, 0, 0, 0, 0, "", ""},
    {"", "", "", 0, 0, 0, 0, 0, "", ""},
    {"\r\n", "", "", 0, 0, 0, 0, 0, "", ""},
    {"From: a\r\n", "From: a\r\n", "", 0, 1, 0, 0, 0, "", ""},
    {"X-Campaign: c1\r\n", "", "", 0, 0, 0, 0, 1, "c1", ""},
    {"X-Campaign: c1\r\nTo: b\r\n\r\n", "To: b\r\n", "", 0, 0, 0, 0, 1, "c1", ""},
    {"To: b\r\nX-Campaign: c1\r\n\r\nx\r\n", "To: b\r\n", "x\r\n", 0, 0, 0, 0, 1, "c1", ""},
    {"To: b\r\nx-cAMPAIGN :\r\n\t c1\t\r\nCc: d\r\n\r\n", "To: b\r\nCc: d\r\n", "", 0, 0, 0, 0, 1, "c1", ""},
    {"X-Campaign: a\r\n b\r\n c\r\nTo: b\r\n\r\n", "To: b\r\n", "", 0, 0, 0, 0, 1, "a b c", ""},
    {"X-Campaign:\r\n\r\nx\r\n", "", "x\r\n", 0, 0, 0, 0, 1, "", ""},
    {"X-Campaign: 1\r\nX-Campaign: 2\r\nTo: b\r\n\r\n", "To: b\r\n", "", 0, 0, 0, 0, 2, "1", ""},
    {"X-Hayauma-Schedule: 1700000000\r\nX-Campaign: 1\r\n\r\n", "", "", 0, 0, 0, 0, 1, "1", "1700000000"},
    {"X-Campaigns: 1\r\nX-Campaig: 2\r\n\r\n", "X-Campaigns: 1\r\nX-Campaig: 2\r\n", "", 0, 0, 0, 0, 0, "",
     ""},
    {"Received: x\r\n\ty; z\r\nreceived: x\r\nRECEIVED : x\r\nReceived-SPF: x\r\n\r\n",
     "Received: x\r\n\ty; z\r\nreceived: x\r\nRECEIVED : x\r\nReceived-SPF: x\r\n", "", 3, 0, 0, 0, 0, "",
     ""},
    {"date: x\r\nMESSAGE-ID: <y>\r\nFrom: a\r\nfrom: b\r\n\r\n",
     "date: x\r\nMESSAGE-ID: <y>\r\nFrom: a\r\nfrom: b\r\n", "", 0, 2, 1, 1, 0, "", ""},
    /* A line that cannot be a field begins the body; it is kept, and so is all behind it. */
    {"no header\r\nX-Campaign: 1\r\n", "", "no header\r\nX-Campaign: 1\r\n", 0, 0, 0, 0, 0, "", ""},
    {"To: b\r\nno header\r\nFrom: a\r\n\r\n", "To: b\r\n", "no header\r\nFrom: a\r\n\r\n", 0, 0, 0, 0, 0, "",
     ""},
    {"X-Campaign: 1\r\nno header\r\n", "", "no header\r\n", 0, 0, 0, 0, 1, "1", ""},
    {" folded\r\nTo: b\r\n", "", " folded\r\nTo: b\r\n", 0, 0, 0, 0, 0, "", ""},
    {": x\r\n", "", ": x\r\n", 0, 0, 0, 0, 0, "", ""},
    {"To b: c\r\n", "", "To b: c\r\n", 0, 0, 0, 0, 0, "", ""},
    {"T\xc3\xb6: c\r\n", "", "T\xc3\xb6: c\r\n", 0, 0, 0, 0, 0, "", ""},
    {"From a Thu\r\nTo: b\r\n", "", "From a Thu\r\nTo: b\r\n", 0, 0, 0, 0, 0, "", ""},
    {"Subject: \xc3\xb6\r\n \r\n\r\nx\r\n", "Subject: \xc3\xb6\r\n \r\n", "x\r\n", 0, 0, 0, 0, 0, "", ""},
};

static void feed(struct header *h, struct bytes in, enum header_step *step, struct buf *body)
{
    size_t used = 0;

    if (*step == HEADER_MORE)
        *step = header_take(h, in, &used);
    if (*step == HEADER_DONE)
        buf_put(body, bytes_skip(in, used));
}

static void header_sections_read_the_same_however_they_are_split(void **state)
{
    struct header h = {0};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct bytes all = bytes_of(rows[i].content);
        for (size_t cut = 0; cut <= all.len; cut++) {
            BUF_LOCAL(behind);
            BUF_LOCAL(body);
            enum header_step step = HEADER_MORE;
            header_init(&h, 1000);
            feed(&h, bytes_first(all, cut), &step, &behind);
            feed(&h, bytes_skip(all, cut), &step, &behind);
            if (step == HEADER_MORE)
                header_end(&h);
            buf_put(&body, header_overrun(&h));
            buf_put(&body, buf_bytes(&behind));
            assert_true(bytes_eq(header_fields(&h), bytes_of(rows[i].fields)));
            assert_string_equal(buf_str(&body), rows[i].body);
            assert_int_equal(h.received, rows[i].received);
            assert_int_equal(h.from, rows[i].from);
            assert_int_equal(h.date, rows[i].date);
            assert_int_equal(h.message_id, rows[i].message_id);
            assert_int_equal(h.campaigns, rows[i].campaigns);
            assert_string_equal(buf_str(&h.campaign), rows[i].campaign);
            assert_string_equal(buf_str(&h.schedule), rows[i].schedule);
        }
    }
    header_fini(&h);
}

static void a_section_beyond_its_limit_is_stopped_there(void **state)
{
    struct header h = {0};
    size_t used;

    (void)state;
    header_init(&h, 20);
    assert_int_equal(header_take(&h, BYTES("To: 1234567890123\r\n"), &used), HEADER_MORE); /* 19 */
    assert_int_equal(header_take(&h, BYTES("ab"), &used), HEADER_TOO_LARGE);
    header_init(&h, 20);
    assert_int_equal(header_take(&h, BYTES("X-Campaign: 1\r\n"), &used), HEADER_MORE);
    assert_int_equal(header_take(&h, BYTES("To: a\r\n"), &used),
                     HEADER_TOO_LARGE); /* what was removed counts */
    header_init(&h, 20);
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(header_take(&h, BYTES("x"), &used), HEADER_MORE);
    assert_int_equal(header_take(&h, BYTES("x"), &used), HEADER_TOO_LARGE);
    header_fini(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(header_sections_read_the_same_however_they_are_split),
        cmocka_unit_test(a_section_beyond_its_limit_is_stopped_there),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
