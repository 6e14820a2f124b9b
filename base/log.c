#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"

static const char *const level_names[] = {"error", "warn", "info", "debug"};

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
}

/* Quoted, when it is empty or holds anything but plain printable ASCII: no value can forge a field or a line. */
static void put_value(struct buf *line, struct bytes v, bool quote)
{
    for (size_t i = 0; !quote && i < v.len; i++)
        quote = v.at[i] <= ' ' || v.at[i] > '~' || v.at[i] == '"' || v.at[i] == '\\' || v.at[i] == '=';
    if (!quote && v.len) {
        buf_put(line, v);
        return;
    }
    buf_putc(line, '"');
    for (size_t i = 0; i < v.len; i++) {
        unsigned char c = (unsigned char)v.at[i];
        if (c == '"' || c == '\\')
            buf_putf(line, "\\%c", c);
        else if (c == '\n')
            buf_puts(line, "\\n");
        else if (c == '\r')
            buf_puts(line, "\\r");
        else if (c < ' ' || c >= 0x7f)
            buf_putf(line, "\\u%04x", c);
        else
            buf_putc(line, (char)c);
    }
    buf_putc(line, '"');
}

static void format_text(struct buf *line, enum log_level level, const struct log *log, const char *event,
                        const struct log_field *fields, size_t count)
{
    char when[CLOCK_TEXT_BYTES];
    int64_t now_ms = clock_unix_ms();

    clock_format_utc(now_ms / 1000, when);
    buf_putf(line, "%.19s.%03dZ %-5s %s", when, (int)(now_ms % 1000), level_names[level], event);
    if (log && log->context[0])
        buf_putf(line, " %s", log->context);
    for (size_t i = 0; i < count; i++) {
        buf_putf(line, " %s=", fields[i].key);
        if (fields[i].type == LOG_FIELD_INT)
            buf_putf(line, "%lld", (long long)fields[i].number);
        else
            put_value(line, fields[i].text, false);
    }
}

static void format_json(struct buf *line, enum log_level level, const struct log *log, const char *event,
                        const struct log_field *fields, size_t count)
{
    char when[CLOCK_TEXT_BYTES];
    int64_t now_ms = clock_unix_ms();

    clock_format_utc(now_ms / 1000, when);
    buf_putf(line, "{\"time\":\"%.19s.%03dZ\",\"level\":\"%s\",\"event\":\"%s\"", when, (int)(now_ms % 1000),
             level_names[level], event);
    if (log && log->context[0]) {
        buf_puts(line, ",\"context\":");
        put_value(line, bytes_of(log->context), true);
    }
    for (size_t i = 0; i < count; i++) {
        buf_putf(line, ",\"%s\":", fields[i].key);
        if (fields[i].type == LOG_FIELD_INT)
            buf_putf(line, "%lld", (long long)fields[i].number);
        else
            put_value(line, fields[i].text, true);
    }
    buf_putc(line, '}');
}

void log_write(enum log_level level, const struct log *log, const char *event, const struct log_field *fields,
               size_t count)
{
    static _Thread_local struct buf line; /* reused: a line costs no allocation */

    if (!log_enabled(level))
        return;
    buf_clear(&line);
    (log_form == LOG_FORMAT_JSON ? format_json : format_text)(&line, level, log, event, fields, count);
    buf_putc(&line, '\n');
    ssize_t n; /* a full log disk costs lines, never mail */
    do {
        n = write(log_fd, line.at, line.len);
    } while (n < 0 && errno == EINTR);
}
