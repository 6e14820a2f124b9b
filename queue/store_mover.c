/*
 * Stragglers: when less than a tenth of a segment is still wanted, that is copied to the current segment, so
 * that the old one can be deleted.  The file itself tells what lies in it, and the message rows tell what of
 * that is wanted, so nothing indexes messages by segment.
 *
 * A content that messages share stays where it is: it lies alone in its file, which is never mostly dead.
 *
 * Only messages with no recipient leased are moved: whoever holds a job may be reading at the old place.  A
 * segment with such a message is looked at again later.
 */
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "queue/store_priv.h"

#define WORTH_BYTES  (256LL * 1024) /* smaller segments are not worth the work */
#define LIVE_SHARE   10             /* move when live * LIVE_SHARE < total */
#define STEP_RECORDS 256
#define STEP_BYTES   (1024U * 1024)
#define AGAIN_MS     60000

struct mover {
    uint64_t segment;
    uint64_t end_bytes;
    uint64_t at, before; /* in the file: now, and when the transaction began */
    bool skipped, skipped_before;
    bool over;
    struct body *bodies[STEP_RECORDS]; /* being copied: they must live until the sync */
    size_t count;
};

void store_mover_look(struct store *s)
{
    struct store_segment *best = NULL;
    uint64_t now = clock_now_ms();
    size_t at = 0;

    if (s->mover || !s->segments_dirty)
        return;
    bool later = false;
    for (struct store_segment *g; (g = map_next(&s->segments, &at));) {
        if (g->id == s->spool_current || g->unmovable || g->live_bytes <= 0 || g->total_bytes < WORTH_BYTES ||
            g->live_bytes * LIVE_SHARE >= g->total_bytes)
            continue;
        later |= g->move_after_ms > now;
        if (g->move_after_ms <= now && (!best || g->live_bytes < best->live_bytes))
            best = g;
    }
    s->segments_dirty = best || later;
    if (!best)
        return;
    s->mover = MEM_NEW(struct mover);
    s->mover->segment = best->id;
    s->mover->end_bytes = SPOOL_FILE_BYTES + (uint64_t)best->total_bytes;
}

/* Is this record what a message row points to? */
static enum err is_wanted(struct store *s, const struct mover *m, const struct spool_record *r, bool *yes)
{
    sqlite3_stmt *st = s->st[ST_MESSAGE_PLACE];
    bool row;

    sql_bind_int(st, 1, (int64_t)r->message_id);
    enum err e = sql_step(st, &row);
    *yes = false;
    if (e || !row)
        return e;
    *yes = (uint64_t)sqlite3_column_int64(st, 0) == m->segment &&
           (uint64_t)sqlite3_column_int64(st, 2) == r->offset;
    (void)sqlite3_reset(st);
    return OK;
}

static enum err move(struct store *s, struct mover *m, const struct spool_record *r)
{
    sqlite3_stmt *st = s->st[ST_MESSAGE_MOVE];
    struct body *b = body_create(NULL, r->size_bytes);
    struct spool_place place;

    b->segment = m->segment;
    b->offset = r->offset;
    b->checksum = r->checksum;
    m->bodies[m->count++] = b;
    enum err e = spool_load(s->spool, b);
    if (!e && r->kind == SPOOL_HEADER)
        e = spool_put_header(s->spool, r->message_id, bytes_make(b->mem, b->size_bytes), b->checksum, &place);
    else if (!e)
        e = spool_put(s->spool, r->message_id, b, &place);
    if (e)
        return e;
    sql_bind_int(st, 1, (int64_t)r->message_id);
    sql_bind_int(st, 2, (int64_t)place.segment);
    sql_bind_int(st, 3, (int64_t)place.offset);
    e = sql_run(st);
    if (e)
        return e;
    int64_t octets = (int64_t)r->size_bytes + SPOOL_RECORD_BYTES;
    store_segment_change(s, m->segment, -octets, 0);
    store_segment_change(s, place.segment, octets, octets);
    return OK;
}

/* Bodies that cannot be read stay where they are: the attempt to send them will say so. */
static void give_up(struct store *s, struct mover *m, enum err e)
{
    struct store_segment *g = store_segment_find(s, m->segment);

    log_error(NULL, "spool.move", LOG_INT("segment", m->segment), LOG_INT("at", m->at), LOG_ERR(e));
    if (g)
        g->unmovable = true;
    m->over = true;
}

void store_mover_step(struct store *s)
{
    struct mover *m = s->mover;
    uint64_t octets = 0;

    if (!m || spool_is_full(s->spool))
        return;
    m->before = m->at;
    m->skipped_before = m->skipped;
    for (int i = 0; i < STEP_RECORDS && octets < STEP_BYTES && !m->over; i++) {
        struct spool_record r;
        bool wanted;
        enum err e = spool_next_record(s->spool, m->segment, m->end_bytes, &m->at, &r);
        if (e) {
            m->over = true;
            if (e != ERR_NOT_FOUND)
                give_up(s, m, e);
            store_begin(s); /* its end is told with a commit, like everything */
            return;
        }
        e = is_wanted(s, m, &r, &wanted);
        if (!e && wanted && leases_find(&s->leases, r.message_id)) {
            m->skipped = true;
        } else if (!e && wanted) {
            store_begin(s);
            if (s->failed)
                return;
            e = move(s, m, &r);
            octets += r.size_bytes;
        }
        if (e == ERR_CORRUPT || e == ERR_INVALID) {
            give_up(s, m, e);
            store_begin(s);
        } else if (e) {
            store_fail(s, e);
            return;
        }
    }
}

static void free_bodies(struct mover *m)
{
    while (m->count)
        body_unref(m->bodies[--m->count]);
}

void store_mover_done(struct store *s, bool kept)
{
    struct mover *m = s->mover;

    if (!m)
        return;
    free_bodies(m);
    if (!kept) {
        m->at = m->before;
        m->skipped = m->skipped_before;
        m->over = false;
        return;
    }
    if (!m->over)
        return;
    struct store_segment *g = store_segment_find(s, m->segment);
    if (g && m->skipped)
        g->move_after_ms = clock_now_ms() + AGAIN_MS;
    else if (g && g->live_bytes > 0)
        g->unmovable = true; /* rows point to where no record begins: never again */
    s->mover = NULL;
    mem_free(m);
}

void store_mover_destroy(struct store *s)
{
    if (!s->mover)
        return;
    free_bodies(s->mover);
    mem_free(s->mover);
    s->mover = NULL;
}
