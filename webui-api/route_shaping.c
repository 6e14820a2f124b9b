/* What was imposed on receivers automatically, and undoing it by hand. */
#include "engine/engine.h"
#include "webui-api/json_write.h"
#include "webui-api/params.h"
#include "webui-api/routes.h"

#define LIMIT_PRESET 200
#define LIMIT_MAX    100000

static bool read_filter(struct request *r, struct engine_shaping_filter *f)
{
    f->group = param_text(r, "group");
    return param_count(r, "id", 1, INT64_MAX, &f->id) && param_domain(r, "domain", &f->domain);
}

void get_shaping(struct request *r)
{
    struct engine_shaping_filter filter = {0};
    uint64_t limit = LIMIT_PRESET;

    if (!read_filter(r, &filter) || !param_count(r, "limit", 0, LIMIT_MAX, &limit))
        return;
    json_t *list = engine_shaping_list(r->engine, &filter, (size_t)limit);
    json_put_tree(&r->reply.body, NULL, list);
    json_decref(list);
    reply_ok(r, TYPE_JSON);
}

void post_shaping_clear(struct request *r)
{
    static const char *const all_words[] = {"no", "yes"};
    struct engine_shaping_filter filter = {0};
    int all = 0;

    if (!read_filter(r, &filter) || !param_word(r, "all", all_words, COUNT_OF(all_words), &all))
        return;
    bool any = filter.id || filter.group || filter.domain;
    if (any == (all == 1)) {
        reply_error(r, 400, "invalid",
                    any ? "'all' goes without id, group and domain"
                        : "say which: an id, a group, a domain, or all=yes");
        return;
    }
    size_t cleared = engine_shaping_clear(r->engine, &filter, r->user);
    if (!cleared && filter.id) {
        reply_error(r, 404, "not_found", "there is no event %llu in force", (unsigned long long)filter.id);
        return;
    }
    json_begin(&r->reply.body, NULL, '{');
    json_put_count(&r->reply.body, "cleared", cleared);
    json_end(&r->reply.body, '}');
    reply_ok(r, TYPE_JSON);
}
