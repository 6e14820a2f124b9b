/*
 * A queue that is long before the daemon starts, written through the store itself instead of over SMTP.
 * Thread    the caller's; the data folder must not be in use.
 * Every recipient is due and was never tried: `PREFIXnumber@dK.example.test`, or at one domain when that is
 * given.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct fill {
    const char *data; /* the daemon's data folder, made if need be.  Borrowed */
    uint64_t rcpts;   /* in all */
    uint64_t per_message;
    uint64_t domains;
    const char *domain; /* all to this one; NULL: dK.example.test.  Borrowed */
    char prefix;        /* 'n': the sink counts them by number; else it only counts them */
    uint64_t body_bytes;
};

/* False: the reason is on stderr. */
bool fill_queue(const struct fill *f);
/* Recipients that are still in the queue, in whatever state; -1 when it cannot be read.  No daemon runs. */
int64_t fill_left(const char *data);
