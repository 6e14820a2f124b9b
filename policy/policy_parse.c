/*
 * The document as a whole: `defaults` and `groups`, each group laid over a copy of the defaults, which
 * are laid over the presets of policy/policy_keys.c.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "policy/policy_priv.h"

#define DEFAULT_GROUP  "default"
#define CANDIDATES_MAX 24

/* Longest dotted key, with room to complain about one that nobody knows. */
struct key_path {
    char text[64];
};

static const struct policy_key *find_key(const char *name)
{
    for (size_t i = 0; i < policy_key_count; i++)
        if (strcmp(policy_keys[i].name, name) == 0)
            return &policy_keys[i];
    return NULL;
}

/* Is `name` a map of keys, like "limits"? */
static bool is_section(const char *name)
{
    size_t len = strlen(name);

    for (size_t i = 0; i < policy_key_count; i++)
        if (strncmp(policy_keys[i].name, name, len) == 0 && policy_keys[i].name[len] == '.')
            return true;
    return false;
}

/* The words that may stand below `prefix` ("" or "limits."), each once, into storage of the caller. */
static size_t list_candidates(const char *prefix, struct key_path words[CANDIDATES_MAX],
                              const char *list[CANDIDATES_MAX])
{
    size_t count = 0, len = strlen(prefix);

    for (size_t i = 0; i < policy_key_count && count < CANDIDATES_MAX; i++) {
        struct bytes word = bytes_of(policy_keys[i].name);

        if (strncmp(word.at, prefix, len) != 0)
            continue;
        word = bytes_skip(word, len);
        word = bytes_first(word, bytes_find(word, '.'));
        /* Rows of one section stand together, so a repeated word is the last one. */
        if (count > 0 && bytes_eq(word, bytes_of(list[count - 1])))
            continue;
        snprintf(words[count].text, sizeof(words[count].text), "%.*s", (int)word.len, word.at);
        list[count] = words[count].text;
        count++;
    }
    return count;
}

static void complain_unknown(struct yaml_errors *errors, const struct yaml_node *key, const char *prefix,
                             const char *const *list, size_t count)
{
    const char *meant = yaml_did_you_mean(key->text, list, count);

    yaml_error(errors, key, "unknown key '%s%.*s'%s%s%s", prefix, SHOWN(key->text),
               meant ? " (did you mean '" : "", meant ? meant : "", meant ? "'?)" : "");
}

static void read_keys(struct policy_reader *r, const struct yaml_node *map, const char *prefix);

/* A map under `route` is a route of its own: nothing of an inherited one stays. */
static void begin_route(struct policy_reader *r)
{
    struct group_draft *d = r->draft;

    d->g.route = ROUTE_SMARTHOST;
    d->g.hosts = NULL;
    d->g.host_count = 0;
    d->g.auth_user = d->g.auth_password_file = NULL;
    d->implicit_tls = false;
}

static void read_section(struct policy_reader *r, const char *name, const struct yaml_node *value)
{
    struct key_path prefix;

    if (value->type != YAML_MAP) {
        yaml_error(r->errors, value, "'%s' holds keys of its own: expected a map", name);
        return;
    }
    if (value->count == 0)
        yaml_error(r->errors, value, "'%s' is empty: remove it, or give it keys", name);
    if (strcmp(name, "route") == 0) {
        begin_route(r);
        r->at[policy_key_index("route")] = value;
    }
    snprintf(prefix.text, sizeof(prefix.text), "%s.", name);
    read_keys(r, value, prefix.text);
}

static void read_value(struct policy_reader *r, const struct policy_key *key, const struct yaml_node *at_key,
                       const struct yaml_node *value)
{
    if (r->in_defaults && key->group_only) {
        yaml_error(r->errors, at_key, "'%s' belongs to a group and cannot stand in 'defaults'", key->name);
        return;
    }
    r->at[key - policy_keys] = value;
    if (!policy_value_read(r, key, value))
        return;
    if (strcmp(key->name, "route") == 0) { /* route: mx */
        begin_route(r);
        r->draft->g.route = ROUTE_MX;
    }
}

static void read_keys(struct policy_reader *r, const struct yaml_node *map, const char *prefix)
{
    for (size_t i = 0; i < map->count; i++) {
        const struct yaml_node *at_key = map->keys[i], *value = map->items[i];
        struct key_path words[CANDIDATES_MAX], name = {""};
        const char *list[CANDIDATES_MAX];
        const struct policy_key *key = NULL;

        /* A key that is cut here is longer than any that exists; one with a dot would name a section's. */
        if (bytes_find(at_key->text, '.') == at_key->text.len) {
            snprintf(name.text, sizeof(name.text), "%s%s", prefix, at_key->text.at);
            key = find_key(name.text);
        }
        if (name.text[0] && is_section(name.text) && !(key && value->type == YAML_SCALAR))
            read_section(r, name.text, value);
        else if (key)
            read_value(r, key, at_key, value);
        else
            complain_unknown(r->errors, at_key, prefix, list, list_candidates(prefix, words, list));
    }
}

/* ---- groups ---- */

/* The presets, by the same readers as the document's own values. */
static void set_presets(struct policy_reader *r)
{
    for (size_t i = 0; i < policy_key_count; i++) {
        const struct policy_key *key = &policy_keys[i];
        struct yaml_errors none = {.name = key->name}, *errors = r->errors;
        struct yaml_doc *doc = NULL;

        if (!key->preset)
            continue;
        r->errors = &none;
        if (yaml_parse(bytes_of(key->preset), &doc, &none) != OK ||
            !policy_value_read(r, key, yaml_root(doc)))
            abort(); /* a mistake in the table */
        r->errors = errors;
        yaml_doc_destroy(doc);
        yaml_errors_fini(&none);
    }
    r->draft->g.route = ROUTE_MX;
}

static void keep_group(struct policy_reader *r, const struct group_draft *draft)
{
    struct policy *p = r->policy;
    struct group *g = &p->groups[p->count];

    *g = draft->g;
    g->index = (uint32_t)p->count++;
    if (g->name[0] == '\0')
        return; /* complained about */
    map_put(&p->names, bytes_of(g->name), g);
    if (strcmp(g->name, DEFAULT_GROUP) == 0)
        p->by_default = g;
}

static void read_group(struct policy_reader *r, const struct group_draft *defaults, const struct yaml_node *n)
{
    struct group_draft draft = *defaults;

    draft.g.line = n->line;
    draft.g.name = arena_strdup(&r->policy->arena, "");
    r->draft = &draft;
    r->group = (uint32_t)r->policy->count;
    r->patterns = 0;
    memset(r->at, 0, sizeof(r->at));
    if (n->type != YAML_MAP) {
        yaml_error(r->errors, n, "expected a group: a map that begins with 'name: …'");
    } else {
        read_keys(r, n, "");
        policy_check_group(r, n);
    }
    keep_group(r, &draft);
}

static void add_default_group(struct policy_reader *r, const struct group_draft *defaults)
{
    struct group_draft draft = *defaults;

    draft.g.name = arena_strdup(&r->policy->arena, DEFAULT_GROUP);
    r->draft = &draft;
    memset(r->at, 0, sizeof(r->at));
    policy_check_group(r, NULL);
    keep_group(r, &draft);
    yaml_notice(r->errors, NULL,
                "there is no group 'default': what no group matches follows 'defaults' and the presets");
}

static void read_groups(struct policy_reader *r, const struct group_draft *defaults,
                        const struct yaml_node *list)
{
    size_t count = list && list->type == YAML_LIST ? list->count : 0;

    if (list && list->type != YAML_LIST && !(list->type == YAML_SCALAR && list->text.len == 0))
        yaml_error(r->errors, list, "expected a list of groups: each begins with '- name: …'");
    /* All at once, because the maps point into it. */
    r->policy->groups = mem_zalloc((count + 1) * sizeof(struct group));
    for (size_t i = 0; i < count; i++)
        read_group(r, defaults, list->items[i]);
    if (!r->policy->by_default)
        add_default_group(r, defaults);
}

static void read_document(struct policy_reader *r, const struct yaml_node *root)
{
    static const char *const keys[] = {"defaults", "groups", "replies"};
    const struct yaml_node *defaults_map = yaml_find(root, "defaults");
    const struct yaml_node *replies = yaml_find(root, "replies");
    struct group_draft defaults = {0};

    if (root->type != YAML_MAP) {
        yaml_error(r->errors, root, "expected a map with 'groups' and, if wanted, 'defaults'");
        return;
    }
    for (size_t i = 0; i < root->count; i++)
        if (!bytes_eq(root->keys[i]->text, bytes_of(keys[0])) &&
            !bytes_eq(root->keys[i]->text, bytes_of(keys[1])) &&
            !bytes_eq(root->keys[i]->text, bytes_of(keys[2])))
            complain_unknown(r->errors, root->keys[i], "", keys, COUNT_OF(keys));
    r->draft = &defaults;
    set_presets(r);
    if (defaults_map && defaults_map->type == YAML_MAP) {
        r->in_defaults = true;
        read_keys(r, defaults_map, "");
        policy_check_group(r, defaults_map);
        r->in_defaults = false;
    } else if (defaults_map && !(defaults_map->type == YAML_SCALAR && defaults_map->text.len == 0)) {
        yaml_error(r->errors, defaults_map, "'defaults' holds keys of its own: expected a map");
    }
    read_groups(r, &defaults, yaml_find(root, "groups"));
    if (replies)
        (void)policy_replies_read(r, replies, false, &r->policy->replies, &r->policy->reply_count);
}

/* The tree of the document is about to go. */
static void forget_nodes(struct map *patterns)
{
    struct pattern *p;

    for (size_t at = 0; (p = map_next(patterns, &at)) != NULL;)
        p->at = NULL;
}

enum err policy_parse(const char *name, struct bytes text, uint64_t version, struct policy **out,
                      struct yaml_errors *errors)
{
    size_t errors_before = errors->errors;
    struct policy *p = NULL;
    struct yaml_doc *doc = NULL;

    if (!errors->name)
        errors->name = name;
    if (yaml_parse(text, &doc, errors) != OK)
        return ERR_INVALID;
    p = MEM_NEW(struct policy);
    atomic_init(&p->refs, 1);
    p->version = version;
    buf_put(&p->text, text);
    struct policy_reader r = {.policy = p, .errors = errors};
    read_document(&r, yaml_root(doc));
    forget_nodes(&p->domains);
    forget_nodes(&p->mx);
    yaml_doc_destroy(doc);
    yaml_errors_sort(errors);
    if (errors->errors > errors_before) {
        policy_unref(p);
        return ERR_INVALID;
    }
    *out = p;
    return OK;
}
