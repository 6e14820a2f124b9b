/*
 * A message made fit for receivers without 8BITMIME (RFC 6152 §3, RFC 2045): 8-bit leaves of its MIME tree
 * become quoted-printable or base64, whichever is shorter for text; everything else stays octet by octet.
 * Pure.
 *
 * Left as they are: multipart/signed (RFC 1847 §2.1: to change it breaks its signature), multiparts whose
 * boundary is missing, parts deeper than MIME_DEPTH_MAX, 8-bit header fields, and parts whose encoding is not
 * known.
 */
#pragma once

#include <stdbool.h>

#include "base/bytes.h"

#define MIME_DEPTH_MAX 20

/*
 * `fields` is the header section without its empty line, `body` what follows that; both end their lines in
 * CRLF.  false: the body has no 8-bit octet, or nothing could be converted; nothing is written.  Appends to
 * the outputs.
 */
bool mime_to_7bit(struct bytes fields, struct bytes body, struct buf *fields_out, struct buf *body_out);
