/* Addresses that mail leaves from, and their warm-up by hand. */
#include <string.h>

#include "base/clock.h"
#include "base/ip.h"
#include "engine/engine.h"
#include "queue/report.h"
#include "webui-api/json_write.h"
#include "webui-api/params.h"
#include "webui-api/queue_view.h"
#include "webui-api/routes.h"

#define STEP_MAX   64
#define TIMEOUT_MS 5000

/* What was delivered from each since the span's beginning, from history: it outlives a restart. */
static enum err put_delivered(struct request *r, json_t *sources, const char *key, int64_t span_s)
{
    int64_t now = clock_unix();
    const struct report_query q = {
        .since_unix = now - now % span_s, .by = REPORT_BY_SOURCE, .timeout_ms = TIMEOUT_MS};
    struct report_delivery report;
    enum err e = report_delivery(view_data_dir(r), &q, &report);
    json_t *one;
    size_t i;

    if (e)
        return e;
    json_array_foreach(sources, i, one)
    {
        uint64_t delivered = 0;

        for (size_t k = 0; k < report.count; k++)
            if (strcmp(report.rows[k].key, json_string_value(json_object_get(one, "address"))) == 0)
                delivered = report.rows[k].delivered;
        json_object_set_new(one, key, json_integer((json_int_t)delivered));
    }
    report_delivery_fini(&report);
    return OK;
}

void get_sources(struct request *r)
{
    json_t *sources = engine_sources_json(r->engine);
    enum err e = put_delivered(r, sources, "delivered_hour", 3600);

    if (!e)
        e = put_delivered(r, sources, "delivered_day", 86400);
    if (e) {
        json_decref(sources);
        reply_err(r, e, "the report by source");
        return;
    }
    json_begin(&r->reply.body, NULL, '{');
    json_put_tree(&r->reply.body, "sources", sources);
    json_end(&r->reply.body, '}');
    json_decref(sources);
    reply_ok(r, TYPE_JSON);
}

void post_source_warmup(struct request *r)
{
    static const char *const ops[] = {"hold", "resume", "step"};
    const char *text = param_text(r, "address");
    char address[IP_TEXT_BYTES];
    uint64_t step = 0;
    struct ip ip;
    size_t changed;
    int op = -1;

    if (!param_word(r, "op", ops, COUNT_OF(ops), &op) || !param_count(r, "step", 1, STEP_MAX + 1, &step))
        return;
    if (op < 0 || (op == SOURCE_STEP) != (step > 0)) {
        reply_error(r, 400, "invalid", "'op' is hold, resume, or step with a number 'step'");
        return;
    }
    if (!text || !ip_parse(bytes_of(text), &ip)) {
        reply_error(r, 400, "invalid", "'address' is a source address, like 192.0.2.1");
        return;
    }
    ip_format(&ip, address);
    if (engine_source_warmup(r->engine, address, param_text(r, "group"), (enum source_op)op, (uint32_t)step,
                             &changed)) {
        reply_error(r, 404, "not_found", "no group warms %s up", address);
        return;
    }
    json_begin(&r->reply.body, NULL, '{');
    json_put_count(&r->reply.body, "changed", changed);
    json_end(&r->reply.body, '}');
    reply_ok(r, TYPE_JSON);
}
