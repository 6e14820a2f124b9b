#include "webui-api/json_write.h"
#include "webui-api/params.h"
#include "webui-api/reconcile.h"
#include "webui-api/routes.h"

static void put_sum(struct buf *out, const struct reconciliation_row *row)
{
    json_put_count(out, "accepted_messages", row->accepted_messages);
    json_put_count(out, "accepted", row->accepted);
    json_put_count(out, "delivered", row->delivered);
    json_put_count(out, "bounced", row->bounced);
    json_put_count(out, "expired", row->expired);
    json_put_count(out, "cancelled", row->cancelled);
    json_put_count(out, "waiting", row->waiting);
    json_put_int(out, "difference", reconciliation_difference(row));
}

void get_report_reconcile(struct request *r)
{
    static const char *const words[] = {"campaign"};
    struct buf *out = &r->reply.body;
    struct reconciliation sum = {0};
    int by = -1;

    if (!param_word(r, "by", words, COUNT_OF(words), &by))
        return;
    enum err e = reconcile(r, param_text(r, "campaign"), by == 0, &sum);
    if (e) {
        reply_err(r, e, "the reconciliation");
        return;
    }
    json_begin(out, NULL, '{');
    json_put_bool(out, "exact", reconciliation_difference(&sum.total) == 0);
    json_put_bool(out, "in_motion", sum.in_motion);
    json_put_int(out, "since_unix", sum.since_unix);
    json_begin(out, "rows", '[');
    for (size_t i = 0; i < sum.count; i++) {
        json_begin(out, NULL, '{');
        json_put_text(out, "campaign", sum.rows[i].campaign);
        put_sum(out, &sum.rows[i]);
        json_end(out, '}');
    }
    json_end(out, ']');
    json_begin(out, "totals", '{');
    put_sum(out, &sum.total);
    json_end(out, '}');
    json_end(out, '}');
    reply_ok(r, TYPE_JSON);
}
