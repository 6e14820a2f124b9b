/* The table as documents: a commented file of presets, the manual's reference, a JSON Schema. */
#include "base/conf_priv.h"
#include "base/roff.h"

#define WIDTH 100

static bool is_text(const struct conf_key *k)
{
    return k->type == CONF_STRING || k->type == CONF_PATH;
}

/* ---- sentences ---- */

static void put_words(struct buf *out, const struct conf_key *k, const char *before, const char *after)
{
    for (size_t i = 0; k->words[i]; i++)
        buf_putf(out, "%s%s%s%s", i == 0 ? "" : k->words[i + 1] ? ", " : " or ", before, k->words[i], after);
}

static void put_range(struct buf *out, const struct conf_key *k)
{
    if (k->min && k->max)
        buf_putf(out, " from %s to %s", k->min, k->max);
    else if (k->min)
        buf_putf(out, ", %s or more", k->min);
    else if (k->max)
        buf_putf(out, ", %s at most", k->max);
}

/* "A duration from 1s to 1h." */
static void put_form(struct buf *out, const struct conf_key *k, const char *quote)
{
    static const char *const forms[] = {
        [CONF_BOOL] = "True or false",
        [CONF_INT] = "A whole number",
        [CONF_DURATION] = "A duration",
        [CONF_SIZE] = "A size in octets (k, M, G: powers of 1024)",
        [CONF_STRING] = "A text",
        [CONF_PATH] = "A path; a relative one starts at the folder of this file",
        [CONF_STRINGS] = "A list of texts",
        [CONF_TABLES] = "A list of maps",
    };

    if (k->words) {
        buf_puts(out, "One of ");
        put_words(out, k, quote, quote);
    } else {
        buf_puts(out, forms[k->type]);
        if (k->type == CONF_INT || k->type == CONF_DURATION || k->type == CONF_SIZE)
            put_range(out, k);
    }
    buf_puts(out, k->required ? "; required." : ".");
}

static const char *reload_sentence(const struct conf_key *k)
{
    return k->reload == CONF_LIVE ? "A reload applies it." : "A change needs a restart.";
}

/* ---- the commented file ---- */

/* Words of `text`, in lines of comment that begin with `indent`. */
static void put_comment(struct buf *out, const char *indent, const char *text)
{
    struct bytes rest = bytes_of(text);
    size_t column = 0;

    while (rest.len) {
        struct bytes word = bytes_first(rest, bytes_find(rest, ' '));
        rest = bytes_skip(rest, word.len + 1);
        if (column && column + 1 + word.len > WIDTH) {
            buf_putc(out, '\n');
            column = 0;
        }
        if (!column) {
            buf_putf(out, "%s#", indent);
            column = strlen(indent) + 1;
        }
        buf_putf(out, " %.*s", (int)word.len, word.at);
        column += 1 + word.len;
    }
    buf_putc(out, '\n');
}

static void put_about(struct buf *out, const char *indent, const struct conf_key *k, const char *more)
{
    BUF_LOCAL(form);

    put_comment(out, indent, k->help);
    put_form(&form, k, "");
    buf_putf(&form, " %s", more);
    put_comment(out, indent, buf_str(&form));
}

static bool is_plain(const char *text)
{
    /* What neither YAML nor a reader could take for anything but text. */
    size_t safe = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./");

    return safe && text[safe] == '\0';
}

static void put_quoted(struct buf *out, const char *text)
{
    buf_putc(out, '"');
    for (const char *c = text; *c; c++)
        buf_putf(out, *c == '"' || *c == '\\' ? "\\%c" : "%c", *c); /* texts of a table have no controls */
    buf_putc(out, '"');
}

static void put_preset(struct buf *out, const struct conf_key *k)
{
    if (k->type == CONF_STRINGS)
        buf_puts(out, "[]");
    else if (k->type == CONF_TABLES)
        return; /* entries follow, or nothing does */
    else if (is_text(k) && !(k->preset && is_plain(k->preset)))
        put_quoted(out, k->preset ? k->preset : "");
    else
        buf_puts(out, k->preset);
}

/* What one entry of a list looks like, as a comment. */
static void put_entry(struct buf *out, const char *indent, const struct conf_key *keys)
{
    BUF_LOCAL(inner);

    buf_putf(&inner, "%s#   ", indent);
    buf_putf(out, "%s# An entry:\n", indent);
    for (const struct conf_key *k = keys; k->name; k++) {
        put_about(out, buf_str(&inner), k, ""); /* the list's rule for reload counts */
        buf_putf(out, "%s# %s %s: ", indent, k == keys ? "-" : " ", k->name);
        if (k->required)
            buf_puts(out, "…");
        else
            put_preset(out, k);
        buf_putc(out, '\n');
    }
}

static void dump_group(struct buf *out, const struct conf_key *keys, const char *prefix, const char *indent)
{
    struct conf_part part;

    for (size_t at = 0; conf_next_part(keys, bytes_of(prefix), &at, &part);) {
        if (!indent[0])
            buf_putc(out, '\n');
        if (part.key) {
            put_about(out, indent, part.key, reload_sentence(part.key));
            buf_putf(out, "%s%.*s:", indent, (int)part.name.len, part.name.at);
            if (part.key->type != CONF_TABLES)
                buf_putc(out, ' ');
            put_preset(out, part.key);
            buf_putc(out, '\n');
            if (part.key->type == CONF_TABLES)
                put_entry(out, indent, part.key->sub);
            continue;
        }
        BUF_LOCAL(below);
        BUF_LOCAL(deeper);
        buf_putf(&below, "%s%.*s.", prefix, (int)part.name.len, part.name.at);
        buf_putf(&deeper, "%s  ", indent);
        buf_putf(out, "%s%.*s:\n", indent, (int)part.name.len, part.name.at);
        dump_group(out, keys, buf_str(&below), buf_str(&deeper));
    }
}

void conf_dump_defaults(const struct conf_key *keys, struct buf *out)
{
    buf_puts(out, "# Every key with its preset.  \"\" means: not set.\n");
    dump_group(out, keys, "", "");
}

/* ---- the manual ---- */

/* What a value may be, what it is when nothing is said, and what a change needs. */
static void put_facts(struct buf *out, const struct conf_key *k, const char *quote, const char *more)
{
    put_form(out, k, quote);
    if (!k->required) {
        buf_puts(out, " Default: ");
        if (k->type == CONF_TABLES) {
            buf_puts(out, "empty");
        } else if (is_text(k) && !k->preset) {
            buf_puts(out, "not set");
        } else {
            buf_puts(out, quote);
            put_preset(out, k);
            buf_puts(out, quote);
        }
        buf_putc(out, '.');
    }
    buf_putf(out, "%s%s", more[0] ? " " : "", more);
}

static void put_section(struct buf *out, const char *before, const struct conf_key *k, const char *more)
{
    buf_putf(out, "### `%s%s`\n\n%s\n\n", before, k->name, k->help);
    put_facts(out, k, "`", more);
    buf_puts(out, "\n\n");
}

static void put_manual_section(struct buf *out, const char *before, const struct conf_key *k,
                               const char *more)
{
    BUF_LOCAL(facts);

    put_facts(&facts, k, "", more);
    buf_puts(out, ".TP\n\\fB");
    roff_put(out, before);
    roff_put(out, k->name);
    buf_puts(out, "\\fR\n");
    roff_put(out, k->help);
    buf_puts(out, "\n.br\n");
    roff_put(out, buf_str(&facts));
    buf_putc(out, '\n');
}

typedef void (*section_fn)(struct buf *out, const char *before, const struct conf_key *k, const char *more);

static void put_sections(const struct conf_key *keys, section_fn put, struct buf *out)
{
    for (const struct conf_key *k = keys; k->name; k++) {
        put(out, "", k, reload_sentence(k));
        if (k->type != CONF_TABLES)
            continue;
        BUF_LOCAL(before);
        buf_putf(&before, "%s[].", k->name);
        for (const struct conf_key *sub = k->sub; sub->name; sub++)
            put(out, buf_str(&before), sub, "");
    }
}

void conf_reference(const struct conf_key *keys, struct buf *out)
{
    put_sections(keys, put_section, out);
}

void conf_manual(const struct conf_key *keys, struct buf *out)
{
    put_sections(keys, put_manual_section, out);
}

/* ---- JSON Schema ---- */

static void put_json(struct buf *out, const char *text)
{
    buf_putc(out, '"');
    for (const unsigned char *c = (const unsigned char *)text; *c; c++)
        buf_putf(out, *c == '"' || *c == '\\' ? "\\%c" : *c < ' ' ? "\\u%04x" : "%c", *c);
    buf_putc(out, '"');
}

static void schema_group(struct buf *out, const struct conf_key *keys, const char *prefix, bool entry);

static void schema_int(struct buf *out, const struct conf_key *k)
{
    buf_puts(out, "\"type\":\"integer\"");
    if (k->min)
        buf_putf(out, ",\"minimum\":%s", k->min);
    if (k->max)
        buf_putf(out, ",\"maximum\":%s", k->max);
    buf_putf(out, ",\"default\":%s", k->preset ? k->preset : "0");
}

static void schema_text(struct buf *out, const struct conf_key *k)
{
    if (k->words) {
        buf_puts(out, "\"enum\":[");
        for (size_t i = 0; k->words[i]; i++) {
            buf_puts(out, i ? "," : "");
            put_json(out, k->words[i]);
        }
        buf_putc(out, ']');
    } else {
        buf_putf(out, "\"type\":\"string\",\"maxLength\":%s", k->max ? k->max : "1000");
        if (k->required)
            buf_puts(out, ",\"minLength\":1");
    }
    if (k->preset) {
        buf_puts(out, ",\"default\":");
        put_json(out, k->preset);
    }
}

static void schema_number_with_unit(struct buf *out, const struct conf_key *k, const char *units)
{
    buf_putf(out, "\"type\":[\"string\",\"integer\"],\"pattern\":\"^[0-9]+(%s)?$\",\"default\":", units);
    put_json(out, k->preset);
}

static void schema_key(struct buf *out, const struct conf_key *k, bool entry)
{
    buf_puts(out, "{\"description\":");
    put_json(out, k->help);
    if (!entry) /* else the list's */
        buf_putf(out, ",\"x-reload\":\"%s\"", k->reload == CONF_LIVE ? "live" : "restart");
    buf_putc(out, ',');
    switch (k->type) {
    case CONF_BOOL: buf_putf(out, "\"type\":\"boolean\",\"default\":%s", k->preset); break;
    case CONF_INT: schema_int(out, k); break;
    case CONF_DURATION: schema_number_with_unit(out, k, "ms|s|m|h|d"); break;
    case CONF_SIZE: schema_number_with_unit(out, k, "[kKmMgGtT]"); break;
    case CONF_STRING:
    case CONF_PATH:
    case CONF_WORD: schema_text(out, k); break;
    case CONF_STRINGS:
        buf_putf(out, "\"type\":\"array\",\"maxItems\":%s,\"items\":{\"type\":\"string\",\"minLength\":1}",
                 k->max ? k->max : "1000");
        break;
    case CONF_TABLES:
        buf_putf(out, "\"type\":\"array\",\"maxItems\":%s,\"items\":{", k->max ? k->max : "1000");
        schema_group(out, k->sub, "", true);
        buf_putc(out, '}');
        break;
    }
    buf_putc(out, '}');
}

/* The inside of an object: its properties, which of them must be there, and that there are no others. */
static void schema_group(struct buf *out, const struct conf_key *keys, const char *prefix, bool entry)
{
    struct conf_part part;
    const char *comma = "";

    buf_puts(out, "\"type\":\"object\",\"additionalProperties\":false,\"properties\":{");
    for (size_t at = 0; conf_next_part(keys, bytes_of(prefix), &at, &part); comma = ",") {
        buf_putf(out, "%s\n\"%.*s\":", comma, (int)part.name.len, part.name.at);
        if (part.key) {
            schema_key(out, part.key, entry);
            continue;
        }
        BUF_LOCAL(below);
        buf_putf(&below, "%s%.*s.", prefix, (int)part.name.len, part.name.at);
        buf_putc(out, '{');
        schema_group(out, keys, buf_str(&below), entry);
        buf_putc(out, '}');
    }
    buf_puts(out, "},\"required\":[");
    comma = "";
    for (const struct conf_key *k = keys; k->name; k++) {
        if (!k->required)
            continue;
        buf_putf(out, "%s\"%s\"", comma, k->name);
        comma = ",";
    }
    buf_putc(out, ']');
}

void conf_schema(const struct conf_key *keys, struct buf *out)
{
    buf_puts(out, "{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\",");
    schema_group(out, keys, "", false);
    buf_puts(out, "}\n");
}
