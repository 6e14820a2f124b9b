#include "engine/sources.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/shaping.h"
#include "engine/sources_priv.h"

#define AGAIN_MS      60000
#define PASSED_MS     5000 /* so long one that could not take its turn is not waited for */
#define ADDRESSES_MAX 256  /* of a pool: as policy/policy_sources.c */

const char *const source_pace_names[PACE_SOURCE_RULES] = {
    "messages_per_second_per_source", "messages_per_minute_per_source", "messages_per_hour_per_source"};

struct sources *sources_create(struct shaping *register_)
{
    struct sources *all = MEM_NEW(struct sources);

    all->shaping = register_;
    pthread_mutex_init(&all->lock, NULL);
    return all;
}

void sources_destroy(struct sources *all)
{
    struct source_state *state;
    struct source_group *group;
    struct source_use *use;

    if (!all)
        return;
    for (size_t at = 0; (use = map_next(&all->uses, &at));) {
        mem_free(use->key);
        mem_free(use);
    }
    for (size_t at = 0; (group = map_next(&all->groups, &at));) {
        pthread_mutex_destroy(&group->lock);
        mem_free(group->name);
        mem_free(group);
    }
    for (size_t at = 0; (state = map_next(&all->states, &at));) {
        mem_free(state->text);
        mem_free(state);
    }
    map_fini(&all->uses);
    map_fini(&all->groups);
    map_fini(&all->states);
    pthread_mutex_destroy(&all->lock);
    mem_free(all);
}

/* ---- what this host has ---- */

/* 0, or errno. */
static int try_bind(const struct ip *ip)
{
    struct sockaddr_storage sa;
    socklen_t len = ip_to_sockaddr(ip, 0, &sa);
    int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int error = fd < 0 || bind(fd, (struct sockaddr *)&sa, len) != 0 ? errno : 0;

    if (fd >= 0)
        close(fd);
    /* Want of descriptors or memory says nothing about the address. */
    return error == EADDRNOTAVAIL || error == EAFNOSUPPORT || error == EACCES || error == EINVAL ? error : 0;
}

/* True: it has come back. */
static bool check(struct source_state *state)
{
    int error = try_bind(&state->ip), before = atomic_exchange(&state->error, error);

    if (!error == !before)
        return false;
    atomic_store(&state->since_unix, clock_unix());
    if (error)
        log_error(NULL, "source.unusable", LOG_STR("address", state->text), LOG_STR("why", strerror(error)));
    else
        log_info(NULL, "source.usable", LOG_STR("address", state->text));
    return !error;
}

static struct source_state *state_of(struct sources *all, const char *address)
{
    struct source_state *state = map_find(&all->states, bytes_of(address));

    if (state)
        return state;
    state = MEM_NEW(struct source_state);
    state->text = mem_strdup(address);
    (void)!ip_parse(bytes_of(address), &state->ip);
    atomic_store(&state->since_unix, clock_unix());
    map_put(&all->states, bytes_of(state->text), state);
    return state;
}

void sources_check(struct sources *all, const struct policy *p)
{
    struct source_state *state;

    pthread_mutex_lock(&all->lock);
    for (size_t at = 0; (state = map_next(&all->states, &at));)
        atomic_store(&state->wanted, false);
    for (size_t i = 0; i < policy_pool_count(p); i++) {
        const struct source_pool *pool = policy_pool(p, i);
        for (size_t k = 0; k < pool->count; k++) {
            state = state_of(all, pool->addresses[k].text);
            if (!atomic_exchange(&state->wanted, true))
                check(state);
        }
    }
    pthread_mutex_unlock(&all->lock);
    sources_end_events(all, p);
}

bool sources_tick(struct sources *all, uint64_t now_ms)
{
    struct source_state *state;
    bool back = false;

    if (now_ms - all->tried_ms < AGAIN_MS)
        return false;
    all->tried_ms = now_ms;
    pthread_mutex_lock(&all->lock);
    for (size_t at = 0; (state = map_next(&all->states, &at));)
        if (atomic_load(&state->wanted))
            back |= check(state);
    pthread_mutex_unlock(&all->lock);
    return back;
}

void sources_doubt(struct sources *all, const struct source_use *use)
{
    (void)all;
    check(use->state);
}

const char *source_use_problem(const struct source_use *use)
{
    int error = atomic_load(&use->state->error);

    return error ? strerror(error) : NULL;
}

size_t sources_unusable(struct sources *all)
{
    struct source_state *state;
    size_t count = 0;

    pthread_mutex_lock(&all->lock);
    for (size_t at = 0; (state = map_next(&all->states, &at));)
        count += atomic_load(&state->wanted) && atomic_load(&state->error);
    pthread_mutex_unlock(&all->lock);
    return count;
}

/* ---- uses ---- */

struct source_use *source_use_of(struct sources *all, const char *group, const char *address)
{
    BUF_LOCAL(key);

    buf_putf(&key, "%s %s", group, address);
    pthread_mutex_lock(&all->lock);
    struct source_use *use = map_find(&all->uses, buf_bytes(&key));
    if (!use) {
        struct source_group *g = map_find(&all->groups, bytes_of(group));
        if (!g) {
            g = MEM_NEW(struct source_group);
            pthread_mutex_init(&g->lock, NULL);
            g->name = mem_strdup(group);
            map_put(&all->groups, bytes_of(g->name), g);
        }
        use = MEM_NEW(struct source_use);
        *use = (struct source_use){.all = all, .group = g, .state = state_of(all, address)};
        use->key = buf_take(&key);
        map_put(&all->uses, bytes_of(use->key), use);
        double behind = 0;
        if (all->shaping && shaping_subject_is(all->shaping, SUBJECT_WARMUP, group, address, &behind))
            use->behind = (uint32_t)behind;
    }
    pthread_mutex_unlock(&all->lock);
    return use;
}

struct source_use *source_use_get(struct sources *all, const char *group, const struct source_address *a)
{
    return source_use_of(all, group, a->text);
}

/* ---- turns ---- */

struct pace *source_pace(struct limits *l, const char *group, const char *address)
{
    BUF_LOCAL(key);

    buf_putf(&key, "messages:%s@%s", group, address);
    return pace_find(l, buf_str(&key));
}

static bool is_usable(const struct source_use *use)
{
    return atomic_load_explicit(&use->state->error, memory_order_relaxed) == 0;
}

static bool is_of(const struct source_question *q, size_t i)
{
    return !q->family || q->group->pool->addresses[i].ip.family == q->family;
}

static void note_busy(struct source_question *q, const char *limit, uint64_t wait_ms)
{
    if (q->limit && (!q->wait_ms || (wait_ms && wait_ms >= q->wait_ms)))
        return; /* the one that ends first is told */
    q->limit = limit;
    q->wait_ms = wait_ms;
}

/* Under the lock: may something leave from there, but for connections? */
static bool may_send(struct source_question *q, size_t i)
{
    const struct source_address *a = &q->group->pool->addresses[i];
    struct source_use *use = q->uses[i];
    size_t which = 0;

    if (a->warmup) {
        uint64_t wait_ms = source_warmup_wait_ms(use, a->warmup, clock_unix_ms());
        if (wait_ms) {
            note_busy(q, "warmup", wait_ms);
            return false;
        }
    }
    if (q->rules) {
        uint32_t wait_ms = pace_wait(source_pace(q->limits, q->group->name, a->text), q->rules,
                                     PACE_SOURCE_RULES, clock_now_us(), &which);
        if (wait_ms) {
            note_busy(q, source_pace_names[which], wait_ms);
            return false;
        }
    }
    return true;
}

static bool take_connection(struct source_question *q, size_t i)
{
    uint32_t limit = q->group->limits.connections_per_source;
    BUF_LOCAL(key);

    q->permit = NULL;
    if (!limit)
        return true;
    buf_putf(&key, "source:%s:%s", q->group->name, q->group->pool->addresses[i].text);
    struct permit_pool *permit = permit_pool(q->limits, buf_str(&key), limit);
    uint32_t ask_again_ms;
    if (!permit_take_in_line(permit, q->who, q->home, q->now_ms, &ask_again_ms)) {
        note_busy(q, "connections_per_source", ask_again_ms);
        return false;
    }
    q->permit = permit;
    return true;
}

/* What one that was away for a while does not make up for. */
static double start_of(const struct source_use *use, double now)
{
    return MAX_OF(use->turn, now - SOURCE_QUANTUM);
}

/* The one that is furthest behind of those that were not passed over; `count`: none. */
static size_t next_turn(const struct source_question *q, const bool *passed, double now)
{
    size_t count = q->group->pool->count, best = count;

    for (size_t i = 0; i < count; i++)
        if (!passed[i] && is_of(q, i) && is_usable(q->uses[i]) &&
            (best == count || start_of(q->uses[i], now) < start_of(q->uses[best], now)))
            best = i;
    return best;
}

static enum source_answer why_none(const struct source_question *q)
{
    if (!source_pool_has(q->group->pool, q->family))
        return SOURCE_NO_FAMILY;
    return q->limit ? SOURCE_BUSY : SOURCE_UNUSABLE;
}

enum source_answer source_choose(struct source_question *q)
{
    const struct source_pool *pool = q->group->pool;
    struct source_group *g = q->uses[0]->group;
    double *now = &g->now[q->family == 6];
    bool passed[ADDRESSES_MAX] = {false};
    enum source_answer answer = SOURCE_BUSY;
    size_t i;

    q->limit = NULL;
    q->wait_ms = 0;
    pthread_mutex_lock(&g->lock);
    while ((i = next_turn(q, passed, *now)) < pool->count) {
        struct source_use *use = q->uses[i];
        if (may_send(q, i) && take_connection(q, i)) {
            *now = start_of(use, *now);
            use->turn = *now + SOURCE_QUANTUM / (double)pool->addresses[i].weight;
            q->index = i;
            atomic_fetch_add(&use->state->connections, 1);
            answer = SOURCE_TAKEN;
            break;
        }
        passed[i] = true;
        use->passed_ms = clock_now_ms();
    }
    pthread_mutex_unlock(&g->lock);
    return answer == SOURCE_TAKEN ? answer : why_none(q);
}

enum source_answer source_ask(struct source_question *q)
{
    struct source_group *g = q->uses[0]->group;
    bool may = false;

    q->limit = NULL;
    q->wait_ms = 0;
    pthread_mutex_lock(&g->lock);
    for (size_t i = 0; i < q->group->pool->count && !may; i++)
        may = is_usable(q->uses[i]) && may_send(q, i);
    pthread_mutex_unlock(&g->lock);
    return may || !q->limit ? SOURCE_TAKEN : SOURCE_BUSY;
}

void source_release(struct source_use *use, uint32_t weight, uint32_t messages, bool refund)
{
    double unused = messages >= SOURCE_QUANTUM ? -(double)(messages % SOURCE_QUANTUM)
                    : refund || messages       ? SOURCE_QUANTUM - (double)messages
                                               : 0;

    atomic_fetch_sub(&use->state->connections, 1);
    pthread_mutex_lock(&use->group->lock);
    use->turn -= unused / weight;
    pthread_mutex_unlock(&use->group->lock);
}

bool source_moves_on(const struct source_question *q, size_t index)
{
    const struct source_pool *pool = q->group->pool;
    struct source_use *use = q->uses[index];
    double step = SOURCE_QUANTUM / (double)pool->addresses[index].weight;
    struct source_question ask = *q;
    uint64_t now_ms = clock_now_ms();
    bool behind = false;

    pthread_mutex_lock(&use->group->lock);
    use->turn += step;
    for (size_t i = 0; i < pool->count && !behind; i++)
        behind = i != index && is_of(q, i) && is_usable(q->uses[i]) &&
                 q->uses[i]->passed_ms + PASSED_MS < now_ms &&
                 start_of(q->uses[i], use->group->now[q->family == 6]) + 2 * step < use->turn &&
                 may_send(&ask, i);
    pthread_mutex_unlock(&use->group->lock);
    return behind;
}
