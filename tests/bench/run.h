/*
 * One measured run: a fresh daemon, a sink and a source, each a process of its own.
 * Prints the figures; tests/bench/README.md explains them.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct run_opts {
    const char *workload; /* W1, W4, W5 or W6; NULL: a profile */
    const char *profile;  /* see profile.h; NULL: a workload */
    const char *build;    /* folder of hayaumad */
    uint64_t repeat;
    uint64_t messages;        /* 0: as the workload says */
    uint64_t bytes;           /* the same */
    uint64_t sessions, rcpts; /* 0: as the workload says */
    uint64_t connections;     /* to the sink at most; the same */
    uint64_t delay_ms;        /* of each group of the sink's replies; UINT64_MAX: the same */
    uint64_t fill;            /* recipients laid into the queue first; the same */
    uint64_t domains;         /* 0: as the workload says */
    uint64_t kills;           /* of profile crash */
    uint64_t workers;         /* of the daemon; 0: one a core */
    bool json, keep;          /* keep: leave the folder with log and data, and print where it is */
};

bool run_is_workload(const char *name);
/* True when every run was exact: all accepted, each delivered once, the daemon ended well.  Profile crash
 * only wants that nothing is lost: what was in doubt when the daemon was killed comes twice, as SMTP has it.
 */
bool run_workload(const struct run_opts *opts);
