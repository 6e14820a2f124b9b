/*
 * Campaigns: what waits (the queue), what became of the rest (its tally and history's finals), how fast it
 * goes (history's last minute), and which are paused (what is kept).
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/yaml.h"
#include "engine/smtp/schedule.h"
#include "queue/campaigns.h"
#include "queue/keep.h"
#include "webui-api/json_write.h"
#include "webui-api/campaign_progress.h"
#include "webui-api/params.h"
#include "webui-api/queue_view.h"
#include "webui-api/reconcile.h"
#include "webui-api/routes.h"

#define LIMIT_PRESET    100
#define LIMIT_MAX       100000
#define CAMPAIGNS_MAX   200000
#define RATE_SPAN_S     60
#define PACE_SPAN_S     5
#define REPORT_LIMIT_MS 20000
#define BINDINGS_MAX    5000 /* the largest domains tell what binds */
#define ENOUGH          30
#define UNKNOWN         "(by MX)"
#define YEARS_MAX_MS    (10ULL * 366 * 86400 * 1000) /* of a campaign's end */

DEFINE_CLEANUP(json_t *, json_decref)

struct campaign {
    const char *id;
    bool is_kept;
    struct campaign_kept kept;
    struct reconciliation_row sum;
    uint64_t waiting, held, paused; /* held: by operators; none counts twice */
    uint64_t later;                 /* of the waiting: not due yet */
    struct progress_sum sum_up;     /* if is_detailed */
    bool is_detailed;
    int64_t next_due_unix;
    uint64_t ended; /* in the last `span_s` */
    int64_t span_s;
    double pace; /* a second, over the shortest time in which enough ended to tell; 0: nothing did */
};

struct campaigns {
    struct arena *arena;
    struct map by_id;
    const char *only; /* or NULL */
};

static struct campaign *campaign(struct campaigns *all, const char *id)
{
    struct campaign *c = map_find(&all->by_id, bytes_of(id));

    if (c)
        return c;
    c = ARENA_NEW(all->arena, struct campaign);
    c->id = arena_strdup(all->arena, id);
    map_put(&all->by_id, bytes_of(c->id), c);
    return c;
}

static bool take_kept(void *arg, const struct kept *k)
{
    struct campaigns *all = arg;

    if (all->only && strcmp(all->only, k->key) != 0)
        return true;
    struct campaign *c = campaign(all, k->key);
    campaign_kept_parse(k->value, &c->kept);
    c->is_kept = true;
    return true;
}

/* What ended in the last span; it may have been widened. */
static enum err read_rates_of(struct request *r, struct campaigns *all, int64_t span_s, bool is_minute)
{
    int64_t now = clock_unix();
    struct report_query q = {.since_unix = now - span_s,
                             .until_unix = is_minute ? 0 : now, /* whole seconds: this one is not over */
                             .by = REPORT_BY_CAMPAIGN,
                             .campaign = all->only,
                             .timeout_ms = REPORT_LIMIT_MS};
    struct report_delivery found;
    enum err e = report_delivery(view_data_dir(r), &q, &found);

    if (e)
        return e;
    for (size_t i = 0; i < found.count; i++) {
        const struct report_delivery_row *row = &found.rows[i];
        struct campaign *c = campaign(all, row->key);
        uint64_t ended = row->delivered + row->bounced + row->expired;
        int64_t width_s = MAX_OF(now - found.span.since_unix, (int64_t)1);
        if (is_minute) {
            c->ended = ended;
            c->span_s = width_s;
        }
        if (is_minute || ended >= ENOUGH)
            c->pace = (double)ended / (double)width_s;
    }
    report_delivery_fini(&found);
    return OK;
}

/* A campaign that began just now is not slow: where enough of it ended, a few seconds say when it will be
 * done. */
static enum err read_rates(struct request *r, struct campaigns *all)
{
    enum err e = read_rates_of(r, all, RATE_SPAN_S, true);

    return e || all->only ? e : read_rates_of(r, all, PACE_SPAN_S, false);
}

static enum err read_sums(struct request *r, struct campaigns *all)
{
    struct reconciliation sums = {0};
    enum err e = reconcile_once(r, all->only, true, &sums);

    for (size_t i = 0; !e && i < sums.count; i++)
        campaign(all, sums.rows[i].campaign)->sum = sums.rows[i];
    return e ? e : read_rates(r, all);
}

static enum err read_kept(struct request *r, struct campaigns *all)
{
    return keep_read(view_data_dir(r), CAMPAIGN_KIND, NULL, take_kept, all);
}

/* ---- words for both ---- */

static void put_rate(struct buf *out, const struct campaign *c)
{
    double rate = c->span_s ? (double)c->ended / (double)c->span_s : 0;
    uint64_t due = c->waiting - c->later;

    json_put_int(out, "rate_per_minute", (int64_t)(rate * 60 + 0.5));
    json_put_count(out, "later", c->later);
    if (c->is_detailed)
        progress_put_sum(out, &c->sum_up);
    else if (c->pace > 0 && due && !c->kept.paused_unix)
        json_put_int(out, "eta_s", (int64_t)((double)due / c->pace + 0.5));
    else
        json_put_null(out, "eta_s");
}

static void put_campaign(struct buf *out, const struct campaign *c)
{
    json_put_text(out, "campaign", c->id);
    json_put_bool(out, "is_paused", c->kept.paused_unix != 0);
    if (c->kept.paused_unix) {
        json_put_int(out, "paused_since_unix", c->kept.paused_unix);
        json_put_text(out, "paused_by", c->kept.by);
        json_put_text(out, "paused_why", c->kept.why);
    }
    if (c->kept.expires_unix)
        json_put_int(out, "expires_unix", c->kept.expires_unix);
    else
        json_put_null(out, "expires_unix");
    json_put_count(out, "accepted_messages", c->sum.accepted_messages);
    json_put_count(out, "accepted", c->sum.accepted);
    json_put_count(out, "delivered", c->sum.delivered);
    json_put_count(out, "bounced", c->sum.bounced);
    json_put_count(out, "expired", c->sum.expired);
    json_put_count(out, "cancelled", c->sum.cancelled);
    json_put_count(out, "waiting", c->waiting);
    json_put_count(out, "held", c->held);
    json_put_count(out, "paused", c->paused);
    if (c->next_due_unix)
        json_put_int(out, "next_due_unix", c->next_due_unix);
    else
        json_put_null(out, "next_due_unix");
    put_rate(out, c);
}

/* ---- the list ---- */

static uint64_t in_queue(const struct campaign *c)
{
    return c->waiting + c->held + c->paused;
}

static bool is_active(const struct campaign *c)
{
    return in_queue(c) || c->kept.paused_unix || c->kept.expires_unix > clock_unix();
}

static int active_first(const void *a, const void *b)
{
    const struct campaign *x = *(const struct campaign *const *)a, *y = *(const struct campaign *const *)b;
    uint64_t nx = in_queue(x), ny = in_queue(y);

    if (is_active(x) != is_active(y))
        return is_active(x) ? -1 : 1;
    if (nx == ny) {
        nx = x->sum.accepted;
        ny = y->sum.accepted;
    }
    return nx != ny ? (nx < ny ? 1 : -1) : strcmp(x->id, y->id);
}

static enum err read_queue(struct request *r, struct browse *b, struct campaigns *all)
{
    struct browse_group *rows;
    size_t count;
    enum err e = browse_groups(b, BROWSE_GROUP_CAMPAIGN, CAMPAIGNS_MAX, &r->arena, &rows, &count);

    for (size_t i = 0; !e && i < count; i++) {
        struct campaign *c = campaign(all, rows[i].key);
        c->waiting = rows[i].waiting;
        c->later = rows[i].later;
        c->held = rows[i].held - rows[i].paused;
        c->paused = rows[i].paused;
        c->next_due_unix = rows[i].next_due_unix;
    }
    return e;
}

static void put_list(struct request *r, struct campaigns *all, bool active, size_t limit)
{
    struct campaign **list = arena_alloc(&r->arena, (all->by_id.count + 1) * sizeof(struct campaign *));
    struct buf *out = &r->reply.body;
    size_t count = 0, at = 0;

    for (struct campaign *c; (c = map_next(&all->by_id, &at));)
        if (!active || is_active(c))
            list[count++] = c;
    qsort(list, count, sizeof(struct campaign *), active_first);
    json_begin(out, NULL, '{');
    json_begin(out, "campaigns", '[');
    for (size_t i = 0; i < MIN_OF(count, limit); i++) {
        json_begin(out, NULL, '{');
        put_campaign(out, list[i]);
        json_end(out, '}');
    }
    json_end(out, ']');
    json_put_bool(out, "more", count > limit);
    json_end(out, '}');
    reply_ok(r, TYPE_JSON);
}

void get_campaigns(struct request *r)
{
    static const char *const words[] = {"no", "yes"};
    struct campaigns all = {.arena = &r->arena};
    uint64_t limit = LIMIT_PRESET;
    int active = 0;

    if (!param_count(r, "limit", 1, LIMIT_MAX, &limit) ||
        !param_word(r, "active", words, COUNT_OF(words), &active))
        return;
    CLEANUP(browse_close) struct browse *b = view_open(r);
    if (!b)
        return;
    enum err e = read_queue(r, b, &all);
    if (!e)
        e = read_kept(r, &all);
    if (!e)
        e = read_sums(r, &all);
    if (e)
        reply_err(r, e, "the campaigns");
    else
        put_list(r, &all, active == 1, (size_t)limit);
    map_fini(&all.by_id);
}

/* ---- one ---- */

struct share { /* of a group */
    const char *group;
    uint64_t by_state[QUEUE_STATES];
    struct report_delivery_row ended;
    struct progress progress;
};

static struct share *share_of(struct request *r, struct map *shares, const char *group)
{
    struct share *s = map_find(shares, bytes_of(group));

    if (s)
        return s;
    s = ARENA_NEW(&r->arena, struct share);
    s->group = arena_strdup(&r->arena, group);
    map_put(shares, bytes_of(s->group), s);
    return s;
}

static enum err read_shares(struct request *r, struct browse *b, struct campaign *c, struct map *shares)
{
    struct browse_share *rows;
    size_t count;
    enum err e = browse_campaign(b, c->id, &r->arena, &rows, &count);

    if (e)
        return e;
    const char **domains = arena_alloc(&r->arena, (count + 1) * sizeof(*domains));
    const char **groups = arena_alloc(&r->arena, (count + 1) * sizeof(*groups));
    for (size_t i = 0; i < count; i++)
        domains[i] = rows[i].domain;
    engine_groups_of(r->engine, domains, count, &r->arena, groups);
    struct binding *bindings = arena_zalloc(&r->arena, (count + 1) * sizeof(*bindings));
    engine_bindings_of(r->engine, domains, MIN_OF(count, (size_t)BINDINGS_MAX), &r->arena, bindings);
    for (size_t i = 0; i < count; i++) {
        struct share *s = share_of(r, shares, groups[i] ? groups[i] : UNKNOWN);
        progress_add(&s->progress, &rows[i], i < BINDINGS_MAX ? &bindings[i] : NULL);
        c->later += rows[i].later;
        for (int state = 0; state < QUEUE_STATES; state++)
            s->by_state[state] += rows[i].by_state[state];
        c->waiting += rows[i].by_state[QUEUE_WAITING] + rows[i].by_state[QUEUE_BOUNCING] +
                      rows[i].by_state[QUEUE_CANCELLING];
        c->held += rows[i].by_state[QUEUE_HELD];
        c->paused += rows[i].by_state[QUEUE_PAUSED];
        if (rows[i].next_due_unix && (!c->next_due_unix || rows[i].next_due_unix < c->next_due_unix))
            c->next_due_unix = rows[i].next_due_unix;
    }
    return OK;
}

static enum err read_speed(struct request *r, const char *id, int64_t span_s, struct map *shares,
                           uint64_t *ended)
{
    int64_t now = clock_unix(); /* whole seconds: this one is not over */
    const struct report_query q = {.since_unix = now - span_s,
                                   .until_unix = now,
                                   .by = REPORT_BY_GROUP,
                                   .campaign = id,
                                   .timeout_ms = REPORT_LIMIT_MS};
    struct report_delivery found;
    enum err e = report_delivery(view_data_dir(r), &q, &found);

    if (e)
        return e;
    for (size_t i = 0; i < found.count; i++) {
        const struct report_delivery_row *row = &found.rows[i];
        uint64_t n = row->delivered + row->bounced + row->expired;
        progress_note_rate(&share_of(r, shares, row->key)->progress, n, now - found.span.since_unix);
        *ended += n;
    }
    report_delivery_fini(&found);
    return OK;
}

/* Over the shortest time in which enough ended to tell: a campaign that began just now is not slow. */
static enum err read_speeds(struct request *r, const char *id, struct map *shares)
{
    static const int64_t spans_s[] = {PACE_SPAN_S, RATE_SPAN_S, 600};
    enum err e = OK;

    for (size_t i = 0; !e && i < COUNT_OF(spans_s); i++) {
        uint64_t ended = 0;
        e = read_speed(r, id, spans_s[i], shares, &ended);
        if (ended >= ENOUGH)
            break;
    }
    return e;
}

static enum err read_ended(struct request *r, const char *id, struct map *shares)
{
    const struct report_query q = {.by = REPORT_BY_GROUP, .campaign = id, .timeout_ms = REPORT_LIMIT_MS};
    struct report_delivery found;
    enum err e = report_delivery(view_data_dir(r), &q, &found);

    if (e)
        return e;
    for (size_t i = 0; i < found.count; i++) {
        struct share *s = share_of(r, shares, found.rows[i].key);
        s->ended = found.rows[i];
        s->ended.key = s->group;
    }
    report_delivery_fini(&found);
    return OK;
}

static int by_group(const void *a, const void *b)
{
    return strcmp((*(const struct share *const *)a)->group, (*(const struct share *const *)b)->group);
}

static void put_shares(struct request *r, const struct map *shares, struct buf *out)
{
    static const char *const keys[QUEUE_STATES] = {"waiting",  "held",       "dsn_owed",
                                                   "bouncing", "cancelling", "paused"};
    struct share **list = arena_alloc(&r->arena, (shares->count + 1) * sizeof(struct share *));
    size_t count = 0, at = 0;

    for (struct share *s; (s = map_next(shares, &at));)
        list[count++] = s;
    qsort(list, count, sizeof(struct share *), by_group);
    json_begin(out, "groups", '[');
    for (size_t i = 0; i < count; i++) {
        const struct share *s = list[i];
        json_begin(out, NULL, '{');
        json_put_text(out, "group", s->group);
        for (int state = 0; state < QUEUE_STATES; state++)
            json_put_count(out, keys[state], s->by_state[state]);
        json_put_count(out, "delivered", s->ended.delivered);
        json_put_count(out, "bounced", s->ended.bounced);
        json_put_count(out, "expired", s->ended.expired);
        json_put_count(out, "cancelled", s->ended.cancelled);
        json_put_count(out, "deferrals", s->ended.deferred);
        progress_put(out, &s->progress);
        json_end(out, '}');
    }
    json_end(out, ']');
}

static void sum_up(struct request *r, struct campaign *c, const struct map *shares)
{
    size_t at = 0;

    c->is_detailed = true;
    c->sum_up.is_paused = c->kept.paused_unix != 0;
    for (struct share *s; (s = map_next(shares, &at));) {
        s->progress.ladder_ms = engine_sources_forecast_ms(r->engine, s->group, s->progress.due);
        progress_judge(&s->progress, s->by_state[QUEUE_HELD], s->by_state[QUEUE_PAUSED]);
        progress_sum(&c->sum_up, s->group, &s->progress);
    }
}

void get_campaign(struct request *r)
{
    struct campaigns all = {.arena = &r->arena, .only = r->args[0]};
    struct map shares = {0};
    struct buf *out = &r->reply.body;

    CLEANUP(browse_close) struct browse *b = view_open(r);
    if (!b)
        return;
    struct campaign *c = campaign(&all, r->args[0]);
    enum err e = read_shares(r, b, c, &shares);
    if (!e)
        e = read_kept(r, &all);
    if (!e)
        e = read_sums(r, &all);
    if (!e)
        e = read_ended(r, c->id, &shares);
    if (!e)
        e = read_speeds(r, c->id, &shares);
    if (!e)
        sum_up(r, c, &shares);
    if (e) {
        reply_err(r, e, "the campaign");
    } else if (!shares.count && !c->is_kept && !c->sum.accepted) {
        reply_error(r, 404, "not_found", "nothing is known of a campaign '%s'", r->args[0]);
    } else {
        json_begin(out, NULL, '{');
        put_campaign(out, c);
        put_shares(r, &shares, out);
        json_end(out, '}');
        reply_ok(r, TYPE_JSON);
    }
    map_fini(&shares);
    map_fini(&all.by_id);
}

/* ---- what an operator does ---- */

static enum err cancel(struct request *r, uint64_t *changed)
{
    struct queue_selector which = {.campaign = mem_strdup(r->args[0])};

    return engine_queue_op(r->engine, &which, NULL, QUEUE_CANCEL, changed);
}

/* "at", "in", or null for never: exactly one of them.  *bad: the text that is no time. */
static bool read_end(const json_t *body, int64_t *out, const char **bad)
{
    const json_t *at = json_object_get(body, "at");
    const char *in = json_string_value(json_object_get(body, "in"));
    uint64_t ms;

    if (in && !at) {
        if (!yaml_parse_duration_ms(bytes_of(in), &ms) || ms > YEARS_MAX_MS) {
            *bad = in;
            return false;
        }
        *out = clock_unix() + (int64_t)(ms / 1000);
        return true;
    }
    *out = json_integer_value(at);
    if (!at || json_object_get(body, "in"))
        return false;
    if (!json_is_string(at))
        return json_is_null(at) || (json_is_integer(at) && *out > 0);
    if (schedule_parse(bytes_of(json_string_value(at)), out) && *out > 0)
        return true;
    *bad = json_string_value(at);
    return false;
}

static enum err do_op(struct request *r, const char *op, const char *why, int64_t end, uint64_t *changed)
{
    if (strcmp(op, "pause") == 0)
        return engine_campaign_pause(r->engine, r->args[0], r->user, why, changed);
    if (strcmp(op, "resume") == 0)
        return engine_campaign_resume(r->engine, r->args[0], changed);
    if (strcmp(op, "expire") == 0)
        return engine_campaign_expire(r->engine, r->args[0], end, r->user, changed);
    return cancel(r, changed);
}

/* Which fields stand with each op. */
static bool op_is_good(const json_t *body, const char *op, int64_t *end, const char **bad_time)
{
    const json_t *why = json_object_get(body, "why");

    if (op && strcmp(op, "pause") == 0)
        return json_object_size(body) == (why ? 2U : 1U) && (!why || json_is_string(why));
    if (op && strcmp(op, "expire") == 0)
        return json_object_size(body) == 2 && read_end(body, end, bad_time);
    return op && json_object_size(body) == 1 && (strcmp(op, "resume") == 0 || strcmp(op, "cancel") == 0);
}

void post_campaign(struct request *r)
{
    static const char right[] =
        "the body must be a JSON object like {\"op\": \"pause\", \"why\": \"…\"}, with op "
        "pause, resume, cancel, or expire, this one with \"at\": a date or seconds since 1970, null for "
        "never, or with \"in\": a span like \"6h\"";
    CLEANUP(json_decref)
    json_t *body = json_loadb(r->body.at ? r->body.at : "", r->body.len, JSON_REJECT_DUPLICATES, NULL);
    const char *op = json_string_value(json_object_get(body, "op"));
    const char *why = json_string_value(json_object_get(body, "why")), *bad_time = NULL;
    struct buf *out = &r->reply.body;
    uint64_t changed = 0;
    int64_t end = 0;

    if (!op_is_good(body, op, &end, &bad_time)) {
        if (bad_time && json_object_get(body, "in"))
            reply_error(r, 400, "invalid", "'%s' is no span up to ten years: like 30m, 6h or 2d", bad_time);
        else if (bad_time)
            reply_error(
                r, 400, "invalid",
                "'%s' is no time: like 2026-12-24T18:00:00+09:00, 'Thu, 24 Dec 2026 18:00:00 +0900', or "
                "seconds since 1970",
                bad_time);
        else
            reply_error(r, 400, "invalid", "%s", right);
        return;
    }
    enum err e = do_op(r, op, why, end, &changed);
    if (e == ERR_INVALID) {
        reply_error(r, 400, "invalid", "a campaign's id has 1 to 64 of A-Z a-z 0-9 . _ : -");
        return;
    }
    if (e) {
        reply_err(r, e, "the campaign");
        return;
    }
    json_begin(out, NULL, '{');
    json_put_text(out, "op", op);
    json_put_count(out, "changed", changed);
    if (end)
        json_put_int(out, "expires_unix", end);
    json_end(out, '}');
    reply_ok(r, TYPE_JSON);
}
