/* Probes of destinations for whoever asks: each runs on the worker that owns the domain. */
#include "base/mem.h"
#include "engine/engine_priv.h"
#include "engine/probe/probe.h"

#define LOOK_MS 200 /* how often whether we are to stop is looked at */

/* Counted: who asked, and each probe under way. */
struct batch {
    atomic_uint refs;
    pthread_mutex_t lock;
    struct doorbell bell;
    json_t *results;
    size_t missing;
    bool quick;
};

struct one {
    struct batch *batch;
    char *domain; /* owned */
};

static void batch_unref(struct batch *b)
{
    if (atomic_fetch_sub(&b->refs, 1) != 1)
        return;
    json_decref(b->results);
    doorbell_fini(&b->bell);
    pthread_mutex_destroy(&b->lock);
    mem_free(b);
}

static void on_result(void *arg, json_t *result)
{
    struct one *one = arg;
    struct batch *b = one->batch;

    pthread_mutex_lock(&b->lock);
    json_array_append_new(b->results, result);
    bool last = --b->missing == 0;
    pthread_mutex_unlock(&b->lock);
    if (last)
        doorbell_ring(&b->bell);
    batch_unref(b);
    mem_free(one->domain);
    mem_free(one);
}

static void start(struct worker *w, void *arg)
{
    struct one *one = arg;

    probe_domain(w, one->domain, one->batch->quick ? PROBE_QUICK : PROBE_FULL, on_result, one);
}

json_t *engine_probe(struct engine *e, const char *const *domains, size_t count, bool quick,
                     const _Atomic(bool) *stopping)
{
    struct batch *b = MEM_NEW(struct batch);

    atomic_init(&b->refs, (unsigned)count + 1);
    pthread_mutex_init(&b->lock, NULL);
    doorbell_init(&b->bell);
    b->results = json_array();
    b->missing = count;
    b->quick = quick;
    for (size_t i = 0; i < count; i++) {
        struct one *one = MEM_NEW(struct one);
        *one = (struct one){b, mem_strdup(domains[i])};
        worker_post(e->workers[store_owner(bytes_of(domains[i]), e->worker_count)], start, one);
    }
    bool waits = count > 0;
    while (waits && !atomic_load(stopping)) {
        doorbell_wait(&b->bell, LOOK_MS);
        pthread_mutex_lock(&b->lock);
        waits = b->missing > 0;
        pthread_mutex_unlock(&b->lock);
    }
    pthread_mutex_lock(&b->lock);
    json_t *results = json_copy(b->results);
    pthread_mutex_unlock(&b->lock);
    batch_unref(b);
    return results;
}
