/* The two encodings of RFC 2045 that make 7-bit lines of at most 76 characters.  Pure; they append. */
#pragma once

#include "base/bytes.h"

/* §6.7, for text in CRLF lines: its line ends stay line ends. */
void mime_put_quoted_printable(struct bytes text, struct buf *out);
size_t
mime_quoted_count(struct bytes text); /* octets that it would write as =XX, those at ends of lines aside */
/* §6.8.  No line end stands behind the last line. */
void mime_put_base64(struct bytes octets, struct buf *out);
