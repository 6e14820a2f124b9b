/*
 * Counted in a map, under one lock that is held for a look-up; written by a thread of its own, so that
 * neither a worker nor the store waits for this file.
 *
 *     intake (hour, listener, source, account, version, cipher, auth | messages, recipients, bytes, last)
 *
 * account, version and cipher are '' where there is none.
 */
#include "queue/intake.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "queue/sql.h"

#define FLUSH_S        1
#define HOUR_S         3600
#define DAY_S          86400
#define ROWS_MAX       50000 /* unwritten, or sources of one hour: then the address is not told apart any more */
#define APPLICATION_ID 0x48415949 /* "HAYI" */

enum { PART_LISTENER, PART_SOURCE, PART_ACCOUNT, PART_VERSION, PART_CIPHER, PART_AUTH, PARTS };

struct tally {
    int64_t hour;
    const char *parts[PARTS]; /* in `text` */
    uint64_t messages, recipients, bytes;
    int64_t last;
    uint32_t key_len;
    char text[]; /* hour and parts, each ended by a NUL */
};

struct intake {
    pthread_t thread;
    struct pulse pulse;
    pthread_mutex_t lock;
    pthread_cond_t ring;
    bool ending;
    struct map tallies; /* struct tally, owned */
    unsigned days;
    int64_t swept_hour; /* the writer's, as what follows */
    bool failing;
    sqlite3 *db;
    sqlite3_stmt *add, *sweep;
};

/* ---- counting ---- */

static struct tally *tally_create(const char *key, size_t len, int64_t hour)
{
    struct tally *t = mem_zalloc(sizeof(*t) + len);
    const char *at = t->text;

    memcpy(t->text, key, len);
    t->key_len = (uint32_t)len;
    t->hour = hour;
    at += strlen(at) + 1;
    for (size_t i = 0; i < PARTS; i++) {
        t->parts[i] = at;
        at += strlen(at) + 1;
    }
    return t;
}

static void put_part(struct buf *key, const char *part)
{
    buf_puts(key, part ? part : "");
    buf_putc(key, '\0');
}

static struct tally *tally_of(struct intake *t, const struct intake_facts *f, int64_t hour)
{
    char source[IP_TEXT_BYTES];
    BUF_LOCAL(key);

    buf_reserve(&key, 256);
    buf_put_int(&key, hour);
    buf_putc(&key, '\0');
    put_part(&key, f->listener);
    put_part(&key, t->tallies.count < ROWS_MAX ? ip_format(&f->source, source) : "");
    put_part(&key, f->account);
    put_part(&key, f->version);
    put_part(&key, f->version ? f->cipher : NULL);
    put_part(&key, f->auth);
    struct tally *found = map_find(&t->tallies, buf_bytes(&key));
    if (found)
        return found;
    found = tally_create(key.at, key.len, hour);
    map_put(&t->tallies, bytes_make(found->text, found->key_len), found);
    return found;
}

void intake_count(struct intake *t, const struct intake_facts *f, uint32_t recipients, uint64_t bytes)
{
    int64_t now = clock_unix();

    pthread_mutex_lock(&t->lock);
    struct tally *tally = tally_of(t, f, now - now % HOUR_S);
    tally->messages++;
    tally->recipients += recipients;
    tally->bytes += bytes;
    tally->last = MAX_OF(tally->last, now);
    pthread_mutex_unlock(&t->lock);
}

/* ---- writing ---- */

static enum err write_one(struct intake *t, const struct tally *tally)
{
    sql_bind_int(t->add, 1, tally->hour);
    for (int i = 0; i < PARTS; i++)
        sql_bind_text(t->add, i + 2, tally->parts[i]);
    sql_bind_int(t->add, PARTS + 2, (int64_t)tally->messages);
    sql_bind_int(t->add, PARTS + 3, (int64_t)tally->recipients);
    sql_bind_int(t->add, PARTS + 4, (int64_t)tally->bytes);
    sql_bind_int(t->add, PARTS + 5, tally->last);
    return sql_run(t->add);
}

static enum err sweep(struct intake *t)
{
    int64_t now = clock_unix(), hour = now - now % HOUR_S;

    if (!t->days || hour == t->swept_hour)
        return OK;
    t->swept_hour = hour;
    sql_bind_int(t->sweep, 1, now - (int64_t)t->days * DAY_S);
    return sql_run(t->sweep);
}

static enum err write_all(struct intake *t, const struct map *tallies)
{
    enum err e = sql_exec(t->db, "BEGIN IMMEDIATE");
    const struct tally *tally;
    size_t at = 0;

    while (!e && (tally = map_next(tallies, &at)))
        e = write_one(t, tally);
    if (!e)
        e = sweep(t);
    if (!e)
        e = sql_exec(t->db, "COMMIT");
    if (e)
        sql_rollback(t->db);
    return e;
}

/* What could not be written is counted again. */
static void give_back(struct intake *t, struct map *tallies)
{
    struct tally *tally;
    size_t at = 0;

    pthread_mutex_lock(&t->lock);
    while ((tally = map_next(tallies, &at))) {
        struct bytes key = bytes_make(tally->text, tally->key_len);
        struct tally *newer = map_find(&t->tallies, key);
        if (!newer) {
            map_put(&t->tallies, key, tally);
            continue;
        }
        newer->messages += tally->messages;
        newer->recipients += tally->recipients;
        newer->bytes += tally->bytes;
        newer->last = MAX_OF(newer->last, tally->last);
        mem_free(tally);
    }
    pthread_mutex_unlock(&t->lock);
    map_fini(tallies);
}

static void free_all(struct map *tallies)
{
    struct tally *tally;
    size_t at = 0;

    while ((tally = map_next(tallies, &at)))
        mem_free(tally);
    map_fini(tallies);
}

static void flush(struct intake *t)
{
    pthread_mutex_lock(&t->lock);
    struct map tallies = t->tallies;
    t->tallies = (struct map){0};
    pthread_mutex_unlock(&t->lock);
    if (tallies.count == 0) {
        map_fini(&tallies);
        return;
    }
    enum err e = write_all(t, &tallies);
    if (e && !t->failing)
        log_error(NULL, "intake.write", LOG_ERR(e), LOG_STR("said", sqlite3_errmsg(t->db)),
                  LOG_STR("hint", "report submission-tls lags behind until it can be written"));
    t->failing = e != OK;
    if (e)
        give_back(t, &tallies);
    else
        free_all(&tallies);
}

static void *run(void *arg)
{
    struct intake *t = arg;
    bool ending = false;

    pthread_setname_np(pthread_self(), "intake");
    while (!ending) {
        struct timespec until;
        pulse_beat(&t->pulse);
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += FLUSH_S;
        pthread_mutex_lock(&t->lock);
        while (!t->ending && pthread_cond_timedwait(&t->ring, &t->lock, &until) != ETIMEDOUT)
            ;
        ending = t->ending;
        pthread_mutex_unlock(&t->lock);
        flush(t);
    }
    return NULL;
}

/* ---- the file ---- */

static const char schema[] =
    "CREATE TABLE IF NOT EXISTS intake(hour INTEGER NOT NULL, listener TEXT NOT NULL, source TEXT NOT NULL,"
    " account TEXT NOT NULL, version TEXT NOT NULL, cipher TEXT NOT NULL, auth TEXT NOT NULL,"
    " messages INTEGER NOT NULL, recipients INTEGER NOT NULL, bytes INTEGER NOT NULL, last INTEGER NOT NULL,"
    " PRIMARY KEY(hour, listener, source, account, version, cipher, auth)) WITHOUT ROWID;"
    "PRAGMA user_version = 1;";

static enum err prepare(struct intake *t)
{
    char pragmas[160];

    snprintf(pragmas, sizeof(pragmas),
             "PRAGMA application_id = %d; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;"
             "PRAGMA journal_size_limit = 4194304;",
             APPLICATION_ID);
    enum err e = sql_exec(t->db, pragmas);
    if (!e)
        e = sql_exec(t->db, schema);
    if (!e)
        e = sql_prepare(t->db, &t->add,
                        "INSERT INTO intake VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)"
                        " ON CONFLICT DO UPDATE SET messages = messages + excluded.messages,"
                        " recipients = recipients + excluded.recipients, bytes = bytes + excluded.bytes,"
                        " last = max(last, excluded.last)");
    return e ? e : sql_prepare(t->db, &t->sweep, "DELETE FROM intake WHERE hour < ?1");
}

static enum err open_file(struct intake *t, const char *path)
{
    int rc =
        sqlite3_open_v2(path, &t->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    enum err e = sql_err(rc);

    return e ? e : prepare(t);
}

static void close_file(struct intake *t)
{
    sqlite3_finalize(TAKE(t->add));
    sqlite3_finalize(TAKE(t->sweep));
    sqlite3_close(TAKE(t->db));
}

static void intake_free(struct intake *t)
{
    close_file(t);
    free_all(&t->tallies);
    pthread_cond_destroy(&t->ring);
    pthread_mutex_destroy(&t->lock);
    mem_free(t);
}

/* Sums are worth less than the mail: a damaged file is put aside, said, and begun anew. */
static enum err put_aside(struct intake *t, const char *path)
{
    BUF_LOCAL(aside);

    buf_putf(&aside, "%s.damaged", path);
    log_error(NULL, "intake.damaged", LOG_STR("file", path), LOG_STR("moved_to", buf_str(&aside)));
    close_file(t);
    if (rename(path, buf_str(&aside)) != 0)
        return err_from_errno(errno);
    return open_file(t, path);
}

enum err intake_open(const char *dir, unsigned days, struct intake **out, char **why)
{
    struct intake *t = MEM_NEW(struct intake);
    pthread_condattr_t monotonic;
    BUF_LOCAL(path);

    sql_setup();
    pthread_mutex_init(&t->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&t->ring, &monotonic);
    pthread_condattr_destroy(&monotonic);
    t->days = days;
    buf_putf(&path, "%s/intake.db", dir);
    enum err e = open_file(t, buf_str(&path));
    if (e == ERR_CORRUPT)
        e = put_aside(t, buf_str(&path));
    if (!e)
        (void)chmod(buf_str(&path), 0600);
    if (!e && pthread_create(&t->thread, NULL, run, t) != 0)
        e = ERR_BUSY;
    if (e) {
        *why = text_format("cannot use %s: %s; see that it is writable for the user that runs the daemon",
                           buf_str(&path), t->db ? sqlite3_errmsg(t->db) : err_text(e));
        intake_free(t);
        return e;
    }
    *out = t;
    return OK;
}

struct pulse *intake_pulse(struct intake *t)
{
    return &t->pulse;
}

void intake_close(struct intake *t)
{
    if (!t)
        return;
    pthread_mutex_lock(&t->lock);
    t->ending = true;
    pthread_cond_signal(&t->ring);
    pthread_mutex_unlock(&t->lock);
    pthread_join(t->thread, NULL);
    intake_free(t);
}
