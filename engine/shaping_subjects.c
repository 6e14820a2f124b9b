/* What steps back or stops by itself and is no receiver: entered in the register, undone by its owner. */
#include <stdio.h>

#include "base/clock.h"
#include "base/notice.h"
#include "engine/shaping_priv.h"

#define SUBJECTS_MAX 10000

const char *shaping_subject_what_name(enum shaping_subject kind)
{
    static const char *const names[SHAPING_SUBJECTS] = {
        [SUBJECT_WARMUP] = "warmup_step",
        [SUBJECT_CAMPAIGN] = "campaign_paused",
    };

    return names[kind];
}

const char *shaping_subject_scope(enum shaping_subject kind)
{
    return kind == SUBJECT_WARMUP ? "source" : "campaign";
}

void shaping_subject_destroy(struct shaping_subject_entry *u)
{
    mem_free(u->key);
    mem_free(u);
}

static struct bytes key_of(const struct shaping_subject_entry *u)
{
    return bytes_make(u->key, u->key_len);
}

static void put_key(struct buf *key, enum shaping_subject kind, const char *group, const char *name)
{
    buf_putf(key, "%d%s", (int)kind, group);
    buf_putc(key, '\0');
    buf_puts(key, name);
}

static struct shaping_subject_entry *find(struct shaping *all, enum shaping_subject kind, const char *group,
                                          const char *name)
{
    BUF_LOCAL(key);

    put_key(&key, kind, group, name);
    return map_find(&all->subjects, buf_bytes(&key));
}

void shaping_subject_note_end(struct shaping *all, struct shaping_subject_entry *u, const char *why)
{
    notice_info(NULL, "shaping.end", LOG_INT("id", u->event.id),
                LOG_STR("what", shaping_subject_what_name(u->kind)), LOG_STR("group", u->group),
                LOG_STR(shaping_subject_scope(u->kind), u->name), LOG_STR("why", why));
    event_forget(all, u->event.id);
    map_remove(&all->subjects, key_of(u));
    shaping_subject_destroy(u);
}

static void make_room(struct shaping *all)
{
    struct shaping_subject_entry *u, *oldest = NULL;

    if (all->subjects.count < SUBJECTS_MAX)
        return;
    for (size_t at = 0; (u = map_next(&all->subjects, &at));)
        if (!oldest || u->event.id < oldest->event.id)
            oldest = u;
    shaping_subject_note_end(all, oldest, "too many at a time: it holds, and is not listed any more");
}

struct shaping_subject_entry *shaping_subject_find_or_make(struct shaping *all, enum shaping_subject kind,
                                                           const char *group, const char *name)
{
    struct shaping_subject_entry *u = find(all, kind, group, name);
    BUF_LOCAL(key);

    if (u)
        return u;
    make_room(all);
    put_key(&key, kind, group, name);
    u = MEM_NEW(struct shaping_subject_entry);
    u->kind = kind;
    u->key_len = key.len;
    u->key = buf_take(&key);
    u->group = u->key + 1;
    u->name = u->group + strlen(group) + 1;
    map_put(&all->subjects, key_of(u), u);
    return u;
}

static void say(const char *event, const struct shaping_subject_entry *u)
{
    const struct shaping_event *e = &u->event;
    char value[32];

    snprintf(value, sizeof(value), "%g", e->value);
    notice_warn(NULL, event, LOG_INT("id", e->id), LOG_STR("what", shaping_subject_what_name(u->kind)),
                LOG_STR("value", value), LOG_STR("group", u->group),
                LOG_STR(shaping_subject_scope(u->kind), u->name), LOG_STR("detail", u->detail),
                LOG_STR("stage", outcome_stage_name(e->stage)), LOG_INT("code", e->code),
                LOG_STR("why", e->text));
}

void shaping_subject_put(struct shaping *all, enum shaping_subject kind, const struct subject_change *c,
                         uint64_t now_ms)
{
    pthread_mutex_lock(&all->lock);
    struct shaping_subject_entry *u = shaping_subject_find_or_make(all, kind, c->group, c->name);
    struct shaping_event *e = &u->event;
    bool is_new = !e->id;

    if (is_new) {
        e->id = ++all->last_id;
        e->since_unix = clock_unix();
        all->begun[SHAPED_WHATS + SHAPED_HOST_WHATS + (int)kind][1]++;
    }
    if (c->why)
        event_remember_why(e, c->why);
    snprintf(u->detail, sizeof(u->detail), "%s", c->detail);
    e->policy_version = c->policy_version;
    e->value = c->value;
    e->full = MAX_OF(e->full, c->full);
    e->until_ms = c->left_ms ? now_ms + c->left_ms : 0;
    say(is_new ? "shaping.begin" : "shaping.step", u);
    event_keep(all,
               &(struct event_kept){.event = *e,
                                    .what = SHAPED_WHATS + SHAPED_HOST_WHATS + (int)kind,
                                    .group = u->group,
                                    .name = u->name,
                                    .detail = u->detail},
               now_ms);
    pthread_mutex_unlock(&all->lock);
}

void shaping_subject_end(struct shaping *all, enum shaping_subject kind, const char *group, const char *name,
                         const char *why)
{
    pthread_mutex_lock(&all->lock);
    struct shaping_subject_entry *u = find(all, kind, group, name);
    if (u)
        shaping_subject_note_end(all, u, why);
    pthread_mutex_unlock(&all->lock);
}

bool shaping_subject_is(struct shaping *all, enum shaping_subject kind, const char *group, const char *name,
                        double *full)
{
    pthread_mutex_lock(&all->lock);
    const struct shaping_subject_entry *u = find(all, kind, group, name);
    *full = u ? u->event.full : 0;
    pthread_mutex_unlock(&all->lock);
    return u != NULL;
}

char *shaping_subject_next(struct shaping *all, enum shaping_subject kind, size_t *at)
{
    const struct shaping_subject_entry *u;
    char *name = NULL;

    pthread_mutex_lock(&all->lock);
    while (!name && (u = map_next(&all->subjects, at)))
        if (u->kind == kind)
            name = mem_strdup(u->name);
    pthread_mutex_unlock(&all->lock);
    return name;
}
