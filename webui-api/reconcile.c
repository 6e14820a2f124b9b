#include "webui-api/reconcile.h"

#include <time.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "engine/engine.h"
#include "queue/browse.h"
#include "queue/report.h"

#define SECS_PER_DAY    86400
#define TRIES_MS        2000 /* with a million waiting a look takes long, and two must do */
#define TRIES           6
#define PAUSE_MS        20 /* what is in flight between history and the queue is there for a commit or two */
#define FINALS_LIMIT_MS 30000

DEFINE_CLEANUP(struct browse *, browse_close)

int64_t reconciliation_difference(const struct reconciliation_row *row)
{
    return (int64_t)row->accepted -
           (int64_t)(row->delivered + row->bounced + row->expired + row->cancelled + row->waiting);
}

/* Days whose files history still has, whether or not it wrote any. */
static int64_t first_whole_day(const struct request *r)
{
    int64_t days = engine_conf(r->engine)->store.history_days, today = clock_unix() / SECS_PER_DAY;

    return days ? MAX_OF(today - days + 1, (int64_t)0) : 0;
}

static void take_tally(struct reconciliation_row *row, const struct browse_tally_row *t)
{
    row->accepted_messages = t->messages;
    row->accepted = t->rcpts;
    row->waiting = t->waiting;
}

static void take_finals(struct reconciliation_row *row, const struct report_finals_row *f)
{
    row->delivered = f->delivered;
    row->bounced = f->bounced;
    row->expired = f->expired;
    row->cancelled = f->cancelled;
}

/* Two lists sorted by campaign become one. */
static void merge(struct arena *arena, const struct browse_tally *t, const struct report_finals *f,
                  struct reconciliation *out)
{
    size_t i = 0, k = 0;

    out->rows = arena_zalloc(arena, (t->count + f->count + 1) * sizeof(*out->rows));
    out->count = 0;
    while (i < t->count || k < f->count) {
        int order = i == t->count ? 1 : k == f->count ? -1 : strcmp(t->rows[i].campaign, f->rows[k].campaign);
        struct reconciliation_row *row = &out->rows[out->count++];
        row->campaign = arena_strdup(arena, order <= 0 ? t->rows[i].campaign : f->rows[k].campaign);
        if (order <= 0)
            take_tally(row, &t->rows[i++]);
        if (order >= 0)
            take_finals(row, &f->rows[k++]);
    }
}

/* The queue first: what ends between the two looks is then counted twice, never missed. */
static enum err look(struct request *r, struct browse *b, const char *campaign, bool by_campaign,
                     struct reconciliation *out)
{
    struct browse_tally tally;
    struct report_finals finals;
    struct arena arena = {0};
    enum err e = browse_tally(b, first_whole_day(r), campaign, by_campaign, &arena, &tally);

    if (!e) {
        const struct report_finals_query q = {.accepted_since_day = tally.since_day,
                                              .campaign = campaign,
                                              .by_campaign = by_campaign,
                                              .timeout_ms = FINALS_LIMIT_MS};
        e = report_finals(engine_conf(r->engine)->data_dir, &q, &finals);
    }
    if (!e) {
        *out =
            (struct reconciliation){.since_unix = tally.since_day * SECS_PER_DAY, .total.campaign = "total"};
        take_tally(&out->total, &tally.total);
        take_finals(&out->total, &finals.total);
        if (by_campaign)
            merge(&r->arena, &tally, &finals, out);
        report_finals_fini(&finals);
    }
    arena_fini(&arena);
    return e;
}

enum err reconcile_once(struct request *r, const char *campaign, bool by_campaign, struct reconciliation *out)
{
    CLEANUP(browse_close) struct browse *b = NULL;
    char *why = NULL;
    enum err e = engine_browse(r->engine, &b, &why);

    mem_free(why);
    return e ? e : look(r, b, campaign, by_campaign, out);
}

enum err reconcile(struct request *r, const char *campaign, bool by_campaign, struct reconciliation *out)
{
    const struct timespec pause = {.tv_nsec = PAUSE_MS * 1000000L};
    CLEANUP(browse_close) struct browse *b = NULL;
    uint64_t until = clock_now_ms() + TRIES_MS;
    int64_t before = 0;
    bool moved = false;
    char *why = NULL;
    enum err e = engine_browse(r->engine, &b, &why);

    mem_free(why);
    for (int i = 0; !e && i < TRIES && (i < 2 || clock_now_ms() < until); i++) {
        if (i > 0)
            store_settle(engine_store(r->engine));
        e = look(r, b, campaign, by_campaign, out);
        int64_t difference = e ? 0 : reconciliation_difference(&out->total);
        if (!difference)
            break;
        /* Motion changes the difference from look to look; what is lost does not change. */
        moved |= i > 0 && difference != before;
        before = difference;
        nanosleep(&pause, NULL);
    }
    out->in_motion = !e && moved && reconciliation_difference(&out->total);
    return e;
}
