/*
 * Profiles: what an operator wants to know of his own machine, each measured the way that answers it.
 * The figures come as a table or as one JSON object; tests/bench/README.md explains them.
 */
#pragma once

#include <stdio.h>

struct workload;

const struct workload *profile_find(const char *name); /* NULL: none of that name */
/* What each does, for `run --help`. */
void profile_explain(FILE *to);

/* "relay, tls, …", cut at size. */
void profile_names(char *out, size_t size);
