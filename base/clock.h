/* Time.  `_ms` values are monotonic or durations; `_unix` values are wall time in seconds. */
#pragma once

#include <stddef.h>
#include <stdint.h>

uint64_t clock_now_ms(void);  /* monotonic, since an arbitrary start */
uint64_t clock_now_us(void);  /* the same clock in microseconds */
int64_t clock_unix(void);     /* wall time, seconds since 1970 */
int64_t clock_unix_ms(void);  /* wall time, milliseconds since 1970 */

#define CLOCK_TEXT_BYTES 40
/* "2026-11-21T21:35:12Z"; returns `out`, which holds CLOCK_TEXT_BYTES. */
char *clock_format_utc(int64_t unix_seconds, char *out);
/* RFC 5322 date-time in local time, English names: "Sat, 21 Nov 2026 21:35:12 +0000". */
char *clock_format_mail(int64_t unix_seconds, char *out);
