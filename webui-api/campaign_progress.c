#include "webui-api/campaign_progress.h"

#include <string.h>

#include "policy/classify.h"
#include "webui-api/json_write.h"

#define WARMUP "warmup" /* the limit, as delivery names it */
#define ENOUGH 10       /* recipients that ended, to tell a rate by the shorter span */

static bool equal(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static void add_limit(struct progress *p, const struct binding *b, uint64_t rcpts)
{
    size_t i = 0;

    while (i < p->limit_count && !equal(p->limits[i].binding.limit, b->limit))
        i++;
    if (i == PROGRESS_LIMITS)
        return;
    if (i == p->limit_count) {
        p->limits[p->limit_count++].binding = *b;
    } else if (b->until_unix &&
               (!p->limits[i].binding.until_unix || b->until_unix < p->limits[i].binding.until_unix)) {
        p->limits[i].binding = *b; /* the first to go on */
    }
    p->limits[i].rcpts += rcpts;
}

void progress_add(struct progress *p, const struct browse_share *share, const struct binding *binding)
{
    uint64_t due = share->by_state[QUEUE_WAITING] - share->later;

    p->due += due;
    p->later += share->later;
    if (share->later_unix && (!p->later_unix || share->later_unix < p->later_unix))
        p->later_unix = share->later_unix;
    if (share->why_count > p->why_count) {
        p->why = share->why;
        p->why_count = share->why_count;
    }
    if (due && binding)
        add_limit(p, binding, due);
}

void progress_note_rate(struct progress *p, uint64_t ended, int64_t span_s)
{
    if (p->rate_known || !ended)
        return;
    p->rate = (double)ended / (double)MAX_OF(span_s, (int64_t)1);
    p->rate_known = ended >= ENOUGH;
}

/* "450 4.2.0 text" as an outcome, to be classified. */
static enum outcome_class class_of(const char *last)
{
    struct outcome o = {.kind = OUTCOME_DEFERRED, .stage = STAGE_RCPT};
    struct bytes rest = bytes_of(last), word;
    uint64_t code = 0;

    word = bytes_first(rest, bytes_find(rest, ' '));
    if (bytes_parse_u64(word, &code) && code < 1000) {
        o.code = (uint16_t)code;
        rest = bytes_skip(rest, word.len + 1);
        word = bytes_first(rest, bytes_find(rest, ' '));
    }
    if (word.len < sizeof(o.enhanced) && bytes_find(word, '.') < word.len) {
        memcpy(o.enhanced, word.at, word.len);
        rest = bytes_skip(rest, word.len + 1);
    }
    size_t n = MIN_OF(rest.len, sizeof(o.text) - 1);
    if (n)
        memcpy(o.text, rest.at, n);
    return classify_outcome(&o);
}

/* What waits for a retry: for want of TLS, or for whatever else. */
static const char *later_limit(const struct progress *p)
{
    enum outcome_class class = p->why ? class_of(p->why) : CLASS_OTHER;

    if (!p->later)
        return NULL;
    return class == CLASS_TLS_REQUIRED || class == CLASS_TLS_FAILED ? "tls" : p->why ? "retry" : "schedule";
}

static void judge_retry(struct progress *p)
{
    p->limit = later_limit(p);
    p->until_unix = p->later_unix;
    p->text = p->why;
}

/*
 * Does a ladder say when it is done?  Where it holds the mail up, nothing else does: what went in this period
 * says nothing about the next.  Else it may be what binds before the end.
 */
static bool judge_ladder(struct progress *p, const struct binding *now)
{
    int64_t ladder_s = (int64_t)(p->ladder_ms / 1000 + (p->ladder_ms % 1000 > 0));
    bool holds = now && equal(now->limit, WARMUP);

    if (!p->ladder_ms || (now && !now->moves && !holds))
        return false;
    if (p->ladder_ms == UINT64_MAX) { /* at the rate of now it would never be done */
        p->moves = false;
        p->eta_s = -1;
    } else if (holds || ladder_s >= p->eta_s) {
        p->moves = true;
        p->eta_s = ladder_s;
    } else {
        return false;
    }
    p->until_unix = holds ? now->until_unix : 0;
    return true;
}

void progress_judge(struct progress *p, uint64_t held, uint64_t paused)
{
    size_t most = 0;

    for (size_t i = 1; i < p->limit_count; i++)
        if (p->limits[i].rcpts > p->limits[most].rcpts)
            most = i;
    p->eta_s = -1;
    p->moves = p->due && p->rate > 0 && (!p->limit_count || p->limits[most].binding.moves);
    if (p->moves)
        p->eta_s = (int64_t)((double)p->due / p->rate + 0.5);
    bool by_ladder = p->due && judge_ladder(p, p->limit_count ? &p->limits[most].binding : NULL);
    p->not_moving = p->later + held + paused + (p->moves ? 0 : p->due);
    if (by_ladder) {
        p->limit = WARMUP;
    } else if (p->due && p->limit_count) {
        p->limit = p->limits[most].binding.limit;
        p->until_unix = p->limits[most].binding.until_unix;
        p->text = p->limits[most].binding.text;
    } else if (!p->due && p->later) {
        judge_retry(p);
    } else if (!p->due && paused) {
        p->limit = "paused";
    } else if (!p->due && held) {
        p->limit = "held";
    }
}

static void put_unix(struct buf *out, const char *key, int64_t at)
{
    if (at)
        json_put_int(out, key, at);
    else
        json_put_null(out, key);
}

static void put_limit(struct buf *out, const char *group, const struct progress *p)
{
    if (!p->limit) {
        json_put_null(out, "limited_by");
        return;
    }
    json_begin(out, "limited_by", '{');
    if (group)
        json_put_text(out, "group", group);
    json_put_text(out, "limit", p->limit);
    put_unix(out, "until_unix", p->until_unix);
    json_put_text(out, "why", p->text);
    json_end(out, '}');
}

void progress_put(struct buf *out, const struct progress *p)
{
    json_put_count(out, "later", p->later);
    put_unix(out, "later_unix", p->later_unix);
    json_put_text(out, "later_limit", later_limit(p));
    json_put_text(out, "later_why", p->why);
    json_put_int(out, "rate_per_minute", (int64_t)(p->rate * 60 + 0.5));
    json_put_count(out, "not_moving", p->not_moving);
    put_limit(out, NULL, p);
    if (p->moves)
        json_put_int(out, "eta_s", p->eta_s);
    else
        json_put_null(out, "eta_s");
}

void progress_sum(struct progress_sum *sum, const char *group, const struct progress *p)
{
    uint64_t waits = p->not_moving + (p->moves ? p->due : 0);
    bool moved = sum->of && sum->of->moves;
    bool slower = p->moves && (!moved || p->eta_s > sum->eta_s);

    sum->not_moving += p->not_moving;
    if (waits && (slower || (!p->moves && !moved && waits > sum->most))) {
        sum->of = p;
        sum->group = group;
        sum->most = waits;
    }
    if (slower)
        sum->eta_s = p->eta_s;
}

void progress_put_sum(struct buf *out, const struct progress_sum *sum)
{
    static const struct progress paused = {.limit = "paused"};

    json_put_count(out, "not_moving", sum->not_moving);
    if (sum->is_paused)
        put_limit(out, NULL, &paused);
    else if (sum->of)
        put_limit(out, sum->group, sum->of);
    else
        json_put_null(out, "limited_by");
    if (sum->of && sum->of->moves && !sum->is_paused)
        json_put_int(out, "eta_s", sum->eta_s);
    else
        json_put_null(out, "eta_s");
}
