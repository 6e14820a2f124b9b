/*
 * The exchange behind AUTH (RFC 4954, 4616, 7677; LOGIN as everybody does it), server's side.  What is heard
 * and said here is decoded; base64, "*" and codes are the conversation's.  Owner: the session; reset wipes
 * what was secret.
 */
#pragma once

#include "base/bytes.h"
#include "engine/smtp/scram.h"

#define AUTH_LINE_MAX 12288 /* RFC 4954 §4, with its CRLF */

enum auth_mechanism {
    AUTH_NONE,
    AUTH_PLAIN,
    AUTH_LOGIN,
    AUTH_SCRAM_SHA_256,
    AUTH_EXTERNAL, /* RFC 4422 appendix A: the client's certificate; heard by the conversation */
};
bool auth_mechanism_parse(struct bytes name, enum auth_mechanism *out);

enum auth_step {
    AUTH_SAY,   /* 334 with the challenge */
    AUTH_CHECK, /* user and password are known: to be checked */
    AUTH_GOOD,  /* SCRAM: proved, `account` says who */
    AUTH_WRONG, /* 535 */
    AUTH_BAD,   /* not well-formed: 501 */
};

/* The account of that name when it may be used from where the client is, or NULL. */
typedef const struct account *(*auth_find_fn)(void *arg, const char *user);

struct auth {
    enum auth_mechanism mechanism;
    unsigned turn;         /* responses heard */
    char *user, *password; /* owned; the password is wiped by auth_reset */
    struct scram_server scram;
    struct account account; /* owned copy; its name is NULL when there is none */
};

void auth_begin(struct auth *a, enum auth_mechanism mechanism);
/* The challenge when AUTH came without an initial response. */
void auth_prompt(const struct auth *a, struct buf *challenge);
enum auth_step auth_hear(struct auth *a, struct bytes response, auth_find_fn find, void *arg,
                         struct buf *challenge);
void auth_reset(struct auth *a);
