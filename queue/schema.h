/*
 * queue.db: its tables (drawn in schema.c), its version, and how an older one becomes the present one.
 */
#pragma once

#include "queue/sql.h"

/* Stored values of rcpt.state: never renumber. */
enum row_state {
    ROW_FRESH = 0,  /* went from accept straight to a worker; never deferred or given back */
    ROW_READY = 1,  /* waits for its due time; the only state that index rcpt_ready holds */
    ROW_HELD = 2,   /* by an operator */
    ROW_DSN = 3,    /* final, the outcome stands in `final`; a DSN is owed */
    ROW_BOUNCE = 4, /* an operator bounced it; not recorded yet */
    ROW_CANCEL = 5, /* an operator cancelled it; not recorded yet */
    ROW_PAUSED = 6, /* its campaign is paused */
    ROW_EXPIRE = 7, /* its campaign is over; not recorded yet */
};
#define ROW_STATES 8

/*
 * Opens DIR/queue.db for the one writer, bringing it to the present version.  `may_create`: there was never
 * one here. *why is a sentence that says what to do (mem_free).
 */
MUST_CHECK enum err schema_open(const char *dir, bool may_create, sqlite3 **out, bool *created, char **why);
/* For a reader: the file must be there and of the present version. */
MUST_CHECK enum err schema_open_reader(const char *dir, sqlite3 **out, char **why);

/* Only for tests of migration: opens a database and leaves it at `version`. */
MUST_CHECK enum err schema_migrate(sqlite3 *db, unsigned from, unsigned to);
unsigned schema_version(void);
