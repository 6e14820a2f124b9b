/*
 * A configuration file as one typed table: from it come the parser, the checks, the reload rule, the
 * dump (--defaults), the manual's reference and the API schema.  The file is YAML (base/yaml.h); a key "tls.certificate"
 * stands in the map `tls`.
 *
 * A preset or value of NULL, and "" in the file, mean "not set" for texts and paths.  Lists have no presets.
 *
 * Thread: parsing is pure; a loaded struct is immutable.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/yaml.h"

enum conf_type {
    CONF_BOOL,     /* bool */
    CONF_INT,      /* int64_t; min and max as decimal text */
    CONF_DURATION, /* uint64_t milliseconds; preset, min, max like "5m" */
    CONF_SIZE,     /* uint64_t octets; "50M" */
    CONF_STRING,   /* char *, owned; no control characters; max: octets; with `words`: one of them */
    CONF_PATH,     /* as string; relative to the folder of the file */
    CONF_WORD,     /* int; `words` is the NULL-ended list */
    CONF_STRINGS,  /* struct conf_strings; max: items */
    CONF_TABLES,   /* struct conf_tables: a list of maps, each by the table `sub`; max: items */
};
enum conf_reload {
    CONF_LIVE,    /* SIGHUP applies it */
    CONF_RESTART, /* SIGHUP reports that a restart is needed */
};

struct conf_strings { char **items; size_t count; };
struct conf_tables { void *items; size_t count; }; /* array of structs of sub_bytes each */

struct conf_key {
    const char *name;
    enum conf_type type;
    size_t offset;       /* of the field in the struct */
    const char *preset, *min, *max;
    enum conf_reload reload;
    const char *help;    /* sentences; RFC section where one rules */
    const char *const *words;
    const struct conf_key *sub; /* CONF_TABLES; ends with name NULL */
    size_t sub_bytes;
    bool required;       /* in a CONF_TABLES entry: must be given */
};
/* Tables end with an entry whose name is NULL. */

/* Sets every field to its preset.  What `into` held is not freed. */
void conf_defaults(const struct conf_key *keys, void *into);
/*
 * Reads `text`; all complaints go to `errors` (unknown keys with "did you mean").  `into` comes empty and has presets
 * for what is missing; it is empty again on ERR_INVALID.
 */
MUST_CHECK enum err conf_parse(const struct conf_key *keys, const char *file, struct bytes text, void *into,
                               struct yaml_errors *errors);
/*
 * The second half of conf_parse, for callers that go on to check one value against another: reads the tree
 * `root` into a struct that conf_defaults has filled.  What is wrong keeps its preset and is in `errors`.
 */
void conf_read(const struct conf_key *keys, const char *file, const struct yaml_node *root, void *into,
               struct yaml_errors *errors);
/* The node of "tls.certificate" or "listeners.0.address" in the tree, or NULL when the file does not give it. */
const struct yaml_node *conf_where(const struct yaml_node *root, const char *path);
void conf_fini(const struct conf_key *keys, void *into); /* frees what it owns; the pointers are NULL */
/* The names of RESTART keys whose values differ, comma-separated, appended to `out`; true when there are any. */
bool conf_needs_restart(const struct conf_key *keys, const void *before, const void *after, struct buf *out);
/* A commented YAML file with all presets. */
void conf_dump_defaults(const struct conf_key *keys, struct buf *out);
/* Markdown reference: one section a key. */
void conf_reference(const struct conf_key *keys, struct buf *out);
/* The keys as paragraphs of a manual page (troff with the man macros). */
void conf_manual(const struct conf_key *keys, struct buf *out);
/* JSON Schema of the file. */
void conf_schema(const struct conf_key *keys, struct buf *out);
