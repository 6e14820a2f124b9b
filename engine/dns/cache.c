#include "engine/dns/cache.h"

#include "base/mem.h"

/* An entry takes a few hundred octets; an answer of 64 KiB takes the room of thirty. */
#define BYTES_PER_ENTRY 2048

struct entry {
    struct list node;
    struct dns_answer *answer; /* counted */
    uint16_t key_len;
    char key[];
};

void dns_key_make(const char *name, uint16_t type, struct dns_key *out)
{
    size_t len = strlen(name);

    out->octets[0] = (char)(type >> 8);
    out->octets[1] = (char)(type & 0xff);
    memcpy(out->octets + 2, name, len + 1);
    out->len = (uint16_t)(len + 2);
}

void dns_cache_init(struct dns_cache *c, size_t entries_max)
{
    *c = (struct dns_cache){.entries_max = entries_max, .bytes_max = entries_max * BYTES_PER_ENTRY};
    list_init(&c->order);
}

static size_t entry_bytes(const struct entry *e)
{
    return sizeof(*e) + e->key_len + e->answer->bytes;
}

static void drop(struct dns_cache *c, struct entry *e)
{
    map_remove(&c->entries, bytes_make(e->key, e->key_len));
    list_remove(&e->node);
    c->bytes -= entry_bytes(e);
    dns_answer_unref(e->answer);
    mem_free(e);
}

void dns_cache_clear(struct dns_cache *c)
{
    struct list *node;

    while ((node = list_first(&c->order)))
        drop(c, LIST_ENTRY(node, struct entry, node));
}

void dns_cache_fini(struct dns_cache *c)
{
    dns_cache_clear(c);
    map_fini(&c->entries);
}

void dns_cache_put(struct dns_cache *c, const struct dns_key *key, struct dns_answer *answer)
{
    struct entry *e = map_find(&c->entries, dns_key_bytes(key));

    if (e)
        drop(c, e);
    e = mem_alloc(sizeof(*e) + key->len);
    e->answer = dns_answer_ref(answer);
    e->key_len = key->len;
    memcpy(e->key, key->octets, key->len);
    map_put(&c->entries, bytes_make(e->key, e->key_len), e);
    list_push_back(&c->order, &e->node);
    c->bytes += entry_bytes(e);
    while (c->entries.count > c->entries_max || c->bytes > c->bytes_max)
        drop(c, LIST_ENTRY(list_first(&c->order), struct entry, node));
}

struct dns_answer *dns_cache_find(struct dns_cache *c, const struct dns_key *key, uint64_t now_ms)
{
    struct entry *e = map_find(&c->entries, dns_key_bytes(key));

    if (!e)
        return NULL;
    if (e->answer->expires_ms <= now_ms) {
        drop(c, e);
        return NULL;
    }
    list_remove(&e->node);
    list_push_back(&c->order, &e->node);
    return e->answer;
}
