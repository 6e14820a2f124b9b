/* The pools of source addresses, as they stand in the document; policy/sources.h draws them. */
#include <inttypes.h>
#include <time.h>

#include "policy/domain.h"
#include "policy/policy_priv.h"

#define POOLS_MAX     1000
#define ADDRESSES_MAX 256 /* of one pool */
#define WEIGHT_MAX    1000
#define STEP_MAX      1000000000
#define PERIOD_MAX_MS (UINT64_C(31) * 86400 * 1000)

/* What is being read: a pool, an address of it, or a ladder. */
struct source_reader {
    struct policy_reader *r;
    struct source_pool *pool;
    struct source_address *address;
    struct warmup_ladder *ladder;
    bool warmup_given, warmup_off; /* of the address */
    const struct warmup_ladder *pool_ladder;
};

struct source_key {
    const char *name;
    bool (*read)(struct source_reader *sr, const struct yaml_node *n);
    const char *value, *preset, *help; /* for the reference */
};

static bool read_map(struct source_reader *sr, const struct yaml_node *map, const struct source_key *keys,
                     size_t count, const char *of_what)
{
    const char *names[16];
    bool good = true;

    for (size_t i = 0; i < count; i++)
        names[i] = keys[i].name;
    for (size_t i = 0; i < map->count; i++) {
        struct bytes key = map->keys[i]->text;
        size_t k = 0;

        while (k < count && !bytes_eq(key, bytes_of(names[k])))
            k++;
        if (k < count) {
            good = keys[k].read(sr, map->items[i]) && good;
            continue;
        }
        const char *meant = yaml_did_you_mean(key, names, count);
        yaml_error(sr->r->errors, map->keys[i], "unknown key '%.*s' of %s%s%s%s", SHOWN(key), of_what,
                   meant ? " (did you mean '" : "", meant ? meant : "", meant ? "'?)" : "");
        good = false;
    }
    return good;
}

/* ---- warm-up ---- */

static bool read_steps(struct source_reader *sr, const struct yaml_node *n)
{
    struct warmup_ladder *l = sr->ladder;
    bool good = true;

    if (n->type != YAML_LIST || n->count == 0 || n->count > WARMUP_STEPS_MAX) {
        yaml_error(sr->r->errors, n,
                   "expected a list of 1 to %d numbers of recipients, like [200, 500, 1000]",
                   WARMUP_STEPS_MAX);
        return false;
    }
    for (size_t i = 0; i < n->count; i++) {
        int64_t size;

        if (!yaml_get_int(n->items[i], 1, STEP_MAX, &size, sr->r->errors)) {
            good = false;
            continue;
        }
        l->steps[i] = (uint32_t)size;
        if (i > 0 && good && l->steps[i] < l->steps[i - 1])
            yaml_notice(sr->r->errors, n->items[i], "this step is smaller than the one before it");
    }
    l->count = (uint32_t)n->count;
    return good;
}

static bool read_per(struct source_reader *sr, const struct yaml_node *n)
{
    uint64_t ms;

    if (n->type == YAML_SCALAR && bytes_eq(n->text, BYTES("hour")))
        ms = UINT64_C(3600) * 1000;
    else if (n->type == YAML_SCALAR && bytes_eq(n->text, BYTES("day")))
        ms = UINT64_C(86400) * 1000;
    else if (n->type != YAML_SCALAR || !yaml_parse_duration_ms(n->text, &ms) || ms < 1000 || ms % 1000 ||
             ms > PERIOD_MAX_MS) {
        yaml_error(sr->r->errors, n,
                   "expected day, hour, or a duration of 1s to 31d in whole seconds, like 12h");
        return false;
    }
    sr->ladder->period_s = (uint32_t)(ms / 1000);
    return true;
}

/* "2026-12-01": its midnight, UTC. */
static bool parse_day(struct bytes text, int64_t *unix_s)
{
    struct tm tm = {0}, back;
    char copy[11] = "";

    if (text.len != 10)
        return false;
    memcpy(copy, text.at, 10);
    for (size_t i = 0; i < 10; i++)
        if (i == 4 || i == 7 ? copy[i] != '-' : copy[i] < '0' || copy[i] > '9')
            return false;
    tm.tm_year =
        (copy[0] - '0') * 1000 + (copy[1] - '0') * 100 + (copy[2] - '0') * 10 + (copy[3] - '0') - 1900;
    tm.tm_mon = (copy[5] - '0') * 10 + (copy[6] - '0') - 1;
    tm.tm_mday = (copy[8] - '0') * 10 + (copy[9] - '0');
    struct tm given = tm;
    time_t at = timegm(&tm);
    /* A day that the calendar does not have comes back as another one. */
    if (at <= 0 || !gmtime_r(&at, &back) || back.tm_mon != given.tm_mon || back.tm_mday != given.tm_mday)
        return false;
    *unix_s = (int64_t)at;
    return true;
}

static bool read_start(struct source_reader *sr, const struct yaml_node *n)
{
    if (n->type == YAML_SCALAR && parse_day(n->text, &sr->ladder->start_unix))
        return true;
    yaml_error(sr->r->errors, n, "expected a day, like 2026-12-01");
    return false;
}

static bool read_max_refused(struct source_reader *sr, const struct yaml_node *n)
{
    struct bytes text = n->text;
    uint64_t percent;

    if (n->type == YAML_SCALAR && text.len > 0 && text.at[text.len - 1] == '%')
        text = bytes_first(text, text.len - 1);
    if (n->type != YAML_SCALAR || !bytes_parse_u64(text, &percent) || percent > 100) {
        yaml_error(sr->r->errors, n, "expected a share from 0%% to 100%%");
        return false;
    }
    sr->ladder->max_refused_percent = (uint32_t)percent;
    return true;
}

static bool read_on_refused(struct source_reader *sr, const struct yaml_node *n)
{
    static const char *const words[] = {"hold", "back"};
    int word;

    if (!yaml_get_word(n, words, COUNT_OF(words), &word, sr->r->errors))
        return false;
    sr->ladder->back = word == 1;
    return true;
}

static bool read_min_attempts(struct source_reader *sr, const struct yaml_node *n)
{
    int64_t number;

    if (!yaml_get_int(n, 1, STEP_MAX, &number, sr->r->errors))
        return false;
    sr->ladder->min_attempts = (uint32_t)number;
    return true;
}

static const struct source_key ladder_keys[] = {
    {"steps", read_steps, "list of 1 to 64 numbers", NULL,
     "Recipients that the address may try in one period, towards each group that uses it: the first step, "
     "the second, "
     "and so on.  Behind the last the address is warm.  A recipient that is tried again counts again."},
    {"per", read_per, "`day`, `hour`, or a duration, 1s to 31d", "day",
     "How long a period is.  It begins with the first recipient behind the end of the one before."},
    {"start", read_start, "day, of UTC", NULL, "The address is not used before."},
    {"max_refused", read_max_refused, "share, 0% to 100%", "5%",
     "With more refusals than this the step does not rise.  A refusal is what a receiver says against us: at "
     "the "
     "greeting, by rate, reputation, policy or block list; unknown or full mailboxes and greylisting are "
     "none."},
    {"on_refused", read_on_refused, "`hold` or `back`", "hold",
     "`hold`: the step stays for another period.  `back`: it goes back by one at once, and the address rests "
     "until the "
     "period ends."},
    {"min_attempts", read_min_attempts, "number, 1 to 1000000000", "half of the step",
     "Recipients that must have been tried before a period is judged; with less the step stays as it is."},
};

static bool read_ladder(struct source_reader *sr, const struct yaml_node *n, const struct warmup_ladder **out)
{
    struct warmup_ladder *l = ARENA_NEW(&sr->r->policy->arena, struct warmup_ladder);

    if (n->type != YAML_MAP) {
        yaml_error(sr->r->errors, n, "expected a ladder: a map like {steps: [200, 500, 1000], per: day}");
        return false;
    }
    *l = (struct warmup_ladder){.period_s = 86400, .max_refused_percent = 5};
    sr->ladder = l;
    if (!read_map(sr, n, ladder_keys, COUNT_OF(ladder_keys), "a warm-up"))
        return false;
    if (!l->count) {
        yaml_error(sr->r->errors, n, "the warm-up has no 'steps'");
        return false;
    }
    *out = l;
    return true;
}

/* ---- addresses ---- */

static bool read_ip(struct source_reader *sr, const struct yaml_node *n)
{
    struct source_address *a = sr->address;
    char canonical[IP_TEXT_BYTES];
    struct bytes text;

    if (!policy_get_text(sr->r, n, "an address", &text))
        return false;
    if (!ip_parse(text, &a->ip)) {
        yaml_error(sr->r->errors, n, "'%.*s' is not an IP address", SHOWN(text));
        return false;
    }
    bool link_local = a->ip.family == 6 && a->ip.octets[0] == 0xfe && (a->ip.octets[1] & 0xc0) == 0x80;
    if (ip_is_unusable(&a->ip) || link_local) {
        yaml_error(sr->r->errors, n, "mail cannot leave from '%.*s'%s", SHOWN(text),
                   link_local ? ": it is of one link only" : "");
        return false;
    }
    a->text = arena_strdup(&sr->r->policy->arena, ip_format(&a->ip, canonical));
    for (size_t i = 0; i < sr->pool->count; i++) {
        if (ip_eq(&sr->pool->addresses[i].ip, &a->ip)) {
            yaml_error(sr->r->errors, n, "%s stands twice in this pool", a->text);
            return false;
        }
    }
    return true;
}

static bool read_ehlo_name(struct source_reader *sr, const struct yaml_node *n)
{
    char name[DOMAIN_MAX_BYTES + 1];
    struct bytes text;

    if (!policy_get_text(sr->r, n, "a host name", &text))
        return false;
    if (domain_normalise(text, name) != OK) {
        yaml_error(sr->r->errors, n, "'%.*s' is not a host name", SHOWN(text));
        return false;
    }
    sr->address->ehlo_name = arena_strdup(&sr->r->policy->arena, name);
    return true;
}

static bool read_weight(struct source_reader *sr, const struct yaml_node *n)
{
    int64_t weight;

    if (!yaml_get_int(n, 1, WEIGHT_MAX, &weight, sr->r->errors))
        return false;
    sr->address->weight = (uint32_t)weight;
    return true;
}

static bool read_address_warmup(struct source_reader *sr, const struct yaml_node *n)
{
    sr->warmup_given = true;
    if (n->type == YAML_SCALAR && bytes_eq(n->text, BYTES("off")))
        return true;
    if (n->type != YAML_MAP) {
        yaml_error(sr->r->errors, n, "expected off, or a ladder like {steps: [200, 500, 1000], per: day}");
        return false;
    }
    return read_ladder(sr, n, &sr->address->warmup);
}

static const struct source_key address_keys[] = {
    {"address", read_ip, "IPv4 or IPv6 address", NULL,
     "An address of this host.  One that it does not have is reported, left out, and tried again every "
     "minute."},
    {"ehlo_name", read_ehlo_name, "host name", "the group's `ehlo_name`, else the daemon's host name",
     "Name given in EHLO on connections from this address.  DNS should lead from it to the address and "
     "back."},
    {"weight", read_weight, "number, 1 to 1000", "1",
     "Its share of the messages, beside the other addresses of its family (IPv4 or IPv6) in the pool."},
    {"warmup", read_address_warmup, "map, or `off`", "the pool's",
     "A ladder of its own; `off`: the address is warm already."},
};

static void read_address(struct source_reader *sr, const struct yaml_node *n)
{
    struct source_pool *pool = sr->pool;
    struct source_address *a = &pool->addresses[pool->count];
    bool good;

    *a = (struct source_address){.weight = 1};
    sr->address = a;
    sr->warmup_given = false;
    if (n->type == YAML_LIST) {
        yaml_error(sr->r->errors, n, "expected an address, or a map like {address: 192.0.2.1, weight: 3}");
        return;
    }
    if (n->type == YAML_SCALAR)
        good = read_ip(sr, n);
    else
        good = read_map(sr, n, address_keys, COUNT_OF(address_keys), "a source address");
    if (good && !a->text)
        yaml_error(sr->r->errors, n, "the source address has no 'address'");
    else if (good)
        pool->count++;
    if (!sr->warmup_given)
        a->warmup = sr->pool_ladder;
}

/* ---- pools ---- */

static bool read_pool_name(struct source_reader *sr, const struct yaml_node *n)
{
    struct bytes text;

    if (!policy_get_text(sr->r, n, "the name of the pool", &text))
        return false;
    if (!policy_name_is_good(text) || bytes_eq(text, BYTES("none"))) {
        yaml_error(
            sr->r->errors, n,
            "a pool's name has letters, digits, '-', '_' and '.', 64 octets at most, and is not 'none'");
        return false;
    }
    const struct source_pool *other = policy_pool_find(sr->r->policy, text);
    if (other) {
        yaml_error(sr->r->errors, n, "there is a pool '%s' already, in line %" PRIu32, other->name,
                   other->line);
        return false;
    }
    sr->pool->name = arena_dup(&sr->r->policy->arena, text);
    return true;
}

static bool read_addresses(struct source_reader *sr, const struct yaml_node *n)
{
    size_t errors = sr->r->errors->errors;

    if (n->type != YAML_LIST || n->count == 0 || n->count > ADDRESSES_MAX) {
        yaml_error(sr->r->errors, n, "expected a list of 1 to %d source addresses", ADDRESSES_MAX);
        return false;
    }
    sr->pool->addresses = arena_zalloc(&sr->r->policy->arena, n->count * sizeof(*sr->pool->addresses));
    for (size_t i = 0; i < n->count; i++)
        read_address(sr, n->items[i]);
    return sr->r->errors->errors == errors;
}

static bool read_pool_warmup(struct source_reader *sr, const struct yaml_node *n)
{
    (void)sr; /* read before the addresses */
    (void)n;
    return true;
}

static const struct source_key pool_keys[] = {
    {"name", read_pool_name, "letters, digits, `-`, `_`, `.`", NULL,
     "What groups call it by: `source: {pool: NAME}`."},
    {"addresses", read_addresses, "list of addresses, or of maps as below", NULL,
     "Connections take turns between those of the receiver's family; a host of which the pool has no family "
     "is passed "
     "over.  While none can be used, mail waits: it never leaves from another address."},
    {"warmup", read_pool_warmup, "map", NULL, "The ladder of all its addresses that have none of their own."},
};

static void read_pool(struct source_reader *sr, const struct yaml_node *n)
{
    struct policy *p = sr->r->policy;
    struct source_pool *pool = &p->pools[p->pool_count];

    *pool = (struct source_pool){.line = n->line};
    sr->pool = pool;
    sr->pool_ladder = NULL;
    if (n->type != YAML_MAP) {
        yaml_error(sr->r->errors, n, "expected a pool: a map that begins with 'name: …'");
        return;
    }
    const struct yaml_node *ladder = yaml_find(n, "warmup");
    bool good = !ladder || read_ladder(sr, ladder, &sr->pool_ladder);
    good = read_map(sr, n, pool_keys, COUNT_OF(pool_keys), "a pool") && good;
    if (good && !pool->name)
        yaml_error(sr->r->errors, n, "the pool has no 'name'");
    else if (good && !pool->addresses)
        yaml_error(sr->r->errors, n, "pool '%s' has no 'addresses'", pool->name);
    if (pool->name)
        p->pool_count++;
}

void policy_sources_read(struct policy_reader *r, const struct yaml_node *n)
{
    struct source_reader sr = {.r = r};

    if (n->type != YAML_LIST || n->count > POOLS_MAX) {
        yaml_error(r->errors, n, "expected a list of pools, %d at most: each begins with '- name: …'",
                   POOLS_MAX);
        return;
    }
    r->policy->pools =
        arena_zalloc(&r->policy->arena, MAX_OF(n->count, (size_t)1) * sizeof(*r->policy->pools));
    for (size_t i = 0; i < n->count; i++)
        read_pool(&sr, n->items[i]);
}

bool policy_pool_read(struct policy_reader *r, const struct yaml_node *n)
{
    struct group *g = &r->draft->g;
    struct bytes text;

    if (!policy_get_text(r, n, "the name of a pool of source addresses, or none", &text))
        return false;
    g->pool = bytes_eq(text, BYTES("none")) ? NULL : policy_pool_find(r->policy, text);
    if (g->pool || bytes_eq(text, BYTES("none")))
        return true;
    yaml_error(r->errors, n, "there is no pool '%.*s' in 'sources'", SHOWN(text));
    return false;
}

void policy_sources_check(struct policy_reader *r, const struct yaml_node *n)
{
    const struct policy *p = r->policy;

    for (size_t i = 0; i < p->pool_count; i++) {
        bool used = false;

        for (size_t k = 0; k < p->count; k++)
            used |= p->groups[k].pool == &p->pools[i];
        if (!used)
            yaml_notice(r->errors, n, "no group sends from pool '%s'", p->pools[i].name);
    }
}

/* ---- asking ---- */

const struct source_pool *policy_pool_find(const struct policy *p, struct bytes name)
{
    for (size_t i = 0; i < p->pool_count; i++)
        if (bytes_eq(name, bytes_of(p->pools[i].name)))
            return &p->pools[i];
    return NULL;
}

size_t policy_pool_count(const struct policy *p)
{
    return p->pool_count;
}

const struct source_pool *policy_pool(const struct policy *p, size_t index)
{
    return index < p->pool_count ? &p->pools[index] : NULL;
}

bool source_pool_has(const struct source_pool *pool, int family)
{
    for (size_t i = 0; i < pool->count; i++)
        if (pool->addresses[i].ip.family == family)
            return true;
    return false;
}

/* ---- reference ---- */

static void put_keys(struct buf *out, const char *prefix, const struct source_key *keys, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct source_key *k = &keys[i];

        buf_putf(out, "\n## `%s%s`\n\n%s\n\n- Value: %s\n", prefix, k->name, k->help, k->value);
        if (k->preset)
            buf_putf(out, "- Preset: %s\n", k->preset);
    }
}

void policy_sources_reference(struct buf *out)
{
    buf_puts(out, "\n# Source addresses\n\n"
                  "`sources` is a list of pools of addresses that mail leaves from.  A group sends from one "
                  "of them:\n\n"
                  "```yaml\n"
                  "sources:\n"
                  "  - name: marketing\n"
                  "    addresses:\n"
                  "      - {address: 192.0.2.1, ehlo_name: m1.example.com, weight: 3}\n"
                  "      - {address: 192.0.2.2, ehlo_name: m2.example.com}\n"
                  "    warmup: {steps: [200, 500, 1000, 2000, 5000], per: day, on_refused: back}\n"
                  "groups:\n"
                  "  - name: default\n"
                  "    source: {pool: marketing}\n"
                  "```\n");
    put_keys(out, "sources.", pool_keys, COUNT_OF(pool_keys));
    put_keys(out, "sources.addresses.", address_keys, COUNT_OF(address_keys));
    put_keys(out, "sources.warmup.", ladder_keys, COUNT_OF(ladder_keys));
}
