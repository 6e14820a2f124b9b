/* How the daemon is. */
#include <stdio.h>

#include "webui-api/cli/attempt.h"

#define BACKLOG_WORRIES 100000 /* attempts not yet on record */

static void put_label(struct buf *out, const struct cli *cli, const char *label)
{
    buf_putf(out, "%s%-11s%s ", term_on(&cli->term, STYLE_DIM), label, term_off(&cli->term));
}

static void put_alarm(struct buf *out, const struct cli *cli, enum style style, const char *text)
{
    buf_puts(out, term_on(&cli->term, style));
    buf_puts(out, "! ");
    format_safe(out, bytes_of(text));
    buf_putf(out, "%s\n", term_off(&cli->term));
}

/* One certificate may serve many listeners: each says it, because each is reached by others. */
static void put_certificate_alarms(struct buf *out, const struct cli *cli, const json_t *listener)
{
    const json_t *certificate;
    size_t i;

    json_array_foreach(json_object_get(listener, "certificates"), i, certificate)
    {
        BUF_LOCAL(text);
        bool over =
            field_bool(certificate, "revoked") || field_int(certificate, "expires_unix") < cli->now_unix;
        if (!field_known(certificate, "problem"))
            continue;
        buf_putf(&text, "the certificate %s of %s (%s): %s", field_text(certificate, "name"),
                 field_text(listener, "address"), field_text(certificate, "file"),
                 field_text(certificate, "problem"));
        put_alarm(out, cli, over ? STYLE_BAD : STYLE_WARN, buf_str(&text));
    }
}

/* Where nobody wants DANE it is no matter. */
static void put_dnssec_alarm(struct buf *out, const struct cli *cli, const json_t *dnssec)
{
    const char *state = field_text(dnssec, "state");
    BUF_LOCAL(text);

    if (!field_bool(dnssec, "dane_wanted") || strcmp(state, "unknown") == 0)
        return;
    if (strcmp(state, "working") != 0)
        buf_putf(&text, "DANE does not work, the resolver is %s: %s", state, field_text(dnssec, "hint"));
    else if (field_bool(dnssec, "mixed"))
        buf_puts(&text, "not every resolver validates: no DANE whenever one of the others is asked");
    if (text.len)
        put_alarm(out, cli, STYLE_WARN, buf_str(&text));
}

/* What needs attention stands first. */
static void put_alarms(struct buf *out, const struct cli *cli, const json_t *status)
{
    const json_t *store = json_object_get(status, "store");
    json_t *one;
    size_t i;

    if (field_bool(status, "draining"))
        put_alarm(out, cli, STYLE_WARN, "draining: it takes no new mail and will end");
    if (field_bool(store, "full"))
        put_alarm(out, cli, STYLE_BAD, "the disk is full: new mail is refused until there is space");
    if (*field_text(store, "last_error"))
        put_alarm(out, cli, STYLE_BAD, field_text(store, "last_error"));
    if (field_count(status, "history_backlog") > BACKLOG_WORRIES)
        put_alarm(out, cli, STYLE_WARN,
                  "records of attempts wait to be written: the disk is slow, and reports lag behind");
    if (field_count(json_object_get(status, "mta_sts"), "refresh_failing")) {
        BUF_LOCAL(text);
        put_plural(&text, field_count(json_object_get(status, "mta_sts"), "refresh_failing"),
                   "MTA-STS policy cannot be refreshed", "MTA-STS policies cannot be refreshed");
        buf_puts(&text, ", and will lapse: hayauma tls sts --list");
        put_alarm(out, cli, STYLE_WARN, buf_str(&text));
    }
    if (field_count(status, "tls_downgrades_open")) {
        BUF_LOCAL(text);
        put_plural(&text, field_count(status, "tls_downgrades_open"), "MX host has", "MX hosts have");
        buf_puts(&text, " less TLS than before: hayauma tls downgrades list");
        put_alarm(out, cli, STYLE_WARN, buf_str(&text));
    }
    json_array_foreach(json_object_get(json_object_get(status, "sources"), "unusable"), i, one)
    {
        BUF_LOCAL(text);
        buf_putf(&text, "nothing leaves from %s of pool %s: %s: hayauma source list",
                 field_text(one, "address"), field_text(one, "pool"), field_text(one, "why"));
        put_alarm(out, cli, STYLE_BAD, buf_str(&text));
    }
    json_array_foreach(json_object_get(json_object_get(status, "campaigns"), "guarded"), i, one)
    {
        BUF_LOCAL(text);
        buf_putf(&text, "the guard paused the campaign %s: %s: hayauma campaign resume %s",
                 field_text(one, "campaign"), field_text(one, "why"), field_text(one, "campaign"));
        put_alarm(out, cli, STYLE_WARN, buf_str(&text));
    }
    put_dnssec_alarm(out, cli, json_object_get(status, "dnssec"));
    json_array_foreach(json_object_get(status, "threads"), i, one)
    {
        BUF_LOCAL(text);
        buf_putf(&text, "the thread %s has stood still for %llu s: keep the log and restart the daemon",
                 field_text(one, "thread"), (unsigned long long)field_count(one, "seconds_without_turn"));
        if (field_bool(one, "stuck"))
            put_alarm(out, cli, STYLE_BAD, buf_str(&text));
    }
    json_array_foreach(json_object_get(status, "listeners"), i, one) put_certificate_alarms(out, cli, one);
}

static void put_queue(struct buf *out, const struct cli *cli, const json_t *status)
{
    const json_t *totals = json_object_get(status, "queue");

    put_label(out, cli, "queue");
    format_count(out, field_count(totals, "waiting"));
    buf_puts(out, " waiting");
    put_other_states(out, cli, totals, "owed a DSN");
    buf_puts(out, "; ");
    put_plural(out, field_count(totals, "messages"), "message", "messages");
    buf_putc(out, '\n');
}

struct figure {
    const char *field, *one, *many;
};

/* "3 connections, 12 messages" of counters. */
static void put_figures(struct buf *out, const json_t *counters, const struct figure *figures, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (i)
            buf_puts(out, ", ");
        put_plural(out, field_count(counters, figures[i].field), figures[i].one, figures[i].many);
    }
    buf_putc(out, '\n');
}

static void put_traffic(struct buf *out, const struct cli *cli, const json_t *status)
{
    static const struct figure in[] = {{"messages_in", "message", "messages"},
                                       {"connections_in_open", "connection open", "connections open"},
                                       {"connections_refused", "turned away", "turned away"},
                                       {"auth_failures", "failed login", "failed logins"}};
    static const struct figure attempts[] = {{"attempts", "attempt", "attempts"},
                                             {"delivered", "delivered", "delivered"},
                                             {"deferred", "deferred", "deferred"},
                                             {"bounced", "bounced", "bounced"}};
    static const struct figure net[] = {{"connections_out_open", "connection open", "connections open"},
                                        {"tls_handshakes_out", "TLS handshake", "TLS handshakes"},
                                        {"tls_resumed_out", "resumed", "resumed"},
                                        {"tls_failures_out", "failed", "failed"}};
    const json_t *counters = json_object_get(status, "counters");

    put_label(out, cli, "taken in");
    put_figures(out, counters, in, COUNT_OF(in));
    put_label(out, cli, "sent out");
    put_figures(out, counters, attempts, COUNT_OF(attempts));
    put_label(out, cli, "");
    put_figures(out, counters, net, COUNT_OF(net));
}

static void put_dkim(struct buf *out, const struct cli *cli, const json_t *status)
{
    static const struct figure figures[] = {
        {"keys", "key", "keys"},
        {"signed", "message signed", "messages signed"},
        {"unsigned", "unsigned", "unsigned"},
        {"failed", "failed", "failed"},
        {"waiting", "waiting", "waiting"},
        {"refused_full", "refused with 451 (dkim.queue was full)", "refused with 451 (dkim.queue was full)"}};
    const json_t *dkim = json_object_get(status, "dkim");

    if (!field_count(dkim, "keys"))
        return;
    put_label(out, cli, "DKIM");
    put_figures(out, dkim, figures, COUNT_OF(figures) - !field_count(dkim, "refused_full"));
}

/* Nothing is said while there is nothing to say. */
static void put_shadow(struct buf *out, const struct cli *cli, const json_t *status)
{
    const json_t *shadow = json_object_get(status, "shadow"), *counters = json_object_get(status, "counters");

    if (!json_is_object(shadow))
        return;
    buf_putf(out, "shadow      rules %llu since ", (unsigned long long)field_count(shadow, "version"));
    format_relative(out, field_int(shadow, "at_unix"), cli->now_unix);
    buf_puts(out, "; since the start ");
    format_count(out, field_count(counters, "shadow_held"));
    buf_puts(out, " deliveries they would have held back: 'hayauma report shadow'\n");
}

static void put_sts(struct buf *out, const struct cli *cli, const json_t *status)
{
    static const struct figure figures[] = {{"enforced", "enforced", "enforced"},
                                            {"fetches", "fetch", "fetches"},
                                            {"fetch_failures", "failed", "failed"}};
    const json_t *sts = json_object_get(status, "mta_sts");

    if (!field_count(sts, "policies") && !field_count(sts, "fetches"))
        return;
    put_label(out, cli, "MTA-STS");
    put_plural(out, field_count(sts, "policies"), "policy", "policies");
    buf_puts(out, ", ");
    put_figures(out, sts, figures, COUNT_OF(figures));
}

static void put_dnssec(struct buf *out, const struct cli *cli, const json_t *status)
{
    const json_t *dnssec = json_object_get(status, "dnssec");
    const json_t *server;
    size_t i;

    put_label(out, cli, "DNSSEC");
    buf_puts(out, strcmp(field_text(dnssec, "state"), "unreachable") == 0
                      ? "no answer that tells whether it works"
                      : field_text(dnssec, "state"));
    json_array_foreach(json_object_get(dnssec, "servers"), i, server)
    {
        buf_puts(out, i ? ", " : ": ");
        format_safe(out, bytes_of(field_text(server, "address")));
        if (strcmp(field_text(server, "state"), field_text(dnssec, "state")) != 0)
            buf_putf(out, " (%s)", field_text(server, "state"));
    }
    buf_putc(out, '\n');
}

static void put_process(struct buf *out, const struct cli *cli, const json_t *status)
{
    const json_t *store = json_object_get(status, "store");

    put_label(out, cli, "disk");
    format_size(out, field_count(store, "spool_bytes"));
    buf_puts(out, " of mail, write-ahead log ");
    format_size(out, field_count(store, "wal_bytes"));
    buf_puts(out, ", largest commit ");
    put_plural(out, field_count(store, "batch_max"), "message", "messages");
    buf_putc(out, '\n');
    put_label(out, cli, "process");
    format_size(out, field_count(status, "memory_bytes"));
    buf_putf(out, " of memory, %.1f s of CPU, ", json_number_value(json_object_get(status, "cpu_s")));
    put_plural(out, json_array_size(json_object_get(status, "workers")), "worker", "workers");
    buf_putc(out, '\n');
}

static void put_listeners(struct buf *out, const struct cli *cli, const json_t *status)
{
    json_t *one;
    size_t i;

    json_array_foreach(json_object_get(status, "listeners"), i, one)
    {
        put_label(out, cli, i ? "" : "listens on");
        format_safe(out, bytes_of(field_text(one, "address")));
        buf_puts(out, ", ");
        format_safe(out,
                    bytes_of(strcmp(field_text(one, "tls"), "none") ? field_text(one, "tls") : "no TLS"));
        if (field_known(one, "certificate_expires_unix")) {
            buf_puts(out, ", certificate until ");
            format_local(out, field_int(one, "certificate_expires_unix"));
            out->len -= sizeof(" 00:00:00") - 1;
        }
        buf_putc(out, '\n');
    }
}

static void put_suspensions(struct buf *out, const struct cli *cli, const json_t *groups)
{
    json_t *group, *s;
    const char *name;
    size_t i;

    json_object_foreach((json_t *)(uintptr_t)groups, name, group)
    {
        const json_t *quiet = json_object_get(group, "quiet_hours");
        if (quiet && !json_is_false(json_object_get(quiet, "quiet"))) {
            BUF_LOCAL(text);
            buf_putf(&text, "group %s has quiet hours: ", name);
            attempt_put_quiet_hours(&text, quiet, cli->now_unix);
            put_alarm(out, cli, STYLE_WARN, buf_str(&text));
        }
        json_array_foreach(json_object_get(group, "suspended"), i, s)
        {
            BUF_LOCAL(text);
            const char *mx = field_text(s, "mx");
            buf_putf(&text, "group %s%s%s rests for ", name, *mx ? ", " : "", mx);
            format_span(&text, field_int(s, "seconds_left"));
            buf_puts(&text, " after ");
            put_plural(&text, field_count(s, "failures"), "failure", "failures");
            buf_putf(&text, ": %s", field_text(s, "stage"));
            if (field_count(s, "code"))
                buf_putf(&text, " %llu", (unsigned long long)field_count(s, "code"));
            buf_putf(&text, " %s", field_text(s, "text"));
            put_alarm(out, cli, STYLE_WARN, buf_str(&text));
        }
    }
}

/* How much, and the newest: 'shaping list' has the rest. */
static void put_shaping(struct buf *out, const struct cli *cli, const json_t *shaping)
{
    const json_t *newest = json_object_get(shaping, "newest");
    uint64_t n = field_count(shaping, "in_force");
    BUF_LOCAL(text);

    if (!n || !newest)
        return;
    put_plural(&text, n, "automatic limit", "automatic limits");
    buf_putf(&text, " in force (hayauma shaping list); %s", n > 1 ? "the newest: " : "");
    if (*field_text(newest, "group"))
        buf_putf(&text, "group %s, ", field_text(newest, "group"));
    shaping_put_where(&text, newest);
    buf_puts(&text, ": ");
    shaping_put_event(&text, newest);
    put_alarm(out, cli, STYLE_WARN, buf_str(&text));
}

static void put_groups(struct buf *out, const struct cli *cli, const json_t *groups)
{
    static const struct column columns[] = {
        {"GROUP", COLUMN_LEFT},      {"STARTTLS", COLUMN_LEFT},   {"CONNECTIONS", COLUMN_RIGHT},
        {"LIMIT", COLUMN_RIGHT},     {"SITES", COLUMN_RIGHT},     {"DOMAINS", COLUMN_RIGHT},
        {"IN MEMORY", COLUMN_RIGHT}, {"IN FLIGHT", COLUMN_RIGHT}, {"LIMITED BY", COLUMN_LEFT},
    };
    const char *name, *limit;
    struct table t;
    json_t *g, *sites;

    table_init(&t, columns, COUNT_OF(columns));
    json_object_foreach((json_t *)(uintptr_t)groups, name, g)
    {
        table_text(&t, STYLE_STRONG, name);
        table_text(&t, STYLE_PLAIN, field_text(g, "starttls"));
        table_count(&t, STYLE_PLAIN, field_count(g, "connections"));
        table_count(&t, STYLE_PLAIN, field_count(g, "connections_limit"));
        table_count(&t, STYLE_PLAIN, field_count(g, "sites"));
        table_count(&t, STYLE_PLAIN, field_count(g, "destinations"));
        table_count(&t, STYLE_PLAIN, field_count(g, "recipients_in_memory"));
        table_count(&t, STYLE_PLAIN, field_count(g, "recipients_in_flight"));
        BUF_LOCAL(limits);
        json_object_foreach(json_object_get(g, "limited_by"), limit, sites)
            buf_putf(&limits, "%s%s", limits.len ? ", " : "", limit);
        table_text(&t, STYLE_PLAIN, limits.len ? buf_str(&limits) : "-");
    }
    buf_putc(out, '\n');
    table_print(&t, &cli->term, out);
    table_fini(&t);
}

int cmd_status(struct cli *cli)
{
    JSON_LOCAL(status);
    BUF_LOCAL(url);
    BUF_LOCAL(out);

    url_path(&url, "/api/v1/status");
    int code = cli_ask(cli, "GET", &url, (struct bytes){0}, &status);
    if (code || cli->json)
        return code;
    const json_t *groups = json_object_get(status, "groups");
    buf_putf(&out, "%shayaumad %s%s on ", term_on(&cli->term, STYLE_STRONG), field_text(status, "version"),
             term_off(&cli->term));
    format_safe(&out, bytes_of(field_text(status, "host_name")));
    buf_putf(&out, ", pid %llu, up ", (unsigned long long)field_count(status, "pid"));
    format_span(&out, field_int(status, "uptime_s"));
    buf_putf(&out, ", policy version %llu\n", (unsigned long long)field_count(status, "policy_version"));
    put_alarms(&out, cli, status);
    put_suspensions(&out, cli, groups);
    put_shaping(&out, cli, json_object_get(status, "shaping"));
    put_queue(&out, cli, status);
    put_traffic(&out, cli, status);
    put_shadow(&out, cli, status);
    put_dkim(&out, cli, status);
    put_sts(&out, cli, status);
    put_dnssec(&out, cli, status);
    put_process(&out, cli, status);
    put_listeners(&out, cli, status);
    put_groups(&out, cli, groups);
    return cli_write(buf_bytes(&out));
}
