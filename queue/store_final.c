/* Rows that are final but owe something, for the worker that makes DSNs and records. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "queue/store_priv.h"

static void take_final_page(struct note *note, void *store)
{
    struct store *s = store;
    store_wait(&s->final_pages, CONTAINER_OF(note, struct store_request, note));
}

void store_post_final_page(struct store *s, struct store_final_page *p)
{
    p->limit = MIN_OF(p->limit, (uint32_t)STORE_PAGE_MAX);
    p->req.type = REQ_FINAL_PAGE;
    p->req.note.run = take_final_page;
    list_init(&p->messages);
    inbox_post(&s->inbox, &p->req.note);
}

void final_message_destroy(struct final_message *f)
{
    for (uint32_t i = 0; i < f->count; i++)
        mem_free(f->rows[i].remote_mx);
    mem_free(f->rows);
    message_unref(f->message);
    mem_free(f);
}

static void destroy_list(struct list *messages)
{
    for (struct list *node; messages->next && (node = list_pop(messages));)
        final_message_destroy(LIST_ENTRY(node, struct final_message, node));
}

void store_final_page_destroy(struct store_final_page *p)
{
    if (!p)
        return;
    destroy_list(&p->messages);
    mem_free(p);
}

struct final_back {
    struct note note;
    struct list messages;
};

static void take_final_back(struct note *note, void *store)
{
    struct store *s = store;
    struct final_back *b = CONTAINER_OF(note, struct final_back, note);

    LIST_FOREACH (node, &b->messages) {
        const struct final_message *f = LIST_ENTRY(node, struct final_message, node);
        for (uint32_t i = 0; i < f->count; i++)
            (void)leases_drop(&s->leases, f->message->id, f->rows[i].rcpt.no);
    }
    s->final_new = true;
    destroy_list(&b->messages);
    mem_free(b);
}

void store_post_final_give_back(struct store *s, struct list *messages)
{
    struct final_back *b = MEM_NEW(struct final_back);

    b->note.run = take_final_back;
    list_init(&b->messages);
    list_move_all(&b->messages, messages);
    inbox_post(&s->inbox, &b->note);
}

struct due {
    struct row_key key;
    enum final_kind kind;
};

static enum err find(struct store *s, enum row_state state, enum final_kind kind, uint32_t limit,
                     struct due *rows, uint32_t *count)
{
    sqlite3_stmt *st = s->st[ST_FINAL_DUE];
    bool row;
    enum err e;

    sql_bind_int(st, 1, state);
    while (!(e = sql_step(st, &row)) && row) {
        struct row_key key = {(uint64_t)sqlite3_column_int64(st, 0), (uint32_t)sqlite3_column_int64(st, 1),
                              false};
        if (leases_has(&s->leases, key.message_id, key.no))
            continue;
        if (*count == limit) {
            (void)sqlite3_reset(st);
            return OK;
        }
        rows[(*count)++] = (struct due){key, kind};
    }
    return e;
}

static enum err load_outcome(struct store *s, const struct row_key *key, struct final_row *out)
{
    sqlite3_stmt *st = s->st[ST_FINAL_GET];
    bool row;

    sql_bind_int(st, 1, (int64_t)key->message_id);
    sql_bind_int(st, 2, key->no);
    enum err e = sql_step(st, &row);
    if (e || !row)
        return e;
    struct outcome *o = &out->outcome;
    o->kind = (enum outcome_kind)sqlite3_column_int(st, 0);
    o->stage = (enum outcome_stage)sqlite3_column_int(st, 1);
    o->code = (uint16_t)sqlite3_column_int(st, 2);
    snprintf(o->enhanced, sizeof(o->enhanced), "%s", sql_text(st, 3) ? sql_text(st, 3) : "");
    o->remote = sqlite3_column_int(st, 4) != 0;
    o->in_doubt = sqlite3_column_int(st, 5) != 0;
    snprintf(o->text, sizeof(o->text), "%s", sql_text(st, 6) ? sql_text(st, 6) : "");
    out->remote_mx = mem_strdup(sql_text(st, 7));
    out->at_unix = sqlite3_column_int64(st, 8);
    (void)sqlite3_reset(st);
    return OK;
}

/* The message is sorted by domain when it is made: rows are put beside their recipients by number. */
static enum err load(struct store *s, const struct due *rows, uint32_t count, struct list *messages)
{
    struct arena arena = {0};
    struct message m;
    enum err e = store_load_message(s, rows[0].key.message_id, &m, &arena);

    if (e)
        goto out;
    m.rcpts = arena_zalloc(&arena, count * sizeof(*m.rcpts));
    m.rcpt_count = count;
    for (uint32_t i = 0; !e && i < count; i++) {
        struct store_domain *d;
        int64_t domain_id;
        e = store_load_rcpt(s, rows[i].key.message_id, rows[i].key.no, &m.rcpts[i], &domain_id, &arena);
        e = e ? e : store_domain_by_id(s, domain_id, &d);
        if (!e)
            m.rcpts[i].domain = arena_strdup(&arena, d->name);
    }
    struct final_message *f = e ? NULL : MEM_NEW(struct final_message);
    if (f) {
        f->message = message_create(&m);
        f->rows = mem_zalloc(count * sizeof(*f->rows));
        f->count = count;
    }
    for (uint32_t i = 0; !e && i < count; i++) {
        uint32_t k = 0;
        f->rows[i].rcpt = f->message->rcpts[i];
        while (rows[k].key.no != f->rows[i].rcpt.no)
            k++;
        f->rows[i].kind = rows[k].kind;
        if (rows[k].kind == FINAL_DSN_OWED)
            e = load_outcome(s, &rows[k].key, &f->rows[i]);
    }
    if (f && e)
        final_message_destroy(f);
    else if (f)
        list_push_back(messages, &f->node);
    body_unref(m.body);
out:
    arena_fini(&arena);
    return e;
}

static enum err serve(struct store *s, struct store_final_page *p, struct due *rows)
{
    static const struct {
        enum row_state state;
        enum final_kind kind;
    } kinds[] = {{ROW_DSN, FINAL_DSN_OWED},
                 {ROW_BOUNCE, FINAL_OPERATOR_BOUNCE},
                 {ROW_CANCEL, FINAL_OPERATOR_CANCEL},
                 {ROW_EXPIRE, FINAL_CAMPAIGN_OVER}};
    uint32_t count = 0;
    enum err e = OK;

    for (size_t i = 0; !e && i < COUNT_OF(kinds); i++)
        if (s->counts[kinds[i].state] > 0)
            e = find(s, kinds[i].state, kinds[i].kind, p->limit, rows, &count);
    for (uint32_t from = 0, to; !e && from < count; from = to) {
        for (to = from + 1; to < count && rows[to].key.message_id == rows[from].key.message_id;)
            to++;
        e = load(s, &rows[from], to - from, &p->messages);
        if (e == ERR_NOT_FOUND) {
            store_note_error(s, "final", ERR_CORRUPT);
            e = OK;
        }
    }
    if (e) {
        destroy_list(&p->messages);
        return e;
    }
    for (uint32_t i = 0; i < count; i++)
        (void)leases_take(&s->leases, rows[i].key.message_id, rows[i].key.no);
    if (count == p->limit)
        s->final_new = true; /* there may be more */
    return OK;
}

void store_serve_final_pages(struct store *s)
{
    if (list_is_empty(&s->final_pages))
        return;
    enum err begun = sql_run(s->st[ST_BEGIN_READ]);
    s->final_noted = false;
    for (struct list *node; (node = list_pop(&s->final_pages));) {
        struct waiting *w = LIST_ENTRY(node, struct waiting, node);
        struct store_final_page *p = CONTAINER_OF(w->req, struct store_final_page, req);
        struct due *rows = mem_alloc((p->limit + 1) * sizeof(*rows));
        enum err e = begun ? begun : serve(s, p, rows);
        if (e)
            store_note_error(s, "final", e);
        mem_free(rows);
        mem_free(w);
        store_reply(&p->req, e);
    }
    if (!begun && sql_run(s->st[ST_COMMIT]))
        sql_rollback(s->db);
}
