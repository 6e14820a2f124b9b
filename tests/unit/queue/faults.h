/*
 * A disk that fails when a test says so.  Syncs and writes of the whole process go through faults.c, SQLite's
 * too, as the program's symbols come first.
 * Thread  any.
 */
#pragma once

#include <stdbool.h>

enum fault_call {
    FAULT_SYNC,       /* fsync, fdatasync */
    FAULT_WRITE,      /* pwrite: SQLite's */
    FAULT_BODY_WRITE, /* pwritev: the spool's */
    FAULT_CALLS
};

/* The nth such call from now (1: the next) fails once with this errno; if it stays, so do all after it. */
void faults_set(enum fault_call call, int nth, int error, bool stays);
/* Calls that failed since the last faults_set. */
int faults_met(void);
/* From now on everything goes well; what was met stays counted. */
void faults_heal(void);
