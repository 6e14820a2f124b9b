/* The inside of browse: one connection, one read transaction a call. */
#pragma once

#include "queue/browse.h"
#include "queue/schema.h"

struct browse {
    sqlite3 *db;
    uint32_t limit_ms;
    uint64_t deadline_ms; /* of the call under way */
};

/* Around every call: one state of the database, and an end. */
MUST_CHECK enum err browse_begin(struct browse *b);
enum err browse_end(struct browse *b, enum err e); /* returns e, as ERR_TIMEOUT if that is what it was */
enum queue_state browse_state(int row_state);
