/* What the engine shows of itself: status, explain, metrics. */
#include <gnutls/gnutls.h>
#include <ldns/ldns.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/dkim/dkim.h"
#include "engine/engine_priv.h"
#include "engine/shaping.h"
#include "engine/zones.h"
#include "policy/domain.h"

struct counters_sum {
    unsigned long v[sizeof(struct worker_counters) / sizeof(atomic_ulong)];
};

/* Name, help and kind of every counter, in the order of struct worker_counters. */
static const struct {
    const char *name, *help;
    bool is_gauge;
} counter_rows[] = {
    {"connections_in", "submission connections accepted", false},
    {"connections_in_open", "submission connections open", true},
    {"connections_refused", "submission connections turned away by a limit", false},
    {"auth_failures", "failed authentications", false},
    {"tls_in_failures", "failed TLS handshakes of submission", false},
    {"attacks_in", "what submission clients did that no program does by mistake", false},
    {"messages_in", "messages accepted", false},
    {"bytes_in", "octets of messages accepted", false},
    {"connections_out", "outbound connections made", false},
    {"connections_out_open", "outbound connections open or being opened", true},
    {"connects_failed", "walks over all hosts of a site that found none", false},
    {"tls_handshakes_out", "outbound TLS handshakes done", false},
    {"tls_resumed_out", "of these resumed", false},
    {"tls_failures_out", "outbound TLS handshakes that failed", false},
    {"attempts", "delivery attempts by recipient", false},
    {"delivered", "recipients delivered", false},
    {"deferred", "attempts that were deferred", false},
    {"bounced", "recipients that bounced or expired", false},
    {"bounces_dropped", "of these, bounces themselves: nobody is told", false},
    {"shadow_judged", "attempts that the shadow rules were asked about", false},
    {"shadow_held", "of these, deliveries that they would have held back", false},
    {"shadow_unknown", "of these, such that cannot be told", false},
    {"tls_reports_sent", "TLS reports that a receiver or our queue took", false},
    {"tls_reports_refused", "times that one was not taken", false},
    {"tls_reports_given_up", "TLS reports given up after a day", false},
    {"tls_reports_in", "mails of which TLS reports of others were taken in", false},
    {"jobs_in_memory", "jobs ready in memory", true},
    {"destinations", "destinations known to delivery", true},
    {"sites", "sites known to delivery", true},
    {"loop_beats", "seconds in which the worker's loop turned", false},
};
_Static_assert(COUNT_OF(counter_rows) * sizeof(atomic_ulong) == sizeof(struct worker_counters),
               "a row for every counter");

static struct counters_sum sum_counters(struct engine *e)
{
    struct counters_sum sum = {{0}};

    for (unsigned i = 0; i < e->worker_count; i++) {
        atomic_ulong *c = (atomic_ulong *)&e->workers[i]->counters;
        for (size_t k = 0; k < COUNT_OF(sum.v); k++)
            sum.v[k] += atomic_load_explicit(&c[k], memory_order_relaxed);
    }
    return sum;
}

static json_t *listeners_json(struct engine *e)
{
    static const char *const tls_names[] = {"starttls", "implicit", "none"};
    json_t *list = json_array();
    char text[IP_TEXT_BYTES];

    for (size_t i = 0; i < e->listener_count; i++) {
        struct listener *l = e->listeners[i];
        json_t *one = json_pack("{s:s, s:s}", "address", ip_format_port(&l->ip, l->port, text), "tls",
                                tls_names[l->conf->tls]);
        if (l->conf->tls != LISTENER_TLS_NONE)
            json_object_update_new(one, engine_certificates_json(l));
        json_array_append_new(list, one);
    }
    return list;
}

static json_t *store_json(struct engine *e)
{
    struct store_stats s;

    store_stats(e->shared.store, &s);
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:s}", "waiting",
                     (json_int_t)s.waiting, "held", (json_int_t)s.held, "paused", (json_int_t)s.paused,
                     "messages", (json_int_t)s.messages, "domains_cold", (json_int_t)s.domains_cold, "leased",
                     (json_int_t)s.leased, "commits", (json_int_t)s.commits, "batch_max",
                     (json_int_t)s.batch_max, "wal_bytes", (json_int_t)s.wal_bytes, "spool_bytes",
                     (json_int_t)s.spool_bytes, "segments", (json_int_t)s.segments, "shared_bytes",
                     (json_int_t)s.shared_bytes, "accepted_rcpts", (json_int_t)s.accepted_rcpts, "full",
                     (int)s.full, "last_error", s.last_error);
}

static long memory_bytes(void)
{
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");

    if (!f)
        return 0;
    if (fscanf(f, "%*s %ld", &pages) != 1)
        pages = 0;
    fclose(f);
    return pages * sysconf(_SC_PAGESIZE);
}

static void worker_status(struct worker *w, void *arg)
{
    deliver_status(w->deliver, arg);
}

/* A group's numbers are over all workers; its limit stands beside them. */
static json_t *groups_json(struct engine *e)
{
    json_t *groups = json_object();
    struct policy *p = engine_policy(e);

    for (size_t i = 0; i < policy_group_count(p); i++) {
        const struct group *g = policy_group(p, i);
        json_object_set_new(groups, g->name,
                            json_pack("{s:s, s:I, s:[]}", "starttls", tls_level_name(g->starttls),
                                      "connections_limit", (json_int_t)g->limits.connections, "suspended"));
        if (g->quiet.on)
            json_object_set_new(json_object_get(groups, g->name), "quiet_hours",
                                zones_quiet_json(e->shared.zones, &g->quiet, clock_unix()));
    }
    for (unsigned i = 0; i < e->worker_count; i++)
        worker_call(e->workers[i], worker_status, groups); /* one that is stuck adds nothing */
    policy_unref(p);
    return groups;
}

json_t *engine_status(struct engine *e)
{
    struct counters_sum sum = sum_counters(e);
    json_t *counters = json_object(), *workers = json_array();
    struct rusage usage;

    for (size_t k = 0; k < COUNT_OF(counter_rows); k++)
        json_object_set_new(counters, counter_rows[k].name, json_integer((json_int_t)sum.v[k]));
    for (unsigned i = 0; i < e->worker_count; i++)
        json_array_append_new(workers, json_pack("{s:i, s:i, s:b}", "worker", (int)i, "seconds_without_turn",
                                                 (int)pulse_seconds(&e->workers[i]->pulse), "stuck",
                                                 (int)pulse_is_stuck(&e->workers[i]->pulse)));
    getrusage(RUSAGE_SELF, &usage);
    struct policy *p = engine_policy(e);
    json_t *status = json_pack(
        "{s:s, s:s, s:i, s:I, s:I, s:b, s:I, s:f, s:I, s:I, s:o, s:o, s:o, s:o, s:o}", "version",
        HAYAUMA_VERSION, "host_name", e->shared.host_name, "pid", (int)getpid(), "started_unix",
        (json_int_t)e->started_unix, "uptime_s", (json_int_t)(clock_unix() - e->started_unix), "draining",
        (int)atomic_load(&e->draining), "memory_bytes", (json_int_t)memory_bytes(), "cpu_s",
        (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
            (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6,
        "policy_version", (json_int_t)policy_version(p), "history_backlog",
        (json_int_t)history_backlog(e->shared.history), "counters", counters, "store", store_json(e),
        "groups", groups_json(e), "listeners", listeners_json(e), "workers", workers);
    json_object_set_new(status, "threads", watchdog_json(e->watchdog));
    json_object_set_new(status, "tls_downgrades_open",
                        json_integer(atomic_load(&e->shared.tls_downgrades_open)));
    json_object_set_new(status, "dkim", dkim_status_json(e->shared.dkim));
    json_object_set_new(status, "mta_sts", engine_sts_json(e));
    json_object_set_new(status, "dnssec", engine_dnssec_json(e));
    json_object_set_new(status, "shadow", engine_shadow_json(e));
    json_object_set_new(status, "campaigns", engine_campaigns_json(e));
    json_object_set_new(status, "sources", engine_sources_status(e));
    json_object_set_new(status, "shaping", engine_shaping_json(e, json_object_get(status, "groups")));
    policy_unref(p);
    return status;
}

/* ---- explain ---- */

struct explain_wait {
    struct doorbell bell;
    const char *domain;
    json_t *facts;
};

static void on_facts(void *arg, json_t *facts)
{
    struct explain_wait *wait = arg;

    wait->facts = facts;
    doorbell_ring(&wait->bell);
}

static void start_explain(struct worker *w, void *arg)
{
    struct explain_wait *wait = arg;

    deliver_explain(w->deliver, wait->domain, on_facts, wait);
}

json_t *engine_explain(struct engine *e, const char *address_or_domain)
{
    char domain[DOMAIN_MAX_BYTES + 1];
    struct bytes text = bytes_of(address_or_domain), part = domain_of_address(text);
    struct explain_wait wait = {.domain = domain};

    if (domain_normalise(part.len ? part : text, domain) != OK)
        return json_pack("{s:s}", "error", "that is neither an address nor a domain");
    doorbell_init(&wait.bell);
    unsigned owner = store_owner(bytes_of(domain), e->worker_count);
    if (worker_call(e->workers[owner], start_explain, &wait))
        doorbell_wait(&wait.bell, -1); /* DNS answers or times out */
    doorbell_fini(&wait.bell);
    if (!wait.facts)
        return json_pack("{s:o}", "error",
                         json_sprintf("its worker, %u, is stuck: see hayauma status", owner));
    if (part.len)
        json_object_set_new(wait.facts, "address", json_string(address_or_domain));
    return wait.facts;
}

/* ---- metrics ---- */

static void metric(struct buf *out, const char *name, const char *help, bool is_gauge, double value)
{
    buf_putf(out, "# HELP hayauma_%s %s\n# TYPE hayauma_%s %s\nhayauma_%s%s %.17g\n", name, help, name,
             is_gauge ? "gauge" : "counter", name, "", value);
}

void engine_metrics(struct engine *e, struct buf *out)
{
    struct counters_sum sum = sum_counters(e);
    struct store_stats s;
    struct rusage usage;
    struct policy *p = engine_policy(e);

    store_stats(e->shared.store, &s);
    getrusage(RUSAGE_SELF, &usage);
    for (size_t k = 0; k < COUNT_OF(counter_rows); k++)
        metric(out, counter_rows[k].name, counter_rows[k].help, counter_rows[k].is_gauge, (double)sum.v[k]);
    metric(out, "tls_downgrades_open", "destinations with less TLS than before that nobody approved", true,
           (double)atomic_load(&e->shared.tls_downgrades_open));
    metric(out, "queue_waiting", "recipients waiting", true, (double)s.waiting);
    metric(out, "queue_held", "recipients held by an operator", true, (double)s.held);
    metric(out, "queue_paused", "recipients of paused campaigns", true, (double)s.paused);
    metric(out, "queue_messages", "messages with open recipients", true, (double)s.messages);
    metric(out, "store_commits", "group commits", false, (double)s.commits);
    metric(out, "store_commit_seconds", "time spent in group commits", false,
           (double)s.commit_us_total / 1e6);
    metric(out, "store_wal_bytes", "size of the write-ahead log", true, (double)s.wal_bytes);
    metric(out, "store_spool_bytes", "size of the spool", true, (double)s.spool_bytes);
    metric(out, "store_shared_bytes", "octets of bodies that were not stored again", false,
           (double)s.shared_bytes);
    metric(out, "store_full", "1 while new mail is refused for want of space", true, s.full);
    metric(out, "history_backlog", "attempts that wait to be recorded", true,
           (double)history_backlog(e->shared.history));
    metric(out, "policy_version", "version of the policy in force", true, (double)policy_version(p));
    engine_shadow_metrics(e, out);
    engine_campaigns_metrics(e, out);
    engine_sts_metrics(e, out);
    metric(out, "memory_bytes", "resident memory", true, (double)memory_bytes());
    metric(out, "cpu_seconds", "CPU time used", false,
           (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
               (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
    watchdog_metrics(e->watchdog, out);
    engine_certificates_metrics(e, out);
    engine_dnssec_metrics(e, out);
    shaping_metrics(e->shared.shaping, clock_now_ms(), out);
    engine_sources_metrics(e, out);
    dkim_metrics(e->shared.dkim, out);
    policy_unref(p);
}
