/* MTA-STS policies of destinations: what is cached, and a look by hand. */
#include "engine/engine.h"
#include "webui-api/json_write.h"
#include "webui-api/params.h"
#include "webui-api/routes.h"

#define LIMIT     100
#define LIMIT_MAX 10000

DEFINE_CLEANUP(json_t *, json_decref)

void get_sts_policies(struct request *r)
{
    struct buf *out = &r->reply.body;
    uint64_t limit = LIMIT;

    if (!param_count(r, "limit", 1, LIMIT_MAX, &limit))
        return;
    /* One more than asked for says whether there are more. */
    CLEANUP(json_decref) json_t *rows = engine_sts_list(r->engine, param_text(r, "after"), limit + 1);
    const json_t *last = json_array_size(rows) > limit ? json_array_get(rows, limit - 1) : NULL;
    const char *after = json_string_value(json_object_get(last, "domain"));

    json_begin(out, NULL, '{');
    json_begin(out, "policies", '[');
    for (size_t i = 0; i < MIN_OF(json_array_size(rows), limit); i++)
        json_put_tree(out, NULL, json_array_get(rows, i));
    json_end(out, ']');
    json_put_text(out, "after", after);
    json_end(out, '}');
    reply_ok(r, TYPE_JSON);
}

static void put_one(struct request *r, bool refresh)
{
    CLEANUP(json_decref) json_t *one = NULL;
    enum err e = engine_sts_show(r->engine, r->args[0], refresh, r->stopping, &one);

    if (e == ERR_INVALID) {
        reply_error(r, 400, "invalid", "'%s' is no domain", r->args[0]);
    } else if (e == ERR_NOT_FOUND) {
        reply_error(r, 404, "not_found",
                    "no MTA-STS policy of '%s' is known: nobody has asked for one, or there is none",
                    r->args[0]);
    } else if (e) {
        reply_err(r, e, "the MTA-STS policy");
    } else {
        json_put_tree(&r->reply.body, NULL, one);
        reply_ok(r, TYPE_JSON);
    }
}

void get_sts_policy(struct request *r)
{
    put_one(r, false);
}

void post_sts_refresh(struct request *r)
{
    put_one(r, true);
}
