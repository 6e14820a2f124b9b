/*
 * A TLS report that somebody sent us, as a value (RFC 8460 §4.4).  Pure; strings lie in the arena.
 *
 * What the standard says is checked only as far as the numbers need it.  These deviations of senders are
 * read, and noted: policies-object       "policies" is one object, as in old drafts policy-flat           the
 * fields of "policy" stand beside "summary" instead of inside string-for-list       policy-string or mx-host
 * is a text (so the standard's own example: erratum 6241) mx-host-pattern       the name that drafts had for
 * mx-host count-as-text         "5" in place of 5, or 5.0 no-summary            the sums are those of
 * failure-details failure-details-object  one object in place of a list old-field-name failure-error-code,
 * additional-info-uri and other names of drafts date-form             a date without zone, with a blank, a
 * fraction, or as a number byte-order-mark       before the JSON no-organization, no-report-id, no-contact
 *   unknown-policy-type, unknown-result-type
 *   sums-differ           failure-details add up to more than the summary says
 */
#pragma once

#include <stdint.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/err.h"

#define TLSRPT_JSON_MAX     (10 * 1024 * 1024) /* of one report, unpacked */
#define TLSRPT_POLICIES_MAX 10000
#define TLSRPT_FAILURES_MAX 100000 /* of one report */
#define TLSRPT_STRINGS_MAX  1000   /* of one policy: further ones are dropped */
#define TLSRPT_TEXT_MAX     1000   /* longer texts are cut */

struct tlsrpt_in_failure {
    const char *result; /* "certificate-expired", …: lower case, never "" */
    const char *sending_ip, *mx, *helo, *receiving_ip, *reason, *info; /* "" where it says none */
    uint64_t count;
};

struct tlsrpt_in_policy {
    const char *type;   /* "sts", "tlsa", "no-policy-found", or what stood there */
    const char *domain; /* lower case; "" for none */
    const char **strings, **mx_hosts;
    size_t string_count, mx_count;
    uint64_t successful, failed;
    struct tlsrpt_in_failure *failures;
    size_t failure_count;
};

struct tlsrpt_in {
    const char *organization, *contact, *report_id; /* "" for none */
    int64_t begin_unix, end_unix;                   /* as said; end after begin */
    struct tlsrpt_in_policy *policies;
    size_t policy_count;
    uint64_t successful, failed; /* over all policies */
    uint32_t deviations;         /* bits; tlsrpt_deviation_name */
};

/* ERR_INVALID: *why (static) says what is wrong.  `out` is written on success. */
MUST_CHECK enum err tlsrpt_in_parse(struct bytes json, struct arena *arena, struct tlsrpt_in *out,
                                    const char **why);
/* Name of the deviation of bit n; NULL beyond the last. */
const char *tlsrpt_deviation_name(unsigned n);
/* The same report, as the standard writes it; what was dropped or joined is gone. */
void tlsrpt_in_format(const struct tlsrpt_in *in, struct buf *out);
/* Date and time as reports write them; a day without time is its first second, or its last.  False: none. */
bool tlsrpt_time_parse(struct bytes text, bool end, int64_t *out, bool *odd);
