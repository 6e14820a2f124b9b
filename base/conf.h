/*
 * A configuration file as one typed table: from it come the parser, the checks, the reload rule, the
 * dump (--defaults), the manual's reference and the API schema.  The file is YAML (base/yaml.h); a key "tls.certificate"
 * stands in the map `tls`.
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
    CONF_STRING,   /* char *, owned; preset NULL: not set */
    CONF_PATH,     /* as string; relative to the folder of the file */
    CONF_WORD,     /* int; `words` is the NULL-ended list */
    CONF_STRINGS,  /* struct conf_strings */
    CONF_TABLES,   /* struct conf_tables: a list of maps, each by the table `sub` */
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

/* Sets every field to its preset. */
void conf_defaults(const struct conf_key *keys, void *into);
/* Reads `text`; all complaints go to `errors` (unknown keys with "did you mean").  `into` has presets for what is missing. */
MUST_CHECK enum err conf_parse(const struct conf_key *keys, const char *file, struct bytes text, void *into,
                               struct yaml_errors *errors);
void conf_fini(const struct conf_key *keys, void *into);
/* The names of RESTART keys whose values differ, comma-separated, appended to `out`; true when there are any. */
bool conf_needs_restart(const struct conf_key *keys, const void *before, const void *after, struct buf *out);
/* A commented YAML file with all presets. */
void conf_dump_defaults(const struct conf_key *keys, struct buf *out);
/* Markdown reference: one section a key. */
void conf_reference(const struct conf_key *keys, struct buf *out);
/* JSON Schema of the file. */
void conf_schema(const struct conf_key *keys, struct buf *out);
