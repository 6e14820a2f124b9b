/*
 *     store: rows final ─► on_final_due ─► page ─► DSN_OWED: DSN message ─► store_accept, which settles the
 * rows └─► ended by an operator: history record ─► store (DSN_OWED or gone)
 *
 * One page is under way at a time; its rows are leased, and what fails is given back and tried again.
 */
#include "engine/deliver/final.h"

#include "base/clock.h"
#include "base/mem.h"
#include "engine/deliver/deliver_priv.h"
#include "engine/dkim/canon.h"
#include "engine/dkim/dkim.h"
#include "engine/smtp/dsn.h"
#include "policy/domain.h"

#define PAGE_ROWS 500

struct finaliser {
    struct deliver *d;
    bool paging, again; /* again: something fell due while a page was under way */
    size_t open;        /* DSNs handed to the store, not yet answered */
};

/* A DSN on its way into the queue; with the rows it settles, to be given back if it fails. */
struct dsn_accept {
    struct store_accept accept;
    struct dkim_request sign; /* before it, where there is a key for our own address */
    struct finaliser *f;
    struct final_message *about; /* owned; NULL for a delay notice */
};

struct finaliser *finaliser_create(struct deliver *d)
{
    struct finaliser *f = MEM_NEW(struct finaliser);

    f->d = d;
    return f;
}

void finaliser_destroy(struct finaliser *f)
{
    mem_free(f);
}

static void page(struct finaliser *f);

static void give_back(struct finaliser *f, struct final_message *about)
{
    struct list one;

    list_init(&one);
    list_push_back(&one, &about->node);
    store_post_final_give_back(f->d->w->shared->store, &one);
}

static void end_accept(struct dsn_accept *a, enum err e)
{
    struct finaliser *f = a->f;

    if (e)
        log_warn(&f->d->w->log, "dsn.refused", LOG_ERR(e));
    if (e && a->about && !f->d->closed)
        give_back(f, TAKE(a->about));
    if (a->about)
        final_message_destroy(a->about);
    store_accept_destroy(&a->accept);
    f->open--;
    if (!f->open && f->again && !f->paging && !f->d->closed)
        page(f);
}

static void on_accepted(struct note *note, void *owner)
{
    struct dsn_accept *a = CONTAINER_OF(note, struct dsn_accept, accept.req.note);
    (void)owner;

    end_accept(a, a->accept.req.result);
}

static void on_signed(struct note *note, void *owner)
{
    struct dsn_accept *a = CONTAINER_OF(note, struct dsn_accept, sign.note);
    (void)owner;

    if (!a->sign.result && !a->f->d->closed)
        store_post_accept(a->f->d->w->shared->store, &a->accept);
    else /* the rows come again, at the latest after the next start */
        end_accept(a, a->sign.result ? a->sign.result : ERR_CANCELLED);
}

/* The private-key operation is not for this thread. */
static void hand_over(struct dsn_accept *a)
{
    const struct shared *shared = a->f->d->w->shared;

    if (a->sign.signing)
        dkim_post_always(shared->dkim, &a->sign);
    else
        store_post_accept(shared->store, &a->accept);
}

/* ---- making the message ---- */

static enum dsn_action action_of(const struct final_row *row)
{
    return row->outcome.kind == OUTCOME_DELIVERED ? DSN_RELAYED : DSN_FAILED;
}

/* The header section, and all of the message when it is wanted and small: never more than DSN_FULL_BYTES_MAX.
 */
static void read_original(struct deliver *d, const struct message *m, enum dsn_action action, struct buf *out,
                          struct dsn *dsn)
{
    const struct body *body = m->body;
    bool whole = dsn_wants_full(dsn_ret_of(m), action, body->size_bytes);
    size_t len =
        whole ? (size_t)body->size_bytes : MIN_OF((size_t)body->header_bytes, (size_t)DSN_HEADER_BYTES_MAX);

    if (len == 0 || spool_read(store_spool(d->w->shared->store), body, 0, len, buf_reserve(out, len)) != OK)
        return; /* the notification is worth sending without it */
    out->len = len;
    dsn->header = bytes_first(buf_bytes(out), body->header_bytes);
    if (whole)
        dsn->full = buf_bytes(out);
}

/* With room for signatures at its start, where there is a key: then *signing is theirs who have it filled. */
static struct body *body_of(struct deliver *d, const struct buf *text, struct dkim_signing **signing)
{
    struct body_writer *writer = body_writer_create(store_spool(d->w->shared->store));
    const struct bytes header = bytes_first(buf_bytes(text), dkim_header_length(buf_bytes(text)));
    struct dkim_signing *s = dkim_signing_begin(d->w->shared->dkim, &header, 1, NULL);
    struct body *body = NULL;
    enum err e = s ? body_writer_put(writer, dkim_signing_fields(s)) : OK;

    if (s)
        dkim_signing_body(s, bytes_skip(buf_bytes(text), header.len + 2));
    if (!e)
        e = body_writer_put(writer, buf_bytes(text));
    if (e)
        body_writer_destroy(writer);
    else
        e = body_writer_finish(writer, &body);
    if (e) {
        dkim_signing_destroy(s);
        return NULL;
    }
    *signing = s;
    return body;
}

static struct message *make_message(struct deliver *d, const struct message *about, struct dsn *dsn,
                                    struct dkim_signing **signing)
{
    char domain[DOMAIN_MAX_BYTES + 1];
    BUF_LOCAL(text);

    if (domain_normalise(domain_of_address(bytes_of(about->sender)), domain) != OK)
        return NULL;
    dsn->reporting_mta = d->w->shared->host_name;
    dsn->postmaster = worker_conf(d->w)->postmaster;
    dsn->sender = about->sender;
    dsn->envid = about->envid;
    dsn->id = message_id_make(d->w->index);
    dsn->arrival_unix = about->accepted_unix;
    dsn->now_unix = clock_unix();
    dsn->ret = dsn_ret_of(about);
    dsn->tls_required_no = about->flags & MESSAGE_TLS_REQUIRED_NO;
    dsn_format(dsn, &text);
    struct body *body = body_of(d, &text, signing);
    if (!body)
        return NULL;
    struct rcpt to = {.address = about->sender, .domain = domain, .notify = NOTIFY_NEVER};
    struct message m = {
        .flags = MESSAGE_DSN | dsn_tls_flags(about) | (dsn_needs_smtputf8(dsn) ? MESSAGE_SMTPUTF8 : 0U) |
                 (body->flags & BODY_8BIT ? MESSAGE_8BITMIME : 0U),
        .id = dsn->id,
        .accepted_unix = dsn->now_unix,
        .sender = "",
        .body = body,
        .rcpt_count = 1,
        .rcpt_total = 1,
        .rcpts = &to,
    };
    struct message *made = message_create(&m);
    body_unref(body);
    return made;
}

static struct dsn_accept *make_accept(struct finaliser *f, struct message *message,
                                      struct dkim_signing *signing)
{
    struct dsn_accept *a = MEM_NEW(struct dsn_accept);

    a->f = f;
    a->accept.req.reply_to = &f->d->w->inbox;
    a->accept.req.on_reply = on_accepted;
    a->accept.message = message;
    a->sign = (struct dkim_request){
        .reply_to = &f->d->w->inbox,
        .on_reply = on_signed,
        .signing = signing,
        .body = message->body,
        .spool = store_spool(f->d->w->shared->store),
    };
    f->open++;
    return a;
}

/* ---- rows ---- */

/* Rows of one message that owe a DSN become one notification. */
static bool notify(struct finaliser *f, struct final_message *about)
{
    struct deliver *d = f->d;
    struct dsn dsn = {0};
    struct dsn_rcpt *rcpts = mem_zalloc(about->count * sizeof(*rcpts));
    BUF_LOCAL(original);

    for (uint32_t i = 0; i < about->count; i++) {
        const struct final_row *row = &about->rows[i];
        rcpts[i] = (struct dsn_rcpt){
            .action = action_of(row),
            .address = row->rcpt.address,
            .orcpt = row->rcpt.orcpt,
            .outcome = &row->outcome,
            .remote_mta = row->remote_mx,
            .last_attempt_unix = row->at_unix,
        };
    }
    dsn.rcpts = rcpts;
    dsn.rcpt_count = about->count;
    enum dsn_action gravest = DSN_RELAYED; /* one failure makes it a failure's notification */
    for (uint32_t i = 0; i < about->count; i++)
        gravest = rcpts[i].action == DSN_FAILED ? DSN_FAILED : gravest;
    read_original(d, about->message, gravest, &original, &dsn);
    struct dkim_signing *signing = NULL;
    struct message *message = make_message(d, about->message, &dsn, &signing);
    mem_free(rcpts);
    if (!message)
        return false;
    struct dsn_accept *a = make_accept(f, message, signing);
    a->accept.settles = mem_zalloc(about->count * sizeof(*a->accept.settles));
    a->accept.settle_count = about->count;
    for (uint32_t i = 0; i < about->count; i++) {
        a->accept.settles[i].message_id = about->message->id;
        a->accept.settles[i].rcpt_no = about->rows[i].rcpt.no;
    }
    log_info(&d->w->log, "dsn", LOG_STR("to", about->message->sender), LOG_INT("rcpts", about->count));
    a->about = about;
    hand_over(a);
    return true;
}

/* What an operator ended gets its record here; the row then comes again as DSN_OWED, or is gone. */
static void record(struct finaliser *f, const struct message *m, struct final_row *row)
{
    struct job job = {.message = (struct message *)(uintptr_t)m, .rcpts = &row->rcpt, .rcpt_count = 1};
    struct dest *dest = dest_get(f->d, row->rcpt.domain);
    struct outcome o;

    if (row->kind == FINAL_OPERATOR_CANCEL)
        outcome_local(&o, OUTCOME_CANCELLED, STAGE_QUEUE, 0, "", "cancelled by an operator");
    else if (row->kind == FINAL_CAMPAIGN_OVER)
        outcome_local(&o, OUTCOME_EXPIRED, STAGE_QUEUE, 554, "4.4.7",
                      "not delivered before its campaign was over");
    else
        outcome_local(&o, OUTCOME_BOUNCED, STAGE_QUEUE, 554, "5.7.0",
                      "returned to the sender by an operator");
    if (row->rcpt.attempts)
        row->rcpt.attempts--; /* no attempt: record_attempt() counts one */
    record_attempt(dest, NULL, &job, &row->rcpt, &o, worker_now_ms(f->d->w), false);
    dest_kick_soon(dest);
}

static void settle(struct finaliser *f, struct final_message *about)
{
    uint32_t owed = 0;

    for (uint32_t i = 0; i < about->count; i++) {
        if (about->rows[i].kind != FINAL_DSN_OWED) {
            record(f, about->message, &about->rows[i]);
            mem_free(about->rows[i].remote_mx);
        } else {
            about->rows[owed++] = about->rows[i];
        }
    }
    about->count = owed; /* the leases of the recorded ones end with their results */
    if (!owed)
        final_message_destroy(about);
    else if (!notify(f, about))
        give_back(f, about);
}

static void on_page(struct note *note, void *owner)
{
    struct store_final_page *p = CONTAINER_OF(note, struct store_final_page, req.note);
    struct worker *w = owner;
    struct finaliser *f = w->deliver->finaliser;
    bool any = false;
    struct list *node;

    f->paging = false;
    if (f->d->closed) { /* the rows come again after the next start */
        store_final_page_destroy(p);
        return;
    }
    while ((node = list_pop(&p->messages))) {
        settle(f, LIST_ENTRY(node, struct final_message, node));
        any = true;
    }
    store_final_page_destroy(p);
    if (any)
        f->again = true; /* perhaps there is more: asked once these are answered */
    if (f->again && !f->open && any)
        page(f);
    else if (!any)
        f->again = false;
}

static void page(struct finaliser *f)
{
    struct store_final_page *p = MEM_NEW(struct store_final_page);

    f->paging = true;
    f->again = false;
    p->req.reply_to = &f->d->w->inbox;
    p->req.on_reply = on_page;
    p->limit = PAGE_ROWS;
    list_init(&p->messages);
    store_post_final_page(f->d->w->shared->store, p);
}

void finaliser_on_due(struct note *note, void *worker)
{
    struct worker *w = worker;
    struct finaliser *f = w->deliver->finaliser;

    mem_free(note);
    if (f->d->closed)
        return;
    if (f->paging || f->open)
        f->again = true;
    else
        page(f);
}

/* ---- delay notices ---- */

struct delay_call {
    struct message *message; /* counted */
    struct outcome outcome;
    char *address, *orcpt, *remote_mx; /* owned */
    uint32_t rcpt_no;
    int64_t until_unix;
};

static void send_delay_notice(struct worker *w, void *arg)
{
    struct delay_call *call = arg;
    struct finaliser *f = w->deliver->finaliser;
    struct dsn_rcpt rcpt = {
        .action = DSN_DELAYED,
        .address = call->address,
        .orcpt = call->orcpt,
        .outcome = &call->outcome,
        .remote_mta = call->remote_mx,
        .last_attempt_unix = clock_unix(),
        .retry_until_unix = call->until_unix,
    };
    struct dsn dsn = {.rcpts = &rcpt, .rcpt_count = 1};
    BUF_LOCAL(original);

    if (!w->deliver->closed) {
        read_original(w->deliver, call->message, DSN_DELAYED, &original, &dsn);
        struct dkim_signing *signing = NULL;
        struct message *message = make_message(w->deliver, call->message, &dsn, &signing);
        if (message) {
            struct dsn_accept *a = make_accept(f, message, signing);
            a->accept.settles = mem_zalloc(sizeof(*a->accept.settles));
            a->accept.settle_count = 1;
            a->accept.settles[0].message_id = call->message->id;
            a->accept.settles[0].rcpt_no = call->rcpt_no;
            a->accept.settles[0].mark_delay_only = true;
            hand_over(a);
        }
    }
    message_unref(call->message);
    mem_free(call->address);
    mem_free(call->orcpt);
    mem_free(call->remote_mx);
    mem_free(call);
}

void deliver_delay_notice(struct deliver *d, const struct message *m, const struct rcpt *rcpt,
                          const struct outcome *o, const char *remote_mx, int64_t until_unix)
{
    struct delay_call *call = MEM_NEW(struct delay_call);

    call->message = message_ref((struct message *)(uintptr_t)m);
    call->outcome = *o;
    call->address = mem_strdup(rcpt->address);
    call->orcpt = mem_strdup(rcpt->orcpt);
    call->remote_mx = mem_strdup(remote_mx);
    call->rcpt_no = rcpt->no;
    call->until_unix = until_unix;
    worker_post(d->w->shared->workers[0], send_delay_notice, call);
}
