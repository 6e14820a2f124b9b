/* What the host gives us: ports, addresses, space, descriptors, time. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/timex.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/descriptors.h"
#include "engine/doctor.h"
#include "engine/engine_priv.h"

#define CONNECT_MS  10000
#define BANNER_MS   5000
#define OWN_PORT_MS 1000
#define SPACE_WARN  10 /* per cent free */

/* ---- connections ---- */

static bool wait_for(int fd, short events, int timeout_ms)
{
    struct pollfd p = {.fd = fd, .events = events};

    return poll(&p, 1, timeout_ms) == 1;
}

/* A connected socket, or -1 with errno. */
static int connect_to(const struct ip *ip, uint16_t port, int timeout_ms)
{
    struct sockaddr_storage sa;
    socklen_t len = ip_to_sockaddr(ip, port, &sa), error_len = sizeof(int);
    int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int error = 0;

    if (fd < 0)
        return -1;
    if (connect(fd, (struct sockaddr *)&sa, len) == 0)
        return fd;
    if (errno != EINPROGRESS)
        error = errno;
    else if (!wait_for(fd, POLLOUT, timeout_ms))
        error = ETIMEDOUT;
    else
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &error_len);
    if (!error)
        return fd;
    close(fd);
    errno = error;
    return -1;
}

/* A listener on all addresses is reached by loopback. */
static struct ip reachable(const struct ip *ip)
{
    static const struct ip any = {.family = 0};
    struct ip to = *ip;

    if (memcmp(ip->octets, any.octets, sizeof(any.octets)) != 0)
        return to;
    (void)ip_parse(ip->family == 4 ? BYTES("127.0.0.1") : BYTES("::1"), &to);
    return to;
}

void doctor_listeners(struct doctor *d)
{
    char address[IP_TEXT_BYTES];

    for (size_t i = 0; i < d->e->listener_count; i++) {
        const struct listener *l = d->e->listeners[i];
        struct ip to = reachable(&l->ip);
        int fd = connect_to(&to, l->port, OWN_PORT_MS);
        ip_format_port(&l->ip, l->port, address);
        if (fd < 0)
            doctor_say(d, "listener", DOCTOR_FAIL,
                       "is a firewall in between, or the host out of descriptors?",
                       "%s cannot be reached: %s", address, strerror(errno));
        else
            doctor_say(d, "listener", DOCTOR_OK, NULL, "%s takes connections", address);
        if (fd >= 0)
            close(fd);
    }
}

/* ---- addresses that mail leaves from ---- */

static void try_source(struct doctor *d, const char *kind, const char *name, const char *text)
{
    struct sockaddr_storage sa;
    struct ip ip;

    if (!text || !ip_parse(bytes_of(text), &ip))
        return;
    socklen_t len = ip_to_sockaddr(&ip, 0, &sa);
    int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&sa, len) != 0)
        doctor_say(d, "source", DOCTOR_FAIL, "give this host the address, or take it out of the policy",
                   "%s %s: cannot send from %s: %s", kind, name, text, strerror(errno));
    else
        doctor_say(d, "source", DOCTOR_OK, NULL, "%s %s sends from %s", kind, name, text);
    if (fd >= 0)
        close(fd);
}

/* Without IPv6 in the kernel every IPv6 host costs a failed connection. */
static void try_ipv6(struct doctor *d)
{
    if (!engine_conf(d->e)->delivery.ipv6)
        return;
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        doctor_say(d, "ipv6", DOCTOR_WARN, "set delivery.ipv6 to false", "this host has no IPv6: %s",
                   strerror(errno));
    else
        close(fd);
}

void doctor_sources(struct doctor *d)
{
    struct policy *p = engine_policy(d->e);

    for (size_t i = 0; i < policy_group_count(p); i++) {
        const struct group *g = policy_group(p, i);
        try_source(d, "group", g->name, g->source_v4);
        try_source(d, "group", g->name, g->source_v6);
    }
    for (size_t i = 0; i < policy_pool_count(p); i++)
        for (size_t k = 0; k < policy_pool(p, i)->count; k++)
            try_source(d, "pool", policy_pool(p, i)->name, policy_pool(p, i)->addresses[k].text);
    policy_unref(p);
    try_ipv6(d);
}

void doctor_name(struct doctor *d)
{
    const char *name = d->e->shared.host_name;

    if (!strchr(name, '.') || strcmp(name, "localhost.localdomain") == 0)
        doctor_say(d, "host_name", DOCTOR_WARN, "set host_name to a name that DNS gives the sending address",
                   "'%s' is said in EHLO, and many receivers refuse mail from such a name", name);
    else
        doctor_say(d, "host_name", DOCTOR_OK, NULL, "%s", name);
}

/* ---- space, descriptors, time ---- */

void doctor_space(struct doctor *d)
{
    const struct conf *conf = engine_conf(d->e);
    struct statvfs fs;

    if (statvfs(conf->data_dir, &fs) != 0 || !fs.f_blocks) {
        doctor_say(d, "space", DOCTOR_FAIL, NULL, "%s: %s", conf->data_dir, strerror(errno));
        return;
    }
    uint64_t free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    unsigned percent = (unsigned)(fs.f_bavail * 100 / fs.f_blocks);
    double gib = (double)free_bytes / (1 << 30);
    if (free_bytes <= conf->store.reserve_bytes)
        doctor_say(d, "space", DOCTOR_FAIL, "make space, or lower store.reserve",
                   "%s: %.1f GiB free, below the reserve", conf->data_dir, gib);
    else if (percent < SPACE_WARN || free_bytes < 2 * conf->store.reserve_bytes)
        doctor_say(d, "space", DOCTOR_WARN, "make space before new mail is refused",
                   "%s: %.1f GiB (%u %%) free", conf->data_dir, gib, percent);
    else
        doctor_say(d, "space", DOCTOR_OK, NULL, "%s: %.1f GiB (%u %%) free", conf->data_dir, gib, percent);
    if (fs.f_files && fs.f_favail * 100 / fs.f_files < 1)
        doctor_say(d, "space", DOCTOR_WARN, "remove files: their number is limited here, not only their size",
                   "%s: %llu inodes free", conf->data_dir, (unsigned long long)fs.f_favail);
}

void doctor_files(struct doctor *d)
{
    uint64_t wanted = descriptors_wanted(engine_conf(d->e)), allowed;

    if (!descriptors_allowed(&allowed))
        return;
    if (allowed < wanted)
        doctor_say(d, "descriptors", DOCTOR_WARN,
                   "raise LimitNOFILE= of the service, or lower the connections",
                   "%llu may be open, %llu are needed when every connection of the configuration is in use",
                   (unsigned long long)allowed, (unsigned long long)wanted);
    else if (allowed == UINT64_MAX)
        doctor_say(d, "descriptors", DOCTOR_OK, NULL, "any number may be open");
    else
        doctor_say(d, "descriptors", DOCTOR_OK, NULL, "%llu may be open", (unsigned long long)allowed);
}

/* DNSSEC, certificates and DKIM hang on it. */
void doctor_clock(struct doctor *d)
{
    struct timex t = {.modes = 0};
    char now[CLOCK_TEXT_BYTES];
    int state = adjtimex(&t);

    clock_format_utc(clock_unix(), now);
    if (state < 0)
        doctor_say(d, "clock", DOCTOR_OK, NULL, "%s; whether it is kept right cannot be asked here", now);
    else if (state == TIME_ERROR || t.status & STA_UNSYNC)
        doctor_say(d, "clock", DOCTOR_WARN, "run chrony or systemd-timesyncd",
                   "%s, and nobody keeps it right", now);
    else
        doctor_say(d, "clock", DOCTOR_OK, NULL, "%s, kept right", now);
}

/* ---- the way out ---- */

struct resolving {
    struct doorbell bell;
    const char *name;
    struct ip ip; /* family 0: none */
    enum dns_status status;
};

static void on_addresses(void *arg, const struct dns_host *host)
{
    struct resolving *r = arg;

    r->status = host->status;
    if (host->count)
        r->ip = host->addresses[0].ip;
    doorbell_ring(&r->bell);
}

static void resolve(struct worker *w, void *arg)
{
    struct resolving *r = arg;

    if (!dns_resolve_host(w->dns, r->name, on_addresses, r)) {
        r->status = DNS_SERVFAIL;
        doorbell_ring(&r->bell);
    }
}

static bool find_address(struct doctor *d, const char *where, struct ip *ip, uint16_t *port)
{
    struct resolving r = {.name = where};
    const char *colon = strrchr(where, ':');
    char name[256];
    uint64_t number;

    *port = 25;
    if (ip_parse_port(bytes_of(where), 25, ip, port) || ip_parse(bytes_of(where), ip))
        return true;
    if (colon && bytes_parse_u64(bytes_of(colon + 1), &number) && number > 0 && number < 65536) {
        *port = (uint16_t)number;
        snprintf(name, sizeof(name), "%.*s", (int)(colon - where), where);
        r.name = name;
    }
    doorbell_init(&r.bell);
    bool asked = worker_call(d->e->workers[0], resolve, &r);
    if (asked)
        doorbell_wait(&r.bell, -1); /* DNS answers or times out */
    doorbell_fini(&r.bell);
    if (!asked)
        return false; /* the worker's own line says so */
    *ip = r.ip;
    if (!r.ip.family)
        doctor_say(d, "outbound", DOCTOR_FAIL, NULL, "%s has no address: %s", r.name,
                   dns_status_name(r.status));
    return r.ip.family != 0;
}

void doctor_connect(struct doctor *d, const char *where)
{
    char banner[200] = "", address[IP_TEXT_BYTES];
    struct ip ip;
    uint16_t port;

    if (!find_address(d, where, &ip, &port))
        return;
    ip_format_port(&ip, port, address);
    uint64_t before = clock_now_ms();
    int fd = connect_to(&ip, port, CONNECT_MS);
    unsigned took_ms = (unsigned)(clock_now_ms() - before);
    if (fd < 0) {
        doctor_say(d, "outbound", DOCTOR_FAIL,
                   errno == ETIMEDOUT
                       ? "many providers close port 25 to their customers: ask yours to open it"
                       : NULL,
                   "%s: %s", address, strerror(errno));
        return;
    }
    ssize_t n = wait_for(fd, POLLIN, BANNER_MS) ? read(fd, banner, sizeof(banner) - 1) : 0;
    close(fd);
    for (ssize_t i = 0; i < n; i++) /* of a stranger */
        if ((unsigned char)banner[i] < ' ' || (unsigned char)banner[i] > '~')
            banner[i] = banner[i] == '\r' || banner[i] == '\n' ? '\0' : '?';
    if (strncmp(banner, "220", 3) == 0)
        doctor_say(d, "outbound", DOCTOR_OK, NULL, "%s answers in %u ms: %s", address, took_ms, banner);
    else
        doctor_say(d, "outbound", DOCTOR_WARN, "something in between may answer for it",
                   "%s connects, and says %s", address, banner[0] ? banner : "nothing");
}
