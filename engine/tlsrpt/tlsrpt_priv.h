/* What the files of outgoing reports share. */
#pragma once

#include <jansson.h>
#include <uv.h>

#include "base/hash.h"
#include "base/list.h"
#include "engine/conf.h"
#include "engine/dns/dns.h"
#include "engine/net/fetch.h"
#include "engine/tlsrpt/record.h"
#include "engine/tlsrpt/report.h"
#include "engine/tlsrpt/tlsrpt.h"
#include "engine/worker.h"
#include "queue/keep.h"

#define DAY_SECONDS      86400
#define SETTLE_SECONDS   60    /* after midnight, until all sessions of the day are in history */
#define RETRY_MAX_S      14400 /* RFC 8460 §5.5: back-off … */
#define RETRY_FOR_S      86400 /* … for a day */
#define KEPT_DAYS        30
#define LOOKUPS_AT_ONCE  16
#define REPORTS_AT_ONCE  4
#define HISTORY_LIMIT_MS 600000
#define RUN_AGAIN_S      600 /* after history could not be read */
#define RUN_FAILURES_MAX 6   /* … and then the next day is made, if there is one */
#define MADE_UP_DAYS     7   /* before yesterday, when nobody was there to report them */
#define DNS_TYPE_TXT     16

/* What reports say of us: a copy, for the thread pool. */
struct reporter {
    char *dir, *host_name, *organization, *contact; /* owned */
};
void reporter_init(struct reporter *r, const struct worker *w);
void reporter_fini(struct reporter *r);

struct day_run;

/*
 * One report.  Its steps follow one another, so that at most one answer is awaited at a time; it dies after
 * the last, or with the worker.
 */
struct task {
    struct list node; /* tlsrpt->tasks */
    struct tlsrpt *t;
    char *key, *domain; /* owned */
    int64_t begin_unix, next_unix;
    bool part, busy;
    struct tlsrpt_order *order; /* counted; NULL: nobody waits */
    /* while busy: */
    json_t *head;
    struct buf gz;
    size_t at, good; /* of the URIs: tried, taken */
    struct dns_query *query;
    struct fetch *fetch;
};

struct tlsrpt {
    struct worker *w;
    bool closed;
    struct list tasks; /* all that wait or are being sent */
    struct map by_key; /* the same */
    size_t busy;
    struct day_run *run; /* under way, or NULL */
    struct {             /* the day being reported: yesterday, or one to be made up for */
        int64_t begin_unix, due_unix;
        unsigned failures;
        bool done;
    } plan;
};
static inline const struct conf *tlsrpt_conf(const struct tlsrpt *t)
{
    return worker_conf(t->w);
}

/*
 * "2026-11-21/example.com", and "2026-11-21/example.com+part" for what was told of a day before it was over:
 * the two never get in each other's way.
 */
#define PART_SUFFIX "+part"
void tlsrpt_key(int64_t begin_unix, const char *domain, bool part, struct buf *out);
/* The value: the head, and after its line end the octets (or none). */
void tlsrpt_kept_format(const json_t *head, struct bytes gz, struct buf *out);
bool tlsrpt_kept_parse(struct bytes value, json_t **head, struct bytes *gz); /* *head: a new reference */
/* A report's head at its beginning: state "lookup".  `part`: of a day that ends now. */
json_t *tlsrpt_head_make(const char *domain, int64_t begin_unix, bool part);
/* What the report says of itself; strings borrow from r and head. */
struct tlsrpt_about tlsrpt_about_of(const struct reporter *r, const json_t *head);
/*
 * The octets of a report, gzipped, small enough to be kept; into `head` go its names, sums and size.  `rows`
 * are all of the domain.
 */
void tlsrpt_octets_make(const struct reporter *r, const struct report_session_sum *rows, size_t count,
                        json_t *head, struct buf *gz);
/* The JSON list of a record's URIs, and one of them back. */
json_t *tlsrpt_rua_list(const struct tlsrpt_record *record);
bool tlsrpt_rua_at(const json_t *head, size_t i, struct tlsrpt_rua *out); /* borrows from head */
json_int_t tlsrpt_head_int(const json_t *head, const char *name);
const char *tlsrpt_head_text(const json_t *head, const char *name);

/* tlsrpt_day.c */
void day_run_start(struct tlsrpt *t, int64_t begin_unix);
void day_run_close(struct day_run *run);

/* tlsrpt_task.c: one report on its way. */
struct task *task_create(struct tlsrpt *t, const char *domain, int64_t begin_unix, bool part,
                         int64_t next_unix);
struct task *task_find(struct tlsrpt *t, const char *domain, int64_t begin_unix, bool part);
void task_start_due(struct tlsrpt *t, int64_t now_unix);
void task_close(struct task *task);
void task_destroy(struct task *task);

/* tlsrpt_mail.c: one report mail into our queue.  fn is called once, at once or later; not after
 * tlsrpt_close. */
typedef void (*mail_post_fn)(void *arg, enum err e, const char *why);
void mail_post(struct tlsrpt *t, const json_t *head, const char *to, struct bytes gz, mail_post_fn fn,
               void *arg);
