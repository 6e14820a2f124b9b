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
    bool changed;           /* since it was kept */
    uint32_t behind;        /* an event is in force: the step it would be on, from 1; 0: none is */
    struct outcome refusal; /* the last of the period; code 0: none yet */
    uint64_t policy_version;
};

struct sources {
    pthread_mutex_t lock; /* of the maps */
    struct map states, groups, uses;
    struct store *store;     /* borrowed; NULL: closed */
    struct shaping *shaping; /* borrowed: the register of automatic events; NULL: none */
    uint64_t tried_ms;
};

/* sources_warmup.c; under the group's lock */
/* A ladder that the document does not have any more has no event either. */
void sources_end_events(struct sources *all, const struct policy *p);
uint64_t source_warmup_wait_ms(struct source_use *use, const struct warmup_ladder *l, int64_t now_ms);
/* sources.c */
struct source_use *source_use_of(struct sources *all, const char *group, const char *address);
