/*
 * The addresses that mail leaves from: which of them this host has, whose turn it is, and how far each is
 * warmed up. One object for all workers.
 *
 * Turns     smooth by weight over all workers, in messages: each use of an address has a virtual time that
 * its messages move on; the one that is furthest behind is next.  Who could not take its turn has lost it.
 * Warm-up   policy/warmup.h.  What may be sent is reserved on disk first, some at a time, so that a crash can
 * lose a little of a period's number, and never exceed it. Thread    any; a lock for each group, held for a
 * few instructions.
 */
#pragma once

#include <jansson.h>

#include "base/inbox.h"
#include "engine/limits.h"
#include "policy/policy.h"
#include "policy/warmup.h"
#include "queue/store.h"

struct sources;
struct source_use; /* one address as one group uses it; lives as long as the sources */

#define SOURCE_QUANTUM 10 /* messages that a connection is charged with when it is opened */

struct shaping;
struct sources *sources_create(struct shaping *register_); /* what a ladder does by itself is entered there */
void sources_destroy(struct sources *all);
/* Reads what was kept; before the workers run.  `store` must outlive sources_close. */
MUST_CHECK enum err sources_open(struct sources *all, struct store *store, const char *dir);
void sources_close(struct sources *all); /* the workers have ended: writes what was really used */

/* Tries every address of the document's pools: at start, and when a document is applied. */
void sources_check(struct sources *all, const struct policy *p);
/* Once a second.  Once a minute those that this host did not have are tried again; true: one has come back.
 */
bool sources_tick(struct sources *all, uint64_t now_ms);
/* An address could not be bound: is it gone? */
void sources_doubt(struct sources *all, const struct source_use *use);
/* Why it cannot be used, or NULL; static. */
const char *source_use_problem(const struct source_use *use);
size_t sources_unusable(struct sources *all); /* of those in use by the newest document */

struct source_use *source_use_get(struct sources *all, const char *group, const struct source_address *a);

enum source_answer {
    SOURCE_TAKEN,
    SOURCE_NO_FAMILY, /* the pool has none of the receiver's family */
    SOURCE_UNUSABLE,  /* this host has none of those */
    SOURCE_BUSY,      /* a limit: `limit` says which, wait_ms when to ask again (0: not known) */
};
struct source_question {
    struct limits *limits;
    const struct group *group;      /* has a pool */
    struct source_use *const *uses; /* of the pool's addresses, in their order */
    const struct pace_rule *rules;  /* PACE_SOURCE_RULES of them, or NULL: no rates */
    int family;                     /* 4 or 6; 0: either */
    const void *who;                /* asks: has a place in the line for connections_per_source */
    void *home;                     /* … and is to be told there */
    uint64_t now_ms;
    /* out, with SOURCE_TAKEN */
    size_t index;
    struct permit_pool *permit; /* of connections_per_source, held; or NULL */
    /* out, with SOURCE_BUSY */
    const char *limit; /* static */
    uint64_t wait_ms;
};
#define PACE_SOURCE_RULES 3
extern const char *const source_pace_names[PACE_SOURCE_RULES];
struct pace *source_pace(struct limits *l, const char *group, const char *address);

/* A connection: counted until source_release. */
enum source_answer source_choose(struct source_question *q);
/* Could a connection send anything now?  Takes nothing; SOURCE_TAKEN, or SOURCE_BUSY.  Where none is usable a
 * walk must say so: SOURCE_TAKEN. */
enum source_answer source_ask(struct source_question *q);
/* `messages` went over it; `refund`: it never stood, for reasons that are not the receiver's. */
void source_release(struct source_use *use, uint32_t weight, uint32_t messages, bool refund);
/* Another quantum went over this connection.  True: others of its family are so far behind that it should
 * end. */
bool source_moves_on(const struct source_question *q, size_t index);

/* Of `want` recipients so many may be tried now; 0: *wait_ms says when to ask again. `inbox`: the caller's.
 */
uint32_t source_take(struct source_use *use, const struct warmup_ladder *l, uint32_t want,
                     struct inbox *inbox, uint64_t *wait_ms);
void source_give(struct source_use *use, uint32_t n); /* taken, and not tried after all */
/* `o`: what became of one that was taken, or of a host that refused the connection. */
void source_note(struct source_use *use, const struct warmup_ladder *l, const struct outcome *o,
                 uint64_t policy_version);

/* By hand: step counts from 1.  ERR_NOT_FOUND: no address of a pool with a ladder is that (group NULL: any).
 */
enum source_op { SOURCE_HOLD, SOURCE_RESUME, SOURCE_STEP };
MUST_CHECK enum err sources_by_hand(struct sources *all, const struct policy *p, const char *address,
                                    const char *group, enum source_op op, uint32_t step, size_t *changed);
/*
 * How long, in milliseconds, until the ladders let the last of so many recipients of a group go, if nothing
 * is refused and nobody else has part of it (policy/warmup.h).  0: they hold nothing up; UINT64_MAX: no end
 * in sight.
 */
uint64_t sources_forecast_ms(struct sources *all, const struct policy *p, const char *group, uint64_t rcpts);
/* An event of the register was ended by hand: the ladder goes on from the step it would be on, `step`. */
void sources_undo(struct sources *all, const struct policy *p, const char *group, const char *address,
                  uint32_t step);

/* [{pool, address, family, ehlo_name, weight, usable, why?, since_unix?, connections, groups: [{group,
 * turn…}]}] */
json_t *sources_json(struct sources *all, const struct policy *p, const char *group /* or NULL: all */);
void sources_metrics(struct sources *all, const struct policy *p, struct buf *out);
