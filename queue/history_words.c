#include "queue/history_priv.h"

#include <string.h>

#include "base/hash.h"
#include "base/mem.h"

/*
 * Two generations: what is used moves to the young one; when that is full, the old one is dropped whole.  So
 * memory is bounded, what is in use stays, and nothing is sorted by age.
 */

struct word {
    int64_t id;
    size_t len;
    char text[];
};

static void drop_all(struct map *m)
{
    void *value;

    for (size_t at = 0; (value = map_next(m, &at));)
        mem_free(value);
    map_fini(m);
}

static void age(struct map *young, struct map *old, size_t limit)
{
    if (young->count < limit)
        return;
    drop_all(old);
    *old = *young;
    *young = (struct map){0};
}

void words_fini(struct words *w)
{
    drop_all(&w->young);
    drop_all(&w->old);
    *w = (struct words){0};
}

int64_t words_find(struct words *w, struct bytes text)
{
    struct word *word = map_find(&w->young, text);

    if (!word) {
        word = map_remove(&w->old, text);
        if (!word)
            return 0;
        age(&w->young, &w->old, WORDS_GENERATION);
        map_put(&w->young, bytes_make(word->text, word->len), word);
    }
    return word->id;
}

void words_put(struct words *w, struct bytes text, int64_t id)
{
    struct word *word = mem_alloc(sizeof(*word) + text.len);

    word->id = id;
    word->len = text.len;
    if (text.len)
        memcpy(word->text, text.at, text.len);
    age(&w->young, &w->old, WORDS_GENERATION);
    map_put(&w->young, bytes_make(word->text, word->len), word);
}

bool words_seen(struct words *w, struct bytes text)
{
    uint64_t hash = hash_bytes(text) | 1; /* never the empty mark */
    uint64_t *slot = &w->once[(hash >> 32) % WORDS_ONCE];

    if (*slot == hash)
        return true;
    *slot = hash;
    return false;
}

static struct bytes key_bytes(const struct shape_key *key)
{
    return bytes_make(key, sizeof(*key));
}

void shapes_fini(struct shapes *s)
{
    drop_all(&s->young);
    drop_all(&s->old);
    *s = (struct shapes){0};
}

struct shape *shapes_find(struct shapes *s, const struct shape_key *key)
{
    struct shape *shape = map_find(&s->young, key_bytes(key));

    if (!shape) {
        shape = map_remove(&s->old, key_bytes(key));
        if (shape) {
            age(&s->young, &s->old, SHAPES_GENERATION);
            map_put(&s->young, key_bytes(&shape->key), shape);
        }
    }
    return shape;
}

struct shape *shapes_put(struct shapes *s, const struct shape_key *key, int64_t id)
{
    struct shape *shape = MEM_NEW(struct shape);

    shape->key = *key;
    shape->id = id;
    age(&s->young, &s->old, SHAPES_GENERATION);
    map_put(&s->young, key_bytes(&shape->key), shape);
    return shape;
}
