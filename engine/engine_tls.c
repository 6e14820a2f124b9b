/* What operators do about the TLS of destinations. */
#include "base/mem.h"
#include "engine/engine_priv.h"
#include "engine/tlswatch.h"

/* Changes of many domains at once: their answers come in one commit or few, not one after the other. */
struct change_wait {
    struct doorbell bell;
    enum tls_downgrade_op op;
    const char *mx, *author;
    atomic_size_t open;
    atomic_ulong changed;
    atomic_int result; /* of those that failed otherwise than by ERR_NOT_FOUND, the last */
};

struct one_change {
    struct change_wait *wait;
    const char *domain;
};

static void on_changed(void *arg, enum err e, unsigned changed)
{
    struct one_change *one = arg;
    struct change_wait *wait = one->wait;

    atomic_fetch_add(&wait->changed, changed);
    if (e && e != ERR_NOT_FOUND)
        atomic_store(&wait->result, e);
    if (atomic_fetch_sub(&wait->open, 1) == 1)
        doorbell_ring(&wait->bell);
}

static void start_change(struct worker *w, void *arg)
{
    struct one_change *one = arg;
    const struct change_wait *wait = one->wait;

    tls_downgrades_change(w->tls_watch, wait->op, one->domain, wait->mx, wait->author, on_changed, one);
}

/* Held mail waits for its next attempt: that is now. */
static void retry_domains(struct engine *e, const char *const *domains, size_t count)
{
    struct queue_selector which = {.domains = mem_alloc(count * sizeof(char *)), .domain_count = count};
    uint64_t retried;

    for (size_t i = 0; i < count; i++)
        which.domains[i] = mem_strdup(domains[i]);
    enum err err = engine_queue_op(e, &which, NULL, QUEUE_RETRY, &retried);
    if (err)
        log_warn(NULL, "tls.downgrade_retry", LOG_INT("domains", count), LOG_ERR(err));
    queue_selector_fini(&which);
}

enum err engine_downgrades_change(struct engine *e, enum tls_downgrade_op op, const char *const *domains,
                                  size_t count, const char *mx, const char *author, uint64_t *changed)
{
    struct change_wait wait = {.op = op, .mx = mx, .author = author};
    struct one_change *all = mem_alloc((count + 1) * sizeof(*all));

    doorbell_init(&wait.bell);
    atomic_store(&wait.open, count + 1);
    for (size_t i = 0; i < count; i++) {
        all[i] = (struct one_change){&wait, domains[i]};
        worker_post(e->workers[store_owner(bytes_of(domains[i]), e->worker_count)], start_change, &all[i]);
    }
    if (atomic_fetch_sub(&wait.open, 1) != 1)
        doorbell_wait(&wait.bell, -1); /* the store answers, or its end does */
    doorbell_fini(&wait.bell);
    mem_free(all);
    *changed = atomic_load(&wait.changed);
    if (*changed)
        retry_domains(e, domains, count);
    enum err failed = (enum err)atomic_load(&wait.result);
    return failed ? failed : *changed ? OK : ERR_NOT_FOUND;
}
