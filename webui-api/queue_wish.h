/*
 * What an operator wants done to queued mail, as POST /api/v1/queue/ops says it.  Pure: the request's body
 * alone is read, and its reply written when that is wrong.
 */
#pragma once

#include "queue/store.h"
#include "webui-api/http.h"

struct queue_wish {
    enum queue_op op;
    bool has_op;
    struct queue_selector which; /* owned */
    char *group;                 /* owned, or NULL */
    size_t narrowed;             /* by how many fields */
};

/* Into a zeroed wish, which is finished in either case.  False: replied with what would be right. */
MUST_CHECK bool queue_wish_read(struct request *r, struct queue_wish *w);
void queue_wish_fini(struct queue_wish *w);
const char *queue_wish_op_name(enum queue_op op);
