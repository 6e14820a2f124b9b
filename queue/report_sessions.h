/*
 * What history knows of TLS sessions (struct session_record): the sums of a TLSRPT day (RFC 8460 §4), and the
 * certificates that were seen.
 *
 * Thread  any.  Opens read-only connections of its own and closes them again; it may block on the disk for
 *         as long as `timeout_ms` allows, so never on a worker.
 * Errors  as in queue/report.h.  Day files of version 1 have no sessions: they add nothing and are no error.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "queue/history.h"

#define REPORT_SESSION_SUMS_MAX 500000

struct report_sessions_query {
    int64_t since_unix, until_unix; /* ends of sessions, exact; until is exclusive; 0: no bound */
    const char *domain;             /* borrowed; NULL: all */
    bool all;                       /* those with counted == false too */
    /*
     * A day of very many destinations in pieces: only the domains of piece `slice` of `slices` (0 or 1: all).
     * All sessions of a domain are in one slice.  Take more slices after ERR_FULL.
     */
    unsigned slices, slice;
    uint32_t timeout_ms; /* 0: none */
};

/*
 * Texts are in the result and never NULL ("" for none).  Sessions that did not fail are told apart by domain
 * and policy alone: their mx … reason are "".
 */
struct report_session_sum {
    const char *domain;
    enum tlsrpt_policy policy_type;
    const char *policy_text, *policy_mx; /* as recorded: one a line */
    enum tls_failure failure;            /* TLS_FAILURE_NONE: successful */
    const char *mx, *receiving_ip /* without port or brackets */, *sending_ip, *helo, *reason;
    uint64_t count;
};
struct report_sessions {
    struct report_session_sum *rows; /* by domain, policy type, policy text, policy mx, failure, then the rest */
    size_t count;
    size_t files_skipped; /* day files that could not be read: the sums are too small */
    struct arena arena;
};
MUST_CHECK enum err report_sessions(const char *dir, const struct report_sessions_query *q,
                                    struct report_sessions *out);
void report_sessions_fini(struct report_sessions *r);

/*
 * Per MX host the certificate of its newest session that showed one, where it ends before `before_unix`: soonest
 * first.  A renewed certificate takes the place of the one before.
 */
struct report_certificate {
    const char *mx;
    int64_t expires_unix;
    int64_t seen_unix;      /* the newest session */
    const char *domain;     /* one of those delivered there */
    uint64_t domains;       /* how many */
    uint64_t sessions;      /* with this host in the span, of any certificate */
    enum tls_verify verify; /* of the newest session */
    const char *remote;     /* of the newest session, "192.0.2.1:25" */
};
struct report_certificates_query {
    int64_t since_unix;  /* sessions from then on; 0: all that history has */
    int64_t before_unix; /* 0: any end */
    size_t limit;        /* rows; 0: all */
    uint32_t timeout_ms;
};
struct report_certificates {
    struct report_certificate *rows;
    size_t count, in_all; /* in_all: before `limit` */
    size_t files_skipped;
    struct arena arena;
};
MUST_CHECK enum err report_certificates(const char *dir, const struct report_certificates_query *q,
                                        struct report_certificates *out);
void report_certificates_fini(struct report_certificates *r);
