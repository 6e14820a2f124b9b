/* Campaigns: first what is kept changes, so that nothing slips by between the two, then what waits follows.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/notice.h"
#include "engine/campaign_guard.h"
#include "engine/engine_priv.h"
#include "engine/shaping.h"
#include "engine/smtp/schedule.h"
#include "queue/campaigns.h"
#include "queue/keep.h"

#define GUARD_NAME  "the guard"
#define GUARDED_MAX 20

/* One change of what is kept at a time: it is read, changed and written. */
static pthread_mutex_t changing = PTHREAD_MUTEX_INITIALIZER;

static enum err read_kept(struct engine *e, const char *id, struct campaign_kept *out)
{
    struct engine_wait wait;
    struct store_keep *get = store_keep_make(CAMPAIGN_KIND, id, (struct bytes){0});

    engine_wait_begin(&wait, &get->req);
    store_post_keep_get(e->shared.store, get);
    engine_wait_end(&wait);
    enum err err = get->req.result;
    *out = (struct campaign_kept){0};
    if (!err)
        campaign_kept_parse(buf_bytes(&get->value), out);
    store_keep_destroy(get);
    return err == ERR_NOT_FOUND ? OK : err;
}

static enum err write_kept(struct engine *e, const char *id, const struct campaign_kept *k)
{
    struct engine_wait wait;
    BUF_LOCAL(value);

    campaign_kept_put(&value, k);
    struct store_keep *put = store_keep_make(CAMPAIGN_KIND, id, buf_bytes(&value));
    put->remove = value.len == 0;
    engine_wait_begin(&wait, &put->req);
    store_post_keep_put(e->shared.store, put);
    engine_wait_end(&wait);
    enum err err = put->req.result;
    store_keep_destroy(put);
    return err;
}

typedef void (*change_fn)(struct campaign_kept *k, const void *arg);

static enum err change_kept(struct engine *e, const char *id, change_fn change, const void *arg)
{
    struct campaign_kept k;

    pthread_mutex_lock(&changing);
    enum err err = read_kept(e, id, &k);
    if (!err) {
        change(&k, arg);
        err = write_kept(e, id, &k);
    }
    pthread_mutex_unlock(&changing);
    return err;
}

static void set_pause(struct campaign_kept *k, const void *arg)
{
    const struct campaign_kept *want = arg;

    k->paused_unix = want->paused_unix;
    memcpy(k->by, want->by, sizeof(k->by));
    memcpy(k->why, want->why, sizeof(k->why));
}

static void set_end(struct campaign_kept *k, const void *arg)
{
    k->expires_unix = *(const int64_t *)arg;
}

static enum err follow(struct engine *e, const char *id, enum queue_op op, uint64_t *changed)
{
    struct queue_selector which = {.campaign = mem_strdup(id)};

    return engine_queue_op(e, &which, NULL, op, changed);
}

/* What is stopped stops at once: a large campaign takes seconds to mark, and the store may have other work.
 */
static void let_go(struct engine *e, const char *id)
{
    campaign_guard_release(e->shared.guard, id);
    deliver_kick_all(&e->shared); /* if it failed, mail goes on */
}

enum err engine_campaign_pause(struct engine *e, const char *id, const char *by, const char *why,
                               uint64_t *changed)
{
    struct campaign_kept k = {.paused_unix = clock_unix()};

    *changed = 0;
    if (!campaign_is_valid(bytes_of(id)))
        return ERR_INVALID;
    campaign_guard_hold(e->shared.guard, id);
    snprintf(k.by, sizeof(k.by), "%s", by ? by : "");
    snprintf(k.why, sizeof(k.why), "%s", why ? why : "");
    enum err err = change_kept(e, id, set_pause, &k);
    if (!err && strcmp(k.by, GUARD_NAME) != 0)
        shaping_subject_end(e->shared.shaping, SUBJECT_CAMPAIGN, "", id, "paused by hand");
    if (!err)
        err = follow(e, id, QUEUE_PAUSE, changed);
    let_go(e, id);
    if (!err)
        notice_info(NULL, "campaign.paused", LOG_STR("campaign", id), LOG_STR("by", k.by),
                    LOG_STR("why", k.why), LOG_INT("rcpts", *changed));
    return err;
}

enum err engine_campaign_resume(struct engine *e, const char *id, uint64_t *changed)
{
    *changed = 0;
    if (!campaign_is_valid(bytes_of(id)))
        return ERR_INVALID;
    enum err err = change_kept(e, id, set_pause, &(struct campaign_kept){0});
    if (!err)
        shaping_subject_end(e->shared.shaping, SUBJECT_CAMPAIGN, "", id, "resumed");
    if (!err)
        err = follow(e, id, QUEUE_RESUME, changed);
    if (!err)
        notice_info(NULL, "campaign.resumed", LOG_STR("campaign", id), LOG_INT("rcpts", *changed));
    return err;
}

static enum err settle_end(struct engine *e, const char *id, uint64_t *changed)
{
    enum err err = follow(e, id, QUEUE_EXPIRE, changed);

    if (!err) {
        store_campaign_settled(e->shared.store, id);
        notice_info(NULL, "campaign.over", LOG_STR("campaign", id), LOG_INT("rcpts", *changed));
    }
    return err;
}

enum err engine_campaign_expire(struct engine *e, const char *id, int64_t at_unix, const char *by,
                                uint64_t *changed)
{
    *changed = 0;
    if (!campaign_is_valid(bytes_of(id)) || at_unix < 0)
        return ERR_INVALID;
    enum err err = change_kept(e, id, set_end, &at_unix);
    if (!err)
        notice_info(NULL, "campaign.expires", LOG_STR("campaign", id), LOG_INT("at", at_unix),
                    LOG_STR("by", by ? by : ""));
    return err || !at_unix || at_unix > clock_unix() ? err : settle_end(e, id, changed);
}

static void watch_ends(struct engine *e)
{
    uint64_t changed;
    enum err err = OK;
    char *id;

    while (!err && (id = store_campaign_over(e->shared.store))) {
        err = settle_end(e, id, &changed);
        if (err) /* tried again in a second */
            log_error(NULL, "campaign.over", LOG_STR("campaign", id), LOG_ERR(err));
        mem_free(id);
    }
}

static void enter_event(struct engine *e, const char *id, const char *why, const struct outcome *last)
{
    const struct subject_change c = {.group = "", .name = id, .why = last, .detail = why};

    shaping_subject_put(e->shared.shaping, SUBJECT_CAMPAIGN, &c, clock_now_ms());
}

void engine_watch_campaigns(struct engine *e)
{
    char why[GUARD_WHY_BYTES];
    struct outcome last;
    uint64_t changed;
    char *id;

    watch_ends(e);
    while ((id = campaign_guard_take(e->shared.guard, why, &last))) {
        notice_warn(NULL, "campaign.guard", LOG_STR("campaign", id), LOG_STR("why", why));
        enum err err = engine_campaign_pause(e, id, GUARD_NAME, why, &changed);
        if (!err)
            enter_event(e, id, why, &last);
        if (err) /* nothing of it is begun meanwhile; tried again in a second */
            log_error(NULL, "campaign.guard", LOG_STR("campaign", id), LOG_ERR(err));
        else
            campaign_guard_done(e->shared.guard, id);
        mem_free(id);
        if (err)
            return;
    }
}

/* ---- at start: the pause is what counts, the event tells of it ---- */

static bool enter_missing(void *arg, const struct kept *kept)
{
    struct engine *e = arg;
    struct campaign_kept k;
    double full;

    campaign_kept_parse(kept->value, &k);
    if (k.paused_unix && strcmp(k.by, GUARD_NAME) == 0 &&
        !shaping_subject_is(e->shared.shaping, SUBJECT_CAMPAIGN, "", kept->key, &full))
        enter_event(e, kept->key, k.why, NULL);
    return true;
}

enum err engine_open_campaigns(struct engine *e)
{
    struct campaign_kept k;
    size_t at = 0;
    char *id;
    enum err err = keep_read(engine_conf(e)->data_dir, CAMPAIGN_KIND, NULL, enter_missing, e);

    while (!err && (id = shaping_subject_next(e->shared.shaping, SUBJECT_CAMPAIGN, &at))) {
        err = read_kept(e, id, &k);
        if (!err && (!k.paused_unix || strcmp(k.by, GUARD_NAME) != 0)) {
            shaping_subject_end(e->shared.shaping, SUBJECT_CAMPAIGN, "", id, "it is not paused by the guard");
            at = 0;
        }
        mem_free(id);
    }
    return err;
}

/* ---- seeing ---- */

struct view {
    json_t *guarded;
    size_t paused, ends;
    int64_t now;
};

static bool view_one(void *arg, const struct kept *kept)
{
    struct view *v = arg;
    struct campaign_kept k;

    campaign_kept_parse(kept->value, &k);
    v->paused += k.paused_unix != 0;
    v->ends += k.expires_unix > v->now;
    if (k.paused_unix && strcmp(k.by, GUARD_NAME) == 0 && json_array_size(v->guarded) < GUARDED_MAX)
        json_array_append_new(v->guarded, json_pack("{s:s, s:I, s:s}", "campaign", kept->key, "since_unix",
                                                    (json_int_t)k.paused_unix, "why", k.why));
    return true;
}

json_t *engine_campaigns_json(struct engine *e)
{
    struct view v = {.guarded = json_array(), .now = clock_unix()};
    enum err err = keep_read(engine_conf(e)->data_dir, CAMPAIGN_KIND, NULL, view_one, &v);

    if (err)
        log_warn(NULL, "campaign.read", LOG_ERR(err));
    return json_pack("{s:I, s:I, s:I, s:o}", "paused", (json_int_t)v.paused, "to_expire", (json_int_t)v.ends,
                     "guard_trips", (json_int_t)campaign_guard_trips(e->shared.guard), "guarded", v.guarded);
}

void engine_campaigns_metrics(struct engine *e, struct buf *out)
{
    buf_putf(out,
             "# HELP hayauma_campaign_guard_trips campaigns that the guard paused\n"
             "# TYPE hayauma_campaign_guard_trips counter\nhayauma_campaign_guard_trips %lu\n",
             campaign_guard_trips(e->shared.guard));
}
