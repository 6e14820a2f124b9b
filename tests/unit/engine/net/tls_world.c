#include "tests/unit/engine/net/tls_world.h"

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

#include "base/mem.h"

struct tls_world tls_world;

static const struct ca_wish more_wishes[] = {
    {"leaf-static-rsa", "leaf", "mx.a.test", "int", "rsa2048 encipher", NULL},
};

char *tls_world_file(const char *name, const char *text)
{
    char *path = text_format("%s/%s", tls_world.dir, name);
    FILE *f = fopen(path, "we");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    return path;
}

char *tls_world_pem(const char *ids)
{
    gnutls_datum_t chain[16], pem;
    unsigned n = ca_chain(&tls_world.ca, ids, chain, COUNT_OF(chain));
    struct buf out = {0};

    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(gnutls_pem_base64_encode2("CERTIFICATE", &chain[i], &pem), 0);
        buf_put(&out, bytes_make(pem.data, pem.size));
        gnutls_free(pem.data);
    }
    return buf_take(&out);
}

char *tls_world_certificates(const char *name, const char *ids)
{
    char *text = tls_world_pem(ids), *path = tls_world_file(name, text);

    mem_free(text);
    return path;
}

char *tls_world_key(const char *name, const char *id)
{
    gnutls_datum_t pem;

    assert_int_equal(gnutls_x509_privkey_export2(ca_find(&tls_world.ca, id)->key, GNUTLS_X509_FMT_PEM, &pem),
                     0);
    char *text = mem_dup(pem.data, pem.size), *path = tls_world_file(name, text);
    gnutls_free(pem.data);
    mem_free(text);
    return path;
}

int tls_world_setup(void **state)
{
    (void)state;
    snprintf(tls_world.dir, sizeof(tls_world.dir), "/tmp/test-tls-XXXXXX");
    assert_non_null(mkdtemp(tls_world.dir));
    dane_world(&tls_world.ca, time(NULL));
    for (size_t i = 0; i < COUNT_OF(more_wishes); i++)
        ca_make(&tls_world.ca, &more_wishes[i]);
    tls_world.trust = tls_world_certificates("trust.pem", "root root-1024 root-path0 root-expired");
    tls_world.client = tls_client_create();
    return 0;
}

int tls_world_teardown(void **state)
{
    char *command = text_format("rm -r %s", tls_world.dir);

    (void)state;
    tls_client_destroy(tls_world.client);
    ca_end(&tls_world.ca);
    mem_free(tls_world.trust);
    assert_int_equal(system(command), 0);
    mem_free(command);
    return 0;
}

/* ---- a server ---- */

void tls_server_start_chain(struct tls_test_server *s, const gnutls_datum_t *chain, unsigned count,
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

void tls_server_start(struct tls_test_server *s, const char *ids, const char *priority)
{
    gnutls_datum_t chain[32];
    unsigned n = ca_chain(&tls_world.ca, ids, chain, COUNT_OF(chain));
    char first[64];

    snprintf(first, sizeof(first), "%.*s", (int)strcspn(ids, " "), ids);
    tls_server_start_chain(s, chain, n, ca_find(&tls_world.ca, first)->key, priority);
}

void tls_server_stop(struct tls_test_server *s)
{
    gnutls_certificate_free_credentials(s->credentials);
    gnutls_free(s->ticket_key.data);
}

static gnutls_session_t server_session(struct tls_test_server *s, int fd)
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

static int step(gnutls_session_t session, int before)
{
    return before == GNUTLS_E_AGAIN || before == GNUTLS_E_INTERRUPTED ? gnutls_handshake(session) : before;
}

static bool open_session(const int rc)
{
    return rc == GNUTLS_E_AGAIN || rc == GNUTLS_E_INTERRUPTED;
}

struct tls_tried tls_try(struct tls_test_server *s, const struct tls_client_options *o)
{
    struct tls_tried t = {0};
    char why[200] = "", octet = 0;
    int client_rc = GNUTLS_E_AGAIN, server_rc = GNUTLS_E_AGAIN;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, t.fds), 0);
    t.session = tls_client_session(tls_world.client, o, why, sizeof(why));
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

void tls_tried_end(struct tls_tried *t)
{
    tls_session_end(t->session);
    close(t->fds[0]);
    close(t->fds[1]);
}

struct tls_client_options tls_options_of(enum tls_level level)
{
    return (struct tls_client_options){
        .level = level, .min_version = TLS_VERSION_1_2, .ca_file = tls_world.trust, .sni = "mx.a.test"};
}

struct dane_records *tls_world_tlsa(const char *text)
{
    BUF_LOCAL(octets);

    ca_tlsa(&tls_world.ca, text, &octets);
    struct bytes rdata = buf_bytes(&octets);
    return dane_records_make("mx.a.test", &rdata, 1, 300);
}
