/*
 * One report on its way:
 *
 *     read what is kept ─► (no octets yet: TXT record ─► history) ─► each URI in turn ─► keep how it went
 *
 * Every URI of the record gets the report in one round; one that takes it is enough (RFC 8460 §3).  When none
 * does, the round is repeated later, until a day has passed.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "engine/tlsrpt/tlsrpt_priv.h"

#define WHY_MAX 200

static struct inbox *inbox(struct task *task)
{
    return &task->t->w->inbox;
}

static struct store *store(struct task *task)
{
    return task->t->w->shared->store;
}

/* ---- life ---- */

struct task *task_create(struct tlsrpt *t, const char *domain, int64_t begin_unix, bool part,
                         int64_t next_unix)
{
    struct task *task = MEM_NEW(struct task);
    BUF_LOCAL(key);

    tlsrpt_key(begin_unix, domain, part, &key);
    task->t = t;
    task->key = buf_take(&key);
    task->domain = mem_strdup(domain);
    task->part = part;
    task->begin_unix = begin_unix;
    task->next_unix = next_unix;
    list_push_back(&t->tasks, &task->node);
    map_put(&t->by_key, bytes_of(task->key), task);
    return task;
}

struct task *task_find(struct tlsrpt *t, const char *domain, int64_t begin_unix, bool part)
{
    BUF_LOCAL(key);

    tlsrpt_key(begin_unix, domain, part, &key);
    return map_find(&t->by_key, buf_bytes(&key));
}

static void answer_order(struct task *task, enum err e)
{
    struct tlsrpt_order *o = TAKE(task->order);

    if (!o)
        return;
    o->result = e;
    if (task->head && e != ERR_CANCELLED) /* then the pool may have it */
        tlsrpt_kept_format(task->head, (struct bytes){0}, &o->answer);
    doorbell_ring(&o->done);
    tlsrpt_order_unref(o);
}

static void rest(struct task *task)
{
    if (task->busy)
        task->t->busy--;
    task->busy = false;
    json_decref(TAKE(task->head));
    buf_fini(&task->gz);
}

void task_close(struct task *task)
{
    dns_cancel(TAKE(task->query));
    fetch_cancel(TAKE(task->fetch));
    answer_order(task, ERR_CANCELLED);
}

void task_destroy(struct task *task)
{
    list_remove(&task->node);
    map_remove(&task->t->by_key, bytes_of(task->key));
    answer_order(task, ERR_CANCELLED);
    rest(task);
    mem_free(task->key);
    mem_free(task->domain);
    mem_free(task);
}

/* ---- asking the store ---- */

struct keep_ask {
    struct store_keep keep; /* first: its destroy frees the whole */
    struct task *task;
};

static struct store_keep *ask_make(struct task *task, store_reply_fn on_reply)
{
    struct keep_ask *a = MEM_NEW(struct keep_ask);

    a->task = task;
    a->keep.kind = mem_strdup(TLSRPT_KEEP_KIND);
    a->keep.key = mem_strdup(task->key);
    a->keep.req.reply_to = inbox(task);
    a->keep.req.on_reply = on_reply;
    return &a->keep;
}

static struct task *asker_of(struct store_keep *k)
{
    return CONTAINER_OF(k, struct keep_ask, keep)->task;
}

/* ---- the end of a round ---- */

static void on_saved(struct note *note, void *owner)
{
    struct store_keep *k = CONTAINER_OF(note, struct store_keep, req.note);
    struct task *task = asker_of(k);
    bool over = task->next_unix == 0;
    (void)owner;

    if (k->req.result)
        log_warn(&task->t->w->log, "tlsrpt.keep", LOG_STR("domain", task->domain), LOG_ERR(k->req.result));
    store_keep_destroy(k);
    if (task->t->closed)
        return;
    answer_order(task, OK);
    rest(task);
    if (over)
        task_destroy(task);
}

/* next_unix 0: it is over, and the octets are not wanted any more. */
static void save(struct task *task, const char *state, int64_t next_unix)
{
    struct store_keep *k = ask_make(task, on_saved);

    json_object_set_new(task->head, "state", json_string(state));
    json_object_set_new(task->head, "at_unix", json_integer(clock_unix()));
    json_object_set_new(task->head, "next_unix", json_integer(next_unix));
    task->next_unix = next_unix;
    tlsrpt_kept_format(task->head, next_unix ? buf_bytes(&task->gz) : (struct bytes){0}, &k->value);
    store_post_keep_put(store(task), k);
}

/* RFC 8460 §5.5. */
static void try_again(struct task *task, const char *state)
{
    json_int_t tries = tlsrpt_head_int(task->head, "tries") + 1;
    int64_t now = clock_unix(), first = tlsrpt_head_int(task->head, "first_unix");
    int64_t wait = (int64_t)(tlsrpt_conf(task->t)->tlsrpt.retry_ms / 1000);

    json_object_set_new(task->head, "tries", json_integer(tries));
    for (json_int_t i = 1; i < tries && wait < RETRY_MAX_S; i++)
        wait *= 2;
    wait = MIN_OF(MAX_OF(wait, 1), RETRY_MAX_S);
    bool over = now + wait > first + RETRY_FOR_S;
    if (over)
        COUNT(task->t->w, tls_reports_given_up);
    log_warn(&task->t->w->log, over ? "tlsrpt.given_up" : "tlsrpt.later", LOG_STR("domain", task->domain),
             LOG_INT("tries", tries), LOG_INT("again_in_s", over ? 0 : wait));
    save(task, over ? "failed" : state, over ? 0 : now + wait);
}

static void over_without(struct task *task, enum err e)
{
    answer_order(task, e);
    rest(task);
    task_destroy(task);
}

/* ---- handing over ---- */

static void send_next(struct task *task);

static void note_end(struct task *task, bool good, const char *why)
{
    const char *rua = json_string_value(json_array_get(json_object_get(task->head, "rua"), task->at));
    char *cut = mem_dup(why, strnlen(why, WHY_MAX));

    if (good) {
        task->good++;
        COUNT(task->t->w, tls_reports_sent);
        json_array_append_new(json_object_get(task->head, "sent_to"), json_string(rua));
        log_info(&task->t->w->log, "tlsrpt.sent", LOG_STR("domain", task->domain), LOG_STR("to", rua),
                 LOG_STR("report", tlsrpt_head_text(task->head, "report_id")));
    } else {
        json_t *one = json_object();
        COUNT(task->t->w, tls_reports_refused);
        json_object_set_new(one, "rua", json_string(rua));
        json_object_set_new(one, "why", json_stringn_nocheck(cut, strlen(cut)));
        json_array_append_new(json_object_get(task->head, "failures"), one);
        log_warn(&task->t->w->log, "tlsrpt.refused", LOG_STR("domain", task->domain), LOG_STR("to", rua),
                 LOG_STR("why", cut));
    }
    mem_free(cut);
    task->at++;
    send_next(task);
}

static void on_posted(void *arg, const struct fetch_result *result)
{
    struct task *task = arg;
    bool good = result->end == FETCH_OK;
    BUF_LOCAL(why);

    task->fetch = NULL;
    if (!good)
        buf_putf(&why, "%s: %s", fetch_end_name(result->end), result->why);
    note_end(task, good, buf_str(&why));
}

static void on_mailed(void *arg, enum err e, const char *why)
{
    note_end(arg, e == OK, why);
}

static void post(struct task *task, const char *url)
{
    const struct fetch_request request = {
        .url = url,
        .post = true,
        .body = buf_bytes(&task->gz),
        .body_type = "application/tlsrpt+gzip",
        .any_certificate = true,
        .public_only = !tlsrpt_conf(task->t)->tlsrpt.private_addresses,
    };

    task->fetch = fetch_start(task->t->w->fetcher, &request, on_posted, task);
}

static void send_next(struct task *task)
{
    struct tlsrpt_rua rua;

    if (!tlsrpt_rua_at(task->head, task->at, &rua)) {
        if (task->good)
            save(task, "sent", 0);
        else
            try_again(task, "trying");
    } else if (rua.https) {
        post(task, rua.to);
    } else {
        mail_post(task->t, task->head, rua.to, buf_bytes(&task->gz), on_mailed, task);
    }
}

static void send_all(struct task *task)
{
    task->at = task->good = 0;
    json_object_set_new(task->head, "sent_to", json_array());
    json_object_set_new(task->head, "failures", json_array());
    send_next(task);
}

/* ---- making the octets: on the pool ---- */

struct making {
    uv_work_t work;
    struct task *task;
    struct reporter reporter;
    json_t *head; /* the task's, and nobody else's meanwhile */
    struct buf gz;
    enum err result;
};

static void make(uv_work_t *work)
{
    struct making *m = CONTAINER_OF(work, struct making, work);
    const int64_t begin = tlsrpt_head_int(m->head, "begin_unix");
    const struct report_sessions_query query = {
        .since_unix = begin,
        .until_unix = begin + DAY_SECONDS,
        .domain = tlsrpt_head_text(m->head, "domain"),
        .timeout_ms = HISTORY_LIMIT_MS,
    };
    struct report_sessions sums = {0};

    m->result = report_sessions(m->reporter.dir, &query, &sums);
    if (!m->result && !sums.count)
        m->result = ERR_NOT_FOUND;
    if (!m->result)
        tlsrpt_octets_make(&m->reporter, sums.rows, sums.count, m->head, &m->gz);
    report_sessions_fini(&sums);
}

static void on_made(uv_work_t *work, int status)
{
    struct making *m = CONTAINER_OF(work, struct making, work);
    struct task *task = m->task;
    enum err e = status == UV_ECANCELED ? ERR_CANCELLED : m->result;

    buf_fini(&task->gz);
    task->gz = m->gz;
    reporter_fini(&m->reporter);
    mem_free(m);
    if (task->t->closed)
        return; /* it dies with the worker */
    if (!e)
        send_all(task);
    else if (e == ERR_NOT_FOUND)
        over_without(task, e);
    else
        try_again(task, "lookup");
}

static void make_octets(struct task *task)
{
    struct making *m = MEM_NEW(struct making);

    m->task = task;
    m->head = task->head;
    reporter_init(&m->reporter, task->t->w);
    uv_queue_work(&task->t->w->loop, &m->work, make, on_made);
}

/* ---- the record ---- */

static void take_record(struct task *task, const struct dns_rrset *set)
{
    struct tlsrpt_record record;
    struct arena arena = {0};
    enum tlsrpt_record_kind kind = tlsrpt_record_parse(set->rdata, set->count, &arena, &record);

    json_object_set_new(task->head, "record", json_string(tlsrpt_record_kind_name(kind)));
    if (kind == TLSRPT_RECORD_FOUND) {
        json_object_set_new(task->head, "rua", tlsrpt_rua_list(&record));
        make_octets(task);
    } else {
        save(task, "none", 0);
    }
    arena_fini(&arena);
}

static void on_txt(void *arg, const struct dns_rrset *set)
{
    struct task *task = arg;

    task->query = NULL;
    switch (set->status) {
    case DNS_OK: take_record(task, set); break;
    case DNS_NXDOMAIN:
    case DNS_NODATA:
    case DNS_BAD_NAME:
        json_object_set_new(task->head, "record", json_string("none"));
        save(task, "none", 0);
        break;
    case DNS_SERVFAIL:
    case DNS_TIMEOUT:
    case DNS_LOOP:
        json_object_set_new(task->head, "record", json_string(dns_status_name(set->status)));
        try_again(task, "lookup");
        break;
    }
}

static void look_up(struct task *task)
{
    BUF_LOCAL(name);

    buf_putf(&name, "_smtp._tls.%s", task->domain);
    task->query = dns_resolve_rrset(task->t->w->dns, buf_str(&name), DNS_TYPE_TXT, on_txt, task);
}

/* ---- the beginning of a round ---- */

/* An order begins anew where nothing is kept, where it says so, and where only a part of the day was
 * reported. */
static bool begins_anew(const struct task *task)
{
    const char *state = tlsrpt_head_text(task->head, "state");
    const struct tlsrpt_order *o = task->order;

    return o &&
           (!*state || o->again || o->part || strcmp(state, "none") == 0 || strcmp(state, "failed") == 0);
}

static void on_read(struct note *note, void *owner)
{
    struct store_keep *k = CONTAINER_OF(note, struct store_keep, req.note);
    struct task *task = asker_of(k);
    struct bytes gz = {0};
    (void)owner;

    if (!task->t->closed && k->req.result == OK && tlsrpt_kept_parse(buf_bytes(&k->value), &task->head, &gz))
        buf_put(&task->gz, gz);
    enum err e = k->req.result == ERR_NOT_FOUND ? OK : k->req.result;
    store_keep_destroy(k);
    if (task->t->closed)
        return;
    const char *state = tlsrpt_head_text(task->head, "state");
    if (e) {
        over_without(task, e);
    } else if (begins_anew(task)) {
        json_decref(task->head);
        task->head = tlsrpt_head_make(task->domain, task->begin_unix, task->order->part);
        look_up(task);
    } else if (strcmp(state, "lookup") == 0) {
        look_up(task);
    } else if (strcmp(state, "trying") == 0 && task->gz.len) {
        send_all(task);
    } else {
        over_without(task, ERR_EXISTS); /* done, or taken away */
    }
}

static void begin(struct task *task)
{
    task->busy = true;
    task->t->busy++;
    store_post_keep_get(store(task), ask_make(task, on_read));
}

void task_start_due(struct tlsrpt *t, int64_t now_unix)
{
    LIST_FOREACH (node, &t->tasks) {
        struct task *task = LIST_ENTRY(node, struct task, node);
        if (t->busy >= REPORTS_AT_ONCE)
            return;
        if (!task->busy && task->next_unix <= now_unix)
            begin(task);
    }
}

void tlsrpt_order_begin(struct worker *w, void *order)
{
    struct tlsrpt_order *o = order;
    struct tlsrpt *t = w->tlsrpt;
    bool open = t && !t->closed;
    struct task *task = open ? task_find(t, o->domain, o->begin_unix, o->part) : NULL;
    bool being_made = open && t->run && t->plan.begin_unix == o->begin_unix; /* with all of its day */

    if (!open || being_made || (task && task->busy)) {
        o->result = open ? ERR_BUSY : ERR_CANCELLED;
        doorbell_ring(&o->done);
        tlsrpt_order_unref(o);
        return;
    }
    if (!task)
        task = task_create(t, o->domain, o->begin_unix, o->part, clock_unix());
    task->order = o;
    begin(task);
}
