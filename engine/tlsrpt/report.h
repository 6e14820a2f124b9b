/*
 * A day of TLS sessions with one domain as the report of RFC 8460 §4.4: JSON (I-JSON, RFC 7493), and the
 * names that go with it.  Pure.
 */
#pragma once

#include <stdint.h>

#include "base/bytes.h"
#include "queue/report_sessions.h"

#define TLSRPT_DETAILS_MAX 5000 /* failure-details of one report; the smaller ones are joined beyond it */

struct tlsrpt_about {
    const char *organization, *contact; /* contact: a mail address */
    const char *domain;                 /* policy domain, A-labels */
    const char *report_id;
    int64_t begin_unix, end_unix; /* end: the last second that counts */
};

struct tlsrpt_totals {
    uint64_t successful, failed;
};

/*
 * `rows` are all of about->domain, as report_sessions sorts them: one policy is a run of neighbours.
 * Appends; totals are over all policies.
 */
void tlsrpt_report_format(const struct tlsrpt_about *about, const struct report_session_sum *rows,
                          size_t count, size_t details_max, struct buf *out, struct tlsrpt_totals *totals);

/* "2026-11-21" → the first second of that UTC day.  False: no such day. */
bool tlsrpt_day_parse(struct bytes text, int64_t *begin_unix);
#define TLSRPT_DAY_BYTES 11
char *tlsrpt_day_format(int64_t unix_seconds, char out[TLSRPT_DAY_BYTES]);

/*
 * The same for the same host, domain and day, and no other: who gets a report twice can tell (§5.3).
 * `host` tells the senders of one organization apart.
 */
#define TLSRPT_UNIQUE_BYTES 17
char *tlsrpt_unique_id(const char *host, const char *domain, int64_t begin_unix,
                       char out[TLSRPT_UNIQUE_BYTES]);
/* "submitter!domain!begin!end!unique.json.gz", §5.1. */
void tlsrpt_file_name(const struct tlsrpt_about *about, const char *unique, struct buf *out);
/* The domain of the contact address, normalised: TLS-Report-Submitter.  False: it has none. */
bool tlsrpt_submitter(const char *contact, char out[256]);
