/*
 * Watches the threads that others rely on: workers, store, history, intake and main.  One whose pulse has
 * stopped for `watchdog.stuck_after` is said to be stuck, in the log, in status, in metrics and by `hayauma
 * doctor`, and is said to be back; after `watchdog.abort_after` the process ends, so that the service manager
 * starts it anew (nothing that was answered 250 is lost by that).
 *
 * It counts its own seconds, not the clock's: a process that was stopped as a whole, or a machine that slept,
 * makes nobody stuck.
 *
 * Thread    one of its own; nothing here waits for a thread that is watched.
 */
#pragma once

#include <jansson.h>

#include "base/bytes.h"
#include "base/macros.h"
#include "base/err.h"
#include "base/pulse.h"
#include "engine/conf.h"

struct watchdog;

/* The nth pulse that was added has stopped (stuck), or is back.  Run on the watchdog's thread; must not wait.
 */
typedef void (*watchdog_fn)(void *arg, size_t nth, bool stuck);

struct watchdog *watchdog_create(const _Atomic(const struct conf *) *conf); /* borrowed; the newest counts */
/* Before watchdog_start().  A thread is watched from its first beat on.  The pulse is borrowed and outlives
 * the watchdog's thread. */
void watchdog_add(struct watchdog *d, const char *thread, struct pulse *pulse, watchdog_fn on_change,
                  void *arg);
MUST_CHECK enum err watchdog_start(struct watchdog *d);
void watchdog_stop(struct watchdog *d); /* nobody is watched any more; what was found last stays to be read */
void watchdog_destroy(struct watchdog *d);

/* One second has passed; the thread calls it. */
void watchdog_look(struct watchdog *d, unsigned stuck_after_s, unsigned abort_after_s);
/* Any thread. */
bool watchdog_any_stuck(const struct watchdog *d);
json_t *watchdog_json(const struct watchdog *d); /* [{thread, seconds_without_turn, stuck}] */
void watchdog_metrics(const struct watchdog *d, struct buf *out);
