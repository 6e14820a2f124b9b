#include "webui-api/cli/table.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/mem.h"
#include "webui-api/cli/format.h"

#define GAP       2  /* columns between columns */
#define LEAST_CUT 20 /* a column that gives way keeps that much */

struct term term_of_stdout(void)
{
    const char *no_color = getenv("NO_COLOR"), *name = getenv("TERM");
    struct term term = {.terminal = isatty(STDOUT_FILENO)};
    struct winsize size;

    if (!term.terminal)
        return term;
    term.colour = !(no_color && *no_color) && name && *name && strcmp(name, "dumb") != 0;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0)
        term.width = size.ws_col;
    return term;
}

const char *term_on(const struct term *term, enum style style)
{
    static const char *const codes[] = {"", "\033[32m", "\033[33m", "\033[31m", "\033[2m", "\033[1m"};

    return term->colour ? codes[style] : "";
}

const char *term_off(const struct term *term)
{
    return term->colour ? "\033[0m" : "";
}

void table_init(struct table *t, const struct column *columns, size_t count)
{
    *t = (struct table){.columns = columns, .column_count = count, .rule_at = SIZE_MAX};
    t->widths = mem_zalloc(count * sizeof(*t->widths));
    t->fitted = mem_zalloc(count * sizeof(*t->fitted));
    t->shown = mem_zalloc(count * sizeof(*t->shown));
    for (size_t i = 0; i < count; i++) {
        t->widths[i] = format_width(bytes_of(columns[i].name));
        t->shown[i] = !(columns[i].flags & COLUMN_OPTIONAL);
    }
}

static void empty(struct table *t)
{
    for (size_t i = 0; i < t->cell_count; i++)
        buf_fini(&t->cells[i].text);
    t->cell_count = 0;
    t->rule_at = SIZE_MAX;
}

void table_fini(struct table *t)
{
    empty(t);
    mem_free(t->cells);
    mem_free(t->widths);
    mem_free(t->fitted);
    mem_free(t->shown);
    *t = (struct table){0};
}

struct buf *table_cell(struct table *t, enum style style)
{
    if (t->cell_count == t->cell_cap) {
        t->cell_cap = t->cell_cap ? t->cell_cap * 2 : 64;
        t->cells = mem_realloc(t->cells, t->cell_cap * sizeof(*t->cells));
    }
    struct cell *cell = &t->cells[t->cell_count++];
    *cell = (struct cell){.style = style};
    return &cell->text;
}

void table_text(struct table *t, enum style style, const char *text)
{
    format_safe(table_cell(t, style), bytes_of(text));
}

void table_count(struct table *t, enum style style, uint64_t n)
{
    format_count(table_cell(t, n ? style : STYLE_DIM), n);
}

size_t table_rows(const struct table *t)
{
    return t->cell_count / t->column_count;
}

void table_rule(struct table *t)
{
    t->rule_at = table_rows(t);
}

static void measure(struct table *t)
{
    for (size_t i = 0; i < t->cell_count; i++) {
        size_t column = i % t->column_count;
        struct bytes text = buf_bytes(&t->cells[i].text);
        t->widths[column] = MAX_OF(t->widths[column], format_width(text));
        if (!t->has_head && text.len && !bytes_eq(text, BYTES("0"))) /* what has no head stays away */
            t->shown[column] = true;
    }
}

static size_t line_width(const struct table *t)
{
    size_t width = 0;

    for (size_t i = 0; i < t->column_count; i++)
        if (t->shown[i])
            width += t->fitted[i] + (width ? GAP : 0);
    return width;
}

/* Cuts what gives, from the right, until lines fit or nothing gives any more. */
static void cut(struct table *t, size_t room)
{
    memcpy(t->fitted, t->widths, t->column_count * sizeof(*t->fitted));
    for (size_t i = t->column_count; i-- && line_width(t) > room;) {
        bool gives = t->shown[i] && t->columns[i].flags & COLUMN_GIVES;
        size_t most = gives && t->widths[i] > LEAST_CUT ? t->widths[i] - LEAST_CUT : 0;
        t->fitted[i] -= MIN_OF(line_width(t) - room, most);
    }
}

/* Which columns there are is decided where the head stands. */
static void fit(struct table *t, const struct term *term)
{
    size_t room = term->width ? term->width : SIZE_MAX;

    cut(t, room);
    for (size_t i = t->column_count; !t->has_head && i-- && line_width(t) > room;)
        if (t->columns[i].flags & COLUMN_SPARE)
            t->shown[i] = false;
    cut(t, room); /* less, when something has gone */
}

static void put_blanks(struct buf *out, size_t n)
{
    memset(buf_reserve(out, n), ' ', n);
    out->len += n;
}

static bool is_last(const struct table *t, size_t column)
{
    for (size_t i = column + 1; i < t->column_count; i++)
        if (t->shown[i])
            return false;
    return true;
}

static void put_cell(const struct table *t, size_t column, struct bytes text, enum style style,
                     const struct term *term, struct buf *out)
{
    size_t width = t->fitted[column];
    BUF_LOCAL(cut);

    format_cut(&cut, text, width);
    size_t pad = width - format_width(buf_bytes(&cut));
    if (t->columns[column].flags & COLUMN_RIGHT)
        put_blanks(out, pad);
    if (style != STYLE_PLAIN && cut.len)
        buf_putf(out, "%s%s%s", term_on(term, style), buf_str(&cut), term_off(term));
    else
        buf_put(out, buf_bytes(&cut));
    if (is_last(t, column))
        return;
    if (!(t->columns[column].flags & COLUMN_RIGHT))
        put_blanks(out, pad);
    put_blanks(out, GAP);
}

static void put_head(const struct table *t, const struct term *term, struct buf *out)
{
    for (size_t i = 0; i < t->column_count; i++)
        if (t->shown[i])
            put_cell(t, i, bytes_of(t->columns[i].name), STYLE_STRONG, term, out);
    buf_putc(out, '\n');
}

static void put_rule(const struct table *t, const struct term *term, struct buf *out)
{
    size_t width = line_width(t);

    buf_puts(out, term_on(term, STYLE_DIM));
    for (size_t i = 0; i < (term->width ? MIN_OF(width, term->width) : width); i++)
        buf_puts(out, "─");
    buf_putf(out, "%s\n", term_off(term));
}

void table_print(struct table *t, const struct term *term, struct buf *out)
{
    assert(t->cell_count % t->column_count == 0);
    measure(t);
    fit(t, term);
    if (!t->has_head)
        put_head(t, term, out);
    t->has_head = true;
    for (size_t row = 0; row < table_rows(t); row++) {
        if (row == t->rule_at)
            put_rule(t, term, out);
        for (size_t i = 0; i < t->column_count; i++) {
            const struct cell *cell = &t->cells[row * t->column_count + i];
            if (t->shown[i])
                put_cell(t, i, buf_bytes(&cell->text), cell->style, term, out);
        }
        buf_putc(out, '\n');
    }
    empty(t);
}
