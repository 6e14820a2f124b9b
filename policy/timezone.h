/*
 * Local time without setenv("TZ"), which a process with threads must not do: a time zone as a value, made of
 * a TZif file (RFC 9636), a POSIX rule ("JST-9", "CET-1CEST,M3.5.0,M10.5.0/3") or a fixed offset.  Pure; a
 * value never changes after it was made.  Any thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"

#define TIMEZONE_FILE_MAX   ((size_t)256 << 10)
#define TIMEZONE_NAME_BYTES 64

struct timezone;

/* A file of tzdata.  NULL: it is none, or damaged. */
struct timezone *timezone_parse(struct bytes tzif);
struct timezone *timezone_parse_rule(struct bytes rule); /* NULL: not of that form */
struct timezone *timezone_fixed(int32_t offset_s);
void timezone_destroy(struct timezone *tz);
/* Seconds that local time is ahead of UTC then. */
int32_t timezone_offset_s(const struct timezone *tz, int64_t unix_s);

/* "UTC", "+09:00", "-03:30": seconds ahead of UTC; false: not of that form, or more than a day. */
bool timezone_parse_offset(struct bytes text, int32_t *offset_s);
/* May it be the name of a zone of tzdata, like Asia/Tokyo?  No way out of its folder. */
bool timezone_is_name(struct bytes text);
