/* What the files of the outbound conversation share.  client.c owns the state; see the diagram there. */
#pragma once

#include "engine/smtp/client.h"
#include "engine/smtp/reply.h"

/* The state is the reply we wait for. */
enum client_state {
    CLIENT_NEW,
    CLIENT_GREETING,
    CLIENT_EHLO,
    CLIENT_HELO,
    CLIENT_CHOOSE, /* no reply: the owner's word */
    CLIENT_STARTTLS,
    CLIENT_HANDSHAKE, /* no reply: the owner's handshake */
    CLIENT_AUTH,
    CLIENT_READY, /* no reply: a transaction */
    CLIENT_RSET,
    CLIENT_MAIL,
    CLIENT_RCPT,
    CLIENT_DATA,
    CLIENT_BODY, /* no reply: room for the rest of the body */
    CLIENT_DOT,
    CLIENT_CHUNK,
    CLIENT_QUIT,
    CLIENT_OVER,
};

/* The second cursor: what of a transaction is said next.  With PIPELINING it runs ahead of the state. */
enum say { SAY_START, SAY_MAIL, SAY_RCPT, SAY_DATA, SAY_BODY, SAY_CHUNK, SAY_DONE };

#define CLIENT_FILL_BYTES  (64 * 1024)
#define CLIENT_CHUNK_BYTES (1024 * 1024)
#define CLIENT_COPY_BYTES  4096 /* a body up to this is copied behind the commands: one write, no count */

enum client_ask { ASK_NOTHING, ASK_EHLO, ASK_STARTTLS, ASK_AUTH };

struct client_auth;

struct smtp_client {
    struct smtp_client_config config;
    enum client_state state;
    uint64_t now_ms, deadline_ms;
    struct smtp_reply reply;
    struct smtp_offer offer;
    struct client_auth *auth; /* owned: while AUTH goes on */

    struct outq out;
    struct buf cmd;           /* octets on their way into `out` */
    uint64_t put_total;       /* octets ever put into `out` */
    uint64_t left_at_restart; /* of them, gone when the clock was set */
    uint32_t unanswered;      /* commands said whose reply was not heard */

    struct list txns; /* struct smtp_txn; the first is the one that is heard */
    uint32_t txn_count;
    struct smtp_txn *saying; /* in txns; NULL: all is said */
    struct outcome ruling;   /* on the first's unsettled recipients, when already known */
    bool ruled;
    uint32_t txns_done;

    bool more_input;  /* octets stand behind the reply that is being heard */
    bool peer_in_txn; /* the peer holds a MAIL: RSET before the next */
    bool no_chunking; /* BDAT was refused here */
    bool chunking_failed;
    bool ahead_worked, lost_step; /* pipelining FULL */
    bool in_session;
    bool turned_away; /* by 421 to a MAIL that is not attempted: smtp_client_turned_away() */
    bool quitting;
    bool held; /* no message ends: smtp_client_hold() */

    /* Events that are due; pump() in client.c tells them. */
    struct list done; /* struct smtp_txn */
    enum client_ask ask;
    bool ask_ok, ask_clean; /* arguments of on_starttls and on_auth */
    bool ready_due, over_due;
    struct outcome asked; /* the reply that on_starttls and on_auth show */
    struct outcome over;  /* why the conversation ended */

    uint32_t depth; /* public calls on the stack */
    bool destroyed; /* to be freed by the outermost of them */
};

/* ---- client.c ---- */
/* Ends the conversation: returns CLIENT_OVER, to be returned on. */
enum client_state client_fail(struct smtp_client *c, uint16_t code, const char *enhanced, const char *format,
                              ...) PRINTF_LIKE(4, 5);
enum client_state client_fail_protocol(struct smtp_client *c, const char *what);
/* By the reply in c->reply; never a bounce: it speaks of the host. */
enum client_state client_fail_reply(struct smtp_client *c);
enum outcome_stage client_stage(const struct smtp_client *c);
void client_go(struct smtp_client *c, enum client_state to);
void client_enter(struct smtp_client *c,
                  uint64_t now_ms); /* brackets of each public call that changes something */
void client_leave(struct smtp_client *c);
struct bytes client_reply_text(struct smtp_client *c); /* lines joined by blanks */

/* ---- client_session.c: greeting to ready ---- */
enum client_state client_on_greeting(struct smtp_client *c, const struct smtp_reply *r);
enum client_state client_enter_ehlo(struct smtp_client *c);
enum client_state client_on_ehlo(struct smtp_client *c, const struct smtp_reply *r);
enum client_state client_enter_helo(struct smtp_client *c);
enum client_state client_on_helo(struct smtp_client *c, const struct smtp_reply *r);
enum client_state client_enter_starttls(struct smtp_client *c);
enum client_state client_on_starttls(struct smtp_client *c, const struct smtp_reply *r);
void client_offer_parse(const struct smtp_reply *r, struct smtp_offer *out);

/* ---- client_auth.c ---- */
/* False: no mechanism in common, or the credentials cannot be sent; c->asked says why. */
bool client_auth_begin(struct smtp_client *c, const char *user, const char *password);
void client_auth_end(struct smtp_client *c); /* wipes */
enum client_state client_enter_auth(struct smtp_client *c);
enum client_state client_on_auth(struct smtp_client *c, const struct smtp_reply *r);

/* ---- client_txn.c: what is heard of transactions ---- */
static inline struct smtp_txn *client_head(const struct smtp_client *c)
{
    struct list *node = list_first(&c->txns);
    return node ? LIST_ENTRY(node, struct smtp_txn, node) : NULL;
}
/* Not settled, and not yet accepted either. */
static inline bool outcome_is_open(const struct outcome *o)
{
    return o->kind == OUTCOME_DEFERRED && o->stage == STAGE_QUEUE;
}
static inline bool outcome_is_accepted(const struct outcome *o)
{
    return o->kind == OUTCOME_DELIVERED && o->stage == STAGE_RCPT;
}
/* First recipient at or behind i that was not settled when it was to be said or heard; rcpt_count if none. */
uint32_t client_open_rcpt(const struct smtp_txn *t, uint32_t i);
void client_txn_init(struct smtp_client *c, struct smtp_txn *t);
/* All of the output up to here left for the socket. */
bool client_has_left(const struct smtp_client *c, uint64_t position);
enum client_state client_on_rset(struct smtp_client *c, const struct smtp_reply *r);
enum client_state client_on_mail(struct smtp_client *c, const struct smtp_reply *r);
enum client_state client_on_rcpt(struct smtp_client *c, const struct smtp_reply *r);
enum client_state client_on_data(struct smtp_client *c, const struct smtp_reply *r);
enum client_state client_on_body(struct smtp_client *c, const struct smtp_reply *r);
enum client_state client_on_dot(struct smtp_client *c, const struct smtp_reply *r);
enum client_state client_on_chunk(struct smtp_client *c, const struct smtp_reply *r);
/* The conversation is over: every transaction gets its outcomes. */
void client_settle_all(struct smtp_client *c);

/* ---- client_say.c: commands ---- */
/* Settles what this peer cannot take.  False: no recipient is left to be sent. */
bool client_txn_check(struct smtp_client *c, struct smtp_txn *t);
bool client_is_pipelining(const struct smtp_client *c);
/* Says all that may be said now, and moves it into the output. */
void client_say(struct smtp_client *c);
void client_flush(struct smtp_client *c); /* c->cmd into c->out */
uint64_t client_position(const struct smtp_client *c);
void client_put_u64(struct buf *out, uint64_t n);

/* ---- client_body.c ---- */
/* Adds body octets until enough waits; returns the state that follows. */
enum client_state client_enter_body(struct smtp_client *c);
enum client_state client_enter_chunk(struct smtp_client *c);
enum client_state client_body_fill(struct smtp_client *c);
bool client_is_last_chunk(const struct smtp_txn *t); /* the next one */
/* "BDAT n [LAST]", and the octets if they are in memory. */
void client_say_chunk(struct smtp_client *c, struct smtp_txn *t);
/*
 * Dot-stuffing (RFC 5321 §4.5.2): a dot at the start of a line is doubled.  `line_start` carries over between
 * runs; true before the first.
 */
void client_stuff(struct buf *out, struct bytes s, bool *line_start);
