#include "webui-api/queue_view.h"

#include "base/log.h"
#include "base/mem.h"
#include "webui-api/json_write.h"

#define ATTEMPTS_LIMIT_MS 5000

static const char *const state_keys[QUEUE_STATES] = {"waiting",  "held",       "dsn_owed",
                                                     "bouncing", "cancelling", "paused"};

const char *view_data_dir(const struct request *r)
{
    return engine_conf(r->engine)->data_dir;
}

struct browse *view_open(struct request *r)
{
    struct browse *b = NULL;
    char *why = NULL;

    if (engine_browse(r->engine, &b, &why)) {
        log_error(NULL, "api.queue", LOG_STR("why", why));
        reply_error(r, 503, "unavailable", "the queue cannot be read just now: %s",
                    why ? why : "no reason known");
    }
    mem_free(why);
    return b;
}

void view_put_rcpt(struct buf *out, const struct browse_row *row)
{
    char id[MESSAGE_ID_TEXT];

    json_begin(out, NULL, '{');
    json_put_text(out, "message", message_id_format(row->message_id, id));
    json_put_count(out, "rcpt", row->rcpt_no);
    json_put_text(out, "recipient", row->address);
    json_put_text(out, "domain", row->domain);
    json_put_text(out, "state", queue_state_name(row->state));
    json_put_int(out, "due_unix", row->due_unix);
    json_put_count(out, "attempts", row->attempts);
    json_put_text(out, "last_outcome", row->last_text);
    json_put_int(out, "accepted_unix", row->accepted_unix);
    json_put_text(out, "sender", row->sender);
    json_put_text(out, "campaign", row->campaign);
    json_put_text(out, "account", row->account);
    json_put_count(out, "size", row->size_bytes);
    json_put_count(out, "recipients_total", row->rcpt_total);
    json_end(out, '}');
}

void view_put_totals(struct buf *out, const char *key, const struct browse_totals *t)
{
    json_begin(out, key, '{');
    for (int s = 0; s < QUEUE_STATES; s++)
        json_put_count(out, state_keys[s], t->by_state[s]);
    json_put_count(out, "messages", t->messages);
    json_end(out, '}');
}

bool view_put_domain(struct request *r, struct browse *b, const char *domain, struct buf *out)
{
    const struct queue_selector which = {.domains = (char **)(uintptr_t)&domain, .domain_count = 1};
    uint64_t counts[QUEUE_STATES] = {0};

    for (int s = 0; s < QUEUE_STATES; s++) {
        const struct browse_query q = {.which = &which, .only_state = true, .state = (enum queue_state)s};
        enum err e = browse_count(b, &q, &counts[s]);
        if (e) {
            reply_err(r, e, "the queue of this domain");
            return false;
        }
    }
    json_begin(out, "queue", '{');
    for (int s = 0; s < QUEUE_STATES; s++)
        json_put_count(out, state_keys[s], counts[s]);
    json_end(out, '}');
    return true;
}

enum err view_put_attempts(const char *dir, const struct report_which *which, bool cut, struct buf *out,
                           size_t *count)
{
    struct report_which w = *which;
    struct report_attempts found = {0};
    BUF_LOCAL(one);

    w.timeout_ms = ATTEMPTS_LIMIT_MS;
    enum err e = report_attempts(dir, &w, &found);
    if (e)
        return e;
    json_begin(out, "attempts", '[');
    for (size_t i = 0; i < found.count; i++) {
        buf_clear(&one);
        report_attempt_json(&found.rows[i], &one);
        json_put_raw(out, NULL, buf_bytes(&one));
    }
    json_end(out, ']');
    if (cut)
        json_put_bool(out, "attempts_cut", found.cut_short || (w.newest && found.count == w.newest));
    if (count)
        *count = found.count;
    report_attempts_fini(&found);
    return OK;
}
