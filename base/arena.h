/* Memory that is freed all at once: one per transaction, batch or parse.  One thread at a time. */
#pragma once

#include <stddef.h>

#include "base/bytes.h"

struct arena_block;

struct arena {
    struct arena_block *blocks; /* owned */
    char *at, *end;
    size_t total_bytes;         /* handed out so far */
};

/* A zeroed struct is an empty arena. */
void arena_fini(struct arena *a);  /* frees all; the arena is empty and usable again */
void *arena_alloc(struct arena *a, size_t bytes); /* aligned for any type, not zeroed */
void *arena_zalloc(struct arena *a, size_t bytes);
char *arena_dup(struct arena *a, struct bytes s); /* a NUL follows */
char *arena_strdup(struct arena *a, const char *s); /* NULL stays NULL */
char *arena_printf(struct arena *a, const char *format, ...) PRINTF_LIKE(2, 3);

#define ARENA_NEW(a, type) ((type *)arena_zalloc((a), sizeof(type)))
