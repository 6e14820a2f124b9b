/* One turn of the store thread: from the notes to the commit to the answers (see store_priv.h). */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "queue/keep.h"
#include "queue/store_priv.h"

#define TURN_NOTES     1024 /* so that the first of a burst does not wait for the last */
#define TURN_PUT_BYTES (32U * 1024 * 1024)
#define RETRY_MS_MAX   2000
#define SETTLE_MS      250 /* so often a reader asks whether the store is stuck */
#define SYNC_ASIDE     8   /* accepts from which another thread's help is worth its waking */

void store_note_error(struct store *s, const char *what, enum err e)
{
    /* Else the spool failed, or SQLite has had a success since. */
    bool by_sqlite = e != ERR_EXISTS && sql_err(sqlite3_errcode(s->db)) == e;
    const char *said = by_sqlite ? sqlite3_errmsg(s->db) : "";

    log_error(NULL, "store.error", LOG_STR("at", what), LOG_ERR(e), LOG_STR("sqlite", said));
    pthread_mutex_lock(&s->shared_lock);
    snprintf(s->stats.last_error, sizeof(s->stats.last_error), "%s: %s%s%s%s", what, err_text(e),
             *said ? " (" : "", said, *said ? ")" : "");
    pthread_mutex_unlock(&s->shared_lock);
}

void store_fail(struct store *s, enum err e)
{
    if (!s->failed)
        s->failed = e;
}

void store_begin(struct store *s)
{
    if (s->in_txn || s->failed)
        return;
    enum err e = sql_run(s->st[ST_BEGIN]);
    if (e)
        store_fail(s, e);
    else
        s->in_txn = true;
}

static void free_request(struct store_request *r)
{
    switch ((enum request_type)r->type) {
    case REQ_ACCEPT: store_accept_destroy(CONTAINER_OF(r, struct store_accept, req)); break;
    case REQ_PAGE: store_page_destroy(CONTAINER_OF(r, struct store_page, req)); break;
    case REQ_OP: store_op_destroy(CONTAINER_OF(r, struct store_op, req)); break;
    case REQ_FINAL_PAGE: store_final_page_destroy(CONTAINER_OF(r, struct store_final_page, req)); break;
    case REQ_POLICY: store_policy_save_destroy(CONTAINER_OF(r, struct store_policy_save, req)); break;
    case REQ_KEEP_PUT:
    case REQ_KEEP_GET: store_keep_destroy(CONTAINER_OF(r, struct store_keep, req)); break;
    case REQ_ACCOUNT: store_account_destroy(CONTAINER_OF(r, struct store_account, req)); break;
    }
}

static void run_reply(struct note *note, void *owner)
{
    struct store_request *r = CONTAINER_OF(note, struct store_request, note);
    r->on_reply(note, owner);
}

void store_reply(struct store_request *r, enum err e)
{
    r->result = e;
    if (!r->reply_to) {
        free_request(r);
        return;
    }
    r->note.run = run_reply;
    inbox_post(r->reply_to, &r->note);
}

struct waiting *store_wait(struct list *l, struct store_request *r)
{
    struct waiting *w = MEM_NEW(struct waiting);

    w->req = r;
    list_push_back(l, &w->node);
    return w;
}

void store_count(struct store *s, enum row_state from, enum row_state to)
{
    s->count_change[from]--;
    s->count_change[to]++;
}

void store_end_lease(struct store *s, uint64_t message_id, uint32_t no, bool removed)
{
    if (s->end_count == s->end_cap) {
        s->end_cap = MAX_OF(s->end_cap * 2, (size_t)256);
        s->ends = mem_realloc(s->ends, s->end_cap * sizeof(*s->ends));
    }
    s->ends[s->end_count++] = (struct row_key){message_id, no, removed};
}

static struct store_wake_item *add_item(struct wake_list *w)
{
    if (w->count == w->cap) {
        w->cap = MAX_OF(w->cap * 2, (size_t)64);
        w->items = mem_realloc(w->items, w->cap * sizeof(*w->items));
    }
    return &w->items[w->count++];
}

void store_add_wake(struct store *s, struct store_domain *d, int64_t due_unix)
{
    struct wake_list *w = &s->wakes[d->owner];

    if (d->woken_in == s->turn) {
        if (due_unix < w->items[d->wake_at].due_unix)
            w->items[d->wake_at].due_unix = due_unix;
        return;
    }
    d->woken_in = s->turn;
    d->wake_at = (uint32_t)w->count;
    *add_item(w) = (struct store_wake_item){mem_dup(d->name, d->name_len), due_unix, -1};
}

void store_add_lane_wake(struct store *s, struct store_domain *d, uint16_t lane)
{
    *add_item(&s->wakes[d->owner]) =
        (struct store_wake_item){mem_dup(d->name, d->name_len), s->now_unix, lane};
}

void store_wake_destroy(struct store_wake *w)
{
    if (!w)
        return;
    for (size_t i = 0; i < w->count; i++)
        mem_free(w->items[i].domain);
    mem_free(w->items);
    mem_free(w);
}

static void forget_wakes(struct store *s)
{
    for (unsigned i = 0; i < s->config.workers; i++) {
        for (size_t k = 0; k < s->wakes[i].count; k++) {
            struct store_wake_item *item = &s->wakes[i].items[k];
            struct store_domain *d = item->lane < 0 ? NULL : map_find(&s->domains, bytes_of(item->domain));
            if (d)
                store_set_told(d, (uint16_t)item->lane, false);
            mem_free(item->domain);
        }
        s->wakes[i].count = 0;
    }
}

static void send_wakes(struct store *s)
{
    for (unsigned i = 0; i < s->config.workers; i++) {
        struct wake_list *list = &s->wakes[i];
        if (!list->count)
            continue;
        struct store_wake *w = MEM_NEW(struct store_wake);
        w->count = list->count;
        w->items = mem_alloc(list->count * sizeof(*list->items));
        memcpy(w->items, list->items, list->count * sizeof(*list->items));
        list->count = 0;
        w->note.run = s->config.on_wake;
        inbox_post(s->config.inboxes[i], &w->note);
    }
}

static void tell_final_due(struct store *s)
{
    if (!s->final_new || s->final_noted || !atomic_load(&s->started))
        return;
    s->final_new = false;
    s->final_noted = true;
    struct note *note = MEM_NEW(struct note);
    note->run = s->config.on_final_due;
    inbox_post(s->config.inboxes[0], note);
}

static enum err write_sums(struct store *s)
{
    sqlite3_stmt *st = s->st[ST_COUNTER_PUT];
    bool changed = s->messages_change != 0;

    for (int i = 0; i < ROW_STATES; i++) {
        sql_bind_int(st, 2 + i, s->counts[i] + s->count_change[i]);
        changed |= s->count_change[i] != 0;
    }
    if (!changed)
        return OK;
    sql_bind_int(st, 1, s->messages + s->messages_change);
    return sql_run(st);
}

static enum err commit(struct store *s)
{
    enum err e = spool_sync(s->spool); /* bodies first: a committed row never points to what is not there */

    if (!e)
        e = store_write_segments(s);
    if (!e)
        e = write_sums(s);
    if (!e)
        e = store_write_tally(s);
    if (e)
        return e;
    e = sql_run(s->st[ST_COMMIT]);
    if (!e)
        s->in_txn = false;
    return e;
}

static void forget_changes(struct store *s)
{
    memset(s->count_change, 0, sizeof(s->count_change));
    s->messages_change = 0;
    s->end_count = 0;
    s->put_bytes = 0;
    store_forget_tally(s);
}

static void take_back(struct store *s, bool commit_failed)
{
    sql_rollback(s->db);
    s->in_txn = false;
    for (size_t i = 0; i < s->end_count; i++) {
        struct lease *l = leases_find(&s->leases, s->ends[i].message_id);
        if (l)
            l->left = LEASE_LEFT_UNKNOWN; /* it was counted down for rows that are back */
    }
    spool_undo(s->spool, commit_failed);
    store_keep_segments(s, false);
    store_forget_contents(s);
    store_mover_done(s, false);
    store_clock_done(s, false);
    store_domains_taken_back(s);
    store_ops_taken_back(s);
    forget_wakes(s);
    forget_changes(s);
    if (s->start_in_txn) { /* its wakes are lost: once more */
        s->fresh_id = 0;
        s->fresh_done = false;
        store_walk_taken_back(s);
    }
    s->start_in_txn = false;
    s->final_new =
        s->final_new ||
        s->counts[ROW_DSN] + s->counts[ROW_BOUNCE] + s->counts[ROW_EXPIRE] + s->counts[ROW_CANCEL] > 0;
}

static void note_commit(struct store *s, uint64_t took_us, size_t batch)
{
    pthread_mutex_lock(&s->shared_lock);
    s->stats.commits++;
    s->stats.commit_us_total += took_us;
    s->stats.batch_max = MAX_OF(s->stats.batch_max, (uint64_t)batch);
    pthread_mutex_unlock(&s->shared_lock);
}

static void keep(struct store *s, uint64_t took_us)
{
    for (int i = 0; i < ROW_STATES; i++)
        s->counts[i] += s->count_change[i];
    s->messages += s->messages_change;
    s->new_domain_count = 0;
    spool_keep(s->spool);
    store_keep_segments(s, true);
    store_mover_done(s, true);
    store_clock_done(s, true);
    note_commit(s, took_us, s->unanswered);
    store_finish_accepts(s);
    store_finish_results(s);
    store_finish_admins(s, OK);
    store_finish_ops(s, OK);
    for (size_t i = 0; i < s->end_count; i++)
        (void)leases_drop(&s->leases, s->ends[i].message_id, s->ends[i].no);
    forget_changes(s);
    s->start_in_txn = false;
    s->failures = 0;
    s->retry_at_ms = 0;
}

/* All that is not an accept: returned jobs, results, what operators want, background work. */
static void apply_rest(struct store *s)
{
    store_apply_results(s);
    if (!s->failed)
        store_apply_admins(s);
    if (!s->failed)
        (void)store_step_start(s);
    if (!s->failed)
        store_clock_step(s);
    /* What an operator wants is for rows whose results came before, too: their leases end with this commit.
     */
    s->ops_wait = s->results_in_txn > 0 && !s->ops_wait;
    if (!s->failed && !s->ops_wait)
        store_step_ops(s);
    if (!s->failed)
        store_domains_forget_step(s);
    if (!s->failed)
        store_keep_prune_step(s);
    if (!s->failed)
        store_mover_step(s);
}

static enum err try_commit(struct store *s)
{
    bool commit_failed = false;

    if (!s->failed && s->in_txn) {
        uint64_t before = clock_now_us();
        enum err e = commit(s);
        if (!e) {
            keep(s, clock_now_us() - before);
            return OK;
        }
        commit_failed = true;
        store_fail(s, e);
    }
    if (!s->failed)
        return OK; /* nothing was to be written */
    enum err e = s->failed;
    store_note_error(s, commit_failed ? "commit" : "write", e);
    take_back(s, commit_failed);
    s->failed = OK;
    if (e == ERR_NOSPACE) {
        s->failed_space = true;
        spool_set_full(s->spool, true);
    }
    return e;
}

static void postpone(struct store *s, enum err e)
{
    s->failures++;
    s->retry_at_ms = clock_now_ms() + MIN_OF(50U << MIN_OF(s->failures, 6U), (unsigned)RETRY_MS_MAX);
    store_finish_admins(s, e);
    store_finish_ops(s, e);
}

static void update_stats(struct store *s)
{
    pthread_mutex_lock(&s->shared_lock);
    s->stats.waiting = (uint64_t)(s->counts[ROW_FRESH] + s->counts[ROW_READY] + s->counts[ROW_EXPIRE] +
                                  s->counts[ROW_BOUNCE] + s->counts[ROW_CANCEL]) +
                       s->accepted_rcpt_count;
    s->stats.held = (uint64_t)s->counts[ROW_HELD];
    s->stats.paused = (uint64_t)s->counts[ROW_PAUSED];
    s->stats.messages = (uint64_t)s->messages + s->accept_count;
    s->stats.domains_cold = s->cold_domains;
    s->stats.leased = s->leases.rcpts;
    s->stats.segments = s->segments.count;
    s->stats.wal_bytes = (uint64_t)s->wal_frames * (uint64_t)(s->page_bytes + 24);
    s->stats.full = spool_is_full(s->spool);
    pthread_mutex_unlock(&s->shared_lock);
}

static bool is_any_early(const struct store *s)
{
    for (size_t i = s->turn_accepts; i < s->accept_count; i++)
        if (s->accepts[i].envelope.len)
            return true;
    return false;
}

/* The bodies and envelopes of this turn could not be made safe: nobody was told anything yet. */
static void fail_early(struct store *s, enum err e)
{
    store_note_error(s, "write", e);
    s->failed = OK;
    spool_undo(s->spool, false);
    store_forget_contents(s);
    if (e == ERR_NOSPACE) {
        s->failed_space = true;
        spool_set_full(s->spool, true);
        (void)store_reserve_spend(s);
    }
    store_fail_accepts(s, e);
    s->put_bytes = 0;
}

/* What this turn accepted goes to stable storage, and is answered where its envelope went with it. */
static void make_safe(struct store *s)
{
    uint64_t before = clock_now_us();

    if (!is_any_early(s)) {
        if (!s->failed) /* the disk works while the rows are written */
            store_fail(s, s->accept_count - s->turn_accepts < SYNC_ASIDE ? spool_flush(s->spool)
                                                                         : spool_sync_begin(s->spool));
        return;
    }
    enum err e = s->failed ? s->failed : spool_sync(s->spool);
    if (e) {
        fail_early(s, e);
        return;
    }
    spool_keep(s->spool);
    s->put_bytes = 0;
    note_commit(s, clock_now_us() - before, s->accept_count - s->turn_accepts);
    store_answer_early(s);
}

static void let_go(struct settle_wait *w)
{
    if (atomic_fetch_sub(&w->holders, 1) > 1)
        return;
    doorbell_fini(&w->bell);
    mem_free(w);
}

static void tell_settled(struct store *s)
{
    for (struct list *node; (node = list_pop(&s->settles));) {
        struct settle_wait *w = LIST_ENTRY(node, struct settle_wait, node);
        doorbell_ring(&w->bell);
        let_go(w);
    }
}

static void settle(struct store *s, bool due)
{
    store_insert_accepts(s, due);
    if (due && !s->failed)
        apply_rest(s);
    enum err e = try_commit(s);
    if (e) {
        bool had_accepts = s->unanswered > 0;
        store_fail_accepts(s, e);
        if (e == ERR_NOSPACE && store_reserve_spend(s))
            due = true;
        s->turn++;
        if (due && had_accepts) { /* whose fault it was is not known: once more, without them */
            store_insert_accepts(s, true);
            if (!s->failed)
                apply_rest(s);
            e = try_commit(s);
        }
        if (e)
            postpone(s, e);
    }
    s->settle_at_ms = s->accept_count || s->results_listed ? clock_now_ms() : 0;
    store_serve_pages(s);
    store_serve_final_pages(s);
    send_wakes(s);
    tell_final_due(s);
    tell_settled(s);
    if (!s->accept_count)
        store_domains_sweep(s);
    store_checkpoint(s);
}

void store_turn(struct store *s, struct note *chain)
{
    bool due = !s->retry_at_ms || clock_now_ms() >= s->retry_at_ms;

    s->turn++;
    store_update_now(s);
    s->turn_accepts = s->accept_count;
    for (unsigned n = 0; chain && n < TURN_NOTES && s->put_bytes < TURN_PUT_BYTES; n++) {
        struct note *next = chain->next;
        chain->run(chain, s);
        chain = next;
    }
    s->rest = chain;
    if (s->accept_count > s->turn_accepts)
        make_safe(s);
    if (store_must_settle(s, due))
        settle(s, due);
    update_stats(s);
}

static void take_settle(struct note *note, void *store)
{
    list_push_back(&((struct store *)store)->settles, &CONTAINER_OF(note, struct settle_wait, note)->node);
}

bool store_settle(struct store *s)
{
    struct settle_wait *w = MEM_NEW(struct settle_wait);

    w->note.run = take_settle;
    list_init(&w->node);
    doorbell_init(&w->bell);
    atomic_init(&w->holders, 2);
    inbox_post(&s->inbox, &w->note);
    bool settled;
    do
        settled = doorbell_wait(&w->bell, SETTLE_MS);
    while (!settled && !pulse_is_stuck(&s->pulse));
    let_go(w);
    return settled;
}

enum err store_commit_quietly(struct store *s)
{
    return try_commit(s);
}

void store_drop_unanswered(struct store *s)
{
    struct list *const requests[] = {&s->pages, &s->final_pages};

    for (size_t i = 0; i < COUNT_OF(requests); i++)
        for (struct list *node; (node = list_pop(requests[i]));) {
            struct waiting *w = LIST_ENTRY(node, struct waiting, node);
            store_reply(w->req, ERR_CLOSED);
            mem_free(w);
        }
    store_finish_admins(s, ERR_CLOSED);
    store_finish_ops(s, ERR_CLOSED);
    store_drop_results(s);
    store_forget_accepts(s); /* of a disk that took no rows: the spool has their envelopes */
    tell_settled(s);
}
