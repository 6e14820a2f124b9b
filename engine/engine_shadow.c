/* The shadow rules: checked, stored, read back at start, handed to the workers. */
#include "engine/shadow.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/engine_priv.h"
#include "engine/policy_files.h"
#include "queue/keep.h"

#define KIND        "shadow"
#define NOW         "now"
#define CHUNK_BYTES (128 * 1024)
#define CHUNKS_MAX  1000 /* far more than the largest document takes */
#define KEY_BYTES   48

struct shadow *shadow_ref(struct shadow *s)
{
    atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    return s;
}

void shadow_unref(struct shadow *s)
{
    if (!s || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) != 1)
        return;
    policy_unref(s->policy);
    mem_free(s->author);
    mem_free(s->comment);
    mem_free(s);
}

static struct shadow *shadow_create(struct policy *policy, int64_t at_unix, const char *author,
                                    const char *comment)
{
    struct shadow *s = MEM_NEW(struct shadow);

    atomic_init(&s->refs, 1);
    s->policy = policy_ref(policy);
    s->at_unix = at_unix;
    s->author = mem_strdup(author ? author : "");
    s->comment = mem_strdup(comment ? comment : "");
    return s;
}

struct shadow *engine_shadow(struct engine *e)
{
    pthread_mutex_lock(&e->lock);
    struct shadow *s = e->shadow ? shadow_ref(e->shadow) : NULL;
    pthread_mutex_unlock(&e->lock);
    return s;
}

/* ---- stored ---- */

static const char *chunk_key(char key[KEY_BYTES], uint64_t version, size_t chunk)
{
    snprintf(key, KEY_BYTES, "%llu-%03zu", (unsigned long long)version, chunk);
    return key;
}

static size_t chunks_of(size_t len)
{
    return (len + CHUNK_BYTES - 1) / CHUNK_BYTES;
}

/* Waits until it is on disk. */
static enum err put(struct engine *e, const char *key, struct bytes value)
{
    struct store_keep *k = store_keep_make(KIND, key, value);
    struct engine_wait wait;

    engine_wait_begin(&wait, &k->req);
    store_post_keep_put(e->shared.store, k);
    engine_wait_end(&wait);
    enum err err = k->req.result;
    store_keep_destroy(k);
    return err;
}

/* "now" goes last: until then the old rules are the stored ones. */
static enum err save(struct engine *e, struct bytes text, uint64_t version, const struct shadow *s,
                     const char *author)
{
    size_t chunks = chunks_of(text.len);
    char key[KEY_BYTES];
    enum err err = OK;

    for (size_t i = 0; i < chunks && !err; i++)
        err = put(e, chunk_key(key, version, i), bytes_first(bytes_skip(text, i * CHUNK_BYTES), CHUNK_BYTES));
    if (err)
        return err;
    json_t *now = json_pack("{s:I, s:I, s:I, s:s, s:s}", "version", (json_int_t)version, "chunks",
                            (json_int_t)chunks, "at_unix", (json_int_t)(s ? s->at_unix : clock_unix()),
                            "author", s ? s->author : author, "comment", s ? s->comment : "");
    char *json = now ? json_dumps(now, JSON_COMPACT) : NULL;
    err = json ? put(e, NOW, bytes_of(json)) : ERR_INVALID; /* not UTF-8 */
    free(json);
    json_decref(now);
    return err;
}

static void forget_chunks(struct engine *e, uint64_t version, size_t chunks)
{
    char key[KEY_BYTES];

    for (size_t i = 0; i < chunks; i++)
        store_keep_drop(e->shared.store, KIND, chunk_key(key, version, i));
}

/* ---- in force ---- */

static void take_shadow(struct worker *w, void *arg)
{
    worker_shadow_set(&w->shadow, arg);
}

static void take_shadow_late(struct worker *w, void *arg)
{
    take_shadow(w, arg);
    shadow_unref(arg);
}

/* The lock is held. */
static void use(struct engine *e, struct shadow *s, uint64_t version)
{
    struct shadow *old = e->shadow;

    e->shadow = s;
    e->shadow_version = version;
    for (unsigned i = 0; i < e->worker_count; i++)
        if (e->workers[i]->thread)
            if (!worker_call(e->workers[i], take_shadow, s))
                worker_post(e->workers[i], take_shadow_late, s ? shadow_ref(s) : NULL);
    if (old)
        forget_chunks(e, policy_version(old->policy), chunks_of(policy_text(old->policy).len));
    shadow_unref(old);
}

static bool is_utf8(const char *text)
{
    json_t *value = json_string(text ? text : "");

    json_decref(value);
    return value != NULL;
}

enum err engine_shadow_apply(struct engine *e, struct bytes text, const char *author, const char *comment,
                             uint64_t *version, struct yaml_errors *errors)
{
    struct policy *p = NULL;

    BUF_LOCAL(whole);

    if (!is_utf8(author) || !is_utf8(comment))
        return ERR_INVALID;
    enum err err = policy_files_complete(engine_conf(e), text, &whole, errors);
    if (err)
        return err;
    text = buf_bytes(&whole);
    pthread_mutex_lock(&e->lock);
    uint64_t next = e->shadow_version + 1;
    err = engine_policy_check(e, text, errors);
    if (!err) { /* what is noticed is noticed */
        struct yaml_errors again = {.name = "shadow"};
        err = policy_parse("shadow", text, next, &p, &again);
        yaml_errors_fini(&again);
    }
    if (!err) {
        struct shadow *s = shadow_create(p, clock_unix(), author, comment);
        err = save(e, text, next, s, NULL);
        if (err) {
            shadow_unref(s);
        } else {
            use(e, s, next);
            *version = next;
            log_info(NULL, "shadow.applied", LOG_INT("version", next), LOG_STR("author", s->author),
                     LOG_STR("comment", s->comment));
        }
    }
    policy_unref(p);
    pthread_mutex_unlock(&e->lock);
    return err;
}

enum err engine_shadow_clear(struct engine *e, const char *author)
{
    enum err err = ERR_NOT_FOUND;

    if (!is_utf8(author))
        return ERR_INVALID;
    pthread_mutex_lock(&e->lock);
    if (e->shadow) {
        uint64_t version = e->shadow_version;
        err = save(e, (struct bytes){0}, version, NULL, author);
        if (!err) {
            use(e, NULL, version);
            log_info(NULL, "shadow.cleared", LOG_INT("version", version), LOG_STR("author", author));
        }
    }
    pthread_mutex_unlock(&e->lock);
    return err;
}

/* ---- shown ---- */

json_t *engine_shadow_json(struct engine *e)
{
    struct shadow *s = engine_shadow(e);
    json_t *shown =
        s ? json_pack("{s:I, s:I, s:s, s:s}", "version", (json_int_t)policy_version(s->policy), "at_unix",
                      (json_int_t)s->at_unix, "author", s->author, "comment", s->comment)
          : json_null();

    shadow_unref(s);
    return shown;
}

void engine_shadow_metrics(struct engine *e, struct buf *out)
{
    struct shadow *s = engine_shadow(e);

    buf_putf(out,
             "# HELP hayauma_shadow_version version of the shadow rules, 0 without\n"
             "# TYPE hayauma_shadow_version gauge\nhayauma_shadow_version %llu\n",
             s ? (unsigned long long)policy_version(s->policy) : 0ULL);
    shadow_unref(s);
}

/* ---- at start ---- */

struct stored {
    json_t *now; /* owned; NULL: none yet */
    struct buf text;
    size_t at; /* chunks found so far */
    struct buf
        orphans; /* keys of other versions, each with its NUL: a crash came between writing and dropping */
};

static bool read_now(void *arg, const struct kept *k)
{
    struct stored *s = arg;

    if (strcmp(k->key, NOW) != 0)
        return true;
    s->now = json_loadb(k->value.at, k->value.len, 0, NULL);
    return false;
}

static bool read_chunk(void *arg, const struct kept *k)
{
    struct stored *s = arg;
    char key[KEY_BYTES];
    uint64_t version = (uint64_t)json_integer_value(json_object_get(s->now, "version"));
    size_t chunks = (size_t)json_integer_value(json_object_get(s->now, "chunks"));

    if (s->at < chunks &&
        strcmp(k->key, chunk_key(key, version, s->at)) == 0) { /* they come in the order of their keys */
        buf_put(&s->text, k->value);
        s->at++;
    } else if (strcmp(k->key, NOW) != 0) {
        buf_put(&s->orphans, bytes_make(k->key, strlen(k->key) + 1));
    }
    return true;
}

static void drop_orphans(struct engine *e, struct bytes keys)
{
    for (size_t len; keys.len; keys = bytes_skip(keys, len + 1)) {
        len = strlen(keys.at);
        store_keep_drop(e->shared.store, KIND, keys.at);
    }
}

static struct policy *compile(const struct buf *text, uint64_t version)
{
    struct yaml_errors errors = {.name = "stored shadow rules"};
    struct policy *p = NULL;

    if (policy_parse(errors.name, buf_bytes(text), version, &p, &errors) != OK)
        for (size_t i = 0; i < errors.count; i++)
            if (!errors.items[i].is_notice)
                log_error(NULL, "shadow.unusable", LOG_STR("text", errors.items[i].text));
    yaml_errors_fini(&errors);
    return p;
}

static const char *text_in(const json_t *now, const char *key)
{
    return json_string_value(json_object_get(now, key));
}

void engine_load_shadow(struct engine *e)
{
    const char *dir = engine_conf(e)->data_dir;
    struct stored s = {0};
    enum err err = keep_read(dir, KIND, NULL, read_now, &s);
    size_t chunks = (size_t)json_integer_value(json_object_get(s.now, "chunks"));

    e->shadow_version = (uint64_t)json_integer_value(json_object_get(s.now, "version"));
    if (!err)
        err = keep_read(dir, KIND, NULL, read_chunk, &s);
    if (!err && chunks && s.at != chunks)
        err = ERR_CORRUPT;
    if (!err)
        drop_orphans(e, buf_bytes(&s.orphans));
    if (err && err != ERR_NOT_FOUND)
        log_error(NULL, "shadow.unreadable", LOG_ERR(err));
    if (!err && chunks) {
        struct policy *p = compile(&s.text, e->shadow_version);
        if (p)
            e->shadow = shadow_create(p, json_integer_value(json_object_get(s.now, "at_unix")),
                                      text_in(s.now, "author"), text_in(s.now, "comment"));
        policy_unref(p);
    }
    for (unsigned i = 0; i < e->worker_count && e->shadow; i++)
        worker_shadow_set(&e->workers[i]->shadow, e->shadow);
    buf_fini(&s.text);
    buf_fini(&s.orphans);
    json_decref(s.now);
}
