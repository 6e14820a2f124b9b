/* Values of the document by type: text to a field of the draft, with a complaint that says what is right. */
#include <stdlib.h>

#include "base/ip.h"
#include "policy/domain.h"
#include "policy/policy_priv.h"

#define NAME_MAX_BYTES 64
#define TEXT_MAX_BYTES 1024
#define SMARTHOSTS_MAX 64
#define TLS_NAMES_MAX  256
#define PINS_MAX       64
#define PIN_DIGITS     64 /* SHA-256 */

static void *field_of(struct policy_reader *r, const struct policy_key *key)
{
    return (char *)r->draft + key->offset;
}

/* The text of a scalar that is not nothing; false after a complaint. */
bool policy_get_text(struct policy_reader *r, const struct yaml_node *n, const char *what, struct bytes *out)
{
    if (n->type != YAML_SCALAR || n->text.len == 0) {
        yaml_error(r->errors, n, "expected %s, found %s", what,
                   n->type == YAML_LIST  ? "a list"
                   : n->type == YAML_MAP ? "a map"
                                         : "nothing");
        return false;
    }
    if (n->text.len > TEXT_MAX_BYTES) {
        yaml_error(r->errors, n, "expected %s of %d characters at most, found %zu", what, TEXT_MAX_BYTES,
                   n->text.len);
        return false;
    }
    for (size_t i = 0; i < n->text.len; i++) {
        if ((unsigned char)n->text.at[i] < ' ' || n->text.at[i] == 0x7f) {
            yaml_error(r->errors, n, "expected %s, found a control character in it", what);
            return false;
        }
    }
    *out = n->text;
    return true;
}

static bool get_text(struct policy_reader *r, const struct yaml_node *n, const char *what, struct bytes *out)
{
    return policy_get_text(r, n, what, out);
}

static void set_string(struct policy_reader *r, const struct policy_key *key, struct bytes text)
{
    *(char **)field_of(r, key) = arena_dup(&r->policy->arena, text);
}

/* ---- words and numbers ---- */

static bool read_word(struct policy_reader *r, const struct policy_key *key, const struct yaml_node *n)
{
    size_t count = 0;
    int word;

    while (key->words[count])
        count++;
    if (!yaml_get_word(n, key->words, count, &word, r->errors))
        return false;
    *(int *)field_of(r, key) = word;
    return true;
}

/* `starttls` shares its words with the levels that only discovery can give. */
static bool read_level(struct policy_reader *r, const struct policy_key *key, const struct yaml_node *n)
{
    static const enum tls_level levels[] = {TLS_OFF, TLS_ON, TLS_REQUIRE, TLS_VERIFY};
    int *field = field_of(r, key);

    if (!read_word(r, key, n))
        return false;
    *field = (int)levels[*field];
    return true;
}

static bool read_count(struct policy_reader *r, const struct policy_key *key, const struct yaml_node *n)
{
    int64_t value;

    if (!yaml_get_int(n, (int64_t)key->min, (int64_t)key->max, &value, r->errors))
        return false;
    if (key->type == KEY_PORT)
        *(uint16_t *)field_of(r, key) = (uint16_t)value;
    else
        *(uint32_t *)field_of(r, key) = (uint32_t)value;
    return true;
}

static bool read_duration(struct policy_reader *r, const struct policy_key *key, const struct yaml_node *n)
{
    uint64_t unit = key->type == KEY_MS ? 1 : 1000, value;

    if (!yaml_get_duration_ms(n, (uint64_t)key->min * unit, (uint64_t)key->max * unit, &value, r->errors))
        return false;
    if (value % unit != 0) {
        yaml_error(r->errors, n, "expected whole seconds");
        return false;
    }
    *(uint32_t *)field_of(r, key) = (uint32_t)(value / unit);
    return true;
}

static bool read_percent(struct policy_reader *r, const struct policy_key *key, const struct yaml_node *n)
{
    struct bytes text = n->text;
    uint64_t value;

    if (n->type == YAML_SCALAR && text.len > 0 && text.at[text.len - 1] == '%')
        text = bytes_first(text, text.len - 1);
    if (n->type != YAML_SCALAR || !bytes_parse_u64(text, &value) || value > (uint64_t)key->max) {
        yaml_error(r->errors, n, "expected a share from 0%% to %.0f%%", key->max);
        return false;
    }
    *(uint32_t *)field_of(r, key) = (uint32_t)value;
    return true;
}

/* "5/s", "30/m", "100/h"; "0": no limit. */
static bool read_frequency(struct policy_reader *r, const struct policy_key *key, const struct yaml_node *n)
{
    struct frequency *f = field_of(r, key);
    struct yaml_node number = *n;
    uint32_t seconds = 1;

    if (n->type == YAML_SCALAR && n->text.len > 2 && n->text.at[n->text.len - 2] == '/') {
        char unit = n->text.at[n->text.len - 1];
        seconds = unit == 's' ? 1 : unit == 'm' ? 60 : unit == 'h' ? 3600 : 0;
        number.text = bytes_first(n->text, n->text.len - 2);
    } else if (n->type != YAML_SCALAR || !bytes_eq(n->text, bytes_of("0"))) {
        seconds = 0;
    }
    if (!seconds) {
        yaml_error(r->errors, n, "expected 5/s, 30/m, 100/h or 0, found '%.*s'", SHOWN(n->text));
        return false;
    }
    if (!yaml_get_double(&number, key->min, key->max, &f->count, r->errors))
        return false;
    f->seconds = seconds;
    return true;
}

static bool read_schedule(struct policy_reader *r, const struct policy_key *key, const struct yaml_node *n)
{
    struct retry_schedule *s = field_of(r, key);
    uint32_t steps[RETRY_STEPS_MAX];
    bool good = true;

    if (n->type != YAML_LIST || n->count == 0 || n->count > RETRY_STEPS_MAX) {
        yaml_error(r->errors, n, "expected a list of 1 to %d waits, like %s", RETRY_STEPS_MAX, key->preset);
        return false;
    }
    for (size_t i = 0; i < n->count; i++) {
        uint64_t ms = 0;

        if (!yaml_get_duration_ms(n->items[i], (uint64_t)key->min * 1000, (uint64_t)key->max * 1000, &ms,
                                  r->errors))
            good = false;
        steps[i] = (uint32_t)(ms / 1000);
    }
    if (!good)
        return false;
    memcpy(s->step_s, steps, n->count * sizeof(steps[0]));
    s->steps = (uint32_t)n->count;
    return true;
}

/* ---- names, paths, addresses ---- */

/* "21:00" */
static bool read_time(struct policy_reader *r, const struct policy_key *key, const struct yaml_node *n)
{
    struct bytes text;

    if (!get_text(r, n, "a time of day", &text))
        return false;
    if (quiet_parse_time(text, field_of(r, key)))
        return true;
    yaml_error(r->errors, n, "'%.*s' is not a time of day: expected 08:00, or 08:00:30, up to 24:00",
               SHOWN(text));
    return false;
}

static bool read_zone(struct policy_reader *r, const struct policy_key *key, const struct yaml_node *n)
{
    struct bytes text;
    int32_t offset;

    if (!get_text(r, n, "a time zone", &text))
        return false;
    if (!timezone_parse_offset(text, &offset) && !timezone_is_name(text)) {
        yaml_error(r->errors, n, "'%.*s' is not a time zone: expected a name like Asia/Tokyo, UTC, or +09:00",
                   SHOWN(text));
        return false;
    }
    set_string(r, key, text);
    return true;
}

static bool read_path(struct policy_reader *r, const struct policy_key *key, const struct yaml_node *n)
{
    struct bytes text;

    if (!get_text(r, n, "an absolute path", &text))
        return false;
    if (text.at[0] != '/') { /* the document lives in a database: there is no folder to be relative to */
        yaml_error(r->errors, n, "expected an absolute path, found '%.*s'", SHOWN(text));
        return false;
    }
    set_string(r, key, text);
    return true;
}

static bool read_domain(struct policy_reader *r, const struct policy_key *key, const struct yaml_node *n)
{
    char name[DOMAIN_MAX_BYTES + 1];
    struct bytes text;

    if (!get_text(r, n, "a host name", &text))
        return false;
    if (domain_normalise(text, name) != OK) {
        yaml_error(r->errors, n, "'%.*s' is not a host name", SHOWN(text));
        return false;
    }
    set_string(r, key, bytes_of(name));
    return true;
}

static bool read_address(struct policy_reader *r, const struct policy_key *key, const struct yaml_node *n)
{
    int family = key->type == KEY_IPV4 ? 4 : 6;
    char canonical[IP_TEXT_BYTES];
    struct bytes text;
    struct ip ip;

    if (!get_text(r, n, "an address", &text))
        return false;
    if (!ip_parse(text, &ip) || ip.family != family) {
        yaml_error(r->errors, n, "'%.*s' is not an IPv%d address", SHOWN(text), family);
        return false;
    }
    set_string(r, key, bytes_of(ip_format(&ip, canonical)));
    return true;
}

static bool is_name_octet(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.' || (unsigned char)c >= 0x80;
}

bool policy_name_is_good(struct bytes name)
{
    for (size_t i = 0; i < name.len; i++)
        if (!is_name_octet(name.at[i]))
            return false;
    return name.len > 0 && name.len <= NAME_MAX_BYTES;
}

static bool read_name(struct policy_reader *r, const struct policy_key *key, const struct yaml_node *n)
{
    const struct group *other;
    struct bytes text;

    if (!get_text(r, n, "the name of the group", &text))
        return false;
    if (!policy_name_is_good(text)) {
        yaml_error(r->errors, n, "a group's name has letters, digits, '-', '_' and '.', %d octets at most",
                   NAME_MAX_BYTES);
        return false;
    }
    other = map_find(&r->policy->names, text);
    if (other && other != r->over) {
        yaml_error(r->errors, n, "there is a group '%s' already, in line %u", other->name, other->line);
        return false;
    }
    set_string(r, key, text);
    return true;
}

/* ---- smart hosts ---- */

/* Splits "host", "host:port", "[v6]", "[v6]:port"; `port` is empty when there is none. */
static bool split_host(struct bytes text, struct bytes *host, struct bytes *port)
{
    struct bytes rest;

    if (text.at[0] == '[') {
        size_t close = bytes_find(text, ']');

        if (close == text.len)
            return false;
        *host = bytes_skip(bytes_first(text, close), 1);
        rest = bytes_skip(text, close + 1);
    } else {
        *host = bytes_first(text, bytes_find(text, ':'));
        rest = bytes_skip(text, host->len);
    }
    if (rest.len == 1 || (rest.len > 0 && rest.at[0] != ':'))
        return false;
    *port = bytes_skip(rest, 1);
    return true;
}

static bool parse_host(struct policy_reader *r, struct bytes text, struct smarthost *out)
{
    char name[DOMAIN_MAX_BYTES + 1];
    struct bytes host, port;
    uint64_t number = 0;
    struct ip ip;

    if (!split_host(text, &host, &port))
        return false;
    if (port.len > 0 && (!bytes_parse_u64(port, &number) || number < 1 || number > 65535))
        return false;
    out->port = (uint16_t)number; /* 0: by implicit_tls, once that is known */
    if (ip_parse(host, &ip))
        ip_format(&ip, name);
    else if (text.at[0] == '[' || domain_normalise(host, name) != OK)
        return false;
    out->host = arena_strdup(&r->policy->arena, name);
    return true;
}

static bool read_hosts(struct policy_reader *r, const struct yaml_node *n)
{
    struct yaml_node *const *items = n->type == YAML_LIST ? n->items : NULL;
    size_t count = items ? n->count : 1;
    struct smarthost *hosts;
    bool good = true;

    if (count == 0 || count > SMARTHOSTS_MAX) {
        yaml_error(r->errors, n, "expected 1 to %d smart hosts", SMARTHOSTS_MAX);
        return false;
    }
    hosts = arena_zalloc(&r->policy->arena, count * sizeof(*hosts));
    for (size_t i = 0; i < count; i++) {
        const struct yaml_node *item = items ? items[i] : n;
        struct bytes text;

        if (!get_text(r, item, "a smart host like relay.example.com:587", &text)) {
            good = false;
        } else if (!parse_host(r, text, &hosts[i])) {
            yaml_error(r->errors, item,
                       "'%.*s' is not a smart host: expected name:port, or [address]:port for IPv6",
                       SHOWN(text));
            good = false;
        }
    }
    r->draft->g.hosts = hosts;
    r->draft->g.host_count = count;
    return good;
}

/* ---- names and fingerprints of certificates ---- */

typedef bool (*parse_text_fn)(struct policy_reader *r, const struct yaml_node *n, char **out);

static bool parse_tls_name(struct policy_reader *r, const struct yaml_node *n, char **out)
{
    char name[DOMAIN_MAX_BYTES + 2] = ".";
    struct bytes text;
    size_t dot;

    if (!get_text(r, n, "the name of a certificate", &text))
        return false;
    dot = text.at[0] == '.' ? 1 : 0;
    if (domain_normalise(bytes_skip(text, dot), name + dot) != OK ||
        domain_is_literal(bytes_of(name + dot))) {
        if (text.len > 2 && text.at[0] == '*' && text.at[1] == '.')
            yaml_error(r->errors, n,
                       "'%.*s' is not a name (did you mean '%.*s', for exactly one more label?)", SHOWN(text),
                       SHOWN(bytes_skip(text, 1)));
        else
            yaml_error(r->errors, n,
                       "'%.*s' is not a name: expected mail.example.com, or .example.com for one more label",
                       SHOWN(text));
        return false;
    }
    *out = arena_strdup(&r->policy->arena, name);
    return true;
}

/* "AA:BB…" or "spki:aabb…", to lower-case digits without colons. */
static bool parse_pin(struct policy_reader *r, const struct yaml_node *n, char **out)
{
    static const char prefix[] = "spki:";
    char pin[sizeof(prefix) + PIN_DIGITS] = "";
    size_t digits = 0, len = 0;
    struct bytes text, rest;
    bool good = true;

    if (!get_text(r, n, "a fingerprint", &text))
        return false;
    rest = text;
    if (bytes_ieq(bytes_first(text, sizeof(prefix) - 1), bytes_of(prefix))) {
        rest = bytes_skip(text, sizeof(prefix) - 1);
        memcpy(pin, prefix, len = sizeof(prefix) - 1);
    }
    for (size_t i = 0; i < rest.len && good; i++) {
        char c = ascii_lower(rest.at[i]);

        if (c == ':' && digits % 2 == 0 && digits > 0 && i + 1 < rest.len && rest.at[i - 1] != ':')
            continue;
        good = ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')) && digits < PIN_DIGITS;
        if (good) {
            pin[len++] = c;
            digits++;
        }
    }
    if (!good || digits != PIN_DIGITS) {
        yaml_error(r->errors, n,
                   "'%.*s' is not a fingerprint: expected the %d hexadecimal digits of a SHA-256, of the "
                   "certificate or, after 'spki:', of its public key",
                   SHOWN(text), PIN_DIGITS);
        return false;
    }
    *out = arena_strdup(&r->policy->arena, pin);
    return true;
}

/* One text or a list of them, each once; NULL after a complaint. */
static char **read_texts(struct policy_reader *r, const struct yaml_node *n, size_t max, const char *what,
                         parse_text_fn parse, size_t *count)
{
    struct yaml_node *const *items = n->type == YAML_LIST ? n->items : NULL;
    size_t given = items ? n->count : 1, kept = 0;
    char **texts;
    bool good = true;

    if (given == 0 || given > max) {
        yaml_error(r->errors, n, "expected 1 to %zu %s", max, what);
        return NULL;
    }
    texts = arena_zalloc(&r->policy->arena, given * sizeof(*texts));
    for (size_t i = 0; i < given; i++) {
        const struct yaml_node *item = items ? items[i] : n;
        size_t same = 0;

        if (!parse(r, item, &texts[kept])) {
            good = false;
            continue;
        }
        while (strcmp(texts[same], texts[kept]) != 0)
            same++;
        if (same == kept)
            kept++;
        else
            yaml_notice(r->errors, item, "'%.*s' stands twice", SHOWN(item->text));
    }
    *count = kept;
    return good ? texts : NULL;
}

static bool read_tls_names(struct policy_reader *r, const struct policy_key *key, const struct yaml_node *n)
{
    struct group *g = &r->draft->g;
    size_t count;
    char **names;

    /* A word, or one name, which is told from a misspelt word by its dot. */
    if (n->type == YAML_SCALAR && bytes_find(n->text, '.') == n->text.len) {
        if (!read_word(r, key, n))
            return false;
        g->tls_names = NULL;
        g->tls_name_count = 0;
        return true;
    }
    names = read_texts(r, n, TLS_NAMES_MAX, "names", parse_tls_name, &count);
    if (!names)
        return false;
    g->tls_match = NAME_LISTED;
    g->tls_names = names;
    g->tls_name_count = count;
    return true;
}

static bool read_pins(struct policy_reader *r, const struct yaml_node *n)
{
    size_t count;
    char **pins = read_texts(r, n, PINS_MAX, "fingerprints", parse_pin, &count);

    if (!pins)
        return false;
    r->draft->g.tls_pins = pins;
    r->draft->g.tls_pin_count = count;
    return true;
}

/* ---- patterns ---- */

/* Into `key`: the normalised pattern; a suffix keeps its dot. */
static bool normalise_pattern(struct bytes text, char key[DOMAIN_MAX_BYTES + 2])
{
    size_t dot = text.at[0] == '.' ? 1 : 0;

    key[0] = '.';
    if (domain_normalise(bytes_skip(text, dot), key + dot) != OK)
        return false;
    return dot == 0 || !domain_is_literal(bytes_skip(text, 1));
}

static void complain_pattern(struct policy_reader *r, const struct yaml_node *n)
{
    if (n->text.len > 2 && n->text.at[0] == '*' && n->text.at[1] == '.')
        yaml_error(r->errors, n, "'%.*s' is not a pattern (did you mean '%.*s', for all sub-domains?)",
                   SHOWN(n->text), SHOWN(bytes_skip(n->text, 1)));
    else if (bytes_find(n->text, '@') < n->text.len)
        yaml_error(r->errors, n, "'%.*s' is an address: groups match domains", SHOWN(n->text));
    else
        yaml_error(r->errors, n,
                   "'%.*s' is not a domain: expected example.com, or .example.com for its "
                   "sub-domains",
                   SHOWN(n->text));
}

static bool add_pattern(struct policy_reader *r, const struct yaml_node *n, bool is_mx)
{
    struct map *map = is_mx ? &r->policy->mx : &r->policy->domains;
    char key[DOMAIN_MAX_BYTES + 2];
    const struct pattern *other;
    struct pattern *p;
    struct bytes text;

    r->patterns++;
    if (!get_text(r, n, "a domain", &text))
        return false;
    if (!normalise_pattern(text, key)) {
        complain_pattern(r, n);
        return false;
    }
    other = map_find(map, bytes_of(key));
    if (other && other->group == r->group) {
        yaml_notice(r->errors, n, "'%.*s' stands twice in this group: first in line %u", SHOWN(text),
                    other->at->line);
        return true;
    }
    if (other && other->layer == r->layer) { /* what an earlier layer said gives way */
        yaml_error(r->errors, n, "'%.*s' is in group '%s' already, in line %u: a %s has one group",
                   SHOWN(text), r->policy->groups[other->group].name, other->at->line,
                   is_mx ? "host" : "domain");
        return false;
    }
    p = ARENA_NEW(&r->policy->arena, struct pattern);
    p->text = arena_dup(&r->policy->arena, text);
    p->key = bytes_of(arena_strdup(&r->policy->arena, key));
    p->at = n;
    p->layer = r->layer;
    p->group = r->group;
    p->how = is_mx ? MATCH_MX : key[0] == '.' ? MATCH_SUFFIX : MATCH_EXACT;
    map_put(map, p->key, p);
    return true;
}

/* A list stands in place of the one that an included file gives to the group. */
static void drop_patterns(struct map *map, uint32_t group, uint32_t before_layer)
{
    struct pattern *p;

    for (size_t at = 0; (p = map_next(map, &at)) != NULL;)
        if (p->group == group && p->layer < before_layer)
            map_remove(map, p->key);
}

static bool read_patterns(struct policy_reader *r, const struct yaml_node *n, bool is_mx)
{
    bool good = true;

    if (r->over)
        drop_patterns(is_mx ? &r->policy->mx : &r->policy->domains, r->group, r->layer);
    if (n->type == YAML_SCALAR)
        return add_pattern(r, n, is_mx);
    if (n->type == YAML_MAP) {
        yaml_error(r->errors, n, "expected a list of domains, found a map");
        return false;
    }
    for (size_t i = 0; i < n->count; i++)
        good = add_pattern(r, n->items[i], is_mx) && good;
    return good;
}

bool policy_value_read(struct policy_reader *r, const struct policy_key *key, const struct yaml_node *n)
{
    struct bytes text;

    switch (key->type) {
    case KEY_WORD:
        return key->offset == offsetof(struct group_draft, g.starttls) ? read_level(r, key, n)
                                                                       : read_word(r, key, n);
    case KEY_BOOL: return yaml_get_bool(n, field_of(r, key), r->errors);
    case KEY_COUNT:
    case KEY_PORT: return read_count(r, key, n);
    case KEY_RATE: return yaml_get_double(n, key->min, key->max, field_of(r, key), r->errors);
    case KEY_FREQUENCY: return read_frequency(r, key, n);
    case KEY_MS:
    case KEY_SECONDS: return read_duration(r, key, n);
    case KEY_PERCENT: return read_percent(r, key, n);
    case KEY_TEXT:
        if (!get_text(r, n, "a text", &text))
            return false;
        set_string(r, key, text);
        return true;
    case KEY_PATH: return read_path(r, key, n);
    case KEY_DOMAIN: return read_domain(r, key, n);
    case KEY_IPV4:
    case KEY_IPV6: return read_address(r, key, n);
    case KEY_SCHEDULE: return read_schedule(r, key, n);
    case KEY_HOSTS: return read_hosts(r, n);
    case KEY_TIME: return read_time(r, key, n);
    case KEY_ZONE: return read_zone(r, key, n);
    case KEY_NAME: return read_name(r, key, n);
    case KEY_PATTERNS: return read_patterns(r, n, false);
    case KEY_MX_PATTERNS: return read_patterns(r, n, true);
    case KEY_TLS_NAMES: return read_tls_names(r, key, n);
    case KEY_PINS: return read_pins(r, n);
    case KEY_POOL: return policy_pool_read(r, n);
    case KEY_REPLIES: return policy_replies_read(r, n, true, &r->draft->g.replies, &r->draft->g.reply_count);
    }
    return false;
}
