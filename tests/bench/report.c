#include "tests/bench/report.h"

static void start(struct report *r, const char *key)
{
    if (r->json)
        buf_putf(&r->text, "%s%s\"%s\":", r->text.len ? "" : "{", r->begun ? "," : "", key);
    else if (r->table)
        buf_putf(&r->text, "%s%-28s ", r->in_section ? "  " : "", key);
    else
        buf_putf(&r->text, "%s=", key);
    r->begun = true;
}

static void finish(struct report *r)
{
    if (!r->json)
        buf_putc(&r->text, '\n');
}

void report_section(struct report *r, const char *key)
{
    if (r->json && r->in_section) {
        buf_putc(&r->text, '}');
        r->begun = true;
    }
    if (r->json) {
        start(r, key);
        buf_putc(&r->text, '{');
        r->begun = false;
    } else if (r->table) {
        buf_putf(&r->text, "%s\n", key);
    }
    r->in_section = true;
}

void report_count(struct report *r, const char *key, uint64_t value)
{
    start(r, key);
    buf_putf(&r->text, "%llu", (unsigned long long)value);
    finish(r);
}

void report_number(struct report *r, const char *key, double value, unsigned decimals)
{
    start(r, key);
    buf_putf(&r->text, "%.*f", (int)decimals, value);
    finish(r);
}

void report_text(struct report *r, const char *key, const char *value)
{
    start(r, key);
    if (r->json)
        buf_putc(&r->text, '"');
    for (const char *c = value; *c; c++) {
        if (r->json && (*c == '"' || *c == '\\'))
            buf_putc(&r->text, '\\');
        buf_putc(&r->text, (unsigned char)*c < ' ' ? ' ' : *c);
    }
    if (r->json)
        buf_putc(&r->text, '"');
    finish(r);
}

void report_times(struct report *r, const char *key, const struct hist *h)
{
    static const struct {
        const char *name;
        unsigned per_mille;
    } points[] = {{"p50", 500}, {"p95", 950}, {"p99", 990}, {"max", 1000}};

    for (size_t i = 0; i < COUNT_OF(points); i++) {
        char name[64];
        snprintf(name, sizeof name, "%s_%s", key, points[i].name);
        report_number(r, name, (double)hist_percentile(h, points[i].per_mille) / 1000, 2);
    }
}

void report_end(struct report *r, FILE *to)
{
    if (r->json)
        buf_puts(&r->text, r->text.len == 0 ? "{}\n" : r->in_section ? "}}\n" : "}\n");
    fwrite(r->text.at, 1, r->text.len, to);
    fflush(to);
    buf_fini(&r->text);
    r->in_section = r->begun = false;
}
