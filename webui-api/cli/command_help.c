/* Help, and scripts for shells, from the table. */
#include "webui-api/cli/command.h"

#define WIDTH 100

static void put_padded(struct buf *out, const char *text, size_t width)
{
    buf_putf(out, "  %-*s  ", (int)width, text);
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
    if (left.len > 26) {
        buf_putf(out, "  %s\n%30s", buf_str(&left), "");
    } else {
        put_padded(out, buf_str(&left), o->repeats ? 28 : 26); /* "…" is three octets and one column */
    }
    put_wrapped(out, o->help, 30);
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
        put_padded(out, buf_str(&left), 30);
        put_wrapped(out, c->summary, 34);
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

/* ---- completion ---- */

/* Calls for the first command of each family, and for each command without one. */
#define EACH_FIRST(c, table)                                                                                 \
    for (const struct command *c = (table); c->name; c++)                                                    \
        if (c == (table) || !command_family(c).len || !bytes_eq(command_family(c), command_family(c - 1)))

static void put_verbs(const struct command *table, struct bytes family, struct buf *out)
{
    for (const struct command *c = table; c->name; c++)
        if (bytes_eq(command_family(c), family))
            buf_putf(out, " %.*s", (int)command_verb(c).len, command_verb(c).at);
}

static void put_option_names(const struct command_option *o, struct buf *out)
{
    for (; o && o->name; o++)
        buf_putf(out, " --%s", o->name);
}

static void put_words(const char *words, struct buf *out)
{
    for (const char *p = words; *p; p++)
        buf_putc(out, *p == '|' ? ' ' : *p);
}

/* Values of an option: its words, files, or nothing that a shell could know. */
static void put_bash_values(const struct command *c, struct buf *out)
{
    for (const struct command_option *o = c->options; o && o->name; o++) {
        if (o->kind == OPTION_WORD) {
            buf_putf(out, "    '%s --%s') COMPREPLY=($(compgen -W '", c->name, o->name);
            put_words(o->value, out);
            buf_puts(out, "' -- \"$cur\")); return ;;\n");
        } else if (o->kind != OPTION_FLAG && strcmp(o->value, "FILE") != 0) {
            buf_putf(out, "    '%s --%s') return ;;\n", c->name, o->name);
        }
    }
}

void command_completion_bash(const struct command *table, struct buf *out)
{
    buf_puts(out, "# bash completion for hayauma:  source <(hayauma completion bash)\n"
                  "_hayauma() {\n"
                  "  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words=() skip= w\n"
                  "  for w in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"
                  "    if [[ $skip ]]; then skip=; continue; fi\n"
                  "    case $w in --socket|--config|-c) skip=1 ;; -*) ;; *) words+=(\"$w\") ;; esac\n"
                  "  done\n"
                  "  local cmd=${words[0]}\n"
                  "  case $cmd in");
    EACH_FIRST(c, table)
    if (command_family(c).len)
        buf_putf(out, "%s%.*s", c == table ? " " : "|", (int)command_family(c).len, command_family(c).at);
    buf_puts(out, ") cmd=\"${words[0]} ${words[1]}\" ;; esac\n"
                  "  case \"$cmd $prev\" in\n    *' --socket'|*' --config'|*' -c') COMPREPLY=($(compgen -f "
                  "-- \"$cur\")); "
                  "return ;;\n");
    for (const struct command *c = table; c->name; c++)
        put_bash_values(c, out);
    buf_puts(out, "  esac\n  case $cmd in\n");
    for (const struct command *c = table; c->name; c++) {
        buf_putf(out, "    '%s') COMPREPLY=($(compgen %s -W '", c->name,
                 strstr(c->arguments, "FILE") ? "-f" : "");
        put_option_names(c->options, out);
        put_option_names(command_common_options, out);
        buf_puts(out, "' -- \"$cur\")) ;;\n");
    }
    EACH_FIRST(c, table)
    if (command_family(c).len) {
        struct bytes family = command_family(c);
        buf_putf(out, "    '%.*s ') COMPREPLY=($(compgen -W '", (int)family.len, family.at);
        put_verbs(table, family, out);
        buf_puts(out, "' -- \"$cur\")) ;;\n");
    }
    buf_puts(out, "    *) [[ ${#words[@]} -gt 1 ]] || COMPREPLY=($(compgen -W '");
    EACH_FIRST(c, table)
    {
        struct bytes name = command_family(c).len ? command_family(c) : command_verb(c);
        buf_putf(out, " %.*s", (int)name.len, name.at);
    }
    put_option_names(command_common_options, out);
    buf_puts(out, "' -- \"$cur\")) ;;\n  esac\n}\ncomplete -F _hayauma hayauma\n");
}

/* Inside single quotes, and of what _arguments and _describe give a meaning. */
static void put_zsh_text(const char *text, struct buf *out)
{
    for (; *text; text++) {
        if (*text == '\'')
            buf_puts(out, "'\\''");
        else if (*text == '[' || *text == ']' || *text == ':')
            buf_putf(out, "\\%c", *text);
        else
            buf_putc(out, *text);
    }
}

static void put_zsh_option(const struct command_option *o, struct buf *out)
{
    buf_putf(out, " '%s--%s[", o->repeats ? "*" : "", o->name);
    put_zsh_text(o->help, out);
    buf_putc(out, ']');
    if (o->kind == OPTION_WORD) {
        buf_puts(out, ":value:(");
        put_words(o->value, out);
        buf_putc(out, ')');
    } else if (o->kind != OPTION_FLAG) {
        buf_putf(out, ":%s:%s", o->value,
                 strcmp(o->value, "FILE") == 0 || strcmp(o->value, "PATH") == 0 ? "_files" : " ");
    }
    buf_putc(out, '\'');
}

static void put_zsh_command(const struct command *c, struct buf *out)
{
    buf_putf(out, "    '%s') _arguments", c->name);
    for (const struct command_option *o = c->options; o && o->name; o++)
        put_zsh_option(o, out);
    for (const struct command_option *o = command_common_options; o->name; o++)
        put_zsh_option(o, out);
    if (*c->arguments)
        buf_putf(out, " '*:argument:%s'", strstr(c->arguments, "FILE") ? "_files" : " ");
    buf_puts(out, " ;;\n");
}

static void put_zsh_choices(const struct command *table, struct bytes family, struct buf *out)
{
    for (const struct command *c = table; c->name; c++) {
        if (!bytes_eq(command_family(c), family))
            continue;
        buf_putf(out, " '%.*s:", (int)command_verb(c).len, command_verb(c).at);
        put_zsh_text(c->summary, out);
        buf_putc(out, '\'');
    }
}

void command_completion_zsh(const struct command *table, struct buf *out)
{
    buf_puts(out, "#compdef hayauma\n"
                  "# zsh completion for hayauma:  source <(hayauma completion zsh)\n"
                  "_hayauma() {\n"
                  "  local -a choices\n"
                  "  local cmd=${words[2]} used=1\n"
                  "  case $cmd in\n");
    EACH_FIRST(c, table)
    if (command_family(c).len) {
        struct bytes family = command_family(c);
        buf_putf(out, "    %.*s)\n      if (( CURRENT == 3 )); then choices=(", (int)family.len, family.at);
        put_zsh_choices(table, family, out);
        buf_puts(out, "); _describe command choices; return; fi\n"
                      "      cmd=\"${words[2]} ${words[3]}\" used=2 ;;\n");
    }
    buf_puts(out, "  esac\n  if (( CURRENT == 2 )); then\n    choices=(");
    put_zsh_choices(table, (struct bytes){0}, out);
    EACH_FIRST(c, table)
    if (command_family(c).len)
        buf_putf(out, " '%.*s:more commands'", (int)command_family(c).len, command_family(c).at);
    buf_puts(out, ")\n    _describe command choices; return\n  fi\n"
                  "  shift $used words; (( CURRENT -= used ))\n  case $cmd in\n");
    for (const struct command *c = table; c->name; c++)
        put_zsh_command(c, out);
    buf_puts(out, "  esac\n}\ncompdef _hayauma hayauma\n");
}
