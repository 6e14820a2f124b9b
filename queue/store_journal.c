/*
 * Messages that were answered and had no rows yet when the last run ended: their envelopes stand in the
 * segments behind what the rows of `segment` count, or in segments without such a row.  They get their rows
 * before anything else happens, and with them the segments are counted to their ends, so that no later start
 * reads them again.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/mem.h"
#include "queue/crc32c.h"
#include "queue/store_priv.h"

struct segments {
    uint64_t *ids; /* owned */
    size_t count, cap;
};

static void note_segment(void *arg, uint64_t id)
{
    struct segments *all = arg;

    if (all->count == all->cap) {
        all->cap = MAX_OF(all->cap * 2, (size_t)64);
        all->ids = mem_realloc(all->ids, all->cap * sizeof(*all->ids));
    }
    all->ids[all->count++] = id;
}

/* Is the body what the envelope says?  Without a sync's end it may be anything. */
static bool body_is_whole(struct store *s, const struct envelope_body *body)
{
    struct body *b = body_create(NULL, body->size_bytes);
    char last;

    b->segment = body->segment;
    b->offset = body->offset;
    b->checksum = body->checksum;
    b->header_bytes = body->header_bytes;
    b->content_segment = body->content_segment;
    b->content_offset = body->content_offset;
    enum err e = OK;
    if (body->size_bytes > SPOOL_MEMORY_LIMIT) /* synced before its envelope was written */
        e = spool_read(s->spool, b, body->size_bytes - 1, 1, &last);
    else if (body->size_bytes)
        e = spool_load(s->spool, b);
    if (!e && body->size_bytes > SPOOL_MEMORY_LIMIT && body->content_segment)
        e = spool_check(s->spool, body->segment, body->offset);
    body_unref(b);
    return e == OK;
}

static void add(struct store *s, uint64_t segment, const struct spool_record *r, struct buf *octets,
                const struct envelope *e)
{
    struct accepted *x = store_add_accepted(s, e->message.rcpt_count);
    struct accepted_rcpt *rows = &s->accepted_rcpts[x->first_rcpt];

    x->id = e->message.id;
    x->due_unix = e->due_unix;
    x->body = e->body;
    x->envelope = *octets;
    *octets = (struct buf){0};
    x->envelope_place = (struct spool_place){segment, r->offset};
    x->is_counted = true;
    for (uint32_t i = 0; i < e->message.rcpt_count; i++)
        rows[i] = (struct accepted_rcpt){
            .domain = store_domain(s, bytes_of(e->message.rcpts[i].domain)),
            .no = e->message.rcpts[i].no,
            .state = e->states[i] < ROW_STATES ? e->states[i] : (uint8_t)ROW_READY,
        };
}

/* ERR_NOT_FOUND: no envelope, and nothing behind it counts. */
static enum err take_envelope(struct store *s, uint64_t segment, const struct spool_record *r)
{
    struct arena arena = {0};
    struct envelope envelope;
    struct buf octets = {0};
    enum err e = spool_read_envelope(s->spool, segment, r, &octets);

    if (!e && !envelope_parse(buf_bytes(&octets), &arena, &envelope))
        e = ERR_CORRUPT;
    if (!e && body_is_whole(s, &envelope.body))
        add(s, segment, r, &octets, &envelope);
    else if (!e)
        log_error(
            NULL, "spool.no_body", LOG_INT("message", envelope.message.id), LOG_INT("segment", segment),
            LOG_STR("why",
                    "its octets are not those that were accepted: it was cut short by a crash before its "
                    "answer, or the disk has lost it"));
    buf_fini(&octets);
    arena_fini(&arena);
    return e == ERR_CORRUPT ? ERR_NOT_FOUND : e;
}

static enum err scan(struct store *s, uint64_t segment)
{
    const struct store_segment *known = store_segment_find(s, segment);
    uint64_t start = SPOOL_FILE_BYTES + (known ? (uint64_t)known->total_bytes : 0), at = start, end = start;
    struct spool_record r;
    enum err e;

    spool_number_after(s->spool, segment);
    while (!(e = spool_next_record(s->spool, segment, UINT64_MAX, &at, &r))) {
        if (r.kind == SPOOL_ENVELOPE)
            e = take_envelope(s, segment, &r);
        if (e)
            break;
        end = at;
    }
    if (e != ERR_NOT_FOUND && e != ERR_CORRUPT)
        return e;
    if (end > start) /* with nothing alive in it, the commit deletes it */
        store_segment_change(s, segment, 0, (int64_t)(end - start));
    return OK;
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

/* The key of the run whose envelopes are there. */
static enum err take_key(struct store *s)
{
    sqlite3_stmt *st = NULL;
    bool row = false;
    enum err e = sql_prepare(s->db, &st, "SELECT value FROM meta WHERE key = 'spool_key'");

    if (!e)
        e = sql_step(st, &row);
    if (!e && row)
        spool_set_key(s->spool, bytes_make(sqlite3_column_blob(st, 0), (size_t)sqlite3_column_bytes(st, 0)));
    sqlite3_finalize(st);
    return e;
}

enum err store_new_spool_key(struct store *s, char out[SPOOL_KEY_BYTES])
{
    sqlite3_stmt *st = s->st[ST_META_PUT];

    if (getrandom(out, SPOOL_KEY_BYTES, 0) != SPOOL_KEY_BYTES)
        return ERR_IO;
    sql_bind_text(st, 1, "spool_key");
    sql_bind_blob(st, 2, out, SPOOL_KEY_BYTES);
    return sql_run(st);
}

enum err store_recover(struct store *s)
{
    struct segments all = {0};
    enum err e = take_key(s);

    if (!e)
        e = spool_list(s->spool, note_segment, &all);

    if (all.count)
        qsort(all.ids, all.count, sizeof(*all.ids), by_number);
    for (size_t i = 0; !e && i < all.count; i++)
        e = scan(s, all.ids[i]);
    mem_free(all.ids);
    if (!e && s->accept_count) {
        log_info(NULL, "store.recovered", LOG_INT("messages", s->accept_count),
                 LOG_INT("recipients", s->accepted_rcpt_count));
        for (size_t i = 0; i < s->accept_count; i++)
            s->fresh_max_id = MAX_OF(s->fresh_max_id, s->accepts[i].id);
        store_insert_accepts(s, false);
        e = s->failed;
    }
    s->first_id = s->fresh_max_id + 1;
    return e;
}
