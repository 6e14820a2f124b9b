#include "engine/net/tls.h"

#include <fcntl.h>
#include <gnutls/crypto.h>
#include <gnutls/x509.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/list.h"
#include "base/mem.h"

/* RFC 9325: 1.3 and 1.2, forward secrecy and AEAD only on our side of the door. */
#define SERVER_PRIORITY                                                                                      \
    "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:-KX-ALL:+ECDHE-ECDSA:+ECDHE-RSA:"                            \
    "-CIPHER-ALL:+AES-256-GCM:+CHACHA20-POLY1305:+AES-128-GCM:%SERVER_PRECEDENCE"
#define SERVER_PRIORITY_13                                                                                   \
    "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-256-GCM:+CHACHA20-POLY1305:+AES-128-GCM:%SERVER_"        \
    "PRECEDENCE"
/* `on` protects from nobody active: static RSA is still better than clear text. */
#define CLIENT_PRIORITY_ON "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"
#define CLIENT_PRIORITY    "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:-RSA"

#define RSA_BITS_MIN  2048
#define RESUME_MAX    2000
#define RESUME_LIFE_S 7200

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

/* ---- server ---- */

struct tls_server {
    atomic_uint refs;
    gnutls_certificate_credentials_t credentials;
    gnutls_priority_t priority;
    gnutls_datum_t ticket_key;
    int64_t expires_unix;
};

void tls_server_unref(struct tls_server *t)
{
    if (!t || atomic_fetch_sub(&t->refs, 1) != 1)
        return;
    if (t->credentials)
        gnutls_certificate_free_credentials(t->credentials);
    if (t->priority)
        gnutls_priority_deinit(t->priority);
    gnutls_free(t->ticket_key.data);
    mem_free(t);
}
DEFINE_CLEANUP(struct tls_server *, tls_server_unref)

struct tls_server *tls_server_ref(struct tls_server *t)
{
    atomic_fetch_add(&t->refs, 1);
    return t;
}

static int64_t leaf_expires(gnutls_certificate_credentials_t credentials)
{
    gnutls_x509_crt_t *chain = NULL;
    unsigned count = 0;
    int64_t at = 0;

    if (gnutls_certificate_get_x509_crt(credentials, 0, &chain, &count) < 0)
        return 0;
    if (count)
        at = gnutls_x509_crt_get_expiration_time(chain[0]);
    for (unsigned i = 0; i < count; i++)
        gnutls_x509_crt_deinit(chain[i]);
    gnutls_free(chain);
    return at;
}

enum err tls_server_load(const char *certificate, const char *key, const char *priority, bool tls13_only,
                         struct tls_server **out, char **why)
{
    CLEANUP(tls_server_unref) struct tls_server *t = MEM_NEW(struct tls_server);
    const char *error_at = NULL;
    const char *wanted = priority ? priority : tls13_only ? SERVER_PRIORITY_13 : SERVER_PRIORITY;

    atomic_init(&t->refs, 1);
    if (access(certificate, R_OK) != 0) {
        *why = text_format("cannot read the TLS certificate %s: %m; name a PEM file that the daemon may read",
                           certificate);
        return ERR_IO;
    }
    if (access(key, R_OK) != 0) {
        *why = text_format("cannot read the TLS key %s: %m; name a PEM file that the daemon may read", key);
        return ERR_IO;
    }
    gnutls_certificate_allocate_credentials(&t->credentials);
    int rc = gnutls_certificate_set_x509_key_file(t->credentials, certificate, key, GNUTLS_X509_FMT_PEM);
    if (rc < 0) {
        *why = text_format("TLS certificate %s with key %s: %s", certificate, key, gnutls_strerror(rc));
        return ERR_INVALID;
    }
    rc = gnutls_priority_init(&t->priority, wanted, &error_at);
    if (rc < 0) {
        *why = text_format("TLS priority string is not understood from \"%s\": %s",
                           error_at ? error_at : wanted, gnutls_strerror(rc));
        return ERR_INVALID;
    }
    gnutls_session_ticket_key_generate(&t->ticket_key);
    t->expires_unix = leaf_expires(t->credentials);
    *out = TAKE(t);
    return OK;
}

int64_t tls_server_expires_unix(const struct tls_server *t)
{
    return t->expires_unix;
}

gnutls_session_t tls_server_session(struct tls_server *t)
{
    gnutls_session_t session;
    struct session_extra *extra = MEM_NEW(struct session_extra);

    gnutls_init(&session, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
    gnutls_priority_set(session, t->priority);
    gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, t->credentials);
    gnutls_certificate_server_set_request(session, GNUTLS_CERT_IGNORE);
    gnutls_session_ticket_enable_server(session, &t->ticket_key);
    gnutls_handshake_set_timeout(session, GNUTLS_INDEFINITE_TIMEOUT); /* the connection's deadline rules */
    extra->role = SESSION_SERVER;
    extra->server = tls_server_ref(t);
    gnutls_session_set_ptr(session, extra);
    return session;
}

static enum err write_file(const char *path, const gnutls_datum_t *data, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

    if (fd < 0)
        return ERR_IO;
    bool ok = write(fd, data->data, data->size) == (ssize_t)data->size && fsync(fd) == 0;
    return close(fd) == 0 && ok ? OK : ERR_IO;
}

static int make_certificate(const char *host_name, gnutls_datum_t *cert_pem, gnutls_datum_t *key_pem)
{
    gnutls_x509_privkey_t key = NULL;
    gnutls_x509_crt_t crt = NULL;
    unsigned char serial[16];
    int64_t now = clock_unix();
    int rc = gnutls_x509_privkey_init(&key);

    gnutls_x509_crt_init(&crt);
    gnutls_rnd(GNUTLS_RND_NONCE, serial, sizeof(serial));
    serial[0] &= 0x7f;
    if (rc >= 0)
        rc = gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA,
                                          GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0);
    gnutls_x509_crt_set_version(crt, 3);
    gnutls_x509_crt_set_serial(crt, serial, sizeof(serial));
    gnutls_x509_crt_set_activation_time(crt, now - 3600);
    gnutls_x509_crt_set_expiration_time(crt, now + (int64_t)3650 * 86400);
    gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, host_name,
                                  (unsigned)MIN_OF(strlen(host_name), (size_t)64));
    gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, host_name, (unsigned)strlen(host_name),
                                         GNUTLS_FSAN_SET);
    gnutls_x509_crt_set_key_usage(crt, GNUTLS_KEY_DIGITAL_SIGNATURE);
    gnutls_x509_crt_set_key_purpose_oid(crt, GNUTLS_KP_TLS_WWW_SERVER, 0);
    gnutls_x509_crt_set_basic_constraints(crt, 0, -1);
    if (rc >= 0)
        rc = gnutls_x509_crt_set_key(crt, key);
    if (rc >= 0)
        rc = gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0);
    if (rc >= 0)
        rc = gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, cert_pem);
    if (rc >= 0)
        rc = gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, key_pem);
    gnutls_x509_crt_deinit(crt);
    gnutls_x509_privkey_deinit(key);
    return rc;
}

enum err tls_self_signed_ensure(const char *dir, const char *host_name, char **certificate, char **key,
                                char **why)
{
    char *cert_path = text_format("%s/tls-cert.pem", dir), *key_path = text_format("%s/tls-key.pem", dir);
    gnutls_datum_t cert_pem = {0}, key_pem = {0};
    enum err e = OK;

    if (access(cert_path, F_OK) != 0 || access(key_path, F_OK) != 0) {
        int rc = make_certificate(host_name, &cert_pem, &key_pem);
        if (rc < 0) {
            *why = text_format("cannot make a self-signed certificate: %s", gnutls_strerror(rc));
            e = ERR_TLS;
        } else {
            e = write_file(key_path, &key_pem, 0600);
            if (!e)
                e = write_file(cert_path, &cert_pem, 0644);
            if (e)
                *why = text_format("cannot write %s: %m; the data directory must be writable", cert_path);
        }
        gnutls_free(cert_pem.data);
        gnutls_free(key_pem.data);
    }
    if (e) {
        mem_free(cert_path);
        mem_free(key_path);
        return e;
    }
    *certificate = cert_path;
    *key = key_path;
    return OK;
}

/* ---- client ---- */

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

bool tls_priority_is_valid(const char *priority, const char **error_at)
{
    gnutls_priority_t p;

    if (gnutls_priority_init(&p, priority, error_at) < 0)
        return false;
    gnutls_priority_deinit(p);
    return true;
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

/* GnuTLS 3.7.9 accepts weaker keys than `verify` should, and a name that stands in the CN alone. */
static enum tls_verify check_leaf(const gnutls_datum_t *der, const char *name)
{
    gnutls_x509_crt_t crt;
    enum tls_verify v = TLS_VERIFY_PKIX;
    unsigned bits = 0;

    if (gnutls_x509_crt_init(&crt) < 0)
        return TLS_VERIFY_BAD;
    if (gnutls_x509_crt_import(crt, der, GNUTLS_X509_FMT_DER) < 0) {
        gnutls_x509_crt_deinit(crt);
        return TLS_VERIFY_BAD;
    }
    int pk = gnutls_x509_crt_get_pk_algorithm(crt, &bits);
    char san[256];
    size_t len = sizeof(san);
    bool has_san = gnutls_x509_crt_get_subject_alt_name(crt, 0, san, &len, NULL) !=
                   GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE;
    if (!has_san || (name && !gnutls_x509_crt_check_hostname2(crt, name, 0)))
        v = TLS_VERIFY_WRONG_NAME;
    else if ((pk == GNUTLS_PK_RSA || pk == GNUTLS_PK_RSA_PSS) && bits < RSA_BITS_MIN)
        v = TLS_VERIFY_WEAK;
    gnutls_x509_crt_deinit(crt);
    return v;
}

static bool is_self_signed(const gnutls_datum_t *der, unsigned count)
{
    gnutls_x509_crt_t crt;
    bool self = false;

    if (count != 1 || gnutls_x509_crt_init(&crt) < 0)
        return false;
    if (gnutls_x509_crt_import(crt, der, GNUTLS_X509_FMT_DER) >= 0)
        self = gnutls_x509_crt_check_issuer(crt, crt) != 0;
    gnutls_x509_crt_deinit(crt);
    return self;
}

static enum tls_verify verify_now(gnutls_session_t session, const char *name)
{
    unsigned count = 0, status = 0;
    const gnutls_datum_t *chain = gnutls_certificate_get_peers(session, &count);
    gnutls_typed_vdata_st data[] = {
        {.type = GNUTLS_DT_DNS_HOSTNAME, .data = (void *)(uintptr_t)name},
        {.type = GNUTLS_DT_KEY_PURPOSE_OID, .data = (void *)(uintptr_t)GNUTLS_KP_TLS_WWW_SERVER},
    };

    if (!chain || !count)
        return TLS_VERIFY_NO_CERT;
    if (gnutls_certificate_verify_peers(session, data, 2, &status) < 0)
        return TLS_VERIFY_BAD;
    if (status & GNUTLS_CERT_REVOKED)
        return TLS_VERIFY_REVOKED;
    if (status & GNUTLS_CERT_EXPIRED)
        return TLS_VERIFY_EXPIRED;
    if (status & GNUTLS_CERT_NOT_ACTIVATED)
        return TLS_VERIFY_NOT_YET_VALID;
    if (status & GNUTLS_CERT_SIGNER_NOT_FOUND)
        return is_self_signed(chain, count) ? TLS_VERIFY_SELF_SIGNED : TLS_VERIFY_UNKNOWN_CA;
    if (status & GNUTLS_CERT_UNEXPECTED_OWNER)
        return TLS_VERIFY_WRONG_NAME;
    if (status & GNUTLS_CERT_INSECURE_ALGORITHM)
        return TLS_VERIFY_WEAK;
    if (status)
        return TLS_VERIFY_BAD;
    return check_leaf(chain, name);
}

enum tls_verify tls_client_verify(gnutls_session_t session)
{
    struct session_extra *extra = gnutls_session_get_ptr(session);

    if (tls_client_resumed(session) && extra->verified_known)
        return extra->verified;
    extra->verified = verify_now(session, extra->sni);
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

/* ---- both ---- */

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
