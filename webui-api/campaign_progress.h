/*
 * How fast the mail of a campaign goes in each group, what limits it, and what does not move at all.  Values;
 * the route gathers them (route_campaigns.c).
 *
 *     due      waits for its turn now: eta = due / rate, if the group moves; or when the steps of a warm-up
 * that are to come let the last of it go, if that is later, or holds it up now later    waits for a retry, or
 * for a date: nobody knows what becomes of it
 */
#pragma once

#include "base/bytes.h"
#include "engine/deliver/deliver.h"
#include "queue/browse.h"

#define PROGRESS_LIMITS 8 /* different ones that are told apart in a group */

struct progress { /* of a group; zeroed: empty */
    uint64_t due, later;
    int64_t later_unix; /* the first of these is due then */
    const char *why;    /* what most of one domain's met last, borrowed */
    uint64_t why_count;
    struct {
        struct binding binding;
        uint64_t rcpts;
    } limits[PROGRESS_LIMITS];
    size_t limit_count;
    double rate; /* recipients a second */
    bool rate_known;
    uint64_t ladder_ms; /* until warm-ups let the last of what is due go; 0: they bind nothing, UINT64_MAX: no
                           end */
    /* progress_judge */
    const char *limit, *text; /* NULL: nothing but the receiver */
    int64_t until_unix;
    bool moves;
    uint64_t not_moving;
    int64_t eta_s; /* -1: none */
};

void progress_add(struct progress *p, const struct browse_share *share,
                  const struct binding *binding); /* NULL: not asked */
/* From the shortest span on; the first one with enough counts. */
void progress_note_rate(struct progress *p, uint64_t ended, int64_t span_s);
void progress_judge(struct progress *p, uint64_t held, uint64_t paused);
void progress_put(struct buf *out, const struct progress *p); /* JSON members of the group */

struct progress_sum { /* of the campaign; zeroed but is_paused */
    bool is_paused;
    uint64_t not_moving, most;
    int64_t eta_s;     /* of what moves; 0: nothing does */
    const char *group; /* the slowest, or if none moves the one where most waits */
    const struct progress *of;
};
void progress_sum(struct progress_sum *sum, const char *group, const struct progress *p);
void progress_put_sum(struct buf *out, const struct progress_sum *sum);
