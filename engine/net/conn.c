#include "engine/net/conn.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "engine/net/tls.h"

#define IOV_MAX_HERE     64
#define FINISH_LIMIT_MS  2000
#define READS_PER_WAKE   8 /* then the loop looks at the others: P6 */
#define TLS_RECORD_BYTES 16384
#define TLS_GATHER_BELOW 8192

enum conn_state { CONN_NEW, CONN_CONNECTING, CONN_OPEN, CONN_HANDSHAKING, CONN_FINISHING, CONN_CLOSED };

struct conn {
    struct conn_pool *pool; /* borrowed */
    struct conn_events events;
    void *arg;
    enum conn_state state;
    int fd;
    uv_poll_t poll;
    uv_timer_t timer;
    int open_handles;
    bool poll_active, paused, want_write, in_flush, timer_armed;
    int poll_mask;
    uint64_t deadline_ms, armed_ms;
    struct outq *out;     /* borrowed: the session's */
    size_t out_max;       /* 0: no limit */
    struct outq rest;     /* owned: what conn_finish still sends */
    gnutls_session_t tls; /* owned */
    size_t tls_unsent;    /* octets that GnuTLS took and has not written: to be consumed once it has */
    struct buf raw_left;  /* owned: read below TLS, not yet asked for by it */
    size_t raw_at;
    bool raw_was_full; /* the last read filled the buffer: there may be more */
    enum err lost;     /* found while flushing: told from the loop */
    char lost_why[96];
};

static void on_poll(uv_poll_t *handle, int status, int events);
static void on_timer(uv_timer_t *handle);
static void read_some(struct conn *c);

struct conn *conn_create(struct conn_pool *pool, const struct conn_events *events, void *arg)
{
    struct conn *c = MEM_NEW(struct conn);

    c->pool = pool;
    c->events = *events;
    c->arg = arg;
    c->fd = -1;
    uv_timer_init(pool->loop, &c->timer);
    c->timer.data = c;
    c->open_handles = 1;
    return c;
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct conn *c = handle->data;

    if (--c->open_handles)
        return;
    if (c->fd >= 0)
        close(c->fd);
    if (c->tls)
        tls_session_end(c->tls);
    outq_fini(&c->rest);
    buf_fini(&c->raw_left);
    mem_free(c);
}

void conn_close(struct conn *c)
{
    if (!c || c->state == CONN_CLOSED)
        return;
    if (c->tls && c->state == CONN_OPEN && !c->tls_unsent)
        gnutls_bye(c->tls, GNUTLS_SHUT_WR); /* best effort: the socket never blocks */
    c->state = CONN_CLOSED;
    c->out = NULL;
    if (c->open_handles == 2) {
        uv_poll_stop(&c->poll);
        uv_close((uv_handle_t *)&c->poll, on_handle_closed);
    }
    uv_close((uv_handle_t *)&c->timer, on_handle_closed);
}

static void lose(struct conn *c, enum err e, const char *why)
{
    if (c->state == CONN_CLOSED)
        return;
    if (c->state == CONN_FINISHING) {
        conn_close(c);
    } else if (c->state == CONN_CONNECTING) {
        c->events.on_connected(c->arg, e, why);
    } else if (c->state == CONN_HANDSHAKING) {
        c->state = CONN_OPEN; /* the owner closes */
        c->events.on_handshake(c->arg, e, why);
    } else {
        c->events.on_lost(c->arg, e, why);
    }
}

static bool may_read(const struct conn *c)
{
    return !c->paused && !(c->out_max && c->out && c->out->len >= c->out_max);
}

/* What GnuTLS or pull() holds wakes no poll. */
static bool holds_input(const struct conn *c)
{
    return c->tls && (c->raw_at < c->raw_left.len || gnutls_record_check_pending(c->tls));
}

static void update_poll(struct conn *c)
{
    int mask = 0;

    if (c->state == CONN_CLOSED || c->open_handles < 2)
        return;
    if (may_read(c) && c->state != CONN_CONNECTING && c->state != CONN_FINISHING)
        mask |= UV_READABLE;
    if (c->want_write || c->state == CONN_CONNECTING)
        mask |= UV_WRITABLE;
    if (mask == c->poll_mask)
        return;
    c->poll_mask = mask;
    if (mask)
        uv_poll_start(&c->poll, mask, on_poll);
    else
        uv_poll_stop(&c->poll);
}

static enum err start_poll(struct conn *c, int fd)
{
    int rc = uv_poll_init(c->pool->loop, &c->poll, fd);

    if (rc)
        return err_from_errno(-rc);
    c->fd = fd;
    c->poll.data = c;
    c->open_handles = 2;
    return OK;
}

static void set_no_delay(int fd)
{
    int one = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); /* we write whole groups ourselves */
}

enum err conn_adopt(struct conn *c, int fd)
{
    assert(c->state == CONN_NEW);
    set_no_delay(fd);
    enum err e = start_poll(c, fd);
    if (e)
        return e;
    c->state = CONN_OPEN;
    update_poll(c);
    return OK;
}

enum err conn_connect(struct conn *c, const struct ip *to, uint16_t port, const struct ip *source)
{
    struct sockaddr_storage address;
    int fd = socket(to->family == 4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    assert(c->state == CONN_NEW);
    if (fd < 0)
        return err_from_errno(errno);
    set_no_delay(fd);
    if (source) {
        int one = 1;
        setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
        socklen_t len = ip_to_sockaddr(source, 0, &address);
        if (bind(fd, (struct sockaddr *)&address, len) < 0) {
            close(fd);
            return ERR_INVALID;
        }
    }
    socklen_t len = ip_to_sockaddr(to, port, &address);
    if (connect(fd, (struct sockaddr *)&address, len) < 0 && errno != EINPROGRESS) {
        enum err e = err_from_errno(errno);
        close(fd);
        return e == OK ? ERR_IO : e;
    }
    enum err e = start_poll(c, fd);
    if (e) {
        close(fd);
        return e;
    }
    c->state = CONN_CONNECTING;
    update_poll(c);
    return OK;
}

bool conn_source_for(const struct ip *to, uint16_t port, struct ip *source)
{
    struct sockaddr_storage address;
    socklen_t len = ip_to_sockaddr(to, port, &address);
    uint16_t any;
    int fd = socket(to->family == 4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return false;
    bool found = connect(fd, (struct sockaddr *)&address, len) == 0;
    len = sizeof(address);
    found = found && getsockname(fd, (struct sockaddr *)&address, &len) == 0 &&
            ip_from_sockaddr((struct sockaddr *)&address, source, &any);
    close(fd);
    return found;
}

void conn_set_output(struct conn *c, struct outq *out)
{
    c->out = out;
}

void conn_set_output_max(struct conn *c, size_t bytes)
{
    c->out_max = bytes;
}

gnutls_session_t conn_tls(const struct conn *c)
{
    return c->tls;
}

/* ---- deadline: the timer is moved only when it would ring too late ---- */

void conn_set_deadline(struct conn *c, uint64_t at_ms)
{
    c->deadline_ms = at_ms;
    if (!at_ms || c->state == CONN_CLOSED)
        return;
    if (c->timer_armed && c->armed_ms <= at_ms)
        return;
    uint64_t now = uv_now(c->pool->loop);
    c->armed_ms = at_ms;
    c->timer_armed = true;
    uv_timer_start(&c->timer, on_timer, at_ms > now ? at_ms - now : 0, 0);
}

static void on_timer(uv_timer_t *handle)
{
    struct conn *c = handle->data;

    c->timer_armed = false;
    if (!c->deadline_ms)
        return;
    if (c->deadline_ms > uv_now(c->pool->loop)) {
        conn_set_deadline(c, c->deadline_ms);
        return;
    }
    c->deadline_ms = 0;
    if (c->state == CONN_FINISHING)
        conn_close(c);
    else
        c->events.on_deadline(c->arg);
}

/* ---- sending ---- */

static bool would_block(int code)
{
    return code == EAGAIN || code == EWOULDBLOCK || code == EINTR;
}

static ssize_t send_clear(struct conn *c, struct outq *q)
{
    struct iovec iov[IOV_MAX_HERE];
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = (size_t)outq_iov(q, iov, IOV_MAX_HERE)};
    ssize_t n = sendmsg(c->fd, &msg, MSG_NOSIGNAL);

    if (n >= 0)
        return n;
    if (would_block(errno))
        return 0;
    snprintf(c->lost_why, sizeof(c->lost_why), "%s", strerror(errno));
    c->lost = err_from_errno(errno);
    return -1;
}

/*
 * What goes into the next record: a long run as it is, short ones gathered, so that a group of commands is
 * one record.  When all that waits fits into one it is gathered too: the end of a body and the commands
 * behind it are one write, which is worth a copy.
 */
static struct bytes next_record(struct conn *c, struct outq *q)
{
    struct bytes front = outq_front(q);
    struct iovec iov[IOV_MAX_HERE];
    size_t len = 0;

    if (front.len == q->len || (front.len >= TLS_GATHER_BELOW && q->len > TLS_RECORD_BYTES))
        return bytes_first(front, TLS_RECORD_BYTES);
    int n = outq_iov(q, iov, IOV_MAX_HERE);
    for (int i = 0; i < n && len < TLS_RECORD_BYTES; i++) {
        size_t part = MIN_OF(iov[i].iov_len, TLS_RECORD_BYTES - len);
        memcpy(c->pool->record + len, iov[i].iov_base, part);
        len += part;
    }
    return bytes_make(c->pool->record, len);
}

static ssize_t send_tls(struct conn *c, struct outq *q)
{
    ssize_t n;

    if (c->tls_unsent) {
        n = gnutls_record_send(c->tls, NULL, 0);
        if (n >= 0) {
            n = (ssize_t)c->tls_unsent;
            c->tls_unsent = 0;
        }
    } else {
        struct bytes record = next_record(c, q);
        n = gnutls_record_send(c->tls, record.at, record.len);
        if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED)
            c->tls_unsent = record.len;
    }
    if (n >= 0)
        return n;
    if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED)
        return 0;
    snprintf(c->lost_why, sizeof(c->lost_why), "TLS: %s", gnutls_strerror((int)n));
    c->lost = ERR_TLS;
    return -1;
}

void conn_flush(struct conn *c)
{
    struct outq *q = c->state == CONN_FINISHING ? &c->rest : c->out;

    if (c->in_flush || c->lost || !q || (c->state != CONN_OPEN && c->state != CONN_FINISHING))
        return;
    bool was_held = c->out_max && !may_read(c);
    c->in_flush = true;
    c->want_write = false;
    while (!outq_is_empty(q)) {
        ssize_t n = c->tls ? send_tls(c, q) : send_clear(c, q);
        if (n > 0)
            outq_consume(q, (size_t)n);
        if (n > 0 && c->events.on_low && c->state == CONN_OPEN && q->len < CONN_LOW_BYTES)
            c->events.on_low(c->arg, (size_t)n);
        if (n <= 0) {
            c->want_write = true; /* with an error too: the loop calls on_poll, which tells it */
            break;
        }
    }
    c->in_flush = false;
    if (was_held && may_read(c) && holds_input(c))
        c->want_write = true; /* so that the loop comes to read it */
    if (c->state == CONN_FINISHING && (outq_is_empty(q) || c->lost))
        conn_close(c);
    else
        update_poll(c);
}

void conn_finish(struct conn *c)
{
    if (c->state == CONN_CLOSED)
        return;
    if (c->state != CONN_OPEN || !c->out || outq_is_empty(c->out) || c->lost) {
        conn_close(c);
        return;
    }
    c->rest = *c->out;
    *c->out = (struct outq){0};
    c->out = NULL;
    c->state = CONN_FINISHING;
    conn_set_deadline(c, uv_now(c->pool->loop) + FINISH_LIMIT_MS);
    conn_flush(c);
}

/* ---- receiving ---- */

/* GnuTLS asks for a header, then for a body: it gets both out of one recv. */
static ssize_t pull(gnutls_transport_ptr_t ptr, void *out, size_t want)
{
    struct conn *c = ptr;

    if (c->raw_at == c->raw_left.len) {
        c->raw_at = c->raw_left.len = 0;
        ssize_t n = recv(c->fd, c->pool->raw, sizeof(c->pool->raw), 0);
        c->raw_was_full = n == (ssize_t)sizeof(c->pool->raw);
        if (n <= 0 || (size_t)n <= want) {
            if (n > 0)
                memcpy(out, c->pool->raw, (size_t)n);
            else if (n < 0)
                gnutls_transport_set_errno(c->tls, errno);
            return n;
        }
        memcpy(out, c->pool->raw, want);
        buf_put(&c->raw_left, bytes_make(c->pool->raw + want, (size_t)n - want));
        return (ssize_t)want;
    }
    size_t n = MIN_OF(want, c->raw_left.len - c->raw_at);
    memcpy(out, c->raw_left.at + c->raw_at, n);
    c->raw_at += n;
    if (c->raw_at == c->raw_left.len && c->raw_left.cap > TLS_RECORD_BYTES * 2) {
        buf_fini(&c->raw_left); /* an idle connection keeps no large buffer */
        c->raw_at = 0;
    }
    return (ssize_t)n;
}

static int pull_timeout(gnutls_transport_ptr_t ptr, unsigned ms)
{
    struct conn *c = ptr;
    (void)ms;
    return c->raw_at < c->raw_left.len;
}

static bool read_clear(struct conn *c)
{
    ssize_t n = recv(c->fd, c->pool->in, sizeof(c->pool->in), 0);

    if (n > 0) {
        c->events.on_data(c->arg, bytes_make(c->pool->in, (size_t)n));
        return (size_t)n == sizeof(c->pool->in);
    }
    if (n == 0)
        lose(c, ERR_CLOSED, "connection closed by the peer");
    else if (!would_block(errno))
        lose(c, err_from_errno(errno), strerror(errno));
    return false;
}

static bool read_tls(struct conn *c)
{
    ssize_t n = gnutls_record_recv(c->tls, c->pool->in, sizeof(c->pool->in));

    if (n > 0) {
        c->events.on_data(c->arg, bytes_make(c->pool->in, (size_t)n));
        return c->raw_was_full || holds_input(c); /* else the poll says when more is there */
    }
    if (n == 0) {
        lose(c, ERR_CLOSED, "connection closed by the peer");
    } else if (n == GNUTLS_E_REHANDSHAKE) {
        gnutls_alert_send(c->tls, GNUTLS_AL_WARNING, GNUTLS_A_NO_RENEGOTIATION);
        lose(c, ERR_TLS, "TLS: the peer asked for renegotiation");
    } else if (n == GNUTLS_E_PREMATURE_TERMINATION) {
        lose(c, ERR_CLOSED, "connection closed by the peer without TLS close");
    } else if (n != GNUTLS_E_AGAIN && n != GNUTLS_E_INTERRUPTED && gnutls_error_is_fatal((int)n)) {
        char why[96];
        snprintf(why, sizeof(why), "TLS: %s", gnutls_strerror((int)n));
        lose(c, ERR_TLS, why);
    }
    /* "Again" also comes after a session ticket or key update: what pull() still holds wakes no poll. */
    return c->state == CONN_OPEN && c->raw_at < c->raw_left.len;
}

static void read_some(struct conn *c)
{
    for (int i = 0; c->state == CONN_OPEN && may_read(c); i++) {
        bool tls = c->tls != NULL; /* on_data may start TLS: then nothing more is read in clear */
        if (!(tls ? read_tls(c) : read_clear(c)))
            return;
        if (i >= READS_PER_WAKE && !holds_input(c))
            return;
    }
}

/* ---- TLS ---- */

/* GnuTLS asks to be called again after each record of a message that spans several (a long chain does); the
 * rest may have been read already, and then no poll says so. */
static int handshake_step(struct conn *c)
{
    size_t left;
    int rc;

    do {
        left = c->raw_left.len - c->raw_at;
        rc = gnutls_handshake(c->tls);
    } while (rc == GNUTLS_E_AGAIN && c->raw_left.len > c->raw_at && c->raw_left.len - c->raw_at != left);
    return rc;
}

static void handshake(struct conn *c)
{
    int rc = handshake_step(c);

    if (rc == GNUTLS_E_SUCCESS) {
        c->want_write = false;
        c->state = CONN_OPEN;
        if (c->raw_at == c->raw_left.len) { /* it was as long as a chain of certificates; replies are short */
            buf_fini(&c->raw_left);
            c->raw_at = 0;
        }
        update_poll(c);
        c->events.on_handshake(c->arg, OK, "");
        if (c->state == CONN_OPEN && may_read(c) && c->tls)
            read_some(c); /* application data may lie behind the Finished already */
        return;
    }
    if (rc == GNUTLS_E_AGAIN || rc == GNUTLS_E_INTERRUPTED || !gnutls_error_is_fatal(rc)) {
        c->want_write = gnutls_record_get_direction(c->tls) == 1;
        update_poll(c);
        return;
    }
    char why[160];
    if (rc == GNUTLS_E_FATAL_ALERT_RECEIVED)
        snprintf(why, sizeof(why), "TLS alert from the peer: %s",
                 gnutls_alert_get_name(gnutls_alert_get(c->tls)) ?: "unknown");
    else
        snprintf(why, sizeof(why), "TLS handshake: %s", gnutls_strerror(rc));
    gnutls_alert_send_appropriate(c->tls, rc);
    lose(c, ERR_TLS, why);
}

void conn_start_tls(struct conn *c, gnutls_session_t session)
{
    assert(c->state == CONN_OPEN && !c->tls);
    conn_flush(c); /* a few octets into an empty socket buffer: the 220, or STARTTLS itself */
    c->tls = session;
    gnutls_transport_set_int(session, c->fd); /* GnuTLS pushes to the fd itself */
    gnutls_transport_set_ptr2(session, (gnutls_transport_ptr_t)c, (gnutls_transport_ptr_t)(intptr_t)c->fd);
    gnutls_transport_set_pull_function(session, pull);
    gnutls_transport_set_pull_timeout_function(session, pull_timeout);
    c->state = CONN_HANDSHAKING;
    /*
     * The first step comes from the loop, not from here: against a quick peer it may be the last one too,
     * and what lies behind it must not reach the owner while he is still calling us.
     */
    c->want_write = true;
    update_poll(c);
}

/* ---- the loop ---- */

static void connect_done(struct conn *c)
{
    int code = 0;
    socklen_t len = sizeof(code);

    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &code, &len) < 0)
        code = errno;
    if (code) {
        lose(c, err_from_errno(code) ?: ERR_IO, strerror(code));
        return;
    }
    c->state = CONN_OPEN;
    update_poll(c);
    c->events.on_connected(c->arg, OK, "");
}

static void on_event(struct conn *c, int events)
{
    if (c->state == CONN_CONNECTING) {
        connect_done(c);
        return;
    }
    if (c->state == CONN_HANDSHAKING) {
        handshake(c);
        return;
    }
    if (c->lost) {
        enum err e = c->lost;
        if (events & UV_READABLE && !c->paused && c->state == CONN_OPEN)
            read_some(c); /* a last reply (421 …) may lie before the reset */
        if (c->state == CONN_OPEN || c->state == CONN_FINISHING)
            lose(c, e, c->lost_why);
        return;
    }
    if (events & UV_WRITABLE)
        conn_flush(c);
    if (c->state == CONN_OPEN && may_read(c) && (events & UV_READABLE || holds_input(c)))
        read_some(c);
}

static void on_poll(uv_poll_t *handle, int status, int events)
{
    struct conn *c = handle->data;

    if (status >= 0) {
        on_event(c, events);
        return;
    }
    /* The socket has an error, and libuv has stopped to look at it.  recv and send say which, but only behind
     * the octets that lie before it: so it is looked at again. */
    c->poll_mask = 0;
    on_event(c, UV_READABLE | UV_WRITABLE);
    update_poll(c);
}

void conn_pause(struct conn *c)
{
    c->paused = true;
    update_poll(c);
}

void conn_resume(struct conn *c)
{
    if (!c->paused)
        return;
    c->paused = false;
    update_poll(c);
    if (c->state == CONN_OPEN && may_read(c) && holds_input(c))
        read_some(c);
}

static bool name_of(int (*get)(int, struct sockaddr *, socklen_t *), const struct conn *c, struct ip *ip,
                    uint16_t *port)
{
    struct sockaddr_storage sa;
    socklen_t len = sizeof(sa);

    return c->fd >= 0 && get(c->fd, (struct sockaddr *)&sa, &len) == 0 &&
           ip_from_sockaddr((struct sockaddr *)&sa, ip, port);
}

bool conn_peer(const struct conn *c, struct ip *ip, uint16_t *port)
{
    return name_of(getpeername, c, ip, port);
}

bool conn_local(const struct conn *c, struct ip *ip, uint16_t *port)
{
    return name_of(getsockname, c, ip, port);
}
