#include "engine/tlswatch.h"

#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/notice.h"
#include "engine/tls_state.h"
#include "queue/keep.h"

#define COUNTS_EVERY_S 60
#define RELAYS_MAX     256
#define SEEN_EVERY_S   (30 * 86400) /* written anew, so that it does not look forgotten: queue/keep.h */

struct tls_watch {
    struct store *store; /* borrowed */
    struct inbox *inbox; /* borrowed */
    atomic_long *open;   /* borrowed */
    struct map known;    /* struct known by domain */
    struct list put_off; /* of these, what must be written some time */
    struct map relays;   /* struct relay by name: smart hosts, at most RELAYS_MAX */
    bool ended;          /* the store takes nothing more */
};

/* What a smart host reached since the start, whatever the domain; it is named by the policy, so they are few.
 */
struct relay {
    char *name; /* owned; its key */
    enum tls_reached best;
};

/* A domain, as long as somebody holds a handle or something is under way. */
struct known {
    struct tls_watch *w;
    char *domain; /* owned; its key */
    enum { READING, KNOWN, UNREADABLE } phase;
    enum err why; /* UNREADABLE */
    struct tls_state state;
    struct list handles; /* struct tls_dest */
    struct list put_off_node;
    int64_t written_unix, seen_unix; /* entries; what was seen */
    unsigned requests;               /* under way */
};

struct tls_dest {
    struct known *known;
    struct list node; /* known->handles */
    tls_watch_fn fn;  /* NULL: told, or nobody wants to know */
    void *arg;
    bool to_the_end; /* somebody waits: told even after tls_watch_flush */
};

static const struct log watch_log = {"task=tls-watch"};

struct tls_watch *tls_watch_create(struct store *store, struct inbox *inbox, atomic_long *open)
{
    struct tls_watch *w = MEM_NEW(struct tls_watch);

    w->store = store;
    w->inbox = inbox;
    w->open = open;
    list_init(&w->put_off);
    return w;
}

/* ---- writing ---- */

static void put(struct known *k, const char *kind, char *value)
{
    store_keep_set(k->w->store, kind, k->domain, bytes_of(value));
    mem_free(value);
}

static void write_entries(struct known *k)
{
    list_remove(&k->put_off_node);
    k->written_unix = clock_unix();
    if (k->w->ended)
        return;
    if (k->state.entry_count)
        put(k, KEEP_DOWNGRADE, tls_state_format_entries(&k->state));
    else
        store_keep_drop(k->w->store, KEEP_DOWNGRADE, k->domain);
}

static void write_seen(struct known *k)
{
    k->seen_unix = clock_unix();
    if (!k->w->ended)
        put(k, KEEP_TLS_SEEN, tls_state_format_seen(&k->state));
}

static void write_soon(struct known *k)
{
    if (clock_unix() - k->written_unix >= COUNTS_EVERY_S)
        write_entries(k);
    else if (list_is_empty(&k->put_off_node))
        list_push_back(&k->w->put_off, &k->put_off_node);
}

static void known_free(struct known *k)
{
    tls_state_fini(&k->state);
    mem_free(k->domain);
    mem_free(k);
}

static void forget_unused(struct known *k)
{
    if (!list_is_empty(&k->handles) || k->requests)
        return;
    if (!list_is_empty(&k->put_off_node))
        write_entries(k);
    map_remove(&k->w->known, bytes_of(k->domain));
    known_free(k);
}

void tls_watch_beat(struct tls_watch *w)
{
    int64_t now = clock_unix();

    LIST_FOREACH_SAFE (node, &w->put_off) {
        struct known *k = LIST_ENTRY(node, struct known, put_off_node);
        if (now - k->written_unix >= COUNTS_EVERY_S || now < k->written_unix)
            write_entries(k);
    }
}

void tls_watch_flush(struct tls_watch *w)
{
    struct list *node;

    while ((node = list_first(&w->put_off)))
        write_entries(LIST_ENTRY(node, struct known, put_off_node));
    w->ended = true;
}

void tls_watch_destroy(struct tls_watch *w)
{
    struct known *k;
    struct relay *r;

    if (!w)
        return;
    for (size_t at = 0; (r = map_next(&w->relays, &at));) {
        mem_free(r->name);
        mem_free(r);
    }
    map_fini(&w->relays);
    for (size_t at = 0; (k = map_next(&w->known, &at));)
        known_free(k); /* handles that are left are their owners' mistake */
    map_fini(&w->known);
    mem_free(w);
}

/* ---- reading ---- */

/* Calls out last: those who are told may release their handle, or others'. */
static void tell_all(struct known *k, enum err e)
{
    bool told = true;

    k->requests++;
    while (told) {
        told = false;
        LIST_FOREACH (at, &k->handles) {
            struct tls_dest *d = LIST_ENTRY(at, struct tls_dest, node);
            tls_watch_fn fn = d->fn;
            if (!fn || (k->w->ended && !d->to_the_end))
                continue;
            d->fn = NULL;
            fn(d->arg, e);
            told = true;
            break; /* the list may be another now */
        }
    }
    k->requests--;
    forget_unused(k);
}

static void read_failed(struct known *k, enum err e)
{
    log_warn(&watch_log, "tls.state_unreadable", LOG_STR("domain", k->domain), LOG_ERR(e));
    k->phase = UNREADABLE;
    k->why = e;
    tell_all(k, e);
}

static void ask(struct known *k, const char *kind, store_reply_fn on_reply);

struct asked {
    struct store_keep keep; /* first */
    struct known *known;
};

static void on_entries(struct note *note, void *owner)
{
    struct asked *a = CONTAINER_OF(note, struct asked, keep.req.note);
    struct known *k = a->known;
    enum err e = a->keep.req.result;

    (void)owner;
    if (!e)
        e = tls_state_parse_entries(&k->state, buf_bytes(&a->keep.value), clock_unix());
    store_keep_destroy(&a->keep);
    k->requests--;
    if (e && e != ERR_NOT_FOUND) {
        read_failed(k, e);
        return;
    }
    k->phase = KNOWN;
    tell_all(k, OK);
}

static void on_seen(struct note *note, void *owner)
{
    struct asked *a = CONTAINER_OF(note, struct asked, keep.req.note);
    struct known *k = a->known;
    enum err e = a->keep.req.result;
    bool has_entries = false;

    (void)owner;
    k->seen_unix = a->keep.at_unix;
    if (!e)
        e = tls_state_parse_seen(&k->state, buf_bytes(&a->keep.value), &has_entries);
    store_keep_destroy(&a->keep);
    k->requests--;
    if (!e && has_entries && k->w->ended)
        e = ERR_CLOSED;
    if (e && e != ERR_NOT_FOUND) {
        read_failed(k, e);
    } else if (has_entries) {
        ask(k, KEEP_DOWNGRADE, on_entries);
    } else {
        k->phase = KNOWN;
        tell_all(k, OK);
    }
}

static void ask(struct known *k, const char *kind, store_reply_fn on_reply)
{
    struct asked *a = MEM_NEW(struct asked);

    a->known = k;
    a->keep.kind = mem_strdup(kind);
    a->keep.key = mem_strdup(k->domain);
    a->keep.req.reply_to = k->w->inbox;
    a->keep.req.on_reply = on_reply;
    k->requests++;
    store_post_keep_get(k->w->store, &a->keep);
}

/* ---- destinations ---- */

static struct known *known_get(struct tls_watch *w, const char *domain)
{
    struct known *k = map_find(&w->known, bytes_of(domain));

    if (!k) {
        k = MEM_NEW(struct known);
        k->w = w;
        k->domain = mem_strdup(domain);
        k->phase = UNREADABLE;
        list_init(&k->handles);
        list_init(&k->put_off_node);
        map_put(&w->known, bytes_of(k->domain), k);
    }
    return k;
}

/* Read already: told from the loop all the same, so that nobody is called back out of his own call. */
struct soon {
    struct note note;
    struct known *known;
};

static void on_soon(struct note *note, void *owner)
{
    struct soon *s = CONTAINER_OF(note, struct soon, note);
    struct known *k = s->known;

    (void)owner;
    mem_free(s);
    k->requests--;
    if (k->phase == READING)
        forget_unused(k); /* told when that is read */
    else
        tell_all(k, k->phase == KNOWN ? OK : k->why);
}

static void tell_soon(struct known *k)
{
    struct soon *s = MEM_NEW(struct soon);

    s->note.run = on_soon;
    s->known = k;
    k->requests++;
    inbox_post(k->w->inbox, &s->note);
}

static struct tls_dest *look_up(struct tls_watch *w, const char *domain, tls_watch_fn fn, void *arg,
                                bool to_the_end)
{
    struct known *k = known_get(w, domain);
    struct tls_dest *d = MEM_NEW(struct tls_dest);

    *d = (struct tls_dest){.known = k, .fn = fn, .arg = arg, .to_the_end = to_the_end};
    list_push_back(&k->handles, &d->node);
    if (k->phase == UNREADABLE && !w->ended) {
        k->phase = READING;
        ask(k, KEEP_TLS_SEEN, on_seen);
    } else if (k->phase != READING && fn) {
        if (w->ended)
            k->why = ERR_CLOSED;
        tell_soon(k);
    }
    return d;
}

struct tls_dest *tls_watch_lookup(struct tls_watch *w, const char *domain, tls_watch_fn fn, void *arg)
{
    return look_up(w, domain, fn, arg, false);
}

void tls_watch_release(struct tls_dest *d)
{
    if (!d)
        return;
    struct known *k = d->known;
    list_remove(&d->node);
    mem_free(d);
    forget_unused(k);
}

static void log_event(const struct known *k, const struct tls_verdict *v)
{
    const struct tls_downgrade *d = v->entry;

    if (v->event == TLS_STATE_WORSE)
        notice_warn(&watch_log, "tls.downgrade", LOG_STR("domain", k->domain), LOG_STR("mx", d->mx),
                 LOG_STR("remote", d->remote ? d->remote : "-"), LOG_STR("from", tls_reached_name(d->from)),
                 LOG_STR("to", tls_reached_name(d->to)), LOG_STR("evidence", d->evidence ? d->evidence : ""));
    else if (v->event == TLS_STATE_BETTER)
        notice_info(&watch_log, "tls.downgrade_over", LOG_STR("domain", k->domain), LOG_STR("mx", d->mx),
                 LOG_STR("is", tls_reached_name(d->from)), LOG_INT("sessions", d->count),
                 LOG_INT("seconds", d->over_unix - d->first_unix));
}

/* ---- smart hosts ---- */

static enum tls_reached relay_best(const struct tls_watch *w, const struct tls_watched *what)
{
    const struct relay *r = what->smarthost ? map_find(&w->relays, bytes_of(what->mx)) : NULL;

    return r ? r->best : TLS_REACHED_NOTHING;
}

static void relay_reached(struct tls_watch *w, const struct tls_watched *what)
{
    struct relay *r = map_find(&w->relays, bytes_of(what->mx));

    if (!r && w->relays.count < RELAYS_MAX) {
        r = MEM_NEW(struct relay);
        r->name = mem_strdup(what->mx);
        map_put(&w->relays, bytes_of(r->name), r);
    }
    if (r)
        r->best = MAX_OF(r->best, what->reached);
}

/* What an operator approved of a host is expected of it from now on with any domain. */
static void relays_approve(struct tls_watch *w, const struct tls_state *s)
{
    for (size_t i = 0; i < s->entry_count; i++) {
        struct relay *r = map_find(&w->relays, bytes_of(s->entries[i].mx));
        if (r && s->entries[i].state == DOWNGRADE_APPROVED)
            r->best = MIN_OF(r->best, s->entries[i].to);
    }
}

static struct tls_watched with_elsewhere(const struct tls_watch *w, const struct tls_watched *what)
{
    struct tls_watched whole = *what;

    whole.elsewhere = relay_best(w, what);
    return whole;
}

enum tls_watch_says tls_watch_session(struct tls_dest *d, const struct tls_watched *told)
{
    const struct tls_watched whole = with_elsewhere(d->known->w, told), *what = &whole;
    struct known *k = d->known;

    if (what->smarthost)
        relay_reached(k->w, what);
    if (k->phase != KNOWN)
        return TLS_WATCH_UNKNOWN;
    int64_t now = clock_unix();
    struct tls_verdict v = tls_state_judge(&k->state, what, now);
    if (v.open_change)
        atomic_fetch_add(k->w->open, v.open_change);
    if (v.entries_changed)
        write_entries(k);
    else if (v.entries_counted)
        write_soon(k);
    if (v.seen_changed || v.entries_changed || now - k->seen_unix > SEEN_EVERY_S)
        write_seen(k);
    log_event(k, &v);
    return v.says;
}

enum tls_reached tls_watch_expects(const struct tls_dest *d, const struct tls_watched *what)
{
    const struct tls_watched whole = with_elsewhere(d->known->w, what);

    return d->known->phase == KNOWN ? tls_state_expects(&d->known->state, &whole) : TLS_REACHED_NOTHING;
}

void tls_watch_text(const struct tls_dest *d, const struct tls_watched *what, struct buf *out)
{
    static const char *const had[] = {"nothing", "clear text", "TLS", "authenticated TLS"};
    static const char *const has[] = {"nothing", "no TLS", "TLS without a certificate that holds", "TLS"};

    buf_putf(out, "%s had %s before and now has %s", what->mx, had[tls_watch_expects(d, what)],
             has[what->reached]);
    if (what->evidence && *what->evidence)
        buf_putf(out, " (%.200s)", what->evidence);
    buf_putf(out, "; held until it is back or `hayauma tls downgrades approve %s`", d->known->domain);
}

/* ---- the register ---- */

struct change { /* an operator's */
    struct tls_dest *dest;
    enum tls_downgrade_op op;
    char *mx, *author; /* owned */
    tls_change_fn fn;
    void *arg;
    unsigned changed;
};

struct change_written {
    struct store_keep keep; /* first: frees both */
    struct change *change;
};

static void change_done(struct change *c, enum err e)
{
    tls_watch_release(c->dest);
    c->fn(c->arg, e, c->changed);
    mem_free(c->mx);
    mem_free(c->author);
    mem_free(c);
}

static void on_change_written(struct note *note, void *owner)
{
    struct change_written *w = CONTAINER_OF(note, struct change_written, keep.req.note);
    struct change *c = w->change;
    enum err e = w->keep.req.result;

    (void)owner;
    store_keep_destroy(&w->keep);
    change_done(c, e);
}

/* Answered after the commit: of the last of the values, so of all. */
static void write_change(struct change *c)
{
    struct known *k = c->dest->known;
    struct change_written *w = MEM_NEW(struct change_written);

    write_entries(k);
    w->change = c;
    w->keep.kind = mem_strdup(KEEP_TLS_SEEN);
    w->keep.key = mem_strdup(k->domain);
    w->keep.remove = !k->state.entry_count && !k->state.host_count;
    w->keep.req.reply_to = k->w->inbox;
    w->keep.req.on_reply = on_change_written;
    if (!w->keep.remove) {
        char *value = tls_state_format_seen(&k->state);
        buf_puts(&w->keep.value, value);
        mem_free(value);
    }
    store_post_keep_put(k->w->store, &w->keep);
}

static void on_change_read(void *arg, enum err e)
{
    struct change *c = arg;
    struct known *k = c->dest->known;
    long before = (long)tls_state_open(&k->state);

    if (!e && k->w->ended)
        e = ERR_CLOSED;
    if (e) {
        change_done(c, e);
        return;
    }
    if (c->op == TLS_DOWNGRADE_APPROVE)
        c->changed = tls_state_approve(&k->state, c->mx, c->author, clock_unix());
    else
        c->changed = tls_state_forget(&k->state, c->mx);
    atomic_fetch_add(k->w->open, (long)tls_state_open(&k->state) - before);
    if (c->op == TLS_DOWNGRADE_APPROVE)
        relays_approve(k->w, &k->state);
    if (!c->changed) {
        change_done(c, ERR_NOT_FOUND);
        return;
    }
    log_info(&watch_log,
             c->op == TLS_DOWNGRADE_APPROVE ? "tls.downgrade_approved" : "tls.downgrade_forgotten",
             LOG_STR("domain", k->domain), LOG_STR("mx", c->mx ? c->mx : "*"), LOG_STR("by", c->author),
             LOG_INT("entries", c->changed));
    write_change(c);
}

void tls_downgrades_change(struct tls_watch *w, enum tls_downgrade_op op, const char *domain, const char *mx,
                           const char *author, tls_change_fn fn, void *arg)
{
    struct change *c = MEM_NEW(struct change);

    *c = (struct change){
        .op = op, .mx = mem_strdup(mx), .author = mem_strdup(author ? author : ""), .fn = fn, .arg = arg};
    c->dest = look_up(w, domain, on_change_read, c, true);
}

struct listing {
    json_t *list;
    const char *domain;
    long open;
};

static bool list_kept(void *arg, const struct kept *kept)
{
    struct listing *l = arg;
    struct tls_state s = {0};

    if (l->domain && strcmp(kept->key, l->domain) != 0)
        return strcmp(kept->key, l->domain) < 0; /* they come in order */
    if (tls_state_parse_entries(&s, kept->value, clock_unix())) {
        log_warn(&watch_log, "tls.state_unreadable", LOG_STR("domain", kept->key), LOG_ERR(ERR_CORRUPT));
        return true;
    }
    l->open += (long)tls_state_open(&s);
    for (size_t i = 0; l->list && i < s.entry_count; i++)
        json_array_append_new(l->list, tls_downgrade_json(kept->key, &s.entries[i]));
    tls_state_fini(&s);
    return true;
}

enum err tls_downgrades_list(const char *data_dir, const char *domain, json_t **out)
{
    struct listing l = {.list = json_array(), .domain = domain};
    enum err e = keep_read(data_dir, KEEP_DOWNGRADE, NULL, list_kept, &l);

    if (e) {
        json_decref(l.list);
        return e;
    }
    *out = l.list;
    return OK;
}

long tls_downgrades_count(const char *data_dir)
{
    struct listing l = {0};
    enum err e = keep_read(data_dir, KEEP_DOWNGRADE, NULL, list_kept, &l);

    if (e)
        log_warn(&watch_log, "tls.downgrades_unreadable", LOG_ERR(e));
    return l.open;
}
