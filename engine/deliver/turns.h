/*
 * Whose turn it is: the jobs of a site's destinations, sorted into lanes, and served in turn (engine/fair.h).
 *
 *     site ─┬─ high ───┬─ flow of a lane ──┬─ strand at a.example ── jobs, oldest due first
 *           │          └─ flow             └─ strand at b.example ── jobs
 *           ├─ normal ── …                        of a flow each destination has its turn
 *           └─ low ───── …    of a priority each flow
 *
 * A turn is one transaction.  A strand with jobs is with a flow, or unready (its destination looks up
 * where to); without jobs it is soon gone, unless more of its lane lies on disk: then it is wanted.  The
 * first strand of a destination needs no memory of its own: mail without campaigns does not pay for it.
 *
 * Thread    the worker's.
 */
#pragma once

#include "engine/fair.h"
#include "queue/message.h"

struct dest;

/*
 * Where a job waits, and which connections it may use: those of its class, and among CLASS_OTHER_HOST those
 * of its wish.  The first three are the wishes of enum tls_wish.  OTHER_HOST is for mail of any wish that
 * some host of its site lacks something for (SMTPUTF8, 8BITMIME, a larger SIZE): its connections pass over
 * the hosts that are known to (struct job, unfit_hosts).
 */
enum job_class { CLASS_NORMAL, CLASS_REQUIRETLS, CLASS_TLS_OPTIONAL, CLASS_OTHER_HOST };
#define JOB_CLASSES 4

struct strand { /* the jobs of one lane at one destination */
    struct strands *all;
    struct fair_entry place; /* in its site's turns, or one of the lists in `all` */
    struct list jobs[JOB_CLASSES];
    uint32_t queued; /* recipients */
    uint16_t lane;
    bool used;
    bool more; /* of the lane lies on disk, and is due */
};

struct strands { /* of a destination */
    struct dest *dest;
    struct fair_queue *turns; /* of the site that it is bound to, or NULL */
    struct strand own;
    struct map others;   /* struct strand by its lane */
    struct list unready; /* with jobs */
    struct list emptied; /* without; the destination's next kick decides */
    struct list wanted;  /* without, but `more` */
};

void strands_init(struct strands *all, struct dest *dest);
void strands_fini(struct strands *all);                         /* no jobs are left */
bool strands_are_used(const struct strands *all);               /* is there any strand? */
struct strand *strand_find(struct strands *all, uint16_t lane); /* or NULL */
struct strand *strand_need(struct strands *all, uint16_t lane); /* made without jobs: in `emptied` */
/* Walks all, from *at = 0; no strand is made or freed meanwhile.  `all` NULL: there are none. */
struct strand *strand_next(struct strands *all, size_t *at);
const struct job *strand_first(const struct strand *strand, enum job_class class); /* of those that it has */
bool strand_has_class(const struct strand *strand, const void *class);             /* enum job_class: for turns_next */
void strand_free(struct strand *strand); /* has no jobs */
void strand_put(struct strand *strand, struct job *job, enum job_class class, bool first);
void strand_remove(struct strand *strand, struct job *job);
void strand_want(struct strand *strand); /* has no jobs, but more on disk */

void turns_join(struct strands *all);  /* whatever is unready, in the turn of its site */
void turns_leave(struct strands *all); /* all are unready again */
/* The strand whose turn it is among those that fit; NULL: none does.  fair_took says that it had it. */
typedef bool (*strand_fn)(const struct strand *strand, const void *arg);
struct strand *turns_next(const struct fair_queue *turns, strand_fn fits, const void *arg);
