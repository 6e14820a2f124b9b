/* What happens to mail for an address or domain, and why. */
#include <stdio.h>

#include "webui-api/cli/attempt.h"

static void put_label(struct buf *out, const struct cli *cli, const char *label)
{
    buf_putf(out, "%s%-10s%s ", term_on(&cli->term, STYLE_DIM), label, term_off(&cli->term));
}

/* Why this group: what matched, and where that stands. */
static void put_rule(struct buf *out, const struct cli *cli, const json_t *e)
{
    put_label(out, cli, "group");
    buf_puts(out, term_on(&cli->term, STYLE_STRONG));
    format_safe(out, bytes_of(field_text(e, "group")));
    buf_puts(out, term_off(&cli->term));
    buf_puts(out, ", by ");
    format_safe(out, bytes_of(field_text(e, "match")));
    if (*field_text(e, "pattern")) {
        buf_puts(out, " match ");
        format_safe(out, bytes_of(field_text(e, "pattern")));
    }
    if (field_count(e, "group_line")) {
        buf_putf(out, " (line %llu of ", (unsigned long long)field_count(e, "group_line"));
        if (field_known(e, "group_file")) {
            format_safe(out, bytes_of(field_text(e, "group_file")));
            buf_puts(out, " in ");
        }
        buf_putf(out, "policy version %llu", (unsigned long long)field_count(e, "policy_version"));
        const json_t *over = json_object_get(e, "group_over");
        if (over) {
            buf_putf(out, ", over line %llu of ", (unsigned long long)field_count(over, "line"));
            format_safe(out, bytes_of(field_text(over, "file")));
        }
        buf_putc(out, ')');
    }
    buf_putc(out, '\n');
    put_label(out, cli, "starttls");
    format_safe(out, bytes_of(field_text(e, "starttls")));
    buf_putc(out, '\n');
    put_label(out, cli, "route");
    format_safe(out, bytes_of(field_text(e, "route")));
    buf_putc(out, '\n');
}

/* "dane, found in DNS", "require" */
static void put_level(struct buf *out, const json_t *tls)
{
    const char *why = field_text(tls, "why");

    format_safe(out, bytes_of(field_text(tls, "level")));
    if (strcmp(why, "dane") == 0)
        buf_puts(out, ", by TLSA records");
    else if (strcmp(why, "sts") == 0)
        buf_puts(out, ", by MTA-STS");
}

static void put_mta_sts(struct buf *out, const struct cli *cli, const json_t *sts)
{
    json_t *mx;
    size_t i;

    if (!sts)
        return;
    put_label(out, cli, "MTA-STS");
    format_safe(out, bytes_of(field_text(sts, "state")));
    if (*field_text(sts, "id")) {
        buf_puts(out, ", id ");
        format_safe(out, bytes_of(field_text(sts, "id")));
        buf_puts(out, ", MX");
        json_array_foreach(json_object_get(sts, "mx"), i, mx)
        {
            buf_putc(out, ' ');
            format_safe(out, bytes_of(json_string_value(mx)));
        }
    }
    if (*field_text(sts, "why")) {
        buf_puts(out, ", last look: ");
        format_safe(out, bytes_of(field_text(sts, "failure")));
        buf_puts(out, *field_text(sts, "failure") ? " " : "");
        format_safe(out, bytes_of(field_text(sts, "why")));
    }
    buf_putc(out, '\n');
}

/* What keeps mail from a host, and what TLSA records it has. */
static void put_host_remarks(struct buf *out, const struct cli *cli, const json_t *hosts)
{
    json_t *host;
    size_t i;

    json_array_foreach(hosts, i, host)
    {
        const json_t *tls = json_object_get(host, "tls"), *dane = json_object_get(tls, "dane");
        if (dane) {
            put_label(out, cli, "TLSA");
            format_safe(out, bytes_of(field_text(host, "host")));
            buf_puts(out, ": ");
            format_safe(out, bytes_of(field_text(dane, "state")));
            if (*field_text(dane, "why")) {
                buf_puts(out, ", ");
                format_safe(out, bytes_of(field_text(dane, "why")));
            }
            struct bytes text = bytes_of(field_text(dane, "records"));
            while (text.len) {
                size_t end = bytes_find(text, '\n');
                buf_puts(out, "\n             ");
                format_safe(out, bytes_first(text, end));
                text = bytes_skip(text, end + 1);
            }
            buf_putc(out, '\n');
        }
        if (field_known(host, "tried_last_seconds")) {
            put_label(out, cli, "tried last");
            put_styled(out, cli, STYLE_WARN, field_text(host, "host"));
            buf_puts(out, ": it failed; for another ");
            format_span(out, field_int(host, "tried_last_seconds"));
            buf_putc(out, '\n');
        }
        const json_t *without = json_object_get(host, "without_source");
        if (without) {
            put_label(out, cli, "left out");
            put_styled(out, cli, STYLE_WARN, field_text(host, "host"));
            for (size_t k = 0; k < json_array_size(without); k++) {
                buf_puts(out, k ? ", " : " ");
                format_safe(out, bytes_of(json_string_value(json_array_get(without, k))));
            }
            buf_puts(out, ": the source pool has no address of that family\n");
        }
        if (*field_text(tls, "skipped")) {
            put_label(out, cli, "left out");
            put_styled(out, cli, STYLE_WARN, field_text(tls, "skipped"));
            buf_putc(out, '\n');
        }
    }
}

/* What DNS says of the domain, and what that means for its mail. */
static void put_mx(struct buf *out, const struct cli *cli, const json_t *e)
{
    static const struct {
        const char *status, *means;
    } rows[] = {
        {"ok", ""},
        {"implicit", ": none, so mail goes to the addresses of the domain itself"},
        {"null-mx", ": it takes no mail; what is sent there bounces (5.1.10)"},
        {"nxdomain", ": there is no such domain; mail bounces (5.1.2)"},
        {"nodata", ": there is no host for its mail, which bounces (5.4.4)"},
        {"bad-name", ": there is no host for its mail, which bounces (5.4.4)"},
        {"cname-loop", ": its names lead in a circle; mail bounces at the second attempt (5.4.4)"},
        {"servfail", ": DNS is in trouble; mail waits (4.4.3)"},
        {"timeout", ": DNS does not answer; mail waits (4.4.3)"},
    };
    const char *status = field_text(e, "mx_status");

    put_label(out, cli, "MX");
    if (strcmp(field_text(e, "route"), "smarthost") == 0) {
        buf_puts(out, "not asked for: the route names the hosts\n");
        return;
    }
    format_safe(out, bytes_of(status));
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        if (strcmp(status, rows[i].status) == 0)
            buf_puts(out, rows[i].means);
    if (field_count(e, "mx_ttl")) {
        buf_puts(out, ", known for another ");
        format_span(out, field_int(e, "mx_ttl"));
    }
    if (json_is_true(json_object_get(e, "mx_secure")))
        buf_puts(out, ", signed with DNSSEC");
    buf_putc(out, '\n');
}

static void put_hosts(struct buf *out, const struct cli *cli, const json_t *e)
{
    static const struct column columns[] = {{"HOST", COLUMN_LEFT},  {"PREFERENCE", COLUMN_RIGHT},
                                            {"PORT", COLUMN_RIGHT}, {"DNS", COLUMN_LEFT},
                                            {"TLS", COLUMN_LEFT},   {"ADDRESSES", COLUMN_GIVES}};
    const json_t *hosts = json_object_get(e, "hosts");
    json_t *host, *address;
    struct table t;
    size_t i, k;

    put_mx(out, cli, e);
    put_mta_sts(out, cli, json_object_get(e, "mta_sts"));
    if (!json_array_size(hosts))
        return;
    table_init(&t, columns, COUNT_OF(columns));
    json_array_foreach(hosts, i, host)
    {
        table_text(&t, STYLE_PLAIN, field_text(host, "host"));
        buf_putf(table_cell(&t, STYLE_PLAIN), "%llu", (unsigned long long)field_count(host, "preference"));
        buf_putf(table_cell(&t, STYLE_PLAIN), "%llu", (unsigned long long)field_count(host, "port"));
        table_text(&t, STYLE_PLAIN, field_text(host, "status"));
        put_level(table_cell(&t, STYLE_PLAIN), json_object_get(host, "tls"));
        struct buf *cell = table_cell(&t, STYLE_PLAIN);
        json_array_foreach(json_object_get(host, "addresses"), k, address)
        {
            if (k)
                buf_puts(cell, ", ");
            format_safe(cell, bytes_of(json_string_value(address)));
        }
    }
    buf_putc(out, '\n');
    table_print(&t, &cli->term, out);
    table_fini(&t);
    buf_putc(out, '\n');
    put_host_remarks(out, cli, hosts);
}

/* Where it leaves from, and what each address may still send. */
static void put_sources(struct buf *out, const struct cli *cli, const json_t *e)
{
    json_t *source;
    size_t i;

    json_array_foreach(json_object_get(e, "sources"), i, source)
    {
        const json_t *w = json_object_get(json_array_get(json_object_get(source, "groups"), 0), "warmup");
        put_label(out, cli, i ? "" : "sources");
        format_safe(out, bytes_of(field_text(source, "address")));
        if (!field_bool(source, "usable")) {
            buf_puts(out, ": ");
            put_styled(out, cli, STYLE_BAD, field_text(source, "why"));
        } else if (field_known(w, "left")) {
            buf_putf(out, ": warm-up, step %llu of %llu, %llu of %llu left",
                     (unsigned long long)field_count(w, "step"), (unsigned long long)field_count(w, "steps"),
                     (unsigned long long)field_count(w, "left"), (unsigned long long)field_count(w, "size"));
            if (field_known(w, "seconds_to_wait")) {
                buf_puts(out, ", more in ");
                format_span(out, field_int(w, "seconds_to_wait"));
            }
        }
        buf_putc(out, '\n');
    }
}

static void put_quiet_hours(struct buf *out, const struct cli *cli, const json_t *q)
{
    BUF_LOCAL(text);

    if (!q)
        return;
    put_label(out, cli, "quiet");
    attempt_put_quiet_hours(&text, q, cli->now_unix);
    put_styled(out, cli, json_is_false(json_object_get(q, "quiet")) ? STYLE_PLAIN : STYLE_WARN,
               buf_str(&text));
    buf_putc(out, '\n');
}

static void put_shaping(struct buf *out, const struct cli *cli, const json_t *events)
{
    json_t *one;
    size_t i;

    json_array_foreach((json_t *)(uintptr_t)events, i, one)
    {
        put_label(out, cli, "shaping");
        shaping_put_event(out, one);
        buf_putc(out, '\n');
    }
}

static void put_suspension(struct buf *out, const struct cli *cli, const json_t *s)
{
    BUF_LOCAL(text);

    if (!s)
        return;
    put_label(out, cli, "rests");
    buf_puts(&text, "for ");
    format_span(&text, field_int(s, "seconds_left"));
    buf_puts(&text, ", after ");
    put_plural(&text, field_count(s, "failures"), "failure", "failures");
    buf_puts(&text, ": ");
    format_safe(&text, bytes_of(field_text(s, "stage")));
    if (field_count(s, "code"))
        buf_putf(&text, " %llu", (unsigned long long)field_count(s, "code"));
    buf_putc(&text, ' ');
    format_safe(&text, bytes_of(field_text(s, "text")));
    put_styled(out, cli, STYLE_WARN, buf_str(&text));
    buf_putc(out, '\n');
}

static void put_queue(struct buf *out, const struct cli *cli, const json_t *e)
{
    static const struct {
        const char *field, *says;
    } rows[] = {{"held", "held"},
                {"paused", "paused with their campaigns"},
                {"dsn_owed", "owed a DSN"},
                {"bouncing", "bouncing"},
                {"cancelling", "being cancelled"}};
    const json_t *queue = json_object_get(e, "queue");

    put_label(out, cli, "queue");
    format_count(out, field_count(queue, "waiting"));
    buf_puts(out, " waiting");
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        if (field_count(queue, rows[i].field)) {
            buf_puts(out, ", ");
            format_count(out, field_count(queue, rows[i].field));
            buf_putf(out, " %s", rows[i].says);
        }
    if (field_known(e, "next_due_unix") && field_count(queue, "waiting")) {
        buf_puts(out, ", next try ");
        format_relative(out, MAX_OF(field_int(e, "next_due_unix"), cli->now_unix), cli->now_unix);
    }
    if (field_count(e, "recipients_in_flight")) {
        buf_puts(out, ", ");
        format_count(out, field_count(e, "recipients_in_flight"));
        buf_puts(out, " under way");
    }
    buf_putc(out, '\n');
    if (field_known(e, "connections")) {
        put_label(out, cli, "open");
        put_plural(out, field_count(e, "connections"), "connection", "connections");
        buf_putc(out, '\n');
    }
    json_t *limited = json_object_get(e, "limited_by");
    if (limited) {
        put_label(out, cli, "limited by");
        buf_puts(out, field_text(limited, "limit"));
        uint64_t left_ms = field_count(limited, "milliseconds_left");
        if (left_ms >= 60000) {
            buf_puts(out, ", for ");
            format_span(out, (int64_t)(left_ms / 1000));
            buf_puts(out, " more");
        } else if (field_known(limited, "milliseconds_left")) {
            buf_putf(out, ", for %llu.%03llu s more", (unsigned long long)left_ms / 1000,
                     (unsigned long long)left_ms % 1000);
        }
        buf_putc(out, '\n');
    }
    put_quiet_hours(out, cli, json_object_get(e, "quiet_hours"));
    put_suspension(out, cli, json_object_get(e, "suspended"));
    put_shaping(out, cli, json_object_get(e, "shaping"));
}

static void put_settings(struct buf *out, const struct cli *cli, const json_t *e)
{
    struct bytes text = bytes_of(field_text(e, "settings"));

    if (!text.len)
        return;
    put_label(out, cli, "rules");
    buf_puts(out, "in force for it:\n");
    while (text.len) {
        size_t end = bytes_find(text, '\n');
        buf_puts(out, "  ");
        format_safe(out, bytes_first(text, end));
        buf_putc(out, '\n');
        text = bytes_skip(text, end + 1);
    }
}

int cmd_explain(struct cli *cli)
{
    JSON_LOCAL(e);
    BUF_LOCAL(url);
    BUF_LOCAL(out);

    if (!*cli_arg(cli, 0))
        return cli_fail(CLI_USAGE, "which address or domain?");
    url_path(&url, "/api/v1/explain");
    url_segment(&url, cli_arg(cli, 0));
    int code = cli_ask(cli, "GET", &url, (struct bytes){0}, &e);
    if (code || cli->json)
        return code;
    put_label(&out, cli, field_known(e, "address") ? "address" : "domain");
    format_safe(&out, bytes_of(field_text(e, field_known(e, "address") ? "address" : "domain")));
    buf_putc(&out, '\n');
    put_rule(&out, cli, e);
    put_sources(&out, cli, e);
    put_hosts(&out, cli, e);
    put_queue(&out, cli, e);
    put_settings(&out, cli, e);
    if (json_array_size(json_object_get(e, "attempts"))) {
        bool of_others = field_known(e, "address") && strcmp(field_text(e, "attempts_of"), "address") != 0;
        buf_puts(&out, of_others ? "\nNo attempt for this address is on record; the last for its domain:\n"
                                 : "\nLast attempts:\n");
        attempt_table(&out, cli, json_object_get(e, "attempts"));
    }
    return cli_write(buf_bytes(&out));
}
