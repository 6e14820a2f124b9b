#include "engine/dns/dns_priv.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

#define LAST_FOR_MS     10000U
#define LAST_FOR_MAX_MS 160000U
/* A dead domain behind a healthy resolver times out as well: many questions, and no answer for a while. */
#define FAILURES_TO_REPORT   6
#define SILENCE_TO_REPORT_MS 5000
#define CHECK_FILE_MS        10000
#define FILE_BYTES_MAX       65536

static const char *server_text(const struct dns_server *s, char out[IP_TEXT_BYTES])
{
    return ip_format_port(&s->ip, s->port, out);
}

bool dns_config_trusts(const struct dns_config *config, const struct ip *server)
{
    if (ip_is_loopback(server))
        return true;
    for (size_t i = 0; i < config->trusted_count; i++)
        if (ip_net_has(&config->trusted[i], server))
            return true;
    return false;
}

/* Keeps what is known about the health of servers that stay. */
static void set_addresses(struct dns_servers *s, const struct ip *list, size_t count)
{
    struct dns_server next[DNS_SERVERS_MAX] = {0};

    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k < s->count; k++)
            if (ip_eq(&s->list[k].ip, &list[i]))
                next[i] = s->list[k];
        next[i].ip = list[i];
        next[i].port = 53;
        next[i].trusted_ad = dns_config_trusts(s->config, &list[i]);
    }
    memcpy(s->list, next, sizeof(next));
    s->count = count;
}

static size_t read_file(const char *path, char *out, size_t max)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    size_t len = 0;
    ssize_t n;

    if (fd < 0)
        return 0;
    while (len < max && (n = read(fd, out + len, max - len)) > 0)
        len += (size_t)n;
    close(fd);
    return len;
}

static void read_addresses(struct dns_servers *s)
{
    static const size_t max = FILE_BYTES_MAX;
    BUF_LOCAL(text);
    struct ip list[DNS_SERVERS_MAX];

    text.len = read_file(s->file, buf_reserve(&text, max), max);
    set_addresses(s, list, dns_resolvconf_parse(buf_bytes(&text), list));
}

/* true when the file is another one than last time. */
static bool file_changed(struct dns_servers *s)
{
    struct stat st;
    __typeof__(s->seen) now = {0};

    if (stat(s->file, &st) == 0) {
        now.mtime_s = st.st_mtim.tv_sec;
        now.mtime_ns = st.st_mtim.tv_nsec;
        now.size = st.st_size;
        now.inode = st.st_ino;
    }
    bool changed = memcmp(&now, &s->seen, sizeof(now)) != 0;
    s->seen = now;
    return changed;
}

void dns_servers_load(struct dns_servers *s, const struct dns_config *config)
{
    s->config = config;
    s->from_file = config->server_count == 0;
    if (s->from_file) {
        if (!s->file)
            s->file = "/etc/resolv.conf";
        (void)file_changed(s);
        read_addresses(s);
        return;
    }
    s->count = config->server_count;
    for (size_t i = 0; i < s->count; i++) {
        s->list[i].ip = config->servers[i].ip;
        s->list[i].port = config->servers[i].port ? config->servers[i].port : 53;
        s->list[i].trusted_ad = config->servers[i].trusted_ad;
    }
}

void dns_servers_refresh(struct dns_servers *s, uint64_t now_ms)
{
    if (!s->from_file || now_ms - s->checked_ms < CHECK_FILE_MS)
        return;
    s->checked_ms = now_ms;
    if (!file_changed(s))
        return;
    read_addresses(s);
    log_info(NULL, "dns.servers.reread", LOG_STR("file", s->file), LOG_INT("servers", s->count));
}

size_t dns_servers_order(const struct dns_servers *s, uint64_t now_ms, uint8_t order[DNS_SERVERS_MAX])
{
    size_t n = 0;

    for (unsigned want_last = 0; want_last < 2; want_last++)
        for (size_t i = 0; i < s->count; i++)
            if ((s->list[i].last_until_ms > now_ms) == want_last)
                order[n++] = (uint8_t)i;
    return n;
}

void dns_server_failed(struct dns_server *s, const char *why, bool same_question, uint64_t now_ms)
{
    char text[IP_TEXT_BYTES];

    if (s->last_until_ms <= now_ms) { /* else a question that was already under way: nothing new */
        s->penalty_ms = s->penalty_ms ? MIN_OF(s->penalty_ms * 2, LAST_FOR_MAX_MS) : LAST_FOR_MS;
        s->last_until_ms = now_ms + s->penalty_ms;
    }
    if (same_question)
        return;
    s->failures++;
    if (s->reported || s->failures < FAILURES_TO_REPORT || now_ms - s->answered_ms < SILENCE_TO_REPORT_MS)
        return;
    s->reported = true;
    log_warn(NULL, "dns.server.silent", LOG_STR("server", server_text(s, text)), LOG_STR("why", why));
}

void dns_server_answered(struct dns_server *s, uint64_t now_ms)
{
    char text[IP_TEXT_BYTES];

    if (s->reported)
        log_info(NULL, "dns.server.answers", LOG_STR("server", server_text(s, text)));
    s->reported = false;
    s->answered_ms = now_ms;
    s->failures = 0;
    s->last_until_ms = 0;
    s->penalty_ms = 0;
}
