#include "queue/history_thread.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

#define STEADY_MS     MS_PER_HOUR /* the clock must have run so long without a jump */
#define JUMP_MS       60000
#define LOOK_EVERY_MS (10 * 60000)

static void remove_with(const char *path, const char *ending)
{
    BUF_LOCAL(name);

    buf_puts(&name, path);
    buf_puts(&name, ending);
    unlink(buf_str(&name)); /* mostly not there */
}

static void remove_day_file(struct history *h, const char *path)
{
    if (unlink(path) != 0) {
        log_error(&h->log, "history.retention", LOG_STR("file", path), LOG_STR("detail", strerror(errno)));
        return;
    }
    remove_with(path, "-wal");
    remove_with(path, "-shm");
    remove_with(path, "-journal");
    log_info(&h->log, "history.retention_deleted", LOG_STR("file", path));
}

static void delete_expired(struct history *h, int64_t today)
{
    struct history_files files;

    if (history_files_list(h->dir, &files))
        return;
    for (size_t i = 0; i < files.count; i++) {
        const struct history_file *f = &files.items[i];
        bool in_use = h->day && h->day_number == f->day;
        if (!in_use && f->day < today - (int64_t)h->retention_days)
            remove_day_file(h, f->path);
    }
    history_files_fini(&files);
}

void retention_look(struct history *h, uint64_t now)
{
    int64_t wall = history_clock.wall_ms();
    int64_t offset = wall - (int64_t)now;

    if (!h->steady_since_ms || offset - h->clock_offset_ms > JUMP_MS || h->clock_offset_ms - offset > JUMP_MS)
        h->steady_since_ms = MAX_OF(now, (uint64_t)1);
    h->clock_offset_ms = offset;
    if (h->retention_days == 0 || now - h->steady_since_ms < STEADY_MS)
        return;
    if (h->retention_ms && now - h->retention_ms < LOOK_EVERY_MS)
        return;
    h->retention_ms = MAX_OF(now, (uint64_t)1);
    delete_expired(h, floor_div(wall, MS_PER_DAY));
}

void finish_old_days(struct history *h)
{
    struct history_files files;
    int64_t today = floor_div(history_clock.wall_ms(), MS_PER_DAY);

    if (history_files_list(h->dir, &files))
        return;
    for (size_t i = 0; i < files.count; i++) {
        struct day *d;
        BUF_LOCAL(wal);
        buf_putf(&wal, "%s-wal", files.items[i].path);
        if (files.items[i].day >= today || access(buf_str(&wal), F_OK) != 0)
            continue;
        enum err e = day_open(files.items[i].path, &d);
        if (!e) {
            e = day_pending_rollups(d) ? day_roll_up(d) : OK;
            day_close(d, !e);
        }
        if (e)
            log_warn(&h->log, "history.finish_day", LOG_STR("file", files.items[i].path), LOG_ERR(e));
    }
    history_files_fini(&files);
}
