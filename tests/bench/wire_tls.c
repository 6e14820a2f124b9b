#include "tests/bench/wire.h"

#include <fcntl.h>
#include <gnutls/x509.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

bool wire_tls_client(struct wire_tls *t)
{
    return gnutls_certificate_allocate_credentials(&t->creds) == 0 &&
           gnutls_priority_init(&t->priority, "NORMAL", NULL) == 0;
}

bool wire_tls_server(struct wire_tls *t, const char *cert_file, const char *key_file)
{
    return wire_tls_client(t) &&
           gnutls_certificate_set_x509_key_file(t->creds, cert_file, key_file, GNUTLS_X509_FMT_PEM) >= 0 &&
           gnutls_session_ticket_key_generate(&t->ticket_key) == 0;
}

void wire_tls_fini(struct wire_tls *t)
{
    if (t->creds)
        gnutls_certificate_free_credentials(t->creds);
    if (t->priority)
        gnutls_priority_deinit(t->priority);
    gnutls_free(t->ticket_key.data);
    gnutls_free(t->resume.data);
    *t = (struct wire_tls){0};
}

void wire_start_tls(struct wire *w, const struct wire_tls *t, bool server)
{
    gnutls_init(&w->tls, (server ? GNUTLS_SERVER : GNUTLS_CLIENT) | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
    gnutls_priority_set(w->tls, t->priority);
    gnutls_credentials_set(w->tls, GNUTLS_CRD_CERTIFICATE, t->creds);
    if (server)
        gnutls_session_ticket_enable_server(w->tls, &t->ticket_key);
    else if (t->resume.data)
        gnutls_session_set_data(w->tls, t->resume.data, t->resume.size);
    gnutls_transport_set_int(w->tls, w->fd);
    w->shaking = true;
}

enum wire_result wire_shake(struct wire *w)
{
    int e;

    do
        e = gnutls_handshake(w->tls);
    while (e == GNUTLS_E_INTERRUPTED || e == GNUTLS_E_WARNING_ALERT_RECEIVED);
    if (e == GNUTLS_E_AGAIN)
        return WIRE_WAIT;
    if (e)
        return WIRE_GONE;
    w->shaking = false;
    return WIRE_DATA;
}

bool wire_resumed(const struct wire *w)
{
    return gnutls_session_is_resumed(w->tls);
}

void wire_remember(struct wire *w, struct wire_tls *t)
{
    gnutls_datum_t fresh = {0};

    if (!w->tls || w->shaking || gnutls_session_get_data2(w->tls, &fresh))
        return;
    gnutls_free(t->resume.data);
    t->resume = fresh;
}

static bool save(const char *file, const gnutls_datum_t *pem)
{
    int fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (fd < 0)
        return false;
    bool saved = write(fd, pem->data, pem->size) == (ssize_t)pem->size;
    return close(fd) == 0 && saved;
}

static bool sign(gnutls_x509_crt_t crt, gnutls_x509_privkey_t key, const char *name)
{
    time_t now = time(NULL);

    return gnutls_x509_privkey_generate2(key, GNUTLS_PK_ECDSA,
                                         GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0, NULL, 0) == 0 &&
           gnutls_x509_crt_set_version(crt, 3) == 0 && gnutls_x509_crt_set_serial(crt, "\1", 1) == 0 &&
           gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, name, (unsigned)strlen(name)) ==
               0 &&
           gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, name, (unsigned)strlen(name),
                                                GNUTLS_FSAN_SET) == 0 &&
           gnutls_x509_crt_set_activation_time(crt, now - 3600) == 0 &&
           gnutls_x509_crt_set_expiration_time(crt, now + 86400) == 0 &&
           gnutls_x509_crt_set_key(crt, key) == 0 &&
           gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0) == 0;
}

bool wire_make_cert(const char *name, const char *cert_file, const char *key_file)
{
    gnutls_x509_privkey_t key = NULL;
    gnutls_x509_crt_t crt = NULL;
    gnutls_datum_t cert_pem = {0}, key_pem = {0};
    bool made = gnutls_x509_privkey_init(&key) == 0 && gnutls_x509_crt_init(&crt) == 0 &&
                sign(crt, key, name) && gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &cert_pem) == 0 &&
                gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &key_pem) == 0 &&
                save(cert_file, &cert_pem) && save(key_file, &key_pem);

    gnutls_free(cert_pem.data);
    gnutls_free(key_pem.data);
    if (crt)
        gnutls_x509_crt_deinit(crt);
    if (key)
        gnutls_x509_privkey_deinit(key);
    return made;
}

bool wire_make_rsa_key(const char *file)
{
    gnutls_x509_privkey_t key = NULL;
    gnutls_datum_t pem = {0};
    bool made = gnutls_x509_privkey_init(&key) == 0 &&
                gnutls_x509_privkey_generate(key, GNUTLS_PK_RSA, 2048, 0) == 0 &&
                gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &pem) == 0 && save(file, &pem);

    gnutls_free(pem.data);
    if (key)
        gnutls_x509_privkey_deinit(key);
    return made;
}
