/*
 * Events over a restart: one value of queue/keep.h each, by its number.  JSON:
 *
 *     {"what": "fewer", "group": "gmail", "hosts": "mx1.example:25,mx2.example:25", "since": 1795420800,
 *      "until": 1795420860000, "value": 4.0, "full": 16.0, "keep": 50, "step": 60000, "line": 0, "file": "",
 *      "version": 7, "stage": 8, "code": 421, "enhanced": "4.7.0", "text": "too many connections"}
 *
 * `until` in milliseconds, left out where there is no end; a host has `remote` and `mx` in place of `hosts`,
 * a warm-up and a campaign `name` and `detail`.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/macros.h"
#include "engine/shaping_priv.h"
#include "queue/keep.h"

#define VALUE_MAX_BYTES 65536
#define STEP_MAX_MS     (7 * 86400 * 1000)

static const char *const what_words[EVENT_KINDS] = {
    [SHAPED_SUSPENDED] = "suspended",
    [SHAPED_LIMITED] = "limited",
    [SHAPED_SLOWED] = "slowed",
    [SHAPED_FEWER] = "fewer",
    [SHAPED_SLOWER] = "slower",
    [SHAPED_RESTING] = "resting", /* never kept */
    [SHAPED_WHATS + HOST_OUT_OF_STEP] = "out-of-step",
    [SHAPED_WHATS + HOST_NO_CHUNKING] = "no-chunking",
    [SHAPED_WHATS + SHAPED_HOST_WHATS + SUBJECT_WARMUP] = "warmup",
    [SHAPED_WHATS + SHAPED_HOST_WHATS + SUBJECT_CAMPAIGN] = "campaign",
};

void event_kept_put(struct buf *out, const struct event_kept *k)
{
    const struct shaping_event *e = &k->event;
    json_t *json =
        json_pack("{s:s, s:s, s:s*, s:s*, s:s*, s:s*, s:s*, s:I, s:f, s:f, s:i, s:i, s:i, s:s, s:I, s:i, "
                  "s:i, s:s, s:s}",
                  "what", what_words[k->what], "group", k->group, "hosts", k->hosts, "remote", k->remote,
                  "mx", k->mx, "name", k->name, "detail", k->detail, "since", (json_int_t)e->since_unix,
                  "value", e->value, "full", e->full, "keep", (int)e->keep, "step", (int)e->step_ms, "line",
                  (int)e->line, "file", e->file, "version", (json_int_t)e->policy_version, "stage",
                  (int)e->stage, "code", (int)e->code, "enhanced", e->enhanced, "text", e->text);

    if (k->until_unix_ms)
        json_object_set_new(json, "until", json_integer(k->until_unix_ms));
    char *text = json_dumps(json, JSON_COMPACT);
    buf_puts(out, text);
    free(text);
    json_decref(json);
}

static bool get_int(const json_t *json, const char *key, json_int_t min, json_int_t max, json_int_t *out)
{
    const json_t *n = json_object_get(json, key);

    *out = json_integer_value(n);
    return json_is_integer(n) && *out >= min && *out <= max;
}

static bool get_number(const json_t *json, const char *key, double *out)
{
    const json_t *n = json_object_get(json, key);

    *out = json_number_value(n);
    return json_is_number(n) && isfinite(*out) && *out >= 0 && *out <= 1e9;
}

static bool get_text(const json_t *json, const char *key, char *out, size_t size)
{
    const char *text = json_string_value(json_object_get(json, key));

    return text && (size_t)snprintf(out, size, "%s", text) < size;
}

static bool parse_event(const json_t *json, struct shaping_event *e)
{
    json_int_t since, keep, step, line, version, stage, code;

    if (!get_int(json, "since", 0, INT64_MAX / 2000, &since) || !get_int(json, "keep", 0, 99, &keep) ||
        !get_int(json, "step", 0, STEP_MAX_MS, &step) || !get_int(json, "line", 0, INT32_MAX, &line) ||
        !get_int(json, "version", 0, INT64_MAX, &version) || !get_int(json, "stage", 0, STAGE_DOT, &stage) ||
        !get_int(json, "code", 0, 999, &code) || !get_number(json, "value", &e->value) ||
        !get_number(json, "full", &e->full) || !get_text(json, "file", e->file, sizeof(e->file)) ||
        !get_text(json, "enhanced", e->enhanced, sizeof(e->enhanced)) ||
        !get_text(json, "text", e->text, sizeof(e->text)))
        return false;
    e->since_unix = since;
    e->keep = (uint32_t)keep;
    e->step_ms = (uint32_t)step;
    e->line = (uint32_t)line;
    e->policy_version = (uint64_t)version;
    e->stage = (enum outcome_stage)stage;
    e->code = (uint16_t)code;
    return true;
}

/* A limit has a value, an event of a site an end, and each kind its names. */
static bool makes_sense(const struct event_kept *k)
{
    bool of_host = k->what >= SHAPED_WHATS;

    if (k->what >= SHAPED_WHATS + SHAPED_HOST_WHATS)
        return k->group && k->name && *k->name && k->detail;
    if (k->what == SHAPED_RESTING || !k->group || (of_host ? !k->remote || !k->mx || !*k->remote : !k->hosts))
        return false;
    return of_host ? !k->until_unix_ms
                   : k->until_unix_ms > 0 && (k->what == SHAPED_SUSPENDED || k->event.value > 0);
}

json_t *event_kept_parse(struct bytes value, uint64_t id, struct event_kept *out)
{
    json_t *json = value.len <= VALUE_MAX_BYTES
                       ? json_loadb(value.at ? value.at : "", value.len, JSON_REJECT_DUPLICATES, NULL)
                       : NULL;
    const char *what = json_string_value(json_object_get(json, "what"));
    struct event_kept k = {.event = {.id = id}};
    json_int_t until = 0;

    while (what && k.what < EVENT_KINDS && strcmp(what, what_words[k.what]) != 0)
        k.what++;
    k.group = json_string_value(json_object_get(json, "group"));
    k.hosts = json_string_value(json_object_get(json, "hosts"));
    k.remote = json_string_value(json_object_get(json, "remote"));
    k.mx = json_string_value(json_object_get(json, "mx"));
    k.name = json_string_value(json_object_get(json, "name"));
    k.detail = json_string_value(json_object_get(json, "detail"));
    bool good = what && k.what < EVENT_KINDS &&
                (!json_object_get(json, "until") || get_int(json, "until", 1, INT64_MAX / 2, &until)) &&
                parse_event(json, &k.event);
    k.until_unix_ms = until;
    if (!good || !makes_sense(&k)) {
        json_decref(json);
        return NULL;
    }
    *out = k;
    return json;
}

bool event_kept_resume(struct event_kept *k, int64_t now_unix_ms, uint64_t *left_ms)
{
    *left_ms = 0;
    if (!k->until_unix_ms)
        return true;
    if (k->what >= SHAPED_WHATS + SHAPED_HOST_WHATS && k->until_unix_ms <= now_unix_ms) {
        k->until_unix_ms = 0; /* so long nothing was to go; the event itself ends when its owner says so */
        return true;
    }
    while (k->until_unix_ms <= now_unix_ms) {
        if (!k->event.step_ms || !event_raise(&k->event))
            return false;
        k->until_unix_ms += k->event.step_ms;
    }
    *left_ms = (uint64_t)(k->until_unix_ms - now_unix_ms);
    return true;
}

/* ---- into the store, and back ---- */

#define KEY_BYTES 24

static const char *key_of(uint64_t id, char key[KEY_BYTES])
{
    snprintf(key, KEY_BYTES, "%020llu", (unsigned long long)id);
    return key;
}

void event_keep(struct shaping *all, struct event_kept *k, uint64_t now_ms)
{
    char key[KEY_BYTES];
    BUF_LOCAL(value);

    if (!all->store)
        return;
    if (k->event.until_ms)
        k->until_unix_ms = clock_unix_ms() + (int64_t)(k->event.until_ms - MIN_OF(now_ms, k->event.until_ms));
    event_kept_put(&value, k);
    store_keep_set(all->store, SHAPING_KIND, key_of(k->event.id, key), buf_bytes(&value));
}

void event_forget(struct shaping *all, uint64_t id)
{
    char key[KEY_BYTES];

    if (all->store)
        store_keep_drop(all->store, SHAPING_KIND, key_of(id, key));
}

struct loading {
    struct shaping *all;
    int64_t now_unix_ms;
    uint64_t now_ms;
    size_t loaded, over;
};

static void take_site(struct loading *l, const struct event_kept *k, uint64_t left_ms)
{
    struct shaped *s = shaped_find_or_make(l->all, k->group, k->hosts);
    shaped_own_events(s);
    struct shaping_event *e = &s->events[k->what];

    *e = k->event;
    e->until_ms = e->kept_until_ms = l->now_ms + left_ms;
    e->kept_value = e->value;
    if (!s->is_active) {
        list_push_back(&l->all->active, &s->node);
        s->is_active = true;
        l->all->active_count++;
    }
    shaped_recount(s);
}

static void take_host(struct loading *l, const struct event_kept *k)
{
    struct shaped_host *h = shaped_host_find_or_make(l->all, k->remote, k->mx, k->group);

    h->events[k->what - SHAPED_WHATS] = k->event;
}

static void take_subject(struct loading *l, const struct event_kept *k, uint64_t left_ms)
{
    struct shaping_subject_entry *u = shaping_subject_find_or_make(
        l->all, (enum shaping_subject)(k->what - SHAPED_WHATS - SHAPED_HOST_WHATS), k->group, k->name);

    u->event = k->event;
    u->event.until_ms = left_ms ? l->now_ms + left_ms : 0;
    snprintf(u->detail, sizeof(u->detail), "%s", k->detail);
}

static bool take_kept(void *arg, const struct kept *kept)
{
    struct loading *l = arg;
    struct event_kept k;
    uint64_t id = strtoull(kept->key, NULL, 10), left_ms;
    json_t *json = event_kept_parse(kept->value, id, &k);

    l->all->last_id = MAX_OF(l->all->last_id, id);
    if (!json)
        log_warn(NULL, "shaping.kept", LOG_INT("id", id),
                 LOG_STR("error", "that is no event: it is dropped"));
    bool holds = json && id && event_kept_resume(&k, l->now_unix_ms, &left_ms);
    if (holds && k.what < SHAPED_WHATS)
        take_site(l, &k, left_ms);
    else if (holds && k.what >= SHAPED_WHATS + SHAPED_HOST_WHATS)
        take_subject(l, &k, left_ms);
    else if (holds)
        take_host(l, &k);
    else
        store_keep_drop(l->all->store, SHAPING_KIND, kept->key);
    l->loaded += holds;
    l->over += !holds;
    json_decref(json);
    return true;
}

enum err shaping_open(struct shaping *all, struct store *store, const char *dir)
{
    struct loading l = {.all = all, .now_unix_ms = clock_unix_ms(), .now_ms = clock_now_ms()};

    pthread_mutex_lock(&all->lock);
    all->store = store;
    enum err e = keep_read(dir, SHAPING_KIND, NULL, take_kept, &l);
    pthread_mutex_unlock(&all->lock);
    if (l.loaded || l.over)
        log_info(NULL, "shaping.resumed", LOG_INT("events", l.loaded), LOG_INT("over", l.over));
    return e;
}
