/*
 * The grammar of MTA-STS.  What it forbids makes a record or a policy invalid as a whole (RFC 8461 §3.1,
 * §3.2); what it does not know is ignored.  Where a document is a little loose in what decides nothing
 * (blanks at the end of a line, empty lines) it is read: to throw a policy away for that would leave the mail
 * less protected than its owner asked for.
 */
#include "policy/sts_policy.h"

#include "base/mem.h"
#include "policy/domain.h"

#define FIELD_NAME_MAX 32

static bool is_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static struct bytes skip_blanks(struct bytes s)
{
    while (s.len > 0 && is_blank(s.at[0]))
        s = bytes_skip(s, 1);
    return s;
}

/* (ALPHA / DIGIT) *31(ALPHA / DIGIT / "_" / "-" / "."): the same in both documents. */
static bool is_field_name(struct bytes name)
{
    if (name.len == 0 || name.len > FIELD_NAME_MAX || !is_alnum(name.at[0]))
        return false;
    for (size_t i = 1; i < name.len; i++)
        if (!is_alnum(name.at[i]) && name.at[i] != '_' && name.at[i] != '-' && name.at[i] != '.')
            return false;
    return true;
}

/* ---- the TXT record, §3.1 ---- */

bool sts_is_id(struct bytes value)
{
    if (value.len == 0 || value.len > STS_ID_MAX)
        return false;
    for (size_t i = 0; i < value.len; i++)
        if (!is_alnum(value.at[i]))
            return false;
    return true;
}

static bool is_extension_value(struct bytes value)
{
    for (size_t i = 0; i < value.len; i++)
        if (value.at[i] <= ' ' || value.at[i] >= 0x7f || value.at[i] == '=' || value.at[i] == ';')
            return false;
    return value.len > 0;
}

/* *WSP ";" *WSP at the start of *s; false: something else stands there. */
static bool take_delimiter(struct bytes *s)
{
    struct bytes rest = skip_blanks(*s);

    if (rest.len == 0 || rest.at[0] != ';')
        return false;
    *s = skip_blanks(bytes_skip(rest, 1));
    return true;
}

static size_t field_len(struct bytes s)
{
    size_t len = 0;

    while (len < s.len && s.at[len] != ';' && !is_blank(s.at[len]))
        len++;
    return len;
}

bool sts_txt_parse(struct bytes text, char id[STS_ID_MAX + 1], bool *is_ours)
{
    static const struct bytes version = {"v=STSv1", 7};
    struct bytes rest = bytes_skip(text, version.len), found = {NULL, 0};

    *is_ours = bytes_starts(text, version) && take_delimiter(&rest);
    if (!*is_ours)
        return false;
    while (rest.len > 0) {
        struct bytes field = bytes_first(rest, field_len(rest));
        size_t equals = bytes_find(field, '=');
        struct bytes name = bytes_first(field, equals), value = bytes_skip(field, equals + 1);

        if (equals == field.len || !is_field_name(name))
            return false;
        if (bytes_eq(name, BYTES("id")) ? !sts_is_id(value) : !is_extension_value(value))
            return false;
        if (bytes_eq(name, BYTES("id")) && found.len == 0)
            found = value; /* the first of several (§3.2) */
        rest = bytes_skip(rest, field.len);
        if (rest.len > 0 && !take_delimiter(&rest))
            return false;
    }
    if (found.len == 0)
        return false;
    memcpy(id, found.at, found.len);
    id[found.len] = '\0';
    return true;
}

/* ---- the policy file, §3.2 ---- */

enum field { FIELD_VERSION, FIELD_MODE, FIELD_MAX_AGE, FIELD_MX, FIELD_OTHER };

static const char *const mode_names[] = {
    [STS_MODE_NONE] = "none",
    [STS_MODE_TESTING] = "testing",
    [STS_MODE_ENFORCE] = "enforce",
};

const char *sts_policy_mode_name(enum sts_policy_mode m)
{
    return (size_t)m < COUNT_OF(mode_names) ? mode_names[m] : "unknown";
}

static enum field field_of(struct bytes name)
{
    static const char *const names[] = {"version", "mode", "max_age", "mx"};

    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (bytes_eq(name, bytes_of(names[i])))
            return (enum field)i;
    return FIELD_OTHER;
}

/* One line without its end; false: the last was taken.  A CR that ends no line stays in it and is refused
 * there. */
static bool take_line(struct bytes *rest, struct bytes *line)
{
    size_t end = bytes_find(*rest, '\n');

    if (rest->len == 0)
        return false;
    *line = bytes_first(*rest, end);
    if (end < rest->len && end > 0 && line->at[end - 1] == '\r')
        line->len--;
    *rest = bytes_skip(*rest, end + 1);
    return true;
}

static bool has_control(struct bytes line)
{
    for (size_t i = 0; i < line.len; i++)
        if (((unsigned char)line.at[i] < ' ' && line.at[i] != '\t') || line.at[i] == 0x7f)
            return true;
    return false;
}

static const char *take_mode(struct sts_policy *p, struct bytes value)
{
    for (size_t i = 0; i < COUNT_OF(mode_names); i++) {
        if (bytes_eq(value, bytes_of(mode_names[i]))) {
            p->mode = (enum sts_policy_mode)i;
            return NULL;
        }
    }
    return "mode is not none, testing or enforce";
}

static const char *take_max_age(struct sts_policy *p, struct bytes value)
{
    uint64_t age;

    if (value.len > 10 || !bytes_parse_u64(value, &age))
        return "max_age is not a number of seconds";
    if (age > STS_MAX_AGE_MAX)
        return "max_age is longer than a year (31557600 seconds)";
    p->max_age_s = (uint32_t)age;
    return NULL;
}

/* ["*."] Domain, in A-labels. */
static const char *take_mx(struct sts_policy *p, struct bytes value)
{
    char name[DOMAIN_MAX_BYTES + 3] = "*.";
    size_t star = bytes_starts(value, BYTES("*.")) ? 2 : 0;

    if (p->mx_count == STS_PATTERNS_MAX)
        return "more than 256 mx patterns";
    for (size_t i = 0; i < value.len; i++)
        if ((unsigned char)value.at[i] >= 0x80)
            return "an mx is not written in A-labels";
    if (domain_normalise(bytes_skip(value, star), name + star) != OK ||
        domain_is_literal(bytes_of(name + star)))
        return "an mx is not a host name, or *. and a domain";
    if (p->mx_count % 16 == 0)
        p->mx = mem_realloc(p->mx, (p->mx_count + 16) * sizeof(*p->mx));
    p->mx[p->mx_count++] = mem_strdup(name);
    return NULL;
}

/* One "key: value"; `seen` holds the keys that were there before. */
static const char *take_field(struct sts_policy *p, struct bytes line, unsigned *seen, struct buf *text)
{
    size_t colon = bytes_find(line, ':');
    struct bytes name = bytes_first(line, colon), value = bytes_trim(bytes_skip(line, colon + 1));
    enum field field = field_of(name);
    bool again = *seen & 1U << field && field != FIELD_MX;

    if (colon == line.len || !is_field_name(name))
        return "a line is not key: value";
    buf_putf(text, "%s%.*s: %.*s", text->len > 0 ? "\n" : "", (int)name.len, name.at, (int)value.len,
             value.at);
    *seen |= 1U << field;
    if (again)
        return NULL; /* the first counts */
    switch (field) {
    case FIELD_VERSION: return bytes_eq(value, BYTES("STSv1")) ? NULL : "version is not STSv1";
    case FIELD_MODE: return take_mode(p, value);
    case FIELD_MAX_AGE: return take_max_age(p, value);
    case FIELD_MX: return take_mx(p, value);
    case FIELD_OTHER: break;
    }
    return NULL;
}

static const char *read_policy(struct sts_policy *p, struct bytes rest, struct buf *text)
{
    const char *wrong = NULL;
    unsigned seen = 0;
    struct bytes line;

    while (!wrong && take_line(&rest, &line)) {
        if (has_control(line))
            wrong = "a line holds a control character";
        else if (bytes_trim(line).len > 0)
            wrong = take_field(p, line, &seen, text);
    }
    if (wrong)
        return wrong;
    if (!(seen & 1U << FIELD_VERSION))
        return "there is no version";
    if (!(seen & 1U << FIELD_MODE))
        return "there is no mode";
    if (!(seen & 1U << FIELD_MAX_AGE))
        return "there is no max_age";
    return p->mode != STS_MODE_NONE && p->mx_count == 0 ? "there is no mx" : NULL;
}

enum err sts_policy_parse(const char *domain, const char *id, struct bytes text, struct sts_policy **out,
                          const char **why)
{
    struct bytes key = bytes_first(bytes_of(id), STS_ID_MAX);
    struct sts_policy *p;
    const char *wrong;
    struct buf lines = {0};

    if (text.len > STS_POLICY_BYTES) {
        *why = "the policy is larger than 64 KiB";
        return ERR_INVALID;
    }
    p = MEM_NEW(struct sts_policy);
    atomic_init(&p->refs, 1);
    p->domain = mem_strdup(domain);
    memcpy(p->id, key.at, key.len);
    wrong = read_policy(p, text, &lines);
    p->text = buf_take(&lines);
    if (wrong) {
        sts_policy_unref(p);
        *why = wrong;
        return ERR_INVALID;
    }
    *out = p;
    return OK;
}

struct sts_policy *sts_policy_ref(struct sts_policy *p)
{
    atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
    return p;
}

void sts_policy_unref(struct sts_policy *p)
{
    if (!p || atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < p->mx_count; i++)
        mem_free(p->mx[i]);
    mem_free(p->mx);
    mem_free(p->domain);
    mem_free(p->text);
    mem_free(p);
}

/* ---- what it says of a host, §4.1 ---- */

static bool pattern_names(struct bytes pattern, struct bytes host)
{
    size_t dot = bytes_find(host, '.');

    if (!bytes_starts(pattern, BYTES("*.")))
        return bytes_ieq(pattern, host);
    return dot > 0 && dot < host.len && bytes_ieq(bytes_skip(pattern, 1), bytes_skip(host, dot));
}

bool sts_policy_names(const struct sts_policy *p, struct bytes host)
{
    for (size_t i = 0; i < p->mx_count; i++)
        if (pattern_names(bytes_of(p->mx[i]), host))
            return true;
    return false;
}

void sts_policy_put_key(const struct sts_policy *p, struct buf *out)
{
    buf_puts(out, sts_policy_mode_name(p->mode));
    for (size_t i = 0; i < p->mx_count; i++)
        buf_putf(out, " %s", p->mx[i]);
}
