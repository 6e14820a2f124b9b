/* Inside of engine/sources.h: for engine/sources*.c only. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "base/hash.h"
#include "engine/sources.h"

struct source_state { /* an address of this host, or not */
    char *text;       /* owned */
    struct ip ip;
    atomic_int error;            /* errno of the last try; 0: usable */
    _Atomic(int64_t) since_unix; /* of that */
    atomic_uint connections;
    atomic_bool wanted; /* by the newest document */
};

struct source_group {
    pthread_mutex_t lock; /* of its uses too */
    char *name;           /* owned */
    double now[2];        /* virtual times, by family */
};

struct source_use {
    struct sources *all; /* borrowed, as the next two */
    struct source_group *group;
    struct source_state *state;
    char *key;          /* owned: "GROUP ADDRESS" */
    double turn;        /* virtual time: messages by weight */
    uint64_t passed_ms; /* could not take its turn then */
    struct warmup_state warm;
    uint32_t granted; /* of the period, on disk: `taken` may rise so far */
    uint32_t asked;   /* by the reservation that is under way */
    bool asking;
    bool changed; /* since it was kept */
};

struct sources {
    pthread_mutex_t lock; /* of the maps */
    struct map states, groups, uses;
    struct store *store; /* borrowed; NULL: closed */
    uint64_t tried_ms;
};

/* sources_warmup.c; under the group's lock */
uint64_t source_warmup_wait_ms(struct source_use *use, const struct warmup_ladder *l, int64_t now_ms);
/* sources.c */
struct source_use *source_use_of(struct sources *all, const char *group, const char *address);
