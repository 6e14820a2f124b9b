#include "queue/accounts_priv.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"

struct accounts {
    atomic_uint refs;
    uint64_t generation;
    struct account *list; /* owned, sorted by name */
    size_t count;
    struct map by_name;
};

static void free_texts(char **list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        mem_free(list[i]);
    mem_free(list);
}

static char **copy_texts(char *const *list, size_t count)
{
    char **copy = count ? mem_alloc(count * sizeof(*copy)) : NULL;

    for (size_t i = 0; i < count; i++)
        copy[i] = mem_strdup(list[i]);
    return copy;
}

void account_fini(struct account *a)
{
    mem_free(a->name);
    explicit_bzero(a->stored_key, sizeof(a->stored_key));
    explicit_bzero(a->server_key, sizeof(a->server_key));
    free_texts(a->sender_domains, a->sender_domain_count);
    free_texts(a->certificates, a->certificate_count);
    mem_free(a->networks);
    mem_free(a->campaign);
    *a = (struct account){0};
}

void account_copy(struct account *to, const struct account *from)
{
    *to = *from;
    to->name = mem_strdup(from->name);
    to->campaign = from->campaign ? mem_strdup(from->campaign) : NULL;
    to->sender_domains = copy_texts(from->sender_domains, from->sender_domain_count);
    to->certificates = copy_texts(from->certificates, from->certificate_count);
    to->networks = NULL;
    if (from->network_count) {
        to->networks = mem_alloc(from->network_count * sizeof(*to->networks));
        memcpy(to->networks, from->networks, from->network_count * sizeof(*to->networks));
    }
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct account *)a)->name, ((const struct account *)b)->name);
}

struct accounts *accounts_create(struct account *list, size_t count, uint64_t generation)
{
    struct accounts *a = MEM_NEW(struct accounts);

    atomic_init(&a->refs, 1);
    a->generation = generation;
    a->list = list;
    a->count = count;
    if (count > 1)
        qsort(list, count, sizeof(*list), by_name);
    for (size_t i = 0; i < count; i++)
        map_put(&a->by_name, bytes_of(list[i].name), &list[i]);
    return a;
}

struct accounts *accounts_ref(struct accounts *a)
{
    atomic_fetch_add_explicit(&a->refs, 1, memory_order_relaxed);
    return a;
}

void accounts_unref(struct accounts *a)
{
    if (!a || atomic_fetch_sub_explicit(&a->refs, 1, memory_order_acq_rel) != 1)
        return;
    map_fini(&a->by_name);
    for (size_t i = 0; i < a->count; i++)
        account_fini(&a->list[i]);
    mem_free(a->list);
    mem_free(a);
}

size_t accounts_count(const struct accounts *a)
{
    return a->count;
}

const struct account *accounts_at(const struct accounts *a, size_t i)
{
    return &a->list[i];
}

const struct account *accounts_find(const struct accounts *a, struct bytes name)
{
    return map_find(&a->by_name, name);
}

uint64_t accounts_generation(const struct accounts *a)
{
    return a->generation;
}
