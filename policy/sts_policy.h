/*
 * MTA-STS, RFC 8461: the TXT record, the policy file and whether it names an MX host.  Pure; a policy is immutable and
 * counted: any thread.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"

#define STS_ID_MAX         32
#define STS_MAX_AGE_MAX    31557600 /* seconds, §3.2 */
#define STS_POLICY_BYTES   65536
#define STS_PATTERNS_MAX   256

enum sts_policy_mode { STS_MODE_NONE, STS_MODE_TESTING, STS_MODE_ENFORCE };
const char *sts_policy_mode_name(enum sts_policy_mode m); /* "none", "testing", "enforce" */

struct sts_policy {
    atomic_uint refs;
    char *domain;       /* the policy domain, normalised */
    char id[STS_ID_MAX + 1]; /* of the TXT record under which it was fetched */
    enum sts_policy_mode mode;
    uint32_t max_age_s;
    int64_t fetched_unix; /* or last confirmed by an equal id */
    char **mx;          /* patterns, lower case, A-labels */
    size_t mx_count;
    char *text;         /* its lines "key: value", one a line, without the mx lines' order changed: for policy-string */
};
struct sts_policy *sts_policy_ref(struct sts_policy *p);
void sts_policy_unref(struct sts_policy *p); /* NULL is fine */

/* 1 to 32 letters and digits, RFC 8461 §3.1. */
bool sts_is_id(struct bytes value);
/* Joined TXT strings of `_mta-sts.DOMAIN` (§3.1).  False: not a usable record; others that do not begin with v=STSv1; are
 * none of our business: `is_ours` false. */
bool sts_txt_parse(struct bytes text, char id[STS_ID_MAX + 1], bool *is_ours);
/* The file (§3.2).  ERR_INVALID: *why (static) says what is wrong.  fetched_unix is the caller's to set. */
MUST_CHECK enum err sts_policy_parse(const char *domain, const char *id, struct bytes text, struct sts_policy **out,
                                     const char **why);
/* §4.1: `*.example.com` stands for exactly one left label.  `host` normalised. */
bool sts_policy_names(const struct sts_policy *p, struct bytes host);
static inline bool sts_policy_is_fresh(const struct sts_policy *p, int64_t now_unix)
{
    return now_unix < p->fetched_unix + (int64_t)p->max_age_s;
}
/* Everything that decides about a host, for reuse keys: mode and patterns. */
void sts_policy_put_key(const struct sts_policy *p, struct buf *out);
