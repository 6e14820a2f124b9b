/*
 * Values as people read them: numbers, sizes, times, and text of strangers made harmless.  All append to
 * `out`; pure, but for format_local, which knows the time zone.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

void format_count(struct buf *out, uint64_t n); /* "1,234,567" */
/* "97.4 %"; "–" of nothing.  "100 %" and "0 %" only when they are meant: 9,999 of 10,000 is "99.9 %". */
void format_percent(struct buf *out, uint64_t part, uint64_t whole);
void format_size(struct buf *out, uint64_t octets); /* "912 B", "1.2 KiB", "52.4 MiB" */
void format_span(struct buf *out, int64_t seconds); /* "12 s", "4 m", "2 h 5 m", "3 d 4 h" */
void format_span_ms(struct buf *out, uint64_t ms);  /* "85 ms", "1.25 s", "4 m" */
void format_relative(struct buf *out, int64_t unix_seconds,
                     int64_t now_unix);                         /* "in 4 m", "12 s ago", "now" */
void format_local(struct buf *out, int64_t unix_seconds);       /* "2026-11-21 22:35:12" */
void format_local_clock(struct buf *out, int64_t unix_seconds); /* "22:35:12" */
/* RFC 3339, as the API writes times; a fraction is dropped. */
bool format_parse_time(struct bytes text, int64_t *unix_seconds);

/* The code point at the start of s (not empty), and its octets; 0: that is not UTF-8 (RFC 3629 §4). */
size_t format_take_point(struct bytes s, uint32_t *point);
/* Would a terminal obey it rather than show it?  Controls, and what turns, joins or hides writing. */
bool format_is_obeyed(uint32_t point);

/*
 * Nothing in it moves the cursor, changes colours or turns the direction of writing: controls (C0, DEL, C1)
 * and octets that are not UTF-8 become "\x1b", line ends "\n", and formatting characters (U+200E, U+202E, …)
 * "\u{202e}".
 */
void format_safe(struct buf *out, struct bytes text);
/* Columns on a terminal: wide characters take two, combining ones none.  For text from format_safe. */
size_t format_width(struct bytes text);
/* At most `width` columns; what was cut ends in "…". */
void format_cut(struct buf *out, struct bytes text, size_t width);
