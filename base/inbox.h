/*
 * How threads talk: typed notes posted to the inbox of the thread that owns the state.
 *
 * A note is embedded in the message that it carries; `run` is called by the receiving thread with
 * the inbox's owner.  A reply is the same note, or another, posted back.  Notes of one sender arrive
 * in the order in which they were posted.  Wake-ups coalesce.  A poster rings after its note may already have been run, so
 * an inbox and its bell outlive all who post to it.  Nothing here bounds the number of
 * notes: who posts bounds what it has under way (windows, pools, one request per connection).
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct note;
typedef void (*note_fn)(struct note *note, void *owner);

struct note {
    struct note *next; /* the inbox's */
    note_fn run;
};

struct inbox {
    _Atomic(struct note *) head; /* newest first */
    void (*wake)(void *arg);     /* callable from any thread: uv_async_send, doorbell_ring */
    void *wake_arg;
    void *owner;
};

void inbox_init(struct inbox *in, void *owner, void (*wake)(void *), void *wake_arg);
/* Any thread.  The note is theirs now. */
void inbox_post(struct inbox *in, struct note *note);
/* Owner's thread.  Runs notes, oldest first, until none is left; returns how many. */
size_t inbox_drain(struct inbox *in);
/* Owner's thread.  All waiting notes as a chain, oldest first, for owners that batch; or NULL. */
struct note *inbox_take(struct inbox *in);
bool inbox_is_empty(const struct inbox *in);

/* A bell for threads that have no libuv loop, and for callers that wait for an answer. */
struct doorbell {
    pthread_mutex_t lock;
    pthread_cond_t rung_cond; /* CLOCK_MONOTONIC */
    bool rung;
};

void doorbell_init(struct doorbell *d);
void doorbell_fini(struct doorbell *d);
void doorbell_ring(void *doorbell); /* any thread; takes void * so that it serves as `wake` */
/* Waits until rung, or for timeout_ms (-1: for ever); true when rung.  Resets it. */
bool doorbell_wait(struct doorbell *d, int64_t timeout_ms);
