#include "webui-api/cli/format.h"

#include <stdio.h>
#include <time.h>

void format_count(struct buf *out, uint64_t n)
{
    char digits[24];
    int len = snprintf(digits, sizeof(digits), "%llu", (unsigned long long)n);

    for (int i = 0; i < len; i++) {
        if (i && (len - i) % 3 == 0)
            buf_putc(out, ',');
        buf_putc(out, digits[i]);
    }
}

void format_percent(struct buf *out, uint64_t part, uint64_t whole)
{
    if (whole == 0) {
        buf_puts(out, "–");
        return;
    }
    if (part == 0 || part >= whole) {
        buf_puts(out, part == 0 ? "0 %" : "100 %");
        return;
    }
    double percent = 100.0 * (double)part / (double)whole;
    buf_putf(out, "%.1f %%", percent > 99.9 ? 99.9 : percent < 0.1 ? 0.1 : percent);
}

void format_size(struct buf *out, uint64_t octets)
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double)octets / 1024;
    size_t unit = 0;

    if (octets < 1024) {
        buf_putf(out, "%llu B", (unsigned long long)octets);
        return;
    }
    while (value >= 1023.95 && unit + 1 < COUNT_OF(units)) { /* "1024.0 KiB" is "1.0 MiB" */
        value /= 1024;
        unit++;
    }
    buf_putf(out, "%.1f %s", value, units[unit]);
}

/* "2 h 5 m", but "2 h" when nothing is left. */
static void put_two(struct buf *out, int64_t big, const char *big_unit, int64_t small, const char *small_unit)
{
    buf_putf(out, "%lld %s", (long long)big, big_unit);
    if (small)
        buf_putf(out, " %lld %s", (long long)small, small_unit);
}

void format_span(struct buf *out, int64_t seconds)
{
    int64_t s = seconds < 0 ? 0 : seconds;

    if (s < 60)
        buf_putf(out, "%lld s", (long long)s);
    else if (s < 3600)
        buf_putf(out, "%lld m", (long long)(s / 60));
    else if (s < 86400)
        put_two(out, s / 3600, "h", s % 3600 / 60, "m");
    else
        put_two(out, s / 86400, "d", s % 86400 / 3600, "h");
}

void format_span_ms(struct buf *out, uint64_t ms)
{
    if (ms < 1000)
        buf_putf(out, "%llu ms", (unsigned long long)ms);
    else if (ms < 10000)
        buf_putf(out, "%.2f s", (double)ms / 1000);
    else if (ms < 60000)
        buf_putf(out, "%.1f s", (double)(ms / 100) / 10);
    else
        format_span(out, (int64_t)(ms / 1000));
}

void format_relative(struct buf *out, int64_t unix_seconds, int64_t now_unix)
{
    if (unix_seconds == now_unix) {
        buf_puts(out, "now");
        return;
    }
    if (unix_seconds > now_unix)
        buf_puts(out, "in ");
    format_span(out, unix_seconds > now_unix ? unix_seconds - now_unix : now_unix - unix_seconds);
    if (unix_seconds < now_unix)
        buf_puts(out, " ago");
}

static void put_time(struct buf *out, int64_t unix_seconds, const char *format)
{
    time_t t = (time_t)unix_seconds;
    char text[64];
    struct tm tm;

    if (localtime_r(&t, &tm) && strftime(text, sizeof(text), format, &tm))
        buf_puts(out, text);
    else
        buf_putf(out, "@%lld", (long long)unix_seconds);
}

void format_local(struct buf *out, int64_t unix_seconds)
{
    put_time(out, unix_seconds, "%Y-%m-%d %H:%M:%S");
}

void format_local_clock(struct buf *out, int64_t unix_seconds)
{
    put_time(out, unix_seconds, "%H:%M:%S");
}

/* `count` digits at the start of *s, and then `after`. */
static bool take_digits(struct bytes *s, size_t count, const char *after, int *out)
{
    int n = 0;

    if (s->len <= count || !strchr(after, s->at[count]))
        return false;
    for (size_t i = 0; i < count; i++) {
        if (s->at[i] < '0' || s->at[i] > '9')
            return false;
        n = n * 10 + (s->at[i] - '0');
    }
    *out = n;
    *s = bytes_skip(*s, count + 1);
    return true;
}

bool format_parse_time(struct bytes text, int64_t *unix_seconds)
{
    struct tm tm = {0};

    if (!take_digits(&text, 4, "-", &tm.tm_year) || !take_digits(&text, 2, "-", &tm.tm_mon) ||
        !take_digits(&text, 2, "T", &tm.tm_mday) || !take_digits(&text, 2, ":", &tm.tm_hour) ||
        !take_digits(&text, 2, ":", &tm.tm_min) || !take_digits(&text, 2, ".Z", &tm.tm_sec))
        return false;
    while (text.len && *text.at >= '0' && *text.at <= '9')
        text = bytes_skip(text, 1);
    if (text.len && !bytes_eq(text, BYTES("Z")))
        return false;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    *unix_seconds = (int64_t)timegm(&tm);
    return true;
}

/* ---- text ---- */

size_t format_take_point(struct bytes s, uint32_t *point)
{
    const unsigned char *p = (const unsigned char *)s.at;
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t len = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;

    if (len == 0 || len > s.len)
        return 0;
    uint32_t c = len == 1 ? p[0] : p[0] & (0xffU >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (p[i] & 0x3f);
    }
    if (c < least[len] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
        return 0;
    *point = c;
    return len;
}

struct range {
    uint32_t first, last;
};

static bool in_ranges(uint32_t c, const struct range *ranges, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (c >= ranges[i].first && c <= ranges[i].last)
            return true;
    return false;
}

/* Turn the direction of writing, join or hide, or end lines where no line ends. */
static const struct range formatting[] = {
    {0x061c, 0x061c}, {0x180e, 0x180e}, {0x200b, 0x200f}, {0x2028, 0x202e},
    {0x2060, 0x206f}, {0xfeff, 0xfeff}, {0xfff9, 0xfffb}, {0xe0000, 0xe0fff},
};
/* East Asian Wide and Fullwidth (UAX #11), joined over gaps that are not assigned. */
static const struct range wide[] = {
    {0x1100, 0x115f},   {0x231a, 0x231b},   {0x2329, 0x232a},   {0x23e9, 0x23ec},   {0x25fd, 0x25fe},
    {0x2614, 0x2615},   {0x2648, 0x2653},   {0x26aa, 0x26ab},   {0x26bd, 0x26be},   {0x2705, 0x2705},
    {0x270a, 0x270b},   {0x2728, 0x2728},   {0x274c, 0x274c},   {0x2753, 0x2755},   {0x2795, 0x2797},
    {0x2b1b, 0x2b1c},   {0x2e80, 0x303e},   {0x3041, 0x4dbf},   {0x4e00, 0xa4cf},   {0xa960, 0xa97f},
    {0xac00, 0xd7a3},   {0xf900, 0xfaff},   {0xfe30, 0xfe6f},   {0xff00, 0xff60},   {0xffe0, 0xffe6},
    {0x16fe0, 0x1b2ff}, {0x1f18e, 0x1f18e}, {0x1f191, 0x1f19a}, {0x1f200, 0x1f320}, {0x1f32d, 0x1f335},
    {0x1f337, 0x1f37c}, {0x1f37e, 0x1f393}, {0x1f3a0, 0x1f3ca}, {0x1f3e0, 0x1f3f0}, {0x1f400, 0x1f43e},
    {0x1f440, 0x1f4fc}, {0x1f4ff, 0x1f53d}, {0x1f550, 0x1f567}, {0x1f5fb, 0x1f64f}, {0x1f680, 0x1f6ff},
    {0x1f7e0, 0x1f7f0}, {0x1f900, 0x1f9ff}, {0x1fa70, 0x1faff}, {0x20000, 0x3fffd},
};
static const struct range combining[] = {
    {0x0300, 0x036f}, {0x0483, 0x0489}, {0x0591, 0x05bd}, {0x0610, 0x061a}, {0x064b, 0x065f},
    {0x0670, 0x0670}, {0x06d6, 0x06dc}, {0x093c, 0x093c}, {0x0941, 0x0948}, {0x094d, 0x094d},
    {0x0e31, 0x0e31}, {0x0e34, 0x0e3a}, {0x0e47, 0x0e4e}, {0x1160, 0x11ff}, {0x1ab0, 0x1aff},
    {0x1dc0, 0x1dff}, {0x20d0, 0x20f0}, {0x302a, 0x302d}, {0x3099, 0x309a}, {0xfe00, 0xfe0f},
    {0xfe20, 0xfe2f},
};

bool format_is_obeyed(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || in_ranges(c, formatting, COUNT_OF(formatting));
}

void format_safe(struct buf *out, struct bytes text)
{
    while (text.len) {
        uint32_t c = 0;
        size_t len = format_take_point(text, &c);
        if (len == 0) {
            buf_putf(out, "\\x%02x", (unsigned char)*text.at);
            len = 1;
        } else if (c == '\n' || c == '\t' || c == '\r') {
            buf_puts(out, c == '\n' ? "\\n" : c == '\t' ? "\\t" : "\\r");
        } else if (format_is_obeyed(c)) {
            buf_putf(out, c < 0xa0 ? "\\x%02x" : "\\u{%x}", c);
        } else {
            buf_put(out, bytes_first(text, len));
        }
        text = bytes_skip(text, len);
    }
}

/* Octets and columns of the first character. */
static size_t take_character(struct bytes text, size_t *columns)
{
    uint32_t c = 0;
    size_t len = format_take_point(text, &c);

    *columns = 1;
    if (len == 0)
        return 1;
    if (c >= 0x300 && in_ranges(c, combining, COUNT_OF(combining)))
        *columns = 0;
    else if (c >= 0x1100 && in_ranges(c, wide, COUNT_OF(wide)))
        *columns = 2;
    return len;
}

size_t format_width(struct bytes text)
{
    size_t width = 0, columns;

    while (text.len) {
        text = bytes_skip(text, take_character(text, &columns));
        width += columns;
    }
    return width;
}

void format_cut(struct buf *out, struct bytes text, size_t width)
{
    size_t used = 0, columns;

    if (format_width(text) <= width) {
        buf_put(out, text);
        return;
    }
    while (width && text.len) {
        size_t len = take_character(text, &columns);
        if (used + columns > width - 1) /* the last column is for the "…" */
            break;
        buf_put(out, bytes_first(text, len));
        used += columns;
        text = bytes_skip(text, len);
    }
    if (width)
        buf_puts(out, "…");
}
