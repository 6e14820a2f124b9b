/*
 * One live lookup.  RFC 8461:
 *
 *   TXT _mta-sts.DOMAIN ──none or bad (§3.1)──────────────────────────→ end: what is cached stays in force
 *     │ id                └─failed──→ end, and the failure is noted; a refresh fetches nevertheless
 *     ├─ id as cached, within max_age ──→ askers have their answer ──→ end, or a refresh goes on
 *     ├─ id failed not long ago (§3.3) ─→ end: cached, or none with the failure
 *     ▼
 *   GET https://mta-sts.DOMAIN/.well-known/mta-sts.txt ──good──→ cached, kept ──→ end
 *                                                      └─bad───→ noted; cached stays ──→ end
 */
#include <assert.h>

#include "base/mem.h"
#include "engine/dns/packet.h"
#include "engine/sts/sts_priv.h"

struct sts_job {
    struct sts *s;
    struct sts_entry *entry;
    enum sts_want want;
    struct list queries;
    struct dns_query *dns;
    struct fetch *fetch;
    bool settled;
    char id[STS_ID_MAX + 1]; /* "": TXT could not be had, and a refresh keeps the id that is known */
};

/* ---- ending ---- */

static void answer_all(struct sts_job *j)
{
    struct list *node;

    while ((node = list_pop(&j->queries)))
        sts_query_answer(LIST_ENTRY(node, struct sts_query, node), j->entry);
}

static void finish(struct sts_job *j)
{
    struct sts *s = j->s;
    struct sts_entry *e = j->entry;

    answer_all(j);
    sts_job_free(s, e);
    sts_entry_settle(s, e);
}

static void note_failure(struct sts_job *j, enum tls_failure failure, const char *why)
{
    struct sts_entry *e = j->entry;
    char *text = mem_strdup(why); /* it may be e->why */

    mem_free(e->why);
    e->why = text;
    e->failure = failure;
    e->failed_unix = j->s->setup.now_unix();
}

/* ---- the policy file ---- */

static enum tls_failure failure_of(enum fetch_end end)
{
    switch (end) {
    case FETCH_CERTIFICATE: return TLS_FAILURE_STS_WEBPKI_INVALID;
    case FETCH_TYPE:
    case FETCH_TOO_LARGE: return TLS_FAILURE_STS_POLICY_INVALID;
    default: return TLS_FAILURE_STS_POLICY_FETCH_ERROR;
    }
}

static int64_t wait_s(unsigned failures)
{
    int64_t s = STS_WAIT_S;

    while (failures-- > 1 && s < STS_WAIT_MAX_S)
        s *= 2;
    return MIN_OF(s, STS_WAIT_MAX_S);
}

/* Nobody may learn of a dying policy by its end: §10.2. */
static void alarm_refresh(struct sts_job *j, int64_t now)
{
    struct sts_entry *e = j->entry;

    atomic_fetch_add_explicit(&j->s->counters.refresh_failures, 1, memory_order_relaxed);
    e->refresh_failures++;
    if (e->policy->mode == STS_MODE_NONE || e->refresh_failures < STS_ALARM_FAILURES ||
        now < e->alarm_unix + STS_REFRESH_S)
        return;
    e->alarm_unix = now;
    log_warn(j->s->setup.log, "sts.refresh_failed", LOG_STR("domain", e->domain),
             LOG_STR("mode", sts_policy_mode_name(e->policy->mode)), LOG_INT("failures", e->refresh_failures),
             LOG_INT("expires_in_s", e->policy->fetched_unix + (int64_t)e->policy->max_age_s - now),
             LOG_STR("why", e->why));
}

static void fail_fetch(struct sts_job *j, enum tls_failure failure, const char *why)
{
    struct sts_entry *e = j->entry;
    int64_t now = j->s->setup.now_unix();

    atomic_fetch_add_explicit(&j->s->counters.fetch_failures, 1, memory_order_relaxed);
    note_failure(j, failure, why);
    e->fetch_failure = failure;
    memcpy(e->failed_id, j->id, sizeof(e->failed_id));
    e->failures++;
    e->failed_until_unix = now + wait_s(e->failures);
    log_info(
        j->s->setup.log, "sts.fetch_failed", LOG_STR("domain", e->domain), LOG_STR("id", j->id),
        LOG_STR("failure", tls_failure_name(failure)), LOG_STR("why", why),
        LOG_STR("in_force", sts_entry_in_force(j->s, e) ? sts_policy_mode_name(e->policy->mode) : "nothing"));
    if (!e->policy)
        return;
    e->refresh_unix = e->failed_until_unix;
    if (j->want != STS_WANT_LOOKUP)
        alarm_refresh(j, now);
}

static void take_policy(struct sts_job *j, struct sts_policy *policy)
{
    struct sts_entry *e = j->entry;
    const char *before = sts_entry_in_force(j->s, e) ? sts_policy_mode_name(e->policy->mode) : "nothing";

    policy->fetched_unix = j->s->setup.now_unix();
    if (!e->policy || e->policy->mode != policy->mode || strcmp(e->policy->text, policy->text) != 0)
        log_info(j->s->setup.log, "sts.policy", LOG_STR("domain", e->domain), LOG_STR("id", policy->id),
                 LOG_STR("mode", sts_policy_mode_name(policy->mode)), LOG_STR("before", before),
                 LOG_INT("mx", policy->mx_count), LOG_INT("max_age_s", policy->max_age_s));
    e->failure = TLS_FAILURE_NONE;
    e->failed_id[0] = '\0';
    e->failed_until_unix = 0;
    e->failures = e->refresh_failures = 0;
    e->alarm_unix = 0;
    sts_entry_set(j->s, e, policy);
    sts_entry_plan(j->s, e);
    sts_kept_save(j->s, e);
}

static void on_fetched(void *arg, const struct fetch_result *result)
{
    struct sts_job *j = arg;
    struct sts_policy *policy = NULL;
    const char *why = NULL;

    j->fetch = NULL;
    if (result->end != FETCH_OK)
        fail_fetch(j, failure_of(result->end), result->why);
    else if (sts_policy_parse(j->entry->domain, j->id, result->body, &policy, &why) != OK)
        fail_fetch(j, TLS_FAILURE_STS_POLICY_INVALID, why);
    else
        take_policy(j, policy);
    finish(j);
}

static void fetch_policy(struct sts_job *j)
{
    struct sts *s = j->s;
    BUF_LOCAL(url);

    buf_putf(&url, "https://mta-sts.%s", j->entry->domain);
    if (s->setup.port != 443)
        buf_putf(&url, ":%u", s->setup.port);
    buf_puts(&url, "/.well-known/mta-sts.txt");
    const struct fetch_request request = {
        .url = buf_str(&url),
        .want_type = "text/plain",
        .max_bytes = STS_POLICY_BYTES,
        .timeout_ms = s->setup.fetch_ms,
    };
    if (!j->id[0])
        memcpy(j->id, j->entry->policy->id, sizeof(j->id));
    atomic_fetch_add_explicit(&s->counters.fetches, 1, memory_order_relaxed);
    j->fetch = fetch_start(s->setup.fetcher, &request, on_fetched, j);
}

/* ---- TXT ---- */

/* RFC 1035 §3.3.14: strings with a length octet each; §3.1: they are joined. */
static bool join_strings(struct bytes rdata, struct buf *out)
{
    buf_clear(out);
    while (rdata.len) {
        size_t len = (uint8_t)rdata.at[0];
        rdata = bytes_skip(rdata, 1);
        if (len > rdata.len)
            return false;
        buf_put(out, bytes_first(rdata, len));
        rdata = bytes_skip(rdata, len);
    }
    return true;
}

enum sts_txt sts_txt_choose(const struct bytes *rdata, size_t count, char id[STS_ID_MAX + 1],
                            const char **why)
{
    enum sts_txt found = STS_TXT_NONE;
    char candidate[STS_ID_MAX + 1];
    BUF_LOCAL(text);

    for (size_t i = 0; i < count; i++) {
        bool is_ours = false;
        bool good = join_strings(rdata[i], &text) && sts_txt_parse(buf_bytes(&text), candidate, &is_ours);
        if (!is_ours)
            continue;
        if (found != STS_TXT_NONE) {
            *why = "there are several TXT records of MTA-STS";
            return STS_TXT_BAD;
        }
        found = good ? STS_TXT_GOOD : STS_TXT_BAD;
        *why = good ? "" : "the TXT record of MTA-STS is malformed";
        if (good)
            memcpy(id, candidate, sizeof(candidate));
    }
    return found;
}

static void plan_retry(struct sts_job *j, int64_t at_unix)
{
    if (j->entry->policy && j->want != STS_WANT_LOOKUP)
        j->entry->refresh_unix = at_unix;
}

/* §3.1: a record that is malformed, or one of several, is as good as none: there is no policy that could
 * fail, and TLSRPT must not be told of one. */
static void on_no_id(struct sts_job *j, const char *wrong)
{
    struct sts_entry *e = j->entry;

    if (wrong) {
        note_failure(j, TLS_FAILURE_NONE, wrong);
        e->txt_refused = true;
        log_info(j->s->setup.log, "sts.txt_refused", LOG_STR("domain", e->domain), LOG_STR("why", wrong));
    }
    e->failure = TLS_FAILURE_NONE;
    plan_retry(j, j->s->setup.now_unix() + STS_REFRESH_S); /* given up, it seems: then max_age ends it */
    finish(j);
}

static void on_txt_failed(struct sts_job *j, enum dns_status status)
{
    struct sts_entry *e = j->entry;
    char *why = text_format("the TXT record of _mta-sts.%s cannot be looked up: %s", e->domain,
                            dns_status_name(status));

    note_failure(j, TLS_FAILURE_STS_POLICY_FETCH_ERROR, why);
    mem_free(why);
    if (j->want != STS_WANT_LOOKUP && sts_entry_in_force(j->s, e))
        fetch_policy(j); /* the policy speaks for itself: it is authenticated, TXT is not */
    else
        finish(j);
}

static void on_id(struct sts_job *j)
{
    struct sts *s = j->s;
    struct sts_entry *e = j->entry;
    bool known = sts_entry_in_force(s, e) && strcmp(e->policy->id, j->id) == 0;
    bool must_wait = strcmp(e->failed_id, j->id) == 0 && s->setup.now_unix() < e->failed_until_unix;

    if (known)
        e->failure = TLS_FAILURE_NONE;
    if (known && j->want == STS_WANT_LOOKUP) {
        finish(j);
    } else if (must_wait && j->want != STS_WANT_FORCED) {
        if (!known)
            e->failure = e->fetch_failure;
        plan_retry(j, e->failed_until_unix);
        finish(j);
    } else {
        if (known && j->want == STS_WANT_REFRESH) {
            j->settled = true;
            answer_all(j);
        }
        fetch_policy(j);
    }
}

static void on_txt(void *arg, const struct dns_rrset *set)
{
    struct sts_job *j = arg;
    uint64_t ttl_s = MIN_OF(MAX_OF(set->ttl_s, STS_TXT_MIN_S), STS_TXT_MAX_S);
    const char *why = "";

    j->dns = NULL;
    j->entry->txt_refused = false;
    j->entry->txt_until_ms = uv_now(j->s->setup.loop) + ttl_s * 1000;
    switch (set->status) {
    case DNS_OK: break;
    case DNS_NXDOMAIN:
    case DNS_NODATA:
    case DNS_BAD_NAME: on_no_id(j, NULL); return;
    case DNS_SERVFAIL:
    case DNS_TIMEOUT:
    case DNS_LOOP: on_txt_failed(j, set->status); return;
    }
    switch (sts_txt_choose(set->rdata, set->count, j->id, &why)) {
    case STS_TXT_NONE: on_no_id(j, NULL); return;
    case STS_TXT_BAD: on_no_id(j, why); return;
    case STS_TXT_GOOD: on_id(j); return;
    }
}

/* ---- beginning ---- */

void sts_job_start(struct sts *s, struct sts_entry *e, enum sts_want want)
{
    struct sts_job *j = MEM_NEW(struct sts_job);
    BUF_LOCAL(name);

    assert(!e->job);
    j->s = s;
    j->entry = e;
    j->want = want;
    list_init(&j->queries);
    e->job = j;
    if (want == STS_WANT_REFRESH) {
        s->refreshing++;
        atomic_fetch_add_explicit(&s->counters.refreshes, 1, memory_order_relaxed);
    }
    buf_putf(&name, "_mta-sts.%s", e->domain);
    j->dns = dns_resolve_rrset(s->setup.dns, buf_str(&name), DNS_TYPE_TXT, on_txt, j);
}

bool sts_job_is_settled(const struct sts_job *j)
{
    return j->settled;
}

void sts_job_join(struct sts_job *j, struct sts_query *q)
{
    list_push_back(&j->queries, &q->node);
}

void sts_job_free(struct sts *s, struct sts_entry *e)
{
    struct sts_job *j = e->job;
    struct list *node;

    if (!j)
        return;
    while ((node = list_first(&j->queries)))
        sts_cancel(LIST_ENTRY(node, struct sts_query, node));
    dns_cancel(j->dns);
    fetch_cancel(j->fetch);
    if (j->want == STS_WANT_REFRESH)
        s->refreshing--;
    e->job = NULL;
    mem_free(j);
}
