/*
 * MTA-STS policies of destination domains, RFC 8461: looked up, kept, refreshed daily, remembered over
 * restarts.
 *
 * Thread    one `struct sts` per worker, used on its loop only; a domain belongs to one worker (store_owner),
 * so no policy is fetched twice. Network   TXT by the worker's DNS; HTTPS by engine/net/fetch.h with
 * addresses from that same DNS. Cache     by domain; kept in the store (queue/keep.h, kind "sts") and read at
 * start.  A live lookup that fails leaves a policy that is still within max_age in force (§3.3, §5.1).
 * Callbacks always come later, from the loop, never from inside sts_…(): a cancelled query makes none.
 */
#pragma once

#include "base/inbox.h"
#include "engine/worker.h"
#include "policy/sts_policy.h"

struct sts;
struct sts_query;

MUST_CHECK enum err sts_create(struct worker *w, struct sts **out, char **why);
/* on_closed after the last handle; pending callbacks are not made. */
void sts_close(struct sts *s, void (*on_closed)(void *arg), void *arg);

struct sts_answer {
    struct sts_policy *policy; /* borrowed: the callback takes a reference; NULL: there is none to apply */
    enum tls_failure failure; /* of the last live lookup: fetch error, invalid, webpki; NONE when it went well
                                 or found nothing */
    const char *why;          /* failure, or why the TXT record does not count, for people; "" */
};
typedef void (*sts_fn)(void *arg, const struct sts_answer *answer);
/* The policy of a recipient domain (or of a smart host's own domain).  From the cache at once in the next
 * turn when fresh; else after TXT and fetch, at most a little over a minute. */
struct sts_query *sts_lookup(struct sts *s, const char *domain, sts_fn fn, void *arg);
/* §5.1: before a permanent failure, asks the TXT id again and fetches if it changed; answers what is in force
 * then. */
struct sts_query *sts_recheck(struct sts *s, const char *domain, sts_fn fn, void *arg);
/* Asked for by a person: TXT and a fetch now, whatever is cached and however shortly ago one failed. */
struct sts_query *sts_refresh(struct sts *s, const char *domain, sts_fn fn, void *arg);
void sts_cancel(struct sts_query *q); /* NULL is fine */

/* What is known of a domain, for people. */
struct sts_view {
    const char *domain;
    struct sts_policy *policy;       /* in force, or NULL; borrowed like all of this */
    int64_t used_unix, refresh_unix; /* refresh_unix 0: none is planned */
    enum tls_failure failure;        /* of the last live lookup */
    const char *last_why;            /* of the newest failure, which may be over; "" if there was none */
    int64_t last_failed_unix;
    unsigned refresh_failures; /* in a row */
};
/* false: nothing. */
bool sts_find(struct sts *s, const char *domain, struct sts_view *out);
/* Those after `after` (or NULL) in the order of their names, at most `max`; returns how many. */
size_t sts_list(struct sts *s, const char *after, struct sts_view *out, size_t max);

struct sts_stats {
    uint64_t policies, enforced, fetches, fetch_failures, refreshes, refresh_failures;
    uint64_t failing; /* policies, mode none apart, whose refresh has failed three times in a row or more */
};
void sts_stats(const struct sts *s, struct sts_stats *out); /* any thread */
