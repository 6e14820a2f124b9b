#include "base/inbox.h"

#include <errno.h>
#include <time.h>

void inbox_init(struct inbox *in, void *owner, void (*wake)(void *), void *wake_arg)
{
    atomic_init(&in->head, NULL);
    in->owner = owner;
    in->wake = wake;
    in->wake_arg = wake_arg;
}

void inbox_post(struct inbox *in, struct note *note)
{
    struct note *head = atomic_load_explicit(&in->head, memory_order_relaxed);

    do {
        note->next = head;
    } while (!atomic_compare_exchange_weak_explicit(&in->head, &head, note, memory_order_release,
                                                    memory_order_relaxed));
    if (!head) /* the owner may be asleep; else whoever made it non-empty has rung already */
        in->wake(in->wake_arg);
}

struct note *inbox_take(struct inbox *in)
{
    struct note *newest = atomic_exchange_explicit(&in->head, NULL, memory_order_acquire);
    struct note *oldest = NULL;

    while (newest) {
        struct note *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    return oldest;
}

size_t inbox_drain(struct inbox *in)
{
    size_t count = 0;

    for (struct note *chain; (chain = inbox_take(in));) {
        while (chain) {
            struct note *next = chain->next;
            chain->run(chain, in->owner);
            chain = next;
            count++;
        }
    }
    return count;
}

bool inbox_is_empty(const struct inbox *in)
{
    return atomic_load_explicit(&in->head, memory_order_relaxed) == NULL;
}

void doorbell_init(struct doorbell *d)
{
    pthread_condattr_t attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->rung_cond, &attr);
    pthread_condattr_destroy(&attr);
    d->rung = false;
}

void doorbell_fini(struct doorbell *d)
{
    pthread_cond_destroy(&d->rung_cond);
    pthread_mutex_destroy(&d->lock);
}

void doorbell_ring(void *doorbell)
{
    struct doorbell *d = doorbell;

    pthread_mutex_lock(&d->lock);
    d->rung = true;
    pthread_cond_signal(&d->rung_cond); /* under the lock: the waiter may free the bell afterwards */
    pthread_mutex_unlock(&d->lock);
}

bool doorbell_wait(struct doorbell *d, int64_t timeout_ms)
{
    struct timespec until;
    int rc = 0;

    if (timeout_ms >= 0) {
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += timeout_ms / 1000;
        until.tv_nsec += (timeout_ms % 1000) * 1000000;
        if (until.tv_nsec >= 1000000000) {
            until.tv_sec++;
            until.tv_nsec -= 1000000000;
        }
    }
    pthread_mutex_lock(&d->lock);
    while (!d->rung && rc != ETIMEDOUT)
        rc = timeout_ms < 0 ? pthread_cond_wait(&d->rung_cond, &d->lock)
                            : pthread_cond_timedwait(&d->rung_cond, &d->lock, &until);
    bool rung = d->rung;
    d->rung = false;
    pthread_mutex_unlock(&d->lock);
    return rung;
}
