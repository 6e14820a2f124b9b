/*
 * Quiet hours at work (policy/quiet.h): a site whose group has them rests while they last, and what waits for
 * it is on disk.  Wall time decides, and may be set: it is looked at anew every LOOK_MS.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "engine/deliver/deliver_priv.h"
#include "engine/zones.h"

#define LOOK_MS 30000
#define STEP_MS 100 /* at least, between connections after the end */

struct site_quiet {
    const struct timezone
        *zone; /* borrowed; NULL: it cannot be read, and then it is quiet: better late than at night */
    bool now;
    uint64_t until_ms; /* now: the end */
    uint64_t look_ms;  /* what is above is true until then */
    uint64_t ended_ms; /* not now: when the spread began; 0: long ago */
};

void quiet_init(struct site *s)
{
    if (s->group->quiet.on)
        s->quiet = MEM_NEW(struct site_quiet);
}

void quiet_fini(struct site *s)
{
    mem_free(s->quiet);
}

static void look(const struct site *s, uint64_t now_ms)
{
    const struct quiet_hours *hours = &s->group->quiet;
    struct site_quiet *q = s->quiet;
    int64_t unix_ms = clock_unix_ms(), spread_ms = (int64_t)hours->spread_s * 1000;

    if (!q->zone)
        q->zone = zones_find(s->d->w->shared->zones, hours->time_zone);
    *q = (struct site_quiet){
        .zone = q->zone, .now = true, .until_ms = now_ms + LOOK_MS, .look_ms = now_ms + LOOK_MS};
    if (!q->zone) {
        log_error(&s->d->w->log, "site.time_zone", LOG_STR("group", s->group->name),
                  LOG_STR("time_zone", hours->time_zone));
        return;
    }
    struct quiet_now found = quiet_look(hours, q->zone, unix_ms / 1000);
    uint64_t changes_ms = now_ms + (uint64_t)MAX_OF(found.changes_unix * 1000 - unix_ms, INT64_C(1));
    int64_t since_ms = unix_ms - found.last_ended_unix * 1000;
    q->now = found.quiet;
    q->until_ms = changes_ms;
    q->look_ms = MIN_OF(changes_ms, now_ms + LOOK_MS);
    if (!found.quiet && since_ms < spread_ms && (uint64_t)since_ms < now_ms)
        q->ended_ms = now_ms - (uint64_t)since_ms;
}

uint64_t quiet_until_ms(const struct site *s)
{
    uint64_t now_ms;

    if (!s->quiet)
        return 0;
    now_ms = worker_now_ms(s->d->w);
    if (now_ms >= s->quiet->look_ms)
        look(s, now_ms);
    return s->quiet->now ? s->quiet->until_ms : 0;
}

void quiet_rest(struct site *s)
{
    if (quiet_until_ms(s))
        site_set_alarm(s, site_queued(s) ? worker_now_ms(s->d->w) : s->quiet->look_ms);
}

void quiet_on_alarm(struct site *s)
{
    if (!quiet_until_ms(s))
        return;
    LIST_FOREACH_SAFE (node, &s->dests) { /* it can be long until the end: nothing waits in memory */
        struct dest *dest = LIST_ENTRY(node, struct dest, site_node);
        if (dest_has_jobs(dest)) {
            dest_return_jobs(dest);
            dest_kick_soon(dest);
        }
    }
    site_set_alarm(s, s->quiet->look_ms);
}

bool quiet_holds_back(struct site *s)
{
    uint64_t now_ms = worker_now_ms(s->d->w), spread_ms;
    uint32_t limit = s->group->limits.connections;

    if (!s->quiet || !s->quiet->ended_ms)
        return false;
    spread_ms = (uint64_t)s->group->quiet.spread_s * 1000;
    if (now_ms - s->quiet->ended_ms >= spread_ms) {
        s->quiet->ended_ms = 0;
        return false;
    }
    uint64_t allowed = 1 + (limit - 1) * (now_ms - s->quiet->ended_ms) / spread_ms;
    if (permit_in_use(s->pool) < allowed)
        return false;
    uint64_t again_ms = now_ms + MAX_OF(spread_ms / limit, (uint64_t)STEP_MS);
    shape_met(s, "quiet_hours.spread", again_ms);
    site_set_alarm(s, again_ms);
    return true;
}

/* ---- recipients ---- */

/* The zone, by the name: the site need not be known. */
static const struct timezone *zone_of(const struct dest *dest, const struct group *group)
{
    return group->quiet.on ? zones_find(dest->d->w->shared->zones, group->quiet.time_zone) : NULL;
}

int64_t quiet_age_off_s(const struct dest *dest, const struct group *group, int64_t accepted_unix)
{
    const struct timezone *tz = zone_of(dest, group);

    return tz ? quiet_seconds(&group->quiet, tz, accepted_unix, clock_unix()) : 0;
}

int64_t quiet_due(const struct dest *dest, const struct group *group, int64_t due_unix)
{
    const struct timezone *tz = zone_of(dest, group);

    if (!tz)
        return due_unix;
    struct quiet_now then = quiet_look(&group->quiet, tz, due_unix);
    if (!then.quiet)
        return due_unix;
    return then.changes_unix + (int64_t)((uint64_t)worker_random() * group->quiet.spread_s >> 32);
}
