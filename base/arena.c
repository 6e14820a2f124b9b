#include "base/arena.h"

#include <assert.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

#define BLOCK_BYTES 4096
#define ALIGNMENT   16

struct arena_block {
    struct arena_block *next;
    _Alignas(ALIGNMENT) char data[];
};

void arena_fini(struct arena *a)
{
    for (struct arena_block *b = a->blocks, *next; b; b = next) {
        next = b->next;
        mem_free(b);
    }
    *a = (struct arena){0};
}

static char *new_block(struct arena *a, size_t room)
{
    struct arena_block *b = mem_alloc(sizeof(*b) + room);

    b->next = a->blocks;
    a->blocks = b;
    return b->data;
}

void *arena_alloc(struct arena *a, size_t bytes)
{
    assert(bytes <= SIZE_MAX / 2);
    size_t need = (MAX_OF(bytes, (size_t)1) + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);

    a->total_bytes += need;
    if ((size_t)(a->end - a->at) < need) {
        if (need > BLOCK_BYTES / 4) /* a block of its own: what is left of the current one stays in use */
            return new_block(a, need);
        a->at = new_block(a, BLOCK_BYTES - sizeof(struct arena_block));
        a->end = a->at + BLOCK_BYTES - sizeof(struct arena_block);
    }
    void *p = a->at;
    a->at += need;
    return p;
}

void *arena_zalloc(struct arena *a, size_t bytes)
{
    return memset(arena_alloc(a, bytes), 0, bytes);
}

char *arena_dup(struct arena *a, struct bytes s)
{
    char *copy = arena_alloc(a, s.len + 1);

    if (s.len)
        memcpy(copy, s.at, s.len);
    copy[s.len] = '\0';
    return copy;
}

char *arena_strdup(struct arena *a, const char *s)
{
    return s ? arena_dup(a, bytes_of(s)) : NULL;
}

char *arena_printf(struct arena *a, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    int n = vsnprintf(NULL, 0, format, ap);
    va_end(ap);
    if (n < 0)
        abort();
    char *text = arena_alloc(a, (size_t)n + 1);
    va_start(ap, format);
    vsnprintf(text, (size_t)n + 1, format, ap);
    va_end(ap);
    return text;
}
