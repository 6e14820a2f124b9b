/*
 * A destination's day:
 *
 *     accepted mail ─► jobs ─► bound to a site? ──no──► policy, MX ─► site
 *          │            │                                  │ fails
 *      window full    taken by the site's links            ▼
 *          ▼                                            all jobs deferred, rest for a while
 *     cold: on disk ─► page when there is room, or when something falls due
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/deliver/deliver_priv.h"

#define WINDOW_MIN 4 /* recipients of a destination in memory, however many destinations there are */

struct dest *dest_get(struct deliver *d, const char *domain)
{
    struct dest *dest = map_find(&d->dests, bytes_of(domain));

    if (dest)
        return dest;
    size_t len = strlen(domain);
    dest = mem_zalloc(sizeof(*dest) + len + 1);
    dest->d = d;
    memcpy(dest->domain, domain, len);
    list_init(&dest->site_node);
    dest->serial = ++d->serial;
    map_put(&d->dests, bytes_of(dest->domain), dest);
    COUNT(d->w, destinations);
    return dest;
}

static struct strands *need_strands(struct dest *dest)
{
    if (dest->strands)
        return dest->strands;
    dest->strands = MEM_NEW(struct strands);
    strands_init(dest->strands, dest);
    dest->strands->turns = dest->site ? &dest->site->turns : NULL;
    return dest->strands;
}

/* Without jobs they tell which lanes have more on disk, but a page of the whole finds that by itself. */
static void drop_strands(struct dest *dest)
{
    if (!dest->strands || dest->queued || dest->paging ||
        (strands_are_used(dest->strands) && !dest->page_due))
        return;
    strands_fini(dest->strands);
    mem_free(TAKE(dest->strands));
}

enum tls_wish job_wish(const struct job *job)
{
    if (smtp_client_wants_requiretls(job->message)) /* not a notification: RFC 8689 §4.2.1 */
        return TLS_WISH_REQUIRED;
    return job->message->flags & MESSAGE_TLS_REQUIRED_NO ? TLS_WISH_OPTIONAL : TLS_WISH_NONE;
}

enum job_class job_class(const struct job *job)
{
    static const enum job_class of_wish[] = {
        [TLS_WISH_NONE] = CLASS_NORMAL,
        [TLS_WISH_REQUIRED] = CLASS_REQUIRETLS,
        [TLS_WISH_OPTIONAL] = CLASS_TLS_OPTIONAL,
    };

    return job->unfit_hosts ? CLASS_OTHER_HOST : of_wish[job_wish(job)];
}

bool dest_has_jobs(const struct dest *dest)
{
    return dest->queued > 0;
}

void dest_forget_queries(struct dest *dest)
{
    dns_cancel(TAKE(dest->query));
    sts_cancel(TAKE(dest->sts_query));
    found_destroy(TAKE(dest->found));
}

void dest_rebind(struct dest *dest)
{
    dest->bound_until_ms = 0;
}

/* After its jobs, or `paging`, have changed. */
static void note_busy(struct dest *dest)
{
    struct deliver *d = dest->d;
    bool busy = dest->queued || dest->paging;

    if (busy == dest->busy)
        return;
    dest->busy = busy;
    d->busy += busy ? 1 : (size_t)-1;
    if (!busy && deliver_has_room(d))
        store_want_domains(d->w->shared->store);
}

void dest_destroy(struct dest *dest)
{
    struct deliver *d = dest->d;

    dest_return_jobs(dest);
    dest->paging = false;
    note_busy(dest);
    dest_forget_queries(dest);
    tls_watch_release(dest->tls);
    dest_unbind(dest);
    if (dest->strands)
        strands_fini(dest->strands);
    mem_free(dest->strands);
    suspension_end(&dest->rest);
    alarm_clear(&d->clock, &dest->alarm);
    map_remove(&d->dests, bytes_of(dest->domain));
    UNCOUNT(d->w, destinations);
    mem_free(dest);
}

/* Recipients of this worker. */
static uint64_t memory_of_all(const struct deliver *d)
{
    return (uint64_t)worker_conf(d->w)->delivery.jobs_in_memory / d->w->shared->worker_count;
}

/*
 * Each destination has an equal share of the memory, so that the queue costs the same however long it is and
 * however many destinations it has; and small pages of many go in the order in which their mail came, so that
 * the store changes neighbouring rows.
 */
static uint32_t window(const struct dest *dest)
{
    const struct deliver *d = dest->d;
    const struct conf *conf = worker_conf(d->w);
    uint64_t all = memory_of_all(d);
    uint64_t share = d->queued < all ? all / MAX_OF(d->dests.count, (size_t)1) : 0;

    return (uint32_t)MIN_OF(MAX_OF(share, (uint64_t)WINDOW_MIN), (uint64_t)conf->delivery.jobs_per_domain);
}

static bool memory_is_short(const struct dest *dest)
{
    return body_memory_bytes() > worker_conf(dest->d->w)->delivery.body_memory_bytes;
}

static bool is_resting(const struct dest *dest)
{
    uint64_t now = worker_now_ms(dest->d->w);

    return dest->rest.until_ms > now || (dest->site && site_is_resting(dest->site));
}

uint64_t suspension_start(struct suspension *s, const struct outcome *why, const struct retry_schedule *retry,
                          uint64_t now_ms)
{
    s->failures++;
    if (!s->why)
        s->why = MEM_NEW(struct outcome);
    *s->why = *why;
    s->until_ms = now_ms + (uint64_t)retry_wait_s(retry, s->failures, worker_random()) * 1000;
    return s->until_ms;
}

void suspension_end(struct suspension *s)
{
    mem_free(s->why);
    *s = (struct suspension){0};
}

void dest_go_cold(struct dest *dest)
{
    dest->page_due = true;
    drop_strands(dest);
    if (dest->cold && !dest->paging)
        return;
    dest->cold = true;
    dest->cold_again = dest->paging; /* the store hears of it after the page that may make the domain hot */
    store_post_cold(dest->d->w->shared->store, dest->domain);
}

static void put(struct dest *dest, struct job *job, bool first)
{
    enum job_class class = job_class(job);

    strand_put(strand_need(need_strands(dest), job->message->lane), job, class, first);
    dest->queued += job->rcpt_count;
    dest->d->queued += job->rcpt_count;
    note_busy(dest);
    dest->queued_jobs[class]++;
    COUNT(dest->d->w, jobs_in_memory);
    if (!dest->site)
        return;
    dest->site->queued_jobs[class]++;
    if (class == CLASS_REQUIRETLS && !dest->site->security.sts_asked)
        dest_rebind(dest); /* who the receiver is must be proved: MTA-STS is one way */
}

static void unlink_job(struct strand *strand, struct job *job)
{
    struct dest *dest = strand->all->dest;
    enum job_class class = job_class(job);

    strand_remove(strand, job);
    dest->queued -= job->rcpt_count;
    dest->d->queued -= job->rcpt_count;
    note_busy(dest);
    dest->queued_jobs[class]--;
    UNCOUNT(dest->d->w, jobs_in_memory);
    if (dest->site)
        dest->site->queued_jobs[class]--;
}

/* How many more recipients fit: an eighth of the window is kept for lanes that come when it is full, and half
 * of that for high priority. */
static uint32_t room(const struct dest *dest, uint16_t lane)
{
    bool high = lane_priority(lane) == PRIORITY_HIGH;
    uint32_t most = high ? window(dest) : window(dest) - window(dest) / 16;

    return most > dest->queued ? most - dest->queued : 0;
}

static bool is_full_for(const struct dest *dest, const struct job *job)
{
    bool high = lane_priority(job->message->lane) == PRIORITY_HIGH;
    uint32_t most = high ? window(dest) : window(dest) - window(dest) / 8;

    return dest->queued && dest->queued + job->rcpt_count > most;
}

void dest_take_jobs(struct dest *dest, struct list *jobs)
{
    struct deliver *d = dest->d;
    struct list *node;

    while ((node = list_pop(jobs))) {
        struct job *job = LIST_ENTRY(node, struct job, node);
        if (d->draining || dest->cold || is_full_for(dest, job) || is_resting(dest) ||
            memory_is_short(dest)) {
            dest_go_cold(dest);
            list_push_back(&d->give_back, &job->node);
        } else {
            put(dest, job, false);
        }
    }
}

void dest_requeue(struct dest *dest, struct job *job)
{
    put(dest, job, true);
    if (dest->site)
        turns_join(dest->strands);
}

void dest_forget_unfit_hosts(struct dest *dest)
{
    struct strand *strand;
    struct list *node;

    if (!dest->queued_jobs[CLASS_OTHER_HOST])
        return;
    for (size_t at = 0; (strand = strand_next(dest->strands, &at));) {
        while ((node = list_pop(&strand->jobs[CLASS_OTHER_HOST]))) {
            struct job *job = LIST_ENTRY(node, struct job, node);
            job->unfit_hosts = 0;
            enum job_class class = job_class(job);
            list_push_front(&strand->jobs[class], &job->node);
            dest->queued_jobs[CLASS_OTHER_HOST]--;
            dest->queued_jobs[class]++;
        }
    }
}

struct job *dest_pop(struct strand *strand, enum job_class class)
{
    struct list *node = list_first(&strand->jobs[class]);

    if (!node)
        return NULL;
    struct job *job = LIST_ENTRY(node, struct job, node);
    unlink_job(strand, job);
    return job;
}

void dest_return_jobs(struct dest *dest)
{
    struct strand *strand;
    struct job *job;

    if (!dest_has_jobs(dest))
        return;
    dest_go_cold(dest);
    for (size_t at = 0; (strand = strand_next(dest->strands, &at));)
        for (int class = 0; class < JOB_CLASSES; class ++)
            while ((job = dest_pop(strand, (enum job_class) class)))
                list_push_back(&dest->d->give_back, &job->node);
}

void dest_return_campaign(struct dest *dest, const char *campaign)
{
    struct strand *strand;
    bool any = false;

    for (size_t at = 0; (strand = strand_next(dest->strands, &at));) {
        for (int class = 0; class < JOB_CLASSES; class ++) {
            LIST_FOREACH_SAFE (node, &strand->jobs[class]) {
                struct job *job = LIST_ENTRY(node, struct job, node);
                if (!job->message->campaign || strcmp(job->message->campaign, campaign) != 0)
                    continue;
                unlink_job(strand, job);
                list_push_back(&dest->d->give_back, &job->node);
                any = true;
            }
        }
    }
    if (any)
        dest_kick_soon(dest);
}

void dest_unbind(struct dest *dest)
{
    if (dest->site)
        site_unbind(dest->site, dest);
    dest->match = (struct policy_match){0};
}

struct policy_match dest_match(struct dest *dest)
{
    if (dest->match.group && dest->site)
        return dest->match;
    struct policy_match m = policy_match_domain(dest->d->w->policy, bytes_of(dest->domain));
    return m.group ? m : policy_match_mx(dest->d->w->policy, NULL, 0);
}

const struct group *dest_group(struct dest *dest)
{
    return dest_match(dest).group;
}

static void settle_strand(struct strand *strand, const struct outcome *o, struct link *link,
                          uint64_t started_ms, job_filter_fn only, void *arg)
{
    struct dest *dest = strand->all->dest;

    for (int class = 0; class < JOB_CLASSES; class ++) {
        LIST_FOREACH_SAFE (node, &strand->jobs[class]) {
            struct job *job = LIST_ENTRY(node, struct job, node);
            if (only && !only(job, arg))
                continue;
            unlink_job(strand, job);
            for (uint32_t i = 0; i < job->rcpt_count; i++) {
                struct outcome copy = *o;
                record_attempt(dest, link, job, &job->rcpts[i], &copy, started_ms, false);
            }
            job_destroy(job);
        }
    }
}

void dest_settle_all(struct dest *dest, const struct outcome *o, struct link *link, uint64_t started_ms,
                     job_filter_fn only, void *arg)
{
    struct strand *strand;

    for (size_t at = 0; (strand = strand_next(dest->strands, &at));)
        settle_strand(strand, o, link, started_ms, only, arg);
}

/* ---- waiting ---- */

static void on_alarm(struct alarm *a)
{
    dest_kick(CONTAINER_OF(a, struct dest, alarm));
}

static void set_alarm(struct dest *dest, uint64_t at_ms)
{
    if (alarm_is_set(&dest->alarm) && dest->alarm.at_ms <= at_ms)
        return;
    dest->alarm.ring = on_alarm;
    alarm_set(&dest->d->clock, &dest->alarm, at_ms);
}

void dest_kick_soon(struct dest *dest)
{
    set_alarm(dest, worker_now_ms(dest->d->w));
}

void dest_wait_until(struct dest *dest, int64_t due_unix)
{
    int64_t now_unix_ms = clock_unix_ms();

    if (!dest->next_due_unix || due_unix < dest->next_due_unix)
        dest->next_due_unix = due_unix;
    int64_t wait_ms = due_unix * 1000 - now_unix_ms + 50; /* a second has begun for the store too */
    set_alarm(dest, worker_now_ms(dest->d->w) + (uint64_t)MAX_OF(wait_ms, (int64_t)0));
}

void dest_suspend(struct dest *dest, const struct outcome *o)
{
    set_alarm(dest, suspension_start(&dest->rest, o, &dest_group(dest)->retry, worker_now_ms(dest->d->w)));
    dest_go_cold(dest);
}

/* ---- paging ---- */

/* What is left of its lanes on disk; those that it has nothing of stay as they are. */
static void note_left(struct dest *dest, const struct store_page *p)
{
    struct strand *strand;

    LIST_FOREACH (node, &p->jobs)
        strand_need(need_strands(dest), LIST_ENTRY(node, struct job, node)->message->lane)->more = false;
    for (uint32_t i = 0; i < p->left_count; i++)
        if ((strand = strand_find(dest->strands, p->left[i])))
            strand->more = true;
}

/* Whether it is cold is for pages of the whole. */
static void note_rest(struct dest *dest, const struct store_page *p)
{
    /* What happened since the page was read counts too: a wake, a deferral, a call to be cold. */
    dest->cold = p->more || dest->cold_again;
    dest->page_due |= dest->cold;
    if (p->next_due_unix)
        dest_wait_until(dest, p->next_due_unix);
}

/*
 * A hundred thousand destinations of a host that does not answer have their turns in memory: what comes while
 * it rests, and has no room, lies on disk until the next try, when it goes before those who had room now.
 */
static bool has_no_room(const struct dest *dest)
{
    return is_resting(dest) && dest->d->queued >= memory_of_all(dest->d);
}

static void keep_or_give_back(struct dest *dest, struct store_page *p)
{
    struct deliver *d = dest->d;
    struct list *node;

    if (d->draining || d->closed) {
        list_move_all(&d->give_back, &p->jobs);
        return;
    }
    if (!list_is_empty(&p->jobs) && has_no_room(dest)) {
        dest_go_cold(dest);
        list_move_all(&d->give_back, &p->jobs);
        return;
    }
    note_left(dest, p);
    while ((node = list_pop(&p->jobs)))
        put(dest, LIST_ENTRY(node, struct job, node), false);
    if (dest->site && is_resting(dest)) { /* behind those who had none */
        list_remove(&dest->site_node);
        list_push_back(&dest->site->dests, &dest->site_node);
    }
}

static void on_page(struct note *note, void *owner)
{
    struct store_page *p = CONTAINER_OF(note, struct store_page, req.note);
    struct worker *w = owner;
    struct deliver *d = w->deliver;
    struct dest *dest = map_find(&d->dests, bytes_of(p->domain)); /* paging keeps it alive */

    if (!dest) { /* closing: the rows wait on disk for the next start */
        store_page_destroy(p);
        return;
    }
    dest->paging = false;
    if (p->req.result == OK) {
        if (!p->only_lane)
            note_rest(dest, p);
        dest->cold_again = false;
        keep_or_give_back(dest, p);
    } else {
        log_warn(&w->log, "queue.page", LOG_STR("domain", dest->domain), LOG_ERR(p->req.result));
        dest->page_due = true;
        set_alarm(dest, worker_now_ms(w) + 1000);
    }
    store_page_destroy(p);
    note_busy(dest);
    dest_kick(dest);
}

static struct store_page *make_page(struct dest *dest, uint32_t limit)
{
    struct store_page *p = MEM_NEW(struct store_page);

    dest->paging = true;
    note_busy(dest);
    p->req.reply_to = &dest->d->w->inbox;
    p->req.on_reply = on_page;
    p->domain = mem_strdup(dest->domain);
    p->limit = MAX_OF(limit, 1U);
    list_init(&p->jobs);
    return p;
}

static void page(struct dest *dest, uint32_t limit)
{
    dest->page_due = dest->fell_due = false;
    store_post_page(dest->d->w->shared->store, make_page(dest, limit));
}

static void page_lane(struct dest *dest, struct strand *strand)
{
    uint32_t limit =
        MIN_OF(room(dest, strand->lane), window(dest) / 8); /* none of it is in memory: a few always fit */
    struct store_page *p = make_page(dest, MAX_OF(limit, (uint32_t)WINDOW_MIN));

    p->only_lane = true;
    p->lane = strand->lane;
    strand_free(strand); /* it comes back with its jobs */
    store_post_page(dest->d->w->shared->store, p);
}

/* Lanes whose jobs in memory are all gone: while others keep the window filled, they get the next of theirs.
 */
static void settle_emptied(struct dest *dest)
{
    struct list *node;

    while (dest->strands && (node = list_pop(&dest->strands->emptied))) {
        struct strand *strand = LIST_ENTRY(node, struct strand, place.node);
        if (strand->more && dest->cold)
            strand_want(strand);
        else
            strand_free(strand);
    }
}

static void page_what_is_due(struct dest *dest)
{
    if (dest->paging)
        return;
    if (dest->page_due && dest->queued <= window(dest) / 4)
        page(dest, window(dest) / 2);
    else if (dest->page_due && dest->fell_due && room(dest, 0) > 0)
        page(dest, MIN_OF(room(dest, 0), window(dest) / 8));
    else if (dest->strands && !list_is_empty(&dest->strands->wanted))
        page_lane(dest, LIST_ENTRY(list_first(&dest->strands->wanted), struct strand, place.node));
}

void dest_on_lane(struct dest *dest, uint16_t lane)
{
    struct strand *strand = strand_need(need_strands(dest), lane);

    strand->more = true;
    dest->page_due = true; /* of a cold one it is already */
    dest_kick(dest);
}

/* ---- the one place that decides what comes next ---- */

static bool is_needed(const struct dest *dest)
{
    return dest->queued || dest->flying || dest->cold || dest->paging || dest->page_due ||
           dest->next_due_unix || dest->query || dest->sts_query || alarm_is_set(&dest->alarm);
}

void dest_kick(struct dest *dest)
{
    struct deliver *d = dest->d;

    if (d->closed || d->draining)
        return;
    if (dest->next_due_unix && dest->next_due_unix <= clock_unix()) {
        dest->next_due_unix = 0;
        dest->page_due = dest->fell_due = true;
    }
    settle_emptied(dest);
    drop_strands(dest);
    if (is_resting(dest)) {
        uint64_t until = MAX_OF(dest->rest.until_ms, dest->site ? site_rest_until_ms(dest->site) : 0);
        set_alarm(dest, until);
        return;
    }
    page_what_is_due(dest);
    if (dest->next_due_unix)
        dest_wait_until(dest, dest->next_due_unix);
    if (dest_has_jobs(dest) && dest_is_bound(dest) && dest_may_go(dest)) {
        struct site *site = dest->site;
        turns_join(dest->strands);
        site_kick(site);
        return; /* the dest may be gone */
    }
    if (!is_needed(dest))
        dest_destroy(dest);
}
