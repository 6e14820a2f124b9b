/* Which segment holds how much that is still wanted; deleting those that hold nothing. */
#include <string.h>

#include "base/mem.h"
#include "queue/store_priv.h"

static struct bytes key_of(const uint64_t *id)
{
    return bytes_make(id, sizeof(*id));
}

struct store_segment *store_segment_find(struct store *s, uint64_t id)
{
    return map_find(&s->segments, key_of(&id));
}

static struct store_segment *segment(struct store *s, uint64_t id)
{
    struct store_segment *g = store_segment_find(s, id);

    if (g)
        return g;
    g = MEM_NEW(struct store_segment);
    g->id = id;
    map_put(&s->segments, key_of(&g->id), g);
    return g;
}

void store_segment_change(struct store *s, uint64_t id, int64_t live, int64_t total)
{
    struct store_segment *g = segment(s, id);

    g->live_change += live;
    g->total_change += total;
    if (g->touched)
        return;
    g->touched = true;
    g->next_touched = s->touched;
    s->touched = g;
}

enum err store_load_segments(struct store *s)
{
    sqlite3_stmt *st;
    bool row;
    enum err e = sql_prepare(s->db, &st, "SELECT id, live_bytes, total_bytes FROM segment");

    while (!e && !(e = sql_step(st, &row)) && row) {
        struct store_segment *g = segment(s, (uint64_t)sqlite3_column_int64(st, 0));
        g->live_bytes = sqlite3_column_int64(st, 1);
        g->total_bytes = sqlite3_column_int64(st, 2);
        s->stats.spool_bytes += (uint64_t)g->total_bytes;
        spool_number_after(s->spool, g->id);
        if (g->live_bytes <= 0) /* it was kept for what might come */
            store_segment_change(s, g->id, 0, 0);
    }
    sqlite3_finalize(st);
    s->segments_dirty = true;
    return e;
}

enum err store_write_segments(struct store *s)
{
    uint64_t current = spool_current(s->spool);
    enum err e = OK;

    if (s->spool_current && s->spool_current != current) /* closed: it may have emptied while it was open */
        store_segment_change(s, s->spool_current, 0, 0);
    for (struct store_segment *g = s->touched; g && !e; g = g->next_touched) {
        int64_t live = g->live_bytes + g->live_change;
        g->gone = live <= 0 && g->id != current && !store_keeps_content(s, g->id);
        sqlite3_stmt *st = s->st[g->gone ? ST_SEGMENT_DELETE : ST_SEGMENT_PUT];
        sql_bind_int(st, 1, (int64_t)g->id);
        if (!g->gone) {
            sql_bind_int(st, 2, live);
            sql_bind_int(st, 3, g->total_bytes + g->total_change);
        }
        e = sql_run(st);
    }
    return e;
}

void store_keep_segments(struct store *s, bool kept)
{
    int64_t grown = 0;

    for (struct store_segment *g = s->touched, *next; g; g = next) {
        next = g->next_touched;
        bool drop = kept && g->gone;
        if (kept) {
            s->segments_dirty |= g->live_change < 0;
            g->live_bytes += g->live_change;
            g->total_bytes += g->total_change;
            grown += g->total_change;
        } else {
            drop = !g->total_bytes && !g->live_bytes; /* known only to the transaction that failed */
        }
        g->live_change = g->total_change = 0;
        g->touched = g->gone = false;
        if (!drop)
            continue;
        if (kept)
            grown -= g->total_bytes;
        store_content_gone(s, g->id);
        map_remove(&s->segments, key_of(&g->id));
        int64_t size = (int64_t)s->config.segment_bytes;
        if (kept && g->total_bytes > size / 4 * 3 && g->total_bytes < size * 2)
            spool_retire(s->spool, g->id);
        else if (kept)
            spool_delete(s->spool, g->id);
        mem_free(g);
    }
    s->touched = NULL;
    if (kept && spool_current(s->spool)) /* else it stays, to be looked at when the next one is begun */
        s->spool_current = spool_current(s->spool);
    pthread_mutex_lock(&s->shared_lock);
    s->stats.spool_bytes = (uint64_t)((int64_t)s->stats.spool_bytes + grown);
    pthread_mutex_unlock(&s->shared_lock);
}

static void look_at_file(void *arg, uint64_t id)
{
    struct store *s = arg;

    spool_number_after(s->spool, id);
    if (store_segment_find(s, id))
        return;
    log_info(NULL, "spool.orphan", LOG_INT("segment", id)); /* of a batch that was never answered */
    spool_delete(s->spool, id);
}

enum err store_remove_orphans(struct store *s)
{
    return spool_list(s->spool, look_at_file, s);
}
