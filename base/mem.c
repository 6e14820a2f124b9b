#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *or_die(void *p, size_t bytes)
{
    if (!p && bytes) {
        fprintf(stderr, "hayauma: out of memory: %zu bytes\n", bytes);
        abort();
    }
    return p;
}

void *mem_alloc(size_t bytes)
{
    return or_die(malloc(bytes), bytes);
}

void *mem_zalloc(size_t bytes)
{
    return or_die(calloc(1, bytes), bytes);
}

void *mem_realloc(void *p, size_t bytes)
{
    return or_die(realloc(p, bytes), bytes);
}

char *mem_dup(const void *p, size_t bytes)
{
    char *copy = mem_alloc(bytes + 1);

    if (bytes)
        memcpy(copy, p, bytes);
    copy[bytes] = '\0';
    return copy;
}

char *mem_strdup(const char *s)
{
    return s ? mem_dup(s, strlen(s)) : NULL;
}

void mem_free(void *p)
{
    free(p);
}

void mem_wipe_free(void *p, size_t bytes)
{
    if (p)
        explicit_bzero(p, bytes);
    free(p);
}
