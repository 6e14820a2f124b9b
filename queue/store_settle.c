/* Settling: rows for what was accepted, was not delivered meanwhile and has none yet. */
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "queue/store_priv.h"

#define SECS_PER_DAY 86400
#define SETTLE_RCPTS 8192 /* from so many on, or from so many octets of envelopes, accepts do not wait */
#define SETTLE_BYTES (4U * 1024 * 1024)

/* ---- when to settle ---- */

void store_settle_by(struct store *s)
{
    if (!s->settle_at_ms)
        s->settle_at_ms = clock_now_ms() + s->config.settle_ms;
}

bool store_must_settle(struct store *s, bool due)
{
    if (!s->config.settle_ms || s->unanswered || atomic_load(&s->stop))
        return true;
    if (!due) /* after a failure; who waits for an answer was looked at */
        return false;
    if (!list_is_empty(&s->returned) || !list_is_empty(&s->admins) || !list_is_empty(&s->ops) ||
        !list_is_empty(&s->pages) || !list_is_empty(&s->final_pages) || !list_is_empty(&s->settles) ||
        store_has_background(s))
        return true;
    return !s->settle_at_ms || clock_now_ms() >= s->settle_at_ms || s->accepted_rcpt_count >= SETTLE_RCPTS ||
           s->envelope_bytes >= SETTLE_BYTES || s->results_listed >= TURN_RESULTS / 2;
}

/* ---- rows ---- */

static enum err settle(struct store *s, const struct store_accept *a)
{
    enum err e = OK;

    for (size_t i = 0; !e && i < a->settle_count; i++) {
        uint64_t id = a->settles[i].message_id;
        uint32_t no = a->settles[i].rcpt_no;
        if (a->settles[i].mark_delay_only) {
            sqlite3_stmt *st = s->st[ST_RCPT_DELAY_NOTIFIED];
            sql_bind_int(st, 1, (int64_t)id);
            sql_bind_int(st, 2, no);
            e = sql_run(st);
        } else {
            e = store_delete_row(s, id, no);
            store_end_lease(s, id, no, true);
        }
    }
    return e;
}

static void add_to_tally(struct store *s, const struct accepted *x)
{
    struct tally *t = &s->tally;
    const char *campaign = x->message ? x->message->campaign : envelope_campaign(buf_bytes(&x->envelope));
    int64_t accepted =
        x->message ? x->message->accepted_unix : envelope_accepted_unix(buf_bytes(&x->envelope));
    int64_t day = accepted / SECS_PER_DAY;

    if (!campaign)
        campaign = "";
    if (!t->last || t->last->day != day || strcmp(t->last->campaign, campaign) != 0) {
        const char *key = arena_printf(&t->arena, "%lld %s", (long long)day, campaign);
        t->last = map_find(&t->rows, bytes_of(key));
        if (!t->last) {
            t->last = ARENA_NEW(&t->arena, struct tally_row);
            t->last->day = day;
            t->last->campaign = arena_strdup(&t->arena, campaign);
            map_put(&t->rows, bytes_of(key), t->last);
        }
    }
    t->last->messages++;
    t->last->rcpts += x->rcpt_count;
}

/* Once a day: history has deleted the files of these days too, or soon will. */
static enum err prune_tally(struct store *s)
{
    int64_t today = s->now_unix / SECS_PER_DAY, first = today - s->config.history_days;
    sqlite3_stmt *st = s->st[ST_TALLY_PRUNE];

    if (!s->config.history_days || s->tally_pruned_day == today)
        return OK;
    sql_bind_int(st, 1, first);
    enum err e = sql_run(st);
    if (!e && sqlite3_changes(s->db) > 0) {
        st = s->st[ST_META_PUT];
        sql_bind_text(st, 1, "tally_since");
        sql_bind_int(st, 2, first + 1);
        e = sql_run(st);
    }
    s->tally_pruned_day = today; /* taken back with the transaction, it waits until tomorrow: no harm */
    return e;
}

enum err store_write_tally(struct store *s)
{
    sqlite3_stmt *st = s->st[ST_TALLY_ADD];
    const struct tally_row *row;
    enum err e = OK;

    if (!s->tally.rows.count)
        return OK;
    for (size_t at = 0; !e && (row = map_next(&s->tally.rows, &at));) {
        sql_bind_int(st, 1, row->day);
        sql_bind_text(st, 2, row->campaign);
        sql_bind_int(st, 3, row->messages);
        sql_bind_int(st, 4, row->rcpts);
        e = sql_run(st);
    }
    return e ? e : prune_tally(s);
}

void store_forget_tally(struct store *s)
{
    map_fini(&s->tally.rows);
    arena_fini(&s->tally.arena);
    s->tally.last = NULL;
}

/* The accepts [from, to); ERR_EXISTS: an id is there already, or a recipient number twice, and nothing was
 * inserted. */
static enum err insert(struct store *s, size_t from, size_t to, bool *messages_are_in)
{
    s->rows_from = from;
    s->rows_to = to;
    *messages_are_in = false;
    enum err e = sql_run(s->st[ST_MESSAGES_ADD]);
    if (e)
        return e;
    *messages_are_in = true;
    return sql_run(s->st[ST_RCPTS_ADD]);
}

static enum err take_out(struct store *s, size_t from, size_t to)
{
    sqlite3_stmt *st = s->st[ST_MESSAGE_DELETE];
    enum err e = OK;

    for (size_t i = from; !e && i < to; i++) {
        const struct accepted *x = &s->accepts[i];
        if (x->result || !x->message || x->gone == x->rcpt_count)
            continue;
        sql_bind_int(st, 1, (int64_t)x->id);
        e = sql_run(st);
    }
    return e;
}

/* Somebody's id or recipient number is not unique: no reason to fail the others of this turn. */
static enum err insert_singly(struct store *s)
{
    enum err e = OK;

    for (size_t i = 0; !e && i < s->accept_count; i++) {
        struct accepted *x = &s->accepts[i];
        bool message_is_in;
        if (x->result || !x->message)
            continue;
        e = insert(s, i, i + 1, &message_is_in);
        if (e != ERR_EXISTS)
            continue;
        e = message_is_in ? take_out(s, i, i + 1) : OK;
        x->result = message_is_in ? ERR_INVALID : ERR_EXISTS;
        if (!x->a)
            log_error(NULL, "store.exists", LOG_INT("message", x->id));
    }
    return e;
}

/* The rows are in: sums, wakes, and what the accept settles. */
static enum err count(struct store *s, const struct accepted *x)
{
    bool has_rows = x->gone < x->rcpt_count;

    for (uint32_t i = 0; has_rows && i < x->rcpt_count; i++) {
        const struct accepted_rcpt *r = &s->accepted_rcpts[x->first_rcpt + i];
        if (r->gone)
            continue;
        s->count_change[r->state]++;
        if (r->state == ROW_READY && x->due_unix > s->now_unix)
            store_add_wake(s, r->domain, x->due_unix);
        else if (r->state == ROW_READY)
            store_tell_lane(s, r->domain, x->message->lane);
        s->final_new |= r->state == ROW_EXPIRE;
    }
    if (x->rcpt_count) {
        struct body_weight weight = store_body_weight(&x->body);
        store_weigh(s, &weight, has_rows);
        store_weigh_new(s, x);
        s->messages_change += has_rows;
        add_to_tally(s, x);
    }
    return x->a && x->a->settle_count ? settle(s, x->a) : OK;
}

/* Also of what came to nothing: its octets are in the segment all the same. */
static void count_envelope(struct store *s, const struct accepted *x)
{
    if (x->is_counted)
        return;
    if (x->envelope.len)
        store_segment_change(s, x->envelope_place.segment, 0, (int64_t)x->envelope.len + SPOOL_RECORD_BYTES);
    if (x->result)
        store_weigh_new(s, x);
}

/* ---- what was delivered before it had rows ---- */

static struct accepted_rcpt *find_rcpt(struct store *s, const struct lease *l, uint32_t no)
{
    struct accepted *x = &s->accepts[l->unsettled - 1];
    struct accepted_rcpt *rows = &s->accepted_rcpts[x->first_rcpt];

    if (no < x->rcpt_count && rows[no].no == no) /* nearly always: one domain, in order */
        return &rows[no];
    for (uint32_t i = 0; i < x->rcpt_count; i++)
        if (rows[i].no == no)
            return &rows[i];
    return NULL;
}

bool store_is_gone(struct store *s, uint64_t message_id, uint32_t no)
{
    const struct lease *l = leases_find(&s->leases, message_id);
    const struct accepted_rcpt *r = l && l->unsettled ? find_rcpt(s, l, no) : NULL;

    return r && r->gone;
}

static void mark_gone(struct store *s, const struct attempt *a)
{
    struct lease *l = leases_find(&s->leases, a->message_id);
    struct accepted_rcpt *r =
        l && l->unsettled && a->then == THEN_REMOVE ? find_rcpt(s, l, a->rcpt_no) : NULL;

    if (!r || r->gone)
        return;
    r->gone = true;
    l->left--;
    s->accepts[l->unsettled - 1].gone++;
}

/* The results that store_apply_results will take in this transaction. */
static void mark_delivered(struct store *s)
{
    size_t applied = 0;

    LIST_FOREACH (node, &s->results) {
        const struct results *r = LIST_ENTRY(node, struct results, node);
        if (applied > TURN_RESULTS)
            return;
        for (const struct attempt *a = r->batch->first; a; a = a->next)
            mark_gone(s, a);
        applied += r->batch->count;
    }
}

/* As it was answered: a transaction that failed may have taken some of it for gone. */
static void restore(struct store *s, struct accepted *x)
{
    struct lease *l = leases_find(&s->leases, x->id);

    if (l && l->unsettled)
        l->left = x->rcpt_count;
    for (uint32_t i = 0; x->gone && i < x->rcpt_count; i++)
        s->accepted_rcpts[x->first_rcpt + i].gone = false;
    x->gone = 0;
}

/* What the rows are made of. */
static enum err prepare(struct store *s, struct accepted *x)
{
    if (x->result || !x->rcpt_count || x->gone == x->rcpt_count)
        return OK;
    for (uint32_t i = 0; i < x->rcpt_count; i++) {
        const struct accepted_rcpt *r = &s->accepted_rcpts[x->first_rcpt + i];
        enum err e = r->gone ? OK : store_domain_need(s, r->domain);
        if (e)
            return e;
    }
    if (x->a)
        return OK;
    struct envelope *envelope = ARENA_NEW(&s->settle_arena, struct envelope);
    if (!envelope_parse(buf_bytes(&x->envelope), &s->settle_arena, envelope))
        return ERR_CORRUPT;
    x->message = &envelope->message;
    return OK;
}

static enum err prepare_all(struct store *s, bool with_results)
{
    enum err e = OK;

    for (size_t i = 0; i < s->accept_count; i++)
        if (!s->accepts[i].a)
            restore(s, &s->accepts[i]);
    if (with_results)
        mark_delivered(s);
    arena_fini(&s->settle_arena);
    for (size_t i = 0; !e && i < s->accept_count; i++) {
        if (!s->accepts[i].a)
            s->accepts[i].message = NULL; /* it lay in the arena */
        e = prepare(s, &s->accepts[i]);
    }
    return e;
}

void store_insert_accepts(struct store *s, bool with_results)
{
    bool messages_are_in = false;

    if (s->failed || !s->accept_count)
        return;
    store_begin(s);
    enum err e = s->failed ? s->failed : prepare_all(s, with_results);
    if (!e)
        e = insert(s, 0, s->accept_count, &messages_are_in);
    if (e == ERR_EXISTS) {
        e = messages_are_in ? take_out(s, 0, s->accept_count) : OK;
        if (!e)
            e = insert_singly(s);
    }
    for (size_t i = 0; !e && i < s->accept_count; i++) {
        count_envelope(s, &s->accepts[i]);
        if (!s->accepts[i].result)
            e = count(s, &s->accepts[i]);
    }
    if (e)
        store_fail(s, e == ERR_EXISTS ? ERR_CORRUPT : e);
}
