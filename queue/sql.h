/*
 * Small words over SQLite: its codes become `enum err` here and nowhere else in queue/.
 * Thread: a connection belongs to one thread at a time.
 */
#pragma once

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/err.h"

/* Once per process, before the first connection: no global lock around SQLite's allocation counters. */
void sql_setup(void);

enum err sql_err(int code); /* SQLITE_OK, _ROW and _DONE are OK */
MUST_CHECK enum err sql_exec(sqlite3 *db, const char *sql);
void sql_rollback(sqlite3 *db); /* nothing outside a transaction; a failure is logged */
/* A statement for the life of the connection. */
MUST_CHECK enum err sql_prepare(sqlite3 *db, sqlite3_stmt **out, const char *sql);
/* One step of a query: *row tells whether there is one.  Without a row, or after an error, the statement is reset. */
MUST_CHECK enum err sql_step(sqlite3_stmt *st, bool *row);
/* A statement without rows: runs it and resets it. */
MUST_CHECK enum err sql_run(sqlite3_stmt *st);

static inline void sql_bind_int(sqlite3_stmt *st, int at, int64_t n)
{
    (void)sqlite3_bind_int64(st, at, n);
}
/* NULL binds NULL.  The text is borrowed until the statement is bound anew. */
void sql_bind_text(sqlite3_stmt *st, int at, const char *text);
void sql_bind_bytes(sqlite3_stmt *st, int at, struct bytes text);
void sql_bind_blob(sqlite3_stmt *st, int at, const void *octets, size_t len);

/* Columns; NULL stays NULL.  The text is borrowed until the next step. */
const char *sql_text(sqlite3_stmt *st, int column);
char *sql_text_dup(sqlite3_stmt *st, int column, struct arena *arena);
