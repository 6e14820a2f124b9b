/*
 * How messages came in: by hour, account, source address, listener, TLS and proof of identity; sums only.
 *
 * Thread    intake_count from any; a thread of its own writes what has come about once a second.
 * Promise   an orderly end writes everything; a process that is killed loses what the last second counted, a
 * power cut perhaps some seconds more.  It is a report: nothing else is decided by it. File DIR/intake.db;
 * hours older than the retention are deleted.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/ip.h"
#include "base/macros.h"
#include "base/pulse.h"

struct intake;

struct intake_facts {    /* borrowed until return */
    const char *account; /* or NULL */
    struct ip source;
    const char *listener; /* "0.0.0.0:587" */
    const char *version;  /* "TLS1.3"; NULL: in clear */
    const char *cipher;   /* or NULL */
    const char *auth;     /* "plain", "external", … "none" */
};

/* days: retention; 0: for ever.  *why: mem_free. */
MUST_CHECK enum err intake_open(const char *dir, unsigned days, struct intake **out, char **why);
struct pulse *intake_pulse(struct intake *t); /* of its thread, for the watchdog */
void intake_close(struct intake *t); /* NULL is fine; nobody counts any more */
/* One accepted message. */
void intake_count(struct intake *t, const struct intake_facts *facts, uint32_t recipients, uint64_t bytes);

/* ---- the report; any thread ---- */
enum intake_by {
    INTAKE_BY_ACCOUNT,
    INTAKE_BY_SOURCE,
    INTAKE_BY_NETWORK, /* /24 and /64 */
    INTAKE_BY_LISTENER,
    INTAKE_BY_VERSION,
    INTAKE_BY_CIPHER,
    INTAKE_BY_AUTH,
    INTAKE_BY_HOUR,
};
enum intake_sort { INTAKE_SORT_VOLUME, INTAKE_SORT_KEY, INTAKE_SORT_CLEAR, INTAKE_SORT_OLD };

struct intake_query {
    int64_t since_unix, until_unix; /* whole hours that overlap; 0: no bound */
    enum intake_by by;
    enum intake_sort sort;
    const char *account, *listener, *auth; /* only these; NULL: all; account "" is none */
    const struct ip_net *source;           /* only from here, or NULL */
    size_t limit;                          /* rows; 0: all */
};

struct intake_cipher {
    char *version, *cipher; /* owned */
    uint64_t messages;
};
#define INTAKE_AUTHS 8

struct intake_row {
    char *key; /* owned; "" is no account, or no cipher */
    int64_t hour_unix;
    uint64_t messages, recipients, bytes;
    uint64_t clear, older, tls12, tls13; /* messages */
    int64_t last_unix;
    struct intake_cipher *ciphers; /* owned; most messages first */
    size_t cipher_count;
    struct {
        char *name; /* owned */
        uint64_t messages;
    } auths[INTAKE_AUTHS];
    size_t auth_count;
};
struct intake_report {
    struct intake_row *rows; /* owned */
    size_t count, rows_in_all;
    struct intake_row total;
};
MUST_CHECK enum err intake_report(const char *dir, const struct intake_query *q, struct intake_report *out);
void intake_report_fini(struct intake_report *r);
