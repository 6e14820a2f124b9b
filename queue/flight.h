/*
 * How many recipients are in transactions whose results are not on disk yet: after a run that was cut short,
 * these at most may get a second copy.
 *
 * The counts lie in a page of the file DIR/flight that is mapped, so counting is an addition in memory, and
 * the kernel keeps it when the process dies.  It does not when the host goes down: then, and where the file
 * is not that of the run asked about (a copy, another data directory, a file that could not be made), nothing
 * is known.
 *
 *     flight_begin ─► transaction ─► flight_end: not sent after all
 *                                └─► record ─► history has it on disk ─► flight_safe
 *
 * Thread    flight_begin and flight_end: each worker its own slot; flight_safe: history, when it hands results to the store.  Owner: the store.
 */
#pragma once

#include <stdint.h>

#include "base/macros.h"

struct flight;

/* What the run that began then has left; -1: not known. */
int64_t flight_left(const char *dir, int64_t run);
/* For this run, from nothing.  Never NULL: where there can be no file it counts all the same, and says so in
 * the log. */
struct flight *flight_start(const char *dir, int64_t run, unsigned workers);
void flight_close(struct flight *f); /* NULL is fine */

void flight_begin(struct flight *f, unsigned worker, uint32_t rcpts);
void flight_end(struct flight *f, unsigned worker, uint32_t rcpts);
void flight_safe(struct flight *f, uint64_t rcpts);
