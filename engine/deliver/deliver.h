/*
 * Delivery on one worker: destinations (domains) with their ready jobs, sites (MX host sets with one rule
 * set) with their connections, and the alarms of both.
 *
 *     job → destination → group (policy) → MX → site → connection (link) → outcome per recipient → history →
 * store
 *
 * Thread    the worker's.
 * Memory    a destination holds a bounded window of jobs; what does not fit stays on disk (store.h: cold) and
 * is paged in when there is room.
 */
#pragma once

#include <jansson.h>

#include "base/arena.h"
#include "engine/worker.h"

struct deliver *deliver_create(struct worker *w);
/* Gives queued jobs back, closes connections.  Runs of the loop follow, then deliver_destroy. */
void deliver_sources_changed(struct deliver *d); /* source.c */
void deliver_close(struct deliver *d);
void deliver_destroy(struct deliver *d);

void deliver_on_jobs(struct note *note, void *worker); /* struct store_jobs, from the store */
void deliver_on_wake(struct note *note, void *worker); /* struct store_wake, from the store */
void deliver_on_results_safe(struct note *note, void *worker); /* worker->results_safe, from history */
void deliver_flush(struct deliver *d);                 /* before the loop sleeps */
void deliver_on_beat(struct deliver *d);               /* once a second */

/* The worker's snapshot has changed: every destination finds its group and site anew; links end after what
 * they carry. */
void deliver_policy_changed(struct deliver *d);
/*
 * Before an operation of the store on queued mail: jobs of these domains (NULL: all) that are not in flight
 * go back to the store, suspensions of them end when `retry`.
 */
void deliver_call_back(struct deliver *d, char *const *domains, size_t count, bool retry);
/* The same for the jobs of one campaign; others stay. */
void deliver_call_back_campaign(struct deliver *d, const char *campaign);
/* What keeps due mail of a destination from going faster just now. */
struct binding {
    const char *limit;  /* static: "suspended", "messages_per_second", "connections", …; NULL: the receiver alone */
    int64_t until_unix; /* 0: not known, or within seconds */
    const char *text;   /* why, in the arena or static; or NULL */
    bool moves;         /* mail goes all the same */
};
void deliver_binding(struct deliver *d, const char *domain, struct arena *arena, struct binding *out);
/* No new transactions; idle connections close. */
void deliver_drain(struct deliver *d);
size_t deliver_in_flight(const struct deliver *d); /* open transactions */
/* A pool has waiters: connections that have nothing to do give their permit up. */
void deliver_reclaim_all(struct shared *shared); /* any thread; at every worker */

/* Limits were imposed since the last call: what idles above them closes, what waits for mail goes to disk. */
void deliver_look_again(struct deliver *d);
/* Any thread.  What held mail up has ended by hand: every destination looks anew. */
void deliver_wake_all(struct shared *shared);
/* Any thread.  Links passed over what they may carry now: every destination looks anew, and no rest ends. */
void deliver_kick_all(struct shared *shared);

/* The group that a domain is bound to here, or NULL. */
const char *deliver_group_of(struct deliver *d, const char *domain);
/* Counts by group and state, appended to `groups` (object by group name). */
void deliver_status(struct deliver *d, json_t *groups);
/* What is known of a domain here; fn is called (perhaps at once) with a new reference. */
typedef void (*deliver_explain_fn)(void *arg, json_t *facts);
void deliver_explain(struct deliver *d, const char *domain, deliver_explain_fn fn, void *arg);
