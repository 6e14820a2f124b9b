/*
 * A queue of many who want the same.  Lanes (queue/lane.h) have turns in it: high priority first, of eight
 * turns one for who is below (priority_order); the lanes of a priority one after the other; of a lane whoever
 * came first.
 *
 *     queue ─┬─ high ───┬─ flow of a lane ──┬─ entry, first come
 *            │          └─ flow             └─ entry
 *            ├─ normal ── …
 *            └─ low ───── …
 *
 * The first flow needs no memory of its own.  Thread: whoever owns the queue, or holds its lock.
 */
#pragma once

#include "base/hash.h"
#include "base/list.h"
#include "queue/lane.h"

struct fair_flow;

struct fair_entry {
    struct list node;       /* its owner's while it is in no queue */
    struct fair_flow *flow; /* NULL: in no queue */
};

struct fair_flow { /* the entries of one lane; has at least one */
    struct list node, entries;
    uint16_t lane;
    bool used;
};

struct fair_queue {
    struct list flows[PRIORITIES];
    struct fair_flow own;
    struct map others; /* struct fair_flow by its lane */
    uint32_t ready;    /* flows; 0: nobody is in it */
    uint32_t count;    /* of turns taken */
};

void fair_init(struct fair_queue *q);
void fair_fini(struct fair_queue *q); /* everybody has left */
/* Behind those of its lane; the entry's node is in no list. */
void fair_put(struct fair_queue *q, struct fair_entry *e, uint16_t lane);
void fair_remove(struct fair_queue *q, struct fair_entry *e);
/* Whose turn it is, among those that fit (NULL: all do); NULL: nobody's.  Nothing changes before fair_took.
 */
typedef bool (*fair_fn)(struct fair_entry *e, const void *arg);
struct fair_entry *fair_next(const struct fair_queue *q, fair_fn fits, const void *arg);
/* It has had its turn: behind the others of its lane it goes, and its lane behind the others of its priority.
 */
void fair_took(struct fair_queue *q, struct fair_entry *e);
