/* Any octets as a peer's certificate, or as what an account names of one. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/net/certificate.h"
#include "engine/net/tls_server.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_within(struct bytes part, struct bytes whole)
{
    return part.at >= whole.at && part.len <= whole.len && part.at + part.len <= whole.at + whole.len;
}

static void try_names(gnutls_x509_crt_t crt)
{
    static const char *const references[] = {"mx.example.com", ".example.com", "192.0.2.1", "example.com",
                                             ""};
    const char *first = NULL;

    for (size_t i = COUNT_OF(references); i-- > 0;)
        if (certificate_has_name(crt, references[i]))
            first = references[i];
    if (certificate_find_name(crt, references, COUNT_OF(references)) != first)
        abort();
}

static void try_certificate(struct bytes der)
{
    gnutls_datum_t octets = {(unsigned char *)(uintptr_t)der.at, (unsigned)der.len};
    struct certificate_parts parts;
    gnutls_x509_crt_t crt;

    if (certificate_split(der, &parts) && !(is_within(parts.tbs, der) && is_within(parts.spki, parts.tbs)))
        abort();
    if (gnutls_x509_crt_init(&crt))
        return;
    if (gnutls_x509_crt_import(crt, &octets, GNUTLS_X509_FMT_DER) == 0) {
        try_names(crt);
        (void)certificate_key_is_weak(crt);
        (void)certificate_signature_is_weak(crt);
    }
    gnutls_x509_crt_deinit(crt);
}

/* What is stored is understood again as the same. */
static void try_spec(struct bytes text)
{
    char *typed = bytes_dup(text), *stored = tls_peer_spec_normalise(typed);

    if (stored) {
        char *again = tls_peer_spec_normalise(stored);
        if (!again || strcmp(again, stored) != 0)
            abort();
        mem_free(again);
    }
    mem_free(stored);
    mem_free(typed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes all = bytes_make(data, size);

    try_certificate(all);
    try_spec(all);
    if (certificate_dns_name_matches(all, "mx.example.com") && bytes_find(all, '.') == all.len)
        abort(); /* a name of one label */
    if (certificate_dns_name_matches(all, ".example.com") && bytes_find(all, '.') == all.len)
        abort();
    return 0;
}
