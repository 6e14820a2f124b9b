/*
 * The disk works while the store thread does: a thread that syncs the segment of a batch as soon as its
 * octets are with the kernel.  One file at a time; the store thread waits for it before the commit, whatever
 * it has done meanwhile.
 */
#include <errno.h>
#include <unistd.h>

#include "queue/spool_files.h"

static void *run(void *spool)
{
    struct spool *s = spool;
    struct syncer *y = &s->syncer;

    pthread_setname_np(pthread_self(), "syncer");
    pthread_mutex_lock(&y->lock);
    for (;;) {
        while (y->state != SYNC_ASKED && !y->closing)
            pthread_cond_wait(&y->cond, &y->lock);
        if (y->state != SYNC_ASKED)
            break;
        int fd = y->fd;
        pthread_mutex_unlock(&y->lock);
        int error = fdatasync(fd) ? errno : 0;
        pthread_mutex_lock(&y->lock);
        y->error = error;
        y->state = SYNC_DONE;
        pthread_cond_broadcast(&y->cond);
    }
    pthread_mutex_unlock(&y->lock);
    return NULL;
}

void spool_sync_ask(struct spool *s, int fd)
{
    struct syncer *y = &s->syncer;

    pthread_mutex_lock(&y->lock);
    y->fd = fd;
    y->state = SYNC_ASKED;
    pthread_cond_broadcast(&y->cond);
    pthread_mutex_unlock(&y->lock);
}

enum err spool_sync_wait(struct spool *s)
{
    struct syncer *y = &s->syncer;

    pthread_mutex_lock(&y->lock);
    while (y->state == SYNC_ASKED)
        pthread_cond_wait(&y->cond, &y->lock);
    int error = y->state == SYNC_DONE ? y->error : 0;
    y->state = SYNC_IDLE;
    pthread_mutex_unlock(&y->lock);
    return error ? err_from_errno(error) : OK;
}

enum err spool_syncer_start(struct spool *s)
{
    struct syncer *y = &s->syncer;

    pthread_mutex_init(&y->lock, NULL);
    pthread_cond_init(&y->cond, NULL);
    y->runs = pthread_create(&y->thread, NULL, run, s) == 0;
    return y->runs ? OK : ERR_NOMEM;
}

void spool_syncer_stop(struct spool *s)
{
    struct syncer *y = &s->syncer;

    if (y->runs) {
        pthread_mutex_lock(&y->lock);
        y->closing = true;
        pthread_cond_broadcast(&y->cond);
        pthread_mutex_unlock(&y->lock);
        pthread_join(y->thread, NULL);
    }
    pthread_cond_destroy(&y->cond);
    pthread_mutex_destroy(&y->lock);
}
