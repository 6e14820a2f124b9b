#include "queue/report_priv.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

struct tally {
    struct report_delivery report;
    struct map by_key; /* struct report_delivery_row, in the report's arena */
};

static void count(struct report_delivery_row *row, const struct report_cell *c)
{
    row->attempts += c->attempts;
    row->duration_ms_mean += c->duration_ms; /* the sum, until finish() */
    if (c->then == THEN_NOTHING)
        return; /* a failed host of a walk: the recipient's own outcome is another record */
    switch (c->outcome) {
    case OUTCOME_DELIVERED:
        row->delivered += c->attempts;
        row->bytes += c->bytes;
        break;
    case OUTCOME_DEFERRED: row->deferred += c->attempts; break;
    case OUTCOME_BOUNCED: row->bounced += c->attempts; break;
    case OUTCOME_EXPIRED: row->expired += c->attempts; break;
    case OUTCOME_CANCELLED: row->cancelled += c->attempts; break;
    }
}

static enum err on_cell(void *arg, const struct report_cell *c)
{
    struct tally *t = arg;
    struct report_delivery_row *row = report_row(&t->by_key, &t->report.arena, c->key, sizeof(*row));

    if (!row)
        return ERR_FULL;
    row->hour_unix = c->hour * 3600;
    count(row, c);
    count(&t->report.total, c);
    return OK;
}

static int by_volume(const void *a, const void *b)
{
    const struct report_delivery_row *x = *(void *const *)a, *y = *(void *const *)b;
    int c = report_compare(x->attempts, y->attempts);

    return c ? c : report_by_key(a, b);
}

static int by_failed(const void *a, const void *b)
{
    const struct report_delivery_row *x = *(void *const *)a, *y = *(void *const *)b;
    int c = report_compare(x->bounced + x->expired, y->bounced + y->expired);

    return c ? c : by_volume(a, b);
}

static int by_waiting(const void *a, const void *b)
{
    const struct report_delivery_row *x = *(void *const *)a, *y = *(void *const *)b;
    int c = report_compare(x->deferred, y->deferred);

    return c ? c : by_volume(a, b);
}

static void finish(void *of)
{
    struct report_delivery_row *row = of;

    row->duration_ms_mean = row->attempts ? row->duration_ms_mean / row->attempts : 0;
}

static void take_rows(struct tally *t, const struct report_query *q)
{
    static const report_order_fn orders[] = {
        [REPORT_SORT_VOLUME] = by_volume, [REPORT_SORT_KEY] = report_by_key,
        [REPORT_SORT_FAILED] = by_failed, [REPORT_SORT_WAITING] = by_waiting,
        [REPORT_SORT_CLEAR] = by_volume,  [REPORT_SORT_WEAK] = by_volume,
    };
    static const struct report_shape shape = {sizeof(struct report_delivery_row), orders, NULL, finish};
    struct report_delivery *r = &t->report;

    r->rows = report_rows(&t->by_key, q, &shape, &r->arena, &r->span, &r->count);
    finish(&r->total);
}

enum err report_delivery(const char *dir, const struct report_query *q, struct report_delivery *out)
{
    struct tally t = {.report.total.key = "total"};
    struct report_delivery *r = &t.report;
    const struct report_scan what = {.query = q, .on_cell = on_cell, .arg = &t};
    enum err e = report_scan(dir, &what, &r->span);

    if (!e)
        take_rows(&t, q);
    map_fini(&t.by_key);
    if (e) {
        arena_fini(&r->arena);
        return e;
    }
    *out = *r;
    return OK;
}

void report_delivery_fini(struct report_delivery *r)
{
    arena_fini(&r->arena);
    *r = (struct report_delivery){0};
}
