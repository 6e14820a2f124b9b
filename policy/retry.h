/* When a deferred recipient is tried again, and when it is given up.  Pure. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define RETRY_STEPS_MAX 16

struct retry_schedule {
    uint32_t step_s[RETRY_STEPS_MAX]; /* wait after the 1st, 2nd, … attempt; the last repeats */
    uint32_t steps;
    uint32_t jitter_percent; /* each wait is moved by up to this share, both ways */
    uint32_t lifetime_s;     /* age at which a deferred recipient bounces (RFC 5321 §4.5.4.1) */
    uint32_t delay_notice_s; /* age of the one delay DSN, if the sender asked for DELAY; 0: none */
};

/* 5 m, 10 m, 20 m, 30 m, 1 h, 2 h, 4 h; 10 % jitter; 5 days; 4 h. */
extern const struct retry_schedule retry_default;

/* Seconds until the next attempt after `attempts` (≥ 1) attempts; `random` is any 32-bit number. */
uint32_t retry_wait_s(const struct retry_schedule *r, uint32_t attempts, uint32_t random);
/* Has a recipient accepted at `accepted_unix` used up its lifetime?  A clock set back gives false. */
bool retry_is_expired(const struct retry_schedule *r, int64_t accepted_unix, int64_t now_unix);
