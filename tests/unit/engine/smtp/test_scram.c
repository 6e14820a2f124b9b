#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/base64.h"
#include "base/mem.h"
#include "engine/smtp/scram.h"
#include "engine/smtp/server.h"

/* RFC 7677 §3 */
#define CLIENT_FIRST "n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
#define SERVER_NONCE "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
#define NONCE        "rOprNGfwEbeRWgbNEkqO" SERVER_NONCE
#define SERVER_FIRST "r=" NONCE ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
#define PROOF        "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
#define CLIENT_FINAL "c=biws,r=" NONCE ",p=" PROOF
#define SERVER_FINAL "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="

static struct account rfc_account(void)
{
    struct account a = {.iterations = 4096};
    uint8_t salted[SCRAM_KEY_BYTES];
    BUF_LOCAL(salt);

    assert_true(base64_decode(BYTES("W22ZaJ0SNY7soEsUEjb6gQ=="), &salt));
    memcpy(a.salt, salt.at, sizeof(a.salt));
    scram_salted_password("pencil", a.salt, sizeof(a.salt), a.iterations, salted);
    scram_keys(salted, a.stored_key, a.server_key);
    return a;
}

/* As far as the client-final message; the RFC's server nonce is longer than ours, so it is put where it is
 * used. */
static void begin(struct scram_server *s, const struct account *account)
{
    char user[SCRAM_USER_MAX_BYTES + 1];
    BUF_LOCAL(first);

    scram_server_init(s);
    assert_true(scram_server_first(s, BYTES(CLIENT_FIRST), user));
    assert_string_equal(user, "user");
    buf_clear(&s->full_nonce);
    buf_puts(&s->full_nonce, NONCE);
    scram_server_challenge(s, user, account, &first);
    if (account)
        assert_string_equal(buf_str(&first), SERVER_FIRST);
}

static void the_exchange_of_rfc_7677_comes_out_as_printed(void **state)
{
    struct account account = rfc_account();
    struct scram_server s;
    BUF_LOCAL(final);

    (void)state;
    begin(&s, &account);
    assert_true(scram_server_final(&s, BYTES(CLIENT_FINAL), &final));
    assert_string_equal(buf_str(&final), SERVER_FINAL);
    scram_server_fini(&s);
    assert_true(scram_check_password(&account, "pencil"));
    assert_false(scram_check_password(&account, "pencils"));
}

static void anything_changed_on_the_way_fails(void **state)
{
    static const char *const finals[] = {
        "c=biws,r=" NONCE ",p=eHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", /* proof */
        "c=eSws,r=" NONCE ",p=" PROOF,                                       /* GS2 header */
        "c=biws,r=" NONCE "x,p=" PROOF,                                      /* nonce */
        "c=biws,r=rOprNGfwEbeRWgbNEkqO,p=" PROOF,
        "c=biws,r=" NONCE ",x=y,p=" PROOF,
        "c=biws,r=" NONCE ",p=",
        "c=biws,r=" NONCE ",p=AAAA",
        "c=biws,r=" NONCE,
        "c=biws,r=" NONCE ",p=" PROOF ",x=y",
        "r=" NONCE ",c=biws,p=" PROOF,
        "c=biws",
        "",
    };
    struct account account = rfc_account();

    (void)state;
    for (size_t i = 0; i < COUNT_OF(finals); i++) {
        struct scram_server s;
        BUF_LOCAL(final);
        begin(&s, &account);
        assert_false(scram_server_final(&s, bytes_of(finals[i]), &final));
        assert_int_equal(final.len, 0);
        scram_server_fini(&s);
    }
}

static void client_first_messages_are_checked(void **state)
{
    static const struct {
        const char *message, *user; /* NULL: refused */
    } cases[] = {
        {"n,,n=user,r=abc", "user"},
        {"y,,n=user,r=abc", "user"},
        {"n,a=user,n=user,r=abc", "user"},
        {"n,,n=a=2Cb=3Dc,r=abc", "a,b=c"},
        {"n,,n=user,r=abc,x=later", "user"},
        {"p=tls-unique,,n=user,r=abc", NULL},
        {"n,a=other,n=user,r=abc", NULL},
        {"n,,m=x,n=user,r=abc", NULL},
        {"n,,n=,r=abc", NULL},
        {"n,,n=a=2,r=abc", NULL},
        {"n,,n=a=20,r=abc", NULL},
        {"n,,n=user,r=", NULL},
        {"n,,n=user", NULL},
        {"n,,r=abc,n=user", NULL},
        {"n,,n=user,r=a\x01", NULL},
        {"n,", NULL},
        {"n", NULL},
        {"", NULL},
        {"x,,n=user,r=abc", NULL},
        {"n,x,n=user,r=abc", NULL},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct scram_server s;
        char user[SCRAM_USER_MAX_BYTES + 1] = "";
        scram_server_init(&s);
        bool ok = scram_server_first(&s, bytes_of(cases[i].message), user);
        assert_int_equal(ok, cases[i].user != NULL);
        if (ok)
            assert_string_equal(user, cases[i].user);
        scram_server_fini(&s);
    }
}

/* The server-first message for `user`, without its nonce. */
static void challenge_of(const char *user, struct buf *out)
{
    struct scram_server s;
    char got[SCRAM_USER_MAX_BYTES + 1];
    BUF_LOCAL(message);
    BUF_LOCAL(first);

    buf_putf(&message, "n,,n=%s,r=abc", user);
    scram_server_init(&s);
    assert_true(scram_server_first(&s, buf_bytes(&message), got));
    scram_server_challenge(&s, got, NULL, &first);
    buf_puts(out, strchr(buf_str(&first), ','));
    scram_server_fini(&s);
}

static void an_unknown_user_gets_a_steady_salt_and_no_way_in(void **state)
{
    BUF_LOCAL(once);
    BUF_LOCAL(again);
    BUF_LOCAL(other);
    struct scram_server s;
    BUF_LOCAL(final);

    (void)state;
    challenge_of("nobody", &once);
    challenge_of("nobody", &again);
    challenge_of("somebody", &other);
    assert_string_equal(buf_str(&once), buf_str(&again));
    assert_string_not_equal(buf_str(&once), buf_str(&other));
    assert_non_null(strstr(buf_str(&once), ",i=4096"));
    begin(&s, NULL);
    assert_false(scram_server_final(&s, BYTES(CLIENT_FINAL), &final));
    scram_server_fini(&s);
}

static void a_new_password_gets_its_own_salt(void **state)
{
    struct account a = {0}, b = {.iterations = 10000};

    (void)state;
    scram_make("p\xc3\xa4ssw\xc3\xb6rd", &a);
    scram_make("p\xc3\xa4ssw\xc3\xb6rd", &b);
    assert_int_equal(a.iterations, 4096);
    assert_int_equal(b.iterations, 10000);
    assert_memory_not_equal(a.salt, b.salt, sizeof(a.salt));
    assert_true(scram_check_password(&a, "p\xc3\xa4ssw\xc3\xb6rd"));
    assert_true(scram_check_password(&b, "pa\xcc\x88ssw\xc3\xb6rd")); /* the same, not composed */
    assert_false(scram_check_password(&a, ""));
    assert_false(scram_check_password(&a, "\xff\xfe"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_exchange_of_rfc_7677_comes_out_as_printed),
        cmocka_unit_test(anything_changed_on_the_way_fails),
        cmocka_unit_test(client_first_messages_are_checked),
        cmocka_unit_test(an_unknown_user_gets_a_steady_salt_and_no_way_in),
        cmocka_unit_test(a_new_password_gets_its_own_salt),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
