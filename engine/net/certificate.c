/*
 *   Certificate    SEQUENCE { tbs SEQUENCE, signatureAlgorithm SEQUENCE, signature BIT STRING }
 *   tbs            SEQUENCE { [0] version OPTIONAL, serial INTEGER, signature SEQUENCE, issuer SEQUENCE,
 *                             validity SEQUENCE, subject SEQUENCE, subjectPublicKeyInfo SEQUENCE, … }
 *   GeneralNames   SEQUENCE OF { [2] dNSName IA5String, [7] iPAddress OCTET STRING, … }
 *                                                                           RFC 5280 §4.1, §4.2.1.6
 */
#include "engine/net/certificate.h"

#include "base/ip.h"

#define RSA_BITS_MIN 2048
#define EC_BITS_MIN  224
#define RSA_BITS_MAX 16384
#define EXPONENT_MAX 8 /* octets; in use are 3 and 65537 */

enum {
    DER_INTEGER = 0x02,
    DER_BIT_STRING = 0x03,
    DER_SEQUENCE = 0x30,
    DER_VERSION = 0xa0,  /* [0] */
    DER_DNS_NAME = 0x82, /* [2] */
    DER_IP = 0x87,       /* [7] */
};

/* ---- DER ---- */

/* The next element of *in: its tag, all its octets and its content; *in moves behind it. */
static bool take_any(struct bytes *in, uint8_t *tag, struct bytes *whole, struct bytes *content)
{
    const uint8_t *p = (const uint8_t *)in->at;
    size_t head = 2, len;

    if (in->len < 2 || (p[0] & 0x1f) == 0x1f) /* tags of several octets are not in certificates */
        return false;
    len = p[1];
    if (len & 0x80) {
        size_t octets = len & 0x7f;
        if (octets < 1 || octets > 4 || in->len < 2 + octets || p[2] == 0)
            return false;
        len = 0;
        for (size_t i = 0; i < octets; i++)
            len = len << 8 | p[2 + i];
        if (len < 0x80) /* DER: the shortest form */
            return false;
        head += octets;
    }
    if (in->len - head < len)
        return false;
    *tag = p[0];
    *whole = bytes_first(*in, head + len);
    *content = bytes_skip(*whole, head);
    *in = bytes_skip(*in, head + len);
    return true;
}

static bool take(struct bytes *in, uint8_t want, struct bytes *whole, struct bytes *content)
{
    uint8_t tag;

    return take_any(in, &tag, whole, content) && tag == want;
}

bool certificate_split(struct bytes der, struct certificate_parts *out)
{
    struct bytes certificate, tbs, whole, content, spki;
    static const uint8_t before_key[] = {DER_INTEGER, DER_SEQUENCE, DER_SEQUENCE, DER_SEQUENCE, DER_SEQUENCE};

    if (!take(&der, DER_SEQUENCE, &whole, &certificate) || der.len)
        return false;
    if (!take(&certificate, DER_SEQUENCE, &tbs, &content))
        return false;
    if (!take(&certificate, DER_SEQUENCE, &whole, &(struct bytes){0}) ||
        !take(&certificate, DER_BIT_STRING, &whole, &(struct bytes){0}) || certificate.len)
        return false;
    if (content.len && (uint8_t)content.at[0] == DER_VERSION &&
        !take(&content, DER_VERSION, &whole, &(struct bytes){0}))
        return false;
    for (size_t i = 0; i < COUNT_OF(before_key); i++)
        if (!take(&content, before_key[i], &whole, &(struct bytes){0}))
            return false;
    if (!take(&content, DER_SEQUENCE, &spki, &(struct bytes){0}))
        return false;
    *out = (struct certificate_parts){.tbs = tbs, .spki = spki};
    return true;
}

/* ---- names ---- */

/* Labels behind the first; 0 when there is but one. */
static size_t labels_behind_first(struct bytes name)
{
    size_t n = 0;

    for (size_t i = 0; i < name.len; i++)
        n += name.at[i] == '.';
    return n;
}

static bool is_host_name(struct bytes name)
{
    if (!name.len || name.at[0] == '.' || name.at[name.len - 1] == '.')
        return false;
    for (size_t i = 0; i < name.len; i++) /* a NUL or a blank in there is an attack */
        if (name.at[i] <= ' ' || name.at[i] == 0x7f || (name.at[i] == '.' && name.at[i - 1] == '.'))
            return false;
    return true;
}

bool certificate_dns_name_matches(struct bytes presented, const char *reference)
{
    struct bytes wanted = bytes_of(reference);
    bool suffix = wanted.len && wanted.at[0] == '.';
    bool wildcard = bytes_starts(presented, BYTES("*."));
    struct bytes rest = bytes_skip(presented, bytes_find(presented, '.')); /* from the dot on */

    if (!is_host_name(presented) || !is_host_name(suffix ? bytes_skip(wanted, 1) : wanted))
        return false;
    if (wildcard && labels_behind_first(presented) < 2)
        return false;
    if (bytes_find(wildcard ? rest : presented, '*') < (wildcard ? rest : presented).len)
        return false; /* no partial wildcards, none further right */
    if (suffix)
        return bytes_ieq(rest, wanted);
    return wildcard ? bytes_ieq(rest, bytes_skip(wanted, bytes_find(wanted, '.')))
                    : bytes_ieq(presented, wanted);
}

static bool ip_matches(struct bytes octets, const struct ip *wanted)
{
    return octets.len == (wanted->family == 4 ? 4U : 16U) &&
           memcmp(octets.at, wanted->octets, octets.len) == 0;
}

/* `names` is the extension's value. */
static bool list_has_name(struct bytes names, const char *reference)
{
    struct bytes whole, list, content;
    struct ip ip;
    bool is_ip = ip_parse(bytes_of(reference), &ip);
    uint8_t tag;

    if (!take(&names, DER_SEQUENCE, &whole, &list) || names.len)
        return false;
    while (list.len && take_any(&list, &tag, &whole, &content)) {
        if (is_ip ? tag == DER_IP && ip_matches(content, &ip)
                  : tag == DER_DNS_NAME && certificate_dns_name_matches(content, reference))
            return true;
    }
    return false;
}

const char *certificate_find_name(gnutls_x509_crt_t crt, const char *const *references, size_t count)
{
    gnutls_datum_t names = {0};
    const char *found = NULL;

    if (gnutls_x509_crt_get_extension_by_oid2(crt, GNUTLS_X509EXT_OID_SAN, 0, &names, NULL) < 0)
        return NULL;
    for (size_t i = 0; i < count && !found; i++)
        if (references[i] && list_has_name(bytes_make(names.data, names.size), references[i]))
            found = references[i];
    gnutls_free(names.data);
    return found;
}

bool certificate_has_name(gnutls_x509_crt_t crt, const char *reference)
{
    return certificate_find_name(crt, &reference, 1) != NULL;
}

/* ---- strength ---- */

bool pubkey_is_weak(gnutls_pubkey_t key)
{
    unsigned bits = 0;

    switch (gnutls_pubkey_get_pk_algorithm(key, &bits)) {
    case GNUTLS_PK_RSA:
    case GNUTLS_PK_RSA_PSS: return bits < RSA_BITS_MIN;
    case GNUTLS_PK_ECDSA: return bits < EC_BITS_MIN;
    case GNUTLS_PK_EDDSA_ED25519:
    case GNUTLS_PK_EDDSA_ED448: return false;
    default: return true; /* DSA and what else nobody uses */
    }
}

bool certificate_key_is_weak(gnutls_x509_crt_t crt)
{
    gnutls_pubkey_t key;

    if (gnutls_pubkey_init(&key) < 0)
        return true;
    bool weak = gnutls_pubkey_import_x509(key, crt, 0) < 0 || pubkey_is_weak(key);
    gnutls_pubkey_deinit(key);
    return weak;
}

bool pubkey_is_excessive(gnutls_pubkey_t key)
{
    gnutls_datum_t modulus = {0}, exponent = {0};
    unsigned bits = 0;
    int pk = gnutls_pubkey_get_pk_algorithm(key, &bits);

    if (pk != GNUTLS_PK_RSA && pk != GNUTLS_PK_RSA_PSS)
        return false;
    if (bits > RSA_BITS_MAX)
        return true;
    if (gnutls_pubkey_export_rsa_raw2(key, &modulus, &exponent, GNUTLS_EXPORT_FLAG_NO_LZ) < 0)
        return true;
    bool large = exponent.size > EXPONENT_MAX;
    gnutls_free(modulus.data);
    gnutls_free(exponent.data);
    return large;
}

bool certificate_signature_is_weak(gnutls_x509_crt_t crt)
{
    int algorithm = gnutls_x509_crt_get_signature_algorithm(crt);

    if (algorithm < 0 || algorithm == GNUTLS_SIGN_UNKNOWN)
        return true;
    switch (gnutls_sign_get_hash_algorithm((gnutls_sign_algorithm_t)algorithm)) {
    case GNUTLS_DIG_MD2:
    case GNUTLS_DIG_MD5:
    case GNUTLS_DIG_RMD160:
    case GNUTLS_DIG_SHA1: return true;
    default: return false;
    }
}
