/*
 * One report as mail of our own: made, signed, accepted into the queue.
 *
 * The session that carries it counts in no report and needs no TLS: the message says so (TLS-Required: No).
 */
#include "base/clock.h"
#include "base/mem.h"
#include "engine/dkim/dkim.h"
#include "engine/tlsrpt/mail.h"
#include "engine/tlsrpt/tlsrpt_priv.h"
#include "policy/domain.h"

struct mail_out {
    struct dkim_request sign;
    struct tlsrpt *t;
    char *to, *from, *domain; /* owned */
    uint64_t id;
    int64_t now_unix;
    mail_post_fn fn;
    void *arg;
};

struct mail_accept {
    struct store_accept accept; /* first: its destroy frees the whole */
    struct mail_out *out;
};

static void finish(struct mail_out *m, enum err e, const char *why)
{
    mail_post_fn fn = m->fn;
    void *arg = m->arg;
    bool closed = m->t->closed;

    buf_fini(&m->sign.message);
    mem_free(m->to);
    mem_free(m->from);
    mem_free(m->domain);
    mem_free(m);
    if (!closed)
        fn(arg, e, why);
}

static void on_accepted(struct note *note, void *owner)
{
    struct mail_accept *a = CONTAINER_OF(note, struct mail_accept, accept.req.note);
    struct mail_out *m = a->out;
    enum err e = a->accept.req.result;
    (void)owner;

    store_accept_destroy(&a->accept);
    finish(m, e, e == ERR_NOSPACE ? "no space in the queue" : e ? err_text(e) : "");
}

static void accept_mail(struct mail_out *m)
{
    struct mail_accept *a = MEM_NEW(struct mail_accept);
    size_t len = m->sign.message.len;
    struct body *body = body_create(buf_take(&m->sign.message), len);
    struct rcpt to = {.address = m->to, .domain = m->domain, .notify = NOTIFY_NEVER};

    body_measure(body);
    struct message message = {
        .flags = MESSAGE_TLS_REQUIRED_NO,
        .id = m->id,
        .accepted_unix = m->now_unix,
        .expires_unix = m->now_unix + RETRY_FOR_S,
        .sender = m->from,
        .body = body,
        .rcpt_count = 1,
        .rcpt_total = 1,
        .rcpts = &to,
    };
    a->out = m;
    a->accept.req.reply_to = &m->t->w->inbox;
    a->accept.req.on_reply = on_accepted;
    a->accept.message = message_create(&message);
    body_unref(body);
    store_post_accept(m->t->w->shared->store, &a->accept);
}

static void on_signed(struct note *note, void *owner)
{
    struct mail_out *m = CONTAINER_OF(note, struct mail_out, sign.note);
    (void)owner;

    if (m->t->closed) {
        finish(m, ERR_CANCELLED, "");
    } else if (m->sign.result && m->sign.result != ERR_NOT_FOUND) {
        finish(m, m->sign.result, "it cannot be signed");
    } else {
        if (m->sign.result)
            log_warn(&m->t->w->log, "tlsrpt.unsigned", LOG_STR("to", m->to), LOG_STR("from", m->from),
                     LOG_STR("hint",
                             "give dkim.keys a key for the domain of tlsrpt.contact: receivers must ignore "
                             "this report without it"));
        accept_mail(m);
    }
}

/* The message as octets; the reporter is who we are now, the sums are those of the report. */
static void format(struct mail_out *m, const json_t *head, struct bytes gz)
{
    struct reporter r;
    char id[MESSAGE_ID_TEXT];

    reporter_init(&r, m->t->w);
    struct tlsrpt_about about = tlsrpt_about_of(&r, head);
    const struct tlsrpt_mail mail = {
        .about = &about,
        .from = m->from,
        .to = m->to,
        .host_name = r.host_name,
        .file_name = tlsrpt_head_text(head, "file"),
        .message_id = message_id_format(m->id, id),
        .now_unix = m->now_unix,
        .totals = {.successful = (uint64_t)tlsrpt_head_int(head, "successful"),
                   .failed = (uint64_t)tlsrpt_head_int(head, "failed")},
        .gz = gz,
    };
    tlsrpt_mail_format(&mail, &m->sign.message);
    reporter_fini(&r);
}

void mail_post(struct tlsrpt *t, const json_t *head, const char *to, struct bytes gz, mail_post_fn fn,
               void *arg)
{
    struct mail_out *m = MEM_NEW(struct mail_out);
    const struct conf *conf = tlsrpt_conf(t);
    char domain[DOMAIN_MAX_BYTES + 1] = "";

    m->t = t;
    m->fn = fn;
    m->arg = arg;
    m->to = mem_strdup(to);
    m->from = mem_strdup(conf->tlsrpt.from ? conf->tlsrpt.from : "");
    m->id = message_id_make(t->w->index);
    m->now_unix = clock_unix();
    if (!*m->from || domain_normalise(domain_of_address(bytes_of(to)), domain) != OK) {
        finish(m, ERR_INVALID, *m->from ? "no mail address" : "tlsrpt.contact is not set");
        return;
    }
    m->domain = mem_strdup(domain);
    format(m, head, gz);
    m->sign.reply_to = &t->w->inbox;
    m->sign.on_reply = on_signed;
    if (conf->dkim.keys.count == 0) { /* then nobody is there to take orders */
        m->sign.result = ERR_NOT_FOUND;
        on_signed(&m->sign.note, t->w);
        return;
    }
    enum err e = dkim_post(t->w->shared->dkim, &m->sign);
    if (e)
        finish(m, e, "the queue for signing is full");
}
