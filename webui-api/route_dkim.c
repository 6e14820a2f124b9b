/* The keys that sign, and what DNS says of them. */
#include "base/mem.h"
#include "engine/engine.h"
#include "webui-api/json_write.h"
#include "webui-api/params.h"
#include "webui-api/routes.h"

DEFINE_CLEANUP(json_t *, json_decref)

static void put_keys(struct request *r, const json_t *keys)
{
    struct buf *out = &r->reply.body;

    json_begin(out, NULL, '{');
    json_put_tree(out, "keys", keys);
    json_end(out, '}');
    reply_ok(r, TYPE_JSON);
}

void get_dkim_keys(struct request *r)
{
    CLEANUP(json_decref) json_t *keys = engine_dkim_keys(r->engine);

    put_keys(r, keys);
}

void get_dkim_check(struct request *r)
{
    const char *domain = param_text(r, "domain");
    char *why = NULL;
    CLEANUP(json_decref) json_t *keys = engine_dkim_check(r->engine, domain, param_text(r, "dns"), &why);

    if (!keys)
        reply_error(r, 400, "invalid", "%s", why);
    else if (domain && json_array_size(keys) == 0)
        reply_error(r, 404, "not_found",
                    "no key of %s is in force: dkim.keys of the configuration names them", domain);
    else
        put_keys(r, keys);
    mem_free(why);
}
