/*
 * One measured run: a fresh daemon, a sink and a source, each a process of its own.
 * Prints the figures; tests/bench/README.md explains them.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct run_opts {
    const char *workload; /* W1, W4, W5 or W6 */
    const char *build;    /* folder of hayaumad */
    uint64_t repeat;
    uint64_t messages; /* 0: as the workload says */
    uint64_t bytes;    /* the same */
    uint64_t sessions, rcpts, domains;
    bool json, keep; /* keep: leave the folder with log and data, and print where it is */
};

bool run_is_workload(const char *name);
/* True when every run was exact: all accepted, each delivered once, the daemon ended well. */
bool run_workload(const struct run_opts *opts);
