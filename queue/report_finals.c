#include "queue/report_priv.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

struct tally {
    const struct report_finals_query *query;
    struct report_finals report;
    struct map by_campaign; /* struct report_finals_row, in the report's arena */
};

static void count(struct report_finals_row *row, enum outcome_kind outcome, uint64_t n)
{
    switch (outcome) {
    case OUTCOME_DELIVERED: row->delivered += n; break;
    case OUTCOME_BOUNCED: row->bounced += n; break;
    case OUTCOME_EXPIRED: row->expired += n; break;
    case OUTCOME_CANCELLED: row->cancelled += n; break;
    case OUTCOME_DEFERRED: break; /* not final: the queue has it */
    }
}

static enum err add(struct tally *t, struct bytes campaign, enum outcome_kind outcome, uint64_t n)
{
    struct report_finals_row *row;

    count(&t->report.total, outcome, n);
    if (!t->query->by_campaign)
        return OK;
    row = map_find(&t->by_campaign, campaign);
    if (!row) {
        if (t->by_campaign.count >= REPORT_KEYS_MAX)
            return ERR_FULL;
        row = ARENA_NEW(&t->report.arena, struct report_finals_row);
        row->campaign = arena_dup(&t->report.arena, campaign);
        map_put(&t->by_campaign, bytes_of(row->campaign), row);
    }
    count(row, outcome, n);
    return OK;
}

static void put_sql(struct buf *sql, const struct report_finals_query *q)
{
    buf_puts(
        sql,
        "SELECT (SELECT text FROM word WHERE id = k), outcome, n FROM (SELECT s.campaign AS k, s.outcome,"
        " sum(c.attempts) AS n FROM ");
    buf_putf(sql, REPORT_HOUR_ROWS, "", "");
    buf_puts(sql, " c CROSS JOIN shape s ON s.id = c.shape WHERE s.next IN (?1, ?2) AND s.accepted_day >= ?3"
                  " AND s.accepted_day < ?4");
    if (q->campaign && *q->campaign)
        buf_puts(sql, " AND s.campaign IN (SELECT id FROM word WHERE text = ?5)");
    else if (q->campaign)
        buf_puts(sql, " AND (s.campaign IS NULL OR s.campaign IN (SELECT id FROM word WHERE text = ?5))");
    buf_puts(sql, " GROUP BY k, s.outcome)");
}

static void bind_all(sqlite3_stmt *s, const struct report_finals_query *q)
{
    sqlite3_bind_int(s, 1, THEN_REMOVE);
    sqlite3_bind_int(s, 2, THEN_DSN);
    sqlite3_bind_int64(s, 3, q->accepted_since_day ? q->accepted_since_day : INT64_MIN);
    sqlite3_bind_int64(s, 4, q->accepted_until_day ? q->accepted_until_day : INT64_MAX);
    if (q->campaign)
        report_bind_text(s, 5, q->campaign);
}

/* *failed is what add() said. */
static enum err scan_file(const char *path, struct tally *t, struct report_deadline *deadline,
                          enum err *failed)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *s = NULL;
    BUF_LOCAL(sql);
    enum err e = history_file_read(path, &db);

    if (e)
        return e == ERR_AGAIN ? OK : e;
    report_set_deadline(db, deadline);
    put_sql(&sql, t->query);
    int rc = sqlite3_prepare_v2(db, buf_str(&sql), -1, &s, NULL);
    if (rc == SQLITE_OK) {
        bind_all(s, t->query);
        while ((rc = sqlite3_step(s)) == SQLITE_ROW && !*failed) {
            const unsigned char *text = sqlite3_column_text(s, 0);
            *failed = add(
                t, bytes_make(text ? text : (const unsigned char *)"", (size_t)sqlite3_column_bytes(s, 0)),
                (enum outcome_kind)sqlite3_column_int(s, 1), (uint64_t)sqlite3_column_int64(s, 2));
        }
    }
    sqlite3_finalize(s);
    sqlite3_close(db);
    return history_sql_err(rc);
}

static int by_campaign(const void *a, const void *b)
{
    const struct report_finals_row *x = a, *y = b;

    return strcmp(x->campaign, y->campaign);
}

static void take_rows(struct tally *t)
{
    struct report_finals *r = &t->report;
    struct report_finals_row *row;

    r->rows = arena_alloc(&r->arena, (t->by_campaign.count + 1) * sizeof(*r->rows));
    for (size_t at = 0; (row = map_next(&t->by_campaign, &at));)
        r->rows[r->count++] = *row;
    if (r->count)
        qsort(r->rows, r->count, sizeof(*r->rows), by_campaign);
}

enum err report_finals(const char *dir, const struct report_finals_query *q, struct report_finals *out)
{
    struct tally t = {.query = q, .report.total.campaign = "total"};
    struct report_deadline deadline = {q->timeout_ms ? clock_now_ms() + q->timeout_ms : 0};
    struct history_files files;
    enum err failed = OK, e = history_files_list(dir, &files);

    if (e)
        return e;
    if (files.count)
        t.report.oldest_day = files.items[0].day;
    for (size_t i = 0; i < files.count && !e && !failed; i++)
        if (!q->accepted_since_day ||
            files.items[i].day >= q->accepted_since_day - 1) /* final after accepted */
            e = report_skip(&files.items[i], scan_file(files.items[i].path, &t, &deadline, &failed),
                            &t.report.files_skipped);
    history_files_fini(&files);
    e = e ? e : failed;
    if (!e)
        take_rows(&t);
    map_fini(&t.by_campaign);
    if (e) {
        arena_fini(&t.report.arena);
        return e;
    }
    *out = t.report;
    return OK;
}

void report_finals_fini(struct report_finals *r)
{
    arena_fini(&r->arena);
    *r = (struct report_finals){0};
}
