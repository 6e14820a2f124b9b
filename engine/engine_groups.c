/* Which group a domain with mail in the queue belongs to, also where its MX hosts decide. */
#include <stdatomic.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/engine_priv.h"

#define AT_ONCE 256 /* lookups of one worker */
#define SEEK_MS                                                                                              \
    20000 /* no lookup is begun later: a name server that is down must not hold the caller for hours */

struct bound_call {
    struct arena *arena;
    const char *const *domains;
    const char **groups;
    size_t count;
    unsigned worker, workers;
};

static void ask_bound(struct worker *w, void *arg)
{
    const struct bound_call *call = arg;

    for (size_t i = 0; i < call->count; i++) {
        if (call->groups[i] || store_owner(bytes_of(call->domains[i]), call->workers) != call->worker)
            continue;
        call->groups[i] = arena_strdup(call->arena, deliver_group_of(w->deliver, call->domains[i]));
    }
}

/* By the policy where the name decides; by what delivery found where the MX hosts do. */
void engine_groups_of(struct engine *e, const char *const *domains, size_t count, struct arena *arena,
                      const char **groups)
{
    struct bound_call call = {arena, domains, groups, count, 0, e->worker_count};
    struct policy *p = engine_policy(e);
    const struct group *last = NULL;
    const char *last_name = NULL;
    bool all = true;

    for (size_t i = 0; i < count; i++) {
        struct policy_match m = policy_match_domain(p, bytes_of(domains[i]));
        if (m.group && m.group != last) {
            last = m.group;
            last_name = arena_strdup(arena, last->name);
        }
        groups[i] = m.group ? last_name : NULL;
        all &= m.group != NULL;
    }
    policy_unref(p);
    for (unsigned i = 0; !all && i < e->worker_count; i++) { /* one after the other: they share the arena */
        call.worker = i;
        worker_call(e->workers[i], ask_bound, &call);
    }
}

/* ---- asking DNS for the rest ---- */

struct seek {
    const struct policy *policy; /* its caller holds it */
    const char *const *domains;
    const struct group **found; /* by domain; NULL: to be looked for */
    const bool *wanted;
    size_t count;
    unsigned workers;
    uint64_t until_ms;
    atomic_uint open_workers;
    struct doorbell bell;
};

/* One worker's share: the domains that it owns. */
struct seeker {
    struct seek *seek;
    struct worker *w;
    size_t next;
    unsigned open;
    bool starting; /* answers that come at once do not start more */
};

struct lookup {
    struct seeker *seeker;
    size_t index;
};

static void seek_on(struct seeker *s);

static void on_mx(void *arg, const struct dns_mx *mx)
{
    struct lookup *l = arg;
    struct seeker *s = l->seeker;
    struct bytes names[DNS_MX_MAX];

    for (size_t i = 0; i < mx->count; i++)
        names[i] = bytes_of(mx->hosts[i].name);
    if (mx->status == DNS_OK)
        s->seek->found[l->index] = policy_match_mx(s->seek->policy, names, mx->count).group;
    mem_free(l);
    s->open--;
    if (!s->starting)
        seek_on(s);
}

static void seek_on(struct seeker *s)
{
    struct seek *seek = s->seek;

    if (clock_now_ms() > seek->until_ms)
        s->next = seek->count;
    s->starting = true;
    for (; s->next < seek->count && s->open < AT_ONCE; s->next++) {
        if (!seek->wanted[s->next] ||
            store_owner(bytes_of(seek->domains[s->next]), seek->workers) != s->w->index)
            continue;
        struct lookup *l = MEM_NEW(struct lookup);
        *l = (struct lookup){s, s->next};
        s->open++;
        dns_resolve_mx(s->w->dns, seek->domains[s->next], on_mx, l);
    }
    s->starting = false;
    if (s->open || s->next < seek->count)
        return;
    mem_free(s);
    if (atomic_fetch_sub(&seek->open_workers, 1) == 1)
        doorbell_ring(&seek->bell); /* what is left of `seek` is its caller's */
}

static void start_seek(struct worker *w, void *arg)
{
    struct seeker *s = MEM_NEW(struct seeker);

    *s = (struct seeker){.seek = arg, .w = w};
    seek_on(s);
}

void engine_groups_find(struct engine *e, const char *const *domains, size_t count, struct arena *arena,
                        const char **groups)
{
    bool *wanted = arena_zalloc(arena, (count + 1) * sizeof(*wanted)), any = false;

    engine_groups_of(e, domains, count, arena, groups);
    for (size_t i = 0; i < count; i++)
        any |= wanted[i] = !groups[i];
    if (!any)
        return;
    struct policy *p = engine_policy(e);
    struct seek seek = {.policy = p,
                        .domains = domains,
                        .found = arena_zalloc(arena, count * sizeof(*seek.found)),
                        .wanted = wanted,
                        .count = count,
                        .workers = e->worker_count,
                        .until_ms = clock_now_ms() + SEEK_MS};
    atomic_init(&seek.open_workers, e->worker_count);
    doorbell_init(&seek.bell);
    for (unsigned i = 0; i < e->worker_count; i++)
        if (!worker_call(e->workers[i], start_seek, &seek) && atomic_fetch_sub(&seek.open_workers, 1) == 1)
            doorbell_ring(&seek.bell); /* its domains stay without a group */
    doorbell_wait(&seek.bell, -1);     /* DNS answers or times out */
    doorbell_fini(&seek.bell);
    for (size_t i = 0; i < count; i++)
        if (seek.found[i])
            groups[i] = arena_strdup(arena, seek.found[i]->name);
    policy_unref(p);
}
