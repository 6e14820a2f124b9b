/* A stage for tests of the inbound conversation: it plays the owner, remembers what was said and what was
 * accepted. */
#pragma once

#include "engine/smtp/server.h"

#define PLAY_MESSAGES 64
#define PLAY_ATTACKS  8
#define AUTH_PLAIN    "AUTH PLAIN AGFsaWNlAHdvbmRlcmxhbmQ=\r\n" /* alice, wonderland */
#define ENVELOPE      "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"

struct play {
    struct smtp_listener_rules rules; /* may be changed before play_begin */
    struct smtp_peer peer;
    struct account account; /* "alice", "wonderland" */
    struct log log;
    struct smtp_server *server;
    struct buf heard; /* all output so far */
    struct message *messages[PLAY_MESSAGES];
    int64_t not_before[PLAY_MESSAGES];
    unsigned message_count;
    const char *certificate_of; /* the client's certificate belongs to this account; NULL: it has none */
    const char *attacks[PLAY_ATTACKS]; /* what the owner was told */
    unsigned attack_count;
    unsigned starttls_count, close_count, auth_good, auth_bad, checks;
    bool answer_later; /* the owner answers only when play_answer is called */
    bool checking, committing;
    char user[256], password[256];
    bool backend_down, destroy_in_close;
    enum err commit_result;
    const char *may_send_refusal;
    const char *guessed; /* this user is being guessed at: no more tries; "": nor for any other from here */
    uint64_t now_ms;
};

void play_prepare(struct play *p); /* presets, account */
void play_begin(struct play *p);   /* the server, and its greeting */
void play_tls(struct play *p);     /* TLS is up: after STARTTLS, or before play_begin with implicit TLS */
void play_say(struct play *p, struct bytes octets);
void play_says(struct play *p, const char *octets);
/* An envelope, DATA and what follows it. */
void play_mail(struct play *p, const char *envelope, const char *content);
void play_answer(struct play *p);
/* What was said since the last call, as text. */
const char *play_hear(struct play *p);
/* The codes of the replies in it: "250 2.1.0|354". */
const char *play_codes(const char *heard);
/* The body of message i as text, or NULL. */
const char *play_body(struct play *p, unsigned i);
void play_end(struct play *p);
