/*
 * Work between the batches, in bounded steps: rows that the last run left fresh, wakes for the domains
 * that have mail on disk, disk space, the WAL.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "queue/store_priv.h"

#define FRESH_STEP     500
#define SPACE_EVERY_MS 1000
#define WAL_RETRY_MS   100
#define RESERVE_BYTES  (4LL * 1024 * 1024)
#define MARGIN_BYTES   (2ULL * 1024 * 1024) /* free space that ends "full" when no reserve is configured */

bool store_has_background(const struct store *s)
{
    if (!atomic_load(&s->started))
        return false;
    return !s->fresh_done || store_walk_can_go(s) || s->clock_pass.under_way || s->forget_wanted ||
           s->prune_wanted || !list_is_empty(&s->ops) || (s->mover && !spool_is_full(s->spool));
}

/* Mail that was with a worker when the last run ended, as ready rows with a wake. */
static void step_fresh(struct store *s)
{
    sqlite3_stmt *st = s->st[ST_FRESH_LEFT];
    struct {
        uint64_t id;
        uint32_t no;
        int64_t domain_id;
        uint16_t lane;
    } rows[FRESH_STEP];
    size_t count = 0;
    bool row;
    enum err e;

    sql_bind_int(st, 1, (int64_t)s->fresh_id);
    sql_bind_int(st, 2, s->fresh_id ? (int64_t)s->fresh_no : -1);
    sql_bind_int(st, 3, (int64_t)s->fresh_max_id);
    sql_bind_int(st, 4, FRESH_STEP);
    while (!(e = sql_step(st, &row)) && row) {
        rows[count].id = (uint64_t)sqlite3_column_int64(st, 0);
        rows[count].no = (uint32_t)sqlite3_column_int64(st, 1);
        rows[count].domain_id = sqlite3_column_int64(st, 2);
        rows[count++].lane = (uint16_t)sqlite3_column_int64(st, 3);
    }
    for (size_t i = 0; i < count && !e; i++) {
        struct store_domain *d;
        if (leases_has(&s->leases, rows[i].id, rows[i].no))
            continue; /* accepted in this run with a smaller id */
        sqlite3_stmt *back = s->st[ST_RCPT_GIVE_BACK];
        sql_bind_int(back, 1, (int64_t)rows[i].id);
        sql_bind_int(back, 2, rows[i].no);
        sql_bind_int(back, 3, s->now_unix);
        e = sql_run(back);
        if (e)
            break;
        if (sqlite3_changes(s->db) == 1)
            store_count(s, ROW_FRESH, ROW_READY);
        if (store_walk_will_find(s, rows[i].domain_id, rows[i].lane))
            continue;
        e = store_domain_by_id(s, rows[i].domain_id, &d);
        if (!e)
            store_add_wake(s, d, s->now_unix);
    }
    if (e) {
        store_fail(s, e);
        return;
    }
    s->fresh_done = count < FRESH_STEP;
    if (count) {
        s->fresh_id = rows[count - 1].id;
        s->fresh_no = rows[count - 1].no;
    }
}

bool store_step_start(struct store *s)
{
    bool walks = store_walk_can_go(s);

    if (!atomic_load(&s->started) || (s->fresh_done && !walks))
        return false;
    store_begin(s);
    s->start_in_txn = true;
    store_walk_begin(s);
    if (!s->failed && walks)
        store_walk_step(s);
    if (!s->failed && !s->fresh_done)
        step_fresh(s);
    return true;
}

/* ---- space ---- */

void store_reserve_make(struct store *s)
{
    BUF_LOCAL(path);

    if (s->reserve_fd < 0) {
        buf_putf(&path, "%s/reserve", s->dir);
        s->reserve_fd = open(buf_str(&path), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    }
    int64_t size = (int64_t)MIN_OF(s->config.reserve_bytes, (uint64_t)RESERVE_BYTES);
    if (s->reserve_fd >= 0 && size > 0)
        (void)posix_fallocate(s->reserve_fd, 0, (off_t)size); /* for want of space it is made later */
}

bool store_reserve_spend(struct store *s)
{
    off_t size = s->reserve_fd >= 0 ? lseek(s->reserve_fd, 0, SEEK_END) : 0;

    if (size <= 0 || ftruncate(s->reserve_fd, 0))
        return false;
    log_warn(NULL, "store.reserve", LOG_INT("given_back_bytes", size));
    return true;
}

static void check_space(struct store *s)
{
    struct statvfs v;

    if (statvfs(s->dir, &v))
        return;
    uint64_t avail = (uint64_t)v.f_bavail * v.f_frsize;
    bool low = avail < s->config.reserve_bytes;
    if (s->failed_space && avail > s->config.reserve_bytes + MARGIN_BYTES)
        s->failed_space = false;
    bool full = low || s->failed_space || s->wal_stuck;
    if (full != spool_is_full(s->spool))
        log_warn(NULL, full ? "store.full" : "store.accepting", LOG_INT("free_bytes", avail));
    spool_set_full(s->spool, full);
    s->low_space = low;
    if (!full && s->reserve_fd >= 0 && lseek(s->reserve_fd, 0, SEEK_END) == 0)
        store_reserve_make(s);
    pthread_mutex_lock(&s->shared_lock);
    s->stats.full = full;
    pthread_mutex_unlock(&s->shared_lock);
}

/* ---- the files ---- */

static bool look_at_files(const struct store *s, ino_t inodes[2])
{
    static const char *const names[] = {"queue.db", "queue.db-wal"};

    for (size_t i = 0; i < COUNT_OF(names); i++) {
        BUF_LOCAL(path);
        struct stat st;
        buf_putf(&path, "%s/%s", s->dir, names[i]);
        inodes[i] = 0;
        if (stat(buf_str(&path), &st) == 0)
            inodes[i] = st.st_ino;
        else if (errno != ENOENT)
            return false;
    }
    return true;
}

void store_know_files(struct store *s)
{
    (void)look_at_files(s, s->file_inodes);
}

/*
 * What is written to a file that has no name any more is gone with this process.  New mail is refused; what
 * was accepted goes on, and the two files can yet be had from /proc.
 */
static void check_files(struct store *s)
{
    ino_t now[2];

    if (!look_at_files(s, now))
        return;
    bool gone = memcmp(now, s->file_inodes, sizeof(now)) != 0;
    if (gone == s->file_gone)
        return;
    s->file_gone = gone;
    if (!gone) {
        log_warn(NULL, "store.file_back");
        return;
    }
    log_error(
        NULL, "store.file_gone", LOG_STR("dir", s->dir),
        LOG_STR("why", "queue.db or queue.db-wal was removed or replaced while in use; new mail is refused"),
        LOG_STR("hint",
                "put back the file that was there; if it was deleted, copy it from /proc/PID/fd before the "
                "daemon ends: what is in it alone would be lost"));
    pthread_mutex_lock(&s->shared_lock);
    snprintf(s->stats.last_error, sizeof(s->stats.last_error),
             "queue.db or its log was removed or replaced while in use: new mail is refused; the log says "
             "what to do");
    pthread_mutex_unlock(&s->shared_lock);
}

void store_housekeeping(struct store *s)
{
    uint64_t now = clock_now_ms();

    if (s->checked_space_ms && now - s->checked_space_ms < SPACE_EVERY_MS)
        return;
    s->checked_space_ms = now;
    store_checkpoint(s);
    check_files(s);
    check_space(s);
    store_mover_look(s);
    store_contents_look(s);
    store_keep_look(s);
    store_walk_beat(s);
    s->forget_wanted = s->walk.done && s->fresh_done &&
                       (!s->forgot_all_ms || now - s->forgot_all_ms > s->forget_every_ms);
}

/* ---- the WAL ---- */

static void say_stuck(struct store *s, uint64_t size)
{
    log_error(NULL, "store.wal", LOG_INT("bytes", size),
              LOG_STR("why", "a reader keeps the write-ahead log from shrinking: end it"));
    pthread_mutex_lock(&s->shared_lock);
    snprintf(s->stats.last_error, sizeof(s->stats.last_error),
             "the write-ahead log has %llu octets: a reader of queue.db keeps it from shrinking",
             (unsigned long long)size);
    pthread_mutex_unlock(&s->shared_lock);
    spool_set_full(s->spool, true);
}

/*
 * At half the limit a passive checkpoint copies what no reader needs; when everything is copied, the next
 * commit begins the WAL anew.  A reader that stays keeps it growing: at four times the limit new mail is
 * refused until it goes.
 */
void store_checkpoint(struct store *s)
{
    uint64_t size = (uint64_t)s->wal_frames * ((uint64_t)s->page_bytes + 24);
    uint64_t now = clock_now_ms();
    int frames = 0, copied = 0;

    if (size < s->config.wal_limit_bytes / 2)
        return;
    if (!s->wal_warned_ms ||
        now - s->wal_warned_ms >= WAL_RETRY_MS) { /* not after every commit while it is in vain */
        int rc = sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_PASSIVE, &frames, &copied);
        if (rc != SQLITE_OK && (rc & 0xff) != SQLITE_BUSY)
            store_note_error(s, "checkpoint", sql_err(rc));
        else if (frames == copied) {
            s->wal_frames = 0; /* the next commit begins at its start, unless a reader comes in between */
            s->wal_warned_ms = 0;
            s->wal_stuck = false;
            return;
        }
        s->wal_warned_ms = now;
    }
    bool stuck = size > s->config.wal_limit_bytes * 4;
    if (stuck && !s->wal_stuck)
        say_stuck(s, size);
    s->wal_stuck = stuck;
}
