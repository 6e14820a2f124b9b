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
    mem_free(extra->sni);
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
