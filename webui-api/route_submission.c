/* How messages came in: report submission-tls as JSON and CSV. */
#include "base/mem.h"
#include "queue/intake.h"
#include "webui-api/csv.h"
#include "webui-api/json_write.h"
#include "webui-api/params.h"
#include "webui-api/queue_view.h"
#include "webui-api/routes.h"

#define ROWS_MAX 100000

static const char *const by_words[] = {"account", "source", "network", "listener",
                                       "version", "cipher", "auth",    "hour"};

static const struct column {
    const char *name;
    size_t offset; /* of the uint64_t in struct intake_row */
} columns[] = {
    {"messages", offsetof(struct intake_row, messages)},
    {"clear", offsetof(struct intake_row, clear)},
    {"older", offsetof(struct intake_row, older)},
    {"tls12", offsetof(struct intake_row, tls12)},
    {"tls13", offsetof(struct intake_row, tls13)},
    {"recipients", offsetof(struct intake_row, recipients)},
    {"bytes", offsetof(struct intake_row, bytes)},
};

static uint64_t value_of(const struct intake_row *row, const struct column *c)
{
    uint64_t value;

    memcpy(&value, (const char *)row + c->offset, sizeof(value));
    return value;
}

static bool read_source(struct request *r, struct ip_net *net, struct intake_query *q)
{
    const char *text = param_text(r, "source");

    if (!text)
        return true;
    if (!ip_net_parse(bytes_of(text), net)) {
        reply_error(r, 400, "invalid", "'source' is an address or a network, like 192.0.2.0/24");
        return false;
    }
    q->source = net;
    return true;
}

static bool read_question(struct request *r, struct intake_query *q, struct ip_net *net, bool *csv)
{
    static const char *const sort_words[] = {"volume", "key", "clear", "old"};
    static const char *const format_words[] = {"json", "csv"};
    int by = 0, sort = 0, format = 0;
    uint64_t limit = 0;

    if (!param_time(r, "since", &q->since_unix) || !param_time(r, "until", &q->until_unix) ||
        !param_word(r, "by", by_words, COUNT_OF(by_words), &by) ||
        !param_word(r, "sort", sort_words, COUNT_OF(sort_words), &sort) ||
        !param_word(r, "format", format_words, COUNT_OF(format_words), &format) ||
        !param_count(r, "limit", 0, ROWS_MAX, &limit) || !read_source(r, net, q))
        return false;
    if (q->until_unix && q->since_unix >= q->until_unix) {
        reply_error(r, 400, "invalid", "'since' must be before 'until'");
        return false;
    }
    q->by = (enum intake_by)by;
    q->sort = (enum intake_sort)sort;
    q->limit = (size_t)limit;
    q->account = param_text(r, "account");
    q->listener = param_text(r, "listener");
    q->auth = param_text(r, "auth");
    *csv = format == 1;
    return true;
}

static void put_row(struct buf *out, const struct intake_row *row)
{
    for (size_t i = 0; i < COUNT_OF(columns); i++)
        json_put_count(out, columns[i].name, value_of(row, &columns[i]));
    json_put_int(out, "last_unix", row->last_unix);
    json_begin(out, "ciphers", '[');
    for (size_t i = 0; i < row->cipher_count; i++) {
        json_begin(out, NULL, '{');
        json_put_text(out, "version", row->ciphers[i].version);
        json_put_text(out, "cipher", row->ciphers[i].cipher);
        json_put_count(out, "messages", row->ciphers[i].messages);
        json_end(out, '}');
    }
    json_end(out, ']');
    json_begin(out, "proofs", '{');
    for (size_t i = 0; i < row->auth_count; i++)
        json_put_count(out, row->auths[i].name, row->auths[i].messages);
    json_end(out, '}');
}

static void put_json(struct request *r, const struct intake_query *q, const struct intake_report *report)
{
    struct buf *out = &r->reply.body;

    json_begin(out, NULL, '{');
    json_put_text(out, "by", by_words[q->by]);
    json_put_int(out, "since_unix", q->since_unix);
    json_put_int(out, "until_unix", q->until_unix);
    json_put_count(out, "rows_in_all", report->rows_in_all);
    json_begin(out, "rows", '[');
    for (size_t i = 0; i < report->count; i++) {
        json_begin(out, NULL, '{');
        json_put_text(out, by_words[q->by], report->rows[i].key);
        if (q->by == INTAKE_BY_HOUR)
            json_put_int(out, "hour_unix", report->rows[i].hour_unix);
        put_row(out, &report->rows[i]);
        json_end(out, '}');
    }
    json_end(out, ']');
    json_begin(out, "totals", '{');
    put_row(out, &report->total);
    json_end(out, '}');
    json_end(out, '}');
    reply_ok(r, TYPE_JSON);
}

static void put_csv(struct request *r, const struct intake_query *q, const struct intake_report *report)
{
    struct buf *out = &r->reply.body;

    csv_text(out, by_words[q->by]);
    for (size_t i = 0; i < COUNT_OF(columns); i++)
        csv_text(out, columns[i].name);
    csv_text(out, "last_unix");
    csv_end(out);
    for (size_t i = 0; i < report->count; i++) {
        csv_text(out, report->rows[i].key);
        for (size_t k = 0; k < COUNT_OF(columns); k++)
            csv_count(out, value_of(&report->rows[i], &columns[k]));
        csv_count(out, (uint64_t)report->rows[i].last_unix);
        csv_end(out);
    }
    reply_ok(r, TYPE_CSV);
}

void get_report_submission_tls(struct request *r)
{
    struct intake_query q = {0};
    struct intake_report report;
    struct ip_net net;
    bool csv;

    if (!read_question(r, &q, &net, &csv))
        return;
    enum err e = intake_report(view_data_dir(r), &q, &report);
    if (e) {
        reply_err(r, e, "the report");
        return;
    }
    if (csv)
        put_csv(r, &q, &report);
    else
        put_json(r, &q, &report);
    intake_report_fini(&report);
}
