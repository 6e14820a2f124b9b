/*
 * Signatures of mail that came to us, checked (RFC 6376 §6, RFC 8301, RFC 8463).  Pure: what DNS holds is
 * handed in, so is the time.  By GnuTLS, whatever signs here.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "engine/dkim/key.h"

#define DKIM_CHECKED_MAX                                                                                     \
    4 /* signatures of one message that are looked at: the first, which are the newest                       \
       */
#define DKIM_FIELD_MAX      65536 /* octets of such a field */
#define DKIM_FIELDS_MAX     2000  /* header fields of a message whose signature is checked */
#define DKIM_VERIFY_RSA_MIN 1024  /* bits: RFC 8301 §3.2 */
#define DKIM_VERIFY_RSA_MAX 8192

/* One DKIM-Signature; everything lies in the arena. */
struct dkim_signature {
    struct bytes field; /* a copy of the whole, as it came */
    size_t b_at, b_len; /* the value of b= in it, with the white space around */
    enum dkim_algorithm algorithm;
    bool simple_header, simple_body;
    const char *domain, *selector;     /* d=, normalised; s= */
    struct bytes names;                /* h=, without white space */
    struct bytes body_hash, signature; /* bh=, b=: decoded */
    int64_t expires_unix;              /* x=; 0: never */
};

/* The fields, borrowed from the message; returns how many. */
size_t dkim_signatures_find(struct bytes message, struct bytes fields[DKIM_CHECKED_MAX]);
/* ERR_INVALID: *why (static) says what is wrong with it, or what it asks for that is not done here: l=, sha1.
 */
MUST_CHECK enum err dkim_signature_parse(struct bytes field, struct arena *arena, struct dkim_signature *out,
                                         const char **why);
/*
 * Does it hold?  `texts`: the TXT records at SELECTOR._domainkey.DOMAIN, each joined.  `service` besides
 * email, as in s= of the record.  NULL: yes; else what is wrong (static).
 */
const char *dkim_signature_check(const struct dkim_signature *s, struct bytes message,
                                 const struct bytes *texts, size_t count, struct bytes service,
                                 int64_t now_unix);
