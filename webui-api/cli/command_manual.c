/* The manual page hayauma(1), from the table: troff with the man macros. */
#include "base/roff.h"
#include "webui-api/cli/command.h"

static void put_option(const struct command_option *o, struct buf *out)
{
    buf_puts(out, ".TP\n");
    if (o->letter)
        buf_putf(out, "\\fB\\-%c\\fR, ", o->letter);
    buf_puts(out, "\\fB\\-\\-");
    roff_put(out, o->name);
    buf_puts(out, "\\fR");
    if (o->value) {
        buf_puts(out, " \\fI");
        roff_put(out, o->value);
        buf_puts(out, "\\fR");
    }
    if (o->repeats)
        buf_puts(out, " ...");
    buf_putc(out, '\n');
    roff_put(out, o->help);
    buf_puts(out, ".\n");
}

static void put_command(const struct command *c, struct buf *out)
{
    buf_puts(out, ".SS hayauma ");
    roff_put(out, c->name);
    if (*c->arguments) {
        buf_puts(out, " \\fI");
        roff_put(out, c->arguments);
        buf_puts(out, "\\fR");
    }
    buf_putc(out, '\n');
    roff_put(out, c->summary);
    buf_puts(out, ".\n");
    if (c->more) {
        roff_put(out, c->more);
        buf_putc(out, '\n');
    }
    for (const struct command_option *o = c->options; o && o->name; o++)
        put_option(o, out);
}

void command_manual(const struct command *table, struct buf *out)
{
    buf_puts(
        out,
        ".TH HAYAUMA 1 \"\" \"hayauma " HAYAUMA_VERSION "\" \"Hayauma\"\n"
        ".SH NAME\nhayauma \\- show and steer a running hayaumad\n"
        ".SH SYNOPSIS\n.B hayauma\n.I COMMAND\n[\\fIOPTION\\fR ...]\n"
        ".SH DESCRIPTION\n"
        "Speaks to the mail delivery engine\n.BR hayaumad (8)\n"
        "through its Unix\\-domain socket, which its user and root may open.\n"
        "Text is for people: aligned, in colour on a terminal, with times told from now, and with whatever\n"
        "receivers said made harmless.  With\n.B \\-\\-json\n"
        "every command answers as the HTTP API does; an error is then an object with the member\n"
        ".IR error .\n"
        ".SH OPTIONS\nThese go with every command, before it or after it.\n");
    for (const struct command_option *o = command_common_options; o->name; o++)
        put_option(o, out);
    buf_puts(out, ".SH COMMANDS\n");
    for (const struct command *c = table; c->name; c++)
        put_command(c, out);
    buf_puts(out, ".SH EXIT STATUS\n"
                  ".TP\n.B 0\nDone.\n"
                  ".TP\n.B 1\nThe daemon refused, or what was checked has errors.\n"
                  ".TP\n.B 2\nWrong usage.\n"
                  ".TP\n.B 3\nThe daemon cannot be reached.\n"
                  ".SH ENVIRONMENT\n"
                  ".TP\n.B HAYAUMA_SOCKET\nThe daemon's socket, unless an option names it.\n"
                  ".TP\n.B NO_COLOR\nWhen not empty: no colours.\n"
                  ".SH FILES\n"
                  ".TP\n.I /etc/hayauma/hayauma.yaml\nThe daemon's configuration: where nothing else names "
                  "the socket,\n"
                  "it is that of\n.I api.socket\nor\n.IR data_dir .\n"
                  ".SH SEE ALSO\n.BR hayaumad (8),\n.BR hayauma.yaml (5)\n");
}
