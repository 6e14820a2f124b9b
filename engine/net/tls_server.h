/*
 * TLS of a listener: its certificates, chosen by the name that the client asks for (SNI, RFC 6066 §3), and
 * what is asked of the clients' own.
 *
 * Thread    a loaded tls_server is immutable and counted: any thread.  A session belongs to its connection.
 */
#pragma once

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/macros.h"
#include "policy/tls_decide.h"

struct tls_server;

struct tls_server_pair {
    const char *certificate, *key; /* PEM files */
    /* Names of SNI that get this one, `*.example.com` is any one label before the rest; none: those of the
     * certificate. */
    const char *const *names;
    size_t name_count;
};

/* In the order of conf.c. */
enum tls_client_certificates {
    TLS_CLIENT_CERTIFICATES_OFF,     /* not asked for */
    TLS_CLIENT_CERTIFICATES_REQUEST, /* asked for; who has none, or one that holds no water, goes on as
                                        without */
    TLS_CLIENT_CERTIFICATES_REQUIRE, /* no handshake without one; whether it is good enough the owner asks
                                        tls_peer_read */
};

struct tls_server_options {
    const struct tls_server_pair
        *pairs; /* the first answers who asks for a name that none has, or for none */
    size_t pair_count;
    const char *priority;         /* a GnuTLS string that replaces ours, or NULL */
    enum tls_version min_version; /* TLS_VERSION_1_3 narrows `priority` too */
    enum tls_client_certificates client_certificates;
    const char *client_ca; /* PEM file: who may vouch for clients; NULL: nobody, only fingerprints count */
    const char *crl; /* PEM file of revocation lists, for our certificates and for clients'; NULL: none */
};
/* ERR_IO: a file cannot be read.  ERR_INVALID: it is not what it should be.  *why says which file and what to
 * do (mem_free). */
MUST_CHECK enum err tls_server_load(const struct tls_server_options *o, struct tls_server **out, char **why);
struct tls_server *tls_server_ref(struct tls_server *t);
void tls_server_unref(struct tls_server *t);
gnutls_session_t tls_server_session(struct tls_server *t); /* holds a reference until tls_session_end */

/* ---- our certificates ---- */
struct tls_certificate {
    char *file;     /* owned */
    char *key_file; /* owned */
    char *name;     /* owned: its first name */
    int64_t from_unix, expires_unix;
    bool self_signed;
    bool revoked; /* by the CRL, it or one above it */
    bool weak;    /* RSA below 2048 bits, or a SHA-1 signature: clients that verify may refuse it */
};
size_t tls_server_certificate_count(const struct tls_server *t);
const struct tls_certificate *tls_server_certificate(const struct tls_server *t, size_t i);
int64_t tls_server_expires_unix(const struct tls_server *t); /* of the certificate that ends first */
/* Which one a client that asks for this name gets; NULL or an unknown name: 0. */
size_t tls_server_choose(const struct tls_server *t, const char *name);

/* Makes DIR/tls-cert.pem and DIR/tls-key.pem (ECDSA P-256, self-signed, ten years, key 0600) unless both are
 * there. */
MUST_CHECK enum err tls_self_signed_ensure(const char *dir, const char *host_name, char **certificate,
                                           char **key, char **why);

/* ---- the client's certificate ---- */
#define TLS_FINGERPRINT_BYTES 65 /* SHA-256 in lower-case hex, and its NUL */

struct tls_peer {
    gnutls_x509_crt_t leaf; /* owned; NULL: none was presented */
    char fingerprint[TLS_FINGERPRINT_BYTES];
    bool in_time;  /* its dates hold, and no CRL names it: enough for a fingerprint */
    bool verified; /* and its chain ends in client_ca, for the use as a client: enough for names */
    char why[128]; /* what is wrong, when something is */
};
/* What the listener of this session asks of clients. */
bool tls_peer_is_asked(gnutls_session_t session);
bool tls_peer_is_required(gnutls_session_t session);
/* After the handshake. */
void tls_peer_read(gnutls_session_t session, struct tls_peer *out);
void tls_peer_fini(struct tls_peer *p);
/*
 * Does the certificate answer what an account names (queue/accounts.h)?
 *     sha256:HEX        this very certificate
 *     dns:NAME email:ADDRESS uri:URI      a subjectAltName, of a verified one
 *     subject:DN        the whole subject as RFC 4514 writes it, of a verified one
 */
bool tls_peer_matches(const struct tls_peer *p, const char *spec);
/* Is it one of those forms, or a certificate as PEM?  Brings it into the form that is stored (mem_free), or
 * NULL. */
char *tls_peer_spec_normalise(const char *spec);
