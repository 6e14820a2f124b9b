/*
 * Of each file first the shapes are read: each is judged once, whatever the number of attempts that had it.
 * Then the sums of the span are added to the row of their shape.
 */
#include "queue/report_shadow.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "queue/report_priv.h"

#define EXACT_SPAN_S 7200

static const struct {
    const char *name, *column; /* of shape; NULL: not a column */
} keys[] = {
    [SHADOW_BY_GROUP] = {"group", "grp"},
    [SHADOW_BY_NEW_GROUP] = {"new-group", NULL},
    [SHADOW_BY_DOMAIN] = {"domain", "domain"},
    [SHADOW_BY_MX] = {"mx", "mx"},
    [SHADOW_BY_CAMPAIGN] = {"campaign", "campaign"},
    [SHADOW_BY_REASON] = {"reason", NULL},
    [SHADOW_BY_RECIPIENT] = {"recipient", NULL},
};

const char *report_shadow_by_name(enum report_shadow_by by)
{
    return (size_t)by < COUNT_OF(keys) ? keys[by].name : "?";
}

/* What the attempts of one shape count as. */
struct kind {
    bool counted, delivered;
    uint8_t verdict;
    uint32_t old_level, new_level; /* BIT(…); new_level 0: not known */
    const char *key;               /* in the file's arena; NULL: per recipient */
    struct report_shadow_row *row; /* once there is an attempt */
};

struct scan {
    const struct report_shadow_query *q;
    struct report_shadow report;
    struct map by_key; /* struct report_shadow_row, in the report's arena */
    bool exact;
    struct report_deadline deadline;
    /* of the file being read */
    sqlite3 *db;
    struct arena arena;
    struct kind **kinds; /* owned; by shape id */
    size_t kind_cap;
    const char **words; /* owned; by id; NULL: not read yet */
    size_t word_cap;
    sqlite3_stmt *word;
};

static void file_fini(struct scan *s)
{
    sqlite3_finalize(TAKE(s->word));
    sqlite3_close(TAKE(s->db));
    arena_fini(&s->arena);
    mem_free(TAKE(s->kinds));
    mem_free(TAKE(s->words));
    s->kind_cap = s->word_cap = 0;
}

static size_t grow(size_t id, size_t cap)
{
    return MAX_OF(id + 1, MAX_OF(cap * 2, (size_t)1024));
}

/* NULL for 0: none. */
static const char *word(struct scan *s, int64_t id)
{
    size_t at = (size_t)id;

    if (id <= 0 || id > UINT32_MAX)
        return NULL;
    if (at >= s->word_cap) {
        size_t cap = grow(at, s->word_cap);

        s->words = mem_realloc(s->words, cap * sizeof(*s->words));
        memset(s->words + s->word_cap, 0, (cap - s->word_cap) * sizeof(*s->words));
        s->word_cap = cap;
    }
    if (!s->words[at]) {
        sqlite3_bind_int64(s->word, 1, id);
        s->words[at] = "";
        if (sqlite3_step(s->word) == SQLITE_ROW)
            s->words[at] = arena_dup(&s->arena, bytes_make(sqlite3_column_text(s->word, 0),
                                                           (size_t)sqlite3_column_bytes(s->word, 0)));
        sqlite3_reset(s->word);
    }
    return s->words[at];
}

/* ---- shapes ---- */

enum column {
    AT_ID,
    AT_GROUP,
    AT_DOMAIN,
    AT_MX,
    AT_CAMPAIGN,
    AT_OUTCOME,
    AT_THEN,
    AT_TLS_FAILED,
    AT_VERSION,
    AT_CIPHER,
    AT_WANTED,
    AT_EFFECTIVE,
    AT_WHY,
    AT_VERIFY,
    AT_OFFERED,
    AT_FALLBACK,
    AT_DANE,
    AT_STS,
    AT_FAILURE,
    AT_SHADOW,
    AT_SHADOW_GROUP,
};
static const char shape_columns[] =
    "SELECT id, grp, domain, mx, campaign, outcome, next, tls_failed, tls_version, tls_cipher, wanted,"
    " effective, why, verify, offered, fallback, dane, sts, failure, shadow, shadow_group FROM shape WHERE 1";

static void put_filter(struct buf *sql, const char *column, int at, const char *value)
{
    if (value)
        buf_putf(sql, " AND (%s%s%s IN (SELECT id FROM word WHERE text = ?%d))", *value ? "" : column,
                 *value ? "" : " IS NULL OR ", column, at);
}

static enum err prepare_shapes(struct scan *s, sqlite3_stmt **out)
{
    const struct report_shadow_query *q = s->q;
    const char *const values[] = {q->group, q->domain, q->mx, q->campaign};
    static const char *const columns[] = {"grp", "domain", "mx", "campaign"};
    BUF_LOCAL(sql);

    buf_puts(&sql, shape_columns);
    for (size_t i = 0; i < COUNT_OF(columns); i++)
        put_filter(&sql, columns[i], (int)i + 1, values[i]);
    int rc = sqlite3_prepare_v2(s->db, buf_str(&sql), -1, out, NULL);
    if (rc != SQLITE_OK)
        return history_sql_err(rc);
    for (size_t i = 0; i < COUNT_OF(values); i++)
        report_bind_text(*out, (int)i + 1, values[i]); /* a number that is not used is refused: no harm */
    return OK;
}

static struct report_judged judged_of(struct scan *s, sqlite3_stmt *row)
{
    bool delivered = sqlite3_column_int(row, AT_OUTCOME) == OUTCOME_DELIVERED;
    bool fallback = sqlite3_column_int(row, AT_FALLBACK) != 0;

    return (struct report_judged){
        .facts =
            {
                .delivered = delivered,
                .tls_failed = sqlite3_column_int(row, AT_TLS_FAILED) != 0,
                .offered = sqlite3_column_int(row, AT_OFFERED) != 0,
                .fallback = fallback,
                .later_is_due = fallback, /* in clear it went, if some minutes later; who waited, waits */
                .version = word(s, sqlite3_column_int64(row, AT_VERSION)),
                .cipher = word(s, sqlite3_column_int64(row, AT_CIPHER)),
                .verify = (enum tls_verify)sqlite3_column_int(row, AT_VERIFY),
                .dane = (enum dane_result)sqlite3_column_int(row, AT_DANE),
                .sts = (enum sts_result)sqlite3_column_int(row, AT_STS),
                .failure = (enum tls_failure)sqlite3_column_int(row, AT_FAILURE),
                .effective = (enum tls_level)sqlite3_column_int(row, AT_EFFECTIVE),
                .why = (enum tls_why)sqlite3_column_int(row, AT_WHY),
            },
        .group = word(s, sqlite3_column_int64(row, AT_GROUP)),
        .domain = word(s, sqlite3_column_int64(row, AT_DOMAIN)),
        .mx = word(s, sqlite3_column_int64(row, AT_MX)),
    };
}

static const char *key_of(struct scan *s, sqlite3_stmt *row, const struct kind *k, const char *new_group)
{
    const char *text = NULL;

    switch (s->q->by) {
    case SHADOW_BY_GROUP: text = word(s, sqlite3_column_int64(row, AT_GROUP)); break;
    case SHADOW_BY_NEW_GROUP: text = new_group; break;
    case SHADOW_BY_DOMAIN: text = word(s, sqlite3_column_int64(row, AT_DOMAIN)); break;
    case SHADOW_BY_MX: text = word(s, sqlite3_column_int64(row, AT_MX)); break;
    case SHADOW_BY_CAMPAIGN: text = word(s, sqlite3_column_int64(row, AT_CAMPAIGN)); break;
    case SHADOW_BY_REASON: text = judge_verdict_name(k->verdict); break;
    case SHADOW_BY_RECIPIENT: return NULL;
    }
    return text ? text : "";
}

static struct kind *kind_of(struct scan *s, sqlite3_stmt *row)
{
    struct kind *k = ARENA_NEW(&s->arena, struct kind);
    struct report_judged what = judged_of(s, row);
    const char *new_group = word(s, sqlite3_column_int64(row, AT_SHADOW_GROUP));
    enum tls_level level;

    k->delivered = what.facts.delivered;
    k->counted = sqlite3_column_int(row, AT_THEN) != THEN_NOTHING && (k->delivered || what.facts.tls_failed);
    if (!k->counted)
        return k;
    k->verdict =
        s->q->judge ? s->q->judge(s->q->arg, &what, &new_group) : (uint8_t)sqlite3_column_int(row, AT_SHADOW);
    k->old_level = BIT((unsigned)sqlite3_column_int(row, AT_WANTED) & 31U);
    if (s->q->level && new_group && s->q->level(s->q->arg, new_group, &level))
        k->new_level = BIT((unsigned)level);
    k->key = key_of(s, row, k, new_group);
    return k;
}

static enum err read_shapes(struct scan *s)
{
    sqlite3_stmt *row = NULL;
    enum err e = prepare_shapes(s, &row);
    int rc = SQLITE_DONE;

    while (!e && (rc = sqlite3_step(row)) == SQLITE_ROW) {
        size_t id = (size_t)sqlite3_column_int64(row, AT_ID);
        if (id > UINT32_MAX) {
            e = ERR_CORRUPT;
            break;
        }
        if (id >= s->kind_cap) {
            size_t cap = grow(id, s->kind_cap);

            s->kinds = mem_realloc(s->kinds, cap * sizeof(*s->kinds));
            memset(s->kinds + s->kind_cap, 0, (cap - s->kind_cap) * sizeof(*s->kinds));
            s->kind_cap = cap;
        }
        s->kinds[id] = kind_of(s, row);
    }
    sqlite3_finalize(row);
    return e ? e : history_sql_err(rc);
}

/* ---- sums ---- */

static void count_reason(struct arena *arena, struct report_shadow_row *row, uint8_t verdict, uint64_t n)
{
    size_t count = row->reason_count;

    for (size_t i = 0; i < count; i++) {
        if (row->reasons[i].verdict == verdict) {
            row->reasons[i].count += n;
            return;
        }
    }
    if ((count & (count - 1)) == 0) { /* a power of two, or none: it is full */
        struct report_reason *more = arena_alloc(arena, MAX_OF(count * 2, (size_t)1) * sizeof(*more));

        if (count)
            memcpy(more, row->reasons, count * sizeof(*more));
        row->reasons = more;
    }
    row->reasons[row->reason_count++] = (struct report_reason){verdict, n};
}

static void count_delivered(struct report_shadow_row *row, uint8_t verdict, uint64_t n)
{
    row->delivered += n;
    if (judge_is_unknown(verdict))
        row->unknown += n;
    else if (judge_is_held(verdict))
        row->held += n;
    else if (verdict == JUDGE_CLEAR)
        row->clear += n;
    else if (verdict == JUDGE_TLS)
        row->tls += n;
    else
        row->same += n;
}

static void count_waited(struct report_shadow_row *row, uint8_t verdict, uint64_t n)
{
    row->waited += n;
    if (judge_is_unknown(verdict))
        row->waited_unknown += n;
    else if (verdict == JUDGE_PASS)
        row->pass += n;
    else if (verdict == JUDGE_PASS_CLEAR)
        row->pass_clear += n;
}

static void count(struct arena *arena, struct report_shadow_row *row, const struct kind *k, uint64_t n)
{
    row->old_levels |= k->old_level;
    row->new_levels |= k->new_level;
    if (k->delivered)
        count_delivered(row, k->verdict, n);
    else
        count_waited(row, k->verdict, n);
    if (k->verdict != JUDGE_SAME)
        count_reason(arena, row, k->verdict, n);
}

/* `address` empty: by shape. */
static enum err add(struct scan *s, struct kind *k, uint64_t n, struct bytes address)
{
    struct report_shadow *r = &s->report;
    struct report_shadow_row *row = k->row;

    if (!k->counted)
        return OK;
    if (k->verdict == JUDGE_NONE) { /* there were no shadow rules */
        r->unjudged += k->delivered ? n : 0;
        return OK;
    }
    count(&r->arena, &r->total, k, n);
    if (!k->key && k->verdict == JUDGE_SAME)
        return OK; /* of recipients only those that it would have concerned */
    if (!row)
        row = report_row(&s->by_key, &r->arena, k->key ? bytes_of(k->key) : address, sizeof(*row));
    if (!row)
        return ERR_FULL;
    if (k->key)
        k->row = row;
    count(&r->arena, row, k, n);
    return OK;
}

static const char exact_rows[] =
    "SELECT shape, 1, address FROM attempt"
    " WHERE id >= (SELECT min(id) FROM mark WHERE minute >= ?3) AND at_ms >= ?1 AND at_ms < ?2";
static const char recipient_rows[] = "SELECT shape, 1, address FROM attempt WHERE at_ms >= ?1 AND at_ms < ?2";
static const char hour_rows[] =
    "SELECT shape, attempts, '' FROM rollup WHERE hour >= ?1 / 3600000 AND hour < ?2 / 3600000 UNION ALL"
    " SELECT shape, 1, '' FROM attempt WHERE id > (SELECT value FROM state WHERE name = 'rolled')"
    " AND at_ms >= ?1 AND at_ms < ?2";

static enum err add_rows(struct scan *s)
{
    const struct report_span *span = &s->report.span;
    bool by_recipient = s->q->by == SHADOW_BY_RECIPIENT;
    const char *sql = s->exact ? exact_rows : by_recipient ? recipient_rows : hour_rows;
    int64_t until = span->until_unix ? span->until_unix : (int64_t)1 << 40;
    sqlite3_stmt *row = NULL;
    int rc = sqlite3_prepare_v2(s->db, sql, -1, &row, NULL);
    enum err e = rc == SQLITE_OK ? OK : history_sql_err(rc);

    if (e)
        return e;
    sqlite3_bind_int64(row, 1, span->since_unix * 1000);
    sqlite3_bind_int64(row, 2, until * 1000);
    sqlite3_bind_int64(row, 3, floor_div(span->since_unix, 60) - 1); /* a minute of slack for the clock */
    while (!e && (rc = sqlite3_step(row)) == SQLITE_ROW) {
        size_t shape = (size_t)sqlite3_column_int64(row, 0);
        struct bytes address = bytes_make(sqlite3_column_text(row, 2), (size_t)sqlite3_column_bytes(row, 2));

        if (shape < s->kind_cap && s->kinds[shape])
            e = add(s, s->kinds[shape], (uint64_t)sqlite3_column_int64(row, 1), address);
    }
    sqlite3_finalize(row);
    return e ? e : history_sql_err(rc);
}

/* ---- files ---- */

static enum err scan_file(struct scan *s, const char *path)
{
    enum err e = history_file_read(path, &s->db);

    if (e)
        return e == ERR_AGAIN ? OK : e;
    report_set_deadline(s->db, &s->deadline);
    e = history_sql_err(sqlite3_exec(s->db, "PRAGMA cache_size = -16384; BEGIN", NULL, NULL, NULL));
    if (!e)
        e = history_sql_err(
            sqlite3_prepare_v2(s->db, "SELECT text FROM word WHERE id = ?", -1, &s->word, NULL));
    if (!e)
        e = read_shapes(s);
    if (!e)
        e = add_rows(s);
    file_fini(s);
    return e;
}

static void choose_span(struct scan *s)
{
    const struct report_shadow_query *q = s->q;
    struct report_span *span = &s->report.span;
    int64_t until = q->until_unix ? q->until_unix : floor_div(history_clock.wall_ms(), 1000);

    span->since_unix = q->since_unix;
    span->until_unix = q->until_unix;
    s->exact = q->since_unix && until - q->since_unix <= EXACT_SPAN_S;
    if (s->exact || q->by == SHADOW_BY_RECIPIENT)
        return; /* from the records, to the second */
    span->since_unix = floor_div(q->since_unix, 3600) * 3600;
    span->until_unix = floor_div(q->until_unix + 3599, 3600) * 3600;
}

static bool is_changed(const struct report_shadow_row *r)
{
    return r->held || r->clear || r->tls || r->pass || r->pass_clear;
}

static int by_cost(const void *a, const void *b)
{
    const struct report_shadow_row *x = *(void *const *)a, *y = *(void *const *)b;
    int c = report_compare(x->held, y->held);

    if (!c)
        c = report_compare(x->unknown, y->unknown);
    if (!c)
        c = report_compare(x->clear, y->clear);
    if (!c)
        c = report_compare(x->delivered + x->waited, y->delivered + y->waited);
    return c ? c : strcmp(x->key, y->key);
}

static int by_count(const void *a, const void *b)
{
    const struct report_reason *x = a, *y = b;
    int c = report_compare(x->count, y->count);

    return c ? c : (int)x->verdict - (int)y->verdict;
}

static void sort_reasons(struct report_shadow_row *row)
{
    if (row->reason_count)
        qsort(row->reasons, row->reason_count, sizeof(*row->reasons), by_count);
}

static void take_rows(struct scan *s)
{
    struct report_shadow *r = &s->report;
    void **rows = mem_alloc((s->by_key.count + 1) * sizeof(*rows)), *row;
    size_t n = 0;

    for (size_t at = 0; (row = map_next(&s->by_key, &at));)
        if (!s->q->only_changed || is_changed(row))
            rows[n++] = row;
    if (n)
        qsort(rows, n, sizeof(*rows), by_cost);
    r->span.rows_in_all = n;
    r->count = s->q->limit ? MIN_OF(s->q->limit, n) : n;
    r->rows = arena_alloc(&r->arena, (r->count + 1) * sizeof(*r->rows));
    for (size_t i = 0; i < r->count; i++) {
        sort_reasons(rows[i]);
        r->rows[i] = *(struct report_shadow_row *)rows[i];
    }
    sort_reasons(&r->total);
    mem_free(rows);
}

/* A record is in the file of the day of its commit: at most a step of the clock before the day that it ended
 * on. */
static bool may_hold(const struct history_file *f, int64_t since_unix)
{
    return !since_unix || f->day >= floor_div(since_unix, SECS_PER_DAY) - 1;
}

enum err report_shadow(const char *dir, const struct report_shadow_query *q, struct report_shadow *out)
{
    struct scan s = {.q = q, .deadline = {q->timeout_ms ? clock_now_ms() + q->timeout_ms : 0}};
    struct history_files files;
    enum err e = history_files_list(dir, &files);

    if (e)
        return e;
    s.report.total.key = "total";
    choose_span(&s);
    for (size_t i = 0; i < files.count && !e; i++)
        if (may_hold(&files.items[i], s.report.span.since_unix))
            e = report_skip(&files.items[i], scan_file(&s, files.items[i].path),
                            &s.report.span.files_skipped);
    history_files_fini(&files);
    if (!e)
        take_rows(&s);
    map_fini(&s.by_key);
    if (e)
        arena_fini(&s.report.arena);
    else
        *out = s.report;
    return e;
}

void report_shadow_fini(struct report_shadow *r)
{
    arena_fini(&r->arena);
    *r = (struct report_shadow){0};
}
