/* What is going on: health, metrics, status, and why a domain's mail goes where it goes. */
#include "webui-api/json_write.h"
#include "webui-api/params.h"
#include "webui-api/queue_view.h"
#include "webui-api/routes.h"

#define EXPLAIN_ATTEMPTS 5

DEFINE_CLEANUP(json_t *, json_decref)

void get_healthz(struct request *r)
{
    struct store_stats s;

    bool stuck = engine_is_stuck(r->engine);
    store_stats(engine_store(r->engine), &s);
    buf_puts(&r->reply.body, stuck    ? "stuck: a thread stands still; hayauma status says which\n"
                             : s.full ? "full: new mail is refused for want of space\n"
                                      : "ok\n");
    reply_ok(r, TYPE_TEXT);
    if (stuck || s.full)
        r->reply.status = 503;
}

void get_metrics(struct request *r)
{
    engine_metrics(r->engine, &r->reply.body);
    reply_ok(r, "text/plain; version=0.0.4; charset=utf-8");
}

/* An object of the engine's, without its closing bracket: more follows. */
static void begin_with(struct buf *out, const json_t *tree)
{
    json_put_tree(out, NULL, tree);
    out->len--;
}

void get_status(struct request *r)
{
    struct buf *out = &r->reply.body;
    struct browse_totals totals;
    CLEANUP(browse_close) struct browse *b = view_open(r);

    if (!b)
        return;
    enum err e = browse_totals(b, &totals);
    if (e) {
        reply_err(r, e, "the queue");
        return;
    }
    CLEANUP(json_decref) json_t *status = engine_status(r->engine);
    begin_with(out, status);
    view_put_totals(out, "queue", &totals);
    json_end(out, '}');
    reply_ok(r, TYPE_JSON);
}

/* Those of the address that was asked about; before its first, those of its domain. */
static enum err put_last_attempts(struct request *r, const char *domain, const char *address)
{
    struct report_which which = {.domain = domain, .address = address, .newest = EXPLAIN_ATTEMPTS};
    struct buf *out = &r->reply.body;
    size_t before = out->len, found = 0;
    enum err e = view_put_attempts(view_data_dir(r), &which, false, out, &found);

    if (!e && address && !found) {
        out->len = before;
        which.address = address = NULL;
        e = view_put_attempts(view_data_dir(r), &which, false, out, &found);
    }
    json_put_text(out, "attempts_of", address ? "address" : "domain");
    return e;
}

void get_explain(struct request *r)
{
    struct buf *out = &r->reply.body;
    CLEANUP(json_decref) json_t *facts = engine_explain(r->engine, r->args[0]);
    const char *wrong = json_string_value(json_object_get(facts, "error"));
    const char *domain = json_string_value(json_object_get(facts, "domain"));

    if (!facts || wrong || !domain) {
        reply_error(r, 400, "invalid", "'%s': %s", r->args[0], wrong ? wrong : "that cannot be explained");
        return;
    }
    CLEANUP(browse_close) struct browse *b = view_open(r);
    if (!b)
        return;
    begin_with(out, facts);
    if (!view_put_domain(r, b, domain, out))
        return;
    enum err e = put_last_attempts(r, domain, json_string_value(json_object_get(facts, "address")));
    if (e) {
        reply_err(r, e, "the history of this domain");
        return;
    }
    json_end(out, '}');
    reply_ok(r, TYPE_JSON);
}

void get_doctor(struct request *r)
{
    CLEANUP(json_decref) json_t *found = engine_doctor(r->engine, param_text(r, "connect"));

    json_put_tree(&r->reply.body, NULL, found);
    reply_ok(r, TYPE_JSON);
}
