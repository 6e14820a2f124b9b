/* Events seen and undone: their numbers, what the log says, lists for people, metrics. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/notice.h"
#include "base/macros.h"
#include "engine/shaping_priv.h"

#define RENEW_KEPT_MS 10000 /* an end that is put off is written this often at most */

const char *shaped_what_name(enum shaped_what what)
{
    static const char *const names[SHAPED_WHATS] = {
        [SHAPED_SUSPENDED] = "suspended",        [SHAPED_LIMITED] = "connections",
        [SHAPED_SLOWED] = "messages_per_second", [SHAPED_FEWER] = "connections",
        [SHAPED_SLOWER] = "messages_per_second", [SHAPED_RESTING] = "resting",
    };

    return names[what];
}

const char *shaped_first_host(const char *hosts, char name[256])
{
    size_t len = strcspn(hosts, ":,");

    snprintf(name, 256, "%.*s", (int)MIN_OF(len, (size_t)255), hosts);
    return name;
}

/* ---- begin, change, end ---- */

void event_remember_why(struct shaping_event *e, const struct outcome *why)
{
    size_t len = MIN_OF(strlen(why->text), sizeof(e->text) - 1);

    while (len > 0 && ((unsigned char)why->text[len] & 0xc0) == 0x80) /* whole characters */
        len--;
    memcpy(e->text, why->text, len);
    e->text[len] = '\0';
    memcpy(e->enhanced, why->enhanced, sizeof(e->enhanced));
    e->code = why->code;
    e->stage = why->stage;
}

static void say(const char *event, const struct shaped *s, enum shaped_what what, uint64_t now_ms)
{
    const struct shaping_event *e = &s->events[what];
    char mx[256], value[32];

    snprintf(value, sizeof(value), "%g", e->value);
    notice_warn(
        NULL, event, LOG_INT("id", e->id), LOG_STR("what", shaped_what_name(what)), LOG_STR("value", value),
        LOG_STR("group", s->group), LOG_STR("mx", shaped_first_host(s->hosts, mx)),
        LOG_STR("by", e->line ? "rule" : "adaptive"), LOG_INT("line", e->line),
        LOG_INT("seconds", e->until_ms > now_ms ? (e->until_ms - now_ms + 999) / 1000 : 0),
        LOG_STR("stage", outcome_stage_name(e->stage)), LOG_INT("code", e->code), LOG_STR("why", e->text));
}

static void keep(struct shaped *s, enum shaped_what what, uint64_t now_ms)
{
    struct shaping_event *e = &s->events[what];
    struct event_kept k = {.event = *e, .what = (int)what, .group = s->group, .hosts = s->hosts};

    if (what != SHAPED_RESTING)
        event_keep(s->all, &k, now_ms);
    e->kept_until_ms = e->until_ms;
    e->kept_value = e->value;
}

void shaped_note(struct shaped *s, enum shaped_what what, uint64_t now_ms)
{
    struct shaping *all = s->all;
    struct shaping_event *e = &s->events[what];
    bool is_new = !e->id;

    if (is_new) {
        e->id = ++all->last_id;
        e->since_unix = clock_unix();
        all->begun[what][e->line ? 0 : 1]++;
        if (!s->is_active) {
            list_push_back(&all->active, &s->node);
            s->is_active = true;
            all->active_count++;
        }
        shaped_recount(s);
    }
    if (!is_new && e->value <= e->kept_value && e->value >= e->kept_value)
        return; /* only its end is another: that is for the next tick */
    say(is_new ? "shaping.begin" : "shaping.step", s, what, now_ms);
    keep(s, what, now_ms);
}

void shaped_note_end(struct shaped *s, enum shaped_what what, const char *why)
{
    struct shaping_event *e = &s->events[what];
    char mx[256];

    if (what != SHAPED_RESTING || !e->over) /* not for every dead receiver each time that it is tried again */
        notice_info(NULL, "shaping.end", LOG_INT("id", e->id), LOG_STR("what", shaped_what_name(what)),
                    LOG_STR("group", s->group), LOG_STR("mx", shaped_first_host(s->hosts, mx)),
                    LOG_STR("why", why));
    if (what != SHAPED_RESTING)
        event_forget(s->all, e->id);
    *e = (struct shaping_event){0};
    if (what == SHAPED_SUSPENDED)
        atomic_store(&s->suspended_until_ms, 0);
}

static void tick_one(struct shaped *s, uint64_t now_ms)
{
    pthread_mutex_lock(&s->lock);
    shaped_settle(s, now_ms);
    for (int i = 0; i < SHAPED_WHATS; i++) {
        enum shaped_what what = (enum shaped_what)i;
        struct shaping_event *e = &s->events[what];
        if (!e->id)
            continue;
        if (e->over) {
            shaped_note_end(s, what, "its time is up");
        } else if (e->moved) {
            e->moved = false;
            say("shaping.step", s, what, now_ms);
            keep(s, what, now_ms);
        } else if (e->until_ms >= e->kept_until_ms + RENEW_KEPT_MS) {
            keep(s, what, now_ms);
        }
    }
    shaped_recount(s);
    pthread_mutex_unlock(&s->lock);
    shaped_drop_if_unused(s);
}

bool shaping_has_news(struct shaping *all)
{
    return atomic_exchange(&all->news, false);
}

void shaping_tick(struct shaping *all, uint64_t now_ms)
{
    pthread_mutex_lock(&all->lock);
    LIST_FOREACH_SAFE (node, &all->active)
        tick_one(LIST_ENTRY(node, struct shaped, node), now_ms);
    pthread_mutex_unlock(&all->lock);
}

/* ---- lists ---- */

struct found {
    struct shaping_event event; /* copied: what holds may step at any time */
    const struct shaped *s;     /* one of these three */
    const struct shaped_host *h;
    const struct shaping_subject_entry *u;
    int what;
};

struct finding {
    struct found *items; /* owned */
    size_t count, cap;
};

static void add(struct finding *f, struct found one)
{
    if (f->count == f->cap) {
        f->cap = f->cap ? f->cap * 2 : 64;
        f->items = mem_realloc(f->items, f->cap * sizeof(*f->items));
    }
    f->items[f->count++] = one;
}

static bool is_one_of(struct bytes token, const char *hosts)
{
    struct bytes rest = bytes_of(hosts);

    while (rest.len) {
        struct bytes one = bytes_first(rest, bytes_find(rest, ','));
        if (bytes_eq(one, token))
            return true;
        rest = bytes_skip(rest, one.len + 1);
    }
    return false;
}

static bool share_a_host(const char *hosts, const char *others)
{
    struct bytes rest = bytes_of(hosts);

    while (rest.len) {
        struct bytes one = bytes_first(rest, bytes_find(rest, ','));
        if (is_one_of(one, others))
            return true;
        rest = bytes_skip(rest, one.len + 1);
    }
    return false;
}

/* In whatever order: no host stands twice in either, so that one has all of the other where their lengths are
 * equal. */
static bool are_one_set(const char *hosts, const char *others)
{
    struct bytes rest = bytes_of(hosts);

    if (rest.len != strlen(others))
        return false;
    while (rest.len) {
        struct bytes one = bytes_first(rest, bytes_find(rest, ','));
        if (!is_one_of(one, others))
            return false;
        rest = bytes_skip(rest, one.len + 1);
    }
    return true;
}

static bool wants_site(const struct shaping_filter *filter, const struct shaped *s)
{
    if (filter->group && strcmp(filter->group, s->group) != 0)
        return false;
    if (!filter->hosts)
        return true;
    return filter->same_set ? are_one_set(s->hosts, filter->hosts) : share_a_host(s->hosts, filter->hosts);
}

/* What a host cannot do holds for all groups: a filter by hosts need not name the group that found out. */
static bool wants_host(const struct shaping_filter *filter, const struct shaped_host *h)
{
    const char *port = strrchr(h->remote, ':');
    BUF_LOCAL(token);

    if (!filter->hosts)
        return !filter->group || strcmp(filter->group, h->group) == 0;
    buf_putf(&token, "%s%s", h->mx, port ? port : "");
    return is_one_of(buf_bytes(&token), filter->hosts);
}

/* No hosts are behind it; but whoever asks about one set of hosts is told of what holds the group's mail
 * back. */
static bool wants_subject(const struct shaping_filter *filter, const struct shaping_subject_entry *u)
{
    if (filter->hosts && !filter->same_set)
        return false;
    return !filter->group || strcmp(filter->group, u->group) == 0;
}

static bool wants_event(const struct shaping_filter *filter, const struct shaping_event *e)
{
    return event_holds(e) && (!filter->id || filter->id == e->id);
}

/* Under the register's lock: what it points to stays as long as that is held. */
static struct finding find(struct shaping *all, const struct shaping_filter *filter, uint64_t now_ms)
{
    struct finding f = {0};
    const struct shaping_subject_entry *u;
    const struct shaped_host *h;

    LIST_FOREACH (node, &all->active) {
        struct shaped *s = LIST_ENTRY(node, struct shaped, node);
        if (!wants_site(filter, s))
            continue;
        pthread_mutex_lock(&s->lock);
        shaped_settle(s, now_ms);
        for (int what = 0; what < SHAPED_WHATS; what++)
            if (wants_event(filter, &s->events[what]))
                add(&f, (struct found){s->events[what], s, NULL, NULL, what});
        pthread_mutex_unlock(&s->lock);
    }
    for (size_t at = 0; (h = map_next(&all->hosts, &at));) {
        if (!wants_host(filter, h))
            continue;
        for (int what = 0; what < SHAPED_HOST_WHATS; what++)
            if (wants_event(filter, &h->events[what]))
                add(&f, (struct found){h->events[what], NULL, h, NULL, what});
    }
    for (size_t at = 0; (u = map_next(&all->subjects, &at));)
        if (wants_subject(filter, u) && wants_event(filter, &u->event))
            add(&f, (struct found){u->event, NULL, NULL, u, (int)u->kind});
    return f;
}

static int newest_first(const void *a, const void *b)
{
    uint64_t x = ((const struct found *)a)->event.id, y = ((const struct found *)b)->event.id;

    return x < y ? 1 : x > y ? -1 : 0;
}

static json_t *hosts_json(const char *hosts)
{
    struct bytes rest = bytes_of(hosts);
    json_t *list = json_array();

    while (rest.len) {
        struct bytes one = bytes_first(rest, bytes_find(rest, ','));
        json_array_append_new(list, json_stringn(one.at, one.len));
        rest = bytes_skip(rest, one.len + 1);
    }
    return list;
}

static const char *name_of(const struct found *f)
{
    return f->s   ? shaped_what_name((enum shaped_what)f->what)
           : f->h ? shaped_host_what_name((enum shaped_host_what)f->what)
                  : shaping_subject_what_name((enum shaping_subject)f->what);
}

static const char *group_of(const struct found *f)
{
    return f->s ? f->s->group : f->h ? f->h->group : f->u->group;
}

static const char *author_of(const struct found *f)
{
    if (f->u)
        return f->u->kind == SUBJECT_WARMUP ? "warmup" : "guard";
    return f->event.line ? "rule" : "adaptive";
}

/* Whom it binds. */
static void put_scope(json_t *json, const struct found *f)
{
    const char *scope = f->s ? "site" : f->h ? "host" : shaping_subject_scope(f->u->kind);
    char mx[256];

    json_object_set_new(json, "scope", json_string(scope));
    if (f->u) {
        json_object_set_new(json, scope, json_string(f->u->name));
        json_object_set_new(json, "detail", json_string(f->u->detail));
        return;
    }
    json_object_set_new(json, "mx", json_string(f->s ? shaped_first_host(f->s->hosts, mx) : f->h->mx));
    if (f->s)
        json_object_set_new(json, "hosts", hosts_json(f->s->hosts));
    else
        json_object_set_new(json, "remote", json_string(f->h->remote));
}

static json_t *event_json(const struct found *f, uint64_t now_ms)
{
    const struct shaping_event *e = &f->event;
    json_t *json = json_pack("{s:I, s:s, s:s, s:s, s:i, s:I, s:I, s:s, s:i, s:s, s:s}", "id",
                             (json_int_t)e->id, "what", name_of(f), "group", group_of(f), "by", author_of(f),
                             "line", (int)e->line, "policy_version", (json_int_t)e->policy_version,
                             "since_unix", (json_int_t)e->since_unix, "stage", outcome_stage_name(e->stage),
                             "code", (int)e->code, "enhanced", e->enhanced, "text", e->text);

    put_scope(json, f);

    if (*e->file)
        json_object_set_new(json, "file", json_string(e->file));
    if (e->until_ms && (!f->u || e->until_ms > now_ms)) {
        uint64_t left_ms = e->until_ms > now_ms ? e->until_ms - now_ms : 0;
        json_object_set_new(json, "seconds_left", json_integer((json_int_t)(left_ms + 999) / 1000));
        json_object_set_new(json, "until_unix",
                            json_integer((clock_unix_ms() + (int64_t)left_ms + 999) / 1000));
    }
    if (f->s && f->what == SHAPED_RESTING)
        json_object_set_new(json, "failures", json_integer((json_int_t)e->value));
    else if (f->s && f->what != SHAPED_SUSPENDED)
        json_object_set_new(json, "value",
                            f->what == SHAPED_LIMITED || f->what == SHAPED_FEWER
                                ? json_integer((json_int_t)MAX_OF(e->value, 1.0))
                                : json_real(e->value));
    if (f->u && e->full > 0) {
        json_object_set_new(json, "value", json_integer((json_int_t)e->value));
        json_object_set_new(json, "returns_to", json_integer((json_int_t)e->full));
    }
    if (e->step_ms) /* until_unix is then the next step */
        json_object_set_new(json, "returns_to", json_real(e->full));
    return json;
}

json_t *shaping_json(struct shaping *all, const struct shaping_filter *filter, size_t max, uint64_t now_ms,
                     size_t *total)
{
    json_t *list = json_array();

    pthread_mutex_lock(&all->lock);
    struct finding f = find(all, filter, now_ms);
    if (f.count)
        qsort(f.items, f.count, sizeof(*f.items), newest_first);
    for (size_t i = 0; i < MIN_OF(f.count, max); i++)
        json_array_append_new(list, event_json(&f.items[i], now_ms));
    pthread_mutex_unlock(&all->lock);
    if (total)
        *total = f.count;
    mem_free(f.items);
    return list;
}

/* ---- by hand ---- */

/* What its owner has to take back: a copy, because that is done without locks. */
struct undone {
    enum shaping_subject kind;
    char *group, *name; /* owned */
    double full;
};

static void remember_subject(struct undone *to, const struct shaping_subject_entry *u)
{
    *to = (struct undone){u->kind, mem_strdup(u->group), mem_strdup(u->name), u->event.full};
}

static void undo_all(struct undone *items, size_t count, subject_undo_fn undo, void *arg)
{
    for (size_t i = 0; i < count; i++) {
        if (undo)
            undo(arg, items[i].kind, items[i].group, items[i].name, items[i].full);
        mem_free(items[i].group);
        mem_free(items[i].name);
    }
    mem_free(items);
}

size_t shaping_clear(struct shaping *all, const struct shaping_filter *filter, const char *by,
                     uint64_t now_ms, subject_undo_fn undo, void *arg)
{
    struct undone *undone = NULL;
    size_t undone_count = 0;
    BUF_LOCAL(why);

    buf_putf(&why, "cleared by %s", by);
    pthread_mutex_lock(&all->lock);
    struct finding f = find(all, filter, now_ms);
    for (size_t i = 0; i < f.count; i++) {
        struct shaped *s = (struct shaped *)(uintptr_t)f.items[i].s;
        if (f.items[i].u) {
            undone = mem_realloc(undone, (undone_count + 1) * sizeof(*undone));
            remember_subject(&undone[undone_count++], f.items[i].u);
            shaping_subject_note_end(all, (struct shaping_subject_entry *)(uintptr_t)f.items[i].u,
                                     buf_str(&why));
            continue;
        }
        if (!s) {
            shaped_host_note_end(all, (struct shaped_host *)(uintptr_t)f.items[i].h,
                                 (enum shaped_host_what)f.items[i].what, buf_str(&why));
            continue;
        }
        pthread_mutex_lock(&s->lock);
        shaped_note_end(s, (enum shaped_what)f.items[i].what, buf_str(&why));
        s->storm_since_ms = 0;
        shaped_recount(s);
        pthread_mutex_unlock(&s->lock);
    }
    for (size_t i = 0; i < f.count; i++) /* those of one site stand together */
        if (f.items[i].s && (i + 1 == f.count || f.items[i + 1].s != f.items[i].s))
            shaped_drop_if_unused((struct shaped *)(uintptr_t)f.items[i].s);
    pthread_mutex_unlock(&all->lock);
    undo_all(undone, undone_count, undo, arg);
    mem_free(f.items);
    return f.count;
}

/* ---- metrics ---- */

static void put_label_text(struct buf *out, const char *text)
{
    for (; *text; text++)
        buf_putc(out, (unsigned char)*text < ' ' || *text == '"' || *text == '\\' ? '_' : *text);
}

static void count_by_group(json_t *groups, const char *group, const char *what)
{
    json_t *g = json_object_get(groups, group);

    if (!g)
        json_object_set_new(groups, group, g = json_object());
    json_object_set_new(g, what, json_integer(json_integer_value(json_object_get(g, what)) + 1));
}

/* In the order of the counters. */
static const char *kind_name(int kind)
{
    if (kind < SHAPED_WHATS)
        return shaped_what_name((enum shaped_what)kind);
    kind -= SHAPED_WHATS;
    return kind < SHAPED_HOST_WHATS
               ? shaped_host_what_name((enum shaped_host_what)kind)
               : shaping_subject_what_name((enum shaping_subject)(kind - SHAPED_HOST_WHATS));
}

void shaping_metrics(struct shaping *all, uint64_t now_ms, struct buf *out)
{
    const struct shaping_filter everything = {0};
    json_t *groups = json_object(), *g, *n;
    const char *group, *what;

    pthread_mutex_lock(&all->lock);
    struct finding f = find(all, &everything, now_ms);
    for (size_t i = 0; i < f.count; i++)
        count_by_group(groups, group_of(&f.items[i]), name_of(&f.items[i]));
    buf_puts(out, "# HELP hayauma_shaping_begun_total limits that a rule about replies (by=rule) or storms "
                  "and refusals "
                  "(by=adaptive) imposed\n# TYPE hayauma_shaping_begun_total counter\n");
    for (int i = 0; i < EVENT_KINDS; i++) /* two kinds of limit have one name: they are one line */
        for (int by = 0; by < 2; by++)
            if (i != SHAPED_FEWER && i != SHAPED_SLOWER)
                buf_putf(out, "hayauma_shaping_begun_total{what=\"%s\",by=\"%s\"} %llu\n", kind_name(i),
                         by ? "adaptive" : "rule",
                         (unsigned long long)(all->begun[i][by] +
                                              (i == SHAPED_LIMITED  ? all->begun[SHAPED_FEWER][by]
                                               : i == SHAPED_SLOWED ? all->begun[SHAPED_SLOWER][by]
                                                                    : 0)));
    pthread_mutex_unlock(&all->lock);
    mem_free(f.items);
    buf_puts(out, "# HELP hayauma_shaping_in_force limits in force that we imposed by ourselves\n"
                  "# TYPE hayauma_shaping_in_force gauge\n");
    json_object_foreach(groups, group, g)
    {
        json_object_foreach(g, what, n)
        {
            buf_puts(out, "hayauma_shaping_in_force{group=\"");
            put_label_text(out, group);
            buf_putf(out, "\",what=\"%s\"} %lld\n", what, (long long)json_integer_value(n));
        }
    }
    json_decref(groups);
}
