/* The client side of TLS: verdicts, names, pins, versions, files, and work that stays bounded: T49, T50. */
#include <gnutls/crypto.h>
#include <gnutls/ocsp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "base/mem.h"
#include "engine/net/tls_priv.h"
#include "tests/unit/engine/net/tls_world.h"

/* ---- verdicts ---- */

static const struct {
    const char *chain, *name;
    enum tls_verify want;
} verdicts[] = {
    {"leaf int", NULL, TLS_VERIFY_PKIX},
    {"leaf int root", NULL, TLS_VERIFY_PKIX},
    {"leaf root int", NULL, TLS_VERIFY_PKIX},
    {"leaf-deep int-deep int", NULL, TLS_VERIFY_PKIX},
    {"leaf-2048 int", NULL, TLS_VERIFY_PKIX},
    {"leaf-wild int", NULL, TLS_VERIFY_PKIX},
    {"leaf-two int", NULL, TLS_VERIFY_PKIX},
    {"leaf int", ".a.test", TLS_VERIFY_PKIX},
    {"leaf int", ".test", TLS_VERIFY_WRONG_NAME},
    {"leaf-other int", NULL, TLS_VERIFY_WRONG_NAME},
    {"leaf-part int", NULL, TLS_VERIFY_WRONG_NAME},
    {"leaf-wild int", "x.mx.a.test", TLS_VERIFY_WRONG_NAME},
    {"leaf-cn int", NULL, TLS_VERIFY_WRONG_NAME},
    {"leaf-expired int", NULL, TLS_VERIFY_EXPIRED},
    {"leaf-ie int-expired", NULL, TLS_VERIFY_EXPIRED},
    {"leaf-re int-re", NULL, TLS_VERIFY_EXPIRED},
    {"leaf-future int", NULL, TLS_VERIFY_NOT_YET_VALID},
    {"self", NULL, TLS_VERIFY_SELF_SIGNED},
    {"evil-leaf evil", NULL, TLS_VERIFY_UNKNOWN_CA},
    {"evil-leaf evil root", NULL, TLS_VERIFY_UNKNOWN_CA},
    {"leaf", NULL, TLS_VERIFY_UNKNOWN_CA},
    {"leaf-1024 int", NULL, TLS_VERIFY_WEAK},
    {"leaf-r1024", NULL, TLS_VERIFY_WEAK},
    {"leaf-sha1 int", NULL, TLS_VERIFY_WEAK},
    {"leaf-not-ca not-ca int", NULL, TLS_VERIFY_BAD},
    {"leaf-client int", NULL, TLS_VERIFY_BAD},
    {"leaf-path0 int-path0", NULL, TLS_VERIFY_BAD},
    {"leaf-nc int-nc", NULL, TLS_VERIFY_BAD},
};

static void every_certificate_has_its_verdict(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(verdicts); i++) {
        struct tls_client_options o = tls_options_of(TLS_REQUIRE);
        struct tls_test_server s;
        if (verdicts[i].name) {
            o.names = &verdicts[i].name;
            o.name_count = 1;
        }
        tls_server_start(&s, verdicts[i].chain, NULL);
        struct tls_tried t = tls_try(&s, &o);
        if (!t.session)
            fail_msg("%s: %s", verdicts[i].chain, gnutls_strerror(t.client_error));
        enum tls_verify got = tls_client_verify(t.session);
        if (got != verdicts[i].want)
            fail_msg("%s: %s, not %s", verdicts[i].chain, tls_verify_name(got),
                     tls_verify_name(verdicts[i].want));
        assert_int_equal(tls_client_verify(t.session), got);
        tls_tried_end(&t);
        tls_server_stop(&s);
    }
}

static void any_of_several_names_will_do_and_none_is_taken_from_the_sni(void **state)
{
    static const char *const good[] = {"a.example", ".b.example", "other.test"};
    struct tls_client_options o = tls_options_of(TLS_VERIFY);
    struct tls_test_server s;

    (void)state;
    tls_server_start(&s, "leaf-other int", NULL);
    o.names = good;
    for (o.name_count = 1; o.name_count <= 3; o.name_count++) {
        struct tls_tried t = tls_try(&s, &o);
        assert_string_equal(s.sni, "mx.a.test");
        assert_int_equal(tls_client_verify(t.session),
                         o.name_count == 3 ? TLS_VERIFY_PKIX : TLS_VERIFY_WRONG_NAME);
        tls_tried_end(&t);
    }
    tls_server_stop(&s);
    tls_server_start(&s, "leaf int", NULL); /* it has the SNI's name, which was not asked about */
    o.name_count = 2;
    struct tls_tried t = tls_try(&s, &o);
    assert_int_equal(tls_client_verify(t.session), TLS_VERIFY_WRONG_NAME);
    tls_tried_end(&t);
    o.names = NULL;
    o.name_count = 0;
    o.sni = "192.0.2.1"; /* an address is a reference, and no SNI */
    t = tls_try(&s, &o);
    assert_string_equal(s.sni, "");
    assert_int_equal(tls_client_verify(t.session), TLS_VERIFY_WRONG_NAME);
    tls_tried_end(&t);
    tls_server_stop(&s);
}

static void a_pin_stands_in_for_chain_and_name(void **state)
{
    const struct ca_made *m = ca_find(&tls_world.ca, "self");
    unsigned char digest[32];
    char pins[4][80];
    struct tls_test_server s;

    (void)state;
    for (unsigned of_key = 0; of_key < 2; of_key++) {
        const gnutls_datum_t *d = of_key ? &m->spki : &m->der;
        size_t at = (size_t)snprintf(pins[of_key], sizeof(pins[0]), "%s", of_key ? "spki:" : "");
        gnutls_hash_fast(GNUTLS_DIG_SHA256, d->data, d->size, digest);
        for (size_t i = 0; i < sizeof(digest); i++)
            at += (size_t)snprintf(pins[of_key] + at, sizeof(pins[0]) - at, "%02x", digest[i]);
    }
    memcpy(pins[2], pins[1] + 5, 65); /* a key's where a certificate's is wanted */
    snprintf(pins[3], sizeof(pins[3]), "%.63s%c", pins[0], pins[0][63] == '0' ? '1' : '0');
    const struct {
        const char *pins[2];
        size_t count;
        enum tls_verify want;
    } rows[] = {
        {{pins[0]}, 1, TLS_VERIFY_PIN},          {{pins[1]}, 1, TLS_VERIFY_PIN},
        {{pins[2]}, 1, TLS_VERIFY_PIN_MISMATCH}, {{pins[3]}, 1, TLS_VERIFY_PIN_MISMATCH},
        {{pins[3], pins[1]}, 2, TLS_VERIFY_PIN}, {{""}, 1, TLS_VERIFY_PIN_MISMATCH},
    };
    tls_server_start(&s, "self", NULL);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct tls_client_options o = tls_options_of(TLS_VERIFY);
        o.pins = rows[i].pins;
        o.pin_count = rows[i].count;
        struct tls_tried t = tls_try(&s, &o);
        assert_int_equal(tls_client_verify(t.session), rows[i].want);
        tls_tried_end(&t);
    }
    tls_server_stop(&s);
    tls_server_start(&s, "leaf int", NULL); /* good by PKIX, but pinned to another */
    struct tls_client_options o = tls_options_of(TLS_VERIFY);
    o.pins = rows[0].pins;
    o.pin_count = 1;
    struct tls_tried t = tls_try(&s, &o);
    assert_int_equal(tls_client_verify(t.session), TLS_VERIFY_PIN_MISMATCH);
    tls_tried_end(&t);
    tls_server_stop(&s);
}

/* The answer of the authority that a server staples, made by OpenSSL: GnuTLS reads them, and makes none. */
static char *staple(bool revoked, const char *leaf, const char *issuer, const char *signer)
{
    unsigned char serial[32];
    size_t len = sizeof(serial);
    BUF_LOCAL(index);

    assert_true(gnutls_x509_crt_get_serial(ca_find(&tls_world.ca, leaf)->crt, serial, &len) >= 0);
    buf_puts(&index, revoked ? "R\t400101000000Z\t200101000000Z\t" : "V\t400101000000Z\t\t");
    for (size_t i = 0; i < len; i++)
        buf_putf(&index, "%02X", serial[i]);
    buf_puts(&index, "\tunknown\t/CN=leaf\n");
    mem_free(tls_world_file("index.txt", buf_str(&index)));
    mem_free(tls_world_certificates("leaf.pem", leaf));
    mem_free(tls_world_certificates("int.pem", issuer));
    mem_free(tls_world_certificates("signer.pem", signer));
    mem_free(tls_world_key("signer.key", signer));
    char *command = text_format(
        "cd %s && openssl ocsp -index index.txt -CA int.pem -issuer int.pem -cert leaf.pem "
        "-rsigner signer.pem -rkey signer.key -resp_no_certs -ndays 1 -respout staple.der >/dev/null 2>&1",
        tls_world.dir);
    char *file = system(command) == 0 ? text_format("%s/staple.der", tls_world.dir) : NULL;
    mem_free(command);
    return file;
}

/* GnuTLS's own loader refuses what says "revoked". */
static int give_staple(gnutls_session_t session, void *file, gnutls_datum_t *out)
{
    (void)session;
    return gnutls_load_file(file, out);
}

static void a_stapled_revocation_is_believed(void **state)
{
    (void)state;
    if (system("openssl version >/dev/null 2>&1") != 0)
        skip();
    static const struct {
        const char *leaf, *issuer, *signer, *shown;
        bool revoked;
        enum tls_verify want;
    } cases[] = {
        {"leaf", "int", "int", "leaf int", false, TLS_VERIFY_PKIX},
        {"leaf", "int", "int", "leaf int", true, TLS_VERIFY_REVOKED},
        {"leaf", "int", "int", "leaf root int", true, TLS_VERIFY_REVOKED},
        {"leaf-root", "root", "root", "leaf-root", false, TLS_VERIFY_PKIX}, /* the root is ours alone */
        {"leaf-root", "root", "root", "leaf-root", true, TLS_VERIFY_REVOKED},
        {"leaf-root", "root", "evil", "leaf-root", true, TLS_VERIFY_PKIX}, /* anybody can say so */
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct tls_client_options o = tls_options_of(TLS_VERIFY);
        struct tls_test_server s;
        char *file = staple(cases[i].revoked, cases[i].leaf, cases[i].issuer, cases[i].signer);
        assert_non_null(file);
        tls_server_start(&s, cases[i].shown, NULL);
        gnutls_certificate_set_ocsp_status_request_function(s.credentials, give_staple, file);
        struct tls_tried t = tls_try(&s, &o);
        assert_non_null(t.session);
        assert_true(gnutls_ocsp_status_request_is_checked(t.session, GNUTLS_OCSP_SR_IS_AVAIL));
        if (tls_client_verify(t.session) != cases[i].want)
            fail_msg("case %zu: %s", i, tls_verify_name(tls_client_verify(t.session)));
        tls_tried_end(&t);
        tls_server_stop(&s);
        mem_free(file);
    }
}

static void the_leaf_and_the_chain_can_be_shown(void **state)
{
    struct tls_client_options o = tls_options_of(TLS_ON);
    struct tls_test_server s;
    unsigned count = 9;

    (void)state;
    tls_server_start(&s, "leaf int root", NULL);
    struct tls_tried t = tls_try(&s, &o);
    const gnutls_datum_t *chain = tls_client_chain(t.session, &count);
    assert_int_equal(count, 3);
    assert_int_equal(chain[1].size, ca_find(&tls_world.ca, "int")->der.size);
    char *pem = tls_client_chain_pem(t.session), *want = tls_world_pem("leaf int root");
    assert_string_equal(pem, want);
    mem_free(pem);
    mem_free(want);
    assert_int_equal(tls_client_expires_unix(t.session),
                     gnutls_x509_crt_get_expiration_time(ca_find(&tls_world.ca, "leaf")->crt));
    tls_tried_end(&t);
    tls_server_stop(&s);
}

/* ---- versions and key exchange ---- */

static const struct {
    const char *server;
    enum tls_level level;
    enum tls_version least;
    const char *chain;
    const char *want; /* version and key exchange; NULL: no handshake */
} handshakes[] = {
    {LEGACY("1.3") ":-GROUP-ALL:+GROUP-X25519", TLS_ON, TLS_VERSION_1_2, "leaf int", "TLS1.3 ECDHE-X25519"},
    {LEGACY("1.3") ":-GROUP-ALL:+GROUP-FFDHE3072", TLS_ON, TLS_VERSION_1_2, "leaf int",
     "TLS1.3 DHE-FFDHE3072"},
    {LEGACY("1.3") ":-GROUP-ALL:+GROUP-SECP384R1", TLS_ON, TLS_VERSION_1_3, "leaf int",
     "TLS1.3 ECDHE-SECP384R1"},
    {LEGACY("1.2") ":-GROUP-ALL:+GROUP-SECP256R1", TLS_ON, TLS_VERSION_1_2, "leaf int",
     "TLS1.2 ECDHE-SECP256R1"},
    {LEGACY("1.2"), TLS_ON, TLS_VERSION_1_3, "leaf int", NULL},
    {LEGACY("1.2"), TLS_VERIFY, TLS_VERSION_1_3, "leaf int", NULL},
    {LEGACY("1.1"), TLS_ON, TLS_VERSION_1_2, "leaf int", NULL},
    {LEGACY("1.1"), TLS_REQUIRE, TLS_VERSION_1_2, "leaf int", NULL},
    {LEGACY("1.0"), TLS_ON, TLS_VERSION_1_2, "leaf int", NULL},
    {LEGACY("1.0"), TLS_ON, TLS_VERSION_1_1, "leaf int", NULL},
    {LEGACY("1.1"), TLS_ON, TLS_VERSION_1_1, "leaf int", "TLS1.1 *"},
    {LEGACY("1.0"), TLS_ON, TLS_VERSION_1_0, "leaf int", "TLS1.0 *"},
    {LEGACY("1.0"), TLS_REQUIRE, TLS_VERSION_1_0, "leaf-2048 int", "TLS1.0 *"},
    {LEGACY("1.0"), TLS_VERIFY, TLS_VERSION_1_0, "leaf-2048 int", "TLS1.0 *"},
    {LEGACY("1.2") ":-KX-ALL:+RSA", TLS_ON, TLS_VERSION_1_2, "leaf-static-rsa int", "TLS1.2 RSA"},
    {LEGACY("1.2") ":-KX-ALL:+RSA", TLS_STS_TESTING, TLS_VERSION_1_2, "leaf-static-rsa int", "TLS1.2 RSA"},
    {LEGACY("1.2") ":-KX-ALL:+RSA", TLS_REQUIRE, TLS_VERSION_1_2, "leaf-static-rsa int", NULL},
    {LEGACY("1.2") ":-KX-ALL:+RSA", TLS_VERIFY, TLS_VERSION_1_2, "leaf-static-rsa int", NULL},
    {LEGACY("1.2") ":-KX-ALL:+RSA", TLS_DANE, TLS_VERSION_1_2, "leaf-static-rsa int", NULL},
    {LEGACY("1.0") ":-KX-ALL:+RSA", TLS_REQUIRE, TLS_VERSION_1_0, "leaf-static-rsa int", NULL},
    {LEGACY("1.2") ":-KX-ALL:+DHE-RSA", TLS_REQUIRE, TLS_VERSION_1_2, "leaf-2048 int", "TLS1.2 DHE*"},
};

static bool fits(const char *got, const char *want)
{
    size_t len = strlen(want);

    return want[len - 1] == '*' ? strncmp(got, want, len - 1) == 0 : strcmp(got, want) == 0;
}

static void every_version_and_key_exchange_is_as_the_level_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(handshakes); i++) {
        struct tls_client_options o = tls_options_of(handshakes[i].level);
        struct tls_test_server s;
        char got[64] = "none";
        o.min_version = handshakes[i].least;
        tls_server_start(&s, handshakes[i].chain, handshakes[i].server);
        struct tls_tried t = tls_try(&s, &o);
        if (t.session)
            snprintf(got, sizeof(got), "%s %s", tls_version_name(t.session), tls_kx_name(t.session));
        if (!fits(got, handshakes[i].want ? handshakes[i].want : "none"))
            fail_msg("%s at %s: %s", handshakes[i].server, tls_level_name(handshakes[i].level), got);
        tls_tried_end(&t);
        tls_server_stop(&s);
    }
}

static void a_priority_of_the_group_replaces_ours(void **state)
{
    struct tls_client_options o = tls_options_of(TLS_VERIFY);
    struct tls_test_server s;
    char why[200];

    (void)state;
    o.min_version = TLS_VERSION_1_3; /* does not count then */
    o.priority = "NORMAL:-VERS-ALL:+VERS-TLS1.2";
    tls_server_start(&s, "leaf int", NULL);
    struct tls_tried t = tls_try(&s, &o);
    assert_string_equal(tls_version_name(t.session), "TLS1.2");
    tls_tried_end(&t);
    tls_server_stop(&s);
    o.priority = "NORMAL:+NONSENSE";
    assert_null(tls_client_session(tls_world.client, &o, why, sizeof(why)));
    assert_non_null(strstr(why, "NONSENSE"));
}

/* ---- files ---- */

static void a_client_certificate_is_shown_to_who_asks(void **state)
{
    char *certificate = tls_world_certificates("client.pem", "leaf-client int"),
         *key = tls_world_key("client.key", "leaf-client");
    char *other = tls_world_key("other.key", "leaf");
    struct tls_client_options o = tls_options_of(TLS_REQUIRE);
    struct tls_test_server s;
    char why[300];

    (void)state;
    tls_server_start(&s, "leaf int", NULL);
    o.certificate = certificate;
    o.key = key;
    struct tls_tried t = tls_try(&s, &o);
    assert_int_equal(s.client_certificates, 0);
    tls_tried_end(&t);
    s.asks_certificate = true;
    t = tls_try(&s, &o);
    assert_int_equal(s.client_certificates, 2);
    tls_tried_end(&t);
    o.certificate = o.key = NULL;
    t = tls_try(&s, &o);
    assert_int_equal(s.client_certificates, 0);
    tls_tried_end(&t);
    o.certificate = certificate;
    o.key = other;
    assert_null(tls_client_session(tls_world.client, &o, why, sizeof(why)));
    assert_non_null(strstr(why, "client.pem"));
    o.key = "/nonexistent/key.pem";
    assert_null(tls_client_session(tls_world.client, &o, why, sizeof(why)));
    assert_non_null(strstr(why, "/nonexistent/key.pem"));
    tls_server_stop(&s);
    mem_free(certificate);
    mem_free(key);
    mem_free(other);
}

static void a_trust_file_that_cannot_be_used_trusts_nobody_and_is_named(void **state)
{
    char *empty = tls_world_file("empty.pem", "nothing here\n");
    const char *files[] = {"/nonexistent/ca.pem", empty};
    struct tls_test_server s;
    char why[300];

    (void)state;
    tls_server_start(&s, "leaf int", NULL);
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        struct tls_client_options o = tls_options_of(TLS_VERIFY);
        o.ca_file = files[i];
        assert_null(tls_client_session(tls_world.client, &o, why, sizeof(why)));
        assert_non_null(strstr(why, files[i]));
        o.level = TLS_STS_ENFORCE;
        assert_null(tls_client_session(tls_world.client, &o, why, sizeof(why)));
        o.level = TLS_DANE; /* does not judge by it */
        struct tls_tried t = tls_try(&s, &o);
        assert_int_equal(tls_client_verify(t.session), TLS_VERIFY_UNKNOWN_CA);
        tls_tried_end(&t);
    }
    tls_server_stop(&s);
    mem_free(empty);
}

static void a_trust_file_that_changed_is_read_again(void **state)
{
    char *file = tls_world_certificates("changing.pem", "evil");
    struct tls_client_options o = tls_options_of(TLS_REQUIRE);
    struct tls_test_server s;
    uint64_t usual = tls_trust_look_again_ms;

    (void)state;
    tls_server_start(&s, "leaf int", NULL);
    o.ca_file = file;
    struct tls_tried t = tls_try(&s, &o);
    assert_int_equal(tls_client_verify(t.session), TLS_VERIFY_UNKNOWN_CA);
    tls_tried_end(&t);
    mem_free(tls_world_certificates("changing.pem", "evil root"));
    t = tls_try(&s, &o); /* not so soon */
    assert_int_equal(tls_client_verify(t.session), TLS_VERIFY_UNKNOWN_CA);
    tls_tried_end(&t);
    tls_trust_look_again_ms = 0;
    t = tls_try(&s, &o);
    assert_int_equal(tls_client_verify(t.session), TLS_VERIFY_PKIX);
    mem_free(tls_world_file("changing.pem", "half wri")); /* what was good stays in use */
    struct tls_tried again = tls_try(&s, &o);
    assert_int_equal(tls_client_verify(again.session), TLS_VERIFY_PKIX);
    tls_tried_end(&again);
    tls_tried_end(&t);
    tls_trust_look_again_ms = usual;
    tls_server_stop(&s);
    mem_free(file);
}

/* ---- bounded work ---- */

static double cpu_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void a_hundred_certificates_are_too_many_and_cost_little(void **state)
{
    static const char *const names[] = {"mx.a.test"};
    struct tls_client_options o = tls_options_of(TLS_REQUIRE);
    gnutls_datum_t chain[100];
    struct dane_records *match = tls_world_tlsa("3 1 1 leaf");
    struct dane_verdict v;
    struct tls_test_server s;

    (void)state;
    chain[0] = ca_find(&tls_world.ca, "leaf")->der;
    for (unsigned i = 1; i < COUNT_OF(chain); i++)
        chain[i] = ca_find(&tls_world.ca, i % 2 ? "int" : "root")->der;
    tls_server_start_chain(&s, chain, COUNT_OF(chain), ca_find(&tls_world.ca, "leaf")->key, NULL);
    struct tls_tried t = tls_try(&s, &o);
    assert_non_null(t.session);
    double before = cpu_ms();
    assert_int_equal(tls_client_verify(t.session), TLS_VERIFY_BAD);
    tls_client_dane(t.session, match, names, 1, &v);
    assert_int_equal(v.check, DANE_CHECK_MATCH); /* the leaf is all that counts there */
    double took = cpu_ms() - before;
    if (took > 100)
        fail_msg("%.0f ms", took);
    tls_tried_end(&t);
    tls_server_stop(&s);
    dane_records_unref(match);
}

static void a_chain_of_a_megabyte_is_refused(void **state)
{
    struct tls_client_options o = tls_options_of(TLS_ON);
    gnutls_datum_t chain[2000];
    struct tls_test_server s;

    (void)state;
    for (unsigned i = 0; i < COUNT_OF(chain); i++)
        chain[i] = ca_find(&tls_world.ca, i ? "int" : "leaf")->der;
    tls_server_start_chain(&s, chain, COUNT_OF(chain), ca_find(&tls_world.ca, "leaf")->key, NULL);
    double before = cpu_ms();
    struct tls_tried t = tls_try(&s, &o);
    double took = cpu_ms() - before;
    assert_null(t.session);
    if (took > 500)
        fail_msg("%.0f ms", took);
    tls_tried_end(&t);
    tls_server_stop(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_certificate_has_its_verdict),
        cmocka_unit_test(any_of_several_names_will_do_and_none_is_taken_from_the_sni),
        cmocka_unit_test(a_pin_stands_in_for_chain_and_name),
        cmocka_unit_test(a_stapled_revocation_is_believed),
        cmocka_unit_test(the_leaf_and_the_chain_can_be_shown),
        cmocka_unit_test(every_version_and_key_exchange_is_as_the_level_says),
        cmocka_unit_test(a_priority_of_the_group_replaces_ours),
        cmocka_unit_test(a_client_certificate_is_shown_to_who_asks),
        cmocka_unit_test(a_trust_file_that_cannot_be_used_trusts_nobody_and_is_named),
        cmocka_unit_test(a_trust_file_that_changed_is_read_again),
        cmocka_unit_test(a_hundred_certificates_are_too_many_and_cost_little),
        cmocka_unit_test(a_chain_of_a_megabyte_is_refused),
    };

    return cmocka_run_group_tests(tests, tls_world_setup, tls_world_teardown);
}
