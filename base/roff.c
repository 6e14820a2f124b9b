#include "base/roff.h"

#include <string.h>

void roff_put(struct buf *out, const char *text)
{
    bool line_begins = true;

    for (; *text; text++) {
        if (line_begins && (*text == '.' || *text == '\''))
            buf_puts(out, "\\&");
        line_begins = *text == '\n';
        if (*text == '\\')
            buf_puts(out, "\\(rs");
        else if (*text == '-')
            buf_puts(out, "\\-");
        else if (strncmp(text, "…", sizeof("…") - 1) == 0) {
            buf_puts(out, "...");
            text += sizeof("…") - 2;
        } else
            buf_putc(out, *text);
    }
}
