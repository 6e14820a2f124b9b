/*
 * Sums of sessions.  Of one file rows are counted by the ids of their words, in a map of our own: to let
 * SQLite group and sort ten columns took several times as long.  Then the words are read, and what stands in
 * several files, or under two ids of one word, is joined by text.
 */
#include "queue/report_sessions.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "queue/report_priv.h"

#define CELLS_MAX (4 * REPORT_SESSION_SUMS_MAX)

struct reading {
    sqlite3 *db;        /* the file being read */
    sqlite3_stmt *word; /* text by id */
    struct map cells;   /* of this file, by ids; what they are is on_row's and on_end's */
    struct arena arena; /* of this file */
    struct report_deadline deadline;
    int64_t since_ms, until_ms;
    enum err (*on_row)(struct reading *r, sqlite3_stmt *row);
    enum err (*on_end)(struct reading *r); /* of a file: the cells are whole */
    void *arg;
};

/* A session is in the file of the day of its commit, which a slow disk or a clock may put off. */
static bool may_hold(const struct history_file *f, const struct reading *r)
{
    return f->day >= floor_div(r->since_ms, MS_PER_DAY) - 1 &&
           f->day <= floor_div(r->until_ms, MS_PER_DAY) + 1;
}

static enum err read_rows(struct reading *r, const char *sql, const char *domain, bool all)
{
    sqlite3_stmt *s = NULL;
    enum err e = OK;
    int rc = sqlite3_prepare_v2(r->db, "SELECT text FROM word WHERE id = ?", -1, &r->word, NULL);

    if (rc == SQLITE_OK)
        rc = sqlite3_prepare_v2(r->db, sql, -1, &s, NULL);
    if (rc == SQLITE_OK) {
        sqlite3_bind_int64(s, 1, r->since_ms);
        sqlite3_bind_int64(s, 2, r->until_ms);
        sqlite3_bind_int(s, 3, all); /* an unused number is refused: no harm */
        report_bind_text(s, 4, domain);
        while (!e && (rc = sqlite3_step(s)) == SQLITE_ROW)
            e = r->on_row(r, s);
    }
    sqlite3_finalize(s);
    if (!e)
        e = history_sql_err(rc);
    return e ? e : r->on_end(r);
}

static enum err read_file(struct reading *r, const char *path, const char *sql, const char *domain, bool all)
{
    enum err e = history_file_read(path, &r->db);

    if (e)
        return e == ERR_AGAIN ? OK : e;
    report_set_deadline(r->db, &r->deadline);
    r->word = NULL;
    e = history_sql_err(
        sqlite3_exec(r->db, "BEGIN", NULL, NULL, NULL)); /* words and sessions of one moment */
    if (!e)
        e = read_rows(r, sql, domain, all);
    sqlite3_finalize(r->word);
    sqlite3_close(r->db);
    map_fini(&r->cells);
    arena_fini(&r->arena);
    return e;
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

/* The cell with this key, a new one (zeroed) if there was none; NULL: there are too many. */
static void *cell_of(struct reading *r, const void *key, size_t key_bytes, size_t cell_bytes)
{
    void *cell = map_find(&r->cells, bytes_make(key, key_bytes));

    if (cell || r->cells.count >= CELLS_MAX)
        return cell;
    cell = arena_zalloc(&r->arena, cell_bytes);
    memcpy(cell, key, key_bytes); /* cells begin with their key */
    map_put(&r->cells, bytes_make(cell, key_bytes), cell);
    return cell;
}

/* Appended; of no word nothing. */
static void put_word(struct reading *r, uint32_t id, struct buf *out)
{
    if (!id)
        return;
    sqlite3_bind_int64(r->word, 1, id);
    if (sqlite3_step(r->word) == SQLITE_ROW)
        buf_put(out, bytes_make(sqlite3_column_text(r->word, 0), (size_t)sqlite3_column_bytes(r->word, 0)));
    sqlite3_reset(r->word);
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

struct sum_key { /* no padding: compared as octets */
    uint32_t words[TEXTS], type, failure;
};
struct sum_cell {
    struct sum_key key; /* first */
    uint64_t count;
};

struct summing {
    const struct report_sessions_query *query;
    struct report_sessions *out;
    struct map by_text; /* struct report_session_sum, in the result's arena */
};

static const char sums_of[] = "SELECT domain, policy_text, policy_mx, mx, remote, source, helo, reason, "
                              "policy_type, failure FROM session"
                              " WHERE at_ms >= ?1 AND at_ms < ?2 AND (counted OR ?3)"
                              " AND (?4 IS NULL OR domain IN (SELECT id FROM word WHERE text = ?4))";

static enum err count_session(struct reading *r, sqlite3_stmt *row)
{
    struct sum_key key = {.type = (uint32_t)sqlite3_column_int(row, TEXTS),
                          .failure = (uint32_t)sqlite3_column_int(row, TEXTS + 1)};
    int texts = key.failure ? TEXTS : TEXT_MX; /* what went well is not told apart by the rest */

    for (int i = 0; i < texts; i++)
        key.words[i] = (uint32_t)sqlite3_column_int64(row, i);
    struct sum_cell *cell = cell_of(r, &key, sizeof(key), sizeof(*cell));
    if (!cell)
        return ERR_FULL;
    cell->count++;
    return OK;
}

static struct report_session_sum *new_sum(struct summing *s, struct bytes key, const size_t *start,
                                          const struct sum_key *k)
{
    const char *copy = arena_dup(&s->out->arena, key);
    struct report_session_sum *sum = ARENA_NEW(&s->out->arena, struct report_session_sum);

    *sum = (struct report_session_sum){
        .domain = copy + start[TEXT_DOMAIN],
        .policy_type = (enum tlsrpt_policy)k->type,
        .policy_text = copy + start[TEXT_POLICY],
        .policy_mx = copy + start[TEXT_POLICY_MX],
        .failure = (enum tls_failure)k->failure,
        .mx = copy + start[TEXT_MX],
        .receiving_ip = copy + start[TEXT_REMOTE],
        .sending_ip = copy + start[TEXT_SOURCE],
        .helo = copy + start[TEXT_HELO],
        .reason = copy + start[TEXT_REASON],
    };
    map_put(&s->by_text, bytes_make(copy, key.len), sum);
    return sum;
}

static enum err add_sum(struct reading *r, const struct sum_cell *cell)
{
    struct summing *s = r->arg;
    const struct report_sessions_query *q = s->query;
    size_t start[TEXTS];
    BUF_LOCAL(key);
    BUF_LOCAL(remote);

    for (int i = 0; i < TEXTS; i++) {
        start[i] = key.len;
        if (i == TEXT_REMOTE) {
            put_word(r, cell->key.words[i], &remote);
            buf_put(&key, without_port(buf_bytes(&remote)));
        } else {
            put_word(r, cell->key.words[i], &key);
        }
        if (i == TEXT_DOMAIN && q->slices > 1 && hash_stable(buf_bytes(&key)) % q->slices != q->slice)
            return OK;
        buf_putc(&key, '\0');
    }
    buf_putf(&key, "%u %u", cell->key.type, cell->key.failure);
    struct report_session_sum *sum = map_find(&s->by_text, buf_bytes(&key));
    if (!sum && s->by_text.count >= REPORT_SESSION_SUMS_MAX)
        return ERR_FULL;
    if (!sum)
        sum = new_sum(s, buf_bytes(&key), start, &cell->key);
    sum->count += cell->count;
    return OK;
}

static enum err add_sums(struct reading *r)
{
    const struct sum_cell *cell;
    enum err e = OK;

    for (size_t at = 0; !e && (cell = map_next(&r->cells, &at));)
        e = add_sum(r, cell);
    return e;
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

    reading.on_row = count_session;
    reading.on_end = add_sums;
    reading.arg = &s;
    enum err e = read_files(dir, &reading, sums_of, q->domain, q->all, &r.files_skipped);
    if (!e) {
        r.rows = arena_alloc(&r.arena, (s.by_text.count + 1) * sizeof(*r.rows));
        for (size_t at = 0; (sum = map_next(&s.by_text, &at));)
            r.rows[r.count++] = *sum;
        if (r.count)
            qsort(r.rows, r.count, sizeof(*r.rows), in_order);
    }
    map_fini(&s.by_text);
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

struct host_cell {       /* a host and a domain, of one file */
    uint32_t mx, domain; /* first: the key */
    uint32_t remote;
    enum tls_verify verify;
    uint64_t sessions;
    int64_t seen_ms, expires_unix; /* of the newest that showed a certificate; 0: none did */
};
struct host { /* an MX host */
    struct report_certificate seen;
};
struct gathering {
    struct report_certificates *out;
    struct map by_mx;   /* struct host, in the result's arena */
    struct map domains; /* "mx\0domain": a set */
};

static const char certificates_of[] = "SELECT mx, domain, remote, at_ms, expires, verify FROM session"
                                      " WHERE at_ms >= ?1 AND at_ms < ?2 AND mx IS NOT NULL";

static enum err look_at_session(struct reading *r, sqlite3_stmt *row)
{
    const uint32_t key[] = {(uint32_t)sqlite3_column_int64(row, 0), (uint32_t)sqlite3_column_int64(row, 1)};
    int64_t at_ms = sqlite3_column_int64(row, 3), expires = sqlite3_column_int64(row, 4);
    struct host_cell *cell = cell_of(r, key, sizeof(key), sizeof(*cell));

    if (!cell)
        return ERR_FULL;
    cell->sessions++;
    if (!expires || at_ms < cell->seen_ms)
        return OK;
    cell->seen_ms = at_ms;
    cell->expires_unix = expires;
    cell->verify = (enum tls_verify)sqlite3_column_int(row, 5);
    cell->remote = (uint32_t)sqlite3_column_int64(row, 2);
    return OK;
}

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

static enum err add_host(struct reading *r, const struct host_cell *cell)
{
    struct gathering *g = r->arg;
    struct arena *arena = &g->out->arena;
    int64_t seen = cell->seen_ms / 1000;
    BUF_LOCAL(mx);
    BUF_LOCAL(domain);
    BUF_LOCAL(remote);

    put_word(r, cell->mx, &mx);
    put_word(r, cell->domain, &domain);
    struct host *h = host_of(g, buf_bytes(&mx));
    if (!h)
        return ERR_FULL;
    h->seen.sessions += cell->sessions;
    enum err e = count_domain(g, h, buf_bytes(&domain));
    if (e || !cell->expires_unix || seen < h->seen.seen_unix)
        return e;
    put_word(r, cell->remote, &remote);
    h->seen.seen_unix = seen;
    h->seen.expires_unix = cell->expires_unix;
    h->seen.verify = cell->verify;
    h->seen.domain = arena_dup(arena, buf_bytes(&domain));
    h->seen.remote = arena_dup(arena, buf_bytes(&remote));
    return OK;
}

static enum err add_hosts(struct reading *r)
{
    const struct host_cell *cell;
    enum err e = OK;

    for (size_t at = 0; !e && (cell = map_next(&r->cells, &at));)
        e = add_host(r, cell);
    return e;
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

    reading.on_row = look_at_session;
    reading.on_end = add_hosts;
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
