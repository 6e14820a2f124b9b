/*
 * What is final but owes something: a DSN to the sender, or the record of what an operator ended.  The store
 * keeps such rows until they are settled; worker 0 pages them, makes the DSNs and hands them in as mail of
 * our own.
 */
#pragma once

#include "engine/deliver/deliver.h"

struct finaliser;
struct finaliser *finaliser_create(struct deliver *d);
void finaliser_destroy(struct finaliser *f);            /* NULL is fine */
void finaliser_on_due(struct note *note, void *worker); /* from the store, on worker 0 */

/* Any worker: tells the sender that a recipient waits (RFC 3461 NOTIFY=DELAY), once. */
void deliver_delay_notice(struct deliver *d, const struct message *m, const struct rcpt *rcpt,
                          const struct outcome *o, const char *remote_mx, int64_t until_unix);
