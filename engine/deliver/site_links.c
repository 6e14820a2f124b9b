/* When a site opens a connection, and when it has enough. */
#include "engine/deliver/deliver_priv.h"
#include "engine/shaping.h"

#define JOBS_PER_OPENING 4    /* a link that is being opened counts as capacity for that many jobs */
#define OPENING_MS       1000 /* how long a link that is being opened is waited for under a rate */
#define WALKERS_MAX      2    /* links that wait for connection_rate, or look for room: each holds a permit */

static bool take_permits(struct site *s, uint16_t lane)
{
    if (s->waits_for_permit) {
        if (lane_goes_before(lane, s->waits_lane)) {
            permit_urge(s->global, &s->global_waiter, lane);
            permit_urge(s->pool, &s->waiter, lane);
            s->waits_lane = lane;
        }
        return false;
    }
    s->waits_lane = lane;
    if (permit_take(s->global, &s->global_waiter, lane)) {
        if (permit_take(s->pool, &s->waiter, lane))
            return true;
        permit_give(s->global);
        shape_met(s, "connections", 0);
    } else {
        shape_met(s, "delivery.connections", 0);
    }
    s->waits_for_permit = true;
    deliver_reclaim_all(s->d->w->shared);
    return false;
}

/* A session alone says little: there are hosts that greet everybody and turn each MAIL away. */
static bool has_unheard_link(const struct site *s, enum job_class class)
{
    LIST_FOREACH (node, &s->links) {
        const struct link *link = LIST_ENTRY(node, struct link, node);
        if (link->class == class && link->ready && !smtp_client_in_session(link->client) &&
            !smtp_client_is_idle(link->client))
            return true;
    }
    return false;
}

static bool wants_link(const struct site *s, enum job_class class)
{
    if (class == CLASS_REQUIRETLS && !s->security.sts_asked)
        return false; /* its destinations are being bound anew */
    if (s->rest.failures && (s->opening[class] || has_unheard_link(s, class)))
        return false; /* nobody answered last time: one asks for all */
    return s->queued_jobs[class] > s->opening[class] * JOBS_PER_OPENING;
}

/*
 * Under a rate a link that is being opened takes the turn that there is: those that were opened beside it
 * for what waits would only idle, or be closed at once for other sites.  One that hangs holds up others for a
 * while only.
 */
static bool has_enough_links(struct site *s, enum job_class class, uint64_t size_bytes)
{
    uint64_t until_ms = s->opened_ms + OPENING_MS;

    if (!(s->is_paced || s->is_source_paced) || !s->opening[class] || until_ms <= worker_now_ms(s->d->w) ||
        s->opening[class] < shape_openings(s, size_bytes))
        return false;
    site_set_alarm(s, until_ms);
    return true;
}

bool site_open_links(struct site *s, enum job_class class)
{
    while (s->turns.ready && wants_link(s, class)) {
        struct strand *strand = turns_next(&s->turns, strand_has_class, &class);
        if (!strand)
            return true;
        const struct job *job = strand_first(strand, class);
        if (s->open_after_ms > worker_now_ms(s->d->w) ||
            !shape_may_send(s, strand->lane, job->message->body->size_bytes) || !source_may_open(s) ||
            quiet_holds_back(s))
            return false; /* a limit binds, not the links */
        if (has_enough_links(s, class, job->message->body->size_bytes))
            return true;
        if (s->walkers >= WALKERS_MAX && (s->group->limits.connection_rate.count > 0 || shape_is_crowded(s)))
            return false; /* they come back when they have connected */
        if (!replies_may_open(s))
            return false;
        if (!take_permits(s, strand->lane)) {
            shaped_give_connection(s->shaped);
            return false;
        }
        s->opened_ms = worker_now_ms(s->d->w);
        link_open(s, class, strand->lane, strand->all->dest->domain, job);
    }
    return true;
}
