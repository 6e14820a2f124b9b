/*
 * The machine a run was measured on, and how much of its processors others took meanwhile: a figure without
 * these says nothing.
 */
#pragma once

#include <stdint.h>

#include "tests/bench/report.h"

/* Processor time since boot, of everybody and of this process with its children that have ended. */
struct machine_times {
    uint64_t all_us, busy_us, ours_us;
};

struct machine_times machine_times(void);
/* Share of the processors, in percent, that neither we nor our children took between the two. */
double machine_others_percent(const struct machine_times *from, const struct machine_times *to);
/* One section; `folder` is where the data lies, `load` the load average before the run. */
void machine_report(const char *folder, double load, struct report *to);
