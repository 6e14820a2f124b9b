#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "engine/dkim/digest.h"

struct sha256 {
    gnutls_hash_hd_t hash;
};

/* Without SHA-256, or out of memory: nothing can be signed, and a wrong digest must never be. */
static void must(int code)
{
    if (code >= 0)
        return;
    log_error(NULL, "dkim.sha256_failed", LOG_STR("why", gnutls_strerror(code)));
    abort();
}

struct sha256 *sha256_create(void)
{
    struct sha256 *h = MEM_NEW(struct sha256);

    must(gnutls_hash_init(&h->hash, GNUTLS_DIG_SHA256));
    return h;
}

void sha256_destroy(struct sha256 *h)
{
    if (!h)
        return;
    gnutls_hash_deinit(h->hash, NULL);
    mem_free(h);
}

void sha256_put(struct sha256 *h, struct bytes octets)
{
    must(gnutls_hash(h->hash, octets.at, octets.len));
}

void sha256_finish(struct sha256 *h, unsigned char out[SHA256_BYTES])
{
    gnutls_hash_output(h->hash, out); /* and starts anew */
}
