/* Pages: due rows of one domain that nobody holds, as jobs; whose they are is decided in store_turns.c. */
#include <string.h>

#include "base/mem.h"
#include "queue/store_priv.h"

#define TURN_PAGE_ROWS 2000 /* asked for by the pages that one turn serves */

static void take_page(struct note *note, void *store)
{
    struct store *s = store;
    store_wait(&s->pages, CONTAINER_OF(note, struct store_request, note))->order = ++s->page_order;
}

void store_post_page(struct store *s, struct store_page *p)
{
    p->limit = MIN_OF(p->limit, (uint32_t)STORE_PAGE_MAX);
    p->req.type = REQ_PAGE;
    p->req.note.run = take_page;
    list_init(&p->jobs);
    inbox_post(&s->inbox, &p->req.note);
}

void store_page_destroy(struct store_page *p)
{
    if (!p)
        return;
    for (struct list *node; p->jobs.next && (node = list_pop(&p->jobs));)
        job_destroy(LIST_ENTRY(node, struct job, node));
    mem_free(p->left);
    mem_free(p->domain);
    mem_free(p);
}

enum err store_load_message(struct store *s, uint64_t id, struct message *out, struct arena *arena)
{
    sqlite3_stmt *st = s->st[ST_PAGE_MESSAGE];
    bool row;

    sql_bind_int(st, 1, (int64_t)id);
    enum err e = sql_step(st, &row);
    if (e || !row)
        return e ? e : ERR_NOT_FOUND;
    memset((void *)out, 0, sizeof(*out));
    out->id = id;
    out->flags = (uint32_t)sqlite3_column_int64(st, 0);
    out->accepted_unix = sqlite3_column_int64(st, 1);
    out->sender = sql_text_dup(st, 2, arena);
    out->campaign = sql_text_dup(st, 3, arena);
    out->envid = sql_text_dup(st, 4, arena);
    out->account = sql_text_dup(st, 5, arena);
    out->ret = (enum dsn_ret)sqlite3_column_int(st, 6);
    out->rcpt_total = (uint32_t)sqlite3_column_int64(st, 7);
    out->body =
        body_create_on_disk((uint64_t)sqlite3_column_int64(st, 8), (uint64_t)sqlite3_column_int64(st, 9),
                            (uint64_t)sqlite3_column_int64(st, 10), NULL, NULL);
    out->body->header_bytes = (uint32_t)sqlite3_column_int64(st, 11);
    out->body->flags = (uint32_t)sqlite3_column_int64(st, 12);
    out->body->checksum = (uint32_t)sqlite3_column_int64(st, 13);
    out->expires_unix = sqlite3_column_int64(st, 14);
    out->body->content_segment = (uint64_t)sqlite3_column_int64(st, 15);
    out->body->content_offset = (uint64_t)sqlite3_column_int64(st, 16);
    (void)sqlite3_reset(st);
    return OK;
}

enum err store_load_rcpt(struct store *s, uint64_t id, uint32_t no, struct rcpt *out, int64_t *domain_id,
                         struct arena *arena)
{
    sqlite3_stmt *st = s->st[ST_PAGE_RCPT];
    bool row;

    sql_bind_int(st, 1, (int64_t)id);
    sql_bind_int(st, 2, no);
    enum err e = sql_step(st, &row);
    if (e || !row)
        return e ? e : ERR_NOT_FOUND;
    *domain_id = sqlite3_column_int64(st, 0);
    *out = (struct rcpt){.no = no,
                         .due_unix = sqlite3_column_int64(st, 1),
                         .attempts = (uint16_t)sqlite3_column_int(st, 2),
                         .notify = (uint8_t)sqlite3_column_int(st, 3),
                         .delay_notified = sqlite3_column_int(st, 4) != 0,
                         .address = sql_text_dup(st, 5, arena),
                         .orcpt = sql_text_dup(st, 6, arena),
                         .last_text = sql_text_dup(st, 7, arena)};
    (void)sqlite3_reset(st);
    return OK;
}

/* rows[0…count) are of one message: one job; none, if its campaign has just been stopped, and they stay free.
 */
static enum err add_job(struct store *s, const char *domain, struct page_row *rows, uint32_t count,
                        struct list *jobs)
{
    struct arena arena = {0};
    struct message m;
    int64_t domain_id;
    enum err e = store_load_message(s, rows[0].message_id, &m, &arena);

    if (!e && store_campaign_state(s, m.campaign) != ROW_READY) {
        for (uint32_t i = 0; i < count; i++)
            rows[i].message_id = 0;
        body_unref(m.body);
    } else if (!e) {
        m.rcpts = arena_alloc(&arena, count * sizeof(*m.rcpts));
        for (uint32_t i = 0; !e && i < count; i++) {
            e = store_load_rcpt(s, rows[i].message_id, rows[i].no, &m.rcpts[i], &domain_id, &arena);
            m.rcpts[i].domain = domain;
        }
        m.rcpt_count = count;
        if (!e) {
            struct message *made = message_create(&m);
            list_push_back(jobs, &job_create(made, made->rcpts, made->rcpt_count)->node);
            message_unref(made);
        }
        body_unref(m.body);
    }
    arena_fini(&arena);
    return e;
}

/* What the worker knows of the domain from now on. */
static void note_told(struct store *s, struct store_domain *d, const struct store_page *p, bool then_cold)
{
    if (!p->only_lane) {
        store_set_cold(s, d, p->more || then_cold);
        store_forget_told(d);
    } else {
        store_set_told(d, p->lane, false);
    }
    for (uint32_t i = 0; i < p->left_count; i++)
        store_set_told(d, p->left[i], true);
}

static enum err serve(struct store *s, struct store_page *p, uint64_t order, struct page_row *rows)
{
    struct store_domain *d = store_domain(s, bytes_of(p->domain));
    struct page_rows found = {.rows = rows};
    enum err e = store_domain_find(s, d);

    p->more = false;
    p->next_due_unix = 0;
    if (!e && d->id)
        e = store_find_page(s, d, p, &found);
    for (uint32_t from = 0, to; !e && from < found.count; from = to) {
        for (to = from + 1; to < found.count && rows[to].message_id == rows[from].message_id;)
            to++;
        e = add_job(s, d->name, &rows[from], to - from, &p->jobs);
        if (e == ERR_NOT_FOUND) { /* a recipient without its message: the database lies */
            store_note_error(s, "page", ERR_CORRUPT);
            e = OK;
        }
    }
    if (e) {
        for (struct list *node; (node = list_pop(&p->jobs));)
            job_destroy(LIST_ENTRY(node, struct job, node));
        mem_free(found.left);
        return e;
    }
    for (uint32_t i = 0; i < found.count; i++)
        if (rows[i].message_id)
            (void)leases_take(&s->leases, rows[i].message_id, rows[i].no);
    p->more = found.more;
    p->next_due_unix = found.next_due_unix;
    p->left = found.left;
    p->left_count = found.left_count;
    note_told(s, d, p, d->cold_order > order);
    return OK;
}

/* The process ends: nobody would send what is on them, and a hundred thousand destinations may have asked. */
static void answer_empty(struct store *s)
{
    for (struct list *node; (node = list_pop(&s->pages));) {
        struct waiting *w = LIST_ENTRY(node, struct waiting, node);
        struct store_page *p = CONTAINER_OF(w->req, struct store_page, req);
        p->more = true; /* what there is stays on disk */
        p->next_due_unix = 0;
        mem_free(w);
        store_reply(&p->req, OK);
    }
}

void store_serve_pages(struct store *s)
{
    struct page_row *rows = NULL;
    uint32_t room = 0, served = 0;

    if (atomic_load_explicit(&s->ending, memory_order_relaxed))
        answer_empty(s);
    if (list_is_empty(&s->pages))
        return;
    enum err begun = sql_run(s->st[ST_BEGIN_READ]); /* one snapshot and one lock for all pages */
    /* Whoever waits for an accept or a result has a turn between them: the rest is read in the next. */
    for (struct list *node; served < TURN_PAGE_ROWS && (node = list_pop(&s->pages));) {
        struct waiting *w = LIST_ENTRY(node, struct waiting, node);
        struct store_page *p = CONTAINER_OF(w->req, struct store_page, req);
        if (p->limit > room) {
            room = p->limit;
            rows = mem_realloc(rows, room * sizeof(*rows));
        }
        enum err e = begun ? begun : serve(s, p, w->order, rows);
        served += MAX_OF((uint32_t)p->limit, 1U);
        if (e)
            store_note_error(s, "page", e);
        mem_free(w);
        store_reply(&p->req, e);
    }
    if (!begun && sql_run(s->st[ST_COMMIT]))
        sql_rollback(s->db);
    mem_free(rows);
}
