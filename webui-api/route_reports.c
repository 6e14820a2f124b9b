/* Delivery and TLS reports as JSON and CSV.  The columns are tables: a new number is one row. */
#include <stdio.h>

#include "base/mem.h"
#include "webui-api/csv.h"
#include "webui-api/json_write.h"
#include "webui-api/params.h"
#include "webui-api/queue_view.h"
#include "webui-api/reconcile.h"
#include "webui-api/routes.h"

#define REPORT_LIMIT_MS 30000
#define ROWS_MAX        REPORT_KEYS_MAX

struct column {
    const char *name;
    size_t offset; /* of the uint64_t in the row */
};
#define DELIVERY(field)                                                                                      \
    {                                                                                                        \
#field, offsetof(struct report_delivery_row, field)                                                  \
    }
#define TLS(field)                                                                                           \
    {                                                                                                        \
#field, offsetof(struct report_tls_row, field)                                                       \
    }

static const struct column delivery_columns[] = {
    DELIVERY(attempts), DELIVERY(delivered), DELIVERY(deferred), DELIVERY(bounced),
    DELIVERY(expired),  DELIVERY(cancelled), DELIVERY(bytes),    DELIVERY(duration_ms_mean),
};
static const struct column tls_columns[] = {
    TLS(attempts),
    TLS(delivered),
    TLS(tls13),
    TLS(tls12),
    TLS(tls_older),
    TLS(clear_by_choice),
    TLS(clear_by_lack),
    TLS(clear_not_offered),
    TLS(clear_by_fallback),
    TLS(verified),
    TLS(unverified),
    TLS(resumed),
    TLS(held_for_tls),
    TLS(failed_for_tls),
    TLS(weak),
    TLS(weak_version),
    TLS(weak_cipher),
    TLS(weak_kx),
    TLS(weak_certificate),
};

static uint64_t value_of(const void *row, const struct column *c)
{
    uint64_t value;

    memcpy(&value, (const char *)row + c->offset, sizeof(value));
    return value;
}

static void put_columns(struct buf *out, const void *row, const struct column *columns, size_t count)
{
    for (size_t i = 0; i < count; i++)
        json_put_count(out, columns[i].name, value_of(row, &columns[i]));
}

/* ---- what is asked ---- */

struct question {
    struct report_query query;
    const char *by;
    bool csv, whole; /* whole: nothing narrows it but the campaign */
};

static bool read_question(struct request *r, bool tls, struct question *q)
{
    /* By enum report_key, report_sort and report_only; of delivery the first BY_DELIVERY and SORT_DELIVERY.
     */
    static const char *const by_words[] = {"group",   "domain",  "mx",       "campaign", "hour",
                                           "source",  "level",   "wanted",   "why",      "version",
                                           "cipher",  "kx",      "verify",   "dane",     "sts",
                                           "failure", "session", "fallback", "expiry",   "expires"};
    static const char *const sort_words[] = {"volume", "key", "failed", "waiting", "clear", "weak"};
    static const char *const format_words[] = {"json", "csv"};
    static const char *const only_words[] = {"all", "clear", "weak"};
    enum { BY_DELIVERY = REPORT_BY_SOURCE + 1, SORT_DELIVERY = REPORT_SORT_WAITING + 1 };
    int by = 0, sort = 0, format = 0, only = 0;
    uint64_t limit = 0;
    const char *domain = param_text(r, "domain");

    if (domain && !*domain)
        domain = "";
    else if (!param_domain(r, "domain", &domain))
        return false;
    if (!param_time(r, "since", &q->query.since_unix) || !param_time(r, "until", &q->query.until_unix) ||
        !param_word(r, "by", by_words, tls ? COUNT_OF(by_words) : BY_DELIVERY, &by) ||
        !param_word(r, "sort", sort_words, tls ? COUNT_OF(sort_words) : SORT_DELIVERY, &sort) ||
        !param_word(r, "only", only_words, COUNT_OF(only_words), &only) ||
        !param_word(r, "format", format_words, COUNT_OF(format_words), &format) ||
        !param_count(r, "limit", 0, ROWS_MAX, &limit))
        return false;
    if (q->query.until_unix && q->query.since_unix >= q->query.until_unix) {
        reply_error(r, 400, "invalid", "'since' must be before 'until'");
        return false;
    }
    q->query.by = (enum report_key)by;
    q->query.sort = (enum report_sort)sort;
    q->query.only = (enum report_only)only;
    q->query.limit = (size_t)limit;
    q->query.group = param_text(r, "group");
    q->query.domain = domain;
    q->query.mx = param_text(r, "mx");
    q->query.campaign = param_text(r, "campaign");
    q->query.timeout_ms = REPORT_LIMIT_MS;
    q->by = by_words[by];
    q->csv = format == 1;
    q->whole =
        !param_text(r, "since") && !param_text(r, "until") && !q->query.group && !domain && !q->query.mx;
    return true;
}

static void put_head(struct buf *out, const struct question *q, const struct report_span *span)
{
    json_begin(out, NULL, '{');
    json_put_text(out, "by", q->by);
    json_put_int(out, "since_unix", span->since_unix);
    json_put_int(out, "until_unix", span->until_unix);
    json_put_count(out, "rows_in_all", span->rows_in_all);
    json_put_count(out, "days_skipped", span->files_skipped);
}

static void put_key(struct buf *out, const struct question *q, const char *key, int64_t hour_unix)
{
    json_put_text(out, q->by, key);
    if (q->query.by == REPORT_BY_HOUR)
        json_put_int(out, "hour_unix", hour_unix);
}

static void csv_head(struct buf *out, const char *by, const struct column *columns, size_t count)
{
    csv_text(out, by);
    for (size_t i = 0; i < count; i++)
        csv_text(out, columns[i].name);
    csv_end(out);
}

static void csv_row(struct buf *out, const char *key, const void *row, const struct column *columns,
                    size_t count)
{
    csv_text(out, key);
    for (size_t i = 0; i < count; i++)
        csv_count(out, value_of(row, &columns[i]));
    csv_end(out);
}

/* Accepted and waiting: only of everything, or of a campaign, do the two sides speak of the same recipients.
 */
static bool put_sum(struct request *r, const struct question *q)
{
    struct reconciliation sum;

    if (!q->whole)
        return true;
    enum err e = reconcile(r, q->query.campaign, false, &sum);
    if (e) {
        reply_err(r, e, "the sum of what was accepted");
        return false;
    }
    json_put_count(&r->reply.body, "accepted", sum.total.accepted);
    json_put_count(&r->reply.body, "waiting", sum.total.waiting);
    return true;
}

/* ---- delivery ---- */

static void delivery_json(struct request *r, const struct question *q, const struct report_delivery *report)
{
    struct buf *out = &r->reply.body;

    put_head(out, q, &report->span);
    json_begin(out, "rows", '[');
    for (size_t i = 0; i < report->count; i++) {
        const struct report_delivery_row *row = &report->rows[i];
        json_begin(out, NULL, '{');
        put_key(out, q, row->key, row->hour_unix);
        put_columns(out, row, delivery_columns, COUNT_OF(delivery_columns));
        json_end(out, '}');
    }
    json_end(out, ']');
    json_begin(out, "totals", '{');
    put_columns(out, &report->total, delivery_columns, COUNT_OF(delivery_columns));
    if (!put_sum(r, q))
        return;
    json_end(out, '}');
    json_end(out, '}');
    reply_ok(r, TYPE_JSON);
}

static void delivery_csv(struct request *r, const struct question *q, const struct report_delivery *report)
{
    struct buf *out = &r->reply.body;

    csv_head(out, q->by, delivery_columns, COUNT_OF(delivery_columns));
    for (size_t i = 0; i < report->count; i++)
        csv_row(out, report->rows[i].key, &report->rows[i], delivery_columns, COUNT_OF(delivery_columns));
    reply_ok(r, TYPE_CSV);
}

void get_report_delivery(struct request *r)
{
    struct question q = {0};
    struct report_delivery report = {0};

    if (!read_question(r, false, &q))
        return;
    enum err e = report_delivery(view_data_dir(r), &q.query, &report);
    if (e) {
        reply_err(r, e, "the report");
        return;
    }
    if (q.csv)
        delivery_csv(r, &q, &report);
    else
        delivery_json(r, &q, &report);
    report_delivery_fini(&report);
}

/* ---- TLS ---- */

struct by_level {
    uint64_t delivered, encrypted, verified, held;
};

static void put_levels(struct buf *out, const char *key, const void *levels)
{
    const struct by_level *l = levels;

    json_begin(out, key, '{');
    for (int i = 0; i < REPORT_TLS_LEVELS; i++) {
        if (!l[i].delivered && !l[i].held)
            continue;
        json_begin(out, tls_level_name((enum tls_level)i), '{');
        json_put_count(out, "delivered", l[i].delivered);
        json_put_count(out, "encrypted", l[i].encrypted);
        json_put_count(out, "verified", l[i].verified);
        json_put_count(out, "held", l[i].held);
        json_end(out, '}');
    }
    json_end(out, '}');
}

static void put_share(struct buf *out, const char *key, uint64_t part, uint64_t whole)
{
    char text[32];
    int len = snprintf(text, sizeof(text), "%.6g", whole ? (double)part / (double)whole : 0.0);

    if (whole)
        json_put_raw(out, key, bytes_make(text, (size_t)len));
    else
        json_put_null(out, key); /* a share of nothing */
}

static void put_shares(struct buf *out, const struct report_tls_row *row)
{
    json_begin(out, "shares", '{');
    put_share(out, "encrypted", row->tls13 + row->tls12 + row->tls_older, row->delivered);
    put_share(out, "authenticated", row->verified, row->delivered);
    put_share(out, "clear_by_choice", row->clear_by_choice, row->delivered);
    put_share(out, "clear_by_lack", row->clear_by_lack, row->delivered);
    put_share(out, "clear_by_fallback", row->clear_by_fallback, row->delivered);
    json_end(out, '}');
}

struct names { /* what a row tells apart by name */
    const char *key;
    const char *(*name)(int n);
    size_t offset, count, first; /* of the counts in the row; the first that is shown */
};
static const char *name_of_verify(int n)
{
    return tls_verify_name((enum tls_verify)n);
}
static const char *name_of_dane(int n)
{
    return dane_result_name((enum dane_result)n);
}
static const char *name_of_sts(int n)
{
    return sts_result_name((enum sts_result)n);
}
static const char *name_of_failure(int n)
{
    return tls_failure_name((enum tls_failure)n);
}
static const struct names names[] = {
    {"verify", name_of_verify, offsetof(struct report_tls_row, verify), REPORT_TLS_VERIFIES, 0},
    {"dane", name_of_dane, offsetof(struct report_tls_row, dane), REPORT_TLS_DANES, 0},
    {"sts", name_of_sts, offsetof(struct report_tls_row, sts), REPORT_TLS_STSES, 0},
    {"failures", name_of_failure, offsetof(struct report_tls_row, failure), REPORT_TLS_FAILURES, 1},
};

static void put_names(struct buf *out, const struct report_tls_row *row, const struct names *n)
{
    const uint64_t *counts = (const uint64_t *)(const void *)((const char *)row + n->offset);

    json_begin(out, n->key, '{');
    for (size_t i = n->first; i < n->count; i++)
        if (counts[i])
            json_put_count(out, n->name((int)i), counts[i]);
    json_end(out, '}');
}

/* by: the key of a row, which may have the name of one of these; NULL: totals. */
static void put_tls(struct buf *out, const struct report_tls_row *row, const char *by)
{
    _Static_assert(sizeof(row->wanted[0]) == sizeof(struct by_level), "the same four numbers");
    put_columns(out, row, tls_columns, COUNT_OF(tls_columns));
    json_put_count(out, "clear", row->clear_by_choice + row->clear_by_lack + row->clear_by_fallback);
    put_shares(out, row);
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (!by || strcmp(by, names[i].key) != 0)
            put_names(out, row, &names[i]);
    if (!by || strcmp(by, "wanted") != 0)
        put_levels(out, "wanted", row->wanted);
    put_levels(out, "effective", row->effective);
    json_begin(out, "ciphers", '[');
    for (size_t i = 0; i < row->cipher_count; i++) {
        json_begin(out, NULL, '{');
        json_put_text(out, "version", row->ciphers[i].version);
        json_put_text(out, "cipher", row->ciphers[i].cipher);
        json_put_text(out, "kx", row->ciphers[i].kx);
        json_put_count(out, "delivered", row->ciphers[i].delivered);
        json_end(out, '}');
    }
    json_end(out, ']');
}

static void tls_json(struct request *r, const struct question *q, const struct report_tls *report)
{
    struct buf *out = &r->reply.body;

    put_head(out, q, &report->span);
    json_begin(out, "rows", '[');
    for (size_t i = 0; i < report->count; i++) {
        json_begin(out, NULL, '{');
        put_key(out, q, report->rows[i].key, report->rows[i].hour_unix);
        put_tls(out, &report->rows[i], q->by);
        json_end(out, '}');
    }
    json_end(out, ']');
    json_begin(out, "totals", '{');
    put_tls(out, &report->total, NULL);
    if (!put_sum(r, q))
        return;
    json_end(out, '}');
    json_end(out, '}');
    reply_ok(r, TYPE_JSON);
}

static void tls_csv(struct request *r, const struct question *q, const struct report_tls *report)
{
    struct buf *out = &r->reply.body;

    csv_head(out, q->by, tls_columns, COUNT_OF(tls_columns));
    for (size_t i = 0; i < report->count; i++)
        csv_row(out, report->rows[i].key, &report->rows[i], tls_columns, COUNT_OF(tls_columns));
    reply_ok(r, TYPE_CSV);
}

void get_report_tls(struct request *r)
{
    struct question q = {0};
    struct report_tls report = {0};

    if (!read_question(r, true, &q))
        return;
    enum err e = report_tls(view_data_dir(r), &q.query, &report);
    if (e) {
        reply_err(r, e, "the report");
        return;
    }
    if (q.csv)
        tls_csv(r, &q, &report);
    else
        tls_json(r, &q, &report);
    report_tls_fini(&report);
}
