/*
 * The rows that a turn's accepts bring, as two virtual tables of this connection: a whole turn is inserted by
 * two statements whose cursors stay at the growing end of their b-trees, instead of two statements a message.
 */
#include <string.h>

#include "base/mem.h"
#include "queue/store_priv.h"

struct rows_table {
    sqlite3_vtab base; /* first: SQLite's */
    struct store *store;
    bool rcpts;
};
struct rows_cursor {
    sqlite3_vtab_cursor base; /* first: SQLite's */
    size_t accept;
    uint32_t rcpt;
};

static const char message_columns[] =
    "CREATE TABLE x(id, flags, accepted, sender, campaign, envid, account, ret, total, segment, offset, size,"
    " header_bytes, body_flags, checksum, expires, content_segment, content_offset)";
static const char rcpt_columns[] = "CREATE TABLE x(message_id, no, domain_id, state, due, attempts, notify,"
                                   " delay_notified, address, orcpt, last_text, lane)";

static int connect_table(sqlite3 *db, void *store, int argc, const char *const *argv, sqlite3_vtab **out,
                         char **error)
{
    (void)argc;
    (void)error;
    bool rcpts = strcmp(argv[0], STORE_ACCEPT_RCPT) == 0;
    int rc = sqlite3_declare_vtab(db, rcpts ? rcpt_columns : message_columns);

    if (rc != SQLITE_OK)
        return rc;
    struct rows_table *t = MEM_NEW(struct rows_table);
    t->store = store;
    t->rcpts = rcpts;
    *out = &t->base;
    return SQLITE_OK;
}

static int disconnect_table(sqlite3_vtab *table)
{
    mem_free(table);
    return SQLITE_OK;
}

static int best_index(sqlite3_vtab *table, sqlite3_index_info *info)
{
    (void)table;
    info->estimatedCost = 1000;
    return SQLITE_OK;
}

static int open_cursor(sqlite3_vtab *table, sqlite3_vtab_cursor **out)
{
    (void)table;
    *out = &MEM_NEW(struct rows_cursor)->base;
    return SQLITE_OK;
}

static int close_cursor(sqlite3_vtab_cursor *cursor)
{
    mem_free(cursor);
    return SQLITE_OK;
}

static struct store *store_of(const struct rows_cursor *c)
{
    return CONTAINER_OF(c->base.pVtab, struct rows_table, base)->store;
}

static bool brings_rows(const struct accepted *x)
{
    return x->result == OK && x->message && x->gone < x->rcpt_count;
}

static bool of_rcpts(const struct rows_cursor *c)
{
    return CONTAINER_OF(c->base.pVtab, struct rows_table, base)->rcpts;
}

/* From where the cursor stands on to the next row that there is. */
static void skip_others(struct rows_cursor *c)
{
    const struct store *s = store_of(c);

    for (; c->accept < s->rows_to; c->accept++, c->rcpt = 0) {
        const struct accepted *x = &s->accepts[c->accept];
        if (!brings_rows(x))
            continue;
        while (of_rcpts(c) && c->rcpt < x->rcpt_count && s->accepted_rcpts[x->first_rcpt + c->rcpt].gone)
            c->rcpt++;
        if (c->rcpt < x->rcpt_count)
            return;
    }
}

static int filter(sqlite3_vtab_cursor *cursor, int number, const char *text, int argc, sqlite3_value **argv)
{
    struct rows_cursor *c = CONTAINER_OF(cursor, struct rows_cursor, base);

    (void)number;
    (void)text;
    (void)argc;
    (void)argv;
    c->accept = store_of(c)->rows_from;
    c->rcpt = 0;
    skip_others(c);
    return SQLITE_OK;
}

static int next(sqlite3_vtab_cursor *cursor)
{
    struct rows_cursor *c = CONTAINER_OF(cursor, struct rows_cursor, base);

    if (of_rcpts(c))
        c->rcpt++;
    else
        c->accept++;
    skip_others(c);
    return SQLITE_OK;
}

static int at_end(sqlite3_vtab_cursor *cursor)
{
    const struct rows_cursor *c = CONTAINER_OF(cursor, struct rows_cursor, base);
    return c->accept >= store_of(c)->rows_to;
}

static void put_text(sqlite3_context *out, const char *text)
{
    if (text)
        sqlite3_result_text(out, text, -1, SQLITE_STATIC);
    else
        sqlite3_result_null(out);
}

static void put_message(sqlite3_context *out, const struct accepted *x, int column)
{
    const struct message *m = x->message;

    switch (column) {
    case 0: sqlite3_result_int64(out, (int64_t)m->id); break;
    case 1: sqlite3_result_int64(out, m->flags); break;
    case 2: sqlite3_result_int64(out, m->accepted_unix); break;
    case 3: put_text(out, m->sender); break;
    case 4: put_text(out, m->campaign); break;
    case 5: put_text(out, m->envid); break;
    case 6: put_text(out, m->account); break;
    case 7: sqlite3_result_int(out, (int)m->ret); break;
    case 8: sqlite3_result_int64(out, m->rcpt_total); break;
    case 9: sqlite3_result_int64(out, (int64_t)x->body.segment); break;
    case 10: sqlite3_result_int64(out, (int64_t)x->body.offset); break;
    case 11: sqlite3_result_int64(out, (int64_t)x->body.size_bytes); break;
    case 12: sqlite3_result_int64(out, x->body.header_bytes); break;
    case 13: sqlite3_result_int64(out, x->body.flags); break;
    case 14: sqlite3_result_int64(out, x->body.checksum); break;
    case 15: sqlite3_result_int64(out, m->expires_unix); break;
    case 16: sqlite3_result_int64(out, (int64_t)x->body.content_segment); break;
    case 17: sqlite3_result_int64(out, (int64_t)x->body.content_offset); break;
    default: sqlite3_result_null(out); break;
    }
}

static void put_rcpt(sqlite3_context *out, const struct store *s, const struct accepted *x, uint32_t i,
                     int column)
{
    const struct rcpt *r = &x->message->rcpts[i];
    const struct accepted_rcpt *row = &s->accepted_rcpts[x->first_rcpt + i];

    switch (column) {
    case 0: sqlite3_result_int64(out, (int64_t)x->id); break;
    case 1: sqlite3_result_int64(out, r->no); break;
    case 2: sqlite3_result_int64(out, row->domain->id); break;
    case 3: sqlite3_result_int(out, row->state); break;
    case 4: sqlite3_result_int64(out, x->due_unix); break;
    case 5: sqlite3_result_int(out, r->attempts); break;
    case 6: sqlite3_result_int(out, r->notify); break;
    case 7: sqlite3_result_int(out, r->delay_notified); break;
    case 8: put_text(out, r->address); break;
    case 9: put_text(out, r->orcpt); break;
    case 10: put_text(out, r->last_text); break;
    case 11: sqlite3_result_int(out, x->message->lane); break;
    default: sqlite3_result_null(out); break;
    }
}

static int column(sqlite3_vtab_cursor *cursor, sqlite3_context *out, int number)
{
    const struct rows_cursor *c = CONTAINER_OF(cursor, struct rows_cursor, base);
    const struct store *s = store_of(c);

    if (of_rcpts(c))
        put_rcpt(out, s, &s->accepts[c->accept], c->rcpt, number);
    else
        put_message(out, &s->accepts[c->accept], number);
    return SQLITE_OK;
}

static int row_id(sqlite3_vtab_cursor *cursor, sqlite3_int64 *out)
{
    const struct rows_cursor *c = CONTAINER_OF(cursor, struct rows_cursor, base);
    *out = (sqlite3_int64)(c->accept << 24 | c->rcpt);
    return SQLITE_OK;
}

/* Without xCreate they exist by their names alone, and nobody else can make more of them. */
static const sqlite3_module module = {
    .xConnect = connect_table,
    .xBestIndex = best_index,
    .xDisconnect = disconnect_table,
    .xOpen = open_cursor,
    .xClose = close_cursor,
    .xFilter = filter,
    .xNext = next,
    .xEof = at_end,
    .xColumn = column,
    .xRowid = row_id,
};

enum err store_make_row_tables(struct store *s)
{
    enum err e = sql_err(sqlite3_create_module(s->db, STORE_ACCEPT_MESSAGE, &module, s));
    return e ? e : sql_err(sqlite3_create_module(s->db, STORE_ACCEPT_RCPT, &module, s));
}
