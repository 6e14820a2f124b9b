/*
 * X.509 certificates as this project judges them, whoever trusts them: their parts, their names, their strength.
 *
 * Thread    pure; any.
 * Bounds    a certificate comes from the peer: one walk over its octets per question, however many names it lists.
 */
#pragma once

#include <gnutls/abstract.h>
#include <gnutls/x509.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/bytes.h"

#define CERTIFICATE_CHAIN_MAX 16 /* GnuTLS builds no longer paths; a longer list is not judged by PKIX */

/* The octets as they stand in the certificate: a key written again by a library may come out otherwise. */
struct certificate_parts {
    struct bytes tbs;  /* what the issuer signed (RFC 5280 §4.1.1.1) */
    struct bytes spki; /* SubjectPublicKeyInfo: selector 1 of TLSA */
};
/* Strict DER of a whole certificate; false when it is not one.  The parts borrow from `der`. */
bool certificate_split(struct bytes der, struct certificate_parts *out);

/*
 * RFC 9525: subjectAltName only, never the CN; `*` is a whole left-most label and stands for one label, with two or more
 * labels behind it.  A reference `.suffix` is any one label before the suffix; an address is matched against iPAddress.
 */
bool certificate_has_name(gnutls_x509_crt_t crt, const char *reference);
/* The first of the references that the certificate has; NULL: none. */
const char *certificate_find_name(gnutls_x509_crt_t crt, const char *const *references, size_t count);
/* One dNSName against one reference, for tests. */
bool certificate_dns_name_matches(struct bytes presented, const char *reference);

/* RSA below 2048 bits, an elliptic curve below 224, or a kind that nobody uses. */
bool certificate_key_is_weak(gnutls_x509_crt_t crt);
bool pubkey_is_weak(gnutls_pubkey_t key);
/* A key so large that checking one signature would hold up a loop. */
bool pubkey_is_excessive(gnutls_pubkey_t key);
/* Signed with SHA-1, MD5 or something older; what nobody relies on (a root's signature of itself) is not asked about. */
bool certificate_signature_is_weak(gnutls_x509_crt_t crt);
