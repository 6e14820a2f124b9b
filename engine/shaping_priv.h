/* What the files engine/shaping*.c share.  Locks: that of the register first, then that of one shaped. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "base/hash.h"
#include "base/list.h"
#include "base/mem.h"
#include "engine/shaping.h"

enum shaped_what {
    SHAPED_SUSPENDED, /* nothing is sent */
    SHAPED_LIMITED,   /* connections, by a rule, to its end */
    SHAPED_SLOWED,    /* messages a second, by a rule, to its end */
    SHAPED_FEWER,     /* connections that come back in steps */
    SHAPED_SLOWER,    /* messages a second that come back in steps */
    SHAPED_RESTING,   /* no host takes mail: each worker leaves the site alone, until one does; not kept */
    SHAPED_WHATS,
};

#define EVENT_KINDS                                                                                          \
    (SHAPED_WHATS + SHAPED_HOST_WHATS + SHAPING_SUBJECTS) /* for counters: hosts' behind the others */

struct shaping_event {
    uint64_t id; /* 0: not in force */
    int64_t since_unix;
    uint64_t until_ms;  /* the end, or the next step; 0: until it is cleared */
    double value, full; /* full: where the steps end */
    uint32_t step_ms;   /* between two steps */
    uint32_t keep;      /* percent that a step leaves */
    uint32_t line;      /* of the rule; 0: adaptive */
    char file[64];      /* the included file in which it stands; "": the document itself */
    uint64_t policy_version;
    enum outcome_stage stage;
    uint16_t code;
    char enhanced[12];
    char text[160];
    uint64_t kept_until_ms; /* as they were written */
    double kept_value;
    bool over, moved; /* for the next tick to tell: its time was up; it has another value */
};

struct shaping {
    pthread_mutex_t lock;
    struct store *store; /* borrowed; NULL: nothing is kept */
    struct map map;      /* struct shaped by key */
    struct map hosts;    /* struct shaped_host by address */
    struct map subjects; /* struct shaping_subject_entry */
    struct list active;  /* shaped with an event: the oldest first */
    size_t active_count;
    uint64_t last_id;
    uint64_t begun[EVENT_KINDS][2]; /* ever; by rule, adaptive */
    atomic_size_t host_count;
    atomic_bool news;
};

struct shaped {
    struct shaping *all; /* borrowed */
    char *group;         /* owned: "group NUL hosts", the key */
    const char *hosts;   /* in it */
    unsigned refs;       /* under the register's lock, as the next two */
    struct list node;    /* all->active */
    bool is_active;
    atomic_bool in_force;
    _Atomic uint64_t suspended_until_ms;
    pthread_mutex_t lock;         /* of all below */
    struct shaping_event *events; /* SHAPED_WHATS; owned, or shaped_no_events */
    uint32_t links, cap;          /* cap 0: none */
    double rate;                  /* messages a second; 0: not slowed */
    double next_ms;               /* no message before */
    uint64_t change_ms;           /* the next end or step */
    uint64_t stepped_ms;          /* last step back */
    uint64_t storm_since_ms;
    uint32_t storm_slow, storm_seen;
    atomic_uint sessions;             /* that stand */
    uint64_t refusals_since_ms;       /* a window in which connections came to nothing; 0: none */
    uint32_t refusals, refusals_base; /* in it; connections at its beginning */
    uint32_t opened, opened_before; /* connections ever; of these, before those that were being opened then */
    const void *wanted_by;
    uint64_t wanted_until_ms;
    bool yielded; /* one is about to end for it */
};

struct shaped_host {
    char *remote, *mx, *group; /* owned */
    struct shaping_event events[SHAPED_HOST_WHATS];
};

struct shaping_subject_entry {
    char *key; /* owned: "KIND GROUP NUL NAME" */
    size_t key_len;
    const char *group, *name; /* in it */
    enum shaping_subject kind;
    struct shaping_event event;
    char detail[200];
};

/* shaping.c; both under the locks */
void shaped_settle(struct shaped *s, uint64_t now_ms); /* ends and steps whose time has come */
void shaped_recount(struct shaped *s);                 /* cap, rate and the rest from the events */
struct shaped *shaped_find_or_make(struct shaping *all, const char *group, const char *hosts);
void shaped_drop_if_unused(struct shaped *s);               /* under the register's lock alone */
extern struct shaping_event shaped_no_events[SHAPED_WHATS]; /* never written */
void shaped_own_events(struct shaped *s);                   /* before one is written */
static inline bool event_holds(const struct shaping_event *e)
{
    return e->id && !e->over;
}

/* shaping_events.c; under the register's lock */
/* An event began or has another value: it gets its number, is said and kept. */
void shaped_note(struct shaped *s, enum shaped_what what, uint64_t now_ms);
void event_remember_why(struct shaping_event *e, const struct outcome *why); /* its text is cut short */
void shaped_note_end(struct shaped *s, enum shaped_what what, const char *why);
const char *shaped_what_name(enum shaped_what what);              /* "connections" */
const char *shaped_host_what_name(enum shaped_host_what what);    /* "pipelining" */
const char *shaped_first_host(const char *hosts, char name[256]); /* "mx1.example" */

/* shaping_hosts.c; under the register's lock */
void shaped_host_destroy(struct shaped_host *h);
struct shaped_host *shaped_host_find_or_make(struct shaping *all, const char *remote, const char *mx,
                                             const char *group);
void shaped_host_note_end(struct shaping *all, struct shaped_host *h, enum shaped_host_what what,
                          const char *why);

/* shaping_subjects.c; under the register's lock */
void shaping_subject_destroy(struct shaping_subject_entry *u);
struct shaping_subject_entry *shaping_subject_find_or_make(struct shaping *all, enum shaping_subject kind,
                                                           const char *group, const char *name);
void shaping_subject_note_end(struct shaping *all, struct shaping_subject_entry *u, const char *why);
const char *shaping_subject_what_name(enum shaping_subject kind); /* "warmup_step" */
const char *shaping_subject_scope(enum shaping_subject kind);     /* "source" */

/* shaping_kept.c */
struct event_kept { /* an event as it is kept; texts are borrowed from the JSON */
    struct shaping_event event;
    int what; /* enum shaped_what; behind them enum shaped_host_what; then enum shaping_subject */
    const char *group;
    const char *hosts;         /* of a site */
    const char *remote, *mx;   /* of a host */
    const char *name, *detail; /* of a subject */
    int64_t until_unix_ms;     /* 0: no end */
};
/* Pure.  Appends the value to be kept; the number is its key. */
void event_kept_put(struct buf *out, const struct event_kept *k);
/* Pure.  NULL: that is no such value.  Else what the texts lie in (json_decref). */
json_t *event_kept_parse(struct bytes value, uint64_t id, struct event_kept *out);
/* Pure.  What time did to it meanwhile: steps, and the milliseconds that are left; false: it is over. */
bool event_kept_resume(struct event_kept *k, int64_t now_unix_ms, uint64_t *left_ms);
void event_keep(struct shaping *all, struct event_kept *k, uint64_t now_ms);
void event_forget(struct shaping *all, uint64_t id);
/* One step back up.  False: it was the last, nothing is left of the limit. */
bool event_raise(struct shaping_event *e);
