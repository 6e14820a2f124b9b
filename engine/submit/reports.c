#include "engine/submit/reports.h"

#include "base/clock.h"
#include "base/mem.h"
#include "engine/dns/packet.h"
#include "engine/tlsrpt/proof.h"
#include "engine/tlsrpt/received.h"

#define MAIL_BYTES_MAX (16 * 1024 * 1024) /* ten MiB of JSON do not need more, packed or not */

static bool is_ours(const struct conf *conf, const struct rcpt *rcpt)
{
    return conf->tlsrpt.receive && bytes_ieq(bytes_of(rcpt->address), bytes_of(conf->tlsrpt.receive));
}

bool reports_are_for_us(const struct conf *conf, const struct message *m)
{
    for (uint32_t i = 0; conf->tlsrpt.receive && i < m->rcpt_count; i++)
        if (is_ours(conf, &m->rcpts[i]))
            return true;
    return false;
}

struct message *reports_rest(const struct conf *conf, const struct message *m)
{
    struct message rest = *m;
    struct message *made = NULL;

    rest.rcpts = mem_alloc(m->rcpt_count * sizeof(*rest.rcpts));
    rest.rcpt_count = 0;
    for (uint32_t i = 0; i < m->rcpt_count; i++)
        if (!is_ours(conf, &m->rcpts[i])) {
            rest.rcpts[rest.rcpt_count] = m->rcpts[i];
            rest.rcpts[rest.rcpt_count].no = rest.rcpt_count;
            rest.rcpt_count++;
        }
    rest.rcpt_total = rest.rcpt_count;
    if (rest.rcpt_count)
        made = message_create(&rest);
    mem_free(rest.rcpts);
    return made;
}

struct taking {
    uv_work_t work;
    struct list node; /* w->report_mails, while DNS is asked */
    struct received_from from;
    char *dir; /* owned */
    const struct body *body;
    struct proof proof;
    struct answer_wanted {
        struct taking *t;
        size_t at;
        struct dns_query *query;
    } wanted[DKIM_CHECKED_MAX];
    size_t open; /* questions to DNS */
    bool refuse_unsigned;
    const char *why;
    enum err result;
    struct worker *w;
    reports_fn fn;
    void *arg;
};

/* The mail is read twice rather than held while DNS is asked: it may be large, and there may be many. */
static enum err read_mail(struct taking *t, struct buf *mail)
{
    const size_t len = (size_t)t->body->size_bytes;

    if (t->body->size_bytes > MAIL_BYTES_MAX) {
        t->why = "it is larger than 16 MiB";
        return ERR_FULL;
    }
    enum err e = spool_read(store_spool(t->from.store), t->body, 0, len, buf_reserve(mail, len));
    mail->len = e ? 0 : len;
    return e;
}

static void finish(struct taking *t, enum err e)
{
    if (e)
        log_warn(&t->w->log, "tlsrpt.not_received", LOG_STR("why", *t->why ? t->why : err_text(e)),
                 LOG_STR("dkim", proof_verdict_name(t->proof.verdict)), LOG_STR("signer", t->proof.domain));
    else
        COUNT(t->w, tls_reports_in);
    t->fn(t->arg,
          e == ERR_INVALID || e == ERR_FULL ? ERR_PROTOCOL : e); /* it will be no better the next time */
    proof_fini(&t->proof);
    mem_free(t->dir);
    mem_free(t);
}

/* ---- last: the signature is checked, and the reports are taken ---- */

static void take(uv_work_t *work)
{
    struct taking *t = CONTAINER_OF(work, struct taking, work);
    BUF_LOCAL(mail);

    t->result = read_mail(t, &mail);
    if (t->result)
        return;
    proof_end(&t->proof, buf_bytes(&mail), clock_unix());
    if (t->refuse_unsigned && t->proof.verdict != PROOF_GOOD) {
        t->why = t->proof.why;
        t->result = t->proof.verdict == PROOF_UNKNOWN ? ERR_AGAIN : ERR_DENIED;
        return;
    }
    t->from.dkim = proof_verdict_name(t->proof.verdict);
    t->from.signer = t->proof.domain;
    t->result = received_take(&t->from, buf_bytes(&mail), NULL, &t->why);
}

static void on_taken(uv_work_t *work, int status)
{
    struct taking *t = CONTAINER_OF(work, struct taking, work);

    finish(t, status == UV_ECANCELED ? ERR_CANCELLED : t->result);
}

/* ---- between: DNS ---- */

static void on_answer(void *arg, const struct dns_rrset *set)
{
    struct answer_wanted *a = arg;
    struct taking *t = a->t;

    a->query = NULL;
    proof_take_answer(&t->proof, a->at, set);
    if (--t->open)
        return;
    list_remove(&t->node);
    uv_queue_work(&t->w->loop, &t->work, take, on_taken);
}

static void ask(struct taking *t)
{
    t->open = t->proof.count; /* answers never come from within the question */
    if (!t->open) {
        uv_queue_work(&t->w->loop, &t->work, take, on_taken);
        return;
    }
    list_push_back(&t->w->report_mails, &t->node);
    for (size_t i = 0; i < t->proof.count; i++) {
        t->wanted[i] = (struct answer_wanted){t, i, NULL};
        t->wanted[i].query =
            dns_resolve_rrset(t->w->dns, t->proof.asked[i].name, DNS_TYPE_TXT, on_answer, &t->wanted[i]);
    }
}

void reports_close(struct worker *w)
{
    struct list *node;

    w->report_mails_closed = true;
    while ((node = list_pop(&w->report_mails))) {
        struct taking *t = LIST_ENTRY(node, struct taking, node);
        for (size_t i = 0; i < t->proof.count; i++)
            dns_cancel(TAKE(t->wanted[i].query));
        finish(t, ERR_CANCELLED);
    }
}

/* ---- first: who signed it? ---- */

static void look(uv_work_t *work)
{
    struct taking *t = CONTAINER_OF(work, struct taking, work);
    BUF_LOCAL(mail);

    t->result = read_mail(t, &mail);
    if (!t->result)
        proof_begin(&t->proof, buf_bytes(&mail));
}

static void on_looked(uv_work_t *work, int status)
{
    struct taking *t = CONTAINER_OF(work, struct taking, work);

    if (status == UV_ECANCELED || t->w->report_mails_closed)
        finish(t, ERR_CANCELLED);
    else if (t->result)
        finish(t, t->result);
    else
        ask(t);
}

void reports_take(struct worker *w, const struct message *m, reports_fn fn, void *arg)
{
    struct taking *t = MEM_NEW(struct taking);
    const struct conf *conf = worker_conf(w);

    t->dir = mem_strdup(conf->data_dir);
    t->from = (struct received_from){
        .store = w->shared->store, .dir = t->dir, .days = (unsigned)conf->store.history_days, .via = "mail"};
    t->refuse_unsigned = conf->tlsrpt.receive_unsigned == CONF_UNSIGNED_REFUSE;
    t->body = m->body;
    t->w = w;
    list_init(&t->node);
    t->fn = fn;
    t->arg = arg;
    t->why = t->proof.domain = "";
    uv_queue_work(&w->loop, &t->work, look, on_looked);
}
