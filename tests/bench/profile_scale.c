/* Profiles about what is much: long queues, destinations that hold up mail, signatures on everything. */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/bench/fill.h"
#include "tests/bench/profile_priv.h"
#include "tests/bench/wire.h"

#define DRAIN_MOST      200000 /* deliveries from which the cost of one is taken */
#define FIRST_LIMIT_MS  60000
#define TRAP_DELAY_MS   30000
#define TRAP_SETTLE_MS  3000 /* until its connections stand, and its first pages were read */
#define OPENSSL_SECONDS "1"
#define DKIM_TRIES      2

static void data_folder(const struct run *run, char out[160])
{
    snprintf(out, 160, "%s/data", run->daemon.folder);
}

/* ---- deep: a long queue at start ---- */

static void report_deep(const struct run *run, const struct figures *f, struct report *r)
{
    const struct sink_counts *sink = &run->board->sink;
    double drain_s = (double)(sink->last_us - f->drain_from_us) / 1e6;

    report_number(r, "filled_per_s", (double)run_fill(run) * 1e6 / (double)MAX_OF(f->fill_us, UINT64_C(1)),
                  0);
    report_count(r, "start_ms", f->start_ms);
    report_number(r, "first_delivery_ms",
                  sink->first_us > f->from_start_us ? (double)(sink->first_us - f->from_start_us) / 1000 : 0,
                  1);
    report_count(r, "measured_deliveries", f->drained);
    report_number(r, "delivered_per_s", drain_s > 0 ? (double)f->drained / drain_s : 0, 1);
    report_number(r, "drain_cpu_us_per_delivery",
                  (double)f->drain_cpu_us / (double)MAX_OF(f->drained, UINT64_C(1)), 1);
    report_number(r, "memory_start_mb", (double)f->start_pss / 1048576, 1);
    report_number(r, "queue_list_ms", (double)f->list_us / 1000, 1);
    report_number(r, "queue_summary_ms", (double)f->summary_us / 1000, 1);
    report_count(r, "stop_ms", f->stop_ms);
    report_count(r, "left_in_queue", (uint64_t)MAX_OF(f->left, (int64_t)0));
}

static bool await_sink(struct run *run, uint64_t want, uint64_t limit_ms)
{
    const volatile struct sink_counts *n = &run->board->sink;
    uint64_t until_ms = clock_now_ms() + limit_ms, sampled_ms = clock_now_ms();

    while (n->unique < want && clock_now_ms() < until_ms && !run_interrupted()) {
        usleep(2000);
        if (clock_now_ms() - sampled_ms >= 250) {
            run_sample(run);
            sampled_ms = clock_now_ms();
        }
    }
    return n->unique >= want;
}

static bool time_cli(const struct run *run, char *const args[], uint64_t *took_us)
{
    char said[256];
    uint64_t from_us = clock_now_us();
    bool right = daemon_cli(&run->daemon, run->opts->build, args, said, sizeof said);

    *took_us = clock_now_us() - from_us;
    if (!right)
        fprintf(stderr, "hayauma-bench: hayauma %s %s failed: %s\n", args[0], args[1], said);
    return right;
}

static bool drain_some(struct run *run, struct figures *f)
{
    const volatile struct sink_counts *n = &run->board->sink;
    uint64_t most = MIN_OF(MAX_OF(run_fill(run) / 2, UINT64_C(1)), (uint64_t)DRAIN_MOST), had;
    struct daemon_usage from, to;

    if (!await_sink(run, 1, FIRST_LIMIT_MS) || !daemon_usage(&run->daemon, &from))
        return false;
    f->start_pss = from.pss_bytes;
    f->drain_from_us = clock_now_us();
    had = n->unique;
    if (!await_sink(run, had + most, FIRST_LIMIT_MS * 10) || !daemon_usage(&run->daemon, &to))
        return false;
    f->drained = n->unique - had;
    f->drain_cpu_us = to.user_us - from.user_us + to.system_us - from.system_us;
    return true;
}

bool measure_deep(struct run *run, unsigned no)
{
    char data[160], queue[] = "queue", list[] = "list", summary[] = "summary";
    char *const list_args[] = {queue, list, NULL}, *const summary_args[] = {queue, summary, NULL};
    struct figures f = profile_begin();

    data_folder(run, data);
    struct fill fill = {.data = data,
                        .rcpts = run_fill(run),
                        .per_message = run_rcpts(run),
                        .domains = run_domains(run),
                        .prefix = 'n',
                        .body_bytes = run_bytes(run)};
    f.report = report_deep;
    uint64_t from_us = clock_now_us();
    if (!fill_queue(&fill) || !run_start_sink(run, &run->how.sink_port))
        return false;
    sync(); /* what the filling left to be written is not the start's */
    f.fill_us = clock_now_us() - from_us;
    f.from_start_us = clock_now_us();
    if (!daemon_start(&run->daemon, &run->how))
        return false;
    f.start_ms = (clock_now_us() - f.from_start_us) / 1000;
    if (!drain_some(run, &f) || !time_cli(run, list_args, &f.list_us))
        return false;
    if (!time_cli(run, summary_args, &f.summary_us))
        f.summary_us = 0; /* over its limit, as said on stderr */
    run_sample(run);
    uint64_t stop_ms = clock_now_ms();
    if (!profile_end_daemon(run, &f))
        return false;
    f.stop_ms = clock_now_ms() - stop_ms - RUN_SETTLE_MS;
    f.left = fill_left(data);
    bool right = f.ended_well && f.left >= 0 && run->board->sink.duplicates == 0 &&
                 run->board->sink.unique + (uint64_t)f.left == run_fill(run);
    return profile_print(run, &f, no, right);
}

/* ---- a destination that holds up mail, beside others ---- */

static void report_beside(const struct run *run, const struct figures *f, struct report *r)
{
    report_number(r, "delivered_per_s_alone", f->per_s[0], 1);
    report_number(r, "delivered_per_s_beside", f->per_s[1], 1);
    report_number(r, "slower_percent", f->per_s[0] > 0 ? 100 - f->per_s[1] * 100 / f->per_s[0] : 0, 1);
    report_number(r, "cpu_us_per_delivery_alone", f->cpu_us[0], 1);
    report_number(r, "cpu_us_per_delivery_beside", f->cpu_us[1], 1);
    report_count(r, "trap_connections_max", run->board->trap.connections_max);
    report_count(r, "trap_deliveries", run->board->trap.recipients);
    report_count(r, "left_in_queue", (uint64_t)MAX_OF(f->left, (int64_t)0));
}

static bool start_trap(struct run *run, bool answers)
{
    struct ip ip = {4, {127, 0, 0, 1}};
    struct sink_opts opts = {.listener = wire_listen(&ip, &run->how.trap_port), .delay_ms = TRAP_DELAY_MS};

    if (opts.listener < 0)
        return false;
    if (answers) {
        run->trap = run_fork();
        if (run->trap == 0) {
            sink_run(&opts, &run->board->trap);
            _exit(0);
        }
    }
    close(opts.listener);
    return !answers || run->trap > 0;
}

/* Messages all the way through the daemon that runs: speed and cost of each. */
static bool relay(struct run *run, uint64_t first, double *per_s, double *cpu_us)
{
    struct daemon_usage from, to;
    uint64_t had = run->board->sink.unique, want = run_messages(run) * run_rcpts(run);

    if (!daemon_usage(&run->daemon, &from) || !run_submit(run, first, run_messages(run)))
        return false;
    run_await_deliveries(run, had + want);
    if (!daemon_usage(&run->daemon, &to))
        return false;
    uint64_t took_us = run->board->sink.last_us - run->board->source.began_us;
    *per_s = (double)(run->board->sink.unique - had) * 1e6 / (double)MAX_OF(took_us, UINT64_C(1));
    *cpu_us = (double)(to.user_us - from.user_us + to.system_us - from.system_us) / (double)want;
    return run->board->sink.unique == had + want;
}

static bool measure_beside(struct run *run, unsigned no, bool answers)
{
    char data[160];
    struct figures f = profile_begin();
    uint64_t messages = run_messages(run) * run_rcpts(run);

    data_folder(run, data);
    struct fill fill = {.data = data,
                        .rcpts = run_fill(run),
                        .per_message = run_rcpts(run),
                        .domains = 1,
                        .domain = DAEMON_TRAP_DOMAIN,
                        .prefix = 't',
                        .body_bytes = 1024};
    f.report = report_beside;
    if (!start_trap(run, answers) || !run_start(run) || !run_warm_up(run) ||
        !profile_count_from_here(run, &f) || !relay(run, run_first(run), &f.per_s[0], &f.cpu_us[0]) ||
        !profile_add_cpu(run, &f) || !daemon_stop(&run->daemon))
        return false;
    if (!fill_queue(&fill))
        return false;
    sync();
    if (!daemon_start(&run->daemon, &run->how))
        return false;
    f.accepted_before = run->board->source.accepted;
    usleep(TRAP_SETTLE_MS * 1000);
    if (!profile_count_from_here(run, &f) ||
        !relay(run, run_first(run) + messages, &f.per_s[1], &f.cpu_us[1]) || !profile_end_daemon(run, &f))
        return false;
    f.left = fill_left(data);
    bool right = f.ended_well && run->board->sink.duplicates == 0 &&
                 run->board->sink.unique == 2 * messages &&
                 run->board->trap.recipients + (uint64_t)f.left >= run_fill(run);
    return profile_print(run, &f, no, right);
}

bool measure_beside_tarpit(struct run *run, unsigned no)
{
    return measure_beside(run, no, true);
}

bool measure_beside_dead(struct run *run, unsigned no)
{
    return measure_beside(run, no, false);
}

/* ---- signatures ---- */

/*
 * ideal/s = cores / (CPU seconds of a message without its signature, tools and all, + CPU seconds of one
 * signature), the latter from openssl: cores / (signatures/s of -multi cores).
 */
static double ideal_per_s(const struct figures *f)
{
    double cores = (double)sysconf(_SC_NPROCESSORS_ONLN);
    double other_s = f->cpu_us[0] / 1e6 + (double)f->tools_us / 1e6;

    return f->signatures_per_s > 0 ? cores / (other_s + cores / f->signatures_per_s) : 0;
}

static void report_dkim(const struct run *run, const struct figures *f, struct report *r)
{
    double ideal = ideal_per_s(f);

    (void)run;
    report_number(r, "delivered_per_s_unsigned", f->per_s[0], 1);
    report_number(r, "delivered_per_s_signed", f->per_s[1], 1);
    report_number(r, "cpu_us_per_delivery_unsigned", f->cpu_us[0], 1);
    report_number(r, "cpu_us_per_delivery_signed", f->cpu_us[1], 1);
    report_count(r, "cpu_us_per_message_of_the_tools", f->tools_us);
    report_number(r, "openssl_signatures_per_s", f->signatures_per_s, 1);
    report_number(r, "ideal_per_s", ideal, 1);
    report_number(r, "share_of_ideal_percent", ideal > 0 ? f->per_s[1] * 100 / ideal : 0, 1);
}

/* What RSA-2048 gives on all processors at once; 0 when there is no openssl here. */
static double openssl_signatures(void)
{
    char command[128], line[256];
    double sign = 0;

    snprintf(command, sizeof command,
             "openssl speed -multi %ld -seconds " OPENSSL_SECONDS " rsa2048 2>/dev/null",
             sysconf(_SC_NPROCESSORS_ONLN));
    FILE *f = popen(command, "re");
    if (!f)
        return 0;
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "rsa 2048 bits %*fs %*fs %lf", &sign) != 1)
            continue;
    pclose(f);
    return sign;
}

static uint64_t tools_us(const struct run *run)
{
    struct rusage u;
    struct daemon_usage sink = {0};

    getrusage(RUSAGE_CHILDREN, &u); /* the source, when it has ended */
    process_cpu(run->sink, &sink);
    return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000 +
           (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) + sink.user_us + sink.system_us;
}

bool measure_dkim(struct run *run, unsigned no)
{
    struct figures f = profile_begin();
    uint64_t messages = run_messages(run) * run_rcpts(run);

    f.report = report_dkim;
    if (!run_start(run) || !run_warm_up(run) || !profile_count_from_here(run, &f))
        return false;
    uint64_t before_us = tools_us(run);
    if (!relay(run, run_first(run), &f.per_s[0], &f.cpu_us[0]))
        return false;
    f.tools_us = (tools_us(run) - before_us) / run_messages(run);
    if (!profile_add_cpu(run, &f) || !daemon_stop(&run->daemon))
        return false;
    f.accepted_before = run->board->source.accepted;
    run->how.dkim = true;
    f.signatures_per_s = openssl_signatures();
    if (!daemon_start(&run->daemon, &run->how) || !profile_count_from_here(run, &f) ||
        !relay(run, run_first(run) + messages, &f.per_s[1], &f.cpu_us[1]))
        return false;
    double again = openssl_signatures(); /* the processor's speed moves: both sides of the run */
    f.signatures_per_s = (f.signatures_per_s + again) / DKIM_TRIES;
    if (!profile_end_daemon(run, &f))
        return false;
    bool right = f.ended_well && run->board->sink.duplicates == 0 && run->board->sink.unique == 2 * messages;
    return profile_print(run, &f, no, right);
}
