/*
 * A scripted SMTP server, and an owner of the client that logs what it is told.
 *
 * A script is lines:
 *     "S text"    the server says text CRLF; neighbouring S lines arrive in one segment
 *     "R octets"  the same without the CRLF
 *     "C text"    the client has said exactly this line, and after the last C of a row nothing more:
 *                 the rows show what travels in one write
 *     "= n"       n octets of body (of any kind) follow, unlooked at
 *     "close"     the server closes           "late"   the deadline passes
 *     "submit"    the owner submits the next  "quit"   the owner quits
 *     "hold"      the output stays where it is: the next S is said before it left
 *     "kept"      the end of a message is kept back, and no clock runs for it
 *     "release"   the owner lets it go
 * The log has one line per event, see client_script.c.
 */
#pragma once

#include "engine/smtp/client.h"

#define SCRIPT_TXNS_MAX  4
#define SCRIPT_RCPTS_MAX 6

struct script_message {
    const char *sender;
    const char *rcpts[SCRIPT_RCPTS_MAX]; /* up to the first NULL */
    const char *body;
    uint32_t flags, body_flags;
    bool on_disk;           /* not in memory: read by the call-back */
    uint64_t pretend_bytes; /* on_disk: a body of so many octets of 'x' lines */
    bool read_fails;
    const char *envid, *orcpt;
    enum dsn_ret ret;
    uint8_t notify;
};

struct script_case {
    const char *name;
    const char *const *lines;              /* NULL ends them */
    const char *want;                      /* the log */
    const struct script_message *messages; /* up to sender NULL; NULL: one plain message */
    enum smtp_pipelining pipelining;
    bool use_chunking;
    bool starttls; /* the owner asks for it when it is offered, and the handshake succeeds */
    bool quits_in_handshake;
    const char *user, *password; /* the owner asks for AUTH */
    bool by_hand;                /* transactions only at "submit" */
    bool keeps;                  /* the end of the first message, and after each outcome that of the next */
    bool stay;                   /* no quit when nothing is left to submit */
    const char *ehlo_name;
    bool one_way; /* its result depends on how replies are cut: not replayed in pieces */
};

#define LINES(...) ((const char *const[]){__VA_ARGS__, NULL})

extern const struct script_message
    script_plain[]; /* "a@s.example" → "r@d.example", "Subject: hi\r\n\r\nHi.\r\n" */

/*
 * Plays a case; `cut` octets of each segment of the server arrive first, then the rest (0: all at once,
 * SIZE_MAX: octet by octet).  Fails the test when the client says something else or the log differs.
 */
void script_play(const struct script_case *sc, size_t cut);
/* All at once, octet by octet, and cut at each of the first 40 octets. */
void script_play_every_way(const struct script_case *sc);
