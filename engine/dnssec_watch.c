#include "engine/dnssec_watch.h"

#include <pthread.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/worker.h"

#define WELL_MS 3600000
#define ILL_MS  60000

struct dnssec_watch {
    atomic_int state;
    atomic_bool asked;    /* by somebody who does not want to wait for the hour */
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed;
    struct dnssec_report report;
    uint64_t reports; /* so many came */
    /* Worker 0's alone: */
    struct dnssec_probing *probing;
    struct worker *worker;
    uint64_t due_ms;
    int said_state;
    uint64_t said_policy; /* its version when something was said last */
};

struct dnssec_watch *dnssec_watch_create(void)
{
    struct dnssec_watch *w = MEM_NEW(struct dnssec_watch);
    pthread_condattr_t attr;

    atomic_init(&w->state, DNSSEC_UNKNOWN);
    pthread_mutex_init(&w->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&w->changed, &attr);
    pthread_condattr_destroy(&attr);
    return w;
}

void dnssec_watch_destroy(struct dnssec_watch *w)
{
    if (!w)
        return;
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    mem_free(w);
}

const atomic_int *dnssec_watch_state(const struct dnssec_watch *w)
{
    return &w->state;
}

void dnssec_watch_report(struct dnssec_watch *w, struct dnssec_report *out)
{
    pthread_mutex_lock(&w->lock);
    *out = w->report;
    pthread_mutex_unlock(&w->lock);
}

void dnssec_watch_ask(struct dnssec_watch *w)
{
    atomic_store(&w->asked, true);
}

bool dnssec_watch_ask_and_wait(struct dnssec_watch *w, unsigned timeout_ms, struct dnssec_report *out)
{
    struct timespec until;
    int rc = 0;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    pthread_mutex_lock(&w->lock);
    uint64_t before = w->reports;
    dnssec_watch_ask(w);
    while (w->reports == before && rc == 0)
        rc = pthread_cond_timedwait(&w->changed, &w->lock, &until);
    bool came = w->reports != before;
    *out = w->report;
    pthread_mutex_unlock(&w->lock);
    return came;
}

const char *dnssec_watch_hint(enum dnssec_probe state)
{
    switch (state) {
    case DNSSEC_NOT_VALIDATING:
        return "there is no DANE until a validating resolver runs on this host (unbound) and dns.servers or "
               "resolv.conf names it";
    case DNSSEC_NOT_TRUSTED:
        return "it validates, but answers over a network: run one on this host, or name it in dns.trusted if "
               "nobody can interfere on the way";
    case DNSSEC_UNREACHABLE: return "is it running?  A server that is no resolver refuses such a question; a validating one with a wrong "
               "clock or trust anchor fails it";
    case DNSSEC_UNKNOWN:
    case DNSSEC_WORKS: break;
    }
    return "";
}

/* ---- worker 0 ---- */

/* The groups that want DANE, by commas; "" when none does. */
static void put_groups(const struct policy *p, struct buf *out)
{
    for (size_t i = 0; i < policy_group_count(p); i++)
        if (policy_group(p, i)->dane != DANE_OFF)
            buf_putf(out, "%s%s", out->len ? "," : "", policy_group(p, i)->name);
}

/* Once for each change, of what was found or of the policy. */
static void say(struct dnssec_watch *w)
{
    const struct policy *p = w->worker->policy;
    int state = atomic_load(&w->state);
    const char *name = dnssec_probe_name((enum dnssec_probe)state);
    BUF_LOCAL(groups);

    if (state == w->said_state && (state == DNSSEC_WORKS || policy_version(p) == w->said_policy))
        return;
    w->said_state = state;
    w->said_policy = policy_version(p);
    put_groups(p, &groups);
    if (state == DNSSEC_WORKS)
        log_info(NULL, "dnssec.works", LOG_STR("probe", w->report.question.name));
    else if (groups.len)
        log_warn(NULL, "dnssec.not_working", LOG_STR("state", name), LOG_STR("groups", buf_str(&groups)),
                 LOG_STR("hint", dnssec_watch_hint((enum dnssec_probe)state)));
    else
        log_info(NULL, "dnssec.not_working", LOG_STR("state", name), LOG_STR("groups", "none wants DANE"));
}

static void on_report(void *arg, const struct dnssec_report *report)
{
    struct dnssec_watch *w = arg;
    bool newly_mixed = report->mixed && !w->report.mixed;

    w->probing = NULL;
    w->due_ms = worker_now_ms(w->worker) + (report->result == DNSSEC_WORKS ? WELL_MS : ILL_MS);
    atomic_store(&w->state, report->result);
    pthread_mutex_lock(&w->lock);
    w->report = *report;
    w->reports++;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
    if (newly_mixed)
        log_warn(
            NULL, "dnssec.mixed",
            LOG_STR("hint",
                    "not every resolver validates: there is no DANE whenever one of the others is asked"));
    say(w);
}

void dnssec_watch_beat(struct dnssec_watch *w, struct worker *worker)
{
    struct dnssec_question question;
    uint64_t now = worker_now_ms(worker);

    w->worker = worker;
    if (w->probing)
        return;
    if (!atomic_exchange(&w->asked, false) && w->due_ms > now) {
        if (atomic_load(&w->state) != DNSSEC_UNKNOWN)
            say(w); /* the policy may have changed */
        return;
    }
    w->due_ms = now + ILL_MS;
    if (dnssec_question_parse(worker_conf(worker)->dns.validation_probe, &question))
        w->probing = dnssec_probe_start(&worker->loop, worker->dns, &question, on_report, w);
}

void dnssec_watch_close(struct dnssec_watch *w)
{
    dnssec_probe_cancel(TAKE(w->probing));
    w->due_ms = UINT64_MAX;
}
