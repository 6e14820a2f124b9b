#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "base/mem.h"
#include "engine/dkim/key.h"

struct dkim_key {
    enum dkim_algorithm algorithm;
    EVP_PKEY *pkey;
};

const char *dkim_backend_name(void)
{
    return OpenSSL_version(OPENSSL_VERSION);
}

/* Nobody sits here who could type a passphrase. */
static int refuse_passphrase(char *text, int size, int writing, void *asked)
{
    (void)text;
    (void)size;
    (void)writing;
    *(bool *)asked = true;
    return -1;
}

static const char *why_unfit(EVP_PKEY *pkey)
{
    if (EVP_PKEY_get_base_id(pkey) == EVP_PKEY_ED25519)
        return NULL;
    if (EVP_PKEY_get_base_id(pkey) != EVP_PKEY_RSA)
        return "holds a key that is neither RSA nor Ed25519: DKIM has no others";
    if (EVP_PKEY_get_bits(pkey) < DKIM_RSA_BITS_MIN)
        return "holds an RSA key of less than 2048 bits: make a new one with \"hayauma dkim generate\"";
    if (EVP_PKEY_get_bits(pkey) > DKIM_RSA_BITS_MAX)
        return "holds an RSA key of more than 4096 bits, which receivers need not verify";
    return NULL;
}

enum err dkim_key_parse(struct bytes pem, struct dkim_key **out, const char **why)
{
    BIO *bio = BIO_new_mem_buf(pem.at, (int)pem.len);
    bool encrypted = false;
    EVP_PKEY *pkey = bio ? PEM_read_bio_PrivateKey(bio, NULL, refuse_passphrase, &encrypted) : NULL;

    BIO_free(bio);
    ERR_clear_error();
    *why = encrypted ? "is encrypted: the daemon cannot ask for its passphrase"
           : !pkey   ? "holds no private key in PEM form"
                     : why_unfit(pkey);
    if (*why) {
        EVP_PKEY_free(pkey);
        return ERR_INVALID;
    }
    struct dkim_key *k = MEM_NEW(struct dkim_key);
    k->pkey = pkey;
    k->algorithm = EVP_PKEY_get_base_id(pkey) == EVP_PKEY_RSA ? DKIM_RSA : DKIM_ED25519;
    *out = k;
    return OK;
}

enum err dkim_key_generate(enum dkim_algorithm a, struct buf *pem)
{
    EVP_PKEY *pkey =
        a == DKIM_RSA ? EVP_RSA_gen(DKIM_RSA_BITS_MIN) : EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    BIO *bio = BIO_new(BIO_s_secmem());
    char *text;
    enum err e = ERR_IO;

    if (pkey && bio && PEM_write_bio_PKCS8PrivateKey(bio, pkey, NULL, NULL, 0, NULL, NULL) == 1) {
        long len = BIO_get_mem_data(bio, &text);
        buf_put(pem, bytes_make(text, (size_t)len));
        e = OK;
    }
    BIO_free(bio);
    EVP_PKEY_free(pkey);
    ERR_clear_error();
    return e;
}

void dkim_key_destroy(struct dkim_key *k)
{
    if (!k)
        return;
    EVP_PKEY_free(k->pkey);
    mem_free(k);
}

enum dkim_algorithm dkim_key_algorithm(const struct dkim_key *k)
{
    return k->algorithm;
}

unsigned dkim_key_bits(const struct dkim_key *k)
{
    return k->algorithm == DKIM_RSA ? (unsigned)EVP_PKEY_get_bits(k->pkey) : 256;
}

size_t dkim_key_signature_bytes(const struct dkim_key *k)
{
    return (size_t)EVP_PKEY_get_size(k->pkey);
}

static bool sign_rsa(EVP_PKEY *pkey, const unsigned char digest[SHA256_BYTES], unsigned char *out,
                     size_t *len)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(pkey, NULL);
    bool right = ctx && EVP_PKEY_sign_init(ctx) == 1 &&
                 EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) == 1 &&
                 EVP_PKEY_CTX_set_signature_md(ctx, EVP_sha256()) == 1 &&
                 EVP_PKEY_sign(ctx, out, len, digest, SHA256_BYTES) == 1;

    EVP_PKEY_CTX_free(ctx);
    return right;
}

/* RFC 8463 §3: PureEdDSA, and what it signs is the digest. */
static bool sign_ed25519(EVP_PKEY *pkey, const unsigned char digest[SHA256_BYTES], unsigned char *out,
                         size_t *len)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool right = ctx && EVP_DigestSignInit(ctx, NULL, NULL, NULL, pkey) == 1 &&
                 EVP_DigestSign(ctx, out, len, digest, SHA256_BYTES) == 1;

    EVP_MD_CTX_free(ctx);
    return right;
}

enum err dkim_key_sign(const struct dkim_key *k, const unsigned char digest[SHA256_BYTES], unsigned char *out)
{
    size_t want = dkim_key_signature_bytes(k), len = want;
    bool right = k->algorithm == DKIM_RSA ? sign_rsa(k->pkey, digest, out, &len)
                                          : sign_ed25519(k->pkey, digest, out, &len);

    if (!right)
        ERR_clear_error();
    return right && len == want ? OK : ERR_IO;
}

void dkim_key_public(const struct dkim_key *k, struct buf *out)
{
    unsigned char *der = NULL;

    if (k->algorithm == DKIM_RSA) {
        int len = i2d_PUBKEY(k->pkey, &der);
        if (len > 0)
            buf_put(out, bytes_make(der, (size_t)len));
        OPENSSL_free(der);
        return;
    }
    size_t len = 32;
    if (EVP_PKEY_get_raw_public_key(k->pkey, (unsigned char *)buf_reserve(out, len), &len) == 1)
        out->len += len;
}
