/* Accepting: rows and bodies in, jobs for hot domains out once they are committed. */
#include <string.h>

#include "base/mem.h"
#include "queue/store_priv.h"

#define SECS_PER_DAY 86400

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

static struct accepted *add(struct store *s, struct store_accept *a)
{
    if (s->accept_count == s->accept_cap) {
        s->accept_cap = MAX_OF(s->accept_cap * 2, (size_t)64);
        s->accepts = mem_realloc(s->accepts, s->accept_cap * sizeof(*s->accepts));
    }
    struct accepted *x = &s->accepts[s->accept_count++];
    *x = (struct accepted){.a = a, .first_rcpt = s->accepted_rcpt_count};
    size_t need = s->accepted_rcpt_count + (a->message ? a->message->rcpt_count : 0);
    if (need > s->accepted_rcpt_cap) {
        s->accepted_rcpt_cap = MAX_OF(need, MAX_OF(s->accepted_rcpt_cap * 2, (size_t)256));
        s->accepted_rcpts = mem_realloc(s->accepted_rcpts, s->accepted_rcpt_cap * sizeof(*s->accepted_rcpts));
    }
    s->accepted_rcpt_count = need;
    return x;
}

/* Where each recipient goes is decided now, in the order of the notes; neighbours of one domain share its
 * lookup. */
static enum err route(struct store *s, struct accepted *x)
{
    const struct message *m = x->a->message;
    struct accepted_rcpt *rows = &s->accepted_rcpts[x->first_rcpt];
    bool later = x->a->not_before_unix > s->now_unix;
    enum row_state state = store_campaign_state(s, m->campaign);
    struct store_domain *d = NULL;

    x->due_unix = later ? x->a->not_before_unix : s->now_unix;
    for (uint32_t i = 0; i < m->rcpt_count; i++) {
        const struct rcpt *r = &m->rcpts[i];
        if (!d || (r->domain != m->rcpts[i - 1].domain && strcmp(r->domain, d->name) != 0)) {
            d = store_domain(s, bytes_of(r->domain));
            enum err e = store_domain_need(s, d);
            if (e)
                return e;
        }
        bool hot = !later && !d->cold && state == ROW_READY;
        rows[i] = (struct accepted_rcpt){d, hot, (uint8_t)(hot ? ROW_FRESH : state)};
    }
    return OK;
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

static void add_to_tally(struct store *s, const struct message *m)
{
    struct tally *t = &s->tally;
    const char *campaign = m->campaign ? m->campaign : "";
    int64_t day = m->accepted_unix / SECS_PER_DAY;

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
    t->last->rcpts += m->rcpt_count;
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

static enum err put_body(struct store *s, struct accepted *x)
{
    const struct message *m = x->a->message;
    enum err e = spool_put(s->spool, m->id, m->body, &x->place);

    if (e)
        return e;
    s->put_bytes += m->body->mem ? m->body->size_bytes : 0;
    if (m->body->mem || body_is_new_file(m->body)) /* there, whatever becomes of the message */
        store_segment_change(s, x->place.segment, 0, (int64_t)m->body->size_bytes + SPOOL_RECORD_BYTES);
    return OK;
}

void store_take_accept(struct note *note, void *store)
{
    struct store *s = store;
    struct store_accept *a = CONTAINER_OF(note, struct store_accept, req.note);
    struct message *m = a->message;
    struct accepted *x = add(s, a);

    if (spool_is_full(s->spool))
        x->result = ERR_NOSPACE;
    else if (m && (!m->rcpt_count || !m->id || m->id > INT64_MAX || !body_is_there(s, m->body)))
        x->result = ERR_INVALID;
    store_begin(s);
    if (x->result || s->failed || !m)
        return;
    enum err e = put_body(s, x);
    if (!e)
        e = route(s, x);
    if (e)
        store_fail(s, e);
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
        if (s->accepts[i].result || !s->accepts[i].a->message)
            continue;
        sql_bind_int(st, 1, (int64_t)s->accepts[i].a->message->id);
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
        if (x->result || !x->a->message)
            continue;
        e = insert(s, i, i + 1, &message_is_in);
        if (e != ERR_EXISTS)
            continue;
        e = message_is_in ? take_out(s, i, i + 1) : OK;
        x->result = message_is_in ? ERR_INVALID : ERR_EXISTS;
    }
    return e;
}

/* The rows are in: sums, wakes, and what the accept settles. */
static enum err count(struct store *s, const struct accepted *x)
{
    const struct message *m = x->a->message;

    if (m) {
        for (uint32_t i = 0; i < m->rcpt_count; i++) {
            const struct accepted_rcpt *r = &s->accepted_rcpts[x->first_rcpt + i];
            s->count_change[r->state]++;
            if (r->state == ROW_READY && x->due_unix > s->now_unix)
                store_add_wake(s, r->domain, x->due_unix);
            else if (r->state == ROW_READY)
                store_tell_lane(s, r->domain, m->lane);
            s->final_new |= r->state == ROW_EXPIRE;
        }
        store_segment_change(s, x->place.segment, (int64_t)m->body->size_bytes + SPOOL_RECORD_BYTES, 0);
        s->messages_change++;
        add_to_tally(s, m);
    }
    return x->a->settle_count ? settle(s, x->a) : OK;
}

void store_insert_accepts(struct store *s)
{
    bool messages_are_in;

    if (s->failed || !s->accept_count)
        return;
    enum err e = insert(s, 0, s->accept_count, &messages_are_in);
    if (e == ERR_EXISTS) {
        e = messages_are_in ? take_out(s, 0, s->accept_count) : OK;
        if (!e)
            e = insert_singly(s);
    }
    for (size_t i = 0; !e && i < s->accept_count; i++)
        if (!s->accepts[i].result)
            e = count(s, &s->accepts[i]);
    if (e)
        store_fail(s, e == ERR_EXISTS ? ERR_CORRUPT : e);
}

/* The jobs of one message: a run of recipients of one hot domain each. */
static void hand_out(struct store *s, const struct accepted *x, struct store_jobs **jobs)
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
            l->segment = x->place.segment;
            l->size_bytes = m->body->size_bytes;
            l->fresh = true;
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

static void set_place(struct body *b, const struct spool_place *place)
{
    if (b->segment != place->segment || b->offset != place->offset) {
        b->segment = place->segment;
        b->offset = place->offset;
    }
    body_keep_file(b);
}

void store_finish_accepts(struct store *s)
{
    struct store_jobs **jobs = mem_zalloc(s->config.workers * sizeof(struct store_jobs *));
    uint64_t messages = 0, rcpts = 0;

    for (size_t i = 0; i < s->accept_count; i++) {
        struct accepted *x = &s->accepts[i];
        if (x->result || !x->a->message)
            continue;
        set_place(x->a->message->body, &x->place);
        hand_out(s, x, jobs);
        messages++;
        rcpts += x->a->message->rcpt_count;
    }
    pthread_mutex_lock(&s->shared_lock);
    s->stats.accepted_messages += messages;
    s->stats.accepted_rcpts += rcpts;
    pthread_mutex_unlock(&s->shared_lock);
    for (size_t i = 0; i < s->accept_count; i++)
        store_reply(&s->accepts[i].a->req, s->accepts[i].result);
    s->accept_count = 0;
    for (unsigned w = 0; w < s->config.workers; w++)
        if (jobs[w])
            inbox_post(s->config.inboxes[w], &jobs[w]->note);
    mem_free(jobs);
}

void store_fail_accepts(struct store *s, enum err e)
{
    for (size_t i = 0; i < s->accept_count; i++) {
        enum err own = s->accepts[i].result;
        store_reply(&s->accepts[i].a->req, own ? own : e);
    }
    s->accept_count = 0;
}
