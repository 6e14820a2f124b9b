/*
 * Limits that span all workers, never multiplied by their number: permits (connections) and paces
 * (so many in a time), and what one client address may do.
 *
 * Thread    any; each pool has its own lock, held for a few instructions.  Who waits is served by lanes, as
 * engine/fair.h says: campaigns in turn, high priority first, of a lane first come, first served.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/inbox.h"
#include "base/ip.h"
#include "base/list.h"
#include "engine/fair.h"

struct limits;
struct permit_pool; /* by key; lives as long as the limits object, unless all who use it have said when they
                       did no more */

struct limits *limits_create(void);
void limits_destroy(struct limits *l);

/* The pool of that name; the limit is set anew at each call, and holds from the next take (0: no limit). */
struct permit_pool *permit_pool(struct limits *l, const char *key, uint32_t limit);
/* The same for keys that come from outside, like the addresses of mail hosts: it is yours until you close it,
 * with whatever was taken given back.  Of those that nobody uses some thousands are kept. */
struct permit_pool *permit_pool_open(struct limits *l, const char *key, uint32_t limit);
void permit_pool_close(struct permit_pool *p);
size_t limits_pool_count(struct limits *l);

struct permit_waiter {
    struct note
        note; /* posted to `inbox` when a permit may be had: its handler calls permit_heard, then takes */
    struct inbox *inbox;
    struct fair_entry place; /* this and the rest under the pool's lock */
    uint16_t lane;           /* while it has a place */
    bool turn;               /* a permit is kept free for it */
    bool noted;              /* the note is on its way: the waiter must stay in memory */
};
void permit_waiter_init(struct permit_waiter *w, struct inbox *inbox, note_fn run);

/*
 * true: one permit is yours until permit_give.  false: `w` (unless NULL) stands in the queue, and its note
 * comes when its turn is there; a permit is then kept free for it until it takes or cancels.
 */
bool permit_take(struct permit_pool *p, struct permit_waiter *w, uint16_t lane);
/* Who stands in the queue, if he does, has now something of this lane, which goes before that he came with.
 */
void permit_urge(struct permit_pool *p, struct permit_waiter *w, uint16_t lane);
void permit_give(struct permit_pool *p);
/* By the note's handler, first. */
void permit_heard(struct permit_pool *p, struct permit_waiter *w);
/* Leaves the queue, or hands a turn that was granted but not used to the next. A posted note still arrives;
 * returns whether one is on its way. */
bool permit_cancel(struct permit_pool *p, struct permit_waiter *w);
bool permit_has_waiters(struct permit_pool *p);
/*
 * Where an asker looks at many pools in turn (mail hosts, source addresses): one permit for `who`, or a place
 * in the line.  It is kept for a second, and who asks again before that comes before those that came later;
 * *ask_again_ms says when at the latest, 0: the first time, holders without work should be told.  A line is
 * short: who finds it full has no place yet.  `who` and `home` are never followed here.
 */
bool permit_take_in_line(struct permit_pool *p, const void *who, void *home, uint64_t now_ms,
                         uint32_t *ask_again_ms);
/*
 * After permit_give: who of the line may take one now, and was not named before since he asked last; *home is
 * what he came with.  NULL: nobody.  Whoever gave one back tells him.
 */
const void *permit_next_in_line(struct permit_pool *p, uint64_t now_ms, void **home);
/* Shall `who`, with work for ever, give one up for somebody in the line?  No more are told so than stand
 * there. */
bool permit_yield_to_line(struct permit_pool *p, const void *who, uint64_t now_ms);
/* Shall a holder of one give it up for somebody who waits, `but` excepted?  No more holders are told so than
 * others wait. */
bool permit_yield(struct permit_pool *p, const struct permit_waiter *but);
/* Was a take without a waiter refused since a permit was last given back, or do more stand in the line than
 * may have one now? */
bool permit_is_wanted(struct permit_pool *p);
uint32_t permit_in_use(struct permit_pool *p);
uint32_t permit_limit(struct permit_pool *p);

/*
 * ---- paces: so many units in a time, evenly spaced ----
 * A bucket in the form of GCRA: the time at which the next unit would be due.  In any span of time no more go
 * than the rate gives in it, plus `burst`, plus what a twentieth of a second gives (a timer that rings late
 * must not lower the rate).  A rule belongs to the caller and may change at any call: what is owed is then
 * owed in units, so that a new rate holds at once.
 */
struct pace_rule {
    double units; /* in `seconds`; 0: no limit */
    double seconds;
    double burst; /* units that may go at once after a pause; 1 at least */
};
struct bucket {    /* zeroed: full */
    double gap_ns; /* of one unit, by the rule that was used last */
    uint64_t next_ns;
};
/* Pure.  0: a take may be now; else the wait in nanoseconds. */
uint64_t bucket_wait_ns(struct bucket *b, const struct pace_rule *rule, uint64_t now_ns);
/* Pure.  Takes `units`, whether they are there or not; negative: gives back what was not used. */
void bucket_take(struct bucket *b, const struct pace_rule *rule, double units, uint64_t now_ns);

#define PACE_RULES 4
struct pace; /* by key: some buckets under one lock; lives as long as the limits object */
struct pace *pace_find(struct limits *l, const char *key);
/*
 * All or nothing: takes units[i] by rules[i], `count` of them (PACE_RULES at most), where every one allows a
 * take. A take may be larger than what is there: the next then waits until it is paid for. 0: go.  Else the
 * milliseconds before asking again, and *which is the rule that takes longest.
 */
uint32_t pace_take(struct pace *p, const struct pace_rule *rules, const double *units, size_t count,
                   uint64_t now_us, size_t *which);
/*
 * The same for many who wait for it by lanes.  Of those who stand in the queue one at a time sees to the
 * clock, and grants what is due to whose turn it is, himself or another; if he does not for a second, the
 * next who asks does.
 */
struct pace_waiter {
    struct note note; /* posted to `inbox`: its handler calls pace_heard, then pace_turn */
    struct inbox *inbox;
    const struct pace_rule *rules; /* borrowed */
    size_t count;
    struct fair_entry place; /* this and the rest under the pace's lock */
    double units[PACE_RULES];
    uint16_t lane; /* while it has a place */
    bool taken;    /* granted, and not yet told */
    bool noted;    /* the note is on its way: the waiter must stay in memory */
};
void pace_waiter_init(struct pace_waiter *w, struct inbox *inbox, note_fn run, const struct pace_rule *rules,
                      size_t count);
/*
 * 0: go, w->units are taken, which may be those of an earlier call.  Else `w` stands in the queue, and asks
 * again when its note comes, at the latest after so many milliseconds; *which is the rule that binds.
 */
uint32_t pace_turn(struct pace *p, struct pace_waiter *w, uint16_t lane, const double *units, uint64_t now_us,
                   size_t *which);
void pace_heard(struct pace *p, struct pace_waiter *w); /* by the note's handler, first */
/* Leaves the queue, or gives back what it was granted and not told.  Is a note still on its way? */
bool pace_leave(struct pace *p, struct pace_waiter *w, uint64_t now_us);
/* As pace_take, and takes nothing. */
uint32_t pace_wait(struct pace *p, const struct pace_rule *rules, size_t count, uint64_t now_us,
                   size_t *which);
/* What was taken a while ago is used now, and as so many units: what comes next is counted from now on. */
void pace_use(struct pace *p, const struct pace_rule *rules, const double *taken, const double *used,
              size_t count, uint64_t now_us);
/* What was just taken is not used after all. */
void pace_give(struct pace *p, const struct pace_rule *rules, const double *units, size_t count,
               uint64_t now_us);
/* Takes so many more, whether they are there or not, or gives back (negative). */
void pace_add(struct pace *p, const struct pace_rule *rules, const double *units, size_t count,
              uint64_t now_us);

/* ---- clients of submission ---- */
struct client_limits {
    uint32_t connections; /* at once; 0: no limit */
    uint32_t connections_per_minute;
    uint32_t messages_per_minute;
    uint32_t auth_failures_per_minute;
};
enum client_event { CLIENT_CONNECT, CLIENT_MESSAGE, CLIENT_AUTH_FAILURE };
/* The key of an address: "ip:192.0.2.1", and of IPv6 the /64, because whoever has one of its addresses has
 * all. */
#define CLIENT_KEY_BYTES (IP_TEXT_BYTES + 8)
char *client_key_of(const struct ip *ip, char out[CLIENT_KEY_BYTES]);
/* Keys are those of addresses, or "account:NAME".  May this happen now?  A CONNECT that may is counted until
 * client_gone. */
bool client_may(struct limits *l, const char *key, const struct client_limits *limits,
                enum client_event event, uint64_t now_ms);
/*
 * May this address try to authenticate, as `user` unless that is NULL?  Not when it has used up its failures.
 * Nor when the user's are used up, from whatever addresses, and one of them was from here: so many addresses
 * guess no more than one does, and nobody is locked out of his account who has not failed himself.
 */
bool client_may_authenticate(struct limits *l, const char *key, const char *user,
                             const struct client_limits *limits, uint64_t now_ms);
void client_auth_failed(struct limits *l, const char *key, const char *user, uint64_t now_ms);
void client_gone(struct limits *l, const char *key, uint64_t now_ms);
