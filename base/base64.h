/*
 * Base64 (RFC 4648 §4), strict: padding is required, no line breaks or other octets, and the bits that padding leaves
 * over must be zero, so that a value has exactly one text.  Pure.
 */
#pragma once

#include <stdbool.h>

#include "base/bytes.h"

/* Appends to `out`. */
void base64_encode(struct bytes in, struct buf *out);
/* Appends to `out`; nothing when it returns false.  The empty text is the empty value. */
bool base64_decode(struct bytes in, struct buf *out);
