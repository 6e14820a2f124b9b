/*
 * TLS reports that we send (RFC 8460): once a day, after midnight UTC, for every domain that mail was tried
 * for and that asks for them.
 *
 *     midnight + delay ─► domains of the day (history) ─► TXT records ─► reports, all kept ─► one by one:
 *     mail through our own queue, HTTPS POST ─► done, or again later for a day
 *
 * Days at which the daemon was down are made up for, up to a week.  What is to do and what is done stands in
 * the store (kind "tlsrpt": "2026-11-21" the day, "2026-11-21/example.com" a report with its octets): a restart
 * goes on where it was, with the same report.
 * It is sent again only if the process ends between handing it over and the commit of that; its report-id is
 * the same then.
 *
 * Thread    worker 0, but for orders.  History is read on the thread pool.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/inbox.h"
#include "queue/report_sessions.h"

struct tlsrpt;
struct worker;

/* Reads what is kept: before the worker's thread runs. */
struct tlsrpt *tlsrpt_create(struct worker *w);
void tlsrpt_on_beat(struct tlsrpt *t); /* once a second; NULL is fine */
void tlsrpt_close(struct tlsrpt *t);   /* before DNS and fetcher; NULL is fine */
void tlsrpt_destroy(struct tlsrpt *t); /* after the loop's end and the last answer; NULL is fine */

/* A report that an operator wants now.  Counted: the asker's thread and the worker have it. */
struct tlsrpt_order {
    atomic_uint refs;
    char *domain; /* owned, normalised */
    int64_t begin_unix;
    bool again;           /* even if it was sent already */
    bool part;            /* of a day that is not over: the daily report follows nevertheless */
    struct doorbell done; /* rung by the worker, when `result` and `answer` are written */
    enum err result;      /* ERR_EXISTS: sent already; ERR_NOT_FOUND: no sessions; ERR_BUSY: is being sent */
    struct buf answer;    /* JSON: how it stands */
};
struct tlsrpt_order *tlsrpt_order_create(const char *domain, int64_t begin_unix);
void tlsrpt_order_unref(struct tlsrpt_order *o);
/* worker_fn: takes the worker's reference.  Worker 0. */
void tlsrpt_order_begin(struct worker *w, void *order);

/*
 * The report of a domain and a day, from history, as it would be sent: any thread but a worker's; may take
 * long. ERR_NOT_FOUND: no sessions that count.
 */
struct conf;
MUST_CHECK enum err tlsrpt_build(const char *dir, const char *host_name, const struct conf *conf,
                                 const char *domain, int64_t begin_unix, uint32_t timeout_ms,
                                 struct buf *json);

/* ---- what is kept: (kind "tlsrpt") ---- */

#define TLSRPT_KEEP_KIND "tlsrpt"
/* A value is a line of JSON (state, rua, tries, …) and, while it is to be sent, the gzipped report. */
struct bytes tlsrpt_kept_head(struct bytes value);
