/*
 * Lists and counts of recipients.  First the keys of a page are found by the cheapest way, then only
 * those rows are joined with message and domain:
 *
 *     message id             the message's rows
 *     domains                rcpt_ready per domain, and rcpt_other for the states that it does not hold
 *     campaign, sender, …    all of `message` in order of id, its rcpt rows by key
 *     by due                 rcpt_ready, which covers the keys, and fresh rows
 *     a state that is rare   rcpt_other
 *     else                   rcpt in key order
 */
#include <string.h>

#include "base/mem.h"
#include "queue/browse_priv.h"

#define VALUES_MAX 1000 /* bound parameters: domains above that are refused */

struct value {
    const char *text; /* or NULL: number */
    int64_t number;
};

struct find {
    struct buf sql;
    struct value values[VALUES_MAX + 32];
    size_t count;
    const struct browse_query *q;
    const int64_t *domain_ids;
    size_t domain_count;
    bool limited; /* with position, order and limit: a page, not a count */
};

static void number(struct find *f, int64_t n)
{
    f->values[f->count++] = (struct value){NULL, n};
    buf_putf(&f->sql, "?%zu", f->count);
}

static void text(struct find *f, const char *t)
{
    f->values[f->count++] = (struct value){t, 0};
    buf_putf(&f->sql, "?%zu", f->count);
}

static const char *states_of(enum queue_state state)
{
    switch (state) {
    case QUEUE_WAITING: return "(0, 1)";
    case QUEUE_HELD: return "(2)";
    case QUEUE_DSN_OWED: return "(3)";
    case QUEUE_BOUNCING: return "(4, 7)";
    case QUEUE_CANCELLING: return "(5)";
    case QUEUE_PAUSED: return "(6)";
    }
    return "()";
}

static bool by_message(const struct queue_selector *w)
{
    return w && (w->campaign || w->sender || w->account);
}

static void and_message(struct find *f)
{
    const struct queue_selector *w = f->q->which;
    const struct {
        const char *column, *value;
    } columns[] = {{"campaign", w->campaign}, {"sender", w->sender}, {"account", w->account}};

    for (size_t i = 0; i < COUNT_OF(columns); i++) {
        if (!columns[i].value)
            continue;
        if (i == 0 && !*columns[i].value) {
            buf_puts(&f->sql, " AND m.campaign IS NULL"); /* "" is mail without one, as in reports */
            continue;
        }
        buf_putf(&f->sql, " AND m.%s = ", columns[i].column);
        text(f, columns[i].value);
    }
}

static void and_domains(struct find *f)
{
    if (!f->q->which || !f->q->which->domains)
        return;
    buf_puts(&f->sql, " AND r.domain_id IN (");
    for (size_t i = 0; i < f->domain_count; i++) {
        buf_puts(&f->sql, i ? ", " : "");
        number(f, f->domain_ids[i]);
    }
    buf_puts(&f->sql, ")");
}

static void and_position(struct find *f, bool due)
{
    const struct browse_position *p = &f->q->after;

    if (!f->limited || !p->set)
        return;
    buf_puts(&f->sql, due ? " AND (r.due, r.message_id, r.no) > (" : " AND (r.message_id, r.no) > (");
    if (due) {
        number(f, p->due_unix);
        buf_puts(&f->sql, ", ");
    }
    number(f, (int64_t)p->message_id);
    buf_puts(&f->sql, ", ");
    number(f, p->rcpt_no);
    buf_puts(&f->sql, ")");
}

/* One leg of the search; `where` names the index by its condition. */
static void leg(struct find *f, const char *where, bool with_states)
{
    const struct queue_selector *w = f->q->which;

    buf_puts(&f->sql, "SELECT r.message_id AS message_id, r.no AS no, r.due AS due FROM rcpt r");
    if (by_message(w))
        buf_puts(&f->sql, " CROSS JOIN message m ON m.id = r.message_id");
    buf_putf(&f->sql, " WHERE %s", where);
    if (with_states && f->q->only_state)
        buf_putf(&f->sql, " AND r.state IN %s", states_of(f->q->state));
    and_domains(f);
    if (w && w->message_id) {
        buf_puts(&f->sql, " AND r.message_id = ");
        number(f, (int64_t)w->message_id);
    }
    if (w && w->recipient) {
        buf_puts(&f->sql, " AND r.address = ");
        text(f, w->recipient);
        buf_puts(&f->sql, " COLLATE NOCASE");
    }
    if (by_message(w))
        and_message(f);
    and_position(f, f->q->order == BROWSE_BY_DUE);
}

static void along_messages(struct find *f)
{
    const struct queue_selector *w = f->q->which;

    bool due = f->q->order == BROWSE_BY_DUE;

    buf_puts(&f->sql, "SELECT r.message_id AS message_id, r.no AS no, r.due AS due FROM message m"
                      " CROSS JOIN rcpt r ON r.message_id = m.id WHERE 1");
    if (f->limited && f->q->after.set && !due) {
        buf_puts(&f->sql, " AND m.id >= ");
        number(f, (int64_t)f->q->after.message_id);
    }
    and_message(f);
    if (due || f->q->only_state)
        buf_putf(&f->sql, " AND r.state IN %s", states_of(due ? QUEUE_WAITING : f->q->state));
    if (w->recipient) {
        buf_puts(&f->sql, " AND r.address = ");
        text(f, w->recipient);
        buf_puts(&f->sql, " COLLATE NOCASE");
    }
    and_position(f, due);
}

static void find_keys(struct find *f)
{
    const struct browse_query *q = f->q;
    const struct queue_selector *w = q->which;
    bool due = q->order == BROWSE_BY_DUE;
    bool waiting = due || (q->only_state && q->state == QUEUE_WAITING);

    if (w && w->message_id) {
        leg(f, due ? "r.state IN (0, 1)" : "1", true);
    } else if (by_message(w) && !w->domains) {
        along_messages(f);
    } else if ((w && w->domains) || due) {
        bool ready = waiting || !q->only_state;
        if (ready)
            leg(f, "r.state = 1", false);
        if (ready)
            buf_puts(&f->sql, " UNION ALL ");
        leg(f, waiting ? "r.state <> 1 AND r.state = 0" : "r.state <> 1", !waiting);
    } else if (q->only_state && q->state != QUEUE_WAITING) {
        leg(f, "r.state <> 1", true);
    } else {
        leg(f, "1", true);
    }
    if (!f->limited)
        return;
    buf_puts(&f->sql, due ? " ORDER BY due, message_id, no LIMIT " : " ORDER BY message_id, no LIMIT ");
    number(f, (int64_t)q->limit + 1); /* the one beyond tells `more` */
}

static enum err prepare(struct browse *b, struct find *f, sqlite3_stmt **out)
{
    enum err e = sql_prepare(b->db, out, buf_str(&f->sql));

    for (size_t i = 0; !e && i < f->count; i++) {
        if (f->values[i].text)
            sql_bind_text(*out, (int)i + 1, f->values[i].text);
        else
            sql_bind_int(*out, (int)i + 1, f->values[i].number);
    }
    return e;
}

static enum err find_domains(struct browse *b, const struct queue_selector *w, int64_t *ids, size_t *count)
{
    sqlite3_stmt *st = NULL;
    bool row;
    enum err e = sql_prepare(b->db, &st, "SELECT id FROM domain WHERE name = ?1");

    for (size_t i = 0; !e && i < w->domain_count; i++) {
        sql_bind_text(st, 1, w->domains[i]);
        e = sql_step(st, &row);
        if (!e && row)
            ids[(*count)++] = sqlite3_column_int64(st, 0);
        (void)sqlite3_reset(st);
    }
    sqlite3_finalize(st);
    return e;
}

static enum err begin_find(struct browse *b, struct find *f, int64_t **ids)
{
    const struct queue_selector *w = f->q->which;

    *ids = NULL;
    if (!w || !w->domains)
        return OK;
    if (w->domain_count > VALUES_MAX)
        return ERR_FULL;
    *ids = mem_zalloc((w->domain_count + 1) * sizeof(**ids));
    f->domain_ids = *ids;
    return find_domains(b, w, *ids, &f->domain_count);
}

static struct browse_row read_row(sqlite3_stmt *st, struct arena *arena)
{
    return (struct browse_row){.message_id = (uint64_t)sqlite3_column_int64(st, 0),
                               .rcpt_no = (uint32_t)sqlite3_column_int64(st, 1),
                               .state = browse_state(sqlite3_column_int(st, 2)),
                               .address = sql_text_dup(st, 3, arena),
                               .domain = sql_text_dup(st, 4, arena),
                               .due_unix = sqlite3_column_int64(st, 5),
                               .attempts = (uint16_t)sqlite3_column_int(st, 6),
                               .last_text = sql_text_dup(st, 7, arena),
                               .accepted_unix = sqlite3_column_int64(st, 8),
                               .sender = sql_text_dup(st, 9, arena),
                               .campaign = sql_text_dup(st, 10, arena),
                               .account = sql_text_dup(st, 11, arena),
                               .size_bytes = (uint64_t)sqlite3_column_int64(st, 12),
                               .rcpt_total = (uint32_t)sqlite3_column_int64(st, 13)};
}

static enum err read_page(struct browse *b, struct find *f, struct arena *arena, struct browse_list *out)
{
    sqlite3_stmt *st = NULL;
    bool due = f->q->order == BROWSE_BY_DUE, row;

    buf_puts(&f->sql, "SELECT r.message_id, r.no, r.state, r.address, d.name, r.due, r.attempts, r.last_text,"
                      " m.accepted, m.sender, m.campaign, m.account, m.size, m.total FROM (");
    find_keys(f);
    buf_putf(
        &f->sql,
        ") k CROSS JOIN rcpt r ON r.message_id = k.message_id AND r.no = k.no"
        " CROSS JOIN message m ON m.id = k.message_id LEFT JOIN domain d ON d.id = r.domain_id ORDER BY %s",
        due ? "k.due, k.message_id, k.no" : "k.message_id, k.no");
    enum err e = prepare(b, f, &st);
    struct browse_list list = {.rows = arena_zalloc(arena, (f->q->limit + 1U) * sizeof(*list.rows))};
    while (!e && !(e = sql_step(st, &row)) && row) {
        if (list.count == f->q->limit) {
            list.more = true;
            break;
        }
        list.rows[list.count++] = read_row(st, arena);
    }
    sqlite3_finalize(st);
    if (e)
        return e;
    list.end = f->q->after;
    if (list.count) {
        const struct browse_row *last = &list.rows[list.count - 1];
        list.end = (struct browse_position){true, last->due_unix, last->message_id, last->rcpt_no};
    }
    *out = list;
    return OK;
}

enum err browse_rcpts(struct browse *b, const struct browse_query *q, struct arena *arena,
                      struct browse_list *out)
{
    struct find *f = MEM_NEW(struct find);
    struct browse_query bounded = *q;
    int64_t *ids = NULL;
    enum err e = browse_begin(b);

    bounded.limit = MIN_OF(q->limit, (uint32_t)BROWSE_LIMIT_MAX);
    if (!e) {
        f->q = &bounded;
        f->limited = true;
        e = begin_find(b, f, &ids);
        if (!e)
            e = read_page(b, f, arena, out);
        e = browse_end(b, e);
    }
    buf_fini(&f->sql);
    mem_free(ids);
    mem_free(f);
    return e;
}

static enum err read_count(struct browse *b, struct find *f, uint64_t *out)
{
    sqlite3_stmt *st = NULL;
    bool row = false;

    buf_puts(&f->sql, "SELECT count(*) FROM (");
    find_keys(f);
    buf_puts(&f->sql, ")");
    enum err e = prepare(b, f, &st);
    if (!e)
        e = sql_step(st, &row);
    if (!e && row)
        *out = (uint64_t)sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    return e;
}

static bool selects_all(const struct queue_selector *w)
{
    return !w ||
           (!w->message_id && !w->recipient && !w->campaign && !w->sender && !w->account && !w->domains);
}

enum err browse_count(struct browse *b, const struct browse_query *q, uint64_t *out)
{
    struct browse_totals totals;

    if (selects_all(q->which)) { /* known without looking */
        enum err e = browse_totals(b, &totals);
        uint64_t sum = 0;
        for (int i = 0; !e && i < QUEUE_STATES; i++)
            sum += !q->only_state || q->state == (enum queue_state)i ? totals.by_state[i] : 0;
        *out = e ? *out : sum;
        return e;
    }
    struct find *f = MEM_NEW(struct find);
    int64_t *ids = NULL;
    struct browse_query any_order = *q;
    enum err e = browse_begin(b);
    if (!e) {
        any_order.order = BROWSE_BY_ID;
        f->q = &any_order;
        e = begin_find(b, f, &ids);
        if (!e)
            e = read_count(b, f, out);
        e = browse_end(b, e);
    }
    buf_fini(&f->sql);
    mem_free(ids);
    mem_free(f);
    return e;
}
