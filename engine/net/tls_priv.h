/* The insides of engine/net/tls*.c: what hangs on a session, and the trust of the client side. */
#pragma once

#include <pthread.h>

#include "base/hash.h"
#include "base/list.h"
#include "engine/net/tls.h"

enum session_role { SESSION_SERVER, SESSION_CLIENT };

/* What a full handshake showed, kept for the sessions that resume it. */
struct tls_seen {
    bool verified_known, dane_known;
    enum tls_verify verified;
    struct dane_verdict dane; /* its name is in dane_name */
    char dane_name[256];
};

/* Hangs on every session (gnutls_session_set_ptr). */
struct session_extra {
    enum session_role role;
    struct tls_server *server; /* counted */
    struct tls_client *client; /* borrowed: outlives all sessions */
    struct tls_trust *trust;   /* counted */
    char *cache_key;           /* owned */
    char **names;              /* owned: reference names */
    size_t name_count;
    const char *const *pins; /* borrowed */
    size_t pin_count;
    struct tls_seen cached; /* of the session that was offered for resumption: counts once it was resumed */
    struct tls_seen seen;
    bool remembered;
};

/* ---- client ---- */

/* One trust file (or the system's) and one client certificate (or none): immutable and counted. */
struct tls_trust;
struct tls_trusts {
    struct map by_key; /* struct tls_trust, one reference each */
};
/*
 * Counted for the caller; NULL and `why` when the client certificate cannot be used.  Files are looked at again at most once a minute, and
 * what has changed is loaded anew; sessions that are open keep what they began with.
 */
struct tls_trust *tls_trust_find(struct tls_trusts *all, const struct tls_client_options *o, char *why, size_t why_bytes);
gnutls_certificate_credentials_t tls_trust_credentials(const struct tls_trust *t);
const char *tls_trust_complaint(const struct tls_trust *t); /* about the trust file, which then trusts nobody; or NULL */
uint64_t tls_trust_serial(const struct tls_trust *t); /* no two that were ever loaded have the same */
void tls_trust_unref(struct tls_trust *t); /* NULL is fine */
extern uint64_t tls_trust_look_again_ms; /* tests shorten it */
void tls_trusts_fini(struct tls_trusts *all);

struct tls_client {
    pthread_mutex_t lock;
    struct tls_trusts trusts;
    struct map priorities; /* struct tls_priority, by text; a few, as policies name them */
    struct map sessions;   /* by cache key */
    struct list by_age;
    size_t session_count;
};

/* The verdict on what the peer of this session presented, by the names and pins of the session. */
enum tls_verify tls_verify_now(gnutls_session_t session, const struct session_extra *extra);
