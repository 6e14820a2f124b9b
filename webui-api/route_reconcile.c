#include "queue/keep.h"
#include "webui-api/json_write.h"
#include "webui-api/params.h"
#include "webui-api/queue_view.h"
#include "webui-api/reconcile.h"
#include "webui-api/routes.h"

#define DOUBT_PRESET 100
#define DOUBT_MAX    10000

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

static void put_reconciliation(struct buf *out, const struct reconciliation *sum)
{
    json_put_bool(out, "exact", reconciliation_difference(&sum->total) == 0);
    json_put_bool(out, "in_motion", sum->in_motion);
    json_put_int(out, "since_unix", sum->since_unix);
    json_begin(out, "rows", '[');
    for (size_t i = 0; i < sum->count; i++) {
        json_begin(out, NULL, '{');
        json_put_text(out, "campaign", sum->rows[i].campaign);
        put_sum(out, &sum->rows[i]);
        json_end(out, '}');
    }
    json_end(out, ']');
    json_begin(out, "totals", '{');
    put_sum(out, &sum->total);
    json_end(out, '}');
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
    put_reconciliation(out, &sum);
    json_end(out, '}');
    reply_ok(r, TYPE_JSON);
}

/* ---- the audit: the same, and what may have come twice ---- */

static bool put_end(void *arg, const struct kept *k)
{
    enum { STARTED, FIRST, WAITING, FLYING };
    static const char *const keys[][2] = {[STARTED] = {"started", "started_unix"},
                                          [FIRST] = {"first", "first_attempts"},
                                          [WAITING] = {"waiting", "waiting"},
                                          [FLYING] = {"flying", "possible_duplicates"}};
    struct bytes rest = k->value;
    struct buf *out = arg;
    bool flying_known = false;
    uint64_t n;

    json_begin(out, NULL, '{');
    json_put_int(out, "found_unix", k->at_unix);
    while (rest.len) {
        struct bytes line = bytes_first(rest, bytes_find(rest, '\n'));
        size_t blank = bytes_find(line, ' ');
        rest = bytes_skip(rest, line.len + 1);
        for (size_t i = 0; i < COUNT_OF(keys); i++)
            if (bytes_eq(bytes_first(line, blank), bytes_of(keys[i][0])) &&
                bytes_parse_u64(bytes_skip(line, blank + 1), &n)) {
                json_put_count(out, keys[i][1], n);
                flying_known |= i == FLYING;
            }
    }
    if (!flying_known) /* the host went down with it, or an older program wrote this */
        json_put_null(out, keys[FLYING][1]);
    json_end(out, '}');
    return true;
}

void get_audit(struct request *r)
{
    struct buf *out = &r->reply.body;
    struct reconciliation sum = {0};
    uint64_t limit = DOUBT_PRESET;

    if (!param_count(r, "limit", 1, DOUBT_MAX, &limit))
        return;
    const struct report_which doubt = {
        .in_doubt = true, .campaign = param_text(r, "campaign"), .newest = (size_t)limit};
    enum err e = reconcile(r, doubt.campaign, true, &sum);
    json_begin(out, NULL, '{');
    if (!e) {
        put_reconciliation(out, &sum);
        e = view_put_attempts(view_data_dir(r), &doubt, true, out, NULL);
    }
    if (!e) {
        json_begin(out, "unclean_ends", '[');
        e = keep_read(view_data_dir(r), KEEP_UNCLEAN_END, NULL, put_end, out);
        json_end(out, ']');
    }
    if (e) {
        reply_err(r, e, "the audit");
        return;
    }
    json_end(out, '}');
    reply_ok(r, TYPE_JSON);
}
