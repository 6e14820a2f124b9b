#include "engine/deliver/deliver.h"

#include "base/clock.h"
#include "base/mem.h"
#include "engine/deliver/deliver_priv.h"

#define BUSY_MIN 1000 /* destinations at work, over all workers, below which more are met */

struct deliver *deliver_create(struct worker *w)
{
    struct deliver *d = MEM_NEW(struct deliver);

    d->w = w;
    list_init(&d->all_sites);
    list_init(&d->give_back);
    list_init(&d->left_turns);
    list_init(&d->unsafe);
    alarm_clock_init(&d->clock, &w->loop);
    if (w->index == 0)
        d->finaliser = finaliser_create(d);
    return d;
}

void deliver_flush(struct deliver *d)
{
    if (!list_is_empty(&d->give_back))
        store_post_give_back(d->w->shared->store, &d->give_back);
}

bool deliver_has_room(const struct deliver *d)
{
    size_t most = MAX_OF((size_t)worker_conf(d->w)->delivery.connections, (size_t)BUSY_MIN);

    return d->busy < most / d->w->shared->worker_count && store_has_more_domains(d->w->shared->store);
}

/* Copies of all values, because walking and changing the map do not go together. */
static void **snapshot(const struct map *m, size_t *count)
{
    void **all = mem_alloc((m->count + 1) * sizeof(*all));
    void *value;

    *count = 0;
    for (size_t at = 0; (value = map_next(m, &at));)
        all[(*count)++] = value;
    return all;
}

void deliver_on_jobs(struct note *note, void *worker)
{
    struct worker *w = worker;
    struct deliver *d = w->deliver;
    struct store_jobs *batch = CONTAINER_OF(note, struct store_jobs, note);
    struct list *node;

    while ((node = list_pop(&batch->jobs))) {
        struct job *job = LIST_ENTRY(node, struct job, node);
        struct list one;
        if (d->closed) { /* the row waits on disk for the next start */
            job_destroy(job);
            continue;
        }
        struct dest *dest = dest_get(d, job->rcpts[0].domain);
        list_init(&one);
        list_push_back(&one, node);
        dest_take_jobs(dest, &one);
        dest_kick(dest);
    }
    store_jobs_destroy(batch);
}

void deliver_on_wake(struct note *note, void *worker)
{
    struct worker *w = worker;
    struct deliver *d = w->deliver;
    struct store_wake *wake = CONTAINER_OF(note, struct store_wake, note);
    int64_t now = clock_unix();

    for (size_t i = 0; i < wake->count && !d->closed; i++) {
        struct dest *dest = dest_get(d, wake->items[i].domain);
        if (wake->items[i].lane >= 0) {
            dest_on_lane(dest, (uint16_t)wake->items[i].lane);
        } else if (wake->items[i].due_unix <= now) {
            dest->page_due = dest->fell_due = true;
            dest_kick(dest);
        } else {
            dest_wait_until(dest, wake->items[i].due_unix);
        }
    }
    store_wake_destroy(wake);
    if (!d->closed && deliver_has_room(d))
        store_want_domains(w->shared->store);
}

/* Results that a full or slow disk holds up are bounded: above the cap no new ones are made, until it has
 * gone down.
 */
#define BACKLOG_CAP (64 * 1024)

static size_t backlog(const struct deliver *d)
{
    return history_backlog(d->w->shared->history) + store_backlog(d->w->shared->store);
}

bool deliver_is_stalled(struct deliver *d)
{
    if (!d->stalled && backlog(d) > BACKLOG_CAP)
        d->stalled = true;
    return d->stalled;
}

void deliver_on_beat(struct deliver *d)
{
    if (!d->stalled || backlog(d) > BACKLOG_CAP / 2)
        return;
    d->stalled = false;
    LIST_FOREACH_SAFE (node, &d->all_sites)
        site_kick(LIST_ENTRY(node, struct site, node));
}

/* ---- changes from outside ---- */

void deliver_policy_changed(struct deliver *d)
{
    size_t count;

    LIST_FOREACH_SAFE (node, &d->all_sites) {
        struct site *s = LIST_ENTRY(node, struct site, node);
        s->link_count++; /* held while it is taken apart */
        site_make_stale(s);
        LIST_FOREACH_SAFE (link_node, &s->idle)
            link_quit(LIST_ENTRY(link_node, struct link, idle_node));
        s->link_count--;
        site_maybe_free(s);
    }
    void **dests = snapshot(&d->dests, &count);
    for (size_t i = 0; i < count; i++) {
        struct dest *dest = dests[i];
        dest_forget_queries(dest);
        suspension_end(&dest->rest);
        dest_kick_soon(dest); /* finds its group and site under the new policy */
    }
    mem_free(dests);
}

void deliver_call_back(struct deliver *d, char *const *domains, size_t count, bool retry)
{
    size_t all_count = 0;

    if (retry)
        failed_hosts_clear(d->w->shared->failed_hosts);
    void **all = domains ? NULL : snapshot(&d->dests, &all_count);

    for (size_t i = 0; i < (domains ? count : all_count); i++) {
        struct dest *dest = domains ? map_find(&d->dests, bytes_of(domains[i])) : all[i];
        if (!dest)
            continue;
        dest_return_jobs(dest);
        if (retry) {
            suspension_end(&dest->rest);
            if (dest->site) {
                suspension_end(&dest->site->rest);
                replies_clear(dest->site);
            }
        }
        dest_kick_soon(dest);
    }
    mem_free(all);
    deliver_flush(d);
}

void deliver_call_back_campaign(struct deliver *d, const char *campaign)
{
    size_t count = 0;
    void **all = snapshot(&d->dests, &count);

    for (size_t i = 0; i < count; i++)
        dest_return_campaign(all[i], campaign);
    mem_free(all);
    deliver_flush(d);
}

void deliver_drain(struct deliver *d)
{
    d->draining = true;
    LIST_FOREACH_SAFE (node, &d->all_sites) {
        struct site *s = LIST_ENTRY(node, struct site, node);
        LIST_FOREACH_SAFE (link_node, &s->idle)
            link_quit(LIST_ENTRY(link_node, struct link, idle_node));
    }
}

size_t deliver_in_flight(const struct deliver *d)
{
    return d->open_txns;
}

static void reclaim(struct worker *w, void *arg)
{
    struct deliver *d = w->deliver;
    (void)arg;

    LIST_FOREACH (node, &d->all_sites) {
        struct site *s = LIST_ENTRY(node, struct site, node);
        bool all = permit_has_waiters(s->pool) || permit_has_waiters(s->global);
        LIST_FOREACH_SAFE (link_node, &s->idle) {
            struct link *link = LIST_ENTRY(link_node, struct link, idle_node);
            if (all || shape_is_wanted(link))
                link_quit(link); /* quits when it carries nothing */
        }
    }
}

void deliver_reclaim_all(struct shared *shared)
{
    for (unsigned i = 0; i < shared->worker_count; i++)
        worker_post(shared->workers[i], reclaim, NULL);
}

void deliver_look_again(struct deliver *d)
{
    if (d->closed)
        return;
    LIST_FOREACH_SAFE (node, &d->all_sites) {
        struct site *s = LIST_ENTRY(node, struct site, node);
        s->link_count++; /* held */
        replies_look_again(s);
        s->link_count--;
        site_maybe_free(s);
    }
}

void deliver_close(struct deliver *d)
{
    size_t count;

    d->closed = true;
    void **dests = snapshot(&d->dests, &count);
    LIST_FOREACH_SAFE (node, &d->all_sites) {
        struct site *s = LIST_ENTRY(node, struct site, node);
        s->link_count++;
        LIST_FOREACH_SAFE (link_node, &s->links)
            link_close(LIST_ENTRY(link_node, struct link, node));
        s->link_count--;
    }
    for (size_t i = 0; i < count; i++)
        dest_destroy(dests[i]); /* jobs go back: the rows wait on disk for the next start */
    mem_free(dests);
    LIST_FOREACH_SAFE (node, &d->all_sites) {
        struct site *s = LIST_ENTRY(node, struct site, node);
        suspension_end(&s->rest);
        site_maybe_free(s);
    }
    deliver_flush(d);
    alarm_clock_close(&d->clock);
}

void deliver_destroy(struct deliver *d)
{
    if (!d)
        return;
    finaliser_destroy(d->finaliser);
    alarm_clock_fini(&d->clock);
    connect_turns_fini(d);
    map_fini(&d->dests);
    map_fini(&d->sites);
    map_fini(&d->in_line);
    mem_free(d);
}

/* ---- seeing ---- */

const char *deliver_group_of(struct deliver *d, const char *domain)
{
    const struct dest *dest = map_find(&d->dests, bytes_of(domain));

    return dest && dest->site ? dest->site->group->name : NULL;
}

static void add(json_t *object, const char *key, json_int_t n)
{
    json_t *old = json_object_get(object, key);

    json_object_set_new(object, key, json_integer(n + (old ? json_integer_value(old) : 0)));
}

json_t *suspension_json(const struct suspension *s, uint64_t now_ms)
{
    return json_pack("{s:I, s:I, s:s, s:s, s:i}", "seconds_left",
                     (json_int_t)((s->until_ms - now_ms + 999) / 1000), "failures", (json_int_t)s->failures,
                     "stage", outcome_stage_name(s->why->stage), "text", s->why->text, "code",
                     (int)s->why->code);
}

void deliver_status(struct deliver *d, json_t *groups)
{
    uint64_t now = worker_now_ms(d->w);

    LIST_FOREACH (node, &d->all_sites) {
        const struct site *s = LIST_ENTRY(node, struct site, node);
        json_t *g = json_object_get(groups, s->group->name);
        if (!g) {
            g = json_object();
            json_object_set_new(groups, s->group->name, g);
            json_object_set_new(g, "suspended", json_array());
        }
        add(g, "sites", 1);
        add(g, "connections", s->link_count);
        for (int class = 0; class < JOB_CLASSES; class ++)
            add(g, "opening", s->opening[class]);
        add(g, "jobs_in_memory", site_queued(s));
        LIST_FOREACH (dest_node, &s->dests) {
            const struct dest *dest = LIST_ENTRY(dest_node, struct dest, site_node);
            add(g, "destinations", 1);
            add(g, "recipients_in_memory", dest->queued);
            add(g, "recipients_in_flight", dest->flying);
        }
        json_t *limited = shape_json(s, now);
        if (limited) {
            json_t *by = json_object_get(g, "limited_by");
            if (!by)
                json_object_set_new(g, "limited_by", by = json_object());
            add(by, json_string_value(json_object_get(limited, "limit")), 1);
            json_decref(limited);
        }
        json_t *suspended = json_object_get(g, "suspended");
        if (s->rest.until_ms > now && json_array_size(suspended) < 20) {
            json_t *one = suspension_json(&s->rest, now);
            json_object_set_new(one, "mx", json_string(s->host_count ? s->hosts[0].name : ""));
            json_array_append_new(suspended, one);
        }
    }
}
