/*
 * The queue on stable storage, as an interface of batches with asynchronous answers: nothing above queue/
 * knows which store it talks to.
 *
 * Thread    one store thread owns the one SQLite connection that writes and checkpoints; requests are notes
 *           posted from any thread and answered by posting the same note to the request's `reply_to`.
 *           It takes everything that waits, writes bodies and envelopes, one fdatasync, then answers everybody (group
 *           commit); it never waits on a timer to do so.  Rows follow in one transaction within settle_ms, for what
 *           is not delivered by then; a start finds what has none in the spool.  Readers of queue.db who must see
 *           all that was answered call store_settle before they look.
 * Leases    a recipient handed to a worker, fresh from accept or by store_page, is leased to it until its
 *           result is committed (history → store_post_results) or it is given back (store_give_back).  A
 *           leased recipient is in no page.  Leases are memory: after a restart nothing is leased.
 * Hot, cold A domain is hot unless its worker said store_cold: jobs of accepted mail go straight to the worker
 *           that owns the domain.  A cold domain's mail stays on disk, and costs no memory, until a page that
 *           empties its backlog makes it hot again (in the same step, so that nothing falls between).
 */
#pragma once

#include "base/inbox.h"
#include "base/pulse.h"
#include "policy/outcome.h"
#include "queue/accounts.h"
#include "queue/history.h"
#include "queue/message.h"
#include "queue/spool.h"

struct store;

/* Which worker owns a domain. */
unsigned store_owner(struct bytes domain, unsigned workers);

/* Notes that the store posts to workers by itself; the receiver destroys them. */
struct store_jobs { /* freshly accepted mail for hot domains that this worker owns */
    struct note note;
    struct list jobs; /* struct job, in order of acceptance */
};
void store_jobs_destroy(struct store_jobs *j); /* with the jobs left in it */
/*
 * Domains with mail on disk: at start (by and by), after release or retry, scheduled or deferred mail, jobs given back while the
 * domain is hot, and when the wall clock was set (times that a worker remembers are then worthless: a page says the
 * new ones).
 */
struct store_wake_item {
    char *domain;
    int64_t due_unix;
    int32_t lane; /* mail of a lane came to a cold domain that had none of it on disk; -1: all lanes are meant */
};
struct store_wake {
    struct note note;
    size_t count;
    struct store_wake_item *items;
};
void store_wake_destroy(struct store_wake *w);

struct store_config {
    const char *dir;              /* data directory */
    uint64_t segment_bytes;       /* 0: 8 MiB */
    bool keeps_copies;            /* a content is stored with each message, also one that many have in common */
    uint64_t wal_limit_bytes;     /* checkpoint by then */
    uint64_t reserve_bytes;       /* free space below which new mail gets 452 */
    unsigned workers;
    struct inbox *const *inboxes; /* one per worker */
    note_fn on_jobs;              /* struct store_jobs; run on the worker */
    note_fn on_wake;              /* struct store_wake; run on the worker */
    note_fn on_final_due;         /* struct note, run on worker 0: rows wait for store_final_page; freed by mem_free */
    unsigned settle_ms;           /* how long rows may come after the answer to an accept (see below); 0: they come before */
    unsigned history_days;        /* how long history keeps its files, and the tally its days; 0: for ever */
};

/*
 * Locks the data directory, opens or makes queue.db, applies what history holds as final, starts the thread.
 * On failure *why is a sentence that says what to do (mem_free): second daemon, foreign, damaged or newer database, not
 * writable, no space.  An empty queue is never made in place of one that cannot be read.
 */
MUST_CHECK enum err store_open(const struct store_config *config, struct store **out, char **why);
/* The process that has locked the data directory `dir`, or 0.  For who wants to know before opening it. */
long store_user_of(const char *dir);
char *store_in_use(long pid, const char *dir); /* the sentence about it (mem_free) */
/*
 * Begins sending wakes, once the workers run: to domains with mail of high priority at once, to others some thousands
 * at first, then as they are wanted, and in any case some hundreds a second (queue/store_walk.c).
 */
void store_start(struct store *s);
/* Any thread.  Have some not been woken yet?  Then a worker that has room for more may ask for them. */
bool store_has_more_domains(const struct store *s);
void store_want_domains(struct store *s);
/*
 * The process is about to end, and jobs will come back by the ten thousand: from now on those that have rows which
 * wait are only let go, as if the process had been killed; the next start finds them.  Pages are empty.  Any thread.
 */
void store_expect_end(struct store *s);
/* Commits what was posted, checkpoints, ends the thread, unlocks. */
void store_close(struct store *s);
struct spool *store_spool(struct store *s);
struct flight *store_flight(struct store *s); /* queue/flight.h; borrowed */
/*
 * Returns when all that was answered before has its rows (or the disk refuses them); false: the store's thread is stuck,
 * says the watchdog, and what is there must do.  Any thread but the store's; blocks.
 */
bool store_settle(struct store *s);
struct pulse *store_pulse(struct store *s); /* of its thread, for the watchdog */

typedef void (*store_reply_fn)(struct note *note, void *owner);
struct store_request { /* first member of every request */
    struct note note;
    struct inbox *reply_to;  /* NULL: no answer wanted, the store frees the request */
    store_reply_fn on_reply; /* run by the owner of reply_to */
    enum err result;
    int type;                /* the store's */
};

/* Accept: 250 may be said once the answer is OK.  ERR_NOSPACE → 452 4.3.1, other errors → 451 4.3.0. */
struct store_accept {
    struct store_request req;
    struct message *message;  /* counted: the request's reference; body not yet stored */
    int64_t not_before_unix;  /* X-Hayauma-Schedule; 0: now */
    /* Rows settled in the same transaction, for a DSN: */
    struct { uint64_t message_id; uint32_t rcpt_no; bool mark_delay_only; } *settles; /* owned */
    size_t settle_count;
};
void store_post_accept(struct store *s, struct store_accept *a);
void store_accept_destroy(struct store_accept *a); /* by the receiver of the answer */

/* By the history thread, when the attempts are safe.  (day, row) is the newest record in the batch. */
void store_post_results(struct store *s, struct attempt_batch *batch, int64_t day, int64_t row);
/* Attempts that were posted and are not committed yet; any thread. */
size_t store_backlog(struct store *s);

#define STORE_PAGE_MAX 65536 /* recipients in one page; a larger limit is cut to it */
/*
 * Recipients of one domain that are due and not leased: of each lane (queue/lane.h) as many as of any other, oldest due
 * first, the priorities sharing as they do when they are sent.
 */
struct store_page {
    struct store_request req;
    char *domain;      /* owned */
    uint32_t limit;    /* recipients */
    bool only_lane;    /* of `lane` alone; whether the domain is cold stays as it is */
    uint16_t lane;
    struct list jobs;  /* out: struct job, the lanes one after the other; bodies not loaded (body->mem NULL) */
    uint16_t *left;    /* out, owned: lanes in this page of which more is due; NULL: none */
    uint32_t left_count;
    bool more;         /* out: other due rows are left, and the domain is cold; else it is hot now */
    int64_t next_due_unix; /* out: earliest due of what is not due yet, if !more; else perhaps; 0: none known */
};
void store_post_page(struct store *s, struct store_page *p);
void store_page_destroy(struct store_page *p);

/* From now on accepted mail of this domain stays on disk. */
void store_post_cold(struct store *s, const char *domain);
/* These jobs were not attempted; the leases end.  Takes all jobs of the list.  Follow with store_cold first if they
 * are to stay on disk. */
void store_post_give_back(struct store *s, struct list *jobs);

/* Which recipients an operator means; all given fields must hold. */
struct queue_selector {
    uint64_t message_id;      /* 0: any */
    char *recipient, *campaign, *sender, *account; /* owned, or NULL */
    char **domains;           /* owned; NULL: any */
    size_t domain_count;
    bool all;                 /* must be set if nothing else is */
};
void queue_selector_fini(struct queue_selector *s);
enum queue_op {
    QUEUE_RETRY,
    QUEUE_HOLD,    /* also what a paused campaign holds: then it stays when that goes on */
    QUEUE_RELEASE, /* of a paused campaign: it waits for that instead */
    QUEUE_BOUNCE,
    QUEUE_CANCEL,
    QUEUE_PAUSE,   /* queue/campaigns.h: with its campaign as the selector */
    QUEUE_RESUME,
    QUEUE_EXPIRE,  /* what has not ended of campaigns that are over */
};
/* In chunks between other work.  Rows in flight keep their result; if that is "deferred", the operation holds. */
struct store_op {
    struct store_request req;
    struct queue_selector which;
    enum queue_op op;
    uint64_t changed; /* out */
};
void store_post_op(struct store *s, struct store_op *op);
void store_op_destroy(struct store_op *op);

/* Rows that are final but owe something: a DSN, or (ended by an operator, or with their campaign) their record. */
enum final_kind { FINAL_DSN_OWED, FINAL_OPERATOR_BOUNCE, FINAL_OPERATOR_CANCEL, FINAL_CAMPAIGN_OVER };
struct final_row {
    enum final_kind kind;
    struct rcpt rcpt;
    struct outcome outcome; /* FINAL_DSN_OWED: as recorded; OUTCOME_DELIVERED: NOTIFY=SUCCESS, peer without DSN */
    char *remote_mx;        /* or NULL */
    int64_t at_unix;        /* last attempt */
};
struct final_message {
    struct list node;
    struct message *message; /* counted; body not loaded */
    struct final_row *rows;
    uint32_t count;
};
struct store_final_page {
    struct store_request req;
    uint32_t limit;
    struct list messages; /* out: struct final_message; the rows are leased to the asker */
};
void store_post_final_page(struct store *s, struct store_final_page *p);
void store_final_page_destroy(struct store_final_page *p);
void final_message_destroy(struct final_message *f);
/* Nothing came of these: their leases end, and on_final_due comes again.  Takes all messages of the list. */
void store_post_final_give_back(struct store *s, struct list *messages);

/* Any thread.  A campaign that is over since, by the wall clock, and for which QUEUE_EXPIRE has not been said yet, or
 * NULL (mem_free).  It comes again until store_campaign_settled. */
char *store_campaign_over(struct store *s);
void store_campaign_settled(struct store *s, const char *id);

/* Policy versions (policy/policy.h has the meaning; here they are texts). */
struct store_policy_save {
    struct store_request req;
    char *text, *author, *comment; /* owned */
    uint64_t expected_version;     /* refuse with ERR_BUSY when another is current; 0: do not check */
    uint64_t version;              /* out */
};
void store_post_policy_save(struct store *s, struct store_policy_save *p);
void store_policy_save_destroy(struct store_policy_save *p);

/* Accounts; the new snapshot is published (accounts_current) before the answer. */
struct store_account {
    struct store_request req;
    bool remove;
    struct account account; /* owned by the request; name says which */
};
void store_post_account(struct store *s, struct store_account *a);
void store_account_destroy(struct store_account *a);
/* Any thread; counted. */
struct accounts *store_accounts(struct store *s);

/* Any thread, from memory. */
struct store_stats {
    uint64_t waiting, held, paused, messages, domains_cold, leased; /* recipients, unless named otherwise */
    uint64_t accepted_messages, accepted_rcpts, delivered, bounced, expired, cancelled, deferred; /* since start */
    uint64_t commits, commit_us_total, batch_max, wal_bytes, spool_bytes, segments;
    uint64_t shared_bytes;    /* since start: octets of accepted bodies that were not stored again */
    bool full;                /* accepting stopped for want of space */
    char last_error[160];     /* "" or what the disk or SQLite last said */
};
void store_stats(struct store *s, struct store_stats *out);
