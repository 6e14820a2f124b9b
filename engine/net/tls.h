/*
 * GnuTLS credentials and sessions by role and level.
 *
 * Thread    credentials are immutable and counted: any thread.  A session belongs to its connection.
 * Priority  strings are always set explicitly: GnuTLS's NORMAL still offers TLS 1.0 and static RSA.
 */
#pragma once

#include <gnutls/gnutls.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/ip.h"
#include "engine/dane/dane.h"
#include "engine/net/tls_server.h"
#include "policy/tls_decide.h"

/* ---- client ---- */
struct tls_client; /* trust and resumption for one process */

struct tls_client *tls_client_create(void);
void tls_client_destroy(struct tls_client *t);
struct tls_client_options {
    enum tls_level level;
    const char *priority;          /* the group's, or NULL */
    enum tls_version min_version;  /* where `priority` is NULL */
    const char *ca_file;           /* the group's, or NULL: the system's */
    const char *certificate, *key; /* client certificate, PEM files, or NULL; reloaded when they change */
    const char *const *pins;       /* policy.h: tls_pins; borrowed while the session lives */
    size_t pin_count;
    const char *sni; /* MX host name or TLSA base domain; not sent when it is an address */
    /* Reference names of the certificate, any of which will do; `.suffix` is exactly one more label.  None:
     * `sni`. Copied. */
    const char *const *names;
    size_t name_count;
    const char *cache_key; /* sessions are resumed only under an equal key: the reuse key of the connection */
};
/*
 * NULL, and the reason in `why`, when the priority string or the client certificate is bad; the trust file
 * too, at the levels that judge by it (verify, sts-enforce): at the others nobody is trusted then, which is
 * recorded.
 */
gnutls_session_t tls_client_session(struct tls_client *t, const struct tls_client_options *o, char *why,
                                    size_t why_bytes);
/*
 * After the handshake: what PKIX says of the peer (chain to the trust, dates, name in subjectAltName,
 * strength), whether or not it decides.  A resumed session gives what its full handshake gave.
 */
enum tls_verify tls_client_verify(gnutls_session_t session);
/* The same for DANE: dane_check of what the peer presented.  The cache key must have records->hash in it,
 * because a resumed session gives what its full handshake gave. */
void tls_client_dane(gnutls_session_t session, const struct dane_records *records, const char *const *names,
                     size_t name_count, struct dane_verdict *out);
int64_t tls_client_expires_unix(gnutls_session_t session); /* of the peer's leaf; 0: none seen */
/* What the peer presented, leaf first, as DER: borrowed while the session lives; NULL and *count 0 without
 * any. */
const gnutls_datum_t *tls_client_chain(gnutls_session_t session, unsigned *count);
char *tls_client_chain_pem(gnutls_session_t session); /* the same as text: mem_free */
bool tls_client_resumed(gnutls_session_t session);
/* Keeps the session for resumption, once: call it when octets from the peer have come (TLS 1.3 tickets do).
 */
void tls_client_remember(gnutls_session_t session);

/* ---- both ---- */
void tls_session_end(gnutls_session_t session);         /* deinit, and what it held */
const char *tls_version_name(gnutls_session_t session); /* "TLS1.3", static */
const char *
tls_kx_name(gnutls_session_t session); /* "ECDHE-X25519", "DHE-FFDHE3072", "RSA", "DHE-WEAK"; static */
/* "TLS_AES_256_GCM_SHA384", as IANA writes it; static. */
const char *tls_cipher_name(gnutls_session_t session);
bool tls_priority_is_valid(const char *priority, const char **error_at);
