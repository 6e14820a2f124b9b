/* Opening and closing the store, and the loop of its thread. */
#include "queue/flight.h"
#include "queue/store.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "queue/store_priv.h"

#define LOCK_MARK    "queue.db was made"
#define IDLE_MS      1000
#define CLOSE_MS_MAX 5000

char *store_in_use(long pid, const char *dir)
{
    return text_format(
        "another hayaumad (pid %ld) uses the data directory %s: stop it, or name another directory", pid,
        dir);
}

/*
 * DIR/lock: the process that uses the directory, and whether a queue was ever made here; the second line is
 * what tells a lost queue.db from a new directory.
 */
static enum err lock_directory(struct store *s, bool *was_made, char **why)
{
    BUF_LOCAL(path);
    char text[200] = "";

    if (mkdir(s->dir, 0700) && errno != EEXIST) {
        *why = text_format(
            "cannot make the data directory %s: %s; make it, and give it to the user that runs the daemon",
            s->dir, strerror(errno));
        return err_from_errno(errno);
    }
    buf_putf(&path, "%s/lock", s->dir);
    s->lock_fd = open(buf_str(&path), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (s->lock_fd < 0) {
        *why = text_format(
            "cannot write to the data directory %s: %s; give it to the user that runs the daemon, and "
            "see that "
            "the disk is mounted for writing and has space",
            s->dir, strerror(errno));
        return err_from_errno(errno);
    }
    if (pread(s->lock_fd, text, sizeof(text) - 1, 0) < 0)
        text[0] = '\0';
    if (flock(s->lock_fd, LOCK_EX | LOCK_NB)) {
        *why = store_in_use(strtol(text, NULL, 10), s->dir);
        return ERR_BUSY;
    }
    *was_made = strstr(text, LOCK_MARK) != NULL;
    return OK;
}

long store_user_of(const char *dir)
{
    char text[200] = "";
    BUF_LOCAL(path);
    long pid = 0;

    buf_putf(&path, "%s/lock", dir);
    int fd = open(buf_str(&path), O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) != 0 && pread(fd, text, sizeof(text) - 1, 0) > 0)
        pid = strtol(text, NULL, 10);
    if (fd >= 0)
        close(fd);
    return pid;
}

static enum err write_lock(struct store *s, char **why)
{
    char text[100];
    int n = snprintf(text, sizeof(text), "%ld\n%s\n", (long)getpid(), LOCK_MARK);

    if (ftruncate(s->lock_fd, 0) || pwrite(s->lock_fd, text, (size_t)n, 0) != n) {
        enum err e = err_from_errno(errno);
        *why = text_format(
            "cannot write %s/lock: %s; free some space or see that the disk is mounted for writing", s->dir,
            strerror(errno));
        return e;
    }
    return OK;
}

static void note_spool_file(void *arg, uint64_t segment)
{
    (void)segment;
    *(bool *)arg = true;
}

static enum err load_sums(struct store *s)
{
    sqlite3_stmt *st;
    bool row;
    enum err e = sql_prepare(s->db, &st,
                             "SELECT messages, fresh, ready, held, dsn, bounce, cancel, paused, expire,"
                             " (SELECT value FROM meta WHERE key = 'history_day'),"
                             " (SELECT value FROM meta WHERE key = 'history_row'),"
                             " (SELECT max(id) FROM message),"
                             " (SELECT page_size FROM pragma_page_size) FROM counter WHERE id = 1");

    if (e)
        return e;
    e = sql_step(st, &row);
    if (!e && row) {
        s->messages = sqlite3_column_int64(st, 0);
        for (int i = 0; i < ROW_STATES; i++)
            s->counts[i] = sqlite3_column_int64(st, 1 + i);
        s->history_day = sqlite3_column_int64(st, 1 + ROW_STATES);
        s->history_row = sqlite3_column_int64(st, 2 + ROW_STATES);
        s->fresh_max_id = (uint64_t)sqlite3_column_int64(st, 3 + ROW_STATES);
        s->page_bytes = sqlite3_column_int64(st, 4 + ROW_STATES);
    }
    sqlite3_finalize(st);
    return e ? e : row ? OK : ERR_CORRUPT;
}

static int on_wal(void *store, sqlite3 *db, const char *name, int frames)
{
    struct store *s = store;

    (void)db;
    (void)name;
    s->wal_frames = frames;
    return SQLITE_OK;
}

static enum err open_database(struct store *s, bool was_made, char **why)
{
    bool has_mail = false, created;
    enum err e = spool_open(s->dir, s->config.segment_bytes, &s->spool, why);

    if (e)
        return e;
    e = spool_list(s->spool, note_spool_file, &has_mail);
    if (!e)
        e = schema_open(s->dir, !was_made && !has_mail, &s->db, &created, why);
    if (e)
        return e;
    (void)sqlite3_wal_hook(s->db, on_wal, s);
    e = store_prepare(s);
    if (!e)
        e = load_sums(s);
    if (!e)
        e = store_load_segments(s);
    if (!e)
        e = store_load_accounts(s);
    if (!e)
        e = store_load_campaigns(s);
    if (e)
        *why = text_format("cannot read %s/queue.db: %s (%s); restore it from a backup", s->dir, err_text(e),
                           sqlite3_errmsg(s->db));
    return e;
}

/* What ended while the last run could no longer say so, applied as one transaction. */
static enum err catch_up(struct store *s, char **why)
{
    char key[SPOOL_KEY_BYTES];
    enum err e = store_recover(s);

    if (!e)
        e = store_replay(s, why);
    if (!e)
        e = store_note_start(s);
    if (!e)
        e = store_new_spool_key(s, key);
    if (!e)
        e = store_commit_quietly(s);
    if (!e) {
        spool_set_key(s->spool, bytes_make(key, sizeof(key)));
        s->flight = flight_start(s->dir, s->run_unix, s->config.workers); /* what it held is on record now */
    }
    if (!e)
        e = store_remove_orphans(s);
    if (e && !*why)
        *why = text_format(
            "cannot bring the queue in %s up to date: %s (%s); see that the disk has space and is "
            "mounted for "
            "writing",
            s->dir, err_text(e), sqlite3_errmsg(s->db));
    return e;
}

static void destroy(struct store *s)
{
    size_t at = 0;

    if (s->db) {
        store_finalize(s);
        sqlite3_close(s->db);
    }
    flight_close(s->flight);
    store_mover_destroy(s);
    store_contents_destroy(s);
    store_ops_destroy(s);
    for (struct store_domain *d; (d = map_next(&s->domains, &at));)
        mem_free(d);
    at = 0;
    for (struct store_segment *g; (g = map_next(&s->segments, &at));)
        mem_free(g);
    map_fini(&s->domains);
    store_forget_tally(s);
    store_forget_campaigns(s);
    map_fini(&s->segments);
    buf_fini(&s->prune_after);
    leases_fini(&s->leases);
    spool_close(s->spool);
    accounts_unref(s->accounts);
    for (unsigned i = 0; i < s->config.workers; i++)
        mem_free(s->wakes[i].items);
    mem_free(s->wakes);
    mem_free(s->accepts);
    mem_free(s->accepted_rcpts);
    mem_free(s->states);
    mem_free(s->ends);
    mem_free(s->new_domains);
    if (s->reserve_fd >= 0)
        close(s->reserve_fd);
    if (s->lock_fd >= 0)
        close(s->lock_fd); /* ends the lock */
    doorbell_fini(&s->bell);
    pthread_mutex_destroy(&s->shared_lock);
    mem_free(s->dir);
    mem_free(s);
}

static struct store *create(const struct store_config *config)
{
    struct store *s = MEM_NEW(struct store);

    s->config = *config;
    s->config.workers = MAX_OF(config->workers, 1U);
    if (!s->config.segment_bytes)
        s->config.segment_bytes = 8U * 1024 * 1024;
    if (!s->config.wal_limit_bytes)
        s->config.wal_limit_bytes = 64U * 1024 * 1024;
    s->dir = mem_strdup(config->dir);
    s->config.dir = s->dir;
    s->lock_fd = s->reserve_fd = -1;
    store_contents_create(s);
    store_walk_start(s);
    s->forget_every_ms = 3600 * 1000;
    s->now_unix = clock_unix();
    s->wakes = mem_zalloc(s->config.workers * sizeof(*s->wakes));
    struct list *const lists[] = {&s->results,     &s->returned, &s->admins, &s->pages,
                                  &s->final_pages, &s->ops,      &s->settles};
    for (size_t i = 0; i < COUNT_OF(lists); i++)
        list_init(lists[i]);
    pthread_mutex_init(&s->shared_lock, NULL);
    doorbell_init(&s->bell);
    inbox_init(&s->inbox, s, doorbell_ring, &s->bell);
    return s;
}

static bool has_work_now(const struct store *s)
{
    if (!list_is_empty(&s->pages) || !list_is_empty(&s->final_pages))
        return true;
    uint64_t now = clock_now_ms();
    if (s->retry_at_ms && now < s->retry_at_ms)
        return false;
    bool settles = s->settle_at_ms && (now >= s->settle_at_ms || atomic_load(&s->stop));
    return settles || !list_is_empty(&s->returned) || !list_is_empty(&s->admins) || store_has_background(s);
}

static int64_t wait_ms(const struct store *s)
{
    uint64_t now = clock_now_ms();

    uint64_t next = MAX_OF(s->retry_at_ms, s->settle_at_ms);

    return next > now ? (int64_t)MIN_OF(next - now, (uint64_t)IDLE_MS) : IDLE_MS;
}

static bool may_end(const struct store *s, uint64_t since_ms)
{
    if (s->rest || !inbox_is_empty(&s->inbox))
        return false;
    if (!s->accept_count && list_is_empty(&s->results) && list_is_empty(&s->returned) &&
        list_is_empty(&s->admins) && list_is_empty(&s->ops))
        return true;
    return clock_now_ms() - since_ms > CLOSE_MS_MAX; /* the disk does not take it: history still has it */
}

static void *run(void *store)
{
    struct store *s = store;
    uint64_t stopping_ms = 0;

    pthread_setname_np(pthread_self(), "store");
    for (;;) {
        bool stop = atomic_load(&s->stop);
        pulse_beat(&s->pulse);
        if (stop && !stopping_ms)
            stopping_ms = clock_now_ms();
        if (stop && may_end(s, stopping_ms))
            return NULL;
        struct note *chain = s->rest ? TAKE(s->rest) : inbox_take(&s->inbox);
        if (!chain && !has_work_now(s)) {
            if (!doorbell_wait(&s->bell, stop ? 10 : wait_ms(s)))
                store_housekeeping(s);
            continue;
        }
        store_turn(s, chain);
        store_housekeeping(s);
    }
}

enum err store_open(const struct store_config *config, struct store **out, char **why)
{
    struct store *s;
    bool was_made = false;

    *why = NULL;
    sql_setup();
    mode_t before = umask(0077); /* SQLite makes its files by the umask */
    s = create(config);
    enum err e = lock_directory(s, &was_made, why);
    if (!e)
        e = open_database(s, was_made, why);
    if (!e)
        e = write_lock(s, why);
    if (!e)
        e = catch_up(s, why);
    if (!e) {
        store_reserve_make(s);
        store_know_files(s);
        store_housekeeping(s);
        store_settle_campaigns(s);
        s->final_new = s->counts[ROW_DSN] + s->counts[ROW_BOUNCE] + s->counts[ROW_CANCEL] > 0;
        if (pthread_create(&s->thread, NULL, run, s)) {
            *why = text_format("cannot start the store thread: %s", strerror(errno));
            e = ERR_NOMEM;
        }
    }
    umask(before);
    if (e) {
        destroy(s);
        return e;
    }
    *out = s;
    return OK;
}

void store_start(struct store *s)
{
    atomic_store(&s->started, true);
    doorbell_ring(&s->bell);
}

void store_close(struct store *s)
{
    if (!s)
        return;
    atomic_store(&s->stop, true);
    doorbell_ring(&s->bell);
    pthread_join(s->thread, NULL);
    store_drop_unanswered(s);
    store_note_end(s);
    int rc = sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    if (rc != SQLITE_OK && rc != SQLITE_BUSY)
        log_warn(NULL, "store.checkpoint", LOG_ERR(sql_err(rc)));
    destroy(s);
}

struct pulse *store_pulse(struct store *s)
{
    return &s->pulse;
}

struct flight *store_flight(struct store *s)
{
    return s->flight;
}

struct spool *store_spool(struct store *s)
{
    return s->spool;
}

void store_stats(struct store *s, struct store_stats *out)
{
    pthread_mutex_lock(&s->shared_lock);
    *out = s->stats;
    pthread_mutex_unlock(&s->shared_lock);
}
