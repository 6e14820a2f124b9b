/*
 * YAML documents as trees of text with positions, strict: no aliases, anchors, tags, duplicate keys,
 * no second document; capped depth and size.  Scalars stay text: the schema types them, so that "no"
 * is never a surprise.  Built on libyaml.  Pure apart from memory; any thread.
 *
 * Caps: 20 levels, 4 MiB, 200,000 nodes, 100 complaints (what follows is counted, not kept).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"

enum yaml_type { YAML_SCALAR, YAML_LIST, YAML_MAP };

struct yaml_node {
    enum yaml_type type;
    uint32_t line, column; /* 1-based */
    struct bytes text;     /* YAML_SCALAR; NUL follows */
    bool quoted;           /* YAML_SCALAR: stood in quotes ("" is then not "nothing") */
    size_t count;
    struct yaml_node **items; /* YAML_LIST and YAML_MAP values */
    struct yaml_node **keys;  /* YAML_MAP: scalars, same order */
};

struct yaml_doc;

/* Collected complaints: "FILE:LINE:COLUMN: text". */
struct yaml_error {
    uint32_t line, column;
    bool is_notice; /* worth knowing, not an error */
    char *text;     /* owned, with file:line:column in front */
    uint32_t part;  /* as in yaml_errors */
    char *file;     /* owned; NULL: the document itself, else the name of the part */
};
struct yaml_errors {
    const char *name; /* file or document name; borrowed */
    uint32_t part;    /* 0: the document itself; else `name` is that of a file which it includes */
    struct yaml_error *items;
    size_t count, errors; /* kept ones of both kinds; errors found, kept or not */
};
void yaml_errors_fini(struct yaml_errors *e);
/* `at` NULL: the whole file, no line. */
void yaml_error(struct yaml_errors *e, const struct yaml_node *at, const char *format, ...) PRINTF_LIKE(3, 4);
void yaml_notice(struct yaml_errors *e, const struct yaml_node *at, const char *format, ...)
    PRINTF_LIKE(3, 4);
/* All of `from`, about another file, behind those of `into`; `from` is empty then. */
void yaml_errors_append(struct yaml_errors *into, struct yaml_errors *from);
void yaml_errors_sort(
    struct yaml_errors *e); /* by part, then by position; those about the whole file first */

/* ERR_INVALID with the complaint in `errors`. An empty document gives an empty map. */
MUST_CHECK enum err yaml_parse(struct bytes text, struct yaml_doc **out, struct yaml_errors *errors);
/*
 * As yaml_parse, for who wants to name every mistake at once: OK whenever there is a tree to look at,
 * although `errors` may have grown.  Of a key that stands twice the tree has the first; one that is no word
 * is left out.
 */
MUST_CHECK enum err yaml_read(struct bytes text, struct yaml_doc **out, struct yaml_errors *errors);
void yaml_doc_destroy(struct yaml_doc *doc);
const struct yaml_node *yaml_root(const struct yaml_doc *doc);                   /* borrowed */
const struct yaml_node *yaml_find(const struct yaml_node *map, const char *key); /* or NULL */

/* `key:` or `-` with nothing behind it: whatever stood there is commented out.  `""` is a text. */
bool yaml_is_nothing(const struct yaml_node *n);

/* The candidate nearest to `word` if it is near enough to be meant, else NULL. */
const char *yaml_did_you_mean(struct bytes word, const char *const *candidates, size_t count);

/*
 * Typed reading of one scalar.  Each returns false after yaml_error() named what would be right.
 * Durations: "90", "90s", "5m", "2h", "5d", "250ms" → milliseconds.  Sizes: "64k", "50M", "1G" (1024) →
 * bytes.
 */
bool yaml_get_bool(const struct yaml_node *n, bool *out,
                   struct yaml_errors *e); /* true|false|yes|no|on|off */
bool yaml_get_int(const struct yaml_node *n, int64_t min, int64_t max, int64_t *out, struct yaml_errors *e);
bool yaml_get_double(const struct yaml_node *n, double min, double max, double *out, struct yaml_errors *e);
bool yaml_get_duration_ms(const struct yaml_node *n, uint64_t min, uint64_t max, uint64_t *out,
                          struct yaml_errors *e);
bool yaml_get_size(const struct yaml_node *n, uint64_t min, uint64_t max, uint64_t *out,
                   struct yaml_errors *e);
/* Index of the scalar in `words`, whose case counts. */
bool yaml_get_word(const struct yaml_node *n, const char *const *words, size_t count, int *out,
                   struct yaml_errors *e);
/* Like the getters, for plain text; false: not of that form, or too large for 64 bits. */
bool yaml_parse_duration_ms(struct bytes text, uint64_t *out);
bool yaml_parse_size(struct bytes text, uint64_t *out);
/* The shortest text that reads back as the same value: "90s", "5m", "64M"; appended. */
void yaml_put_duration_ms(struct buf *out, uint64_t ms);
void yaml_put_size(struct buf *out, uint64_t size_bytes);
