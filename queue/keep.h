/*
 * Small things that must outlive the process and are none of the queue's tables: found MTA-STS policies, what TLS a
 * destination had, downgrades, reports that are due.  (kind, key) → value, in queue.db.
 *
 * Thread    writing by notes to the store thread, like everything in queue/store.h; reading by keep_read (any thread, its own
 *           read-only connection: not on a worker but at start).
 * Size      values up to 256 KiB.  Kinds are short words: "sts", "tls-seen", "downgrade", "tlsrpt", "shadow", "campaign", "unclean-end".
 */
#pragma once

#include "base/arena.h"
#include "queue/store.h"

#define KEEP_VALUE_MAX (256 * 1024)

/* By domain (engine/tlswatch.h).  What was not put for KEEP_SEEN_DAYS, or as long as history is kept where that is longer,
 * is dropped, a bounded step at a time; not where history is kept for ever, and not of a domain that the register
 * of downgrades has entries of. */
#define KEEP_TLS_SEEN  "tls-seen"
#define KEEP_DOWNGRADE "downgrade"
#define KEEP_SEEN_DAYS 400

/* One for each run that was cut short, for 90 days; key: when that was found, 20 digits.  Lines: started UNIX, first N
 * (recipients that were with a worker and had no attempt on record), waiting N (all others that waited). */
#define KEEP_UNCLEAN_END "unclean-end"

struct store_keep {
    struct store_request req;
    char *kind, *key;   /* owned */
    struct buf value;   /* owned; put: the new value, get: out */
    bool remove;        /* put: takes it away instead; no such key is OK */
    int64_t at_unix;    /* out: when it was put last */
};
/* Answered OK after the commit. */
void store_post_keep_put(struct store *s, struct store_keep *k);
/* ERR_NOT_FOUND when there is none.  Sees every put posted before it. */
void store_post_keep_get(struct store *s, struct store_keep *k);
void store_keep_destroy(struct store_keep *k); /* by the receiver of the answer */
/* Both for callers that want no answer, or build one request: copies all. */
struct store_keep *store_keep_make(const char *kind, const char *key, struct bytes value);
void store_keep_set(struct store *s, const char *kind, const char *key, struct bytes value); /* no answer */
void store_keep_drop(struct store *s, const char *kind, const char *key);                    /* no answer */

struct kept {
    const char *key;
    struct bytes value;
    int64_t at_unix;
};
typedef bool (*keep_fn)(void *arg, const struct kept *k); /* false ends the walk */
/* All of a kind with key > `after` (or NULL), by key.  `dir` is the data directory. */
MUST_CHECK enum err keep_read(const char *dir, const char *kind, const char *after, keep_fn fn, void *arg);
