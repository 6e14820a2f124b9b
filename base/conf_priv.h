/* What conf.c and conf_print.c share: a table's names seen as a tree. */
#pragma once

#include "base/conf.h"

/* One name below `prefix` ("" or "tls."): a key, or a group of keys. */
struct conf_part {
    struct bytes name;          /* "certificate", or "tls" for a group; borrowed from the table */
    const struct conf_key *key; /* NULL: a group */
};
/* Walks the names below `prefix`, groups once: start with *at = 0; false at the end. */
bool conf_next_part(const struct conf_key *keys, struct bytes prefix, size_t *at, struct conf_part *out);

#define CONF_TEXT_MAX  1000 /* octets of a text or path, items of a list, where the table has no maximum */
#define CONF_ITEMS_MAX 1000
