/* Completion scripts for shells, from the table. */
#include "webui-api/cli/command.h"

/* Is c the first row of a family? */
static bool begins_family(const struct command *table, const struct command *c)
{
    return command_family(c).len && (c == table || !bytes_eq(command_family(c), command_family(c - 1)));
}

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
    const char *before = " ";

    buf_puts(out, "# bash completion for hayauma:  source <(hayauma completion bash)\n"
                  "_hayauma() {\n"
                  "  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words=() skip= w\n"
                  "  for w in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"
                  "    if [[ $skip ]]; then skip=; continue; fi\n"
                  "    case $w in --socket|--config|-c) skip=1 ;; -*) ;; *) words+=(\"$w\") ;; esac\n"
                  "  done\n"
                  "  local cmd=${words[0]}\n"
                  "  case $cmd in");
    for (const struct command *c = table; c->name; c++) {
        if (!begins_family(table, c))
            continue;
        buf_putf(out, "%s%.*s", before, (int)command_family(c).len, command_family(c).at);
        before = "|";
    }
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
    for (const struct command *c = table; c->name; c++) {
        if (!begins_family(table, c))
            continue;
        struct bytes family = command_family(c);
        buf_putf(out, "    '%.*s ') COMPREPLY=($(compgen -W '", (int)family.len, family.at);
        put_verbs(table, family, out);
        buf_puts(out, "' -- \"$cur\")) ;;\n");
    }
    buf_puts(out, "    *) [[ ${#words[@]} -gt 1 ]] || COMPREPLY=($(compgen -W '");
    for (const struct command *c = table; c->name; c++) {
        struct bytes name = command_family(c).len ? command_family(c) : command_verb(c);
        if (begins_family(table, c) || !command_family(c).len)
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
    for (const struct command *c = table; c->name; c++) {
        if (!begins_family(table, c))
            continue;
        struct bytes family = command_family(c);
        buf_putf(out, "    %.*s)\n      if (( CURRENT == 3 )); then choices=(", (int)family.len, family.at);
        put_zsh_choices(table, family, out);
        buf_puts(out, "); _describe command choices; return; fi\n"
                      "      cmd=\"${words[2]} ${words[3]}\" used=2 ;;\n");
    }
    buf_puts(out, "  esac\n  if (( CURRENT == 2 )); then\n    choices=(");
    put_zsh_choices(table, (struct bytes){0}, out);
    for (const struct command *c = table; c->name; c++)
        if (begins_family(table, c))
            buf_putf(out, " '%.*s:more commands'", (int)command_family(c).len, command_family(c).at);
    buf_puts(out, ")\n    _describe command choices; return\n  fi\n"
                  "  shift $used words; (( CURRENT -= used ))\n  case $cmd in\n");
    for (const struct command *c = table; c->name; c++)
        put_zsh_command(c, out);
    /* Of use both in $fpath, where the file is the function, and to `source`. */
    buf_puts(
        out,
        "  esac\n}\n"
        "if [[ ${funcstack[1]} == _hayauma ]]; then _hayauma \"$@\"; else compdef _hayauma hayauma; fi\n");
}
