/*
 * Answers by (name, type) until they expire.  Bounded in entries and in memory; what was not used for the
 * longest time goes first.  Pure: the caller brings the clock.  One thread at a time.
 */
#pragma once

#include "base/hash.h"
#include "base/list.h"
#include "engine/dns/packet.h"

#define DNS_KEY_BYTES (2 + DNS_NAME_TEXT_BYTES)

/* The type's two octets, then the name and a NUL that is not counted: the key of caches and of questions
 * under way. */
struct dns_key {
    uint16_t len;
    char octets[DNS_KEY_BYTES];
};
void dns_key_make(const char *name, uint16_t type, struct dns_key *out);
static inline struct bytes dns_key_bytes(const struct dns_key *k)
{
    return bytes_make(k->octets, k->len);
}

struct dns_cache {
    struct map entries;
    struct list order; /* least recently used first */
    size_t entries_max, bytes_max, bytes;
};

void dns_cache_init(struct dns_cache *c, size_t entries_max);
void dns_cache_fini(struct dns_cache *c);
void dns_cache_clear(struct dns_cache *c);
/* Takes a reference of its own and replaces what was known; expires_ms tells until when. */
void dns_cache_put(struct dns_cache *c, const struct dns_key *key, struct dns_answer *answer);
/* Borrowed, or NULL. */
struct dns_answer *dns_cache_find(struct dns_cache *c, const struct dns_key *key, uint64_t now_ms);
