#pragma once

#include "engine/smtp/dsn.h"

/* ---- dsn_text.c ---- */
/* The first part: text/plain, UTF-8. */
void dsn_put_text(const struct dsn *d, struct buf *out);
const char *dsn_subject(const struct dsn *d);

/* ---- dsn.c ---- */
/*
 * One line's worth of foreign text: controls and what is no UTF-8 become '?', line ends and tabs blanks;
 * without `utf8` so does everything above 127.  At most `most` octets, cut between characters.
 */
void dsn_put_clean(struct buf *out, struct bytes s, bool utf8, size_t most);
/* Breaks the octets from `from` on at blanks, so that lines stay short; each further line begins with
 * `indent`. */
void dsn_fold(struct buf *out, size_t from, const char *indent);
bool dsn_is_ascii(struct bytes s);
