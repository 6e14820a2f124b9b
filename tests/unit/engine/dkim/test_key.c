#include "engine/dkim/key.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/base64.h"
#include "base/mem.h"
#include "engine/dkim/canon.h"
#include "tests/unit/engine/dkim/verify.h"

/* RFC 8463 appendix A.1, in the form of RFC 8410. */
static const char rfc8463_key[] = "-----BEGIN PRIVATE KEY-----\n"
                                  "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n"
                                  "-----END PRIVATE KEY-----\n";
/* Appendix A.3; the order is that of h=. */
static const char *const rfc8463_fields[] = {
    "From: Joe SixPack <joe@football.example.com>\r\n",
    "To: Suzie Q <suzie@shopping.example.net>\r\n",
    "Subject: Is dinner ready?\r\n",
    "Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n",
    "Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n",
};
static const char rfc8463_body[] = "Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n\r\n";
static const char rfc8463_signature[] = "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n"
                                        " d=football.example.com; i=@football.example.com;\r\n"
                                        " q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n"
                                        " subject : date : message-id : from : subject : date;\r\n"
                                        " bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n"
                                        " b=";

static void hash_run(void *hash, struct bytes run)
{
    sha256_put(hash, run);
}

static void rfc8463_appendix_a_is_made_to_the_octet(void **state)
{
    unsigned char digest[SHA256_BYTES], signature[DKIM_SIGNATURE_MAX];
    struct sha256 *hash = sha256_create();
    struct dkim_canon_body c = {0};
    struct dkim_key *k = NULL;
    const char *why = NULL;
    BUF_LOCAL(text);
    BUF_LOCAL(base64);
    (void)state;

    dkim_canon_body_put(&c, bytes_of(rfc8463_body), hash_run, hash);
    dkim_canon_body_end(&c, hash_run, hash);
    sha256_finish(hash, digest);
    base64_encode(bytes_make(digest, sizeof(digest)), &base64);
    assert_string_equal(buf_str(&base64), "2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=");

    for (size_t i = 0; i < COUNT_OF(rfc8463_fields); i++)
        dkim_canon_field(bytes_of(rfc8463_fields[i]), true, &text);
    dkim_canon_field(bytes_of(rfc8463_signature), false, &text);
    sha256_put(hash, buf_bytes(&text));
    sha256_finish(hash, digest);
    sha256_destroy(hash);
    assert_int_equal(dkim_key_parse(bytes_of(rfc8463_key), &k, &why), OK);
    assert_int_equal(dkim_key_algorithm(k), DKIM_ED25519);
    assert_int_equal(dkim_key_signature_bytes(k), 64);
    assert_int_equal(dkim_key_sign(k, digest, signature), OK);
    buf_clear(&base64);
    base64_encode(bytes_make(signature, 64), &base64);
    assert_string_equal(buf_str(&base64), "/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus"
                                          "Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==");
    buf_clear(&text);
    dkim_key_public(k, &text);
    buf_clear(&base64);
    base64_encode(buf_bytes(&text), &base64);
    assert_string_equal(buf_str(&base64), "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=");
    dkim_key_destroy(k);
}

static void new_keys_sign_what_another_library_verifies(void **state)
{
    (void)state;
    for (int a = 0; a < DKIM_ALGORITHMS; a++) {
        unsigned char digest[SHA256_BYTES], signature[DKIM_SIGNATURE_MAX];
        struct dkim_key *k = NULL;
        const char *why = NULL;
        BUF_LOCAL(pem);
        assert_int_equal(dkim_key_generate((enum dkim_algorithm)a, &pem), OK);
        assert_true(bytes_starts(buf_bytes(&pem), BYTES("-----BEGIN PRIVATE KEY-----\n")));
        assert_int_equal(dkim_key_parse(buf_bytes(&pem), &k, &why), OK);
        assert_int_equal(dkim_key_algorithm(k), a);
        assert_int_equal(dkim_key_bits(k), a == DKIM_RSA ? 2048 : 256);
        memset(digest, a + 1, sizeof(digest));
        assert_int_equal(dkim_key_sign(k, digest, signature), OK);
        struct bytes made = bytes_make(signature, dkim_key_signature_bytes(k));
        assert_true(verify_digest(k, digest, made));
        digest[7] ^= 1;
        assert_false(verify_digest(k, digest, made));
        dkim_key_destroy(k);
    }
}

static const struct {
    const char *pem, *why;
} unfit[] = {
    {"", "holds no private key"},
    {"hello\n", "holds no private key"},
    {"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "holds no private key"},
    {"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n",
     "holds no private key"}, /* its end is missing */
    {"-----BEGIN PRIVATE KEY-----\n"
     "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgboWCwb00btu2WnGW\n"
     "K2sMw8t464W22BF6lK1BdpklnNOhRANCAAQ3dY7nkzRcOQwKh9T48cp/zPDW/wUY\n"
     "YuvCx3bNG1w2gvHkpMyzJ6L5vovS7hFwyLOs85kfROGJ2OvMhmW+nAO1\n"
     "-----END PRIVATE KEY-----\n",
     "neither RSA nor Ed25519"},
    {"-----BEGIN PRIVATE KEY-----\n"
     "MIICdgIBADANBgkqhkiG9w0BAQEFAASCAmAwggJcAgEAAoGBAM9+bQVi2/Zp5GVS\n"
     "P3kfrDduDFPul6PdXtCHtLkYrAv+JL+g7gzq+/sQNq8UROOeVbrcjCB0XWY+RUzS\n"
     "RZXPEfM/WURuzWeRmk7AX2N+EHxN7Ufxgp726rOxGPRT/42OQWAPJpaOwyGbsqza\n"
     "iRf25rVSHZKQWvM/NMK/4rQF1XP3AgMBAAECgYAgYrY3cf+tDUgVvGmlyRjDKg0I\n"
     "iKPocqPa3mOJxF0OHiO0OTUOlRqxTA2M9BfwgwUUflnsstzlGXENlYBA6qn9Smn3\n"
     "oA00j02CoWNAKGU+xPPAwxS+1TjCFeWICvujK1NseRnzF4S0XQ1p/aJd87jke5KN\n"
     "HvEmVzLiM6+PVCpI+QJBAPLBdEbIn80uqCJPRQuYVmseldOSex+K7DLjc69XVck9\n"
     "TWV7sfZGW1FlLHrcvXPCpikfVC17JR3GjoQNZ0lJMHMCQQDa0HkWWpt0+8Hfz8Lb\n"
     "jBC1UgtEUQvXYmY/RqW+xKUDSwEOQ9o5Cjq/FXCuP6wSmU4XUsRkkb1A9XB1jRjJ\n"
     "nyFtAkAUBUpusAsl4+wv8DO0khrGeN5IdbM71bxHMiUPV/eWQj0I2pvBwOm1G9AA\n"
     "TgY97ta/W3sYySg1fXOxhl13WNbrAkB6Igq0M3a54RvhtLFqoc9hpZ2sUCBv4/h2\n"
     "MRSqWlBQejjooW7Yj6EirvDqEZgV+YPg+M2t5Lrh2x0eP9cqEqwxAkEAwMeQEYKd\n"
     "2YZrAmokfP2Uf/ZcZY+J0seWKiGJf27tWpbARXONkcJHC3wBN7FosAMt3SEPZ+jy\n"
     "mGL5+NzL28iv4Q==\n"
     "-----END PRIVATE KEY-----\n",
     "less than 2048 bits"},
    {"-----BEGIN ENCRYPTED PRIVATE KEY-----\n"
     "MIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAic9AKr7fKo9gICCAAw\n"
     "DAYIKoZIhvcNAgkFADAdBglghkgBZQMEAQIEEC+LRYPgL7FsQCqa6862sQEEQPMs\n"
     "Tng6qui8kVS93Q+cDV99QO/giHWz5utdizbDw7kN9wETqTLJvVYSKAYEZhQ9XfG5\n"
     "DDJVM9fTTpLsC0tSVhU=\n"
     "-----END ENCRYPTED PRIVATE KEY-----\n",
     "is encrypted"},
};

static void what_is_no_key_for_dkim_is_refused_with_a_reason(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(unfit); i++) {
        struct dkim_key *k = NULL;
        const char *why = NULL;
        assert_int_equal(dkim_key_parse(bytes_of(unfit[i].pem), &k, &why), ERR_INVALID);
        if (!strstr(why, unfit[i].why))
            fail_msg("%s, not %s", why, unfit[i].why);
        assert_null(k);
    }
}

static char *dir_new(void)
{
    char dir[] = "/tmp/hayauma-key-XXXXXX";

    assert_non_null(mkdtemp(dir));
    return mem_strdup(dir);
}

static void key_files_are_read_only_when_nobody_else_may_read_them(void **state)
{
    static const struct {
        mode_t mode;
        bool fine;
    } rows[] = {{0600, true},  {0400, true},  {0640, false}, {0604, false},
                {0644, false}, {0660, false}, {0601, false}};
    char *dir = dir_new(), *path = make_key_file(dir, "k", DKIM_ED25519, NULL), *why = NULL;
    struct stat st;
    (void)state;

    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct dkim_key *k = NULL;
        why = NULL;
        assert_int_equal(chmod(path, rows[i].mode), 0);
        enum err e = dkim_key_read(path, &k, &why);
        assert_int_equal(e == OK, rows[i].fine);
        if (e) {
            assert_non_null(strstr(why, path));
            assert_non_null(strstr(why, "chmod 600"));
        }
        dkim_key_destroy(k);
        mem_free(why);
    }
    unlink(path);
    mem_free(path);
    rmdir(dir);
    mem_free(dir);
}

static void a_key_is_never_written_over(void **state)
{
    char *dir = dir_new(), *path = make_key_file(dir, "k", DKIM_ED25519, NULL), *why = NULL;
    struct dkim_key *k = NULL;
    (void)state;

    assert_int_equal(dkim_key_write(path, BYTES("other"), &why), ERR_EXISTS);
    assert_non_null(strstr(why, path));
    mem_free(why);
    why = NULL;
    assert_int_equal(dkim_key_read(path, &k, &why), OK);
    dkim_key_destroy(k);
    unlink(path);
    assert_int_equal(dkim_key_read(path, &k, &why), ERR_NOT_FOUND);
    mem_free(why);
    why = NULL;
    assert_int_equal(mkfifo(path, 0600), 0); /* must not make us wait */
    assert_int_equal(dkim_key_read(path, &k, &why), ERR_DENIED);
    mem_free(why);
    unlink(path);
    mem_free(path);
    rmdir(dir);
    mem_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rfc8463_appendix_a_is_made_to_the_octet),
        cmocka_unit_test(new_keys_sign_what_another_library_verifies),
        cmocka_unit_test(what_is_no_key_for_dkim_is_refused_with_a_reason),
        cmocka_unit_test(key_files_are_read_only_when_nobody_else_may_read_them),
        cmocka_unit_test(a_key_is_never_written_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
