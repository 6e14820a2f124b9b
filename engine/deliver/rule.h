/*
 * Under which rule a delivery is: the group's, or what was discovered of the destination, whichever is
 * stricter.  Pure: delivery, `explain` and the probe ask the same functions.  Any thread.
 */
#pragma once

#include "engine/dane/dane.h"
#include "policy/outcome.h"
#include "policy/policy.h"
#include "policy/sts_policy.h"

/*
 * What a message asks of TLS.  Mail of two wishes never shares a connection.  NONE follows its group;
 * REQUIRED wants a proved receiver or none (REQUIRETLS, RFC 8689 §2); OPTIONAL said `TLS-Required: No` (RFC
 * 8689 §3): nothing that was discovered may stop it.
 */
enum tls_wish { TLS_WISH_NONE, TLS_WISH_REQUIRED, TLS_WISH_OPTIONAL };

/* What was learned of a destination beside its hosts, and decides with whom it may share connections. */
struct security {
    bool mx_secure;               /* MX came with DNSSEC, or nothing was asked of DNS (smart host) */
    bool sts_asked;               /* MTA-STS was looked for */
    struct sts_policy *sts;       /* counted: testing or enforce; or NULL */
    enum sts_result sts_result;   /* FOUND with `sts`; else why there is none */
    enum tls_failure sts_failure; /* of looking for it */
    char *nexthop; /* owned copy where the certificate must have the recipient domain's name; else NULL */
};
void security_fini(struct security *s);
void security_put_key(const struct security *s, struct buf *key);

struct rule_input {
    const struct group *group;
    enum tls_wish wish;
    const struct security *security;
    const struct dane_records *dane; /* that count at the address, or NULL */
    bool implicit_tls, later_is_due;
};
struct rule {
    struct tls_facts facts;
    enum tls_level effective; /* as recorded: with what unusable TLSA records and REQUIRETLS make of it */
    enum tls_why why;
    enum tlsrpt_policy policy;
};
void rule_find(const struct rule_input *in, struct rule *out);
/* MTA-STS of the destination, if mail of this wish heeds it under this group. */
struct sts_policy *rule_sts(const struct group *group, enum tls_wish wish, const struct security *security);
bool rule_wants_dane(const struct group *group, enum tls_wish wish, const char *host);
/*
 * What must be asked of the table before connecting: the event, with why in words; false when there is
 * nothing more.  Begin with *step = 0.
 */
bool rule_before_connect(const struct rule_input *in, const struct rule *rule, const char *host,
                         const struct dane_records *looked_up, bool ip_secure, unsigned *step,
                         enum tls_event *event, struct outcome *o);
