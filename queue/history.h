/*
 * What happened: one record per attempt and recipient, and hourly rollups, in one database file per
 * UTC day under DIR/history/.  The history thread writes; anyone reads through queue/report.h.
 *
 * A batch travels worker → history thread → store thread: the record is safe before the queue forgets the
 * recipient.  At start, what history holds as final is applied to the queue before anything is sent.
 */
#pragma once

#include "base/arena.h"
#include "base/inbox.h"
#include "base/pulse.h"
#include "policy/outcome.h"
#include "policy/policy.h"

/* What the queue does with the recipient once the record is safe. */
enum attempt_then {
    THEN_REMOVE,  /* final, no DSN */
    THEN_DEFER,   /* due again at due_unix */
    THEN_DSN,     /* final; a DSN is owed: the row stays until the DSN message is accepted */
    THEN_NOTHING, /* a record only (for example a failed host of a walk) */
};

struct attempt {
    struct attempt *next; /* in its batch */
    /* whom */
    uint64_t message_id;
    uint32_t rcpt_no;
    const char *address, *domain, *campaign /* or NULL */, *account /* or NULL */, *sender;
    int64_t accepted_unix;
    uint64_t size_bytes;
    /* how it was decided */
    uint64_t policy_version;
    const char *group;
    enum match_how match;
    const char *match_pattern;
    /* where to */
    const char *mx;     /* host name tried, or NULL */
    const char *remote; /* "192.0.2.1:25", or NULL */
    const char *source; /* local address, or NULL */
    const char *ehlo_name; /* that we gave, or NULL */
    bool reused;        /* not the first message of its connection */
    /* what came of it */
    struct outcome outcome;
    uint16_t attempts;    /* including this one */
    int64_t at_unix_ms;   /* end of the attempt */
    uint32_t duration_ms; /* from being taken up, or the way to a host begun, to the result */
    /* how it travelled */
    enum tls_level tls_wanted, tls_effective;
    enum tls_why tls_why;
    const char *tls_version; /* "TLS1.3", or NULL: clear or none */
    const char *tls_cipher;  /* or NULL */
    enum tls_verify tls_verify;
    bool tls_resumed;
    bool tls_offered; /* the peer's EHLO had STARTTLS */
    bool fallback;    /* in clear after a failed TLS */
    const char *tls_kx;        /* "ECDHE-X25519", or NULL */
    enum dane_result dane;
    enum sts_result sts;
    enum tls_failure tls_failure; /* counted even where the mail went */
    int64_t cert_expires_unix;    /* of the peer's leaf; 0: none seen; read back as the start of that UTC day */
    /* The shadow rules beside the live ones: what they would have done (policy/judge.h); 0: no shadow. */
    uint8_t shadow;
    const char *shadow_group; /* or NULL */
    /* afterwards */
    enum attempt_then then;
    int64_t due_unix; /* THEN_DEFER */
};

/*
 * One try for a session with one host: what TLSRPT counts (RFC 8460 §4: sessions, not messages) and what the TLS
 * ledger shows of destinations that no recipient of a day was attempted over.  Hosts that were skipped without a connection
 * (bogus TLSA, MX not in the MTA-STS policy) are sessions too.
 */
struct session_record {
    struct session_record *next; /* in its batch */
    int64_t at_unix_ms;
    uint64_t policy_version;
    const char *group, *domain; /* the domain that the connection was opened for; A-labels */
    const char *mx, *remote /* or NULL */, *source /* or NULL */, *helo /* of the greeting, or NULL */;
    enum tls_level tls_wanted, tls_effective;
    enum tls_why tls_why;
    const char *tls_version, *tls_cipher, *tls_kx; /* or NULL */
    enum tls_verify tls_verify;
    enum dane_result dane;
    enum sts_result sts;
    enum tls_failure tls_failure;
    bool tls_resumed, tls_offered, fallback;
    int64_t cert_expires_unix;
    /* for TLSRPT */
    bool counted;                   /* not: level off, no TCP connection, session for a report */
    enum tlsrpt_policy policy_type;
    const char *policy_text; /* policy-string: TLSA records or lines of the MTA-STS policy, one a line; or NULL */
    const char *policy_mx;   /* mx-host: patterns of the MTA-STS policy, one a line; or NULL */
    const char *reason;      /* failure-reason-code: short, ours or the library's words; or NULL */
};

/*
 * How far one poster's batches are safe.  Owner: the poster; it outlives its batches.  Zeroed but for `inbox` and
 * `note.run`, it is ready.
 */
struct safe_mark {
    _Atomic uint64_t serial; /* of the newest batch that is */
    atomic_bool wanted;
    bool asked;          /* the poster's: the note is on its way, or will be */
    struct note note;    /* run in `inbox` when more is safe; the poster clears `asked` in it */
    struct inbox *inbox; /* borrowed */
};
/* The poster's thread.  False: the note comes, once for however many such questions, when more is safe. */
bool safe_mark_has(struct safe_mark *m, uint64_t serial);

struct attempt_batch {
    struct note note;
    struct arena arena; /* everything that the attempts and sessions point to */
    struct safe_mark *mark; /* borrowed, or NULL: nobody asks; and the number of this batch, ascending */
    uint64_t serial;
    struct attempt *first, *last;
    size_t count;
    uint64_t flown; /* recipients whose transactions came to an end with these (queue/flight.h) */
    struct session_record *first_session, *last_session;
    size_t session_count;
};

struct attempt_batch *attempt_batch_create(void);
struct attempt *attempt_batch_add(struct attempt_batch *b); /* zeroed, linked */
struct session_record *attempt_batch_add_session(struct attempt_batch *b); /* zeroed, linked */
void attempt_batch_destroy(struct attempt_batch *b);

struct history;
struct store;

/*
 * Opens DIR/history/ and starts the thread.  After each commit a batch is given to `store`
 * (store_post_results). retention_days: older day files are deleted; 0 keeps all.
 */
MUST_CHECK enum err history_open(const char *dir, unsigned retention_days, struct history **out, char **why);
void history_attach(struct history *h, struct store *store); /* before the first post */
/* Any thread.  The batch is theirs now.  A disk that is full delays it; nothing is lost. */
void history_post(struct history *h, struct attempt_batch *batch);
/* Attempts and sessions posted and not yet safe: a worker stops taking up new mail while this is above its cap. */
struct pulse *history_pulse(struct history *h); /* of its thread, for the watchdog */
size_t history_backlog(const struct history *h);
/* Ends after all posted batches are safe and handed on or, if the disk takes nothing, after timeout_ms. */
void history_close(struct history *h, uint32_t timeout_ms);

/*
 * For the store at start: calls fn for every final attempt recorded after the position (day, row), oldest
 * first. The position of the newest record handed over so far goes with each result batch (see store.h).
 */
typedef enum err (*history_final_fn)(void *arg, uint64_t message_id, uint32_t rcpt_no, enum attempt_then then,
                                     const struct outcome *o);
MUST_CHECK enum err history_replay(const char *dir, int64_t since_day, int64_t since_row, history_final_fn fn,
                                   void *arg, int64_t *last_day, int64_t *last_row);

/*
 * Live attempts for `log follow`: JSON lines (report_attempt_json), oldest first, appended to out.  Any
 * thread. Gives records with an id above `after`, at most max_lines (and at most HISTORY_FOLLOW_LINES), and
 * waits up to wait_ms while there is none; returns the `after` of the next call.  It reads the day files:
 * nothing is lost on a follower that is slow, and the writer pays nothing for it.
 */
#define HISTORY_FOLLOW_LINES 10000
#define HISTORY_FOLLOW_NOW   UINT64_MAX
/* after = 0: the newest max_lines of the file in use, without waiting.  HISTORY_FOLLOW_NOW: no line, only the
 * number from which to go on. */
uint64_t history_follow(struct history *h, uint64_t after, uint32_t wait_ms, size_t max_lines,
                        struct buf *out);
