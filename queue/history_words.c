#include "queue/history_priv.h"

#include <string.h>

#include "base/mem.h"

/*
 * Two generations: what is used moves to the young one; when that is full, the old one is dropped whole.  So
 * memory is bounded, what is in use stays, and nothing is sorted by age.
 *
 * Only the 64-bit keyed hash of a text is kept, not the text: with a hundred thousand texts a day the odds
 * that two of them ever meet are below one in a billion, and the key is secret, so nobody can bring it about.
 */
#define CAP_LEAST 256U

/* The slot with this hash, or the free one where it belongs. */
static struct known *slot_of(const struct known_table *t, uint64_t hash)
{
    size_t i = hash & (t->cap - 1);

    while (t->slots[i].hash && t->slots[i].hash != hash)
        i = (i + 1) & (t->cap - 1);
    return &t->slots[i];
}

static void grow(struct known_table *t)
{
    struct known_table more = {.cap = t->cap ? t->cap * 2 : CAP_LEAST, .count = t->count};

    more.slots = mem_zalloc(more.cap * sizeof(*more.slots));
    for (size_t i = 0; i < t->cap; i++)
        if (t->slots[i].hash)
            *slot_of(&more, t->slots[i].hash) = t->slots[i];
    mem_free(t->slots);
    *t = more;
}

static void drop(struct known_table *t)
{
    mem_free(t->slots);
    *t = (struct known_table){0};
}

void knowns_fini(struct knowns *k)
{
    drop(&k->young);
    drop(&k->old);
    *k = (struct knowns){0};
}

uint64_t known_hash(struct bytes text)
{
    uint64_t hash = hash_bytes(text);

    return hash ? hash : 1; /* 0 marks a free slot */
}

struct known *knowns_put(struct knowns *k, uint64_t hash, uint32_t id)
{
    if (k->young.count >= KNOWN_GENERATION) {
        drop(&k->old);
        k->old = k->young;
        k->young = (struct known_table){0};
    }
    if (k->young.count * 4 >= k->young.cap * 3)
        grow(&k->young);
    struct known *slot = slot_of(&k->young, hash);
    k->young.count += slot->hash == 0;
    *slot = (struct known){.hash = hash, .id = id};
    return slot;
}

struct known *knowns_find(struct knowns *k, uint64_t hash)
{
    struct known *slot = k->young.cap ? slot_of(&k->young, hash) : NULL;

    if (slot && slot->hash)
        return slot;
    slot = k->old.cap ? slot_of(&k->old, hash) : NULL;
    if (!slot || !slot->hash)
        return NULL;
    struct known copy = *slot; /* the put may drop the old generation */
    slot = knowns_put(k, hash, copy.id);
    *slot = copy;
    return slot;
}

bool seen_before(struct seen *s, uint64_t hash)
{
    uint64_t *slot = &s->hashes[(hash >> 32) % SEEN_ONCE];

    if (*slot == hash)
        return true;
    *slot = hash;
    return false;
}
