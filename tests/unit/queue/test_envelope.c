#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "queue/envelope.h"

static const uint8_t states[] = {0, 1, 6};

static struct message *make(const char *campaign)
{
    struct rcpt rcpts[] = {
        {.no = 2, .address = "a@one.example", .domain = "one.example", .notify = NOTIFY_SUCCESS},
        {.no = 0, .address = "b@one.example", .domain = "one.example", .orcpt = "rfc822;x@y", .attempts = 3},
        {.no = 1,
         .address = "c@two.example",
         .domain = "two.example",
         .last_text = "450 later",
         .delay_notified = true},
    };

    return message_create(&(struct message){.flags = MESSAGE_SMTPUTF8 | MESSAGE_REQUIRETLS,
                                            .id = 0x1234567890abcdef,
                                            .accepted_unix = 1700000000,
                                            .sender = "s@origin.example",
                                            .campaign = campaign,
                                            .envid = "env 1",
                                            .expires_unix = 1800000000,
                                            .ret = DSN_RET_HDRS,
                                            .rcpt_count = 3,
                                            .rcpt_total = 3,
                                            .rcpts = rcpts});
}

static const struct envelope_body body = {7, 48, 123456, 900, BODY_8BIT | BODY_DOTS, 0xdeadbeef, 0, 0};
static const struct envelope_body shared = {7, 48, 123456, 900, BODY_8BIT, 0xdeadbeef, 5, 1 << 20};

static void put_with(struct buf *out, const struct envelope_body *where, const char *campaign)
{
    struct message *m = make(campaign);

    envelope_put(out, m, where, states, 1700000060);
    message_unref(m);
}

static void put(struct buf *out, const char *campaign)
{
    put_with(out, &body, campaign);
}

static void what_was_put_is_read(void **state)
{
    struct buf octets = {0};
    struct arena arena = {0};
    struct envelope e;

    (void)state;
    put(&octets, "spring");
    assert_true(envelope_parse(buf_bytes(&octets), &arena, &e));
    assert_int_equal(e.message.id, 0x1234567890abcdef);
    assert_int_equal(e.message.flags, MESSAGE_SMTPUTF8 | MESSAGE_REQUIRETLS);
    assert_int_equal(e.message.accepted_unix, 1700000000);
    assert_int_equal(e.due_unix, 1700000060);
    assert_string_equal(e.message.sender, "s@origin.example");
    assert_string_equal(e.message.campaign, "spring");
    assert_string_equal(e.message.envid, "env 1");
    assert_null(e.message.account);
    assert_int_equal(e.message.ret, DSN_RET_HDRS);
    assert_int_equal(e.message.expires_unix, 1800000000);
    assert_int_equal(e.message.lane, lane_of(PRIORITY_NORMAL, NULL, "spring"));
    assert_int_equal(e.message.rcpt_total, 3);
    assert_memory_equal(&e.body, &body, sizeof(body));
    assert_memory_equal(e.states, states, sizeof(states));
    assert_int_equal(e.message.rcpt_count, 3);
    const struct rcpt *r = e.message.rcpts;
    assert_int_equal(r[0].no, 2);
    assert_int_equal(r[0].notify, NOTIFY_SUCCESS);
    assert_string_equal(r[1].address, "b@one.example");
    assert_string_equal(r[1].domain, "one.example");
    assert_string_equal(r[1].orcpt, "rfc822;x@y");
    assert_int_equal(r[1].attempts, 3);
    assert_null(r[1].last_text);
    assert_string_equal(r[2].domain, "two.example");
    assert_string_equal(r[2].last_text, "450 later");
    assert_true(r[2].delay_notified);
    assert_string_equal(envelope_campaign(buf_bytes(&octets)), "spring");
    assert_int_equal(envelope_accepted_unix(buf_bytes(&octets)), 1700000000);
    arena_fini(&arena);
    buf_fini(&octets);
}

static void where_a_shared_content_lies_is_read(void **state)
{
    struct buf octets = {0}, whole = {0};
    struct arena arena = {0};
    struct envelope e;

    (void)state;
    put_with(&octets, &shared, "spring");
    assert_true(envelope_parse(buf_bytes(&octets), &arena, &e));
    assert_memory_equal(&e.body, &shared, sizeof(shared));
    assert_string_equal(e.message.sender, "s@origin.example");
    assert_string_equal(e.message.rcpts[2].last_text, "450 later");
    assert_string_equal(envelope_campaign(buf_bytes(&octets)), "spring");
    assert_int_equal(envelope_accepted_unix(buf_bytes(&octets)), 1700000000);
    put(&whole, "spring"); /* what shares nothing is written as it always was */
    assert_int_equal(whole.at[0], 1);
    assert_int_equal(octets.at[0], 2);
    assert_int_equal(octets.len, whole.len + 16);
    arena_fini(&arena);
    buf_fini(&octets);
    buf_fini(&whole);
}

static void a_shared_content_is_somewhere_and_behind_the_header_section(void **state)
{
    static const struct envelope_body bad[] = {
        {.segment = 7, .offset = 48, .size_bytes = 900, .header_bytes = 900, .content_segment = 5},
        {.segment = 7, .offset = 48, .size_bytes = 900, .header_bytes = 901, .content_segment = 5},
    };

    (void)state;
    for (size_t i = 0; i <= COUNT_OF(bad); i++) {
        struct buf octets = {0};
        struct arena arena = {0};
        struct envelope e;
        put_with(&octets, i < COUNT_OF(bad) ? &bad[i] : &shared, NULL);
        if (i == COUNT_OF(bad)) /* segment 0 */
            memset(octets.at + 4 + 8 + 4 + 3 * 8 + 4 * 4 + 3 * 8 + 3 * 4, 0, 8);
        assert_false(envelope_parse(buf_bytes(&octets), &arena, &e));
        arena_fini(&arena);
        buf_fini(&octets);
    }
}

static void without_a_campaign_there_is_none(void **state)
{
    struct buf octets = {0};

    (void)state;
    put(&octets, NULL);
    assert_null(envelope_campaign(buf_bytes(&octets)));
    buf_fini(&octets);
}

static void cut_at_every_place(const struct envelope_body *where)
{
    struct buf octets = {0};

    put_with(&octets, where, "spring");
    for (size_t len = 0; len <= octets.len + 1; len++) {
        struct arena arena = {0};
        struct envelope e;
        char *exact = mem_zalloc(len + 1); /* so that a sanitizer sees a read behind it */
        memcpy(exact, octets.at, len < octets.len ? len : octets.len);
        bool whole = envelope_parse(bytes_make(exact, len), &arena, &e);
        assert_int_equal(whole, len == octets.len);
        mem_free(exact);
        arena_fini(&arena);
    }
    buf_fini(&octets);
}

static void less_or_more_octets_are_no_envelope(void **state)
{
    (void)state;
    cut_at_every_place(&body);
    cut_at_every_place(&shared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_put_is_read),
        cmocka_unit_test(where_a_shared_content_lies_is_read),
        cmocka_unit_test(a_shared_content_is_somewhere_and_behind_the_header_section),
        cmocka_unit_test(without_a_campaign_there_is_none),
        cmocka_unit_test(less_or_more_octets_are_no_envelope),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
