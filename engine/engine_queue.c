/* What operators do to queued mail and to accounts. */
#include "base/mem.h"
#include "engine/campaign_guard.h"
#include "engine/engine_priv.h"
#include "policy/domain.h"

#define DOMAINS_MAX 200000

struct domains {
    char **items;
    size_t count;
};

static void domains_add(struct domains *d, const char *domain)
{
    d->items = mem_realloc(d->items, (d->count + 1) * sizeof(*d->items));
    d->items[d->count++] = mem_strdup(domain);
}

static void domains_fini(struct domains *d)
{
    for (size_t i = 0; i < d->count; i++)
        mem_free(d->items[i]);
    mem_free(d->items);
}

struct binding_call {
    struct arena *arena;
    const char *const *domains;
    struct binding *out;
    size_t count;
    unsigned worker, workers;
};

static void ask_binding(struct worker *w, void *arg)
{
    const struct binding_call *call = arg;

    for (size_t i = 0; i < call->count; i++)
        if (store_owner(bytes_of(call->domains[i]), call->workers) == call->worker)
            deliver_binding(w->deliver, call->domains[i], call->arena, &call->out[i]);
}

void engine_bindings_of(struct engine *e, const char *const *domains, size_t count, struct arena *arena,
                        struct binding *out)
{
    struct binding_call call = {arena, domains, out, count, 0, e->worker_count};

    for (unsigned i = 0; i < e->worker_count; i++) { /* one after the other: they share the arena */
        call.worker = i;
        worker_call(e->workers[i], ask_binding, &call);
    }
}

static enum err domains_of_group(struct engine *e, const char *group, struct domains *out)
{
    struct arena arena = {0};
    struct browse *b = NULL;
    struct browse_group *rows = NULL;
    size_t count = 0;
    char *why = NULL;
    struct policy *p = engine_policy(e);
    enum err err = policy_group_by_name(p, group) ? OK : ERR_NOT_FOUND;

    if (!err)
        err = engine_browse(e, &b, &why);
    if (!err)
        err = browse_groups(b, BROWSE_GROUP_DOMAIN, DOMAINS_MAX, &arena, &rows, &count);
    const char **domains = arena_alloc(&arena, (count + 1) * sizeof(*domains));
    const char **groups = arena_alloc(&arena, (count + 1) * sizeof(*groups));
    for (size_t i = 0; !err && i < count; i++)
        domains[i] = rows[i].key;
    if (!err)
        engine_groups_find(e, domains, count, &arena, groups);
    for (size_t i = 0; !err && i < count; i++)
        if (groups[i] && strcmp(groups[i], group) == 0)
            domains_add(out, domains[i]);
    mem_free(why);
    browse_close(b);
    arena_fini(&arena);
    policy_unref(p);
    return err;
}

/* Which destinations an operation touches: those of the selector, or found from the message or recipient it
 * names. */
static void touched_domains(struct engine *e, const struct queue_selector *which, struct domains *out)
{
    char normal[DOMAIN_MAX_BYTES + 1];
    struct arena arena = {0};
    struct browse *b = NULL;
    struct browse_message m;
    char *why = NULL;

    for (size_t i = 0; i < which->domain_count; i++)
        domains_add(out, which->domains[i]);
    if (which->domain_count)
        return;
    if (which->recipient && domain_normalise(domain_of_address(bytes_of(which->recipient)), normal) == OK) {
        domains_add(out, normal);
    } else if (which->message_id && engine_browse(e, &b, &why) == OK) {
        if (browse_message(b, which->message_id, &arena, &m) == OK)
            for (size_t i = 0; i < m.rcpt_count; i++)
                domains_add(out, m.rcpts[i].domain);
    }
    mem_free(why);
    browse_close(b);
    arena_fini(&arena);
}

struct call_back {
    const struct domains *domains; /* none: all */
    const char *campaign;          /* or only of this one */
    bool retry;
};

static void call_back(struct worker *w, void *arg)
{
    const struct call_back *c = arg;

    if (c->campaign && !c->retry) {
        deliver_call_back_campaign(w->deliver, c->campaign);
        return;
    }
    deliver_call_back(w->deliver, c->domains->count ? c->domains->items : NULL, c->domains->count, c->retry);
}

/* The campaign of which nothing may be begun from the first moment on: a large one takes seconds to mark. */
static const char *stopped_campaign(const struct store_op *op)
{
    static const bool stops[] = {
        [QUEUE_HOLD] = true,  [QUEUE_BOUNCE] = true, [QUEUE_CANCEL] = true,
        [QUEUE_PAUSE] = true, [QUEUE_EXPIRE] = true,
    };
    const struct queue_selector *s = &op->which;
    bool is_part = s->message_id || s->recipient || s->sender || s->account || s->domain_count;

    return is_part || (size_t)op->op >= COUNT_OF(stops) || !stops[op->op] ? NULL : s->campaign;
}

enum err engine_queue_op(struct engine *e, struct queue_selector *which, const char *group, enum queue_op op,
                         uint64_t *changed)
{
    struct store_op req = {.op = op};
    struct domains members = {0}, touched = {0};
    struct engine_wait wait;
    enum err err = OK;

    if (group) {
        err = domains_of_group(e, group, &members);
        if (err || !members.count) {
            domains_fini(&members);
            *changed = 0;
            return err;
        }
        if (which->domain_count) {
            domains_fini(&members);
            return ERR_INVALID; /* a group or domains, not both */
        }
        which->domains = members.items;
        which->domain_count = members.count;
    }
    touched_domains(e, which, &touched);
    req.which = *which;
    *which = (struct queue_selector){0};
    const char *stopped = stopped_campaign(&req);
    campaign_guard_hold(e->shared.guard, stopped);
    engine_wait_begin(&wait, &req.req);
    store_post_op(e->shared.store, &req);
    engine_wait_end(&wait);
    /* The rows are marked: what workers hold of them goes back, and comes again only if it still may. */
    struct call_back back = {&touched, req.which.campaign, op == QUEUE_RETRY};
    for (unsigned i = 0; i < e->worker_count; i++)
        worker_call(e->workers[i], call_back, &back);
    campaign_guard_release(e->shared.guard, stopped);
    if (stopped)
        deliver_kick_all(&e->shared); /* what came of it meanwhile goes */
    *changed = req.changed;
    queue_selector_fini(&req.which);
    domains_fini(&touched);
    return req.req.result;
}

static void take_accounts(struct worker *w, void *arg)
{
    struct accounts *old = w->accounts;

    w->accounts = accounts_ref(arg);
    accounts_unref(old);
}

static void take_accounts_late(struct worker *w, void *arg)
{
    take_accounts(w, arg);
    accounts_unref(arg);
}

static enum err account_request(struct engine *e, struct store_account *req)
{
    struct engine_wait wait;

    engine_wait_begin(&wait, &req->req);
    store_post_account(e->shared.store, req);
    engine_wait_end(&wait);
    if (req->req.result)
        return req->req.result;
    struct accounts *now = store_accounts(e->shared.store);
    for (unsigned i = 0; i < e->worker_count; i++)
        if (!worker_call(e->workers[i], take_accounts, now))
            worker_post(e->workers[i], take_accounts_late, accounts_ref(now));
    accounts_unref(now);
    return OK;
}

enum err engine_account_put(struct engine *e, const struct account *account)
{
    struct store_account req = {0};

    account_copy(&req.account, account);
    enum err err = account_request(e, &req);
    account_fini(&req.account);
    return err;
}

enum err engine_account_remove(struct engine *e, const char *name)
{
    struct store_account req = {.remove = true};

    req.account.name = mem_strdup(name);
    enum err err = account_request(e, &req);
    account_fini(&req.account);
    return err;
}
