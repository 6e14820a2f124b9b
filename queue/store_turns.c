/*
 * Whose rows a page gets.  The lanes of a domain (queue/lane.h) are found by seeking from one to the next in
 * rcpt_ready; then each in turn gives as many rows as any other, the priorities one after the other with a
 * share for those below:
 *
 *     lanes:   H1 | A (a million)  B (ten) | L      page of 500
 *     high     all but an eighth of 500, and has one
 *     normal   all but an eighth of 499: A 218, B 218; B gave ten, so A gives the rest of 437
 *     low      what is left; and what nobody wanted goes round once more
 *
 * A domain has at most LANES of them, so a page costs at most that many seeks, however long its queue is.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "queue/store_priv.h"

#define SHARE_BELOW   8  /* of so many rows one is for the priorities below */
#define LANES_TO_SCAN 64 /* with more of them a full page does not look for the next due time */

struct turn { /* one lane's */
    uint16_t lane;
    bool over; /* nothing more is due and free */
    int64_t head_due;
    int64_t due, id, no; /* rows behind this one are still to be seen */
    uint32_t taken;
};

struct turns {
    struct turn *all; /* owned; ascending lanes */
    size_t count, cap;
    size_t begins[PRIORITIES], ends[PRIORITIES];
};

static void add(struct turns *t, uint16_t lane, int64_t head_due, int64_t now)
{
    enum priority p = lane_priority(lane);

    if (t->count == t->cap) {
        t->cap = MAX_OF(t->cap * 2, (size_t)16);
        t->all = mem_realloc(t->all, t->cap * sizeof(*t->all));
    }
    if (t->ends[p] == t->begins[p])
        t->begins[p] = t->count;
    t->all[t->count++] =
        (struct turn){.lane = lane, .over = head_due > now, .head_due = head_due, .due = INT64_MIN};
    t->ends[p] = t->count;
}

static enum err find_lanes(struct store *s, const struct store_domain *d, const struct store_page *p,
                           struct turns *t)
{
    sqlite3_stmt *st = s->st[ST_LANE_AFTER];
    int64_t lane = p->only_lane ? (int64_t)p->lane - 1 : -1;
    enum err e;
    bool row;

    do {
        sql_bind_int(st, 1, d->id);
        sql_bind_int(st, 2, lane);
        e = sql_step(st, &row);
        if (e || !row)
            return e;
        lane = sqlite3_column_int64(st, 0);
        int64_t due = sqlite3_column_int64(st, 1);
        (void)sqlite3_reset(st);
        if (lane < 0 || lane >= LANES)
            return ERR_CORRUPT;
        if (!p->only_lane || lane == p->lane)
            add(t, (uint16_t)lane, due, s->now_unix);
    } while (!p->only_lane);
    return OK;
}

static sqlite3_stmt *bind_rows(struct store *s, const struct store_domain *d, const struct turn *t,
                               int64_t until)
{
    sqlite3_stmt *st = s->st[ST_LANE_ROWS];

    sql_bind_int(st, 1, d->id);
    sql_bind_int(st, 2, t->lane);
    sql_bind_int(st, 3, t->due);
    sql_bind_int(st, 4, t->id);
    sql_bind_int(st, 5, t->no);
    sql_bind_int(st, 6, until);
    return st;
}

/* Up to `most` rows of this lane that are due and free, appended to `out`; none: it is over. */
static enum err take(struct store *s, const struct store_domain *d, struct turn *t, uint32_t most,
                     struct page_rows *out)
{
    sqlite3_stmt *st = bind_rows(s, d, t, s->now_unix);
    bool row;

    while (most) {
        enum err e = sql_step(st, &row);
        if (e)
            return e;
        if (!row) {
            t->over = true;
            return OK;
        }
        t->due = sqlite3_column_int64(st, 0);
        t->id = sqlite3_column_int64(st, 1);
        t->no = sqlite3_column_int64(st, 2);
        if (leases_has(&s->leases, (uint64_t)t->id, (uint32_t)t->no))
            continue;
        out->rows[out->count] = (struct page_row){(uint64_t)t->id, (uint32_t)t->no, out->count, t->lane};
        out->count++;
        t->taken++;
        most--;
    }
    (void)sqlite3_reset(st);
    return OK;
}

/* Is there one more behind what was seen?  It is not taken. */
static enum err peek(struct store *s, const struct store_domain *d, struct turn *t)
{
    struct page_row one;
    struct page_rows room = {.rows = &one};
    struct turn copy = *t;
    enum err e = t->over ? OK : take(s, d, &copy, 1, &room);

    t->over = t->over || copy.over;
    return e;
}

/* Goes round among the lanes [from, to) until `want` rows are there or nobody has any; begins with a lane by
 * chance. */
static enum err go_round(struct store *s, struct store_domain *d, struct turns *t, enum priority p,
                         uint32_t want, struct page_rows *out)
{
    size_t count = t->ends[p] - t->begins[p], live = 0, start = count ? s->turn % count : 0;
    struct turn *lanes = t->all + t->begins[p];
    enum err e = OK;

    for (size_t i = 0; i < count; i++)
        live += !lanes[i].over;
    while (!e && want && live) {
        uint32_t share = (uint32_t)MAX_OF(want / live, (size_t)1);
        for (size_t i = 0; !e && i < count && want; i++) {
            struct turn *one = &lanes[(start + i) % count];
            uint32_t before = out->count;
            if (one->over)
                continue;
            e = take(s, d, one, MIN_OF(share, want), out);
            want -= out->count - before;
            live -= one->over;
        }
    }
    return e;
}

static bool has_any(const struct turns *t, enum priority p)
{
    for (size_t i = t->begins[p]; i < t->ends[p]; i++)
        if (!t->all[i].over)
            return true;
    return false;
}

static enum err fill(struct store *s, struct store_domain *d, struct turns *t, uint32_t limit,
                     struct page_rows *out)
{
    enum priority order[PRIORITIES];
    enum err e = OK;

    priority_order(1, order);
    for (int i = 0; !e && i < PRIORITIES; i++) {
        uint32_t left = limit - out->count, below = 0;
        for (int k = i + 1; k < PRIORITIES && !below; k++)
            below = has_any(t, order[k]) ? left / SHARE_BELOW : 0;
        e = go_round(s, d, t, order[i], left - below, out);
    }
    for (int i = 0; !e && i < PRIORITIES && out->count < limit; i++)
        e = go_round(s, d, t, order[i], limit - out->count, out);
    return e;
}

static int by_lane(const void *a, const void *b)
{
    const struct page_row *x = a, *y = b;

    if (x->lane != y->lane)
        return x->lane < y->lane ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* Rounds brought the lanes in pieces. */
static void put_lanes_together(struct page_rows *out)
{
    for (uint32_t i = 1; i < out->count; i++) {
        if (out->rows[i].lane < out->rows[i - 1].lane) {
            qsort(out->rows, out->count, sizeof(*out->rows), by_lane);
            return;
        }
    }
}

static enum err note_what_is_left(struct store *s, const struct store_domain *d, struct turns *t,
                                  struct page_rows *out)
{
    enum err e = OK;

    out->left = t->count ? mem_alloc(t->count * sizeof(*out->left)) : NULL;
    for (size_t i = 0; !e && i < t->count; i++) {
        struct turn *one = &t->all[i];
        if (one->taken || !out->more)
            e = peek(s, d, one);
        if (e || one->over)
            continue;
        out->more = true;
        if (one->taken)
            out->left[out->left_count++] = one->lane;
    }
    return e;
}

/* The earliest of all lanes that is not due yet.  One that is due stands behind nothing: its head tells the
 * lane's. */
static enum err find_next_due(struct store *s, const struct store_domain *d, const struct turns *t,
                              int64_t *next)
{
    int64_t found = INT64_MAX;
    enum err e = OK;

    for (size_t i = 0; !e && i < t->count; i++) {
        struct turn later = t->all[i];
        bool row = later.head_due > s->now_unix;
        int64_t due = later.head_due;
        if (!row) {
            later.due = s->now_unix;
            later.id = INT64_MAX;
            sqlite3_stmt *st = bind_rows(s, d, &later, INT64_MAX);
            e = sql_step(st, &row);
            due = !e && row ? sqlite3_column_int64(st, 0) : 0;
            (void)sqlite3_reset(st);
        }
        if (!e && row && due < found)
            found = due;
    }
    *next = found == INT64_MAX ? 0 : found;
    return e;
}

enum err store_find_page(struct store *s, struct store_domain *d, const struct store_page *p,
                         struct page_rows *out)
{
    struct turns t = {0};
    enum err e = find_lanes(s, d, p, &t);

    if (!e)
        e = fill(s, d, &t, p->limit, out);
    if (!e)
        e = note_what_is_left(s, d, &t, out);
    if (!e && !p->only_lane && (!out->more || t.count <= LANES_TO_SCAN))
        e = find_next_due(s, d, &t, &out->next_due_unix);
    put_lanes_together(out);
    mem_free(t.all);
    return e;
}
