/* Client side: credentials by trust file, sessions by level, and their resumption. */
#include "engine/net/tls_priv.h"

#include <gnutls/x509.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/list.h"
#include "base/mem.h"

/* `on` protects from nobody active: static RSA is still better than clear text. */
#define CLIENT_PRIORITY_ON "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"
#define CLIENT_PRIORITY    "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:-RSA"

#define RESUME_MAX    2000
#define RESUME_LIFE_S 7200

struct trust { /* one CA file, or the system's */
    char *file;
    gnutls_certificate_credentials_t credentials;
};

struct resumable {
    struct list node; /* oldest first */
    char *key;        /* owned */
    gnutls_datum_t data;
    enum tls_verify verified;
    int64_t until_unix;
};

struct tls_client {
    pthread_mutex_t lock;
    struct map trusts;   /* by file name, "" for the system's */
    struct map sessions; /* by cache key */
    struct list by_age;
    size_t session_count;
};

struct tls_client *tls_client_create(void)
{
    struct tls_client *t = MEM_NEW(struct tls_client);

    pthread_mutex_init(&t->lock, NULL);
    list_init(&t->by_age);
    return t;
}

static void resumable_destroy(struct tls_client *t, struct resumable *r)
{
    map_remove(&t->sessions, bytes_of(r->key));
    list_remove(&r->node);
    t->session_count--;
    gnutls_free(r->data.data);
    mem_free(r->key);
    mem_free(r);
}

void tls_client_destroy(struct tls_client *t)
{
    size_t at = 0;
    struct trust *trust;

    if (!t)
        return;
    LIST_FOREACH_SAFE (node, &t->by_age)
        resumable_destroy(t, LIST_ENTRY(node, struct resumable, node));
    while ((trust = map_next(&t->trusts, &at))) {
        gnutls_certificate_free_credentials(trust->credentials);
        mem_free(trust->file);
        mem_free(trust);
    }
    map_fini(&t->trusts);
    map_fini(&t->sessions);
    pthread_mutex_destroy(&t->lock);
    mem_free(t);
}

static gnutls_certificate_credentials_t trust_of(struct tls_client *t, const char *ca_file)
{
    const char *name = ca_file ? ca_file : "";

    pthread_mutex_lock(&t->lock);
    struct trust *trust = map_find(&t->trusts, bytes_of(name));
    if (!trust) {
        trust = MEM_NEW(struct trust);
        trust->file = mem_strdup(name);
        gnutls_certificate_allocate_credentials(&trust->credentials);
        gnutls_certificate_set_flags(trust->credentials, GNUTLS_CERTIFICATE_SKIP_OCSP_RESPONSE_CHECK);
        /* A trust file that cannot be read trusts nobody: `verify` then defers and says so. */
        if (ca_file)
            gnutls_certificate_set_x509_trust_file(trust->credentials, ca_file, GNUTLS_X509_FMT_PEM);
        else
            gnutls_certificate_set_x509_system_trust(trust->credentials);
        map_put(&t->trusts, bytes_of(trust->file), trust);
    }
    gnutls_certificate_credentials_t credentials = trust->credentials;
    pthread_mutex_unlock(&t->lock);
    return credentials;
}

static void offer_resumption(struct tls_client *t, gnutls_session_t session, struct session_extra *extra)
{
    pthread_mutex_lock(&t->lock);
    struct resumable *r = map_find(&t->sessions, bytes_of(extra->cache_key));
    if (r && r->until_unix < clock_unix()) {
        resumable_destroy(t, r);
        r = NULL;
    }
    if (r && gnutls_session_set_data(session, r->data.data, r->data.size) == 0) {
        extra->verified = r->verified;
        extra->verified_known = true;
    }
    pthread_mutex_unlock(&t->lock);
}

gnutls_session_t tls_client_session(struct tls_client *t, const struct tls_client_options *o, char *why,
                                    size_t why_bytes)
{
    gnutls_session_t session;
    struct ip literal;
    const char *error_at = NULL;
    const char *priority = o->priority          ? o->priority
                           : o->level <= TLS_ON ? CLIENT_PRIORITY_ON
                                                : CLIENT_PRIORITY;

    gnutls_init(&session, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
    int rc = gnutls_priority_set_direct(session, priority, &error_at);
    if (rc < 0) {
        snprintf(why, why_bytes, "TLS priority string is not understood from \"%s\"",
                 error_at ? error_at : priority);
        gnutls_deinit(session);
        return NULL;
    }
    struct session_extra *extra = MEM_NEW(struct session_extra);
    extra->role = SESSION_CLIENT;
    extra->client = t;
    extra->sni = mem_strdup(o->sni);
    extra->cache_key = mem_strdup(o->cache_key);
    gnutls_session_set_ptr(session, extra);
    gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, trust_of(t, o->ca_file));
    gnutls_handshake_set_timeout(session, GNUTLS_INDEFINITE_TIMEOUT);
    if (o->sni && !ip_parse(bytes_of(o->sni), &literal))
        gnutls_server_name_set(session, GNUTLS_NAME_DNS, o->sni, strlen(o->sni));
    if (o->cache_key)
        offer_resumption(t, session, extra);
    return session;
}

bool tls_client_resumed(gnutls_session_t session)
{
    return gnutls_session_is_resumed(session) != 0;
}

enum tls_verify tls_client_verify(gnutls_session_t session)
{
    struct session_extra *extra = gnutls_session_get_ptr(session);

    if (tls_client_resumed(session) && extra->verified_known)
        return extra->verified;
    extra->verified = tls_verify_now(session, extra->sni);
    extra->verified_known = true;
    return extra->verified;
}

void tls_client_remember(gnutls_session_t session)
{
    struct session_extra *extra = gnutls_session_get_ptr(session);
    gnutls_datum_t data = {0};

    if (extra->remembered || !extra->cache_key || !extra->verified_known)
        return;
    if (gnutls_protocol_get_version(session) == GNUTLS_TLS1_3 &&
        !(gnutls_session_get_flags(session) & GNUTLS_SFLAGS_SESSION_TICKET))
        return; /* no ticket yet: get_data2 would wait for one */
    extra->remembered = true;
    if (gnutls_session_get_data2(session, &data) < 0)
        return;
    struct tls_client *t = extra->client;
    pthread_mutex_lock(&t->lock);
    struct resumable *old = map_find(&t->sessions, bytes_of(extra->cache_key));
    if (old)
        resumable_destroy(t, old);
    else if (t->session_count >= RESUME_MAX)
        resumable_destroy(t, LIST_ENTRY(list_first(&t->by_age), struct resumable, node));
    struct resumable *r = MEM_NEW(struct resumable);
    r->key = mem_strdup(extra->cache_key);
    r->data = data;
    r->verified = extra->verified;
    r->until_unix = clock_unix() + RESUME_LIFE_S;
    map_put(&t->sessions, bytes_of(r->key), r);
    list_push_back(&t->by_age, &r->node);
    t->session_count++;
    pthread_mutex_unlock(&t->lock);
}
