/*
 * A policy document that includes others is stored as one text: the document as its author wrote it, then
 * each included file behind a line of its own,
 *
 *     include: [receivers]
 *     groups: [...]
 *     --- # included: receivers /usr/share/hayauma/receivers.yaml
 *     date: 2026-11-22
 *     groups: [...]
 *
 * so that a version means the same for ever, whatever becomes of the file.  In YAML such a line ends a
 * document wherever it stands, so it can be found without parsing.  Pure; any thread.
 */
#pragma once

#include "base/arena.h"
#include "base/yaml.h"

#define POLICY_INCLUDES_MAX 16

struct policy_part {
    struct bytes name, file; /* as in the line before it; empty for the document itself */
    struct bytes text;       /* without that line */
    uint32_t line;           /* on which that line stands in the whole text; 0 for the document itself */
};

/* The document (parts[0]) and what follows it; parts of one more than POLICY_INCLUDES_MAX are counted, not
 * kept. */
size_t policy_split(struct bytes text, struct policy_part parts[POLICY_INCLUDES_MAX + 1]);
/* The document without what follows it. */
struct bytes policy_own_text(struct bytes text);
/* Is there such a line in it? */
bool policy_has_parts(struct bytes text);
/* Appends an included file to a document. */
void policy_put_part(struct buf *document, const char *name, const char *file, struct bytes text);

/* May this stand in `include`?  A name of letters, digits, '-', '_' and '.', or an absolute path of these. */
bool policy_include_is_name(struct bytes text);
#define POLICY_DATE_BYTES 11
/* The `date` of a document, "2026-11-22"; "" where there is none. */
void policy_date(struct bytes text, char date[POLICY_DATE_BYTES]);
bool policy_is_date(struct bytes text);

/* An entry of `include` without a part. */
struct policy_missing {
    const char *name;
    uint32_t line, column;
};
/*
 * Those of `text` in their order, names in the arena.  ERR_INVALID with complaints when the document is no
 * YAML, or the list is no list of names.
 */
MUST_CHECK enum err policy_missing_includes(const char *name, struct bytes text, struct arena *arena,
                                            struct policy_missing missing[POLICY_INCLUDES_MAX], size_t *count,
                                            struct yaml_errors *errors);
