/*
 * What we changed by ourselves about a receiver, for all workers together: nothing is sent, fewer
 * connections, a slower rate, less said ahead.  By a rule about replies (policy/reply_rule.h), or because it
 * did not keep up
 * (`adaptive` of its group).  Each change is an event with a number, its reply, its beginning and its end.
 *
 * One `struct shaped` for each set of mail hosts and group; found by name, counted.  What is in force stays
 * when nobody uses it any more, and over a restart (kind SHAPING_KIND of queue/keep.h): written when it
 * changes.
 *
 * What a warm-up or the guard of campaigns does by itself is an event here too (shaping_subject_put).
 *
 * Thread    any; without anything in force a look costs one load, and a connection one lock of its own.
 * Time      milliseconds of the monotonic clock, from the caller.
 * Bounds    10,000 sets of hosts without mail, 1,000 hosts, 10,000 warm-ups and campaigns: above that the
 * oldest is forgotten.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "policy/policy.h"

#define SHAPING_KIND "shaping"

struct shaping;
struct shaped;
struct store;

struct shaping *shaping_create(void);
void shaping_destroy(struct shaping *all); /* every shaped was put back before */
/* At start, before there are workers: what was kept in `dir` is in force again.  `store` (NULL: none) keeps
 * it. */
MUST_CHECK enum err shaping_open(struct shaping *all, struct store *store, const char *dir);
/* Once a second: says and keeps what ended or came back. */
void shaping_tick(struct shaping *all, uint64_t now_ms);
bool shaping_has_news(struct shaping *all); /* was anything imposed since the last call? */

/* `hosts`: "mx1.example:25,mx2.example:25".  Made when there is none. */
struct shaped *shaped_get(struct shaping *all, const char *group, const char *hosts);
void shaped_put(struct shaped *s); /* NULL is fine */

/* ---- what is imposed ---- */

/* What is sent at this time, where a slower rate has to begin. */
struct shaped_load {
    double allowed;  /* messages a second by the policy; 0: no limit */
    double measured; /* 0: not known */
    uint64_t policy_version;
};
/* A rule's actions for the site.  True: that began, or changed, something. */
bool shaped_apply(struct shaped *s, const struct reply_rule *rule, const struct shaped_load *load,
                  const struct outcome *why, uint64_t now_ms);
/*
 * One more reply asked us to slow down, out of `seen` since the last call (this one too).  True: there are
 * too many of them, and a step back was made.
 */
bool shaped_slow_reply(struct shaped *s, const struct group_adaptive *a, uint32_t seen,
                       const struct shaped_load *load, const struct outcome *why, uint64_t now_ms);
/*
 * A connection came to nothing while others stand, here or at another worker: no more than those.  When a
 * `storm_share` of those that were opened within `storm_window` came to nothing, two at least, that is a
 * storm: a step back as well.
 */
bool shaped_refused(struct shaped *s, const struct group_adaptive *a, const struct shaped_load *load,
                    const struct outcome *why, uint64_t now_ms);
/*
 * No host of the site took mail, for the `failures`th time in a row: a worker leaves it alone for a while.
 * That is the worker's own affair; here it is an event like the others, but not over a restart, which tries
 * anew.
 */
void shaped_rest(struct shaped *s, uint64_t until_ms, uint32_t failures, const struct shaped_load *load,
                 const struct outcome *why, uint64_t now_ms);
void shaped_reached(struct shaped *s);
bool shaped_is_resting(struct shaped *s); /* not ended by hand */
/* All of it, or what no rule imposed, ends now; `why` for the log.  Number of events that ended. */
size_t shaped_clear(struct shaped *s, bool adaptive_only, const char *why);

/* ---- what holds ---- */

uint64_t shaped_suspended_until_ms(struct shaped *s); /* may lie in the past */
/*
 * One connection more?  `who` marks the asker: what is refused to it is kept free for it for a second, so
 * that one worker's work does not keep the others' out.  What was taken is given back at its end.
 */
bool shaped_take_connection(struct shaped *s, const void *who, uint64_t now_ms);
void shaped_give_connection(struct shaped *s);
bool shaped_is_capped(struct shaped *s, uint64_t now_ms);                  /* connections are limited */
bool shaped_has_too_many(struct shaped *s, uint64_t now_ms);               /* more than are allowed now */
bool shaped_is_wanted(struct shaped *s, const void *but, uint64_t now_ms); /* somebody else waits for one */
/* Shall `but`, who has work for ever, end one of its connections for somebody who waits?  One asker has one.
 */
bool shaped_yield(struct shaped *s, const void *but, uint64_t now_ms);
/* Sessions that stand, over all workers: the hosts take mail, if not more connections. */
void shaped_session_stands(struct shaped *s);
void shaped_session_ended(struct shaped *s);
bool shaped_has_sessions(const struct shaped *s);
/* 0: send one message; else how many milliseconds to wait first. */
uint32_t shaped_take_message(struct shaped *s, uint64_t now_ms);
uint32_t shaped_message_wait(struct shaped *s, uint64_t now_ms); /* the same, and takes nothing */
bool shaped_is_slow(struct shaped *s, uint64_t now_ms);

/* ---- hosts that cannot do what they offer; by address, "192.0.2.1:25"; without an end ---- */
enum shaped_host_what { HOST_OUT_OF_STEP, HOST_NO_CHUNKING, SHAPED_HOST_WHATS };
bool shaping_host_is(struct shaping *all, const char *remote, enum shaped_host_what what);
/* False: that was known. */
bool shaping_host_put(struct shaping *all, const char *remote, const char *mx, const char *group,
                      enum shaped_host_what what, const struct outcome *why);

/* ---- what is no receiver, and steps back or stops by itself: its owner does it, the register has the event
 * ----
 */
enum shaping_subject {
    SUBJECT_WARMUP,   /* the ladder of a source address for a group (engine/sources.h) */
    SUBJECT_CAMPAIGN, /* paused by the guard (engine/campaign_guard.h) */
    SHAPING_SUBJECTS
};
struct subject_change {
    const char *group, *name; /* "": all groups; a source address, the id of a campaign */
    double value, full; /* the step it is on, and the one it would be on; from 1; 0: there are no steps */
    uint64_t left_ms;   /* nothing at all goes so long; 0: it ends when its owner says so */
    const struct outcome *why; /* the last reply that counted; NULL: as it was */
    const char *detail;        /* what was counted */
    uint64_t policy_version;   /* 0: of no policy */
};
/* It begins; or it is another step of what began. */
void shaping_subject_put(struct shaping *all, enum shaping_subject kind, const struct subject_change *c,
                         uint64_t now_ms);
void shaping_subject_end(struct shaping *all, enum shaping_subject kind, const char *group, const char *name,
                         const char *why); /* there need be none */
bool shaping_subject_is(struct shaping *all, enum shaping_subject kind, const char *group, const char *name,
                        double *full /* 0: none */);
/* One after the other, while there is no change: their names (mem_free), then NULL.  *at is 0 at first. */
char *shaping_subject_next(struct shaping *all, enum shaping_subject kind, size_t *at);
/* An event was ended by hand: the owner takes back what it did.  Without locks of the register. */
typedef void (*subject_undo_fn)(void *arg, enum shaping_subject kind, const char *group, const char *name,
                                double full);

/* ---- seeing, and undoing by hand ---- */
struct shaping_filter { /* all of it holds; zeroed: everything */
    uint64_t id;
    const char *group;
    const char *hosts; /* "mx1.example:25,mx2.example:25": events of one of these, in any order */
    bool same_set;     /* only what binds exactly this set, its hosts, and the warm-ups of the group */
};
/* Newest first, `max` at most; *total (or NULL) counts all.  The shape is in webui-api/README.md. */
json_t *shaping_json(struct shaping *all, const struct shaping_filter *filter, size_t max, uint64_t now_ms,
                     size_t *total);
/* Number of events that ended.  Who waits for their end has to be woken.  `undo` may be NULL. */
size_t shaping_clear(struct shaping *all, const struct shaping_filter *filter, const char *by,
                     uint64_t now_ms, subject_undo_fn undo, void *arg);
void shaping_metrics(struct shaping *all, uint64_t now_ms, struct buf *out);
