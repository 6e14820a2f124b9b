/* SCRAM-SHA-256 over the wire; the client here is written from RFC 5802 on its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdlib.h>

#include "base/base64.h"
#include "tests/unit/engine/smtp/play.h"

static void say_base64(struct play *p, const char *before, const char *text)
{
    BUF_LOCAL(line);

    buf_puts(&line, before);
    base64_encode(bytes_of(text), &line);
    buf_puts(&line, "\r\n");
    play_say(p, buf_bytes(&line));
}

/* The text of a 334 reply. */
static char *challenge(struct play *p)
{
    static char text[1000];
    const char *heard = play_hear(p);
    BUF_LOCAL(out);

    assert_memory_equal(heard, "334 ", 4);
    assert_true(base64_decode(bytes_make(heard + 4, strlen(heard) - 6), &out));
    memcpy(text, buf_str(&out), out.len + 1);
    return text;
}

/* The client-final message for `password`. */
static void make_final(const char *first_bare, const char *server_first, const char *password,
                       const char *binding, struct buf *out)
{
    uint8_t salted[32], client_key[32], stored[32], signature[32];
    BUF_LOCAL(salt);
    BUF_LOCAL(message);
    const char *s = strstr(server_first, ",s=") + 3;
    const char *i = strstr(server_first, ",i=");

    assert_true(base64_decode(bytes_make(s, (size_t)(i - s)), &salt));
    gnutls_datum_t key = {(unsigned char *)(uintptr_t)password, (unsigned)strlen(password)};
    gnutls_datum_t salt_datum = {(unsigned char *)salt.at, (unsigned)salt.len};
    assert_int_equal(gnutls_pbkdf2(GNUTLS_MAC_SHA256, &key, &salt_datum, (unsigned)atoi(i + 3), salted, 32),
                     0);
    gnutls_hmac_fast(GNUTLS_MAC_SHA256, salted, 32, "Client Key", 10, client_key);
    gnutls_hash_fast(GNUTLS_DIG_SHA256, client_key, 32, stored);
    buf_putf(out, "c=%s,%.*s", binding, (int)(s - 3 - server_first), server_first);
    buf_putf(&message, "%s,%s,%s", first_bare, server_first, buf_str(out));
    gnutls_hmac_fast(GNUTLS_MAC_SHA256, stored, 32, message.at, message.len, signature);
    for (size_t n = 0; n < 32; n++)
        client_key[n] ^= signature[n];
    buf_puts(out, ",p=");
    base64_encode(bytes_make(client_key, 32), out);
}

/* True when the last reply is `code`. */
static bool try_scram_bound(struct play *p, const char *user, const char *password, const char *binding,
                            const char *code)
{
    BUF_LOCAL(first);
    BUF_LOCAL(final);

    buf_putf(&first, "n,,n=%s,r=fyko+d2lbbFgONRv9qkxdawL", user);
    say_base64(p, "AUTH SCRAM-SHA-256 ", buf_str(&first));
    make_final(buf_str(&first) + 3, challenge(p), password, binding, &final);
    say_base64(p, "", buf_str(&final));
    if (strncmp(code, "235", 3) == 0) {
        assert_memory_equal(challenge(p), "v=", 2);
        play_says(p, "\r\n");
    }
    return strncmp(play_hear(p), code, strlen(code)) == 0;
}

static bool try_scram(struct play *p, const char *user, const char *password, const char *code)
{
    return try_scram_bound(p, user, password, "biws", code); /* "n,," */
}

static void begin(struct play *p)
{
    play_prepare(p);
    play_begin(p);
    play_says(p, "EHLO c.example\r\n");
    play_hear(p);
}

static void the_right_password_gets_in_and_no_other(void **state)
{
    struct play p;

    (void)state;
    begin(&p);
    assert_true(try_scram(&p, "alice", "wrong", "535 5.7.8 Authentication credentials invalid\r\n"));
    assert_true(try_scram(&p, "nobody", "wonderland", "535 5.7.8 Authentication credentials invalid\r\n"));
    assert_null(smtp_server_account(p.server));
    assert_int_equal(p.auth_bad, 2);
    assert_true(try_scram(&p, "alice", "wonderland", "235 2.7.0"));
    assert_string_equal(smtp_server_account(p.server), "alice");
    assert_int_equal(p.auth_good, 1);
    assert_int_equal(p.checks, 0); /* no password was seen */
    play_end(&p);
}

/* A client that said "y" and hears "n" from somebody on the way: the proof is right, the header is not. */
static void a_changed_gs2_header_is_refused(void **state)
{
    struct play p;

    (void)state;
    begin(&p);
    assert_true(try_scram_bound(&p, "alice", "wonderland", "eSws", "535 5.7.8"));
    assert_true(try_scram_bound(&p, "alice", "wonderland", "", "535 5.7.8"));
    play_end(&p);
}

static void a_disabled_account_looks_like_none(void **state)
{
    struct play p;

    (void)state;
    begin(&p);
    p.account.disabled = true;
    assert_true(try_scram(&p, "alice", "wonderland", "535 5.7.8"));
    play_end(&p);
}

static void a_broken_exchange_leaves_nothing_to_go_on_with(void **state)
{
    struct play p;

    (void)state;
    begin(&p);
    say_base64(&p, "AUTH SCRAM-SHA-256 ", "n,,n=alice,r=abc");
    challenge(&p);
    play_says(&p, "*\r\n");
    assert_memory_equal(play_hear(&p), "501 5.7.0", 9);
    say_base64(&p, "", "c=biws,r=abc,p=AAAA"); /* nobody asked any more */
    assert_memory_equal(play_hear(&p), "500 5.5.1", 9);
    say_base64(&p, "AUTH SCRAM-SHA-256 ", "p=tls-unique,,n=alice,r=abc");
    assert_memory_equal(play_hear(&p), "501 5.5.2", 9);
    play_says(&p, "AUTH SCRAM-SHA-256\r\n");
    assert_string_equal(play_hear(&p), "334 \r\n");
    say_base64(&p, "", "n,,n=alice,r=abc");
    challenge(&p);
    say_base64(&p, "", "");
    assert_memory_equal(play_hear(&p), "535 5.7.8", 9);
    assert_true(try_scram(&p, "alice", "wonderland", "235 2.7.0"));
    play_end(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_right_password_gets_in_and_no_other),
        cmocka_unit_test(a_changed_gs2_header_is_refused),
        cmocka_unit_test(a_disabled_account_looks_like_none),
        cmocka_unit_test(a_broken_exchange_leaves_nothing_to_go_on_with),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
