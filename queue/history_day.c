/*
 * The writer of one day file; history_schema.c draws the tables.  The history thread holds the only
 * connection that writes or checkpoints.
 */
#include "queue/history_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/mem.h"

#define WAL_PAGES 4000              /* checkpoint from here: 16 MiB */
#define WAL_KEPT  (8 * 1024 * 1024) /* bytes of WAL file left after a checkpoint */
#define CACHE_KIB 4096

enum statement {
    ADD_ATTEMPT,
    ADD_WORD,
    ADD_SHAPE,
    ADD_ROLLUP,
    SET_ROLLED,
    ADD_MARK,
    ADD_BLOCK,
    ADD_SESSION,
    BEGIN,
    COMMIT,
    STATEMENTS
};

static const char *const texts[STATEMENTS] = {
    [ADD_ATTEMPT] = "INSERT INTO attempt VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
    [ADD_WORD] = "INSERT INTO word(text) VALUES(?)",
    [ADD_SHAPE] =
        "INSERT INTO shape(grp, domain, mx, campaign, tls_version, tls_cipher, accepted_day, outcome, next,"
        " wanted, effective, why, verify, resumed, offered, fallback, tls_failed, dane, sts, failure,"
        " expires_day, shadow, tls_kx, shadow_group, source, ehlo)"
        " VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
    [ADD_ROLLUP] = "INSERT INTO rollup VALUES(?,?,?,?,?) ON CONFLICT(hour, shape) DO UPDATE SET"
                   " attempts = attempts + excluded.attempts, bytes = bytes + excluded.bytes,"
                   " duration_ms = duration_ms + excluded.duration_ms",
    [SET_ROLLED] = "UPDATE state SET value = ? WHERE name = 'rolled'",
    [ADD_MARK] = "INSERT OR IGNORE INTO mark VALUES(?,?)",
    [ADD_BLOCK] = "INSERT INTO block VALUES(?,?,?)",
    [ADD_SESSION] = "INSERT INTO session VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
    [BEGIN] = "BEGIN IMMEDIATE",
    [COMMIT] = "COMMIT",
};

struct delta { /* not yet in rollup */
    int64_t hour, shape;
    uint64_t attempts, bytes, duration_ms;
};

struct day {
    sqlite3 *db;
    char *path; /* owned */
    sqlite3_stmt *statements[STATEMENTS];
    struct knowns words, shapes;
    struct seen seen;
    struct delta *deltas; /* owned */
    size_t delta_count, delta_cap;
    int64_t max_id, max_session, marked_minute;
    /* the block being filled */
    int64_t block_first; /* 0: empty */
    uint32_t block_rows;
    uint8_t filter[FILTER_BYTES];
};

/* Runs a statement without rows and makes it ready again. */
static enum err run(struct day *d, enum statement which)
{
    int rc = sqlite3_step(d->statements[which]);

    sqlite3_reset(d->statements[which]);
    return history_sql_err(rc);
}

static void bind_text(sqlite3_stmt *s, int at, const char *text)
{
    if (text)
        sqlite3_bind_text(s, at, text, (int)strlen(text), SQLITE_STATIC);
    else
        sqlite3_bind_null(s, at);
}

static void bind_word(sqlite3_stmt *s, int at, uint32_t id)
{
    if (id)
        sqlite3_bind_int64(s, at, id);
    else
        sqlite3_bind_null(s, at);
}

/* ---- words ---- */

static enum err add_word(struct day *d, struct bytes text, uint64_t hash, uint32_t *id)
{
    sqlite3_bind_text(d->statements[ADD_WORD], 1, text.at, (int)text.len, SQLITE_STATIC);
    enum err e = run(d, ADD_WORD);

    if (!e) {
        *id = (uint32_t)sqlite3_last_insert_rowid(d->db);
        knowns_put(&d->words, hash, *id);
    }
    return e;
}

/* For what shapes are made of: always a word; NULL is 0. */
static enum err intern(struct day *d, const char *text, uint32_t *out)
{
    struct bytes t = bytes_of(text);

    *out = 0;
    if (!text)
        return OK;
    uint64_t hash = known_hash(t);
    const struct known *known = knowns_find(&d->words, hash);
    if (!known)
        return add_word(d, t, hash, out);
    *out = known->id;
    return OK;
}

/* A word when it repeats, else the text itself: unique reply texts and senders must not fill the table. */
static enum err bind_loose(struct day *d, int at, const char *text)
{
    sqlite3_stmt *s = d->statements[ADD_ATTEMPT];
    struct bytes t = bytes_of(text);
    uint32_t id = 0;

    if (!text) {
        sqlite3_bind_null(s, at);
        return OK;
    }
    uint64_t hash = known_hash(t);
    const struct known *known = knowns_find(&d->words, hash);
    if (known) {
        id = known->id;
    } else if (seen_before(&d->seen, hash)) {
        enum err e = add_word(d, t, hash, &id);
        if (e)
            return e;
    }
    if (id)
        sqlite3_bind_int64(s, at, id);
    else
        sqlite3_bind_text(s, at, t.at, (int)t.len, SQLITE_STATIC);
    return OK;
}

/* ---- shapes ---- */

static enum err add_shape(struct day *d, const struct shape_key *k, uint64_t hash, struct known **out)
{
    sqlite3_stmt *s = d->statements[ADD_SHAPE];
    const uint32_t words[] = {k->grp, k->domain, k->mx, k->campaign, k->tls_version, k->tls_cipher};
    const int numbers[] = {k->accepted_day,
                           k->outcome,
                           k->then,
                           k->wanted,
                           k->effective,
                           k->why,
                           k->verify,
                           (k->flags & SHAPE_RESUMED) != 0,
                           (k->flags & SHAPE_OFFERED) != 0,
                           (k->flags & SHAPE_FALLBACK) != 0,
                           (k->flags & SHAPE_TLS_FAILED) != 0,
                           k->dane,
                           k->sts,
                           k->failure,
                           k->expires_day,
                           k->shadow};
    int at = 0;

    for (size_t i = 0; i < COUNT_OF(words); i++)
        bind_word(s, ++at, words[i]);
    for (size_t i = 0; i < COUNT_OF(numbers); i++)
        sqlite3_bind_int(s, ++at, numbers[i]);
    bind_word(s, ++at, k->tls_kx);
    bind_word(s, ++at, k->shadow_group);
    bind_word(s, ++at, k->source);
    bind_word(s, ++at, k->ehlo);
    enum err e = run(d, ADD_SHAPE);
    if (!e)
        *out = knowns_put(&d->shapes, hash, (uint32_t)sqlite3_last_insert_rowid(d->db));
    return e;
}

static enum err shape_of(struct day *d, const struct attempt *a, struct known **out)
{
    struct shape_key k = {
        .accepted_day = (int32_t)floor_div(a->accepted_unix, SECS_PER_DAY),
        .outcome = (uint8_t)a->outcome.kind,
        .then = (uint8_t)a->then,
        .wanted = (uint8_t)a->tls_wanted,
        .effective = (uint8_t)a->tls_effective,
        .why = (uint8_t)a->tls_why,
        .verify = (uint8_t)a->tls_verify,
        .dane = (uint8_t)a->dane,
        .sts = (uint8_t)a->sts,
        .failure = (uint8_t)a->tls_failure,
        .expires_day = (int32_t)floor_div(a->cert_expires_unix, SECS_PER_DAY),
        .shadow = a->shadow,
        .flags = (uint8_t)((a->tls_resumed ? SHAPE_RESUMED : 0U) | (a->tls_offered ? SHAPE_OFFERED : 0U) |
                           (a->fallback ? SHAPE_FALLBACK : 0U) |
                           (outcome_failed_for_tls(&a->outcome) ? SHAPE_TLS_FAILED : 0U)),
    };
    enum err e = intern(d, a->group ? a->group : "", &k.grp);

    if (!e)
        e = intern(d, a->domain ? a->domain : "", &k.domain);
    if (!e)
        e = intern(d, a->mx, &k.mx);
    if (!e)
        e = intern(d, a->campaign, &k.campaign);
    if (!e)
        e = intern(d, a->tls_version, &k.tls_version);
    if (!e)
        e = intern(d, a->tls_cipher, &k.tls_cipher);
    if (!e)
        e = intern(d, a->tls_kx, &k.tls_kx);
    if (!e)
        e = intern(d, a->shadow_group, &k.shadow_group);
    if (!e)
        e = intern(d, a->source, &k.source);
    if (!e)
        e = intern(d, a->ehlo_name, &k.ehlo);
    if (e)
        return e;
    uint64_t hash = known_hash(bytes_make(&k, sizeof(k)));
    struct known *known = knowns_find(&d->shapes, hash);
    if (!known)
        return add_shape(d, &k, hash, out);
    *out = known;
    return OK;
}

/* ---- rollups ---- */

static struct delta *add_delta(struct day *d, int64_t hour, int64_t shape)
{
    if (d->delta_count == d->delta_cap) {
        d->delta_cap = d->delta_cap ? d->delta_cap * 2 : 1024;
        d->deltas = mem_realloc(d->deltas, d->delta_cap * sizeof(*d->deltas));
    }
    struct delta *delta = &d->deltas[d->delta_count++];
    *delta = (struct delta){.hour = hour, .shape = shape};
    return delta;
}

static void count_attempt(struct day *d, struct known *shape, const struct attempt *a)
{
    int64_t hour = floor_div(a->at_unix_ms, MS_PER_HOUR);
    struct delta *delta = shape->delta < d->delta_count ? &d->deltas[shape->delta] : NULL;

    if (!delta || delta->shape != shape->id || delta->hour != hour) {
        delta = add_delta(d, hour, shape->id);
        shape->delta = (uint32_t)d->delta_count - 1;
    }
    delta->attempts++;
    delta->bytes += a->size_bytes;
    delta->duration_ms += a->duration_ms;
}

static enum err put_rollups(struct day *d)
{
    sqlite3_stmt *s = d->statements[ADD_ROLLUP];
    enum err e = OK;

    for (size_t i = 0; i < d->delta_count && !e; i++) {
        const struct delta *delta = &d->deltas[i];
        sqlite3_bind_int64(s, 1, delta->hour);
        sqlite3_bind_int64(s, 2, delta->shape);
        sqlite3_bind_int64(s, 3, (sqlite3_int64)delta->attempts);
        sqlite3_bind_int64(s, 4, (sqlite3_int64)delta->bytes);
        sqlite3_bind_int64(s, 5, (sqlite3_int64)delta->duration_ms);
        e = run(d, ADD_ROLLUP);
    }
    if (!e) {
        sqlite3_bind_int64(d->statements[SET_ROLLED], 1, d->max_id);
        e = run(d, SET_ROLLED);
    }
    d->delta_count = 0;
    return e;
}

size_t day_pending_rollups(const struct day *d)
{
    return d->delta_count;
}

/* ---- blocks ---- */

static void begin_block(struct day *d)
{
    d->block_first = 0;
    d->block_rows = 0;
    memset(d->filter, 0, sizeof(d->filter));
}

static void filter_row(struct day *d, int64_t id, uint64_t message_id, struct bytes address,
                       struct bytes domain)
{
    if (!d->block_first)
        d->block_first = id;
    d->block_rows++;
    filter_add(d->filter, filter_hash_message(message_id));
    filter_add(d->filter, filter_hash_address(address));
    filter_add(d->filter, filter_hash_domain(domain));
}

static enum err end_full_block(struct day *d, int64_t last_id)
{
    if (d->block_rows < BLOCK_ROWS)
        return OK;
    sqlite3_bind_int64(d->statements[ADD_BLOCK], 1, last_id);
    sqlite3_bind_int64(d->statements[ADD_BLOCK], 2, d->block_first);
    sqlite3_bind_blob(d->statements[ADD_BLOCK], 3, d->filter, sizeof(d->filter), SQLITE_STATIC);
    enum err e = run(d, ADD_BLOCK);
    begin_block(d);
    return e;
}

/* ---- attempts ---- */

static enum err put_attempt(struct day *d, const struct attempt *a, int64_t id)
{
    sqlite3_stmt *s = d->statements[ADD_ATTEMPT];
    struct bytes address = bytes_of(a->address ? a->address : "");
    struct known *shape = NULL;
    enum err e = shape_of(d, a, &shape);
    int at = 0;

    if (e)
        return e;
    sqlite3_bind_int64(s, ++at, id);
    sqlite3_bind_int64(s, ++at, shape->id);
    sqlite3_bind_int64(s, ++at, (sqlite3_int64)a->message_id);
    sqlite3_bind_int64(s, ++at, a->rcpt_no);
    sqlite3_bind_int64(s, ++at, a->at_unix_ms);
    sqlite3_bind_int64(s, ++at, a->duration_ms);
    sqlite3_bind_int64(s, ++at, (sqlite3_int64)a->size_bytes);
    sqlite3_bind_int64(s, ++at, a->accepted_unix);
    sqlite3_bind_text(s, ++at, address.at, (int)address.len, SQLITE_STATIC);
    e = bind_loose(d, ++at, a->account);
    if (!e)
        e = bind_loose(d, ++at, a->sender);
    sqlite3_bind_int64(s, ++at, (sqlite3_int64)a->policy_version);
    sqlite3_bind_int(s, ++at, (int)a->match);
    if (!e)
        e = bind_loose(d, ++at, a->match_pattern);
    if (!e)
        e = bind_loose(d, ++at, a->remote);
    if (e)
        return e;
    sqlite3_bind_null(s, ++at); /* source: of the shape */
    sqlite3_bind_int(s, ++at, a->reused);
    sqlite3_bind_int(s, ++at, a->attempts);
    if (a->then == THEN_DEFER)
        sqlite3_bind_int64(s, ++at, a->due_unix);
    else
        sqlite3_bind_null(s, ++at);
    sqlite3_bind_int(s, ++at, (int)a->outcome.stage);
    sqlite3_bind_int(s, ++at, a->outcome.code);
    bind_text(s, ++at, a->outcome.enhanced[0] ? a->outcome.enhanced : NULL);
    sqlite3_bind_int(s, ++at, a->outcome.remote);
    sqlite3_bind_int(s, ++at, a->outcome.in_doubt);
    e = bind_loose(d, ++at, a->outcome.text[0] ? a->outcome.text : NULL);
    if (!e)
        e = run(d, ADD_ATTEMPT);
    if (e)
        return e;
    d->max_id = id;
    count_attempt(d, shape, a);
    filter_row(d, id, a->message_id, address, bytes_of(a->domain));
    return end_full_block(d, id);
}

/* ---- sessions ---- */

static enum err put_session(struct day *d, const struct session_record *r)
{
    const char *const texts_of[] = {r->group,  r->domain,      r->mx,          r->remote,
                                    r->source, r->helo,        r->tls_version, r->tls_cipher,
                                    r->tls_kx, r->policy_text, r->policy_mx,   r->reason};
    const int numbers[] = {(int)r->tls_wanted, (int)r->tls_effective, (int)r->tls_why};
    const int results[] = {(int)r->tls_verify, (int)r->dane,   (int)r->sts, (int)r->tls_failure,
                           r->tls_resumed,     r->tls_offered, r->fallback};
    uint32_t words[COUNT_OF(texts_of)];
    sqlite3_stmt *s = d->statements[ADD_SESSION];
    int at = 0;

    for (size_t i = 0; i < COUNT_OF(texts_of); i++) {
        enum err e = intern(d, texts_of[i], &words[i]);
        if (e)
            return e;
    }
    sqlite3_bind_int64(s, ++at, d->max_session + 1);
    sqlite3_bind_int64(s, ++at, r->at_unix_ms);
    sqlite3_bind_int64(s, ++at, (sqlite3_int64)r->policy_version);
    for (size_t i = 0; i < 6; i++)
        bind_word(s, ++at, words[i]);
    for (size_t i = 0; i < COUNT_OF(numbers); i++)
        sqlite3_bind_int(s, ++at, numbers[i]);
    for (size_t i = 6; i < 9; i++)
        bind_word(s, ++at, words[i]);
    for (size_t i = 0; i < COUNT_OF(results); i++)
        sqlite3_bind_int(s, ++at, results[i]);
    sqlite3_bind_int64(s, ++at, r->cert_expires_unix);
    sqlite3_bind_int(s, ++at, r->counted);
    sqlite3_bind_int(s, ++at, (int)r->policy_type);
    for (size_t i = 9; i < COUNT_OF(words); i++)
        bind_word(s, ++at, words[i]);
    enum err e = run(d, ADD_SESSION);
    if (!e)
        d->max_session++;
    return e;
}

static enum err put_mark(struct day *d, int64_t wall_ms, int64_t id)
{
    int64_t minute = floor_div(wall_ms, 60000);

    if (minute == d->marked_minute)
        return OK;
    d->marked_minute = minute;
    sqlite3_bind_int64(d->statements[ADD_MARK], 1, minute);
    sqlite3_bind_int64(d->statements[ADD_MARK], 2, id);
    return run(d, ADD_MARK);
}

enum err day_write(struct day *d, struct attempt_batch *first, size_t batches, int64_t first_id,
                   int64_t wall_ms, bool roll_up)
{
    struct note *note = &first->note;
    int64_t id = first_id;
    enum err e = run(d, BEGIN);

    if (!e)
        e = put_mark(d, wall_ms, first_id); /* sessions alone: of an id that comes yet, which is as good */
    for (size_t i = 0; i < batches && !e; i++, note = note->next) {
        const struct attempt_batch *b = CONTAINER_OF(note, struct attempt_batch, note);
        for (const struct attempt *a = b->first; a && !e; a = a->next)
            e = put_attempt(d, a, id++);
        for (const struct session_record *r = b->first_session; r && !e; r = r->next)
            e = put_session(d, r);
    }
    if (!e && roll_up)
        e = put_rollups(d);
    return e ? e : run(d, COMMIT);
}

enum err day_roll_up(struct day *d)
{
    enum err e = run(d, BEGIN);

    if (!e)
        e = put_rollups(d);
    return e ? e : run(d, COMMIT);
}

/* ---- open and close ---- */

/* The file itself is made here, because SQLite would follow the umask. */
static enum err make_file(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0)
        return errno == EEXIST ? OK : err_from_errno(errno);
    close(fd);
    char *copy = mem_strdup(path);
    int folder = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    mem_free(copy);
    if (folder < 0)
        return err_from_errno(errno);
    enum err e = fsync(folder) == 0 ? OK : err_from_errno(errno);
    close(folder);
    return e;
}

static enum err prepare_all(struct day *d)
{
    for (size_t i = 0; i < STATEMENTS; i++) {
        int rc = sqlite3_prepare_v3(d->db, texts[i], -1, SQLITE_PREPARE_PERSISTENT, &d->statements[i], NULL);
        if (rc != SQLITE_OK)
            return history_sql_err(rc);
    }
    return OK;
}

/* What was committed after the last rollup counts again as pending. */
static enum err load_deltas(struct day *d)
{
    sqlite3_stmt *s = NULL;
    int rc = sqlite3_prepare_v2(d->db,
                                "SELECT at_ms / 3600000 - (at_ms % 3600000 < 0), shape, count(*), sum(size),"
                                " sum(duration_ms) FROM attempt"
                                " WHERE id > (SELECT value FROM state WHERE name = 'rolled') GROUP BY 1, 2",
                                -1, &s, NULL);

    while (rc == SQLITE_OK || rc == SQLITE_ROW) {
        rc = sqlite3_step(s);
        if (rc != SQLITE_ROW)
            break;
        struct delta *delta = add_delta(d, sqlite3_column_int64(s, 0), sqlite3_column_int64(s, 1));
        delta->attempts = (uint64_t)sqlite3_column_int64(s, 2);
        delta->bytes = (uint64_t)sqlite3_column_int64(s, 3);
        delta->duration_ms = (uint64_t)sqlite3_column_int64(s, 4);
    }
    sqlite3_finalize(s);
    return history_sql_err(rc);
}

/* The block that was being filled when the file was last closed. */
static enum err load_block(struct day *d)
{
    sqlite3_stmt *s = NULL;
    int rc = sqlite3_prepare_v2(d->db,
                                "SELECT a.id, a.message, a.address, w.text FROM attempt a"
                                " CROSS JOIN shape s ON s.id = a.shape CROSS JOIN word w ON w.id = s.domain"
                                " WHERE a.id > (SELECT ifnull(max(last_id), 0) FROM block) ORDER BY a.id",
                                -1, &s, NULL);

    begin_block(d);
    while (rc == SQLITE_OK || rc == SQLITE_ROW) {
        rc = sqlite3_step(s);
        if (rc != SQLITE_ROW)
            break;
        struct bytes address = bytes_make(sqlite3_column_text(s, 2), (size_t)sqlite3_column_bytes(s, 2));
        struct bytes domain = bytes_make(sqlite3_column_text(s, 3), (size_t)sqlite3_column_bytes(s, 3));
        filter_row(d, sqlite3_column_int64(s, 0), (uint64_t)sqlite3_column_int64(s, 1), address, domain);
    }
    sqlite3_finalize(s);
    return history_sql_err(rc);
}

static enum err set_up(struct day *d)
{
    enum err e;

    sqlite3_extended_result_codes(d->db, 1);
    sqlite3_busy_timeout(d->db, 2000); /* a reader that recovers the WAL */
    e = history_sql_err(sqlite3_exec(d->db,
                                     "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
                                     "PRAGMA locking_mode = NORMAL; PRAGMA temp_store = MEMORY",
                                     NULL, NULL, NULL));
    if (!e) {
        BUF_LOCAL(sql);
        buf_putf(&sql,
                 "PRAGMA wal_autocheckpoint = %d; PRAGMA journal_size_limit = %d; PRAGMA cache_size = -%d",
                 WAL_PAGES, WAL_KEPT, CACHE_KIB);
        e = history_sql_err(sqlite3_exec(d->db, buf_str(&sql), NULL, NULL, NULL));
    }
    if (!e)
        e = history_schema_write(d->db);
    if (!e)
        e = prepare_all(d);
    if (!e)
        e = history_sql_number(d->db, "SELECT max(id) FROM attempt", 0, &d->max_id);
    if (!e)
        e = history_sql_number(d->db, "SELECT max(id) FROM session", 0, &d->max_session);
    if (!e)
        e = load_deltas(d);
    return e ? e : load_block(d);
}

enum err day_open(const char *path, struct day **out)
{
    enum err e = make_file(path);

    if (e)
        return e;
    struct day *d = MEM_NEW(struct day);
    d->path = mem_strdup(path);
    e = history_sql_err(sqlite3_open_v2(
        path, &d->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW, NULL));
    if (!e)
        e = set_up(d);
    if (e) {
        day_close(d, false);
        return e;
    }
    *out = d;
    return OK;
}

int64_t day_max_id(const struct day *d)
{
    return d->max_id;
}

int64_t day_max_session(const struct day *d)
{
    return d->max_session;
}

bool day_has_moved(const struct day *d)
{
    int moved = 0;

    return sqlite3_file_control(d->db, "main", SQLITE_FCNTL_HAS_MOVED, &moved) == SQLITE_OK && moved;
}

const char *day_path(const struct day *d)
{
    return d->path;
}

const char *day_error(const struct day *d)
{
    return sqlite3_errmsg(d->db);
}

void day_close(struct day *d, bool finished)
{
    if (!d)
        return;
    if (finished)
        sqlite3_busy_timeout(d->db, 0); /* with a reader in it, it stays a WAL database: just as good */
    for (size_t i = 0; i < STATEMENTS; i++)
        sqlite3_finalize(d->statements[i]);
    if (finished)
        sqlite3_exec(d->db, "PRAGMA journal_mode = DELETE", NULL, NULL, NULL);
    sqlite3_close(d->db);
    knowns_fini(&d->words);
    knowns_fini(&d->shapes);
    mem_free(d->deltas);
    mem_free(d->path);
    mem_free(d);
}
