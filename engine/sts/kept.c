/*
 * Policies on stable storage: (kind "sts", key domain) → text
 *
 *   sts1 ID FETCHED_UNIX USED_UNIX LF
 *   the policy's lines
 */
#include <stdio.h>

#include "base/mem.h"
#include "engine/sts/sts_priv.h"
#include "queue/keep.h"

void sts_kept_format(const struct sts_policy *p, int64_t used_unix, struct buf *out)
{
    buf_putf(out, "sts1 %s %lld %lld\n%s", p->id, (long long)p->fetched_unix, (long long)used_unix, p->text);
}

static struct bytes take_word(struct bytes *line)
{
    struct bytes word = bytes_first(*line, bytes_find(*line, ' '));

    *line = bytes_skip(*line, word.len + 1);
    return word;
}

enum err sts_kept_parse(const char *domain, struct bytes value, struct sts_policy **out, int64_t *used_unix)
{
    struct bytes line = bytes_first(value, bytes_find(value, '\n'));
    struct bytes text = bytes_skip(value, line.len + 1);
    char id[STS_ID_MAX + 1] = "";
    uint64_t fetched, used;
    const char *why;

    if (!bytes_eq(take_word(&line), BYTES("sts1")))
        return ERR_VERSION;
    struct bytes word = take_word(&line);
    if (!sts_is_id(word))
        return ERR_CORRUPT;
    memcpy(id, word.at, word.len);
    if (!bytes_parse_u64(take_word(&line), &fetched) || !bytes_parse_u64(line, &used) ||
        fetched > INT64_MAX || used > INT64_MAX)
        return ERR_CORRUPT;
    enum err e = sts_policy_parse(domain, id, text, out, &why);
    if (e)
        return ERR_CORRUPT;
    (*out)->fetched_unix = (int64_t)fetched;
    *used_unix = (int64_t)used;
    return OK;
}

void sts_kept_save(struct sts *s, const struct sts_entry *e)
{
    BUF_LOCAL(value);

    if (!s->setup.store)
        return;
    sts_kept_format(e->policy, e->used_unix, &value);
    store_keep_set(s->setup.store, STS_KEEP_KIND, e->domain, buf_bytes(&value));
}

void sts_kept_drop(struct sts *s, const char *domain)
{
    if (s->setup.store)
        store_keep_drop(s->setup.store, STS_KEEP_KIND, domain);
}

/* ---- at start ---- */

static bool take_kept(void *arg, const struct kept *k)
{
    struct sts *s = arg;
    struct sts_policy *policy = NULL;
    int64_t now = s->setup.now_unix(), used;

    if (store_owner(bytes_of(k->key), s->setup.workers) != s->setup.worker)
        return true;
    enum err err = sts_kept_parse(k->key, k->value, &policy, &used);
    if (err || !sts_policy_is_fresh(policy, now)) {
        if (err)
            log_warn(s->setup.log, "sts.kept_unreadable", LOG_STR("domain", k->key), LOG_ERR(err));
        sts_policy_unref(policy);
        sts_kept_drop(s, k->key);
        return true;
    }
    /* A clock that was ahead must not make a policy live longer. */
    policy->fetched_unix = MIN_OF(policy->fetched_unix, now);
    struct sts_entry *e = sts_entry_ensure(s, k->key);
    sts_entry_set(s, e, policy);
    sts_entry_plan(s, e);
    e->used_unix = MIN_OF(used, now);
    /* As it was planned then; what fell due meanwhile is spread over an hour. */
    if (e->refresh_unix) {
        int64_t due = e->refresh_unix - (now - policy->fetched_unix);
        e->refresh_unix = MAX_OF(due, now + (int64_t)(worker_random() % 3600));
    }
    return true;
}

enum err sts_kept_load(struct sts *s)
{
    enum err e = keep_read(s->setup.dir, STS_KEEP_KIND, NULL, take_kept, s);

    if (!e && s->entries.count)
        log_info(s->setup.log, "sts.kept_loaded", LOG_INT("policies", s->entries.count));
    return e == ERR_NOT_FOUND ? OK : e;
}
