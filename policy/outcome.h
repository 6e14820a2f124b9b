/*
 * What the world said about a recipient: data that is stored, logged, reported and retried.  A 550
 * never travels as an `enum err`, and a full disk never becomes a bounce.
 */
#pragma once

#include <stdint.h>

#include "base/bytes.h"

enum outcome_kind {
    OUTCOME_DELIVERED,
    OUTCOME_DEFERRED,  /* tried again later */
    OUTCOME_BOUNCED,   /* failed for good; a DSN goes to the sender unless NOTIFY forbids */
    OUTCOME_EXPIRED,   /* deferred until its lifetime ended: a bounce whose reason is time */
    OUTCOME_CANCELLED, /* by an operator, without DSN */
};

/* Where in the conversation it was decided. */
enum outcome_stage {
    STAGE_QUEUE, /* before anything was tried: expiry, operator, policy */
    STAGE_DNS,
    STAGE_CONNECT,
    STAGE_GREETING,
    STAGE_EHLO,
    STAGE_STARTTLS,
    STAGE_TLS, /* handshake, certificate, policy on what the handshake gave */
    STAGE_AUTH,
    STAGE_MAIL,
    STAGE_RCPT,
    STAGE_DATA, /* DATA or BDAT command and body */
    STAGE_DOT,  /* the reply to the whole message */
};

#define OUTCOME_TEXT_BYTES 512

struct outcome {
    enum outcome_kind kind;
    enum outcome_stage stage;
    uint16_t code;     /* SMTP reply code of the peer, or ours when there was none: 421, 451, 550 … */
    char enhanced[12]; /* "4.7.5" or "" (RFC 3463) */
    bool remote;       /* the peer said it; else we did */
    bool in_doubt;     /* the connection was lost after the final dot: the peer may have it (P3) */
    bool needs_second; /* bounced: only at the second attempt; the first is deferred (outcome_put_off) */
    char text[OUTCOME_TEXT_BYTES]; /* reply text, controls replaced, NUL-terminated, possibly cut */
};

const char *outcome_kind_name(enum outcome_kind kind);    /* "delivered", … */
const char *outcome_stage_name(enum outcome_stage stage); /* "queue", "dns", … */
/* A first attempt that came to what needs a second one: 4.4.3 instead. */
void outcome_put_off(struct outcome *o);
/* Not delivered, and for want of TLS: by its stage, or by our own x.7.4, x.7.5, x.7.30.  History records it. */
bool outcome_failed_for_tls(const struct outcome *o);

/* Ours, not the peer's.  `enhanced` like "4.4.1". */
void outcome_local(struct outcome *o, enum outcome_kind kind, enum outcome_stage stage, uint16_t code,
                   const char *enhanced, const char *format, ...) PRINTF_LIKE(6, 7);
/*
 * From a reply of the peer: code, its text without code (lines joined by a blank; an enhanced code at
 * the start is recognised and split off when its class agrees with the code: RFC 2034).  2yz to the whole
 * message (STAGE_DOT) delivers, 4yz defers, 5yz bounces, with the exceptions of policy/classify.h.
 */
void outcome_from_reply(struct outcome *o, enum outcome_stage stage, uint16_t code, struct bytes text);
