#include "queue/history_priv.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"

/*
 * Ids ascend over all files, so the position is the id; since_day is not needed to find the rest.  It is not
 * used to leave out files either: after a clock that went back, newer records may lie in the file of an older
 * day.
 */
static const char finals[] =
    "SELECT a.id, a.message, a.rcpt, s.next, s.outcome, a.stage, a.code, a.enhanced, a.said, a.in_doubt,"
    " CASE typeof(a.text) WHEN 'integer' THEN (SELECT text FROM word WHERE id = a.text) ELSE a.text END"
    " FROM attempt a CROSS JOIN shape s ON s.id = a.shape WHERE a.id > ?1 AND s.next IN (?2, ?3) ORDER BY "
    "a.id";

static const struct log replay_log = {"task=replay"};

struct newer { /* a file with records above the position */
    const struct history_file *file;
    int64_t first_id, last_id;
};

/* What no repair brings back is skipped: the rest of the queue must still start.  Anything else may pass, and
 * must stop the start, because what is skipped is sent again. */
static enum err pass_over(const char *path, enum err e)
{
    if (e != ERR_CORRUPT && e != ERR_VERSION)
        return e;
    log_error(&replay_log, "history.file_unreadable", LOG_STR("file", path), LOG_ERR(e));
    return OK;
}

static int by_first_id(const void *a, const void *b)
{
    const struct newer *x = a, *y = b;

    return x->first_id < y->first_id ? -1 : x->first_id > y->first_id;
}

static void copy_column(char *to, size_t size, sqlite3_stmt *s, int column)
{
    const unsigned char *text = sqlite3_column_text(s, column);
    size_t len = text ? MIN_OF((size_t)sqlite3_column_bytes(s, column), size - 1) : 0;

    if (len)
        memcpy(to, text, len);
    to[len] = '\0';
}

static void outcome_from_row(sqlite3_stmt *s, struct outcome *o)
{
    memset(o, 0, sizeof(*o));
    o->kind = (enum outcome_kind)sqlite3_column_int(s, 4);
    o->stage = (enum outcome_stage)sqlite3_column_int(s, 5);
    o->code = (uint16_t)sqlite3_column_int(s, 6);
    copy_column(o->enhanced, sizeof(o->enhanced), s, 7);
    o->remote = sqlite3_column_int(s, 8) != 0;
    o->in_doubt = sqlite3_column_int(s, 9) != 0;
    copy_column(o->text, sizeof(o->text), s, 10);
}

/* *failed is what fn said; the result is what the file said. */
static enum err replay_file(const char *path, int64_t after, history_final_fn fn, void *arg, enum err *failed)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *s = NULL;
    struct outcome o;
    enum err e = history_file_read(path, &db);

    if (e)
        return e;
    int rc = sqlite3_prepare_v2(db, finals, -1, &s, NULL);
    if (rc == SQLITE_OK) {
        sqlite3_bind_int64(s, 1, after);
        sqlite3_bind_int(s, 2, THEN_REMOVE);
        sqlite3_bind_int(s, 3, THEN_DSN);
        while ((rc = sqlite3_step(s)) == SQLITE_ROW && !*failed) {
            outcome_from_row(s, &o);
            *failed = fn(arg, (uint64_t)sqlite3_column_int64(s, 1), (uint32_t)sqlite3_column_int64(s, 2),
                         (enum attempt_then)sqlite3_column_int(s, 3), &o);
        }
    }
    sqlite3_finalize(s);
    sqlite3_close(db);
    return history_sql_err(rc);
}

static enum err look_into(const char *path, int64_t after, struct newer *n)
{
    sqlite3 *db = NULL;
    enum err e = history_file_read(path, &db);
    BUF_LOCAL(sql);

    if (e)
        return e == ERR_AGAIN ? OK : e; /* made, and nothing in it yet */
    buf_putf(&sql, "SELECT min(id) FROM attempt WHERE id > %lld", (long long)after);
    e = history_sql_number(db, buf_str(&sql), 0, &n->first_id);
    if (!e)
        e = history_sql_number(db, "SELECT max(id) FROM attempt", 0, &n->last_id);
    sqlite3_close(db);
    return e;
}

static enum err find_newer(const struct history_files *files, int64_t after, struct newer *out, size_t *count)
{
    for (size_t i = 0; i < files->count; i++) {
        struct newer n = {.file = &files->items[i]};
        enum err e = look_into(n.file->path, after, &n);
        if (e)
            e = pass_over(n.file->path, e);
        else if (n.first_id)
            out[(*count)++] = n;
        if (e)
            return e;
    }
    qsort(out, *count, sizeof(*out), by_first_id);
    return OK;
}

enum err history_replay(const char *dir, int64_t since_day, int64_t since_row, history_final_fn fn, void *arg,
                        int64_t *last_day, int64_t *last_row)
{
    struct history_files files;
    enum err e = history_files_list(dir, &files), failed = OK;
    int64_t day = since_day, row = since_row;

    if (e)
        return e;
    struct newer *newer = mem_alloc((files.count + 1) * sizeof(*newer));
    size_t count = 0;
    e = find_newer(&files, since_row, newer, &count);
    for (size_t i = 0; i < count && !e && !failed; i++) {
        e = pass_over(newer[i].file->path, replay_file(newer[i].file->path, since_row, fn, arg, &failed));
        if (newer[i].last_id >= row) {
            row = newer[i].last_id;
            day = newer[i].file->day;
        }
    }
    mem_free(newer);
    history_files_fini(&files);
    if (e || failed)
        return failed ? failed : e;
    *last_day = day;
    *last_row = row;
    return OK;
}
