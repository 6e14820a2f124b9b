#include "tests/bench/stats.h"

#include <string.h>

#include "base/macros.h"
#include "base/mem.h"

/* Below 32 every value has a bucket of its own; then each power of two has 32. */
static size_t bucket_of(uint64_t value)
{
    if (value < HIST_CUTS)
        return (size_t)value;
    unsigned top = 63U - (unsigned)__builtin_clzll(value);
    return (size_t)((top - 4) * HIST_CUTS + ((value >> (top - 5)) - HIST_CUTS));
}

static uint64_t bucket_end(size_t bucket)
{
    if (bucket < HIST_CUTS)
        return bucket;
    uint64_t shift = bucket / HIST_CUTS - 1;
    return ((uint64_t)(bucket % HIST_CUTS + HIST_CUTS + 1) << shift) - 1;
}

void hist_add(struct hist *h, uint64_t value)
{
    uint64_t kept = MIN_OF(value, HIST_MAX);

    h->bucket[bucket_of(kept)]++;
    h->count++;
    h->max = MAX_OF(h->max, kept);
}

void hist_merge(struct hist *h, const struct hist *other)
{
    for (size_t i = 0; i < HIST_BUCKETS; i++)
        h->bucket[i] += other->bucket[i];
    h->count += other->count;
    h->max = MAX_OF(h->max, other->max);
}

uint64_t hist_percentile(const struct hist *h, unsigned per_mille)
{
    uint64_t rank = (h->count * per_mille + 999) / 1000, below = 0;

    if (h->count == 0)
        return 0;
    rank = MAX_OF(rank, UINT64_C(1));
    for (size_t i = 0; i < HIST_BUCKETS; i++) {
        below += h->bucket[i];
        if (below >= rank)
            return MIN_OF(bucket_end(i), h->max);
    }
    return h->max;
}

enum seen_mark seen_add(struct seen *s, uint64_t number)
{
    size_t word = (size_t)(number / 64);
    uint64_t bit = UINT64_C(1) << (number % 64);

    if (number >= SEEN_MAX)
        return SEEN_TOO_LARGE;
    if (word >= s->cap) {
        size_t cap = MAX_OF(word + 1, MAX_OF(s->cap * 2, (size_t)1024));
        s->words = mem_realloc(s->words, cap * sizeof *s->words);
        memset(s->words + s->cap, 0, (cap - s->cap) * sizeof *s->words);
        s->cap = cap;
    }
    if (s->words[word] & bit)
        return SEEN_AGAIN;
    s->words[word] |= bit;
    return SEEN_FIRST;
}

void seen_clear(struct seen *s)
{
    mem_free(s->words);
    *s = (struct seen){0};
}

struct mark_counts marks_count(const struct mark *marks, uint64_t first, uint64_t count)
{
    struct mark_counts c = {0};

    for (uint64_t i = first; i < first + count; i++) {
        c.accepted += marks[i].accepted != 0;
        c.lost += marks[i].accepted && !marks[i].taken;
        c.duplicates += marks[i].taken ? marks[i].taken - 1 : 0;
        c.unanswered_taken += !marks[i].accepted && marks[i].taken;
    }
    return c;
}
