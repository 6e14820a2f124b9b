/* How much waits per domain (an index gives it) and per campaign (two walks side by side). */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "queue/browse_priv.h"

#define CAMPAIGNS_MAX 200000 /* beyond that many names the rest is counted under "…" */

struct campaign {
    struct browse_group group;
    uint32_t len;
    char name[];
};

static enum err by_domain(struct browse *b, uint32_t limit, struct arena *arena, struct browse_group *list,
                          size_t *count)
{
    sqlite3_stmt *st = NULL;
    bool row;
    enum err e = sql_prepare(
        b->db, &st,
        "SELECT d.name, g.waiting, g.held, g.due, g.paused FROM (SELECT domain_id, sum(waiting) AS waiting,"
        " sum(held) AS held, min(due) AS due, sum(paused) AS paused FROM (SELECT domain_id, count(*) AS "
        "waiting,"
        " 0 AS held, min(due) AS due, 0 AS paused FROM rcpt WHERE state = 1 GROUP BY domain_id UNION ALL"
        " SELECT domain_id, sum(state NOT IN (2, 6)), sum(state IN (2, 6)), min(CASE state WHEN 0 THEN due "
        "END), sum(state = 6) FROM rcpt WHERE state <> 1 AND state <> 3 GROUP BY domain_id)"
        " GROUP BY domain_id ORDER BY sum(waiting) + sum(held) DESC LIMIT ?1) g"
        " LEFT JOIN domain d ON d.id = g.domain_id ORDER BY g.waiting + g.held DESC, d.name");

    *count = 0;
    if (e)
        return e;
    sql_bind_int(st, 1, limit);
    while (!(e = sql_step(st, &row)) && row) {
        const char *name = sql_text_dup(st, 0, arena);
        list[(*count)++] = (struct browse_group){.key = name ? name : "?",
                                                 .waiting = (uint64_t)sqlite3_column_int64(st, 1),
                                                 .held = (uint64_t)sqlite3_column_int64(st, 2),
                                                 .next_due_unix = sqlite3_column_int64(st, 3),
                                                 .paused = (uint64_t)sqlite3_column_int64(st, 4)};
    }
    sqlite3_finalize(st);
    return e;
}

struct list_of_shares {
    struct browse_share *rows; /* owned */
    size_t count, cap;
};

static struct campaign *campaign(struct map *all, struct bytes name)
{
    struct campaign *c = map_find(all, name);

    if (c)
        return c;
    if (all->count >= CAMPAIGNS_MAX) {
        name = BYTES("…");
        c = map_find(all, name);
        if (c)
            return c;
    }
    c = mem_zalloc(sizeof(*c) + name.len + 1);
    c->len = (uint32_t)name.len;
    if (name.len)
        memcpy(c->name, name.at, name.len);
    c->group.key = c->name;
    map_put(all, bytes_make(c->name, c->len), c);
    return c;
}

static void add_row(struct campaign *c, int state, int64_t due, int64_t now)
{
    c->group.later += state == ROW_READY && due > now;
    if (state == ROW_HELD || state == ROW_PAUSED)
        c->group.held++, c->group.paused += state == ROW_PAUSED;
    else if (state != ROW_DSN)
        c->group.waiting++;
    if (state <= ROW_READY && (!c->group.next_due_unix || due < c->group.next_due_unix))
        c->group.next_due_unix = due;
}

static void note_later(struct browse_share *share, sqlite3_stmt *st, struct arena *arena)
{
    uint64_t count = (uint64_t)sqlite3_column_int64(st, 3);
    int64_t due = sqlite3_column_int64(st, 4);

    share->later += count;
    if (!share->later_unix || due < share->later_unix)
        share->later_unix = due;
    if (count <= share->why_count || sqlite3_column_type(st, 6) == SQLITE_NULL)
        return;
    share->why = sql_text_dup(st, 6, arena);
    share->why_count = count;
}

/* Rows come by domain and state; those that are not due yet by the codes of the last reply, too. */
static enum err read_shares(struct browse *b, const char *campaign, struct arena *arena,
                            struct list_of_shares *all)
{
    sqlite3_stmt *st = NULL;
    bool row;
    enum err e = sql_prepare(
        b->db, &st,
        "SELECT r.domain_id, d.name, r.state, count(*), min(r.due), r.state = 1 AND r.due > ?2 AS later,"
        " min(r.last_text) FROM message m CROSS JOIN rcpt r ON r.message_id = m.id"
        " LEFT JOIN domain d ON d.id = r.domain_id WHERE m.campaign = ?1 GROUP BY r.domain_id, r.state, "
        "later,"
        " CASE WHEN r.state = 1 AND r.due > ?2 THEN substr(r.last_text, 1, 9) END");
    int64_t at = -1;

    if (!e) {
        sql_bind_text(st, 1, campaign);
        sql_bind_int(st, 2, clock_unix());
    }
    while (!e && !(e = sql_step(st, &row)) && row) {
        if (at != sqlite3_column_int64(st, 0)) {
            at = sqlite3_column_int64(st, 0);
            if (all->count == all->cap) {
                all->cap = MAX_OF(all->cap * 2, (size_t)64);
                all->rows = mem_realloc(all->rows, all->cap * sizeof(*all->rows));
            }
            const char *name = sql_text_dup(st, 1, arena);
            all->rows[all->count++] = (struct browse_share){.domain = name ? name : "?"};
        }
        struct browse_share *share = &all->rows[all->count - 1];
        enum queue_state state = browse_state(sqlite3_column_int(st, 2));
        int64_t due = sqlite3_column_int64(st, 4);
        share->by_state[state] += (uint64_t)sqlite3_column_int64(st, 3);
        if (state == QUEUE_WAITING && (!share->next_due_unix || due < share->next_due_unix))
            share->next_due_unix = due;
        if (sqlite3_column_int(st, 5))
            note_later(share, st, arena);
    }
    sqlite3_finalize(st);
    return e;
}

static int larger_share_first(const void *a, const void *b)
{
    const struct browse_share *x = a, *y = b;
    uint64_t nx = 0, ny = 0;

    for (int i = 0; i < QUEUE_STATES; i++) {
        nx += x->by_state[i];
        ny += y->by_state[i];
    }
    return nx != ny ? (nx < ny ? 1 : -1) : strcmp(x->domain, y->domain);
}

enum err browse_campaign(struct browse *b, const char *campaign, struct arena *arena,
                         struct browse_share **out, size_t *count)
{
    struct list_of_shares all = {0};
    enum err e = browse_begin(b);

    if (e)
        return e;
    e = read_shares(b, campaign, arena, &all);
    if (!e) {
        if (all.count > 1)
            qsort(all.rows, all.count, sizeof(*all.rows), larger_share_first);
        *out = arena_zalloc(arena, (all.count + 1) * sizeof(**out));
        if (all.count)
            memcpy(*out, all.rows, all.count * sizeof(**out));
        *count = all.count;
    }
    mem_free(all.rows);
    return browse_end(b, e);
}

/* Both tables in order of message id, side by side: faster than a million look-ups. */
static enum err walk_campaigns(struct browse *b, struct map *all)
{
    sqlite3_stmt *messages = NULL, *rcpts = NULL;
    struct campaign *c = NULL;
    int64_t at = -1, now = clock_unix();
    bool row, rcpt_row;
    enum err e = sql_prepare(b->db, &messages, "SELECT id, campaign FROM message ORDER BY id");

    if (!e)
        e = sql_prepare(b->db, &rcpts, "SELECT message_id, state, due FROM rcpt ORDER BY message_id, no");
    while (!e && !(e = sql_step(rcpts, &rcpt_row)) && rcpt_row) {
        int64_t id = sqlite3_column_int64(rcpts, 0);
        while (!e && at < id) {
            e = sql_step(messages, &row);
            at = e || !row ? INT64_MAX : sqlite3_column_int64(messages, 0);
            if (at != id)
                continue;
            struct bytes name = bytes_of(sql_text(messages, 1)); /* none is "" */
            name.at = name.at ? name.at : "";
            if (!c || !bytes_eq(name, bytes_make(c->name, c->len)))
                c = campaign(all, name);
        }
        if (!e && at == id)
            add_row(c, sqlite3_column_int(rcpts, 1), sqlite3_column_int64(rcpts, 2), now);
    }
    sqlite3_finalize(messages);
    sqlite3_finalize(rcpts);
    return e;
}

static int larger_first(const void *a, const void *b)
{
    const struct campaign *x = *(const struct campaign *const *)a, *y = *(const struct campaign *const *)b;
    uint64_t nx = x->group.waiting + x->group.held, ny = y->group.waiting + y->group.held;

    return nx != ny ? (nx < ny ? 1 : -1) : strcmp(x->name, y->name);
}

static enum err by_campaign(struct browse *b, uint32_t limit, struct arena *arena, struct browse_group *list,
                            size_t *count)
{
    struct map all = {0};
    enum err e = walk_campaigns(b, &all);
    struct campaign **sorted = mem_alloc((all.count + 1) * sizeof(struct campaign *));
    size_t n = 0, at = 0;

    for (struct campaign *c; (c = map_next(&all, &at));)
        sorted[n++] = c;
    qsort(sorted, n, sizeof(*sorted), larger_first);
    *count = MIN_OF(n, (size_t)limit);
    for (size_t i = 0; i < *count; i++) {
        list[i] = sorted[i]->group;
        list[i].key = arena_strdup(arena, sorted[i]->name);
    }
    for (size_t i = 0; i < n; i++)
        mem_free(sorted[i]);
    mem_free(sorted);
    map_fini(&all);
    return e;
}

enum err browse_groups(struct browse *b, enum browse_by by, uint32_t limit, struct arena *arena,
                       struct browse_group **out, size_t *count)
{
    limit = MIN_OF(limit, (uint32_t)BROWSE_LIMIT_MAX);
    struct browse_group *list = arena_zalloc(arena, (limit ? limit : 1) * sizeof(*list));
    size_t n = 0;
    enum err e = browse_begin(b);

    if (e)
        return e;
    e = by == BROWSE_GROUP_DOMAIN ? by_domain(b, limit, arena, list, &n)
                                  : by_campaign(b, limit, arena, list, &n);
    if (!e) {
        *out = list;
        *count = n;
    }
    return browse_end(b, e);
}

/* ---- what was accepted ---- */

#define OF_CAMPAIGN " AND (?2 IS NULL OR coalesce(m.campaign, '') = ?2)"

static enum err read_since(struct browse *b, int64_t *since_day)
{
    sqlite3_stmt *st = NULL;
    bool row;
    enum err e = sql_prepare(b->db, &st, "SELECT value FROM meta WHERE key = 'tally_since'");

    if (!e)
        e = sql_step(st, &row);
    if (!e && row)
        *since_day = MAX_OF(*since_day, sqlite3_column_int64(st, 0));
    sqlite3_finalize(st);
    return e;
}

/* Nothing of the queue is older, and no campaign is asked for: the kept sums tell what waits.  Ids follow the
 * clock, which may have been set back: all messages are looked at. */
static enum err waiting_in_all(struct browse *b, int64_t since_unix, bool *known, uint64_t *waiting)
{
    sqlite3_stmt *st = NULL;
    bool row;
    enum err e = sql_prepare(b->db, &st,
                             "SELECT fresh + ready + held + bounce + cancel + paused,"
                             " EXISTS(SELECT 1 FROM message WHERE accepted < ?1) FROM counter WHERE id = 1");

    if (e)
        return e;
    sql_bind_int(st, 1, since_unix);
    e = sql_step(st, &row);
    if (!e && row) {
        *waiting = (uint64_t)sqlite3_column_int64(st, 0);
        *known = !sqlite3_column_int(st, 1);
    }
    sqlite3_finalize(st);
    return e;
}

struct tally_walk {
    struct arena *arena;
    struct map rows; /* struct browse_tally_row by campaign, in the arena */
    bool by_campaign;
    struct browse_tally *out;
};

static struct browse_tally_row *tally_row(struct tally_walk *w, const char *campaign)
{
    struct browse_tally_row *row = map_find(&w->rows, bytes_of(campaign));

    if (row)
        return row;
    row = ARENA_NEW(w->arena, struct browse_tally_row);
    row->campaign = arena_strdup(w->arena, campaign);
    map_put(&w->rows, bytes_of(row->campaign), row);
    return row;
}

static enum err walk_tally(struct browse *b, struct tally_walk *w, const char *campaign)
{
    sqlite3_stmt *st = NULL;
    bool row;
    enum err e = sql_prepare(b->db, &st,
                             "SELECT campaign, sum(messages), sum(rcpts) FROM tally WHERE day >= ?1"
                             " AND (?2 IS NULL OR campaign = ?2) GROUP BY campaign");

    if (e)
        return e;
    sql_bind_int(st, 1, w->out->since_day);
    sql_bind_text(st, 2, campaign);
    while (!(e = sql_step(st, &row)) && row) {
        struct browse_tally_row one = {.messages = (uint64_t)sqlite3_column_int64(st, 1),
                                       .rcpts = (uint64_t)sqlite3_column_int64(st, 2)};
        w->out->total.messages += one.messages;
        w->out->total.rcpts += one.rcpts;
        if (!w->by_campaign)
            continue;
        struct browse_tally_row *r = tally_row(w, sql_text(st, 0));
        r->messages = one.messages;
        r->rcpts = one.rcpts;
    }
    sqlite3_finalize(st);
    return e;
}

static enum err walk_waiting(struct browse *b, struct tally_walk *w, const char *campaign)
{
    sqlite3_stmt *st = NULL;
    bool row;
    enum err e = sql_prepare(
        b->db, &st,
        w->by_campaign ? "SELECT count(*), coalesce(m.campaign, '') FROM message m CROSS JOIN rcpt r"
                         " ON r.message_id = m.id WHERE r.state <> 3 AND m.accepted >= ?1" OF_CAMPAIGN
                         " GROUP BY m.campaign"
                       : "SELECT count(*) FROM message m CROSS JOIN rcpt r ON r.message_id = m.id"
                         " WHERE r.state <> 3 AND m.accepted >= ?1" OF_CAMPAIGN);

    if (e)
        return e;
    sql_bind_int(st, 1, w->out->since_day * 86400);
    sql_bind_text(st, 2, campaign);
    while (!(e = sql_step(st, &row)) && row) {
        uint64_t n = (uint64_t)sqlite3_column_int64(st, 0);
        w->out->total.waiting += n;
        if (w->by_campaign)
            tally_row(w, sql_text(st, 1))->waiting += n; /* NULL and "" are one campaign */
    }
    sqlite3_finalize(st);
    return e;
}

static int by_name(const void *a, const void *b)
{
    const struct browse_tally_row *x = a, *y = b;

    return strcmp(x->campaign, y->campaign);
}

static void take_tally_rows(struct tally_walk *w)
{
    struct browse_tally *out = w->out;
    const struct browse_tally_row *row;

    out->rows = arena_zalloc(w->arena, (w->rows.count + 1) * sizeof(*out->rows));
    for (size_t at = 0; (row = map_next(&w->rows, &at));)
        out->rows[out->count++] = *row;
    if (out->count)
        qsort(out->rows, out->count, sizeof(*out->rows), by_name);
}

enum err browse_tally(struct browse *b, int64_t since_day, const char *campaign, bool by_campaign,
                      struct arena *arena, struct browse_tally *out)
{
    struct browse_tally result = {.since_day = since_day, .total.campaign = "total"};
    struct tally_walk w = {.arena = arena, .by_campaign = by_campaign, .out = &result};
    bool known = false;
    enum err e = browse_begin(b);

    if (e)
        return e;
    e = read_since(b, &result.since_day);
    if (!e)
        e = walk_tally(b, &w, campaign);
    if (!e && !campaign && !by_campaign)
        e = waiting_in_all(b, result.since_day * 86400, &known, &result.total.waiting);
    if (!e && !known) {
        result.total.waiting = 0;
        e = walk_waiting(b, &w, campaign);
    }
    take_tally_rows(&w);
    map_fini(&w.rows);
    if (!e)
        *out = result;
    return browse_end(b, e);
}
