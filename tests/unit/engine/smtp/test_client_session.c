/* Greeting, EHLO, HELO, STARTTLS, AUTH of the outbound conversation, told by a scripted server. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/base64.h"
#include "base/mem.h"
#include "engine/smtp/client_priv.h"
#include "engine/smtp/scram.h"
#include "engine/smtp/scram_client.h"
#include "engine/smtp/server.h"
#include "tests/unit/engine/smtp/client_script.h"

#define HELLO "S 220 mx.example", "C EHLO me.example"
#define SENDS_A                                                                                              \
    "C MAIL FROM:<a@s.example>", "S 250 ok", "C RCPT TO:<r@d.example>", "S 250 ok", "C DATA", "S 354 go",    \
        "C Subject: hi", "C ", "C Hi.", "C .", "S 250 ok", "C QUIT", "S 221 bye"
#define SENT_A   "A+: delivered dot 250\nover: delivered queue 0"
#define TLS_LIST "S 250-mx.example", "S 250-PIPELINING", "S 250 STARTTLS"

static void play(const struct script_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++)
        script_play_every_way(&cases[i]);
}

static void a_refused_greeting_defers_whatever_its_class(void **state)
{
    (void)state;
    const struct script_case cases[] = {
        {.name = "554",
         .lines = LINES("S 554-5.7.1 go", "S 554 5.7.1 away"),
         .want = "over: deferred greeting 554 5.7.1"},
        {.name = "521", .lines = LINES("S 521 no mail here"), .want = "over: deferred greeting 521"},
        {.name = "450", .lines = LINES("S 450 later"), .want = "over: deferred greeting 450"},
        {.name = "421", .lines = LINES("S 421 4.3.2 busy"), .want = "over: deferred greeting 421 4.3.2"},
        {.name = "250", .lines = LINES("S 250 hello"), .want = "over: deferred greeting 451 4.5.0"},
        {.name = "354", .lines = LINES("S 354 go"), .want = "over: deferred greeting 451 4.5.0"},
        {.name = "not SMTP",
         .lines = LINES("S SSH-2.0-OpenSSH_9.2"),
         .want = "over: deferred greeting 451 4.5.0"},
        {.name = "closed", .lines = LINES("close"), .want = "over: deferred greeting 421 4.4.2"},
        {.name = "half and closed",
         .lines = LINES("R 220-mx.exa", "close"),
         .want = "over: deferred greeting 421 4.4.2"},
        {.name = "silent", .lines = LINES("late"), .want = "over: deferred greeting 421 4.4.2"},
        {.name = "two greetings",
         .one_way = true,
         .lines = LINES("S 220 mx", "S 220 mx"),
         .want = "over: deferred greeting 451 4.5.0"},
        {.name = "greeting and an EHLO reply that nobody asked for",
         .one_way = true,
         .lines = LINES("S 220 mx", "S 250-mx", "S 250 AUTH PLAIN"),
         .want = "over: deferred greeting 451 4.5.0"},
        {.name = "an EHLO name that would break the line",
         .ehlo_name = "me\r\nMAIL FROM:<x@y.example>",
         .lines = LINES("S 220 mx"),
         .want = "over: deferred greeting 451 4.3.5"},
    };
    play(cases, COUNT_OF(cases));
}

/* T46 */
static void ehlo_falls_back_to_helo(void **state)
{
    (void)state;
    const struct script_case cases[] = {
        {.name = "500",
         .lines = LINES(HELLO, "S 500 what?", "C HELO me.example", "S 250 mx", SENDS_A),
         .want = SENT_A},
        {.name = "502",
         .lines = LINES(HELLO, "S 502 5.5.1 no", "C HELO me.example", "S 250 mx", SENDS_A),
         .want = SENT_A},
        {.name = "HELO refused too",
         .lines = LINES(HELLO, "S 550 no", "C HELO me.example", "S 550 5.7.1 bad name"),
         .want = "over: deferred ehlo 550 5.7.1"},
        {.name = "EHLO deferred",
         .lines = LINES(HELLO, "S 451 4.3.0 later"),
         .want = "over: deferred ehlo 451 4.3.0"},
        {.name = "421", .lines = LINES(HELLO, "S 421 bye"), .want = "over: deferred ehlo 421"},
        {.name = "3yz", .lines = LINES(HELLO, "S 354 go"), .want = "over: deferred ehlo 451 4.5.0"},
        {.name = "closed", .lines = LINES(HELLO, "close"), .want = "over: deferred ehlo 421 4.4.2"},
        {.name = "half a list",
         .lines = LINES(HELLO, "S 250-mx", "R 250-PIPEL", "close"),
         .want = "over: deferred ehlo 421 4.4.2"},
        {.name = "silent", .lines = LINES(HELLO, "late"), .want = "over: deferred ehlo 421 4.4.2"},
        {.name = "the code changes",
         .lines = LINES(HELLO, "S 250-mx", "S 500 no"),
         .want = "over: deferred ehlo 451 4.5.0"},
        {.name = "the refused EHLO offers nothing",
         .lines = LINES(HELLO, "S 550-mx", "S 550 PIPELINING", "C HELO me.example", "S 250-mx",
                        "S 250 PIPELINING", SENDS_A),
         .want = SENT_A},
        {.name = "quit before anything was said",
         .by_hand = true,
         .lines = LINES("quit", "S 220 mx", "C QUIT", "S 221 bye"),
         .want = "over: delivered queue 0"},
        {.name = "closing without an answer to QUIT is orderly",
         .by_hand = true,
         .lines = LINES(HELLO, "S 250 mx", "quit", "C QUIT", "close"),
         .want = "over: delivered queue 0"},
        {.name = "so is silence",
         .by_hand = true,
         .lines = LINES(HELLO, "S 250 mx", "quit", "C QUIT", "late"),
         .want = "over: delivered queue 0"},
    };
    play(cases, COUNT_OF(cases));
}

static void starttls_goes_on_only_after_a_lone_220(void **state)
{
    (void)state;
    const struct script_case cases[] = {
        {.name = "220, and only the EHLO inside TLS counts",
         .starttls = true,
         .pipelining = SMTP_PIPELINING_FULL,
         .lines = LINES(HELLO, TLS_LIST, "C STARTTLS", "S 220 go", "C EHLO me.example", "S 250 mx", SENDS_A),
         .want = "starttls accepted: 220\n" SENT_A},
        {.name = "refused for good: the owner may go on in clear",
         .starttls = true,
         .lines = LINES(HELLO, TLS_LIST, "C STARTTLS", "S 502 5.5.1 no", SENDS_A),
         .want = "starttls refused: 502\n" SENT_A},
        {.name = "refused for now",
         .starttls = true,
         .lines = LINES(HELLO, TLS_LIST, "C STARTTLS", "S 454 4.7.0 not now", SENDS_A),
         .want = "starttls refused: 454\n" SENT_A},
        {.name = "421 is a closing connection, not a refusal",
         .starttls = true,
         .lines = LINES(HELLO, TLS_LIST, "C STARTTLS", "S 421 4.3.2 bye"),
         .want = "starttls unclean: 421\nover: deferred starttls 421 4.3.2"},
        {.name = "any other 2yz",
         .starttls = true,
         .lines = LINES(HELLO, TLS_LIST, "C STARTTLS", "S 250 go"),
         .want = "starttls unclean: 250\nover: deferred starttls 451 4.5.0"},
        {.name = "3yz",
         .starttls = true,
         .lines = LINES(HELLO, TLS_LIST, "C STARTTLS", "S 354 go"),
         .want = "starttls unclean: 354\nover: deferred starttls 451 4.5.0"},
        {.name = "T47: replies injected behind the 220",
         .starttls = true,
         .one_way = true,
         .lines = LINES(HELLO, TLS_LIST, "C STARTTLS", "S 220 go", "S 250-mx", "S 250 AUTH PLAIN"),
         .want = "starttls unclean: 220\nover: deferred starttls 451 4.5.0"},
        {.name = "one octet behind the 220 is enough",
         .starttls = true,
         .one_way = true,
         .lines = LINES(HELLO, TLS_LIST, "C STARTTLS", "S 220 go", "R \n"),
         .want = "starttls unclean: 220\nover: deferred starttls 451 4.5.0"},
        {.name = "octets behind a refusal",
         .starttls = true,
         .one_way = true,
         .lines = LINES(HELLO, TLS_LIST, "C STARTTLS", "S 502 no", "S 250 no"),
         .want = "starttls unclean: 502\nover: deferred starttls 451 4.5.0"},
        {.name = "garbage",
         .starttls = true,
         .lines = LINES(HELLO, TLS_LIST, "C STARTTLS", "S yes"),
         .want = "over: deferred starttls 451 4.5.0"},
        {.name = "closed",
         .starttls = true,
         .lines = LINES(HELLO, TLS_LIST, "C STARTTLS", "close"),
         .want = "over: deferred starttls 421 4.4.2"},
        {.name = "silent",
         .starttls = true,
         .lines = LINES(HELLO, TLS_LIST, "C STARTTLS", "late"),
         .want = "over: deferred starttls 421 4.4.2"},
        {.name = "lost inside TLS before its EHLO",
         .starttls = true,
         .lines = LINES(HELLO, TLS_LIST, "C STARTTLS", "S 220 go", "C EHLO me.example", "close"),
         .want = "starttls accepted: 220\nover: deferred ehlo 421 4.4.2"},
        {.name = "quit while the handshake is the owner's",
         .starttls = true,
         .quits_in_handshake = true,
         .lines = LINES(HELLO, TLS_LIST, "C STARTTLS", "S 220 go"),
         .want = "starttls accepted: 220\nover: delivered queue 0"},
        {.name = "HELO inside TLS",
         .starttls = true,
         .lines = LINES(HELLO, TLS_LIST, "C STARTTLS", "S 220 go", "C EHLO me.example", "S 500 what?",
                        "C HELO me.example", "S 250 mx", SENDS_A),
         .want = "starttls accepted: 220\n" SENT_A},
    };
    play(cases, COUNT_OF(cases));
}

static struct smtp_offer parse_offer(const char *wire)
{
    struct smtp_reply r = {0};
    struct smtp_offer offer;
    struct bytes in = bytes_of(wire);

    assert_int_equal(smtp_reply_parse(&r, &in), SMTP_PARSE_DONE);
    client_offer_parse(&r, &offer);
    smtp_reply_fini(&r);
    return offer;
}

/* T46 */
static void ehlo_keywords_are_read_in_all_their_forms(void **state)
{
    (void)state;
    struct smtp_offer o =
        parse_offer("250-mx.example PIPELINING\r\n250-starttls\r\n250-Chunking\r\n250-8BITMIME\r\n"
                    "250-SIZE 35882577\r\n250-AUTH=LOGIN\r\n250-auth plain\tSCRAM-SHA-256 XOAUTH2\r\n"
                    "250-SmtpUTF8\r\n250-DSN\r\n250-ENHANCEDSTATUSCODES\r\n250-REQUIRETLS\r\n"
                    "250-X-PIPELINING\r\n250-\r\n250 HELP\r\n");
    assert_true(o.ehlo && o.starttls && o.chunking && o.eightbitmime && o.smtputf8 && o.dsn);
    assert_true(o.enhanced_codes && o.requiretls && o.size);
    assert_false(o.pipelining || o.binarymime);
    assert_int_equal(o.size_limit, 35882577);
    assert_true(o.auth_plain && o.auth_login && o.auth_scram_sha256);

    const struct {
        const char *wire;
        bool size;
        uint64_t limit;
    } sizes[] = {
        {"250-mx\r\n250 SIZE\r\n", true, 0},
        {"250-mx\r\n250 SIZE 0\r\n", true, 0},
        {"250-mx\r\n250 SIZE 18446744073709551615\r\n", true, UINT64_MAX},
        {"250-mx\r\n250 SIZE 99999999999999999999\r\n", true, 0}, /* 20 digits, more than 64 bits: no limit */
        {"250-mx\r\n250 SIZE -1\r\n", true, 0},
        {"250-mx\r\n250 SIZE 10x\r\n", true, 0},
        {"250-mx\r\n250 SIZED 10\r\n", false, 0},
        {"250 SIZE 10\r\n", false, 0}, /* the first line is no keyword */
    };
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        o = parse_offer(sizes[i].wire);
        assert_int_equal(o.size, sizes[i].size);
        assert_true(o.size_limit == sizes[i].limit);
    }
    o = parse_offer("250-mx\r\n250-SMTPUTF8\r\n250 BINARYMIME\r\n");
    assert_false(o.smtputf8);   /* not without 8BITMIME */
    assert_false(o.binarymime); /* not without CHUNKING */
    o = parse_offer("250-mx\r\n250 AUTH=PLAIN LOGIN\r\n");
    assert_true(o.auth_plain && o.auth_login);
}

struct tls_log {
    struct smtp_client *c;
    bool offered_after_tls;
};

static void tls_on_ehlo(void *arg, const struct smtp_offer *offer)
{
    struct tls_log *l = arg;

    if (offer->starttls)
        smtp_client_go_starttls(l->c, 1);
}

static void tls_on_starttls(void *arg, bool accepted, bool clean, const struct outcome *reply)
{
    struct tls_log *l = arg;

    (void)clean;
    (void)reply;
    assert_true(accepted);
    smtp_client_tls_done(l->c, 1);
    l->offered_after_tls = smtp_client_offer(l->c)->pipelining || smtp_client_offer(l->c)->starttls;
}

/* T46 */
static void nothing_of_the_clear_ehlo_is_left_after_the_handshake(void **state)
{
    (void)state;
    struct tls_log log = {0};
    struct smtp_client_config config = {.ehlo_name = "me.example",
                                        .events = {.on_ehlo = tls_on_ehlo, .on_starttls = tls_on_starttls},
                                        .arg = &log};

    log.c = smtp_client_create(&config);
    log.offered_after_tls = true;
    smtp_client_connected(log.c, 1);
    smtp_client_receive(log.c, BYTES("220 mx\r\n"), 1);
    smtp_client_receive(log.c, BYTES("250-mx\r\n250-PIPELINING\r\n250 STARTTLS\r\n"), 1);
    smtp_client_receive(log.c, BYTES("220 go\r\n"), 1);
    assert_false(log.offered_after_tls);
    smtp_client_destroy(log.c);
}

#define TENS "0123456789"
#define LONG                                                                                                 \
    TENS TENS TENS TENS TENS TENS TENS TENS TENS TENS TENS TENS TENS TENS TENS TENS TENS TENS TENS TENS
#define LONG_PLAIN                                                                                           \
    "ADAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4"                       \
    "OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4"                       \
    "OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4"                       \
    "OTAxMjM0NTY3ODkwMTIzNDU2Nzg5ADAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3"                       \
    "ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3"                       \
    "ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3"                       \
    "ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5"
#define AUTH_LIST(mechanisms) "S 250-mx", "S 250 AUTH " mechanisms

static void auth_plain_says_it_once_and_stops_when_asked_again(void **state)
{
    (void)state;
    const struct script_case cases[] = {
        {.name = "PLAIN",
         .user = "tim",
         .password = "tanstaaftanstaaf",
         .lines = LINES(HELLO, AUTH_LIST("LOGIN PLAIN"), "C AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm",
                        "S 235 2.7.0 ok", SENDS_A),
         .want = "auth ok: deferred auth 235 2.7.0\n" SENT_A},
        {.name = "PLAIN, the peer wants it in two steps",
         .user = "tim",
         .password = "tanstaaftanstaaf",
         .lines = LINES(HELLO, AUTH_LIST("PLAIN"), "C AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm", "S 334 ",
                        "C AHRpbQB0YW5zdGFhZnRhbnN0YWFm", "S 235 ok", SENDS_A),
         .want = "auth ok: deferred auth 235\n" SENT_A},
        {.name = "PLAIN refused",
         .user = "tim",
         .password = "x",
         .lines = LINES(HELLO, AUTH_LIST("PLAIN"), "C AUTH PLAIN AHRpbQB4", "S 535 5.7.8 no", "C QUIT",
                        "S 221 bye"),
         .want = "auth failed: deferred auth 535 5.7.8\nover: delivered queue 0"},
        {.name = "PLAIN, asked for ever",
         .user = "tim",
         .password = "x",
         .lines = LINES(HELLO, AUTH_LIST("PLAIN"), "C AUTH PLAIN AHRpbQB4", "S 334", "C AHRpbQB4", "S 334",
                        "C *", "S 501 ok", "C QUIT", "S 221 bye"),
         .want = "auth failed: deferred auth 451 4.7.0\nover: delivered queue 0"},
        {.name = "going on after it was cancelled",
         .user = "tim",
         .password = "x",
         .lines = LINES(HELLO, AUTH_LIST("PLAIN"), "C AUTH PLAIN AHRpbQB4", "S 334", "C AHRpbQB4", "S 334",
                        "C *", "S 334"),
         .want = "over: deferred auth 451 4.5.0"},
        {.name = "235 after it was cancelled",
         .user = "tim",
         .password = "x",
         .lines = LINES(HELLO, AUTH_LIST("PLAIN"), "C AUTH PLAIN AHRpbQB4", "S 334", "C AHRpbQB4", "S 334",
                        "C *", "S 235 ok", "C QUIT", "S 221 bye"),
         .want = "auth failed: deferred auth 451 4.7.0\nover: delivered queue 0"},
        {.name = "what does not fit into a command line waits for the 334",
         .user = LONG,
         .password = LONG,
         .lines =
             LINES(HELLO, AUTH_LIST("PLAIN"), "C AUTH PLAIN", "S 334", "C " LONG_PLAIN, "S 235 ok", SENDS_A),
         .want = "auth ok: deferred auth 235\n" SENT_A},
        {.name = "a 2yz that is not 235",
         .user = "tim",
         .password = "x",
         .lines = LINES(HELLO, AUTH_LIST("PLAIN"), "C AUTH PLAIN AHRpbQB4", "S 250 ok"),
         .want = "over: deferred auth 451 4.5.0"},
        {.name = "lost",
         .user = "tim",
         .password = "x",
         .lines = LINES(HELLO, AUTH_LIST("PLAIN"), "C AUTH PLAIN AHRpbQB4", "close"),
         .want = "over: deferred auth 421 4.4.2"},
    };
    play(cases, COUNT_OF(cases));
}

static void auth_login_gives_a_name_a_password_and_nothing_else(void **state)
{
    (void)state;
    const struct script_case cases[] = {
        {.name = "LOGIN",
         .user = "tim",
         .password = "secret",
         .lines = LINES(HELLO, AUTH_LIST("LOGIN"), "C AUTH LOGIN", "S 334 VXNlcm5hbWU6", "C dGlt",
                        "S 334 UGFzc3dvcmQ6", "C c2VjcmV0", "S 235 ok", SENDS_A),
         .want = "auth ok: deferred auth 235\n" SENT_A},
        {.name = "LOGIN, a name refused",
         .user = "tim",
         .password = "secret",
         .lines = LINES(HELLO, AUTH_LIST("LOGIN"), "C AUTH LOGIN", "S 334 VXNlcm5hbWU6", "C dGlt", "S 535 no",
                        "C QUIT", "S 221 bye"),
         .want = "auth failed: deferred auth 535\nover: delivered queue 0"},
        {.name = "LOGIN, asked for more than there is",
         .user = "tim",
         .password = "secret",
         .lines = LINES(HELLO, AUTH_LIST("LOGIN"), "C AUTH LOGIN", "S 334", "C dGlt", "S 334", "C c2VjcmV0",
                        "S 334", "C *", "S 501 ok", "C QUIT", "S 221 bye"),
         .want = "auth failed: deferred auth 451 4.7.0\nover: delivered queue 0"},
        {.name = "two answers to the name",
         .user = "tim",
         .password = "secret",
         .one_way = true,
         .lines =
             LINES(HELLO, AUTH_LIST("LOGIN"), "C AUTH LOGIN", "S 334 VXNlcm5hbWU6", "S 334 UGFzc3dvcmQ6"),
         .want = "over: deferred auth 451 4.5.0"},
    };
    play(cases, COUNT_OF(cases));
}

static void what_cannot_be_used_gets_no_credentials(void **state)
{
    (void)state;
    const struct script_case cases[] = {
        {.name = "SCRAM, a challenge that is no base64",
         .user = "tim",
         .password = "x",
         .one_way = true,
         .lines = LINES(HELLO, AUTH_LIST("SCRAM-SHA-256"), "= 79", "C ", "S 334 !", "C *", "S 501 ok",
                        "C QUIT", "S 221 bye"),
         .want = "auth failed: deferred auth 451 4.7.0\nover: delivered queue 0"},
        {.name = "an empty password is not sent",
         .user = "tim",
         .password = "",
         .lines = LINES(HELLO, AUTH_LIST("PLAIN"), "C QUIT", "S 221 bye"),
         .want = "auth failed: deferred auth 451 4.7.0\nover: delivered queue 0"},
        {.name = "none in common",
         .user = "tim",
         .password = "secret",
         .lines = LINES(HELLO, AUTH_LIST("XOAUTH2 GSSAPI"), "C QUIT", "S 221 bye"),
         .want = "auth failed: deferred auth 451 4.7.0\nover: delivered queue 0"},
        {.name = "not offered",
         .user = "tim",
         .password = "secret",
         .lines = LINES(HELLO, "S 250 mx", "C QUIT", "S 221 bye"),
         .want = "auth failed: deferred auth 451 4.7.0\nover: delivered queue 0"},
    };
    play(cases, COUNT_OF(cases));
}

/* ---- SCRAM, against our own server's half ---- */

struct scram_log {
    struct smtp_client *c;
    int ok; /* -1: not told */
    struct outcome outcome;
};

static void scram_on_ehlo(void *arg, const struct smtp_offer *offer)
{
    struct scram_log *l = arg;

    assert_true(offer->auth_scram_sha256);
    smtp_client_go_auth(l->c, "us,er=", "pencil", 1);
}

static void scram_on_auth(void *arg, bool ok, const struct outcome *reply)
{
    struct scram_log *l = arg;

    l->ok = ok;
    l->outcome = *reply;
}

/* One line of the client, decoded behind `verb`. */
static void take_coded(struct smtp_client *c, const char *verb, struct buf *out)
{
    BUF_LOCAL(said);

    buf_clear(out);
    for (struct bytes s; (s = outq_front(smtp_client_output(c))).len;) {
        buf_put(&said, s);
        outq_consume(smtp_client_output(c), s.len);
    }
    struct bytes line = buf_bytes(&said);
    assert_true(bytes_starts(line, bytes_of(verb)));
    assert_true(line.len >= 2 && memcmp(line.at + line.len - 2, "\r\n", 2) == 0);
    line = bytes_skip(bytes_first(line, line.len - 2), strlen(verb));
    assert_true(base64_decode(line, out));
}

static void say_back(struct smtp_client *c, const char *line)
{
    smtp_client_receive(c, bytes_of(line), 2);
}

static void say_challenge(struct smtp_client *c, struct bytes text)
{
    BUF_LOCAL(line);

    buf_puts(&line, "334 ");
    base64_encode(text, &line);
    buf_puts(&line, "\r\n");
    smtp_client_receive(c, buf_bytes(&line), 2);
}

static struct smtp_client *begin_scram(struct scram_log *log, struct buf *first)
{
    struct smtp_client_config config = {
        .ehlo_name = "me.example",
        .events = {.on_ehlo = scram_on_ehlo, .on_auth = scram_on_auth},
        .arg = log,
    };

    *log = (struct scram_log){.ok = -1};
    log->c = smtp_client_create(&config);
    smtp_client_connected(log->c, 1);
    say_back(log->c, "220 mx\r\n");
    outq_consume(smtp_client_output(log->c), smtp_client_output(log->c)->len);
    say_back(log->c, "250-mx\r\n250 AUTH LOGIN PLAIN SCRAM-SHA-256\r\n");
    take_coded(log->c, "AUTH SCRAM-SHA-256 ", first);
    return log->c;
}

/* How the server misbehaves, and whether the client may call it a success. */
struct scram_row {
    const char *password; /* that the server has */
    bool drop_final;      /* 235 without a signature */
    bool spoil_final;
    bool drop_challenge;   /* 235 at once */
    const char *challenge; /* instead of the right one; %s: the client's nonce */
    bool want;
};

static void play_scram(const struct scram_row *row)
{
    struct scram_log log;
    struct scram_server server;
    struct account account = {.iterations = 4096};
    char user[SCRAM_USER_MAX_BYTES + 1];
    BUF_LOCAL(in);
    BUF_LOCAL(out);
    struct smtp_client *c = begin_scram(&log, &in);

    scram_make(row->password, &account);
    scram_server_init(&server);
    assert_true(scram_server_first(&server, buf_bytes(&in), user));
    assert_string_equal(user, "us,er=");
    scram_server_challenge(&server, user, &account, &out);
    if (row->challenge) {
        struct bytes nonce = bytes_skip(buf_bytes(&in), in.len - 32);
        buf_clear(&out);
        buf_putf(&out, row->challenge, (int)nonce.len, nonce.at);
    }
    if (!row->drop_challenge) {
        say_challenge(c, buf_bytes(&out));
        buf_clear(&out);
        bool said_more = !row->challenge;
        if (said_more) {
            take_coded(c, "", &in);
            bool knows = scram_server_final(&server, buf_bytes(&in), &out);
            assert_int_equal(knows, strcmp(row->password, "pencil") == 0);
            if (!knows)
                buf_puts(&out, "e=invalid-proof");
            if (row->spoil_final)
                out.at[5] = out.at[5] == 'A' ? 'B' : 'A';
            if (!row->drop_final)
                say_challenge(c, buf_bytes(&out));
        }
    }
    struct bytes last = outq_front(smtp_client_output(c));
    if (row->want) {
        assert_true(bytes_eq(last, BYTES("\r\n"))); /* an empty response */
    } else if (!row->drop_final && !row->drop_challenge) {
        assert_true(bytes_eq(last, BYTES("*\r\n")));
        say_back(c, "501 5.7.0 cancelled\r\n");
    }
    if (log.ok < 0)
        say_back(c, "235 2.7.0 welcome\r\n");
    assert_int_equal(log.ok, row->want);
    if (!row->want)
        assert_string_equal(log.outcome.enhanced, "4.7.0");
    assert_int_equal(smtp_client_is_idle(c), row->want);
    scram_server_fini(&server);
    smtp_client_destroy(c);
}

static void scram_succeeds_only_when_both_sides_know_the_password(void **state)
{
    (void)state;
    static const struct scram_row rows[] = {
        {.password = "pencil", .want = true},
        {.password = "pencils"},
        {.password = "pencil", .spoil_final = true},
        {.password = "pencil", .drop_final = true},
        {.password = "pencil", .drop_challenge = true},
        {.password = "pencil",
         .challenge = "r=%.*s,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"}, /* adds nothing to the nonce */
        {.password = "pencil", .challenge = "r=x%.*s,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"},
        {.password = "pencil", .challenge = "r=%.*sx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=1"},
        {.password = "pencil", .challenge = "r=%.*sx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=99999999"},
        {.password = "pencil", .challenge = "r=%.*sx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4294971392"},
        {.password = "pencil", .challenge = "r=%.*sx,s=!!!,i=4096"},
        {.password = "pencil", .challenge = "m=ext,r=%.*sx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"},
        {.password = "pencil", .challenge = "r=%.*sx"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        play_scram(&rows[i]);
}

/* RFC 7677 §3 */
static void scram_computes_the_example_of_its_rfc(void **state)
{
    (void)state;
    struct scram_client s;
    BUF_LOCAL(out);

    scram_client_init(&s, BYTES("rOprNGfwEbeRWgbNEkqO"));
    scram_client_first(&s, "user", &out);
    assert_string_equal(buf_str(&out), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
    buf_clear(&out);
    assert_null(scram_client_final(&s, "pencil",
                                   BYTES("r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
                                         "s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"),
                                   &out));
    assert_string_equal(buf_str(&out), "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
                                       "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
    assert_non_null(scram_client_prove(&s, BYTES("v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")));
    assert_false(s.proved);
    assert_null(scram_client_prove(&s, BYTES("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")));
    assert_true(s.proved);
    scram_client_fini(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_refused_greeting_defers_whatever_its_class),
        cmocka_unit_test(ehlo_falls_back_to_helo),
        cmocka_unit_test(starttls_goes_on_only_after_a_lone_220),
        cmocka_unit_test(nothing_of_the_clear_ehlo_is_left_after_the_handshake),
        cmocka_unit_test(ehlo_keywords_are_read_in_all_their_forms),
        cmocka_unit_test(auth_plain_says_it_once_and_stops_when_asked_again),
        cmocka_unit_test(auth_login_gives_a_name_a_password_and_nothing_else),
        cmocka_unit_test(what_cannot_be_used_gets_no_credentials),
        cmocka_unit_test(scram_succeeds_only_when_both_sides_know_the_password),
        cmocka_unit_test(scram_computes_the_example_of_its_rfc),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
