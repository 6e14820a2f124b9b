/*
 * TLS reports that others sent us: taken in, kept, summed up.
 *
 * Kept is one value a report (kind "tlsrpt-in", key "2026-11-21/0123456789abcdef": the day it begins, and a
 * hash of who sent which), so that the same report taken in again replaces itself.  They are dropped with the
 * history of their time.
 *
 * Thread    any but a worker's loop: it unpacks, parses and waits for the store.
 * Bounds    one is unpacked at a time in the whole process; RECEIVED_DAY_BYTES of kept octets in a day.
 */
#pragma once

#include <stdint.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/err.h"
#include "queue/store.h"

#define RECEIVED_KEEP_KIND "tlsrpt-in"
#define RECEIVED_DAY_BYTES (256 * 1024 * 1024)

struct received_from {
    struct store *store;
    const char *dir; /* data directory */
    unsigned days;   /* how long to keep; 0: for ever */
    const char *via; /* "file", "mail" */
    const char *dkim, *signer; /* proof_verdict_name, and the domain; NULL: not asked */
};

/*
 * Takes in every report in `octets` (engine/tlsrpt/extract.h).  To *answer, if there is one, go JSON objects,
 * comma between:
 * {"key","organization","report_id","domains","begin_unix","end_unix","successful","failed","new","deviations"}.
 * ERR_INVALID: there is none, or one is none: *why (static).  ERR_FULL: too large (*why).  ERR_NOSPACE: the
 * day's limit.
 */
MUST_CHECK enum err received_take(const struct received_from *from, struct bytes octets, struct buf *answer,
                                  const char **why);

/* ---- seeing ---- */

enum received_by {
    RECEIVED_BY_DOMAIN,
    RECEIVED_BY_SENDER,
    RECEIVED_BY_RESULT,
    RECEIVED_BY_MX,
    RECEIVED_BY_DAY,
    RECEIVED_BY_REPORT
};

struct received_query {
    int64_t since_unix,
        until_unix; /* of the beginning of what is reported; until is exclusive; 0: no bound */
    enum received_by by;
    const char *domain, *sender; /* NULL: all; the sender's organization, whatever the case of its letters */
};
/*
 * successful and failed are sessions.  By result and by MX, failed counts what failure-details say, where one
 * session may stand twice (RFC 8460 §4.5), and there is one row "" for the successful ones.
 */
struct received_row {
    const char *key;                         /* by report: its key; the words below say the rest */
    const char *sender, *report_id, *domain, *dkim, *signer; /* by report; else "" */
    uint64_t reports, successful, failed;
    int64_t first_unix, last_unix; /* of what is reported */
};
struct received {
    struct received_row *rows; /* most failures first; by day and by report: newest first */
    size_t count;
    size_t reports, unreadable;
    uint64_t successful, failed;
    struct arena arena;
};
#define RECEIVED_ROWS_MAX 100000 /* further keys are summed up as "(others)" */
MUST_CHECK enum err received_sums(const char *dir, const struct received_query *q, struct received *out);
void received_fini(struct received *r);
/* One report as JSON, as the standard writes it.  ERR_NOT_FOUND. */
MUST_CHECK enum err received_show(const char *dir, const char *key, struct buf *json);
