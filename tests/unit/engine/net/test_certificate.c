#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "base/mem.h"
#include "engine/net/certificate.h"
#include "tests/unit/engine/dane/ca.h"

static const struct {
    const char *presented, *reference;
    bool matches;
} names[] = {
    {"mx.example.com", "mx.example.com", true},
    {"MX.Example.COM", "mx.example.com", true},
    {"mx.example.com", "MX.EXAMPLE.COM", true},
    {"mx.example.com", "mx2.example.com", false},
    {"mx.example.com", "example.com", false},
    {"example.com", "mx.example.com", false},
    {"mx.example.com.", "mx.example.com", false},
    {"mx.example.com", "mx.example.com.", false},
    {"*.example.com", "mx.example.com", true},
    {"*.EXAMPLE.com", "mx.example.COM", true},
    {"*.example.com", "a.mx.example.com", false},
    {"*.example.com", "example.com", false},
    {"*.example.com", ".example.com", true},
    {"*.com", "example.com", false}, /* a whole top level */
    {"*", "example.com", false},
    {"*", "localhost", false},
    {"*.", "com", false},
    {"m*.example.com", "mx.example.com", false},
    {"*x.example.com", "mx.example.com", false},
    {"mx.*.com", "mx.example.com", false},
    {"*.*.com", "mx.example.com", false},
    {"**.example.com", "mx.example.com", false},
    {"localhost", "localhost", true},
    {"mx.example.com", ".example.com", true},
    {"a.mx.example.com", ".example.com", false},
    {"example.com", ".example.com", false},
    {".example.com", ".example.com", false},
    {".example.com", "x.example.com", false},
    {"mxexample.com", ".example.com", false},
    {"*.mx.example.com", ".example.com", false},
    {"mx.example.com", ".", false},
    {"mx.example.com", "", false},
    {"", "", false},
    {"", "mx.example.com", false},
    {"mx..example.com", "mx..example.com", false},
    {"mx example.com", "mx example.com", false},
    {"192.0.2.1", "192.0.2.1", true}, /* as text; a reference that is an address never comes here */
};

static void a_presented_name_matches_by_rfc_9525(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (certificate_dns_name_matches(bytes_of(names[i].presented), names[i].reference) !=
            names[i].matches)
            fail_msg("%s and %s", names[i].presented, names[i].reference);
}

static void a_nul_in_a_name_does_not_end_it(void **state)
{
    (void)state;
    assert_false(certificate_dns_name_matches(BYTES("mx.example.com\0.evil.test"), "mx.example.com"));
    assert_false(certificate_dns_name_matches(BYTES("mx.example.com\0"), "mx.example.com"));
    assert_false(certificate_dns_name_matches(BYTES("mx\0.example.com"), ".example.com"));
}

static void only_subject_alt_names_count(void **state)
{
    static const struct ca_wish wishes[] = {
        {"cn", "mx.example.com", NULL, NULL, "", NULL},
        {"san", "other.test", "mx.example.com ip:192.0.2.1 ip:2001:db8::1 *.wild.test", NULL, "", NULL},
        {"text", "other.test", "192.0.2.1", NULL, "", NULL},
        {"v1", "mx.example.com", NULL, NULL, "v1", NULL},
    };
    static const struct {
        const char *id, *reference;
        bool has;
    } rows[] = {
        {"cn", "mx.example.com", false}, {"san", "mx.example.com", true}, {"san", "other.test", false},
        {"san", "192.0.2.1", true},      {"san", "192.0.2.2", false},     {"san", "2001:DB8:0::1", true},
        {"san", "a.wild.test", true},    {"san", ".example.com", true},   {"text", "192.0.2.1", false},
        {"v1", "mx.example.com", false},
    };
    struct ca *ca = mem_alloc(sizeof(*ca));

    (void)state;
    ca_start(ca, CA_NOW);
    for (size_t i = 0; i < COUNT_OF(wishes); i++)
        ca_make(ca, &wishes[i]);
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        if (certificate_has_name(ca_find(ca, rows[i].id)->crt, rows[i].reference) != rows[i].has)
            fail_msg("%s %s", rows[i].id, rows[i].reference);
    const char *const references[] = {NULL, "a.test", "x.wild.test", "mx.example.com"};
    assert_string_equal(certificate_find_name(ca_find(ca, "san")->crt, references, 4), "x.wild.test");
    assert_null(certificate_find_name(ca_find(ca, "san")->crt, references, 2));
    ca_end(ca);
    mem_free(ca);
}

/* Where GnuTLS writes a key the same way, our walk must find the same octets. */
static void the_parts_are_those_of_the_certificate(void **state)
{
    static const struct ca_wish wishes[] = {
        {"ec", NULL, "a.test", NULL, "", NULL},
        {"rsa", NULL, "a.test", NULL, "rsa2048", NULL},
        {"v1", NULL, NULL, NULL, "v1", NULL},
    };
    struct ca *ca = mem_alloc(sizeof(*ca));

    (void)state;
    ca_start(ca, CA_NOW);
    for (size_t i = 0; i < COUNT_OF(wishes); i++) {
        const struct ca_made *m = ca_make(ca, &wishes[i]);
        struct bytes der = bytes_make(m->der.data, m->der.size);
        struct certificate_parts parts;
        assert_true(certificate_split(der, &parts));
        assert_true(bytes_eq(parts.spki, bytes_make(m->spki.data, m->spki.size)));
        for (size_t cut = 0; cut < der.len; cut++)
            assert_false(certificate_split(bytes_first(der, cut), &parts));
        char *longer = mem_dup(der.at, der.len);
        assert_false(certificate_split(bytes_make(longer, der.len + 1), &parts));
        for (size_t at = 0; at < der.len; at++) { /* no crash, whatever is turned */
            longer[at] ^= 0x55;
            (void)certificate_split(bytes_make(longer, der.len), &parts);
            longer[at] ^= 0x55;
        }
        mem_free(longer);
    }
    ca_end(ca);
    mem_free(ca);
}

static void strength_is_told_by_key_and_signature(void **state)
{
    static const struct ca_wish wishes[] = {
        {"ec", NULL, NULL, NULL, "", NULL},
        {"rsa1024", NULL, NULL, NULL, "rsa1024", NULL},
        {"rsa2048", NULL, NULL, NULL, "rsa2048", NULL},
        {"sha1", NULL, NULL, NULL, "sha1", NULL},
    };
    struct ca *ca = mem_alloc(sizeof(*ca));

    (void)state;
    ca_start(ca, CA_NOW);
    for (size_t i = 0; i < COUNT_OF(wishes); i++) {
        const struct ca_made *m = ca_make(ca, &wishes[i]);
        gnutls_pubkey_t key;
        assert_int_equal(certificate_key_is_weak(m->crt), strcmp(m->wish->id, "rsa1024") == 0);
        assert_int_equal(certificate_signature_is_weak(m->crt), strcmp(m->wish->id, "sha1") == 0);
        gnutls_pubkey_init(&key);
        assert_true(gnutls_pubkey_import_x509(key, m->crt, 0) >= 0);
        assert_false(pubkey_is_excessive(key));
        gnutls_pubkey_deinit(key);
    }
    ca_end(ca);
    mem_free(ca);
}

static void keys_that_would_hold_up_a_loop_are_excessive(void **state)
{
    static const struct {
        size_t modulus, exponent;
        bool excessive;
    } rows[] = {{256, 3, false}, {512, 3, false}, {1024, 8, false}, {2048, 3, false},
                {2049, 3, true}, {256, 9, true},  {256, 200, true}};
    unsigned char octets[2100];

    (void)state;
    memset(octets, 0xff, sizeof(octets));
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        gnutls_datum_t m = {octets, (unsigned)rows[i].modulus}, e = {octets, (unsigned)rows[i].exponent};
        gnutls_pubkey_t key;
        gnutls_pubkey_init(&key);
        if (gnutls_pubkey_import_rsa_raw(key, &m, &e) >= 0)
            assert_int_equal(pubkey_is_excessive(key), rows[i].excessive);
        gnutls_pubkey_deinit(key);
    }
}

static void put_der_head(struct buf *out, uint8_t tag, size_t len)
{
    buf_putc(out, (char)tag);
    if (len > 255)
        buf_putf(out, "%c%c%c", 0x82, (int)(len >> 8), (int)(len & 0xff));
    else
        buf_putf(out, "%c", (int)len);
}

/* The list is written by hand: GnuTLS walks its own anew for each name. */
static void three_thousand_names_are_one_walk(void **state)
{
    const char *const references[] = {"none.test", "neither.test", "nor.this.test"};
    const char *const last[] = {"name2999.example.com"};
    struct timespec a, b;
    gnutls_x509_crt_t crt;
    BUF_LOCAL(all);
    BUF_LOCAL(list);

    (void)state;
    for (unsigned i = 0; i < 3000; i++) {
        char name[64];
        int len = snprintf(name, sizeof(name), "name%u.example.com", i);
        put_der_head(&all, 0x82, (size_t)len);
        buf_put(&all, bytes_make(name, (size_t)len));
    }
    put_der_head(&list, 0x30, all.len);
    buf_put(&list, buf_bytes(&all));
    assert_int_equal(gnutls_x509_crt_init(&crt), 0);
    assert_int_equal(gnutls_x509_crt_set_extension_by_oid(crt, GNUTLS_X509EXT_OID_SAN, list.at, list.len, 0),
                     0);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
    for (unsigned i = 0; i < 10; i++)
        assert_null(certificate_find_name(crt, references, COUNT_OF(references)));
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
    double ms = (double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) / 1e6;
    assert_ptr_equal(certificate_find_name(crt, last, 1), last[0]);
    if (ms > 300)
        fail_msg("ten searches took %.0f ms", ms);
    gnutls_x509_crt_deinit(crt);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_presented_name_matches_by_rfc_9525),
        cmocka_unit_test(a_nul_in_a_name_does_not_end_it),
        cmocka_unit_test(only_subject_alt_names_count),
        cmocka_unit_test(the_parts_are_those_of_the_certificate),
        cmocka_unit_test(strength_is_told_by_key_and_signature),
        cmocka_unit_test(keys_that_would_hold_up_a_loop_are_excessive),
        cmocka_unit_test(three_thousand_names_are_one_walk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
