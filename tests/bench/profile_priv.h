/*
 * What the profiles share: the figures of a run and how they are printed.
 */
#pragma once

#include "tests/bench/machine.h"
#include "tests/bench/profile.h"
#include "tests/bench/run_priv.h"

/* Of one run, beside what lies on the board. */
struct figures;
typedef void (*report_fn)(const struct run *run, const struct figures *f, struct report *r);

struct figures {
    struct machine_times from, to;
    double load;
    struct daemon_usage base;    /* of the daemon that runs, when counting began */
    uint64_t user_us, system_us; /* of all daemons of the run */
    uint64_t peak_accepting;     /* backlog: memory; run->pss_peak is the drain's then */
    uint64_t stop_ms, start_ms, from_start_us;
    uint64_t kills, restart_ms_max, restart_ms_sum;
    bool ended_well;
    uint64_t accepted_before; /* messages, in the first of two rounds; 0: there is one */
    struct mark_counts marks;
    uint64_t written; /* to the disk, by all daemons of the run */
    report_fn report; /* the throughput section, when it is not the usual one */
    /* profile_scale.c */
    uint64_t fill_us, first_us, drain_from_us, list_us, summary_us, drained, drain_cpu_us, start_pss;
    int64_t left;
    double per_s[2], cpu_us[2]; /* per delivery: without and with what the profile is about */
    uint64_t trapped, tools_us;
    double signatures_per_s;
};

struct figures profile_begin(void);
/* CPU of the running daemon counts from now on. */
bool profile_count_from_here(struct run *run, struct figures *f);
/* Adds what the running daemon took; the next one is counted from its start. */
bool profile_add_cpu(struct run *run, struct figures *f);
/* Late copies come before the daemon has ended; then it is all there. */
bool profile_end_daemon(struct run *run, struct figures *f);
void profile_count_marks(const struct run *run, struct figures *f);
/* Nothing refused or left without an answer, nothing lost, nothing twice. */
bool profile_all_once(const struct run *run, const struct figures *f);
/* The daemon has ended; returns `right`: all is as it must be. */
bool profile_print(struct run *run, struct figures *f, unsigned no, bool right);

/* ---- profile_scale.c ---- */
bool measure_deep(struct run *run, unsigned no);
bool measure_beside_tarpit(struct run *run, unsigned no);
bool measure_beside_dead(struct run *run, unsigned no);
bool measure_dkim(struct run *run, unsigned no);
