#include "tests/bench/profile.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/bench/machine.h"
#include "tests/bench/run_priv.h"
#include "tests/bench/wire.h"

#define RESTART_TRIES          300 /* of a session, 200 ms apart: longer than any start we wait for */
#define NOTABLE_OTHERS_PERCENT 5

/* Of one run, beside what lies on the board. */
struct figures {
    struct machine_times from, to;
    double load;
    struct daemon_usage base;    /* of the daemon that runs, when counting began */
    uint64_t user_us, system_us; /* of all daemons of the run */
    uint64_t peak_accepting;     /* backlog: memory; run->pss_peak is the drain's then */
    uint64_t stop_ms, start_ms, from_start_us;
    uint64_t kills, restart_ms_max, restart_ms_sum;
    bool ended_well;
    struct mark_counts marks;
};

static struct figures begin(void)
{
    struct figures f = {.from = machine_times()};

    (void)getloadavg(&f.load, 1);
    return f;
}

static bool count_cpu_from_here(struct run *run, struct figures *f)
{
    if (!daemon_usage(&run->daemon, &f->base))
        return false;
    run->pss_peak = MAX_OF(run->pss_peak, f->base.pss_bytes);
    return true;
}

/* Adds what the running daemon took; the next one is counted from its start. */
static bool add_cpu(struct run *run, struct figures *f)
{
    struct daemon_usage now;

    if (!daemon_usage(&run->daemon, &now)) {
        fprintf(stderr, "hayauma-bench: hayaumad is gone; its log is %s/hayauma.log\n", run->daemon.folder);
        return false;
    }
    f->user_us += now.user_us - f->base.user_us;
    f->system_us += now.system_us - f->base.system_us;
    f->base = (struct daemon_usage){0};
    return true;
}

/* ---- the figures ---- */

static const char *yes_no(bool yes)
{
    return yes ? "yes" : "no";
}

static void report_settings(const struct run *run, struct report *r)
{
    const struct run_opts *o = run->opts;
    const struct workload *w = run->workload;
    char version[128], command[256];
    int n = snprintf(
        command, sizeof command,
        "hayauma-bench run --profile %s --messages %llu --bytes %llu --sessions %llu --rcpts %llu "
        "--domains %llu",
        w->name, (unsigned long long)run_messages(run), (unsigned long long)run_bytes(run),
        (unsigned long long)o->sessions, (unsigned long long)o->rcpts, (unsigned long long)run_domains(run));

    if (o->kills && strcmp(w->name, "crash") == 0)
        snprintf(command + n, sizeof command - (size_t)n, " --kills %llu", (unsigned long long)o->kills);
    daemon_version(o->build, version, sizeof version);
    report_section(r, "settings");
    report_text(r, "command", command);
    report_text(r, "daemon", version);
    report_count(r, "messages", run_messages(run));
    report_count(r, "body_bytes", run_bytes(run));
    report_count(r, "recipients_per_message", o->rcpts);
    report_count(r, "recipient_domains", run_domains(run));
    report_count(r, "submitting_sessions", o->sessions);
    report_text(r, "starttls_in", yes_no(w->tls_in));
    report_text(r, "starttls_out", w->tls_out ? "require" : "off");
    report_text(r, "route", w->by_dns ? "one MX for all domains" : "smart host");
    report_count(r, "connections_limit", DAEMON_CONNECTIONS);
    report_count(r, "round_trip_ms", w->delay_ms);
}

static double per_second(uint64_t count, uint64_t from_us, uint64_t to_us)
{
    return to_us > from_us ? (double)count * 1e6 / (double)(to_us - from_us) : 0;
}

static void report_throughput(const struct run *run, const struct figures *f, struct report *r)
{
    const struct source_result *src = &run->board->source;
    const struct sink_counts *sink = &run->board->sink;

    report_section(r, "throughput");
    report_number(r, "accepted_per_s", per_second(src->accepted, src->began_us, src->ended_us), 1);
    if (f->from_start_us) { /* a backlog was drained */
        uint64_t first_us = sink->first_us > f->from_start_us ? sink->first_us - f->from_start_us : 0;
        report_count(r, "stop_ms", f->stop_ms);
        report_count(r, "start_ms", f->start_ms);
        report_number(r, "first_delivery_ms", (double)first_us / 1000, 1);
        report_number(r, "drained_s", sink->last_us ? (double)(sink->last_us - f->from_start_us) / 1e6 : 0,
                      2);
        report_number(r, "delivered_per_s", per_second(sink->recipients, sink->first_us, sink->last_us), 1);
    } else {
        report_number(r, "delivered_per_s", per_second(sink->recipients, src->began_us, sink->last_us), 1);
        report_number(r, "end_to_end_s",
                      sink->last_us > src->began_us ? (double)(sink->last_us - src->began_us) / 1e6 : 0, 3);
    }
    report_count(r, "connections_max", sink->connections_max);
    report_count(r, "connections_new", sink->connections);
    if (run->workload->tls_out)
        report_count(r, "tls_handshakes_new", sink->tls);
    if (run->workload->by_dns)
        report_count(r, "dns_queries", run->board->dns_queries);
    if (f->kills) {
        report_count(r, "kills", f->kills);
        report_count(r, "restart_ms_mean", f->restart_ms_sum / f->kills);
        report_count(r, "restart_ms_max", f->restart_ms_max);
    }
}

static void report_cost(const struct run *run, const struct figures *f, struct report *r)
{
    const struct sink_counts *sink = &run->board->sink;
    double cpu_us = (double)(f->user_us + f->system_us);

    report_section(r, "cost");
    report_number(r, "cpu_us_per_message", cpu_us / (double)MAX_OF(sink->messages, UINT64_C(1)), 1);
    report_number(r, "cpu_us_per_delivery", cpu_us / (double)MAX_OF(sink->recipients, UINT64_C(1)), 1);
    report_number(r, "cpu_user_s", (double)f->user_us / 1e6, 2);
    report_number(r, "cpu_system_s", (double)f->system_us / 1e6, 2);
    if (f->from_start_us)
        report_number(r, "memory_accepting_mb", (double)f->peak_accepting / 1048576, 1);
    report_number(r, f->from_start_us ? "memory_draining_mb" : "memory_peak_mb",
                  (double)run->pss_peak / 1048576, 1);
}

static void report_counts(const struct run *run, const struct figures *f, struct report *r)
{
    const struct source_result *src = &run->board->source;

    report_section(r, "counts");
    report_count(r, "accepted", src->accepted);
    report_count(r, "accepted_recipients", f->marks.accepted);
    report_count(r, "refused", src->refused);
    report_count(r, "unanswered", src->aborted);
    report_count(r, "delivered", run->board->sink.unique);
    report_count(r, "unanswered_delivered", f->marks.unanswered_taken);
    report_count(r, "lost", f->marks.lost);
    report_count(r, "duplicates", f->marks.duplicates);
    report_text(r, "daemon_ended", f->ended_well ? "well" : "badly");
    if (src->refusal[0])
        report_text(r, "first_refusal", src->refusal);
}

/* The daemon has ended; true when all is as it must be. */
static bool print_figures(struct run *run, struct figures *f, unsigned no, bool right)
{
    struct report r = {.json = run->opts->json, .table = !run->opts->json};

    run_stop_sink(run); /* its CPU time is among ours from here on */
    f->to = machine_times();
    double others = machine_others_percent(&f->from, &f->to);
    report_text(&r, "profile", run->workload->name);
    report_count(&r, "run", no);
    report_text(&r, "exact", yes_no(right));
    machine_report(run->daemon.folder, f->load, &r);
    report_number(&r, "others_cpu_percent", others, 1);
    report_settings(run, &r);
    report_throughput(run, f, &r);
    report_section(&r, "latency");
    report_times(&r, "answer_ms", &run->board->source.ack_us);
    if (!f->from_start_us)
        report_times(&r, "delivery_ms", &run->board->sink.delivery_us);
    report_cost(run, f, &r);
    report_counts(run, f, &r);
    report_end(&r, stdout);
    if (!run->opts->json && others > NOTABLE_OTHERS_PERCENT)
        printf(
            "Other programs took %.0f %% of the processor time: these figures are not the machine's best.\n",
            others);
    if (!run->opts->json)
        putchar('\n');
    return right;
}

/* Nothing refused or left without an answer, nothing lost, nothing twice. */
static bool all_once(const struct run *run, const struct figures *f)
{
    return run->board->source.accepted == run_messages(run) && f->ended_well && f->marks.lost == 0 &&
           f->marks.duplicates == 0 && f->marks.accepted == run_messages(run) * run->opts->rcpts &&
           run->board->sink.unique == f->marks.accepted;
}

static void count_marks(const struct run *run, struct figures *f)
{
    f->marks = marks_count(run->marks, run_first(run), run_messages(run) * run->opts->rcpts);
}

/* Late copies come before the daemon has ended; then it is all there. */
static bool end_daemon(struct run *run, struct figures *f)
{
    usleep(RUN_SETTLE_MS * 1000);
    if (!add_cpu(run, f))
        return false;
    f->ended_well = daemon_stop(&run->daemon);
    count_marks(run, f);
    return true;
}

/* ---- each its own way ---- */

static bool measure_steady(struct run *run, unsigned no)
{
    struct figures f = begin();

    if (!run_start(run) || !run_warm_up(run) || !count_cpu_from_here(run, &f) ||
        !run_submit(run, run_first(run), run_messages(run)))
        return false;
    run_await_deliveries(run, run->board->source.accepted_rcpts);
    return end_daemon(run, &f) && print_figures(run, &f, no, all_once(run, &f));
}

/* A port on which nobody listens until the sink does. */
static bool reserve_sink_port(struct run *run)
{
    struct ip ip = {4, {127, 0, 0, 1}};
    int fd = wire_listen(&ip, &run->how.sink_port);

    if (fd < 0)
        return false;
    close(fd);
    return true;
}

static bool measure_backlog(struct run *run, unsigned no)
{
    struct figures f = begin();

    if (!reserve_sink_port(run) || !daemon_start(&run->daemon, &run->how) || !count_cpu_from_here(run, &f) ||
        !run_submit(run, run_first(run), run_messages(run)) || !add_cpu(run, &f))
        return false;
    f.peak_accepting = run->pss_peak;
    run->pss_peak = 0;
    uint64_t stop_ms = clock_now_ms();
    if (!daemon_stop(&run->daemon))
        return false;
    f.stop_ms = clock_now_ms() - stop_ms;
    if (!run_start_sink(run, &run->how.sink_port))
        return false;
    f.from_start_us = clock_now_us();
    if (!daemon_start(&run->daemon, &run->how))
        return false;
    f.start_ms = (clock_now_us() - f.from_start_us) / 1000;
    if (!daemon_retry_all(&run->daemon, run->opts->build)) {
        fprintf(stderr, "hayauma-bench: hayauma queue retry --all failed; is hayauma in %s?\n",
                run->opts->build);
        return false;
    }
    run_await_deliveries(run, run->board->source.accepted_rcpts);
    return end_daemon(run, &f) && print_figures(run, &f, no, all_once(run, &f));
}

/* Kills the daemon each time another equal part of the messages has been accepted. */
static bool kill_when_due(struct run *run, void *arg)
{
    struct figures *f = arg;
    const volatile struct source_result *src = &run->board->source;
    uint64_t kills = run->opts->kills;

    if (f->kills == kills || src->accepted < run_messages(run) * (f->kills + 1) / (kills + 1))
        return true;
    if (!add_cpu(run, f))
        return false;
    daemon_kill(&run->daemon);
    uint64_t from_ms = clock_now_ms();
    if (!daemon_start(&run->daemon, &run->how))
        return false;
    uint64_t took_ms = clock_now_ms() - from_ms;
    f->kills++;
    f->restart_ms_sum += took_ms;
    f->restart_ms_max = MAX_OF(f->restart_ms_max, took_ms);
    return true;
}

/* What was not answered before a kill may come too, so it is not enough to count what came. */
static void await_accepted(struct run *run, struct figures *f)
{
    uint64_t want = run->board->source.accepted_rcpts;

    for (count_marks(run, f); f->marks.lost && !run_interrupted(); count_marks(run, f)) {
        uint64_t had = run->board->sink.unique;
        run_await_deliveries(run, MAX_OF(want, had + 1));
        if (run->board->sink.unique == had)
            return;
    }
}

static bool measure_crash(struct run *run, unsigned no)
{
    struct figures f = begin();
    pid_t source;

    if (!run_start(run) || !run_warm_up(run) || !count_cpu_from_here(run, &f))
        return false;
    run->connect_tries = RESTART_TRIES;
    if (!run_start_source(run, run_first(run), run_messages(run), &source) ||
        !run_await_source(run, source, kill_when_due, &f))
        return false;
    await_accepted(run, &f);
    if (!end_daemon(run, &f))
        return false;
    const struct source_result *src = &run->board->source;
    bool right = f.marks.lost == 0 && f.ended_well && src->refused == 0 && f.kills == run->opts->kills &&
                 src->accepted + src->aborted == run_messages(run);
    return print_figures(run, &f, no, right);
}

/* ---- the list ---- */

static const struct workload profiles[] = {
    {.name = "relay",
     .messages = 10000,
     .bytes = 10240,
     .domains = 1,
     .measure = measure_steady,
     .help = "Plaintext in and out to one smart host: what the queue itself costs.  As workload W1."},
    {.name = "tls",
     .messages = 10000,
     .bytes = 10240,
     .domains = 1,
     .tls_in = true,
     .tls_out = true,
     .measure = measure_steady,
     .help = "STARTTLS on both sides.  As workload W6."},
    {.name = "distant",
     .messages = 5000,
     .bytes = 10240,
     .domains = 1,
     .delay_ms = 100,
     .measure = measure_steady,
     .help = "The receiver answers after 100 ms, as over a long path: how few round trips a message\n"
             "           takes.  100 connections with one a message give 1,000/s at most.  As workload W4."},
    {.name = "backlog",
     .messages = 100000,
     .bytes = 1024,
     .domains = 1,
     .measure = measure_backlog,
     .help =
         "The receiver is down while all messages are accepted.  Then the daemon is stopped, the\n"
         "           receiver comes back, the daemon is started and told `queue retry --all`: time from its\n"
         "           start to the first delivery and to the last, and memory while accepting and draining."},
    {.name = "domains",
     .messages = 10000,
     .bytes = 10240,
     .domains = 10000,
     .by_dns = true,
     .measure = measure_steady,
     .help = "Each message to another domain; all have the same MX, asked for at a name server of the\n"
             "           bench: what destinations and look-ups cost.  200 are known from the warm-up."},
    {.name = "crash",
     .messages = 20000,
     .bytes = 10240,
     .domains = 1,
     .measure = measure_crash,
     .help =
         "The daemon is killed with SIGKILL (--kills times) under load and started again, while the\n"
         "           sessions come back by themselves: what was lost (must be 0) and what came twice (what\n"
         "           was under way on each connection may).  The kernel lives on: a power failure is more."},
};

const struct workload *profile_find(const char *name)
{
    for (size_t i = 0; i < COUNT_OF(profiles); i++)
        if (strcmp(profiles[i].name, name) == 0)
            return &profiles[i];
    return NULL;
}

void profile_explain(FILE *to)
{
    fprintf(to, "profiles\n");
    for (size_t i = 0; i < COUNT_OF(profiles); i++)
        fprintf(to, "  %-8s %s\n           (%llu messages of %llu octets to %llu domain%s)\n",
                profiles[i].name, profiles[i].help, (unsigned long long)profiles[i].messages,
                (unsigned long long)profiles[i].bytes, (unsigned long long)profiles[i].domains,
                profiles[i].domains == 1 ? "" : "s");
    fprintf(
        to,
        "The status is 0 only when every run was exact: all accepted, nothing lost, nothing twice (but for\n"
        "crash) and the daemon ended well.  A run makes a folder under $TMPDIR: let it lie on the disk that\n"
        "is to be measured.\n");
}
