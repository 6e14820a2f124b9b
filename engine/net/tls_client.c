/* Client side: sessions by level, what their peers presented, and their resumption. */
#include <gnutls/x509.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/mem.h"
#include "engine/net/tls_priv.h"

#define RESUME_MAX      2000
#define RESUME_LIFE_S   7200
#define PRIORITIES_MAX  64     /* different ones that are kept: policies have fewer */
#define CERTIFICATE_MAX 131072 /* octets of one handshake message: the whole chain */

struct resumable {
    struct list node; /* oldest first */
    char *key;        /* owned */
    gnutls_datum_t data;
    struct tls_seen seen;
    int64_t until_unix;
};

/* Eight KB that all sessions of one rule share: GnuTLS counts them. */
struct tls_priority {
    char *text; /* owned */
    gnutls_priority_t compiled;
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

static void forget_priorities(struct tls_client *t)
{
    struct tls_priority *p;

    for (size_t at = 0; (p = map_next(&t->priorities, &at));) {
        gnutls_priority_deinit(p->compiled); /* sessions keep theirs */
        mem_free(p->text);
        mem_free(p);
    }
    map_fini(&t->priorities);
}

void tls_client_destroy(struct tls_client *t)
{
    if (!t)
        return;
    LIST_FOREACH_SAFE (node, &t->by_age)
        resumable_destroy(t, LIST_ENTRY(node, struct resumable, node));
    tls_trusts_fini(&t->trusts);
    forget_priorities(t);
    map_fini(&t->sessions);
    pthread_mutex_destroy(&t->lock);
    mem_free(t);
}

/* ---- beginning ---- */

/*
 * NORMAL alone would offer TLS 1.0 and 1.1.  `on`, and MTA-STS in testing, protect from nobody active: static
 * RSA is still better than clear text there, and nowhere else.
 */
static char *priority_of(const struct tls_client_options *o)
{
    static const char *const versions[] = {
        [TLS_VERSION_1_0] = "+VERS-TLS1.3:+VERS-TLS1.2:+VERS-TLS1.1:+VERS-TLS1.0",
        [TLS_VERSION_1_1] = "+VERS-TLS1.3:+VERS-TLS1.2:+VERS-TLS1.1",
        [TLS_VERSION_1_2] = "+VERS-TLS1.3:+VERS-TLS1.2",
        [TLS_VERSION_1_3] = "+VERS-TLS1.3",
    };

    if (o->priority)
        return mem_strdup(o->priority);
    return text_format("NORMAL:-VERS-ALL:%s%s", versions[o->min_version],
                       o->level <= TLS_STS_TESTING ? "" : ":-RSA");
}

/* False: the text is not understood from *error_at on, which points into it. */
static bool set_priority(struct tls_client *t, gnutls_session_t session, const char *text,
                         const char **error_at)
{
    pthread_mutex_lock(&t->lock);
    struct tls_priority *p = map_find(&t->priorities, bytes_of(text));
    gnutls_priority_t compiled;

    if (!p && gnutls_priority_init(&compiled, text, error_at) == 0) {
        if (t->priorities.count >= PRIORITIES_MAX)
            forget_priorities(t);
        p = MEM_NEW(struct tls_priority);
        p->text = mem_strdup(text);
        p->compiled = compiled;
        map_put(&t->priorities, bytes_of(p->text), p);
    }
    bool set = p && gnutls_priority_set(session, p->compiled) == 0;
    pthread_mutex_unlock(&t->lock);
    return set;
}

static void set_names(struct session_extra *extra, const struct tls_client_options *o)
{
    const char *const *from = o->name_count ? o->names : &o->sni;
    size_t count = o->name_count ? o->name_count : o->sni != NULL;

    extra->names = mem_alloc((count + 1) * sizeof(*extra->names));
    for (size_t i = 0; i < count; i++)
        extra->names[i] = mem_strdup(from[i]);
    extra->name_count = count;
}

static void offer_resumption(struct tls_client *t, gnutls_session_t session, struct session_extra *extra)
{
    pthread_mutex_lock(&t->lock);
    struct resumable *r = map_find(&t->sessions, bytes_of(extra->cache_key));
    if (r && r->until_unix < clock_unix()) {
        resumable_destroy(t, r);
        r = NULL;
    }
    if (r && gnutls_session_set_data(session, r->data.data, r->data.size) == 0)
        extra->cached = r->seen;
    pthread_mutex_unlock(&t->lock);
}

static struct tls_trust *trust_of(struct tls_client *t, const struct tls_client_options *o, char *why,
                                  size_t why_bytes)
{
    pthread_mutex_lock(&t->lock);
    struct tls_trust *trust = tls_trust_find(&t->trusts, o, why, why_bytes);
    pthread_mutex_unlock(&t->lock);
    if (trust && tls_trust_complaint(trust) && (o->level == TLS_VERIFY || o->level == TLS_STS_ENFORCE)) {
        snprintf(why, why_bytes, "%s", tls_trust_complaint(trust));
        tls_trust_unref(TAKE(trust));
    }
    return trust;
}

static void set_sni(gnutls_session_t session, const char *name)
{
    struct ip literal;

    if (name && name[0] && !ip_parse(bytes_of(name), &literal))
        gnutls_server_name_set(session, GNUTLS_NAME_DNS, name, strlen(name));
}

gnutls_session_t tls_client_session(struct tls_client *t, const struct tls_client_options *o, char *why,
                                    size_t why_bytes)
{
    gnutls_session_t session;
    const char *error_at = NULL;
    struct tls_trust *trust = trust_of(t, o, why, why_bytes);

    if (!trust)
        return NULL;
    char *priority = priority_of(o);
    gnutls_init(&session, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
    if (!set_priority(t, session, priority, &error_at)) {
        snprintf(why, why_bytes, "TLS priority string is not understood from \"%s\"",
                 error_at ? error_at : priority);
        gnutls_deinit(session);
        tls_trust_unref(trust);
        mem_free(priority);
        return NULL;
    }
    mem_free(priority);
    struct session_extra *extra = MEM_NEW(struct session_extra);
    extra->role = SESSION_CLIENT;
    extra->client = t;
    extra->trust = trust;
    extra->pins = o->pins;
    extra->pin_count = o->pin_count;
    /* With what was loaded: a session begun with an older certificate of ours would show that one for ever,
     * and a verdict would outlive the authority that it rests on. */
    if (o->cache_key)
        extra->cache_key = text_format("%llu|%s", (unsigned long long)tls_trust_serial(trust), o->cache_key);
    set_names(extra, o);
    gnutls_session_set_ptr(session, extra);
    gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, tls_trust_credentials(trust));
    gnutls_handshake_set_timeout(session, GNUTLS_INDEFINITE_TIMEOUT);
    gnutls_handshake_set_max_packet_length(session, CERTIFICATE_MAX);
    set_sni(session, o->sni);
    if (o->cache_key)
        offer_resumption(t, session, extra);
    return session;
}

/* ---- what was presented ---- */

bool tls_client_resumed(gnutls_session_t session)
{
    return gnutls_session_is_resumed(session) != 0;
}

enum tls_verify tls_client_verify(gnutls_session_t session)
{
    struct session_extra *extra = gnutls_session_get_ptr(session);
    struct tls_seen *seen = &extra->seen;

    if (!seen->verified_known) {
        bool kept = tls_client_resumed(session) && extra->cached.verified_known;
        seen->verified = kept ? extra->cached.verified : tls_verify_now(session, extra);
        seen->verified_known = true;
    }
    return seen->verified;
}

/* The verdict's name becomes one of the caller's; a name that is none of them was not asked about. */
static bool take_kept(const struct tls_seen *kept, const char *const *names, size_t name_count,
                      struct dane_verdict *out)
{
    struct dane_verdict v = kept->dane;

    v.name = NULL;
    for (size_t i = 0; kept->dane_name[0] && i < name_count; i++)
        if (names[i] && strcmp(names[i], kept->dane_name) == 0)
            v.name = names[i];
    if (kept->dane_name[0] && !v.name)
        return false;
    *out = v;
    return true;
}

void tls_client_dane(gnutls_session_t session, const struct dane_records *records, const char *const *names,
                     size_t name_count, struct dane_verdict *out)
{
    struct session_extra *extra = gnutls_session_get_ptr(session);
    struct tls_seen *seen = &extra->seen;
    unsigned count = 0;

    if (!seen->dane_known && tls_client_resumed(session) && extra->cached.dane_known &&
        take_kept(&extra->cached, names, name_count, out)) {
        *seen = (struct tls_seen){seen->verified_known, true, seen->verified, extra->cached.dane, ""};
        memcpy(seen->dane_name, extra->cached.dane_name, sizeof(seen->dane_name));
        return;
    }
    const gnutls_datum_t *chain = gnutls_certificate_get_peers(session, &count);
    dane_check(records, chain, count, names, name_count, clock_unix(), out);
    seen->dane = *out;
    seen->dane.name = NULL;
    snprintf(seen->dane_name, sizeof(seen->dane_name), "%s", out->name ? out->name : "");
    seen->dane_known = true;
}

int64_t tls_client_expires_unix(gnutls_session_t session)
{
    unsigned count = 0;

    if (!gnutls_certificate_get_peers(session, &count) || !count)
        return 0;
    time_t at = gnutls_certificate_expiration_time_peers(session);
    return at == (time_t)-1 ? 0 : at;
}

const gnutls_datum_t *tls_client_chain(gnutls_session_t session, unsigned *count)
{
    const gnutls_datum_t *chain = gnutls_certificate_get_peers(session, count);

    if (!chain)
        *count = 0;
    return chain;
}

char *tls_client_chain_pem(gnutls_session_t session)
{
    unsigned count = 0;
    const gnutls_datum_t *chain = tls_client_chain(session, &count);
    struct buf pem = {0};

    for (unsigned i = 0; i < count; i++) {
        gnutls_datum_t one = {0};
        if (gnutls_pem_base64_encode2("CERTIFICATE", &chain[i], &one) >= 0)
            buf_put(&pem, bytes_make(one.data, one.size));
        gnutls_free(one.data);
    }
    return buf_take(&pem);
}

/* ---- resumption ---- */

static void keep(struct tls_client *t, const struct session_extra *extra, gnutls_datum_t data)
{
    pthread_mutex_lock(&t->lock);
    struct resumable *old = map_find(&t->sessions, bytes_of(extra->cache_key));
    if (old)
        resumable_destroy(t, old);
    else if (t->session_count >= RESUME_MAX)
        resumable_destroy(t, LIST_ENTRY(list_first(&t->by_age), struct resumable, node));
    struct resumable *r = MEM_NEW(struct resumable);
    r->key = mem_strdup(extra->cache_key);
    r->data = data;
    r->seen = extra->seen;
    r->until_unix = clock_unix() + RESUME_LIFE_S;
    map_put(&t->sessions, bytes_of(r->key), r);
    list_push_back(&t->by_age, &r->node);
    t->session_count++;
    pthread_mutex_unlock(&t->lock);
}

void tls_client_remember(gnutls_session_t session)
{
    struct session_extra *extra = gnutls_session_get_ptr(session);
    gnutls_datum_t data = {0};

    if (extra->remembered || !extra->cache_key || !(extra->seen.verified_known || extra->seen.dane_known))
        return;
    if (gnutls_protocol_get_version(session) == GNUTLS_TLS1_3 &&
        !(gnutls_session_get_flags(session) & GNUTLS_SFLAGS_SESSION_TICKET))
        return; /* no ticket yet: get_data2 would wait for one */
    extra->remembered = true;
    if (gnutls_session_get_data2(session, &data) >= 0)
        keep(extra->client, extra, data);
}
