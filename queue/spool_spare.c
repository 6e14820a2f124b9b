/*
 * Dead segments.  Unlinking a file takes up to a tenth of a second, which no answer should wait for: a thread
 * of its own does it.  Two dead segments are kept to be written over, as long as there is space.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "queue/spool_files.h"

static void unlink_dead(struct spool *s, uint64_t segment)
{
    char name[SPOOL_NAME_BYTES];

    spool_name(name, segment, "dead");
    if (unlinkat(s->dir_fd, name, 0) && errno != ENOENT)
        log_warn(NULL, "spool.delete", LOG_STR("file", name), LOG_STR("error", strerror(errno)));
}

static void *sweep(void *spool)
{
    struct spool *s = spool;

    pthread_setname_np(pthread_self(), "sweeper");
    pthread_mutex_lock(&s->lock);
    for (;;) {
        while (!s->dead_count && !s->closing)
            pthread_cond_wait(&s->dead_cond, &s->lock);
        if (!s->dead_count)
            break;
        uint64_t segment = s->dead[--s->dead_count];
        pthread_mutex_unlock(&s->lock);
        unlink_dead(s, segment);
        pthread_mutex_lock(&s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* Under another name nobody finds it, and a start knows what to do with it. */
static bool rename_file(struct spool *s, uint64_t segment, const char *from, const char *to)
{
    char before[SPOOL_NAME_BYTES], after[SPOOL_NAME_BYTES];

    spool_name(before, segment, from);
    spool_name(after, segment, to);
    if (renameat(s->dir_fd, before, s->dir_fd, after) == 0)
        return true;
    if (errno != ENOENT)
        log_warn(NULL, "spool.rename", LOG_STR("file", before), LOG_STR("error", strerror(errno)));
    return false;
}

static void bury(struct spool *s, uint64_t segment)
{
    pthread_mutex_lock(&s->lock);
    bool queued = s->sweeper_runs && s->dead_count < DEAD_MAX;
    if (queued) {
        s->dead[s->dead_count++] = segment;
        pthread_cond_signal(&s->dead_cond);
    }
    pthread_mutex_unlock(&s->lock);
    if (!queued)
        unlink_dead(s, segment);
}

void spool_delete(struct spool *s, uint64_t segment)
{
    spool_forget_file(s, segment);
    if (rename_file(s, segment, "seg", "dead"))
        bury(s, segment);
}

void spool_retire(struct spool *s, uint64_t segment)
{
    spool_forget_file(s, segment);
    if (s->spare_count == SPARES_MAX || spool_is_full(s)) {
        spool_delete(s, segment);
        return;
    }
    if (rename_file(s, segment, "seg", "spare"))
        s->spares[s->spare_count++] = segment;
}

void spool_drop_spares(struct spool *s)
{
    while (s->spare_count) {
        uint64_t segment = s->spares[--s->spare_count];
        if (rename_file(s, segment, "spare", "dead"))
            bury(s, segment);
    }
}

int spool_take_spare(struct spool *s, uint64_t segment)
{
    char before[SPOOL_NAME_BYTES], after[SPOOL_NAME_BYTES];

    spool_name(before, s->spares[--s->spare_count], "spare");
    spool_name(after, segment, "seg");
    if (renameat(s->dir_fd, before, s->dir_fd, after))
        return -1;
    return openat(s->dir_fd, after, O_RDWR | O_CLOEXEC);
}

/* What the last run left: spares serve again, the dead go. */
static enum err adopt(struct spool *s)
{
    DIR *d = opendir(s->path);

    if (!d)
        return err_from_errno(errno);
    for (struct dirent *entry; (entry = readdir(d));) {
        char *end;
        uint64_t segment = strtoull(entry->d_name, &end, 16);
        if (end != entry->d_name + 16)
            continue;
        spool_number_after(s, segment); /* what stands in it must look like another segment's */
        if (strcmp(end, ".spare") == 0 && s->spare_count < SPARES_MAX)
            s->spares[s->spare_count++] = segment;
        else if (strcmp(end, ".dead") == 0 ||
                 (strcmp(end, ".spare") == 0 && rename_file(s, segment, "spare", "dead")))
            bury(s, segment);
    }
    closedir(d);
    return OK;
}

enum err spool_sweeper_start(struct spool *s)
{
    if (pthread_create(&s->sweeper, NULL, sweep, s))
        return ERR_NOMEM;
    s->sweeper_runs = true;
    return adopt(s);
}

void spool_sweeper_stop(struct spool *s)
{
    if (!s->sweeper_runs)
        return;
    pthread_mutex_lock(&s->lock);
    s->closing = true;
    pthread_cond_signal(&s->dead_cond);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->sweeper, NULL);
    s->sweeper_runs = false;
}
