/* Handles, one message, sums, policy versions; lists are in browse_list.c, groups in browse_groups.c. */
#include "queue/browse.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "queue/browse_priv.h"

#define LIMIT_MS       10000
#define PROGRESS_STEPS 1000 /* virtual machine steps between looks at the clock: tens of microseconds */

static const char *const state_names[QUEUE_STATES] = {"waiting",  "held",       "dsn-owed",
                                                      "bouncing", "cancelling", "paused"};

const char *queue_state_name(enum queue_state state)
{
    return (unsigned)state < QUEUE_STATES ? state_names[state] : "?";
}

bool queue_state_parse(const char *name, enum queue_state *out)
{
    for (unsigned i = 0; i < QUEUE_STATES; i++) {
        if (strcmp(name, state_names[i]) != 0)
            continue;
        *out = (enum queue_state)i;
        return true;
    }
    return false;
}

enum queue_state browse_state(int row_state)
{
    switch ((enum row_state)row_state) {
    case ROW_FRESH:
    case ROW_READY: return QUEUE_WAITING;
    case ROW_HELD: return QUEUE_HELD;
    case ROW_DSN: return QUEUE_DSN_OWED;
    case ROW_BOUNCE:
    case ROW_EXPIRE: return QUEUE_BOUNCING;
    case ROW_CANCEL: return QUEUE_CANCELLING;
    case ROW_PAUSED: return QUEUE_PAUSED;
    }
    return QUEUE_WAITING;
}

static int on_progress(void *browse)
{
    const struct browse *b = browse;
    return clock_now_ms() >= b->deadline_ms;
}

enum err browse_open(const char *dir, struct browse **out, char **why)
{
    sqlite3 *db;

    *why = NULL;
    sql_setup();
    enum err e = schema_open_reader(dir, &db, why);
    if (e)
        return e;
    struct browse *b = MEM_NEW(struct browse);
    b->db = db;
    b->limit_ms = LIMIT_MS;
    sqlite3_progress_handler(db, PROGRESS_STEPS, on_progress, b);
    *out = b;
    return OK;
}

void browse_close(struct browse *b)
{
    if (!b)
        return;
    sqlite3_close(b->db);
    mem_free(b);
}

void browse_set_limit_ms(struct browse *b, uint32_t ms)
{
    b->limit_ms = ms;
}

enum err browse_begin(struct browse *b)
{
    b->deadline_ms = clock_now_ms() + b->limit_ms;
    return sql_exec(b->db, "BEGIN");
}

enum err browse_end(struct browse *b, enum err e)
{
    b->deadline_ms = UINT64_MAX; /* the end itself is not to be interrupted */
    sql_rollback(b->db);         /* nothing was written */
    return e;
}

char *browse_position_format(const struct browse_position *p, char out[BROWSE_POSITION_TEXT])
{
    char id[MESSAGE_ID_TEXT];

    if (!p->set)
        out[0] = '\0';
    else
        snprintf(out, BROWSE_POSITION_TEXT, "%s.%u.%lld", message_id_format(p->message_id, id), p->rcpt_no,
                 (long long)p->due_unix);
    return out;
}

bool browse_position_parse(struct bytes text, struct browse_position *out)
{
    uint64_t id, no, due;
    size_t dot = bytes_find(text, '.');
    struct bytes rest = bytes_skip(text, dot + 1);
    size_t dot2 = bytes_find(rest, '.');

    if (dot == text.len || dot2 == rest.len || !message_id_parse(bytes_first(text, dot), &id) ||
        !bytes_parse_u64(bytes_first(rest, dot2), &no) || no > UINT32_MAX ||
        !bytes_parse_u64(bytes_skip(rest, dot2 + 1), &due) || due > INT64_MAX)
        return false;
    *out = (struct browse_position){true, (int64_t)due, id, (uint32_t)no};
    return true;
}

/* ---- one message ---- */

static enum err read_rcpts(struct browse *b, const struct browse_message *m, struct arena *arena,
                           struct browse_row **rows, size_t *count)
{
    sqlite3_stmt *st = NULL;
    size_t cap = 0;
    bool row;
    enum err e =
        sql_prepare(b->db, &st,
                    "SELECT r.no, r.state, r.address, d.name, r.due, r.attempts, r.last_text FROM rcpt r"
                    " LEFT JOIN domain d ON d.id = r.domain_id WHERE r.message_id = ?1 ORDER BY r.no");
    if (e)
        return e;
    *rows = NULL;
    *count = 0;
    sql_bind_int(st, 1, (int64_t)m->id);
    while (!(e = sql_step(st, &row)) && row) {
        if (*count == cap) {
            struct browse_row *before = *rows;
            cap = MAX_OF(cap * 2, (size_t)8);
            *rows = arena_alloc(arena, cap * sizeof(**rows));
            if (*count)
                memcpy(*rows, before, *count * sizeof(**rows));
        }
        (*rows)[(*count)++] = (struct browse_row){.message_id = m->id,
                                                  .rcpt_no = (uint32_t)sqlite3_column_int64(st, 0),
                                                  .state = browse_state(sqlite3_column_int(st, 1)),
                                                  .address = sql_text_dup(st, 2, arena),
                                                  .domain = sql_text_dup(st, 3, arena),
                                                  .due_unix = sqlite3_column_int64(st, 4),
                                                  .attempts = (uint16_t)sqlite3_column_int(st, 5),
                                                  .last_text = sql_text_dup(st, 6, arena),
                                                  .accepted_unix = m->accepted_unix,
                                                  .sender = m->sender,
                                                  .campaign = m->campaign,
                                                  .account = m->account,
                                                  .size_bytes = m->size_bytes,
                                                  .rcpt_total = m->rcpt_total};
    }
    sqlite3_finalize(st);
    return e;
}

static enum err read_message(struct browse *b, uint64_t id, struct arena *arena, struct browse_message *out)
{
    sqlite3_stmt *st = NULL;
    bool row = false;
    enum err e =
        sql_prepare(b->db, &st,
                    "SELECT flags, accepted, sender, campaign, envid, account, ret, size, header_bytes,"
                    " body_flags, total, segment, offset FROM message WHERE id = ?1");
    if (e)
        return e;
    sql_bind_int(st, 1, (int64_t)id);
    e = sql_step(st, &row);
    if (!e && !row)
        e = ERR_NOT_FOUND;
    if (!e)
        *out = (struct browse_message){.id = id,
                                       .flags = (uint32_t)sqlite3_column_int64(st, 0),
                                       .accepted_unix = sqlite3_column_int64(st, 1),
                                       .sender = sql_text_dup(st, 2, arena),
                                       .campaign = sql_text_dup(st, 3, arena),
                                       .envid = sql_text_dup(st, 4, arena),
                                       .account = sql_text_dup(st, 5, arena),
                                       .ret = (enum dsn_ret)sqlite3_column_int(st, 6),
                                       .size_bytes = (uint64_t)sqlite3_column_int64(st, 7),
                                       .header_bytes = (uint32_t)sqlite3_column_int64(st, 8),
                                       .body_flags = (uint32_t)sqlite3_column_int64(st, 9),
                                       .rcpt_total = (uint32_t)sqlite3_column_int64(st, 10),
                                       .segment = (uint64_t)sqlite3_column_int64(st, 11),
                                       .offset = (uint64_t)sqlite3_column_int64(st, 12)};
    sqlite3_finalize(st);
    return e;
}

enum err browse_message(struct browse *b, uint64_t message_id, struct arena *arena,
                        struct browse_message *out)
{
    struct browse_message m = {0};
    enum err e = browse_begin(b);

    if (e)
        return e;
    e = message_id > INT64_MAX ? ERR_NOT_FOUND : read_message(b, message_id, arena, &m);
    if (!e)
        e = read_rcpts(b, &m, arena, &m.rcpts, &m.rcpt_count);
    if (!e)
        *out = m;
    return browse_end(b, e);
}

enum err browse_header(struct browse *b, struct spool *spool, uint64_t message_id, size_t max,
                       struct buf *out)
{
    enum err e = OK;

    /*
     * A body may move, and a dead segment be written over, between the look and the read: what was read
     * counts if the message still says the same afterwards.
     */
    for (int attempt = 0; attempt < 2; attempt++) {
        struct arena arena = {0};
        struct browse_message m, again;
        e = browse_message(b, message_id, &arena, &m);
        if (!e) {
            struct body *body = body_create(NULL, m.size_bytes);
            size_t len = MIN_OF((size_t)m.header_bytes, max);
            body->segment = m.segment;
            body->offset = m.offset;
            e = spool_read(spool, body, 0, len, buf_reserve(out, len));
            body_unref(body);
            if (!e)
                e = browse_message(b, message_id, &arena, &again);
            if (!e && (again.segment != m.segment || again.offset != m.offset))
                e = ERR_NOT_FOUND;
            if (!e)
                out->len += len;
        }
        arena_fini(&arena);
        if (e != ERR_NOT_FOUND)
            break;
    }
    return e;
}

enum err browse_totals(struct browse *b, struct browse_totals *out)
{
    sqlite3_stmt *st = NULL;
    struct browse_totals t = {0};
    bool row = false;
    enum err e = browse_begin(b);

    if (e)
        return e;
    e = sql_prepare(
        b->db, &st,
        "SELECT fresh, ready, held, dsn, bounce, cancel, paused, expire, messages FROM counter WHERE id = 1");
    if (!e)
        e = sql_step(st, &row);
    if (!e && !row)
        e = ERR_CORRUPT;
    for (int i = 0; !e && i < ROW_STATES; i++)
        t.by_state[browse_state(i)] += (uint64_t)sqlite3_column_int64(st, i);
    if (!e) {
        t.messages = (uint64_t)sqlite3_column_int64(st, ROW_STATES);
        *out = t;
    }
    sqlite3_finalize(st);
    return browse_end(b, e);
}

/* ---- policy versions ---- */

enum err browse_policies(struct browse *b, uint64_t before, uint32_t limit, struct arena *arena,
                         struct browse_policy **out, size_t *count)
{
    sqlite3_stmt *st = NULL;
    limit = MIN_OF(limit, (uint32_t)BROWSE_LIMIT_MAX);
    struct browse_policy *list = arena_zalloc(arena, (limit ? limit : 1) * sizeof(*list));
    size_t n = 0;
    bool row;
    enum err e = browse_begin(b);

    if (e)
        return e;
    e = sql_prepare(b->db, &st,
                    "SELECT version, at, author, comment FROM policy WHERE version < ?1"
                    " ORDER BY version DESC LIMIT ?2");
    if (!e) {
        sql_bind_int(st, 1, before ? (int64_t)before : INT64_MAX);
        sql_bind_int(st, 2, limit);
        while (!(e = sql_step(st, &row)) && row)
            list[n++] =
                (struct browse_policy){(uint64_t)sqlite3_column_int64(st, 0), sqlite3_column_int64(st, 1),
                                       sql_text_dup(st, 2, arena), sql_text_dup(st, 3, arena)};
    }
    sqlite3_finalize(st);
    if (!e) {
        *out = list;
        *count = n;
    }
    return browse_end(b, e);
}

enum err browse_policy_text(struct browse *b, uint64_t version, struct arena *arena,
                            struct browse_policy *info, char **text)
{
    sqlite3_stmt *st = NULL;
    bool row = false;
    enum err e = browse_begin(b);

    if (e)
        return e;
    e = sql_prepare(b->db, &st,
                    "SELECT version, at, author, comment, text FROM policy"
                    " WHERE ?1 = 0 OR version = ?1 ORDER BY version DESC LIMIT 1");
    if (!e) {
        sql_bind_int(st, 1, (int64_t)version);
        e = sql_step(st, &row);
    }
    if (!e && !row)
        e = ERR_NOT_FOUND;
    if (!e) {
        if (info)
            *info = (struct browse_policy){(uint64_t)sqlite3_column_int64(st, 0), sqlite3_column_int64(st, 1),
                                           sql_text_dup(st, 2, arena), sql_text_dup(st, 3, arena)};
        *text = mem_strdup(sql_text(st, 4));
    }
    sqlite3_finalize(st);
    return browse_end(b, e);
}
