/*
 * Figures as text: `key=value` lines, a table in sections, or one JSON object in one line, in which a section
 * is an object.  Keys are plain words. Owner     the caller; the struct is zeroed but for `json` and `table`.
 * report_end() prints and empties it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/bytes.h"
#include "tests/bench/stats.h"

struct report {
    bool json, table;       /* neither: key=value */
    bool in_section, begun; /* begun: the object has a member */
    struct buf text;        /* owned */
};

/* What follows belongs to it; the end of the report ends it.  Without json or table it changes nothing. */
void report_section(struct report *r, const char *key);
void report_count(struct report *r, const char *key, uint64_t value);
void report_number(struct report *r, const char *key, double value, unsigned decimals);
void report_text(struct report *r, const char *key, const char *value);
/* KEY_p50, _p95, _p99 and _max, in milliseconds; `h` holds microseconds. */
void report_times(struct report *r, const char *key, const struct hist *h);
void report_end(struct report *r, FILE *to);
