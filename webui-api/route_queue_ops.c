/* What an operator does to queued mail. */
#include "engine/engine.h"
#include "webui-api/json_write.h"
#include "webui-api/queue_wish.h"
#include "webui-api/routes.h"

static void carry_out(struct request *r, struct queue_wish *w)
{
    struct buf *out = &r->reply.body;
    uint64_t changed = 0;
    enum err e = engine_queue_op(r->engine, &w->which, w->group, w->op, &changed);

    if (e == ERR_NOT_FOUND && w->group) {
        reply_error(r, 404, "not_found", "the policy has no group '%s'", w->group);
        return;
    }
    if (e) {
        reply_err(r, e, "the operation");
        return;
    }
    json_begin(out, NULL, '{');
    json_put_text(out, "op", queue_wish_op_name(w->op));
    json_put_count(out, "changed", changed);
    json_end(out, '}');
    reply_ok(r, TYPE_JSON);
}

void post_queue_ops(struct request *r)
{
    struct queue_wish w = {0};

    if (queue_wish_read(r, &w))
        carry_out(r, &w);
    queue_wish_fini(&w);
}
