#include "tests/bench/profile.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/bench/profile_priv.h"
#include "tests/bench/wire.h"

#define RESTART_TRIES 300 /* of a session, 200 ms apart: longer than any start we wait for */

/* ---- each its own way ---- */

static bool measure_steady(struct run *run, unsigned no)
{
    struct figures f = profile_begin();

    if (!run_start(run) || !run_warm_up(run) || !profile_count_from_here(run, &f) ||
        !run_submit(run, run_first(run), run_messages(run)))
        return false;
    run_await_deliveries(run, run->board->source.accepted_rcpts);
    return profile_end_daemon(run, &f) && profile_print(run, &f, no, profile_all_once(run, &f));
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
    struct figures f = profile_begin();

    if (!reserve_sink_port(run) || !daemon_start(&run->daemon, &run->how) ||
        !profile_count_from_here(run, &f) || !run_submit(run, run_first(run), run_messages(run)) ||
        !profile_add_cpu(run, &f))
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
    return profile_end_daemon(run, &f) && profile_print(run, &f, no, profile_all_once(run, &f));
}

/* Kills the daemon each time another equal part of the messages has been accepted. */
static bool kill_when_due(struct run *run, void *arg)
{
    struct figures *f = arg;
    const volatile struct source_result *src = &run->board->source;
    uint64_t kills = run->opts->kills;

    if (f->kills == kills || src->accepted < run_messages(run) * (f->kills + 1) / (kills + 1))
        return true;
    if (!profile_add_cpu(run, f))
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

    for (profile_count_marks(run, f); f->marks.lost && !run_interrupted(); profile_count_marks(run, f)) {
        uint64_t had = run->board->sink.unique;
        run_await_deliveries(run, MAX_OF(want, had + 1));
        if (run->board->sink.unique == had)
            return;
    }
}

/* No warm-up: every connection is new, and every answer takes its time. */
static bool measure_cold(struct run *run, unsigned no)
{
    struct figures f = profile_begin();

    if (!run_start(run) || !profile_count_from_here(run, &f) ||
        !run_submit(run, run_first(run), run_messages(run)))
        return false;
    run_await_deliveries(run, run->board->source.accepted_rcpts);
    return profile_end_daemon(run, &f) && profile_print(run, &f, no, profile_all_once(run, &f));
}

static bool measure_crash(struct run *run, unsigned no)
{
    struct figures f = profile_begin();
    pid_t source;

    if (!run_start(run) || !run_warm_up(run) || !profile_count_from_here(run, &f))
        return false;
    run->connect_tries = RESTART_TRIES;
    if (!run_start_source(run, run_first(run), run_messages(run), &source) ||
        !run_await_source(run, source, kill_when_due, &f))
        return false;
    await_accepted(run, &f);
    if (!profile_end_daemon(run, &f))
        return false;
    const struct source_result *src = &run->board->source;
    bool right = f.marks.lost == 0 && f.ended_well && src->refused == 0 && f.kills == run->opts->kills &&
                 src->accepted + src->aborted == run_messages(run);
    return profile_print(run, &f, no, right);
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
    {.name = "slow",
     .messages = 40000,
     .bytes = 1024,
     .domains = 10000,
     .delay_ms = 5000,
     .connections = 10000,
     .by_dns = true,
     .measure = measure_cold,
     .help =
         "The receivers answer after five seconds, four messages for each connection: as many connections\n"
         "           as --connections allows at once, and what one of them costs in memory.  Both this\n"
         "           program and the daemon need that many descriptors (ulimit -n)."},
    {.name = "slow-tls",
     .messages = 40000,
     .bytes = 1024,
     .domains = 10000,
     .delay_ms = 5000,
     .connections = 10000,
     .tls_out = true,
     .by_dns = true,
     .measure = measure_cold,
     .help = "The same with STARTTLS to the receivers."},
    {.name = "big",
     .messages = 1000,
     .bytes = 10000000,
     .domains = 1,
     .sessions = 10,
     .measure = measure_cold,
     .help = "Messages of 10 MB: throughput, and memory, which must not grow with them."},
    {.name = "big-tls",
     .messages = 1000,
     .bytes = 10000000,
     .domains = 1,
     .sessions = 10,
     .tls_in = true,
     .tls_out = true,
     .chunking = true,
     .measure = measure_cold,
     .help = "The same with STARTTLS and BDAT on both sides."},
    {.name = "fanout",
     .messages = 1000,
     .rcpts = 1000,
     .bytes = 10240,
     .domains = 1,
     .share_contents = true,
     .measure = measure_cold,
     .help = "Messages to 1,000 recipients each: a million deliveries, and what of them lies on the disk."},
    {.name = "deep",
     .messages = 1,
     .fill = 1000000,
     .bytes = 1024,
     .domains = 1000,
     .measure = measure_deep,
     .help =
         "So many recipients (--fill, --rcpts a message) wait in the queue when the daemon starts: time to\n"
         "           the first delivery, cost of a delivery, memory, time of `queue list`.  Compare --fill "
         "10000,\n"
         "           1000000 and 10000000: they should be equal."},
    {.name = "tarpit",
     .messages = 20000,
     .fill = 1000000,
     .bytes = 10240,
     .domains = 1,
     .measure = measure_beside_tarpit,
     .help =
         "Relay as always, without and with so many recipients (--fill) of a destination whose servers\n"
         "           take connections and answer each command after 30 seconds: what that costs the others."},
    {.name = "dead",
     .messages = 20000,
     .fill = 1000000,
     .bytes = 10240,
     .domains = 1,
     .measure = measure_beside_dead,
     .help = "The same with a destination that refuses connections."},
    {.name = "dkim",
     .messages = 5000,
     .bytes = 10240,
     .domains = 1,
     .measure = measure_dkim,
     .help =
         "Relay without and with an RSA-2048 signature on every message, and what `openssl speed` says of\n"
         "           the processor: the share of it that is reached after the other work."},
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
        fprintf(to, "  %-8s %s\n           (%llu message%s of %llu octets to %llu domain%s)\n",
                profiles[i].name, profiles[i].help, (unsigned long long)profiles[i].messages,
                profiles[i].messages == 1 ? "" : "s", (unsigned long long)profiles[i].bytes,
                (unsigned long long)profiles[i].domains, profiles[i].domains == 1 ? "" : "s");
    fprintf(
        to,
        "The status is 0 only when every run was exact: all accepted, nothing lost, nothing twice (but for\n"
        "crash) and the daemon ended well.  A run makes a folder under $TMPDIR: let it lie on the disk that\n"
        "is to be measured.\n");
}

void profile_names(char *out, size_t size)
{
    size_t n = 0;

    out[0] = 0;
    for (size_t i = 0; i < COUNT_OF(profiles) && n < size; i++)
        n += (size_t)snprintf(out + n, size - n, "%s%s", i ? ", " : "", profiles[i].name);
}
