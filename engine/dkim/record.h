/*
 * The public key in DNS (RFC 6376 §3.6.1): made from a key, and read from what a name server said, to be
 * compared. Pure.
 */
#pragma once

#include "base/bytes.h"
#include "engine/dkim/key.h"

/* "s2026": labels of letters, digits, '-' and '_', parted by dots (RFC 6376 §3.1). */
bool dkim_selector_is_valid(struct bytes selector);
/* "s2026._domainkey.example.com"; appended. */
void dkim_record_name(const char *selector, const char *domain, struct buf *out);
/* "v=DKIM1; k=rsa; p=…"; appended. */
void dkim_record_format(const struct dkim_key *k, struct buf *out);
/*
 * A line of a zone file: the text in strings of at most 255 octets (RFC 1035 §3.3.14), in brackets; appended.
 * Without a line end.
 */
void dkim_record_zone(const char *name, struct bytes text, struct buf *out);

/* One record, as text. */
struct dkim_record {
    bool has_version, version_first;                  /* v= is there, and DKIM1 at the start */
    bool revoked;                                     /* p= is empty */
    bool testing;                                     /* t=y */
    bool has_key;                                     /* p= is there */
    struct bytes version, key_type, hashes, services; /* borrowed from the text; empty: not given */
    struct buf key;                                   /* p=, decoded */
};
void dkim_record_fini(struct dkim_record *r);
/* *why: what is wrong with it, static storage. */
MUST_CHECK enum err dkim_record_parse(struct bytes text, struct dkim_record *out, const char **why);

enum dkim_verdict {
    DKIM_RECORD_GOOD,
    DKIM_RECORD_TESTING, /* good, but t=y asks receivers to treat the mail as unsigned */
    DKIM_RECORD_MISSING,
    DKIM_RECORD_SEVERAL, /* RFC 6376 §3.6.2.2: the result is undefined */
    DKIM_RECORD_BROKEN,
    DKIM_RECORD_REVOKED,
    DKIM_RECORD_OTHER_TYPE,
    DKIM_RECORD_OTHER_KEY,
    DKIM_RECORD_RESTRICTED, /* h= or s= excludes what we do */
};
const char *dkim_verdict_name(enum dkim_verdict v);
/*
 * What stands at the name (each TXT record joined) against the key; a sentence that says what to do is
 * appended to `explain`, unless all is good.
 */
enum dkim_verdict dkim_record_compare(const struct dkim_key *k, const struct bytes *texts, size_t count,
                                      struct buf *explain);
