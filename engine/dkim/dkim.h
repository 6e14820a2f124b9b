/*
 * DKIM signatures (RFC 6376, RFC 8301, RFC 8463): relaxed/relaxed, rsa-sha256 and ed25519-sha256, made once,
 * when a message is accepted or when we write one ourselves.
 *
 * Keys      per domain of the From field, read from files (dkim.keys of the configuration), kept parsed in a
 * counted snapshot that a reload swaps as a whole.  A message whose domain has no key goes unsigned, and is
 * counted. Signing   the body is hashed while it arrives, on the thread that receives it; the private-key
 * operation runs on a bounded pool of threads of its own.  The fields stand at the very start of the message,
 * with room for bh= and b=, whose lengths are known before: the pool fills them in, in memory or in the
 * segment file, before the store syncs it.  So a message of any size is written once, and in order. Threads
 * struct dkim is shared by all; its calls come from any thread.  A dkim_signing belongs to one.
 */
#pragma once

#include <jansson.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/inbox.h"
#include "engine/conf.h"
#include "queue/accounts.h"
#include "queue/spool.h"

struct dkim;

/* Without keys; ends its threads in destroy, after all that was posted is answered. */
struct dkim *dkim_create(void);
void dkim_destroy(struct dkim *d);
struct dkim_keyring;
/* Reads every key of `conf`; nothing comes into force.  On failure *why says which file and what to do
 * (mem_free). */
MUST_CHECK enum err dkim_prepare(const struct conf *conf, struct dkim_keyring **out, char **why);
void dkim_discard(struct dkim_keyring *ring); /* NULL is fine */
/* From now on these keys sign, and `conf` says how; takes `ring`.  Starts the pool with the first key. */
void dkim_use(struct dkim *d, struct dkim_keyring *ring, const struct conf *conf);

/* ---- for whoever writes a message of his own: notifications, reports ---- */

/*
 * Signs a complete message (header section, empty line, body; CRLF line ends) by the domain of its From
 * field: the DKIM-Signature fields are put before it.  ERR_NOT_FOUND: no key for that domain, the message is
 * as it was.  Other errors: likewise, and logged.  Blocks for the private-key operation (0.5 ms for RSA): a
 * worker uses dkim_post.
 */
MUST_CHECK enum err dkim_sign_message(struct dkim *d, struct buf *message);

/* ---- for messages that arrive ---- */

struct dkim_signing; /* one message on its way */

/*
 * The header section is complete: `sections` are its runs of whole fields, in order, without the empty line.
 * NULL: no key (counted as unsigned).  An account that may send as some domains only signs for no others.
 */
struct dkim_signing *dkim_signing_begin(struct dkim *d, const struct bytes *sections, size_t count,
                                        const struct account *account);
/* The fields with room for what is not known yet: they must be the first octets of the message. */
struct bytes dkim_signing_fields(const struct dkim_signing *s);
void dkim_signing_body(struct dkim_signing *s,
                       struct bytes octets);       /* what follows the empty line, run by run */
void dkim_signing_destroy(struct dkim_signing *s); /* NULL is fine */

/* One order to the pool. */
struct dkim_request {
    struct note note;
    struct inbox *reply_to;
    note_fn on_reply;             /* run by the owner of reply_to; the request is the asker's again */
    struct dkim_signing *signing; /* theirs; or NULL: sign `message` as dkim_sign_message does */
    struct body *body;            /* borrowed until the answer, and nobody else's till then: of `signing` */
    struct spool *spool;          /* borrowed; NULL only for a body in memory */
    struct buf message;           /* of dkim_sign_message; the asker's again with the answer */
    enum err result;              /* out */
};
/* ERR_FULL: dkim.queue orders wait already; nothing was taken and no answer comes. */
MUST_CHECK enum err dkim_post(struct dkim *d, struct dkim_request *r);
/* The same for mail of our own, which has no client that could come again: when the queue is full this thread does it. */
void dkim_post_always(struct dkim *d, struct dkim_request *r);

/* ---- seeing ---- */

struct dkim_stats {
    uint64_t signed_messages, unsigned_messages, failed_messages, refused_full;
    uint64_t signatures, sign_us_total; /* private-key operations, and the time they took */
    uint64_t wait_us_total;             /* from dkim_post to the answer, over all orders */
    uint32_t waiting, waiting_max, threads, keys;
};
void dkim_stats(const struct dkim *d, struct dkim_stats *out);
/* The caller's reference, all three.  No secrets. */
json_t *dkim_status_json(struct dkim *d); /* the same numbers */
json_t *
dkim_keys_json(struct dkim *d); /* [{domain, selector, algorithm, bits, subdomains, name, record, zone}] */
/*
 * The same, each with what DNS holds for it: status (enum dkim_verdict, or "unknown"), explain, dns, dnssec,
 * found.  Waits for DNS, so not from a worker; `w` does the asking, at `server` (only the addresses count)
 * or, with NULL, where it always asks.  `domain` is normalised; NULL: all.  *why: that server cannot be asked
 * (mem_free), else NULL.
 */
struct worker;
struct dns_config;
json_t *dkim_check(struct dkim *d, struct worker *w, const char *domain, const struct dns_config *server,
                   char **why);
void dkim_metrics(struct dkim *d, struct buf *out); /* in the form of Prometheus, appended */
