/*
 * Clean and unclean ends.  `running` stands in meta from start to close; who finds it at a start knows that
 * the last run was cut short, and keeps what may have gone out without a record: mail that was with a worker
 * (FRESH), and of what waited (READY) that which was in a transaction at that moment; how many these were the
 * page of counts says (queue/flight.h), if the host did not go down with the process.
 */
#include <stdio.h>

#include "queue/flight.h"
#include "queue/keep.h"
#include "queue/store_priv.h"

#define KEEP_DAYS 90

static enum err read_running(struct store *s, bool *running, int64_t *since)
{
    sqlite3_stmt *st = NULL;
    enum err e = sql_prepare(s->db, &st, "SELECT value FROM meta WHERE key = 'running'");

    if (!e)
        e = sql_step(st, running);
    if (!e && *running)
        *since = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    return e;
}

static enum err put_end(struct store *s, int64_t started)
{
    sqlite3_stmt *st = s->st[ST_KEEP_PUT];
    int64_t flying = flight_left(s->dir, started);
    char key[32], value[160];

    snprintf(key, sizeof(key), "%020lld", (long long)s->now_unix);
    int len = snprintf(value, sizeof(value), "started %lld\nfirst %lld\nwaiting %lld\n", (long long)started,
                       (long long)(s->counts[ROW_FRESH] + s->count_change[ROW_FRESH]),
                       (long long)(s->counts[ROW_READY] + s->count_change[ROW_READY]));
    if (flying >= 0)
        len += snprintf(value + len, sizeof(value) - (size_t)len, "flying %lld\n", (long long)flying);
    sql_bind_text(st, 1, KEEP_UNCLEAN_END);
    sql_bind_text(st, 2, key);
    sql_bind_int(st, 3, s->now_unix);
    sql_bind_blob(st, 4, value, (size_t)len);
    return sql_run(st);
}

enum err store_note_start(struct store *s)
{
    char prune[128];
    bool running = false;
    int64_t started = 0;
    enum err e = read_running(s, &running, &started);

    if (!e && running)
        e = put_end(s, started);
    if (e)
        return e;
    snprintf(prune, sizeof(prune), "DELETE FROM keep WHERE kind = '" KEEP_UNCLEAN_END "' AND at < %lld",
             (long long)(s->now_unix - KEEP_DAYS * 86400LL));
    e = sql_exec(s->db, prune);
    s->run_unix = s->now_unix;
    sql_bind_text(s->st[ST_META_PUT], 1, "running");
    sql_bind_int(s->st[ST_META_PUT], 2, s->run_unix);
    return e ? e : sql_run(s->st[ST_META_PUT]);
}

void store_note_end(struct store *s)
{
    if (sql_exec(s->db, "DELETE FROM meta WHERE key = 'running'"))
        log_warn(NULL, "store.end", LOG_STR("said", sqlite3_errmsg(s->db)));
}
