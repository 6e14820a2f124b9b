/* Which rule a reply meets, and what is refused in a list of rules. */
#include "tests/unit/policy/parse_help.h"

#include <stdio.h>

#include "base/clock.h"

#define RULES                                                                                                \
    "replies:\n"                                                                                             \
    "- {code: 421, stage: greeting, suspend: 10m}\n"                                                         \
    "- {code: 45x, enhanced: 4.7, text: 'rate.*limit', slow_to: 0.5, for: 1h}\n"                             \
    "- {code: 5xx, group: a, treat_as: temporary}\n"                                                         \
    "- {enhanced: 4.2.2, treat_as: permanent}\n"                                                             \
    "- {stage: [data, dot], text: '^grün$', retry_after: 90s}\n"                                            \
    "groups:\n"                                                                                              \
    "- name: a\n"                                                                                            \
    "  match: [a.example]\n"                                                                                 \
    "  replies:\n"                                                                                           \
    "  - {code: 421, limit_connections: 2}\n"                                                                \
    "- name: default\n"

static void the_first_rule_that_matches_decides_and_those_of_the_group_go_first(void **state)
{
    static const struct {
        const char *group;
        enum outcome_stage stage;
        uint16_t code;
        const char *text;
        uint32_t line; /* 0: none */
    } rows[] = {
        {"default", STAGE_GREETING, 421, "busy", 2},
        {"a", STAGE_GREETING, 421, "busy", 11},
        {"a", STAGE_MAIL, 421, "busy", 11},
        {"default", STAGE_MAIL, 421, "busy", 0},
        {"default", STAGE_RCPT, 450, "4.7.28 Our RATE has a Limit", 3},
        {"default", STAGE_RCPT, 450, "4.70.1 Our rate has a limit", 0},
        {"default", STAGE_RCPT, 450, "4.1.1 Our rate has a limit", 0},
        {"default", STAGE_RCPT, 450, "4.7.1 limit your rate", 0},
        {"default", STAGE_RCPT, 460, "4.7.1 rate limit", 0},
        {"a", STAGE_RCPT, 550, "5.1.1 nobody", 4},
        {"a", STAGE_RCPT, 599, "", 4},
        {"default", STAGE_RCPT, 550, "5.1.1 nobody", 0},
        {"default", STAGE_RCPT, 452, "4.2.2 full", 5},
        {"default", STAGE_RCPT, 452, "4.2.21 full", 0},
        {"default", STAGE_DOT, 451, "GRÜN", 6},
        {"default", STAGE_DOT, 451, "grün-blau", 0},
        {"default", STAGE_RCPT, 451, "grün", 0},
        /* TLS has rules of its own */
        {"a", STAGE_STARTTLS, 421, "busy", 0},
        {"default", STAGE_STARTTLS, 452, "4.2.2 full", 0},
    };
    struct policy *p = parse_good(RULES);

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct outcome o;

        outcome_from_reply(&o, rows[i].stage, rows[i].code, bytes_of(rows[i].text));
        const struct reply_rule *rule = policy_reply_rule(p, policy_group_by_name(p, rows[i].group), &o);
        if ((rule ? rule->line : 0) != rows[i].line)
            fail_msg("row %zu: line %u, not %u", i, rule ? rule->line : 0, rows[i].line);
    }
    policy_unref(p);
}

static void only_refusals_of_the_peer_are_asked_about(void **state)
{
    struct policy *p = parse_good("replies: [{stage: dot, suspend: 1m}]\ngroups: [{name: default}]\n");
    const struct group *g = policy_group_by_name(p, "default");
    struct outcome o;

    outcome_from_reply(&o, STAGE_DOT, 451, bytes_of("later"));
    assert_non_null(policy_reply_rule(p, g, &o));
    outcome_from_reply(&o, STAGE_DOT, 250, bytes_of("ok"));
    assert_null(policy_reply_rule(p, g, &o));
    outcome_local(&o, OUTCOME_DEFERRED, STAGE_DOT, 451, "4.4.2", "connection lost");
    assert_null(policy_reply_rule(p, g, &o));
    policy_unref(p);
}

static void connect_and_starttls_are_asked_about_only_where_a_rule_names_them(void **state)
{
    struct policy *p = parse_good("replies:\n"
                                  "- {stage: connect, text: refused, suspend: 1m}\n"
                                  "- {stage: [starttls, ehlo], code: 4xx, back_off: 1m}\n"
                                  "- {code: 4xx, retry_after: 1m}\n"
                                  "groups: [{name: default}]\n");
    const struct group *g = policy_group_by_name(p, "default");
    struct outcome o;

    outcome_local(&o, OUTCOME_DEFERRED, STAGE_CONNECT, 451, "4.4.1", "connect to mx: connection refused");
    assert_int_equal(policy_reply_rule(p, g, &o)->line, 2);
    outcome_local(&o, OUTCOME_DEFERRED, STAGE_GREETING, 451, "4.4.1", "connection lost: refused");
    assert_int_equal(policy_reply_rule(p, g, &o)->line, 2);
    outcome_local(&o, OUTCOME_DEFERRED, STAGE_CONNECT, 451, "4.4.1", "connect to mx: timed out");
    assert_null(policy_reply_rule(p, g, &o));
    outcome_from_reply(&o, STAGE_STARTTLS, 454, bytes_of("not now"));
    assert_int_equal(policy_reply_rule(p, g, &o)->line, 3);
    outcome_local(&o, OUTCOME_DEFERRED, STAGE_STARTTLS, 451, "4.7.4", "TLS is required, but was not offered");
    assert_null(policy_reply_rule(p, g, &o));
    outcome_from_reply(&o, STAGE_TLS, 451, bytes_of("handshake"));
    assert_null(policy_reply_rule(p, g, &o));
    outcome_from_reply(&o, STAGE_GREETING, 421, bytes_of("busy"));
    assert_int_equal(policy_reply_rule(p, g, &o)->line, 4);
    policy_unref(p);
}

static void actions_have_their_values_and_presets(void **state)
{
    struct policy *p = parse_good(RULES);
    const struct group *a = policy_group_by_name(p, "a"), *other = policy_group_by_name(p, "default");
    struct outcome o;

    outcome_from_reply(&o, STAGE_MAIL, 421, bytes_of(""));
    const struct reply_rule *rule = policy_reply_rule(p, a, &o);
    assert_int_equal(rule->limit_connections, 2);
    assert_int_equal(rule->for_s, 600);
    assert_true(reply_rule_shapes(rule));
    outcome_from_reply(&o, STAGE_MAIL, 451, bytes_of("4.7.0 rate limit"));
    rule = policy_reply_rule(p, other, &o);
    assert_true(rule->slow_to > 0.49 && rule->slow_to < 0.51);
    assert_int_equal(rule->for_s, 3600);
    outcome_from_reply(&o, STAGE_DATA, 451, bytes_of("grün"));
    rule = policy_reply_rule(p, other, &o);
    assert_int_equal(rule->retry_after_s, 90);
    assert_false(reply_rule_shapes(rule));
    outcome_from_reply(&o, STAGE_RCPT, 550, bytes_of(""));
    assert_int_equal(policy_reply_rule(p, a, &o)->treat, TREAT_AS_TEMPORARY);
    policy_unref(p);
}

static void a_pattern_that_would_take_for_ever_does_not_match_and_ends(void **state)
{
    struct policy *p =
        parse_good("replies: [{text: '(a+)+(b|c)+$', suspend: 1m}]\ngroups: [{name: default}]\n");
    struct outcome o;
    char text[OUTCOME_TEXT_BYTES];

    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    text[sizeof(text) - 2] = 'b';
    text[sizeof(text) - 3] = '!';
    outcome_from_reply(&o, STAGE_RCPT, 450, bytes_of(text));
    uint64_t began = clock_now_us();
    assert_null(policy_reply_rule(p, policy_group_by_name(p, "default"), &o));
    assert_true(clock_now_us() - began < 500000);
    policy_unref(p);
}

static void a_wrong_rule_is_refused_with_place_and_reason(void **state)
{
    static const struct {
        const char *rules, *complaint;
    } rows[] = {
        {"5", "doc:1:10: expected a list of rules"},
        {"{code: 421}", "doc:1:10: expected a list of rules"},
        {"[421]", "doc:1:11: expected a rule"},
        {"[{code: 42, suspend: 1m}]", "doc:1:18: expected a reply code"},
        {"[{code: 250, suspend: 1m}]", "doc:1:18: expected a reply code"},
        {"[{code: 4x1, suspend: 1m}]", "doc:1:18: expected a reply code"},
        {"[{code: xxx, suspend: 1m}]", "expected a reply code"},
        {"[{code: 4211, suspend: 1m}]", "expected a reply code"},
        {"[{enhanced: 4, suspend: 1m}]", "doc:1:22: expected an enhanced code"},
        {"[{enhanced: 4.7., suspend: 1m}]", "expected an enhanced code"},
        {"[{enhanced: 44.7, suspend: 1m}]", "expected an enhanced code"},
        {"[{enhanced: 2.0.0, suspend: 1m}]", "expected an enhanced code"},
        {"[{enhanced: 4.7.1.2, suspend: 1m}]", "expected an enhanced code"},
        {"[{text: 'a(b', suspend: 1m}]", "doc:1:18: not a regular expression: missing closing parenthesis"},
        {"[{text: '', suspend: 1m}]", "doc:1:18: expected a regular expression"},
        {"[{text: \"a\\nb\", suspend: 1m}]", "found a control character"},
        {"[{stage: tls, suspend: 1m}]", "doc:1:19: expected connect, greeting, ehlo"},
        {"[{stage: [starttls, mail], treat_as: permanent}]", "not at stage 'connect' or 'starttls'"},
        {"[{stage: connect, treat_as: temporary}]", "not at stage 'connect' or 'starttls'"},
        {"[{stage: [], suspend: 1m}]", "doc:1:19: the list of stages is empty"},
        {"[{stage: [rcpt, mial], suspend: 1m}]", "doc:1:26: expected connect, greeting"},
        {"[{code: 421, group: nobody, suspend: 1m}]", "doc:1:30: there is no group 'nobody'"},
        {"[{code: 421, supend: 1m}]", "doc:1:23: unknown key 'supend' of a rule (did you mean 'suspend'?)"},
        {"[{code: 421}]", "doc:1:11: the rule does nothing"},
        {"[{code: 421, for: 1m}]", "'for' says how long"},
        {"[{suspend: 1m}]", "doc:1:11: the rule would be for every refusal"},
        {"[{group: default, suspend: 1m}]", "the rule would be for every refusal"},
        {"[{code: 421, suspend: 0s}]", "doc:1:32:"},
        {"[{code: 421, suspend: 30d}]", "doc:1:32:"},
        {"[{code: 421, suspend: 1500ms}]", "expected whole seconds"},
        {"[{code: 421, limit_connections: 0}]", "doc:1:42:"},
        {"[{code: 421, slow_to: 0}]", "doc:1:32:"},
        {"[{code: 421, treat_as: gone}]", "doc:1:33: expected permanent or temporary"},
        {"[{code: 421, treat_as: permanent, retry_after: 1m}]", "contradicts 'retry_after'"},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct yaml_errors errors;
        char text[400];

        snprintf(text, sizeof(text), "replies: %s\ngroups: [{name: default}]\n", rows[i].rules);
        struct policy *p = parse(text, &errors);
        if (p || !has_complaint(&errors, rows[i].complaint, false))
            fail_msg("row %zu: no error '%s' but '%s'", i, rows[i].complaint,
                     errors.count ? errors.items[0].text : "");
        yaml_errors_fini(&errors);
    }
    struct yaml_errors errors;
    assert_null(
        parse("groups: [{name: default, replies: [{code: 421, group: default, suspend: 1m}]}]", &errors));
    assert_true(has_complaint(&errors, "a rule inside of a group is for that group", false));
    yaml_errors_fini(&errors);
    assert_null(parse("defaults: {replies: [{code: 421, suspend: 1m}]}", &errors));
    assert_true(has_complaint(&errors, "'replies' belongs to a group", false));
    yaml_errors_fini(&errors);
}

static void a_group_with_rules_reads_back_as_it_was_written(void **state)
{
    static const char rules[] =
        "replies: [{ code: 4xx, enhanced: \"4.7\", text: \"a \\\"b\\\\.\", stage: [mail, rcpt], "
        "treat_as: temporary, retry_after: 30m, suspend: 10m, back_off: 5m, limit_connections: 2, "
        "slow_to: 0.25, for: 1h }, { code: 45x, suspend: 90s }, { code: 550, treat_as: permanent }]\n";
    struct buf text = {0}, dump = {0};

    buf_putf(&text, "groups:\n- name: default\n  %s", rules);
    struct policy *p = parse_good(buf_str(&text));
    policy_dump_group(policy_group_by_name(p, "default"), &dump);
    if (!strstr(buf_str(&dump), rules))
        fail_msg("%s", buf_str(&dump));
    policy_unref(p);
    buf_fini(&text);
    buf_fini(&dump);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_rule_that_matches_decides_and_those_of_the_group_go_first),
        cmocka_unit_test(only_refusals_of_the_peer_are_asked_about),
        cmocka_unit_test(connect_and_starttls_are_asked_about_only_where_a_rule_names_them),
        cmocka_unit_test(actions_have_their_values_and_presets),
        cmocka_unit_test(a_pattern_that_would_take_for_ever_does_not_match_and_ends),
        cmocka_unit_test(a_wrong_rule_is_refused_with_place_and_reason),
        cmocka_unit_test(a_group_with_rules_reads_back_as_it_was_written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
