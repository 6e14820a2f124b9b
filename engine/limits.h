/*
 * Limits that span all workers, never multiplied by their number: permits (connections) and rates
 * (messages per second), and what one client address may do.
 *
 * Thread    any; each pool has its own lock, held for a few instructions.  Waiters are served first come,
 * first served.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/inbox.h"
#include "base/ip.h"
#include "base/list.h"

struct limits;
struct permit_pool; /* by key; lives as long as the limits object */

struct limits *limits_create(void);
void limits_destroy(struct limits *l);

/* The pool of that name; the limit is set anew at each call, and holds from the next take (0: no limit). */
struct permit_pool *permit_pool(struct limits *l, const char *key, uint32_t limit);

struct permit_waiter {
    struct note
        note; /* posted to `inbox` when a permit may be had: its handler calls permit_heard, then takes */
    struct list node; /* the pool's */
    struct inbox *inbox;
    bool queued; /* all three under the pool's lock */
    bool turn;   /* a permit is kept free for it */
    bool noted;  /* the note is on its way: the waiter must stay in memory */
};
void permit_waiter_init(struct permit_waiter *w, struct inbox *inbox, note_fn run);

/*
 * true: one permit is yours until permit_give.  false: `w` (unless NULL) stands in the queue, and its note
 * comes when its turn is there; a permit is then kept free for it until it takes or cancels.
 */
bool permit_take(struct permit_pool *p, struct permit_waiter *w);
void permit_give(struct permit_pool *p);
/* By the note's handler, first. */
void permit_heard(struct permit_pool *p, struct permit_waiter *w);
/* Leaves the queue, or hands a turn that was granted but not used to the next. A posted note still arrives;
 * returns whether one is on its way. */
bool permit_cancel(struct permit_pool *p, struct permit_waiter *w);
bool permit_has_waiters(struct permit_pool *p);
uint32_t permit_in_use(struct permit_pool *p);
uint32_t permit_limit(struct permit_pool *p);

/*
 * Evenly spaced permission (GCRA): `per_second` with a burst of a twentieth of a second.
 * 0: go; else how long to wait before asking again, in milliseconds.
 */
uint32_t rate_take(struct limits *l, const char *key, double per_second, uint64_t now_us);

/* ---- clients of submission ---- */
struct client_limits {
    uint32_t connections; /* at once; 0: no limit */
    uint32_t connections_per_minute;
    uint32_t messages_per_minute;
    uint32_t auth_failures_per_minute;
};
enum client_event { CLIENT_CONNECT, CLIENT_MESSAGE, CLIENT_AUTH_FAILURE };
/* Keys are "ip:192.0.2.1" or "account:NAME".  May this happen now?  A CONNECT that may is counted until
 * client_gone. */
bool client_may(struct limits *l, const char *key, const struct client_limits *limits,
                enum client_event event, uint64_t now_ms);
/* Has it used up its authentication failures?  Asks without counting. */
bool client_auth_blocked(struct limits *l, const char *key, const struct client_limits *limits,
                         uint64_t now_ms);
void client_gone(struct limits *l, const char *key, uint64_t now_ms);
