/*
 * A private key for DKIM: RSA of 2048 to 4096 bits (RFC 8301) or Ed25519 (RFC 8463), by libcrypto or GnuTLS
 * (dkim_backend: key_openssl.c, key_gnutls.c).  Immutable once made; signing from many threads at once is
 * fine. No key octet reaches a log or a complaint.
 */
#pragma once

#include "base/bytes.h"
#include "base/err.h"
#include "engine/dkim/digest.h"

enum dkim_algorithm { DKIM_RSA, DKIM_ED25519 };
#define DKIM_ALGORITHMS    2
#define DKIM_RSA_BITS_MIN  2048
#define DKIM_RSA_BITS_MAX  4096
#define DKIM_SIGNATURE_MAX (DKIM_RSA_BITS_MAX / 8)
const char *dkim_algorithm_name(enum dkim_algorithm a);     /* "rsa-sha256", as in a= */
const char *dkim_algorithm_key_type(enum dkim_algorithm a); /* "rsa", as in k= */

struct dkim_key;
/* ---- key_file.c ---- */
/* A PEM file (PKCS#1 or PKCS#8, unencrypted) that nobody but its owner may read.  *why: a sentence with the
 * file's name. */
MUST_CHECK enum err dkim_key_read(const char *file, struct dkim_key **out, char **why);
/* Makes the file, mode 0600; ERR_EXISTS when there is one already. */
MUST_CHECK enum err dkim_key_write(const char *file, struct bytes pem, char **why);

/* ---- the back end ---- */
/* *why: half a sentence that follows the file's name; static storage. */
MUST_CHECK enum err dkim_key_parse(struct bytes pem, struct dkim_key **out, const char **why);
/* A new key as PKCS#8 PEM, appended. */
MUST_CHECK enum err dkim_key_generate(enum dkim_algorithm a, struct buf *pem);
void dkim_key_destroy(struct dkim_key *k);
enum dkim_algorithm dkim_key_algorithm(const struct dkim_key *k);
unsigned dkim_key_bits(const struct dkim_key *k);
size_t dkim_key_signature_bytes(const struct dkim_key *k); /* of every signature it makes */
/* Writes dkim_key_signature_bytes().  ERR_IO: the library failed. */
MUST_CHECK enum err dkim_key_sign(const struct dkim_key *k, const unsigned char digest[SHA256_BYTES],
                                  unsigned char *out);
/* The octets of p= in DNS: SubjectPublicKeyInfo for RSA, the bare 32 for Ed25519.  Appended. */
void dkim_key_public(const struct dkim_key *k, struct buf *out);
const char *dkim_backend_name(void); /* "OpenSSL 3.0.15", "GnuTLS 3.7.9" */
