/* The insides of engine/net/tls_server.c and tls_peer.c. */
#pragma once

#include <stdatomic.h>

#include "engine/net/tls_priv.h"
#include "engine/net/tls_server.h"

struct tls_identity {
    gnutls_certificate_credentials_t credentials; /* owned */
    gnutls_x509_crt_t *chain;                     /* owned; the first is ours */
    size_t chain_count;
    char **names; /* owned; none: the certificate's */
    size_t name_count;
    struct tls_certificate facts;
};

struct tls_server {
    atomic_uint refs;
    struct tls_identity *identities; /* owned */
    size_t count;
    gnutls_priority_t priority;
    gnutls_datum_t ticket_key;
    enum tls_client_certificates client_certificates;
    bool has_client_ca;
    gnutls_x509_crl_t *crls; /* owned */
    unsigned crl_count;
};
