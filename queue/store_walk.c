/*
 * At start: which domains have mail on disk, in the order of their rows.  Each that has some due is a
 * destination at its worker until that has gone, so they come by and by, and memory is needed for those that
 * are at work:
 *
 *     room ─ WALK_FIRST ─▶ domains with due mail, one less each ─▶ 0: the walk waits
 *       ▲                                                          │
 *       └── a worker wants more (store_want_domains): WALK_STEP ◀──┤
 *       └── a second has passed: WALK_EACH_S, and more with time ◀─┘
 *
 * The second way is for workers whose destinations are slow: the walk ends all the same.  Domains with
 * nothing due only say when something will be, and need no room.  Mail of high priority does not wait: a walk
 * of its own goes before, past all domains, and wakes those that have such mail due.
 */
#include "queue/store_priv.h"

#include "base/clock.h"

#define WALK_TURN   500 /* rows looked at in one transaction */
#define WALK_FIRST  2000
#define WALK_STEP   500
#define WALK_EACH_S 250
#define WALK_FASTER 10 /* so many more a second, each second: 100,000 in two minutes */
#define HIGH_FROM   (PRIORITY_HIGH << LANE_FLOW_BITS)
#define HIGH_TO     ((PRIORITY_HIGH + 1) << LANE_FLOW_BITS)

bool store_has_more_domains(const struct store *s)
{
    return atomic_load_explicit(&s->walking, memory_order_relaxed);
}

void store_want_domains(struct store *s)
{
    if (!atomic_exchange(&s->walk_wanted, true))
        doorbell_ring(&s->bell);
}

void store_walk_start(struct store *s)
{
    s->walk.room = WALK_FIRST;
    atomic_store(&s->walking, true);
}

void store_walk_begin(struct store *s)
{
    if (atomic_exchange(&s->walk_wanted, false))
        s->walk.room = MAX_OF(s->walk.room, (uint32_t)WALK_STEP);
    s->walk_saved = s->walk;
}

void store_walk_taken_back(struct store *s)
{
    s->walk = s->walk_saved;
    atomic_store(&s->walking, true);
}

void store_walk_beat(struct store *s)
{
    if (s->walk.done || !atomic_load(&s->started))
        return;
    s->walk.room = MAX_OF(s->walk.room, (uint32_t)WALK_EACH_S + WALK_FASTER * s->walk.seconds);
    s->walk.seconds++;
}

bool store_walk_can_go(const struct store *s)
{
    return !s->walk.highs_done || (!s->walk.done && (s->walk.room || atomic_load(&s->walk_wanted)));
}

bool store_walk_will_find(const struct store *s, int64_t domain_id, uint16_t lane)
{
    const struct start_walk *w = &s->walk;

    if (w->done || lane_priority(lane) == PRIORITY_HIGH)
        return false;
    return domain_id > w->domain_id || (domain_id == w->domain_id && lane >= w->lane);
}

/* The first row at or after this lane; false: none. */
static bool seek(struct store *s, int64_t domain_id, int64_t lane, struct walk_place *out, enum err *e)
{
    sqlite3_stmt *st = s->st[ST_NEXT_LANE];
    bool row;

    sql_bind_int(st, 1, domain_id);
    sql_bind_int(st, 2, lane - 1);
    *e = sql_step(st, &row);
    if (*e || !row)
        return false;
    *out = (struct walk_place){sqlite3_column_int64(st, 0), sqlite3_column_int64(st, 1),
                               sqlite3_column_int64(st, 2)};
    (void)sqlite3_reset(st);
    return true;
}

static enum err wake(struct store *s, const struct walk_place *at)
{
    struct store_domain *d;
    enum err e = store_domain_by_id(s, at->domain_id, &d);

    if (!e)
        store_add_wake(s, d, at->due);
    return e;
}

/* Two seeks a domain at most, where nothing of high priority waits. */
static enum err step_highs(struct store *s)
{
    struct walk_place at;
    enum err e = OK;

    for (int i = 0; i < WALK_TURN && !e; i++) {
        if (!seek(s, s->walk.high_domain_id, s->walk.high_lane, &at, &e)) {
            s->walk.highs_done = !e;
            return e;
        }
        s->walk.high_domain_id = at.domain_id;
        s->walk.high_lane = HIGH_FROM;
        if (at.lane < HIGH_FROM)
            continue;
        bool high = at.lane < HIGH_TO, due = at.due <= s->now_unix;
        if (high && due)
            e = wake(s, &at);
        if (high && !due)
            s->walk.high_lane = at.lane + 1;
        else
            s->walk.high_domain_id++;
    }
    return e;
}

/* From one domain and lane with mail to the next, however long the queue is. */
static enum err step_all(struct store *s)
{
    struct walk_place at;
    enum err e = OK;

    for (int i = 0; i < WALK_TURN && s->walk.room && !e; i++) {
        if (!seek(s, s->walk.domain_id, s->walk.lane, &at, &e)) {
            s->walk.done = !e;
            return e;
        }
        bool due = at.due <= s->now_unix;
        e = wake(s, &at);
        s->walk.domain_id = due ? at.domain_id + 1 : at.domain_id;
        s->walk.lane = due ? 0 : at.lane + 1;
        s->walk.room -= due;
    }
    return e;
}

void store_walk_step(struct store *s)
{
    enum err e = OK;

    if (!s->walk.highs_done)
        e = step_highs(s);
    if (!e && !s->walk.done)
        e = step_all(s);
    atomic_store(&s->walking, !s->walk.done);
    if (e)
        store_fail(s, e);
}
