/*
 * One reply of an SMTP server (RFC 5321 §4.2), read incrementally.  Pure: no socket, clock or log.
 *
 *     250-mx.example greets you CRLF        code, "-": more lines follow
 *     250 SIZE 1000000 CRLF                 code, " " or nothing: the last one
 *
 * Bounded: a line has at most SMTP_REPLY_LINE_MAX octets, of which SMTP_REPLY_LINE_KEPT are kept; a reply at
 * most SMTP_REPLY_LINES_MAX lines, of which SMTP_REPLY_TEXT_MAX octets are kept in all.
 *
 * What is refused: anything but three digits 2–5, 0–9, 0–9 at the start of a line (§4.2: second digits above
 * 5 are not standard, but 571 is out there), a code that changes within one reply (§4.2.1), a NUL. What is
 * borne: a missing text and a missing blank before it (§4.2.1), octets above 127, a lone CR in the text, and
 * LF without CR as the end of a line.  §2.3.8 forbids the last to senders; we accept it from servers because
 * nothing can be smuggled by it (no command of ours holds an LF that a server could echo), and refusing it
 * would only keep mail from its reader.
 */
#pragma once

#include "base/bytes.h"

#define SMTP_REPLY_LINE_MAX  2048 /* with code and line end */
#define SMTP_REPLY_LINE_KEPT 1024 /* of the text of one line */
#define SMTP_REPLY_LINES_MAX 1000
#define SMTP_REPLY_TEXT_MAX  8192

enum smtp_parse { SMTP_PARSE_MORE, SMTP_PARSE_DONE, SMTP_PARSE_BAD };

struct smtp_reply {
    uint16_t code;   /* of the whole reply; 0 before the first line's code is known */
    uint32_t lines;  /* complete ones */
    struct buf text; /* owned: without codes, lines separated by '\n' */
    const char *why; /* SMTP_PARSE_BAD: what was wrong, static */
    /* The parser's own: */
    uint16_t line_code;
    uint32_t line_bytes, line_kept;
    uint8_t at;
    bool last_line;
};

/* A zeroed struct is ready for the first reply. */
void smtp_reply_reset(struct smtp_reply *r); /* ready for the next reply; keeps its memory */
void smtp_reply_fini(struct smtp_reply *r);

/*
 * Eats octets from the front of `in` up to the end of one reply.  DONE: the reply is in `r`, `in` holds what
 * comes behind it.  MORE: all of `in` was eaten.  BAD: r->why; nothing more can be read from this peer.
 */
MUST_CHECK enum smtp_parse smtp_reply_parse(struct smtp_reply *r, struct bytes *in);
/* The next line of a reply's text: starts with *at = 0; false after the last. */
bool smtp_reply_line(const struct smtp_reply *r, size_t *at, struct bytes *line);
