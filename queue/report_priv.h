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

/* ---- report_scan.c: sums over all files ---- */

/* One combination, with how often it happened.  Pointers are borrowed until return. */
struct report_cell {
    struct bytes key;
    int64_t hour; /* since 1970; by hour only */
    uint64_t attempts, bytes, duration_ms;
    enum outcome_kind outcome;
    enum attempt_then then;
    bool tls_failed;
    /* Only when asked for with `tls`: */
    enum tls_level wanted, effective;
    enum tls_verify verify;
    bool resumed, offered, fallback;
    enum dane_result dane;
    enum sts_result sts;
    enum tls_failure failure;
    struct bytes version, cipher, kx; /* empty: none */
};
typedef enum err (*report_cell_fn)(void *arg, const struct report_cell *cell);
struct report_scan {
    const struct report_query *query;
    report_cell_fn on_cell;
    void *arg;
    bool tls; /* tell cells apart by transport security too */
    /* Only finals of messages accepted on these days (until: exclusive), from files of this time on; 0: all
     */
    bool finals;
    int64_t accepted_since_day, accepted_until_day, files_since_unix;
};
/* The same combination may come in several cells.  What on_cell returns ends the scan. */
MUST_CHECK enum err report_scan(const char *dir, const struct report_scan *what, struct report_span *span);
/* Logs and counts a file that cannot be read; ERR_TIMEOUT goes on to the caller. */
MUST_CHECK enum err report_skip(const struct history_file *file, enum err e, size_t *files_skipped);

/* ---- report_rows.c: a row per key, of a type whose first member is `const char *key` ---- */

/* The key's row, a zeroed new one with a copy of the key if there was none; NULL: there are too many. */
void *report_row(struct map *by_key, struct arena *arena, struct bytes key, size_t row_bytes);

typedef int (*report_order_fn)(const void *a, const void *b); /* of pointers to rows */
int report_by_key(const void *a, const void *b);
static inline int report_compare(uint64_t more, uint64_t less) /* descending */
{
    return more > less ? -1 : more < less;
}
typedef bool (*report_wanted_fn)(const void *row, enum report_only only);
struct report_shape {
    size_t row_bytes;
    const report_order_fn *orders; /* by enum report_sort */
    report_wanted_fn wanted;       /* NULL: every row is */
    void (*finish)(void *row);     /* once for each that is given */
};
/*
 * The rows that are wanted in the order that is asked for: an array of `count` in the arena, of the first
 * ones only where `limit` says so, as there may be many.  `span` learns how many there were.
 */
void *report_rows(const struct map *by_key, const struct report_query *q, const struct report_shape *shape,
                  struct arena *arena, struct report_span *span, size_t *count);
