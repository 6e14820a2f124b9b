/* What is kept: one table of values by kind and key.  Rides on the list of policy versions and accounts. */
#include "queue/keep.h"

#include <string.h>

#include "base/mem.h"
#include "queue/store_priv.h"

void store_post_keep_put(struct store *s, struct store_keep *k)
{
    store_post_admin(s, &k->req, REQ_KEEP_PUT);
}

void store_post_keep_get(struct store *s, struct store_keep *k)
{
    store_post_admin(s, &k->req, REQ_KEEP_GET);
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
