/*
 * Whose turn it is: the jobs of a site's destinations, sorted into lanes (queue/lane.h), and served in turn.
 *
 *     site ─┬─ high ───┬─ flow of a lane ──┬─ strand at a.example ── jobs, oldest due first
 *           │          └─ flow             └─ strand at b.example ── jobs
 *           ├─ normal ── …                        of a flow each destination has its turn
 *           └─ low ───── …    of a priority each flow
 *
 * A turn is one transaction.  High priority comes first, and of eight turns one is for who waits below it
 * (priority_order): nobody starves.  A strand with jobs is with a flow, or unready (its destination looks up
 * where to); without jobs it is soon gone, unless more of its lane lies on disk: then it is wanted.  The
 * first strand of a destination and the first flow of a site need no memory of their own: mail without
 * campaigns pays for neither.
 *
 * Thread    the worker's.
 */
#pragma once

#include "base/hash.h"
#include "engine/deliver/rule.h"
#include "queue/message.h"

struct dest;
struct flow;

struct strand { /* the jobs of one lane at one destination */
    struct strands *all;
    struct flow *flow; /* NULL: not in its site's turn */
    struct list node;  /* flow->strands, or one of the lists in `all` */
    struct list jobs[JOB_CLASSES];
    uint32_t queued; /* recipients */
    uint16_t lane;
    bool used;
    bool more; /* of the lane lies on disk, and is due */
};

struct strands { /* of a destination */
    struct dest *dest;
    struct turns *turns; /* of the site that it is bound to, or NULL */
    struct strand own;
    struct map others;   /* struct strand by its lane */
    struct list unready; /* with jobs */
    struct list emptied; /* without; the destination's next kick decides */
    struct list wanted;  /* without, but `more` */
};

struct flow { /* the strands of one lane at one site; has at least one */
    struct list node, strands;
    uint16_t lane;
    bool used;
};

struct turns { /* of a site */
    struct list flows[PRIORITIES];
    struct flow own;
    struct map others; /* struct flow by its lane */
    uint32_t ready;    /* flows */
    uint32_t count;    /* of turns taken */
};

void strands_init(struct strands *all, struct dest *dest);
void strands_fini(struct strands *all);                         /* no jobs are left */
struct strand *strand_find(struct strands *all, uint16_t lane); /* or NULL */
struct strand *strand_need(struct strands *all, uint16_t lane); /* made without jobs: in `emptied` */
/* Walks all, from *at = 0; no strand is made or freed meanwhile. */
struct strand *strand_next(struct strands *all, size_t *at);
void strand_free(struct strand *strand); /* has no jobs */
void strand_put(struct strand *strand, struct job *job, enum job_class class, bool first);
void strand_remove(struct strand *strand, struct job *job);
void strand_want(struct strand *strand); /* has no jobs, but more on disk */

void turns_init(struct turns *t);
void turns_fini(struct turns *t);      /* everybody has left */
void turns_join(struct strands *all);  /* whatever is unready, in the turn of its site */
void turns_leave(struct strands *all); /* all are unready again */
/* The strand whose turn it is among those that fit; NULL: none does.  Nothing changes before turns_took. */
typedef bool (*strand_fn)(const struct strand *strand, const void *arg);
struct strand *turns_next(const struct turns *t, strand_fn fits, const void *arg);
void turns_took(struct turns *t, struct strand *strand);
