/*
 * What is kept of a campaign: that it is paused, since when, by whom and why; and when it is over.  One value
 * of kind "campaign" in queue/keep.h; key: the id.
 *
 * Thread   the functions are pure.  The store has all of them in memory: mail of a paused campaign is held as
 * it is accepted, deferred or given back (ROW_PAUSED).  A change holds from the answer to its put on; what
 * waits is moved by QUEUE_PAUSE or QUEUE_RESUME, which follow what is kept when they come to a row: whichever
 * of two operators was last has his way, and after a crash the store goes on by itself.  The same holds for a
 * campaign that is over (ROW_EXPIRE, QUEUE_EXPIRE): nothing of it is handed to a worker from that second on.
 */
#pragma once

#include "base/bytes.h"

#define CAMPAIGN_KIND     "campaign"
#define CAMPAIGN_ID_MAX   64
#define CAMPAIGN_WORD_MAX 200

struct campaign_kept {
    int64_t paused_unix;             /* since; 0: is not paused */
    char by[CAMPAIGN_WORD_MAX + 1];  /* who paused it, or "" */
    char why[CAMPAIGN_WORD_MAX + 1]; /* or "" */
    int64_t expires_unix;            /* over from then on; 0: never */
};
/* The lines of a value; unknown ones are passed over. */
void campaign_kept_parse(struct bytes value, struct campaign_kept *out);
void campaign_kept_put(struct buf *out,
                       const struct campaign_kept *k); /* appended; nothing: drop the value */
