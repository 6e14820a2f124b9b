/*
 * What operators do to many rows: in chunks, one operation at a time, between other work.
 *
 *     by message     that message's rows
 *     by domains     per domain: READY rows along rcpt_ready, then all other states along rcpt_other
 *     else           all rows in key order; sender, campaign and account are looked up per message
 *
 * A row moves at most once: each walk goes forward in its index, and what an operation writes lies behind it.
 */
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "queue/store_priv.h"

#define CHUNK_ROWS 1000

enum walk { WALK_MESSAGE, WALK_DOMAIN, WALK_OTHER, WALK_ALL };

struct row {
    uint64_t id;
    uint32_t no;
    int64_t domain_id, due;
    int state;
    uint16_t lane;
    bool matches;
};

struct store_job {
    struct waiting *waiting;
    struct store_op *op; /* borrowed from the request */
    /* where the walk stands, and where it stood when this transaction began */
    struct at {
        enum walk walk;
        size_t domain; /* index of the selector's */
        int state;     /* WALK_OTHER */
        int64_t lane, due;
        uint64_t id;
        int64_t no;
        uint64_t changed;
        bool over;
    } at, before;
    int64_t *domain_ids;   /* of the selector; 0: no such domain, and so no rows */
    uint64_t seen_message; /* the last message looked up, and what came of it */
    bool seen_matches;
    enum row_state seen_state; /* of its campaign's mail */
};

static void take_op(struct note *note, void *store)
{
    struct store *s = store;
    store_wait(&s->ops, CONTAINER_OF(note, struct store_request, note));
}

void store_post_op(struct store *s, struct store_op *op)
{
    op->req.type = REQ_OP;
    op->req.note.run = take_op;
    op->changed = 0;
    inbox_post(&s->inbox, &op->req.note);
}

void queue_selector_fini(struct queue_selector *q)
{
    mem_free(q->recipient);
    mem_free(q->campaign);
    mem_free(q->sender);
    mem_free(q->account);
    for (size_t i = 0; i < q->domain_count; i++)
        mem_free(q->domains[i]);
    mem_free(q->domains);
    *q = (struct queue_selector){0};
}

void store_op_destroy(struct store_op *op)
{
    if (!op)
        return;
    queue_selector_fini(&op->which);
    mem_free(op);
}

static bool selects_anything(const struct queue_selector *q)
{
    return q->all || q->message_id || q->recipient || q->campaign || q->sender || q->account || q->domains;
}

static enum err begin_op(struct store *s, struct waiting *w)
{
    struct store_job *j = MEM_NEW(struct store_job);
    const struct queue_selector *q;

    j->waiting = w;
    j->op = CONTAINER_OF(w->req, struct store_op, req);
    j->at = (struct at){.due = INT64_MIN, .no = -1};
    q = &j->op->which;
    s->op = j;
    j->at.walk = q->message_id ? WALK_MESSAGE : q->domains ? WALK_DOMAIN : WALK_ALL;
    j->domain_ids = q->domains ? mem_zalloc((q->domain_count + 1) * sizeof(*j->domain_ids)) : NULL;
    for (size_t i = 0; i < q->domain_count; i++) {
        struct store_domain *d = store_domain(s, bytes_of(q->domains[i]));
        enum err e = store_domain_find(s, d);
        if (e)
            return e;
        j->domain_ids[i] = d->id;
    }
    if (q->message_id)
        j->at.id = q->message_id;
    j->at.over = !selects_anything(q);
    return OK;
}

static sqlite3_stmt *bind_walk(struct store *s, struct store_job *j)
{
    sqlite3_stmt *st;

    switch (j->at.walk) {
    case WALK_MESSAGE:
        st = s->st[ST_OP_BY_MESSAGE];
        sql_bind_int(st, 1, (int64_t)j->op->which.message_id);
        sql_bind_int(st, 2, j->at.no);
        sql_bind_int(st, 3, CHUNK_ROWS);
        return st;
    case WALK_DOMAIN:
        st = s->st[ST_OP_BY_DOMAIN];
        sql_bind_int(st, 1, j->domain_ids[j->at.domain]);
        sql_bind_int(st, 2, j->at.due);
        sql_bind_int(st, 3, (int64_t)j->at.id);
        sql_bind_int(st, 4, j->at.no);
        sql_bind_int(st, 5, CHUNK_ROWS);
        sql_bind_int(st, 6, j->at.lane);
        return st;
    case WALK_OTHER:
        st = s->st[ST_OP_OTHER];
        sql_bind_int(st, 1, j->at.state);
        sql_bind_int(st, 2, (int64_t)j->at.id);
        sql_bind_int(st, 3, j->at.no);
        sql_bind_int(st, 4, CHUNK_ROWS);
        return st;
    case WALK_ALL: break;
    }
    st = s->st[ST_OP_ALL];
    sql_bind_int(st, 1, (int64_t)j->at.id);
    sql_bind_int(st, 2, j->at.no);
    sql_bind_int(st, 3, CHUNK_ROWS);
    return st;
}

/* The walk's stretch is used up: on to the next domain, the next state, or the end. */
static void next_stretch(struct store_job *j)
{
    j->at.lane = 0;
    j->at.due = INT64_MIN;
    j->at.id = 0;
    j->at.no = -1;
    if (j->at.walk == WALK_DOMAIN && ++j->at.domain < j->op->which.domain_count)
        return;
    if (j->at.walk == WALK_DOMAIN) {
        j->at.walk = WALK_OTHER;
        j->at.state = ROW_FRESH;
        return;
    }
    if (j->at.walk == WALK_OTHER) {
        j->at.state = j->at.state == ROW_FRESH ? ROW_HELD : j->at.state + 1;
        if (j->at.state < ROW_STATES)
            return;
    }
    j->at.over = true;
}

static bool equal(const char *want, const unsigned char *have)
{
    return !want || (have && strcmp(want, (const char *)have) == 0);
}

static bool has_domain(const struct store_job *j, int64_t id)
{
    const struct queue_selector *q = &j->op->which;

    if (!q->domains)
        return true;
    for (size_t i = 0; i < q->domain_count; i++)
        if (j->domain_ids[i] && j->domain_ids[i] == id)
            return true;
    return false;
}

/* Addresses compare with the domain's case ignored and the local part's kept: as ASCII without case would be
 * laxer. */
static bool has_address(const struct queue_selector *q, const unsigned char *address)
{
    if (!q->recipient)
        return true;
    struct bytes want = bytes_of(q->recipient), have = bytes_of((const char *)address);
    return bytes_ieq(want, have);
}

static bool asks_campaign(enum queue_op op)
{
    return op == QUEUE_RELEASE || op == QUEUE_PAUSE || op == QUEUE_RESUME || op == QUEUE_EXPIRE;
}

static bool has_campaigns(const struct store *s)
{
    return s->campaigns.count > 0;
}

static enum err matches_message(struct store *s, struct store_job *j, uint64_t id, bool *yes)
{
    const struct queue_selector *q = &j->op->which;
    sqlite3_stmt *st = s->st[ST_PAGE_MESSAGE];
    bool row;

    if (!q->sender && !q->campaign && !q->account && !(asks_campaign(j->op->op) && has_campaigns(s))) {
        j->seen_state = ROW_READY;
        *yes = true;
        return OK;
    }
    if (j->seen_message != id) {
        sql_bind_int(st, 1, (int64_t)id);
        enum err e = sql_step(st, &row);
        if (e)
            return e;
        j->seen_message = id;
        j->seen_state = store_campaign_state(s, row ? (const char *)sqlite3_column_text(st, 3) : NULL);
        j->seen_matches = row && equal(q->sender, sqlite3_column_text(st, 2)) &&
                          equal(q->campaign, sqlite3_column_text(st, 3)) &&
                          equal(q->account, sqlite3_column_text(st, 5));
        (void)sqlite3_reset(st);
    }
    *yes = j->seen_matches;
    return OK;
}

static enum err write_row(struct store *s, const struct row *r, enum row_state to, int64_t due)
{
    sqlite3_stmt *st = s->st[ST_RCPT_OP_DUE];

    sql_bind_int(st, 1, (int64_t)r->id);
    sql_bind_int(st, 2, r->no);
    sql_bind_int(st, 3, to);
    sql_bind_int(st, 4, due);
    enum err e = sql_run(st);
    if (!e)
        store_count(s, (enum row_state)r->state, to);
    return e;
}

static enum err wake(struct store *s, int64_t domain_id, int64_t due)
{
    struct store_domain *d;
    enum err e = store_domain_by_id(s, domain_id, &d);

    if (!e)
        store_add_wake(s, d, due);
    return e;
}

/* What the operation makes of a row; unchanged rows are not counted. */
static enum err change(struct store *s, struct store_job *j, const struct row *r)
{
    bool waits = r->state == ROW_READY || r->state == ROW_FRESH;
    bool leased = leases_has(&s->leases, r->id, r->no);
    enum err e = OK;

    switch (j->op->op) {
    case QUEUE_RETRY:
        if (r->state != ROW_READY || leased || r->due <= s->now_unix)
            return OK; /* being tried, or about to be */
        e = write_row(s, r, ROW_READY, s->now_unix);
        e = e ? e : wake(s, r->domain_id, s->now_unix);
        break;
    case QUEUE_HOLD:
        if (!waits && r->state != ROW_PAUSED)
            return OK;
        e = write_row(s, r, ROW_HELD, r->due);
        break;
    case QUEUE_RELEASE:
        if (r->state != ROW_HELD)
            return OK;
        e = write_row(s, r, j->seen_state, s->now_unix);
        if (!e && j->seen_state == ROW_READY)
            e = wake(s, r->domain_id, s->now_unix);
        s->final_new |= j->seen_state == ROW_EXPIRE;
        break;
    case QUEUE_PAUSE:
        if (!waits || j->seen_state != ROW_PAUSED)
            return OK;
        e = write_row(s, r, ROW_PAUSED, r->due);
        break;
    case QUEUE_RESUME:
        if (r->state != ROW_PAUSED || j->seen_state != ROW_READY)
            return OK;
        e = write_row(s, r, ROW_READY, MAX_OF(r->due, s->now_unix)); /* its schedule, or its retry, stands */
        e = e ? e : wake(s, r->domain_id, MAX_OF(r->due, s->now_unix));
        break;
    case QUEUE_EXPIRE:
        if ((!waits && r->state != ROW_HELD && r->state != ROW_PAUSED) || j->seen_state != ROW_EXPIRE)
            return OK;
        e = write_row(s, r, ROW_EXPIRE, r->due);
        s->final_new |= !leased;
        break;
    case QUEUE_BOUNCE:
    case QUEUE_CANCEL:
        if (!waits && r->state != ROW_HELD && r->state != ROW_PAUSED)
            return OK;
        e = write_row(s, r, j->op->op == QUEUE_BOUNCE ? ROW_BOUNCE : ROW_CANCEL, r->due);
        s->final_new |= !leased;
        break;
    }
    j->at.changed++;
    return e;
}

/* Reads a chunk first and changes it afterwards: an index is not changed under its own cursor. */
static enum err read_chunk(struct store *s, struct store_job *j, struct row *rows, size_t *count)
{
    sqlite3_stmt *st = bind_walk(s, j);
    bool row;
    enum err e;

    *count = 0;
    while (!(e = sql_step(st, &row)) && row) {
        struct row *r = &rows[(*count)++];
        *r = (struct row){.id = (uint64_t)sqlite3_column_int64(st, 0),
                          .no = (uint32_t)sqlite3_column_int64(st, 1),
                          .domain_id = sqlite3_column_int64(st, 2),
                          .state = sqlite3_column_int(st, 3),
                          .due = sqlite3_column_int64(st, 4),
                          .lane = (uint16_t)sqlite3_column_int(st, 6)};
        r->matches = has_domain(j, r->domain_id) && has_address(&j->op->which, sqlite3_column_text(st, 5));
    }
    return e;
}

static enum err step(struct store *s, struct store_job *j)
{
    struct row *rows = mem_alloc(CHUNK_ROWS * sizeof(*rows));
    size_t count = 0;
    enum err e = read_chunk(s, j, rows, &count);

    for (size_t i = 0; !e && i < count; i++) {
        bool yes = rows[i].matches;
        if (yes)
            e = matches_message(s, j, rows[i].id, &yes);
        if (!e && yes)
            e = change(s, j, &rows[i]);
        j->at.lane = rows[i].lane;
        j->at.due = rows[i].due;
        j->at.id = rows[i].id;
        j->at.no = rows[i].no;
    }
    if (!e && count < CHUNK_ROWS)
        next_stretch(j);
    mem_free(rows);
    return e;
}

void store_step_ops(struct store *s)
{
    enum err e = OK;

    if (list_is_empty(&s->ops))
        return;
    store_begin(s);
    if (s->failed)
        return;
    if (!s->op)
        e = begin_op(s, LIST_ENTRY(list_first(&s->ops), struct waiting, node));
    struct store_job *j = s->op;
    j->before = j->at;
    if (!e && !j->at.over)
        e = step(s, j);
    if (e)
        store_fail(s, e);
}

static void free_job(struct store_job *j)
{
    mem_free(j->domain_ids);
    mem_free(j);
}

void store_ops_taken_back(struct store *s)
{
    if (s->op)
        s->op->at = s->op->before;
}

/* After a failure the operation ends with the error; what earlier chunks changed stays changed, and is
 * counted. */
void store_finish_ops(struct store *s, enum err e)
{
    struct store_job *j = s->op;

    if (!j)
        return;
    if (!e && !j->at.over)
        return;
    s->op = NULL;
    j->op->changed = j->at.changed;
    enum err result = !selects_anything(&j->op->which) ? ERR_INVALID : e;
    struct waiting *w = j->waiting;
    list_remove(&w->node);
    store_reply(w->req, result);
    mem_free(w);
    free_job(j);
}

void store_ops_destroy(struct store *s)
{
    for (struct list *node; (node = list_pop(&s->ops));) {
        struct waiting *w = LIST_ENTRY(node, struct waiting, node);
        store_reply(w->req, ERR_CLOSED);
        mem_free(w);
    }
    if (s->op)
        free_job(s->op);
    s->op = NULL;
}
