#include "base/hash.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/mem.h"

static uint64_t seed[2];
static pthread_once_t seeded = PTHREAD_ONCE_INIT;

static void make_seed(void)
{
    if (getrandom(seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
        abort();
}

static inline uint64_t rotate(uint64_t x, int n)
{
    return (x << n) | (x >> (64 - n));
}

static inline void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] = rotate(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] = rotate(v[2], 32);
}

uint64_t hash_bytes(struct bytes key)
{
    pthread_once(&seeded, make_seed);
    uint64_t v[4] = {seed[0] ^ 0x736f6d6570736575, seed[1] ^ 0x646f72616e646f6d, seed[0] ^ 0x6c7967656e657261,
                     seed[1] ^ 0x7465646279746573};
    size_t left = key.len;
    uint64_t last = (uint64_t)key.len << 56;

    for (const char *p = key.at; left >= 8; p += 8, left -= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        v[3] ^= word;
        sip_round(v);
        v[0] ^= word;
    }
    for (size_t i = 0; i < left; i++)
        last |= (uint64_t)(unsigned char)key.at[key.len - left + i] << (8 * i);
    v[3] ^= last;
    sip_round(v);
    v[0] ^= last;
    v[2] ^= 0xff;
    sip_round(v);
    sip_round(v);
    sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

uint64_t hash_stable(struct bytes key)
{
    uint64_t h = 0xcbf29ce484222325;

    for (size_t i = 0; i < key.len; i++)
        h = (h ^ (unsigned char)key.at[i]) * 0x100000001b3;
    return h;
}

/* A slot is free (key NULL, value NULL), dead (key NULL, value the marker) or live. */
static char dead;

static bool slot_is_live(const struct map_slot *s)
{
    return s->key != NULL;
}

static struct map_slot *find_slot(const struct map *m, struct bytes key, uint32_t hash)
{
    struct map_slot *reuse = NULL;

    for (size_t i = hash & (m->cap - 1);; i = (i + 1) & (m->cap - 1)) {
        struct map_slot *s = &m->slots[i];
        if (!slot_is_live(s)) {
            if (!s->value)
                return reuse ? reuse : s;
            if (!reuse)
                reuse = s;
        } else if (s->hash == hash && bytes_eq(bytes_make(s->key, s->key_len), key)) {
            return s;
        }
    }
}

/* Half full at most: as many puts again, or dead slots, as the map has entries until the next resize. */
static size_t roomy(size_t count)
{
    size_t cap = 16;

    while (cap / 2 < count + 1)
        cap *= 2;
    return cap;
}

static void resize(struct map *m, size_t cap)
{
    struct map old = *m;

    m->slots = mem_zalloc(cap * sizeof(*m->slots));
    m->cap = cap;
    m->used = m->count;
    for (size_t i = 0; i < old.cap; i++)
        if (slot_is_live(&old.slots[i]))
            *find_slot(m, bytes_make(old.slots[i].key, old.slots[i].key_len), old.slots[i].hash) =
                old.slots[i];
    mem_free(old.slots);
}

void map_fini(struct map *m)
{
    mem_free(m->slots);
    *m = (struct map){0};
}

void *map_find(const struct map *m, struct bytes key)
{
    if (!m->count)
        return NULL;
    struct map_slot *s = find_slot(m, key, (uint32_t)hash_bytes(key));
    return slot_is_live(s) ? s->value : NULL;
}

void *map_put(struct map *m, struct bytes key, void *value)
{
    uint32_t hash = (uint32_t)hash_bytes(key);

    assert(value && key.len <= UINT32_MAX);
    if ((m->used + 1) * 4 > m->cap * 3 || (m->cap > 64 && m->count < m->cap / 16))
        resize(m, roomy(m->count));
    struct map_slot *s = find_slot(m, key, hash);
    void *before = slot_is_live(s) ? s->value : NULL;
    if (!before) {
        m->count++;
        m->used += s->value == NULL; /* a dead slot was counted already */
    }
    *s = (struct map_slot){key.at ? key.at : "", value, (uint32_t)key.len, hash};
    return before;
}

void *map_remove(struct map *m, struct bytes key)
{
    if (!m->count)
        return NULL;
    struct map_slot *s = find_slot(m, key, (uint32_t)hash_bytes(key));
    if (!slot_is_live(s))
        return NULL;
    void *value = s->value;
    *s = (struct map_slot){.value = &dead};
    m->count--;
    return value;
}

void *map_next(const struct map *m, size_t *at)
{
    while (*at < m->cap) {
        const struct map_slot *s = &m->slots[(*at)++];
        if (slot_is_live(s))
            return s->value;
    }
    return NULL;
}
