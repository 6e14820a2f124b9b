#include "tests/bench/run.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/bench/nameserver.h"
#include "tests/bench/profile.h"
#include "tests/bench/run_priv.h"
#include "tests/bench/wire.h"

#define WARM_UP         200   /* messages before the clock starts */
#define IDLE_LIMIT_MS   45000 /* no new delivery for so long: the rest counts as lost */
#define SAMPLE_MS       250
#define WATCH_MS        20
#define SOURCE_LIMIT_MS 60000

static bool measure(struct run *run, unsigned no);

#define WORKLOAD(...) .bytes = 10240, .domains = 1, .measure = measure, __VA_ARGS__

static const struct workload workloads[] = {
    {WORKLOAD(.name = "W1", .messages = 10000)},
    {WORKLOAD(.name = "W4", .messages = 5000, .delay_ms = 100)},
    {WORKLOAD(.name = "W5", .messages = 10000, .tls_out = true)},
    {WORKLOAD(.name = "W6", .messages = 10000, .tls_in = true, .tls_out = true)},
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int sig)
{
    (void)sig;
    interrupted = 1;
}

static const struct workload *workload_find(const char *name)
{
    for (size_t i = 0; i < COUNT_OF(workloads); i++)
        if (strcmp(workloads[i].name, name) == 0)
            return &workloads[i];
    return NULL;
}

bool run_is_workload(const char *name)
{
    return workload_find(name) != NULL;
}

bool run_interrupted(void)
{
    return interrupted;
}

uint64_t run_messages(const struct run *run)
{
    return run->opts->messages ? run->opts->messages : run->workload->messages;
}

uint64_t run_bytes(const struct run *run)
{
    return run->opts->bytes ? run->opts->bytes : run->workload->bytes;
}

uint64_t run_domains(const struct run *run)
{
    return run->opts->domains ? run->opts->domains : run->workload->domains;
}

uint64_t run_sessions(const struct run *run)
{
    return run->opts->sessions ? run->opts->sessions : run->workload->sessions ? run->workload->sessions : 50;
}

uint64_t run_rcpts(const struct run *run)
{
    return run->opts->rcpts ? run->opts->rcpts : MAX_OF(run->workload->rcpts, UINT64_C(1));
}

uint64_t run_connections(const struct run *run)
{
    return run->opts->connections       ? run->opts->connections
           : run->workload->connections ? run->workload->connections
                                        : DAEMON_CONNECTIONS;
}

uint64_t run_delay_ms(const struct run *run)
{
    return run->opts->delay_ms != UINT64_MAX ? run->opts->delay_ms : run->workload->delay_ms;
}

uint64_t run_fill(const struct run *run)
{
    return run->opts->fill ? run->opts->fill : run->workload->fill;
}

uint64_t run_first(const struct run *run)
{
    return (uint64_t)WARM_UP * run_rcpts(run);
}

pid_t run_fork(void)
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        signal(SIGTERM, SIG_DFL); /* on_interrupt() is for us alone */
        signal(SIGINT, SIG_DFL);
        prctl(PR_SET_PDEATHSIG, SIGTERM);
    }
    return pid;
}

/* An MX must not have our own address (RFC 5321 §5.1), so the sink has another there. */
static struct ip sink_ip(const struct run *run)
{
    return (struct ip){4, {127, 0, 0, run->workload->by_dns ? 2 : 1}};
}

static bool start_nameserver(struct run *run)
{
    struct ip ip = sink_ip(run);
    struct in_addr mx;
    int fd = nameserver_listen(&run->how.dns_port);

    if (fd < 0)
        return false;
    memcpy(&mx, ip.octets, sizeof mx);
    run->nameserver = run_fork();
    if (run->nameserver == 0)
        nameserver_run(fd, mx, &run->board->dns_queries);
    close(fd);
    return run->nameserver > 0;
}

bool run_start_sink(struct run *run, uint16_t *port)
{
    char cert[160], key[160];
    struct ip ip = sink_ip(run);
    struct sink_opts opts = {.listener = wire_listen(&ip, port),
                             .delay_ms = run_delay_ms(run),
                             .chunking = run->workload->chunking,
                             .marks = run->marks,
                             .mark_count = run->mark_count};

    if (opts.listener < 0)
        return false;
    snprintf(cert, sizeof cert, "%s/cert.pem", run->daemon.folder);
    snprintf(key, sizeof key, "%s/key.pem", run->daemon.folder);
    if (run->workload->tls_out) {
        opts.cert_file = cert;
        opts.key_file = key;
    }
    run->sink = run_fork();
    if (run->sink == 0) {
        sink_run(&opts, &run->board->sink);
        _exit(0);
    }
    close(opts.listener);
    return run->sink > 0;
}

void run_stop_child(pid_t *pid)
{
    if (*pid > 0) {
        kill(*pid, SIGTERM);
        waitpid(*pid, NULL, 0);
    }
    *pid = 0;
}

void run_stop_sink(struct run *run)
{
    run_stop_child(&run->sink);
}

bool run_start(struct run *run)
{
    return (!run->workload->by_dns || start_nameserver(run)) && run_start_sink(run, &run->how.sink_port) &&
           daemon_start(&run->daemon, &run->how);
}

void run_sample(struct run *run)
{
    struct daemon_usage u;

    if (daemon_usage(&run->daemon, &u))
        run->pss_peak = MAX_OF(run->pss_peak, u.pss_bytes);
    run->spool_peak = MAX_OF(run->spool_peak, daemon_spool_bytes(&run->daemon));
}

bool run_start_source(struct run *run, uint64_t first, uint64_t messages, pid_t *pid)
{
    struct source_opts opts = {.ip = {4, {127, 0, 0, 1}},
                               .port = run->daemon.port,
                               .sessions = (unsigned)run_sessions(run),
                               .rcpts = (unsigned)run_rcpts(run),
                               .domains = (unsigned)run_domains(run),
                               .messages = messages,
                               .body_bytes = run_bytes(run),
                               .first = first,
                               .idle_ms = SOURCE_LIMIT_MS,
                               .starttls = run->workload->tls_in,
                               .chunking = run->workload->chunking,
                               .sender = "sender@source.example",
                               .connect_tries = run->connect_tries,
                               .marks = run->marks};

    *pid = run_fork();
    if (*pid == 0) {
        source_run(&opts, &run->board->source);
        _exit(0);
    }
    return *pid > 0;
}

bool run_await_source(struct run *run, pid_t pid, bool (*meanwhile)(struct run *, void *), void *arg)
{
    uint64_t sampled_ms = 0;
    int status = 0;
    bool going = true;

    while (going && waitpid(pid, &status, WNOHANG) == 0) {
        if (clock_now_ms() - sampled_ms >= SAMPLE_MS) {
            run_sample(run);
            sampled_ms = clock_now_ms();
        }
        usleep(WATCH_MS * 1000);
        going = !interrupted && (!meanwhile || meanwhile(run, arg));
    }
    if (!going) {
        run_stop_child(&pid);
        return false;
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* In a process of its own, so that the sampling here takes nothing from it. */
bool run_submit(struct run *run, uint64_t first, uint64_t messages)
{
    pid_t pid;

    return run_start_source(run, first, messages, &pid) && run_await_source(run, pid, NULL, NULL);
}

void run_await_deliveries(struct run *run, uint64_t want)
{
    const volatile struct sink_counts *n = &run->board->sink;
    uint64_t before = 0, moved_ms = clock_now_ms(), sampled_ms = 0;

    while (n->unique < want && !interrupted) {
        uint64_t now_ms = clock_now_ms();
        if (n->recipients != before) {
            before = n->recipients;
            moved_ms = now_ms;
        }
        if (now_ms - moved_ms > IDLE_LIMIT_MS)
            return;
        if (now_ms - sampled_ms >= SAMPLE_MS) {
            run_sample(run);
            sampled_ms = now_ms;
        }
        usleep(WATCH_MS * 1000);
    }
}

bool run_warm_up(struct run *run)
{
    uint64_t want = run_first(run);

    if (!run_submit(run, 0, WARM_UP))
        return false;
    run_await_deliveries(run, want);
    if (run->board->sink.unique != want) {
        fprintf(stderr, "hayauma-bench: warm-up: %llu of %llu delivered\n",
                (unsigned long long)run->board->sink.unique, (unsigned long long)want);
        return false;
    }
    usleep(RUN_SETTLE_MS * 1000);
    kill(run->sink, SIGUSR2);
    for (unsigned i = 0; i < 100 && ((volatile struct sink_counts *)&run->board->sink)->messages; i++)
        usleep(10000);
    sync();
    return true;
}

static bool print_run(struct run *run, unsigned no, const struct daemon_usage *before,
                      const struct daemon_usage *after, bool ended_well)
{
    const struct source_result *src = &run->board->source;
    const struct sink_counts *sink = &run->board->sink;
    struct report r = {.json = run->opts->json};
    uint64_t deliveries = MAX_OF(sink->unique, UINT64_C(1));
    uint64_t cpu_us = after->user_us - before->user_us + after->system_us - before->system_us;
    uint64_t messages = run_messages(run);
    double end_to_end = sink->last_us > src->began_us ? (double)(sink->last_us - src->began_us) / 1e6 : 0;
    uint64_t lost = src->accepted_rcpts > sink->unique ? src->accepted_rcpts - sink->unique : 0;
    bool exact = src->accepted == messages && lost == 0 && sink->duplicates == 0 && ended_well &&
                 sink->unique == src->accepted_rcpts;
    double load[1] = {0};

    (void)getloadavg(load, 1);
    report_text(&r, "workload", run->workload->name);
    report_count(&r, "run", no);
    report_text(&r, "exact", exact ? "yes" : "no");
    report_count(&r, "submitted", messages);
    source_report(src, &r);
    report_number(&r, "end_to_end_s", end_to_end, 3);
    report_number(&r, "delivered_per_s", end_to_end > 0 ? (double)sink->recipients / end_to_end : 0, 1);
    report_count(&r, "lost", lost);
    report_number(&r, "cpu_us_per_delivery", (double)cpu_us / (double)deliveries, 1);
    report_number(&r, "cpu_user_s", (double)(after->user_us - before->user_us) / 1e6, 2);
    report_number(&r, "cpu_system_s", (double)(after->system_us - before->system_us) / 1e6, 2);
    report_number(&r, "pss_peak_mb", (double)run->pss_peak / 1048576, 1);
    sink_report(sink, &r);
    report_text(&r, "daemon_ended", ended_well ? "well" : "badly");
    report_number(&r, "load_average", load[0], 2);
    report_end(&r, stdout);
    if (!run->opts->json)
        putchar('\n');
    return exact;
}

static bool measure(struct run *run, unsigned no)
{
    struct daemon_usage before, after;

    if (!run_start(run) || !run_warm_up(run) || !daemon_usage(&run->daemon, &before))
        return false;
    run->pss_peak = before.pss_bytes;
    if (!run_submit(run, run_first(run), run_messages(run)))
        return false;
    run_await_deliveries(run, run->board->source.accepted_rcpts);
    usleep(RUN_SETTLE_MS * 1000);
    if (!daemon_usage(&run->daemon, &after)) {
        fprintf(stderr, "hayauma-bench: hayaumad is gone; its log is %s/hayauma.log\n", run->daemon.folder);
        return false;
    }
    bool ended_well = daemon_stop(&run->daemon);
    return print_run(run, no, &before, &after, ended_well);
}

unsigned run_workers(const struct run *run)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    return run->opts->workers ? (unsigned)run->opts->workers : (unsigned)MIN_OF(MAX_OF(cores, 1L), 60L);
}

static bool make_marks(struct run *run)
{
    uint64_t count = run_first(run) + MAX_OF(2 * run_messages(run) * run_rcpts(run), run_fill(run));
    void *at = count > SEEN_MAX ? MAP_FAILED
                                : mmap(NULL, count * sizeof *run->marks, PROT_READ | PROT_WRITE,
                                       MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (at == MAP_FAILED) {
        fprintf(stderr, "hayauma-bench: too many deliveries to keep count of\n");
        return false;
    }
    run->marks = at;
    run->mark_count = count;
    return true;
}

static bool run_once(const struct run_opts *opts, struct board *board, unsigned no)
{
    const struct workload *workload =
        opts->profile ? profile_find(opts->profile) : workload_find(opts->workload);
    struct run run = {.opts = opts,
                      .workload = workload,
                      .board = board,
                      .how = {.build = opts->build,
                              .tls_in = workload->tls_in,
                              .tls_out = workload->tls_out,
                              .share_contents = workload->share_contents}};
    bool exact = false;

    run.how.connections = (unsigned)run_connections(&run);
    run.how.workers = run_workers(&run);

    memset(board, 0, sizeof *board);
    if ((!opts->profile || make_marks(&run)) && daemon_prepare(&run.daemon))
        exact = workload->measure(&run, no);
    if (run.daemon.pid > 0)
        daemon_stop(&run.daemon);
    run_stop_child(&run.sink);
    run_stop_child(&run.nameserver);
    run_stop_child(&run.trap);
    if (run.marks)
        munmap(run.marks, run.mark_count * sizeof *run.marks);
    if (run.daemon.folder[0] && (opts->keep || (!exact && !interrupted)))
        fprintf(stderr, "hayauma-bench: the run's files are in %s\n", run.daemon.folder);
    else
        daemon_remove(&run.daemon);
    return exact;
}

bool run_workload(const struct run_opts *opts)
{
    struct sigaction act = {.sa_handler = on_interrupt};
    struct board *board =
        mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    bool exact = true;

    if (board == MAP_FAILED)
        return false;
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
    for (unsigned no = 1; no <= opts->repeat && !interrupted; no++)
        exact = run_once(opts, board, no) && exact;
    munmap(board, sizeof *board);
    return exact && !interrupted;
}
