/*
 * Seeded hash (SipHash-1-3) and an open-addressing map keyed by octets: keys come from outside, so
 * the seed is random per process.  Thread: hash any; a map one at a time.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"

uint64_t hash_bytes(struct bytes key); /* differs from process to process: never stored */
uint64_t hash_stable(struct bytes key); /* FNV-1a 64: the same everywhere, for sharding and for ids that are shown */

struct map_slot {
    const char *key; /* borrowed: lives in the value, which must outlive its entry */
    void *value;
    uint32_t key_len;
    uint32_t hash; /* its lower half */
};

/* A zeroed struct is an empty map.  Only a put resizes it, up or down. */
struct map {
    struct map_slot *slots; /* owned */
    size_t count, used, cap;
};

void map_fini(struct map *m); /* frees the table, not the values */
void *map_find(const struct map *m, struct bytes key); /* borrowed, or NULL */
/*
 * Replaces an entry of the same key, and its key too, and returns its value, else NULL.  `key` must live as long as the
 * entry.  `value` is never NULL.
 */
void *map_put(struct map *m, struct bytes key, void *value);
void *map_remove(struct map *m, struct bytes key); /* the value, or NULL */
/* Walks all values: start with *at = 0; NULL at the end.  No put while walking; remove is fine. */
void *map_next(const struct map *m, size_t *at);
