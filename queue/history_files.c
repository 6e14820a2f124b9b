#include "queue/history_priv.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "queue/sql.h"

enum err history_sql_err(int rc)
{
    switch (rc & 0xff) {
    case SQLITE_CONSTRAINT: return ERR_IO; /* a row that history never writes twice: the file is amiss */
    case SQLITE_CANTOPEN: return ERR_DENIED;
    default: return sql_err(rc);
    }
}

char *history_file_path(const char *dir, int64_t day, unsigned number)
{
    BUF_LOCAL(path);
    struct tm tm;
    time_t t = (time_t)(day * SECS_PER_DAY);

    gmtime_r(&t, &tm);
    buf_putf(&path, "%s/history/%04d-%02d-%02d", dir, tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday);
    if (number)
        buf_putf(&path, ".%u", number);
    buf_puts(&path, ".db");
    return buf_take(&path);
}

bool history_file_parse(const char *name, int64_t *day, unsigned *number)
{
    struct tm tm = {0};
    unsigned n = 0;
    int end = 0;

    if (sscanf(name, "%4d-%2d-%2d%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &end) != 3 || end != 10)
        return false;
    if (strcmp(name + end, ".db") != 0) {
        int more = 0;
        if (sscanf(name + end, ".%9u%n", &n, &more) != 1 || strcmp(name + end + more, ".db") != 0 || n == 0)
            return false;
    }
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    struct tm as_written = tm;
    time_t t = timegm(&tm);
    if (tm.tm_mon != as_written.tm_mon || tm.tm_mday != as_written.tm_mday) /* 2026-02-31 */
        return false;
    *day = floor_div((int64_t)t, SECS_PER_DAY);
    *number = n;
    return true;
}

static int by_day_and_number(const void *a, const void *b)
{
    const struct history_file *x = a, *y = b;

    if (x->day != y->day)
        return x->day < y->day ? -1 : 1;
    return x->number < y->number ? -1 : x->number > y->number;
}

enum err history_files_list(const char *dir, struct history_files *out)
{
    BUF_LOCAL(folder);
    struct history_files files = {0};
    size_t cap = 0;

    buf_putf(&folder, "%s/history", dir);
    DIR *d = opendir(buf_str(&folder));
    if (!d) {
        *out = files;
        return errno == ENOENT ? OK : err_from_errno(errno);
    }
    for (struct dirent *entry; (entry = readdir(d));) {
        int64_t day;
        unsigned number;
        if (!history_file_parse(entry->d_name, &day, &number))
            continue;
        if (files.count == cap) {
            cap = cap ? cap * 2 : 64;
            files.items = mem_realloc(files.items, cap * sizeof(*files.items));
        }
        BUF_LOCAL(path);
        buf_putf(&path, "%s/%s", buf_str(&folder), entry->d_name);
        files.items[files.count++] = (struct history_file){day, number, buf_take(&path)};
    }
    closedir(d);
    if (files.count)
        qsort(files.items, files.count, sizeof(*files.items), by_day_and_number);
    *out = files;
    return OK;
}

void history_files_fini(struct history_files *f)
{
    for (size_t i = 0; i < f->count; i++)
        mem_free(f->items[i].path);
    mem_free(f->items);
    *f = (struct history_files){0};
}

enum err history_sql_number(sqlite3 *db, const char *sql, int64_t missing, int64_t *out)
{
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);

    if (rc == SQLITE_OK)
        rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW)
        *out = sqlite3_column_type(stmt, 0) == SQLITE_NULL ? missing : sqlite3_column_int64(stmt, 0);
    else if (rc == SQLITE_DONE)
        *out = missing;
    sqlite3_finalize(stmt);
    return history_sql_err(rc);
}

enum err history_file_read(const char *path, sqlite3 **out)
{
    sqlite3 *db = NULL;
    /* A crash can leave a hot journal, or a WAL to be recovered: a read-only connection may do neither.
     * query_only keeps this one from writing more than that. */
    int rc = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    enum err e = history_sql_err(rc);

    if (!e) {
        sqlite3_wal_autocheckpoint(db, 0); /* one connection checkpoints, and this is not it */
        sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
        sqlite3_busy_timeout(db, 2000);
        e = history_schema_read(db);
    }
    if (e) {
        sqlite3_close(db);
        return e;
    }
    *out = db;
    return OK;
}
