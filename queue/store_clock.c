/*
 * The store's clock follows the wall clock.  When that is set by more than a minute, waits stay what they
 * were: a retry that was to come in ten minutes comes in ten minutes, neither at once together with all
 * others (clock set forward) nor a day late (clock set back).  Times that somebody named, X-Hayauma-Schedule,
 * stay as they are.
 *
 *     forward, from b to n   tried rows due in (b, n) move on by n - b
 *     back, from b to n      tried rows due after b move back by b - n; rows due in (n, b] were due already,
 * and are
 *
 * Rows written after the step lie outside (b, n), so nothing moves twice; a retry that waits longer than the
 * step is wide may come earlier by that much, never later.
 */
#include "base/clock.h"
#include "queue/store_priv.h"

#define STEP_S     60
#define CHUNK_ROWS 500

static void begin_pass(struct store *s, int64_t before, int64_t now)
{
    struct clock_pass *p = &s->clock_pass;

    if (p->under_way) { /* set again meanwhile: one pass over the whole way */
        before = p->before;
        if (before == now) {
            p->under_way = false;
            return;
        }
    }
    *p = (struct clock_pass){.under_way = true, .before = before, .now = now, .due = MIN_OF(before, now)};
    p->saved = p->at = (struct clock_place){0, p->due, INT64_MAX, 0, 0};
}

void store_update_now(struct store *s)
{
    int64_t wall = clock_unix(), last = s->now_unix;
    uint64_t ms = clock_now_ms();
    int64_t expected = s->wall_unix + (int64_t)((ms - s->wall_read_ms) / 1000);

    if (s->wall_read_ms && (wall > expected + STEP_S || wall < expected - STEP_S)) {
        log_warn(NULL, "store.clock", LOG_INT("was", expected), LOG_INT("is", wall));
        begin_pass(s, expected, wall);
        s->now_unix = wall;
    } else {
        s->now_unix = wall > last ? wall : last; /* slewed back by seconds: stand still */
    }
    s->wall_unix = wall;
    s->wall_read_ms = ms;
}

struct row {
    uint64_t id;
    uint32_t no;
    int64_t due;
    bool tried;
};

static int64_t moved(const struct store *s, const struct row *r)
{
    const struct clock_pass *p = &s->clock_pass;

    if (p->now < p->before && r->due <= p->before)
        return s->now_unix;
    if (!r->tried)
        return r->due;
    return MAX_OF(r->due + (p->now - p->before), s->now_unix);
}

static enum err move_row(struct store *s, const struct row *r, bool *changed)
{
    sqlite3_stmt *st = s->st[ST_RCPT_OP_DUE];
    int64_t due = moved(s, r);

    if (due == r->due)
        return OK;
    *changed = true;
    sql_bind_int(st, 1, (int64_t)r->id);
    sql_bind_int(st, 2, r->no);
    sql_bind_int(st, 3, ROW_READY);
    sql_bind_int(st, 4, due);
    return sql_run(st);
}

/* The rows of one domain and lane that the step touches, a chunk of them; *count tells how many were seen. */
static enum err move_chunk(struct store *s, size_t *count)
{
    sqlite3_stmt *st = s->st[ST_CLOCK_ROWS];
    struct clock_pass *p = &s->clock_pass;
    struct row rows[CHUNK_ROWS];
    bool row, changed = false;
    enum err e;

    *count = 0;
    sql_bind_int(st, 1, p->at.domain_id);
    sql_bind_int(st, 2, p->at.due);
    sql_bind_int(st, 3, p->at.message_id);
    sql_bind_int(st, 4, p->at.no);
    sql_bind_int(st, 5, p->now > p->before ? p->now : INT64_MAX);
    sql_bind_int(st, 6, CHUNK_ROWS);
    sql_bind_int(st, 7, p->at.lane);
    while (!(e = sql_step(st, &row)) && row)
        rows[(*count)++] =
            (struct row){(uint64_t)sqlite3_column_int64(st, 0), (uint32_t)sqlite3_column_int64(st, 1),
                         sqlite3_column_int64(st, 2), sqlite3_column_int(st, 3) > 0};
    for (size_t i = 0; !e && i < *count; i++) {
        e = move_row(s, &rows[i], &changed);
        p->at =
            (struct clock_place){p->at.domain_id, rows[i].due, (int64_t)rows[i].id, rows[i].no, p->at.lane};
    }
    if (!e && changed) {
        struct store_domain *d;
        e = store_domain_by_id(s, p->at.domain_id, &d);
        if (!e)
            store_add_wake(s, d, s->now_unix); /* the page tells the worker when to come again */
    }
    return e;
}

static enum err next_lane(struct store *s)
{
    sqlite3_stmt *st = s->st[ST_NEXT_LANE];
    struct clock_pass *p = &s->clock_pass;
    bool row;

    sql_bind_int(st, 1, p->at.domain_id);
    sql_bind_int(st, 2, p->at.lane);
    enum err e = sql_step(st, &row);
    if (e)
        return e;
    p->over = !row;
    if (row)
        p->at = (struct clock_place){sqlite3_column_int64(st, 0), p->due, INT64_MAX, 0,
                                     (uint16_t)sqlite3_column_int64(st, 1)};
    (void)sqlite3_reset(st);
    return OK;
}

void store_clock_step(struct store *s)
{
    struct clock_pass *p = &s->clock_pass;
    enum err e = OK;
    size_t seen = 0;

    if (!p->under_way)
        return;
    store_begin(s);
    if (s->failed)
        return;
    p->saved = p->at;
    while (!e && !p->over && seen < CHUNK_ROWS) {
        size_t count = 0;
        if (p->at.domain_id)
            e = move_chunk(s, &count);
        seen += count + 1;
        if (!e && count < CHUNK_ROWS)
            e = next_lane(s);
    }
    if (e)
        store_fail(s, e);
}

void store_clock_done(struct store *s, bool kept)
{
    struct clock_pass *p = &s->clock_pass;

    if (!p->under_way)
        return;
    if (!kept) {
        p->at = p->saved;
        p->over = false;
    }
    p->under_way = !p->over;
}
