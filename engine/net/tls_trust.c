/* Trust files and client certificates, loaded once and again when they change. */
#include <errno.h>
#include <gnutls/x509.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/net/tls_priv.h"

#define SYSTEM_FILE "/etc/ssl/certs/ca-certificates.crt" /* where GnuTLS finds it on Debian */

uint64_t tls_trust_look_again_ms = 60000;

enum { FILE_CA, FILE_CERTIFICATE, FILE_KEY, FILE_COUNT };

struct stamp {
    int64_t mtime_s, mtime_ns, size;
    uint64_t inode;
};

struct tls_trust {
    uint64_t serial;
    atomic_uint refs;
    char *key;               /* in the map */
    char *files[FILE_COUNT]; /* owned; NULL: the system's, none */
    struct stamp stamps[FILE_COUNT];
    uint64_t looked_ms;
    gnutls_certificate_credentials_t credentials;
    char *complaint; /* the trust file cannot be used: nobody is trusted */
};

void tls_trust_unref(struct tls_trust *t)
{
    if (!t || atomic_fetch_sub(&t->refs, 1) != 1)
        return;
    if (t->credentials)
        gnutls_certificate_free_credentials(t->credentials);
    for (size_t i = 0; i < FILE_COUNT; i++)
        mem_free(t->files[i]);
    mem_free(t->key);
    mem_free(t->complaint);
    mem_free(t);
}

void tls_trusts_fini(struct tls_trusts *all)
{
    struct tls_trust *t;
    size_t at = 0;

    while ((t = map_next(&all->by_key, &at)))
        tls_trust_unref(t);
    map_fini(&all->by_key);
}

gnutls_certificate_credentials_t tls_trust_credentials(const struct tls_trust *t)
{
    return t->credentials;
}

uint64_t tls_trust_serial(const struct tls_trust *t)
{
    return t->serial;
}

const char *tls_trust_complaint(const struct tls_trust *t)
{
    return t->complaint;
}

static struct stamp stamp_of(const char *file)
{
    struct stamp s;
    struct stat st;

    memset(&s, 0, sizeof(s));
    if (file && stat(file, &st) == 0)
        s = (struct stamp){st.st_mtim.tv_sec, st.st_mtim.tv_nsec, st.st_size, st.st_ino};
    return s;
}

static const char *watched(const struct tls_trust *t, size_t i)
{
    return i == FILE_CA && !t->files[i] ? SYSTEM_FILE : t->files[i];
}

static bool has_changed(const struct tls_trust *t)
{
    for (size_t i = 0; i < FILE_COUNT; i++) {
        struct stamp now = stamp_of(watched(t, i));
        if (memcmp(&now, &t->stamps[i], sizeof(now)) != 0)
            return true;
    }
    return false;
}

static bool load_certificate(struct tls_trust *t, char *why, size_t why_bytes)
{
    if (!t->files[FILE_CERTIFICATE])
        return true;
    for (size_t i = FILE_CERTIFICATE; i <= FILE_KEY; i++) {
        if (!t->files[i] || access(t->files[i], R_OK) != 0) {
            snprintf(why, why_bytes, "client %s %s: %s", i == FILE_KEY ? "key" : "certificate",
                     t->files[i] ? t->files[i] : "(none)", strerror(errno));
            return false;
        }
    }
    int rc = gnutls_certificate_set_x509_key_file(t->credentials, t->files[FILE_CERTIFICATE],
                                                  t->files[FILE_KEY], GNUTLS_X509_FMT_PEM);
    if (rc < 0)
        snprintf(why, why_bytes, "client certificate %s: %s", t->files[FILE_CERTIFICATE],
                 gnutls_strerror(rc));
    return rc >= 0;
}

static void load_authorities(struct tls_trust *t)
{
    const char *file = t->files[FILE_CA];

    if (!file) { /* a system without authorities trusts nobody, which is an answer */
        gnutls_certificate_set_x509_system_trust(t->credentials);
        return;
    }
    int rc = gnutls_certificate_set_x509_trust_file(t->credentials, file, GNUTLS_X509_FMT_PEM);
    if (rc <= 0)
        t->complaint =
            text_format("trust file %s: %s", file, rc < 0 ? gnutls_strerror(rc) : "no certificate in it");
}

static struct tls_trust *load(const char *key, const struct tls_client_options *o, char *why,
                              size_t why_bytes)
{
    static atomic_ullong serial;
    struct tls_trust *t = MEM_NEW(struct tls_trust);

    atomic_init(&t->refs, 1);
    t->serial = atomic_fetch_add(&serial, 1);
    t->key = mem_strdup(key);
    t->files[FILE_CA] = mem_strdup(o->ca_file);
    t->files[FILE_CERTIFICATE] = mem_strdup(o->certificate);
    t->files[FILE_KEY] = mem_strdup(o->key);
    for (size_t i = 0; i < FILE_COUNT; i++) /* before reading: a change in between is seen next time */
        t->stamps[i] = stamp_of(watched(t, i));
    t->looked_ms = clock_now_ms();
    gnutls_certificate_allocate_credentials(&t->credentials);
    load_authorities(t);
    if (load_certificate(t, why, why_bytes))
        return t;
    tls_trust_unref(t);
    return NULL;
}

static void replace(struct tls_trusts *all, struct tls_trust *t)
{
    tls_trust_unref(map_put(&all->by_key, bytes_of(t->key), t));
}

struct tls_trust *tls_trust_find(struct tls_trusts *all, const struct tls_client_options *o, char *why,
                                 size_t why_bytes)
{
    BUF_LOCAL(key);
    char whose[200] = "";

    buf_putf(&key, "%s\n%s\n%s", o->ca_file ? o->ca_file : "", o->certificate ? o->certificate : "",
             o->key ? o->key : "");
    struct tls_trust *t = map_find(&all->by_key, buf_bytes(&key));
    if (!t) {
        t = load(buf_str(&key), o, why, why_bytes);
        if (!t)
            return NULL;
        replace(all, t);
    } else if (clock_now_ms() - t->looked_ms >= tls_trust_look_again_ms) {
        t->looked_ms = clock_now_ms();
        struct tls_trust *fresh = has_changed(t) ? load(buf_str(&key), o, whose, sizeof(whose)) : NULL;
        if (fresh && fresh->complaint && !t->complaint) {
            snprintf(whose, sizeof(whose), "%s", fresh->complaint);
            tls_trust_unref(TAKE(fresh));
        }
        if (whose[0]) /* half written, perhaps: what was good stays in use */
            log_warn(NULL, "tls.client.files", LOG_STR("why", whose));
        if (fresh) {
            log_info(NULL, "tls.client.files.reread", LOG_STR("ca_file", o->ca_file ? o->ca_file : "system"),
                     LOG_STR("certificate", o->certificate ? o->certificate : ""));
            replace(all, fresh);
            t = fresh;
        }
    }
    atomic_fetch_add(&t->refs, 1);
    return t;
}
