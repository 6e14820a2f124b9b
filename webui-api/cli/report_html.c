/*
 * The TLS report as one HTML file: no script, nothing from outside, charts as inline SVG.  It says so itself
 * by a Content-Security-Policy, so that an auditor's browser holds it to that.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "webui-api/cli/report_chart.h"

static const char style[] =
    ":root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--soft:#5c6670;--line:#d9dee3;--card:#f6f8fa;"
    "--auth:#1a7f5a;--enc:#3b82c4;--choice:#8b949e;--lack:#c98a00;--fall:#c93c37}"
    "@media(prefers-color-scheme:dark){:root{--bg:#14181d;--fg:#e6eaee;--soft:#9aa4ae;--line:#30363d;--card:#"
    "1c2229;"
    "--auth:#3fb98a;--enc:#62a8e8;--choice:#8b949e;--lack:#e0a72e;--fall:#ef6b66}}"
    "@media print{:root{color-scheme:light;--bg:#fff;--fg:#000;--soft:#444;--line:#bbb;--card:#f4f4f4;"
    "--auth:#1a7f5a;--enc:#3b82c4;--choice:#8b949e;--lack:#c98a00;--fall:#c93c37}"
    "section,figure,tr{break-inside:avoid}body{max-width:none}h2{break-after:avoid}thead{display:table-"
    "header-group}"
    "*{-webkit-print-color-adjust:exact;print-color-adjust:exact}}"
    "*{box-sizing:border-box}"
    "body{margin:0 auto;max-width:1080px;padding:24px;background:var(--bg);color:var(--fg);"
    "font:15px/1.5 system-ui,-apple-system,\"Segoe UI\",\"Noto Sans\",sans-serif}"
    "h1{font-size:26px;margin:0 0 4px}h2{font-size:18px;margin:36px 0 10px;padding-top:10px;border-top:1px "
    "solid "
    "var(--line)}p{margin:6px 0}.soft{color:var(--soft)}"
    ".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:20px 0}"
    ".tile{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:12px 14px}"
    ".tile b{display:block;font-size:24px;line-height:1.25;font-variant-numeric:tabular-nums}"
    ".tile span{color:var(--soft);font-size:13px}"
    "table{border-collapse:collapse;width:100%;font-size:14px}"
    "th,td{text-align:left;padding:5px 10px 5px 0;border-bottom:1px solid var(--line);vertical-align:top;"
    "overflow-wrap:anywhere}td:first-child{min-width:8em}"
    "th{font-weight:600;color:var(--soft);font-size:13px}td.n,th.n{text-align:right;font-variant-numeric:"
    "tabular-nums;"
    "white-space:nowrap}td.bar{width:34%;vertical-align:middle}.wide{overflow-x:auto}"
    "figure{margin:12px 0}svg{display:block;width:100%;height:auto}svg text{fill:var(--soft);font:12px "
    "system-ui,"
    "sans-serif}"
    ".auth{fill:var(--auth)}.enc{fill:var(--enc)}.choice{fill:var(--choice)}.lack{fill:var(--lack)}"
    ".fall{fill:var(--fall)}.grid{stroke:var(--line);stroke-width:1}"
    ".key{display:flex;flex-wrap:wrap;gap:4px 18px;font-size:13px;color:var(--soft);margin:6px 0}"
    ".key i{display:inline-block;width:11px;height:11px;border-radius:2px;margin-right:6px}"
    ".bad{color:var(--fall);font-weight:600}.warn{color:var(--lack);font-weight:600}.good{color:var(--auth);"
    "font-weight:600}"
    ".two{display:grid;grid-template-columns:repeat(auto-fit,minmax(320px,1fr));gap:0 40px}"
    ".two h3{font-size:15px;margin:14px 0 4px}footer{margin-top:40px;border-top:1px solid "
    "var(--line);padding-top:12px;"
    "color:var(--soft);font-size:13px}";

/* ---- text ---- */

/* Names come from strangers: nothing of them is markup, and nothing of them turns the writing around. */
static void put_html(struct buf *out, const char *text)
{
    struct bytes rest = bytes_of(text);

    while (rest.len) {
        uint32_t point;
        size_t len = format_take_point(rest, &point);
        if (!len) {
            buf_puts(out, "\xef\xbf\xbd");
            len = 1;
        } else if (point == '<') {
            buf_puts(out, "&lt;");
        } else if (point == '>') {
            buf_puts(out, "&gt;");
        } else if (point == '&') {
            buf_puts(out, "&amp;");
        } else if (point == '"') {
            buf_puts(out, "&quot;");
        } else if (format_is_obeyed(point)) {
            buf_putf(out, "\\u{%x}", point);
        } else {
            buf_put(out, bytes_first(rest, len));
        }
        rest = bytes_skip(rest, len);
    }
}

static void put_cell(struct buf *out, const char *text)
{
    buf_puts(out, "<td>");
    if (*text)
        put_html(out, text);
    else
        buf_puts(out, "<span class=soft>(none)</span>");
    buf_puts(out, "</td>");
}

static void put_number(struct buf *out, uint64_t n)
{
    buf_puts(out, "<td class=n>");
    if (n)
        format_count(out, n);
    else
        buf_puts(out, "<span class=soft>0</span>");
    buf_puts(out, "</td>");
}

static void put_percent_cell(struct buf *out, uint64_t part, uint64_t whole)
{
    buf_puts(out, "<td class=n>");
    format_percent(out, part, whole);
    buf_puts(out, "</td>");
}

static void put_head_row(struct buf *out, const char *const *names, size_t count, size_t first_number)
{
    buf_puts(out, "<div class=wide><table><thead><tr>");
    for (size_t i = 0; i < count; i++)
        buf_putf(out, "<th%s>%s</th>", i >= first_number ? " class=n" : "", names[i]);
    buf_puts(out, "</tr></thead><tbody>\n");
}

static void end_table(struct buf *out, const json_t *report)
{
    size_t shown = json_array_size(json_object_get(report, "rows"));
    uint64_t all = field_count(report, "rows_in_all");

    buf_puts(out, "</tbody></table></div>");
    if (all > shown) {
        buf_putf(out, "<p class=soft>The first %zu of ", shown);
        format_count(out, all);
        buf_puts(out, " are shown.</p>");
    }
    buf_putc(out, '\n');
}

/* ---- sections ---- */

static void put_tile(struct buf *out, const char *name, uint64_t part, uint64_t whole, bool percent)
{
    buf_puts(out, "<div class=tile><b>");
    if (percent)
        format_percent(out, part, whole);
    else
        format_count(out, part);
    buf_putf(out, "</b><span>%s</span></div>", name);
}

static void put_summary(struct buf *out, const json_t *totals)
{
    struct shares s = chart_shares_of(totals);
    uint64_t clear = field_count(totals, "clear");

    buf_puts(out, "<div class=tiles>");
    put_tile(out, "recipients delivered", s.whole, 0, false);
    put_tile(out, "encrypted", s.whole - MIN_OF(clear, s.whole), s.whole, true);
    put_tile(out, "encrypted and authenticated", s.n[0], s.whole, true);
    put_tile(out, "in clear text", clear, s.whole, true);
    put_tile(out, "with weak TLS", field_count(totals, "weak"), s.whole, true);
    put_tile(out, "attempts held back for want of TLS", field_count(totals, "held_for_tls"), 0, false);
    buf_puts(out, "</div>\n");
}

static void put_groups(struct buf *out, const json_t *report)
{
    static const char *const names[] = {
        "Group", "How its mail travelled", "Delivered", "Authenticated", "Encrypted", "Clear text"};
    json_t *row;
    size_t i;

    buf_puts(out, "<section><h2>By destination group</h2>");
    put_head_row(out, names, COUNT_OF(names), 2);
    json_array_foreach(json_object_get(report, "rows"), i, row)
    {
        struct shares s = chart_shares_of(row);
        buf_puts(out, "<tr>");
        put_cell(out, field_text(row, "group"));
        chart_put_bar_cell(out, &s);
        put_number(out, s.whole);
        put_percent_cell(out, s.n[0], s.whole);
        put_percent_cell(out, s.n[0] + s.n[1], s.whole);
        put_percent_cell(out, field_count(row, "clear"), s.whole);
        buf_puts(out, "</tr>\n");
    }
    end_table(out, report);
    buf_puts(out, "</section>\n");
}

struct tally { /* name → count, for a small table with bars */
    struct {
        const char *name;
        uint64_t n;
    } rows[64];
    size_t count;
    uint64_t most;
};

static void tally_add(struct tally *t, const char *name, uint64_t n)
{
    size_t i = 0;

    while (i < t->count && strcmp(t->rows[i].name, name) != 0)
        i++;
    if (i == COUNT_OF(t->rows))
        i--; /* the rest goes with the last: sums stay whole */
    if (i == t->count) {
        t->rows[t->count].name = name;
        t->rows[t->count++].n = 0;
    }
    t->rows[i].n += n;
    t->most = MAX_OF(t->most, t->rows[i].n);
}

static int by_count(const void *a, const void *b)
{
    const uint64_t x = ((const typeof(((struct tally *)NULL)->rows[0]) *)a)->n;
    const uint64_t y = ((const typeof(((struct tally *)NULL)->rows[0]) *)b)->n;

    return x < y ? 1 : x > y ? -1 : 0;
}

static void put_tally(struct buf *out, const char *title, struct tally *t, uint64_t whole)
{
    if (!t->count)
        return;
    qsort(t->rows, t->count, sizeof(t->rows[0]), by_count);
    buf_putf(out, "<div><h3>%s</h3><table><tbody>", title);
    for (size_t i = 0; i < t->count; i++) {
        buf_puts(out, "<tr>");
        put_cell(out, t->rows[i].name);
        buf_putf(out,
                 "<td class=bar><svg viewBox='0 0 300 12' preserveAspectRatio=none style='height:12px' "
                 "aria-hidden=true><rect class=enc x=0 y=0 height=12 width='%.2f'/></svg></td>",
                 t->most ? 300.0 * (double)t->rows[i].n / (double)t->most : 0.0);
        put_number(out, t->rows[i].n);
        if (whole)
            put_percent_cell(out, t->rows[i].n, whole);
        buf_puts(out, "</tr>");
    }
    buf_puts(out, "</tbody></table></div>\n");
}

static void put_object_tally(struct buf *out, const char *title, const json_t *totals, const char *field,
                             uint64_t whole)
{
    struct tally t = {0};
    const char *name;
    json_t *n;

    json_object_foreach(json_object_get(totals, field), name, n)
    {
        tally_add(&t, name, (uint64_t)MAX_OF(json_integer_value(n), 0));
    }
    put_tally(out, title, &t, whole);
}

static void put_cipher_tally(struct buf *out, const char *title, const json_t *totals, const char *field,
                             uint64_t whole)
{
    struct tally t = {0};
    json_t *c;
    size_t i;

    json_array_foreach(json_object_get(totals, "ciphers"), i, c)
    {
        const char *name = field_text(c, field);
        tally_add(&t, *name ? name : "not recorded", field_count(c, "delivered"));
    }
    put_tally(out, title, &t, whole);
}

static void put_session_tally(struct buf *out, const json_t *totals, uint64_t encrypted)
{
    uint64_t resumed = MIN_OF(field_count(totals, "resumed"), encrypted);
    struct tally t = {0};

    if (encrypted > resumed)
        tally_add(&t, "full handshake", encrypted - resumed);
    if (resumed)
        tally_add(&t, "resumed", resumed);
    put_tally(out, "Handshake", &t, encrypted);
}

static void put_details(struct buf *out, const json_t *totals)
{
    struct shares s = chart_shares_of(totals);
    uint64_t encrypted = s.n[0] + s.n[1];

    buf_puts(out, "<section><h2>Versions, ciphers, certificates</h2><p class=soft>Versions, key exchange, "
                  "ciphers, handshakes and verdicts: "
                  "shares of what was encrypted; DANE and MTA-STS: of what was delivered; failures count "
                  "attempts, also "
                  "where the mail went in the end.</p><div class=two>");
    put_cipher_tally(out, "Protocol version", totals, "version", encrypted);
    put_cipher_tally(out, "Key exchange", totals, "kx", encrypted);
    put_cipher_tally(out, "Cipher suite", totals, "cipher", encrypted);
    put_session_tally(out, totals, encrypted);
    put_object_tally(out, "Verdict on the peer", totals, "verify", encrypted);
    put_object_tally(out, "DANE", totals, "dane", s.whole);
    put_object_tally(out, "MTA-STS", totals, "sts", s.whole);
    put_object_tally(out, "Failures (RFC 8460)", totals, "failures", 0);
    buf_puts(out, "</div></section>\n");
}

static void put_clear(struct buf *out, const json_t *report)
{
    static const char *const names[] = {"Destination", "In clear text", "Share",    "By choice",
                                        "By lack",     "By fallback",   "Delivered"};
    json_t *row;
    size_t i;

    buf_puts(out, "<section><h2>Destinations still in clear text</h2>");
    if (!json_array_size(json_object_get(report, "rows"))) {
        buf_puts(out, "<p class=good>None: nothing was delivered in clear text.</p></section>\n");
        return;
    }
    put_head_row(out, names, COUNT_OF(names), 1);
    json_array_foreach(json_object_get(report, "rows"), i, row)
    {
        buf_puts(out, "<tr>");
        put_cell(out, field_text(row, "domain"));
        put_number(out, field_count(row, "clear"));
        put_percent_cell(out, field_count(row, "clear"), field_count(row, "delivered"));
        put_number(out, field_count(row, "clear_by_choice"));
        put_number(out, field_count(row, "clear_by_lack"));
        put_number(out, field_count(row, "clear_by_fallback"));
        put_number(out, field_count(row, "delivered"));
        buf_puts(out, "</tr>\n");
    }
    end_table(out, report);
    buf_puts(out, "</section>\n");
}

static void put_weak(struct buf *out, const json_t *report)
{
    static const char *const names[] = {"MX host",      "Weak",        "Below TLS 1.2", "Cipher",
                                        "Key exchange", "Certificate", "Delivered"};
    static const char *const fields[] = {"weak",    "weak_version",     "weak_cipher",
                                         "weak_kx", "weak_certificate", "delivered"};
    json_t *row;
    size_t i;

    buf_puts(out, "<section><h2>Weak TLS</h2>");
    if (!json_array_size(json_object_get(report, "rows"))) {
        buf_puts(out, "<p class=good>None.</p></section>\n");
        return;
    }
    put_head_row(out, names, COUNT_OF(names), 1);
    json_array_foreach(json_object_get(report, "rows"), i, row)
    {
        buf_puts(out, "<tr>");
        put_cell(out, field_text(row, "mx"));
        for (size_t k = 0; k < COUNT_OF(fields); k++)
            put_number(out, field_count(row, fields[k]));
        buf_puts(out, "</tr>\n");
    }
    end_table(out, report);
    buf_puts(out, "</section>\n");
}

static void put_certificates(struct buf *out, const json_t *report)
{
    static const char *const names[] = {"MX host",         "Ends (UTC)", "Verdict",
                                        "Last seen (UTC)", "Sessions",   "Domains"};
    json_t *row;
    size_t i;

    buf_puts(out, "<section><h2>Receivers' certificates that end before ");
    chart_put_time(out, field_int(report, "before_unix"), "%Y-%m-%d");
    buf_puts(out, "</h2>");
    if (!json_array_size(json_object_get(report, "rows"))) {
        buf_puts(out, "<p>None that was seen.</p></section>\n");
        return;
    }
    put_head_row(out, names, COUNT_OF(names), 4);
    json_array_foreach(json_object_get(report, "rows"), i, row)
    {
        int64_t left = field_int(row, "seconds_left");
        buf_puts(out, "<tr>");
        put_cell(out, field_text(row, "mx"));
        buf_putf(out, "<td%s>", left < 0 ? " class=bad" : left < 7 * 86400 ? " class=warn" : "");
        chart_put_time(out, field_int(row, "expires_unix"), "%Y-%m-%d %H:%M");
        buf_puts(out, left < 0 ? " (over)</td>" : "</td>");
        put_cell(out, field_text(row, "verify"));
        buf_puts(out, "<td>");
        chart_put_time(out, field_int(row, "seen_unix"), "%Y-%m-%d %H:%M");
        buf_puts(out, "</td>");
        put_number(out, field_count(row, "sessions"));
        put_number(out, field_count(row, "domains"));
        buf_puts(out, "</tr>\n");
    }
    end_table(out, report);
    buf_puts(out, "</section>\n");
}

static void put_downgrades(struct buf *out, const json_t *register_)
{
    static const char *const names[] = {"Destination", "MX host",    "From → to", "State",
                                        "First (UTC)", "Last (UTC)", "Evidence",  "Sessions"};
    json_t *row;
    size_t i;

    buf_puts(out, "<section><h2>Downgrades: less TLS than before</h2>");
    if (!json_array_size(json_object_get(register_, "rows"))) {
        buf_puts(out, "<p class=good>None on record.</p></section>\n");
        return;
    }
    put_head_row(out, names, COUNT_OF(names), 7);
    json_array_foreach(json_object_get(register_, "rows"), i, row)
    {
        const char *state = field_text(row, "state");
        buf_puts(out, "<tr>");
        put_cell(out, field_text(row, "domain"));
        put_cell(out, field_text(row, "mx"));
        buf_puts(out, "<td>");
        put_html(out, field_text(row, "from"));
        buf_puts(out, " → ");
        put_html(out, field_text(row, "to"));
        buf_putf(out, "</td><td%s>", strcmp(state, "open") == 0 ? " class=bad" : "");
        put_html(out, state);
        if (*field_text(row, "approved_by")) {
            buf_puts(out, " by ");
            put_html(out, field_text(row, "approved_by"));
        }
        buf_puts(out, "</td><td>");
        chart_put_time(out, field_int(row, "first_unix"), "%Y-%m-%d %H:%M");
        buf_puts(out, "</td><td>");
        chart_put_time(out, field_int(row, "last_unix"), "%Y-%m-%d %H:%M");
        buf_puts(out, "</td>");
        put_cell(out, field_text(row, "evidence"));
        put_number(out, field_count(row, "count"));
        buf_puts(out, "</tr>\n");
    }
    end_table(out, register_);
    buf_puts(out, "</section>\n");
}

static void put_span_text(struct buf *out, const json_t *report)
{
    int64_t since = field_int(report, "since_unix"), until = field_int(report, "until_unix");

    if (!since && !until) {
        buf_puts(out, "everything on record");
        return;
    }
    if (since) {
        buf_puts(out, "from ");
        chart_put_time(out, since, "%Y-%m-%d %H:%M");
    }
    buf_puts(out, since ? " to " : "up to ");
    if (until)
        chart_put_time(out, until, "%Y-%m-%d %H:%M");
    else
        buf_puts(out, "the time of the report");
}

static void put_title(struct buf *out, const struct report_pages *p)
{
    uint64_t skipped = field_count(p->by_hour, "days_skipped");

    buf_puts(out, "<h1>How mail left ");
    put_html(out, p->host);
    buf_puts(out, "</h1><p class=soft>Transport security of outgoing mail, ");
    put_span_text(out, p->by_hour);
    buf_putf(out, "; made %s UTC.</p>\n", p->made);
    if (skipped) {
        buf_puts(out, "<p class=bad>The records of ");
        put_plural(out, skipped, "day", "days");
        buf_puts(out, " could not be read and are missing here.</p>\n");
    }
}

static const char footer[] = "<footer><p>Counted are recipients whose mail a receiver accepted in this span, "
                             "from the record that the sender "
                             "keeps of every attempt; attempts are counted only where it says so. "
                             "<b>Authenticated</b>: the peer proved to be the "
                             "right host by a certificate that holds, by DANE or by a pinned fingerprint. "
                             "<b>Clear text by choice</b>: the rule "
                             "of the destination group is not to use TLS; <b>by lack</b>: the receiver did "
                             "not offer STARTTLS or refused it; "
                             "<b>by fallback</b>: TLS was tried and failed, and the rule allows clear text "
                             "then. <b>Weak</b> (RFC 9325): below "
                             "TLS 1.2, ciphers of less than 128 bits or broken, static RSA or small "
                             "Diffie-Hellman groups, certificates with "
                             "short keys or old signatures. <b>Downgrade</b>: an MX host that reached less "
                             "than it, or the destination, had "
                             "reached before.</p><p>This file holds everything it shows; it loads nothing "
                             "and runs no script.</p></footer>\n";

void report_html(const struct report_pages *p, struct buf *out)
{
    const json_t *totals = json_object_get(p->by_group, "totals");

    buf_puts(
        out,
        "<!DOCTYPE html>\n<html lang=en><head><meta charset=utf-8>"
        "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        "<meta name=viewport content='width=device-width,initial-scale=1'>"
        "<meta name=robots content=noindex><title>TLS report, ");
    put_html(out, p->host);
    buf_putf(out, "</title><style>%s</style></head><body>\n", style);
    put_title(out, p);
    put_summary(out, totals);
    chart_put_over_time(out, p->by_hour);
    put_groups(out, p->by_group);
    put_details(out, totals);
    put_clear(out, p->clear);
    put_weak(out, p->weak);
    put_certificates(out, p->certificates);
    put_downgrades(out, p->downgrades);
    buf_puts(out, footer);
    buf_puts(out, "</body></html>\n");
}
