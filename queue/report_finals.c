#include "queue/report_priv.h"

#include <stdlib.h>
#include <string.h>

struct tally {
    const struct report_finals_query *query;
    struct report_finals report;
    struct map by_campaign; /* struct report_finals_row, in the report's arena */
};

static void count(struct report_finals_row *row, enum outcome_kind outcome, uint64_t n)
{
    switch (outcome) {
    case OUTCOME_DELIVERED: row->delivered += n; break;
    case OUTCOME_BOUNCED: row->bounced += n; break;
    case OUTCOME_EXPIRED: row->expired += n; break;
    case OUTCOME_CANCELLED: row->cancelled += n; break;
    case OUTCOME_DEFERRED: break; /* not final: the queue has it */
    }
}

static enum err on_cell(void *arg, const struct report_cell *c)
{
    struct tally *t = arg;

    count(&t->report.total, c->outcome, c->attempts);
    if (!t->query->by_campaign)
        return OK;
    struct report_finals_row *row = report_row(&t->by_campaign, &t->report.arena, c->key, sizeof(*row));
    if (!row)
        return ERR_FULL;
    count(row, c->outcome, c->attempts);
    return OK;
}

static int by_campaign(const void *a, const void *b)
{
    const struct report_finals_row *x = a, *y = b;

    return strcmp(x->campaign, y->campaign);
}

static void take_rows(struct tally *t)
{
    struct report_finals *r = &t->report;
    struct report_finals_row *row;

    r->rows = arena_alloc(&r->arena, (t->by_campaign.count + 1) * sizeof(*r->rows));
    for (size_t at = 0; (row = map_next(&t->by_campaign, &at));)
        r->rows[r->count++] = *row;
    if (r->count)
        qsort(r->rows, r->count, sizeof(*r->rows), by_campaign);
}

static enum err find_oldest_day(const char *dir, int64_t *out)
{
    struct history_files files;
    enum err e = history_files_list(dir, &files);

    if (e)
        return e;
    *out = files.count ? files.items[0].day : 0;
    history_files_fini(&files);
    return OK;
}

enum err report_finals(const char *dir, const struct report_finals_query *q, struct report_finals *out)
{
    struct tally t = {.query = q, .report.total.campaign = "total"};
    struct report_query query = {
        .by = REPORT_BY_CAMPAIGN, .campaign = q->campaign, .timeout_ms = q->timeout_ms};
    struct report_scan what = {
        .query = &query,
        .on_cell = on_cell,
        .arg = &t,
        .finals = true,
        .accepted_since_day = q->accepted_since_day ? q->accepted_since_day : INT64_MIN,
        .accepted_until_day = q->accepted_until_day ? q->accepted_until_day : INT64_MAX,
        .files_since_unix = q->accepted_since_day * SECS_PER_DAY, /* it ends after it was accepted */
    };
    struct report_span span;
    enum err e = find_oldest_day(dir, &t.report.oldest_day);

    if (!e)
        e = report_scan(dir, &what, &span);
    if (!e) {
        t.report.files_skipped = span.files_skipped;
        take_rows(&t);
    }
    map_fini(&t.by_campaign);
    if (e) {
        arena_fini(&t.report.arena);
        return e;
    }
    *out = t.report;
    return OK;
}

void report_finals_fini(struct report_finals *r)
{
    arena_fini(&r->arena);
    *r = (struct report_finals){0};
}
