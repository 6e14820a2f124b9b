/*
 * Pools of source addresses of the policy document, and the ladder by which an address is warmed up.  Values
 * of a snapshot (policy/policy.h): they never change, and die with it.
 *
 *     sources:
 *       - name: marketing
 *         addresses:
 *           - {address: 192.0.2.1, ehlo_name: m1.example.com, weight: 3}
 *           - {address: "2001:db8::1", ehlo_name: m1.example.com, warmup: off}
 *         warmup: {steps: [200, 500, 1000, 2000], per: day, max_refused: 5%, on_refused: back}
 *     groups:
 *       - name: default
 *         source: {pool: marketing}
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/ip.h"

#define WARMUP_STEPS_MAX 64

struct warmup_ladder {
    uint32_t steps[WARMUP_STEPS_MAX]; /* recipients in a period */
    uint32_t count;                   /* of steps: one at least */
    uint32_t period_s;
    int64_t start_unix; /* nothing goes before; 0: at once */
    uint32_t max_refused_percent;
    uint32_t min_attempts; /* before a period is judged; 0: half of the step */
    bool back;             /* on_refused: back; else hold */
};

struct source_address {
    struct ip ip;
    char *text;                         /* canonical */
    char *ehlo_name;                    /* NULL: the group's, else the daemon's */
    uint32_t weight;                    /* 1 at least */
    const struct warmup_ladder *warmup; /* NULL: it is warm */
};

struct source_pool {
    char *name;
    struct source_address *addresses; /* each once */
    size_t count;                     /* one at least */
    uint32_t line;
};

/* Has it an address of that family (4 or 6)? */
bool source_pool_has(const struct source_pool *pool, int family);
