/* How records are read back; queue/report*.c and queue/history_follow.c only. */
#pragma once

#include "queue/history_priv.h"
#include "queue/report.h"

/* "SELECT … FROM attempt a JOIN shape s ON …": a WHERE clause goes behind it. */
extern const char record_select[];
/* Columns of record_select, strings copied to the arena. */
void record_from_row(sqlite3_stmt *s, struct arena *arena, struct report_attempt *out);
/* Stops statements of this connection at the deadline (clock_now_ms; 0: never).  The struct must outlive the
 * connection's use. */
struct report_deadline {
    uint64_t at_ms;
};
void report_set_deadline(sqlite3 *db, struct report_deadline *d);
/* Text bound for the connection's lifetime; NULL binds NULL. */
void report_bind_text(sqlite3_stmt *s, int at, const char *text);
