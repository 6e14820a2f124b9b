#include "tests/bench/wire.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_BYTES 65536

static bool watch(struct wire *w, int epoll, void *data)
{
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = data};
    int one = 1;

    setsockopt(w->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return epoll_ctl(epoll, EPOLL_CTL_ADD, w->fd, &ev) == 0;
}

bool wire_connect(struct wire *w, int epoll, const struct ip *ip, uint16_t port, void *data)
{
    struct sockaddr_storage to;
    socklen_t len = ip_to_sockaddr(ip, port, &to);

    w->fd = socket(to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (w->fd < 0)
        return false;
    if (connect(w->fd, (struct sockaddr *)&to, len) == 0 || errno == EINPROGRESS)
        return watch(w, epoll, data);
    wire_close(w);
    return false;
}

bool wire_adopt(struct wire *w, int epoll, int fd, void *data)
{
    w->fd = fd;
    return watch(w, epoll, data);
}

static ssize_t take(struct wire *w, char *to)
{
    if (!w->tls)
        return recv(w->fd, to, READ_BYTES, 0);
    ssize_t n;
    char next;
    /* After a ticket of TLS 1.3, GnuTLS says AGAIN with records still in the socket; no edge would come for
     * them. */
    do
        n = gnutls_record_recv(w->tls, to, READ_BYTES);
    while (n == GNUTLS_E_INTERRUPTED || (n == GNUTLS_E_AGAIN && recv(w->fd, &next, 1, MSG_PEEK) == 1));
    if (n >= 0)
        return n;
    errno = n == GNUTLS_E_AGAIN ? EAGAIN : ECONNRESET;
    return -1;
}

enum wire_result wire_read(struct wire *w)
{
    ssize_t n = take(w, buf_reserve(&w->in, READ_BYTES));

    if (n > 0) {
        w->in.len += (size_t)n;
        return WIRE_DATA;
    }
    return n < 0 && (errno == EAGAIN || errno == EINTR || errno == ENOTCONN) ? WIRE_WAIT : WIRE_GONE;
}

static ssize_t put(struct wire *w, const char *from, size_t n)
{
    if (!w->tls)
        return send(w->fd, from, n, MSG_NOSIGNAL);
    ssize_t sent = gnutls_record_send(w->tls, from, n);
    if (sent < 0)
        errno = sent == GNUTLS_E_AGAIN || sent == GNUTLS_E_INTERRUPTED ? EAGAIN : EPIPE;
    return sent;
}

enum wire_result wire_flush(struct wire *w)
{
    while (w->sent < w->out.len) {
        ssize_t n = put(w, w->out.at + w->sent, w->out.len - w->sent);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR || errno == ENOTCONN ? WIRE_WAIT : WIRE_GONE;
        w->sent += (size_t)n;
    }
    buf_clear(&w->out);
    w->sent = 0;
    return WIRE_DATA;
}

void wire_close(struct wire *w)
{
    if (w->tls) {
        if (!w->shaking)
            gnutls_bye(w->tls, GNUTLS_SHUT_WR); /* so the other side keeps the session for resumption */
        gnutls_deinit(w->tls);
    }
    if (w->fd >= 0)
        close(w->fd);
    buf_fini(&w->in);
    buf_fini(&w->out);
    *w = (struct wire){.fd = -1};
}

int wire_listen(const struct ip *ip, uint16_t *port)
{
    struct sockaddr_storage at;
    socklen_t len = ip_to_sockaddr(ip, *port, &at);
    int fd = socket(at.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    struct ip bound;

    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&at, len) == 0 && listen(fd, 1024) == 0) {
        len = sizeof at;
        if (getsockname(fd, (struct sockaddr *)&at, &len) == 0 &&
            ip_from_sockaddr((struct sockaddr *)&at, &bound, port))
            return fd;
    }
    close(fd);
    return -1;
}
