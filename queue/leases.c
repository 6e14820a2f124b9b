#include "queue/leases.h"

#include <string.h>
#include <sys/random.h>

#include "base/macros.h"
#include "base/mem.h"

#define FIRST_SLOTS 1024

static size_t home(const struct leases *l, uint64_t id)
{
    uint64_t h = (id ^ l->seed) * 0x9e3779b97f4a7c15;
    return (size_t)(h ^ h >> 29) & (l->cap - 1);
}

void leases_fini(struct leases *l)
{
    for (size_t i = 0; i < l->cap; i++)
        if (l->slots[i].more_words)
            mem_free(l->slots[i].more);
    mem_free(l->slots);
    *l = (struct leases){0};
}

static struct lease *slot_of(const struct leases *l, uint64_t id)
{
    size_t i = home(l, id);

    while (l->slots[i].message_id && l->slots[i].message_id != id)
        i = (i + 1) & (l->cap - 1);
    return &l->slots[i];
}

struct lease *leases_find(const struct leases *l, uint64_t message_id)
{
    if (!l->cap)
        return NULL;
    struct lease *slot = slot_of(l, message_id);
    return slot->message_id ? slot : NULL;
}

static bool has_bit(const struct lease *e, uint32_t no)
{
    if (!e->more_words)
        return no < 64 && (e->bits >> no & 1);
    return no / 64 < e->more_words && (e->more[no / 64] >> (no % 64) & 1);
}

bool leases_has(const struct leases *l, uint64_t message_id, uint32_t no)
{
    const struct lease *e = leases_find(l, message_id);
    return e && has_bit(e, no);
}

static void resize(struct leases *l, size_t cap)
{
    struct leases old = *l;

    if (!l->seed && getrandom(&l->seed, sizeof(l->seed), 0) != (ssize_t)sizeof(l->seed))
        l->seed = (uintptr_t)l | 1;
    l->slots = mem_zalloc(cap * sizeof(*l->slots));
    l->cap = cap;
    for (size_t i = 0; i < old.cap; i++)
        if (old.slots[i].message_id)
            *slot_of(l, old.slots[i].message_id) = old.slots[i];
    mem_free(old.slots);
}

static void widen(struct lease *e, uint32_t no)
{
    uint32_t words = MAX_OF(no / 64 + 1, e->more_words * 2);
    uint64_t *more = mem_zalloc(words * sizeof(*more));

    if (e->more_words) {
        memcpy(more, e->more, e->more_words * sizeof(*more));
        mem_free(e->more);
    } else {
        more[0] = e->bits;
    }
    e->more = more;
    e->more_words = words & INT32_MAX;
}

struct lease *leases_take(struct leases *l, uint64_t message_id, uint32_t no)
{
    if ((l->messages + 1) * 4 > l->cap * 3)
        resize(l, l->cap ? l->cap * 2 : FIRST_SLOTS);
    struct lease *e = slot_of(l, message_id);
    if (!e->message_id) {
        *e = (struct lease){.message_id = message_id, .left = LEASE_LEFT_UNKNOWN};
        l->messages++;
    }
    if (has_bit(e, no))
        return e;
    if (no >= 64 && no / 64 >= e->more_words)
        widen(e, no);
    if (e->more_words)
        e->more[no / 64] |= (uint64_t)1 << (no % 64);
    else
        e->bits |= (uint64_t)1 << no;
    e->count++;
    l->rcpts++;
    return e;
}

/* Closes the gap that a removed entry leaves, so that searches need no tombstones. */
static void remove_slot(struct leases *l, size_t gap)
{
    for (size_t i = (gap + 1) & (l->cap - 1); l->slots[i].message_id; i = (i + 1) & (l->cap - 1)) {
        size_t want = home(l, l->slots[i].message_id);
        if (((i - want) & (l->cap - 1)) < ((i - gap) & (l->cap - 1)))
            continue; /* it would stand before its home */
        l->slots[gap] = l->slots[i];
        gap = i;
    }
    l->slots[gap] = (struct lease){0};
}

bool leases_drop(struct leases *l, uint64_t message_id, uint32_t no)
{
    struct lease *e = leases_find(l, message_id);

    if (!e || !has_bit(e, no))
        return false;
    if (e->more_words)
        e->more[no / 64] &= ~((uint64_t)1 << (no % 64));
    else
        e->bits &= ~((uint64_t)1 << no);
    l->rcpts--;
    if (--e->count)
        return true;
    if (e->more_words)
        mem_free(e->more);
    l->messages--;
    remove_slot(l, (size_t)(e - l->slots));
    if (l->cap > FIRST_SLOTS && l->messages * 8 < l->cap)
        resize(l, l->cap / 2);
    return true;
}
