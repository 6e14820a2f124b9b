/* The client side of TLS against a GnuTLS server over a pair of sockets: T49, T50 and resumption. */
#include <errno.h>
#include <fcntl.h>
#include <gnutls/abstract.h>
#include <gnutls/crypto.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/net/tls.h"
#include "engine/net/tls_priv.h"
#include "tests/unit/engine/dane/matrix.h"

/* ---- the world ---- */

struct tls_world {
    struct ca ca;
    char dir[64];
    char *trust; /* file: the roots that count */
    struct tls_client *client;
};
static struct tls_world world;

static const struct ca_wish more_wishes[] = {
    {"leaf-static-rsa", "leaf", "mx.a.test", "int", "rsa2048 encipher", NULL},
};

static char *write_file(const char *name, const char *text)
{
    char *path = text_format("%s/%s", world.dir, name);
    FILE *f = fopen(path, "we");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    return path;
}

static char *pem_of(const char *ids)
{
    gnutls_datum_t chain[16], pem;
    unsigned n = ca_chain(&world.ca, ids, chain, COUNT_OF(chain));
    struct buf out = {0};

    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(gnutls_pem_base64_encode2("CERTIFICATE", &chain[i], &pem), 0);
        buf_put(&out, bytes_make(pem.data, pem.size));
        gnutls_free(pem.data);
    }
    return buf_take(&out);
}

static char *write_certificates(const char *name, const char *ids)
{
    char *text = pem_of(ids), *path = write_file(name, text);

    mem_free(text);
    return path;
}

static char *write_key(const char *name, const char *id)
{
    gnutls_datum_t pem;

    assert_int_equal(gnutls_x509_privkey_export2(ca_find(&world.ca, id)->key, GNUTLS_X509_FMT_PEM, &pem), 0);
    char *text = mem_dup(pem.data, pem.size), *path = write_file(name, text);
    gnutls_free(pem.data);
    mem_free(text);
    return path;
}

static int setup(void **state)
{
    (void)state;
    snprintf(world.dir, sizeof(world.dir), "/tmp/test-tls-XXXXXX");
    assert_non_null(mkdtemp(world.dir));
    dane_world(&world.ca, time(NULL));
    for (size_t i = 0; i < COUNT_OF(more_wishes); i++)
        ca_make(&world.ca, &more_wishes[i]);
    world.trust = write_certificates("trust.pem", "root root-1024 root-path0 root-expired");
    world.client = tls_client_create();
    return 0;
}

static int teardown(void **state)
{
    char *command = text_format("rm -r %s", world.dir);

    (void)state;
    tls_client_destroy(world.client);
    ca_end(&world.ca);
    mem_free(world.trust);
    assert_int_equal(system(command), 0);
    mem_free(command);
    return 0;
}

/* ---- a server ---- */

struct server {
    gnutls_certificate_credentials_t credentials;
    gnutls_datum_t ticket_key;
    const char *priority;
    bool asks_certificate;
    unsigned client_certificates; /* of the last session */
    char sni[256];
};

static void server_start(struct server *s, const gnutls_datum_t *chain, unsigned count,
                         gnutls_x509_privkey_t key, const char *priority)
{
    gnutls_pcert_st *certs = mem_zalloc(count * sizeof(*certs));
    gnutls_privkey_t private;

    memset(s, 0, sizeof(*s));
    s->priority = priority ? priority : "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2";
    gnutls_certificate_allocate_credentials(&s->credentials);
    gnutls_certificate_set_known_dh_params(s->credentials, GNUTLS_SEC_PARAM_MEDIUM);
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(gnutls_pcert_import_x509_raw(&certs[i], &chain[i], GNUTLS_X509_FMT_DER, 0), 0);
    gnutls_privkey_init(&private);
    gnutls_privkey_import_x509(private, key, GNUTLS_PRIVKEY_IMPORT_COPY);
    assert_true(gnutls_certificate_set_key(s->credentials, NULL, 0, certs, (int)count, private) >= 0);
    mem_free(certs); /* the credentials own what is in them */
    gnutls_session_ticket_key_generate(&s->ticket_key);
}

static void server_of(struct server *s, const char *ids, const char *priority)
{
    gnutls_datum_t chain[32];
    unsigned n = ca_chain(&world.ca, ids, chain, COUNT_OF(chain));
    char first[64];

    snprintf(first, sizeof(first), "%.*s", (int)strcspn(ids, " "), ids);
    server_start(s, chain, n, ca_find(&world.ca, first)->key, priority);
}

static void server_end(struct server *s)
{
    gnutls_certificate_free_credentials(s->credentials);
    gnutls_free(s->ticket_key.data);
}

static gnutls_session_t server_session(struct server *s, int fd)
{
    gnutls_session_t session;

    gnutls_init(&session, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
    assert_int_equal(gnutls_priority_set_direct(session, s->priority, NULL), 0);
    gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, s->credentials);
    gnutls_session_ticket_enable_server(session, &s->ticket_key);
    gnutls_certificate_server_set_request(session,
                                          s->asks_certificate ? GNUTLS_CERT_REQUEST : GNUTLS_CERT_IGNORE);
    gnutls_transport_set_int(session, fd);
    return session;
}

/* The client's session after the handshake and an octet from the server (so that tickets have come); NULL: it
 * failed. */
struct tried {
    gnutls_session_t session;
    int fds[2];
    int client_error;
};

static int step(gnutls_session_t session, int before)
{
    return before == GNUTLS_E_AGAIN || before == GNUTLS_E_INTERRUPTED ? gnutls_handshake(session) : before;
}

static bool open_session(const int rc)
{
    return rc == GNUTLS_E_AGAIN || rc == GNUTLS_E_INTERRUPTED;
}

static struct tried try(struct server *s, const struct tls_client_options *o)
{
    struct tried t = {0};
    char why[200] = "", octet = 0;
    int client_rc = GNUTLS_E_AGAIN, server_rc = GNUTLS_E_AGAIN;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, t.fds), 0);
    t.session = tls_client_session(world.client, o, why, sizeof(why));
    if (!t.session)
        fail_msg("%s", why);
    gnutls_transport_set_int(t.session, t.fds[0]);
    gnutls_session_t server = server_session(s, t.fds[1]);
    for (unsigned i = 0; i < 2000 && (open_session(client_rc) || open_session(server_rc)); i++) {
        client_rc = step(t.session, client_rc);
        server_rc = step(server, server_rc);
        if ((client_rc < 0 && !open_session(client_rc)) || (server_rc < 0 && !open_session(server_rc)))
            break;
    }
    if (client_rc == 0 && server_rc == 0) {
        size_t len = sizeof(s->sni) - 1;
        unsigned type;
        memset(s->sni, 0, sizeof(s->sni));
        (void)gnutls_server_name_get(server, s->sni, &len, &type, 0);
        s->client_certificates = 0;
        (void)gnutls_certificate_get_peers(server, &s->client_certificates);
        assert_int_equal(gnutls_record_send(server, "x", 1), 1);
        ssize_t n = GNUTLS_E_AGAIN;
        for (unsigned i = 0; i < 50 && n < 0; i++)
            n = gnutls_record_recv(t.session, &octet, 1);
        assert_int_equal(n, 1);
    } else {
        t.client_error = client_rc;
        tls_session_end(TAKE(t.session));
    }
    gnutls_deinit(server);
    return t;
}

static void end(struct tried *t)
{
    tls_session_end(t->session);
    close(t->fds[0]);
    close(t->fds[1]);
}

static struct tls_client_options options_of(enum tls_level level)
{
    return (struct tls_client_options){
        .level = level, .min_version = TLS_VERSION_1_2, .ca_file = world.trust, .sni = "mx.a.test"};
}

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
        struct tls_client_options o = options_of(TLS_REQUIRE);
        struct server s;
        if (verdicts[i].name) {
            o.names = &verdicts[i].name;
            o.name_count = 1;
        }
        server_of(&s, verdicts[i].chain, NULL);
        struct tried t = try(&s, &o);
        if (!t.session)
            fail_msg("%s: %s", verdicts[i].chain, gnutls_strerror(t.client_error));
        enum tls_verify got = tls_client_verify(t.session);
        if (got != verdicts[i].want)
            fail_msg("%s: %s, not %s", verdicts[i].chain, tls_verify_name(got),
                     tls_verify_name(verdicts[i].want));
        assert_int_equal(tls_client_verify(t.session), got);
        end(&t);
        server_end(&s);
    }
}

static void any_of_several_names_will_do_and_none_is_taken_from_the_sni(void **state)
{
    static const char *const good[] = {"a.example", ".b.example", "other.test"};
    struct tls_client_options o = options_of(TLS_VERIFY);
    struct server s;

    (void)state;
    server_of(&s, "leaf-other int", NULL);
    o.names = good;
    for (o.name_count = 1; o.name_count <= 3; o.name_count++) {
        struct tried t = try(&s, &o);
        assert_string_equal(s.sni, "mx.a.test");
        assert_int_equal(tls_client_verify(t.session),
                         o.name_count == 3 ? TLS_VERIFY_PKIX : TLS_VERIFY_WRONG_NAME);
        end(&t);
    }
    server_end(&s);
    server_of(&s, "leaf int", NULL); /* it has the SNI's name, which was not asked about */
    o.name_count = 2;
    struct tried t = try(&s, &o);
    assert_int_equal(tls_client_verify(t.session), TLS_VERIFY_WRONG_NAME);
    end(&t);
    o.names = NULL;
    o.name_count = 0;
    o.sni = "192.0.2.1"; /* an address is a reference, and no SNI */
    t = try(&s, &o);
    assert_string_equal(s.sni, "");
    assert_int_equal(tls_client_verify(t.session), TLS_VERIFY_WRONG_NAME);
    end(&t);
    server_end(&s);
}

static void a_pin_stands_in_for_chain_and_name(void **state)
{
    const struct ca_made *m = ca_find(&world.ca, "self");
    unsigned char digest[32];
    char pins[4][80];
    struct server s;

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
    server_of(&s, "self", NULL);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct tls_client_options o = options_of(TLS_VERIFY);
        o.pins = rows[i].pins;
        o.pin_count = rows[i].count;
        struct tried t = try(&s, &o);
        assert_int_equal(tls_client_verify(t.session), rows[i].want);
        end(&t);
    }
    server_end(&s);
    server_of(&s, "leaf int", NULL); /* good by PKIX, but pinned to another */
    struct tls_client_options o = options_of(TLS_VERIFY);
    o.pins = rows[0].pins;
    o.pin_count = 1;
    struct tried t = try(&s, &o);
    assert_int_equal(tls_client_verify(t.session), TLS_VERIFY_PIN_MISMATCH);
    end(&t);
    server_end(&s);
}

static void the_leaf_and_the_chain_can_be_shown(void **state)
{
    struct tls_client_options o = options_of(TLS_ON);
    struct server s;
    unsigned count = 9;

    (void)state;
    server_of(&s, "leaf int root", NULL);
    struct tried t = try(&s, &o);
    const gnutls_datum_t *chain = tls_client_chain(t.session, &count);
    assert_int_equal(count, 3);
    assert_int_equal(chain[1].size, ca_find(&world.ca, "int")->der.size);
    char *pem = tls_client_chain_pem(t.session), *want = pem_of("leaf int root");
    assert_string_equal(pem, want);
    mem_free(pem);
    mem_free(want);
    assert_int_equal(tls_client_expires_unix(t.session),
                     gnutls_x509_crt_get_expiration_time(ca_find(&world.ca, "leaf")->crt));
    end(&t);
    server_end(&s);
}

/* ---- versions and key exchange ---- */

#define LEGACY(version) "NORMAL:-VERS-ALL:+VERS-TLS" version

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
        struct tls_client_options o = options_of(handshakes[i].level);
        struct server s;
        char got[64] = "none";
        o.min_version = handshakes[i].least;
        server_of(&s, handshakes[i].chain, handshakes[i].server);
        struct tried t = try(&s, &o);
        if (t.session)
            snprintf(got, sizeof(got), "%s %s", tls_version_name(t.session), tls_kx_name(t.session));
        if (!fits(got, handshakes[i].want ? handshakes[i].want : "none"))
            fail_msg("%s at %s: %s", handshakes[i].server, tls_level_name(handshakes[i].level), got);
        end(&t);
        server_end(&s);
    }
}

static void a_priority_of_the_group_replaces_ours(void **state)
{
    struct tls_client_options o = options_of(TLS_VERIFY);
    struct server s;
    char why[200];

    (void)state;
    o.min_version = TLS_VERSION_1_3; /* does not count then */
    o.priority = "NORMAL:-VERS-ALL:+VERS-TLS1.2";
    server_of(&s, "leaf int", NULL);
    struct tried t = try(&s, &o);
    assert_string_equal(tls_version_name(t.session), "TLS1.2");
    end(&t);
    server_end(&s);
    o.priority = "NORMAL:+NONSENSE";
    assert_null(tls_client_session(world.client, &o, why, sizeof(why)));
    assert_non_null(strstr(why, "NONSENSE"));
}

/* ---- resumption ---- */

static const char *const resumable[] = {LEGACY("1.3"), LEGACY("1.2")};

static void a_resumed_session_keeps_the_verdict_and_another_key_resumes_nothing(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(resumable); i++) {
        struct tls_client_options o = options_of(TLS_VERIFY), other = options_of(TLS_VERIFY);
        struct server s, expired;
        server_of(&s, "leaf int", resumable[i]);
        server_of(&expired, "leaf-expired int", resumable[i]);
        o.cache_key = text_format("key one %zu", i);
        other.cache_key = "key two";
        struct tried t = try(&s, &o);
        assert_false(tls_client_resumed(t.session));
        assert_int_equal(tls_client_verify(t.session), TLS_VERIFY_PKIX);
        tls_client_remember(t.session);
        end(&t);

        t = try(&s, &other);
        assert_false(tls_client_resumed(t.session));
        end(&t);

        /* Nobody trusts its CA now, and the verdict is still that of the full handshake. */
        other = o;
        other.ca_file = "/dev/null";
        other.level = TLS_REQUIRE;
        t = try(&s, &other);
        assert_true(tls_client_resumed(t.session));
        assert_int_equal(tls_client_verify(t.session), TLS_VERIFY_PKIX);
        assert_int_equal(tls_client_expires_unix(t.session),
                         gnutls_x509_crt_get_expiration_time(ca_find(&world.ca, "leaf")->crt));
        end(&t);

        /* Offered to another server it is a full handshake, and the kept verdict does not count. */
        t = try(&expired, &o);
        assert_false(tls_client_resumed(t.session));
        assert_int_equal(tls_client_verify(t.session), TLS_VERIFY_EXPIRED);
        end(&t);
        mem_free((char *)(uintptr_t)o.cache_key);
        server_end(&s);
        server_end(&expired);
    }
}

static void a_session_that_was_not_judged_is_not_kept(void **state)
{
    struct tls_client_options o = options_of(TLS_VERIFY);
    struct server s;

    (void)state;
    o.cache_key = "not judged";
    server_of(&s, "leaf int", NULL);
    for (unsigned i = 0; i < 2; i++) {
        struct tried t = try(&s, &o);
        assert_false(tls_client_resumed(t.session));
        tls_client_remember(t.session);
        end(&t);
    }
    server_end(&s);
}

static struct dane_records *tlsa_of(const char *text)
{
    BUF_LOCAL(octets);

    ca_tlsa(&world.ca, text, &octets);
    struct bytes rdata = buf_bytes(&octets);
    return dane_records_make("mx.a.test", &rdata, 1, 300);
}

static void a_resumed_session_keeps_the_verdict_of_dane(void **state)
{
    static const char *const names[] = {"first.a.test", "mx.a.test"};
    struct dane_records *match = tlsa_of("2 1 1 int"), *mismatch = tlsa_of("3 1 1 !leaf");

    (void)state;
    for (size_t i = 0; i < COUNT_OF(resumable); i++) {
        struct tls_client_options o = options_of(TLS_DANE), bad = options_of(TLS_DANE);
        struct server s;
        struct dane_verdict v;
        char good_key[32], bad_key[32];
        server_of(&s, "leaf int", resumable[i]);
        snprintf(good_key, sizeof(good_key), "dane %zu", i);
        snprintf(bad_key, sizeof(bad_key), "dane bad %zu", i);
        o.cache_key = good_key;
        bad.cache_key = bad_key;
        struct tried t = try(&s, &o);
        tls_client_dane(t.session, match, names, 2, &v);
        assert_int_equal(v.check, DANE_CHECK_MATCH);
        assert_ptr_equal(v.name, names[1]);
        tls_client_remember(t.session); /* tls_client_verify was not asked */
        end(&t);

        /* Even against records that do not match: the key has their hash in it, so these are the same ones.
         */
        for (unsigned again = 0; again < 2; again++) {
            t = try(&s, &o);
            assert_true(tls_client_resumed(t.session));
            tls_client_dane(t.session, mismatch, names, 2, &v);
            assert_int_equal(v.check, DANE_CHECK_MATCH);
            assert_ptr_equal(v.name, names[1]);
            tls_client_remember(t.session);
            end(&t);
        }
        /* A name that was not asked about then is checked now, on the chain that the session keeps. */
        t = try(&s, &o);
        assert_true(tls_client_resumed(t.session));
        tls_client_dane(t.session, match, names, 1, &v);
        assert_int_equal(v.check, DANE_CHECK_MISMATCH);
        end(&t);

        t = try(&s, &bad);
        tls_client_dane(t.session, mismatch, names, 2, &v);
        assert_int_equal(v.check, DANE_CHECK_MISMATCH);
        tls_client_remember(t.session);
        end(&t);
        t = try(&s, &bad);
        tls_client_dane(t.session, match, names, 2, &v);
        assert_int_equal(v.check, tls_client_resumed(t.session) ? DANE_CHECK_MISMATCH : DANE_CHECK_MATCH);
        end(&t);
        server_end(&s);
    }
    dane_records_unref(match);
    dane_records_unref(mismatch);
}

/* A session judged by PKIX only, resumed where DANE is asked about: checked, not assumed. */
static void dane_of_a_resumed_session_without_a_verdict_is_checked(void **state)
{
    static const char *const names[] = {"mx.a.test"};
    struct dane_records *match = tlsa_of("3 1 1 leaf"), *mismatch = tlsa_of("3 1 1 !leaf");

    (void)state;
    for (size_t i = 0; i < COUNT_OF(resumable); i++) {
        struct tls_client_options o = options_of(TLS_VERIFY);
        struct server s;
        struct dane_verdict v;
        char key[32];
        snprintf(key, sizeof(key), "pkix only %zu", i);
        o.cache_key = key;
        server_of(&s, "leaf int", resumable[i]);
        for (unsigned round = 0; round < 3; round++) {
            struct tried t = try(&s, &o);
            assert_int_equal(tls_client_resumed(t.session), round > 0);
            assert_int_equal(tls_client_verify(t.session), TLS_VERIFY_PKIX);
            if (round == 0)
                tls_client_remember(t.session);
            else
                tls_client_dane(t.session, round == 1 ? match : mismatch, names, 1, &v);
            if (round > 0)
                assert_int_equal(v.check, round == 1 ? DANE_CHECK_MATCH : DANE_CHECK_MISMATCH);
            end(&t);
        }
        server_end(&s);
    }
    dane_records_unref(match);
    dane_records_unref(mismatch);
}

/* ---- files ---- */

static void a_client_certificate_is_shown_to_who_asks(void **state)
{
    char *certificate = write_certificates("client.pem", "leaf-client int"),
         *key = write_key("client.key", "leaf-client");
    char *other = write_key("other.key", "leaf");
    struct tls_client_options o = options_of(TLS_REQUIRE);
    struct server s;
    char why[300];

    (void)state;
    server_of(&s, "leaf int", NULL);
    o.certificate = certificate;
    o.key = key;
    struct tried t = try(&s, &o);
    assert_int_equal(s.client_certificates, 0);
    end(&t);
    s.asks_certificate = true;
    t = try(&s, &o);
    assert_int_equal(s.client_certificates, 2);
    end(&t);
    o.certificate = o.key = NULL;
    t = try(&s, &o);
    assert_int_equal(s.client_certificates, 0);
    end(&t);
    o.certificate = certificate;
    o.key = other;
    assert_null(tls_client_session(world.client, &o, why, sizeof(why)));
    assert_non_null(strstr(why, "client.pem"));
    o.key = "/nonexistent/key.pem";
    assert_null(tls_client_session(world.client, &o, why, sizeof(why)));
    assert_non_null(strstr(why, "/nonexistent/key.pem"));
    server_end(&s);
    mem_free(certificate);
    mem_free(key);
    mem_free(other);
}

static void a_trust_file_that_cannot_be_used_trusts_nobody_and_is_named(void **state)
{
    char *empty = write_file("empty.pem", "nothing here\n");
    const char *files[] = {"/nonexistent/ca.pem", empty};
    struct server s;
    char why[300];

    (void)state;
    server_of(&s, "leaf int", NULL);
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        struct tls_client_options o = options_of(TLS_VERIFY);
        o.ca_file = files[i];
        assert_null(tls_client_session(world.client, &o, why, sizeof(why)));
        assert_non_null(strstr(why, files[i]));
        o.level = TLS_STS_ENFORCE;
        assert_null(tls_client_session(world.client, &o, why, sizeof(why)));
        o.level = TLS_DANE; /* does not judge by it */
        struct tried t = try(&s, &o);
        assert_int_equal(tls_client_verify(t.session), TLS_VERIFY_UNKNOWN_CA);
        end(&t);
    }
    server_end(&s);
    mem_free(empty);
}

static void a_trust_file_that_changed_is_read_again(void **state)
{
    char *file = write_certificates("changing.pem", "evil");
    struct tls_client_options o = options_of(TLS_REQUIRE);
    struct server s;
    uint64_t usual = tls_trust_look_again_ms;

    (void)state;
    server_of(&s, "leaf int", NULL);
    o.ca_file = file;
    struct tried t = try(&s, &o);
    assert_int_equal(tls_client_verify(t.session), TLS_VERIFY_UNKNOWN_CA);
    end(&t);
    mem_free(write_certificates("changing.pem", "evil root"));
    t = try(&s, &o); /* not so soon */
    assert_int_equal(tls_client_verify(t.session), TLS_VERIFY_UNKNOWN_CA);
    end(&t);
    tls_trust_look_again_ms = 0;
    t = try(&s, &o);
    assert_int_equal(tls_client_verify(t.session), TLS_VERIFY_PKIX);
    mem_free(write_file("changing.pem", "half wri")); /* what was good stays in use */
    struct tried again = try(&s, &o);
    assert_int_equal(tls_client_verify(again.session), TLS_VERIFY_PKIX);
    end(&again);
    end(&t);
    tls_trust_look_again_ms = usual;
    server_end(&s);
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
    struct tls_client_options o = options_of(TLS_REQUIRE);
    gnutls_datum_t chain[100];
    struct dane_records *match = tlsa_of("3 1 1 leaf");
    struct dane_verdict v;
    struct server s;

    (void)state;
    chain[0] = ca_find(&world.ca, "leaf")->der;
    for (unsigned i = 1; i < COUNT_OF(chain); i++)
        chain[i] = ca_find(&world.ca, i % 2 ? "int" : "root")->der;
    server_start(&s, chain, COUNT_OF(chain), ca_find(&world.ca, "leaf")->key, NULL);
    struct tried t = try(&s, &o);
    assert_non_null(t.session);
    double before = cpu_ms();
    assert_int_equal(tls_client_verify(t.session), TLS_VERIFY_BAD);
    tls_client_dane(t.session, match, names, 1, &v);
    assert_int_equal(v.check, DANE_CHECK_MATCH); /* the leaf is all that counts there */
    double took = cpu_ms() - before;
    if (took > 100)
        fail_msg("%.0f ms", took);
    end(&t);
    server_end(&s);
    dane_records_unref(match);
}

static void a_chain_of_a_megabyte_is_refused(void **state)
{
    struct tls_client_options o = options_of(TLS_ON);
    gnutls_datum_t chain[2000];
    struct server s;

    (void)state;
    for (unsigned i = 0; i < COUNT_OF(chain); i++)
        chain[i] = ca_find(&world.ca, i ? "int" : "leaf")->der;
    server_start(&s, chain, COUNT_OF(chain), ca_find(&world.ca, "leaf")->key, NULL);
    double before = cpu_ms();
    struct tried t = try(&s, &o);
    double took = cpu_ms() - before;
    assert_null(t.session);
    if (took > 500)
        fail_msg("%.0f ms", took);
    end(&t);
    server_end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_certificate_has_its_verdict),
        cmocka_unit_test(any_of_several_names_will_do_and_none_is_taken_from_the_sni),
        cmocka_unit_test(a_pin_stands_in_for_chain_and_name),
        cmocka_unit_test(the_leaf_and_the_chain_can_be_shown),
        cmocka_unit_test(every_version_and_key_exchange_is_as_the_level_says),
        cmocka_unit_test(a_priority_of_the_group_replaces_ours),
        cmocka_unit_test(a_resumed_session_keeps_the_verdict_and_another_key_resumes_nothing),
        cmocka_unit_test(a_session_that_was_not_judged_is_not_kept),
        cmocka_unit_test(a_resumed_session_keeps_the_verdict_of_dane),
        cmocka_unit_test(dane_of_a_resumed_session_without_a_verdict_is_checked),
        cmocka_unit_test(a_client_certificate_is_shown_to_who_asks),
        cmocka_unit_test(a_trust_file_that_cannot_be_used_trusts_nobody_and_is_named),
        cmocka_unit_test(a_trust_file_that_changed_is_read_again),
        cmocka_unit_test(a_hundred_certificates_are_too_many_and_cost_little),
        cmocka_unit_test(a_chain_of_a_megabyte_is_refused),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
