/*
 * Submission on one worker: its listening sockets and the connections they accepted.
 *
 * Thread    the worker's, but for listen_open.
 */
#pragma once

#include "engine/smtp/server.h"
#include "engine/worker.h"

struct listener_rules {
    struct smtp_listener_rules smtp;
    struct listener_rules *older;
};

/* A listener of the configuration, bound; shared by all workers, each with its own socket (SO_REUSEPORT). */
struct listener {
    const struct conf_listener *conf; /* borrowed */
    const char *host_name;            /* borrowed */
    _Atomic(struct listener_rules *)
        rules; /* owned, with all older ones: sessions keep the one they began with */
    struct ip ip;
    uint16_t port;
    struct ip_net *trusted; /* owned */
    size_t trusted_count;
    unsigned worker_count;
    int *fds; /* owned: one per worker; -1 once the worker has taken it */
    bool is_one_socket;       /* an inherited one: the kernel gives its connections to whoever asks */
    pthread_mutex_t ear_lock;
    int *ears;                /* owned; what the workers have taken; -1: closed */
    pthread_mutex_t tls_lock;
    struct tls_server *tls; /* counted; under the lock: swapped on reload */
};

/* Before threads and before privileges are dropped.  Inherited sockets (LISTEN_FDS) of the same address are
 * used. */
MUST_CHECK enum err listener_open(const struct conf_listener *conf, const struct conf *all,
                                  const char *host_name, unsigned workers, struct listener **out, char **why);
void listener_destroy(struct listener *l);
/* Any thread: what new sessions are held to from now on. */
void listener_set_rules(struct listener *l, const struct conf *all);
static inline const struct smtp_listener_rules *listener_rules(struct listener *l)
{
    return &atomic_load_explicit(&l->rules, memory_order_acquire)->smtp;
}
/*
 * Any thread.  Deaf: nobody connects to this worker any more, and who waits to be accepted by it is reset, so that he
 * tries again and reaches another; not deaf: it listens as before.
 */
void listener_set_deaf(struct listener *l, unsigned worker, bool deaf);
void listener_close_ear(struct listener *l, unsigned worker); /* the worker's thread: its socket */
struct tls_server *listener_tls(struct listener *l);               /* any thread; counted: unref it */
void listener_set_tls(struct listener *l, struct tls_server *tls); /* any thread; takes the reference */

struct submit *submit_create(struct worker *w);
void submit_listen(struct submit *s, struct listener *l); /* the worker's thread, or before it runs */
/* Stops listening; sessions get 421 when they are between messages. */
void submit_drain(struct submit *s);
size_t submit_open(const struct submit *s); /* connections */
void submit_close(struct submit *s);
void submit_destroy(struct submit *s);
