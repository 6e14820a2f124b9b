/* What is kept: one table of values by kind and key.  Rides on the list of policy versions and accounts. */
#include "queue/keep.h"

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "queue/store_priv.h"

#define PRUNE_ROWS     500 /* looked at in one step, once a second */
#define PRUNE_EVERY_MS (3600 * 1000)

static enum err get(struct store *s, struct store_keep *k);

/* Needs no commit, unless something that was posted before may change it. */
static void take_get(struct note *note, void *store)
{
    struct store *s = store;
    struct store_keep *k = CONTAINER_OF(note, struct store_keep, req.note);

    if (s->in_txn || !list_is_empty(&s->admins)) {
        store_take_admin(note, store);
        return;
    }
    enum err e = get(s, k);
    store_reply(&k->req, e ? e : k->req.result);
}

void store_post_keep_put(struct store *s, struct store_keep *k)
{
    store_post_admin(s, &k->req, REQ_KEEP_PUT);
}

void store_post_keep_get(struct store *s, struct store_keep *k)
{
    k->req.type = REQ_KEEP_GET;
    k->req.result = OK;
    k->req.note.run = take_get;
    inbox_post(&s->inbox, &k->req.note);
}

void store_keep_destroy(struct store_keep *k)
{
    if (!k)
        return;
    mem_free(k->kind);
    mem_free(k->key);
    buf_fini(&k->value);
    mem_free(k);
}

struct store_keep *store_keep_make(const char *kind, const char *key, struct bytes value)
{
    struct store_keep *k = MEM_NEW(struct store_keep);

    k->kind = mem_strdup(kind);
    k->key = mem_strdup(key);
    buf_put(&k->value, value);
    return k;
}

void store_keep_set(struct store *s, const char *kind, const char *key, struct bytes value)
{
    store_post_keep_put(s, store_keep_make(kind, key, value));
}

void store_keep_drop(struct store *s, const char *kind, const char *key)
{
    struct store_keep *k = store_keep_make(kind, key, (struct bytes){0});

    k->remove = true;
    store_post_keep_put(s, k);
}

static enum err put(struct store *s, struct store_keep *k)
{
    sqlite3_stmt *st = s->st[k->remove ? ST_KEEP_DROP : ST_KEEP_PUT];

    if (k->value.len > KEEP_VALUE_MAX) {
        k->req.result = ERR_INVALID;
        return OK;
    }
    sql_bind_text(st, 1, k->kind);
    sql_bind_text(st, 2, k->key);
    if (!k->remove) {
        sql_bind_int(st, 3, s->now_unix);
        sql_bind_blob(st, 4, k->value.len ? k->value.at : "", k->value.len);
    }
    k->at_unix = s->now_unix;
    return sql_run(st);
}

static enum err get(struct store *s, struct store_keep *k)
{
    sqlite3_stmt *st = s->st[ST_KEEP_GET];
    bool row;

    sql_bind_text(st, 1, k->kind);
    sql_bind_text(st, 2, k->key);
    enum err e = sql_step(st, &row);
    if (e)
        return e;
    buf_clear(&k->value);
    if (!row) {
        k->req.result = ERR_NOT_FOUND;
        return OK;
    }
    k->at_unix = sqlite3_column_int64(st, 0);
    buf_put(&k->value, bytes_make(sqlite3_column_blob(st, 1), (size_t)sqlite3_column_bytes(st, 1)));
    (void)sqlite3_reset(st);
    return OK;
}

enum err store_apply_keep(struct store *s, struct store_request *r)
{
    struct store_keep *k = CONTAINER_OF(r, struct store_keep, req);

    return r->type == REQ_KEEP_PUT ? put(s, k) : get(s, k);
}

/* ---- what nobody asked about for long ---- */

void store_keep_look(struct store *s)
{
    s->prune_wanted =
        s->config.history_days && s->walk.done && s->fresh_done &&
        (s->prune_after.len || !s->pruned_all_ms || clock_now_ms() - s->pruned_all_ms > PRUNE_EVERY_MS);
}

/* Most pages have nothing that is old enough: they are read, and nothing is written. */
static enum err read_page(struct store *s, struct buf *last, size_t *count, int64_t *oldest)
{
    sqlite3_stmt *st = s->st[ST_KEEP_PAGE];
    bool row;

    sql_bind_text(st, 1, KEEP_TLS_SEEN);
    sql_bind_text(st, 2, buf_str(&s->prune_after));
    sql_bind_int(st, 3, PRUNE_ROWS);
    enum err e = sql_step(st, &row);
    if (e || !row)
        return e;
    *count = (size_t)sqlite3_column_int64(st, 1);
    *oldest = sqlite3_column_int64(st, 2);
    if (*count)
        buf_puts(last, sql_text(st, 0));
    (void)sqlite3_reset(st);
    return OK;
}

static enum err prune_page(struct store *s, const char *last, int64_t before)
{
    sqlite3_stmt *st = s->st[ST_KEEP_PRUNE];

    store_begin(s);
    if (s->failed)
        return OK;
    sql_bind_text(st, 1, KEEP_TLS_SEEN);
    sql_bind_text(st, 2, buf_str(&s->prune_after));
    sql_bind_text(st, 3, last);
    sql_bind_int(st, 4, before);
    sql_bind_text(st, 5, KEEP_DOWNGRADE);
    return sql_run(st);
}

void store_keep_prune_step(struct store *s)
{
    int64_t before = s->now_unix - (int64_t)MAX_OF(s->config.history_days, KEEP_SEEN_DAYS) * 86400,
            oldest = 0;
    size_t count = 0;
    BUF_LOCAL(last);

    if (!s->prune_wanted)
        return;
    s->prune_wanted = false;
    enum err e = read_page(s, &last, &count, &oldest);
    if (!e && count && oldest < before)
        e = prune_page(s, buf_str(&last), before);
    if (e) {
        store_fail(s, e);
        return;
    }
    if (s->failed)
        return;
    buf_clear(&s->prune_after);
    if (count == PRUNE_ROWS)
        buf_put(&s->prune_after, buf_bytes(&last));
    else
        s->pruned_all_ms = clock_now_ms();
}

/* ---- reading ---- */

enum err keep_read(const char *dir, const char *kind, const char *after, keep_fn fn, void *arg)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *st = NULL;
    char *why = NULL;
    bool row = true;

    sql_setup();
    enum err e = schema_open_reader(dir, &db, &why);
    mem_free(why);
    if (e)
        return e;
    e = sql_prepare(db, &st, "SELECT key, at, value FROM keep WHERE kind = ?1 AND key > ?2 ORDER BY key");
    if (!e) {
        sql_bind_text(st, 1, kind);
        sql_bind_text(st, 2, after ? after : "");
    }
    while (!e && !(e = sql_step(st, &row)) && row) {
        struct kept k = {
            .key = sql_text(st, 0),
            .at_unix = sqlite3_column_int64(st, 1),
            .value = bytes_make(sqlite3_column_blob(st, 2), (size_t)sqlite3_column_bytes(st, 2)),
        };
        if (!fn(arg, &k))
            break;
    }
    sqlite3_finalize(st);
    sqlite3_close(db);
    return e;
}
