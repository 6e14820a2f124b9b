/*
 * `hayauma doctor`: looks at what mail rests on and tells what to do about what is wrong.
 *
 * Thread    any but the workers: it waits for DNS and connections, up to some twenty seconds in all.
 */
#pragma once

#include <jansson.h>

#include "base/macros.h"
#include "engine/engine.h"

enum doctor_level { DOCTOR_OK, DOCTOR_WARN, DOCTOR_FAIL };
const char *doctor_level_name(enum doctor_level l); /* "ok", "warn", "fail" */

struct doctor {
    struct engine *e; /* borrowed */
    json_t *checks;   /* [{check, level, text, advice}] */
    unsigned counts[3];
};
/* One line; `advice` may be NULL. */
void doctor_say(struct doctor *d, const char *check, enum doctor_level level, const char *advice, const char *format, ...)
    PRINTF_LIKE(5, 6);

/* doctor_host.c: the host that we run on */
void doctor_listeners(struct doctor *d);
void doctor_space(struct doctor *d);
void doctor_clock(struct doctor *d);
void doctor_files(struct doctor *d);
void doctor_sources(struct doctor *d);
void doctor_name(struct doctor *d);
/* "mx.example.com", "192.0.2.1:2525": what happens to a connection to there, port 25 unless it says another. */
void doctor_connect(struct doctor *d, const char *where);
