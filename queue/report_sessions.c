/* Sums of sessions.  SQLite groups what one file holds; files, and words that stand twice, are joined here by
 * text. */
#include "queue/report_sessions.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "queue/report_priv.h"

#define WORD(column) "(SELECT text FROM word WHERE id = " column ")"

struct reading {
    sqlite3 *db;
    struct report_deadline deadline;
    int64_t since_ms, until_ms;
    enum err (*on_row)(void *arg, sqlite3_stmt *row);
    void *arg;
};

/* A session is in the file of the day of its commit, which a slow disk or a clock may put off. */
static bool may_hold(const struct history_file *f, const struct reading *r)
{
    return f->day >= floor_div(r->since_ms, MS_PER_DAY) - 1 &&
           f->day <= floor_div(r->until_ms, MS_PER_DAY) + 1;
}

static enum err read_file(struct reading *r, const char *path, const char *sql, const char *domain, bool all)
{
    sqlite3_stmt *s = NULL;
    enum err e = history_file_read(path, &r->db);

    if (e)
        return e == ERR_AGAIN ? OK : e;
    report_set_deadline(r->db, &r->deadline);
    int rc = sqlite3_prepare_v2(r->db, sql, -1, &s, NULL);
    if (rc == SQLITE_OK) {
        sqlite3_bind_int64(s, 1, r->since_ms);
        sqlite3_bind_int64(s, 2, r->until_ms);
        sqlite3_bind_int(s, 3, all); /* an unused number is refused: no harm */
        report_bind_text(s, 4, domain);
        while (!e && (rc = sqlite3_step(s)) == SQLITE_ROW)
            e = r->on_row(r->arg, s);
    }
    sqlite3_finalize(s);
    sqlite3_close(r->db);
    return e ? e : history_sql_err(rc);
}

static enum err read_files(const char *dir, struct reading *r, const char *sql, const char *domain, bool all,
                           size_t *files_skipped)
{
    struct history_files files;
    enum err e = history_files_list(dir, &files);

    if (e)
        return e;
    for (size_t i = 0; i < files.count && !e; i++)
        if (may_hold(&files.items[i], r))
            e = report_skip(&files.items[i], read_file(r, files.items[i].path, sql, domain, all),
                            files_skipped);
    history_files_fini(&files);
    return e;
}

static struct reading reading_of(int64_t since_unix, int64_t until_unix, uint32_t timeout_ms)
{
    return (struct reading){
        .deadline = {timeout_ms ? clock_now_ms() + timeout_ms : 0},
        .since_ms = since_unix * 1000,
        .until_ms = (until_unix ? until_unix : (int64_t)1 << 40) * 1000,
    };
}

static struct bytes column(sqlite3_stmt *s, int at)
{
    const unsigned char *text = sqlite3_column_text(s, at);

    return bytes_make(text ? (const char *)text : "", text ? (size_t)sqlite3_column_bytes(s, at) : 0);
}

/* "192.0.2.1" of "192.0.2.1:25", "2001:db8::1" of "[2001:db8::1]:25". */
static struct bytes without_port(struct bytes remote)
{
    if (remote.len && remote.at[0] == '[') {
        size_t end = bytes_find(remote, ']');
        return bytes_make(remote.at + 1, end < remote.len ? end - 1 : remote.len - 1);
    }
    size_t colon = bytes_find(remote, ':');
    bool second = colon < remote.len && bytes_find(bytes_make(remote.at + colon + 1, remote.len - colon - 1),
                                                   ':') < remote.len - colon - 1; /* a bare IPv6 address */
    return second ? remote : bytes_make(remote.at, MIN_OF(colon, remote.len));
}

/* ---- sums ---- */

enum {
    TEXT_DOMAIN,
    TEXT_POLICY,
    TEXT_POLICY_MX,
    TEXT_MX,
    TEXT_REMOTE,
    TEXT_SOURCE,
    TEXT_HELO,
    TEXT_REASON,
    TEXTS
};

struct summing {
    const struct report_sessions_query *query;
    struct report_sessions *out;
    struct map by_key; /* struct report_session_sum, in the arena */
};

static const char sums_of[] =
    "SELECT " WORD("d") ", " WORD("pt") ", " WORD("pm") ", " WORD("m") ", " WORD("r") ", " WORD(
        "s") ", " WORD("h") ", " WORD("why") ", type, fail, n FROM (SELECT domain AS d, policy_text AS pt, "
                                             "policy_mx AS pm,"
                                             " policy_type AS type, failure AS fail, iif(failure, mx, NULL) "
                                             "AS m, iif(failure, remote, NULL) AS r,"
                                             " iif(failure, source, NULL) AS s, iif(failure, helo, NULL) AS "
                                             "h, iif(failure, reason, NULL) AS why,"
                                             " count(*) AS n FROM session WHERE at_ms >= ?1 AND at_ms < ?2 "
                                             "AND (counted OR ?3)"
                                             " AND (?4 IS NULL OR domain IN (SELECT id FROM word WHERE text "
                                             "= ?4)) GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)";

static enum err add_sum(void *arg, sqlite3_stmt *row)
{
    struct summing *s = arg;
    const struct report_sessions_query *q = s->query;
    const int type = sqlite3_column_int(row, TEXTS), failure = sqlite3_column_int(row, TEXTS + 1);
    size_t start[TEXTS];
    BUF_LOCAL(key);

    if (q->slices > 1 && hash_stable(column(row, TEXT_DOMAIN)) % q->slices != q->slice)
        return OK;
    for (int i = 0; i < TEXTS; i++) {
        start[i] = key.len;
        buf_put(&key, i == TEXT_REMOTE ? without_port(column(row, i)) : column(row, i));
        buf_putc(&key, '\0');
    }
    buf_putf(&key, "%d %d", type, failure);
    struct bytes bytes = bytes_make(key.at, key.len);
    struct report_session_sum *sum = map_find(&s->by_key, bytes);
    if (!sum) {
        if (s->by_key.count >= REPORT_SESSION_SUMS_MAX)
            return ERR_FULL;
        const char *copy = arena_dup(&s->out->arena, bytes);
        sum = ARENA_NEW(&s->out->arena, struct report_session_sum);
        *sum = (struct report_session_sum){
            .domain = copy + start[TEXT_DOMAIN],
            .policy_type = (enum tlsrpt_policy)type,
            .policy_text = copy + start[TEXT_POLICY],
            .policy_mx = copy + start[TEXT_POLICY_MX],
            .failure = (enum tls_failure)failure,
            .mx = copy + start[TEXT_MX],
            .receiving_ip = copy + start[TEXT_REMOTE],
            .sending_ip = copy + start[TEXT_SOURCE],
            .helo = copy + start[TEXT_HELO],
            .reason = copy + start[TEXT_REASON],
        };
        map_put(&s->by_key, bytes_make(copy, bytes.len), sum);
    }
    sum->count += (uint64_t)sqlite3_column_int64(row, TEXTS + 2);
    return OK;
}

static int in_order(const void *a, const void *b)
{
    const struct report_session_sum *x = a, *y = b;
    int c = strcmp(x->domain, y->domain);

    if (!c)
        c = (int)x->policy_type - (int)y->policy_type;
    if (!c)
        c = strcmp(x->policy_text, y->policy_text);
    if (!c)
        c = strcmp(x->policy_mx, y->policy_mx);
    if (!c)
        c = (int)x->failure - (int)y->failure;
    if (!c)
        c = strcmp(x->mx, y->mx);
    if (!c)
        c = strcmp(x->receiving_ip, y->receiving_ip);
    if (!c)
        c = strcmp(x->sending_ip, y->sending_ip);
    if (!c)
        c = strcmp(x->helo, y->helo);
    return c ? c : strcmp(x->reason, y->reason);
}

enum err report_sessions(const char *dir, const struct report_sessions_query *q, struct report_sessions *out)
{
    struct report_sessions r = {0};
    struct summing s = {.query = q, .out = &r};
    struct reading reading = reading_of(q->since_unix, q->until_unix, q->timeout_ms);
    const struct report_session_sum *sum;

    reading.on_row = add_sum;
    reading.arg = &s;
    enum err e = read_files(dir, &reading, sums_of, q->domain, q->all, &r.files_skipped);
    if (!e) {
        r.rows = arena_alloc(&r.arena, (s.by_key.count + 1) * sizeof(*r.rows));
        for (size_t at = 0; (sum = map_next(&s.by_key, &at));)
            r.rows[r.count++] = *sum;
        if (r.count)
            qsort(r.rows, r.count, sizeof(*r.rows), in_order);
    }
    map_fini(&s.by_key);
    if (e) {
        arena_fini(&r.arena);
        return e;
    }
    *out = r;
    return OK;
}

void report_sessions_fini(struct report_sessions *r)
{
    arena_fini(&r->arena);
    *r = (struct report_sessions){0};
}

/* ---- certificates ---- */

struct host { /* an MX host */
    struct report_certificate seen;
};
struct gathering {
    struct report_certificates *out;
    struct map by_mx;   /* struct host, in the arena */
    struct map domains; /* "mx\0domain": a set */
};

/* Of a host and a domain, the newest session that showed a certificate: SQLite takes the other columns from
 * the row that has the maximum. */
static const char certificates_of[] = "SELECT " WORD("m") ", " WORD("d") ", " WORD(
    "r") ", n, at, expires, verify FROM (SELECT mx AS m, domain AS d,"
         " remote AS r, count(*) AS n, max(iif(expires, at_ms, NULL)) AS at, expires, verify FROM session"
         " WHERE at_ms >= ?1 AND at_ms < ?2 AND mx IS NOT NULL GROUP BY mx, domain)";

static struct host *host_of(struct gathering *g, struct bytes mx)
{
    struct host *h = map_find(&g->by_mx, mx);

    if (h || g->by_mx.count >= REPORT_KEYS_MAX)
        return h;
    h = ARENA_NEW(&g->out->arena, struct host);
    h->seen.mx = arena_dup(&g->out->arena, mx);
    h->seen.domain = h->seen.remote = "";
    map_put(&g->by_mx, bytes_of(h->seen.mx), h);
    return h;
}

static enum err count_domain(struct gathering *g, struct host *h, struct bytes domain)
{
    BUF_LOCAL(key);

    buf_put(&key, bytes_of(h->seen.mx));
    buf_putc(&key, '\0');
    buf_put(&key, domain);
    struct bytes bytes = bytes_make(key.at, key.len);
    if (map_find(&g->domains, bytes))
        return OK;
    if (g->domains.count >= 4 * REPORT_KEYS_MAX)
        return ERR_FULL;
    map_put(&g->domains, bytes_make(arena_dup(&g->out->arena, bytes), bytes.len), h);
    h->seen.domains++;
    return OK;
}

static enum err add_host(void *arg, sqlite3_stmt *row)
{
    struct gathering *g = arg;
    struct host *h = host_of(g, column(row, 0));

    if (!h)
        return ERR_FULL;
    h->seen.sessions += (uint64_t)sqlite3_column_int64(row, 3);
    enum err e = count_domain(g, h, column(row, 1));
    int64_t seen = sqlite3_column_int64(row, 4) / 1000;
    if (e || sqlite3_column_type(row, 4) == SQLITE_NULL || seen < h->seen.seen_unix)
        return e;
    h->seen.seen_unix = seen;
    h->seen.expires_unix = sqlite3_column_int64(row, 5);
    h->seen.verify = (enum tls_verify)sqlite3_column_int(row, 6);
    h->seen.domain = arena_dup(&g->out->arena, column(row, 1));
    h->seen.remote = arena_dup(&g->out->arena, column(row, 2));
    return OK;
}

static int soonest_first(const void *a, const void *b)
{
    const struct report_certificate *x = a, *y = b;

    if (x->expires_unix != y->expires_unix)
        return x->expires_unix < y->expires_unix ? -1 : 1;
    return strcmp(x->mx, y->mx);
}

enum err report_certificates(const char *dir, const struct report_certificates_query *q,
                             struct report_certificates *out)
{
    struct report_certificates r = {0};
    struct gathering g = {.out = &r};
    struct reading reading = reading_of(q->since_unix, 0, q->timeout_ms);
    const struct host *h;

    reading.on_row = add_host;
    reading.arg = &g;
    enum err e = read_files(dir, &reading, certificates_of, NULL, true, &r.files_skipped);
    if (!e) {
        r.rows = arena_alloc(&r.arena, (g.by_mx.count + 1) * sizeof(*r.rows));
        for (size_t at = 0; (h = map_next(&g.by_mx, &at));)
            if (h->seen.expires_unix && (!q->before_unix || h->seen.expires_unix < q->before_unix))
                r.rows[r.in_all++] = h->seen;
        if (r.in_all)
            qsort(r.rows, r.in_all, sizeof(*r.rows), soonest_first);
        r.count = q->limit ? MIN_OF(q->limit, r.in_all) : r.in_all;
    }
    map_fini(&g.by_mx);
    map_fini(&g.domains);
    if (e) {
        arena_fini(&r.arena);
        return e;
    }
    *out = r;
    return OK;
}

void report_certificates_fini(struct report_certificates *r)
{
    arena_fini(&r->arena);
    *r = (struct report_certificates){0};
}
