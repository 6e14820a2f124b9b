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
#include "tests/bench/daemon.h"
#include "tests/bench/sink.h"
#include "tests/bench/source.h"
#include "tests/bench/wire.h"

#define WARM_UP         200   /* messages before the clock starts */
#define IDLE_LIMIT_MS   45000 /* no new delivery for so long: the rest counts as lost */
#define SAMPLE_MS       250
#define SETTLE_MS       1000 /* late copies, log lines, clean-up */
#define SOURCE_LIMIT_MS 60000

static const struct workload {
    const char *name;
    uint64_t messages, delay_ms;
    bool tls_in, tls_out;
} workloads[] = {
    {"W1", 10000, 0, false, false},
    {"W4", 5000, 100, false, false},
    {"W5", 10000, 0, false, true},
    {"W6", 10000, 0, true, true},
};

/* What the children write and we read.  Counters are words; a torn sum is read again. */
struct board {
    struct sink_counts sink;
    struct source_result source;
};

struct run {
    const struct run_opts *opts; /* borrowed */
    const struct workload *workload;
    struct daemon daemon;
    struct board *board; /* shared memory */
    pid_t sink;
    uint64_t pss_peak;
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

static pid_t fork_child(void)
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        prctl(PR_SET_PDEATHSIG, SIGTERM);
    return pid;
}

static bool start_sink(struct run *run, uint16_t *port)
{
    char cert[160], key[160];
    struct ip ip = {4, {127, 0, 0, 1}};
    struct sink_opts opts = {.listener = wire_listen(&ip, port), .delay_ms = run->workload->delay_ms};

    if (opts.listener < 0)
        return false;
    snprintf(cert, sizeof cert, "%s/cert.pem", run->daemon.folder);
    snprintf(key, sizeof key, "%s/key.pem", run->daemon.folder);
    if (run->workload->tls_out) {
        opts.cert_file = cert;
        opts.key_file = key;
    }
    run->sink = fork_child();
    if (run->sink == 0) {
        sink_run(&opts, &run->board->sink);
        _exit(0);
    }
    close(opts.listener);
    return run->sink > 0;
}

static void sample(struct run *run)
{
    struct daemon_usage u;

    if (daemon_usage(&run->daemon, &u))
        run->pss_peak = MAX_OF(run->pss_peak, u.pss_bytes);
}

/* Submits in a process of its own, so that the sampling here takes nothing from it. */
static bool submit(struct run *run, uint64_t first, uint64_t messages)
{
    const struct run_opts *o = run->opts;
    struct source_opts opts = {.ip = {4, {127, 0, 0, 1}},
                               .port = run->daemon.port,
                               .sessions = (unsigned)o->sessions,
                               .rcpts = (unsigned)o->rcpts,
                               .domains = (unsigned)o->domains,
                               .messages = messages,
                               .body_bytes = o->bytes ? o->bytes : 10240,
                               .first = first,
                               .idle_ms = SOURCE_LIMIT_MS,
                               .starttls = run->workload->tls_in,
                               .sender = "sender@source.example"};
    pid_t pid = fork_child();

    if (pid == 0) {
        source_run(&opts, &run->board->source);
        _exit(0);
    }
    int status = 0;
    while (pid > 0 && waitpid(pid, &status, WNOHANG) == 0 && !interrupted) {
        sample(run);
        usleep(SAMPLE_MS * 1000);
    }
    if (interrupted && pid > 0) {
        kill(pid, SIGTERM);
        waitpid(pid, &status, 0);
    }
    return pid > 0 && !interrupted && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void await_deliveries(struct run *run, uint64_t want)
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
            sample(run);
            sampled_ms = now_ms;
        }
        usleep(20000);
    }
}

static bool warm_up(struct run *run)
{
    uint64_t want = (uint64_t)WARM_UP * run->opts->rcpts;

    if (!submit(run, 0, WARM_UP))
        return false;
    await_deliveries(run, want);
    if (run->board->sink.unique != want) {
        fprintf(stderr, "hayauma-bench: warm-up: %llu of %llu delivered\n",
                (unsigned long long)run->board->sink.unique, (unsigned long long)want);
        return false;
    }
    usleep(SETTLE_MS * 1000);
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
    uint64_t messages = run->opts->messages ? run->opts->messages : run->workload->messages;
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
    uint64_t messages = run->opts->messages ? run->opts->messages : run->workload->messages;
    uint64_t first = (uint64_t)WARM_UP * run->opts->rcpts;

    if (!warm_up(run) || !daemon_usage(&run->daemon, &before))
        return false;
    run->pss_peak = before.pss_bytes;
    if (!submit(run, first, messages))
        return false;
    await_deliveries(run, run->board->source.accepted_rcpts);
    usleep(SETTLE_MS * 1000);
    if (!daemon_usage(&run->daemon, &after)) {
        fprintf(stderr, "hayauma-bench: hayaumad is gone; its log is %s/hayauma.log\n", run->daemon.folder);
        return false;
    }
    bool ended_well = daemon_stop(&run->daemon);
    return print_run(run, no, &before, &after, ended_well);
}

static bool run_once(const struct run_opts *opts, struct board *board, unsigned no)
{
    struct run run = {.opts = opts, .workload = workload_find(opts->workload), .board = board};
    struct daemon_opts how = {
        .build = opts->build, .tls_in = run.workload->tls_in, .tls_out = run.workload->tls_out};
    bool exact = false;

    memset(board, 0, sizeof *board);
    if (daemon_prepare(&run.daemon) && start_sink(&run, &how.sink_port) && daemon_start(&run.daemon, &how))
        exact = measure(&run, no);
    if (run.daemon.pid > 0)
        daemon_stop(&run.daemon);
    if (run.sink > 0) {
        kill(run.sink, SIGTERM);
        waitpid(run.sink, NULL, 0);
    }
    if (opts->keep || (!exact && !interrupted))
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
