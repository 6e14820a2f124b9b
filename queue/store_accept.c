/*
 * Accepting: bodies and envelopes in, answers and jobs for hot domains out once they are synced; rows for
 * what is left when the turn settles.
 */
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "queue/store_priv.h"

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
static bool body_is_there(struct store *s, const struct body *b)
{
    if (!b)
        return false;
    if (b->mem || b->size_bytes == 0 || body_is_new_file(b))
        return true;
    return store_segment_find(s, b->segment) &&
           (!b->content_segment || store_segment_find(s, b->content_segment));
}

/* ---- taking ---- */

static enum err put_body(struct store *s, struct accepted *x)
{
    const struct body *b = x->message->body;
    struct spool_place place;
    enum err e = store_share_content(s, x);

    if (e || x->body.segment) /* shared */
        return e;
    e = spool_put(s->spool, x->id, b, &place);
    if (e)
        return e;
    s->put_bytes += b->mem ? b->size_bytes : 0;
    x->body_is_new = b->mem || body_is_new_file(b);
    x->body = (struct envelope_body){.segment = place.segment,
                                     .offset = place.offset,
                                     .size_bytes = b->size_bytes,
                                     .header_bytes = b->header_bytes,
                                     .flags = b->flags,
                                     .checksum = b->checksum,
                                     .content_segment = b->mem ? 0 : b->content_segment,
                                     .content_offset = b->mem ? 0 : b->content_offset};
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
    else if (s->file_gone)
        x->result = ERR_IO;
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
/* ---- telling ---- */

/* The jobs of one message: a run of recipients of one hot domain each. */
static void hand_out(struct store *s, const struct accepted *x, uint32_t unsettled, struct store_jobs **jobs)
{
    struct message *m = x->a->message;
    const struct accepted_rcpt *rows = &s->accepted_rcpts[x->first_rcpt];
    struct body_weight weight = store_body_weight(&x->body);

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
            l->weight = weight;
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
        body_drop_file(b); /* it shares another's */
        b->segment = place->segment;
        b->offset = place->offset;
        b->content_segment = place->content_segment;
        b->content_offset = place->content_offset;
    }
    body_keep_file(b);
}

/* One that is safe: its jobs go out, then its answer; the request is gone afterwards. */
struct telling {
    struct store_jobs **jobs;
    uint64_t messages, rcpts, shared_bytes;
};

static void tell_job(struct store *s, struct accepted *x, uint32_t unsettled, struct telling *t)
{
    if (x->result || !x->a || !x->message)
        return;
    set_place(x->a->message->body, &x->body);
    hand_out(s, x, unsettled, t->jobs);
    t->messages++;
    t->rcpts += x->rcpt_count;
    t->shared_bytes +=
        x->body.content_segment && !x->content_is_new ? x->body.size_bytes - x->body.header_bytes : 0;
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
    s->stats.shared_bytes += t->shared_bytes;
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

static void free_octets(struct accepted *x)
{
    buf_fini(&x->envelope);
    buf_fini(&x->header);
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
        if (!x->kept) { /* nothing of it is in the spool */
            buf_fini(&x->envelope);
            x->body_is_new = x->content_is_new = false;
        }
    }
}

void store_forget_accepts(struct store *s)
{
    for (size_t i = 0; i < s->accept_count; i++)
        free_octets(&s->accepts[i]);
    arena_fini(&s->settle_arena);
    s->accept_count = s->turn_accepts = 0;
    s->accepted_rcpt_count = 0;
    s->envelope_bytes = 0;
}
