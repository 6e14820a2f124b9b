#include "engine/worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/deliver/deliver.h"
#include "engine/dnssec_watch.h"
#include "engine/net/fetch.h"
#include "engine/probe/probe.h"
#include "engine/shadow.h"
#include "engine/sts/sts.h"
#include "engine/submit/reports.h"
#include "engine/submit/submit.h"
#include "engine/tlsrpt/tlsrpt.h"
#include "engine/tlswatch.h"
#include "queue/flight.h"

#define BEAT_MS 1000
#define CALL_MS 250 /* so often a caller asks whether the worker is stuck */

static _Thread_local struct worker *current;

bool worker_is_current(const struct worker *w)
{
    return current == w;
}

uint32_t worker_random(void)
{
    static _Thread_local uint64_t state;

    if (!state && getrandom(&state, sizeof(state), 0) != (ssize_t)sizeof(state))
        abort();
    state ^= state << 13; /* for jitter and shuffles, nothing secret */
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 16);
}

static void wake(void *arg)
{
    uv_async_send(arg);
}

static void on_async(uv_async_t *async)
{
    struct worker *w = async->data;

    inbox_drain(&w->inbox);
}

uint64_t worker_batch_serial(const struct worker *w)
{
    return w->batches_posted + 1;
}

static void post_results(struct worker *w)
{
    if (!w->batch || !(w->batch->count || w->batch->session_count))
        return;
    w->batch->mark = &w->results_safe;
    w->batch->serial = ++w->batches_posted;
    history_post(w->shared->history, TAKE(w->batch));
}

/* Before the loop sleeps: the results of this turn go to history as one batch. */
static void on_prepare(uv_prepare_t *prepare)
{
    struct worker *w = prepare->data;

    deliver_flush(w->deliver);
    post_results(w);
    log_flush();
}

static void on_beat(uv_timer_t *timer)
{
    struct worker *w = timer->data;

    COUNT(w, loop_beats);
    pulse_beat(&w->pulse);
    deliver_on_beat(w->deliver);
    tlsrpt_on_beat(w->tlsrpt);
    tls_watch_beat(w->tls_watch);
    if (w->index == 0)
        dnssec_watch_beat(w->shared->dnssec, w);
}

void worker_flight_begin(struct worker *w, uint32_t rcpts)
{
    flight_begin(store_flight(w->shared->store), w->index, rcpts);
}

void worker_flight_end(struct worker *w, uint32_t rcpts)
{
    flight_end(store_flight(w->shared->store), w->index, rcpts);
}

void worker_flight_result(struct worker *w, uint32_t rcpts)
{
    if (!rcpts)
        return;
    if (!w->batch) /* there is one: it has their records */
        w->batch = attempt_batch_create();
    w->batch->flown += rcpts;
}

struct attempt *worker_attempt(struct worker *w)
{
    if (!w->batch)
        w->batch = attempt_batch_create();
    return attempt_batch_add(w->batch);
}

struct session_record *worker_session_record(struct worker *w)
{
    if (!w->batch)
        w->batch = attempt_batch_create();
    return attempt_batch_add_session(w->batch);
}

struct arena *worker_attempt_arena(struct worker *w)
{
    return &w->batch->arena;
}

struct worker *worker_create(struct shared *shared, unsigned index)
{
    struct worker *w = MEM_NEW(struct worker);

    w->shared = shared;
    w->index = index;
    list_init(&w->probes);
    list_init(&w->host_probes);
    list_init(&w->report_mails);
    log_context(&w->log, "worker=%u", index);
    uv_loop_init(&w->loop);
    uv_async_init(&w->loop, &w->async, on_async);
    w->async.data = w;
    uv_prepare_init(&w->loop, &w->prepare);
    w->prepare.data = w;
    uv_timer_init(&w->loop, &w->beat);
    w->beat.data = w;
    inbox_init(&w->inbox, w, wake, &w->async);
    w->results_safe.inbox = &w->inbox;
    w->results_safe.note.run = deliver_on_results_safe;
    w->pool = mem_alloc(sizeof(*w->pool));
    w->pool->loop = &w->loop;
    return w;
}

static enum err make_dns(struct worker *w, char **why)
{
    const struct conf *conf = worker_conf(w);
    struct dns_config config = {
        .timeout_ms = (uint32_t)conf->dns.timeout_ms,
        .total_ms = (uint32_t)conf->dns.total_timeout_ms,
        .cache_entries = (uint32_t)conf->dns.cache_entries,
        .ttl_max_s = 86400,
        .ipv6 = conf->delivery.ipv6,
        .dnssec = dnssec_watch_state(w->shared->dnssec),
    };

    for (size_t i = 0; i < conf->dns.trusted.count && config.trusted_count < COUNT_OF(config.trusted); i++)
        if (ip_net_parse(bytes_of(conf->dns.trusted.items[i]), &config.trusted[config.trusted_count]))
            config.trusted_count++; /* conf_load() refused the others */

    for (size_t i = 0; i < conf->dns.servers.count && config.server_count < COUNT_OF(config.servers); i++) {
        struct ip ip;
        uint16_t port;
        if (!ip_parse_port(bytes_of(conf->dns.servers.items[i]), 53, &ip, &port))
            continue; /* conf_load() refused it */
        config.servers[config.server_count].ip = ip;
        config.servers[config.server_count].port = port;
        config.servers[config.server_count].trusted_ad = dns_config_trusts(&config, &ip);
        config.server_count++;
    }
    return dns_create(&w->loop, &config, &w->dns, why);
}

enum err worker_setup(struct worker *w, struct policy *policy, struct accounts *accounts, char **why)
{
    const struct fetch_config fetch = {.ca_file = worker_conf(w)->mta_sts.ca_file};
    enum err e = make_dns(w, why);

    if (!e)
        e = fetcher_create(&w->loop, w->dns, &fetch, &w->fetcher, why);
    if (!e)
        e = sts_create(w, &w->sts, why);
    if (e)
        return e;
    w->policy = policy_ref(policy);
    w->accounts = accounts_ref(accounts);
    if (w->index == 0) /* the one count of all */
        atomic_store(&w->shared->tls_downgrades_open, tls_downgrades_count(worker_conf(w)->data_dir));
    w->tls_watch = tls_watch_create(w->shared->store, &w->inbox, &w->shared->tls_downgrades_open);
    w->deliver = deliver_create(w);
    w->submit = submit_create(w);
    if (w->index == 0)
        w->tlsrpt = tlsrpt_create(w);
    return OK;
}

static void *run(void *arg)
{
    struct worker *w = arg;

    current = w;
    pulse_beat(&w->pulse);
    log_gather(true);
    uv_prepare_start(&w->prepare, on_prepare);
    uv_timer_start(&w->beat, on_beat, BEAT_MS, BEAT_MS);
    if (w->index == 0)
        dnssec_watch_beat(w->shared->dnssec, w);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    tls_watch_flush(w->tls_watch);
    post_results(w);
    log_gather(false);
    return NULL;
}

enum err worker_start(struct worker *w)
{
    char name[16];

    if (pthread_create(&w->thread, NULL, run, w) != 0)
        return ERR_FULL;
    snprintf(name, sizeof(name), "worker-%u", w->index);
    pthread_setname_np(w->thread, name);
    return OK;
}

enum call_state { CALL_WAITS, CALL_RUNS, CALL_GIVEN_UP };

struct call {
    struct note note;
    worker_fn fn;
    void *arg;
    bool somebody_waits; /* and frees it, unless it was given up */
    _Atomic(enum call_state) state;
    struct doorbell done;
};

static void call_free(struct call *call)
{
    if (call->somebody_waits)
        doorbell_fini(&call->done);
    mem_free(call);
}

static bool call_move(struct call *call, enum call_state to)
{
    enum call_state from = CALL_WAITS;

    return atomic_compare_exchange_strong(&call->state, &from, to);
}

static void on_call(struct note *note, void *owner)
{
    struct call *call = CONTAINER_OF(note, struct call, note);
    bool runs = call_move(call, CALL_RUNS);

    if (runs)
        call->fn(owner, call->arg);
    if (runs && call->somebody_waits)
        doorbell_ring(&call->done);
    else
        call_free(call);
}

void worker_post(struct worker *w, worker_fn fn, void *arg)
{
    struct call *call = MEM_NEW(struct call);

    *call = (struct call){.note.run = on_call, .fn = fn, .arg = arg};
    inbox_post(&w->inbox, &call->note);
}

bool worker_call(struct worker *w, worker_fn fn, void *arg)
{
    struct call *call = MEM_NEW(struct call);

    *call = (struct call){.note.run = on_call, .fn = fn, .arg = arg, .somebody_waits = true};
    doorbell_init(&call->done);
    inbox_post(&w->inbox, &call->note);
    while (!doorbell_wait(&call->done, CALL_MS))
        if (pulse_is_stuck(&w->pulse) && call_move(call, CALL_GIVEN_UP))
            return false; /* the worker frees it, if ever it comes to it */
    call_free(call);
    return true;
}

static void close_all(struct worker *w, void *arg)
{
    (void)arg;
    if (w->submit)
        submit_close(w->submit);
    if (w->deliver)
        deliver_close(w->deliver);
    reports_close(w);
    tlsrpt_close(w->tlsrpt);
    probes_close(w);
    sts_close(w->sts, NULL, NULL); /* what is above has let go of its queries; each uses the one below */
    fetcher_close(w->fetcher, NULL, NULL);
    if (w->index == 0)
        dnssec_watch_close(w->shared->dnssec);
    if (w->dns)
        dns_close(w->dns, NULL, NULL);
    uv_close((uv_handle_t *)&w->async, NULL);
    uv_close((uv_handle_t *)&w->prepare, NULL);
    uv_close((uv_handle_t *)&w->beat, NULL);
}

void worker_post_stop(struct worker *w)
{
    worker_post(w, close_all, NULL);
}

void worker_join(struct worker *w)
{
    pthread_join(w->thread, NULL);
}

void worker_destroy(struct worker *w)
{
    if (!w)
        return;
    if (!w->thread) { /* it never ran: its handles must be closed all the same */
        close_all(w, NULL);
        uv_run(&w->loop, UV_RUN_DEFAULT);
    }
    deliver_destroy(w->deliver);
    submit_destroy(w->submit);
    tlsrpt_destroy(w->tlsrpt);
    tls_watch_destroy(w->tls_watch);
    uv_loop_close(&w->loop);
    attempt_batch_destroy(w->batch);
    policy_unref(w->policy);
    worker_shadow_destroy(w->shadow);
    accounts_unref(w->accounts);
    mem_free(w->pool);
    mem_free(w);
}
