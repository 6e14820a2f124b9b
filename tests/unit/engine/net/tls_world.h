/* A world for tests of the client side of TLS: certificates, files, and a GnuTLS server over a pair of
 * sockets. */
#pragma once

#include "engine/net/tls.h"
#include "tests/unit/engine/dane/matrix.h"

#define LEGACY(version) "NORMAL:-VERS-ALL:+VERS-TLS" version

struct tls_world {
    struct ca ca;
    char dir[64];
    char *trust; /* file: the roots that count */
    struct tls_client *client;
};
extern struct tls_world tls_world;

struct tls_test_server {
    gnutls_certificate_credentials_t credentials;
    gnutls_datum_t ticket_key;
    const char *priority;
    bool asks_certificate;
    unsigned client_certificates; /* of the last session */
    char sni[256];
};

/* The client's session after the handshake and an octet from the server (so that tickets have come); NULL: it
 * failed. */
struct tls_tried {
    gnutls_session_t session;
    int fds[2];
    int client_error;
};

/* The fixture of a group: certificates by dane_world(), a trust file, a tls_client. */
int tls_world_setup(void **state);
int tls_world_teardown(void **state);
/* Files in the folder of the world; the path is the caller's. */
char *tls_world_file(const char *name, const char *text);
char *tls_world_pem(const char *ids);
char *tls_world_certificates(const char *name, const char *ids);
char *tls_world_key(const char *name, const char *id);
/* Presents these, by their ids; `priority` NULL: TLS 1.2 and 1.3. */
void tls_server_start(struct tls_test_server *s, const char *ids, const char *priority);
/* The same by octets. */
void tls_server_start_chain(struct tls_test_server *s, const gnutls_datum_t *chain, unsigned count,
                            gnutls_x509_privkey_t key, const char *priority);
void tls_server_stop(struct tls_test_server *s);
struct tls_tried tls_try(struct tls_test_server *s, const struct tls_client_options *o);
void tls_tried_end(struct tls_tried *t);
/* What most tests ask for, at this level. */
struct tls_client_options tls_options_of(enum tls_level level);
struct dane_records *tls_world_tlsa(const char *text); /* of ca_tlsa; for mx.a.test */
