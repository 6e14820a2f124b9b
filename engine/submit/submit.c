#include "engine/submit/submit.h"

#include <errno.h>
#include <gnutls/crypto.h>
#include <limits.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/mem.h"
#include "engine/submit/submission.h"

#define ACCEPTS_PER_WAKE 64
#define FDS_KEPT         16  /* for the API, the spool, DNS and deliveries */
#define PAUSE_MS         100 /* after EMFILE: the backlog waits, the loop does not spin */

struct ear { /* one listening socket */
    struct list node;
    struct submit *submit;
    struct listener *listener; /* borrowed */
    int fd;
    uv_poll_t poll;
    uv_timer_t pause;
    int handles;
};

static void on_ear_closed(uv_handle_t *handle)
{
    struct ear *ear = handle->data;

    if (--ear->handles)
        return;
    listener_close_ear(ear->listener, ear->submit->w->index);
    mem_free(ear);
}

static void on_readable(uv_poll_t *poll, int status, int events);

static void on_pause_over(uv_timer_t *timer)
{
    struct ear *ear = timer->data;

    uv_poll_start(&ear->poll, UV_READABLE, on_readable);
}

static void pause_listening(struct ear *ear)
{
    uv_poll_stop(&ear->poll);
    uv_timer_start(&ear->pause, on_pause_over, PAUSE_MS, 0);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct ear *ear = poll->data;
    (void)status;
    (void)events;

    for (int i = 0; i < ACCEPTS_PER_WAKE; i++) {
        struct sockaddr_storage sa;
        socklen_t len = sizeof(sa);
        struct ip ip;
        uint16_t port;
        int fd = accept4(ear->fd, (struct sockaddr *)&sa, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)) {
            log_warn(&ear->submit->w->log, "accept.failed", LOG_STR("why", strerror(errno)));
            pause_listening(ear);
            return;
        }
        if (fd < 0 &&
            errno == EINVAL) /* the watchdog has made us deaf, and hears of our return in a moment */
            pause_listening(ear);
        if (fd < 0)
            return;
        if (!ip_from_sockaddr((struct sockaddr *)&sa, &ip, &port)) {
            close(fd);
            continue;
        }
        submission_open(ear->submit, ear->listener, fd, &ip, port);
    }
}

/* The lowest free descriptor is taken first, so its number says how many are in use. */
static int fd_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur > INT_MAX)
        return INT_MAX;
    return (int)limit.rlim_cur - FDS_KEPT;
}

struct submit *submit_create(struct worker *w)
{
    struct submit *s = MEM_NEW(struct submit);

    s->w = w;
    s->fd_limit = fd_limit();
    list_init(&s->ears);
    list_init(&s->clients);
    list_init(&s->strangers);
    if (gnutls_rnd(GNUTLS_RND_KEY, s->cache_secret, sizeof(s->cache_secret)) < 0)
        log_error(&w->log, "random.failed");
    return s;
}

void submit_listen(struct submit *s, struct listener *l)
{
    struct ear *ear = MEM_NEW(struct ear);

    ear->submit = s;
    ear->listener = l;
    ear->fd = l->fds[s->w->index];
    l->fds[s->w->index] = -1;
    l->ears[s->w->index] = ear->fd;
    ear->handles = 2;
    uv_poll_init(&s->w->loop, &ear->poll, ear->fd);
    ear->poll.data = ear;
    uv_timer_init(&s->w->loop, &ear->pause);
    ear->pause.data = ear;
    uv_poll_start(&ear->poll, UV_READABLE, on_readable);
    list_push_back(&s->ears, &ear->node);
}

void submit_drain(struct submit *s)
{
    struct list *node;

    s->draining = true;
    while ((node = list_pop(&s->ears))) {
        struct ear *ear = LIST_ENTRY(node, struct ear, node);
        uv_poll_stop(&ear->poll);
        uv_close((uv_handle_t *)&ear->poll, on_ear_closed);
        uv_close((uv_handle_t *)&ear->pause, on_ear_closed);
    }
    LIST_FOREACH_SAFE (client_node, &s->clients)
        submission_drain(LIST_ENTRY(client_node, struct submission, node));
}

size_t submit_open(const struct submit *s)
{
    return s->client_count;
}

void submit_close(struct submit *s)
{
    submit_drain(s);
    LIST_FOREACH_SAFE (node, &s->clients)
        submission_close(LIST_ENTRY(node, struct submission, node));
}

void submit_destroy(struct submit *s)
{
    if (!s)
        return;
    password_cache_clear(s);
    map_fini(&s->passwords);
    explicit_bzero(s->cache_secret, sizeof(s->cache_secret));
    mem_free(s);
}
