#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <pthread.h>
#include <stdio.h>

#include "base/mem.h"
#include "engine/dkim/key.h"

struct dkim_key {
    enum dkim_algorithm algorithm;
    unsigned bits;
    gnutls_privkey_t pkey;
};

static char version[32];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make_version(void)
{
    snprintf(version, sizeof(version), "GnuTLS %s", gnutls_check_version(NULL));
}

const char *dkim_backend_name(void)
{
    pthread_once(&once, make_version);
    return version;
}

static const char *why_unfit(int type, unsigned bits)
{
    if (type == GNUTLS_PK_EDDSA_ED25519)
        return NULL;
    if (type != GNUTLS_PK_RSA)
        return "holds a key that is neither RSA nor Ed25519: DKIM has no others";
    if (bits < DKIM_RSA_BITS_MIN)
        return "holds an RSA key of less than 2048 bits: make a new one with \"hayauma dkim generate\"";
    if (bits > DKIM_RSA_BITS_MAX)
        return "holds an RSA key of more than 4096 bits, which receivers need not verify";
    return NULL;
}

enum err dkim_key_parse(struct bytes pem, struct dkim_key **out, const char **why)
{
    struct dkim_key *k = MEM_NEW(struct dkim_key);
    const gnutls_datum_t data = {(unsigned char *)(uintptr_t)pem.at, (unsigned)pem.len};
    gnutls_x509_privkey_t key = NULL;
    int code = gnutls_privkey_init(&k->pkey);

    if (code >= 0)
        code = gnutls_x509_privkey_init(&key);
    if (code >= 0)
        code = gnutls_x509_privkey_import2(key, &data, GNUTLS_X509_FMT_PEM, NULL, 0);
    if (code >= 0) {
        code = gnutls_privkey_import_x509(k->pkey, key, GNUTLS_PRIVKEY_IMPORT_AUTO_RELEASE);
        if (code >= 0)
            key = NULL;
    }
    if (key)
        gnutls_x509_privkey_deinit(key);
    int type = code < 0 ? code : gnutls_privkey_get_pk_algorithm(k->pkey, &k->bits);
    *why = code == GNUTLS_E_DECRYPTION_FAILED || code == GNUTLS_E_PK_INVALID_PRIVKEY
               ? "is encrypted: the daemon cannot ask for its passphrase"
           : code < 0 ? "holds no private key in PEM form"
                      : why_unfit(type, k->bits);
    if (*why) {
        dkim_key_destroy(k);
        return ERR_INVALID;
    }
    k->algorithm = type == GNUTLS_PK_RSA ? DKIM_RSA : DKIM_ED25519;
    *out = k;
    return OK;
}

enum err dkim_key_generate(enum dkim_algorithm a, struct buf *pem)
{
    gnutls_x509_privkey_t key;
    gnutls_datum_t text;
    int code = gnutls_x509_privkey_init(&key);

    if (code < 0)
        return ERR_IO;
    code = a == DKIM_RSA ? gnutls_x509_privkey_generate(key, GNUTLS_PK_RSA, DKIM_RSA_BITS_MIN, 0)
                         : gnutls_x509_privkey_generate(key, GNUTLS_PK_EDDSA_ED25519, 256, 0);
    if (code >= 0)
        code = gnutls_x509_privkey_export2_pkcs8(key, GNUTLS_X509_FMT_PEM, NULL, GNUTLS_PKCS_PLAIN, &text);
    if (code >= 0) {
        buf_put(pem, bytes_make(text.data, text.size));
        gnutls_memset(text.data, 0, text.size);
        gnutls_free(text.data);
    }
    gnutls_x509_privkey_deinit(key);
    return code < 0 ? ERR_IO : OK;
}

void dkim_key_destroy(struct dkim_key *k)
{
    if (!k)
        return;
    if (k->pkey)
        gnutls_privkey_deinit(k->pkey);
    mem_free(k);
}

enum dkim_algorithm dkim_key_algorithm(const struct dkim_key *k)
{
    return k->algorithm;
}

unsigned dkim_key_bits(const struct dkim_key *k)
{
    return k->algorithm == DKIM_RSA ? k->bits : 256;
}

size_t dkim_key_signature_bytes(const struct dkim_key *k)
{
    return k->algorithm == DKIM_RSA ? (k->bits + 7) / 8 : 64;
}

enum err dkim_key_sign(const struct dkim_key *k, const unsigned char digest[SHA256_BYTES], unsigned char *out)
{
    const gnutls_datum_t data = {(unsigned char *)(uintptr_t)digest, SHA256_BYTES};
    size_t want = dkim_key_signature_bytes(k);
    gnutls_datum_t signature = {0};
    /* RFC 8463 §3: Ed25519 signs the digest as its data. */
    int code = k->algorithm == DKIM_RSA
                   ? gnutls_privkey_sign_hash2(k->pkey, GNUTLS_SIGN_RSA_SHA256, 0, &data, &signature)
                   : gnutls_privkey_sign_data2(k->pkey, GNUTLS_SIGN_EDDSA_ED25519, 0, &data, &signature);

    if (code < 0)
        return ERR_IO;
    bool right = signature.size == want;
    if (right)
        memcpy(out, signature.data, want);
    gnutls_free(signature.data);
    return right ? OK : ERR_IO;
}

void dkim_key_public(const struct dkim_key *k, struct buf *out)
{
    gnutls_pubkey_t public;
    gnutls_datum_t der = {0}, x = {0};
    gnutls_ecc_curve_t curve;

    if (gnutls_pubkey_init(&public) < 0)
        return;
    if (gnutls_pubkey_import_privkey(public, k->pkey, 0, 0) >= 0) {
        if (k->algorithm == DKIM_RSA)
            (void)gnutls_pubkey_export2(public, GNUTLS_X509_FMT_DER, &der);
        else
            (void)gnutls_pubkey_export_ecc_raw(public, &curve, &x, NULL);
    }
    buf_put(out, bytes_make(der.data, der.size));
    buf_put(out, bytes_make(x.data, x.size));
    gnutls_free(der.data);
    gnutls_free(x.data);
    gnutls_pubkey_deinit(public);
}
