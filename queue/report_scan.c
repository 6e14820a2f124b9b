#include "queue/report_priv.h"

#include <string.h>

#include "base/clock.h"
#include "base/log.h"

#define EXACT_SPAN_S 7200 /* up to here records are read, beyond it rollups */

static const struct log report_log = {"task=report"};

static const struct {
    const char *name, *column;
} keys[] = {
    [REPORT_BY_GROUP] = {"group", "s.grp"}, [REPORT_BY_DOMAIN] = {"domain", "s.domain"},
    [REPORT_BY_MX] = {"mx", "s.mx"},        [REPORT_BY_CAMPAIGN] = {"campaign", "s.campaign"},
    [REPORT_BY_HOUR] = {"hour", "NULL"},
};

const char *report_key_name(enum report_key key)
{
    return (size_t)key < COUNT_OF(keys) ? keys[key].name : "?";
}

bool report_key_parse(struct bytes name, enum report_key *out)
{
    for (size_t i = 0; i < COUNT_OF(keys); i++)
        if (bytes_eq(name, bytes_of(keys[i].name))) {
            *out = (enum report_key)i;
            return true;
        }
    return false;
}

/* Parameters: ?1 … ?4 the filters, ?5 and ?6 the span: hours, or milliseconds with ?7 the minute to begin
 * from. */
static void put_source(struct buf *sql, const struct report_span *span, bool exact)
{
    if (exact) {
        buf_puts(
            sql,
            "(SELECT at_ms / 3600000 - (at_ms % 3600000 < 0) AS hour, shape, 1 AS attempts, size AS bytes,"
            " duration_ms FROM attempt WHERE id >= (SELECT min(id) FROM mark WHERE minute >= ?7)"
            " AND at_ms >= ?5 AND at_ms < ?6)");
        return;
    }
    const char *since = span->since_unix ? "hour >= ?5" : "?5 = 0";
    const char *until = span->until_unix ? "hour < ?6" : "?6 = 0";
    BUF_LOCAL(rolled);
    BUF_LOCAL(recent);
    buf_putf(&rolled, " WHERE %s AND %s", since, until);
    if (span->since_unix)
        buf_puts(&recent, " AND at_ms >= ?5 * 3600000");
    if (span->until_unix)
        buf_puts(&recent, " AND at_ms < ?6 * 3600000");
    buf_putf(sql, REPORT_HOUR_ROWS, buf_str(&rolled), buf_str(&recent));
}

static void put_filter(struct buf *sql, const char *column, int at, const char *value)
{
    if (!value)
        buf_putf(sql, " AND ?%d IS NULL", at);
    else if (*value)
        buf_putf(sql, " AND s.%s IN (SELECT id FROM word WHERE text = ?%d)", column, at);
    else /* those without; group and domain are never NULL but may be the empty word */
        buf_putf(sql, " AND (s.%s IS NULL OR s.%s IN (SELECT id FROM word WHERE text = ?%d))", column, column,
                 at);
}

static void put_sql(struct buf *sql, const struct report_query *q, const struct report_span *span, bool tls,
                    bool exact)
{
    buf_putf(sql,
             "SELECT (SELECT text FROM word WHERE id = k), h, n, b, d, outcome, next, tls_failed, wanted, "
             "effective,"
             " verify, resumed, offered, fallback, (SELECT text FROM word WHERE id = version),"
             " (SELECT text FROM word WHERE id = cipher) FROM"
             " (SELECT %s AS k, %s AS h, sum(c.attempts) AS n, sum(c.bytes) AS b, sum(c.duration_ms) AS d, "
             "s.outcome,"
             " s.next, s.tls_failed, s.wanted, s.effective, s.verify, s.resumed, s.offered, s.fallback,"
             " s.tls_version AS version, s.tls_cipher AS cipher FROM ",
             keys[q->by].column, q->by == REPORT_BY_HOUR ? "c.hour" : "0");
    put_source(sql, span, exact);
    buf_puts(sql, " c CROSS JOIN shape s ON s.id = c.shape WHERE 1");
    put_filter(sql, "grp", 1, q->group);
    put_filter(sql, "domain", 2, q->domain);
    put_filter(sql, "mx", 3, q->mx);
    put_filter(sql, "campaign", 4, q->campaign);
    buf_puts(sql, " GROUP BY k, h, s.outcome, s.next, s.tls_failed");
    if (tls)
        buf_puts(sql, ", s.wanted, s.effective, s.verify, s.resumed, s.offered, s.fallback, version, cipher");
    buf_puts(sql, ")");
}

static void bind_all(sqlite3_stmt *s, const struct report_query *q, const struct report_span *span,
                     bool exact)
{
    report_bind_text(s, 1, q->group);
    report_bind_text(s, 2, q->domain);
    report_bind_text(s, 3, q->mx);
    report_bind_text(s, 4, q->campaign);
    if (exact) {
        sqlite3_bind_int64(s, 5, span->since_unix * 1000);
        sqlite3_bind_int64(s, 6, span->until_unix ? span->until_unix * 1000 : INT64_MAX);
        sqlite3_bind_int64(s, 7, floor_div(span->since_unix, 60) - 1); /* a minute of slack for the clock */
    } else {
        sqlite3_bind_int64(s, 5, floor_div(span->since_unix, 3600));
        sqlite3_bind_int64(s, 6, floor_div(span->until_unix, 3600));
    }
}

static struct bytes column_bytes(sqlite3_stmt *s, int column)
{
    const unsigned char *text = sqlite3_column_text(s, column);

    return text ? bytes_make(text, (size_t)sqlite3_column_bytes(s, column)) : bytes_make("", 0);
}

static enum err give_cell(sqlite3_stmt *s, const struct report_query *q, report_cell_fn fn, void *arg)
{
    char hour[CLOCK_TEXT_BYTES];
    struct report_cell c = {
        .key = column_bytes(s, 0),
        .hour = sqlite3_column_int64(s, 1),
        .attempts = (uint64_t)sqlite3_column_int64(s, 2),
        .bytes = (uint64_t)sqlite3_column_int64(s, 3),
        .duration_ms = (uint64_t)sqlite3_column_int64(s, 4),
        .outcome = (enum outcome_kind)sqlite3_column_int(s, 5),
        .then = (enum attempt_then)sqlite3_column_int(s, 6),
        .tls_failed = sqlite3_column_int(s, 7) != 0,
        .wanted = (enum tls_level)sqlite3_column_int(s, 8),
        .effective = (enum tls_level)sqlite3_column_int(s, 9),
        .verify = (enum tls_verify)sqlite3_column_int(s, 10),
        .resumed = sqlite3_column_int(s, 11) != 0,
        .offered = sqlite3_column_int(s, 12) != 0,
        .fallback = sqlite3_column_int(s, 13) != 0,
        .version = column_bytes(s, 14),
        .cipher = column_bytes(s, 15),
    };

    if (q->by == REPORT_BY_HOUR)
        c.key = bytes_of(clock_format_utc(c.hour * 3600, hour));
    return fn(arg, &c);
}

/* *failed is what fn said. */
static enum err scan_file(const char *path, const struct report_query *q, const struct report_span *span,
                          bool tls, bool exact, struct report_deadline *deadline, report_cell_fn fn,
                          void *arg, enum err *failed)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *s = NULL;
    BUF_LOCAL(sql);
    enum err e = history_file_read(path, &db);

    if (e)
        return e == ERR_AGAIN ? OK : e;
    report_set_deadline(db, deadline);
    put_sql(&sql, q, span, tls, exact);
    int rc = sqlite3_prepare_v2(db, buf_str(&sql), -1, &s, NULL);
    if (rc == SQLITE_OK) {
        bind_all(s, q, span, exact);
        while ((rc = sqlite3_step(s)) == SQLITE_ROW && !*failed)
            *failed = give_cell(s, q, fn, arg);
    }
    sqlite3_finalize(s);
    sqlite3_close(db);
    return history_sql_err(rc);
}

enum err report_skip(const struct history_file *file, enum err e, size_t *files_skipped)
{
    if (!e || e == ERR_TIMEOUT)
        return e;
    (*files_skipped)++;
    log_warn(&report_log, "report.file_unreadable", LOG_STR("file", file->path), LOG_ERR(e));
    return OK;
}

static bool is_short(const struct report_query *q)
{
    int64_t until = q->until_unix ? q->until_unix : floor_div(history_clock.wall_ms(), 1000);

    return q->since_unix && until - q->since_unix <= EXACT_SPAN_S;
}

/* A record is in the file of the day of its commit: at most a step of the clock before the day that it ended
 * on. */
static bool may_hold(const struct history_file *f, const struct report_span *span)
{
    return !span->since_unix || f->day >= floor_div(span->since_unix, SECS_PER_DAY) - 1;
}

enum err report_scan(const char *dir, const struct report_query *q, bool tls, report_cell_fn fn, void *arg,
                     struct report_span *span)
{
    struct history_files files;
    struct report_deadline deadline = {q->timeout_ms ? clock_now_ms() + q->timeout_ms : 0};
    struct report_span counted = {.since_unix = q->since_unix, .until_unix = q->until_unix};
    bool exact = is_short(q);
    enum err failed = OK, e = history_files_list(dir, &files);

    if (e)
        return e;
    if (!exact) {
        counted.since_unix = floor_div(q->since_unix, 3600) * 3600;
        counted.until_unix = floor_div(q->until_unix + 3599, 3600) * 3600;
    }
    for (size_t i = 0; i < files.count && !e && !failed; i++)
        if (may_hold(&files.items[i], &counted))
            e = report_skip(
                &files.items[i],
                scan_file(files.items[i].path, q, &counted, tls, exact, &deadline, fn, arg, &failed),
                &counted.files_skipped);
    history_files_fini(&files);
    if (e || failed)
        return e ? e : failed;
    *span = counted;
    return OK;
}

size_t report_limit(const struct report_query *q, struct report_span *span, size_t rows)
{
    span->rows_in_all = rows;
    return q->limit ? MIN_OF(q->limit, rows) : rows;
}
