/*
 * What is known of the resolvers' validation: asked at start, after a reload and hourly; each minute while it does not work.
 * A warning is logged when it does not and a group wants DANE; then dane_lookup() says so instead of asking.
 *
 * Thread    one per process, owned by the engine.  The questions go out from worker 0; what was found may be read anywhere.
 */
#pragma once

#include "engine/dane/probe.h"

struct dnssec_watch;
struct worker;

struct dnssec_watch *dnssec_watch_create(void);
void dnssec_watch_destroy(struct dnssec_watch *w); /* NULL is fine; after the workers */
/* For dns_config.dnssec: enum dnssec_probe. */
const atomic_int *dnssec_watch_state(const struct dnssec_watch *w);
void dnssec_watch_report(struct dnssec_watch *w, struct dnssec_report *out);
/* At the next beat.  Any thread. */
void dnssec_watch_ask(struct dnssec_watch *w);
/* Asks, and waits for what comes of it; false: nothing came in time.  Any thread but the workers. */
bool dnssec_watch_ask_and_wait(struct dnssec_watch *w, unsigned timeout_ms, struct dnssec_report *out);
const char *dnssec_watch_hint(enum dnssec_probe state); /* what to do about it; "" when it works */

/* Worker 0, on its thread: once a second; and before its loop ends. */
void dnssec_watch_beat(struct dnssec_watch *w, struct worker *worker);
void dnssec_watch_close(struct dnssec_watch *w);
