/* What is kept of others' reports, summed up.  Every report is unpacked and read again: they are few and
 * small. */
#include <jansson.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/mem.h"
#include "engine/tlsrpt/gzip.h"
#include "engine/tlsrpt/incoming.h"
#include "engine/tlsrpt/received.h"
#include "engine/tlsrpt/report.h"
#include "engine/tlsrpt/tlsrpt.h"
#include "queue/keep.h"

static const char others[] = "(others)";

struct summing {
    const struct received_query *query;
    struct received *out;
    struct map by_key; /* struct received_row, in the arena */
    size_t report;     /* number of the report in work, from 1 */
    const char *key;   /* its key; borrowed */
    struct bytes head; /* what is kept of how it came; borrowed */
};

struct sum { /* a row in the making */
    struct received_row row;
    size_t last_report; /* so that a report counts once a row */
};

static struct sum *sum_of(struct summing *s, const char *key, const struct tlsrpt_in *in)
{
    struct bytes bytes = bytes_of(key);
    struct sum *sum = map_find(&s->by_key, bytes);

    if (!sum && s->by_key.count >= RECEIVED_ROWS_MAX && strcmp(key, others) != 0)
        return sum_of(s, others, in);
    if (!sum) {
        sum = ARENA_NEW(&s->out->arena, struct sum);
        sum->row = (struct received_row){.key = arena_strdup(&s->out->arena, key),
                                         .sender = "",
                                         .report_id = "",
                                         .domain = "",
                                         .dkim = "",
                                         .signer = "",
                                         .first_unix = in->begin_unix,
                                         .last_unix = in->end_unix};
        map_put(&s->by_key, bytes_of(sum->row.key), sum);
    }
    if (sum->last_report != s->report) {
        sum->last_report = s->report;
        sum->row.reports++;
    }
    sum->row.first_unix = MIN_OF(sum->row.first_unix, in->begin_unix);
    sum->row.last_unix = MAX_OF(sum->row.last_unix, in->end_unix);
    return sum;
}

static bool wanted(const struct received_query *q, const struct tlsrpt_in_policy *p)
{
    return !q->domain || strcmp(q->domain, p->domain) == 0;
}

/* One line a failure-detail; what is in none of them has no name. */
static void add_failures(struct summing *s, const struct tlsrpt_in *in, const struct tlsrpt_in_policy *p)
{
    uint64_t named = 0;

    if (p->successful)
        sum_of(s, "", in)->row.successful += p->successful;
    for (size_t i = 0; i < p->failure_count; i++) {
        const struct tlsrpt_in_failure *f = &p->failures[i];
        const char *key = s->query->by == RECEIVED_BY_RESULT ? f->result : *f->mx ? f->mx : "(unnamed)";
        sum_of(s, key, in)->row.failed += f->count;
        named += f->count;
    }
    if (p->failed > named)
        sum_of(s, "(unnamed)", in)->row.failed += p->failed - named;
}

/* Reports taken in by older versions say nothing of this. */
static void put_proof(struct summing *s, struct received_row *row)
{
    json_t *head = json_loadb(s->head.at, s->head.len, 0, NULL);
    const char *dkim = json_string_value(json_object_get(head, "dkim"));
    const char *signer = json_string_value(json_object_get(head, "signer"));

    row->dkim = arena_strdup(&s->out->arena, dkim ? dkim : "");
    row->signer = arena_strdup(&s->out->arena, signer ? signer : "");
    json_decref(head);
}

static void add_policy(struct summing *s, const struct tlsrpt_in *in, const struct tlsrpt_in_policy *p)
{
    char day[TLSRPT_DAY_BYTES];
    const char *key = "";

    s->out->successful += p->successful;
    s->out->failed += p->failed;
    switch (s->query->by) {
    case RECEIVED_BY_DOMAIN: key = p->domain; break;
    case RECEIVED_BY_SENDER: key = in->organization; break;
    case RECEIVED_BY_DAY: key = tlsrpt_day_format(in->begin_unix, day); break;
    case RECEIVED_BY_REPORT: key = s->key; break;
    case RECEIVED_BY_RESULT:
    case RECEIVED_BY_MX: add_failures(s, in, p); return;
    }
    struct received_row *row = &sum_of(s, key, in)->row;
    row->successful += p->successful;
    row->failed += p->failed;
    if (s->query->by == RECEIVED_BY_REPORT && !*row->domain) {
        row->sender = arena_strdup(&s->out->arena, in->organization);
        row->report_id = arena_strdup(&s->out->arena, in->report_id);
        row->domain = arena_strdup(&s->out->arena, p->domain);
        put_proof(s, row);
    }
}

/* The report of a kept value, in the arena. */
static enum err read_value(struct bytes value, struct arena *arena, struct tlsrpt_in *in)
{
    struct bytes head = tlsrpt_kept_head(value);
    const char *why;
    BUF_LOCAL(json);

    enum err e = gzip_unpack(bytes_skip(value, head.len + 1), TLSRPT_JSON_MAX, &json);
    return e ? e : tlsrpt_in_parse(buf_bytes(&json), arena, in, &why);
}

static bool add_report(void *arg, const struct kept *k)
{
    struct summing *s = arg;
    const struct received_query *q = s->query;
    struct arena arena = {0};
    struct tlsrpt_in in;
    bool any = false;
    int64_t day;

    if (tlsrpt_day_parse(bytes_first(bytes_of(k->key), TLSRPT_DAY_BYTES - 1), &day) && q->until_unix &&
        day >= q->until_unix)
        return false;
    if (read_value(k->value, &arena, &in) != OK) {
        s->out->unreadable++;
    } else if (in.begin_unix >= q->since_unix && (!q->until_unix || in.begin_unix < q->until_unix) &&
               (!q->sender || bytes_ieq(bytes_of(q->sender), bytes_of(in.organization)))) {
        s->report++;
        s->key = k->key;
        s->head = tlsrpt_kept_head(k->value);
        for (size_t i = 0; i < in.policy_count; i++)
            if (wanted(q, &in.policies[i])) {
                add_policy(s, &in, &in.policies[i]);
                any = true;
            }
        s->out->reports += any;
    }
    arena_fini(&arena);
    return true;
}

static int by_failures(const void *a, const void *b)
{
    const struct received_row *x = a, *y = b;

    if (x->failed != y->failed)
        return x->failed > y->failed ? -1 : 1;
    if (x->successful != y->successful)
        return x->successful > y->successful ? -1 : 1;
    return strcmp(x->key, y->key);
}

static int newest_first(const void *a, const void *b)
{
    const struct received_row *x = a, *y = b;

    return strcmp(y->key, x->key);
}

enum err received_sums(const char *dir, const struct received_query *q, struct received *out)
{
    struct received r = {0};
    struct summing s = {.query = q, .out = &r};
    char after[TLSRPT_DAY_BYTES] = "";
    struct sum *sum;

    if (q->since_unix > 0)
        tlsrpt_day_format(q->since_unix, after); /* a day's name sorts before the keys of its reports */
    enum err e = keep_read(dir, RECEIVED_KEEP_KIND, after, add_report, &s);
    if (!e || e == ERR_NOT_FOUND) {
        r.rows = arena_alloc(&r.arena, (s.by_key.count + 1) * sizeof(*r.rows));
        for (size_t at = 0; (sum = map_next(&s.by_key, &at));)
            r.rows[r.count++] = sum->row;
        bool by_time = q->by == RECEIVED_BY_DAY || q->by == RECEIVED_BY_REPORT;
        if (r.count)
            qsort(r.rows, r.count, sizeof(*r.rows), by_time ? newest_first : by_failures);
        e = OK;
    }
    map_fini(&s.by_key);
    if (e)
        arena_fini(&r.arena);
    else
        *out = r;
    return e;
}

void received_fini(struct received *r)
{
    arena_fini(&r->arena);
    *r = (struct received){0};
}

struct showing {
    const char *key;
    struct buf *json;
    enum err result;
};

static bool show_one(void *arg, const struct kept *k)
{
    struct showing *s = arg;
    struct bytes head = tlsrpt_kept_head(k->value);

    if (strcmp(k->key, s->key) == 0)
        s->result = gzip_unpack(bytes_skip(k->value, head.len + 1), TLSRPT_JSON_MAX, s->json);
    return strcmp(k->key, s->key) < 0;
}

enum err received_show(const char *dir, const char *key, struct buf *json)
{
    struct showing s = {key, json, ERR_NOT_FOUND};
    char *day = mem_dup(key, strnlen(key, TLSRPT_DAY_BYTES - 1)); /* sorts before the reports of that day */
    enum err e = keep_read(dir, RECEIVED_KEEP_KIND, day, show_one, &s);

    mem_free(day);
    return e ? e : s.result;
}
