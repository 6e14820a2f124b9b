/* Whom the HTTPS client believes, and where it may be sent. */
#include <gnutls/gnutls.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/ip.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/net/fetch_priv.h"

#define RELOAD_MS    (6 * 3600 * 1000) /* the system's authorities change while we run for months */
#define RSA_BITS_MIN 2048

static enum err load(struct fetch_trust *t, char **why)
{
    gnutls_x509_trust_list_t list;

    if (gnutls_x509_trust_list_init(&list, 0) < 0)
        return ERR_NOMEM;
    int n = t->ca_file
                ? gnutls_x509_trust_list_add_trust_file(list, t->ca_file, NULL, GNUTLS_X509_FMT_PEM, 0, 0)
                : gnutls_x509_trust_list_add_system_trust(list, 0, 0);
    t->loaded_ms = clock_now_ms();
    if (n <= 0) {
        *why = t->ca_file ? text_format("no certificate can be read from the trust file %s: %s", t->ca_file,
                                        n < 0 ? gnutls_strerror(n) : "it holds none")
                          : text_format("this system trusts no authority: install its CA certificates");
        gnutls_x509_trust_list_deinit(list, 1);
        return ERR_INVALID;
    }
    if (t->list)
        gnutls_x509_trust_list_deinit(t->list, 1);
    t->list = list;
    return OK;
}

enum err fetch_trust_init(struct fetch_trust *t, const char *ca_file, char **why)
{
    *t = (struct fetch_trust){.ca_file = mem_strdup(ca_file)};
    return ca_file ? load(t, why) : OK;
}

void fetch_trust_fini(struct fetch_trust *t)
{
    if (t->list)
        gnutls_x509_trust_list_deinit(t->list, 1);
    mem_free(t->ca_file);
    *t = (struct fetch_trust){0};
}

/* What was loaded before stays when the file is bad now. */
static gnutls_x509_trust_list_t list_of(struct fetch_trust *t)
{
    char *why = NULL;

    if ((!t->loaded_ms || clock_now_ms() - t->loaded_ms > RELOAD_MS) && load(t, &why) != OK)
        log_warn(NULL, "fetch.no_trust", LOG_STR("why", why));
    mem_free(why);
    return t->list;
}

/* ---- one certificate ---- */

struct chain {
    gnutls_x509_crt_t crts[16];
    unsigned count;
};

static void chain_fini(struct chain *c)
{
    while (c->count)
        gnutls_x509_crt_deinit(c->crts[--c->count]);
}

static bool chain_read(struct chain *c, gnutls_session_t session)
{
    unsigned count = 0;
    const gnutls_datum_t *der = gnutls_certificate_get_peers(session, &count);

    for (unsigned i = 0; der && i < count && c->count < COUNT_OF(c->crts); i++) {
        if (gnutls_x509_crt_init(&c->crts[c->count]) < 0)
            return false;
        c->count++;
        if (gnutls_x509_crt_import(c->crts[c->count - 1], &der[i], GNUTLS_X509_FMT_DER) < 0)
            return false;
    }
    return c->count > 0;
}

static const char *status_text(unsigned status)
{
    if (status & GNUTLS_CERT_REVOKED)
        return "the certificate is revoked";
    if (status & GNUTLS_CERT_EXPIRED)
        return "the certificate has expired";
    if (status & GNUTLS_CERT_NOT_ACTIVATED)
        return "the certificate is not valid yet";
    if (status & GNUTLS_CERT_SIGNER_NOT_FOUND)
        return "no authority that we trust has signed the certificate";
    if (status & GNUTLS_CERT_INSECURE_ALGORITHM)
        return "the certificate's chain is signed by a weak algorithm";
    return "the certificate's chain does not hold";
}

/* RFC 8461 §3.3: a DNS-ID; GnuTLS would take a name that stands in the CN alone. */
static bool has_alternative_name(gnutls_x509_crt_t crt)
{
    char name[256];
    size_t len = sizeof(name);

    return gnutls_x509_crt_get_subject_alt_name(crt, 0, name, &len, NULL) !=
           GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE;
}

const char *fetch_trust_check(struct fetch_trust *t, gnutls_session_t session, const char *host, char *why,
                              size_t why_bytes)
{
    gnutls_x509_trust_list_t list = list_of(t);
    struct chain chain = {.count = 0};
    unsigned status = 0, bits = 0;
    gnutls_typed_vdata_st data = {.type = GNUTLS_DT_KEY_PURPOSE_OID,
                                  .data = (void *)(uintptr_t)GNUTLS_KP_TLS_WWW_SERVER};
    const char *text = "";

    if (!list) {
        text = "this system trusts no authority: install its CA certificates";
    } else if (!chain_read(&chain, session)) {
        text = "no certificate that can be read";
    } else if (gnutls_x509_trust_list_verify_crt2(list, chain.crts, chain.count, &data, 1, 0, &status, NULL) <
               0) {
        text = "the certificate cannot be checked";
    } else if (status) {
        text = status_text(status);
    } else if (!has_alternative_name(chain.crts[0]) ||
               !gnutls_x509_crt_check_hostname2(chain.crts[0], host, 0)) {
        snprintf(why, why_bytes, "the certificate is not for %s", host);
        text = why;
    } else {
        int kind = gnutls_x509_crt_get_pk_algorithm(chain.crts[0], &bits);
        if ((kind == GNUTLS_PK_RSA || kind == GNUTLS_PK_RSA_PSS) && bits < RSA_BITS_MIN)
            text = "the certificate's key is weak";
    }
    chain_fini(&chain);
    return text;
}

/* ---- addresses ---- */

/* The registries of special-purpose addresses (RFC 6890): not one host of the internet is there. */
static const struct {
    uint8_t family, octets[4], prefix;
} special[] = {
    {4, {0}, 8},
    {4, {10}, 8},
    {4, {100, 64}, 10},
    {4, {127}, 8},
    {4, {169, 254}, 16},
    {4, {172, 16}, 12},
    {4, {192, 0, 0}, 24},
    {4, {192, 0, 2}, 24},
    {4, {192, 168}, 16},
    {4, {198, 18}, 15},
    {4, {198, 51, 100}, 24},
    {4, {203, 0, 113}, 24},
    {4, {192, 88, 99}, 24},
    {4, {224}, 3},
    {6, {0x20, 0x01, 0, 0}, 23}, /* Teredo, ORCHID and others */
    {6, {0x20, 0x01, 0x0d, 0xb8}, 32},
    {6, {0x20, 0x02}, 16}, /* 6to4: any IPv4 address may be inside */
};

bool fetch_address_is_public(const struct ip *ip)
{
    static const struct ip_net global = {.base = {.family = 6, .octets = {0x20}}, .prefix = 3};

    if (ip->family != 4 && !ip_net_has(&global, ip))
        return false;
    for (size_t i = 0; i < COUNT_OF(special); i++) {
        struct ip_net net = {.base.family = special[i].family, .prefix = special[i].prefix};
        memcpy(net.base.octets, special[i].octets, sizeof(special[i].octets));
        if (ip_net_has(&net, ip))
            return false;
    }
    return true;
}
