/*
 * What a domain would get: MX, DNSSEC, TLSA, MTA-STS, each host's greeting, STARTTLS, versions and
 * certificates, the verdict of every level, and what the live policy would do.  No mail is sent.
 *
 * Thread    a probe runs on the worker that owns the domain.
 */
#pragma once

#include <jansson.h>

#include "engine/worker.h"

enum probe_depth {
    PROBE_QUICK, /* hosts in order of preference until one takes mail: a list before a campaign */
    PROBE_FULL,  /* every host, every version of TLS */
};

/* fn gets the result (a new reference; the shape is in webui-api/README.md), from the loop.  Never after
 * probes_close. */
typedef void (*probe_fn)(void *arg, json_t *result);
void probe_domain(struct worker *w, const char *domain, enum probe_depth depth, probe_fn fn, void *arg);
/* Ends all of this worker; before its DNS closes. */
void probes_close(struct worker *w);
