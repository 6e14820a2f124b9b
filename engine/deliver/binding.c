/* What keeps the mail of a destination from going faster just now. */
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/deliver/deliver_priv.h"
#include "engine/shaping.h"

#define MET_LATELY_MS                                                                                        \
    2000 /* a limit that was met so lately still binds, though a message may go this instant */
#define PERIOD_IS_NEAR_MS 60000 /* shorter ones make a rate */

static int64_t unix_of(uint64_t at_ms, uint64_t now_ms)
{
    return clock_unix() + (int64_t)((at_ms - now_ms + 999) / 1000);
}

static bool put_rest(const struct suspension *s, uint64_t now_ms, struct arena *arena, struct binding *out)
{
    if (s->until_ms <= now_ms)
        return false;
    *out =
        (struct binding){"suspended", unix_of(s->until_ms, now_ms), arena_strdup(arena, s->why->text), false};
    return true;
}

static bool limit_binds(const struct site *s, uint64_t now_ms)
{
    if (!s->bound_by)
        return false;
    return s->bound_until_ms ? s->bound_until_ms > now_ms || now_ms - s->bound_met_ms < MET_LATELY_MS
                             : s->waits_for_permit;
}

/*
 * Limits let mail go bit by bit, whatever the wait for the next; but what a warm-up let go in this period
 * says nothing about the time until the next one.
 */
static bool goes_on(const struct site *s, uint64_t now_ms)
{
    return strcmp(s->bound_by, "warmup") != 0 || s->bound_until_ms <= now_ms + PERIOD_IS_NEAR_MS;
}

static void bind_site(struct site *s, uint64_t now_ms, struct binding *out)
{
    uint64_t imposed_ms = shaped_suspended_until_ms(s->shaped), quiet_ms = quiet_until_ms(s);

    if (quiet_ms > now_ms)
        *out = (struct binding){"quiet_hours", unix_of(quiet_ms, now_ms), NULL, false};
    else if (imposed_ms > now_ms)
        *out = (struct binding){"suspended", unix_of(imposed_ms, now_ms),
                                "by a rule about replies, or by hand", false};
    else if (limit_binds(s, now_ms)) /* a wait of seconds is no date */
        *out = (struct binding){
            s->bound_by, s->bound_until_ms > now_ms + MET_LATELY_MS ? unix_of(s->bound_until_ms, now_ms) : 0,
            NULL, goes_on(s, now_ms)};
    else if (shaped_is_slow(s->shaped, now_ms))
        *out = (struct binding){"slowed", 0, "the receiver asked for it: hayauma shaping", true};
}

void deliver_binding(struct deliver *d, const char *domain, struct arena *arena, struct binding *out)
{
    const struct dest *dest = map_find(&d->dests, bytes_of(domain));
    uint64_t now_ms = worker_now_ms(d->w);

    *out = (struct binding){.moves = true};
    if (d->draining) {
        *out = (struct binding){"draining", 0, NULL, false};
    } else if (d->stalled) {
        *out = (struct binding){"disk", 0, "records of attempts cannot be written", false};
    } else if (dest && !put_rest(&dest->rest, now_ms, arena, out) && dest->site &&
               !put_rest(&dest->site->rest, now_ms, arena, out)) {
        bind_site(dest->site, now_ms, out);
    }
}
