/* The rules about replies, as they stand in the document and back: policy/reply_rule.h says what they do. */
#include <inttypes.h>

#include "policy/policy_priv.h"

#define RULES_MAX  1000 /* in one list */
#define DAY_MS     UINT64_C(86400000)
#define FOR_PRESET 600 /* seconds */

static const char *const rule_keys[] = {"code",     "enhanced",          "text",        "stage",
                                        "group",    "treat_as",          "retry_after", "suspend",
                                        "back_off", "limit_connections", "slow_to",     "for"};
static const char *const treat_words[] = {"permanent", "temporary"};
/* Not that of the handshake: what becomes of mail without TLS is for the levels to say. */
static const enum outcome_stage stages[] = {STAGE_CONNECT,  STAGE_GREETING, STAGE_EHLO,
                                            STAGE_STARTTLS, STAGE_AUTH,     STAGE_MAIL,
                                            STAGE_RCPT,     STAGE_DATA,     STAGE_DOT};
#define STAGES_OF_HOSTS                                                                                      \
    (UINT32_C(1) << STAGE_CONNECT | UINT32_C(1) << STAGE_STARTTLS) /* they judge no recipient */

struct rule_reader {
    struct policy_reader *r;
    struct reply_rule *rule;
    bool good, has_for, in_group;
};

static bool is_text(struct rule_reader *rr, const struct yaml_node *n, const char *what)
{
    if (n->type == YAML_SCALAR && n->text.len > 0 && strlen(n->text.at) == n->text.len)
        return true;
    yaml_error(rr->r->errors, n, "expected %s", what);
    return false;
}

/* "421", "45x", "4xx" */
static bool read_code(struct rule_reader *rr, const struct yaml_node *n)
{
    uint32_t from = 0, to = 0;
    bool open = false, good = n->type == YAML_SCALAR && n->text.len == 3;

    for (size_t i = 0; good && i < 3; i++) {
        char c = n->text.at[i];

        if (i > 0 && (c == 'x' || c == 'X')) {
            from *= 10, to = to * 10 + 9, open = true;
        } else {
            good = c >= (i == 0 ? '4' : '0') && c <= (i == 0 ? '5' : '9') && !open;
            from = from * 10 + (uint32_t)(c - '0'), to = to * 10 + (uint32_t)(c - '0');
        }
    }
    if (!good) {
        yaml_error(rr->r->errors, n, "expected a reply code like 421, 45x or 5xx");
        return false;
    }
    rr->rule->code_from = (uint16_t)from;
    rr->rule->code_to = (uint16_t)to;
    return true;
}

static bool is_enhanced(struct bytes text)
{
    size_t dots = 0;

    if (text.len < 1 || text.len > 9 || (text.at[0] != '4' && text.at[0] != '5'))
        return false;
    for (size_t i = 1; i < text.len; i++) {
        bool digit = text.at[i] >= '0' && text.at[i] <= '9';

        if (text.at[i] == '.' && i + 1 < text.len && text.at[i - 1] != '.')
            dots++;
        else if (!digit || i == 1)
            return false;
    }
    return dots >= 1 && dots <= 2;
}

static bool read_enhanced(struct rule_reader *rr, const struct yaml_node *n)
{
    if (n->type != YAML_SCALAR || !is_enhanced(n->text)) {
        yaml_error(rr->r->errors, n, "expected an enhanced code like 4.7.28, or 4.7 for all of its kind");
        return false;
    }
    rr->rule->enhanced = arena_dup(&rr->r->policy->arena, n->text);
    return true;
}

static bool read_pattern(struct rule_reader *rr, const struct yaml_node *n)
{
    char why[128] = "";
    size_t at;

    if (!is_text(rr, n, "a regular expression"))
        return false;
    for (size_t i = 0; i < n->text.len; i++) {
        if ((unsigned char)n->text.at[i] < ' ' || n->text.at[i] == 0x7f) {
            yaml_error(rr->r->errors, n, "expected a regular expression, found a control character in it");
            return false;
        }
    }
    rr->rule->pattern = reply_pattern_compile(n->text, why, &at);
    if (!rr->rule->pattern) {
        yaml_error(rr->r->errors, n, "not a regular expression: %s (at octet %zu)", why, at + 1);
        return false;
    }
    rr->rule->text = arena_dup(&rr->r->policy->arena, n->text);
    return true;
}

static bool read_stage(struct rule_reader *rr, const struct yaml_node *n)
{
    const char *words[COUNT_OF(stages)];
    int word;

    for (size_t i = 0; i < COUNT_OF(stages); i++)
        words[i] = outcome_stage_name(stages[i]);
    if (!yaml_get_word(n, words, COUNT_OF(words), &word, rr->r->errors))
        return false;
    rr->rule->stages |= UINT32_C(1) << stages[word];
    return true;
}

static bool read_stages(struct rule_reader *rr, const struct yaml_node *n)
{
    bool good = true;

    if (n->type != YAML_LIST)
        return read_stage(rr, n);
    if (n->count == 0) {
        yaml_error(rr->r->errors, n, "the list of stages is empty");
        return false;
    }
    for (size_t i = 0; i < n->count; i++)
        good = read_stage(rr, n->items[i]) && good;
    return good;
}

static bool read_group_name(struct rule_reader *rr, const struct yaml_node *n)
{
    if (rr->in_group) {
        yaml_error(rr->r->errors, n, "a rule inside of a group is for that group: 'group' cannot stand here");
        return false;
    }
    if (!is_text(rr, n, "the name of a group"))
        return false;
    if (!map_find(&rr->r->policy->names, n->text)) {
        yaml_error(rr->r->errors, n, "there is no group '%.*s'", SHOWN(n->text));
        return false;
    }
    rr->rule->group = arena_dup(&rr->r->policy->arena, n->text);
    return true;
}

static bool read_seconds(struct rule_reader *rr, const struct yaml_node *n, uint32_t *out)
{
    uint64_t ms;

    if (!yaml_get_duration_ms(n, 1000, 7 * DAY_MS, &ms, rr->r->errors))
        return false;
    if (ms % 1000) {
        yaml_error(rr->r->errors, n, "expected whole seconds");
        return false;
    }
    *out = (uint32_t)(ms / 1000);
    return true;
}

static bool read_rule_value(struct rule_reader *rr, const char *key, const struct yaml_node *n)
{
    struct yaml_errors *errors = rr->r->errors;
    struct reply_rule *rule = rr->rule;
    int64_t number;
    int word;

    if (strcmp(key, "code") == 0)
        return read_code(rr, n);
    if (strcmp(key, "enhanced") == 0)
        return read_enhanced(rr, n);
    if (strcmp(key, "text") == 0)
        return read_pattern(rr, n);
    if (strcmp(key, "stage") == 0)
        return read_stages(rr, n);
    if (strcmp(key, "group") == 0)
        return read_group_name(rr, n);
    if (strcmp(key, "treat_as") == 0) {
        if (!yaml_get_word(n, treat_words, COUNT_OF(treat_words), &word, errors))
            return false;
        rule->treat = word == 0 ? TREAT_AS_PERMANENT : TREAT_AS_TEMPORARY;
        return true;
    }
    if (strcmp(key, "retry_after") == 0)
        return read_seconds(rr, n, &rule->retry_after_s);
    if (strcmp(key, "suspend") == 0)
        return read_seconds(rr, n, &rule->suspend_s);
    if (strcmp(key, "back_off") == 0)
        return read_seconds(rr, n, &rule->back_off_s);
    if (strcmp(key, "limit_connections") == 0) {
        if (!yaml_get_int(n, 1, 100000, &number, errors))
            return false;
        rule->limit_connections = (uint32_t)number;
        return true;
    }
    if (strcmp(key, "slow_to") == 0)
        return yaml_get_double(n, 0.001, 1000000, &rule->slow_to, errors);
    rr->has_for = true; /* "for" */
    return read_seconds(rr, n, &rule->for_s);
}

static void check_rule(struct rule_reader *rr, const struct yaml_node *n)
{
    const struct reply_rule *rule = rr->rule;
    bool held = rule->limit_connections || rule->slow_to > 0;

    if (!rule->code_from && !rule->enhanced && !rule->pattern && !rule->stages)
        yaml_error(rr->r->errors, n,
                   "the rule would be for every refusal: give it 'code', 'enhanced', 'text' or 'stage'");
    if (rule->treat == TREAT_AS_SAID && !rule->retry_after_s && !reply_rule_shapes(rule))
        yaml_error(rr->r->errors, n,
                   "the rule does nothing: give it 'treat_as', 'retry_after', 'suspend', 'back_off', "
                   "'limit_connections' or 'slow_to'");
    if (rule->treat != TREAT_AS_SAID && rule->stages & STAGES_OF_HOSTS)
        yaml_error(rr->r->errors, n,
                   "'treat_as' is for what is said of a recipient: not at stage 'connect' or 'starttls'");
    if (rule->treat == TREAT_AS_PERMANENT && rule->retry_after_s)
        yaml_error(rr->r->errors, n, "'treat_as: permanent' contradicts 'retry_after'");
    if (rr->has_for && !held)
        yaml_error(rr->r->errors, n,
                   "'for' says how long 'limit_connections' or 'slow_to' hold: there is neither");
}

static void read_rule(struct rule_reader *rr, const struct yaml_node *n)
{
    rr->rule->line = n->line;
    rr->rule->file = rr->r->file;
    rr->rule->for_s = FOR_PRESET;
    rr->good = true;
    rr->has_for = false;
    if (n->type != YAML_MAP) {
        yaml_error(rr->r->errors, n, "expected a rule: a map like {code: 421, suspend: 10m}");
        return;
    }
    for (size_t i = 0; i < n->count; i++) {
        struct bytes key = n->keys[i]->text;
        size_t k = 0;

        while (k < COUNT_OF(rule_keys) && !bytes_eq(key, bytes_of(rule_keys[k])))
            k++;
        if (k == COUNT_OF(rule_keys)) {
            const char *meant = yaml_did_you_mean(key, rule_keys, COUNT_OF(rule_keys));

            yaml_error(rr->r->errors, n->keys[i], "unknown key '%.*s' of a rule%s%s%s", SHOWN(key),
                       meant ? " (did you mean '" : "", meant ? meant : "", meant ? "'?)" : "");
            rr->good = false;
        } else if (!read_rule_value(rr, rule_keys[k], n->items[i])) {
            rr->good = false;
        }
    }
    if (rr->good) /* else the complaint about one key would be followed by one about its absence */
        check_rule(rr, n);
}

bool policy_replies_read(struct policy_reader *r, const struct yaml_node *n, bool in_group,
                         struct reply_rule **rules, size_t *count)
{
    struct rule_reader rr = {.r = r, .in_group = in_group};

    if (n->type != YAML_LIST || n->count > RULES_MAX) {
        yaml_error(r->errors, n, "expected a list of rules, %d at most: each begins with '- code: …'",
                   RULES_MAX);
        return false;
    }
    *rules = arena_zalloc(&r->policy->arena, MAX_OF(n->count, (size_t)1) * sizeof(**rules));
    *count = n->count;
    for (size_t i = 0; i < n->count; i++) {
        rr.rule = &(*rules)[i];
        read_rule(&rr, n->items[i]);
    }
    return true;
}

void policy_replies_join(struct arena *arena, struct reply_rule **rules, size_t *count,
                         const struct reply_rule *more, size_t more_count)
{
    struct reply_rule *all;

    if (!more_count)
        return;
    all = arena_zalloc(arena, (*count + more_count) * sizeof(*all));
    if (*count)
        memcpy(all, *rules, *count * sizeof(*all));
    memcpy(all + *count, more, more_count * sizeof(*all));
    *rules = all;
    *count += more_count;
}

void policy_replies_fini(struct reply_rule *rules, size_t count)
{
    for (size_t i = 0; i < count; i++)
        reply_pattern_free(TAKE(rules[i].pattern));
}

const struct reply_rule *policy_reply_rule(const struct policy *p, const struct group *g,
                                           const struct outcome *o)
{
    const struct reply_rule *rule = reply_rule_find(g->replies, g->reply_count, g->name, o);

    return rule ? rule : reply_rule_find(p->replies, p->reply_count, g->name, o);
}

/* ---- backwards ---- */

static void put_seconds(struct buf *out, const char *key, uint32_t s)
{
    if (!s)
        return;
    buf_putf(out, ", %s: ", key);
    yaml_put_duration_ms(out, (uint64_t)s * 1000);
}

static void put_rule(struct buf *out, const struct reply_rule *rule)
{
    static const char *const treat[] = {"", ", treat_as: permanent", ", treat_as: temporary"};
    size_t start = out->len;

    if (rule->code_from)
        buf_putf(out, ", code: %u%s",
                 rule->code_from / (rule->code_to - rule->code_from == 99  ? 100U
                                    : rule->code_to - rule->code_from == 9 ? 10U
                                                                           : 1U),
                 rule->code_to - rule->code_from == 99  ? "xx"
                 : rule->code_to - rule->code_from == 9 ? "x"
                                                        : "");
    if (rule->enhanced)
        buf_putf(out, ", enhanced: \"%s\"", rule->enhanced);
    if (rule->text) {
        buf_puts(out, ", text: ");
        policy_put_scalar(out, bytes_of(rule->text));
    }
    if (rule->stages) {
        const char *lead = ", stage: [";

        for (size_t i = 0; i < COUNT_OF(stages); i++) {
            if (rule->stages & UINT32_C(1) << stages[i]) {
                buf_putf(out, "%s%s", lead, outcome_stage_name(stages[i]));
                lead = ", ";
            }
        }
        buf_putc(out, ']');
    }
    buf_puts(out, treat[rule->treat]);
    put_seconds(out, "retry_after", rule->retry_after_s);
    put_seconds(out, "suspend", rule->suspend_s);
    put_seconds(out, "back_off", rule->back_off_s);
    if (rule->limit_connections)
        buf_putf(out, ", limit_connections: %" PRIu32, rule->limit_connections);
    if (rule->slow_to > 0) {
        buf_puts(out, ", slow_to: ");
        policy_put_number(out, rule->slow_to);
    }
    if (rule->limit_connections || rule->slow_to > 0)
        put_seconds(out, "for", rule->for_s);
    if (out->len > start + 1) /* the first has no comma in front */
        out->at[start] = '{', out->at[start + 1] = ' ';
    buf_puts(out, " }");
}

void policy_replies_put(struct buf *out, const struct reply_rule *rules, size_t count)
{
    buf_putc(out, '[');
    for (size_t i = 0; i < count; i++) {
        buf_puts(out, i ? ", " : "");
        put_rule(out, &rules[i]);
    }
    buf_putc(out, ']');
}
