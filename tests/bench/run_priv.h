/*
 * What the runs share: run.c measures workloads one way, profile.c an operator's questions, each its own way.
 * Owner     run.c makes a struct run and ends what is in it.
 */
#pragma once

#include <sys/types.h>

#include "tests/bench/daemon.h"
#include "tests/bench/run.h"
#include "tests/bench/sink.h"
#include "tests/bench/source.h"

struct run;

/* How much of what.  `domains` and `bytes` are those of the run when nothing else was asked for. */
struct workload {
    const char *name;
    uint64_t messages, delay_ms, bytes, domains;
    bool tls_in, tls_out;
    bool share_contents;                     /* daemon.h */
    uint64_t sessions, rcpts, connections;   /* 0: 50, 1, 100 */
    uint64_t fill;                           /* recipients laid into the queue before the daemon starts */
    bool chunking;                           /* BDAT in and out */
    bool by_dns;                             /* finds the sink by MX records instead of a smart host */
    bool (*measure)(struct run *, unsigned); /* prints; true when exact */
    const char *help;                        /* NULL for the workloads */
};

/* What the children write and we read.  Counters are words; a torn sum is read again. */
struct board {
    struct sink_counts sink;
    struct source_result source;
    struct sink_counts trap; /* of the receiver that holds up mail */
    uint64_t dns_queries;
};

struct run {
    const struct run_opts *opts; /* borrowed */
    const struct workload *workload;
    struct daemon daemon;
    struct daemon_opts how;
    struct board *board; /* shared memory, as are the marks */
    struct mark *marks;  /* by delivery number; NULL for the workloads */
    uint64_t mark_count;
    pid_t sink, nameserver, trap; /* 0: not running */
    uint64_t connect_tries;       /* of each session of the source in a row; 0: as it does by itself */
    uint64_t pss_peak, spool_peak;
};

#define RUN_SETTLE_MS 1000 /* late copies, log lines, clean-up */

bool run_interrupted(void);
pid_t run_fork(void); /* the child ends with us */
uint64_t run_messages(const struct run *run);
uint64_t run_bytes(const struct run *run);
uint64_t run_domains(const struct run *run);
uint64_t run_sessions(const struct run *run);
uint64_t run_rcpts(const struct run *run);
uint64_t run_connections(const struct run *run);
uint64_t run_delay_ms(const struct run *run);
uint64_t run_fill(const struct run *run);
unsigned run_workers(const struct run *run);
void run_stop_child(pid_t *pid);
/* Starts the sink; *port 0 chooses one. */
bool run_start_sink(struct run *run, uint16_t *port);
void run_stop_sink(struct run *run);
void run_sample(struct run *run); /* memory */
/* Submits in a process of its own; *pid is to be given to run_await_source(). */
bool run_start_source(struct run *run, uint64_t first, uint64_t messages, pid_t *pid);
/* Calls `meanwhile` (may be NULL) every 20 ms.  False when it failed or we were interrupted. */
bool run_await_source(struct run *run, pid_t pid, bool (*meanwhile)(struct run *, void *), void *arg);
/* Returns when so many different ones came, or when none has come for 45 s. */
void run_await_deliveries(struct run *run, uint64_t want);
/* Name server if the workload wants one, sink and daemon. */
bool run_start(struct run *run);
bool run_submit(struct run *run, uint64_t first, uint64_t messages);
/* Some messages all the way, then the counters are cleared. */
bool run_warm_up(struct run *run);
uint64_t run_first(const struct run *run); /* the first delivery number after the warm-up */
