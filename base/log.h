/*
 * Structured log: one line per fact, an event name, then key=value.  Values from outside are
 * escaped.  Thread: any; one line is one write, but for threads that gather.  Never log passwords, keys or message bodies.
 *
 *     log_info(&s->log, "rcpt.reply", LOG_STR("rcpt", address), LOG_INT("code", 250));
 *
 * error: someone must act; warn: we coped; info: one line per delivery attempt; debug: the dialogue.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

struct log_field {
    const char *key;
    enum { LOG_FIELD_INT, LOG_FIELD_STR } type;
    int64_t number;
    struct bytes text;
};

#define LOG_INT(key, value)   ((struct log_field){(key), LOG_FIELD_INT, (int64_t)(value), {NULL, 0}})
#define LOG_STR(key, value)   ((struct log_field){(key), LOG_FIELD_STR, 0, bytes_of(value)})
#define LOG_BYTES(key, value) ((struct log_field){(key), LOG_FIELD_STR, 0, (value)})
#define LOG_ERR(value)        ((struct log_field){"error", LOG_FIELD_STR, 0, bytes_of(err_text(value))})

/* What every line of one object carries, for example "worker=2 session=9f3c".  NULL: nothing. */
struct log {
    char context[64];
};

enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

/* At start, before other threads: where lines go (a file descriptor), from which level, and how. */
void log_setup(int fd, enum log_level level, enum log_format format);
void log_set_level(enum log_level level); /* any thread */
bool log_level_parse(const char *name, enum log_level *out); /* "error" | "warn" | "info" | "debug" */
bool log_enabled(enum log_level level);
/*
 * A thread with much to say gathers its lines, and calls log_flush before it sleeps: under load many lines are one write.
 * Errors and warnings are written at once, with what was gathered before them.
 */
void log_gather(bool gather);
void log_flush(void);
void log_context(struct log *log, const char *format, ...) PRINTF_LIKE(2, 3);
void log_write(enum log_level level, const struct log *log, const char *event, const struct log_field *fields,
               size_t count);

#define LOG_LINE_(level, log, event, ...)                                                                    \
    do {                                                                                                     \
        if (log_enabled(level)) {                                                                            \
            const struct log_field log_fields_[] = {__VA_ARGS__ __VA_OPT__(, ) LOG_INT(NULL, 0)};            \
            log_write((level), (log), (event), log_fields_, COUNT_OF(log_fields_) - 1);                      \
        }                                                                                                    \
    } while (0)
#define log_error(log, event, ...) LOG_LINE_(LOG_LEVEL_ERROR, log, event, ##__VA_ARGS__)
#define log_warn(log, event, ...)  LOG_LINE_(LOG_LEVEL_WARN, log, event, ##__VA_ARGS__)
#define log_info(log, event, ...)  LOG_LINE_(LOG_LEVEL_INFO, log, event, ##__VA_ARGS__)
#define log_debug(log, event, ...) LOG_LINE_(LOG_LEVEL_DEBUG, log, event, ##__VA_ARGS__)
