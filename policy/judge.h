/*
 * What a group of another document would have done with an attempt that was made: the shadow rules beside
 * the live ones, and `policy whatif` over history.  Pure: it asks policy/tls_decide.h about what is known of
 * the session, and where a fact was never looked up it says so instead of guessing.
 *
 * Judged    attempts that delivered, and those that failed for want of TLS.  What failed otherwise (no
 *           address, no connection, a mailbox that does not exist) is `same`: TLS decided nothing there.
 * Left out  the register of downgrades (`on_downgrade`), client certificates, and what is not TLS.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "policy/policy.h"

/* As struct attempt holds them. */
struct judge_facts {
    bool delivered;
    bool tls_failed; /* not delivered, and for want of TLS: outcome_failed_for_tls */
    bool offered, fallback;
    bool later_is_due;            /* a second or later attempt, at least 5 minutes after acceptance */
    const char *version, *cipher; /* "TLS1.3", "TLS_AES_256_GCM_SHA384"; NULL: none */
    enum tls_verify verify;
    enum dane_result dane;
    enum sts_result sts;
    enum tls_failure failure;
    enum tls_level effective;
    enum tls_why why;
};

/* Fits the octet of struct attempt.shadow; the numbers are stored: only add. */
enum judge_verdict {
    JUDGE_NONE, /* there was no shadow */
    JUDGE_SAME, /* as it went */
    /* it went, or was held, and would have gone otherwise */
    JUDGE_CLEAR,      /* went encrypted, would have gone in clear */
    JUDGE_TLS,        /* went in clear, would have gone encrypted */
    JUDGE_PASS,       /* was held for want of TLS, would have gone encrypted */
    JUDGE_PASS_CLEAR, /* was held for want of TLS, would have gone, perhaps in clear */
    /* it went, and would have been held back */
    JUDGE_NO_STARTTLS = 16, /* not offered */
    JUDGE_REFUSED,          /* offered, and refused */
    JUDGE_HANDSHAKE,        /* the handshake fails */
    JUDGE_VERSION,          /* TLS older than the group takes */
    JUDGE_WEAK_KX,          /* static RSA, which is offered at `on` only */
    JUDGE_DANE_MISMATCH,
    JUDGE_DANE_BOGUS,
    JUDGE_DANE_ABSENT, /* no usable TLSA records, or an unsigned MX: `dane: only` */
    JUDGE_STS_MX,      /* the MTA-STS policy does not name the MX */
    JUDGE_STS_CERT,    /* the certificate does not hold for it */
    JUDGE_CERT = 32,   /* plus enum tls_verify: the certificate, and why */
    /* it cannot be told */
    JUDGE_UNKNOWN_SESSION = 64, /* STARTTLS was not tried, or with other versions and ciphers */
    JUDGE_UNKNOWN_DANE,         /* TLSA records were not looked up */
    JUDGE_UNKNOWN_STS,          /* nor the MTA-STS policy */
    JUDGE_UNKNOWN_CERT,         /* checked against other names, authorities or fingerprints */
    JUDGE_UNKNOWN_ROUTE,        /* it would have gone to other hosts */
    JUDGE_UNKNOWN_REQUIRETLS,   /* a REQUIRETLS message, other discovery */
};

/*
 * `live` is the group that decided, NULL when it is not known any more; `shadow` is the one that is asked.
 */
enum judge_verdict judge_attempt(const struct judge_facts *f, const struct group *live,
                                 const struct group *shadow);

/*
 * Do both ask the same of a session: hosts, names, authorities, fingerprints, versions and ciphers?  Then
 * what was recorded under the one may be judged as if it were the other.
 */
bool judge_same_checks(const struct group *a, const struct group *b);

static inline bool judge_is_held(uint8_t v) /* would have been deferred, and was not */
{
    return v >= JUDGE_NO_STARTTLS && v < JUDGE_UNKNOWN_SESSION;
}
static inline bool judge_is_unknown(uint8_t v)
{
    return v >= JUDGE_UNKNOWN_SESSION;
}
/* "same", "held-no-starttls", "held-certificate-expired", "unknown-dane", …; static. */
const char *judge_verdict_name(uint8_t v);
/* One line for people: "the certificate has expired"; static. */
const char *judge_verdict_reason(uint8_t v);
/* False: no verdict has that name. */
bool judge_verdict_parse(const char *name, uint8_t *out);
