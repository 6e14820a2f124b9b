/* What is wrong in a document: where, what, and the line itself with a mark below, as compilers show it. */
#pragma once

#include <jansson.h>

#include "base/bytes.h"

struct document {
    const char *name;  /* of the file; NULL: there is no document */
    struct bytes text; /* borrowed; empty: not at hand, and then no line is shown */
};

/* `complaint` is the API's {file?, line, column, text}; line 0 is the whole document, and
 * `file` one that it includes.  `kind` stands before the
 * text. */
void complaint_put(struct buf *out, const struct document *doc, const json_t *complaint, const char *kind);
