/* The history thread's state, for history.c, history_follow.c and history_retention.c only. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "base/log.h"
#include "queue/history_priv.h"

struct history {
    char *dir; /* owned */
    unsigned retention_days;
    struct store *store; /* borrowed; NULL: nobody wants the batches */
    struct inbox inbox;
    struct doorbell bell;
    pthread_t thread;
    struct pulse pulse;
    struct log log;
    atomic_size_t backlog;
    atomic_bool stopping;
    _Atomic uint64_t give_up_ms;

    /* The history thread's: */
    struct note *waiting, **waiting_end; /* batches not yet safe, oldest first */
    struct day *day;                     /* owned; NULL: none open */
    int64_t day_number;                  /* of `day`, or of the last one */
    bool entered;                        /* day_number means something */
    int64_t tried_day, least_day;        /* last opened, or tried to; files of least_day … */
    unsigned tried_number, least_number; /* … below least_number are damaged and left alone */
    int64_t last_id;
    size_t tried_batches; /* of a transaction whose end is unknown */
    int64_t tried_first_id, tried_rows, tried_first_session, tried_sessions;
    uint64_t retry_at_ms, failing_since_ms, rolled_ms, kept_house_ms;
    unsigned failures;       /* in a row */
    int64_t clock_offset_ms; /* wall minus steady clock */
    uint64_t steady_since_ms, retention_ms;

    /* Followers: */
    pthread_mutex_t follow_lock;
    pthread_cond_t follow_cond; /* CLOCK_MONOTONIC */
    atomic_uint followers;      /* inside history_follow() */
    _Atomic int64_t safe_id;    /* newest committed record */
    char *current_path;         /* under follow_lock */
};

/* history_follow.c */
void follow_announce(struct history *h); /* after a commit */
void follow_wake_all(struct history *h);

/* history_retention.c; history thread */
void finish_old_days(struct history *h);              /* what a crash left open */
void retention_look(struct history *h, uint64_t now); /* often; deletes when it is time */
