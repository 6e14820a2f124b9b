/*
 * Tells the service manager how we are (sd_notify(3), the socket that NOTIFY_SOCKET names): nothing where
 * there is none.  Thread: main.
 */
#pragma once

#include <stdbool.h>

#define NOTIFY_READY    "READY=1"
#define NOTIFY_STOPPING "STOPPING=1"

/* One or more lines.  True: it was handed over. */
bool notify_manager(const char *lines);
/* A reload begins; NOTIFY_READY ends it. */
bool notify_reloading(void);
