/* Charts of the HTML report: how mail travelled, as bars and over time, in inline SVG. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "webui-api/cli/report_chart.h"

static const struct {
    const char *class, *name;
} kinds[SHARES_KINDS] = {
    {"auth", "encrypted and authenticated"}, {"enc", "encrypted, peer not authenticated"},
    {"choice", "clear text by choice"},      {"lack", "clear text by lack of STARTTLS"},
    {"fall", "clear text after failed TLS"},
};
struct shares chart_shares_of(const json_t *row)
{
    uint64_t encrypted =
        field_count(row, "tls13") + field_count(row, "tls12") + field_count(row, "tls_older");
    uint64_t verified = MIN_OF(field_count(row, "verified"), encrypted);

    return (struct shares){{verified, encrypted - verified, field_count(row, "clear_by_choice"),
                            field_count(row, "clear_by_lack"), field_count(row, "clear_by_fallback")},
                           field_count(row, "delivered")};
}

static void shares_add(struct shares *to, const struct shares *more)
{
    for (size_t i = 0; i < SHARES_KINDS; i++)
        to->n[i] += more->n[i];
    to->whole += more->whole;
}

void chart_put_time(struct buf *out, int64_t unix_seconds, const char *format)
{
    time_t t = (time_t)unix_seconds;
    char text[40] = "";
    struct tm tm;

    if (gmtime_r(&t, &tm))
        strftime(text, sizeof(text), format, &tm);
    buf_puts(out, text);
}

/* A bar of width `units` made of the five parts. */
static void put_bar(struct buf *out, const struct shares *s, double x, double y, double units, double height)
{
    for (size_t i = 0; i < SHARES_KINDS && s->whole; i++) {
        double width = units * (double)s->n[i] / (double)s->whole;
        if (!s->n[i])
            continue;
        buf_putf(out,
                 "<rect class=%s x='%.2f' y='%.2f' width='%.2f' height='%.2f'><title>%s: ", kinds[i].class, x,
                 y, width, height, kinds[i].name);
        format_count(out, s->n[i]);
        buf_puts(out, "</title></rect>");
        x += width;
    }
}

void chart_put_bar_cell(struct buf *out, const struct shares *s)
{
    buf_puts(out, "<td class=bar><svg viewBox='0 0 300 14' role=img preserveAspectRatio=none "
                  "style='height:14px'>");
    put_bar(out, s, 0, 0, 300, 14);
    buf_puts(out, "</svg></td>");
}

static void put_legend(struct buf *out)
{
    static const char *const colours[SHARES_KINDS] = {"auth", "enc", "choice", "lack", "fall"};

    buf_puts(out, "<div class=key>");
    for (size_t i = 0; i < SHARES_KINDS; i++)
        buf_putf(out, "<span><i style='background:var(--%s)'></i>%s</span>", colours[i], kinds[i].name);
    buf_puts(out, "</div>");
}

#define BUCKETS_MAX 96
struct series {
    int64_t first_unix, bucket_s;
    size_t count;
    struct shares at[BUCKETS_MAX + 2]; /* the first and the last may be cut off by the span */
    uint64_t top;
};

static int64_t bucket_for(int64_t span_s)
{
    static const int64_t hours[] = {1, 2, 3, 6, 12, 24, 48, 168, 336, 720, 2160};

    for (size_t i = 0; i < COUNT_OF(hours); i++)
        if (span_s <= hours[i] * 3600 * BUCKETS_MAX)
            return hours[i] * 3600;
    return (span_s / BUCKETS_MAX / 3600 + 1) * 3600;
}

static void series_of(const json_t *rows, struct series *s)
{
    int64_t first = INT64_MAX, last = INT64_MIN;
    json_t *row;
    size_t i;

    *s = (struct series){0};
    json_array_foreach((json_t *)(uintptr_t)rows, i, row)
    {
        first = MIN_OF(first, field_int(row, "hour_unix"));
        last = MAX_OF(last, field_int(row, "hour_unix"));
    }
    if (first > last)
        return;
    s->bucket_s = bucket_for(last - first + 3600);
    first -= first % s->bucket_s; /* whole days begin at midnight */
    s->first_unix = first;
    json_array_foreach((json_t *)(uintptr_t)rows, i, row)
    {
        size_t at = (size_t)((field_int(row, "hour_unix") - first) / s->bucket_s);
        struct shares one = chart_shares_of(row);
        if (at >= COUNT_OF(s->at))
            continue; /* an hour that is none */
        shares_add(&s->at[at], &one);
        s->count = MAX_OF(s->count, at + 1);
        s->top = MAX_OF(s->top, s->at[at].whole);
    }
}

/* The top of the scale: little above n, and of a kind that four steps divide well. */
static uint64_t round_up(uint64_t n)
{
    static const uint64_t tens[] = {10, 12, 16, 20, 24, 32, 40, 60, 80};

    if (n <= 8)
        return n <= 4 ? 4 : 8;
    for (uint64_t scale = 1;; scale *= 10)
        for (size_t i = 0; i < COUNT_OF(tens); i++)
            if (tens[i] * scale >= n || scale > UINT64_MAX / 1000)
                return tens[i] * scale;
}

static void put_column(struct buf *out, const struct series *s, size_t i, double x, double width,
                       uint64_t top, double base, double height)
{
    double y = base;

    for (size_t k = 0; k < SHARES_KINDS; k++) {
        double part = height * (double)s->at[i].n[k] / (double)top;
        if (!s->at[i].n[k])
            continue;
        y -= part;
        buf_putf(out, "<rect class=%s x='%.2f' y='%.2f' width='%.2f' height='%.2f'><title>", kinds[k].class,
                 x, y, width, part);
        chart_put_time(out, s->first_unix + (int64_t)i * s->bucket_s, "%Y-%m-%d %H:%M");
        buf_putf(out, ", %s: ", kinds[k].name);
        format_count(out, s->at[i].n[k]);
        buf_puts(out, "</title></rect>");
    }
}

/* Some eight labels: of days where there are several, else of hours; none that would be cut off. */
static void put_time_axis(struct buf *out, const struct series *s, double left, double step, double base)
{
    int64_t span_s = (int64_t)s->count * s->bucket_s;
    bool days = span_s > 3 * 86400, whole = days && s->bucket_s < 86400;
    size_t unit_s = whole ? 86400 : (size_t)s->bucket_s;
    size_t every = MAX_OF(((size_t)span_s / unit_s + 7) / 8, (size_t)1), seen = 0;

    for (size_t i = 0; i < s->count; i++) {
        int64_t at = s->first_unix + (int64_t)i * s->bucket_s;
        double x = left + step * (double)i;
        if ((whole && at % 86400) || seen++ % every || x > 920)
            continue;
        buf_putf(out, "<text x='%.2f' y='%.2f'>", x, base + 18);
        chart_put_time(out, at, days ? "%d %b %Y" : "%d %b %H:%M");
        buf_puts(out, "</text>");
    }
}

void chart_put_over_time(struct buf *out, const json_t *by_hour)
{
    const double left = 70, width = 1000, top_y = 10, height = 220, base = top_y + height;
    struct series *s = MEM_NEW(struct series);

    buf_puts(out, "<section><h2>Over time</h2>");
    series_of(json_object_get(by_hour, "rows"), s);
    if (!s->top) {
        buf_puts(out, "<p>Nothing was delivered in this span.</p></section>\n");
        mem_free(s);
        return;
    }
    uint64_t top = round_up(s->top);
    double step = (width - left) / (double)s->count;
    put_legend(out);
    buf_puts(
        out,
        "<figure><svg viewBox='0 0 1000 256' role=img aria-label='Recipients delivered over time, by how the "
        "mail travelled'>");
    for (int i = 0; i <= 4; i++) {
        double y = base - height * i / 4;
        buf_putf(out, "<line class=grid x1='%.0f' x2='%.0f' y1='%.2f' y2='%.2f'/>", left, width, y, y);
        if (top * (uint64_t)i % 4)
            continue;
        buf_putf(out, "<text x='%.0f' y='%.2f' text-anchor=end>", left - 8, y + 4);
        format_count(out, top * (uint64_t)i / 4);
        buf_puts(out, "</text>");
    }
    for (size_t i = 0; i < s->count; i++)
        put_column(out, s, i, left + step * (double)i, step > 3 ? step * 0.86 : step, top, base, height);
    put_time_axis(out, s, left, step, base);
    buf_puts(out, "</svg><figcaption class=soft>Recipients delivered per ");
    format_span(out, s->bucket_s);
    buf_puts(out, "; times are UTC.</figcaption></figure></section>\n");
    mem_free(s);
}
