/* Help, from the table. */
#include "webui-api/cli/command.h"
#include "webui-api/cli/format.h"

#define WIDTH 100

#define OPTION_WIDTH  26
#define COMMAND_WIDTH 30

/* What stands on the left; what it is about begins in one column with all others, if need be on the next
 * line. */
static void put_left(struct buf *out, const char *text, size_t width)
{
    size_t shown = format_width(bytes_of(text)); /* an ellipsis is one column, three octets */

    if (shown > width)
        buf_putf(out, "  %s\n%*s", text, (int)width + 4, "");
    else
        buf_putf(out, "  %s%*s", text, (int)(width - shown) + 2, "");
}

/* Sentences in lines of at most WIDTH columns; the first begins at column `indent`, where we are. */
static void put_wrapped(struct buf *out, const char *text, size_t indent)
{
    size_t column = indent;

    for (struct bytes rest = bytes_of(text); rest.len;) {
        size_t len = bytes_find(rest, ' ');
        if (column > indent && column + 1 + len > WIDTH) {
            buf_putf(out, "\n%*s", (int)indent, "");
            column = indent;
        } else if (column > indent) {
            buf_putc(out, ' ');
            column++;
        }
        buf_put(out, bytes_first(rest, len));
        column += len;
        rest = bytes_skip(rest, len + 1);
    }
    buf_putc(out, '\n');
}

static void put_option(struct buf *out, const struct command_option *o)
{
    BUF_LOCAL(left);

    if (o->letter)
        buf_putf(&left, "-%c, ", o->letter);
    buf_putf(&left, "--%s", o->name);
    if (o->value)
        buf_putf(&left, " %s", o->value);
    if (o->repeats)
        buf_puts(&left, " …");
    put_left(out, buf_str(&left), OPTION_WIDTH);
    put_wrapped(out, o->help, OPTION_WIDTH + 4);
}

static void put_common_options(struct buf *out)
{
    buf_puts(out, "\nOptions of every command:\n");
    for (const struct command_option *o = command_common_options; o->name; o++)
        put_option(out, o);
}

static void put_lines(const struct command *table, struct bytes family, bool all, struct buf *out)
{
    for (const struct command *c = table; c->name; c++) {
        BUF_LOCAL(left);
        if (!all && !bytes_eq(command_family(c), family))
            continue;
        if (all && c != table && !bytes_eq(command_family(c), command_family(c - 1)) &&
            (command_family(c).len || command_family(c - 1).len))
            buf_putc(out, '\n');
        buf_putf(&left, "%s %s", c->name, c->arguments);
        put_left(out, buf_str(&left), COMMAND_WIDTH);
        put_wrapped(out, c->summary, COMMAND_WIDTH + 4);
    }
}

void command_help_all(const struct command *table, struct buf *out)
{
    buf_puts(
        out,
        "usage: hayauma COMMAND [OPTION …]\n\nShows and steers a running hayaumad through its socket.\n\n");
    put_lines(table, (struct bytes){0}, true, out);
    put_common_options(out);
    buf_puts(out, "\n'hayauma help COMMAND' tells more.  Exit status: 0 done, 1 refused or found errors, 2 "
                  "wrong usage,\n"
                  "3 the daemon cannot be reached.\n");
}

void command_help_family(const struct command *table, struct bytes family, struct buf *out)
{
    buf_putf(out, "usage: hayauma %.*s COMMAND [OPTION …]\n\n", (int)family.len, family.at);
    put_lines(table, family, false, out);
    buf_putf(out, "\n'hayauma help %.*s COMMAND' tells more.\n", (int)family.len, family.at);
}

void command_help(const struct command *command, struct buf *out)
{
    buf_putf(out, "usage: hayauma %s%s%s [OPTION …]\n\n", command->name, *command->arguments ? " " : "",
             command->arguments);
    buf_putf(out, "%s.\n", command->summary);
    if (command->more) {
        put_wrapped(out, command->more, 0);
    }
    if (command->options && command->options->name) {
        buf_puts(out, "\nOptions:\n");
        for (const struct command_option *o = command->options; o->name; o++)
            put_option(out, o);
    }
    put_common_options(out);
}
