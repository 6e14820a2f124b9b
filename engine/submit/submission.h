/*
 * One submission connection: moves octets between the socket and an smtp_server, and answers what the server
 * asks for: TLS, passwords, commits.  Thread: the worker's.
 */
#pragma once

#include "base/hash.h"
#include "base/list.h"
#include "engine/limits.h"
#include "engine/net/tls_server.h"
#include "engine/submit/submit.h"

struct attack_kind {
    const char *what;
    uint64_t until_ms; /* end of the minute that is counted */
    unsigned count;
};

struct submit {
    struct worker *w; /* borrowed */
    struct list ears, clients;
    struct list strangers; /* of the clients, by age: those that have proved nothing and sent nothing yet */
    size_t client_count;
    int fd_limit; /* clients with this descriptor or above are turned away: the rest is for ourselves */
    bool draining;
    /* Passwords that were right lately: keyed hash of name, password and accounts generation. */
    struct map passwords;
    unsigned char cache_secret[32];
    struct attack_kind attacks[32]; /* the last one is for kinds beyond them */
};

struct submission {
    struct list node; /* submit->clients */
    struct list stranger_node;
    bool stranger; /* is in submit->strangers */
    uint64_t since_ms;
    struct submit *submit;
    struct listener *listener; /* borrowed */
    struct conn *conn;
    struct smtp_server *server;
    struct log log;
    struct smtp_peer peer;
    char address_key[CLIENT_KEY_BYTES]; /* of limits */
    char *account_key;                  /* owned: "account:NAME" once its connection is counted, or NULL */
    struct accounts *accounts;          /* counted: what find_account last borrowed from */
    struct tls_peer tls_peer;           /* the client's certificate, if it was asked for and shown */
    uint64_t handshake_until_ms;        /* 0: none is under way */
    unsigned depth;
    bool dead, finishing, counted;
    struct password_work *work;     /* under way, or NULL */
    struct pending_accept *pending; /* under way, or NULL */
};

void submission_open(struct submit *s, struct listener *l, int fd, const struct ip *ip, uint16_t port);
/* The account if it may be used from this peer; borrowed from c->accounts. */
const struct account *submission_find_account(struct submission *c, const char *user);
void submission_drain(struct submission *c);
void submission_close(struct submission *c);

/* admission.c: who may come in, and who must make room. */
struct client_limits client_limits_of(const struct worker *w);
/* Counts the connection of this address.  false: `why` is the 421 to say. */
bool admission_take(struct submit *s, const char *address_key, bool trusted, int fd, const char **why);
void admission_give(struct submit *s, const char *address_key);
void admission_begin(struct submission *c); /* it is a stranger, unless its network is trusted */
void admission_known(struct submission *c); /* it has proved an account, sent a message, or ended */

/* password.c: PBKDF2 on the thread pool, with a cache.  The answer is smtp_server_auth_done, perhaps at once.
 */
void password_check(struct submission *c, const char *user, const char *password);
void password_abandon(struct submission *c); /* the client goes away */
void password_cache_clear(struct submit *s);

/* for password.c: brackets around calls into the server from outside an event */
void submission_enter(struct submission *c);
void submission_leave(struct submission *c); /* sends, sets the deadline, frees a dead client */

/* client_certificate.c: both borrow from c->accounts. */
bool client_certificate_is_known(struct submission *c);
const struct account *client_certificate_account(struct submission *c, const char *user);
/* After the handshake: reads the certificate; false where one is required and this one is not good enough. */
bool client_certificate_admits(struct submission *c, const char **why);

#define HANDSHAKE_TOO_SLOW "TLS handshake: not finished in time"

/* attack.c.  `what` is static; detail may be foreign. */
void attack_report(struct submission *c, const char *what, const char *detail);
void attack_report_handshake(struct submission *c,
                             const char *why); /* one that failed: an attack, or just a failure */
/* Is there room this minute for one more line of that kind?  What is left out is counted, and told later. */
bool attack_is_worth_a_line(struct submit *s, const char *what, unsigned most);
struct attack_kind *attack_kind_of(struct submit *s, const char *what);
