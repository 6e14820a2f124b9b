/* What is known by domain: bounded, the least recently used goes first; expiry and the daily refresh. */
#include <assert.h>
#include <stdlib.h>

#include "base/mem.h"
#include "engine/sts/sts_priv.h"

#define REFRESH_MIN_S 300 /* policies that live shorter are fetched when mail asks for them */

/* ---- entries ---- */

static size_t bytes_of_policy(const struct sts_policy *p)
{
    size_t n = sizeof(*p) + 2 * strlen(p->domain) + strlen(p->text);

    for (size_t i = 0; i < p->mx_count; i++)
        n += sizeof(char *) + strlen(p->mx[i]) + 16;
    return n;
}

bool sts_entry_in_force(const struct sts *s, const struct sts_entry *e)
{
    int64_t now = s->setup.now_unix();

    return e->policy &&
           (sts_policy_is_fresh(e->policy, now) || now < e->policy->fetched_unix + STS_JUST_FETCHED_S);
}

/* One with a job stays: somebody waits for it. */
static void make_room(struct sts *s)
{
    LIST_FOREACH_SAFE (node, &s->order) {
        struct sts_entry *e = LIST_ENTRY(node, struct sts_entry, node);
        if (s->entries.count <= s->setup.entries_max && s->bytes <= s->setup.bytes_max)
            return;
        if (e->job)
            continue;
        if (e->policy) {
            sts_kept_drop(s, e->domain);
            if (!s->told_full)
                log_warn(s->setup.log, "sts.cache_full", LOG_INT("policies", s->entries.count),
                         LOG_INT("bytes", s->bytes), LOG_STR("forgotten", e->domain));
            s->told_full = true;
        }
        sts_entry_free(s, e);
    }
}

struct sts_entry *sts_entry_find(struct sts *s, const char *domain)
{
    struct sts_entry *e = map_find(&s->entries, bytes_of(domain));

    if (!e)
        return NULL;
    list_remove(&e->node);
    list_push_back(&s->order, &e->node);
    e->used_unix = s->setup.now_unix();
    return e;
}

struct sts_entry *sts_entry_ensure(struct sts *s, const char *domain)
{
    struct sts_entry *e = sts_entry_find(s, domain);

    if (e)
        return e;
    make_room(s); /* before it is there: it must not be the one that goes */
    e = MEM_NEW(struct sts_entry);
    e->domain = mem_strdup(domain);
    e->used_unix = s->setup.now_unix();
    e->bytes = sizeof(*e) + strlen(domain);
    s->bytes += e->bytes;
    list_push_back(&s->order, &e->node);
    map_put(&s->entries, bytes_of(e->domain), e);
    return e;
}

/* Others read the numbers, so they are right at any time. */
static void count_policy(struct sts *s, struct sts_entry *e, bool is_there)
{
    size_t bytes = bytes_of_policy(e->policy);
    unsigned long one = is_there ? 1 : -1UL; /* unsigned: wraps to a subtraction */

    e->bytes += is_there ? bytes : -bytes;
    s->bytes += is_there ? bytes : -bytes;
    atomic_fetch_add_explicit(&s->counters.policies, one, memory_order_relaxed);
    if (e->policy->mode == STS_MODE_ENFORCE)
        atomic_fetch_add_explicit(&s->counters.enforced, one, memory_order_relaxed);
}

void sts_entry_set(struct sts *s, struct sts_entry *e, struct sts_policy *policy)
{
    if (e->policy) {
        count_policy(s, e, false);
        sts_policy_unref(e->policy);
    }
    e->policy = policy;
    if (policy) {
        count_policy(s, e, true);
    } else {
        e->refresh_unix = 0;
        e->refresh_failures = 0;
    }
}

void sts_entry_free(struct sts *s, struct sts_entry *e)
{
    sts_job_free(s, e);
    sts_entry_set(s, e, NULL);
    map_remove(&s->entries, bytes_of(e->domain));
    list_remove(&e->node);
    s->bytes -= e->bytes;
    mem_free(e->why);
    mem_free(e->domain);
    mem_free(e);
}

static bool holds_something(const struct sts *s, const struct sts_entry *e)
{
    return e->policy || e->job || s->setup.now_unix() < e->failed_until_unix ||
           ((e->failure || e->txt_refused) && uv_now(s->setup.loop) < e->txt_until_ms);
}

void sts_entry_settle(struct sts *s, struct sts_entry *e)
{
    if (!holds_something(s, e))
        sts_entry_free(s, e);
}

void sts_cache_fini(struct sts *s)
{
    struct list *node;

    while ((node = list_first(&s->order)))
        sts_entry_free(s, LIST_ENTRY(node, struct sts_entry, node));
    map_fini(&s->entries);
}

/* ---- time ---- */

/* Once a day, or at half its life when that is shorter; spread, because campaigns find many at once. */
void sts_entry_plan(struct sts *s, struct sts_entry *e)
{
    int64_t period = MIN_OF(STS_REFRESH_S, (int64_t)e->policy->max_age_s / 2);

    e->refresh_unix = period < REFRESH_MIN_S ? 0
                                             : s->setup.now_unix() + period -
                                                   (int64_t)(worker_random() % (uint64_t)(period / 4));
}

static void expire(struct sts *s, struct sts_entry *e)
{
    log_info(s->setup.log, "sts.expired", LOG_STR("domain", e->domain),
             LOG_STR("mode", sts_policy_mode_name(e->policy->mode)));
    sts_kept_drop(s, e->domain);
    sts_entry_set(s, e, NULL);
}

static bool refresh_is_due(const struct sts *s, const struct sts_entry *e, int64_t now)
{
    return e->policy && e->refresh_unix && now >= e->refresh_unix && now < e->used_unix + STS_UNUSED_S &&
           s->refreshing < STS_REFRESHES_MAX;
}

void sts_cache_tick(struct sts *s)
{
    int64_t now = s->setup.now_unix();
    unsigned long failing = 0;

    LIST_FOREACH_SAFE (node, &s->order) {
        struct sts_entry *e = LIST_ENTRY(node, struct sts_entry, node);
        if (!e->job && e->policy && !sts_entry_in_force(s, e))
            expire(s, e);
        failing += e->policy && e->policy->mode != STS_MODE_NONE && e->refresh_failures >= STS_ALARM_FAILURES;
        if (!e->job && refresh_is_due(s, e, now))
            sts_job_start(s, e, STS_WANT_REFRESH);
        else
            sts_entry_settle(s, e);
    }
    atomic_store_explicit(&s->counters.failing, failing, memory_order_relaxed);
}

/* ---- views ---- */

static void view(const struct sts *s, const struct sts_entry *e, struct sts_view *out)
{
    *out = (struct sts_view){
        .domain = e->domain,
        .policy = sts_entry_in_force(s, e) ? e->policy : NULL,
        .used_unix = e->used_unix,
        .refresh_unix = e->refresh_unix,
        .failure = e->failure,
        .last_why = e->why ? e->why : "",
        .last_failed_unix = e->failed_unix,
        .refresh_failures = e->refresh_failures,
    };
}

bool sts_find(struct sts *s, const char *domain, struct sts_view *out)
{
    const struct sts_entry *e = map_find(&s->entries, bytes_of(domain));

    if (!e)
        return false;
    view(s, e, out);
    return true;
}

static int by_domain(const void *a, const void *b)
{
    const struct sts_entry *const *x = a, *const *y = b;

    return strcmp((*x)->domain, (*y)->domain);
}

size_t sts_list(struct sts *s, const char *after, struct sts_view *out, size_t max)
{
    struct sts_entry **all = mem_alloc((s->entries.count + 1) * sizeof(struct sts_entry *));
    size_t count = 0;

    LIST_FOREACH (node, &s->order) {
        struct sts_entry *e = LIST_ENTRY(node, struct sts_entry, node);
        if (!after || strcmp(e->domain, after) > 0)
            all[count++] = e;
    }
    qsort(all, count, sizeof(struct sts_entry *), by_domain);
    count = MIN_OF(count, max);
    for (size_t i = 0; i < count; i++)
        view(s, all[i], &out[i]);
    mem_free(all);
    return count;
}
