/*
 * The decision table of transport security, as one pure function.  policy/README.md shows the table in
 * words; every cell is a row of tests/unit/policy/test_tls_decide.c.  No I/O; any thread.
 *
 * The caller asks once for each event, with what it knows then.  Before connecting: TLSA_BOGUS,
 * TLSA_ABSENT, STS_MX_MISMATCH.  After EHLO and STARTTLS: NOT_OFFERED, REFUSED, REFUSED_UNCLEAN, CLOSING,
 * HANDSHAKE_FAILED.  After the handshake exactly one of CERT_GOOD and CERT_BAD, or, where usable TLSA
 * records exist, of TLSA_MATCH and TLSA_MISMATCH: at the DANE levels PKIX is ignored, so CERT_* is not the
 * question there and fails closed.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* What the group asks for (operator's word), and what a discovered policy may raise it to. */
enum tls_level {
    TLS_OFF,         /* never STARTTLS; discovery is off */
    TLS_ON,          /* STARTTLS when offered */
    TLS_STS_TESTING, /* as the group's level, failures counted (effective only) */
    TLS_REQUIRE,     /* encrypted or not at all; certificate recorded, not judged */
    TLS_VERIFY,      /* encrypted, and the certificate's chain and name hold */
    TLS_STS_ENFORCE, /* MTA-STS enforce found (effective only) */
    TLS_DANE,        /* usable TLSA records found (effective only) */
    TLS_DANE_ONLY,   /* DANE or not at all */
    TLS_REQUIRETLS,  /* the message carries REQUIRETLS (effective only) */
};

enum tls_version { TLS_VERSION_1_0, TLS_VERSION_1_1, TLS_VERSION_1_2, TLS_VERSION_1_3 };

/* What a failed TLS at level `on` permits afterwards. */
enum clear_fallback { CLEAR_NEVER, CLEAR_LATER, CLEAR_NOW };

/* Why the effective level is what it is. */
enum tls_why { TLS_WHY_RULE, TLS_WHY_DANE, TLS_WHY_STS, TLS_WHY_REQUIRETLS, TLS_WHY_TLS_REQUIRED_NO };

/* What happened on the way to a usable session with one host. */
enum tls_event {
    TLS_EVENT_NOT_OFFERED,     /* EHLO without STARTTLS, or HELO only */
    TLS_EVENT_REFUSED,         /* one clean 4yz/5yz reply to STARTTLS (never 421) */
    TLS_EVENT_REFUSED_UNCLEAN, /* another 2yz or 3yz, extra octets after the 220, lost connection: as a failed
                                  handshake */
    TLS_EVENT_HANDSHAKE_FAILED, /* failed, timed out, closed, version too old, lost before the first MAIL
                                   reply */
    TLS_EVENT_CERT_BAD,         /* handshake done; chain, name or dates do not hold */
    TLS_EVENT_CERT_GOOD,        /* handshake done; PKIX holds */
    TLS_EVENT_TLSA_MATCH,
    TLS_EVENT_TLSA_MISMATCH,
    TLS_EVENT_TLSA_BOGUS,      /* SERVFAIL, timeout, bogus: known before connecting */
    TLS_EVENT_TLSA_ABSENT,     /* none, insecure, or all unusable: matters for dane-only and require */
    TLS_EVENT_STS_MX_MISMATCH, /* MX not named by the MTA-STS policy: known before connecting */
    TLS_EVENT_CLOSING,         /* 421 to STARTTLS: the host is going down, which says nothing about TLS */
};

enum tls_action {
    TLS_DO_CLEAR,           /* go on in clear on this connection */
    TLS_DO_TLS,             /* go on: the session as established is good enough */
    TLS_DO_RECONNECT_CLEAR, /* close; connect to the same host again without TLS */
    TLS_DO_NEXT,      /* this host failed: next address or MX; when all have failed, defer with `enhanced` */
    TLS_DO_SKIP_HOST, /* as next, and the host was not (must not be) connected to */
    TLS_DO_BOUNCE,    /* REQUIRETLS only: as next, but when every host ended so, bounce with `enhanced` */
    TLS_DO_CONTINUE,  /* nothing against this host so far: connect, and ask again at the next event */
};

struct tls_facts {
    enum tls_level level;       /* effective */
    enum tls_level group_level; /* decides at TLS_STS_TESTING */
    enum clear_fallback fallback;
    bool later_is_due;         /* second or later attempt and at least 5 minutes in the queue */
    bool has_credentials;      /* for this host: clear text is then forbidden */
    bool rcpt_accepted_in_tls; /* failure came after the TLS EHLO with a recipient accepted: never clear */
    bool requiretls;           /* message flag: forbids clear text whatever the level */
    bool tlsa_all_unusable;    /* secure TLSA records exist, none usable: level acts as require at least */
    bool mx_secure; /* MX came with DNSSEC, or none was looked up (smart host): `verified-dane`, not `half` */
    bool sts_testing;  /* MTA-STS in mode testing was found: an MX that it does not name is counted, at every level */
    bool implicit_tls; /* TLS from the first octet (RFC 8314 §3.3): there is no clear text to go back to */
};

struct tls_decision {
    enum tls_action action;
    const char *enhanced; /* "4.7.4", "4.7.5", "5.7.30" or "" ; static */
    bool count_failure;   /* a TLSRPT failure even though mail may flow */
};

/* The stricter of two levels; discovery never lowers. */
enum tls_level tls_level_stricter(enum tls_level a, enum tls_level b);
struct tls_decision tls_decide(const struct tls_facts *facts, enum tls_event event);
/*
 * May any octet of mail go in clear under these facts, whatever happens later?  Exact: when false, no
 * event makes tls_decide say CLEAR or RECONNECT_CLEAR; when true, some event does.
 */
bool tls_clear_possible(const struct tls_facts *facts);

const char *tls_level_name(enum tls_level level); /* "off", "on", "require", … */
const char *tls_why_name(enum tls_why why);
const char *tls_event_name(enum tls_event event);
const char *tls_action_name(enum tls_action action);

/* How a session ended up, recorded with every attempt even where it does not decide. */
enum tls_verify {
    TLS_VERIFY_NONE, /* no TLS */
    TLS_VERIFY_PKIX, /* chain and name hold */
    TLS_VERIFY_SELF_SIGNED,
    TLS_VERIFY_UNKNOWN_CA,
    TLS_VERIFY_EXPIRED,
    TLS_VERIFY_NOT_YET_VALID,
    TLS_VERIFY_WRONG_NAME,
    TLS_VERIFY_REVOKED,
    TLS_VERIFY_WEAK,    /* key or signature algorithm below what `verify` accepts */
    TLS_VERIFY_BAD,     /* anything else wrong with the chain */
    TLS_VERIFY_NO_CERT, /* anonymous */
    TLS_VERIFY_DANE,    /* a TLSA record matched, and the MX was found securely */
    TLS_VERIFY_DANE_HALF, /* a TLSA record matched; who the MX is, was not signed */
    TLS_VERIFY_PIN,       /* the group's pinned fingerprint matched */
    TLS_VERIFY_PIN_MISMATCH,
};
const char *tls_verify_name(enum tls_verify v); /* "none", "verified-pkix", "self-signed", … */
/* Is the peer who it should be?  PKIX, DANE, half DANE and pins. */
bool tls_verify_is_good(enum tls_verify v);

/* What DNS said of TLSA records for the host of a session (RFC 7672). */
enum dane_result {
    DANE_RESULT_OFF,      /* not asked: the rule says so, or nothing may be discovered */
    DANE_RESULT_NONE,     /* no records, or not signed: no DANE for this host */
    DANE_RESULT_UNUSABLE, /* signed records, none usable: encryption is mandatory, §2.2 */
    DANE_RESULT_FOUND,    /* usable records; the session did not come to the check */
    DANE_RESULT_MATCH,
    DANE_RESULT_MISMATCH,
    DANE_RESULT_BOGUS, /* the lookup failed: the host was not used */
};
const char *dane_result_name(enum dane_result r); /* "off", "none", "unusable", "found", "match", … */

/* What MTA-STS said of the destination and the host of a session (RFC 8461). */
enum sts_result {
    STS_RESULT_OFF,         /* not asked */
    STS_RESULT_NONE,        /* no policy */
    STS_RESULT_FAILED,      /* looking for one failed and none was cached: as none, and counted */
    STS_RESULT_MODE_NONE,   /* a policy that asks for nothing */
    STS_RESULT_FOUND,       /* enforce or testing; the session did not come to the check */
    STS_RESULT_OK,          /* MX named by the policy, certificate holds */
    STS_RESULT_MX_MISMATCH, /* the MX is not named by the policy */
    STS_RESULT_CERT_BAD,    /* no TLS, or a certificate that does not hold */
};
const char *sts_result_name(enum sts_result r); /* "off", "none", "failed", "mode-none", "found", "ok", … */

/* What a session failed at: the result types of RFC 8460 §4.3, counted also where mail flowed nevertheless. */
enum tls_failure {
    TLS_FAILURE_NONE,
    TLS_FAILURE_STARTTLS_NOT_SUPPORTED,
    TLS_FAILURE_CERTIFICATE_HOST_MISMATCH,
    TLS_FAILURE_CERTIFICATE_EXPIRED,
    TLS_FAILURE_CERTIFICATE_NOT_TRUSTED,
    TLS_FAILURE_VALIDATION, /* anything else, above all a broken handshake */
    TLS_FAILURE_TLSA_INVALID,
    TLS_FAILURE_DNSSEC_INVALID,
    TLS_FAILURE_DANE_REQUIRED,
    TLS_FAILURE_STS_POLICY_FETCH_ERROR,
    TLS_FAILURE_STS_POLICY_INVALID,
    TLS_FAILURE_STS_WEBPKI_INVALID,
};
const char *tls_failure_name(enum tls_failure f); /* "", "starttls-not-supported", … as RFC 8460 spells them */
/* Of a certificate: NONE when it holds. */
enum tls_failure tls_failure_of_verify(enum tls_verify v);

/* The policy under which a session is counted, RFC 8460 §4.2. */
enum tlsrpt_policy { TLSRPT_NO_POLICY, TLSRPT_TLSA, TLSRPT_STS };
const char *tlsrpt_policy_name(enum tlsrpt_policy p); /* "no-policy-found", "tlsa", "sts" */
