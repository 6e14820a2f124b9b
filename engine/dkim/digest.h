/*
 * SHA-256 by the back end chosen at build time (dkim_backend): digest_openssl.c or digest_gnutls.c.  An
 * object is used again and again: finish leaves it at the start.  Thread: any, one at a time.
 */
#pragma once

#include "base/bytes.h"

#define SHA256_BYTES 32

struct sha256;
struct sha256 *sha256_create(void);
void sha256_destroy(struct sha256 *h);
void sha256_put(struct sha256 *h, struct bytes octets);
void sha256_finish(struct sha256 *h, unsigned char out[SHA256_BYTES]);
