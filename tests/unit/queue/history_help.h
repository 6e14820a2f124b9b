/* A history in a temporary directory, a clock that the test turns, and a store that only listens. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "queue/history.h"
#include "queue/history_priv.h"
#include "queue/report.h"
#include "queue/store.h"

#define NOON 1795262400 /* 2026-11-21T12:00:00Z */
#define DAY0 (NOON / SECS_PER_DAY)

struct given { /* what the store was told */
    uint64_t message_id;
    int64_t day, row;
    size_t count;
};
static struct {
    pthread_mutex_t lock;
    struct given *items;
    size_t count, attempts;
    int fd; /* also written here when not negative, for a process that will be killed */
} store_heard = {.lock = PTHREAD_MUTEX_INITIALIZER, .fd = -1};

void store_post_results(struct store *s, struct attempt_batch *b, int64_t day, int64_t row)
{
    (void)s;
    pthread_mutex_lock(&store_heard.lock);
    store_heard.items = mem_realloc(store_heard.items, (store_heard.count + 1) * sizeof(*store_heard.items));
    store_heard.items[store_heard.count++] =
        (struct given){b->first ? b->first->message_id : 0, day, row, b->count};
    store_heard.attempts += b->count;
    if (store_heard.fd >= 0 && write(store_heard.fd, &store_heard.items[store_heard.count - 1],
                                     sizeof(struct given)) != (ssize_t)sizeof(struct given))
        abort();
    pthread_mutex_unlock(&store_heard.lock);
    attempt_batch_destroy(b);
}

static _Atomic int64_t test_wall_ms;
static _Atomic uint64_t test_steady_ms;

static int64_t test_wall(void)
{
    return test_wall_ms;
}

static uint64_t test_steady(void)
{
    return test_steady_ms;
}

/* Both clocks go on together, as they do when nobody sets one. */
static inline void pass_time(int64_t ms)
{
    test_wall_ms += ms;
    test_steady_ms += (uint64_t)ms;
}

struct world {
    char dir[64];
    struct history *h;
};

static inline void world_open(struct world *w, unsigned retention_days)
{
    char *why = NULL;
    enum err e = history_open(w->dir, retention_days, &w->h, &why);

    if (e)
        fail_msg("%s", why);
    history_attach(w->h, (struct store *)w);
}

static inline int world_set_up(void **state)
{
    struct world *w = MEM_NEW(struct world);

    snprintf(w->dir, sizeof(w->dir), "/tmp/test_history.XXXXXX");
    if (!mkdtemp(w->dir))
        return -1;
    log_setup(getenv("TEST_LOG") ? 2 : -1, LOG_LEVEL_DEBUG, LOG_FORMAT_TEXT);
    test_wall_ms = (int64_t)NOON * 1000;
    test_steady_ms = 1000000;
    history_clock = (struct history_clock){test_wall, test_steady};
    mem_free(store_heard.items);
    store_heard.items = NULL;
    store_heard.count = store_heard.attempts = 0;
    store_heard.fd = -1;
    *state = w;
    return 0;
}

static inline int world_tear_down(void **state)
{
    struct world *w = *state;
    BUF_LOCAL(command);

    history_close(w->h, 2000);
    umount2(w->dir, MNT_DETACH); /* after a test that mounted there and failed */
    buf_putf(&command, "rm -rf '%s'", w->dir);
    int rc = system(buf_str(&command));
    mem_free(w);
    mem_free(store_heard.items);
    store_heard.items = NULL;
    return rc;
}

static inline size_t heard_attempts(void)
{
    pthread_mutex_lock(&store_heard.lock);
    size_t n = store_heard.attempts;
    pthread_mutex_unlock(&store_heard.lock);
    return n;
}

/* Gives up after ten real seconds. */
static inline bool wait_until_heard(size_t attempts)
{
    for (int i = 0; i < 10000 && heard_attempts() < attempts; i++)
        usleep(1000);
    return heard_attempts() >= attempts;
}

/* An attempt that delivered, one of its kind per message id. */
static inline struct attempt *add_attempt(struct attempt_batch *b, uint64_t message_id)
{
    struct attempt *a = attempt_batch_add(b);
    struct arena *m = &b->arena;

    a->message_id = message_id;
    a->domain = arena_printf(m, "d%llu.example", (unsigned long long)message_id % 7);
    a->address = arena_printf(m, "r%llu@%s", (unsigned long long)message_id, a->domain);
    a->campaign = message_id % 3 ? "spring" : NULL;
    a->sender = "bounce@sender.example";
    a->accepted_unix = test_wall_ms / 1000 - 60;
    a->size_bytes = 1000 + message_id % 10;
    a->policy_version = 3;
    a->group = message_id % 2 ? "default" : "mobile";
    a->match = MATCH_DEFAULT;
    a->match_pattern = "";
    a->mx = "mx.example";
    a->remote = "127.0.0.9:25";
    a->attempts = 1;
    a->at_unix_ms = test_wall_ms;
    a->duration_ms = 20;
    a->tls_wanted = a->tls_effective = TLS_ON;
    a->then = THEN_REMOVE;
    a->outcome.kind = OUTCOME_DELIVERED;
    a->outcome.stage = STAGE_DOT;
    a->outcome.code = 250;
    a->outcome.remote = true;
    snprintf(a->outcome.enhanced, sizeof(a->outcome.enhanced), "2.0.0");
    snprintf(a->outcome.text, sizeof(a->outcome.text), "queued as %llx", (unsigned long long)message_id);
    return a;
}

static inline struct attempt_batch *batch_of(uint64_t first_message_id, size_t count)
{
    struct attempt_batch *b = attempt_batch_create();

    for (size_t i = 0; i < count; i++)
        add_attempt(b, first_message_id + i);
    return b;
}

static inline void post_and_wait(struct world *w, struct attempt_batch *b)
{
    size_t want = heard_attempts() + b->count;

    history_post(w->h, b);
    if (!wait_until_heard(want))
        fail_msg("the store heard of %zu attempts, not of %zu", heard_attempts(), want);
}

/* One number from a day file, read as anybody may. */
static inline int64_t ask(const struct world *w, int64_t day, unsigned number, const char *sql)
{
    char *path = history_file_path(w->dir, day, number);
    sqlite3 *db = NULL;
    int64_t n = -1;

    if (history_file_read(path, &db) || history_sql_number(db, sql, -1, &n))
        fail_msg("%s: %s: %s", path, sql, db ? sqlite3_errmsg(db) : "cannot open");
    sqlite3_close(db);
    mem_free(path);
    return n;
}

/* As earlier releases left it. */
#define BACK_TO_VERSION_2                                                                                    \
    "ALTER TABLE shape DROP COLUMN source; ALTER TABLE shape DROP COLUMN ehlo; PRAGMA user_version = 2;"
#define BACK_TO_VERSION_1                                                                                    \
    BACK_TO_VERSION_2                                                                                        \
    "DROP TABLE session; ALTER TABLE shape DROP COLUMN tls_kx; ALTER TABLE shape DROP COLUMN dane;"          \
    "ALTER TABLE shape DROP COLUMN sts; ALTER TABLE shape DROP COLUMN failure;"                              \
    "ALTER TABLE shape DROP COLUMN expires_day; ALTER TABLE shape DROP COLUMN shadow;"                       \
    "ALTER TABLE shape DROP COLUMN shadow_group; PRAGMA user_version = 1"

static inline void sql_on(const char *path, const char *sql)
{
    sqlite3 *db;

    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

static inline bool file_exists(const struct world *w, int64_t day, unsigned number, const char *ending)
{
    char *path = history_file_path(w->dir, day, number);
    BUF_LOCAL(name);

    buf_puts(&name, path);
    buf_puts(&name, ending);
    mem_free(path);
    return access(buf_str(&name), F_OK) == 0;
}

static inline void write_file(const char *path, const void *at, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, at, len), len);
    close(fd);
}

/* Sums of the records and of what readers add up, both by everything that a rollup distinguishes. */
#define RECOUNT                                                                                              \
    "SELECT at_ms / 3600000 AS hour, shape, count(*) AS n, sum(size) AS b, sum(duration_ms) AS d FROM "      \
    "attempt"                                                                                                \
    " GROUP BY 1, 2"
#define ADDED_UP                                                                                             \
    "SELECT hour, shape, sum(n) AS n, sum(b) AS b, sum(d) AS d FROM (SELECT hour, shape, attempts AS n,"     \
    " bytes AS b, duration_ms AS d FROM rollup UNION ALL SELECT at_ms / 3600000, shape, 1, size, "           \
    "duration_ms"                                                                                            \
    " FROM attempt WHERE id > (SELECT value FROM state WHERE name = 'rolled')) GROUP BY 1, 2"

static inline void assert_rollups_are_exact(const struct world *w, int64_t day)
{
    assert_int_equal(ask(w, day, 0, "SELECT count(*) FROM (" RECOUNT " EXCEPT " ADDED_UP ")"), 0);
    assert_int_equal(ask(w, day, 0, "SELECT count(*) FROM (" ADDED_UP " EXCEPT " RECOUNT ")"), 0);
}

#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, world_set_up, world_tear_down)
