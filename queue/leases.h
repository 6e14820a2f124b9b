/*
 * Which recipients are in somebody's hands: a seeded hash table by message id, each with a bitmap of its
 * recipients.  It also remembers of leased messages what a result needs, so that the hot path reads nothing back.
 * Thread: the store's.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LEASE_LEFT_UNKNOWN UINT32_MAX

/* What a message counts for in the segments that hold its body. */
struct body_weight {
    uint64_t segment, content_segment; /* the latter 0: it shares nothing */
    int64_t bytes, content_bytes;      /* with their record headers */
};

struct lease {
    uint64_t message_id;      /* 0: free slot */
    struct body_weight weight;
    uint32_t left;            /* rows of the message in the database, or LEASE_LEFT_UNKNOWN */
    uint32_t count;           /* leased recipients */
    uint32_t unsettled;       /* the message has no rows yet: 1 + its place among the accepts; else 0 */
    bool fresh : 1;           /* a hint: its rows are ROW_FRESH */
    uint32_t more_words : 31; /* 0: the bits are in `bits` */
    union {
        uint64_t bits;  /* recipients 0…63 */
        uint64_t *more; /* owned: recipients 0… as a larger bitmap */
    };
};

/* Storage is the caller's; zeroed is empty. */
struct leases {
    struct lease *slots; /* owned */
    size_t cap, messages, rcpts;
    uint64_t seed;
};
void leases_fini(struct leases *l);
/* Borrowed until the next take or drop; NULL when nothing of the message is leased. */
struct lease *leases_find(const struct leases *l, uint64_t message_id);
bool leases_has(const struct leases *l, uint64_t message_id, uint32_t no);
/* The message's entry, made if need be (then with left unknown); `no` is leased afterwards. */
struct lease *leases_take(struct leases *l, uint64_t message_id, uint32_t no);
bool leases_drop(struct leases *l, uint64_t message_id, uint32_t no); /* false: was not leased */
