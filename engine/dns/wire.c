/* One socket, one question, one server. */
#include "engine/dns/dns_priv.h"

#include <errno.h>
#include <unistd.h>

#include "base/mem.h"

#define PACKETS_PER_WAKE 16

struct dns_wire {
    uv_poll_t poll;
    struct dns *d;
    struct dns_lookup *owner;
    int fd;
    bool tcp;
    struct buf out; /* TCP: length and query, until sent */
    size_t sent;
    struct buf in; /* TCP: length and answer */
};

static enum err open_socket(const struct dns_server *server, bool tcp, int *out)
{
    struct sockaddr_storage address;
    socklen_t len = ip_to_sockaddr(&server->ip, server->port, &address);
    int fd = socket(address.ss_family, (tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM ? ERR_FULL : ERR_IO;
    if (connect(fd, (struct sockaddr *)&address, len) < 0 && errno != EINPROGRESS) {
        enum err e = errno == EAGAIN || errno == EADDRNOTAVAIL ? ERR_FULL : ERR_IO; /* out of local ports */
        close(fd);
        return e;
    }
    *out = fd;
    return OK;
}

static void fail(struct dns_wire *w)
{
    dns_lookup_on_wire(w->owner, DNS_WIRE_FAILED, (struct bytes){0});
}

static void receive_udp(struct dns_wire *w)
{
    struct dns *d = w->d;

    /* An event may close w: then it has no owner any more, and lives on until its handle has closed. */
    for (int i = 0; i < PACKETS_PER_WAKE && w->owner; i++) {
        ssize_t n = recv(w->fd, d->packet, sizeof(d->packet), 0);
        if (n >= 0) {
            dns_lookup_on_wire(w->owner, DNS_WIRE_PACKET, bytes_make(d->packet, (size_t)n));
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return;
        } else if (errno != EINTR) {
            fail(w);
            return;
        }
    }
}

static void receive_tcp(struct dns_wire *w)
{
    while (true) {
        size_t want = 2;
        if (w->in.len >= 2)
            want += (size_t)((uint8_t)w->in.at[0] << 8 | (uint8_t)w->in.at[1]);
        if (w->in.len == want && want > 2) {
            dns_lookup_on_wire(w->owner, DNS_WIRE_PACKET, bytes_skip(buf_bytes(&w->in), 2));
            return;
        }
        ssize_t n = recv(w->fd, buf_reserve(&w->in, want - w->in.len), want - w->in.len, 0);
        if (n > 0) {
            w->in.len += (size_t)n;
        } else if (n == 0 || (errno != EINTR && errno != EAGAIN && errno != EWOULDBLOCK)) {
            fail(w);
            return;
        } else if (errno != EINTR) {
            return;
        }
    }
}

static void on_poll(uv_poll_t *poll, int status, int events);

static void send_tcp(struct dns_wire *w)
{
    while (w->sent < w->out.len) {
        ssize_t n = send(w->fd, w->out.at + w->sent, w->out.len - w->sent, MSG_NOSIGNAL);
        if (n > 0) {
            w->sent += (size_t)n;
        } else if (n < 0 && errno == EINTR) {
            continue;
        } else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            return;
        } else {
            fail(w);
            return;
        }
    }
    if (uv_poll_start(&w->poll, UV_READABLE, on_poll) != 0)
        fail(w);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct dns_wire *w = CONTAINER_OF(poll, struct dns_wire, poll);

    if (!w->owner)
        return;
    if (w->tcp && w->sent < w->out.len)
        send_tcp(w); /* a failed connect shows here as well */
    else if (w->tcp)
        receive_tcp(w);
    else
        receive_udp(w);
}

static void on_closed(uv_handle_t *handle)
{
    struct dns_wire *w = CONTAINER_OF((uv_poll_t *)handle, struct dns_wire, poll);
    struct dns *d = w->d;

    buf_fini(&w->in);
    buf_fini(&w->out);
    mem_free(w);
    dns_handle_closed(d);
}

static enum err start(struct dns_wire *w, struct bytes query)
{
    if (w->tcp) {
        buf_putc(&w->out, (char)(query.len >> 8));
        buf_putc(&w->out, (char)(query.len & 0xff));
        buf_put(&w->out, query);
        return uv_poll_start(&w->poll, UV_WRITABLE, on_poll) == 0 ? OK : ERR_IO;
    }
    if (send(w->fd, query.at, query.len, MSG_NOSIGNAL) < 0 && errno != EAGAIN && errno != EINTR &&
        errno != ENOBUFS)
        return ERR_IO;
    return uv_poll_start(&w->poll, UV_READABLE, on_poll) == 0 ? OK : ERR_IO;
}

enum err dns_wire_open(struct dns *d, struct dns_lookup *owner, const struct dns_server *server, bool tcp,
                       struct bytes query, struct dns_wire **out)
{
    int fd = -1;
    enum err e = open_socket(server, tcp, &fd);

    if (e)
        return e;
    struct dns_wire *w = MEM_NEW(struct dns_wire);
    w->d = d;
    w->owner = owner;
    w->fd = fd;
    w->tcp = tcp;
    if (uv_poll_init_socket(d->loop, &w->poll, fd) != 0) {
        close(fd);
        mem_free(w);
        return ERR_FULL;
    }
    d->handles++;
    e = start(w, query);
    if (e) {
        dns_wire_close(w);
        return e;
    }
    *out = w;
    return OK;
}

void dns_wire_close(struct dns_wire *w)
{
    if (!w)
        return;
    w->owner = NULL;
    uv_close((uv_handle_t *)&w->poll, on_closed);
    close(w->fd); /* the handle has let go of it: uv_close stops polling at once */
}
