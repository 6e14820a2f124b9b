/*
 * SCRAM-SHA-256 (RFC 5802, RFC 7677), the client's side, messages as they are before base64.  Pure.  The
 * server's side and the keys: engine/smtp/scram.h.
 */
#pragma once

#include "base/bytes.h"
#include "queue/accounts.h"

#define SCRAM_ITERATIONS_MIN 4096 /* RFC 7677 §4: fewer would tell a listener the password too cheaply */
#define SCRAM_ITERATIONS_MAX                                                                                 \
    600000 /* some tenths of a second of this thread; a hostile server asks for hours */

struct scram_client {
    struct buf nonce;                   /* ours */
    struct buf first;                   /* client-first-message-bare: begins the AuthMessage */
    uint8_t signature[SCRAM_KEY_BYTES]; /* that the server must show */
    bool has_signature;
    bool proved; /* it did */
};

/* `nonce`: printable ASCII without commas; the caller makes it random. */
void scram_client_init(struct scram_client *s, struct bytes nonce);
void scram_client_fini(struct scram_client *s); /* wipes */
/* Appends the client-first message. */
void scram_client_first(struct scram_client *s, const char *user, struct buf *out);
/*
 * Answers the server-first message: appends the client-final one.  NULL: fine; else a sentence that says what
 * is wrong.
 */
MUST_CHECK const char *scram_client_final(struct scram_client *s, const char *password,
                                          struct bytes challenge, struct buf *out);
/* Checks the server-final message.  NULL: the server knows the password too. */
MUST_CHECK const char *scram_client_prove(struct scram_client *s, struct bytes message);
