/*
 * The history thread: batches in, one transaction, batches on to the store.
 *
 *   history_post → inbox → `waiting` → day_write → store_post_results
 *
 * Ids        of records ascend over all files, whatever the wall clock does: a new run begins above
 *            all that is there, and above 1024 per millisecond since 2024, so that even deleted files
 *            do not make an id come back.  The store's position is the id alone; the day only says
 *            where it lies.
 * Day        The file is that of the UTC day at commit.  A clock that goes back by up to a day stays
 *            in the newer file; one that goes back further gets the older day's file again.
 * Failure    A transaction that fails is rolled back by closing the file; the batches stay in
 *            `waiting` and are tried again each second.  A commit whose fsync failed may yet be found
 *            in the WAL at the next open: then the records are there under the ids that were tried,
 *            and the batches are handed on instead of written twice.
 * Retention  Files are deleted only after the wall clock has run steadily for an hour, so that one
 *            wrong setting does not cost the records of years.
 */
#include "queue/history_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "queue/history_thread.h"
#include "queue/store.h"

#define RETRY_MS          1000
#define ROLL_UP_MS        1000
#define ROLL_UP_PENDING   16384
#define TRANSACTION_ROWS  10000
#define HOUSEKEEPING_MS   1000
#define TRIES_BEFORE_MOVE 10 /* of errors other than a full disk, until another file is tried */
#define QUICK_MOVES       3  /* damaged files in a row that are left at once */
#define FREE_BYTES_LOW    (4 * 1024 * 1024)
#define EPOCH_2024_MS     1704067200000LL

struct history_clock history_clock = {clock_unix_ms, clock_now_ms};

/* ---- batches ---- */

struct attempt_batch *attempt_batch_create(void)
{
    return MEM_NEW(struct attempt_batch);
}

struct attempt *attempt_batch_add(struct attempt_batch *b)
{
    struct attempt *a = ARENA_NEW(&b->arena, struct attempt);

    if (b->last)
        b->last->next = a;
    else
        b->first = a;
    b->last = a;
    b->count++;
    return a;
}

struct session_record *attempt_batch_add_session(struct attempt_batch *b)
{
    struct session_record *r = ARENA_NEW(&b->arena, struct session_record);

    if (b->last_session)
        b->last_session->next = r;
    else
        b->first_session = r;
    b->last_session = r;
    b->session_count++;
    return r;
}

void attempt_batch_destroy(struct attempt_batch *b)
{
    if (!b)
        return;
    arena_fini(&b->arena);
    mem_free(b);
}

/* ---- the file in use ---- */

static bool disk_is_full(const struct history *h)
{
    struct statvfs s;
    BUF_LOCAL(folder);

    buf_putf(&folder, "%s/history", h->dir);
    return statvfs(buf_str(&folder), &s) == 0 && (uint64_t)s.f_bavail * s.f_frsize < FREE_BYTES_LOW;
}

static void set_current_path(struct history *h, const char *path)
{
    pthread_mutex_lock(&h->follow_lock);
    mem_free(h->current_path);
    h->current_path = mem_strdup(path);
    pthread_mutex_unlock(&h->follow_lock);
}

static void leave_day(struct history *h, bool finished)
{
    day_close(h->day, finished);
    h->day = NULL;
}

/* The highest number that this day has, 0 when it has no file. */
static enum err newest_number(const struct history *h, int64_t day, unsigned *out)
{
    struct history_files files;
    enum err e = history_files_list(h->dir, &files);

    if (e)
        return e;
    *out = 0;
    for (size_t i = 0; i < files.count; i++)
        if (files.items[i].day == day)
            *out = files.items[i].number;
    history_files_fini(&files);
    return OK;
}

static enum err open_number(struct history *h, int64_t day, unsigned number)
{
    char *path = history_file_path(h->dir, day, number);
    enum err e = day_open(path, &h->day);

    h->tried_day = day;
    h->tried_number = number;
    if (!e) {
        h->day_number = day;
        set_current_path(h, path);
    } else if (e == ERR_CORRUPT || e == ERR_VERSION) {
        log_error(&h->log, "history.file_unusable", LOG_STR("file", path), LOG_ERR(e));
    }
    mem_free(path);
    return e;
}

static enum err enter_day(struct history *h, int64_t day)
{
    unsigned number = 0;
    enum err e = newest_number(h, day, &number);

    if (e)
        return e;
    if (h->least_day == day)
        number = MAX_OF(number, h->least_number);
    e = open_number(h, day, number);
    if (e == ERR_CORRUPT || e == ERR_VERSION)
        e = open_number(h, day, number + 1);
    if (!e && day_max_id(h->day) > h->last_id)
        h->last_id = day_max_id(h->day); /* not ours to reuse, whoever wrote them */
    h->rolled_ms = history_clock.steady_ms();
    return e;
}

static int64_t day_for_now(const struct history *h)
{
    int64_t today = floor_div(history_clock.wall_ms(), MS_PER_DAY);

    return h->entered && today == h->day_number - 1 ? h->day_number : today;
}

static enum err be_in_right_day(struct history *h)
{
    /* A transaction whose end is unknown is looked for where it was tried. */
    int64_t day = h->tried_batches ? h->tried_day : day_for_now(h);

    if (h->day && h->day_number != day) {
        enum err e = day_pending_rollups(h->day) ? day_roll_up(h->day) : OK;
        if (e)
            return e; /* stays pending in the file; the caller closes and tries again */
        leave_day(h, true);
    }
    if (h->day && day_has_moved(h->day)) {
        log_error(&h->log, "history.file_gone", LOG_STR("file", day_path(h->day)));
        leave_day(h, false);
    }
    if (h->day)
        return OK;
    enum err e = enter_day(h, day);
    h->entered = h->entered || !e;
    return e;
}

/* ---- writing ---- */

static void note_failure(struct history *h, enum err e)
{
    h->failures++;
    if (!h->failing_since_ms) {
        h->failing_since_ms = history_clock.steady_ms();
        log_error(&h->log, "history.write_failed", LOG_ERR(e),
                  LOG_STR("detail", h->day ? day_error(h->day) : "cannot open the day file"),
                  LOG_INT("waiting", history_backlog(h)));
    }
    bool damaged = e == ERR_CORRUPT && h->failures <= QUICK_MOVES;
    bool hopeless = h->failures % TRIES_BEFORE_MOVE == 0 && e != ERR_NOSPACE && !disk_is_full(h);
    if (damaged || hopeless) {
        char *path = history_file_path(h->dir, h->tried_day, h->tried_number);
        log_error(&h->log, "history.file_given_up", LOG_STR("file", path), LOG_ERR(e));
        mem_free(path);
        h->least_day = h->tried_day;
        h->least_number = h->tried_number + 1;
    }
    leave_day(h, false);
    h->retry_at_ms = damaged ? 0 : history_clock.steady_ms() + RETRY_MS;
}

static void note_success(struct history *h)
{
    if (h->failing_since_ms)
        log_info(&h->log, "history.write_recovered",
                 LOG_INT("after_ms", history_clock.steady_ms() - h->failing_since_ms),
                 LOG_INT("waiting", history_backlog(h)));
    h->failing_since_ms = 0;
    h->failures = 0;
    h->retry_at_ms = 0;
}

bool safe_mark_has(struct safe_mark *m, uint64_t serial)
{
    if (atomic_load(&m->serial) >= serial)
        return true;
    if (!m->asked) {
        m->asked = true;
        atomic_store(&m->wanted, true);
    }
    return atomic_load(&m->serial) >= serial; /* it may have come between the question and the wish */
}

/* Those who wait for it go on before the queue hears of it. */
static void tell_posters(const struct history *h, size_t batches)
{
    struct note *n = h->waiting;

    for (size_t i = 0; i < batches; i++, n = n->next) {
        const struct attempt_batch *b = CONTAINER_OF(n, struct attempt_batch, note);
        if (b->mark)
            atomic_store(&b->mark->serial, b->serial);
    }
    n = h->waiting;
    for (size_t i = 0; i < batches; i++, n = n->next) {
        struct safe_mark *m = CONTAINER_OF(n, struct attempt_batch, note)->mark;
        if (m && atomic_exchange(&m->wanted, false))
            inbox_post(m->inbox, &m->note);
    }
}

/* The first `batches` of `waiting` are safe; their records end at last_id. */
static void hand_on(struct history *h, size_t batches, int64_t first_id)
{
    int64_t row = first_id - 1;
    size_t rows = 0;

    tell_posters(h, batches);
    for (size_t i = 0; i < batches; i++) {
        struct attempt_batch *b = CONTAINER_OF(h->waiting, struct attempt_batch, note);
        h->waiting = h->waiting->next;
        row += (int64_t)b->count;
        rows += b->count + b->session_count;
        if (h->store)
            store_post_results(h->store, b, h->day_number, row);
        else
            attempt_batch_destroy(b);
    }
    if (!h->waiting)
        h->waiting_end = &h->waiting;
    h->last_id = MAX_OF(h->last_id, row);
    atomic_fetch_sub(&h->backlog, rows);
    follow_announce(h);
}

static size_t batches_for_one_transaction(const struct history *h, int64_t *rows, int64_t *sessions)
{
    size_t batches = 0, count = 0, session_count = 0;

    for (struct note *n = h->waiting; n && count + session_count < TRANSACTION_ROWS; n = n->next, batches++) {
        const struct attempt_batch *b = CONTAINER_OF(n, struct attempt_batch, note);
        count += b->count;
        session_count += b->session_count;
    }
    *rows = (int64_t)count;
    *sessions = (int64_t)session_count;
    return batches;
}

/* After a failed commit: is it in the file after all?  A transaction is there as a whole or not at all. */
static bool was_committed(const struct history *h)
{
    if (!h->tried_batches)
        return false;
    if (h->tried_rows)
        return day_max_id(h->day) == h->tried_first_id + h->tried_rows - 1;
    return h->tried_sessions && day_max_session(h->day) == h->tried_first_session + h->tried_sessions - 1;
}

static void write_some(struct history *h)
{
    enum err e = be_in_right_day(h);

    if (!e && was_committed(h)) {
        hand_on(h, h->tried_batches, h->tried_first_id);
        h->tried_batches = 0;
        note_success(h);
        return;
    }
    if (!e) {
        uint64_t now = history_clock.steady_ms();
        bool roll_up = now - h->rolled_ms >= ROLL_UP_MS || day_pending_rollups(h->day) >= ROLL_UP_PENDING;
        h->tried_batches = batches_for_one_transaction(h, &h->tried_rows, &h->tried_sessions);
        h->tried_first_id = h->last_id + 1;
        h->tried_first_session = day_max_session(h->day) + 1;
        e = day_write(h->day, CONTAINER_OF(h->waiting, struct attempt_batch, note), h->tried_batches,
                      h->tried_first_id, history_clock.wall_ms(), roll_up);
        if (!e && roll_up)
            h->rolled_ms = now;
    }
    if (e) {
        note_failure(h, e);
        return;
    }
    size_t batches = h->tried_batches;
    h->tried_batches = 0;
    note_success(h);
    hand_on(h, batches, h->tried_first_id);
}

static void collect(struct history *h)
{
    struct note *chain = inbox_take(&h->inbox);

    *h->waiting_end = chain;
    while (*h->waiting_end)
        h->waiting_end = &(*h->waiting_end)->next;
}

/* ---- between batches ---- */

static void roll_up_when_idle(struct history *h, uint64_t now)
{
    if (!h->day || !day_pending_rollups(h->day) || now - h->rolled_ms < ROLL_UP_MS || now < h->retry_at_ms)
        return;
    enum err e = day_roll_up(h->day);
    h->rolled_ms = now;
    if (e)
        note_failure(h, e);
}

static void keep_house(struct history *h)
{
    uint64_t now = history_clock.steady_ms();

    roll_up_when_idle(h, now);
    if (now - h->kept_house_ms < HOUSEKEEPING_MS)
        return;
    h->kept_house_ms = now;
    if (h->day && !h->waiting && h->day_number != day_for_now(h) && now >= h->retry_at_ms) {
        enum err e = day_pending_rollups(h->day) ? day_roll_up(h->day) : OK;
        if (e)
            note_failure(h, e);
        else
            leave_day(h,
                      true); /* the next one is opened by the next record: no file for a day without mail */
    }
    retention_look(h, now);
}

static void drop_waiting(struct history *h)
{
    size_t dropped = 0;

    while (h->waiting) {
        struct attempt_batch *b = CONTAINER_OF(h->waiting, struct attempt_batch, note);
        h->waiting = h->waiting->next;
        dropped += b->count;
        attempt_batch_destroy(b);
    }
    if (dropped)
        log_error(&h->log, "history.records_lost", LOG_INT("attempts", dropped),
                  LOG_STR("effect", "these recipients are in the queue yet and will be tried again"));
}

static void *history_run(void *arg)
{
    struct history *h = arg;

    pthread_setname_np(pthread_self(), "history");
    finish_old_days(h);
    for (;;) {
        bool stopping =
            atomic_load(&h->stopping); /* before collect: what was posted before the stop is in it */
        pulse_beat(&h->pulse);
        collect(h);
        uint64_t now = history_clock.steady_ms();
        if (h->waiting && now >= h->retry_at_ms) {
            write_some(h);
        } else if (stopping && (!h->waiting || clock_now_ms() >= atomic_load(&h->give_up_ms))) {
            break;
        } else {
            bool soon = h->waiting || stopping; /* a retry or the end is near */
            doorbell_wait(&h->bell, soon ? 50 : HOUSEKEEPING_MS);
        }
        keep_house(h);
    }
    drop_waiting(h);
    if (h->day && day_pending_rollups(h->day)) {
        enum err e = day_roll_up(h->day); /* else the records have it: see history_day.c */
        if (e)
            log_warn(&h->log, "history.roll_up", LOG_ERR(e));
    }
    leave_day(h, false);
    return NULL;
}

/* ---- public ---- */

static enum err make_folder(const char *dir, char **why)
{
    BUF_LOCAL(folder);
    BUF_LOCAL(text);

    buf_putf(&folder, "%s/history", dir);
    if (mkdir(buf_str(&folder), 0700) != 0 && errno != EEXIST) {
        enum err e = err_from_errno(errno);
        buf_putf(&text, "cannot make %s: %s; create the data directory and give it to the user of the daemon",
                 buf_str(&folder), strerror(errno));
        *why = buf_take(&text);
        return e;
    }
    if (access(buf_str(&folder), R_OK | W_OK | X_OK) != 0) {
        enum err e = err_from_errno(errno);
        buf_putf(&text, "cannot write in %s: %s; it must belong to the user of the daemon", buf_str(&folder),
                 strerror(errno));
        *why = buf_take(&text);
        return e;
    }
    return OK;
}

/* The newest id of all files: one look at each, at start only. */
static enum err find_last_id(struct history *h, char **why)
{
    struct history_files files;
    enum err e = history_files_list(h->dir, &files);

    if (e) {
        BUF_LOCAL(text);
        buf_putf(&text, "cannot list %s/history: %s", h->dir, err_text(e));
        *why = buf_take(&text);
        return e;
    }
    for (size_t i = 0; i < files.count; i++) {
        sqlite3 *db = NULL;
        int64_t max = 0;
        enum err bad = history_file_read(files.items[i].path, &db);
        if (!bad)
            bad = history_sql_number(db, "SELECT max(id) FROM attempt", 0, &max);
        sqlite3_close(db);
        if (bad && bad != ERR_AGAIN)
            log_error(&h->log, "history.file_unreadable", LOG_STR("file", files.items[i].path), LOG_ERR(bad));
        h->last_id = MAX_OF(h->last_id, max);
    }
    history_files_fini(&files);
    int64_t by_clock = (history_clock.wall_ms() - EPOCH_2024_MS) * 1024;
    h->last_id = MAX_OF(h->last_id, by_clock);
    return OK;
}

static void history_free(struct history *h)
{
    doorbell_fini(&h->bell);
    pthread_cond_destroy(&h->follow_cond);
    pthread_mutex_destroy(&h->follow_lock);
    mem_free(h->current_path);
    mem_free(h->dir);
    mem_free(h);
}

enum err history_open(const char *dir, unsigned retention_days, struct history **out, char **why)
{
    enum err e = make_folder(dir, why);

    if (e)
        return e;
    struct history *h = MEM_NEW(struct history);
    pthread_condattr_t monotonic;
    h->dir = mem_strdup(dir);
    h->retention_days = retention_days;
    h->waiting_end = &h->waiting;
    log_context(&h->log, "thread=history");
    doorbell_init(&h->bell);
    inbox_init(&h->inbox, h, doorbell_ring, &h->bell);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&h->follow_cond, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&h->follow_lock, NULL);
    e = find_last_id(h, why);
    if (!e) {
        atomic_store(&h->safe_id, h->last_id);
        int rc = pthread_create(&h->thread, NULL, history_run, h);
        if (rc) {
            e = err_from_errno(rc);
            *why = mem_strdup("cannot start the history thread: the system refuses another thread");
        }
    }
    if (e) {
        history_free(h);
        return e;
    }
    *out = h;
    return OK;
}

void history_attach(struct history *h, struct store *store)
{
    h->store = store;
}

void history_post(struct history *h, struct attempt_batch *batch)
{
    atomic_fetch_add(&h->backlog, batch->count + batch->session_count);
    inbox_post(&h->inbox, &batch->note);
}

struct pulse *history_pulse(struct history *h)
{
    return &h->pulse;
}

size_t history_backlog(const struct history *h)
{
    return atomic_load(&h->backlog);
}

void history_close(struct history *h, uint32_t timeout_ms)
{
    if (!h)
        return;
    atomic_store(&h->give_up_ms, clock_now_ms() + timeout_ms);
    atomic_store(&h->stopping, true);
    doorbell_ring(&h->bell);
    pthread_join(h->thread, NULL);
    pthread_mutex_lock(&h->follow_lock);
    pthread_cond_broadcast(&h->follow_cond);
    while (atomic_load(&h->followers))
        pthread_cond_wait(&h->follow_cond, &h->follow_lock);
    pthread_mutex_unlock(&h->follow_lock);
    history_free(h);
}
