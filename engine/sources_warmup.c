/* Warm-up over all workers: reserved on disk before it is used, kept over restarts, and changed by hand. */
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/notice.h"
#include "engine/shaping.h"
#include "engine/sources_priv.h"
#include "policy/classify.h"
#include "queue/keep.h"

#define KIND      "warmup"
#define KEPT_S    (90 * 86400) /* what was not written for so long is of an address that is no more */
#define ANSWER_MS 5            /* until a reservation is usually answered */
#define CHUNK_MAX 1000

/* ---- what is kept ---- */

static void format(struct buf *out, const struct warmup_state *s, uint32_t taken)
{
    json_t *json = json_pack("{s:I, s:b, s:b, s:b, s:I, s:I, s:I, s:I}", "step", (json_int_t)s->step, "done",
                             (int)s->done, "held", (int)s->held, "stopped", (int)s->stopped, "since_ms",
                             (json_int_t)s->since_ms, "taken", (json_int_t)taken, "tried",
                             (json_int_t)s->tried, "refused", (json_int_t)s->refused);
    char *text = json_dumps(json, JSON_COMPACT);

    buf_puts(out, text);
    free(text);
    json_decref(json);
}

static bool parse(struct bytes value, struct warmup_state *out)
{
    json_t *json = json_loadb(value.at, value.len, 0, NULL);
    json_int_t step, since_ms, taken, tried, refused;
    int done, held, stopped;
    bool good = json_unpack(json, "{s:I, s:b, s:b, s:b, s:I, s:I, s:I, s:I}", "step", &step, "done", &done,
                            "held", &held, "stopped", &stopped, "since_ms", &since_ms, "taken", &taken,
                            "tried", &tried, "refused", &refused) == 0;

    json_decref(json);
    if (!good || step < 0 || step > UINT32_MAX || taken < 0 || taken > UINT32_MAX || tried < 0 ||
        tried > UINT32_MAX || refused < 0 || refused > tried || since_ms < 0)
        return false;
    *out = (struct warmup_state){.step = (uint32_t)step,
                                 .done = done,
                                 .held = held,
                                 .stopped = stopped,
                                 .since_ms = since_ms,
                                 .taken = (uint32_t)taken,
                                 .tried = (uint32_t)tried,
                                 .refused = (uint32_t)refused};
    return true;
}

struct reading {
    struct sources *all;
    int64_t oldest_unix;
};

static bool on_kept(void *arg, const struct kept *k)
{
    struct reading *r = arg;
    struct bytes key = bytes_of(k->key);
    size_t blank = bytes_find(key, ' ');
    struct warmup_state state;

    if (k->at_unix < r->oldest_unix) {
        store_keep_drop(r->all->store, KIND, k->key);
        return true;
    }
    if (blank == key.len || !parse(k->value, &state)) {
        log_error(NULL, "source.warmup_unreadable", LOG_STR("key", k->key));
        return true;
    }
    char *group = mem_dup(key.at, blank);
    struct source_use *use = source_use_of(r->all, group, key.at + blank + 1);
    use->warm = state;
    use->granted = state.taken;
    mem_free(group);
    return true;
}

enum err sources_open(struct sources *all, struct store *store, const char *dir)
{
    struct reading r = {all, clock_unix() - KEPT_S};

    all->store = store;
    return keep_read(dir, KIND, NULL, on_kept, &r);
}

/* What may be used without asking again. */
static uint32_t durable(const struct source_use *use)
{
    uint32_t granted = MAX_OF(use->granted, use->asking ? use->asked : 0);

    return MAX_OF(use->warm.taken, granted);
}

static void keep(struct source_use *use, uint32_t taken)
{
    BUF_LOCAL(value);

    if (!use->all->store)
        return;
    format(&value, &use->warm, taken);
    store_keep_set(use->all->store, KIND, use->key, buf_bytes(&value));
    use->changed = false;
}

void sources_close(struct sources *all)
{
    struct source_use *use;

    for (size_t at = 0; all->store && (use = map_next(&all->uses, &at));)
        if (use->changed || use->granted != use->warm.taken)
            keep(use, use->warm.taken);
    all->store = NULL;
}

/* ---- periods ---- */

static void tell(const struct source_use *use, const struct warmup_ladder *l, enum warmup_event e,
                 const struct warmup_state *before)
{
    bool bad = e == WARMUP_BACK || e == WARMUP_STAYED;

    if (e == WARMUP_NOTHING)
        return;
    if (bad)
        notice_warn(NULL, "source.warmup", LOG_STR("address", use->state->text),
                 LOG_STR("group", use->group->name), LOG_STR("what", warmup_event_name(e)),
                 LOG_INT("step", use->warm.step + 1), LOG_INT("of", l->count),
                 LOG_INT("tried", before->tried), LOG_INT("refused", before->refused));
    else
        notice_info(NULL, "source.warmup", LOG_STR("address", use->state->text),
                 LOG_STR("group", use->group->name), LOG_STR("what", warmup_event_name(e)),
                 LOG_INT("step", MIN_OF(use->warm.step + 1, l->count)), LOG_INT("of", l->count),
                 LOG_INT("tried", before->tried), LOG_INT("refused", before->refused));
}

static void end_event(struct source_use *use, const char *why)
{
    if (use->behind)
        shaping_subject_end(use->all->shaping, SUBJECT_WARMUP, use->group->name, use->state->text, why);
    use->behind = 0;
}

/* The ladder went back, or did not go up, because of refusals; or it has come on since.  `before`: the
 * period. */
static void enter_event(struct source_use *use, const struct warmup_ladder *l, enum warmup_event e,
                        const struct warmup_state *before, int64_t now_ms)
{
    bool bad = e == WARMUP_BACK || e == WARMUP_STAYED, up = e == WARMUP_UP || e == WARMUP_DONE;
    uint32_t step = MIN_OF(use->warm.step, l->count - 1) + 1;
    BUF_LOCAL(detail);

    if (!use->all->shaping || !(bad || (up && use->behind)))
        return;
    if (up && (e == WARMUP_DONE || step >= use->behind)) {
        end_event(use, "the ladder is there again");
        return;
    }
    /* BACK leaves no trace of where it came from on the first step: it is the step itself then. */
    uint32_t full = e == WARMUP_STAYED ? step + 1 : MIN_OF(before->step, l->count - 1) + 1;
    use->behind = MAX_OF(use->behind, bad ? full : 0);
    buf_putf(&detail, "%u of %u refused in a period, %u %% are allowed; step %u of %u, %u a period",
             before->refused, before->tried, l->max_refused_percent, step, l->count,
             warmup_step_size(&use->warm, l));
    int64_t ends_ms = use->warm.since_ms + (int64_t)l->period_s * 1000;
    const struct subject_change c = {
        .group = use->group->name,
        .name = use->state->text,
        .value = step,
        .full = use->behind,
        .left_ms = use->warm.stopped && ends_ms > now_ms ? (uint64_t)(ends_ms - now_ms) : 0,
        .why = bad && use->refusal.code ? &use->refusal : NULL,
        .detail = buf_str(&detail),
        .policy_version = use->policy_version,
    };
    shaping_subject_put(use->all->shaping, SUBJECT_WARMUP, &c, clock_now_ms());
}

/* Under the lock, as all below. */
static void turn(struct source_use *use, const struct warmup_ladder *l, int64_t now_ms)
{
    const struct warmup_state before = use->warm;
    enum warmup_event e = warmup_turn(&use->warm, l, now_ms);

    if (use->warm.since_ms == before.since_ms)
        return;
    use->granted = use->asked = use->warm.taken;
    tell(use, l, e, &before);
    keep(use, use->warm.taken);
    enter_event(use, l, e, &before, now_ms);
    use->refusal.code = 0;
}

uint64_t source_warmup_wait_ms(struct source_use *use, const struct warmup_ladder *l, int64_t now_ms)
{
    turn(use, l, now_ms);
    return warmup_wait_ms(&use->warm, l, now_ms);
}

struct reservation {
    struct store_keep keep; /* first: frees both */
    struct source_use *use;
    int64_t since_ms;
    uint32_t upto;
};

static void on_reserved(struct note *note, void *owner)
{
    struct reservation *r = CONTAINER_OF(note, struct reservation, keep.req.note);
    struct source_use *use = r->use;
    (void)owner;

    pthread_mutex_lock(&use->group->lock);
    use->asking = false;
    if (r->keep.req.result == OK && use->warm.since_ms == r->since_ms)
        use->granted = MAX_OF(use->granted, r->upto);
    pthread_mutex_unlock(&use->group->lock);
    if (r->keep.req.result != OK)
        log_error(NULL, "source.warmup_not_kept", LOG_STR("address", use->state->text),
                  LOG_ERR(r->keep.req.result));
    store_keep_destroy(&r->keep);
}

static void reserve(struct source_use *use, uint32_t upto, struct inbox *inbox)
{
    struct reservation *r = MEM_NEW(struct reservation);

    use->asking = true;
    use->asked = upto;
    r->use = use;
    r->since_ms = use->warm.since_ms;
    r->upto = upto;
    r->keep.kind = mem_strdup(KIND);
    r->keep.key = mem_strdup(use->key);
    format(&r->keep.value, &use->warm, upto);
    r->keep.req.reply_to = inbox;
    r->keep.req.on_reply = on_reserved;
    store_post_keep_put(use->all->store, &r->keep);
}

/* So much is lost of a period by a crash, at most twice. */
static uint32_t chunk_of(uint32_t size)
{
    return MAX_OF(MIN_OF(size / 50, (uint32_t)CHUNK_MAX), 1U);
}

uint32_t source_take(struct source_use *use, const struct warmup_ladder *l, uint32_t want,
                     struct inbox *inbox, uint64_t *wait_ms)
{
    int64_t now_ms = clock_unix_ms();
    uint32_t taken = 0;

    if (!l)
        return want;
    pthread_mutex_lock(&use->group->lock);
    turn(use, l, now_ms);
    uint32_t left = warmup_left(&use->warm, l, now_ms);
    if (left == UINT32_MAX) {
        taken = want;
    } else if (!left) {
        *wait_ms = MAX_OF(warmup_wait_ms(&use->warm, l, now_ms), (uint64_t)1);
    } else {
        uint32_t size = use->warm.taken + left, chunk = chunk_of(size);
        if (!use->warm.since_ms)
            warmup_take(&use->warm, 0, now_ms); /* the period begins */
        taken = MIN_OF(MIN_OF(want, left), use->granted - MIN_OF(use->warm.taken, use->granted));
        warmup_take(&use->warm, taken, now_ms);
        use->changed = true;
        uint32_t ahead = MAX_OF(want, chunk);
        if (!use->asking && use->granted < size && use->granted < use->warm.taken + ahead)
            reserve(use, MIN_OF(size, use->warm.taken + 2 * ahead), inbox);
        *wait_ms = ANSWER_MS;
    }
    pthread_mutex_unlock(&use->group->lock);
    return taken;
}

void source_give(struct source_use *use, uint32_t n)
{
    pthread_mutex_lock(&use->group->lock);
    warmup_give(&use->warm, n);
    pthread_mutex_unlock(&use->group->lock);
}

void source_note(struct source_use *use, const struct warmup_ladder *l, const struct outcome *o,
                 uint64_t policy_version)
{
    bool refused = outcome_refuses_us(o);

    pthread_mutex_lock(&use->group->lock);
    const struct warmup_state before = use->warm;
    enum warmup_event e = warmup_note(&use->warm, l, refused);
    use->changed = true;
    use->policy_version = policy_version;
    if (refused)
        use->refusal = *o;
    if (e != WARMUP_NOTHING) {
        tell(use, l, e, &use->warm);
        keep(use, durable(use));
        enter_event(use, l, e,
                    &(struct warmup_state){
                        .step = before.step, .tried = use->warm.tried, .refused = use->warm.refused},
                    clock_unix_ms());
    }
    pthread_mutex_unlock(&use->group->lock);
}

/* ---- by hand ---- */

static void do_by_hand(struct source_use *use, const struct warmup_ladder *l, enum source_op op,
                       uint32_t step)
{
    pthread_mutex_lock(&use->group->lock);
    turn(use, l, clock_unix_ms());
    if (op == SOURCE_STEP) {
        use->warm = (struct warmup_state){.step = step - 1, .held = use->warm.held, .done = step > l->count};
        use->granted = use->asked = 0;
        end_event(use, "its step was set by hand");
    } else {
        use->warm.held = op == SOURCE_HOLD;
    }
    keep(use, durable(use));
    pthread_mutex_unlock(&use->group->lock);
}

enum err sources_by_hand(struct sources *all, const struct policy *p, const char *address, const char *group,
                         enum source_op op, uint32_t step, size_t *changed)
{
    *changed = 0;
    for (size_t i = 0; i < policy_group_count(p); i++) {
        const struct group *g = policy_group(p, i);
        if (!g->pool || (group && strcmp(g->name, group) != 0))
            continue;
        for (size_t k = 0; k < g->pool->count; k++) {
            const struct source_address *a = &g->pool->addresses[k];
            if (!a->warmup || strcmp(a->text, address) != 0)
                continue;
            do_by_hand(source_use_get(all, g->name, a), a->warmup, op, step);
            (*changed)++;
        }
    }
    return *changed ? OK : ERR_NOT_FOUND;
}

/* ---- ahead ---- */

uint64_t sources_forecast_ms(struct sources *all, const struct policy *p, const char *group, uint64_t rcpts)
{
    const struct group *g = policy_group_by_name(p, group);
    int64_t now_ms = clock_unix_ms();
    size_t count = 0;

    if (!g || !g->pool)
        return 0;
    struct warmup_climb *climbs = mem_alloc(g->pool->count * sizeof(*climbs));
    for (size_t i = 0; i < g->pool->count; i++) {
        const struct source_address *a = &g->pool->addresses[i];
        struct source_use *use = source_use_get(all, g->name, a);
        if (source_use_problem(use))
            continue; /* nothing leaves from there */
        if (!a->warmup) {
            count = 0;
            break;
        }
        pthread_mutex_lock(&use->group->lock);
        turn(use, a->warmup, now_ms);
        climbs[count++] = (struct warmup_climb){.state = use->warm, .ladder = a->warmup};
        pthread_mutex_unlock(&use->group->lock);
    }
    uint64_t wait_ms = count ? warmup_forecast_ms(climbs, count, rcpts, now_ms) : 0;
    mem_free(climbs);
    return wait_ms;
}

void sources_undo(struct sources *all, const struct policy *p, const char *group, const char *address,
                  uint32_t step)
{
    const struct group *g = policy_group_by_name(p, group);

    for (size_t i = 0; g && g->pool && i < g->pool->count; i++) {
        const struct source_address *a = &g->pool->addresses[i];
        if (!a->warmup || strcmp(a->text, address) != 0)
            continue;
        struct source_use *use = source_use_get(all, group, a);
        pthread_mutex_lock(&use->group->lock);
        use->behind = 0;
        if (!use->warm.done &&
            step > use->warm.step) { /* what was counted led to the step back: it begins anew */
            use->warm.step = step - 1;
            use->warm.done = step > a->warmup->count;
            use->warm.stopped = false;
            use->warm.tried = use->warm.refused = 0;
            keep(use, durable(use));
        }
        pthread_mutex_unlock(&use->group->lock);
    }
}

void sources_end_events(struct sources *all, const struct policy *p)
{
    struct source_use *use;

    pthread_mutex_lock(&all->lock);
    for (size_t at = 0; (use = map_next(&all->uses, &at));) {
        const struct group *g = policy_group_by_name(p, use->group->name);
        bool has = false;
        for (size_t i = 0; g && g->pool && i < g->pool->count; i++)
            has |= g->pool->addresses[i].warmup && strcmp(g->pool->addresses[i].text, use->state->text) == 0;
        pthread_mutex_lock(&use->group->lock);
        if (!has)
            end_event(use, "the policy has no such warm-up");
        pthread_mutex_unlock(&use->group->lock);
    }
    pthread_mutex_unlock(&all->lock);
}
