/*
 * The certificates of the listeners: loaded, renewed without a word from anybody, and complained about before
 * their end.
 *
 * A certificate and its key are two files, and whoever renews them writes one after the other: a change is
 * taken only when two looks in a row saw the same.  A pair that does not fit is said once, and what was
 * loaded goes on.
 */
#include <gnutls/x509.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/engine_priv.h"
#include "engine/net/tls_server.h"

#define LOOK_EVERY_S 5
#define DAY_S        86400
#define WARN_DAYS    30
#define SOON_S       (WARN_DAYS * DAY_S)

struct stamp { /* of one file */
    char *path;
    struct timespec at;
    ino_t inode;
    off_t size;
};

struct stamps {
    struct stamp *items; /* owned */
    size_t count;
};

struct certificate_watch {
    struct stamps files; /* as they were when they were loaded, or refused */
    uint64_t look_ms;
    uint64_t changed; /* digest of what differed at the last look; 0: nothing */
    int64_t said_day; /* when the daily word was said last, in days since 1970 */
};

/* ---- which files ---- */

static void stamps_fini(struct stamps *s)
{
    for (size_t i = 0; i < s->count; i++)
        mem_free(s->items[i].path);
    mem_free(s->items);
    *s = (struct stamps){0};
}

static struct stamp stamp_of(const char *path)
{
    struct stat st;

    if (stat(path, &st) != 0)
        return (struct stamp){0};
    return (struct stamp){.at = st.st_mtim, .inode = st.st_ino, .size = st.st_size};
}

static bool same_stamp(const struct stamp *a, const struct stamp *b)
{
    return a->at.tv_sec == b->at.tv_sec && a->at.tv_nsec == b->at.tv_nsec && a->inode == b->inode &&
           a->size == b->size;
}

static void watch_file(struct stamps *s, const char *path)
{
    if (!path)
        return;
    for (size_t i = 0; i < s->count; i++)
        if (strcmp(s->items[i].path, path) == 0)
            return;
    s->items = mem_realloc(s->items, (s->count + 1) * sizeof(*s->items));
    s->items[s->count] = stamp_of(path);
    s->items[s->count++].path = mem_strdup(path);
}

/* The listener as the configuration in force says it; as it was at the start, if it is there no more. */
static const struct conf_listener *conf_of(const struct conf *conf, const struct listener *l)
{
    const struct conf_listener *items = conf->listeners.items;

    for (size_t i = 0; i < conf->listeners.count; i++)
        if (strcmp(items[i].address, l->conf->address) == 0 && items[i].tls == l->conf->tls)
            return &items[i];
    return l->conf;
}

static bool is_for(const struct conf_certificate *one, const char *address)
{
    for (size_t i = 0; i < one->listeners.count; i++)
        if (strcmp(one->listeners.items[i], address) == 0)
            return true;
    return one->listeners.count == 0;
}

static enum tls_version version_of(const char *text)
{
    return text && strcmp(text, "1.3") == 0 ? TLS_VERSION_1_3 : TLS_VERSION_1_2;
}

static enum err load_listener(struct engine *e, const struct listener *l, struct stamps *files,
                              struct tls_server **out, char **why)
{
    const struct conf *conf = engine_conf(e);
    const struct conf_listener *own = conf_of(conf, l);
    const struct conf_certificate *more = conf->tls.certificates.items;
    struct tls_server_pair *pairs = mem_zalloc((conf->tls.certificates.count + 1) * sizeof(*pairs));
    struct tls_server_options o = {
        .pairs = pairs,
        .pair_count = 1,
        .priority = own->priority ? own->priority : conf->tls.priority,
        .min_version = version_of(own->min_version ? own->min_version : conf->tls.min_version),
        .client_certificates = (enum tls_client_certificates)own->client_certificates,
        .client_ca = own->client_ca,
        .crl = conf->tls.crl,
    };
    char *made_certificate = NULL, *made_key = NULL;
    enum err err = OK;

    pairs[0].certificate = own->certificate ? own->certificate : conf->tls.certificate;
    pairs[0].key = own->certificate ? own->key : conf->tls.key;
    if (!pairs[0].certificate) {
        err = tls_self_signed_ensure(conf->data_dir, e->shared.host_name, &made_certificate, &made_key, why);
        pairs[0].certificate = made_certificate;
        pairs[0].key = made_key;
    }
    for (size_t i = 0; i < conf->tls.certificates.count; i++)
        if (is_for(&more[i], own->address))
            pairs[o.pair_count++] =
                (struct tls_server_pair){more[i].certificate, more[i].key,
                                         (const char *const *)more[i].names.items, more[i].names.count};
    for (size_t i = 0; i < o.pair_count && !err; i++) {
        watch_file(files, pairs[i].certificate);
        watch_file(files, pairs[i].key);
    }
    watch_file(files, o.client_ca);
    watch_file(files, o.crl);
    if (!err)
        err = tls_server_load(&o, out, why);
    mem_free(made_certificate);
    mem_free(made_key);
    mem_free(pairs);
    return err;
}

enum err engine_set_certificates(struct engine *e, char **why)
{
    struct tls_server **loaded = mem_zalloc((e->listener_count + 1) * sizeof(*loaded));
    struct stamps files = {0};
    enum err err = OK;

    if (!e->certificates)
        e->certificates = MEM_NEW(struct certificate_watch);
    for (size_t i = 0; i < e->listener_count && !err; i++)
        if (e->listeners[i]->conf->tls != LISTENER_TLS_NONE)
            err = load_listener(e, e->listeners[i], &files, &loaded[i], why);
    for (size_t i = 0; i < e->listener_count; i++) {
        if (!loaded[i])
            continue;
        if (err)
            tls_server_unref(loaded[i]);
        else
            listener_set_tls(e->listeners[i], loaded[i]);
    }
    mem_free(loaded);
    if (err) { /* what is in use is watched on */
        stamps_fini(&files);
        return err;
    }
    stamps_fini(&e->certificates->files);
    e->certificates->files = files;
    e->certificates->said_day = 0; /* what is wrong with these is said at once */
    return OK;
}

void engine_forget_certificates(struct engine *e)
{
    if (!e->certificates)
        return;
    stamps_fini(&e->certificates->files);
    mem_free(TAKE(e->certificates));
}

/* ---- what is wrong with them ---- */

/* The host names of others do not meet a certificate on a loopback address. */
static bool is_seen_by_others(const struct listener *l)
{
    return !ip_is_loopback(&l->ip);
}

/* What to say of one, or NULL.  *grave: clients that check certificates are refused already. */
static char *complaint(const struct tls_certificate *c, bool seen_by_others, int64_t now, bool *grave)
{
    int64_t left = c->expires_unix - now;

    *grave = true;
    if (c->revoked)
        return mem_strdup("it is revoked: get a new one");
    if (left < 0)
        return text_format("it expired %lld days ago: renew it", (long long)(-left / DAY_S));
    if (c->from_unix > now)
        return mem_strdup("it is not valid yet: is the clock right?");
    *grave = false;
    if (left < DAY_S)
        return text_format("it expires in %lld hours: renew it now", (long long)(left / 3600));
    if (left < SOON_S)
        return text_format("it expires in %lld days: renew it", (long long)(left / DAY_S));
    if (c->self_signed && seen_by_others)
        return mem_strdup(
            "it is self-signed: clients that check certificates refuse it, and those that do not "
            "can be deceived");
    if (c->weak)
        return mem_strdup("its key or its signature is weak: clients may refuse it");
    return NULL;
}

static void say_complaints(struct listener *l, int64_t now)
{
    struct tls_server *tls = listener_tls(l);
    char address[IP_TEXT_BYTES];

    for (size_t i = 0; i < tls_server_certificate_count(tls); i++) {
        const struct tls_certificate *c = tls_server_certificate(tls, i);
        bool grave;
        char *what = complaint(c, is_seen_by_others(l), now, &grave);
        if (what && grave)
            log_error(NULL, "certificate.bad", LOG_STR("listener", ip_format_port(&l->ip, l->port, address)),
                      LOG_STR("file", c->file), LOG_STR("name", c->name), LOG_STR("what", what));
        else if (what)
            log_warn(NULL, "certificate.warning",
                     LOG_STR("listener", ip_format_port(&l->ip, l->port, address)), LOG_STR("file", c->file),
                     LOG_STR("name", c->name), LOG_STR("what", what));
        mem_free(what);
    }
    tls_server_unref(tls);
}

/* ---- renewal ---- */

/* Which files differ from what was loaded, and how: equal at two looks when nobody writes any more.  0: none.
 */
static uint64_t changes(const struct stamps *s)
{
    uint64_t digest = 0;

    for (size_t i = 0; i < s->count; i++) {
        struct stamp now = stamp_of(s->items[i].path);
        if (now.inode == 0 || same_stamp(&now, &s->items[i]))
            continue; /* a file that is gone for a moment has nothing to load */
        uint64_t parts[] = {i + 1, (uint64_t)now.at.tv_sec, (uint64_t)now.at.tv_nsec, now.inode,
                            (uint64_t)now.size};
        for (size_t k = 0; k < COUNT_OF(parts); k++)
            digest = (digest ^ parts[k]) * 0x100000001b3U + 1;
    }
    return digest;
}

/* What was refused is looked at again when it changes again. */
static void stamp_again(struct stamps *s)
{
    for (size_t i = 0; i < s->count; i++) {
        struct stamp now = stamp_of(s->items[i].path);
        now.path = s->items[i].path;
        s->items[i] = now;
    }
}

static void take_renewed(struct engine *e)
{
    char *why = NULL;

    if (engine_set_certificates(e, &why) == OK) {
        log_info(NULL, "certificate.renewed", LOG_STR("hint", "new sessions use what the files hold now"));
    } else {
        stamp_again(&e->certificates->files);
        log_error(NULL, "certificate.not_renewed", LOG_STR("why", why),
                  LOG_STR("hint", "what was loaded before stays in use"));
    }
    mem_free(why);
}

void engine_watch_certificates(struct engine *e)
{
    struct certificate_watch *w = e->certificates;
    uint64_t now_ms = clock_now_ms();
    int64_t now = clock_unix();

    if (now_ms >= w->look_ms) {
        w->look_ms = now_ms + LOOK_EVERY_S * 1000;
        uint64_t changed = changes(&w->files);
        if (changed && changed == w->changed)
            take_renewed(e);
        w->changed = changed;
    }
    if (w->said_day == now / DAY_S)
        return;
    w->said_day = now / DAY_S;
    for (size_t i = 0; i < e->listener_count; i++)
        if (e->listeners[i]->conf->tls != LISTENER_TLS_NONE)
            say_complaints(e->listeners[i], now);
}

/* ---- for others to see ---- */

static json_t *certificate_json(const struct tls_certificate *c, bool seen_by_others, int64_t now)
{
    bool grave;
    char *what = complaint(c, seen_by_others, now, &grave);
    json_t *one =
        json_pack("{s:s, s:s, s:I, s:I, s:b, s:b, s:b, s:o}", "file", c->file, "name", c->name, "from_unix",
                  (json_int_t)c->from_unix, "expires_unix", (json_int_t)c->expires_unix, "self_signed",
                  (int)c->self_signed, "revoked", (int)c->revoked, "weak", (int)c->weak, "problem",
                  what ? json_string(what) : json_null());

    mem_free(what);
    return one;
}

json_t *engine_certificates_json(struct listener *l)
{
    struct tls_server *tls = listener_tls(l);
    json_t *list = json_array();
    int64_t now = clock_unix(), expires = tls_server_expires_unix(tls);

    for (size_t i = 0; i < tls_server_certificate_count(tls); i++)
        json_array_append_new(list,
                              certificate_json(tls_server_certificate(tls, i), is_seen_by_others(l), now));
    tls_server_unref(tls);
    return json_pack("{s:I, s:b, s:o}", "certificate_expires_unix", (json_int_t)expires,
                     "certificate_expires_soon", (int)(expires < now + SOON_S), "certificates", list);
}

/* A name comes from a certificate: quotes, backslashes and controls would end the label. */
static void put_label(struct buf *out, const char *name, const char *text)
{
    buf_putf(out, "%s=\"", name);
    for (; *text; text++)
        buf_putc(out, (unsigned char)*text < ' ' || *text == '"' || *text == '\\' ? '_' : *text);
    buf_putc(out, '"');
}

void engine_certificates_metrics(struct engine *e, struct buf *out)
{
    int64_t now = clock_unix();
    char address[IP_TEXT_BYTES];

    buf_puts(
        out,
        "# HELP hayauma_certificate_expires_seconds time until a certificate of a listener ends; negative: "
        "it has ended\n# TYPE hayauma_certificate_expires_seconds gauge\n");
    for (size_t i = 0; i < e->listener_count; i++) {
        struct listener *l = e->listeners[i];
        if (l->conf->tls == LISTENER_TLS_NONE)
            continue;
        struct tls_server *tls = listener_tls(l);
        for (size_t k = 0; k < tls_server_certificate_count(tls); k++) {
            const struct tls_certificate *c = tls_server_certificate(tls, k);
            buf_puts(out, "hayauma_certificate_expires_seconds{");
            put_label(out, "listener", ip_format_port(&l->ip, l->port, address));
            buf_puts(out, ",");
            put_label(out, "name", c->name);
            buf_puts(out, ",");
            put_label(out, "file", c->file);
            buf_putf(out, "} %lld\n", (long long)(c->expires_unix - now));
        }
        tls_server_unref(tls);
    }
    for (size_t i = 0; i < e->listener_count; i++) {
        struct listener *l = e->listeners[i];
        if (l->conf->tls == LISTENER_TLS_NONE)
            continue;
        struct tls_server *tls = listener_tls(l);
        buf_putf(out, "hayauma_certificate_expires_unix{listener=\"%s\"} %lld\n",
                 ip_format_port(&l->ip, l->port, address), (long long)tls_server_expires_unix(tls));
        tls_server_unref(tls);
    }
}
