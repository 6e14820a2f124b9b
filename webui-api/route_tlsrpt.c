/* TLS reports (RFC 8460): those that we send, and those that others sent us. */
#include "base/clock.h"
#include "base/mem.h"
#include "engine/engine.h"
#include "engine/tlsrpt/received.h"
#include "engine/tlsrpt/report.h"
#include "engine/tlsrpt/tlsrpt.h"
#include "policy/domain.h"
#include "queue/keep.h"
#include "webui-api/csv.h"
#include "webui-api/json_write.h"
#include "webui-api/params.h"
#include "webui-api/queue_view.h"
#include "webui-api/routes.h"

#define OUT_PRESET  1000
#define OUT_MAX     100000
#define DAY_SECONDS 86400

/* ---- sent: the list ---- */

struct listing {
    struct request *r;
    const char *domain, *state; /* NULL: all */
    int64_t since_unix;
    uint64_t limit, shown, left_out;
    bool days; /* this walk is for the days, not for the reports */
};

/* "state":"sent" of a head, without reading all of it twice. */
static bool in_state(struct bytes head, const char *state)
{
    json_t *root = state ? json_loadb(head.at, head.len, 0, NULL) : NULL;
    const char *is = json_string_value(json_object_get(root, "state"));
    bool good = !state || (is && strcmp(is, state) == 0);

    json_decref(root);
    return good;
}

static bool list_one(void *arg, const struct kept *k)
{
    struct listing *l = arg;
    struct buf *out = &l->r->reply.body;
    struct bytes key = bytes_of(k->key), head = tlsrpt_kept_head(k->value);
    struct bytes domain = bytes_skip(key, TLSRPT_DAY_BYTES);
    int64_t begin;

    domain = bytes_first(domain, bytes_find(domain, '+')); /* "+part": the head says so too */

    if (!tlsrpt_day_parse(bytes_first(key, TLSRPT_DAY_BYTES - 1), &begin) || begin < l->since_unix ||
        l->days != (domain.len == 0))
        return true;
    if (!l->days && ((l->domain && !bytes_eq(domain, bytes_of(l->domain))) || !in_state(head, l->state)))
        return true;
    if (l->shown >= l->limit) {
        l->left_out++;
        return true;
    }
    l->shown++;
    json_begin(out, NULL, '{');
    json_put_bytes(out, "day", bytes_first(key, TLSRPT_DAY_BYTES - 1));
    if (!l->days)
        json_put_bytes(out, "domain", domain);
    json_put_raw(out, "kept", head);
    json_end(out, '}');
    return true;
}

static bool put_list(struct listing *l, const char *name, bool days)
{
    struct buf *out = &l->r->reply.body;

    l->days = days;
    l->shown = l->left_out = 0;
    json_begin(out, name, '[');
    enum err e = keep_read(view_data_dir(l->r), TLSRPT_KEEP_KIND, NULL, list_one, l);
    if (e && e != ERR_NOT_FOUND) {
        reply_err(l->r, e, "the list of reports");
        return false;
    }
    json_end(out, ']');
    return true;
}

void get_tls_reports_out(struct request *r)
{
    static const char *const states[] = {"lookup", "trying", "sent", "failed", "none"};
    struct listing l = {.r = r, .limit = OUT_PRESET};
    struct buf *out = &r->reply.body;
    int state = -1;

    if (!param_domain(r, "domain", &l.domain) || !param_time(r, "since", &l.since_unix) ||
        !param_word(r, "state", states, COUNT_OF(states), &state) ||
        !param_count(r, "limit", 1, OUT_MAX, &l.limit))
        return;
    if (l.since_unix > 0)
        l.since_unix -= l.since_unix % DAY_SECONDS; /* days are whole */
    l.state = state < 0 ? NULL : states[state];
    json_begin(out, NULL, '{');
    json_put_bool(out, "enabled", engine_conf(r->engine)->tlsrpt.enabled);
    if (!put_list(&l, "days", true) || !put_list(&l, "reports", false))
        return;
    json_put_count(out, "left_out", l.left_out);
    json_end(out, '}');
    reply_ok(r, TYPE_JSON);
}

/* ---- sent: one ---- */

static bool read_which(struct request *r, char domain[DOMAIN_MAX_BYTES + 1], int64_t *begin_unix)
{
    const char *day = param_text(r, "day");
    int64_t now = clock_unix();

    if (domain_normalise(bytes_of(r->args[0]), domain) != OK) {
        reply_error(r, 400, "invalid", "'%s' is no domain", r->args[0]);
        return false;
    }
    *begin_unix = now - now % DAY_SECONDS - DAY_SECONDS;
    if (day && !tlsrpt_day_parse(bytes_of(day), begin_unix)) {
        reply_error(r, 400, "invalid", "'day' takes a date like 2026-11-21, not '%s'", day);
        return false;
    }
    if (*begin_unix <= now)
        return true;
    reply_error(r, 400, "invalid", "that day has not begun (days are of UTC)");
    return false;
}

static void reply_no_sessions(struct request *r, const char *domain, int64_t begin_unix)
{
    char day[TLSRPT_DAY_BYTES];

    reply_error(r, 404, "not_found", "no session with %s that counts is on record for %s", domain,
                tlsrpt_day_format(begin_unix, day));
}

void get_tls_report_out(struct request *r)
{
    char domain[DOMAIN_MAX_BYTES + 1];
    int64_t begin;

    if (!read_which(r, domain, &begin))
        return;
    enum err e = engine_tlsrpt_build(r->engine, domain, begin, &r->reply.body);
    if (e == ERR_NOT_FOUND)
        reply_no_sessions(r, domain, begin);
    else if (e)
        reply_err(r, e, "the report");
    else
        reply_ok(r, TYPE_JSON);
}

void post_tls_report_out(struct request *r)
{
    static const char *const bools[] = {"false", "true"};
    char domain[DOMAIN_MAX_BYTES + 1];
    int64_t begin;
    int again = 0;
    BUF_LOCAL(head);

    if (!read_which(r, domain, &begin) || !param_word(r, "again", bools, COUNT_OF(bools), &again))
        return;
    enum err e = engine_tlsrpt_send(r->engine, domain, begin, again, &head);
    switch (e) {
    case OK:
        buf_put(&r->reply.body, tlsrpt_kept_head(buf_bytes(&head)));
        reply_ok(r, TYPE_JSON);
        return;
    case ERR_NOT_FOUND: reply_no_sessions(r, domain, begin); return;
    case ERR_DENIED:
        reply_error(r, 409, "conflict",
                    "reports must say who sends them: set tlsrpt.organization and tlsrpt.contact in the "
                    "configuration");
        return;
    case ERR_EXISTS:
        reply_error(r, 409, "conflict", "the report of %s was sent already; 'again' sends it once more",
                    domain);
        return;
    case ERR_BUSY: reply_error(r, 409, "conflict", "the report of %s is being sent just now", domain); return;
    default: reply_err(r, e, "the report");
    }
}

/* ---- received ---- */

void post_tls_reports(struct request *r)
{
    struct buf *out = &r->reply.body;
    const char *why = "";

    json_begin(out, NULL, '{');
    json_begin(out, "reports", '[');
    enum err e = engine_tlsrpt_take(r->engine, request_body(r), out, &why);
    json_end(out, ']');
    json_end(out, '}');
    if (!e)
        reply_ok(r, TYPE_JSON);
    else if (e == ERR_INVALID || e == ERR_FULL)
        reply_error(r, 400, "invalid", "no report was taken in: %s", why);
    else
        reply_error(r, 503, "unavailable", "the report is not taken in: %s", *why ? why : err_text(e));
}

static const char *const by_words[] = {"domain", "sender", "result", "mx", "day", "report"};

static void received_json(struct buf *out, const struct received_query *q, const struct received *sums,
                          size_t limit)
{
    json_begin(out, NULL, '{');
    json_put_text(out, "by", by_words[q->by]);
    json_put_int(out, "since_unix", q->since_unix);
    json_put_int(out, "until_unix", q->until_unix);
    json_put_count(out, "rows_in_all", sums->count);
    json_begin(out, "rows", '[');
    for (size_t i = 0; i < MIN_OF(sums->count, limit); i++) {
        const struct received_row *row = &sums->rows[i];
        json_begin(out, NULL, '{');
        json_put_text(out, by_words[q->by], row->key);
        if (q->by == RECEIVED_BY_REPORT) {
            json_put_text(out, "sender", row->sender);
            json_put_text(out, "report_id", row->report_id);
            json_put_text(out, "domain", row->domain);
            json_put_text(out, "dkim", row->dkim);
            json_put_text(out, "signer", row->signer);
        }
        json_put_count(out, "reports", row->reports);
        json_put_count(out, "successful", row->successful);
        json_put_count(out, "failed", row->failed);
        json_put_int(out, "first_unix", row->first_unix);
        json_put_int(out, "last_unix", row->last_unix);
        json_end(out, '}');
    }
    json_end(out, ']');
    json_begin(out, "totals", '{');
    json_put_count(out, "reports", sums->reports);
    json_put_count(out, "unreadable", sums->unreadable);
    json_put_count(out, "successful", sums->successful);
    json_put_count(out, "failed", sums->failed);
    json_end(out, '}');
    json_end(out, '}');
}

static void received_csv(struct buf *out, const struct received_query *q, const struct received *sums,
                         size_t limit)
{
    static const char *const more[] = {"sender", "report_id", "domain", "dkim", "signer"};
    static const char *const columns[] = {"reports", "successful", "failed", "first", "last"};
    char time[CLOCK_TEXT_BYTES];

    csv_text(out, by_words[q->by]);
    for (size_t i = 0; q->by == RECEIVED_BY_REPORT && i < COUNT_OF(more); i++)
        csv_text(out, more[i]);
    for (size_t i = 0; i < COUNT_OF(columns); i++)
        csv_text(out, columns[i]);
    csv_end(out);
    for (size_t i = 0; i < MIN_OF(sums->count, limit); i++) {
        const struct received_row *row = &sums->rows[i];
        csv_text(out, row->key);
        if (q->by == RECEIVED_BY_REPORT) {
            csv_text(out, row->sender);
            csv_text(out, row->report_id);
            csv_text(out, row->domain);
            csv_text(out, row->dkim);
            csv_text(out, row->signer);
        }
        csv_count(out, row->reports);
        csv_count(out, row->successful);
        csv_count(out, row->failed);
        csv_text(out, clock_format_utc(row->first_unix, time));
        csv_text(out, clock_format_utc(row->last_unix, time));
        csv_end(out);
    }
}

void get_tls_reports(struct request *r)
{
    static const char *const format_words[] = {"json", "csv"};
    struct received_query q = {.sender = param_text(r, "sender")};
    struct received sums = {0};
    uint64_t limit = RECEIVED_ROWS_MAX + 1;
    int by = 0, format = 0;

    if (!param_domain(r, "domain", &q.domain) || !param_time(r, "since", &q.since_unix) ||
        !param_time(r, "until", &q.until_unix) || !param_word(r, "by", by_words, COUNT_OF(by_words), &by) ||
        !param_word(r, "format", format_words, COUNT_OF(format_words), &format) ||
        !param_count(r, "limit", 1, RECEIVED_ROWS_MAX, &limit))
        return;
    q.by = (enum received_by)by;
    enum err e = received_sums(view_data_dir(r), &q, &sums);
    if (e) {
        reply_err(r, e, "the reports of others");
        return;
    }
    if (format)
        received_csv(&r->reply.body, &q, &sums, (size_t)limit);
    else
        received_json(&r->reply.body, &q, &sums, (size_t)limit);
    received_fini(&sums);
    reply_ok(r, format ? TYPE_CSV : TYPE_JSON);
}

void get_tls_report(struct request *r)
{
    BUF_LOCAL(key);

    buf_putf(&key, "%s/%s", r->args[0], r->args[1]);
    enum err e = received_show(view_data_dir(r), buf_str(&key), &r->reply.body);
    if (e == ERR_NOT_FOUND)
        reply_error(r, 404, "not_found", "there is no report '%s': the list by report names them",
                    buf_str(&key));
    else if (e)
        reply_err(r, e, "the report");
    else
        reply_ok(r, TYPE_JSON);
}
