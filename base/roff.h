/* Text in a manual page (troff with the man macros).  Pure. */
#pragma once

#include "base/bytes.h"

/* Text as it stands: no line of it is a request, no backslash an escape, and dashes can be copied. */
void roff_put(struct buf *out, const char *text);
