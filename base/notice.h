/*
 * What we changed by ourselves (a limit, a campaign, a step of a warm-up) is said in the log, and kept for
 * those who follow: the newest thousand, whatever the level of the log, until the process ends. Thread any.
 */
#pragma once

#include "base/log.h"

#define NOTICES_MAX 1000

void notice_write(enum log_level level, const struct log *log, const char *event,
                  const struct log_field *fields, size_t count);
#define NOTICE_LINE_(level, log, event, ...)                                                                 \
    do {                                                                                                     \
        const struct log_field notice_fields_[] = {__VA_ARGS__ __VA_OPT__(, ) LOG_INT(NULL, 0)};             \
        notice_write((level), (log), (event), notice_fields_, COUNT_OF(notice_fields_) - 1);                 \
    } while (0)
#define notice_warn(log, event, ...) NOTICE_LINE_(LOG_LEVEL_WARN, log, event, ##__VA_ARGS__)
#define notice_info(log, event, ...) NOTICE_LINE_(LOG_LEVEL_INFO, log, event, ##__VA_ARGS__)

uint64_t notices_newest(void); /* the number of the last; 0: there was none */
/*
 * Appends those above `after`, oldest first, `max` at most, one JSON object a line: "event", "event_id" (its
 * number), "at", and the fields of the line.  Returns the number of the last that was appended, or `after`.
 * An `after` above the newest is of another run: it counts as 0.
 */
uint64_t notices_read(uint64_t after, size_t max, struct buf *out);
