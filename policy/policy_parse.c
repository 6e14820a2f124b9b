/*
 * The document as a whole: `defaults` and `groups`, each group laid over a copy of the defaults, which
 * are laid over the presets of policy/policy_keys.c; or over the group of the same name in a file that it
 * includes, which was laid over the same defaults.
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

/* Quiet hours that are inherited stay, but for the keys that are given. */
static void begin_quiet(struct policy_reader *r, const struct yaml_node *value)
{
    r->draft->g.quiet.on = 1;
    r->at[policy_key_index("quiet_hours")] = value;
}

static void read_section(struct policy_reader *r, const char *name, const struct yaml_node *value)
{
    struct key_path prefix;

    if (yaml_is_nothing(value) || (value->type == YAML_MAP && value->count == 0))
        return; /* nothing of its own: as if it did not stand there, so it switches nothing on either */
    if (value->type != YAML_MAP) {
        yaml_error(r->errors, value, "'%s' holds keys of its own: expected a map", name);
        return;
    }
    if (strcmp(name, "route") == 0) {
        begin_route(r);
        r->at[policy_key_index("route")] = value;
    }
    if (strcmp(name, "adaptive") == 0)
        r->draft->g.adaptive.mode = ADAPTIVE_ON;
    if (strcmp(name, "quiet_hours") == 0)
        begin_quiet(r, value);
    snprintf(prefix.text, sizeof(prefix.text), "%s.", name);
    read_keys(r, value, prefix.text);
}

/* May its list be empty, so that it may also stand without one? */
static bool takes_no_items(const struct policy_key *key)
{
    return key->type == KEY_PATTERNS || key->type == KEY_MX_PATTERNS || key->type == KEY_REPLIES;
}

static void read_value(struct policy_reader *r, const struct policy_key *key, const struct yaml_node *at_key,
                       const struct yaml_node *value)
{
    if (r->in_defaults && key->group_only) {
        yaml_error(r->errors, at_key, "'%s' belongs to a group and cannot stand in 'defaults'", key->name);
        return;
    }
    if (takes_no_items(key) && yaml_is_nothing(value))
        return; /* unlike `[]`, which takes away what an included file has */
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
        bool word = key && value->type == YAML_SCALAR && !yaml_is_nothing(value); /* route: mx */
        if (name.text[0] && is_section(name.text) && !word)
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
    r->draft->g.quiet.from_s = r->draft->g.quiet.to_s = QUIET_UNSET;
}

static void keep_group(struct policy_reader *r, const struct group_draft *draft)
{
    struct policy *p = r->policy;
    struct group *g = &p->groups[r->group];

    *g = draft->g;
    g->index = r->group;
    if (r->group == p->count)
        p->count++;
    if (g->name[0] == '\0')
        return; /* complained about */
    map_put(&p->names, bytes_of(g->name), g);
    if (strcmp(g->name, DEFAULT_GROUP) == 0)
        p->by_default = g;
}

/* The group of that name of an earlier layer. */
static const struct group *find_base(const struct policy_reader *r, const struct yaml_node *n)
{
    const struct yaml_node *name = n->type == YAML_MAP ? yaml_find(n, "name") : NULL;
    const struct group *base =
        name && name->type == YAML_SCALAR ? map_find(&r->policy->names, name->text) : NULL;

    /* One of this layer has the layer's file, or lies over one and is complained about as the second of its
     * name. */
    return base && base->file != r->file ? base : NULL;
}

static struct group_draft draft_over(const struct group *base)
{
    struct group_draft draft = {.g = *base,
                                .implicit_tls = base->host_count > 0 && base->hosts[0].implicit_tls};

    draft.g.base_file = base->file;
    draft.g.base_line = base->line;
    return draft;
}

/* Its own rules are asked first; an empty list takes those of the other away. */
static void join_replies(struct policy_reader *r, struct group *g)
{
    const struct group *base = r->over;

    if (g->replies == base->replies)
        return;
    if (g->reply_count)
        policy_replies_join(&r->policy->arena, &g->replies, &g->reply_count, base->replies,
                            base->reply_count);
    else
        policy_replies_fini(base->replies, base->reply_count);
}

static void read_group(struct policy_reader *r, const struct group_draft *defaults, const struct yaml_node *n)
{
    const struct group *base = find_base(r, n);
    struct group_draft draft = base ? draft_over(base) : *defaults;

    draft.g.line = n->line;
    draft.g.file = r->file;
    if (!base)
        draft.g.name = arena_strdup(&r->policy->arena, "");
    r->draft = &draft;
    r->over = base;
    r->group = base ? base->index : (uint32_t)r->policy->count;
    r->patterns = 0;
    memset(r->at, 0, sizeof(r->at));
    if (n->type != YAML_MAP) {
        yaml_error(r->errors, n, "expected a group: a map that begins with 'name: …'");
    } else {
        read_keys(r, n, "");
        policy_check_group(r, n);
    }
    if (base)
        join_replies(r, &draft.g);
    keep_group(r, &draft);
    r->over = NULL;
}

static void add_default_group(struct policy_reader *r, const struct group_draft *defaults)
{
    struct group_draft draft = *defaults;

    draft.g.name = arena_strdup(&r->policy->arena, DEFAULT_GROUP);
    r->draft = &draft;
    r->group = (uint32_t)r->policy->count;
    memset(r->at, 0, sizeof(r->at));
    policy_check_group(r, NULL);
    keep_group(r, &draft);
    yaml_notice(r->errors, NULL,
                "there is no group 'default': what no group matches follows 'defaults' and the presets");
}

static size_t count_groups(const struct yaml_node *root)
{
    const struct yaml_node *list = root->type == YAML_MAP ? yaml_find(root, "groups") : NULL;

    return list && list->type == YAML_LIST ? list->count : 0;
}

static void read_groups(struct policy_reader *r, const struct group_draft *defaults,
                        const struct yaml_node *list)
{
    size_t count = list && list->type == YAML_LIST ? list->count : 0;

    if (list && list->type != YAML_LIST && !(list->type == YAML_SCALAR && list->text.len == 0))
        yaml_error(r->errors, list, "expected a list of groups: each begins with '- name: …'");
    for (size_t i = 0; i < count; i++)
        read_group(r, defaults, list->items[i]);
}

/* ---- documents ---- */

static const char *const document_keys[] = {"include", "date", "defaults", "groups", "replies", "sources"};

/* What is one document's own, and its keys. */
static bool check_document(struct policy_reader *r, const struct yaml_node *root)
{
    if (root->type != YAML_MAP) {
        yaml_error(r->errors, root, "expected a map with 'groups' and, if wanted, 'defaults'");
        return false;
    }
    for (size_t i = 0; i < root->count; i++) {
        struct bytes key = root->keys[i]->text;
        size_t k = 0;

        while (k < COUNT_OF(document_keys) && !bytes_eq(key, bytes_of(document_keys[k])))
            k++;
        if (k == COUNT_OF(document_keys))
            complain_unknown(r->errors, root->keys[i], "", document_keys, COUNT_OF(document_keys));
        else if (r->file && (k == 0 || k == 2 || k == 5))
            yaml_error(r->errors, root->keys[i],
                       "'%s' belongs to the document that includes this file: it cannot stand here",
                       document_keys[k]);
    }
    return true;
}

static const char *read_date(struct policy_reader *r, const struct yaml_node *root)
{
    const struct yaml_node *n = yaml_find(root, "date");

    if (!n)
        return "";
    if (n->type == YAML_SCALAR && policy_is_date(n->text))
        return arena_dup(&r->policy->arena, n->text);
    yaml_error(r->errors, n, "expected a date like 2026-11-22");
    return "";
}

static void read_defaults(struct policy_reader *r, struct group_draft *defaults, const struct yaml_node *map)
{
    r->draft = defaults;
    set_presets(r);
    if (map && map->type == YAML_MAP) {
        r->in_defaults = true;
        memset(r->at, 0, sizeof(r->at));
        read_keys(r, map, "");
        policy_check_group(r, map);
        r->in_defaults = false;
    } else if (map && !(map->type == YAML_SCALAR && map->text.len == 0)) {
        yaml_error(r->errors, map, "'defaults' holds keys of its own: expected a map");
    }
}

/* Groups and rules of one layer; the rules of an earlier one stand behind. */
static void read_layer(struct policy_reader *r, const struct group_draft *defaults,
                       const struct yaml_node *root)
{
    const struct yaml_node *replies = yaml_find(root, "replies");
    struct policy *p = r->policy;
    struct reply_rule *rules = NULL;
    size_t count = 0;

    read_groups(r, defaults, yaml_find(root, "groups"));
    if (!replies || yaml_is_nothing(replies))
        return;
    (void)policy_replies_read(r, replies, false, &rules, &count);
    policy_replies_join(&p->arena, &rules, &count, p->replies, p->reply_count);
    p->replies = rules;
    p->reply_count = count;
}

/* One whole: the document and what it includes. */
struct whole {
    const char *name; /* of the document, in complaints */
    struct policy_part parts[POLICY_INCLUDES_MAX + 1];
    size_t part_count;
    struct yaml_doc *docs[POLICY_INCLUDES_MAX + 1]; /* owned: docs[0] is the document, then by `include` */
    size_t doc_count;
};

static const struct policy_part *find_part(const struct whole *w, struct bytes name)
{
    for (size_t i = 1; i < w->part_count; i++)
        if (bytes_eq(w->parts[i].name, name))
            return &w->parts[i];
    return NULL;
}

/* Complaints from now on are about this layer. */
static void enter_layer(struct policy_reader *r, const struct whole *w, size_t layer)
{
    bool included = layer < r->policy->include_count;

    r->layer = (uint32_t)layer;
    r->file = included ? r->policy->includes[layer].file : NULL;
    r->errors->part = included ? (uint32_t)layer + 1 : 0;
    r->errors->name = included ? r->file : w->name;
}

static void parse_part(struct policy_reader *r, struct whole *w, const struct policy_part *part)
{
    struct policy *p = r->policy;
    struct policy_include *in = &p->includes[p->include_count++];

    in->name = arena_dup(&p->arena, part->name);
    in->file = arena_dup(&p->arena, part->file.len ? part->file : part->name);
    in->date = "";
    enter_layer(r, w, p->include_count - 1);
    if (yaml_read(part->text, &w->docs[w->doc_count], r->errors) == OK &&
        check_document(r, yaml_root(w->docs[w->doc_count])))
        in->date = read_date(r, yaml_root(w->docs[w->doc_count]));
    w->doc_count++;
}

static void parse_parts(struct policy_reader *r, struct whole *w, const struct yaml_node *root)
{
    const struct yaml_node *list[POLICY_INCLUDES_MAX] = {0};
    size_t listed = 0;

    if (!policy_includes_read(root, r->errors, list, &listed))
        return;
    for (size_t i = 1; i < w->part_count; i++) {
        bool wanted = false;

        for (size_t k = 0; k < listed; k++)
            wanted |= bytes_eq(w->parts[i].name, list[k]->text);
        if (!wanted || find_part(w, w->parts[i].name) != &w->parts[i])
            yaml_error(r->errors, &(struct yaml_node){.line = w->parts[i].line, .column = 1},
                       "'%.*s' follows here %s", SHOWN(w->parts[i].name),
                       wanted ? "once more"
                              : "and 'include' does not name it: remove it, to the end of the file");
    }
    for (size_t i = 0; i < listed; i++) {
        const struct policy_part *part = find_part(w, list[i]->text);

        if (!part) {
            enter_layer(r, w, SIZE_MAX);
            yaml_error(r->errors, list[i], "the file '%.*s' does not follow the document",
                       SHOWN(list[i]->text));
        } else {
            parse_part(r, w, part);
        }
    }
    enter_layer(r, w, SIZE_MAX);
}

static void read_whole(struct policy_reader *r, struct whole *w)
{
    const struct yaml_node *root = yaml_root(w->docs[0]), *sources = yaml_find(root, "sources");
    struct group_draft defaults = {0};
    struct policy *p = r->policy;
    size_t groups = 1; /* one may be made */

    if (!check_document(r, root))
        return;
    (void)read_date(r, root);
    parse_parts(r, w, root);
    if (sources && yaml_is_nothing(sources))
        sources = NULL;
    if (sources) /* groups name them */
        policy_sources_read(r, sources);
    read_defaults(r, &defaults, yaml_find(root, "defaults"));
    for (size_t i = 0; i < w->doc_count; i++)
        groups += w->docs[i] ? count_groups(yaml_root(w->docs[i])) : 0;
    p->groups = mem_zalloc(groups * sizeof(struct group)); /* all at once, because the maps point into it */
    for (size_t i = 1; i < w->doc_count; i++) {
        if (!w->docs[i] || yaml_root(w->docs[i])->type != YAML_MAP)
            continue; /* complained about */
        enter_layer(r, w, i - 1);
        p->includes[i - 1].groups = (uint32_t)count_groups(yaml_root(w->docs[i]));
        read_layer(r, &defaults, yaml_root(w->docs[i]));
    }
    enter_layer(r, w, p->include_count);
    read_layer(r, &defaults, root);
    if (!p->by_default)
        add_default_group(r, &defaults);
    if (sources)
        policy_sources_check(r, sources);
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
    struct whole w;

    if (!errors->name)
        errors->name = name;
    w = (struct whole){.name = errors->name, .doc_count = 1};
    w.part_count = policy_split(text, w.parts);
    if (w.part_count > POLICY_INCLUDES_MAX + 1) {
        yaml_error(errors, NULL, "more than %d files follow the document", POLICY_INCLUDES_MAX);
        return ERR_INVALID;
    }
    if (yaml_read(w.parts[0].text, &w.docs[0], errors) != OK)
        return ERR_INVALID;
    p = MEM_NEW(struct policy);
    atomic_init(&p->refs, 1);
    p->version = version;
    buf_put(&p->text, text);
    struct policy_reader r = {.policy = p, .errors = errors, .layer = POLICY_INCLUDES_MAX};
    read_whole(&r, &w);
    errors->name = w.name;
    errors->part = 0;
    forget_nodes(&p->domains);
    forget_nodes(&p->mx);
    for (size_t i = 0; i < w.doc_count; i++)
        if (w.docs[i])
            yaml_doc_destroy(w.docs[i]);
    yaml_errors_sort(errors);
    if (errors->errors > errors_before) {
        policy_unref(p);
        return ERR_INVALID;
    }
    *out = p;
    return OK;
}
