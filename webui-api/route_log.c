/* Live attempts, and what was changed automatically. */
#include "base/clock.h"
#include "base/json.h"
#include "base/notice.h"
#include "engine/engine.h"
#include "webui-api/params.h"
#include "webui-api/routes.h"

#define WAIT_MAX_MS  30000
#define SLICE_MS     250 /* how soon a waiting follower notices that the API ends */
#define LINES_PRESET 100

/* `events` asks for them: `now` for the number to go on from, else those above a number. */
static bool read_events(struct request *r, uint64_t limit)
{
    const char *text = param_text(r, "events");
    uint64_t after = 0;

    if (!text)
        return true;
    if (strcmp(text, "now") != 0) {
        if (!param_count(r, "events", 0, INT64_MAX, &after))
            return false;
        notices_read(after, limit, &r->reply.body);
        return true;
    }
    json_begin(&r->reply.body, NULL, '{');
    json_put_text(&r->reply.body, "event", "follow");
    json_put_count(&r->reply.body, "event_id", notices_newest());
    json_end(&r->reply.body, '}');
    buf_putc(&r->reply.body, '\n');
    return true;
}

void get_log_follow(struct request *r)
{
    const char *after_text = param_text(r, "after");
    uint64_t after = 0, wait_ms = 0, limit = LINES_PRESET;
    struct history *h = engine_history(r->engine);

    if (after_text && strcmp(after_text, "now") == 0)
        after = HISTORY_FOLLOW_NOW;
    else if (!param_count(r, "after", 0, INT64_MAX, &after))
        return;
    if (!param_count(r, "wait_ms", 0, WAIT_MAX_MS, &wait_ms) ||
        !param_count(r, "limit", 1, HISTORY_FOLLOW_LINES, &limit))
        return;
    uint64_t until = clock_now_ms() + wait_ms;
    for (;;) {
        uint64_t now = clock_now_ms(), left = until > now ? until - now : 0;
        bool last = after == 0 || after == HISTORY_FOLLOW_NOW;
        after = history_follow(h, after, (uint32_t)MIN_OF(left, (uint64_t)SLICE_MS), limit, &r->reply.body);
        if (!read_events(r, limit))
            return;
        if (last || r->reply.body.len || left == 0 || atomic_load(r->stopping))
            break;
    }
    r->reply.has_next = true;
    r->reply.next = after;
    reply_ok(r, "application/x-ndjson");
}
