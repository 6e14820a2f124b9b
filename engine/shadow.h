/*
 * The shadow rules: a second policy document beside the live one.  Deliveries follow the live rules; each
 * attempt is recorded with what the shadow would have done (policy/judge.h), and `report shadow` adds it up.
 *
 * Thread    a snapshot is immutable and counted: any thread.  What a worker makes of it is the worker's.
 * Stored    queue/keep.h, kind "shadow": key "now" is JSON (version, chunks, at_unix, author, comment), keys
 *           "VERSION-NNN" are the text in pieces.  Without rules "now" stays, so that versions count on.
 */
#pragma once

#include <stdatomic.h>

#include "base/arena.h"
#include "engine/engine.h"

struct shadow {
    atomic_uint refs;
    struct policy *policy; /* counted; its version is the shadow's */
    int64_t at_unix;
    char *author, *comment; /* owned */
};
struct shadow *shadow_ref(struct shadow *s);
void shadow_unref(struct shadow *s); /* NULL is fine */

/* ---- steering; any thread but the workers', and waits ---- */

/* The same checks as for a policy; stored, and in force on all workers when this returns. */
MUST_CHECK enum err engine_shadow_apply(struct engine *e, struct bytes text, const char *author,
                                        const char *comment, uint64_t *version, struct yaml_errors *errors);
/* ERR_NOT_FOUND: there are none. */
MUST_CHECK enum err engine_shadow_clear(struct engine *e, const char *author);
struct shadow *engine_shadow(struct engine *e); /* counted; NULL: there are none */

/* At start, before the workers run.  Rules that cannot be read any more are logged and left out. */
void engine_load_shadow(struct engine *e);

/* ---- on a worker ---- */

struct attempt;
struct dest;
struct link;
struct worker_shadow; /* the snapshot, and which group each destination has in it */
void worker_shadow_set(struct worker_shadow **ws, struct shadow *s); /* takes a reference of its own */
void worker_shadow_destroy(struct worker_shadow *ws);                /* NULL is fine */
/* Fills a->shadow and a->shadow_group; `a` is otherwise complete.  link NULL: nothing was connected. */
void shadow_judge(struct dest *dest, const struct link *link, struct attempt *a);
