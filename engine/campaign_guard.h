/*
 * Watches over campaigns: of every N attempts of one, how many met an unknown user or a block?  Too many, and
 * the campaign is to be paused, and no other.  After the first N it is not waited for the end of the next N
 * when there are too many.
 *
 * Thread   any; counts lie under one lock.  Workers note attempts; main's thread asks once a second what
 * tripped, because pausing waits for the store. Bounds   10,000 campaigns at a time; when there are more all
 * counts begin anew.
 */
#pragma once

#include "engine/conf.h"
#include "policy/outcome.h"

#define GUARD_WHY_BYTES 160

struct campaign_guard;
struct campaign_guard *campaign_guard_create(void);
void campaign_guard_destroy(struct campaign_guard *g); /* NULL is fine */
/* One recipient's attempt.  What says nothing of the list (network, DNS, a busy peer) is not counted. */
void campaign_guard_note(struct campaign_guard *g, const struct conf *conf, const char *campaign,
                         const struct outcome *o);
/* Somebody pauses it or gives it up, which takes as long as there are rows: until the release (one for each)
 * nothing of it is begun.  NULL and "" are fine. */
void campaign_guard_hold(struct campaign_guard *g, const char *campaign);
void campaign_guard_release(struct campaign_guard *g, const char *campaign);
/* Has it tripped, and is not paused yet, or is it held?  Then nothing of it is begun.  Without any such
 * campaign: one load. */
bool campaign_guard_stops(struct campaign_guard *g, const char *campaign);
unsigned long campaign_guard_trips(const struct campaign_guard *g); /* since start */
/* The next campaign that is to be paused, or NULL (mem_free); it comes again until campaign_guard_done, which
 * begins its counts anew.  `last`: the last outcome that counted against it. */
char *campaign_guard_take(struct campaign_guard *g, char why[GUARD_WHY_BYTES], struct outcome *last);
void campaign_guard_done(struct campaign_guard *g, const char *campaign);
