/* What a destination offers, and what the policy would make of it. */
#include "webui-api/cli/probe.h"

static void put_label(struct buf *out, const struct cli *cli, const char *indent, const char *label)
{
    buf_putf(out, "%s%s%-9s%s ", indent, term_on(&cli->term, STYLE_DIM), label, term_off(&cli->term));
}

enum style style_of_verdict(const char *verdict)
{
    if (strcmp(verdict, "authenticated") == 0)
        return STYLE_GOOD;
    if (strcmp(verdict, "encrypted") == 0)
        return STYLE_PLAIN;
    return strcmp(verdict, "clear") == 0 ? STYLE_WARN : STYLE_BAD;
}

int probe_ask(struct cli *cli, const char *const *domains, size_t count, bool quick, json_t **results)
{
    JSON_LOCAL(body);
    JSON_LOCAL(answer);
    BUF_LOCAL(url);
    json_t *list = json_array();

    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, json_string(domains[i]));
    body = json_pack("{s:o, s:b}", "domains", list, "quick", quick);
    char *text = json_dumps(body, JSON_COMPACT);
    url_path(&url, "/api/v1/tls/probe");
    int code = client_call_json(cli->client, "POST", &url, bytes_of(text), &answer);
    free(text);
    if (!code)
        *results = json_incref(json_object_get(answer, "results"));
    return code;
}

static void put_verdict(struct buf *out, const struct cli *cli, const json_t *v)
{
    put_styled(out, cli, style_of_verdict(field_text(v, "verdict")), field_text(v, "verdict"));
    buf_puts(out, ", level ");
    format_safe(out, bytes_of(field_text(v, "level")));
    if (strcmp(field_text(v, "why"), "rule") != 0) {
        buf_puts(out, " by ");
        format_safe(out, bytes_of(field_text(v, "why")));
    }
    if (*field_text(v, "text")) {
        buf_puts(out, ": ");
        format_safe(out, bytes_of(field_text(v, "text")));
    }
    buf_putc(out, '\n');
}

static void put_dane(struct buf *out, const struct cli *cli, const json_t *dane)
{
    if (!dane)
        return;
    put_label(out, cli, "    ", "TLSA");
    format_safe(out, bytes_of(field_text(dane, "state")));
    if (*field_text(dane, "why")) {
        buf_puts(out, ": ");
        format_safe(out, bytes_of(field_text(dane, "why")));
    }
    buf_putc(out, '\n');
    struct bytes text = bytes_of(field_text(dane, "records"));
    while (text.len) {
        size_t end = bytes_find(text, '\n');
        put_label(out, cli, "    ", "");
        format_safe(out, bytes_first(text, end));
        buf_putc(out, '\n');
        text = bytes_skip(text, end + 1);
    }
}

static void put_chain(struct buf *out, const struct cli *cli, const json_t *chain)
{
    json_t *c;
    size_t i;

    json_array_foreach(chain, i, c)
    {
        int64_t left = field_int(c, "not_after_unix") - cli->now_unix;
        put_label(out, cli, "    ", i ? "" : "chain");
        format_safe(out, bytes_of(field_text(c, "subject")));
        buf_putf(out, ", %s %llu, ", field_text(c, "key"), (unsigned long long)field_count(c, "key_bits"));
        put_styled(out, cli,
                   left < 0            ? STYLE_BAD
                   : left < 30 * 86400 ? STYLE_WARN
                                       : STYLE_PLAIN,
                   left < 0 ? "expired " : "ends ");
        format_relative(out, field_int(c, "not_after_unix"), cli->now_unix);
        if (!i) {
            buf_puts(out, ", sha256 ");
            format_safe(out, bytes_of(field_text(c, "sha256")));
        }
        buf_putc(out, '\n');
    }
}

static void put_versions(struct buf *out, const struct cli *cli, const json_t *versions)
{
    const char *name;
    json_t *taken;
    bool first = true;

    if (!versions)
        return;
    put_label(out, cli, "    ", "versions");
    json_object_foreach((json_t *)(uintptr_t)versions, name, taken)
    {
        bool old = strcmp(name, "TLS1.0") == 0 || strcmp(name, "TLS1.1") == 0;
        buf_puts(out, first ? "" : ", ");
        put_styled(out, cli, json_is_true(taken) && old ? STYLE_WARN : STYLE_PLAIN, name);
        buf_puts(out, json_is_true(taken) ? " yes" : " no");
        first = false;
    }
    buf_putc(out, '\n');
}

static void put_address(struct buf *out, const struct cli *cli, const json_t *a)
{
    const json_t *tls = json_object_get(a, "tls"), *levels = json_object_get(a, "levels");
    const char *name;
    json_t *v;

    buf_puts(out, "  ");
    buf_puts(out, term_on(&cli->term, STYLE_STRONG));
    format_safe(out, bytes_of(field_text(a, "ip")));
    buf_puts(out, term_off(&cli->term));
    if (field_bool(a, "secure"))
        buf_puts(out, ", signed");
    if (field_known(a, "ms")) {
        buf_puts(out, ", answered in ");
        format_span_ms(out, field_count(a, "ms"));
    } else {
        buf_puts(out, ", not asked");
    }
    buf_putc(out, '\n');
    if (*field_text(a, "error")) {
        put_label(out, cli, "    ", "error");
        put_styled(out, cli, STYLE_BAD, field_text(a, "error"));
        buf_putc(out, '\n');
    }
    if (*field_text(a, "banner")) {
        put_label(out, cli, "    ", "greeting");
        format_safe(out, bytes_of(field_text(a, "banner")));
        buf_putc(out, '\n');
    }
    if (*field_text(a, "starttls")) {
        put_label(out, cli, "    ", "starttls");
        format_safe(out, bytes_of(field_text(a, "starttls")));
        const char *said =
            *field_text(a, "tls_error") ? field_text(a, "tls_error") : field_text(a, "starttls_reply");
        if (*said) {
            buf_puts(out, ": ");
            format_safe(out, bytes_of(said));
        }
        if (field_bool(a, "requiretls"))
            buf_puts(out, ", REQUIRETLS offered");
        buf_putc(out, '\n');
    }
    if (tls) {
        put_label(out, cli, "    ", "session");
        format_safe(out, bytes_of(field_text(tls, "version")));
        buf_puts(out, " ");
        format_safe(out, bytes_of(field_text(tls, "cipher")));
        buf_puts(out, " ");
        format_safe(out, bytes_of(field_text(tls, "kx")));
        buf_puts(out, ", certificate: ");
        format_safe(out, bytes_of(field_text(tls, "verify")));
        buf_putc(out, '\n');
        put_chain(out, cli, json_object_get(tls, "chain"));
    }
    put_versions(out, cli, json_object_get(a, "versions"));
    put_label(out, cli, "    ", "policy");
    put_verdict(out, cli, json_object_get(a, "live"));
    if (!cli_has(cli, "levels"))
        return;
    json_object_foreach((json_t *)(uintptr_t)levels, name, v)
    {
        put_label(out, cli, "      ", name);
        put_verdict(out, cli, v);
    }
}

static void put_host(struct buf *out, const struct cli *cli, const json_t *h)
{
    json_t *a;
    size_t i;

    buf_puts(out, term_on(&cli->term, STYLE_STRONG));
    format_safe(out, bytes_of(field_text(h, "host")));
    buf_putf(out, "%s, preference %llu, port %llu", term_off(&cli->term),
             (unsigned long long)field_count(h, "preference"), (unsigned long long)field_count(h, "port"));
    if (field_known(h, "named_by_mta_sts"))
        buf_puts(out, field_bool(h, "named_by_mta_sts") ? ", named by MTA-STS" : ", NOT named by MTA-STS");
    if (strcmp(field_text(h, "status"), "ok") != 0) {
        buf_puts(out, ", DNS: ");
        format_safe(out, bytes_of(field_text(h, "status")));
    }
    buf_putc(out, '\n');
    put_dane(out, cli, json_object_get(h, "dane"));
    json_array_foreach(json_object_get(h, "addresses"), i, a) put_address(out, cli, a);
}

static void put_domain(struct buf *out, const struct cli *cli, const json_t *p)
{
    const json_t *sts = json_object_get(p, "mta_sts");
    json_t *h;
    size_t i;

    put_label(out, cli, "", "domain");
    buf_puts(out, term_on(&cli->term, STYLE_STRONG));
    format_safe(out, bytes_of(field_text(p, "domain")));
    buf_puts(out, term_off(&cli->term));
    buf_putc(out, '\n');
    if (*field_text(p, "error")) {
        put_label(out, cli, "", "error");
        put_styled(out, cli, STYLE_BAD, field_text(p, "error"));
        buf_puts(out, "\n\n");
        return;
    }
    put_label(out, cli, "", "group");
    format_safe(out, bytes_of(field_text(p, "group")));
    buf_putc(out, '\n');
    put_label(out, cli, "", "MX");
    format_safe(out, bytes_of(*field_text(p, "mx_status") ? field_text(p, "mx_status") : "not asked"));
    buf_puts(out, field_bool(p, "mx_secure") ? ", signed with DNSSEC" : ", not signed with DNSSEC");
    buf_putc(out, '\n');
    if (sts) {
        put_label(out, cli, "", "MTA-STS");
        format_safe(out, bytes_of(field_text(sts, "state")));
        if (*field_text(sts, "failure")) {
            buf_puts(out, ", ");
            format_safe(out, bytes_of(field_text(sts, "failure")));
            buf_puts(out, ": ");
            format_safe(out, bytes_of(field_text(sts, "why")));
        }
        buf_putc(out, '\n');
    }
    json_array_foreach(json_object_get(p, "hosts"), i, h) put_host(out, cli, h);
    put_label(out, cli, "", "mail");
    put_verdict(out, cli, json_object_get(p, "live"));
    buf_putc(out, '\n');
}

int cmd_tls_probe(struct cli *cli)
{
    const struct invocation *in = cli->in;
    JSON_LOCAL(results);
    BUF_LOCAL(out);
    json_t *p;
    size_t i;

    if (cli_has(cli, "file") || cli_has(cli, "from-queue")) {
        if (in->arg_count)
            return cli_fail(CLI_USAGE, "name domains, or give --file or --from-queue");
        return probe_list(cli);
    }
    if (!in->arg_count)
        return cli_fail(CLI_USAGE, "name a domain, or give --file or --from-queue");
    int code = probe_ask(cli, in->args, in->arg_count, false, &results);
    if (code)
        return code;
    if (cli->json)
        return cli_write_tree(cli, results);
    json_array_foreach(results, i, p) put_domain(&out, cli, p);
    return cli_write(buf_bytes(&out));
}
