/* Campaigns: first what is kept changes, so that nothing slips by between the two, then what waits follows.
 */
#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/campaign_guard.h"
#include "engine/engine_priv.h"
#include "engine/smtp/schedule.h"
#include "queue/campaigns.h"
#include "queue/keep.h"

static enum err keep(struct engine *e, const char *id, const struct campaign_kept *k)
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

static enum err follow(struct engine *e, const char *id, enum queue_op op, uint64_t *changed)
{
    struct queue_selector which = {.campaign = mem_strdup(id)};

    return engine_queue_op(e, &which, NULL, op, changed);
}

enum err engine_campaign_pause(struct engine *e, const char *id, const char *by, const char *why,
                               uint64_t *changed)
{
    struct campaign_kept k = {.paused_unix = clock_unix()};

    *changed = 0;
    if (!campaign_is_valid(bytes_of(id)))
        return ERR_INVALID;
    snprintf(k.by, sizeof(k.by), "%s", by ? by : "");
    snprintf(k.why, sizeof(k.why), "%s", why ? why : "");
    enum err err = keep(e, id, &k);
    if (!err)
        err = follow(e, id, QUEUE_PAUSE, changed);
    if (!err)
        log_info(NULL, "campaign.paused", LOG_STR("campaign", id), LOG_STR("by", k.by), LOG_STR("why", k.why),
                 LOG_INT("rcpts", *changed));
    return err;
}

enum err engine_campaign_resume(struct engine *e, const char *id, uint64_t *changed)
{
    *changed = 0;
    if (!campaign_is_valid(bytes_of(id)))
        return ERR_INVALID;
    enum err err = keep(e, id, &(struct campaign_kept){0});
    if (!err)
        err = follow(e, id, QUEUE_RESUME, changed);
    if (!err)
        log_info(NULL, "campaign.resumed", LOG_STR("campaign", id), LOG_INT("rcpts", *changed));
    return err;
}

void engine_watch_campaigns(struct engine *e)
{
    char why[GUARD_WHY_BYTES];
    uint64_t changed;
    char *id;

    while ((id = campaign_guard_take(e->shared.guard, why))) {
        log_warn(NULL, "campaign.guard", LOG_STR("campaign", id), LOG_STR("why", why));
        enum err err = engine_campaign_pause(e, id, "the guard", why, &changed);
        if (err)
            log_error(NULL, "campaign.guard", LOG_STR("campaign", id), LOG_ERR(err));
        mem_free(id);
    }
}
