/*
 * The insides of MTA-STS, for engine/sts/ alone.  One loop, one thread, no locks; counters are read by
 * others.
 *
 *   sts_entry   what is known of one domain: a policy in force, the last failure         cache.c (and kept.c:
 * on disk) sts_job     one live lookup, TXT then HTTPS, shared by all who ask for its domain     live.c
 *   sts_query   one asker                                                                 sts.c
 *
 * An entry is there while it holds a policy, a failure that is to be waited out, or a job.  That a domain has
 * no policy is not kept here: the DNS cache knows.
 */
#pragma once

#include <stdatomic.h>

#include "base/hash.h"
#include "base/list.h"
#include "base/log.h"
#include "engine/dns/dns.h"
#include "engine/net/fetch.h"
#include "engine/sts/sts.h"

#define STS_KEEP_KIND      "sts"
#define STS_WAIT_S         300 /* after a failed fetch of one id, §3.3; doubled while it goes on failing */
#define STS_WAIT_MAX_S     (6 * 3600)
#define STS_REFRESH_S      86400        /* §10.2 */
#define STS_UNUSED_S       (90 * 86400) /* nobody asked for so long: no refresh, and max_age ends it */
#define STS_TXT_MIN_S      60           /* an answer from TXT holds for its TTL, within these */
#define STS_TXT_MAX_S      3600
#define STS_JUST_FETCHED_S 60 /* for so long a policy is in force even when its max_age is 0 */
#define STS_REFRESHES_MAX  16 /* in the background at once */
#define STS_ALARM_FAILURES 3  /* refreshes in a row */

struct sts_setup {
    uv_loop_t *loop;
    struct dns *dns; /* all borrowed */
    struct fetcher *fetcher;
    struct store *store; /* NULL: nothing is kept */
    const char *dir;     /* data directory, read at start; NULL: nothing is read */
    unsigned worker, workers;
    uint16_t port; /* of policy hosts: 443 */
    uint32_t fetch_ms, tick_ms;
    size_t entries_max, bytes_max;
    int64_t (*now_unix)(void);
    const struct log *log;
};
MUST_CHECK enum err sts_open(const struct sts_setup *setup, struct sts **out, char **why);

struct sts_job;

struct sts_entry {
    struct list node;          /* least recently used first */
    char *domain;              /* owned; the key */
    struct sts_policy *policy; /* counted, or NULL; see sts_entry_in_force */
    size_t bytes;              /* of memory */
    struct sts_job *job;       /* or NULL */
    uint64_t txt_until_ms;     /* what TXT said holds until then */
    int64_t used_unix;
    int64_t refresh_unix;     /* 0: none */
    enum tls_failure failure; /* of the last live lookup */
    bool txt_refused;         /* what TXT says last does not count: malformed, or several; as good as none */
    char *why;                /* owned: the newest failure, which may lie behind us; or NULL */
    int64_t failed_unix;
    enum tls_failure fetch_failure; /* of failed_id */
    char failed_id[STS_ID_MAX + 1]; /* fetched in vain; not again before failed_until_unix */
    int64_t failed_until_unix;
    unsigned failures;         /* fetches in a row */
    unsigned refresh_failures; /* refreshes in a row */
    int64_t alarm_unix;        /* last warned of them */
};

struct sts_query {
    struct sts *s;
    struct list node; /* in a job's or the ready list */
    sts_fn fn;        /* NULL: its callback is being made */
    void *arg;
    struct sts_policy *policy; /* the answer, once it is ready */
    enum tls_failure failure;
    char *why;
};

struct sts {
    struct sts_setup setup;
    struct map entries;
    struct list order, ready;
    size_t bytes;
    unsigned refreshing;
    uv_timer_t tick;
    uv_idle_t idle;
    unsigned handles;
    bool closing, told_full;
    void (*on_closed)(void *arg);
    void *on_closed_arg;
    struct {
        atomic_ulong policies, enforced, fetches, fetch_failures, refreshes, refresh_failures, failing;
    } counters;
};

void sts_query_answer(struct sts_query *q,
                      const struct sts_entry *entry); /* ready: delivered from the loop */

/* ---- cache.c ---- */

struct sts_entry *sts_entry_find(struct sts *s, const char *domain); /* used now */
struct sts_entry *sts_entry_ensure(struct sts *s, const char *domain);
/* Takes the policy; NULL takes away what is there. */
void sts_entry_set(struct sts *s, struct sts_entry *e, struct sts_policy *policy);
bool sts_entry_in_force(const struct sts *s, const struct sts_entry *e);
void sts_entry_settle(struct sts *s, struct sts_entry *e); /* after a job: frees it if it holds nothing */
void sts_entry_free(struct sts *s, struct sts_entry *e);
void sts_entry_plan(struct sts *s, struct sts_entry *e); /* the next refresh, after a good fetch */
void sts_cache_tick(struct sts *s);                      /* expiry, refreshes, counters */
void sts_cache_fini(struct sts *s);

/* ---- kept.c ---- */

void sts_kept_save(struct sts *s, const struct sts_entry *e);
void sts_kept_drop(struct sts *s, const char *domain);
MUST_CHECK enum err sts_kept_load(struct sts *s);
/* Pure: the stored value and back. */
void sts_kept_format(const struct sts_policy *p, int64_t used_unix, struct buf *out);
MUST_CHECK enum err sts_kept_parse(const char *domain, struct bytes value, struct sts_policy **out,
                                   int64_t *used_unix);

/* ---- live.c ---- */

enum sts_want {
    STS_WANT_LOOKUP,  /* fetch when the id is new, or nothing is in force */
    STS_WANT_REFRESH, /* fetch in any case, unless the domain has given MTA-STS up */
    STS_WANT_FORCED,  /* the same, asked for by a person: without waiting out an earlier failure */
};
void sts_job_start(struct sts *s, struct sts_entry *e, enum sts_want want);
bool sts_job_is_settled(const struct sts_job *j); /* its askers have their answer, it only refreshes now */
void sts_job_join(struct sts_job *j, struct sts_query *q);
void sts_job_free(struct sts *s, struct sts_entry *e); /* cancels; its queries are freed */
/* §3.1: the one usable record of a TXT answer.  Joins the strings of each. */
enum sts_txt { STS_TXT_NONE, STS_TXT_GOOD, STS_TXT_BAD };
enum sts_txt sts_txt_choose(const struct bytes *rdata, size_t count, char id[STS_ID_MAX + 1],
                            const char **why);
