/* gzip (RFC 1952) of small things in memory, by zlib.  Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/bytes.h"
#include "base/err.h"

/* Appends to `out`.  The same octets give the same result: no time and no name are in it. */
void gzip_pack(struct bytes in, struct buf *out);
/*
 * Appends to `out` at most `max` octets.  Several members one after the other are one content (§2.2); what
 * follows the last and is no member is passed over.  ERR_FULL: more than `max`, so that a small file cannot
 * fill the memory.  ERR_INVALID: not gzip, damaged or cut off.  On failure `out` is as it was.
 */
MUST_CHECK enum err gzip_unpack(struct bytes in, size_t max, struct buf *out);
bool gzip_is(struct bytes in); /* begins like it */
