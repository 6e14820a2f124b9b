#include "engine/tls_state.h"

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

static const char *const reached_names[] = {
    [TLS_REACHED_NOTHING] = "nothing",
    [TLS_REACHED_CLEAR] = "clear",
    [TLS_REACHED_ENCRYPTED] = "encrypted",
    [TLS_REACHED_AUTHENTICATED] = "authenticated",
};
static const char *const state_names[] = {
    [DOWNGRADE_OPEN] = "open",
    [DOWNGRADE_APPROVED] = "approved",
    [DOWNGRADE_OVER] = "over",
};

const char *tls_reached_name(enum tls_reached r)
{
    return (size_t)r < COUNT_OF(reached_names) ? reached_names[r] : "?";
}

const char *downgrade_state_name(enum downgrade_state s)
{
    return (size_t)s < COUNT_OF(state_names) ? state_names[s] : "?";
}

enum tls_reached tls_reached_of(const char *tls_version, enum tls_verify verify)
{
    if (!tls_version)
        return TLS_REACHED_CLEAR;
    return tls_verify_is_good(verify) ? TLS_REACHED_AUTHENTICATED : TLS_REACHED_ENCRYPTED;
}

/* ---- the parts ---- */

static void downgrade_fini(struct tls_downgrade *d)
{
    mem_free(d->mx);
    mem_free(d->remote);
    mem_free(d->evidence);
    mem_free(d->approved_by);
}

static void drop_host(struct tls_state *s, size_t at)
{
    mem_free(s->hosts[at].mx);
    s->host_count--;
    memmove(&s->hosts[at], &s->hosts[at + 1], (s->host_count - at) * sizeof(s->hosts[0]));
}

static void drop_entry(struct tls_state *s, size_t at)
{
    downgrade_fini(&s->entries[at]);
    s->entry_count--;
    memmove(&s->entries[at], &s->entries[at + 1], (s->entry_count - at) * sizeof(s->entries[0]));
}

void tls_state_fini(struct tls_state *s)
{
    while (s->host_count)
        drop_host(s, s->host_count - 1);
    while (s->entry_count)
        drop_entry(s, s->entry_count - 1);
    *s = (struct tls_state){0};
}

/* Their place, or the count. */
static size_t host_place(const struct tls_state *s, const char *mx)
{
    size_t i = 0;

    while (i < s->host_count && strcmp(s->hosts[i].mx, mx) != 0)
        i++;
    return i;
}

static size_t entry_place(const struct tls_state *s, const char *mx)
{
    size_t i = 0;

    while (i < s->entry_count && strcmp(s->entries[i].mx, mx) != 0)
        i++;
    return i;
}

static struct tls_state_host *find_host(struct tls_state *s, const char *mx)
{
    size_t at = host_place(s, mx);

    return at < s->host_count ? &s->hosts[at] : NULL;
}

static struct tls_downgrade *find_entry(struct tls_state *s, const char *mx)
{
    size_t at = entry_place(s, mx);

    return at < s->entry_count ? &s->entries[at] : NULL;
}

static void set_host(struct tls_state *s, const char *mx, enum tls_reached best)
{
    struct tls_state_host *h = find_host(s, mx);

    if (!h) {
        if (s->host_count == TLS_STATE_HOSTS)
            drop_host(s, 0);
        h = &s->hosts[s->host_count++];
        *h = (struct tls_state_host){.mx = mem_strdup(mx)};
    }
    h->best = best;
}

size_t tls_state_open(const struct tls_state *s)
{
    size_t n = 0;

    for (size_t i = 0; i < s->entry_count; i++)
        n += s->entries[i].state == DOWNGRADE_OPEN;
    return n;
}

/* The oldest that is not open makes room; an open one only when all are. */
static struct tls_downgrade *new_entry(struct tls_state *s, const char *mx, int64_t now_unix,
                                       int *open_change)
{
    if (s->entry_count == TLS_STATE_ENTRIES) {
        size_t at = 0;
        while (at < s->entry_count && s->entries[at].state == DOWNGRADE_OPEN)
            at++;
        if (at == s->entry_count) {
            at = 0;
            (*open_change)--;
        }
        drop_entry(s, at);
    }
    struct tls_downgrade *d = &s->entries[s->entry_count++];
    *d = (struct tls_downgrade){.mx = mem_strdup(mx), .state = DOWNGRADE_OVER, .first_unix = now_unix};
    return d;
}

/* ---- judging ---- */

enum tls_reached tls_state_expects(const struct tls_state *s, const struct tls_watched *what)
{
    size_t host = host_place(s, what->mx), entry = entry_place(s, what->mx);
    enum tls_reached of_others = what->smarthost ? what->elsewhere : s->best;
    enum tls_reached expected = host < s->host_count ? s->hosts[host].best : of_others;

    if (entry < s->entry_count && s->entries[entry].state == DOWNGRADE_APPROVED)
        expected = MIN_OF(expected, s->entries[entry].to);
    return expected;
}

static void replace_text(char **to, const char *text)
{
    mem_free(*to);
    *to = text ? bytes_dup(bytes_first(bytes_of(text), TLS_EVIDENCE_BYTES)) : NULL;
}

static void judge_worse(struct tls_state *s, const struct tls_watched *what, enum tls_reached expected,
                        int64_t now_unix, struct tls_verdict *v)
{
    struct tls_downgrade *d = find_entry(s, what->mx);

    v->says = TLS_WATCH_DOWNGRADED;
    if (!d)
        d = new_entry(s, what->mx, now_unix, &v->open_change);
    if (d->state != DOWNGRADE_OPEN) {
        d->state = DOWNGRADE_OPEN;
        d->from = expected;
        d->to = what->reached;
        d->over_unix = d->approved_unix = 0;
        replace_text(&d->approved_by, NULL);
        v->event = TLS_STATE_WORSE;
        v->open_change++;
        v->entries_changed = true;
    }
    if (expected > d->from || what->reached < d->to) {
        d->from = MAX_OF(d->from, expected);
        d->to = MIN_OF(d->to, what->reached);
        v->entries_changed = true;
    }
    d->count++;
    d->last_unix = now_unix;
    replace_text(&d->evidence, what->evidence);
    replace_text(&d->remote, what->remote);
    v->entries_counted = true;
    v->entry = d;
}

static void end_entry(struct tls_downgrade *d, int64_t now_unix, struct tls_verdict *v)
{
    v->open_change -= d->state == DOWNGRADE_OPEN;
    d->state = DOWNGRADE_OVER;
    d->over_unix = now_unix;
    v->event = TLS_STATE_BETTER;
    v->entries_changed = true;
}

static void judge_good(struct tls_state *s, const struct tls_watched *what, int64_t now_unix,
                       struct tls_verdict *v)
{
    struct tls_downgrade *d = find_entry(s, what->mx);
    struct tls_state_host *h = find_host(s, what->mx);
    bool on_trial = false;

    v->entry = d;
    if (d && d->state == DOWNGRADE_OPEN)
        end_entry(d, now_unix, v);
    if (d && d->state == DOWNGRADE_APPROVED) {
        if (what->reached <= d->to) {
            d->last_unix = now_unix;
            d->count++;
            v->entries_counted = true;
        } else if (now_unix - d->last_unix > TLS_APPROVAL_TRIAL_S) {
            end_entry(d, now_unix, v);
        }
        on_trial = d->state == DOWNGRADE_APPROVED;
    }
    if (on_trial)
        return;
    if (!h || what->reached > h->best) {
        set_host(s, what->mx, what->reached);
        v->seen_changed = true;
    }
    if (!what->smarthost && what->reached > s->best) {
        s->best = what->reached;
        v->seen_changed = true;
    }
}

struct tls_verdict tls_state_judge(struct tls_state *s, const struct tls_watched *what, int64_t now_unix)
{
    struct tls_verdict v = {.says = TLS_WATCH_OK};
    enum tls_reached expected = tls_state_expects(s, what);

    if (what->reached < expected)
        judge_worse(s, what, expected, now_unix, &v);
    else
        judge_good(s, what, now_unix, &v);
    return v;
}

unsigned tls_state_approve(struct tls_state *s, const char *mx, const char *author, int64_t now_unix)
{
    unsigned changed = 0;

    for (size_t i = 0; i < s->entry_count; i++) {
        struct tls_downgrade *d = &s->entries[i];
        if (d->state != DOWNGRADE_OPEN || (mx && strcmp(d->mx, mx) != 0))
            continue;
        d->state = DOWNGRADE_APPROVED;
        d->approved_unix = now_unix;
        replace_text(&d->approved_by, author);
        set_host(s, d->mx, d->to);
        if (!mx) /* one host alone says nothing of others that come */
            s->best = MIN_OF(s->best, d->to);
        changed++;
    }
    return changed;
}

unsigned tls_state_forget(struct tls_state *s, const char *mx)
{
    unsigned changed = 0;

    for (size_t i = s->entry_count; i-- > 0;)
        if (!mx || strcmp(s->entries[i].mx, mx) == 0) {
            drop_entry(s, i);
            changed++;
        }
    for (size_t i = s->host_count; i-- > 0;)
        if (!mx || strcmp(s->hosts[i].mx, mx) == 0) {
            drop_host(s, i);
            changed++;
        }
    enum tls_reached best = TLS_REACHED_NOTHING; /* what is left */
    for (size_t i = 0; i < s->host_count; i++)
        best = MAX_OF(best, s->hosts[i].best);
    s->best = MIN_OF(s->best, best);
    return changed;
}

/* ---- stored and shown ---- */

static void put_text(json_t *o, const char *key, const char *text)
{
    json_t *value = text ? json_string(text) : json_null();

    if (!value) { /* a peer's words that are no UTF-8 */
        char *plain = mem_strdup(text);
        for (char *c = plain; *c; c++)
            if ((unsigned char)*c >= 0x7f)
                *c = '?';
        value = json_string(plain);
        mem_free(plain);
    }
    json_object_set_new(o, key, value);
}

static json_t *entry_json(const struct tls_downgrade *d)
{
    json_t *o = json_object();

    put_text(o, "mx", d->mx);
    put_text(o, "remote", d->remote);
    put_text(o, "from", tls_reached_name(d->from));
    put_text(o, "to", tls_reached_name(d->to));
    put_text(o, "state", downgrade_state_name(d->state));
    json_object_set_new(o, "first_unix", json_integer(d->first_unix));
    json_object_set_new(o, "last_unix", json_integer(d->last_unix));
    json_object_set_new(o, "count", json_integer((json_int_t)d->count));
    put_text(o, "evidence", d->evidence);
    put_text(o, "approved_by", d->approved_by);
    json_object_set_new(o, "approved_unix", json_integer(d->approved_unix));
    json_object_set_new(o, "over_unix", json_integer(d->over_unix));
    return o;
}

json_t *tls_downgrade_json(const char *domain, const struct tls_downgrade *d)
{
    json_t *o = json_object();

    put_text(o, "domain", domain);
    json_t *entry = entry_json(d);
    json_object_update(o, entry);
    json_decref(entry);
    return o;
}

/* jansson's memory is malloc's; ours is counted. */
static char *take_dump(json_t *value)
{
    char *dump = json_dumps(value, JSON_COMPACT);
    char *copy = mem_strdup(dump);

    free(dump);
    json_decref(value);
    return copy;
}

char *tls_state_format_seen(const struct tls_state *s)
{
    json_t *hosts = json_array();

    for (size_t i = 0; i < s->host_count; i++) {
        json_t *host = json_object();
        put_text(host, "mx", s->hosts[i].mx);
        put_text(host, "best", tls_reached_name(s->hosts[i].best));
        json_array_append_new(hosts, host);
    }
    /* "entries": whoever reads this need not ask for "downgrade" when there is none */
    return take_dump(json_pack("{s:s, s:b, s:o}", "best", tls_reached_name(s->best), "entries",
                               s->entry_count > 0, "hosts", hosts));
}

char *tls_state_format_entries(const struct tls_state *s)
{
    json_t *list = json_array();

    for (size_t i = 0; i < s->entry_count; i++)
        json_array_append_new(list, entry_json(&s->entries[i]));
    return take_dump(list);
}

static bool parse_name(const json_t *o, const char *key, const char *const *names, size_t count, int *out)
{
    const char *text = json_string_value(json_object_get(o, key));

    for (size_t i = 0; text && i < count; i++)
        if (strcmp(text, names[i]) == 0) {
            *out = (int)i;
            return true;
        }
    return false;
}

static bool parse_reached(const json_t *o, const char *key, enum tls_reached *out)
{
    int at;

    if (!parse_name(o, key, reached_names, COUNT_OF(reached_names), &at))
        return false;
    *out = (enum tls_reached)at;
    return true;
}

enum err tls_state_parse_seen(struct tls_state *s, struct bytes value, bool *has_entries)
{
    json_t *o = json_loadb(value.at, value.len, JSON_REJECT_DUPLICATES, NULL), *host;
    struct tls_state found = {0};
    size_t i;
    bool good = parse_reached(o, "best", &found.best), entries = json_is_true(json_object_get(o, "entries"));

    json_array_foreach(json_object_get(o, "hosts"), i, host)
    {
        const char *mx = json_string_value(json_object_get(host, "mx"));
        enum tls_reached best;
        good = good && mx && parse_reached(host, "best", &best);
        if (good)
            set_host(&found, mx, best);
    }
    json_decref(o);
    if (!good) {
        tls_state_fini(&found);
        return ERR_CORRUPT;
    }
    while (s->host_count)
        drop_host(s, s->host_count - 1);
    *has_entries = entries;
    s->best = found.best;
    s->host_count = found.host_count;
    memcpy(s->hosts, found.hosts, sizeof(s->hosts));
    return OK;
}

static char *dup_text(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));

    return text ? mem_strdup(text) : NULL;
}

static int64_t number(const json_t *o, const char *key)
{
    return json_integer_value(json_object_get(o, key));
}

static bool parse_entry(const json_t *o, struct tls_downgrade *d)
{
    int state;

    *d = (struct tls_downgrade){0};
    if (!json_string_value(json_object_get(o, "mx")) || !parse_reached(o, "from", &d->from) ||
        !parse_reached(o, "to", &d->to) ||
        !parse_name(o, "state", state_names, COUNT_OF(state_names), &state))
        return false;
    d->mx = dup_text(o, "mx");
    d->remote = dup_text(o, "remote");
    d->evidence = dup_text(o, "evidence");
    d->approved_by = dup_text(o, "approved_by");
    d->state = (enum downgrade_state)state;
    d->first_unix = number(o, "first_unix");
    d->last_unix = number(o, "last_unix");
    d->approved_unix = number(o, "approved_unix");
    d->over_unix = number(o, "over_unix");
    d->count = (uint64_t)MAX_OF(number(o, "count"), 0);
    return true;
}

enum err tls_state_parse_entries(struct tls_state *s, struct bytes value, int64_t now_unix)
{
    json_t *list = json_loadb(value.at, value.len, JSON_REJECT_DUPLICATES, NULL), *o;
    struct tls_state found = {0};
    bool good = json_is_array(list);
    size_t i;

    json_array_foreach(list, i, o)
    {
        struct tls_downgrade d;
        if (!good || found.entry_count == TLS_STATE_ENTRIES || !parse_entry(o, &d)) {
            good = false;
            break;
        }
        if (d.state == DOWNGRADE_OVER && now_unix - d.over_unix > TLS_OVER_KEPT_S)
            downgrade_fini(&d);
        else
            found.entries[found.entry_count++] = d;
    }
    json_decref(list);
    if (!good) {
        tls_state_fini(&found);
        return ERR_CORRUPT;
    }
    while (s->entry_count)
        drop_entry(s, s->entry_count - 1);
    s->entry_count = found.entry_count;
    memcpy(s->entries, found.entries, sizeof(s->entries));
    return OK;
}
