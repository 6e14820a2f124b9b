/*
 * Inside of the policy document: the table of keys from which parser, checks, dump and reference come,
 * and the compiled snapshot.  For policy/policy_*.c only.
 */
#pragma once

#include "base/arena.h"
#include "base/hash.h"
#include "policy/policy.h"
#include "policy/policy_include.h"

/* A group while it is read: what one key says may have to wait for another. */
struct group_draft {
    struct group g;
    bool implicit_tls; /* route.implicit_tls, until the hosts are known */
    int route_word;    /* route: mx */
};

enum key_type {
    KEY_WORD, /* int-sized enum */
    KEY_BOOL,
    KEY_COUNT,     /* uint32_t */
    KEY_PORT,      /* uint16_t */
    KEY_RATE,      /* double */
    KEY_FREQUENCY, /* struct frequency, "30/m" */
    KEY_MS,        /* uint32_t milliseconds */
    KEY_SECONDS,   /* uint32_t seconds */
    KEY_PERCENT,   /* uint32_t, "10%" or "10" */
    KEY_TEXT,      /* char *, arena */
    KEY_PATH,      /* char *, arena; absolute */
    KEY_DOMAIN,    /* char *, arena; normalised */
    KEY_IPV4,      /* char *, arena */
    KEY_IPV6,
    KEY_SCHEDULE, /* struct retry_schedule: step_s and steps */
    KEY_HOSTS,    /* struct group: hosts, host_count */
    KEY_TIME,     /* uint32_t seconds of the day, or QUIET_UNSET */
    KEY_ZONE,     /* char *, arena: "Asia/Tokyo", "UTC", "+09:00" */
    KEY_NAME,     /* char *, arena: the name of the group */
    KEY_PATTERNS, /* list of domain patterns: into the matching tables */
    KEY_MX_PATTERNS,
    KEY_TLS_NAMES, /* struct group: tls_match and, where it is a list, tls_names */
    KEY_PINS,      /* struct group: tls_pins */
    KEY_REPLIES,   /* struct group: replies */
    KEY_POOL,      /* struct group: pool */
};

struct policy_key {
    const char *name; /* dotted: "limits.connections" stands in the map `limits` */
    enum key_type type;
    size_t offset;      /* in struct group_draft */
    const char *preset; /* as it would stand in the document; NULL: not set */
    double min, max;    /* in the field's own unit */
    const char *const *words;
    bool group_only;     /* not in `defaults` */
    const char *example; /* when the preset is none */
    const char *help;
};

#define POLICY_KEYS 128
extern const struct policy_key policy_keys[];
extern const size_t policy_key_count;
/* Row of a key that exists. */
size_t policy_key_index(const char *name);
/* "never, later or now" */
void policy_key_put_words(const struct policy_key *key, struct buf *out);

/* One entry of `match` or `mx`. */
struct pattern {
    struct bytes key;           /* normalised; a suffix keeps its leading dot */
    const char *text;           /* as written */
    const struct yaml_node *at; /* borrowed from the YAML tree: NULL once parsing has ended */
    uint32_t layer;             /* of the document that says so */
    uint32_t group;
    enum match_how how; /* MATCH_EXACT, MATCH_SUFFIX or MATCH_MX */
};

/* Exact names and suffixes share a map: a suffix begins with a dot, a name never does. */
struct policy {
    atomic_uint refs;
    uint64_t version;
    struct buf text;      /* owned */
    struct arena arena;   /* owned: names, strings, patterns */
    struct group *groups; /* owned */
    size_t count, cap;
    struct group *by_default;   /* one of groups */
    struct source_pool *pools;  /* arena */
    size_t pool_count;
    struct reply_rule *replies; /* of the whole document */
    size_t reply_count;
    struct map names;   /* struct group */
    struct map domains; /* struct pattern */
    struct map mx;      /* struct pattern */
    struct policy_include includes[POLICY_INCLUDES_MAX];
    size_t include_count;
};

/*
 * One parse.  Included files are layers: the first of them is read first, the document itself last, and what
 * a later one says stands before what an earlier one said.
 */
struct policy_reader {
    struct policy *policy; /* being built */
    struct yaml_errors *errors;
    struct group_draft *draft;
    uint32_t group; /* index of the group being read */
    uint32_t layer;
    const char *file;         /* of the layer; NULL: the document itself */
    const struct group *over; /* the group of an earlier layer that this one is laid over, or NULL */
    bool in_defaults;
    size_t patterns;                         /* of the group being read */
    const struct yaml_node *at[POLICY_KEYS]; /* where this group gives a key, by row; else NULL */
};

/* For "%.*s": as much of a text as a complaint shows, never half a character. */
#define SHOWN(text) policy_shown_len(text), (text).at

static inline int policy_shown_len(struct bytes text)
{
    size_t len = MIN_OF(text.len, (size_t)80);

    while (len > 0 && len < text.len && ((unsigned char)text.at[len] & 0xc0) == 0x80)
        len--;
    return (int)len;
}

/* policy_value.c: one value into the draft; false after a complaint. */
bool policy_value_read(struct policy_reader *r, const struct policy_key *key, const struct yaml_node *n);
bool policy_get_text(struct policy_reader *r, const struct yaml_node *n, const char *what, struct bytes *out);
bool policy_name_is_good(struct bytes name); /* of a group, or a pool */
/*
 * policy_check.c: what one key says about another; called when the keys of a group are read.  `group` NULL:
 * the group that is made because the document has no `default`.
 */
void policy_check_group(struct policy_reader *r, const struct yaml_node *group);

/* policy_include.c: the entries of `include`, each once; false after a complaint. */
bool policy_includes_read(const struct yaml_node *root, struct yaml_errors *errors,
                          const struct yaml_node *list[POLICY_INCLUDES_MAX], size_t *count);
/* policy_sources.c: the pools, before the groups; what a group calls one by; what is said when all is read.
 */
void policy_sources_read(struct policy_reader *r, const struct yaml_node *n);
bool policy_pool_read(struct policy_reader *r, const struct yaml_node *n);
void policy_sources_check(struct policy_reader *r, const struct yaml_node *n);
const struct source_pool *policy_pool_find(const struct policy *p, struct bytes name);
void policy_sources_reference(struct buf *out);

/* policy_dump.c */
void policy_put_scalar(struct buf *out, struct bytes text);
void policy_put_number(struct buf *out, double value);

/* policy_replies.c: a list of rules into the arena, and back; two lists into one. */
bool policy_replies_read(struct policy_reader *r, const struct yaml_node *n, bool in_group,
                         struct reply_rule **rules, size_t *count);
void policy_replies_join(struct arena *arena, struct reply_rule **rules, size_t *count,
                         const struct reply_rule *more, size_t more_count);
void policy_replies_fini(struct reply_rule *rules, size_t count); /* what lies outside of the arena */
void policy_replies_put(struct buf *out, const struct reply_rule *rules, size_t count);
