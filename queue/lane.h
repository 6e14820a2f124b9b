/*
 * A lane says who shares a turn: a priority, and one of 4,096 numbers that stand for account and campaign
 * together. Destinations serve lanes in turn (engine/deliver/turns.h), pages are filled from lanes in turn
 * (queue/store_turns.c). Two campaigns that have the same number share a turn.  Stored in queue.db
 * (rcpt.lane): never renumber.
 *
 *     bits 13, 12   enum priority
 *     bits 11 … 0   0: neither account nor campaign; else 1 + a stable hash of both modulo 4,095
 *
 * Pure.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"

enum priority { PRIORITY_NORMAL = 0, PRIORITY_HIGH = 1, PRIORITY_LOW = 2 };
#define PRIORITIES     3
#define LANE_FLOW_BITS 12
#define LANES          (PRIORITIES << LANE_FLOW_BITS)

uint16_t lane_of(enum priority p, const char *account, const char *campaign); /* NULL: none */
static inline enum priority lane_priority(uint16_t lane)
{
    return (enum priority)(lane >> LANE_FLOW_BITS);
}

/* The priority whose turn is `turn` (any count that ascends), best first: of eight turns one is for those
 * below. */
void priority_order(uint32_t turn, enum priority out[PRIORITIES]);
bool lane_goes_before(uint16_t lane, uint16_t other); /* is its priority higher? */

const char *priority_name(enum priority p);                 /* "high", "normal", "low" */
bool priority_parse(struct bytes text, enum priority *out); /* without regard to case */
