/* How much waits per domain (an index gives it) and per campaign (two walks side by side). */
#include <stdlib.h>
#include <string.h>

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
        "SELECT d.name, g.waiting, g.held, g.due FROM (SELECT domain_id, sum(waiting) AS waiting, sum(held) "
        "AS held,"
        " min(due) AS due FROM (SELECT domain_id, count(*) AS waiting, 0 AS held, min(due) AS due FROM rcpt"
        " WHERE state = 1 GROUP BY domain_id UNION ALL SELECT domain_id, sum(state <> 2), sum(state = 2),"
        " min(CASE state WHEN 0 THEN due END) FROM rcpt WHERE state <> 1 AND state <> 3 GROUP BY domain_id)"
        " GROUP BY domain_id ORDER BY sum(waiting) + sum(held) DESC LIMIT ?1) g"
        " LEFT JOIN domain d ON d.id = g.domain_id ORDER BY g.waiting + g.held DESC, d.name");

    *count = 0;
    if (e)
        return e;
    sql_bind_int(st, 1, limit);
    while (!(e = sql_step(st, &row)) && row) {
        const char *name = sql_text_dup(st, 0, arena);
        list[(*count)++] =
            (struct browse_group){name ? name : "?", (uint64_t)sqlite3_column_int64(st, 1),
                                  (uint64_t)sqlite3_column_int64(st, 2), sqlite3_column_int64(st, 3)};
    }
    sqlite3_finalize(st);
    return e;
}

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

static void add_row(struct campaign *c, int state, int64_t due)
{
    if (state == ROW_HELD)
        c->group.held++;
    else if (state != ROW_DSN)
        c->group.waiting++;
    if (state <= ROW_READY && (!c->group.next_due_unix || due < c->group.next_due_unix))
        c->group.next_due_unix = due;
}

/* Both tables in order of message id, side by side: faster than a million look-ups. */
static enum err walk_campaigns(struct browse *b, struct map *all)
{
    sqlite3_stmt *messages = NULL, *rcpts = NULL;
    struct campaign *c = NULL;
    int64_t at = -1;
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
            add_row(c, sqlite3_column_int(rcpts, 1), sqlite3_column_int64(rcpts, 2));
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
