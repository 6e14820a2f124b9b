/* What operators do about the TLS of destinations. */
#include "base/mem.h"
#include "engine/engine_priv.h"
#include "engine/tlswatch.h"

struct change_wait {
    struct doorbell bell;
    enum tls_downgrade_op op;
    const char *domain, *mx, *author;
    enum err result;
    unsigned changed;
};

static void on_changed(void *arg, enum err e, unsigned changed)
{
    struct change_wait *wait = arg;

    wait->result = e;
    wait->changed = changed;
    doorbell_ring(&wait->bell);
}

static void start_change(struct worker *w, void *arg)
{
    struct change_wait *wait = arg;

    tls_downgrades_change(w->tls_watch, wait->op, wait->domain, wait->mx, wait->author, on_changed, wait);
}

/* Held mail waits for its next attempt: that is now. */
static void retry_domain(struct engine *e, const char *domain)
{
    struct queue_selector which = {.domains = mem_alloc(sizeof(char *)), .domain_count = 1};
    uint64_t retried;

    which.domains[0] = mem_strdup(domain);
    enum err err = engine_queue_op(e, &which, NULL, QUEUE_RETRY, &retried);
    if (err)
        log_warn(NULL, "tls.downgrade_retry", LOG_STR("domain", domain), LOG_ERR(err));
    queue_selector_fini(&which);
}

enum err engine_downgrades_change(struct engine *e, enum tls_downgrade_op op, const char *domain,
                                  const char *mx, const char *author, unsigned *changed)
{
    struct change_wait wait = {.op = op, .domain = domain, .mx = mx, .author = author};

    doorbell_init(&wait.bell);
    worker_post(e->workers[store_owner(bytes_of(domain), e->worker_count)], start_change, &wait);
    doorbell_wait(&wait.bell, -1); /* the store answers, or its end does */
    doorbell_fini(&wait.bell);
    if (wait.result)
        return wait.result;
    retry_domain(e, domain);
    *changed = wait.changed;
    return OK;
}
