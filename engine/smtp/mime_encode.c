#include "engine/smtp/mime_encode.h"

#include "base/base64.h"

#define LINE_MAX_CHARS 76
#define LINE_OCTETS    57 /* that make 76 characters of base64 */

static bool ends_line(struct bytes text, size_t at)
{
    return at == text.len || (text.at[at] == '\r' && at + 1 < text.len && text.at[at + 1] == '\n');
}

static bool must_escape(struct bytes text, size_t at)
{
    char c = text.at[at];

    if (c == ' ' || c == '\t')
        return ends_line(text, at + 1);                   /* relays cut it off */
    return (signed char)c < ' ' || c == '=' || c == 0x7f; /* controls, and all octets above 127 */
}

/* "From " at the start of a line becomes ">From " in some mailboxes. */
static bool is_from_line(struct bytes text, size_t at)
{
    return bytes_starts(bytes_skip(text, at), BYTES("From ")) && (at == 0 || text.at[at - 1] == '\n');
}

void mime_put_quoted_printable(struct bytes text, struct buf *out)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t column = 0;

    for (size_t i = 0; i < text.len; i++) {
        if (text.at[i] == '\r' && ends_line(text, i)) {
            buf_puts(out, "\r\n");
            column = 0;
            i++;
            continue;
        }
        bool escape = must_escape(text, i) || is_from_line(text, i);
        size_t width = escape ? 3 : 1;
        bool last = ends_line(text, i + 1);
        if (column + width > LINE_MAX_CHARS - (last ? 0U : 1U)) { /* room for the soft line end's '=' */
            buf_puts(out, "=\r\n");
            column = 0;
        }
        unsigned char c = (unsigned char)text.at[i];
        if (escape) {
            const char code[] = {'=', hex[c >> 4], hex[c & 15]};
            buf_put(out, bytes_make(code, sizeof(code)));
        } else {
            buf_putc(out, text.at[i]);
        }
        column += width;
    }
}

size_t mime_quoted_count(struct bytes text)
{
    size_t count = 0;

    for (size_t i = 0; i < text.len; i++)
        count += (signed char)text.at[i] < 0 || text.at[i] == '=';
    return count;
}

void mime_put_base64(struct bytes octets, struct buf *out)
{
    while (octets.len) {
        struct bytes line = bytes_first(octets, LINE_OCTETS);
        base64_encode(line, out);
        octets = bytes_skip(octets, line.len);
        if (octets.len)
            buf_puts(out, "\r\n");
    }
}
