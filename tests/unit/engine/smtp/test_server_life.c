/* TLS, waiting for the owner, silence and the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/mem.h"
#include "tests/unit/engine/smtp/play.h"

/* ---- TLS ---- */

static void nothing_said_before_tls_counts_after_it(void **state)
{
    struct play p;

    (void)state;
    play_prepare(&p);
    p.rules.require_tls = true;
    p.rules.auth_without_tls = false;
    play_begin(&p);
    play_says(&p, "EHLO c.example\r\n");
    const char *offer = play_hear(&p);
    assert_non_null(strstr(offer, "\r\n250-STARTTLS\r\n"));
    assert_null(strstr(offer, "AUTH"));
    play_says(&p, "STARTTLS\r\nMAIL FROM:<evil@b.example>\r\nRCPT TO:<c@d.example>\r\n");
    assert_string_equal(play_codes(play_hear(&p)), "220 2.0.0");
    assert_int_equal(p.starttls_count, 1);
    play_says(&p, "RCPT TO:<c@d.example>\r\n"); /* in clear, during the handshake */
    assert_string_equal(play_hear(&p), "");
    play_tls(&p);
    assert_string_equal(play_hear(&p), "");
    play_says(&p, "MAIL FROM:<a@b.example>\r\n");
    assert_string_equal(play_codes(play_hear(&p)), "503 5.5.1");
    play_says(&p, "EHLO c.example\r\n");
    offer = play_hear(&p);
    assert_null(strstr(offer, "STARTTLS"));
    assert_non_null(strstr(offer, "\r\n250-AUTH PLAIN LOGIN SCRAM-SHA-256\r\n"));
    play_says(&p, "STARTTLS\r\n");
    assert_string_equal(play_codes(play_hear(&p)), "503 5.5.1");
    play_says(&p, AUTH_PLAIN);
    play_mail(&p, ENVELOPE, "To: x\r\n.\r\n");
    assert_string_equal(play_codes(play_hear(&p)), "235 2.7.0|250 2.1.0|250 2.1.5|354|250 2.0.0");
    assert_non_null(
        strstr(play_body(&p, 0), "with ESMTPSA\r\n\t(version=TLS1.3 cipher=TLS_AES_256_GCM_SHA384) id "));
    play_end(&p);
}

static void implicit_tls_is_there_from_the_greeting_on(void **state)
{
    struct play p;

    (void)state;
    play_prepare(&p);
    p.rules.implicit_tls = p.rules.require_tls = true;
    p.rules.auth_without_tls = false;
    play_tls(&p);
    play_begin(&p);
    play_says(&p, "EHLO c.example\r\n");
    assert_null(strstr(play_hear(&p), "STARTTLS"));
    play_says(&p, AUTH_PLAIN);
    assert_string_equal(play_codes(play_hear(&p)), "235 2.7.0");
    assert_string_equal(smtp_server_account(p.server), "alice");
    play_end(&p);
}

static void ehlo_offers_what_there_is(void **state)
{
    struct play p;

    (void)state;
    play_prepare(&p);
    play_begin(&p);
    play_hear(&p);
    play_says(&p, "EHLO c.example\r\n");
    assert_string_equal(play_hear(&p),
                        "250-mx.example\r\n250-PIPELINING\r\n250-CHUNKING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n"
                        "250-STARTTLS\r\n250-AUTH PLAIN LOGIN SCRAM-SHA-256\r\n250-SIZE 100000\r\n250-DSN\r\n"
                        "250 ENHANCEDSTATUSCODES\r\n");
    play_end(&p);
}

/* ---- waiting for the owner ---- */

static void octets_that_come_while_the_owner_works_wait_their_turn(void **state)
{
    struct play p;

    (void)state;
    play_prepare(&p);
    p.answer_later = true;
    play_begin(&p);
    play_says(&p, "EHLO c.example\r\n");
    play_says(&p, AUTH_PLAIN ENVELOPE);
    play_says(&p, "DATA\r\n");
    assert_string_equal(play_codes(play_hear(&p)), "220|250");
    assert_false(smtp_server_wants_pause(p.server));
    assert_int_equal(smtp_server_deadline_ms(p.server), 0);
    play_answer(&p);
    assert_string_equal(play_codes(play_hear(&p)), "235 2.7.0|250 2.1.0|250 2.1.5|354");
    play_says(&p, "x\r\n.\r\n" ENVELOPE "BDAT 3 LAST\r\ny\r\nQUIT\r\n");
    assert_string_equal(play_hear(&p), "");
    assert_int_equal(p.message_count, 1);
    assert_false(smtp_server_is_idle(p.server));
    play_answer(&p);
    assert_string_equal(play_codes(play_hear(&p)), "250 2.0.0|250 2.1.0|250 2.1.5");
    assert_int_equal(p.message_count, 2);
    play_answer(&p);
    assert_string_equal(play_codes(play_hear(&p)), "250 2.0.0|221 2.0.0");
    assert_int_equal(p.close_count, 1);
    play_end(&p);
}

static void what_waits_is_bounded(void **state)
{
    static char noops[60000];
    struct play p;

    (void)state;
    memset(noops, 'x', sizeof(noops));
    play_prepare(&p);
    p.answer_later = true;
    play_begin(&p);
    play_says(&p, "EHLO c.example\r\n");
    play_says(&p, AUTH_PLAIN);
    play_say(&p, bytes_make(noops, sizeof(noops)));
    assert_false(smtp_server_wants_pause(p.server));
    play_say(&p, bytes_make(noops, sizeof(noops)));
    assert_true(smtp_server_wants_pause(p.server));
    for (unsigned i = 0; i < 20 && !p.close_count; i++)
        play_say(&p, bytes_make(noops, sizeof(noops)));
    assert_int_equal(p.close_count, 1); /* who does not stop is cut off */
    play_answer(&p);                    /* too late, and harmless */
    assert_null(strstr(play_hear(&p), "235"));
    play_end(&p);
}

static void the_owner_may_destroy_a_session_that_closes(void **state)
{
    static const char *const ends[] = {"QUIT\r\n", "QUIT\r\nQUIT\r\n", "NOOP\nQUIT\r\n"};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(ends); i++) {
        struct play p;
        play_prepare(&p);
        p.destroy_in_close = true;
        play_begin(&p);
        play_says(&p, ends[i]);
        assert_null(p.server);
        play_end(&p);
    }
}

static void a_session_may_end_anywhere(void **state)
{
    static const char *const lasts[] = {
        "EHLO c.exa",
        "EHLO c.example\r\n",
        "AUTH LOGIN\r\nYWxpY2U=\r\n",
        "AUTH PLAIN\r\nAGFs",
        ENVELOPE,
        ENVELOPE "BDAT 100\r\nabc",
        ENVELOPE "BDAT 3\r\nabc",
        "STARTTLS\r\n",
        ENVELOPE "DATA\r\n",
        ENVELOPE "BDAT 3 LAST\r\nabc",
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(lasts); i++) {
        struct play p;
        play_prepare(&p);
        p.answer_later = true;
        play_begin(&p);
        play_says(&p, "EHLO c.example\r\n");
        play_says(&p, lasts[i]);
        play_end(&p);
    }
}

/* ---- time ---- */

/* T20 */
static void silence_ends_a_session(void **state)
{
    struct play p;

    (void)state;
    play_prepare(&p);
    play_begin(&p);
    assert_int_equal(smtp_server_deadline_ms(p.server), 301000);
    p.now_ms = 200000;
    play_says(&p, "EHLO c.exa"); /* a part of a line buys no time */
    assert_int_equal(smtp_server_deadline_ms(p.server), 301000);
    play_says(&p, "mple\r\n");
    assert_int_equal(smtp_server_deadline_ms(p.server), 500000);
    play_mail(&p, ENVELOPE, "To: a\r\n");
    assert_int_equal(smtp_server_deadline_ms(p.server), 380000); /* data: 180 s */
    p.now_ms = 300000;
    play_says(&p, "x");
    assert_int_equal(smtp_server_deadline_ms(p.server), 480000);
    smtp_server_on_deadline(p.server, 479999);
    assert_int_equal(p.close_count, 0);
    play_hear(&p);
    smtp_server_on_deadline(p.server, 480000);
    assert_string_equal(play_codes(play_hear(&p)), "421 4.4.2");
    assert_int_equal(p.close_count, 1);
    assert_int_equal(smtp_server_deadline_ms(p.server), 0);
    assert_int_equal(p.message_count, 0);
    play_end(&p);
}

/* T20 */
static void a_trickle_of_data_is_not_enough(void **state)
{
    struct play p;

    (void)state;
    play_prepare(&p);
    p.rules.data_rate_min = 100;
    p.now_ms = 0;
    play_begin(&p);
    play_says(&p, "EHLO c.example\r\n");
    play_mail(&p, ENVELOPE, "");
    for (p.now_ms = 0; !p.close_count; p.now_ms += 1000) {
        if (smtp_server_deadline_ms(p.server) <= p.now_ms)
            smtp_server_on_deadline(p.server, p.now_ms);
        else
            play_says(&p, "0123456789"); /* ten octets a second, of a hundred */
        assert_true(p.now_ms < 80000);
    }
    assert_true(p.now_ms >= 60000);
    play_end(&p);

    play_prepare(&p);
    p.rules.data_rate_min = 10;
    p.now_ms = 0;
    play_begin(&p);
    play_says(&p, "EHLO c.example\r\n");
    play_mail(&p, ENVELOPE, "");
    for (p.now_ms = 0; p.now_ms < 1000000; p.now_ms += 1000) {
        play_says(&p, "0123456789");
        assert_true(smtp_server_deadline_ms(p.server) > p.now_ms + 1000);
    }
    play_end(&p);
}

/* T20 */
static void a_trickle_in_many_chunks_is_not_enough(void **state)
{
    static const struct {
        unsigned step_ms, pause_ms; /* between the octets of a chunk, and between chunks */
        bool is_cut;
    } rows[] = {{1000, 0, true}, {1000, 200000, true}, {1, 200000, false}};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct play p;
        play_prepare(&p);
        p.rules.data_rate_min = 100;
        play_begin(&p);
        play_says(&p, "EHLO c.example\r\n");
        play_says(&p, ENVELOPE);
        unsigned chunks = 0, slow_ms = 0;
        for (; chunks < 20 && !p.close_count; chunks++) {
            play_says(&p, "BDAT 10\r\n");
            for (unsigned n = 0; n < 10 && !p.close_count; n++) {
                p.now_ms += rows[i].step_ms;
                slow_ms += rows[i].step_ms;
                smtp_server_on_deadline(p.server, p.now_ms);
                if (!p.close_count)
                    play_says(&p, "x");
            }
            p.now_ms += rows[i].pause_ms;
        }
        assert_int_equal(p.close_count, rows[i].is_cut);
        assert_true(rows[i].is_cut ? slow_ms > 60000 && slow_ms < 64000 : chunks == 20);
        play_end(&p);
    }
}

static void who_speaks_first_is_not_served(void **state)
{
    struct play p;

    (void)state;
    play_prepare(&p);
    play_begin(&p);
    smtp_server_destroy(TAKE(p.server));
    play_end(&p);

    play_prepare(&p);
    p.rules.implicit_tls = false;
    play_tls(&p); /* makes the server */
    play_says(&p, "EHLO c.example\r\n");
    play_begin(&p);
    assert_string_equal(play_codes(play_hear(&p)), "554");
    assert_int_equal(p.close_count, 1);
    play_end(&p);
}

static void a_drained_session_ends_between_transactions(void **state)
{
    struct play p;

    (void)state;
    play_prepare(&p);
    play_begin(&p);
    play_says(&p, "EHLO c.example\r\n");
    play_hear(&p);
    assert_true(smtp_server_is_idle(p.server));
    smtp_server_drain(p.server, p.now_ms);
    assert_string_equal(play_codes(play_hear(&p)), "421 4.3.2");
    assert_int_equal(p.close_count, 1);
    play_end(&p);

    play_prepare(&p);
    p.answer_later = true;
    play_begin(&p);
    play_says(&p, "EHLO c.example\r\n");
    play_says(&p, ENVELOPE);
    play_hear(&p);
    smtp_server_drain(p.server, p.now_ms);
    assert_string_equal(play_hear(&p), "");
    play_says(&p, "DATA\r\n");
    play_says(&p, "x\r\n.\r\n");
    smtp_server_drain(p.server, p.now_ms);
    assert_string_equal(play_codes(play_hear(&p)), "354");
    play_answer(&p);
    assert_string_equal(play_codes(play_hear(&p)), "250 2.0.0|421 4.3.2");
    assert_int_equal(p.close_count, 1);
    assert_int_equal(p.message_count, 1);
    play_end(&p);
}

static void a_session_may_be_turned_out(void **state)
{
    struct play p;

    (void)state;
    for (int late = 0; late < 2; late++) {
        play_prepare(&p);
        p.answer_later = true;
        play_begin(&p);
        play_says(&p, "EHLO c.example\r\n");
        if (late)
            play_says(&p, AUTH_PLAIN); /* the answer comes when nobody waits for it any more */
        play_hear(&p);
        smtp_server_turn_out(p.server, p.now_ms);
        assert_string_equal(play_codes(play_hear(&p)), "421 4.7.0");
        smtp_server_turn_out(p.server, p.now_ms);
        if (late)
            play_answer(&p);
        play_says(&p, "NOOP\r\n");
        assert_string_equal(play_hear(&p), "");
        assert_int_equal(p.close_count, 1);
        play_end(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_said_before_tls_counts_after_it),
        cmocka_unit_test(implicit_tls_is_there_from_the_greeting_on),
        cmocka_unit_test(ehlo_offers_what_there_is),
        cmocka_unit_test(octets_that_come_while_the_owner_works_wait_their_turn),
        cmocka_unit_test(what_waits_is_bounded),
        cmocka_unit_test(the_owner_may_destroy_a_session_that_closes),
        cmocka_unit_test(a_session_may_end_anywhere),
        cmocka_unit_test(silence_ends_a_session),
        cmocka_unit_test(a_trickle_of_data_is_not_enough),
        cmocka_unit_test(a_trickle_in_many_chunks_is_not_enough),
        cmocka_unit_test(who_speaks_first_is_not_served),
        cmocka_unit_test(a_session_may_be_turned_out),
        cmocka_unit_test(a_drained_session_ends_between_transactions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
