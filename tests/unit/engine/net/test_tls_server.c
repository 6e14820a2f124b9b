/* The certificates of a listener: loaded, chosen, refused; and how accounts name those of clients. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "engine/net/tls_server.h"

static char top[] = "/tmp/hayauma-test-XXXXXX";

struct pair {
    char *certificate, *key;
};

/* A self-signed pair of this name in a folder of its own. */
static struct pair make(const char *name)
{
    struct pair p;
    char *dir = text_format("%s/%s", top, name), *why = NULL;

    mkdir(dir, 0700);
    assert_int_equal(tls_self_signed_ensure(dir, name, &p.certificate, &p.key, &why), OK);
    mem_free(dir);
    return p;
}

static void forget(struct pair *p)
{
    mem_free(p->certificate);
    mem_free(p->key);
}

static int begin(void **state)
{
    (void)state;
    return mkdtemp(top) ? 0 : -1;
}

static int end(void **state)
{
    char *command = text_format("rm -rf '%s'", top);
    int code = system(command);

    (void)state;
    mem_free(command);
    return code;
}

static struct tls_server *load(const struct tls_server_pair *pairs, size_t count)
{
    struct tls_server_options o = {.pairs = pairs, .pair_count = count, .min_version = TLS_VERSION_1_2};
    struct tls_server *t = NULL;
    char *why = NULL;

    if (tls_server_load(&o, &t, &why))
        fail_msg("%s", why);
    return t;
}

static void a_name_gets_its_certificate_and_others_the_first(void **state)
{
    static const char *const wild[] = {"*.wild.test", "mail.more.test"};
    static const struct {
        const char *name;
        size_t want;
    } rows[] = {
        {NULL, 0},
        {"one.test", 0},
        {"two.test", 1},
        {"TWO.test", 1},
        {"a.wild.test", 2},
        {"mail.more.test", 2},
        {"wild.test", 0},
        {"a.b.wild.test", 0},
        {"three.test", 0}, /* its names were given: that of the certificate counts no more */
        {"", 0},
        {"two.test.example", 0},
    };
    struct pair one = make("one.test"), two = make("two.test"), three = make("three.test");
    struct tls_server *t = load((struct tls_server_pair[]){{one.certificate, one.key, NULL, 0},
                                                           {two.certificate, two.key, NULL, 0},
                                                           {three.certificate, three.key, wild, 2}},
                                3);

    (void)state;
    assert_int_equal(tls_server_certificate_count(t), 3);
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        if (tls_server_choose(t, rows[i].name) != rows[i].want)
            fail_msg("%s: %zu", rows[i].name ? rows[i].name : "no name", tls_server_choose(t, rows[i].name));
    tls_server_unref(t);
    forget(&one), forget(&two), forget(&three);
}

static void the_facts_of_a_certificate_are_told(void **state)
{
    struct pair p = make("facts.test");
    struct tls_server *t = load((struct tls_server_pair[]){{p.certificate, p.key, NULL, 0}}, 1);
    const struct tls_certificate *c = tls_server_certificate(t, 0);
    int64_t now = time(NULL);

    (void)state;
    assert_string_equal(c->file, p.certificate);
    assert_string_equal(c->name, "facts.test");
    assert_true(c->self_signed && !c->revoked && !c->weak);
    assert_true(c->from_unix <= now && c->expires_unix > now + (int64_t)3600 * 86400);
    assert_int_equal(tls_server_expires_unix(t), c->expires_unix);
    tls_server_unref(t);
    forget(&p);
}

static char *write_file(const char *name, const char *text)
{
    char *path = text_format("%s/%s", top, name);
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    return path;
}

static void what_cannot_be_loaded_is_said_by_name(void **state)
{
    struct pair one = make("good.test"), two = make("bad.test");
    char *rubbish = write_file("rubbish.pem", "rubbish\n"), *absent = text_format("%s/absent.pem", top);
    const struct {
        struct tls_server_options o;
        struct tls_server_pair pair;
        const char *says;
        enum err want;
    } rows[] = {
        {{.min_version = TLS_VERSION_1_2},
         {one.certificate, two.key, NULL, 0},
         "is not the key of the certificate",
         ERR_INVALID},
        {{.min_version = TLS_VERSION_1_2},
         {absent, one.key, NULL, 0},
         "cannot read the TLS certificate",
         ERR_IO},
        {{.min_version = TLS_VERSION_1_2},
         {one.certificate, absent, NULL, 0},
         "cannot read the TLS key",
         ERR_IO},
        {{.min_version = TLS_VERSION_1_2},
         {rubbish, one.key, NULL, 0},
         "rubbish.pem holds no certificate in PEM",
         ERR_INVALID},
        {{.priority = "NORMAL:+NONSENSE"},
         {one.certificate, one.key, NULL, 0},
         "priority string",
         ERR_INVALID},
        {{.crl = absent}, {one.certificate, one.key, NULL, 0}, "cannot read the revocation list", ERR_IO},
        {{.crl = rubbish}, {one.certificate, one.key, NULL, 0}, "the revocation list", ERR_INVALID},
        {{.client_certificates = TLS_CLIENT_CERTIFICATES_REQUEST, .client_ca = rubbish},
         {one.certificate, one.key, NULL, 0},
         "holds no certificate that could vouch",
         ERR_INVALID},
        {{.client_certificates = TLS_CLIENT_CERTIFICATES_REQUIRE, .client_ca = absent},
         {one.certificate, one.key, NULL, 0},
         "file of trusted certificates",
         ERR_IO},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct tls_server_options o = rows[i].o;
        struct tls_server *t = NULL;
        char *why = NULL;
        o.pairs = &rows[i].pair;
        o.pair_count = 1;
        assert_int_equal(tls_server_load(&o, &t, &why), rows[i].want);
        assert_null(t);
        if (!strstr(why, rows[i].says))
            fail_msg("row %zu says: %s", i, why);
        mem_free(why);
    }
    mem_free(rubbish);
    mem_free(absent);
    forget(&one), forget(&two);
}

#define HEX32 "0123456789abcdef0123456789abcdef"
#define HEX64 HEX32 HEX32

static void the_ways_to_name_a_certificate_have_one_form(void **state)
{
    static const struct {
        const char *given, *want; /* NULL: refused */
    } rows[] = {
        {HEX64, "sha256:" HEX64},
        {"sha256:" HEX64, "sha256:" HEX64},
        {"SHA256:0123456789ABCDEF0123456789ABCDEF" HEX32, "sha256:" HEX64},
        {"01:23:45:67:89:AB:CD:EF:01:23:45:67:89:AB:CD:EF:01:23:45:67:89:AB:CD:EF:01:23:45:67:89:AB:CD:EF",
         "sha256:" HEX64},
        {" sha256: " HEX64 " ", "sha256:" HEX64},
        {"dns:App.Shop.Test", "dns:app.shop.test"},
        {"DNS:app.shop.test", "dns:app.shop.test"},
        {"email:App@Shop.test", "email:App@Shop.test"},
        {"uri:spiffe://shop/app", "uri:spiffe://shop/app"},
        {"subject:CN=a b,O=Shop", "subject:CN=a b,O=Shop"},
        {"", NULL},
        {"sha256:", NULL},
        {"sha256:" HEX32, NULL},
        {"sha256:" HEX64 "00", NULL},
        {"sha256:" HEX32 "0123456789abcdef0123456789abcdeg", NULL},
        {"dns:", NULL},
        {"dns:a b", NULL},
        {"subject:CN=a\nb", NULL},
        {"subject:", NULL},
        {"serial:1", NULL},
        {"app.shop.test", NULL},
        {"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", NULL},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char *got = tls_peer_spec_normalise(rows[i].given);
        if (!got != !rows[i].want || (got && strcmp(got, rows[i].want)))
            fail_msg("%s: %s", rows[i].given, got ? got : "refused");
        if (got) { /* what is stored stays what it is */
            char *again = tls_peer_spec_normalise(got);
            assert_string_equal(again, got);
            mem_free(again);
        }
        mem_free(got);
    }
}

static void a_certificate_as_pem_becomes_its_fingerprint(void **state)
{
    struct pair p = make("pem.test");
    char text[8192];
    FILE *f = fopen(p.certificate, "r");
    size_t n = fread(text, 1, sizeof(text) - 1, f);

    (void)state;
    fclose(f);
    text[n] = '\0';
    char *spec = tls_peer_spec_normalise(text);
    assert_non_null(spec);
    assert_int_equal(strlen(spec), strlen("sha256:") + 64);
    mem_free(spec);
    forget(&p);
}

static void who_shows_nothing_is_nobody(void **state)
{
    struct tls_peer none = {0};

    (void)state;
    assert_false(tls_peer_matches(&none, "sha256:"));
    assert_false(tls_peer_matches(&none, "sha256:" HEX64));
    assert_false(tls_peer_matches(&none, "dns:app.shop.test"));
    tls_peer_fini(&none);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_gets_its_certificate_and_others_the_first),
        cmocka_unit_test(the_facts_of_a_certificate_are_told),
        cmocka_unit_test(what_cannot_be_loaded_is_said_by_name),
        cmocka_unit_test(the_ways_to_name_a_certificate_have_one_form),
        cmocka_unit_test(a_certificate_as_pem_becomes_its_fingerprint),
        cmocka_unit_test(who_shows_nothing_is_nobody),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
