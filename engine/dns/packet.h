/*
 * DNS packets: builds a query, reads the answer to it.  Pure and bounded: the bytes come from the net.  Any
 * thread.
 *
 * Our own walk checks every length and name of the packet first; only then does ldns read the records
 * we keep.  Records that do not belong to the question or to its CNAME chain are never looked at.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "engine/dns/dns.h"
#include "engine/dns/name.h"

#define DNS_EDNS_BYTES      1232
#define DNS_PACKET_BYTES    65535
#define DNS_HOPS_MAX        16 /* CNAMEs between the question and its answer */
#define DNS_NEGATIVE_BARE_S 5  /* a negative answer without SOA: just long enough to damp a storm */

enum {
    DNS_TYPE_A = 1,
    DNS_TYPE_CNAME = 5,
    DNS_TYPE_MX = 15,
    DNS_TYPE_TXT = 16,
    DNS_TYPE_AAAA = 28,
    DNS_TYPE_TLSA = 52
};

struct dns_question {
    struct dns_name name;
    uint16_t type;
    uint16_t id;
};

/*
 * What is known about one (name, type): of one packet, so a CNAME chain may go on elsewhere.  Immutable
 * and counted, but within one thread only: the counts are not atomic.
 */
struct dns_answer {
    unsigned refs;
    enum dns_status status;
    bool secure;
    bool unfinished;     /* `name` is a CNAME target that must be asked for next */
    unsigned hops;       /* CNAMEs between the question and `name` */
    uint32_t ttl_s;      /* least of all records used; 0: for those who wait now only */
    uint64_t expires_ms; /* set by who caches it */
    size_t bytes;        /* of memory */
    const char *name;    /* end of the chain */
    size_t count;
    const struct bytes *records; /* rdata, names in it uncompressed */
};
struct dns_answer *dns_answer_create(enum dns_status status, const char *name, uint32_t ttl_s);
struct dns_answer *dns_answer_ref(struct dns_answer *a);
void dns_answer_unref(struct dns_answer *a); /* NULL is fine */
DEFINE_CLEANUP(struct dns_answer *, dns_answer_unref)

/* Appends the query; RD and AD are set (RFC 6840 §5.7), OPT only with `edns`. */
MUST_CHECK enum err dns_packet_build(const struct dns_question *q, bool edns, struct buf *out);

enum dns_reading {
    DNS_READING_OTHER,     /* not an answer to this question: wait on */
    DNS_READING_BAD,       /* an answer, but malformed */
    DNS_READING_TRUNCATED, /* ask again over TCP */
    DNS_READING_RCODE,     /* neither NOERROR nor NXDOMAIN */
    DNS_READING_LAME,      /* a referral: this server does not know and does not ask others */
    DNS_READING_ANSWER,
};
/*
 * `answer` is written with DNS_READING_ANSWER only and is the caller's then; its `secure` is the AD bit as
 * sent. `rcode` is written with DNS_READING_RCODE only.
 */
enum dns_reading dns_packet_read(struct bytes packet, const struct dns_question *q,
                                 struct dns_answer **answer, unsigned *rcode);
