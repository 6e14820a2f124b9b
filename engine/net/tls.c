/* What both sides of TLS have in common: the end of a session, and its facts as words. */
#include "engine/net/tls_priv.h"

#include "base/mem.h"

bool tls_priority_is_valid(const char *priority, const char **error_at)
{
    gnutls_priority_t p;

    if (gnutls_priority_init(&p, priority, error_at) < 0)
        return false;
    gnutls_priority_deinit(p);
    return true;
}

void tls_session_end(gnutls_session_t session)
{
    if (!session)
        return;
    struct session_extra *extra = gnutls_session_get_ptr(session);
    gnutls_deinit(session);
    if (!extra)
        return;
    tls_server_unref(extra->server);
    tls_trust_unref(extra->trust);
    for (size_t i = 0; i < extra->name_count; i++)
        mem_free(extra->names[i]);
    mem_free(extra->names);
    mem_free(extra->cache_key);
    mem_free(extra);
}

const char *tls_version_name(gnutls_session_t session)
{
    switch (gnutls_protocol_get_version(session)) {
    case GNUTLS_TLS1_3: return "TLS1.3";
    case GNUTLS_TLS1_2: return "TLS1.2";
    case GNUTLS_TLS1_1: return "TLS1.1";
    case GNUTLS_TLS1_0: return "TLS1.0";
    default: return "SSL";
    }
}

const char *tls_cipher_name(gnutls_session_t session)
{
    const char *name = gnutls_ciphersuite_get(session); /* the IANA name: static in the library */

    return name ? name : "unknown";
}

/* How the keys were agreed on: what keeps a recording of today unreadable tomorrow. */
const char *tls_kx_name(gnutls_session_t session)
{
    static const struct {
        gnutls_group_t group;
        const char *name;
    } groups[] = {
        {GNUTLS_GROUP_X25519, "ECDHE-X25519"},       {GNUTLS_GROUP_X448, "ECDHE-X448"},
        {GNUTLS_GROUP_SECP256R1, "ECDHE-SECP256R1"}, {GNUTLS_GROUP_SECP384R1, "ECDHE-SECP384R1"},
        {GNUTLS_GROUP_SECP521R1, "ECDHE-SECP521R1"}, {GNUTLS_GROUP_FFDHE2048, "DHE-FFDHE2048"},
        {GNUTLS_GROUP_FFDHE3072, "DHE-FFDHE3072"},   {GNUTLS_GROUP_FFDHE4096, "DHE-FFDHE4096"},
        {GNUTLS_GROUP_FFDHE6144, "DHE-FFDHE6144"},   {GNUTLS_GROUP_FFDHE8192, "DHE-FFDHE8192"},
    };
    gnutls_group_t group = gnutls_group_get(session);

    for (size_t i = 0; i < COUNT_OF(groups); i++)
        if (groups[i].group == group)
            return groups[i].name;
    switch (gnutls_kx_get(session)) {
    case GNUTLS_KX_RSA: return "RSA";
    case GNUTLS_KX_DHE_RSA:
    case GNUTLS_KX_DHE_DSS: return gnutls_dh_get_prime_bits(session) < 2048 ? "DHE-WEAK" : "DHE";
    case GNUTLS_KX_ECDHE_RSA:
    case GNUTLS_KX_ECDHE_ECDSA: return "ECDHE";
    case GNUTLS_KX_ANON_DH:
    case GNUTLS_KX_ANON_ECDH: return "ANONYMOUS";
    case GNUTLS_KX_PSK: return "PSK";
    default: return "unknown";
    }
}
