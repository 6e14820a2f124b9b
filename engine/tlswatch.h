/*
 * Downgrades: what TLS each destination had, and where it now has less.
 *
 * Thread    the worker's.  A domain belongs to one worker, so its state has one owner; others change it by
 *           engine_downgrades_change (engine/engine.h).
 * Kept      by queue/keep.h: "tls-seen" DOMAIN → the best that was reached, of the domain and of each MX
 * host; "downgrade" DOMAIN → the entries of the register.  Written when something changes; counts of an open
 * entry at most once a minute.
 *
 * How delivery uses it
 *   1. dest_get / binding:   dest->tls = tls_watch_lookup(w->tls_watch, domain, fn, dest)   (once per dest)
 *                            Read from the store; fn is called once, later from the loop.  fn may be NULL.
 *   2. Before mail of a domain is offered on a session, that is with the first transaction of the domain on a
 * link, after the handshake has been judged by the table: tls_watch_session(dest->tls, &what) OK: go on.
 * DOWNGRADED: with on_downgrade == DOWNGRADE_HOLD the host counts as failed (next host; when all have:
 *      defer, 4.7.5, text of tls_watch_text); else go on: it is in the register.  UNKNOWN: the state could
 * not be read (yet); with DOWNGRADE_HOLD do not send: wait for fn, or after its error defer and look up anew;
 * else go on. Also call it, and ignore what it says, where the table itself refused the host because STARTTLS
 * was not offered or refused (reached: CLEAR), or the certificate or TLSA did not hold (reached: ENCRYPTED).
 *   3. Not for: level off, messages with TLS-Required: No, reports, and failures that say nothing about TLS
 * or may pass (time-outs, broken handshakes, 421).  A fall-back to clear text that carries mail is a session
 * like any other: reached CLEAR.
 *   4. dest_destroy:         tls_watch_release(dest->tls)   (NULL is fine; fn is not called afterwards)
 *
 * What is expected of an MX host is the best that it reached; of a host that is new to a destination, the
 * best of the destination.  A smart host is held to what it reached itself, with mail for this
 * destination or, where it carries some for the first time, for others of this worker since the start: what
 * the domain's own hosts have says nothing of it, and it says nothing of them.  `approve
 * DOMAIN` lowers both to what was found, `approve DOMAIN --mx HOST` that of the host.  An approval stands
 * until the host has been better for a week without a relapse, or `forget`, which drops what is known of the
 * domain.
 */
#pragma once

#include <jansson.h>
#include <stdatomic.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/inbox.h"
#include "policy/tls_decide.h"

struct store;

enum tls_reached { TLS_REACHED_NOTHING, TLS_REACHED_CLEAR, TLS_REACHED_ENCRYPTED, TLS_REACHED_AUTHENTICATED };
const char *tls_reached_name(enum tls_reached r); /* "nothing", "clear", "encrypted", "authenticated" */
/* Of a session: version NULL is clear text. */
enum tls_reached tls_reached_of(const char *tls_version, enum tls_verify verify);

/* ---- one per worker: w->tls_watch ---- */

struct tls_watch;
/* Answers of the store come by `inbox`.  `open` counts open entries over all workers. */
struct tls_watch *tls_watch_create(struct store *store, struct inbox *inbox, atomic_long *open);
void tls_watch_beat(struct tls_watch *w);  /* once a second: writes what was put off */
void tls_watch_flush(struct tls_watch *w); /* before the end: writes everything */
void tls_watch_destroy(struct tls_watch *w);

/* ---- one per destination ---- */

struct tls_dest;
/* e: OK, or why the state could not be read.  Not called after tls_watch_flush. */
typedef void (*tls_watch_fn)(void *arg, enum err e);
struct tls_dest *tls_watch_lookup(struct tls_watch *w, const char *domain, tls_watch_fn fn, void *arg);
void tls_watch_release(struct tls_dest *d);

struct tls_watched {
    const char *mx, *remote;    /* remote: "192.0.2.1:25", or NULL */
    bool smarthost;             /* the operator's choice, not the domain's */
    enum tls_reached elsewhere; /* tls_watch_session fills it in: the best of this smart host with mail for
                                   other domains */
    enum tls_reached reached;
    const char *evidence; /* last reply to STARTTLS or EHLO, handshake error, what is wrong with the
                             certificate; or NULL */
};
enum tls_watch_says { TLS_WATCH_OK, TLS_WATCH_DOWNGRADED, TLS_WATCH_UNKNOWN };
enum tls_watch_says tls_watch_session(struct tls_dest *d, const struct tls_watched *what);
/* What is expected of this host; NOTHING while unknown. */
enum tls_reached tls_watch_expects(const struct tls_dest *d, const struct tls_watched *what);
/* For the outcome of held mail: "mx.example had authenticated TLS before, now encrypted: …", without line
 * end. */
void tls_watch_text(const struct tls_dest *d, const struct tls_watched *what, struct buf *out);

/* ---- the register; any thread ---- */

enum tls_downgrade_op { TLS_DOWNGRADE_APPROVE, TLS_DOWNGRADE_FORGET };
/* All entries, or those of one domain (or NULL): an array of objects as webui-api/README.md shows them.
 * Blocks on the disk. */
MUST_CHECK enum err tls_downgrades_list(const char *data_dir, const char *domain, json_t **out);
/* How many are open, at start. */
long tls_downgrades_count(const char *data_dir);
/*
 * On the worker that owns the domain: changes all open entries of it, or the one of `mx`; fn is told how many
 * were changed, after the commit.  ERR_NOT_FOUND: there is none (FORGET: nothing is known of the domain).
 */
typedef void (*tls_change_fn)(void *arg, enum err e, unsigned changed);
void tls_downgrades_change(struct tls_watch *w, enum tls_downgrade_op op, const char *domain, const char *mx,
                           const char *author, tls_change_fn fn, void *arg);
