/* Matching of replies.  Reading the rules is policy_replies.c. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <stdio.h>
#include <string.h>

#include "policy/reply_rule.h"

#define PATTERN_MAX_BYTES 1024
/* Texts have 512 octets at most: an honest pattern needs a few thousand steps. */
#define MATCH_STEPS_MAX 20000
#define MATCH_DEPTH_MAX 500
#define MATCH_HEAP_KIB  256

bool reply_rule_shapes(const struct reply_rule *rule)
{
    return rule->suspend_s || rule->back_off_s || rule->limit_connections || rule->slow_to > 0;
}

/* "4.7" names 4.7.0 and 4.7.28, not 4.70. */
static bool enhanced_matches(const char *wanted, const char *enhanced)
{
    size_t len = strlen(wanted);

    return strncmp(wanted, enhanced, len) == 0 && (enhanced[len] == '\0' || enhanced[len] == '.');
}

static bool text_matches(const struct pcre2_real_code_8 *pattern, const char *text)
{
    pcre2_match_context *limits = pcre2_match_context_create(NULL);
    pcre2_match_data *data = pcre2_match_data_create(1, NULL);
    bool found = false;

    if (limits && data) {
        pcre2_set_match_limit(limits, MATCH_STEPS_MAX);
        pcre2_set_depth_limit(limits, MATCH_DEPTH_MAX);
        pcre2_set_heap_limit(limits, MATCH_HEAP_KIB);
        found = pcre2_match(pattern, (PCRE2_SPTR)text, strlen(text), 0, 0, data, limits) >= 0;
    }
    pcre2_match_data_free(data);
    pcre2_match_context_free(limits);
    return found;
}

/* What is no reply (no connection, or none that lived to its greeting), and STARTTLS: only where a rule names
 * them. */
static bool is_asked_about(const struct reply_rule *rule, const struct outcome *o)
{
    bool unconnected = o->stage == STAGE_CONNECT || (o->stage == STAGE_GREETING && !o->remote);
    enum outcome_stage stage = unconnected ? STAGE_CONNECT : o->stage;

    if ((!o->remote && !unconnected) || stage < STAGE_CONNECT || stage == STAGE_TLS)
        return false;
    if (!rule->stages)
        return stage != STAGE_CONNECT && stage != STAGE_STARTTLS;
    return rule->stages & UINT32_C(1) << stage;
}

bool reply_rule_matches(const struct reply_rule *rule, const char *group, const struct outcome *o)
{
    if (!is_asked_about(rule, o))
        return false;
    if (o->kind != OUTCOME_DEFERRED && o->kind != OUTCOME_BOUNCED)
        return false;
    if (rule->group && strcmp(rule->group, group) != 0)
        return false;
    if (rule->code_from && (o->code < rule->code_from || o->code > rule->code_to))
        return false;
    if (rule->enhanced && !enhanced_matches(rule->enhanced, o->enhanced))
        return false;
    return !rule->pattern || text_matches(rule->pattern, o->text);
}

const struct reply_rule *reply_rule_find(const struct reply_rule *rules, size_t count, const char *group,
                                         const struct outcome *o)
{
    for (size_t i = 0; i < count; i++)
        if (reply_rule_matches(&rules[i], group, o))
            return &rules[i];
    return NULL;
}

struct pcre2_real_code_8 *reply_pattern_compile(struct bytes text, char why[128], size_t *at)
{
    PCRE2_SIZE offset = 0;
    int error = 0;

    *at = 0;
    if (text.len > PATTERN_MAX_BYTES) {
        snprintf(why, 128, "longer than %d octets", PATTERN_MAX_BYTES);
        return NULL;
    }
    pcre2_code *code =
        pcre2_compile((PCRE2_SPTR)text.at, text.len, PCRE2_UTF | PCRE2_CASELESS | PCRE2_NEVER_BACKSLASH_C,
                      &error, &offset, NULL);
    if (!code) {
        pcre2_get_error_message(error, (PCRE2_UCHAR *)why, 128);
        *at = offset;
    }
    return code;
}

void reply_pattern_free(struct pcre2_real_code_8 *pattern)
{
    pcre2_code_free(pattern);
}
