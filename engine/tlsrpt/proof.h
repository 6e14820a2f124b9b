/*
 * Who says so: the DKIM signature that a report's mail must have, by the domain that it is from (RFC 8460
 * §3).
 *
 *     proof_begin (pool) ─► TXT of each proof->asked[i].name (loop) ─► proof_take_answer ─► proof_end (pool)
 *
 * Pure, but for what DNS said.  The same mail is handed to begin and end.
 */
#pragma once

#include "engine/dkim/verify.h"
#include "engine/dns/dns.h"

#define PROOF_TEXTS_MAX 2 /* records of one name; there should be one */

enum proof_verdict {
    PROOF_NOT_ASKED, /* it did not come as mail */
    PROOF_GOOD,
    PROOF_NONE,    /* there is no signature by its domain */
    PROOF_BAD,     /* there is one, and it does not hold */
    PROOF_UNKNOWN, /* DNS did not answer */
};
const char *proof_verdict_name(enum proof_verdict v); /* "", "good", "none", "bad", "unknown" */

struct proof {
    struct arena arena;
    struct proof_asked {
        struct dkim_signature signature;
        const char *name; /* whose TXT records are wanted */
        struct bytes texts[PROOF_TEXTS_MAX];
        size_t text_count;
        bool unanswered;
    } asked[DKIM_CHECKED_MAX];
    size_t count;
    /* after proof_end: */
    enum proof_verdict verdict;
    const char *domain; /* that signed; "" */
    const char *why;    /* static; "" when it is good */
};
void proof_begin(struct proof *p, struct bytes mail); /* p: zeroed */
void proof_take_answer(struct proof *p, size_t at, const struct dns_rrset *set);
void proof_end(struct proof *p, struct bytes mail, int64_t now_unix);
void proof_fini(struct proof *p);
