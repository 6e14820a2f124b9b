/*
 * SCRAM-SHA-256 (RFC 5802, RFC 7677), the server's side, and the keys that accounts keep.  Pure but for the nonce, which
 * comes from the system's generator.
 */
#pragma once

#include "queue/accounts.h"

#define SCRAM_ITERATIONS     4096 /* RFC 7677 §4 asks for at least this */
#define SCRAM_NONCE_BYTES    24   /* of text, ours */
#define SCRAM_USER_MAX_BYTES 255

struct scram_server {
    char nonce[SCRAM_NONCE_BYTES + 1]; /* ours; set by scram_server_init */
    struct buf exchanged;              /* client-first-bare "," server-first: begins the AuthMessage */
    struct buf gs2;                    /* the client's GS2 header */
    struct buf full_nonce;             /* the client's nonce and ours */
    uint8_t stored_key[SCRAM_KEY_BYTES], server_key[SCRAM_KEY_BYTES];
};

void scram_server_init(struct scram_server *s);
void scram_server_fini(struct scram_server *s); /* wipes */
/* The user of a client-first message, unescaped.  False: not well-formed, or it asks for what is not offered. */
bool scram_server_first(struct scram_server *s, struct bytes message, char user[SCRAM_USER_MAX_BYTES + 1]);
/*
 * Appends the server-first message.  account NULL: there is none of that name, or it may not be used; the exchange goes
 * on with a salt that looks as steady as a real one, and fails at its end.
 */
void scram_server_challenge(struct scram_server *s, const char *user, const struct account *account, struct buf *out);
/* Checks the client-final message; true appends the server-final one. */
bool scram_server_final(struct scram_server *s, struct bytes message, struct buf *out);

/* PBKDF2 of a password with SASL preparation where it is not ASCII.  Costly on purpose. */
void scram_salted_password(const char *password, const uint8_t *salt, size_t salt_len, uint32_t iterations,
                           uint8_t out[SCRAM_KEY_BYTES]);
/* The keys that follow from it (RFC 5802 §3). */
void scram_keys(const uint8_t salted[SCRAM_KEY_BYTES], uint8_t stored_key[SCRAM_KEY_BYTES],
                uint8_t server_key[SCRAM_KEY_BYTES]);
