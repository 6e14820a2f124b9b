/*
 * The command line as one table: from a row come parsing, `--help`, "did you mean" and shell completion.
 * Parsing is pure: words in, an invocation or a complaint out.
 *
 * Options may stand anywhere after the program's name (before the command only those that every command has):
 * --name VALUE, --name=VALUE, -x VALUE, -xVALUE; "--" ends them.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

enum option_kind {
    OPTION_FLAG,
    OPTION_TEXT,
    OPTION_COUNT, /* decimal, without sign */
    OPTION_WORD,  /* one of the words in `value`, which are parted by '|' */
};

struct command_option {
    const char *name; /* without the dashes */
    char letter;      /* or 0 */
    enum option_kind kind;
    const char *value; /* what help calls the value; NULL for a flag */
    const char *help;
    bool repeats;
};

struct cli;
typedef int (*command_fn)(struct cli *cli); /* the exit status */

struct command {
    const char *name;      /* "status", or family and verb: "queue list" */
    const char *arguments; /* as help shows them: "NAME", "[FILE]", or "" */
    size_t args_min, args_max;
    const char *summary;                  /* half a line */
    const char *more;                     /* sentences that help adds, or NULL */
    const struct command_option *options; /* ends with name NULL; or NULL */
    command_fn run;
};
/* Tables of commands end with a row whose name is NULL; those of one family stand together. */

extern const struct command commands[];                      /* of this program: commands.c */
extern const struct command_option command_common_options[]; /* every command has them */

struct invocation_value {
    const struct command_option *option;
    const char *text;
};

/* Strings are borrowed from argv. */
struct invocation {
    const struct command *command;   /* NULL: none was named */
    struct bytes family;             /* with command NULL: "queue" was, but no verb */
    bool help;                       /* --help or -h */
    struct invocation_value *values; /* owned */
    size_t value_count;
    const char **args; /* owned */
    size_t arg_count;
};

/*
 * false: `complaint` says in one sentence what would be right, and `out` holds what was understood (for the
 * hint which help to ask for).  invocation_fini in any case.
 */
bool command_parse(const struct command *table, int argc, char **argv, struct invocation *out,
                   struct buf *complaint);
void invocation_fini(struct invocation *in);

/* The option must be in the command's row, else this asserts. */
bool invocation_has(const struct invocation *in, const char *option);
const char *invocation_text(const struct invocation *in, const char *option); /* NULL: not given */
uint64_t invocation_count(const struct invocation *in, const char *option, uint64_t preset);
/* Each value of an option that repeats: start with *at = 0; NULL at the end. */
const char *invocation_next(const struct invocation *in, const char *option, size_t *at);

/* Help for everything, for a family ("queue"), for one command; appended. */
void command_help_all(const struct command *table, struct buf *out);
void command_help_family(const struct command *table, struct bytes family, struct buf *out);
void command_help(const struct command *command, struct buf *out);
/* The row of "queue list"; or NULL. */
const struct command *command_find(const struct command *table, struct bytes name);
bool command_is_family(const struct command *table, struct bytes name);
/* Appends " (did you mean 'x'?)" when a command or family is near. */
void command_suggest(const struct command *table, struct bytes family, struct bytes word, struct buf *out);

void command_manual(const struct command *table, struct buf *out); /* hayauma(1), as troff */

/* Completion scripts. */
void command_completion_bash(const struct command *table, struct buf *out);
void command_completion_zsh(const struct command *table, struct buf *out);

/* The part of a command's name before its blank; empty when it is of no family. */
struct bytes command_family(const struct command *command);
struct bytes command_verb(const struct command *command);
