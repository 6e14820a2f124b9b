#include "engine/tlsrpt/received.h"

#include <gnutls/crypto.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/inbox.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/tlsrpt/extract.h"
#include "engine/tlsrpt/gzip.h"
#include "engine/tlsrpt/incoming.h"
#include "engine/tlsrpt/report.h"
#include "queue/keep.h"

#define DAY_SECONDS   86400
#define PURGE_EVERY_S 3600
#define HEAD_ROOM     16384
#define DOMAINS_SHOWN 20

/* What the whole process bounds; under the lock. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int64_t bytes_day, purged_unix;
static uint64_t day_bytes;

struct taking {
    const struct received_from *from;
    struct buf *answer;
    const char *why;
    enum err result;
    size_t taken;
};

/* ---- asking the store from here: we may wait ---- */

static void on_reply(struct note *note, void *owner)
{
    (void)note;
    (void)owner;
}

struct asking {
    struct doorbell bell;
    struct inbox inbox;
};

static void asking_begin(struct asking *a, struct store_request *r)
{
    doorbell_init(&a->bell);
    inbox_init(&a->inbox, NULL, doorbell_ring, &a->bell);
    r->reply_to = &a->inbox;
    r->on_reply = on_reply;
}

static void asking_end(struct asking *a)
{
    do /* the ring first: it comes after the note, and the bell is ours only when it has rung */
        doorbell_wait(&a->bell, -1);
    while (inbox_drain(&a->inbox) == 0);
    doorbell_fini(&a->bell);
}

static bool is_kept(struct store *store, const char *key)
{
    struct store_keep *k = store_keep_make(RECEIVED_KEEP_KIND, key, (struct bytes){0});
    struct asking a;

    asking_begin(&a, &k->req);
    store_post_keep_get(store, k);
    asking_end(&a);
    bool found = k->req.result == OK;
    store_keep_destroy(k);
    return found;
}

static enum err keep(struct store *store, const char *key, struct bytes value)
{
    struct store_keep *k = store_keep_make(RECEIVED_KEEP_KIND, key, value);
    struct asking a;

    asking_begin(&a, &k->req);
    store_post_keep_put(store, k);
    asking_end(&a);
    enum err e = k->req.result;
    store_keep_destroy(k);
    return e;
}

/* ---- what is too old ---- */

struct purging {
    struct store *store;
    int64_t before_unix;
};

static bool purge_one(void *arg, const struct kept *k)
{
    const struct purging *p = arg;
    int64_t begin;

    if (tlsrpt_day_parse(bytes_first(bytes_of(k->key), TLSRPT_DAY_BYTES - 1), &begin) &&
        begin >= p->before_unix)
        return false; /* the keys are sorted by day */
    store_keep_drop(p->store, RECEIVED_KEEP_KIND, k->key);
    return true;
}

static void purge(const struct received_from *from, int64_t now)
{
    struct purging p = {from->store, now - (int64_t)from->days * DAY_SECONDS};

    if (!from->days || now < purged_unix + PURGE_EVERY_S)
        return;
    purged_unix = now;
    enum err e = keep_read(from->dir, RECEIVED_KEEP_KIND, NULL, purge_one, &p);
    if (e && e != ERR_NOT_FOUND)
        log_warn(NULL, "tlsrpt.purge", LOG_ERR(e));
}

/* ---- one report ---- */

/* Who sent which: the same octets give the same key, and so does the same report packed in another way. */
static void key_of(const struct tlsrpt_in *in, struct bytes json, struct buf *out)
{
    unsigned char digest[32];
    char day[TLSRPT_DAY_BYTES];
    BUF_LOCAL(text);

    buf_puts(&text, in->organization);
    buf_putc(&text, '\0');
    buf_puts(&text, in->report_id);
    buf_putf(&text, " %lld %lld", (long long)in->begin_unix, (long long)in->end_unix);
    if (!*in->report_id)
        buf_put(&text, json);
    if (gnutls_hash_fast(GNUTLS_DIG_SHA256, text.at, text.len, digest) != 0)
        abort(); /* there is SHA-256 in any GnuTLS */
    buf_putf(out, "%s/", tlsrpt_day_format(in->begin_unix, day));
    for (size_t i = 0; i < 8; i++)
        buf_putf(out, "%02x", digest[i]);
}

static void put_domains(struct buf *out, const struct tlsrpt_in *in)
{
    size_t shown = 0;

    json_begin(out, "domains", '[');
    for (size_t i = 0; i < in->policy_count && shown < DOMAINS_SHOWN; i++) {
        bool before = false;
        for (size_t j = 0; j < i && !before; j++)
            before = strcmp(in->policies[i].domain, in->policies[j].domain) == 0;
        if (before)
            continue;
        json_put_text(out, NULL, in->policies[i].domain);
        shown++;
    }
    json_end(out, ']');
}

static void put_head(struct buf *out, const struct tlsrpt_in *in, const struct received_from *from)
{
    json_put_text(out, "organization", in->organization);
    json_put_text(out, "contact", in->contact);
    json_put_text(out, "report_id", in->report_id);
    json_put_text(out, "via", from->via);
    json_put_text(out, "dkim", from->dkim ? from->dkim : "");
    json_put_text(out, "signer", from->signer ? from->signer : "");
    json_put_int(out, "at_unix", clock_unix());
    json_put_int(out, "begin_unix", in->begin_unix);
    json_put_int(out, "end_unix", in->end_unix);
    json_put_count(out, "successful", in->successful);
    json_put_count(out, "failed", in->failed);
    put_domains(out, in);
    json_begin(out, "deviations", '[');
    for (unsigned i = 0; tlsrpt_deviation_name(i); i++)
        if (in->deviations & BIT(i))
            json_put_text(out, NULL, tlsrpt_deviation_name(i));
    json_end(out, ']');
}

static int by_count(const void *a, const void *b)
{
    const struct tlsrpt_in_failure *x = a, *y = b;

    return x->count == y->count ? 0 : x->count > y->count ? -1 : 1;
}

/* Only the largest failure-details of each policy; how many were left out. */
static size_t cut_failures(struct tlsrpt_in *in, size_t max)
{
    size_t cut = 0;

    for (size_t i = 0; i < in->policy_count; i++) {
        struct tlsrpt_in_policy *p = &in->policies[i];
        if (p->failure_count <= max)
            continue;
        qsort(p->failures, p->failure_count, sizeof(*p->failures), by_count);
        cut += p->failure_count - max;
        p->failure_count = max;
    }
    return cut;
}

/* Head and gzipped report, small enough to be kept.  False: not even without failure-details. */
static bool value_of(struct tlsrpt_in *in, const struct received_from *from, struct buf *value)
{
    size_t cut = 0;

    for (size_t max = TLSRPT_FAILURES_MAX;; max /= 4) {
        BUF_LOCAL(json);
        cut += cut_failures(in, max);
        tlsrpt_in_format(in, &json);
        buf_clear(value);
        json_begin(value, NULL, '{');
        put_head(value, in, from);
        json_put_count(value, "failures_left_out", cut);
        json_end(value, '}');
        buf_putc(value, '\n');
        gzip_pack(buf_bytes(&json), value);
        if (value->len <= KEEP_VALUE_MAX)
            return true;
        if (!max)
            return false;
    }
}

static bool day_has_room(size_t len, int64_t now)
{
    if (now / DAY_SECONDS != bytes_day) {
        bytes_day = now / DAY_SECONDS;
        day_bytes = 0;
    }
    return day_bytes + len <= RECEIVED_DAY_BYTES;
}

static void put_answer(struct taking *t, const struct tlsrpt_in *in, const char *key, bool is_new)
{
    if (!t->answer)
        return;
    json_begin(t->answer, NULL, '{');
    json_put_text(t->answer, "key", key);
    json_put_bool(t->answer, "new", is_new);
    put_head(t->answer, in, t->from);
    json_end(t->answer, '}');
}

static enum err take_parsed(struct taking *t, struct tlsrpt_in *in, struct bytes json)
{
    BUF_LOCAL(key);
    BUF_LOCAL(value);

    key_of(in, json, &key);
    if (!value_of(in, t->from, &value)) {
        t->why = "it is too large to be kept";
        return ERR_FULL;
    }
    if (!day_has_room(value.len, clock_unix())) {
        t->why = "more reports came today than are kept in a day";
        return ERR_NOSPACE;
    }
    bool is_new = !is_kept(t->from->store, buf_str(&key));
    enum err e = keep(t->from->store, buf_str(&key), buf_bytes(&value));
    if (e) {
        t->why = "it cannot be stored";
        return e;
    }
    day_bytes += value.len;
    t->taken++;
    put_answer(t, in, buf_str(&key), is_new);
    log_info(NULL, "tlsrpt.received", LOG_STR("from", in->organization), LOG_STR("report", in->report_id),
             LOG_STR("via", t->from->via), LOG_STR("dkim", t->from->dkim ? t->from->dkim : "-"),
             LOG_INT("successful", in->successful), LOG_INT("failed", in->failed),
             LOG_STR("new", is_new ? "yes" : "no"));
    return OK;
}

static void take_one(void *arg, struct bytes json)
{
    struct taking *t = arg;
    struct arena arena = {0};
    struct tlsrpt_in in;
    const char *why = NULL;
    enum err e = tlsrpt_in_parse(json, &arena, &in, &why);

    if (e)
        t->why = why;
    else
        e = take_parsed(t, &in, json);
    if (e)
        t->result = e;
    arena_fini(&arena);
}

enum err received_take(const struct received_from *from, struct bytes octets, struct buf *answer,
                       const char **why)
{
    struct taking t = {.from = from, .answer = answer};

    pthread_mutex_lock(&lock);
    purge(from, clock_unix());
    enum err e = tlsrpt_extract(octets, take_one, &t, &t.why);
    pthread_mutex_unlock(&lock);
    *why = t.why ? t.why : "";
    return e ? e : t.result;
}
