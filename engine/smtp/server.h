/*
 * One inbound SMTP conversation (submission) as a value: octets in, octets out, one deadline.  It never sees
 * a socket, TLS or the store: what takes time is asked for by events and answered by smtp_server_…_done().
 *
 * Thread    the worker that accepted the connection, for life.
 * Owner     the submission connection (engine/submit/).
 * Events    come as the last act of receive, …_done and on_deadline; from within one the owner may call the
 * matching …_done at once, or later, or destroy the conversation.  While an answer is awaited, received
 * octets are kept (bounded), not read.  smtp_server_receive is not called from within an event.
 */
#pragma once

#include "base/err.h"
#include "base/ip.h"
#include "base/log.h"
#include "base/outq.h"
#include "queue/accounts.h"
#include "queue/message.h"
#include "queue/spool.h"

struct smtp_server;
struct dkim;
struct dkim_signing;

enum smtp_bare_newline { BARE_NEWLINE_REJECT, BARE_NEWLINE_NORMALIZE };

/* What one listener allows; shared, immutable, outlives its sessions. */
struct smtp_listener_rules {
    const char *host_name; /* greeting, EHLO reply, Received */
    bool implicit_tls;
    bool offer_starttls;
    bool require_tls;          /* MAIL before TLS: 530 5.7.0 */
    bool require_auth;         /* MAIL before AUTH: 530 5.7.0, unless the peer is in a trusted network */
    bool auth_without_tls;     /* AUTH offered in clear: tests and loopback only */
    bool certificate_suffices; /* a client certificate that belongs to one account needs no AUTH */
    enum smtp_bare_newline bare_newline;
    uint64_t message_bytes_max;    /* SIZE: 50 MiB */
    uint32_t recipients_max;       /* per message; then 452 4.5.3: 1000 */
    uint32_t header_bytes_max;     /* 256 KiB; then 552 5.3.4 */
    uint32_t received_max;         /* loop: 554 5.4.6 at this many Received headers: 100 */
    uint32_t errors_max;           /* protocol errors until 421: 20 */
    uint32_t messages_max;         /* per connection, then 421; 0: no limit */
    uint32_t command_timeout_ms;   /* 5 min */
    uint32_t data_timeout_ms;      /* between blocks of data: 3 min */
    uint32_t data_rate_min;        /* octets/s over a message, after a grace of one minute; 0: none */
    bool add_date, add_message_id; /* when missing (RFC 6409 §8) */
    bool smtputf8;
    bool convert_8bit; /* 8-bit parts become 7-bit, as long as the message fits into memory */
};

struct smtp_peer {
    struct ip ip;
    uint16_t port;
    bool trusted; /* in a trusted network: may relay without AUTH */
};

/* What TLS gave, for Received and reports. */
struct smtp_tls_facts {
    char version[16]; /* "TLS1.3" */
    char cipher[64];  /* "TLS_AES_256_GCM_SHA384" */
};

struct smtp_server_events {
    /* The 220 to STARTTLS is in the output and what came behind the command was thrown away (and logged). The
     * owner sends it, handshakes and calls smtp_server_tls_done. */
    void (*on_starttls)(void *arg);
    /*
     * Check a PLAIN/LOGIN password (costly: PBKDF2, so the owner uses the thread pool and a cache).  The
     * strings are borrowed until return.  Answer: smtp_server_auth_done.
     */
    void (*on_check_password)(void *arg, const char *user, const char *password);
    /* The account for SCRAM, or NULL; borrowed until the next call into the owner. */
    const struct account *(*find_account)(void *arg, const char *user);
    /* After success by whatever mechanism, and for each failure (limits, log). */
    void (*on_auth_result)(void *arg, const char *user, bool ok);
    /* May this session start a message now?  false: `reply` is filled with a 4yz/5yz line without CRLF. */
    bool (*may_send)(void *arg, struct buf *reply);
    /*
     * The message is complete: the owner commits it and calls smtp_server_accept_done.  `m` is counted: the
     * owner's now.  not_before_unix is 0 without X-Hayauma-Schedule.
     */
    void (*on_message)(void *arg, struct message *m, int64_t not_before_unix);
    /* Send what is in the output, then close. */
    void (*on_close)(void *arg);
    /* These may be NULL. */
    /* Does the client's certificate belong to any account?  Then EXTERNAL is offered. */
    bool (*has_certificate)(void *arg);
    /* The account `user` if the client's certificate belongs to it; with "" the only one it belongs to. NULL:
     * none. Borrowed until the next call into the owner. */
    const struct account *(*find_by_certificate)(void *arg, const char *user);
    /* The client did what no program does by mistake: the owner counts it and logs it, at a bounded rate.
     * `what` is a word. */
    void (*on_attack)(void *arg, const char *what);
    /* May this client try to authenticate, as `user` once that is known (before: NULL)?  false: 454 4.7.0. */
    bool (*may_authenticate)(void *arg, const char *user);
};

struct smtp_server_config {
    const struct smtp_listener_rules *rules;
    struct spool *spool;
    struct dkim *dkim; /* borrowed; NULL: nothing is signed */
    unsigned worker;   /* for message_id_make */
    struct smtp_peer peer;
    struct log *log; /* borrowed */
    struct smtp_server_events events;
    void *arg;
};

struct smtp_server *smtp_server_create(const struct smtp_server_config *config, uint64_t now_ms);
void smtp_server_destroy(struct smtp_server *s); /* an unfinished message leaves nothing behind */

/* Says the greeting.  With implicit TLS: after the handshake (tls_done).  When the peer talked before it
 * (receive was called): 554, on_close. */
void smtp_server_start(struct smtp_server *s, uint64_t now_ms);
void smtp_server_receive(struct smtp_server *s, struct bytes in, uint64_t now_ms);
struct outq *smtp_server_output(struct smtp_server *s);
uint64_t smtp_server_deadline_ms(const struct smtp_server *s);        /* 0: none */
void smtp_server_on_deadline(struct smtp_server *s, uint64_t now_ms); /* 421 4.4.2, on_close */
/* Stop reading from the socket while true: an answer is awaited and enough octets are kept. */
bool smtp_server_wants_pause(const struct smtp_server *s);

void smtp_server_tls_done(struct smtp_server *s, const struct smtp_tls_facts *facts, uint64_t now_ms);
void smtp_server_auth_done(struct smtp_server *s, const struct account *account /* NULL: refused */,
                           bool backend_down, uint64_t now_ms);
/*
 * Within on_message: the signatures that the message still needs before it may be committed
 * (engine/dkim/dkim.h), or NULL. They are the owner's now; without them the message holds room where they
 * should be, and must not be sent.
 */
struct dkim_signing *smtp_server_take_signing(struct smtp_server *s);
/* OK: 250 2.0.0 with the message id.  ERR_NOSPACE: 452 4.3.1.  ERR_PROTOCOL (no TLS report, at the address
 * that takes them): 554 5.6.0.  Others: 451 4.3.0. */
void smtp_server_accept_done(struct smtp_server *s, enum err e, uint64_t now_ms);
/* Shutdown: 421 4.3.2 now if between transactions, else after the one in work. */
void smtp_server_drain(struct smtp_server *s, uint64_t now_ms);
/* Between transactions: the owner needs the place for somebody else.  421 4.7.0, on_close. */
void smtp_server_turn_out(struct smtp_server *s, uint64_t now_ms);
bool smtp_server_is_idle(const struct smtp_server *s);        /* no transaction open */
const char *smtp_server_account(const struct smtp_server *s); /* or NULL */
/* How it was proved: "plain", "login", "scram-sha-256", "external", "certificate" (without AUTH), or "none";
 * static. */
const char *smtp_server_auth_mechanism(const struct smtp_server *s);
const struct smtp_tls_facts *smtp_server_tls(const struct smtp_server *s); /* or NULL: in clear */

/* SCRAM-SHA-256 keys of a new password (RFC 5802 §3; 4096 or more iterations), also used to check PLAIN.  Any
 * thread. */
void scram_make(const char *password, struct account *account);
bool scram_check_password(const struct account *account, const char *password);
