/*
 * Usage 2: does a path lead from the leaf to this anchor?
 *
 * GnuTLS is asked about one path at a time, with that anchor as the only trust: what it is given is exactly
 * leaf, issuer, issuer's issuer …, so that nothing else that was presented can help.  Dates are checked here,
 * by the caller's clock.
 *
 * The paths are found by issuer names and key identifiers.  Somebody may present thirty certificates of one
 * name that might all have signed each other: after DANE_PATHS_MAX tries the answer is no.
 */
#include <gnutls/abstract.h>
#include <gnutls/x509.h>

#include "base/mem.h"
#include "engine/dane/dane_priv.h"
#include "engine/net/certificate.h"

#define VERIFY_FLAGS                                                                                         \
    (GNUTLS_VERIFY_DISABLE_TIME_CHECKS | GNUTLS_VERIFY_DO_NOT_ALLOW_SAME |                                   \
     GNUTLS_VERIFY_DO_NOT_ALLOW_X509_V1_CA_CRT | GNUTLS_VERIFY_DO_NOT_ALLOW_UNSORTED_CHAIN)

struct node {
    struct bytes der;
    struct certificate_parts parts; /* empty: not a certificate */
    gnutls_x509_crt_t crt;          /* owned; NULL until loaded, or unreadable */
    uint32_t issuers;               /* a bit for each node that may have signed it */
};

struct dane_chain {
    struct node nodes[DANE_CERTIFICATES_MAX];
    size_t count;
    bool loaded;
    unsigned tries_left;
};

/* Where a path shall end: at a certificate or, without one, at a key. */
struct anchor {
    gnutls_x509_crt_t crt; /* borrowed */
    size_t presented;      /* its place in the chain; 0: not in there */
    gnutls_pubkey_t key;   /* borrowed */
};

struct search {
    struct dane_chain *chain;
    const struct anchor *anchor;
    int64_t now_unix;
    const char *why;
    size_t path[DANE_DEPTH_MAX]; /* the leaf first */
    size_t depth;
    uint32_t used; /* nodes of the path */
};

/* ---- the presented chain ---- */

struct dane_chain *dane_chain_create(const gnutls_datum_t *chain, unsigned count, const char **why)
{
    struct dane_chain *c = MEM_NEW(struct dane_chain);

    c->count = MIN_OF(count, (unsigned)DANE_CERTIFICATES_MAX);
    c->tries_left = DANE_PATHS_MAX;
    for (size_t i = 0; i < c->count; i++) {
        c->nodes[i].der = bytes_make(chain[i].data, chain[i].size);
        if (!certificate_split(c->nodes[i].der, &c->nodes[i].parts))
            c->nodes[i].parts = (struct certificate_parts){0};
    }
    if (c->count && c->nodes[0].parts.spki.len)
        return c;
    *why = count ? "the server's certificate cannot be read" : "the server presented no certificate";
    mem_free(c);
    return NULL;
}

void dane_chain_destroy(struct dane_chain *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->count; i++)
        if (c->nodes[i].crt)
            gnutls_x509_crt_deinit(c->nodes[i].crt);
    mem_free(c);
}

size_t dane_chain_count(const struct dane_chain *c)
{
    return c->count;
}

bool dane_chain_at(const struct dane_chain *c, size_t i, struct bytes *certificate, struct bytes *spki)
{
    *certificate = c->nodes[i].der;
    *spki = c->nodes[i].parts.spki;
    return spki->len > 0;
}

static gnutls_x509_crt_t import(struct bytes der)
{
    gnutls_datum_t datum = {(unsigned char *)(uintptr_t)der.at, (unsigned)der.len};
    gnutls_x509_crt_t crt;

    if (gnutls_x509_crt_init(&crt) < 0)
        return NULL;
    if (gnutls_x509_crt_import(crt, &datum, GNUTLS_X509_FMT_DER) >= 0)
        return crt;
    gnutls_x509_crt_deinit(crt);
    return NULL;
}

/* A certificate sent twice would be two ways to the same end. */
static bool is_repeated(const struct dane_chain *c, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (bytes_eq(c->nodes[k].der, c->nodes[i].der))
            return true;
    return false;
}

static void load(struct dane_chain *c)
{
    if (c->loaded)
        return;
    c->loaded = true;
    for (size_t i = 0; i < c->count; i++)
        if (c->nodes[i].parts.spki.len && !is_repeated(c, i))
            c->nodes[i].crt = import(c->nodes[i].der);
    for (size_t i = 0; i < c->count; i++)
        for (size_t k = 1; k < c->count; k++)
            if (k != i && c->nodes[i].crt && c->nodes[k].crt &&
                gnutls_x509_crt_check_issuer(c->nodes[i].crt, c->nodes[k].crt))
                c->nodes[i].issuers |= BIT(k);
}

gnutls_x509_crt_t dane_chain_leaf(struct dane_chain *c)
{
    load(c);
    return c->nodes[0].crt;
}

/* ---- one path ---- */

static const char *bad_key(gnutls_pubkey_t key)
{
    if (pubkey_is_excessive(key))
        return "a key in the chain is too large";
    return pubkey_is_weak(key) ? "a key in the chain is too weak" : NULL;
}

/* Dates and key of one certificate; NULL: nothing against it. */
static const char *bad_certificate(gnutls_x509_crt_t crt, int64_t now_unix)
{
    gnutls_pubkey_t key;
    const char *why;

    if (gnutls_x509_crt_get_expiration_time(crt) < now_unix)
        return "a certificate in the chain has expired";
    if (gnutls_x509_crt_get_activation_time(crt) > now_unix)
        return "a certificate in the chain is not valid yet";
    if (gnutls_pubkey_init(&key) < 0)
        return "out of memory";
    if (gnutls_pubkey_import_x509(key, crt, 0) < 0)
        why = "a key in the chain cannot be read";
    else
        why = bad_key(key);
    gnutls_pubkey_deinit(key);
    return why;
}

static const char *status_text(unsigned status)
{
    static const struct {
        unsigned bit;
        const char *why;
    } rows[] = {
        {GNUTLS_CERT_SIGNER_NOT_CA, "an issuer in the chain is not a CA"},
        {GNUTLS_CERT_SIGNATURE_FAILURE, "a signature in the chain is wrong"},
        {GNUTLS_CERT_SIGNER_CONSTRAINTS_FAILURE, "the chain breaks a constraint of its CA"},
        {GNUTLS_CERT_PURPOSE_MISMATCH, "the certificate is not for servers"},
        {GNUTLS_CERT_INSECURE_ALGORITHM, "the chain uses an insecure algorithm"},
        {GNUTLS_CERT_UNKNOWN_CRIT_EXTENSIONS, "a certificate in the chain has an unknown critical extension"},
        {GNUTLS_CERT_SIGNER_NOT_FOUND, "the anchor did not sign the chain"},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++)
        if (status & rows[i].bit)
            return rows[i].why;
    return "the chain does not hold";
}

/* The first `depth` nodes of the path, under `anchor` and nothing else. */
static const char *bad_chain(struct search *s, size_t depth, gnutls_x509_crt_t anchor)
{
    gnutls_typed_vdata_st server = {.type = GNUTLS_DT_KEY_PURPOSE_OID,
                                    .data = (void *)(uintptr_t)GNUTLS_KP_TLS_WWW_SERVER};
    gnutls_x509_crt_t path[DANE_DEPTH_MAX];
    gnutls_x509_trust_list_t trust;
    unsigned status = GNUTLS_CERT_INVALID;

    for (size_t i = 0; i < depth; i++)
        path[i] = s->chain->nodes[s->path[i]].crt;
    if (gnutls_x509_trust_list_init(&trust, 1) < 0)
        return "out of memory";
    int rc = gnutls_x509_trust_list_add_cas(trust, &anchor, 1, 0);
    if (rc == 1)
        rc = gnutls_x509_trust_list_verify_crt2(trust, path, (unsigned)depth, &server, 1, VERIFY_FLAGS,
                                                &status, NULL);
    else
        rc = -1;
    gnutls_x509_trust_list_deinit(trust, 0); /* the anchor stays */
    if (rc >= 0 && status == 0)
        return NULL;
    return status_text(rc < 0 ? 0 : status);
}

static const char *bad_members(struct search *s, size_t depth)
{
    for (size_t i = 0; i < depth; i++) {
        gnutls_x509_crt_t crt = s->chain->nodes[s->path[i]].crt;
        const char *why = bad_certificate(crt, s->now_unix);
        if (!why && certificate_signature_is_weak(crt))
            why = "a certificate in the chain is signed with SHA-1 or weaker";
        if (why)
            return why;
    }
    return NULL;
}

static bool holds_under_certificate(struct search *s)
{
    const char *why = bad_members(s, s->depth);

    if (!why)
        why = bad_certificate(s->anchor->crt, s->now_unix);
    if (!why)
        why = bad_chain(s, s->depth, s->anchor->crt);
    s->why = why ? why : s->why;
    return !why;
}

static bool has_signed(gnutls_pubkey_t key, const struct node *n)
{
    unsigned char octets[2048 + 64];
    size_t len = sizeof(octets);
    int algorithm = gnutls_x509_crt_get_signature_algorithm(n->crt);
    gnutls_datum_t tbs = {(unsigned char *)(uintptr_t)n->parts.tbs.at, (unsigned)n->parts.tbs.len};

    if (algorithm < 0 || gnutls_x509_crt_get_signature(n->crt, (char *)octets, &len) < 0)
        return false;
    gnutls_datum_t signature = {octets, (unsigned)len};
    return gnutls_pubkey_verify_data2(key, (gnutls_sign_algorithm_t)algorithm, 0, &tbs, &signature) >= 0;
}

/* What GnuTLS looks at in a leaf that hangs on a bare key: there is no issuer to ask it about. */
static const char *bad_lone_leaf(gnutls_x509_crt_t leaf)
{
    char oid[64];
    unsigned critical;
    bool any = false;

    for (unsigned i = 0;; i++) {
        size_t len = sizeof(oid);
        int rc = gnutls_x509_crt_get_key_purpose_oid(leaf, i, oid, &len, &critical);
        if (rc == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
            return any ? "the certificate is not for servers" : NULL;
        any = true;
        if (rc >= 0 && (strcmp(oid, GNUTLS_KP_TLS_WWW_SERVER) == 0 || strcmp(oid, GNUTLS_KP_ANY) == 0))
            return NULL;
        if (i == 100)
            return "the certificate names too many purposes";
    }
}

static bool holds_under_key(struct search *s)
{
    const struct node *top = &s->chain->nodes[s->path[s->depth - 1]];
    const char *why = bad_members(s, s->depth);

    if (!why && !has_signed(s->anchor->key, top))
        why = "the key did not sign the chain";
    if (!why)
        why = s->depth > 1 ? bad_chain(s, s->depth - 1, top->crt) : bad_lone_leaf(top->crt);
    s->why = why ? why : s->why;
    return !why;
}

/* ---- all paths ---- */

static bool may_end_here(const struct search *s, const struct node *last)
{
    if (s->anchor->key)
        return true;
    if (s->anchor->presented)
        return last->issuers & BIT(s->anchor->presented);
    return gnutls_x509_crt_check_issuer(last->crt, s->anchor->crt);
}

static bool search_from(struct search *s, size_t at) /* NOLINT(misc-no-recursion): DANE_DEPTH_MAX deep */
{
    const struct node *n = &s->chain->nodes[at];

    if (s->depth == DANE_DEPTH_MAX)
        return false;
    s->path[s->depth++] = at;
    s->used |= BIT(at);
    if (may_end_here(s, n) && s->chain->tries_left) {
        s->chain->tries_left--;
        if (s->anchor->key ? holds_under_key(s) : holds_under_certificate(s))
            return true;
    }
    for (size_t i = 1; i < s->chain->count && s->chain->tries_left; i++)
        if (n->issuers & BIT(i) && !(s->used & BIT(i)) && i != s->anchor->presented && search_from(s, i))
            return true;
    s->depth--;
    s->used &= ~BIT(at);
    return false;
}

static bool find(struct dane_chain *c, const struct anchor *anchor, int64_t now_unix, const char **why)
{
    struct search s = {.chain = c, .anchor = anchor, .now_unix = now_unix};

    load(c);
    if (!c->nodes[0].crt) {
        *why = "the server's certificate cannot be read";
        return false;
    }
    if (search_from(&s, 0))
        return true;
    *why = s.why ? s.why : c->tries_left ? "no path leads to the anchor" : "too many paths";
    return false;
}

bool dane_path_to_presented(struct dane_chain *c, size_t anchor, int64_t now_unix, const char **why)
{
    load(c);
    if (!c->nodes[anchor].crt || bytes_eq(c->nodes[anchor].der, c->nodes[0].der)) {
        *why = "the anchor is the server's own certificate, a repetition, or cannot be read";
        return false;
    }
    return find(c, &(struct anchor){.crt = c->nodes[anchor].crt, .presented = anchor}, now_unix, why);
}

bool dane_path_to_certificate(struct dane_chain *c, struct bytes anchor, int64_t now_unix, const char **why)
{
    if (bytes_eq(anchor, c->nodes[0].der)) {
        *why = "the anchor is the server's own certificate";
        return false;
    }
    gnutls_x509_crt_t crt = import(anchor);
    if (!crt) {
        *why = "the anchor cannot be read";
        return false;
    }
    bool found = find(c, &(struct anchor){.crt = crt}, now_unix, why);
    gnutls_x509_crt_deinit(crt);
    return found;
}

bool dane_path_to_key(struct dane_chain *c, struct bytes spki, int64_t now_unix, const char **why)
{
    gnutls_datum_t datum = {(unsigned char *)(uintptr_t)spki.at, (unsigned)spki.len};
    gnutls_pubkey_t key;

    if (gnutls_pubkey_init(&key) < 0)
        return false;
    bool found = false;
    if (gnutls_pubkey_import(key, &datum, GNUTLS_X509_FMT_DER) < 0)
        *why = "the anchor's key cannot be read";
    else if (!(*why = bad_key(key)))
        found = find(c, &(struct anchor){.key = key}, now_unix, why);
    gnutls_pubkey_deinit(key);
    return found;
}
