/* Looking at the queue: lists, counts, sums. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/yaml.h"
#include "webui-api/json_write.h"
#include "webui-api/params.h"
#include "webui-api/queue_view.h"
#include "webui-api/routes.h"

#define LIMIT_PRESET 100
#define LIMIT_MAX    100000
#define DOMAINS_MAX  500000 /* read to know which belong to a group */
#define NARROW_MAX   500 /* domains of a group that the queue is asked for by name; above that we walk it */
#define WALK_ROWS    2000
#define WALK_MS      5000
#define UNKNOWN      "(by MX)"

static const char *const state_words[] = {"waiting", "held", "dsn-owed", "bouncing", "cancelling", "paused"};
static const char *const order_words[] = {"id", "due"};

struct filter {
    struct browse_query query;
    struct queue_selector which; /* points into the request's arena */
    const char *group;
    const char **domains; /* of the group, in the arena */
    size_t domain_count;
    struct map members; /* the same as a set, when there are too many to ask for by name */
};

/* ---- groups ---- */

struct domains {
    struct browse_group *rows;
    const char **groups;
    size_t count;
};

/* `find`: DNS is asked where only the MX hosts can tell. */
static bool read_domains(struct request *r, struct browse *b, bool find, struct domains *out)
{
    enum err e = browse_groups(b, BROWSE_GROUP_DOMAIN, DOMAINS_MAX, &r->arena, &out->rows, &out->count);

    if (e) {
        reply_err(r, e, "the queue by domain");
        return false;
    }
    const char **names = arena_alloc(&r->arena, (out->count + 1) * sizeof(*names));
    out->groups = arena_alloc(&r->arena, (out->count + 1) * sizeof(*out->groups));
    for (size_t i = 0; i < out->count; i++)
        names[i] = out->rows[i].key;
    (find ? engine_groups_find : engine_groups_of)(r->engine, names, out->count, &r->arena, out->groups);
    return true;
}

static bool group_exists(struct request *r, const char *name)
{
    struct policy *p = engine_policy(r->engine);
    const char **names = arena_alloc(&r->arena, (policy_group_count(p) + 1) * sizeof(*names));
    bool found = policy_group_by_name(p, name) != NULL || strcmp(name, UNKNOWN) == 0;

    for (size_t i = 0; i < policy_group_count(p); i++)
        names[i] = policy_group(p, i)->name;
    const char *meant = found ? NULL : yaml_did_you_mean(bytes_of(name), names, policy_group_count(p));
    if (!found)
        reply_error(r, 404, "not_found", "the policy has no group '%s'%s%s%s", name,
                    meant ? " (did you mean '" : "", meant ? meant : "", meant ? "'?)" : "");
    policy_unref(p);
    return found;
}

/* The group's domains with mail in the queue. */
static bool resolve_group(struct request *r, struct browse *b, struct filter *f)
{
    struct domains all;

    if (!f->group)
        return true;
    if (!group_exists(r, f->group) || !read_domains(r, b, true, &all))
        return false;
    f->domains = arena_alloc(&r->arena, (all.count + 1) * sizeof(*f->domains));
    for (size_t i = 0; i < all.count; i++)
        if (strcmp(all.groups[i] ? all.groups[i] : UNKNOWN, f->group) == 0)
            f->domains[f->domain_count++] = all.rows[i].key;
    if (f->domain_count <= NARROW_MAX) {
        f->which.domains = (char **)(uintptr_t)f->domains;
        f->which.domain_count = f->domain_count;
        return true;
    }
    for (size_t i = 0; i < f->domain_count; i++)
        map_put(&f->members, bytes_of(f->domains[i]), (void *)(uintptr_t)f->domains[i]);
    return true;
}

/* ---- filters ---- */

static bool read_filter(struct request *r, struct filter *f)
{
    struct queue_selector *w = &f->which;
    const char *domain = NULL;
    int state = -1, order = 0;
    uint64_t limit = LIMIT_PRESET;
    const char *after = param_text(r, "after");

    w->recipient = (char *)(uintptr_t)param_text(r, "recipient");
    w->campaign = (char *)(uintptr_t)param_text(r, "campaign");
    w->sender = (char *)(uintptr_t)param_text(r, "sender");
    w->account = (char *)(uintptr_t)param_text(r, "account");
    f->group = param_text(r, "group");
    if (!param_message(r, "message", &w->message_id) || !param_domain(r, "domain", &domain) ||
        !param_word(r, "state", state_words, COUNT_OF(state_words), &state) ||
        !param_word(r, "order", order_words, COUNT_OF(order_words), &order) ||
        !param_count(r, "limit", 1, LIMIT_MAX, &limit))
        return false;
    if (domain && f->group) {
        reply_error(r, 400, "invalid", "'domain' and 'group': one of the two");
        return false;
    }
    if (order == 1 && state > 0) {
        reply_error(r, 400, "invalid", "'order' due lists what waits: it goes with no other state");
        return false;
    }
    if (after && *after && !browse_position_parse(bytes_of(after), &f->query.after)) {
        reply_error(r, 400, "invalid", "'after' takes what 'next' of the page before said");
        return false;
    }
    if (domain) {
        f->domains = ARENA_NEW(&r->arena, const char *);
        f->domains[0] = domain;
        w->domains = (char **)(uintptr_t)f->domains;
        w->domain_count = 1;
    }
    f->query.which = w;
    f->query.only_state = state >= 0;
    f->query.state = state >= 0 ? (enum queue_state)state : QUEUE_WAITING;
    f->query.order = order == 1 ? BROWSE_BY_DUE : BROWSE_BY_ID;
    f->query.limit = (uint32_t)limit;
    return true;
}

/* ---- recipients ---- */

static size_t put_rows(struct buf *out, const struct filter *f, const struct browse_list *list, size_t wanted,
                       struct browse_position *end)
{
    size_t put = 0;

    for (size_t i = 0; i < list->count && put < wanted; i++) {
        const struct browse_row *row = &list->rows[i];
        *end = (struct browse_position){true, row->due_unix, row->message_id, row->rcpt_no};
        if (f->members.count && !map_find(&f->members, bytes_of(row->domain)))
            continue;
        view_put_rcpt(out, row);
        put++;
    }
    return put;
}

/*
 * One page.  A group of very many domains is walked in steps, each one consistent state of the queue; when
 * time runs out the page is short and `more` is true.
 */
static enum err put_page(struct browse *b, struct filter *f, struct buf *out, bool *more,
                         struct browse_position *end)
{
    uint64_t until = clock_now_ms() + WALK_MS;
    size_t wanted = f->query.limit;
    enum err e = OK;

    *more = true;
    *end = f->query.after;
    while (!e && *more && wanted && clock_now_ms() < until) {
        struct arena arena = {0};
        struct browse_list list = {0};
        if (f->members.count)
            f->query.limit = WALK_ROWS;
        f->query.after = *end;
        e = browse_rcpts(b, &f->query, &arena, &list);
        if (!e) {
            size_t put = put_rows(out, f, &list, wanted, end);
            const struct browse_row *last = list.count ? &list.rows[list.count - 1] : NULL;
            wanted -= put;
            *more =
                list.more || (last && (end->message_id != last->message_id || end->rcpt_no != last->rcpt_no));
        }
        arena_fini(&arena);
    }
    return e;
}

void get_queue_recipients(struct request *r)
{
    struct buf *out = &r->reply.body;
    struct filter f = {0};
    struct browse_position end = {0};
    char next[BROWSE_POSITION_TEXT];
    bool more = false;

    if (!read_filter(r, &f))
        return;
    CLEANUP(browse_close) struct browse *b = view_open(r);
    if (!b || !resolve_group(r, b, &f))
        return;
    json_begin(out, NULL, '{');
    json_begin(out, "recipients", '[');
    bool nothing = f.group && !f.domain_count;
    enum err e = nothing ? OK : put_page(b, &f, out, &more, &end);
    map_fini(&f.members);
    if (e) {
        reply_err(r, e, "the list");
        return;
    }
    json_end(out, ']');
    json_put_bool(out, "more", more);
    json_put_text(out, "next", more ? browse_position_format(&end, next) : "");
    json_end(out, '}');
    reply_ok(r, TYPE_JSON);
}

void get_queue_count(struct request *r)
{
    struct buf *out = &r->reply.body;
    struct filter f = {0};
    uint64_t count = 0;
    enum err e = OK;

    if (!read_filter(r, &f))
        return;
    CLEANUP(browse_close) struct browse *b = view_open(r);
    if (!b || !resolve_group(r, b, &f))
        return;
    map_fini(&f.members);
    if (!f.group)
        e = browse_count(b, &f.query, &count);
    for (size_t at = 0; f.group && !e && at < f.domain_count; at += NARROW_MAX) {
        uint64_t some = 0;
        f.which.domains = (char **)(uintptr_t)(f.domains + at);
        f.which.domain_count = MIN_OF(f.domain_count - at, (size_t)NARROW_MAX);
        e = browse_count(b, &f.query, &some);
        count += some;
    }
    if (e) {
        reply_err(r, e, "the count");
        return;
    }
    json_begin(out, NULL, '{');
    json_put_count(out, "recipients", count);
    json_end(out, '}');
    reply_ok(r, TYPE_JSON);
}

/* ---- sums ---- */

static int by_size(const void *a, const void *b)
{
    const struct browse_group *x = a, *y = b;
    uint64_t nx = x->waiting + x->held, ny = y->waiting + y->held;

    return nx != ny ? (nx < ny) - (nx > ny) : strcmp(x->key, y->key);
}

static bool sum_by_group(struct request *r, struct browse *b, struct browse_group **rows, size_t *count)
{
    struct domains all;
    struct map by_name = {0};

    if (!read_domains(r, b, false, &all))
        return false;
    struct browse_group *sums = arena_zalloc(&r->arena, (all.count + 1) * sizeof(*sums));
    size_t n = 0;
    for (size_t i = 0; i < all.count; i++) {
        const struct browse_group *d = &all.rows[i];
        const char *name = all.groups[i] ? all.groups[i] : UNKNOWN;
        struct browse_group *sum = map_find(&by_name, bytes_of(name));
        if (!sum) {
            sum = &sums[n++];
            sum->key = name;
            map_put(&by_name, bytes_of(name), sum);
        }
        sum->waiting += d->waiting;
        sum->held += d->held;
        if (d->next_due_unix && (!sum->next_due_unix || d->next_due_unix < sum->next_due_unix))
            sum->next_due_unix = d->next_due_unix;
    }
    map_fini(&by_name);
    qsort(sums, n, sizeof(*sums), by_size);
    *rows = sums;
    *count = n;
    return true;
}

static bool read_sums(struct request *r, struct browse *b, int by, uint32_t limit, struct browse_group **rows,
                      size_t *count)
{
    if (by == 2)
        return sum_by_group(r, b, rows, count);
    enum err e =
        browse_groups(b, by ? BROWSE_GROUP_CAMPAIGN : BROWSE_GROUP_DOMAIN, limit + 1, &r->arena, rows, count);
    if (e)
        reply_err(r, e, "the sums");
    return !e;
}

void get_queue_summary(struct request *r)
{
    static const char *const words[] = {"domain", "campaign", "group"};
    struct buf *out = &r->reply.body;
    struct browse_group *rows = NULL;
    struct browse_totals totals;
    uint64_t limit = LIMIT_PRESET;
    size_t count = 0;
    int by = 0;

    if (!param_word(r, "by", words, COUNT_OF(words), &by) || !param_count(r, "limit", 1, LIMIT_MAX, &limit))
        return;
    CLEANUP(browse_close) struct browse *b = view_open(r);
    if (!b || !read_sums(r, b, by, (uint32_t)limit, &rows, &count))
        return;
    enum err e = browse_totals(b, &totals);
    if (e) {
        reply_err(r, e, "the queue");
        return;
    }
    json_begin(out, NULL, '{');
    json_put_text(out, "by", words[by]);
    json_begin(out, "rows", '[');
    for (size_t i = 0; i < count && i < limit; i++) {
        json_begin(out, NULL, '{');
        json_put_text(out, "key", rows[i].key);
        json_put_count(out, "waiting", rows[i].waiting);
        json_put_count(out, "held", rows[i].held);
        if (rows[i].next_due_unix)
            json_put_int(out, "next_due_unix", rows[i].next_due_unix);
        else
            json_put_null(out, "next_due_unix");
        json_end(out, '}');
    }
    json_end(out, ']');
    json_put_bool(out, "more", count > limit);
    view_put_totals(out, "totals", &totals);
    json_end(out, '}');
    reply_ok(r, TYPE_JSON);
}
