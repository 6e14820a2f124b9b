/* A resumed session gives what its full handshake gave, and another key resumes nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/mem.h"
#include "tests/unit/engine/net/tls_world.h"

static const char *const resumable[] = {LEGACY("1.3"), LEGACY("1.2")};

static void a_resumed_session_keeps_the_verdict_and_another_key_resumes_nothing(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(resumable); i++) {
        struct tls_client_options o = tls_options_of(TLS_VERIFY), other = tls_options_of(TLS_VERIFY);
        struct tls_test_server s, expired;
        tls_server_start(&s, "leaf int", resumable[i]);
        tls_server_start(&expired, "leaf-expired int", resumable[i]);
        o.cache_key = text_format("key one %zu", i);
        other.cache_key = "key two";
        struct tls_tried t = tls_try(&s, &o);
        assert_false(tls_client_resumed(t.session));
        assert_int_equal(tls_client_verify(t.session), TLS_VERIFY_PKIX);
        tls_client_remember(t.session);
        tls_tried_end(&t);

        t = tls_try(&s, &other);
        assert_false(tls_client_resumed(t.session));
        tls_tried_end(&t);

        /* It is not asked for its name again: the verdict is that of the full handshake. */
        static const char *const nobody[] = {"nobody.test"};
        other = o;
        other.names = nobody;
        other.name_count = 1;
        t = tls_try(&s, &other);
        assert_true(tls_client_resumed(t.session));
        assert_int_equal(tls_client_verify(t.session), TLS_VERIFY_PKIX);
        assert_int_equal(tls_client_expires_unix(t.session),
                         gnutls_x509_crt_get_expiration_time(ca_find(&tls_world.ca, "leaf")->crt));
        tls_tried_end(&t);

        /* Under other authorities nothing is resumed: a verdict does not outlive what it rests on. */
        other = o;
        other.ca_file = "/dev/null";
        other.level = TLS_REQUIRE;
        t = tls_try(&s, &other);
        assert_false(tls_client_resumed(t.session));
        assert_int_equal(tls_client_verify(t.session), TLS_VERIFY_UNKNOWN_CA);
        tls_tried_end(&t);

        /* Offered to another server it is a full handshake, and the kept verdict does not count. */
        t = tls_try(&expired, &o);
        assert_false(tls_client_resumed(t.session));
        assert_int_equal(tls_client_verify(t.session), TLS_VERIFY_EXPIRED);
        tls_tried_end(&t);
        mem_free((char *)(uintptr_t)o.cache_key);
        tls_server_stop(&s);
        tls_server_stop(&expired);
    }
}

static void a_session_that_was_not_judged_is_not_kept(void **state)
{
    struct tls_client_options o = tls_options_of(TLS_VERIFY);
    struct tls_test_server s;

    (void)state;
    o.cache_key = "not judged";
    tls_server_start(&s, "leaf int", NULL);
    for (unsigned i = 0; i < 2; i++) {
        struct tls_tried t = tls_try(&s, &o);
        assert_false(tls_client_resumed(t.session));
        tls_client_remember(t.session);
        tls_tried_end(&t);
    }
    tls_server_stop(&s);
}

static void a_resumed_session_keeps_the_verdict_of_dane(void **state)
{
    static const char *const names[] = {"first.a.test", "mx.a.test"};
    struct dane_records *match = tls_world_tlsa("2 1 1 int"), *mismatch = tls_world_tlsa("3 1 1 !leaf");

    (void)state;
    for (size_t i = 0; i < COUNT_OF(resumable); i++) {
        struct tls_client_options o = tls_options_of(TLS_DANE), bad = tls_options_of(TLS_DANE);
        struct tls_test_server s;
        struct dane_verdict v;
        char good_key[32], bad_key[32];
        tls_server_start(&s, "leaf int", resumable[i]);
        snprintf(good_key, sizeof(good_key), "dane %zu", i);
        snprintf(bad_key, sizeof(bad_key), "dane bad %zu", i);
        o.cache_key = good_key;
        bad.cache_key = bad_key;
        struct tls_tried t = tls_try(&s, &o);
        tls_client_dane(t.session, match, names, 2, &v);
        assert_int_equal(v.check, DANE_CHECK_MATCH);
        assert_ptr_equal(v.name, names[1]);
        tls_client_remember(t.session); /* tls_client_verify was not asked */
        tls_tried_end(&t);

        /* Even against records that do not match: the key has their hash in it, so these are the same ones.
         */
        for (unsigned again = 0; again < 2; again++) {
            t = tls_try(&s, &o);
            assert_true(tls_client_resumed(t.session));
            tls_client_dane(t.session, mismatch, names, 2, &v);
            assert_int_equal(v.check, DANE_CHECK_MATCH);
            assert_ptr_equal(v.name, names[1]);
            tls_client_remember(t.session);
            tls_tried_end(&t);
        }
        /* A name that was not asked about then is checked now, on the chain that the session keeps. */
        t = tls_try(&s, &o);
        assert_true(tls_client_resumed(t.session));
        tls_client_dane(t.session, match, names, 1, &v);
        assert_int_equal(v.check, DANE_CHECK_MISMATCH);
        tls_tried_end(&t);

        t = tls_try(&s, &bad);
        tls_client_dane(t.session, mismatch, names, 2, &v);
        assert_int_equal(v.check, DANE_CHECK_MISMATCH);
        tls_client_remember(t.session);
        tls_tried_end(&t);
        t = tls_try(&s, &bad);
        tls_client_dane(t.session, match, names, 2, &v);
        assert_int_equal(v.check, tls_client_resumed(t.session) ? DANE_CHECK_MISMATCH : DANE_CHECK_MATCH);
        tls_tried_end(&t);
        tls_server_stop(&s);
    }
    dane_records_unref(match);
    dane_records_unref(mismatch);
}

/* A session judged by PKIX only, resumed where DANE is asked about: checked, not assumed. */
static void dane_of_a_resumed_session_without_a_verdict_is_checked(void **state)
{
    static const char *const names[] = {"mx.a.test"};
    struct dane_records *match = tls_world_tlsa("3 1 1 leaf"), *mismatch = tls_world_tlsa("3 1 1 !leaf");

    (void)state;
    for (size_t i = 0; i < COUNT_OF(resumable); i++) {
        struct tls_client_options o = tls_options_of(TLS_VERIFY);
        struct tls_test_server s;
        struct dane_verdict v;
        char key[32];
        snprintf(key, sizeof(key), "pkix only %zu", i);
        o.cache_key = key;
        tls_server_start(&s, "leaf int", resumable[i]);
        for (unsigned round = 0; round < 3; round++) {
            struct tls_tried t = tls_try(&s, &o);
            assert_int_equal(tls_client_resumed(t.session), round > 0);
            assert_int_equal(tls_client_verify(t.session), TLS_VERIFY_PKIX);
            if (round == 0)
                tls_client_remember(t.session);
            else
                tls_client_dane(t.session, round == 1 ? match : mismatch, names, 1, &v);
            if (round > 0)
                assert_int_equal(v.check, round == 1 ? DANE_CHECK_MATCH : DANE_CHECK_MISMATCH);
            tls_tried_end(&t);
        }
        tls_server_stop(&s);
    }
    dane_records_unref(match);
    dane_records_unref(mismatch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_resumed_session_keeps_the_verdict_and_another_key_resumes_nothing),
        cmocka_unit_test(a_session_that_was_not_judged_is_not_kept),
        cmocka_unit_test(a_resumed_session_keeps_the_verdict_of_dane),
        cmocka_unit_test(dane_of_a_resumed_session_without_a_verdict_is_checked),
    };

    return cmocka_run_group_tests(tests, tls_world_setup, tls_world_teardown);
}
