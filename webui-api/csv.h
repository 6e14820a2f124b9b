/*
 * CSV (RFC 4180): CRLF after each record, quotes where needed.  A text that a spreadsheet would take for a
 * formula (it begins with = + - @, a tab or a carriage return) gets an apostrophe in front.
 */
#pragma once

#include <stdint.h>

#include "base/bytes.h"

/* A record is fields and then csv_end; the comma comes by itself. */
void csv_text(struct buf *out, const char *value); /* NULL is empty */
void csv_count(struct buf *out, uint64_t value);
void csv_end(struct buf *out);
