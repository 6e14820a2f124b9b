#include "tests/bench/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/ip.h"
#include "tests/bench/wire.h"

#define START_LIMIT_MS 20000
#define STOP_LIMIT_MS  30000

static const struct ip loopback = {4, {127, 0, 0, 1}};

static void pause_ms(unsigned ms)
{
    usleep(ms * 1000);
}

bool daemon_prepare(struct daemon *d)
{
    const char *temp = getenv("TMPDIR");
    char cert[160], key[160];

    snprintf(d->folder, sizeof d->folder, "%.100s/hayauma-bench.XXXXXX", temp && *temp ? temp : "/tmp");
    if (!mkdtemp(d->folder)) {
        fprintf(stderr, "hayauma-bench: %s: %s\n", d->folder, strerror(errno));
        d->folder[0] = 0;
        return false;
    }
    snprintf(cert, sizeof cert, "%s/cert.pem", d->folder);
    snprintf(key, sizeof key, "%s/key.pem", d->folder);
    return wire_make_cert("peer.example", cert, key);
}

static bool write_file(const struct daemon *d, const char *name, struct buf *text)
{
    char path[160];

    snprintf(path, sizeof path, "%s/%s", d->folder, name);
    FILE *f = fopen(path, "we");
    if (!f)
        return false;
    bool written = fwrite(text->at, 1, text->len, f) == text->len;
    return fclose(f) == 0 && written;
}

static bool make_dkim_key(const struct daemon *d)
{
    char path[160];

    snprintf(path, sizeof path, "%s/dkim.pem", d->folder);
    return access(path, R_OK) == 0 || wire_make_rsa_key(path);
}

static bool write_config(const struct daemon *d, const struct daemon_opts *opts)
{
    BUF_LOCAL(conf);
    BUF_LOCAL(policy);

    buf_putf(&conf,
             "host_name: peer.example\ncore_dumps: true\nworkers: %u\ndata_dir: %s/data\n"
             "policy_file: %s/policy.yaml\n"
             "listeners:\n  - address: 127.0.0.1:%u\n    tls: %s\n    auth: none\n    require_tls: false\n"
             "    trusted_networks: [127.0.0.0/8]\n"
             "tls:\n  certificate: %s/cert.pem\n  key: %s/key.pem\n"
             "dns:\n  servers: [127.0.0.1:%u]\napi:\n  socket: %s/api.sock\n",
             opts->workers, d->folder, d->folder, d->port, opts->tls_in ? "starttls" : "none", d->folder,
             d->folder, opts->dns_port ? opts->dns_port : 9U, d->folder);
    buf_putf(&policy, "groups:\n  - name: default\n    starttls: %s\n", opts->tls_out ? "require" : "off");
    buf_putf(&conf, "store:\n  share_contents: %s\n", opts->share_contents ? "true" : "false");
    if (opts->connections > DAEMON_CONNECTIONS)
        buf_putf(&conf, "delivery:\n  connections: %u\n", opts->connections + DAEMON_CONNECTIONS);
    if (opts->dkim && !make_dkim_key(d))
        return false;
    if (opts->dkim)
        buf_putf(&conf, "dkim:\n  keys:\n    - {domain: source.example, selector: bench, key: %s/dkim.pem}\n",
                 d->folder);
    if (opts->dns_port)
        buf_putf(&policy, "    dane: off\n    mta_sts: off\n    port: %u\n", opts->sink_port);
    else
        buf_putf(&policy, "    route:\n      smarthost: [\"127.0.0.1:%u\"]\n", opts->sink_port);
    buf_putf(&policy,
             "    limits: {connections: %u, connections_per_host: %u, messages_per_connection: 0,"
             " recipients_per_transaction: 50}\n"
             "    retry: {schedule: [2s, 5s, 10s], jitter: \"10%%\"}\n",
             opts->connections, opts->connections);
    if (opts->trap_port)
        buf_putf(&policy,
                 "  - name: trap\n    match: [" DAEMON_TRAP_DOMAIN "]\n    starttls: off\n    route:\n"
                 "      smarthost: [\"127.0.0.1:%u\"]\n"
                 "    limits: {connections: %u, connections_per_host: %u}\n"
                 "    retry: {schedule: [2s, 5s, 10s], jitter: \"10%%\"}\n",
                 opts->trap_port, DAEMON_CONNECTIONS, DAEMON_CONNECTIONS);
    return write_file(d, "hayauma.yaml", &conf) && write_file(d, "policy.yaml", &policy);
}

/* A port nobody has now.  Somebody may take it before the daemon does; then the daemon says so. */
static bool choose_port(uint16_t *port)
{
    *port = 0;
    int fd = wire_listen(&loopback, port);
    if (fd < 0)
        return false;
    close(fd);
    return true;
}

/* In a build folder both lie side by side; installed, hayaumad lies in sbin. */
static void find_program(const char *build, const char *name, char *out, size_t size)
{
    snprintf(out, size, "%s/%s", build, name);
    if (access(out, X_OK) != 0)
        snprintf(out, size, "%s/../sbin/%s", build, name);
}

static void become_daemon(const struct daemon *d, const char *build)
{
    char program[4096], conf[160], log[160];

    find_program(build, "hayaumad", program, sizeof program);
    snprintf(conf, sizeof conf, "%s/hayauma.yaml", d->folder);
    snprintf(log, sizeof log, "%s/hayauma.log", d->folder);
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (fd < 0 || dup2(fd, STDOUT_FILENO) < 0 || dup2(fd, STDERR_FILENO) < 0)
        _exit(126);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    setpgid(0, 0); /* a Ctrl-C is for us; we stop it in order */
    execl(program, program, "-c", conf, (char *)NULL);
    fprintf(stderr, "%s: %s\n", program, strerror(errno));
    _exit(127);
}

static bool greets(uint16_t port)
{
    struct sockaddr_storage to;
    socklen_t len = ip_to_sockaddr(&loopback, port, &to);
    struct timeval limit = {.tv_sec = 2};
    char banner[4];
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return false;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    bool yes = connect(fd, (struct sockaddr *)&to, len) == 0 && recv(fd, banner, 4, 0) == 4 &&
               memcmp(banner, "220 ", 4) == 0;
    close(fd);
    return yes;
}

bool daemon_start(struct daemon *d, const struct daemon_opts *opts)
{
    uint64_t until_ms = clock_now_ms() + START_LIMIT_MS;

    if ((d->port == 0 && !choose_port(&d->port)) || !write_config(d, opts)) {
        fprintf(stderr, "hayauma-bench: no configuration in %s: %s\n", d->folder, strerror(errno));
        return false;
    }
    d->pid = fork();
    if (d->pid == 0)
        become_daemon(d, opts->build);
    while (d->pid > 0 && clock_now_ms() < until_ms) {
        if (greets(d->port))
            return true;
        if (waitpid(d->pid, NULL, WNOHANG) == d->pid) {
            d->pid = 0;
            break;
        }
        pause_ms(50);
    }
    fprintf(stderr, "hayauma-bench: hayaumad does not answer; its log is %s/hayauma.log\n", d->folder);
    return false;
}

bool process_cpu(pid_t pid, struct daemon_usage *out)
{
    char path[64], line[1024];
    unsigned long long user, system;
    uint64_t tick_us = 1000000 / (uint64_t)sysconf(_SC_CLK_TCK);

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    size_t n = fread(line, 1, sizeof line - 1, f);
    fclose(f);
    line[n] = 0;
    /* fields 14 and 15; the name in field 2 may hold blanks and ends at the last bracket */
    const char *rest = strrchr(line, ')');
    if (!rest ||
        sscanf(rest + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user, &system) != 2)
        return false;
    out->user_us = user * tick_us;
    out->system_us = system * tick_us;
    return true;
}

static bool read_pss(pid_t pid, struct daemon_usage *out)
{
    char path[64], line[256];
    unsigned long long kb;
    bool found = false;

    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)pid);
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    while (!found && fgets(line, sizeof line, f))
        found = sscanf(line, "Pss: %llu kB", &kb) == 1;
    fclose(f);
    if (found)
        out->pss_bytes = kb * 1024;
    return found;
}

bool daemon_usage(const struct daemon *d, struct daemon_usage *out)
{
    struct daemon_usage u = {0};

    if (d->pid == 0 || !process_cpu(d->pid, &u) || !read_pss(d->pid, &u))
        return false;
    *out = u;
    return true;
}

bool daemon_stop(struct daemon *d)
{
    uint64_t until_ms = clock_now_ms() + STOP_LIMIT_MS;
    int status = 0;

    if (d->pid <= 0)
        return false;
    kill(d->pid, SIGTERM);
    while (waitpid(d->pid, &status, WNOHANG) == 0) {
        if (clock_now_ms() > until_ms) {
            fprintf(stderr, "hayauma-bench: hayaumad did not stop in %d s\n", STOP_LIMIT_MS / 1000);
            kill(d->pid, SIGKILL);
        }
        pause_ms(20);
    }
    d->pid = 0;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

void daemon_kill(struct daemon *d)
{
    if (d->pid <= 0)
        return;
    kill(d->pid, SIGKILL);
    waitpid(d->pid, NULL, 0);
    d->pid = 0;
}

/* Runs BUILD/name and reads the beginning of what it prints.  True when it ended with status 0. */
static bool run_program(const char *build, const char *name, char *const args[], char *out, size_t size)
{
    char program[4096];
    int ends[2], status = 0;
    size_t have = 0;
    ssize_t n;

    find_program(build, name, program, sizeof program);
    if (pipe2(ends, O_CLOEXEC))
        return false;
    pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        execv(program, args);
        _exit(127);
    }
    close(ends[1]);
    do {
        char more[512];
        n = read(ends[0], more, sizeof more);
        size_t used = n > 0 ? MIN_OF((size_t)n, size - 1 - have) : 0;
        memcpy(out + have, more, used);
        have += used;
    } while (n > 0);
    out[have] = 0;
    close(ends[0]);
    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

bool daemon_cli(const struct daemon *d, const char *build, char *const args[], char *out, size_t size)
{
    char name[] = "hayauma", option[] = "--socket", socket_path[160];
    char *all[16] = {name, option, socket_path};
    size_t count = 3;

    snprintf(socket_path, sizeof socket_path, "%s/api.sock", d->folder);
    while (*args && count < COUNT_OF(all) - 1)
        all[count++] = *args++;
    return run_program(build, name, all, out, size);
}

bool daemon_retry_all(const struct daemon *d, const char *build)
{
    char queue[] = "queue", retry[] = "retry", option[] = "--all", said[256];
    char *const args[] = {queue, retry, option, NULL};

    return daemon_cli(d, build, args, said, sizeof said);
}

uint64_t daemon_written_bytes(const struct daemon *d)
{
    char path[64], line[128];
    unsigned long long bytes = 0;

    snprintf(path, sizeof path, "/proc/%d/io", (int)d->pid);
    FILE *f = fopen(path, "re");
    if (!f)
        return 0;
    while (fgets(line, sizeof line, f) && sscanf(line, "write_bytes: %llu", &bytes) != 1)
        ;
    fclose(f);
    return bytes;
}

static uint64_t spool_sum;

static int add_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)path;
    (void)at;
    if (type == FTW_F)
        spool_sum += (uint64_t)st->st_blocks * 512;
    return 0;
}

uint64_t daemon_spool_bytes(const struct daemon *d)
{
    char path[160];

    spool_sum = 0;
    snprintf(path, sizeof path, "%s/data/spool", d->folder);
    nftw(path, add_one, 16, FTW_PHYS);
    return spool_sum;
}

void daemon_version(const char *build, char *out, size_t size)
{
    char name[] = "hayaumad", option[] = "--version";
    char *const args[] = {name, option, NULL};

    if (!run_program(build, name, args, out, size) || !out[0])
        snprintf(out, size, "unknown");
    out[strcspn(out, "\n")] = 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

void daemon_remove(struct daemon *d)
{
    if (d->folder[0])
        nftw(d->folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    d->folder[0] = 0;
}
