/* The keys in force, and the threads that sign with them. */
#include "engine/dkim/dkim_priv.h"

#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

/* ---- one order ---- */

static enum err sign(struct dkim *d, struct dkim_signing *s)
{
    uint64_t start_us = clock_now_us();
    enum err e = dkim_signing_sign(s);

    DKIM_ADD(d->sign_us, clock_now_us() - start_us);
    DKIM_ADD(d->signatures, dkim_signing_count(s));
    return e;
}

static void count_result(struct dkim *d, enum err e)
{
    if (!e) {
        DKIM_ADD(d->signed_messages, 1);
        return;
    }
    DKIM_ADD(d->failed_messages, 1);
    log_error(NULL, "dkim.failed", LOG_ERR(e));
}

static void serve(struct dkim *d, struct dkim_request *r)
{
    if (!r->signing) {
        r->result = dkim_sign_message(d, &r->message);
        return;
    }
    dkim_signing_seal(r->signing);
    r->result = sign(d, r->signing);
    if (!r->result)
        r->result = spool_replace(r->spool, r->body, 0, dkim_signing_fields(r->signing));
    count_result(d, r->result);
    dkim_signing_destroy(TAKE(r->signing));
}

/* ---- the pool ---- */

static bool next_order(struct dkim *d, struct dkim_order *out)
{
    pthread_mutex_lock(&d->lock);
    while (!d->waiting && !d->ending)
        pthread_cond_wait(&d->more, &d->lock);
    bool found = d->waiting > 0; /* what was posted is answered, even at the end */
    if (found) {
        *out = d->orders[d->first];
        d->first = (d->first + 1) % d->cap;
        d->waiting--;
    }
    pthread_mutex_unlock(&d->lock);
    return found;
}

static void *run(void *arg)
{
    struct dkim *d = arg;
    struct dkim_order order;

    pthread_setname_np(pthread_self(), "signing");
    while (next_order(d, &order)) {
        struct dkim_request *r = order.request;
        serve(d, r);
        DKIM_ADD(d->wait_us, clock_now_us() - order.posted_us);
        r->note.run = r->on_reply;
        inbox_post(r->reply_to, &r->note);
    }
    return NULL;
}

/* With the lock held. */
static void start_threads(struct dkim *d, int64_t wanted)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned count = wanted ? (unsigned)wanted : cores < 1 ? 1 : (unsigned)cores;

    count = MIN_OF(count, (unsigned)DKIM_THREADS_MAX);
    while (d->thread_count < count) {
        int code = pthread_create(&d->threads[d->thread_count], NULL, run, d);
        if (code) { /* fewer will do; without any, orders are refused */
            log_error(NULL, "dkim.thread_failed", LOG_ERR(err_from_errno(code)));
            return;
        }
        d->thread_count++;
    }
}

static void grow(struct dkim *d)
{
    size_t cap = MAX_OF(d->cap * 2, (size_t)64);
    struct dkim_order *orders = mem_alloc(cap * sizeof(*orders));

    for (size_t i = 0; i < d->waiting; i++)
        orders[i] = d->orders[(d->first + i) % d->cap];
    mem_free(d->orders);
    d->orders = orders;
    d->cap = cap;
    d->first = 0;
}

enum err dkim_post(struct dkim *d, struct dkim_request *r)
{
    uint64_t now_us = clock_now_us();
    bool full;

    pthread_mutex_lock(&d->lock);
    full = d->waiting >= d->queue_max || d->ending || !d->thread_count;
    if (!full) {
        if (d->waiting == d->cap)
            grow(d);
        d->orders[(d->first + d->waiting++) % d->cap] = (struct dkim_order){r, now_us};
        d->waiting_max = MAX_OF(d->waiting_max, d->waiting);
        pthread_cond_signal(&d->more);
    }
    pthread_mutex_unlock(&d->lock);
    if (full)
        DKIM_ADD(d->refused_full, 1);
    return full ? ERR_FULL : OK;
}

void dkim_post_always(struct dkim *d, struct dkim_request *r)
{
    if (dkim_post(d, r) == OK)
        return;
    serve(d, r);
    r->note.run = r->on_reply;
    inbox_post(r->reply_to, &r->note);
}

/* ---- life ---- */

struct dkim *dkim_create(void)
{
    struct dkim *d = MEM_NEW(struct dkim);

    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->more, NULL);
    return d;
}

void dkim_destroy(struct dkim *d)
{
    if (!d)
        return;
    pthread_mutex_lock(&d->lock);
    d->ending = true;
    pthread_cond_broadcast(&d->more);
    pthread_mutex_unlock(&d->lock);
    for (unsigned i = 0; i < d->thread_count; i++)
        pthread_join(d->threads[i], NULL);
    dkim_keyring_unref(d->ring);
    pthread_cond_destroy(&d->more);
    pthread_mutex_destroy(&d->lock);
    mem_free(d->orders);
    mem_free(d);
}

enum err dkim_prepare(const struct conf *conf, struct dkim_keyring **out, char **why)
{
    return dkim_keyring_load(conf, out, why);
}

void dkim_discard(struct dkim_keyring *ring)
{
    dkim_keyring_unref(ring);
}

void dkim_use(struct dkim *d, struct dkim_keyring *ring, const struct conf *conf)
{
    pthread_mutex_lock(&d->lock);
    struct dkim_keyring *before = d->ring;
    d->ring = ring;
    d->queue_max = (size_t)conf->dkim.queue;
    if (ring->count)
        start_threads(d, conf->dkim.threads);
    pthread_mutex_unlock(&d->lock);
    dkim_keyring_unref(before);
}

struct dkim_keyring *dkim_ring(struct dkim *d)
{
    pthread_mutex_lock(&d->lock);
    struct dkim_keyring *ring = dkim_keyring_ref(d->ring);
    pthread_mutex_unlock(&d->lock);
    return ring;
}

/* ---- signing ---- */

struct dkim_signing *dkim_signing_begin(struct dkim *d, const struct bytes *sections, size_t count,
                                        const struct account *account)
{
    struct dkim_keyring *ring = dkim_ring(d);
    struct dkim_signing *s = NULL;
    enum dkim_refusal no = DKIM_NO_KEY;

    if (ring && ring->count)
        no = dkim_signing_make(ring, sections, count, account, clock_unix(), &s);
    if (no) {
        DKIM_ADD(d->unsigned_messages, 1);
        if (no == DKIM_NOT_ALLOWED || no == DKIM_MANY_FROM || no == DKIM_MANY_FIELDS)
            log_warn(NULL, "dkim.not_signed",
                     LOG_STR("account", account && account->name ? account->name : "-"),
                     LOG_STR("why", dkim_refusal_text(no)));
    }
    dkim_keyring_unref(ring);
    return s;
}

enum err dkim_sign_message(struct dkim *d, struct buf *message)
{
    struct bytes all = buf_bytes(message);
    struct bytes header = bytes_first(all, dkim_header_length(all));
    struct bytes body = bytes_skip(all, header.len + 2);
    struct dkim_signing *s = dkim_signing_begin(d, &header, 1, NULL);
    BUF_LOCAL(whole);

    if (!s)
        return ERR_NOT_FOUND;
    dkim_signing_body(s, body);
    dkim_signing_seal(s);
    enum err e = sign(d, s);
    count_result(d, e);
    if (!e) {
        buf_reserve(&whole, all.len + dkim_signing_fields(s).len);
        buf_put(&whole, dkim_signing_fields(s));
        buf_put(&whole, all);
        struct buf before = *message;
        *message = whole;
        whole = before;
    }
    dkim_signing_destroy(s);
    return e;
}
