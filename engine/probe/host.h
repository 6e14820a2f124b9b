/*
 * One mail host at one address, talked to as delivery would, but for mail: greeting, EHLO, STARTTLS,
 * certificate, QUIT.
 *
 * Thread    a probe belongs to its worker's loop; facts are immutable once given out, and counted: any
 * thread. Bounds    20 s to connect, 30 s for each reply; no host is asked twice at a time, and what it
 * showed is remembered for ten minutes, so that a list of a hundred thousand domains does not knock as often
 * at the same few providers.
 */
#pragma once

#include <gnutls/gnutls.h>
#include <stdatomic.h>

#include "engine/worker.h"

#define PROBE_TEXT 200

struct probe_facts {
    atomic_uint refs;
    bool connected, offered, requiretls;
    char error[PROBE_TEXT];  /* of the connection, or what ended the conversation early; "" */
    char banner[PROBE_TEXT]; /* the greeting's first line */
    char reply[PROBE_TEXT];  /* to STARTTLS, when it was refused */
    char tls_error[PROBE_TEXT];
    enum tls_event event; /* how far it came, CERT_GOOD or CERT_BAD with TLS; meaningful when connected */
    const char *version, *cipher, *kx; /* static; NULL without TLS */
    enum tls_verify verify;            /* PKIX, for the host's own name */
    int64_t expires_unix;
    gnutls_datum_t *chain; /* owned copies, DER, leaf first */
    unsigned chain_count;
    int versions[4]; /* by enum tls_version: 1 taken, 0 refused, -1 not tried */
    uint32_t ms;     /* to the end of the first conversation */
};
void probe_facts_unref(struct probe_facts *f); /* NULL is fine */
struct probe_facts *probe_facts_ref(struct probe_facts *f);

struct probe_target {
    const char *host, *sni;    /* copied */
    struct policy *policy;     /* counted while asked: `group` lies in it */
    const struct group *group; /* trust, priority, client certificate as delivery uses them */
    struct ip ip;
    uint16_t port;
    bool implicit_tls;
    bool versions; /* try each version of TLS on a connection of its own */
};
/* fn gets a reference of its own; it comes later, from the loop. */
typedef void (*probe_host_fn)(void *arg, struct probe_facts *facts);
void probe_host(struct worker *w, const struct probe_target *target, probe_host_fn fn, void *arg);
void probe_hosts_close(struct worker *w); /* calls every fn at once */

/* What hosts have shown, for the whole process; any thread. */
struct probe_cache;
struct probe_cache *probe_cache_create(void);
void probe_cache_destroy(struct probe_cache *c);
enum probe_cached { PROBE_KNOWN, PROBE_YOURS, PROBE_UNDER_WAY };
/* KNOWN: *facts, counted.  YOURS: ask, then call put, whatever came.  UNDER_WAY: somebody asks; look again
 * soon. */
enum probe_cached probe_cache_take(struct probe_cache *c, const char *key, struct probe_facts **facts);
void probe_cache_put(struct probe_cache *c, const char *key, struct probe_facts *facts);
