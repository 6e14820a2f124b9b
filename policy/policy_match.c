/* The compiled snapshot: lifetime, and which group a domain or MX host belongs to. */
#include "base/mem.h"
#include "policy/domain.h"
#include "policy/policy_priv.h"

struct policy *policy_ref(struct policy *p)
{
    atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
    return p;
}

void policy_unref(struct policy *p)
{
    if (!p || atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < p->count; i++)
        policy_replies_fini(p->groups[i].replies, p->groups[i].reply_count);
    policy_replies_fini(p->replies, p->reply_count);
    map_fini(&p->names);
    map_fini(&p->domains);
    map_fini(&p->mx);
    arena_fini(&p->arena);
    buf_fini(&p->text);
    mem_free(p->groups);
    mem_free(p);
}

uint64_t policy_version(const struct policy *p)
{
    return p->version;
}

struct bytes policy_text(const struct policy *p)
{
    return buf_bytes(&p->text);
}

size_t policy_group_count(const struct policy *p)
{
    return p->count;
}

const struct group *policy_group(const struct policy *p, size_t index)
{
    return index < p->count ? &p->groups[index] : NULL;
}

const struct group *policy_group_by_name(const struct policy *p, const char *name)
{
    return map_find(&p->names, bytes_of(name));
}

size_t policy_include_count(const struct policy *p)
{
    return p->include_count;
}

const struct policy_include *policy_include(const struct policy *p, size_t index)
{
    return index < p->include_count ? &p->includes[index] : NULL;
}

/* The whole name, then its suffixes from the longest: one look-up a label. */
static const struct pattern *find_pattern(const struct map *map, struct bytes name)
{
    const struct pattern *p;

    if (map->count == 0 || name.len == 0)
        return NULL;
    p = map_find(map, name);
    for (size_t at = 1; !p && at < name.len; at++)
        if (name.at[at] == '.')
            p = map_find(map, bytes_skip(name, at));
    return p;
}

static struct policy_match match_of(const struct policy *p, const struct pattern *found)
{
    return (struct policy_match){&p->groups[found->group], found->how, found->text};
}

static struct policy_match match_default(const struct policy *p)
{
    return (struct policy_match){p->by_default, MATCH_DEFAULT, ""};
}

struct policy_match policy_match_domain(const struct policy *p, struct bytes domain)
{
    const struct pattern *found = find_pattern(&p->domains, domain);

    if (found)
        return match_of(p, found);
    if (p->mx.count > 0)
        return (struct policy_match){NULL, MATCH_MX, ""};
    return match_default(p);
}

/* MX names come from the DNS in any case, perhaps with their last dot. */
static struct bytes fold_host(struct bytes host, char out[DOMAIN_MAX_BYTES + 1])
{
    if (host.len > 0 && host.at[host.len - 1] == '.')
        host.len--;
    if (host.len > DOMAIN_MAX_BYTES)
        return bytes_make(out, 0);
    for (size_t i = 0; i < host.len; i++)
        out[i] = ascii_lower(host.at[i]);
    return bytes_make(out, host.len);
}

struct policy_match policy_match_mx(const struct policy *p, const struct bytes *hosts, size_t count)
{
    for (size_t i = 0; i < count && p->mx.count > 0; i++) {
        char folded[DOMAIN_MAX_BYTES + 1];
        const struct pattern *found = find_pattern(&p->mx, fold_host(hosts[i], folded));

        if (found)
            return match_of(p, found);
    }
    return match_default(p);
}

const char *match_how_name(enum match_how how)
{
    switch (how) {
    case MATCH_EXACT: return "exact";
    case MATCH_SUFFIX: return "suffix";
    case MATCH_MX: return "mx";
    case MATCH_DEFAULT: return "default";
    }
    return "unknown";
}
