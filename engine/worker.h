/*
 * A worker: one thread with one libuv loop that shares nothing.  It accepts submission connections
 * and owns the destinations that hash to it.
 *
 * Thread    everything here is used on the worker's thread, unless it says otherwise.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

#include "base/inbox.h"
#include "base/list.h"
#include "base/log.h"
#include "base/pulse.h"
#include "engine/conf.h"
#include "engine/dns/dns.h"
#include "engine/limits.h"
#include "engine/net/conn.h"
#include "engine/net/tls.h"
#include "policy/policy.h"
#include "queue/accounts.h"
#include "queue/history.h"
#include "queue/intake.h"
#include "queue/store.h"

struct campaign_guard;
struct deliver;
struct dnssec_watch;
struct probe_cache;
struct sources;
struct fetcher;
struct sts;
struct submit;
struct tlsrpt;
struct tls_watch;
struct worker;

/* What all workers share; immutable or with locks of its own.  Owned by the engine, outlives the workers. */
struct shared {
    struct store *store;
    struct history *history;
    struct intake *intake; /* how messages came in: report submission-tls */
    struct limits *limits;
    struct sources *sources;           /* engine/sources.h */
    struct shaping *shaping;           /* engine/shaping.h */
    struct zones *zones;               /* engine/zones.h */
    struct failed_hosts *failed_hosts; /* engine/failed_hosts.h */
    struct campaign_guard *guard;
    struct tls_client *tls_client;
    struct dnssec_watch *dnssec; /* does the resolver validate? */
    struct probe_cache *probe_cache;
    struct dkim *dkim;
    atomic_long tls_downgrades_open;   /* engine/tlswatch.h */
    _Atomic(const struct conf *) conf; /* the newest; older ones live as long as the engine */
    char *host_name;
    unsigned worker_count;
    struct worker **workers;
};

/* Counters that other threads read for status and metrics. */
struct worker_counters {
    atomic_ulong connections_in, connections_in_open, connections_refused, auth_failures, tls_in_failures,
        attacks_in;
    atomic_ulong messages_in, bytes_in;
    atomic_ulong connections_out, connections_out_open, connects_failed, tls_handshakes_out, tls_resumed_out,
        tls_failures_out;
    atomic_ulong attempts, delivered, deferred, bounced, bounces_dropped;
    atomic_ulong shadow_judged, shadow_held, shadow_unknown;
    atomic_ulong tls_reports_sent, tls_reports_refused, tls_reports_given_up, tls_reports_in;
    atomic_ulong jobs_in_memory, destinations, sites;
    atomic_ulong loop_beats;
};
#define COUNT(worker, name)   atomic_fetch_add_explicit(&(worker)->counters.name, 1, memory_order_relaxed)
#define UNCOUNT(worker, name) atomic_fetch_sub_explicit(&(worker)->counters.name, 1, memory_order_relaxed)

struct worker {
    struct shared *shared; /* borrowed */
    unsigned index;
    pthread_t thread;
    struct log log;
    uv_loop_t loop;
    uv_async_t async;
    uv_prepare_t prepare;
    uv_timer_t beat;
    struct inbox inbox;     /* post here from any thread */
    struct conn_pool *pool; /* owned */
    struct dns *dns;
    struct fetcher *fetcher;      /* HTTPS: MTA-STS policies, TLS reports */
    struct sts *sts;              /* MTA-STS policies of the domains that are ours */
    struct policy *policy;        /* counted snapshot */
    struct worker_shadow *shadow; /* owned: engine/shadow.h; NULL: no shadow rules */
    struct accounts *accounts;    /* counted snapshot */
    struct attempt_batch *batch;  /* results of this turn of the loop */
    uint64_t batches_posted;
    struct safe_mark results_safe; /* how many of them are on disk */
    struct tls_watch *tls_watch;
    struct deliver *deliver;
    struct submit *submit;
    struct list report_mails; /* engine/submit/reports.c */
    bool report_mails_closed;
    struct tlsrpt *tlsrpt;           /* reports that we send: worker 0's alone, else NULL */
    struct list probes, host_probes; /* engine/probe/ */
    bool draining;
    struct worker_counters counters;
    struct pulse pulse;
};

struct worker *worker_create(struct shared *shared, unsigned index);
/* Makes DNS, HTTPS, MTA-STS, deliver and submit; before the thread runs.  *why: mem_free. */
MUST_CHECK enum err worker_setup(struct worker *w, struct policy *policy, struct accounts *accounts,
                                 char **why);
MUST_CHECK enum err worker_start(struct worker *w);
/* Any thread: ends the loop once everything is closed; worker_join waits for it. */
void worker_post_stop(struct worker *w);
void worker_join(struct worker *w);
void worker_destroy(struct worker *w);

static inline const struct conf *worker_conf(const struct worker *w)
{
    return atomic_load_explicit(&w->shared->conf, memory_order_acquire);
}
static inline uint64_t worker_now_ms(const struct worker *w)
{
    return uv_now(&w->loop);
}
bool worker_is_current(const struct worker *w);

/* A record for this turn's batch; posted to history before the loop sleeps. */
/* Recipients that are in a transaction from now on; that are not after all; or that ended with the results put
 * down in this event. */
void worker_flight_begin(struct worker *w, uint32_t rcpts);
void worker_flight_end(struct worker *w, uint32_t rcpts);
void worker_flight_result(struct worker *w, uint32_t rcpts);
struct attempt *worker_attempt(struct worker *w);
struct session_record *worker_session_record(struct worker *w); /* the same for a session */
struct arena *worker_attempt_arena(struct worker *w);           /* where the strings of both go */
/* The number of this turn's batch, for safe_mark_has(&w->results_safe, …). */
uint64_t worker_batch_serial(const struct worker *w);
uint32_t worker_random(void);

/*
 * Runs fn(worker, arg) on the worker's thread.  post: and returns.  call: and waits until it has run (never
 * from a worker); false: the worker is stuck (engine/watchdog.h), and fn has not run and will not.
 */
typedef void (*worker_fn)(struct worker *w, void *arg);
void worker_post(struct worker *w, worker_fn fn, void *arg);
bool worker_call(struct worker *w, worker_fn fn, void *arg);
