/*
 * The reports of one day, made in three steps:
 *
 *     [pool]  whom did mail go to that day, and of whom is no report kept yet?
 *     [loop]  who of them wants reports?  TXT records, some at a time
 *     [pool]  their reports, all kept in the store ─► [loop] tasks, and the day is done
 *
 * History is read in slices of domains when a day is too large for one piece.  A step that fails, or a
 * restart, begins again with what is not kept yet.
 */
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/tlsrpt/tlsrpt_priv.h"

#define SLICES_MAX 4096

struct wanted {   /* a domain with a record */
    char *domain; /* owned */
    json_t *rua;
    bool made;
};

struct lookup {
    struct day_run *run;
    const char *domain;
    struct dns_query *query; /* NULL: free */
};

struct day_run {
    struct tlsrpt *t;
    uv_work_t work;
    struct reporter reporter;
    int64_t begin_unix;
    bool closed;
    enum err result; /* of the work */
    unsigned slices;
    struct map kept;    /* domains that are done; keys in the arena */
    struct map domains; /* the others; keys and values: names in the arena */
    struct arena arena;
    size_t domain_at; /* map_next of lookups */
    struct lookup lookups[LOOKUPS_AT_ONCE];
    size_t open;
    struct map wanted; /* struct wanted */
    size_t broken, later;
};

static void run_free(struct day_run *run)
{
    struct wanted *w;

    for (size_t at = 0; (w = map_next(&run->wanted, &at));) {
        mem_free(w->domain);
        json_decref(w->rua);
        mem_free(w);
    }
    map_fini(&run->wanted);
    map_fini(&run->kept);
    map_fini(&run->domains);
    arena_fini(&run->arena);
    reporter_fini(&run->reporter);
    run->t->run = NULL;
    mem_free(run);
}

/* History could not be read: the day stays due. */
static void run_fail(struct day_run *run, enum err e)
{
    log_error(&run->t->w->log, "tlsrpt.day_failed", LOG_ERR(e), LOG_INT("again_in_s", RUN_AGAIN_S));
    run->t->plan.due_unix = clock_unix() + RUN_AGAIN_S;
    run->t->plan.failures++;
    run_free(run);
}

/* ---- reading history, slice by slice: on the pool ---- */

typedef void (*sums_fn)(struct day_run *run, const struct report_session_sum *rows, size_t count);

/* fn gets all rows of a domain at once. */
static void each_domain(struct day_run *run, const struct report_sessions *sums, sums_fn fn)
{
    for (size_t i = 0, end; i < sums->count; i = end) {
        for (end = i + 1; end < sums->count && strcmp(sums->rows[i].domain, sums->rows[end].domain) == 0;)
            end++;
        fn(run, sums->rows + i, end - i);
    }
}

static enum err read_slice(struct day_run *run, unsigned slice, sums_fn fn)
{
    const struct report_sessions_query query = {
        .since_unix = run->begin_unix,
        .until_unix = run->begin_unix + DAY_SECONDS,
        .slices = run->slices,
        .slice = slice,
        .timeout_ms = HISTORY_LIMIT_MS,
    };
    struct report_sessions sums = {0};
    enum err e = report_sessions(run->reporter.dir, &query, &sums);

    if (!e)
        each_domain(run, &sums, fn);
    report_sessions_fini(&sums);
    return e;
}

/* A slice that is too large is read again in smaller ones: fn must not mind seeing a domain twice. */
static enum err read_day(struct day_run *run, sums_fn fn)
{
    enum err e;

    do {
        e = OK;
        for (unsigned i = 0; i < run->slices && !e; i++)
            e = read_slice(run, i, fn);
    } while (e == ERR_FULL && (run->slices *= 2) <= SLICES_MAX);
    return e;
}

/* ---- step 1: whom ---- */

static bool take_kept(void *arg, const struct kept *k)
{
    struct day_run *run = arg;
    struct bytes key = bytes_of(k->key), domain = bytes_skip(key, TLSRPT_DAY_BYTES);
    int64_t begin;

    if (!tlsrpt_day_parse(bytes_first(key, TLSRPT_DAY_BYTES - 1), &begin))
        return true;
    if (begin < run->begin_unix - (int64_t)KEPT_DAYS * DAY_SECONDS)
        store_keep_drop(run->t->w->shared->store, TLSRPT_KEEP_KIND, k->key);
    if (begin == run->begin_unix && domain.len && !bytes_iends(domain, BYTES(PART_SUFFIX))) {
        char *name = arena_dup(&run->arena, domain);
        map_put(&run->kept, bytes_of(name), name);
    }
    return true;
}

static void note_domain(struct day_run *run, const struct report_session_sum *rows, size_t count)
{
    struct bytes domain = bytes_of(rows->domain);
    (void)count;

    if (map_find(&run->kept, domain) || map_find(&run->domains, domain))
        return;
    char *name = arena_dup(&run->arena, domain);
    map_put(&run->domains, bytes_of(name), name);
}

static void find_domains(uv_work_t *work)
{
    struct day_run *run = CONTAINER_OF(work, struct day_run, work);
    enum err e = keep_read(run->reporter.dir, TLSRPT_KEEP_KIND, NULL, take_kept, run);

    run->result = e && e != ERR_NOT_FOUND ? e : read_day(run, note_domain);
}

/* ---- step 2: who wants reports ---- */

static void make_reports(uv_work_t *work);
static void on_reports_made(uv_work_t *work, int status);

static void look_up_more(struct day_run *run);

/* Asked again later, for a day: as a report that could not be handed over. */
static void try_later(struct day_run *run, const char *domain)
{
    struct tlsrpt *t = run->t;
    int64_t next = clock_unix() + (int64_t)(tlsrpt_conf(t)->tlsrpt.retry_ms / 1000);
    json_t *head = tlsrpt_head_make(domain, run->begin_unix, false);
    BUF_LOCAL(key);
    BUF_LOCAL(value);

    json_object_set_new(head, "next_unix", json_integer(next));
    json_object_set_new(head, "tries", json_integer(1));
    tlsrpt_key(run->begin_unix, domain, false, &key);
    tlsrpt_kept_format(head, (struct bytes){0}, &value);
    store_keep_set(t->w->shared->store, TLSRPT_KEEP_KIND, buf_str(&key), buf_bytes(&value));
    json_decref(head);
    run->later++;
    if (!task_find(t, domain, run->begin_unix, false))
        task_create(t, domain, run->begin_unix, false, next);
}

static void take_record(struct day_run *run, const char *domain, const struct dns_rrset *set)
{
    struct tlsrpt_record record;
    struct arena arena = {0};
    enum tlsrpt_record_kind kind = tlsrpt_record_parse(set->rdata, set->count, &arena, &record);

    if (kind == TLSRPT_RECORD_FOUND) {
        struct wanted *w = MEM_NEW(struct wanted);
        w->domain = mem_strdup(domain);
        w->rua = tlsrpt_rua_list(&record);
        map_put(&run->wanted, bytes_of(w->domain), w);
    } else if (kind != TLSRPT_RECORD_NONE) {
        run->broken++;
        log_info(&run->t->w->log, "tlsrpt.record", LOG_STR("domain", domain),
                 LOG_STR("is", tlsrpt_record_kind_name(kind)));
    }
    arena_fini(&arena);
}

static void on_txt(void *arg, const struct dns_rrset *set)
{
    struct lookup *l = arg;
    struct day_run *run = l->run;

    l->query = NULL;
    run->open--;
    switch (set->status) {
    case DNS_OK: take_record(run, l->domain, set); break;
    case DNS_NXDOMAIN:
    case DNS_NODATA:
    case DNS_BAD_NAME: break;
    case DNS_SERVFAIL:
    case DNS_TIMEOUT:
    case DNS_LOOP: try_later(run, l->domain); break;
    }
    look_up_more(run);
}

static void look_up_more(struct day_run *run)
{
    for (size_t i = 0; i < LOOKUPS_AT_ONCE; i++) {
        struct lookup *l = &run->lookups[i];
        BUF_LOCAL(name);
        if (l->query)
            continue;
        l->domain = map_next(&run->domains, &run->domain_at);
        if (!l->domain)
            break;
        buf_putf(&name, "_smtp._tls.%s", l->domain);
        l->run = run;
        l->query = dns_resolve_rrset(run->t->w->dns, buf_str(&name), DNS_TYPE_TXT, on_txt, l);
        run->open++;
    }
    if (run->open == 0)
        uv_queue_work(&run->t->w->loop, &run->work, make_reports, on_reports_made);
}

static void on_domains_found(uv_work_t *work, int status)
{
    struct day_run *run = CONTAINER_OF(work, struct day_run, work);

    if (run->closed || status == UV_ECANCELED)
        run_free(run);
    else if (run->result)
        run_fail(run, run->result);
    else
        look_up_more(run);
}

/* ---- step 3: the reports ---- */

static void make_one(struct day_run *run, const struct report_session_sum *rows, size_t count)
{
    struct wanted *w = map_find(&run->wanted, bytes_of(rows->domain));
    BUF_LOCAL(key);
    BUF_LOCAL(gz);
    BUF_LOCAL(value);

    if (!w || w->made)
        return;
    json_t *head = tlsrpt_head_make(w->domain, run->begin_unix, false);
    json_object_set_new(head, "state", json_string("trying"));
    json_object_set(head, "rua", w->rua);
    tlsrpt_octets_make(&run->reporter, rows, count, head, &gz);
    tlsrpt_key(run->begin_unix, w->domain, false, &key);
    tlsrpt_kept_format(head, buf_bytes(&gz), &value);
    store_keep_set(run->t->w->shared->store, TLSRPT_KEEP_KIND, buf_str(&key), buf_bytes(&value));
    json_decref(head);
    w->made = true;
}

static void make_reports(uv_work_t *work)
{
    struct day_run *run = CONTAINER_OF(work, struct day_run, work);

    run->result = run->wanted.count ? read_day(run, make_one) : OK;
}

static void day_done(struct day_run *run)
{
    struct tlsrpt *t = run->t;
    char day[TLSRPT_DAY_BYTES];
    BUF_LOCAL(value);

    t->plan.done = true;
    tlsrpt_day_format(run->begin_unix, day);
    buf_putf(&value, "{\"state\":\"done\",\"due_unix\":%lld,\"at_unix\":%lld,\"domains\":%zu,\"wanted\":%zu,",
             (long long)t->plan.due_unix, (long long)clock_unix(), run->domains.count, run->wanted.count);
    buf_putf(&value, "\"broken\":%zu,\"later\":%zu}\n", run->broken, run->later);
    store_keep_set(t->w->shared->store, TLSRPT_KEEP_KIND, day, buf_bytes(&value)); /* after the reports */
    log_info(&t->w->log, "tlsrpt.day", LOG_STR("day", day), LOG_INT("domains", run->domains.count),
             LOG_INT("reports", run->wanted.count), LOG_INT("broken_records", run->broken),
             LOG_INT("lookups_later", run->later));
}

static void on_reports_made(uv_work_t *work, int status)
{
    struct day_run *run = CONTAINER_OF(work, struct day_run, work);
    struct tlsrpt *t = run->t;
    struct wanted *w;

    if (run->closed || status == UV_ECANCELED) {
        run_free(run);
        return;
    }
    if (run->result) {
        run_fail(run, run->result);
        return;
    }
    for (size_t at = 0; (w = map_next(&run->wanted, &at));)
        if (w->made && !task_find(t, w->domain, run->begin_unix, false))
            task_create(t, w->domain, run->begin_unix, false, clock_unix());
    day_done(run);
    run_free(run);
}

/* ---- life ---- */

void day_run_start(struct tlsrpt *t, int64_t begin_unix)
{
    struct day_run *run = MEM_NEW(struct day_run);

    run->t = t;
    run->begin_unix = begin_unix;
    run->slices = 1;
    reporter_init(&run->reporter, t->w);
    t->run = run;
    uv_queue_work(&t->w->loop, &run->work, find_domains, on_domains_found);
}

void day_run_close(struct day_run *run)
{
    bool in_work = run->open == 0;

    run->closed = true;
    for (size_t i = 0; i < LOOKUPS_AT_ONCE; i++)
        dns_cancel(TAKE(run->lookups[i].query));
    if (in_work)
        uv_cancel((uv_req_t *)&run->work); /* or it ends by itself; either way it is heard of */
    else
        run_free(run);
}
