#include <pthread.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/list.h"
#include "base/mem.h"
#include "engine/probe/host.h"

#define KEPT_MS  600000
#define KEPT_MAX 4096

struct entry {
    struct list node;          /* oldest first */
    char *key;                 /* owned */
    struct probe_facts *facts; /* counted; NULL: under way */
    uint64_t until_ms;
};

struct probe_cache {
    pthread_mutex_t lock;
    struct map entries;
    struct list by_age;
};

struct probe_facts *probe_facts_ref(struct probe_facts *f)
{
    atomic_fetch_add(&f->refs, 1);
    return f;
}

void probe_facts_unref(struct probe_facts *f)
{
    if (!f || atomic_fetch_sub(&f->refs, 1) != 1)
        return;
    for (unsigned i = 0; i < f->chain_count; i++)
        mem_free(f->chain[i].data);
    mem_free(f->chain);
    mem_free(f);
}

struct probe_cache *probe_cache_create(void)
{
    struct probe_cache *c = MEM_NEW(struct probe_cache);

    pthread_mutex_init(&c->lock, NULL);
    list_init(&c->by_age);
    return c;
}

static void forget(struct probe_cache *c, struct entry *e)
{
    map_remove(&c->entries, bytes_of(e->key));
    list_remove(&e->node);
    probe_facts_unref(e->facts);
    mem_free(e->key);
    mem_free(e);
}

void probe_cache_destroy(struct probe_cache *c)
{
    if (!c)
        return;
    LIST_FOREACH_SAFE (node, &c->by_age)
        forget(c, LIST_ENTRY(node, struct entry, node));
    map_fini(&c->entries);
    pthread_mutex_destroy(&c->lock);
    mem_free(c);
}

/* What is under way stays: its owner will put something there. */
static void forget_old(struct probe_cache *c, uint64_t now_ms)
{
    LIST_FOREACH_SAFE (node, &c->by_age) {
        struct entry *e = LIST_ENTRY(node, struct entry, node);
        if (e->facts && (e->until_ms <= now_ms || c->entries.count > KEPT_MAX))
            forget(c, e);
    }
}

enum probe_cached probe_cache_take(struct probe_cache *c, const char *key, struct probe_facts **facts)
{
    enum probe_cached answer = PROBE_YOURS;

    pthread_mutex_lock(&c->lock);
    forget_old(c, clock_now_ms());
    struct entry *e = map_find(&c->entries, bytes_of(key));
    if (e && e->facts) {
        *facts = probe_facts_ref(e->facts);
        answer = PROBE_KNOWN;
    } else if (e) {
        answer = PROBE_UNDER_WAY;
    } else {
        e = MEM_NEW(struct entry);
        e->key = mem_strdup(key);
        list_push_back(&c->by_age, &e->node);
        map_put(&c->entries, bytes_of(e->key), e);
    }
    pthread_mutex_unlock(&c->lock);
    return answer;
}

void probe_cache_put(struct probe_cache *c, const char *key, struct probe_facts *facts)
{
    pthread_mutex_lock(&c->lock);
    struct entry *e = map_find(&c->entries, bytes_of(key));
    if (e && !e->facts) {
        e->facts = probe_facts_ref(facts);
        e->until_ms = clock_now_ms() + KEPT_MS;
    }
    pthread_mutex_unlock(&c->lock);
}
