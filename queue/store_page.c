/* Pages: the due rows of one domain, in due order, that nobody holds. */
#include <string.h>

#include "base/mem.h"
#include "queue/store_priv.h"

static void take_page(struct note *note, void *store)
{
    struct store *s = store;
    store_wait(&s->pages, CONTAINER_OF(note, struct store_request, note));
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

/* Up to limit rows that are due and free; *more when there is one beyond. */
static enum err find_due(struct store *s, const struct store_domain *d, uint32_t limit, struct row_key *keys,
                         uint32_t *count, bool *more)
{
    sqlite3_stmt *st = s->st[ST_PAGE_DUE];
    bool row;

    *count = 0;
    *more = false;
    sql_bind_int(st, 1, d->id);
    sql_bind_int(st, 2, s->now_unix);
    for (;;) {
        enum err e = sql_step(st, &row);
        if (e || !row)
            return e;
        uint64_t id = (uint64_t)sqlite3_column_int64(st, 0);
        uint32_t no = (uint32_t)sqlite3_column_int64(st, 1);
        if (leases_has(&s->leases, id, no))
            continue;
        if (*count == limit) {
            *more = true;
            (void)sqlite3_reset(st);
            return OK;
        }
        keys[(*count)++] = (struct row_key){id, no, false};
    }
}

static enum err find_next(struct store *s, const struct store_domain *d, int64_t *due_unix)
{
    sqlite3_stmt *st = s->st[ST_PAGE_NEXT];
    bool row;

    *due_unix = 0;
    sql_bind_int(st, 1, d->id);
    sql_bind_int(st, 2, s->now_unix);
    for (;;) {
        enum err e = sql_step(st, &row);
        if (e || !row)
            return e;
        if (leases_has(&s->leases, (uint64_t)sqlite3_column_int64(st, 1),
                       (uint32_t)sqlite3_column_int64(st, 2)))
            continue;
        *due_unix = sqlite3_column_int64(st, 0);
        (void)sqlite3_reset(st);
        return OK;
    }
}

/* keys[0…count) are rows of one message: one job. */
static enum err add_job(struct store *s, const char *domain, const struct row_key *keys, uint32_t count,
                        struct list *jobs)
{
    struct arena arena = {0};
    struct message m;
    int64_t domain_id;
    enum err e = store_load_message(s, keys[0].message_id, &m, &arena);

    if (!e) {
        m.rcpts = arena_alloc(&arena, count * sizeof(*m.rcpts));
        for (uint32_t i = 0; !e && i < count; i++) {
            e = store_load_rcpt(s, keys[i].message_id, keys[i].no, &m.rcpts[i], &domain_id, &arena);
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

static void lease_all(struct store *s, const struct row_key *keys, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        (void)leases_take(&s->leases, keys[i].message_id, keys[i].no);
}

static enum err serve(struct store *s, struct store_page *p, bool then_cold, struct row_key *keys)
{
    struct store_domain *d = store_domain(s, bytes_of(p->domain));
    uint32_t count = 0;
    enum err e = store_domain_find(s, d);

    p->more = false;
    p->next_due_unix = 0;
    if (!e && d->id)
        e = find_due(s, d, p->limit, keys, &count, &p->more);
    if (!e && d->id)
        e = find_next(s, d, &p->next_due_unix);
    for (uint32_t from = 0, to; !e && from < count; from = to) {
        for (to = from + 1; to < count && keys[to].message_id == keys[from].message_id;)
            to++;
        e = add_job(s, d->name, &keys[from], to - from, &p->jobs);
        if (e == ERR_NOT_FOUND) { /* a recipient without its message: the database lies */
            store_note_error(s, "page", ERR_CORRUPT);
            e = OK;
        }
    }
    if (e) {
        for (struct list *node; (node = list_pop(&p->jobs));)
            job_destroy(LIST_ENTRY(node, struct job, node));
        return e;
    }
    lease_all(s, keys, count);
    store_set_cold(s, d, p->more || then_cold);
    return OK;
}

void store_serve_pages(struct store *s)
{
    struct row_key *keys = NULL;
    uint32_t room = 0;

    if (list_is_empty(&s->pages))
        return;
    enum err begun = sql_run(s->st[ST_BEGIN_READ]); /* one snapshot and one lock for all pages */
    for (struct list *node; (node = list_pop(&s->pages));) {
        struct waiting *w = LIST_ENTRY(node, struct waiting, node);
        struct store_page *p = CONTAINER_OF(w->req, struct store_page, req);
        if (p->limit > room) {
            room = p->limit;
            keys = mem_realloc(keys, room * sizeof(*keys));
        }
        enum err e = begun ? begun : serve(s, p, w->then_cold, keys);
        if (e)
            store_note_error(s, "page", e);
        mem_free(w);
        store_reply(&p->req, e);
    }
    if (!begun && sql_run(s->st[ST_COMMIT]))
        sql_rollback(s->db);
    mem_free(keys);
}
