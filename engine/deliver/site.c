/*
 * A site joins the domains that have the same hosts and the same rules.  Its links serve its ready
 * destinations in turn; its permits (group, process) bound the links over all workers.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/clock_steps.h"
#include "base/mem.h"
#include "engine/campaign_guard.h"
#include "engine/deliver/deliver_priv.h"
#include "engine/descriptors.h"
#include "engine/shaping.h"

static void make_key(struct buf *key, const struct group *group, const struct site_host *hosts, size_t count,
                     const struct security *security)
{
    buf_putf(key, "%u|", group->index);
    security_put_key(security, key);
    /* Sorted by preference and name; what counts is the order, not the numbers that say it. */
    for (size_t i = 0; i < count; i++) {
        bool next = i > 0 && hosts[i].preference != hosts[i - 1].preference;

        buf_putf(key, "%s%s:%u:%d|", next ? ">" : "", hosts[i].name, hosts[i].port, hosts[i].implicit_tls);
    }
}

static int by_preference_and_name(const void *a, const void *b)
{
    const struct site_host *x = a, *y = b;

    if (x->preference != y->preference)
        return x->preference < y->preference ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* A turn at the rate of the group that came meanwhile is used with the permit. */
static void has_waited(struct site *s)
{
    s->waits_for_permit = false;
    shape_keep_turn(s, worker_now_ms(s->d->w));
}

static void on_permit(struct note *note, void *owner)
{
    struct site *s = CONTAINER_OF(note, struct site, waiter.note);
    (void)owner;

    permit_heard(s->pool, &s->waiter);
    has_waited(s);
    site_kick(s);
    if (!s->waits_for_permit) /* a turn that was not needed goes to the next; a new place in the queue stays
                               */
        permit_cancel(s->pool, &s->waiter);
    site_maybe_free(s);
}

static void on_global_permit(struct note *note, void *owner)
{
    struct site *s = CONTAINER_OF(note, struct site, global_waiter.note);
    (void)owner;

    permit_heard(s->global, &s->global_waiter);
    has_waited(s);
    site_kick(s);
    if (!s->waits_for_permit)
        permit_cancel(s->global, &s->global_waiter);
    site_maybe_free(s);
}

/* Its turn at the rates of the group has come, or it sees to the clock for all who wait. */
static void on_turn(struct note *note, void *owner)
{
    struct site *s = CONTAINER_OF(note, struct site, turn.waiter.note);
    (void)owner;

    pace_heard(s->messages, &s->turn.waiter);
    shape_on_turn(s);
    site_kick(s);
    if (!s->turns.ready)
        shape_release(s); /* what it was for has gone */
    site_maybe_free(s);
}

static void on_alarm(struct alarm *a)
{
    struct site *s = CONTAINER_OF(a, struct site, alarm);
    uint64_t now = worker_now_ms(s->d->w);

    replies_on_alarm(s);
    quiet_on_alarm(s);
    if (s->open_after_ms > now) /* what is still ahead rings again */
        site_set_alarm(s, s->open_after_ms);
    if (s->turn.ask_at_ms > now)
        site_set_alarm(s, s->turn.ask_at_ms);
    else
        shape_on_turn(s);
    if (site_is_resting(s)) {
        site_set_alarm(s, site_rest_until_ms(s));
    } else {
        LIST_FOREACH_SAFE (node, &s->dests) { /* each pages what waits for it on disk */
            struct dest *dest = LIST_ENTRY(node, struct dest, site_node);
            if (dest->page_due && !dest_has_jobs(dest))
                dest_kick(dest);
        }
    }
    site_kick(s);
    if (!s->turns.ready)
        shape_release(s);
    site_maybe_free(s);
}

static struct site *create(struct deliver *d, char *key, const struct group *group,
                           const struct site_host *hosts, size_t count, bool implicit_mx,
                           struct security *security)
{
    struct site *s = MEM_NEW(struct site);
    struct buf pool = {0};

    s->d = d;
    s->key = key;
    s->policy = policy_ref(d->w->policy);
    s->group = group;
    s->security = *security;
    *security = (struct security){0};
    s->implicit_mx = implicit_mx;
    s->host_count = count;
    s->hosts = mem_zalloc(MAX_OF(count, (size_t)1) * sizeof(*s->hosts));
    for (size_t i = 0; i < count; i++) {
        s->hosts[i] = hosts[i];
        s->hosts[i].name = mem_strdup(hosts[i].name);
    }
    list_init(&s->dests);
    fair_init(&s->turns);
    list_init(&s->links);
    list_init(&s->idle);
    s->alarm.ring = on_alarm;
    buf_putf(&pool, "group:%s", group->name);
    s->pool = permit_pool(d->w->shared->limits, buf_str(&pool), group->limits.connections);
    buf_fini(&pool);
    s->global = permit_pool(d->w->shared->limits, "all", descriptors_connections(worker_conf(d->w)));
    shape_init(s, on_turn);
    permit_waiter_init(&s->waiter, &d->w->inbox, on_permit);
    permit_waiter_init(&s->global_waiter, &d->w->inbox, on_global_permit);
    replies_init(s);
    quiet_init(s);
    list_push_back(&d->all_sites, &s->node);
    map_put(&d->sites, bytes_of(s->key), s);
    COUNT(d->w, sites);
    return s;
}

struct site *site_find_or_create(struct deliver *d, const struct group *group, const struct site_host *hosts,
                                 size_t count, bool implicit_mx, struct security *security)
{
    struct buf key = {0};
    struct site_host *sorted = mem_alloc(MAX_OF(count, (size_t)1) * sizeof(*sorted));

    for (size_t i = 0; i < count; i++)
        sorted[i] = hosts[i];
    qsort(sorted, count, sizeof(*sorted), by_preference_and_name);
    make_key(&key, group, sorted, count, security);
    struct site *s = map_find(&d->sites, buf_bytes(&key));
    if (s)
        buf_fini(&key);
    else
        s = create(d, buf_take(&key), group, sorted, count, implicit_mx, security);
    security_fini(security);
    mem_free(sorted);
    return s;
}

void site_maybe_free(struct site *s)
{
    struct deliver *d = s->d;

    if (!list_is_empty(&s->dests) || s->link_count ||
        (s->rest.until_ms > worker_now_ms(d->w) && !s->stale && !d->closed))
        return;
    bool noted = permit_cancel(s->pool, &s->waiter);
    noted |= permit_cancel(s->global, &s->global_waiter);
    noted |= shape_release(s);
    if (noted) /* its note is on the way, and comes here again */
        return;
    shape_leave_line(s);
    alarm_clear(&d->clock, &s->alarm);
    if (!s->stale)
        map_remove(&d->sites, bytes_of(s->key));
    list_remove(&s->node);
    UNCOUNT(d->w, sites);
    replies_fini(s);
    quiet_fini(s);
    for (size_t i = 0; i < s->host_count; i++)
        mem_free(s->hosts[i].name);
    mem_free(s->hosts);
    mem_free(s->uses);
    suspension_end(&s->rest);
    security_fini(&s->security);
    fair_fini(&s->turns);
    mem_free(s->key);
    if (s->auth_password)
        mem_wipe_free(s->auth_password, strlen(s->auth_password));
    policy_unref(s->policy);
    mem_free(s);
}

void site_bind(struct site *s, struct dest *dest)
{
    dest->site = s;
    if (dest->strands)
        dest->strands->turns = &s->turns;
    list_push_back(&s->dests, &dest->site_node);
    for (int class = 0; class < JOB_CLASSES; class ++)
        s->queued_jobs[class] += dest->queued_jobs[class];
}

void site_unbind(struct site *s, struct dest *dest)
{
    for (int class = 0; class < JOB_CLASSES; class ++)
        s->queued_jobs[class] -= dest->queued_jobs[class];
    if (dest->strands)
        turns_leave(dest->strands);
    list_remove(&dest->site_node);
    dest->site = NULL;
    dest_forget_unfit_hosts(dest);
    if (dest->strands)
        dest->strands->turns = NULL;
    site_maybe_free(s);
}

uint32_t site_queued(const struct site *s)
{
    uint32_t n = 0;

    for (int class = 0; class < JOB_CLASSES; class ++)
        n += s->queued_jobs[class];
    return n;
}

void site_make_stale(struct site *s)
{
    if (!s->stale)
        map_remove(&s->d->sites, bytes_of(s->key));
    s->stale = true;
    shape_release(s);
    s->link_count++; /* held */
    LIST_FOREACH_SAFE (node, &s->links) {
        struct link *link = LIST_ENTRY(node, struct link, node);
        if (alarm_is_set(&link->alarm)) /* it waits by a limit that holds no more */
            link_close(link);
    }
    s->link_count--;
    LIST_FOREACH_SAFE (node, &s->dests)
        dest_unbind(LIST_ENTRY(node, struct dest, site_node));
}

uint64_t site_rest_until_ms(const struct site *s)
{
    uint64_t until_ms = MAX_OF(s->rest.until_ms, shaped_suspended_until_ms(s->shaped));

    until_ms = MAX_OF(until_ms, s->spent_until_ms);
    return s->quiet ? MAX_OF(until_ms, quiet_until_ms(s)) : until_ms;
}

bool site_is_resting(const struct site *s)
{
    return site_rest_until_ms(s) > worker_now_ms(s->d->w);
}

static void kick_dests(struct site *s)
{
    LIST_FOREACH_SAFE (node, &s->dests)
        dest_kick_soon(LIST_ENTRY(node, struct dest, site_node));
}

void site_on_session(struct site *s)
{
    bool rested = s->rest.until_ms > worker_now_ms(s->d->w);

    if (!s->rest.failures)
        return;
    s->rest.until_ms = 0;
    if (rested)
        shaped_reached(s->shaped);
    kick_dests(s); /* what another link sent to disk meanwhile may go on */
}

void site_on_alive(struct site *s)
{
    if (!s->rest.failures)
        return;
    suspension_end(&s->rest);
    kick_dests(s); /* more links than this one may be opened */
}

/* ---- work for links ---- */

bool job_clear_ok(const struct deliver *d, const struct job *job)
{
    int64_t age_s = clock_unix() - clock_restate(job->message->accepted_unix);
    int64_t after_ms = (int64_t)worker_conf(d->w)->delivery.clear_fallback_after_ms;

    /* Acceptance is known to the second: what is certainly that old. */
    return job->rcpts[0].attempts >= 1 && (age_s - (after_ms > 0)) * 1000 >= after_ms;
}

/* It may have what the job needs, no better host that this link passed over may, and TLS is as it asks. */
static bool is_host_for(const struct link *link, const struct job *job)
{
    return job_wish(job) == link->wish && !(job->unfit_hosts & link_host_bit(link)) &&
           (job->unfit_hosts & link->avoids) == link->avoids;
}

/* May this link carry the strand's first job that is of its class? */
static bool link_may_carry(const struct strand *strand, const void *arg)
{
    const struct link *link = arg;
    struct list *first = list_first(&strand->jobs[link->class]);

    if (!first || (link->only_domain && strcmp(link->domain, strand->all->dest->domain) != 0))
        return false;
    const struct job *job = LIST_ENTRY(first, struct job, node);
    if (link->class == CLASS_OTHER_HOST && !is_host_for(link, job))
        return false;
    if (campaign_guard_stops(link->d->w->shared->guard, job->message->campaign))
        return false; /* it is being paused */
    return !link->in_clear || link->wish == TLS_WISH_OPTIONAL ||
           link->site->group->clear_after_tls_failure == CLEAR_NOW || job_clear_ok(link->d, job);
}

void site_set_alarm(struct site *s, uint64_t at_ms)
{
    if (!alarm_is_set(&s->alarm) || s->alarm.at_ms > at_ms)
        alarm_set(&s->d->clock, &s->alarm, at_ms);
}

/* A job larger than one transaction may be: the rest stays in front. */
static void split(struct dest *dest, struct job *job, uint32_t most)
{
    if (!most || job->rcpt_count <= most)
        return;
    struct job *left = job_create(job->message, job->rcpts + most, job->rcpt_count - most);
    left->unfit_hosts = job->unfit_hosts;
    job->rcpt_count = most;
    dest_requeue(dest, left);
}

static bool body_is_there(struct dest *dest, struct job *job)
{
    struct body *body = job->message->body;
    struct deliver *d = dest->d;
    struct outcome o;

    if (body->mem || body->size_bytes > SPOOL_MEMORY_LIMIT)
        return true;
    enum err e = spool_load(store_spool(d->w->shared->store), body);
    if (!e)
        return true;
    log_error(&d->w->log, "spool.read", LOG_INT("segment", body->segment), LOG_INT("offset", body->offset),
              LOG_ERR(e));
    outcome_local(&o, OUTCOME_DEFERRED, STAGE_QUEUE, 451, "4.3.0", "the stored message cannot be read: %s",
                  err_text(e));
    for (uint32_t i = 0; i < job->rcpt_count; i++) {
        struct outcome copy = o;
        record_attempt(dest, NULL, job, &job->rcpts[i], &copy, worker_now_ms(d->w), false);
    }
    job_destroy(job);
    return false;
}

static bool is_too_old(const struct dest *dest, const struct message *m)
{
    const struct group *group = dest->site->group;
    int64_t now = clock_unix();

    if (!retry_is_expired(&group->retry, m->accepted_unix, now))
        return false; /* nearly always: without a lock */
    int64_t began = clock_restate(m->accepted_unix);
    return retry_is_expired(&group->retry, began, now) &&
           retry_is_expired(&group->retry, began + quiet_age_off_s(dest, group, began), now);
}

/* What lay on disk too long is given up before it is tried again; what has an end of its own, before any try.
 */
static bool is_expired(struct dest *dest, struct job *job)
{
    const struct message *m = job->message;
    struct outcome o;

    if (!message_is_over(m, clock_unix()) && (!job->rcpts[0].attempts || !is_too_old(dest, m)))
        return false;
    for (uint32_t i = 0; i < job->rcpt_count; i++) {
        const char *last = job->rcpts[i].last_text;
        outcome_local(&o, OUTCOME_EXPIRED, STAGE_QUEUE, 554, "4.4.7",
                      "not delivered in time; last answer: %s", last ? last : "none");
        job->rcpts[i].attempts--; /* record_attempt counts one more; this is none */
        record_attempt(dest, NULL, job, &job->rcpts[i], &o, worker_now_ms(dest->d->w), false);
    }
    job_destroy(job);
    return true;
}

struct walk_failure {
    const struct deliver *d;
    enum job_class class; /* it says nothing about the others */
    enum tls_wish wish;
    bool clear_ok;   /* the walk could end in clear: then it speaks for every job of its class */
    uint64_t avoids; /* it passed over these hosts: others' jobs may have been taken there */
};

static bool concerns(const struct job *job, void *arg)
{
    const struct walk_failure *f = arg;

    return job_class(job) == f->class && job_wish(job) == f->wish &&
           (f->clear_ok || !job_clear_ok(f->d, job)) && (job->unfit_hosts & f->avoids) == f->avoids;
}

static void give_turn(struct link *link, uint64_t size_bytes, uint32_t recipients)
{
    shape_give_message(link->site, size_bytes, worker_now_ms(link->d->w));
    source_give_message(link, recipients);
}

struct deliver_txn *site_take(struct site *s, struct link *link)
{
    struct deliver *d = s->d;
    struct outcome held;

    if (s->stale || d->draining || d->closed || deliver_is_stalled(d))
        return NULL;
    if (site_is_resting(s)) {
        replies_rest(s);
        quiet_rest(s);
        return NULL;
    }
    for (struct strand *strand; (strand = turns_next(&s->turns, link_may_carry, link));) {
        struct dest *dest = strand->all->dest;
        uint64_t size_bytes = strand_first(strand, link->class)->message->body->size_bytes;
        uint32_t most = MIN_OF(strand_first(strand, link->class)->rcpt_count,
                               s->group->limits.recipients_per_transaction);
        if (!shape_take_message(s, strand->lane, size_bytes))
            return NULL;
        most = source_take_message(link, most);
        if (!most) {
            shape_give_message(s, size_bytes, link->source_until_ms);
            return NULL;
        }
        if (!replies_may_send(s)) {
            give_turn(link, size_bytes, most);
            return NULL;
        }
        if (link_holds_back(link, dest, &held)) {
            give_turn(link, size_bytes, most);
            struct walk_failure f = {d, link->class, link->wish, true, 0};
            dest_settle_all(dest, &held, link, worker_now_ms(d->w), concerns, &f);
            dest_kick_soon(dest);
            continue;
        }
        fair_took(&s->turns, &strand->place);
        struct job *job = dest_pop(strand, link->class);
        split(dest, job, most);
        uint32_t recipients = job->rcpt_count;
        if (is_expired(dest, job) || !body_is_there(dest, job)) {
            give_turn(link, size_bytes, most);
            dest_kick_soon(dest);
            continue;
        }
        dest->flying += recipients; /* keeps it alive */
        worker_flight_begin(d->w, recipients);
        struct deliver_txn *t = MEM_NEW(struct deliver_txn);
        t->job = job;
        t->dest = dest;
        t->started_ms = worker_now_ms(d->w);
        t->txn.message = job->message;
        t->txn.rcpts = job->rcpts;
        t->txn.rcpt_count = job->rcpt_count;
        t->txn.outcomes = mem_alloc(job->rcpt_count * sizeof(struct outcome));
        t->txn.dsn_not_passed_on = mem_zalloc(job->rcpt_count);
        t->txn.arg = t;
        list_init(&t->txn.node);
        list_push_back(&link->txns, &t->node);
        return t;
    }
    return NULL;
}

void site_kick(struct site *s)
{
    struct deliver *d = s->d;

    if (s->stale || d->draining || d->closed || deliver_is_stalled(d))
        return;
    if (site_is_resting(s)) {
        shape_release(s);
        replies_rest(s);
        quiet_rest(s);
        return;
    }
    LIST_FOREACH_SAFE (node, &s->idle) {
        if (!s->turns.ready)
            return;
        link_feed(LIST_ENTRY(node, struct link, idle_node));
    }
    for (int class = 0; class < JOB_CLASSES; class ++)
        if (s->queued_jobs[class] && !site_open_links(s, (enum job_class) class))
            return;
}

uint64_t site_host_bits(const struct site *s)
{
    return s->host_count < 64 ? ((uint64_t)1 << s->host_count) - 1 : UINT64_MAX;
}

static bool wants_other_link(const struct strand *strand, const void *arg)
{
    return strand_has_class(strand, &(enum job_class){CLASS_OTHER_HOST}) &&
           !is_host_for(arg, strand_first(strand, CLASS_OTHER_HOST));
}

void site_on_other_link(struct site *s, struct link *link)
{
    if (s->queued_jobs[CLASS_OTHER_HOST] && turns_next(&s->turns, wants_other_link, link))
        site_kick(s);
}

/* Is there a session that may carry the jobs this walk was for? */
static bool has_live_link(const struct site *s, const struct link *walk, bool clear_ok)
{
    LIST_FOREACH (node, &s->links) {
        const struct link *link = LIST_ENTRY(node, struct link, node);
        if (link->class == walk->class && link->wish == walk->wish && link->ready && !link->quitting &&
            (clear_ok || !link->in_clear) && !(link_host_bit(link) & walk->avoids) &&
            !(link->avoids & ~walk->avoids))
            return true;
    }
    return false;
}

static void rest(struct site *s, const struct outcome *o)
{
    uint64_t now = worker_now_ms(s->d->w);

    if (s->rest.until_ms > now) /* links that were opened together fail together: that is one failure */
        return;
    site_set_alarm(s, suspension_start(&s->rest, o, &s->group->retry, now));
    replies_on_rest(s, o);
    LIST_FOREACH_SAFE (node, &s->dests)
        dest_go_cold(LIST_ENTRY(node, struct dest, site_node));
}

/* A REQUIRETLS walk that met somebody and ended for want of proof says nothing about the site: others may do
 * without. */
static bool speaks_for_site(const struct link *link, const struct outcome *o)
{
    if (link->class == CLASS_OTHER_HOST) /* it did not even ask the best ones */
        return false;
    return link->class == CLASS_NORMAL ||
           (!link->reached && (o->stage == STAGE_CONNECT || o->stage == STAGE_GREETING));
}

static void settle_one(struct link *link, const struct outcome *o, struct walk_failure *f)
{
    struct dest *dest = link_opened_for(link);

    if (!dest)
        return;
    dest_settle_all(dest, o, link, link->opened_ms, concerns, f);
    if (o->kind == OUTCOME_DEFERRED && link->class == CLASS_NORMAL)
        dest_suspend(dest, o);
    dest_kick_soon(dest);
}

void site_on_walk_failed(struct site *s, struct link *link, const struct outcome *o)
{
    struct walk_failure f = {s->d, link->class, link->wish, link->clear_ok, link->avoids};

    if (link->held) {
        settle_one(link, o, &f);
        return;
    }
    /* Others work, here or at another worker: the receiver wants no more of us just now. */
    if (has_live_link(s, link, link->clear_ok) ||
        (speaks_for_site(link, o) && replies_have_sessions(link, o))) {
        replies_on_refused(s, o);
        return;
    }
    LIST_FOREACH_SAFE (node, &s->dests)
        dest_settle_all(LIST_ENTRY(node, struct dest, site_node), o, link, link->opened_ms, concerns, &f);
    /* What is left may go in clear: it is served, or gets a walk of its own, before the site rests. */
    if (o->kind == OUTCOME_DEFERRED && !s->turns.ready && !has_live_link(s, link, true) &&
        speaks_for_site(link, o)) {
        rest(s, o);
        return;
    }
    kick_dests(s);
}
