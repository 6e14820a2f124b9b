/* xtext (RFC 3461 §4): how DSN and AUTH parameters carry octets that a parameter may not hold.  Pure. */
#pragma once

#include <stdbool.h>

#include "base/bytes.h"

/*
 * Decodes into `out` (NUL-terminated, at most cap - 1 octets).  False: not xtext, too long, or it decodes to a control
 * character: CR, LF and NUL have no business in an envelope.  Octets above 127 pass only as raw UTF-8 (RFC 6533) when
 * utf8 is true.
 */
bool xtext_decode(struct bytes in, bool utf8, char *out, size_t cap);
/* Appends. */
void xtext_encode(struct bytes in, struct buf *out);
