/* Policy versions, accounts and what is kept (store_keep.c): rare, small, and answered after their commit
 * like everything else. */
#include <string.h>

#include "base/mem.h"
#include "queue/accounts_priv.h"
#include "queue/keep.h"
#include "queue/store_priv.h"

void store_take_admin(struct note *note, void *store)
{
    struct store *s = store;
    store_wait(&s->admins, CONTAINER_OF(note, struct store_request, note));
}

void store_post_admin(struct store *s, struct store_request *r, enum request_type type)
{
    r->type = type;
    r->note.run = store_take_admin;
    r->result = OK;
    inbox_post(&s->inbox, &r->note);
}

void store_post_policy_save(struct store *s, struct store_policy_save *p)
{
    store_post_admin(s, &p->req, REQ_POLICY);
}

void store_post_account(struct store *s, struct store_account *a)
{
    store_post_admin(s, &a->req, REQ_ACCOUNT);
}

void store_policy_save_destroy(struct store_policy_save *p)
{
    if (!p)
        return;
    mem_free(p->text);
    mem_free(p->author);
    mem_free(p->comment);
    mem_free(p);
}

void store_account_destroy(struct store_account *a)
{
    if (!a)
        return;
    account_fini(&a->account);
    mem_free(a);
}

static enum err save_policy(struct store *s, struct store_policy_save *p)
{
    sqlite3_stmt *st = s->st[ST_POLICY_CURRENT];
    bool row;
    enum err e = sql_step(st, &row);

    if (e)
        return e;
    uint64_t current = row ? (uint64_t)sqlite3_column_int64(st, 0) : 0;
    (void)sqlite3_reset(st);
    if (p->expected_version && p->expected_version != current) {
        p->req.result = ERR_BUSY;
        return OK;
    }
    st = s->st[ST_POLICY_ADD];
    sql_bind_int(st, 1, (int64_t)current + 1);
    sql_bind_int(st, 2, s->now_unix);
    sql_bind_text(st, 3, p->author ? p->author : "");
    sql_bind_text(st, 4, p->comment ? p->comment : "");
    sql_bind_text(st, 5, p->text ? p->text : "");
    e = sql_run(st);
    p->version = current + 1;
    return e;
}

static void join_texts(char *const *list, size_t count, struct buf *out)
{
    for (size_t i = 0; i < count; i++)
        buf_putf(out, "%s\n", list[i]);
}

static void join_networks(const struct account *a, struct buf *out)
{
    char text[IP_TEXT_BYTES];

    for (size_t i = 0; i < a->network_count; i++)
        buf_putf(out, "%s\n", ip_net_format(&a->networks[i], text));
}

static enum err put_account(struct store *s, const struct account *a)
{
    BUF_LOCAL(domains);
    BUF_LOCAL(networks);
    BUF_LOCAL(certificates);
    sqlite3_stmt *st = s->st[ST_ACCOUNT_PUT];

    join_texts(a->sender_domains, a->sender_domain_count, &domains);
    join_texts(a->certificates, a->certificate_count, &certificates);
    join_networks(a, &networks);
    sql_bind_text(st, 1, a->name);
    sql_bind_blob(st, 2, a->salt, sizeof(a->salt));
    sql_bind_int(st, 3, a->iterations);
    sql_bind_blob(st, 4, a->stored_key, sizeof(a->stored_key));
    sql_bind_blob(st, 5, a->server_key, sizeof(a->server_key));
    sql_bind_text(st, 6, buf_str(&domains));
    sql_bind_text(st, 7, buf_str(&networks));
    sql_bind_int(st, 8, a->max_connections);
    sql_bind_int(st, 9, a->messages_per_minute);
    sql_bind_int(st, 10, a->disabled);
    sql_bind_int(st, 11, a->created_unix ? a->created_unix : s->now_unix);
    sql_bind_text(st, 12, buf_str(&certificates));
    sql_bind_text(st, 13, a->campaign ? a->campaign : "");
    sql_bind_int(st, 14, a->priority);
    enum err e = sql_run(st);
    (void)sqlite3_clear_bindings(st); /* they point into our buffers, and hold keys */
    return e;
}

static enum err change_account(struct store *s, struct store_account *a)
{
    sqlite3_stmt *st = s->st[ST_ACCOUNT_DELETE];

    if (!a->account.name || !a->account.name[0]) {
        a->req.result = ERR_INVALID;
        return OK;
    }
    if (!a->remove)
        return put_account(s, &a->account);
    sql_bind_text(st, 1, a->account.name);
    enum err e = sql_run(st);
    if (!e && sqlite3_changes(s->db) == 0)
        a->req.result = ERR_NOT_FOUND;
    return e;
}

static enum err apply(struct store *s, struct store_request *r)
{
    switch (r->type) {
    case REQ_POLICY: return save_policy(s, CONTAINER_OF(r, struct store_policy_save, req));
    case REQ_ACCOUNT: return change_account(s, CONTAINER_OF(r, struct store_account, req));
    default: return store_apply_keep(s, r);
    }
}

void store_apply_admins(struct store *s)
{
    LIST_FOREACH (node, &s->admins) {
        struct store_request *r = LIST_ENTRY(node, struct waiting, node)->req;
        store_begin(s);
        if (s->failed)
            return;
        enum err e = apply(s, r);
        if (e) {
            store_fail(s, e);
            return;
        }
    }
}

void store_finish_admins(struct store *s, enum err e)
{
    bool accounts_changed = false;

    LIST_FOREACH (node, &s->admins) {
        struct store_request *r = LIST_ENTRY(node, struct waiting, node)->req;
        accounts_changed |= !e && r->type == REQ_ACCOUNT && !r->result;
        if (!e && r->type == REQ_KEEP_PUT && !r->result)
            store_campaign_changed(s, CONTAINER_OF(r, struct store_keep, req));
    }
    if (accounts_changed && store_load_accounts(s))
        store_note_error(s, "accounts", ERR_IO);
    for (struct list *node; (node = list_pop(&s->admins));) {
        struct waiting *w = LIST_ENTRY(node, struct waiting, node);
        enum err own = w->req->result;
        store_reply(w->req, e ? e : own);
        mem_free(w);
    }
}

/* ---- the snapshot ---- */

static size_t count_lines(struct bytes text)
{
    size_t n = 0;

    for (size_t i = 0; i < text.len; i++)
        n += text.at[i] == '\n';
    return n;
}

static struct bytes next_line(struct bytes *text)
{
    size_t end = bytes_find(*text, '\n');
    struct bytes line = bytes_first(*text, end);

    *text = bytes_skip(*text, end + 1);
    return line;
}

static char **split_texts(struct bytes text, size_t *count)
{
    size_t lines = count_lines(text);
    char **list = lines ? mem_alloc(lines * sizeof(*list)) : NULL;

    for (*count = 0; *count < lines; ++*count)
        list[*count] = bytes_dup(next_line(&text));
    return list;
}

/* A network that does not parse must not become "anywhere": the account is then disabled. */
static void split_networks(struct account *a, struct bytes text)
{
    size_t lines = count_lines(text);

    a->networks = lines ? mem_alloc(lines * sizeof(*a->networks)) : NULL;
    while (lines--) {
        if (ip_net_parse(next_line(&text), &a->networks[a->network_count]))
            a->network_count++;
        else
            a->disabled = true;
    }
}

static void copy_blob(sqlite3_stmt *st, int column, uint8_t *out, size_t len)
{
    const void *blob = sqlite3_column_blob(st, column);
    size_t have = (size_t)sqlite3_column_bytes(st, column);

    if (blob)
        memcpy(out, blob, MIN_OF(have, len));
}

static void read_account(sqlite3_stmt *st, struct account *a)
{
    *a = (struct account){.name = mem_strdup(sql_text(st, 0))};
    copy_blob(st, 1, a->salt, sizeof(a->salt));
    a->iterations = (uint32_t)sqlite3_column_int64(st, 2);
    copy_blob(st, 3, a->stored_key, sizeof(a->stored_key));
    copy_blob(st, 4, a->server_key, sizeof(a->server_key));
    a->max_connections = (uint32_t)sqlite3_column_int64(st, 7);
    a->messages_per_minute = (uint32_t)sqlite3_column_int64(st, 8);
    a->disabled = sqlite3_column_int(st, 9) != 0;
    a->created_unix = sqlite3_column_int64(st, 10);
    a->sender_domains = split_texts(bytes_of(sql_text(st, 5)), &a->sender_domain_count);
    a->certificates = split_texts(bytes_of(sql_text(st, 11)), &a->certificate_count);
    const char *campaign = sql_text(st, 12);
    a->campaign = campaign && *campaign ? mem_strdup(campaign) : NULL;
    int priority = sqlite3_column_int(st, 13);
    a->priority = priority > 0 && priority < PRIORITIES ? (enum priority)priority : PRIORITY_NORMAL;
    split_networks(a, bytes_of(sql_text(st, 6)));
}

enum err store_load_accounts(struct store *s)
{
    sqlite3_stmt *st = s->st[ST_ACCOUNT_ALL];
    struct account *list = NULL;
    size_t count = 0, cap = 0;
    bool row;
    enum err e;

    while (!(e = sql_step(st, &row)) && row) {
        if (count == cap) {
            cap = MAX_OF(cap * 2, (size_t)8);
            list = mem_realloc(list, cap * sizeof(*list));
        }
        read_account(st, &list[count++]);
    }
    if (e) {
        while (count)
            account_fini(&list[--count]);
        mem_free(list);
        return e;
    }
    struct accounts *fresh = accounts_create(list, count, ++s->accounts_generation);
    pthread_mutex_lock(&s->shared_lock);
    struct accounts *before = s->accounts;
    s->accounts = fresh;
    pthread_mutex_unlock(&s->shared_lock);
    accounts_unref(before);
    return OK;
}

struct accounts *store_accounts(struct store *s)
{
    pthread_mutex_lock(&s->shared_lock);
    struct accounts *a = accounts_ref(s->accounts);
    pthread_mutex_unlock(&s->shared_lock);
    return a;
}
