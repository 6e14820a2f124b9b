/* Hosts that cannot do what they offer: remembered by address, served with less from then on. */
#include "base/clock.h"
#include "base/notice.h"
#include "engine/shaping_priv.h"

#define HOSTS_MAX 1000

const char *shaped_host_what_name(enum shaped_host_what what)
{
    static const char *const names[SHAPED_HOST_WHATS] = {
        [HOST_OUT_OF_STEP] = "pipelining",
        [HOST_NO_CHUNKING] = "chunking",
    };

    return names[what];
}

void shaped_host_destroy(struct shaped_host *h)
{
    mem_free(h->remote);
    mem_free(h->mx);
    mem_free(h->group);
    mem_free(h);
}

static uint64_t last_id(const struct shaped_host *h)
{
    uint64_t id = 0;

    for (int what = 0; what < SHAPED_HOST_WHATS; what++)
        id = MAX_OF(id, h->events[what].id);
    return id;
}

void shaped_host_note_end(struct shaping *all, struct shaped_host *h, enum shaped_host_what what,
                          const char *why)
{
    notice_info(NULL, "shaping.end", LOG_INT("id", h->events[what].id),
                LOG_STR("what", shaped_host_what_name(what)), LOG_STR("group", h->group),
                LOG_STR("mx", h->mx), LOG_STR("remote", h->remote), LOG_STR("why", why));
    event_forget(all, h->events[what].id);
    h->events[what] = (struct shaping_event){0};
    if (last_id(h))
        return;
    map_remove(&all->hosts, bytes_of(h->remote));
    atomic_store(&all->host_count, all->hosts.count);
    shaped_host_destroy(h);
}

static void make_room(struct shaping *all)
{
    struct shaped_host *h, *oldest = NULL;

    if (all->hosts.count < HOSTS_MAX)
        return;
    for (size_t at = 0; (h = map_next(&all->hosts, &at));)
        if (!oldest || last_id(h) < last_id(oldest))
            oldest = h;
    for (int what = 0; what < SHAPED_HOST_WHATS; what++) {
        bool is_last = oldest->events[what].id == last_id(oldest);
        if (oldest->events[what].id)
            shaped_host_note_end(all, oldest, (enum shaped_host_what)what, "too many at a time");
        if (is_last)
            return; /* it is gone, or has a younger event that goes next time */
    }
}

struct shaped_host *shaped_host_find_or_make(struct shaping *all, const char *remote, const char *mx,
                                             const char *group)
{
    struct shaped_host *h = map_find(&all->hosts, bytes_of(remote));

    if (h)
        return h;
    make_room(all);
    h = MEM_NEW(struct shaped_host);
    h->remote = mem_strdup(remote);
    h->mx = mem_strdup(mx);
    h->group = mem_strdup(group);
    map_put(&all->hosts, bytes_of(h->remote), h);
    atomic_store(&all->host_count, all->hosts.count);
    return h;
}

bool shaping_host_is(struct shaping *all, const char *remote, enum shaped_host_what what)
{
    if (!atomic_load_explicit(&all->host_count, memory_order_relaxed))
        return false;
    pthread_mutex_lock(&all->lock);
    const struct shaped_host *h = map_find(&all->hosts, bytes_of(remote));
    bool is = h && h->events[what].id;
    pthread_mutex_unlock(&all->lock);
    return is;
}

bool shaping_host_put(struct shaping *all, const char *remote, const char *mx, const char *group,
                      enum shaped_host_what what, const struct outcome *why)
{
    pthread_mutex_lock(&all->lock);
    struct shaped_host *h = shaped_host_find_or_make(all, remote, mx, group);
    struct shaping_event *e = &h->events[what];
    bool is_new = !e->id;
    if (is_new) {
        event_remember_why(e, why);
        e->id = ++all->last_id;
        e->since_unix = clock_unix();
        all->begun[SHAPED_WHATS + (int)what][1]++;
        notice_info(NULL, "shaping.begin", LOG_INT("id", e->id), LOG_STR("what", shaped_host_what_name(what)),
                    LOG_STR("group", group), LOG_STR("mx", mx), LOG_STR("remote", remote),
                    LOG_STR("by", "adaptive"), LOG_STR("stage", outcome_stage_name(e->stage)),
                    LOG_INT("code", e->code), LOG_STR("why", e->text));
        event_keep(
            all,
            &(struct event_kept){
                .event = *e, .what = SHAPED_WHATS + (int)what, .group = group, .remote = remote, .mx = mx},
            0);
    }
    pthread_mutex_unlock(&all->lock);
    return is_new;
}
