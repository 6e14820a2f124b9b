/*
 * Following costs the writer nothing: a follower reads the records from the day files, by id, as reports do,
 * and the history thread only rings when somebody waits.
 */
#include "queue/history_thread.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "queue/report_priv.h"

void follow_announce(struct history *h)
{
    atomic_store(&h->safe_id, h->last_id);
    if (atomic_load(&h->followers))
        follow_wake_all(h);
}

void follow_wake_all(struct history *h)
{
    pthread_mutex_lock(&h->follow_lock);
    pthread_cond_broadcast(&h->follow_cond);
    pthread_mutex_unlock(&h->follow_lock);
}

static void wait_for_more(struct history *h, int64_t after, uint32_t wait_ms)
{
    struct timespec until;
    int rc = 0;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += wait_ms / 1000;
    until.tv_nsec += (long)(wait_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&h->follow_lock);
    while (atomic_load(&h->safe_id) <= after && !atomic_load(&h->stopping) && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&h->follow_cond, &h->follow_lock, &until);
    pthread_mutex_unlock(&h->follow_lock);
}

/* Appends what this file has above `after`, at most `max` lines, oldest first; `newest`: the last `max` of
 * it. */
static enum err read_file(const char *path, int64_t after, bool newest, size_t max, struct buf *out,
                          size_t *lines, int64_t *last)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *s = NULL;
    BUF_LOCAL(sql);
    enum err e = history_file_read(path, &db);

    if (e)
        return e == ERR_AGAIN ? OK : e;
    buf_puts(&sql, record_select);
    buf_puts(&sql,
             newest ? "WHERE a.id > ?1 AND a.id >= (SELECT min(id) FROM (SELECT id FROM attempt ORDER BY id"
                      " DESC LIMIT ?2)) ORDER BY a.id"
                    : "WHERE a.id > ?1 ORDER BY a.id LIMIT ?2");
    int rc = sqlite3_prepare_v2(db, buf_str(&sql), -1, &s, NULL);
    if (rc == SQLITE_OK) {
        sqlite3_bind_int64(s, 1, after);
        sqlite3_bind_int64(s, 2, (sqlite3_int64)max);
        while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
            struct arena arena = {0};
            struct report_attempt record;
            record_from_row(s, &arena, &record);
            report_attempt_json(&record, out);
            buf_putc(out, '\n');
            *last = (int64_t)record.id;
            (*lines)++;
            arena_fini(&arena);
        }
    }
    sqlite3_finalize(s);
    sqlite3_close(db);
    return history_sql_err(rc);
}

/* Does this file hold records above `after`? */
static bool has_newer(const char *path, int64_t after, int64_t *first)
{
    sqlite3 *db = NULL;
    BUF_LOCAL(sql);

    if (history_file_read(path, &db))
        return false;
    buf_putf(&sql, "SELECT min(id) FROM attempt WHERE id > %lld", (long long)after);
    if (history_sql_number(db, buf_str(&sql), 0, first))
        *first = 0;
    sqlite3_close(db);
    return *first != 0;
}

/*
 * The file with the oldest record above `after`: mostly the one in use; at midnight also the one before.
 * Going back over the days ends at the first that has nothing.
 */
static char *file_to_read(struct history *h, int64_t after)
{
    struct history_files files;
    int64_t best_id = 0, first;

    pthread_mutex_lock(&h->follow_lock);
    char *best = mem_strdup(h->current_path);
    pthread_mutex_unlock(&h->follow_lock);
    if (best && has_newer(best, after, &first))
        best_id = first;
    if (history_files_list(h->dir, &files))
        return best;
    for (size_t i = files.count; i-- > 0;) {
        if (best && strcmp(files.items[i].path, best) == 0)
            continue;
        if (!has_newer(files.items[i].path, after, &first))
            break;
        if (!best_id || first < best_id) {
            mem_free(best);
            best = mem_strdup(files.items[i].path);
            best_id = first;
        }
    }
    history_files_fini(&files);
    return best;
}

static uint64_t read_after(struct history *h, int64_t after, size_t max_lines, struct buf *out)
{
    size_t lines = 0;
    int64_t last = after;

    while (lines < max_lines && atomic_load(&h->safe_id) > last) {
        size_t before = lines;
        char *path = file_to_read(h, last);
        enum err e =
            path ? read_file(path, last, false, max_lines - lines, out, &lines, &last) : ERR_NOT_FOUND;
        mem_free(path);
        if (e || lines == before)
            break;
    }
    return (uint64_t)last;
}

static uint64_t read_newest(struct history *h, size_t max_lines, struct buf *out)
{
    size_t lines = 0;
    int64_t last = atomic_load(&h->safe_id);

    pthread_mutex_lock(&h->follow_lock);
    char *path = mem_strdup(h->current_path);
    pthread_mutex_unlock(&h->follow_lock);
    if (!path) { /* nothing written since the start */
        struct history_files files;
        if (history_files_list(h->dir, &files) == OK) {
            path = files.count ? mem_strdup(files.items[files.count - 1].path) : NULL;
            history_files_fini(&files);
        }
    }
    if (path && read_file(path, 0, true, max_lines, out, &lines, &last))
        log_warn(&h->log, "history.follow", LOG_STR("file", path));
    mem_free(path);
    return (uint64_t)last;
}

uint64_t history_follow(struct history *h, uint64_t after, uint32_t wait_ms, size_t max_lines,
                        struct buf *out)
{
    uint64_t last = after;

    atomic_fetch_add(&h->followers, 1);
    max_lines = MIN_OF(MAX_OF(max_lines, (size_t)1), (size_t)HISTORY_FOLLOW_LINES);
    if (after == HISTORY_FOLLOW_NOW) {
        last = (uint64_t)atomic_load(&h->safe_id);
    } else if (after == 0) {
        last = read_newest(h, max_lines, out);
    } else {
        if (wait_ms)
            wait_for_more(h, (int64_t)after, wait_ms);
        last = read_after(h, (int64_t)after, max_lines, out);
    }
    pthread_mutex_lock(&h->follow_lock);
    atomic_fetch_sub(&h->followers, 1);
    pthread_cond_broadcast(&h->follow_cond);
    pthread_mutex_unlock(&h->follow_lock);
    return last;
}
