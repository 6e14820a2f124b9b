/*
 * The timeline of a recipient, message or domain.  Day files have no index for that: the newest records are
 * read backwards, block by block, and a block whose filter (history_filter.c) knows nothing of the key is not
 * read.
 */
#include "queue/report_priv.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

#define NEWEST_PRESET 100

struct search {
    const struct report_which *which;
    struct report_deadline deadline;
    size_t wanted;
    uint64_t hashes[3];
    size_t hash_count;
    struct report_attempts *found; /* newest first while searching */
    size_t cap;
    sqlite3 *db;         /* the file being read */
    sqlite3_stmt *range; /* records of ids ?1 … ?2, newest first */
};

static void prepare_hashes(struct search *s)
{
    const struct report_which *w = s->which;

    if (w->message_id)
        s->hashes[s->hash_count++] = filter_hash_message(w->message_id);
    if (w->address)
        s->hashes[s->hash_count++] = filter_hash_address(bytes_of(w->address));
    if (w->domain)
        s->hashes[s->hash_count++] = filter_hash_domain(bytes_of(w->domain));
}

static bool block_may_have(const struct search *s, const uint8_t *filter)
{
    for (size_t i = 0; i < s->hash_count; i++)
        if (!filter_has(filter, s->hashes[i]))
            return false;
    return true;
}

static bool is_done(const struct search *s)
{
    return s->found->count >= s->wanted;
}

static void put_range_sql(struct buf *sql, const struct report_which *w)
{
    buf_puts(sql, record_select);
    buf_puts(sql, "WHERE a.id BETWEEN ?1 AND ?2");
    if (w->message_id)
        buf_puts(sql, " AND a.message = ?3");
    if (w->message_id && w->one_rcpt)
        buf_puts(sql, " AND a.rcpt = ?4");
    if (w->address)
        buf_puts(sql, " AND a.address = ?5 COLLATE NOCASE");
    if (w->domain)
        buf_puts(sql, " AND (SELECT text FROM word WHERE id = s.domain) = ?6");
    if (w->since_unix)
        buf_puts(sql, " AND a.at_ms >= ?7");
    if (w->in_doubt)
        buf_puts(sql, " AND a.in_doubt");
    if (w->campaign)
        buf_puts(sql, " AND coalesce((SELECT text FROM word WHERE id = s.campaign), '') = ?9");
    buf_puts(sql, " ORDER BY a.id DESC LIMIT ?8");
}

static void bind_fixed(sqlite3_stmt *s, const struct report_which *w)
{
    sqlite3_bind_int64(s, 3, (sqlite3_int64)w->message_id); /* an unused number is refused: no harm */
    sqlite3_bind_int64(s, 4, w->rcpt_no);
    report_bind_text(s, 5, w->address);
    report_bind_text(s, 6, w->domain);
    sqlite3_bind_int64(s, 7, w->since_unix * 1000);
    report_bind_text(s, 9, w->campaign);
}

static void add_record(struct search *s)
{
    struct report_attempts *r = s->found;

    if (r->count == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 16;
        struct report_attempt *rows = arena_alloc(&r->arena, cap * sizeof(*rows));
        if (r->count)
            memcpy(rows, r->rows, r->count * sizeof(*rows));
        r->rows = rows;
        s->cap = cap;
    }
    record_from_row(s->range, &r->arena, &r->rows[r->count++]);
}

static enum err search_range(struct search *s, int64_t first, int64_t last)
{
    int rc;

    sqlite3_bind_int64(s->range, 1, first);
    sqlite3_bind_int64(s->range, 2, last);
    sqlite3_bind_int64(s->range, 8, (sqlite3_int64)(s->wanted - s->found->count));
    while ((rc = sqlite3_step(s->range)) == SQLITE_ROW)
        add_record(s);
    sqlite3_reset(s->range);
    return history_sql_err(rc);
}

static enum err search_blocks(struct search *s, int64_t first)
{
    sqlite3_stmt *blocks = NULL;
    enum err e = OK;
    int rc = sqlite3_prepare_v2(
        s->db, "SELECT first_id, last_id, filter FROM block WHERE last_id >= ? ORDER BY last_id DESC", -1,
        &blocks, NULL);

    if (rc == SQLITE_OK) {
        sqlite3_bind_int64(blocks, 1, first);
        while (!e && !is_done(s) && (rc = sqlite3_step(blocks)) == SQLITE_ROW) {
            int64_t from = sqlite3_column_int64(blocks, 0), to = sqlite3_column_int64(blocks, 1);
            bool whole = sqlite3_column_bytes(blocks, 2) == FILTER_BYTES;
            if (!whole || block_may_have(s, sqlite3_column_blob(blocks, 2)))
                e = search_range(s, MAX_OF(from, first), to);
        }
    }
    sqlite3_finalize(blocks);
    return e ? e : history_sql_err(rc);
}

/* The first record that can have ended at since_unix or later. */
static enum err first_id(struct search *s, int64_t *out)
{
    BUF_LOCAL(sql);

    *out = 0;
    if (!s->which->since_unix)
        return OK;
    buf_putf(&sql, "SELECT min(id) FROM mark WHERE minute >= %lld",
             (long long)floor_div(s->which->since_unix, 60) - 1);
    return history_sql_number(s->db, buf_str(&sql), INT64_MAX, out);
}

static enum err search_connection(struct search *s)
{
    BUF_LOCAL(sql);
    int64_t first, blocks_end;
    enum err e = history_sql_err(sqlite3_exec(s->db, "BEGIN", NULL, NULL, NULL)); /* one view of the file */

    put_range_sql(&sql, s->which);
    if (!e)
        e = history_sql_err(sqlite3_prepare_v2(s->db, buf_str(&sql), -1, &s->range, NULL));
    if (!e)
        e = first_id(s, &first);
    if (!e)
        e = history_sql_number(s->db, "SELECT max(last_id) FROM block", 0, &blocks_end);
    if (e)
        return e;
    bind_fixed(s->range, s->which);
    e = search_range(s, MAX_OF(blocks_end + 1, first), INT64_MAX);
    return e || is_done(s) ? e : search_blocks(s, first);
}

static enum err search_file(struct search *s, const char *path)
{
    enum err e = history_file_read(path, &s->db);

    if (e)
        return e == ERR_AGAIN ? OK : e;
    report_set_deadline(s->db, &s->deadline);
    s->range = NULL;
    e = search_connection(s);
    sqlite3_finalize(s->range);
    sqlite3_close(s->db);
    return e;
}

static int by_id(const void *a, const void *b)
{
    const struct report_attempt *x = a, *y = b;

    return x->id < y->id ? -1 : x->id > y->id;
}

enum err report_attempts(const char *dir, const struct report_which *which, struct report_attempts *out)
{
    struct report_attempts found = {0};
    struct search s = {.which = which, .found = &found};
    struct history_files files;
    enum err e = history_files_list(dir, &files);

    if (e)
        return e;
    s.wanted = which->newest ? which->newest : NEWEST_PRESET;
    s.deadline.at_ms = which->timeout_ms ? clock_now_ms() + which->timeout_ms : 0;
    prepare_hashes(&s);
    for (size_t i = files.count; i-- > 0 && !e && !is_done(&s);) {
        const struct history_file *f = &files.items[i];
        if (which->since_unix && f->day < floor_div(which->since_unix, SECS_PER_DAY) - 1)
            break;
        e = report_skip(f, search_file(&s, f->path), &found.files_skipped);
    }
    history_files_fini(&files);
    found.cut_short = e == ERR_TIMEOUT;
    if (e && e != ERR_TIMEOUT) {
        arena_fini(&found.arena);
        return e;
    }
    if (found.count)
        qsort(found.rows, found.count, sizeof(*found.rows), by_id);
    *out = found;
    return OK;
}

void report_attempts_fini(struct report_attempts *r)
{
    arena_fini(&r->arena);
    *r = (struct report_attempts){0};
}
