#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/bench/machine.h"
#include "tests/bench/profile_priv.h"

#define NOTABLE_OTHERS_PERCENT 5

struct figures profile_begin(void)
{
    struct figures f = {.from = machine_times()};

    (void)getloadavg(&f.load, 1);
    return f;
}

bool profile_count_from_here(struct run *run, struct figures *f)
{
    if (!daemon_usage(&run->daemon, &f->base))
        return false;
    run->pss_peak = MAX_OF(run->pss_peak, f->base.pss_bytes);
    return true;
}

/* Adds what the running daemon took; the next one is counted from its start. */
bool profile_add_cpu(struct run *run, struct figures *f)
{
    struct daemon_usage now;

    if (!daemon_usage(&run->daemon, &now)) {
        fprintf(stderr, "hayauma-bench: hayaumad is gone; its log is %s/hayauma.log\n", run->daemon.folder);
        return false;
    }
    f->user_us += now.user_us - f->base.user_us;
    f->system_us += now.system_us - f->base.system_us;
    f->written += daemon_written_bytes(&run->daemon);
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
    int n =
        snprintf(command, sizeof command,
                 "hayauma-bench run --profile %s --messages %llu --bytes %llu --sessions %llu --rcpts %llu "
                 "--domains %llu --connections %llu --delay-ms %llu --workers %u",
                 w->name, (unsigned long long)run_messages(run), (unsigned long long)run_bytes(run),
                 (unsigned long long)run_sessions(run), (unsigned long long)run_rcpts(run),
                 (unsigned long long)run_domains(run), (unsigned long long)run_connections(run),
                 (unsigned long long)run_delay_ms(run), run_workers(run));

    if (run_fill(run))
        n += snprintf(command + n, sizeof command - (size_t)n, " --fill %llu",
                      (unsigned long long)run_fill(run));
    if (o->kills && strcmp(w->name, "crash") == 0)
        snprintf(command + n, sizeof command - (size_t)n, " --kills %llu", (unsigned long long)o->kills);
    daemon_version(o->build, version, sizeof version);
    report_section(r, "settings");
    report_text(r, "command", command);
    report_text(r, "daemon", version);
    report_count(r, "workers", run_workers(run));
    report_count(r, "messages", run_messages(run));
    report_count(r, "body_bytes", run_bytes(run));
    report_count(r, "recipients_per_message", run_rcpts(run));
    report_count(r, "recipient_domains", run_domains(run));
    report_count(r, "submitting_sessions", run_sessions(run));
    report_text(r, "starttls_in", yes_no(w->tls_in));
    report_text(r, "starttls_out", w->tls_out ? "require" : "off");
    report_text(r, "route", w->by_dns ? "one MX for all domains" : "smart host");
    report_count(r, "connections_limit", run_connections(run));
    if (run_fill(run))
        report_count(r, "queued_before", run_fill(run));
    report_text(r, "chunking", yes_no(w->chunking));
    report_count(r, "round_trip_ms", run_delay_ms(run));
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
    if (f->report) {
        f->report(run, f, r);
        return;
    }
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
    if (f->peak_accepting)
        report_number(r, "memory_accepting_mb", (double)f->peak_accepting / 1048576, 1);
    report_number(r, f->from_start_us ? "memory_draining_mb" : "memory_peak_mb",
                  (double)run->pss_peak / 1048576, 1);
    report_number(r, "written_mb", (double)f->written / 1048576, 1);
    report_number(r, "spool_peak_mb", (double)run->spool_peak / 1048576, 1);
}

static void report_counts(const struct run *run, const struct figures *f, struct report *r)
{
    const struct source_result *src = &run->board->source;

    report_section(r, "counts");
    report_count(r, "accepted", f->accepted_before + src->accepted);
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
bool profile_print(struct run *run, struct figures *f, unsigned no, bool right)
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
    bool submitted = run->board->source.ack_us.count > 0;
    if (submitted || !f->from_start_us)
        report_section(&r, "latency");
    if (submitted)
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
bool profile_all_once(const struct run *run, const struct figures *f)
{
    return run->board->source.accepted == run_messages(run) && f->ended_well && f->marks.lost == 0 &&
           f->marks.duplicates == 0 && f->marks.accepted == run_messages(run) * run_rcpts(run) &&
           run->board->sink.unique == f->marks.accepted;
}

void profile_count_marks(const struct run *run, struct figures *f)
{
    uint64_t rounds = f->accepted_before ? 2 : 1;

    f->marks = marks_count(run->marks, run_first(run), rounds * run_messages(run) * run_rcpts(run));
}

/* Late copies come before the daemon has ended; then it is all there. */
bool profile_end_daemon(struct run *run, struct figures *f)
{
    usleep(RUN_SETTLE_MS * 1000);
    if (!profile_add_cpu(run, f))
        return false;
    f->ended_well = daemon_stop(&run->daemon);
    profile_count_marks(run, f);
    return true;
}
