/*
 * The load source: sessions that submit numbered messages as fast as they are answered, or at a rate.
 * Every recipient is `nNUMBER@dK.example.test` (or example.test when there is one domain), and each delivery
 * has a number of its own, by which the sink knows losses and copies.  Loopback only. Thread    one;
 * source_run() returns when every message was answered or given up.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/ip.h"
#include "tests/bench/report.h"
#include "tests/bench/stats.h"

struct source_opts {
    struct ip ip;
    uint16_t port;
    unsigned sessions, rcpts, domains;
    uint64_t messages, body_bytes;
    uint64_t first;         /* the first delivery number */
    uint64_t rate;          /* messages per second in all; 0: no limit */
    uint64_t reconnect;     /* messages per connection; 0: no limit */
    uint64_t connect_tries; /* in a row and 200 ms apart, then a session ends; 0: 5 */
    uint64_t idle_ms;       /* a session that hears nothing so long is given up */
    bool starttls;
    bool chunking;               /* each message by one BDAT, where it is offered (RFC 3030) */
    const char *user, *password; /* NULL: no AUTH.  Borrowed */
    const char *campaign;        /* NULL: none.  Borrowed */
    const char *sender;          /* borrowed */
    struct mark *marks;          /* by delivery number, for all of them; NULL: none.  Borrowed */
};

/* Times are of clock_now_us(); the struct holds no pointer, so it may lie in shared memory. */
struct source_result {
    uint64_t began_us, ended_us; /* first connect, last 250 */
    uint64_t accepted, accepted_rcpts, refused,
        aborted; /* messages; aborted: the session broke before the answer */
    uint64_t refused_rcpts, connections, tls, tls_resumed, connect_failed, lost_connections;
    struct hist ack_us;     /* final dot sent to its reply */
    struct hist message_us; /* MAIL sent to the reply after the dot */
    char refusal[200];      /* the first reply that refused something */
};

void source_run(const struct source_opts *opts, struct source_result *out);
void source_report(const struct source_result *result, struct report *to);
