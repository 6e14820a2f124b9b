#include "base/yaml.h"

#include <stdlib.h>
#include <yaml.h>

#include "base/arena.h"
#include "base/hash.h"
#include "base/mem.h"

#define TEXT_MAX       ((size_t)4 << 20)
#define DEPTH_MAX      20
#define NODES_MAX      200000
#define COMPLAINTS_MAX 100

struct yaml_doc {
    struct arena arena; /* every node and text */
    struct yaml_node *root;
};

/* One parse.  `fatal` ends it; other complaints are collected and the walk goes on. */
struct walk {
    yaml_parser_t libyaml;
    yaml_event_t event; /* the one being looked at */
    struct arena *arena;
    struct yaml_errors *errors;
    struct bytes text;
    struct yaml_node **stack; /* owned: children of all open lists and maps, keys and values in turn */
    size_t stacked, stack_cap;
    size_t nodes;
    bool fatal;   /* the rest cannot be read */
    bool refused; /* it can, but not as it is meant */
};

/* ---- complaints ---- */

void yaml_errors_fini(struct yaml_errors *e)
{
    for (size_t i = 0; i < e->count; i++) {
        mem_free(e->items[i].text);
        mem_free(e->items[i].file);
    }
    mem_free(e->items);
    *e = (struct yaml_errors){.name = e->name};
}

static void add_item(struct yaml_errors *e, uint32_t line, uint32_t column, bool is_notice, char *text)
{
    if ((e->count & (e->count - 1)) == 0) /* full at each power of two */
        e->items = mem_realloc(e->items, MAX_OF(e->count * 2, (size_t)1) * sizeof(*e->items));
    e->items[e->count++] = (struct yaml_error){.line = line,
                                               .column = column,
                                               .is_notice = is_notice,
                                               .text = text,
                                               .part = e->part,
                                               .file = e->part && e->name ? mem_strdup(e->name) : NULL};
}

static void complain(struct yaml_errors *e, uint32_t line, uint32_t column, bool is_notice,
                     const char *format, va_list ap)
{
    struct buf text = {0};

    e->errors += !is_notice;
    if (e->count > COMPLAINTS_MAX)
        return;
    buf_puts(&text, e->name ? e->name : "yaml");
    if (e->count == COMPLAINTS_MAX) {
        buf_puts(&text, ": there is more; mend these first");
        add_item(e, 0, 0, true, buf_take(&text));
        return;
    }
    if (line)
        buf_putf(&text, ":%u:%u", line, column);
    buf_puts(&text, is_notice ? ": note: " : ": ");
    buf_putv(&text, format, ap);
    for (size_t i = 0; i < text.len; i++) /* keys and values are quoted in it: one complaint stays one line */
        if ((unsigned char)text.at[i] < ' ' || text.at[i] == 0x7f)
            text.at[i] = '?';
    add_item(e, line, column, is_notice, buf_take(&text));
}

static void PRINTF_LIKE(4, 5)
    complain_at(struct yaml_errors *e, uint32_t line, uint32_t column, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    complain(e, line, column, false, format, ap);
    va_end(ap);
}

void yaml_error(struct yaml_errors *e, const struct yaml_node *at, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    complain(e, at ? at->line : 0, at ? at->column : 0, false, format, ap);
    va_end(ap);
}

void yaml_notice(struct yaml_errors *e, const struct yaml_node *at, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    complain(e, at ? at->line : 0, at ? at->column : 0, true, format, ap);
    va_end(ap);
}

void yaml_errors_append(struct yaml_errors *into, struct yaml_errors *from)
{
    uint32_t behind = 0;

    for (size_t i = 0; i < into->count; i++)
        behind = MAX_OF(behind, into->items[i].part);
    for (size_t i = 0; i < from->count && into->count < COMPLAINTS_MAX; i++) {
        struct yaml_error *item = &from->items[i];
        add_item(into, item->line, item->column, item->is_notice, TAKE(item->text));
        into->items[into->count - 1].part = behind + 1 + item->part;
    }
    into->errors += from->errors;
    yaml_errors_fini(from);
}

static bool stands_after(const struct yaml_error *a, const struct yaml_error *b)
{
    if (a->part != b->part)
        return a->part > b->part;
    return a->line != b->line ? a->line > b->line : a->column > b->column;
}

void yaml_errors_sort(struct yaml_errors *e)
{
    /* Insertion keeps the order of those at one place, and there are few.  "There is more" stays last. */
    size_t count = MIN_OF(e->count, (size_t)COMPLAINTS_MAX);

    for (size_t i = 1; i < count; i++) {
        struct yaml_error item = e->items[i];
        size_t at = i;
        for (; at > 0 && stands_after(&e->items[at - 1], &item); at--)
            e->items[at] = e->items[at - 1];
        e->items[at] = item;
    }
}

/* ---- the walk over libyaml's events ---- */

static uint32_t line_of(const yaml_mark_t *mark)
{
    return (uint32_t)mark->line + 1;
}

static uint32_t column_of(const yaml_mark_t *mark)
{
    return (uint32_t)mark->column + 1;
}

static void PRINTF_LIKE(2, 3) refuse(struct walk *w, const char *format, ...)
{
    const yaml_mark_t *mark = &w->event.start_mark;
    va_list ap;

    va_start(ap, format);
    complain(w->errors, line_of(mark), column_of(mark), false, format, ap);
    va_end(ap);
    w->refused = true;
}

/* An octet that is no text: libyaml gives its offset, not its line. */
static void refuse_octet(struct walk *w)
{
    uint32_t line = 1, column = 1;
    size_t offset = MIN_OF(w->libyaml.problem_offset, w->text.len);

    for (size_t i = 0; i < offset; i++) {
        column = w->text.at[i] == '\n' ? 1 : column + 1;
        line += w->text.at[i] == '\n';
    }
    complain_at(w->errors, line, column, "%s (the file must be plain UTF-8 text)", w->libyaml.problem);
}

static void refuse_syntax(struct walk *w)
{
    const yaml_parser_t *y = &w->libyaml;
    const char *problem = y->problem ? y->problem : "not readable as YAML";

    if (y->error == YAML_MEMORY_ERROR)
        abort(); /* as base/mem.h does */
    if (y->error == YAML_READER_ERROR)
        refuse_octet(w);
    else if (y->context)
        complain_at(w->errors, line_of(&y->problem_mark), column_of(&y->problem_mark),
                    "%s, %s that begins in line %u", problem, y->context, line_of(&y->context_mark));
    else
        complain_at(w->errors, line_of(&y->problem_mark), column_of(&y->problem_mark), "%s", problem);
}

/* The next event is in w->event; false after a complaint that ends the parse. */
static bool advance(struct walk *w)
{
    yaml_event_delete(&w->event);
    if (yaml_parser_parse(&w->libyaml, &w->event))
        return true;
    w->event = (yaml_event_t){0};
    refuse_syntax(w);
    w->fatal = true;
    return false;
}

static void push(struct walk *w, struct yaml_node *node)
{
    if (w->stacked == w->stack_cap) {
        w->stack_cap = MAX_OF(w->stack_cap * 2, (size_t)64);
        w->stack = mem_realloc(w->stack, w->stack_cap * sizeof(struct yaml_node *));
    }
    w->stack[w->stacked++] = node;
}

static struct yaml_node *new_node(struct walk *w, enum yaml_type type)
{
    struct yaml_node *node = ARENA_NEW(w->arena, struct yaml_node);

    node->type = type;
    node->line = line_of(&w->event.start_mark);
    node->column = column_of(&w->event.start_mark);
    node->text = BYTES("");
    return node;
}

static void check_plain(struct walk *w, const yaml_char_t *anchor, const yaml_char_t *tag)
{
    if (anchor)
        refuse(w, "anchors (&name) are not used here: write the value out");
    if (tag)
        refuse(w, "tags (!type) are not used here: remove it, or put the text in quotes");
}

static struct yaml_node *read_scalar(struct walk *w)
{
    struct yaml_node *node = new_node(w, YAML_SCALAR);
    struct bytes text = bytes_make(w->event.data.scalar.value, w->event.data.scalar.length);

    check_plain(w, w->event.data.scalar.anchor, w->event.data.scalar.tag);
    if (bytes_find(text, '\0') < text.len)
        refuse(w, "the text contains a NUL character");
    node->text = bytes_make(arena_dup(w->arena, text), text.len);
    node->quoted = w->event.data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    return node;
}

static struct yaml_node *read_node(struct walk *w, unsigned depth);

static bool read_children(struct walk *w, yaml_event_type_t end, unsigned depth)
{
    while (advance(w) && w->event.type != end) {
        struct yaml_node *child = read_node(w, depth + 1);
        if (!child)
            return false;
        push(w, child);
    }
    return !w->fatal;
}

static struct yaml_node *read_list(struct walk *w, unsigned depth)
{
    struct yaml_node *list = new_node(w, YAML_LIST);
    size_t base = w->stacked;

    check_plain(w, w->event.data.sequence_start.anchor, w->event.data.sequence_start.tag);
    if (!read_children(w, YAML_SEQUENCE_END_EVENT, depth))
        return NULL;
    list->count = w->stacked - base;
    list->items = arena_alloc(w->arena, list->count * sizeof(*list->items));
    if (list->count)
        memcpy(list->items, w->stack + base, list->count * sizeof(*list->items));
    w->stacked = base;
    return list;
}

/* Leaves the keys that are words, each once. */
static void check_keys(struct walk *w, struct yaml_node *map)
{
    struct map seen = {0};
    size_t kept = 0;

    for (size_t i = 0; i < map->count; i++) {
        struct yaml_node *key = map->keys[i];
        if (key->type != YAML_SCALAR) {
            complain_at(w->errors, key->line, key->column, "a key must be a word, not a list or a map");
            continue;
        }
        const struct yaml_node *first = map_find(&seen, key->text);
        if (first) {
            complain_at(w->errors, key->line, key->column, "key '%.60s' stands twice: first in line %u",
                        key->text.at, first->line);
            continue;
        }
        map_put(&seen, key->text, key);
        map->keys[kept] = key;
        map->items[kept++] = map->items[i];
    }
    map->count = kept;
    map_fini(&seen);
}

static struct yaml_node *read_map(struct walk *w, unsigned depth)
{
    struct yaml_node *map = new_node(w, YAML_MAP);
    size_t base = w->stacked;

    check_plain(w, w->event.data.mapping_start.anchor, w->event.data.mapping_start.tag);
    if (!read_children(w, YAML_MAPPING_END_EVENT, depth))
        return NULL;
    map->count = (w->stacked - base) / 2; /* libyaml gives a value for every key */
    map->keys = arena_alloc(w->arena, map->count * sizeof(*map->keys));
    map->items = arena_alloc(w->arena, map->count * sizeof(*map->items));
    for (size_t i = 0; i < map->count; i++) {
        map->keys[i] = w->stack[base + 2 * i];
        map->items[i] = w->stack[base + 2 * i + 1];
    }
    w->stacked = base;
    check_keys(w, map);
    return map;
}

/* Reads the node that begins with the current event; NULL after a complaint that ends the parse. */
static struct yaml_node *read_node(struct walk *w, unsigned depth)
{
    if (depth > DEPTH_MAX || ++w->nodes > NODES_MAX) {
        if (depth > DEPTH_MAX)
            refuse(w, "nested more than %d levels deep", DEPTH_MAX);
        else
            refuse(w, "more than %d values", NODES_MAX);
        w->fatal = true;
        return NULL;
    }
    switch (w->event.type) {
    case YAML_SCALAR_EVENT: return read_scalar(w);
    case YAML_SEQUENCE_START_EVENT: return read_list(w, depth);
    case YAML_MAPPING_START_EVENT: return read_map(w, depth);
    default: /* an alias: nothing else can stand here */
        refuse(w, "aliases (*name) are not used here: write the value out");
        return new_node(w, YAML_SCALAR);
    }
}

static bool is_nothing(const struct yaml_node *n)
{
    return n->type == YAML_SCALAR && !n->quoted && n->text.len == 0;
}

static struct yaml_node *read_document(struct walk *w)
{
    struct yaml_node *root;

    if (!advance(w) || !advance(w)) /* the stream's start; the document's start or the stream's end */
        return NULL;
    if (w->event.type == YAML_STREAM_END_EVENT)
        return new_node(w, YAML_MAP);
    if (w->event.data.document_start.version_directive ||
        w->event.data.document_start.tag_directives.start != w->event.data.document_start.tag_directives.end)
        refuse(w, "directives (%%…) are not used here: remove the line");
    if (!advance(w) || !(root = read_node(w, 1)))
        return NULL;
    if (!advance(w) || !advance(w)) /* the document's end, the stream's end */
        return NULL;
    if (w->event.type != YAML_STREAM_END_EVENT)
        refuse(w, "a second document (---) begins here: one file holds one");
    if (is_nothing(root))
        root->type = YAML_MAP;
    return root;
}

enum err yaml_read(struct bytes text, struct yaml_doc **out, struct yaml_errors *errors)
{
    struct arena arena = {0};
    struct walk w = {.arena = &arena, .errors = errors, .text = text};

    if (text.len > TEXT_MAX) {
        yaml_error(errors, NULL, "larger than %zu MiB", TEXT_MAX >> 20);
        return ERR_INVALID;
    }
    if (!yaml_parser_initialize(&w.libyaml))
        abort(); /* out of memory, as base/mem.h */
    yaml_parser_set_encoding(&w.libyaml, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&w.libyaml, (const unsigned char *)(text.len ? text.at : ""), text.len);
    struct yaml_node *root = read_document(&w);
    yaml_event_delete(&w.event);
    yaml_parser_delete(&w.libyaml);
    mem_free(w.stack);
    if (!root || w.fatal || w.refused) {
        arena_fini(&arena);
        return ERR_INVALID;
    }
    struct yaml_doc *doc = MEM_NEW(struct yaml_doc);
    doc->arena = arena;
    doc->root = root;
    *out = doc;
    return OK;
}

enum err yaml_parse(struct bytes text, struct yaml_doc **out, struct yaml_errors *errors)
{
    size_t errors_before = errors->errors;
    struct yaml_doc *doc = NULL;
    enum err e = yaml_read(text, &doc, errors);

    if (!e && errors->errors > errors_before) {
        yaml_doc_destroy(doc);
        return ERR_INVALID;
    }
    if (!e)
        *out = doc;
    return e;
}

void yaml_doc_destroy(struct yaml_doc *doc)
{
    if (!doc)
        return;
    arena_fini(&doc->arena);
    mem_free(doc);
}

const struct yaml_node *yaml_root(const struct yaml_doc *doc)
{
    return doc->root;
}

bool yaml_is_nothing(const struct yaml_node *n)
{
    return n->type == YAML_SCALAR && !n->quoted && n->text.len == 0;
}

const struct yaml_node *yaml_find(const struct yaml_node *map, const char *key)
{
    struct bytes wanted = bytes_of(key);

    for (size_t i = 0; map->type == YAML_MAP && i < map->count; i++)
        if (bytes_eq(map->keys[i]->text, wanted))
            return map->items[i];
    return NULL;
}
