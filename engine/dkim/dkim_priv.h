/* What the files dkim*.c share. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "engine/dkim/dkim.h"
#include "engine/dkim/signing.h"

#define DKIM_THREADS_MAX 256

struct dkim_order {
    struct dkim_request *request;
    uint64_t posted_us;
};

struct dkim {
    pthread_mutex_t lock; /* of everything down to `threads` */
    pthread_cond_t more;
    struct dkim_keyring *ring; /* counted; NULL: none yet */
    struct dkim_order *orders; /* a ring buffer that grows up to queue_max */
    size_t first, waiting, cap, queue_max;
    size_t waiting_max;
    bool ending;
    unsigned thread_count;
    pthread_t threads[DKIM_THREADS_MAX];
    _Atomic uint64_t signed_messages, unsigned_messages, failed_messages, refused_full;
    _Atomic uint64_t signatures, sign_us, wait_us;
};

#define DKIM_ADD(counter, n) atomic_fetch_add_explicit(&(counter), (n), memory_order_relaxed)
#define DKIM_GET(counter)    atomic_load_explicit(&(counter), memory_order_relaxed)

struct dkim_keyring *dkim_ring(struct dkim *d); /* counted, or NULL */
json_t *dkim_key_json(const struct dkim_entry *e);
