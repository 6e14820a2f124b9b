/*
 * One outbound SMTP conversation as a value: octets in, octets out, one deadline.  It never sees a socket,
 * a clock or TLS, so a test can play the server.
 *
 * Thread    the worker that opened it, for life.
 * Owner     the delivery connection (engine/deliver/).  It moves octets between the socket and the client,
 *           does the handshake when asked, and decides by policy/tls_decide.h what the client asks it to.
 * Events    come from inside receive, connected, tls_done, on_deadline, closed, submit and quit, as their
 * last act; the owner may submit, quit or destroy from within an event (destroy is safe: the client touches
 * nothing after an event).
 *
 * greeting → EHLO [→ HELO] → (STARTTLS → handshake → EHLO) → [AUTH] → ready ⇄ MAIL RCPT… DATA/BDAT dot → … →
 * QUIT
 */
#pragma once

#include "base/err.h"
#include "base/outq.h"
#include "policy/outcome.h"
#include "queue/message.h"

struct smtp_client;

enum smtp_pipelining {
    SMTP_PIPELINING_OFF,      /* one command a round trip, though offered */
    SMTP_PIPELINING_COMMANDS, /* MAIL RCPT… DATA in one write; body after the 354 */
    SMTP_PIPELINING_FULL,     /* and the next MAIL RCPT DATA right behind the dot (RFC 2920 §3.1) */
};

/* What the peer's EHLO offered; after STARTTLS only what the EHLO inside TLS says. */
struct smtp_offer {
    bool ehlo; /* false: only HELO worked */
    bool starttls, pipelining, chunking, binarymime, eightbitmime, smtputf8, dsn, enhanced_codes, size,
        requiretls;
    uint64_t size_limit; /* 0: unknown or none */
    bool auth_plain, auth_login, auth_scram_sha256;
};

struct smtp_timeouts { /* RFC 5321 §4.5.3.2 */
    uint32_t greeting_ms, ehlo_ms, mail_ms, rcpt_ms, data_ms, block_ms, dot_ms, quit_ms;
};

/* One message to some of its recipients; owned by the caller, stays until its on_txn_done. */
struct smtp_txn {
    struct list node;        /* the client's while submitted */
    struct message *message; /* borrowed */
    struct rcpt *rcpts;      /* borrowed */
    uint32_t rcpt_count;
    struct outcome *outcomes; /* rcpt_count; written by the client, final at on_txn_done */
    bool *dsn_not_passed_on;  /* rcpt_count or NULL: NOTIFY was not handed to the peer (it lacks DSN) */
    void *arg;                /* the caller's */
    /* Counters at on_txn_done. */
    bool body_sent;    /* the final dot (or LAST) was written: a lost connection leaves doubt */
    uint32_t accepted; /* recipients the peer took at RCPT */
    /* The client's own, set at submit: */
    uint32_t said, heard; /* RCPTs */
    uint32_t chunks_said, chunks_heard;
    uint64_t body_at;   /* body octets put into the output */
    uint64_t chunk_end; /* where in the body the announced chunk ends */
    uint64_t end_at;    /* position in the output behind the dot or the last chunk; 0: not said yet */
    uint8_t phase;      /* what is said next */
    bool ahead;         /* its MAIL was said before the transaction before it was answered */
    bool bdat, bdat_last, bdat_refused, hold_body, utf8, mail_heard, mail_refused, lone_dot, line_start;
    char last_octet; /* of the body, as far as it was said */
};
/*
 * May recipient i be tried again at once, without counting an attempt?  So it is when
 *   - it was not attempted at all: stage STAGE_QUEUE, code 0, "not sent".  That happens when the peer closed,
 * fell silent or said 421 before it answered MAIL on a connection that had done a transaction before, and to
 * what waited behind a transaction that broke off.  On a fresh connection the same event is an ordinary
 * deferral, so this cannot go round for ever;
 *   - the peer took some recipients of this transaction and had too many with this one (RFC 5321
 * §4.5.3.1.10): deferred, STAGE_RCPT, 452 4.5.3, txn->accepted above zero.  It belongs into the next
 * transaction, on this connection if that goes on;
 *   - the peer offered CHUNKING but did not know BDAT: see smtp_client_chunking_failed().
 */
bool smtp_txn_retry_at_once(const struct smtp_txn *txn, uint32_t i);
/*
 * Was recipient i settled because this host lacks SMTPUTF8, 8BITMIME or room for that SIZE
 * (5.6.7, 5.6.3, 5.3.4 of ours)?  Nothing was said to the host, and another one of the destination may have
 * it.
 */
bool smtp_txn_host_lacks(const struct smtp_txn *txn, uint32_t i);

/*
 * Reads body octets that are not in memory (spool_read); called for at most 64 KiB at a time.
 */
typedef enum err (*smtp_body_read_fn)(void *arg, const struct body *b, uint64_t from, size_t len, char *out);

struct smtp_client_events {
    /*
     * The EHLO reply was read (again after TLS).  The owner answers at once, from within, with one of
     * smtp_client_go_on, _go_starttls, _go_auth, or quits.
     */
    void (*on_ehlo)(void *arg, const struct smtp_offer *offer);
    /* Reply to STARTTLS.  accepted: only for 220 with nothing behind it.  The owner handshakes and calls
     * tls_done.  Else: clean tells a single 4yz/5yz reply (never 421) after which the conversation could go
     * on in clear: the owner says smtp_client_go_on or quits.  If neither accepted nor clean, on_over
     * follows. */
    void (*on_starttls)(void *arg, bool accepted, bool clean, const struct outcome *reply);
    /* ok: on_ready follows by itself.  Else the owner quits (or, at its own risk, goes on). */
    void (*on_auth)(void *arg, bool ok, const struct outcome *reply);
    /* Room for (another) transaction: after go_on, and whenever one may be submitted. */
    void (*on_ready)(void *arg);
    /* Every recipient has its outcome.  last_of_connection: the peer said 421 or broke off; none may follow.
     */
    void (*on_txn_done)(void *arg, struct smtp_txn *txn);
    /*
     * The conversation is over, for whatever reason; all transactions were reported before.  `o` says why:
     * greeting refused, EHLO refused, time-out, lost connection, protocol error, 421, or delivered kind for
     * an orderly QUIT.  The owner closes the socket.  See smtp_client_in_session().
     * Unstarted transactions are handed back by on_txn_done with outcome.stage STAGE_QUEUE, text "not sent",
     * kind deferred, code 0: they were not attempted.
     */
    void (*on_over)(void *arg, const struct outcome *o);
};

struct smtp_client_config {
    const char *ehlo_name; /* borrowed: lives as long as the client; "[192.0.2.1]" or a host name, A-labels */
    struct smtp_timeouts timeouts; /* zero fields: the RFC's */
    enum smtp_pipelining pipelining;
    bool use_chunking; /* BDAT where it saves a round trip or a copy, if offered: client_say.c */
    smtp_body_read_fn body_read;
    void *body_read_arg;
    struct smtp_client_events events;
    void *arg; /* of the events */
};

struct smtp_client *smtp_client_create(const struct smtp_client_config *config);
void smtp_client_destroy(struct smtp_client *c); /* transactions still open are not reported */

/* Starts the clock for the greeting; with implicit TLS after the handshake. */
void smtp_client_connected(struct smtp_client *c, uint64_t now_ms);
void smtp_client_receive(struct smtp_client *c, struct bytes in, uint64_t now_ms);
/* The peer closed, or the socket failed: `why`, or without it the words for `e`, go into the outcomes. */
void smtp_client_closed(struct smtp_client *c, enum err e, const char *why, uint64_t now_ms);
/* To be called when smtp_client_deadline_ms() has passed.  While the owner handshakes, the deadline is its
 * own affair. */
void smtp_client_on_deadline(struct smtp_client *c, uint64_t now_ms);
uint64_t smtp_client_deadline_ms(const struct smtp_client *c); /* 0: none (ready and idle) */

/* What is to be sent.  When less than 64 KiB waits, the owner calls fill, which adds more of a body in work.
 */
struct outq *smtp_client_output(struct smtp_client *c);
void smtp_client_fill(struct smtp_client *c, uint64_t now_ms);
/* Octets left for the socket and were consumed from the output: restarts the time-out of a body block. */
void smtp_client_sent(struct smtp_client *c, size_t n, uint64_t now_ms);

/* Answers to on_ehlo. */
void smtp_client_go_on(struct smtp_client *c, uint64_t now_ms);
void smtp_client_go_starttls(struct smtp_client *c, uint64_t now_ms);
void smtp_client_go_auth(struct smtp_client *c, const char *user, const char *password, uint64_t now_ms);
/* The handshake the owner did succeeded: all EHLO state is forgotten, EHLO is said again. */
void smtp_client_tls_done(struct smtp_client *c, uint64_t now_ms);

/* How many more transactions may be submitted now: 1 when ready, one ahead with FULL, else 0. */
uint32_t smtp_client_room(const struct smtp_client *c);
/*
 * Sends a transaction.  Refuses none: what the peer cannot take (SIZE, 8BITMIME, SMTPUTF8, REQUIRETLS
 * missing) is settled at once with a local outcome: 5.3.4, 5.6.3, 5.6.7, 5.7.30; on_txn_done comes as
 * usual.  5.7.30 speaks of this host alone: the owner tries the others first (RFC 8689 §4.2.1), and never
 * submits such a message outside TLS.
 */
void smtp_client_submit(struct smtp_client *c, struct smtp_txn *txn, uint64_t now_ms);
/* Only a peer that offers REQUIRETLS may have it.  With the null sender it may go anywhere (RFC 8689 §4.2.1,
 * §5), with the parameter where that is offered. */
bool smtp_client_wants_requiretls(const struct message *m);
/*
 * Until it is released, no message ends: the dot (or BDAT LAST) is not said, nor the last 64 KiB before it;
 * all else goes on.  The owner holds from within on_txn_done, before the next message could end.  A time-out
 * of its own does not run meanwhile for what the owner keeps back.
 */
void smtp_client_hold(struct smtp_client *c);
void smtp_client_release(struct smtp_client *c, uint64_t now_ms);
/* QUIT once nothing is open; on_over follows. */
void smtp_client_quit(struct smtp_client *c, uint64_t now_ms);
bool smtp_client_is_idle(const struct smtp_client *c); /* ready, no transaction open */
/* Was a MAIL answered?  Before that, a connection lost inside TLS counts as a failed handshake
 * (policy/tls_decide.h). */
bool smtp_client_in_session(const struct smtp_client *c);
/*
 * The peer offers CHUNKING but answered BDAT with 500 or 502, so that it took the body for commands: the
 * conversation is over and the recipients are deferred.  Who tries it again must set use_chunking to false
 * for this peer.  (One that answers 503 or 504 has read the chunk: its transaction is repeated with DATA on
 * the same connection.)
 */
bool smtp_client_chunking_failed(const struct smtp_client *c);
/*
 * The peer offers PIPELINING but loses count when commands stand behind the end of a message: it broke the
 * protocol, fell silent, or refused a MAIL that came so as out of order.  What it had not begun is "not
 * sent". Who tries it again must not use FULL with this peer.
 */
bool smtp_client_lost_step(const struct smtp_client *c);
/*
 * The peer said 421 to a MAIL, on a connection that had done a transaction before.  That message is "not
 * sent", so only on_over brings the reply; what it says may concern all that goes to this host.
 */
bool smtp_client_turned_away(const struct smtp_client *c);
uint32_t smtp_client_transactions(const struct smtp_client *c); /* done on this connection */
const struct smtp_offer *smtp_client_offer(const struct smtp_client *c);
/* What is waited for: "greeting", "ehlo", … "ready", "mail", "rcpt", … for logs and status. */
const char *smtp_client_state_name(const struct smtp_client *c);
