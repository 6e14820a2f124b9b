/* What the reports share: a row per key, and which rows are given in which order. */
#include "queue/report_priv.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* What report_row and report_by_key count on. */
_Static_assert(offsetof(struct report_delivery_row, key) == 0, "a row begins with its key");
_Static_assert(offsetof(struct report_tls_row, key) == 0, "a row begins with its key");
_Static_assert(offsetof(struct report_finals_row, campaign) == 0, "a row begins with its key");

void *report_row(struct map *by_key, struct arena *arena, struct bytes key, size_t row_bytes)
{
    const char **row = map_find(by_key, key);

    if (row || by_key->count >= REPORT_KEYS_MAX)
        return row;
    row = arena_zalloc(arena, row_bytes);
    *row = arena_dup(arena, key);
    map_put(by_key, bytes_of(*row), row);
    return row;
}

int report_by_key(const void *a, const void *b)
{
    const char *const *x = *(void *const *)a, *const *y = *(void *const *)b;

    return strcmp(*x, *y);
}

void *report_rows(const struct map *by_key, const struct report_query *q, const struct report_shape *shape,
                  struct arena *arena, struct report_span *span, size_t *count)
{
    void **rows = mem_alloc((by_key->count + 1) * sizeof(*rows)), *row;
    bool chronological = q->by == REPORT_BY_HOUR && q->sort == REPORT_SORT_VOLUME;
    size_t n = 0;

    for (size_t at = 0; (row = map_next(by_key, &at));)
        if (!shape->wanted || shape->wanted(row, q->only))
            rows[n++] = row;
    if (n)
        qsort(rows, n, sizeof(*rows), chronological ? report_by_key : shape->orders[q->sort]);
    span->rows_in_all = n;
    *count = q->limit ? MIN_OF(q->limit, n) : n;
    char *copies = arena_alloc(arena, (*count + 1) * shape->row_bytes);
    for (size_t i = 0; i < *count; i++) {
        shape->finish(rows[i]);
        memcpy(copies + i * shape->row_bytes, rows[i], shape->row_bytes);
    }
    mem_free(rows);
    return copies;
}
