#include "base/conf.h"

#include <assert.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/conf_priv.h"
#include "base/mem.h"

/* ---- the table ---- */

static size_t count_words(const char *const *words)
{
    size_t n = 0;

    while (words[n])
        n++;
    return n;
}

static struct bytes first_part(const struct conf_key *k, struct bytes prefix)
{
    struct bytes rest = bytes_skip(bytes_of(k->name), prefix.len);

    return bytes_first(rest, bytes_find(rest, '.'));
}

bool conf_next_part(const struct conf_key *keys, struct bytes prefix, size_t *at, struct conf_part *out)
{
    for (; keys[*at].name; (*at)++) {
        const struct conf_key *k = &keys[*at];
        bool seen = false;
        if (!bytes_starts(bytes_of(k->name), prefix))
            continue;
        out->name = first_part(k, prefix);
        out->key = prefix.len + out->name.len == strlen(k->name) ? k : NULL;
        for (size_t i = 0; i < *at && !seen; i++)
            seen = bytes_starts(bytes_of(keys[i].name), prefix) &&
                   bytes_eq(first_part(&keys[i], prefix), out->name);
        if (seen)
            continue;
        (*at)++;
        return true;
    }
    return false;
}

static void *field(const struct conf_key *k, void *into)
{
    return (char *)into + k->offset;
}

static const void *field_of(const struct conf_key *k, const void *from)
{
    return (const char *)from + k->offset;
}

/* ---- presets ---- */

static uint64_t to_u64(const struct conf_key *k, const char *text, uint64_t if_null)
{
    uint64_t value = if_null;

    if (text) {
        bool ok = k->type == CONF_DURATION ? yaml_parse_duration_ms(bytes_of(text), &value)
                  : k->type == CONF_SIZE   ? yaml_parse_size(bytes_of(text), &value)
                                           : bytes_parse_u64(bytes_of(text), &value);
        assert(ok); /* the table is ours */
    }
    return value;
}

static int64_t to_i64(const char *text, int64_t if_null)
{
    return text ? strtoll(text, NULL, 10) : if_null;
}

static int to_word(const struct conf_key *k)
{
    int i = 0;

    while (k->words[i] && strcmp(k->words[i], k->preset) != 0)
        i++;
    assert(k->words[i]); /* the table is ours */
    return i;
}

void conf_defaults(const struct conf_key *keys, void *into)
{
    for (const struct conf_key *k = keys; k->name; k++) {
        void *at = field(k, into);
        switch (k->type) {
        case CONF_BOOL: *(bool *)at = strcmp(k->preset, "true") == 0; break;
        case CONF_INT: *(int64_t *)at = to_i64(k->preset, 0); break;
        case CONF_DURATION:
        case CONF_SIZE: *(uint64_t *)at = to_u64(k, k->preset, 0); break;
        case CONF_STRING:
        case CONF_PATH: *(char **)at = mem_strdup(k->preset); break;
        case CONF_WORD: *(int *)at = to_word(k); break;
        case CONF_STRINGS: *(struct conf_strings *)at = (struct conf_strings){0}; break;
        case CONF_TABLES: *(struct conf_tables *)at = (struct conf_tables){0}; break;
        }
    }
}

static void free_strings(struct conf_strings *s)
{
    for (size_t i = 0; i < s->count; i++)
        mem_free(s->items[i]);
    mem_free(s->items);
    *s = (struct conf_strings){0};
}

static void free_tables(const struct conf_key *k, struct conf_tables *t)
{
    for (size_t i = 0; i < t->count; i++)
        conf_fini(k->sub, (char *)t->items + i * k->sub_bytes);
    mem_free(t->items);
    *t = (struct conf_tables){0};
}

void conf_fini(const struct conf_key *keys, void *into)
{
    for (const struct conf_key *k = keys; k->name; k++) {
        void *at = field(k, into);
        switch (k->type) {
        case CONF_STRING:
        case CONF_PATH:
            mem_free(*(char **)at);
            *(char **)at = NULL;
            break;
        case CONF_STRINGS: free_strings(at); break;
        case CONF_TABLES: free_tables(k, at); break;
        case CONF_BOOL:
        case CONF_INT:
        case CONF_DURATION:
        case CONF_SIZE:
        case CONF_WORD: break;
        }
    }
}

/* ---- reading ---- */

struct reader {
    const char *file;
    struct yaml_errors *errors;
};

static void read_map(const struct reader *r, const struct conf_key *keys, struct bytes prefix,
                     const struct yaml_node *map, void *into);

/* A relative path starts where the file lies, not where the program was started. */
static char *resolve_path(const char *file, struct bytes path)
{
    const char *slash = file ? strrchr(file, '/') : NULL;
    struct buf full = {0};

    if (path.at[0] != '/' && slash)
        buf_put(&full, bytes_make(file, (size_t)(slash - file) + 1));
    buf_put(&full, path);
    return buf_take(&full);
}

static bool is_one_line(struct bytes text)
{
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.at[i] < ' ' || text.at[i] == 0x7f)
            return false;
    return true;
}

static bool check_text(const struct reader *r, const struct conf_key *k, const struct yaml_node *n)
{
    uint64_t max = k->type == CONF_STRINGS ? CONF_TEXT_MAX : to_u64(k, k->max, CONF_TEXT_MAX);

    if (n->type != YAML_SCALAR)
        yaml_error(r->errors, n, "expected a text, found a %s", n->type == YAML_LIST ? "list" : "map");
    else if (yaml_is_nothing(n))
        yaml_error(r->errors, n, "expected a text, found nothing%s",
                   k->required ? "" : " (\"\" means: not set)");
    else if (n->text.len == 0 && (k->required || k->type == CONF_STRINGS))
        yaml_error(r->errors, n, "expected a text, found an empty one");
    else if (n->text.len > max)
        yaml_error(r->errors, n, "the text is longer than %llu octets", (unsigned long long)max);
    else if (!is_one_line(n->text))
        yaml_error(r->errors, n, "the text contains a line break or another control character");
    else
        return true;
    return false;
}

static void read_text(const struct reader *r, const struct conf_key *k, const struct yaml_node *n, char **out)
{
    int word;

    if (!check_text(r, k, n))
        return;
    if (n->text.len && k->words && !yaml_get_word(n, k->words, count_words(k->words), &word, r->errors))
        return;
    mem_free(*out);
    *out = n->text.len == 0       ? NULL
           : k->type == CONF_PATH ? resolve_path(r->file, n->text)
                                  : bytes_dup(n->text);
}

static bool check_list(const struct reader *r, const struct conf_key *k, const struct yaml_node *n,
                       const char *like)
{
    uint64_t max = to_u64(k, k->max, CONF_ITEMS_MAX);

    if (yaml_is_nothing(n))
        return true; /* every item is commented out */
    if (n->type != YAML_LIST) {
        yaml_error(r->errors, n, "expected a list%s", like);
        return false;
    }
    if (n->count > max) {
        yaml_error(r->errors, n, "the list has %zu items; %llu are allowed", n->count,
                   (unsigned long long)max);
        return false;
    }
    return true;
}

static void read_strings(const struct reader *r, const struct conf_key *k, const struct yaml_node *n,
                         struct conf_strings *out)
{
    if (!check_list(r, k, n, " of texts, like [one, two]"))
        return;
    free_strings(out);
    out->items = mem_zalloc(n->count * sizeof(*out->items));
    for (size_t i = 0; i < n->count; i++)
        if (check_text(r, k, n->items[i]))
            out->items[out->count++] = bytes_dup(n->items[i]->text);
}

static void read_tables(const struct reader *r, const struct conf_key *k, const struct yaml_node *n,
                        struct conf_tables *out)
{
    if (!check_list(r, k, n, " of maps (\"- key: value\")"))
        return;
    free_tables(k, out);
    out->items = mem_zalloc(n->count * k->sub_bytes);
    out->count = n->count;
    for (size_t i = 0; i < n->count; i++) {
        const struct yaml_node *map = n->items[i];
        void *item = (char *)out->items + i * k->sub_bytes;
        conf_defaults(k->sub, item);
        read_map(r, k->sub, BYTES(""), map, item);
        if (yaml_is_nothing(map))
            yaml_error(r->errors, map, "expected keys and values (\"key: value\"), found nothing");
        for (const struct conf_key *sub = k->sub; sub->name; sub++)
            if (sub->required && map->type == YAML_MAP && !conf_where(map, sub->name))
                yaml_error(r->errors, map, "'%s' is missing here", sub->name);
    }
}

static void read_value(const struct reader *r, const struct conf_key *k, const struct yaml_node *n, void *at)
{
    switch (k->type) {
    case CONF_BOOL: (void)yaml_get_bool(n, at, r->errors); break;
    case CONF_INT:
        (void)yaml_get_int(n, to_i64(k->min, INT64_MIN), to_i64(k->max, INT64_MAX), at, r->errors);
        break;
    case CONF_DURATION:
        (void)yaml_get_duration_ms(n, to_u64(k, k->min, 0), to_u64(k, k->max, UINT64_MAX), at, r->errors);
        break;
    case CONF_SIZE:
        (void)yaml_get_size(n, to_u64(k, k->min, 0), to_u64(k, k->max, UINT64_MAX), at, r->errors);
        break;
    case CONF_STRING:
    case CONF_PATH: read_text(r, k, n, at); break;
    case CONF_WORD: (void)yaml_get_word(n, k->words, count_words(k->words), at, r->errors); break;
    case CONF_STRINGS: read_strings(r, k, n, at); break;
    case CONF_TABLES: read_tables(r, k, n, at); break;
    }
}

/* ---- keys ---- */

static void unknown_key(const struct reader *r, const struct conf_key *keys, struct bytes prefix,
                        const struct yaml_node *key)
{
    struct arena arena = {0};
    const char *names[256];
    size_t count = 0, at = 0;
    struct conf_part part;

    while (count < COUNT_OF(names) && conf_next_part(keys, prefix, &at, &part))
        names[count++] = arena_dup(&arena, part.name);
    const char *meant = yaml_did_you_mean(key->text, names, count);
    /* A right name in the wrong place, or written with dots: tell its place. */
    for (const struct conf_key *k = keys; !meant && k->name; k++) {
        const char *dot = strrchr(k->name, '.'), *last = dot ? dot + 1 : k->name;
        if (!bytes_eq(key->text, bytes_of(k->name)) && !bytes_eq(key->text, bytes_of(last)))
            continue;
        if (dot)
            meant = arena_printf(&arena, "%s' inside '%.*s", last, (int)(dot - k->name), k->name);
        else
            meant = arena_printf(&arena, "%s' outside of '%.*s", last, (int)prefix.len - 1, prefix.at);
    }
    yaml_error(r->errors, key, "unknown key '%.60s'%s%s%s", key->text.at, meant ? " (did you mean '" : "",
               meant ? meant : "", meant ? "'?)" : "");
    arena_fini(&arena);
}

static void read_key(const struct reader *r, const struct conf_key *keys, struct bytes prefix,
                     const struct yaml_node *key, const struct yaml_node *value, void *into)
{
    struct conf_part part;

    for (size_t at = 0; conf_next_part(keys, prefix, &at, &part);) {
        if (!bytes_eq(part.name, key->text))
            continue;
        if (part.key) {
            read_value(r, part.key, value, field(part.key, into));
        } else {
            BUF_LOCAL(below);
            buf_put(&below, prefix);
            buf_put(&below, part.name);
            buf_putc(&below, '.');
            read_map(r, keys, buf_bytes(&below), value, into);
        }
        return;
    }
    unknown_key(r, keys, prefix, key);
}

static void read_map(const struct reader *r, const struct conf_key *keys, struct bytes prefix,
                     const struct yaml_node *map, void *into)
{
    if (yaml_is_nothing(map))
        return; /* a group whose keys are all commented out */
    if (map->type != YAML_MAP) {
        yaml_error(r->errors, map, "expected keys and values (\"key: value\"), found a %s",
                   map->type == YAML_LIST ? "list" : "text");
        return;
    }
    for (size_t i = 0; i < map->count; i++)
        read_key(r, keys, prefix, map->keys[i], map->items[i], into);
}

void conf_read(const struct conf_key *keys, const char *file, const struct yaml_node *root, void *into,
               struct yaml_errors *errors)
{
    read_map(&(struct reader){file, errors}, keys, BYTES(""), root, into);
}

enum err conf_parse(const struct conf_key *keys, const char *file, struct bytes text, void *into,
                    struct yaml_errors *errors)
{
    size_t errors_before = errors->errors;
    struct yaml_doc *doc;

    if (!errors->name)
        errors->name = file;
    conf_defaults(keys, into);
    if (yaml_read(text, &doc, errors) == OK) {
        conf_read(keys, file, yaml_root(doc), into, errors);
        yaml_doc_destroy(doc);
    }
    if (errors->errors == errors_before)
        return OK;
    conf_fini(keys, into);
    return ERR_INVALID;
}

const struct yaml_node *conf_where(const struct yaml_node *root, const char *path)
{
    struct bytes rest = bytes_of(path);
    const struct yaml_node *n = root;

    while (n && rest.len) {
        struct bytes part = bytes_first(rest, bytes_find(rest, '.'));
        const struct yaml_node *next = NULL;
        uint64_t index;
        rest = bytes_skip(rest, part.len + 1);
        if (n->type == YAML_LIST && bytes_parse_u64(part, &index) && index < n->count)
            next = n->items[index];
        for (size_t i = 0; n->type == YAML_MAP && i < n->count && !next; i++)
            if (bytes_eq(n->keys[i]->text, part))
                next = n->items[i];
        n = next;
    }
    return n;
}

/* ---- what a reload cannot do ---- */

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static bool same_value(const struct conf_key *k, const void *a, const void *b);

static bool same_strings(const struct conf_strings *a, const struct conf_strings *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (!same_text(a->items[i], b->items[i]))
            return false;
    return true;
}

static bool same_tables(const struct conf_key *k, const struct conf_tables *a, const struct conf_tables *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++) {
        const char *x = (const char *)a->items + i * k->sub_bytes,
                   *y = (const char *)b->items + i * k->sub_bytes;
        for (const struct conf_key *sub = k->sub; sub->name; sub++)
            if (!same_value(sub, field_of(sub, x), field_of(sub, y)))
                return false;
    }
    return true;
}

static bool same_value(const struct conf_key *k, const void *a, const void *b)
{
    switch (k->type) {
    case CONF_BOOL: return *(const bool *)a == *(const bool *)b;
    case CONF_INT: return *(const int64_t *)a == *(const int64_t *)b;
    case CONF_DURATION:
    case CONF_SIZE: return *(const uint64_t *)a == *(const uint64_t *)b;
    case CONF_STRING:
    case CONF_PATH: return same_text(*(char *const *)a, *(char *const *)b);
    case CONF_WORD: return *(const int *)a == *(const int *)b;
    case CONF_STRINGS: return same_strings(a, b);
    case CONF_TABLES: return same_tables(k, a, b);
    }
    return false;
}

bool conf_needs_restart(const struct conf_key *keys, const void *before, const void *after, struct buf *out)
{
    bool any = false;

    for (const struct conf_key *k = keys; k->name; k++) {
        if (k->reload != CONF_RESTART || same_value(k, field_of(k, before), field_of(k, after)))
            continue;
        buf_putf(out, "%s%s", any ? ", " : "", k->name);
        any = true;
    }
    return any;
}
