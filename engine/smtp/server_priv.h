/* What the files of the inbound conversation share.  The diagram is in server.c; nobody else includes this.
 */
#pragma once

#include "base/arena.h"
#include "base/hash.h"
#include "engine/smtp/auth.h"
#include "engine/smtp/command.h"
#include "engine/smtp/data.h"
#include "engine/smtp/header.h"
#include "engine/smtp/server.h"

enum server_state {
    SERVER_SILENT, /* before the greeting */
    SERVER_HELLO,  /* no EHLO yet */
    SERVER_READY,
    SERVER_MAIL, /* a sender, no recipient */
    SERVER_RCPT, /* a recipient at least */
    SERVER_DATA,
    SERVER_CHUNK,  /* within the octets of a BDAT */
    SERVER_BDAT,   /* between two of them */
    SERVER_COMMIT, /* the owner stores the message */
    SERVER_AUTH,   /* the next line answers a challenge */
    SERVER_CHECK,  /* the owner checks a password */
    SERVER_TLS,    /* the owner does the handshake */
    SERVER_OVER,
    SERVER_SAME, /* no step was made: the clock runs on */
};

/* What the owner is to be told, once the handler that asks for it has returned. */
enum server_event { SERVER_NO_EVENT, SERVER_EVENT_STARTTLS, SERVER_EVENT_CHECK, SERVER_EVENT_MESSAGE };

/* One transaction: from MAIL to the reply to its content. */
struct server_txn {
    struct arena arena;   /* all that is borrowed here */
    const char *sender;   /* arena */
    const char *envid;    /* arena, or NULL */
    const char *campaign; /* arena or the account's, or NULL */
    enum dsn_ret ret;
    bool smtputf8, needs_utf8; /* said, and (of the envelope) really used */
    bool body_8bit;
    bool requiretls;    /* RFC 8689: the MAIL parameter */
    struct rcpt *rcpts; /* owned: kept from one transaction to the next; strings in the arena */
    uint32_t rcpt_count, rcpt_cap;
    struct bytes first_key; /* arena: the first recipient's key in `seen` */
    struct map seen; /* local@normalised-domain of all, once there are two: the same one is kept once */
    uint64_t id;
    struct data_decoder decoder;
    struct header header; /* keeps its memory */
    bool header_done;
    struct body_writer *writer;   /* owned, or NULL */
    struct dkim_signing *signing; /* owned, or NULL: no key, or the owner has it */
    struct buf held;              /* the body, while it may still be converted; keeps its memory */
    bool holding;
    uint64_t content_bytes; /* decoded, without what we add */
    uint64_t wire_bytes;    /* as received since started_ms */
    uint64_t started_ms;
    uint64_t rested_ms; /* the end of the last chunk */
    uint32_t chunks;
    uint64_t chunk_left; /* octets of the BDAT in work */
    bool chunk_last;
    int64_t not_before_unix;
    int64_t expires_unix; /* 0: does not, before its group's lifetime */
    enum priority priority;
    struct smtp_refusal refused; /* the first thing that was wrong; the rest is passed over */
    struct message *message;     /* owned until handed to the owner */
};

struct smtp_server {
    struct smtp_server_config config;
    const struct smtp_listener_rules *rules; /* borrowed: the listener */
    enum server_state state;
    enum server_event event;
    uint64_t now_ms, deadline_ms;
    struct outq out;
    struct buf reply;   /* the reply in the making; keeps its memory */
    struct buf line;    /* the start of a line whose end has not come */
    struct buf kept;    /* octets that wait for the owner's answer */
    bool line_dropped;  /* it was too long: what comes is passed over up to its CRLF */
    bool more_input;    /* octets stand behind the line in work */
    bool working, dead; /* within a call; destroyed meanwhile */
    bool early, close_said, draining;
    bool esmtp;
    char helo[256];
    bool tls;
    struct smtp_tls_facts tls_facts;
    struct account account;        /* name NULL: nobody has authenticated */
    enum auth_mechanism proved_by; /* AUTH_NONE with an account: its certificate, without AUTH */
    struct auth auth;
    bool auth_not_now; /* the owner will not have another try for this user */
    struct server_txn txn;
    uint32_t errors, messages;
    char date[48]; /* of the last Received */
    int64_t date_unix;
};

/* ---- server.c ---- */
/* One reply line. */
void server_reply(struct smtp_server *s, unsigned code, const char *enhanced, const char *format, ...)
    PRINTF_LIKE(4, 5);
/* The same for a mistake of the client: they are counted.  Returns the state to go on in: s->state or OVER.
 */
enum server_state server_mistake(struct smtp_server *s, unsigned code, const char *enhanced,
                                 const char *format, ...) PRINTF_LIKE(4, 5);
/* 421 or another last word; the state after it. */
enum server_state server_bye(struct smtp_server *s, unsigned code, const char *enhanced, const char *format,
                             ...) PRINTF_LIKE(4, 5);
void server_attack(struct smtp_server *s, const char *what);
/* The state when no transaction is open. */
enum server_state server_rest_state(const struct smtp_server *s);

/* ---- server_verbs.c ---- */
enum server_state server_obey(struct smtp_server *s, struct bytes line);

/* ---- server_auth.c ---- */
enum server_state server_on_auth(struct smtp_server *s, struct bytes arg);
enum server_state server_on_auth_line(struct smtp_server *s, struct bytes line);
enum server_state server_auth_checked(struct smtp_server *s, const struct account *account,
                                      bool backend_down);
/* The exchange ends with this reply; nothing of it is kept. */
enum server_state server_auth_refuse(struct smtp_server *s, unsigned code, const char *enhanced,
                                     const char *text);
bool server_may_auth(const struct smtp_server *s); /* AUTH is offered here and now */
bool server_may_auth_external(const struct smtp_server *s);
/* Where the listener says that a certificate is enough: the session has its account from now on. */
void server_adopt_certificate(struct smtp_server *s);

/* ---- server_txn.c ---- */
enum server_state server_on_mail(struct smtp_server *s, struct bytes arg);
enum server_state server_on_rcpt(struct smtp_server *s, struct bytes arg);
void server_txn_reset(struct smtp_server *s);

/* ---- server_data.c ---- */
enum server_state server_on_data(struct smtp_server *s, struct bytes arg);
enum server_state server_on_bdat(struct smtp_server *s, struct bytes arg);
size_t server_take_data(struct smtp_server *s, struct bytes in, enum server_state *next);
size_t server_take_chunk(struct smtp_server *s, struct bytes in, enum server_state *next);
enum server_state server_committed(struct smtp_server *s, enum err e);
/* When the octets that came so far will have been too slow (data_rate_min); UINT64_MAX: never. */
uint64_t server_slow_at_ms(const struct smtp_server *s);

/* ---- server_content.c ---- */
void server_content_begin(struct smtp_server *s, bool dots);
/* Decoded content, in order: header section, then body. */
void server_content_put(void *server, struct bytes run);
/* The content is complete: true when txn->message is made, else txn->refused says why not. */
bool server_content_end(struct smtp_server *s);
/* What a transaction holds of its content goes; memory worth keeping stays. */
void server_content_reset(struct smtp_server *s);
/* Only the first refusal counts; what was stored so far is given up. */
void server_refuse_content(struct smtp_server *s, uint16_t code, const char *enhanced, const char *text);
