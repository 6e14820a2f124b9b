/* What became of attempts: rows go, wait on, or owe a DSN; and jobs that nobody attempted come back. */
#include <string.h>

#include "base/mem.h"
#include "queue/flight.h"
#include "queue/store_priv.h"

static void take_results(struct note *note, void *store)
{
    struct store *s = store;
    struct results *r = CONTAINER_OF(note, struct results, note);

    list_push_back(&s->results, &r->node);
    s->results_listed += r->batch->count;
    store_settle_by(s);
}

void store_post_results(struct store *s, struct attempt_batch *batch, int64_t day, int64_t row)
{
    struct results *r = ARENA_NEW(&batch->arena, struct results);

    r->note.run = take_results;
    r->batch = batch;
    r->day = day;
    r->row = row;
    if (batch->flown) /* their records are on disk: none of them goes again for want of one */
        flight_safe(s->flight, batch->flown);
    atomic_fetch_add(&s->results_waiting, batch->count);
    inbox_post(&s->inbox, &r->note);
}

static void take_returned(struct note *note, void *store)
{
    struct store *s = store;
    list_push_back(&s->returned, &CONTAINER_OF(note, struct returned, note)->node);
}

void store_post_give_back(struct store *s, struct list *jobs)
{
    struct returned *r = MEM_NEW(struct returned);

    r->note.run = take_returned;
    list_init(&r->jobs);
    list_move_all(&r->jobs, jobs);
    inbox_post(&s->inbox, &r->note);
}

struct cold_note {
    struct note note;
    char domain[];
};

static void take_cold(struct note *note, void *store)
{
    struct store *s = store;
    struct cold_note *cold = CONTAINER_OF(note, struct cold_note, note);

    struct store_domain *d = store_domain(s, bytes_of(cold->domain));

    store_set_cold(s, d, true);
    d->cold_order = ++s->page_order; /* pages that wait are read after this note */
    mem_free(cold);
}

void store_post_cold(struct store *s, const char *domain)
{
    size_t len = strlen(domain) + 1;
    struct cold_note *cold = mem_alloc(sizeof(*cold) + len);

    cold->note.run = take_cold;
    memcpy(cold->domain, domain, len);
    inbox_post(&s->inbox, &cold->note);
}

size_t store_backlog(struct store *s)
{
    return atomic_load(&s->results_waiting);
}

enum err store_row_state(struct store *s, uint64_t message_id, uint32_t no, int *state)
{
    sqlite3_stmt *st = s->st[ST_RCPT_STATE];
    bool row;

    sql_bind_int(st, 1, (int64_t)message_id);
    sql_bind_int(st, 2, no);
    enum err e = sql_step(st, &row);
    if (e)
        return e;
    *state = row ? sqlite3_column_int(st, 0) : -1;
    (void)sqlite3_reset(st);
    return OK;
}

static enum err delete_in_state(struct store *s, uint64_t id, uint32_t no, int state, bool *done)
{
    sqlite3_stmt *st = s->st[ST_RCPT_DELETE];

    sql_bind_int(st, 1, (int64_t)id);
    sql_bind_int(st, 2, no);
    sql_bind_int(st, 3, state);
    enum err e = sql_run(st);
    *done = !e && sqlite3_changes(s->db) == 1;
    if (*done)
        s->count_change[state]--;
    return e;
}

static enum err delete_final(struct store *s, uint64_t id, uint32_t no)
{
    sqlite3_stmt *st = s->st[ST_FINAL_DELETE];

    sql_bind_int(st, 1, (int64_t)id);
    sql_bind_int(st, 2, no);
    return sql_run(st);
}

/* Asks the database, where no lease knows: are there rows left, and where does the body lie? */
static enum err look_up_message(struct store *s, uint64_t id, bool *rows_left, struct envelope_body *out)
{
    sqlite3_stmt *any = s->st[ST_RCPT_ANY], *place = s->st[ST_MESSAGE_PLACE];

    sql_bind_int(any, 1, (int64_t)id);
    enum err e = sql_step(any, rows_left);
    if (e)
        return e;
    (void)sqlite3_reset(any);
    if (*rows_left)
        return OK;
    bool row;
    sql_bind_int(place, 1, (int64_t)id);
    e = sql_step(place, &row);
    if (e)
        return e;
    if (!row)
        return ERR_NOT_FOUND;
    *out = (struct envelope_body){.segment = (uint64_t)sqlite3_column_int64(place, 0),
                                  .size_bytes = (uint64_t)sqlite3_column_int64(place, 1),
                                  .header_bytes = (uint32_t)sqlite3_column_int64(place, 3),
                                  .content_segment = (uint64_t)sqlite3_column_int64(place, 4)};
    (void)sqlite3_reset(place);
    return OK;
}

/* So many rows of the message have gone; the message goes with its last one. */
static enum err after_delete(struct store *s, uint64_t id, uint32_t gone)
{
    struct lease *l = leases_find(&s->leases, id);
    struct body_weight weight = {0};
    bool rows_left;
    enum err e = OK;

    if (l && l->left != LEASE_LEFT_UNKNOWN) {
        l->left -= gone;
        rows_left = l->left > 0;
        weight = l->weight;
    } else {
        struct envelope_body body = {0};
        e = look_up_message(s, id, &rows_left, &body);
        weight = store_body_weight(&body);
    }
    if (e || rows_left)
        return e == ERR_NOT_FOUND ? OK : e;
    sql_bind_int(s->st[ST_MESSAGE_DELETE], 1, (int64_t)id);
    e = sql_run(s->st[ST_MESSAGE_DELETE]);
    if (e)
        return e;
    s->messages_change--;
    store_weigh(s, &weight, -1);
    return OK;
}

enum err store_delete_row(struct store *s, uint64_t message_id, uint32_t no)
{
    const struct lease *l = leases_find(&s->leases, message_id);
    int state = l && l->fresh ? ROW_FRESH : ROW_READY; /* a guess that is nearly always right */
    bool done;
    enum err e = delete_in_state(s, message_id, no, state, &done);

    if (!e && !done) {
        e = store_row_state(s, message_id, no, &state);
        if (e || state < 0)
            return e; /* it went before: an answer that came twice */
        e = delete_in_state(s, message_id, no, state, &done);
        if (!e && state == ROW_DSN)
            e = delete_final(s, message_id, no);
    }
    return e ? e : after_delete(s, message_id, 1);
}

/*
 * The recipients of one transaction that were all delivered: one statement, whose cursor goes from row to
 * row. Fewer rows than that have gone when some were in another state, or went before; those are looked at
 * singly.
 */
static enum err delete_run(struct store *s, uint64_t id, uint32_t first, uint32_t count)
{
    const struct lease *l = leases_find(&s->leases, id);
    int state = l && l->fresh ? ROW_FRESH : ROW_READY;
    sqlite3_stmt *st = s->st[ST_RCPT_DELETE_RUN];

    sql_bind_int(st, 1, (int64_t)id);
    sql_bind_int(st, 2, first);
    sql_bind_int(st, 3, (int64_t)first + count - 1);
    sql_bind_int(st, 4, state);
    enum err e = sql_run(st);
    if (e)
        return e;
    uint32_t gone = (uint32_t)sqlite3_changes(s->db);
    s->count_change[state] -= gone;
    if (gone)
        e = after_delete(s, id, gone);
    for (uint32_t no = first; !e && gone < count && no < first + count; no++)
        e = store_delete_row(s, id, no);
    return e;
}

static enum err set_state(struct store *s, uint64_t id, uint32_t no, int from, enum row_state to)
{
    sqlite3_stmt *st = s->st[ST_RCPT_SET_STATE];

    sql_bind_int(st, 1, (int64_t)id);
    sql_bind_int(st, 2, no);
    sql_bind_int(st, 3, to);
    enum err e = sql_run(st);
    if (!e)
        store_count(s, (enum row_state)from, to);
    return e;
}

enum err store_final_row(struct store *s, uint64_t message_id, uint32_t no, const struct outcome *o,
                         const char *mx, int64_t at_unix)
{
    sqlite3_stmt *st = s->st[ST_FINAL_PUT];
    int state;
    enum err e = store_row_state(s, message_id, no, &state);

    if (e || state < 0)
        return e;
    sql_bind_int(st, 1, (int64_t)message_id);
    sql_bind_int(st, 2, no);
    sql_bind_int(st, 3, o->kind);
    sql_bind_int(st, 4, o->stage);
    sql_bind_int(st, 5, o->code);
    sql_bind_text(st, 6, o->enhanced);
    sql_bind_int(st, 7, o->remote);
    sql_bind_int(st, 8, o->in_doubt);
    sql_bind_text(st, 9, o->text);
    sql_bind_text(st, 10, mx);
    sql_bind_int(st, 11, at_unix);
    e = sql_run(st);
    if (!e && state != ROW_DSN)
        e = set_state(s, message_id, no, state, ROW_DSN);
    s->final_new = true;
    return e;
}

/* "451 4.4.3 MX lookup of example.com: timeout" */
static void put_last_text(const struct outcome *o, struct buf *out)
{
    if (o->code)
        buf_putf(out, "%u ", o->code);
    if (o->enhanced[0])
        buf_putf(out, "%s ", o->enhanced);
    buf_puts(out, o->text);
    while (out->len && out->at[out->len - 1] == ' ')
        out->len--;
}

/* An operator's hold, bounce or cancel that came while the attempt ran stands; the attempt is only counted.
 */
static enum err defer(struct store *s, const struct attempt *a)
{
    sqlite3_stmt *st = s->st[ST_RCPT_DEFER];
    int64_t due = MAX_OF(a->due_unix, s->now_unix);
    int state;
    enum err e = store_row_state(s, a->message_id, a->rcpt_no, &state);

    if (e || state < 0 || state == ROW_DSN)
        return e;
    bool waits = state == ROW_FRESH || state == ROW_READY;
    int to = waits ? (int)store_campaign_state(s, a->campaign) : state;
    sql_bind_int(st, 1, (int64_t)a->message_id);
    sql_bind_int(st, 2, a->rcpt_no);
    sql_bind_int(st, 3, to);
    sql_bind_int(st, 4, due);
    sql_bind_int(st, 5, a->attempts);
    BUF_LOCAL(last);
    put_last_text(&a->outcome, &last);
    sql_bind_text(st, 6, last.len ? buf_str(&last) : NULL);
    e = sql_run(st);
    sql_bind_text(st, 6, NULL); /* the text was borrowed */
    if (e)
        return e;
    if (state != to)
        store_count(s, (enum row_state)state, (enum row_state)to);
    if (to == ROW_READY)
        store_add_wake(s, store_domain(s, bytes_of(a->domain)), due);
    else
        s->final_new |= to == ROW_BOUNCE || to == ROW_CANCEL || to == ROW_EXPIRE;
    return OK;
}

static enum err apply(struct store *s, const struct attempt *a)
{
    enum err e = OK;

    switch (a->then) {
    case THEN_NOTHING: return OK;
    case THEN_REMOVE:
        if (!store_is_gone(s, a->message_id, a->rcpt_no))
            e = store_delete_row(s, a->message_id, a->rcpt_no);
        break;
    case THEN_DEFER: e = defer(s, a); break;
    case THEN_DSN:
        e = store_final_row(s, a->message_id, a->rcpt_no, &a->outcome, a->mx, a->at_unix_ms / 1000);
        break;
    }
    store_end_lease(s, a->message_id, a->rcpt_no, a->then == THEN_REMOVE);
    return e;
}

/* How many attempts from here on end neighbouring recipients of one message. */
static uint32_t run_length(const struct attempt *a)
{
    uint32_t n = 1;

    if (a->then != THEN_REMOVE)
        return n;
    for (const struct attempt *b = a->next;
         b && b->then == THEN_REMOVE && b->message_id == a->message_id && b->rcpt_no == a->rcpt_no + n;
         b = b->next)
        n++;
    return n;
}

static enum err apply_batch(struct store *s, const struct attempt_batch *batch)
{
    enum err e = OK;

    for (const struct attempt *a = batch->first; a && !e;) {
        uint32_t run = run_length(a);
        if (run == 1)
            e = apply(s, a);
        else if (!store_is_gone(s, a->message_id, a->rcpt_no)) /* all of them, then */
            e = delete_run(s, a->message_id, a->rcpt_no, run);
        for (uint32_t i = 0; i < run; i++, a = a->next)
            if (run > 1)
                store_end_lease(s, a->message_id, a->rcpt_no, true);
    }
    return e;
}

static enum err put_meta(struct store *s, const char *key, int64_t value)
{
    sqlite3_stmt *st = s->st[ST_META_PUT];

    sql_bind_text(st, 1, key);
    sql_bind_int(st, 2, value);
    return sql_run(st);
}

static enum err put_position(struct store *s, int64_t day, int64_t row)
{
    enum err e = put_meta(s, "history_day", day);
    return e ? e : put_meta(s, "history_row", row);
}

/* Its campaign is paused or over.  It may be gone: then nothing waits that could be stopped. */
static enum err stop(struct store *s, uint64_t id, uint32_t no, enum row_state to)
{
    int state;
    enum err e = store_row_state(s, id, no, &state);

    if (e || state != ROW_READY)
        return e;
    s->final_new |= to == ROW_EXPIRE;
    return set_state(s, id, no, state, to);
}

void store_expect_end(struct store *s)
{
    atomic_store(&s->ending, true);
}

/* Nobody will page it any more in this run, and its rows say what they said before it was handed out. */
static bool may_be_let_go(const struct store *s, const struct job *j)
{
    const struct lease *l = leases_find(&s->leases, j->message->id);

    return atomic_load_explicit(&s->ending, memory_order_relaxed) && l && !l->fresh && !l->unsettled;
}

static enum err give_back(struct store *s, const struct job *j)
{
    if (may_be_let_go(s, j)) {
        for (uint32_t i = 0; i < j->rcpt_count; i++)
            store_end_lease(s, j->message->id, j->rcpts[i].no, false);
        return OK;
    }
    enum row_state to = store_campaign_state(s, j->message->campaign);
    struct store_domain *d = j->rcpt_count ? store_domain(s, bytes_of(j->rcpts[0].domain)) : NULL;
    sqlite3_stmt *st = s->st[ST_RCPT_GIVE_BACK];
    enum err e = OK;

    for (uint32_t i = 0; !e && i < j->rcpt_count; i++) {
        int state = -1;
        sql_bind_int(st, 1, (int64_t)j->message->id);
        sql_bind_int(st, 2, j->rcpts[i].no);
        sql_bind_int(st, 3, s->now_unix);
        e = sql_run(st);
        if (!e && sqlite3_changes(s->db) == 1)
            store_count(s, ROW_FRESH, ROW_READY);
        else if (!e)
            e = store_row_state(s, j->message->id, j->rcpts[i].no, &state);
        if (!e && to != ROW_READY && (state < 0 || state == ROW_READY))
            e = stop(s, j->message->id, j->rcpts[i].no, to);
        s->final_new |= state == ROW_BOUNCE || state == ROW_CANCEL || state == ROW_EXPIRE || state == ROW_DSN;
        store_end_lease(s, j->message->id, j->rcpts[i].no, false);
    }
    if (d && !d->cold) /* nobody pages a hot domain: its worker must know */
        store_add_wake(s, d, s->now_unix);
    else if (d && to == ROW_READY)
        store_tell_lane(s, d, j->message->lane);
    return e;
}

void store_apply_results(struct store *s)
{
    enum err e = OK;
    int64_t day = -1, row = 0;
    size_t applied = 0;

    s->returned_in_txn = s->results_in_txn = 0;
    LIST_FOREACH (node, &s->returned) {
        store_begin(s);
        if (s->failed)
            return;
        LIST_FOREACH (job, &LIST_ENTRY(node, struct returned, node)->jobs)
            e = e ? e : give_back(s, LIST_ENTRY(job, struct job, node));
        s->returned_in_txn++;
    }
    LIST_FOREACH (node, &s->results) {
        const struct results *r = LIST_ENTRY(node, struct results, node);
        store_begin(s);
        if (s->failed || applied > TURN_RESULTS)
            break;
        e = e ? e : apply_batch(s, r->batch);
        applied += r->batch->count;
        day = r->day;
        row = r->row;
        s->results_in_txn++;
    }
    if (!e && day >= 0 && !s->failed)
        e = put_position(s, day, row);
    if (e)
        store_fail(s, e == ERR_EXISTS ? ERR_CORRUPT : e);
}

static void count_outcomes(struct store_stats *stats, const struct attempt_batch *b)
{
    for (const struct attempt *a = b->first; a; a = a->next) {
        if (a->then == THEN_NOTHING)
            continue;
        switch (a->outcome.kind) {
        case OUTCOME_DELIVERED: stats->delivered++; break;
        case OUTCOME_DEFERRED: stats->deferred++; break;
        case OUTCOME_BOUNCED: stats->bounced++; break;
        case OUTCOME_EXPIRED: stats->expired++; break;
        case OUTCOME_CANCELLED: stats->cancelled++; break;
        }
    }
}

static void returned_destroy(struct returned *r)
{
    for (struct list *node; (node = list_pop(&r->jobs));)
        job_destroy(LIST_ENTRY(node, struct job, node));
    mem_free(r);
}

void store_finish_results(struct store *s)
{
    for (; s->returned_in_txn; s->returned_in_txn--)
        returned_destroy(LIST_ENTRY(list_pop(&s->returned), struct returned, node));
    for (; s->results_in_txn; s->results_in_txn--) {
        struct results *r = LIST_ENTRY(list_pop(&s->results), struct results, node);
        s->history_day = r->day;
        s->history_row = r->row;
        s->results_listed -= r->batch->count;
        pthread_mutex_lock(&s->shared_lock);
        count_outcomes(&s->stats, r->batch);
        pthread_mutex_unlock(&s->shared_lock);
        atomic_fetch_sub(&s->results_waiting, r->batch->count);
        attempt_batch_destroy(r->batch); /* r lies in its arena */
    }
}

static enum err replay_one(void *arg, uint64_t message_id, uint32_t rcpt_no, enum attempt_then then,
                           const struct outcome *o)
{
    struct store *s = arg;

    if (then == THEN_REMOVE)
        return store_delete_row(s, message_id, rcpt_no);
    if (then == THEN_DSN)
        return store_final_row(s, message_id, rcpt_no, o, NULL, s->now_unix);
    return OK;
}

/* Before anything is handed out: recipients whose end history knows and the queue does not yet. */
enum err store_replay(struct store *s, char **why)
{
    int64_t day = s->history_day, row = s->history_row;

    store_begin(s);
    enum err e = s->failed;
    if (!e)
        e = history_replay(s->dir, s->history_day, s->history_row, replay_one, s, &day, &row);
    if (!e && (day != s->history_day || row != s->history_row))
        e = put_position(s, day, row);
    if (!e) {
        s->history_day = day;
        s->history_row = row;
        return OK;
    }
    BUF_LOCAL(text);
    buf_putf(&text,
             "cannot apply what %s/history holds to the queue: %s; see that its files are readable and that "
             "the disk has space",
             s->dir, err_text(e));
    *why = buf_take(&text);
    return e;
}

void store_drop_results(struct store *s)
{
    for (struct list *node; (node = list_pop(&s->returned));)
        returned_destroy(LIST_ENTRY(node, struct returned, node));
    for (struct list *node; (node = list_pop(&s->results));)
        attempt_batch_destroy(LIST_ENTRY(node, struct results, node)->batch);
}
