/* A resolver on a loop of the test, scripted servers, and its results as text. */
#pragma once

#include "base/mem.h"
#include "engine/dns/dns_priv.h"
#include "tests/unit/engine/dns/scripted.h"

#define SERVERS 3

struct world {
    uv_loop_t loop;
    struct scripted servers[SERVERS];
    size_t count;
    struct dns *d;
    struct buf said; /* the last result as text */
    unsigned callbacks, failures;
    bool closed;
};

void world_start(struct world *w, const struct scripted_row *rows, size_t count); /* with the first server */
void world_more(struct world *w, const struct scripted_row *rows, size_t count);  /* one server more */
/* For dns_create; only the first server's AD bit is trusted. */
struct dns_config config_of(struct world *w);
void world_resolver(struct world *w); /* with config_of as it is */
void world_stop(struct world *w);

/* Callbacks whose `arg` is the world: they write `said`. */
void on_mx(void *arg, const struct dns_mx *mx);
void on_host(void *arg, const struct dns_host *h);
void on_rrset(void *arg, const struct dns_rrset *set);
void on_closed(void *arg);

/* Turns the loop until so many callbacks have come; what the last one said. */
const char *wait_for(struct world *w, unsigned callbacks);
/* `what` is MX, HOST or a type: "MX" says "ok 10:a.test", "HOST" "ok a.test 192.0.2.1". */
const char *ask(struct world *w, const char *what, const char *name);

/* Names that behave in every way, for one server. */
extern const struct scripted_row zone[];
extern const size_t zone_count;
