#include "engine/submit/reports.h"

#include "base/mem.h"
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
    struct received_from from;
    char *dir; /* owned */
    const struct body *body;
    const char *why;
    enum err result;
    struct worker *w;
    reports_fn fn;
    void *arg;
};

static void take(uv_work_t *work)
{
    struct taking *t = CONTAINER_OF(work, struct taking, work);
    const size_t len = (size_t)t->body->size_bytes;
    BUF_LOCAL(mail);

    t->why = "";
    if (t->body->size_bytes > MAIL_BYTES_MAX) {
        t->why = "it is larger than 16 MiB";
        t->result = ERR_FULL;
        return;
    }
    t->result = spool_read(store_spool(t->from.store), t->body, 0, len, buf_reserve(&mail, len));
    mail.len = t->result ? 0 : len;
    if (!t->result)
        t->result = received_take(&t->from, buf_bytes(&mail), NULL, &t->why);
}

static void on_taken(uv_work_t *work, int status)
{
    struct taking *t = CONTAINER_OF(work, struct taking, work);
    enum err e = status == UV_ECANCELED ? ERR_CANCELLED : t->result;

    if (e)
        log_warn(&t->w->log, "tlsrpt.not_received", LOG_STR("why", *t->why ? t->why : err_text(e)));
    else
        COUNT(t->w, tls_reports_in);
    t->fn(t->arg,
          e == ERR_INVALID || e == ERR_FULL ? ERR_PROTOCOL : e); /* it will be no better the next time */
    mem_free(t->dir);
    mem_free(t);
}

void reports_take(struct worker *w, const struct message *m, reports_fn fn, void *arg)
{
    struct taking *t = MEM_NEW(struct taking);
    const struct conf *conf = worker_conf(w);

    t->dir = mem_strdup(conf->data_dir);
    t->from = (struct received_from){w->shared->store, t->dir, (unsigned)conf->store.history_days, "mail"};
    t->body = m->body;
    t->w = w;
    t->fn = fn;
    t->arg = arg;
    t->why = "";
    uv_queue_work(&w->loop, &t->work, take, on_taken);
}
