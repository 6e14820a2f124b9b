/*
 * DANE for SMTP: RFC 7672, with RFC 6698 and RFC 7671.  Our own check: GnuTLS's libdane accepts forged chains for usage 2.
 *
 * Thread    records are immutable and counted: any thread.  The parsing and checking functions are pure; a lookup belongs
 *           to the loop of its `struct dns`.
 * Trust     only answers with the AD bit of a trusted resolver (engine/dns/dns.h) count as secure.
 */
#pragma once

#include <gnutls/gnutls.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "engine/dns/dns.h"

#define DANE_RECORDS_MAX 64 /* of one answer; more are left out and make the state DANE_FAILED */

struct tlsa {
    uint8_t usage, selector, matching;
    struct bytes data; /* in the record set's own memory */
};

enum dane_state {
    DANE_ABSENT,   /* securely none, or not signed: no DANE for this host */
    DANE_UNUSABLE, /* signed records, none usable: STARTTLS mandatory, unauthenticated (RFC 7672 §2.2) */
    DANE_USABLE,
    DANE_FAILED, /* SERVFAIL, bogus, time-out, malformed: the host must not be used */
};

struct dane_records {
    atomic_uint refs;
    enum dane_state state;
    char *base;           /* TLSA base domain (RFC 7672 §2.2.3): SNI and first reference name; "" when ABSENT or FAILED */
    struct tlsa *records; /* DANE_USABLE: those that may match, after digest agility (RFC 7671 §9), sorted */
    size_t count;
    char *octets;         /* owned: what the records' data borrows from */
    uint32_t ttl_s;
    uint64_t hash;        /* of state, base and records, whatever their order: for reuse and resumption keys */
    char *text;           /* all records of the answer as RFC 8460's policy-string wants them, one a line: "3 1 1 abcd…" */
    char *why;            /* DANE_FAILED, DANE_ABSENT, DANE_UNUSABLE: what was found, for people */
};
struct dane_records *dane_records_ref(struct dane_records *r);
void dane_records_unref(struct dane_records *r); /* NULL is fine */

const char *dane_state_name(enum dane_state s); /* "absent", "unusable", "usable", "failed" */
/* ABSENT or FAILED, with its reason. */
struct dane_records *dane_records_without(enum dane_state state, uint32_t ttl_s, const char *why);

/* One record's rdata in wire form; data borrows from it.  False: too short to be one. */
bool tlsa_parse(struct bytes rdata, struct tlsa *out);
/* Usages 2 and 3, selectors 0 and 1, matching types 0 to 2 with the right length; full certificates and keys must parse. */
bool tlsa_is_usable(const struct tlsa *t);
/* From raw rdata of a secure answer: USABLE, UNUSABLE, or ABSENT when there are none. */
struct dane_records *dane_records_make(const char *base, const struct bytes *rdata, size_t count, uint32_t ttl_s);

enum dane_check { DANE_CHECK_MATCH, DANE_CHECK_MISMATCH };
struct dane_verdict {
    enum dane_check check;
    size_t record;     /* which matched */
    const char *name;  /* the reference name that the chain was good for (usage 2), one of `names`; NULL for usage 3 */
    char why[120];     /* mismatch: of the last usable record tried, for people */
};
/*
 * Does the chain, as presented and leaf first, satisfy the records?  Usage 3: leaf or its key, whatever its names and dates
 * (RFC 7672 §3.1.1).  Usage 2: a path from the leaf to the anchor, built with that anchor alone, with dates, CA flag, path
 * length, server-auth purpose and one of the reference names; the anchor may be anywhere in the chain but the leaf, stand
 * only in the record (2 0 0, 2 1 0), or be the bare key that signed the last certificate.
 */
void dane_check(const struct dane_records *records, const gnutls_datum_t *chain, unsigned count,
                const char *const *names, size_t name_count, int64_t now_unix, struct dane_verdict *out);

struct dane_query; /* one asker; dies with its callback */
struct dane_question {
    const char *host;      /* MX host name as DNS gave it */
    const char *canonical; /* dns_host.canonical: the end of its alias chain, or the same */
    uint16_t port;
    bool secure;           /* the addresses that will be connected to came securely */
};
/* The callback borrows `records` and takes a reference if it keeps them.  It comes later, from the loop. */
typedef void (*dane_fn)(void *arg, struct dane_records *records);
/*
 * RFC 7672 §2.2.3: the secure end of the alias chain first, then the MX name itself if its own alias record is secure.  Not
 * secure at all: no TLSA question is asked (§2.2.2), the answer is ABSENT.
 */
struct dane_query *dane_lookup(struct dns *d, const struct dane_question *q, dane_fn fn, void *arg);
void dane_cancel(struct dane_query *q); /* NULL is fine */

/* Does the resolver validate?  Asks for "." DNSKEY (or `name` with `type`, for test worlds) and looks for AD. */
enum dnssec_probe { DNSSEC_UNKNOWN, DNSSEC_WORKS, DNSSEC_NOT_VALIDATING, DNSSEC_NOT_TRUSTED, DNSSEC_UNREACHABLE };
const char *dnssec_probe_name(enum dnssec_probe p); /* "unknown", "working", "not-validating", "not-trusted", "unreachable" */
