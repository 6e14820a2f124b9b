/*
 * JSON text (RFC 8259) written straight into a buffer: a hundred thousand rows cost their text and no tree.
 * Commas come by themselves, from what the buffer ends with.  `key` is NULL inside a list.
 *
 * Text is written as UTF-8 whatever came in: what is not UTF-8 becomes U+FFFD.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"

void json_begin(struct buf *out, const char *key, char bracket);         /* '{' or '[' */
void json_end(struct buf *out, char bracket);                            /* '}' or ']' */
void json_put_text(struct buf *out, const char *key, const char *value); /* NULL is null */
void json_put_bytes(struct buf *out, const char *key, struct bytes value);
void json_put_int(struct buf *out, const char *key, int64_t value);
void json_put_count(struct buf *out, const char *key, uint64_t value);
void json_put_bool(struct buf *out, const char *key, bool value);
void json_put_null(struct buf *out, const char *key);
/* Text that is JSON already, a value without line end. */
void json_put_raw(struct buf *out, const char *key, struct bytes json);
