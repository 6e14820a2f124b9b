#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

#define VALUE_MAX 2000 /* octets of one value that are shown */

static const char *const level_names[] = {"error", "warn", "info", "debug"};

#define GATHER_BYTES 16384

/* This thread's: the time stamp of the second in work, and the lines that are not written yet. */
static _Thread_local struct {
    int64_t second;
    char stamp[20]; /* "2026-11-22T02:10:00" */
    bool gathers;
    size_t gathered;
    char lines[GATHER_BYTES];
} own;

static int log_fd = STDERR_FILENO;
static atomic_int log_max = LOG_LEVEL_INFO;
static enum log_format log_form = LOG_FORMAT_TEXT;

void log_setup(int fd, enum log_level level, enum log_format format)
{
    log_fd = fd;
    log_form = format;
    atomic_store(&log_max, (int)level);
}

void log_set_level(enum log_level level)
{
    atomic_store(&log_max, (int)level);
}

bool log_level_parse(const char *name, enum log_level *out)
{
    for (size_t i = 0; i < COUNT_OF(level_names); i++) {
        if (strcmp(name, level_names[i]) == 0) {
            *out = (enum log_level)i;
            return true;
        }
    }
    return false;
}

bool log_enabled(enum log_level level)
{
    return (int)level <= atomic_load_explicit(&log_max, memory_order_relaxed);
}

void log_context(struct log *log, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    vsnprintf(log->context, sizeof(log->context), format, ap);
    va_end(ap);
    for (char *c = log->context; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = '?';
}

/*
 * Octets of the character at the front if it is one that only shows itself: well-formed UTF-8 (RFC 3629), no
 * control (C1), no line or paragraph separator, nothing that turns the direction of text.  Else 0.
 */
static size_t harmless_utf8(struct bytes s)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned char first = (unsigned char)s.at[0];
    size_t len = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    uint32_t c = first & (0x7f >> len);

    if (first < 0xc2 || first > 0xf4 || s.len < len)
        return 0;
    for (size_t i = 1; i < len; i++) {
        if (((unsigned char)s.at[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | ((unsigned char)s.at[i] & 0x3f);
    }
    if (c < least[len] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff) || c < 0xa0)
        return 0;
    if (c == 0x61c || (c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
        (c >= 0x2060 && c <= 0x206f) || c == 0xfeff)
        return 0;
    return len;
}

static size_t put_char(struct buf *line, struct bytes rest)
{
    unsigned char c = (unsigned char)rest.at[0];
    size_t len = c < 0x80 ? 1 : harmless_utf8(rest);

    if (c == '"' || c == '\\')
        buf_putf(line, "\\%c", c);
    else if (c == '\n')
        buf_puts(line, "\\n");
    else if (c == '\r')
        buf_puts(line, "\\r");
    else if (c < ' ' || c == 0x7f || len == 0)
        buf_putf(line, "\\u%04x", c);
    else
        buf_put(line, bytes_first(rest, len));
    return MAX_OF(len, (size_t)1);
}

/* Quoted when it is empty or holds anything but plain printable ASCII: no value can forge a field or a line.
 */
static void put_value(struct buf *line, struct bytes v, bool quote)
{
    struct bytes rest = bytes_first(v, VALUE_MAX);

    for (size_t i = 0; !quote && i < rest.len; i++)
        quote = rest.at[i] <= ' ' || rest.at[i] > '~' || rest.at[i] == '"' || rest.at[i] == '\\' ||
                rest.at[i] == '=';
    if (!quote && v.len && rest.len == v.len) {
        buf_put(line, v);
        return;
    }
    buf_putc(line, '"');
    while (rest.len)
        rest = bytes_skip(rest, put_char(line, rest));
    buf_puts(line, v.len > VALUE_MAX ? "…\"" : "\"");
}

static void put_time(struct buf *line)
{
    int64_t now_ms = clock_unix_ms();
    int ms = (int)(now_ms % 1000);

    if (own.second != now_ms / 1000 || !own.stamp[0]) {
        char when[CLOCK_TEXT_BYTES];
        own.second = now_ms / 1000;
        snprintf(own.stamp, sizeof(own.stamp), "%.19s", clock_format_utc(own.second, when));
    }
    buf_puts(line, own.stamp);
    char fraction[] = {'.', (char)('0' + ms / 100), (char)('0' + ms / 10 % 10), (char)('0' + ms % 10), 'Z'};
    buf_put(line, bytes_make(fraction, sizeof(fraction)));
}

static void format_text(struct buf *line, enum log_level level, const struct log *log, const char *event,
                        const struct log_field *fields, size_t count)
{
    static const char *const words[] = {" error ", " warn  ", " info  ", " debug "};

    put_time(line);
    buf_puts(line, words[level]);
    buf_puts(line, event);
    if (log && log->context[0]) {
        buf_putc(line, ' ');
        buf_puts(line, log->context);
    }
    for (size_t i = 0; i < count; i++) {
        buf_putc(line, ' ');
        buf_puts(line, fields[i].key);
        buf_putc(line, '=');
        if (fields[i].type == LOG_FIELD_INT)
            buf_put_int(line, fields[i].number);
        else
            put_value(line, fields[i].text, false);
    }
}

static bool is_number(struct bytes v)
{
    for (size_t i = 0; i < v.len; i++)
        if (v.at[i] < '0' || v.at[i] > '9')
            return false;
    return v.len == 1 || (v.len && v.len <= 18 && v.at[0] != '0');
}

static bool is_field(struct bytes key, const struct log_field *fields, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (bytes_eq(key, bytes_of(fields[i].key)))
            return true;
    return false;
}

/* "worker=1 client=192.0.2.1" as members of their own; what a field of the line says too is left to that. */
static void put_context_json(struct buf *line, const struct log *log, const struct log_field *fields,
                             size_t count)
{
    for (struct bytes rest = bytes_of(log->context); rest.len;) {
        struct bytes word = bytes_first(rest, bytes_find(rest, ' '));
        struct bytes key = bytes_first(word, bytes_find(word, '='));
        struct bytes value = bytes_skip(word, key.len + 1);
        rest = bytes_skip(rest, word.len + 1);
        if (!word.len || is_field(key, fields, count))
            continue;
        buf_putc(line, ',');
        put_value(line, key, true);
        buf_putc(line, ':');
        if (is_number(value))
            buf_put(line, value);
        else
            put_value(line, value, true);
    }
}

static void format_json(struct buf *line, enum log_level level, const struct log *log, const char *event,
                        const struct log_field *fields, size_t count)
{
    buf_puts(line, "{\"time\":\"");
    put_time(line);
    buf_puts(line, "\",\"level\":\"");
    buf_puts(line, level_names[level]);
    buf_puts(line, "\",\"event\":\"");
    buf_puts(line, event);
    buf_putc(line, '"');
    if (log)
        put_context_json(line, log, fields, count);
    for (size_t i = 0; i < count; i++) {
        buf_puts(line, ",\"");
        buf_puts(line, fields[i].key);
        buf_puts(line, "\":");
        if (fields[i].type == LOG_FIELD_INT)
            buf_put_int(line, fields[i].number);
        else
            put_value(line, fields[i].text, true);
    }
    buf_putc(line, '}');
}

/* A full log disk costs lines, never mail. */
static void write_out(const char *at, size_t len)
{
    ssize_t n;

    do {
        n = write(log_fd, at, len);
    } while (n < 0 && errno == EINTR);
}

void log_flush(void)
{
    if (own.gathered)
        write_out(own.lines, own.gathered);
    own.gathered = 0;
}

void log_gather(bool gather)
{
    log_flush();
    own.gathers = gather;
}

void log_write(enum log_level level, const struct log *log, const char *event, const struct log_field *fields,
               size_t count)
{
    BUF_LOCAL(line);

    if (!log_enabled(level))
        return;
    buf_reserve(&line, 512);
    (log_form == LOG_FORMAT_JSON ? format_json : format_text)(&line, level, log, event, fields, count);
    buf_putc(&line, '\n');
    if (own.gathered + line.len > GATHER_BYTES)
        log_flush();
    if (!own.gathers || line.len > GATHER_BYTES) {
        write_out(line.at, line.len);
        return;
    }
    memcpy(own.lines + own.gathered, line.at, line.len);
    own.gathered += line.len;
    if (level <= LOG_LEVEL_WARN)
        log_flush();
}
