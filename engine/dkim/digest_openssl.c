#include <openssl/evp.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "engine/dkim/digest.h"

struct sha256 {
    EVP_MD_CTX *ctx;
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static EVP_MD *md; /* looked up once: libcrypto 3 searches its providers each time */

static void fetch(void)
{
    md = EVP_MD_fetch(NULL, "SHA256", NULL);
}

/* Without SHA-256, or out of memory: nothing can be signed, and a wrong digest must never be. */
static void must(int right)
{
    if (right == 1)
        return;
    log_error(NULL, "dkim.sha256_failed");
    abort();
}

struct sha256 *sha256_create(void)
{
    struct sha256 *h = MEM_NEW(struct sha256);

    pthread_once(&once, fetch);
    h->ctx = EVP_MD_CTX_new();
    must(md && h->ctx && EVP_DigestInit_ex2(h->ctx, md, NULL) == 1);
    return h;
}

void sha256_destroy(struct sha256 *h)
{
    if (!h)
        return;
    EVP_MD_CTX_free(h->ctx);
    mem_free(h);
}

void sha256_put(struct sha256 *h, struct bytes octets)
{
    must(EVP_DigestUpdate(h->ctx, octets.at, octets.len));
}

void sha256_finish(struct sha256 *h, unsigned char out[SHA256_BYTES])
{
    must(EVP_DigestFinal_ex(h->ctx, out, NULL));
    must(EVP_DigestInit_ex2(h->ctx, md, NULL));
}
