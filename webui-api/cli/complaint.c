#include "webui-api/cli/complaint.h"

#include "webui-api/cli/client.h"
#include "webui-api/cli/format.h"

#define EXCERPT_MAX 160 /* columns; a longer line (all of a JSON document in one) tells nobody anything */

static struct bytes line_of(struct bytes text, uint64_t number)
{
    while (number > 1 && text.len) {
        text = bytes_skip(text, bytes_find(text, '\n') + 1);
        number--;
    }
    text = bytes_first(text, bytes_find(text, '\n'));
    if (text.len && text.at[text.len - 1] == '\r')
        text.len--;
    return text;
}

/* The first characters of a line. */
static struct bytes characters(struct bytes line, uint64_t count)
{
    size_t len = 0;
    uint32_t point;

    for (; count && len < line.len; count--)
        len += MAX_OF(format_take_point(bytes_skip(line, len), &point), (size_t)1);
    return bytes_first(line, len);
}

static void put_excerpt(struct buf *out, struct bytes line, uint64_t column)
{
    BUF_LOCAL(safe);
    BUF_LOCAL(before);

    format_safe(&safe, line);
    if (!safe.len || !column || format_width(buf_bytes(&safe)) > EXCERPT_MAX)
        return;
    format_safe(&before, characters(line, column - 1));
    buf_putf(out, "    %s\n    %*s^\n", buf_str(&safe), (int)format_width(buf_bytes(&before)), "");
}

void complaint_put(struct buf *out, const struct document *doc, const json_t *complaint, const char *kind)
{
    uint64_t line = field_count(complaint, "line"), column = field_count(complaint, "column");
    const char *file =
        field_known(complaint, "file") ? field_text(complaint, "file") : NULL; /* it includes that */
    const char *name = file ? file : doc->name;

    if (name)
        format_safe(out, bytes_of(name));
    if (line)
        buf_putf(out, "%s%llu:%llu", name ? ":" : "line ", (unsigned long long)line,
                 (unsigned long long)column);
    if (name || line)
        buf_puts(out, ": ");
    buf_puts(out, kind);
    format_safe(out, bytes_of(field_text(complaint, "text")));
    buf_putc(out, '\n');
    if (line && !file)
        put_excerpt(out, line_of(doc->text, line), column);
}
