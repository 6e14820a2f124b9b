/* The insides of engine/net/tls*.c: what hangs on a session. */
#pragma once

#include "engine/net/tls.h"

enum session_role { SESSION_SERVER, SESSION_CLIENT };

/* Hangs on every session (gnutls_session_set_ptr). */
struct session_extra {
    enum session_role role;
    struct tls_server *server; /* counted */
    struct tls_client *client; /* borrowed: outlives all sessions */
    char *sni, *cache_key;     /* owned */
    enum tls_verify verified;  /* of the full handshake, when one was found in the cache */
    bool verified_known, remembered;
};

/* The verdict on what the peer of this session presented; `name` is its reference name, or NULL. */
enum tls_verify tls_verify_now(gnutls_session_t session, const char *name);
