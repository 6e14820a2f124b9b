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
    *x = (struct accepted){.a = a, .first_hot = s->hot_count};
    size_t need = s->hot_count + (a->message ? a->message->rcpt_count : 0);
    if (need > s->hot_cap) {
        s->hot_cap = MAX_OF(need, MAX_OF(s->hot_cap * 2, (size_t)256));
        s->hot = mem_realloc(s->hot, s->hot_cap * sizeof(*s->hot));
    }
    s->hot_count = need;
    return x;
}

static enum err add_message_row(struct store *s, const struct message *m, const struct spool_place *place)
{
    sqlite3_stmt *st = s->st[ST_MESSAGE_ADD];

    sql_bind_int(st, 1, (int64_t)m->id);
    sql_bind_int(st, 2, m->flags);
    sql_bind_int(st, 3, m->accepted_unix);
    sql_bind_text(st, 4, m->sender);
    sql_bind_text(st, 5, m->campaign);
    sql_bind_text(st, 6, m->envid);
    sql_bind_text(st, 7, m->account);
    sql_bind_int(st, 8, m->ret);
    sql_bind_int(st, 9, m->rcpt_total);
    sql_bind_int(st, 10, (int64_t)place->segment);
    sql_bind_int(st, 11, (int64_t)place->offset);
    sql_bind_int(st, 12, (int64_t)m->body->size_bytes);
    sql_bind_int(st, 13, m->body->header_bytes);
    sql_bind_int(st, 14, m->body->flags);
    sql_bind_int(st, 15, m->body->checksum);
    return sql_run(st);
}

static enum err add_rcpt_row(struct store *s, uint64_t id, const struct rcpt *r, int64_t domain_id, bool hot,
                             int64_t due_unix)
{
    sqlite3_stmt *st = s->st[ST_RCPT_ADD];

    sql_bind_int(st, 1, (int64_t)id);
    sql_bind_int(st, 2, r->no);
    sql_bind_int(st, 3, domain_id);
    sql_bind_int(st, 4, hot ? ROW_FRESH : ROW_READY);
    sql_bind_int(st, 5, due_unix);
    sql_bind_int(st, 6, r->attempts);
    sql_bind_int(st, 7, r->notify);
    sql_bind_int(st, 8, r->delay_notified);
    sql_bind_text(st, 9, r->address);
    sql_bind_text(st, 10, r->orcpt);
    sql_bind_text(st, 11, r->last_text);
    return sql_run(st);
}

/* All recipients; neighbours of one domain share its lookup. */
static enum err add_rcpt_rows(struct store *s, struct accepted *x)
{
    const struct message *m = x->a->message;
    bool later = x->a->not_before_unix > s->now_unix;
    int64_t due = later ? x->a->not_before_unix : s->now_unix;
    struct store_domain *d = NULL;
    enum err e = OK;

    for (uint32_t i = 0; !e && i < m->rcpt_count; i++) {
        const struct rcpt *r = &m->rcpts[i];
        if (!d || (r->domain != m->rcpts[i - 1].domain && strcmp(r->domain, d->name) != 0)) {
            d = store_domain(s, bytes_of(r->domain));
            e = store_domain_need(s, d);
            if (e)
                return e;
        }
        bool hot = !later && !d->cold;
        s->hot[x->first_hot + i] = hot;
        e = add_rcpt_row(s, m->id, r, d->id, hot, due);
        if (e)
            return e;
        s->count_change[hot ? ROW_FRESH : ROW_READY]++;
        if (later)
            store_add_wake(s, d, due);
    }
    return e;
}

/* Recipient numbers that occur twice: our caller's mistake, and no reason to fail the others of this batch.
 */
static enum err take_out(struct store *s, const struct accepted *x)
{
    const struct message *m = x->a->message;
    sqlite3_stmt *rcpts = s->st[ST_RCPT_DELETE_ALL], *message = s->st[ST_MESSAGE_DELETE];

    sql_bind_int(rcpts, 1, (int64_t)m->id);
    enum err e = sql_run(rcpts);
    int gone = sqlite3_changes(s->db);
    if (!e) {
        sql_bind_int(message, 1, (int64_t)m->id);
        e = sql_run(message);
    }
    for (uint32_t i = 0; i < m->rcpt_count && gone > 0; i++, gone--)
        s->count_change[s->hot[x->first_hot + i] ? ROW_FRESH : ROW_READY]--;
    return e;
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

/* ERR_EXISTS and ERR_INVALID concern this message alone; anything else the whole transaction. */
static enum err put(struct store *s, struct accepted *x)
{
    const struct message *m = x->a->message;
    enum err e = spool_put(s->spool, m->id, m->body, &x->place);

    if (e)
        return e == ERR_EXISTS ? ERR_IO : e;
    int64_t octets = (int64_t)m->body->size_bytes + SPOOL_RECORD_BYTES;
    s->put_bytes += m->body->mem ? m->body->size_bytes : 0;
    if (m->body->mem || body_is_new_file(m->body))
        store_segment_change(s, x->place.segment, 0, octets); /* there, whatever becomes of the message */
    e = add_message_row(s, m, &x->place);
    if (e)
        return e;
    e = add_rcpt_rows(s, x);
    if (e == ERR_EXISTS) {
        e = take_out(s, x);
        return e ? ERR_IO : ERR_INVALID;
    }
    if (e)
        return e;
    store_segment_change(s, x->place.segment, octets, 0);
    s->messages_change++;
    add_to_tally(s, m);
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
    if (x->result || s->failed)
        return;
    enum err e = m ? put(s, x) : OK;
    if (e == ERR_EXISTS || e == ERR_INVALID) {
        x->result = e;
        return;
    }
    if (!e)
        e = settle(s, a);
    if (e)
        store_fail(s, e);
}

/* The jobs of one message: a run of recipients of one hot domain each. */
static void hand_out(struct store *s, const struct accepted *x, struct store_jobs **jobs)
{
    struct message *m = x->a->message;
    const bool *hot = s->hot + x->first_hot;

    for (uint32_t from = 0, to; from < m->rcpt_count; from = to) {
        const char *domain = m->rcpts[from].domain;
        for (to = from + 1; to < m->rcpt_count && hot[to] == hot[from] &&
                            (m->rcpts[to].domain == domain || strcmp(m->rcpts[to].domain, domain) == 0);)
            to++;
        if (!hot[from])
            continue;
        for (uint32_t i = from; i < to; i++) {
            struct lease *l = leases_take(&s->leases, m->id, m->rcpts[i].no);
            l->left = m->rcpt_count;
            l->segment = x->place.segment;
            l->size_bytes = m->body->size_bytes;
            l->fresh = true;
        }
        unsigned owner = store_owner(bytes_of(domain), s->config.workers);
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
