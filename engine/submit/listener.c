/* Listening sockets: one per worker and address (SO_REUSEPORT), or inherited ones. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "engine/submit/submit.h"

#define INHERITED_FIRST_FD 3 /* sd_listen_fds(3) */
#define BACKLOG            1024

/* A socket handed over by the service manager that listens on this address, or -1. */
static int inherited(const struct ip *ip, uint16_t port)
{
    const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");

    if (!pid || !count || atol(pid) != (long)getpid())
        return -1;
    for (int fd = INHERITED_FIRST_FD; fd < INHERITED_FIRST_FD + atoi(count); fd++) {
        struct sockaddr_storage sa;
        socklen_t len = sizeof(sa);
        struct ip have;
        uint16_t have_port;
        if (getsockname(fd, (struct sockaddr *)&sa, &len) == 0 &&
            ip_from_sockaddr((struct sockaddr *)&sa, &have, &have_port) && have_port == port &&
            ip_eq(&have, ip)) {
            fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
            fcntl(fd, F_SETFD, FD_CLOEXEC);
            return fd;
        }
    }
    return -1;
}

static int bind_one(const struct ip *ip, uint16_t port)
{
    struct sockaddr_storage sa;
    socklen_t len = ip_to_sockaddr(ip, port, &sa);
    int one = 1;
    int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (ip->family == 6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)) == 0 &&
        bind(fd, (struct sockaddr *)&sa, len) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    int code = errno;
    close(fd);
    errno = code;
    return -1;
}

/* SO_REUSEPORT lets a second daemon of the same user share the port: a first bind without it finds that out.
 */
static bool port_is_free(const struct ip *ip, uint16_t port)
{
    struct sockaddr_storage sa;
    socklen_t len = ip_to_sockaddr(ip, port, &sa);
    int one = 1;
    int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return true; /* bind_one() says why */
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (ip->family == 6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
    bool is_free = bind(fd, (struct sockaddr *)&sa, len) == 0 && listen(fd, 1) == 0;
    int code = errno;
    close(fd);
    errno = code;
    return is_free;
}

static char *why_not(const char *address)
{
    if (errno == EADDRINUSE)
        return text_format(
            "cannot listen on %s: another program has the port; stop it, or change listeners.address",
            address);
    if (errno == EACCES)
        return text_format("cannot listen on %s: not permitted; start as root, give the program "
                           "CAP_NET_BIND_SERVICE, or hand "
                           "the socket over (LISTEN_FDS)",
                           address);
    if (errno == EADDRNOTAVAIL)
        return text_format("cannot listen on %s: this machine has no such address; change listeners.address",
                           address);
    return text_format("cannot listen on %s: %m", address);
}

void listener_set_rules(struct listener *l, const struct conf *all)
{
    const struct conf_listener *conf = l->conf;
    struct listener_rules *rules = MEM_NEW(struct listener_rules);

    rules->smtp = (struct smtp_listener_rules){
        .host_name = l->host_name,
        .implicit_tls = conf->tls == LISTENER_TLS_IMPLICIT,
        .offer_starttls = conf->tls == LISTENER_TLS_STARTTLS,
        .require_tls = conf->require_tls && conf->tls != LISTENER_TLS_NONE,
        .require_auth = !conf_listener_admits_all(conf),
        .auth_without_tls = conf->auth_without_tls,
        .certificate_suffices = conf->auth == LISTENER_AUTH_CERTIFICATE,
        .bare_newline = (enum smtp_bare_newline)conf->bare_newline,
        .message_bytes_max = all->submission.message_bytes,
        .recipients_max = (uint32_t)all->submission.recipients,
        .header_bytes_max = 256 * 1024,
        .received_max = (uint32_t)all->submission.received_hops,
        .errors_max = (uint32_t)all->submission.errors_per_connection,
        .messages_max = (uint32_t)all->submission.messages_per_connection,
        .command_timeout_ms = (uint32_t)all->submission.command_timeout_ms,
        .data_timeout_ms = (uint32_t)all->submission.data_timeout_ms,
        .data_rate_min = (uint32_t)all->submission.data_rate_min,
        .add_date = true,
        .add_message_id = true,
        .smtputf8 = true,
        .convert_8bit = all->submission.convert_8bit,
    };
    rules->older = atomic_load(&l->rules);
    atomic_store_explicit(&l->rules, rules, memory_order_release);
}

static void set_trusted(struct listener *l, const struct conf_listener *conf)
{
    l->trusted = mem_zalloc((conf->trusted_networks.count + 1) * sizeof(*l->trusted));
    for (size_t i = 0; i < conf->trusted_networks.count; i++)
        if (ip_net_parse(bytes_of(conf->trusted_networks.items[i]), &l->trusted[l->trusted_count]))
            l->trusted_count++;
}

enum err listener_open(const struct conf_listener *conf, const struct conf *all, const char *host_name,
                       unsigned workers, struct listener **out, char **why)
{
    struct listener *l = MEM_NEW(struct listener);

    pthread_mutex_init(&l->tls_lock, NULL);
    pthread_mutex_init(&l->ear_lock, NULL);
    l->conf = conf;
    l->host_name = host_name;
    l->worker_count = workers;
    l->fds = mem_alloc(workers * sizeof(int));
    l->ears = mem_alloc(workers * sizeof(int));
    for (unsigned i = 0; i < workers; i++)
        l->fds[i] = l->ears[i] = -1;
    listener_set_rules(l, all);
    set_trusted(l, conf);
    if (!ip_parse_port(bytes_of(conf->address), 0, &l->ip, &l->port)) {
        *why =
            text_format("listeners.address %s is not an address with port, like 0.0.0.0:587", conf->address);
        listener_destroy(l);
        return ERR_INVALID;
    }
    int given = inherited(&l->ip, l->port);
    l->is_one_socket = given >= 0;
    if (given < 0 && !port_is_free(&l->ip, l->port)) {
        *why = why_not(conf->address);
        listener_destroy(l);
        return ERR_BUSY;
    }
    for (unsigned i = 0; i < workers; i++) {
        l->fds[i] = given < 0 ? bind_one(&l->ip, l->port) : i == 0 ? given : fcntl(given, F_DUPFD_CLOEXEC, 3);
        if (l->fds[i] < 0) {
            *why = why_not(conf->address);
            listener_destroy(l);
            return ERR_BUSY;
        }
    }
    *out = l;
    return OK;
}

void listener_destroy(struct listener *l)
{
    if (!l)
        return;
    for (unsigned i = 0; i < l->worker_count; i++)
        if (l->fds[i] >= 0)
            close(l->fds[i]);
    tls_server_unref(l->tls);
    pthread_mutex_destroy(&l->tls_lock);
    pthread_mutex_destroy(&l->ear_lock);
    for (struct listener_rules *r = atomic_load(&l->rules), *older; r; r = older) {
        older = r->older;
        mem_free(r);
    }
    mem_free(l->fds);
    mem_free(l->ears);
    mem_free(l->trusted);
    mem_free(l);
}

void listener_set_deaf(struct listener *l, unsigned worker, bool deaf)
{
    pthread_mutex_lock(&l->ear_lock);
    int fd = l->is_one_socket ? -1 : l->ears[worker];
    if (fd >= 0 && (deaf ? shutdown(fd, SHUT_RD) : listen(fd, BACKLOG)) != 0)
        log_warn(NULL, "listener.deaf", LOG_INT("worker", worker), LOG_INT("deaf", deaf),
                 LOG_STR("why", strerror(errno)));
    pthread_mutex_unlock(&l->ear_lock);
}

void listener_close_ear(struct listener *l, unsigned worker)
{
    pthread_mutex_lock(&l->ear_lock);
    close(l->ears[worker]);
    l->ears[worker] = -1;
    pthread_mutex_unlock(&l->ear_lock);
}

struct tls_server *listener_tls(struct listener *l)
{
    pthread_mutex_lock(&l->tls_lock);
    struct tls_server *tls = tls_server_ref(l->tls);
    pthread_mutex_unlock(&l->tls_lock);
    return tls;
}

void listener_set_tls(struct listener *l, struct tls_server *tls)
{
    pthread_mutex_lock(&l->tls_lock);
    struct tls_server *old = l->tls;
    l->tls = tls;
    pthread_mutex_unlock(&l->tls_lock);
    tls_server_unref(old);
}
