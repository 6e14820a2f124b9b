#include "queue/sql.h"

#include <pthread.h>

#include "base/log.h"

static void configure(void)
{
    (void)sqlite3_config(SQLITE_CONFIG_MEMSTATUS,
                         0); /* refused when SQLite runs already: then it stays slower */
}

void sql_setup(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, configure);
}

enum err sql_err(int code)
{
    switch (code & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE: return OK;
    case SQLITE_FULL: return ERR_NOSPACE;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: return ERR_CORRUPT;
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return ERR_BUSY;
    case SQLITE_CONSTRAINT: return ERR_EXISTS;
    case SQLITE_INTERRUPT: return ERR_TIMEOUT;
    case SQLITE_PERM:
    case SQLITE_AUTH:
    case SQLITE_READONLY: return ERR_DENIED;
    case SQLITE_NOMEM: return ERR_NOMEM;
    default: return ERR_IO;
    }
}

enum err sql_exec(sqlite3 *db, const char *sql)
{
    return sql_err(sqlite3_exec(db, sql, NULL, NULL, NULL));
}

void sql_rollback(sqlite3 *db)
{
    if (!sqlite3_get_autocommit(db) && sql_exec(db, "ROLLBACK"))
        log_error(NULL, "sqlite.rollback", LOG_STR("said", sqlite3_errmsg(db)));
}

enum err sql_prepare(sqlite3 *db, sqlite3_stmt **out, const char *sql)
{
    return sql_err(sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, out, NULL));
}

enum err sql_step(sqlite3_stmt *st, bool *row)
{
    int rc = sqlite3_step(st);

    *row = rc == SQLITE_ROW;
    if (*row)
        return OK;
    enum err e = sql_err(rc);
    (void)sqlite3_reset(st);
    return e;
}

enum err sql_run(sqlite3_stmt *st)
{
    enum err e = sql_err(sqlite3_step(st));

    (void)sqlite3_reset(st); /* repeats the code of the step */
    return e;
}

void sql_bind_text(sqlite3_stmt *st, int at, const char *text)
{
    (void)sqlite3_bind_text(st, at, text, -1, SQLITE_STATIC);
}

void sql_bind_bytes(sqlite3_stmt *st, int at, struct bytes text)
{
    (void)sqlite3_bind_text(st, at, text.at ? text.at : "", (int)text.len, SQLITE_STATIC);
}

void sql_bind_blob(sqlite3_stmt *st, int at, const void *octets, size_t len)
{
    (void)sqlite3_bind_blob(st, at, octets, (int)len, SQLITE_STATIC);
}

const char *sql_text(sqlite3_stmt *st, int column)
{
    return (const char *)sqlite3_column_text(st, column);
}

char *sql_text_dup(sqlite3_stmt *st, int column, struct arena *arena)
{
    return arena_strdup(arena, sql_text(st, column));
}
