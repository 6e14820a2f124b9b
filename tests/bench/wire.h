/*
 * A socket of the bench tools: nonblocking, buffered on both sides, TLS when asked, on one epoll.
 * Thread    one.
 * Owner     the session that holds it; wire_close() frees what it has, and may be called twice.
 * Events are edge-triggered: after every event call wire_shake() while the handshake runs, else wire_read()
 * until it says WIRE_WAIT; and wire_flush() after anything was put into `out`.
 */
#pragma once

#include <gnutls/gnutls.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/ip.h"

struct wire {
    int fd;               /* -1: none */
    gnutls_session_t tls; /* owned; NULL: plaintext */
    bool shaking;
    struct buf in, out; /* owned */
    size_t sent;        /* octets of `out` that are gone */
};

enum wire_result { WIRE_DATA, WIRE_WAIT, WIRE_GONE };

/* Both register the socket with `data` as its epoll pointer.  Connecting goes on in the background. */
bool wire_connect(struct wire *w, int epoll, const struct ip *ip, uint16_t port, void *data);
bool wire_adopt(struct wire *w, int epoll, int fd, void *data);
enum wire_result wire_read(struct wire *w);  /* WIRE_DATA: `in` has grown */
enum wire_result wire_flush(struct wire *w); /* WIRE_DATA: all is sent */
void wire_close(struct wire *w);

/* What TLS sessions share.  Certificates of the other side are not checked: both ends are this program's. */
struct wire_tls {
    gnutls_certificate_credentials_t creds; /* owned */
    gnutls_priority_t priority;             /* owned */
    gnutls_datum_t ticket_key;              /* owned; server */
    gnutls_datum_t resume;                  /* owned; client: the newest session to resume */
};

bool wire_tls_client(struct wire_tls *t);
bool wire_tls_server(struct wire_tls *t, const char *cert_file, const char *key_file);
void wire_tls_fini(struct wire_tls *t);
void wire_start_tls(struct wire *w, const struct wire_tls *t, bool server);
enum wire_result wire_shake(struct wire *w); /* WIRE_DATA: done */
bool wire_resumed(const struct wire *w);
/* Keeps the session's ticket for the next connection. */
void wire_remember(struct wire *w, struct wire_tls *t);
/* A self-signed ECDSA P-256 certificate for a name, as two PEM files of mode 0600. */
bool wire_make_cert(const char *name, const char *cert_file, const char *key_file);

/* A new RSA-2048 private key as a PEM file of mode 0600. */
bool wire_make_rsa_key(const char *file);

/* Listens on a loopback address; 0 chooses a port, and *port says which.  -1 on failure. */
int wire_listen(const struct ip *ip, uint16_t *port);
