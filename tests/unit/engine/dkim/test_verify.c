/* The message of RFC 8463 appendix A.3, which others signed, and what becomes of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#include "base/mem.h"
#include "engine/dkim/verify.h"

#define ED25519_RECORD "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
#define RSA_P                                                                                                \
    "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/"  \
    "byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+" \
    "l/K4w3QIDAQAB"
#define RSA_RECORD "v=DKIM1; k=rsa; p=" RSA_P
#define HEAD                                                                                                 \
    "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n"                                          \
    " d=football.example.com; i=@football.example.com;\r\n"                                                  \
    " q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n"                                                \
    " subject : date : message-id : from : subject : date;\r\n"                                              \
    " bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n"                                                  \
    " b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus\r\n"                                        \
    " Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==\r\n"                                                                  \
    "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;\r\n"                                              \
    " d=football.example.com; i=@football.example.com;\r\n"                                                  \
    " q=dns/txt; s=test; t=1528637909; h=from : to : subject :\r\n"                                          \
    " date : message-id : from : subject : date;\r\n"                                                        \
    " bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n"                                                  \
    " b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3\r\n"                                        \
    " DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz\r\n"                                        \
    " dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=\r\n"
#define FIELDS                                                                                               \
    "From: Joe SixPack <joe@football.example.com>\r\n"                                                       \
    "To: Suzie Q <suzie@shopping.example.net>\r\n"                                                           \
    "Subject: Is dinner ready?\r\n"                                                                          \
    "Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n"                                                        \
    "Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n"
#define BODY "Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n"

/* What the nth signature of the message comes to with this record; "" for none wrong. */
static const char *judged(const char *message, size_t nth, const char *record, int64_t now)
{
    struct bytes fields[DKIM_CHECKED_MAX], text = bytes_of(record);
    struct arena arena = {0};
    struct dkim_signature s;
    const char *why = NULL;

    assert_true(dkim_signatures_find(bytes_of(message), fields) > nth);
    if (dkim_signature_parse(fields[nth], &arena, &s, &why) == OK) {
        assert_string_equal(s.domain, "football.example.com");
        why = dkim_signature_check(&s, bytes_of(message), &text, record ? 1 : 0, BYTES("tlsrpt"), now);
    }
    arena_fini(&arena);
    return why ? why : "";
}

static void what_others_signed_holds_and_what_was_changed_does_not(void **state)
{
    static const struct {
        const char *message, *record, *want;
        size_t nth;
    } rows[] = {
        {HEAD FIELDS "\r\n" BODY, ED25519_RECORD, "", 0},
        {HEAD FIELDS "\r\n" BODY, RSA_RECORD, "", 1},
        {HEAD FIELDS "\r\n" BODY, "k=rsa; s=email; h=sha1:sha256; p=" RSA_P, "", 1},
        {HEAD FIELDS "\r\n" BODY, "s=tlsrpt; p=" RSA_P, "", 1},
        {"Received: from a by b; today\r\n" HEAD FIELDS "\r\n" BODY, RSA_RECORD, "", 1},
        {HEAD FIELDS "\r\n" BODY "\r\n\r\n", ED25519_RECORD, "", 0}, /* relaxed: empty lines at the end */
        {HEAD FIELDS "\r\nHi.\r\n", ED25519_RECORD, "the body was changed", 0},
        {HEAD FIELDS "From: Mallory <m@football.example.com>\r\n\r\n" BODY, ED25519_RECORD,
         "header fields were changed, or its key is another", 0}, /* From is signed twice */
        {HEAD "Subject: no\r\n" FIELDS "\r\n" BODY, RSA_RECORD,
         "header fields were changed, or its key is another", 1},
        {HEAD FIELDS "X-Other: not signed\r\n\r\n" BODY, ED25519_RECORD, "", 0},
        {HEAD FIELDS "\r\n" BODY, RSA_RECORD, "its key is of another kind", 0},
        {HEAD FIELDS "\r\n" BODY, NULL, "there is no key for it in DNS", 0},
        {HEAD FIELDS "\r\n" BODY, "v=DKIM1; p=", "its key was revoked", 1},
        {HEAD FIELDS "\r\n" BODY, "v=DKIM1; t=y; p=" RSA_P, "its key is being tested only", 1},
        {HEAD FIELDS "\r\n" BODY, "v=DKIM1; h=sha1; p=" RSA_P, "its key is not for sha256", 1},
        {HEAD FIELDS "\r\n" BODY, "v=DKIM1; s=other; p=" RSA_P, "its key is for another service", 1},
        {HEAD FIELDS "\r\n" BODY, "v=DKIM1; p=AAAA", "its key cannot be used", 1},
        {HEAD FIELDS "\r\n" BODY, "nonsense", "the record of its key is malformed", 1},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        const char *said = judged(rows[i].message, rows[i].nth, rows[i].record, 1528637910);
        if (strcmp(said, rows[i].want) != 0)
            fail_msg("row %zu: %s", i, said);
    }
}

static void what_a_signature_lacks_is_named(void **state)
{
    static const struct {
        const char *field, *want;
    } rows[] = {
        {"v=1; a=rsa-sha256; d=a.test; s=s; h=from; bh=; b=AAAA", ""},
        {"v=1; a=rsa-sha256; c=simple; d=a.test; i=x@b.a.test; s=s; h=From:To; x=99; bh=AAAA; b=AA AA; z=?;",
         ""},
        {"v=1; a=rsa-sha256; d=a.test; s=s; h=from; bh=", "a tag that must be there is missing"},
        {"v=2; a=rsa-sha256; d=a.test; s=s; h=from; bh=; b=AAAA", "its version is not 1"},
        {"v=1; a=rsa-sha1; d=a.test; s=s; h=from; bh=; b=AAAA", "its algorithm is not taken"},
        {"v=1; a=rsa-sha256; d=a.test; s=s; h=from; l=10; bh=; b=AAAA",
         "l= leaves a part of the body unsigned"},
        {"v=1; a=rsa-sha256; d=a.test; s=s; h=to:subject; bh=; b=AAAA", "From is not signed"},
        {"v=1; a=rsa-sha256; d=a.test; s=s; h=from; bh=; b=", "b= or bh= is not base64"},
        {"v=1; a=rsa-sha256; d=a.test; s=s; h=from; bh=?; b=AAAA", "b= or bh= is not base64"},
        {"v=1; a=rsa-sha256; d=a..test; s=s; h=from; bh=; b=AAAA", "d= is no domain"},
        {"v=1; a=rsa-sha256; d=a.test; s=.; h=from; bh=; b=AAAA", "s= is no selector"},
        {"v=1; a=rsa-sha256; d=a.test; i=@b.test; s=s; h=from; bh=; b=AAAA", "i= is not of the domain in d="},
        {"v=1; a=rsa-sha256; c=strict; d=a.test; s=s; h=from; bh=; b=AAAA",
         "its canonicalization is not known here"},
        {"v=1; v=1; a=rsa-sha256; d=a.test; s=s; h=from; bh=; b=AAAA", "a tag stands twice"},
        {"v=1; x=soon; a=rsa-sha256; d=a.test; s=s; h=from; bh=; b=AAAA", "x= is no time"},
        {"some words", "it is not a list of tags"},
        {"", "a tag that must be there is missing"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct arena arena = {0};
        struct dkim_signature s;
        const char *why = NULL;
        BUF_LOCAL(field);
        buf_putf(&field, "DKIM-Signature: %s\r\n", rows[i].field);
        enum err e = dkim_signature_parse(buf_bytes(&field), &arena, &s, &why);
        if ((e == OK) != !*rows[i].want || strcmp(why ? why : "", rows[i].want) != 0)
            fail_msg("%s: %s", rows[i].field, why ? why : "good");
        arena_fini(&arena);
    }
}

static void an_expired_signature_does_not_hold(void **state)
{
    static const char message[] =
        "DKIM-Signature: v=1; a=rsa-sha256; d=football.example.com; s=s; h=from; x=100; bh=AAAA; b=AAAA\r\n"
        "From: a@football.example.com\r\n\r\nHi\r\n";

    (void)state;
    assert_string_equal(judged(message, 0, RSA_RECORD, 101), "it has expired");
    assert_string_equal(judged(message, 0, RSA_RECORD, 100), "the body was changed");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_others_signed_holds_and_what_was_changed_does_not),
        cmocka_unit_test(what_a_signature_lacks_is_named),
        cmocka_unit_test(an_expired_signature_does_not_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
