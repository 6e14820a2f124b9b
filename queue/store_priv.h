/*
 * The store's inside, for the store_*.c files alone.
 *
 * One turn of the store thread: notes are taken up in order; the rest than accepts is put on lists.  Bodies are written
 * with their envelopes and synced: that makes a message safe, so its accept is answered and its jobs go out (an
 * *early* answer, where settle_ms allows it).  When something asks for it, and at the latest settle_ms after the first of
 * them, the turn *settles*: in one transaction, rows are inserted for what was accepted and is not delivered yet, results,
 * returned jobs and changes by operators are applied, it commits, and only then is anything told to anybody: answers
 * to accepts that could not be early, wakes, ended leases.  When the transaction fails, all of it is taken back: accepts
 * without an answer get the error, and the rest is tried again without them.  Pages are read after the commit, so
 * nobody is handed a row that could still vanish.
 */
#pragma once

#include <pthread.h>
#include <sys/types.h>

#include "base/hash.h"
#include "base/log.h"
#include "queue/envelope.h"
#include "queue/leases.h"
#include "queue/schema.h"
#include "queue/spool_priv.h"
#include "queue/store.h"

enum request_type { REQ_ACCEPT, REQ_PAGE, REQ_OP, REQ_FINAL_PAGE, REQ_POLICY, REQ_ACCOUNT, REQ_KEEP_PUT, REQ_KEEP_GET };

/* One row of store_sql.c each. */
enum statement {
    ST_BEGIN, ST_BEGIN_READ, ST_COMMIT,
    ST_MESSAGES_ADD, ST_RCPTS_ADD, ST_MESSAGE_DELETE, ST_RCPT_DELETE, ST_RCPT_DELETE_RUN,
    ST_RCPT_STATE, ST_RCPT_ANY, ST_MESSAGE_PLACE, ST_MESSAGE_MOVE,
    ST_RCPT_DEFER, ST_RCPT_SET_STATE, ST_RCPT_GIVE_BACK, ST_RCPT_DELAY_NOTIFIED,
    ST_FINAL_PUT, ST_FINAL_GET, ST_FINAL_DELETE,
    ST_DOMAIN_FIND, ST_DOMAIN_ADD, ST_DOMAIN_NAME,
    ST_SEGMENT_PUT, ST_SEGMENT_DELETE,
    ST_COUNTER_PUT, ST_META_PUT, ST_TALLY_ADD, ST_TALLY_PRUNE,
    ST_LANE_AFTER, ST_LANE_ROWS, ST_PAGE_MESSAGE, ST_PAGE_RCPT,
    ST_FINAL_DUE,
    ST_FRESH_LEFT, ST_NEXT_LANE, ST_CLOCK_ROWS,
    ST_OP_BY_MESSAGE, ST_OP_BY_DOMAIN, ST_OP_OTHER, ST_OP_ALL, ST_RCPT_OP_DUE,
    ST_POLICY_CURRENT, ST_POLICY_ADD,
    ST_ACCOUNT_PUT, ST_ACCOUNT_DELETE, ST_ACCOUNT_ALL,
    ST_KEEP_PUT, ST_KEEP_DROP, ST_KEEP_GET, ST_KEEP_PAGE, ST_KEEP_PRUNE,
    ST_DOMAIN_AFTER, ST_DOMAIN_IS_READY, ST_DOMAIN_OTHERS, ST_DOMAIN_DELETE,
    ST_COUNT
};

#define TOLD_LANES 8 /* as many may come to a cold domain and be told before its next page */
#define TOLD_HIGH  4 /* of high priority, which are always told */

struct store_domain {
    int64_t id;          /* 0: not looked up, or taken back with its transaction */
    uint64_t cold_order; /* of the last call to be cold, see struct waiting */
    uint64_t woken_in;   /* number of the turn in which it stands in a wake */
    uint32_t wake_at;    /* its place there */
    uint32_t name_len;
    uint16_t owner;
    bool cold;
    /* While it is cold: lanes that its worker knows to have mail on disk (store_domains.c). */
    uint8_t told_count, told_high_count, told_high_at;
    uint16_t told[TOLD_LANES + TOLD_HIGH];
    char name[];
};

struct store_segment {
    uint64_t id;
    int64_t live_bytes, total_bytes;     /* as committed */
    int64_t live_change, total_change;   /* in this transaction */
    bool touched, gone, unmovable;
    uint64_t move_after_ms; /* something in it was leased: not before */
    struct store_segment *next_touched;
};

struct row_key {
    uint64_t message_id;
    uint32_t no;
    bool removed;
};

/* A message that has no rows yet. */
struct accepted {
    struct store_accept *a; /* NULL: answered */
    enum err result;        /* not OK: it will have no rows */
    const struct message *message; /* a's; of an answered one only while it settles, then in settle_arena */
    uint64_t id;
    int64_t due_unix;
    size_t first_rcpt; /* index into accepted_rcpts */
    uint32_t rcpt_count, gone; /* all; those delivered meanwhile */
    struct envelope_body body;
    struct buf header;    /* owned: octets being stored, of a long body whose content is shared */
    bool body_is_new;     /* its octets came with this accept */
    bool content_is_new;  /* so did a file for its content */
    bool kept;            /* its octets stay in the spool whatever becomes of it */
    bool is_counted;      /* they are in the sums of their segments already */
    struct buf envelope;  /* owned; empty: not for an early answer */
    struct spool_place envelope_place;
};
struct accepted_rcpt {
    struct store_domain *domain; /* borrowed: the cache is swept when all have settled */
    uint32_t no;
    bool hot, gone;
    uint8_t state; /* enum row_state */
};

/* Accepted in this transaction, by UTC day and campaign. */
struct tally_row {
    int64_t day;
    const char *campaign; /* "" without */
    int64_t messages, rcpts;
};
struct tally {
    struct arena arena; /* rows and keys */
    struct map rows;
    struct tally_row *last;
};

struct wake_list {
    struct store_wake_item *items;
    size_t count, cap;
};

struct returned { /* store_post_give_back */
    struct note note;
    struct list node;
    struct list jobs;
};
struct settle_wait { /* store_settle; of the waiter and the store, the last of whom frees it */
    struct note note;
    struct list node;
    struct doorbell bell;
    atomic_int holders;
};
struct waiting { /* a request on one of the lists below */
    struct list node;
    struct store_request *req;
    uint64_t order; /* of a page among the calls to be cold: whichever was posted last has the last word */
};

struct clock_place {
    int64_t domain_id, due, message_id;
    uint32_t no;
    uint16_t lane;
};
struct clock_pass { /* the wall clock was set: store_clock.c */
    bool under_way, over;
    int64_t before, now;
    int64_t due; /* in each domain and lane, rows due after this are looked at */
    struct clock_place at, saved;
};

struct walk_place {
    int64_t domain_id, lane, due;
};
struct start_walk { /* at start, over the domains with mail on disk: store_walk.c */
    int64_t domain_id, lane;           /* next */
    int64_t high_domain_id, high_lane; /* of the one before it, for high priority */
    uint32_t room;                     /* so many more with due mail may be woken now */
    uint32_t seconds;                  /* since the start */
    bool highs_done, done;
};

struct store_job; /* an operation under way: store_ops.c */
struct contents;  /* what messages share: store_contents.c */
struct mover;     /* stragglers being copied: store_segments.c */

struct store {
    struct store_config config;
    char *dir;
    int lock_fd, reserve_fd;
    sqlite3 *db;
    sqlite3_stmt *st[ST_COUNT];
    struct spool *spool;
    pthread_t thread;
    bool thread_runs;
    struct pulse pulse;
    struct inbox inbox;
    struct doorbell bell;
    atomic_bool stop, started, ending;
    atomic_size_t results_waiting; /* attempts that were posted and are not committed */

    int64_t now_unix;       /* store_now: never goes back, unless the wall clock is set */
    int64_t wall_unix;      /* the wall clock when it was read last, and the monotonic one then */
    uint64_t wall_read_ms;
    struct clock_pass clock_pass;
    uint64_t turn;          /* counts transactions */
    struct note *rest;      /* taken from the inbox, not begun */

    /* this transaction */
    bool in_txn;
    enum err failed;
    int64_t count_change[ROW_STATES], messages_change;
    struct accepted *accepts; /* since the last settling */
    size_t accept_count, accept_cap;
    size_t unanswered;         /* of these */
    size_t turn_accepts;       /* those of this turn begin here */
    size_t rows_from, rows_to; /* of the accepts, those whose rows are being inserted */
    struct accepted_rcpt *accepted_rcpts; /* per recipient of all accepts */
    size_t accepted_rcpt_count, accepted_rcpt_cap;
    uint64_t envelope_bytes;   /* of all accepts */
    uint8_t *states;           /* scratch: of one message's recipients */
    size_t state_cap;
    struct arena settle_arena;
    uint64_t settle_at_ms;     /* 0: nothing waits to be settled */
    uint64_t first_id;         /* no message of an earlier run has this id or a greater one */
    struct row_key *ends;   /* leases that end with the commit */
    size_t end_count, end_cap;
    struct store_segment *touched;
    struct store_domain **new_domains;
    size_t new_domain_count, new_domain_cap;
    struct wake_list *wakes; /* one per worker */
    bool final_new;
    uint64_t put_bytes;
    struct tally tally;

    /* waiting for a transaction */
    struct list results, returned, admins; /* struct results, struct returned, struct waiting */
    size_t results_listed;  /* attempts in `results` */
    size_t results_in_txn, returned_in_txn;
    struct list settles;    /* struct settle_wait */
    uint64_t retry_at_ms;   /* after a failure: not before */
    unsigned failures;      /* in a row */
    /* after it */
    struct list pages, final_pages; /* struct waiting */
    uint64_t page_order;            /* counts pages that were asked for, and calls to be cold */
    struct list ops;                /* struct waiting: first one is under way */
    struct store_job *op;
    bool ops_wait;                  /* for one turn */

    struct flight *flight; /* owned: who may get a second copy if this run is cut short */
    int64_t run_unix;      /* its beginning, as `running` has it */

    /* memory of the whole */
    struct leases leases;
    struct map domains;     /* name → store_domain */
    size_t sweep_at;
    bool forget_wanted;     /* a step of forgetting unused domains is due */
    int64_t forget_after_id;
    uint64_t forget_every_ms; /* an hour */
    uint64_t forgot_all_ms; /* when the last round ended; 0: none yet */
    bool prune_wanted;      /* a step of dropping what was kept long enough is due */
    struct buf prune_after; /* its last key */
    uint64_t pruned_all_ms; /* when the last round ended; 0: none yet */
    struct map segments;    /* id → store_segment */
    struct map campaigns;   /* id → struct campaign_entry: what is kept of them, as committed */
    size_t paused_campaigns, over_campaigns; /* over: with an end, past or to come, that is not settled */
    uint64_t spool_current;
    int64_t counts[ROW_STATES], messages;
    size_t cold_domains;
    int64_t history_day, history_row;
    int64_t tally_pruned_day; /* on which old days were last dropped */
    bool final_noted;       /* worker 0 knows */

    /* background */
    bool fresh_done, start_in_txn;
    uint64_t fresh_id, fresh_max_id;
    uint32_t fresh_no;
    struct start_walk walk, walk_saved; /* saved: as before this transaction */
    atomic_bool walking, walk_wanted;
    struct mover *mover;
    struct contents *contents;
    bool segments_dirty;    /* some segment's share of live octets fell: look for stragglers */
    uint64_t checked_space_ms;
    bool low_space;         /* below the reserve */
    bool failed_space;      /* a write said so */
    bool wal_stuck;
    ino_t file_inodes[2];   /* of queue.db and its WAL, at start */
    bool file_gone;         /* one of them was removed or replaced: nothing new is taken */
    int wal_frames;
    int64_t page_bytes;
    uint64_t wal_warned_ms;

    pthread_mutex_t shared_lock; /* guards what follows */
    struct accounts *accounts;
    uint64_t accounts_generation;
    struct store_stats stats;
};

/* store_sql.c */
MUST_CHECK enum err store_prepare(struct store *s);
void store_finalize(struct store *s);

/* store_txn.c: a transaction from begin to telling */
void store_begin(struct store *s);                /* no-op inside one; failure is remembered in s->failed */
void store_fail(struct store *s, enum err e);     /* this transaction cannot be committed */
void store_turn(struct store *s, struct note *chain);
void store_reply(struct store_request *r, enum err e);
void store_note_error(struct store *s, const char *what, enum err e);
void store_add_wake(struct store *s, struct store_domain *d, int64_t due_unix);
void store_add_lane_wake(struct store *s, struct store_domain *d, uint16_t lane);
void store_end_lease(struct store *s, uint64_t message_id, uint32_t no, bool removed);
void store_count(struct store *s, enum row_state from, enum row_state to);
struct waiting *store_wait(struct list *l, struct store_request *r);

/* store_rows.c: the accepts of a turn as tables that can be inserted from */
#define STORE_ACCEPT_MESSAGE "accept_message"
#define STORE_ACCEPT_RCPT    "accept_rcpt"
MUST_CHECK enum err store_make_row_tables(struct store *s);

/* store_accept.c */
void store_take_accept(struct note *note, void *store);
void store_answer_early(struct store *s);  /* of this turn's accepts those that have an envelope, which is synced */
void store_finish_accepts(struct store *s);             /* committed */
void store_fail_accepts(struct store *s, enum err e);   /* taken back: those without an answer */
void store_forget_accepts(struct store *s);             /* all are settled, or nobody is left to tell */
struct accepted *store_add_accepted(struct store *s, uint32_t rcpts); /* valid until the next */

/* store_settle.c: rows for accepts */
void store_settle_by(struct store *s); /* something waits from now on */
bool store_must_settle(struct store *s, bool due);
void store_insert_accepts(struct store *s, bool with_results); /* for all, but for what these results have delivered */
bool store_is_gone(struct store *s, uint64_t message_id, uint32_t no); /* so it has no row in this transaction */
MUST_CHECK enum err store_write_tally(struct store *s);
void store_forget_tally(struct store *s);

/* store_journal.c: envelopes that have no rows, at start; inside the transaction */
MUST_CHECK enum err store_recover(struct store *s);
/* The key of this run's envelopes (spool_set_key), to be used once the transaction that holds it is committed. */
MUST_CHECK enum err store_new_spool_key(struct store *s, char out[SPOOL_KEY_BYTES]);

/* store_results.c */
#define TURN_RESULTS 4096 /* attempts applied in one transaction, in whole batches */
struct results { /* store_post_results; lies in the batch's arena */
    struct note note;
    struct list node;
    struct attempt_batch *batch;
    int64_t day, row;
};
void store_apply_results(struct store *s);
void store_finish_results(struct store *s);
void store_drop_results(struct store *s); /* at the end: history applies them at the next start */
MUST_CHECK enum err store_delete_row(struct store *s, uint64_t message_id, uint32_t no);
MUST_CHECK enum err store_final_row(struct store *s, uint64_t message_id, uint32_t no, const struct outcome *o,
                                    const char *mx, int64_t at_unix);
MUST_CHECK enum err store_row_state(struct store *s, uint64_t message_id, uint32_t no, int *state); /* -1: none */
MUST_CHECK enum err store_replay(struct store *s, char **why);

/* store_turns.c: whose rows a page gets */
struct page_row {
    uint64_t message_id;
    uint32_t no;
    uint32_t at; /* as it was found */
    uint16_t lane;
};
struct page_rows {
    struct page_row *rows; /* the caller's, room for `limit`; those of a lane together, oldest due first */
    uint32_t count;
    uint16_t *left; /* owned: lanes in it that have more */
    uint32_t left_count;
    bool more;             /* in any lane */
    int64_t next_due_unix; /* 0: none known */
};
MUST_CHECK enum err store_find_page(struct store *s, struct store_domain *d, const struct store_page *p,
                                    struct page_rows *out);

/* store_page.c, store_final.c */
void store_serve_pages(struct store *s);
void store_serve_final_pages(struct store *s);
/* The message `id` with its envelope, body and `total`, without recipients; ERR_NOT_FOUND. */
MUST_CHECK enum err store_load_message(struct store *s, uint64_t id, struct message *out, struct arena *arena);
MUST_CHECK enum err store_load_rcpt(struct store *s, uint64_t id, uint32_t no, struct rcpt *out, int64_t *domain_id,
                                    struct arena *arena);

/* store_domains.c */
struct store_domain *store_domain(struct store *s, struct bytes name); /* made if need be; id may be 0 */
MUST_CHECK enum err store_domain_find(struct store *s, struct store_domain *d);  /* id stays 0 when there is none */
MUST_CHECK enum err store_domain_need(struct store *s, struct store_domain *d);  /* adds it, in the transaction */
MUST_CHECK enum err store_domain_by_id(struct store *s, int64_t id, struct store_domain **out);
void store_domains_taken_back(struct store *s);
void store_domains_sweep(struct store *s);      /* the cache */
void store_domains_forget_step(struct store *s); /* rows that no recipient refers to: a few, inside the transaction */
void store_set_cold(struct store *s, struct store_domain *d, bool cold);
/* A row of this lane, due now, lies on disk: the worker of a cold domain hears of it, unless it knows. */
void store_tell_lane(struct store *s, struct store_domain *d, uint16_t lane);
void store_forget_told(struct store_domain *d);
void store_set_told(struct store_domain *d, uint16_t lane, bool told);

/* store_segments.c */
MUST_CHECK enum err store_load_segments(struct store *s);
struct store_segment *store_segment_find(struct store *s, uint64_t id);
void store_segment_change(struct store *s, uint64_t id, int64_t live, int64_t total);
MUST_CHECK enum err store_write_segments(struct store *s);
void store_keep_segments(struct store *s, bool kept);
MUST_CHECK enum err store_remove_orphans(struct store *s);

/* store_contents.c: what follows the header section, stored once for messages that share it */
void store_contents_create(struct store *s);
void store_contents_destroy(struct store *s); /* before the spool is closed */
/* Sets x->body when its content is shared; with OK and no x->body.segment the body is to be stored as a whole. */
MUST_CHECK enum err store_share_content(struct store *s, struct accepted *x);
bool store_keeps_content(const struct store *s, uint64_t segment); /* though no message needs it now */
void store_content_gone(struct store *s, uint64_t segment);        /* its file is about to be deleted */
void store_forget_contents(struct store *s); /* a batch was taken back */
void store_contents_look(struct store *s);   /* now and then: what is not used any more */
struct body_weight store_body_weight(const struct envelope_body *b);
void store_weigh(struct store *s, const struct body_weight *w, int sign); /* live octets: 1, -1, or 0 only to look */
void store_weigh_new(struct store *s, const struct accepted *x); /* octets that came to the segments with it */

/* store_mover.c: what is left in mostly dead segments is copied forward */
void store_mover_look(struct store *s); /* begins with a segment, if one is worth it; now and then */
void store_mover_step(struct store *s); /* bounded, inside the transaction */
void store_mover_done(struct store *s, bool kept);
void store_mover_destroy(struct store *s);

/* store_clock.c */
void store_update_now(struct store *s);
void store_clock_step(struct store *s); /* a chunk, inside the transaction */
void store_clock_done(struct store *s, bool kept);

/* store_ops.c */
void store_step_ops(struct store *s);       /* one chunk of the first operation, inside the transaction */
void store_finish_ops(struct store *s, enum err e);
void store_ops_taken_back(struct store *s);
void store_ops_destroy(struct store *s);

/* store_keep.c */
MUST_CHECK enum err store_apply_keep(struct store *s, struct store_request *r);
void store_keep_look(struct store *s);       /* is a step of pruning due? */
void store_keep_prune_step(struct store *s); /* in, or before, a transaction */

/* store_campaigns.c */
struct store_keep;
MUST_CHECK enum err store_load_campaigns(struct store *s);
void store_forget_campaigns(struct store *s);
/* In which state mail of the campaign waits now: ROW_READY, ROW_PAUSED or ROW_EXPIRE; NULL is fine. */
enum row_state store_campaign_state(const struct store *s, const char *campaign);
void store_campaign_changed(struct store *s, const struct store_keep *keep); /* was committed */
void store_settle_campaigns(struct store *s); /* at start */

/* store_end.c */
MUST_CHECK enum err store_note_start(struct store *s); /* in the first transaction */
void store_note_end(struct store *s);

/* store_admin.c */
void store_take_admin(struct note *note, void *store);
void store_post_admin(struct store *s, struct store_request *r, enum request_type type);
void store_apply_admins(struct store *s);
void store_finish_admins(struct store *s, enum err e);
MUST_CHECK enum err store_load_accounts(struct store *s);

/* store_walk.c */
void store_walk_start(struct store *s);           /* before the thread runs */
bool store_walk_can_go(const struct store *s);
void store_walk_begin(struct store *s);           /* a transaction, in which it may go a step: */
void store_walk_step(struct store *s);
void store_walk_taken_back(struct store *s);
/* A row that is ready and due now: no need to wake its domain for it. */
bool store_walk_will_find(const struct store *s, int64_t domain_id, uint16_t lane);
void store_walk_beat(struct store *s);            /* once a second */

/* store_background.c */
bool store_step_start(struct store *s);  /* fresh rows of the last run, wakes: true when it did something */
bool store_has_background(const struct store *s);
void store_know_files(struct store *s); /* at start: these are ours */
void store_housekeeping(struct store *s); /* disk space, checkpoint, reserve */
void store_checkpoint(struct store *s);
void store_reserve_make(struct store *s);
bool store_reserve_spend(struct store *s); /* true when it gave something back */

/* store_txn.c, for start and end */
MUST_CHECK enum err store_commit_quietly(struct store *s); /* before the thread runs: nobody to tell */
void store_drop_unanswered(struct store *s);               /* after it ended */
