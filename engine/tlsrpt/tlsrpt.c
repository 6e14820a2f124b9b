/* When the reports of a day are due, what is kept of them, and what was kept before this start. */
#include "engine/tlsrpt/tlsrpt_priv.h"

#include "base/clock.h"
#include "base/mem.h"

/* ---- orders ---- */

struct tlsrpt_order *tlsrpt_order_create(const char *domain, int64_t begin_unix)
{
    struct tlsrpt_order *o = MEM_NEW(struct tlsrpt_order);

    atomic_init(&o->refs, 2);
    o->domain = mem_strdup(domain);
    o->begin_unix = begin_unix;
    doorbell_init(&o->done);
    return o;
}

void tlsrpt_order_unref(struct tlsrpt_order *o)
{
    if (!o || atomic_fetch_sub(&o->refs, 1) != 1)
        return;
    mem_free(o->domain);
    buf_fini(&o->answer);
    doorbell_fini(&o->done);
    mem_free(o);
}

/* ---- the plan of a day ---- */

static void save_plan(struct tlsrpt *t)
{
    char day[TLSRPT_DAY_BYTES];
    BUF_LOCAL(value);

    buf_putf(&value, "{\"state\":\"%s\",\"due_unix\":%lld}\n", t->plan.done ? "off" : "waiting",
             (long long)t->plan.due_unix);
    store_keep_set(t->w->shared->store, TLSRPT_KEEP_KIND, tlsrpt_day_format(t->plan.begin_unix, day),
                   buf_bytes(&value));
}

/* Kept, so that a restart draws no other delay. */
static void plan_day(struct tlsrpt *t, int64_t begin_unix)
{
    const int64_t delay_max_s = (int64_t)(tlsrpt_conf(t)->tlsrpt.delay_max_ms / 1000);

    t->plan.begin_unix = begin_unix;
    t->plan.due_unix =
        begin_unix + DAY_SECONDS + SETTLE_SECONDS + (int64_t)worker_random() % (delay_max_s + 1);
    t->plan.failures = 0;
    t->plan.done = false;
    save_plan(t);
}

static bool is_over(const struct tlsrpt *t, int64_t oldest)
{
    return t->plan.done || t->plan.begin_unix < oldest || t->plan.failures >= RUN_FAILURES_MAX;
}

/* One day after the other, up to yesterday: history still has those at which the daemon was down. */
static void plan_next(struct tlsrpt *t, int64_t yesterday)
{
    int64_t oldest = yesterday - MADE_UP_DAYS * DAY_SECONDS;

    if (!t->plan.begin_unix) /* the first of all */
        plan_day(t, yesterday);
    else if (is_over(t, oldest))
        plan_day(t, MAX_OF(t->plan.begin_unix + DAY_SECONDS, oldest));
}

/* While reports are off, days go by that are not wanted later either; yesterday still may be. */
static void pass_over(struct tlsrpt *t, int64_t yesterday)
{
    if (t->run || !t->plan.begin_unix || t->plan.begin_unix >= yesterday - DAY_SECONDS)
        return;
    plan_day(t, yesterday - DAY_SECONDS);
    t->plan.done = true;
    save_plan(t);
}

void tlsrpt_on_beat(struct tlsrpt *t)
{
    if (!t || t->closed || t->w->draining)
        return;
    int64_t now = clock_unix();
    int64_t yesterday = now - now % DAY_SECONDS - DAY_SECONDS;
    if (!tlsrpt_conf(t)->tlsrpt.enabled) {
        pass_over(t, yesterday);
        return;
    }
    if (!t->run && t->plan.begin_unix < yesterday)
        plan_next(t, yesterday);
    if (!t->run && !t->plan.done && t->plan.begin_unix <= yesterday && now >= t->plan.due_unix)
        day_run_start(t, t->plan.begin_unix);
    task_start_due(t, now);
}

/* ---- at start ---- */

static void load_plan(struct tlsrpt *t, int64_t begin_unix, const json_t *head)
{
    if (begin_unix < t->plan.begin_unix)
        return;
    t->plan.begin_unix = begin_unix;
    t->plan.due_unix = tlsrpt_head_int(head, "due_unix");
    t->plan.done = strcmp(tlsrpt_head_text(head, "state"), "waiting") != 0;
}

static void load_task(struct tlsrpt *t, int64_t begin_unix, const char *domain, const json_t *head)
{
    const char *state = tlsrpt_head_text(head, "state");
    bool part = bytes_iends(bytes_of(domain), BYTES(PART_SUFFIX));

    if (strcmp(state, "lookup") != 0 && strcmp(state, "trying") != 0)
        return;
    char *name = mem_dup(domain, strlen(domain) - (part ? strlen(PART_SUFFIX) : 0));
    task_create(t, name, begin_unix, part, tlsrpt_head_int(head, "next_unix"));
    mem_free(name);
}

static bool load(void *arg, const struct kept *k)
{
    struct tlsrpt *t = arg;
    struct bytes key = bytes_of(k->key), gz;
    int64_t begin;
    json_t *head = NULL;

    if (!tlsrpt_day_parse(bytes_first(key, TLSRPT_DAY_BYTES - 1), &begin) ||
        !tlsrpt_kept_parse(k->value, &head, &gz)) {
        log_warn(&t->w->log, "tlsrpt.kept_unreadable", LOG_STR("key", k->key));
        return true;
    }
    if (key.len < TLSRPT_DAY_BYTES)
        load_plan(t, begin, head);
    else
        load_task(t, begin, k->key + TLSRPT_DAY_BYTES, head);
    json_decref(head);
    return true;
}

struct tlsrpt *tlsrpt_create(struct worker *w)
{
    struct tlsrpt *t = MEM_NEW(struct tlsrpt);

    t->w = w;
    list_init(&t->tasks);
    enum err e = keep_read(worker_conf(w)->data_dir, TLSRPT_KEEP_KIND, NULL, load, t);
    if (e && e != ERR_NOT_FOUND)
        log_error(&w->log, "tlsrpt.load", LOG_ERR(e));
    return t;
}

/* ---- ending ---- */

void tlsrpt_close(struct tlsrpt *t)
{
    if (!t || t->closed)
        return;
    t->closed = true;
    if (t->run)
        day_run_close(t->run);
    LIST_FOREACH (node, &t->tasks) {
        task_close(LIST_ENTRY(node, struct task, node));
    }
}

void tlsrpt_destroy(struct tlsrpt *t)
{
    struct list *node;

    if (!t)
        return;
    while ((node = list_pop(&t->tasks)))
        task_destroy(LIST_ENTRY(node, struct task, node));
    map_fini(&t->by_key);
    mem_free(t);
}
