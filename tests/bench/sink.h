/*
 * The counting sink: an SMTP server that takes everything, keeps nothing and counts what came.
 * Thread    one; sink_run() returns after SIGTERM or SIGINT.  SIGUSR1 prints the counters, SIGUSR2 clears
 * them; all four are blocked from the call on.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "tests/bench/refuse.h"
#include "tests/bench/report.h"

struct sink_opts {
    int listener;                     /* taken: from wire_listen() */
    const char *cert_file, *key_file; /* NULL: no STARTTLS.  Borrowed */
    uint64_t delay_ms; /* each group of replies is held so long, as a path with that round trip would */
    bool chunking;     /* offers BDAT */
    bool json;
    struct refuse refuse;
    struct mark *marks; /* by delivery number; NULL: none.  Borrowed */
    uint64_t mark_count;
};

/* Times are of clock_now_us(), 0: never.  No pointer: the struct may lie in memory shared with a reader. */
struct sink_counts {
    uint64_t messages, recipients, unique, duplicates, unnumbered, content_bytes;
    uint64_t connections, connections_now, connections_max, tls, tls_resumed, tls_failed;
    uint64_t refused, bad_commands, lost_in_message; /* lost: the connection went inside the content */
    uint64_t first_us, last_us;                      /* first and last message taken */
    struct hist delivery_us; /* the source's final dot to the sink's; with marks only */
};

void sink_run(struct sink_opts *opts, struct sink_counts *counts);
void sink_report(const struct sink_counts *counts, struct report *to);
