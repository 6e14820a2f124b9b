/* One message: envelope, header (never the body), recipients, attempts. */
#include "base/mem.h"
#include "webui-api/json_write.h"
#include "webui-api/params.h"
#include "webui-api/queue_view.h"
#include "webui-api/routes.h"

#define HEADER_MAX_BYTES ((size_t)16 * 1024)
#define ATTEMPTS_MAX     1000

static void put_flags(struct buf *out, uint32_t flags)
{
    static const struct {
        uint32_t flag;
        const char *name;
    } names[] = {{MESSAGE_SMTPUTF8, "smtputf8"},
                 {MESSAGE_8BITMIME, "8bitmime"},
                 {MESSAGE_DSN, "dsn"},
                 {MESSAGE_REQUIRETLS, "requiretls"},
                 {MESSAGE_TLS_REQUIRED_NO, "tls-required-no"}};

    json_begin(out, "flags", '[');
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (flags & names[i].flag)
            json_put_text(out, NULL, names[i].name);
    json_end(out, ']');
}

static enum err put_header(struct request *r, struct browse *b, const struct browse_message *m)
{
    BUF_LOCAL(header);
    enum err e = browse_header(b, store_spool(engine_store(r->engine)), m->id, HEADER_MAX_BYTES, &header);

    if (e == ERR_NOT_FOUND) { /* it left the queue while we looked */
        json_put_null(&r->reply.body, "header");
        json_put_bool(&r->reply.body, "header_cut", false);
        return OK;
    }
    if (e)
        return e;
    json_put_bytes(&r->reply.body, "header", buf_bytes(&header));
    json_put_bool(&r->reply.body, "header_cut", m->header_bytes > HEADER_MAX_BYTES);
    return OK;
}

static enum err put_queued(struct request *r, struct browse *b, const struct browse_message *m)
{
    static const char *const rets[] = {"default", "full", "hdrs"};
    struct buf *out = &r->reply.body;

    json_put_bool(out, "in_queue", true);
    json_put_int(out, "accepted_unix", m->accepted_unix);
    json_put_text(out, "sender", m->sender);
    json_put_text(out, "campaign", m->campaign);
    json_put_text(out, "envid", m->envid);
    json_put_text(out, "account", m->account);
    json_put_text(out, "ret", (size_t)m->ret < COUNT_OF(rets) ? rets[m->ret] : NULL);
    json_put_count(out, "size", m->size_bytes);
    json_put_count(out, "header_bytes", m->header_bytes);
    put_flags(out, m->flags);
    json_put_count(out, "recipients_total", m->rcpt_total);
    enum err e = put_header(r, b, m);
    json_begin(out, "recipients", '[');
    for (size_t i = 0; i < m->rcpt_count; i++)
        view_put_rcpt(out, &m->rcpts[i]);
    json_end(out, ']');
    return e;
}

/* What every record repeats is all that is left of its envelope. */
static void put_left(struct buf *out, const struct attempt *a)
{
    static const char *const unknown[] = {"ret", "header_bytes", "flags", "recipients_total", "header"};

    json_put_bool(out, "in_queue", false);
    json_put_int(out, "accepted_unix", a->accepted_unix);
    json_put_text(out, "sender", a->sender);
    json_put_text(out, "campaign", a->campaign);
    json_put_null(out, "envid");
    json_put_text(out, "account", a->account);
    json_put_count(out, "size", a->size_bytes);
    for (size_t i = 0; i < COUNT_OF(unknown); i++)
        json_put_null(out, unknown[i]);
    json_put_bool(out, "header_cut", false);
    json_begin(out, "recipients", '[');
    json_end(out, ']');
}

static enum err put_from_history(struct request *r, uint64_t id)
{
    const struct report_which last = {.message_id = id, .newest = 1, .timeout_ms = 5000};
    struct report_attempts found = {0};
    enum err e = report_attempts(view_data_dir(r), &last, &found);

    if (!e && !found.count)
        e = found.cut_short ? ERR_TIMEOUT : ERR_NOT_FOUND;
    if (!e)
        put_left(&r->reply.body, &found.rows[0].attempt);
    report_attempts_fini(&found);
    return e;
}

void get_queue_message(struct request *r)
{
    struct buf *out = &r->reply.body;
    struct browse_message m;
    uint64_t id;
    char text[MESSAGE_ID_TEXT];

    if (!message_id_parse(bytes_of(r->args[0]), &id)) {
        reply_error(r, 400, "invalid",
                    "a message id has 13 characters (digits and lower-case letters), '%s' is none",
                    r->args[0]);
        return;
    }
    CLEANUP(browse_close) struct browse *b = view_open(r);
    if (!b)
        return;
    json_begin(out, NULL, '{');
    json_put_text(out, "message", message_id_format(id, text));
    enum err e = browse_message(b, id, &r->arena, &m);
    if (!e)
        e = put_queued(r, b, &m);
    else if (e == ERR_NOT_FOUND)
        e = put_from_history(r, id);
    if (!e) {
        const struct report_which which = {.message_id = id, .newest = ATTEMPTS_MAX};
        e = view_put_attempts(view_data_dir(r), &which, true, out, NULL);
    }
    if (e == ERR_NOT_FOUND) {
        reply_error(r, 404, "not_found", "neither the queue nor history knows message %s", text);
        return;
    }
    if (e) {
        reply_err(r, e, "the message");
        return;
    }
    json_end(out, '}');
    reply_ok(r, TYPE_JSON);
}
