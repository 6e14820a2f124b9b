/* Certificates made in the test, by GnuTLS: each wish is one certificate that is good, or bad in one way. */
#pragma once

#include <gnutls/x509.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"

#define CA_NOW 1800000000 /* the time that tests pass as now */

struct ca_wish {
    const char *id;
    const char *name;    /* the CN; NULL: the id */
    const char *san;     /* DNS names, by blanks; "ip:192.0.2.1" */
    const char *issuer;  /* an id made before; NULL: itself */
    const char *options; /* words: ca path0 expired future rsa1024 rsa2048 sha1 client noids nc v1 uncertsign encipher key (no certificate) */
    const char *key;     /* an id whose key it has; NULL: a fresh one */
};
struct ca_made {
    const struct ca_wish *wish;
    gnutls_x509_privkey_t key;
    gnutls_x509_crt_t crt;
    gnutls_datum_t der, spki; /* owned */
};

#define CA_MADE_MAX 64
struct ca {
    struct ca_made made[CA_MADE_MAX];
    size_t count;
    int64_t now_unix; /* CA_NOW unless the real time matters */
};
void ca_start(struct ca *ca, int64_t now_unix);
const struct ca_made *ca_make(struct ca *ca, const struct ca_wish *wish);
const struct ca_made *ca_find(const struct ca *ca, const char *id); /* fails the test if it is not there */
void ca_end(struct ca *ca);
/* "leaf int root": as DER, leaf first; returns how many. */
unsigned ca_chain(const struct ca *ca, const char *ids, gnutls_datum_t *out, unsigned max);
/*
 * TLSA rdata by "2 0 1 root": usage, selector, matching type and whose; "!root" has one bit wrong, "short:root" lacks the last
 * octet.  Appended to `out`.
 */
void ca_tlsa(const struct ca *ca, const char *text, struct buf *out);
