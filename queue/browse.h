/*
 * Looking into the queue without touching it: lists, one message, counts, policy versions.
 *
 * Thread    any, one call at a time per handle; a caller opens its own.  The connection is read-only and never
 *           checkpoints (the store's is the only one that may).
 * Bounds    a call reads one consistent state and gives up with ERR_TIMEOUT after browse_set_limit_ms (10 s):
 *           a reader that stays would keep the WAL from shrinking.
 * Cost      lists by message or domain follow an index; by campaign, sender, account or recipient they walk the
 *           messages: about 0.3 s for a million.
 * Errors    ERR_NOT_FOUND no such thing, ERR_IO, ERR_CORRUPT, ERR_TIMEOUT; *why as in store.h where there is one.
 */
#pragma once

#include "base/arena.h"
#include "queue/store.h"

struct browse;
MUST_CHECK enum err browse_open(const char *dir, struct browse **out, char **why);
void browse_close(struct browse *b); /* NULL is fine */
void browse_set_limit_ms(struct browse *b, uint32_t ms);

enum queue_state {
    QUEUE_WAITING,  /* in a worker's hands, due, or due later */
    QUEUE_HELD,     /* by an operator */
    QUEUE_DSN_OWED, /* final; its DSN is not in the queue yet */
    QUEUE_BOUNCING, /* an operator's bounce, or the end of its campaign: not recorded yet */
    QUEUE_CANCELLING, /* an operator's cancel, not recorded yet */
    QUEUE_PAUSED,     /* with its campaign: queue/campaigns.h */
};
#define QUEUE_STATES 6
const char *queue_state_name(enum queue_state state); /* "waiting", "held", "dsn-owed", "bouncing", "cancelling", "paused" */
bool queue_state_parse(const char *name, enum queue_state *out);

/* One recipient with what is known of its message.  Strings live in the arena the call was given. */
struct browse_row {
    uint64_t message_id;
    uint32_t rcpt_no;
    enum queue_state state;
    const char *address, *domain;
    int64_t due_unix;
    uint16_t attempts;
    const char *last_text; /* or NULL */
    int64_t accepted_unix;
    const char *sender, *campaign /* or NULL */, *account /* or NULL */;
    uint64_t size_bytes;
    uint32_t rcpt_total;
};

enum browse_order {
    BROWSE_BY_ID,  /* oldest message first */
    BROWSE_BY_DUE, /* earliest due first: QUEUE_WAITING rows only */
};
/* Where a page ended; a zeroed struct is the start.  Opaque to callers, who may show and take it back as text. */
struct browse_position {
    bool set;
    int64_t due_unix;
    uint64_t message_id;
    uint32_t rcpt_no;
};
#define BROWSE_POSITION_TEXT 64
char *browse_position_format(const struct browse_position *p, char out[BROWSE_POSITION_TEXT]);
bool browse_position_parse(struct bytes text, struct browse_position *out);

#define BROWSE_LIMIT_MAX 100000 /* rows of one list; a larger limit is cut to it */
struct browse_query {
    const struct queue_selector *which; /* NULL: all */
    bool only_state;                    /* else any state */
    enum queue_state state;
    enum browse_order order;
    uint32_t limit;
    struct browse_position after;
};
struct browse_list {
    struct browse_row *rows;
    size_t count;
    bool more;
    struct browse_position end; /* give it as `after` for the next page */
};
MUST_CHECK enum err browse_rcpts(struct browse *b, const struct browse_query *q, struct arena *arena,
                                 struct browse_list *out);
/* How many recipients match, all states or the one of the query; limit and after play no part. */
MUST_CHECK enum err browse_count(struct browse *b, const struct browse_query *q, uint64_t *out);

/* A message with all the recipients that it still has. */
struct browse_message {
    uint64_t id;
    uint32_t flags;
    int64_t accepted_unix;
    const char *sender, *campaign, *envid, *account; /* the last three may be NULL */
    enum dsn_ret ret;
    uint64_t size_bytes;
    uint32_t header_bytes, body_flags, rcpt_total;
    uint64_t segment, offset;
    struct browse_row *rcpts;
    size_t rcpt_count;
};
MUST_CHECK enum err browse_message(struct browse *b, uint64_t message_id, struct arena *arena,
                                   struct browse_message *out);
/* Its header section as it will be sent (at most `max` octets), appended to `out`: read from the spool. */
MUST_CHECK enum err browse_header(struct browse *b, struct spool *spool, uint64_t message_id, size_t max,
                                  struct buf *out);

struct browse_totals {
    uint64_t by_state[QUEUE_STATES]; /* recipients */
    uint64_t messages;
};
MUST_CHECK enum err browse_totals(struct browse *b, struct browse_totals *out); /* kept sums: no scan */

struct browse_group {
    const char *key;       /* domain, campaign ("" for none) */
    uint64_t waiting, held; /* recipients; held: paused ones too */
    uint64_t paused;        /* of the held ones */
    int64_t next_due_unix; /* earliest due of the waiting ones; 0: none */
    uint64_t later;        /* of the waiting ones, by campaign: not due yet */
};
enum browse_by { BROWSE_GROUP_DOMAIN, BROWSE_GROUP_CAMPAIGN };
/* What a campaign has in the queue, by domain: largest first. */
struct browse_share {
    const char *domain;
    uint64_t by_state[QUEUE_STATES]; /* recipients */
    int64_t next_due_unix;           /* earliest due of the waiting ones; 0: none */
    uint64_t later;                  /* of the waiting ones: not due yet */
    int64_t later_unix;              /* the first of these is due then */
    const char *why;                 /* what most of these met last, "450 4.2.0 text", or NULL: none was tried */
    uint64_t why_count;
};
MUST_CHECK enum err browse_campaign(struct browse *b, const char *campaign, struct arena *arena, struct browse_share **out,
                                    size_t *count);
/* The `limit` largest, largest first. */
MUST_CHECK enum err browse_groups(struct browse *b, enum browse_by by, uint32_t limit, struct arena *arena,
                                  struct browse_group **out, size_t *count);

/*
 * What was accepted, kept in the transactions that accepted it, and what of it waits, in one state of the
 * queue: with report_finals (queue/report.h), read afterwards, it reconciles to the last recipient.
 */
struct browse_tally_row {
    const char *campaign; /* "" without; total: "total" */
    uint64_t messages, rcpts;
    uint64_t waiting; /* recipients whose final is not recorded: of every state but QUEUE_DSN_OWED */
};
struct browse_tally {
    int64_t since_day; /* days since 1970: of messages accepted on or after it */
    struct browse_tally_row total, *rows; /* sorted by campaign */
    size_t count;
};
/* since_day: raised to the first day that is whole.  campaign: NULL any, "" those without. */
MUST_CHECK enum err browse_tally(struct browse *b, int64_t since_day, const char *campaign, bool by_campaign,
                                 struct arena *arena, struct browse_tally *out);

/* Policy versions, newest first; `before` 0: from the newest. */
struct browse_policy {
    uint64_t version;
    int64_t at_unix;
    const char *author, *comment;
};
MUST_CHECK enum err browse_policies(struct browse *b, uint64_t before, uint32_t limit, struct arena *arena,
                                    struct browse_policy **out, size_t *count);
/* version 0: the current one.  *text is the caller's (mem_free); info may be NULL. */
MUST_CHECK enum err browse_policy_text(struct browse *b, uint64_t version, struct arena *arena,
                                       struct browse_policy *info, char **text);
