/*
 * Accepting: bodies and envelopes in, answers and jobs for hot domains out once they are synced; rows for
 * what is left when the turn settles.
 */
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "queue/store_priv.h"

#define SECS_PER_DAY 86400
#define SETTLE_RCPTS 8192 /* from so many on, or from so many octets of envelopes, accepts do not wait */
#define SETTLE_BYTES (4U * 1024 * 1024)

void store_post_accept(struct store *s, struct store_accept *a)
{
    a->req.type = REQ_ACCEPT;
    a->req.note.run = store_take_accept;
    inbox_post(&s->inbox, &a->req.note);
}

void store_accept_destroy(struct store_accept *a)
{
    if (!a)
        return;
    message_unref(a->message);
    mem_free(a->settles);
    mem_free(a);
}

void store_jobs_destroy(struct store_jobs *j)
{
    if (!j)
        return;
    for (struct list *node; (node = list_pop(&j->jobs));)
        job_destroy(LIST_ENTRY(node, struct job, node));
    mem_free(j);
}

struct accepted *store_add_accepted(struct store *s, uint32_t rcpts)
{
    if (s->accept_count == s->accept_cap) {
        s->accept_cap = MAX_OF(s->accept_cap * 2, (size_t)64);
        s->accepts = mem_realloc(s->accepts, s->accept_cap * sizeof(*s->accepts));
    }
    struct accepted *x = &s->accepts[s->accept_count++];
    *x = (struct accepted){.first_rcpt = s->accepted_rcpt_count, .rcpt_count = rcpts};
    size_t need = s->accepted_rcpt_count + rcpts;
    if (need > s->accepted_rcpt_cap) {
        s->accepted_rcpt_cap = MAX_OF(need, MAX_OF(s->accepted_rcpt_cap * 2, (size_t)256));
        s->accepted_rcpts = mem_realloc(s->accepted_rcpts, s->accepted_rcpt_cap * sizeof(*s->accepted_rcpts));
    }
    s->accepted_rcpt_count = need;
    return x;
}

/* Where each recipient goes is decided now, in the order of the notes; neighbours of one domain share its
 * lookup. */
static void route(struct store *s, struct accepted *x)
{
    const struct message *m = x->message;
    struct accepted_rcpt *rows = &s->accepted_rcpts[x->first_rcpt];
    bool later = x->a->not_before_unix > s->now_unix;
    enum row_state state = store_campaign_state(s, m->campaign);
    struct store_domain *d = NULL;

    x->due_unix = later ? x->a->not_before_unix : s->now_unix;
    for (uint32_t i = 0; i < m->rcpt_count; i++) {
        const struct rcpt *r = &m->rcpts[i];
        if (!d || (r->domain != m->rcpts[i - 1].domain && strcmp(r->domain, d->name) != 0))
            d = store_domain(s, bytes_of(r->domain));
        bool hot = !later && !d->cold && state == ROW_READY;
        rows[i] = (struct accepted_rcpt){
            .domain = d, .no = r->no, .hot = hot, .state = (uint8_t)(hot ? ROW_FRESH : state)};
    }
}

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

static bool body_is_there(struct store *s, const struct body *b)
{
    if (!b)
        return false;
    if (b->mem || b->size_bytes == 0 || body_is_new_file(b))
        return true;
    return store_segment_find(s, b->segment) != NULL;
}

/* ---- the tally: one row a commit for each day and campaign ---- */

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

/* ---- taking ---- */

static enum err put_body(struct store *s, struct accepted *x)
{
    const struct body *b = x->message->body;
    struct spool_place place;
    enum err e = spool_put(s->spool, x->id, b, &place);

    if (e)
        return e;
    s->put_bytes += b->mem ? b->size_bytes : 0;
    x->body_is_new = b->mem || body_is_new_file(b);
    x->body = (struct envelope_body){place.segment,   place.offset, b->size_bytes,
                                     b->header_bytes, b->flags,     b->checksum};
    return OK;
}

/* A number that stands twice would be found out by the table, but only after an early answer. */
static bool numbers_are_distinct(struct store *s, const struct message *m)
{
    if (m->rcpt_count == 1)
        return true;
    memset(s->states, 0, m->rcpt_count);
    for (uint32_t i = 0; i < m->rcpt_count; i++) {
        uint32_t no = m->rcpts[i].no;
        if (no >= m->rcpt_count || s->states[no]++)
            return false;
    }
    return true;
}

static bool may_be_early(struct store *s, const struct accepted *x)
{
    return s->config.settle_ms && !s->failures && !x->a->settle_count && x->id >= s->first_id &&
           !leases_find(&s->leases, x->id) && numbers_are_distinct(s, x->message);
}

static enum err put_envelope(struct store *s, struct accepted *x)
{
    const struct accepted_rcpt *rows = &s->accepted_rcpts[x->first_rcpt];

    for (uint32_t i = 0; i < x->rcpt_count; i++)
        s->states[i] = rows[i].state;
    buf_reserve(&x->envelope, 256);
    envelope_put(&x->envelope, x->message, &x->body, s->states, x->due_unix);
    s->envelope_bytes += x->envelope.len;
    return spool_put_envelope(s->spool, x->id, buf_bytes(&x->envelope), &x->envelope_place);
}

static void reserve_states(struct store *s, size_t count)
{
    if (count <= s->state_cap)
        return;
    s->state_cap = MAX_OF(count, (size_t)256);
    s->states = mem_realloc(s->states, s->state_cap);
}

void store_take_accept(struct note *note, void *store)
{
    struct store *s = store;
    struct store_accept *a = CONTAINER_OF(note, struct store_accept, req.note);
    const struct message *m = a->message;
    struct accepted *x = store_add_accepted(s, m ? m->rcpt_count : 0);

    x->a = a;
    x->message = m;
    x->id = m ? m->id : 0;
    s->unanswered++;
    store_settle_by(s);
    if (spool_is_full(s->spool))
        x->result = ERR_NOSPACE;
    else if (m && (!m->rcpt_count || !m->id || m->id > INT64_MAX || !body_is_there(s, m->body)))
        x->result = ERR_INVALID;
    if (x->result || s->failed || !m)
        return;
    reserve_states(s, m->rcpt_count);
    enum err e = put_body(s, x);
    if (!e) {
        route(s, x);
        if (may_be_early(s, x))
            e = put_envelope(s, x);
    }
    if (e)
        store_fail(s, e);
}

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
        int64_t octets = (int64_t)x->body.size_bytes + SPOOL_RECORD_BYTES;
        store_segment_change(s, x->body.segment, has_rows ? octets : 0, x->body_is_new ? octets : 0);
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
    if (x->result && x->kept && x->body_is_new)
        store_segment_change(s, x->body.segment, 0, (int64_t)x->body.size_bytes + SPOOL_RECORD_BYTES);
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

/* ---- telling ---- */

/* The jobs of one message: a run of recipients of one hot domain each. */
static void hand_out(struct store *s, const struct accepted *x, uint32_t unsettled, struct store_jobs **jobs)
{
    struct message *m = x->a->message;
    const struct accepted_rcpt *rows = &s->accepted_rcpts[x->first_rcpt];

    for (uint32_t from = 0, to; from < m->rcpt_count; from = to) {
        const char *domain = m->rcpts[from].domain;
        for (to = from + 1; to < m->rcpt_count && rows[to].hot == rows[from].hot &&
                            (m->rcpts[to].domain == domain || strcmp(m->rcpts[to].domain, domain) == 0);)
            to++;
        if (!rows[from].hot)
            continue;
        for (uint32_t i = from; i < to; i++) {
            struct lease *l = leases_take(&s->leases, m->id, m->rcpts[i].no);
            l->left = m->rcpt_count;
            l->segment = x->body.segment;
            l->size_bytes = m->body->size_bytes;
            l->fresh = true;
            l->unsettled = unsettled;
        }
        unsigned owner = rows[from].domain->owner;
        if (!jobs[owner]) {
            jobs[owner] = MEM_NEW(struct store_jobs);
            jobs[owner]->note.run = s->config.on_jobs;
            list_init(&jobs[owner]->jobs);
        }
        list_push_back(&jobs[owner]->jobs, &job_create(m, &m->rcpts[from], to - from)->node);
    }
}

static void set_place(struct body *b, const struct envelope_body *place)
{
    if (b->segment != place->segment || b->offset != place->offset) {
        b->segment = place->segment;
        b->offset = place->offset;
    }
    body_keep_file(b);
}

/* One that is safe: its jobs go out, then its answer; the request is gone afterwards. */
struct telling {
    struct store_jobs **jobs;
    uint64_t messages, rcpts;
};

static void tell_job(struct store *s, struct accepted *x, uint32_t unsettled, struct telling *t)
{
    if (x->result || !x->a || !x->message)
        return;
    set_place(x->a->message->body, &x->body);
    hand_out(s, x, unsettled, t->jobs);
    t->messages++;
    t->rcpts += x->rcpt_count;
}

static void answer(struct store *s, struct accepted *x)
{
    store_reply(&TAKE(x->a)->req, x->result);
    x->message = NULL;
    s->unanswered--;
}

static void end_telling(struct store *s, struct telling *t)
{
    pthread_mutex_lock(&s->shared_lock);
    s->stats.accepted_messages += t->messages;
    s->stats.accepted_rcpts += t->rcpts;
    pthread_mutex_unlock(&s->shared_lock);
    for (unsigned w = 0; w < s->config.workers; w++)
        if (t->jobs[w])
            inbox_post(s->config.inboxes[w], &t->jobs[w]->note);
    mem_free(t->jobs);
}

static struct telling begin_telling(struct store *s)
{
    return (struct telling){.jobs = mem_zalloc(s->config.workers * sizeof(struct store_jobs *))};
}

void store_answer_early(struct store *s)
{
    struct telling t = begin_telling(s);

    for (size_t i = s->turn_accepts; i < s->accept_count; i++)
        if (s->accepts[i].envelope.len)
            tell_job(s, &s->accepts[i], (uint32_t)i + 1, &t);
    for (size_t i = s->turn_accepts; i < s->accept_count; i++) {
        s->accepts[i].kept = true;
        if (s->accepts[i].envelope.len || s->accepts[i].result)
            answer(s, &s->accepts[i]);
    }
    end_telling(s, &t);
}

void store_finish_accepts(struct store *s)
{
    struct telling t = begin_telling(s);

    for (size_t i = 0; i < s->accept_count; i++) {
        struct lease *l = s->accepts[i].a ? NULL : leases_find(&s->leases, s->accepts[i].id);
        if (l)
            l->unsettled = 0;
        tell_job(s, &s->accepts[i], 0, &t);
    }
    for (size_t i = 0; i < s->accept_count; i++)
        if (s->accepts[i].a)
            answer(s, &s->accepts[i]);
    store_forget_accepts(s);
    end_telling(s, &t);
}

void store_fail_accepts(struct store *s, enum err e)
{
    for (size_t i = 0; i < s->accept_count; i++) {
        struct accepted *x = &s->accepts[i];
        if (!x->a)
            continue;
        if (!x->result)
            x->result = e;
        answer(s, x);
        if (!x->kept) /* nothing of it is in the spool */
            buf_fini(&x->envelope);
    }
}

void store_forget_accepts(struct store *s)
{
    for (size_t i = 0; i < s->accept_count; i++)
        buf_fini(&s->accepts[i].envelope);
    arena_fini(&s->settle_arena);
    s->accept_count = s->turn_accepts = 0;
    s->accepted_rcpt_count = 0;
    s->envelope_bytes = 0;
}
