/*
 * Server side: the certificates of a listener, and the choice among them.
 *
 * Each certificate has GnuTLS credentials of its own, which hold also those others that answer to all its
 * names: so a name with an RSA and an ECDSA certificate serves every client.  GnuTLS asks us for the
 * credentials once it has read the ClientHello; left to itself, it would compare names octet by octet and
 * know no wildcards.
 */
#include "engine/net/tls_server.h"

#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "engine/net/certificate.h"
#include "engine/net/tls_server_priv.h"

/* RFC 9325: 1.3 and 1.2, forward secrecy and AEAD only on our side of the door. */
#define SERVER_PRIORITY                                                                                      \
    "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:-KX-ALL:+ECDHE-ECDSA:+ECDHE-RSA:"                            \
    "-CIPHER-ALL:+AES-256-GCM:+CHACHA20-POLY1305:+AES-128-GCM:%SERVER_PRECEDENCE"
#define ONLY_1_3 ":-VERS-TLS1.2:-VERS-TLS1.1:-VERS-TLS1.0"

#define SNI_MAX 255

static void identity_fini(struct tls_identity *id)
{
    if (id->credentials)
        gnutls_certificate_free_credentials(id->credentials);
    for (size_t i = 0; i < id->chain_count; i++)
        gnutls_x509_crt_deinit(id->chain[i]);
    gnutls_free(id->chain);
    for (size_t i = 0; i < id->name_count; i++)
        mem_free(id->names[i]);
    mem_free(id->names);
    mem_free(id->facts.file);
    mem_free(id->facts.key_file);
    mem_free(id->facts.name);
}

void tls_server_unref(struct tls_server *t)
{
    if (!t || atomic_fetch_sub(&t->refs, 1) != 1)
        return;
    for (size_t i = 0; i < t->count; i++)
        identity_fini(&t->identities[i]);
    mem_free(t->identities);
    if (t->priority)
        gnutls_priority_deinit(t->priority);
    for (unsigned i = 0; i < t->crl_count; i++)
        gnutls_x509_crl_deinit(t->crls[i]);
    gnutls_free(t->crls);
    gnutls_free(t->ticket_key.data);
    mem_free(t);
}
DEFINE_CLEANUP(struct tls_server *, tls_server_unref)

struct tls_server *tls_server_ref(struct tls_server *t)
{
    atomic_fetch_add(&t->refs, 1);
    return t;
}

/* ---- loading ---- */

static enum err cannot_read(const char *what, const char *path, char **why)
{
    *why = text_format("cannot read the %s %s: %m; name a PEM file that the daemon may read", what, path);
    return ERR_IO;
}

static enum err load_crls(struct tls_server *t, const char *path, char **why)
{
    gnutls_datum_t pem;

    if (!path)
        return OK;
    if (access(path, R_OK) != 0)
        return cannot_read("revocation list", path, why);
    int rc = gnutls_load_file(path, &pem);
    if (rc >= 0) {
        rc = gnutls_x509_crl_list_import2(&t->crls, &t->crl_count, &pem, GNUTLS_X509_FMT_PEM, 0);
        gnutls_free(pem.data);
    }
    if (rc >= 0)
        return OK;
    *why = text_format("the revocation list %s: %s", path, gnutls_strerror(rc));
    return ERR_INVALID;
}

static enum err load_priority(struct tls_server *t, const struct tls_server_options *o, char **why)
{
    const char *error_at = NULL;
    BUF_LOCAL(wanted);

    buf_puts(&wanted, o->priority ? o->priority : SERVER_PRIORITY);
    if (o->min_version == TLS_VERSION_1_3)
        buf_puts(&wanted, ONLY_1_3);
    int rc = gnutls_priority_init(&t->priority, buf_str(&wanted), &error_at);
    if (rc >= 0)
        return OK;
    *why = text_format("the TLS priority string is not understood from \"%s\": %s",
                       error_at ? error_at : buf_str(&wanted), gnutls_strerror(rc));
    return ERR_INVALID;
}

static char *name_of(gnutls_x509_crt_t crt)
{
    char name[256];
    size_t size = sizeof(name) - 1;

    for (unsigned i = 0; i < 8; i++, size = sizeof(name) - 1) {
        int type = gnutls_x509_crt_get_subject_alt_name(crt, i, name, &size, NULL);
        if (type == GNUTLS_SAN_DNSNAME)
            return mem_dup(name, size);
        if (type == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
            break;
    }
    size = sizeof(name);
    if (gnutls_x509_crt_get_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, 0, name, &size) >= 0)
        return mem_dup(name, size);
    return mem_strdup("(no name)");
}

static void take_facts(const struct tls_server *t, struct tls_identity *id)
{
    struct tls_certificate *f = &id->facts;
    gnutls_x509_crt_t leaf = id->chain[0];

    f->name = name_of(leaf);
    f->from_unix = gnutls_x509_crt_get_activation_time(leaf);
    f->expires_unix = gnutls_x509_crt_get_expiration_time(leaf);
    f->self_signed = gnutls_x509_crt_check_issuer(leaf, leaf) == 1;
    f->weak = certificate_key_is_weak(leaf) || (!f->self_signed && certificate_signature_is_weak(leaf));
    for (size_t i = 0; i < id->chain_count && t->crl_count; i++)
        f->revoked |= gnutls_x509_crt_check_revocation(id->chain[i], t->crls, t->crl_count) == 1;
}

/* GnuTLS takes the two files at once, and does not say which of them it means. */
static char *why_not_loaded(const struct tls_server_pair *pair, const char *problem)
{
    gnutls_datum_t text = {0};
    gnutls_x509_crt_t *chain = NULL;
    unsigned count = 0;
    bool has_certificate = gnutls_load_file(pair->certificate, &text) >= 0 &&
                           gnutls_x509_crt_list_import2(&chain, &count, &text, GNUTLS_X509_FMT_PEM, 0) >= 0 &&
                           count > 0;

    for (unsigned i = 0; has_certificate && i < count; i++)
        gnutls_x509_crt_deinit(chain[i]);
    if (has_certificate)
        gnutls_free(chain);
    gnutls_free(text.data);
    if (!has_certificate)
        return text_format(
            "%s holds no certificate in PEM (-----BEGIN CERTIFICATE-----) that can be read: %s",
            pair->certificate, problem);
    return text_format(
        "%s holds no private key in PEM (-----BEGIN PRIVATE KEY-----, without a password) that can be "
        "read: %s",
        pair->key, problem);
}

static enum err load_identity(const struct tls_server *t, const struct tls_server_pair *pair,
                              struct tls_identity *id, char **why)
{
    unsigned count = 0;

    if (access(pair->certificate, R_OK) != 0)
        return cannot_read("TLS certificate", pair->certificate, why);
    if (access(pair->key, R_OK) != 0)
        return cannot_read("TLS key", pair->key, why);
    gnutls_certificate_allocate_credentials(&id->credentials);
    int rc = gnutls_certificate_set_x509_key_file(id->credentials, pair->certificate, pair->key,
                                                  GNUTLS_X509_FMT_PEM);
    if (rc >= 0)
        rc = gnutls_certificate_get_x509_crt(id->credentials, 0, &id->chain, &count);
    id->chain_count = count;
    if (rc == GNUTLS_E_CERTIFICATE_KEY_MISMATCH) {
        *why =
            text_format("the TLS key %s is not the key of the certificate %s: one of the two is older than "
                        "the other, or the chain does not begin with our own certificate",
                        pair->key, pair->certificate);
        return ERR_INVALID;
    }
    if (rc < 0 || count == 0) {
        *why = why_not_loaded(pair, rc < 0 ? gnutls_strerror(rc) : "no certificate is in the file");
        return ERR_INVALID;
    }
    id->facts.file = mem_strdup(pair->certificate);
    id->facts.key_file = mem_strdup(pair->key);
    id->names = mem_zalloc((pair->name_count + 1) * sizeof(*id->names));
    for (size_t i = 0; i < pair->name_count; i++)
        id->names[id->name_count++] = mem_strdup(pair->names[i]);
    take_facts(t, id);
    return OK;
}

/* ---- names ---- */

static bool answers_to(const struct tls_identity *id, const char *name)
{
    if (id->name_count == 0)
        return certificate_has_name(id->chain[0], name);
    for (size_t i = 0; i < id->name_count; i++)
        if (certificate_dns_name_matches(bytes_of(id->names[i]), name))
            return true;
    return false;
}

/* `name` may be a pattern: then any name that it stands for. */
static bool answers_to_pattern(const struct tls_identity *id, struct bytes pattern)
{
    BUF_LOCAL(name);

    buf_puts(&name, bytes_starts(pattern, BYTES("*.")) ? "any-label" : "");
    buf_put(&name, bytes_starts(pattern, BYTES("*.")) ? bytes_skip(pattern, 1) : pattern);
    return answers_to(id, buf_str(&name));
}

/* All names of `id` are names of `other` too. */
static bool is_covered(const struct tls_identity *id, const struct tls_identity *other)
{
    char name[256];
    bool any = id->name_count > 0;

    for (size_t i = 0; i < id->name_count; i++)
        if (!answers_to_pattern(other, bytes_of(id->names[i])))
            return false;
    for (unsigned i = 0; id->name_count == 0; i++) {
        size_t size = sizeof(name);
        int type = gnutls_x509_crt_get_subject_alt_name(id->chain[0], i, name, &size, NULL);
        if (type == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE || type == GNUTLS_E_SHORT_MEMORY_BUFFER)
            return any && type == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE;
        if (type != GNUTLS_SAN_DNSNAME)
            continue;
        any = true;
        if (!answers_to_pattern(other, bytes_make(name, size)))
            return false;
    }
    return any;
}

static enum err add_relatives(struct tls_server *t, const struct tls_server_options *o, size_t i, char **why)
{
    for (size_t j = 0; j < t->count; j++) {
        if (j == i || !is_covered(&t->identities[i], &t->identities[j]))
            continue;
        int rc = gnutls_certificate_set_x509_key_file(t->identities[i].credentials, o->pairs[j].certificate,
                                                      o->pairs[j].key, GNUTLS_X509_FMT_PEM);
        if (rc < 0) {
            *why = text_format("TLS certificate %s: %s", o->pairs[j].certificate, gnutls_strerror(rc));
            return ERR_INVALID;
        }
    }
    return OK;
}

/* Whom we believe about clients, and whom no longer. */
static enum err set_trust(struct tls_server *t, const struct tls_server_options *o, size_t i, char **why)
{
    gnutls_certificate_credentials_t credentials = t->identities[i].credentials;

    if (o->client_certificates == TLS_CLIENT_CERTIFICATES_OFF)
        return OK;
    if (o->client_ca && access(o->client_ca, R_OK) != 0)
        return cannot_read("file of trusted certificates", o->client_ca, why);
    int rc = o->client_ca
                 ? gnutls_certificate_set_x509_trust_file(credentials, o->client_ca, GNUTLS_X509_FMT_PEM)
                 : 0;
    if (o->client_ca && rc <= 0) {
        *why = text_format("%s holds no certificate that could vouch for clients%s%s", o->client_ca,
                           rc < 0 ? ": " : "", rc < 0 ? gnutls_strerror(rc) : "");
        return ERR_INVALID;
    }
    if (t->crl_count && o->client_ca)
        gnutls_certificate_set_x509_crl(credentials, t->crls, (int)t->crl_count);
    return OK;
}

enum err tls_server_load(const struct tls_server_options *o, struct tls_server **out, char **why)
{
    CLEANUP(tls_server_unref) struct tls_server *t = MEM_NEW(struct tls_server);
    enum err e;

    atomic_init(&t->refs, 1);
    t->client_certificates = o->client_certificates;
    t->has_client_ca = o->client_ca != NULL;
    t->identities = mem_zalloc(o->pair_count * sizeof(*t->identities));
    e = load_priority(t, o, why);
    if (!e)
        e = load_crls(t, o->crl, why);
    for (; t->count < o->pair_count && !e; t->count++)
        e = load_identity(t, &o->pairs[t->count], &t->identities[t->count], why);
    for (size_t i = 0; i < t->count && !e; i++)
        e = add_relatives(t, o, i, why);
    for (size_t i = 0; i < t->count && !e; i++)
        e = set_trust(t, o, i, why);
    if (e)
        return e;
    gnutls_session_ticket_key_generate(&t->ticket_key);
    *out = TAKE(t);
    return OK;
}

/* ---- what is loaded ---- */

size_t tls_server_certificate_count(const struct tls_server *t)
{
    return t->count;
}

const struct tls_certificate *tls_server_certificate(const struct tls_server *t, size_t i)
{
    return &t->identities[i].facts;
}

int64_t tls_server_expires_unix(const struct tls_server *t)
{
    int64_t first = t->identities[0].facts.expires_unix;

    for (size_t i = 1; i < t->count; i++)
        first = MIN_OF(first, t->identities[i].facts.expires_unix);
    return first;
}

size_t tls_server_choose(const struct tls_server *t, const char *name)
{
    for (size_t i = 0; name && i < t->count; i++)
        if (answers_to(&t->identities[i], name))
            return i;
    return 0;
}

/* ---- sessions ---- */

/* The ClientHello has been read. */
static int on_hello(gnutls_session_t session)
{
    const struct session_extra *extra = gnutls_session_get_ptr(session);
    const struct tls_server *t = extra->server;
    char name[SNI_MAX + 1];
    size_t size = sizeof(name);
    unsigned type;

    if (gnutls_server_name_get(session, name, &size, &type, 0) < 0 || type != GNUTLS_NAME_DNS)
        return 0;
    const struct tls_identity *id = &t->identities[tls_server_choose(t, name)];
    return gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, id->credentials);
}

gnutls_session_t tls_server_session(struct tls_server *t)
{
    static const gnutls_certificate_request_t requests[] = {
        [TLS_CLIENT_CERTIFICATES_OFF] = GNUTLS_CERT_IGNORE,
        [TLS_CLIENT_CERTIFICATES_REQUEST] = GNUTLS_CERT_REQUEST,
        [TLS_CLIENT_CERTIFICATES_REQUIRE] = GNUTLS_CERT_REQUIRE,
    };
    gnutls_session_t session;
    struct session_extra *extra = MEM_NEW(struct session_extra);

    gnutls_init(&session, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
    gnutls_priority_set(session, t->priority);
    gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, t->identities[0].credentials);
    gnutls_certificate_server_set_request(session, requests[t->client_certificates]);
    if (t->client_certificates) /* a list of CAs keeps clients from sending what only a fingerprint knows */
        gnutls_certificate_send_x509_rdn_sequence(session, 1);
    else /* a ticket of TLS 1.3 does not bring the client's certificate back: RFC 8446 §4.6.1 */
        gnutls_session_ticket_enable_server(session, &t->ticket_key);
    if (t->count > 1)
        gnutls_handshake_set_post_client_hello_function(session, on_hello);
    gnutls_handshake_set_timeout(session, GNUTLS_INDEFINITE_TIMEOUT); /* the connection's deadline rules */
    extra->role = SESSION_SERVER;
    extra->server = tls_server_ref(t);
    gnutls_session_set_ptr(session, extra);
    return session;
}
