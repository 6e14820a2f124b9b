/*
 * The TXT record at _smtp._tls.DOMAIN: where a domain wants its TLS reports (RFC 8460 §3).  Pure.
 *
 * Records that do not begin with "v=TLSRPTv1;" are none of our business; unless exactly one is left, the
 * domain has no reporting.  The fields may stand in any order; unknown ones are passed over.  URIs that
 * cannot be used (another scheme, no address) are passed over too: the others still count.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/bytes.h"

#define TLSRPT_RUA_MAX   10   /* further URIs are passed over */
#define TLSRPT_URI_BYTES 2000 /* longer ones are passed over */

struct tlsrpt_rua {
    bool https;     /* else mailto */
    const char *to; /* the https URI as it stood, or the decoded mail address */
};

enum tlsrpt_record_kind {
    TLSRPT_RECORD_NONE,    /* no record of TLSRPT */
    TLSRPT_RECORD_FOUND,   /* with one usable URI or more */
    TLSRPT_RECORD_SEVERAL, /* more than one: as none, §3 */
    TLSRPT_RECORD_BROKEN,  /* one, but not of the grammar, or without a usable URI */
};
const char *tlsrpt_record_kind_name(enum tlsrpt_record_kind k); /* "none", "found", "several", "broken" */

struct tlsrpt_record {
    struct tlsrpt_rua rua[TLSRPT_RUA_MAX]; /* strings: the arena */
    size_t count;
};

/* The rdata of all TXT records (RFC 1035 §3.3.14: strings with a length octet in front). */
enum tlsrpt_record_kind tlsrpt_record_parse(const struct bytes *rdata, size_t count, struct arena *arena,
                                            struct tlsrpt_record *out);
/* One record's joined text, which begins with the version: false when it is broken. */
bool tlsrpt_record_parse_text(struct bytes text, struct arena *arena, struct tlsrpt_record *out);
/* One URI as it stands in a record; *out is written on success. */
bool tlsrpt_uri_parse(struct bytes uri, struct arena *arena, struct tlsrpt_rua *out);
/* A mail address of ASCII without quotes and comments, as a report's sender and receiver may have. */
bool tlsrpt_is_address(struct bytes address);
