/* Parsing by the table. */
#include "webui-api/cli/command.h"

#include <assert.h>

#include "base/mem.h"
#include "base/yaml.h"

#define NAMES_MAX 128 /* candidates of a "did you mean" */

const struct command_option command_common_options[] = {
    {"json", 0, OPTION_FLAG, NULL, "Answer in JSON, for programs", false},
    {"socket", 0, OPTION_TEXT, "PATH", "The daemon's socket (also: environment variable HAYAUMA_SOCKET)",
     false},
    {"config", 'c', OPTION_TEXT, "FILE", "The daemon's configuration, which names the socket", false},
    {"help", 'h', OPTION_FLAG, NULL, "Say what the command does and takes", false},
    {.name = NULL},
};

struct bytes command_family(const struct command *command)
{
    struct bytes name = bytes_of(command->name);
    size_t blank = bytes_find(name, ' ');

    return bytes_first(name, blank == name.len ? 0 : blank);
}

struct bytes command_verb(const struct command *command)
{
    struct bytes family = command_family(command), name = bytes_of(command->name);

    return family.len ? bytes_skip(name, family.len + 1) : name;
}

const struct command *command_find(const struct command *table, struct bytes name)
{
    for (const struct command *c = table; c->name; c++)
        if (bytes_eq(bytes_of(c->name), name))
            return c;
    return NULL;
}

bool command_is_family(const struct command *table, struct bytes name)
{
    for (const struct command *c = table; name.len && c->name; c++)
        if (bytes_eq(command_family(c), name))
            return true;
    return false;
}

static void put_meant(struct buf *out, const char *dashes, const char *meant)
{
    if (meant)
        buf_putf(out, " (did you mean '%s%s'?)", dashes, meant);
}

void command_suggest(const struct command *table, struct bytes family, struct bytes word, struct buf *out)
{
    const char *names[NAMES_MAX] = {NULL};
    char *owned[NAMES_MAX];
    size_t count = 0;

    for (const struct command *c = table; c->name && count < NAMES_MAX; c++) {
        struct bytes name = command_verb(c);
        if (!family.len && command_family(c).len)
            name = command_family(c);
        else if (!bytes_eq(command_family(c), family))
            continue;
        names[count] = owned[count] = bytes_dup(name);
        count++;
    }
    put_meant(out, "", yaml_did_you_mean(word, names, count));
    while (count)
        mem_free(owned[--count]);
}

/* ---- options ---- */

static const struct command_option *option_in(const struct command_option *rows, struct bytes name,
                                              char letter)
{
    for (; rows && rows->name; rows++)
        if (letter ? rows->letter == letter : bytes_eq(bytes_of(rows->name), name))
            return rows;
    return NULL;
}

static const struct command_option *option_find(const struct command *command, struct bytes name, char letter)
{
    const struct command_option *o = option_in(command_common_options, name, letter);

    return o || !command ? o : option_in(command->options, name, letter);
}

static void unknown_option(const struct command *command, struct bytes name, struct buf *complaint)
{
    const char *names[NAMES_MAX] = {NULL};
    size_t count = 0;

    for (const struct command_option *o = command_common_options; o->name; o++)
        names[count++] = o->name;
    for (const struct command_option *o = command ? command->options : NULL;
         o && o->name && count < NAMES_MAX; o++)
        names[count++] = o->name;
    buf_putf(complaint, "unknown option '--%.*s'", (int)name.len, name.at);
    if (command)
        buf_putf(complaint, " of '%s'", command->name);
    put_meant(complaint, "--", yaml_did_you_mean(name, names, count));
}

static bool word_is_allowed(const char *words, struct bytes word)
{
    for (struct bytes rest = bytes_of(words); rest.len;) {
        size_t bar = bytes_find(rest, '|');
        if (bytes_eq(bytes_first(rest, bar), word))
            return true;
        rest = bytes_skip(rest, bar + 1);
    }
    return false;
}

static bool value_fits(const struct command_option *o, const char *value, struct buf *complaint)
{
    uint64_t number;

    if (o->kind == OPTION_COUNT && !bytes_parse_u64(bytes_of(value), &number)) {
        buf_putf(complaint, "--%s wants a number, not '%s'", o->name, value);
        return false;
    }
    if (o->kind == OPTION_WORD && !word_is_allowed(o->value, bytes_of(value))) {
        buf_putf(complaint, "--%s wants one of %s, not '%s'", o->name, o->value, value);
        return false;
    }
    return true;
}

static bool take_value(struct invocation *in, const struct command_option *o, const char *value,
                       struct buf *complaint)
{
    if (bytes_eq(bytes_of(o->name), BYTES("help"))) {
        in->help = true;
        return true;
    }
    for (size_t i = 0; !o->repeats && i < in->value_count; i++)
        if (in->values[i].option == o) {
            buf_putf(complaint, "--%s is given twice", o->name);
            return false;
        }
    if (value && !value_fits(o, value, complaint))
        return false;
    in->values = mem_realloc(in->values, (in->value_count + 1) * sizeof(*in->values));
    in->values[in->value_count++] = (struct invocation_value){o, value};
    return true;
}

/* The words of argv, and where we are. */
struct words {
    char **at;
    size_t left;
};

static const char *words_take(struct words *w)
{
    if (!w->left)
        return NULL;
    w->left--;
    return *w->at++;
}

static bool take_long(struct invocation *in, const char *text, struct words *w, struct buf *complaint)
{
    struct bytes whole = bytes_of(text), name = bytes_first(whole, bytes_find(whole, '='));
    const struct command_option *o = option_find(in->command, name, 0);
    const char *value = name.len < whole.len ? text + name.len + 1 : NULL;

    if (!o) {
        unknown_option(in->command, name, complaint);
        return false;
    }
    if (o->kind == OPTION_FLAG && value) {
        buf_putf(complaint, "--%s takes no value", o->name);
        return false;
    }
    if (o->kind != OPTION_FLAG && !value && !(value = words_take(w))) {
        buf_putf(complaint, "--%s wants a value: --%s %s", o->name, o->name, o->value);
        return false;
    }
    return take_value(in, o, value, complaint);
}

static bool take_short(struct invocation *in, const char *text, struct words *w, struct buf *complaint)
{
    for (; *text; text++) {
        const struct command_option *o = option_find(in->command, (struct bytes){0}, *text);
        if (!o) {
            buf_putf(complaint, "unknown option '-%c'", *text);
            return false;
        }
        if (o->kind != OPTION_FLAG) {
            const char *value = text[1] ? text + 1 : words_take(w);
            if (!value) {
                buf_putf(complaint, "-%c wants a value: -%c %s", *text, *text, o->value);
                return false;
            }
            return take_value(in, o, value, complaint);
        }
        if (!take_value(in, o, NULL, complaint))
            return false;
    }
    return true;
}

/* ---- words ---- */

static bool take_command_word(const struct command *table, struct invocation *in, const char *word,
                              struct buf *complaint)
{
    BUF_LOCAL(name);

    if (in->family.len)
        buf_putf(&name, "%.*s ", (int)in->family.len, in->family.at);
    buf_puts(&name, word);
    in->command = command_find(table, buf_bytes(&name));
    if (in->command)
        return true;
    if (!in->family.len && command_is_family(table, bytes_of(word))) {
        in->family = bytes_of(word);
        return true;
    }
    buf_putf(complaint, "unknown command '%s'", buf_str(&name));
    command_suggest(table, in->family, bytes_of(word), complaint);
    return false;
}

static bool take_word(const struct command *table, struct invocation *in, const char *word,
                      struct buf *complaint)
{
    if (!in->command)
        return take_command_word(table, in, word, complaint);
    if (in->arg_count == in->command->args_max) {
        buf_putf(complaint, "'%s' has no use for '%s'", in->command->name, word);
        return false;
    }
    in->args = mem_realloc(in->args, (in->arg_count + 1) * sizeof(*in->args));
    in->args[in->arg_count++] = word;
    return true;
}

static bool check_whole(const struct invocation *in, struct buf *complaint)
{
    if (in->help || !in->command || in->arg_count >= in->command->args_min)
        return true;
    buf_putf(complaint, "'%s' wants more: hayauma %s %s", in->command->name, in->command->name,
             in->command->arguments);
    return false;
}

bool command_parse(const struct command *table, int argc, char **argv, struct invocation *out,
                   struct buf *complaint)
{
    struct words w = {argv + 1, argc > 0 ? (size_t)argc - 1 : 0};
    bool options = true, good = true;
    const char *word;

    *out = (struct invocation){0};
    while (good && (word = words_take(&w))) {
        if (options && strcmp(word, "--") == 0)
            options = false;
        else if (options && word[0] == '-' && word[1] == '-')
            good = take_long(out, word + 2, &w, complaint);
        else if (options && word[0] == '-' && word[1])
            good = take_short(out, word + 1, &w, complaint);
        else
            good = take_word(table, out, word, complaint);
    }
    return good && check_whole(out, complaint);
}

void invocation_fini(struct invocation *in)
{
    mem_free(in->values);
    mem_free(in->args);
    *in = (struct invocation){0};
}

const char *invocation_next(const struct invocation *in, const char *option, size_t *at)
{
    const struct command_option *o = option_find(in->command, bytes_of(option), 0);

    assert(o);
    while (*at < in->value_count) {
        const struct invocation_value *v = &in->values[(*at)++];
        if (v->option == o)
            return v->text ? v->text : "";
    }
    return NULL;
}

const char *invocation_text(const struct invocation *in, const char *option)
{
    size_t at = 0;

    return invocation_next(in, option, &at);
}

bool invocation_has(const struct invocation *in, const char *option)
{
    return invocation_text(in, option) != NULL;
}

uint64_t invocation_count(const struct invocation *in, const char *option, uint64_t preset)
{
    const char *text = invocation_text(in, option);
    uint64_t number = preset;

    return text && bytes_parse_u64(bytes_of(text), &number) ? number : preset;
}
