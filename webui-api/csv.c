#include "webui-api/csv.h"

static void comma(struct buf *out)
{
    if (out->len && out->at[out->len - 1] != '\n')
        buf_putc(out, ',');
}

void csv_text(struct buf *out, const char *value)
{
    struct bytes s = bytes_of(value);
    bool formula = s.len && strchr("=+-@\t\r", *s.at);
    /* The empty text in quotes too: a record of one empty field is else an empty line. */
    bool quoted = !s.len || strpbrk(value, ",\"\r\n");

    comma(out);
    if (quoted)
        buf_putc(out, '"');
    if (formula)
        buf_putc(out, '\'');
    for (size_t i = 0; i < s.len; i++) {
        if (s.at[i] == '"')
            buf_putc(out, '"');
        buf_putc(out, s.at[i]);
    }
    if (quoted)
        buf_putc(out, '"');
}

void csv_count(struct buf *out, uint64_t value)
{
    comma(out);
    buf_putf(out, "%llu", (unsigned long long)value);
}

void csv_end(struct buf *out)
{
    buf_puts(out, "\r\n");
}
