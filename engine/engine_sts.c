/* MTA-STS of all workers together, for people: views, a refresh by hand, numbers. */
#include <stdlib.h>

#include "base/mem.h"
#include "engine/engine_priv.h"
#include "engine/sts/sts.h"
#include "policy/domain.h"

#define LOOK_UP_MS 250 /* how often a waiting request sees that the daemon ends */

static struct worker *owner_of(struct engine *e, const char *domain)
{
    return e->workers[store_owner(bytes_of(domain), e->worker_count)];
}

/* ---- views ---- */

static json_t *time_json(int64_t unix_s)
{
    return unix_s ? json_integer(unix_s) : json_null();
}

static json_t *view_json(const struct sts_view *v, bool whole)
{
    const struct sts_policy *p = v->policy;
    json_t *j = json_pack("{s:s, s:o, s:s, s:s, s:o, s:I, s:o, s:o}", "domain", v->domain, "mode",
                          p ? json_string(sts_policy_mode_name(p->mode)) : json_null(), "failure",
                          tls_failure_name(v->failure), "last_failure", v->last_why, "last_failed_unix",
                          time_json(v->last_failed_unix), "refresh_failures", (json_int_t)v->refresh_failures,
                          "refresh_unix", time_json(v->refresh_unix), "used_unix", time_json(v->used_unix));

    if (!p)
        return j;
    json_t *mx = json_array();
    for (size_t i = 0; i < p->mx_count; i++)
        json_array_append_new(mx, json_string(p->mx[i]));
    json_object_set_new(j, "id", json_string(p->id));
    json_object_set_new(j, "mx", mx);
    json_object_set_new(j, "max_age_s", json_integer(p->max_age_s));
    json_object_set_new(j, "fetched_unix", json_integer(p->fetched_unix));
    json_object_set_new(j, "expires_unix", json_integer(p->fetched_unix + (int64_t)p->max_age_s));
    if (whole) /* of strangers: what is not UTF-8 is left out */
        json_object_set_new(j, "text", json_string(p->text));
    return j;
}

struct list_call {
    const char *after;
    size_t max;
    json_t *rows;
};

static void list_of_worker(struct worker *w, void *arg)
{
    struct list_call *call = arg;
    struct sts_view *views = mem_alloc(call->max * sizeof(*views));
    size_t count = sts_list(w->sts, call->after, views, call->max);

    for (size_t i = 0; i < count; i++)
        json_array_append_new(call->rows, view_json(&views[i], false));
    mem_free(views);
}

static int by_domain(const void *a, const void *b)
{
    const json_t *const *x = a, *const *y = b;

    return strcmp(json_string_value(json_object_get(*x, "domain")),
                  json_string_value(json_object_get(*y, "domain")));
}

json_t *engine_sts_list(struct engine *e, const char *after, size_t max)
{
    struct list_call call = {.after = after, .max = max, .rows = json_array()};
    json_t *sorted = json_array();

    for (unsigned i = 0; i < e->worker_count; i++)
        worker_call(e->workers[i], list_of_worker, &call); /* one that is stuck shows none */
    size_t count = json_array_size(call.rows);
    const json_t **rows = mem_alloc((count + 1) * sizeof(*rows));
    for (size_t i = 0; i < count; i++)
        rows[i] = json_array_get(call.rows, i);
    qsort(rows, count, sizeof(*rows), by_domain);
    for (size_t i = 0; i < MIN_OF(count, max); i++)
        json_array_append(sorted, (json_t *)(uintptr_t)rows[i]);
    mem_free(rows);
    json_decref(call.rows);
    return sorted;
}

struct show_call {
    const char *domain;
    struct worker *worker;
    struct sts_query *query;
    struct doorbell bell;
    json_t *found;
};

static void show(struct worker *w, void *arg)
{
    struct show_call *call = arg;
    struct sts_view view;

    if (sts_find(w->sts, call->domain, &view))
        call->found = view_json(&view, true);
}

static void on_refreshed(void *arg, const struct sts_answer *answer)
{
    struct show_call *call = arg;
    const struct sts_view nothing = {
        .domain = call->domain,
        .policy = answer->policy,
        .failure = answer->failure,
        .last_why = answer->why,
    };

    call->query = NULL;
    show(call->worker, call);
    if (!call->found)
        call->found = view_json(&nothing, true);
    doorbell_ring(&call->bell);
}

static void start_refresh(struct worker *w, void *arg)
{
    struct show_call *call = arg;

    call->worker = w;
    call->query = sts_refresh(w->sts, call->domain, on_refreshed, call);
    if (!call->query)
        doorbell_ring(&call->bell); /* it is closing */
}

static void cancel_refresh(struct worker *w, void *arg)
{
    struct show_call *call = arg;

    (void)w;
    sts_cancel(TAKE(call->query));
}

static void refresh_and_wait(struct engine *e, struct show_call *call, const _Atomic(bool) *stopping)
{
    struct worker *w = owner_of(e, call->domain);

    doorbell_init(&call->bell);
    bool asked = worker_call(w, start_refresh, call);
    while (asked && !doorbell_wait(&call->bell, LOOK_UP_MS)) {
        if (!stopping || !atomic_load(stopping))
            continue;
        if (worker_call(w, cancel_refresh, call)) /* from now on it will not ring */
            break;
    }
    doorbell_fini(&call->bell);
}

enum err engine_sts_show(struct engine *e, const char *domain, bool refresh, const _Atomic(bool) *stopping,
                         json_t **out)
{
    char name[DOMAIN_MAX_BYTES + 1];
    struct show_call call = {.domain = name};

    if (domain_normalise(bytes_of(domain), name) != OK)
        return ERR_INVALID;
    if (refresh)
        refresh_and_wait(e, &call, stopping);
    else
        worker_call(owner_of(e, name), show, &call);
    if (!call.found)
        return refresh ? ERR_CLOSED : ERR_NOT_FOUND;
    *out = call.found;
    return OK;
}

/* ---- numbers ---- */

static const struct {
    const char *name, *help;
    bool is_gauge;
    size_t at;
} numbers[] = {
    {"policies", "MTA-STS policies in the cache", true, offsetof(struct sts_stats, policies)},
    {"enforced", "of these, policies with mode enforce", true, offsetof(struct sts_stats, enforced)},
    {"refresh_failing", "policies (mode none apart) that could not be refreshed three times in a row or more",
     true, offsetof(struct sts_stats, failing)},
    {"fetches", "MTA-STS policies asked for over HTTPS", false, offsetof(struct sts_stats, fetches)},
    {"fetch_failures", "of these, in vain", false, offsetof(struct sts_stats, fetch_failures)},
    {"refreshes", "refreshes of cached MTA-STS policies in the background", false,
     offsetof(struct sts_stats, refreshes)},
    {"refresh_failures", "refreshes that failed", false, offsetof(struct sts_stats, refresh_failures)},
};

static uint64_t sum(struct engine *e, size_t number)
{
    uint64_t total = 0, one;

    for (unsigned i = 0; i < e->worker_count; i++) {
        struct sts_stats s;
        sts_stats(e->workers[i]->sts, &s);
        memcpy(&one, (const char *)&s + numbers[number].at, sizeof(one));
        total += one;
    }
    return total;
}

json_t *engine_sts_json(struct engine *e)
{
    json_t *j = json_object();

    for (size_t i = 0; i < COUNT_OF(numbers); i++)
        json_object_set_new(j, numbers[i].name, json_integer((json_int_t)sum(e, i)));
    return j;
}

void engine_sts_metrics(struct engine *e, struct buf *out)
{
    for (size_t i = 0; i < COUNT_OF(numbers); i++)
        buf_putf(out, "# HELP hayauma_mta_sts_%s %s\n# TYPE hayauma_mta_sts_%s %s\nhayauma_mta_sts_%s %llu\n",
                 numbers[i].name, numbers[i].help, numbers[i].name, numbers[i].is_gauge ? "gauge" : "counter",
                 numbers[i].name, (unsigned long long)sum(e, i));
}
