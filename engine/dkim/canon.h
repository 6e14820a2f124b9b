/*
 * The "relaxed" canonical forms of RFC 6376 §3.4.2 and §3.4.4: what is hashed in place of a header field and
 * of a body.  Pure; the body comes run by run.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"

/* A whole field, folded or not, with or without its CRLF; appends "name:value" and, if `crlf`, a CRLF. */
void dkim_canon_field(struct bytes field, bool crlf, struct buf *out);
/* The field's name, as written, without blanks before the colon; empty when there is no colon. */
struct bytes dkim_field_name(struct bytes field);
/*
 * Cuts the first field, with its continuation lines and its CRLF, off *rest.  false: *rest is empty, or
 * begins with an empty line or a blank.
 */
bool dkim_field_next(struct bytes *rest, struct bytes *field);

/* Length of the header section of a whole message, without its empty line. */
size_t dkim_header_length(struct bytes message);

typedef void (*dkim_canon_fn)(void *arg, struct bytes run); /* borrowed until return */

struct dkim_canon_body { /* zeroed is the start */
    uint64_t lines;      /* line ends that count only if something follows */
    bool blank;          /* white space, likewise */
    bool cr;             /* a CR whose LF may come */
    bool any;            /* the canonical form is not empty */
};
void dkim_canon_body_put(struct dkim_canon_body *c, struct bytes in, dkim_canon_fn fn, void *arg);
void dkim_canon_body_end(struct dkim_canon_body *c, dkim_canon_fn fn, void *arg);
