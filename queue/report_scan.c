/*
 * Sums over all day files.  Of each file first the shapes are read and sorted into groups of equal columns,
 * in the order of their ids; then the sums are added to the group of their shape.  Measured on 4 million
 * records of 50,000 domains this takes a tenth of the time that SQLite needs to join and sort the same rows.
 */
#include "queue/report_priv.h"

#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

#define EXACT_SPAN_S  7200    /* up to here records are read, beyond it rollups */
#define EXACT_RECORDS 2000000 /* … unless there are more */
#define COUNT_STEP    50000   /* … by so few ids that a gap among them does not matter */
#define GROUPS_MAX    (8 * REPORT_KEYS_MAX)

static const struct log report_log = {"task=report"};

static const char *name_of_level(unsigned n)
{
    return tls_level_name((enum tls_level)n);
}
static const char *name_of_why(unsigned n)
{
    return tls_why_name((enum tls_why)n);
}
static const char *name_of_verify(unsigned n)
{
    return tls_verify_name((enum tls_verify)n);
}
static const char *name_of_dane(unsigned n)
{
    return dane_result_name((enum dane_result)n);
}
static const char *name_of_sts(unsigned n)
{
    return sts_result_name((enum sts_result)n);
}
static const char *name_of_failure(unsigned n)
{
    return tls_failure_name((enum tls_failure)n);
}

static const char *name_of_session(unsigned n)
{
    static const char *const names[] = {"", "new", "resumed"};

    return names[MIN_OF(n, COUNT_OF(names) - 1)];
}
static const char *name_of_fallback(unsigned n)
{
    return n ? "fallback" : "none";
}

/* ---- certificates' ends ---- */

static const struct {
    const char *name;
    int32_t days; /* fewer are left */
} expiries[] = {{"", INT32_MIN}, {"expired", 0}, {"<14d", 14},
                {"<30d", 30},    {"<90d", 90},   {"later", INT32_MAX}};

static const char *name_of_expiry(unsigned n)
{
    return expiries[MIN_OF(n, COUNT_OF(expiries) - 1)].name;
}

/* Only the day is kept: a certificate that ends today is not yet called expired. */
static uint32_t expiry_of(int64_t expires_day, int64_t today)
{
    uint32_t i = 1;

    if (!expires_day)
        return 0;
    while (i < COUNT_OF(expiries) - 1 && expires_day - today >= expiries[i].days)
        i++;
    return i;
}

static const struct {
    const char *name, *column;
    const char *(*value)(unsigned n); /* of a column that holds an enumerator; NULL: it holds a word's id */
} keys[] = {
    [REPORT_BY_GROUP] = {"group", "grp", NULL},
    [REPORT_BY_DOMAIN] = {"domain", "domain", NULL},
    [REPORT_BY_MX] = {"mx", "mx", NULL},
    [REPORT_BY_CAMPAIGN] = {"campaign", "campaign", NULL},
    [REPORT_BY_HOUR] = {"hour", "NULL", NULL},
    [REPORT_BY_SOURCE] = {"source", "source", NULL},
    [REPORT_BY_LEVEL] = {"level", "effective", name_of_level},
    [REPORT_BY_WANTED] = {"wanted", "wanted", name_of_level},
    [REPORT_BY_WHY] = {"why", "why", name_of_why},
    [REPORT_BY_VERSION] = {"version", "tls_version", NULL},
    [REPORT_BY_CIPHER] = {"cipher", "tls_cipher", NULL},
    [REPORT_BY_KX] = {"kx", "tls_kx", NULL},
    [REPORT_BY_VERIFY] = {"verify", "verify", name_of_verify},
    [REPORT_BY_DANE] = {"dane", "dane", name_of_dane},
    [REPORT_BY_STS] = {"sts", "sts", name_of_sts},
    [REPORT_BY_FAILURE] = {"failure", "failure", name_of_failure},
    [REPORT_BY_SESSION] = {"session", "CASE WHEN tls_version IS NULL THEN 0 ELSE 1 + resumed END",
                           name_of_session},
    [REPORT_BY_FALLBACK] = {"fallback", "fallback", name_of_fallback},
    [REPORT_BY_EXPIRY] = {"expiry", "expires_day", name_of_expiry},
    [REPORT_BY_EXPIRES] = {"expires", "expires_day", NULL},
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

/* ---- one file ---- */

struct group_key {                     /* no padding: compared as octets */
    uint32_t key, version, cipher, kx; /* words; 0: none */
    uint8_t outcome, then, tls_failed, wanted, effective, verify, flags, dane, sts, failure, unused[2];
};
_Static_assert(sizeof(struct group_key) == 28, "octets that nobody sets would tell groups apart");
enum { GROUP_RESUMED = 1, GROUP_OFFERED = 2, GROUP_FALLBACK = 4 };

struct sums {
    struct group_key key;
    uint64_t attempts, bytes, duration_ms;
};

struct scan {
    const struct report_scan *what;
    struct report_span span; /* as counted */
    bool exact;
    struct report_deadline deadline;
    /* of the file being read: */
    sqlite3 *db;
    uint32_t *group_of; /* owned; by shape id: its group plus one; 0: filtered out */
    size_t shape_cap;
    struct sums **groups; /* owned; they lie in the arena */
    size_t group_count, group_cap;
    struct map by_key;
    struct arena arena;
    int64_t hour;
    int64_t today; /* the last day of the span */
    sqlite3_stmt *word;
};

static void file_fini(struct scan *s)
{
    map_fini(&s->by_key);
    arena_fini(&s->arena);
    mem_free(s->groups);
    mem_free(s->group_of);
    s->groups = NULL;
    s->group_of = NULL;
    s->group_count = s->group_cap = s->shape_cap = 0;
}

static void put_filter(struct buf *sql, const char *column, int at, const char *value)
{
    if (!value)
        return;
    buf_puts(sql, *value ? " AND (" : " AND (1 = 0 OR "); /* "": those without */
    if (!*value)
        buf_putf(sql, "%s IS NULL OR ", column);
    buf_putf(sql, "%s IN (SELECT id FROM word WHERE text = ?%d))", column, at);
}

static enum err prepare_shapes(struct scan *s, sqlite3_stmt **out)
{
    const struct report_query *q = s->what->query;
    BUF_LOCAL(sql);

    buf_putf(&sql,
             "SELECT id, %s, outcome, next, tls_failed, tls_version, tls_cipher, wanted, effective, verify, "
             "resumed,"
             " offered, fallback, tls_kx, dane, sts, failure FROM shape WHERE 1",
             keys[q->by].column);
    put_filter(&sql, "grp", 1, q->group);
    put_filter(&sql, "domain", 2, q->domain);
    put_filter(&sql, "mx", 3, q->mx);
    put_filter(&sql, "campaign", 4, q->campaign);
    if (s->what->finals)
        buf_puts(&sql, " AND next IN (?5, ?6) AND accepted_day >= ?7 AND accepted_day < ?8");
    buf_puts(&sql, " ORDER BY id");
    int rc = sqlite3_prepare_v2(s->db, buf_str(&sql), -1, out, NULL);
    if (rc != SQLITE_OK)
        return history_sql_err(rc);
    report_bind_text(*out, 1, q->group); /* a number that is not used is refused: no harm */
    report_bind_text(*out, 2, q->domain);
    report_bind_text(*out, 3, q->mx);
    report_bind_text(*out, 4, q->campaign);
    sqlite3_bind_int(*out, 5, THEN_REMOVE);
    sqlite3_bind_int(*out, 6, THEN_DSN);
    sqlite3_bind_int64(*out, 7, s->what->accepted_since_day);
    sqlite3_bind_int64(*out, 8, s->what->accepted_until_day);
    return OK;
}

static struct group_key key_from_row(const struct scan *s, sqlite3_stmt *row)
{
    struct group_key k = {
        .key = (uint32_t)sqlite3_column_int64(row, 1),
        .outcome = (uint8_t)sqlite3_column_int(row, 2),
        .then = (uint8_t)sqlite3_column_int(row, 3),
        .tls_failed = (uint8_t)sqlite3_column_int(row, 4),
    };

    if (s->what->query->by == REPORT_BY_EXPIRY)
        k.key = expiry_of(sqlite3_column_int64(row, 1), s->today);
    if (!s->what->tls)
        return k;
    k.version = (uint32_t)sqlite3_column_int64(row, 5);
    k.cipher = (uint32_t)sqlite3_column_int64(row, 6);
    k.wanted = (uint8_t)sqlite3_column_int(row, 7);
    k.effective = (uint8_t)sqlite3_column_int(row, 8);
    k.verify = (uint8_t)sqlite3_column_int(row, 9);
    k.flags = (uint8_t)((sqlite3_column_int(row, 10) ? GROUP_RESUMED : 0) |
                        (sqlite3_column_int(row, 11) ? GROUP_OFFERED : 0) |
                        (sqlite3_column_int(row, 12) ? GROUP_FALLBACK : 0));
    k.kx = (uint32_t)sqlite3_column_int64(row, 13);
    k.dane = (uint8_t)sqlite3_column_int(row, 14);
    k.sts = (uint8_t)sqlite3_column_int(row, 15);
    k.failure = (uint8_t)sqlite3_column_int(row, 16);
    return k;
}

static enum err group_for(struct scan *s, const struct group_key *key, uint32_t *out)
{
    struct sums *known = map_find(&s->by_key, bytes_make(key, sizeof(*key)));

    if (known) {
        *out = (uint32_t)known->attempts; /* its number, while shapes are read */
        return OK;
    }
    if (s->group_count >= GROUPS_MAX)
        return ERR_FULL;
    if (s->group_count == s->group_cap) {
        s->group_cap = s->group_cap ? s->group_cap * 2 : 256;
        s->groups = mem_realloc(s->groups, s->group_cap * sizeof(struct sums *));
    }
    struct sums *sums = ARENA_NEW(&s->arena, struct sums);
    sums->key = *key;
    s->groups[s->group_count++] = sums;
    sums->attempts = s->group_count;
    map_put(&s->by_key, bytes_make(&sums->key, sizeof(sums->key)), sums);
    *out = (uint32_t)s->group_count;
    return OK;
}

static enum err read_shapes(struct scan *s)
{
    sqlite3_stmt *row = NULL;
    enum err e = prepare_shapes(s, &row);
    int rc = SQLITE_DONE;

    while (!e && (rc = sqlite3_step(row)) == SQLITE_ROW) {
        size_t id = (size_t)sqlite3_column_int64(row, 0);
        struct group_key key = key_from_row(s, row);
        if (id > UINT32_MAX)
            e = ERR_CORRUPT;
        if (!e && id >= s->shape_cap) {
            size_t cap = MAX_OF(id + 1, MAX_OF(s->shape_cap * 2, (size_t)1024));
            s->group_of = mem_realloc(s->group_of, cap * sizeof(*s->group_of));
            memset(s->group_of + s->shape_cap, 0, (cap - s->shape_cap) * sizeof(*s->group_of));
            s->shape_cap = cap;
        }
        if (!e)
            e = group_for(s, &key, &s->group_of[id]);
    }
    sqlite3_finalize(row);
    for (size_t i = 0; i < s->group_count; i++)
        s->groups[i]->attempts = 0;
    return e ? e : history_sql_err(rc);
}

static struct bytes text_of_word(struct scan *s, uint32_t id, struct arena *arena)
{
    struct bytes text = BYTES("");

    if (!id)
        return text;
    sqlite3_bind_int64(s->word, 1, id);
    if (sqlite3_step(s->word) == SQLITE_ROW) {
        size_t len = (size_t)sqlite3_column_bytes(s->word, 0);
        text = bytes_make(arena_dup(arena, bytes_make(sqlite3_column_text(s->word, 0), len)), len);
    }
    sqlite3_reset(s->word);
    return text;
}

static struct bytes key_text(struct scan *s, uint32_t key, char text[CLOCK_TEXT_BYTES], struct arena *texts)
{
    enum report_key by = s->what->query->by;

    if (by == REPORT_BY_HOUR)
        return bytes_of(clock_format_utc(s->hour * 3600, text));
    if (by == REPORT_BY_EXPIRES)
        return key ? bytes_first(bytes_of(clock_format_utc((int64_t)key * SECS_PER_DAY, text)), 10)
                   : BYTES("");
    return keys[by].value ? bytes_of(keys[by].value(key)) : text_of_word(s, key, texts);
}

static enum err give_cell(struct scan *s, const struct sums *sums)
{
    char text[CLOCK_TEXT_BYTES];
    struct arena texts = {0};
    const struct group_key *k = &sums->key;
    struct report_cell c = {
        .hour = s->hour,
        .attempts = sums->attempts,
        .bytes = sums->bytes,
        .duration_ms = sums->duration_ms,
        .outcome = (enum outcome_kind)k->outcome,
        .then = (enum attempt_then)k->then,
        .tls_failed = k->tls_failed != 0,
        .wanted = (enum tls_level)k->wanted,
        .effective = (enum tls_level)k->effective,
        .verify = (enum tls_verify)k->verify,
        .resumed = (k->flags & GROUP_RESUMED) != 0,
        .offered = (k->flags & GROUP_OFFERED) != 0,
        .fallback = (k->flags & GROUP_FALLBACK) != 0,
        .dane = (enum dane_result)k->dane,
        .sts = (enum sts_result)k->sts,
        .failure = (enum tls_failure)k->failure,
        .version = text_of_word(s, k->version, &texts),
        .cipher = text_of_word(s, k->cipher, &texts),
        .kx = text_of_word(s, k->kx, &texts),
    };

    c.key = key_text(s, k->key, text, &texts);
    enum err e = s->what->on_cell(s->what->arg, &c);
    arena_fini(&texts);
    return e;
}

static enum err give_cells(struct scan *s)
{
    enum err e = OK;

    for (size_t i = 0; i < s->group_count && !e; i++) {
        struct sums *sums = s->groups[i];
        if (!sums->attempts)
            continue;
        e = give_cell(s, sums);
        sums->attempts = sums->bytes = sums->duration_ms = 0;
    }
    return e;
}

static const char exact_rows[] =
    "SELECT 0, shape, 1, size, duration_ms FROM attempt"
    " WHERE id >= (SELECT min(id) FROM mark WHERE minute >= ?3) AND at_ms >= ?1 AND at_ms < ?2";
static const char exact_rows_by_hour[] =
    "SELECT at_ms / 3600000 - (at_ms % 3600000 < 0), shape, 1, size, duration_ms FROM attempt"
    " WHERE id >= (SELECT min(id) FROM mark WHERE minute >= ?3) AND at_ms >= ?1 AND at_ms < ?2";
static const char hour_rows[] =
    "SELECT hour, shape, attempts, bytes, duration_ms FROM rollup WHERE hour >= ?1 AND hour < ?2 UNION ALL"
    " SELECT at_ms / 3600000 - (at_ms % 3600000 < 0), shape, 1, size, duration_ms FROM attempt"
    " WHERE id > (SELECT value FROM state WHERE name = 'rolled')"
    " AND at_ms >= ?1 * 3600000 AND at_ms < ?2 * 3600000";

static enum err prepare_rows(struct scan *s, sqlite3_stmt **out)
{
    bool by_hour = s->what->query->by == REPORT_BY_HOUR;
    const char *sql = !s->exact ? hour_rows : by_hour ? exact_rows_by_hour : exact_rows;
    int64_t since = s->span.since_unix, until = s->span.until_unix ? s->span.until_unix : (int64_t)1 << 40;
    int rc = sqlite3_prepare_v2(s->db, sql, -1, out, NULL);

    if (rc != SQLITE_OK)
        return history_sql_err(rc);
    if (s->exact) {
        sqlite3_bind_int64(*out, 1, since * 1000);
        sqlite3_bind_int64(*out, 2, until * 1000);
        sqlite3_bind_int64(*out, 3, floor_div(since, 60) - 1); /* a minute of slack for the clock */
    } else {
        sqlite3_bind_int64(*out, 1, since ? floor_div(since, 3600) : -((int64_t)1 << 28));
        sqlite3_bind_int64(*out, 2, floor_div(until, 3600));
    }
    return OK;
}

static enum err add_rows(struct scan *s)
{
    bool by_hour = s->what->query->by == REPORT_BY_HOUR;
    sqlite3_stmt *row = NULL;
    enum err e = prepare_rows(s, &row);
    int rc = SQLITE_DONE;

    s->hour = 0;
    while (!e && (rc = sqlite3_step(row)) == SQLITE_ROW) {
        size_t shape = (size_t)sqlite3_column_int64(row, 1);
        if (shape >= s->shape_cap || !s->group_of[shape])
            continue;
        int64_t hour = by_hour ? sqlite3_column_int64(row, 0) : 0;
        if (hour != s->hour) { /* rollups come hour by hour */
            e = give_cells(s);
            s->hour = hour;
        }
        struct sums *sums = s->groups[s->group_of[shape] - 1];
        sums->attempts += (uint64_t)sqlite3_column_int64(row, 2);
        sums->bytes += (uint64_t)sqlite3_column_int64(row, 3);
        sums->duration_ms += (uint64_t)sqlite3_column_int64(row, 4);
    }
    sqlite3_finalize(row);
    if (!e)
        e = history_sql_err(rc);
    return e ? e : give_cells(s);
}

static enum err scan_connection(struct scan *s)
{
    enum err e = history_sql_err(sqlite3_exec(s->db, "PRAGMA cache_size = -16384; BEGIN", NULL, NULL, NULL));

    if (!e)
        e = history_sql_err(
            sqlite3_prepare_v2(s->db, "SELECT text FROM word WHERE id = ?", -1, &s->word, NULL));
    if (!e)
        e = read_shapes(s);
    return e ? e : add_rows(s);
}

static enum err scan_file(struct scan *s, const char *path)
{
    enum err e = history_file_read(path, &s->db);

    if (e)
        return e == ERR_AGAIN ? OK : e;
    report_set_deadline(s->db, &s->deadline);
    s->word = NULL;
    e = scan_connection(s);
    sqlite3_finalize(s->word);
    sqlite3_close(s->db);
    file_fini(s);
    return e;
}

/* ---- all files ---- */

enum err report_skip(const struct history_file *file, enum err e, size_t *files_skipped)
{
    if (!e || e == ERR_TIMEOUT || e == ERR_FULL)
        return e;
    if (access(file->path, F_OK) != 0)
        return OK; /* deleted meanwhile: its time was over */
    (*files_skipped)++;
    log_warn(&report_log, "report.file_unreadable", LOG_STR("file", file->path), LOG_ERR(e));
    return OK;
}

/* A record is in the file of the day of its commit: at most a step of the clock before the day that it ended
 * on. */
static bool may_hold(const struct history_file *f, int64_t since_unix)
{
    return !since_unix || f->day >= floor_div(since_unix, SECS_PER_DAY) - 1;
}

static int64_t id_near(sqlite3 *db, const char *which, const char *sign, int64_t id)
{
    int64_t found = 0;
    BUF_LOCAL(sql);

    buf_putf(&sql, "SELECT %s(id) FROM attempt WHERE id %s %lld", which, sign, (long long)id);
    if (history_sql_number(db, buf_str(&sql), 0, &found))
        found = 0; /* reported when it is read */
    return found;
}

/*
 * Records from `first` to `last`, which are there.  Ids follow each other but where the program was started
 * anew: there they go on from the clock (history.c), so a difference says nothing.  What is long is halved
 * until it is short, or falls into such a gap; nothing but ids is looked up.
 */
static int64_t count_ids(sqlite3 *db, int64_t first, int64_t last)
{
    if (last - first < COUNT_STEP)
        return last - first + 1; /* a gap in here is counted too: more, never fewer */
    int64_t middle = first + (last - first) / 2;
    int64_t before = id_near(db, "max", "<=", middle), behind = id_near(db, "min", ">", middle);

    if (before < first || behind > last || behind <= middle)
        return EXACT_RECORDS + 1; /* it cannot be read: whoever reads it will say so */
    int64_t count = count_ids(db, first, before);
    return count > EXACT_RECORDS ? count : count + count_ids(db, behind, last);
}

static int64_t records_since(const char *path, int64_t since_unix)
{
    sqlite3 *db = NULL;
    int64_t marked = 0, count = 0;
    BUF_LOCAL(sql);

    buf_putf(&sql, "SELECT min(id) FROM mark WHERE minute >= %lld", (long long)floor_div(since_unix, 60) - 1);
    if (!history_file_read(path, &db) && !history_sql_number(db, buf_str(&sql), 0, &marked) && marked) {
        int64_t first = id_near(db, "min", ">=", marked), last = id_near(db, "max", ">=", marked);
        count = first ? count_ids(db, first, last) : 0;
    }
    sqlite3_close(db);
    return count;
}

static bool is_short(const struct report_query *q, const struct history_files *files)
{
    int64_t until = q->until_unix ? q->until_unix : floor_div(history_clock.wall_ms(), 1000), count = 0;

    if (!q->since_unix || until - q->since_unix > EXACT_SPAN_S)
        return false;
    for (size_t i = 0; i < files->count; i++)
        if (may_hold(&files->items[i], q->since_unix))
            count += records_since(files->items[i].path, q->since_unix);
    return count <= EXACT_RECORDS;
}

enum err report_scan(const char *dir, const struct report_scan *what, struct report_span *span)
{
    const struct report_query *q = what->query;
    struct scan s = {.what = what,
                     .span = {.since_unix = q->since_unix, .until_unix = q->until_unix},
                     .deadline = {q->timeout_ms ? clock_now_ms() + q->timeout_ms : 0}};
    struct history_files files;
    enum err e = history_files_list(dir, &files);

    if (e)
        return e;
    int64_t now = floor_div(history_clock.wall_ms(), 1000);
    s.today = floor_div(q->until_unix ? MIN_OF(q->until_unix, now) : now, SECS_PER_DAY);
    s.exact = is_short(q, &files);
    if (!s.exact) {
        s.span.since_unix = floor_div(q->since_unix, 3600) * 3600;
        s.span.until_unix = floor_div(q->until_unix + 3599, 3600) * 3600;
    }
    for (size_t i = 0; i < files.count && !e; i++)
        if (may_hold(&files.items[i], what->finals ? what->files_since_unix : s.span.since_unix))
            e = report_skip(&files.items[i], scan_file(&s, files.items[i].path), &s.span.files_skipped);
    history_files_fini(&files);
    if (!e)
        *span = s.span;
    return e;
}
