/* The engine's life: create → start → (reload)* → drain → destroy. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/clock_steps.h"
#include "base/mem.h"
#include "engine/deliver/final.h"
#include "engine/campaign_guard.h"
#include "engine/dnssec_watch.h"
#include "engine/dkim/dkim.h"
#include "engine/engine_priv.h"
#include "engine/failed_hosts.h"
#include "engine/probe/host.h"
#include "engine/privileges.h"
#include "engine/shaping.h"
#include "engine/zones.h"
#include "engine/sources.h"

#define LEAVE_MS 5000

static void on_answer(struct note *note, void *owner)
{
    (void)note;
    (void)owner; /* the waiter reads the request itself */
}

void engine_wait_begin(struct engine_wait *wait, struct store_request *req)
{
    doorbell_init(&wait->bell);
    inbox_init(&wait->inbox, wait, doorbell_ring, &wait->bell);
    req->reply_to = &wait->inbox;
    req->on_reply = on_answer;
}

void engine_wait_end(struct engine_wait *wait)
{
    do /* the ring first: it comes after the note, and the bell is ours only when it has rung */
        doorbell_wait(&wait->bell, -1);
    while (inbox_drain(&wait->inbox) == 0);
    doorbell_fini(&wait->bell);
}

/* A folder whose name is not on the disk is lost with all that is in it. */
static enum err sync_parent(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *parent = slash == path ? mem_strdup("/")
                   : slash       ? mem_dup(path, (size_t)(slash - path))
                                 : mem_strdup(".");
    int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum err e = fd < 0 || fsync(fd) != 0 ? ERR_IO : OK;

    if (fd >= 0)
        close(fd);
    mem_free(parent);
    return e;
}

static enum err make_dir(const char *path, char **why)
{
    bool made = mkdir(path, 0700) == 0;

    if (!made && errno != EEXIST) {
        *why = text_format(
            "cannot make the data directory %s: %m; make it and give it to the user that runs hayaumad",
            path);
        return ERR_DENIED;
    }
    struct stat st;
    if (!made && (stat(path, &st) != 0 || !S_ISDIR(st.st_mode))) {
        *why = text_format("the data directory %s is no directory; name another one, or move it away", path);
        return ERR_DENIED;
    }
    if (access(path, W_OK | X_OK) != 0) {
        *why = text_format("the data directory %s is not writable (%m); %s", path,
                           errno == EROFS ? "see that its file system is mounted for writing"
                                          : "give it to the user that runs hayaumad");
        return ERR_DENIED;
    }
    if (made && sync_parent(path) != OK) {
        *why = text_format("cannot sync the folder that holds %s: %m; the disk may be failing", path);
        return ERR_IO;
    }
    return OK;
}

static char *host_name_of(const struct conf *conf)
{
    char name[256] = "";

    if (conf->host_name)
        return mem_strdup(conf->host_name);
    if (gethostname(name, sizeof(name) - 1) != 0 || !name[0])
        snprintf(name, sizeof(name), "localhost");
    return mem_strdup(name);
}

static enum err open_listeners(struct engine *e, char **why)
{
    const struct conf *conf = engine_conf(e);
    const struct conf_listener *items = conf->listeners.items;

    e->listeners = mem_zalloc((conf->listeners.count + 1) * sizeof(*e->listeners));
    for (size_t i = 0; i < conf->listeners.count; i++) {
        enum err err =
            listener_open(&items[i], conf, e->shared.host_name, e->worker_count, &e->listeners[i], why);
        if (err)
            return err;
        e->listener_count++;
    }
    return OK;
}

/* The store first: it locks the data directory, and no other daemon's files are touched without that. */
static enum err open_store(struct engine *e, char **why)
{
    const struct conf *conf = engine_conf(e);
    struct store_config config = {
        .dir = conf->data_dir,
        .segment_bytes = conf->store.segment_bytes,
        .keeps_copies = !conf->store.share_contents,
        .wal_limit_bytes = conf->store.wal_bytes,
        .reserve_bytes = conf->store.reserve_bytes,
        .settle_ms = (unsigned)conf->store.settle_ms,
        .history_days = (unsigned)conf->store.history_days,
        .workers = e->worker_count,
        .inboxes = e->inboxes,
        .on_jobs = deliver_on_jobs,
        .on_wake = deliver_on_wake,
        .on_final_due = finaliser_on_due,
    };
    enum err err = store_open(&config, &e->shared.store, why);

    if (!err)
        err = history_open(conf->data_dir, (unsigned)conf->store.history_days, &e->shared.history, why);
    if (!err)
        err = intake_open(conf->data_dir, (unsigned)conf->store.history_days, &e->shared.intake, why);
    if (!err)
        history_attach(e->shared.history, e->shared.store);
    return err;
}

static void make_workers(struct engine *e)
{
    e->workers = mem_zalloc(e->worker_count * sizeof(*e->workers));
    e->inboxes = mem_zalloc(e->worker_count * sizeof(*e->inboxes));
    e->shared.workers = e->workers;
    e->shared.worker_count = e->worker_count;
    for (unsigned i = 0; i < e->worker_count; i++) {
        e->workers[i] = worker_create(&e->shared, i);
        e->inboxes[i] = &e->workers[i]->inbox;
    }
}

static unsigned worker_count_of(const struct conf *conf)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    if (conf->workers)
        return (unsigned)conf->workers;
    return cores < 1 ? 1 : cores > 60 ? 60 : (unsigned)cores; /* 60: message ids have six bits for it */
}

enum err engine_create(struct conf *conf, struct engine **out, char **why)
{
    struct engine *e = MEM_NEW(struct engine);

    e->confs = MEM_NEW(struct conf_kept);
    e->confs->conf = *conf;
    *conf = (struct conf){0};
    atomic_store(&e->shared.conf, &e->confs->conf);
    pthread_mutex_init(&e->lock, NULL);
    e->started_unix = clock_unix();
    e->shared.host_name = host_name_of(engine_conf(e));
    e->watchdog = watchdog_create(&e->shared.conf);
    e->shared.limits = limits_create();
    e->shared.shaping = shaping_create();
    e->shared.zones = zones_create();
    e->shared.failed_hosts = failed_hosts_create();
    e->shared.sources = sources_create(e->shared.shaping);
    e->shared.guard = campaign_guard_create();
    e->shared.tls_client = tls_client_create();
    e->shared.dnssec = dnssec_watch_create();
    e->shared.probe_cache = probe_cache_create();
    e->shared.dkim = dkim_create();
    e->worker_count = worker_count_of(engine_conf(e));
    enum err err = open_listeners(e, why); /* ports first, while we may; the files belong to the later user */
    long other = err ? store_user_of(engine_conf(e)->data_dir) : 0;
    if (other) { /* the same configuration a second time: its port is taken, but that is not the point */
        mem_free(*why);
        *why = store_in_use(other, engine_conf(e)->data_dir);
    }
    if (!err)
        err = privileges_drop(engine_conf(e), why);
    if (!err)
        err = make_dir(engine_conf(e)->data_dir, why);
    if (!err)
        err = engine_set_certificates(e, why);
    struct dkim_keyring *keys = NULL;
    if (!err)
        err = dkim_prepare(engine_conf(e), &keys, why); /* as the user that will read them again */
    if (!err)
        dkim_use(e->shared.dkim, keys, engine_conf(e));
    if (!err) {
        make_workers(e);
        err = open_store(e, why);
    }
    if (!err) {
        err = shaping_open(e->shared.shaping, e->shared.store, engine_conf(e)->data_dir);
        if (err)
            *why = text_format("what was kept of the shaping cannot be read: %s", err_text(err));
    }
    if (!err) {
        err = sources_open(e->shared.sources, e->shared.store, engine_conf(e)->data_dir);
        if (err)
            *why = text_format("what was kept of warm-ups cannot be read: %s", err_text(err));
    }
    if (!err) {
        err = engine_open_campaigns(e);
        if (err)
            *why = text_format("what was kept of campaigns cannot be read: %s", err_text(err));
    }
    if (!err)
        err = engine_load_policy(e, why);
    if (!err)
        engine_load_shadow(e);
    if (err) {
        engine_destroy(e);
        return err;
    }
    *out = e;
    return OK;
}

/* Clients should not wait for a worker that does not turn. */
static void on_worker_pulse(void *arg, size_t worker, bool stuck)
{
    struct engine *e = arg;

    for (size_t i = 0; i < e->listener_count; i++)
        listener_set_deaf(e->listeners[i], (unsigned)worker, stuck);
}

static enum err start_watchdog(struct engine *e, char **why)
{
    char name[24];

    for (unsigned i = 0; i < e->worker_count; i++) {
        snprintf(name, sizeof(name), "worker-%u", i);
        watchdog_add(e->watchdog, name, &e->workers[i]->pulse, on_worker_pulse, e);
    }
    watchdog_add(e->watchdog, "store", store_pulse(e->shared.store), NULL, NULL);
    watchdog_add(e->watchdog, "history", history_pulse(e->shared.history), NULL, NULL);
    watchdog_add(e->watchdog, "intake", intake_pulse(e->shared.intake), NULL, NULL);
    watchdog_add(e->watchdog, "main", &e->main_pulse, NULL, NULL);
    enum err err = watchdog_start(e->watchdog);
    if (err)
        *why = text_format("cannot start the watchdog's thread: %s", err_text(err));
    return err;
}

enum err engine_start(struct engine *e, char **why)
{
    struct accounts *accounts = store_accounts(e->shared.store);
    enum err err = OK;

    (void)clock_restate(0); /* its first look: steps are known from here on */
    for (unsigned i = 0; i < e->worker_count && !err; i++)
        err = worker_setup(e->workers[i], e->policy, accounts, why);
    accounts_unref(accounts);
    if (err)
        return err;
    for (size_t i = 0; i < e->listener_count; i++)
        for (unsigned k = 0; k < e->worker_count; k++)
            submit_listen(e->workers[k]->submit, e->listeners[i]);
    for (unsigned i = 0; i < e->worker_count && !err; i++)
        err = worker_start(e->workers[i]);
    if (err)
        *why = text_format("cannot start a worker thread: %s", err_text(err));
    else
        err = start_watchdog(e, why);
    if (!err)
        store_start(e->shared.store);
    return err;
}

/* ---- ending ---- */

static void drain_worker(struct worker *w, void *arg)
{
    (void)arg;
    w->draining = true;
    submit_drain(w->submit);
    deliver_drain(w->deliver);
}

static void count_open(struct worker *w, void *arg)
{
    size_t *open = arg;

    *open += submit_open(w->submit) + deliver_in_flight(w->deliver);
}

void engine_drain(struct engine *e)
{
    uint64_t until = clock_now_ms() + engine_conf(e)->drain_ms;
    size_t open = 1;

    atomic_store(&e->draining, true);
    for (unsigned i = 0; i < e->worker_count; i++)
        worker_call(e->workers[i], drain_worker, NULL);
    while (open && clock_now_ms() < until) {
        open = 0;
        pulse_beat(&e->main_pulse);
        for (unsigned i = 0; i < e->worker_count; i++)
            worker_call(e->workers[i], count_open, &open);
        if (open)
            usleep(20000);
    }
    log_info(NULL, "engine.drained", LOG_INT("left_open", open));
}

bool engine_is_stuck(struct engine *e)
{
    return watchdog_any_stuck(e->watchdog);
}

bool engine_must_be_left(struct engine *e)
{
    uint64_t until = clock_now_ms() + LEAVE_MS;

    if (!engine_is_stuck(e))
        return false;
    while (history_backlog(e->shared.history) && clock_now_ms() < until)
        usleep(20000);
    (void)store_settle(e->shared.store);
    return true;
}

static void free_confs(struct engine *e)
{
    for (struct conf_kept *k = e->confs, *older; k; k = older) {
        older = k->older;
        conf_free(&k->conf);
        mem_free(k);
    }
}

void engine_destroy(struct engine *e)
{
    if (!e)
        return;
    watchdog_stop(e->watchdog);
    if (e->shared.store)
        store_expect_end(e->shared.store);
    for (unsigned i = 0; e->workers && i < e->worker_count; i++)
        if (e->workers[i]->thread)
            worker_post_stop(e->workers[i]);
    for (unsigned i = 0; e->workers && i < e->worker_count; i++)
        if (e->workers[i]->thread)
            worker_join(e->workers[i]);
    dkim_destroy(TAKE(e->shared.dkim)); /* answers all it has */
    for (unsigned i = 0; e->workers && i < e->worker_count; i++)
        inbox_drain(&e->workers[i]->inbox); /* these messages go, with their files, before the spool does */
    if (e->shared.history)                  /* results first, so that the store hears of them */
        history_close(TAKE(e->shared.history), 10000);
    sources_close(e->shared.sources);
    if (e->shared.store)
        store_close(TAKE(e->shared.store));
    intake_close(TAKE(e->shared.intake));
    for (unsigned i = 0; e->workers && i < e->worker_count; i++)
        inbox_drain(&e->workers[i]->inbox); /* answers that came after its end: freed, and nothing more */
    for (unsigned i = 0; e->workers && i < e->worker_count; i++)
        worker_destroy(e->workers[i]);
    for (size_t i = 0; i < e->listener_count; i++)
        listener_destroy(e->listeners[i]);
    watchdog_destroy(e->watchdog);
    engine_forget_certificates(e);
    policy_unref(e->policy);
    shadow_unref(e->shadow);
    tls_client_destroy(e->shared.tls_client);
    dnssec_watch_destroy(e->shared.dnssec);
    probe_cache_destroy(e->shared.probe_cache);
    limits_destroy(e->shared.limits);
    shaping_destroy(e->shared.shaping);
    zones_destroy(e->shared.zones);
    failed_hosts_destroy(e->shared.failed_hosts);
    sources_destroy(e->shared.sources);
    campaign_guard_destroy(e->shared.guard);
    mem_free(e->shared.host_name);
    mem_free(e->listeners);
    mem_free(e->workers);
    mem_free(e->inboxes);
    mem_free(e->policy_file_text);
    mem_free(e->includes_seen);
    free_confs(e);
    pthread_mutex_destroy(&e->lock);
    mem_free(e);
}

/* ---- changing ---- */

enum err engine_reload(struct engine *e, struct conf *conf, struct buf *notes)
{
    struct conf_kept *kept = MEM_NEW(struct conf_kept);
    struct conf_kept *before = e->confs;
    const struct conf_kept *started = e->confs; /* what is in force of that which a reload does not change */
    char *why = NULL;
    BUF_LOCAL(names);

    kept->conf = *conf;
    *conf = (struct conf){0};
    while (started->older)
        started = started->older;
    if (conf_needs_restart(conf_keys, &started->conf, &kept->conf, &names))
        buf_putf(notes, "changed and in force only after a restart: %s; ", buf_str(&names));
    kept->older = before;
    e->confs = kept;
    atomic_store_explicit(&e->shared.conf, &kept->conf, memory_order_release);
    struct dkim_keyring *keys = NULL;
    enum err err = dkim_prepare(&kept->conf, &keys, &why);
    if (!err)
        err = engine_set_certificates(e, &why);
    if (err) {
        atomic_store_explicit(&e->shared.conf, &before->conf, memory_order_release);
        e->confs = before;
        conf_free(&kept->conf);
        mem_free(kept);
        buf_puts(notes, why);
        mem_free(why);
        dkim_discard(keys);
        return err;
    }
    dkim_use(e->shared.dkim, keys, &kept->conf);
    for (size_t i = 0; i < e->listener_count; i++)
        listener_set_rules(e->listeners[i], &kept->conf);
    log_set_level((enum log_level)kept->conf.log.level);
    dnssec_watch_ask(e->shared.dnssec);
    return engine_reload_policy_file(e, notes);
}

void engine_watch(struct engine *e)
{
    engine_watch_certificates(e);
    engine_watch_campaigns(e);
    engine_watch_shaping(e);
    engine_watch_sources(e);
    pulse_beat(&e->main_pulse);
    (void)clock_restate(0); /* it looks: a step is known within a second, by whoever asks first */
}

enum err engine_browse(struct engine *e, struct browse **out, char **why)
{
    store_settle(e->shared.store);
    return browse_open(engine_conf(e)->data_dir, out, why);
}

struct store *engine_store(struct engine *e)
{
    return e->shared.store;
}

struct history *engine_history(struct engine *e)
{
    return e->shared.history;
}

const struct conf *engine_conf(struct engine *e)
{
    return atomic_load_explicit(&e->shared.conf, memory_order_acquire);
}
