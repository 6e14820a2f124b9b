/*
 * What rules about replies impose on the mail hosts of a group, for all workers together: a pause, fewer
 * connections, a slower rate.  One `struct shaped` for each set of hosts and group, found by key, counted.
 *
 * Thread    any; each has its own lock, held for a few instructions; without anything in force a look costs
 * one load. Time      milliseconds of the monotonic clock, from the caller.  It does not outlive the process.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/reply_rule.h"

struct shaping;
struct shaped;

struct shaping *shaping_create(void);
void shaping_destroy(struct shaping *all); /* every shaped was put back before */

/* Made when there is none.  What is in force stays when the last user has put it back, until its time is up.
 */
struct shaped *shaped_get(struct shaping *all, const char *key, uint64_t now_ms);
void shaped_put(struct shaping *all, struct shaped *s, uint64_t now_ms);

/* The rule's actions for the site.  True: that began, or changed, something worth telling. */
bool shaped_apply(struct shaped *s, const struct reply_rule *rule, const struct outcome *why,
                  uint64_t now_ms);
void shaped_clear(struct shaped *s); /* by hand */

uint64_t shaped_suspended_until_ms(struct shaped *s); /* may lie in the past */
/*
 * One connection more?  `who` marks the asker: what is refused to it is kept free for it for a second, so
 * that one worker's work does not keep the others' out.  What was taken is given back at its end.
 */
bool shaped_take_connection(struct shaped *s, const void *who, uint64_t now_ms);
void shaped_give_connection(struct shaped *s);
bool shaped_has_too_many(struct shaped *s, uint64_t now_ms);               /* more than are allowed now */
bool shaped_is_wanted(struct shaped *s, const void *but, uint64_t now_ms); /* somebody else waits for one */
/* 0: send one message; else how many milliseconds to wait first. */
uint32_t shaped_take_message(struct shaped *s, uint64_t now_ms);
bool shaped_is_slow(struct shaped *s, uint64_t now_ms);

/* What is in force: each with the rule's line and the reply. */
enum shaped_what { SHAPED_SUSPENDED, SHAPED_CONNECTIONS, SHAPED_RATE, SHAPED_WHATS };
struct shaped_view {
    uint64_t until_ms; /* 0: not in force */
    double value;      /* connections; messages a second */
    uint32_t line;
    uint16_t code;
    char text[160];
};
void shaped_look(struct shaped *s, uint64_t now_ms, struct shaped_view out[SHAPED_WHATS]);
