/* AUTH EXTERNAL and sessions that a certificate opens by itself; what is told to the owner as an attack. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>

#include "base/mem.h"
#include "tests/unit/engine/smtp/play.h"

#define EHLO  "EHLO client.example\r\n"
#define ALICE "YWxpY2U=" /* alice */
#define BOB   "Ym9i"     /* bob */

static void begin(struct play *p, const char *certificate_of, bool suffices)
{
    play_prepare(p);
    p->rules.implicit_tls = true;
    p->rules.require_auth = true;
    p->rules.certificate_suffices = suffices;
    p->certificate_of = certificate_of;
    play_tls(p);
    play_begin(p);
    play_hear(p);
}

static void external_proves_what_the_certificate_does(void **state)
{
    static const struct {
        const char *certificate_of, *say, *codes;
        const char *account, *mechanism;
    } rows[] = {
        {"alice", EHLO "AUTH EXTERNAL =\r\n", "250|235 2.7.0", "alice", "external"},
        {"alice", EHLO "AUTH EXTERNAL " ALICE "\r\n", "250|235 2.7.0", "alice", "external"},
        {"alice", EHLO "auth external " ALICE "\r\n", "250|235 2.7.0", "alice", "external"},
        {"alice", EHLO "AUTH EXTERNAL\r\n\r\n", "250|334|235 2.7.0", "alice", "external"},
        {"alice", EHLO "AUTH EXTERNAL\r\n=\r\n", "250|334|235 2.7.0", "alice", "external"},
        {"alice", EHLO "AUTH EXTERNAL\r\n" ALICE "\r\n", "250|334|235 2.7.0", "alice", "external"},
        {"alice", EHLO "AUTH EXTERNAL\r\n*\r\n", "250|334|501 5.7.0", NULL, "none"},
        {"alice", EHLO "AUTH EXTERNAL " BOB "\r\n", "250|535 5.7.8", NULL, "none"},
        {"alice", EHLO "AUTH EXTERNAL !\r\n", "250|501 5.5.2", NULL, "none"},
        {"alice", EHLO "AUTH EXTERNAL YQBi\r\n", "250|501 5.5.2", NULL, "none"}, /* a NUL b */
        {"alice", EHLO "AUTH EXTERNAL " BOB "\r\nAUTH EXTERNAL =\r\n", "250|535 5.7.8|235 2.7.0", "alice",
         "external"},
        {"alice", EHLO "AUTH EXTERNAL =\r\nAUTH EXTERNAL =\r\n", "250|235 2.7.0|503 5.5.1", "alice",
         "external"},
        {"nobody", EHLO "AUTH EXTERNAL =\r\n", "250|535 5.7.8", NULL, "none"}, /* gone since it was offered */
        {NULL, EHLO "AUTH EXTERNAL =\r\n", "250|504 5.5.4", NULL, "none"},
        {"alice", EHLO AUTH_PLAIN, "250|235 2.7.0", "alice", "plain"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        for (int cut = 0; cut < 2; cut++) {
            struct play p;
            begin(&p, rows[i].certificate_of, false);
            size_t ehlo = strlen(EHLO);
            play_say(&p, bytes_make(rows[i].say, ehlo)); /* nobody may send ahead of its reply */
            for (const char *c = rows[i].say + ehlo; cut && *c; c++)
                play_say(&p, bytes_make(c, 1));
            if (!cut)
                play_says(&p, rows[i].say + ehlo);
            const char *codes = play_codes(play_hear(&p));
            const char *account = smtp_server_account(p.server);
            if (strcmp(codes, rows[i].codes) ||
                strcmp(account ? account : "", rows[i].account ? rows[i].account : ""))
                fail_msg("row %zu: %s, %s", i, codes, account ? account : "nobody");
            assert_string_equal(smtp_server_auth_mechanism(p.server), rows[i].mechanism);
            play_end(&p);
        }
}

static void external_is_offered_only_where_it_would_work(void **state)
{
    struct play p;

    (void)state;
    begin(&p, "alice", false);
    play_says(&p, EHLO);
    assert_non_null(strstr(play_hear(&p), "250-AUTH PLAIN LOGIN SCRAM-SHA-256 EXTERNAL\r\n"));
    play_end(&p);
    begin(&p, NULL, false);
    play_says(&p, EHLO);
    assert_non_null(strstr(play_hear(&p), "250-AUTH PLAIN LOGIN SCRAM-SHA-256\r\n"));
    play_end(&p);
    play_prepare(&p); /* in clear there is no certificate, whatever the owner says */
    p.certificate_of = "alice";
    p.rules.certificate_suffices = p.rules.require_auth = true;
    play_begin(&p);
    play_says(&p, EHLO "MAIL FROM:<a@b.example>\r\nAUTH EXTERNAL =\r\n");
    const char *heard = play_hear(&p);
    assert_null(strstr(heard, "EXTERNAL\r\n"));
    play_end(&p);
}

static void a_certificate_opens_the_session_where_it_suffices(void **state)
{
    struct play p;

    (void)state;
    begin(&p, "alice", true);
    play_says(&p, EHLO);
    assert_non_null(strstr(play_hear(&p), " EXTERNAL\r\n")); /* it may still say who it is */
    assert_string_equal(smtp_server_account(p.server), "alice");
    assert_string_equal(smtp_server_auth_mechanism(p.server), "certificate");
    play_mail(&p, ENVELOPE, "\r\nText\r\n.\r\n");
    assert_int_equal(p.message_count, 1);
    assert_string_equal(p.messages[0]->account, "alice");
    play_says(&p, AUTH_PLAIN);
    play_hear(&p);
    assert_string_equal(smtp_server_auth_mechanism(p.server), "plain");
    play_says(&p, EHLO);
    assert_string_equal(smtp_server_auth_mechanism(p.server), "plain");
    play_end(&p);

    begin(&p, NULL, true);
    play_says(&p, EHLO);
    play_hear(&p);
    play_says(&p, "MAIL FROM:<a@b.example>\r\n");
    assert_string_equal(play_codes(play_hear(&p)), "530 5.7.0");
    play_end(&p);
}

static void an_account_keeps_to_its_networks_with_a_certificate_too(void **state)
{
    struct play p;

    (void)state;
    begin(&p, "alice", true);
    p.account.networks = mem_alloc(sizeof(*p.account.networks));
    assert_true(ip_net_parse(BYTES("198.51.100.0/24"), p.account.networks));
    p.account.network_count = 1;
    play_says(&p, EHLO);
    play_hear(&p);
    assert_null(smtp_server_account(p.server));
    play_says(&p, "AUTH EXTERNAL =\r\n");
    assert_string_equal(play_codes(play_hear(&p)), "535 5.7.8");
    play_end(&p);
}

static void what_no_program_does_by_mistake_is_told(void **state)
{
    static const struct {
        const char *say[4]; /* each its own segment */
        const char *told;
    } rows[] = {
        {{EHLO, "STARTTLS\r\nNOOP\r\n"}, "starttls-injection"},
        {{EHLO, "STARTTLS now\r\n"}, "starttls-with-argument"},
        {{EHLO, "MAIL FROM:<a@b.example>\r\n", "STARTTLS\r\n"}, "starttls-in-transaction"},
        {{EHLO, AUTH_PLAIN, "STARTTLS\r\n"}, "starttls-after-auth"},
        {{EHLO "NOOP\r\n"}, "sent-ahead-of-ehlo"},
        {{"GET / HTTP/1.1\r\n"}, "http-request"},
        {{EHLO, "POST /x HTTP/1.0\r\n"}, "http-request"},
        {{EHLO, "CONNECT mx:25 HTTP/1.1\r\n"}, "http-request"},
        {{EHLO, "NOOP\n"}, "bare-newline-in-command"},
        {{EHLO, "GET\r\n", "get x\r\n", "NOOP\r\n"}, NULL},
        {{EHLO, "STARTTLS\r\n"}, NULL},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct play p;
        play_prepare(&p);
        play_begin(&p);
        for (size_t k = 0; k < COUNT_OF(rows[i].say) && rows[i].say[k]; k++)
            play_says(&p, rows[i].say[k]);
        if (p.attack_count != (rows[i].told != NULL) || (rows[i].told && strcmp(p.attacks[0], rows[i].told)))
            fail_msg("row %zu: %u, %s", i, p.attack_count, p.attack_count ? p.attacks[0] : "nothing");
        if (rows[i].told && strcmp(rows[i].told, "http-request") == 0)
            assert_int_equal(p.close_count, 1);
        play_end(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(external_proves_what_the_certificate_does),
        cmocka_unit_test(external_is_offered_only_where_it_would_work),
        cmocka_unit_test(a_certificate_opens_the_session_where_it_suffices),
        cmocka_unit_test(an_account_keeps_to_its_networks_with_a_certificate_too),
        cmocka_unit_test(what_no_program_does_by_mistake_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
