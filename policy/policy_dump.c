/* The table of keys backwards: a group as YAML, and the reference as Markdown. */
#include <inttypes.h>

#include "policy/policy_priv.h"

static bool is_plain(struct bytes text)
{
    for (size_t i = 0; i < text.len; i++) {
        char c = text.at[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '/' ||
              (i > 0 && (c == '.' || c == '-' || c == '_' || c == '@'))))
            return false;
    }
    return text.len > 0;
}

/* A YAML scalar that reads back as `text`: plain, or in double quotes. */
void policy_put_scalar(struct buf *out, struct bytes text)
{
    if (is_plain(text)) {
        buf_put(out, text);
        return;
    }
    buf_putc(out, '"');
    for (size_t i = 0; i < text.len; i++) {
        if (text.at[i] == '"' || text.at[i] == '\\')
            buf_putc(out, '\\');
        buf_putc(out, text.at[i]);
    }
    buf_putc(out, '"');
}

/* Whole or with up to six decimals, without an exponent, which the reader would not take. */
void policy_put_number(struct buf *out, double value)
{
    buf_putf(out, "%.6f", value);
    while (out->at[out->len - 1] == '0')
        out->len--;
    if (out->at[out->len - 1] == '.')
        out->len--;
}

static void put_frequency(struct buf *out, const struct frequency *f)
{
    policy_put_number(out, f->count);
    if (f->count > 0)
        buf_puts(out, f->seconds == 1 ? "/s" : f->seconds == 60 ? "/m" : "/h");
}

static void put_schedule(struct buf *out, const struct retry_schedule *s)
{
    buf_putc(out, '[');
    for (uint32_t i = 0; i < s->steps; i++) {
        buf_puts(out, i ? ", " : "");
        yaml_put_duration_ms(out, (uint64_t)s->step_s[i] * 1000);
    }
    buf_putc(out, ']');
}

static void put_hosts(struct buf *out, const struct group *g)
{
    buf_putc(out, '[');
    for (size_t i = 0; i < g->host_count; i++) {
        bool v6 = strchr(g->hosts[i].host, ':') != NULL;

        buf_putf(out, "%s\"%s%s%s:%u\"", i ? ", " : "", v6 ? "[" : "", g->hosts[i].host, v6 ? "]" : "",
                 g->hosts[i].port);
    }
    buf_putc(out, ']');
}

static void put_texts(struct buf *out, char *const *texts, size_t count)
{
    buf_putc(out, '[');
    for (size_t i = 0; i < count; i++) {
        buf_puts(out, i ? ", " : "");
        policy_put_scalar(out, bytes_of(texts[i]));
    }
    buf_putc(out, ']');
}

static const char *word_of(const struct policy_key *key, int value)
{
    if (key->offset == offsetof(struct group_draft, g.starttls))
        return tls_level_name((enum tls_level)value);
    return key->words[value];
}

static const char *string_at(const struct policy_key *key, const void *field)
{
    switch (key->type) {
    case KEY_TEXT:
    case KEY_PATH:
    case KEY_DOMAIN:
    case KEY_IPV4:
    case KEY_IPV6:
    case KEY_ZONE:
    case KEY_NAME: return *(char *const *)field;
    default: return NULL;
    }
}

static bool is_set(const struct policy_key *key, const struct group_draft *d, const void *field)
{
    bool smart = d->g.route == ROUTE_SMARTHOST;

    if (key->type == KEY_PATTERNS || key->type == KEY_MX_PATTERNS)
        return false;
    if (strcmp(key->name, "route") == 0)
        return !smart;
    if (strncmp(key->name, "route.", 6) == 0 && !smart)
        return false;
    if (strcmp(key->name, "adaptive") == 0) /* a map of its keys says that it is on */
        return d->g.adaptive.mode == ADAPTIVE_OFF;
    if (strncmp(key->name, "adaptive.", 9) == 0)
        return d->g.adaptive.mode == ADAPTIVE_ON;
    if (strcmp(key->name, "quiet_hours") == 0)
        return !d->g.quiet.on;
    if (strncmp(key->name, "quiet_hours.", 12) == 0)
        return d->g.quiet.on;
    if (key->type == KEY_PINS)
        return d->g.tls_pin_count > 0;
    if (key->type == KEY_REPLIES)
        return d->g.reply_count > 0;
    if (key->type == KEY_POOL)
        return d->g.pool != NULL;
    if (key->type == KEY_HOSTS || !key->offset) /* `name` has the offset 0 */
        return true;
    return key->preset || string_at(key, field);
}

static void put_value(struct buf *out, const struct policy_key *key, const struct group_draft *d)
{
    const void *field = (const char *)d + key->offset;

    switch (key->type) {
    case KEY_WORD: buf_puts(out, word_of(key, *(const int *)field)); break;
    case KEY_BOOL: buf_puts(out, *(const bool *)field ? "true" : "false"); break;
    case KEY_COUNT: buf_putf(out, "%" PRIu32, *(const uint32_t *)field); break;
    case KEY_PORT: buf_putf(out, "%u", *(const uint16_t *)field); break;
    case KEY_RATE: policy_put_number(out, *(const double *)field); break;
    case KEY_FREQUENCY: put_frequency(out, field); break;
    case KEY_MS: yaml_put_duration_ms(out, *(const uint32_t *)field); break;
    case KEY_SECONDS: yaml_put_duration_ms(out, *(const uint32_t *)field * UINT64_C(1000)); break;
    case KEY_PERCENT: buf_putf(out, "%" PRIu32 "%%", *(const uint32_t *)field); break;
    case KEY_SCHEDULE: put_schedule(out, field); break;
    case KEY_HOSTS: put_hosts(out, &d->g); break;
    case KEY_TLS_NAMES:
        if (d->g.tls_match == NAME_LISTED)
            put_texts(out, d->g.tls_names, d->g.tls_name_count);
        else
            buf_puts(out, key->words[d->g.tls_match]);
        break;
    case KEY_PINS: put_texts(out, d->g.tls_pins, d->g.tls_pin_count); break;
    case KEY_POOL: buf_puts(out, d->g.pool->name); break;
    case KEY_REPLIES: policy_replies_put(out, d->g.replies, d->g.reply_count); break;
    case KEY_TEXT:
    case KEY_PATH:
    case KEY_DOMAIN:
    case KEY_IPV4:
    case KEY_IPV6:
    case KEY_ZONE:
    case KEY_NAME: policy_put_scalar(out, bytes_of(string_at(key, field))); break;
    case KEY_TIME:
        buf_putc(out, '"');
        quiet_put_time(out, *(const uint32_t *)field);
        buf_putc(out, '"');
        break;
    case KEY_PATTERNS:
    case KEY_MX_PATTERNS: break;
    }
}

/* Opens the maps of "route.auth.user" that the row before did not open; returns the depth of the key. */
static unsigned open_sections(struct buf *out, const char *before, const char *name)
{
    unsigned depth = 0;
    size_t start = 0;

    for (size_t i = 0; name[i]; i++) {
        if (name[i] != '.')
            continue;
        if (strncmp(before, name, i + 1) != 0)
            buf_putf(out, "%*s%.*s:\n", (int)depth * 2, "", (int)(i - start), name + start);
        start = i + 1;
        depth++;
    }
    return depth;
}

void policy_dump_group(const struct group *g, struct buf *yaml)
{
    struct group_draft d = {.g = *g, .implicit_tls = g->host_count > 0 && g->hosts[0].implicit_tls};
    const char *before = "";

    for (size_t i = 0; i < policy_key_count; i++) {
        const struct policy_key *key = &policy_keys[i];
        const char *dot = strrchr(key->name, '.');

        if (!is_set(key, &d, (const char *)&d + key->offset))
            continue;
        buf_putf(yaml, "%*s%s: ", (int)open_sections(yaml, before, key->name) * 2, "",
                 dot ? dot + 1 : key->name);
        put_value(yaml, key, &d);
        buf_putc(yaml, '\n');
        before = key->name;
    }
}

/* ---- reference ---- */

static void put_range(struct buf *out, const struct policy_key *key)
{
    uint64_t unit = key->type == KEY_MS ? 1 : 1000;

    switch (key->type) {
    case KEY_WORD:
        buf_puts(out, "one of ");
        policy_key_put_words(key, out);
        break;
    case KEY_BOOL: buf_puts(out, "true or false"); break;
    case KEY_COUNT:
    case KEY_PORT: buf_putf(out, "number, %.0f to %.0f", key->min, key->max); break;
    case KEY_RATE:
        buf_puts(out, "number, ");
        policy_put_number(out, key->min);
        buf_putf(out, " to %.0f, with decimals if wanted", key->max);
        break;
    case KEY_FREQUENCY:
        buf_putf(out, "number, %.0f to %.0f, and `/s`, `/m` or `/h`", key->min, key->max);
        break;
    case KEY_PERCENT: buf_putf(out, "share, %.0f%% to %.0f%%", key->min, key->max); break;
    case KEY_SCHEDULE:
    case KEY_MS:
    case KEY_SECONDS:
        buf_puts(out, key->type == KEY_SCHEDULE ? "list of durations, " : "duration, ");
        yaml_put_duration_ms(out, (uint64_t)key->min * unit);
        buf_puts(out, " to ");
        yaml_put_duration_ms(out, (uint64_t)key->max * unit);
        break;
    case KEY_TEXT: buf_puts(out, "text"); break;
    case KEY_PATH: buf_puts(out, "absolute path"); break;
    case KEY_DOMAIN: buf_puts(out, "host name"); break;
    case KEY_IPV4: buf_puts(out, "IPv4 address"); break;
    case KEY_IPV6: buf_puts(out, "IPv6 address"); break;
    case KEY_HOSTS: buf_puts(out, "list of hosts"); break;
    case KEY_TLS_NAMES:
        for (size_t i = 0; key->words[i]; i++)
            buf_putf(out, "%s, ", key->words[i]);
        buf_puts(out, "or a list of names");
        break;
    case KEY_PINS: buf_puts(out, "list of fingerprints"); break;
    case KEY_REPLIES: buf_puts(out, "list of rules"); break;
    case KEY_TIME: buf_puts(out, "time of day, `08:00`"); break;
    case KEY_ZONE: buf_puts(out, "time zone"); break;
    case KEY_POOL: buf_puts(out, "name of a pool, or `none`"); break;
    case KEY_NAME: buf_puts(out, "letters, digits, `-`, `_`, `.`"); break;
    case KEY_PATTERNS:
    case KEY_MX_PATTERNS: buf_puts(out, "list of domains"); break;
    }
}

void policy_reference(struct buf *out)
{
    buf_puts(
        out,
        "# The policy document\n\n"
        "One YAML document holds all destination groups.  Its keys: `groups`, a list of groups; `defaults`, "
        "a\n"
        "map of the values that every group inherits; `replies`, a list of rules about replies that are "
        "asked\n"
        "after those of the group (see `replies` below); `include`, a list of files with more of them; "
        "`date`,\n"
        "when it was last looked over.  A group lays its own keys over the defaults, and those lie over the\n"
        "presets below.  Aliases, anchors and tags are refused.\n\n"
        "A map without keys (`limits: {}`) says nothing, as if it did not stand there; so does a map, or a "
        "list\n"
        "that may be empty, of which all is commented out (`limits:`, `match:`, `replies:`).\n\n"
        "Durations: `250ms`, `30s`, `5m`, `2h`, `5d`.  A key `limits.connections` stands in the map "
        "`limits`:\n\n"
        "```yaml\n"
        "include: [receivers]\n"
        "defaults:\n"
        "  limits: {connections: 20}\n"
        "groups:\n"
        "  - name: docomo\n"
        "    starttls: require\n"
        "  - name: partner\n"
        "    match: [partner.example, .partner.example]\n"
        "  - name: default\n"
        "```\n\n"
        "## `include`\n\n"
        "Files with groups and rules about replies: names of files that the program brings (`receivers`: "
        "large\n"
        "receivers of the world and of Japan, dated; see it with `hayauma policy receivers`), or absolute "
        "paths of\n"
        "your own.  A name is the file `NAME.yaml` in `policy_include_dir` of the configuration.  The file "
        "is read\n"
        "when the document is applied, and kept with the version: what is in force changes only by `hayauma "
        "policy\n"
        "apply`, or `hayauma policy refresh` after an upgrade, and a rollback brings back what was.\n\n"
        "- The document's `defaults` hold for the groups of the file too; the file has none of its own, and "
        "includes\n"
        "  nothing.\n"
        "- A group of the same name in the document lies over that of the file, key by key: `docomo` above "
        "keeps its\n"
        "  domains and limits.  A list (`match`, `mx`, `retry.schedule`) stands in place of the other, but "
        "`replies`\n"
        "  stand before it: they are asked first, and `replies: []` takes the others away.\n"
        "- A domain or MX host that the document gives to a group goes to that group, wherever a file has "
        "it.\n"
        "- The document's own `replies` are asked before those of the file.\n"
        "- Of several files a later one stands before an earlier one in the same way.\n\n"
        "The stored text, which `hayauma policy export` gives, is the document with each file behind a line\n"
        "`--- # included: NAME FILE`.  Applied again it is taken as it is; without such a part the file is "
        "read.\n\n"
        "This page is made from the table in `policy/policy_keys.c`; a test compares the two.\n");
    for (size_t i = 0; i < policy_key_count; i++) {
        const struct policy_key *key = &policy_keys[i];

        buf_putf(out, "\n## `%s`\n\n%s\n\n- Value: ", key->name, key->help);
        put_range(out, key);
        if (key->preset)
            buf_putf(out, "\n- Preset: `%s`", key->preset);
        else
            buf_putf(out, "\n- Example: `%s`", key->example);
        buf_puts(out, key->group_only ? "\n- In a group only\n" : "\n");
    }
    policy_sources_reference(out);
}
