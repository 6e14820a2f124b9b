/*
 * What the bench tools count: a histogram of durations, and the set of delivery numbers seen.  Pure.
 * Owner     the caller; a zeroed struct is empty.  A histogram holds no pointer and may lie in shared memory.
 * Units     any whole number; the tools put in microseconds.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Buckets of a power of two each, cut into 32: a value is known to within 1/32 of itself. */
#define HIST_CUTS    32U
#define HIST_MAX     ((UINT64_C(1) << 40) - 1) /* larger values count as this: 12 days in microseconds */
#define HIST_BUCKETS ((40 - 4) * HIST_CUTS)

struct hist {
    uint64_t count, max;
    uint32_t bucket[HIST_BUCKETS];
};

void hist_add(struct hist *h, uint64_t value);
void hist_merge(struct hist *h, const struct hist *other);
/*
 * The smallest recorded value that `per_mille` thousandths of all values do not exceed, rounded up to the end
 * of its bucket but never above the largest value.  0 when nothing was recorded.  per_mille is 0..1000.
 */
uint64_t hist_percentile(const struct hist *h, unsigned per_mille);

/* Delivery numbers are consecutive from a small start, so a bit each; above SEEN_MAX they are refused. */
#define SEEN_MAX (UINT64_C(1) << 28)

struct seen {
    uint64_t *words; /* owned */
    size_t cap;      /* words */
};

enum seen_mark { SEEN_FIRST, SEEN_AGAIN, SEEN_TOO_LARGE };

enum seen_mark seen_add(struct seen *s, uint64_t number);
void seen_clear(struct seen *s); /* frees; the set is empty and usable */

/*
 * What is known of one delivery number, in memory that source and sink share.  Each writes its own members;
 * whoever reads them while both work reads what was so a moment ago.
 */
struct mark {
    uint64_t dot_us;   /* the source sent the final dot.  clock_now_us(); 0: not yet */
    uint32_t accepted; /* the source heard 250 for it */
    uint32_t taken;    /* how often the sink took it */
};

struct mark_counts {
    uint64_t accepted;
    uint64_t lost;             /* accepted and never taken */
    uint64_t duplicates;       /* taken again */
    uint64_t unanswered_taken; /* taken, though the source never heard 250: the connection broke before it */
};

struct mark_counts marks_count(const struct mark *marks, uint64_t first, uint64_t count);
